package engine

import (
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// holding is what a workload holds. It does not count when that workload is decided on.
type holding struct {
	*capacity.Claim
	// counted is what its clusters count for the workload, as of that number of reports; nil if none counts anything.
	counted []capacity.Resources
	reports int64
	// former is set if an earlier workload of the same name holds it, whose pods are not those of the current one.
	former bool
	// displaced is what does not count of others that the workload takes the place of; nil if nothing.
	displaced *displaced
}

func (h *holding) same(o *holding) bool {
	return h.Claim == o.Claim && h.reports == o.reports && h.former == o.former && h.displaced == o.displaced
}

// clusters yields the clusters on which anything does not count.
func (h *holding) clusters(yield func(string) bool) {
	for i := range h.Shares {
		if !yield(h.Shares[i].Cluster) {
			return
		}
	}
	for cluster := range h.displaced.clusters {
		if h.index(cluster) < 0 && !yield(cluster) {
			return
		}
	}
}

// index returns the index of the share on a cluster, -1 if there is none.
func (h *holding) index(cluster string) int {
	return slices.IndexFunc(h.Shares, func(s capacity.Share) bool { return s.Cluster == cluster })
}

var nothing = holding{Claim: &capacity.Claim{}}

func (w *workspace) holdingOf(c *class, r *Request) holding {
	claim := w.ledger.Claim(r.owner())
	displaced := r.displaced
	if len(r.Instead) > 0 {
		displaced = w.instead(r.Instead)
	}
	if claim == nil {
		h := nothing
		h.displaced = displaced
		return h
	}
	h := holding{Claim: claim, reports: w.reports, former: claim.UID != r.Workload.UID, displaced: displaced}
	if last := &c.last.holding; last.same(&h) {
		return *last
	}
	h.counted = w.counted(claim)
	return h
}

// without stores in to the row of a cluster as it would be without what does not count. It returns false if everything counts.
func (h *holding) without(row, to *snapshot.Row) bool {
	i, rest := h.index(row.Name), h.displaced.from(row.Name)
	if i < 0 && rest == nil {
		return false
	}
	var promised, reserved, counted capacity.Resources
	if i >= 0 {
		promised = h.Shares[i].Amount
		if h.counted != nil {
			counted = h.counted[i]
		}
		reserved = h.Shares[i].Reserved(counted)
		if h.former {
			counted = capacity.Resources{}
		}
	}
	if rest != nil {
		promised, reserved, counted = promised.Add(rest.promised), reserved.Add(rest.reserved), counted.Add(rest.counted)
	}
	row.Without(promised, reserved, counted, to)
	return true
}
