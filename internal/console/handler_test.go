package console_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kcp-placement/placement/internal/console"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/scenario"
)

const secret = "the-token-of-the-link"

// read is a source of files that do not change.
type read []*manifest.Workspace

func (r read) Follow(ctx context.Context, tell func(console.Reading)) {
	tell(console.Reading{Workspaces: r, At: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)})
	<-ctx.Done()
}

// example reads the files of an example.
func example(t testing.TB, name string) read {
	t.Helper()
	folder := "../../examples/" + name
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var files []*manifest.File
	for _, e := range entries {
		if e.IsDir() || e.Name() == "expected.yaml" {
			continue
		}
		text, err := os.ReadFile(folder + "/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, &manifest.File{Name: e.Name(), Text: string(text)})
	}
	workspaces, errs := manifest.Read(files)
	if err := manifest.Join(errs); err != nil {
		t.Fatal(err)
	}
	return workspaces
}

// ask sends a request to a console of a source, and reads the answer into one of its type.
func ask[T any](t testing.TB, handler http.Handler, method, path, body string) (answer T, status int) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8080"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+secret)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
	}
	return answer, w.Code
}

func serve(from console.Source) http.Handler {
	return console.Handler(&console.Local{Token: secret, From: from, Kind: "files", Name: "examples"}, console.Options{})
}

// TestWhy: the example's training job runs where its GPUs are free, and the funnel accounts for every cluster.
func TestWhy(t *testing.T) {
	handler := serve(example(t, "team-ml"))
	why, status := ask[console.Why](t, handler, "GET", "/api/v1/workloads/Job/default/train-vision/why", "")
	if status != http.StatusOK || len(why.Clusters) != 1 {
		t.Fatalf("%d: %+v", status, why)
	}
	left := len(why.Verdicts)
	for _, stage := range why.Stages {
		if left -= stage.Rejected; stage.Left != left {
			t.Errorf("stage %+v leaves %d", stage, left)
		}
	}
	for _, v := range why.Verdicts {
		if v.Feasible {
			left--
		}
	}
	if left != 0 {
		t.Errorf("%d clusters are in no stage: %+v", left, why.Stages)
	}
}

// TestToken: who does not have the link sees nothing.
func TestToken(t *testing.T) {
	handler := serve(example(t, "team-ml"))
	for _, header := range []string{"", "Bearer ", "Bearer wrong", "Basic " + secret} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:8080/api/v1/fleet", nil)
		r.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "frankfurt") {
			t.Errorf("%q: %d: %s", header, w.Code, w.Body)
		}
	}
}

// TestForeignSites: a page of another site, or a name that leads to loopback by way of a foreign name server, gets nothing, and the
// pages keep to themselves.
func TestForeignSites(t *testing.T) {
	handler := serve(example(t, "team-ml"))
	for _, tc := range []struct {
		host, site string
		status     int
	}{
		{"127.0.0.1:8080", "", http.StatusOK},
		{"localhost:8080", "same-origin", http.StatusOK},
		{"[::1]:8080", "none", http.StatusOK},
		{"evil.example:8080", "", http.StatusMisdirectedRequest},
		{"127.0.0.1.evil.example", "", http.StatusMisdirectedRequest},
		{"127.0.0.1:8080", "cross-site", http.StatusForbidden},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://"+tc.host+"/api/v1/fleet", nil)
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Sec-Fetch-Site", tc.site)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != tc.status || w.Code != http.StatusOK && strings.Contains(w.Body.String(), "frankfurt") {
			t.Errorf("%+v: %d: %s", tc, w.Code, w.Body)
		}
		for header, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Access-Control-Allow-Origin": "",
		} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("%+v: %s: %q", tc, header, got)
			}
		}
	}
	// The probes of a cluster call by an address, and learn no more than that the console is there.
	r, w := httptest.NewRequestWithContext(t.Context(), "GET", "http://10.0.0.7:8443/healthz", nil), httptest.NewRecorder()
	if handler.ServeHTTP(w, r); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("/healthz: %d: %s", w.Code, w.Body)
	}
}

// TestOversized: what is too large, or not what a path takes, is refused with what to do.
func TestOversized(t *testing.T) {
	handler := serve(example(t, "team-ml"))
	for _, tc := range []struct {
		body   string
		status int
		says   string
	}{
		{`{"modules": {"a.rego": "` + strings.Repeat("x", 5<<20) + `"}}`, http.StatusRequestEntityTooLarge, "try less at once"},
		{`{"modul": {}}`, http.StatusBadRequest, "modul"},
		{`{} {}`, http.StatusBadRequest, "more than one"},
		{`nonsense`, http.StatusBadRequest, "not the JSON"},
		{`{"modules": {"a.yaml": ""}}`, http.StatusUnprocessableEntity, "must end in .rego"},
		{`{"disruptionPercent": 101}`, http.StatusUnprocessableEntity, "from 0 to 100"},
		{`{"placements": {"a": "apiVersion: tmc.kcp.io/v1alpha1\nkind: WorkloadPlacement\nmetadata: {name: a, annotations: {kcp.io/cluster: other}}\nspec: {}"}}`, http.StatusUnprocessableEntity, "another workspace"},
	} {
		problem, status := ask[console.Problem](t, handler, "POST", "/api/v1/playground", tc.body)
		if status != tc.status || problem.Status != tc.status || !strings.Contains(problem.Detail, tc.says) {
			t.Errorf("%.60s: %d: %+v", tc.body, status, problem)
		}
	}
}

// TestFindings: what is wrong in the playground is told at its line and column, and nothing is compared then.
func TestFindings(t *testing.T) {
	handler := serve(example(t, "team-ml"))
	for _, tc := range []struct {
		play      console.Play
		file      string
		line      int
		severity  string
		compared  bool
		mentioned string
	}{
		{console.Play{Modules: map[string]string{"a.rego": "package placement.scoring\n\nweights := {\"capacity\": }\n"}}, "a.rego", 3, "error", false, ""},
		{console.Play{Modules: map[string]string{"a.rego": "package placement.scoring\n\nweights := {\"health\": 1}\n\nunused := http.send({})\n"}}, "a.rego", 5, "error", false, "http.send"},
		{console.Play{Placements: map[string]string{"default/gpu": "apiVersion: tmc.kcp.io/v1alpha1\nkind: WorkloadPlacement\nmetadata: {name: gpu, namespace: default}\nspec:\n  workloadSelector: {}\n  constraints:\n    - name: c\n      expression: cluster.nam == \"x\"\n"}}, "placement default/gpu", 8, "error", false, "nam"},
		{console.Play{Placements: map[string]string{"default/gpu": "apiVersion: tmc.kcp.io/v1alpha1\nkind: WorkloadPlacement\nmetadata: {name: gpu, namespace: default}\nspec:\n  workloadSelector: {}\n  clusterSelector: {clusterNames: [nowhere]}\n"}}, "placement default/gpu", 6, "warning", true, "nowhere"},
	} {
		body, err := json.Marshal(tc.play)
		if err != nil {
			t.Fatal(err)
		}
		played, status := ask[console.Played](t, handler, "POST", "/api/v1/playground", string(body))
		found := false
		for _, f := range played.Findings {
			found = found || f.File == tc.file && f.Line == tc.line && f.Severity == tc.severity && strings.Contains(f.Message, tc.mentioned)
		}
		if status != http.StatusOK || !found || tc.compared != (played.Diff != nil) || tc.compared != (played.Note == "") {
			t.Errorf("%s: %d: %+v", body, status, played)
		}
	}
}

// TestHostileModule: Rego that would never end is stopped by its budget, and the next try is as good as ever.
func TestHostileModule(t *testing.T) {
	handler := serve(example(t, "team-ml"))
	endless := "package placement.scoring\n\nl := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]\n\nweights := {\"health\": count([1 | some a in l; some b in l; some c in l; some d in l; some e in l; some f in l; some g in l; some h in l])}\n"
	for range 12 { // more often than it takes to be put into quarantine
		body, err := json.Marshal(console.Play{Modules: map[string]string{"a.rego": endless}})
		if err != nil {
			t.Fatal(err)
		}
		played, status := ask[console.Played](t, handler, "POST", "/api/v1/playground", string(body))
		if status != http.StatusOK || played.Diff != nil {
			t.Fatalf("%d: %+v", status, played)
		}
	}
	body, err := json.Marshal(console.Play{Modules: map[string]string{"a.rego": "package placement.scoring\n\nweights := {\"health\": 1}\n"}})
	if err != nil {
		t.Fatal(err)
	}
	played, status := ask[console.Played](t, handler, "POST", "/api/v1/playground", string(body))
	if status != http.StatusOK || played.Diff == nil || played.Diff.Summary.Workloads != played.Diff.Summary.After {
		t.Errorf("%d: %+v", status, played)
	}
}

// TestCancelled: a try that nobody waits for any more leaves the next one as it is.
func TestCancelled(t *testing.T) {
	handler := serve(example(t, "team-ml"))
	body := `{"modules": {"a.rego": "package placement.scoring\n\nweights := {\"health\": 1}\n"}}`
	want, _ := ask[console.Played](t, serve(example(t, "team-ml")), "POST", "/api/v1/playground", body)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := httptest.NewRequestWithContext(ctx, "POST", "http://127.0.0.1/api/v1/playground", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+secret)
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	got, status := ask[console.Played](t, handler, "POST", "/api/v1/playground", body)
	if got.ElapsedMs, want.ElapsedMs = 0, 0; status != http.StatusOK || !reflect.DeepEqual(got, want) {
		t.Errorf("%d: got %+v, want %+v", status, got, want)
	}
}

// TestLibrary: every ready policy has a title and a description, and comes into force with its entries.
func TestLibrary(t *testing.T) {
	handler := serve(example(t, "team-global"))
	library, _ := ask[console.Library](t, handler, "GET", "/api/v1/library", "")
	if len(library.Presets) < 5 {
		t.Errorf("%d policies", len(library.Presets))
	}
	for _, p := range library.Presets {
		modules := map[string]string{p.File: p.Module}
		maps.Copy(modules, p.Entries)
		body, err := json.Marshal(console.Play{Modules: modules})
		if err != nil {
			t.Fatal(err)
		}
		played, status := ask[console.Played](t, handler, "POST", "/api/v1/playground", string(body))
		if status != http.StatusOK || played.Diff == nil || p.Title == "" || p.Description == "" || len(p.Entries) == 0 {
			t.Errorf("%s: %d: %+v", p.Name, status, played)
		}
		for _, f := range played.Findings {
			if f.Code == "unread_rule" {
				t.Errorf("%s: %+v", p.Name, f)
			}
		}
	}
}

// TestExport: what is exported is read again as what was tried, and the scenario passes.
func TestExport(t *testing.T) {
	handler := serve(example(t, "team-ml"))
	for _, as := range []string{"configmap", "scenario"} {
		exported, status := ask[console.Exported](t, handler, "POST", "/api/v1/export", `{"as": "`+as+`", "modules": {"a.rego": "package placement.scoring\n\nweights := {\"health\": 1}\n"}}`)
		if status != http.StatusOK {
			t.Fatalf("%s: %d", as, status)
		}
		if as == "configmap" {
			workspaces, errs := manifest.Read([]*manifest.File{{Name: exported.Filename, Text: exported.Text}})
			if len(errs) > 0 || len(workspaces) != 1 || len(workspaces[0].Texts()) != 1 {
				t.Errorf("%v: %s", errs, exported.Text)
			}
			continue
		}
		s, err := scenario.Parse(&manifest.File{Name: exported.Filename, Text: exported.Text}, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, exported.Text)
		}
		if failures, err := s.Run(t.Context()); err != nil || len(failures) > 0 {
			t.Errorf("%v: %+v\n%s", err, failures, exported.Text)
		}
	}
}

// FuzzPlay: whatever is sent to the playground, it answers with JSON, and goes on.
func FuzzPlay(f *testing.F) {
	handler := serve(example(f, "team-ml"))
	f.Add("default/gpu", "apiVersion: tmc.kcp.io/v1alpha1\nkind: WorkloadPlacement\nmetadata: {name: gpu, namespace: default}\nspec: {}\n", "a.rego", "package placement.scoring\n\nweights := {\"health\": 1}\n", "")
	f.Add("x", "{{{", "b.rego", "package x", "kind: List\nitems: [1]\n")
	f.Add("a: &a [*a]", "a: &a [*a,*a]", "../../x.rego", "package placement.affinity\nterms contains 1", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"<script>\"}\n")
	f.Fuzz(func(t *testing.T, name, placement, module, rego, objects string) {
		body, err := json.Marshal(console.Play{Placements: map[string]string{name: placement}, Modules: map[string]string{module: rego}, Objects: objects})
		if err != nil {
			t.Skip("not text")
		}
		if _, status := ask[map[string]any](t, handler, "POST", "/api/v1/playground", string(body)); status >= http.StatusInternalServerError {
			t.Errorf("%s: %d", body, status)
		}
	})
}
