package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestReplay: thirty workloads come to four clusters that have room for fourteen at once, and run for some minutes. Nothing
// moves unless that is asked for.
func TestReplay(t *testing.T) {
	small := &trace{speed: 1}
	for i := range 4 {
		small.clusters = append(small.clusters, cluster{name: fmt.Sprint("c", i), has: vector{int64(3+i%2) * 1000, int64(3+i%2) << 10, 0}})
	}
	for i := range 30 {
		small.workloads = append(small.workloads, job{
			name: fmt.Sprint("w", i), asks: vector{1000, 1 << 10, 0}, at: begins.Add(time.Duration(i) * time.Minute), lasts: time.Duration(1+(i*7)%20) * time.Minute,
		})
	}
	var outcomes []*outcome
	for _, m := range modes {
		o, err := small.replay(t.Context(), m)
		if err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		if o.placed < 20 || o.placed > len(small.workloads) || len(o.waited) != len(small.workloads) || o.waited[0] != 0 {
			t.Errorf("%s: %d placed, waited %v", m.name, o.placed, o.waited)
		}
		outcomes = append(outcomes, o)
	}
	if first, last := outcomes[0], outcomes[len(outcomes)-1]; first.moves != 0 || last.moves == 0 {
		t.Errorf("%d moves where nothing moves, %d where the best score is followed", first.moves, last.moves)
	}
	var table bytes.Buffer
	print(&table, small, outcomes)
	if lines := strings.Count(table.String(), "\n| "); lines != len(modes)+2 {
		t.Errorf("%d lines:\n%s", lines, &table)
	}
	if _, err := draw(small, outcomes); err != nil {
		t.Error(err)
	}
}

// TestReadTrace: a folder without the trace is named.
func TestReadTrace(t *testing.T) {
	for _, test := range []struct {
		folder, want string
		speed        int64
	}{
		{"", "give -openb", 1}, {t.TempDir(), "openb_node_list_all_node.csv", 1}, {t.TempDir(), "-speed", 0},
	} {
		if _, err := readTrace(test.folder, test.speed, 1, 0); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
