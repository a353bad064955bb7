package controller

import (
	"slices"
	"strings"
	"testing"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// configMapOf is a policy of the workspace.
func configMapOf(name, rego string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: map[string]string{name + ".rego": rego}}
}

// TestWhatRunsStays: an edit moves nothing that may stay where it is, and writes nothing where it changes nothing. Where an
// edit leaves no place, what runs stands as it was reserved, and the placement says why.
func TestWhatRunsStays(t *testing.T) {
	constrained := func(expression string, required bool) func(*world) {
		return func(w *world) {
			p := testPlacement(one)
			p.Spec.Constraints = []v1alpha1.Constraint{{Name: "c", Expression: expression, RequiredDuringExecution: required}}
			w.placements = []*v1alpha1.WorkloadPlacement{p}
		}
	}
	scaled := func(cpu int64) func(*world) {
		return func(w *world) { w.workloads = []*workloadObject{testWorkload("w", cpu)} }
	}
	for name, test := range map[string]struct {
		edit      func(*world)
		want      map[string]string
		unwritten bool
		reserved  int64
		message   string
	}{
		"a constraint that holds":             {edit: constrained("true", true), unwritten: true},
		"a constraint that nothing satisfies": {edit: constrained("cluster.name == 'x'", false), unwritten: true, message: "what would help"},
		"one that its author enforces":        {edit: constrained("cluster.name == 'x'", true), want: map[string]string{}},
		"one that is enforced and cannot be evaluated": {
			edit: constrained("cluster.labels['x'] == 'y'", true), unwritten: true, message: "what would help",
		},
		"one that another cluster satisfies": {edit: constrained("cluster.name == 'b'", false), want: map[string]string{"w": "b"}},
		"a policy that requires a cluster that there is not": {edit: func(w *world) {
			w.configMaps = append(w.configMaps, configMapOf("a", `package placement.affinity
terms contains {"match": {"clusterNames": ["nowhere"]}, "factor": "affinity", "required": true}`))
		}, unwritten: true, message: "Policy"},
		"a policy that enforces that": {edit: func(w *world) {
			w.configMaps = append(w.configMaps, configMapOf("a", `package placement.affinity
terms contains {"match": {"clusterNames": ["nowhere"]}, "factor": "affinity", "requiredDuringExecution": true}`))
		}, want: map[string]string{}},
		"other weights": {edit: func(w *world) {
			w.configMaps = append(w.configMaps, configMapOf("a", `package placement.scoring
default weights := {"capacity": 1}`))
		}, unwritten: true},
		"a wish for another cluster": {edit: func(w *world) {
			o := testWorkload("w", 1000)
			o.workload.Annotations = map[string]string{v1alpha1.AnnotationPreferredCluster: "b"}
			w.workloads = []*workloadObject{o}
		}, unwritten: true},
		"it grows where there is room":      {edit: scaled(2000), reserved: 2000},
		"it grows to where there is room":   {edit: scaled(3000), want: map[string]string{"w": "b"}, reserved: 3000},
		"it grows to what no cluster has":   {edit: scaled(1000_000), unwritten: true, message: "asks for 1000 cpu, 2 free"},
		"a placement that does not compile": {edit: constrained("nonsense", true), unwritten: true},
		"a cluster that says it is not ready, for a while": {edit: func(w *world) {
			w.clusters[0] = w.clusters[0].DeepCopy()
			conditions.MarkUnknown(w.clusters[0], v1alpha1.ReadyCondition, "Silent", "")
		}, unwritten: true},
		"a taint NoSchedule": {edit: func(w *world) {
			w.clusters[0] = w.clusters[0].DeepCopy()
			w.clusters[0].Spec.Taints = []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectNoSchedule}}
		}, unwritten: true},
		"another placement that it belongs to": {edit: func(w *world) {
			p := testPlacement(one)
			p.Name, p.UID = "q", "q"
			w.placements = []*v1alpha1.WorkloadPlacement{p}
		}},
		"one cluster more": {edit: func(w *world) {
			w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(2))})}
		}, want: map[string]string{"w": "b,a"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "2"), testCluster("b", "4")}
			w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
			w.workloads = []*workloadObject{pin(testWorkload("w", 1000), "a")}
			w.pass()
			w.expect(map[string]string{"w": "a"})
			w.placements, w.workloads = []*v1alpha1.WorkloadPlacement{testPlacement(one)}, []*workloadObject{testWorkload("w", 1000)}
			w.placements[0].ResourceVersion = "1"
			w.pass()
			w.expect(map[string]string{"w": "a"})

			w.writes, w.events = nil, nil
			test.edit(w)
			w.placements[0] = w.placements[0].DeepCopy()
			w.placements[0].ResourceVersion = "2"
			w.pass()
			want := test.want
			if want == nil {
				want = map[string]string{"w": "a"}
			}
			w.expect(want)
			if test.unwritten && len(w.decisionWrites()) > 0 {
				t.Errorf("written: %v", w.writes)
			}
			if test.reserved > 0 {
				var reserved int64
				for _, row := range w.workspace.engine.Snapshot("ws").Rows() {
					reserved += row.Reserved.CPU
				}
				if reserved != test.reserved {
					t.Errorf("%d reserved", reserved)
				}
			}
			retained := slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, noBetterPlace) })
			if retained != (test.message != "") {
				t.Errorf("events: %v", w.events)
			}
			if test.message != "" {
				p := w.placements[0]
				scheduled := conditions.Get(p, v1alpha1.ScheduledCondition)
				if scheduled == nil || scheduled.Reason != noBetterPlace || !strings.Contains(scheduled.Message, test.message) || p.Status.Placed != 1 {
					t.Errorf("condition %v, %d placed", scheduled, p.Status.Placed)
				}
				w.events = nil
				w.pass()
				if len(w.events) > 0 {
					t.Errorf("told again: %v", w.events)
				}
			}
		})
	}
}
