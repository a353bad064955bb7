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

// nomination is the room that victims give up for a workload of higher priority, as the nominated node of a pod is.
//
// Invariant: what is given up for a workload, and what it needs beside that, is held until it is the workload's own, in one step, or until
// the nomination is void. It is the workload's only once no durable decision promises it to a victim, and the victim is gone there, where it is delivered.
type nomination struct {
	uid     types.UID
	since   time.Time
	victims []victim
	// rest is what was free already and the workload needs beside what the victims give up: nobody may come back to it meanwhile. It has no
	// UID: whatever clusters still count of the workload, this is held beside it.
	rest *victim
	// published is set once it is durable that the victims have given it up.
	published bool
}

// victim is a workload that gives up clusters, with what is free there once it is gone, and what holds that.
type victim struct {
	key  workloadKey
	uid  types.UID
	name string
	// shares are on the clusters.
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

// clusters are those on which room is made.
func (n *nomination) clusters() (names []string) {
	for _, v := range n.victims {
		for _, s := range v.shares {
			names = append(names, s.Cluster)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// gaveUp reports whether a workload is giving up a cluster for another one.
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

// notNominated is what a workload has given up without what is held for others.
func (w *workspace) notNominated(key workloadKey, r engine.Reservation) engine.Reservation {
	if len(w.nominations) > 0 {
		r.Shares = slices.DeleteFunc(slices.Clone(r.Shares), func(s capacity.Share) bool { return w.gaveUp(key, types.UID(r.Workload.UID), s.Cluster) })
	}
	return r
}

// preempting is how others have been asked to make room for a workload that waits.
type preempting struct {
	// preempted is the revision at which that was last tried, and preemptAt when it is tried again though nothing has changed.
	preempted int64
	preemptAt time.Time
	// inVain is how often in a row they have made room in vain, and rested the time from which on it may be tried again at all.
	inVain int
	rested time.Time
}

// restAfterVain is how long nobody makes room for a workload for which others have done so in vain; it doubles each time, up to maxRestAfterVain.
const restAfterVain, maxRestAfterVain = 10 * time.Second, 10 * time.Minute

// failed records that others have made room in vain.
func (a *preempting) failed(now time.Time) {
	a.rested = now.Add(min(restAfterVain<<min(a.inVain, 16), maxRestAfterVain))
	a.inVain++
}

// maxPreemptions is for how many workloads a pass looks for victims: each may take some tens of milliseconds.
const maxPreemptions = 4

// preempt has others make room for a workload that no cluster is feasible for, if its placement asks for that. That is tried once for
// each revision of the workspace, and less and less often where it is in vain: to make room changes the revision.
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

// candidates are the placed workloads of lower priority that may lose clusters.
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
// Invariant: what a workload durably has is not lost for the sake of what it does not have yet. One whose move is not written runs where it was.
func (p *pass) mayLose(item *workItem) bool {
	return len(p.store.records[item.key].superseded(item.key)) == 0 && item.object.end == "" && !item.lacks && !item.unowned && p.kept[item.key] == nil && item.owner.err == nil && item.owner.suspension == nil &&
		!v1alpha1.IsPinned(item.object.Annotations)
}

// countedBy is how many of some victims count against the budget of disruptions.
func (p *pass) countedBy(victims []engine.Victim) (n int) {
	for _, v := range victims {
		if owner := p.index.get(keyOf(v.Workload)).owner; owner != nil && !owner.object.DisruptsAtOnce() {
			n++
		}
	}
	return n
}

// giveWay takes clusters off a workload for the sake of another one, whose they are to be. What it had there is held in the same step.
func (p *pass) giveWay(by *workItem, n *nomination, item *workItem, found engine.Victim) {
	v := victim{key: item.key, uid: item.object.UID, name: item.object.workload.String(), shares: found.Frees}
	p.holdFor(&v)                    // beside the claim, which is reduced now
	n.victims = append(n.victims, v) // from now on hold leaves out what is held here
	p.makeRoom(item, found.Clusters, fmt.Sprintf("makes room on %s for %s of priority %d", strings.Join(found.Clusters, ", "), by.object.workload, by.turn.Priority))
}

// makeRoom takes clusters off a workload for others, and says why.
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

// holdFor holds what is given up, or needed beside that.
func (w *workspace) holdFor(v *victim) {
	held := engine.Reservation{Workload: v.key.reference(), Shares: v.shares}
	held.Workload.UID = string(v.uid)
	v.held, _ = w.engine.Hold(w.name, held) // what can be read is always held
}

// followNominations has the workloads be due for which others make room, and withdraws nominations that are void: of workloads that
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

// isBack reports whether a victim has a cluster again that it has given up.
func (w *workspace) isBack(v victim) bool {
	stored, _, found := w.store.get(v.key)
	return found && stored.Workload.UID == v.uid && slices.ContainsFunc(stored.Clusters, func(c v1alpha1.ClusterDecision) bool {
		return slices.ContainsFunc(v.shares, func(s capacity.Share) bool { return s.Cluster == c.Name })
	})
}

// withdraw ends a nomination: what is held for it goes back to whoever comes first, once that is durable.
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

// nominated says whether others make room for a workload, and whether it is to be decided on: it may have their place now, or another
// one. A nomination that leads nowhere is withdrawn.
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
		return true, false, nil // until the clusters do not count the victims any more
	default:
		item.instead = nil
		p.withdraw(item.key)
		item.attempt.failed(p.now())
		return false, false, nil
	}
}

// isFree reports whether it is durable that the victims have given up their places, and they are gone there.
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

// makesRoom reports whether room is made for others by a workload of this UID.
func (w *workspace) makesRoom(uid types.UID) bool {
	for _, n := range w.nominations {
		if slices.ContainsFunc(n.victims, func(v victim) bool { return v.uid == uid }) {
			return true
		}
	}
	return false
}

// nominationsPublished reports whether it has become durable that victims have given up their places: then the workloads for which
// they have may be placed.
func (w *workspace) nominationsPublished() (any bool) {
	for _, n := range w.nominations {
		if !n.published && !slices.ContainsFunc(n.victims, func(v victim) bool { return !w.store.published(v.key) }) {
			n.published, any = true, true
		}
	}
	return any
}

// dropVoid drops the nominations whose victims have not durably given up their places, once all decisions have been read again.
func (w *workspace) dropVoid() {
	maps.DeleteFunc(w.nominations, func(_ workloadKey, n *nomination) bool { return slices.ContainsFunc(n.victims, w.isBack) })
}

// renominate holds again what is given up for others, after all that is reserved was replaced by what is durable.
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
