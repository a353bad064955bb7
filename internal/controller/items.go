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

// workItem is what passes know of a workload, for as long as it is shown, has a decision or runs somewhere.
type workItem struct {
	key workloadKey
	// shown is the workload as the informer shows it, nil if it does not; object is countedFrom with what LimitRanges add, which is
	// defaults. turn is that of the object under its placement.
	shown, object, countedFrom *workloadObject
	defaults                   corev1.ResourceList
	turn                       placement.Turn
	// asksSince is when this process first saw the object ask for what it asks for now.
	asksSince time.Time
	// owner is the placement that it belongs to, nil if none; others are further placements that select it.
	owner  *placementState
	others []*placementState
	// scheduled is what policies with affinity terms make of it.
	scheduled scheduledAs
	// account is what it contributes to the tally of a placement.
	account account
	// assigned is where it belongs, as last handed over for delivery; gaveUpAt is when it was last reduced.
	assigned []*delivery.Assignment
	gaveUpAt time.Time
	// on are the clusters under which the index finds it.
	on []string

	// stored is the current decision on the workload, if found. It is stale if it was made for an earlier workload of the same name.
	stored       v1alpha1.WorkloadDecision
	found, stale bool
	// attempt is the latest unsuccessful one: to place the workload, if tried, or to find a better place for it.
	attempt attempt
	tried   bool
	// waitingSince is when it began to wait, for clusters or for room for some of its replicas.
	waitingSince time.Time
	// missing is since when a cluster that counts workloads has not counted all of this one.
	missing map[string]time.Time
	// returning is since when a better fallback group has continuously had a place for it.
	returning betterGroup
	// supposed is what would be decided on it while its placement is suspended.
	supposed *supposed
	// unreadable is the error that was reported for an object that cannot be decoded, by UID.
	unreadable unreadableReport
	// err is why it could not be decided on when it was last looked at.
	err error

	// The rest belongs to one visit.

	// before is what the previous visit found.
	before struct {
		missing   map[string]time.Time
		returning betterGroup
		supposed  *supposed
		err       error
	}

	// adopted are the clusters where it runs if it has no decision.
	adopted []engine.Choice
	// instead is what others have given up for it.
	instead []engine.Held
	// returnTo is the fallback group that the workload is to return to; move makes it leave clusters for a reason other than their state.
	returnTo string
	move     *move
	// reason is why the workload waits.
	reason string
	// deferred: the pass was cut short before this workload. unevaluated: the pass did not get to what would be decided on it.
	// satisfied: it has all that it asks for where it is. paced: it waits its turn to lose a cluster.
	deferred, unevaluated, satisfied, paced bool

	// queued is the last pass in which it was queued. wake is when it becomes due though nothing changes; the zero time is never.
	queued int64
	wake   time.Time
	// lacks is set while something that it depends on is not shown; unowned and idle are set if it gets no decision.
	lacks, unowned, idle bool
}

type unreadableReport struct {
	uid types.UID
	why string
}

// index holds the workloads of a workspace, and knows which of them are due: due.go has the reasons.
type index struct {
	items map[workloadKey]*workItem
	// uids holds the shown workloads by UID; changedUIDs are UIDs that have appeared or disappeared.
	uids        map[types.UID]*workItem
	changedUIDs map[types.UID]bool
	// on holds the workloads on each cluster, according to their decisions.
	on map[string]map[*workItem]bool
	// due are the workloads that the next pass looks at.
	due map[*workItem]reason
	// unrelated may have changed since the engine was last updated on affinity between workloads. unscheduled are those for which policies
	// with affinity terms fail, with the placements that they belong to.
	unrelated   map[*workItem]bool
	unscheduled map[*workItem]*placementState
	// open are the workloads that changes elsewhere may affect: they wait, or should have other clusters, or more.
	open map[*workItem]bool
	// turns holds the shown workloads in turn. reassigned is set while any belongs elsewhere than was last handed over.
	turns      *btree.BTreeG[*workItem]
	reassigned bool
	// timers holds the workloads that become due at a time, earliest first.
	timers *btree.BTreeG[*workItem]
	// waiting counts the workloads that no cluster is feasible for.
	waiting int
	// passes counts the passes that got as far as placing.
	passes int64
	// source is where the shown workloads were taken from; hidden are the kinds that could not be seen then.
	source *shownWorkloads
	hidden []watchedKind

	premises premises
	// marks is the state of clusters when the workloads on them were last looked at.
	marks map[string]clusterMark
	// revision is the workspace revision at which all open workloads were last looked at.
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

// get returns the item of a workload, creating it if needed.
func (x *index) get(key workloadKey) *workItem {
	item := x.items[key]
	if item == nil {
		item = &workItem{key: key}
		x.items[key] = item
	}
	return item
}

// take updates which workloads are shown: all of them at first and when the changes are not known, otherwise those that have changed.
func (x *index) take(o *cacheView) {
	hidden := slices.DeleteFunc(slices.Clone(o.kinds), func(k watchedKind) bool { return o.hides(k.GroupVersionResource) == nil })
	all := o.live == nil || x.source != o.live.shownWorkloads || !slices.Equal(x.hidden, hidden)
	there := map[*workItem]bool{} // used when all are taken
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

// setShown records a workload as it is shown now, nil if it is not.
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

// setClusters indexes an item under the clusters of its decision.
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

// setTurn gives an item its turn; the zero value is for one that is not shown.
func (x *index) setTurn(item *workItem, now placement.Turn) {
	if item.turn.Workload != nil {
		x.turns.Delete(item)
	}
	if item.turn = now; now.Workload != nil {
		x.turns.ReplaceOrInsert(item)
	}
}

// wakeAt makes an item due at a time or earlier.
func (x *index) wakeAt(item *workItem, at time.Time) {
	if item.wake.IsZero() || at.Before(item.wake) {
		x.timers.Delete(item)
		item.wake = at
		x.timers.ReplaceOrInsert(item)
	}
}

// sleep cancels when an item is due.
func (x *index) sleep(item *workItem) {
	if !item.wake.IsZero() {
		x.timers.Delete(item)
		item.wake = time.Time{}
	}
}

// setWaiting records whether a workload waits for a cluster.
func (x *index) setWaiting(item *workItem, tried bool) {
	if tried != item.tried {
		x.waiting += map[bool]int{true: 1, false: -1}[tried]
		item.tried = tried
	}
}

// setOpen records whether changes elsewhere may affect a workload.
func (x *index) setOpen(item *workItem, open bool) {
	if open {
		x.open[item] = true
	} else {
		delete(x.open, item)
	}
}

// drop discards what passes have found out about a workload that gets no decision now.
func (x *index) drop(item *workItem) {
	x.sleep(item)
	x.setWaiting(item, false)
	x.setOpen(item, false)
	item.attempt, item.err, item.missing, item.returning, item.supposed = attempt{}, nil, nil, betterGroup{}, nil
}

// forget removes an item of which nothing is left.
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

// workloads yields the shown workloads, by name.
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
