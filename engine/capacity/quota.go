package capacity

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/kcp-placement/placement/internal/int128"
	"github.com/kcp-placement/placement/internal/partition"
)

// Quota bounds the total of a ledger's claims on a set of clusters. A resource that is left out is not bounded.
type Quota struct {
	Set string
	// Clusters of the set. What is promised on a cluster of several sets counts in each of them.
	Clusters []string
	// Whole bounds all clusters of the set together, Each every single one of them.
	Whole, Each map[string]int64
}

// QuotaError is the error of a claim for which a quota leaves too little.
type QuotaError struct {
	Set string
	// Cluster is empty for the quota of a whole set. Field is the API field of that quota; empty stands for quota.
	Cluster, Field, Resource string
	// Left is negative if more is promised than the quota allows. Asked is what the claim asks for beyond what it had.
	Asked, Left int64
}

// Error implements error.
func (e *QuotaError) Error() string {
	what := cmp.Or(e.Field, "quota") + " of ClusterSet " + e.Set
	if e.Cluster != "" {
		what = "clusterQuota of ClusterSet " + e.Set + " on " + e.Cluster
	}
	return what + ": " + e.Shortage()
}

// Shortage returns, for example, "2 cpu left, 4 asked for".
func (e *QuotaError) Shortage() string {
	return fmt.Sprintf("%s %s left, %s asked for", Format(e.Resource, e.Left, false), e.Resource, Format(e.Resource, e.Asked, true))
}

// NotGrantedError is the error of a claim on a cluster that is in no set.
type NotGrantedError struct{ Cluster string }

// Error implements error.
func (e *NotGrantedError) Error() string {
	return fmt.Sprintf("cluster %s is not granted to the workspace", e.Cluster)
}

// quotas are the quotas of a ledger, with the totals of its claims. A ledger without quotas is bounded only by what the clusters have.
type quotas struct {
	sets []*quotaSet
	// of holds the sets of each cluster that is in any.
	of map[string]*membership
	// whole is set if the quota of any set bounds all of its clusters together.
	whole bool
	// moved is set once claims on clusters in no set have changed; changed holds the clusters on which a per-cluster quota leaves more or
	// less.
	moved   bool
	changed map[string]bool
}

type quotaSet struct {
	Quota
	promise
	// whole and each are the limits of Whole and Each, ordered by resource.
	whole, each []limit
}

// membership is the list of sets that a cluster is in, in the order of the quotas; nil is an empty list. Clusters of the same sets share
// one.
type membership struct{ sets []*quotaSet }

func (m *membership) has(set *quotaSet) bool { return slices.Contains(m.each(), set) }

func (m *membership) each() []*quotaSet {
	if m == nil {
		return nil
	}
	return m.sets
}

type limit struct {
	resource string
	amount   int128.Int
}

func limitsOf(amounts map[string]int64) (all []limit) {
	for _, name := range slices.Sorted(maps.Keys(amounts)) {
		all = append(all, limit{name, int128.Of(amounts[name])})
	}
	return all
}

// promise is the total of a number of claims, whether or not reports count them.
//
// Invariant: amount is the exact sum of what the claims ask for.
type promise struct {
	amount sum
	claims int
}

func (p *promise) count(amount Resources, by int) {
	if p.claims += by; by > 0 {
		p.amount.add(amount)
	} else {
		p.amount.sub(amount)
	}
}

// SetQuotas bounds the claims of the ledger from now on; existing promises stay. Nothing new can be claimed on a cluster that no
// quota covers.
func (l *Ledger) SetQuotas(all []Quota) {
	l.own.Lock()
	defer l.own.Unlock()
	q := &quotas{sets: make([]*quotaSet, len(all)), of: map[string]*membership{}, changed: map[string]bool{}}
	clusters := make([][]string, len(all))
	for i, one := range all {
		q.sets[i], clusters[i] = &quotaSet{Quota: one, whole: limitsOf(one.Whole), each: limitsOf(one.Each)}, one.Clusters
		q.whole = q.whole || len(one.Whole) > 0
	}
	groups, of := partition.Of(clusters)
	memberships := make([]membership, len(groups))
	for g, sets := range groups {
		for _, set := range sets {
			memberships[g].sets = append(memberships[g].sets, q.sets[set])
		}
	}
	for cluster, g := range of {
		q.of[cluster] = &memberships[g]
	}
	for cluster, p := range l.places {
		p.in = q.of[cluster]
	}
	for _, claim := range l.claims {
		for i := range claim.stakes {
			q.count(claim.stakes[i].Share, claim.stakes[i].place, 1)
		}
	}
	l.quotas = q
	l.version++
}

// membershipOf returns the membership of a cluster.
func (q *quotas) membershipOf(cluster string) *membership {
	if q == nil {
		return nil
	}
	return q.of[cluster]
}

// count counts a share, or subtracts it if by is -1.
func (q *quotas) count(s *Share, at *place, by int) {
	switch {
	case q == nil:
	case at.in == nil:
		q.moved = true
	default:
		for _, set := range at.in.sets {
			if len(set.Each) > 0 {
				q.changed[s.Cluster] = true
			}
			set.count(s.Amount, by)
		}
	}
}

// Moved returns what has changed since the last call: whether claims have changed on clusters that no quota covers, and the clusters on
// which a quota leaves more or less.
func (l *Ledger) Moved() (outside bool, changed []string) {
	l.own.Lock()
	defer l.own.Unlock()
	q := l.quotas
	if q == nil || !q.moved && len(q.changed) == 0 {
		return false, nil
	}
	outside, changed = q.moved, slices.Collect(maps.Keys(q.changed))
	q.moved = false
	clear(q.changed)
	return outside, changed
}

// LeftOn returns what the quotas on a cluster leave of each resource, negative where more is promised; nil if there are none.
func (l *Ledger) LeftOn(cluster string) (left map[string]int64) {
	l.own.Lock()
	defer l.own.Unlock()
	on := l.placeOf(cluster)
	for _, set := range on.in.each() {
		for _, limit := range set.each {
			if left == nil {
				left = map[string]int64{}
			}
			amount := limit.amount.Sub(on.amount.of(limit.resource)).Int64()
			if least, bounded := left[limit.resource]; !bounded || amount < least {
				left[limit.resource] = amount
			}
		}
	}
	return left
}

// Left is what the quota of a whole set leaves of a resource; it is negative if more is promised.
type Left struct {
	Resource string
	Amount   int128.Int
}

// Left returns what is left of the quota of each set, in the order of the quotas, ordered by resource; nil if no quota bounds a whole set.
func (l *Ledger) Left() (of [][]Left) {
	l.own.Lock()
	defer l.own.Unlock()
	if l.quotas == nil || !l.quotas.whole {
		return nil
	}
	of = make([][]Left, len(l.quotas.sets))
	for i, set := range l.quotas.sets {
		of[i] = make([]Left, len(set.whole))
		for k, l := range set.whole {
			of[i][k] = Left{l.resource, l.amount.Sub(set.amount.of(l.resource))}
		}
	}
	return of
}

// Suffices reports whether the quotas of all whole sets leave room for an amount that many times.
func (l *Ledger) Suffices(amount Resources, times int64) bool {
	l.own.Lock()
	defer l.own.Unlock()
	if l.quotas == nil || !l.quotas.whole {
		return true
	}
	for _, set := range l.quotas.sets {
		for _, l := range set.whole {
			if asked := amount.Get(l.resource); asked > 0 && l.amount.Sub(set.amount.of(l.resource)).Less(int128.Mul(asked, times)) {
				return false
			}
		}
	}
	return true
}

// Has reports whether the ledger has quotas, and any claim on the cluster.
func (l *Ledger) Has(cluster string) bool {
	l.own.Lock()
	defer l.own.Unlock()
	return l.quotas != nil && l.places[cluster] != nil
}

// short returns why a claim cannot be granted at these places in place of the owner's previous one, nil if it can. What is already
// promised to the same workload does not have to be left.
func (q *quotas) short(at []*place, previous, claim *Claim, promised []*Claim) error {
	if q == nil {
		return nil
	}
	for i := range claim.Shares {
		s := &claim.Shares[i]
		if at[i].in == nil && !s.Amount.IsZero() && !slices.ContainsFunc(promised, func(p *Claim) bool {
			had := p.ShareOn(s.Cluster)
			return p.UID == claim.UID && had != nil && s.Amount.MoreThan(had.Amount).IsZero()
		}) {
			return &NotGrantedError{s.Cluster}
		}
		for _, set := range at[i].in.each() {
			if len(set.each) > 0 {
				asked := func(name string) int128.Int { return int128.Of(s.Amount.Get(name)) }
				here := func(cluster string) bool { return cluster == s.Cluster }
				if e := shortOf(set.each, &at[i].amount, asked, here, previous, claim.UID, promised); e != nil {
					e.Set, e.Cluster = set.Set, s.Cluster
					return e
				}
			}
			if len(set.whole) == 0 || slices.ContainsFunc(at[:i], func(o *place) bool { return o.in.has(set) }) {
				continue // it has been checked
			}
			if e := q.shortIn(set, at, previous, claim, promised); e != nil {
				return e
			}
		}
	}
	return nil
}

// shortIn returns why the quota of a whole set leaves too little for a claim; nil if it leaves enough.
func (q *quotas) shortIn(set *quotaSet, at []*place, previous, claim *Claim, promised []*Claim) error {
	asked := func(name string) (all int128.Int) {
		for k := range claim.Shares {
			if at[k].in.has(set) {
				all = all.Add(int128.Of(claim.Shares[k].Amount.Get(name)))
			}
		}
		return all
	}
	inSet := func(cluster string) bool { return q.of[cluster].has(set) }
	if e := shortOf(set.whole, &set.amount, asked, inSet, previous, claim.UID, promised); e != nil {
		e.Set = set.Set
		return e
	}
	return nil
}

// shortOf returns the first resource of which a claim asks for more than limits leave on some clusters, given what is promised there; nil
// if there is none, or if a claim that is promised to the same workload has as much.
func shortOf(limits []limit, there *sum, asks func(name string) int128.Int, some func(cluster string) bool, previous *Claim, uid string, promised []*Claim) *QuotaError {
	for _, l := range limits {
		name := l.resource
		asked, before := asks(name), previous.of(name, some)
		if asked == (int128.Int{}) {
			continue
		}
		allowed := l.amount.Sub(there.of(name)).Add(before)
		if !allowed.Less(asked) || slices.ContainsFunc(promised, func(p *Claim) bool { return p.UID == uid && !p.of(name, some).Less(asked) }) {
			continue
		}
		var had int128.Int
		for _, p := range promised {
			if of := p.of(name, some); p.UID == uid && had.Less(of) {
				had = of
			}
		}
		return &QuotaError{Resource: name, Asked: asked.Sub(had).Int64(), Left: allowed.Sub(had).Int64()}
	}
	return nil
}

// of returns what a claim, which may be nil, asks for of a resource on some clusters.
func (c *Claim) of(name string, some func(cluster string) bool) (all int128.Int) {
	if c == nil {
		return all
	}
	for i := range c.Shares {
		if some(c.Shares[i].Cluster) {
			all = all.Add(int128.Of(c.Shares[i].Amount.Get(name)))
		}
	}
	return all
}

// Promised returns the total of the claims on the clusters of a set, each amount clamped to int64.
func (l *Ledger) Promised(set string) Resources {
	l.own.Lock()
	defer l.own.Unlock()
	if l.quotas != nil {
		for _, one := range l.quotas.sets {
			if one.Set == set {
				return one.amount.resources()
			}
		}
	}
	return Resources{}
}

// Allows reports whether the quotas leave room for an amount on a cluster.
func (l *Ledger) Allows(cluster string, more Resources) bool {
	l.own.Lock()
	defer l.own.Unlock()
	return l.quotas.short([]*place{l.placeOf(cluster)}, nil, &Claim{Shares: []Share{{Cluster: cluster, Amount: more}}}, nil) == nil
}

// Account is the total of a ledger's claims on a set of clusters. A claim on a cluster of several sets is in the account of each.
type Account struct {
	// Set is empty for the clusters that are in no set.
	Set string
	// Promised is what claims ask for, Reserved the part of it that reports do not count. Amounts are clamped to int64.
	Promised, Reserved Resources
	// Quota is the quota of the whole set, and Left what it leaves.
	Quota, Left map[string]int64
}

// Accounts returns one account for each quota, in their order, and one for clusters without a quota if there are claims on any of these.
func (l *Ledger) Accounts() []Account {
	l.own.Lock()
	defer l.own.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	type both struct{ promised, reserved sum }
	none := new(quotaSet)
	outside := []*quotaSet{none}
	of := map[*quotaSet]*both{}
	for _, claim := range l.claims {
		for i := range claim.stakes {
			s := &claim.stakes[i]
			sets := s.place.in.each()
			if len(sets) == 0 {
				sets = outside
			}
			for _, set := range sets {
				to := of[set]
				if to == nil {
					to = new(both)
					of[set] = to
				}
				to.promised.add(s.Amount)
				to.reserved.add(s.reserved())
			}
		}
	}
	var all []Account
	if l.quotas != nil {
		for _, set := range l.quotas.sets {
			a := Account{Set: set.Set, Quota: set.Whole, Left: make(map[string]int64, len(set.Whole))}
			for name, amount := range set.Whole {
				a.Left[name] = int128.Of(amount).Sub(set.amount.of(name)).Int64()
			}
			if to := of[set]; to != nil {
				a.Promised, a.Reserved = to.promised.resources(), to.reserved.resources()
			}
			all = append(all, a)
		}
	}
	if rest := of[none]; rest != nil {
		all = append(all, Account{Promised: rest.promised.resources(), Reserved: rest.reserved.resources()})
	}
	return all
}
