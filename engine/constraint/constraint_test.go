package constraint_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/internal/remedy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// variables are what the rows of the tables below are evaluated over.
func variables() *constraint.Variables {
	return &constraint.Variables{
		Row: snapshot.NewRow(&snapshot.Cluster{
			Name: "alpha", Location: "eu-west",
			Labels: map[string]string{"tier": "gold", "rack.example.com/row": "7"},
			Capabilities: []snapshot.Capability{
				{Type: "gpu", Available: true, Attributes: map[string]string{"model": "a100", "driver": "550.54.15"}},
				{Type: "fpga"},
			},
			Taints:      []corev1.Taint{{Key: "dedicated", Value: "ml", Effect: "NoSchedule"}},
			Conditions:  []snapshot.Condition{{Type: "Ready", Status: "True", Reason: "AgentReporting"}},
			Allocatable: capacity.Resources{CPU: 8000, Memory: 32 << 30, Extended: map[string]int64{"nvidia.com/gpu": 4}},
			Allocated:   capacity.Resources{CPU: 1000, Memory: 8 << 30},
		}, capacity.Resources{CPU: 1000, Extended: map[string]int64{"nvidia.com/gpu": 1}}),
		Workload: &workload.Workload{
			Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web"},
			Labels:    map[string]string{"app": "web", "tier": "gold"}, Annotations: map[string]string{"note": "x"},
			Replicas: 3, Requests: capacity.Resources{CPU: 1500, Memory: 3 << 30},
		},
		Placement: workload.Placement{Name: "p", Namespace: "shop", Labels: map[string]string{"team": "shop"}},
	}
}

func compiler(t testing.TB) *constraint.Compiler {
	t.Helper()
	c, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEval(t *testing.T) {
	type reads = constraint.Reads
	cluster, room := reads{Cluster: true}, reads{Capacity: true}
	work := func(fields workload.Fields, labels ...string) reads {
		return reads{Workload: workload.Reads{Fields: fields, Labels: labels}}
	}
	both := func(r reads) reads {
		r.Cluster = true
		return r
	}
	for _, test := range []struct {
		expression string
		want       bool
		err        string
		reads      reads
	}{
		{expression: `true`, want: true},
		{expression: `cluster.name == "alpha" && cluster.location == "eu-west"`, want: true, reads: cluster},
		{expression: `cluster.labels["tier"] == "gold"`, want: true, reads: cluster},
		{expression: `cluster.labels.tier == "gold"`, want: true, reads: cluster},
		{expression: `cluster.labels["rack.example.com/row"] == "7"`, want: true, reads: cluster},
		{expression: `cluster.labels["zone"] == "a"`, err: "no such key: zone", reads: cluster},
		{expression: `cluster.labels.?zone.orValue("a") == "a"`, want: true, reads: cluster},
		{expression: `"zone" in cluster.labels`, reads: cluster},
		{expression: `has(cluster.labels.tier)`, want: true, reads: cluster},
		{expression: `cluster.labels.exists(k, k.startsWith("rack."))`, want: true, reads: cluster},
		{expression: `cluster.labels == {"tier": "gold", "rack.example.com/row": "7"}`, want: true, reads: cluster},
		{expression: `{"rack.example.com/row": "7", "tier": "gold"} == cluster.labels`, want: true, reads: cluster},
		{expression: `{"rack.example.com/row": "7", "tier": "silver"} == cluster.labels`, reads: cluster},
		{expression: `cluster.labels == dyn({"tier": 1, "rack.example.com/row": "7"}) || {"tier": "gold"} == cluster.labels`, reads: cluster},
		{expression: `cluster.labels in [{"tier": "gold", "rack.example.com/row": "7"}]`, want: true, reads: cluster},
		{expression: `cluster.labels == workload.labels`, reads: both(work(workload.Labels))},
		{expression: `cluster.labels == dyn(capacity.free)`, reads: reads{Cluster: true, Capacity: true}},
		{expression: `size(cluster.labels) == 2 && cluster.labels.size() == 2 && type(cluster.labels) == map`, want: true, reads: cluster},
		{expression: `[cluster.labels].exists(l, l.tier == "gold" && l["tier"] == "gold" && has(l.tier) && !("zone" in l) && !l.?zone.hasValue())`, want: true, reads: cluster},
		{expression: `[cluster.labels].all(l, l.zone == "a")`, err: "no such key: zone", reads: cluster},
		{expression: `dyn(cluster.labels)[1] == "a"`, err: "no such key: 1", reads: cluster},
		{expression: `dyn(cluster).labels.tier == "gold" && dyn(cluster).labels.map(k, k)[1] == "tier"`, want: true, reads: cluster},
		{expression: `optional.ofNonZeroValue(cluster.labels).hasValue() && optional.ofNonZeroValue(placement.labels).value().team == "shop"`, want: true,
			reads: reads{Cluster: true, Placement: true}},
		{expression: `cluster.labels.transformMap(k, v, v) == cluster.labels && cluster.labels == cluster.labels.transformMap(k, v, v)`, want: true, reads: cluster},
		{expression: `cluster.capabilities.exists(c, c.type == "gpu" && c.available)`, want: true, reads: cluster},
		{expression: `cluster.capabilities.exists(c, c.type == "fpga" && c.available)`, reads: cluster},
		{expression: `cluster.capabilities.exists(c, c.attributes.?model.orValue("") == "a100")`, want: true, reads: cluster},
		{expression: `cluster.capabilities[0].type == "gpu"`, want: true, reads: cluster},
		{expression: `cluster.capabilities.filter(c, c.available).size() == 1`, want: true, reads: cluster},
		{expression: `cluster.taints.all(t, t.key == "dedicated" && t.value == "ml" && t.effect == "NoSchedule")`, want: true, reads: cluster},
		{expression: `cluster.conditions.exists(c, c.type == "Ready" && c.status == "True" && c.reason != c.message)`, want: true, reads: cluster},
		{expression: `cluster == cluster`, want: true, reads: cluster},
		{expression: `dyn(cluster).name == "alpha"`, want: true, reads: cluster},
		{expression: `capacity.free.cpu == 6000 && capacity.allocatable.cpu == 8000 && capacity.allocated.cpu == 1000 && capacity.reserved.cpu == 1000`, want: true, reads: room},
		{expression: `capacity.free.memory >= quantity("24Gi")`, want: true, reads: room},
		{expression: `capacity.free.storage == 0`, want: true, reads: room},
		{expression: `capacity.free["nvidia.com/gpu"] == 3`, want: true, reads: room},
		{expression: `capacity.free["amd.com/gpu"] > 0`, err: "no such key: amd.com/gpu", reads: room},
		{expression: `"amd.com/gpu" in capacity.free`, reads: room},
		{expression: `capacity.free.exists(r, r == "nvidia.com/gpu" && capacity.free[r] > 2)`, want: true, reads: room},
		{expression: `capacity.free == {"cpu": 6000, "memory": 25769803776, "storage": 0, "nvidia.com/gpu": 3}`, want: true, reads: room},
		{expression: `size(capacity.free) == 4`, want: true, reads: room},
		{expression: `capacity.utilization.cpu == 25 && capacity.utilization.memory == 25`, want: true, reads: room},
		{expression: `capacity.healthScore == 100 && capacity.performanceScore == 100`, want: true, reads: room},
		{expression: `capacity.free.cpu >= 2 * workload.requests.cpu`, want: true, reads: reads{Capacity: true, Workload: workload.Reads{Fields: workload.Requests}}},
		{expression: `workload.requests.cpu == 1500 && workload.requests.storage == 0 && workload.replicas == 3`, want: true, reads: work(workload.Requests | workload.Replicas)},
		{expression: `workload.apiVersion + "/" + workload.kind == "apps/v1/Deployment"`, want: true, reads: work(workload.APIVersion | workload.Kind)},
		{expression: `workload.namespace + "/" + workload.name == "shop/web" && workload.annotations["note"] == "x"`, want: true,
			reads: reads{Workload: workload.Reads{Fields: workload.Namespace | workload.Name, Annotations: []string{"note"}}}},
		{expression: `cluster.labels[workload.labels.app] == "x"`, err: "no such key: web", reads: both(work(0, "app"))},
		{expression: `cluster.labels["tier"] == workload.labels["tier"]`, want: true, reads: both(work(0, "tier"))},
		{expression: `placement.labels["team"] == placement.namespace && placement.name == "p"`, want: true, reads: reads{Placement: true}},
		{expression: `sets.intersects(["eu-west", "eu-north"], [cluster.location])`, want: true, reads: cluster},
		{expression: `cluster.location.split("-")[0] == "eu"`, want: true, reads: cluster},
		{expression: `cluster.location.matches("^eu-")`, want: true, reads: cluster},
		{expression: `capacity.free.cpu / capacity.free.storage > 1`, err: "division by zero", reads: room},
		{expression: `capacity.free.memory * 9223372036854775807 > 0`, err: "integer overflow", reads: room},
		// As in CEL, an error does not count where the answer does not depend on it.
		{expression: `cluster.labels["zone"] == "a" || true`, want: true, reads: cluster},
	} {
		t.Run(test.expression, func(t *testing.T) {
			program, err := compiler(t).Compile(test.expression)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.reads, program.Reads()); diff != "" {
				t.Errorf("reads %s", diff)
			}
			holds, err := program.Eval(variables())
			if fmt.Sprint(err) != orNil(test.err) || holds != test.want {
				t.Errorf("got %v, %v; want %v, %v", holds, err, test.want, orNil(test.err))
			}
			only := variables()
			only.Workload = program.Reads().Workload.Only(only.Workload)
			if again, errAgain := program.Eval(only); again != holds || fmt.Sprint(errAgain) != fmt.Sprint(err) {
				t.Errorf("got %v, %v of what is read of the workload", again, errAgain)
			}
		})
	}
}

// TestOrder: maps are gone through in the order of their keys, whoever made them: the same is decided every time.
func TestOrder(t *testing.T) {
	v := variables()
	labels := map[string]string{}
	for _, key := range strings.Split("hgfedcba", "") {
		labels[key] = strings.ToUpper(key)
	}
	v.Row.Labels, v.Row.Capabilities[0].Attributes, v.Workload.Labels, v.Placement.Labels = labels, labels, labels, labels
	v.Workload.Annotations = labels
	v.Row.Free.Extended = map[string]int64{"amd.com/gpu": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}
	written := `{"h": 8, "g": 7, "f": 6, "e": 5, "d": 4, "c": 3, "b": 2, "a": 1}`
	for _, expression := range []string{
		`cluster.labels.map(k, k) == ["a", "b", "c", "d", "e", "f", "g", "h"]`,
		`cluster.labels.filter(k, k > "c")[0] == "d"`,
		`cluster.labels.transformList(k, v, v) == ["A", "B", "C", "D", "E", "F", "G", "H"]`,
		`cluster.labels.map(k, cluster.labels[k])[7] == "H"`,
		`cluster.capabilities[0].attributes.map(k, k)[0] == "a"`,
		`cluster.capabilities.map(c, c.attributes).all(m, m.size() == 0 || m.map(k, k)[0] == "a")`,
		`workload.labels.map(k, k)[0] == "a" && workload.annotations.map(k, k)[7] == "h" && placement.labels.map(k, k)[0] == "a"`,
		`cluster.?labels.value().map(k, k)[0] == "a"`,
		`dyn(cluster).labels.map(k, k)[0] == "a"`,
		`[cluster.labels, placement.labels].all(m, m.map(k, k)[0] == "a")`,
		`capacity.free.map(k, k) == ["cpu", "memory", "storage", "amd.com/gpu", "b", "c", "d", "e", "f"]`,
		`dyn(capacity).free.map(k, k)[3] == "amd.com/gpu"`,
		written + `.map(k, k)[0] == "a"`,
		written + `.transformList(k, v, v) == [1, 2, 3, 4, 5, 6, 7, 8]`,
		`dyn(` + written + `).map(k, k)[0] == "a"`,
		`[` + written + `].all(m, m.map(k, k)[0] == "a")`,
		`{"x": ` + written + `}.x.map(k, k)[7] == "h"`,
		`optional.of(` + written + `).orValue({}).map(k, k)[7] == "h"`,
		`(cluster.name == "alpha" ? ` + written + ` : {"x": 1}).map(k, k)[7] == "h"`,
		`{10: 1, 9: 1, -1: 1, 100: 1}.map(k, k) == [-1, 9, 10, 100]`,
		`{2u: 1, dyn("x"): 1, true: 1, false: 1, 10: 1, 9: 1}.map(k, k) == [false, true, 9, 10, "x", 2u]`,
		`cluster.labels.transformMap(k, v, v + "x").map(k, k) == ["a", "b", "c", "d", "e", "f", "g", "h"]`,
		`cluster.labels.transformMapEntry(k, v, {v: k}).transformList(k, v, k + v)[0] == "Aa"`,
		`[1, 2, 3, 4, 5, 6, 7, 8].transformMap(i, n, n).map(i, i) == [0, 1, 2, 3, 4, 5, 6, 7]`,
		`cluster.labels.map(k, [k, k].transformMap(i, l, l).map(i, i)[1] == 1 ? k : "") [0] == "a"`,
	} {
		program, err := generous(t).Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			if holds, err := program.Eval(v); !holds || err != nil {
				t.Errorf("%s: %v, %v", expression, holds, err)
				break
			}
		}
		for _, conjunct := range program.Conjuncts() {
			if !conjunct.Holds(v, 0, 0) {
				t.Errorf("%s does not hold", conjunct)
			}
		}
		if causes := program.Explain(v); len(causes) > 0 {
			t.Errorf("%s: %+v", expression, causes)
		}
	}
	for _, expression := range []string{`{dyn(1.5): 1}.all(k, k > 0)`, `{[1]: 1, [2]: 2}.exists(k, k == [1])`} {
		program, err := compiler(t).Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		_, err = program.Eval(v)
		if want := "a map can be gone through only if its keys are strings, bools, ints or uints"; fmt.Sprint(err) != want {
			t.Errorf("%s: error %v, want %v", expression, err, want)
		}
	}
}

func TestReadsOfWorkload(t *testing.T) {
	fields := func(f workload.Fields) workload.Reads { return workload.Reads{Fields: f} }
	labels := func(keys ...string) workload.Reads { return workload.Reads{Labels: keys} }
	for expression, want := range map[string]workload.Reads{
		`cluster.name == "a"`: {},
		`capacity.free.cpu > workload.requests.cpu * workload.replicas`: fields(workload.Requests | workload.Replicas),
		`"nvidia.com/gpu" in workload.requests`:                         fields(workload.Requests),
		// One key.
		`workload.labels["a"] == workload.name`:                  {Fields: workload.Name, Labels: []string{"a"}},
		`has(workload.annotations.x)`:                            {Annotations: []string{"x"}},
		`"b" in workload.labels && workload.labels.a == "x"`:     labels("a", "b"),
		`workload.labels.?a.orValue("") != ""`:                   labels("a"),
		`workload.labels[?"a/b"].orValue("") != ""`:              labels("a/b"),
		`workload.?labels.?a.hasValue()`:                         labels("a"),
		`workload.?labels.a.hasValue()`:                          labels("a"),
		`workload.labels.a.split(",").exists(x, x == "b")`:       labels("a"),
		`workload.labels[""] == ""`:                              labels(""),
		`["a"].exists(k, workload.labels["k"] == k)`:             labels("k"),
		`{"a": workload.labels.b}[workload.labels.c] == "d"`:     labels("b", "c"),
		`[workload.labels.a, workload.labels.b].size() == 2`:     labels("a", "b"),
		`cluster.labels.all(k, v, v == workload.labels.a)`:       labels("a"),
		`optional.of(workload.labels.a).hasValue()`:              labels("a"),
		`workload.labels.a == "b" ? workload.kind == "c" : true`: {Fields: workload.Kind, Labels: []string{"a"}},
		// A field as a whole.
		`cluster.labels.exists(k, k == workload.namespace + workload.kind)`: fields(workload.Namespace | workload.Kind),
		`workload.labels.a == "b" && workload.labels.size() > 1`:            fields(workload.Labels),
		`workload.labels[cluster.name] == ""`:                               fields(workload.Labels),
		`workload.labels[?cluster.name].hasValue()`:                         fields(workload.Labels),
		`cluster.name in workload.labels`:                                   fields(workload.Labels),
		`workload.labels == {"a": "b"}`:                                     fields(workload.Labels),
		`workload.labels in [{"a": "b"}]`:                                   fields(workload.Labels),
		`dyn(workload.labels).a == "b"`:                                     fields(workload.Labels),
		`[workload.labels][0].a == "b"`:                                     fields(workload.Labels),
		`workload.labels.exists(k, k == "a")`:                               fields(workload.Labels),
		`workload.labels.all(k, v, k == v)`:                                 fields(workload.Labels),
		`[workload.labels].exists(l, l.a == "b")`:                           fields(workload.Labels),
		`workload.?labels.hasValue()`:                                       fields(workload.Labels),
		`optional.of(workload.labels).a.hasValue()`:                         fields(workload.Labels),
		`has(workload.annotations)`:                                         fields(workload.Annotations),
		// All.
		`[workload].all(w, w.name == "x")`:                  fields(workload.AllFields),
		`dyn(workload).name == workload.apiVersion`:         fields(workload.AllFields),
		`workload == workload`:                              fields(workload.AllFields),
		`workload.labels.exists(workload, workload == "x")`: fields(workload.AllFields),
		// A macro can hide the variable, a dot finds it again.
		`["x"].exists(workload, .workload.labels.a == "x")`:         labels("a"),
		`["x"].exists(workload, .workload.name == "x")`:             fields(workload.Name),
		`["x"].exists(workload, [.workload].all(w, w.name == "x"))`: fields(workload.AllFields),
	} {
		program, err := compiler(t).Compile(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if diff := cmp.Diff(want, program.Reads().Workload); diff != "" {
			t.Errorf("%s: %s", expression, diff)
		}
	}
	program, err := compiler(t).Compile(`["x"].exists(cluster, .cluster.name == .placement.name && .capacity.free.cpu > 0)`)
	if err != nil {
		t.Fatal(err)
	}
	if got := program.Reads(); !got.Cluster || !got.Placement || !got.Capacity {
		t.Errorf("variables that are hidden are not read: %+v", got)
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, test := range []struct{ name, expression, err string }{
		{"syntax", `cluster.name ==`, "1:16: Syntax error: mismatched input '<EOF>'"},
		{"unknown variable", `clusters.name == "a"`, "1:1: undeclared reference to 'clusters'"},
		{"unknown field", `true &&` + "\n" + `  cluster.nmae == "a"`, "2:10: undefined field 'nmae'"},
		{"not a bool", `cluster.name`, "1:1: gives string, must give bool"},
		{"types that do not compare", `capacity.free.cpu == "1"`, "1:19: found no matching overload for '_==_'"},
		{"several", `a && b`, "1:1: undeclared reference to 'a' (in container ''); 1:6: undeclared reference to 'b'"},
		{"empty", ``, "Syntax error"},
		{"not a quantity", `capacity.free.memory > quantity("4Gig")`, `1:33: "4Gig" is not a quantity`},
		{"quantity of no literal", `capacity.free.memory > quantity(cluster.name)`, `1:40: quantity takes a literal, for example quantity("4Gi")`},
		{"fractional quantity", `capacity.free.cpu > quantity("500m")`, `1:30: "500m" is not a whole number of units; cpu is in millicores, so 500m of it is 500`},
		{"quantity out of proportion", `capacity.free.memory > quantity("1e-99999999")`, `1:33: "1e-99999999" is not a quantity`},
		{"bad regular expression", `cluster.name.matches("(")`, "1:22: invalid regular expression: error parsing regexp: missing closing ): `(`"},
		{"computed regular expression", `cluster.name.matches(workload.name)`, "1:30: a regular expression must be a literal"},
		{"computed pattern to find", `cluster.name.find(workload.name + "$") == ""`, "1:33: a regular expression must be a literal"},
		{"large regular expression", `cluster.name.matches("(x{100}){10}y{1000}")`, "1:22: invalid regular expression: it has 2000 steps with all repetitions written out, more than 1000"},
		{"dear regular expression", `workload.annotations.a.matches("(x{100}){9}")`, "more than the limit of 100000"},
		{"a zone by name", `timestamp("2026-01-01T00:00:00Z").getHours("Europe/Berlin") == 1`, `1:44: a time zone must be "UTC" or an offset`},
		{"replacing before every character", `workload.annotations.a.replace("", workload.annotations.b) == ""`, "more than the limit of 100000"},
		{"searching at every place", `workload.annotations.a.indexOf(workload.annotations.b) > 0`, "more than the limit of 100000"},
		{"finding all, again and again", `workload.annotations.a.findAll("[^x]*x|.").size() > 1`, "more than the limit of 100000"},
		{"characters of long texts", `workload.annotations.all(k, v, workload.annotations.all(l, w, v.charAt(1) == w.charAt(1)))`, "more than the limit of 100000"},
		{"functions whose result has no bound", `"%s".format([cluster.name]) == ""`, "undeclared reference to 'format'"},
		{"too long", strings.Repeat(" ", 5000) + "true", "the expression has 5004 characters, more than 4096"},
		{"too deep", strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000), "recursion limit"},
		{"a macro in a macro in a macro", `cluster.labels.all(a, cluster.labels.all(b, cluster.labels.all(c, a != b + c)))`, "more than the limit of 100000: look at fewer labels, or nest less"},
		{"doubling strings", `[1,2,3,4,5,6,7,8].map(x, workload.annotations["a"]).map(x, x+x+x+x).map(x, x+x+x+x+x+x+x+x).map(x,x+x+x+x+x+x+x+x).exists(x, x == "")`, "more than the limit of 100000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := compiler(t).Compile(test.expression)
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if first := new(constraint.Error); !errors.As(err, &first) {
				t.Errorf("%T is not a *constraint.Error", err)
			}
		})
	}
}

// TestGrowth: what CEL takes for small because it is in a list or a map, is refused where it doubles.
func TestGrowth(t *testing.T) {
	nested := func(n int, start, around string) string {
		for range n {
			start = strings.ReplaceAll(around, "$", start)
		}
		return start
	}
	doubled := nested(20, "[1]", "[$].map(x,x+x)[0]")
	for name, expression := range map[string]string{
		"texts in a list":    nested(20, "cluster.name", "[$].map(x,x+x)[0]") + " != ''",
		"literals in a list": nested(30, "'x'", "[$].map(x,x+x)[0]") + " != ''",
		"dyn":                nested(20, "dyn(cluster.name)", "[$].map(x,x+x)[0]") + " != ''",
		"texts in a map":     nested(24, "{'a':'x'}", "{'a':[$.a].map(y,y+y)[0]}") + ".a != ''",
		"chained":            "['xx']" + strings.Repeat(".map(v,v+v)", 24) + ".size()>0",
		"entries of a map":   "{'a':'xx'}" + strings.Repeat(".transformMap(k,v,v+v)", 24) + ".size()>0",
		"replacing":          "['xx']" + strings.Repeat(".map(v,v.replace('x','xx'))", 24) + ".size()>0",
		"lists compared":     doubled + " == " + doubled,
		"lists gone through": doubled + ".all(a,a==1)",
		"lists sorted":       doubled + ".isSorted()",
		"in lists":           "2 in " + nested(24, "[1]", "[$].map(x,x+x)[0]"),
		"sets":               "sets.contains(" + nested(24, "[1]", "[$].map(x,x+x)[0]") + ",[2])",
		"nested lists":       nested(24, "[1]", "[$].map(x,[x,x])") + " == []",
		"nested objects":     nested(24, "cluster", "[$].map(x,[x,x])[0]") + " == dyn([])",
		"maps in a loop":     strings.TrimSuffix(strings.Repeat("capacity.free.all(k,capacity.free==capacity.free) && ", 8), " && "),
		"lists in lists":     nested(24, "'a'", "[[$]].map(x,x[0]+x[0])[0]") + " == ''",
	} {
		start := time.Now()
		if _, err := compiler(t).Compile(expression); err == nil {
			t.Errorf("%s: accepted, %d characters", name, len(expression))
		}
		t.Logf("%s: %s", name, time.Since(start))
	}
	for _, expression := range []string{
		`cluster.labels.map(k, k + "=" + cluster.labels[k]).exists(l, l == "tier=gold")`,
		`cluster.capabilities.filter(c, c.available).map(c, c.type).exists(c, c.startsWith("g"))`,
		`workload.labels.transformMap(k, v, v + "x").size() == 2`,
		`["a", "b"].map(x, ["c", "d"].map(y, x + y)).size() == 2`,
		`cluster.name.replace("a", "bb").replace("b", "c") != ""`,
	} {
		if _, err := compiler(t).Compile(expression); err != nil {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

// TestTooManyEntries: an object may have more labels than an expression was costed for; that is an error, and costs
// no more than to count them.
func TestTooManyEntries(t *testing.T) {
	many := map[string]string{}
	for i := range 10_000 {
		many[fmt.Sprint(i)] = "x"
	}
	v := variables()
	v.Row = snapshot.NewRow(&snapshot.Cluster{Name: "alpha", Labels: many}, capacity.Resources{})
	program, err := compiler(t).Compile(`cluster.labels.exists(k, k == "nowhere")`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = program.Eval(v)
	if want := "cluster.labels has 10000 entries, constraints are evaluated over at most 256"; fmt.Sprint(err) != want {
		t.Errorf("error %v, want %v", err, want)
	}
	program, err = compiler(t).Compile(`workload.name == "web"`)
	if err != nil {
		t.Fatal(err)
	}
	if holds, err := program.Eval(v); !holds || err != nil {
		t.Errorf("an expression that does not look at them is not concerned: %v, %v", holds, err)
	}
}

// TestTooLongTexts: nor do texts have to be as short as the API server would have them.
func TestTooLongTexts(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	v := variables()
	v.Row.Location, v.Row.Labels["long"] = long, long
	v.Row.Capabilities[0].Attributes["long"] = long
	v.Row.Taints[0].Value, v.Row.Conditions[0].Message = long, long
	v.Workload.Name, v.Workload.Annotations = long, map[string]string{"a": long}
	v.Placement.Labels[long] = "x"
	for expression, want := range map[string]string{
		`cluster.name == "alpha"`:                                            "",
		`capacity.free.cpu > 0`:                                              "",
		`workload.labels["app"] == "web"`:                                    "",
		`cluster.location.matches("x*y") || true`:                            "cluster.location has a text of 1048576 characters, constraints are evaluated over at most 317",
		`has(cluster.labels.a) || true`:                                      "cluster.labels has a text of 1048576 characters, constraints are evaluated over at most 63",
		`cluster.capabilities[0].attributes.model.matches("(x{0,30}){30}y")`: "cluster.capabilities attributes has a text of 1048576 characters, constraints are evaluated over at most 256",
		`cluster.taints.all(t, t.value == "")`:                               "cluster.taints has a text of 1048576 characters, constraints are evaluated over at most 4096",
		`cluster.conditions.all(t, t.message == "")`:                         "cluster.conditions has a text of 1048576 characters, constraints are evaluated over at most 4096",
		`dyn(cluster).name == "alpha"`:                                       "cluster.location has a text of 1048576 characters, constraints are evaluated over at most 317",
		`workload.name == "x"`:                                               "workload.name has a text of 1048576 characters, constraints are evaluated over at most 317",
		`workload.annotations.a == "x"`:                                      "workload.annotations has a text of 1048576 characters, constraints are evaluated over at most 4096",
		`placement.labels.team == "shop"`:                                    "placement.labels has a text of 1048576 characters, constraints are evaluated over at most 317",
	} {
		program, err := compiler(t).Compile(expression)
		if err != nil {
			t.Fatal(expression, err)
		}
		if _, err = program.Eval(v); want == "" && err != nil || want != "" && fmt.Sprint(err) != want {
			t.Errorf("%s: error %v, want %v", expression, err, want)
		}
		if want != "" && len(program.Explain(v)) != 1 {
			t.Errorf("%s: no reason", expression)
		}
	}
}

// TestBoundsOfWhatIsRead: what an expression does not read of a workload can be of any size.
func TestBoundsOfWhatIsRead(t *testing.T) {
	v := variables()
	v.Workload.Annotations = map[string]string{"note": "x", "long": strings.Repeat("x", 5000)}
	v.Workload.Labels = map[string]string{"app": "web", "long": strings.Repeat("x", 64)}
	for i := range 300 {
		v.Workload.Labels[fmt.Sprint(i)] = ""
	}
	for expression, want := range map[string]string{
		`workload.annotations["note"] == "x" && "app" in workload.labels`: "<nil>",
		`workload.annotations.long != ""`:                                 "workload.annotations has a text of 5000 characters, constraints are evaluated over at most 4096",
		`workload.labels.?long.hasValue()`:                                "workload.labels has a text of 64 characters, constraints are evaluated over at most 63",
		`workload.annotations.all(k, k != "")`:                            "workload.annotations has a text of 5000 characters, constraints are evaluated over at most 4096",
		`workload.labels.app == "web" && size(workload.labels) > 0`:       "workload.labels has 302 entries, constraints are evaluated over at most 256",
		`[workload].all(w, w.labels.app == "web")`:                        "workload.labels has 302 entries, constraints are evaluated over at most 256",
	} {
		program, err := compiler(t).Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := program.Eval(v); fmt.Sprint(err) != want {
			t.Errorf("%s: error %v, want %v", expression, err, want)
		}
		only := *v
		only.Workload = program.Reads().Workload.Only(v.Workload)
		if _, err := program.Eval(&only); fmt.Sprint(err) != want {
			t.Errorf("%s: error %v of what is read, want %v", expression, err, want)
		}
	}
}

// TestExplain: for a cluster that does not pass, the part that fails, what it looked at, and the smallest change to the
// cluster that would make it hold.
func TestExplain(t *testing.T) {
	for _, test := range []struct{ expression, want string }{
		{`true`, ``},
		{`cluster.name == "alpha" && cluster.labels["tier"] == "silver"`,
			`cluster.labels["tier"] == "silver" | cluster.labels["tier"] = "gold" | label tier=silver`},
		{`cluster.labels.?tier.orValue("") == "silver"`, `cluster.labels.?tier.orValue("") == "silver" | cluster.labels["tier"] = "gold" | label tier=silver`},
		{`"silver" == cluster.labels.tier`, `"silver" == cluster.labels.tier | cluster.labels.tier = "gold" | label tier=silver`},
		{`workload.labels.app == cluster.labels.tier`,
			`workload.labels.app == cluster.labels.tier | workload.labels.app = "web", cluster.labels.tier = "gold" | label tier=web`},
		{`cluster.labels.zone == "a"`, `cluster.labels.zone == "a" | cluster.labels.zone = absent | label zone=a | no such key: zone`},
		{`cluster.labels.tier != "gold"`, `cluster.labels.tier != "gold" | cluster.labels.tier = "gold" | label tier other than gold`},
		{`!(cluster.labels.tier == "gold")`, `!(cluster.labels.tier == "gold") | cluster.labels.tier = "gold" | label tier other than gold`},
		{`"zone" in cluster.labels`, `"zone" in cluster.labels | cluster.labels["zone"] = absent | label zone`},
		{`!("tier" in cluster.labels)`, `!("tier" in cluster.labels) | cluster.labels["tier"] = "gold" | no label tier`},
		{`has(cluster.labels.zone)`, `has(cluster.labels.zone) | cluster.labels.zone = absent | label zone`},
		{`cluster.labels.tier in ["silver", "bronze"]`, `cluster.labels.tier in ["silver", "bronze"] | cluster.labels.tier = "gold" | label tier one of silver, bronze`},
		{`cluster.location == "us-east"`, `cluster.location == "us-east" | cluster.location = "eu-west" | location us-east`},
		{`!(cluster.location in ["eu-west"])`, `!(cluster.location in ["eu-west"]) | cluster.location = "eu-west" | location none of eu-west`},
		{`capacity.free.cpu >= 2 * workload.requests.cpu + 5000`,
			`capacity.free.cpu >= 2 * workload.requests.cpu + 5000 | capacity.free.cpu = 6000, workload.requests.cpu = 1500 | 2 more cpu free`},
		{`capacity.free.cpu > 6000`, `capacity.free.cpu > 6000 | capacity.free.cpu = 6000 | 1m more cpu free`},
		{`quantity("32Gi") <= capacity.free.memory`, `quantity("32Gi") <= capacity.free.memory | capacity.free.memory = 25769803776 | 8Gi more memory free`},
		{`capacity.allocated.cpu < 1000`, `capacity.allocated.cpu < 1000 | capacity.allocated.cpu = 1000 | 1m less cpu allocated`},
		{`capacity.free["amd.com/gpu"] >= 2`, `capacity.free["amd.com/gpu"] >= 2 | capacity.free["amd.com/gpu"] = absent | 2 more amd.com/gpu free | no such key: amd.com/gpu`},
		{`capacity.free["amd.com/gpu"] >= workload.requests["memory"]`,
			`capacity.free["amd.com/gpu"] >= workload.requests["memory"] | capacity.free["amd.com/gpu"] = absent, workload.requests["memory"] = 3221225472 | 3221225472 more amd.com/gpu free | no such key: amd.com/gpu`},
		{`capacity.utilization.cpu < 20`, `capacity.utilization.cpu < 20 | capacity.utilization.cpu = 25 | cpu utilization below 20%`},
		{`capacity.healthScore > 100`, `capacity.healthScore > 100 | capacity.healthScore = 100 | healthScore above 100`},
		{`cluster.capabilities.exists(c, c.type == "tpu" && c.available)`,
			`cluster.capabilities.exists(c, c.type == "tpu" && c.available) | cluster.capabilities = 2 entries | a capability where c.type == "tpu" && c.available`},
		{`!cluster.taints.exists(t, t.key == "dedicated")`,
			`!cluster.taints.exists(t, t.key == "dedicated") | cluster.taints = 1 entries | no taint where t.key == "dedicated"`},
		{`cluster.labels.tier == "silver" || cluster.location == "us"`,
			`cluster.labels.tier == "silver" || cluster.location == "us" | cluster.labels.tier = "gold", cluster.location = "eu-west" | label tier=silver or location us`},
		{`!(cluster.labels.tier == "gold" || cluster.location == "eu-west")`,
			`!(cluster.labels.tier == "gold" || cluster.location == "eu-west") | cluster.labels.tier = "gold", cluster.location = "eu-west" | label tier other than gold and location other than eu-west`},
		{`cluster.name.startsWith("b")`, `cluster.name.startsWith("b") | cluster.name = "alpha" | cluster.name.startsWith("b")`},
		{`!cluster.name.startsWith("a")`, `!cluster.name.startsWith("a") | cluster.name = "alpha" | not cluster.name.startsWith("a")`},
		{`cluster.labels.tier == "gold" ? cluster.location == "us" : true`,
			`(cluster.labels.tier == "gold") ? (cluster.location == "us") : true | cluster.labels.tier = "gold", cluster.location = "eu-west" | (cluster.labels.tier == "gold") ? (cluster.location == "us") : true`},
		{`cluster.labels.tier == "silver" && capacity.free.cpu >= 7000`,
			`cluster.labels.tier == "silver" | cluster.labels.tier = "gold" | label tier=silver` + "\n" +
				`capacity.free.cpu >= 7000 | capacity.free.cpu = 6000 | 1 more cpu free`},
	} {
		t.Run(test.expression, func(t *testing.T) {
			program, err := compiler(t).Compile(test.expression)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, cause := range program.Explain(variables()) {
				var observed []string
				for _, o := range cause.Observed {
					observed = append(observed, o.Path+" = "+o.Value)
				}
				line := cause.Expression + " | " + strings.Join(observed, ", ") + " | " + remedy.Any(cause.Remedies)
				if cause.Err != nil {
					line += " | " + cause.Err.Error()
				}
				got = append(got, line)
			}
			if joined := strings.Join(got, "\n"); joined != test.want {
				t.Errorf("got\n%s\nwant\n%s", joined, test.want)
			}
		})
	}
}

// TestExplainIsBounded: the cost of Explain is bounded like an evaluation, which takes one branch of every conditional.
func TestExplainIsBounded(t *testing.T) {
	dear := `workload.labels.all(a, a.startsWith("x"))`
	expression := "false"
	for range 30 {
		expression = `(cluster.name == "b" ? ` + dear + ` : ` + expression + `)`
	}
	program, err := compiler(t).Compile(expression)
	if err != nil {
		t.Fatal(err)
	}
	if causes := program.Explain(variables()); len(causes) != 1 || causes[0].Err != nil {
		t.Errorf("%+v", causes)
	}
}

func TestCompileKeepsWhatItKnows(t *testing.T) {
	c := compiler(t)
	first, _ := c.Compile(`cluster.name == "a"`)
	if again, _ := c.Compile(`cluster.name == "a"`); again != first {
		t.Error("compiled twice")
	}
	_, first1 := c.Compile(`nonsense`)
	if _, again := c.Compile(`nonsense`); !errors.Is(again, first1) {
		t.Error("refused twice")
	}
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`cluster.labels["tier"] == "gold"`, `capacity.free.cpu >= 2 * workload.requests.cpu`, `quantity("4Gi") > 1`,
		`cluster.capabilities.exists(c, c.type == "gpu" && c.available)`, `dyn(capacity.free)[1] == {}.x`, `tmc.Cluster{name: "a"}.name == ""`,
	} {
		f.Add(seed)
	}
	c := compiler(f)
	f.Fuzz(func(_ *testing.T, expression string) {
		program, err := c.Compile(expression)
		if err != nil {
			return
		}
		_, _ = program.Eval(variables())
		program.Explain(variables())
	})
}

// evaluated are what benchmarks evaluate.
var evaluated = map[string]string{
	"label":      `cluster.labels["tier"] in ["gold", "silver"]`,
	"capability": `cluster.capabilities.exists(c, c.type == "gpu" && c.available)`,
	"capacity":   `capacity.free.cpu >= 2 * workload.requests.cpu`,
	"macro":      `cluster.labels.exists(k, k == "tier" && capacity.free.cpu > 1000)`,
}

func BenchmarkEval(b *testing.B) {
	for name, expression := range evaluated {
		b.Run(name, func(b *testing.B) {
			program, err := compiler(b).Compile(expression)
			if err != nil {
				b.Fatal(err)
			}
			v := variables()
			b.ReportAllocs()
			for b.Loop() {
				if holds, err := program.Eval(v); !holds || err != nil {
					b.Fatal(holds, err)
				}
			}
		})
	}
}

func orNil(message string) string {
	if message == "" {
		return "<nil>"
	}
	return message
}
