package capacity

import (
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Owner is who holds a claim.
type Owner struct{ APIVersion, Kind, Namespace, Name string }

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
	reserved   Resources
	expired    bool
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
	open                bool
	available, reserved Resources
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
	return a.reserved
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
	a.counted = counted
	for s := a.first; s != nil; s = s.next {
		s.reserve()
	}
}

// countedFor is what the report counts for an owner.
func (a *account) countedFor(uid string) Resources {
	if uid == "" {
		return Resources{}
	}
	return a.counted[uid]
}

// reserve sets aside what of the claim the cluster does not count, in place of what was set aside before.
func (s *stake) reserve() {
	a, amount := s.account, Resources{}
	if !s.expired {
		amount = s.claim.Amount.Without(a.countedFor(s.claim.UID))
	}
	if !amount.Same(s.reserved) {
		a.reserved = a.reserved.Sub(s.reserved).Add(amount).WithoutNone()
		s.reserved = amount
	}
}

// Reserve grants the claim to owner in place of what owner held before, or returns a *ShortageError and leaves all
// as it was.
func (l *Ledger) Reserve(owner Owner, claim *Claim) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	previous := l.claims[owner]
	for _, cluster := range claim.Clusters {
		var free Resources
		if a := l.accounts[cluster]; a != nil {
			// What the owner has there already goes to it again, whether that is reserved or in use.
			free = a.available.Sub(a.reserved).Add(a.countedFor(claim.UID))
			if s := previous.stake(cluster); s != nil {
				free = free.Add(s.reserved)
			}
		}
		if name, short := free.Lacking(claim.Amount); short {
			return &ShortageError{Cluster: cluster, Resource: name, Asked: claim.Amount.Get(name), Free: free.Get(name)}
		}
	}
	l.grant(owner, claim)
	return nil
}

// Restore records a claim without asking whether it fits: it has been granted before.
func (l *Ledger) Restore(owner Owner, claim *Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grant(owner, claim)
}

func (l *Ledger) grant(owner Owner, claim *Claim) {
	if previous := l.claims[owner]; previous != nil {
		l.strike(previous)
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
		*s = stake{claim: claim, account: a, expired: slices.Contains(claim.Expired, cluster), next: a.first}
		if a.first != nil {
			a.first.prev = s
		}
		a.first = s
		s.reserve()
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
		l.strike(claim)
	}
	return claim
}

// strike takes a claim off the accounts.
func (l *Ledger) strike(claim *Claim) {
	group := l.groups[claim.Group]
	for i := range claim.stakes {
		s := &claim.stakes[i]
		a := s.account
		a.reserved = a.reserved.Sub(s.reserved).WithoutNone()
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

func (c *Claim) stake(cluster string) *stake {
	if c != nil {
		for i := range c.stakes {
			if c.stakes[i].account.cluster == cluster {
				return &c.stakes[i]
			}
		}
	}
	return nil
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
		return a.reserved
	}
	return Resources{}
}

// Share returns what of a cluster goes to an owner of that UID: what is reserved for it there, and what the cluster counts
// for it.
func (l *Ledger) Share(owner Owner, uid, cluster string) (reserved, counted Resources) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.claims[owner].stake(cluster); s != nil {
		reserved = s.reserved
	}
	if a := l.accounts[cluster]; a != nil {
		counted = a.countedFor(uid)
	}
	return reserved, counted
}

// Group returns how many claims of a group each cluster holds. It is the ledger's own, and good until the ledger changes.
func (l *Ledger) Group(group types.NamespacedName) map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.groups[group]
}
