package snapshot_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

func cpu(quantity string) corev1.ResourceList {
	return corev1.ResourceList{"cpu": resource.MustParse(quantity)}
}

func TestCapacityOfRegistration(t *testing.T) {
	type status = v1alpha1.ClusterRegistrationStatus
	for _, test := range []struct {
		name    string
		status  status
		want    snapshot.Cluster
		invalid string
	}{
		{name: "nothing is reported"},
		{
			name: "all is reported",
			status: status{
				Allocatable: cpu("4"), Allocated: cpu("3"), LargestFree: cpu("500m"),
				Workloads: []v1alpha1.WorkloadUsage{{UID: "u", Requests: cpu("1")}, {UID: "v", Requests: cpu("500m")}, {UID: "u", Requests: cpu("1")}},
			},
			want: snapshot.Cluster{
				Allocatable: capacity.Resources{CPU: 4000}, Allocated: capacity.Resources{CPU: 3000}, LargestFree: &capacity.Resources{CPU: 500},
				Counted: map[string]capacity.Resources{"u": {CPU: 2000}, "v": {CPU: 500}},
			},
		},
		{
			name:   "no node has anything free",
			status: status{Allocatable: cpu("4"), LargestFree: corev1.ResourceList{}},
			want:   snapshot.Cluster{Allocatable: capacity.Resources{CPU: 4000}, LargestFree: &capacity.Resources{}},
		},
		{
			name:   "sums that differ by no more than rounding",
			status: status{Allocated: cpu("200u"), Workloads: []v1alpha1.WorkloadUsage{{UID: "u", Requests: cpu("100u")}, {UID: "v", Requests: cpu("100u")}}},
			want: snapshot.Cluster{
				Allocated: capacity.Resources{CPU: 1},
				Counted:   map[string]capacity.Resources{"u": {CPU: 1}, "v": {CPU: 1}},
			},
		},
		{name: "negative allocatable", status: status{Allocatable: cpu("-1")}, invalid: "status.allocatable.cpu: -1 is negative"},
		{name: "absurd allocated", status: status{Allocated: cpu("9E")}, invalid: "status.allocated.cpu: 9E is too large"},
		{name: "negative largest node", status: status{LargestFree: cpu("-1")}, invalid: "status.largestFree.cpu: -1 is negative"},
		{
			name:    "a workload that uses less than nothing",
			status:  status{Allocated: cpu("1"), Workloads: []v1alpha1.WorkloadUsage{{UID: "u"}, {UID: "v", Requests: cpu("-1")}}},
			invalid: "status.workloads[1].requests.cpu: -1 is negative",
		},
		{
			name:    "workloads that use more than all together",
			status:  status{Allocated: cpu("1"), Workloads: []v1alpha1.WorkloadUsage{{UID: "u", Requests: cpu("800m")}, {UID: "v", Requests: cpu("300m")}}},
			invalid: "status.workloads: request 1100m cpu in all, more than status.allocated, 1",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := snapshot.FromRegistration(&v1alpha1.ClusterRegistration{Status: test.status})
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
