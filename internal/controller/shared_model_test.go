package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/internal/decode"
)

// TestNothingIsPromisedTwiceAmongTeams drives random histories of a platform team and three others that share its clusters, while
// Deployments come, change and go in all four, quotas, bindings and what is in the set change, clusters grow, shrink and are cordoned,
// teams edit, delete and forge PlacementDecisions, passes over the workspaces are made in any order, the controller is killed between any
// two writes of decisions, and another one goes on. In some histories a write of the former one arrives late.
//
// Invariants:
//   - no write promises more on a cluster than it has, nor more to a team in the set than its quota, but for what was promised before,
//   - what runs stays, whatever becomes of grants, bindings and the set,
//   - at rest what could be placed is, the ledger holds what is kept with the clusters, and teams read just that,
//   - when all Deployments are gone, all capacity is free, and nothing is kept.
func TestNothingIsPromisedTwiceAmongTeams(t *testing.T) {
	happened, histories := map[string]int{}, 0
	rapid.Check(t, func(t *rapid.T) {
		m := newSharedModel(t)
		m.run()
		histories++
		for what, n := range m.happened {
			happened[what] += n
		}
	})
	for _, what := range slices.Sorted(maps.Keys(happened)) {
		t.Logf("%s: %d, %.2f in each of %d histories", what, happened[what], float64(happened[what])/float64(histories), histories)
	}
	for _, what := range []string{"decisions", "kills", "what is kept is more than the quota", "waits for want of a quota alone"} {
		if happened[what] == 0 && histories >= 100 {
			t.Errorf("%s: it never happened in %d histories", what, histories)
		}
	}
}

// sharedModel is an estate as it truly is.
type sharedModel struct {
	*estate
	t *rapid.T
	// quotas are in millicores, of the teams that are granted the set, and bound the teams that bind to it. What the last pass over the
	// platform's workspace has taken up is what counts: those quotas, what clusters had, and which were in the set.
	quotas       map[string]int64
	taken, known map[string]int64
	inSet        map[string]bool
	bound        map[string]bool
	clusters     map[string]*sharedSite
	// asks are what the Deployments ask for, by team and name.
	asks map[string]map[string]int64
	// watched are the workspaces whose writes are counted. killAfter is how many are made before the controller is killed; dead says that
	// it was. late is a write that was on its way then; tardy says that in this history it arrives.
	watched     map[*workspace]bool
	killAfter   int
	dead, tardy bool
	late        func() error
	happened    map[string]int
	// begun is when the history did.
	begun time.Time
}

// sharedSite is a cluster in millicores.
type sharedSite struct {
	allocatable     int64
	inSet, cordoned bool
}

// estateTeams are the platform team and the others.
var estateTeams = []string{"platform", "red", "green", "blue"}

func newSharedModel(t *rapid.T) *sharedModel {
	m := &sharedModel{
		t: t, quotas: map[string]int64{"red": 4000, "green": 3000, "blue": 2000}, bound: map[string]bool{}, clusters: map[string]*sharedSite{},
		asks: map[string]map[string]int64{}, watched: map[*workspace]bool{}, killAfter: -1, tardy: rapid.IntRange(0, 3).Draw(t, "tardy") == 3, happened: map[string]int{},
	}
	m.estate = newEstate(t, nil, nil)
	m.begun = m.now
	for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "clusters")] {
		m.clusters[name] = &sharedSite{allocatable: rapid.Int64Range(4, 16).Draw(t, name) * 250, inSet: true}
		m.register(name)
	}
	m.grant()
	for _, team := range estateTeams {
		m.asks[team] = map[string]int64{}
		m.put(team, `{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default}, spec: {workloadSelector: {}, numberOfClusters: 1}}`)
		if team != "platform" {
			m.bind(team)
		}
	}
	return m
}

func (m *sharedModel) happens(what string) { m.happened[what]++ }

func (m *sharedModel) register(name string) {
	c := m.clusters[name]
	m.put("platform", fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: %s, labels: {in: "%t"}},
		spec: {location: eu, unschedulable: %t}, status: {allocatable: {cpu: %dm}, conditions: [{type: Ready, status: "True"}]}}`, name, c.inSet, c.cordoned, c.allocatable))
}

func (m *sharedModel) grant() {
	grants := ""
	for _, team := range slices.Sorted(maps.Keys(m.quotas)) {
		grants += fmt.Sprintf(`{name: %s, workspace: {cluster: %s}, quota: {cpu: %dm}}, `, team, team, m.quotas[team])
	}
	m.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: shared}, spec: {clusterSelector: {labelSelector: {matchLabels: {in: "true"}}}, grants: [`+grants+`]}}`)
}

func (m *sharedModel) bind(team string) {
	m.bound[team] = true
	m.put(team, `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSetBinding, metadata: {name: shared}, spec: {clusterSet: shared, workspace: {cluster: platform}}}`)
}

func (m *sharedModel) remove(team, apiVersion, kind, namespace, name string) {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	if err := m.in(team).Delete(u); err != nil {
		m.t.Fatal(err)
	}
}

func (m *sharedModel) deploy(team, name string, millis int64) {
	m.asks[team][name] = millis
	m.put(team, fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s, namespace: default},
		spec: {template: {spec: {containers: [{name: main, resources: {requests: {cpu: %dm}}}]}}}}`, name, millis))
}

func (m *sharedModel) undeploy(team, name string) {
	delete(m.asks[team], name)
	m.delete(team, name)
}

// run makes a random history, brings it to rest, and checks the invariants of rest.
func (m *sharedModel) run() {
	team, cluster := rapid.SampledFrom(estateTeams), rapid.SampledFrom(slices.Sorted(maps.Keys(m.clusters)))
	name := rapid.SampledFrom([]string{"u", "v", "w", "x"})
	millis := rapid.Map(rapid.Int64Range(1, 8), func(n int64) int64 { return n * 250 })
	step := func(do func()) func(*rapid.T) {
		return func(*rapid.T) {
			do()
			for range rapid.IntRange(0, 4).Draw(m.t, "passes") {
				m.passSomewhere()
			}
		}
	}
	for range rapid.IntRange(3, 8).Draw(m.t, "at first") {
		m.deploy(team.Draw(m.t, "team"), name.Draw(m.t, "name"), millis.Draw(m.t, "millis"))
	}
	m.t.Repeat(map[string]func(*rapid.T){
		"a Deployment comes or changes": step(func() { m.deploy(team.Draw(m.t, "team"), name.Draw(m.t, "name"), millis.Draw(m.t, "millis")) }),
		"a Deployment goes": step(func() {
			team, name := team.Draw(m.t, "team"), name.Draw(m.t, "name")
			if _, there := m.asks[team][name]; there {
				m.undeploy(team, name)
			}
		}),
		"a quota changes": step(func() {
			team := rapid.SampledFrom(estateTeams[1:]).Draw(m.t, "team")
			if m.quotas[team] = millis.Draw(m.t, "quota"); rapid.IntRange(0, 3).Draw(m.t, "is withdrawn") == 3 {
				delete(m.quotas, team)
			}
			m.grant()
		}),
		"a team binds or does not": step(func() {
			team := rapid.SampledFrom(estateTeams[1:]).Draw(m.t, "team")
			if !m.bound[team] {
				m.bind(team)
				return
			}
			delete(m.bound, team)
			m.remove(team, "tmc.kcp.io/v1alpha1", "ClusterSetBinding", "", "shared")
		}),
		"a cluster is in the set or not": step(func() {
			name := cluster.Draw(m.t, "cluster")
			m.clusters[name].inSet = !m.clusters[name].inSet
			m.register(name)
		}),
		"a cluster is cordoned or not": step(func() {
			name := cluster.Draw(m.t, "cluster")
			m.clusters[name].cordoned = !m.clusters[name].cordoned
			m.register(name)
		}),
		"a cluster grows or shrinks": step(func() {
			name := cluster.Draw(m.t, "cluster")
			m.clusters[name].allocatable = rapid.Int64Range(2, 16).Draw(m.t, "allocatable") * 250
			m.register(name)
		}),
		"what teams read is edited": step(func() { m.spoil(rapid.SampledFrom(estateTeams[1:]).Draw(m.t, "team")) }),
		"time goes by": step(func() {
			m.elapse(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(m.t, "time"))
		}),
		"the controller is killed": step(func() {
			m.killAfter = rapid.IntRange(0, 3).Draw(m.t, "writes")
			for range rapid.IntRange(1, 4).Draw(m.t, "passes") {
				m.passSomewhere()
			}
			m.killAfter = -1
			m.takeOver()
		}),
		"a late write arrives": step(func() {
			if m.late != nil {
				m.happens("late writes")
				_ = m.late() // refused where somebody has written meanwhile
				m.late = nil
			}
		}),
	})
	m.late = nil
	m.rest()
	m.expectRest()
	for _, team := range estateTeams {
		for _, name := range slices.Sorted(maps.Keys(m.asks[team])) {
			m.undeploy(team, name)
		}
		if m.quotas[team] = 4000; team != "platform" && !m.bound[team] {
			m.bind(team)
		}
	}
	delete(m.quotas, "platform")
	m.grant()
	m.rest()
	for _, team := range estateTeams {
		if left := m.copies(team); len(left) > 0 {
			m.t.Fatalf("%s still has %v", team, left)
		}
	}
	for _, row := range m.platform.workspace.engine.Snapshot("platform").Rows() {
		if row.Free.CPU != row.Allocatable.CPU {
			m.t.Fatalf("%s: %d of %d free at the end", row.Name, row.Free.CPU, row.Allocatable.CPU)
		}
	}
}

// spoil does something to PlacementDecisions in the workspace of a team, or makes one.
func (m *sharedModel) spoil(team string) {
	all := m.copies(team)
	if len(all) == 0 || rapid.IntRange(0, 3).Draw(m.t, "is forged") == 3 {
		m.put(team, fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: PlacementDecision, metadata: {name: mine, namespace: default}, placementName: p, count: 1,
			decisions: [{workload: {apiVersion: apps/v1, kind: Deployment, name: x, uid: u}, clusters: [{name: a, replicas: 1}], reserved: {cpu: "4"}, decidedAt: %q}]}`, m.now.Format(time.RFC3339)))
		return
	}
	c := rapid.SampledFrom(all).Draw(m.t, "copy").DeepCopy()
	switch rapid.IntRange(0, 2).Draw(m.t, "how") {
	case 0:
		m.remove(team, c.GetAPIVersion(), c.GetKind(), c.GetNamespace(), c.GetName())
		return
	case 1:
		delete(c.Object, "decisions")
	case 2:
		c.SetAnnotations(nil)
	}
	if err := m.in(team).Put(c); err != nil {
		m.t.Fatal(err)
	}
}

// elapse lets time go by.
func (m *sharedModel) elapse(d time.Duration) {
	m.now = m.now.Add(d)
	for _, team := range estateTeams {
		m.in(team).due = true
	}
}

// passSomewhere makes a pass over a workspace where one is due.
func (m *sharedModel) passSomewhere() {
	if due := m.platform.Due(); len(due) > 0 && !m.dead {
		m.pass(due[rapid.IntRange(0, len(due)-1).Draw(m.t, "pass")])
	}
}

// pass makes a pass. Nothing that runs loses its place.
func (m *sharedModel) pass(l *Local) {
	if m.watch(l); l == m.platform {
		m.taken, m.known, m.inSet = maps.Clone(m.quotas), map[string]int64{}, map[string]bool{}
		for name, c := range m.clusters {
			m.known[name], m.inSet[name] = c.allocatable, c.inSet
		}
	}
	before := m.kept()
	again, _, err := l.Pass(context.Background())
	m.watch(l)
	if l.due = l.due || again || err != nil; m.dead || m.tardy {
		return
	}
	after := m.kept()
	for key, d := range before {
		if _, there := m.asks[key.team][key.name]; there && after[key] == nil && m.uid(key) == d.Workload.UID {
			m.t.Fatalf("%s of %s has lost its place on %v", key.name, key.team, clusterNames(d.Clusters))
		}
	}
}

func (m *sharedModel) uid(key keptKey) types.UID {
	for _, u := range m.in(key.team).Objects() {
		if u.GetKind() == "Deployment" && u.GetName() == key.name {
			return u.GetUID()
		}
	}
	return ""
}

// takeOver has another controller go on where one was killed.
func (m *sharedModel) takeOver() {
	if !m.dead {
		return
	}
	m.happens("kills")
	m.dead = false
	if err := m.platform.Restart(); err != nil {
		m.t.Fatal(err)
	}
}

// watch has the writes of decisions in a workspace be made by attempt.
func (m *sharedModel) watch(l *Local) {
	w := l.workspace
	if m.watched[w] {
		return
	}
	m.watched[w] = true
	write, remove := w.own.writeDecision, w.own.deleteDecision
	watched := w.own
	watched.writeDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) (written *v1alpha1.PlacementDecision, err error) {
		err = m.attempt(func() (err error) {
			written, err = write(ctx, d)
			return err
		})
		return written, err
	}
	watched.deleteDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) error {
		return m.attempt(func() error { return remove(ctx, d) })
	}
	w.own.writeDecision, w.own.deleteDecision = watched.writeDecision, watched.deleteDecision
	w.fleet.writeDecision, w.fleet.deleteDecision = watched.writeDecision, watched.deleteDecision
	if w.host == nil {
		w.writeDecision, w.deleteDecision = watched.writeDecision, watched.deleteDecision
	}
}

// attempt makes a write, unless the controller is dead, and checks that nothing is promised that there is not.
func (m *sharedModel) attempt(write func() error) error {
	if m.killAfter == 0 && !m.dead {
		if m.dead = true; m.tardy {
			m.late = write
		}
	}
	m.killAfter--
	if m.dead {
		return errKilled
	}
	onBefore, toBefore := m.promised()
	if err := write(); err != nil {
		return err
	}
	m.happens("decisions")
	if m.tardy {
		return nil
	}
	on, to := m.promised()
	for name, millis := range on {
		if has := m.known[name]; millis > has && millis > onBefore[name] {
			m.t.Fatalf("%s: %d promised of %d, was %d", name, millis, has, onBefore[name])
		}
	}
	for _, team := range estateTeams[1:] {
		if quota := m.taken[team]; to[team] > quota && to[team] > toBefore[team] {
			m.t.Fatalf("%d promised to %s, whose quota is %d, was %d", to[team], team, quota, toBefore[team])
		} else if to[team] > quota {
			m.happens("what is kept is more than the quota")
		}
	}
	return nil
}

// keptKey is a Deployment of a team.
type keptKey struct{ team, name string }

// kept are the decisions that are kept with the clusters; of two on one Deployment the later one.
func (m *sharedModel) kept() map[keptKey]*v1alpha1.WorkloadDecision {
	all := map[keptKey]*v1alpha1.WorkloadDecision{}
	for _, slice := range as[*v1alpha1.PlacementDecision](m.platform.show(decisionResource), map[types.UID]decode.Problems{}) {
		team := "platform"
		if slice.Source != nil {
			team = slice.Source.Workspace
		}
		for i := range slice.Decisions {
			d := &slice.Decisions[i]
			if other := all[keptKey{team, d.Workload.Name}]; other == nil || !d.DecidedAt.Before(&other.DecidedAt) {
				all[keptKey{team, d.Workload.Name}] = d
			}
		}
	}
	return all
}

// promised is what these promise, by cluster, and by team on the clusters of the set. One that is in two slices counts once on each
// cluster.
func (m *sharedModel) promised() (on, to map[string]int64) {
	type share struct {
		keptKey
		uid     types.UID
		cluster string
	}
	shares := map[share]int64{}
	for _, slice := range as[*v1alpha1.PlacementDecision](m.platform.show(decisionResource), map[types.UID]decode.Problems{}) {
		team := "platform"
		if slice.Source != nil {
			team = slice.Source.Workspace
		}
		for _, d := range slice.Decisions {
			for _, c := range d.Clusters {
				s := share{keptKey{team, d.Workload.Name}, d.Workload.UID, c.Name}
				shares[s] = max(shares[s], amountOf(d, c))
			}
		}
	}
	on, to = map[string]int64{}, map[string]int64{}
	for s, millis := range shares {
		if on[s.cluster] += millis; m.inSet[s.cluster] {
			to[s.team] += millis
		}
	}
	return on, to
}

// rest has passes be made, and time go by, until nothing is written any more.
func (m *sharedModel) rest() {
	for n, before := 0, -1; n < 5 || before != m.platform.version; n++ {
		if n == 100 {
			m.t.Fatal("it does not come to rest")
		}
		before = m.platform.version
		m.elapse(time.Minute)
		for passes := 0; ; passes++ {
			due := m.platform.Due()
			if len(due) == 0 {
				break
			}
			if passes == 1000 {
				m.t.Fatal("passes go on and on")
			}
			m.pass(due[0])
		}
	}
}

// othersWait reports whether other workloads wait that may come first: those of other teams, and of its own one for which a cluster may
// gather room by now.
func (m *sharedModel) othersWait(team, deployment string, kept map[keptKey]*v1alpha1.WorkloadDecision) bool {
	for _, other := range estateTeams {
		if other == team && m.now.Sub(m.begun) < engine.DefaultGatherAfter || other != "platform" && (!m.bound[other] || m.quotas[other] == 0) {
			continue
		}
		for name := range m.asks[other] {
			if kept[keptKey{other, name}] == nil && (other != team || name != deployment) {
				return true
			}
		}
	}
	return false
}

// expectRest checks what is so at rest.
func (m *sharedModel) expectRest() {
	on, to := m.promised()
	kept := m.kept()
	for name, c := range m.clusters {
		if row := m.platform.workspace.engine.Snapshot("platform").Row(name); row.Reserved.CPU != on[name] {
			m.t.Fatalf("%s: %d reserved in the ledger, %d by the decisions", name, row.Reserved.CPU, on[name])
		}
		for _, team := range estateTeams {
			for deployment, asks := range m.asks[team] {
				left := m.quotas[team] - to[team]
				if team == "platform" {
					left = asks
				}
				placed, fits := kept[keptKey{team, deployment}] != nil, !c.cordoned && c.allocatable-on[name] >= asks
				switch {
				case placed || !fits || team != "platform" && (!m.bound[team] || !c.inSet):
				case left >= asks && m.othersWait(team, deployment, kept):
					m.happens("may wait for its turn")
				case left >= asks:
					m.t.Fatalf("%s of %s waits for %d, %d are free on %s, and %d are left of its quota", deployment, team, asks, c.allocatable-on[name], name, left)
				default:
					m.happens("waits for want of a quota alone")
				}
			}
		}
	}
	for _, team := range estateTeams[1:] {
		if _, granted := m.quotas[team]; !granted || !m.bound[team] {
			continue // one that has deleted its copies is not known to have been here, and what is kept for it stays until it is back
		}
		reads := m.where(team)
		for name, d := range kept {
			if name.team == team && reads[name.name] != clusterNames(d.Clusters)[0] {
				m.t.Fatalf("%s of %s is on %v, and it reads %q", name.name, team, clusterNames(d.Clusters), reads[name.name])
			}
		}
		for name := range reads {
			if kept[keptKey{team, name}] == nil {
				m.t.Fatalf("%s reads that %s is on %s, and nothing is kept", team, name, reads[name])
			}
		}
	}
}
