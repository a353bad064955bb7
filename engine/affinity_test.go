package engine_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestAffinity drives random histories of placing, releasing, labelling, finishing and restarting, and compares the engine's result
// for each cluster with a reference that counts everything anew, by the sentences of the API:
//
//   - required keeps a workload out of domains without one of the others, or with one; a cluster without the topology key is in none;
//   - a workload that selects itself may be the first if none of the others is in any domain;
//   - a placed workload's required repulsion keeps the workloads that it selects out of its domains;
//   - terms with a weight add or subtract points; a workload is never its own other; clusters that it runs on are not judged;
//   - terms of policies are added to those of the placement, as if the placement had them for this one workload.
func TestAffinity(t *testing.T) {
	sets, compiler := map[*affinityPolicy]*policy.Set{}, compilePolicies(t).compiler
	for i := range affinityPolicies {
		set, err := compiler.Compile(map[string]string{"a.rego": "package placement.scheduling\n" + affinityPolicies[i].text})
		if err != nil {
			t.Fatal(err)
		}
		sets[&affinityPolicies[i]] = set
	}
	rapid.Check(t, func(t *rapid.T) {
		h := newAffinityHistory(t, sets)
		t.Repeat(map[string]func(*rapid.T){
			"decide":   h.decide,
			"again":    h.decide,
			"batch":    h.decideBatch,
			"release":  h.release,
			"label":    h.label,
			"finish":   h.finish,
			"hold":     h.hold,
			"restore":  h.restoreOne,
			"restart":  h.restart,
			"facts":    h.facts,
			"remove":   h.remove,
			"relabels": h.changeTerms,
			"policies": h.changePolicies,
		})
	})
}

type affinityHistory struct {
	engine    *engine.Engine
	policies  *affinityPolicy
	sets      map[*affinityPolicy]*policy.Set
	clusters  map[string]*snapshot.Cluster
	specs     []*v1alpha1.WorkloadPlacement
	compiled  []*placement.Placement
	workloads []*workload.Workload
	// owners are the indexes of the workloads' placements.
	owners []int
	// on is where the workloads are placed; held is what is held in addition.
	on   map[string][]string
	held []engine.Reservation
}

var affinityNamespaces = []string{"x", "y"}

// affinityPolicy is a module of the package placement.scheduling, with the terms that it gives a workload with labels.
type affinityPolicy struct {
	text  string
	terms func(labels map[string]string) []v1alpha1.WorkloadAffinityTerm
}

var affinityPolicies = []affinityPolicy{
	{`numberOfClusters := 1 if input.workload.name == "nobody"`, func(map[string]string) []v1alpha1.WorkloadAffinityTerm { return nil }},
	// Each app repels itself: no two workloads that differ in it have the same terms.
	{`workloadAffinity contains {
		"type": "Repel", "required": true, "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": input.workload.labels.app}},
	} if input.workload.labels.tier == "front"`, func(labels map[string]string) (terms []v1alpha1.WorkloadAffinityTerm) {
		if labels["tier"] == "front" {
			terms = append(terms, v1alpha1.WorkloadAffinityTerm{Type: v1alpha1.WorkloadsRepel, Required: true, TopologyKey: "zone", LabelSelector: selects("app", metav1.LabelSelectorOpIn, labels["app"])})
		}
		return terms
	}},
	// Terms of every kind, from two rules, beside a field that is no term.
	{`minClusters := 1
	workloadAffinity contains {"type": "Repel", "required": true, "namespaces": ["*"], "labelSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}} if input.workload.labels.app == "a"
	workloadAffinity contains {"type": "Attract", "topologyKey": "location", "weight": 7, "labelSelector": {"matchLabels": {"app": "b"}}}
	workloadAffinity contains {"type": "Attract", "required": true, "topologyKey": "location", "namespaces": ["y"], "labelSelector": {}} if input.workload.labels.app == "c"`,
		func(labels map[string]string) []v1alpha1.WorkloadAffinityTerm {
			terms := []v1alpha1.WorkloadAffinityTerm{{Type: v1alpha1.WorkloadsAttract, TopologyKey: "location", Weight: 7, LabelSelector: selects("app", metav1.LabelSelectorOpIn, "b")}}
			switch labels["app"] {
			case "a":
				terms = append(terms, v1alpha1.WorkloadAffinityTerm{Type: v1alpha1.WorkloadsRepel, Required: true, Namespaces: []string{"*"}, LabelSelector: selects("tier", metav1.LabelSelectorOpExists)})
			case "c":
				terms = append(terms, v1alpha1.WorkloadAffinityTerm{Type: v1alpha1.WorkloadsAttract, Required: true, TopologyKey: "location", Namespaces: []string{"y"}, LabelSelector: &metav1.LabelSelector{}})
			}
			return terms
		}},
}

func newAffinityHistory(t *rapid.T, sets map[*affinityPolicy]*policy.Set) *affinityHistory {
	h := &affinityHistory{clusters: map[string]*snapshot.Cluster{}, on: map[string][]string{}, sets: sets}
	h.policies = &affinityPolicies[below(t, "policies", len(affinityPolicies))]
	for i := range 6 {
		h.specs = append(h.specs, drawAffinePlacement(t, i))
	}
	for i := range 10 {
		owner := below(t, "owner", len(h.specs))
		h.workloads = append(h.workloads, &workload.Workload{
			Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: h.specs[owner].Namespace, Name: fmt.Sprint("w", i), UID: fmt.Sprint("u", i)},
			Labels:    drawAppLabels(t), Replicas: 1, Requests: capacity.Resources{CPU: int64(below(t, "cpu", 3))},
		})
		h.owners = append(h.owners, owner)
	}
	h.start(t)
	for i := range 5 {
		h.set(drawSite(t, fmt.Sprint("c", i)))
	}
	return h
}

func drawAppLabels(t *rapid.T) map[string]string {
	drawn := map[string]string{"app": draw(t, "app", "a", "b", "c")}
	if oneIn(t, "has a tier", 2) {
		drawn["tier"] = draw(t, "tier", "front", "back")
	}
	return drawn
}

func drawSite(t *rapid.T, name string) *snapshot.Cluster {
	c := &snapshot.Cluster{
		Name: name, Location: draw(t, "location", "eu", "us"), Conditions: []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
		Allocatable: capacity.Resources{CPU: draw[int64](t, "room", 60, 200, 1000)},
	}
	if zone := draw(t, "zone", "", "1", "2", "3"); zone != "" {
		c.Labels = map[string]string{"zone": zone}
	}
	return c
}

func drawAffinePlacement(t *rapid.T, i int) *v1alpha1.WorkloadPlacement {
	p := &v1alpha1.WorkloadPlacement{Spec: v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(int32(1 + below(t, "clusters", 3))))}}
	p.Name, p.Namespace = fmt.Sprint("p", i), draw(t, "namespace", affinityNamespaces...)
	if oneIn(t, "spreads", 4) {
		p.Spec.SpreadConstraints = []v1alpha1.SpreadConstraint{{TopologyKey: "location", WhenUnsatisfiable: "ScheduleAnyway", Weight: 1}}
	}
	for range below(t, "terms", 3) {
		p.Spec.WorkloadAffinity = append(p.Spec.WorkloadAffinity, v1alpha1.WorkloadAffinityTerm{
			Type: draw(t, "type", v1alpha1.WorkloadsAttract, v1alpha1.WorkloadsRepel), Required: oneIn(t, "required", 2),
			TopologyKey: draw(t, "key", "", "location", "zone"), Weight: draw[int32](t, "weight", 0, 3, 50),
			Namespaces: draw(t, "namespaces", nil, []string{"*"}, []string{"y"}, []string{"y", "x"}),
			LabelSelector: draw(t, "selector",
				&metav1.LabelSelector{}, selects("app", metav1.LabelSelectorOpIn, "a"), selects("app", metav1.LabelSelectorOpIn, "b", "c"),
				selects("tier", metav1.LabelSelectorOpExists), selects("tier", metav1.LabelSelectorOpNotIn, "front")),
		})
	}
	return p
}

func selects(key string, operator metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
}

// start begins with a new engine, as after a restart: first come the durable decisions, then SetAffinity.
func (h *affinityHistory) start(t *rapid.T) {
	var err error
	if h.engine, err = engine.New(engine.Options{}); err != nil {
		t.Fatal(err)
	}
	h.engine.SetPolicies(ws, h.sets[h.policies])
	h.compiled = nil
	for _, spec := range h.specs {
		p, err := h.engine.CompilePlacement(spec)
		if err != nil {
			t.Fatal(err)
		}
		h.compiled = append(h.compiled, p)
	}
	for _, c := range h.clusters {
		h.set(c)
	}
	var restored []engine.Reservation
	for i, w := range h.workloads {
		if on := h.on[w.Name]; len(on) > 0 {
			restored = append(restored, h.reservation(i, on))
		}
	}
	if _, _, err := h.engine.Replace(ws, restored, h.held, nil); err != nil {
		t.Fatal(err)
	}
	h.tell()
}

func (h *affinityHistory) tell() { h.engine.SetAffinity(ws, h.compiled, h.scheduled(h.workloads)) }

// scheduled returns the workloads as policies schedule them.
func (h *affinityHistory) scheduled(workloads []*workload.Workload) iter.Seq2[*workload.Workload, *placement.Placement] {
	return func(yield func(*workload.Workload, *placement.Placement) bool) {
		for _, w := range workloads {
			i := slices.Index(h.workloads, w)
			scheduled, err := h.engine.Scheduled(context.Background(), engine.Request{Workspace: ws, Placement: h.compiled[h.owners[i]], Workload: w})
			if err != nil {
				panic(err)
			}
			if !yield(w, scheduled) {
				return
			}
		}
	}
}

// unscheduled returns the workloads for policies without terms of affinity.
func unscheduled(workloads []*workload.Workload) iter.Seq2[*workload.Workload, *placement.Placement] {
	return func(yield func(*workload.Workload, *placement.Placement) bool) {
		for _, w := range workloads {
			if !yield(w, nil) {
				return
			}
		}
	}
}

// terms returns the terms of a workload, from its placement and from the policies.
func (h *affinityHistory) terms(i int) []v1alpha1.WorkloadAffinityTerm {
	return slices.Concat(h.specs[h.owners[i]].Spec.WorkloadAffinity, h.policies.terms(h.workloads[i].Labels))
}

func (h *affinityHistory) changePolicies(t *rapid.T) {
	h.policies = &affinityPolicies[below(t, "policies", len(affinityPolicies))]
	h.engine.SetPolicies(ws, h.sets[h.policies])
	h.tell()
}

func (h *affinityHistory) reservation(i int, on []string) engine.Reservation {
	w := h.workloads[i]
	r := engine.Reservation{Workload: w.Reference, Placement: h.compiled[h.owners[i]].NamespacedName()}
	for _, cluster := range on {
		r.Shares = append(r.Shares, capacity.Share{Cluster: cluster, Amount: w.Requests})
	}
	return r
}

func (h *affinityHistory) set(c *snapshot.Cluster) {
	h.clusters[c.Name] = c
	if _, err := h.engine.SetCluster(ws, c); err != nil {
		panic(err)
	}
}

func (h *affinityHistory) request(i int) engine.Request {
	r := engine.Request{Workspace: ws, Placement: h.compiled[h.owners[i]], Workload: h.workloads[i]}
	for _, cluster := range h.on[h.workloads[i].Name] {
		r.Current = append(r.Current, engine.Choice{Name: cluster, Replicas: 1})
	}
	return r
}

func (h *affinityHistory) decide(t *rapid.T) {
	i := below(t, "workload", len(h.workloads))
	r := h.request(i)
	alone := r
	alone.Current = nil
	feasible, err := h.engine.Feasible(context.Background(), alone)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Current) == 0 {
		explained, err := h.engine.Explain(context.Background(), r)
		if err != nil || feasible != (len(explained.Clusters) > 0) {
			t.Fatalf("feasible %v, explained %v, %v", feasible, explained.Clusters, err)
		}
	}
	if oneIn(t, "compares", 4) { // with an engine that knows only the current state
		fresh := *h
		fresh.on = maps.Clone(h.on)
		fresh.start(t)
		if got, want := explained(t, h.engine, r), explained(t, fresh.engine, r); got != want {
			t.Fatalf("%s\nand a fresh engine\n%s", got, want)
		}
	}
	want := h.reference(i)
	d, err := h.engine.Decide(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	h.check(t, i, d, want)
}

// explained is everything that a decision reports about a request and about every cluster.
func explained(t *rapid.T, e *engine.Engine, r engine.Request) string {
	d, err := e.Explain(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%v, left %v, %s, %s, %q\n", d.Clusters, d.Left, d.InputsDigest, d.Summary(), d.Notes())
	for v := range d.EachVerdict {
		text += fmt.Sprintf("%s %v %d %v %v\n", v.Cluster, v.Chosen, v.Points, v.Rejection, d.Obstacles(v.Cluster))
	}
	return text
}

// check compares a decision with the reference for the clusters that the workload did not run on.
func (h *affinityHistory) check(t *rapid.T, i int, d *engine.Decision, want map[string]opinion) {
	w := h.workloads[i]
	before := h.on[w.Name]
	h.on[w.Name] = nil
	for _, c := range d.Clusters {
		h.on[w.Name] = append(h.on[w.Name], c.Name)
		if !slices.Contains(before, c.Name) && want[c.Name].excluded {
			t.Fatalf("%s is on %s, which is excluded", w.Name, c.Name)
		}
	}
	if slices.ContainsFunc(before, func(cluster string) bool {
		return h.clusters[cluster] != nil && !slices.Contains(h.on[w.Name], cluster)
	}) {
		t.Fatalf("%s left one of %v for %v", w.Name, before, h.on[w.Name])
	}
	if len(before) > 0 {
		return // clusters that are not judged need no verdict
	}
	var best []int64
	chosen, rejected := int64(0), 0
	for v := range d.EachVerdict {
		o := want[v.Cluster]
		if excluded := v.Rejection != nil && v.Rejection.Stage == engine.WorkloadAffinity; excluded != o.excluded || !excluded && v.Rejection != nil {
			t.Fatalf("%s on %s: %v, excluded: %v", w.Name, v.Cluster, v.Rejection, o.excluded)
		}
		if o.excluded {
			if needs := d.Obstacles(v.Cluster); len(needs) != 1 || needs[0].Remedy == "" {
				t.Fatalf("obstacles %v", needs)
			}
			rejected++
			continue
		}
		if v.Points != o.points {
			t.Fatalf("%s on %s: %d points, want %d", w.Name, v.Cluster, v.Points, o.points)
		}
		best = append(best, v.Score.Total+v.Points)
		if v.Chosen {
			chosen += v.Score.Total + v.Points
		}
	}
	if got := d.Summary(); len(h.clusters) > 0 && fmt.Sprintf("%d of %d", len(h.clusters)-rejected, len(h.clusters)) != got[:len("1 of 1")] {
		t.Fatalf("%d of %d are rejected: %s", rejected, len(h.clusters), got)
	}
	slices.Sort(best)
	slices.Reverse(best)
	most := int64(0)
	for _, value := range best[:min(len(best), h.compiled[h.owners[i]].NumberOfClusters)] {
		most += value
	}
	if len(h.specs[h.owners[i]].Spec.SpreadConstraints) == 0 && chosen != most {
		t.Fatalf("%s has %d points in all on %v, and %d are possible", w.Name, chosen, h.on[w.Name], most)
	}
}

func (h *affinityHistory) decideBatch(t *rapid.T) {
	order := some(t, "workloads", 2, 5, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	var requests []engine.Request
	for _, i := range order {
		requests = append(requests, h.request(i))
	}
	// One after the other, in another engine with the same state.
	other := *h
	other.on = maps.Clone(h.on)
	other.start(t)
	for k, result := range h.engine.DecideBatch(context.Background(), requests) {
		i := order[k]
		want := other.reference(i)
		d, err := other.engine.Decide(context.Background(), requests[k])
		if err != nil || result.Err != nil || fmt.Sprint(d.Clusters) != fmt.Sprint(result.Decision.Clusters) {
			t.Fatalf("batch: %v, %v; alone: %v, %v", result.Decision, result.Err, d, err)
		}
		other.check(t, i, result.Decision, want)
	}
	h.on = other.on
}

func (h *affinityHistory) release(t *rapid.T) {
	w := draw(t, "workload", h.workloads...)
	h.engine.Release(ws, w.Reference)
	delete(h.on, w.Name)
}

func (h *affinityHistory) replace(i int, change func(*workload.Workload)) {
	changed := *h.workloads[i]
	change(&changed)
	h.workloads = slices.Clone(h.workloads)
	h.workloads[i] = &changed
	h.engine.UpdateAffinity(ws, h.scheduled(h.workloads[i:i+1]), nil)
}

func (h *affinityHistory) label(t *rapid.T) {
	h.replace(below(t, "workload", len(h.workloads)), func(w *workload.Workload) { w.Labels = drawAppLabels(t) })
}

// finish makes a workload run nothing any more, or run again.
func (h *affinityHistory) finish(t *rapid.T) {
	h.replace(below(t, "workload", len(h.workloads)), func(w *workload.Workload) {
		if w.End == "" {
			w.End = workload.HasFinished
		} else {
			w.End = ""
		}
	})
}

// hold holds something in addition to what a workload has: it does not count.
func (h *affinityHistory) hold(t *rapid.T) {
	r := h.reservation(below(t, "workload", len(h.workloads)), []string{draw(t, "cluster", "c0", "c1")})
	held, err := h.engine.Hold(ws, r)
	if err != nil {
		t.Fatal(err)
	}
	if oneIn(t, "gives it back", 2) {
		h.engine.ReleaseHeld(ws, held)
	} else {
		h.held = append(slices.Clip(h.held), r)
	}
}

// restoreOne restores what a workload has into the ledger, as after a failure.
func (h *affinityHistory) restoreOne(t *rapid.T) {
	i := below(t, "workload", len(h.workloads))
	if on := h.on[h.workloads[i].Name]; len(on) > 0 {
		if err := h.engine.Restore(ws, h.reservation(i, on)); err != nil {
			t.Fatal(err)
		}
	}
}

func (h *affinityHistory) restart(t *rapid.T) { h.start(t) }

func (h *affinityHistory) facts(t *rapid.T) {
	h.set(drawSite(t, draw(t, "cluster", "c0", "c1", "c2", "c3", "c4")))
}

func (h *affinityHistory) remove(t *rapid.T) {
	if len(h.clusters) > 1 {
		name := draw(t, "cluster", slices.Sorted(maps.Keys(h.clusters))...)
		delete(h.clusters, name)
		h.engine.RemoveCluster(ws, name)
	}
}

func (h *affinityHistory) changeTerms(t *rapid.T) {
	i := below(t, "placement", len(h.specs))
	changed := drawAffinePlacement(t, i)
	changed.Namespace, changed.Spec.NumberOfClusters = h.specs[i].Namespace, h.specs[i].Spec.NumberOfClusters // others make it leave
	h.specs = slices.Clone(h.specs)
	h.specs[i] = changed
	p, err := h.engine.CompilePlacement(changed)
	if err != nil {
		t.Fatal(err)
	}
	h.compiled = slices.Clone(h.compiled)
	h.compiled[i] = p
	h.tell()
}

// opinion is the effect of all terms together on a cluster.
type opinion struct {
	excluded bool
	points   int64
}

// reference returns the effect of the terms on each cluster, for a workload.
func (h *affinityHistory) reference(i int) map[string]opinion {
	w, spec := h.workloads[i], h.specs[h.owners[i]]
	opinions := map[string]opinion{}
	for name, c := range h.clusters {
		var o opinion
		for _, term := range h.terms(i) {
			domain, in := siteDomain(term.TopologyKey, c)
			inDomain, anywhere := false, false
			for j, other := range h.workloads {
				if j == i || other.End != "" || !isOther(term, spec.Namespace, other) {
					continue
				}
				for _, cluster := range h.on[other.Name] {
					if at := h.clusters[cluster]; at != nil {
						theirs, placed := siteDomain(term.TopologyKey, at)
						anywhere = anywhere || placed
						inDomain = inDomain || placed && in && theirs == domain
					}
				}
			}
			repels := term.Type == v1alpha1.WorkloadsRepel
			weight := int64(term.Weight)
			if weight == 0 {
				weight = 20
			}
			switch {
			case term.Required && repels:
				o.excluded = o.excluded || inDomain
			case term.Required:
				first := !anywhere && in && isOther(term, spec.Namespace, w)
				o.excluded = o.excluded || !inDomain && !first
			case inDomain && repels:
				o.points -= weight
			case inDomain:
				o.points += weight
			}
		}
		for j, other := range h.workloads {
			theirs := h.specs[h.owners[j]]
			for _, term := range h.terms(j) {
				if j == i || other.End != "" || term.Type != v1alpha1.WorkloadsRepel || !term.Required || !isOther(term, theirs.Namespace, w) {
					continue
				}
				domain, in := siteDomain(term.TopologyKey, c)
				for _, cluster := range h.on[other.Name] {
					if at := h.clusters[cluster]; at != nil {
						of, placed := siteDomain(term.TopologyKey, at)
						o.excluded = o.excluded || in && placed && of == domain
					}
				}
			}
		}
		opinions[name] = o
	}
	return opinions
}

func siteDomain(key string, c *snapshot.Cluster) (string, bool) {
	switch key {
	case "location":
		return c.Location, true
	case "zone":
		zone, has := c.Labels["zone"]
		return zone, has
	default:
		return c.Name, true
	}
}

func isOther(term v1alpha1.WorkloadAffinityTerm, home string, w *workload.Workload) bool {
	selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
	if err != nil {
		panic(err)
	}
	in := len(term.Namespaces) == 0 && w.Namespace == home || slices.Contains(term.Namespaces, "*") || slices.Contains(term.Namespaces, w.Namespace)
	return in && selector.Matches(labels.Set(w.Labels))
}
