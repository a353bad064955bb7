package console_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/internal/console"
	"github.com/kcp-placement/placement/offline/description"
)

var update = flag.Bool("update", false, "write openapi.json")

// operation is a path of the API.
type operation struct {
	method, path, about string
	query               []parameter
	request, response   any
	// events: the answer is a stream of server-sent events.
	events bool
}

type parameter struct{ name, about string }

var (
	inWorkspace = parameter{"workspace", "Name or path of the workspace; may be left out where there is only one."}
	named       = []parameter{{"kind", "Kind of the workload, as in Deployment, or with its API group, as in Deployment.apps."}, {"namespace", "Its namespace."}, {"name", "Its name."}}
)

var operations = []operation{
	{method: "GET", path: "/api/v1/workspaces", about: "The workspaces that there are to look at.", response: console.Workspaces{}},
	{method: "GET", path: "/api/v1/fleet", about: "The clusters of a workspace, how full they are, and what has changed lately.", query: []parameter{inWorkspace}, response: console.Fleet{}},
	{method: "GET", path: "/api/v1/workloads", about: "Where workloads run, or what they wait for.", query: []parameter{
		inWorkspace, {"q", "Words that kind, namespace, name, placement or clusters contain."}, {"namespace", "Only of this namespace."}, {"placement", "Only of this placement."},
		{"state", "Only of this state."}, {"cluster", "Only on this cluster."}, {"nearest", "Only what waits that this cluster is the nearest for."}, {"limit", "How many at most."}, {"continue", "What the answer before says, for the next ones."},
	}, response: console.Workloads{}},
	{method: "GET", path: "/api/v1/workloads/{kind}/{namespace}/{name}/why", about: "Why a workload runs where it does, or waits: kubectl placement explain and describe.", query: []parameter{inWorkspace}, response: console.Why{}},
	{method: "GET", path: "/api/v1/workloads/{kind}/{namespace}/{name}/history", about: "How it came to run there: kubectl placement history.", query: []parameter{inWorkspace}, response: description.History{}},
	{method: "GET", path: "/api/v1/policies", about: "The placements and the Rego in force.", query: []parameter{inWorkspace}, response: console.Policies{}},
	{method: "GET", path: "/api/v1/completions", about: "What constraints and policies can say, and what the fleet has.", query: []parameter{inWorkspace}, response: console.Completions{}},
	{method: "GET", path: "/api/v1/library", about: "Ready policies.", response: console.Library{}},
	{method: "GET", path: "/api/v1/series", about: "Charts over time.", query: []parameter{inWorkspace}, response: console.Charts{}},
	{method: "GET", path: "/api/v1/events", about: "A stream of events: changed, with the version of what is new, and behind, with the reason. A comment every few seconds says that the server is still there.", query: []parameter{inWorkspace}, events: true},
	{method: "POST", path: "/api/v1/playground", about: "Try placements and policies: their errors, and what they would move. Nothing is written.", request: console.Play{}, response: console.Played{}},
	{method: "POST", path: "/api/v1/export", about: "What was tried as a file.", request: console.Export{}, response: console.Exported{}},
}

// TestOpenAPI: what is served as the API's documentation is what the Go types are. With -update it is written.
func TestOpenAPI(t *testing.T) {
	text, err := json.MarshalIndent(document(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile("openapi.json", text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, committed) {
		t.Error("openapi.json is not what the types are: go test ./internal/console -run OpenAPI -update")
	}
}

// TestAnswersAreDocumented: every path answers with what the documentation says, and with nothing else.
func TestAnswersAreDocumented(t *testing.T) {
	handler := serve(example(t, "team-shop"))
	served, _ := ask[map[string]any](t, handler, "GET", "/api/v1/openapi.json", "")
	workloads, _ := ask[console.Workloads](t, handler, "GET", "/api/v1/workloads", "")
	policies, _ := ask[console.Policies](t, handler, "GET", "/api/v1/policies", "")
	placements := map[string]string{}
	for _, p := range policies.Placements {
		placements[p.Namespace+"/"+p.Name] = p.YAML
	}
	body, err := json.Marshal(console.Play{Placements: placements, Modules: policies.Modules})
	if err != nil {
		t.Fatal(err)
	}
	export := append([]byte(`{"as":"scenario",`), body[1:]...)
	for _, o := range operations {
		if o.events {
			continue
		}
		bodies := map[string]string{"/api/v1/playground": string(body), "/api/v1/export": string(export)}
		for _, w := range workloads.Workloads[:2] {
			at := strings.NewReplacer("{kind}", w.Workload.Kind, "{namespace}", w.Workload.Namespace, "{name}", w.Workload.Name).Replace(o.path)
			answer, status := ask[any](t, handler, o.method, at, bodies[o.path])
			schema := map[string]any{"$ref": "#/components/schemas/" + schemaName(reflect.TypeOf(o.response))}
			if status != http.StatusOK {
				t.Errorf("%s %s: %d: %v", o.method, at, status, answer)
				continue
			}
			for _, wrong := range conforms(served, schema, answer, o.path) {
				t.Error(wrong)
			}
		}
	}
	problem, status := ask[any](t, handler, "GET", "/api/v1/fleet?workspace=other", "")
	if status != http.StatusNotFound {
		t.Errorf("a workspace that there is not: %d", status)
	}
	for _, wrong := range conforms(served, map[string]any{"$ref": "#/components/schemas/Problem"}, problem, "problem") {
		t.Error(wrong)
	}
}

// conforms returns where a value is not what a schema says.
func conforms(document, schema map[string]any, value any, at string) (wrong []string) {
	if ref, ok := schema["$ref"].(string); ok {
		all := document["components"].(map[string]any)["schemas"].(map[string]any)
		of, found := all[path.Base(ref)].(map[string]any)
		if !found {
			return []string{at + ": there is no schema " + ref}
		}
		return conforms(document, of, value, at)
	}
	kinds := map[string]bool{}
	switch kind := schema["type"].(type) {
	case string:
		kinds[kind] = true
	case []any:
		for _, k := range kind {
			kinds[k.(string)] = true
		}
	case nil:
		return nil
	}
	switch v := value.(type) {
	case nil:
		if !kinds["null"] {
			return []string{at + ": is null"}
		}
	case string:
		if !kinds["string"] {
			return []string{at + ": is a string"}
		}
	case bool:
		if !kinds["boolean"] {
			return []string{at + ": is a bool"}
		}
	case float64:
		if !kinds["number"] && !kinds["integer"] {
			return []string{at + ": is a number"}
		}
	case []any:
		if !kinds["array"] {
			return []string{at + ": is a list"}
		}
		for i, item := range v {
			wrong = append(wrong, conforms(document, schema["items"].(map[string]any), item, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case map[string]any:
		if !kinds["object"] {
			return []string{at + ": is an object"}
		}
		fields, _ := schema["properties"].(map[string]any)
		more, _ := schema["additionalProperties"].(map[string]any)
		for name, field := range v {
			of, known := fields[name].(map[string]any)
			switch {
			case known:
				wrong = append(wrong, conforms(document, of, field, at+"."+name)...)
			case more != nil:
				wrong = append(wrong, conforms(document, more, field, at+"."+name)...)
			default:
				wrong = append(wrong, at+"."+name+" is not documented")
			}
		}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, has := v[name.(string)]; !has {
				wrong = append(wrong, at+"."+name.(string)+" is missing")
			}
		}
	}
	return wrong
}

// document is the documentation of the operations.
func document(t *testing.T) map[string]any {
	s := &schemas{t: t, all: map[string]any{}, docs: map[string]map[string]string{}}
	paths := map[string]any{}
	for _, o := range operations {
		parameters := []any{}
		if strings.Contains(o.path, "{") {
			for _, p := range named {
				parameters = append(parameters, map[string]any{"name": p.name, "in": "path", "required": true, "description": p.about, "schema": map[string]any{"type": "string"}})
			}
		}
		for _, p := range o.query {
			parameters = append(parameters, map[string]any{"name": p.name, "in": "query", "description": p.about, "schema": map[string]any{"type": "string"}})
		}
		content := map[string]any{"text/event-stream": map[string]any{"schema": map[string]any{"type": "string"}}}
		if !o.events {
			content = map[string]any{"application/json": map[string]any{"schema": s.of(reflect.TypeOf(o.response))}}
		}
		operation := map[string]any{
			"summary": o.about, "parameters": parameters,
			"responses": map[string]any{
				"200":     map[string]any{"description": "The answer.", "content": content},
				"default": map[string]any{"description": "What is wrong, and what to do.", "content": map[string]any{"application/problem+json": map[string]any{"schema": s.of(reflect.TypeOf(console.Problem{}))}}},
			},
		}
		if o.request != nil {
			operation["requestBody"] = map[string]any{"required": true, "content": map[string]any{"application/json": map[string]any{"schema": s.of(reflect.TypeOf(o.request))}}}
		}
		paths[o.path] = map[string]any{strings.ToLower(o.method): operation}
	}
	return map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "Placement console", "version": "v1",
			"description": "The API behind the console: what kubectl placement prints. CPU is in millicores, memory and storage in bytes, other resources in whole units. Fields may be added; none changes its meaning.",
		},
		"security": []any{map[string]any{"token": []any{}}},
		"paths":    paths,
		"components": map[string]any{
			"schemas":         s.all,
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer", "description": "What the console's link holds after #token=, or a token of the kcp."}},
		},
	}
}

// schemas of Go types, described by their comments.
type schemas struct {
	t    *testing.T
	all  map[string]any
	docs map[string]map[string]string
}

func schemaName(of reflect.Type) string {
	if pkg := path.Base(of.PkgPath()); pkg != "console" {
		return pkg + "." + of.Name()
	}
	return of.Name()
}

func (s *schemas) of(of reflect.Type) map[string]any {
	switch of {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[metav1.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[resource.Quantity]():
		return map[string]any{"type": "string"}
	}
	switch of.Kind() {
	case reflect.Pointer:
		return s.of(of.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": s.of(of.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(of.Elem())}
	case reflect.Struct:
		name := schemaName(of)
		if _, known := s.all[name]; !known {
			s.all[name] = nil // it may hold itself
			s.all[name] = s.object(of)
		}
		return map[string]any{"$ref": "#/components/schemas/" + name}
	}
	s.t.Fatalf("there is no schema of %s", of)
	return nil
}

func (s *schemas) object(of reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	s.fields(of, properties, &required, false)
	slices.Sort(required)
	object := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		object["required"] = required
	}
	if about := s.comments(of)[""]; about != "" {
		object["description"] = about
	}
	return object
}

// fields adds the fields of a struct, those of embedded structs included: outer ones win, as in encoding/json.
func (s *schemas) fields(of reflect.Type, properties map[string]any, required *[]string, optional bool) {
	var embedded []reflect.StructField
	for i := range of.NumField() {
		f := of.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "-" || !f.IsExported():
			continue
		case f.Anonymous && tag == "":
			embedded = append(embedded, f)
			continue
		}
		if _, known := properties[tag]; known {
			continue
		}
		schema := s.of(f.Type)
		if about := s.comments(of)[f.Name]; about != "" {
			schema["description"] = about
		}
		properties[tag] = schema
		if !optional && !strings.Contains(options, "omit") {
			*required = append(*required, tag)
			if k := f.Type.Kind(); (k == reflect.Slice || k == reflect.Map) && schema["type"] != nil {
				schema["type"] = []any{schema["type"], "null"}
			}
		}
	}
	for _, f := range embedded {
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		s.fields(inner, properties, required, optional || f.Type.Kind() == reflect.Pointer && f.Name == "Queued")
	}
}

// comments are those of a type, by field; of the type itself without one.
func (s *schemas) comments(of reflect.Type) map[string]string {
	const module = "github.com/kcp-placement/placement/"
	folder, own := strings.CutPrefix(of.PkgPath(), module)
	if !own {
		return nil
	}
	if _, read := s.docs[of.PkgPath()]; !read {
		s.docs[of.PkgPath()] = map[string]string{}
		files := token.NewFileSet()
		packages, err := parser.ParseDir(files, "../../"+folder, nil, parser.ParseComments) //nolint:staticcheck // the names are all that is needed
		if err != nil {
			s.t.Fatal(err)
		}
		for _, p := range packages {
			for _, typed := range doc.New(p, of.PkgPath(), doc.AllDecls).Types {
				s.docs[of.PkgPath()][typed.Name+"."] = sentence(typed.Doc)
				for _, spec := range typed.Decl.Specs {
					definition, _ := spec.(*ast.TypeSpec).Type.(*ast.StructType)
					if definition == nil {
						continue
					}
					for _, f := range definition.Fields.List {
						for _, name := range f.Names {
							s.docs[of.PkgPath()][typed.Name+"."+name.Name] = sentence(f.Doc.Text())
						}
					}
				}
			}
		}
	}
	found := map[string]string{}
	for name, text := range s.docs[of.PkgPath()] {
		if field, ok := strings.CutPrefix(name, of.Name()+"."); ok {
			found[field] = text
		}
	}
	return found
}

// sentence is a comment on one line, without markers for generators.
func sentence(comment string) string {
	var lines []string
	for line := range strings.Lines(comment) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "+") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}
