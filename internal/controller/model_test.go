package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestNothingIsPromisedTwice drives random histories of a workspace with two or three clusters. Workloads are created,
// changed and deleted; their pods start late, in part or never; clusters report late, again or out of order, in three
// objects that are shown in any order, shrink, vanish and return; passes are cut short, the engine panics, writes fail, once or
// for a while, refused or with an unknown outcome, controllers are killed between any two writes, and a new one leads while the
// former goes on deciding. Taints NoExecute come and go, clusters are not ready and ready again, and get labels that violate
// constraints; what that makes workloads leave has to wait for the brake in some histories.
//
// Invariants:
//   - no write promises more on a cluster than it has, by the last report that the controller knows,
//   - after each pass the ledger holds exactly what the decisions promise,
//   - at rest, no workload waits that fits on a cluster,
//   - no pass takes a workload off all its clusters unless it makes room, or must leave each of them: the cluster is gone or lost, a taint
//     NoExecute is not tolerated or not any more, or a constraint required during execution is violated,
//   - where the most important workloads take the place of others, these are less important, and the write that gives them the place
//     comes after the one that takes it from the others,
//   - no interval has more disruptions than its budget, not even across a change of leader,
//   - when all workloads are gone, all capacity is free.
//
// In some histories a former leader writes once more, past its fence, while clusters run no more than was promised. There,
// at rest, no cluster is promised more than it has.
//
// -rapid.checks and -rapid.steps set the number of histories and their length. PLACEMENT_MODEL=10m makes new histories for ten
// minutes.
func TestNothingIsPromisedTwice(t *testing.T) {
	var long time.Duration
	if text := os.Getenv("PLACEMENT_MODEL"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatal("PLACEMENT_MODEL: ", err)
		}
	}
	policies, err := policy.NewCompiler(policy.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	steps, writes, histories := 0, 0, 0
	for start := time.Now(); ; {
		rapid.Check(t, func(t *rapid.T) {
			m := newModel(t, policies)
			m.run()
			steps, writes, histories = steps+m.steps, writes+m.written, histories+1
		})
		if t.Failed() || time.Since(start) >= long {
			t.Logf("%d histories, %d steps, %d writes of decisions", histories, steps, writes)
			return
		}
	}
}

// model is the true state of a workspace: what the API server stores and what runs on its clusters.
type model struct {
	*rapid.T
	policies *policy.Compiler
	clock    time.Time
	version  int
	uids     int

	// What the API server stores.
	decisions     map[types.NamespacedName]*v1alpha1.PlacementDecision
	registrations map[string]*v1alpha1.ClusterRegistration
	usages        map[string]*v1alpha1.ClusterUsage
	leases        map[string]heartbeat
	placements    []*v1alpha1.WorkloadPlacement
	workloads     map[string]*workloadObject
	plans         map[string]*v1alpha1.RebalancePlan

	// broken are slices that cannot be written for now, by how a write of them ends.
	broken map[string]brokenWrite

	// sites are the physical clusters.
	sites map[string]*site
	// leader is the controller that holds the lease, before are former ones that go on.
	leader *leader
	before []*leader

	// rogue says that former leaders may write past their fence. Clusters are well-behaved then.
	rogue bool

	// claimed says that the workspace accepts the claim on workloads, binding is the version of the APIBinding that says so.
	// boundAt is when that changed. visible says that the server shows workloads: they vanish after the claim does, and are back
	// some time after it is.
	claimed, visible bool
	boundAt          time.Time
	binding          string

	// budget is that of disruptions, disrupted when there were some.
	budget    disruption.Budget
	disrupted []time.Time

	// slicing bounds slices, so that a few decisions fill several.
	slicing sliceLimits

	steps, written int
}

// site is a physical cluster: what it has, what the pods of each workload request there, and all of its reports.
type site struct {
	allocatable int64
	// unready says that it reports Ready False.
	unready bool
	pods    map[types.UID]int64
	reports []v1alpha1.ClusterUsage
}

// leader is a controller with the view of its informers.
type leader struct {
	*model
	workspace *workspace
	view      cacheView
	// beats are the heartbeats that it has seen, by cluster.
	beats map[string]heartbeat
	// tainted is when it was first shown a cluster's taint that does not say when it was added.
	tainted map[string]time.Time
	// withdrawn are the unwritten before the pass, preempted those that have made room in it.
	withdrawn, preempted map[string]bool
	// fenced says that its lease has expired, breaks that it writes once all the same.
	fenced, breaks bool
	// killAfter is the number of writes before it is killed, dead says that it was.
	killAfter int
	dead      bool
	// panicAt is the number of decisions before the engine panics, panicsLate says that it has reserved by then. failAt is
	// the number of writes before one fails.
	panicAt    int
	panicsLate bool
	failAt     int
	// meddle is what others do just before each of its writes.
	meddle func()
}

var errKilled = errors.New("killed")

// brokenWrite is how a write fails.
type brokenWrite int

const (
	// refusedWrite is answered by the server: nothing is written.
	refusedWrite brokenWrite = iota
	// lostWrite and lostAnswer look the same to the controller: a write that did not reach the server, and one that did.
	lostWrite
	lostAnswer
)

func newModel(t *rapid.T, policies *policy.Compiler) *model {
	m := &model{
		T: t, policies: policies, clock: time.Unix(1_000_000, 0),
		decisions: map[types.NamespacedName]*v1alpha1.PlacementDecision{}, registrations: map[string]*v1alpha1.ClusterRegistration{},
		usages: map[string]*v1alpha1.ClusterUsage{}, leases: map[string]heartbeat{},
		workloads: map[string]*workloadObject{}, plans: map[string]*v1alpha1.RebalancePlan{}, sites: map[string]*site{}, broken: map[string]brokenWrite{},
		slicing: sliceLimits{decisions: rapid.IntRange(1, 4).Draw(t, "decisions"), bytes: 1 << 20, youngBytes: 1 << 20},
	}
	m.slicing.youngDecisions = rapid.IntRange(1, m.slicing.decisions).Draw(t, "young")
	m.rogue = rapid.IntRange(0, 3).Draw(t, "rogue") == 0
	for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(2, 3).Draw(t, "clusters")] {
		m.sites[name] = &site{allocatable: rapid.Int64Range(4, 12).Draw(t, name), pods: map[types.UID]int64{}}
		m.register(name)
	}
	m.budget = rapid.SampledFrom([]disruption.Budget{{}, {Minimum: 1, Interval: time.Minute}, {Minimum: 2, Interval: time.Minute}}).Draw(t, "budget")
	for i, spec := range []v1alpha1.WorkloadPlacementSpec{
		{NumberOfClusters: ptr.To(intstr.FromInt32(1)), Priority: 1, Tolerations: []corev1.Toleration{
			{Key: evict.Key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](8)},
		}},
		{NumberOfClusters: ptr.To(intstr.FromInt32(2)), Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategySpread}},
		{Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategyRoundRobin}, NumberOfClusters: ptr.To(intstr.FromInt32(1))},
	} {
		if rapid.Bool().Draw(t, "chosen together") {
			chooseTogether(&spec, i)
		}
		spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"of": fmt.Sprint(i)}}
		spec.Constraints = []v1alpha1.Constraint{{
			Name: "tier", Expression: `cluster.labels.?tier.orValue("") != "low"`, RequiredDuringExecution: rapid.Bool().Draw(t, "required during execution"),
		}}
		if i == 0 && rapid.Bool().Draw(t, "preempts") {
			spec.Preemption.Policy = corev1.PreemptLowerPriority
		}
		p := testPlacement(spec)
		p.Name, p.UID, p.ResourceVersion = fmt.Sprintf("p%d", i), types.UID(fmt.Sprintf("p%d", i)), m.next()
		m.placements = append(m.placements, p)
	}
	m.claim(true)
	m.visible = true
	m.elect()
	return m
}

// chooseTogether has the clusters of a placement's workloads chosen together, so that each fits wherever it fits on a cluster.
func chooseTogether(spec *v1alpha1.WorkloadPlacementSpec, i int) {
	switch i {
	case 0:
		spec.Fallback = []v1alpha1.ClusterGroup{
			{Name: "first", ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"a"}}, ReturnAfter: &metav1.Duration{Duration: 5 * time.Second}},
			{Name: "any"},
		}
	case 1:
		spec.NumberOfClusters = ptr.To(intstr.FromString(v1alpha1.AllClusters))
		spec.ReplicaScheduling = &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Partial: true}
	case 2:
		spec.SpreadConstraints = []v1alpha1.SpreadConstraint{{
			TopologyKey: "cluster", Scope: v1alpha1.SpreadWorkloads, WhenUnsatisfiable: corev1.ScheduleAnyway, Weight: 20,
		}}
	}
}

func (m *model) next() string {
	m.version++
	return fmt.Sprint(m.version)
}

// run makes a random history, brings it to rest, and checks the invariants of rest.
func (m *model) run() {
	name := rapid.SampledFrom([]string{"t", "u", "v", "w", "x", "y", "z"})
	at := rapid.SampledFrom(slices.Sorted(maps.Keys(m.sites)))
	step := func(do func()) func(*rapid.T) {
		return func(*rapid.T) {
			m.steps++
			do()
		}
	}
	m.Repeat(map[string]func(*rapid.T){
		"a workload comes or changes": step(func() { m.ask(name.Draw(m.T, "workload"), rapid.IntRange(0, 2).Draw(m.T, "placement")) }),
		"a workload goes":             step(func() { delete(m.workloads, name.Draw(m.T, "workload")) }),
		"pods start":                  step(m.startPods),
		"pods vanish": step(func() {
			s := m.sites[at.Draw(m.T, "cluster")]
			if len(s.pods) > 0 {
				delete(s.pods, rapid.SampledFrom(slices.Sorted(maps.Keys(s.pods))).Draw(m.T, "of"))
			}
		}),
		"a cluster reports": step(func() { m.report(at.Draw(m.T, "cluster"), -1) }),
		"a report comes again or out of order": step(func() {
			name := at.Draw(m.T, "cluster")
			if n := len(m.sites[name].reports); n > 0 && !m.rogue {
				m.report(name, rapid.IntRange(max(0, n-4), n-1).Draw(m.T, "report"))
			}
		}),
		"a cluster shrinks or grows": step(func() {
			s := m.sites[at.Draw(m.T, "cluster")]
			if allocatable := rapid.Int64Range(0, 14).Draw(m.T, "allocatable"); !m.rogue || allocatable > s.allocatable {
				s.allocatable = allocatable
			}
		}),
		"a cluster vanishes or returns": step(func() {
			name := at.Draw(m.T, "cluster")
			if m.registrations[name] != nil && rapid.Bool().Draw(m.T, "vanishes") {
				delete(m.registrations, name)
			} else if m.registrations[name] == nil {
				m.register(name)
			}
		}),
		"a taint comes or goes": step(func() {
			on := []string{at.Draw(m.T, "cluster")}
			if rapid.Bool().Draw(m.T, "on all") {
				on = slices.Sorted(maps.Keys(m.sites))
			}
			for _, name := range on {
				m.edit(name, func(r *v1alpha1.ClusterRegistration) {
					if len(r.Spec.Taints) > 0 {
						r.Spec.Taints = nil
						return
					}
					r.Spec.Taints = []corev1.Taint{evict}
					if rapid.Bool().Draw(m.T, "time added") {
						r.Spec.Taints[0].TimeAdded = &metav1.Time{Time: m.clock}
					}
				})
			}
		}),
		"a label comes or goes": step(func() {
			m.edit(at.Draw(m.T, "cluster"), func(r *v1alpha1.ClusterRegistration) {
				if len(r.Labels) > 0 {
					r.Labels = nil
				} else {
					r.Labels = map[string]string{"tier": "low"}
				}
			})
		}),
		"a cluster is ready or not": step(func() {
			name := at.Draw(m.T, "cluster")
			m.sites[name].unready = !m.sites[name].unready
			m.report(name, -1)
		}),
		"time goes by": step(func() {
			steps := []time.Duration{time.Second, 6 * time.Second, time.Minute, time.Hour}
			if m.rogue {
				steps = steps[:2] // nothing expires
			}
			m.elapse(rapid.SampledFrom(steps).Draw(m.T, "time"))
		}),
		"a plan comes or goes": step(m.rebalance),
		"informers show":       step(func() { m.leader.show(rapid.IntRange(0, allKinds).Draw(m.T, "kinds")) }),
		"a pass":               step(func() { m.leader.pass() }),
		"a full pass": step(func() {
			m.leader.show(allKinds)
			m.leader.pass()
		}),
		"a pass is cut short": step(func() {
			m.leader.killAfter = rapid.IntRange(0, 3).Draw(m.T, "writes")
			m.leader.pass()
			if m.leader.dead {
				m.elect()
			}
			m.leader.killAfter = -1
		}),
		"the engine panics": step(func() {
			m.leader.panicAt = rapid.IntRange(0, 3).Draw(m.T, "decisions")
			m.leader.panicsLate = rapid.Bool().Draw(m.T, "late")
			m.leader.pass()
			m.leader.panicAt = -1
		}),
		"a write fails": step(func() {
			m.leader.failAt = rapid.IntRange(0, 3).Draw(m.T, "writes")
			m.leader.pass()
			m.leader.failAt = -1
		}),
		"a slice cannot be written": step(func() {
			name := fmt.Sprintf("p%d-%d", rapid.IntRange(0, 2).Draw(m.T, "placement"), rapid.IntRange(0, 1).Draw(m.T, "slice"))
			m.broken[name] = rapid.SampledFrom([]brokenWrite{refusedWrite, lostWrite, lostAnswer}).Draw(m.T, "outcome")
		}),
		"a claim is withdrawn": step(func() {
			m.claim(false)
			m.leader.show(rapid.IntRange(0, allKinds).Draw(m.T, "kinds")) // whether it sees that before the workloads vanish, after, or both
			m.visible = false
			m.leader.show(rapid.IntRange(0, allKinds).Draw(m.T, "kinds"))
			m.leader.pass()
		}),
		"a claim is accepted":         step(func() { m.claim(true) }),
		"slices can be written again": step(func() { clear(m.broken) }),
		"another leads": step(func() {
			m.before = append(m.before, m.leader)
			m.leader.fenced = true
			m.elect()
		}),
		"another leads in the middle of a pass": step(func() {
			l := m.leader
			left := rapid.IntRange(0, 2).Draw(m.T, "after writes")
			l.meddle = func() {
				if left--; left == -1 {
					l.fenced = true
					m.before = append(m.before, l)
					if m.rogue {
						m.ask("s", 0) // comes first in order
					}
					m.elect()
					m.leader.pass()
					l.breaks = m.rogue // it was delayed between the fence and the write
				}
			}
			l.pass()
			l.meddle = nil
			m.repair(l)
		}),
		"a former leader goes on deciding": step(func() {
			if len(m.before) > 0 {
				l := m.before[rapid.IntRange(0, len(m.before)-1).Draw(m.T, "who")]
				l.show(rapid.IntRange(0, allKinds).Draw(m.T, "kinds"))
				l.breaks = m.rogue && rapid.Bool().Draw(m.T, "breaks its fence")
				l.pass()
				m.repair(l)
			}
		}),
	})
	m.settle()
	m.expectNothingWaitsInVain()
	m.leader.expectTheLedgerToBeTrue(true)
	if m.rogue {
		promised := map[string]int64{}
		for _, d := range m.durable() {
			for _, c := range d.Clusters {
				promised[c.Name] += amountOf(d, c)
			}
		}
		for name, amount := range promised {
			if has := m.sites[name].allocatable; amount > has {
				m.Fatalf("%s: %d promised of %d", name, amount, has)
			}
		}
	}
	clear(m.workloads)
	for _, name := range slices.Sorted(maps.Keys(m.sites)) {
		clear(m.sites[name].pods)
	}
	m.settle()
	if len(m.decisions) > 0 {
		m.Fatalf("decisions without workloads: %v", slices.Collect(maps.Keys(m.decisions)))
	}
	for _, row := range m.leader.workspace.engine.Snapshot("ws").Rows() {
		if row.Free.CPU != row.Allocatable.CPU {
			m.Fatalf("%s: %d of %d free at the end", row.Name, row.Free.CPU, row.Allocatable.CPU)
		}
	}
}

// rebalance makes a plan of any moves, suspends one or lets it go on, or deletes it.
func (m *model) rebalance() {
	name := rapid.SampledFrom([]string{"p1", "p2"}).Draw(m.T, "plan")
	p := m.plans[name]
	switch {
	case p == nil:
		var lines []string
		cluster := rapid.SampledFrom([]string{"a", "b", "c"})
		for range rapid.IntRange(1, 5).Draw(m.T, "moves") {
			lines = append(lines, fmt.Sprintf("%d %s %s %s", rapid.IntRange(1, 3).Draw(m.T, "wave"), rapid.SampledFrom([]string{"t", "u", "v", "w"}).Draw(m.T, "of"),
				cluster.Draw(m.T, "from"), cluster.Draw(m.T, "to")))
		}
		p = moves(name, lines...)
		p.UID, p.CreationTimestamp = types.UID(m.next()), metav1.NewTime(m.clock)
		p.Spec.Limits.MoreWaiting = int32(rapid.IntRange(0, 2).Draw(m.T, "more waiting"))
	case rapid.Bool().Draw(m.T, "is deleted"):
		delete(m.plans, name)
		return
	default:
		p = p.DeepCopy()
		p.Spec.Suspend = !p.Spec.Suspend
	}
	p.ResourceVersion = m.next()
	m.plans[name] = p
}

// endPlans lets all plans go on, and expects them to come to an end once all is well.
func (m *model) endPlans() {
	for _, name := range slices.Sorted(maps.Keys(m.plans)) {
		p := m.plans[name].DeepCopy()
		p.Spec.Suspend, p.ResourceVersion = false, m.next()
		m.plans[name] = p
	}
	over := func() bool {
		return !slices.ContainsFunc(slices.Collect(maps.Values(m.plans)), func(p *v1alpha1.RebalancePlan) bool { return !p.IsOver() })
	}
	for i := 0; !over(); i++ {
		if i > 50 {
			for _, p := range m.plans {
				m.Logf("%s: %+v", p.Name, p.Status)
			}
			m.Fatal("a plan does not come to an end")
		}
		m.elapse(5 * time.Minute)
		for _, name := range slices.Sorted(maps.Keys(m.sites)) {
			m.report(name, -1)
		}
		m.leader.show(allKinds)
		m.leader.pass()
	}
}

// elapse lets time go by. The server shows workloads again some time after their claim is accepted, and before the controller
// relies on what it does not show.
func (m *model) elapse(d time.Duration) {
	m.clock = m.clock.Add(d)
	m.visible = m.visible || m.claimed && !m.clock.Before(m.boundAt.Add(claimsSettle/2))
}

// claim accepts or withdraws the claim on workloads.
func (m *model) claim(accepted bool) {
	m.claimed, m.binding, m.boundAt = accepted, m.next(), m.clock
}

// repair shows the leader what a former one has written. The next leader could not know which of the two came first.
func (m *model) repair(l *leader) {
	if m.rogue {
		l.breaks = false
		m.leader.show(allKinds)
		m.leader.pass()
	}
}

// ask creates a workload of a placement, or changes its requests. One that was deleted gets a new UID.
func (m *model) ask(name string, placement int) {
	w := testWorkload(name, rapid.Int64Range(1, 6).Draw(m.T, "cpu"))
	if w.workload.PerNode = rapid.IntRange(0, 3).Draw(m.T, "a pod on each node") == 3; !w.workload.PerNode {
		w.workload.Divisible, w.workload.Replicas = true, rapid.Int64Range(1, 3).Draw(m.T, "replicas")
		w.workload.Requests.CPU *= w.workload.Replicas
	}
	if before := m.workloads[name]; before != nil {
		w.UID = before.UID
	} else {
		m.uids++
		w.UID = types.UID(fmt.Sprintf("%s-%d", name, m.uids))
	}
	w.workload.UID = string(w.UID)
	w.workload.Labels = map[string]string{"of": fmt.Sprint(placement)}
	w.Labels = w.workload.Labels
	m.workloads[name] = w
}

// startPods starts pods of a placed workload: all, some, or one too many.
func (m *model) startPods() {
	durable := m.durable()
	if len(durable) == 0 {
		return
	}
	d := durable[rapid.SampledFrom(slices.Sorted(maps.Keys(durable))).Draw(m.T, "of")]
	c := rapid.SampledFrom(d.Clusters).Draw(m.T, "on")
	if s := m.sites[c.Name]; s != nil {
		amount := amountOf(d, c)
		s.pods[d.Workload.UID] = rapid.SampledFrom([]int64{amount, amount, 1, amount + 1}).Draw(m.T, "pods")
		if m.rogue {
			s.pods[d.Workload.UID] = min(amount, s.pods[d.Workload.UID])
		}
	}
}

// amountOf is what a decision reserves on one of its clusters.
func amountOf(d v1alpha1.WorkloadDecision, c v1alpha1.ClusterDecision) int64 {
	if len(c.Reserved) > 0 {
		return millis(c.Reserved)
	}
	return millis(d.Reserved)
}

// durable returns the stored decisions by workload.
func (m *model) durable() map[string]v1alpha1.WorkloadDecision {
	all := map[string]v1alpha1.WorkloadDecision{}
	for _, slice := range sorted(m.decisions) {
		for _, d := range slice.Decisions {
			all[d.Workload.Name] = d
		}
	}
	return all
}

// sorted returns slices by name, as a server lists them.
func sorted(all map[types.NamespacedName]*v1alpha1.PlacementDecision) []*v1alpha1.PlacementDecision {
	return slices.SortedFunc(maps.Values(all), func(a, b *v1alpha1.PlacementDecision) int { return strings.Compare(a.Name, b.Name) })
}

// edit changes a registration as its operator does.
func (m *model) edit(name string, change func(*v1alpha1.ClusterRegistration)) {
	if current := m.registrations[name]; current != nil {
		edited := current.DeepCopy()
		change(edited)
		edited.ResourceVersion = m.next()
		m.registrations[name] = edited
	}
}

func (m *model) register(name string) {
	m.uids++
	m.registrations[name] = &v1alpha1.ClusterRegistration{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(fmt.Sprintf("%s-%d", name, m.uids))}}
	m.report(name, -1)
}

// report writes a report of a cluster: a new one, or an earlier one again.
func (m *model) report(name string, again int) {
	s, current := m.sites[name], m.registrations[name]
	if again < 0 {
		cpu := func(milli int64) corev1.ResourceList {
			return corev1.ResourceList{"cpu": *resource.NewMilliQuantity(milli, resource.DecimalSI)}
		}
		report := v1alpha1.ClusterUsage{ClusterUID: types.UID(name), Allocatable: cpu(s.allocatable)}
		var allocated int64
		for _, uid := range slices.Sorted(maps.Keys(s.pods)) {
			allocated += s.pods[uid]
			report.Workloads = append(report.Workloads, v1alpha1.WorkloadUsage{UID: uid, Requests: cpu(s.pods[uid])})
		}
		report.Allocated = cpu(allocated)
		s.reports = append(s.reports, report)
		again = len(s.reports) - 1
	}
	if current == nil {
		return
	}
	usage := s.reports[again].DeepCopy()
	usage.Name, usage.UID, usage.Generation = name, types.UID("usage of "+name), 1
	if before := m.usages[name]; before != nil {
		usage.Generation = before.Generation + 1
	}
	m.usages[name] = usage
	reported := current.DeepCopy()
	reported.Status.ClusterUID, reported.Status.Allocatable, reported.Status.Allocated = usage.ClusterUID, usage.Allocatable, usage.Allocated
	reported.Status.Nodes = &v1alpha1.NodeCounts{Usable: rapid.SampledFrom([]int32{1, 1, 2, 3, 0}).Draw(m.T, "usable nodes")}
	ready := conditions.TrueCondition(v1alpha1.ReadyCondition)
	if s.unready {
		ready = conditions.FalseCondition(v1alpha1.ReadyCondition, "Upgrading", conditionsv1alpha1.ConditionSeverityError, "")
	}
	conditions.Set(reported, ready)
	reported.ResourceVersion = m.next()
	m.registrations[name] = reported
	m.leases[name] = heartbeat{renewed: m.clock, holder: usage.ClusterUID, usage: v1alpha1.UsageVersion(usage)}
}

// elect starts a new leader. Where it finds decisions, it takes the budget of disruptions for used up.
func (m *model) elect() {
	if len(m.decisions) == 0 {
		m.disrupted = nil
	}
	e, err := engine.New(engine.Options{Policies: m.policies})
	if err != nil {
		m.Fatal(err)
	}
	metrics, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		m.Fatal(err)
	}
	batchSize := rapid.SampledFrom([]int{1, 2, 3, 1000}).Draw(m.T, "batch size")
	l := &leader{model: m, killAfter: -1, panicAt: -1, failAt: -1, beats: map[string]heartbeat{}, tainted: map[string]time.Time{}, preempted: map[string]bool{}}
	l.workspace = newWorkspace("ws", e, m.policies, metrics, limits{batchSize: batchSize, batchTimeout: time.Hour, grace: 10 * time.Minute, failoverAfter: 40 * time.Minute, reservationTimeout: 30 * time.Minute, disruptions: m.budget}, actions{
		listDecisions: func(context.Context) ([]*v1alpha1.PlacementDecision, error) {
			return sorted(m.decisions), nil
		},
		writeDecision: func(_ context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
			return l.write(types.NamespacedName{Namespace: d.Namespace, Name: d.Name}, d.ResourceVersion, d)
		},
		deleteDecision: func(_ context.Context, d *v1alpha1.PlacementDecision) error {
			_, err := l.write(types.NamespacedName{Namespace: d.Namespace, Name: d.Name}, d.ResourceVersion, nil)
			return err
		},
		writeStatus: func(_ context.Context, p *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error) {
			return p, l.alive()
		},
		writePlan: func(_ context.Context, p *v1alpha1.RebalancePlan) (*v1alpha1.RebalancePlan, error) {
			current := m.plans[p.Name]
			if err := l.alive(); err != nil {
				return nil, err
			}
			if current == nil || current.ResourceVersion != p.ResourceVersion {
				return nil, apierrors.NewConflict(schema.GroupResource{}, p.Name, errors.New("changed"))
			}
			written := current.DeepCopy()
			written.Status, written.ResourceVersion = *p.Status.DeepCopy(), m.next()
			m.plans[p.Name] = written
			return written, nil
		},
		writeConditions: func(_ context.Context, r *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
			current := m.registrations[r.Name]
			if err := l.alive(); err != nil {
				return nil, err
			}
			if current == nil || current.ResourceVersion != r.ResourceVersion {
				return nil, apierrors.NewConflict(schema.GroupResource{}, r.Name, errors.New("changed"))
			}
			written := r.DeepCopy()
			written.ResourceVersion = m.next()
			m.registrations[r.Name] = written
			return written, nil
		},
		there: func(_ context.Context, resource schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]bool, error) {
			there := map[types.NamespacedName]bool{}
			for _, name := range names {
				if resource == deployments && m.visible && m.workloads[name.Name] != nil || resource == clusterResource && m.registrations[name.Name] != nil || resource == placementResource {
					there[name] = true
				}
			}
			return there, l.alive()
		},
		stillBound: func(_ context.Context, b *apisv1alpha2.APIBinding) (bool, error) {
			return b.ResourceVersion == m.binding, l.alive()
		},
		readHeartbeat: func(_ context.Context, cluster string) (heartbeat, bool, error) {
			l.hear(cluster)
			beat, found := l.beats[cluster]
			return beat, found, l.alive()
		},
		event: func(about runtime.Object, _, reason, message string) {
			if w, is := about.(*workloadObject); is && reason == string(v1alpha1.ChangePreempted) {
				l.expectVictim(w, message)
			}
		},
	})
	l.view.kinds = watchedKinds(workload.Kinds(), []schema.GroupVersionResource{deployments})
	l.workspace.now, l.workspace.slicing = func() time.Time { return m.clock }, m.slicing
	ask := l.workspace.ask
	l.workspace.ask = func(ctx context.Context, request engine.Request) (*engine.Decision, error) {
		l.panicAt--
		if l.panicAt == -1 && !l.panicsLate {
			panic("before the decision")
		}
		decision, err := ask(ctx, request)
		if l.panicAt == -1 {
			panic("after the decision")
		}
		if err == nil {
			l.expectDisruptionsWithinBudget(request.Current, decision.Clusters)
		}
		return decision, err
	}
	l.show(allKinds)
	m.leader = l
	if m.rogue {
		l.pass() // reads the durable decisions before a former leader writes
	}
}

func (l *leader) alive() error {
	if l.dead || l.fenced && !l.breaks {
		return errKilled
	}
	return nil
}

// write stores or deletes a slice as an API server does, and checks that nothing is promised twice.
func (l *leader) write(name types.NamespacedName, version string, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
	if l.meddle != nil {
		l.meddle()
	}
	if l.killAfter == 0 {
		l.dead = true
	}
	l.killAfter--
	if err := l.alive(); err != nil {
		return nil, err
	}
	if l.failAt--; l.failAt == -1 {
		return nil, apierrors.NewInternalError(errors.New("out of cheese"))
	}
	l.breaks = false
	outcome, broken := l.broken[name.Name]
	switch {
	case broken && outcome == refusedWrite:
		return nil, apierrors.NewForbidden(schema.GroupResource{}, name.Name, errors.New("not now"))
	case broken && outcome == lostWrite:
		return nil, apierrors.NewTimeoutError("try later", 1)
	}
	current := l.decisions[name]
	switch {
	case version == "" && current != nil:
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{}, name.Name)
	case version != "" && (current == nil || current.ResourceVersion != version):
		return nil, apierrors.NewConflict(schema.GroupResource{}, name.Name, errors.New("changed"))
	}
	before, stays := l.load(), l.notToBeSeen()
	if d == nil {
		delete(l.decisions, name)
	} else {
		d = d.DeepCopy()
		d.ResourceVersion = l.next()
		if d.UID == "" {
			d.UID = types.UID("uid-" + d.ResourceVersion)
		}
		l.decisions[name] = d
	}
	l.written++
	durable := l.durable()
	for workload, clusters := range stays {
		if after := clusterNames(durable[workload].Clusters); !slices.Equal(after, clusters) && !l.rogue {
			l.Fatalf("%s cannot be seen, is on %v, and was on %v", workload, after, clusters)
		}
	}
	after := l.load()
	for _, c := range l.view.clusters {
		has := millis(c.Status.Allocatable)
		if usage := l.view.usages[c.Name]; usage != nil {
			has = millis(usage.Allocatable) // whatever the status says, which is of another report
		}
		if !l.rogue && after[c.Name] > has && after[c.Name] > before[c.Name] { // a rogue's writes may not be known yet
			l.Fatalf("%s: %d promised and in use of %d, was %d", c.Name, after[c.Name], has, before[c.Name])
		}
	}
	if broken {
		return nil, apierrors.NewTimeoutError("try later", 1)
	}
	return d, nil
}

// notToBeSeen returns the clusters of the workloads that are there, have a decision, and are not shown to the controller.
func (l *leader) notToBeSeen() map[string][]string {
	clusters := map[string][]string{}
	for name, d := range l.durable() {
		if w := l.workloads[name]; w != nil && w.UID == d.Workload.UID && !l.withdrawn[name] {
			clusters[name] = clusterNames(d.Clusters)
		}
	}
	for _, w := range l.view.workloads {
		delete(clusters, w.Name)
	}
	return clusters
}

func millis(list corev1.ResourceList) int64 {
	cpu := list["cpu"]
	return cpu.MilliValue()
}

// load is the capacity in use on each cluster, by the report that this controller knows, and what stored decisions promise
// and that report does not count. A workload that moves between slices is in both for a moment, and the larger counts.
func (l *leader) load() map[string]int64 {
	load, counted := map[string]int64{}, map[string]map[types.UID]int64{}
	for _, c := range l.view.clusters {
		load[c.Name], counted[c.Name] = millis(c.Status.Allocated), map[types.UID]int64{}
		if usage := l.view.usages[c.Name]; usage != nil {
			load[c.Name] = millis(usage.Allocated)
			for _, w := range usage.Workloads {
				counted[c.Name][w.UID] = millis(w.Requests)
			}
		}
	}
	type promise struct {
		uid     types.UID
		cluster string
	}
	promised := map[promise]int64{}
	for _, slice := range l.decisions {
		for _, d := range slice.Decisions {
			for _, c := range d.Clusters {
				if p := (promise{d.Workload.UID, c.Name}); c.ReservationExpiredAt == nil {
					promised[p] = max(promised[p], amountOf(d, c)-counted[c.Name][d.Workload.UID])
				}
			}
		}
	}
	for p, amount := range promised {
		load[p.cluster] += amount
	}
	return load
}

// allKinds has a bit for each kind of object.
const allKinds = 255

// show brings informers up to date; each bit of kinds is one kind of object.
func (l *leader) show(kinds int) {
	if kinds&1 != 0 {
		l.view.clusters = nil
		for _, name := range slices.Sorted(maps.Keys(l.registrations)) {
			r := l.registrations[name]
			l.view.clusters = append(l.view.clusters, r)
		}
	}
	if kinds&2 != 0 {
		l.view.placements = slices.Clone(l.placements)
	}
	if kinds&4 != 0 {
		l.view.decisions = sorted(l.decisions)
	}
	if kinds&8 != 0 {
		l.view.workloads = nil
		for _, name := range slices.Sorted(maps.Keys(l.workloads)) {
			if !l.visible {
				break
			}
			l.view.workloads = append(l.view.workloads, l.workloads[name])
		}
	}
	if kinds&128 != 0 {
		l.view.plans = nil
		for _, name := range slices.Sorted(maps.Keys(l.plans)) {
			l.view.plans = append(l.view.plans, l.plans[name])
		}
	}
	if kinds&16 != 0 {
		l.view.usages = maps.Clone(l.usages)
	}
	if kinds&32 != 0 {
		for name := range l.leases {
			l.hear(name)
		}
	}
	if kinds&64 != 0 {
		l.view.binding, l.view.hidden = testBinding("deployments.apps"), nil
		l.view.binding.ResourceVersion = l.binding
		l.view.binding.ManagedFields = []metav1.ManagedFieldsEntry{{Time: &metav1.Time{Time: l.boundAt}}}
		if !l.claimed {
			l.view.binding.Spec.PermissionClaims[0].State = apisv1alpha2.ClaimRejected
			l.view.hidden = hiddenBy(l.view.binding, []schema.GroupVersionResource{deployments})
		}
	}
	l.view.heard = map[types.UID]heartbeat{}
	for _, r := range l.view.clusters {
		if beat, found := l.beats[r.Name]; found && beat.holder == r.Status.ClusterUID {
			l.view.heard[r.UID] = beat
		}
	}
}

// hear records the latest heartbeat of a cluster.
func (l *leader) hear(cluster string) {
	if beat := l.leases[cluster]; !beat.renewed.Equal(l.beats[cluster].renewed) {
		beat.at = l.clock
		l.beats[cluster] = beat
	}
}

// pass makes passes until no other is due at once, and compares the ledger with the decisions.
func (l *leader) pass() {
	for n := 0; ; n++ {
		if n == 1000 {
			l.Fatalf("passes go on for ever: %v", l.durable())
		}
		before := l.durable()
		l.withdrawn, l.preempted = l.unwritten(), map[string]bool{}
		l.seeTaints()
		r := l.workspace.reconcile(klog.NewContext(context.Background(), klog.Logger{}), l.view)
		if !l.fenced && !l.rogue && !l.dead {
			l.expectTheLedgerToBeTrue(r.err() == nil && len(l.workspace.writeFailures) == 0)
			l.expectNothingLosesItsPlace(before)
		}
		if r.err() != nil || !r.again {
			return
		}
	}
}

// unwritten are the workloads whose decisions a pass has withdrawn already and could not write.
func (l *leader) unwritten() map[string]bool {
	unwritten := map[string]bool{}
	if s := l.workspace.store; s != nil && !l.workspace.stale {
		for name, d := range l.durable() {
			if _, _, found := s.get(keyIn("default", d.Workload)); !found {
				unwritten[name] = true
			}
		}
	}
	return unwritten
}

// seeTaints records when taints were first shown that do not say when they were added.
func (l *leader) seeTaints() {
	before := l.tainted
	l.tainted = map[string]time.Time{}
	for _, r := range l.view.clusters {
		if len(r.Spec.Taints) == 0 || r.Spec.Taints[0].TimeAdded != nil {
			continue
		}
		since, known := before[r.Name]
		if !known {
			since = l.clock
		}
		l.tainted[r.Name] = since
	}
}

// expectDisruptionsWithinBudget checks a decision that the engine has made: where it leaves a cluster, no more workloads than the
// budget allows have left one within the last interval.
func (l *leader) expectDisruptionsWithinBudget(current, decided []engine.Choice) {
	stays := func(had engine.Choice) bool {
		return slices.ContainsFunc(decided, func(c engine.Choice) bool { return c.Name == had.Name })
	}
	if slices.ContainsFunc(current, func(had engine.Choice) bool { return !stays(had) }) {
		l.expectBudgetFor()
	}
}

// expectVictim checks who makes room for a workload of higher priority: none of that priority, within the budget of disruptions.
func (l *leader) expectVictim(w *workloadObject, message string) {
	if w.workload.Labels["of"] == "0" || l.placements[0].Spec.Preemption.Policy == "" {
		l.Fatalf("%s %s", w.Name, message)
	}
	l.preempted[w.Name] = true
	l.expectBudgetFor()
}

// expectBudgetFor checks that the budget allows for one more disruption.
func (l *leader) expectBudgetFor() {
	if l.fenced || l.rogue || l.budget.Unlimited() {
		return
	}
	l.disrupted = slices.DeleteFunc(append(l.disrupted, l.clock), func(at time.Time) bool { return l.clock.Sub(at) >= l.budget.Interval })
	if n := len(l.disrupted); n > l.budget.Minimum {
		l.Fatalf("%d disruptions within %s, %d are allowed", n, l.budget.Interval, l.budget.Minimum)
	}
}

// expectNothingLosesItsPlace checks that what was placed before a pass still is, unless it is gone or has to leave all its
// clusters.
func (l *leader) expectNothingLosesItsPlace(before map[string]v1alpha1.WorkloadDecision) {
	after := l.durable()
	for _, w := range l.view.workloads {
		d, placed := before[w.Name]
		if _, still := after[w.Name]; !placed || still || l.withdrawn[w.Name] || l.preempted[w.Name] || d.Workload.UID != w.UID {
			continue
		}
		for _, r := range l.view.clusters {
			on := slices.ContainsFunc(d.Clusters, func(c v1alpha1.ClusterDecision) bool { return c.Name == r.Name })
			if on && !l.mustLeave(w, r) {
				l.Fatalf("%s has lost its place on %s", w.Name, r.Name)
			}
		}
	}
}

// mustLeave says whether a workload has to leave a cluster as it is shown.
func (l *leader) mustLeave(w *workloadObject, shown *v1alpha1.ClusterRegistration) bool {
	owner := l.placements[slices.IndexFunc(l.placements, func(p *v1alpha1.WorkloadPlacement) bool {
		return p.Spec.WorkloadSelector.LabelSelector.MatchLabels["of"] == w.Labels["of"]
	})]
	current := l.registrations[shown.Name] // with what the controller has written
	lost := current != nil && conditions.GetReason(current, v1alpha1.ReadyCondition) == v1alpha1.ClusterLostReason
	violated := shown.Labels["tier"] == "low" && owner.Spec.Constraints[0].RequiredDuringExecution
	if lost || violated || len(shown.Spec.Taints) == 0 {
		return lost || violated
	}
	added, seen := l.tainted[shown.Name]
	if !seen {
		added = shown.Spec.Taints[0].TimeAdded.Time
	}
	tolerated := time.Duration(0)
	for _, t := range owner.Spec.Tolerations {
		tolerated = time.Duration(*t.TolerationSeconds) * time.Second
	}
	return l.clock.Sub(added) >= tolerated
}

// expectTheLedgerToBeTrue holds the ledger to the decisions. While some could not be written, it may hold more, for what was
// decided and what it replaces, but never less.
func (l *leader) expectTheLedgerToBeTrue(written bool) {
	load := l.load()
	for _, row := range l.workspace.engine.Snapshot("ws").Rows() {
		if held := row.Allocated.CPU + row.Reserved.CPU; held < load[row.Name] || written && held != load[row.Name] && len(l.workspace.nominations) == 0 {
			l.Fatalf("%s: %d in use and reserved in the ledger, %d by the decisions", row.Name, held, load[row.Name])
		}
	}
}

// settle brings everything to rest: all clusters report, all informers are up to date, and passes are made until they write
// nothing.
func (m *model) settle() {
	for _, name := range slices.Sorted(maps.Keys(m.sites)) {
		if m.registrations[name] == nil {
			m.register(name)
		}
		m.sites[name].unready = false
		m.edit(name, func(r *v1alpha1.ClusterRegistration) { r.Spec.Taints, r.Labels = nil, nil })
		m.report(name, -1)
	}
	clear(m.broken)
	m.claim(true)
	m.visible = true
	m.leader.show(allKinds)
	m.leader.pass()
	m.elapse(retryLast) // the claims settle
	m.endPlans()
	for n, before := 0, -1; before != m.version; n++ {
		if n == 200 {
			m.Fatalf("it does not come to rest: %v", m.durable())
		}
		before = m.version
		m.elapse(retryLast) // for whoever asks the server again
		m.leader.show(allKinds)
		m.leader.pass()
	}
	m.leader.show(allKinds)
	m.leader.pass()
	before := m.version
	m.leader.workspace.index.anew()
	if m.leader.pass(); m.version != before {
		m.Fatalf("a pass over all workloads writes what passes over those that were due have not")
	}
}

// expectNothingWaitsInVain checks that every workload has exactly one decision, unless it fits on no cluster.
func (m *model) expectNothingWaitsInVain() {
	durable, entries := m.durable(), 0
	for _, slice := range m.decisions {
		entries += len(slice.Decisions)
	}
	if entries != len(durable) {
		m.Fatalf("%d decisions on %d workloads", entries, len(durable))
	}
	for _, name := range slices.Sorted(maps.Keys(m.workloads)) {
		w := m.workloads[name]
		d, placed := durable[name]
		if placed && d.Workload.UID != w.UID {
			m.Fatalf("%s: the decision is on %s", w.UID, d.Workload.UID)
		}
		if placed {
			continue
		}
		for _, row := range m.leader.workspace.engine.Snapshot("ws").Rows() {
			if ready, _ := row.Condition(string(conditionsv1alpha1.ReadyCondition)); ready.Status == "True" && row.Free.CPU >= w.workload.On(row.UsableNodes).Requests.CPU &&
				(row.UsableNodes > 0 || !w.workload.PerNode) {
				m.Fatalf("%s waits for %d, %d are free on %s: %v", name, w.workload.Requests.CPU, row.Free.CPU, row.Name, m.leader.workspace.index.waiting)
			}
		}
	}
	for name := range durable {
		if m.workloads[name] == nil {
			m.Fatalf("%s has a decision and is gone", name)
		}
	}
}
