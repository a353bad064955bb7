package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
)

// withBrake is a world with a brake and 40 workloads on a, which could all be on b.
func withBrake(t *testing.T, tolerations ...corev1.Toleration) *world {
	w := newWorld(t)
	w.workspace.brake.Budget = disruption.Default
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.placements[0].Spec.Tolerations = tolerations
	for i := range 40 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprintf("w%02d", i), 1000))
	}
	w.pass()
	w.clusters = append(w.clusters, testCluster("b", "40"))
	w.pass()
	w.on("40 0")
	w.events = nil
	return w
}

// on expects so many workloads on a and on b.
func (w *world) on(want string) {
	w.Helper()
	count := map[string]int{}
	for _, cluster := range w.where() {
		count[cluster]++
	}
	if got := fmt.Sprint(count["a"], count["b"]); got != want {
		w.Errorf("on a and b: %s, want %s", got, want)
	}
}

// elapse lets time go by, with the passes that are asked for.
func (w *world) elapse(d time.Duration) {
	w.Helper()
	for {
		after := w.pass().after
		if after == 0 || after > d {
			w.sleep(d)
			return
		}
		w.sleep(after)
		d -= after
	}
}

// change replaces a cluster by a changed one, as an informer does.
func (w *world) change(name string, change func(*v1alpha1.ClusterRegistration)) {
	for i, c := range w.clusters {
		if c.Name == name {
			w.clusters[i] = c.DeepCopy()
			change(w.clusters[i])
		}
	}
}

// edit changes the placement.
func (w *world) edit(change func(*v1alpha1.WorkloadPlacement)) {
	p := w.placements[0].DeepCopy()
	change(p)
	p.Generation++
	p.ResourceVersion = w.next()
	w.placements = replace(w.placements, p)
}

func (w *world) taint(name string, taints ...corev1.Taint) {
	w.change(name, func(c *v1alpha1.ClusterRegistration) { c.Spec.Taints = taints })
}

func (w *world) ready(status corev1.ConditionStatus, reason string) {
	w.change("a", func(c *v1alpha1.ClusterRegistration) {
		c.Status.Conditions = conditionsv1alpha1.Conditions{{Type: v1alpha1.ReadyCondition, Status: status, Reason: reason}}
	})
}

var evict = corev1.Taint{Key: "drain", Effect: corev1.TaintEffectNoExecute}

// TestBrake: whatever takes clusters away from many workloads at once, so many go within an interval, and the others keep what
// they have until it is their turn. The placement says how many have gone, how many follow, when, and what lifts the brake.
func TestBrake(t *testing.T) {
	for name, cause := range map[string]func(w *world){
		"a taint":                               func(w *world) { w.taint("a", evict) },
		"a lost cluster":                        func(w *world) { w.ready(corev1.ConditionFalse, v1alpha1.ClusterLostReason) },
		"a deleted cluster":                     func(w *world) { w.clusters = w.clusters[1:] },
		"policies that require another cluster": func(w *world) { w.configMaps = policyMap(onlyOn("b")) },
		"policies that require another cluster during execution": func(w *world) { w.configMaps = policyMap(evicting) },
		"a selector": func(w *world) {
			w.edit(func(p *v1alpha1.WorkloadPlacement) {
				p.Spec.ClusterSelector = &v1alpha1.ClusterSelector{ClusterNames: []string{"b"}}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := withBrake(t)
			cause(w)
			w.pass()
			w.on("30 10")
			if got, want := w.condition("DisruptionAllowed"), "False DisruptionsPaced: 10 workloads have lost a cluster, 30 wait for their turn: at most 10 within 1m0s in this workspace, the next at 1970-01-12T13:47:40Z. Annotation tmc.kcp.io/disruptions: unlimited on the placement lets them go at once. They are: Deployment default/w10; Deployment default/w11; Deployment default/w12; and 27 more"; got != want {
				t.Errorf("condition %s", got)
			}
			if told := w.eventsOf("DisruptionsPaced"); len(told) != 1 || !strings.Contains(told[0], "30 wait") {
				t.Errorf("events %q", told)
			}
			w.elapse(time.Minute - 1)
			w.on("30 10")
			w.elapse(1)
			for _, want := range []string{"20 20", "10 30", "0 40"} {
				w.pass()
				w.on(want)
				w.elapse(time.Minute)
			}
			if got := w.condition("DisruptionAllowed"); got != "True" {
				t.Errorf("condition %s", got)
			}
			if told := w.eventsOf("DisruptionsPaced"); len(told) != 1 {
				t.Errorf("events %q", told)
			}
		})
	}
}

func (w *world) eventsOf(reason string) (of []string) {
	for _, e := range w.events {
		if strings.Contains(e, ": "+reason+": ") {
			of = append(of, e)
		}
	}
	return of
}

// TestBrakeIsLifted: an annotation on the placement lets all go at once.
func TestBrakeIsLifted(t *testing.T) {
	w := withBrake(t)
	w.taint("a", evict)
	w.pass()
	w.on("30 10")
	w.edit(func(p *v1alpha1.WorkloadPlacement) {
		p.Annotations = map[string]string{v1alpha1.AnnotationDisruptions: v1alpha1.DisruptionsUnlimited}
	})
	w.pass()
	w.on("0 40")
}

// TestBrakePacesDeselection: workloads that a placement does not select any more are withdrawn at the same pace.
func TestBrakePacesDeselection(t *testing.T) {
	w := withBrake(t)
	w.edit(func(p *v1alpha1.WorkloadPlacement) {
		p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "typo"}}
	})
	w.pass()
	w.on("30 0")
	w.sleep(time.Minute)
	w.pass()
	w.on("20 0")
	w.edit(func(p *v1alpha1.WorkloadPlacement) { p.Spec.WorkloadSelector.LabelSelector = nil })
	w.pass()
	if got := len(w.where()); got != 40 {
		t.Errorf("%d are placed once the typo is mended", got)
	}
	if got := w.condition("DisruptionAllowed"); got != "True" {
		t.Errorf("condition %s", got)
	}
}

// TestWhatTheBrakeLetsPass: workloads that are new, made again, deleted or finished, and clusters that are added, disrupt nothing.
func TestWhatTheBrakeLetsPass(t *testing.T) {
	w := withBrake(t)
	for i, o := range w.workloads[:20] {
		again := testWorkload(o.Name, 1000)
		again.UID = "again"
		again.workload.UID = "again"
		w.workloads[i] = again
	}
	w.workloads = w.workloads[:30]
	w.pass()
	if got := len(w.where()); got != 30 {
		t.Errorf("%d are placed", got)
	}
	w.edit(func(p *v1alpha1.WorkloadPlacement) { p.Spec.NumberOfClusters = ptr.To(intstr.FromInt32(2)) })
	w.pass()
	for name, on := range w.where() {
		if !strings.Contains(on, ",") {
			t.Errorf("%s is on %s", name, on)
		}
	}
	if told := w.eventsOf("DisruptionsPaced"); len(told) > 0 {
		t.Errorf("events %q", told)
	}
}

// TestBrakeAfterARestart: a process does not know what the one before it has moved, so it moves nothing for an interval. If it
// is restarted ever so often, it moves nothing at all.
func TestBrakeAfterARestart(t *testing.T) {
	w := withBrake(t)
	w.taint("a", evict)
	w.pass()
	w.on("30 10")
	for range 3 {
		w.restart()
		w.workspace.brake.Budget = disruption.Default
		w.pass()
		w.on("30 10")
		w.sleep(30 * time.Second)
	}
	w.sleep(30 * time.Second)
	w.pass()
	w.on("20 20")
}

// TestNotReadyHasADelay: a cluster that says of itself that it is not ready gets no more workloads, and loses those that it has
// after a delay, counted from when the controller has seen it. One that flaps loses none.
func TestNotReadyHasADelay(t *testing.T) {
	w := withBrake(t)
	w.workspace.brake.Budget = disruption.Budget{}
	for range 10 { // it flaps
		w.ready(corev1.ConditionFalse, "Upgrading")
		w.pass()
		w.sleep(4 * time.Minute)
		w.pass()
		w.ready(corev1.ConditionTrue, "")
		w.pass()
		w.on("40 0")
	}
	w.ready(corev1.ConditionFalse, "Upgrading")
	w.change("a", func(c *v1alpha1.ClusterRegistration) { // whatever time its agent writes
		c.Status.Conditions[0].LastTransitionTime = metav1.NewTime(w.clock.Add(-24 * time.Hour))
	})
	w.elapse(5*time.Minute - 1)
	w.on("40 0")
	w.elapse(1)
	w.pass()
	w.on("0 40")
}

// TestTolerationsEnd: NoSchedule takes nothing away; NoExecute does once its toleration has ended, from when it was added or, if
// that is not said, was seen.
func TestTolerationsEnd(t *testing.T) {
	w := withBrake(t, corev1.Toleration{Key: "drain", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](90)})
	w.workspace.brake.Budget = disruption.Budget{}
	w.taint("a", corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoSchedule})
	w.pass()
	w.on("40 0")

	w.taint("a", evict)
	w.elapse(60 * time.Second)
	w.change("a", func(c *v1alpha1.ClusterRegistration) { c.Labels = map[string]string{"another": "report"} })
	w.elapse(30*time.Second - 1)
	w.on("40 0")
	w.elapse(1)
	w.pass()
	w.on("0 40")

	w.taint("a")
	added := metav1.NewTime(w.clock.Add(-89 * time.Second))
	w.taint("b", corev1.Taint{Key: "drain", Effect: corev1.TaintEffectNoExecute, TimeAdded: &added})
	w.pass()
	w.on("0 40")
	w.elapse(time.Second)
	w.pass()
	w.on("40 0")
	if told := slices.Concat(w.eventsOf("NotPlaced"), w.eventsOf("Withdrawn")); len(told) > 0 {
		t.Errorf("events %q", told)
	}
}

// TestPoliciesKeepWorkloadsWhereTheyAre: how long workloads stay on a cluster that is not ready is as policies say, for those that they
// mean, where the placement says nothing of it; and they leave just then, though nothing else has changed.
func TestPoliciesKeepWorkloadsWhereTheyAre(t *testing.T) {
	for _, own := range []bool{false, true} {
		var tolerations []corev1.Toleration
		if own {
			tolerations = []corev1.Toleration{{Key: v1alpha1.TaintNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](120)}}
		}
		w := withBrake(t, tolerations...)
		w.workspace.brake.Budget = disruption.Budget{}
		w.configMaps = policyMap(`package placement
scheduling.tolerations := [{"key": "tmc.kcp.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}] if startswith(input.workload.name, "w0")
scheduling.tolerations := [{"key": "tmc.kcp.io/not-ready", "operator": "Exists", "effect": "NoExecute"}] if startswith(input.workload.name, "w1")`)
		w.pass()
		w.ready(corev1.ConditionFalse, "Upgrading")
		w.elapse(30*time.Second - 1)
		w.on("40 0")
		w.elapse(1)
		w.pass()
		if own {
			w.on("40 0")
			w.elapse(90 * time.Second)
			w.pass()
			w.on("0 40")
			continue
		}
		w.on("30 10")
		w.elapse(5*time.Minute - 30*time.Second)
		w.pass()
		w.on("10 30")
		w.elapse(time.Hour)
		w.on("10 30")
	}
}
