package render_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery/render"
)

// TestRender runs the stories in testdata. Their commands are:
//
//	objects                                           the input are the objects of the workspace, and the workload is the first
//	                                                  one that is of a kind of workload
//	overrides                                         the input is spec.delivery.overrides
//	with                                              what goes with the workload, and what is missing
//	divide lyon=2 oslo=1                              the numbers in the manifest of each of these clusters, which already have those
//	                                                  of the divide before
//	render [cluster=X] [location=Y] [replicas=N] [only=Kind]  what a cluster gets, where nothing is divided; N are decided
func TestRender(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			if err := s.run(t, d, &out); err != nil {
				fmt.Fprintf(&out, "error: %v\n", err)
			}
			return out.String()
		})
	})
}

// story is a workspace with one workload that matters.
type story struct {
	objects   *render.Objects
	workload  *unstructured.Unstructured
	overrides *render.Overrides
	// copies are the manifests that clusters have.
	copies map[string]*v1alpha1.Manifest
}

func (s *story) run(t *testing.T, d *datadriven.TestData, out io.Writer) error {
	switch d.Cmd {
	case "objects":
		*s = story{objects: render.NewObjects(workload.Kinds())}
		for _, object := range parse(t, d.Input) {
			if _, err := workload.Kinds().Find(object.GetAPIVersion(), object.GetKind()); err == nil && s.workload == nil {
				s.workload = object
				object.SetUID(types.UID("uid-of-" + object.GetName()))
				object.SetGeneration(3)
			} else {
				s.objects.Put(object)
			}
		}
		return nil
	case "overrides":
		var placement v1alpha1.WorkloadPlacement
		placement.Namespace, placement.Name = "shop", "europe"
		if err := yaml.UnmarshalStrict([]byte(d.Input), &placement.Spec.Delivery.Overrides); err != nil {
			t.Fatal(err)
		}
		compiled, errs := render.CompileOverrides(&placement)
		s.overrides = compiled
		for _, err := range errs {
			fmt.Fprintln(out, err)
		}
		return nil
	case "with":
		with, missing, err := s.with()
		for _, object := range with {
			fmt.Fprintf(out, "%s %s/%s\n", object.GetKind(), object.GetNamespace(), object.GetName())
		}
		for _, reference := range missing {
			fmt.Fprintf(out, "missing: %s\n", reference)
		}
		return err
	case "divide":
		return s.divide(t, d, out)
	case "render":
		return s.render(t, d, out)
	}
	t.Fatalf("%s: there is no command %s", d.Pos, d.Cmd)
	return nil
}

func (s *story) with() ([]*unstructured.Unstructured, []render.Reference, error) {
	needs, err := render.NeedsOf(workload.Kinds(), s.workload)
	if err != nil {
		return nil, nil, err
	}
	with, missing := s.objects.With(needs)
	return with, missing, nil
}

func (s *story) divide(t *testing.T, d *datadriven.TestData, out io.Writer) error {
	replicas := map[string]int32{}
	for _, arg := range d.CmdArgs {
		var n int32
		if _, err := fmt.Sscan(arg.Vals[0], &n); err != nil {
			t.Fatal(err)
		}
		replicas[arg.Key] = n
	}
	shares, _, err := render.Divide(workload.Kinds(), s.workload, replicas, s.copies)
	if err != nil {
		return err
	}
	s.copies = map[string]*v1alpha1.Manifest{}
	for _, cluster := range slices.Sorted(maps.Keys(shares)) {
		m, err := render.Workload(render.Request{Kinds: workload.Kinds(), Workload: s.workload, Share: shares[cluster]})
		if err != nil {
			return err
		}
		s.copies[cluster] = &m
		fmt.Fprintf(out, "%s:", cluster)
		var object unstructured.Unstructured
		if err := json.Unmarshal(m.Object.Raw, &object.Object); err != nil {
			t.Fatal(err)
		}
		for _, path := range slices.Sorted(maps.Keys(shares[cluster])) {
			n, _, _ := unstructured.NestedFieldNoCopy(object.Object, strings.Split(path, ".")...)
			fmt.Fprintf(out, " %s=%v", path, n)
		}
		fmt.Fprintln(out)
	}
	return nil
}

func (s *story) render(t *testing.T, d *datadriven.TestData, out io.Writer) error {
	var cluster, location, only string
	d.MaybeScanArgs(t, "cluster", &cluster)
	d.MaybeScanArgs(t, "location", &location)
	d.MaybeScanArgs(t, "only", &only)
	with, _, err := s.with()
	if err != nil {
		return err
	}
	request := render.Request{
		Kinds: workload.Kinds(), Workload: s.workload, With: with, WhenUnselected: v1alpha1.KeepUnselected,
		Changes: s.overrides.For(render.Cluster{Name: cluster, Location: location}),
	}
	if d.HasArg("replicas") {
		request.Replicas = new(int32)
		d.ScanArgs(t, "replicas", request.Replicas)
	}
	manifests, err := render.Manifests(request)
	for _, m := range manifests {
		write(t, out, m, only)
	}
	return err
}

// write writes what a manifest says as YAML, and the object after it.
func write(t *testing.T, out io.Writer, m v1alpha1.Manifest, only string) {
	var object unstructured.Unstructured
	if err := json.Unmarshal(m.Object.Raw, &object.Object); err != nil {
		t.Fatal(err)
	}
	if only != "" && object.GetKind() != only {
		return
	}
	m.Object.Raw, m.Revision = nil, ""
	says, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	content, err := yaml.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(out, "--- %s\n%s", says, content)
}

func parse(t *testing.T, text string) (all []*unstructured.Unstructured) {
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(text)), 4096)
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(object); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, object)
	}
}

// TestTooLarge: what does not fit into a Work is told in words, and the rest is delivered.
func TestTooLarge(t *testing.T) {
	w := object("apps/v1", "Deployment", "web")
	w.Object["spec"] = map[string]any{"template": map[string]any{}}
	large := object("v1", "ConfigMap", "large")
	large.Object["data"] = map[string]any{"a": strings.Repeat("x", 950<<10)}
	manifests, err := render.Manifests(render.Request{Kinds: workload.Kinds(), Workload: w, With: []*unstructured.Unstructured{large}})
	const want = "ConfigMap shop/large: it has 951 KiB as it is delivered, more than 896 KiB: make it smaller, or split it into several objects"
	if len(manifests) != 1 || err == nil || err.Error() != want {
		t.Errorf("%d manifests, %v; want %s", len(manifests), err, want)
	}
}

// TestTooMany: more objects than a Work lists are not delivered, and it is said what they are.
func TestTooMany(t *testing.T) {
	objects := render.NewObjects(workload.Kinds())
	for i := range render.MaxWith + 1 {
		o := object("v1", "ConfigMap", fmt.Sprint(i))
		o.SetLabels(map[string]string{v1alpha1.LabelDeliverWith: "web"})
		objects.Put(o)
	}
	w := object("apps/v1", "Deployment", "web")
	w.Object["spec"] = map[string]any{"template": map[string]any{}}
	needs, err := render.NeedsOf(workload.Kinds(), w)
	if err != nil {
		t.Fatal(err)
	}
	with, _ := objects.With(needs)
	_, err = render.Workload(render.Request{Kinds: workload.Kinds(), Workload: w, With: with})
	const want = "Deployment shop/web: more than 500 objects go with it: have fewer of them labelled tmc.kcp.io/deliver-with, or select its pods"
	if err == nil || err.Error() != want {
		t.Errorf("%v; want %s", err, want)
	}
	objects.Delete(schema.GroupKind{Kind: "ConfigMap"}, "shop", "7")
	if with, _ = objects.With(needs); len(with) != render.MaxWith {
		t.Errorf("%d objects go with it", len(with))
	}
}

// BenchmarkRender measures one of 50,000 workloads of a namespace that each have a ConfigMap and a Service.
func BenchmarkRender(b *testing.B) {
	objects := render.NewObjects(workload.Kinds())
	workloads := make([]*unstructured.Unstructured, 50_000)
	needs := make([]*render.Needs, len(workloads))
	for i := range workloads {
		name := fmt.Sprint("web-", i)
		objects.Put(object("v1", "ConfigMap", name))
		service := object("v1", "Service", name)
		service.Object["spec"] = map[string]any{"selector": map[string]any{"app": name}}
		objects.Put(service)
		workloads[i] = object("apps/v1", "Deployment", name)
		workloads[i].Object["spec"] = map[string]any{"replicas": int64(3), "template": map[string]any{
			"metadata": map[string]any{"labels": map[string]any{"app": name}},
			"spec": map[string]any{"containers": []any{map[string]any{
				"name": "main", "image": "nginx", "envFrom": []any{map[string]any{"configMapRef": map[string]any{"name": name}}},
			}}},
		}}
	}
	run := func(name string, do func(i int) error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := do(i % len(workloads)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("needs", func(i int) (err error) {
		needs[i], err = render.NeedsOf(workload.Kinds(), workloads[i])
		return err
	})
	for i := range workloads {
		needs[i], _ = render.NeedsOf(workload.Kinds(), workloads[i])
	}
	run("with", func(i int) error {
		if with, _ := objects.With(needs[i]); len(with) != 2 {
			return fmt.Errorf("%d objects", len(with))
		}
		return nil
	})
	run("workload", func(i int) error {
		_, err := render.Workload(render.Request{Kinds: workload.Kinds(), Workload: workloads[i]})
		return err
	})
}
