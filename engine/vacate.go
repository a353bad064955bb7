package engine

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/int128"
)

// vacating finds where workloads of a workspace would have a place if what known workloads hold on clusters were gone. Anything else in
// use there, by daemons or unknown pods, is assumed to stay.
type vacating struct {
	*workspace
	ctx context.Context
	// ledger and grants are those of the workspace on the fleet; grants is nil if it uses its own.
	ledger *capacity.Ledger
	grants *grants
	// known caches knownOn, by cluster.
	known map[string]*capacity.Known
	// possible records, by kind of workload, whether one could ever have a place.
	possible map[uint64]bool
}

func (w *workspace) vacating(ctx context.Context) *vacating {
	w.lock()
	defer w.mu.Unlock()
	return &vacating{workspace: w, ctx: ctx, ledger: w.ledger, grants: w.grants(), known: map[string]*capacity.Known{}, possible: map[uint64]bool{}}
}

// kindOf identifies the workloads that have a place wherever this one has; any is false if there may be no others.
func (v *vacating) kindOf(r *Request) (kind uint64, any bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(r.Current) > 0 || v.keepsOut(r) {
		return 0, false
	}
	return v.view(r).ClassHash(r.Workload), true
}

// knownOn returns the totals of the claims on a cluster.
func (v *vacating) knownOn(cluster string) *capacity.Known {
	k := v.known[cluster]
	if k == nil {
		of := v.ledger.Known(cluster)
		k = &of
		v.known[cluster] = k
	}
	return k
}

// isVain reports whether it is known that a workload could never have a place.
func (v *vacating) isVain(r *Request) bool {
	kind, any := v.kindOf(r)
	could, known := v.possible[kind]
	return any && known && !could
}

// could reports whether a waiting workload could ever get more than it has, whoever goes: judged by what clusters are and by quotas.
func (v *vacating) could(o *waiter) (could bool, err error) {
	kind, any := v.kindOf(o.request)
	if any {
		if could, known := v.possible[kind]; known {
			return could, nil
		}
	}
	clusters := v.clustersFor(o)
	for n := 1; n <= len(clusters); n = max(n+1, min(2*n, len(clusters))) {
		d, err := v.decide(o, clusters[:n], true)
		if err != nil {
			return false, err
		}
		if could = d.getsMore(); could {
			break
		}
	}
	if any {
		v.possible[kind] = could
	}
	return could, nil
}

// find returns the clusters on which a waiting workload would get more if what known workloads hold there were gone; none if it would not,
// or if its quotas leave too little. These are the clusters that it would be placed on if as few clusters as possible were emptied: first
// those that it has tried least often, then those that lack least of what it asks for.
func (v *vacating) find(o *waiter, tried map[string]int) (on []string, err error) {
	clusters := v.clustersFor(o)
	slices.SortStableFunc(clusters, func(a, b string) int { return cmp.Compare(tried[a], tried[b]) })
	var found *Decision
	decide := func(n int) (fits bool, err error) {
		d, err := v.decide(o, clusters[:n], false)
		if err != nil {
			return false, err
		}
		if fits = d.getsMore(); fits {
			found = d
		}
		return fits, nil
	}
	// Emptying none suffices if others come first for what is free.
	few, many := 0, 0
	for {
		fits, err := decide(many)
		if err != nil {
			return nil, err
		}
		if fits {
			break
		}
		if many == len(clusters) {
			return nil, nil
		}
		few, many = many+1, min(max(1, 2*many), len(clusters))
	}
	for few < many {
		n := (few + many) / 2
		fits, err := decide(n)
		switch {
		case err != nil:
			return nil, err
		case fits:
			many = n
		default:
			few = n + 1
		}
	}
	for i := range found.Clusters {
		c := &found.Clusters[i]
		if !c.Expired && !c.Reserved.Without(promisedOn(o.has, c.Name)).IsZero() {
			on = append(on, c.Name)
		}
	}
	slices.Sort(on)
	return on, nil
}

// decide returns where a workload would be if what known workloads hold on some clusters were gone, and nobody else waited; with
// unused set, also as if nothing of its quotas were used.
func (v *vacating) decide(o *waiter, clusters []string, unused bool) (*Decision, error) {
	r := *o.request
	r.alone, r.displaced = true, &displaced{on: make(map[string]*stake, len(clusters))}
	own := v.ledger.Claim(r.owner())
	if own == nil {
		own = nothing.Claim
	}
	counted := v.ledger.Counted(own)
	for _, cluster := range clusters {
		k := v.knownOn(cluster)
		s := &stake{cluster: cluster, reserved: k.Reserved, counted: k.Counted}
		if unused {
			s.promised = k.Promised
		}
		for i := range own.Shares { // what it holds itself does not count anyway
			if share := &own.Shares[i]; share.Cluster == cluster {
				var of capacity.Resources
				if counted != nil {
					of = counted[i]
				}
				s.promised, s.reserved, s.counted = s.promised.Without(share.Amount), s.reserved.Without(share.Reserved(of)), s.counted.Without(of)
			}
		}
		r.displaced.on[cluster] = s
	}
	if unused && v.grants != nil {
		for cluster := range v.grants.of {
			if promised := v.knownOn(cluster).Promised; !promised.IsZero() {
				r.displaced.stakes = append(r.displaced.stakes, stake{cluster: cluster, promised: promised})
			}
		}
	}
	return v.decideAs(v.ctx, &r, false)
}

// clustersFor returns the clusters that could have room for a workload if what known workloads hold were gone, first those that lack least
// of what it asks for.
func (v *vacating) clustersFor(o *waiter) (names []string) {
	if v.grants == nil {
		return nil
	}
	type short struct {
		cluster string
		lacks   int64
	}
	var all []short
	v.lock()
	defer v.mu.Unlock()
	for position := range v.seen.Len() {
		row := v.seen.Row(position)
		least := int64(math.MaxInt64)
		for _, c := range o.classes {
			asks := o.asks(c, row)
			if _, never := row.Allocatable.Lacking(asks); never || !c.Admits(row) {
				continue
			}
			lacks := lacking(row, asks)
			if lacks > 0 {
				free := row.Free
				if row.Quota != nil {
					free = row.Quota.Free
				}
				k := v.knownOn(row.Name)
				if _, never := free.Add(k.Reserved).Add(k.Counted).Lacking(asks); never {
					continue
				}
			}
			least = min(least, lacks)
		}
		if least < math.MaxInt64 {
			all = append(all, short{row.Name, least})
		}
	}
	slices.SortStableFunc(all, func(a, b short) int { return cmp.Compare(a.lacks, b.lacks) })
	for i := range all {
		names = append(names, all[i].cluster)
	}
	return names
}

// lacking returns how much of what is asked for a cluster lacks, in millionths of what it has; 0 only if it lacks nothing.
func lacking(row *snapshot.Row, asks capacity.Resources) (most int64) {
	for name, amount := range asks.Each {
		if short := amount - row.Free.Get(name); amount > 0 && short > 0 {
			share, _ := int128.MulDiv(short, 1_000_000, max(1, row.Allocatable.Get(name)))
			most = max(most, 1, share)
		}
	}
	return most
}
