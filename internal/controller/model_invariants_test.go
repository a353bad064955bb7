package controller

import (
	"maps"
	"slices"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
)

// notToBeSeen returns the clusters of the workloads that are there, have a decision, and are not shown to the controller.
func (l *leader) notToBeSeen() map[string][]string {
	clusters := map[string][]string{}
	for name, d := range l.durable() {
		if w := l.workloads[name]; w != nil && w.UID == d.Workload.UID {
			clusters[name] = clusterNames(d.Clusters)
		}
	}
	for _, w := range l.view.workloads {
		delete(clusters, w.Name)
	}
	return clusters
}

// load is the capacity in use on each cluster, by the report that this controller knows, and what stored decisions promise
// and that report does not count. A workload that moves between slices is in both for a moment, and the larger counts.
func (l *leader) load() map[string]int64 {
	load, counted := map[string]int64{}, map[string]map[types.UID]int64{}
	for _, c := range l.view.clusters {
		load[c.Name], counted[c.Name] = millis(c.Status.Allocated), map[types.UID]int64{}
		if usage := l.view.usages[c.Name]; usage != nil {
			load[c.Name] = millis(usage.Allocated)
			for _, w := range usage.Workloads {
				counted[c.Name][w.UID] = millis(w.Requests)
			}
		}
	}
	type promise struct {
		uid     types.UID
		cluster string
	}
	promised := map[promise]int64{}
	for _, slice := range l.decisions {
		for _, d := range slice.Decisions {
			for _, c := range d.Clusters {
				if p := (promise{d.Workload.UID, c.Name}); c.ReservationExpiredAt == nil {
					promised[p] = max(promised[p], amountOf(d, c)-counted[c.Name][d.Workload.UID])
				}
			}
		}
	}
	for p, amount := range promised {
		load[p.cluster] += amount
	}
	return load
}

// belongs says where workloads belong by what the controller has decided, whether or not that is written.
func (l *leader) belongs() map[string][]string {
	clusters := map[string][]string{}
	for name, d := range l.durable() {
		clusters[name] = clusterNames(d.Clusters)
		if s := l.workspace.store; s != nil && !l.workspace.stale {
			decided, _, _ := s.get(keyIn("default", d.Workload))
			clusters[name] = clusterNames(decided.Clusters)
		}
	}
	return clusters
}

// seeTaints records when taints were first shown that do not say when they were added.
func (l *leader) seeTaints() {
	before := l.tainted
	l.tainted = map[string]time.Time{}
	for _, r := range l.view.clusters {
		if len(r.Spec.Taints) == 0 || r.Spec.Taints[0].TimeAdded != nil {
			continue
		}
		since, known := before[r.Name]
		if !known {
			since = l.clock
		}
		l.tainted[r.Name] = since
	}
}

// expectDisruptionWithinBudget checks a decision that the engine has made: where it leaves a cluster, no more workloads than the
// budget allows have left one within the last interval. A cluster for which a workload has no replicas left is none that it loses.
func (l *leader) expectDisruptionWithinBudget(workload string, current []engine.Choice, d *engine.Decision) {
	had, has := int64(0), int64(0)
	for i := range d.Clusters {
		has += d.Clusters[i].Replicas
	}
	left := ""
	for _, c := range current {
		if had += c.Replicas; !slices.ContainsFunc(d.Clusters, func(now engine.Choice) bool { return now.Name == c.Name }) {
			left = c.Name
		}
	}
	switch {
	case left == "":
	case d.Disrupts():
		l.happens("disruptions")
		l.expectBudgetFor()
	case has >= had:
		l.Fatalf("%s leaves %s though it has as many replicas, and that does not count as a disruption", workload, left)
	}
}

// expectVictim checks who makes room for a workload of higher priority: none of that priority, within the budget of disruptions.
func (l *leader) expectVictim(w *workloadObject, message string) {
	if w.workload.Labels["of"] == "0" || l.placements[0].Spec.Preemption.Policy == "" {
		l.Fatalf("%s %s", w.Name, message)
	}
	l.preempted[w.Name] = true
	l.expectBudgetFor()
}

// expectBudgetFor checks that the budget allows for one more disruption.
func (l *leader) expectBudgetFor() {
	if l.fenced || l.rogue || l.budget.Unlimited() {
		return
	}
	l.disrupted = slices.DeleteFunc(append(l.disrupted, l.clock), func(at time.Time) bool { return l.clock.Sub(at) >= l.budget.Interval })
	if n := len(l.disrupted); n > l.budget.Minimum {
		l.Fatalf("%d disruptions within %s, %d are allowed", n, l.budget.Interval, l.budget.Minimum)
	}
}

// expectNothingLosesItsPlace checks that what was placed before a pass still is, unless it is gone or has to leave all its
// clusters.
func (l *leader) expectNothingLosesItsPlace(before map[string]v1alpha1.WorkloadDecision) {
	after := l.durable()
	for _, w := range l.view.workloads {
		d, placed := before[w.Name]
		if _, still := after[w.Name]; !placed || still || len(l.decided[w.Name]) == 0 || l.preempted[w.Name] || d.Workload.UID != w.UID {
			continue
		}
		for _, r := range l.view.clusters {
			on := slices.ContainsFunc(d.Clusters, func(c v1alpha1.ClusterDecision) bool { return c.Name == r.Name })
			if on && !l.mustLeave(w, r) {
				l.Fatalf("%s has lost its place on %s", w.Name, r.Name)
			}
		}
	}
}

// mustLeave says whether a workload has to leave a cluster as it is shown.
func (l *leader) mustLeave(w *workloadObject, shown *v1alpha1.ClusterRegistration) bool {
	owner := l.placements[slices.IndexFunc(l.placements, func(p *v1alpha1.WorkloadPlacement) bool {
		return p.Spec.WorkloadSelector.LabelSelector.MatchLabels["of"] == w.Labels["of"]
	})]
	lost := false
	for _, r := range []*v1alpha1.ClusterRegistration{shown, l.registrations[shown.Name]} { // the latter with what the controller has written
		lost = lost || r != nil && conditions.GetReason(r, v1alpha1.ReadyCondition) == v1alpha1.ClusterLostReason
	}
	violated := shown.Labels["tier"] == "low" && owner.Spec.Constraints[0].RequiredDuringExecution
	if lost || violated || len(shown.Spec.Taints) == 0 {
		return lost || violated
	}
	added, seen := l.tainted[shown.Name]
	if !seen {
		added = shown.Spec.Taints[0].TimeAdded.Time
	}
	tolerated := time.Duration(0)
	for _, t := range owner.Spec.Tolerations {
		tolerated = time.Duration(*t.TolerationSeconds) * time.Second
	}
	return l.clock.Sub(added) >= tolerated
}

// expectTheLedgerToBeTrue holds the ledger to the decisions. While some could not be written, it may hold more, for what was
// decided and what it replaces, but never less.
func (l *leader) expectTheLedgerToBeTrue(written bool) {
	load := l.load()
	for _, row := range l.workspace.engine.Snapshot("ws").Rows() {
		if held := row.Allocated.CPU + row.Reserved.CPU; held < load[row.Name] || written && held != load[row.Name] && len(l.workspace.nominations) == 0 {
			l.Fatalf("%s: %d in use and reserved in the ledger, %d by the decisions", row.Name, held, load[row.Name])
		}
	}
}

// expectNothingWaitsInVain checks that every workload has exactly one decision, unless it fits on no cluster.
func (m *model) expectNothingWaitsInVain() {
	durable, entries := m.durable(), 0
	for _, slice := range m.decisions {
		entries += len(slice.Decisions)
	}
	if entries != len(durable) {
		m.Fatalf("%d decisions on %d workloads", entries, len(durable))
	}
	for _, name := range slices.Sorted(maps.Keys(m.workloads)) {
		w := m.workloads[name]
		d, placed := durable[name]
		if placed && d.Workload.UID != w.UID {
			m.Fatalf("%s: the decision is on %s", w.UID, d.Workload.UID)
		}
		if placed {
			continue
		}
		for _, row := range m.leader.workspace.engine.Snapshot("ws").Rows() {
			if ready, _ := row.Condition(string(conditionsv1alpha1.ReadyCondition)); ready.Status == "True" && row.Free.CPU >= w.workload.On(row.UsableNodes).Requests.CPU &&
				(row.UsableNodes > 0 || !w.workload.PerNode) {
				m.Fatalf("%s waits for %d, %d are free on %s: %v", name, w.workload.Requests.CPU, row.Free.CPU, row.Name, m.leader.workspace.index.waiting)
			}
		}
	}
	for name := range durable {
		if m.workloads[name] == nil {
			m.Fatalf("%s has a decision and is gone", name)
		}
	}
}

// countChanges counts, by their reasons, the changes that a write has made durable.
func (m *model) countChanges(before, after map[string]v1alpha1.WorkloadDecision) {
	for name, d := range after {
		if len(d.History) == 0 {
			continue
		}
		if was := before[name].History; len(was) == 0 || was[0].At != d.History[0].At || was[0].Reason != d.History[0].Reason {
			m.happens("change " + string(d.History[0].Reason))
		}
	}
}
