package controller

import (
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
	"github.com/kcp-placement/placement/internal/delivery/render"
)

// asks returns what a workload asks the engine for: all that it had to run at first, since that is what each delivered copy runs and how
// replicas are divided. If others bring it to its only cluster, its status shows how much of that is left.
func (p *pass) asks(item *workItem) *workload.Workload {
	w := item.object.workload
	if p.handOver != nil || item.stored.Divided || len(item.stored.Clusters) > 1 {
		return w.Whole()
	}
	return w
}

// progress sets how many pods are left on each cluster, and which clusters have a part of what there is to complete.
//
// Invariant: no less is asked for on a cluster than pods of the workload may still request there.
func (p *pass) progress(item *workItem, r *engine.Request) {
	for i, c := range item.stored.Clusters {
		if c.ReservationExpiredAt == nil && p.holdsLeft(c.Name) {
			promised, _ := capacity.FromResourceList(reservedOn(&item.stored, &c)) // what cannot be read is not reserved
			r.Current[i].Runs = p.stillRuns(item.key, &item.stored, c.Name, promised)
		}
	}
	now := item.object.workload
	whole := now.Whole()
	if r.Workload != whole || !whole.Divisible || whole.Replicas == 0 {
		return
	}
	copies, manifests := p.copies.Of(item.object.UID), map[string]*v1alpha1.Manifest{}
	for i := range r.Current {
		c := &r.Current[i]
		copied := copies[c.Name]
		switch {
		case copied != nil && copied.Manifest != nil:
			manifests[c.Name] = copied.Manifest
			c.Left = p.left(copied)
		case p.delivering[c.Name].Delivers:
		case now != whole && (item.stored.Divided || len(r.Current) == 1): // it is not known where the pods have ended
			c.Left = &now.Replicas
		}
	}
	if !item.stored.Divided || len(manifests) == 0 || len(p.divided(whole.APIVersion, whole.Kind)) < 2 {
		return // any cluster can run any of the replicas
	}
	if object := decoded(item.object.source.Manifest); object != nil {
		parts, left := render.Parts(p.table, object, manifests)
		for i := range r.Current {
			r.Current[i].Part = parts[r.Current[i].Name]
		}
		r.Unassigned = left > 0
	}
}

// stillRuns returns how much of what is promised to a workload on a cluster that holdsLeft it may still request there though it asks for
// less: all of it, until the agent reports that the cluster has the workload's current spec and runs no more than that. It returns nothing
// for a Job, where progress knows better, and where an autoscaler in the cluster owns the replicas, which nobody can know. A write of what
// was decided before may still be in flight.
func (p *pass) stillRuns(key workloadKey, decided *v1alpha1.WorkloadDecision, cluster string, promised capacity.Resources) (none capacity.Resources) {
	item, copied := p.index.items[key], p.copies.Of(decided.Workload.UID)[cluster]
	shown := item != nil && item.object != nil && item.object.UID == decided.Workload.UID
	switch {
	case promised.IsZero(), len(p.divided(key.apiVersion, key.kind)) > 1, shown && item.object.end.RequestsNothing(),
		copied != nil && copied.Manifest != nil && copied.Manifest.Scaled:
		return none
	case copied == nil || decided.Divided:
		since := decided.DecidedAt.Time
		if item != nil && item.asksSince.After(since) {
			since = item.asksSince
		}
		until := item.underWayUntil(since)
		if soon := p.now().Add(confirmWithin); p.unsure && until.Before(soon) {
			until = soon
		}
		if wait := until.Sub(p.now()); wait > 0 {
			if item != nil {
				p.index.wakeAt(item, until)
			}
			return promised
		}
	}
	switch {
	case copied == nil:
		return none
	case !shown || !copied.CarriedOut(item.object.source):
		return promised
	}
	if whole := item.object.workload.Whole(); whole.Divisible && whole.Replicas > 0 {
		return whole.Share(int64(ptr.Deref(copied.Manifest.Replicas, 0))).Requests.Min(promised)
	}
	return none
}

// divided returns the paths of a kind's fields that are divided among clusters.
func (p *pass) divided(apiVersion, kind string) []string {
	d, err := p.table.Find(apiVersion, kind)
	if err != nil {
		return nil
	}
	return d.Divided()
}

// left returns how many pods a copy may still run, as its agent reports: what the kind would count for it with that status and unlimited
// replicas; nil if nothing bounds them.
func (p *pass) left(c *delivery.Copy) *int64 {
	n := c.Counts()
	if c.Health() == v1alpha1.HealthPending || n.Succeeded == 0 && n.Failed == 0 && n.CompletionTime == nil {
		return nil
	}
	if n.CompletionTime != nil || n.Failed > 0 && c.Health() == v1alpha1.HealthFailed {
		return new(int64)
	}
	object := decoded(c.Manifest.Object.Raw)
	if object == nil {
		return nil
	}
	object.Object["status"] = map[string]any{"active": int64(n.Active), "succeeded": int64(n.Succeeded), "failed": int64(n.Failed)}
	paths := p.divided(object.GetAPIVersion(), object.GetKind())
	if len(paths) == 0 || unstructured.SetNestedField(object.Object, int64(math.MaxInt32), strings.Split(paths[0], ".")...) != nil {
		return nil
	}
	pods, err := p.table.Read(object).Pods()
	if err != nil {
		return nil
	}
	return &pods
}

// decoded parses an object from JSON; nil if it is not one.
func decoded(content []byte) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(content, &object.Object); err != nil || object.Object == nil {
		return nil
	}
	return object
}
