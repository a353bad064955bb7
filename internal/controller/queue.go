package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
)

// The queue of a workspace consists of the workloads that wait, for clusters or for room for some of their replicas, in turn. The status
// of each placement lists the first of its own.

// Reasons of workloads in the queue.
const (
	queuedInfeasible = "NoFeasibleCluster"
	queuedReplicas   = replicasWaiting
	queuedPreempted  = string(v1alpha1.ChangePreempted)
	queuedNominated  = "Nominated"
	queuedUndecided  = "NotDecided"
)

// followWaiting keeps track of since when a workload waits; after a restart, it takes that from the status.
func (p *pass) followWaiting(item *workItem, waits bool) {
	switch {
	case !waits:
		item.waitingSince = time.Time{}
	case item.waitingSince.IsZero():
		item.waitingSince = p.now()
		queue := item.owner.object.Status.Queue
		if i := slices.IndexFunc(queue, func(q v1alpha1.QueuedWorkload) bool { return q.Workload.UID == item.object.UID }); i >= 0 {
			item.waitingSince = queue[i].Since.Time
		} else if created := item.object.CreationTimestamp; !created.IsZero() && len(item.attempt.history) == 0 && !item.found {
			item.waitingSince = created.Time
		}
	}
}

// queueOf returns the waiting workloads that the status of a placement lists.
func (w *workspace) queueOf(p *placementState, placements []*placementState) (queue []v1alpha1.QueuedWorkload) {
	waiting := append(p.waiting.upTo(v1alpha1.MaxQueued), p.partial.upTo(v1alpha1.MaxQueued)...)
	slices.SortFunc(waiting, func(a, b line) int { return inTurn(a.item, b.item) })
	for _, l := range waiting[:min(len(waiting), v1alpha1.MaxQueued)] {
		queue = append(queue, w.queued(l.item, placements))
	}
	return queue
}

// ahead returns how many workloads that wait have their turn before the given one.
func ahead(item *workItem, placements []*placementState) (n int) {
	for _, p := range placements {
		for _, l := range []*lines{&p.waiting, &p.partial} {
			switch priority := p.object.Spec.Priority; {
			case priority > item.turn.Priority:
				n += l.Len()
			case priority == item.turn.Priority:
				n += l.before(item, l.Len())
			}
		}
	}
	return n
}

func (w *workspace) queued(item *workItem, placements []*placementState) v1alpha1.QueuedWorkload {
	object := item.object
	q := v1alpha1.QueuedWorkload{
		Workload: v1alpha1.WorkloadReference{APIVersion: object.APIVersion, Kind: object.Kind, Name: object.Name, UID: object.UID},
		Position: int32(ahead(item, placements) + 1), Since: metav1.NewTime(item.waitingSince).Rfc3339Copy(), WaitingReplicas: item.stored.WaitingReplicas,
		Reason: queuedInfeasible, BlockedBy: item.attempt.blockers,
	}
	switch n := w.nominations[item.key]; {
	case n != nil:
		q.Reason, q.NominatedClusters, q.BlockedBy = queuedNominated, n.clusters(), nil
		for _, v := range n.victims[:min(len(n.victims), v1alpha1.MaxBlockers)] {
			q.BlockedBy = append(q.BlockedBy, v1alpha1.QueueBlocker{Kind: v.key.kind, Namespace: v.key.namespace, Name: v.key.name, Message: "has to make room"})
		}
		return q
	case item.found:
		q.Reason = queuedReplicas
	case !item.tried || item.err != nil:
		q.Reason, q.BlockedBy = queuedUndecided, w.undecidedBy(item)
		return q
	case len(item.attempt.history) > 0 && item.attempt.history[0].Reason == v1alpha1.ChangePreempted:
		q.Reason = queuedPreempted
	}
	for i := range q.BlockedBy {
		q.BlockedBy[i].Message = shortenTo(q.BlockedBy[i].Message, maxBlocker)
	}
	if s := w.suggestions[item.attempt.inputs]; s != nil {
		q.WouldFit = s.SuggestedRegistration
	}
	q.Estimate = w.estimate(item, &q, placements)
	return q
}

// maxBlocker bounds the message of a blocker in bytes.
const maxBlocker = 1000

// undecidedBy returns the objects that keep the engine from being asked about a workload.
func (w *workspace) undecidedBy(item *workItem) []v1alpha1.QueueBlocker {
	object, placement := item.object, item.owner.object
	switch {
	case object.err != nil:
		return []v1alpha1.QueueBlocker{{Kind: object.Kind, Namespace: object.Namespace, Name: object.Name, Message: shortenTo(object.err.Error(), maxBlocker)}}
	case item.owner.err != nil:
		return []v1alpha1.QueueBlocker{{Kind: "WorkloadPlacement", Namespace: placement.Namespace, Name: placement.Name, Field: "spec", Message: shortenTo(item.owner.err.Error(), maxBlocker)}}
	case w.policyErr != nil:
		return blockingConfigMaps(w.policyErr)
	case item.owner.suspension != nil:
		return []v1alpha1.QueueBlocker{{Kind: "WorkloadPlacement", Namespace: placement.Namespace, Name: placement.Name, Message: shortenTo(item.owner.suspension.message, maxBlocker)}}
	}
	return nil
}

// blockingConfigMaps returns the ConfigMaps whose modules have errors. An error that belongs to no module is returned without a name.
func blockingConfigMaps(policyErr error) (blockers []v1alpha1.QueueBlocker) {
	var errs policy.Errors
	if !errors.As(policyErr, &errs) {
		errs = policy.Errors{{Message: policyErr.Error()}}
	}
	for _, e := range errs {
		b := v1alpha1.QueueBlocker{Kind: "ConfigMap", Message: shortenTo(e.Message, maxBlocker)}
		if parts := strings.SplitN(e.File, "/", 3); len(parts) == 3 {
			b.Namespace, b.Name, b.Message = parts[0], parts[1], shortenTo(e.Error(), maxBlocker)
			if parts[2] != "" {
				b.Field = "data[" + parts[2] + "]"
			}
		}
		same := func(other v1alpha1.QueueBlocker) bool {
			return other.Name == b.Name && other.Field == b.Field && other.Namespace == b.Namespace
		}
		if !slices.ContainsFunc(blockers, same) && len(blockers) < v1alpha1.MaxBlockers {
			blockers = append(blockers, b)
		}
	}
	return blockers
}

// suggestion is a registration of a cluster that would have room for workloads with the same inputs, nil if none is found, and when it was
// made.
type suggestion struct {
	*v1alpha1.SuggestedRegistration
	at time.Time
}

// A suggestion is renewed after suggestAgain, at most suggestTogether in one pass and one such pass per countsEvery, since each is tried in
// a copy of the workspace. No pass is made just for suggestions.
const (
	suggestAgain    = 10 * time.Minute
	suggestTogether = 4
	maxSuggestions  = 256
)

// suggest looks for clusters that would have room for some of the workloads that the statuses list, if that is due.
func (p *pass) suggest(ctx context.Context) {
	if p.watchedSince.IsZero() {
		p.watchedSince = p.now()
	}
	if p.now().Before(p.suggestAt) {
		return
	}
	made := 0
	for _, s := range p.placements {
		for _, l := range append(s.waiting.upTo(maxExamples), s.partial.upTo(maxExamples)...) {
			item := l.item
			if item.attempt.inputs == "" || item.err != nil || p.nominations[item.key] != nil || item.found == item.tried {
				continue
			}
			if known := p.suggestions[item.attempt.inputs]; known != nil && p.now().Sub(known.at) < suggestAgain {
				continue
			}
			ctx, done := context.WithTimeoutCause(ctx, decideWithin, errTooLong)
			found, err := p.engine.Suggest(ctx, p.request(item))
			done()
			if err != nil {
				return // reported where the workload is decided on
			}
			if len(p.suggestions) >= maxSuggestions {
				clear(p.suggestions)
			}
			p.suggestions[item.attempt.inputs] = &suggestion{found, p.now()}
			p.suggestAt = p.now().Add(countsEvery)
			s.version++ // so that its status is updated
			if made++; made == suggestTogether {
				return
			}
		}
	}
}

// freed is an amount that was given up at a point in time.
type freed struct {
	at     time.Time
	amount capacity.Resources
}

// An estimate uses what was given up within estimateWindow, once the controller has seen leastSamples of it over leastSeen. There is no
// estimate further ahead than mostAhead, nor behind more than mostWaiting workloads.
const (
	estimateWindow = time.Hour
	leastSamples   = 5
	leastSeen      = 10 * time.Minute
	mostAhead      = 24 * time.Hour
	mostWaiting    = 500
	maxFreed       = 1024
)

// free records that a decision is given up for good.
func (w *workspace) free(d *v1alpha1.WorkloadDecision) {
	r, err := engine.ReservationOf(types.NamespacedName{}, d)
	if err != nil {
		return
	}
	var sum capacity.Resources
	for _, s := range r.Shares {
		sum = sum.Add(s.Amount)
	}
	if !sum.IsZero() {
		w.freed = append(w.freed, freed{w.now(), sum})
	}
	w.freed = w.freed[max(0, len(w.freed)-maxFreed):]
}

// estimate predicts when there is room for a workload: once as much is freed as it and those before it ask for, at the rate at which room
// was freed within estimateWindow. The slowest of the resources that it asks for counts. There is no estimate if the workload waits for
// anything but room, or if too little is known.
func (w *workspace) estimate(item *workItem, q *v1alpha1.QueuedWorkload, placements []*placementState) *v1alpha1.QueueEstimate {
	now := w.now()
	w.freed = slices.DeleteFunc(w.freed, func(f freed) bool { return now.Sub(f.at) > estimateWindow })
	window := min(now.Sub(w.watchedSince), estimateWindow)
	if len(w.freed) < leastSamples || window < leastSeen || q.Position > mostWaiting || len(q.BlockedBy) == 0 ||
		slices.ContainsFunc(q.BlockedBy, func(b v1alpha1.QueueBlocker) bool { return b.Field != "status.allocatable" }) {
		return nil
	}
	var room, asked capacity.Resources
	for _, f := range w.freed {
		room = room.Add(f.amount)
	}
	for _, p := range placements {
		for _, l := range []*lines{&p.waiting, &p.partial} {
			for _, one := range l.upTo(mostWaiting) {
				if p.object.Spec.Priority >= item.turn.Priority && inTurn(one.item, item) <= 0 && one.item.object.err == nil {
					asked = asked.Add(one.item.object.workload.Requests)
				}
			}
		}
	}
	var longest time.Duration
	because := ""
	for name, amount := range item.object.workload.Requests.Each {
		if amount <= 0 {
			continue
		}
		if room.Get(name) <= 0 {
			return nil
		}
		wait := float64(window) * float64(asked.Get(name)) / float64(room.Get(name))
		if wait > float64(mostAhead) {
			return nil
		}
		if time.Duration(wait) >= longest {
			longest = time.Duration(wait)
			because = fmt.Sprintf("%s: %s asked for by this workload and the %d before it, %s freed within the last %s",
				name, capacity.Format(name, asked.Get(name), true), q.Position-1, capacity.Format(name, room.Get(name), false), window.Round(time.Minute))
		}
	}
	if because == "" {
		return nil
	}
	return &v1alpha1.QueueEstimate{At: metav1.NewTime(now.Add(longest).Round(time.Minute)), Because: because}
}

// keepEstimates keeps the previous estimates in a status if nothing else of the queue changes: an estimate is only written along with
// other changes.
func keepEstimates(before, after []v1alpha1.QueuedWorkload) {
	for i := range after {
		if j := slices.IndexFunc(before, func(b v1alpha1.QueuedWorkload) bool { return b.Workload.UID == after[i].Workload.UID }); j >= 0 && (before[j].Estimate == nil) == (after[i].Estimate == nil) {
			after[i].Estimate = before[j].Estimate
		}
	}
}

// next returns the first waiting workload of a placement, if any.
func (t *tally) next() (item *workItem, waits bool) {
	for _, l := range append(t.waiting.upTo(1), t.partial.upTo(1)...) {
		if item == nil || inTurn(l.item, item) < 0 {
			item = l.item
		}
	}
	return item, item != nil
}
