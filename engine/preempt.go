package engine

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
)

// Candidate is a placed workload that may lose clusters to one of higher priority.
type Candidate struct {
	Workload workload.Reference
	Priority int32
	// Since is when it was placed.
	Since time.Time
}

// Victim is a candidate with the clusters that it loses, by name.
type Victim struct {
	Candidate
	Clusters []string
	// Frees is what becomes free on each of these clusters once it is gone: what is reserved for it, and what the cluster counts. Preempt sets
	// it.
	Frees []capacity.Share
}

// Preemption is the victims that have to go for a workload to be placed.
type Preemption struct {
	// Victims, the most important first.
	Victims []Victim
	// Decision is what the workload gets once they are gone.
	Decision *Decision
	// Rest is what it needs beyond what they free. It is free now.
	//
	// Invariant: the workload gets both, whatever others request meanwhile, as long as what the victims free stays reserved for them, and
	// Rest for an owner that no cluster counts.
	Rest []capacity.Share
	// Bounded is set if the search was cut short: there may be a better set of victims.
	Bounded bool
}

// maxPreemptionWork is how many sets of victims are tried at most: some tens of milliseconds for a workload of one cluster.
const maxPreemptionWork = 2048

// maxTogetherVictims is how many shares are considered if clusters are chosen together. Beyond it, shares are left out that are not
// on the clusters that would be chosen if all went.
const maxTogetherVictims = 64

// Preempt finds which of the candidates have to go for a workload without clusters to be placed: on at least one cluster; if its
// clusters are chosen together, on as many as it has to have; if its replicas are divided, with all of them or, if the placement is
// partial, with as many as there is room for. It returns nil if the workload can be placed without, or if no victims help, and changes
// nothing. At most most candidates become victims.
//
// Of all sets of victims it finds the first in the order of kube-scheduler's pickOneNodeForPreemption: the lowest priority of the most
// important victim, the lowest sum of priorities (each as a distance from the minimum, so that fewer victims come first), the fewest
// victims, the latest start of the longest running of the most important victims, then by name. Victims lose only the clusters that
// they have to lose.
//
// Invariant: no victim has a priority as high as the workload's, provided that the caller passes no such candidate; no victim is
// one that the workload is required to be near; and a workload that others are required to be near is a victim only together with
// them.
func (e *Engine) Preempt(ctx context.Context, request Request, candidates []Candidate, most int) (*Preemption, error) {
	if err := request.validate(ctx); err != nil {
		return nil, err
	}
	w := e.lookUp(request.Workspace)
	request.Current = nil
	in, _, err := w.scheduled(ctx, &request)
	if err != nil {
		return nil, err
	}
	s := &victimSearch{workspace: w, ctx: ctx, request: in, candidates: candidates, most: most}
	if fits := s.fits(nil); fits || s.err != nil {
		return nil, s.err
	}
	s.findStakes()
	s.findSupport()
	for _, level := range s.levels() {
		all := make([]int, 0, len(s.stakes))
		for i := range s.stakes {
			if s.priority(i) <= level {
				all = append(all, i)
			}
		}
		if !s.fits(all) {
			continue
		}
		for _, universe := range s.universes(all) {
			s.search(all, universe)
		}
		if s.best == nil && s.ledger.Left() != nil { // what others have on other clusters of a set counts, too
			s.search(all, all)
		}
		if s.best != nil {
			break
		}
	}
	if s.best == nil || s.err != nil {
		return nil, s.err
	}
	d, err := s.decide(s.best.stakes)
	if err != nil {
		return nil, err
	}
	if in != &request {
		d.InputsDigest = w.inputsDigest(&request)
	}
	return &Preemption{Victims: s.best.victims, Decision: d, Rest: s.rest(d), Bounded: s.bounded}, nil
}

// rest returns what a decision takes beyond what its victims free. What a cluster counts for the workload itself, whose pods may still run
// there, was not free for the decision.
func (s *victimSearch) rest(d *Decision) (shares []capacity.Share) {
	freed := map[string]capacity.Resources{}
	for _, v := range s.best.victims {
		for _, f := range v.Frees {
			freed[f.Cluster] = freed[f.Cluster].Add(f.Amount)
		}
	}
	for _, c := range d.Clusters {
		if more := c.Reserved.Without(freed[c.Name]); !more.IsZero() {
			shares = append(shares, capacity.Share{Cluster: c.Name, Amount: more})
		}
	}
	return shares
}

// stake is a share of a candidate on a cluster that it can lose.
type stake struct {
	// candidate is its index.
	candidate int
	owner     capacity.Owner
	claim     *capacity.Claim
	cluster   string
	// promised is the whole share; reserved is the part of it that no report counts.
	promised, reserved, counted capacity.Resources
}

// displaced is the shares of others that do not count for a workload.
type displaced struct {
	stakes []stake
	on     map[string]*stake
}

func newDisplaced(stakes []stake) *displaced {
	g := &displaced{stakes: stakes, on: make(map[string]*stake, len(stakes))}
	for i := range stakes {
		s := &stakes[i]
		if sum := g.on[s.cluster]; sum == nil {
			g.on[s.cluster] = &stake{promised: s.promised, reserved: s.reserved, counted: s.counted}
		} else {
			sum.promised, sum.reserved, sum.counted = sum.promised.Add(s.promised), sum.reserved.Add(s.reserved), sum.counted.Add(s.counted)
		}
	}
	return g
}

// clusters yields the clusters from which anything is gone.
func (g *displaced) clusters(yield func(string) bool) {
	if g == nil {
		return
	}
	for cluster := range g.on {
		if !yield(cluster) {
			return
		}
	}
}

// from returns what is gone from a cluster, nil if nothing is.
func (g *displaced) from(cluster string) *stake {
	if g == nil {
		return nil
	}
	return g.on[cluster]
}

// instead returns the part of held reservations that does not count for the workload that takes their place. What clusters count for them
// still counts.
func (w *workspace) instead(holds []Held) *displaced {
	var stakes []stake
	for _, h := range holds {
		claim := w.ledger.Claim(h.owner)
		if claim == nil {
			continue
		}
		counted := w.counted(claim)
		for i := range claim.Shares {
			s := stake{owner: h.owner, claim: claim, cluster: claim.Shares[i].Cluster, promised: claim.Shares[i].Amount}
			if s.reserved = claim.Shares[i].Amount; counted != nil {
				s.reserved = claim.Shares[i].Reserved(counted[i])
			}
			stakes = append(stakes, s)
		}
	}
	return newDisplaced(stakes)
}

// victimSearch is a search for victims.
type victimSearch struct {
	*workspace
	ctx        context.Context
	request    *Request
	candidates []Candidate
	most       int
	// stakes are ordered by their candidates, the most important first; state is the fate of each.
	stakes []stake
	state  []fate
	// support lists what workloads need near them; supports has, for each stake, the entries that it is part of.
	support  []support
	supports [][]int
	// universe is the stakes that the search considers.
	universe []int
	best     *sacrifice
	work     int
	bounded  bool
	err      error
}

type fate uint8

const (
	fateKept fate = iota
	fateOpen
	fateGiven
)

// support is what a workload needs near it: at least one of several stakes.
type support struct {
	// dependent is the stake of the workload there, -1 if it is no candidate, or cannot go.
	dependent int
	by        []int
}

func (s *victimSearch) priority(stake int) int32 {
	return s.candidates[s.stakes[stake].candidate].Priority
}

// levels returns the priorities of the stakes, the lowest first.
func (s *victimSearch) levels() (levels []int32) {
	for i := range s.stakes {
		levels = append(levels, s.priority(i))
	}
	slices.Sort(levels)
	return slices.Compact(levels)
}

// findStakes finds what the candidates hold, and where. A workload that this one has to be near is no candidate.
func (s *victimSearch) findStakes() {
	order := make([]int, len(s.candidates))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &s.candidates[a], &s.candidates[b]
		return cmp.Or(cmp.Compare(y.Priority, x.Priority), x.Since.Compare(y.Since), cmp.Compare(x.Workload.String(), y.Workload.String()), cmp.Compare(a, b))
	})
	s.lock()
	defer s.mu.Unlock()
	relates := len(s.affinity.sets) > 0
	for _, i := range order {
		ref := &s.candidates[i].Workload
		owner := ownerOf(*ref)
		claim := s.ledger.Claim(owner)
		if claim == nil || ref.UID != "" && claim.UID != ref.UID || owner == s.request.owner() || s.needs(owner, claim) {
			continue
		}
		counted := s.counted(claim)
		for j := range claim.Shares {
			at := stake{candidate: i, owner: owner, claim: claim, cluster: claim.Shares[j].Cluster, promised: claim.Shares[j].Amount}
			if counted != nil {
				at.counted = counted[j]
			}
			at.reserved = claim.Shares[j].Reserved(at.counted)
			if relates || !at.reserved.IsZero() || !at.counted.IsZero() {
				s.stakes = append(s.stakes, at)
			}
		}
	}
	s.state, s.supports = make([]fate, len(s.stakes)), make([][]int, len(s.stakes))
}

// needs reports whether the workload has to be near the owner of a claim.
func (s *victimSearch) needs(owner capacity.Owner, claim *capacity.Claim) bool {
	return slices.ContainsFunc(s.request.Placement.Affinity, func(t placement.Affinity) bool {
		return t.Required && !t.Repels && t.Others.Match(owner.Namespace, claim.Labels)
	})
}

// located is a workload on one of its clusters.
type located struct {
	owner   capacity.Owner
	cluster string
}

// findSupport finds which workloads need stakes to be near them.
func (s *victimSearch) findSupport() {
	s.lock()
	defer s.mu.Unlock()
	inventory := s.affinity.inventory
	if inventory == nil || len(s.stakes) == 0 {
		return
	}
	stakeAt := make(map[located]int, len(s.stakes))
	for i := range s.stakes {
		stakeAt[located{s.stakes[i].owner, s.stakes[i].cluster}] = i
	}
	selected := map[string][]located{}
	for o := range inventory.each {
		owner := ownerOf(o.Reference)
		claim := s.ledger.Claim(owner)
		if claim == nil || claim.Idle || o.UID != "" && claim.UID != o.UID {
			continue
		}
		for _, t := range inventory.needs(o) {
			others, found := selected[t.Others.ID()]
			if !found {
				others = s.selectedBy(&t.Others)
				selected[t.Others.ID()] = others
			}
			for j := range claim.Shares {
				s.support = append(s.support, s.supportOf(located{owner, claim.Shares[j].Cluster}, t, others, stakeAt)...)
			}
		}
	}
	for i := range s.support {
		for _, by := range s.support[i].by {
			s.supports[by] = append(s.supports[by], i)
		}
	}
}

// selectedBy returns the placed workloads that a term is about, and where they are.
func (s *victimSearch) selectedBy(others *placement.Others) (at []located) {
	for owner, claim := range s.ledger.EachClaim {
		if owner.Held == 0 && !claim.Idle && others.Match(owner.Namespace, claim.Labels) {
			for i := range claim.Shares {
				at = append(at, located{owner, claim.Shares[i].Cluster})
			}
		}
	}
	return at
}

// supportOf returns what a workload needs near it on one of its clusters by a term; nothing if others that stay are near it.
func (s *victimSearch) supportOf(dependent located, t *placement.Affinity, others []located, stakeAt map[located]int) []support {
	domains := s.topology(t.Key)
	domain := func(cluster string) int32 {
		if position, there := s.seen.Position(cluster); there {
			return domains.of[position]
		}
		return spread.None
	}
	in := domain(dependent.cluster)
	if in == spread.None {
		return nil
	}
	one := support{dependent: -1}
	for _, o := range others {
		if o.owner == dependent.owner || domain(o.cluster) != in {
			continue
		}
		at, goes := stakeAt[o]
		if !goes {
			return nil
		}
		one.by = append(one.by, at)
	}
	if len(one.by) == 0 {
		return nil // it is there without them
	}
	if at, goes := stakeAt[dependent]; goes {
		one.dependent = at
	}
	return []support{one}
}

// needs returns the terms by which a known workload has to be near others.
func (k *inventory) needs(o related) (terms []*placement.Affinity) {
	under := k.placementOf(o)
	if under == nil {
		return nil
	}
	for t := range under.Affinity {
		if term := &under.Affinity[t]; term.Required && !term.Repels {
			terms = append(terms, term)
		}
	}
	return terms
}

// universes returns the sets of stakes to search one after the other: the stakes on each cluster, unless clusters are chosen together.
func (s *victimSearch) universes(all []int) [][]int {
	if s.together() {
		if len(all) <= maxTogetherVictims {
			return [][]int{all}
		}
		d, err := s.decide(all)
		if err != nil {
			s.err = err
			return nil
		}
		there := slices.DeleteFunc(slices.Clone(all), func(i int) bool { return !d.chose(s.stakes[i].cluster) })
		if s.fits(there) {
			s.bounded = true
			return [][]int{there}
		}
		return [][]int{all}
	}
	on := map[string][]int{}
	for _, i := range all {
		on[s.stakes[i].cluster] = append(on[s.stakes[i].cluster], i)
	}
	type bound struct {
		stakes []int
		fewest int
	}
	bounds := make([]bound, 0, len(on))
	for cluster, stakes := range on {
		if fewest := s.fewest(cluster, stakes); fewest <= len(stakes) {
			bounds = append(bounds, bound{stakes, fewest})
		}
	}
	slices.SortFunc(bounds, func(a, b bound) int {
		return cmp.Or(cmp.Compare(a.fewest, b.fewest), cmp.Compare(s.stakes[a.stakes[0]].cluster, s.stakes[b.stakes[0]].cluster))
	})
	universes := make([][]int, len(bounds))
	for i := range bounds {
		universes[i] = bounds[i].stakes
	}
	return universes
}

// together reports whether the clusters of the workload are chosen together, or affinity involves several of them.
func (s *victimSearch) together() bool {
	s.lock()
	defer s.mu.Unlock()
	return s.request.Placement.Plans() || s.keepsOut(s.request)
}

// fewest returns how many of the stakes on a cluster have to go at least to make room; math.MaxInt if all of them are not enough.
func (s *victimSearch) fewest(cluster string, stakes []int) (n int) {
	s.lock()
	defer s.mu.Unlock()
	position, there := s.seen.Position(cluster)
	if !there {
		return math.MaxInt
	}
	row := s.seen.Row(position)
	asks := row.On(s.request.Workload).Requests
	for name, asked := range asks.Each {
		lacking := asked - row.Free.Get(name)
		if asked <= 0 || lacking <= 0 {
			continue
		}
		amounts := make([]int64, len(stakes))
		for k, i := range stakes {
			at := &s.stakes[i]
			amounts[k] = at.reserved.Add(at.counted).Get(name)
		}
		slices.Sort(amounts)
		k := 0
		for _, amount := range slices.Backward(amounts) {
			if lacking <= 0 {
				break
			}
			lacking -= amount
			k++
		}
		if lacking > 0 {
			return math.MaxInt
		}
		n = max(n, k)
	}
	return n
}

// decide decides for the workload as if stakes were gone.
func (s *victimSearch) decide(stakes []int) (*Decision, error) {
	r := *s.request
	if len(stakes) > 0 {
		displaced := make([]stake, len(stakes))
		for k, i := range stakes {
			displaced[k] = s.stakes[i]
		}
		r.displaced = newDisplaced(displaced)
	}
	return s.decideAs(s.ctx, &r, false)
}

// fits reports whether the workload is placed once stakes are gone.
func (s *victimSearch) fits(stakes []int) bool {
	if s.err != nil {
		return false
	}
	s.work++
	d, err := s.decide(stakes)
	s.err = err
	return err == nil && len(d.Clusters) > 0
}

// search looks for the best victims in a universe, all of whose stakes may go.
func (s *victimSearch) search(all, universe []int) {
	if s.err != nil || len(universe) == 0 || !s.fits(universe) {
		return
	}
	clear(s.state)
	for _, i := range all {
		s.state[i] = fateOpen
	}
	s.universe = universe
	s.try(0)
}

// try looks for the best victims among those that are given up and the rest of the universe. It first keeps whom it can, the most
// important first: so it starts with what kube-scheduler's reprieve of victims finds, and the rest is branch and bound.
func (s *victimSearch) try(at int) {
	switch {
	case s.err != nil:
		return
	case s.work >= maxPreemptionWork:
		s.bounded = true
		return
	}
	now := s.sacrificed()
	if len(now.victims) > s.most || s.best != nil && now.exceeds(s.best) {
		return
	}
	if s.fits(now.stakes) {
		if s.best == nil || now.compare(s.best) < 0 {
			s.best = now
		}
		return
	}
	for at < len(s.universe) && s.state[s.universe[at]] != fateOpen {
		at++
	}
	if at == len(s.universe) {
		return
	}
	i := s.universe[at]
	s.state[i] = fateKept
	rest := slices.Clone(now.stakes)
	for _, o := range s.universe[at+1:] {
		if s.state[o] == fateOpen {
			rest = append(rest, o)
		}
	}
	if s.fits(rest) {
		s.try(at + 1)
	}
	s.state[i] = fateOpen
	before := slices.Clone(s.state)
	if s.give(i) {
		s.try(at + 1)
	}
	copy(s.state, before)
}

// give gives up a stake, and those of the workloads that would then lack what they need near them. It returns false if one of these
// cannot go.
func (s *victimSearch) give(i int) bool {
	if s.state[i] == fateGiven {
		return true
	}
	if s.state[i] == fateKept {
		return false
	}
	s.state[i] = fateGiven
	for _, k := range s.supports[i] {
		needs := &s.support[k]
		if slices.ContainsFunc(needs.by, func(o int) bool { return s.state[o] != fateGiven }) {
			continue
		}
		if needs.dependent < 0 || !s.give(needs.dependent) {
			return false
		}
	}
	return true
}

// sacrifice is a set of victims.
type sacrifice struct {
	stakes  []int
	victims []Victim
	// highest is the highest priority; sum is the sum of all priorities, as distances from the lowest possible one.
	highest int32
	sum     int64
	// start is when the longest running of those with the highest priority was placed.
	start time.Time
	// lines are the places in line of the victims' workspaces, if these are other workspaces: their names must not decide between them.
	lines []int64
}

// sacrificed returns what is given up.
func (s *victimSearch) sacrificed() *sacrifice {
	now := &sacrifice{highest: math.MinInt32}
	last := -1
	for i, fate := range s.state {
		if fate != fateGiven {
			continue
		}
		now.stakes = append(now.stakes, i)
		at := &s.stakes[i]
		if at.candidate != last { // the stakes of a candidate follow each other
			last = at.candidate
			c := &s.candidates[last]
			now.victims = append(now.victims, Victim{Candidate: *c})
			now.sum += int64(c.Priority) - math.MinInt32
			if len(now.victims) == 1 {
				now.highest, now.start = c.Priority, c.Since // victims are in this order
			}
		}
		v := &now.victims[len(now.victims)-1]
		v.Clusters = append(v.Clusters, at.cluster)
		v.Frees = append(v.Frees, capacity.Share{Cluster: at.cluster, Amount: at.reserved.Add(at.counted)})
	}
	for i := range now.victims {
		slices.Sort(now.victims[i].Clusters)
	}
	return now
}

// exceeds reports whether a, even with more victims, cannot be better than b.
func (a *sacrifice) exceeds(b *sacrifice) bool {
	return a.sum > b.sum || a.sum == b.sum && len(a.victims) > len(b.victims)
}

// compare orders sets of victims, the least harmful first.
func (a *sacrifice) compare(b *sacrifice) int {
	return cmp.Or(
		cmp.Compare(a.highest, b.highest), cmp.Compare(a.sum, b.sum), cmp.Compare(len(a.victims), len(b.victims)), b.start.Compare(a.start),
		slices.Compare(a.lines, b.lines), slices.Compare(a.names(), b.names()),
		cmp.Compare(len(a.stakes), len(b.stakes)),
		slices.CompareFunc(a.victims, b.victims, func(x, y Victim) int { return slices.Compare(x.Clusters, y.Clusters) }),
	)
}

func (a *sacrifice) names() []string {
	names := make([]string, len(a.victims))
	for i := range a.victims {
		names[i] = a.victims[i].Workload.String()
	}
	slices.Sort(names)
	return names
}
