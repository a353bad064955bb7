package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/internal/controller"
)

// TestBrake: a policy that moves forty workloads moves ten, says so, and ten more in the next interval. The annotation on the
// placement lets the others go at once.
func TestBrake(t *testing.T) {
	alone(t)
	budget := disruption.Budget{Percent: 10, Minimum: 10, Interval: 20 * time.Second}
	controller, err := startController(context.Background(), func(c *controller.Config) { c.Disruptions = budget })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(controller.stop)
	team := newTeam(t)
	team.apply(cluster("a", "64"), placement("app", "numberOfClusters: 1"))
	for i := range 40 {
		team.apply(deployment(fmt.Sprintf("w%02d", i), "app", "1"))
	}
	on := func(want string) {
		t.Helper()
		team.eventually("on a and b", want, func() string {
			count := map[string]int{}
			for _, clusters := range team.placed() {
				count[clusters]++
			}
			return fmt.Sprint(count["a"], count["b"])
		})
	}
	on("40 0")
	team.apply(cluster("b", "64"))
	team.apply(policies("move", "package placement.affinity\nterms contains {\"match\": {\"clusterNames\": [\"b\"]}, \"factor\": \"location\", \"required\": true}"))
	on("30 10")
	team.eventually("the condition", "False DisruptionsPaced: 10 workloads have lost a cluster, 30 wait for their turn: at most 10 within 20s in this workspace", func() string {
		told, _, _ := strings.Cut(team.condition("app", "DisruptionAllowed"), ", the next at")
		return told
	})
	team.eventually("the event", "1", func() string {
		list, err := team.client.Resource(events).Namespace("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		told := 0
		for i := range list.Items {
			e := as[corev1.Event](team, &list.Items[i])
			if e.Reason == "DisruptionsPaced" && e.InvolvedObject.Name == "app" && strings.Contains(e.Message, "10 workloads have lost a cluster, 30 wait") {
				told += int(max(e.Count, 1))
			}
		}
		return fmt.Sprint(told)
	})
	on("20 20")
	patch := fmt.Appendf(nil, `{"metadata": {"annotations": {%q: %q}}}`, v1alpha1.AnnotationDisruptions, v1alpha1.DisruptionsUnlimited)
	if _, err := team.client.Resource(placements).Namespace("default").Patch(t.Context(), "app", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	lifted := time.Now()
	on("0 40")
	if took := time.Since(lifted); took > budget.Interval {
		t.Errorf("lifting the brake took %s", took)
	}
	team.eventually("the condition", "True", func() string { return team.condition("app", "DisruptionAllowed") })
}
