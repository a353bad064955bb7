package apply

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of delivery.
type metrics struct {
	works, removing prometheus.Gauge
	objects         *prometheus.GaugeVec
	requests        *prometheus.CounterVec
	statuses        *prometheus.CounterVec
	corrections     prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		works: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "placement_agent_works",
			Help: "Works of the cluster.",
		}),
		objects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "placement_agent_objects",
			Help: "Objects in Works, by state: applied as they are there, pending, or failed, with something wrong.",
		}, []string{"state"}),
		removing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "placement_agent_objects_removing",
			Help: "Objects in no Work that the cluster still has.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "placement_agent_object_requests_total",
			Help: "Attempts to apply or remove an object, by result: ok, refused by the cluster, or error, where it has not answered.",
		}, []string{"verb", "result"}),
		statuses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "placement_agent_work_status_writes_total",
			Help: "Writes of the status of a Work, by result.",
		}, []string{"result"}),
		corrections: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "placement_agent_corrections_total",
			Help: "Objects put right that others in the cluster had changed.",
		}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.works, m.removing, m.objects, m.requests, m.statuses, m.corrections}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(descriptions chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(descriptions)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(values chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(values)
	}
}

// resultOf names what has become of a request.
func resultOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case isTransient(err) && !apierrors.IsConflict(err):
		return "error"
	default:
		return "refused"
	}
}
