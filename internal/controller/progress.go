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

// asks is what a workload asks the engine for: all that it had to run at first, since so much runs each copy that is delivered, and so
// replicas are divided. Where others bring it to its only cluster, its status says what of that is left.
func (p *pass) asks(item *workItem) *workload.Workload {
	w := item.object.workload
	if p.handOver != nil || item.stored.Divided || len(item.stored.Clusters) > 1 {
		return w.Whole()
	}
	return w
}

// progress says how many pods are left on each cluster, and which clusters have a part of what there is to complete.
//
// Invariant: no less is asked for on a cluster than pods of the workload may still request there.
func (p *pass) progress(item *workItem, r *engine.Request) {
	p.stillRuns(item, r)
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
		case now != whole && (item.stored.Divided || len(r.Current) == 1): // where they have ended is not known
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

// stillRuns says what a workload may still request on each cluster that it is delivered to, though it asks for less there: as much as is
// reserved, until the agent says that the cluster has what the workload is now and runs no more than that. Of a Job, progress knows that
// better, and where an autoscaler of the cluster owns the replicas nobody does.
func (p *pass) stillRuns(item *workItem, r *engine.Request) {
	whole := item.object.workload.Whole()
	if p.handOver == nil || r.Workload != whole || len(p.divided(whole.APIVersion, whole.Kind)) > 1 {
		return
	}
	copies, since := p.copies.Of(item.object.UID), item.stored.DecidedAt.Time
	if item.asksSince.After(since) {
		since = item.asksSince
	}
	until := item.underWayUntil(since)
	if soon := p.now().Add(confirmWithin); p.unsure && until.Before(soon) {
		until = soon
	}
	underWay := p.now().Before(until) // a write that delivers what was decided before
	for i, c := range item.stored.Clusters {
		copied := copies[c.Name]
		switch {
		case !p.holdsLeft(c.Name) || c.ReservationExpiredAt != nil || copied != nil && copied.Manifest != nil && copied.Manifest.Scaled:
		case underWay && (copied == nil || item.stored.Divided):
			r.Current[i].Runs, _ = capacity.FromResourceList(reservedOn(&item.stored, &c)) // what cannot be read is not reserved
			p.index.wakeAt(item, until)
		case copied == nil:
		case !copied.CarriedOut(item.object.source):
			r.Current[i].Runs, _ = capacity.FromResourceList(reservedOn(&item.stored, &c)) // what cannot be read is not reserved
		case whole.Divisible && whole.Replicas > 0:
			r.Current[i].Runs = whole.Share(int64(ptr.Deref(copied.Manifest.Replicas, 0))).Requests
		}
	}
}

// divided are the paths of what is divided of a kind.
func (p *pass) divided(apiVersion, kind string) []string {
	d, err := p.table.Find(apiVersion, kind)
	if err != nil {
		return nil
	}
	return d.Divided()
}

// left is how many pods a copy may still run, as its agent reports: what the kind would count for it with that status if it had any number
// of replicas; nil where nothing bounds them.
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

// decoded is an object as JSON; nil where it is none.
func decoded(content []byte) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(content, &object.Object); err != nil || object.Object == nil {
		return nil
	}
	return object
}
