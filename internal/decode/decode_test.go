package decode_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

// api is a type that is read, with what decodes it.
type api struct {
	reflect.Type
	decode func(any) (any, decode.Problems)
}

func apiOf[T any]() api {
	return api{reflect.TypeFor[T](), func(content any) (any, decode.Problems) {
		result, problems := decode.To[T](content)
		return &result, problems
	}}
}

// apis are all types that are read from what others write.
var apis = []api{
	apiOf[v1alpha1.ClusterRegistration](), apiOf[v1alpha1.ClusterScore](), apiOf[v1alpha1.WorkloadPlacement](), apiOf[v1alpha1.PlacementDecision](), apiOf[v1alpha1.Work](),
	apiOf[corev1.ConfigMap](), apiOf[corev1.PodTemplateSpec](),
}

// place is the position of a value of some type in an API type. at returns an object with nothing but a value there.
type place struct {
	path string
	of   reflect.Type
	at   func(any) any
}

// places finds all values in a type by reflection: a field that is added to the API is found without anybody's doing.
func places(t reflect.Type) []place {
	var found []place
	unmarshaler := reflect.TypeFor[json.Unmarshaler]()
	var walk func(path string, t reflect.Type, at func(any) any)
	walk = func(path string, t reflect.Type, at func(any) any) {
		if path != "" {
			found = append(found, place{path, t, at})
		}
		switch {
		case reflect.PointerTo(t).Implements(unmarshaler):
		case t.Kind() == reflect.Pointer:
			found = found[:max(0, len(found)-1)] // what it points to is in the same place
			walk(path, t.Elem(), at)
		case t.Kind() == reflect.Struct:
			for i := range t.NumField() {
				f := t.Field(i)
				name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.Anonymous && strings.Contains(options, "inline") {
					for _, inner := range places(f.Type) {
						found = append(found, place{strings.TrimPrefix(path+"."+inner.path, "."), inner.of, func(v any) any { return at(inner.at(v)) }})
					}
				} else {
					walk(strings.TrimPrefix(path+"."+name, "."), f.Type, func(v any) any { return at(map[string]any{name: v}) })
				}
			}
		case t.Kind() == reflect.Map:
			walk(path+".k", t.Elem(), func(v any) any { return at(map[string]any{"k": v}) })
		case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
			walk(path+"[0]", t.Elem(), func(v any) any { return at([]any{v}) })
		}
	}
	walk("", t, func(v any) any { return v })
	return found
}

// TestEveryTypeIsGuarded: every type with its own parser has been reviewed. A new one fails here until somebody has checked what
// its parser does with hostile text.
func TestEveryTypeIsGuarded(t *testing.T) {
	own := map[string]bool{}
	for _, api := range apis {
		for _, p := range places(api.Type) {
			if reflect.PointerTo(p.of).Implements(reflect.TypeFor[json.Unmarshaler]()) {
				own[p.of.String()] = true
			}
		}
	}
	want := []string{"intstr.IntOrString", "resource.Quantity", "runtime.RawExtension", "v1.Duration", "v1.FieldsV1", "v1.JSON", "v1.Time"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(own))); diff != "" {
		t.Error(diff)
	}
}

// wrong are values that cannot be read into a type, the worst that anybody could think of first.
func wrong(t reflect.Type) []any {
	shapes := []any{map[string]any{"a": "b"}, []any{"a"}, "a", true, 1.5, int64(1) << 40}
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return append([]any{"1e-99999999", "1e99999999", "1E+00099999999", "1e-0099999999", strings.Repeat("9", 1<<20), "nonsense", ""}, shapes[:4]...)
	case reflect.TypeFor[metav1.Time]():
		return append([]any{"2026-01-01T00:00:00ZTwhatever", "2016-12-31T23:59:60Z", "2026-01-01T00:00:00+99:99", strings.Repeat("2", 1<<20), ""}, shapes...)
	case reflect.TypeFor[metav1.Duration]():
		return append([]any{"soon", "10", "1e9h", "99999999999999h", strings.Repeat("1h", 1<<19) + "x", ""}, shapes[0], true, 1.5)
	case reflect.TypeFor[metav1.FieldsV1](), reflect.TypeFor[runtime.RawExtension](), reflect.TypeFor[apiextensionsv1.JSON]():
		return nil // they take anything, and look at nothing
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		shapes = shapes[1:]
		if t.Name() == "IntOrString" {
			shapes = []any{map[string]any{}, []any{}, true, 1.5}
		}
	case reflect.Slice:
		shapes = append(shapes[:1], shapes[3:]...)
		if t.Elem().Kind() != reflect.Uint8 {
			shapes = append(shapes, "a")
		}
	case reflect.String:
		shapes = append(shapes[:2], shapes[3:]...)
	case reflect.Bool:
		shapes = append(shapes[:3], shapes[4:]...)
	case reflect.Int64:
		shapes = shapes[:5]
	}
	return shapes
}

// TestNothingIsWorse puts the worst values into every place of every type. Each is one problem that names the place, found at
// once: Kubernetes' own parser takes a minute for some.
func TestNothingIsWorse(t *testing.T) {
	for _, api := range apis {
		for _, p := range places(api.Type) {
			for _, value := range wrong(p.of) {
				start := time.Now()
				_, problems := api.decode(p.at(value))
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("%s: %.40v takes %s", p.path, value, took)
				}
				if len(problems) != 1 || problems[0].Field != p.path || len(problems.Error()) > 1000 {
					t.Errorf("%s %s: %.40v: %.200v", api.Name(), p.path, value, problems)
				}
			}
		}
	}
}

// TestTimes: what the API server takes for a time is one, in either case of its letters.
func TestTimes(t *testing.T) {
	want := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, text := range []string{"2026-01-01T00:00:00Z", "2026-01-01t00:00:00z", "2026-01-01T01:00:00+01:00", "2026-01-01t00:00:00.000z"} {
		if got, problems := decode.To[*metav1.Time](text); len(problems) > 0 || !got.Time.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, problems)
		}
	}
}

// TestOthersAreRead: the values around one that cannot be read are read.
func TestOthersAreRead(t *testing.T) {
	r, problems := decode.To[v1alpha1.ClusterRegistration](map[string]any{
		"metadata": map[string]any{"name": "a", "labels": map[string]any{"good": "x", "bad": int64(1), "no.w/orse": false}},
		"spec": map[string]any{"location": "eu", "capabilities": "none", "taints": []any{
			"k", map[string]any{"key": "k", "effect": "NoSchedule", "timeAdded": "soon"}, nil,
		}},
		"status": map[string]any{
			"allocatable":       map[string]any{"cpu": int64(4), "memory": "1e-99999999"},
			"lastHeartbeatTime": int64(3),
			"nodes":             map[string]any{"total": float64(3), "ready": int64(1) << 31},
		},
	})
	want := v1alpha1.ClusterRegistration{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"good": "x"}},
		Spec:       v1alpha1.ClusterRegistrationSpec{Location: "eu", Taints: []corev1.Taint{{}, {Key: "k", Effect: "NoSchedule"}, {}}},
		Status: v1alpha1.ClusterRegistrationStatus{
			Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4")}, Nodes: &v1alpha1.NodeCounts{Total: 3},
		},
	}
	if !equality.Semantic.DeepEqual(r, want) {
		t.Error(cmp.Diff(want, r))
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
	}
	wantProblems := []string{
		"metadata.labels.bad: must be a string, is the number 1",
		"metadata.labels[no.w/orse]: must be a string, is a boolean",
		"spec.capabilities: must be a list, is a string",
		"spec.taints[0]: must be an object, is a string",
		`spec.taints[1].timeAdded: "soon" is not a time as in RFC 3339`,
		"status.allocatable.memory: 1e-99999999 is out of proportion",
		"status.nodes.ready: must be an integer of 32 bits, is the number 2147483648",
		"status.lastHeartbeatTime: must be a time, is the number 3",
	}
	if diff := cmp.Diff(wantProblems, got); diff != "" {
		t.Error(diff)
	}
	if got := len(problems.In("spec.taints[0].timeAdded")); got != 1 {
		t.Errorf("%d problems above or below a path, want 1", got)
	}
	if got := len(problems.Outside("spec")); got != 5 {
		t.Errorf("%d problems outside of spec, want 5", got)
	}
}

// TestProblemsAreBounded: a million of them are as many as anybody reads.
func TestProblemsAreBounded(t *testing.T) {
	bad := map[string]any{}
	for i := range 1000 {
		bad[fmt.Sprintf("%0300d", i)] = int64(i)
	}
	_, problems := decode.To[corev1.ConfigMap](map[string]any{"data": bad})
	if len(problems) != 101 || len(problems.In("status.conditions")) == 0 || len(problems.Error()) > 2000 || !strings.HasSuffix(problems.Error(), "; and 98 more") {
		t.Errorf("%d problems: %s", len(problems), problems)
	}
}

// TestAsKubernetesDoes: what can be read is read as Kubernetes' converter reads it, field by field and all at once.
func TestAsKubernetesDoes(t *testing.T) {
	compare := func(api api, path string, content map[string]any) {
		want := reflect.New(api.Type).Interface()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, want); err != nil {
			t.Fatalf("%s %s: %v", api.Name(), path, err)
		}
		if got, problems := api.decode(content); len(problems) > 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s: %v\n%s", api.Name(), path, problems, cmp.Diff(want, got))
		}
	}
	for _, api := range apis {
		full := map[string]any{}
		for _, p := range places(api.Type) {
			for _, value := range right(p.of) {
				content := p.at(value).(map[string]any)
				compare(api, p.path, content)
				full = merge(full, content).(map[string]any)
			}
		}
		compare(api, "in full", full)
	}
}

// right are values of a type.
func right(t reflect.Type) []any {
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return []any{"1500m", " 4Gi", int64(3), 0.5, "1e3", nil}
	case reflect.TypeFor[metav1.Duration]():
		return []any{"10m", "1.5h"}
	case reflect.TypeFor[metav1.Time]():
		return []any{"2026-01-01T00:00:00.5Z", nil, "2026-01-01T00:00:00+02:00"}
	}
	switch t.Kind() {
	case reflect.String:
		return []any{"a", nil, "b"}
	case reflect.Bool:
		return []any{true}
	case reflect.Int32, reflect.Int64:
		return []any{int64(-7), float64(8)}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return []any{"YWJj"}
		}
		return []any{[]any{}, nil}
	case reflect.Map:
		return []any{map[string]any{}}
	case reflect.Struct:
		if t.Name() == "IntOrString" {
			return []any{"80%", int64(80)}
		}
	}
	return nil
}

func merge(a, b any) any {
	x, ok := a.(map[string]any)
	if y, too := b.(map[string]any); ok && too {
		for key, value := range y {
			x[key] = merge(x[key], value)
		}
		return x
	}
	if x, ok := a.([]any); ok && len(x) > 0 {
		if y, too := b.([]any); too && len(y) > 0 {
			return []any{merge(x[0], y[0])}
		}
		return x
	}
	if b == nil {
		return a
	}
	return b
}

func BenchmarkDecode(b *testing.B) {
	workloads := make([]any, 1000)
	for i := range workloads {
		workloads[i] = map[string]any{"uid": fmt.Sprint(i), "requests": map[string]any{"cpu": "1500m", "memory": "4Gi"}}
	}
	content := map[string]any{"metadata": map[string]any{"name": "a"}, "status": map[string]any{"workloads": workloads}}
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			_, _ = decode.To[v1alpha1.ClusterRegistration](content)
		}
	})
	b.Run("converter", func(b *testing.B) {
		for b.Loop() {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &v1alpha1.ClusterRegistration{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
