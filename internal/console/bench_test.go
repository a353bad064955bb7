package console_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/internal/console"
	"github.com/kcp-placement/placement/offline/manifest"
)

// large is a fleet with workloads of eight sizes that belong to four placements.
func large(tb testing.TB, clusters, workloads int) read {
	tb.Helper()
	var fleet, rest strings.Builder
	for i := range clusters {
		fmt.Fprintf(&fleet, `apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata:
  name: cluster-%04d
  labels: {tier: %s, zone: zone-%d}
spec:
  location: %s
status:
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]
  allocatable: {cpu: "%d", memory: %dGi}
---
`, i, []string{"gold", "silver"}[i%2], i%20, []string{"eu", "us", "ap"}[i%3], 32+i%7*16, 128+i%5*64)
	}
	for i := range 4 {
		fmt.Fprintf(&rest, `apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata:
  name: placement-%d
  namespace: default
spec:
  workloadSelector: {labelSelector: {matchLabels: {team: team-%[1]d}}}
  constraints: [{name: room, expression: capacity.free.cpu >= %d * workload.requests.cpu}]
  strategy: {type: Spread}
  numberOfClusters: 1
---
`, i, 1+i%2)
	}
	for i := range workloads {
		fmt.Fprintf(&rest, `apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-%05d
  namespace: default
  labels: {team: team-%d}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: c, image: i, resources: {requests: {cpu: %dm, memory: 256Mi}}}]}
---
`, i, i%4, 100+i%8*50)
	}
	workspaces, errs := manifest.Read([]*manifest.File{
		{Name: "fleet.yaml", Text: fleet.String()}, {Name: "rest.yaml", Text: rest.String()}, {Name: "scoring.rego", Text: weights(30)},
	})
	if err := manifest.Join(errs); err != nil {
		tb.Fatal(err)
	}
	return workspaces
}

func weights(capacity int) string {
	return fmt.Sprintf("package placement.scoring\n\nweights := {\"capacity\": %d, \"health\": 30, \"performance\": 20}\n", capacity)
}

func send(tb testing.TB, handler http.Handler, method, path string, body []byte) {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), method, "http://127.0.0.1:8080"+path, bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	if handler.ServeHTTP(w, r); w.Code != http.StatusOK {
		tb.Fatalf("%s: %d: %s", path, w.Code, w.Body)
	}
}

// BenchmarkPlayground is what a keystroke costs at 500 clusters and 2,000 workloads, in Rego and in a constraint.
func BenchmarkPlayground(b *testing.B) {
	handler := serve(large(b, 500, 2000))
	policies, _ := ask[console.Policies](b, handler, "GET", "/api/v1/policies", "")
	for _, of := range []string{"rego", "cel"} {
		b.Run(of, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				play := console.Play{Modules: map[string]string{"scoring.rego": weights(30)}, Placements: map[string]string{}}
				for _, p := range policies.Placements {
					play.Placements[p.Namespace+"/"+p.Name] = p.YAML
				}
				if of == "rego" {
					play.Modules["scoring.rego"] = weights(31 + i%60)
				} else {
					play.Placements["default/placement-0"] = strings.Replace(policies.Placements[0].YAML, "1 * workload", fmt.Sprintf("%d * workload", 2+i%60), 1)
				}
				body, err := json.Marshal(play)
				if err != nil {
					b.Fatal(err)
				}
				send(b, handler, "POST", "/api/v1/playground", body)
			}
		})
	}
}

// BenchmarkViews is what each view costs at 1,000 clusters and 10,000 workloads once they are read, and the memory that the console
// holds then.
func BenchmarkViews(b *testing.B) {
	handler := serve(large(b, 1000, 10000))
	send(b, handler, "GET", "/api/v1/fleet", nil)
	for _, path := range []string{"fleet", "workloads", "workloads?limit=100&q=app-00", "workloads/Deployment/default/app-00007/why", "completions", "series"} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				send(b, handler, "GET", "/api/v1/"+path, nil)
			}
			var stats runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&stats)
			b.ReportMetric(float64(stats.HeapAlloc)/(1<<20), "MiB-held")
		})
	}
}
