package delivery

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// BenchmarkRound measures a round in which one of 50,000 workloads changes, on 100 clusters.
func BenchmarkRound(b *testing.B) {
	works := map[types.NamespacedName]*v1alpha1.Work{}
	version := 0
	manifests := map[string]*v1alpha1.Manifest{}
	p := &v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}}
	writes := 0
	d := &Deliverer{Now: time.Now, Actions: Actions{
		ListWorks: func(context.Context) ([]*v1alpha1.Work, error) { return nil, nil },
		WriteWork: func(_ context.Context, w *v1alpha1.Work) (*v1alpha1.Work, error) {
			version++
			writes++
			w.ResourceVersion, w.UID = fmt.Sprint(version), types.UID(w.Namespace+w.Name)
			w.Generation++
			w.Status.ObservedGeneration = w.Generation
			works[nameOf(w)] = w
			return w, nil
		},
		Shown: func(v1alpha1.ManifestReference) bool { return true },
		Render: func(a *Assignment, _ []Share) []Rendered {
			m := manifests[a.UID]
			if m == nil || m.Generation != a.Generation {
				m = manifest(reference("Deployment", a.Name), fmt.Sprintf("%s generation %d", a.UID, a.Generation))
				m.WorkloadUID, m.Generation = types.UID(a.UID), a.Generation
				manifests[a.UID] = m
			}
			return []Rendered{{Workload: m}}
		},
	}}
	round := &Round{}
	for i := range 100 {
		name := fmt.Sprintf("c%d", i)
		round.Clusters = append(round.Clusters, Cluster{Name: name, Delivers: true, UID: types.UID(name)})
	}
	for i := range 50_000 {
		s := &Source{Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: fmt.Sprintf("w%d", i), UID: fmt.Sprintf("uid-%d", i)}, Generation: 1, Finalizers: []string{v1alpha1.FinalizerDelivery}}
		round.Assignments = append(round.Assignments, &Assignment{Source: s, State: Decided, Placement: p, Targets: []Target{{Cluster: fmt.Sprintf("c%d", i%100), Replicas: 1}}})
	}
	shown := func() (all []*v1alpha1.Work) {
		for _, w := range works {
			all = append(all, w)
		}
		return all
	}
	if r := d.Deliver(b.Context(), round, nil); len(r.Errors) > 0 {
		b.Fatal(r.Errors)
	}
	b.ReportAllocs()
	for b.Loop() {
		changed := *round.Assignments[7].Source
		changed.Generation++
		round.Assignments[7].Source = &changed
		writes = 0
		if r := d.Deliver(b.Context(), round, shown()); len(r.Errors) > 0 || writes != 1 {
			b.Fatal(r.Errors, writes)
		}
	}
}
