package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// What cannot be seen is not gone. An informer shows the same when objects are deleted, when a workspace withdraws a permission
// claim, and when a list is incomplete.
//
// Invariant: nothing is given up because an object is missing unless the server says that it does not exist, asked while the
// workspace lets us read it.

// visibility is what a workspace lets the controller read.
type visibility struct {
	// binding is the workspace's APIBinding to the export; hidden are the resources that it does not let us read in full.
	binding *apisv1alpha2.APIBinding
	hidden  map[schema.GroupResource]*hidden
	// kinds are the workload kinds that are watched.
	kinds []watchedKind
}

// watchedKind is a kind of workload with the resource through which it is watched.
type watchedKind struct {
	schema.GroupVersionResource
	apiVersion, kind string
}

// watchedKinds returns the kinds of the resources in a table.
func watchedKinds(table *workload.Table, resources []schema.GroupVersionResource) (kinds []watchedKind) {
	for _, resource := range resources {
		if d := table.Resource(resource); d != nil {
			kinds = append(kinds, watchedKind{resource, resource.GroupVersion().String(), d.Kind})
		}
	}
	return kinds
}

// resourceOf returns the resource through which workloads of a kind are watched, and whether they are.
func (v *visibility) resourceOf(apiVersion, kind string) (schema.GroupVersionResource, bool) {
	i := slices.IndexFunc(v.kinds, func(k watchedKind) bool { return k.kind == kind && k.apiVersion == apiVersion })
	if i < 0 {
		return schema.GroupVersionResource{}, false
	}
	return v.kinds[i].GroupVersionResource, true
}

// hides returns why nothing of a resource can be read, nil if something can.
func (v *visibility) hides(resource schema.GroupVersionResource) *hidden {
	if h := v.hidden[resource.GroupResource()]; h != nil && !h.partly {
		return h
	}
	return nil
}

// notShown is an object that something depends on and that the informers do not show.
type notShown struct {
	resource schema.GroupVersionResource
	types.NamespacedName
}

// findUnseen returns the due workloads whose decisions stay as they are because it is not known what has become of the workload, of its
// placement or of one of its clusters.
func (w *workspace) findUnseen(ctx context.Context, o *cacheView, due []*workItem, r *result) map[workloadKey]*hidden {
	unseen := map[workloadKey]*hidden{}
	missing := w.restsOn(o, due, unseen)
	var asked []notShown
	gone := map[notShown]bool{}
	for object := range missing {
		if gone[object] = w.gone[object]; !gone[object] {
			asked = append(asked, object)
		}
	}
	unconfirmed := w.confirmGone(ctx, o.binding, asked, r)
	for object, items := range missing {
		why := unconfirmed[object]
		for _, item := range items {
			if item.lacks = true; why != nil {
				unseen[item.key] = why
			}
		}
		gone[object] = why == nil
	}
	w.gone = gone
	w.findOutdated(ctx, o, due, unseen, r)
	return unseen
}

// restsOn returns the objects that workloads depend on and the informers do not show, with the workloads concerned. Workloads that could
// not be shown at all are added to unseen.
func (w *workspace) restsOn(o *cacheView, due []*workItem, unseen map[workloadKey]*hidden) map[notShown][]*workItem {
	placements, clusters := map[types.NamespacedName]bool{}, map[string]bool{}
	for _, p := range o.placements {
		placements[namespacedName(p)] = true
	}
	for _, c := range o.clusters {
		clusters[c.Name] = true
	}
	missing := map[notShown][]*workItem{}
	add := func(item *workItem, resource schema.GroupVersionResource, namespace, name string) {
		object := notShown{resource, types.NamespacedName{Namespace: namespace, Name: name}}
		missing[object] = append(missing[object], item)
	}
	for _, item := range due {
		item.lacks = false
		key, record, shown := item.key, w.store.records[item.key], item.object != nil
		decided := record != nil && record.current != nil
		if runs := len(w.running[key]) > 0; !decided && (!runs || shown) {
			continue
		}
		resource, watched := o.resourceOf(key.apiVersion, key.kind)
		h := o.hidden[resource.GroupResource()]
		switch {
		case h != nil && (!h.partly || !shown):
			unseen[key] = h
		case shown:
		case !watched:
			unseen[key] = &hidden{
				reason: v1alpha1.KindNotWatchedReason, why: fmt.Sprintf("%s %s is not among the workload kinds of the controller", key.apiVersion, key.kind),
				how: "The operator of the controller adds it to --workload-kinds",
			}
		default:
			add(item, resource, key.namespace, key.name)
		}
		if item.lacks = unseen[key] != nil; item.lacks || !decided {
			continue
		}
		if by := record.current.placement; !placements[by] {
			add(item, placementResource, by.Namespace, by.Name)
		}
		for _, c := range record.current.decision.Clusters {
			if !clusters[c.Name] {
				add(item, clusterResource, "", c.Name)
			}
		}
	}
	return missing
}

// keep leaves the decision on a workload as it is.
func (p *pass) keep(item *workItem) {
	p.index.drop(item)
	p.index.add(item, leftOver)
	decision, by, _ := p.store.get(item.key)
	item.stored = decision
	p.index.setClusters(item, item.clusters())
	for _, owner := range p.placements {
		if namespacedName(owner.object) == by {
			item.enter(account{to: owner, owned: true, placed: true, clusters: item.clusters(), unseen: p.kept[item.key]})
		}
	}
}

// confirmGone asks the server for objects that the informers do not show, and returns those not known to be gone. Failed requests
// are retried after a back-off.
func (w *workspace) confirmGone(ctx context.Context, binding *apisv1alpha2.APIBinding, objects []notShown, r *result) map[notShown]*hidden {
	asked := map[schema.GroupVersionResource][]types.NamespacedName{}
	for _, object := range objects {
		asked[object.resource] = append(asked[object.resource], object.NamespacedName)
	}
	unconfirmed := map[notShown]*hidden{}
	for resource, still := range asked {
		failure := w.readFailures[resource]
		if failure == nil || !w.now().Before(failure.retryAt) {
			there, err := w.confirmLive(ctx, binding, resource, still)
			if err == nil {
				still = slices.DeleteFunc(still, func(name types.NamespacedName) bool { return !contains(there, name) })
			}
			if len(still) == 0 {
				delete(w.readFailures, resource)
				continue
			}
			failure = failure.again(err, w.now())
			w.readFailures[resource] = failure
		}
		r.within(failure.retryAt.Sub(w.now()))
		for _, name := range still {
			unconfirmed[notShown{resource, name}] = failure.unconfirmed(fmt.Sprintf("%s %s is not shown by the watch any more", resource.GroupResource(), name.Name))
		}
	}
	return unconfirmed
}

// contains reports whether a map has a key.
func contains[K comparable, V any](all map[K]V, key K) bool {
	_, found := all[key]
	return found
}

// findOutdated adds to unseen the workloads for which a different object of the same name is decided or runs, until the server says that
// the latter no longer exists: an informer that lags behind shows a recreated workload as it was before.
func (w *workspace) findOutdated(ctx context.Context, o *cacheView, due []*workItem, unseen map[workloadKey]*hidden, r *result) {
	maps.DeleteFunc(w.replaced, func(uid types.UID, key workloadKey) bool {
		return len(w.copies.Of(uid)) == 0 && w.decidedUID(key) != uid
	})
	failures, asked := map[workloadKey]*writeFailure{}, map[schema.GroupVersionResource][]*workItem{}
	for _, item := range due {
		if item.object == nil || unseen[item.key] != nil || len(w.others(item)) == 0 {
			continue
		}
		if f := w.outdated[item.key]; f != nil && w.now().Before(f.retryAt) {
			failures[item.key] = f
		} else if resource, watched := o.resourceOf(item.key.apiVersion, item.key.kind); watched {
			asked[resource] = append(asked[resource], item)
		}
	}
	for resource, items := range asked {
		names := make([]types.NamespacedName, len(items))
		for i, item := range items {
			names[i] = namespacedName(item.object)
		}
		there, err := w.liveUIDs(ctx, resource, names)
		for i, item := range items {
			others := w.others(item)
			if now, found := there[names[i]]; err != nil || !found || others.Has(now) {
				failures[item.key] = w.outdated[item.key].again(err, w.now())
				continue
			}
			for uid := range others {
				w.replaced[uid] = item.key
				w.notRunning(item.key, uid)
			}
		}
	}
	for key, f := range failures {
		unseen[key] = f.unconfirmed(fmt.Sprintf("another object is shown as %s %s than that which is placed or runs", key.kind, key.name))
		r.within(f.retryAt.Sub(w.now()))
	}
	w.outdated = failures
}

// others returns the UIDs of workloads with the same name as a shown one that are decided or run, unless they are known to be replaced.
func (w *workspace) others(item *workItem) sets.Set[types.UID] {
	decided := w.decidedUID(item.key)
	if decided == "" {
		decided = item.object.UID
	}
	if len(w.running[item.key]) == 0 && decided == item.object.UID {
		return nil
	}
	uids := w.running[item.key].Union(sets.New(decided))
	uids.Delete(item.object.UID)
	for uid := range uids {
		if contains(w.replaced, uid) {
			uids.Delete(uid)
		}
	}
	return uids
}

// decidedUID returns the UID of the workload that the current decision is on, empty if there is none.
func (w *workspace) decidedUID(key workloadKey) types.UID {
	decision, _, _ := w.store.get(key)
	return decision.Workload.UID
}

// claimsSettle is how long a binding has to be unchanged before missing objects count as missing, and claimsSettleEach how much longer
// for each decided workload. If a claim is withdrawn and accepted again, kcp takes its objects away and gives them back
// one by one, and the binding does not show when that is done.
const (
	claimsSettle     = 10 * time.Second
	claimsSettleEach = 100 * time.Millisecond
)

// boundClaims are the claims of a workspace's binding as last shown, and since when they may have been the same.
type boundClaims struct {
	seen  *apisv1alpha2.APIBinding
	since time.Time
}

// watch records when the binding changes. Any change counts, even if the claims are the same: passes do not see every version,
// so a claim may have been withdrawn and accepted again in between.
func (c *boundClaims) watch(now *apisv1alpha2.APIBinding, at time.Time) {
	before := c.seen
	switch {
	case before == now || before != nil && now != nil && before.UID == now.UID && before.ResourceVersion == now.ResourceVersion:
	case before == nil && c.since.IsZero():
		// We have just started: the binding shows when it was last written.
		for _, written := range now.ManagedFields {
			if written.Time != nil && written.Time.After(c.since) {
				c.since = written.Time.Time
			}
		}
	default:
		c.since = at
	}
	c.seen = now
}

// unsettled returns how long it takes until the claims of the binding count as settled, given the number of decided workloads.
func (c *boundClaims) unsettled(decided int, at time.Time) time.Duration {
	return c.since.Add(claimsSettle + time.Duration(decided)*claimsSettleEach).Sub(at)
}

// confirmLive returns which of the objects the server has, or all of the resource if names is nil. It fails if the answer is not
// reliable. The binding is read last: once it no longer accepts a claim, kcp takes the objects away one by one.
func (w *workspace) confirmLive(ctx context.Context, binding *apisv1alpha2.APIBinding, resource schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]types.UID, error) {
	if resource.Group != v1alpha1.GroupName && w.claims.unsettled(len(w.store.records), w.now()) > 0 {
		return nil, errors.New("the APIBinding has changed only just")
	}
	there, err := w.liveUIDs(ctx, resource, names)
	if err != nil {
		return nil, err
	}
	bound, err := w.stillBound(ctx, binding)
	if err == nil && !bound {
		err = errors.New("the APIBinding has changed meanwhile")
	}
	return there, err
}

// unconfirmed returns why an object is not known to be gone; what is the evidence that it may be.
func (f *writeFailure) unconfirmed(what string) *hidden {
	why := what + ", and the server has it"
	if f.err != nil {
		why = fmt.Sprintf("%s, and the server does not confirm that it is gone: %v", what, f.err)
	}
	return &hidden{reason: v1alpha1.NotConfirmedReason, why: why, how: "The server is asked again", fleeting: f.backOff < confirmWithin}
}

// policiesUnseen returns an error while it is not known which policies the workspace has; those in force stay then.
// A workspace that does not show its ConfigMaps, and has never shown policies of its own, is decided by the built-in ones.
func (w *workspace) policiesUnseen(ctx context.Context, o *cacheView, r *result) error {
	if h := o.hides(configMapResource); h != nil {
		if w.store != nil && !w.hasOwnPolicies() {
			return nil
		}
		return h
	}
	shown := uidsOf(o.configMaps)
	known := w.policyMaps
	if known == nil && w.hasOwnPolicies() { // we have just started
		var err error
		if known, err = w.confirmLive(ctx, o.binding, configMapResource, nil); err != nil {
			r.within(confirmWithin)
			return &hidden{reason: v1alpha1.NotConfirmedReason, why: "the ConfigMaps with policies cannot be listed: " + err.Error(), how: "The server is asked again"}
		}
	}
	unshown := missing(configMapResource, known, shown)
	if h := o.hidden[configMapResource.GroupResource()]; h != nil && (len(unshown) > 0 || len(shown) == 0 && w.hasOwnPolicies()) {
		return h
	}
	for _, h := range w.confirmGone(ctx, o.binding, unshown, r) {
		return h
	}
	w.policyMaps = shown
	return nil
}

// uidsOf returns the UIDs of objects by name.
func uidsOf[T metav1.Object](objects []T) map[types.NamespacedName]types.UID {
	uids := make(map[types.NamespacedName]types.UID, len(objects))
	for _, o := range objects {
		uids[namespacedName(o)] = o.GetUID()
	}
	return uids
}

// missing returns the objects of a resource that were known and are not shown, whatever their UIDs.
func missing(resource schema.GroupVersionResource, known, shown map[types.NamespacedName]types.UID) (all []notShown) {
	for name := range known {
		if !contains(shown, name) {
			all = append(all, notShown{resource, name})
		}
	}
	return all
}

// hasOwnPolicies reports whether policies of the workspace's own are in force, or were when something was decided.
func (w *workspace) hasOwnPolicies() bool {
	if w.inForce && !policy.IsBuiltin(w.engine.PolicyDigest(w.name)) {
		return true
	}
	if w.store == nil {
		return false
	}
	for _, record := range w.store.records {
		if e := record.current; e != nil && e.decision.PolicyDigest != "" && !policy.IsBuiltin(e.decision.PolicyDigest) {
			return true
		}
	}
	return false
}

// reportUnseen reports for each placement whether everything that it can select is seen.
func (p *pass) reportUnseen(o *cacheView) {
	for _, s := range p.placements {
		reasons := map[string]*hidden{}
		add := func(h *hidden) {
			if !h.fleeting {
				reasons[h.why] = h
			}
		}
		for _, kind := range o.kinds {
			if h := o.hides(kind.GroupVersionResource); h != nil && selects(s.object, kind) {
				add(h)
			}
		}
		for _, why := range s.unseen {
			add(why)
		}
		s.visible = visibleCondition(reasons, len(s.unseen))
	}
}

// selects reports whether a placement can select workloads of a kind.
func selects(p *v1alpha1.WorkloadPlacement, kind watchedKind) bool {
	types := p.Spec.WorkloadSelector.WorkloadTypes
	return len(types) == 0 || slices.Contains(types, v1alpha1.WorkloadType{APIVersion: kind.apiVersion, Kind: kind.kind})
}

// visibleCondition returns the condition that reports whether all workloads can be seen; kept is how many decisions are left as they are.
func visibleCondition(reasons map[string]*hidden, kept int) *conditionsv1alpha1.Condition {
	if len(reasons) == 0 {
		return conditions.TrueCondition(v1alpha1.WorkloadsVisibleCondition)
	}
	whys := slices.Sorted(maps.Keys(reasons))
	var hows []string
	for _, why := range whys {
		if how := reasons[why].how; !slices.Contains(hows, how) {
			hows = append(hows, how)
		}
	}
	return conditions.FalseCondition(v1alpha1.WorkloadsVisibleCondition, reasons[whys[0]].reason, conditionsv1alpha1.ConditionSeverityWarning, "%s",
		shorten(fmt.Sprintf("%s. %d decided workloads that cannot be seen keep their clusters; new ones are not noticed. %s", examples(whys), kept, strings.Join(hows, ". "))))
}

// visibleEvent reports once that workloads can no longer be seen.
func (w *workspace) visibleEvent(after, before *v1alpha1.WorkloadPlacement) {
	now, then := conditions.Get(after, v1alpha1.WorkloadsVisibleCondition), conditions.Get(before, v1alpha1.WorkloadsVisibleCondition)
	if now != nil && now.Status == corev1.ConditionFalse && (then == nil || then.Reason != now.Reason) {
		w.event(after, corev1.EventTypeWarning, now.Reason, now.Message)
	}
}
