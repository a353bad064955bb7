package kubernetes_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery/render"
	"github.com/kcp-placement/placement/test/kubernetes"
)

// delivered are objects in which servers and controllers write much.
const delivered = `
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: b}}
---
{apiVersion: v1, kind: Secret, metadata: {name: password}, stringData: {a: b}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web}, imagePullSecrets: [{name: password}]}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}}
---
{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web}, spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}}
---
{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web}, spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {
  serviceAccountName: web,
  containers: [{name: a, image: nginx, ports: [{containerPort: 80}], envFrom: [{configMapRef: {name: settings}}], env: [{name: P, valueFrom: {secretKeyRef: {name: password, key: a}}}]}],
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]}}}}
---
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web}, spec: {serviceName: headless, selector: {matchLabels: {app: web}}, volumeClaimTemplates: [{metadata: {name: x}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}], template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: nginx}]}}}}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: nginx}]}}}}
---
{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: nginx}]}}}}
---
{apiVersion: v1, kind: ReplicationController, metadata: {name: web}, spec: {selector: {app: web}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: nginx}]}}}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: web}, spec: {parallelism: 2, completions: 5, template: {spec: {restartPolicy: Never, containers: [{name: a, image: nginx}]}}}}
---
{apiVersion: batch/v1, kind: CronJob, metadata: {name: web}, spec: {schedule: "@daily", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: nginx}]}}}}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {automountServiceAccountToken: false, containers: [{name: a, image: nginx}]}}
`

// TestDelivered: objects as a server returns them, with all that it has added, are rendered so that another namespace takes them by
// server-side apply, with every field known; and once more without a change.
func TestDelivered(t *testing.T) {
	programs, err := kubernetes.Binaries(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	server, err := kubernetes.Start(t.Context(), kubernetes.Options{Programs: programs, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	client := dynamic.NewForConfigOrDie(server.Config())
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discovery.NewDiscoveryClientForConfigOrDie(server.Config())))
	resource := func(o *unstructured.Unstructured, namespace string) dynamic.ResourceInterface {
		mapping, err := mapper.RESTMapping(o.GroupVersionKind().GroupKind(), o.GroupVersionKind().Version)
		if err != nil {
			t.Fatal(err)
		}
		if mapping.Scope.Name() == meta.RESTScopeNameRoot {
			return client.Resource(mapping.Resource)
		}
		return client.Resource(mapping.Resource).Namespace(namespace)
	}
	for _, namespace := range []string{"workspace", "cluster"} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace}}}
		if _, err := resource(o, "").Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var all []*unstructured.Unstructured
	objects := render.NewObjects(workload.Kinds())
	for text := range strings.SplitSeq(delivered, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
			t.Fatal(err)
		}
		made, err := resource(o, "workspace").Create(t.Context(), o, metav1.CreateOptions{})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		objects.Put(made)
		all = append(all, made)
	}
	applied := map[string]bool{}
	for _, o := range all {
		if _, err := workload.Kinds().Find(o.GetAPIVersion(), o.GetKind()); err != nil {
			continue
		}
		needs, err := render.NeedsOf(workload.Kinds(), o)
		if err != nil {
			t.Fatal(err)
		}
		with, missing := objects.With(needs)
		if len(missing) > 0 {
			t.Error(missing)
		}
		manifests, err := render.Manifests(render.Request{Kinds: workload.Kinds(), Workload: o, With: with})
		if err != nil {
			t.Error(err)
		}
		for _, m := range manifests {
			var object unstructured.Unstructured
			if err := json.Unmarshal(m.Object.Raw, &object.Object); err != nil {
				t.Fatal(err)
			}
			object.SetNamespace("cluster")
			applied[object.GetKind()+"/"+object.GetName()] = true
			apply := func() *unstructured.Unstructured {
				content, err := json.Marshal(object.Object)
				if err != nil {
					t.Fatal(err)
				}
				force := true
				result, err := resource(&object, "cluster").Patch(t.Context(), object.GetName(), "application/apply-patch+yaml", content,
					metav1.PatchOptions{FieldManager: "placement-agent", Force: &force, FieldValidation: metav1.FieldValidationStrict})
				if err != nil {
					t.Fatalf("%s: %v", content, err)
				}
				return result
			}
			apply() // the second time the server itself corrects a field of PersistentVolumeClaims
			first := apply()
			if again := apply(); first.GetResourceVersion() != again.GetResourceVersion() {
				t.Errorf("applied again it changes: %s", cmp.Diff(first.Object, again.Object))
			}
			if uid := first.GetLabels()[v1alpha1.LabelWorkloadUID]; uid != string(m.WorkloadUID) {
				t.Errorf("label %q, want %q", uid, m.WorkloadUID)
			}
		}
	}
	if len(applied) != len(all) {
		t.Errorf("%d objects are applied, want %d: %v", len(applied), len(all), applied)
	}
}
