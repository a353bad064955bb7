package delivery

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// slot is the planned content of a Work.
type slot struct {
	name types.NamespacedName
	// work is the Work as it is now; nil if it does not exist yet.
	work *v1alpha1.Work
	// manifests and keys are its planned content.
	manifests []*v1alpha1.Manifest
	keys      []objectKey
	bytes     int
	workloads int
	changed   bool
}

func newSlot(name types.NamespacedName, work *v1alpha1.Work, keys index) *slot {
	s := &slot{name: name, work: work}
	for i := range keys {
		s.add(keys[i], &work.Spec.Manifests[i])
	}
	return s
}

func (s *slot) add(key objectKey, m *v1alpha1.Manifest) {
	s.manifests, s.keys = append(s.manifests, m), append(s.keys, key)
	s.bytes += sizeOf(m)
	if m.WorkloadUID != "" {
		s.workloads++
	}
}

// index returns the index of the Work once it is written.
func (s *slot) index() index { return s.keys }

// object returns the Work to write.
func (s *slot) object(c *Cluster) *v1alpha1.Work {
	w := &v1alpha1.Work{}
	if s.work != nil {
		s.work.ObjectMeta.DeepCopyInto(&w.ObjectMeta)
	}
	w.Namespace, w.Name = s.name.Namespace, s.name.Name
	if len(validation.IsValidLabelValue(c.Name)) == 0 {
		metav1.SetMetaDataLabel(&w.ObjectMeta, v1alpha1.LabelCluster, c.Name)
	}
	w.OwnerReferences = owners(c)
	w.Spec.Workloads = int32(s.workloads)
	w.Spec.Manifests = make([]v1alpha1.Manifest, len(s.manifests))
	since := s.since()
	for i, m := range s.manifests {
		w.Spec.Manifests[i] = *m
		if before, stays := since[m.Revision]; stays {
			w.Spec.Manifests[i].Since = before
		} else {
			w.Spec.Manifests[i].Since = w.Generation + 1 // once it is written
		}
	}
	w.Spec.Departed = s.departed()
	return w
}

// departed returns the workloads that have left the Work, or leave it now, and that the agent has not reported on yet: the latest ones, as
// many as fit into a Work.
func (s *slot) departed() (departed []v1alpha1.DepartedWorkload) {
	if s.work == nil {
		return nil
	}
	known := make(map[types.UID]bool, len(s.manifests))
	for _, m := range s.manifests {
		known[m.WorkloadUID] = true
	}
	for _, d := range s.work.Spec.Departed {
		if !known[d.WorkloadUID] && d.Generation > s.work.Status.ObservedGeneration {
			departed = append(departed, d)
		}
	}
	for i := range s.work.Status.Manifests {
		known[s.work.Status.Manifests[i].WorkloadUID] = true
	}
	for i := range s.work.Spec.Manifests {
		m := &s.work.Spec.Manifests[i]
		if m.WorkloadUID == "" || known[m.WorkloadUID] {
			continue
		}
		if r, readable := (&Copy{Manifest: m}).Reference(); readable {
			departed = append(departed, v1alpha1.DepartedWorkload{Generation: s.work.Generation + 1, ManifestReference: v1alpha1.ManifestReference{
				APIVersion: r.APIVersion, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, WorkloadUID: m.WorkloadUID,
			}})
		}
	}
	return departed[max(0, len(departed)-v1alpha1.MaxManifestsPerWork):]
}

// since returns the generation at which the Work got each of its revisions.
func (s *slot) since() map[string]int64 {
	if s.work == nil {
		return nil
	}
	since := make(map[string]int64, len(s.work.Spec.Manifests))
	for i := range s.work.Spec.Manifests {
		m := &s.work.Spec.Manifests[i]
		since[m.Revision] = m.Since
	}
	return since
}

// owners returns the owner references that tie a Work to the registration of its cluster.
func owners(c *Cluster) []metav1.OwnerReference {
	return []metav1.OwnerReference{{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterRegistration", Name: c.Name, UID: c.UID, Controller: ptr.To(true),
	}}
}

// owned reports whether a Work belongs to the current registration, and not to an earlier one of the same name.
func owned(w *v1alpha1.Work, c *Cluster) bool { return reflect.DeepEqual(w.OwnerReferences, owners(c)) }

// sizeOf estimates the size of a manifest in bytes.
func sizeOf(m *v1alpha1.Manifest) int { return len(m.Object.Raw) + 400 + 150*len(m.Needs) }

// sameManifest reports whether two manifests are equal.
func sameManifest(a, b *v1alpha1.Manifest) bool {
	return a == b || a.Revision == b.Revision && a.WorkloadUID == b.WorkloadUID && ptr.Equal(a.Replicas, b.Replicas) && slices.Equal(a.Needs, b.Needs)
}

// workLimits bound Works.
type workLimits struct {
	workloads, manifests, bytes int
	// freshBytes is the size up to which a Work takes new objects, leaving room for existing ones to grow.
	freshBytes int
	// few is how many workloads the smallest Works hold before more Works are made; every bytesOfOne bytes count as one workload.
	few, bytesOfOne int
}

var defaultWorkLimits = workLimits{
	workloads: v1alpha1.MaxWorkloadsPerWork, manifests: v1alpha1.MaxManifestsPerWork, bytes: v1alpha1.MaxWorkBytes,
	freshBytes: v1alpha1.MaxWorkBytes / 2, few: 10, bytesOfOne: 8 << 10,
}

// refusal is a change of an object for which there is no room.
type refusal struct {
	uid types.UID
	why string
}

// pack assigns each wanted object to a Work. Invariant: an object stays in the Work that has it, so none is ever in two.
//
// New objects go where that makes the smallest write. A few objects go to the smallest Work with room, until that has as
// many workloads as the cluster has Works: so the size of a write grows with the square root of what the cluster runs. Many objects fill
// up Works.
func (c *clusterPlan) pack() (refused []refusal) {
	placed := make(map[objectKey]bool, len(c.wanted))
	for _, s := range c.slots {
		refused = append(refused, c.renew(s, placed)...)
	}
	var fresh []unit
	weight := 0
	for _, u := range c.units {
		u.keys = slices.DeleteFunc(slices.Clone(u.keys), func(key objectKey) bool { return placed[key] })
		for _, key := range u.keys {
			placed[key] = true
			weight += c.limits.weigh(1, sizeOf(c.wanted[key].Manifest))
		}
		if len(u.keys) > 0 {
			fresh = append(fresh, u)
		}
	}
	if len(fresh) <= c.few() && weight <= 2*c.few() {
		c.placeFew(fresh)
	} else {
		c.placeMany(fresh)
	}
	return refused
}

// renew updates the content of a Work.
func (c *clusterPlan) renew(s *slot, placed map[objectKey]bool) (refused []refusal) {
	manifests, keys := s.manifests, s.keys
	s.manifests, s.keys, s.bytes, s.workloads = make([]*v1alpha1.Manifest, 0, len(manifests)), make([]objectKey, 0, len(keys)), 0, 0
	var changed []int
	for i, key := range keys {
		wanted := c.wanted[key]
		if wanted == nil || placed[key] {
			s.changed = true
			continue
		}
		placed[key] = true
		if sameManifest(wanted.Manifest, manifests[i]) {
			s.add(key, manifests[i])
			continue
		}
		changed = append(changed, len(s.keys))
		s.add(key, wanted.Manifest)
	}
	// If the Work exceeds its limit, objects that have grown stay as they were, largest growth first.
	before := make(map[objectKey]*v1alpha1.Manifest, len(changed))
	for i, key := range keys {
		if before[key] == nil {
			before[key] = manifests[i]
		}
	}
	growth := func(at int) int { return sizeOf(s.manifests[at]) - sizeOf(before[s.keys[at]]) }
	slices.SortFunc(changed, func(a, b int) int { return cmp.Compare(growth(b), growth(a)) })
	for s.bytes > c.limits.bytes && len(changed) > 0 && growth(changed[0]) > 0 {
		key := s.keys[changed[0]]
		s.bytes -= growth(changed[0])
		s.manifests[changed[0]] = before[key]
		changed = changed[1:]
		why := fmt.Sprintf("%s %s has grown, and its Work %s has no room for that: it stays as it was", key.Kind, key.Name, s.name)
		for _, u := range c.units {
			if slices.Contains(u.keys, key) {
				refused = append(refused, refusal{u.uid, why})
			}
		}
	}
	s.changed = s.changed || len(changed) > 0
	return refused
}

// weigh returns the weight of objects in Works that are kept small.
func (l *workLimits) weigh(count, bytes int) int { return max(count, bytes/l.bytesOfOne) }

// few returns how many new objects count as a few, and how many workloads a small Work holds.
func (c *clusterPlan) few() int { return max(c.limits.few, len(c.slots)) }

// room reports whether a Work has room for new objects.
func (c *clusterPlan) room(s *slot, keys []objectKey) bool {
	bytes, workloads := s.bytes, s.workloads
	for _, key := range keys {
		m := c.wanted[key].Manifest
		bytes += sizeOf(m)
		if m.WorkloadUID != "" {
			workloads++
		}
	}
	return len(s.keys) == 0 && len(keys) == 1 ||
		bytes <= c.limits.freshBytes && workloads <= c.limits.workloads && len(s.keys)+len(keys) <= c.limits.manifests
}

// placeFew puts new objects where that makes the smallest write.
func (c *clusterPlan) placeFew(fresh []unit) {
	for _, u := range fresh {
		var best *slot
		for _, s := range c.slots {
			if !c.room(s, u.keys) || !s.changed && c.limits.weigh(s.workloads, s.bytes) >= c.few() {
				continue
			}
			if best == nil || s.changed && !best.changed || s.changed == best.changed && s.bytes < best.bytes {
				best = s
			}
		}
		c.place(best, u.keys)
	}
}

// placeMany fills up Works, the emptiest first.
func (c *clusterPlan) placeMany(fresh []unit) {
	order := slices.Clone(c.slots)
	slices.SortStableFunc(order, func(a, b *slot) int { return cmp.Compare(a.bytes, b.bytes) })
	for _, u := range fresh {
		if !c.room(&slot{}, u.keys) {
			c.place(nil, u.keys)
			continue
		}
		for len(order) > 0 && !c.room(order[0], u.keys) {
			order = order[1:]
		}
		var s *slot
		if len(order) > 0 {
			s = order[0]
		}
		if last := c.place(s, u.keys); s == nil && last != nil {
			order = append(order, last)
		}
	}
}

// place puts objects into a Work with room, or into new ones.
func (c *clusterPlan) place(s *slot, keys []objectKey) *slot {
	if s == nil {
		s = c.add()
	}
	if c.room(s, keys) {
		for _, key := range keys {
			s.add(key, c.wanted[key].Manifest)
		}
		s.changed = true
		return s
	}
	for _, key := range keys { // a workload that does not fit into one Work
		if !c.room(s, []objectKey{key}) {
			s = c.add()
		}
		s.add(key, c.wanted[key].Manifest)
		s.changed = true
	}
	return s
}

// add makes a Work with an unused name.
func (c *clusterPlan) add() *slot {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("work-%d", i); !c.names[name] {
			c.names[name] = true
			s := &slot{name: types.NamespacedName{Namespace: v1alpha1.WorkNamespace(c.Name), Name: name}}
			c.slots = append(c.slots, s)
			return s
		}
	}
}

// prune removes what is no longer wanted, and changes nothing else.
func (c *clusterPlan) prune() {
	for _, s := range c.slots {
		manifests, keys := s.manifests, s.keys
		s.manifests, s.keys, s.bytes, s.workloads = nil, nil, 0, 0
		for i, key := range keys {
			if c.wanted[key] != nil {
				s.add(key, manifests[i])
			}
		}
		s.changed = len(s.keys) < len(keys)
	}
}

// mayDelete reports whether an empty slot's Work can be deleted without losing anything: its agent has carried that out, or none delivers.
func (c *clusterPlan) mayDelete(s *slot) bool {
	return !c.Delivers || len(s.work.Spec.Manifests) == 0 && s.work.Status.ObservedGeneration == s.work.Generation && len(s.work.Status.Removing) == 0
}
