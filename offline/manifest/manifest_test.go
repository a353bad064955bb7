package manifest_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/offline/manifest"
)

func read(files ...*manifest.File) (messages []string, workspaces []*manifest.Workspace) {
	workspaces, errs := manifest.Read(files)
	for _, e := range errs {
		messages = append(messages, e.Error())
	}
	return messages, workspaces
}

// TestRead: objects go into their workspaces, other objects are skipped, and errors have their positions.
func TestRead(t *testing.T) {
	for _, test := range []struct {
		name, text string
		found      bool
		// objects as "workspace: N clusters, N placements, N workloads, modules", one workspace a line.
		objects string
		errs    []string
	}{
		{name: "nothing", text: "", objects: "default: 0 clusters, 0 placements, 0 workloads, []"},
		{name: "comments alone", text: "# a\n---\n# b\n---\n", objects: "default: 0 clusters, 0 placements, 0 workloads, []"},
		{
			name: "workspaces, a list, windows line ends and a byte order mark",
			text: "\ufeffapiVersion: v1\r\nkind: List\r\nitems:\r\n- apiVersion: apps/v1\r\n  kind: Deployment\r\n  metadata: {name: a, annotations: {kcp.io/cluster: shop}}\r\n" +
				"- apiVersion: apps/v1\r\n  kind: Deployment\r\n  metadata: {name: a}\r\n--- # next\r\napiVersion: tmc.kcp.io/v1alpha1\r\nkind: ClusterRegistration\r\nmetadata: {name: a}\r\nspec: {location: x}\r\n",
			objects: "default: 1 clusters, 0 placements, 1 workloads, []\nshop: 0 clusters, 0 placements, 1 workloads, []",
		},
		{
			name: "JSON", text: `{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "a"}}`,
			objects: "default: 0 clusters, 0 placements, 1 workloads, []",
		},
		{
			name: "no kind that is not known, and nothing that another object controls",
			text: `{apiVersion: x.example.com/v1, kind: Fleet, metadata: {name: a}, spec: {template: {spec: {containers: []}}}}
---
{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: b, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: a, uid: u, controller: true}]}, spec: {template: {spec: {}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: c}}`,
			objects: "default: 0 clusters, 0 placements, 0 workloads, []",
		},
		{
			name: "policies, by the label alone",
			text: `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: shop, labels: {openpolicyagent.org/policy: rego}}, data: {x.rego: "", x_test.rego: "", note: ""}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: b}, data: {y.rego: ""}}`,
			objects: "default: 0 clusters, 0 placements, 0 workloads, [shop/a/x.rego shop/a/x_test.rego]",
		},
		{
			name: "a PlacementConfig of another name than the one that is read",
			text: `{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementConfig, metadata: {name: cluster}, spec: {suspend: true}}
---
{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementConfig, metadata: {name: mine}}`,
			objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs:    []string{"f.yaml:3:1: PlacementConfig mine: Invalid value: the one PlacementConfig of a workspace has the name cluster"},
		},
		{name: "other YAML in a folder", text: "a: b\n---\n[1]\n---\nx", found: true, objects: "default: 0 clusters, 0 placements, 0 workloads, []"},
		{
			name: "other YAML that was named", text: "a: b\n---\n[1]\n---\nkind: X", objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs: []string{
				"f.yaml:1:1: this is not a Kubernetes object: it needs an apiVersion and a kind",
				"f.yaml:3:1: this is not a Kubernetes object",
				"f.yaml:5:1: this is not a Kubernetes object: it needs an apiVersion and a kind",
			},
		},
		{
			name: "a strategy without its braces", text: "{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p}, spec: {workloadSelector: {}, strategy: Spread}}",
			objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs:    []string{`f.yaml:1:120: WorkloadPlacement default/p: spec.strategy: Invalid value: "string": spec.strategy in body must be of type object: "string", did you mean {type: Spread}?`},
		},
		{
			name: "what does not parse, and goes on after it", text: "a: [\n---\na: 1\na: 2\n---\n{apiVersion: batch/v1, kind: Job, metadata: {name: a}}",
			objects: "default: 0 clusters, 0 placements, 1 workloads, []",
			errs:    []string{"f.yaml:1:1: did not find expected node content", `f.yaml:4:1: key "a" already set in map`},
		},
		{
			name: "twice", text: "{apiVersion: batch/v1, kind: Job, metadata: {name: a}}\n---\n{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: default}}",
			objects: "default: 0 clusters, 0 placements, 1 workloads, []",
			errs:    []string{"f.yaml:3:1: Job default/a is defined twice, first at f.yaml:1:1"},
		},
		{
			name: "wrong types", text: "apiVersion: tmc.kcp.io/v1alpha1\nkind: WorkloadPlacement\nmetadata: {name: a}\nspec:\n  workloadSelector: []\n  priority: three\n",
			objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs: []string{
				`f.yaml:5:21: WorkloadPlacement default/a: spec.workloadSelector: Invalid value: "array": spec.workloadSelector in body must be of type object: "array"`,
				`f.yaml:6:13: WorkloadPlacement default/a: spec.priority: Invalid value: "string": spec.priority in body must be of type integer: "string"`,
			},
		},
		{
			name: "a field that is missing", text: "apiVersion: tmc.kcp.io/v1alpha1\nkind: ClusterRegistration\nmetadata: {name: a}\n",
			objects: "default: 1 clusters, 0 placements, 0 workloads, []",
			errs:    []string{"f.yaml:1:1: ClusterRegistration a: spec: Required value"},
		},
		{
			name: "no name", text: "{apiVersion: batch/v1, kind: Job, metadata: {labels: {}}}", objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs: []string{"f.yaml:1:45: Job: metadata.name: is missing"},
		},
		{
			name: "metadata of the wrong type", text: "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: a\n  namespace: n\n---\n{apiVersion: batch/v1, kind: Job, metadata: {name: b, labels: {a: 1}}}",
			objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs: []string{
				"f.yaml:5:14: Job a: metadata.namespace: must be a string, is a boolean: put it in quotes",
				"f.yaml:7:67: Job b: metadata.labels[a]: must be a string, is a number: put it in quotes",
			},
		},
		{
			name: "metadata that the server would refuse", text: "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: A job\n  nam: a\n---\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: A\n  labels: {a b: c}\n---\n" +
				"{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: a, namespace: shop}, spec: {location: eu}}",
			objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs: []string{
				`f.yaml:3:1: Job A job: metadata: strict decoding error: unknown field "nam"`,
				"f.yaml:10:9: Job A: metadata.name: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
				"f.yaml:11:11: Job A: metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
				"f.yaml:13:93: ClusterRegistration shop/a: metadata.namespace: a ClusterRegistration has no namespace",
			},
		},
		{
			name: "a second document that would be lost", objects: "default: 0 clusters, 0 placements, 1 workloads, []",
			text: "{apiVersion: batch/v1, kind: Job, metadata: {name: a}}\n...\n--- # next\n{apiVersion: batch/v1, kind: Job, metadata: {name: b}}\n...\n{apiVersion: batch/v1, kind: Job, metadata: {name: c}}\n" +
				"---\nkind: X\n--- {apiVersion: batch/v1, kind: Job}\n---\n{}\n{}\n",
			errs: []string{
				"f.yaml:5:1: did not find expected <document start>: put --- on a line of its own between two documents",
				"f.yaml:9:1: a second document begins here: put --- on a line of its own before it",
				"f.yaml:11:1: this is not a Kubernetes object: it needs an apiVersion and a kind",
				"f.yaml:12:1: this is not a Kubernetes object: it needs an apiVersion and a kind",
			},
		},
		{
			name: "a quantity that would take minutes to parse", text: "apiVersion: tmc.kcp.io/v1alpha1\nkind: ClusterRegistration\nmetadata: {name: a}\nspec: {location: eu}\nstatus: {allocatable: {cpu: \"1e99999999\"}}\n",
			objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs:    []string{"f.yaml:5:29: ClusterRegistration a: status.allocatable.cpu: 1e99999999 is out of proportion"},
		},
		{
			name: "items without a kind", text: "apiVersion: v1\nkind: List\nitems:\n- {metadata: {name: a}}\n- {kind: Service}\n- {kind: Job, apiVersion: null}\n",
			objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs: []string{
				"f.yaml:4:3: this is not a Kubernetes object: it needs an apiVersion and a kind",
				"f.yaml:5:3: this is not a Kubernetes object: it needs an apiVersion and a kind",
				"f.yaml:6:3: this is not a Kubernetes object: it needs an apiVersion and a kind",
			},
		},
		{
			name: "what is not ours may be nameless", text: "{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization}",
			objects: "default: 0 clusters, 0 placements, 0 workloads, []",
		},
		{
			name: "names that the server makes", text: "{apiVersion: batch/v1, kind: Job, metadata: {generateName: a-}}\n---\n{apiVersion: batch/v1, kind: Job, metadata: {generateName: a-}}",
			objects: "default: 0 clusters, 0 placements, 2 workloads, []",
		},
		{
			name: "a key beside a merge", text: "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec:\n  template:\n    spec:\n      containers:\n      - &one {name: one, image: x}\n      - <<: *one\n        name: two\n",
			objects: "default: 0 clusters, 0 placements, 1 workloads, []",
		},
		{
			name: "a key that is there twice, and the objects beside it", text: "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: batch/v1, kind: Job, metadata: {name: a, labels: {b: c, b: d}}}\n- {apiVersion: batch/v1, kind: Job, metadata: {name: b}}\n",
			objects: "default: 0 clusters, 0 placements, 1 workloads, []",
			errs:    []string{`f.yaml:4:72: Job a: key "b" already set in map`},
		},
		{
			name: "lists of lists, of a kind, of nothing, and of what is none", objects: "default: 1 clusters, 0 placements, 2 workloads, []",
			text: "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n  - {apiVersion: batch/v1, kind: Job, metadata: {name: a}}\n- apiVersion: batch/v1\n  kind: JobList\n  items: [{metadata: {name: b}}]\n" +
				"- {apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistrationList, items: [{metadata: {name: c}, spec: {location: x}}]}\n- {apiVersion: v1, kind: List}\n- {apiVersion: v1, kind: List, items: null}\n- null\n- {apiVersion: v1, kind: List, items: {}}\n",
			errs: []string{"f.yaml:14:3: this is not a Kubernetes object", "f.yaml:15:39: must be a list"},
		},
		{
			name: "a stream of JSON, with tabs", text: "{\n\t\"apiVersion\": \"batch/v1\", \"kind\": \"Job\", \"metadata\": {\"name\": \"a\"}}\n{\"apiVersion\": \"batch/v1\", \"kind\": \"Job\",\n\"metadata\": {\"name\": \"A\"}}{\"kind\": \"X\"}",
			objects: "default: 0 clusters, 0 placements, 1 workloads, []",
			errs: []string{
				"f.yaml:4:22: Job A: metadata.name: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
				"f.yaml:4:1: this is not a Kubernetes object: it needs an apiVersion and a kind",
			},
		},
		{
			name: "UTF-16, as PowerShell writes it", text: "\xff\xfe" + strings.Join(strings.Split("{apiVersion: batch/v1, kind: Job, metadata: {name: a}}\r\n", ""), "\x00") + "\x00",
			objects: "default: 0 clusters, 0 placements, 1 workloads, []",
		},
		{
			name: "a chart, its values and its templates, in a folder", found: true, objects: "default: 0 clusters, 0 placements, 1 workloads, []",
			text: "apiVersion: v2\nname: helper\n---\nimage: {tag: x}\n---\n{{- if .Values.x }}\n---\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: {{ .Release.Name }}\n---\nkind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n---\nresources: [a.yaml]\n---\n{apiVersion: batch/v1, kind: Job, metadata: {name: a}}",
			errs: []string{"f.yaml:11:1: this is a template: render it first, for example with helm template"},
		},
		{
			name: "an object in a folder that lost its kind", text: "apiVersion: apps/v1\nmetadata: {name: a}\n", found: true, objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs: []string{"f.yaml:1:1: this is not a Kubernetes object: it needs an apiVersion and a kind"},
		},
		{
			name: "tabs", text: "apiVersion: batch/v1\nkind: Job\nmetadata:\n\tname: a\n", objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			errs: []string{"f.yaml:4:1: found character that cannot start any token: indent with spaces, quote what begins with a special character"},
		},
		{
			name: "what the API server refuses in lists: two elements with one key", objects: "default: 0 clusters, 1 placements, 0 workloads, []",
			text: "apiVersion: tmc.kcp.io/v1alpha1\nkind: WorkloadPlacement\nmetadata: {name: p}\nspec:\n  workloadSelector: {}\n  constraints:\n" +
				"  - {name: a, expression: capacity.free.cpu > 0}\n  - {name: a, expression: capacity.free.cpu > 1}\n",
			errs: []string{`f.yaml:8:5: WorkloadPlacement default/p: spec.constraints[1]: Duplicate value: {"name":"a"}`},
		},
		{
			name: "null, which the API server takes for left out", objects: "default: 0 clusters, 1 placements, 0 workloads, []",
			text: "apiVersion: tmc.kcp.io/v1alpha1\nkind: WorkloadPlacement\nmetadata: {name: p}\nspec: {workloadSelector: {}, strategy: null, numberOfClusters: null, fallback: null}\n",
		},
		{
			name: "a billion laughs", objects: "default: 0 clusters, 0 placements, 0 workloads, []",
			text: "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
				"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n",
			errs: []string{"f.yaml:1:1: document contains excessive aliasing"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			errs, workspaces := read(&manifest.File{Name: "f.yaml", Text: test.text, Found: test.found})
			if strings.Join(errs, "\n") != strings.Join(test.errs, "\n") {
				t.Errorf("errors\n%s\nwant\n%s", strings.Join(errs, "\n"), strings.Join(test.errs, "\n"))
			}
			var objects []string
			for _, w := range workspaces {
				modules := []string{}
				for name := range w.Modules {
					modules = append(modules, name)
				}
				slices.Sort(modules)
				objects = append(objects, fmt.Sprintf("%s: %d clusters, %d placements, %d workloads, %v", w.Name, len(w.Clusters), len(w.Placements), len(w.Workloads), modules))
			}
			if got := strings.Join(objects, "\n"); got != test.objects {
				t.Errorf("objects\n%s\nwant\n%s", got, test.objects)
			}
		})
	}
}

// TestModulePositions: a position in a module is one in the file, however the module is written in YAML.
func TestModulePositions(t *testing.T) {
	head := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop, labels: {openpolicyagent.org/policy: rego}}\ndata:\n"
	for text, want := range map[string]string{
		"  x.rego: |\n    package a\n    é := X\n":                "7:10",
		"  x.rego: |-\n    package a\n    é := X":                 "7:10",
		"  x.rego: |\n\n\n    é := X\n":                           "8:10", // of row 3
		"  x.rego: |2\n     package a\n    é := X\n":              "7:10",
		"  x.rego: \"package a; \\u00e9 \\x41 X\"\n":              "5:35",
		"  x.rego: 'package a; ''é'' X'\n":                        "5:29",
		"  x.rego: \"package a\\né := X\"\n":                      "5:28",
		"  x.rego: \"package a\\n\\\n   \\\"\\té := X\"\n":        "6:13",
		"  x.rego: \"package a\n\n\n  é\n := X\"\n":               "9:5",
		"  x.rego: 'package ''a''\n\n\n  é := X'\n":               "8:8",
		"  x.rego: package a\n\n    é := X\n":                     "7:10",
		"  x.rego: >\n    package a\n\n    é := X\n":              "8:10",
		"  x.rego: >-\n\n    package a\n    é := X\n":             "8:10",
		"  x.rego: >\n    package a\n      é := X\n    b := 1\n":  "7:12",
		"  # a comment\n  x.rego: |\n    package a\n    é := X\n": "8:10",
	} {
		_, workspaces := read(&manifest.File{Name: "f.yaml", Text: head + text})
		m := workspaces[0].Modules["shop/a/x.rego"]
		row, col := 0, 0
		for i, line := range strings.Split(m.Text, "\n") {
			if before, _, found := strings.Cut(line, "X"); found {
				row, col = i+1, len([]rune(before))+1
			}
		}
		p := m.At(row, col)
		if p.Object != "ConfigMap shop/a" || p.Field != "data[x.rego]" {
			t.Errorf("%q: the place is in %s of %s", text, p.Field, p.Object)
		}
		if got := fmt.Sprintf("%d:%d", p.Line, p.Column); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestOverlay: candidates replace what has their names.
func TestOverlay(t *testing.T) {
	configMap := func(name, data string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: shop, labels: {openpolicyagent.org/policy: rego}}\ndata: " + data + "\n---\n"
	}
	_, base := read(
		&manifest.File{Name: "f.yaml", Text: configMap("one", `{a.rego: "1", b.rego: "1"}`) + configMap("two", `{c.rego: "1"}`) +
			"{apiVersion: batch/v1, kind: Job, metadata: {name: a}}"},
		&manifest.File{Name: "dir/d.rego", Text: "1"},
	)
	for _, test := range []struct {
		name  string
		files []*manifest.File
		prune bool
		want  string
	}{
		{"nothing", nil, false, "default: dir/d.rego=1 shop/one/a.rego=1 shop/one/b.rego=1 shop/two/c.rego=1"},
		{"a ConfigMap replaces all its modules", []*manifest.File{{Name: "c.yaml", Text: configMap("one", `{a.rego: "2"}`)}}, false,
			"default: dir/d.rego=1 shop/one/a.rego=2 shop/two/c.rego=1"},
		{"an empty ConfigMap removes them", []*manifest.File{{Name: "c.yaml", Text: configMap("one", `{}`)}}, false,
			"default: dir/d.rego=1 shop/two/c.rego=1"},
		{"a file replaces the module of its name, wherever it is", []*manifest.File{{Name: "new/c.rego", Text: "2"}, {Name: "new/d.rego", Text: "2"}}, false,
			"default: new/c.rego=2 new/d.rego=2 shop/one/a.rego=1 shop/one/b.rego=1"},
		{"a file that is new is added", []*manifest.File{{Name: "e.rego", Text: "2"}}, false,
			"default: dir/d.rego=1 e.rego=2 shop/one/a.rego=1 shop/one/b.rego=1 shop/two/c.rego=1"},
		{"a ConfigMap that loses its label loses its policies", []*manifest.File{{Name: "c.yaml", Text: "{apiVersion: v1, kind: ConfigMap, metadata: {name: two, namespace: shop}, data: {c.rego: \"1\"}}"}}, false,
			"default: dir/d.rego=1 shop/one/a.rego=1 shop/one/b.rego=1"},
		{"two files of one name are both new", []*manifest.File{{Name: "x/c.rego", Text: "2"}, {Name: "y/c.rego", Text: "3"}}, false,
			"default: dir/d.rego=1 shop/one/a.rego=1 shop/one/b.rego=1 x/c.rego=2 y/c.rego=3"},
		{"a decision is no candidate", []*manifest.File{{Name: "c.yaml", Text: "{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementDecision, metadata: {name: d}, placementName: p}"}}, false,
			"c.yaml:1:1: PlacementDecision default/d: a PlacementDecision cannot be a candidate: the controller writes it"},
		{"pruned", []*manifest.File{{Name: "e.rego", Text: "2"}}, true, "default: e.rego=2"},
		{"another workspace", []*manifest.File{{Name: "w.yaml", Text: "{apiVersion: batch/v1, kind: Job, metadata: {name: a, annotations: {kcp.io/cluster: other}}}"}}, false,
			"default: dir/d.rego=1 shop/one/a.rego=1 shop/one/b.rego=1 shop/two/c.rego=1\nother: dir/d.rego=1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, candidates := read(test.files...)
			var lines []string
			overlaid, err := manifest.Overlay(base, candidates, test.prune)
			if err != nil {
				lines = append(lines, err.Error())
			}
			for _, w := range overlaid {
				if err != nil {
					break
				}
				var modules []string
				for name, m := range w.Modules {
					modules = append(modules, name+"="+m.Text)
				}
				slices.Sort(modules)
				lines = append(lines, strings.TrimSpace(w.Name.String()+": "+strings.Join(modules, " ")))
			}
			if got := strings.Join(lines, "\n"); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
	_, other := read(&manifest.File{Name: "o.yaml", Text: strings.ReplaceAll(configMap("one", `{a.rego: "1", b.rego: "1"}`), "namespace: shop", "namespace: shop, annotations: {kcp.io/cluster: other}")})
	_, candidates := read(&manifest.File{Name: "c.yaml", Text: configMap("one", `{a.rego: "2"}`)})
	overlaid, err := manifest.Overlay(other, candidates, false)
	if err != nil || len(overlaid) != 1 || overlaid[0].Modules["shop/one/a.rego"].Text != "2" {
		t.Errorf("candidates without a workspace are of the only one: %v, %+v", err, overlaid)
	}
	two := append(slices.Clone(other), &manifest.Workspace{Name: "third"})
	if _, err := manifest.Overlay(two, candidates, false); err == nil || err.Error() != "candidates do not say which workspace they are of: give them the annotation kcp.io/path or kcp.io/cluster of one of other, third" {
		t.Errorf("candidates that could be of two workspaces: %v", err)
	}
	_, named := read(&manifest.File{Name: "o.yaml", Text: strings.ReplaceAll(configMap("one", `{a.rego: "1"}`), "namespace: shop", "namespace: shop, annotations: {kcp.io/cluster: 2abc, kcp.io/path: 'root:shop'}")})
	_, byPath := read(&manifest.File{Name: "c.yaml", Text: strings.ReplaceAll(configMap("one", `{a.rego: "2"}`), "namespace: shop", "namespace: shop, annotations: {kcp.io/path: 'root:shop'}")})
	overlaid, err = manifest.Overlay(named, byPath, false)
	if err != nil || len(overlaid) != 1 || overlaid[0].Name != "2abc" || overlaid[0].Modules["shop/one/a.rego"].Text != "2" {
		t.Errorf("candidates that name a workspace by its path: %v, %+v", err, overlaid)
	}
	_, twice := read(&manifest.File{Name: "f.yaml", Text: configMap("one", `{a.rego: "1"}`) + configMap("two", `{a.rego: "1"}`)})
	_, file := read(&manifest.File{Name: "a.rego", Text: "2"})
	if _, err := manifest.Overlay(twice, file, false); err == nil || err.Error() != "a.rego could replace any of shop/one/a.rego, shop/two/a.rego: give the ConfigMap as a candidate" {
		t.Errorf("a file that could replace two: %v", err)
	}
	if len(base[0].Modules) != 4 {
		t.Error("the workspaces themselves must stay as they were")
	}
}

// FuzzRead: reading any file ends, and every position that it reports is in the file.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"apiVersion: tmc.kcp.io/v1alpha1\nkind: WorkloadPlacement\nmetadata: {name: a}\nspec: {workloadSelector: {}, x: 1}\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {openpolicyagent.org/policy: rego}}\ndata:\n  a.rego: |\n    package x\n",
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: batch/v1, kind: Job, metadata: {name: a}}]\n---\na: &a [*a]\n",
		"apiVersion: v1\nkind: List\nitems:\n- &a {apiVersion: v1, kind: List, items: [null, {kind: JobList, apiVersion: batch/v1, items: [{metadata: {generateName: x}}]}]}\n- <<: *a\n  kind: JobList\n",
		"{\"apiVersion\": \"batch/v1\", \"kind\": \"Job\"}\n{\"a\": 1}{\n\n}", "\xff\xfea\x00:\x00", "\ufeff{{ x }}\n--- # x\r\n...\n", "a: &a {<<: *a, b: *a}\nb: {<<: [*a, *a]}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file := &manifest.File{Name: "f.yaml", Text: text}
		workspaces, errs := manifest.Read([]*manifest.File{file})
		for _, e := range errs {
			// YAML has more line ends than others do.
			if e.Line > len(regexp.MustCompile("[\n\r\u0085\u2028\u2029]").FindAllString(text, -1))+1 {
				t.Errorf("%v is beyond the end", e)
			}
		}
		for _, w := range workspaces {
			for _, m := range w.Modules {
				m.At(1, 1)
				m.At(1000, 1000)
			}
		}
		if _, err := manifest.Rewrite(file, func(_, module string) (string, error) { return module, nil }); err != nil && len(errs) == 0 {
			t.Error(err)
		}
	})
}

// TestRewrite: modules are replaced in place, repeatedly with the same result, and nothing else changes.
// Where that cannot be, nothing is changed at all.
func TestRewrite(t *testing.T) {
	head := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {openpolicyagent.org/policy: rego}}\ndata:\n"
	upper := func(_, module string) (string, error) { return strings.ToUpper(module) + "\n", nil }
	for _, test := range []struct{ name, text, want string }{
		{"a block", "  x.rego: |\n    package a\n\n    a\n  note: |\n    b\n", "  x.rego: |\n    PACKAGE A\n\n    A\n  note: |\n    b\n"},
		{"without a line end", "  x.rego: |-\n    a", "  x.rego: |-\n    A"},
		{"Windows line ends", "  x.rego: |\r\n    a\r\n    b\r\n  note: c\r\n", "  x.rego: |\r\n    A\r\n    B\r\n  note: c\r\n"},
		{"an indicator", "  x.rego: |2\n      # odd\n    a\n", "  x.rego: |2\n      # ODD\n    A\n"},
		{"blank lines before", "  x.rego: |\n\n    a\n", "  x.rego: |\n\n    A\n"},
		{"two, and the last at the end", "  x.rego: |\n    a\n  y.rego: |+\n    b\n\n", "  x.rego: |\n    A\n  y.rego: |+\n    B\n\n"},
		{"not a block", "  x.rego: \"a\\nb\"\n", "  x.rego: \"a\\nb\"\n"},
		{"lines of blanks in a raw string", "  x.rego: |\n    a := `\n    \t\n    `\n", "  x.rego: |\n    A := `\n    \t\n    `\n"},
		{"the indicator on a line of its own", "  x.rego: !!str\n    |\n    a\n", "error"},
		{"a line end that only YAML knows", "  # \u2028# x\n  x.rego: |\n    a\n    b\n  note: c\n", "error"},
		{"the same block twice", "  x.rego: &x |\n    a\n    b\n  y.rego: *x\n", "  x.rego: &x |\n    A\n    B\n  y.rego: *x\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := head + test.text
			for range 3 {
				var err error
				if text, err = manifest.Rewrite(&manifest.File{Name: "f.yaml", Text: text}, upper); err != nil {
					text = "error"
					break
				}
			}
			if want := head + test.want; text != want && text != test.want {
				t.Errorf("got\n%q\nwant\n%q", text, want)
			}
		})
	}
}

// TestLeftOut: whatever may be meant as a workload and is not placed is told, and nothing else is.
func TestLeftOut(t *testing.T) {
	const unknown = " is not a kind of workload: kubectl placement kinds lists them, and --kinds-file adds more"
	for text, want := range map[string]string{
		`{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: prometheus-main, ownerReferences: [{apiVersion: monitoring.coreos.com/v1, kind: Prometheus, name: main, uid: u, controller: true}]}, spec: {template: {spec: {}}}}`: "StatefulSet default/prometheus-main: metadata.ownerReferences: Prometheus main controls it, so it is no workload of its own",
		`{apiVersion: batch/v1, kind: Job, metadata: {name: a, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: b, uid: u}]}, spec: {template: {spec: {}}}}`:                                                                  "",
		`{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a}, spec: {template: {spec: {containers: [{image: x}]}}}}`:                                                                                               "Service a: kind: Service of serving.knative.dev/v1" + unknown,
		`{apiVersion: example.com/v1, kind: Thing, metadata: {name: a}, spec: {deep: [{podSpec: {containers: [{name: x}]}}]}}`:                                                                                                         "Thing a: kind: Thing of example.com/v1" + unknown,
		`{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: a}, spec: {template: {spec: {domain: {}}}}}`:                                                                                                              "VirtualMachine a: kind: VirtualMachine of kubevirt.io/v1" + unknown,
		`{apiVersion: extensions/v1beta1, kind: Deployment, metadata: {name: a, namespace: shop}, spec: {template: {spec: {containers: [{name: x}]}}}}`:                                                                                "Deployment shop/a: kind: Deployment of extensions/v1beta1 is not a kind of workload, did you mean Deployment of apps/v1?",
		`{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p}, spec: {workloadSelector: {workloadTypes: [{apiVersion: example.com/v1, kind: Thing}]}}}
---
{apiVersion: example.com/v1, kind: Thing, metadata: {name: a}}`: "Thing a: kind: Thing of example.com/v1" + unknown,
		`{apiVersion: example.com/v1, kind: Thing, metadata: {name: a}}`:                                                                                                      "",
		`{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}`:                                                                                   "",
		`{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: a}, spec: {versions: [{schema: {properties: {containers: {type: array}}}}]}}`: "",
	} {
		workspaces, errs := manifest.Read([]*manifest.File{{Name: "a.yaml", Text: text}})
		if len(errs) > 0 {
			t.Errorf("%s: %v", text, errs)
		}
		got := ""
		for _, o := range workspaces[0].LeftOut {
			got += o.String() + ": " + o.Err.Error()
		}
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", text, got, want)
		}
	}
}

// TestPositionByName: an element of a list is found by its index and by its name, through anchors, too; what is missing stands where
// its parent does.
func TestPositionByName(t *testing.T) {
	workspaces, errs := manifest.Read([]*manifest.File{{Name: "f.yaml", Text: `apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  initContainers:
  - &init {name: init, image: x}
  containers:
  - *init
  - name: main
    image: y
`}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for path, want := range map[string]string{
		"spec.containers[1].image": "f.yaml:10:12", "spec.containers[main].image": "f.yaml:10:12", "spec.containers[main].resources.requests": "f.yaml:9:5",
		"spec.containers[init].image": "f.yaml:6:31", "spec.containers[other].image": "f.yaml:8:3", "spec.containers[7].image": "f.yaml:8:3",
	} {
		if got := workspaces[0].Workloads[0].Position(path).String(); got != want {
			t.Errorf("%s is at %s, want %s", path, got, want)
		}
	}
}
