package console_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kcp-placement/placement/internal/console"
	"github.com/kcp-placement/placement/offline/manifest"
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
