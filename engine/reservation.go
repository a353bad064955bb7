package engine

import (
	"fmt"

	"github.com/kcp-dev/logicalcluster/v3"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
)

// Reservation is what is set aside for a workload.
type Reservation struct {
	Workload  workload.Reference
	Placement types.NamespacedName
	// Shares, one on each of its clusters. If a share has expired, the decision still stands, but nothing is reserved there
	// beyond what the cluster's report counts.
	Shares []capacity.Share
}

// ReservationOf returns what a durable decision for a placement reserves. It fails, naming the field, if an amount cannot
// be read.
func ReservationOf(placement types.NamespacedName, d *v1alpha1.WorkloadDecision) (r Reservation, err error) {
	r = Reservation{Placement: placement, Workload: workload.Reference{
		APIVersion: d.Workload.APIVersion, Kind: d.Workload.Kind, Namespace: placement.Namespace, Name: d.Workload.Name, UID: string(d.Workload.UID),
	}}
	common, err := capacity.FromResourceList(d.Reserved)
	if err != nil {
		return r, fmt.Errorf("reserved.%w", err)
	}
	r.Shares = make([]capacity.Share, len(d.Clusters))
	for i, c := range d.Clusters {
		r.Shares[i] = capacity.Share{Cluster: c.Name, Amount: common, Expired: c.ReservationExpiredAt != nil}
		if len(c.Reserved) > 0 {
			if r.Shares[i].Amount, err = capacity.FromResourceList(c.Reserved); err != nil {
				err = fmt.Errorf("clusters[%d].reserved.%w", i, err)
				break
			}
		}
	}
	if err == nil {
		err = r.validate()
	}
	if err != nil {
		r.Shares = nil
	}
	return r, err
}

func (r *Reservation) claim() *capacity.Claim {
	return &capacity.Claim{UID: r.Workload.UID, Group: r.Placement, Shares: r.Shares}
}

// Restore records a reservation without checking that it fits: it was granted before. It fails with an *InvalidError.
func (e *Engine) Restore(workspace logicalcluster.Name, r Reservation) error {
	if err := r.validate(); err != nil {
		return err
	}
	return e.workspace(workspace).grant(ownerOf(r.Workload), r.claim(), false)
}

// Reserve makes a reservation that was decided elsewhere, if it fits; otherwise it returns a *capacity.ShortageError, a
// *capacity.QuotaError, a *capacity.NotGrantedError or an *InvalidError. What is already promised to the workload does not have
// to fit.
func (e *Engine) Reserve(workspace logicalcluster.Name, r Reservation, promised ...Reservation) error {
	if err := r.validate(); err != nil {
		return err
	}
	claims := make([]*capacity.Claim, len(promised))
	for i := range promised {
		claims[i] = promised[i].claim()
	}
	return e.workspace(workspace).grant(ownerOf(r.Workload), r.claim(), true, claims...)
}

// Hold records a reservation in addition to the one that its workload has, without checking that it fits, until ReleaseHeld:
// what a workload gives up stays reserved until a record that no longer promises it is durable. It fails with an
// *InvalidError.
func (e *Engine) Hold(workspace logicalcluster.Name, r Reservation) (Held, error) {
	if err := r.validate(); err != nil {
		return Held{}, err
	}
	w := e.workspace(workspace)
	h := w.nextHeld(r.Workload)
	return h, w.grant(h.owner, r.claim(), false)
}

// holdGivenUp holds what a workload had before a decision and no longer has, if the request asks for Hold. The fleet is locked.
func (w *workspace) holdGivenUp(r *Request, d *Decision, now *capacity.Claim) {
	if !r.Hold || len(d.holding.Shares) == 0 {
		return
	}
	for _, claim := range givenUp(d.holding.Claim, now) {
		h := w.nextHeld(r.Workload.Reference)
		w.restoreClaim(h.owner, nil, claim)
		d.GivenUp = append(d.GivenUp, h)
	}
}

// givenUp returns what a claim has beyond its replacement, which is nil if there is none.
func givenUp(before, now *capacity.Claim) (all []*capacity.Claim) {
	// What a cluster counts for the owner is subtracted from the claim that it keeps there.
	left, kept := &capacity.Claim{UID: before.UID}, &capacity.Claim{}
	for _, share := range before.Shares {
		to := left
		if now != nil && now.UID == before.UID {
			if stays := now.ShareOn(share.Cluster); stays != nil && !stays.Expired {
				to, share.Amount = kept, share.Amount.Without(stays.Amount)
			}
		}
		if !share.Expired && !share.Amount.IsZero() {
			to.Shares = append(to.Shares, share)
		}
	}
	for _, claim := range []*capacity.Claim{left, kept} {
		if len(claim.Shares) > 0 {
			all = append(all, claim)
		}
	}
	return all
}

// Held identifies a reservation that is held in addition to the one of its workload.
type Held struct{ owner capacity.Owner }

// ReleaseHeld releases what is held, and returns whether that was anything.
func (e *Engine) ReleaseHeld(workspace logicalcluster.Name, h Held) (freed bool) {
	return e.lookUp(workspace).release(h.owner)
}

// Replace replaces everything that is reserved for a workspace, in one step: no decision sees a part of it. restored and held
// reservations were granted before and are recorded without checks. foreign reservations, granted by another workspace, are
// verified after that, in their order; refused has an error for each, which is nil if it fits. If any reservation is invalid,
// Replace fails with an *InvalidError and nothing has changed.
func (e *Engine) Replace(workspace logicalcluster.Name, restored, held, foreign []Reservation) (holds []Held, refused []error, err error) {
	for _, all := range [][]Reservation{restored, held, foreign} {
		for i := range all {
			if err := all[i].validate(); err != nil {
				return nil, nil, err
			}
		}
	}
	w := e.workspace(workspace)
	granted, holds := w.grantsOf(restored, held)
	verified := make([]capacity.Grant, len(foreign))
	for i := range foreign {
		verified[i] = capacity.Grant{Owner: ownerOf(foreign[i].Workload), Claim: foreign[i].claim()}
	}
	return holds, w.replace(granted, verified), nil
}

// RestoreAll replaces everything that is reserved for a workspace on a fleet, which need not be the fleet that it uses: restored and
// held reservations were granted before and are recorded without checks. It fails with an *InvalidError, and then nothing has changed.
func (e *Engine) RestoreAll(workspace, fleet logicalcluster.Name, restored, held []Reservation) error {
	for _, all := range [][]Reservation{restored, held} {
		for i := range all {
			if err := all[i].validate(); err != nil {
				return err
			}
		}
	}
	owner := e.workspace(fleet)
	owner.share()
	w := e.lookUp(workspace)
	granted, _ := w.grantsOf(restored, held)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replaceOn(owner.own, granted, nil)
	return nil
}

// grantsOf returns the claims of reservations that were granted before.
func (w *workspace) grantsOf(restored, held []Reservation) (granted []capacity.Grant, holds []Held) {
	granted = make([]capacity.Grant, 0, len(restored)+len(held))
	for i := range restored {
		granted = append(granted, capacity.Grant{Owner: ownerOf(restored[i].Workload), Claim: restored[i].claim()})
	}
	for i := range held {
		h := w.nextHeld(held[i].Workload)
		holds = append(holds, h)
		granted = append(granted, capacity.Grant{Owner: h.owner, Claim: held[i].claim()})
	}
	return granted, holds
}

// Uncounted returns the clusters of a workload whose reports do not count everything that it asks for.
func (e *Engine) Uncounted(workspace logicalcluster.Name, ref workload.Reference) []string {
	w := e.lookUp(workspace)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.Uncounted(ownerOf(ref))
}

// Release releases what a workload has reserved, and returns whether that was anything.
func (e *Engine) Release(workspace logicalcluster.Name, ref workload.Reference) (freed bool) {
	return e.lookUp(workspace).release(ownerOf(ref))
}

func (w *workspace) nextHeld(ref workload.Reference) Held {
	owner := ownerOf(ref)
	owner.Held = w.heldCount.Add(1)
	return Held{owner}
}

func (w *workspace) replace(granted, verified []capacity.Grant) []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.replaceOn(w.fleet, granted, verified)
}

// replaceOn replaces everything that is reserved for the workspace on a fleet. The workspace is locked.
func (w *workspace) replaceOn(on *fleet, granted, verified []capacity.Grant) []error {
	on.mu.Lock()
	defer on.mu.Unlock()
	ledger := on.ledgerOf(w.name)
	for _, all := range [][]capacity.Grant{granted, verified} {
		for i := range all {
			all[i].Claim.SameOwner(ledger.Claim(all[i].Owner))
		}
	}
	refused, clusters := ledger.Replace(granted, verified)
	if ledger == w.ledger {
		w.recountAll()
	}
	for _, name := range clusters {
		on.updateReservedOn(name)
	}
	on.lines.ease(w.name)
	return refused
}
