package report

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/offline/simulation"
)

func TestBar(t *testing.T) {
	for _, test := range []struct {
		allocatable, allocated, reserved int64
		want                             string
	}{
		{100, 0, 0, "····················"},
		{100, 50, 25, "██████████▒▒▒▒▒·····"},
		{100, 60, 40, "████████████▒▒▒▒▒▒▒▒"},
		{100, 1, 0, "█···················"},
		{100, 0, 99, "▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒·"},
		{100, 1, 1, "█▒··················"},
		{100, 100, 100, "██████████!!!!!!!!!!"},
		{100, 0, 200, "▒▒▒▒▒▒▒▒▒▒!!!!!!!!!!"},
		{100, 50, 51, "█████████▒▒▒▒▒▒▒▒▒▒!"},
		{0, 0, 0, "                    "},
		{0, 1, 0, "!!!!!!!!!!!!!!!!!!!!"},
		{-5, -1, -1, "                    "},
		{1, math.MaxInt64, math.MaxInt64, "█!!!!!!!!!!!!!!!!!!!"},
		{math.MaxInt64, math.MaxInt64, 0, "████████████████████"},
		{math.MaxInt64, math.MaxInt64, 1, "███████████████████!"},
		{math.MaxInt64, math.MaxInt64 - 1, 0, "███████████████████·"},
	} {
		if got := bar(test.allocatable, test.allocated, test.reserved); got != test.want {
			t.Errorf("%d, %d, %d: got %s, want %s", test.allocatable, test.allocated, test.reserved, got, test.want)
		}
	}
}

// TestBarIsTrue: a bar has its width, shows exactly the parts above 0, in order, and each is right within two cells.
func TestBarIsTrue(t *testing.T) {
	amounts := rapid.OneOf(rapid.Int64Range(0, 50), rapid.Int64Min(0))
	rapid.Check(t, func(r *rapid.T) {
		allocatable, allocated, reserved := amounts.Draw(r, "allocatable"), amounts.Draw(r, "allocated"), amounts.Draw(r, "reserved")
		got := bar(allocatable, allocated, reserved)
		if utf8.RuneCountInString(got) != barWidth {
			r.Fatalf("%q is not of %d cells", got, barWidth)
		}
		rest := got
		for _, cell := range []string{cellAllocated, cellReserved, cellOver, cellFree, " "} {
			rest = strings.TrimLeft(rest, cell)
		}
		if rest != "" {
			r.Fatalf("%q is out of order", got)
		}
		inUse := uint64(allocated) + uint64(reserved)
		whole := float64(max(inUse, uint64(allocatable)))
		over, free := uint64(0), uint64(0)
		if inUse > uint64(allocatable) {
			over = inUse - uint64(allocatable)
		} else {
			free = uint64(allocatable) - inUse
		}
		for cell, amount := range map[string]uint64{cellOver: over, cellFree: free} {
			cells := strings.Count(got, cell)
			if (cells > 0) != (amount > 0) {
				r.Errorf("%q has %d of %s for %d", got, cells, cell, amount)
			}
			if amount > 0 && math.Abs(float64(cells)-float64(amount)/whole*barWidth) > 2.5 {
				r.Errorf("%q has %d of %s for %d of %g", got, cells, cell, amount, whole)
			}
		}
	})
}

// TestTop: a workload waits as long as it exists, and extreme shares stay in their column.
func TestTop(t *testing.T) {
	text.DisableColors()
	defer text.EnableColors()
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	since := metav1.NewTime(now.Add(-10 * time.Minute))
	created := metav1.NewTime(now.Add(-3*time.Hour - 7*time.Minute))
	top := &simulation.Top{
		Clusters: []simulation.ClusterLoad{{
			Cluster: simulation.Cluster{
				Workspace: "default", Name: "a", Allocatable: map[string]int64{"cpu": 1}, Reserved: map[string]int64{"cpu": math.MaxInt64},
				Utilization: map[string]int64{"cpu": math.MaxInt64},
			},
			Ready: "True", Free: map[string]int64{"cpu": math.MinInt64},
		}},
		Queue: []simulation.Waiting{
			{Workspace: "default", Workload: simulation.Workload{Kind: "Job", Namespace: "default", Name: "x"}, Placement: "p", CreationTimestamp: &created, WaitsFor: "its turn", Position: 1,
				Estimate: &v1alpha1.QueueEstimate{At: metav1.NewTime(now.Add(90 * time.Minute))}},
			{Workspace: "default", Workload: simulation.Workload{Kind: "Job", Namespace: "default", Name: "y"}, Placement: "p", Since: &since, WaitsFor: "a: 2 more cpu free", Position: 2,
				WouldFit: &v1alpha1.SuggestedRegistration{Location: "eu", Labels: map[string]string{"tier": "gold"}, Capabilities: []v1alpha1.Capability{{Type: "gpu"}}}},
			{Workspace: "default", Workload: simulation.Workload{Kind: "Job", Namespace: "default", Name: "z"}, Placement: "p", NominatedClusters: []string{"a"}, Position: 3},
		},
		Summary: simulation.TopSummary{Clusters: 1, Overcommitted: 1, Waiting: 1},
	}
	var b strings.Builder
	Top(&b, top, now)
	want := `CLUSTER   READY   RESOURCE   ALLOCATABLE   ALLOCATED   RESERVED               FREE                    LARGEST-NODE   USE
a         True    cpu        1m            0           9223372036854775807m   -9223372036854775808m   -              ▒!!!!!!!!!!!!!!!!!!! >999%
                  memory     0             0           0                      0                       -              -

NEXT   PRIORITY   WORKLOAD        PLACEMENT   AGE    ROOM IN ABOUT   WAITS FOR
   1          0   Job default/x   p           3h7m   90m             its turn
   2          0   Job default/y   p           10m    -               a: 2 more cpu free
   3          0   Job default/z   p           -      -               others to make room on a

a new cluster would have a place for Job default/y: location eu, label tier=gold, capability gpu

█ allocated   ▒ reserved   · free   ! overcommitted
1 clusters, 1 overcommitted; 1 workloads wait
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
