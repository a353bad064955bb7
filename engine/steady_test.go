package engine_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// TestPlansAreSteady drives random histories of workloads whose clusters are chosen together: they are scaled, their placement is
// edited, clusters change, vanish and return. Each decision is that of an engine that knows only the current state, is the same in
// all methods that return it, and is repeated if nothing has changed.
//
// Invariants:
//   - deciding promises no cluster more than it has,
//   - a cluster where a workload may stay is left only if fewer clusters are asked for, or no replica is left for it,
//   - when a workload grows, only drained clusters lose replicas; when it shrinks, none gets more, and no cluster is added,
//   - all replicas have a cluster, except those that wait; a new share is within its bounds,
//   - required spread constraints hold for the clusters that are added,
//   - a newly placed workload runs on at least minClusters.
func TestPlansAreSteady(t *testing.T) {
	judge := newPlainJudge(t)
	rapid.Check(t, func(t *rapid.T) {
		p := drawPuzzle(t, judge, rapid.Uint64().Draw(t, "seed"))
		running := map[string]*puzzle{}
		var gone []*snapshot.Cluster
		var log []string
		for range 12 {
			name := oneOf(p.Rand, "u", "v", "w")
			r := running[name]
			if r == nil {
				r = new(puzzle)
				*r = *p
				r.drawWorkload(name)
				running[name] = r
			}
			step := oneOf(p.Rand, "nothing", "scale", "scale", "scale", "resize", "edit", "shrink", "shrink", "facts", "facts", "vanish", "return", "release")
			some := oneOf(p.Rand, slices.Sorted(maps.Keys(p.world.fleet))...)
			switch step {
			case "scale":
				r.scale()
			case "resize":
				r.pod = capacity.Resources{CPU: p.Int64N(4), Memory: p.Int64N(3)}
				r.scale()
			case "edit":
				p.edit()
			case "shrink", "facts":
				c, drawn := copyOf(p.world.fleet[some]), p.drawCluster(some)
				if step == "shrink" {
					c.Allocatable, c.Allocated, c.LargestFree = drawn.Allocatable, drawn.Allocated, drawn.LargestFree
				} else {
					c.Location, c.Labels, c.Capabilities, c.Taints, c.Conditions = drawn.Location, drawn.Labels, drawn.Capabilities, drawn.Taints, drawn.Conditions
					c.Unschedulable, c.Draining = drawn.Unschedulable, drawn.Draining
				}
				p.set(c)
			case "vanish":
				if len(p.world.fleet) > 1 {
					gone = append(gone, p.world.fleet[some])
					delete(p.world.fleet, some)
					p.engine.RemoveCluster(ws, some)
				}
			case "return":
				if len(gone) > 0 {
					p.set(gone[0])
					gone = gone[1:]
				}
			case "release":
				p.engine.Release(ws, r.workload.Reference)
				delete(p.world.held, r.workload.Reference)
				r.current, r.group = nil, ""
			}
			all := slices.Clone(p.placed)
			for _, name := range slices.Sorted(maps.Keys(running)) {
				running[name].object, running[name].compiled = p.object, p.compiled
				all = append(all, running[name].workload)
			}
			r.placed = all
			p.engine.SetAffinity(ws, []*placement.Placement{p.compiled}, unscheduled(all))
			log = append(log, fmt.Sprintf("%s of %s (%s)", step, name, some))
			state := r.String()
			d := r.decide(t)
			if problem := r.unsteady(d); problem != "" {
				t.Fatalf("%s: %s\n%s\ngot group %q, %d wait, %s", strings.Join(log, ", "), problem, state, d.Group, d.Waiting, describe(d))
			}
			r.take(d)
		}
	})
}

// edit changes a part of the placement, or all of it.
func (p *puzzle) edit() {
	before := p.object
	p.drawPlacement()
	if p.oneIn(2) {
		return
	}
	edited := before.DeepCopy()
	switch drawn := &p.object.Spec; p.IntN(6) {
	case 0:
		edited.Spec.SpreadConstraints = drawn.SpreadConstraints
	case 1:
		edited.Spec.ReplicaScheduling = drawn.ReplicaScheduling
	case 2:
		edited.Spec.Fallback = drawn.Fallback
	case 3:
		edited.Spec.NumberOfClusters, edited.Spec.MinClusters = drawn.NumberOfClusters, drawn.MinClusters
	case 4:
		edited.Spec.Tolerations, edited.Spec.Constraints = drawn.Tolerations, drawn.Constraints
	case 5:
		edited.Spec.ClusterSelector, edited.Spec.LocationSelector = drawn.ClusterSelector, drawn.LocationSelector
	}
	if compiled, err := p.engine.CompilePlacement(edited); err == nil {
		p.object, p.compiled = edited, compiled
	}
}

// take makes the workload run where a decision places it.
func (p *puzzle) take(d *engine.Decision) {
	p.current, p.group = d.Clusters, d.Group
	delete(p.world.held, p.workload.Reference)
	if len(d.Clusters) == 0 {
		p.current = nil
		return
	}
	c := claim{placement: p.object}
	for _, choice := range d.Clusters {
		c.shares = append(c.shares, capacity.Share{Cluster: choice.Name, Amount: choice.Reserved, Expired: choice.Expired})
	}
	p.world.held[p.workload.Reference] = c
}

// shortages returns by how much each cluster is overcommitted.
func (p *puzzle) shortages() map[string]int64 {
	return (&history{engine: p.engine}).shortages(p.world)
}

// decide calls all methods that explain, and makes the decision.
func (p *puzzle) decide(t rapid.TB) *engine.Decision {
	ctx := context.Background()
	fresh, err := engine.New(engine.Options{Policies: p.judge.compiler})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.world.fleet {
		fresh.SetCluster(ws, copyOf(c))
	}
	for ref, c := range p.world.held {
		c.restoreTo(fresh, ws, ref)
	}
	request := p.request()
	if request.Placement, err = fresh.CompilePlacement(p.object); err != nil {
		t.Fatal(err)
	}
	fresh.SetAffinity(ws, []*placement.Placement{request.Placement}, unscheduled(p.placed))
	anew := fresh.DecideBatch(ctx, []engine.Request{request})[0]
	explained, explainErr := p.engine.Explain(ctx, p.request())
	review, reviewErr := p.engine.Review(ctx, p.request())
	short := p.shortages()
	d, err := p.engine.Decide(ctx, p.request())
	for _, err := range []error{err, anew.Err, explainErr, reviewErr} {
		if err != nil {
			t.Fatalf("%v\n%s", err, p)
		}
	}
	for how, other := range map[string]*engine.Decision{"made anew": anew.Decision, "explained": explained, "reviewed": review} {
		if other == nil { // nothing would change
			if d.Changes() || len(d.Retained)+len(d.Left) > 0 || d.Waiting > 0 {
				t.Fatalf("nothing would change by the review\n%s\ngot group %q, %s", p, d.Group, describeAll(d))
			}
			continue
		}
		if diff := differ(describeAll(other), describeAll(d)); diff != "" || other.Group != d.Group || other.Waiting != d.Waiting || other.Changes() != d.Changes() {
			t.Fatalf("%s - decided +\n%s\n%s", how, diff, p)
		}
	}
	for what, amount := range p.shortages() {
		if amount > short[what] {
			t.Fatalf("%s is short of %d, was of %d\n%s\ngot %s", what, amount, short[what], p, describe(d))
		}
	}
	if before := describe(d); len(d.Clusters) > 0 {
		r := p.request()
		r.Current, r.Group = d.Clusters, d.Group
		if len(p.leave) > 0 { // it may not return, and there was no better place than where it is
			if r.Leave = nil; r.Into == nil {
				r.Into = differentialClusters
			}
			r.Into = slices.DeleteFunc(slices.Clone(r.Into), func(name string) bool { return slices.Contains(p.leave, name) })
		}
		again, err := p.engine.Explain(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		// A workload on a cluster that it should leave looks for a better place each time, and may find one on a cluster that it has just left.
		if again.Changes() && (len(p.leave) == 0 || len(d.Retained) == 0) { // a cluster that it retains because it is to leave it is kept otherwise
			t.Fatalf("another decision where nothing has changed\n%s\nfirst group %q, %d wait, %s\nthen group %q, %d wait, %s", p, d.Group, d.Waiting, before, again.Group, again.Waiting, describe(again))
		}
	}
	return d
}

// unsteady returns which invariant a decision breaks.
func (p *puzzle) unsteady(d *engine.Decision) string {
	division, least := p.division(), int64(1)
	if division != nil {
		least = p.least()
	}
	chosen := func(name string) *engine.Choice {
		if at := slices.IndexFunc(d.Clusters, func(c engine.Choice) bool { return c.Name == name }); at >= 0 {
			return &d.Clusters[at]
		}
		return nil
	}
	tiers := []v1alpha1.ClusterGroup{{}}
	if groups := p.object.Spec.Fallback; len(groups) > 0 {
		tiers = groups
		if division == nil || division.Division != v1alpha1.DivideOverflow {
			if at := slices.IndexFunc(groups, func(g v1alpha1.ClusterGroup) bool { return g.Name == d.Group }); at >= 0 {
				tiers = groups[at : at+1]
			}
		}
	}
	// The fate of the clusters that it runs on, and how many replicas there are to be divided again.
	var kept, added []*snapshot.Cluster
	var has, sum int64
	here, stays, doubtful := make([]int64, len(p.current)), 0, 0
	for i := range p.current {
		current := &p.current[i]
		verdict := func(of []engine.Verdict) *filter.Rejection {
			if at := slices.IndexFunc(of, func(v engine.Verdict) bool { return v.Cluster == current.Name }); at >= 0 {
				return of[at].Rejection
			}
			return nil
		}
		left, stands := verdict(d.Left), verdict(d.Retained)
		if (left == nil) != (chosen(current.Name) != nil) {
			return fmt.Sprintf("%s is neither kept nor left, or both", current.Name)
		}
		n, all := p.fitting(current, tiers)
		part, why := n > 0, cmp.Or(left, stands)
		if why != nil && why.Stage == engine.NumberOfClusters && len(p.current) > p.number() {
			n, all, part = 0, false, false
		}
		if now := chosen(current.Name); now != nil && stands == nil && n == 0 && now.Replicas > 0 { // with fewer replicas it may stay
			n, all = p.fitting(now, tiers)
			part = all
		}
		switch {
		case left != nil && left.Stage != engine.Replicas && (all || n > 0) && d.Group == p.group:
			return fmt.Sprintf("%s is left (%v), where %d replicas may stay", current.Name, left, n)
		case left != nil && left.Stage != engine.Replicas:
			n = 0
		case left == nil && stands == nil && !all && n == 0:
			return fmt.Sprintf("%s is kept, where no replica may stay", current.Name)
		case stands != nil && all && d.Group == p.group:
			return fmt.Sprintf("it stands on %s (%v), where it may stay", current.Name, stands)
		case stands != nil && p.world.fleet[current.Name].Draining:
			n = min(current.Replicas, chosen(current.Name).Replicas) // the others leave
		case stands != nil:
			n = current.Replicas
		}
		if left == nil && (stands == nil || part) {
			kept = append(kept, p.world.fleet[current.Name])
		}
		if left == nil || left.Stage == engine.Replicas {
			stays++
		}
		if left != nil && !p.evicted(current, tiers) {
			doubtful++
		}
		here[i] = n
		has += n
	}
	for i := range d.Clusters {
		c := &d.Clusters[i]
		sum += c.Replicas
		if at := slices.IndexFunc(p.current, func(o engine.Choice) bool { return o.Name == c.Name }); at < 0 {
			added = append(added, p.world.fleet[c.Name])
			if division == nil {
				continue
			}
			if most := int64(division.MaxPerCluster); c.Replicas < least || most > 0 && c.Replicas > most {
				return fmt.Sprintf("%s gets %d replicas", c.Name, c.Replicas)
			}
		}
	}
	fresh, fewest := len(d.Clusters) > 0 && len(added) == len(d.Clusters), int(p.object.Spec.MinClusters)
	if doubtful > 0 { // a workload that runs on fewer, or has too few replicas, may move to fewer
		fewest = min(fewest, doubtful)
		if division != nil {
			fewest = min(fewest, int(p.workload.Replicas/least))
		}
	}
	if fresh && len(added) < fewest {
		return "too few clusters"
	}
	for i := range p.object.Spec.SpreadConstraints {
		s := &p.object.Spec.SpreadConstraints[i]
		if s.WhenUnsatisfiable == corev1.DoNotSchedule && p.excessOf(s, kept, added, tiers) > 0 {
			return fmt.Sprintf("added clusters are not spread over %s", s.TopologyKey)
		}
	}
	if division == nil {
		if p.object.Spec.ReplicaScheduling != nil && p.workload.Replicas == 0 && stays+doubtful > 0 && len(added) > doubtful {
			return "scaled to nothing, it gets more clusters than it leaves"
		}
		return ""
	}
	// The fate of its replicas.
	replicas := p.workload.Replicas
	if len(d.Clusters) > 0 && sum+d.Waiting != replicas {
		return fmt.Sprintf("%d replicas placed and %d waiting are not %d", sum, d.Waiting, replicas)
	}
	if fresh && d.Waiting > 0 && !division.Partial {
		return "it is placed in part"
	}
	// While it shrinks, another cluster may replace one that it leaves, and may take replicas away to have as many as it needs.
	few := doubtful > 0 && len(d.Clusters) <= min(stays+doubtful, int(p.object.Spec.MinClusters))
	// So may one for the replicas that a cluster leaves, if fewer replicas are asked for than there are, and these are too few for a cluster.
	var all int64
	for i := range p.current {
		all += p.current[i].Replicas
	}
	few = few || doubtful > 0 && replicas < all && replicas-has < least*int64(len(added))
	if replicas < has && len(added) > 0 && !few {
		return "it shrinks, and gets a cluster"
	}
	if want := min(stays, int(p.object.Spec.MinClusters)); replicas < has && len(d.Clusters) < want && int64(want)*least <= replicas {
		return "it shrinks to too few clusters"
	}
	for i := range p.current {
		current := &p.current[i]
		c, now := chosen(current.Name), int64(0)
		if c != nil {
			now = c.Replicas
		}
		switch {
		case replicas >= has && now < here[i] && !few:
			return fmt.Sprintf("it grows, and %s loses replicas", current.Name)
		case replicas <= has && now > here[i]:
			return fmt.Sprintf("it shrinks, and %s gets replicas", current.Name)
		case c != nil && now == 0:
			return fmt.Sprintf("%s keeps no replica", current.Name)
		}
	}
	if d.Waiting > 0 && len(d.Clusters) > 0 && replicas <= has {
		return "it shrinks, and replicas wait"
	}
	return ""
}

// evicted reports whether a workload has to leave a cluster at once.
func (p *puzzle) evicted(current *engine.Choice, tiers []v1alpha1.ClusterGroup) bool {
	c := p.world.fleet[current.Name]
	tolerated := len(p.object.Spec.Tolerations) > 0 || slices.ContainsFunc(tiers, func(g v1alpha1.ClusterGroup) bool { return len(g.Tolerations) > 0 })
	return c == nil || !tolerated && slices.ContainsFunc(c.Taints, func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute })
}

// fitting returns how many replicas of a workload may stay on a cluster: none if the cluster no longer passes, otherwise as many as
// have room for what they ask for beyond what is promised. If they are not divided, that is all or none.
func (p *puzzle) fitting(current *engine.Choice, tiers []v1alpha1.ClusterGroup) (n int64, all bool) {
	c := p.world.fleet[current.Name]
	if c == nil {
		return 0, false
	}
	if ready, _ := c.Condition("Ready"); ready.Status == "False" {
		return 0, false
	}
	if c.Draining || c.Unschedulable && p.division() == nil && p.workload.Replicas > current.Replicas {
		return 0, false
	}
	running := copyOf(c)
	running.Unschedulable = false
	running.Taints = slices.DeleteFunc(running.Taints, func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectNoExecute })
	p.world.fleet[c.Name] = running
	passes := slices.ContainsFunc(tiers, func(g v1alpha1.ClusterGroup) bool { return p.passes(c.Name, &g, true) })
	p.world.fleet[c.Name] = c
	if !passes {
		return 0, false
	}
	held := p.world.held[p.workload.Reference]
	share, row := held.on(current.Name), p.world.row(current.Name, p.workload.Reference)
	for n = current.Replicas; n >= 0; n-- {
		w := p.workload
		if p.division() != nil {
			w = w.Share(n)
		}
		beyond := *w
		if share != nil {
			beyond.Requests = w.Requests.Combine(share.Amount, func(asked, promised int64) int64 {
				if asked <= promised {
					return 0
				}
				return asked
			})
		}
		switch fits := referenceFits(row, &beyond); {
		case fits && (n == current.Replicas || n >= p.least()):
			return n, n == current.Replicas
		case p.division() == nil:
			return 0, false
		}
	}
	return 0, false
}

// FuzzPlan: whatever the request, and wherever the workload is said to run, nothing panics, no cluster is promised more than it
// has, no more replicas are placed than there are, the answer comes without delay, and deciding again changes nothing.
func FuzzPlan(f *testing.F) {
	f.Add(uint64(1), int64(10), int64(2), int64(0), int64(3), int64(4), "a", "b", "", false)
	f.Add(uint64(2), int64(math.MaxInt32), int64(0), int64(1), int64(math.MaxInt32), int64(math.MaxInt32), "a", "c", "x", false)
	f.Add(uint64(3), int64(math.MaxInt32), capacity.MaxAmount, int64(0), int64(1), int64(0), "b", "a", "nowhere", true)
	f.Add(uint64(4), int64(0), int64(7), int64(7), int64(-1), int64(5), "a", "a", "y", true)
	f.Add(uint64(5), int64(3), int64(10), capacity.MaxAmount, int64(math.MaxInt64), int64(2), "z", "d", "z", false)
	f.Add(uint64(6), int64(7), int64(1), int64(3), int64(7), int64(7), "a", "b", "", false)
	judge := newPlainJudge(f)
	f.Fuzz(func(t *testing.T, seed uint64, replicas, cpu, memory, first, second int64, one, other, group string, perNode bool) {
		p := drawPuzzle(t, judge, seed)
		w := *p.workload
		w.Replicas, w.Divisible, w.PerNode, w.Requests = replicas, true, perNode, capacity.Resources{CPU: cpu, Memory: memory}
		p.workload, p.group = &w, group
		p.current = []engine.Choice{{Name: one, Replicas: first}, {Name: other, Replicas: second}}
		short, start := p.shortages(), time.Now()
		d, err := p.engine.Decide(context.Background(), p.request())
		if invalid := new(engine.InvalidError); errors.As(err, &invalid) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("takes %s\n%s", took, p)
		}
		for what, amount := range p.shortages() {
			if amount > short[what] {
				t.Errorf("%s is short of %d, was of %d\n%s\n%s", what, amount, short[what], p, describe(d))
			}
		}
		var sum int64
		for _, c := range d.Clusters {
			sum += c.Replicas
		}
		if p.division() != nil && len(d.Clusters) > 0 && (d.Waiting < 0 || sum+d.Waiting != replicas) {
			t.Errorf("%d placed and %d waiting are not %d\n%s\n%s", sum, d.Waiting, replicas, p, describe(d))
		}
		if len(d.Clusters) == 0 {
			return
		}
		r := p.request()
		r.Current, r.Group = d.Clusters, d.Group
		if again, err := p.engine.Decide(context.Background(), r); err != nil || again.Changes() {
			t.Errorf("another decision (%v) where nothing has changed\n%s\n%s\n%s", err, p, describe(d), describe(again))
		}
	})
}

// TestGroupsThatTheCacheCannotHold: replicas overflow from group to group, however few rankings are kept in the cache.
func TestGroupsThatTheCacheCannotHold(t *testing.T) {
	e := newEngine(t, engine.Options{CacheBytes: 1})
	e.SetCluster(ws, cluster("a", 8000))
	e.SetCluster(ws, cluster("b", 8000))
	spec := v1alpha1.WorkloadPlacementSpec{ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideOverflow}}
	for i := range 8 {
		spec.Fallback = append(spec.Fallback, v1alpha1.ClusterGroup{
			Name: fmt.Sprint("g", i), ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"a", "b", fmt.Sprint("c", i)}[i/7:]},
		})
	}
	w := workloadOf("w", 12000)
	w.Replicas, w.Divisible = 12, true
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	d, err := e.Decide(ctx, engine.Request{Workspace: ws, Placement: compile(t, e, spec), Workload: w})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(d); got != "a,b" {
		t.Errorf("%s", got)
	}
}

// TestGroupForWhatIsLeft: the workload has to leave old by its group, and then the other group, which tolerates the taint of old,
// has a place for everything that is left. The workload goes there at once: otherwise it would give up old and then move anyway.
func TestGroupForWhatIsLeft(t *testing.T) {
	e := newEngine(t, engine.Options{})
	for _, name := range []string{"old", "new"} {
		c := cluster(name, 8000)
		if c.Labels = map[string]string{"tier": name}; name == "old" {
			c.Taints = []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoExecute}}
		}
		e.SetCluster(ws, c)
	}
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(2)), Fallback: []v1alpha1.ClusterGroup{
		{Name: "x", ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"old"}}},
		{
			Name: "y", Tolerations: []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}},
			Constraints: []v1alpha1.Constraint{{Name: "new", Expression: `cluster.labels["tier"] == "new"`}},
		},
	}})
	r := engine.Request{Workspace: ws, Placement: p, Workload: workloadOf("w", 1000), Group: "x", Current: []engine.Choice{{Name: "old"}, {Name: "new"}}}
	d, err := e.Decide(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Group + " " + names(d); got != "y new,old" {
		t.Errorf("decided %s", got)
	}
	r.Current, r.Group = d.Clusters, d.Group
	if again, err := e.Decide(context.Background(), r); err != nil || again.Changes() {
		t.Errorf("%v, then %s %s", err, again.Group, names(again))
	}
}

// TestGroupsOfEqualSpecs: groups are reported by their own names, whichever was ranked first.
func TestGroupsOfEqualSpecs(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 8000))
	for _, groups := range [][]string{{"x", "y"}, {"y", "x"}} {
		spec := v1alpha1.WorkloadPlacementSpec{Fallback: []v1alpha1.ClusterGroup{{Name: groups[0]}, {Name: groups[1]}}}
		spec.ReplicaScheduling = &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideOverflow}
		w := workloadOf("w", 9000)
		w.Divisible = true
		d, err := e.Explain(context.Background(), engine.Request{Workspace: ws, Placement: compile(t, e, spec), Workload: w})
		if err != nil {
			t.Fatal(err)
		}
		if want := groups[0] + ": 0 of 1 clusters are feasible: 1 rejected by Capacity; " + groups[1] + ": 0 of 1 clusters are feasible: 1 rejected by Capacity; there is room for 0 of 1 replicas"; d.Summary() != want {
			t.Errorf("%s, want %s", d.Summary(), want)
		}
	}
}
