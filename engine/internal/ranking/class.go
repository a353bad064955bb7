// Package ranking orders the feasible clusters for a class of workloads, and keeps the order current as clusters change.
package ranking

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/workload"
)

// seed of all hashes of this process.
var seed = maphash.MakeSeed()

// PolicyClass is the workloads of a placement that the policies and the facts of clusters cannot tell apart: they differ
// at most in requests, replicas and what only comparisons with capacity read. The policies are evaluated once for it.
type PolicyClass struct {
	Placement *placement.Placement
	Policies  *policy.Set
	// Workload has only the fields that policies and facts read. Seen is what facts are about: its least share, where the
	// placement divides replicas.
	Workload, Seen *workload.Workload
	Judgement      *policy.Judgement
	// Terms are those of the judgement and of taints.
	Terms []scoring.Term

	scores atomic.Pointer[scores]
	facts  filter.Facts
	// Running asks the filter whether workloads may stay where they run.
	Running func() *filter.Class
	// Scheduled is the placement under what the policies say of scheduling.
	Scheduled func() *placement.Placement
}

// NewPolicyClass makes the policy class of a workload, of which only the fields that policies and facts read are kept.
func NewPolicyClass(p *placement.Placement, policies *policy.Set, w *workload.Workload, judgement *policy.Judgement) *PolicyClass {
	c := &PolicyClass{Placement: p, Policies: policies, Workload: w, Seen: p.Share(w), Judgement: judgement}
	c.Scheduled = sync.OnceValue(func() *placement.Placement { return p.Under(judgement.Scheduling) })
	c.Running = sync.OnceValue(func() *filter.Class { return filter.NewClass(p, judgement, c.Seen, &c.facts) })
	return c
}

// Class is an equivalence class: workloads that the placement and the policies cannot tell apart, requests included. It
// is immutable.
type Class struct {
	// Class is what clusters are filtered by: for the least share of a workload, where the placement divides replicas.
	*filter.Class
	Policy *PolicyClass
	// Whole is the workload with all of its replicas.
	Whole *workload.Workload
	// Digest identifies all that a decision depends on but the clusters, in this process and others.
	Digest   string
	Strategy Strategy
	// Packs reports whether the factor packing weighs anything: then keys depend on the snapshot's Usual, too.
	Packs bool

	scorer scoring.Scorer
}

// NewClass plans how clusters are ranked for a workload, of which only the fields that View.Class reads are kept.
func NewClass(p *PolicyClass, w *workload.Workload) *Class {
	share := p.Placement.Share(w)
	c := &Class{
		Class:    filter.NewClass(p.Placement, p.Judgement, share, &p.facts),
		Policy:   p,
		Whole:    w,
		Digest:   Digest(p.Placement, p.Policies, w),
		Strategy: StrategyFor(p.Placement.Strategy, p.Placement.NumberOfClusters),
		Packs:    p.Judgement.Weights.Factors[scoring.Packing] > 0,
	}
	c.scorer = scoring.NewScorer(c.Asked(share.Requests, nil), p.Judgement.Weights)
	return c
}

// Asked is what clusters are scored for, of a workload of the class that has these requests.
func (c *Class) Asked(requests capacity.Resources, usual *capacity.Usual) scoring.Asked {
	if !c.Packs {
		usual = nil
	}
	return scoring.Asked{Requests: requests, Terms: c.Policy.Terms, Usual: usual, Packs: c.Strategy.Packs}
}

// View is what of the workloads of a placement is read under some policies.
type View struct {
	Placement *placement.Placement
	Policies  *policy.Set
	// Class is what is read of a workload at all, PolicyClass what policies and facts read.
	Class, PolicyClass workload.Reads
	// salt tells apart the hashes of other placements and policies.
	salt uint64
}

// NewView returns what is read of the workloads of a placement.
func NewView(p *placement.Placement, policies *policy.Set) *View {
	read := p.FactReads.Union(policies.Reads())
	if p.Division != nil && read.Fields&workload.Requests != 0 {
		read.Fields |= workload.Replicas // a share is of both
	}
	read.Fields |= workload.Nodes
	return &View{
		Placement: p, Policies: policies, PolicyClass: read,
		Class: read.Union(p.Reads).Union(workload.Reads{Fields: workload.Requests | workload.Replicas}),
		salt:  maphash.String(seed, p.Digest) ^ maphash.Comparable(seed, policies),
	}
}

// ClassHash is the same for workloads of the same class.
func (v *View) ClassHash(w *workload.Workload) uint64 { return v.salt ^ v.Class.Hash(seed, w) }

// PolicyClassHash is the same for workloads of the same policy class.
func (v *View) PolicyClassHash(w *workload.Workload) uint64 {
	return v.salt ^ v.PolicyClass.Hash(seed, w)
}

// InClass reports whether a workload is of a class.
func (v *View) InClass(w *workload.Workload, c *Class) bool {
	return v.matches(c.Policy) && v.Class.Same(c.Whole, w)
}

// InPolicyClass reports whether a workload is of a policy class.
func (v *View) InPolicyClass(w *workload.Workload, p *PolicyClass) bool {
	return v.matches(p) && v.PolicyClass.Same(p.Workload, w)
}

func (v *View) matches(p *PolicyClass) bool {
	return p.Policies == v.Policies && p.Placement.Digest == v.Placement.Digest
}
