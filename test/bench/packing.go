package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/template"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/perf/benchfmt"
)

// replay identifies a replay of a trace by BenchmarkOpenB: the list of its pods, who places them, and the order of arrival, 0 for
// that of the trace, others are shuffled.
type replay struct{ list, by, order string }

// packings are what replays came to, by their units.
type packings struct {
	values map[replay]map[string]float64
	// lists and bys in the order in which they were first seen.
	lists, bys []string
	// ours are the settings of the engine, which tells how often a ranking was in its cache.
	ours map[string]bool
}

// add takes a result over, if it is one of a replay.
func (p *packings) add(record *benchfmt.Result) {
	var r replay
	_, parts := record.Name.Parts()
	for _, part := range parts {
		name, value, _ := strings.Cut(strings.TrimPrefix(string(part), "/"), "=")
		switch name {
		case "list":
			r.list = value
		case "by":
			r.by = value
		case "order":
			r.order = value
		}
	}
	if r.list == "" || r.by == "" || r.order == "" {
		return
	}
	if p.values == nil {
		p.values, p.ours = map[replay]map[string]float64{}, map[string]bool{}
	}
	p.lists, p.bys = appendNew(p.lists, r.list), appendNew(p.bys, r.by)
	p.values[r] = map[string]float64{}
	for _, value := range record.Values {
		p.values[r][value.Unit] = value.Value
		p.ours[r.by] = p.ours[r.by] || value.Unit == "hit-%"
	}
}

func appendNew(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// shuffled is the mean over the shuffled orders; NaN where there is none.
func (p *packings) shuffled(list, by, unit string) float64 {
	sum, n := 0.0, 0
	for r, values := range p.values {
		if r.list == list && r.by == by && r.order != "0" {
			sum += values[unit]
			n++
		}
	}
	return sum / float64(n)
}

// print writes a table for each list in Markdown.
func (p *packings) print(w io.Writer) {
	for _, list := range p.lists {
		t := table.NewWriter()
		t.SetOutputMirror(w)
		t.AppendHeader(table.Row{list, "placed", "CPU", "memory", "GPUs", "shuffled: placed", "GPUs"})
		columns := make([]table.ColumnConfig, 6)
		for i := range columns {
			columns[i] = table.ColumnConfig{Number: i + 2, Align: text.AlignRight}
		}
		t.SetColumnConfigs(columns)
		for _, by := range p.bys {
			values, found := p.values[replay{list, by, "0"}]
			if !found {
				continue
			}
			t.AppendRow(table.Row{
				by, count(values["placed"]), percent(values["cpu-%"]), percent(values["memory-%"]), percent(values["gpu-%"]),
				orDash(p.shuffled(list, by, "placed"), count), orDash(p.shuffled(list, by, "gpu-%"), percent),
			})
		}
		fmt.Fprintln(w)
		t.RenderMarkdown()
	}
}

func percent(x float64) string { return fmt.Sprintf("%.2f %%", x) }

func orDash(x float64, format func(float64) string) string {
	if math.IsNaN(x) {
		return "-"
	}
	return format(x)
}

//go:embed packing.svg.tmpl
var packingTemplate string

// dots is a row of the plot: what one packer comes to, with a dot in each panel.
type dots struct {
	Name, Colour string
	Y            float64
	Dots         []dot
}

type dot struct {
	X    float64
	Text string
}

// panel is one quantity of the plot.
type panel struct {
	Title       string
	Left, Right float64
	Ticks       []tick
	unit        string
	step        float64
	format      func(float64) string
	least, most float64
}

// at maps a value to the page.
func (p *panel) at(value float64) float64 {
	return math.Round(10*(p.Left+(value-p.least)/(p.most-p.least)*(p.Right-p.Left))) / 10
}

// plot draws the workloads placed and the GPUs in use of the first list by order of arrival, the most placed first.
func (p *packings) plot() ([]byte, error) {
	const top, line = 92.0, 26.0
	panels := []*panel{
		{Title: "workloads placed", Left: 150, Right: 440, unit: "placed", step: 100, format: count},
		{Title: "GPUs in use", Left: 490, Right: 730, unit: "gpu-%", step: 1, format: func(x float64) string { return count(x) + " %" }},
	}
	of := func(by, unit string) float64 { return p.values[replay{p.lists[0], by, "0"}][unit] }
	bys := slices.Clone(p.bys)
	slices.SortStableFunc(bys, func(a, b string) int { return cmp.Compare(of(b, "placed"), of(a, "placed")) })
	for _, panel := range panels {
		panel.least, panel.most = math.Inf(1), math.Inf(-1)
		for _, by := range bys {
			panel.least, panel.most = min(panel.least, of(by, panel.unit)), max(panel.most, of(by, panel.unit))
		}
		panel.least, panel.most = panel.step*math.Floor(panel.least/panel.step), panel.step*math.Ceil(panel.most/panel.step)
		for value := panel.least; value <= panel.most; value += panel.step {
			panel.Ticks = append(panel.Ticks, tick{panel.at(value), panel.format(value)})
		}
	}
	page := struct {
		List        string
		Panels      []*panel
		Rows        []dots
		Top, Bottom float64
	}{List: p.lists[0], Panels: panels, Top: top, Bottom: top + line*float64(len(bys))}
	for i, by := range bys {
		row := dots{Name: by, Colour: "#768390", Y: top + line*(float64(i)+0.5)}
		if p.ours[by] {
			row.Colour = "#1f83d6"
		}
		for _, panel := range panels {
			format := count
			if panel.unit != "placed" {
				format = percent
			}
			row.Dots = append(row.Dots, dot{panel.at(of(by, panel.unit)), format(of(by, panel.unit))})
		}
		page.Rows = append(page.Rows, row)
	}
	t, err := template.New("packing").Funcs(template.FuncMap{"add": add}).Parse(packingTemplate)
	if err != nil {
		return nil, err
	}
	var svg bytes.Buffer
	err = t.Execute(&svg, page)
	return svg.Bytes(), err
}
