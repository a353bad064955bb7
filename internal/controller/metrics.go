package controller

import (
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kcp-placement/placement/engine"
)

// metrics of the controller. No label has a value that tenants choose, except those of accounts, whose number is bounded.
type metrics struct {
	decisions     *prometheus.CounterVec
	duration      prometheus.Histogram
	writes        *prometheus.CounterVec
	passes        prometheus.Histogram
	workspaces    prometheus.Gauge
	loaded        prometheus.Gauge
	waiting       prometheus.Gauge
	disruptions   prometheus.Counter
	expired       prometheus.Counter
	overcommitted prometheus.Gauge
	policyErrs    prometheus.Gauge
	quarantined   prometheus.Gauge
	hidden        *prometheus.GaugeVec
	compile       prometheus.Histogram
	reopened      *prometheus.CounterVec
	deliveries    prometheus.Histogram
	suspended     prometheus.Gauge
	supposed      *prometheus.GaugeVec
	shadow        *prometheus.CounterVec
	rolledBack    prometheus.Counter
	failover      *prometheus.GaugeVec
	workBytes     prometheus.Counter
	due           *prometheus.CounterVec
	moves         *prometheus.CounterVec
	accounts      *accounts
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	const namespace = "placement"
	m := &metrics{
		accounts: newAccounts(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "decisions_total", Help: "Decisions of the engine by outcome: placed, waiting or failed.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "decision_duration_seconds", Help: "Time of one decision in the engine.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 4, 12),
		}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "writes_total", Help: "Writes to the API by kind of object and result: ok, conflict, error, and for events dropped.",
		}, []string{"kind", "result"}),
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "reconcile_duration_seconds", Help: "Time of one pass over a workspace, writes included.",
			Buckets: prometheus.ExponentialBuckets(1e-4, 4, 10),
		}),
		workspaces: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "workspaces", Help: "Workspaces that are bound to the API.",
		}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "workspaces_loaded", Help: "Workspaces in which every workload has been considered since the start.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "waiting_workloads", Help: "Workloads that no cluster is feasible for.",
		}),
		disruptions: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "disruptions_total", Help: "Workloads that have lost a cluster, whatever for, but for those that were deleted.",
		}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "reservations_expired_total", Help: "Reservations given up because a cluster did not count the workload in time.",
		}),
		overcommitted: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "overcommitted_clusters", Help: "Clusters with more in use and promised than allocatable.",
		}),
		policyErrs: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "workspaces_with_policy_errors", Help: "Workspaces whose Rego does not compile or cannot be read.",
		}),
		quarantined: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "workspaces_in_quarantine", Help: "Workspaces whose Rego is not evaluated any more because it exceeded its budget repeatedly.",
		}),
		hidden: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "workspaces_unreadable", Help: "Workspaces whose APIBinding does not let the controller read a resource in full, by resource.",
		}, []string{"resource"}),
		failover: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "workspaces_failover_held_back", Help: "Workspaces of which so many clusters are silent at once that failover is Slowed or Stopped.",
		}, []string{"failover"}),
		compile: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "policy_compile_duration_seconds", Help: "Time to compile the Rego of a workspace, or to find it compiled.",
			Buckets: prometheus.ExponentialBuckets(1e-5, 4, 10),
		}),
		reopened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "watches_reopened_total", Help: "Watches reopened because they were open but did not deliver what a list shows, by resource.",
		}, []string{"resource"}),
		deliveries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "delivery_duration_seconds", Help: "Time of one round of deliveries in a workspace, writes included.",
			Buckets: prometheus.ExponentialBuckets(1e-4, 4, 10),
		}),
		suspended: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "suspended_placements", Help: "WorkloadPlacements on whose workloads nothing is decided because they, their workspace or the controller are suspended.",
		}),
		supposed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "suspended_workloads", Help: "Workloads of suspended placements that would have another decision, by what it would do: place, move, change or withdraw.",
		}, []string{"would"}),
		shadow: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "shadow_decisions_total", Help: "Decisions that were made again by the shadow policies of the workspace, by what these would do: same, other_clusters, would_wait, would_not_wait; failed and skipped are not known.",
		}, []string{"result"}),
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "moves_total", Help: "Decisions by which a workload left a cluster, by reason: Gain, Rescheduled, Evicted, Failover, Drained, Rebalanced, Preempted, Returned or Scaled.",
		}, []string{"reason"}),
		rolledBack: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "policy_rollbacks_total", Help: "Rollouts of shadow policies that were taken back because they failed or exceeded a limit.",
		}),
		workBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "work_bytes_total", Help: "Bytes of manifests in the Works that were written.",
		}),
		due: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "due_workloads_total", Help: "Workloads that passes have looked at, by the reason why.",
		}, []string{"reason"}),
	}
	for _, c := range []prometheus.Collector{m.decisions, m.duration, m.writes, m.passes, m.workspaces, m.loaded, m.waiting, m.disruptions, m.expired, m.overcommitted, m.policyErrs, m.quarantined, m.hidden, m.compile, m.reopened, m.deliveries, m.workBytes, m.suspended, m.supposed, m.shadow, m.rolledBack, m.failover, m.due, m.moves, m.accounts} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// wrote counts a write to the API, or its error, and returns the error.
func (m *metrics) wrote(kind string, err error) error {
	result := "ok"
	switch {
	case apierrors.IsConflict(err):
		result = "conflict"
	case err != nil:
		result = "error"
	}
	m.writes.WithLabelValues(kind, result).Inc()
	return err
}

// decided counts a decision, or its error.
func (m *metrics) decided(decision *engine.Decision, err error) {
	switch {
	case err != nil:
		m.decisions.WithLabelValues("failed").Inc()
	case len(decision.Clusters) == 0:
		m.decisions.WithLabelValues("waiting").Inc()
	default:
		m.decisions.WithLabelValues("placed").Inc()
	}
}
