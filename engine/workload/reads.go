package workload

import (
	"hash/maphash"
	"maps"
	"math/bits"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Fields is a set of a workload's fields.
type Fields uint8

// The fields. The UID is none of them: nobody can read it.
const (
	APIVersion Fields = 1 << iota
	Kind
	Namespace
	Name
	Labels
	Annotations
	Replicas
	Requests

	AllFields = APIVersion | Kind | Namespace | Name | Labels | Annotations | Replicas | Requests
)

// FieldNamed returns the field that CEL and Rego know by a name; all of them where the name is none of theirs.
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

// Reads says what of a workload something looks at. The zero value is nothing. A Reads is not changed once it is made:
// copies share the keys.
type Reads struct {
	// Fields that are read whole.
	Fields Fields
	// Labels and Annotations are the keys that are read where the whole field is not: sorted, and each once.
	Labels, Annotations []string
}

// ReadsOf returns what reading one field by its name in CEL and Rego reads: all where the name is none of theirs.
func ReadsOf(field string) Reads { return Reads{Fields: FieldNamed(field)} }

// ReadsOfKey returns what reading one key of a field reads: that key of labels and annotations, the whole of any other
// field.
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

// IsZero tells whether nothing is read.
func (r Reads) IsZero() bool { return r.Fields == 0 && len(r.Labels)+len(r.Annotations) == 0 }

// maxKeys is how many keys of a field are looked up one by one. Where more are read the whole field is, so that what it
// costs to tell workloads apart is bounded.
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

// Only returns the workload with nothing but what is read of it. Workloads that are Same are so made equal.
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
	if r.Fields&Requests != 0 {
		only.Requests = w.Requests
	}
	return only
}

// cut returns the map itself where it is read whole, otherwise what it has of the keys; nil where that is nothing.
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

// Same tells whether two workloads agree in all that is read of them. That a resource is there counts, even where its
// amount is 0: CEL and Rego can tell.
func (r Reads) Same(a, b *Workload) bool {
	return a == b ||
		(r.Fields&APIVersion == 0 || a.APIVersion == b.APIVersion) &&
			(r.Fields&Kind == 0 || a.Kind == b.Kind) &&
			(r.Fields&Namespace == 0 || a.Namespace == b.Namespace) &&
			(r.Fields&Name == 0 || a.Name == b.Name) &&
			(r.Fields&Replicas == 0 || a.Replicas == b.Replicas) &&
			(r.Fields&Requests == 0 || sameRequests(&a.Requests, &b.Requests)) &&
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

// Hash returns a hash of what is read of a workload: that of workloads that are Same is the same.
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
	if r.Fields&Requests != 0 {
		h.add(uint64(w.Requests.CPU))
		h.add(uint64(w.Requests.Memory))
		h.add(uint64(w.Requests.Storage))
		h.amounts(w.Requests.Extended)
	}
	h.entries(w.Labels, r.Fields&Labels != 0, r.Labels)
	h.entries(w.Annotations, r.Fields&Annotations != 0, r.Annotations)
	return h.sum
}

// hasher takes one value after the other: it is known from what is read which one is which.
type hasher struct {
	seed maphash.Seed
	sum  uint64
}

// add mixes the high half of a product of 128 bits into the low one, as wyhash does: every bit of what was added before
// and of x counts.
func (h *hasher) add(x uint64) {
	high, low := bits.Mul64(h.sum^0x9e3779b97f4a7c15, x^0xd6e8feb86659fd93)
	h.sum = high ^ low
}

func (h *hasher) text(s string) { h.add(maphash.String(h.seed, s)) }

// entries of a map that is read whole are added as the sum of their hashes, in which their order makes no difference.
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

func (h *hasher) amounts(m map[string]int64) {
	var sum uint64
	for name, amount := range m {
		e := hasher{seed: h.seed}
		e.text(name)
		e.add(uint64(amount))
		sum += e.sum
	}
	h.add(sum)
}

// Covers tells whether all that o reads is read by r.
func (r Reads) Covers(o Reads) bool {
	u := r.Union(o)
	return u.Fields == r.Fields && slices.Equal(u.Labels, r.Labels) && slices.Equal(u.Annotations, r.Annotations)
}
