package engine_test

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// BenchmarkOpenB replays traces of Alibaba's openb (clusterdata, cluster-trace-gpu-v2023), which are not part of this project:
// OPENB is the folder of openb_node_list_all_node.csv and openb_pod_list_*.csv. Every node is a cluster and every pod a
// workload, each on one cluster with its reservation, none released. Pods that share a GPU ask for a whole one. They arrive by
// creation time, and in shuffled orders, to separate luck from skill. An operation is the whole trace: the settings of the
// engine next to packers that are plain implementations, see packers.
func BenchmarkOpenB(b *testing.B) {
	folder := os.Getenv("OPENB")
	if folder == "" {
		b.Skip("set OPENB to the folder of the traces")
	}
	lists, err := filepath.Glob(filepath.Join(folder, "openb_pod_list_*.csv"))
	if err != nil || len(lists) == 0 {
		b.Fatal("no openb_pod_list_*.csv in ", folder, err)
	}
	nodes := readNodes(b, filepath.Join(folder, "openb_node_list_all_node.csv"))
	for _, list := range lists {
		arrival := readPods(b, list)
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(list), "openb_pod_list_"), ".csv")
		for order := range 4 {
			t := &trace{nodes: nodes, pods: arrival}
			if order > 0 {
				t.pods = slices.Clone(arrival)
				rand.New(rand.NewPCG(0, uint64(order))).Shuffle(len(t.pods), func(i, j int) { t.pods[i], t.pods[j] = t.pods[j], t.pods[i] })
			}
			replay := func(by string, once func(*testing.B, *trace) *outcome) {
				b.Run(fmt.Sprintf("list=%s/by=%s/order=%d", name, by, order), func(b *testing.B) {
					var o *outcome
					for b.Loop() {
						o = once(b, t)
					}
					o.report(b, t)
				})
			}
			for _, s := range settings {
				replay(s.name, s.replay)
			}
			for _, p := range packers {
				replay(p.name, p.replay)
			}
		}
	}
}

// trace is nodes, and the pods that want to run there in the order of their arrival.
type trace struct {
	nodes []node
	pods  []pod
}

type node struct {
	name, model string
	has         vector
}

type pod struct {
	name string
	asks vector
	// models of GPUs that it can do with, divided by "|"; empty for any.
	models string
}

// vector is amounts of CPU in millicores, of memory in MiB, and of GPUs.
type vector [3]int64

func (a vector) resources() capacity.Resources {
	r := capacity.Resources{CPU: a[0], Memory: a[1] << 20}
	if a[2] > 0 {
		r.Extended = map[string]int64{gpu: a[2]}
	}
	return r
}

// outcome is the result of a replay.
type outcome struct {
	placed int
	used   vector
	// cached counts the decisions whose ranking was in the cache, -1 if there is no cache.
	cached int
}

func (o *outcome) place(p *pod) {
	o.placed++
	for i, amount := range p.asks {
		o.used[i] += amount
	}
}

func (o *outcome) report(b *testing.B, t *trace) {
	b.ReportMetric(float64(o.placed), "placed")
	b.ReportMetric(float64(len(t.pods)), "workloads")
	for i, name := range []string{"cpu", "memory", "gpu"} {
		all := int64(0)
		for _, n := range t.nodes {
			all += n.has[i]
		}
		b.ReportMetric(100*float64(o.used[i])/float64(all), name+"-%")
	}
	b.ReportMetric(float64(len(t.pods))/(b.Elapsed().Seconds()/float64(b.N)), "decisions/s")
	if o.cached >= 0 {
		b.ReportMetric(100*float64(o.cached)/float64(len(t.pods)), "hit-%")
	}
}

// setting is what a workspace can set.
type setting struct {
	name     string
	strategy v1alpha1.StrategyType
	// weights of the factors, as Rego; the built-in ones if empty.
	weights string
}

var settings = []setting{
	{name: "default"},
	{name: "BinPack", strategy: v1alpha1.StrategyBinPack},
	{name: "packing", weights: `{"packing": 100}`},
	{name: "default+packing", weights: `{"capacity": 30, "health": 30, "performance": 20, "affinity": 10, "location": 10, "packing": 50}`},
	{name: "BinPack+packing", strategy: v1alpha1.StrategyBinPack, weights: `{"packing": 100}`},
}

func (s *setting) replay(b *testing.B, t *trace) *outcome {
	b.StopTimer()
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		b.Fatal(err)
	}
	e := newEngine(b, engine.Options{Policies: policies})
	if s.weights != "" {
		set, err := policies.Compile(map[string]string{"a.rego": "package placement.scoring\nweights := " + s.weights})
		if err != nil {
			b.Fatal(err)
		}
		e.SetPolicies(ws, set)
	}
	for _, n := range t.nodes {
		e.SetCluster(ws, cluster(n.name, 0, func(c *snapshot.Cluster) {
			c.Allocatable = n.has.resources()
			if n.model != "" {
				c.Labels = map[string]string{"gpu-model": n.model}
			}
		}))
	}
	placement := compile(b, e, v1alpha1.WorkloadPlacementSpec{
		NumberOfClusters: ptr.To(intstr.FromInt32(1)), Strategy: v1alpha1.Strategy{Type: s.strategy},
		Constraints: []v1alpha1.Constraint{{
			Name:       "gpu-model",
			Expression: `!("gpu-models" in workload.labels) || cluster.labels[?"gpu-model"].orValue("") in workload.labels["gpu-models"].split("|")`,
		}},
	})
	workloads := make([]*workload.Workload, len(t.pods))
	for i, p := range t.pods {
		workloads[i] = workloadOf(p.name, 0)
		workloads[i].Requests = p.asks.resources()
		if p.models != "" {
			workloads[i].Labels = map[string]string{"gpu-models": p.models}
		}
	}
	o := &outcome{}
	b.StartTimer()
	for i, w := range workloads {
		d, err := e.Decide(context.Background(), engine.Request{Workspace: ws, Placement: placement, Workload: w})
		if err != nil {
			b.Fatal(err)
		}
		if len(d.Clusters) > 0 {
			o.place(&t.pods[i])
		}
		if d.Cached {
			o.cached++
		}
	}
	return o
}

func readNodes(b *testing.B, path string) (nodes []node) {
	for _, r := range readTrace(b, path) {
		nodes = append(nodes, node{name: r["sn"], model: r["model"], has: traceAmounts(b, r, "gpu")})
	}
	return nodes
}

// readPods reads pods in the order of their creation.
func readPods(b *testing.B, path string) (pods []pod) {
	rows := readTrace(b, path)
	slices.SortStableFunc(rows, func(p, q map[string]string) int {
		return cmp.Compare(traceNumber(b, p["creation_time"]), traceNumber(b, q["creation_time"]))
	})
	for _, r := range rows {
		pods = append(pods, pod{name: r["name"], models: r["gpu_spec"], asks: traceAmounts(b, r, "num_gpu")})
	}
	return pods
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
func traceAmounts(b *testing.B, row map[string]string, gpus string) vector {
	return vector{traceNumber(b, row["cpu_milli"]), traceNumber(b, row["memory_mib"]), traceNumber(b, row[gpus])}
}

func traceNumber(b *testing.B, text string) int64 {
	b.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
