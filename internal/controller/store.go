package controller

import (
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/outcome"
)

// store holds the decisions of a workspace: the current ones, and those that its PlacementDecisions durably hold.
type store struct {
	limits sliceLimits
	slices map[types.NamespacedName]*slice
	// taken are the names of slices that are kept for other workspaces.
	taken   map[types.NamespacedName]bool
	records map[workloadKey]*workloadRecord
	// changed are the workloads whose current decision, or its durability, has changed.
	changed map[workloadKey]bool
	// placed and defaulted count the current decisions, and those among them that reserve what LimitRanges add; leaving are the workloads
	// that are leaving clusters.
	placed, defaulted int
	leaving           map[workloadKey]bool
	// unassigned are the workloads whose current decision has no slice yet.
	unassigned []workloadKey
	// deliveries reports how the delivery of workloads is going, by cluster. Reports are published in decisions but are not part of them.
	//
	// Invariant: a delivery report changes no entry, so it never makes a decision count as a new one.
	deliveries map[workloadKey]map[string]v1alpha1.ClusterDelivery
}

// reportEvery is the least time between two writes of a slice for delivery reports alone. reportEach is added for each
// cluster that a workload of the slice is on its way to: in a burst, one write reports many.
const (
	reportEvery = 2 * time.Second
	reportEach  = 100 * time.Millisecond
)

// workloadRecord is everything known of one workload.
type workloadRecord struct {
	// current is nil for a workload that is to have no decision.
	current *entry
	// durable are the slices that durably hold a decision on the workload.
	durable []*slice
}

// entry is one decision. It is immutable: another decision is another entry.
type entry struct {
	decision  v1alpha1.WorkloadDecision
	placement types.NamespacedName
	// bytes is the size of the encoded decision.
	bytes int
	// slice is nil until one is assigned.
	slice *slice
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

// newStore reads the slices that the API server has. Of several decisions on one workload the latest is current.
func newStore(written []*v1alpha1.PlacementDecision, now time.Time, limits sliceLimits) *store {
	s := &store{limits: limits, slices: map[types.NamespacedName]*slice{}, records: map[workloadKey]*workloadRecord{}, deliveries: map[workloadKey]map[string]v1alpha1.ClusterDelivery{}, changed: map[workloadKey]bool{}, leaving: map[workloadKey]bool{}}
	for _, object := range written {
		sl := newSlice(types.NamespacedName{Namespace: object.Namespace, Name: object.PlacementName}, object.Name)
		s.slices[sl.name] = sl
		content := make(map[workloadKey]*entry, len(object.Decisions))
		for _, d := range object.Decisions {
			key := keyIn(object.Namespace, d.Workload)
			d, reports := withoutDelivery(d)
			e := newEntry(sl.placement, d)
			e.slice, content[key] = sl, e
			r := s.record(key)
			if r.current == nil || later(object, d, r.current) {
				s.setCurrent(key, r, e)
				delete(s.deliveries, key)
				if len(reports) > 0 {
					s.deliveries[key] = reports
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

// later reports whether a decision in a slice is later than another: by its time, which is in seconds, and then by the last
// write of its slice, since a slice that gains a decision is written after the one that loses it.
func later(in *v1alpha1.PlacementDecision, d v1alpha1.WorkloadDecision, than *entry) bool {
	if !d.DecidedAt.Equal(&than.decision.DecidedAt) {
		return than.decision.DecidedAt.Before(&d.DecidedAt)
	}
	return than.slice.written != nil && outcome.Newer(in.ResourceVersion, than.slice.written.ResourceVersion)
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

// setCurrent makes a decision the current one on a workload; nil means none.
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

// takeChanged returns the workloads whose decision, or its durability, has changed since the last call.
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

// published reports whether the current decision on a workload is the only durable one; a workload without a decision is
// published if none is durable.
func (s *store) published(key workloadKey) bool {
	r := s.records[key]
	return r == nil || (r.current == nil || r.current.durable(key)) && len(r.superseded(key)) == 0
}

func (e *entry) durable(key workloadKey) bool { return e.slice != nil && e.slice.durable[key] == e }

// durably yields the durable decisions on a workload; none if nothing is recorded.
func (r *workloadRecord) durably(key workloadKey) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for i := 0; r != nil && i < len(r.durable); i++ {
			if !yield(r.durable[i].durable[key]) {
				return
			}
		}
	}
}

// superseded returns the durable decisions that are not current.
func (r *workloadRecord) superseded(key workloadKey) (superseded []*entry) {
	for e := range r.durably(key) {
		if e != r.current {
			superseded = append(superseded, e)
		}
	}
	return superseded
}

// knows reports whether a decision promises the same as one that is current or durable here.
func (s *store) knows(key workloadKey, d v1alpha1.WorkloadDecision) bool {
	r := s.records[key]
	return r != nil && slices.ContainsFunc(append(r.superseded(key), r.current), func(e *entry) bool {
		return e != nil && e.decision.Workload == d.Workload && equality.Semantic.DeepEqual(promised(e.decision), promised(d))
	})
}

// promised returns a decision without its delivery reports.
func promised(d v1alpha1.WorkloadDecision) v1alpha1.WorkloadDecision {
	p := v1alpha1.WorkloadDecision{Clusters: slices.Clone(d.Clusters), Reserved: d.Reserved, Leaving: d.Leaving}
	for i := range p.Clusters {
		p.Clusters[i].Delivery = nil
	}
	return p
}

// unwritten returns the workloads whose current decision is not durable, latest decision first.
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

// byDecision returns the workloads with a current decision, by the time of the decision, then by name.
func (s *store) byDecision() (keys []workloadKey) {
	for key, r := range s.records {
		if r.current != nil {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, s.compare)
	return keys
}

// compare orders workloads with a current decision by the time of the decision, then by name.
func (s *store) compare(a, b workloadKey) int {
	at := func(key workloadKey) time.Time { return s.records[key].current.decision.DecidedAt.Time }
	return cmp.Or(at(a).Compare(at(b)), strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name), a.compare(b))
}

// put makes a decision the current one on a workload. It stays in the slice of its predecessor if that belongs to the
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

// setDelivery records how the delivery of a workload to its clusters is going.
func (s *store) setDelivery(key workloadKey, reports map[string]v1alpha1.ClusterDelivery) {
	r := s.records[key]
	if r == nil || r.current == nil || maps.Equal(s.deliveries[key], reports) {
		return
	}
	if delete(s.deliveries, key); len(reports) > 0 {
		s.deliveries[key] = reports
	}
	if r.current.slice != nil {
		r.current.slice.unreported = true
	}
}

// reportDue marks the slices that are due to be written for delivery reports, and returns when the next one is due; 0 is never.
func (s *store) reportDue(now time.Time) (wait time.Duration) {
	for _, sl := range s.slices {
		if sl.reporting = false; !sl.unreported {
			continue
		}
		left := sl.since.Add(reportEvery + time.Duration(s.underWay(sl))*reportEach).Sub(now)
		if sl.reporting = left <= 0; left > 0 && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}

// underWay counts the clusters that workloads of a slice are on their way to, capped at the number of decisions in the slice.
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

// withoutDelivery splits a decision from its delivery reports.
func withoutDelivery(d v1alpha1.WorkloadDecision) (v1alpha1.WorkloadDecision, map[string]v1alpha1.ClusterDelivery) {
	reports := map[string]v1alpha1.ClusterDelivery{}
	for _, c := range d.Clusters {
		if c.Delivery != nil {
			reports[c.Name] = *c.Delivery
		}
	}
	if len(reports) == 0 {
		return d, nil
	}
	d.Clusters = slices.Clone(d.Clusters)
	for i := range d.Clusters {
		d.Clusters[i].Delivery = nil
	}
	return d, reports
}

// withDelivery adds delivery reports to a decision.
func withDelivery(d v1alpha1.WorkloadDecision, reports map[string]v1alpha1.ClusterDelivery) v1alpha1.WorkloadDecision {
	if len(reports) == 0 {
		return d
	}
	d.Clusters = slices.Clone(d.Clusters)
	for i := range d.Clusters {
		if delivery, found := reports[d.Clusters[i].Name]; found {
			d.Clusters[i].Delivery = &delivery
		}
	}
	return d
}

// remove removes the current decision on a workload.
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
