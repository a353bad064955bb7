package controller

import (
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/delivery"
)

// deliveries is what a workspace knows about deliveries.
type deliveries struct {
	// handOver takes the assignments of the workloads after each pass; nil if nothing is delivered.
	handOver func(delivery.Round)
	// outcome returns the result of the last round of deliveries, nil before the first; it is nil if nothing is delivered. unsure is set while
	// it is not known which Works exist.
	outcome func() *delivery.Result
	unsure  bool
	// departures are the copies on clusters that workloads leave.
	departures delivery.Departures
	// delivering holds the clusters whose agents deliver, by name, and copies what runs where, in this pass.
	delivering map[string]delivery.Cluster
	copies     *delivery.Copies
	// keptCopies are the copies of workspaces that share the clusters.
	keptCopies delivery.Copies
	usages     map[string]*v1alpha1.ClusterUsage
	// running holds the workloads that run somewhere, are not shown, and are not known to be replaced.
	running map[workloadKey]sets.Set[types.UID]
	// delivered is what this was read from; unseen are the workloads in running by UID.
	delivered struct {
		clusters map[string]*v1alpha1.ClusterRegistration
		done     *delivery.Result
		unseen   map[types.UID]workloadKey
	}
	// handed holds the clusters of the last round that was handed over.
	handed map[string]*v1alpha1.ClusterRegistration
	// problems are why workloads are not delivered as decided, by UID, and unwritable why Works of clusters cannot be written, both
	// as found by the last round of deliveries.
	problems   map[types.UID][]delivery.Problem
	unwritable map[string]string
	// behind is since when the condition Delivered of a registration has differed from what it should be.
	behind map[types.UID]time.Time
}

func newDeliveries() deliveries {
	d := deliveries{departures: delivery.Departures{}, copies: &delivery.Copies{}, running: map[workloadKey]sets.Set[types.UID]{}, behind: map[types.UID]time.Time{}}
	d.delivered.unseen = map[types.UID]workloadKey{}
	return d
}

// readDeliveries reads what is delivered where. Workloads whose delivery has changed become due.
func (w *workspace) readDeliveries(o *cacheView) {
	delivering, names := make(map[string]delivery.Cluster, len(o.clusters)), make([]string, len(o.clusters))
	read := make(map[string]*v1alpha1.ClusterRegistration, len(o.clusters))
	for i, r := range o.clusters {
		if names[i], read[r.Name] = r.Name, r; w.delivered.clusters[r.Name] == r {
			delivering[r.Name] = w.delivering[r.Name]
		} else {
			delivering[r.Name] = *delivery.ClusterOf(r)
		}
	}
	w.delivering, w.usages, w.delivered.clusters = delivering, o.usages, read
	w.keptCopies.Update(names, o.keptWorks)
	var done *delivery.Result
	if w.outcome != nil {
		done = w.outcome()
		w.unsure = done == nil || done.Unsure
	}
	changed := w.copies.Update(names, done.Newest(o.works))
	if done != nil && done != w.delivered.done {
		for uid, problems := range done.Problems {
			changed[uid] = changed[uid] || !slices.Equal(problems, w.problems[uid])
		}
		for uid := range w.problems {
			changed[uid] = changed[uid] || len(done.Problems[uid]) == 0
		}
		w.problems, w.unwritable, w.delivered.done = done.Problems, done.Clusters, done
	}
	for uid, other := range changed {
		if item := w.index.uids[uid]; item != nil && other {
			w.index.add(item, deliveryChanged)
		}
	}
	maps.Copy(changed, w.index.changedUIDs)
	clear(w.index.changedUIDs)
	for uid := range changed {
		w.followUnseen(uid)
	}
}

// followUnseen updates whether a workload runs somewhere though it is not shown.
func (w *workspace) followUnseen(uid types.UID) {
	if key, ran := w.delivered.unseen[uid]; ran {
		w.notRunning(key, uid)
		w.index.add(w.index.get(key), deliveryChanged)
	}
	if w.index.uids[uid] != nil || contains(w.replaced, uid) {
		return
	}
	for _, c := range w.copies.Of(uid) {
		reference, known := c.Reference()
		if !known {
			continue
		}
		key := keyOf(reference)
		if w.running[key] == nil {
			w.running[key] = sets.New[types.UID]()
		}
		w.running[key].Insert(uid)
		w.delivered.unseen[uid] = key
		w.index.add(w.index.get(key), deliveryChanged)
		return
	}
}

func (w *workspace) notRunning(key workloadKey, uid types.UID) {
	if w.running[key].Delete(uid); len(w.running[key]) == 0 {
		delete(w.running, key)
	}
	delete(w.delivered.unseen, uid)
}

// holdsLeft reports whether the reservation on a cluster that a workload leaves is held until the workload is gone there.
func (w *workspace) holdsLeft(cluster string) bool {
	c := w.delivering[cluster]
	return w.handOver != nil && c.Delivers && !c.Lost
}

// keepDurable makes a decision keep whatever a durable one promises that may still run: clusters it no longer names become leaving, and on
// the others it reserves as much as may run there. It reports whether it reserves more than before. Decisions that never became durable may
// have assumed that durable promises were gone: a victim may have lost all its clusters in between, or the clusters were lost and have come
// back since.
//
// Invariant: no write promises less on a cluster than the pods of the workload may still request there.
func (p *pass) keepDurable(key workloadKey, now *v1alpha1.WorkloadDecision) (raised bool) {
	for e := range p.store.records[key].durably(key) {
		if e.decision.Workload.UID != now.Workload.UID {
			continue
		}
		for _, l := range p.leavingBy(&e.decision, now) {
			if slices.ContainsFunc(now.Leaving, func(o v1alpha1.LeavingCluster) bool { return o.Name == l.Name }) {
				continue
			}
			if l.Since.After(now.DecidedAt.Time) {
				l.Since = now.DecidedAt
			}
			if !p.hasLeft(key, now.Workload.UID, l) {
				now.Leaving = append(slices.Clone(now.Leaving), l)
			}
		}
		raised = p.reserveWhatRuns(key, e, now) || raised
	}
	slices.SortFunc(now.Leaving, func(a, b v1alpha1.LeavingCluster) int { return strings.Compare(a.Name, b.Name) })
	return raised
}

// reserveWhatRuns makes a decision reserve on its clusters what may still run there of a durable promise.
func (p *pass) reserveWhatRuns(key workloadKey, e *entry, now *v1alpha1.WorkloadDecision) (raised bool) {
	reserved, err := engine.ReservationOf(e.placement, now)
	durable, unreadable := engine.ReservationOf(e.placement, &e.decision)
	if err != nil || unreadable != nil {
		return false // it was never restored
	}
	for _, promised := range append(durable.Shares, leavingOf(key, &e.decision).Shares...) {
		i := slices.IndexFunc(reserved.Shares, func(s capacity.Share) bool { return s.Cluster == promised.Cluster })
		if i < 0 || !p.holdsLeft(promised.Cluster) || promised.Expired || reserved.Shares[i].Expired || promised.Amount.MoreThan(reserved.Shares[i].Amount).IsZero() {
			continue
		}
		runs := p.stillRuns(key, &e.decision, promised.Cluster, promised.Amount)
		if !runs.MoreThan(reserved.Shares[i].Amount).IsZero() {
			reserved.Shares[i].Amount, raised = reserved.Shares[i].Amount.Max(runs), true
		}
	}
	if raised {
		now.Clusters = slices.Clone(now.Clusters)
		setReserved(now, func(i int) capacity.Resources { return reserved.Shares[i].Amount })
	}
	return raised
}

func (p *pass) leavingBy(before, after *v1alpha1.WorkloadDecision) []v1alpha1.LeavingCluster {
	stays := make(map[string]bool, len(after.Clusters))
	for _, c := range after.Clusters {
		stays[c.Name] = true
	}
	var leaving []v1alpha1.LeavingCluster
	for _, l := range before.Leaving {
		if !stays[l.Name] {
			leaving = append(leaving, l)
		}
	}
	for _, c := range before.Clusters {
		if stays[c.Name] || !p.holdsLeft(c.Name) {
			continue
		}
		l := v1alpha1.LeavingCluster{Name: c.Name, Since: metav1.NewTime(p.now())}
		if c.ReservationExpiredAt == nil {
			l.Reserved = reservedOn(before, &c)
		}
		leaving = append(leaving, l)
	}
	return leaving
}

// followDepartures removes from decisions the clusters that their workloads have left for good.
func (p *pass) followDepartures() {
	asked := map[types.UID]bool{}
	for _, key := range p.store.unwritten() {
		asked[p.store.records[key].current.decision.Workload.UID] = true
		p.renewUnwritten(key)
	}
	for _, key := range slices.SortedFunc(maps.Keys(p.store.leaving), workloadKey.compare) {
		record := p.store.records[key]
		d := record.current.decision
		asked[d.Workload.UID] = true
		left := slices.DeleteFunc(slices.Clone(d.Leaving), func(l v1alpha1.LeavingCluster) bool { return p.hasLeft(key, d.Workload.UID, l) })
		if len(left) == len(d.Leaving) {
			continue
		}
		d.Leaving = left
		p.store.put(key, record.current.placement, d)
		p.hold(key)
	}
	p.departures.Forget(func(uid types.UID, _ string) bool { return asked[uid] || p.makesRoom(uid) })
}

// renewUnwritten makes a decision that is not durable keep what is.
func (p *pass) renewUnwritten(key workloadKey) {
	current := p.store.records[key].current
	now := current.decision
	if raised := p.keepDurable(key, &now); raised || len(now.Leaving) > len(current.decision.Leaving) {
		p.store.put(key, current.placement, now)
		p.restoreReservation(key)
	}
}

// hasLeft reports whether nothing of a workload is left on a cluster that it leaves. A write that still puts it there may be in flight for
// WriteWithin after the departure was handed over, and becomes known only once Works have been listed.
func (p *pass) hasLeft(key workloadKey, uid types.UID, l v1alpha1.LeavingCluster) bool {
	if !p.holdsLeft(l.Name) {
		return true
	}
	if p.unsure {
		p.result.within(confirmWithin)
		return false
	}
	gone := p.departures.Gone(p.copies, uid, l.Name)
	if wait := p.index.items[key].underWayUntil(l.Since.Time).Sub(p.now()); wait > 0 {
		if gone {
			p.result.within(wait)
		}
		return false
	}
	return gone
}

// adopt makes a workload without a decision count as running where it was delivered before: it was kept when the last placement stopped
// selecting it. It is promised what its clusters count for it.
func (p *pass) adopt(item *workItem) {
	copies := p.copies.Of(item.object.UID)
	if item.found || len(copies) == 0 {
		return
	}
	r := engine.Reservation{Workload: item.object.workload.Reference, Placement: namespacedName(item.owner.object)}
	for _, cluster := range slices.Sorted(maps.Keys(copies)) {
		if copies[cluster].Manifest == nil || p.delivering[cluster].Lost || p.gaveUp(item.key, item.object.UID, cluster) {
			continue
		}
		item.adopted = append(item.adopted, engine.Choice{Name: cluster, Replicas: copies[cluster].Replicas()})
		r.Shares = append(r.Shares, capacity.Share{Cluster: cluster, Amount: countedBy(p.usages[cluster], item.object.UID)})
	}
	if len(item.adopted) > 0 {
		_ = p.engine.Restore(p.name, r) // it is valid, and promises only what is in use already
	}
}

// disown takes back what adopt has promised.
func (p *pass) disown(item *workItem) {
	if len(item.adopted) > 0 {
		item.adopted = nil
		p.restoreReservation(item.key)
	}
}

// countedBy returns what a cluster reports as the requests of a workload's pods.
func countedBy(usage *v1alpha1.ClusterUsage, uid types.UID) (counted capacity.Resources) {
	if usage == nil {
		return counted
	}
	if i := slices.IndexFunc(usage.Workloads, func(w v1alpha1.WorkloadUsage) bool { return w.UID == uid }); i >= 0 {
		counted, _ = capacity.FromResourceList(usage.Workloads[i].Requests) // what cannot be read is not counted
	}
	return counted
}

// assignments returns where a workload belongs according to durable decisions.
//
// Invariant: a workload that runs somewhere and is not known to be gone has an assignment.
func (p *pass) assignments(item *workItem) (all []*delivery.Assignment) {
	if p.kept[item.key] != nil {
		uids := p.running[item.key].Clone()
		if item.found {
			uids.Insert(item.stored.Workload.UID)
		}
		if item.object != nil {
			uids.Insert(item.object.UID)
		}
		for _, uid := range sets.List(uids) {
			reference := item.key.reference()
			reference.UID = string(uid)
			all = append(all, &delivery.Assignment{Source: &delivery.Source{Reference: reference}})
		}
		return all
	}
	if item.object == nil {
		return nil
	}
	a := &delivery.Assignment{Source: item.object.source}
	switch {
	case item.unowned:
		if _, by, found := p.store.get(item.key); found { // it waits its turn to leave
			if s := p.compiledPlacements[by]; s != nil {
				a.Placement = s.content
				p.assign(item.key, a)
			}
		} else if len(p.unselective) == 0 {
			a.State = delivery.Unselected
		}
	case item.idle:
	case item.found && !item.stale:
		a.Placement = item.owner.content
		p.assign(item.key, a)
	default:
		if a.Placement = item.owner.content; item.tried && item.err == nil && !item.deferred {
			a.State = delivery.Waiting
		}
	}
	return []*delivery.Assignment{a}
}

// assign fills in where a workload belongs, if that is durable.
func (p *pass) assign(key workloadKey, a *delivery.Assignment) {
	current := p.store.records[key].current
	if current == nil || !current.durable(key) {
		return
	}
	a.State, a.DecidedAt, a.Divided = delivery.Decided, current.decision.DecidedAt.Time, current.decision.Divided
	for _, c := range current.decision.Clusters {
		a.Targets = append(a.Targets, delivery.Target{Cluster: c.Name, Replicas: c.Replicas})
	}
	slices.SortFunc(a.Targets, func(a, b delivery.Target) int { return strings.Compare(a.Cluster, b.Cluster) })
	for _, l := range current.decision.Leaving {
		a.Leaving = append(a.Leaving, l.Name)
	}
}

// handOverRound hands over where all workloads belong, once the decisions of the pass are written and if anything has changed.
func (p *pass) handOverRound() {
	if p.handOver == nil {
		return
	}
	x := p.index
	for _, item := range append(p.due, p.processed...) {
		x.assign(item, p.assignments(item), p.now())
	}
	for key := range p.store.changed { // for what the pass has written
		if item := x.items[key]; item != nil {
			x.assign(item, p.assignments(item), p.now())
		}
	}
	if !x.reassigned && maps.Equal(p.handed, p.delivered.clusters) {
		return
	}
	r := delivery.Round{Assignments: make([]*delivery.Assignment, 0, len(x.items))}
	x.turns.Ascend(func(item *workItem) bool {
		r.Assignments = append(r.Assignments, item.assigned...)
		return true
	})
	for _, key := range slices.SortedFunc(maps.Keys(p.kept), workloadKey.compare) {
		if item := x.items[key]; item.object == nil {
			r.Assignments = append(r.Assignments, item.assigned...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.delivering)) {
		r.Clusters = append(r.Clusters, p.delivering[name])
	}
	p.handOver(r)
	x.reassigned, p.handed = false, p.delivered.clusters
}

// assign records where a workload belongs.
func (x *index) assign(item *workItem, now []*delivery.Assignment, at time.Time) {
	if slices.EqualFunc(item.assigned, now, sameAssignment) {
		return
	}
	if givesUp(item.assigned, now) || len(item.assigned) > 0 && item.asksSince.After(item.gaveUpAt) {
		item.gaveUpAt = at
	}
	item.assigned, x.reassigned = now, true
}

// underWayUntil returns until when a write based on decisions from before a time may be in flight: WriteWithin after less was handed over.
func (i *workItem) underWayUntil(since time.Time) time.Time {
	if i != nil && i.gaveUpAt.After(since) {
		since = i.gaveUpAt
	}
	return since.Add(WriteWithin)
}

// givesUp reports whether a workload is to have less on any cluster than before.
func givesUp(before, now []*delivery.Assignment) bool {
	replicas := map[string]int32{}
	for _, a := range now {
		for _, t := range a.Targets {
			replicas[t.Cluster] = t.Replicas
		}
	}
	for _, a := range before {
		for _, t := range a.Targets {
			if stays, found := replicas[t.Cluster]; !found || stays < t.Replicas {
				return true
			}
		}
	}
	return false
}

func sameAssignment(a, b *delivery.Assignment) bool {
	unseen := func(s *delivery.Source) bool { return s != nil && s.Manifest == nil && s.ResourceVersion == "" }
	return (a.Source == b.Source || unseen(a.Source) && unseen(b.Source) && a.Reference == b.Reference && a.Generation == b.Generation) &&
		a.State == b.State && a.Placement == b.Placement && slices.Equal(a.Targets, b.Targets) && a.Divided == b.Divided &&
		a.DecidedAt.Equal(b.DecidedAt) && slices.Equal(a.Leaving, b.Leaving)
}
