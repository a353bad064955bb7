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
	if err := run(&out, "", []string{file}); err != nil {
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
