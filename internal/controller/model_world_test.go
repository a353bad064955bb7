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

	// happened counts what has happened, by name.
	happened map[string]int
}

// site is a physical cluster: what it has, what the pods of each workload request there, and all of its reports.
type site struct {
	allocatable int64
	// unready says that it reports Ready False.
	unready bool
	pods    map[types.UID]int64
	reports []v1alpha1.ClusterUsage
}

func newModel(t *rapid.T, policies *policy.Compiler) *model {
	m := &model{
		T: t, policies: policies, clock: time.Unix(1_000_000, 0), happened: map[string]int{},
		decisions: map[types.NamespacedName]*v1alpha1.PlacementDecision{}, registrations: map[string]*v1alpha1.ClusterRegistration{},
		usages: map[string]*v1alpha1.ClusterUsage{}, leases: map[string]heartbeat{},
		workloads: map[string]*workloadObject{}, plans: map[string]*v1alpha1.RebalancePlan{}, sites: map[string]*site{}, broken: map[string]brokenWrite{},
		slicing: sliceLimits{decisions: rapid.IntRange(1, 4).Draw(t, "decisions"), bytes: 1 << 20, youngBytes: 1 << 20},
	}
	m.slicing.youngDecisions = rapid.IntRange(1, m.slicing.decisions).Draw(t, "young")
	m.rogue = rapid.IntRange(0, 3).Draw(t, "rogue") == 0
	for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(2, 3).Draw(t, "clusters")] {
		m.sites[name] = &site{allocatable: rapid.Int64Range(6, 24).Draw(t, name), pods: map[types.UID]int64{}}
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

func millis(list corev1.ResourceList) int64 {
	cpu := list["cpu"]
	return cpu.MilliValue()
}
