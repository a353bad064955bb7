package live

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/sharing"
	"github.com/kcp-placement/placement/offline/manifest"
)

// sharing reads the workspaces that a workspace shares clusters with: those whose sets it binds, as far as clusters are concerned, and
// with --with-teams those that its own sets are granted to.
func (r *reading) sharing(ctx context.Context, own manifest.Live) error {
	var unread []*v1alpha1.ClusterSetBinding
	for _, b := range typed[v1alpha1.ClusterSetBinding](own, "ClusterSetBinding") {
		of := b.Spec.Workspace.String()
		switch err := r.clusters(ctx, of); {
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			unread = append(unread, b)
		case err != nil:
			return fmt.Errorf("reading the clusters of workspace %s: %w", of, err)
		}
	}
	r.standIn(own, unread)
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
	var closed []string // workspaces that cannot be read
	var first error
	for _, team := range slices.Sorted(maps.Keys(teams)) {
		switch _, err := r.workspace(ctx, team); {
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			closed, first = append(closed, team), cmp.Or(first, err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			r.note("Workspace %s is known by its decisions only: %v", team, err)
		}
	}
	switch n := len(closed); {
	case n == 1:
		r.note("Workspace %s cannot be read, and is known by its decisions only: %v", closed[0], first)
	case n > 1:
		r.note("The workspaces of %d grants cannot be read, and are known by their decisions only: %s; of the first: %v", n, strings.Join(closed[:min(n, maxClosed)], ", ")+strings.Repeat(", ...", min(1, n/(maxClosed+1))), first)
	}
	if len(teams) > 0 {
		r.answer.About = ""
	}
	return nil
}

// maxClosed is how many workspaces that cannot be read are named.
const maxClosed = 10

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

// clusters reads the part of a workspace that describes its clusters and what is promised there.
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

// standIn registers clusters for users who may not read the registrations: those in the statuses of bindings, and those on which the
// workspace still has something. The slices that its decisions are copies of may be unreadable too, so the copies count themselves.
func (r *reading) standIn(own manifest.Live, unread []*v1alpha1.ClusterSetBinding) {
	at := slices.IndexFunc(r.all, func(l manifest.Live) bool { return l.Name == own.Name })
	objects := slices.Clone(own.Objects)
	copies := false
	for i, o := range objects {
		if of := o.GetAnnotations()[v1alpha1.AnnotationCopyOf]; o.GetKind() == "PlacementDecision" && of != "" && !r.read[logicalcluster.Name(of)] {
			copies, objects[i] = true, o.DeepCopy()
			unstructured.RemoveNestedField(objects[i].Object, "metadata", "annotations", v1alpha1.AnnotationCopyOf)
		}
	}
	if at < 0 || len(unread) == 0 && !copies {
		return
	}
	has := reserved(own)
	registered := map[string]bool{}
	for _, b := range unread {
		r.note("The clusters of workspace %s may not be read. They are taken to be as the status of ClusterSetBinding %s has told of them within the last minute, by location and what is free: labels, capabilities and taints are not known, and what asks for these does not match.",
			b.Spec.Workspace, b.Name)
		left := leftOf(b, has)
		for _, c := range b.Status.Clusters {
			objects = append(objects, registrationOf(c, has[c.Name], left))
			registered[c.Name] = true
		}
	}
	if copies {
		for _, name := range slices.Sorted(maps.Keys(has)) {
			if !registered[name] {
				r.note("Cluster %s is known by the decisions of this workspace only, which has something there still.", name)
				objects = append(objects, registrationOf(v1alpha1.SharedCluster{Name: name, Ready: true}, has[name], nil))
			}
		}
	}
	r.all[at].Objects = objects
}

// reserved returns how much the decisions of a workspace reserve on each cluster.
func reserved(own manifest.Live) map[string]capacity.Resources {
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
	return has
}

// leftOf returns what current decisions leave of the quota of a binding; they may use more than its status records.
func leftOf(b *v1alpha1.ClusterSetBinding, has map[string]capacity.Resources) map[string]int64 {
	var used capacity.Resources
	for _, c := range b.Status.Clusters {
		used = used.Add(has[c.Name])
	}
	left := sharing.Amounts(b.Status.Quota)
	for name, quota := range left {
		left[name] = max(0, quota-used.Get(name))
	}
	return left
}

// registrationOf returns a registration of a cluster with what is free there within the quotas, plus what the workspace already has.
func registrationOf(c v1alpha1.SharedCluster, has capacity.Resources, left map[string]int64) *unstructured.Unstructured {
	amounts := map[string]any{}
	if free, err := capacity.FromResourceList(c.Free); err == nil {
		for name, amount := range left {
			free = free.Without(capacity.Of(name, max(0, free.Get(name)-amount)))
		}
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
