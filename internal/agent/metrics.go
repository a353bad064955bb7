package agent

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"k8s.io/utils/clock"
)

// metrics are the agent's own.
type metrics struct {
	reports         *prometheus.CounterVec
	nodes           *prometheus.GaugeVec
	pods, workloads prometheus.Gauge
	invalid         prometheus.Gauge

	mu          sync.Mutex
	lastSuccess time.Time
}

// newMetrics registers the metrics, unless there is no registry.
func newMetrics(registry prometheus.Registerer, clock clock.Clock) *metrics {
	register := promauto.With(registry)
	m := &metrics{
		reports: register.NewCounterVec(prometheus.CounterOpts{
			Name: "placement_agent_reports_total",
			Help: "Attempts to report, by result: ok, error, conflict (another cluster's agent has the name), unregistered, or incomplete (its ClusterUsage, its Lease or a right to them is missing).",
		}, []string{"result"}),
		nodes: register.NewGaugeVec(prometheus.GaugeOpts{
			Name: "placement_agent_nodes",
			Help: "Nodes, by whether they are usable.",
		}, []string{"usable"}),
		pods: register.NewGauge(prometheus.GaugeOpts{
			Name: "placement_agent_pods",
			Help: "Pods that are counted.",
		}),
		workloads: register.NewGauge(prometheus.GaugeOpts{
			Name: "placement_agent_workloads",
			Help: "Workloads that have pods here.",
		}),
		invalid: register.NewGauge(prometheus.GaugeOpts{
			Name: "placement_agent_invalid_quantities",
			Help: "Quantities of nodes and pods that could not be used.",
		}),
		lastSuccess: clock.Now(),
	}
	register.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "placement_agent_seconds_since_last_report",
		Help: "Seconds since the last report was written, or since the start.",
	}, func() float64 {
		m.mu.Lock()
		defer m.mu.Unlock()
		return clock.Since(m.lastSuccess).Seconds()
	})
	for _, result := range []string{"ok", "error", "conflict", "unregistered", "incomplete"} {
		m.reports.WithLabelValues(result)
	}
	return m
}

func (m *metrics) figures(f *figures) {
	if f == nil {
		return
	}
	m.nodes.WithLabelValues("true").Set(float64(f.nodes.Usable))
	m.nodes.WithLabelValues("false").Set(float64(f.nodes.Total - f.nodes.Usable))
	m.pods.Set(float64(f.pods))
	m.workloads.Set(float64(f.allWorkloads))
	m.invalid.Set(float64(f.problems))
}

func (m *metrics) result(result string, now time.Time) {
	m.reports.WithLabelValues(result).Inc()
	if result == "ok" {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lastSuccess = now
	}
}
