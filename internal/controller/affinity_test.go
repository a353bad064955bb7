package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/workload"
)

// ofApp gives a workload a label app, and a placement that selects it and has one term of affinity to another app.
func ofApp(app string, cpu int64) *workloadObject {
	o := testWorkload(app, cpu)
	o.Labels = map[string]string{"app": app}
	o.workload.Labels = o.Labels
	return o
}

func affinePlacement(app string, kind v1alpha1.WorkloadAffinityType, other string) *v1alpha1.WorkloadPlacement {
	p := testPlacement(v1alpha1.WorkloadPlacementSpec{
		WorkloadSelector: v1alpha1.WorkloadSelector{LabelSelector: selectApp(app)}, NumberOfClusters: ptr.To(intstr.FromInt32(1)),
	})
	if kind != "" {
		p.Spec.WorkloadAffinity = []v1alpha1.WorkloadAffinityTerm{{Type: kind, LabelSelector: selectApp(other), Required: true}}
	}
	p.Name, p.UID = app, types.UID(app)
	return p
}

func selectApp(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

// TestAffinityWakes: a workload that waits for another is placed in the pass that follows the other's, though that changes neither
// clusters nor what is reserved.
func TestAffinityWakes(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "8")}
	w.placements = []*v1alpha1.WorkloadPlacement{affinePlacement("app", v1alpha1.WorkloadsAttract, "db"), affinePlacement("db", "", "")}
	w.placements[1].Spec.ClusterSelector = &v1alpha1.ClusterSelector{ClusterNames: []string{"a"}}
	app, db := ofApp("app", 1000), ofApp("db", 0)
	w.workloads = []*workloadObject{app, db} // in this order
	w.pass()
	w.expect(map[string]string{"app": "a", "db": "a"})

	// Alone, it waits; and is tried again by itself once there is the other.
	w.workloads = []*workloadObject{app}
	w.workspace.engine.Forget("ws")
	clear(w.stored)
	w.restart()
	w.pass()
	w.expect(map[string]string{})
	w.workloads = []*workloadObject{app, db}
	w.pass()
	w.expect(map[string]string{"app": "a", "db": "a"})
}

// TestAffinityAfterARestart: what has been placed before keeps others away from the first decision on, though decisions say nothing
// of labels; that holds as well where its placement is not valid any more.
func TestAffinityAfterARestart(t *testing.T) {
	for _, invalid := range []bool{false, true} {
		t.Run(fmt.Sprint("invalid ", invalid), func(t *testing.T) {
			w := newWorld(t)
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40"), testCluster("b", "4")}
			loner, plain := affinePlacement("loner", v1alpha1.WorkloadsRepel, "plain"), affinePlacement("plain", "", "")
			shy := affinePlacement("shy", v1alpha1.WorkloadsRepel, "loner")
			w.placements = []*v1alpha1.WorkloadPlacement{loner, plain, shy}
			one := ofApp("loner", 1000)
			w.workloads = []*workloadObject{one}
			w.pass()
			w.expect(map[string]string{"loner": "a"})
			if invalid {
				broken := loner.DeepCopy()
				broken.Spec.Constraints = []v1alpha1.Constraint{{Name: "broken", Expression: "1 +"}}
				w.placements[0] = broken
			}
			w.show()
			w.restart()
			w.workloads = []*workloadObject{one, ofApp("plain", 1000), ofApp("shy", 1000)}
			w.pass()
			w.expect(map[string]string{"loner": "a", "plain": "b", "shy": "b"})
		})
	}
}

// TestAffinityFollowsLabels: a label that changes on a placed workload counts from the next pass on. One that has finished is not
// there for anybody.
func TestAffinityFollowsLabels(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{affinePlacement("app", v1alpha1.WorkloadsAttract, "db"), affinePlacement("other", "", "")}
	w.placements[1].Spec.WorkloadSelector = v1alpha1.WorkloadSelector{}
	app, other := ofApp("app", 1000), ofApp("other", 1000)
	w.workloads = []*workloadObject{app, other}
	w.pass()
	w.expect(map[string]string{"other": "a"})

	changed := *other
	read := *other.workload
	read.Labels = map[string]string{"app": "db"}
	changed.Labels, changed.workload = read.Labels, &read
	ended := changed
	finished := read
	finished.End = workload.HasFinished
	ended.workload, ended.end = &finished, workload.HasFinished
	w.workloads = []*workloadObject{app, &ended}
	w.pass()
	w.expect(map[string]string{"other": "a"})
	w.workloads = []*workloadObject{app, &changed}
	w.pass()
	w.expect(map[string]string{"other": "a", "app": "a"})
}

// TestACircleIsTold: workloads that wait for each other are told so, also where one comes only once the other waits, and until one goes.
func TestACircleIsTold(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{affinePlacement("hen", v1alpha1.WorkloadsAttract, "egg"), affinePlacement("egg", v1alpha1.WorkloadsAttract, "hen")}
	w.placements[0].Name = "p"
	hen, egg := ofApp("hen", 1000), ofApp("egg", 1000)
	const circle, alone = "Deployment default/hen and Deployment default/egg wait for each other", "and none is placed"
	for i, step := range []struct {
		workloads []*workloadObject
		told      string
	}{
		{[]*workloadObject{hen}, alone}, {[]*workloadObject{hen, egg}, circle}, {[]*workloadObject{hen}, alone},
	} {
		w.workloads = step.workloads
		w.pass()
		w.sleep(2 * countsEvery) // messages are made anew every so often
		w.pass()
		w.expect(map[string]string{})
		if got := w.condition(v1alpha1.ScheduledCondition); !strings.Contains(got, step.told) || step.told == alone && strings.Contains(got, circle) {
			t.Errorf("step %d: %s", i, got)
		}
	}
}

// TestWaitingForOthersCostsLittle: workloads that wait for one that is not placed are not decided on again while others are.
func TestWaitingForOthersCostsLittle(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4000"), testCluster("b", "4000")}
	w.placements = []*v1alpha1.WorkloadPlacement{affinePlacement("app", v1alpha1.WorkloadsAttract, "db"), affinePlacement("other", "", "")}
	for i := range 100 {
		o := ofApp("app", 1000)
		o.Name, o.workload.Name = fmt.Sprint("app-", i), fmt.Sprint("app-", i)
		w.workloads = append(w.workloads, o)
	}
	w.pass()
	decided := 0
	ask := w.workspace.ask
	w.workspace.ask = func(ctx context.Context, r engine.Request) (*engine.Decision, error) {
		decided++
		return ask(ctx, r)
	}
	for i := range 10 {
		o := ofApp("other", 1000)
		o.Name, o.workload.Name = fmt.Sprint("other-", i), fmt.Sprint("other-", i)
		w.workloads = append(w.workloads, o)
		w.sleep(time.Second)
		w.pass()
	}
	if decided != 10 {
		t.Errorf("%d decisions for 10 workloads that were placed", decided)
	}
}

// schedulingMap is a ConfigMap with one module, of the package placement.scheduling.
func schedulingMap(rego string) []*corev1.ConfigMap {
	return policyMap("package placement.scheduling\n" + rego)
}

// TestPolicyAffinityAfterARestart: by which terms policies have a placed workload keep others away is a function of the workload, and
// known before the first decision after a restart, though no decision says it.
func TestPolicyAffinityAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{affinePlacement("loner", "", ""), affinePlacement("plain", "", "")}
	w.configMaps = schedulingMap(`workloadAffinity contains {"type": "Repel", "required": true, "labelSelector": {"matchLabels": {"app": "plain"}}} if input.workload.labels.app == "loner"`)
	loner := ofApp("loner", 1000)
	w.workloads = []*workloadObject{loner}
	w.pass()
	w.expect(map[string]string{"loner": "a"})
	w.show()
	w.restart()
	w.workloads = []*workloadObject{ofApp("plain", 1000), loner} // in this order
	w.pass()
	w.expect(map[string]string{"loner": "a", "plain": "b"})
}

// TestPolicyAffinityWhilePoliciesFail: a workload for which the policies fail keeps those away that it kept away before, its placement
// says that more is not known, and others are placed.
func TestPolicyAffinityWhilePoliciesFail(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40"), testCluster("b", "4")}
	p := affinePlacement("loner", "", "")
	p.Name = "p"
	w.placements = []*v1alpha1.WorkloadPlacement{p, affinePlacement("plain", "", "")}
	w.configMaps = schedulingMap(`workloadAffinity contains {"type": "Repel", "required": true, "labelSelector": {"matchLabels": {"app": "plain"}}} if input.workload.labels.app == "loner"
minClusters := to_number(object.get(input.workload.annotations, "clusters", "1"))`)
	loner := ofApp("loner", 1000)
	w.workloads = []*workloadObject{loner}
	w.pass()
	w.expect(map[string]string{"loner": "a"})

	changed := *loner
	read := *loner.workload
	read.Annotations = map[string]string{"clusters": "many"}
	changed.Annotations, changed.workload = read.Annotations, &read
	w.workloads = []*workloadObject{&changed, ofApp("plain", 1000)}
	w.pass()
	w.expect(map[string]string{"loner": "a", "plain": "b"})
	if got := w.condition(v1alpha1.PoliciesReadyCondition); !strings.Contains(got, "to_number") ||
		!strings.Contains(got, "whether the policies have workloads keep others away is not known while they fail for them, and as it was before: Deployment default/loner") {
		t.Error(got)
	}
}

// TestPolicyAffinityTakesItsTime: policies are evaluated for what is placed before anything is decided, over several passes where one
// has no time for all, and those for which they fail keep no one waiting.
func TestPolicyAffinityTakesItsTime(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{affinePlacement("loner", "", ""), affinePlacement("plain", "", "")}
	w.configMaps = schedulingMap(`workloadAffinity contains {"type": "Repel", "required": true, "labelSelector": {"matchLabels": {"app": "plain"}}} if {
	input.workload.labels.app == "loner"
	input.workload.name != "nobody"
}`)
	for i := range 5 {
		o := ofApp("loner", 100)
		o.Name, o.workload.Name, o.UID, o.workload.UID = fmt.Sprint("loner-", i), fmt.Sprint("loner-", i), types.UID(fmt.Sprint(i)), fmt.Sprint(i)
		w.workloads = append(w.workloads, o)
	}
	w.pass()
	w.show()
	w.restart()
	w.workloads = append([]*workloadObject{ofApp("plain", 1000)}, w.workloads...)
	w.workspace.now = func() time.Time {
		w.sleep(trialWithin / 2)
		return w.clock
	}
	passes := 0
	for again := true; again; passes++ {
		r := w.workspace.reconcile(context.Background(), w.cacheView)
		if err := r.err(); err != nil {
			t.Fatal(err)
		}
		again = r.again
		if on, placed := w.where()["plain"]; placed && on != "b" {
			t.Fatalf("it is on %s", on)
		}
	}
	if _, placed := w.where()["plain"]; !placed || passes < 3 {
		t.Errorf("placed %v after %d passes", placed, passes)
	}
}
