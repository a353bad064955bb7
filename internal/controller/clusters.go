package controller

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/decode"
)

// clusterObjects are the objects that a cluster is read from.
type clusterObjects struct {
	registration *v1alpha1.ClusterRegistration
	// usage is nil where there is none.
	usage *v1alpha1.ClusterUsage
}

// clusterState is a cluster as the engine has it: what it was read from, and why that is not usable.
type clusterState struct {
	clusterObjects
	invalid string
}

// updateClusters brings the fleet up to date. An informer never changes an object but replaces it, so a cluster whose objects
// are still the same pointers is not read again.
func (w *workspace) updateClusters(registrations []*v1alpha1.ClusterRegistration, o *cacheView, result *result) {
	gone := w.clusters
	w.clusters = make(map[string]clusterState, len(registrations))
	for _, r := range registrations {
		before := gone[r.Name]
		c := before
		if objects := (clusterObjects{r, o.usages[r.Name]}); c.clusterObjects != objects {
			err := recovered(func() { c = clusterState{objects, w.updateCluster(objects, o.unreadable)} })
			if err != nil {
				result.fail(fmt.Errorf("ClusterRegistration %s: %w", r.Name, err))
				c = clusterState{} // it is read again
			}
		}
		if c.invalid != "" && c.invalid != before.invalid {
			w.event(r, corev1.EventTypeWarning, v1alpha1.InvalidRegistrationReason, "no workloads are placed here: "+c.invalid)
		}
		w.clusters[r.Name] = c
		delete(gone, r.Name)
	}
	for name := range gone {
		w.engine.RemoveCluster(w.name, name)
	}
}

// updateCluster gives a cluster to the engine and returns why it is not usable, if so.
func (w *workspace) updateCluster(from clusterObjects, unreadable map[types.UID]decode.Problems) (invalid string) {
	c := snapshot.FromRegistration(from.registration, from.usage)
	if problems := unreadable[from.registration.UID]; len(problems) > 0 {
		c.Invalid = problems.Error()
	} else if from.usage != nil && len(unreadable[from.usage.UID]) > 0 {
		c.Invalid = "ClusterUsage: " + unreadable[from.usage.UID].Error()
	}
	if _, err := w.engine.SetCluster(w.name, c); err != nil {
		return err.Error()
	}
	return c.Invalid
}
