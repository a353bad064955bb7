package delivery

import (
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// ClusterOf returns a cluster as its registration describes it.
func ClusterOf(r *v1alpha1.ClusterRegistration) *Cluster {
	c := &Cluster{Name: r.Name, Location: r.Spec.Location, Labels: r.Labels, UID: r.UID, Delivers: r.Delivers()}
	if c.Delivers {
		c.Agent = *r.Status.AgentDelivery
	}
	if ready := conditions.Get(r, v1alpha1.ReadyCondition); ready != nil {
		c.Silent, c.Lost = ready.Reason == v1alpha1.HeartbeatMissedReason, ready.Reason == v1alpha1.ClusterLostReason
	}
	return c
}
