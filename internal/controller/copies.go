package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/outcome"
)

// copied is the local copy of a slice that is kept in another workspace, as the API server last returned it.
type copied struct {
	object *v1alpha1.PlacementDecision
	// of is the version of the slice that was copied; at is when it was written, shown whether the informer has shown the copy.
	of    string
	at    time.Time
	shown bool
	// failure is why it could not be written.
	failure *writeFailure
}

// decisionDiscarded is the reason of events about PlacementDecisions that do not match the kept slices.
const decisionDiscarded = "DecisionDiscarded"

// updateCopies brings the PlacementDecisions of a workspace on shared clusters in line with the slices that are kept for it, so that
// people and tools can read them.
//
// Invariant: a copy is never read as a promise. A copy that was edited or deleted is restored.
func (w *workspace) updateCopies(ctx context.Context, o *cacheView, r *result) {
	if w.host == nil {
		return
	}
	seen := make(map[types.NamespacedName]*v1alpha1.PlacementDecision, len(o.copies))
	for _, c := range o.copies {
		seen[namespacedName(c)] = c
	}
	before := w.copied
	w.copied = make(map[types.NamespacedName]*copied, len(w.store.slices))
	for _, sl := range w.store.sorted() {
		if sl.written == nil {
			continue
		}
		c := before[sl.name]
		if c == nil {
			c = &copied{}
		}
		delete(before, sl.name)
		w.copied[sl.name] = c
		w.updateCopy(ctx, sl.written, c, seen[sl.name], r)
	}
	for _, name := range slices.SortedFunc(maps.Keys(seen), compareNames) {
		c := seen[name]
		if w.copied[name] != nil {
			continue
		}
		if before[name] == nil && !isCopy(c) {
			w.event(c, corev1.EventTypeWarning, decisionDiscarded, "nothing of this workspace is decided here: what is promised on shared clusters is kept with the clusters")
		}
		if err := w.own.deleteDecision(ctx, c); err != nil && !outcome.Conflicts(err) {
			r.fail(fmt.Errorf("deleting the copy %s of a PlacementDecision: %w", name, err))
		}
	}
}

// updateCopy brings a copy in line with its slice.
func (w *workspace) updateCopy(ctx context.Context, slice *v1alpha1.PlacementDecision, c *copied, seen *v1alpha1.PlacementDecision, r *result) {
	now, latest, wanted := w.now(), seen, copyOf(slice, w.host.name.String())
	if c.object != nil {
		switch {
		case seen != nil && seen.UID == c.object.UID && outcome.Newer(c.object.ResourceVersion, seen.ResourceVersion),
			seen == nil && !c.shown && now.Sub(c.at) < confirmWithin:
			latest = c.object // the informer is about to show it
			r.within(confirmWithin)
		case seen != nil:
			c.shown = true
		}
	}
	if latest != nil && sameCopy(latest, wanted) {
		c.object, c.of = latest, slice.ResourceVersion
		return
	}
	wait := time.Duration(0)
	spoilt := c.object != nil && c.of == slice.ResourceVersion
	if spoilt {
		wait = c.at.Add(reportEvery).Sub(now) // however often it is edited
	}
	if c.failure != nil {
		wait = max(wait, c.failure.retryAt.Sub(now))
	}
	if wait > 0 {
		r.within(wait)
		return
	}
	if latest != nil {
		wanted.ResourceVersion, wanted.UID = latest.ResourceVersion, latest.UID
	}
	written, err := w.own.writeDecision(ctx, wanted)
	if err != nil {
		c.failure = c.failure.again(err, now)
		r.within(c.failure.backOff)
		if !outcome.Conflicts(err) && !apierrors.IsNotFound(err) { // otherwise the informer is about to show the current state
			r.fail(fmt.Errorf("the copy %s/%s of a PlacementDecision: %w", wanted.Namespace, wanted.Name, err))
		}
		return
	}
	if spoilt {
		w.event(written, corev1.EventTypeWarning, decisionDiscarded, "this copy of what is kept with the shared clusters was edited or deleted and has been put right: nothing else has changed by that")
	}
	*c = copied{object: written, of: slice.ResourceVersion, at: now}
	r.within(confirmWithin)
}

// copyOf returns the copy of a slice for its own workspace.
func copyOf(slice *v1alpha1.PlacementDecision, fleet string) *v1alpha1.PlacementDecision {
	return &v1alpha1.PlacementDecision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: slice.Namespace, Name: slice.Name, Labels: copiedLabels(slice), OwnerReferences: slice.OwnerReferences,
			Annotations: map[string]string{v1alpha1.AnnotationCopyOf: fleet},
		},
		PlacementName: slice.PlacementName, Count: slice.Count, Summary: slice.Summary, Decisions: slice.Decisions,
	}
}

func copiedLabels(d *v1alpha1.PlacementDecision) map[string]string {
	if label, found := d.Labels[v1alpha1.LabelPlacement]; found {
		return map[string]string{v1alpha1.LabelPlacement: label}
	}
	return nil
}

// isCopy reports whether a PlacementDecision is a copy of a slice that is kept elsewhere.
func isCopy(d *v1alpha1.PlacementDecision) bool {
	return d.Annotations[v1alpha1.AnnotationCopyOf] != ""
}

// unseenHost returns the host of a copy that has been listed and is not shown yet, empty if there is none. Until it is shown, it is not known
// which clusters the workspace uses.
func (w *workspace) unseenHost(listed, shown []*v1alpha1.PlacementDecision) logicalcluster.Name {
	for _, d := range listed {
		host := logicalcluster.Name(d.Annotations[v1alpha1.AnnotationCopyOf])
		if host != "" && host != w.name && !slices.ContainsFunc(shown, func(s *v1alpha1.PlacementDecision) bool { return s.UID == d.UID }) {
			return host
		}
	}
	return ""
}

// sameCopy reports whether two copies have the same content.
func sameCopy(a, b *v1alpha1.PlacementDecision) bool {
	return a.PlacementName == b.PlacementName && a.Count == b.Count && a.Summary == b.Summary && a.Source == nil &&
		a.Annotations[v1alpha1.AnnotationCopyOf] == b.Annotations[v1alpha1.AnnotationCopyOf] && maps.Equal(copiedLabels(a), copiedLabels(b)) &&
		slices.EqualFunc(a.OwnerReferences, b.OwnerReferences, sameOwner) && equality.Semantic.DeepEqual(a.Decisions, b.Decisions)
}
