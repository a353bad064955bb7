package snapshot

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Score is a named score that a ClusterScore gives a cluster.
type Score struct {
	Name string
	// Value is from v1alpha1.MinScore to MaxScore.
	Value int64
	// From is the name of the ClusterScore.
	From string
	// Expired is when the score expired; the zero time if it has not.
	Expired time.Time
}

// Score returns the score of a name; given is false if no ClusterScore gives it.
func (c *Cluster) Score(name string) (score Score, given bool) {
	i, given := slices.BinarySearchFunc(c.Scores, name, func(s Score, name string) int { return strings.Compare(s.Name, name) })
	if !given {
		return Score{}, false
	}
	return c.Scores[i], true
}

// ScoreValue returns the value of a named score; 0 if it is not given or has expired.
func (c *Cluster) ScoreValue(name string) int64 {
	if len(c.Scores) == 0 {
		return 0
	}
	if score, _ := c.Score(name); score.Expired.IsZero() {
		return score.Value
	}
	return 0
}

// ScoresOf returns the scores that the ClusterScores of one cluster give it at a point in time, ordered by name, and when the
// next of these objects expires, the zero time if none will. If two objects give the same score, the one that has not expired
// counts, then the older one, then the first by name.
func ScoresOf(objects []*v1alpha1.ClusterScore, now time.Time) (scores []Score, next time.Time) {
	type given struct {
		Score
		of *v1alpha1.ClusterScore
	}
	var all []given
	for _, o := range objects {
		var expired time.Time
		if o.ValidUntil != nil {
			if until := o.ValidUntil.Time; !now.Before(until) {
				expired = until
			} else if next.IsZero() || until.Before(next) {
				next = until
			}
		}
		for _, s := range o.Scores {
			value := min(max(int64(s.Value), v1alpha1.MinScore), v1alpha1.MaxScore)
			all = append(all, given{Score{s.Name, value, o.Name, expired}, o})
		}
	}
	slices.SortStableFunc(all, func(a, b given) int {
		if a.Name == b.Name && a.Expired.IsZero() != b.Expired.IsZero() {
			if a.Expired.IsZero() {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.of.CreationTimestamp.Compare(b.of.CreationTimestamp.Time), cmp.Compare(a.From, b.From))
	})
	all = slices.CompactFunc(all, func(a, b given) bool { return a.Name == b.Name })
	for _, g := range all {
		scores = append(scores, g.Score)
	}
	return scores, next
}
