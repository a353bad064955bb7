package snapshot_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

func cpu(quantity string) corev1.ResourceList {
	return corev1.ResourceList{"cpu": resource.MustParse(quantity)}
}

func TestCapacityOfRegistration(t *testing.T) {
	type status = v1alpha1.ClusterRegistrationStatus
	type usage = v1alpha1.ClusterUsage
	for _, test := range []struct {
		name    string
		status  status
		usage   *usage
		want    snapshot.Cluster
		invalid string
	}{
		{name: "nothing is reported"},
		{
			name:   "no usage",
			status: status{Allocatable: cpu("4"), Allocated: cpu("3"), LargestFree: cpu("500m")},
			want: snapshot.Cluster{
				Allocatable: capacity.Resources{CPU: 4000}, Allocated: capacity.Resources{CPU: 3000}, LargestFree: &capacity.Resources{CPU: 500},
			},
		},
		{
			name:   "all is reported: of allocated, that of the usage counts",
			status: status{ClusterUID: "c", Allocatable: cpu("4"), Allocated: cpu("1"), LargestFree: cpu("500m")},
			usage: &usage{
				ClusterUID: "c", Allocatable: cpu("4"), Allocated: cpu("3"),
				Workloads: []v1alpha1.WorkloadUsage{{UID: "u", Requests: cpu("1")}, {UID: "v", Requests: cpu("500m")}, {UID: "u", Requests: cpu("1")}},
			},
			want: snapshot.Cluster{
				Allocatable: capacity.Resources{CPU: 4000}, Allocated: capacity.Resources{CPU: 3000}, LargestFree: &capacity.Resources{CPU: 500},
				Counted: map[string]capacity.Resources{"u": {CPU: 2000}, "v": {CPU: 500}},
			},
		},
		{
			name:   "a usage that nobody has written yet leaves nothing to use",
			status: status{Allocatable: cpu("4"), Allocated: cpu("1")}, usage: &usage{},
			want: snapshot.Cluster{Counted: map[string]capacity.Resources{}},
		},
		{
			name:   "no node has anything free",
			status: status{Allocatable: cpu("4"), LargestFree: corev1.ResourceList{}},
			want:   snapshot.Cluster{Allocatable: capacity.Resources{CPU: 4000}, LargestFree: &capacity.Resources{}},
		},
		{
			name:  "sums that differ by no more than rounding",
			usage: &usage{Allocated: cpu("200u"), Workloads: []v1alpha1.WorkloadUsage{{UID: "u", Requests: cpu("100u")}, {UID: "v", Requests: cpu("100u")}}},
			want: snapshot.Cluster{
				Allocated: capacity.Resources{CPU: 1},
				Counted:   map[string]capacity.Resources{"u": {CPU: 1}, "v": {CPU: 1}},
			},
		},
		{name: "negative allocatable", status: status{Allocatable: cpu("-1")}, invalid: "status.allocatable.cpu: -1 is negative"},
		{name: "absurd allocated", status: status{Allocated: cpu("9E")}, invalid: "status.allocated.cpu: 9E is too large"},
		{name: "negative largest node", status: status{LargestFree: cpu("-1")}, invalid: "status.largestFree.cpu: -1 is negative"},
		{name: "negative allocatable of the usage", usage: &usage{Allocatable: cpu("-1")}, invalid: "ClusterUsage: allocatable.cpu: -1 is negative"},
		{name: "absurd allocated of the usage", usage: &usage{Allocated: cpu("9E")}, invalid: "ClusterUsage: allocated.cpu: 9E is too large"},
		{
			name:    "a workload that uses less than nothing",
			usage:   &usage{Allocated: cpu("1"), Workloads: []v1alpha1.WorkloadUsage{{UID: "u"}, {UID: "v", Requests: cpu("-1")}}},
			invalid: "ClusterUsage: workloads[1].requests.cpu: -1 is negative",
		},
		{
			name:    "workloads that use more than all together",
			usage:   &usage{Allocated: cpu("1"), Workloads: []v1alpha1.WorkloadUsage{{UID: "u", Requests: cpu("800m")}, {UID: "v", Requests: cpu("300m")}}},
			invalid: "ClusterUsage: workloads: request 1100m cpu in all, more than allocated, 1",
		},
		{
			name:    "two clusters under one name",
			status:  status{ClusterUID: "new"},
			usage:   &usage{ClusterUID: "old"},
			invalid: `ClusterUsage: clusterUID: "old" is not the cluster of the registration, "new"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := snapshot.FromRegistration(&v1alpha1.ClusterRegistration{Status: test.status}, test.usage)
			if got.Invalid != test.invalid {
				t.Fatalf("invalid %q, want %q", got.Invalid, test.invalid)
			}
			if test.invalid != "" {
				return
			}
			got.Capabilities, got.Conditions = nil, nil
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReportsOutOfOrder: status and usage are two objects, and may come from two reports. Whichever is seen first, no more is
// free than in the report that usage is from. A lost node takes its pods and its capacity with it: if allocatable were taken
// only from the status, a full cluster would look half empty until that is seen too.
func TestReportsOutOfOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type report struct{ allocatable, allocated int64 }
		milli := func(n int64) corev1.ResourceList {
			return corev1.ResourceList{"cpu": *resource.NewMilliQuantity(n, resource.DecimalSI)}
		}
		draw := func(name string) report {
			return report{rapid.Int64Range(0, 100).Draw(t, name+" allocatable"), rapid.Int64Range(0, 100).Draw(t, name+" allocated")}
		}
		status, usage := draw("status"), draw("usage")
		c := snapshot.FromRegistration(
			&v1alpha1.ClusterRegistration{Status: v1alpha1.ClusterRegistrationStatus{Allocatable: milli(status.allocatable), Allocated: milli(status.allocated)}},
			&v1alpha1.ClusterUsage{Allocatable: milli(usage.allocatable), Allocated: milli(usage.allocated)})
		free := c.Allocatable.Sub(c.Allocated).CPU
		if most := usage.allocatable - usage.allocated; free > most {
			t.Fatalf("%d free, %d by the report that usage is from", free, most)
		}
		if status == usage && free != usage.allocatable-usage.allocated {
			t.Fatalf("%d free of %v", free, usage)
		}
	})
}
