package engine

import "time"

// Metrics observes what an engine does. Its methods are called often, and from many goroutines at once. Package
// engine/metrics has an implementation for Prometheus.
type Metrics interface {
	// Request counts a request to decide, however many fallback groups are tried for it. cached is set if the ranking of its class
	// was kept, and brought up to date.
	Request(cached bool)
	// Evaluated counts clusters that were filtered and scored, for the first time or again.
	Evaluated(clusters int)
	// CacheBytes is called with the number of bytes by which the caches of all workspaces have grown or shrunk.
	CacheBytes(delta int)
	// Took reports how long a step has taken.
	Took(step Step, d time.Duration)
}

// Step is a part of deciding whose time is measured.
type Step int

// The steps.
const (
	// StepDecide is a whole decision, or a batch of them.
	StepDecide Step = iota
	// StepJudge is the evaluation of policies.
	StepJudge
	// StepRank is the evaluation of more than a few clusters.
	StepRank
	// StepCompile is the compilation of a placement.
	StepCompile
)

// Steps are all steps, by number.
var Steps = [...]Step{StepDecide, StepJudge, StepRank, StepCompile}

// String returns the step's name in metrics.
func (s Step) String() string { return [...]string{"decide", "judge", "rank", "compile"}[s] }

// noMetrics observes nothing.
type noMetrics struct{}

func (noMetrics) Request(bool)             {}
func (noMetrics) Evaluated(int)            {}
func (noMetrics) CacheBytes(int)           {}
func (noMetrics) Took(Step, time.Duration) {}

// time starts to measure a step; calling done ends it.
func (o *Options) time(s Step) (done func()) {
	if o.Metrics == (noMetrics{}) {
		return func() {}
	}
	start := o.Now()
	return func() { o.Metrics.Took(s, o.Now().Sub(start)) }
}
