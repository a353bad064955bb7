package delivery

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestPacking: writes are the bottleneck, nearly whatever their size. So many workloads at once fill Works, while one after another
// each costs a small write, and there are about as many Works as each of them holds.
func TestPacking(t *testing.T) {
	for _, test := range []struct {
		name             string
		workloads, batch int
		writes, works    int
		// largest is the most workloads in a write.
		largest int
	}{
		{"a burst", 250, 250, 3, 3, 100},
		{"two bursts", 240, 120, 4, 3, 100},
		{"one by one", 100, 1, 100, 10, 10},
		{"one by one, more", 400, 1, 400, 20, 20},
		{"a few at a time", 100, 4, 25, 9, 12},
	} {
		t.Run(test.name, func(t *testing.T) {
			works := map[types.NamespacedName]*v1alpha1.Work{}
			version, writes, largest := 0, 0, 0
			d := &Deliverer{Now: time.Now, Actions: Actions{
				ListWorks: func(context.Context) ([]*v1alpha1.Work, error) { return nil, nil },
				WriteWork: func(_ context.Context, w *v1alpha1.Work) (*v1alpha1.Work, error) {
					version++
					writes++
					largest = max(largest, len(w.Spec.Manifests))
					w.ResourceVersion, w.UID = fmt.Sprint(version), types.UID(w.Name)
					w.Generation++
					works[nameOf(w)] = w
					return w, nil
				},
				Render: func(a *Assignment, _ []Share) []Rendered {
					m := manifest(reference("Deployment", a.Name), a.UID)
					m.WorkloadUID = types.UID(a.UID)
					return []Rendered{{Workload: m}}
				},
			}}
			round := &Round{Clusters: []Cluster{{Name: "dublin", Delivers: true}}}
			placement := &v1alpha1.WorkloadPlacement{}
			var all []int
			for i := range test.workloads {
				all = append(all, i)
			}
			for batch := range slices.Chunk(all, test.batch) {
				for _, i := range batch {
					source := &Source{Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: fmt.Sprint("w", i), UID: fmt.Sprint("uid", i)}}
					round.Assignments = append(round.Assignments, &Assignment{Source: source, State: Decided, Placement: placement, Targets: []Target{{Cluster: "dublin", Replicas: 1}}})
				}
				var shown []*v1alpha1.Work
				for _, w := range works {
					shown = append(shown, w)
				}
				if r := d.Deliver(t.Context(), round, shown); len(r.Errors) > 0 {
					t.Fatal(r.Errors)
				}
			}
			if writes != test.writes || len(works) != test.works || largest != test.largest {
				t.Errorf("%d writes of %d workloads at most, to %d Works; want %d of %d, to %d", writes, largest, len(works), test.writes, test.largest, test.works)
			}
		})
	}
}
