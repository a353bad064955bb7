package capacity

import (
	"fmt"
	"maps"
)

// Claim is what one workload holds: the same amount on each of its clusters.
type Claim struct {
	// Group counts claims that belong together; strategies rotate over the clusters of a group.
	Group    string
	Clusters []string
	Amount   Resources
}

// Ledger keeps what has been promised on the clusters of one workspace. For every cluster and resource, the sum of
// what Reserve has granted stays within what the cluster has. A Ledger is guarded by its owner: it has no lock.
type Ledger struct {
	available map[string]Resources
	reserved  map[string]Resources
	claims    map[string]Claim
	counts    map[string]map[string]int
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{
		available: map[string]Resources{},
		reserved:  map[string]Resources{},
		claims:    map[string]Claim{},
		counts:    map[string]map[string]int{},
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

// SetAvailable says what a cluster has for claims. Claims that are held already stay, even where they no longer fit.
func (l *Ledger) SetAvailable(cluster string, available Resources) { l.available[cluster] = available }

// RemoveCluster takes a cluster out: nothing can be reserved there. What is held there stays held, since the cluster
// may return.
func (l *Ledger) RemoveCluster(cluster string) { delete(l.available, cluster) }

// Reserve grants the claim to owner in place of what owner held before, or returns a *ShortageError and leaves all
// as it was.
func (l *Ledger) Reserve(owner string, claim Claim) error {
	previous, held := l.Release(owner)
	for _, cluster := range claim.Clusters {
		free := l.available[cluster].Sub(l.reserved[cluster])
		if name, short := free.Lacking(claim.Amount); short {
			if held {
				l.Restore(owner, previous)
			}
			return &ShortageError{Cluster: cluster, Resource: name, Asked: claim.Amount.Get(name), Free: free.Get(name)}
		}
	}
	l.Restore(owner, claim)
	return nil
}

// Restore records a claim without asking whether it fits: it has been granted before.
func (l *Ledger) Restore(owner string, claim Claim) {
	l.Release(owner)
	l.claims[owner] = claim
	counts := l.counts[claim.Group]
	if counts == nil {
		counts = map[string]int{}
		l.counts[claim.Group] = counts
	}
	for _, cluster := range claim.Clusters {
		l.reserved[cluster] = l.reserved[cluster].Add(claim.Amount)
		counts[cluster]++
	}
}

// Release gives back what owner holds, and returns it.
func (l *Ledger) Release(owner string) (Claim, bool) {
	claim, held := l.claims[owner]
	if !held {
		return Claim{}, false
	}
	delete(l.claims, owner)
	counts := l.counts[claim.Group]
	for _, cluster := range claim.Clusters {
		if left := l.reserved[cluster].Sub(claim.Amount); left.IsZero() {
			delete(l.reserved, cluster)
		} else {
			l.reserved[cluster] = left
		}
		if counts[cluster]--; counts[cluster] == 0 {
			delete(counts, cluster)
		}
	}
	if len(counts) == 0 {
		delete(l.counts, claim.Group)
	}
	return claim, true
}

// Claim returns what owner holds.
func (l *Ledger) Claim(owner string) (Claim, bool) {
	claim, held := l.claims[owner]
	return claim, held
}

// Reserved returns what is promised on a cluster.
func (l *Ledger) Reserved(cluster string) Resources { return l.reserved[cluster] }

// Count returns how many claims of a group each cluster holds, owner's own left out.
func (l *Ledger) Count(group, owner string) map[string]int {
	counts := maps.Clone(l.counts[group])
	if own, held := l.claims[owner]; held && own.Group == group {
		for _, cluster := range own.Clusters {
			counts[cluster]--
		}
	}
	return counts
}
