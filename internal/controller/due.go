package controller

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/filter"
)

// reason is why a workload is due, that is, why a pass looks at it. A workload without one stays as it is, at no cost.
//
// Invariant: what a pass reports of a workload is a function of what the reasons cover. So a pass over those that are due has the
// same outcome as a pass over all.
type reason string

// The reasons. A workload with several reasons has any one of them.
const (
	// workloadChanged: it is new, gone or changed, or LimitRanges add different requests to it.
	workloadChanged reason = "WorkloadChanged"
	// placementChanged: its placement has changed, but not what it selects.
	placementChanged reason = "PlacementChanged"
	// clusterChanged: a cluster that it is on has changed other than in free capacity, or whether workloads may stay there depends
	// on time.
	clusterChanged reason = "ClusterChanged"
	// fleetChanged: it waits, or should have other clusters or more, and what is free or placed has changed.
	fleetChanged reason = "FleetChanged"
	// timeCame: a time that was set for it has come.
	timeCame reason = "TimeCame"
	// decisionChanged: its decision, or whether it is durable, has changed.
	decisionChanged reason = "DecisionChanged"
	// deliveryChanged: what runs, or why it does not run, has changed.
	deliveryChanged reason = "DeliveryChanged"
	// leftOver: the last pass did not get to it, failed for it, made it wait its turn, or could not see all that it depends on.
	leftOver reason = "LeftOver"
	// moveAsked: a rebalance plan moves it.
	moveAsked reason = "MoveAsked"
	// premisesChanged: what all workloads depend on has changed. Such a pass is a full one: it looks at all workloads and recounts them.
	premisesChanged reason = "PremisesChanged"
)

// premises are what all workloads depend on.
type premises struct {
	// store differs once the decisions have been read again.
	store *store
	// placements, oldest first, with the versions of what they select.
	placements []*placementState
	selections []int
	// policies is the digest of the policies in force, if any; resting is set while the workspace rests.
	policies         string
	inForce, resting bool
	kinds            []watchedKind
	hidden           map[schema.GroupResource]hidden
	delivers         bool
}

func (p *pass) premises(o *cacheView) premises {
	now := premises{
		store: p.store, placements: p.placements, policies: p.engine.PolicyDigest(p.name), inForce: p.inForce, resting: p.now().Before(p.restUntil),
		kinds: o.kinds, hidden: map[schema.GroupResource]hidden{}, delivers: p.handOver != nil,
	}
	for _, s := range p.placements {
		now.selections = append(now.selections, s.selection)
	}
	for resource, h := range o.hidden {
		now.hidden[resource] = *h
	}
	return now
}

func (p *premises) same(o *premises) bool {
	return p.store == o.store && slices.Equal(p.placements, o.placements) && slices.Equal(p.selections, o.selections) && p.policies == o.policies &&
		p.inForce == o.inForce && p.resting == o.resting && slices.Equal(p.kinds, o.kinds) && maps.Equal(p.hidden, o.hidden) && p.delivers == o.delivers
}

// clusterMark is the state of a cluster for which the workloads on it are looked at when it changes.
type clusterMark struct {
	// facts is the version of everything about the cluster except its capacity.
	facts, usableNodes int64
	// usage is what the cluster counts per workload; counting is set while it counts them.
	usage    *v1alpha1.ClusterUsage
	counting bool
	// delivers, silent and lost describe its agent.
	delivers, silent, lost bool
}

// add makes a workload due in the next pass.
func (x *index) add(item *workItem, why reason) {
	if _, due := x.due[item]; !due {
		x.due[item] = why
	}
	x.unrelated[item] = true
}

// addOn makes the workloads on a cluster due in the next pass.
func (x *index) addOn(cluster string, why reason) {
	for item := range x.on[cluster] {
		x.add(item, why)
	}
}

// anew makes the next pass a full one.
func (x *index) anew() { x.premises = premises{} }

// gather returns the workloads that are due.
func (p *pass) gather(o *cacheView) []*workItem {
	x := p.index
	x.passes++
	for key := range p.store.takeChanged() {
		x.add(x.get(key), decisionChanged)
	}
	if now := p.premises(o); !now.same(&x.premises) {
		x.premises = now
		p.countAnew()
	}
	for _, s := range p.placements {
		if s.changed {
			s.changed = false
			for item := range s.items {
				x.add(item, placementChanged)
			}
		}
	}
	p.gatherOnClusters(o)
	p.gatherMoves()
	for item, found := x.timers.Min(); found && !item.wake.After(p.now()); item, found = x.timers.Min() {
		x.sleep(item)
		x.add(item, timeCame)
	}
	if p.revision = p.engine.Revision(p.name); p.revision != x.revision {
		x.revision = p.revision
		for item := range x.open {
			x.add(item, fleetChanged)
		}
	}
	due := make([]*workItem, 0, len(x.due))
	for item, why := range x.due {
		p.metrics.due.WithLabelValues(string(why)).Inc()
		due = append(due, item)
	}
	clear(x.due)
	slices.SortFunc(due, byKey)
	return due
}

// countAnew makes all workloads due, and resets their tallies.
func (p *pass) countAnew() {
	for _, s := range p.placements {
		s.tally, s.items, s.basis = tally{}, map[*workItem]bool{}, statusBasis{}
	}
	for key := range p.store.records {
		p.index.get(key)
	}
	for _, item := range p.index.items {
		item.account, item.owner = account{}, nil
		p.index.add(item, premisesChanged)
	}
}

// gatherOnClusters makes the workloads due that are on clusters that have changed.
func (p *pass) gatherOnClusters(o *cacheView) {
	x, rows := p.index, p.engine.Snapshot(p.name).Rows()
	marks := make(map[string]clusterMark, len(rows))
	for _, row := range rows {
		_, counting := p.counting[row.Name]
		c := p.delivering[row.Name]
		now := clusterMark{
			facts: row.Facts, usableNodes: row.UsableNodes, usage: o.usages[row.Name], counting: counting,
			delivers: c.Delivers, silent: c.Silent, lost: c.Lost,
		}
		if marks[row.Name] = now; !filter.Timeless(row) {
			p.changeable[row.Name] = true
			x.addOn(row.Name, clusterChanged)
		}
		if before, there := x.marks[row.Name]; !there || before != now {
			x.addOn(row.Name, clusterChanged)
		}
	}
	for name := range x.marks {
		if _, there := marks[name]; !there {
			x.addOn(name, clusterChanged)
		}
	}
	x.marks = marks
}

// wakeNext asks for a pass at the earliest time that is set for a workload.
func (p *pass) wakeNext() {
	if item, found := p.index.timers.Min(); found {
		wait := item.wake.Sub(p.now())
		if len(item.missing) > 0 {
			wait = max(wait, countsEvery) // to avoid a pass for each workload
		}
		p.result.within(max(wait, 1))
	}
	if p.engine.Revision(p.name) != p.revision {
		p.index.revision = -1 // those before the workload that has changed it have not seen the change
	}
}
