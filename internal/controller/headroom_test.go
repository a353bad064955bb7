package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// surviving is a placement of one cluster for each workload that asks to survive the loss of any one domain.
func surviving(topologyKey string) v1alpha1.WorkloadPlacementSpec {
	spec := one
	spec.Headroom = &v1alpha1.Headroom{Survive: v1alpha1.SurviveLoss{TopologyKey: topologyKey}}
	return spec
}

func located(name, location, cpu string) *v1alpha1.ClusterRegistration {
	c := testCluster(name, cpu)
	c.Spec.Location = location
	return c
}

// checked lets passes find out what headroom there is.
func (w *world) checked() string {
	w.Helper()
	for range 20 {
		w.sleep(restLeast + time.Second)
		w.pass()
		w.show()
	}
	c := conditions.Get(w.placements[0], v1alpha1.HeadroomAvailableCondition)
	if c == nil {
		return "none"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message))
}

// TestHeadroom: whether the workloads of a placement would survive the loss of any one domain is found out beforehand, with whatever
// else would have to move there, and the placement says which loss would hurt and what would help. Nothing moves for that.
func TestHeadroom(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{located("a", "eu", "4"), located("b", "eu", "4"), located("c", "us", "3")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(surviving("location"))}
	for i := range 4 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprintf("w%d", i), 1000))
	}
	w.pass()
	before := w.where()
	want := "False HeadroomShort: If location eu were lost, "
	if got := w.checked(); !strings.HasPrefix(got, want) || !strings.Contains(got, "what would help: 1 more cpu free on c") {
		t.Errorf("condition %s\nwant %s", got, want)
	}
	w.change("c", func(c *v1alpha1.ClusterRegistration) { *c = *located("c", "us", "4") })
	if got, want := w.checked(), "True : All workloads would have a place if any one of 2 domains of location were lost."; got != want {
		t.Errorf("condition %s\nwant %s", got, want)
	}
	w.expect(before)

	w.edit(func(p *v1alpha1.WorkloadPlacement) { p.Spec = surviving("cluster") })
	if got, want := w.checked(), "True : All workloads would have a place if any one of 3 domains of cluster were lost."; got != want {
		t.Errorf("condition %s\nwant %s", got, want)
	}
	w.edit(func(p *v1alpha1.WorkloadPlacement) { p.Spec = one })
	if got := w.checked(); got != "none" {
		t.Errorf("condition %s", got)
	}
	if w.workspace.headroom.check != nil || w.workspace.headroom.found != nil {
		t.Error("it goes on though nobody asks")
	}
}

// TestHeadroomIsForAll: whatever else is lost with a domain takes room, too, in the order of failover: the larger first.
func TestHeadroomIsForAll(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8"), testCluster("b", "4")}
	asks, other := testPlacement(surviving("cluster")), testPlacement(one)
	other.Name, other.UID = "other", "other"
	other.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"of": "other"}}
	asks.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"of": "asks"}}
	w.placements = []*v1alpha1.WorkloadPlacement{asks, other}
	small, large := testWorkload("small", 1000), testWorkload("large", 4000)
	small.workload.Labels, large.workload.Labels = map[string]string{"of": "asks"}, map[string]string{"of": "other"}
	w.workloads = []*workloadObject{small}
	if got := w.checked(); !strings.HasPrefix(got, "True") {
		t.Errorf("alone: %s", got)
	}
	w.workloads = append(w.workloads, large)
	w.pass()
	w.expect(map[string]string{"small": "a", "large": "a"})
	if got := w.checked(); !strings.HasPrefix(got, "False HeadroomShort: If cluster a were lost, 1 of the 1 workloads there would wait. Deployment default/small: ") {
		t.Errorf("with another: %s", got)
	}
}

// TestHeadroomForWhatRuns: a Job that has finished or is suspended needs no place elsewhere.
func TestHeadroomForWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "1")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(surviving("cluster"))}
	web, done, later := testWorkload("web", 1000), testWorkload("done", 1000), testWorkload("later", 1000)
	w.workloads = []*workloadObject{web, done, later}
	w.pass()
	if got := w.checked(); !strings.HasPrefix(got, "False") {
		t.Errorf("condition %s", got)
	}
	ended := func(o *workloadObject, end workload.End) *workloadObject {
		after := *o
		after.end, after.workload = end, ptr.To(*o.workload)
		after.workload.End = end
		return &after
	}
	w.workloads = []*workloadObject{web, ended(done, workload.HasFinished), ended(later, workload.Suspended)}
	if got := w.checked(); !strings.HasPrefix(got, "True") {
		t.Errorf("condition %s", got)
	}
}

// TestHeadroomRests: a check is made once for each state of the workspace, and where much changes it is not made all the time.
func TestHeadroomRests(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(surviving("cluster"))}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	w.checked()
	until := w.workspace.headroom.restUntil
	for range 10 {
		w.sleep(time.Minute)
		w.pass()
	}
	if again := w.workspace.headroom.restUntil; again != until {
		t.Errorf("it is checked again though nothing has changed: rests until %s, before %s", again, until)
	}
	w.change("a", func(c *v1alpha1.ClusterRegistration) { *c = *testCluster("a", "5") })
	w.pass()
	first := w.workspace.headroom.restUntil
	w.change("a", func(c *v1alpha1.ClusterRegistration) { *c = *testCluster("a", "6") })
	if r := w.pass(); w.workspace.headroom.restUntil != first || r.after <= 0 || r.after > restLeast {
		t.Errorf("it does not rest: looks again after %s", r.after)
	}
}
