package e2e

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// withinCapacity reads the condition WithinCapacity of a cluster.
func (t *team) withinCapacity(cluster string) string {
	t.Helper()
	object, err := t.client.Resource(clusters).Get(t.Context(), cluster, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := conditions.Get(as[v1alpha1.ClusterRegistration](t, object), v1alpha1.WithinCapacityCondition)
	if c == nil {
		return "none"
	}
	return strings.Trim(fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), " :")
}

// TestShrunkCluster: a cluster whose capacity falls below what is promised is reported and takes no more; nothing is evicted.
func TestShrunkCluster(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("a", "4"), placement("app", "numberOfClusters: 1"), deployment("first", "app", "3"))
	team.expect("Deployment first", "a")
	resize := func(cpu string) {
		patch := fmt.Appendf(nil, `{"status": {"allocatable": {"cpu": %q}}}`, cpu)
		if _, err := team.client.Resource(clusters).Patch(t.Context(), "a", types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	resize("2")
	team.apply(deployment("second", "app", "500m"))
	team.eventually("WithinCapacity", "False Overcommitted: cpu: 0 in use and 3 promised of 2", func() string { return team.withinCapacity("a") })
	team.expect("Deployment first", "a")
	team.expect("Deployment second", "")
	resize("8")
	team.expect("Deployment second", "a")
	team.eventually("WithinCapacity", "True", func() string { return team.withinCapacity("a") })
}

// TestLargestReport: a report with the largest number of workloads passes all servers, and every workload in it counts.
func TestLargestReport(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	report := func(uid func(int) string) string {
		var workloads strings.Builder
		for i := range 10_000 {
			fmt.Fprintf(&workloads, ", {uid: %s, requests: {cpu: 1m, memory: 1Mi}}", uid(i))
		}
		return fmt.Sprintf(`
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterUsage
metadata: {name: a}
allocatable: {cpu: "12", memory: 64Gi}
allocated: {cpu: 10, memory: 10000Mi}
workloads: [%s]
`, workloads.String()[2:])
	}
	// The cluster says that it is full until the report is seen: what is decided before that is decided without it.
	team.apply(cluster("a", "9"), report(func(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }))
	team.eventually("WithinCapacity", "False Overcommitted: cpu: 10 in use and 0 promised of 9", func() string { return team.withinCapacity("a") })
	team.apply(cluster("a", "12"), placement("app", "numberOfClusters: 1"), deployment("first", "app", "1m"), deployment("second", "app", "2"))
	team.expect("Deployment first", "a")
	team.expect("Deployment second", "")
	// The first one's millicore is counted as in use, so there is room for the second.
	object, err := team.client.Resource(deployments).Namespace("default").Get(t.Context(), "first", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	team.apply(report(func(i int) string {
		if i == 0 {
			return string(object.GetUID())
		}
		return fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
	}))
	team.expect("Deployment second", "a")
}
