package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDrainOfALiveCluster: the commands patch the spec and nothing else; --wait says how far the drain is until none remain, and to stop
// waiting leaves the drain as it is.
func TestDrainOfALiveCluster(t *testing.T) {
	remain, patches := 2, []string{}
	stop := func() {}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := "/clusters/root:shop/apis/tmc.kcp.io/v1alpha1/clusterregistrations/eu"; r.URL.Path != want {
			t.Errorf("asked for %s", r.URL.Path)
		}
		if r.Method == http.MethodPatch {
			body, _ := io.ReadAll(r.Body)
			patches = append(patches, string(body))
		}
		status, reason := "False", "Draining"
		if remain == 0 {
			status, reason = "True", ""
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"apiVersion": "tmc.kcp.io/v1alpha1", "kind": "ClusterRegistration", "metadata": {"name": "eu"}, "spec": {"location": "eu", "drain": {}},
			"status": {"drain": {"remaining": %d}, "conditions": [{"type": "Drained", "status": %q, "reason": %q, "message": "%d workloads remain", "lastTransitionTime": null}]}}`, remain, status, reason, remain)
		if r.Method == http.MethodGet {
			if remain--; remain < 0 {
				remain = 0
			}
			stop()
		}
	}))
	defer server.Close()
	kubeconfig := filepath.Join(t.TempDir(), "config")
	content := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u}]\n", server.URL+"/clusters/root:shop")
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, args ...string) string {
		var out bytes.Buffer
		c := root()
		c.SetArgs(append(args, "--kubeconfig", kubeconfig))
		c.SetOut(&out)
		c.SetErr(&out)
		c.SilenceUsage, c.SilenceErrors = true, true
		if err := c.ExecuteContext(ctx); err != nil {
			fmt.Fprintln(&out, err)
		}
		return out.String()
	}
	if got, want := run(t.Context(), "drain", "eu", "--wait"), "clusterregistration.tmc.kcp.io/eu draining\n2 workloads remain\n1 workloads remain\neu is drained\n"; got != want {
		t.Errorf("drain: %q", got)
	}
	run(t.Context(), "cordon", "eu")
	run(t.Context(), "uncordon", "eu")
	if got, want := strings.Join(patches, " "), `{"spec":{"drain":{"deadline":null}}} {"spec":{"unschedulable":true}} {"spec":{"drain":null,"unschedulable":null}}`; got != want {
		t.Errorf("patches %s", got)
	}
	remain, patches = 5, nil
	ctx, cancel := context.WithCancel(t.Context())
	stop = cancel
	if got := run(ctx, "drain", "eu", "--wait", "--deadline", "2h"); !strings.Contains(got, "the drain goes on: kubectl placement uncordon eu ends it") {
		t.Errorf("stopped: %q", got)
	}
	if len(patches) != 1 || !strings.Contains(patches[0], `"deadline":"20`) {
		t.Errorf("patches %s", patches)
	}
}
