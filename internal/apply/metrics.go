package apply

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// metrics are those of delivery.
type metrics struct {
	works, removing prometheus.Gauge
	objects         *prometheus.GaugeVec
	requests        *prometheus.CounterVec
	statuses        *prometheus.CounterVec
	corrections     prometheus.Counter
}

// newMetrics registers the metrics, unless there is no registry.
func newMetrics(registry prometheus.Registerer) *metrics {
	register := promauto.With(registry)
	return &metrics{
		works: register.NewGauge(prometheus.GaugeOpts{
			Name: "placement_agent_works",
			Help: "Works of the cluster.",
		}),
		objects: register.NewGaugeVec(prometheus.GaugeOpts{
			Name: "placement_agent_objects",
			Help: "Objects in Works, by state: applied as they are there, pending, or failed, with something wrong.",
		}, []string{"state"}),
		removing: register.NewGauge(prometheus.GaugeOpts{
			Name: "placement_agent_objects_removing",
			Help: "Objects in no Work that the cluster still has.",
		}),
		requests: register.NewCounterVec(prometheus.CounterOpts{
			Name: "placement_agent_object_requests_total",
			Help: "Attempts to apply or remove an object, by result: ok, refused by the cluster, or error, where it has not answered.",
		}, []string{"verb", "result"}),
		statuses: register.NewCounterVec(prometheus.CounterOpts{
			Name: "placement_agent_work_status_writes_total",
			Help: "Writes of the status of a Work, by result.",
		}, []string{"result"}),
		corrections: register.NewCounter(prometheus.CounterOpts{
			Name: "placement_agent_corrections_total",
			Help: "Objects put right that others in the cluster had changed.",
		}),
	}
}

// resultOf classifies the outcome of a request.
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
