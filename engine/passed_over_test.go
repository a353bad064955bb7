package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
)

// TestPassedOverForAReason: if clusters are chosen together, the verdict of each feasible cluster that ranks before a chosen one
// states why it is not chosen itself, unless the strategy does not follow the ranking.
func TestPassedOverForAReason(t *testing.T) {
	judge := newPlainJudge(t)
	told := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := drawPuzzle(t, judge, rapid.Uint64().Draw(t, "seed"))
		p.current, p.group = nil, ""
		if s := p.compiled.Strategy; s == v1alpha1.StrategyWeighted || s == v1alpha1.StrategyRoundRobin || !p.compiled.Plans() {
			return
		}
		d, err := p.engine.Decide(context.Background(), p.request())
		if err != nil {
			t.Fatal(err)
		}
		verdicts := d.Ranked()
		last := -1
		for i, v := range verdicts {
			if v.Chosen {
				last = i
			}
		}
		for i, v := range verdicts {
			if v.Note != "" {
				told[strings.Join(strings.Fields(v.Note)[:2], " ")]++
			}
			switch waits := v.Rejection == nil && !v.Chosen; {
			case !waits && v.Note != "":
				t.Fatalf("%s has the note %q\n%s\ngot %s", v.Cluster, v.Note, p, describe(d))
			case waits && i < last && v.Note == "":
				t.Fatalf("nothing says why %s is passed over for %s\n%s\ngot %s", v.Cluster, verdicts[last].Cluster, p, describe(d))
			}
		}
		if d.Divides() != slices.ContainsFunc(verdicts, func(v engine.Verdict) bool { return v.Replicas > 0 }) && len(d.Clusters) > 0 {
			t.Fatalf("replicas of verdicts: %+v\n%s", verdicts, p)
		}
	})
	t.Logf("notes by how they begin: %v", told)
}
