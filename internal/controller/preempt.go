package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// nomination is the room that victims give up for a workload of higher priority, as with the nominated node of a pod.
//
// Invariant: what is given up for a workload, and what it needs beyond that, is held until it becomes the workload's own, in one step, or
// until the nomination is void. It becomes the workload's own only once no durable decision promises it to a victim and, if the victim is
// delivered, the victim is gone there.
type nomination struct {
	uid     types.UID
	since   time.Time
	victims []victim
	// rest is what was already free and the workload needs in addition to what the victims give up: nobody may take it meanwhile. It has no
	// UID, so it is held in addition to whatever clusters still count of the workload.
	rest *victim
	// published is set once it is durable that the victims have given up their room.
	published bool
}

// victim is a workload that gives up clusters, with the room that this frees there, and the hold on it.
type victim struct {
	key  workloadKey
	uid  types.UID
	name string
	// shares is that room, by cluster.
	shares []capacity.Share
	held   engine.Held
}

func (n *nomination) String() string {
	var names []string
	for _, v := range n.victims {
		names = append(names, v.name)
	}
	return fmt.Sprintf("waits until %s have made room on %s", andMore(names[:min(len(names), maxExamples)], len(names)), strings.Join(n.clusters(), ", "))
}

// clusters returns the clusters on which room is made.
func (n *nomination) clusters() (names []string) {
	for _, v := range n.victims {
		for _, s := range v.shares {
			names = append(names, s.Cluster)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// gaveUp reports whether a workload is giving up a cluster for another workload.
func (w *workspace) gaveUp(key workloadKey, uid types.UID, cluster string) bool {
	for _, n := range w.nominations {
		for _, v := range n.victims {
			if v.key == key && v.uid == uid && slices.ContainsFunc(v.shares, func(s capacity.Share) bool { return s.Cluster == cluster }) {
				return true
			}
		}
	}
	return false
}

// notNominated returns what a workload has given up, without what is held for others.
func (w *workspace) notNominated(key workloadKey, r engine.Reservation) engine.Reservation {
	if len(w.nominations) > 0 {
		r.Shares = slices.DeleteFunc(slices.Clone(r.Shares), func(s capacity.Share) bool { return w.gaveUp(key, types.UID(r.Workload.UID), s.Cluster) })
	}
	return r
}

// preempting records how others have been asked to make room for a waiting workload.
type preempting struct {
	// preempted is the revision at which preemption was last tried, and preemptAt when it is tried again though nothing has changed.
	preempted int64
	preemptAt time.Time
	// inVain is how often in a row preemption did not help, and rested the time before which it is not tried again.
	inVain int
	rested time.Time
}

// restAfterVain is how long preemption for a workload rests after it did not help; it doubles each time, up to maxRestAfterVain.
const restAfterVain, maxRestAfterVain = 10 * time.Second, 10 * time.Minute

// failed records that preemption did not help.
func (a *preempting) failed(now time.Time) {
	a.rested = now.Add(min(restAfterVain<<min(a.inVain, 16), maxRestAfterVain))
	a.inVain++
}

// maxPreemptions is how many workloads a pass searches victims for: each search may take some tens of milliseconds.
const maxPreemptions = 4

// preempt makes others give up room for a workload that no cluster is feasible for, if its placement asks for that. It is tried once per
// revision of the workspace, and ever less often if it does not help: making room changes the revision.
func (p *pass) preempt(ctx context.Context, item *workItem) error {
	owner := item.owner
	if !owner.object.Preempts() || item.found || !item.tried || item.err != nil || item.deferred || owner.suspension != nil || p.undecidable(item) ||
		p.nominations[item.key] != nil {
		return nil
	}
	if item.attempt.preempted == p.engine.Revision(p.name) && p.now().Before(item.attempt.preemptAt) {
		p.index.wakeAt(item, item.attempt.preemptAt)
		return nil
	}
	if p.now().Before(item.attempt.rested) {
		p.index.wakeAt(item, item.attempt.rested)
		return nil
	}
	if p.preemptions++; p.preemptions > maxPreemptions {
		p.index.add(item, leftOver)
		p.result.again = true
		return nil
	}
	item.attempt.preempted, item.attempt.preemptAt = p.engine.Revision(p.name), p.now().Add(time.Hour)
	found, err := p.engine.Preempt(ctx, p.request(item), p.candidates(item), p.brake.Most(p.placedBefore))
	if err != nil || found == nil {
		return err
	}
	if counted := p.countedBy(found.Victims); counted > p.brake.Left(p.began, p.placedBefore) {
		item.attempt.preemptAt = p.brake.Next(p.began, p.placedBefore)
		p.index.wakeAt(item, item.attempt.preemptAt)
		item.reason += fmt.Sprintf("; it takes the place of %d others once the disruption budget lets them go", counted)
		return nil
	}
	n := &nomination{uid: item.object.UID, since: p.now()}
	p.nominations[item.key] = n
	for _, v := range found.Victims {
		p.giveWay(item, n, p.index.get(keyOf(v.Workload)), v)
	}
	if len(found.Rest) > 0 {
		n.rest = &victim{key: item.key, shares: found.Rest}
		p.holdFor(n.rest)
	}
	klog.FromContext(ctx).V(2).Info("Others make room", "workload", item.object.workload, "victims", len(n.victims), "clusters", n.clusters())
	p.event(item.object, corev1.EventTypeNormal, "Nominated", n.String())
	item.reason = n.String()
	return nil
}

// candidates returns the placed workloads of lower priority that may lose clusters.
func (p *pass) candidates(of *workItem) (all []engine.Candidate) {
	for _, item := range p.index.items {
		if item.owner == nil || item.object == nil || item.turn.Priority >= of.turn.Priority || !p.mayLose(item) {
			continue
		}
		if stored, _, found := p.store.get(item.key); found && stored.Workload.UID == item.object.UID {
			all = append(all, engine.Candidate{Workload: item.object.workload.Reference, Priority: item.turn.Priority, Since: stored.DecidedAt.Time})
		}
	}
	slices.SortFunc(all, func(a, b engine.Candidate) int { return strings.Compare(a.Workload.String(), b.Workload.String()) })
	return all
}

// mayLose reports whether a workload that belongs to a placement may lose clusters to others at all.
//
// Invariant: a workload does not lose what it durably has for what it does not have yet. One whose move is not written runs where it was.
func (p *pass) mayLose(item *workItem) bool {
	return len(p.store.records[item.key].superseded(item.key)) == 0 && item.object.end == "" && !item.lacks && !item.unowned && p.kept[item.key] == nil && item.owner.err == nil && item.owner.suspension == nil &&
		!v1alpha1.IsPinned(item.object.Annotations)
}

// countedBy returns how many of the victims count against the disruption budget.
func (p *pass) countedBy(victims []engine.Victim) (n int) {
	for _, v := range victims {
		if owner := p.index.get(keyOf(v.Workload)).owner; owner != nil && !owner.object.DisruptsAtOnce() {
			n++
		}
	}
	return n
}

// giveWay takes clusters away from a workload and nominates another one for them. What it had there is held in the same step.
func (p *pass) giveWay(by *workItem, n *nomination, item *workItem, found engine.Victim) {
	v := victim{key: item.key, uid: item.object.UID, name: item.object.workload.String(), shares: found.Frees}
	p.holdFor(&v)                    // in addition to the claim, which is reduced now
	n.victims = append(n.victims, v) // from now on hold leaves out what is held here
	p.makeRoom(item, found.Clusters, fmt.Sprintf("makes room on %s for %s of priority %d", strings.Join(found.Clusters, ", "), by.object.workload, by.turn.Priority))
}

// makeRoom takes clusters away from a workload for others, and records why.
func (p *pass) makeRoom(item *workItem, clusters []string, message string) {
	before, placement, _ := p.store.get(item.key)
	now := before
	now.Clusters = slices.DeleteFunc(slices.Clone(before.Clusters), func(c v1alpha1.ClusterDecision) bool { return slices.Contains(clusters, c.Name) })
	for _, c := range before.Clusters {
		if before.Divided && slices.Contains(clusters, c.Name) {
			now.WaitingReplicas += c.Replicas
		}
	}
	now.DecidedAt = metav1.NewTime(p.now())
	now.Leaving = p.leavingBy(&before, &now)
	p.keepDurable(item.key, &now)
	change := v1alpha1.DecisionChange{
		At: now.DecidedAt, From: clusters[:min(len(clusters), v1alpha1.MaxChangedClusters)], Reason: v1alpha1.ChangePreempted, Message: message,
	}
	now.History = append([]v1alpha1.DecisionChange{change}, before.History[:min(len(before.History), v1alpha1.MaxChanges-1)]...)
	p.metrics.countMove(before.History, now.History)
	if len(now.Clusters) == 0 {
		p.store.remove(item.key)
		item.stored, item.found = v1alpha1.WorkloadDecision{}, false
		item.attempt = attempt{history: now.History, message: message}
	} else {
		p.store.put(item.key, placement, now)
		item.stored = now
	}
	p.restoreReservation(item.key)
	p.countDisruption(item.owner, nil)
	p.shifted = true
	p.event(item.object, corev1.EventTypeWarning, string(v1alpha1.ChangePreempted), message)
	p.lineUp(item) // its turn is later
}

// holdFor holds what a victim gives up, or what is needed in addition.
func (w *workspace) holdFor(v *victim) {
	held := engine.Reservation{Workload: v.key.reference(), Shares: v.shares}
	held.Workload.UID = string(v.uid)
	v.held, _ = w.engine.Hold(w.name, held) // what can be read can always be held
}

// followNominations makes the workloads due for which others make room, and withdraws void nominations: those of workloads that
// are gone or get no decision, or whose victims have come back.
func (p *pass) followNominations() {
	for _, key := range slices.SortedFunc(maps.Keys(p.nominations), workloadKey.compare) {
		n, item := p.nominations[key], p.index.items[key]
		_, _, placed := p.store.get(key)
		switch {
		case item == nil || item.shown == nil || item.shown.UID != n.uid || item.owner == nil || item.object.end != "" || placed:
			p.withdraw(key)
		case slices.ContainsFunc(n.victims, p.isBack):
			p.withdraw(key)
			item.attempt.failed(p.now())
		default:
			p.index.add(item, leftOver)
		}
	}
}

// isBack reports whether a victim has a cluster again that it had given up.
func (w *workspace) isBack(v victim) bool {
	stored, _, found := w.store.get(v.key)
	return found && stored.Workload.UID == v.uid && slices.ContainsFunc(stored.Clusters, func(c v1alpha1.ClusterDecision) bool {
		return slices.ContainsFunc(v.shares, func(s capacity.Share) bool { return s.Cluster == c.Name })
	})
}

// withdraw ends a nomination: once that is durable, what is held for it is free for anybody.
func (w *workspace) withdraw(key workloadKey) {
	n := w.nominations[key]
	if n == nil {
		return
	}
	delete(w.nominations, key)
	for _, v := range n.victims {
		w.hold(v.key)
		w.engine.ReleaseHeld(w.name, v.held)
	}
	if n.rest != nil {
		w.engine.ReleaseHeld(w.name, n.rest.held)
	}
}

// nominated reports whether others make room for a workload, and whether it is due for a decision: it may now take their room, or other
// room. A nomination that leads nowhere is withdrawn.
func (p *pass) nominated(ctx context.Context, item *workItem) (is, due bool, err error) {
	n := p.nominations[item.key]
	if n == nil {
		return false, false, nil
	}
	if !item.owner.object.Preempts() || n.uid != item.object.UID {
		p.withdraw(item.key)
		return false, false, nil
	}
	if n.rest != nil {
		item.instead = append(item.instead, n.rest.held)
	}
	if feasible, err := p.engine.Feasible(ctx, p.request(item)); err != nil || feasible {
		return true, feasible, err
	}
	item.reason = n.String()
	if !p.isFree(n) {
		item.instead = nil
		return true, false, nil
	}
	for _, v := range n.victims {
		item.instead = append(item.instead, v.held)
	}
	d, err := p.engine.Explain(ctx, p.request(item))
	switch {
	case err != nil:
		return true, false, err
	case len(d.Clusters) > 0:
		return true, true, nil
	case p.counts(n):
		item.instead = nil
		return true, false, nil // until the clusters no longer count the victims
	default:
		item.instead = nil
		p.withdraw(item.key)
		item.attempt.failed(p.now())
		return false, false, nil
	}
}

// isFree reports whether it is durable that the victims have given up their room, and they are gone there.
func (p *pass) isFree(n *nomination) bool {
	for _, v := range n.victims {
		if !p.store.published(v.key) {
			return false
		}
		stored, _, _ := p.store.get(v.key)
		for _, s := range v.shares {
			if slices.ContainsFunc(stored.Leaving, func(l v1alpha1.LeavingCluster) bool { return l.Name == s.Cluster }) ||
				!p.hasLeft(v.key, v.uid, v1alpha1.LeavingCluster{Name: s.Cluster, Since: metav1.NewTime(n.since)}) {
				return false
			}
		}
	}
	return true
}

// counts reports whether a cluster still counts a victim that has given it up.
func (p *pass) counts(n *nomination) bool {
	for _, v := range n.victims {
		for _, s := range v.shares {
			if row := p.engine.Snapshot(p.name).Row(s.Cluster); row != nil && !row.Counted[string(v.uid)].IsZero() {
				return true
			}
		}
	}
	return false
}

// makesRoom reports whether a workload of this UID makes room for others.
func (w *workspace) makesRoom(uid types.UID) bool {
	for _, n := range w.nominations {
		if slices.ContainsFunc(n.victims, func(v victim) bool { return v.uid == uid }) {
			return true
		}
	}
	return false
}

// nominationsPublished reports whether it has become durable for any nomination that its victims have given up their room: then the
// nominated workload may be placed.
func (w *workspace) nominationsPublished() (any bool) {
	for _, n := range w.nominations {
		if !n.published && !slices.ContainsFunc(n.victims, func(v victim) bool { return !w.store.published(v.key) }) {
			n.published, any = true, true
		}
	}
	return any
}

// dropVoid drops the nominations whose victims have not durably given up their room, after all decisions have been read again.
func (w *workspace) dropVoid() {
	maps.DeleteFunc(w.nominations, func(_ workloadKey, n *nomination) bool { return slices.ContainsFunc(n.victims, w.isBack) })
}

// renominate renews the holds of all nominations, after all reservations were replaced by the durable ones.
func (w *workspace) renominate() {
	for _, n := range w.nominations {
		for i := range n.victims {
			w.holdFor(&n.victims[i])
		}
		if n.rest != nil {
			w.holdFor(n.rest)
		}
	}
}
