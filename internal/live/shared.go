package live

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/offline/manifest"
)

// sharing reads the workspaces that a workspace shares clusters with: those whose sets it binds, as far as clusters are concerned, and
// with --with-teams those that its own sets are granted to.
func (r *reading) sharing(ctx context.Context, own manifest.Live) error {
	for _, b := range typed[v1alpha1.ClusterSetBinding](own, "ClusterSetBinding") {
		of := b.Spec.Workspace.String()
		switch err := r.clusters(ctx, of); {
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			r.standIn(own, b)
		case err != nil:
			return fmt.Errorf("reading the clusters of workspace %s: %w", of, err)
		}
	}
	teams := map[string]bool{}
	for _, set := range typed[v1alpha1.ClusterSet](own, "ClusterSet") {
		for i := range set.Spec.Grants {
			teams[set.Spec.Grants[i].Workspace.String()] = true
		}
	}
	if len(teams) > 0 && !r.Teams {
		r.note("The workspaces of %d grants are known by their decisions only: --with-teams reads them, too.", len(teams))
		return nil
	}
	for team := range teams {
		switch _, err := r.workspace(ctx, team); {
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			r.note("Workspace %s cannot be read, and is known by its decisions only: %v", team, err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			r.note("Workspace %s is known by its decisions only: %v", team, err)
		}
	}
	if len(teams) > 0 {
		r.answer.About = ""
	}
	return nil
}

// typed returns the objects of one of our kinds that can be read.
func typed[T any](live manifest.Live, kind string) (all []*T) {
	for _, o := range live.Objects {
		if o.GroupVersionKind().Group != v1alpha1.SchemeGroupVersion.Group || o.GetKind() != kind {
			continue
		}
		if object, problems := decode.To[T](o.Object); len(problems) == 0 {
			all = append(all, &object)
		}
	}
	return all
}

// clusters reads what a workspace says of clusters, and of what is promised there.
func (r *reading) clusters(ctx context.Context, path string) error {
	var objects []*unstructured.Unstructured
	for _, resource := range ours("clusterregistrations", "clusterusages", "clusterscores", "clustersets", "placementdecisions") {
		some, err := r.from.list(ctx, path, resource, "")
		if err != nil {
			return err
		}
		objects = append(objects, some...)
	}
	r.add(path, objects)
	return nil
}

// standIn registers the clusters of a binding as its status tells of them, for those who may not read the registrations.
func (r *reading) standIn(own manifest.Live, b *v1alpha1.ClusterSetBinding) {
	r.note("The clusters of workspace %s may not be read. They are taken to be as the status of ClusterSetBinding %s tells of them, by location and what is free: labels, capabilities and taints are not known, and what asks for these does not match.",
		b.Spec.Workspace, b.Name)
	has := map[string]capacity.Resources{}
	for _, slice := range typed[v1alpha1.PlacementDecision](own, "PlacementDecision") {
		for i := range slice.Decisions {
			reservation, err := engine.ReservationOf(types.NamespacedName{}, &slice.Decisions[i])
			if err != nil {
				continue // what cannot be read is not reserved
			}
			for _, share := range reservation.Shares {
				if !share.Expired {
					has[share.Cluster] = has[share.Cluster].Add(share.Amount)
				}
			}
		}
	}
	for i := range r.all {
		if r.all[i].Name != own.Name {
			continue
		}
		for _, c := range b.Status.Clusters {
			r.all[i].Objects = append(r.all[i].Objects, registrationOf(c, has[c.Name]))
		}
	}
}

// registrationOf is a registration of a cluster with what is free there, beside what the workspace has already.
func registrationOf(c v1alpha1.SharedCluster, has capacity.Resources) *unstructured.Unstructured {
	amounts := map[string]any{}
	if free, err := capacity.FromResourceList(c.Free); err == nil {
		for name, quantity := range free.Add(has).ResourceList() {
			amounts[string(name)] = quantity.String()
		}
	}
	location := c.Location
	if location == "" {
		location = "unknown"
	}
	ready := metav1.ConditionFalse
	if c.Ready {
		ready = metav1.ConditionTrue
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "ClusterRegistration",
		"metadata": map[string]any{"name": c.Name},
		"spec":     map[string]any{"location": location},
		"status": map[string]any{
			"allocatable": amounts,
			"conditions":  []any{map[string]any{"type": string(v1alpha1.ReadyCondition), "status": string(ready), "lastTransitionTime": "1970-01-01T00:00:00Z"}},
		},
	}}
}
