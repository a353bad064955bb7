package capacity

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// stake is a granted share. The stakes of a place form a linked list, so that a report of the cluster visits no other claims.
type stake struct {
	*Share
	uid        string
	place      *place
	prev, next *stake
}

// counted returns what the cluster counts for the owner.
func (s *stake) counted() Resources { return countedFor(s.place.account.counted, s.uid) }

// reserved returns what the stake reserves.
func (s *stake) reserved() Resources { return s.Reserved(s.counted()) }

// place is a cluster on which a ledger has claims. It exists while there are any. The places on a cluster form a linked list, one place
// per ledger, so the account is all that a claim changes and other ledgers read.
type place struct {
	cluster string
	account *account
	// in holds the sets that the cluster is in.
	in *membership
	promise
	first      *stake
	prev, next *place
}

// Ledger holds the claims of one workspace on the clusters of a fleet. Other workspaces may have claims on the same clusters: see
// Beside. It is safe for concurrent use.
//
// A promise has three states. Reserve sets it aside if it fits; a decision made on a stale snapshot fails here and is
// retried. SetCluster turns it into use: as far as a cluster's report counts the owner's pods, by UID, the amount is part of
// the report and not reserved a second time; if the pods vanish it is reserved again. Release frees it.
//
// Invariant: for every cluster and resource, in use + reserved <= allocatable, unless the cluster shrinks or others fill it.
type Ledger struct {
	*clusters
	// own guards all fields below. Lock order: own, then the mu of clusters. Methods that need only own do not wait for other ledgers.
	own    sync.Mutex
	claims map[Owner]*Claim
	places map[string]*place
	// groups count the claims of each group by place.
	groups map[types.NamespacedName]map[*place]int
	// held are the claims on what their owners have given up.
	held map[Owner]*Claim
	// spare is the map of a removed group, reused for the next one; found is scratch space of reserve.
	spare map[*place]int
	found []*place
	// shapes counts what the claims ask for; nil until Usual is called.
	shapes *shapes
	// quotas bound the claims; nil if only the capacity of the clusters does.
	quotas  *quotas
	version int64
	// asked is the last result of Claim: a caller usually reserves next.
	asked askedClaim
}

// askedClaim is valid for one version of a ledger.
type askedClaim struct {
	version int64
	owner   Owner
	claim   *Claim
}

// Version changes whenever a claim or a quota does.
func (l *Ledger) Version() int64 {
	l.own.Lock()
	defer l.own.Unlock()
	return l.version
}

// clusters are the accounts of a fleet, shared by the ledgers of all its workspaces.
type clusters struct {
	// mu guards the accounts, and makes them change together with claims.
	mu       sync.Mutex
	accounts map[string]*account
}

// account is one cluster as all ledgers see it. It exists while the cluster is registered or any ledger has a place there. It fits into
// two cache lines, since reservations on several processors write to it at the same time.
type account struct {
	// Invariant: reserved is the exact sum of what the stakes reserve.
	reserved  sum
	available Resources
	// counted is what the cluster's report counts for each owner, by UID.
	counted map[string]Resources
	// extended holds the reserved amounts of the extended resources, for readers.
	extended map[string]int64
	first    *place
	// open is set while the cluster is registered.
	open bool
}

// shown returns what is reserved, for readers, each amount clamped to int64. That is eight times MaxAmount, so a clamped amount never
// makes a cluster look as if it had room.
func (a *account) shown() Resources {
	return Resources{CPU: a.reserved.cpu.Int64(), Memory: a.reserved.memory.Int64(), Storage: a.reserved.storage.Int64(), Extended: a.extended}
}

// NewLedger returns an empty ledger of a new fleet.
func NewLedger() *Ledger {
	return (&Ledger{clusters: &clusters{accounts: map[string]*account{}}}).Beside()
}

// Beside returns an empty ledger of another workspace on the same clusters. Each ledger sees only its own claims, and together
// they never promise more than the clusters have.
func (l *Ledger) Beside() *Ledger {
	return &Ledger{
		clusters: l.clusters, claims: map[Owner]*Claim{}, places: map[string]*place{}, groups: map[types.NamespacedName]map[*place]int{},
	}
}

// ShortageError is the error of a claim that does not fit.
type ShortageError struct {
	Cluster, Resource string
	// Asked and Free are in millicores for cpu, otherwise in bytes or whole units.
	Asked, Free int64
}

// Error implements error.
func (e *ShortageError) Error() string {
	return fmt.Sprintf("cluster %s: asks for %s %s, %s free", e.Cluster, Format(e.Resource, e.Asked, true), e.Resource, Format(e.Resource, e.Free, false))
}

// SetCluster applies a cluster's report: available is what is allocatable and not in use, counted is how much of what is in
// use belongs to which owner, by UID. It returns what is reserved there now. Claims that no longer fit stay granted. Reports
// are absolute, so a repeated or late one does no harm beyond its age.
func (l *Ledger) SetCluster(cluster string, available Resources, counted map[string]Resources) (reserved Resources) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(cluster)
	a.open, a.available = true, available
	a.count(counted)
	return a.shown()
}

// RemoveCluster removes a cluster: nothing can be reserved there any more. Claims on it stay granted, since it may return.
func (l *Ledger) RemoveCluster(cluster string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[cluster]; a != nil {
		a.open, a.available = false, Resources{}
		a.count(nil)
		l.closeAccount(cluster, a)
	}
}

func (l *Ledger) account(cluster string) *account {
	a := l.accounts[cluster]
	if a == nil {
		a = &account{}
		l.accounts[cluster] = a
	}
	return a
}

func (l *Ledger) closeAccount(cluster string, a *account) {
	if !a.open && a.first == nil {
		delete(l.accounts, cluster)
	}
}

// count applies what a report counts for each owner.
func (a *account) count(counted map[string]Resources) {
	if len(a.counted)+len(counted) == 0 {
		return
	}
	for p := a.first; p != nil; p = p.next {
		for s := p.first; s != nil; s = s.next {
			if before, after := s.reserved(), s.Reserved(countedFor(counted, s.uid)); !before.Same(after) {
				a.unreserve(before)
				a.reserve(after)
			}
		}
	}
	a.counted = counted
}

func (a *account) reserve(r Resources) {
	if a.reserved.add(r); len(r.Extended) > 0 {
		a.extended = a.reserved.extendedAmounts()
	}
}

func (a *account) unreserve(r Resources) {
	if a.reserved.sub(r); len(r.Extended) > 0 {
		a.extended = a.reserved.extendedAmounts()
	}
}

// countedFor returns what a report with these counts counts for an owner.
func countedFor(counted map[string]Resources, uid string) Resources {
	if uid == "" || len(counted) == 0 {
		return Resources{}
	}
	return counted[uid]
}

// Reserve grants the claim in place of the owner's previous one. If it does not fit, Reserve changes nothing and returns a *ShortageError, a
// *QuotaError where quotas leave too little, or a *NotGrantedError for a cluster that no quota covers. A resource on a cluster is checked
// only if the claim has more of it there than every claim that is already promised to the same workload.
func (l *Ledger) Reserve(owner Owner, claim *Claim, promised ...*Claim) error {
	l.own.Lock()
	defer l.own.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reserve(owner, claim, promised...)
}

// Update is Reserve for an owner whose previous claim is promised to it. So a claim that does not grow is granted even on a
// cluster that has shrunk since.
func (l *Ledger) Update(owner Owner, claim *Claim) error {
	l.own.Lock()
	defer l.own.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if previous := l.claimOf(owner); previous != nil {
		return l.reserve(owner, claim, previous)
	}
	return l.reserve(owner, claim)
}

func (l *Ledger) reserve(owner Owner, claim *Claim, promised ...*Claim) error {
	previous := l.claimOf(owner)
	l.found = l.found[:0]
	for i := range claim.Shares {
		share := &claim.Shares[i]
		at := l.placeOf(share.Cluster)
		l.found = append(l.found, at)
		var had *Share
		if previous != nil {
			had = previous.ShareOn(share.Cluster)
		}
		if share.Expired {
			continue
		}
		asked := share.Amount
		for _, p := range promised {
			if there := p.ShareOn(share.Cluster); there != nil && !there.Expired && p.UID == claim.UID {
				asked = asked.MoreThan(there.Amount)
			}
		}
		var free sum
		a := at.account
		if a == nil {
			a = l.accounts[share.Cluster]
		}
		if a != nil {
			// What the owner has there is free for itself, reserved or in use.
			free.add(a.available)
			free.subSum(&a.reserved)
			free.add(countedFor(a.counted, claim.UID))
			if had != nil {
				free.add(had.Reserved(countedFor(a.counted, previous.UID)))
			}
		}
		if name, short := free.lacking(asked); short {
			return &ShortageError{Cluster: share.Cluster, Resource: name, Asked: asked.Get(name), Free: free.get(name)}
		}
	}
	if err := l.quotas.short(l.found, previous, claim, promised); err != nil {
		return err
	}
	l.grant(owner, previous, claim, l.found)
	return nil
}

// placeOf returns the place on a cluster. A place without claims is not kept and has no account yet.
func (l *Ledger) placeOf(cluster string) *place {
	if at := l.places[cluster]; at != nil {
		return at
	}
	return &place{cluster: cluster, in: l.quotas.membershipOf(cluster)}
}

// Grant is a claim with its owner.
type Grant struct {
	Owner Owner
	Claim *Claim
}

// Replace replaces all claims: restored claims are granted without checking that they fit, then foreign claims are reserved in
// their order. It returns an error for each foreign claim, nil if it fits, and the clusters of all claims before and after.
func (l *Ledger) Replace(restored, foreign []Grant) (refused []error, clusters []string) {
	l.own.Lock()
	defer l.own.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	touched := map[string]bool{}
	for owner, claim := range l.claims {
		for i := range claim.Shares {
			touched[claim.Shares[i].Cluster] = true
		}
		l.forget(owner)
		l.countShapes(owner, claim, -1)
		l.remove(claim)
		l.close(claim)
	}
	for _, g := range restored {
		l.grant(g.Owner, nil, g.Claim, nil)
	}
	refused = make([]error, len(foreign))
	for i, g := range foreign {
		refused[i] = l.reserve(g.Owner, g.Claim)
	}
	for _, claim := range l.claims {
		for i := range claim.Shares {
			touched[claim.Shares[i].Cluster] = true
		}
	}
	return refused, slices.Sorted(maps.Keys(touched))
}

// Restore grants a claim without checking that it fits: it was granted before.
func (l *Ledger) Restore(owner Owner, claim *Claim) {
	l.own.Lock()
	defer l.own.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grant(owner, l.claims[owner], claim, nil)
}

// grant records a claim in place of the owner's previous one; at are its places, nil if they are not known.
func (l *Ledger) grant(owner Owner, previous, claim *Claim, at []*place) {
	l.version++
	if previous != nil {
		l.countShapes(owner, previous, -1)
		l.remove(previous)
	}
	l.claims[owner] = claim
	if owner.Held != 0 {
		if l.held == nil {
			l.held = map[Owner]*Claim{}
		}
		l.held[owner] = claim
	}
	l.countShapes(owner, claim, 1)
	group := l.groups[claim.Group]
	if group == nil {
		if group = l.spare; group == nil {
			group = map[*place]int{}
		}
		l.groups[claim.Group], l.spare = group, nil
	}
	claim.stakes = slices.Grow(claim.stakes[:0], len(claim.Shares))[:len(claim.Shares)]
	for i := range claim.Shares {
		share, s := &claim.Shares[i], &claim.stakes[i]
		var p *place
		if at != nil {
			p = at[i]
		}
		if p == nil || p.claims == 0 {
			p = l.keep(share.Cluster, p)
		}
		*s = stake{Share: share, uid: claim.UID, place: p, next: p.first}
		if p.first != nil {
			p.first.prev = s
		}
		p.first = s
		p.account.reserve(s.reserved())
		p.count(share.Amount, 1)
		l.quotas.count(share, p, 1)
		group[p]++
	}
	if previous != nil {
		l.close(previous)
	}
}

// keep returns the kept place on a cluster. If there is none it keeps p, or a new place if p is nil.
func (l *Ledger) keep(cluster string, p *place) *place {
	if kept := l.places[cluster]; kept != nil {
		return kept
	}
	if p == nil {
		p = l.placeOf(cluster)
	}
	a := l.account(cluster)
	if p.account, p.next = a, a.first; a.first != nil {
		a.first.prev = p
	}
	a.first, l.places[cluster] = p, p
	return p
}

func (l *Ledger) forget(owner Owner) {
	delete(l.claims, owner)
	if owner.Held != 0 {
		delete(l.held, owner)
	}
}

// Release removes the owner's claim and returns it, nil if it has none.
func (l *Ledger) Release(owner Owner) *Claim {
	l.own.Lock()
	defer l.own.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	claim := l.claims[owner]
	if claim != nil {
		l.forget(owner)
		l.countShapes(owner, claim, -1)
		l.remove(claim)
		l.close(claim)
	}
	return claim
}

// countShapes counts what a claim asks for, or subtracts it if by is -1.
func (l *Ledger) countShapes(owner Owner, claim *Claim, by int64) {
	if l.shapes != nil && owner.Held == 0 {
		l.shapes.count(claim, by)
	}
}

// remove removes a claim from its places, which stay until close.
func (l *Ledger) remove(claim *Claim) {
	l.version++
	group := l.groups[claim.Group]
	for i := range claim.stakes {
		s := &claim.stakes[i]
		p := s.place
		p.account.unreserve(s.reserved())
		if s.next != nil {
			s.next.prev = s.prev
		}
		if s.prev != nil {
			s.prev.next = s.next
		} else {
			p.first = s.next
		}
		p.count(s.Amount, -1)
		l.quotas.count(s.Share, p, -1)
		if group[p]--; group[p] == 0 {
			delete(group, p)
		}
	}
	if len(group) == 0 {
		delete(l.groups, claim.Group)
		l.spare = group
	}
}

// close forgets the places of a removed claim on which there are no other claims.
func (l *Ledger) close(claim *Claim) {
	for i := range claim.stakes {
		if p := claim.stakes[i].place; p.claims == 0 {
			l.leave(p)
		}
	}
}

// leave forgets a place.
func (l *Ledger) leave(p *place) {
	if p.next != nil {
		p.next.prev = p.prev
	}
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		p.account.first = p.next
	}
	delete(l.places, p.cluster)
	l.closeAccount(p.cluster, p.account)
}

// ReleaseAll removes all claims of the ledger and returns the clusters that they were on.
func (l *Ledger) ReleaseAll() (clusters []string) {
	_, clusters = l.Replace(nil, nil)
	return clusters
}

// Claim returns the owner's claim, nil if it has none.
func (l *Ledger) Claim(owner Owner) *Claim {
	l.own.Lock()
	defer l.own.Unlock()
	claim := l.claimOf(owner)
	l.asked = askedClaim{l.version, owner, claim}
	return claim
}

func (l *Ledger) claimOf(owner Owner) *Claim {
	if l.asked.version == l.version && l.asked.owner == owner {
		return l.asked.claim
	}
	return l.claims[owner]
}

// EachClaim yields all claims, in no particular order. The ledger must not be called meanwhile.
func (l *Ledger) EachClaim(yield func(Owner, *Claim) bool) {
	l.own.Lock()
	defer l.own.Unlock()
	for owner, claim := range l.claims {
		if !yield(owner, claim) {
			return
		}
	}
}

// EachHeld yields the claims on what their owners have given up, under the same rules as EachClaim.
func (l *Ledger) EachHeld(yield func(Owner, *Claim) bool) {
	l.own.Lock()
	defer l.own.Unlock()
	for owner, claim := range l.held {
		if !yield(owner, claim) {
			return
		}
	}
}

// Uncounted returns the clusters whose reports do not count the whole amount of the owner's claim. Storage does not matter: a
// report counts pods, and volumes do not belong to a pod, so storage always stays reserved.
func (l *Ledger) Uncounted(owner Owner) (clusters []string) {
	l.own.Lock()
	defer l.own.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	claim := l.claims[owner]
	if claim == nil {
		return nil
	}
	for i := range claim.stakes {
		s := &claim.stakes[i]
		ofPods := s.Amount
		ofPods.Storage = 0
		if _, short := s.counted().Lacking(ofPods); short {
			clusters = append(clusters, s.Cluster)
		}
	}
	return clusters
}

// Reserved returns what is reserved on a cluster, each amount clamped to int64.
func (l *Ledger) Reserved(cluster string) Resources {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[cluster]; a != nil {
		return a.shown()
	}
	return Resources{}
}

// EachReserved yields the total that is reserved on each cluster of a claim, in the order of its shares. The claim is granted, or was until
// now.
func (l *Ledger) EachReserved(claim *Claim, yield func(i int, reserved Resources)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range claim.stakes {
		yield(i, claim.stakes[i].place.account.shown())
	}
}

// Counted returns what each cluster of a granted claim counts for its owner, in the order of its shares; nil if none counts anything.
func (l *Ledger) Counted(claim *Claim) (counted []Resources) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range claim.stakes {
		if amount := claim.stakes[i].counted(); !amount.IsZero() {
			if counted == nil {
				counted = make([]Resources, len(claim.stakes))
			}
			counted[i] = amount
		}
	}
	return counted
}

// InGroup returns how many claims of a group there are on a cluster.
func (l *Ledger) InGroup(group types.NamespacedName, cluster string) int {
	l.own.Lock()
	defer l.own.Unlock()
	return l.groups[group][l.places[cluster]]
}

// EachInGroup calls do for each cluster with claims of a group, with their number, in no particular order. The ledger must not be called
// meanwhile.
func (l *Ledger) EachInGroup(group types.NamespacedName, do func(cluster string, claims int)) {
	l.own.Lock()
	defer l.own.Unlock()
	for p, n := range l.groups[group] {
		do(p.cluster, n)
	}
}
