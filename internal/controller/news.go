package controller

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// placedEvery is how often a placement tells which workloads it has placed. An event for each workload would cost the
// server more than the decisions do.
const placedEvery = 10 * time.Second

// news is what a placement has to tell people.
type news struct {
	// told is when it last did.
	told time.Time
	// placed are the workloads that were placed since.
	placed []workloadKey
}

// note that a placement has placed a workload, to be told once that is written.
func (w *workspace) note(placement *v1alpha1.WorkloadPlacement, key workloadKey) {
	n := w.news[placement.UID]
	if n == nil {
		n = &news{}
		w.news[placement.UID] = n
	}
	n.placed = append(n.placed, key)
}

// tellNews has placements tell which workloads they have placed: at once after a while of silence, otherwise all that
// has gathered when the time has come, for which r then asks.
func (w *workspace) tellNews(placements []*owned, r *result) {
	kept := map[types.UID]*news{}
	for _, p := range placements {
		n := w.news[p.object.UID]
		if n == nil {
			continue
		}
		if wait := n.told.Add(placedEvery).Sub(w.now()); wait > 0 {
			kept[p.object.UID] = n
			if len(n.placed) > 0 {
				r.within(wait)
			}
			continue
		}
		if message := w.describePlaced(namespacedName(p.object), n.placed); message != "" {
			w.event(p.object, corev1.EventTypeNormal, "Placed", message)
			kept[p.object.UID] = &news{told: w.now()}
		}
	}
	w.news = kept
}

// describePlaced says what became of workloads that were placed. Those that have gone or moved to another placement
// since are left out, and one that was placed again after a failed write is told once.
func (w *workspace) describePlaced(placement types.NamespacedName, keys []workloadKey) string {
	told := make(map[workloadKey]bool, len(keys))
	var first []string
	var last v1alpha1.WorkloadDecision
	for _, key := range keys {
		decision, by, found := w.store.get(key)
		if !found || by != placement || told[key] {
			continue
		}
		told[key] = true
		last = decision
		if len(first) < maxExamples {
			first = append(first, fmt.Sprintf("%s on %s", key.reference(), strings.Join(clusterNames(decision.Clusters), ", ")))
		}
	}
	switch len(told) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("placed %s %s on %s", last.Workload.Kind, last.Workload.Name, describe(last.Clusters))
	default:
		return fmt.Sprintf("placed %d workloads: %s", len(told), andMore(first, len(told)))
	}
}
