package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/workload"
)

// rebalancing is what a workspace knows of its RebalancePlans.
type rebalancing struct {
	// written are plans as this controller last wrote them, which the informer may not show yet, by UID.
	written map[types.UID]writtenPlan
	// current is the plan that is being carried out, nil if none is.
	current *planned
}

type writtenPlan struct {
	object  *v1alpha1.RebalancePlan
	basedOn string
	at      time.Time
}

// planned is a plan that is being carried out.
//
// Invariant: a move is asked for only once a durable status has begun its wave. The progress of a move follows from the decisions
// alone, so a controller that is killed continues where it was.
type planned struct {
	*v1alpha1.RebalancePlan
	// wave is the wave that has begun; nil if none has.
	wave  *v1alpha1.RebalanceWave
	moves []planMove
	// of maps workloads to the indices of their moves in the wave.
	of map[workloadKey]int
}

// planMove is a move of the wave, with its state in a pass.
type planMove struct {
	*v1alpha1.RebalanceMove
	key workloadKey
	// waits is why it has not been made yet; outdated is set if the reason is not a lack of room.
	waits    string
	outdated bool
	// patient moves wait for as long as it takes.
	patient bool
}

// maxPlanWrites bounds how many statuses of plans a pass writes.
const maxPlanWrites = 20

// followPlans determines which plan is carried out: the oldest that is neither over nor suspended.
func (w *workspace) followPlans(o *cacheView) {
	slices.SortFunc(o.plans, func(a, b *v1alpha1.RebalancePlan) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	w.rebalancing.current = nil
	for _, shown := range o.plans {
		if plan := w.latestPlan(shown); !plan.IsOver() && !plan.Spec.Suspend && plan.DeletionTimestamp == nil && len(o.unreadable[plan.UID]) == 0 {
			w.rebalancing.current = newPlanned(plan)
			if reason, _ := w.worse(plan, o); reason != "" {
				w.rebalancing.current.of = nil // it halts, and nothing more is moved
			}
			return
		}
	}
}

// latestPlan returns a plan as it was last shown or written.
func (w *workspace) latestPlan(shown *v1alpha1.RebalancePlan) *v1alpha1.RebalancePlan {
	if last, found := w.rebalancing.written[shown.UID]; found && last.basedOn == shown.ResourceVersion {
		return last.object
	}
	return shown
}

func newPlanned(plan *v1alpha1.RebalancePlan) *planned {
	c := &planned{RebalancePlan: plan, of: map[workloadKey]int{}}
	if n := len(plan.Status.Waves); n > 0 && plan.Status.Waves[n-1].FinishedAt == nil {
		c.wave = &plan.Status.Waves[n-1]
	}
	for i := range plan.Spec.Moves {
		m := &plan.Spec.Moves[i]
		if c.wave == nil || m.Wave != c.wave.Wave {
			continue
		}
		w := &m.Workload
		key := keyOf(workload.Reference{APIVersion: w.APIVersion, Kind: w.Kind, Namespace: w.Namespace, Name: w.Name})
		if _, twice := c.of[key]; !twice {
			c.of[key] = len(c.moves)
		}
		c.moves = append(c.moves, planMove{RebalanceMove: m, key: key})
	}
	return c
}

// timeout of a move.
func (c *planned) timeout() time.Duration {
	if t := c.Spec.Limits.MoveTimeout; t != nil {
		return t.Duration
	}
	return 10 * time.Minute
}

// made reports whether a workload has made a move since its wave began. A move is made only once: if the workload then goes on to another
// cluster for its own reasons, such as a better fallback group, it would otherwise move back and forth for as long as the wave lasts.
func (c *planned) made(m *planMove, history []v1alpha1.DecisionChange) bool {
	return slices.ContainsFunc(history, func(h v1alpha1.DecisionChange) bool {
		return !h.At.Time.Before(c.wave.StartedAt.Time) && slices.Contains(h.From, m.From) && slices.Contains(h.To, m.To)
	})
}

// gatherMoves makes the workloads due that are to move.
func (p *pass) gatherMoves() {
	if p.rebalancing.current == nil {
		return
	}
	for key, i := range p.rebalancing.current.of {
		stored, _, _ := p.store.get(key)
		if item := p.index.items[key]; item != nil && slices.Contains(clusterNames(stored.Clusters), p.rebalancing.current.moves[i].From) {
			p.index.add(item, moveAsked)
		}
	}
}

// carryOut reports whether a workload moves now according to the current plan. If so, item.move is that move.
func (p *pass) carryOut(ctx context.Context, item *workItem) bool {
	c := p.rebalancing.current
	if c == nil {
		return false
	}
	i, concerned := c.of[item.key]
	if !concerned {
		return false
	}
	m := &c.moves[i]
	on := clusterNames(item.stored.Clusters)
	switch {
	case !slices.Contains(on, m.From) || slices.Contains(on, m.To) || m.Workload.UID != "" && m.Workload.UID != item.object.UID || c.made(m, item.stored.History):
		return false
	case item.object.Annotations[v1alpha1.AnnotationPinned] == "true":
		m.waits, m.outdated = "it has the annotation "+v1alpha1.AnnotationPinned, true
		return false
	case item.owner.suspension != nil:
		m.waits, m.patient = fmt.Sprintf("WorkloadPlacement %s is suspended", item.owner.object.Name), true
		return false
	}
	item.move = &move{
		leave: []string{m.From}, into: []string{m.To}, reason: v1alpha1.ChangeRebalanced,
		message: fmt.Sprintf("RebalancePlan %s moves it to %s", c.Name, m.To),
	}
	review, err := p.engine.Review(ctx, p.request(item))
	switch {
	case err != nil:
		m.waits = err.Error()
	case !exchanges(review, item.stored.Clusters, m.From, m.To):
		m.waits, m.outdated = notAdmitted(review, m.To)
	case p.waitsItsTurn(item, review):
		m.waits, m.patient = "it waits for its turn to leave "+m.From, true
	default:
		return true
	}
	item.move = nil
	return false
}

// notAdmitted returns why a workload does not go to a cluster, and whether that is because of the facts of the cluster.
func notAdmitted(d *engine.Decision, to string) (why string, outdated bool) {
	if d == nil {
		return "it has all that it asks for", false
	}
	obstacles := d.Obstacles(to)
	if len(obstacles) == 0 {
		return fmt.Sprintf("%s does not admit it: %s", to, d.NoBetterPlace()), false
	}
	outdated = slices.ContainsFunc(obstacles, func(o filter.Obstacle) bool { return o.Stage.ReadsFacts() })
	return fmt.Sprintf("%s does not admit it: %s", to, obstacles[0].String()), outdated
}

// exchanges reports whether a decision replaces exactly one cluster of a workload, from, by exactly one other, to.
func exchanges(d *engine.Decision, current []v1alpha1.ClusterDecision, from, to string) bool {
	if d == nil || len(d.Left) != 1 || d.Left[0].Cluster != from || len(d.Clusters) != len(current) {
		return false
	}
	return !slices.ContainsFunc(d.Clusters, func(c engine.Choice) bool {
		return c.Name == from || c.Name != to && !slices.Contains(clusterNames(current), c.Name)
	})
}

// Reasons of skipped moves.
const (
	skipWorkloadGone   = "WorkloadGone"
	skipNotPlaced      = "NotPlaced"
	skipMovedMeanwhile = "MovedMeanwhile"
	skipNotAdmitted    = "NotAdmitted"
	skipInvalid        = "Invalid"
	skipTwice          = "Twice"
)

// moveState is the progress of a move: done, skipped for a reason, or neither. overdue means that it was made and not verified in time.
type moveState struct {
	done            bool
	skipped         string
	message         string
	overdue         bool
	waits           string
	waitsForItsTurn bool
}

// outcomeOf returns the progress of a move, judging by the decision on its workload.
func (p *pass) outcomeOf(i int) moveState {
	c := p.rebalancing.current
	m := &c.moves[i]
	var object *workloadObject
	if item := p.index.items[m.key]; item != nil {
		object = item.object
	}
	skip := func(reason, format string, args ...any) moveState {
		return moveState{skipped: reason, message: shortenTo(fmt.Sprintf(format, args...), 500)}
	}
	missing := func(reason, format string, args ...any) moveState {
		if !p.isOver(c.Status.StartedAt.Add(confirmWithin)) {
			return moveState{waits: fmt.Sprintf(format, args...)} // the plan may be shown before the objects that it names
		}
		return skip(reason, format, args...)
	}
	stored, _, found := p.store.get(m.key)
	on := clusterNames(stored.Clusters)
	from, to := slices.Contains(on, m.From), slices.Contains(on, m.To)
	now := p.now()
	switch {
	case m.From == m.To:
		return skip(skipInvalid, "it is to leave a cluster for the same")
	case c.of[m.key] != i:
		return skip(skipTwice, "the wave has another move of the workload")
	case object == nil && p.kept[m.key] != nil:
		return moveState{waits: "it cannot be seen"}
	case object == nil, m.Workload.UID != "" && m.Workload.UID != object.UID:
		return missing(skipWorkloadGone, "there is no such workload any more")
	case !found || stored.Workload.UID != object.UID:
		return skip(skipNotPlaced, "it is not placed")
	case !to && c.made(m, stored.History):
		return skip(skipMovedMeanwhile, "it has made the move, and is on %s by now", strings.Join(on, ", "))
	case from && to:
		return skip(skipMovedMeanwhile, "it is on both clusters")
	case !from && !to:
		return skip(skipMovedMeanwhile, "it is on %s", strings.Join(on, ", "))
	case to:
		waits := p.unverified(m, &stored)
		if waits == "" {
			return moveState{done: true}
		}
		since := c.wave.StartedAt.Time
		if stored.DecidedAt.After(since) {
			since = stored.DecidedAt.Time
		}
		return moveState{waits: waits, overdue: p.isOver(since.Add(c.timeout()))}
	case !p.registered(m.To):
		return missing(skipNotAdmitted, "there is no cluster %s", m.To)
	case object.end != "":
		return skip(skipNotAdmitted, "%s", object.workload.WhyNot())
	case m.outdated:
		return skip(skipNotAdmitted, "%s", m.waits)
	case m.patient:
		return moveState{waits: m.waits, waitsForItsTurn: true}
	case m.waits != "" && now.Sub(c.wave.StartedAt.Time) >= c.timeout():
		return skip(skipNotAdmitted, "%s", m.waits)
	}
	p.isOver(c.wave.StartedAt.Add(c.timeout()))
	return moveState{waits: cmp.Or(m.waits, "it has not been decided yet")}
}

func (p *pass) registered(cluster string) bool {
	_, found := p.clusters[cluster]
	return found
}

// isOver reports whether a time has come; if not, it asks for a pass at that time.
func (p *pass) isOver(at time.Time) bool {
	wait := at.Sub(p.now())
	if wait > 0 {
		p.result.within(wait)
	}
	return wait <= 0
}

// unverified returns what is still missing to verify a move that has been decided on; empty if nothing is.
func (p *pass) unverified(m *planMove, d *v1alpha1.WorkloadDecision) string {
	if r := p.store.records[m.key]; !r.current.durable(m.key) {
		return "its decision is not written yet"
	}
	if slices.ContainsFunc(d.Leaving, func(l v1alpha1.LeavingCluster) bool { return l.Name == m.From }) {
		return "it is not gone from " + m.From + " yet"
	}
	if p.handOver != nil && p.delivering[m.To].Delivers {
		if delivered := p.store.deliveries[m.key][m.To]; delivered.Health != v1alpha1.HealthCurrent {
			return strings.TrimSuffix(fmt.Sprintf("it is not ready on %s yet: %s", m.To, delivered.Message), ": ")
		}
	}
	return ""
}

// updatePlans writes the progress of the plans to their statuses.
func (p *pass) updatePlans(ctx context.Context, o *cacheView) {
	writes := 0
	written := map[types.UID]writtenPlan{}
	for _, shown := range o.plans {
		if last, found := p.rebalancing.written[shown.UID]; found {
			written[shown.UID] = last
		}
	}
	p.rebalancing.written = written
	for _, shown := range o.plans {
		plan := p.latestPlan(shown)
		if plan.DeletionTimestamp != nil || plan.IsOver() {
			continue
		}
		updated := new(v1alpha1.RebalancePlan)
		*updated = *plan // shallow: only the status is changed
		updated.Status = *plan.Status.DeepCopy()
		p.assess(updated, o)
		if equality.Semantic.DeepEqual(plan.Status, updated.Status) {
			continue
		}
		turned := conditionsTransitioned(plan.Status.Conditions, updated.Status.Conditions) || plan.Status.Wave != updated.Status.Wave
		if wait := p.rebalancing.written[shown.UID].at.Add(countsEvery).Sub(p.now()); wait > 0 && !turned {
			p.result.within(wait)
			continue
		}
		if writes++; writes > maxPlanWrites {
			p.result.again = true
			return
		}
		after, err := p.writePlan(ctx, updated)
		if err != nil {
			p.result.fail(fmt.Errorf("status of RebalancePlan %s: %w", plan.Name, err))
			continue
		}
		p.rebalancing.written[shown.UID] = writtenPlan{object: after, basedOn: shown.ResourceVersion, at: p.now()}
		p.result.again = p.result.again || turned
		if over := endOf(updated); over != nil {
			kind := corev1.EventTypeNormal
			if over.Type == v1alpha1.HaltedCondition {
				kind = corev1.EventTypeWarning
			}
			p.event(updated, kind, string(over.Type), over.Message)
		}
	}
}

// endOf returns the condition by which a plan is over, nil if it is not.
func endOf(plan *v1alpha1.RebalancePlan) *conditionsv1alpha1.Condition {
	for _, kind := range []conditionsv1alpha1.ConditionType{v1alpha1.HaltedCondition, v1alpha1.CompleteCondition} {
		if c := conditions.Get(plan, kind); c != nil && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// assess brings the status of a plan up to date.
func (p *pass) assess(plan *v1alpha1.RebalancePlan, o *cacheView) {
	s := &plan.Status
	s.ObservedGeneration, s.Moves = plan.Generation, int32(len(plan.Spec.Moves))
	holdOff := func(reason, format string, args ...any) {
		conditions.Set(plan, conditions.FalseCondition(v1alpha1.ProgressingCondition, reason, conditionsv1alpha1.ConditionSeverityInfo, "%s", shorten(fmt.Sprintf(format, args...))))
	}
	current := p.rebalancing.current
	switch {
	case len(o.unreadable[plan.UID]) > 0:
		halt(plan, v1alpha1.InvalidPlanReason, fmt.Sprintf("the plan cannot be read: %v", o.unreadable[plan.UID]))
	case plan.Spec.Suspend:
		holdOff(v1alpha1.SuspendedReason, "spec.suspend is true: what has moved stays where it is")
	case current == nil || current.UID != plan.UID:
		holdOff(v1alpha1.WaitsForPlanReason, "RebalancePlan %s is carried out first", cmp.Or(nameOf(current), "another"))
	case !p.loaded || p.cut:
		p.result.again = p.result.again || p.cut // the number of waiting workloads is not known yet
	default:
		p.advance(plan, o)
	}
}

func nameOf(c *planned) string {
	if c == nil {
		return ""
	}
	return c.Name
}

// advance updates the status of the current plan: it begins the plan, or ends its wave and begins the next.
func (p *pass) advance(plan *v1alpha1.RebalancePlan, o *cacheView) {
	s, now := &plan.Status, metav1.NewTime(p.now())
	if s.StartedAt == nil {
		s.StartedAt, s.WaitingBefore = &now, int32(p.waitingNow())
	}
	if reason, message := p.worse(plan, o); reason != "" {
		halt(plan, reason, message)
		return
	}
	var waits []string
	if wave := p.rebalancing.current.wave; wave != nil {
		var overdue []string
		waits, overdue = p.tally(plan)
		if len(overdue) > 0 {
			halt(plan, v1alpha1.MoveTimedOutReason, fmt.Sprintf("%d workloads have moved and are not where they should be after %s: %s", len(overdue), p.rebalancing.current.timeout(), examples(overdue)))
			return
		}
		if len(waits) > 0 {
			p.goesOn(plan, waits)
			return
		}
		s.Waves[len(s.Waves)-1].FinishedAt = &now
	}
	next := int32(0)
	for _, m := range plan.Spec.Moves {
		if m.Wave > s.Wave && (next == 0 || m.Wave < next) {
			next = m.Wave
		}
	}
	if next == 0 {
		message := fmt.Sprintf("%d of %d moves are done", s.Moved, s.Moves)
		if s.Skipped > 0 {
			message += fmt.Sprintf(", %d do not apply any more", s.Skipped)
		}
		complete := conditions.TrueCondition(v1alpha1.CompleteCondition)
		complete.Message = message
		conditions.Set(plan, complete)
		conditions.Set(plan, conditions.FalseCondition(v1alpha1.ProgressingCondition, v1alpha1.OverReason, conditionsv1alpha1.ConditionSeverityInfo, "the plan is complete"))
		return
	}
	s.Wave = next
	s.Waves = append(s.Waves, v1alpha1.RebalanceWave{Wave: next, StartedAt: now})
	p.goesOn(plan, nil)
}

// goesOn sets the condition for a plan that is under way.
func (p *pass) goesOn(plan *v1alpha1.RebalancePlan, waits []string) {
	c := conditions.TrueCondition(v1alpha1.ProgressingCondition)
	c.Reason, c.Message = v1alpha1.CarriedOutReason, fmt.Sprintf("wave %d is carried out", plan.Status.Wave)
	if len(waits) > 0 {
		c.Message = shorten(fmt.Sprintf("%s: %s", c.Message, examples(waits)))
	}
	conditions.Set(plan, c)
}

// halt stops a plan for good.
func halt(plan *v1alpha1.RebalancePlan, reason, message string) {
	c := conditions.TrueCondition(v1alpha1.HaltedCondition)
	c.Reason, c.Message = reason, shorten(message)
	conditions.Set(plan, c)
	conditions.Set(plan, conditions.FalseCondition(v1alpha1.ProgressingCondition, v1alpha1.OverReason, conditionsv1alpha1.ConditionSeverityInfo, "the plan has halted"))
}

// worse reports whether things have become worse since a plan began: it does not tell cause from coincidence.
func (w *workspace) worse(plan *v1alpha1.RebalancePlan, o *cacheView) (reason, message string) {
	s := &plan.Status
	if s.StartedAt == nil {
		return "", ""
	}
	for _, shown := range o.clusters {
		ready := conditions.Get(w.latest(shown), v1alpha1.ReadyCondition)
		if ready != nil && ready.Reason == v1alpha1.ClusterLostReason && ready.LastTransitionTime.After(s.StartedAt.Time) {
			return v1alpha1.ClusterLostSinceReason, fmt.Sprintf("cluster %s has been lost since the plan began", shown.Name)
		}
	}
	if waiting, most := w.waitingNow(), int(s.WaitingBefore)+int(plan.Spec.Limits.MoreWaiting); waiting > most {
		return v1alpha1.MoreWorkloadsWaitReason, fmt.Sprintf("%d workloads wait for a cluster, %d did when the plan began", waiting, s.WaitingBefore)
	}
	return "", ""
}

// tally counts the moves of the wave in the status, and returns those that are under way and those that are overdue.
func (p *pass) tally(plan *v1alpha1.RebalancePlan) (waits, overdue []string) {
	c, s := p.rebalancing.current, &plan.Status
	wave := &s.Waves[len(s.Waves)-1]
	wave.Moved, wave.Skipped = 0, 0
	s.SkippedMoves = slices.DeleteFunc(s.SkippedMoves, func(m v1alpha1.SkippedMove) bool { return m.Wave == wave.Wave })
	for i := range c.moves {
		m := &c.moves[i]
		of := p.outcomeOf(i)
		name := fmt.Sprintf("%s %s/%s", m.Workload.Kind, m.Workload.Namespace, m.Workload.Name)
		switch {
		case of.done:
			wave.Moved++
		case of.skipped != "":
			if wave.Skipped++; len(s.SkippedMoves) < v1alpha1.MaxRebalanceSkipped {
				s.SkippedMoves = append(s.SkippedMoves, v1alpha1.SkippedMove{RebalanceMove: *m.RebalanceMove, Reason: of.skipped, Message: of.message})
			}
		case of.overdue:
			overdue = append(overdue, name+": "+of.waits)
		default:
			waits = append(waits, name+": "+of.waits)
		}
	}
	s.Moved, s.Skipped = 0, 0
	for _, w := range s.Waves {
		s.Moved, s.Skipped = s.Moved+w.Moved, s.Skipped+w.Skipped
	}
	return waits, overdue
}

// waitingNow is how many workloads wait for a cluster.
func (w *workspace) waitingNow() int { return w.index.waiting }
