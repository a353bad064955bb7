package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

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

// TestAffinityInACircle: two that need each other are told so.
func TestAffinityInACircle(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	hen, egg := affinePlacement("hen", v1alpha1.WorkloadsAttract, "egg"), affinePlacement("egg", v1alpha1.WorkloadsAttract, "hen")
	hen.Name = "p"
	w.placements = []*v1alpha1.WorkloadPlacement{hen, egg}
	w.workloads = []*workloadObject{ofApp("hen", 1000), ofApp("egg", 1000)}
	w.pass()
	w.expect(map[string]string{})
	if got := w.condition(v1alpha1.ScheduledCondition); !strings.Contains(got, "Deployment default/hen and Deployment default/egg wait for each other") {
		t.Error(got)
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
