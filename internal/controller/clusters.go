package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/panics"
)

// clusterObjects are the objects that a cluster is read from.
type clusterObjects struct {
	registration *v1alpha1.ClusterRegistration
	// usage is nil where there is none.
	usage *v1alpha1.ClusterUsage
	// scores are ordered by name.
	scores []*v1alpha1.ClusterScore
}

func (o clusterObjects) same(p clusterObjects) bool {
	return o.registration == p.registration && o.usage == p.usage && slices.Equal(o.scores, p.scores)
}

// clusterState is a cluster as the engine knows it: the objects it was read from, and why it is unusable.
type clusterState struct {
	clusterObjects
	invalid string
	// mismatched is since when its registration and its usage have been of different clusters, zero if they are of one; settling is set
	// while they may yet agree.
	mismatched time.Time
	settling   bool
	// vain describes what in the registration has no effect.
	vain string
	// scores are its current scores.
	scores []snapshot.Score
	// until is when it has to be read again though its objects are the same; the zero time if never.
	until time.Time
	since
}

// settlesWithin is how long a registration and its usage may be of different clusters before that is a fault: an agent writes one
// after the other, and their watches show them in any order.
const settlesWithin = 5 * time.Second

// fault returns why the cluster is unusable, empty while that may be nothing.
func (c *clusterState) fault() string {
	if c.settling {
		return ""
	}
	return c.invalid
}

// isCurrent reports whether the state still matches the cluster's objects.
func (c *clusterState) isCurrent(objects clusterObjects, now time.Time) bool {
	return c.same(objects) && (c.until.IsZero() || now.Before(c.until))
}

// since records, by our clock, when a cluster first had a condition or taint that workloads leave it for: whoever writes the
// registration can set any time, or none.
type since struct {
	notReady time.Time
	// tainted is keyed by taint of effect NoExecute, with its time cleared; it has only taints that come without a time.
	tainted map[corev1.Taint]time.Time
}

// put sets the times in a cluster, and returns them.
func (s since) put(c *snapshot.Cluster, now time.Time) (next since) {
	if c.NotReady() {
		next.notReady = s.notReady
		if next.notReady.IsZero() {
			next.notReady = now
		}
	}
	c.NotReadySince = next.notReady
	c.Taints = slices.Clone(c.Taints) // the registration belongs to the informer
	for i, t := range c.Taints {
		if t.Effect != corev1.TaintEffectNoExecute || !t.TimeAdded.IsZero() {
			continue
		}
		t.TimeAdded = nil
		added, known := s.tainted[t]
		if !known {
			added = now
		}
		if next.tainted == nil {
			next.tainted = map[corev1.Taint]time.Time{}
		}
		next.tainted[t] = added
		c.Taints[i].TimeAdded = &metav1.Time{Time: added}
	}
	return next
}

// updateClusters brings the fleet up to date. An informer never changes an object but replaces it, so a cluster whose objects
// are still the same pointers is not read again until one of its scores runs out or it has had the time to settle.
func (w *workspace) updateClusters(registrations []*v1alpha1.ClusterRegistration, o *cacheView, result *result) {
	gone, scores, now := maps.Clone(w.clusters), w.scoresByCluster(o), w.now() // published maps never change
	changed := false
	w.clusters = make(map[string]clusterState, len(registrations))
	for _, r := range registrations {
		before := gone[r.Name]
		c := before
		if objects := (clusterObjects{r, o.usages[r.Name], scores[r.Name]}); !c.isCurrent(objects, now) {
			changed = true
			err := panics.Recovered(func() { c = w.updateCluster(objects, before, o.unreadable) })
			if err != nil {
				result.fail(fmt.Errorf("ClusterRegistration %s: %w", r.Name, err))
				c = clusterState{since: before.since} // so that it is read again
			}
		}
		if fault := c.fault(); fault != "" && fault != before.fault() {
			w.event(r, corev1.EventTypeWarning, v1alpha1.InvalidRegistrationReason, "no workloads are placed here: "+fault)
		}
		if !c.until.IsZero() {
			result.within(c.until.Sub(now))
		}
		w.clusters[r.Name] = c
		delete(gone, r.Name)
	}
	for name := range gone {
		changed = true
		w.engine.RemoveCluster(w.name, name)
	}
	if changed {
		w.facts = w.factsHash(registrations)
	}
}

// updateCluster gives a cluster to the engine and returns its state.
func (w *workspace) updateCluster(from clusterObjects, before clusterState, unreadable map[types.UID]decode.Problems) clusterState {
	now := w.now()
	c := snapshot.FromRegistration(from.registration, from.usage)
	after := clusterState{clusterObjects: from, vain: messageOf(lint.Registration(from.registration)), since: before.put(c, now)}
	c.Scores, after.until = snapshot.ScoresOf(from.scores, now)
	after.scores = c.Scores
	switch usage := from.usage; {
	case len(unreadable[from.registration.UID]) > 0:
		c.Invalid = unreadable[from.registration.UID].Error()
	case usage == nil:
	case len(unreadable[usage.UID]) > 0:
		c.Invalid = "ClusterUsage: " + unreadable[usage.UID].Error()
	case usage.ClusterUID != from.registration.Status.ClusterUID:
		if after.mismatched = before.mismatched; after.mismatched.IsZero() {
			after.mismatched = now
		}
		settled := after.mismatched.Add(settlesWithin)
		if after.settling = now.Before(settled); after.settling && (after.until.IsZero() || settled.Before(after.until)) {
			after.until = settled
		}
	}
	after.invalid = c.Invalid
	if _, err := w.engine.SetCluster(w.name, c); err != nil {
		after.invalid = err.Error()
	}
	return after
}

// scoresByCluster returns the ClusterScores by the name of their cluster, each ordered by name. A score that cannot be read in full
// is left out and reported by an event.
func (w *workspace) scoresByCluster(o *cacheView) map[string][]*v1alpha1.ClusterScore {
	scores, faults := map[string][]*v1alpha1.ClusterScore{}, map[types.UID]string{}
	for _, s := range o.scores {
		problems := o.unreadable[s.UID]
		if len(problems) == 0 {
			scores[s.ClusterName] = append(scores[s.ClusterName], s)
			continue
		}
		if faults[s.UID] = problems.Error(); faults[s.UID] != w.scoreFaults[s.UID] {
			w.event(s, corev1.EventTypeWarning, "InvalidScore", "the scores have no effect: "+faults[s.UID])
		}
	}
	for _, of := range scores {
		slices.SortFunc(of, func(a, b *v1alpha1.ClusterScore) int { return strings.Compare(a.Name, b.Name) })
	}
	w.scoreFaults = faults
	return scores
}
