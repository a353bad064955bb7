package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"strings"
	"text/template"
)

// A template draws what no plotting library draws together: logarithmic axes, bands, and colours for light and dark.
//
//go:embed plot.svg.tmpl
var plotTemplate string

// curve is a benchmark in the plot.
type curve struct {
	Name, Colour string
	// Dashed marks limits; the engine is solid.
	Dashed    bool
	benchmark string
	Points    []point
}

// band is the range of times measured of a peer.
type band struct {
	Name, Colour string
	ranges       map[int][2]float64 // in seconds, by clusters
	Outline      []point
}

// point is a point on the page.
type point struct{ X, Y float64 }

type tick struct {
	At   float64
	Name string
}

var curves = []curve{
	{Name: "naive: cel-go and OPA", Colour: "#d1602a", Dashed: true, benchmark: "BaselineNaive"},
	{Name: "Rego evaluated", Colour: "#9a63e8", benchmark: "DecideFirstSight"},
	{Name: "class never seen", Colour: "#1f83d6", benchmark: "DecideUncached"},
	{Name: "native: by hand in Go", Colour: "#768390", Dashed: true, benchmark: "BaselineNative"},
	{Name: "one cluster changed", Colour: "#bf8700", benchmark: "DecideAfterChange"},
	{Name: "class seen, no change", Colour: "#2da44e", benchmark: "DecideCached"},
}

// peers were measured in process, without an API server, on two cores.
var peers = []band{
	{Name: "OCM, CEL", Colour: "#cf5c9c", ranges: map[int][2]float64{100: {2.5e-3, 4.5e-3}, 1000: {18e-3, 23e-3}, 5000: {82e-3, 104e-3}}},
	{Name: "OCM, labels", Colour: "#2fa3b5", ranges: map[int][2]float64{100: {1.1e-3, 2.1e-3}, 1000: {10e-3, 11e-3}, 5000: {50e-3, 56e-3}}},
	{Name: "Karmada", Colour: "#8f8f3a", ranges: map[int][2]float64{100: {0.8e-3, 0.9e-3}, 1000: {10e-3, 10e-3}, 5000: {50e-3, 59e-3}}},
}

// Edges of the plot on the page.
const (
	plotLeft, plotRight = 72.0, 560.0
	plotTop, plotBottom = 44.0, 440.0
)

// axis maps values to the page on a logarithmic scale.
type axis struct{ from, to, start, end float64 }

func (a axis) at(value float64) float64 {
	share := (math.Log(value) - math.Log(a.from)) / (math.Log(a.to) - math.Log(a.from))
	return math.Round(10*(a.start+share*(a.end-a.start))) / 10
}

// plot draws the time of a decision over the number of clusters.
func (m *measurements) plot() ([]byte, error) {
	least, most := 1e-3, 100e-3 // the peers
	for _, c := range curves {
		for _, size := range m.sizes {
			if value := m.median(c.benchmark, "sec/op", size); !math.IsNaN(value) {
				least, most = min(least, value), max(most, value)
			}
		}
	}
	x := axis{float64(m.sizes[0]), float64(m.sizes[len(m.sizes)-1]), plotLeft, plotRight}
	y := axis{math.Pow(10, math.Floor(math.Log10(least))), math.Pow(10, math.Ceil(math.Log10(most))), plotBottom, plotTop}

	page := struct {
		Left, Right, Top, Bottom float64
		XTicks, YTicks           []tick
		Curves                   []curve
		Bands                    []band
		Machine                  string
	}{Left: plotLeft, Right: plotRight, Top: plotTop, Bottom: plotBottom, Machine: m.machine}
	for _, size := range m.sizes {
		page.XTicks = append(page.XTicks, tick{x.at(float64(size)), count(float64(size))})
	}
	for value := y.from; value <= y.to*1.01; value *= 10 {
		page.YTicks = append(page.YTicks, tick{y.at(value), duration(value * 1.0001)})
	}
	for _, c := range curves {
		for _, size := range m.sizes {
			if value := m.median(c.benchmark, "sec/op", size); !math.IsNaN(value) {
				c.Points = append(c.Points, point{x.at(float64(size)), y.at(value)})
			}
		}
		page.Curves = append(page.Curves, c)
	}
	for _, b := range peers {
		var back []point
		for _, size := range m.sizes {
			if seen, found := b.ranges[size]; found {
				// A band of a single number is visible, too.
				b.Outline = append(b.Outline, point{x.at(float64(size)), y.at(seen[1]) - 1})
				back = append([]point{{x.at(float64(size)), y.at(seen[0]) + 1}}, back...)
			}
		}
		b.Outline = append(b.Outline, back...)
		page.Bands = append(page.Bands, b)
	}
	t, err := template.New("plot").Funcs(template.FuncMap{"path": path, "add": add}).Parse(plotTemplate)
	if err != nil {
		return nil, err
	}
	var svg bytes.Buffer
	if err := t.Execute(&svg, page); err != nil {
		return nil, err
	}
	return svg.Bytes(), nil
}

func path(points []point) string {
	texts := make([]string, len(points))
	for i, p := range points {
		texts[i] = fmt.Sprintf("%g,%g", p.X, p.Y)
	}
	return strings.Join(texts, " ")
}

// add is start + step*index, for the template.
func add(start, step float64, index int) float64 { return start + step*float64(index) }
