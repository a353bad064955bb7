package controller

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/panics"
)

// The claim on LimitRanges is optional: a workspace that does not accept it is placed by the requests in its objects.

// requestDefaults is what LimitRanges add to the requests of workloads.
type requestDefaults struct {
	// ofNamespaces holds the defaults as last read, limitRanges the objects that they were read from; nil before that.
	ofNamespaces map[string]corev1.ResourceList
	limitRanges  map[types.NamespacedName]types.UID
	// read is whether LimitRanges could be read in the last pass.
	read bool
}

// countRequests counts the workloads with the defaults of their namespaces' LimitRanges.
//
// Invariant: counts do not change while LimitRanges cannot be read, across restarts as well. Until then, a decided workload keeps what
// its decision records, and others use what was read last.
func (w *workspace) countRequests(ctx context.Context, o *cacheView, r *result) {
	read, before := w.seesLimitRanges(ctx, o, r), w.defaults
	if w.defaults.read = read; read {
		w.defaults.ofNamespaces = workload.DefaultRequests(o.limitRanges)
	}
	same := func(a, b corev1.ResourceList) bool { return maps.EqualFunc(a, b, resource.Quantity.Equal) }
	if read && before.read && maps.EqualFunc(before.ofNamespaces, w.defaults.ofNamespaces, same) ||
		!read && !before.read && len(w.defaults.ofNamespaces) == 0 && !w.hasDefaultRequests() {
		for item := range w.index.due {
			w.countItem(item)
		}
		return
	}
	for _, item := range w.index.items {
		w.countItem(item)
	}
}

// countItem counts a workload if anything has changed.
func (w *workspace) countItem(item *workItem) {
	if item.shown == nil {
		item.object, item.countedFrom = nil, nil
		return
	}
	defaults := w.defaults.ofNamespaces[item.shown.Namespace]
	if !w.defaults.read {
		if d, _, found := w.store.get(item.key); found && d.Workload.UID == item.shown.UID {
			defaults = d.DefaultRequest
		}
	}
	if item.countedFrom == item.shown && maps.EqualFunc(item.defaults, defaults, resource.Quantity.Equal) {
		return
	}
	before := item.object
	if item.countedFrom, item.defaults, item.object = item.shown, defaults, item.shown; len(defaults) > 0 {
		item.object = item.shown.countedWith(defaults)
	}
	if before == nil || before.UID != item.object.UID || !before.workload.Whole().Requests.Same(item.object.workload.Whole().Requests) {
		item.asksSince = w.now()
	}
	w.index.add(item, workloadChanged)
}

// countedWith returns the object with its requests completed by defaults.
func (w *workloadObject) countedWith(defaults corev1.ResourceList) *workloadObject {
	if w.read == nil {
		return w // it cannot be read
	}
	with := *w
	if err := panics.Recovered(func() { with.workload, with.err = w.read.Count(defaults) }); err != nil {
		with.err = err
	}
	if !with.workload.Requests.Equal(w.workload.Requests) || !with.workload.Pod.Equal(w.workload.Pod) {
		with.defaultRequest = defaults
	}
	return &with
}

// seesLimitRanges reports whether all existing LimitRanges are shown. One that is no longer shown is gone only once the server
// confirms it.
func (w *workspace) seesLimitRanges(ctx context.Context, o *cacheView, r *result) bool {
	if !o.limitRangesRead {
		return false
	}
	shown := uidsOf(o.limitRanges)
	known := w.defaults.limitRanges
	if known == nil && w.hasDefaultRequests() { // we have just started
		var err error
		if known, err = w.confirmLive(ctx, o.binding, limitRangeResource, nil); err != nil {
			r.within(confirmWithin)
			return false
		}
	}
	if len(w.confirmGone(ctx, o.binding, missing(limitRangeResource, known, shown), r)) > 0 {
		return false
	}
	w.defaults.limitRanges = shown
	return true
}

// hasDefaultRequests reports whether LimitRanges contribute to what any decision reserves.
func (w *workspace) hasDefaultRequests() bool { return w.store.defaulted > 0 }
