package controller

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/outcome"
)

// store holds the decisions of a workspace: the current ones, and those that its PlacementDecisions durably hold.
//
// Slices are levels, as in a log-structured store. A few new decisions go to the young slice of their placement, the smallest
// one, so that to publish one costs a few kilobytes. When it is full, what is in it moves to a large slice with room, and it
// begins anew with the next decisions: about one write in ten is large. Many new decisions at once fill slices directly. A
// decision that changes does so in place.
//
// Invariant: a decision that moves between slices never vanishes. The slice that it moves to gains it before the other loses
// it. In between, and after a crash there, both hold it, and the later one is current; alike, they reserve once.
type store struct {
	limits  sliceLimits
	slices  map[types.NamespacedName]*slice
	records map[workloadKey]*workloadRecord
	// changed are the workloads whose current decisions, or whether these are durable, have changed.
	changed map[workloadKey]bool
	// placed and defaulted count the current decisions, and those among them that reserve what LimitRanges add; leaving have
	// clusters that their workloads leave.
	placed, defaulted int
	leaving           map[workloadKey]bool
	// unassigned are the workloads whose current decisions have no slice yet.
	unassigned []workloadKey
	// deliveries say how workloads fare on their clusters, by name. They are told in decisions and are no part of them.
	//
	// Invariant: what is told of delivery changes no entry, so it is never a reason to take a decision for a new one.
	deliveries map[workloadKey]map[string]v1alpha1.ClusterDelivery
}

// tellEvery is the least time between two writes of a slice for the sake of what is told of delivery alone. tellEach is added for each
// cluster that a workload of the slice is on its way to: in a burst, one write tells of many.
const (
	tellEvery = 2 * time.Second
	tellEach  = 100 * time.Millisecond
)

// sliceLimits bound a slice, and what counts as a young one.
type sliceLimits struct{ decisions, bytes, youngDecisions, youngBytes int }

// defaultLimits keep a slice well below what etcd takes, which is 1.5 MiB.
var defaultLimits = sliceLimits{decisions: v1alpha1.MaxDecisionsPerSlice, bytes: 512 << 10, youngDecisions: 10, youngBytes: 64 << 10}

// workloadRecord is all that is known of one workload.
type workloadRecord struct {
	// current is nil for a workload that is to have no decision.
	current *entry
	// durable are the slices that durably hold a decision on the workload.
	durable []*slice
}

// entry is one decision. It is never changed: another decision is another entry.
type entry struct {
	decision  v1alpha1.WorkloadDecision
	placement types.NamespacedName
	// bytes of the decision when it is encoded.
	bytes int
	// slice is nil until one is assigned.
	slice *slice
}

type slice struct {
	placement, name types.NamespacedName
	// owner is the placement as it is now; nil where it is gone.
	owner *v1alpha1.WorkloadPlacement
	// written is the object as the API server last answered; nil before it is created.
	written *v1alpha1.PlacementDecision
	// since is when that was, and shown whether the informer has shown it.
	since time.Time
	shown bool
	// current are the decisions to be published here, durable those in written.
	current, durable map[workloadKey]*entry
	// changed is set while they may differ, unfit while written has two decisions on a workload, or some that cannot be read.
	changed, unfit bool
	// untold is set while written does not say how workloads fare, telling once it is written for that.
	untold, telling bool
	// decisions and bytes count the workloads with a decision that is current or durable, and the larger one of both: what is
	// durable may have to stay until another slice is written.
	decisions, bytes int
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

func (k workloadKey) compare(o workloadKey) int {
	return cmp.Or(strings.Compare(k.apiVersion, o.apiVersion), strings.Compare(k.kind, o.kind),
		strings.Compare(k.namespace, o.namespace), strings.Compare(k.name, o.name))
}

// newStore reads the slices that the API server has. Of several decisions on one workload the later one is current.
func newStore(written []*v1alpha1.PlacementDecision, now time.Time, limits sliceLimits) *store {
	s := &store{limits: limits, slices: map[types.NamespacedName]*slice{}, records: map[workloadKey]*workloadRecord{}, deliveries: map[workloadKey]map[string]v1alpha1.ClusterDelivery{}, changed: map[workloadKey]bool{}, leaving: map[workloadKey]bool{}}
	for _, object := range written {
		sl := newSlice(types.NamespacedName{Namespace: object.Namespace, Name: object.PlacementName}, object.Name)
		s.slices[sl.name] = sl
		content := make(map[workloadKey]*entry, len(object.Decisions))
		for _, d := range object.Decisions {
			key := keyIn(object.Namespace, d.Workload)
			d, told := withoutDelivery(d)
			e := newEntry(sl.placement, d)
			e.slice, content[key] = sl, e
			r := s.record(key)
			if r.current == nil || later(object, d, r.current) {
				s.setCurrent(key, r, e)
				delete(s.deliveries, key)
				if len(told) > 0 {
					s.deliveries[key] = told
				}
			}
		}
		s.wrote(sl, object, content, now)
		sl.unfit = len(content) == 0 || len(content) != int(object.Count)
	}
	for key, r := range s.records {
		r.current.slice.set(key, r.current)
	}
	for _, sl := range s.slices {
		sl.changed = !maps.Equal(sl.current, sl.durable)
	}
	return s
}

// later says whether a decision in a slice is later than another: by its time, which is in seconds, and then by the last
// write of its slice, since a slice that gains a decision is written after the one that is to lose it.
func later(in *v1alpha1.PlacementDecision, d v1alpha1.WorkloadDecision, than *entry) bool {
	if !d.DecidedAt.Equal(&than.decision.DecidedAt) {
		return than.decision.DecidedAt.Before(&d.DecidedAt)
	}
	return than.slice.written != nil && outcome.Newer(in.ResourceVersion, than.slice.written.ResourceVersion)
}

func newSlice(placement types.NamespacedName, name string) *slice {
	return &slice{
		placement: placement, name: types.NamespacedName{Namespace: placement.Namespace, Name: name},
		current: map[workloadKey]*entry{}, durable: map[workloadKey]*entry{},
	}
}

func newEntry(placement types.NamespacedName, d v1alpha1.WorkloadDecision) *entry {
	encoded, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings, numbers, times and quantities always encode
	}
	return &entry{placement: placement, decision: d, bytes: len(encoded) + 1}
}

func (s *store) record(key workloadKey) *workloadRecord {
	r := s.records[key]
	if r == nil {
		r = &workloadRecord{}
		s.records[key] = r
	}
	return r
}

// setCurrent makes a decision the current one on a workload, nil where it is to have none.
func (s *store) setCurrent(key workloadKey, r *workloadRecord, e *entry) {
	for i, counted := range [...]*entry{r.current, e} {
		sign := 2*i - 1
		if counted == nil {
			continue
		}
		if s.placed += sign; len(counted.decision.DefaultRequest) > 0 {
			s.defaulted += sign
		}
	}
	r.current, s.changed[key] = e, true
	if delete(s.leaving, key); e != nil && len(e.decision.Leaving) > 0 {
		s.leaving[key] = true
	}
}

// takeChanged returns the workloads whose decisions, or whether these are durable, have changed since it was last called.
func (s *store) takeChanged() map[workloadKey]bool {
	changed := s.changed
	s.changed = map[workloadKey]bool{}
	return changed
}

// get returns the current decision on a workload and the placement that it was made for.
func (s *store) get(key workloadKey) (decision v1alpha1.WorkloadDecision, placement types.NamespacedName, found bool) {
	r := s.records[key]
	if r == nil || r.current == nil {
		return v1alpha1.WorkloadDecision{}, types.NamespacedName{}, false
	}
	return r.current.decision, r.current.placement, true
}

// published says whether the current decision on a workload is durable and nothing else about the workload is; a workload
// without a decision is published where none is durable.
func (s *store) published(key workloadKey) bool {
	r := s.records[key]
	return r == nil || (r.current == nil || r.current.durable(key)) && len(r.superseded(key)) == 0
}

func (e *entry) durable(key workloadKey) bool { return e.slice != nil && e.slice.durable[key] == e }

// superseded returns the decisions on a workload that are durable and not current; none where nothing is recorded.
func (r *workloadRecord) superseded(key workloadKey) (superseded []*entry) {
	if r == nil {
		return nil
	}
	for _, sl := range r.durable {
		if e := sl.durable[key]; e != r.current {
			superseded = append(superseded, e)
		}
	}
	return superseded
}

// knows says whether a decision promises what one does that is current or durable here.
func (s *store) knows(key workloadKey, d v1alpha1.WorkloadDecision) bool {
	r := s.records[key]
	return r != nil && slices.ContainsFunc(append(r.superseded(key), r.current), func(e *entry) bool {
		return e != nil && e.decision.Workload == d.Workload && equality.Semantic.DeepEqual(promised(e.decision), promised(d))
	})
}

// promised is what a decision promises, without what it says of delivery.
func promised(d v1alpha1.WorkloadDecision) v1alpha1.WorkloadDecision {
	p := v1alpha1.WorkloadDecision{Clusters: slices.Clone(d.Clusters), Reserved: d.Reserved, Leaving: d.Leaving}
	for i := range p.Clusters {
		p.Clusters[i].Delivery = nil
	}
	return p
}

// unwritten returns the workloads whose current decision is not durable, the latest decision first.
func (s *store) unwritten() []workloadKey {
	keys := slices.DeleteFunc(slices.Clone(s.unassigned), func(key workloadKey) bool {
		r := s.records[key]
		return r == nil || r.current == nil || r.current.slice != nil
	})
	for _, sl := range s.slices {
		for key, e := range sl.current {
			if !sl.changed {
				break
			}
			if sl.durable[key] != e {
				keys = append(keys, key)
			}
		}
	}
	slices.SortFunc(keys, func(a, b workloadKey) int { return s.compare(b, a) })
	return slices.Compact(keys)
}

// byDecision returns the workloads with a current decision, by when that was made, then by name.
func (s *store) byDecision() (keys []workloadKey) {
	for key, r := range s.records {
		if r.current != nil {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, s.compare)
	return keys
}

// compare orders workloads with a current decision by when that was made, then by name.
func (s *store) compare(a, b workloadKey) int {
	at := func(key workloadKey) time.Time { return s.records[key].current.decision.DecidedAt.Time }
	return cmp.Or(at(a).Compare(at(b)), strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name), a.compare(b))
}

// put makes a decision the current one on a workload. It stays in the slice of the one before, where that belongs to the
// same placement and has room for it.
func (s *store) put(key workloadKey, placement types.NamespacedName, decision v1alpha1.WorkloadDecision) {
	e := newEntry(placement, decision)
	r := s.record(key)
	homes := r.durable
	if r.current != nil && r.current.slice != nil {
		homes = append([]*slice{r.current.slice}, homes...)
	}
	s.remove(key)
	s.setCurrent(key, s.record(key), e)
	for _, sl := range homes {
		if sl.placement == placement && sl.fits(s.limits, key, e) {
			sl.set(key, e)
			return
		}
	}
	s.unassigned = append(s.unassigned, key)
}

// tell says how a workload fares on its clusters.
func (s *store) tell(key workloadKey, told map[string]v1alpha1.ClusterDelivery) {
	r := s.records[key]
	if r == nil || r.current == nil || maps.Equal(s.deliveries[key], told) {
		return
	}
	if delete(s.deliveries, key); len(told) > 0 {
		s.deliveries[key] = told
	}
	if r.current.slice != nil {
		r.current.slice.untold = true
	}
}

// tellDue marks the slices that are to be written for what is told, and returns when the next one is due; 0 is never.
func (s *store) tellDue(now time.Time) (wait time.Duration) {
	for _, sl := range s.slices {
		if sl.telling = false; !sl.untold {
			continue
		}
		left := sl.since.Add(tellEvery + time.Duration(s.underWay(sl))*tellEach).Sub(now)
		if sl.telling = left <= 0; left > 0 && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}

// underWay counts the clusters that workloads of a slice are on their way to, as many as there are decisions at most.
func (s *store) underWay(sl *slice) (n int) {
	for key := range sl.current {
		for _, d := range s.deliveries[key] {
			if d.Health == v1alpha1.HealthPending || d.Health == v1alpha1.HealthInProgress {
				n++
			}
		}
	}
	return min(n, v1alpha1.MaxDecisionsPerSlice)
}

// withoutDelivery takes out of a decision what it tells of delivery.
func withoutDelivery(d v1alpha1.WorkloadDecision) (v1alpha1.WorkloadDecision, map[string]v1alpha1.ClusterDelivery) {
	told := map[string]v1alpha1.ClusterDelivery{}
	for _, c := range d.Clusters {
		if c.Delivery != nil {
			told[c.Name] = *c.Delivery
		}
	}
	if len(told) == 0 {
		return d, nil
	}
	d.Clusters = slices.Clone(d.Clusters)
	for i := range d.Clusters {
		d.Clusters[i].Delivery = nil
	}
	return d, told
}

// withDelivery puts into a decision what is told of delivery.
func withDelivery(d v1alpha1.WorkloadDecision, told map[string]v1alpha1.ClusterDelivery) v1alpha1.WorkloadDecision {
	if len(told) == 0 {
		return d
	}
	d.Clusters = slices.Clone(d.Clusters)
	for i := range d.Clusters {
		if delivery, found := told[d.Clusters[i].Name]; found {
			d.Clusters[i].Delivery = &delivery
		}
	}
	return d
}

// remove makes a workload have no decision.
func (s *store) remove(key workloadKey) {
	r := s.records[key]
	if r == nil || r.current == nil {
		return
	}
	if r.current.slice != nil {
		r.current.slice.unset(key)
	}
	s.setCurrent(key, r, nil)
	if len(r.durable) == 0 {
		s.forget(key)
	}
}

func (s *store) forget(key workloadKey) {
	delete(s.records, key)
	delete(s.deliveries, key)
}

// assign gives the decisions that have none a slice.
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

// small says whether a young slice takes the current decisions on workloads.
func (s *store) small(keys []workloadKey) bool {
	bytes := 0
	for _, key := range keys {
		bytes += s.records[key].current.bytes
	}
	return len(keys) <= s.limits.youngDecisions && bytes <= s.limits.youngBytes
}

// young returns the young slice of a placement with room for a small batch, nil where that has to be a new one. Where the
// batch would make it too large, the decisions in it move to the fullest slice with room for all of them.
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

// room says whether a slice has room for all of the current decisions on workloads.
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

// fits says whether a slice has room for a decision. One that is larger than a slice has one for itself.
func (sl *slice) fits(limits sliceLimits, key workloadKey, e *entry) bool {
	before, after := sl.size(key, sl.current[key]), sl.size(key, e)
	if before == 0 {
		return sl.decisions < limits.decisions && sl.bytes+after <= limits.bytes
	}
	return sl.bytes-before+after <= limits.bytes || sl.decisions == 1
}

// size is what a workload takes in a slice where a decision is current: if that leaves, the durable one may have to stay.
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
		if s.slices[sl.name] == nil {
			s.slices[sl.name] = sl
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

// sorted returns the slices by name.
func (s *store) sorted() []*slice {
	return slices.SortedFunc(maps.Values(s.slices), func(a, b *slice) int {
		return cmp.Or(strings.Compare(a.name.Namespace, b.name.Namespace), strings.Compare(a.name.Name, b.name.Name))
	})
}

// unconfirmed says whether there are slices that the informer has not shown as they were written.
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
	return slices.DeleteFunc(s.sorted(), func(sl *slice) bool { return !sl.changed && !sl.unfit && !sl.telling && sl.describesOwner() })
}

// flush calls write for the slices that are not as they should be, until it returns false. What is written is recorded by
// wrote. Gains come before losses: first the slices that gain decisions and wait for nothing, then those that gain some and
// have to keep others until they are durable elsewhere, then all that is left.
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

// content returns what a slice is to hold now: its current decisions, and of the durable ones those on workloads whose current
// decision is in another slice and not durable there yet, for which it waits. It gains what is not durable here.
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

// holds says whether a slice is written with content, as it should be. A slice without decisions is to be deleted.
func (sl *slice) holds(content map[workloadKey]*entry) bool {
	return maps.Equal(content, sl.durable) && !sl.unfit && !sl.telling && sl.describesOwner() && len(content) > 0
}

// wrote records what a slice durably holds now; nil is a slice that is gone.
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
	sl.changed, sl.unfit, sl.untold, sl.telling = !maps.Equal(content, sl.current), false, false, false
	sl.decisions, sl.bytes = len(content), 0
	for _, e := range content {
		sl.bytes += e.bytes
	}
	if written == nil {
		delete(s.slices, sl.name)
	}
}

// describesOwner says whether the metadata of a slice names its placement. It does not once the placement has been made again
// and has another UID: then the slice would be collected as garbage.
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

// summary says where the workloads of a slice are: "web: frankfurt, dublin; orders: paris", or, of more than three, how many are
// on each cluster, "frankfurt 60, dublin 40", the most first. Replicas that are divided are told: "web: frankfurt x4, dublin x2
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
			part += fmt.Sprintf(" (%s)", waits(d.WaitingReplicas))
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
		text = fmt.Sprintf("(%s) %s", waits(waiting), text) // what is cut is the end
	}
	if len(text) > maxSummary {
		text = text[:maxSummary] + "..."
	}
	return text
}

// waits is for example "1 replica waits".
func waits(replicas int32) string {
	if replicas == 1 {
		return "1 replica waits"
	}
	return fmt.Sprintf("%d replicas wait", replicas)
}

// maxSummary is how long a summary can be before it is cut, in bytes.
const maxSummary = 200

// placementLabel is the label of a placement's slices; empty where its name is too long for one.
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
