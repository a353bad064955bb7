package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	operators "k8s.io/apimachinery/pkg/selection"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Blockers returns the objects that keep a workload, or some of its replicas, waiting: those that keep it from the Nearest cluster, or its
// placement if clusters are feasible but cannot be combined.
func (d *Decision) Blockers() []v1alpha1.QueueBlocker {
	p := d.class.Placement
	ofPlacement := func(field, message string) v1alpha1.QueueBlocker {
		return v1alpha1.QueueBlocker{Kind: "WorkloadPlacement", Namespace: p.Namespace, Name: p.Name, Field: field, Message: message}
	}
	cluster, obstacles := d.Nearest()
	var all []v1alpha1.QueueBlocker
	for i := range obstacles {
		o := &obstacles[i]
		message := cmp.Or(o.Remedy, o.Message)
		ofCluster := func(field string) v1alpha1.QueueBlocker {
			return v1alpha1.QueueBlocker{Kind: "ClusterRegistration", Name: cluster, Field: field, Message: message}
		}
		switch o.Stage {
		case filter.Location:
			all = append(all, ofPlacement("spec.locationSelector", message))
		case filter.ClusterSelector:
			all = append(all, ofPlacement("spec.clusterSelector", message))
		case filter.Constraint:
			all = append(all, ofPlacement("spec.constraints["+o.Constraint+"]", message))
		case filter.Policy:
			all = append(all, v1alpha1.QueueBlocker{Kind: "ConfigMap", Message: message})
		case WorkloadAffinity:
			all = append(all, d.blockingWorkload(cluster, message))
		case filter.Capability:
			all = append(all, ofCluster("spec.capabilities"))
		case filter.Taint:
			all = append(all, ofCluster("spec.taints"))
		case filter.Ready:
			all = append(all, ofCluster("status.conditions[Ready]"))
		case filter.Capacity:
			all = append(all, ofCluster("status.allocatable"))
		case filter.Quota:
			all = append(all, v1alpha1.QueueBlocker{Kind: "ClusterSet", Name: d.boundedBy(cluster), Field: "spec.grants", Message: message})
		default:
			all = append(all, ofCluster(""))
		}
		if len(all) == v1alpha1.MaxBlockers {
			break
		}
	}
	if len(all) == 0 && d.plan != nil && d.plan.why != "" {
		all = append(all, ofPlacement("", d.plan.why))
	}
	return all
}

// blockingWorkload returns the other workload, or the placement of others, because of which a term of affinity rejects a
// cluster; the first by name if there are several.
func (d *Decision) blockingWorkload(cluster, message string) v1alpha1.QueueBlocker {
	rule, _ := d.rejectedBy(cluster)
	if rule.by.Name != "" {
		return v1alpha1.QueueBlocker{Kind: "WorkloadPlacement", Namespace: rule.by.Namespace, Name: rule.by.Name, Field: "spec." + rule.Name, Message: message}
	}
	var other *workload.Workload
	if inventory := d.attraction().inventory; inventory != nil {
		for o := range inventory.each {
			if o.End == "" && rule.Others.Match(o.Namespace, o.Labels) && ownerOf(o.Reference) != ownerOf(d.Workload) && (other == nil || o.String() < other.String()) {
				other = o.Workload
			}
		}
	}
	if other == nil {
		p := d.class.Placement
		return v1alpha1.QueueBlocker{Kind: "WorkloadPlacement", Namespace: p.Namespace, Name: p.Name, Field: "spec." + rule.Name, Message: message}
	}
	return v1alpha1.QueueBlocker{Kind: other.Kind, Namespace: other.Namespace, Name: other.Name, Message: message}
}

// suggestedName is the name of a suggested cluster, unless the placement lists names.
const suggestedName = "suggested"

// maxModels is how many clusters a suggestion is modelled on at most.
const maxModels = 8

// Suggest returns a cluster that would have a place for a waiting workload if it were registered, with no more capacity than that takes. It
// returns nil if none is found, or if a quota of the workspace would keep it from being used. The result has been tried: registered beside
// the others in a copy of the workspace, it gets the workload. Its capacity is the requests, or a small multiple of them if constraints ask
// for more.
func (e *Engine) Suggest(ctx context.Context, request Request) (*v1alpha1.SuggestedRegistration, error) {
	if err := request.validate(ctx); err != nil {
		return nil, err
	}
	w := e.lookUp(request.Workspace)
	in, _, err := w.scheduled(ctx, &request)
	if err != nil {
		return nil, err
	}
	name, ok := w.nameFor(in.Placement)
	if !ok {
		return nil, nil
	}
	t := &trial{workspace: e.copyOf(w), ctx: ctx, request: in}
	asks := in.Workload.On(1, 1)
	if in.Placement.Divides(in.Workload) != nil {
		waiting := in.Workload.Replicas
		for i := range in.Current {
			waiting -= in.Current[i].Replicas
		}
		if waiting > 0 {
			asks = in.Workload.Share(waiting)
		}
	}
	if !w.mayHave(asks.Requests) {
		return nil, nil
	}
	for _, times := range []int64{1, 2, 4, 10} {
		size, err := asks.Requests.Mul(times)
		if err != nil {
			break // larger than any cluster
		}
		for _, model := range w.models(in.Placement) {
			model.Name, model.Allocatable, model.UsableNodes, model.Nodes = name, size, 1, model.Nodes.Uncounted()
			if !t.admits(&model) {
				continue
			}
			t.simplify(&model)
			return suggestionOf(in.Placement, &model), t.err
		}
	}
	return nil, t.err
}

// mayHave reports whether the workspace may have that much more on a cluster, whichever of its granted sets the cluster joins.
func (w *workspace) mayHave(amount capacity.Resources) bool {
	w.lock()
	defer w.mu.Unlock()
	if w.window == nil || w.window.grants == nil {
		return true
	}
	all := w.window.grants.all
	return len(all) > 0 && w.ledger.Suffices(amount, 1) && !slices.ContainsFunc(all, func(g Grant) bool {
		for name, asked := range amount.Each {
			if most, bounded := g.ClusterQuota[name]; bounded && asked > most {
				return true
			}
		}
		return false
	})
}

// copyOf returns a copy of a workspace with the same clusters, claims and policies, and its own caches: what is tried there changes nothing
// here.
func (e *Engine) copyOf(w *workspace) *workspace {
	c := e.newWorkspace(w.name, newFleet(w.name))
	c.policies.Store(w.policies.Load())
	c.shadow.Store(w.shadow.Load())
	w.lock()
	clusters, granted, inventory := w.clustersAlone(), w.granted(), w.affinity.inventory
	w.mu.Unlock()
	c.replace(granted, nil)
	for _, one := range clusters {
		c.setCluster(one)
	}
	if inventory != nil {
		c.setAffinity(inventory)
	}
	return c
}

// trial tries clusters in a copy of a workspace.
type trial struct {
	*workspace
	ctx     context.Context
	request *Request
	err     error
}

// admits reports whether the workload is placed on a cluster once that is registered, and no replica waits any more.
func (t *trial) admits(c *snapshot.Cluster) bool {
	if t.err != nil {
		return false
	}
	registered := *c
	t.setCluster(&registered)
	d, err := t.decideAs(t.ctx, t.request, false)
	t.removeCluster(c.Name)
	t.err = err
	return err == nil && d.chose(c.Name) && d.Waiting == 0
}

// simplify removes everything without which the cluster still admits the workload.
func (t *trial) simplify(c *snapshot.Cluster) {
	attempt := func(change func(*snapshot.Cluster)) {
		simpler := *c
		change(&simpler)
		if t.admits(&simpler) {
			*c = simpler
		}
	}
	attempt(func(s *snapshot.Cluster) { s.Location = "" })
	for _, key := range slices.Sorted(maps.Keys(c.Labels)) {
		attempt(func(s *snapshot.Cluster) {
			s.Labels = maps.Clone(s.Labels)
			delete(s.Labels, key)
		})
	}
	for _, one := range slices.Clone(c.Capabilities) {
		attempt(func(s *snapshot.Cluster) {
			s.Capabilities = slices.DeleteFunc(slices.Clone(s.Capabilities), func(o snapshot.Capability) bool { return o.Type == one.Type })
		})
	}
	attempt(func(s *snapshot.Cluster) { s.Nodes = nil })
}

// nameFor returns the name of a suggested cluster: if the placement lists names, one of these that no cluster has. ok is false if there is
// none.
func (w *workspace) nameFor(p *placement.Placement) (name string, ok bool) {
	w.lock()
	defer w.mu.Unlock()
	registered := func(name string) bool {
		_, there := w.seen.Position(name)
		return there
	}
	for _, in := range append([]*placement.Placement{p}, p.Groups...) {
		for _, name := range in.ClusterNames {
			if !registered(name) {
				return name, true
			}
		}
	}
	if len(p.ClusterNames) > 0 {
		return "", false
	}
	name = suggestedName
	for i := 2; registered(name); i++ {
		name = fmt.Sprintf("%s-%d", suggestedName, i)
	}
	return name, true
}

// models returns the clusters that a suggestion starts from: the least that the selectors of a placement ask for, then existing clusters.
func (w *workspace) models(p *placement.Placement) (models []snapshot.Cluster) {
	ready := []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}}
	for _, in := range append([]*placement.Placement{p}, p.Groups...) {
		m := snapshot.Cluster{Conditions: ready, Labels: selected(in.Clusters)}
		m.Location = selected(in.Locations)[v1alpha1.TopologyKeyLocation]
		for i := range in.Spread {
			if key := string(in.Spread[i].Key); key != v1alpha1.TopologyKeyLocation && key != v1alpha1.TopologyKeyCluster && m.Labels[key] == "" {
				m.Labels[key] = suggestedName
			}
		}
		for _, c := range in.Capabilities {
			m.Capabilities = append(m.Capabilities, snapshot.Capability{Type: c.Type, Available: true})
		}
		models = append(models, m)
	}
	w.lock()
	defer w.mu.Unlock()
	for position := range min(w.seen.Len(), maxModels) {
		o := w.seen.Row(position).Cluster
		m := snapshot.Cluster{Location: o.Location, Labels: o.Labels, Capabilities: slices.Clone(o.Capabilities), Taints: o.Taints, Nodes: o.Nodes, Scores: o.Scores, Conditions: ready}
		for i := range m.Capabilities {
			m.Capabilities[i].Available = true
		}
		models = append(models, m)
	}
	return models
}

// selected returns labels that a selector selects, as far as its requirements determine them.
func selected(by labels.Selector) map[string]string {
	found := map[string]string{}
	if by == nil {
		return found
	}
	requirements, _ := by.Requirements()
	for _, r := range requirements {
		switch r.Operator() {
		case operators.In, operators.Equals, operators.DoubleEquals:
			if values := r.Values().List(); len(values) > 0 {
				found[r.Key()] = values[0]
			}
		case operators.Exists:
			found[r.Key()] = "true"
		}
	}
	return found
}

func suggestionOf(p *placement.Placement, c *snapshot.Cluster) *v1alpha1.SuggestedRegistration {
	s := &v1alpha1.SuggestedRegistration{Location: c.Location, Labels: c.Labels, Taints: c.Taints, Allocatable: c.Allocatable.ResourceList()}
	if slices.Contains(p.ClusterNames, c.Name) || slices.ContainsFunc(p.Groups, func(g *placement.Placement) bool { return slices.Contains(g.ClusterNames, c.Name) }) {
		s.Name = c.Name
	}
	for _, one := range c.Capabilities {
		s.Capabilities = append(s.Capabilities, v1alpha1.Capability{Type: one.Type, Available: true, Attributes: one.Attributes})
	}
	return s
}
