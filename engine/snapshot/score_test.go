package snapshot_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// TestScores: of the objects that give a cluster a score, the first valid one counts, by age and then by name, or else the first
// that has expired, in whatever order they are given. Nothing changes before the next of them expires.
func TestScores(t *testing.T) {
	at := func(second int64) metav1.Time { return metav1.Unix(second, 0) }
	rapid.Check(t, func(t *rapid.T) {
		second := rapid.Int64Range(0, 5)
		var objects []*v1alpha1.ClusterScore
		for i := range rapid.IntRange(0, 5).Draw(t, "objects") {
			o := &v1alpha1.ClusterScore{Scores: []v1alpha1.NamedScore{{Name: "a", Value: int32(i)}, {Name: rapid.SampledFrom([]string{"b", "c"}).Draw(t, "name"), Value: 500}}}
			o.Name, o.CreationTimestamp = fmt.Sprint("object-", i), at(second.Draw(t, "created"))
			if rapid.Bool().Draw(t, "ends") {
				until := at(second.Draw(t, "until"))
				o.ValidUntil = &until
			}
			objects = append(objects, o)
		}
		now := time.Unix(second.Draw(t, "now"), 0)
		expired := func(o *v1alpha1.ClusterScore) bool { return o.ValidUntil != nil && !now.Before(o.ValidUntil.Time) }
		scores, next := snapshot.ScoresOf(rapid.Permutation(objects).Draw(t, "order"), now)
		cluster := snapshot.Cluster{Scores: scores}

		var first *v1alpha1.ClusterScore
		for _, o := range objects {
			if first == nil || expired(first) && !expired(o) || expired(first) == expired(o) && o.CreationTimestamp.Before(&first.CreationTimestamp) {
				first = o
			}
			if o.ValidUntil != nil && now.Before(o.ValidUntil.Time) && (next.IsZero() || o.ValidUntil.Time.Before(next)) {
				t.Fatalf("%s runs out at %s, which is before %s", o.Name, o.ValidUntil, next)
			}
		}
		score, given := cluster.Score("a")
		switch {
		case first == nil && given:
			t.Fatalf("%v, and nobody gives it", score)
		case first != nil && (score.From != first.Name || score.Expired.IsZero() == expired(first)):
			t.Fatalf("%v at %s, want that of %s", score, now, first.Name)
		case first != nil && expired(first) && cluster.ScoreValue("a") != 0:
			t.Fatalf("%v has run out and weighs", score)
		}
		for _, name := range []string{"b", "c"} {
			if value := cluster.ScoreValue(name); value != 0 && value != v1alpha1.MaxScore {
				t.Fatalf("score %s is %d", name, value)
			}
		}
		if !next.IsZero() {
			if !next.After(now) {
				t.Fatalf("at %s the next runs out at %s", now, next)
			}
			before, same := snapshot.ScoresOf(objects, next.Add(-1))
			if fmt.Sprint(before) != fmt.Sprint(scores) || !same.Equal(next) {
				t.Fatalf("%v, just before %s %v", scores, next, before)
			}
		}
	})
}
