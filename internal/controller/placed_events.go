package controller

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// placedEvery is the least time between two Placed events of a placement. An event for each workload would cost the server
// more than the decisions do.
const placedEvery = 10 * time.Second

// placedEvents collects the workloads placed since the last Placed event of a placement.
type placedEvents struct {
	last      time.Time
	workloads []workloadKey
}

// placedEvent adds a workload to the next Placed event of a placement.
func (w *workspace) placedEvent(placement *v1alpha1.WorkloadPlacement, key workloadKey) {
	e := w.placed[placement.UID]
	if e == nil {
		e = &placedEvents{}
		w.placed[placement.UID] = e
	}
	e.workloads = append(e.workloads, key)
}

// sendPlacedEvents sends the Placed events that are due, and asks r for a pass when the next one is due.
func (w *workspace) sendPlacedEvents(placements []*placementState, r *result) {
	kept := map[types.UID]*placedEvents{}
	for _, p := range placements {
		e := w.placed[p.object.UID]
		if e == nil {
			continue
		}
		if wait := e.last.Add(placedEvery).Sub(w.now()); wait > 0 {
			kept[p.object.UID] = e
			if len(e.workloads) > 0 {
				r.within(wait)
			}
			continue
		}
		published, later := w.splitPublished(e.workloads)
		message := w.describePlaced(namespacedName(p.object), published)
		if message != "" {
			w.event(p.object, corev1.EventTypeNormal, "Placed", message)
			e.last = w.now()
		}
		if e.workloads = later; message != "" || len(later) > 0 {
			kept[p.object.UID] = e
		}
	}
	w.placed = kept
}

// splitPublished separates the workloads whose decisions are durable from the others, each without duplicates.
func (w *workspace) splitPublished(keys []workloadKey) (published, others []workloadKey) {
	seen := map[workloadKey]bool{}
	for _, key := range keys {
		if w.store.published(key) {
			published = append(published, key)
		} else if !seen[key] {
			others, seen[key] = append(others, key), true
		}
	}
	return published, others
}

// describePlaced returns the message of a Placed event. A workload that has since gone or moved to another placement is left
// out, and one that was placed again after a failed write counts once.
func (w *workspace) describePlaced(placement types.NamespacedName, keys []workloadKey) string {
	counted := make(map[workloadKey]bool, len(keys))
	var first []string
	var last v1alpha1.WorkloadDecision
	for _, key := range keys {
		decision, by, found := w.store.get(key)
		if !found || by != placement || counted[key] {
			continue
		}
		counted[key] = true
		last = decision
		if len(first) < maxExamples {
			first = append(first, fmt.Sprintf("%s on %s", key.reference(), strings.Join(clusterNames(decision.Clusters), ", ")))
		}
	}
	switch len(counted) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("placed %s %s on %s", last.Workload.Kind, last.Workload.Name, describe(last.Clusters))
	default:
		return fmt.Sprintf("placed %d workloads: %s", len(counted), andMore(first, len(counted)))
	}
}
