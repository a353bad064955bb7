package engine

import (
	"errors"
	"fmt"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/ranking"
)

// reserve records a decision in the ledger, in place of what the workload held before; chosen are the keys of its clusters. It returns
// errTaken if the fleet has changed since the workspace last read it, so that the decision is no longer possible.
func (w *workspace) reserve(r *Request, d *Decision, chosen []ranking.Key) error {
	group, before := r.group(), d.holding.Claim
	if len(r.Instead) == 0 && before.Group == group && before.UID == r.Workload.UID && sameShares(before.Shares, d.Clusters) && !w.relabelled(before, r) {
		return nil
	}
	claim := claimOf(r, d)
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	v := w.window
	if v != nil && (len(before.Shares) > 0 || len(r.Instead) > 0) {
		v.follows = false // other clusters than those of the decision change as well
	}
	if len(d.Clusters) == 0 {
		w.recount(r.owner(), w.ledger.Release(r.owner()), nil)
		w.holdGivenUp(r, d, nil)
		w.fleet.updateReserved(before)
		w.fleet.lines.decided(w.name, r.owner(), d)
		return nil
	}
	if v != nil && v.facts != w.fleet.rows.Facts() {
		return errTaken
	}
	if err := w.yields(r, d); err != nil {
		return err
	}
	w.addRepulsions(r.Placement) // before the claim: it is counted below
	instead := make([]*capacity.Claim, len(r.Instead))
	for i, h := range r.Instead {
		instead[i] = w.ledger.Release(h.owner)
	}
	if err := w.ledger.Update(r.owner(), claim); err != nil {
		for i, h := range r.Instead {
			if instead[i] != nil {
				w.ledger.Restore(h.owner, instead[i])
			}
		}
		if v != nil && v.synced != w.fleet.recent.generation {
			return errTaken
		}
		// The ranking is current for what the ledger holds: the two cannot differ.
		return fmt.Errorf("the ledger refuses what was decided: %w", err)
	}
	w.recount(r.owner(), before, claim)
	w.holdGivenUp(r, d, claim)
	w.fleet.updateReserved(before)
	for _, released := range instead {
		if released != nil {
			w.fleet.updateReserved(released)
		}
	}
	w.fleet.lines.decided(w.name, r.owner(), d)
	w.ledger.EachReserved(claim, func(i int, reserved capacity.Resources) {
		index := w.fleetIndex(chosen[i].Position())
		if w.fleet.reserveAt(index, reserved); v != nil && v.follows {
			v.ownUpdates = append(v.ownUpdates, v.updateOf(w.fleet, index))
		}
	})
	return nil
}

// claimOf returns the claim that a decision makes.
func claimOf(r *Request, d *Decision) *capacity.Claim {
	claim := capacity.NewClaim(len(d.Clusters))
	claim.UID, claim.Group, claim.Labels = r.Workload.UID, r.group(), r.Workload.Labels
	claim.Idle, claim.Repels = r.Workload.End.RequestsNothing(), r.Placement.RepelsByPolicies()
	for i := range d.Clusters {
		claim.Shares[i] = capacity.Share{Cluster: d.Clusters[i].Name, Amount: d.Clusters[i].Reserved, Expired: d.Clusters[i].Expired}
	}
	return claim
}

// errTaken ends an attempt that was decided on an outdated view of the fleet.
var errTaken = errors.New("others have taken the room meanwhile")

// sameShares reports whether shares are what choices reserve.
func sameShares(shares []capacity.Share, choices []Choice) bool {
	if len(shares) != len(choices) {
		return false
	}
	for i := range shares { // in place: both are large
		s, c := &shares[i], &choices[i]
		if s.Cluster != c.Name || s.Expired != c.Expired || !s.Amount.Same(c.Reserved) {
			return false
		}
	}
	return true
}
