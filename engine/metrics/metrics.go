// Package metrics exposes what engines do to Prometheus.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kcp-placement/placement/engine"
)

// Engine counts what engines do; one may serve several of them. It is an engine.Metrics and a prometheus.Collector.
// Invariant: none of its labels is a name that tenants choose.
type Engine struct {
	requests, hits, misses, refreshed prometheus.Counter
	bytes                             prometheus.Gauge
	observers                         [len(engine.Steps)]prometheus.Observer
	steps                             *prometheus.HistogramVec
}

// New makes the metrics of engines; they still have to be registered.
func New() *Engine {
	const namespace, subsystem = "placement", "engine"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	m := &Engine{
		requests:  counter("requests_total", "Requests to decide."),
		hits:      counter("cache_hits_total", "Requests whose class of workloads had a ranking already, which was brought up to date."),
		misses:    counter("cache_misses_total", "Requests of a class of workloads that was not known: classes are narrow where policies read much of a workload."),
		refreshed: counter("refreshed_rows_total", "Clusters that were looked at, again or for the first time, to bring a ranking up to date."),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "cache_bytes", Help: "Memory that rankings, and what they rest on, take.",
		}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "stage_duration_seconds",
			Help:    "Time by stage: decide (a decision in all, or a batch), judge (policies), rank (more than a few clusters), compile (a placement).",
			Buckets: prometheus.ExponentialBuckets(5e-7, 4, 12),
		}, []string{"stage"}),
	}
	for i, step := range engine.Steps {
		m.observers[i] = m.steps.WithLabelValues(step.String())
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *Engine) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, to) }

// Collect implements prometheus.Collector.
func (m *Engine) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.requests, m.hits, m.misses, m.refreshed, m.bytes, m.steps} {
		c.Collect(to)
	}
}

// Request implements engine.Metrics.
func (m *Engine) Request(cached bool) {
	m.requests.Inc()
	if cached {
		m.hits.Inc()
	} else {
		m.misses.Inc()
	}
}

// Evaluated implements engine.Metrics.
func (m *Engine) Evaluated(clusters int) { m.refreshed.Add(float64(clusters)) }

// CacheBytes implements engine.Metrics.
func (m *Engine) CacheBytes(delta int) { m.bytes.Add(float64(delta)) }

// Took implements engine.Metrics.
func (m *Engine) Took(step engine.Step, d time.Duration) { m.observers[step].Observe(d.Seconds()) }
