package engine

import (
	"slices"
	"time"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Decision is where a workload runs, and why there.
type Decision struct {
	Workload workload.Reference
	// Clusters that were chosen, best first; empty if no cluster is feasible.
	Clusters []Choice
	// Asked is how many clusters the placement asks for.
	Asked int
	// Group is the fallback group by which the clusters were chosen.
	Group string
	// Waiting is how many replicas no cluster has room for, if replicas are divided.
	Waiting int64
	// Left are the clusters of Request.Current that the workload leaves. Retained are the clusters of Clusters that it
	// should leave, but for which there is no better place: what was reserved there stays reserved. Each has a Rejection.
	Left, Retained []Verdict
	// GivenUp holds what the workload had beyond what it has now, if the request asks for Hold.
	//
	// Invariant: what is given up is never free before ReleaseHeld, not even for a moment: others decide on shared clusters meanwhile.
	GivenUp []Held
	// Weights and Terms are the result of the policies.
	Weights scoring.Weights
	Terms   []scoring.Term
	// PolicyDigest identifies the Rego policies that made the decision.
	PolicyDigest string
	// InputsDigest identifies everything that the decision depends on except the clusters.
	InputsDigest string
	// Generation of the snapshot that was decided on.
	Generation int64
	// Revision of the workspace at that time: see Engine.Revision.
	Revision int64
	// Cached reports whether the ranking came from the cache, brought up to date.
	Cached bool

	changes bool
	plan    *plan
	// quota is what the quotas of sets left for the clusters that were added; nil if that was enough for any choice.
	quota *budget
	// grants are the grants through which the workspace sees the clusters; nil if these are its own.
	grants *grants
	class  *ranking.Class
	// snapshot that was decided on, and holding, what the workload itself held then, which does not count.
	snapshot snapshot.Snapshot
	holding  holding
	now      time.Time
	// withheld are the withheld clusters of the request.
	withheld []string
}

// Choice is one chosen cluster.
type Choice struct {
	Name     string `json:"name"`
	Replicas int64  `json:"replicas"`
	// Score is the total, 0..100.
	Score int64 `json:"score"`
	// Reason is the total as a word: Excellent, Good, Fair or Poor.
	Reason string `json:"reason"`
	// Reserved there for the workload.
	Reserved capacity.Resources `json:"-"`
	// Expired is set if the reservation has expired: nothing is reserved there any more.
	Expired bool `json:"-"`
	// Left is how many pods may still run there at most, however many replicas the cluster has; nil if that is not bounded. The
	// others have ended and request nothing any more.
	Left *int64 `json:"-"`
	// Runs is what the workload may still request there although it now asks for less: that much of what is reserved for it stays reserved.
	Runs capacity.Resources `json:"-"`
	// Part is set if replicas are divided and the cluster has its own part of what the workload has to complete, for example the
	// completions of a Job's copy. While it has the part, no other cluster can get it.
	Part bool `json:"-"`
}

// Divides reports whether the replicas of the workload are divided among its clusters.
func (d *Decision) Divides() bool { return d.plan != nil && d.plan.division != nil }

// attraction returns the effect of affinity to other workloads on the clusters; nil if there is none.
func (d *Decision) attraction() *attraction {
	if d.plan == nil {
		return nil
	}
	return d.plan.attraction
}

// classFor returns the class by which a cluster is feasible, if there are several to choose from; otherwise the first.
func (d *Decision) classFor(row *snapshot.Row) (_ *ranking.Class, tier int) {
	if d.plan != nil && len(d.plan.classes) > 1 {
		for tier, c := range d.plan.classes {
			if c.First(row, false, d.now) == nil {
				return c.Class, tier
			}
		}
	}
	return d.class, 0
}

// row returns one of rows, nil if there is none of that name.
func (d *Decision) row(cluster string) *snapshot.Row {
	if row := d.snapshot.Row(cluster); row != nil {
		return d.withoutHeld(row)
	}
	return nil
}

func (d *Decision) chose(cluster string) bool {
	return slices.ContainsFunc(d.Clusters, func(c Choice) bool { return c.Name == cluster })
}

// whole reports whether a decision has everything that the workload has to have.
func (d *Decision) whole() bool {
	return len(d.Clusters) > 0 && len(d.Retained) == 0 && d.Waiting == 0 && d.plan.why == ""
}
