package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"text/template"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// quantity is what is compared.
type quantity struct {
	name   string
	of     func(*outcome) float64
	format string
}

var quantities = []quantity{
	{"moves per 100 changes", func(o *outcome) float64 { return 100 * float64(o.moves) / float64(o.changes) }, "%.2f"},
	{"unevenness of use", func(o *outcome) float64 { return 100 * o.unevenness }, "%.1f %%"},
	{"waited, p50", func(o *outcome) float64 { return o.quantile(0.5).Seconds() }, "%.0f s"},
	{"waited, p99", func(o *outcome) float64 { return o.quantile(0.99).Minutes() }, "%.1f min"},
	{"placed", func(o *outcome) float64 { return 100 * float64(o.placed) / float64(len(o.waited)) }, "%.2f %%"},
}

// quantile of the waiting times.
func (o *outcome) quantile(q float64) time.Duration {
	return o.waited[min(int(q*float64(len(o.waited))), len(o.waited)-1)]
}

func (q *quantity) text(o *outcome) string { return fmt.Sprintf(q.format, q.of(o)) }

// print writes the table in Markdown.
func print(w io.Writer, t *trace, outcomes []*outcome) {
	fmt.Fprintf(w, "%d clusters, %d workloads, arrivals %d times as dense as in the trace\n\n", len(t.clusters), len(t.workloads), t.speed)
	out := table.NewWriter()
	out.SetOutputMirror(w)
	header := table.Row{"what moves", "changes", "moves"}
	columns := []table.ColumnConfig{{Number: 2, Align: text.AlignRight}, {Number: 3, Align: text.AlignRight}}
	for i, q := range quantities {
		header = append(header, q.name)
		columns = append(columns, table.ColumnConfig{Number: i + 4, Align: text.AlignRight})
	}
	out.AppendHeader(header)
	out.SetColumnConfigs(columns)
	for _, o := range outcomes {
		line := table.Row{o.name, o.changes, o.moves}
		for _, q := range quantities {
			line = append(line, q.text(o))
		}
		out.AppendRow(line)
	}
	out.RenderMarkdown()
}

//go:embed churn.svg.tmpl
var plotTemplate string

// panel has a bar for each mode.
type panel struct {
	Title string
	Y     int
	Bars  []bar
}

type bar struct {
	Name, Text string
	Y, Width   int
}

// draw draws a panel of bars for each quantity.
func draw(t *trace, outcomes []*outcome) ([]byte, error) {
	const width, line, gap = 420, 20, 44
	page := struct {
		Clusters, Workloads, Height int
		Panels                      []panel
	}{Clusters: len(t.clusters), Workloads: len(t.workloads)}
	y := 84
	for _, q := range quantities {
		p, most := panel{Title: q.name, Y: y}, 0.0
		for _, o := range outcomes {
			most = max(most, q.of(o))
		}
		for i, o := range outcomes {
			b := bar{Name: o.name, Text: q.text(o), Y: y + 10 + i*line}
			if most > 0 {
				b.Width = int(q.of(o) / most * width)
			}
			p.Bars = append(p.Bars, b)
		}
		page.Panels = append(page.Panels, p)
		y += len(outcomes)*line + gap
	}
	page.Height = y
	drawing, err := template.New("churn").Funcs(template.FuncMap{"plus": func(a, b int) int { return a + b }}).Parse(plotTemplate)
	if err != nil {
		return nil, err
	}
	var svg bytes.Buffer
	err = drawing.Execute(&svg, page)
	return svg.Bytes(), err
}
