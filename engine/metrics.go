package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what engines do; one may serve several of them. It is a prometheus.Collector. None of its labels is
// a name that tenants choose. A nil *Metrics counts nothing.
type Metrics struct {
	requests, hits, misses, refreshed prometheus.Counter
	bytes                             prometheus.Gauge
	stages                            [numStages]prometheus.Observer
	stage                             *prometheus.HistogramVec
}

// stage is a part of deciding whose time is measured.
type stage int

const (
	// stageDecide is a decision in all, or a batch of them.
	stageDecide stage = iota
	// stageJudge is the policies' part.
	stageJudge
	// stageRank is looking at more than a few clusters.
	stageRank
	// stageCompile is compiling a placement.
	stageCompile
	numStages
)

// NewMetrics makes the metrics of an engine; they still have to be registered.
func NewMetrics() *Metrics {
	const namespace, subsystem = "placement", "engine"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	m := &Metrics{
		requests:  counter("requests_total", "Requests to decide."),
		hits:      counter("cache_hits_total", "Requests whose class of workloads had a ranking already, which was brought up to date."),
		misses:    counter("cache_misses_total", "Requests of a class of workloads that was not known: classes are narrow where policies read much of a workload."),
		refreshed: counter("refreshed_rows_total", "Clusters that were looked at, again or for the first time, to bring a ranking up to date."),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "cache_bytes", Help: "Memory that rankings, and what they rest on, take.",
		}),
		stage: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "stage_duration_seconds",
			Help:    "Time by stage: decide (a decision in all, or a batch), judge (policies), rank (more than a few clusters), compile (a placement).",
			Buckets: prometheus.ExponentialBuckets(5e-7, 4, 12),
		}, []string{"stage"}),
	}
	for s, name := range [numStages]string{"decide", "judge", "rank", "compile"} {
		m.stages[s] = m.stage.WithLabelValues(name)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, to) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.requests, m.hits, m.misses, m.refreshed, m.bytes, m.stage} {
		c.Collect(to)
	}
}

func (m *Metrics) request(cached bool) {
	if m == nil {
		return
	}
	m.requests.Inc()
	if cached {
		m.hits.Inc()
	} else {
		m.misses.Inc()
	}
}

func (m *Metrics) refreshedRows(n int) {
	if m != nil {
		m.refreshed.Add(float64(n))
	}
}

func (m *Metrics) cacheBytes(n int) {
	if m != nil {
		m.bytes.Add(float64(n))
	}
}

// time starts to measure a stage; what it returns ends it.
func (m *Metrics) time(s stage, now func() time.Time) (done func()) {
	if m == nil {
		return func() {}
	}
	start := now()
	return func() { m.stages[s].Observe(now().Sub(start).Seconds()) }
}
