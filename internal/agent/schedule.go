package agent

import (
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// A change is looked at once no other has followed for a while, but soon after the first of several, and not right after a
// report: so a registration follows its cluster within a second, and neither a burst nor a stream of changes costs more
// than a write in that time.
const (
	quiet   = 250 * time.Millisecond
	longest = 750 * time.Millisecond
)

// maxRetry is the longest pause between attempts to write.
const maxRetry = 10 * time.Second

// schedule knows when to look at the cluster and when to write. It has no clock.
type schedule struct {
	interval time.Duration
	// wrote is when a report was written last.
	wrote time.Time
	// report is when a report is due whether or not anything has changed.
	report time.Time
	// first and last are the changes that nobody has looked at.
	first, last time.Time
	// held tells that the last attempt to write has failed. Then changes wait for the next.
	held    bool
	backoff *wait.Backoff
}

// changed takes note of a change in the cluster.
func (s *schedule) changed(now time.Time) {
	if s.first.IsZero() {
		s.first = now
	}
	s.last = now
}

// hurry makes a report due.
func (s *schedule) hurry(now time.Time) { s.report = now }

// next is when something is to be done.
func (s *schedule) next() time.Time {
	if s.held || s.first.IsZero() {
		return s.report
	}
	look := earlier(s.last.Add(quiet), s.first.Add(longest))
	if rested := s.wrote.Add(longest); look.Before(rested) {
		look = rested
	}
	return earlier(look, s.report)
}

// due tells whether it is time to look at the cluster, and whether to report whatever has changed.
func (s *schedule) due(now time.Time) (look, report bool) {
	return !now.Before(s.next()), !now.Before(s.report)
}

// looked forgets the changes.
func (s *schedule) looked() { s.first, s.last = time.Time{}, time.Time{} }

// written plans the next report after one was written.
func (s *schedule) written(now time.Time) {
	s.wrote, s.report, s.held, s.backoff = now, now.Add(s.interval), false, nil
}

// skipped plans the next report where there is nothing to say yet. Changes are looked at meanwhile.
func (s *schedule) skipped(now time.Time) {
	s.report, s.held, s.backoff = now.Add(s.interval), false, nil
}

// retry plans another attempt after one has failed, with growing pauses.
func (s *schedule) retry(now time.Time) {
	if s.backoff == nil {
		s.backoff = &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 10, Cap: min(maxRetry, s.interval)}
	}
	s.report, s.held = now.Add(s.backoff.Step()), true
}

// wait plans another attempt where only somebody else can help.
func (s *schedule) wait(now time.Time) {
	s.report, s.held, s.backoff = now.Add(s.interval), true, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
