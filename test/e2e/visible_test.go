package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/test/kcp"
)

var bindings = schema.GroupVersionResource{Group: "apis.kcp.io", Version: "v1alpha2", Resource: "apibindings"}

// claim accepts or rejects permission claims in the team's binding, or removes them where the state is empty.
func (t *team) claim(state string, resources ...string) {
	t.Helper()
	api := t.client.Resource(bindings)
	binding, err := api.Get(t.Context(), kcp.Export, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	claims, _, err := unstructured.NestedSlice(binding.Object, "spec", "permissionClaims")
	if err != nil {
		t.Fatal(err)
	}
	claims = slices.DeleteFunc(claims, func(c any) bool {
		claim := c.(map[string]any)
		if !slices.Contains(resources, claim["resource"].(string)) {
			return false
		}
		claim["state"] = state
		return state == ""
	})
	// kcp writes its status meanwhile, which is no conflict: nobody else changes the spec.
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"permissionClaims": claims}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Patch(t.Context(), kcp.Export, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// paste runs the command that a condition ends with, as the team would.
func (t *team) paste(condition string) {
	t.Helper()
	_, command, found := strings.Cut(condition, "kubectl patch apibinding "+kcp.Export+" --type=json -p '")
	patch, _, closed := strings.Cut(command, "'")
	if !found || !closed || !json.Valid([]byte(patch)) {
		t.Fatalf("no command in %s", condition)
	}
	if _, err := t.client.Resource(bindings).Patch(t.Context(), kcp.Export, types.JSONPatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// versions are the resource versions of the decisions.
func (t *team) versions() map[string]string {
	t.Helper()
	list, err := t.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, slice := range list.Items {
		versions[slice.GetName()] = slice.GetResourceVersion()
	}
	return versions
}

// becomes waits until a condition begins as wanted, and returns it.
func (t *team) becomes(kind, want string) (condition string) {
	t.Helper()
	t.eventually(kind, want, func() string {
		condition = t.condition("app", kind)
		return condition[:min(len(condition), len(want))]
	})
	return condition
}

func job(name string) string {
	return fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: %s, namespace: default, labels: {app: app}}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none, resources: {requests: {cpu: "1"}}}]
`, name)
}

const toVirginia = `package placement.affinity

import rego.v1

terms contains {"match": {"clusterNames": ["virginia"]}, "factor": "affinity", "required": true, "reason": "policy"}`

// TestAWithdrawnClaimMovesNothing: a team's binding stops accepting the claims on Jobs and ConfigMaps, which looks as if both were
// deleted. Nothing is released, nothing moves, not even for a controller that starts meanwhile, and the conditions say what to do.
// The command that they name sets it right, and no decision is written in all that time.
func TestAWithdrawnClaimMovesNothing(t *testing.T) {
	for _, state := range []string{"Rejected", ""} {
		t.Run("claims"+state, func(t *testing.T) {
			team := newTeam(t)
			team.apply(cluster("frankfurt", "640"), cluster("virginia", "8"), placement("app", "numberOfClusters: 1"), policies("ours", toVirginia))
			team.eventually("the policy is read", "true", func() string {
				c, err := team.client.Resource(configMaps).Namespace("default").Get(t.Context(), "ours", metav1.GetOptions{})
				return fmt.Sprint(err == nil && strings.Contains(c.GetAnnotations()[v1alpha1.AnnotationPolicyStatus], "ok"))
			})
			team.apply(deployment("db", "app", "1"), job("train"), job("tune"))
			at := map[string]string{"Deployment db": "virginia", "Job train": "virginia", "Job tune": "virginia"}
			team.eventually("placed", fmt.Sprint(at), func() string { return fmt.Sprint(team.placed()) })
			team.becomes("Ready", "True")

			team.claim(state, "jobs", "configmaps")
			seen := team.becomes("WorkloadsVisible", "False ClaimNotAccepted: APIBinding tmc.kcp.io does not accept the permission claim on jobs.batch. 2 decided workloads")
			team.becomes("PoliciesReady", "False ClaimNotAccepted: the last good policies stay in force: APIBinding tmc.kcp.io does not accept the permission claim on configmaps")
			team.becomes("Ready", "False ClaimNotAccepted")
			team.apply(deployment("another", "app", "1")) // is decided by the policies that are in force
			team.expect("Deployment another", "virginia")
			at["Deployment another"] = "virginia"
			if err := current.Ready(); err != nil {
				t.Errorf("one tenant's edit makes the controller unready: %v", err)
			}

			current.stop()
			var err error
			if current, err = startController(context.Background()); err != nil {
				t.Fatal(err)
			}
			team.becomes("PoliciesReady", "False ClaimNotAccepted: nothing is decided until the policies can be read")
			team.apply(deployment("late", "app", "1"))
			time.Sleep(3 * time.Second)
			if got := team.placed(); !maps.Equal(got, at) {
				t.Errorf("placed %v", got)
			}
			team.delete(deployments, "default", "another") // what can be seen is gone when it goes
			delete(at, "Deployment another")
			team.eventually("placed", fmt.Sprint(at), func() string { return fmt.Sprint(team.placed()) })

			team.paste(seen)
			team.becomes("Ready", "True")
			at["Deployment late"] = "virginia"
			team.eventually("placed", fmt.Sprint(at), func() string { return fmt.Sprint(team.placed()) })
			team.delete(jobs, "default", "tune")
			delete(at, "Job tune")
			team.eventually("placed", fmt.Sprint(at), func() string { return fmt.Sprint(team.placed()) })
		})
	}
}

// TestAClaimThatComesAndGoes quickly writes no decision.
func TestAClaimThatComesAndGoes(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("a", "640"), cluster("b", "64"), placement("app", "numberOfClusters: 1"))
	for i := range 20 {
		team.apply(job(fmt.Sprint("j", i)))
	}
	team.eventually("placed", "20", func() string { return fmt.Sprint(len(team.placed())) })
	team.becomes("Ready", "True")
	before := team.versions()
	for i := range 5 {
		team.claim("Rejected", "jobs")
		time.Sleep(time.Duration(i) * 50 * time.Millisecond)
		team.claim("Accepted", "jobs")
		time.Sleep(time.Duration(i) * 20 * time.Millisecond)
	}
	time.Sleep(time.Second)
	team.becomes("Ready", "True")
	if after := team.versions(); !maps.Equal(after, before) {
		t.Errorf("decisions were written: %v, before %v", after, before)
	}
}

// TestManyThatAreDeletedAreReleased promptly.
func TestManyThatAreDeletedAreReleased(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("a", "640"), placement("app", "numberOfClusters: 1"))
	for i := range 100 {
		team.apply(job(fmt.Sprint("j", i)))
	}
	team.eventually("placed", "100", func() string { return fmt.Sprint(len(team.placed())) })
	if err := team.client.Resource(jobs).Namespace("default").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	team.eventually("placed", "0", func() string { return fmt.Sprint(len(team.placed())) })
	t.Logf("released within %s", time.Since(start).Round(time.Millisecond))
}

// TestWithoutTheClaimOnConfigMaps: a team that has never accepted it has no policies of its own, and is placed by the built-in ones.
func TestWithoutTheClaimOnConfigMaps(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.claim("", "configmaps", "statefulsets")
	team.apply(cluster("a", "64"), placement("app", "numberOfClusters: 1"), deployment("web", "app", "1"))
	team.expect("Deployment web", "a")
	team.becomes("PoliciesReady", "True")
	team.paste(team.becomes("WorkloadsVisible", "False ClaimNotAccepted: APIBinding tmc.kcp.io does not accept the permission claim on statefulsets.apps. 0 decided"))
	team.becomes("Ready", "True")
}

// TestAWorkspaceThatUnbinds loses the objects of the API, and the controller forgets it. It may bind the API again.
func TestAWorkspaceThatUnbinds(t *testing.T) {
	team := newTeam(t)
	team.apply(cluster("a", "64"), placement("app", "numberOfClusters: 1"), deployment("web", "app", "1"), job("train"))
	team.expect("Job train", "a")
	name := team.logicalCluster()
	binding, err := team.client.Resource(bindings).Get(t.Context(), kcp.Export, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := team.client.Resource(bindings).Delete(t.Context(), kcp.Export, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	team.eventually("the clusters that the controller knows of in the workspace", "0", func() string { return fmt.Sprint(len(current.engine.Snapshot(name).Rows())) })
	again := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding", "metadata": map[string]any{"name": kcp.Export}, "spec": binding.Object["spec"],
	}}
	team.eventually("bound again", "<nil>", func() string {
		_, err := team.client.Resource(bindings).Create(t.Context(), again.DeepCopy(), metav1.CreateOptions{})
		return fmt.Sprint(err)
	})
	team.eventually("placed again", "<nil>", func() string {
		for _, d := range []string{cluster("a", "64"), placement("app", "numberOfClusters: 1")} {
			if err := server.Apply(t.Context(), team.workspace, []byte(d)); err != nil {
				return err.Error()
			}
		}
		return "<nil>"
	})
	team.expect("Job train", "a")
	team.expect("Deployment web", "a")
}
