package capacity

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Owner is who holds a claim.
type Owner struct{ APIVersion, Kind, Namespace, Name string }

// Claim is what one owner holds: the same amount on each of its clusters. It is not changed once it is granted.
type Claim struct {
	// Group counts claims that belong together; strategies rotate over the clusters of a group.
	Group    types.NamespacedName
	Clusters []string
	Amount   Resources
	// accounts are those of Clusters while the claim is granted.
	accounts []*account
}

// Ledger keeps what has been promised on the clusters of one workspace. For every cluster and resource, the sum of
// what Reserve has granted stays within what the cluster has. A Ledger is guarded by its owner: it has no lock.
type Ledger struct {
	accounts map[string]*account
	claims   map[Owner]*Claim
	groups   map[types.NamespacedName]map[string]int
}

// account is one cluster in the ledger. It is there while the cluster is, or anything is held on it.
type account struct {
	cluster string
	// open tells whether the cluster is there.
	open                bool
	available, reserved Resources
	claims              int
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

// SetAvailable says what a cluster has for claims, and returns what is promised there. Claims that are held already
// stay, even where they no longer fit.
func (l *Ledger) SetAvailable(cluster string, available Resources) (reserved Resources) {
	a := l.account(cluster)
	a.open, a.available = true, available
	return a.reserved
}

// RemoveCluster takes a cluster out: nothing can be reserved there. What is held there stays held, since the cluster
// may return.
func (l *Ledger) RemoveCluster(cluster string) {
	if a := l.accounts[cluster]; a != nil {
		a.open, a.available = false, Resources{}
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
	if !a.open && a.claims == 0 {
		delete(l.accounts, a.cluster)
	}
}

// Reserve grants the claim to owner in place of what owner held before, or returns a *ShortageError and leaves all
// as it was.
func (l *Ledger) Reserve(owner Owner, claim *Claim) error {
	previous := l.claims[owner]
	for _, cluster := range claim.Clusters {
		var free Resources
		if a := l.accounts[cluster]; a != nil {
			free = a.available.Sub(a.reserved)
		}
		if previous != nil && slices.Contains(previous.Clusters, cluster) {
			free = free.Add(previous.Amount)
		}
		if name, short := free.Lacking(claim.Amount); short {
			return &ShortageError{Cluster: cluster, Resource: name, Asked: claim.Amount.Get(name), Free: free.Get(name)}
		}
	}
	l.Restore(owner, claim)
	return nil
}

// Restore records a claim without asking whether it fits: it has been granted before.
func (l *Ledger) Restore(owner Owner, claim *Claim) {
	previous := l.claims[owner]
	l.claims[owner] = claim
	group := l.groups[claim.Group]
	if group == nil {
		group = map[string]int{}
		l.groups[claim.Group] = group
	}
	claim.accounts = make([]*account, len(claim.Clusters))
	for i, cluster := range claim.Clusters {
		a := l.account(cluster)
		claim.accounts[i] = a
		a.reserved = a.reserved.Add(claim.Amount).WithoutNone()
		a.claims++
		group[cluster]++
	}
	if previous != nil {
		l.strike(previous)
	}
}

// Release gives back what owner holds, and returns it; nil where that is nothing.
func (l *Ledger) Release(owner Owner) *Claim {
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
	for _, a := range claim.accounts {
		a.reserved = a.reserved.Sub(claim.Amount).WithoutNone()
		a.claims--
		l.close(a)
		if group[a.cluster]--; group[a.cluster] == 0 {
			delete(group, a.cluster)
		}
	}
	if len(group) == 0 {
		delete(l.groups, claim.Group)
	}
}

// Claim returns what owner holds; nil where that is nothing.
func (l *Ledger) Claim(owner Owner) *Claim { return l.claims[owner] }

// Reserved returns what is promised on a cluster.
func (l *Ledger) Reserved(cluster string) Resources {
	if a := l.accounts[cluster]; a != nil {
		return a.reserved
	}
	return Resources{}
}

// Group returns how many claims of a group each cluster holds. It is the ledger's own, and good until the ledger changes.
func (l *Ledger) Group(group types.NamespacedName) map[string]int { return l.groups[group] }
