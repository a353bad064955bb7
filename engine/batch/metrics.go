package batch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a Batcher. None bears a name that tenants choose.
type metrics struct {
	requests prometheus.Histogram
	gathered prometheus.Histogram
	waiting  prometheus.GaugeFunc
	underWay prometheus.GaugeFunc
}

func newMetrics(b *Batcher) *metrics {
	const namespace, subsystem = "placement", "batch"
	return &metrics{
		requests: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "requests",
			Help:    "Requests that are decided together in one batch; the count is the number of batches.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
		}),
		gathered: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "gather_duration_seconds",
			Help:    "Time from when a request is submitted until its batch goes to be decided.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 4, 12),
		}),
		waiting: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "waiting_requests",
			Help: "Requests that wait for their batch to go to be decided.",
		}, b.count(func() (n int) {
			for _, q := range b.queues {
				n += q.waiting.Len()
			}
			return n
		})),
		underWay: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Name: "batches_in_flight",
			Help: "Batches that are being decided.",
		}, b.count(func() int { return b.underWay })),
	}
}

// count reads a number under the lock.
func (b *Batcher) count(number func() int) func() float64 {
	return func() float64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return float64(number())
	}
}

// started notes a batch that goes to be decided.
func (m *metrics) started(requests []*Pending) {
	m.requests.Observe(float64(len(requests)))
	now := time.Now()
	for _, p := range requests {
		m.gathered.Observe(now.Sub(p.submitted).Seconds())
	}
}

// Describe implements prometheus.Collector.
func (b *Batcher) Describe(descriptions chan<- *prometheus.Desc) {
	for _, c := range b.collectors() {
		c.Describe(descriptions)
	}
}

// Collect implements prometheus.Collector: how many batches there were and of how many requests, how long requests
// waited, and how many wait and are being decided now.
func (b *Batcher) Collect(values chan<- prometheus.Metric) {
	for _, c := range b.collectors() {
		c.Collect(values)
	}
}

func (b *Batcher) collectors() []prometheus.Collector {
	return []prometheus.Collector{b.metrics.requests, b.metrics.gathered, b.metrics.waiting, b.metrics.underWay}
}
