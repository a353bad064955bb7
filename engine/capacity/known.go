package capacity

// Known holds the totals of the claims on one cluster.
type Known struct {
	// Promised is what the claims of one ledger ask for there.
	Promised Resources
	// Reserved is what the claims of all ledgers reserve, and Counted what the cluster's report counts for their owners.
	Reserved, Counted Resources
}

// Known returns the totals of the claims on a cluster. If the owners of all claims were gone, Reserved and Counted would be
// free.
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
			if !seen[s.uid] { // its owner may hold a second claim here, on what it has given up
				seen[s.uid] = true
				all.add(s.counted())
			}
		}
	}
	k.Counted = all.resources()
	return k
}
