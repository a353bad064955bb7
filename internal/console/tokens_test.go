package console_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/console"
)

// apiServer has objects of workspaces, which it shows to tokens.
type apiServer struct {
	*httptest.Server

	mu sync.Mutex
	// may says which workspaces a token may read.
	may map[string][]string
	// objects by workspace and resource.
	objects map[string]map[string][]map[string]any
	version int
	// news ends all watches, so that their clients look again.
	news chan struct{}
	// asked are the verbs of all requests, and the tokens that they came with.
	verbs, tokens map[string]int
	// down: it answers nothing.
	down bool
}

var kindOf = map[string]string{
	"clusterregistrations": "ClusterRegistration", "workloadplacements": "WorkloadPlacement", "placementdecisions": "PlacementDecision", "deployments": "Deployment",
	"workspaces": "Workspace",
}

func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{
		may: map[string][]string{}, objects: map[string]map[string][]map[string]any{}, version: 1, news: make(chan struct{}),
		verbs: map[string]int{}, tokens: map[string]int{},
	}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(func() {
		s.tell()
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *apiServer) config() *rest.Config {
	return &rest.Config{Host: s.URL, BearerToken: "the console's own", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// tell ends all watches.
func (s *apiServer) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	close(s.news)
	s.news = make(chan struct{})
}

func (s *apiServer) add(workspace, resource string, object map[string]any) {
	s.mu.Lock()
	if s.objects[workspace] == nil {
		s.objects[workspace] = map[string][]map[string]any{}
	}
	s.version++
	metadata := object["metadata"].(map[string]any)
	metadata["resourceVersion"], metadata["uid"] = fmt.Sprint(s.version), fmt.Sprintf("uid-%d", s.version)
	metadata["annotations"] = map[string]any{"kcp.io/cluster": strings.ReplaceAll(workspace, ":", "-")}
	s.objects[workspace][resource] = append(s.objects[workspace][resource], object)
	s.mu.Unlock()
	s.tell()
}

// ServeHTTP implements http.Handler.
func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/clusters/"), "/")
	workspace, resource := parts[0], parts[len(parts)-1]
	s.mu.Lock()
	s.verbs[r.Method]++
	s.tokens[token]++
	allowed, known := s.may[token]
	news, version, down := s.news, s.version, s.down
	items := append([]map[string]any{}, s.objects[workspace][resource]...)
	s.mu.Unlock()
	status := func(code int, reason string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, code)
	}
	switch {
	case down:
		status(http.StatusServiceUnavailable, "ServiceUnavailable")
		return
	case !known:
		status(http.StatusUnauthorized, "Unauthorized")
		return
	case !slices.Contains(allowed, workspace):
		status(http.StatusForbidden, "Forbidden")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("watch") == "true" {
		if r.URL.Query().Get("resourceVersion") != fmt.Sprint(version) {
			_ = bufio.NewWriter(w).Flush()
			fmt.Fprintln(w, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}}`)
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-news:
		case <-r.Context().Done():
		}
		return
	}
	kind, group := kindOf[resource], "tmc.kcp.io/v1alpha1"
	switch resource {
	case "deployments":
		group = "apps/v1"
	case "workspaces":
		group = "tenancy.kcp.io/v1alpha1"
	}
	if kind == "" {
		kind = "Thing"
	}
	for _, item := range items {
		item["kind"], item["apiVersion"] = kind, group
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind + "List", "apiVersion": group, "metadata": map[string]any{"resourceVersion": fmt.Sprint(version)}, "items": items})
}

func registration(name string) map[string]any {
	return map[string]any{
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"location": "eu"},
		"status": map[string]any{
			"conditions":  []any{map[string]any{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}},
			"allocatable": map[string]any{"cpu": "8", "memory": "32Gi"},
		},
	}
}

// asks sends a request with a token.
func asks[T any](t *testing.T, handler http.Handler, token, path string) (answer T, status int) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "https://console.example/api/v1/"+path, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.Body)
	}
	return answer, w.Code
}

func serveTokens(s *apiServer) http.Handler {
	resources, err := workload.Kinds().Resources([]string{"deployments.v1.apps"})
	if err != nil {
		panic(err)
	}
	return console.Handler(&console.Tokens{Server: s.config(), Kinds: workload.Kinds(), Resources: resources}, console.Options{Hosts: []string{"console.example"}})
}

// eventually asks until an answer is right.
func eventually[T any](t *testing.T, handler http.Handler, token, path string, right func(T, int) bool) {
	t.Helper()
	var answer T
	var status int
	for range 300 {
		if answer, status = asks[T](t, handler, token, path); right(answer, status) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s never comes right: %d: %+v", path, status, answer)
}

// TestTokens: each user sees what their own token may read, and nothing else; the console's own credentials are never used, and nothing
// is ever written.
func TestTokens(t *testing.T) {
	s := newAPIServer(t)
	s.may = map[string][]string{"ann": {"root", "root:shop"}, "bob": {"root:ml"}}
	s.add("root", "workspaces", map[string]any{"metadata": map[string]any{"name": "shop"}, "status": map[string]any{"phase": "Ready"}})
	s.add("root:shop", "clusterregistrations", registration("paris"))
	s.add("root:ml", "clusterregistrations", registration("oslo"))
	handler := serveTokens(s)
	for _, tc := range []struct {
		token, workspace string
		status           int
		clusters         []string
	}{
		{"ann", "root:shop", http.StatusOK, []string{"paris"}},
		{"bob", "root:ml", http.StatusOK, []string{"oslo"}},
		{"ann", "root:ml", http.StatusForbidden, nil},
		{"bob", "root:shop", http.StatusForbidden, nil},
		{"eve", "root:shop", http.StatusUnauthorized, nil},
		{"", "root:shop", http.StatusUnauthorized, nil},
		{"ann", "*", http.StatusBadRequest, nil},
		{"ann", "", http.StatusBadRequest, nil},
		{"ann", "root:ml/../root:shop", http.StatusBadRequest, nil},
		{"ann", "root:shop?x=", http.StatusBadRequest, nil},
	} {
		for _, path := range []string{"fleet", "workloads", "policies", "completions", "series", "events", "workloads/Deployment/default/web/why"} {
			if path != "fleet" && tc.status == http.StatusOK {
				continue
			}
			answer, status := asks[console.Fleet](t, handler, tc.token, path+"?workspace="+strings.ReplaceAll(tc.workspace, "?", "%3F"))
			var clusters []string
			for _, c := range answer.Clusters {
				clusters = append(clusters, c.Name)
			}
			if status != tc.status || !slices.Equal(clusters, tc.clusters) {
				t.Errorf("%s by %q of %q: %d: %v", path, tc.token, tc.workspace, status, clusters)
			}
		}
	}
	if listed, status := asks[console.Workspaces](t, handler, "ann", "workspaces"); status != http.StatusOK || len(listed.Workspaces) != 1 || listed.Workspaces[0].Name != "root:shop" {
		t.Errorf("%d: %+v", status, listed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.verbs) != 1 || s.verbs["GET"] == 0 || s.tokens["the console's own"]+s.tokens[""] > 0 {
		t.Errorf("verbs %v, tokens %v", s.verbs, s.tokens)
	}
}

// TestFollowed: what changes is seen, and told as a change; a server that does not answer is told as being behind, with what there was
// before; and who loses their rights sees nothing any more.
func TestFollowed(t *testing.T) {
	s := newAPIServer(t)
	s.may = map[string][]string{"ann": {"root:shop"}}
	s.add("root:shop", "clusterregistrations", registration("paris"))
	handler := serveTokens(s)
	const fleet = "fleet?workspace=root:shop"
	if answer, status := asks[console.Fleet](t, handler, "ann", fleet); status != http.StatusOK || len(answer.Clusters) != 1 {
		t.Fatalf("%d: %+v", status, answer)
	}
	s.add("root:shop", "clusterregistrations", registration("dublin"))
	eventually(t, handler, "ann", fleet, func(f console.Fleet, _ int) bool {
		return len(f.Clusters) == 2 && len(f.Changes) == 1 && f.Changes[0].Cluster == "dublin"
	})
	set := func(change func()) {
		s.mu.Lock()
		change()
		s.mu.Unlock()
		s.tell()
	}
	set(func() { s.down = true })
	eventually(t, handler, "ann", fleet, func(f console.Fleet, status int) bool {
		return f.Behind != nil && len(f.Clusters) == 2 && status == http.StatusOK
	})
	set(func() { s.down = false })
	eventually(t, handler, "ann", fleet, func(f console.Fleet, _ int) bool { return f.Behind == nil && len(f.Clusters) == 2 })
	set(func() { s.may["ann"] = nil })
	eventually(t, handler, "ann", fleet, func(f console.Fleet, status int) bool { return status == http.StatusForbidden && len(f.Clusters) == 0 })
}
