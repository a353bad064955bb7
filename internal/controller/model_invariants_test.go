package controller

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/dump"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/panics"
)

// expectNoPanic checks that no step of a pass has panicked. What histories, and rapid itself, panic with is no error of the runtime.
func expectNoPanic(t *rapid.T, errs ...error) {
	for _, err := range errs {
		var panicked *panics.Error
		if !errors.As(err, &panicked) {
			continue
		}
		if fault, is := panicked.Value.(runtime.Error); is {
			t.Fatalf("%v\n%s", fault, panicked.Stack)
		}
	}
}

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
			for _, c := range d.Leaving {
				p := promise{d.Workload.UID, c.Name}
				promised[p] = max(promised[p], millis(c.Reserved)-counted[c.Name][d.Workload.UID])
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

// expectDecisionToBeFair checks a decision that the engine has made: what the controller asks about, and where that goes.
func (l *leader) expectDecisionToBeFair(r *engine.Request, d *engine.Decision) {
	owner := l.view.placements[slices.IndexFunc(l.view.placements, func(p *v1alpha1.WorkloadPlacement) bool { return p.Name == r.Placement.Name })]
	if owner.Spec.Suspend || l.view.config != nil && l.view.config.Spec.Suspend {
		l.Fatalf("%s is decided on while %s is suspended", r.Workload.Name, owner.Name)
	}
	for _, c := range d.Clusters {
		shown := l.view.clusters[slices.IndexFunc(l.view.clusters, func(r *v1alpha1.ClusterRegistration) bool { return r.Name == c.Name })]
		if (shown.Spec.Unschedulable || shown.Spec.Drain != nil) && !has(r.Current, c.Name) {
			l.Fatalf("%s comes to %s, which is cordoned or drained", r.Workload.Name, c.Name)
		}
	}
	l.expectDisruptionWithinBudget(r.Workload, r.Current, d)
}

func has(clusters []engine.Choice, name string) bool {
	return slices.ContainsFunc(clusters, func(c engine.Choice) bool { return c.Name == name })
}

// expectDisruptionWithinBudget checks that where a decision leaves a cluster, no more workloads than the budget allows have left one
// within the last interval. A cluster where a workload has no replicas, or for which it has none left, is none that it loses, not either
// where it loses another one in the same step. Those that leave only clusters whose drain is overdue do not count.
func (l *leader) expectDisruptionWithinBudget(w *workload.Workload, current []engine.Choice, d *engine.Decision) {
	had, gets := int64(0), int64(0)
	for _, c := range current {
		had += c.Replicas
	}
	for i := range d.Clusters {
		gets += d.Clusters[i].Replicas
	}
	lost, overdue := false, true
	for _, c := range current {
		if has(d.Clusters, c.Name) {
			continue
		}
		if slices.ContainsFunc(d.Left, func(v engine.Verdict) bool { return v.Cluster == c.Name && v.Rejection.Stage == engine.Replicas }) {
			if !w.Divisible || c.Replicas > 0 && gets >= had {
				l.Fatalf("%s leaves %s though it has as many replicas, and that does not count as a disruption", w.Name, c.Name)
			}
			continue
		}
		at := slices.IndexFunc(l.view.clusters, func(r *v1alpha1.ClusterRegistration) bool { return r.Name == c.Name })
		lost = lost || at >= 0 && isSilent(l.workspace.latest(l.view.clusters[at]), v1alpha1.ClusterLostReason)
		overdue = overdue && at >= 0 && isOverdue(l.view.clusters[at], l.clock)
		if !d.Disrupts() {
			l.Fatalf("%s loses %s, and that does not count as a disruption", w.Name, c.Name)
		}
	}
	if !d.Disrupts() {
		return
	}
	if _, _, found := l.workspace.store.get(keyOf(w.Reference)); !found {
		return // its decision has been withdrawn already: what still runs is on its way out
	}
	l.happens("disruptions")
	if !overdue {
		l.expectBudgetFor()
	}
	if lost {
		l.expectFailover(w.Name)
	}
}

func isSilent(r *v1alpha1.ClusterRegistration, reasons ...string) bool {
	return slices.Contains(reasons, conditions.GetReason(r, v1alpha1.ReadyCondition))
}

func isOverdue(r *v1alpha1.ClusterRegistration, now time.Time) bool {
	return r.Spec.Drain != nil && r.Spec.Drain.Deadline != nil && !now.Before(r.Spec.Drain.Deadline.Time)
}

// expectFailover checks that a workload may leave a lost cluster: not while all clusters are silent, and only one in each interval while
// most of them are.
func (l *leader) expectFailover(workload string) {
	silent, of := 0, len(l.view.clusters)
	for _, shown := range l.view.clusters {
		if isSilent(l.workspace.latest(shown), v1alpha1.HeartbeatMissedReason, v1alpha1.ClusterLostReason) {
			silent++
		}
	}
	if silent == of {
		l.Fatalf("%s leaves a lost cluster while all %d clusters are silent", workload, of)
	}
	if l.fenced || l.rogue {
		return
	}
	interval := l.budget.Interval
	if l.budget.Unlimited() {
		interval = disruption.Default.Interval
	}
	l.failedOver = slices.DeleteFunc(append(l.failedOver, l.clock), func(at time.Time) bool { return l.clock.Sub(at) >= interval })
	if slowed := silent > 2 && float64(silent)/float64(of) >= 0.55; slowed {
		l.happens("failover while most clusters are silent")
		if n := len(l.failedOver); n > 1 {
			l.Fatalf("%d workloads have left lost clusters within %s while %d of %d clusters are silent", n, interval, silent, of)
		}
	}
}

// expectVictim checks who makes room for a workload of higher priority: none of that priority, within the budget of disruptions.
func (l *leader) expectVictim(w *workloadObject, message string) {
	if w.workload.Labels["of"] == "0" || l.placements[0].Spec.Preemption.Policy == "" {
		l.Fatalf("%s %s", w.Name, message)
	}
	l.happens("victims")
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

// expectNothingLosesItsPlace checks that what was placed before a pass still is, unless it is gone, has to leave all its clusters, or is
// scaled to nothing.
func (l *leader) expectNothingLosesItsPlace(before map[string]v1alpha1.WorkloadDecision) {
	after := l.durable()
	for _, w := range l.view.workloads {
		d, placed := before[w.Name]
		if _, still := after[w.Name]; !placed || still || len(l.decided[w.Name]) == 0 || l.preempted[w.Name] || d.Workload.UID != w.UID {
			continue
		}
		for _, r := range l.view.clusters {
			runs := slices.ContainsFunc(d.Clusters, func(c v1alpha1.ClusterDecision) bool { return c.Name == r.Name && c.Replicas > 0 })
			if runs && !l.mustLeave(w, r) {
				l.Fatalf("%s has lost its place on %s", w.Name, r.Name)
			}
		}
	}
}

// mustLeave says whether a workload has to leave a cluster as it is shown.
func (l *leader) mustLeave(w *workloadObject, shown *v1alpha1.ClusterRegistration) bool {
	owner := l.owner(w)
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

// expectDrained checks that no workload is left on a cluster that is drained and could be elsewhere: a workload that has a cluster to itself and
// is not divided, and another cluster has room for it. At rest that is so.
func (m *model) expectDrained() {
	for name, d := range m.durable() {
		w, owner := m.workloads[name], m.owner(m.workloads[name])
		if owner.Spec.ReplicaScheduling != nil {
			continue
		}
		for _, c := range d.Clusters {
			if r := m.registrations[c.Name]; r.Spec.Drain == nil {
				continue
			}
			for _, row := range m.leader.workspace.engine.Snapshot("ws").Rows() {
				r := m.registrations[row.Name]
				on := slices.ContainsFunc(d.Clusters, func(c v1alpha1.ClusterDecision) bool { return c.Name == row.Name })
				if on || r.Spec.Drain != nil || r.Spec.Unschedulable || w.workload.PerNode && row.UsableNodes == 0 {
					continue
				}
				if asks := row.On(w.workload).Requests.CPU; row.Free.CPU >= asks {
					m.Fatalf("%s stays on %s, which is drained: it asks for %d, and %d are free on %s", name, c.Name, asks, row.Free.CPU, row.Name)
				}
			}
		}
	}
}

// owner is the placement of a workload.
func (m *model) owner(w *workloadObject) *v1alpha1.WorkloadPlacement {
	return m.placements[slices.IndexFunc(m.placements, func(p *v1alpha1.WorkloadPlacement) bool {
		return p.Spec.WorkloadSelector.LabelSelector.MatchLabels["of"] == w.Labels["of"]
	})]
}

// expectNothingWaitsInVain checks that every workload has exactly one decision, unless it fits on no cluster, or on fewer than it has to
// have. Of one replica that is divided, no two clusters get any.
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
		var fits []string
		for _, row := range m.leader.workspace.engine.Snapshot("ws").Rows() {
			if ready, _ := row.Condition(string(conditionsv1alpha1.ReadyCondition)); ready.Status == "True" && row.Free.CPU >= row.On(w.workload).Requests.CPU &&
				(row.UsableNodes > 0 || !w.workload.PerNode) {
				fits = append(fits, fmt.Sprintf("%s, %d free", row.Name, row.Free.CPU))
			}
		}
		spec := &m.owner(w).Spec
		least, divided := max(1, int(spec.MinClusters)), spec.ReplicaScheduling != nil && w.workload.Divisible
		if len(fits) >= least && (least == 1 || !divided || w.workload.Replicas >= int64(least)) {
			m.Fatalf("%s waits for %d on %d clusters, and fits on %v: %v", name, w.workload.Requests.CPU, least, fits, m.leader.workspace.index.waiting)
		}
	}
	for name := range durable {
		if m.workloads[name] == nil {
			m.Fatalf("%s has a decision and is gone", name)
		}
	}
}

// followChanges counts, by their reasons, the changes that a write has made durable, and checks that moves for a gain keep to the rules.
func (m *model) followChanges(before, after map[string]v1alpha1.WorkloadDecision) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		history := after[name].History
		if was := before[name].History; len(history) == 0 || len(was) > 0 && was[0].At.Equal(&history[0].At) && was[0].Reason == history[0].Reason {
			continue
		}
		m.happens("change " + string(history[0].Reason))
		if w := m.workloads[name]; history[0].Reason == v1alpha1.ChangeGain && w != nil && w.UID == after[name].Workload.UID {
			m.expectMoveForGain(w, history)
		}
	}
}

// expectMoveForGain checks the last change in the history of a workload, which is a move for a gain: it comes in a window, after the
// cool-down, not back to where the workload was before one of its last two moves, and within the budget of the placement.
func (m *model) expectMoveForGain(w *workloadObject, history []v1alpha1.DecisionChange) {
	now, n := history[0], 0
	for _, h := range history[1:] {
		if len(h.From) == 0 {
			continue
		}
		if n++; n == 1 && now.At.Sub(h.At.Time) < cooldown {
			m.Fatalf("%s moves for a gain %s after it has left %v", w.Name, now.At.Sub(h.At.Time), h.From)
		}
		if n <= 2 && now.At.Sub(h.At.Time) < 10*cooldown && slices.ContainsFunc(now.To, func(to string) bool { return slices.Contains(h.From, to) }) {
			m.Fatalf("%s moves for a gain to %v, which it has left %s ago", w.Name, now.To, now.At.Sub(h.At.Time))
		}
	}
	owner := m.owner(w)
	if owner.Spec.Stability == nil { // it was another's when it was decided
		return
	}
	if at := now.At.UTC(); len(owner.Spec.Stability.Windows) > 0 && at.Minute()%10 >= 5 {
		m.Fatalf("%s moves for a gain at %s, outside of the windows", w.Name, at)
	}
	m.gained = slices.DeleteFunc(append(m.gained, gained{w.UID, owner.Name, now.At.Time}), func(g gained) bool { return now.At.Sub(g.at) >= moveInterval })
	moves := int32(0)
	for _, g := range m.gained { // those of workloads that are gone, or another placement's, may not be known any more
		if g.placement == owner.Name && slices.ContainsFunc(slices.Collect(maps.Values(m.workloads)), func(w *workloadObject) bool {
			return w.UID == g.uid && m.owner(w) == owner
		}) {
			moves++
		}
	}
	if moves > owner.Spec.Stability.Budget.Moves {
		m.Fatalf("%d workloads of %s have moved for a gain within %s", moves, owner.Name, moveInterval)
	}
}

// forgetGains forgets the moves for a gain that no history tells: of workloads that have lost their decision since.
func (m *model) forgetGains() {
	told := map[gained]bool{}
	for _, slice := range m.decisions {
		for _, d := range slice.Decisions {
			for _, h := range d.History {
				told[gained{d.Workload.UID, slice.PlacementName, h.At.Time}] = h.Reason == v1alpha1.ChangeGain
			}
		}
	}
	m.gained = slices.DeleteFunc(m.gained, func(g gained) bool { return !told[g] })
}

// allowedCandidate are the statuses of a rollout that a leader may act on in its next pass: what is stored, what it is shown, and, until it is
// shown something else, what it has written itself: that another has deleted it meanwhile it cannot know.
func (l *leader) allowedCandidate() (all []*v1alpha1.PolicyRolloutStatus) {
	known := []*v1alpha1.PlacementConfig{l.config, l.view.config}
	if l.view.config == l.configuredOn {
		known = append(known, l.configured)
	}
	for _, config := range known {
		if config != nil {
			all = append(all, config.Status.PolicyRollout.DeepCopy())
		}
	}
	return all
}

// expectCandidateWithin expects that the candidate of a rollout has decided for no placement for which no durable status had it decide
// before the pass, and for none once the rollout has gone back.
func (l *leader) expectCandidateWithin(allowed []*v1alpha1.PolicyRolloutStatus) {
	w := l.workspace
	if w.shadow.set != nil {
		l.happens("shadow policies are evaluated")
	}
	back := w.rollout != nil && w.rollout.Phase == v1alpha1.RolloutRolledBack
	if back {
		l.happens("a rollout goes back")
	}
	for _, p := range w.compiledPlacements {
		if !p.candidate {
			continue
		}
		l.happens("a candidate decides")
		if back || !slices.ContainsFunc(allowed, func(s *v1alpha1.PolicyRolloutStatus) bool {
			return s.Includes(p.object.UID) && s.Digest == w.shadow.set.Digest()
		}) {
			l.Fatalf("the candidate decides for %s, and the rollout says %+v; before the pass it said one of %s", p.object.Name, w.rollout, dump.OneLine(allowed))
		}
	}
}
