package controller

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/btree"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/internal/delivery"
)

// workItem is a workload, for as long as it is shown, has a decision or runs somewhere: what passes know of it.
type workItem struct {
	key workloadKey
	// shown is the workload as the informer shows it, nil where it does not; object is the same with what LimitRanges add, which is
	// defaults, to countedFrom. turn is that of the object, and of its placement.
	shown, object, countedFrom *workloadObject
	defaults                   corev1.ResourceList
	turn                       placement.Turn
	// asksSince is since when this process has seen the object ask for what it asks for.
	asksSince time.Time
	// owner is the placement that it belongs to, nil if to none; others are those that select it besides.
	owner  *placementState
	others []*placementState
	// scheduled is what policies with terms of affinity say of it.
	scheduled scheduledAs
	// account is what it adds to the tally of a placement.
	account account
	// assigned says where it belongs, as it was last handed over to be delivered; gaveUpAt is when that was less than before.
	assigned []*delivery.Assignment
	gaveUpAt time.Time
	// on are the clusters under which the index finds it.
	on []string

	// stored is the decision that the workload has, where found. It is stale where it was made for an earlier workload of
	// the same name.
	stored       v1alpha1.WorkloadDecision
	found, stale bool
	// attempt is the latest one in vain: to place the workload, where tried, or to find a better place for it.
	attempt attempt
	tried   bool
	// waitingSince is when it began to wait, for clusters or for room for some of its replicas.
	waitingSince time.Time
	// missing is since when a cluster that counts workloads has not counted all of this one.
	missing map[string]time.Time
	// returning is since when a better fallback group has had a place for it, without a break.
	returning betterGroup
	// supposed is what would be decided on it, while its placement is suspended.
	supposed *supposed
	// unreadable is the error that was told of an object that cannot be decoded, by UID.
	unreadable unreadableReport
	// err is why it could not be decided on when it was last looked at.
	err error

	// What follows is of one visit.

	// before is what the visit before has found.
	before struct {
		missing   map[string]time.Time
		returning betterGroup
		supposed  *supposed
		err       error
	}

	// adopted are the clusters where it runs, where it has no decision.
	adopted []engine.Choice
	// instead is what others have given up for it.
	instead []engine.Held
	// returnTo is the fallback group that the workload is to return to, move what it is to leave for another reason than what the
	// clusters are.
	returnTo string
	move     *move
	// reason is why the workload waits.
	reason string
	// deferred says that the pass was cut short before this workload, unevaluated that it has not come to what would be decided on it.
	// satisfied says that it has all that it asks for where it is,
	// paced that it waits its turn to lose a cluster.
	deferred, unevaluated, satisfied, paced bool

	// queued is the last pass in which it has waited in line. wake is when it is due though nothing changes; the zero time is never.
	queued int64
	wake   time.Time
	// lacks is set while something that it rests on is not shown; unowned, and idle, are set where it gets no decision.
	lacks, unowned, idle bool
}

type unreadableReport struct {
	uid types.UID
	why string
}

// index has the workloads of a workspace, and knows which of them are due: due.go says why.
type index struct {
	items map[workloadKey]*workItem
	// uids has those that are shown, by UID; changedUIDs are the UIDs of which one has come or gone.
	uids        map[types.UID]*workItem
	changedUIDs map[types.UID]bool
	// on has those that are, by their decisions, on a cluster.
	on map[string]map[*workItem]bool
	// due are the workloads that the next pass looks at.
	due map[*workItem]reason
	// unrelated are those that may have changed since the engine was told what affinity between workloads has to know of them.
	// unscheduled are those for which policies with terms of affinity fail, with the placements that they belong to.
	unrelated   map[*workItem]bool
	unscheduled map[*workItem]*placementState
	// open are those that something else than they themselves may change: they wait, or should have other clusters, or more.
	open map[*workItem]bool
	// turns has those that are shown, in turn. reassigned is set while any belongs elsewhere than was last handed over.
	turns      *btree.BTreeG[*workItem]
	reassigned bool
	// timers are the workloads that are due at a time, the earliest first.
	timers *btree.BTreeG[*workItem]
	// waiting counts those that no cluster is feasible for.
	waiting int
	// passes counts the passes that have come to placing.
	passes int64
	// source is where what is shown was taken from, hidden the kinds that could not be seen then.
	source *shownWorkloads
	hidden []watchedKind

	premises premises
	// marks are what workloads on clusters were last looked at for.
	marks map[string]clusterMark
	// revision of the workspace at which all that are open have been looked at.
	revision int64
}

func newIndex() *index {
	return &index{
		items: map[workloadKey]*workItem{}, uids: map[types.UID]*workItem{}, changedUIDs: map[types.UID]bool{}, on: map[string]map[*workItem]bool{},
		due: map[*workItem]reason{}, unrelated: map[*workItem]bool{}, unscheduled: map[*workItem]*placementState{}, open: map[*workItem]bool{},
		turns: btree.NewG(16, func(a, b *workItem) bool { return inTurn(a, b) < 0 }),
		timers: btree.NewG(8, func(a, b *workItem) bool {
			return cmp.Or(a.wake.Compare(b.wake), a.key.compare(b.key)) < 0
		}),
	}
}

// get returns the item of a workload, which is made if there is none.
func (x *index) get(key workloadKey) *workItem {
	item := x.items[key]
	if item == nil {
		item = &workItem{key: key}
		x.items[key] = item
	}
	return item
}

// take takes up which workloads are shown: all of them at first, and where that is not known, what has changed.
func (x *index) take(o *cacheView) {
	hidden := slices.DeleteFunc(slices.Clone(o.kinds), func(k watchedKind) bool { return o.hides(k.GroupVersionResource) == nil })
	all := o.live == nil || x.source != o.live.shownWorkloads || !slices.Equal(x.hidden, hidden)
	there := map[*workItem]bool{} // where all are taken
	set := func(key workloadKey, object *workloadObject) {
		if slices.ContainsFunc(hidden, func(k watchedKind) bool { return k.kind == key.kind && k.apiVersion == key.apiVersion }) {
			object = nil
		}
		if object == nil && x.items[key] == nil {
			return
		}
		item := x.get(key)
		if all && object != nil {
			there[item] = true
		}
		if item.shown != object { // an informer never changes an object but replaces it
			x.setShown(item, object)
		}
	}
	if x.hidden, x.source = hidden, nil; o.live != nil {
		x.source = o.live.shownWorkloads
		x.source.take(o.live.workspace, all, set)
	}
	for _, object := range o.workloads {
		set(keyOf(object.workload.Reference), object)
	}
	for _, item := range x.items {
		if !all {
			break
		}
		if item.shown != nil && !there[item] {
			x.setShown(item, nil)
		}
	}
}

// setShown takes up a workload as it is shown now, nil if it is not.
func (x *index) setShown(item *workItem, object *workloadObject) {
	before := item.shown
	if item.shown = object; before != nil && (object == nil || before.UID != object.UID) {
		x.changedUIDs[before.UID] = true
		if x.uids[before.UID] == item {
			delete(x.uids, before.UID)
		}
	}
	if object != nil {
		x.changedUIDs[object.UID] = x.changedUIDs[object.UID] || x.uids[object.UID] == nil
		x.uids[object.UID] = item
	}
	x.add(item, workloadChanged)
}

// setClusters puts an item under the clusters of its decision.
func (x *index) setClusters(item *workItem, clusters []string) {
	if slices.Equal(item.on, clusters) {
		return
	}
	for _, name := range item.on {
		if delete(x.on[name], item); len(x.on[name]) == 0 {
			delete(x.on, name)
		}
	}
	item.on = clusters
	for _, name := range clusters {
		if x.on[name] == nil {
			x.on[name] = map[*workItem]bool{}
		}
		x.on[name][item] = true
	}
}

// setTurn gives an item its turn; the zero value is that of one that is not shown.
func (x *index) setTurn(item *workItem, now placement.Turn) {
	if item.turn.Workload != nil {
		x.turns.Delete(item)
	}
	if item.turn = now; now.Workload != nil {
		x.turns.ReplaceOrInsert(item)
	}
}

// wakeAt has an item be due at a time, or before.
func (x *index) wakeAt(item *workItem, at time.Time) {
	if item.wake.IsZero() || at.Before(item.wake) {
		x.timers.Delete(item)
		item.wake = at
		x.timers.ReplaceOrInsert(item)
	}
}

// sleep takes back when an item is due.
func (x *index) sleep(item *workItem) {
	if !item.wake.IsZero() {
		x.timers.Delete(item)
		item.wake = time.Time{}
	}
}

// setWaiting sets whether a workload waits for a cluster.
func (x *index) setWaiting(item *workItem, tried bool) {
	if tried != item.tried {
		x.waiting += map[bool]int{true: 1, false: -1}[tried]
		item.tried = tried
	}
}

// setOpen sets whether something else than a workload itself may change it.
func (x *index) setOpen(item *workItem, open bool) {
	if open {
		x.open[item] = true
	} else {
		delete(x.open, item)
	}
}

// drop forgets what passes have found out about a workload that gets no decision now.
func (x *index) drop(item *workItem) {
	x.sleep(item)
	x.setWaiting(item, false)
	x.setOpen(item, false)
	item.attempt, item.err, item.missing, item.returning, item.supposed = attempt{}, nil, nil, betterGroup{}, nil
}

// forget drops an item of which nothing is left.
func (x *index) forget(item *workItem) {
	x.drop(item)
	item.withdraw()
	item.setOwner(nil)
	x.setTurn(item, placement.Turn{})
	x.assign(item, nil, time.Time{})
	x.setClusters(item, nil)
	delete(x.due, item)
	delete(x.unscheduled, item)
	delete(x.items, item.key)
}

// workloads yields the workloads that are shown, by their names.
func (x *index) workloads(yield func(*workloadObject) bool) {
	for _, item := range slices.SortedFunc(maps.Values(x.items), byKey) {
		if item.object != nil && !yield(item.object) {
			return
		}
	}
}

// byKey orders items by the names of their workloads.
func byKey(a, b *workItem) int { return a.key.compare(b.key) }

// inTurn orders items as they are decided on.
func inTurn(a, b *workItem) int { return a.turn.Compare(b.turn) }
