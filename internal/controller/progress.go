package controller

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"

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

// progress says what pods that have ended asked for on each cluster, and which clusters have a part of what there is to complete.
//
// Invariant: no less is asked for on a cluster than pods of the workload may still request there.
func (p *pass) progress(item *workItem, r *engine.Request) {
	now := item.object.workload
	whole := now.Whole()
	if r.Workload != whole || whole.PerNode || whole.Replicas == 0 {
		return
	}
	copies, manifests := p.copies.Of(item.object.UID), map[string]*v1alpha1.Manifest{}
	for i := range r.Current {
		c := &r.Current[i]
		copied := copies[c.Name]
		switch {
		case p.delivering[c.Name].Delivers || copied != nil:
			if copied != nil && copied.Manifest != nil {
				manifests[c.Name] = copied.Manifest
				c.Ended = requestsOf(whole, p.ended(copied))
			}
		case len(r.Current) == 1:
			c.Ended = whole.Requests.Without(now.Requests)
		case item.stored.Divided: // how many have ended where is not known, but no cluster has more left than all of them
			c.Ended = requestsOf(whole, c.Replicas-min(c.Replicas, now.Replicas))
		}
	}
	if d, err := p.table.Find(whole.APIVersion, whole.Kind); err != nil || !item.stored.Divided || len(manifests) == 0 || len(d.Divided()) < 2 {
		return // any cluster can run any of its replicas
	}
	if object := decoded(item.object.source.Manifest); object != nil {
		parts, left := render.Parts(p.table, object, manifests)
		for i := range r.Current {
			r.Current[i].Part = parts[r.Current[i].Name]
		}
		r.Unassigned = left > 0
	}
}

// requestsOf is what so many pods of a workload whose pods are all alike request.
func requestsOf(whole *workload.Workload, pods int64) capacity.Resources {
	if pods <= 0 || !whole.Divisible {
		return capacity.Resources{}
	}
	return whole.Requests.Without(whole.Share(whole.Replicas - min(pods, whole.Replicas)).Requests)
}

// ended is how many of the pods that a copy has to run have ended, as its agent reports: what the kind counts for the copy with its own
// status.
func (p *pass) ended(c *delivery.Copy) int64 {
	n := c.Counts()
	health := c.Health()
	if health == v1alpha1.HealthPending || n.Succeeded == 0 && n.Failed == 0 && n.CompletionTime == nil {
		return 0
	}
	object := decoded(c.Manifest.Object.Raw)
	if object == nil {
		return 0
	}
	object.Object["status"] = map[string]any{"active": int64(n.Active), "succeeded": int64(n.Succeeded), "failed": int64(n.Failed)}
	w, err := p.table.FromObject(object)
	switch {
	case err != nil || w.Unended == nil:
		return 0
	case n.CompletionTime != nil || health == v1alpha1.HealthFailed:
		return w.Unended.Replicas
	default:
		return w.Unended.Replicas - w.Replicas
	}
}

// decoded is an object as JSON; nil where it is none.
func decoded(content []byte) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(content, &object.Object); err != nil || object.Object == nil {
		return nil
	}
	return object
}
