package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/internal/decode"
)

// TestNothingIsPromisedTwiceAmongTeams drives random histories of a platform team and three others that share its clusters, while
// Deployments come, change and go in all four, quotas, guarantees, bindings and what is in the set change, clusters grow, shrink and are
// cordoned, teams edit, delete and forge PlacementDecisions, workspaces of teams go away and come back, passes over the workspaces are made
// in any order, in some histories one in the middle of another, after any decision and before any write, writes fail, refused or with an
// unknown outcome, the controller is killed between any two writes, another one leads from there on or from the middle of a pass, and
// former ones go on deciding. In some histories a former one writes late, or past its fence.
//
// Invariants:
//   - no write promises more on a cluster than it has, nor more to a team in the set than its quota, but for what was promised before,
//   - what runs stays, whatever becomes of grants, bindings and the set, unless its team has borrowed it and allows that it is reclaimed,
//   - at rest what could be placed is, by what others have borrowed as well, the ledger holds what is kept with the clusters, teams read
//     just that, and nothing is kept for those that are gone,
//   - when all Deployments are gone, all capacity is free, and nothing is kept.
func TestNothingIsPromisedTwiceAmongTeams(t *testing.T) {
	makeHistories(t, 200, []string{
		"decisions", "kills", "successions in the middle of a pass", "passes of a former leader", "writes past a fence", "late writes", "failed writes",
		"passes in the middle of another", "reclaimed", "workspaces that go away", "workspaces that come back with what they had",
		"what is kept is more than the quota", "waits for want of a quota alone",
	}, func(t *rapid.T) map[string]int {
		m := newSharedModel(t)
		m.run()
		return m.happened
	})
}

// sharedModel is an estate as it truly is.
type sharedModel struct {
	*estate
	t *rapid.T
	// quotas are in millicores, of the teams that are granted the set, guaranteed the part of them that they have first call on, and bound
	// the teams that bind to it. reclaimable are those whose placements let go of what they have borrowed, wasReclaimable those whose did.
	quotas, guaranteed                 map[string]int64
	bound, reclaimable, wasReclaimable map[string]bool
	clusters                           map[string]*sharedSite
	// known is what the last pass over the platform's workspace has taken up: that counts.
	known *sharedTerms
	// asks are what the Deployments ask for, by team and name.
	asks map[string]map[string]int64
	// lead is the controller that holds the lease, serving the one whose passes are made, former are those that go on.
	lead, serving *tenure
	former        []*tenure
	// frames are the passes that are being made, each in the middle of the one before. nested says that there are such.
	frames []*frame
	nested bool
	// watched are the workspaces whose writes are counted. killAfter is how many are made before the controller loses its lease, and
	// succeeded says that another one leads at once. failAt is how many are made before one fails. late is a write that was on its way when
	// the lease was lost; tardy says that in this history it arrives, or that former leaders write past their fence.
	watched   map[*workspace]bool
	killAfter int
	succeeded bool
	failAt    int
	tardy     bool
	late      func() error
	happened  map[string]int
	// begun is when the history did.
	begun time.Time
}

// sharedTerms are what clusters had, which were in the set, and what teams were granted.
type sharedTerms struct {
	allocatable        map[string]int64
	inSet              map[string]bool
	quotas, guaranteed map[string]int64
}

// frame is a pass that is being made: by which terms, and the most that clusters have had since it began, since what is decided in it may
// fit no more when it is written.
type frame struct {
	local *Local
	*sharedTerms
	most map[string]int64
}

// tenure is a controller with all that it knows. breaks says that it writes once past its fence.
type tenure struct {
	engine         *engine.Engine
	metrics        *metrics
	fleets         *fleets
	workspaces     map[*Local]*workspace
	fenced, breaks bool
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
		t: t, quotas: map[string]int64{"red": 4000, "green": 3000, "blue": 2000}, guaranteed: map[string]int64{}, bound: map[string]bool{}, reclaimable: map[string]bool{}, wasReclaimable: map[string]bool{},
		clusters: map[string]*sharedSite{}, asks: map[string]map[string]int64{}, watched: map[*workspace]bool{}, killAfter: -1, failAt: -1,
		tardy: rapid.IntRange(0, 2).Draw(t, "tardy") == 2, nested: rapid.Bool().Draw(t, "nested"), happened: map[string]int{},
	}
	m.known = &sharedTerms{map[string]int64{}, map[string]bool{}, map[string]int64{}, map[string]int64{}}
	m.estate = newEstate(t, nil, nil)
	m.away = map[string]*Local{}
	m.begun = m.now
	for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "clusters")] {
		m.clusters[name] = &sharedSite{allocatable: rapid.Int64Range(4, 16).Draw(t, name) * 250, inSet: true}
		m.register(name)
	}
	for _, team := range estateTeams {
		m.asks[team] = map[string]int64{}
		m.place(team, team != "platform" && rapid.IntRange(0, 2).Draw(t, "reclaimable") > 0)
		if team != "platform" {
			m.guaranteed[team] = rapid.SampledFrom([]int64{0, 1000, 2000, 4000}).Draw(t, "guaranteed")
			m.bind(team)
		}
	}
	m.grant()
	m.lead = m.tenure()
	m.serving = m.lead
	return m
}

// tenure is the controller that the workspaces are decided by.
func (m *sharedModel) tenure() *tenure {
	s := m.platform.localServer
	now := &tenure{engine: s.engine, metrics: s.metrics, fleets: s.fleets, workspaces: map[*Local]*workspace{}}
	for _, team := range estateTeams {
		now.workspaces[m.in(team)] = m.in(team).workspace
	}
	return now
}

// serve has a controller decide the workspaces.
func (m *sharedModel) serve(by *tenure) {
	now := m.tenure()
	m.serving.workspaces = now.workspaces
	s := m.platform.localServer
	s.engine, s.metrics, s.fleets, m.serving = by.engine, by.metrics, by.fleets, by
	for l, w := range by.workspaces {
		l.workspace = w
	}
}

func (m *sharedModel) happens(what string) { m.happened[what]++ }

func (m *sharedModel) register(name string) {
	c := m.clusters[name]
	m.put("platform", fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: %s, labels: {in: "%t"}},
		spec: {location: eu, unschedulable: %t}, status: {allocatable: {cpu: %dm}, conditions: [{type: Ready, status: "True"}]}}`, name, c.inSet, c.cordoned, c.allocatable))
}

func (m *sharedModel) grant() {
	grants := ""
	for team := range m.guaranteed {
		m.guaranteed[team] = min(m.guaranteed[team], m.quotas[team]) // 0 without a grant
	}
	for _, team := range slices.Sorted(maps.Keys(m.quotas)) {
		grants += fmt.Sprintf(`{name: %s, workspace: {cluster: %s}, quota: {cpu: %dm}, guaranteed: {cpu: %dm}}, `, team, team, m.quotas[team], m.guaranteed[team])
	}
	m.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: shared}, spec: {clusterSelector: {labelSelector: {matchLabels: {in: "true"}}}, grants: [`+grants+`]}}`)
}

// place has the placement of a team let what it places be reclaimed, or not.
func (m *sharedModel) place(team string, reclaimable bool) {
	m.reclaimable[team], m.wasReclaimable[team] = reclaimable, m.wasReclaimable[team] || reclaimable
	m.put(team, fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default},
		spec: {workloadSelector: {}, numberOfClusters: 1, preemption: {reclaimable: %t}}}`, reclaimable))
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
			if m.late != nil && rapid.IntRange(0, 2).Draw(m.t, "what was late arrives") == 2 {
				m.arrive()
			}
		}
	}
	comes := func() { m.deploy(team.Draw(m.t, "team"), name.Draw(m.t, "name"), millis.Draw(m.t, "millis")) }
	for range rapid.IntRange(3, 8).Draw(m.t, "at first") {
		comes()
	}
	m.t.Repeat(map[string]func(*rapid.T){
		"a Deployment comes or changes": step(comes),
		"Deployments come everywhere": step(func() {
			for range 8 {
				comes()
			}
		}),
		"a Deployment goes": step(func() {
			team, name := team.Draw(m.t, "team"), name.Draw(m.t, "name")
			if _, there := m.asks[team][name]; there {
				m.undeploy(team, name)
			}
		}),
		"a quota changes": step(func() {
			team := rapid.SampledFrom(estateTeams[1:]).Draw(m.t, "team")
			m.guaranteed[team] = rapid.SampledFrom([]int64{0, 1000, 2000, 4000}).Draw(m.t, "guaranteed")
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
		"a placement lets its workloads be reclaimed or not": step(func() {
			team := rapid.SampledFrom(estateTeams[1:]).Draw(m.t, "team")
			m.place(team, !m.reclaimable[team])
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
		"a workspace goes away or comes back": step(func() {
			team := rapid.SampledFrom(estateTeams[1:]).Draw(m.t, "team")
			if m.away[team] == nil {
				m.goAway(team)
			} else {
				m.comeBack(team)
			}
		}),
		"a write fails": step(func() {
			comes()
			m.failAt = rapid.IntRange(0, 2).Draw(m.t, "writes")
			for range rapid.IntRange(1, 4).Draw(m.t, "passes") {
				m.passSomewhere()
			}
			m.failAt = -1
		}),
		"another leads": step(m.elect),
		"the controller is killed": step(func() {
			comes()
			m.killAfter, m.succeeded = rapid.IntRange(0, 3).Draw(m.t, "writes"), rapid.Bool().Draw(m.t, "in the middle of a pass")
			for range rapid.IntRange(1, 4).Draw(m.t, "passes") {
				m.passSomewhere()
			}
			if m.killAfter = -1; m.lead.fenced {
				m.elect()
			}
		}),
		"a former leader goes on deciding": step(m.passByFormer),
		"what was late arrives":            step(m.arrive),
	})
	m.late, m.nested = nil, false
	m.rest()
	m.expectRest()
	for _, team := range estateTeams {
		for _, name := range slices.Sorted(maps.Keys(m.asks[team])) {
			m.undeploy(team, name)
		}
		if m.quotas[team] = 4000; team != "platform" && !m.bound[team] {
			m.bind(team)
		}
		if m.away[team] != nil {
			m.comeBack(team)
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

// arrive has a late write arrive. It is refused where somebody has written meanwhile.
func (m *sharedModel) arrive() {
	if m.late != nil {
		m.happens("late writes")
		_ = m.late()
		m.late = nil
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

// goAway has the workspace of a team not be bound any more: the controller forgets it.
func (m *sharedModel) goAway(team string) {
	l := m.in(team)
	m.happens("workspaces that go away")
	l.fleets.forget(l.workspace)
	l.engine.Forget(l.name)
	delete(m.platform.workspaces, l.name)
	m.away[team] = l
}

// comeBack has it be bound again, with the objects that it has.
func (m *sharedModel) comeBack(team string) {
	l := m.away[team]
	delete(m.away, team)
	for key := range m.kept() {
		if key.team == team {
			m.happens("workspaces that come back with what they had")
			break
		}
	}
	m.platform.workspaces[l.name] = l
	l.begin(nil)
	l.due = true
}

// passSomewhere makes a pass over a workspace where one is due, and is not being made.
func (m *sharedModel) passSomewhere() {
	due := slices.DeleteFunc(m.platform.Due(), func(l *Local) bool {
		return slices.ContainsFunc(m.frames, func(f *frame) bool { return f.local == l })
	})
	if len(due) > 0 && !m.lead.fenced {
		m.pass(due[rapid.IntRange(0, len(due)-1).Draw(m.t, "pass")])
	}
}

// meanwhile makes a pass over another workspace in the middle of one, as workers beside it do.
func (m *sharedModel) meanwhile(by *tenure) {
	if m.nested && by == m.lead && !by.fenced && len(m.frames) < 3 && rapid.IntRange(0, 7).Draw(m.t, "meanwhile") == 7 {
		m.happens("passes in the middle of another")
		m.passSomewhere()
	}
}

// pass makes a pass. Nothing that runs loses its place, but for what its team has borrowed and another is guaranteed, by the terms that held
// throughout.
func (m *sharedModel) pass(l *Local) {
	l.follow()
	m.watch(l)
	if l == m.platform {
		m.known = &sharedTerms{map[string]int64{}, map[string]bool{}, maps.Clone(m.quotas), maps.Clone(m.guaranteed)}
		for name, c := range m.clusters {
			m.known.allocatable[name], m.known.inSet[name] = c.allocatable, c.inSet
			for _, f := range m.frames {
				f.most[name] = max(f.most[name], c.allocatable)
			}
		}
	}
	m.frames = append(m.frames, &frame{l, m.known, maps.Clone(m.known.allocatable)})
	before, by, terms := m.kept(), m.lead, m.known
	_, had := m.promised(m.known.inSet)
	decided := map[string]bool{} // by this pass, and not by one whose write has failed
	for key, d := range before {
		if s := l.workspace.store; m.in(key.team) == l && s != nil {
			_, _, decided[key.name] = s.get(keyIn("default", d.Workload))
		}
	}
	again, _, err := l.Pass(context.Background())
	expectNoPanic(m.t, err)
	m.frames = m.frames[:len(m.frames)-1]
	if l.due = l.due || again || err != nil || by != m.lead; m.lead.fenced || m.tardy {
		return
	}
	after := m.kept()
	for key, d := range before {
		if _, there := m.asks[key.team][key.name]; !there || after[key] != nil || m.uid(key) != d.Workload.UID || m.away[key.team] != nil {
			continue
		}
		switch {
		case !m.reclaimable[key.team] && (decided[key.name] || !m.wasReclaimable[key.team]):
			m.t.Fatalf("%s of %s has lost its place on %v", key.name, key.team, clusterNames(d.Clusters))
		case decided[key.name] && by == m.lead && terms == m.known && had[key.team] <= m.known.guaranteed[key.team]:
			m.t.Fatalf("%s of %s, which has %d and is guaranteed %d, has lost its place on %v", key.name, key.team, had[key.team], m.known.guaranteed[key.team], clusterNames(d.Clusters))
		}
		m.happens("reclaimed")
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

// elect has another controller lead. Where the former one may write past its fence, it first reads what is kept.
func (m *sharedModel) elect() {
	m.happens("kills")
	m.lead.fenced = true
	m.former = append(m.former, m.lead)
	m.serving.workspaces = m.tenure().workspaces
	if err := m.platform.Restart(); err != nil {
		m.t.Fatal(err)
	}
	m.lead = m.tenure()
	m.serving = m.lead
	if m.tardy {
		for _, team := range estateTeams {
			if m.away[team] == nil {
				m.pass(m.in(team))
			}
		}
	}
}

// passByFormer has a controller that has lost its lease go on.
func (m *sharedModel) passByFormer() {
	if len(m.former) == 0 {
		return
	}
	by, lead, due := rapid.SampledFrom(m.former).Draw(m.t, "who"), m.lead, m.platform.Due()
	m.happens("passes of a former leader")
	by.breaks = m.tardy && rapid.IntRange(0, 3).Draw(m.t, "breaks its fence") > 0
	m.serve(by)
	for _, team := range estateTeams {
		l := m.in(team)
		if m.away[team] != nil {
			continue
		}
		l.follow()
		m.watch(l)
		_, _, _ = l.Pass(context.Background()) // which fails to write
	}
	by.breaks = false
	m.serve(lead)
	for _, l := range due {
		l.due = true
	}
}

// watch has the writes in a workspace be made by the controller that serves, as long as it leads, and those of decisions by attempt.
func (m *sharedModel) watch(l *Local) {
	w, by := l.workspace, m.serving
	if m.watched[w] {
		return
	}
	m.watched[w] = true
	w.own = w.own.fenced(func() error {
		if by.fenced && !by.breaks {
			return errKilled
		}
		return nil
	})
	write, remove, ask := w.own.writeDecision, w.own.deleteDecision, w.ask
	w.own.writeDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) (written *v1alpha1.PlacementDecision, err error) {
		err = m.attempt(by, func() (err error) {
			written, err = write(ctx, d)
			return err
		})
		return written, err
	}
	w.own.deleteDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) error {
		return m.attempt(by, func() error { return remove(ctx, d) })
	}
	w.ask = func(ctx context.Context, r engine.Request) (*engine.Decision, error) {
		d, err := ask(ctx, r)
		m.meanwhile(by)
		return d, err
	}
	w.fleet.actions = w.own
	if w.actions = w.own; w.host != nil {
		w.actions = w.own.keptIn(w.host, w.name)
	}
}

// attempt makes a write, unless the controller has lost its lease, and checks that nothing is promised that there is not.
func (m *sharedModel) attempt(by *tenure, write func() error) error {
	m.meanwhile(by)
	if m.killAfter--; m.killAfter == -1 && by == m.lead && !by.fenced {
		if by.fenced = true; m.tardy {
			m.late = func() error {
				by.breaks = true // it was delayed between the fence and the server
				defer func() { by.breaks = false }()
				return write()
			}
		}
		if m.succeeded {
			m.happens("successions in the middle of a pass")
			m.elect()
		}
	}
	if by.fenced && !by.breaks {
		return errKilled
	}
	if by.breaks {
		m.happens("writes past a fence")
		by.breaks = false
		return write()
	}
	var broken error
	if m.failAt--; m.failAt == -1 {
		m.happens("failed writes")
		switch rapid.SampledFrom([]brokenWrite{refusedWrite, lostWrite, lostAnswer}).Draw(m.t, "outcome") {
		case refusedWrite:
			return apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("not now"))
		case lostWrite:
			return apierrors.NewTimeoutError("try later", 1)
		default:
			broken = apierrors.NewTimeoutError("try later", 1)
		}
	}
	f := m.frames[len(m.frames)-1]
	onBefore, toBefore := m.promised(f.inSet)
	if err := write(); err != nil {
		return err
	}
	m.happens("decisions")
	if m.tardy {
		return broken
	}
	on, to := m.promised(f.inSet)
	for name, millis := range on {
		if has := f.most[name]; millis > has && millis > onBefore[name] {
			m.t.Fatalf("%s: %d promised of %d, was %d", name, millis, has, onBefore[name])
		}
	}
	for _, team := range estateTeams[1:] {
		if quota := f.quotas[team]; to[team] > quota && to[team] > toBefore[team] {
			m.t.Fatalf("%d promised to %s, whose quota is %d, was %d", to[team], team, quota, toBefore[team])
		} else if to[team] > quota {
			m.happens("what is kept is more than the quota")
		}
	}
	return broken
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

// promised is what these promise, by cluster, and by team on the clusters that are in the set. One that is in two slices counts once on each
// cluster.
func (m *sharedModel) promised(inSet map[string]bool) (on, to map[string]int64) {
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
		if on[s.cluster] += millis; inSet[s.cluster] {
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
		if other == team && m.now.Sub(m.begun) < engine.DefaultGatherAfter || m.away[other] != nil || other != "platform" && (!m.bound[other] || m.quotas[other] == 0) {
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

// mayReclaim reports whether a team is guaranteed a place that one Deployment of another has borrowed and gives back.
func (m *sharedModel) mayReclaim(team string, asks int64, cluster string, to map[string]int64, kept map[keptKey]*v1alpha1.WorkloadDecision) bool {
	if c := m.clusters[cluster]; c.cordoned || to[team]+asks > m.guaranteed[team] {
		return false
	}
	on, _ := m.promised(nil)
	for key, d := range kept {
		if !m.reclaimable[key.team] || !m.bound[key.team] || m.quotas[key.team] == 0 || clusterNames(d.Clusters)[0] != cluster {
			continue
		}
		if amount := amountOf(*d, d.Clusters[0]); to[key.team]-amount >= m.guaranteed[key.team] && m.clusters[cluster].allocatable-on[cluster]+amount >= asks {
			return true
		}
	}
	return false
}

// expectRest checks what is so at rest.
func (m *sharedModel) expectRest() {
	on, to := m.promised(m.known.inSet)
	kept := m.kept()
	for key := range kept {
		if m.away[key.team] != nil {
			m.t.Fatalf("%s is kept for %s, which is gone", key.name, key.team)
		}
	}
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
				case placed || team != "platform" && (!m.bound[team] || !c.inSet || m.away[team] != nil):
				case !fits && team != "platform" && m.mayReclaim(team, asks, name, to, kept) && !m.othersWait(team, deployment, kept):
					m.t.Fatalf("%s of %s waits for %d, is guaranteed %d, has %d, and others have borrowed more than that on %s", deployment, team, asks, m.guaranteed[team], to[team], name)
				case !fits:
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
		if _, granted := m.quotas[team]; !granted || !m.bound[team] || m.away[team] != nil {
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
