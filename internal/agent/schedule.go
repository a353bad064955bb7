package agent

import (
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Changes are collected until none has come for quiet, but for at most longest, and reports are at least longest apart. So a
// registration follows its cluster within a second, and neither a burst nor a stream of changes costs more than one write in
// that time. After a slow write the agent rests for resting times its duration, up to mostRest, so that a server that is busy with the
// reports of many large clusters gets fewer of them. What is promised stays reserved until a report includes it, so a late report does no harm.
const (
	quiet    = 250 * time.Millisecond
	longest  = 750 * time.Millisecond
	resting  = 20
	mostRest = 5 * time.Second
)

// maxRetry is the longest pause between attempts to write.
const maxRetry = 10 * time.Second

// schedule decides when to read the cluster and when to write. It has no clock.
type schedule struct {
	interval time.Duration
	// wrote is when the latest report was written, took how long the write took.
	wrote time.Time
	took  time.Duration
	// report is when a report is due whether or not anything has changed.
	report time.Time
	// first and last are when the first and the last unread change were seen; zero if there is none.
	first, last time.Time
	// failed is set when the latest attempt to write has failed. Changes then wait for the next attempt.
	failed  bool
	backoff *wait.Backoff
}

// changed records a change in the cluster.
func (s *schedule) changed(now time.Time) {
	if s.first.IsZero() {
		s.first = now
	}
	s.last = now
}

// hurry makes a report due.
func (s *schedule) hurry(now time.Time) { s.report = now }

// next returns when the cluster is to be read.
func (s *schedule) next() time.Time {
	if s.failed || s.first.IsZero() {
		return s.report
	}
	read := earlier(s.last.Add(quiet), s.first.Add(longest))
	if earliest := s.wrote.Add(max(longest, min(resting*s.took, mostRest))); read.Before(earliest) {
		read = earliest
	}
	return earlier(read, s.report)
}

// due reports whether it is time to read the cluster, and whether to write even a change that is not material.
func (s *schedule) due(now time.Time) (read, report bool) {
	return !now.Before(s.next()), !now.Before(s.report)
}

// clearChanges is called when the cluster is read.
func (s *schedule) clearChanges() { s.first, s.last = time.Time{}, time.Time{} }

// written plans the next report after one has been written.
func (s *schedule) written(now time.Time, took time.Duration) {
	s.took = took
	s.wrote, s.report, s.failed, s.backoff = now, now.Add(s.interval), false, nil
}

// skipped plans the next report when there is nothing to report yet. A change is read before that.
func (s *schedule) skipped(now time.Time) {
	s.report, s.failed, s.backoff = now.Add(s.interval), false, nil
}

// retry plans another attempt after a failure, with exponential backoff.
func (s *schedule) retry(now time.Time) {
	if s.backoff == nil {
		s.backoff = &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 10, Cap: min(maxRetry, s.interval)}
	}
	s.report, s.failed = now.Add(s.backoff.Step()), true
}

// wait plans another attempt after a failure that the agent cannot resolve itself.
func (s *schedule) wait(now time.Time) {
	s.report, s.failed, s.backoff = now.Add(s.interval), true, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
