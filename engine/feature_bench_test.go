package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/nodes"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// features are what a placement can ask for in addition to the spec of all benchmarks.
var features = map[string]func(spec *v1alpha1.WorkloadPlacementSpec){
	"Plain":       func(*v1alpha1.WorkloadPlacementSpec) {},
	"BinPack":     func(spec *v1alpha1.WorkloadPlacementSpec) { spec.Strategy.Type = v1alpha1.StrategyBinPack },
	"Weighted":    func(spec *v1alpha1.WorkloadPlacementSpec) { spec.Strategy.Type = v1alpha1.StrategyWeighted },
	"MinClusters": func(spec *v1alpha1.WorkloadPlacementSpec) { spec.MinClusters = 2 },
	"Spread": func(spec *v1alpha1.WorkloadPlacementSpec) {
		spec.SpreadConstraints = []v1alpha1.SpreadConstraint{{TopologyKey: "location"}}
	},
	"SpreadTwoLevels": func(spec *v1alpha1.WorkloadPlacementSpec) {
		spec.SpreadConstraints = []v1alpha1.SpreadConstraint{{TopologyKey: "location"}, {TopologyKey: "zone"}}
	},
	"SpreadSoft": func(spec *v1alpha1.WorkloadPlacementSpec) {
		spec.SpreadConstraints = []v1alpha1.SpreadConstraint{{TopologyKey: "location", WhenUnsatisfiable: corev1.ScheduleAnyway}}
	},
	"SpreadWorkloads": func(spec *v1alpha1.WorkloadPlacementSpec) {
		spec.SpreadConstraints = []v1alpha1.SpreadConstraint{{TopologyKey: "location", Scope: v1alpha1.SpreadWorkloads}}
	},
	"Attract":           affine(term(v1alpha1.WorkloadsAttract, "location", true)),
	"AttractNear":       affine(term(v1alpha1.WorkloadsAttract, "cluster", true)),
	"AttractSoft":       affine(term(v1alpha1.WorkloadsAttract, "cluster", false), term(v1alpha1.WorkloadsRepel, "zone", false)),
	"Repel":             affine(term(v1alpha1.WorkloadsRepel, "cluster", true)),
	"DividedEven":       divided(v1alpha1.DivideEven),
	"DividedFree":       divided(v1alpha1.DivideFreeCapacity),
	"DividedAggregated": divided(v1alpha1.DivideAggregated),
	"DividedOverflow":   divided(v1alpha1.DivideOverflow),
	"Nodes":             func(*v1alpha1.WorkloadPlacementSpec) {}, // see tellNodes
	"SpreadByPolicy":    func(*v1alpha1.WorkloadPlacementSpec) {}, // see featurePolicies
	"RepelByPolicy":     func(*v1alpha1.WorkloadPlacementSpec) {},
	"Scores":            func(*v1alpha1.WorkloadPlacementSpec) {}, // see tellScores, too
	"Fallback": func(spec *v1alpha1.WorkloadPlacementSpec) {
		spec.Fallback = []v1alpha1.ClusterGroup{
			{Name: "eu", LocationSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"location": "eu"}}}, {Name: "any"},
		}
	},
}

// featurePolicies are policies that set features in place of placements.
var featurePolicies = map[string]string{
	"SpreadByPolicy": `package placement.scheduling
numberOfClusters := 3 if input.workload.kind != "Job"
spreadConstraints := [{"topologyKey": "location"}] if input.workload.kind != "Job"`,
	// Each of the thousand apps of the placed workloads has its own term.
	"RepelByPolicy": `package placement.scheduling
workloadAffinity contains {"type": "Repel", "required": true, "labelSelector": {"matchLabels": {"app": input.workload.labels.app}}}`,
	"Scores": `package placement
scoring.weights := {"capacity": 30, "health": 30, "performance": 20, "affinity": 10, "score/cheap": 10}
affinity.terms contains {"score": "green", "factor": "affinity", "onMatch": 40}`,
}

// affine has the terms of one placement between other workloads, of which ten thousand are placed.
func affine(terms ...v1alpha1.WorkloadAffinityTerm) func(spec *v1alpha1.WorkloadPlacementSpec) {
	return func(spec *v1alpha1.WorkloadPlacementSpec) { spec.WorkloadAffinity = terms }
}

// placedWorkloads is how many other workloads are placed in benchmarks of affinity to them.
const placedWorkloads = 10_000

// term is about one in ten of the placed workloads.
func term(kind v1alpha1.WorkloadAffinityType, key string, required bool) v1alpha1.WorkloadAffinityTerm {
	return v1alpha1.WorkloadAffinityTerm{
		Type: kind, TopologyKey: key, Required: required, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a3"}},
	}
}

// placeOthers places workloads on two clusters each, as many of each app; those of one app are on few clusters.
func (s *scene) placeOthers(b *testing.B, apps int) {
	others := make([]*workload.Workload, placedWorkloads)
	for i := range others {
		app := i % apps
		others[i] = benchWorkload(fmt.Sprint("other-", i), 0, 0)
		others[i].Labels = map[string]string{"app": fmt.Sprint("a", app), "tier": fmt.Sprint(i % 3)}
		one, two := (i*7+app)%(s.size/3)*3, (i*13+app)%(s.size/5)*5
		r := engine.Reservation{Workload: others[i].Reference, Placement: s.placement.NamespacedName(), Shares: []capacity.Share{{Cluster: fleetName(one)}}}
		if two != one {
			r.Shares = append(r.Shares, capacity.Share{Cluster: fleetName(two)})
		}
		if err := s.engine.Restore(ws, r); err != nil {
			b.Fatal(err)
		}
	}
	s.engine.SetAffinity(ws, []*placement.Placement{s.placement}, func(yield func(*workload.Workload, *placement.Placement) bool) {
		for _, o := range others {
			scheduled, err := s.engine.Scheduled(context.Background(), s.request(o))
			if err != nil {
				b.Fatal(err)
			}
			if !yield(o, scheduled) {
				return
			}
		}
	})
}

func divided(by v1alpha1.ReplicaDivision) func(spec *v1alpha1.WorkloadPlacementSpec) {
	return func(spec *v1alpha1.WorkloadPlacementSpec) {
		spec.ReplicaScheduling = &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: by}
		spec.NumberOfClusters = ptr.To(intstr.FromInt32(3))
	}
}

// tellNodes makes every cluster of a scene, and of future reports, report its nodes in 16 groups, the last of which is
// selected.
func tellNodes(s *scene, reports *changes) *nodes.Wishes {
	told := &nodes.Summary{OmittedLabels: []string{corev1.LabelHostname}}
	for i := range 16 {
		told.Groups = append(told.Groups, nodes.Group{Labels: map[string]string{"pool": strconv.Itoa(i), "zone": "a"}})
	}
	for i := range s.size {
		c := fleetCluster(i, 0)
		c.Nodes = told
		s.engine.SetCluster(ws, c)
		for _, round := range reports.clusters {
			round[i].Nodes = told
		}
	}
	return asksOf(nodes.PodSpec{NodeSelector: map[string]string{"pool": "15"}, Tolerations: []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}})
}

// tellScores gives every cluster of a scene, and of future reports, scores from outside.
func tellScores(s *scene, reports *changes) {
	scores := func(i int) []snapshot.Score {
		return []snapshot.Score{{Name: "cheap", Value: int64(i%7) * 10, From: "prices"}, {Name: "green", Value: int64(i%5)*40 - 80, From: "meter"}}
	}
	for i := range s.size {
		c := fleetCluster(i, 0)
		c.Scores = scores(i)
		s.engine.SetCluster(ws, c)
		for _, round := range reports.clusters {
			round[i].Scores = scores(i)
		}
	}
}

// BenchmarkFeature is BenchmarkDecideAfterChange and BenchmarkDecideUncached with each feature in use, over 1,000 clusters.
func BenchmarkFeature(b *testing.B) {
	var names []string
	for name := range features {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		spec := benchSpec
		features[name](&spec)
		scene := func(b *testing.B) *scene {
			s := newScene(b, 1000)
			s.placement = compile(b, s.engine, spec)
			if text, said := featurePolicies[name]; said {
				set, err := s.policies.Compile(map[string]string{"a.rego": text})
				if err != nil {
					b.Fatal(err)
				}
				s.engine.SetPolicies(ws, set)
			}
			switch {
			case len(spec.WorkloadAffinity) > 0:
				s.placeOthers(b, 10)
			case s.engine.Relates(ws):
				s.placeOthers(b, 1000)
			}
			return s
		}
		asks := func(i int) *workload.Workload {
			w := newClass(i)
			if w.Replicas, w.Divisible = 4, true; name == "RepelByPolicy" {
				w.Labels = map[string]string{"app": "a3"}
			}
			return w
		}
		b.Run(name+"/seen/clusters=1000", func(b *testing.B) {
			s := scene(b)
			w, reports := asks(0), newChanges(s.size)
			switch name {
			case "Nodes":
				w.Nodes = tellNodes(s, reports)
			case "Scores":
				tellScores(s, reports)
			}
			b.ReportAllocs()
			for s.decideAny(b, w); b.Loop(); {
				s.engine.SetCluster(ws, reports.take())
				s.decideAny(b, w)
			}
		})
		b.Run(name+"/new/clusters=1000", func(b *testing.B) {
			s := scene(b)
			var wishes *nodes.Wishes
			switch name {
			case "Nodes":
				wishes = tellNodes(s, newChanges(s.size))
			case "Scores":
				tellScores(s, newChanges(s.size))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w := asks(i)
				w.Nodes = wishes
				s.decideAny(b, w)
			}
		})
	}
}

// decideAny decides in ws and expects any clusters.
func (s *scene) decideAny(b *testing.B, w *workload.Workload) {
	d, err := s.engine.Decide(context.Background(), s.request(w))
	if err != nil || len(d.Clusters) == 0 {
		b.Fatal(d, err)
	}
}
