package engine

import (
	"context"
	"slices"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Rehearsal is a copy of a workspace in which some clusters are lost. What is decided there is reserved only in the copy.
type Rehearsal struct{ copied *workspace }

// Rehearse copies a workspace as it is now, with some clusters lost. The workspace does not change. It costs about as much as setting all of
// its clusters and reservations, and the copy ranks everything anew.
func (e *Engine) Rehearse(name logicalcluster.Name, lost []string) *Rehearsal {
	unobserved := &Engine{options: e.options, constraints: e.constraints, policies: e.policies}
	unobserved.options.Metrics = noMetrics{}
	copied, w := unobserved.newWorkspace(name, newFleet(name)), e.lookUp(name)
	copied.policies.Store(w.policies.Load())

	w.lock()
	clusters, granted, inventory := w.clustersAlone(), w.granted(), w.affinity.inventory
	w.mu.Unlock()

	for _, c := range clusters {
		if slices.Contains(lost, c.Name) {
			c = lose(c)
		}
		copied.setCluster(c)
	}
	copied.replace(granted, nil)
	if inventory != nil {
		copied.setAffinity(inventory)
	}
	return &Rehearsal{copied}
}

func lose(c *snapshot.Cluster) *snapshot.Cluster {
	gone := *c
	gone.Conditions = slices.DeleteFunc(slices.Clone(c.Conditions), func(c snapshot.Condition) bool { return c.Type == snapshot.ReadyCondition })
	gone.Conditions = append(gone.Conditions, snapshot.Condition{Type: snapshot.ReadyCondition, Status: "False", Reason: v1alpha1.ClusterLostReason})
	return &gone
}

// Decide returns what Engine.Decide would decide for a workload if the clusters were lost, after everything that has been decided in the
// rehearsal.
func (r *Rehearsal) Decide(ctx context.Context, request Request) (*Decision, error) {
	return r.copied.decide(ctx, &request, true)
}
