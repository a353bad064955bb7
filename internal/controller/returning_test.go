package controller

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestReturning: a workload that has fallen back returns once its better group has had a place for it for returnAfter, without a
// break.
func TestReturning(t *testing.T) {
	const after = 10 * time.Minute
	own := v1alpha1.ClusterGroup{
		Name: "own", ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"own"}}, ReturnAfter: &metav1.Duration{Duration: after},
	}
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("own", "2"), testCluster("rented", "100")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{
		NumberOfClusters: ptr.To(intstr.FromInt32(1)), Fallback: []v1alpha1.ClusterGroup{own, {Name: "any"}},
	})}
	first, second := testWorkload("first", 2000), testWorkload("second", 2000)
	w.workloads = []*workloadObject{first, second}
	w.pass()
	w.expect(map[string]string{"first": "own", "second": "rented"})

	pass := func(later time.Duration, want string) {
		t.Helper()
		w.sleep(later)
		w.pass()
		w.expect(map[string]string{"second": want})
	}
	w.workloads = []*workloadObject{second}
	pass(0, "rented")
	pass(after-time.Second, "rented")
	// The group has no place for a moment: the time begins anew.
	w.clusters[0] = testCluster("own", "1")
	pass(time.Second, "rented")
	w.clusters[0] = testCluster("own", "2")
	pass(after, "rented")
	pass(after-time.Second, "rented")
	pass(time.Second, "own")
}
