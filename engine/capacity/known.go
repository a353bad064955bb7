package capacity

// Known is what claims come to on one cluster.
type Known struct {
	// Promised is what those of one ledger ask for there.
	Promised Resources
	// Reserved is what those of all ledgers reserve, and Counted what the cluster's report counts for their owners.
	Reserved, Counted Resources
}

// Known returns what the claims of all ledgers come to on a cluster: what of it would be free if their owners were gone.
func (l *Ledger) Known(cluster string) (k Known) {
	l.own.Lock()
	defer l.own.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.places[cluster]; p != nil {
		k.Promised = p.amount.resources()
	}
	a := l.accounts[cluster]
	if a == nil {
		return k
	}
	k.Reserved = a.shown()
	if len(a.counted) == 0 {
		return k
	}
	var all sum
	seen := map[string]bool{}
	for p := a.first; p != nil; p = p.next {
		for s := p.first; s != nil; s = s.next {
			if !seen[s.uid] { // what its owner has left may be held beside
				seen[s.uid] = true
				all.add(s.counted())
			}
		}
	}
	k.Counted = all.resources()
	return k
}
