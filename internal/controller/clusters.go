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

// updateClusters brings the fleet up to date. An informer never changes an object but replaces it, so a cluster whose objects
// are still the same pointers is not read again.
func (w *workspace) updateClusters(registrations []*v1alpha1.ClusterRegistration, o *cacheView, result *result) {
	gone := w.clusters
	w.clusters = make(map[string]clusterObjects, len(registrations))
	for _, r := range registrations {
		c := clusterObjects{r, o.usages[r.Name]}
		w.clusters[r.Name] = c
		if gone[r.Name] != c {
			if err := recovered(func() { w.updateCluster(c, o.unreadable) }); err != nil {
				result.fail(fmt.Errorf("ClusterRegistration %s: %w", r.Name, err))
				w.clusters[r.Name] = clusterObjects{} // it is read again
			}
		}
		delete(gone, r.Name)
	}
	for name := range gone {
		w.engine.RemoveCluster(w.name, name)
	}
}

func (w *workspace) updateCluster(from clusterObjects, unreadable map[types.UID]decode.Problems) {
	c := snapshot.FromRegistration(from.registration, from.usage)
	if problems := unreadable[from.registration.UID]; len(problems) > 0 {
		c.Invalid = problems.Error()
	} else if from.usage != nil && len(unreadable[from.usage.UID]) > 0 {
		c.Invalid = "ClusterUsage: " + unreadable[from.usage.UID].Error()
	}
	if w.engine.SetCluster(w.name, c) && c.Invalid != "" {
		w.event(from.registration, corev1.EventTypeWarning, "InvalidRegistration", "no workloads are placed here: "+c.Invalid)
	}
}
