package lint

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/spelling"
)

// scores are the checks of ClusterScores.
var scores = []check[*v1alpha1.ClusterScore]{
	{Warning, "unknown_cluster", scoredCluster},
	{Warning, codeStaleScore, validUntil},
	{Warning, "duplicate_score", givenTwice},
}

// Score returns findings about parts of a ClusterScore that have no effect.
func (w *Workspace) Score(s *v1alpha1.ClusterScore) []Finding {
	return run(scores, "ClusterScore "+s.Name, s, w)
}

func scoredCluster(s *v1alpha1.ClusterScore, w *Workspace, r *report) {
	if w.Fleet.Known() && !slices.Contains(w.Fleet.Names, s.ClusterName) {
		r.at(field.NewPath("clusterName"), "no ClusterRegistration is called %q%s", s.ClusterName, spelling.DidYouMean(s.ClusterName, w.Fleet.Names))
	}
}

func validUntil(s *v1alpha1.ClusterScore, w *Workspace, r *report) {
	if s.ValidUntil != nil && !w.Now.Before(s.ValidUntil.Time) {
		r.at(field.NewPath("validUntil"), "the scores ran out at %s and weigh nothing", s.ValidUntil.UTC().Format(time.RFC3339))
	}
}

// givenTwice finds scores of an object that another object gives as well, and that therefore do not count.
func givenTwice(s *v1alpha1.ClusterScore, w *Workspace, r *report) {
	var of []*v1alpha1.ClusterScore
	for _, o := range w.Scores {
		if o.ClusterName == s.ClusterName {
			of = append(of, o)
		}
	}
	counting, _ := snapshot.ScoresOf(of, w.Now)
	for i, own := range s.Scores {
		for _, c := range counting {
			if c.Name == own.Name && c.From != s.Name {
				r.at(field.NewPath("scores").Index(i).Child("name"), "ClusterScore %s gives cluster %s the score %s, too, and that one counts", c.From, s.ClusterName, own.Name)
			}
		}
	}
}
