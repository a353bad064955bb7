package controller

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/delivery"
)

// says has the agent of cluster a report on what it runs.
func (d *delivered) says(health v1alpha1.Health, message string) { d.saysOn("a", health, message) }

func (d *delivered) saysOn(cluster string, health v1alpha1.Health, message string) {
	for i, w := range d.works {
		if w.Namespace != v1alpha1.WorkNamespace(cluster) {
			continue
		}
		w = w.DeepCopy()
		w.Status.Manifests = nil
		for _, m := range w.Spec.Manifests {
			w.Status.Manifests = append(w.Status.Manifests, v1alpha1.ManifestStatus{
				ManifestReference: v1alpha1.ManifestReference{Kind: "Deployment", Namespace: "default", Name: string(m.WorkloadUID), WorkloadUID: m.WorkloadUID},
				Revision:          m.Revision, Since: m.Since, Health: health, Message: message, Wrong: health == v1alpha1.HealthFailed, Counts: &v1alpha1.WorkloadCounts{Replicas: 1, Updated: 1, Ready: 1, Available: 1},
			})
		}
		d.works[i] = w
	}
}

// told is what the decision on the workload web says of its clusters.
func (d *delivered) told() string {
	var told []string
	for _, slice := range d.stored {
		for _, decision := range slice.Decisions {
			for _, c := range decision.Clusters {
				if decision.Workload.Name == "web" && c.Delivery != nil {
					told = append(told, strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Name, c.Delivery.Health, c.Delivery.Message)))
				}
			}
		}
	}
	return strings.Join(told, ", ")
}

// later shows what is stored, and makes a pass after some time.
func (d *delivered) later(wait time.Duration) {
	d.sleep(wait)
	d.show()
	d.pass()
}

// TestDecisionsTellOfDelivery: decisions say how workloads fare, gathered, and are no other decisions for that.
func TestDecisionsTellOfDelivery(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("web", 2000)}
	d.pass()
	d.later(time.Minute)
	if got := d.told(); got != "a Pending" {
		t.Errorf("told %q", got)
	}
	entry := func() *entry {
		for key, r := range d.workspace.store.records {
			if key.name == "web" {
				return r.current
			}
		}
		return nil
	}
	made := entry()
	d.runs("a", false, "web")
	d.writes = nil
	for i := range 12 { // the agent says something else four times a second
		d.says(v1alpha1.HealthInProgress, fmt.Sprintf("%d of 8 replicas are ready", i))
		d.later(250 * time.Millisecond)
	}
	slices := 0
	for _, write := range d.writes {
		if strings.HasPrefix(write, "p-0") {
			slices++
		}
	}
	if slices != 2 { // at first, since the last write is long ago, and two seconds after that
		t.Errorf("written %d times in three seconds: %v", slices, d.writes)
	}
	d.says(v1alpha1.HealthCurrent, "")
	d.later(reportEvery)
	if got := d.told(); got != "a Current" {
		t.Errorf("told %q", got)
	}
	if entry() != made {
		t.Error("what is told of delivery has made another decision")
	}
	d.expectRound("web", "decided a")

	d.later(time.Minute)
	d.writes = nil
	d.later(time.Minute)
	d.restart()
	d.later(time.Minute)
	d.later(time.Minute)
	if len(d.writes) > 0 {
		t.Errorf("an unchanged world is written: %v", d.writes)
	}

	// Where nothing is delivered any more, decisions stop saying so.
	d.workspace.handOver = nil
	d.later(time.Minute)
	if got := d.told(); got != "" {
		t.Errorf("told %q", got)
	}
}

// TestToldIsWrittenInVain: a write for the sake of what is told that fails takes nothing back that is decided.
func TestToldIsWrittenInVain(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("web", 2000)}
	d.pass()
	d.later(time.Minute)
	d.runs("a", false, "web")
	d.says(v1alpha1.HealthCurrent, "")
	d.failNext = fmt.Errorf("the connection is lost")
	d.sleep(time.Minute)
	d.show()
	_ = d.reconcile()
	d.expectRound("web", "decided a")
	if free := d.free("a"); free != 2000 {
		t.Errorf("%d free", free)
	}
	d.later(time.Minute) // what is stored is read again
	d.later(time.Minute)
	if got := d.told(); got != "a Current" {
		t.Errorf("told %q", got)
	}
}

// TestPlacementsAndRegistrationsTellOfDelivery: condition Delivered says what is wrong, for a team on its placement and for the
// operator of a cluster on its registration.
func TestPlacementsAndRegistrationsTellOfDelivery(t *testing.T) {
	for _, test := range []struct {
		name               string
		change             func(*delivered)
		placement, cluster string
	}{
		{"all is well", func(*delivered) {}, "True", "True"},
		{"not carried out yet", func(d *delivered) { d.runs("a", true, "web", "api") },
			"True", "False InProgress: 1 of 1 Works are not carried out yet"},
		{"under way", func(d *delivered) { d.says(v1alpha1.HealthInProgress, "0 of 1 replicas are ready") },
			"False InProgress: 2 of 2 workloads are on their way: Deployment default/api; Deployment default/web", "True"},
		{"refused", func(d *delivered) { d.says(v1alpha1.HealthFailed, "Progress deadline exceeded") },
			"False Failed: Something is wrong with 2 of 2 workloads. Deployment default/api: a: Progress deadline exceeded; Deployment default/web: a: Progress deadline exceeded",
			"False NotApplied: Something is wrong with 2 objects. Deployment default/web: Progress deadline exceeded; Deployment default/api: Progress deadline exceeded"},
		{"a claim is missing", func(d *delivered) {
			d.workspace.problems = map[types.UID][]delivery.Problem{
				"api": {{Reason: v1alpha1.MissingReferenceReason, Message: "Secret db is not there"}},
				"web": {{Reason: v1alpha1.ClaimNotAcceptedReason, Message: "APIBinding tmc does not accept the permission claim on secrets. To accept it: kubectl patch apibinding tmc"}},
			}
		}, "False ClaimNotAccepted: Something is wrong with 2 of 2 workloads. Deployment default/web: APIBinding tmc does not accept the permission claim on secrets. To accept it: kubectl patch apibinding tmc", "True"},
		{"silent", func(d *delivered) {
			silent := d.clusters[0].DeepCopy()
			silent.Status.Conditions[0].Status, silent.Status.Conditions[0].Reason = corev1.ConditionUnknown, v1alpha1.HeartbeatMissedReason
			d.clusters[0] = silent
		}, "Unknown ClusterSilent: Something is wrong with 2 of 2 workloads. Deployment default/api: a: the agent of the cluster is silent, and this is the state that it told last; Deployment default/web: a: the agent of the cluster is silent, and this is the state that it told last",
			"Unknown ClusterSilent: its agent is silent: what is in its 1 Works may run there or not"},
		{"Works cannot be written", func(d *delivered) { d.workspace.unwritable = map[string]string{"a": "Work cluster-a/w: forbidden"} },
			"True", "False WorksNotWritten: Work cluster-a/w: forbidden"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDelivered(t, testCluster("a", "8"))
			d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
			d.workloads = []*workloadObject{delivers("web", 1000), delivers("api", 1000)}
			d.pass()
			d.runs("a", false, "web", "api")
			d.says(v1alpha1.HealthCurrent, "")
			test.change(d)
			d.later(time.Minute)
			d.later(time.Minute)
			d.later(time.Minute)
			if got := d.condition(v1alpha1.DeliveredCondition); got != test.placement {
				t.Errorf("placement:\ngot  %s\nwant %s", got, test.placement)
			}
			c := conditions.Get(d.clusters[0], v1alpha1.DeliveredCondition)
			if c == nil {
				t.Fatal("the registration says nothing")
			}
			if got := strings.Trim(fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), " :"); got != test.cluster {
				t.Errorf("registration:\ngot  %s\nwant %s", got, test.cluster)
			}
			d.writes = nil
			d.later(time.Minute)
			if len(d.writes) > 0 {
				t.Errorf("an unchanged world is written: %v", d.writes)
			}
		})
	}
}

// TestNothingIsToldWhereNothingIsDelivered: clusters that others deliver to have no condition and no delivery.
func TestNothingIsToldWhereNothingIsDelivered(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"))
	d.clusters[0] = testCluster("a", "4")
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("web", 2000)}
	d.pass()
	d.later(time.Minute)
	if got := d.told() + d.condition(v1alpha1.DeliveredCondition); got != "none" || conditions.Get(d.clusters[0], v1alpha1.DeliveredCondition) != nil {
		t.Errorf("told %s, and %v", got, d.clusters[0].Status.Conditions)
	}
}

// TestToldSurvivesTheStore: what is told of delivery comes back from what is stored, apart from the decision.
func TestToldSurvivesTheStore(t *testing.T) {
	var d v1alpha1.WorkloadDecision
	if err := json.Unmarshal([]byte(`{"clusters": [{"name": "a", "delivery": {"health": "Current"}}, {"name": "b"}]}`), &d); err != nil {
		t.Fatal(err)
	}
	decision, reports := withoutDelivery(d)
	if decision.Clusters[0].Delivery != nil || d.Clusters[0].Delivery == nil || !reflect.DeepEqual(withDelivery(decision, reports), d) {
		t.Errorf("%v and %v of %v", decision, reports, d)
	}
}

// TestClustersThatWereBehindAreForgotten: of clusters that are registered no more, it is not remembered since when they were behind.
func TestClustersThatWereBehindAreForgotten(t *testing.T) {
	d := newDelivered(t, testCluster("a", "8"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("web", 1000)}
	d.pass()
	d.runs("a", true, "web")
	d.later(time.Second)
	if len(d.workspace.behind) != 1 {
		t.Fatalf("%d clusters are behind", len(d.workspace.behind))
	}
	d.clusters = nil
	d.later(time.Second)
	if n := len(d.workspace.behind); n > 0 {
		t.Errorf("%d clusters are remembered", n)
	}
}
