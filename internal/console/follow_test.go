package console_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/kcp-placement/placement/internal/console"
	"github.com/kcp-placement/placement/offline/manifest"
)

// readings is a source that tells what it is given.
type readings chan []*manifest.Workspace

func (r readings) Follow(ctx context.Context, tell func(console.Reading)) {
	for {
		select {
		case <-ctx.Done():
			return
		case workspaces := <-r:
			tell(console.Reading{Workspaces: workspaces, At: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)})
		}
	}
}

// TestWhatWasIsNotKept: of a workspace as it was before its last change nothing is kept, however long the viewer has listened.
func TestWhatWasIsNotKept(t *testing.T) {
	source := make(readings, 1)
	server := httptest.NewServer(serve(source))
	t.Cleanup(server.Close)
	first := func() weak.Pointer[manifest.Workspace] { // which this test does not keep either
		workspaces := example(t, "team-ml")
		source <- workspaces
		return weak.Make(workspaces[0])
	}()

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	events := bufio.NewScanner(response.Body)
	changed := func() {
		for events.Scan() {
			if strings.HasPrefix(events.Text(), "event: changed") {
				return
			}
		}
		t.Fatalf("the stream of events ends: %v", events.Err())
	}
	changed()
	try(t, server.Config.Handler)
	source <- example(t, "team-ml")
	changed()
	for end := time.Now().Add(time.Minute); first.Value() != nil; runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("the workspace as it was is still held")
		}
	}
}

// try tries what is in force.
func try(t *testing.T, handler http.Handler) {
	t.Helper()
	if played, status := ask[console.Played](t, handler, "POST", "/api/v1/playground", "{}"); status != http.StatusOK || played.Diff == nil {
		t.Fatalf("%d: %+v", status, played)
	}
}

// slow is a source that takes an hour to read.
type slow read

func (s slow) Follow(_ context.Context, tell func(console.Reading)) {
	time.Sleep(time.Hour)
	tell(console.Reading{Workspaces: s, At: time.Now()})
}

// TestSlowReading: whatever a page asks for is answered once the workspaces are read, however long that takes.
func TestSlowReading(t *testing.T) {
	for _, path := range []string{"/api/v1/workspaces", "/api/v1/fleet", "/api/v1/workloads", "/api/v1/policies", "/api/v1/series"} {
		workspaces := example(t, "team-ml")
		synctest.Test(t, func(t *testing.T) {
			if _, status := ask[any](t, serve(slow(workspaces)), "GET", path, ""); status != http.StatusOK {
				t.Errorf("%s: %d", path, status)
			}
		})
	}
}
