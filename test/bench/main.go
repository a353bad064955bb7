// Command bench turns the output of the engine's `go test -bench` into the table and the plot of docs/performance.md: medians,
// their ratios, and whether they meet their targets.
//
//	bench [-plot file.svg] [-packing file.svg] [file ...]
//
// Replays of traces by BenchmarkOpenB become tables of their own, and the plot of -packing.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/perf/benchfmt"
)

func main() {
	plot := flag.String("plot", "", "Write a plot of the times of decisions to this `file`, as SVG.")
	packing := flag.String("packing", "", "Write a plot of what replays of a trace come to to this `file`, as SVG.")
	flag.Parse()
	if err := run(os.Stdout, *plot, *packing, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, plot, packing string, files []string) error {
	m, err := measured(files)
	if err != nil {
		return err
	}
	if len(m.sizes) > 0 {
		m.print(w)
	}
	m.packings.print(w)
	if plot != "" {
		err = write(plot, "benchmarks over clusters=N", len(m.sizes), m.plot)
	}
	if packing != "" {
		err = errors.Join(err, write(packing, "replays of BenchmarkOpenB", len(m.packings.lists), m.packings.plot))
	}
	return err
}

// write writes a plot of what was found n times.
func write(file, what string, n int, plot func() ([]byte, error)) error {
	if n == 0 {
		return fmt.Errorf("%s: there are no %s to plot", file, what)
	}
	svg, err := plot()
	if err != nil {
		return err
	}
	return os.WriteFile(file, svg, 0o644)
}

// measurements are the results of benchmarks over fleets of several sizes.
type measurements struct {
	values   map[key][]float64
	sizes    []int
	machine  string
	packings packings
}

// key identifies one quantity of one benchmark. Times are in seconds.
type key struct {
	benchmark string
	size      int
	unit      string
}

// measured reads files, or standard input without files.
func measured(files []string) (*measurements, error) {
	m := &measurements{values: map[key][]float64{}}
	sizes := map[int]bool{}
	in := benchfmt.Files{Paths: files, AllowStdin: true}
	for in.Scan() {
		switch record := in.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, record
		case *benchfmt.Result:
			m.packings.add(record)
			base, parts := record.Name.Parts()
			name, size := string(base), 0
			for _, part := range parts {
				if number, found := strings.CutPrefix(string(part), "/clusters="); found {
					size, _ = strconv.Atoi(number) // 0 is skipped below
				} else if strings.HasPrefix(string(part), "/") {
					name += string(part)
				}
			}
			if size == 0 {
				continue
			}
			sizes[size] = true
			for _, value := range record.Values {
				k := key{name, size, value.Unit}
				m.values[k] = append(m.values[k], value.Value)
			}
			m.machine = fmt.Sprintf("%s, %s/%s, %s", record.GetConfig("cpu"), record.GetConfig("goos"), record.GetConfig("goarch"), runtime.Version())
		}
	}
	if len(sizes) == 0 && len(m.packings.lists) == 0 && in.Err() == nil {
		return nil, fmt.Errorf("no benchmark over clusters=N and no replay of a trace in %s", cmp.Or(strings.Join(files, ", "), "the input"))
	}
	m.sizes = slices.Sorted(maps.Keys(sizes))
	return m, in.Err()
}

// median of the results of a benchmark for one size; NaN where it was not run.
func (m *measurements) median(benchmark, unit string, size int) float64 {
	values := slices.Sorted(slices.Values(m.values[key{benchmark, size, unit}]))
	if len(values) == 0 {
		return math.NaN()
	}
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

// line is one row of the table.
type line struct {
	name string
	// value for a size, NaN where it was not measured.
	value  func(size int) float64
	format func(float64) string
	// target of the value; may be nil.
	target *target
}

// target is a bound on the value for one size: a minimum if least is set, otherwise a maximum.
type target struct {
	size  int
	least bool
	bound float64
}

func (m *measurements) lines() []line {
	of := func(benchmark, unit string) func(int) float64 {
		return func(size int) float64 { return m.median(benchmark, unit, size) }
	}
	time := func(name, benchmark string, t *target) line { return line{name, of(benchmark, "sec/op"), duration, t} }
	uncached, naive, native := of("DecideUncached", "sec/op"), of("BaselineNaive", "sec/op"), of("BaselineNative", "sec/op")
	batch, loop := of("DecideBatch", "workloads/s"), of("DecideLoop", "workloads/s")
	feature := func(name, benchmark string) []line {
		of := func(kind string) func(int) float64 {
			return func(n int) float64 {
				return m.median("Feature/"+benchmark+kind, "sec/op", n) / m.median("Feature/Plain"+kind, "sec/op", n)
			}
		}
		most := &target{size: 1000, bound: 5}
		return []line{
			{name + ", of plain, class never seen", of("/new"), times, most},
			{name + ", of plain, class seen, one cluster changed", of("/seen"), times, most},
		}
	}
	return slices.Concat([]line{
		time("naive: cel-go and OPA as documented", "BaselineNaive", nil),
		time("native: one policy by hand in Go", "BaselineNative", nil),
		time("decide, class never seen", "DecideUncached", &target{size: 10000, bound: 300e-6}),
		{"... of native", func(n int) float64 { return uncached(n) / native(n) }, times, &target{size: 1000, bound: 5}},
		{"... faster than naive", func(n int) float64 { return naive(n) / uncached(n) }, times, &target{size: 1000, least: true, bound: 1000}},
		time("decide, class never seen, Rego evaluated", "DecideFirstSight", nil),
		{"... more than without Rego", func(n int) float64 { return of("DecideFirstSight", "sec/op")(n) - uncached(n) }, duration, &target{size: 1000, bound: 60e-6}},
		time("decide, class seen, no change", "DecideCached", &target{size: 1000, bound: 1e-6}),
		{"... allocations", of("DecideCached", "allocs/op"), count, nil},
		time("decide, class seen, one cluster changed", "DecideAfterChange", &target{size: 1000, bound: 2e-6}),
		{"... allocations", of("DecideAfterChange", "allocs/op"), count, nil},
		time("no place and why, class seen, one cluster changed", "NoPlace", &target{size: 1000, bound: 10e-6}),
		time("no place and why, class never seen", "NoPlaceUncached", nil),
		time("decide by cost and packing, class never seen", "CostAndPackingUncached", nil),
		{"... of without", func(n int) float64 { return of("CostAndPackingUncached", "sec/op")(n) / uncached(n) }, times, &target{size: 1000, bound: 5}},
		time("decide by cost and packing, class seen, one cluster changed", "CostAndPackingAfterChange", nil),
		{"... of without", func(n int) float64 {
			return of("CostAndPackingAfterChange", "sec/op")(n) / of("DecideAfterChange", "sec/op")(n)
		}, times, &target{size: 1000, bound: 5}},
		{"batch of 1,000, one core, workloads/s", batch, count, &target{size: 1000, least: true, bound: 300_000}},
		{"... faster than a loop of Decide", func(n int) float64 { return batch(n) / loop(n) }, times, &target{size: 1000, least: true, bound: 1.5}},
		{"16 workspaces at once, decisions/s", of("DecideParallel", "decisions/s"), count, nil},
		time("new policies, to the first decision", "PolicyChange", nil),
		time("one cluster's report", "ClusterUpdate", nil),
		{"ledger: reserved and released a second, 1 goroutine", of("Ledger/goroutines=1", "pairs/s"), count, &target{size: 10000, least: true, bound: 1e6}},
		{"... 4 goroutines", of("Ledger/goroutines=4", "pairs/s"), count, &target{size: 10000, least: true, bound: 1e6}},
		{"... 16 goroutines", of("Ledger/goroutines=16", "pairs/s"), count, &target{size: 10000, least: true, bound: 1e6}},
		{"... allocations", of("Ledger/goroutines=16", "allocs/op"), count, &target{size: 10000, bound: 0}},
		{"100 workspaces of one fleet at once, a call for each workload, decisions/s", of("TeamsDecide/free/each", "decisions/s"), count, &target{size: 1000, least: true, bound: 300_000}},
		{"... within quotas", of("TeamsDecide/quota/each", "decisions/s"), count, &target{size: 1000, least: true, bound: 300_000}},
		{"... in batches", of("TeamsDecide/free/batch", "decisions/s"), count, &target{size: 1000, least: true, bound: 300_000}},
		{"... in batches within quotas", of("TeamsDecide/quota/batch", "decisions/s"), count, &target{size: 1000, least: true, bound: 300_000}},
		time("one of 100 workspaces with 100 waiting each says who waits", "TeamsLine", &target{size: 1000, bound: 50e-3}),
		time("one cluster's report to a fleet of 100 workspaces", "TeamsReport/teams=100", nil),
		{"... of the same to a fleet of one", func(n int) float64 {
			return of("TeamsReport/teams=100", "sec/op")(n) / of("TeamsReport/teams=1", "sec/op")(n)
		}, times, &target{size: 1000, bound: 1.2}},
		{"memory of a further workspace before it decides", of("TeamsMemory", "B/workspace"), byteCount, &target{size: 1000, bound: 200 << 10}},
		{"... after it has decided for one class", of("TeamsMemory", "B/deciding"), byteCount, nil},
		{"memory of a cluster in a workspace", of("Memory", "B/cluster"), byteCount, &target{size: 1000, bound: 2048}},
	},
		feature("BinPack", "BinPack"),
		feature("Weighted", "Weighted"),
		feature("minClusters", "MinClusters"),
		feature("spread over locations", "Spread"),
		feature("spread over locations and zones", "SpreadTwoLevels"),
		feature("spread over locations, soft", "SpreadSoft"),
		feature("spread of workloads over locations", "SpreadWorkloads"),
		feature("divided evenly", "DividedEven"),
		feature("divided by free capacity", "DividedFree"),
		feature("divided among few clusters", "DividedAggregated"),
		feature("divided in order, overflowing", "DividedOverflow"),
		feature("fallback groups", "Fallback"),
		feature("nodes that pods select", "Nodes"),
		feature("near others, of 10,000 placed workloads", "Attract"),
		feature("on the clusters of others", "AttractNear"),
		feature("away from others", "Repel"),
		feature("near others and away from others, soft", "AttractSoft"),
		feature("spread over locations, by policy", "SpreadByPolicy"),
		feature("each of 1,000 apps apart, by policy", "RepelByPolicy"),
		feature("scores from outside", "Scores"),
	)
}

// print writes the table in Markdown, and the number of targets that are met.
func (m *measurements) print(w io.Writer) {
	fmt.Fprintf(w, "\nMedians on %s:\n\n", m.machine)
	t := table.NewWriter()
	t.SetOutputMirror(w)
	header := table.Row{"clusters"}
	columns := []table.ColumnConfig{{Number: 1, Align: text.AlignLeft}}
	for i, size := range m.sizes {
		header = append(header, count(float64(size)))
		columns = append(columns, table.ColumnConfig{Number: i + 2, Align: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	t.AppendHeader(append(header, "target", ""))
	met, targets := 0, 0
	for _, l := range m.lines() {
		row := table.Row{l.name}
		for _, size := range m.sizes {
			row = append(row, l.cell(size))
		}
		wanted, verdict := "", ""
		if l.target != nil {
			wanted = l.target.describe(l.format)
			if value := l.value(l.target.size); !math.IsNaN(value) {
				targets++
				verdict = "missed"
				if l.target.met(value) {
					met++
					verdict = "met"
				}
			}
		}
		t.AppendRow(append(row, wanted, verdict))
	}
	t.RenderMarkdown()
	fmt.Fprintf(w, "\n%d of %d targets are met.\n", met, targets)
}

func (t *target) met(value float64) bool {
	if t.least {
		return value >= t.bound
	}
	return value <= t.bound
}

func (t *target) describe(format func(float64) string) string {
	word := "at most"
	if t.least {
		word = "at least"
	}
	return fmt.Sprintf("%s %s at %s", word, format(t.bound), count(float64(t.size)))
}

// cell is the formatted value for a size.
func (l line) cell(size int) string {
	value := l.value(size)
	if math.IsNaN(value) {
		return "-"
	}
	return l.format(value)
}

// duration formats seconds with three digits.
func duration(seconds float64) string {
	for _, unit := range []struct {
		name string
		size float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}} {
		if math.Abs(seconds) >= unit.size {
			return digits(seconds/unit.size) + " " + unit.name
		}
	}
	return digits(seconds*1e9) + " ns"
}

func times(ratio float64) string { return digits(ratio) + "×" }

func byteCount(n float64) string { return count(n) + " B" }

// digits formats three digits, and all digits of 100 and more.
func digits(x float64) string {
	switch size := math.Abs(x); {
	case size >= 99.95:
		return count(x)
	case size >= 9.995:
		return trimmed(x, 1)
	default:
		return trimmed(x, 2)
	}
}

func trimmed(x float64, decimals int) string {
	s := strconv.FormatFloat(x, 'f', decimals, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// count formats a whole number with commas.
func count(x float64) string {
	s := strconv.FormatFloat(math.Abs(x), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if x <= -0.5 {
		s = "-" + s
	}
	return s
}
