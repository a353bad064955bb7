package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"

	kcpcache "github.com/kcp-dev/apimachinery/v2/pkg/cache"
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/decode/decodetest"
	"github.com/kcp-placement/placement/internal/panics"
)

type example struct {
	resource schema.GroupVersionResource
	example  string
}

// watched are all resources that informers are made for, with a kind of each and an example that has all that can hurt.
var watched = []example{
	{clusterResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: a, uid: u, labels: {l: v}, annotations: {kcp.io/cluster: w}, creationTimestamp: "2026-01-01T00:00:00Z", managedFields: [{manager: m, time: "2026-01-01T00:00:00Z"}]}
spec: {location: eu, capabilities: [{type: gpu, available: true, attributes: {model: a100}}], clusterEndpoint: {serverURL: "https://a", caBundle: YWJj}, taints: [{key: k, effect: NoSchedule, timeAdded: "2026-01-01T00:00:00Z"}]}
status:
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]
  allocatable: {cpu: "4", memory: 4Gi}
  allocated: {cpu: "1"}
  largestFree: {cpu: "1"}
  nodes: {total: 3, ready: 3, usable: 3}
  workloads: [{uid: u, requests: {cpu: "1"}}]
  lastHeartbeatTime: "2026-01-01T00:00:00Z"
`},
	{placementResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: a, namespace: ns, uid: u, annotations: {kcp.io/cluster: w}}
spec: {workloadSelector: {workloadTypes: [{apiVersion: apps/v1, kind: Deployment}], labelSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [b]}]}}, constraints: [{name: c, expression: "true"}], tolerations: [{key: k, tolerationSeconds: 3}], priority: 1, numberOfClusters: 1}
status: {conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}], selectedClusters: [a], workloads: 1}
`},
	{configResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementConfig
metadata: {name: cluster, uid: u, annotations: {kcp.io/cluster: w}}
spec: {suspend: true}
status: {conditions: [{type: Suspended, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]}
`},
	{planResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: RebalancePlan
metadata: {name: a, uid: u, annotations: {kcp.io/cluster: w}}
spec: {aim: even, suspend: true, limits: {moveTimeout: 5m, moreWaiting: 1}, moves: [{workload: {namespace: ns, apiVersion: apps/v1, kind: Deployment, name: d, uid: u}, from: a, to: b, wave: 1}]}
status: {conditions: [{type: Progressing, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}], startedAt: "2026-01-01T00:00:00Z", wave: 1, moves: 1, waves: [{wave: 1, startedAt: "2026-01-01T00:00:00Z"}], skippedMoves: [{from: a, to: b, wave: 1, reason: Twice}]}
`},
	{setResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterSet
metadata: {name: gold, uid: u, annotations: {kcp.io/cluster: w}}
spec: {clusterSelector: {labelSelector: {matchLabels: {tier: gold}}, clusterNames: [a]}, grants: [{name: shop, workspace: {path: "root:teams:shop"}, quota: {cpu: "4"}, clusterQuota: {cpu: "2"}, guaranteed: {cpu: "1"}, borrowingLimit: {cpu: "1"}, weight: 2}]}
status: {conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}], clusters: 1, grants: [{name: shop, path: "root:teams:shop", cluster: t, bound: true, quota: {cpu: "4"}, used: {cpu: "1"}, reserved: {cpu: "1"}, dominantShare: 250, waiting: 1}]}
`},
	{setBindingResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterSetBinding
metadata: {name: gold, uid: u, annotations: {kcp.io/cluster: w}}
spec: {clusterSet: gold, workspace: {cluster: p}}
status: {conditions: [{type: Bound, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}], summary: 1/1, quota: {cpu: "4"}, used: {cpu: "1"}, clusters: [{name: a, location: eu, ready: true, free: {cpu: "3"}}]}
`},
	{workResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: Work
metadata: {name: a, namespace: cluster-a, uid: u, annotations: {kcp.io/cluster: w}}
spec: {workloads: 1, manifests: [{revision: r, workloadUID: u, generation: 1, wave: 1, takeOver: true, object: {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}}]}
status: {observedGeneration: 1, applied: 1/1, failed: 1, manifests: [{apiVersion: v1, kind: ConfigMap, name: c, revision: r, health: Current, message: m, counts: {replicas: 1, startTime: "2026-01-01T00:00:00Z"}}], removing: [{apiVersion: v1, kind: ConfigMap, name: d, workloadUID: u}]}
`},
	{decisionResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementDecision
metadata: {name: a, namespace: ns, uid: u, annotations: {kcp.io/cluster: w}, ownerReferences: [{name: p, uid: u, controller: true}]}
placementName: p
count: 1
decisions: [{workload: {apiVersion: apps/v1, kind: Deployment, name: d, uid: u}, clusters: [{name: a, replicas: 1, reservationExpiredAt: "2026-01-01T00:00:00Z"}], reserved: {cpu: "1"}, decidedAt: "2026-01-01T00:00:00Z"}]
`},
	{configMapResource, `
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: ns, uid: u, annotations: {kcp.io/cluster: w}}
data: {a.rego: package placement}
binaryData: {a: YWJj}
immutable: false
`},
	{bindingResource, `
apiVersion: apis.kcp.io/v1alpha2
kind: APIBinding
metadata: {name: a, uid: u, annotations: {kcp.io/cluster: w}, managedFields: [{manager: m, operation: Update, time: "2026-01-01T00:00:00Z", fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:permissionClaims": {}}}}]}
spec: {reference: {export: {path: "root:placement", name: tmc.kcp.io}}, permissionClaims: [{group: apps, resource: deployments, verbs: [get], identityHash: h, state: Accepted, selector: {matchAll: true}}]}
status: {phase: Bound, boundResources: [{group: tmc.kcp.io, resource: works, storageVersions: [v1alpha1], schema: {name: works, UID: u, identityHash: h}}], appliedPermissionClaims: [{resource: configmaps, verbs: [get], selector: {matchAll: true}}], conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]}
`},
	{usageResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterUsage
metadata: {name: a, uid: u, annotations: {kcp.io/cluster: w}}
clusterUID: u
allocatable: {cpu: "4"}
allocated: {cpu: "1"}
workloads: [{uid: u, requests: {cpu: "1"}}]
`},
	{scoreResource, `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterScore
metadata: {name: a, uid: u, annotations: {kcp.io/cluster: w}}
clusterName: a
scores: [{name: carbon, value: 70}]
validUntil: "2026-01-01T00:00:00Z"
`},
	{limitRangeResource, `
apiVersion: v1
kind: LimitRange
metadata: {name: a, namespace: ns, uid: u, annotations: {kcp.io/cluster: w}}
spec: {limits: [{type: Container, max: {cpu: "4"}, min: {cpu: 1m}, default: {cpu: "1"}, defaultRequest: {cpu: 100m}, maxLimitRequestRatio: {cpu: "10"}}]}
`},
	{leaseResource, `
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: a, namespace: ns, uid: u, annotations: {kcp.io/cluster: w}}
spec: {holderIdentity: a, leaseDurationSeconds: 40, acquireTime: "2026-01-01T00:00:00.000000Z", renewTime: "2026-01-01T00:00:00.000000Z", leaseTransitions: 1, strategy: OldestEmulationVersion, preferredHolder: b}
`},
	{schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}, `
apiVersion: batch/v1
kind: Job
metadata: {name: a, namespace: ns, uid: u, annotations: {kcp.io/cluster: w}, deletionTimestamp: "2026-01-01T00:00:00Z"}
spec:
  parallelism: 2
  template:
    spec:
      overhead: {cpu: "1"}
      resources: {requests: {cpu: "1"}}
      initContainers: [{name: i, restartPolicy: Always, resources: {requests: {cpu: "1"}, limits: {cpu: "1"}}}]
      containers: [{name: c, resources: {requests: {cpu: "1"}, limits: {cpu: "1"}}}]
      volumes: [{emptyDir: {sizeLimit: 1Gi}}]
status: {conditions: [{type: Complete, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]}
`},
}

func parse(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(asJSON); err != nil {
		t.Fatal(err)
	}
	return u
}

// transformed is what an informer keeps of an object. It fails where an informer would, or would be held up.
func transformed(t testing.TB, resource schema.GroupVersionResource, u *unstructured.Unstructured) any {
	t.Helper()
	name := u.GetName()
	start := time.Now()
	kept, err := transform(resource, workload.Kinds(), true)(u)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("takes %s", took)
	}
	if err != nil {
		t.Fatalf("an error keeps the informer from syncing: %v", err)
	}
	if _, err := kcpcache.MetaClusterNamespaceKeyFunc(kept); err != nil {
		t.Fatalf("the informer cannot index %T: %v", kept, err)
	}
	if _, err := kcpcache.ClusterIndexFunc(kept); err != nil {
		t.Fatalf("the informer cannot index %T: %v", kept, err)
	}
	if got := kept.(interface{ GetName() string }).GetName(); got != name {
		t.Fatalf("the object is called %q, want %q", got, name)
	}
	if why := whyFailed(kept); why != "" {
		t.Fatal(why)
	}
	return kept
}

// whyFailed is the panic over an object, empty where there was none.
func whyFailed(kept any) string {
	switch kept := kept.(type) {
	case *partial:
		if why := kept.unreadable.Error(); strings.HasPrefix(why, "the controller fails on it: ") {
			return why
		}
	case *workloadObject:
		if panicked := (*panics.Error)(nil); errors.As(kept.err, &panicked) {
			return kept.err.Error()
		}
	}
	return ""
}

// mutate puts every value into every place of a JSON object, one at a time.
func mutate(content any, values []any, try func(path string)) {
	var walk func(path string, content any)
	walk = func(path string, content any) {
		set := func(path string, before any, put func(any)) {
			for _, value := range values {
				put(value)
				try(path)
			}
			put(before)
			walk(path, before)
		}
		switch content := content.(type) {
		case map[string]any:
			for key, before := range content {
				set(path+"."+key, before, func(value any) { content[key] = value })
			}
		case []any:
			for i, before := range content {
				set(fmt.Sprintf("%s[%d]", path, i), before, func(value any) { content[i] = value })
			}
		}
	}
	walk("", content)
}

// shownAs is the type of what is watched. Of the kinds of workload, a Job has all that is read of any.
func shownAs(t testing.TB, resource schema.GroupVersionResource) reflect.Type {
	t.Helper()
	kept := unwrap(transformed(t, resource, &unstructured.Unstructured{}))
	if _, isWorkload := kept.(*workloadObject); isWorkload {
		return reflect.TypeFor[batchv1.Job]()
	}
	return reflect.TypeOf(kept).Elem()
}

// TestTransformNeverFails puts the worst values into every place of every object that is watched. Whatever an object
// contains, an informer that fails over it, or takes a minute, stops all tenants.
func TestTransformNeverFails(t *testing.T) {
	var nested any = "deep"
	for range 1000 {
		nested = map[string]any{"a": []any{nested}}
	}
	worst := []any{
		"1e-99999999", "1E+0099999999", strings.Repeat("9", 1<<16), "2026-01-01t00:00:00z", "2026-01-01T00:00:00ZTx", "", "x",
		nil, true, int64(1) << 62, 1e300, -0.5, map[string]any{}, map[string]any{"a": "b"}, map[string]any{"": nil}, []any{}, []any{nil, "a", map[string]any{}}, nested,
	}
	for resource := range transforms {
		if of := shownAs(t, resource); !slices.ContainsFunc(decodetest.Types, func(one decodetest.Type) bool { return one.Type == of }) {
			t.Errorf("%s are watched, and nothing tries how %s is decoded", resource.Resource, of)
		}
		if !slices.ContainsFunc(watched, func(w example) bool { return w.resource == resource }) {
			t.Errorf("%s are watched, and no example has all that can hurt in one", resource.Resource)
		}
	}
	for _, w := range watched {
		t.Run(w.resource.Resource, func(t *testing.T) {
			u := parse(t, w.example)
			kept := transformed(t, w.resource, u.DeepCopy())
			if p, unreadable := kept.(*partial); unreadable {
				t.Fatal("the example must be sound: ", p.unreadable)
			}
			n := 0
			mutate(u.Object, worst, func(string) {
				n++
				// A list that an informer gets holds objects that have a name.
				transformed(t, w.resource, u.DeepCopy())
			})
			for _, p := range decodetest.Places(shownAs(t, w.resource)) { // also those that the example does not have
				for _, value := range append(decodetest.Wrong(p.Of), worst...) {
					n++
					u := &unstructured.Unstructured{Object: map[string]any{
						"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "metadata": map[string]any{"name": "a", "annotations": map[string]any{"kcp.io/cluster": "w"}},
					}}
					maps.Copy(u.Object, p.At(value).(map[string]any))
					transformed(t, w.resource, u)
				}
			}
			t.Logf("%d objects", n)
		})
	}
	for _, w := range watched { // what informers pass on beside objects
		if kept, err := transform(w.resource, workload.Kinds(), false)(cache.DeletedFinalStateUnknown{Key: "a"}); err != nil || kept != (cache.DeletedFinalStateUnknown{Key: "a"}) {
			t.Errorf("%v, %v", kept, err)
		}
		transformed(t, w.resource, &unstructured.Unstructured{})
		transformed(t, w.resource, &unstructured.Unstructured{Object: map[string]any{"metadata": nil}})
	}
}

// TestAPanicCostsTheObject that caused it. It is there, under the names that it is selected by, with the reason; nothing of what is decided on it
// or runs of it changes. One whose names cannot be read is not shown.
func TestAPanicCostsTheObject(t *testing.T) {
	fails := func(field string, f cache.TransformFunc) cache.TransformFunc {
		return func(content any) (any, error) {
			if u, ok := content.(*unstructured.Unstructured); ok && u.Object[field] != nil {
				panic("a bug")
			}
			return f(content)
		}
	}
	for _, w := range watched {
		f := transforms[w.resource]
		if f == nil {
			f = func(content any) (any, error) { return toWorkload(workload.Kinds(), true, content) }
		}
		sound := parse(t, w.example)
		sound.Object["broken"] = true
		for _, field := range []string{"broken", "metadata"} {
			kept, err := total(fails(field, f))(sound.DeepCopy())
			if err != nil {
				t.Fatalf("an error keeps the informer from syncing: %v", err)
			}
			if got, want := whyFailed(kept), "the controller fails on it: panic: a bug"; got != want {
				t.Errorf("%s: %q, want %q", w.resource.Resource, got, want)
			}
			if got, want := keyOfObject(kept.(metav1.Object)), keyOfObject(sound); got != want {
				t.Errorf("it is %s, want %s", got, want)
			}
			shown, _ := f(sound.DeepCopy())
			labels, as := unwrap(kept).(metav1.Object).GetLabels(), fmt.Sprintf("%T", unwrap(shown))
			if selected := fmt.Sprintf("%T", unwrap(kept)) == as; selected != (field == "broken") || selected && !maps.Equal(labels, sound.GetLabels()) {
				t.Errorf("%T with labels %v in place of %s, without %s", unwrap(kept), labels, as, field)
			}
			if w, ok := kept.(*workloadObject); ok {
				requests := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
				if counted := w.countedWith(requests); len(w.source.Manifest) > 0 || !errors.Is(counted.err, w.err) {
					t.Errorf("it is delivered as %s, and counted with defaults: %v", w.source.Manifest, counted.err)
				}
			}
		}
	}
}

// FuzzTransform: any JSON object, as any of the resources.
func FuzzTransform(f *testing.F) {
	for i, w := range watched {
		text, err := parse(f, w.example).MarshalJSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), string(text))
	}
	f.Add(byte(0), `{"metadata":{"name":"a"},"status":{"largestFree":{"cpu":"1e-99999999"},"conditions":[{"lastTransitionTime":"2026-01-01t00:00:00z"}]}}`)
	f.Fuzz(func(t *testing.T, which byte, text string) {
		var content map[string]any
		u := &unstructured.Unstructured{}
		if err := json.Unmarshal([]byte(`{"apiVersion":"v1","kind":"K"}`), &content); err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal([]byte(text), &content) != nil {
			return
		}
		again, err := json.Marshal(content)
		if err != nil || u.UnmarshalJSON(again) != nil {
			return // no informer gets it
		}
		transformed(t, watched[int(which)%len(watched)].resource, u)
	})
}

// TestReadAsFarAsPossible: a bad status does not lose the spec, a bad time not the taint that it is on.
func TestReadAsFarAsPossible(t *testing.T) {
	u := parse(t, watched[0].example)
	for _, change := range []struct {
		value any
		path  []string
	}{{"1e-99999999", []string{"status", "allocatable", "cpu"}}, {"yesterday", []string{"status", "lastHeartbeatTime"}}} {
		if err := unstructured.SetNestedField(u.Object, change.value, change.path...); err != nil {
			t.Fatal(err)
		}
	}
	taints, _, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "taints")
	taints.([]any)[0].(map[string]any)["timeAdded"] = "yesterday"
	kept := transformed(t, clusterResource, u).(*partial)
	want := `spec.taints[0].timeAdded: "yesterday" is not a time as in RFC 3339; status.allocatable.cpu: 1e-99999999 is out of proportion; ` +
		`status.lastHeartbeatTime: "yesterday" is not a time as in RFC 3339`
	if got := kept.unreadable.Error(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	r := kept.Object.(*v1alpha1.ClusterRegistration)
	if r.Spec.Location != "eu" || r.Spec.Taints[0].Key != "k" || r.Status.Allocatable.Memory().String() != "4Gi" || len(r.Status.Conditions) != 1 {
		t.Errorf("%+v", r)
	}
	unreadable := map[types.UID]decode.Problems{}
	if got := as[*v1alpha1.ClusterRegistration]([]any{kept, r, 3}, unreadable); len(got) != 2 || got[0] != r || len(unreadable["u"]) != 3 {
		t.Errorf("%v, %v", got, unreadable)
	}
}

// TestLowerCaseTimes: what the API server takes for a time costs nothing.
func TestLowerCaseTimes(t *testing.T) {
	text := strings.NewReplacer("01T00", "01t00", "00Z", "00z").Replace(watched[0].example)
	r, whole := transformed(t, clusterResource, parse(t, text)).(*v1alpha1.ClusterRegistration)
	if !whole || r.Status.LastHeartbeatTime.Year() != 2026 || r.Spec.Taints[0].TimeAdded.Year() != 2026 {
		t.Errorf("%+v", r)
	}
}

// TestStoredDecisions: of a slice with a decision that cannot be read, the others are.
func TestStoredDecisions(t *testing.T) {
	u := parse(t, `
apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementDecision
metadata: {name: p-0, namespace: ns}
placementName: p
count: 5
decisions:
- {workload: {name: good}, reserved: {cpu: "1"}, decidedAt: "2026-01-01T00:00:00Z"}
- {workload: {name: dear}, reserved: {cpu: "1e-99999999"}, decidedAt: "2026-01-01T00:00:00Z"}
- {workload: {name: late}, decidedAt: "soon"}
- nonsense
- {workload: {name: fine}, decidedAt: "2026-01-01t00:00:00z"}
`)
	d := storedDecisions(context.Background(), u)
	var names []string
	for _, decision := range d.Decisions {
		names = append(names, decision.Workload.Name)
	}
	if diff := cmp.Diff([]string{"good", "fine"}, names); diff != "" || d.PlacementName != "p" || d.Name != "p-0" {
		t.Errorf("%s%+v", diff, d)
	}
	if len(u.Object["decisions"].([]any)) != 5 {
		t.Error("the object itself must stay as it was")
	}
}

// TestUnreadableDecisionIsMadeAnew: it delays no other decision, and the stored slice is corrected.
func TestUnreadableDecisionIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000), testWorkload("x", 1000)}
	w.pass()
	w.show()
	for name, stored := range w.stored { // w cannot be read, so it is not listed
		cut := stored.DeepCopy()
		cut.Decisions = slices.DeleteFunc(cut.Decisions, func(d v1alpha1.WorkloadDecision) bool { return d.Workload.Name == "w" })
		w.stored[name] = cut
	}
	w.restart()
	w.workloads = w.workloads[1:] // and nobody needs it any more
	w.pass()
	w.expect(map[string]string{"x": "a"})
	for _, stored := range w.stored {
		if int(stored.Count) != len(stored.Decisions) {
			t.Errorf("the decision that cannot be read is still stored: %d of %d", len(stored.Decisions), stored.Count)
		}
	}
}

// TestUnreadableRegistration: what runs on the cluster stays, nothing is placed there, and its owner reads why.
func TestUnreadableRegistration(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	w.pass()
	w.show()
	w.expect(map[string]string{"w": "a"})
	broken := w.clusters[0].DeepCopy()
	broken.Status.Allocatable, broken.ResourceVersion, broken.UID = nil, "9", "a"
	w.clusters[0] = broken
	w.unreadable = map[types.UID]decode.Problems{broken.UID: {{Field: "status.allocatable", Message: "must be an object, is a string"}}}
	w.workloads = append(w.workloads, testWorkload("x", 1000))
	w.pass()
	w.show()
	w.pass()
	w.expect(map[string]string{"w": "a", "x": "b"})
	if want := "a: InvalidRegistration: no workloads are placed here: status.allocatable: must be an object, is a string"; !slices.Contains(w.events, want) {
		t.Errorf("%q, want %q among them", w.events, want)
	}
}

// TestUnreadablePlacement: its workloads keep what they have, even where it is not known what it selects, and its condition
// says why.
func TestUnreadablePlacement(t *testing.T) {
	for _, problem := range []decode.Problem{
		{Field: "spec.priority", Message: "must be an integer of 32 bits, is the number 4294967296"},
		{Field: "spec.workloadSelector.labelSelector", Message: "must be an object, is a list"},
		{Field: "spec", Message: "must be an object, is a list"},
	} {
		t.Run(problem.Field, func(t *testing.T) {
			w := newWorld(t)
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8")}
			w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
			w.workloads = []*workloadObject{testWorkload("w", 1000)}
			w.pass()
			w.show()
			broken := w.placements[0].DeepCopy()
			broken.ResourceVersion, broken.Spec.WorkloadSelector = "9", v1alpha1.WorkloadSelector{WorkloadTypes: []v1alpha1.WorkloadType{{Kind: "None"}}}
			if problem.Field == "spec.priority" {
				broken.Spec.WorkloadSelector = w.placements[0].Spec.WorkloadSelector
			}
			w.placements[0] = broken
			w.unreadable = map[types.UID]decode.Problems{broken.UID: {problem, {Field: "status.conditions[0]", Message: "which is ours to write"}}}
			w.workloads = append(w.workloads, testWorkload("x", 1000))
			w.pass()
			w.expect(map[string]string{"w": "a"})
			if got, want := w.condition(v1alpha1.ConstraintsValidCondition), "False InvalidSpec: "+problem.Error(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// TestUnreadableConfigMap: the policies in force stay, and the placements' conditions say why.
func TestUnreadableConfigMap(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	w.pass()
	w.show()
	configMap := &corev1.ConfigMap{}
	configMap.Namespace, configMap.Name, configMap.UID = "default", "broken", "broken"
	w.configMaps = []*corev1.ConfigMap{configMap}
	w.unreadable = map[types.UID]decode.Problems{"broken": {{Field: "data", Message: "must be an object, is a list"}}}
	w.workloads = append(w.workloads, testWorkload("x", 1000))
	if err := w.reconcile(); err != nil {
		t.Fatal(err)
	}
	w.expect(map[string]string{"w": "a", "x": "a"})
	want := "False PolicyError: the last good policies stay in force: default/broken/:1:1: unreadable: data: must be an object, is a list"
	if got := w.condition(v1alpha1.PoliciesReadyCondition); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestReplacementsLeaveNothingBehind: what was written of a status before is gone once the next is written, though that is sent as a merge
// patch and has fields that are left out where they are empty.
func TestReplacementsLeaveNothingBehind(t *testing.T) {
	replaces(t, v1alpha1.ClusterDrainStatus{Remaining: 1, Leaving: 2, Workloads: []v1alpha1.DrainedWorkload{{Namespace: "default"}}})
	replaces(t, v1alpha1.RebalancePlanStatus{
		ObservedGeneration: 1, StartedAt: &metav1.Time{Time: time.Unix(1, 0)}, WaitingBefore: 2, Wave: 3, Moves: 4, Moved: 5, Skipped: 6,
		Conditions: conditionsv1alpha1.Conditions{{Type: "Any"}}, Waves: []v1alpha1.RebalanceWave{{Wave: 1}}, SkippedMoves: []v1alpha1.SkippedMove{{}},
	})
}

// replaces replaces a value that has all fields by one that has none, and by nil.
func replaces[T any](t *testing.T, full T) {
	t.Helper()
	for i, of := 0, reflect.ValueOf(full); i < of.NumField(); i++ {
		field, kind := of.Type().Field(i), of.Field(i).Kind()
		if of.Field(i).IsZero() {
			t.Errorf("%T: %s is empty", full, field.Name)
		}
		if (kind == reflect.Struct || kind == reflect.Map || kind == reflect.Pointer) && field.Type != reflect.TypeFor[*metav1.Time]() {
			t.Errorf("%T: %s has fields of its own, which a replacement would leave behind", full, field.Name)
		}
	}
	before, err := json.Marshal(map[string]any{"field": full})
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []*T{new(T), nil} {
		value, err := replacement(next)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := json.Marshal(map[string]any{"field": value})
		if err != nil {
			t.Fatal(err)
		}
		after, err := jsonpatch.MergePatch(before, patch)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Field *T }
		if err := json.Unmarshal(after, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(next, got.Field); diff != "" {
			t.Errorf("%T: %s", full, diff)
		}
	}
}
