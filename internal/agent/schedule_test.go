package agent

import (
	"testing"
	"time"
)

// When the agent reads its cluster, in milliseconds after the last report.
func TestDebounce(t *testing.T) {
	start := time.Unix(0, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, test := range []struct {
		name    string
		took    int
		changes []int
		want    int
	}{
		{"nothing changes", 10, nil, 30_000},
		{"one change", 10, []int{1000}, 1250},
		{"a second one soon after", 10, []int{1000, 1200}, 1450},
		{"a stream of changes", 10, []int{1000, 1200, 1400, 1600, 1740}, 1750},
		{"soon after the last report", 10, []int{100}, 750},
		{"a stream since the last report", 10, []int{1, 200, 400, 600, 745}, 751},
		{"just before the report", 10, []int{29_900}, 30_000},
		{"soon after a report that took long", 100, []int{100}, 2000},
		{"long after a report that took long", 100, []int{7000}, 7250},
		{"nothing changes after a report that took long", 100, nil, 30_000},
		{"soon after a report that took very long", 10_000, []int{100}, 5000},
	} {
		s := schedule{interval: 30 * time.Second}
		s.written(start, time.Duration(test.took)*time.Millisecond)
		for _, ms := range test.changes {
			s.changed(at(ms))
		}
		if got := s.next(); !got.Equal(at(test.want)) {
			t.Errorf("%s: after %s, want %d ms", test.name, got.Sub(start), test.want)
		}
		if read, _ := s.due(at(test.want - 1)); read {
			t.Errorf("%s: read too early", test.name)
		}
		if read, report := s.due(at(test.want)); !read || report != (test.want == 30_000) {
			t.Errorf("%s: read %v, report in any case %v", test.name, read, report)
		}
		s.clearChanges()
		if got := s.next(); !got.Equal(at(30_000)) {
			t.Errorf("%s: the heartbeat has moved to %s", test.name, got.Sub(start))
		}
	}
}

func TestRetries(t *testing.T) {
	now := time.Unix(0, 0)
	s := schedule{interval: 30 * time.Second}
	s.written(now, 0)
	last := time.Duration(0)
	for i := range 20 {
		s.retry(now)
		s.changed(now)
		pause := s.next().Sub(now)
		switch {
		case i == 0 && (pause < 100*time.Millisecond || pause > 120*time.Millisecond):
			t.Errorf("the first pause is %s", pause)
		case pause < last*8/10 || pause > maxRetry*12/10:
			t.Errorf("pause %d is %s, after %s", i, pause, last)
		}
		last = pause
		now = now.Add(pause)
	}
	if last < maxRetry {
		t.Errorf("the pauses grow to %s only", last)
	}
	s.written(now, 0)
	s.retry(now)
	if pause := s.next().Sub(now); pause > 120*time.Millisecond {
		t.Errorf("after a success the first pause is %s", pause)
	}

	s.wait(now)
	s.changed(now)
	if pause := s.next().Sub(now); pause != s.interval {
		t.Errorf("where only somebody else can help, changes ask again after %s", pause)
	}
	s.hurry(now)
	if read, report := s.due(now); !read || !report {
		t.Error("when somebody has helped, nothing is done")
	}
}
