package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// server has the objects of workspaces, as lists of YAML, by path, and forbids what lies in some.
func server(t *testing.T, objects map[string][]string, forbidden string) (kubeconfig string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest := strings.TrimPrefix(r.URL.Path, "/clusters/")
		path, resource := rest[:strings.Index(rest, "/")], rest[strings.LastIndex(rest, "/")+1:]
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodGet || slices.Contains(strings.Fields(forbidden), path) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403}`)
			return
		}
		items := []any{}
		for _, text := range objects[path] {
			var o map[string]any
			if err := yaml.Unmarshal([]byte(text), &o); err != nil {
				t.Error(err)
			}
			if strings.ToLower(o["kind"].(string))+"s" == resource {
				o["metadata"].(map[string]any)["annotations"] = map[string]any{"kcp.io/cluster": "c-" + path[strings.LastIndex(path, ":")+1:]}
				items = append(items, o)
			}
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	kubeconfig = filepath.Join(t.TempDir(), "config")
	content := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u}]\n", s.URL+"/clusters/root:shop")
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// TestLiveSharedClusters: a live workspace is read with those that it shares clusters with, as far as its user may.
func TestLiveSharedClusters(t *testing.T) {
	const (
		placement = `{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default}, spec: {workloadSelector: {}, clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}}}`
		workload  = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s, namespace: default, uid: %s}, spec: {template: {spec: {containers: [{name: c, resources: {requests: {cpu: %d}}}]}}}}`
	)
	objects := map[string][]string{
		"root:platform": {
			`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: eu, labels: {tier: gold}}, spec: {location: eu}, status: {allocatable: {cpu: 10}, conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`,
			`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: gold}, spec: {clusterSelector: {}, grants: [{name: shop, workspace: {path: "root:shop"}, quota: {cpu: 6}}, {name: ml, workspace: {cluster: c-ml}}]}}`,
			`{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementDecision, metadata: {name: a, namespace: placement-decisions}, source: {workspace: c-shop, namespace: default}, placementName: p,
				decisions: [{workload: {apiVersion: apps/v1, kind: Deployment, name: web, uid: web}, clusters: [{name: eu, replicas: 1, score: 50, reason: Fair, reserved: {cpu: 2}}], inputsDigest: d, decidedAt: "2026-01-01T00:00:00Z"}]}`,
			`{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementDecision, metadata: {name: b, namespace: placement-decisions}, source: {workspace: c-ml, namespace: default}, placementName: p,
				decisions: [{workload: {apiVersion: apps/v1, kind: Deployment, name: secret, uid: secret}, clusters: [{name: eu, replicas: 1, score: 50, reason: Fair, reserved: {cpu: 3}}], inputsDigest: d, decidedAt: "2026-01-01T00:00:00Z"}]}`,
		},
		"root:shop": {
			`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: gold}, spec: {clusterSet: gold, workspace: {path: "root:platform"}}, status: {clusters: [{name: eu, location: eu, ready: true, free: {cpu: 4}}]}}`,
			`{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementDecision, metadata: {name: p-1, namespace: default}, placementName: p,
				decisions: [{workload: {apiVersion: apps/v1, kind: Deployment, name: web, uid: web}, clusters: [{name: eu, replicas: 1, score: 50, reason: Fair, reserved: {cpu: 2}}], inputsDigest: d, decidedAt: "2026-01-01T00:00:00Z"}]}`,
			placement, fmt.Sprintf(workload, "web", "web", 2), fmt.Sprintf(workload, "large", "large", 5),
		},
		"c-ml": {placement, fmt.Sprintf(workload, "secret", "secret", 3)},
	}
	run := func(forbidden string, args ...string) string {
		var out bytes.Buffer
		c := root()
		c.SetArgs(append(args, "--workload-kinds", "deployments.v1.apps", "--kubeconfig", server(t, objects, forbidden)))
		c.SetOut(&out)
		c.SetErr(&out)
		c.SilenceUsage, c.SilenceErrors = true, true
		if err := c.ExecuteContext(t.Context()); err != nil {
			fmt.Fprintln(&out, err)
		}
		return out.String()
	}
	for _, test := range []struct {
		name            string
		forbidden       string
		args, with, not []string
	}{
		{"a team that may read the clusters", "", []string{"top", "--no-headroom"}, []string{"eu        True    cpu        10 ", "1 clusters, 0 overcommitted; 1 workloads wait"}, []string{"secret", "c-ml"}},
		{"its account", "", []string{"top", "--by", "workspace"}, []string{"gold   root:shop   cpu        2      2          6       4"}, []string{"c-ml"}},
		{"a team that may not", "root:platform", []string{"top", "--no-headroom"}, []string{"The clusters of workspace root:platform may not be read.", "cpu        6             0           2          4"}, nil},
		{"a platform team, with what others have", "", []string{"top", "--workspace", "root:platform", "--by", "workspace"}, []string{"The workspaces of 2 grants are known by their decisions only", "shop", "cpu        3      3          -"}, nil},
		{"a platform team that asks for the teams", "", []string{"simulate", "--workspace", "root:platform", "--with-teams"}, []string{"workspace root:platform\n", "workspace root:shop\n", "Deployment default/secret", "Deployment default/large"}, []string{"decisions only", "workspace c-shop"}},
		{"a team that is not shown", "c-ml", []string{"simulate", "--workspace", "root:platform", "--with-teams"}, []string{"Workspace c-ml cannot be read, and is known by its decisions only", "Deployment default/large"}, nil},
		{"teams that are not shown", "root:shop c-ml", []string{"top", "--workspace", "root:platform", "--with-teams"}, []string{"The workspaces of 2 grants cannot be read, and are known by their decisions only: c-ml, root:shop; of the first: "}, []string{"Workspace c-ml cannot", "Workspace root:shop cannot"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := run(test.forbidden, test.args...)
			for _, part := range test.with {
				if !strings.Contains(out, part) {
					t.Errorf("%q is not in\n%s", part, out)
				}
			}
			for _, part := range test.not {
				if strings.Contains(out, part) {
					t.Errorf("%q is in\n%s", part, out)
				}
			}
		})
	}
}
