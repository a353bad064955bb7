package capacity

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Owner is who holds a claim.
type Owner struct {
	APIVersion, Kind, Namespace, Name string
	// Held tells apart the claims that are held for an owner beside its own, which is 0.
	Held int64
}

// Claim is what one owner holds: the same amount on each of its clusters. It is not changed once it is granted.
type Claim struct {
	// UID by which the reports of clusters name the owner; none does where it is empty.
	UID string
	// Group counts claims that belong together; strategies rotate over the clusters of a group.
	Group    types.NamespacedName
	Clusters []string
	Amount   Resources
	// Expired are those of Clusters where nothing is reserved any more: what was has been given up.
	Expired []string
	// stakes are those on Clusters while the claim is granted.
	stakes []stake
}

// stake is a claim on one of its clusters. The stakes on a cluster are a list, so that a report goes over no others.
type stake struct {
	claim      *Claim
	account    *account
	prev, next *stake
}

// Ledger keeps what has been promised on the clusters of one workspace. It is safe for concurrent use.
//
// What is promised to an owner goes through three states. Reserve sets it aside, if it is there: whoever decides on what
// was free a moment ago is verified here, and asks again where that is gone. SetCluster commits it: as far as the report of
// a cluster counts the owner's pods, by identity, it stands in the report and is not set aside a second time; and if the
// pods vanish it is set aside again. Release gives it back. So for every cluster and resource, what the report says is in
// use and what is reserved are never more than there is, unless the cluster itself shrinks or fills up by other hands.
type Ledger struct {
	mu       sync.Mutex
	accounts map[string]*account
	claims   map[Owner]*Claim
	groups   map[types.NamespacedName]map[string]int
	// spare is the map of a group that has gone, for the next.
	spare map[string]int
}

// account is one cluster in the ledger. It is there while the cluster is, or anybody has a stake in it.
type account struct {
	cluster string
	// open tells whether the cluster is there.
	open      bool
	available Resources
	// reserved is exactly what the stakes reserve, shown the same for readers, within the bounds of int64.
	reserved sum
	shown    Resources
	// counted is what the cluster's report counts for owners, by their UIDs.
	counted map[string]Resources
	first   *stake
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{
		accounts: map[string]*account{},
		claims:   map[Owner]*Claim{},
		groups:   map[types.NamespacedName]map[string]int{},
	}
}

// ShortageError tells that a claim does not fit.
type ShortageError struct {
	Cluster, Resource string
	// Asked and Free are in millicores for cpu, in bytes or whole units otherwise.
	Asked, Free int64
}

// Error implements error.
func (e *ShortageError) Error() string {
	return fmt.Sprintf("cluster %s: %s asked %d, free %d", e.Cluster, e.Resource, e.Asked, e.Free)
}

// SetCluster takes up a cluster's report: what it has besides what it counts as in use, and how much of what is in use it
// counts for which owner, by UID. It returns what is reserved there now. Claims that are held already stay, even where they
// no longer fit. A report that comes again, or late, changes nothing but what it says: there is no history in it.
func (l *Ledger) SetCluster(cluster string, available Resources, counted map[string]Resources) (reserved Resources) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(cluster)
	a.open, a.available = true, available
	a.count(counted)
	return a.shown
}

// RemoveCluster takes a cluster out: nothing can be reserved there. What is held there stays held, since the cluster
// may return.
func (l *Ledger) RemoveCluster(cluster string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[cluster]; a != nil {
		a.open, a.available = false, Resources{}
		a.count(nil)
		l.close(a)
	}
}

func (l *Ledger) account(cluster string) *account {
	a := l.accounts[cluster]
	if a == nil {
		a = &account{cluster: cluster}
		l.accounts[cluster] = a
	}
	return a
}

func (l *Ledger) close(a *account) {
	if !a.open && a.first == nil {
		delete(l.accounts, a.cluster)
	}
}

// count takes up what a report counts for whom.
func (a *account) count(counted map[string]Resources) {
	if len(a.counted)+len(counted) == 0 {
		return
	}
	for s := a.first; s != nil; s = s.next {
		if before, after := a.reservedFor(s.claim, a.counted), a.reservedFor(s.claim, counted); !before.Same(after) {
			a.unreserve(before)
			a.reserve(after)
		}
	}
	a.counted = counted
}

func (a *account) reserve(r Resources) {
	a.reserved.add(r)
	a.show(r)
}

func (a *account) unreserve(r Resources) {
	a.reserved.sub(r)
	a.show(r)
}

// show brings shown up to date after a change by r.
func (a *account) show(r Resources) {
	extended := a.shown.Extended
	if len(r.Extended) > 0 {
		extended = a.reserved.extendedAmounts()
	}
	a.shown = Resources{
		CPU: a.reserved.cpu.Int64(), Memory: a.reserved.memory.Int64(), Storage: a.reserved.storage.Int64(), Extended: extended,
	}
}

// countedFor is what the report counts for an owner.
func (a *account) countedFor(uid string) Resources {
	if uid == "" {
		return Resources{}
	}
	return a.counted[uid]
}

// reservedFor is what a claim sets aside on a cluster that counts so much for whom.
func (a *account) reservedFor(c *Claim, counted map[string]Resources) Resources {
	if c.UID == "" || len(counted) == 0 {
		return c.Reserved(a.cluster, Resources{})
	}
	return c.Reserved(a.cluster, counted[c.UID])
}

// Reserve grants the claim to owner in place of what owner held before, or returns a *ShortageError and leaves all
// as it was.
func (l *Ledger) Reserve(owner Owner, claim *Claim) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reserve(owner, claim)
}

func (l *Ledger) reserve(owner Owner, claim *Claim) error {
	previous := l.claims[owner]
	for _, cluster := range claim.Clusters {
		var free sum
		if a := l.accounts[cluster]; a != nil {
			// What the owner has there already goes to it again, whether that is reserved or in use.
			free.add(a.available)
			free.subSum(&a.reserved)
			free.add(a.countedFor(claim.UID))
			if previous != nil && slices.Contains(previous.Clusters, cluster) {
				free.add(a.reservedFor(previous, a.counted))
			}
		}
		if name, short := free.lacking(claim.Amount); short {
			return &ShortageError{Cluster: cluster, Resource: name, Asked: claim.Amount.Get(name), Free: free.get(name)}
		}
	}
	l.grant(owner, previous, claim)
	return nil
}

// Grant is a claim with its owner.
type Grant struct {
	Owner Owner
	Claim *Claim
}

// Replace replaces all claims: restored ones are granted without asking whether they fit, then foreign ones are reserved in
// their order. It returns an error for each foreign claim, nil where it fits, and the clusters of all claims before and after.
func (l *Ledger) Replace(restored, foreign []Grant) (refused []error, clusters []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	touched := map[string]bool{}
	for owner, claim := range l.claims {
		for _, cluster := range claim.Clusters {
			touched[cluster] = true
		}
		delete(l.claims, owner)
		l.remove(claim)
	}
	for _, g := range restored {
		l.grant(g.Owner, nil, g.Claim)
	}
	refused = make([]error, len(foreign))
	for i, g := range foreign {
		refused[i] = l.reserve(g.Owner, g.Claim)
	}
	for _, claim := range l.claims {
		for _, cluster := range claim.Clusters {
			touched[cluster] = true
		}
	}
	return refused, slices.Sorted(maps.Keys(touched))
}

// Restore records a claim without asking whether it fits: it has been granted before.
func (l *Ledger) Restore(owner Owner, claim *Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grant(owner, l.claims[owner], claim)
}

// grant records a claim in place of the owner's previous one.
func (l *Ledger) grant(owner Owner, previous, claim *Claim) {
	if previous != nil {
		l.remove(previous)
	}
	l.claims[owner] = claim
	group := l.groups[claim.Group]
	if group == nil {
		if group = l.spare; group == nil {
			group = map[string]int{}
		}
		l.groups[claim.Group], l.spare = group, nil
	}
	claim.stakes = slices.Grow(claim.stakes[:0], len(claim.Clusters))[:len(claim.Clusters)]
	for i, cluster := range claim.Clusters {
		a, s := l.account(cluster), &claim.stakes[i]
		*s = stake{claim: claim, account: a, next: a.first}
		if a.first != nil {
			a.first.prev = s
		}
		a.first = s
		a.reserve(a.reservedFor(claim, a.counted))
		group[cluster]++
	}
}

// Release gives back what owner holds, and returns it; nil where that is nothing.
func (l *Ledger) Release(owner Owner) *Claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	claim := l.claims[owner]
	if claim != nil {
		delete(l.claims, owner)
		l.remove(claim)
	}
	return claim
}

// remove takes a claim off the accounts.
func (l *Ledger) remove(claim *Claim) {
	group := l.groups[claim.Group]
	for i := range claim.stakes {
		s := &claim.stakes[i]
		a := s.account
		a.unreserve(a.reservedFor(claim, a.counted))
		if s.next != nil {
			s.next.prev = s.prev
		}
		if s.prev != nil {
			s.prev.next = s.next
		} else {
			a.first = s.next
		}
		l.close(a)
		if group[a.cluster]--; group[a.cluster] == 0 {
			delete(group, a.cluster)
		}
	}
	if len(group) == 0 {
		delete(l.groups, claim.Group)
		l.spare = group
	}
}

// Claim returns what owner holds; nil where that is nothing.
func (l *Ledger) Claim(owner Owner) *Claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.claims[owner]
}

// Uncounted returns the clusters of a claim whose report does not count all of it.
func (l *Ledger) Uncounted(owner Owner) (clusters []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	claim := l.claims[owner]
	if claim == nil {
		return nil
	}
	for i := range claim.stakes {
		a := claim.stakes[i].account
		if _, short := a.countedFor(claim.UID).Lacking(claim.Amount); short {
			clusters = append(clusters, a.cluster)
		}
	}
	return clusters
}

// Reserved returns what is promised on a cluster and not counted by it.
func (l *Ledger) Reserved(cluster string) Resources {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[cluster]; a != nil {
		return a.shown
	}
	return Resources{}
}

// EachReserved yields what is reserved on each cluster of a claim that is granted, in their order.
func (l *Ledger) EachReserved(claim *Claim, yield func(i int, reserved Resources)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range claim.stakes {
		yield(i, claim.stakes[i].account.shown)
	}
}

// Counted returns what the clusters of a claim that is granted count for its owner, in their order; nil where none counts
// anything.
func (l *Ledger) Counted(claim *Claim) (counted []Resources) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range claim.stakes {
		if amount := claim.stakes[i].account.countedFor(claim.UID); !amount.IsZero() {
			if counted == nil {
				counted = make([]Resources, len(claim.stakes))
			}
			counted[i] = amount
		}
	}
	return counted
}

// Reserved returns what is set aside on one of a claim's clusters that counts so much for its owner.
func (c *Claim) Reserved(cluster string, counted Resources) Resources {
	if len(c.Expired) > 0 && slices.Contains(c.Expired, cluster) {
		return Resources{}
	}
	return c.Amount.Without(counted)
}

// Group returns how many claims of a group each cluster holds. It is the ledger's own, and good until the ledger changes.
func (l *Ledger) Group(group types.NamespacedName) map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.groups[group]
}
