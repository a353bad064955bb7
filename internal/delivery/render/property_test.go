package render_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery/render"
)

var (
	names  = rapid.SampledFrom([]string{"a", "b", "c"})
	spaces = rapid.SampledFrom([]string{"shop", "other"})
)

// drawObject draws an object of a small world, so that they often have to do with each other.
func drawObject(t *rapid.T) *unstructured.Unstructured {
	kind := rapid.SampledFrom([][2]string{
		{"v1", "ConfigMap"}, {"v1", "Secret"}, {"v1", "ServiceAccount"}, {"v1", "Service"}, {"serving.knative.dev/v1", "Service"},
		{"policy/v1", "PodDisruptionBudget"}, {"autoscaling/v2", "HorizontalPodAutoscaler"}, {"networking.k8s.io/v1", "Ingress"},
	}).Draw(t, "kind")
	o := object(kind[0], kind[1], names.Draw(t, "name"))
	o.SetNamespace(spaces.Draw(t, "namespace"))
	if rapid.IntRange(0, 3).Draw(t, "labelled") == 0 {
		o.SetLabels(map[string]string{v1alpha1.LabelDeliverWith: names.Draw(t, "with")})
	}
	switch kind[1] {
	case "Service":
		o.Object["spec"] = map[string]any{"selector": drawLabels(t)}
	case "PodDisruptionBudget":
		o.Object["spec"] = map[string]any{"selector": rapid.SampledFrom([]any{
			nil, map[string]any{}, map[string]any{"matchLabels": drawLabels(t)},
			map[string]any{"matchExpressions": []any{map[string]any{"key": "x", "operator": "In", "values": []any{"a", "b"}}}},
			map[string]any{"matchExpressions": []any{map[string]any{"key": "x", "operator": "NotIn", "values": []any{"a", "b"}}}},
			map[string]any{"matchExpressions": []any{map[string]any{"key": "x", "operator": "Near"}}},
			map[string]any{"matchExpressions": []any{map[string]any{"key": "y", "operator": "Exists"}}},
			map[string]any{"matchExpressions": []any{map[string]any{"key": "x", "operator": "DoesNotExist"}}},
		}).Draw(t, "selector")}
	case "HorizontalPodAutoscaler":
		o.Object["spec"] = map[string]any{"scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": names.Draw(t, "target")}}
	case "ServiceAccount":
		o.Object["imagePullSecrets"] = []any{map[string]any{"name": names.Draw(t, "pulls")}}
	}
	return o
}

func drawLabels(t *rapid.T) map[string]any {
	all := map[string]any{}
	for _, key := range []string{"x", "y"} {
		if rapid.Bool().Draw(t, key) {
			all[key] = names.Draw(t, "value")
		}
	}
	return all
}

// drawWorkload draws a Deployment that refers to objects of that world.
func drawWorkload(t *rapid.T) *unstructured.Unstructured {
	w := object("apps/v1", "Deployment", names.Draw(t, "workload"))
	var volumes []any
	for i, name := range rapid.SliceOfN(names, 0, 3).Draw(t, "volumes") {
		volume := map[string]any{"name": fmt.Sprint(i), "configMap": map[string]any{"name": name}}
		if i > 0 {
			volume = map[string]any{"name": fmt.Sprint(i), "secret": map[string]any{"secretName": name, "optional": rapid.Bool().Draw(t, "optional")}}
		}
		volumes = append(volumes, volume)
	}
	w.Object["spec"] = map[string]any{"replicas": int64(2), "template": map[string]any{
		"metadata": map[string]any{"labels": drawLabels(t)},
		"spec": map[string]any{"volumes": volumes, "serviceAccountName": names.Draw(t, "account"), "containers": []any{
			map[string]any{"name": "main", "image": "nginx", "args": []any{"x"}},
		}},
	}}
	return w
}

// TestWith: after whatever has come and gone, what goes with a workload is what a look at every object would find, and what is
// missing is what it does not.
func TestWith(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		objects, all := render.NewObjects(workload.Kinds()), map[string]*unstructured.Unstructured{}
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			o := drawObject(t)
			kind := o.GroupVersionKind().GroupKind()
			at := kind.String() + " " + o.GetNamespace() + "/" + o.GetName()
			if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
				delete(all, at)
				objects.Delete(kind, o.GetNamespace(), o.GetName())
			} else {
				all[at] = o
				objects.Put(o)
			}
		}
		w := drawWorkload(t)
		needs, err := render.NeedsOf(workload.Kinds(), w)
		if err != nil {
			t.Fatal(err)
		}
		with, missing := objects.With(needs)
		var got, lacking []string
		for _, o := range with {
			got = append(got, o.GroupVersionKind().GroupKind().String()+" "+o.GetNamespace()+"/"+o.GetName())
		}
		for _, m := range missing {
			lacking = append(lacking, m.GroupKind.String()+" "+m.Namespace+"/"+m.Name)
		}
		slices.Sort(got)
		slices.Sort(lacking)
		want, wantLacking := lookAtAll(w, all)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(wantLacking, lacking); diff != "" {
			t.Errorf("missing: %s", diff)
		}
	})
}

// lookAtAll says what goes with a workload by looking at each object.
func lookAtAll(w *unstructured.Unstructured, all map[string]*unstructured.Unstructured) (with, missing []string) {
	template := w.Object["spec"].(map[string]any)["template"].(map[string]any)
	pod, _, _ := unstructured.NestedStringMap(template, "metadata", "labels")
	spec := template["spec"].(map[string]any)
	wanted := map[string]bool{} // whether it is needed
	account := "ServiceAccount shop/" + spec["serviceAccountName"].(string)
	wanted[account] = true
	volumes, _ := spec["volumes"].([]any)
	for _, v := range volumes {
		v := v.(map[string]any)
		if c, ok := v["configMap"].(map[string]any); ok {
			wanted["ConfigMap shop/"+c["name"].(string)] = true
		}
		if s, ok := v["secret"].(map[string]any); ok {
			at := "Secret shop/" + s["secretName"].(string)
			wanted[at] = wanted[at] || !s["optional"].(bool)
		}
	}
	if a := all[account]; a != nil {
		wanted["Secret shop/"+a.Object["imagePullSecrets"].([]any)[0].(map[string]any)["name"].(string)] = true
	}
	for at, needed := range wanted {
		if needed && all[at] == nil {
			missing = append(missing, at)
		}
	}
	for at, o := range all {
		_, goes := wanted[at]
		goes = goes || o.GetLabels()[v1alpha1.LabelDeliverWith] == w.GetName()
		spec, _ := o.Object["spec"].(map[string]any)
		switch kind, _, _ := strings.Cut(at, " "); kind {
		case "Service":
			selector, _, _ := unstructured.NestedStringMap(spec, "selector")
			goes = goes || len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(pod))
		case "PodDisruptionBudget.policy":
			if content, ok := spec["selector"].(map[string]any); ok {
				text, _ := json.Marshal(content)
				var selector metav1.LabelSelector
				_ = json.Unmarshal(text, &selector)
				compiled, err := metav1.LabelSelectorAsSelector(&selector)
				goes = goes || err == nil && compiled.Matches(labels.Set(pod))
			}
		case "HorizontalPodAutoscaler.autoscaling":
			goes = goes || spec["scaleTargetRef"].(map[string]any)["name"] == w.GetName()
		}
		if goes && o.GetNamespace() == w.GetNamespace() {
			with = append(with, at)
		}
	}
	slices.Sort(with)
	slices.Sort(missing)
	return with, missing
}

// drawPlacement draws overrides of which some fail.
func drawPlacement(t *rapid.T) *v1alpha1.WorkloadPlacement {
	p := &v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}}
	for range rapid.IntRange(0, 3).Draw(t, "overrides") {
		o := v1alpha1.Override{
			ImageRegistry: rapid.SampledFrom([]string{"", "mirror:5000"}).Draw(t, "registry"),
			Labels:        rapid.SampledFrom([]map[string]string{nil, {"x": "new"}, {"z": "new"}}).Draw(t, "labels"),
			Containers:    rapid.SampledFrom([][]v1alpha1.ContainerOverride{nil, {{Name: "main", Args: []string{"y"}}}}).Draw(t, "containers"),
		}
		for range rapid.IntRange(0, 2).Draw(t, "patches") {
			o.Patches = append(o.Patches, v1alpha1.ManifestPatch{
				Kind:       rapid.SampledFrom([]string{"", "Service", "Deployment"}).Draw(t, "kind"),
				Operations: []v1alpha1.PatchOperation{drawOperation(t)},
			})
		}
		p.Spec.Delivery.Overrides = append(p.Spec.Delivery.Overrides, o)
	}
	return p
}

func drawOperation(t *rapid.T) v1alpha1.PatchOperation {
	part := rapid.SampledFrom([]string{
		"spec", "template", "metadata", "labels", "replicas", "selector", "containers", "volumes", "0", "-", "name", "x", "paused", "image",
		"kind", "apiVersion", "resources", "requests", "cpu", "", "~1", "tmc.kcp.io~1workload-uid",
	})
	value := rapid.SampledFrom([]string{`1`, `"x"`, `{}`, `[]`, `true`, `{"name":"main","image":"x"}`, `{"requests":{"cpu":"5"}}`, `{"a":[1,{"b":null}]}`})
	return v1alpha1.PatchOperation{
		Op:    rapid.SampledFrom([]string{"add", "remove", "replace"}).Draw(t, "op"),
		Path:  "/" + strings.Join(rapid.SliceOfN(part, 1, 6).Draw(t, "path"), "/"),
		Value: &apiextensionsv1.JSON{Raw: []byte(value.Draw(t, "value"))},
	}
}

// TestManifests: whatever overrides say, the same input gives the same bytes and is not changed; what is delivered is the object
// that was to be, as often and as large as was decided, with the label by which its pods are counted.
func TestManifests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorkload(t)
		w.SetUID("u")
		w.SetLabels(map[string]string{"kcp.io/x": "y", "a": "b"})
		overrides, _ := render.CompileOverrides(drawPlacement(t))
		request := render.Request{
			Kinds: workload.Kinds(), Workload: w, With: []*unstructured.Unstructured{drawObject(t)},
			Changes: overrides.For(render.Cluster{Name: "lyon"}), Share: render.Share{"spec.replicas": 7},
		}
		before := w.DeepCopy()
		first, err := render.Manifests(request)
		again, errAgain := render.Manifests(request)
		if fmt.Sprint(err) != fmt.Sprint(errAgain) || !cmp.Equal(first, again) {
			t.Fatalf("%v %v\n%s", err, errAgain, cmp.Diff(first, again))
		}
		if diff := cmp.Diff(before, w); diff != "" {
			t.Fatalf("the workload is changed: %s", diff)
		}
		if err == nil && len(first) != 2 {
			t.Fatalf("%d manifests", len(first))
		}
		for _, m := range first {
			revision, err := render.Revision(&m)
			if err != nil || revision != m.Revision {
				t.Errorf("revision %s, is %s, %v", m.Revision, revision, err)
			}
			if m.WorkloadUID == "" {
				continue
			}
			var object unstructured.Unstructured
			if err := json.Unmarshal(m.Object.Raw, &object.Object); err != nil {
				t.Fatal(err)
			}
			read, err := workload.FromObject(&object)
			if err != nil {
				t.Fatal(err)
			}
			template, _, _ := unstructured.NestedString(object.Object, "spec", "template", "metadata", "labels", v1alpha1.LabelWorkloadUID)
			if read.String() != "Deployment shop/"+w.GetName() || object.GroupVersionKind() != (schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}) ||
				read.Replicas != 7 || !read.Requests.IsZero() || template != "u" {
				t.Errorf("delivered is %s", m.Object.Raw)
			}
		}
	})
}

// TestDivide: what is divided adds up, and what copies have stays.
func TestDivide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		completions := rapid.Int64Range(0, 1<<31-1).Draw(t, "completions")
		job := object("batch/v1", "Job", "j")
		job.Object["spec"] = map[string]any{"parallelism": int64(1), "completions": completions, "template": map[string]any{}}
		copies, parts := map[string]*v1alpha1.Manifest{}, map[string]int64{}
		for range 3 {
			replicas := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), rapid.Int32Range(0, 1<<31-1), 1, 5).Draw(t, "replicas")
			shares, left, err := render.Divide(workload.Kinds(), job, replicas, copies)
			if err != nil {
				t.Fatal(err)
			}
			var sum, kept int64
			added := false
			for cluster, share := range shares {
				part := share["spec.completions"]
				sum += part
				if _, found := parts[cluster]; found && copies[cluster] != nil {
					kept += part
					if part != parts[cluster] {
						t.Fatalf("%s had %d, has %d", cluster, parts[cluster], part)
					}
				} else {
					added = true
				}
				if share["spec.parallelism"] != int64(replicas[cluster]) {
					t.Fatalf("%s has %d, want %d", cluster, share["spec.parallelism"], replicas[cluster])
				}
			}
			if left > 0 && added || sum+left != completions && kept <= completions || sum > completions {
				t.Fatalf("%d are divided into %d and %d: %v", completions, sum, left, shares)
			}
			copies = map[string]*v1alpha1.Manifest{}
			for cluster, share := range shares {
				m, err := render.Workload(render.Request{Kinds: workload.Kinds(), Workload: job, Share: share})
				if err != nil {
					t.Fatal(err)
				}
				copies[cluster], parts[cluster] = &m, share["spec.completions"]
			}
		}
	})
}

// FuzzPatch: whatever a patch says, it ends with an object of the same identity, replicas and requests, or with an error.
func FuzzPatch(f *testing.F) {
	f.Add("/spec/template/spec/containers/-1", `{"a":1}`, "add", "/spec/a/-", "1")
	f.Add("/spec/template/spec/containers/0", "null", "remove", "/spec/template/spec/containers/0", "{}")
	f.Add("/spec/template/spec/containers/0/args/-", `[[[[]]]]`, "replace", "/spec/template/spec/containers/0/args/-2", "{}")
	w := object("apps/v1", "Deployment", "web")
	w.Object["spec"] = map[string]any{"replicas": int64(2), "template": map[string]any{"spec": map[string]any{"containers": []any{
		map[string]any{"name": "main", "args": []any{"x", "y"}, "resources": map[string]any{"requests": map[string]any{"cpu": "1"}}},
	}}}}
	f.Fuzz(func(t *testing.T, path, value, op, path2, value2 string) {
		var p v1alpha1.WorkloadPlacement
		p.Spec.Delivery.Overrides = []v1alpha1.Override{{Patches: []v1alpha1.ManifestPatch{{Operations: []v1alpha1.PatchOperation{
			{Op: "add", Path: path, Value: &apiextensionsv1.JSON{Raw: []byte(value)}}, {Op: op, Path: path2, Value: &apiextensionsv1.JSON{Raw: []byte(value2)}},
		}}}}}
		overrides, errs := render.CompileOverrides(&p)
		if len(errs) > 0 {
			return
		}
		m, err := render.Workload(render.Request{Kinds: workload.Kinds(), Workload: w, Changes: overrides.For(render.Cluster{})})
		if err != nil {
			if !strings.Contains(err.Error(), "operations[") {
				t.Errorf("no operation is named: %v", err)
			}
			return
		}
		var object unstructured.Unstructured
		if err := json.Unmarshal(m.Object.Raw, &object.Object); err != nil {
			t.Fatal(err)
		}
		read, err := workload.FromObject(&object)
		if err != nil || read.String() != "Deployment shop/web" || read.Replicas != 2 || read.Requests.Get("cpu") != 2000 {
			t.Errorf("%v %s", err, m.Object.Raw)
		}
	})
}
