package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

var plans = v1alpha1.SchemeGroupVersion.WithResource("rebalanceplans")

// TestRebalance: kubectl placement rebalance --apply leaves the least moves to the controller, which makes them, and says how far it is.
func TestRebalance(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("a", "8"), placement("app", "numberOfClusters: 1"))
	for i := range 4 {
		team.apply(deployment(fmt.Sprintf("w%d", i), "app", "1"))
		team.expect(fmt.Sprintf("Deployment w%d", i), "a")
	}
	team.apply(cluster("b", "8"))

	out := team.kubectlPlacement("rebalance", "--even", "--apply", "--wait")
	for _, want := range []string{"reached by 2 moves in 1 wave, and by no fewer moves", " created", "wave 1: 2 of 2 moved, 0 skipped; complete"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	on := map[string]int{}
	for _, clusters := range team.placed() {
		on[clusters]++
	}
	if fmt.Sprint(on) != "map[a:2 b:2]" {
		t.Errorf("placed %v", on)
	}

	// Once it is even there is nothing to leave to the controller.
	if out = team.kubectlPlacement("rebalance", "--even", "--apply"); !strings.Contains(out, "even use within 10 points: reached as it is") {
		t.Error(out)
	}
	list, err := team.client.Resource(plans).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d plans, %v", len(list.Items), err)
	}
	plan := as[v1alpha1.RebalancePlan](team, &list.Items[0])
	if len(plan.Spec.Moves) != 2 || plan.Spec.Moves[0].Workload.UID == "" || !plan.IsOver() {
		t.Errorf("plan %+v", plan)
	}

	// What a plan moves cannot be changed.
	plan.Spec.Moves[0].To = "elsewhere"
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"moves": plan.Spec.Moves}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := team.client.Resource(plans).Patch(t.Context(), plan.Name, types.MergePatchType, patch, metav1.PatchOptions{}); !apierrors.IsInvalid(err) ||
		!strings.Contains(err.Error(), "the moves of a plan cannot be changed") {
		t.Errorf("changing the moves: %v", err)
	}
}
