package workload_test

import (
	"fmt"
	"hash/maphash"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/nodes"
	"github.com/kcp-placement/placement/engine/workload"
)

// keys, values and names are few, so that workloads often agree, and such that their texts joined are often the same.
var (
	keys     = rapid.SampledFrom([]string{"a", "ab", "abc", "b", ""})
	values   = rapid.SampledFrom([]string{"", "c", "bc", "b"})
	entries  = rapid.MapOfN(keys, values, 0, 3)
	keyLists = rapid.SliceOfN(keys, 0, 2)
	numbers  = rapid.Int64Range(0, 2)

	asks = rapid.Custom(func(t *rapid.T) *nodes.Wishes {
		spec := nodes.PodSpec{NodeSelector: rapid.MapOfN(rapid.Just("a"), values, 0, 1).Draw(t, "node selector")}
		pods, err := spec.Of("spec", nil)
		if err != nil {
			t.Fatal(err)
		}
		w, err := nodes.Of([]nodes.Pods{pods})
		if err != nil {
			t.Fatal(err)
		}
		return w
	})

	workloads = rapid.Custom(func(t *rapid.T) *workload.Workload {
		return &workload.Workload{
			Reference: workload.Reference{
				APIVersion: values.Draw(t, "apiVersion"), Kind: values.Draw(t, "kind"), Namespace: values.Draw(t, "namespace"),
				Name: values.Draw(t, "name"), UID: values.Draw(t, "uid"),
			},
			Labels: entries.Draw(t, "labels"), Annotations: entries.Draw(t, "annotations"),
			Replicas: numbers.Draw(t, "replicas"),
			Requests: capacity.Resources{
				CPU: numbers.Draw(t, "cpu"), Memory: numbers.Draw(t, "memory"), Storage: numbers.Draw(t, "storage"),
				Extended: rapid.MapOfN(keys, numbers, 0, 2).Draw(t, "extended"),
			},
			Nodes: asks.Draw(t, "nodes"),
		}
	})

	reads = rapid.Custom(func(t *rapid.T) workload.Reads {
		// Most fields are left out, so that workloads often agree in the others.
		bits := rapid.Uint16Range(0, uint16(workload.AllFields|workload.Nodes))
		r := workload.Reads{Fields: workload.Fields(bits.Draw(t, "fields") & bits.Draw(t, "and") & bits.Draw(t, "and"))}
		for _, field := range []string{"labels", "annotations"} {
			for _, key := range keyLists.Draw(t, field) {
				r = r.Union(workload.ReadsOfKey(field, key))
			}
		}
		return r
	})
)

var seed = maphash.MakeSeed()

// merged is a workload with what is read of one and all else of another.
func merged(r workload.Reads, read, other *workload.Workload) *workload.Workload {
	w := *other
	for field, set := range map[workload.Fields]func(){
		workload.APIVersion:  func() { w.APIVersion = read.APIVersion },
		workload.Kind:        func() { w.Kind = read.Kind },
		workload.Namespace:   func() { w.Namespace = read.Namespace },
		workload.Name:        func() { w.Name = read.Name },
		workload.Labels:      func() { w.Labels = read.Labels },
		workload.Annotations: func() { w.Annotations = read.Annotations },
		workload.Replicas:    func() { w.Replicas = read.Replicas },
		workload.Requests:    func() { w.Requests = read.Requests },
		workload.Nodes:       func() { w.Nodes = read.Nodes },
	} {
		if r.Fields&field != 0 {
			set()
		}
	}
	merge := func(keys []string, read, other map[string]string) map[string]string {
		m := maps.Clone(other)
		for _, key := range keys {
			if value, found := read[key]; found {
				m[key] = value
			} else {
				delete(m, key)
			}
		}
		return m
	}
	w.Labels, w.Annotations = merge(r.Labels, read.Labels, w.Labels), merge(r.Annotations, read.Annotations, w.Annotations)
	return &w
}

// pair draws two workloads that often agree in what is read.
func pair(t *rapid.T, r workload.Reads) (a, b *workload.Workload) {
	a, b = workloads.Draw(t, "a"), workloads.Draw(t, "b")
	if rapid.Bool().Draw(t, "agree") {
		b = merged(r, a, b)
	}
	return a, b
}

func TestSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := reads.Draw(t, "reads")
		a, b := pair(t, r)
		same := r.Same(a, b)
		if diff := cmp.Diff(r.Only(a), r.Only(b), cmpopts.EquateEmpty()); same != (diff == "") {
			t.Fatalf("same is %v, but of what is read there differs: %s", same, diff)
		}
		if equal := r.Hash(seed, a) == r.Hash(seed, b); equal != same {
			t.Fatalf("same is %v, that the hashes are equal is %v", same, equal)
		}
		only := r.Only(a)
		if !r.Same(a, only) || r.Hash(seed, a) != r.Hash(seed, only) {
			t.Fatal("a workload is not the same as what is read of it")
		}
		if (only.Labels != nil) != (len(only.Labels) > 0) || (only.Annotations != nil) != (len(only.Annotations) > 0) || only.UID != "" {
			t.Fatal("more is left than what is read")
		}
	})
}

func TestUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, o := reads.Draw(t, "r"), reads.Draw(t, "o")
		u := r.Union(o)
		a, b := pair(t, rapid.SampledFrom([]workload.Reads{r, o, u}).Draw(t, "of"))
		if u.Same(a, b) != (r.Same(a, b) && o.Same(a, b)) {
			t.Fatal("the union does not read what both read")
		}
		if diff := cmp.Diff(u, o.Union(r)); diff != "" {
			t.Fatal("the order makes a difference", diff)
		}
		if diff := cmp.Diff(u, u.Union(r).Union(o)); diff != "" {
			t.Fatal("the same again makes a difference", diff)
		}
		if u.Fields&workload.Labels != 0 && u.Labels != nil || u.Fields&workload.Annotations != 0 && u.Annotations != nil {
			t.Fatal("there are keys of a field that is read whole")
		}
	})
}

func TestSameTellsAbsentFromEmpty(t *testing.T) {
	a := &workload.Workload{Labels: map[string]string{"x": ""}, Requests: capacity.Resources{Extended: map[string]int64{"example.com/x": 0}}}
	b := &workload.Workload{}
	for _, r := range []workload.Reads{workload.ReadsOf("labels"), workload.ReadsOfKey("labels", "x"), workload.ReadsOf("requests")} {
		if r.Same(a, b) || r.Hash(seed, a) == r.Hash(seed, b) {
			t.Errorf("%+v: what is empty is the same as what is not there", r)
		}
	}
	if r := workload.ReadsOfKey("kind", "x"); r.Fields != workload.Kind || r.IsZero() || !(workload.Reads{}).IsZero() {
		t.Errorf("a key of the kind reads %+v", r)
	}
}

func TestUnionOfManyKeys(t *testing.T) {
	var r workload.Reads
	for i := range 64 {
		r = r.Union(workload.ReadsOfKey("labels", fmt.Sprint(i)))
	}
	if len(r.Labels) != 64 || r.Fields != 0 {
		t.Errorf("64 keys are read as %+v", r)
	}
	r = r.Union(workload.ReadsOfKey("labels", "more"))
	if diff := cmp.Diff(workload.ReadsOf("labels"), r); diff != "" {
		t.Error("too many keys are not the whole", diff)
	}
}

var some = workload.Reads{
	Fields:      workload.Kind | workload.Replicas | workload.Requests,
	Labels:      []string{"app", "team"},
	Annotations: []string{"tmc.kcp.io/avoid-cluster", "tmc.kcp.io/preferred-cluster", "tmc.kcp.io/preferred-location"},
}

func typical() *workload.Workload {
	return &workload.Workload{
		Reference:   workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web"},
		Labels:      map[string]string{"app": "web", "team": "a", "tier": "gold"},
		Annotations: map[string]string{"tmc.kcp.io/preferred-cluster": "alpha", "note": "x"},
		Replicas:    3, Requests: capacity.Resources{CPU: 1500, Memory: 1 << 30},
	}
}

func BenchmarkHash(b *testing.B) {
	for name, r := range map[string]workload.Reads{"keys": some, "all": {Fields: workload.AllFields}} {
		b.Run(name, func(b *testing.B) {
			w := typical()
			b.ReportAllocs()
			for b.Loop() {
				r.Hash(seed, w)
			}
		})
	}
}

func BenchmarkSame(b *testing.B) {
	for name, r := range map[string]workload.Reads{"keys": some, "all": {Fields: workload.AllFields}} {
		b.Run(name, func(b *testing.B) {
			v, w := typical(), typical()
			b.ReportAllocs()
			for b.Loop() {
				if !r.Same(v, w) {
					b.Fatal("they differ")
				}
			}
		})
	}
}

func TestNoAllocations(t *testing.T) {
	v, w := typical(), typical()
	for _, r := range []workload.Reads{some, {Fields: workload.AllFields}} {
		if n := testing.AllocsPerRun(100, func() { r.Hash(seed, v); r.Same(v, w) }); n != 0 {
			t.Errorf("%+v: %v allocations", r, n)
		}
	}
}
