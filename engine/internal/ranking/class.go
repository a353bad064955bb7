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

// PolicyClass is the set of workloads of a placement that the policies and the facts of clusters cannot tell apart: they
// differ at most in requests, replicas and what only comparisons with capacity read. The policies are evaluated once for
// it.
type PolicyClass struct {
	Placement *placement.Placement
	Policies  *policy.Set
	// Workload has only the fields that policies and facts read. Seen is the workload that facts are evaluated for: its
	// smallest share if the placement divides replicas.
	Workload, Seen *workload.Workload
	Judgement      *policy.Judgement
	// Terms are the terms of the judgement and of taints.
	Terms []scoring.Term

	scores atomic.Pointer[scores]
	facts  filter.Facts
	// Running returns the filter class that decides whether workloads may stay where they run.
	Running func() *filter.Class
	// Scheduled returns the placement as the policies schedule it.
	Scheduled func() *placement.Placement
}

// NewPolicyClass makes the policy class of a workload, which has only the fields that policies and facts read.
func NewPolicyClass(p *placement.Placement, policies *policy.Set, w *workload.Workload, judgement *policy.Judgement) *PolicyClass {
	c := &PolicyClass{Placement: p, Policies: policies, Workload: w, Seen: p.Share(w), Judgement: judgement}
	c.Scheduled = sync.OnceValue(func() *placement.Placement { return p.Under(judgement.Scheduling) })
	c.Running = sync.OnceValue(func() *filter.Class { return filter.NewClass(p, judgement, c.Seen, &c.facts) })
	return c
}

// Class is an equivalence class: workloads that the placement and the policies cannot tell apart, requests included. It
// is immutable.
type Class struct {
	// Class filters clusters: for the smallest share of the workload if the placement divides replicas.
	*filter.Class
	Policy *PolicyClass
	// Whole is the workload with all of its replicas.
	Whole *workload.Workload
	// Digest identifies everything that a decision depends on except the clusters, in this process and others.
	Digest   string
	Strategy Strategy
	// Packs reports whether the packing factor has any weight: then keys also depend on the snapshot's Usual.
	Packs bool

	scorer scoring.Scorer
}

// NewClass plans how clusters are ranked for a workload, which has only the fields that View.Class reads.
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

// Asked returns what clusters are scored for, given the requests of a workload of the class.
func (c *Class) Asked(requests capacity.Resources, usual *capacity.Usual) scoring.Asked {
	if !c.Packs {
		usual = nil
	}
	return scoring.Asked{Requests: requests, Terms: c.Policy.Terms, Usual: usual, Packs: c.Strategy.Packs}
}

// View states what is read of the workloads of a placement under a set of policies.
type View struct {
	Placement *placement.Placement
	Policies  *policy.Set
	// Class is everything that is read of a workload, PolicyClass the part that policies and facts read.
	Class, PolicyClass workload.Reads
	// salt separates the hashes of different placements and policies.
	salt uint64
}

// NewView returns what is read of the workloads of a placement.
func NewView(p *placement.Placement, policies *policy.Set) *View {
	read := p.FactReads.Union(policies.Reads())
	if p.Division != nil && read.Fields&workload.Requests != 0 {
		read.Fields |= workload.Replicas // a share depends on both
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

// InClass reports whether a workload belongs to a class.
func (v *View) InClass(w *workload.Workload, c *Class) bool {
	return v.matches(c.Policy) && v.Class.Same(c.Whole, w)
}

// InPolicyClass reports whether a workload belongs to a policy class.
func (v *View) InPolicyClass(w *workload.Workload, p *PolicyClass) bool {
	return v.matches(p) && v.PolicyClass.Same(p.Workload, w)
}

func (v *View) matches(p *PolicyClass) bool {
	return p.Policies == v.Policies && p.Placement.Digest == v.Placement.Digest
}
