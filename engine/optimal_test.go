package engine_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestChoicesAreTheBest compares the engine with all possible choices, on small random fleets and for random combinations of
// everything that a placement can state about where, how many and how divided. The reference below is written from the comments
// of the API: a choice is a set of clusters, judged as a whole.
func TestChoicesAreTheBest(t *testing.T) {
	judge := newPlainJudge(t)
	placed, planned := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawPuzzle(t, judge, rapid.Uint64().Draw(t, "seed"))
		d, err := p.engine.Decide(context.Background(), p.request())
		if err != nil {
			t.Fatal(err)
		}
		want := p.best()
		if diff := want.differs(p, d); diff != "" {
			t.Fatalf("%s\n%s\nwant %s\ngot %s", diff, p, want, describe(d))
		}
		if len(d.Clusters) > 0 {
			placed++
		}
		if p.compiled.Plans() {
			planned++
		}
	})
	t.Logf("%d placed, %d chosen together", placed, planned)
}

// puzzle is a small fleet, a placement and a workload.
type puzzle struct {
	*rand.Rand
	engine   *engine.Engine
	judge    *plainJudge
	world    *world
	object   *v1alpha1.WorkloadPlacement
	compiled *placement.Placement
	workload *workload.Workload
	pod      capacity.Resources
	// placed are other workloads of the placement.
	placed  []*workload.Workload
	current []engine.Choice
	group   string
	// leave are the clusters of current that it should leave; into, unless nil, the only ones that may be added; gain by how many
	// points these have to be better.
	leave, into []string
	gain        int64
}

func (p *puzzle) request() engine.Request {
	return engine.Request{
		Workspace: p.world.name, Placement: p.compiled, Workload: p.workload, Current: p.current, Group: p.group,
		Leave: leaving(p.leave), Into: p.into, MinGain: p.gain,
	}
}

func (p *puzzle) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.world.fleet)) {
		c := p.world.fleet[name]
		fmt.Fprintf(&b, "%s: %q %v %v taints %v cordoned %t drained %t ready %v allocatable %v allocated %v largest %v reserved %v\n", name, c.Location, c.Labels, c.Capabilities,
			c.Taints, c.Unschedulable, c.Draining, c.Conditions[0].Status, c.Allocatable, c.Allocated, ptr.Deref(c.LargestFree, capacity.Resources{}), p.world.reserved(name, &p.workload.Reference))
	}
	spec := &p.object.Spec
	fmt.Fprintf(&b, "strategy %s, clusters %v, at least %d\n", spec.Strategy.Type, spec.NumberOfClusters, spec.MinClusters)
	for _, s := range spec.SpreadConstraints {
		fmt.Fprintf(&b, "spread %+v\n", s)
	}
	for _, a := range spec.WorkloadAffinity {
		fmt.Fprintf(&b, "%s, required %t, %v by %s, weight %d\n", a.Type, a.Required, a.LabelSelector.MatchLabels, a.TopologyKey, a.Weight)
	}
	for _, o := range p.placed {
		fmt.Fprintf(&b, "%s %v is on %v\n", o.Name, o.Labels, p.world.held[o.Reference].shares)
	}
	if spec.ReplicaScheduling != nil {
		fmt.Fprintf(&b, "replicas %+v\n", *spec.ReplicaScheduling)
	}
	for i := range spec.Fallback {
		fmt.Fprintf(&b, "group %s\n", describeGroup(&spec.Fallback[i]))
	}
	all := v1alpha1.ClusterGroup{LocationSelector: spec.LocationSelector, ClusterSelector: spec.ClusterSelector, CapabilityRequirements: spec.CapabilityRequirements, Constraints: spec.Constraints, Tolerations: spec.Tolerations}
	fmt.Fprintf(&b, "all %s\n%d replicas, divisible %t, ask for %v, on %+v by %q", describeGroup(&all), p.workload.Replicas, p.workload.Divisible, p.workload.Requests, p.current, p.group)
	return b.String()
}

func describeGroup(g *v1alpha1.ClusterGroup) string {
	text := fmt.Sprintf("%q locations %v", g.Name, metav1.FormatLabelSelector(g.LocationSelector))
	if g.ClusterSelector != nil {
		text += fmt.Sprintf(" labels %v names %v", metav1.FormatLabelSelector(g.ClusterSelector.LabelSelector), g.ClusterSelector.ClusterNames)
	}
	return text + fmt.Sprintf(" capabilities %v constraints %v tolerations %v", g.CapabilityRequirements, g.Constraints, g.Tolerations)
}

// drawPuzzle draws sizes evenly, from a seed: rapid itself prefers small ones, where little can go wrong.
func drawPuzzle(t rapid.TB, judge *plainJudge, seed uint64) *puzzle {
	p := &puzzle{
		Rand: rand.New(rand.NewPCG(seed, 0)), judge: judge,
		world: &world{name: ws, fleet: map[string]*snapshot.Cluster{}, held: map[workload.Reference]claim{}},
	}
	var err error
	if p.engine, err = engine.New(engine.Options{Policies: judge.compiler}); err != nil {
		t.Fatal(err)
	}
	for i := range 1 + p.IntN(7) {
		p.set(p.drawCluster(differentialClusters[i]))
	}
	p.drawPlacement()
	p.drawWorkload("w")
	for i := range p.IntN(5) {
		o := &workload.Workload{
			Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: fmt.Sprintf("o%d", i)},
			Labels:    map[string]string{"app": oneOf(p.Rand, "a", "b")}, Replicas: 1,
		}
		c := claim{placement: p.object}
		for _, name := range differentialClusters[:7] {
			if p.world.fleet[name] != nil && p.oneIn(3) {
				c.shares = append(c.shares, capacity.Share{Cluster: name, Amount: capacity.Resources{CPU: p.Int64N(2)}})
			}
		}
		p.placed = append(p.placed, o)
		p.world.held[o.Reference] = c
		c.restoreTo(p.engine, ws, o.Reference)
	}
	p.engine.SetAffinity(ws, []*placement.Placement{p.compiled}, unscheduled(p.placed))
	return p
}

func (p *puzzle) set(c *snapshot.Cluster) {
	p.world.fleet[c.Name] = c
	if _, err := p.engine.SetCluster(ws, copyOf(c)); err != nil {
		panic(err)
	}
}

// oneOf draws one of several.
func oneOf[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (p *puzzle) oneIn(n int) bool { return p.IntN(n) == 0 }

func (p *puzzle) drawCluster(name string) *snapshot.Cluster {
	c := &snapshot.Cluster{
		Name: name, Location: oneOf(p.Rand, "eu", "eu", "us", "us", "ap", ""), Labels: map[string]string{"tier": oneOf(p.Rand, "gold", "silver")},
		Conditions:  []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: oneOf(p.Rand, "True", "True", "True", "True", "True", "True", "True", "True", "True", "False")}},
		Allocatable: capacity.Resources{CPU: p.Int64N(25), Memory: p.Int64N(25)},
		Allocated:   capacity.Resources{CPU: p.Int64N(4), Memory: p.Int64N(4)},
	}
	if !p.oneIn(6) {
		c.Labels["zone"] = oneOf(p.Rand, "a", "b", "c")
	}
	if !p.oneIn(4) {
		c.Capabilities = []snapshot.Capability{{Type: "net", Available: !p.oneIn(5), Attributes: map[string]string{"provider": oneOf(p.Rand, "x", "y")}}}
	}
	if p.oneIn(6) {
		c.Taints = []corev1.Taint{{Key: "dedicated", Effect: oneOf(p.Rand, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)}}
	}
	c.Unschedulable, c.Draining = p.oneIn(10), p.oneIn(10)
	if p.oneIn(5) {
		c.LargestFree = &capacity.Resources{CPU: p.Int64N(5), Memory: p.Int64N(5)}
	}
	return c
}

// plainConstraints are constraints, and whether they read only facts.
var plainConstraints = map[string]bool{
	`cluster.labels.?tier.orValue("") == "gold"`:                                 true,
	`cluster.location != "ap"`:                                                   true,
	`capacity.free.cpu >= 2 * workload.requests.cpu`:                             false,
	`capacity.free.memory > 2`:                                                   false,
	`capacity.free.cpu > 3 && capacity.free.memory >= workload.replicas`:         false,
	`capacity.allocatable.cpu - capacity.free.cpu < 12 || workload.replicas > 2`: false,
}

func (p *puzzle) drawWorkload(name string) {
	p.workload = &workload.Workload{
		Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: name, UID: "uid of " + name},
		Labels:    map[string]string{"app": oneOf(p.Rand, "a", "b", "c")},
		Divisible: !p.oneIn(8),
	}
	p.pod = capacity.Resources{CPU: p.Int64N(4), Memory: p.Int64N(3)}
	p.scale()
}

// scale draws how many replicas the workload has.
func (p *puzzle) scale() {
	w := *p.workload
	if w.Replicas = p.Int64N(13); w.Replicas == 0 && !p.oneIn(4) {
		w.Replicas = 1 + p.Int64N(3)
	}
	w.Requests = capacity.Resources{CPU: w.Replicas * p.pod.CPU, Memory: w.Replicas * p.pod.Memory}
	p.workload = &w
}

func (p *puzzle) drawPlacement() {
	object := &v1alpha1.WorkloadPlacement{}
	object.Name, object.Namespace = "p", "default"
	spec := &object.Spec
	spec.Strategy.Type = oneOf(p.Rand, v1alpha1.StrategySpread, v1alpha1.StrategySpread, v1alpha1.StrategySpread, v1alpha1.StrategyBinPack, v1alpha1.StrategyBinPack,
		v1alpha1.StrategyWeighted, v1alpha1.StrategyRoundRobin, v1alpha1.StrategyAffinity)
	several := spec.Strategy.Type != v1alpha1.StrategyRoundRobin && spec.Strategy.Type != v1alpha1.StrategyAffinity
	if several {
		most := 3
		switch n := p.IntN(8); {
		case n < 6:
			most = 1 + p.IntN(6)
			spec.NumberOfClusters = ptr.To(intstr.FromInt(most))
		case n == 6:
			most = 1000
			spec.NumberOfClusters = ptr.To(intstr.FromString(v1alpha1.AllClusters))
		}
		if p.oneIn(2) {
			spec.MinClusters = int32(1 + p.IntN(min(most, 4)))
		}
	}
	if !p.oneIn(3) {
		p.drawSpread(spec)
	}
	if several && !p.oneIn(3) {
		p.drawDivision(spec)
	}
	for p.oneIn(3) {
		spec.WorkloadAffinity = append(spec.WorkloadAffinity, v1alpha1.WorkloadAffinityTerm{
			Type: oneOf(p.Rand, v1alpha1.WorkloadsAttract, v1alpha1.WorkloadsRepel), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": oneOf(p.Rand, "a", "b", "c")}},
			TopologyKey: oneOf(p.Rand, "cluster", "location", "zone"), Required: p.oneIn(2), Weight: int32(oneOf(p.Rand, 1, 7, 60)),
		})
	}
	if p.oneIn(3) {
		for i := range 1 + p.IntN(3) {
			spec.Fallback = append(spec.Fallback, p.drawGroup(string(rune('x'+i)), 2))
		}
	}
	g := p.drawGroup("", 8)
	spec.LocationSelector, spec.ClusterSelector, spec.CapabilityRequirements, spec.Tolerations = g.LocationSelector, g.ClusterSelector, g.CapabilityRequirements, g.Tolerations
	spec.Constraints = g.Constraints
	compiled, err := p.engine.CompilePlacement(object)
	if err != nil {
		p.drawPlacement() // two groups of names that have none in common
		return
	}
	p.object, p.compiled = object, compiled
}

func (p *puzzle) drawSpread(spec *v1alpha1.WorkloadPlacementSpec) {
	type kind struct {
		key  string
		hard bool
		of   v1alpha1.SpreadScope
	}
	seen := map[kind]bool{}
	for range 1 + p.IntN(3) {
		k := kind{oneOf(p.Rand, "location", "location", "zone", "cluster", "capability:net/provider"), !p.oneIn(3), oneOf(p.Rand, v1alpha1.SpreadClusters, v1alpha1.SpreadClusters, v1alpha1.SpreadWorkloads)}
		if seen[k] {
			continue
		}
		seen[k] = true
		c := v1alpha1.SpreadConstraint{TopologyKey: k.key, Scope: k.of, MaxSkew: int32(1 + p.IntN(2)), WhenUnsatisfiable: corev1.DoNotSchedule}
		if !k.hard {
			c.WhenUnsatisfiable, c.Weight = corev1.ScheduleAnyway, int32(oneOf(p.Rand, 1, 3, 10, 60))
		} else if p.oneIn(3) {
			c.MinDomains = int32(1 + p.IntN(3))
		}
		spec.SpreadConstraints = append(spec.SpreadConstraints, c)
	}
}

func (p *puzzle) drawDivision(spec *v1alpha1.WorkloadPlacementSpec) {
	r := &v1alpha1.ReplicaScheduling{
		Type: v1alpha1.ReplicasDivided, Partial: p.oneIn(2),
		Division: oneOf(p.Rand, v1alpha1.DivideEven, v1alpha1.DivideWeighted, v1alpha1.DivideFreeCapacity, v1alpha1.DivideAggregated, v1alpha1.DivideOverflow),
	}
	if p.oneIn(3) {
		r.MinPerCluster = int32(1 + p.IntN(4))
	}
	if p.oneIn(3) {
		r.MaxPerCluster = max(1, r.MinPerCluster) + int32(p.IntN(5))
	}
	if r.Division == v1alpha1.DivideWeighted {
		r.Weights = []v1alpha1.ClusterWeight{
			{ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"a", "d"}}, Weight: int32(p.IntN(4))},
			{LocationSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"location": "eu"}}, Weight: int32(p.IntN(1000))},
			{ClusterSelector: &v1alpha1.ClusterSelector{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}}, Weight: 2},
		}
		if !p.oneIn(3) {
			r.Weights = append(r.Weights, v1alpha1.ClusterWeight{Weight: 1})
		}
	}
	spec.ReplicaScheduling = r
}

// drawGroup draws fields that narrow the clusters, each with a chance of one in n.
func (p *puzzle) drawGroup(name string, n int) v1alpha1.ClusterGroup {
	g := v1alpha1.ClusterGroup{Name: name}
	if p.oneIn(n) {
		g.LocationSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "location", Operator: metav1.LabelSelectorOpIn, Values: []string{"eu", oneOf(p.Rand, "us", "ap")}},
		}}
	}
	if p.oneIn(n) {
		g.ClusterSelector = &v1alpha1.ClusterSelector{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": oneOf(p.Rand, "gold", "silver")}}}
	} else if p.oneIn(n) {
		g.ClusterSelector = &v1alpha1.ClusterSelector{ClusterNames: []string{"a", oneOf(p.Rand, "b", "c"), oneOf(p.Rand, "d", "e"), "f", "g"}}
	}
	if p.oneIn(2 * n) {
		g.CapabilityRequirements = []v1alpha1.CapabilityRequirement{{Type: "net", Required: p.oneIn(2)}}
	}
	if p.oneIn(n) {
		expression := oneOf(p.Rand, slices.Sorted(maps.Keys(plainConstraints))...)
		g.Constraints = []v1alpha1.Constraint{{Name: "c" + name, Expression: expression}}
	}
	if p.oneIn(2 * n) {
		g.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
	}
	return g
}

// plainJudge has the built-in policies and the compiled constraints.
type plainJudge struct {
	compiler *policy.Compiler
	programs map[string]*constraint.Program
}

func newPlainJudge(t testing.TB) *plainJudge {
	j := &plainJudge{programs: map[string]*constraint.Program{}}
	var err error
	if j.compiler, err = policy.NewCompiler(policy.Options{}); err != nil {
		t.Fatal(err)
	}
	compiler, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for expression := range plainConstraints {
		if j.programs[expression], err = compiler.Compile(expression); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

// option is a feasible cluster.
type option struct {
	name    string
	cluster *snapshot.Cluster
	tier    int
	score   scoring.Score
	// points that affinity to other workloads adds.
	points int64
	// room is how many replicas it may have, free how many there is room for, if they are divided.
	room, free int64
}

// answer is the best choice.
type answer struct {
	group    string
	clusters []*option
	waiting  int64
	rank     []int64
}

func (a *answer) String() string {
	text := fmt.Sprintf("group %q, waiting %d, rank %v:", a.group, a.waiting, a.rank)
	for _, o := range a.clusters {
		text += fmt.Sprintf(" %s (%d, headroom %d, room %d)", o.name, o.score.Total, o.score.Headroom, o.room)
	}
	return text
}

func (p *puzzle) division() *v1alpha1.ReplicaScheduling {
	if r := p.object.Spec.ReplicaScheduling; r != nil && p.workload.Divisible && !p.workload.PerNode && p.workload.Replicas > 0 {
		return r
	}
	return nil
}

func (p *puzzle) least() int64 {
	return min(p.workload.Replicas, int64(max(1, p.object.Spec.ReplicaScheduling.MinPerCluster)))
}

// number of clusters at most.
func (p *puzzle) number() int {
	spec := &p.object.Spec
	switch {
	case spec.Strategy.Type == v1alpha1.StrategyRoundRobin || spec.Strategy.Type == v1alpha1.StrategyAffinity:
		return 1
	case spec.NumberOfClusters == nil:
		return 3
	case spec.NumberOfClusters.Type == intstr.String:
		return 1000
	default:
		return int(spec.NumberOfClusters.IntVal)
	}
}

// best returns the best choice, by the documentation, for a workload that runs nowhere.
func (p *puzzle) best() *answer {
	groups := p.object.Spec.Fallback
	if len(groups) == 0 {
		return p.bestOf([]v1alpha1.ClusterGroup{{}})
	}
	if d := p.division(); d != nil && d.Division == v1alpha1.DivideOverflow {
		return p.bestOf(groups)
	}
	var first *answer
	for i := range groups {
		a := p.bestOf(groups[i : i+1])
		if len(a.clusters) > 0 && a.waiting == 0 {
			return a
		}
		if len(a.clusters) > 0 && first == nil {
			first = a
		}
	}
	if first == nil {
		return &answer{}
	}
	return first
}

// bestOf compares all choices of passing clusters in one group, or in several in order.
func (p *puzzle) bestOf(tiers []v1alpha1.ClusterGroup) *answer {
	options := p.options(tiers)
	var best *answer
	for set := range 1 << len(options) {
		a := &answer{}
		for i := range options {
			if set&(1<<i) != 0 {
				a.clusters = append(a.clusters, options[i])
			}
		}
		if a.rank = p.rankOf(a.clusters, options, tiers); a.rank != nil && (best == nil || slices.Compare(a.rank, best.rank) > 0) {
			best = a
		}
	}
	if len(best.clusters) < max(1, int(p.object.Spec.MinClusters)) {
		return &answer{}
	}
	if r := p.division(); r != nil {
		best.waiting = p.workload.Replicas
		for _, o := range best.clusters {
			best.waiting -= min(best.waiting, o.room)
		}
		if best.waiting > 0 && !r.Partial {
			return &answer{}
		}
	}
	for _, o := range best.clusters {
		best.group = tiers[o.tier].Name
	}
	return best
}

// rankOf returns how good a choice is, as numbers to compare one after the other; nil if it is not valid.
func (p *puzzle) rankOf(chosen, options []*option, tiers []v1alpha1.ClusterGroup) []int64 {
	spec, division := &p.object.Spec, p.division()
	if len(chosen) > p.number() || division != nil && int64(len(chosen))*p.least() > p.workload.Replicas {
		return nil
	}
	var room, value int64
	var clusters []*snapshot.Cluster
	for _, o := range chosen {
		clusters = append(clusters, o.cluster)
		room += o.room
		value += p.value(o)
	}
	for i := range spec.SpreadConstraints {
		s := &spec.SpreadConstraints[i]
		excess := p.excessOf(s, nil, clusters, tiers)
		if s.WhenUnsatisfiable == corev1.DoNotSchedule && excess > 0 {
			return nil
		}
		value -= int64(excess) * int64(s.Weight) * point
	}
	if spec.Strategy.Type == v1alpha1.StrategyWeighted { // it is drawn
		value = 0
	}
	rank := []int64{int64(min(len(chosen), int(spec.MinClusters)))}
	switch {
	case division == nil:
		return append(rank, int64(len(chosen)), value)
	case division.Division == v1alpha1.DivideAggregated:
		return append(rank, min(room, p.workload.Replicas), -int64(len(chosen)), value)
	case division.Division == v1alpha1.DivideOverflow:
		if rank = append(rank, min(room, p.workload.Replicas)); spec.Strategy.Type == v1alpha1.StrategyWeighted {
			return rank
		}
		for _, o := range options { // where two choices differ, the one with the earlier cluster; no cluster that is not needed
			if len(chosen) > 0 && o == chosen[0] {
				rank, chosen = append(rank, 2), chosen[1:]
			} else if len(chosen) > 0 {
				rank = append(rank, 0)
			} else {
				rank = append(rank, 3)
			}
		}
		return rank
	default:
		return append(rank, min(room, p.workload.Replicas), int64(len(chosen)), value)
	}
}

// point of the score, in which values are counted.
const point = 1 << 31

// value of a cluster to the strategy.
func (p *puzzle) value(o *option) int64 {
	return p.valueAlone(o) + o.points*point
}

func (p *puzzle) valueAlone(o *option) int64 {
	switch p.object.Spec.Strategy.Type {
	case v1alpha1.StrategyBinPack:
		return (1_000_000-o.score.Headroom)*(100*point/1_000_000) + o.score.Total
	case v1alpha1.StrategyRoundRobin:
		return -int64(p.others(o.name)) * 101 * point
	case v1alpha1.StrategyAffinity:
		return (o.score.Factors[scoring.Affinity]+o.score.Factors[scoring.Location])*101*point + o.score.Total*point + o.score.Headroom
	default:
		return o.score.Total*point + o.score.Headroom
	}
}

// affinity returns the points that terms add to a cluster's score, and whether the required terms hold.
func (p *puzzle) affinity(c *snapshot.Cluster) (points int64, allowed bool) {
	allowed = true
	for _, term := range p.object.Spec.WorkloadAffinity {
		key := snapshot.TopologyKey(term.TopologyKey)
		domain, found := key.Domain(c)
		in, anywhere, any := false, false, false
		for _, o := range p.placed {
			held := p.world.held[o.Reference]
			for _, share := range held.shares {
				of, has := key.Domain(p.world.fleet[share.Cluster])
				same, selected := found && has && of == domain, o.Labels["app"] == term.LabelSelector.MatchLabels["app"]
				in, anywhere, any = in || same && selected, anywhere || has && selected, any || same
			}
		}
		selects := p.workload.Labels["app"] == term.LabelSelector.MatchLabels["app"]
		repels := term.Type == v1alpha1.WorkloadsRepel
		switch {
		case term.Required && repels: // and those of the others' placement, which is the same
			allowed = allowed && !in && (!selects || !any)
		case term.Required:
			allowed = allowed && (in || !anywhere && selects && found)
		case in && repels:
			points -= int64(term.Weight)
		case in:
			points += int64(term.Weight)
		}
	}
	return points, allowed
}

// others returns how many other workloads of the placement are on a cluster.
func (p *puzzle) others(cluster string) (n int) {
	for ref, c := range p.world.held {
		if ref != p.workload.Reference && c.on(cluster) != nil {
			n++
		}
	}
	return n
}

// excessOf returns how many of the clusters that are added to others exceed what a spread constraint allows.
func (p *puzzle) excessOf(s *v1alpha1.SpreadConstraint, kept, chosen []*snapshot.Cluster, tiers []v1alpha1.ClusterGroup) (excess int) {
	key := snapshot.TopologyKey(s.TopologyKey)
	counts, added, eligible := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(p.world.fleet)) {
		domain, found := key.Domain(p.world.fleet[name])
		if !found {
			continue
		}
		if s.Scope == v1alpha1.SpreadWorkloads {
			counts[domain] += p.others(name)
		}
		outside := slices.ContainsFunc(p.object.Spec.SpreadConstraints, func(o v1alpha1.SpreadConstraint) bool {
			_, found := snapshot.TopologyKey(o.TopologyKey).Domain(p.world.fleet[name])
			return !found && o.WhenUnsatisfiable != corev1.ScheduleAnyway
		})
		if r := p.division(); r != nil && r.Division == v1alpha1.DivideWeighted {
			outside = outside || p.weight(&option{name: name, cluster: p.world.fleet[name]}) == 0
		}
		for i := range tiers {
			eligible[domain] = eligible[domain] || !outside && p.passes(name, &tiers[i], true)
		}
	}
	for _, c := range kept {
		if domain, found := key.Domain(c); found {
			counts[domain]++
		}
	}
	for _, c := range chosen {
		if domain, found := key.Domain(c); found {
			counts[domain]++
			added[domain]++
		} else {
			excess++
		}
	}
	fewest, domains := 1<<30, 0
	for domain, is := range eligible {
		if is {
			domains++
			fewest = min(fewest, counts[domain])
		}
	}
	if domains == 0 || domains < int(s.MinDomains) {
		fewest = 0
	}
	for domain, n := range added {
		excess += max(0, min(n, counts[domain]-fewest-int(s.MaxSkew)))
	}
	return excess
}

// options returns the feasible clusters, in order of the tiers and then of the ranking.
func (p *puzzle) options(tiers []v1alpha1.ClusterGroup) (all []*option) {
	division := p.division()
	for tier := range tiers {
		var options []*option
		terms := scoring.WithTaints(nil, slices.Concat(p.object.Spec.Tolerations, tiers[tier].Tolerations))
		for _, name := range slices.Sorted(maps.Keys(p.world.fleet)) {
			if slices.ContainsFunc(all, func(o *option) bool { return o.name == name }) || !p.passes(name, &tiers[tier], false) {
				continue
			}
			row := p.world.row(name, p.workload.Reference)
			o := &option{name: name, cluster: p.world.fleet[name], tier: tier, score: scoring.Of(row, scoring.Asked{Requests: p.share().Requests, Terms: terms, Packs: p.object.Spec.Strategy.Type == v1alpha1.StrategyBinPack}, plainWeights)}
			var allowed bool
			if o.points, allowed = p.affinity(o.cluster); !allowed {
				continue
			}
			if division != nil {
				one := p.workload.Share(1)
				for o.free < 100 && referenceFits(row, p.workload.Share(o.free+1)) {
					o.free++
				}
				if one.Requests.IsZero() {
					o.free = 1<<31 - 1
				}
				o.room = min(o.free, p.workload.Replicas)
				if division.MaxPerCluster > 0 {
					o.room = min(o.room, int64(division.MaxPerCluster))
				}
				if p.weight(o) == 0 {
					continue
				}
			}
			options = append(options, o)
		}
		slices.SortFunc(options, p.order)
		all = append(all, options...)
	}
	return all
}

// order is the order of the ranking, with what affinity adds.
func (p *puzzle) order(a, b *option) int {
	if p.object.Spec.Strategy.Type != v1alpha1.StrategyRoundRobin && p.value(a) != p.value(b) {
		return cmp.Compare(p.value(b), p.value(a))
	}
	byScore := cmp.Or(cmp.Compare(b.score.Total, a.score.Total), cmp.Compare(b.score.Headroom, a.score.Headroom), strings.Compare(a.name, b.name))
	if p.object.Spec.Strategy.Type == v1alpha1.StrategyBinPack {
		return cmp.Or(cmp.Compare(a.score.Headroom, b.score.Headroom), cmp.Compare(b.score.Total, a.score.Total), strings.Compare(a.name, b.name))
	}
	return byScore
}

// plainWeights are the weights of the built-in policies.
var plainWeights = scoring.Weights{Factors: scoring.PerFactor{scoring.Capacity: 30, scoring.Health: 30, scoring.Performance: 20, scoring.Affinity: 10, scoring.Location: 10}}

// share is the workload as the filter sees it.
func (p *puzzle) share() *workload.Workload {
	if p.division() == nil {
		return p.workload
	}
	return p.workload.Share(p.least())
}

// passes reports whether a cluster passes the filter by what it is, however full.
func (p *puzzle) passes(name string, g *v1alpha1.ClusterGroup, howeverFull bool) bool {
	w, row := p.share(), p.world.row(name, p.workload.Reference)
	asks := w
	if howeverFull {
		asks = &workload.Workload{Replicas: 1}
	}
	spec := p.object.Spec
	tolerations := slices.Concat(spec.Tolerations, g.Tolerations)
	for _, part := range []v1alpha1.WorkloadPlacementSpec{
		{LocationSelector: spec.LocationSelector, ClusterSelector: spec.ClusterSelector, CapabilityRequirements: spec.CapabilityRequirements, Constraints: spec.Constraints, Tolerations: tolerations},
		{LocationSelector: g.LocationSelector, ClusterSelector: g.ClusterSelector, CapabilityRequirements: g.CapabilityRequirements, Constraints: g.Constraints, Tolerations: tolerations},
	} {
		variables := &constraint.Variables{Row: row, Workload: w, Placement: p.compiled.Placement}
		stage, _ := referenceFilter(&part, row, asks, &policy.Judgement{}, 0, func() string {
			for _, c := range part.Constraints {
				if howeverFull && !plainConstraints[c.Expression] {
					continue
				}
				if holds, err := p.judge.programs[c.Expression].Eval(variables); err != nil || !holds {
					return c.Name
				}
			}
			return ""
		})
		if stage != "" {
			return false
		}
	}
	return true
}

// weight of a cluster in the division.
func (p *puzzle) weight(o *option) int64 {
	r := p.division()
	switch r.Division {
	case v1alpha1.DivideFreeCapacity:
		return o.free
	case v1alpha1.DivideWeighted:
		for _, w := range r.Weights {
			selected := func(s *metav1.LabelSelector, of map[string]string) bool {
				if s == nil {
					return true
				}
				for key, value := range s.MatchLabels {
					if of[key] != value {
						return false
					}
				}
				return true
			}
			if selected(w.LocationSelector, map[string]string{"location": o.cluster.Location}) && (w.ClusterSelector == nil ||
				selected(w.ClusterSelector.LabelSelector, o.cluster.Labels) && (len(w.ClusterSelector.ClusterNames) == 0 || slices.Contains(w.ClusterSelector.ClusterNames, o.name))) {
				return int64(w.Weight)
			}
		}
		return 0
	default:
		return 1
	}
}

// shares returns what each cluster gets, best first: replicas are given one at a time to the cluster with the best claim.
func (p *puzzle) shares(clusters []*option) map[string]int64 {
	r, shares, left := p.division(), map[string]int64{}, p.workload.Replicas
	clusters = slices.Clone(clusters)
	slices.SortFunc(clusters, func(a, b *option) int { return cmp.Or(cmp.Compare(a.tier, b.tier), p.order(a, b)) })
	for _, o := range clusters {
		shares[o.name] = p.least()
		left -= p.least()
	}
	for ; left > 0; left-- {
		var best *option
		for _, o := range clusters {
			if shares[o.name] == o.room {
				continue
			}
			better := best == nil
			if best != nil && r.Division != v1alpha1.DivideAggregated && r.Division != v1alpha1.DivideOverflow {
				better = (shares[o.name]+1)*p.weight(best) < (shares[best.name]+1)*p.weight(o)
			}
			if better {
				best = o
			}
		}
		if best == nil {
			break
		}
		shares[best.name]++
	}
	return shares
}

// differs returns how a decision differs from the best choice; empty if it is as good.
func (a *answer) differs(p *puzzle, d *engine.Decision) string {
	r := p.division()
	drawn := p.object.Spec.Strategy.Type == v1alpha1.StrategyWeighted && r != nil && r.Division == v1alpha1.DivideOverflow
	if len(d.Clusters) != len(a.clusters) && (!drawn || len(a.clusters) == 0) {
		return fmt.Sprintf("%d clusters, want %d", len(d.Clusters), len(a.clusters))
	}
	if len(a.clusters) == 0 {
		return ""
	}
	if d.Group != a.group && !drawn {
		return fmt.Sprintf("group %q, want %q", d.Group, a.group)
	}
	if d.Waiting != a.waiting {
		return fmt.Sprintf("%d replicas wait, want %d", d.Waiting, a.waiting)
	}
	tiers := []v1alpha1.ClusterGroup{{}}
	if groups := p.object.Spec.Fallback; len(groups) > 0 {
		tiers = groups
		if r == nil || r.Division != v1alpha1.DivideOverflow {
			at := slices.IndexFunc(groups, func(g v1alpha1.ClusterGroup) bool { return g.Name == a.group })
			tiers = groups[at : at+1]
		}
	}
	options := p.options(tiers)
	chosen := slices.DeleteFunc(slices.Clone(options), func(o *option) bool {
		return !slices.ContainsFunc(d.Clusters, func(c engine.Choice) bool { return c.Name == o.name })
	})
	if len(chosen) != len(d.Clusters) {
		return "a cluster is not feasible"
	}
	if rank := p.rankOf(chosen, options, tiers); !slices.Equal(rank, a.rank) {
		return fmt.Sprintf("rank %v, want %v", rank, a.rank)
	}
	if r == nil {
		return ""
	}
	want := p.shares(chosen)
	for _, c := range d.Clusters {
		if c.Replicas != want[c.Name] {
			return fmt.Sprintf("%s has %d replicas, want %v", c.Name, c.Replicas, want)
		}
		if !c.Reserved.Equal(p.workload.Share(c.Replicas).Requests) {
			return fmt.Sprintf("%v reserved for %d replicas on %s", c.Reserved, c.Replicas, c.Name)
		}
	}
	return ""
}
