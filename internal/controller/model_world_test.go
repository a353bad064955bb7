package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/internal/delivery"
	"github.com/kcp-placement/placement/internal/outcome"
)

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
	config        *v1alpha1.PlacementConfig // nil where there is none
	configMaps    []*corev1.ConfigMap       // the shadow policies

	// calm says that nothing changes any more by itself.
	calm bool

	// delivers says that what is decided is delivered, by works; sources are workloads as they are delivered.
	delivers bool
	works    map[types.NamespacedName]*v1alpha1.Work
	sources  map[*delivery.Source]*workloadObject

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
	// gained are moves for a gain that are durable.
	gained []gained
	// failedOver is when workloads have left clusters that were lost.
	failedOver []time.Time

	// slicing bounds slices, so that a few decisions fill several.
	slicing sliceLimits

	// happened counts what has happened, by name.
	happened map[string]int
}

// gained is a move for a gain.
type gained struct {
	uid       types.UID
	placement string
	at        time.Time
}

// site is a physical cluster: what it has, what the pods of each workload request there, and all of its reports.
type site struct {
	allocatable int64
	usableNodes int32
	// unready says that it reports Ready False.
	unready bool
	pods    map[types.UID]int64
	// runs are the workloads that its agent has been told to run.
	runs    map[types.UID]ran
	reports []v1alpha1.ClusterUsage
}

func newModel(t *rapid.T, policies *policy.Compiler) *model {
	m := &model{
		T: t, policies: policies, clock: time.Unix(1_000_000, 0), happened: map[string]int{},
		decisions: map[types.NamespacedName]*v1alpha1.PlacementDecision{}, registrations: map[string]*v1alpha1.ClusterRegistration{},
		usages: map[string]*v1alpha1.ClusterUsage{}, leases: map[string]heartbeat{},
		workloads: map[string]*workloadObject{}, plans: map[string]*v1alpha1.RebalancePlan{}, sites: map[string]*site{}, broken: map[string]brokenWrite{},
		works: map[types.NamespacedName]*v1alpha1.Work{}, sources: map[*delivery.Source]*workloadObject{},
		slicing: sliceLimits{decisions: rapid.IntRange(1, 4).Draw(t, "decisions"), bytes: 1 << 20, youngBytes: 1 << 20},
	}
	m.slicing.youngDecisions = rapid.IntRange(1, m.slicing.decisions).Draw(t, "young")
	m.rogue = rapid.IntRange(0, 3).Draw(t, "rogue") == 3
	m.delivers = !m.rogue && rapid.Bool().Draw(t, "delivers")
	room := rapid.SampledFrom([]int64{8, 24}).Draw(t, "room")
	for _, name := range []string{"a", "b", "c", "d", "e"}[:rapid.IntRange(2, 5).Draw(t, "clusters")] {
		m.sites[name] = &site{allocatable: rapid.Int64Range(room/4, room).Draw(t, name), pods: map[types.UID]int64{}, runs: map[types.UID]ran{}}
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
		if rapid.IntRange(0, 3).Draw(t, "chosen one by one") != 3 {
			chooseTogether(&spec, i)
		}
		spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"of": fmt.Sprint(i)}}
		spec.Constraints = []v1alpha1.Constraint{{
			Name: "tier", Expression: `cluster.labels.?tier.orValue("") != "low"`, RequiredDuringExecution: rapid.Bool().Draw(t, "required during execution"),
		}}
		if i == 1 && rapid.IntRange(0, 2).Draw(t, "at least two") == 2 {
			spec.MinClusters = 2
		}
		if i == 0 && rapid.IntRange(0, 3).Draw(t, "preempts") != 3 {
			spec.Preemption.Policy = corev1.PreemptLowerPriority
		}
		if i > 0 && rapid.Bool().Draw(t, "moves for a gain") {
			spec.Stability = &v1alpha1.Stability{
				Moves: v1alpha1.MovesForGain, MinGain: rapid.Int32Range(1, 10).Draw(t, "min gain"),
				After: &metav1.Duration{Duration: 6 * time.Second}, Cooldown: &metav1.Duration{Duration: cooldown},
				Budget: v1alpha1.MoveBudget{Moves: rapid.Int32Range(1, 2).Draw(t, "moves"), Interval: &metav1.Duration{Duration: moveInterval}},
			}
			if rapid.Bool().Draw(t, "only in windows") {
				spec.Stability.Windows = []v1alpha1.MoveWindow{{Schedule: "*/10 * * * *", Duration: metav1.Duration{Duration: 5 * time.Minute}}}
			}
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

// cooldown of workloads that move for a gain, and moveInterval of the budget of such moves.
const cooldown, moveInterval = 2 * time.Minute, 10 * time.Minute

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

// happens counts something that happens.
func (m *model) happens(what string) { m.happened[what]++ }

func (m *model) next() string {
	m.version++
	return fmt.Sprint(m.version)
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
	m.source(w)
	m.workloads[name] = w
}

// scale gives a workload another number of replicas.
func (m *model) scale() {
	if len(m.workloads) == 0 {
		return
	}
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.workloads))).Draw(m.T, "workload")
	before := m.workloads[name]
	if !before.workload.Divisible {
		return
	}
	w, of := *before, *before.workload
	w.workload, of.Requests.CPU = &of, of.Requests.CPU/max(1, of.Replicas)
	of.Replicas = rapid.Int64Range(0, 5).Draw(m.T, "replicas")
	of.Requests.CPU *= of.Replicas
	m.source(&w)
	m.workloads[name] = &w
}

// startPods starts pods of a placed workload: all, some, or one too many.
func (m *model) startPods() {
	durable := m.durable()
	if len(durable) == 0 || m.delivers { // then agents start them
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

// durable returns the stored decisions by workload. Of two on one workload the later one counts, as it does for the next leader.
func (m *model) durable() map[string]v1alpha1.WorkloadDecision {
	all, in := map[string]v1alpha1.WorkloadDecision{}, map[string]*v1alpha1.PlacementDecision{}
	for _, slice := range sorted(m.decisions) {
		for _, d := range slice.Decisions {
			other, found := all[d.Workload.Name]
			if found && (d.DecidedAt.Before(&other.DecidedAt) ||
				d.DecidedAt.Equal(&other.DecidedAt) && outcome.Newer(in[d.Workload.Name].ResourceVersion, slice.ResourceVersion)) {
				continue
			}
			all[d.Workload.Name], in[d.Workload.Name] = d, slice
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

// place changes a placement as its author does.
func (m *model) place(i int, change func(*v1alpha1.WorkloadPlacement)) {
	edited := m.placements[i].DeepCopy()
	change(edited)
	edited.Generation, edited.ResourceVersion = edited.Generation+1, m.next()
	m.placements[i] = edited
}

func (m *model) register(name string) {
	m.uids++
	m.registrations[name] = &v1alpha1.ClusterRegistration{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(fmt.Sprintf("%s-%d", name, m.uids))}}
	m.report(name, -1)
}

// deregister deletes a registration, and what goes with it.
func (m *model) deregister(name string) {
	delete(m.registrations, name)
	maps.DeleteFunc(m.works, func(work types.NamespacedName, _ *v1alpha1.Work) bool {
		return work.Namespace == v1alpha1.WorkNamespace(name)
	})
	if m.delivers {
		clear(m.sites[name].runs)
		clear(m.sites[name].pods)
	}
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
	if !m.calm {
		s.usableNodes = rapid.SampledFrom([]int32{1, 1, 2, 3, 0}).Draw(m.T, "usable nodes")
	}
	reported.Status.Nodes = &v1alpha1.NodeCounts{Usable: s.usableNodes}
	ready := conditions.TrueCondition(v1alpha1.ReadyCondition)
	if s.unready {
		ready = conditions.FalseCondition(v1alpha1.ReadyCondition, "Upgrading", conditionsv1alpha1.ConditionSeverityError, "")
	}
	conditions.Set(reported, ready)
	if m.delivers {
		reported.Status.AgentDelivery = &v1alpha1.AgentDelivery{}
	}
	reported.ResourceVersion = m.next()
	m.registrations[name] = reported
	m.leases[name] = heartbeat{renewed: m.clock, holder: usage.ClusterUID, usage: v1alpha1.UsageVersion(usage)}
}

func millis(list corev1.ResourceList) int64 {
	cpu := list["cpu"]
	return cpu.MilliValue()
}
