package controller

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/decode"
)

// updateClusters brings the fleet up to date. An informer never changes an object but replaces it, so a registration that is
// still the same pointer is not read again.
func (w *workspace) updateClusters(registrations []*v1alpha1.ClusterRegistration, unreadable map[types.UID]decode.Problems, result *result) {
	gone := w.clusters
	w.clusters = make(map[string]*v1alpha1.ClusterRegistration, len(registrations))
	for _, r := range registrations {
		w.clusters[r.Name] = r
		if gone[r.Name] != r {
			if err := recovered(func() { w.updateCluster(r, unreadable[r.UID]) }); err != nil {
				result.fail(fmt.Errorf("ClusterRegistration %s: %w", r.Name, err))
				w.clusters[r.Name] = nil // it is read again
			}
		}
		delete(gone, r.Name)
	}
	for name := range gone {
		w.engine.RemoveCluster(w.name, name)
	}
}

func (w *workspace) updateCluster(r *v1alpha1.ClusterRegistration, unreadable decode.Problems) {
	c := snapshot.FromRegistration(r)
	if len(unreadable) > 0 {
		c.Invalid = unreadable.Error()
	}
	if w.engine.SetCluster(w.name, c) && c.Invalid != "" {
		w.event(r, corev1.EventTypeWarning, "InvalidRegistration", "no workloads are placed here: "+c.Invalid)
	}
}
