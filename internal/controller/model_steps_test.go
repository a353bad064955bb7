package controller

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// run makes a random history, brings it to rest, and checks the invariants of rest.
func (m *model) run() {
	name := rapid.SampledFrom([]string{"t", "u", "v", "w", "x", "y", "z"})
	at := rapid.SampledFrom(slices.Sorted(maps.Keys(m.sites)))
	step := func(do func()) func(*rapid.T) {
		return func(*rapid.T) {
			m.happens("steps")
			do()
			m.goOn()
		}
	}
	for range rapid.IntRange(2, 6).Draw(m.T, "workloads at first") {
		m.ask(name.Draw(m.T, "workload"), rapid.IntRange(0, 2).Draw(m.T, "placement"))
	}
	m.leader.show(allKinds)
	m.leader.pass()
	m.Repeat(map[string]func(*rapid.T){ // the first of the names are taken more often than others
		"a cluster is cordoned or not": step(func() {
			m.edit(at.Draw(m.T, "cluster"), func(r *v1alpha1.ClusterRegistration) { r.Spec.Unschedulable = !r.Spec.Unschedulable })
		}),
		"a cluster is drained or not":      step(func() { m.edit(at.Draw(m.T, "cluster"), m.drain) }),
		"a part of the fleet falls silent": step(m.fallSilent),
		"a placement is suspended or not": step(func() {
			m.place(rapid.IntRange(0, 2).Draw(m.T, "placement"), func(p *v1alpha1.WorkloadPlacement) { p.Spec.Suspend = !p.Spec.Suspend })
		}),
		"all is suspended or not":     step(m.suspend),
		"shadow policies change":      step(m.changeShadow),
		"a rollout begins or ends":    step(m.rollOut),
		"a workload comes or changes": step(func() { m.ask(name.Draw(m.T, "workload"), rapid.IntRange(0, 2).Draw(m.T, "placement")) }),
		"a workload is scaled":        step(m.scale),
		"a workload goes":             step(func() { delete(m.workloads, name.Draw(m.T, "workload")) }),
		"deliveries go on":            step(m.deliverSome),
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
			if allocatable := rapid.Int64Range(0, 24).Draw(m.T, "allocatable"); !m.rogue || allocatable > s.allocatable {
				s.allocatable = allocatable
			}
		}),
		"a cluster vanishes or returns": step(func() {
			name := at.Draw(m.T, "cluster")
			if m.registrations[name] != nil && rapid.Bool().Draw(m.T, "vanishes") {
				m.deregister(name)
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
		"the claim is withdrawn": step(func() {
			m.claim(false)
			m.leader.show(rapid.IntRange(0, allKinds).Draw(m.T, "kinds")) // whether it sees that before the workloads vanish, after, or both
			m.visible = false
			m.leader.show(rapid.IntRange(0, allKinds).Draw(m.T, "kinds"))
			m.leader.pass()
		}),
		"the claim is accepted":       step(func() { m.claim(true) }),
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
	m.heal()
	m.settle()
	m.expectDrained()
	for _, name := range slices.Sorted(maps.Keys(m.sites)) {
		m.edit(name, func(r *v1alpha1.ClusterRegistration) { r.Spec.Unschedulable, r.Spec.Drain = false, nil })
	}
	m.settle()
	m.expectNothingWaitsInVain()
	m.expectDelivered()
	m.leader.expectTheLedgerToBeTrue(true)
	if m.rogue {
		promised := map[string]int64{}
		for _, d := range m.durable() {
			for _, c := range d.Clusters {
				if c.ReservationExpiredAt == nil { // it takes a while to come to rest
					promised[c.Name] += amountOf(d, c)
				}
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

// goOn has the leader see nothing of what has happened, a part of it, or all, and go on. What keeps it from all it does lasts for some
// steps only.
func (m *model) goOn() {
	if !m.claimed && rapid.IntRange(0, 2).Draw(m.T, "claim is back") == 2 {
		m.claim(true)
		m.elapse(6 * time.Second)
	}
	if len(m.broken) > 0 && rapid.IntRange(0, 3).Draw(m.T, "slices are writable") == 3 {
		clear(m.broken)
	}
	for range rapid.IntRange(0, 2).Draw(m.T, "deliveries") {
		m.deliverSome()
	}
	switch rapid.IntRange(0, 4).Draw(m.T, "then") {
	case 0, 1:
		m.leader.show(allKinds)
		m.leader.pass()
	case 2:
		m.leader.show(rapid.IntRange(0, allKinds).Draw(m.T, "kinds"))
		m.leader.pass()
	}
}

// fallSilent has some clusters not be heard of until they are lost, if they are left that long. The others go on reporting.
func (m *model) fallSilent() {
	if m.rogue {
		return // nothing expires
	}
	all := slices.Sorted(maps.Keys(m.sites))
	silent := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, len(all), rapid.ID).Draw(m.T, "silent")
	for range rapid.IntRange(1, 6).Draw(m.T, "times") {
		m.elapse(11 * time.Minute)
		for _, name := range all {
			if !slices.Contains(silent, name) {
				m.report(name, -1)
			}
		}
		m.leader.show(allKinds)
		m.leader.pass()
	}
}

// drain begins to drain a cluster, with a deadline or without, or ends that.
func (m *model) drain(r *v1alpha1.ClusterRegistration) {
	if r.Spec.Drain != nil {
		r.Spec.Drain = nil
		return
	}
	r.Spec.Drain = &v1alpha1.ClusterDrain{}
	if within := rapid.SampledFrom([]time.Duration{0, 10 * time.Second, time.Minute}).Draw(m.T, "deadline"); within > 0 {
		r.Spec.Drain.Deadline = &metav1.Time{Time: m.clock.Add(within)}
	}
}

// suspend makes a PlacementConfig that suspends the workspace, has one suspend it or not any more, or deletes it.
func (m *model) suspend() {
	if m.config != nil && m.config.Spec.Suspend && rapid.Bool().Draw(m.T, "is deleted") {
		m.config = nil
		return
	}
	m.configure(func(spec *v1alpha1.PlacementConfigSpec) { spec.Suspend = !spec.Suspend })
}

// configure changes the PlacementConfig, which is made if there is none.
func (m *model) configure(change func(*v1alpha1.PlacementConfigSpec)) {
	if m.config == nil {
		m.config = &v1alpha1.PlacementConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.PlacementConfigName, UID: types.UID(m.next())}}
	}
	m.config = m.config.DeepCopy()
	change(&m.config.Spec)
	m.config.ResourceVersion = m.next()
}

// changeShadow has shadow policies come that place otherwise, fail for some workloads or do not compile, or go.
func (m *model) changeShadow() {
	module := rapid.SampledFrom([]string{
		"", "package placement.scoring\nweights := {\"capacity\": 1, \"location\": 90}", "package placement.scoring\nweights := {\"performance\": 90}",
		"package placement.scheduling\nminClusters := \"none\" if input.workload.name > \"w\"", "package placement.scheduling\np := {",
	}).Draw(m.T, "shadow policies")
	m.configMaps = nil
	if module != "" {
		m.configMaps = shadowMap(module)
	}
}

// rollOut begins a rollout of the shadow policies, or ends it.
func (m *model) rollOut() {
	m.configure(func(spec *v1alpha1.PlacementConfigSpec) {
		if spec.PolicyRollout != nil && rapid.Bool().Draw(m.T, "ends") {
			spec.PolicyRollout = nil
			return
		}
		spec.PolicyRollout = &v1alpha1.PolicyRollout{Steps: []v1alpha1.PolicyRolloutStep{
			{Percent: rapid.Int32Range(1, 60).Draw(m.T, "percent"), Pause: metav1.Duration{Duration: time.Second}}, {Percent: 90, Pause: metav1.Duration{Duration: 10 * time.Second}},
		}}
		if rapid.Bool().Draw(m.T, "limited") {
			spec.PolicyRollout.Limits = &v1alpha1.PolicyRolloutLimits{Moves: ptr.To[int32](0), Waiting: ptr.To(intstr.FromInt32(0))}
		}
	})
}

// rebalance makes a plan of any moves, suspends one or lets it go on, or deletes it.
func (m *model) rebalance() {
	name := rapid.SampledFrom([]string{"p1", "p2"}).Draw(m.T, "plan")
	p := m.plans[name]
	switch {
	case p == nil:
		var lines []string
		cluster := rapid.SampledFrom(slices.Sorted(maps.Keys(m.sites)))
		placed := m.durable()
		for range rapid.IntRange(1, 5).Draw(m.T, "moves") {
			of := rapid.SampledFrom(append(slices.Sorted(maps.Keys(placed)), "t", "u")).Draw(m.T, "of")
			from := cluster
			if d, found := placed[of]; found && rapid.Bool().Draw(m.T, "from where it is") {
				from = rapid.SampledFrom(clusterNames(d.Clusters))
			}
			lines = append(lines, fmt.Sprintf("%d %s %s %s", rapid.IntRange(1, 3).Draw(m.T, "wave"), of, from.Draw(m.T, "from"), cluster.Draw(m.T, "to")))
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
		m.reportAll()
		m.deliverAll()
		m.leader.show(allKinds)
		m.leader.pass()
	}
}

// repair shows the leader what a former one has written. The next leader could not know which of the two came first.
func (m *model) repair(l *leader) {
	if m.rogue {
		l.breaks = false
		m.leader.show(allKinds)
		m.leader.pass()
	}
}

// heal has all clusters be ready and as they should be, but for those that are cordoned or drained, and nothing keeps a leader from
// deciding.
func (m *model) heal() {
	for _, name := range slices.Sorted(maps.Keys(m.sites)) {
		if m.registrations[name] == nil {
			m.register(name)
		}
		m.sites[name].unready = false
		m.edit(name, func(r *v1alpha1.ClusterRegistration) { r.Spec.Taints, r.Labels = nil, nil })
	}
	for i := range m.placements {
		m.place(i, func(p *v1alpha1.WorkloadPlacement) { p.Spec.Suspend = false })
	}
	m.config, m.configMaps = nil, nil
	clear(m.broken)
	m.claim(true)
	m.visible, m.calm = true, true
}

// settle brings everything to rest: all clusters report, all informers are up to date, and passes are made until they write
// nothing.
func (m *model) settle() {
	m.reportAll()
	m.leader.show(allKinds)
	m.leader.pass()
	m.elapse(retryLast) // the claims settle
	m.endPlans()
	for n, rests := 0, false; !rests; n++ {
		if n == 200 {
			m.Fatalf("it does not come to rest: %v", m.durable())
		}
		works := maps.Clone(m.works)
		m.deliverAll()
		before := m.version
		m.elapse(retryLast) // for whoever asks the server again
		m.leader.show(allKinds)
		m.leader.pass()
		rests = before == m.version && maps.Equal(works, m.works) && !m.leaves() && (m.leader.outcome == nil || m.leader.outcome.After == 0)
	}
	m.leader.show(allKinds)
	m.leader.pass()
	before := m.version
	m.leader.workspace.index.anew()
	if m.leader.pass(); m.version != before {
		m.Fatalf("a pass over all workloads writes what passes over those that were due have not")
	}
}

// leaves reports whether a workload has clusters to leave, which it may take some time for.
func (m *model) leaves() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(m.durable())), func(d v1alpha1.WorkloadDecision) bool { return len(d.Leaving) > 0 })
}

func (m *model) reportAll() {
	for _, name := range slices.Sorted(maps.Keys(m.sites)) {
		m.report(name, -1)
	}
}
