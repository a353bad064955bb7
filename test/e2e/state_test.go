package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/test/kubernetes"
)

// says has the agent of a cluster say how all workloads there fare.
func (t *team) says(cluster string, says v1alpha1.ManifestStatus) {
	t.Helper()
	for _, w := range t.works(cluster) {
		status := v1alpha1.WorkStatus{ObservedGeneration: w.Generation}
		for _, m := range w.Spec.Manifests {
			if m.WorkloadUID == "" {
				continue
			}
			var object metav1.PartialObjectMetadata
			if err := json.Unmarshal(m.Object.Raw, &object); err != nil {
				t.Fatal(err)
			}
			one := says
			one.ManifestReference = v1alpha1.ManifestReference{APIVersion: object.APIVersion, Kind: object.Kind, Namespace: object.Namespace, Name: object.Name, WorkloadUID: m.WorkloadUID}
			if one.Health != v1alpha1.HealthPending {
				one.Revision, one.Since = m.Revision, m.Since
			}
			status.Manifests = append(status.Manifests, one)
		}
		patch, err := json.Marshal(map[string]any{"status": status})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := t.client.Resource(works).Namespace(w.Namespace).Patch(t.Context(), w.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStateComesBack: kubectl says in the workspace how a Deployment fares on its two clusters, right throughout.
func TestStateComesBack(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	binary, err := kubernetes.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := server.WriteKubeconfig(team.workspace, kubeconfig); err != nil {
		t.Fatal(err)
	}
	run := func(program string, args ...string) string {
		text, err := exec.Command(program, append(args, "--kubeconfig", kubeconfig)...).CombinedOutput()
		if err != nil {
			return err.Error() + ": " + string(text)
		}
		return string(text)
	}
	rollout := func() string {
		return strings.TrimSpace(run(binary, "rollout", "status", "deployment/web", "--watch=false"))
	}
	ready := func(n int32) v1alpha1.ManifestStatus {
		health := v1alpha1.HealthInProgress
		if n == 2 {
			health = v1alpha1.HealthCurrent
		}
		return v1alpha1.ManifestStatus{Health: health, Counts: &v1alpha1.WorkloadCounts{Desired: 2, Replicas: 2, Updated: 2, Ready: n, Available: n}}
	}

	team.apply(delivering("dublin"), delivering("paris"), placement("web", "numberOfClusters: 2"), `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: none}]}
`)
	for _, c := range []string{"dublin", "paris"} {
		team.eventually(c+" is to have", "Deployment web", func() string { return team.work(c) })
	}
	const observed = "Waiting for deployment spec update to be observed..."
	team.says("dublin", ready(2)) // as many replicas as the spec asks for, on one cluster of two
	team.eventually("the decision says of dublin", "Current", func() string { return team.deliveredTo("dublin") })
	team.eventually("kubectl rollout status", observed, rollout)
	team.says("paris", ready(1))
	team.eventually("kubectl rollout status", `Waiting for deployment "web" rollout to finish: 3 of 4 updated replicas are available...`, rollout)
	team.says("paris", ready(2))
	team.eventually("kubectl rollout status", `deployment "web" successfully rolled out`, rollout)
	if text := run(binary, "wait", "--for=condition=Available", "deployment/web", "--timeout=5s"); !strings.Contains(text, "condition met") {
		t.Error(text)
	}
	if text := run(binary, "wait", "--for=condition=Delivered", "deployment/web", "--timeout=5s"); !strings.Contains(text, "condition met") {
		t.Error(text)
	}
	team.eventually("the placement is delivered", "True", func() string { return team.condition("web", v1alpha1.DeliveredCondition) })

	// Another generation, which paris refuses.
	if _, err := team.client.Resource(deployments).Namespace("default").Patch(t.Context(), "web", types.MergePatchType,
		[]byte(`{"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "other"}]}}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if text := rollout(); text != observed {
		t.Error(text)
	}
	generation := func(cluster string) func() string {
		return func() string { return string(team.works(cluster)[0].Spec.Manifests[0].Object.Raw) }
	}
	for _, c := range []string{"dublin", "paris"} {
		team.eventually(c+" is to have the other image", "true", func() string {
			return map[bool]string{true: "true"}[strings.Contains(generation(c)(), `"other"`)]
		})
	}
	team.says("dublin", ready(2))
	team.says("paris", v1alpha1.ManifestStatus{Health: v1alpha1.HealthPending, Wrong: true, Message: "exceeded quota: compute"})
	team.eventually("the Deployment is delivered", "False NotApplied: paris: exceeded quota: compute", func() string { return team.delivered("web") })
	team.eventually("the placement is delivered", "False NotApplied: Something is wrong with 1 of 1 workloads. Deployment default/web: paris: exceeded quota: compute",
		func() string { return team.condition("web", v1alpha1.DeliveredCondition) })
	team.eventually("an event says so", "NotDelivered", func() string {
		list, err := team.client.Resource(corev1.SchemeGroupVersion.WithResource("events")).Namespace("default").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=NotDelivered"})
		if err != nil || len(list.Items) == 0 {
			return ""
		}
		return "NotDelivered"
	})
	if text := run(cliProgram.build(t), "describe", "web"); !strings.Contains(text, "! works       applied on 1 of 2 clusters. paris: exceeded quota: compute") {
		t.Error(text)
	}
}

// delivered is what condition Delivered says of a Deployment.
func (t *team) delivered(name string) string {
	t.Helper()
	u, err := t.client.Resource(deployments).Namespace("default").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	object := struct {
		Status struct {
			Conditions []metav1.Condition
		}
	}{}
	content, err := json.Marshal(u.Object)
	if err == nil {
		err = json.Unmarshal(content, &object)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range object.Status.Conditions {
		if c.Type == v1alpha1.DeliveredCondition {
			return string(c.Status) + " " + c.Reason + ": " + c.Message
		}
	}
	return "nothing"
}

// deliveredTo is what the decisions say of the delivery to a cluster.
func (t *team) deliveredTo(cluster string) string {
	t.Helper()
	list, err := t.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		for _, d := range as[v1alpha1.PlacementDecision](t, &list.Items[i]).Decisions {
			for _, c := range d.Clusters {
				if c.Name == cluster && c.Delivery != nil {
					return string(c.Delivery.Health)
				}
			}
		}
	}
	return "nothing"
}
