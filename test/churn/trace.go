package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// trace is clusters, and the workloads that come and go.
type trace struct {
	clusters  []cluster
	workloads []job
	speed     int64
}

type cluster struct {
	name, model string
	has         vector
}

type job struct {
	name string
	asks vector
	// models of GPUs that it can do with, divided by "|"; empty for any.
	models string
	// at is when it comes, lasts how long it runs once it is placed.
	at    time.Time
	lasts time.Duration
}

// vector is amounts of CPU in millicores, of memory in MiB, and of GPUs.
type vector [3]int64

// busy is the second of the trace after which most of its workloads come.
const busy = 10_190_000

// begins is when the replay begins.
var begins = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// readTrace reads the nodes and the pods of openb. Pods that share a GPU ask for a whole one.
func readTrace(folder string, speed int64, every, most int) (*trace, error) {
	if folder == "" || speed < 1 || every < 1 {
		return nil, fmt.Errorf("give -openb, and -speed and -every of at least 1")
	}
	nodes, err := readTable(filepath.Join(folder, "openb_node_list_all_node.csv"))
	if err != nil {
		return nil, err
	}
	pods, err := readTable(filepath.Join(folder, "openb_pod_list_default.csv"))
	if err != nil {
		return nil, err
	}
	t := &trace{speed: speed}
	for i, n := range nodes {
		if i%every == 0 {
			t.clusters = append(t.clusters, cluster{n.text["sn"], n.text["model"], vector{n.number("cpu_milli"), n.number("memory_mib"), n.number("gpu")}})
			err = cmp.Or(err, n.err)
		}
	}
	for _, p := range pods {
		created, deleted := p.number("creation_time"), p.number("deletion_time")
		t.workloads = append(t.workloads, job{
			name: p.text["name"], models: p.text["gpu_spec"], asks: vector{p.number("cpu_milli"), p.number("memory_mib"), p.number("num_gpu")},
			at: begins.Add(time.Duration(max(0, created-busy)) * time.Second / time.Duration(speed)), lasts: time.Duration(deleted-created) * time.Second,
		})
		if p.err != nil {
			return nil, p.err
		}
	}
	slices.SortStableFunc(t.workloads, func(a, b job) int { return a.at.Compare(b.at) })
	if most > 0 {
		t.workloads = t.workloads[:min(most, len(t.workloads))]
	}
	return t, err
}

// row is a row of a table, by the names of the first one.
type row struct {
	text map[string]string
	err  error
}

func (r *row) number(name string) int64 {
	n, err := strconv.ParseInt(r.text[name], 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
	return n
}

func readTable(path string) (rows []*row, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil || len(records) == 0 {
		return nil, fmt.Errorf("%s: %d rows: %w", path, len(records), err)
	}
	for _, record := range records[1:] {
		r := &row{text: map[string]string{}}
		for i, name := range records[0] {
			r.text[name] = record[i]
		}
		rows = append(rows, r)
	}
	return rows, nil
}
