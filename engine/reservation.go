package engine

import (
	"github.com/kcp-dev/logicalcluster/v3"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
)

// Reservation is what is set aside for a workload on clusters.
type Reservation struct {
	Workload  workload.Reference
	Placement types.NamespacedName
	Clusters  []string
	// Amount on each of Clusters.
	Amount capacity.Resources
	// Expired are those of Clusters where it was given up: the decision stands, with nothing behind it there but what the
	// cluster's report counts.
	Expired []string
}

// ReservationOf is what a durable decision for a placement reserves. It fails, naming the resource, where the amounts cannot
// be read.
func ReservationOf(placement types.NamespacedName, d *v1alpha1.WorkloadDecision) (r Reservation, err error) {
	r = Reservation{Placement: placement, Workload: workload.Reference{
		APIVersion: d.Workload.APIVersion, Kind: d.Workload.Kind, Namespace: placement.Namespace, Name: d.Workload.Name, UID: string(d.Workload.UID),
	}}
	for _, c := range d.Clusters {
		r.Clusters = append(r.Clusters, c.Name)
		if c.ReservationExpiredAt != nil {
			r.Expired = append(r.Expired, c.Name)
		}
	}
	r.Amount, err = capacity.FromResourceList(d.Reserved)
	return r, err
}

func (r *Reservation) claim() *capacity.Claim {
	return &capacity.Claim{UID: r.Workload.UID, Group: r.Placement, Clusters: r.Clusters, Amount: r.Amount, Expired: r.Expired}
}

// Restore puts a durable reservation back, without asking whether it fits: it was granted before.
func (e *Engine) Restore(workspace logicalcluster.Name, r Reservation) {
	_ = e.workspace(workspace).grant(ownerOf(r.Workload), r.claim(), false) // cannot fail
}

// Reserve makes a reservation that was decided on elsewhere, if it fits; otherwise it returns a *capacity.ShortageError.
func (e *Engine) Reserve(workspace logicalcluster.Name, r Reservation) error {
	return e.workspace(workspace).grant(ownerOf(r.Workload), r.claim(), true)
}

// Uncounted returns those of a workload's clusters whose reports do not count all that it asks for.
func (e *Engine) Uncounted(workspace logicalcluster.Name, ref workload.Reference) []string {
	return e.workspace(workspace).ledger.Uncounted(ownerOf(ref))
}

// Release gives back what a workload holds, and tells whether that was anything.
func (e *Engine) Release(workspace logicalcluster.Name, ref workload.Reference) (freed bool) {
	return e.workspace(workspace).release(ownerOf(ref))
}
