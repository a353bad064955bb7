package controller

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// rolling is a world with 20 placements, each of one workload, in which policies are in force that a candidate is to replace in two
// steps.
func rolling(t *testing.T, inForce, candidate string, limits *v1alpha1.PolicyRolloutLimits) *world {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "400"), testCluster("b", "400")}
	for i := range 20 {
		p := testPlacement(one)
		p.Name, p.UID = fmt.Sprintf("p%02d", i), types.UID(fmt.Sprintf("uid-%d", i))
		p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"of": p.Name}}
		w.placements = append(w.placements, p)
	}
	w.configMaps = shadowMap(candidate, policyMap(inForce)...)
	w.config = testConfig()
	w.config.ResourceVersion = w.next()
	w.config.Spec.PolicyRollout = &v1alpha1.PolicyRollout{
		Steps: []v1alpha1.PolicyRolloutStep{{Percent: 25, Pause: metav1.Duration{Duration: time.Minute}}, {Percent: 60, Pause: metav1.Duration{Duration: time.Hour}}}, Limits: limits,
	}
	w.arrive("first")
	return w
}

// arrive adds a workload to each placement, and makes passes.
func (w *world) arrive(name string) {
	w.Helper()
	for _, p := range w.placements {
		o := testWorkload(fmt.Sprintf("%s-%s", name, p.Name), 1000)
		o.workload.Labels = map[string]string{"of": p.Name}
		w.workloads = append(w.workloads, o)
	}
	w.pass()
}

// onB are how many of those workloads are on b, and how many wait.
func (w *world) onB(name string) (placed, waiting int) {
	where := w.where()
	for _, o := range w.workloads {
		if strings.HasPrefix(o.Name, name+"-") {
			switch where[o.Name] {
			case "b":
				placed++
			case "":
				waiting++
			}
		}
	}
	return placed, waiting
}

func (w *world) rollout() string {
	s := w.config.Status.PolicyRollout
	if s == nil {
		return "none"
	}
	return fmt.Sprintf("%s %d: %d%%", s.Phase, s.Step, s.Percent)
}

// TestPolicyRollout: the candidate decides for a share of the placements, then for more after each pause, and in the end for all; what
// runs stays where it is. A restart goes on where it was. Once the author has moved the modules they are in force, and nothing changes.
func TestPolicyRollout(t *testing.T) {
	w := rolling(t, preferring("a"), preferring("b"), nil)
	if placed, _ := w.onB("first"); placed != 0 {
		t.Errorf("%d of the first are on b", placed)
	}
	included := func(percent int32) (n int) {
		for _, p := range w.placements {
			if (&v1alpha1.PolicyRolloutStatus{Percent: percent}).Includes(p.UID) {
				n++
			}
		}
		return n
	}
	expect := func(arrived, rollout string, percent int32) {
		t.Helper()
		if got := w.rollout(); got != rollout {
			t.Errorf("the rollout is %s, want %s", got, rollout)
		}
		before := w.where()
		w.arrive(arrived)
		if placed, waiting := w.onB(arrived); placed != included(percent) || waiting > 0 {
			t.Errorf("%s: %d are on b, %d wait, want %d", arrived, placed, waiting, included(percent))
		}
		after := w.where()
		maps.DeleteFunc(after, func(name, _ string) bool { return strings.HasPrefix(name, arrived+"-") })
		if !maps.Equal(before, after) {
			t.Errorf("%s: others have moved", arrived)
		}
	}
	if a, b := included(25), included(60); a < 1 || b <= a || b >= 20 {
		t.Fatalf("the test needs other UIDs: %d and %d of 20 are included", a, b)
	}
	expect("second", "Progressing 1: 25%", 25)
	w.elapse(time.Minute - 2*time.Second)
	expect("third", "Progressing 1: 25%", 25)
	w.show()
	w.restart()
	expect("restarted", "Progressing 1: 25%", 25)
	w.elapse(2 * time.Second)
	w.pass()
	expect("fourth", "Progressing 2: 60%", 60)
	w.show()
	w.restart()
	w.elapse(time.Hour)
	w.pass()
	expect("fifth", "Complete 2: 100%", 100)
	if got, want := w.config.Status.PolicyRollout.Message, "To finish, first delete the ConfigMaps of the policies that it replaces (default/cm), then remove the label tmc.kcp.io/policy-set from default/shadow: in this order no decision changes"; !strings.HasSuffix(got, want) {
		t.Errorf("the message is %s", got)
	}
	if got := len(w.eventsOf(rolloutStepped)) + len(w.eventsOf(rolloutCompleted)); got != 3 {
		t.Errorf("%d events", got)
	}

	w.configMaps = w.configMaps[:1]
	expect("sixth", "Complete 2: 100%", 100)
	moved := w.configMaps[0].DeepCopy()
	delete(moved.Labels, v1alpha1.LabelPolicySet)
	w.configMaps = []*corev1.ConfigMap{moved}
	expect("seventh", "Complete 2: 100%", 100)
	if got := w.rollout(); got != "Pending 0: 0%" {
		t.Errorf("the rollout is %s", got)
	}
	expect("eighth", "Pending 0: 0%", 100)
}

// TestPolicyRolloutReturns: where a limit is exceeded or the candidate fails, all placements are back with the policies in force at
// once, with a reason and an event, and what waited for the candidate does not wait any more. It stays so after a restart; another
// text starts anew.
func TestPolicyRolloutReturns(t *testing.T) {
	number, share := intstr.FromInt32(1), intstr.FromString("1%")
	for _, test := range []struct {
		name, candidate string
		limits          *v1alpha1.PolicyRolloutLimits
		want            string
	}{
		{"more wait", onlyOn("none"), &v1alpha1.PolicyRolloutLimits{Waiting: &number}, "more than when the rollout began, where 1 more may"},
		{"a share of them waits", onlyOn("none"), &v1alpha1.PolicyRolloutLimits{Waiting: &share}, "more than when the rollout began, where 1% more may"},
		{"workloads move", evicting, &v1alpha1.PolicyRolloutLimits{Moves: ptr.To[int32](1)}, "workloads have lost a cluster, more than 1"},
		{"it fails", failing, nil, "the candidate fails for Deployment default/second-"},
		{"it costs too much", strings.ReplaceAll(endless, `input.workload.labels.weight == "endless"`, `startswith(input.workload.name, "second")`), nil, "the candidate fails for Deployment default/second-"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := rolling(t, onlyOn("a"), test.candidate, test.limits)
			if test.name != "workloads move" {
				if got := w.rollout(); got != "Progressing 1: 25%" {
					t.Fatalf("the rollout is %s: %s", got, w.policyStatus())
				}
			}
			w.arrive("second")
			if got := w.rollout(); got != "RolledBack 1: 0%" {
				t.Fatalf("the rollout is %s", got)
			}
			if got := w.config.Status.PolicyRollout.Message; !strings.Contains(got, test.want) {
				t.Errorf("the message is %s", got)
			}
			if n := len(w.eventsOf(rolloutRolledBack)); n != 1 {
				t.Errorf("%d events", n)
			}
			if _, waiting := w.onB("second"); waiting != 0 {
				t.Errorf("%d wait", waiting)
			}
			w.show()
			w.restart()
			w.arrive("third")
			if placed, waiting := w.onB("third"); placed+waiting != 0 {
				t.Errorf("after a restart %d are on b and %d wait", placed, waiting)
			}
			if got := w.rollout(); got != "RolledBack 1: 0%" {
				t.Errorf("the rollout is %s", got)
			}
			w.configMaps = shadowMap(preferring("b"), w.configMaps[1:]...)
			w.arrive("fourth")
			if got := w.rollout(); got != "Progressing 1: 25%" {
				t.Errorf("with another text the rollout is %s", got)
			}
		})
	}
}

// failing does so for workloads of some names.
const failing = `package placement.scoring
default weights := {"health": 1}
weights := {"health": to_number(input.workload.name)} if startswith(input.workload.name, "second")`

// preferring is policies that score a cluster higher, which moves nothing.
func preferring(cluster string) string {
	return fmt.Sprintf(`package placement
scoring.weights := {"affinity": 1}
affinity.terms contains {"match": {"clusterNames": [%q]}, "factor": "affinity", "onMatch": 50}`, cluster)
}

// evicting has workloads leave a.
const evicting = `package placement.affinity
terms contains {"match": {"clusterNames": ["b"]}, "factor": "affinity", "requiredDuringExecution": true, "reason": "only there"}`
