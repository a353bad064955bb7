package controller

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// slice is one PlacementDecision.
//
// Slices form levels, as in a log-structured store. A few new decisions go to the young slice of their placement, the smallest
// one, so that publishing one decision costs a few kilobytes. When it is full, its decisions move to a large slice with room, and it
// starts over with the next decisions: about one write in ten is large. Many new decisions at once fill slices directly. A
// decision that changes does so in place.
//
// Invariant: a decision that moves between slices never vanishes. The slice that it moves to gains it before the other loses
// it. In between, and after a crash there, both hold it, and the later one is current; if they are equal, they reserve only once.
type slice struct {
	placement, name types.NamespacedName
	// owner is the placement as it is now; nil if it is gone.
	owner *v1alpha1.WorkloadPlacement
	// written is the object as the API server last returned it; nil before it is created.
	written *v1alpha1.PlacementDecision
	// since is when it was written, and shown whether the informer has shown it.
	since time.Time
	shown bool
	// current are the decisions to publish in this slice, durable those in written.
	current, durable map[workloadKey]*entry
	// changed is set while they may differ, unfit while written has two decisions on one workload, or unreadable ones.
	changed, unfit bool
	// unreported is set while written lacks the latest delivery reports, reporting once it is due to be written for them.
	unreported, reporting bool
	// decisions and bytes count the workloads with a current or durable decision, at the larger size of both: a durable decision
	// may have to stay until another slice is written.
	decisions, bytes int
}

// sliceLimits bound a slice, and a young one.
type sliceLimits struct{ decisions, bytes, youngDecisions, youngBytes int }

// defaultLimits keep a slice well below etcd's limit of 1.5 MiB.
var defaultLimits = sliceLimits{decisions: v1alpha1.MaxDecisionsPerSlice, bytes: 512 << 10, youngDecisions: 10, youngBytes: 64 << 10}

func newSlice(placement types.NamespacedName, name string) *slice {
	return &slice{
		placement: placement, name: types.NamespacedName{Namespace: placement.Namespace, Name: name},
		current: map[workloadKey]*entry{}, durable: map[workloadKey]*entry{},
	}
}

// assign assigns a slice to the decisions that have none.
func (s *store) assign() {
	if len(s.unassigned) == 0 {
		return
	}
	batches, seen := map[types.NamespacedName][]workloadKey{}, map[workloadKey]bool{}
	for _, key := range s.unassigned {
		if r := s.records[key]; r != nil && r.current != nil && r.current.slice == nil && !seen[key] {
			batches[r.current.placement], seen[key] = append(batches[r.current.placement], key), true
		}
	}
	s.unassigned = nil
	levels := map[types.NamespacedName][]*slice{}
	for _, sl := range s.sorted() {
		levels[sl.placement] = append(levels[sl.placement], sl)
	}
	for placement, batch := range batches {
		s.assignBatch(placement, levels[placement], batch)
	}
}

func (s *store) assignBatch(placement types.NamespacedName, level []*slice, batch []workloadKey) {
	for !s.small(batch) {
		var target *slice
		for _, sl := range level {
			if sl.fits(s.limits, batch[0], s.records[batch[0]].current) && (target == nil || sl.decisions < target.decisions) {
				target = sl
			}
		}
		if target == nil {
			target = s.add(placement)
			level = append(level, target)
		}
		for first := true; len(batch) > 0; first = false {
			e := s.records[batch[0]].current
			if !first && !target.fits(s.limits, batch[0], e) {
				break
			}
			target.set(batch[0], e)
			batch = batch[1:]
		}
	}
	if len(batch) == 0 {
		return
	}
	young := s.young(level, batch)
	if young == nil {
		young = s.add(placement)
	}
	for _, key := range batch {
		young.set(key, s.records[key].current)
	}
}

// small reports whether a young slice takes the current decisions on these workloads.
func (s *store) small(keys []workloadKey) bool {
	bytes := 0
	for _, key := range keys {
		bytes += s.records[key].current.bytes
	}
	return len(keys) <= s.limits.youngDecisions && bytes <= s.limits.youngBytes
}

// young returns the young slice of a placement with room for a small batch, nil if a new one is needed. If the batch
// would make it too large, the decisions in it move to the fullest slice with room for all of them.
func (s *store) young(level []*slice, batch []workloadKey) *slice {
	if len(level) == 0 {
		return nil
	}
	young := slices.MinFunc(level, func(a, b *slice) int { return cmp.Compare(len(a.current), len(b.current)) })
	inside := slices.SortedFunc(maps.Keys(young.current), workloadKey.compare)
	if s.small(append(slices.Clone(inside), batch...)) && s.room(young, batch) {
		return young
	}
	if !s.small(inside) || !s.room(young, batch) {
		return nil
	}
	var large *slice
	for _, sl := range level {
		if sl != young && s.room(sl, inside) && (large == nil || len(sl.current) > len(large.current)) {
			large = sl
		}
	}
	if large == nil {
		return nil // the young slice becomes the next large one
	}
	for _, key := range inside {
		young.unset(key)
		large.set(key, s.records[key].current)
	}
	return young
}

// room reports whether a slice has room for all of the current decisions on these workloads.
func (s *store) room(sl *slice, keys []workloadKey) bool {
	decisions, bytes := sl.decisions, sl.bytes
	for _, key := range keys {
		before, after := sl.size(key, sl.current[key]), sl.size(key, s.records[key].current)
		if bytes += after - before; before == 0 {
			decisions++
		}
	}
	return decisions <= s.limits.decisions && bytes <= s.limits.bytes
}

// fits reports whether a slice has room for a decision. A decision larger than a slice gets one to itself.
func (sl *slice) fits(limits sliceLimits, key workloadKey, e *entry) bool {
	before, after := sl.size(key, sl.current[key]), sl.size(key, e)
	if before == 0 {
		return sl.decisions < limits.decisions && sl.bytes+after <= limits.bytes
	}
	return sl.bytes-before+after <= limits.bytes || sl.decisions == 1
}

// size is what a workload takes up in a slice with a current decision: if that moves away, the durable one may have to stay.
func (sl *slice) size(key workloadKey, current *entry) (bytes int) {
	if current != nil {
		bytes = current.bytes
	}
	if e := sl.durable[key]; e != nil {
		bytes = max(bytes, e.bytes)
	}
	return bytes
}

func (sl *slice) set(key workloadKey, e *entry) {
	sl.count(key, -1)
	sl.current[key], e.slice = e, sl
	sl.count(key, 1)
	sl.changed = sl.changed || sl.durable[key] != e
}

func (sl *slice) unset(key workloadKey) {
	sl.count(key, -1)
	sl.current[key].slice = nil
	delete(sl.current, key)
	sl.count(key, 1)
	sl.changed = true
}

func (sl *slice) count(key workloadKey, sign int) {
	if size := sl.size(key, sl.current[key]); size > 0 {
		sl.decisions, sl.bytes = sl.decisions+sign, sl.bytes+sign*size
	}
}

// add makes a slice with a name that is not taken.
func (s *store) add(placement types.NamespacedName) *slice {
	for i := 0; ; i++ {
		sl := newSlice(placement, sliceName(placement.Name, i))
		if s.slices[sl.name] == nil && !s.taken[sl.name] {
			s.slices[sl.name] = sl
			return sl
		}
	}
}

// avoid keeps the names of other slices from being given to new ones.
func (s *store) avoid(others []*v1alpha1.PlacementDecision) {
	s.taken = make(map[types.NamespacedName]bool, len(others))
	for _, object := range others {
		s.taken[types.NamespacedName{Namespace: object.Namespace, Name: object.Name}] = true
	}
}

// sliceName returns "<placement>-<index>"; the end of a name that is too long is replaced by a hash.
func sliceName(placement string, index int) string {
	const most = 240
	if len(placement) > most {
		sum := sha256.Sum256([]byte(placement))
		placement = placement[:most-9] + "-" + hex.EncodeToString(sum[:4])
	}
	return fmt.Sprintf("%s-%d", placement, index)
}

// sorted returns the slices by name.
func (s *store) sorted() []*slice {
	return slices.SortedFunc(maps.Values(s.slices), func(a, b *slice) int {
		return cmp.Or(strings.Compare(a.name.Namespace, b.name.Namespace), strings.Compare(a.name.Name, b.name.Name))
	})
}

// unconfirmed reports whether there are slices that the informer has not shown as they were written.
func (s *store) unconfirmed() bool {
	for _, sl := range s.slices {
		if sl.written != nil && !sl.shown {
			return true
		}
	}
	return false
}

// pending returns the slices that may not be as they should be, by name.
func (s *store) pending() []*slice {
	return slices.DeleteFunc(s.sorted(), func(sl *slice) bool { return !sl.changed && !sl.unfit && !sl.reporting && sl.describesOwner() })
}

// flush calls write for the slices that are not as they should be, until it returns false; wrote records what is
// written. Gains come before losses: first the slices that gain decisions and wait for nothing, then those that gain some and
// have to keep others until they are durable elsewhere, then the rest.
func (s *store) flush(pending []*slice, write func(*slice, map[workloadKey]*entry) bool) (all bool) {
	for _, due := range []func(gains, waits bool) bool{
		func(gains, waits bool) bool { return gains && !waits },
		func(gains, _ bool) bool { return gains },
		func(_, _ bool) bool { return true },
	} {
		for _, sl := range pending {
			content, gains, waits := s.content(sl)
			if len(content) == 0 && sl.written == nil {
				delete(s.slices, sl.name)
				continue
			}
			if due(gains, waits) && !sl.holds(content) && !write(sl, content) {
				return false
			}
		}
	}
	return true
}

// content returns what a slice is to hold now: its current decisions, and those durable ones whose workload has its current decision in
// another slice where it is not durable yet, so this slice waits for that. It gains decisions that are not durable here.
func (s *store) content(sl *slice) (content map[workloadKey]*entry, gains, waits bool) {
	content = maps.Clone(sl.current)
	for key, e := range sl.current {
		gains = gains || sl.durable[key] != e
	}
	for key, e := range sl.durable {
		if content[key] == nil {
			if r := s.records[key]; r.current != nil && !r.current.durable(key) {
				content[key], waits = e, true
			}
		}
	}
	return content, gains, waits
}

// holds reports whether a slice is written with content, as it should be. A slice without decisions is to be deleted.
func (sl *slice) holds(content map[workloadKey]*entry) bool {
	return maps.Equal(content, sl.durable) && !sl.unfit && !sl.reporting && sl.describesOwner() && len(content) > 0
}

// wrote records what a slice durably holds now; a nil written means that the slice is gone.
func (s *store) wrote(sl *slice, written *v1alpha1.PlacementDecision, content map[workloadKey]*entry, now time.Time) {
	for key, e := range sl.durable {
		if content[key] != e {
			s.changed[key] = true
		}
		if content[key] == nil {
			r := s.records[key]
			r.durable = slices.DeleteFunc(r.durable, func(o *slice) bool { return o == sl })
			if r.current == nil && len(r.durable) == 0 {
				s.forget(key)
			}
		}
	}
	for key := range content {
		if sl.durable[key] == nil {
			s.changed[key] = true
			r := s.record(key)
			r.durable = append(r.durable, sl)
		}
	}
	sl.written, sl.since, sl.shown, sl.durable = written, now, false, content
	sl.changed, sl.unfit, sl.unreported, sl.reporting = !maps.Equal(content, sl.current), false, false, false
	sl.decisions, sl.bytes = len(content), 0
	for _, e := range content {
		sl.bytes += e.bytes
	}
	if written == nil {
		delete(s.slices, sl.name)
	}
}

// describesOwner reports whether the metadata of a slice names its placement. It does not once the placement has been recreated
// with another UID: then the slice would be garbage-collected.
func (sl *slice) describesOwner() bool {
	return sl.written == nil || sl.owner == nil || sl.written.Labels[v1alpha1.LabelPlacement] == placementLabel(sl.owner.Name) &&
		slices.EqualFunc(sl.written.OwnerReferences, ownerReferences(sl.owner), sameOwner)
}

// object is a slice with content as it is to be written.
func (s *store) object(sl *slice, content map[workloadKey]*entry) *v1alpha1.PlacementDecision {
	object := &v1alpha1.PlacementDecision{}
	if sl.written != nil {
		object.ObjectMeta = *sl.written.ObjectMeta.DeepCopy()
	}
	object.Namespace, object.Name = sl.name.Namespace, sl.name.Name
	object.PlacementName = sl.placement.Name
	if label := placementLabel(sl.placement.Name); label != "" {
		metav1.SetMetaDataLabel(&object.ObjectMeta, v1alpha1.LabelPlacement, label)
	}
	if sl.owner != nil {
		object.OwnerReferences = ownerReferences(sl.owner)
	}
	object.Decisions = make([]v1alpha1.WorkloadDecision, 0, len(content))
	for _, key := range slices.SortedFunc(maps.Keys(content), workloadKey.compare) {
		object.Decisions = append(object.Decisions, withDelivery(content[key].decision, s.deliveries[key]))
	}
	object.Count = int32(len(object.Decisions))
	object.Summary = summary(object.Decisions)
	return object
}

// summary describes where the workloads of a slice are: "web: frankfurt, dublin; orders: paris", or, for more than three, how many are
// on each cluster, "frankfurt 60, dublin 40", the most first. Divided replicas are shown: "web: frankfurt x4, dublin x2
// (1 replica waits)".
func summary(decisions []v1alpha1.WorkloadDecision) string {
	parts, separator := []string{}, "; "
	on, waiting := map[string]int{}, int32(0)
	for _, d := range decisions {
		names := make([]string, len(d.Clusters))
		for i, c := range d.Clusters {
			on[c.Name]++
			if names[i] = c.Name; d.Divided {
				names[i] = fmt.Sprintf("%s x%d", c.Name, c.Replicas)
			}
		}
		part := d.Workload.Name + ": " + strings.Join(names, ", ")
		if d.WaitingReplicas > 0 {
			part += fmt.Sprintf(" (%s)", replicasWait(d.WaitingReplicas))
		}
		parts, waiting = append(parts, part), waiting+d.WaitingReplicas
	}
	if len(decisions) > 3 {
		parts, separator = parts[:0], ", "
		for _, name := range slices.SortedFunc(maps.Keys(on), func(a, b string) int {
			return cmp.Or(cmp.Compare(on[b], on[a]), cmp.Compare(a, b))
		}) {
			parts = append(parts, fmt.Sprintf("%s %d", name, on[name]))
		}
	}
	text := strings.Join(parts, separator)
	if len(decisions) > 3 && waiting > 0 {
		text = fmt.Sprintf("(%s) %s", replicasWait(waiting), text) // the end is what gets cut
	}
	if len(text) > maxSummary {
		text = text[:maxSummary] + "..."
	}
	return text
}

// replicasWait returns for example "1 replica waits".
func replicasWait(replicas int32) string {
	if replicas == 1 {
		return "1 replica waits"
	}
	return fmt.Sprintf("%d replicas wait", replicas)
}

// maxSummary is the length in bytes at which a summary is cut.
const maxSummary = 200

// placementLabel is the label of a placement's slices; empty if the placement's name is too long for a label.
func placementLabel(placement string) string {
	if len(placement) > 63 {
		return ""
	}
	return placement
}

func sameOwner(a, b metav1.OwnerReference) bool {
	return a.APIVersion == b.APIVersion && a.Kind == b.Kind && a.Name == b.Name && a.UID == b.UID && ptr.Equal(a.Controller, b.Controller) &&
		ptr.Equal(a.BlockOwnerDeletion, b.BlockOwnerDeletion)
}

func ownerReferences(owner *v1alpha1.WorkloadPlacement) []metav1.OwnerReference {
	return []metav1.OwnerReference{{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "WorkloadPlacement", Name: owner.Name, UID: owner.UID,
		Controller: ptr.To(true),
	}}
}
