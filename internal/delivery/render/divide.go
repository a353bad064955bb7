package render

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/int128"
)

// Share is what a cluster gets of a workload whose replicas are divided: numbers by field path.
type Share map[string]int64

// Divide returns the share of each cluster of a workload, given the replicas that each is to run; nil if the kind cannot be
// divided, so each cluster gets all of them. Numbers tied to replicas, such as the completions of a Job, are divided in proportion.
//
// Invariant: the shares and left add up to the whole, unless copies have more already. The share in the manifest of an existing copy
// stays, since Jobs do not allow changes to it, and new copies get the rest. So left is above 0 if there are no new copies to take it.
func Divide(kinds *workload.Table, object *unstructured.Unstructured, replicas map[string]int32, before map[string]*v1alpha1.Manifest) (_ map[string]Share, left int64, err error) {
	d, err := kinds.Find(object.GetAPIVersion(), object.GetKind())
	if err != nil {
		return nil, 0, err
	}
	if !d.Divisible() {
		return nil, 0, nil
	}
	paths := d.Divided()
	if len(paths) == 0 {
		return nil, 0, fmt.Errorf("%s: the table of kinds does not say which numbers are divided: podSets[0].divided in the file of --kinds-file", d.GroupKind())
	}
	shares := make(map[string]Share, len(replicas))
	for cluster, n := range replicas {
		shares[cluster] = Share{paths[0]: int64(n)}
	}
	for _, path := range paths[1:] {
		whole, found, err := number(object.Object, path)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", describe(object), err)
		}
		if !found {
			continue
		}
		if mode, _, _ := unstructured.NestedString(object.Object, append(parent(path), "completionMode")...); mode == "Indexed" {
			return nil, 0, fmt.Errorf("%s: completionMode Indexed cannot be divided, since each cluster counts indexes from 0: make it NonIndexed, or let the placement duplicate replicas", describe(object))
		}
		for cluster, part := range divide(whole, path, replicas, before) {
			shares[cluster][path] = part
			whole -= part
		}
		left = max(left, whole)
	}
	return shares, left, nil
}

// Parts reports which clusters have a part of their own of the numbers divided besides replicas, such as the completions of a Job, and
// how much of that no cluster has.
func Parts(kinds *workload.Table, object *unstructured.Unstructured, copies map[string]*v1alpha1.Manifest) (parts map[string]bool, left int64) {
	parts = map[string]bool{}
	d, err := kinds.Find(object.GetAPIVersion(), object.GetKind())
	if err != nil || len(d.Divided()) < 2 {
		return parts, 0
	}
	for _, path := range d.Divided()[1:] {
		whole, found, err := number(object.Object, path)
		if !found || err != nil {
			continue
		}
		for cluster, m := range copies {
			if part, found := delivered(m, path); found {
				parts[cluster] = true
				whole -= part
			}
		}
		left = max(left, whole)
	}
	return parts, left
}

// divide divides a number by the largest remainder method; ties are broken by cluster name.
func divide(whole int64, path string, replicas map[string]int32, before map[string]*v1alpha1.Manifest) map[string]int64 {
	parts := make(map[string]int64, len(replicas))
	var added []string
	var all int64
	for _, cluster := range slices.Sorted(maps.Keys(replicas)) {
		if part, found := delivered(before[cluster], path); found {
			parts[cluster] = part
			whole -= part
			continue
		}
		added = append(added, cluster)
		all += int64(replicas[cluster])
	}
	whole = max(0, whole)
	rest, remainders := whole, map[string]int64{}
	for _, cluster := range added {
		weight, of := int64(replicas[cluster]), all
		if all == 0 {
			weight, of = 1, int64(len(added))
		}
		parts[cluster], remainders[cluster] = int128.MulDiv(whole, weight, of)
		rest -= parts[cluster]
	}
	slices.SortStableFunc(added, func(a, b string) int { return cmp.Compare(remainders[b], remainders[a]) })
	for _, cluster := range added[:min(rest, int64(len(added)))] {
		parts[cluster]++
	}
	return parts
}

// delivered returns the number in a manifest.
func delivered(m *v1alpha1.Manifest, path string) (int64, bool) {
	if m == nil {
		return 0, false
	}
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(m.Object.Raw); err != nil {
		return 0, false
	}
	n, found, err := number(object.Object, path)
	return n, found && err == nil
}

// number reads an integer.
func number(object map[string]any, path string) (n int64, found bool, err error) {
	value, found, err := unstructured.NestedFieldNoCopy(object, strings.Split(path, ".")...)
	if err != nil || !found || value == nil {
		return 0, false, err
	}
	switch value := value.(type) {
	case int64:
		n = value
	case float64:
		n = int64(value)
		if float64(n) != value {
			return 0, false, fmt.Errorf("%s: %v is no integer", path, value)
		}
	default:
		return 0, false, fmt.Errorf("%s: must be an integer", path)
	}
	return n, true, nil
}

func parent(path string) []string {
	names := strings.Split(path, ".")
	return names[:len(names)-1]
}

// set sets the share's numbers in an object.
func (s Share) set(object *unstructured.Unstructured) error {
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(s)) {
		errs = append(errs, unstructured.SetNestedField(object.Object, s[path], strings.Split(path, ".")...))
	}
	return errors.Join(errs...)
}

// share returns the share of the request, or else the decided replicas. A Job whose replicas are not divided runs as its owner wrote it:
// how many pods it still has depends on how many have succeeded.
func (r Request) share() (Share, error) {
	if r.Share != nil || r.Replicas == nil {
		return r.Share, nil
	}
	d, err := r.Kinds.Find(r.Workload.GetAPIVersion(), r.Workload.GetKind())
	if err != nil {
		return nil, err
	}
	if paths := d.Divided(); len(paths) == 1 {
		return Share{paths[0]: int64(*r.Replicas)}, nil
	}
	return nil, nil
}
