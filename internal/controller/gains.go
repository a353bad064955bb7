package controller

import (
	"context"
	"maps"
	"slices"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/stability"
)

// gains is the state of moves for a gain that is carried from pass to pass. Workloads that may move are evaluated in rounds, some in each
// pass; a round begins once anything has changed. Those that would gain are evaluated in each pass, until they move or no longer would gain.
type gains struct {
	// since is when workloads began to gain from a move without interruption.
	since map[workloadKey]time.Time
	// queue holds the workloads that this round has not reached yet. The round began at a time and revision, for the placements in of.
	queue    []workloadKey
	began    time.Time
	revision int64
	of       map[*placement.Placement]bool
	// again is when the passing of time may let another workload gain, the zero time if never; crowded is set if since had no room for one.
	again   time.Time
	crowded bool
	// spent counts the moves for a gain by placement, all counts all of them.
	spent map[types.NamespacedName]*stability.Spent
	all   stability.Spent
	// limits are those of the PlacementConfig from.
	limits    stability.Limits
	limitsErr error
	from      *v1alpha1.PlacementConfig
}

// Bounds of what one pass evaluates for a gain.
const (
	gainBatch  = 250
	maxGaining = 100
	gainRetry  = time.Second
)

// recount counts the moves in the history of decisions. Moves of workloads that are gone are known only to the process that made them.
func (g *gains) recount(s *store) {
	var all stability.Spent
	by := map[types.NamespacedName]*stability.Spent{}
	for _, r := range s.records {
		if r.current == nil {
			continue
		}
		for _, c := range r.current.decision.History {
			if c.Reason == v1alpha1.ChangeGain {
				all.Add(c.At.Time)
				of := by[r.current.placement]
				if of == nil {
					of = &stability.Spent{}
					by[r.current.placement] = of
				}
				of.Add(c.At.Time)
			}
		}
	}
	g.all.Merge(&all)
	for name, known := range g.spent {
		if by[name] == nil {
			by[name] = &stability.Spent{}
		}
		by[name].Merge(known)
	}
	g.spent = by
}

func (g *gains) spentBy(placement types.NamespacedName) *stability.Spent {
	if g.spent[placement] == nil {
		g.spent[placement] = &stability.Spent{}
	}
	return g.spent[placement]
}

// wake makes a round begin at a time or earlier.
func (g *gains) wake(at time.Time) {
	if !at.IsZero() && (g.again.IsZero() || at.Before(g.again)) {
		g.again = at
	}
}

// moveForGain moves workloads that would gain, as far as their placements permit.
//
// Invariants: what has left a cluster stays for its cool-down; no budget is exceeded; no third move undoes the first.
func (p *pass) moveForGain(ctx context.Context) {
	g, now := &p.gains, p.now()
	movable, every := p.movable(now)
	if len(movable) == 0 {
		g.since, g.queue, g.of, g.again = nil, nil, nil, time.Time{}
		return
	}
	p.beginRound(movable, every)
	candidates := slices.SortedFunc(maps.Keys(g.since), workloadKey.compare)
	n := min(len(g.queue), gainBatch)
	for _, key := range g.queue[:n] {
		if _, known := g.since[key]; !known {
			candidates = append(candidates, key)
		}
	}
	g.queue = g.queue[n:]
	for _, key := range candidates {
		gains, item := false, p.index.items[key]
		if item != nil {
			p.result.do(func() {
				var err error
				if gains, err = p.evaluateGain(ctx, item, now); err != nil {
					p.restIfSlow(err)
				}
			})
			item.move = nil
		}
		switch _, known := g.since[key]; {
		case !gains:
			delete(g.since, key)
		case !known:
			g.crowded = true
		}
	}
	switch {
	case len(g.queue) > 0:
		p.result.within(gainRetry)
	case g.crowded:
		p.result.within(every)
	case !g.again.IsZero():
		p.result.within(max(g.again.Sub(now), 1))
	}
}

// movable returns the placements whose workloads may move for a gain now or soon, and how often a round begins.
func (p *pass) movable(now time.Time) (all map[types.NamespacedName]*placementState, every time.Duration) {
	p.followMoveLimits()
	all, every = map[types.NamespacedName]*placementState{}, time.Minute
	for _, state := range p.placements {
		if state.placement == nil || state.placement.Stability == nil || state.suspension != nil || p.gains.limitsErr != nil {
			continue
		}
		rules := state.placement.Stability
		opens := now
		for _, windows := range []stability.Windows{rules.Windows, p.gains.limits.Windows} {
			if open, next := windows.Open(now); !open && (next.IsZero() || next.After(opens)) {
				opens = next
			}
		}
		switch wait := opens.Add(-rules.After).Sub(now); {
		case opens.IsZero(): // no window opens again
		case wait > 0:
			p.result.within(wait)
		default:
			all[namespacedName(state.object)] = state
			every = min(every, max(rules.After/10, gainRetry))
		}
	}
	return all, every
}

// followMoveLimits takes up the limits of moves from the PlacementConfig. While they are invalid, no move is made for a gain.
func (w *workspace) followMoveLimits() {
	g, config := &w.gains, w.config.object
	if g.from == config {
		return
	}
	g.from, g.limits, g.limitsErr = config, stability.Limits{}, nil
	if config != nil && config.Spec.Moves != nil {
		limits, errs := stability.CompileLimits(field.NewPath("spec", "moves"), config.Spec.Moves.Budget, config.Spec.Moves.Windows)
		g.limits, g.limitsErr = limits, errs.ToAggregate()
	}
}

// movesValid returns condition MovesValid of the PlacementConfig, nil if the limits are and always were valid.
func (w *workspace) movesValid(current *conditionsv1alpha1.Condition) *conditionsv1alpha1.Condition {
	switch w.followMoveLimits(); {
	case w.gains.limitsErr != nil:
		return conditions.FalseCondition(v1alpha1.MovesValidCondition, v1alpha1.InvalidMovesReason, conditionsv1alpha1.ConditionSeverityError, "nothing moves for a gain in this workspace: %v", w.gains.limitsErr)
	case current != nil:
		return conditions.TrueCondition(v1alpha1.MovesValidCondition)
	}
	return nil
}

// beginRound begins a round over all workloads of the movable placements if anything has changed since the last round began. If there are
// many, rounds are at least every apart.
func (p *pass) beginRound(movable map[types.NamespacedName]*placementState, every time.Duration) {
	g, now, of, workloads := &p.gains, p.now(), map[*placement.Placement]bool{}, 0
	for _, state := range movable {
		of[state.placement], workloads = true, workloads+len(state.items)
	}
	many := workloads > gainBatch
	changed := !maps.Equal(g.of, of)
	due := changed || g.crowded || g.revision != p.engine.Revision(p.name) || !g.again.IsZero() && !now.Before(g.again)
	switch wait := g.began.Add(every).Sub(now); {
	case len(g.queue) > 0 && !changed:
		return
	case !due:
		return
	case wait > 0 && many && !changed && !now.Before(g.began):
		p.result.within(wait)
		return
	}
	g.began, g.revision, g.of, g.again, g.crowded = now, p.engine.Revision(p.name), of, time.Time{}, false
	if g.queue = g.queue[:0]; g.since == nil {
		g.since = map[workloadKey]time.Time{}
	}
	for _, state := range movable {
		for item := range state.items {
			g.queue = append(g.queue, item.key)
		}
	}
	slices.SortFunc(g.queue, workloadKey.compare)
}

// evaluateGain reports whether a workload would gain by a move, and makes the move if that has held for long enough and is permitted now.
func (p *pass) evaluateGain(ctx context.Context, item *workItem, now time.Time) (gains bool, err error) {
	rules, err := p.rulesFor(ctx, item)
	if err != nil || rules == nil {
		return false, err
	}
	g := &p.gains
	if until := rules.CoolsUntil(item.stored.History); now.Before(until) {
		g.wake(until)
		return false, nil
	}
	if gains, err := p.wouldGain(ctx, item, rules, now); err != nil || !gains {
		return false, err
	}
	since, known := g.since[item.key]
	if !known {
		if len(g.since) >= maxGaining {
			return true, nil
		}
		since = now
		g.since[item.key] = since
	}
	name := namespacedName(item.owner.object)
	next := since.Add(rules.After)
	mine, all := g.spentBy(name).Next(&rules.Limits, now), g.all.Next(&g.limits, now)
	if mine.IsZero() || all.IsZero() {
		return true, nil // no window opens again
	}
	times := []time.Time{next, mine, all}
	if !p.mayDisrupt(item.owner) {
		times = append(times, p.brake.Next(p.began, p.placedBefore))
	}
	next = slices.MaxFunc(times, time.Time.Compare)
	switch wait := next.Sub(now); {
	case wait > 0:
		p.result.within(wait)
		return true, nil
	case p.full():
		p.result.again = true
		return true, nil
	}
	p.process(ctx, item)
	if moved := item.stored.History; len(moved) > 0 && moved[0].Reason == v1alpha1.ChangeGain && !moved[0].At.Time.Before(now) {
		g.spentBy(name).Add(moved[0].At.Time)
		g.all.Add(moved[0].At.Time)
	}
	return false, nil
}

// rulesFor returns the rules by which a workload may move for a gain; nil if it may not.
func (p *pass) rulesFor(ctx context.Context, item *workItem) (*stability.Rules, error) {
	owner := item.owner
	if owner == nil || item.object == nil || !item.found || item.stale || item.deferred || p.kept[item.key] != nil || item.err != nil || len(item.stored.Leaving) > 0 || owner.suspension != nil ||
		owner.placement == nil || owner.placement.Stability == nil || p.undecidable(item) {
		return nil, nil
	}
	under, err := p.engine.Scheduled(ctx, p.request(item))
	if err != nil {
		return nil, err
	}
	rules := under.Steadied(owner.placement.Stability)
	if _, pinned := rules.Pins(item.object.workload); pinned {
		return nil, nil
	}
	return rules, nil
}

// wouldGain reports whether a workload would leave a cluster for a gain, and if so records the move in its item.
func (p *pass) wouldGain(ctx context.Context, item *workItem, rules *stability.Rules, now time.Time) (bool, error) {
	r := p.request(item)
	r.MinGain = rules.MinGain
	bars, until := rules.Bars(item.stored.History, now)
	from, into, decision, err := p.engine.ForGain(ctx, r, bars)
	if p.gains.wake(until); err != nil || decision == nil {
		return false, err
	}
	item.move = &move{leave: []string{from}, into: into, minGain: rules.MinGain, reason: v1alpha1.ChangeGain, message: decision.Gain(from)}
	return true, nil
}
