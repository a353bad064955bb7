package workload

import (
	"hash/maphash"
	"maps"
	"math/bits"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Fields is a set of a workload's fields.
type Fields uint16

// The fields. Policies cannot read the UID.
const (
	APIVersion Fields = 1 << iota
	Kind
	Namespace
	Name
	Labels
	Annotations
	Replicas
	Requests

	// Nodes is what pods ask of nodes, which policies and constraints cannot read.
	Nodes

	AllFields = APIVersion | Kind | Namespace | Name | Labels | Annotations | Replicas | Requests
)

// FieldNamed returns the field of a name in CEL and Rego, AllFields for an unknown name.
func FieldNamed(name string) Fields {
	switch name {
	case "apiVersion":
		return APIVersion
	case "kind":
		return Kind
	case "namespace":
		return Namespace
	case "name":
		return Name
	case "labels":
		return Labels
	case "annotations":
		return Annotations
	case "replicas":
		return Replicas
	case "requests":
		return Requests
	default:
		return AllFields
	}
}

// Reads is the part of a workload that an expression or a policy reads. The zero value is nothing. A Reads is immutable: copies
// share the keys.
type Reads struct {
	// Fields that are read as a whole.
	Fields Fields
	// Labels and Annotations are the keys that are read if the field is not read as a whole, sorted and unique.
	Labels, Annotations []string
}

// ReadsOf returns the Reads of one field by its name in CEL and Rego, of all fields for an unknown name.
func ReadsOf(field string) Reads { return Reads{Fields: FieldNamed(field)} }

// ReadsOfKey returns the Reads of one key of labels or annotations, and of the whole of any other field.
func ReadsOfKey(field, key string) Reads {
	switch FieldNamed(field) {
	case Labels:
		return Reads{Labels: []string{key}}
	case Annotations:
		return Reads{Annotations: []string{key}}
	default:
		return ReadsOf(field)
	}
}

// IsZero reports whether nothing is read.
func (r Reads) IsZero() bool { return r.Fields == 0 && len(r.Labels)+len(r.Annotations) == 0 }

// maxKeys bounds the keys of a field that are looked up one by one. Beyond it the field counts as read as a whole, so that
// comparing workloads has a bounded cost.
const maxKeys = 64

// Union returns what either reads.
func (r Reads) Union(o Reads) Reads {
	u := Reads{Fields: r.Fields | o.Fields}
	keys := func(field Fields, a, b []string) []string {
		if u.Fields&field != 0 {
			return nil
		}
		keys := union(a, b)
		if len(keys) > maxKeys {
			u.Fields |= field
			return nil
		}
		return keys
	}
	u.Labels, u.Annotations = keys(Labels, r.Labels, o.Labels), keys(Annotations, r.Annotations, o.Annotations)
	return u
}

func union(a, b []string) []string {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	keys := slices.Concat(a, b)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Only returns the workload reduced to what is read of it. Workloads that are Same become equal.
func (r Reads) Only(w *Workload) *Workload {
	only := &Workload{
		Labels:      cut(w.Labels, r.Fields&Labels != 0, r.Labels),
		Annotations: cut(w.Annotations, r.Fields&Annotations != 0, r.Annotations),
	}
	if r.Fields&APIVersion != 0 {
		only.APIVersion = w.APIVersion
	}
	if r.Fields&Kind != 0 {
		only.Kind = w.Kind
	}
	if r.Fields&Namespace != 0 {
		only.Namespace = w.Namespace
	}
	if r.Fields&Name != 0 {
		only.Name = w.Name
	}
	if r.Fields&Replicas != 0 {
		only.Replicas = w.Replicas
	}
	if r.Fields&(Replicas|Requests) != 0 {
		only.PerNode, only.Divisible = w.PerNode, w.Divisible
	}
	if r.Fields&Requests != 0 {
		only.Requests, only.Pod = w.Requests, w.Pod
	}
	if r.Fields&Nodes != 0 {
		only.Nodes = w.Nodes
	}
	return only
}

// cut returns the map itself if it is read as a whole, otherwise its entries for the keys, nil if there are none.
func cut(m map[string]string, whole bool, keys []string) map[string]string {
	if whole && len(m) > 0 {
		return m
	}
	var only map[string]string
	for _, key := range keys {
		if value, found := m[key]; found {
			if only == nil {
				only = make(map[string]string, len(keys))
			}
			only[key] = value
		}
	}
	return only
}

// Same reports whether two workloads agree in everything that is read of them. An extended resource with amount 0 differs from
// an absent one, since CEL and Rego can distinguish them.
func (r Reads) Same(a, b *Workload) bool {
	return a == b ||
		(r.Fields&APIVersion == 0 || a.APIVersion == b.APIVersion) &&
			(r.Fields&Kind == 0 || a.Kind == b.Kind) &&
			(r.Fields&Namespace == 0 || a.Namespace == b.Namespace) &&
			(r.Fields&Name == 0 || a.Name == b.Name) &&
			(r.Fields&Replicas == 0 || a.Replicas == b.Replicas) &&
			(r.Fields&(Replicas|Requests) == 0 || a.PerNode == b.PerNode && a.Divisible == b.Divisible) &&
			(r.Fields&Requests == 0 || sameRequests(&a.Requests, &b.Requests) && sameRequests(&a.Pod, &b.Pod)) &&
			(r.Fields&Nodes == 0 || a.Nodes.Equal(b.Nodes)) &&
			same(a.Labels, b.Labels, r.Fields&Labels != 0, r.Labels) &&
			same(a.Annotations, b.Annotations, r.Fields&Annotations != 0, r.Annotations)
}

func sameRequests(a, b *capacity.Resources) bool {
	return a.CPU == b.CPU && a.Memory == b.Memory && a.Storage == b.Storage && maps.Equal(a.Extended, b.Extended)
}

func same(a, b map[string]string, whole bool, keys []string) bool {
	if whole {
		return maps.Equal(a, b)
	}
	for _, key := range keys {
		valueA, inA := a[key]
		valueB, inB := b[key]
		if inA != inB || valueA != valueB {
			return false
		}
	}
	return true
}

// Hash returns a hash of what is read of a workload. Workloads that are Same have the same hash.
func (r Reads) Hash(seed maphash.Seed, w *Workload) uint64 {
	h := hasher{seed: seed}
	if r.Fields&APIVersion != 0 {
		h.text(w.APIVersion)
	}
	if r.Fields&Kind != 0 {
		h.text(w.Kind)
	}
	if r.Fields&Namespace != 0 {
		h.text(w.Namespace)
	}
	if r.Fields&Name != 0 {
		h.text(w.Name)
	}
	if r.Fields&Replicas != 0 {
		h.add(uint64(w.Replicas))
	}
	if r.Fields&(Replicas|Requests) != 0 && w.PerNode {
		h.add(1)
	}
	if r.Fields&(Replicas|Requests) != 0 && w.Divisible {
		h.add(2)
	}
	if r.Fields&Requests != 0 {
		h.resources(&w.Requests)
		h.resources(&w.Pod)
	}
	if r.Fields&Nodes != 0 && w.Nodes != nil {
		h.text(w.Nodes.Digest())
	}
	h.entries(w.Labels, r.Fields&Labels != 0, r.Labels)
	h.entries(w.Annotations, r.Fields&Annotations != 0, r.Annotations)
	return h.sum
}

// hasher hashes a sequence of values. What is read determines which value is which.
type hasher struct {
	seed maphash.Seed
	sum  uint64
}

// add folds the high half of a 128-bit product into the low one, as wyhash does, so that every bit counts.
func (h *hasher) add(x uint64) {
	high, low := bits.Mul64(h.sum^0x9e3779b97f4a7c15, x^0xd6e8feb86659fd93)
	h.sum = high ^ low
}

func (h *hasher) text(s string) { h.add(maphash.String(h.seed, s)) }

// entries adds the entries of a map. The hashes of a map that is read as a whole are summed, so that their order does not matter.
func (h *hasher) entries(m map[string]string, whole bool, keys []string) {
	if whole {
		var sum uint64
		for key, value := range m {
			e := hasher{seed: h.seed}
			e.text(key)
			e.text(value)
			sum += e.sum
		}
		h.add(sum)
		return
	}
	for _, key := range keys {
		if value, found := m[key]; found {
			h.text(value)
		} else {
			h.add(0)
		}
	}
}

func (h *hasher) resources(r *capacity.Resources) {
	h.add(uint64(r.CPU))
	h.add(uint64(r.Memory))
	h.add(uint64(r.Storage))
	var sum uint64
	for name, amount := range r.Extended {
		e := hasher{seed: h.seed}
		e.text(name)
		e.add(uint64(amount))
		sum += e.sum
	}
	h.add(sum)
}

// Covers reports whether r reads everything that o reads.
func (r Reads) Covers(o Reads) bool {
	u := r.Union(o)
	return u.Fields == r.Fields && slices.Equal(u.Labels, r.Labels) && slices.Equal(u.Annotations, r.Annotations)
}
