package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/cache"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
	"github.com/kcp-placement/placement/internal/delivery/render"
)

// rendering makes the manifests of a workspace, and caches them until their inputs change.
//
// Invariant: what is cached is a function of the objects that it names, which are never changed: a new version is a new object.
type rendering struct {
	table   *workload.Table
	objects *render.Objects
	// shown are the companions that the watches last showed, by resource and key; versions are the number of their last change by namespace.
	shown    map[schema.GroupVersionResource]map[string]*unstructured.Unstructured
	versions map[string]int
	changes  int
	// hides returns why a kind of companions cannot be read, nil if it can.
	hides func(schema.GroupKind) *hidden

	workloads  map[types.UID]*renderedWorkload
	companions map[companionKey]*renderedCompanion
	overrides  map[types.NamespacedName]*compiledOverrides
	// round counts the rounds. What the last round has not used is dropped.
	round int
}

// renderedWorkload is the cache for one workload.
type renderedWorkload struct {
	source  *delivery.Source
	version int
	needs   *render.Needs
	err     error
	with    []*unstructured.Unstructured
	missing []render.Reference
	// divided are the shares of clusters, given these replicas and the revisions that clusters had before; left is what no cluster has.
	divided  map[string]render.Share
	left     int64
	replicas map[string]int32
	before   map[string]string
	// clusters holds its manifests by cluster.
	clusters map[string]*renderedManifest
	round    int
}

type renderedManifest struct {
	with           []*unstructured.Unstructured
	changes        *render.Changes
	replicas       int32
	share          render.Share
	whenUnselected v1alpha1.UnselectedAction
	manifest       *v1alpha1.Manifest
	err            error
}

type companionKey struct {
	object  *unstructured.Unstructured
	changes *render.Changes
}

type renderedCompanion struct {
	manifest *v1alpha1.Manifest
	err      error
	round    int
}

type compiledOverrides struct {
	placement *v1alpha1.WorkloadPlacement
	overrides *render.Overrides
	errs      field.ErrorList
	round     int
}

func newRendering(table *workload.Table) *rendering {
	return &rendering{
		table: table, objects: render.NewObjects(table), shown: map[schema.GroupVersionResource]map[string]*unstructured.Unstructured{}, versions: map[string]int{},
		workloads: map[types.UID]*renderedWorkload{}, companions: map[companionKey]*renderedCompanion{}, overrides: map[types.NamespacedName]*compiledOverrides{},
	}
}

// show takes over the companions of a resource from a watch.
func (r *rendering) show(resource schema.GroupVersionResource, objects []any) {
	before, now := r.shown[resource], make(map[string]*unstructured.Unstructured, len(objects))
	for _, object := range objects {
		u, ok := object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		key := cache.ObjectName{Namespace: u.GetNamespace(), Name: u.GetName()}.String()
		if now[key] = u; before[key] != u {
			r.objects.Put(u)
			r.changed(u)
		}
	}
	for key, u := range before {
		if now[key] == nil {
			r.objects.Delete(u.GroupVersionKind().GroupKind(), u.GetNamespace(), u.GetName())
			r.changed(u)
		}
	}
	r.shown[resource] = now
}

// changed makes the workloads in the namespace of a companion be rendered again.
func (r *rendering) changed(u *unstructured.Unstructured) {
	r.changes++
	r.versions[u.GetNamespace()] = r.changes
}

// shows reports whether a companion is shown.
func (r *rendering) shows(m v1alpha1.ManifestReference) bool {
	resource, found := companionResource(m)
	return found && r.shown[resource][cache.ObjectName{Namespace: m.Namespace, Name: m.Name}.String()] != nil
}

// forget drops what the last round has not used, and begins another round.
func (r *rendering) forget() {
	maps.DeleteFunc(r.workloads, func(_ types.UID, w *renderedWorkload) bool { return w.round < r.round })
	maps.DeleteFunc(r.companions, func(_ companionKey, c *renderedCompanion) bool { return c.round < r.round })
	maps.DeleteFunc(r.overrides, func(_ types.NamespacedName, c *compiledOverrides) bool { return c.round < r.round })
	used := sets.New[string]()
	for _, w := range r.workloads {
		used.Insert(w.source.Namespace)
	}
	maps.DeleteFunc(r.versions, func(namespace string, _ int) bool { return !used.Has(namespace) })
	r.round++
}

// render makes the manifests of a workload for its clusters.
func (r *rendering) render(a *delivery.Assignment, shares []delivery.Share) []delivery.Rendered {
	all := make([]delivery.Rendered, len(shares))
	w := r.read(a.Source)
	if w.err != nil {
		return refuse(all, v1alpha1.FailedReason, w.err)
	}
	overrides := r.compile(a.Placement)
	if len(overrides.errs) > 0 {
		return refuse(all, v1alpha1.OverridesInvalidReason, overrides.errs.ToAggregate())
	}
	var object *unstructured.Unstructured // decoded only if a manifest has to be made
	decoded := func() (*unstructured.Unstructured, error) {
		if object == nil {
			object = &unstructured.Unstructured{}
			if err := json.Unmarshal(a.Manifest, &object.Object); err != nil {
				return nil, err
			}
		}
		return object, nil
	}
	divided, err := r.divide(a, w, shares, decoded)
	if err != nil {
		return refuse(all, v1alpha1.FailedReason, err)
	}
	for i, s := range shares {
		made := w.clusters[s.Name]
		changes := overrides.overrides.For(render.Cluster{Name: s.Name, Location: s.Location, Labels: s.Labels})
		when := a.Placement.Spec.Delivery.WhenUnselected
		if made == nil || !slices.Equal(made.with, w.with) || made.changes != changes || made.replicas != s.Replicas ||
			!maps.Equal(made.share, divided[s.Name]) || made.whenUnselected != when {
			made = &renderedManifest{with: w.with, changes: changes, replicas: s.Replicas, share: divided[s.Name], whenUnselected: when}
			if made.err = r.make(made, decoded); made.err == nil && s.Before != nil && s.Before.Revision == made.manifest.Revision {
				made.manifest.Object = s.Before.Object // share one copy in memory
			}
			w.clusters[s.Name] = made
		}
		all[i] = r.rendered(s.Name, w, made)
	}
	if a.Divided && w.left > 0 && len(all) > 0 {
		all[0].Problems = append(all[0].Problems, delivery.Problem{Reason: v1alpha1.NotPlacedReason, Message: fmt.Sprintf(
			"%d completions are no cluster's: they wait for one that has none of this %s yet, since what a copy has to complete cannot be changed", w.left, a.Kind)})
	}
	return all
}

// make makes a manifest.
func (r *rendering) make(m *renderedManifest, decoded func() (*unstructured.Unstructured, error)) error {
	object, err := decoded()
	if err != nil {
		return err
	}
	manifest, err := render.Workload(render.Request{
		Kinds: r.table, Workload: object, With: m.with, Changes: m.changes, Replicas: &m.replicas, Share: m.share, WhenUnselected: m.whenUnselected,
	})
	m.manifest = &manifest
	return err
}

// rendered returns what a cluster is to have of a workload and its companions.
func (r *rendering) rendered(cluster string, w *renderedWorkload, m *renderedManifest) (d delivery.Rendered) {
	problem := func(reason string, err error) {
		d.Problems = append(d.Problems, delivery.Problem{Cluster: cluster, Reason: reason, Message: err.Error()})
	}
	if m.err != nil {
		problem(reasonOf(m.err, m.changes), m.err)
		return d
	}
	d.Workload = m.manifest
	for _, object := range m.with {
		c := delivery.Companion{ManifestReference: v1alpha1.ManifestReference{
			APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Namespace: object.GetNamespace(), Name: object.GetName(),
		}}
		made := r.companion(companionKey{object, m.changes})
		if made.err != nil {
			problem(reasonOf(made.err, m.changes), made.err)
		} else {
			c.Manifest = made.manifest
		}
		d.With = append(d.With, c)
	}
	for _, missing := range w.missing {
		reason, message := v1alpha1.MissingReferenceReason, missing.String()
		if h := r.hides(missing.GroupKind); h != nil {
			reason, message = h.reason, fmt.Sprintf("%s refers to %s %s, which is not delivered: %s", missing.Field, missing.Kind, missing.Name, h)
		}
		d.Problems = append(d.Problems, delivery.Problem{Reason: reason, Message: message})
	}
	return d
}

func (r *rendering) companion(key companionKey) *renderedCompanion {
	made := r.companions[key]
	if made == nil {
		manifest, err := render.Companion(key.object, key.changes)
		made = &renderedCompanion{manifest: &manifest, err: err}
		r.companions[key] = made
	}
	made.round = r.round
	return made
}

// read determines the companions of a workload.
func (r *rendering) read(source *delivery.Source) *renderedWorkload {
	w := r.workloads[types.UID(source.UID)]
	if w == nil || w.source != source {
		before := w
		w = &renderedWorkload{source: source, version: -1, clusters: map[string]*renderedManifest{}}
		if before != nil && string(before.source.Manifest) == string(source.Manifest) {
			w.needs, w.err, w.clusters = before.needs, before.err, before.clusters // only its status has changed
		} else {
			object := &unstructured.Unstructured{}
			if w.err = json.Unmarshal(source.Manifest, &object.Object); w.err == nil {
				w.needs, w.err = render.NeedsOf(r.table, object)
			}
		}
		r.workloads[types.UID(source.UID)] = w
	}
	w.round = r.round
	if version := r.versions[source.Namespace]; w.err == nil && w.version != version {
		w.with, w.missing = r.objects.With(w.needs)
		w.version = version
	}
	return w
}

// compile returns the compiled overrides of a placement, which stay the same as long as the overrides do, whatever happens to its status.
func (r *rendering) compile(p *v1alpha1.WorkloadPlacement) *compiledOverrides {
	c := r.overrides[namespacedName(p)]
	if c == nil || c.placement != p && !equality.Semantic.DeepEqual(c.placement.Spec.Delivery.Overrides, p.Spec.Delivery.Overrides) {
		c = &compiledOverrides{}
		c.overrides, c.errs = render.CompileOverrides(p)
		r.overrides[namespacedName(p)] = c
	}
	c.placement, c.round = p, r.round
	return c
}

// divide returns the share of each cluster; nil if replicas are not divided.
func (r *rendering) divide(a *delivery.Assignment, w *renderedWorkload, shares []delivery.Share, decoded func() (*unstructured.Unstructured, error)) (map[string]render.Share, error) {
	if !a.Divided {
		return nil, nil
	}
	replicas, before, revisions := map[string]int32{}, map[string]*v1alpha1.Manifest{}, map[string]string{}
	for _, s := range shares {
		if replicas[s.Name] = s.Replicas; s.Before != nil {
			before[s.Name], revisions[s.Name] = s.Before, s.Before.Revision
		}
	}
	if w.divided != nil && maps.Equal(w.replicas, replicas) && maps.Equal(w.before, revisions) {
		return w.divided, nil
	}
	object, err := decoded()
	if err != nil {
		return nil, err
	}
	w.replicas, w.before = replicas, revisions
	w.divided, w.left, err = render.Divide(r.table, object, replicas, before)
	return w.divided, err
}

// refuse makes all clusters keep what they have.
func refuse(all []delivery.Rendered, reason string, err error) []delivery.Rendered {
	for i := range all {
		all[i].Problems = []delivery.Problem{{Reason: reason, Message: err.Error()}}
	}
	return all
}

// reasonOf returns the reason why something cannot be rendered.
func reasonOf(err error, changes *render.Changes) string {
	var tooLarge render.TooLargeError
	switch {
	case errors.As(err, &tooLarge):
		return v1alpha1.TooLargeReason
	case changes != nil:
		return v1alpha1.OverridesInvalidReason
	default:
		return v1alpha1.NotAppliedReason
	}
}
