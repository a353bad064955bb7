package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// withdraw makes the workspace's binding not accept claims any more, as the informer of bindings shows it.
func (w *world) withdraw(claimed ...schema.GroupVersionResource) {
	w.hidden = map[schema.GroupResource]*hidden{}
	for _, resource := range claimed {
		w.hidden[resource.GroupResource()] = &hidden{reason: v1alpha1.ClaimNotAcceptedReason, why: "not accepted: " + resource.Resource, how: "Accept it"}
	}
}

func testJob(name string) *workloadObject {
	j := testWorkload(name, 1000)
	j.APIVersion, j.Kind = "batch/v1", "Job"
	j.workload.APIVersion, j.workload.Kind = "batch/v1", "Job"
	return j
}

// berlin is a policy that keeps workloads in berlin; without it, everything here goes to "a".
func berlin(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}, Data: map[string]string{
		"a.rego": `package placement.affinity
terms contains {"match": {"clusterNames": ["b"]}, "factor": "affinity", "required": true, "reason": "berlin"}`,
	}}
}

// decisionWrites are the writes of decisions since the last call.
func (w *world) decisionWrites() (writes []string) {
	for _, write := range w.writes {
		if strings.Contains(write, " with ") || strings.HasPrefix(write, "delete ") {
			writes = append(writes, write)
		}
	}
	w.writes = nil
	return writes
}

// newSeenWorld has two clusters, a Deployment and a Job on "a", which are published.
func newSeenWorld(t *testing.T) *world {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("web", 1000), testJob("train")}
	w.pass()
	w.show()
	w.pass()
	w.writes, w.events = nil, nil
	return w
}

// TestWhatCannotBeSeenIsNotGone: a Job that is not shown any more keeps its clusters and its reservation, unless the server says
// that it is not there. Every row is over, and then everything is as it was, without a write of a decision.
func TestWhatCannotBeSeenIsNotGone(t *testing.T) {
	train := types.NamespacedName{Namespace: "default", Name: "train"}
	for name, row := range map[string]struct {
		happens func(*world)
		// says is the beginning of the condition WorkloadsVisible, at once and once it has lasted.
		says, lasting string
	}{
		"its claim is withdrawn": {
			func(w *world) { w.withdraw(jobs) },
			"False ClaimNotAccepted: not accepted: jobs. 1 decided workloads that cannot be seen keep their clusters; new ones are not noticed. Accept it", "",
		},
		"its claim is withdrawn, and the binding is not shown yet": {
			func(w *world) { w.rebound = true },
			"True", "False NotConfirmed: jobs.batch train is not shown by the watch any more, and the server does not confirm that it is gone: the APIBinding has changed meanwhile",
		},
		"the server does not let us look": {
			func(w *world) { w.lookErr = errors.New("jobs.batch is forbidden") },
			"True", "False NotConfirmed: jobs.batch train is not shown by the watch any more, and the server does not confirm that it is gone: jobs.batch is forbidden",
		},
		"a list fell short": {
			func(w *world) { w.invisible = map[types.NamespacedName]types.UID{train: "1"} },
			"True", "False NotConfirmed: jobs.batch train is not shown by the watch any more, and the server has it",
		},
		"its kind is not watched any more": {
			func(w *world) { w.kinds = w.kinds[:1] },
			"False KindNotWatched: batch/v1 Job is not among the workload kinds of the controller", "",
		},
		"its claim is limited by a selector": {
			func(w *world) {
				w.hidden = map[schema.GroupResource]*hidden{jobs.GroupResource(): {reason: v1alpha1.ClaimLimitedReason, why: "limited", partly: true}}
			},
			"False ClaimLimited: limited. 1 decided workloads", "",
		},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " restarted ", restarted), func(t *testing.T) {
				w := newSeenWorld(t)
				all, view := w.workloads, w.visibility
				w.workloads = all[:1]
				row.happens(w)
				if restarted {
					w.restart()
				}
				w.pass()
				if got := w.condition(v1alpha1.WorkloadsVisibleCondition); !strings.HasPrefix(got, row.says) {
					t.Errorf("at once %q", got)
				}
				for range 10 {
					w.sleep(time.Minute)
					w.pass()
				}
				if got := w.condition(v1alpha1.WorkloadsVisibleCondition); !strings.HasPrefix(got, row.says+row.lasting) && !strings.HasPrefix(got, row.lasting) {
					t.Errorf("lasting %q", got)
				}
				if got := w.condition(v1alpha1.ReadyCondition); !strings.HasPrefix(got, "False") {
					t.Errorf("Ready is %s", got)
				}
				if got := w.placements[0].Status; got.Workloads != 2 || got.Placed != 2 || !slices.Equal(got.SelectedClusters, []string{"a"}) {
					t.Errorf("the status has %d workloads, %d placed, on %v", got.Workloads, got.Placed, got.SelectedClusters)
				}
				if len(w.events) != 1 || !strings.HasPrefix(w.events[0], "p: ") {
					t.Errorf("events %q", w.events)
				}
				if got := w.freeOnA(); got != 38_000 {
					t.Errorf("%d free on a", got)
				}
				w.workloads, w.visibility, w.rebound, w.lookErr, w.invisible = all, view, false, nil, nil
				w.pass()
				if got := w.condition(v1alpha1.ReadyCondition); got != "True" {
					t.Errorf("afterwards Ready is %s", got)
				}
				if writes := w.decisionWrites(); len(writes) > 0 {
					t.Errorf("written %q", writes)
				}
				w.expect(map[string]string{"web": "a", "train": "a"})
			})
		}
	}
}

// TestAClaimThatIsWithdrawnAndAcceptedAgain: kcp gives the objects back one by one, so for some time the binding accepts the claim
// and the server does not have them. That holds even if the binding was never shown without the claim: no pass may have come by.
func TestAClaimThatIsWithdrawnAndAcceptedAgain(t *testing.T) {
	for name, between := range map[string]func(w *world, version func(string) *apisv1alpha2.APIBinding){
		"a pass sees it withdrawn": func(w *world, version func(string) *apisv1alpha2.APIBinding) {
			withdrawn := version("2")
			withdrawn.Spec.PermissionClaims[1].State = apisv1alpha2.ClaimRejected
			w.binding = withdrawn
			w.pass()
		},
		"no pass sees it withdrawn": func(*world, func(string) *apisv1alpha2.APIBinding) {},
		"the binding is not shown for a while": func(w *world, _ func(string) *apisv1alpha2.APIBinding) {
			w.binding = nil
			w.pass()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSeenWorld(t)
			version := func(resourceVersion string) *apisv1alpha2.APIBinding {
				b := testBinding("deployments.apps", "jobs.batch")
				b.ResourceVersion = resourceVersion
				return b
			}
			w.binding = version("1")
			w.pass()
			w.sleep(time.Hour)
			all := w.workloads
			w.workloads = nil
			between(w, version)
			w.binding = version("3")
			w.elapse(claimsSettle / 2)
			w.workloads = all[:1]
			w.elapse(claimsSettle/2 - time.Second)
			w.workloads = all
			w.pass()
			w.expect(map[string]string{"web": "a", "train": "a"})
			if writes := w.decisionWrites(); len(writes) > 0 {
				t.Errorf("written %q", writes)
			}
			w.workloads = nil // and now they are deleted
			w.elapse(time.Minute)
			w.expect(map[string]string{})
		})
	}
}

// TestWhatIsGoneIsReleased at once: the server is asked once for all that is not shown, and not again.
func TestWhatIsGoneIsReleased(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	for i := range 1000 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprint("w", i), 1))
	}
	w.pass()
	w.show()
	w.pass()
	if w.looked != 0 {
		t.Errorf("looked %d times for what is shown", w.looked)
	}
	w.workloads = w.workloads[:1]
	w.pass()
	w.pass()
	w.expect(map[string]string{"w0": "a"})
	if got := w.freeOnA(); w.looked != 1 || got != 3999 {
		t.Errorf("looked %d times, %d free", w.looked, got)
	}
}

// TestPlacementsAndClustersThatAreNotShown: what their lists do not show is not gone either. Once it is, that counts, and is not
// asked for again.
func TestPlacementsAndClustersThatAreNotShown(t *testing.T) {
	for name, row := range map[string]struct {
		hide func(*world)
		gone map[string]string
	}{
		"no placement is shown": {func(w *world) { w.placements = nil }, map[string]string{}},
		"a cluster is not shown": {
			func(w *world) { w.clusters = w.clusters[1:] }, map[string]string{"web": "b", "train": "b"},
		},
		"no cluster is shown": {func(w *world) { w.clusters = nil }, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSeenWorld(t)
			row.hide(w)
			w.invisible = map[types.NamespacedName]types.UID{{Namespace: "default", Name: "p"}: "1", {Name: "a"}: "1"}
			w.pass()
			w.restart()
			w.pass()
			w.sleep(time.Minute)
			w.pass()
			w.expect(map[string]string{"web": "a", "train": "a"})
			if writes := w.decisionWrites(); len(writes) > 0 {
				t.Errorf("written %q", writes)
			}
			w.invisible, w.looked = nil, 0
			w.sleep(time.Minute)
			w.pass()
			w.pass()
			w.expect(row.gone)
			if w.looked != 1 {
				t.Errorf("looked %d times", w.looked)
			}
		})
	}
}

// TestPoliciesThatCannotBeSeenStay in force, and after a restart nothing is decided rather than by others than the team's own.
func TestPoliciesThatCannotBeSeenStay(t *testing.T) {
	for name, row := range map[string]struct {
		happens func(*world)
		reason  string
	}{
		"the claim is withdrawn":        {func(w *world) { w.withdraw(configMapResource) }, "ClaimNotAccepted"},
		"the binding is not shown yet":  {func(w *world) { w.rebound = true }, "NotConfirmed"},
		"the server does not let us in": {func(w *world) { w.lookErr = errors.New("forbidden") }, "NotConfirmed"},
		"a list fell short": {func(w *world) {
			w.invisible = map[types.NamespacedName]types.UID{{Namespace: "default", Name: "berlin"}: "1"}
		}, "NotConfirmed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8"), testCluster("b", "4")}
			w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
			w.configMaps = []*corev1.ConfigMap{berlin("berlin")}
			w.workloads = []*workloadObject{testWorkload("one", 1000)}
			w.pass()
			w.show()
			w.pass()
			policies, view := w.configMaps, w.visibility
			w.configMaps = nil
			row.happens(w)
			w.workloads = append(w.workloads, testWorkload("two", 1000))
			for range 10 {
				w.pass()
				w.sleep(time.Minute)
			}
			w.expect(map[string]string{"one": "b", "two": "b"})
			if got := w.condition(v1alpha1.PoliciesReadyCondition); !strings.HasPrefix(got, "False "+row.reason+": the last good policies stay in force: ") {
				t.Error(got)
			}
			w.show()
			w.restart()
			w.workloads = append(w.workloads, testWorkload("three", 1000))
			for range 10 {
				w.pass()
				w.sleep(time.Minute)
			}
			w.expect(map[string]string{"one": "b", "two": "b"})
			if got := w.condition(v1alpha1.PoliciesReadyCondition); !strings.HasPrefix(got, "False "+row.reason+": nothing is decided until the policies can be read: ") {
				t.Error(got)
			}
			w.configMaps, w.visibility, w.rebound, w.lookErr, w.invisible = policies, view, false, nil, nil
			w.pass()
			w.expect(map[string]string{"one": "b", "two": "b", "three": "b"})
			if got := w.condition(v1alpha1.ReadyCondition); got != "True" {
				t.Errorf("Ready is %s", got)
			}
		})
	}
}

// TestAWorkspaceThatNeverShowedPolicies is decided by the built-in ones, which is no fault of it, whatever version of the
// built-in policies decided before.
func TestAWorkspaceThatNeverShowedPolicies(t *testing.T) {
	w := newSeenWorld(t)
	w.withdraw(configMapResource)
	for _, slice := range w.stored {
		slice.Decisions[0].PolicyDigest = "builtin-of-another-version"
	}
	w.restart()
	w.workloads = append(w.workloads, testWorkload("new", 1000))
	w.pass()
	w.pass()
	w.expect(map[string]string{"web": "a", "train": "a", "new": "a"})
	if got := w.condition(v1alpha1.ReadyCondition); got != "True" {
		t.Errorf("Ready is %s", got)
	}
}

// TestADeletedPolicyIsNotInForceAnyMore, once the server confirms that it is gone.
func TestADeletedPolicyIsNotInForceAnyMore(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.configMaps = []*corev1.ConfigMap{berlin("berlin")}
	w.workloads = []*workloadObject{testWorkload("one", 1000)}
	w.pass()
	w.configMaps = nil
	w.workloads = append(w.workloads, testWorkload("two", 1000))
	w.pass()
	if got := w.where()["two"]; got != "a" {
		t.Errorf("two is on %q", got)
	}
	if got := w.condition(v1alpha1.PoliciesReadyCondition); got != "True" {
		t.Error(got)
	}
}

// TestAPlacementThatSelectsOtherKinds does not mind a claim that is not accepted.
func TestAPlacementThatSelectsOtherKinds(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	only := one
	only.WorkloadSelector.WorkloadTypes = []v1alpha1.WorkloadType{{APIVersion: "apps/v1", Kind: "Deployment"}}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(only)}
	w.workloads = []*workloadObject{testWorkload("web", 1000)}
	w.withdraw(jobs, leaseResource)
	w.pass()
	if got := w.condition(v1alpha1.ReadyCondition); got != "True" {
		t.Error(got)
	}
	unreadable := func(resource string) float64 {
		return testutil.ToFloat64(w.workspace.metrics.hidden.WithLabelValues(resource))
	}
	if unreadable("jobs.batch") != 1 || unreadable("leases.coordination.k8s.io") != 1 || unreadable("deployments.apps") != 0 {
		t.Error("the metric does not say what cannot be read")
	}
	w.workspace.retire()
	if unreadable("jobs.batch") != 0 {
		t.Error("the metric counts a workspace that is gone")
	}
}

// TestAFailedAnswerSaysNothing: the server is asked for two workloads that are not shown and has one of them, and meanwhile the APIBinding has
// changed. Then it is not known of the other one either that it is gone.
func TestAFailedAnswerSaysNothing(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("there", 1000), testWorkload("other", 1000)}
	w.pass()
	w.sleep(time.Minute)
	w.show()
	w.workloads, w.rebound = nil, true
	w.invisible = map[types.NamespacedName]types.UID{{Namespace: "default", Name: "there"}: "there"}
	w.pass()
	w.expect(map[string]string{"there": "a", "other": "a"})
	w.rebound = false
	w.sleep(time.Minute)
	w.pass()
	w.expect(map[string]string{"there": "a"})
}
