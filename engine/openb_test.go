package engine_test

import (
	"cmp"
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// BenchmarkOpenB replays a trace of Alibaba's openb (clusterdata, cluster-trace-gpu-v2023), which is not part of this
// project: OPENB is the folder of openb_node_list_all_node.csv and openb_pod_list_default.csv. Every node is a
// cluster and every pod a workload, by creation, each on one cluster with its reservation, none released. Pods that
// share a GPU ask for a whole one. An operation is the whole trace.
func BenchmarkOpenB(b *testing.B) {
	folder := os.Getenv("OPENB")
	if folder == "" {
		b.Skip("set OPENB to the folder of the trace")
	}
	var fleet []*snapshot.Cluster
	for _, r := range readTrace(b, filepath.Join(folder, "openb_node_list_all_node.csv")) {
		c := cluster(r["sn"], 0)
		c.Allocatable = traceAmounts(b, r, "gpu")
		if model := r["model"]; model != "" {
			c.Labels = map[string]string{"gpu-model": model}
		}
		fleet = append(fleet, c)
	}
	pods := readTrace(b, filepath.Join(folder, "openb_pod_list_default.csv"))
	slices.SortStableFunc(pods, func(p, q map[string]string) int {
		return cmp.Compare(traceNumber(b, p["creation_time"]), traceNumber(b, q["creation_time"]))
	})
	workloads := make([]*workload.Workload, len(pods))
	for i, r := range pods {
		w := workloadOf(r["name"], 0)
		w.Requests = traceAmounts(b, r, "num_gpu")
		if models := r["gpu_spec"]; models != "" {
			w.Labels = map[string]string{"gpu-models": models}
		}
		workloads[i] = w
	}

	b.ReportAllocs()
	var placed, cached int
	var took time.Duration
	rounds := 0
	for ; b.Loop(); rounds++ {
		b.StopTimer()
		e := newEngine(b, engine.Options{})
		for _, c := range fleet {
			e.SetCluster(ws, c)
		}
		p := compile(b, e, v1alpha1.WorkloadPlacementSpec{
			NumberOfClusters: ptr.To(intstr.FromInt32(1)),
			Constraints: []v1alpha1.Constraint{{
				Name:       "gpu-model",
				Expression: `!("gpu-models" in workload.labels) || cluster.labels[?"gpu-model"].orValue("") in workload.labels["gpu-models"].split("|")`,
			}},
		})
		placed, cached = 0, 0
		b.StartTimer()
		start := time.Now()
		for _, w := range workloads {
			d, err := e.Decide(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: w})
			if err != nil {
				b.Fatal(err)
			}
			placed += len(d.Clusters)
			if d.Cached {
				cached++
			}
		}
		took += time.Since(start)
	}
	b.ReportMetric(float64(placed), "placed")
	b.ReportMetric(float64(len(workloads)), "workloads")
	b.ReportMetric(100*float64(cached)/float64(len(workloads)), "hit-%")
	b.ReportMetric(float64(rounds*len(workloads))/took.Seconds(), "decisions/s")
}

// readTrace reads a file of comma-separated values, each row by the names of the first.
func readTrace(b *testing.B, path string) []map[string]string {
	b.Helper()
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		b.Fatal(path, err)
	}
	var rows []map[string]string
	for _, record := range records[1:] {
		row := make(map[string]string, len(record))
		for i, name := range records[0] {
			row[name] = record[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// traceAmounts reads what a node has or a pod asks for, its GPUs from a column of that name.
func traceAmounts(b *testing.B, row map[string]string, gpus string) capacity.Resources {
	r := capacity.Resources{CPU: traceNumber(b, row["cpu_milli"]), Memory: traceNumber(b, row["memory_mib"]) << 20}
	if n := traceNumber(b, row[gpus]); n > 0 {
		r.Extended = map[string]int64{"nvidia.com/gpu": n}
	}
	return r
}

func traceNumber(b *testing.B, text string) int64 {
	b.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
