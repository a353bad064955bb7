package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/panics"
)

// clusterObjects are the objects that a cluster is read from.
type clusterObjects struct {
	registration *v1alpha1.ClusterRegistration
	// usage is nil where there is none.
	usage *v1alpha1.ClusterUsage
	// scores are ordered by name.
	scores []*v1alpha1.ClusterScore
}

func (o clusterObjects) same(p clusterObjects) bool {
	return o.registration == p.registration && o.usage == p.usage && slices.Equal(o.scores, p.scores)
}

// clusterState is a cluster as the engine knows it: the objects it was read from, and why it is unusable.
type clusterState struct {
	clusterObjects
	invalid string
	// vain describes what in the registration has no effect.
	vain string
	// scores are its current scores, valid until a time; the zero time if none of them expires.
	scores []snapshot.Score
	until  time.Time
	since
}

// isCurrent reports whether the state still matches the cluster's objects.
func (c *clusterState) isCurrent(objects clusterObjects, now time.Time) bool {
	return c.same(objects) && (c.until.IsZero() || now.Before(c.until))
}

// since records, by our clock, when a cluster first had a condition or taint that workloads leave it for: whoever writes the
// registration can set any time, or none.
type since struct {
	notReady time.Time
	// tainted is keyed by taint of effect NoExecute, with its time cleared; it has only taints that come without a time.
	tainted map[corev1.Taint]time.Time
}

// put sets the times in a cluster, and returns them.
func (s since) put(c *snapshot.Cluster, now time.Time) (next since) {
	if c.NotReady() {
		next.notReady = s.notReady
		if next.notReady.IsZero() {
			next.notReady = now
		}
	}
	c.NotReadySince = next.notReady
	c.Taints = slices.Clone(c.Taints) // the registration belongs to the informer
	for i, t := range c.Taints {
		if t.Effect != corev1.TaintEffectNoExecute || !t.TimeAdded.IsZero() {
			continue
		}
		t.TimeAdded = nil
		added, known := s.tainted[t]
		if !known {
			added = now
		}
		if next.tainted == nil {
			next.tainted = map[corev1.Taint]time.Time{}
		}
		next.tainted[t] = added
		c.Taints[i].TimeAdded = &metav1.Time{Time: added}
	}
	return next
}

// updateClusters brings the fleet up to date. An informer never changes an object but replaces it, so a cluster whose objects
// are still the same pointers is not read again until one of its scores runs out.
func (w *workspace) updateClusters(registrations []*v1alpha1.ClusterRegistration, o *cacheView, result *result) {
	gone, scores, now := maps.Clone(w.clusters), w.scoresByCluster(o), w.now() // published maps never change
	changed := false
	w.clusters = make(map[string]clusterState, len(registrations))
	for _, r := range registrations {
		before := gone[r.Name]
		c := before
		if objects := (clusterObjects{r, o.usages[r.Name], scores[r.Name]}); !c.isCurrent(objects, now) {
			changed = true
			err := panics.Recovered(func() { c = w.updateCluster(objects, before.since, o.unreadable) })
			if err != nil {
				result.fail(fmt.Errorf("ClusterRegistration %s: %w", r.Name, err))
				c = clusterState{since: before.since} // so that it is read again
			}
		}
		if c.invalid != "" && c.invalid != before.invalid {
			w.event(r, corev1.EventTypeWarning, v1alpha1.InvalidRegistrationReason, "no workloads are placed here: "+c.invalid)
		}
		if !c.until.IsZero() {
			result.within(c.until.Sub(now))
		}
		w.clusters[r.Name] = c
		delete(gone, r.Name)
	}
	for name := range gone {
		changed = true
		w.engine.RemoveCluster(w.name, name)
	}
	if changed {
		w.facts = w.factsHash(registrations)
	}
}

// updateCluster gives a cluster to the engine and returns its state.
func (w *workspace) updateCluster(from clusterObjects, before since, unreadable map[types.UID]decode.Problems) clusterState {
	c := snapshot.FromRegistration(from.registration, from.usage)
	if problems := unreadable[from.registration.UID]; len(problems) > 0 {
		c.Invalid = problems.Error()
	} else if from.usage != nil && len(unreadable[from.usage.UID]) > 0 {
		c.Invalid = "ClusterUsage: " + unreadable[from.usage.UID].Error()
	}
	after := clusterState{clusterObjects: from, invalid: c.Invalid, vain: messageOf(lint.Registration(from.registration)), since: before.put(c, w.now())}
	c.Scores, after.until = snapshot.ScoresOf(from.scores, w.now())
	after.scores = c.Scores
	if _, err := w.engine.SetCluster(w.name, c); err != nil {
		after.invalid = err.Error()
	}
	return after
}

// scoresByCluster returns the ClusterScores by the name of their cluster, each ordered by name. A score that cannot be read in full
// is left out and reported by an event.
func (w *workspace) scoresByCluster(o *cacheView) map[string][]*v1alpha1.ClusterScore {
	scores, faults := map[string][]*v1alpha1.ClusterScore{}, map[types.UID]string{}
	for _, s := range o.scores {
		problems := o.unreadable[s.UID]
		if len(problems) == 0 {
			scores[s.ClusterName] = append(scores[s.ClusterName], s)
			continue
		}
		if faults[s.UID] = problems.Error(); faults[s.UID] != w.scoreFaults[s.UID] {
			w.event(s, corev1.EventTypeWarning, "InvalidScore", "the scores have no effect: "+faults[s.UID])
		}
	}
	for _, of := range scores {
		slices.SortFunc(of, func(a, b *v1alpha1.ClusterScore) int { return strings.Compare(a.Name, b.Name) })
	}
	w.scoreFaults = faults
	return scores
}
