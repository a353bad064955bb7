package controller

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/engine/workload"
)

// The claim on LimitRanges is optional: a workspace that does not accept it is placed by what its objects say.

// requestDefaults is what LimitRanges add to the requests of workloads.
type requestDefaults struct {
	// ofNamespaces is as it was last read, limitRanges the objects that it was read from; nil before that.
	ofNamespaces map[string]corev1.ResourceList
	limitRanges  map[types.NamespacedName]bool
	// counted are the workloads of the last pass that have any.
	counted map[*workloadObject]countedObject
}

// countedObject is an object as it is counted with defaults.
type countedObject struct {
	defaults corev1.ResourceList
	object   *workloadObject
}

// countRequests counts the workloads with what LimitRanges of their namespaces add.
//
// Invariant: what was counted stays while LimitRanges cannot be read, across restarts as well. A workload that is decided has
// what its decision says then, and others what was read last.
func (w *workspace) countRequests(ctx context.Context, o *cacheView, r *result) {
	read := w.seesLimitRanges(ctx, o, r)
	if read {
		w.defaults.ofNamespaces = workload.DefaultRequests(o.limitRanges)
	}
	counted := map[*workloadObject]countedObject{}
	workloads := make([]*workloadObject, len(o.workloads))
	for i, object := range o.workloads {
		defaults := w.defaults.ofNamespaces[object.Namespace]
		if !read {
			if d, _, found := w.store.get(keyOf(object.workload.Reference)); found && d.Workload.UID == object.UID {
				defaults = d.DefaultRequest
			}
		}
		workloads[i] = object
		if len(defaults) > 0 {
			c, found := w.defaults.counted[object]
			if !found || !maps.EqualFunc(c.defaults, defaults, resource.Quantity.Equal) {
				c = countedObject{defaults, object.countedWith(defaults)}
			}
			counted[object], workloads[i] = c, c.object
		}
	}
	o.workloads, w.defaults.counted = workloads, counted
}

// countedWith returns the object with the requests that it has with defaults.
func (w *workloadObject) countedWith(defaults corev1.ResourceList) *workloadObject {
	with := *w
	if err := recovered(func() { with.workload, with.err = w.read.Count(defaults) }); err != nil {
		with.err = err
	}
	if !with.workload.Requests.Equal(w.workload.Requests) || !with.workload.Pod.Equal(w.workload.Pod) {
		with.defaultRequest = defaults
	}
	return &with
}

// seesLimitRanges says whether all LimitRanges are shown that there are. Where one is not shown any more, it is gone only once the
// server says so.
func (w *workspace) seesLimitRanges(ctx context.Context, o *cacheView, r *result) bool {
	if !o.limitRangesRead {
		return false
	}
	shown := make(map[types.NamespacedName]bool, len(o.limitRanges))
	for _, l := range o.limitRanges {
		shown[types.NamespacedName{Namespace: l.Namespace, Name: l.Name}] = true
	}
	known := w.defaults.limitRanges
	if known == nil && w.hasDefaultRequests() { // we have just started
		var err error
		if known, err = w.look(ctx, o.binding, limitRangeResource, nil); err != nil {
			r.within(confirmWithin)
			return false
		}
	}
	var missing []notShown
	for name := range known {
		if !shown[name] {
			missing = append(missing, notShown{limitRangeResource, name})
		}
	}
	if len(w.confirmGone(ctx, o.binding, missing, r)) > 0 {
		return false
	}
	w.defaults.limitRanges = shown
	return true
}

// hasDefaultRequests says whether LimitRanges are a part of what any decision reserves.
func (w *workspace) hasDefaultRequests() bool {
	for _, record := range w.store.records {
		if record.current != nil && len(record.current.decision.DefaultRequest) > 0 {
			return true
		}
	}
	return false
}
