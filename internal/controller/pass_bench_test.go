package controller

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// benchWorkloads are placed by the workspace of BenchmarkPass, on two of 100 clusters each, by 10 placements.
const (
	benchWorkloads  = 10_000
	benchClusters   = 100
	benchPlacements = 10
)

// benchWorld is a workspace at rest in which everything is placed, and where workloads are delivered, runs.
func benchWorld(b *testing.B, delivers bool) *delivered {
	d := &delivered{world: newWorld(b)}
	d.live = &liveWorkloads{newShownWorkloads(), "ws"}
	for i := range benchClusters {
		c := testCluster(fmt.Sprintf("c%03d", i), "1000")
		c.Spec.Location = fmt.Sprintf("region-%d", i%5)
		c.Labels = map[string]string{"tier": fmt.Sprint(i % 3)}
		if delivers {
			c.Status.AgentDelivery = &v1alpha1.AgentDelivery{}
		}
		c.Status.ClusterUID, c.ResourceVersion = c.UID, d.next()
		d.clusters = append(d.clusters, c)
	}
	for i := range benchPlacements {
		p := testPlacement(v1alpha1.WorkloadPlacementSpec{
			NumberOfClusters: ptr.To(intstr.FromInt32(2)), Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategySpread},
			WorkloadSelector: v1alpha1.WorkloadSelector{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprint(i)}}},
			Constraints: []v1alpha1.Constraint{
				{Name: "tier", Expression: `cluster.labels.tier in ["0", "1", "2"]`},
				{Name: "room", Expression: "capacity.free.cpu >= 2 * workload.requests.cpu"},
			},
		})
		p.Name, p.UID, p.ResourceVersion = fmt.Sprintf("p%d", i), types.UID(fmt.Sprint("p", i)), d.next()
		d.placements = append(d.placements, p)
	}
	for i := range benchWorkloads {
		d.shows(benchWorkload(i, int64(10+i%20)))
	}
	if delivers {
		d.restart()
	}
	d.atRest()
	if delivers {
		on := map[string][]string{}
		for _, slice := range d.stored {
			for _, decision := range slice.Decisions {
				for _, c := range decision.Clusters {
					on[c.Name] = append(on[c.Name], decision.Workload.Name)
				}
			}
		}
		for cluster, names := range on {
			slices.Sort(names)
			d.runs(cluster, false, names...)
		}
		for _, work := range d.works {
			for _, m := range work.Spec.Manifests {
				work.Status.Manifests = append(work.Status.Manifests, v1alpha1.ManifestStatus{
					ManifestReference: v1alpha1.ManifestReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: string(m.WorkloadUID), WorkloadUID: m.WorkloadUID},
					Revision:          m.Revision, Since: m.Since, Health: v1alpha1.HealthCurrent,
				})
			}
		}
		d.atRest()
	}
	return d
}

func benchWorkload(i int, cpu int64) *workloadObject {
	o := delivers(fmt.Sprintf("w%05d", i), cpu)
	o.Labels = map[string]string{"team": fmt.Sprint(i % benchPlacements)}
	o.workload.Labels = o.Labels
	return o
}

// shows has the informer show a workload.
func (d *delivered) shows(o *workloadObject) { d.live.set("ws", keyOf(o.workload.Reference), o) }

// atRest makes passes until the informers show all that was written, and nothing else is.
func (d *delivered) atRest() {
	for {
		d.writes, d.events = nil, nil
		d.pass()
		d.show()
		d.sleep(reportEvery + countsEvery + placedEvery)
		if d.pass(); len(d.writes) == 0 {
			return
		}
	}
}

// BenchmarkPass measures one pass over 10,000 placed workloads after one thing has changed. Its cost follows what has changed, not
// what there is. What is written then is a part of it, but for what the server takes.
func BenchmarkPass(b *testing.B) {
	cluster := func(d *delivered, i int, change func(*v1alpha1.ClusterRegistration)) {
		r := d.clusters[i].DeepCopy()
		change(r)
		r.ResourceVersion = d.next()
		d.clusters = replace(d.clusters, r)
	}
	for _, bench := range []struct {
		name     string
		delivers bool
		// change makes the n-th change.
		change func(d *delivered, n int)
	}{
		{"Nothing", false, func(*delivered, int) {}},
		{"WorkloadAnnotated", false, func(d *delivered, n int) { d.shows(benchWorkload(n%benchWorkloads, int64(10+n%benchWorkloads%20))) }},
		{"WorkloadScaled", false, func(d *delivered, n int) { d.shows(benchWorkload(n%benchWorkloads, int64(50+n/benchWorkloads%20))) }},
		{"WorkloadAdded", false, func(d *delivered, n int) { d.shows(benchWorkload(benchWorkloads+n, 10)) }},
		{"WorkloadRemoved", false, func(d *delivered, n int) {
			d.live.set("ws", keyOf(benchWorkload(n%benchWorkloads, 10).workload.Reference), nil)
		}},
		{"ClusterReported", false, func(d *delivered, n int) {
			cluster(d, n%benchClusters, func(r *v1alpha1.ClusterRegistration) {
				r.Status.LastHeartbeatTime = &metav1.Time{Time: d.clock}
				r.Status.Allocated = corev1.ResourceList{"cpu": *resource.NewMilliQuantity(int64(n%1000), resource.DecimalSI)}
			})
		}},
		{"ClusterLabelled", false, func(d *delivered, n int) {
			cluster(d, n%benchClusters, func(r *v1alpha1.ClusterRegistration) {
				r.Labels = map[string]string{"tier": fmt.Sprint(n % 3)}
			})
		}},
		{"PlacementEdited", false, func(d *delivered, n int) {
			p := d.placements[n%benchPlacements].DeepCopy()
			p.Generation++
			p.Spec.Constraints[0].Expression = fmt.Sprintf(`cluster.labels.tier in ["0", "1", "2", "%d"]`, n)
			p.ResourceVersion = d.next()
			d.placements = replace(d.placements, p)
		}},
		{"AffineWorkloadScaled", false, func(d *delivered, n int) {
			if p := d.placements[0]; len(p.Spec.WorkloadAffinity) == 0 {
				p = p.DeepCopy()
				p.Generation++
				p.ResourceVersion = d.next()
				p.Spec.WorkloadAffinity = []v1alpha1.WorkloadAffinityTerm{{Type: v1alpha1.WorkloadsAttract, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "0"}}, Weight: 10}}
				d.placements = replace(d.placements, p)
				d.atRest()
			}
			d.shows(benchWorkload(n%benchWorkloads, int64(50+n/benchWorkloads%20)))
		}},
		{"DeliveredNothing", true, func(*delivered, int) {}},
		{"DeliveredWorkloadAnnotated", true, func(d *delivered, n int) { d.shows(benchWorkload(n%benchWorkloads, int64(10+n%benchWorkloads%20))) }},
		{"DeliveredWorkReported", true, func(d *delivered, n int) {
			all := slices.Clone(d.works)
			w := all[n%len(all)].DeepCopy()
			w.Status.Manifests[0].Health = []v1alpha1.Health{v1alpha1.HealthInProgress, v1alpha1.HealthCurrent}[n/len(all)%2]
			all[n%len(all)] = w
			d.works = all
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			d := benchWorld(b, bench.delivers)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				b.StopTimer()
				d.sleep(reportEvery + countsEvery + placedEvery) // nothing waits for others
				d.show()
				bench.change(d, n)
				b.StartTimer()
				if r := d.workspace.reconcile(b.Context(), d.cacheView); r.err() != nil {
					b.Fatal(r.err())
				}
			}
		})
	}
}
