package capacity_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
)

const gigabyte = 1 << 30

func grant(l *capacity.Ledger, name string, amounts ...capacity.Resources) {
	claim := &capacity.Claim{UID: name}
	for i, amount := range amounts {
		claim.Shares = append(claim.Shares, capacity.Share{Cluster: fmt.Sprint("c", i), Amount: amount})
	}
	l.Restore(capacity.Owner{Name: name}, claim)
}

func shapesOf(u *capacity.Usual) string {
	if u == nil {
		return "none"
	}
	var texts []string
	for _, s := range u.Shapes {
		texts = append(texts, fmt.Sprintf("%d/%dGi/%v %.2f", s.Requests.CPU, s.Requests.Memory/gigabyte, s.Requests.Extended, s.Share))
	}
	return strings.Join(texts, ", ")
}

// The shapes of the usual workloads follow from what claims ask for, and change when counts double.
func TestUsual(t *testing.T) {
	l := capacity.NewLedger()
	small := capacity.Resources{CPU: 1000, Memory: 4 * gigabyte}
	nearlySmall := capacity.Resources{CPU: 900, Memory: 5 * gigabyte}
	training := capacity.Resources{CPU: 8000, Memory: 32 * gigabyte, Extended: map[string]int64{"gpu": 1}}
	expect := func(what, want string) {
		t.Helper()
		if got := shapesOf(l.Usual()); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	expect("no claim", "none")
	grant(l, "nothing", capacity.Resources{})
	expect("a claim of nothing", "none")
	grant(l, "a", small)
	expect("one claim", "1000/4Gi/map[] 1.00")
	grant(l, "b", training, training, training)
	expect("a share on each of three clusters counts as two, the power of two below", "8000/32Gi/map[gpu:1] 0.67, 1000/4Gi/map[] 0.33")
	grant(l, "c", nearlySmall)
	expect("requests of the same magnitude are one shape, of the larger of them", "8000/32Gi/map[gpu:1] 0.50, 1000/4Gi/map[] 0.50")
	before := l.Usual()
	grant(l, "b", training, training)
	if l.Usual() != before {
		t.Error("two are as many as three, but the usual workloads are others")
	}
	l.Release(capacity.Owner{Name: "b"})
	expect("released", "1000/4Gi/map[] 1.00")
	l.Restore(capacity.Owner{Name: "b", Held: 1}, &capacity.Claim{Shares: []capacity.Share{{Cluster: "c0", Amount: training}}})
	expect("held for what was left", "1000/4Gi/map[] 1.00")
	l.Replace([]capacity.Grant{{Owner: capacity.Owner{Name: "d"}, Claim: &capacity.Claim{Shares: []capacity.Share{{Cluster: "c0", Amount: training}}}}}, nil)
	expect("replaced", "8000/32Gi/map[gpu:1] 1.00")
}

// Usual is a function of the claims, whatever was granted and released before, and has at most MaxShapes shapes.
func TestUsualForgets(t *testing.T) {
	amounts := rapid.Custom(func(t *rapid.T) capacity.Resources {
		r := capacity.Resources{CPU: 1 << rapid.IntRange(0, 12).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 3).Draw(t, "memory")}
		if rapid.Bool().Draw(t, "gpus") {
			r.Extended = map[string]int64{"gpu": rapid.Int64Range(0, 8).Draw(t, "gpu")}
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		used := capacity.NewLedger()
		claims := map[string][]capacity.Resources{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			name := fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "workload"))
			if rapid.IntRange(0, 4).Draw(t, "step") == 0 {
				used.Release(capacity.Owner{Name: name})
				delete(claims, name)
			} else {
				claims[name] = rapid.SliceOfN(amounts, 1, 3).Draw(t, "amounts")
				grant(used, name, claims[name]...)
			}
			if rapid.Bool().Draw(t, "look") {
				used.Usual()
			}
		}
		fresh := capacity.NewLedger()
		for name, amounts := range claims {
			grant(fresh, name, amounts...)
		}
		got, want := used.Usual(), fresh.Usual()
		if shapesOf(got) != shapesOf(want) {
			t.Fatalf("usual are %s, of a ledger made anew %s", shapesOf(got), shapesOf(want))
		}
		if got == nil {
			return
		}
		sum := 0.0
		for _, s := range got.Shapes {
			sum += s.Share
		}
		if len(got.Shapes) > capacity.MaxShapes || math.Abs(sum-1) > 1e-9 {
			t.Fatalf("%d shapes, with shares of %f in all", len(got.Shapes), sum)
		}
	})
}

// What usual workloads can use of a cluster is, for each shape, what it asks for times how often it fits there.
func TestUsable(t *testing.T) {
	amount := rapid.Int64Range(0, 1<<20)
	resources := rapid.Custom(func(t *rapid.T) capacity.Resources {
		r := capacity.Resources{CPU: amount.Draw(t, "cpu"), Memory: amount.Draw(t, "memory")}
		if rapid.Bool().Draw(t, "more") {
			r.Storage, r.Extended = amount.Draw(t, "storage"), map[string]int64{"gpu": rapid.Int64Range(0, 8).Draw(t, "gpu")}
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		var shapes []capacity.Shape
		for n := rapid.IntRange(1, capacity.MaxShapes).Draw(t, "shapes"); len(shapes) < n; {
			shape := resources.Draw(t, "shape")
			shape.CPU++
			shapes = append(shapes, capacity.Shape{Requests: shape, Share: 1 / float64(n)})
		}
		allocatable, free, requests := resources.Draw(t, "allocatable"), resources.Draw(t, "free"), resources.Draw(t, "requests")
		usable := func(free capacity.Resources) (sum float64) {
			for _, s := range shapes {
				times, size := int64(math.MaxInt64), 0.0
				for name, asks := range s.Requests.Each {
					if asks == 0 {
						continue
					}
					times = min(times, max(0, free.Get(name))/asks)
					if all := allocatable.Get(name); all > 0 {
						size += float64(asks) / float64(all)
					}
				}
				sum += s.Share * float64(times) * size
			}
			return sum
		}
		u := capacity.NewUsual(shapes)
		now, then := u.Usable(allocatable, free, requests)
		near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, a, b) }
		if want := usable(free); !near(now, want) {
			t.Fatalf("usable now %g, want %g", now, want)
		}
		if want := usable(free.Sub(requests)); !near(then, want) {
			t.Fatalf("usable then %g, want %g", then, want)
		}
		if shape, before, after := u.MostLost(free, requests); before < after || before > after && !slices.ContainsFunc(shapes, func(s capacity.Shape) bool { return s.Requests.Equal(shape) }) {
			t.Fatalf("most lost %v, fits %d then %d", shape, before, after)
		}
	})
}
