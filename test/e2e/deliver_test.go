package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

var works = v1alpha1.SchemeGroupVersion.WithResource("works")

// delivering is a cluster whose agent delivers.
func delivering(name string) string {
	return cluster(name, "8") + "  agentDelivery: {namespaceTemplate: \"{workspace}-{namespace}\"}\n"
}

// work lists what the Works of a cluster have, as "Deployment web, ConfigMap settings", by name.
func (t *team) work(cluster string) string {
	t.Helper()
	var all []string
	for _, w := range t.works(cluster) {
		for _, m := range w.Spec.Manifests {
			var object metav1.PartialObjectMetadata
			if err := json.Unmarshal(m.Object.Raw, &object); err != nil {
				t.Fatal(err)
			}
			all = append(all, object.Kind+" "+object.Name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (t *team) works(cluster string) (all []*v1alpha1.Work) {
	t.Helper()
	list, err := t.client.Resource(works).Namespace(v1alpha1.WorkNamespace(cluster)).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		all = append(all, as[v1alpha1.Work](t, &list.Items[i]))
	}
	return all
}

// carryOut has the Works of a cluster carried out, as an agent does.
func (t *team) carryOut(cluster string) {
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
			status.Manifests = append(status.Manifests, v1alpha1.ManifestStatus{
				ManifestReference: v1alpha1.ManifestReference{APIVersion: object.APIVersion, Kind: object.Kind, Namespace: object.Namespace, Name: object.Name, WorkloadUID: m.WorkloadUID},
				Revision:          m.Revision, Since: m.Since, Health: v1alpha1.HealthCurrent,
				Counts: &v1alpha1.WorkloadCounts{Desired: 1, Replicas: 1, Updated: 1, Ready: 1, Available: 1},
			})
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

func (t *team) finalizers(deployment string) string {
	t.Helper()
	object, err := t.client.Resource(deployments).Namespace("default").Get(t.Context(), deployment, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "gone"
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(object.GetFinalizers())
}

// field reads a field of an object in namespace default; empty if it is not set.
func (t *team) field(resource schema.GroupVersionResource, name string, path ...string) string {
	t.Helper()
	object, err := t.client.Resource(resource).Namespace("default").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	value, found, _ := unstructured.NestedFieldNoCopy(object.Object, path...)
	if !found {
		return ""
	}
	return fmt.Sprint(value)
}

// TestDeliver: what is decided stands in a Work of the cluster, with all that goes with it, and leaves it once it is deleted.
func TestDeliver(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(delivering("dublin"), placement("web"), `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: default}
data: {color: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: default}
stringData: {password: secret}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: default}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, maxReplicas: 3}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: default}
spec: {selector: {matchLabels: {app: web}}, maxUnavailable: 1}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: default}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: default}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: of-nobody, namespace: default}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers: [{name: main, image: none, envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: password}}]}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`)
	const everything = "ConfigMap settings, Deployment web, HorizontalPodAutoscaler web, PersistentVolumeClaim data, PodDisruptionBudget web, Secret password, Service web, ServiceAccount web"
	team.eventually("dublin is to have", everything, func() string { return team.work("dublin") })
	team.eventually("the Deployment has", "["+v1alpha1.FinalizerDelivery+"]", func() string { return team.finalizers("web") })

	// Nobody in the workspace may write what clusters are to run, its administrators neither.
	w := team.works("dublin")[0]
	in := team.client.Resource(works).Namespace(w.Namespace)
	for what, err := range map[string]error{
		"update": patched(in.Patch(t.Context(), w.Name, types.MergePatchType, []byte(`{"spec":{"workloads":7}}`), metav1.PatchOptions{})),
		"delete": in.Delete(t.Context(), w.Name, metav1.DeleteOptions{}),
		"create": patched(in.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "Work", "metadata": map[string]any{"name": "mine"}}}, metav1.CreateOptions{})),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s of a Work by an administrator of the workspace: %v", what, err)
		}
	}

	team.carryOut("dublin")
	team.eventually("the Deployment's replicas that are ready", "1", func() string { return team.field(deployments, "web", "status", "readyReplicas") })
	team.eventually("workloads that are delivered", "1", func() string { return team.field(placements, "web", "status", "delivered") })
	team.delete(deployments, "default", "web")
	team.eventually("dublin is to have", "", func() string { return team.work("dublin") })
	if finalizers := team.finalizers("web"); finalizers != "["+v1alpha1.FinalizerDelivery+"]" {
		t.Errorf("the Deployment is %s before it is gone from dublin", finalizers)
	}
	team.carryOut("dublin")
	team.eventually("the Deployment is", "gone", func() string { return team.finalizers("web") })
	team.eventually("Works of dublin", "0", func() string { return fmt.Sprint(len(team.works("dublin"))) })
}

// TestWithoutTheClaimOnSecrets: a team that does not accept the claim on Secrets is told so by the workloads that refer to one, and
// everything else is delivered.
func TestWithoutTheClaimOnSecrets(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.claim("Rejected", "secrets")
	team.apply(delivering("dublin"), placement("web"), `
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: default}
stringData: {password: secret}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: default}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: main, image: none, envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: password}}]}]
`)
	team.eventually("dublin is to have", "ConfigMap settings, Deployment web", func() string { return team.work("dublin") })
	team.eventually("the placement says so", "true", func() string {
		text := team.condition("web", "Delivered")
		return fmt.Sprint(strings.HasPrefix(text, "False ClaimNotAccepted: ") && strings.Contains(text, "Secret password") && strings.Contains(text, "kubectl patch apibinding") || text == "")
	})
	team.claim("Accepted", "secrets")
	team.eventually("dublin is to have", "ConfigMap settings, Deployment web, Secret password", func() string { return team.work("dublin") })

	// What cannot be seen is not gone.
	team.claim("Rejected", "secrets")
	team.apply(deployment("other", "web", "1"))
	team.eventually("dublin is to have", "ConfigMap settings, Deployment other, Deployment web, Secret password", func() string { return team.work("dublin") })
}

func patched(_ *unstructured.Unstructured, err error) error { return err }
