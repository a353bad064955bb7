package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// placementConfig is the effective PlacementConfig of a workspace.
type placementConfig struct {
	// object is nil where there is none.
	object *v1alpha1.PlacementConfig
	// written is its status as we last wrote it, which the informer may not show yet.
	written *v1alpha1.PlacementConfig
	at      time.Time
	basedOn string
}

// followConfig takes up the PlacementConfig.
//
// Invariant: it stays in effect until the server confirms that it is gone; not being shown is not enough.
func (w *workspace) followConfig(ctx context.Context, o *cacheView, r *result) {
	if o.config == nil && w.config.object != nil {
		name := types.NamespacedName{Name: v1alpha1.PlacementConfigName}
		there, err := w.liveUIDs(ctx, configResource, []types.NamespacedName{name})
		if err != nil {
			r.fail(fmt.Errorf("looking for the PlacementConfig, which is not shown any more: %w", err))
		}
		if err != nil || contains(there, name) {
			r.within(confirmWithin)
			o.config = w.config.object
		}
	}
	if w.config.object == nil && o.config != nil {
		w.rollout = o.config.Status.PolicyRollout.DeepCopy() // as the previous controller left it
	}
	w.config.object = o.config
}

// updateConfig writes the status of the PlacementConfig if it has changed: at once if a condition transitions, otherwise every
// countsEvery.
func (w *workspace) updateConfig(ctx context.Context, placements []*placementState, r *result) {
	c := &w.config
	if c.object == nil {
		c.written = nil
		return
	}
	current := c.object
	if c.written != nil && c.written.UID == current.UID && c.basedOn == current.ResourceVersion {
		current = c.written
	}
	updated := current.DeepCopy()
	if condition := w.suspendedInAll(placements); condition != nil {
		conditions.Set(updated, condition)
	} else {
		conditions.Delete(updated, v1alpha1.SuspendedCondition)
	}
	if condition := w.movesValid(conditions.Get(current, v1alpha1.MovesValidCondition)); condition != nil {
		conditions.Set(updated, condition)
	}
	updated.Status.PolicyRollout = w.rollout.DeepCopy()
	if equality.Semantic.DeepEqual(current.Status, updated.Status) {
		return
	}
	if wait := c.at.Add(countsEvery).Sub(w.now()); wait > 0 && !conditionsTransitioned(current.Status.Conditions, updated.Status.Conditions) && sameStep(current.Status.PolicyRollout, w.rollout) {
		r.within(wait)
		return
	}
	written, err := w.writeConfig(ctx, updated)
	if err != nil {
		r.fail(fmt.Errorf("status of the PlacementConfig: %w", err))
		return
	}
	if !sameStep(current.Status.PolicyRollout, w.rollout) {
		r.again = true // it takes effect
	}
	c.written, c.at, c.basedOn = written, w.now(), c.object.ResourceVersion
}

// sameStep reports whether two rollout statuses have the same candidate, phase and percentage.
func sameStep(a, b *v1alpha1.PolicyRolloutStatus) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Digest == b.Digest && a.Phase == b.Phase && a.Percent == b.Percent
}
