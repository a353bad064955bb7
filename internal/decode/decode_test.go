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
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/decode/decodetest"
)

// TestEveryTypeIsGuarded: every type with its own parser has been reviewed. A new one fails here until somebody has checked what
// its parser does with hostile text.
func TestEveryTypeIsGuarded(t *testing.T) {
	own := map[string]bool{}
	for _, api := range decodetest.Types {
		for _, p := range decodetest.Places(api.Type) {
			if reflect.PointerTo(p.Of).Implements(reflect.TypeFor[json.Unmarshaler]()) {
				own[p.Of.String()] = true
			}
		}
	}
	want := []string{"intstr.IntOrString", "resource.Quantity", "runtime.RawExtension", "v1.Duration", "v1.FieldsV1", "v1.JSON", "v1.MicroTime", "v1.Time"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(own))); diff != "" {
		t.Error(diff)
	}
}

// TestNothingIsWorse puts the worst values into every place of every type. Each is one problem that names the place, found at
// once: Kubernetes' own parser takes a minute for some.
func TestNothingIsWorse(t *testing.T) {
	for _, api := range decodetest.Types {
		for _, p := range decodetest.Places(api.Type) {
			for _, value := range decodetest.Wrong(p.Of) {
				start := time.Now()
				_, problems := api.Decode(p.At(value))
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("%s: %.40v takes %s", p.Path, value, took)
				}
				if len(problems) != 1 || problems[0].Field != p.Path || len(problems.Error()) > 1000 {
					t.Errorf("%s %s: %.40v: %.200v", api.Name(), p.Path, value, problems)
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
	compare := func(api decodetest.Type, path string, content map[string]any) {
		want := reflect.New(api.Type).Interface()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, want); err != nil {
			t.Fatalf("%s %s: %v", api.Name(), path, err)
		}
		if got, problems := api.Decode(content); len(problems) > 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s: %v\n%s", api.Name(), path, problems, cmp.Diff(want, got))
		}
	}
	for _, api := range decodetest.Types {
		full := map[string]any{}
		for _, p := range decodetest.Places(api.Type) {
			for _, value := range right(p.Of) {
				content := p.At(value).(map[string]any)
				compare(api, p.Path, content)
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
	case reflect.TypeFor[metav1.MicroTime]():
		return []any{"2026-01-01T00:00:00.500000Z", nil, "2026-01-01T00:00:00.000000+02:00"}
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
