package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// results are two runs of each of two benchmarks, and a benchmark that is not over clusters.
const results = `goos: linux
goarch: amd64
cpu: A machine
BenchmarkDecideBatch/clusters=1000-2 	 100	 2500 ns/op	 400000 workloads/s
BenchmarkDecideBatch/clusters=1000-2 	 100	 5000 ns/op	 200000 workloads/s
BenchmarkDecideLoop/clusters=1000-2  	 100	 5000 ns/op	 250000 workloads/s
BenchmarkDecideLoop/clusters=1000-2  	 100	 5000 ns/op	 150000 workloads/s
BenchmarkOther-2                     	 100	 5000 ns/op
`

// TestTable: a row shows the median and whether it meets its target; what was not measured is a dash and no target.
func TestTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.txt")
	if err := os.WriteFile(file, []byte(results), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(&out, "", "", []string{file}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Medians on A machine, linux/amd64, go",
		"| clusters | 1,000 | target |  |\n",
		"| decide, class never seen | - | at most 300 µs at 10,000 |  |\n",
		"| batch of 1,000, one core, workloads/s | 300,000 | at least 300,000 at 1,000 | met |\n",
		"| ... faster than a loop of Decide | 1.5× | at least 1.5× at 1,000 | met |\n",
		"\n2 of 2 targets are met.\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwithout\n%s", &out, want)
		}
	}
}

// TestPacking: replays of traces have a table for each list of pods, and a plot; shuffled orders are a mean.
func TestPacking(t *testing.T) {
	folder := t.TempDir()
	file, plot := filepath.Join(folder, "packing.txt"), filepath.Join(folder, "packing.svg")
	if err := os.WriteFile(file, []byte(`BenchmarkOpenB/list=default/by=packing/order=0-2 1 9 ns/op 58.5 cpu-% 100 gpu-% 98 hit-% 41.2 memory-% 7250 placed
BenchmarkOpenB/list=default/by=first-fit/order=0-2 1 9 ns/op 59 cpu-% 99.5 gpu-% 42 memory-% 6939 placed
BenchmarkOpenB/list=default/by=packing/order=1-2 1 9 ns/op 58 cpu-% 99 gpu-% 98 hit-% 41 memory-% 7000 placed
BenchmarkOpenB/list=default/by=packing/order=2-2 1 9 ns/op 58 cpu-% 98 gpu-% 98 hit-% 41 memory-% 6000 placed
BenchmarkOpenB/list=other/by=first-fit/order=0-2 1 9 ns/op 58 cpu-% 98 gpu-% 41 memory-% 6000 placed
`), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(&out, "", plot, []string{file}); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(plot)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| default | placed | CPU | memory | GPUs | shuffled: placed | GPUs |\n",
		"| packing | 7,250 | 58.50 % | 41.20 % | 100.00 % | 6,500 | 98.50 % |\n",
		"| first-fit | 6,939 | 59.00 % | 42.00 % | 99.50 % | - | - |\n",
		"| other | placed |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwithout\n%s", &out, want)
		}
	}
	for _, want := range []string{"list default", ">packing</text>", ">7,250</text>", ">99.50 %</text>"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("the plot lacks %s:\n%s", want, svg)
		}
	}
	if err := run(&out, plot, "", []string{file}); err == nil {
		t.Error("a plot of benchmarks that are not there")
	}
}

// TestBenchmarksExist: every row and curve reads a benchmark of the engine. A misspelt name would be a row of dashes.
func TestBenchmarksExist(t *testing.T) {
	read := func(patterns ...string) (all string) {
		for _, pattern := range patterns {
			files, err := filepath.Glob(pattern)
			if err != nil || len(files) == 0 {
				t.Fatal(pattern, err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				all += string(text)
			}
		}
		return all
	}
	exists := map[string]bool{}
	for _, function := range regexp.MustCompile(`(?m)^func Benchmark(\w+)\(`).FindAllStringSubmatch(read("../../engine/*_test.go", "../../engine/capacity/*_test.go"), -1) {
		exists[function[1]] = true
	}
	names := regexp.MustCompile(`(?:\bof\(|\btime\("[^"]+", |benchmark: )"(\w+)`).FindAllStringSubmatch(read("main.go", "plot.go"), -1)
	if len(names) < 20 {
		t.Errorf("only %d names are found: the expression no longer fits", len(names))
	}
	for _, name := range names {
		if !exists[name[1]] {
			t.Errorf("there is no Benchmark%s", name[1])
		}
	}
}
