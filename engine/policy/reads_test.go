package policy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/policies"
)

// builtinReads are what the built-in policies read.
var builtinReads = workload.Reads{Annotations: []string{
	"tmc.kcp.io/avoid-cluster", "tmc.kcp.io/preferred-cluster", "tmc.kcp.io/preferred-location",
}}

func TestBuiltinReads(t *testing.T) {
	if diff := cmp.Diff(builtinReads, compiler(t).Builtin().Reads()); diff != "" {
		t.Error(diff)
	}
}

// reading is a module, where it stands in package placement.x, and what it reads beside what the built-in policies do.
type reading struct {
	rego string
	want workload.Reads
}

func readings() []reading {
	fields := func(f workload.Fields) workload.Reads { return workload.Reads{Fields: f} }
	all := fields(workload.AllFields)
	keys := func(labels ...string) workload.Reads { return workload.Reads{Labels: labels} }
	return []reading{
		{`p := 1`, workload.Reads{}},
		{`p := input.placement.labels`, workload.Reads{}},
		{`p := input.placement.labels[k] if some k`, workload.Reads{}},
		{`p := input.workspace`, workload.Reads{}},
		{`p := input.workload.requests.cpu + input.workload.replicas`, fields(workload.Requests | workload.Replicas)},
		{`p if input.workload["kind"] == input.workload.name`, fields(workload.Kind | workload.Name)},
		{`p if input.workload.requests["nvidia.com/gpu"] > 0`, fields(workload.Requests)},
		// One key.
		{`p := input.workload.labels.a`, keys("a")},
		{`p := input.workload.labels["a"]`, keys("a")},
		{`p if not input.workload.labels.a in {"x", "y"}`, keys("a")},
		{`p := input.workload.annotations.a`, workload.Reads{Annotations: []string{"a"}}},
		{"import input.workload as work\np := work.labels.a", keys("a")},
		{`p[input.workload.labels.a] := 1`, keys("a")},
		{`p.q[input.workload.labels.a].r := 1`, keys("a")},
		{`p contains input.workload.labels.a`, keys("a")},
		{`p := 1 if input.workload.labels.a else := 2 if input.workload.labels.b`, keys("a", "b")},
		{`p := [x | x := input.workload.labels.a]`, keys("a")},
		{`p := object.get(input.workload.labels, "a", "none")`, keys("a")},
		{`p := object.get(input.workload, "labels", {}).a`, fields(workload.Labels)},
		{`p := object.get(input.workload.labels, "a", input.workload.name)`, workload.Reads{Fields: workload.Name, Labels: []string{"a"}}},
		{`p if not object.get(input.workload.labels, "a", "") in {"x"}`, keys("a")},
		{`p if { labels := input.workload.labels; labels.a == labels.b }`, keys("a", "b")},
		{`p if { w := input.workload; w.labels.a == w.kind }`, workload.Reads{Fields: workload.Kind, Labels: []string{"a"}}},
		{`p if { i := input; w := i.workload; l := w.labels; object.get(l, "a", "") == "" }`, keys("a")},
		{`p if { x := input.workload.labels.a }`, keys("a")},
		{`p if { x := input.workload.labels }`, workload.Reads{}},
		{`p if { every x in ["a"] { x == input.workload.labels.a } }`, keys("a")},
		{"f(k) := input.workload.labels[k]\np := f(\"a\")\nq if f(\"b\") == \"c\"", keys("a", "b")},
		{"f(k, l) if input.workload.labels[k] == l\np if f(\"a\", input.workload.name)", workload.Reads{Fields: workload.Name, Labels: []string{"a"}}},
		{"f(k) := object.get(input.workload.labels, k, \"\")\np := f(\"a\")", keys("a")},
		{"f(k) := input.workload.labels[k] if k != \"b\" else := input.workload.annotations[k]\np := f(\"a\")", workload.Reads{Labels: []string{"a"}, Annotations: []string{"a"}}},
		// A field as a whole, in disguise.
		{`p := input.workload.labels`, fields(workload.Labels)},
		{`p := {"labels": input.workload.labels[input.workload.namespace]}`, fields(workload.Labels | workload.Namespace)},
		{`p := [l | some l in input.workload.labels]`, fields(workload.Labels)},
		{`p if { some k; input.workload.labels[k] }`, fields(workload.Labels)},
		{`p if input.workload.labels[_] == "x"`, fields(workload.Labels)},
		{`p if input.workload.labels == {"a": "b"}`, fields(workload.Labels)},
		{`p if {"a": "b"} = input.workload.labels`, fields(workload.Labels)},
		{`p if {"a": x} = input.workload.labels`, fields(workload.Labels)},
		{`p if count(input.workload.labels) > 1`, fields(workload.Labels)},
		{`p if "x" in input.workload.labels`, fields(workload.Labels)},
		{`p if "x" in object.keys(input.workload.labels)`, fields(workload.Labels)},
		{`p if { every k, v in input.workload.labels { k == v } }`, fields(workload.Labels)},
		{`p := {k: v | some k, v in input.workload.labels}`, fields(workload.Labels)},
		{`p contains k if input.workload.labels[k]`, fields(workload.Labels)},
		{`p := object.get(input.workload.labels, ["a"], "")`, fields(workload.Labels)},
		{`p := object.get({"a": input.workload.labels}, "a", "").x`, fields(workload.Labels)},
		{`p if { labels := input.workload.labels; labels.a == "x"; count(labels) == 1 }`, fields(workload.Labels)},
		{`p if { labels := input.workload.labels; some k; labels[k] == "x" }`, fields(workload.Labels)},
		{`p if { labels := input.workload.labels; all := [labels]; all[0].a == "x" }`, fields(workload.Labels)},
		{`p if { labels := input.workload.labels; same := labels; same.a == "x" }`, fields(workload.Labels)},
		{`p[labels] := 1 if labels := input.workload.labels`, fields(workload.Labels)},
		{`p.q[labels].r := 1 if labels := input.workload.labels`, fields(workload.Labels)},
		{`p contains labels if labels := input.workload.labels`, fields(workload.Labels)},
		{`p := labels if labels := input.workload.labels`, fields(workload.Labels)},
		{`p if { some l in [{}]; l = input.workload.labels }`, fields(workload.Labels)},
		{`p if { not {} = input.workload.labels }`, fields(workload.Labels)},
		{"f(l) if l = input.workload.labels\np if f({})", fields(workload.Labels)},
		{"f(l) if { some x in [l]; x.a }\np if f(input.workload.labels)", fields(workload.Labels)},
		{`p := [[l.a | l = input.workload.labels], [l.a | l = input.workload.annotations]]`, fields(workload.Labels | workload.Annotations)},
		{"labels := input.workload.labels\np := labels.a", fields(workload.Labels)},
		{"f(k) := input.workload.labels[k]\np := f(\"a\")\nq if { some k in [\"b\"]; f(k) }", fields(workload.Labels)},
		{"f(k) := input.workload.labels[k]\ng(k) := f(k)\np := g(\"a\")", fields(workload.Labels)},
		{"f(_) := [v | some k; v := input.workload.labels[k]]\np := f(\"a\")", fields(workload.Labels)},
		{"f(k) := input.workload.labels[k]", fields(workload.Labels)},
		// All.
		{`p := input.workload`, all},
		{`p := input`, all},
		{"p if some x in input\nq := 1", all},
		{`p := x if { x := input.workload[input.placement.name] }`, all},
		{`p if { some k; k != "x"; input.workload[k] == "y" }`, all},
		{`p if input[_].name == "x"`, all},
		{"f(w) := w.name\np := f(input.workload)", all},
		{"workload := input.workload\np := workload.name", all},
		{`p if { w := input.workload; count(w) > 1 }`, all},
		{`p := count(object.keys(input))`, all},
		{`p := x if { x := data.placement.builtin.affinity.terms with input as {} }`, all},
		{`p := x if { x := data.placement.builtin.affinity.terms with input.workload as {} }`, all},
		{`p := x if { x := data.placement.builtin.affinity.terms with input.workload.annotations as {} }`, all},
		{`p := x if { x := data.placement.builtin.affinity.terms with input.placement as input.workload }`, all},
	}
}

func TestReads(t *testing.T) {
	c := compiler(t)
	for _, test := range readings() {
		set, err := c.Compile(map[string]string{"a.rego": "package placement.x\n" + test.rego})
		if err != nil {
			t.Errorf("%s: %v", test.rego, err)
			continue
		}
		if diff := cmp.Diff(builtinReads.Union(test.want), set.Reads()); diff != "" {
			t.Errorf("%s: %s", test.rego, diff)
		}
	}
}

// TestManyKeys: where many keys are read the whole field counts, so that no policy makes it dear to tell classes apart.
func TestManyKeys(t *testing.T) {
	var rego strings.Builder
	fmt.Fprintln(&rego, "package placement.x\nf(k) := input.workload.labels[k]")
	for i := range 100 {
		fmt.Fprintf(&rego, "p%d := f(\"%d\")\n", i, i)
	}
	set, err := compiler(t).Compile(map[string]string{"a.rego": rego.String()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(builtinReads.Union(workload.ReadsOf("labels")), set.Reads()); diff != "" {
		t.Error(diff)
	}
}

// TestReadsOfLibrary: the policies that people are told to copy make wide classes.
func TestReadsOfLibrary(t *testing.T) {
	for module, want := range map[string]workload.Reads{
		"avoid-maintenance": {Labels: []string{"maintenance"}},
		"batch-on-emptiest": {Fields: workload.Kind},
		"cost-aware":        {Labels: []string{"cost"}},
		"data-residency":    {Labels: []string{"data-residency"}},
		"gpu-preference":    {Fields: workload.Requests, Annotations: []string{"tmc.kcp.io/gpu-models"}},
		"green-energy":      {Labels: []string{"green"}},
		"near-users":        {Labels: []string{"latency"}, Annotations: []string{"tmc.kcp.io/users"}},
	} {
		text, err := policies.Library.ReadFile("library/" + module + "/" + module + ".rego")
		if err != nil {
			t.Fatal(err)
		}
		set, err := compiler(t).Compile(map[string]string{"a.rego": string(text)})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(builtinReads.Union(want), set.Reads()); diff != "" {
			t.Errorf("%s: %s", module, diff)
		}
	}
}

// TestReadsAreAllThatCounts: whatever rules come to for a workload, they come to for what is read of it.
func TestReadsAreAllThatCounts(t *testing.T) {
	c, err := policy.NewCompiler(policy.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var sets []*policy.Set
	for _, test := range readings() {
		set, err := c.Compile(map[string]string{"a.rego": "package placement.x\n" + test.rego})
		if err != nil {
			t.Fatalf("%s: %v", test.rego, err)
		}
		sets = append(sets, set)
	}
	keys := rapid.SampledFrom([]string{"a", "b", "x", "tmc.kcp.io/preferred-cluster"})
	texts := rapid.SampledFrom([]string{"", "a", "b", "x"})
	numbers := rapid.Int64Range(0, 2)
	rapid.Check(t, func(t *rapid.T) {
		text := func(what string) string { return texts.Draw(t, what) }
		w := &workload.Workload{
			Reference: workload.Reference{APIVersion: text("apiVersion"), Kind: text("kind"), Namespace: text("namespace"), Name: text("name")},
			Labels:    rapid.MapOfN(keys, texts, 0, 3).Draw(t, "labels"), Annotations: rapid.MapOfN(keys, texts, 0, 3).Draw(t, "annotations"),
			Replicas: numbers.Draw(t, "replicas"),
			Requests: capacity.Resources{CPU: numbers.Draw(t, "cpu"), Extended: rapid.MapOfN(keys, numbers, 0, 1).Draw(t, "extended")},
		}
		const apart = 10 // so that it does not take too long
		for i := rapid.IntRange(0, apart-1).Draw(t, "first"); i < len(sets); i += apart {
			set := sets[i]
			everything := func(w *workload.Workload) string {
				placement := workload.Placement{Name: "name", Namespace: "a", Labels: map[string]string{"a": "b"}}
				all, err := set.Everything(context.Background(), policy.Input{Workspace: "root", Placement: placement, Workload: w})
				return fmt.Sprint(all, err)
			}
			if diff := cmp.Diff(everything(w), everything(set.Reads().Only(w))); diff != "" {
				t.Fatalf("%s: %s", readings()[i].rego, diff)
			}
		}
	})
}
