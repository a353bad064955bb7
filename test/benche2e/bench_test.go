package main

import (
	"strings"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var all []time.Duration
	for i := range 200 {
		all = append(all, time.Duration(200-i)*time.Millisecond)
	}
	if got, want := quantilesOf(all), (quantiles{100, 198}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := quantilesOf([]time.Duration{time.Second}), (quantiles{1000, 1000}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestMetrics(t *testing.T) {
	m, err := readMetrics(strings.NewReader(`# TYPE placement_writes_total counter
placement_writes_total{kind="PlacementDecision",result="ok"} 60
placement_writes_total{kind="WorkloadPlacement",result="ok"} 20
placement_writes_total{kind="WorkloadPlacement",result="conflict"} 1
placement_workspaces 20
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"placement_writes_total", nil, 81},
		{"placement_writes_total", []string{`kind="WorkloadPlacement"`}, 21},
		{"placement_writes_total", []string{`kind="WorkloadPlacement"`, `result="ok"`}, 20},
		{"placement_workspaces", nil, 20},
		{"placement", nil, 0},
	} {
		if got := m.sum(test.name, test.labels...); got != test.want {
			t.Errorf("%s %v: %g, want %g", test.name, test.labels, got, test.want)
		}
	}
	grown := m.since(metrics{"placement_workspaces": 15})
	if got := grown.sum("placement_workspaces"); got != 5 {
		t.Errorf("the workspaces have grown by %g, want 5", got)
	}
}

func TestChanged(t *testing.T) {
	before := map[string]string{"same": "1", "other": "1", "gone": "1"}
	after := map[string]string{"same": "1", "other": "2", "new": "1"}
	if got := changed(before, after); got != 3 {
		t.Errorf("%d, want 3", got)
	}
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"-workspaces", "2", "--", "--batch-size", "8"})
	if err != nil || o.workspaces != 2 || strings.Join(o.arguments, " ") != "--batch-size 8" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range []string{"-rate 0", "-o xml", "-workspaces 0"} {
		if _, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
}
