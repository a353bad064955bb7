package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// store is a workspace's PlacementDecisions as the controller knows them to be written, and what it means to write.
// A workload stays in its slice until it goes.
type store struct {
	// slices by namespace and name.
	slices map[types.NamespacedName]*slice
	// where each workload's decision is.
	where map[workloadKey]*slice
	// second are decisions on workloads that stood in another slice, too: they are there until that is written.
	second []second
}

type second struct {
	key      workloadKey
	decision v1alpha1.WorkloadDecision
}

type slice struct {
	// written is the object as the API server last answered; nil before it is created.
	written *v1alpha1.PlacementDecision
	// since is when that was, and shown tells whether the informer has shown it.
	since           time.Time
	shown           bool
	placement, name types.NamespacedName
	decisions       map[workloadKey]v1alpha1.WorkloadDecision
	// dirty tells whether the decisions differ from what is written.
	dirty bool
	// gains tells whether decisions were added since the last write: what a workload gains is written before what
	// another slice loses, so that a decision never vanishes in between.
	gains bool
}

// workloadKey identifies a workload by its name within a workspace.
type workloadKey struct{ apiVersion, kind, namespace, name string }

func keyOf(ref workload.Reference) workloadKey {
	return workloadKey{ref.APIVersion, ref.Kind, ref.Namespace, ref.Name}
}

func keyIn(namespace string, w v1alpha1.WorkloadReference) workloadKey {
	return workloadKey{w.APIVersion, w.Kind, namespace, w.Name}
}

func (k workloadKey) reference() workload.Reference {
	return workload.Reference{APIVersion: k.apiVersion, Kind: k.kind, Namespace: k.namespace, Name: k.name}
}

// newStore reads the slices that the API server has. Where a workload stands in two of them, as it can after a
// crash, the later decision counts and the other is taken out.
func newStore(written []*v1alpha1.PlacementDecision, now time.Time) *store {
	s := &store{slices: map[types.NamespacedName]*slice{}, where: map[workloadKey]*slice{}}
	for _, object := range written {
		sl := &slice{
			written:   object,
			since:     now,
			placement: types.NamespacedName{Namespace: object.Namespace, Name: object.PlacementName},
			name:      types.NamespacedName{Namespace: object.Namespace, Name: object.Name},
			decisions: make(map[workloadKey]v1alpha1.WorkloadDecision, len(object.Decisions)),
			dirty:     int(object.Count) > len(object.Decisions), // some could not be read
		}
		s.slices[sl.name] = sl
		for _, d := range object.Decisions {
			key := keyIn(object.Namespace, d.Workload)
			if other := s.where[key]; other != nil {
				earlier := other.decisions[key]
				if !earlier.DecidedAt.Before(&d.DecidedAt) {
					sl.dirty = true
					s.second = append(s.second, second{key, d})
					continue
				}
				delete(other.decisions, key)
				other.dirty = true
				s.second = append(s.second, second{key, earlier})
			}
			sl.decisions[key] = d
			s.where[key] = sl
		}
	}
	return s
}

// get returns the decision on a workload and the placement that it was made for.
func (s *store) get(key workloadKey) (decision v1alpha1.WorkloadDecision, placement types.NamespacedName, found bool) {
	sl := s.where[key]
	if sl == nil {
		return v1alpha1.WorkloadDecision{}, types.NamespacedName{}, false
	}
	return sl.decisions[key], sl.placement, true
}

// known returns the decisions that the store means to write, and those that it has written. A store that is nil has none.
func (s *store) known() map[workloadKey][]v1alpha1.WorkloadDecision {
	known := map[workloadKey][]v1alpha1.WorkloadDecision{}
	if s == nil {
		return known
	}
	for key, sl := range s.where {
		known[key] = append(known[key], sl.decisions[key])
	}
	for _, sl := range s.slices {
		if sl.written != nil {
			for _, d := range sl.written.Decisions {
				key := keyIn(sl.name.Namespace, d.Workload)
				known[key] = append(known[key], d)
			}
		}
	}
	return known
}

// reservesTheSame tells whether two decisions on one workload promise the same.
func reservesTheSame(a, b v1alpha1.WorkloadDecision) bool {
	return a.Workload == b.Workload && equality.Semantic.DeepEqual(a.Clusters, b.Clusters) && equality.Semantic.DeepEqual(a.Reserved, b.Reserved)
}

// put records the decision on a workload: in its slice if that is the placement's, otherwise in one with room.
func (s *store) put(key workloadKey, placement types.NamespacedName, decision v1alpha1.WorkloadDecision) {
	if sl := s.where[key]; sl != nil && sl.placement != placement {
		s.remove(key)
	}
	sl := s.where[key]
	if sl == nil {
		sl = s.withRoom(placement)
		s.where[key] = sl
	}
	sl.decisions[key] = decision
	sl.dirty, sl.gains = true, true
}

// remove takes the decision on a workload out.
func (s *store) remove(key workloadKey) {
	sl := s.where[key]
	if sl == nil {
		return
	}
	delete(s.where, key)
	delete(sl.decisions, key)
	sl.dirty = true
}

// withRoom returns the first slice of a placement that is not full, a new one where there is none.
func (s *store) withRoom(placement types.NamespacedName) *slice {
	for i := 0; ; i++ {
		name := types.NamespacedName{Namespace: placement.Namespace, Name: sliceName(placement.Name, i)}
		sl := s.slices[name]
		if sl == nil {
			sl = &slice{placement: placement, name: name, decisions: map[workloadKey]v1alpha1.WorkloadDecision{}}
			s.slices[name] = sl
		}
		if len(sl.decisions) < v1alpha1.MaxDecisionsPerSlice && sl.placement == placement {
			return sl
		}
	}
}

// sliceName is "<placement>-<index>", with a hash in place of the end of a name that is too long.
func sliceName(placement string, index int) string {
	const most = 240
	if len(placement) > most {
		sum := sha256.Sum256([]byte(placement))
		placement = placement[:most-9] + "-" + hex.EncodeToString(sum[:4])
	}
	return fmt.Sprintf("%s-%d", placement, index)
}

// unconfirmed tells whether there are slices that the informer has not shown as they were written.
func (s *store) unconfirmed() bool {
	for _, sl := range s.slices {
		if !sl.shown {
			return true
		}
	}
	return false
}

// pending returns the slices that differ from what is written, those with new decisions first.
func (s *store) pending() []*slice {
	var pending []*slice
	for _, sl := range s.slices {
		if sl.dirty {
			pending = append(pending, sl)
		}
	}
	slices.SortFunc(pending, func(a, b *slice) int {
		if a.gains != b.gains {
			if a.gains {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name.String(), b.name.String())
	})
	return pending
}

// object is what is to be written.
func (sl *slice) object(owner *v1alpha1.WorkloadPlacement) *v1alpha1.PlacementDecision {
	object := &v1alpha1.PlacementDecision{}
	if sl.written != nil {
		object = sl.written.DeepCopy()
	}
	object.Namespace, object.Name = sl.name.Namespace, sl.name.Name
	object.PlacementName = sl.placement.Name
	if object.Labels == nil {
		object.Labels = map[string]string{}
	}
	if len(sl.placement.Name) <= 63 { // as much as the value of a label can be
		object.Labels[v1alpha1.LabelPlacement] = sl.placement.Name
	}
	if owner != nil {
		object.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "WorkloadPlacement", Name: owner.Name, UID: owner.UID,
			Controller: ptr.To(true),
		}}
	}
	object.Decisions = make([]v1alpha1.WorkloadDecision, 0, len(sl.decisions))
	for _, d := range sl.decisions {
		object.Decisions = append(object.Decisions, d)
	}
	slices.SortFunc(object.Decisions, func(a, b v1alpha1.WorkloadDecision) int {
		return strings.Compare(a.Workload.APIVersion+"/"+a.Workload.Kind+"/"+a.Workload.Name, b.Workload.APIVersion+"/"+b.Workload.Kind+"/"+b.Workload.Name)
	})
	object.Count = int32(len(object.Decisions))
	return object
}
