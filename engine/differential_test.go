package engine_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/nodes"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestDifferential drives random histories through one engine. Every answer is compared byte for byte with two others:
// the answer of a fresh engine, which has seen only the current state, and the answer of the reference below, which
// evaluates constraints, policies and scores cluster by cluster and shares no other code with the engine. After every
// step the reservations are checked.
//
// -rapid.checks and -rapid.steps set the number and length of histories; PLACEMENT_DIFFERENTIAL=10m sets a duration.
func TestDifferential(t *testing.T) {
	var long time.Duration
	if text := os.Getenv("PLACEMENT_DIFFERENTIAL"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatal("PLACEMENT_DIFFERENTIAL: ", err)
		}
	}
	used, fresh := compilePolicies(t), compilePolicies(t)
	for start := time.Now(); ; {
		rapid.Check(t, func(t *rapid.T) { newHistory(t, used, fresh).run(t) })
		if t.Failed() || time.Since(start) >= long {
			return
		}
	}
}

// tenantPolicies are modules of workspaces that differ in what they read and in what they decide.
var tenantPolicies = []string{
	"",
	`package placement.scoring
weights := {"capacity": 1, "performance": 2}`,
	`package placement.affinity
use_builtin := false
terms contains {"factor": "location", "match": {"location": "eu"}, "onMatch": 20, "otherwise": -20}`,
	`package placement.affinity
terms contains {"factor": "affinity", "match": {"clusterNames": ["b", "e"]}, "onMatch": 20} if input.workload.name == "w"`,
	// Everything of the workload is read.
	`package placement.scoring
weights := {"capacity": 1 + (10 * count(texts)), "location": 10}
texts contains text if {
	some text in input.workload
	is_string(text)
}
texts contains key if some key, _ in input.workload.labels
texts contains value if some _, value in input.workload.annotations`,
	`package placement
scoring.weights := {"capacity": 100} if {
	input.workload.requests.cpu > 2
} else := {"capacity": 20, "health": 40, "affinity": 40}
affinity.terms contains {"factor": "affinity", "match": {"capability": "gpu"}, "onMatch": 50, "otherwise": -50, "required": true} if {
	input.workload.requests["nvidia.com/gpu"] > 0
}`,
	`package placement.affinity
terms contains {
	"match": {"labelSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold", "silver"]}]}},
	"factor": "location", "required": true, "reason": "good ones only",
}
terms contains {
	"match": {"labelSelector": {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, "location": "eu"},
	"factor": "location", "onMatch": 7,
}
terms contains {"match": {"capability": "ssd"}, "factor": "location", "requiredDuringExecution": true} if input.workload.name == "v"`,
	// Undefined for some workloads.
	`package placement.scoring
weights := {"health": 1} if input.workload.name != "x"`,
	`package placement.scoring
weights.capacity := 30 + min([input.workload.replicas * 5, 50])
weights.location := 20 if input.workload.labels.tier == "gold"
weights.affinity := 30 if input.placement.labels.team == "shop"
weights.performance := 10 if input.workspace == "root:one"`,
	// A label whose key another field names.
	`package placement.affinity
terms contains {"factor": "affinity", "match": {"clusterNames": [input.workload.labels[input.workload.namespace]]}, "onMatch": 40}
terms contains {"factor": "affinity", "match": {"location": input.workload.annotations.near}, "onMatch": 100}
terms contains {"factor": "affinity", "match": {"capability": "ssd"}, "onMatch": 100, "otherwise": -100}`,
	// Scores from outside.
	`package placement
scoring.weights := {"capacity": 10, "affinity": 20, "score/cheap": 30, "score/green": 40}
affinity.terms contains {"factor": "affinity", "score": "green", "onMatch": 80}
affinity.terms contains {"factor": "affinity", "score": "cheap", "match": {"location": "eu"}, "onMatch": -40, "otherwise": 20, "required": input.workload.name == "v"}`,
	// Nearly all clusters tie.
	`package placement.scoring
weights := {"location": 1}`,
	`package placement.scoring
weights := {"cost": 10, "capacity": 1}`,
	`package placement.scoring
weights := {"packing": 100}`,
	`package placement.scoring
default weights := {"packing": 30, "cost": 20, "health": 1}
weights := {"performance": 1} if input.workload.name == "u"`,
}

func compilePolicies(t *testing.T) (c compiledPolicies) {
	t.Helper()
	var err error
	if c.compiler, err = policy.NewCompiler(policy.Options{Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	for _, text := range tenantPolicies {
		modules := map[string]string{"a.rego": text}
		if text == "" {
			modules = nil
		}
		set, err := c.compiler.Compile(modules)
		if err != nil {
			t.Fatal(text, err)
		}
		c.sets = append(c.sets, set)
	}
	return c
}

type compiledPolicies struct {
	compiler *policy.Compiler
	sets     []*policy.Set // of tenantPolicies
}

const gpu = "nvidia.com/gpu"

// tenantConstraints read facts, capacity, the workload, the placement, or several of them; some can be split and some
// cannot; some fail for some clusters.
var tenantConstraints = []string{
	`cluster.labels["tier"] in ["gold", "silver"]`,
	`cluster.labels.?tier.orValue("none") == "gold"`,
	`cluster.capabilities.exists(c, c.type == "ssd" && c.available)`,
	`cluster.capabilities.exists(c, c.type == "gpu" && c.available && c.attributes.?model.orValue("") == "a100")`,
	`!cluster.taints.exists(t, t.key == "maintenance") && !cluster.conditions.exists(c, c.type == "Pressure" && c.status == "True")`,
	`cluster.name < "e" && cluster.location != "ap"`,
	`int(cluster.labels["rank"]) >= 1`,
	`cluster.labels.rank.matches("^[0-9]$") || cluster.labels.tier == "gold"`,

	`capacity.free.cpu >= 2 * workload.requests.cpu`,
	`3 * workload.requests.cpu < capacity.free.cpu && workload.requests.memory * 2 <= capacity.free.memory`,
	`capacity.free.cpu > 2 * workload.requests.cpu && cluster.labels["tier"] == "gold"`,
	`capacity.free.cpu - workload.requests.cpu >= capacity.allocatable.cpu / 4`,
	`capacity.free.cpu != workload.requests.cpu`,
	`workload.requests.cpu == 0 || capacity.free.cpu / workload.requests.cpu >= 2`,
	`capacity.free.memory >= quantity("4")`,
	`capacity.free.memory * 8 >= 0`,
	`capacity.utilization.cpu < 80 && capacity.performanceScore >= 70`,
	`capacity.healthScore == 100 && capacity.reserved.cpu <= 4`,
	`double(capacity.free.cpu) / double(capacity.allocatable.cpu) >= 0.25`,
	`10 / (capacity.free.cpu - workload.requests.cpu) >= 0`,
	`dyn(capacity.free.cpu) > 1.5`,
	`capacity.allocatable.all(r, amount, 5 * capacity.free[r] >= amount)`,
	`workload.requests.all(r, amount, capacity.free[?r].orValue(0) >= 2 * amount)`,
	`capacity.free["nvidia.com/gpu"] >= workload.requests["nvidia.com/gpu"]`,
	`capacity.free["nvidia.com/gpu"] > 0`,
	`capacity.free[?"nvidia.com/gpu"].orValue(0) > 0 || !("nvidia.com/gpu" in workload.requests)`,

	`cluster.labels.exists(k, k == "zone" && capacity.free.memory > 0)`,
	`cluster.labels.zone == "a" || capacity.free.cpu > 3`,
	`capacity.free.cpu > 3 && cluster.labels.zone == "a"`,
	`capacity.free.cpu > 3 ? cluster.labels.zone == "a" : workload.kind == "Job"`,
	`!(capacity.free.cpu < 3 && cluster.labels.zone == "a") && (workload.name == "u" || cluster.location == "eu")`,

	`workload.name != "u" || cluster.name < "d"`,
	`workload.kind == "Job" ? capacity.utilization.cpu < 90 : capacity.utilization.cpu < 60`,
	`cluster.labels.?tier.orValue("") == workload.labels.?tier.orValue("")`,
	`workload.labels.all(k, v, cluster.labels[?k].orValue(v) == v)`,
	`cluster.location in workload.labels.?regions.orValue("eu_us").split("_")`,
	`{"gold": 3, "silver": 2}[?cluster.labels.?tier.orValue("")].orValue(1) >= {"gold": 3, "silver": 2}[?workload.labels.?tier.orValue("")].orValue(1)`,
	`workload.replicas < 3 || capacity.allocatable.cpu > 8`,
	`workload.labels.tier == "gold"`,
	`"near" in workload.annotations || size(workload.labels) < 2`,
	`cluster == cluster && workload == workload`,
	`placement.labels.?team.orValue("") == "shop" || cluster.location == "eu"`,
	`placement.name == "p0" && placement.namespace == workload.namespace`,
}

// history is a random history, and the state that it has led to.
type history struct {
	fresh  compiledPolicies
	used   compiledPolicies
	engine *engine.Engine
	worlds []*world
	// names are the names that clusters can have.
	names []string
	// placements are shared by all worlds.
	placements []*placed
	now        time.Time
	last       *question
	kept       []keptAnswer
}

// world is the state of one workspace.
type world struct {
	name   logicalcluster.Name
	fleet  map[string]*snapshot.Cluster
	gone   *snapshot.Cluster // the last one that left
	held   map[workload.Reference]claim
	policy int
	// shadow are the policies beside those in force, -1 if there are none.
	shadow int
}

type claim struct {
	placement *v1alpha1.WorkloadPlacement
	shares    []capacity.Share
}

func (c *claim) on(cluster string) *capacity.Share {
	for i := range c.shares {
		if c.shares[i].Cluster == cluster {
			return &c.shares[i]
		}
	}
	return nil
}

// placed is a placement as the engine under test has compiled it.
type placed struct {
	object   *v1alpha1.WorkloadPlacement
	compiled *placement.Placement
}

// question is one request.
type question struct {
	world     *world
	placement *placed
	workload  *workload.Workload
	// now is the time in minutes since taints were added; at 0 it is not known.
	now int
	// current is what the workload runs on.
	current []engine.Choice
	// group is its fallback group.
	group string
	// leave are the clusters of current that it should leave; into, unless nil, the only ones that may be added; minGain by how many
	// points these have to be better.
	leave, into []string
	minGain     int64
	// shadow makes the shadow policies decide.
	shadow bool
}

// policy is the policy that decides.
func (q *question) policy() int {
	if q.shadow && q.world.shadow >= 0 {
		return q.world.shadow
	}
	return q.world.policy
}

func (q *question) request() engine.Request {
	r := engine.Request{Workspace: q.world.name, Placement: q.placement.compiled, Workload: q.workload, Current: q.current, Group: q.group, Into: q.into, MinGain: q.minGain, Shadow: q.shadow}
	r.Leave = leaving(q.leave)
	if q.now > 0 {
		r.Now = taintsAdded.Add(time.Duration(q.now) * time.Minute)
	}
	return r
}

// leaving is the part of a request about clusters to leave.
func leaving(clusters []string) (leave []engine.Verdict) {
	for _, name := range clusters {
		leave = append(leave, engine.Verdict{Cluster: name, Rejection: &filter.Rejection{Stage: "Move", Message: "somebody says so"}})
	}
	return leave
}

var taintsAdded = metav1.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (q *question) String() string {
	return fmt.Sprintf("%+v in %s with %v and policies\n%s", q.workload, q.world.name, q.placement.object.Spec.Constraints, tenantPolicies[q.policy()])
}

// keptAnswer is a decision with its description of when it was made.
type keptAnswer struct {
	decision  *engine.Decision
	described string
}

var (
	differentialClusters  = []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	differentialWorkloads = []string{"u", "v", "w", "x"}
)

func newHistory(t *rapid.T, used, fresh compiledPolicies) *history {
	h := &history{used: used, fresh: fresh, now: time.Unix(0, 0)}
	var err error
	h.engine, err = engine.New(engine.Options{
		Policies: used.compiler, CacheBytes: draw(t, "cache bytes", 0, 2048, 1<<14), Now: func() time.Time { return h.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []logicalcluster.Name{"root:one", "root:two"} {
		h.worlds = append(h.worlds, &world{name: name, fleet: map[string]*snapshot.Cluster{}, held: map[workload.Reference]claim{}, shadow: -1})
	}
	for i := range 3 {
		h.placements = append(h.placements, h.drawPlacement(t, i))
	}
	// Most fleets are small: there, everything happens to every cluster. Some are large enough to span several blocks.
	h.names = slices.Clone(differentialClusters)
	for i := range draw(t, "more clusters", 0, 0, 0, 0, 0, 0, 20, 60, 300) {
		h.names = append(h.names, fmt.Sprintf("n%03d", i))
	}
	for range below(t, "clusters at first", 4*len(differentialClusters)) {
		h.set(h.drawWorld(t), h.drawCluster(t))
	}
	if len(h.names) > len(differentialClusters) {
		few := make([]*snapshot.Cluster, 6)
		for i := range few {
			few[i] = h.drawCluster(t)
		}
		for i, name := range h.names {
			c := copyOf(few[i%len(few)])
			c.Name = name
			c.Allocatable.CPU = min(capacity.MaxAmount, c.Allocatable.CPU+int64(i*7%11))
			h.set(h.worlds[0], c)
		}
	}
	return h
}

// run takes random steps.
func (h *history) run(t *rapid.T) {
	steps := map[string]func(*rapid.T){
		"set a cluster":        func(t *rapid.T) { h.set(h.drawWorld(t), h.drawCluster(t)) },
		"change facts":         func(t *rapid.T) { h.change(t, drawFacts) },
		"change capacity":      func(t *rapid.T) { h.change(t, drawCapacity) },
		"change what is used":  func(t *rapid.T) { h.change(t, drawAllocated) },
		"say the same":         func(t *rapid.T) { h.change(t, func(*rapid.T, *snapshot.Cluster) {}) },
		"change many":          h.storm,
		"remove a cluster":     h.remove,
		"let one return":       h.comeBack,
		"change the policies":  h.changePolicies,
		"change a placement":   h.changePlacement,
		"release":              h.release,
		"restore":              h.restore,
		"let time pass":        func(t *rapid.T) { h.now = h.now.Add(time.Duration(1+below(t, "minutes", 6)) * time.Minute) },
		"decide":               func(t *rapid.T) { h.decide(t, h.drawQuestion(t)) },
		"decide the same":      h.decideTheSame,
		"decide several":       h.decideBatch,
		"ask without deciding": h.explain,
	}
	names := append(slices.Sorted(maps.Keys(steps)), "decide", "decide", "decide", "change what is used")
	t.Repeat(map[string]func(*rapid.T){
		"step": func(t *rapid.T) {
			name := draw(t, "step", names...)
			t.Log(name)
			steps[name](t)
		},
		"": h.checkReservations,
	})
}

// uniform draws from 0 to 1023 with equal chances; rapid's own numbers prefer the ends of their range.
var uniform = rapid.Custom(func(t *rapid.T) (n int) {
	for range 10 {
		n *= 2
		if rapid.Bool().Draw(t, "bit") {
			n++
		}
	}
	return n
})

func below(t *rapid.T, what string, n int) int { return uniform.Draw(t, what) % n }

func draw[T any](t *rapid.T, what string, from ...T) T { return from[below(t, what, len(from))] }

// some draws at least least and at most most different elements.
func some[T any](t *rapid.T, what string, least, most int, from []T) []T {
	from = slices.Clone(from)
	drawn := make([]T, least+below(t, what, 1+most-least))
	for i := range drawn {
		at := below(t, what, len(from))
		drawn[i] = from[at]
		from = slices.Delete(from, at, at+1)
	}
	return drawn
}

// oneIn is true once in n times.
func oneIn(t *rapid.T, what string, n int) bool { return below(t, what, n) == n-1 }

func (h *history) drawWorld(t *rapid.T) *world {
	return h.worlds[below(t, "workspace", 4)/3]
}

func (h *history) drawQuestion(t *rapid.T) *question {
	q := &question{
		world:     h.drawWorld(t),
		placement: draw(t, "placement", h.placements...),
		workload:  drawWorkload(t),
		now:       below(t, "minutes", 4),
		shadow:    oneIn(t, "by the shadow policies", 4),
	}
	q.drawCurrent(t, h.names)
	if len(q.placement.object.Spec.Fallback) > 0 {
		q.group = draw(t, "group", "", "x", "all", "elsewhere")
	}
	return q
}

// drawCurrent draws what the workload runs on: mostly what it holds, sometimes something else, or nothing.
func (q *question) drawCurrent(t *rapid.T, names []string) {
	q.current, q.leave, q.into, q.minGain = nil, nil, nil, 0
	defer q.drawMove(t, names)
	var on []string
	for _, s := range q.world.held[q.workload.Reference].shares {
		on = append(on, s.Cluster)
	}
	switch below(t, "runs", 4) {
	case 0:
		return
	case 1:
		on = some(t, "runs on", 0, 3, names)
	}
	for _, name := range on {
		q.current = append(q.current, engine.Choice{Name: name, Replicas: q.workload.Replicas})
	}
}

// drawMove draws which clusters the workload should leave, and for what.
func (q *question) drawMove(t *rapid.T, names []string) {
	if oneIn(t, "only into some", 6) {
		q.into = append([]string{"unknown"}, some(t, "into", 0, 6, names)...)
	}
	if len(q.current) == 0 || !oneIn(t, "leaves", 3) {
		return
	}
	for _, c := range q.current {
		if oneIn(t, "leaves "+c.Name, 2) {
			q.leave = append(q.leave, c.Name)
		}
	}
	q.minGain = draw[int64](t, "gain", 0, 0, 1, 5, 20, 100)
}

func (h *history) set(w *world, c *snapshot.Cluster) {
	w.fleet[c.Name] = c
	if _, err := h.engine.SetCluster(w.name, copyOf(c)); err != nil { // the engine keeps its argument
		panic(err)
	}
}

// change changes a part of a registered cluster.
func (h *history) change(t *rapid.T, change func(*rapid.T, *snapshot.Cluster)) {
	w := h.drawWorld(t)
	if len(w.fleet) == 0 {
		t.Skip()
	}
	c := copyOf(w.fleet[draw(t, "cluster", slices.Sorted(maps.Keys(w.fleet))...)])
	change(t, c)
	h.set(w, c)
}

// storm makes more changes than the log of a fleet keeps.
func (h *history) storm(t *rapid.T) {
	w := h.drawWorld(t)
	if len(w.fleet) == 0 {
		t.Skip()
	}
	random := rand.New(rand.NewPCG(0, uint64(uniform.Draw(t, "seed"))))
	fleet := slices.Sorted(maps.Keys(w.fleet))
	for range draw(t, "changes", 5, 50, 700) {
		c := copyOf(w.fleet[fleet[random.IntN(len(fleet))]])
		c.Allocated.CPU, c.Allocated.Memory = random.Int64N(6), random.Int64N(6)
		h.set(w, c)
	}
}

func (h *history) remove(t *rapid.T) {
	w := h.drawWorld(t)
	name := draw(t, "cluster", h.names...)
	if c := w.fleet[name]; c != nil {
		w.gone = c
	}
	delete(w.fleet, name)
	h.engine.RemoveCluster(w.name, name)
}

func (h *history) comeBack(t *rapid.T) {
	w := h.drawWorld(t)
	if w.gone == nil || w.fleet[w.gone.Name] != nil {
		t.Skip()
	}
	h.set(w, w.gone)
}

func (h *history) changePolicies(t *rapid.T) {
	w := h.drawWorld(t)
	if oneIn(t, "of the shadow", 2) {
		if w.shadow = below(t, "policies", len(tenantPolicies)+1) - 1; w.shadow < 0 {
			h.engine.SetShadowPolicies(w.name, nil)
		} else {
			h.engine.SetShadowPolicies(w.name, h.used.sets[w.shadow])
		}
		return
	}
	w.policy = below(t, "policies", len(tenantPolicies))
	h.engine.SetPolicies(w.name, h.used.sets[w.policy])
}

func (h *history) changePlacement(t *rapid.T) {
	i := below(t, "placement", len(h.placements))
	h.placements[i] = h.drawPlacement(t, i)
}

func (h *history) release(t *rapid.T) {
	w, ref := h.drawWorld(t), drawWorkload(t).Reference
	_, held := w.held[ref]
	delete(w.held, ref)
	if freed := h.engine.Release(w.name, ref); freed != held {
		t.Fatalf("released %t, held %t", freed, held)
	}
}

func (h *history) restore(t *rapid.T) {
	w, of := h.drawWorld(t), drawWorkload(t)
	c := claim{placement: draw(t, "placement", h.placements...).object}
	for _, cluster := range some(t, "clusters", 1, 3, h.names) {
		share := capacity.Share{Cluster: cluster, Amount: of.Requests, Expired: oneIn(t, "expired", 4)}
		if oneIn(t, "has another amount", 3) {
			share.Amount = drawAmounts(t, "amount", 4)
		}
		c.shares = append(c.shares, share)
	}
	w.held[of.Reference] = c
	c.restoreTo(h.engine, w.name, of.Reference)
}

func (c *claim) restoreTo(e *engine.Engine, workspace logicalcluster.Name, ref workload.Reference) {
	name := types.NamespacedName{Namespace: c.placement.Namespace, Name: c.placement.Name}
	e.Restore(workspace, engine.Reservation{Placement: name, Workload: ref, Shares: slices.Clone(c.shares)})
}

// decide makes one decision and checks it.
func (h *history) decide(t *rapid.T, q *question) {
	short := h.shortages(q.world)
	d, err := h.engine.Decide(context.Background(), q.request())
	h.check(t, q, d, err, (*engine.Engine).Decide)
	h.take(q, d)
	h.checkShortages(t, q.world, short)
	h.last = q
}

func (h *history) decideTheSame(t *rapid.T) {
	if h.last == nil {
		t.Skip()
	}
	h.last.drawCurrent(t, h.names)
	h.decide(t, h.last)
}

// decideBatch decides for several workloads in one call: the answers are those of one call for each, in that order.
func (h *history) decideBatch(t *rapid.T) {
	few := make([]*question, 1+below(t, "kinds", 3))
	for i := range few {
		few[i] = h.drawQuestion(t)
	}
	questions := make([]*question, below(t, "questions", 11))
	requests := make([]engine.Request, len(questions))
	for i := range questions {
		again := *draw(t, "kind", few...)
		named := *again.workload
		named.Name = draw(t, "workload", differentialWorkloads...)
		named.UID = uidOf(named.Kind, named.Name)
		again.workload = &named
		again.drawCurrent(t, h.names) // as it is before the batch
		questions[i], requests[i] = &again, again.request()
	}
	short := map[*world]map[string]int64{}
	for _, w := range h.worlds {
		short[w] = h.shortages(w)
	}
	results := h.engine.DecideBatch(context.Background(), requests)
	if len(results) != len(questions) {
		t.Fatalf("%d answers to %d questions", len(results), len(questions))
	}
	for i, q := range questions {
		h.check(t, q, results[i].Decision, results[i].Err, (*engine.Engine).Decide)
		h.take(q, results[i].Decision)
	}
	for _, w := range h.worlds {
		h.checkShortages(t, w, short[w])
	}
}

// explain asks the questions that reserve nothing.
func (h *history) explain(t *rapid.T) {
	q := h.drawQuestion(t)
	d, err := h.engine.Explain(context.Background(), q.request())
	h.check(t, q, d, err, (*engine.Engine).Explain)

	review, reviewErr := h.engine.Review(context.Background(), q.request())
	switch {
	case fmt.Sprint(reviewErr) != fmt.Sprint(err):
		t.Fatalf("reviewed with error %v, explained with %v", reviewErr, err)
	case err != nil:
	case review != nil:
		if diff := differ(describeAll(d), describeAll(review)); diff != "" {
			t.Fatalf("%s: explained - reviewed +\n%s", q, diff)
		}
	case d.Changes() || len(d.Retained) > 0 || len(d.Clusters) < d.Asked:
		t.Fatalf("%s: nothing would change by the review:\n%s", q, describeAll(d))
	}
}

// take records what a decision reserves.
func (h *history) take(q *question, d *engine.Decision) {
	if d == nil {
		return // the workload still holds what it held
	}
	delete(q.world.held, q.workload.Reference)
	if len(d.Clusters) > 0 {
		c := claim{placement: q.placement.object}
		for _, choice := range d.Clusters {
			c.shares = append(c.shares, capacity.Share{Cluster: choice.Name, Amount: choice.Reserved, Expired: choice.Expired})
		}
		q.world.held[q.workload.Reference] = c
	}
}

// anew makes a fresh engine with the current state of the question's workspace, and the question for it.
func (h *history) anew(t *rapid.T, q *question) (*engine.Engine, engine.Request) {
	e, err := engine.New(engine.Options{Policies: h.fresh.compiler})
	if err != nil {
		t.Fatal(err)
	}
	w := q.world
	for _, c := range w.fleet {
		e.SetCluster(w.name, copyOf(c))
	}
	e.SetPolicies(w.name, h.fresh.sets[q.policy()])
	for ref, c := range w.held {
		c.restoreTo(e, w.name, ref)
	}
	request := q.request()
	request.Shadow = false // they are in force there
	if request.Placement, err = e.CompilePlacement(q.placement.object); err != nil {
		t.Fatal(err)
	}
	return e, request
}

// check compares an answer with those of a fresh engine and of the reference.
func (h *history) check(t *rapid.T, q *question, d *engine.Decision, err error,
	ask func(*engine.Engine, context.Context, engine.Request) (*engine.Decision, error),
) {
	e, request := h.anew(t, q)
	want, wantErr := ask(e, context.Background(), request)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Fatalf("error %v, but of an engine made anew %v", err, wantErr)
	}
	if err != nil {
		if d != nil {
			t.Fatalf("a decision beside error %v", err)
		}
		if _, judged := h.reference(t, q); judged == nil {
			t.Fatalf("error %v where the policies have an answer", err)
		}
		return
	}
	if want.Cached && len(q.placement.object.Spec.Fallback) == 0 { // a group can be asked twice
		t.Fatal("an engine made anew cannot have anything in its cache")
	}
	described := describeAll(d)
	if diff := differ(describeAll(want), described); diff != "" {
		t.Fatalf("%s: made anew - as it is +\n%s", q, diff)
	}
	answer, judged := h.reference(t, q)
	if judged != nil {
		t.Fatalf("decided where the policies fail: %v", judged)
	}
	// Clusters that are chosen together have their own reference: see TestChoicesAreTheBest.
	strategy := q.placement.object.Spec.Strategy.Type
	elsewhere := q.placement.compiled.Plans() || strategy == v1alpha1.StrategyBinPack || strategy == v1alpha1.StrategyWeighted
	if diff := differ(answer, describe(d)); diff != "" && !elsewhere {
		t.Fatalf("%s: reference - as it is +\n%s", q, diff)
	}
	// A decision has the same explanation whatever happens after it.
	h.kept = append(h.kept, keptAnswer{d, described})
	if len(h.kept) > 4 {
		if diff := differ(h.kept[0].described, describeAll(h.kept[0].decision)); diff != "" {
			t.Fatalf("when it was made - later +\n%s", diff)
		}
		h.kept = h.kept[1:]
	}
}

// differ compares two descriptions line by line.
func differ(want, got string) string {
	return gocmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
}

// describe is the part of a decision that the reference knows.
func describe(d *engine.Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", d.Summary())
	for _, c := range d.Clusters {
		fmt.Fprintf(&b, "chosen %+v\n", c)
	}
	for _, v := range d.Left {
		fmt.Fprintf(&b, "left %s %s\n", v.Cluster, v.Rejection.Stage)
	}
	for _, v := range d.Retained {
		fmt.Fprintf(&b, "stands %s %s\n", v.Cluster, v.Rejection.Stage)
	}
	for _, v := range d.Ranked() {
		fmt.Fprintf(&b, "%s %t ", v.Cluster, v.Chosen)
		if v.Rejection != nil {
			fmt.Fprintf(&b, "%s %s\n", v.Rejection.Stage, v.Rejection.Constraint)
		} else {
			fmt.Fprintf(&b, "%+v\n", v.Score)
		}
	}
	return b.String()
}

// describeAll is everything that a decision reports.
func describeAll(d *engine.Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %d wait %t %v\n", d.Group, d.Waiting, d.Changes(), d.Notes())
	fmt.Fprintf(&b, "%+v weighs %v by %v\npolicies %s\ninputs %s\n%s", d.Workload, d.Weights, d.Terms, d.PolicyDigest, d.InputsDigest, describe(d))
	for _, v := range d.Verdicts() {
		fmt.Fprintf(&b, "%s %+v %t %+v\n", v.Cluster, v.Score, v.Chosen, ptr.Deref(v.Rejection, filter.Rejection{}))
	}
	for _, name := range differentialClusters {
		for _, o := range d.Obstacles(name) {
			fmt.Fprintf(&b, "%s: %+v %s %+v %s\n", name, o.Rejection, o.Expression, o.Observed, o.Remedy)
		}
		fmt.Fprintf(&b, "%s: %+v\n", name, d.Factors(name))
	}
	return b.String()
}

// reference decides as the documentation describes, cluster by cluster and without memory. The error is that of the
// policies.
func (h *history) reference(t *rapid.T, q *question) (answer string, err error) {
	p, w := q.placement.object, q.workload
	seen := workload.Placement{Name: p.Name, Namespace: p.Namespace, Labels: p.Labels}
	judgement, err := h.fresh.sets[q.policy()].Judge(context.Background(), policy.Input{
		Workspace: q.world.name.String(), Placement: seen, Workload: w,
	})
	if err != nil {
		return "", err
	}
	compiler, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	programs := make([]*constraint.Program, len(p.Spec.Constraints))
	for i, c := range p.Spec.Constraints {
		if programs[i], err = compiler.Compile(c.Expression); err != nil {
			t.Fatal(err)
		}
	}
	usual := q.world.usual(judgement)
	var feasible []referenceCandidate
	var rejected []string
	stages := map[filter.Stage]int{}
	for _, name := range slices.Sorted(maps.Keys(q.world.fleet)) {
		row := q.world.row(name, w.Reference)
		w := referenceOn(w, row)
		variables := &constraint.Variables{Row: row, Workload: w, Placement: seen}
		stage, failed := referenceFilter(&p.Spec, row, w, judgement, q.now, func() string {
			for i, program := range programs {
				if holds, err := program.Eval(variables); err != nil || !holds {
					return p.Spec.Constraints[i].Name
				}
			}
			return ""
		})
		if stage != "" {
			stages[stage]++
			rejected = append(rejected, fmt.Sprintf("%s false %s %s\n", name, stage, failed))
			continue
		}
		terms := scoring.WithTaints(judgement.Terms, p.Spec.Tolerations)
		feasible = append(feasible, referenceCandidate{name, w, scoring.Of(row, scoring.Asked{Requests: w.Requests, Terms: terms, Usual: usual, Packs: q.placement.object.Spec.Strategy.Type == v1alpha1.StrategyBinPack}, judgement.Weights)})
	}
	slices.SortFunc(feasible, q.rank)
	var choices []engine.Choice
	var left, retained []string
	if len(q.current) == 0 {
		for _, c := range q.referenceSelect(q.allowed(feasible)) {
			choices = append(choices, c.choice())
		}
	} else {
		choices, left, retained = q.referenceMove(feasible, judgement, func(i int, row *snapshot.Row, w *workload.Workload) (holds, denied bool) {
			for _, conjunct := range programs[i].Conjuncts() {
				v := &constraint.Variables{Row: row, Workload: w, Placement: seen}
				if placement.ReadsFacts(conjunct) && !conjunct.Holds(v, 0, 0) {
					return false, conjunct.Denies(v)
				}
			}
			return true, false
		})
	}
	chosen := func(name string) bool {
		return slices.ContainsFunc(choices, func(c engine.Choice) bool { return c.Name == name })
	}

	var b strings.Builder
	if len(q.world.fleet) == 0 {
		b.WriteString("no clusters are registered in this workspace, and no ClusterSetBinding gives it any")
	} else {
		fmt.Fprintf(&b, "%d of %d clusters are feasible", len(feasible), len(q.world.fleet))
	}
	separator := ": "
	for _, stage := range []filter.Stage{
		filter.Registration, filter.Ready, filter.Unschedulable, filter.Location, filter.ClusterSelector, filter.Taint,
		filter.Capability, filter.Nodes, filter.Constraint, filter.Capacity, filter.Policy,
	} {
		if stages[stage] > 0 {
			fmt.Fprintf(&b, "%s%d rejected by %s", separator, stages[stage], stage)
			separator = ", "
		}
	}
	b.WriteString("\n")
	for _, c := range choices {
		fmt.Fprintf(&b, "chosen %+v\n", c)
	}
	for _, line := range left {
		fmt.Fprintf(&b, "left %s\n", line)
	}
	for _, line := range retained {
		fmt.Fprintf(&b, "stands %s\n", line)
	}
	for _, c := range feasible {
		fmt.Fprintf(&b, "%s %t %+v\n", c.name, chosen(c.name), c.Score)
	}
	for _, line := range rejected {
		name, rest, _ := strings.Cut(line, " false ")
		fmt.Fprintf(&b, "%s %t %s", name, chosen(name), rest)
	}
	return b.String(), nil
}

// allowed returns the feasible clusters that may be added.
func (q *question) allowed(feasible []referenceCandidate) []referenceCandidate {
	return slices.DeleteFunc(slices.Clone(feasible), func(c referenceCandidate) bool { return q.into != nil && !slices.Contains(q.into, c.name) })
}

// referenceMove decides for a workload that runs somewhere. If it leaves clusters only for a gain, it leaves as many as it can, the
// worst first, for others that are better by minGain than each of these.
func (q *question) referenceMove(feasible []referenceCandidate, judgement *policy.Judgement,
	conjuncts func(i int, row *snapshot.Row, w *workload.Workload) (holds, denied bool),
) (choices []engine.Choice, left, retained []string) {
	if q.minGain == 0 {
		return q.referenceStay(feasible, judgement, conjuncts)
	}
	stay := *q
	stay.leave, stay.minGain = nil, 0
	choices, left, retained = stay.referenceStay(feasible, judgement, conjuncts)
	score := map[string]int64{}
	for _, c := range choices {
		if !slices.ContainsFunc(q.current, func(o engine.Choice) bool { return o.Name == c.Name }) {
			return choices, left, retained
		}
		score[c.Name] = c.Score
	}
	if len(left)+len(retained) > 0 {
		return choices, left, retained
	}
	worst := slices.Clone(q.leave)
	slices.SortFunc(worst, func(a, b string) int { return cmp.Or(cmp.Compare(score[a], score[b]), strings.Compare(a, b)) })
	for n := len(worst); n > 0; n-- {
		move := stay
		move.leave, move.into = worst[:n], []string{"none"}
		for _, c := range q.allowed(feasible) {
			if c.Total >= score[worst[n-1]]+q.minGain {
				move.into = append(move.into, c.name)
			}
		}
		if moved, gone, stands := move.referenceStay(feasible, judgement, conjuncts); len(stands) == 0 && len(gone) == n {
			return moved, gone, stands
		}
	}
	return choices, left, retained
}

// referenceStay decides for a workload that runs somewhere. conjuncts evaluates the conjuncts of a constraint that read only facts.
func (q *question) referenceStay(feasible []referenceCandidate, judgement *policy.Judgement,
	conjuncts func(i int, row *snapshot.Row, w *workload.Workload) (holds, denied bool),
) (choices []engine.Choice, left, retained []string) {
	spec, number := &q.placement.object.Spec, 1
	if spec.Strategy.Type == v1alpha1.StrategySpread || spec.Strategy.Type == "" {
		number = int(ptr.Deref(spec.NumberOfClusters, intstr.FromInt32(3)).IntVal)
	}
	type place struct {
		referenceCandidate
		choice engine.Choice
		stage  filter.Stage
	}
	byRank := func(a, b place) int { return q.rank(a.referenceCandidate, b.referenceCandidate) }
	var kept, doubtful []place
	var gone []string
	for _, current := range q.current {
		if q.world.fleet[current.Name] == nil {
			gone = append(gone, current.Name+" Registration")
			continue
		}
		row := q.world.row(current.Name, q.workload.Reference)
		on := referenceOn(q.workload, row)
		terms := scoring.WithTaints(judgement.Terms, spec.Tolerations)
		p := place{referenceCandidate: referenceCandidate{current.Name, on, scoring.Of(row, scoring.Asked{Requests: on.Requests, Terms: terms, Usual: q.world.usual(judgement), Packs: spec.Strategy.Type == v1alpha1.StrategyBinPack}, judgement.Weights)}}
		p.choice = p.referenceCandidate.choice()
		// What is already promised does not have to fit.
		more, pod, held := on.Requests, on.Pod, q.world.held[q.workload.Reference]
		promised := held.on(current.Name)
		if promised != nil {
			more = more.Combine(promised.Amount, func(asked, promised int64) int64 { return asked * min(1, max(0, asked-promised)) })
		}
		fits := func(more capacity.Resources) bool {
			w := *on
			w.Requests = more
			w.Pod = pod.Combine(more, func(pod, more int64) int64 { return pod * min(1, more) })
			if on.Pod.IsZero() && on.Replicas > 0 {
				w.Pod = more.Combine(capacity.Resources{}, func(all, _ int64) int64 { return (all + on.Replicas - 1) / max(1, on.Replicas) })
			}
			return referenceFits(row, &w)
		}
		running, _ := referenceNodesFor(row, q.workload)
		unknown := q.workload.PerNode && running == 0
		grows := (row.Unschedulable || row.Draining) && !q.workload.PerNode && on.Replicas > current.Replicas
		short := !unknown && (grows || !fits(more))
		switch {
		case promised == nil && (short || unknown):
			p.choice.Reserved, p.choice.Replicas = capacity.Resources{}, current.Replicas
		case promised == nil:
		case short || unknown:
			p.choice.Reserved, p.choice.Expired, p.choice.Replicas = promised.Amount, promised.Expired, current.Replicas
		default:
			p.choice.Expired = promised.Expired && !fits(on.Requests)
		}
		var evicts bool
		p.stage, evicts = q.referenceDeparture(row, on, judgement, conjuncts)
		switch {
		case p.stage == "" && grows:
			p.stage = filter.Unschedulable
		case p.stage == "" && short:
			p.stage = filter.Capacity
		}
		if p.stage == "" && slices.Contains(q.leave, current.Name) {
			p.stage = "Move"
		}
		switch {
		case evicts:
			gone = append(gone, fmt.Sprintf("%s %s", current.Name, p.stage))
		case p.stage != "":
			doubtful = append(doubtful, p)
		default:
			kept = append(kept, p)
		}
	}
	slices.SortFunc(kept, byRank)
	slices.SortFunc(doubtful, byRank)
	for i := range kept[min(number, len(kept)):] {
		kept[number+i].stage = engine.NumberOfClusters
	}
	doubtful = append(slices.Clone(kept[min(number, len(kept)):]), doubtful...)
	kept = kept[:min(number, len(kept))]
	others := slices.DeleteFunc(q.allowed(feasible), func(c referenceCandidate) bool {
		return slices.ContainsFunc(q.current, func(current engine.Choice) bool { return current.Name == c.name })
	})
	missing := number - len(kept)
	var added int
	for _, c := range q.referenceSelect(others) {
		if added == missing {
			break
		}
		added++
		kept = append(kept, place{referenceCandidate: c, choice: c.choice()})
	}
	slices.SortFunc(kept, byRank)
	for i, p := range doubtful {
		if line := fmt.Sprintf("%s %s", p.name, p.stage); i+added < missing && i+added < len(doubtful) {
			kept, retained = append(kept, p), append(retained, line)
		} else {
			left = append(left, line)
		}
	}
	for _, p := range kept {
		choices = append(choices, p.choice)
	}
	return choices, append(left, gone...), retained
}

// referenceDeparture returns the stage because of which a workload should leave a cluster, and whether it has to.
func (q *question) referenceDeparture(row *snapshot.Row, w *workload.Workload, judgement *policy.Judgement,
	conjuncts func(i int, row *snapshot.Row, w *workload.Workload) (holds, denied bool),
) (stage filter.Stage, evicts bool) {
	violated := func(s filter.Stage, has bool) {
		if stage == "" || has && !evicts {
			stage, evicts = s, has
		}
	}
	spec := q.placement.object.Spec
	spec.WorkloadSelector, spec.Constraints = v1alpha1.WorkloadSelector{}, nil
	judged := *judgement
	judged.Terms = nil
	if ready, _ := row.Condition("Ready"); ready.Status == "False" && ready.Reason == v1alpha1.ClusterLostReason {
		violated(filter.Ready, true)
	} else if ready.Status == "False" && !slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool {
		return t.Key == "" && t.TolerationSeconds == nil && t.Effect == "" // of the taint not-ready, which has no delay here
	}) {
		violated(filter.Ready, false)
	}
	if row.Draining {
		violated(filter.Unschedulable, false)
	}
	// The selectors and requirements are those of a workload that comes.
	c := *row.Cluster
	c.Unschedulable, c.Draining = false, false
	c.Invalid, c.Conditions, c.Nodes = "", []snapshot.Condition{{Type: "Ready", Status: "True"}}, nil
	taints := slices.DeleteFunc(slices.Clone(c.Taints), func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectNoExecute })
	for _, part := range []struct {
		spec   v1alpha1.WorkloadPlacementSpec
		taints []corev1.Taint
	}{
		{spec: v1alpha1.WorkloadPlacementSpec{LocationSelector: spec.LocationSelector}},
		{spec: v1alpha1.WorkloadPlacementSpec{ClusterSelector: spec.ClusterSelector}},
		{spec: v1alpha1.WorkloadPlacementSpec{Tolerations: spec.Tolerations}, taints: taints},
		{spec: v1alpha1.WorkloadPlacementSpec{CapabilityRequirements: spec.CapabilityRequirements}},
	} {
		c.Taints = part.taints
		s, _ := referenceFilter(&part.spec, snapshot.NewRow(&c, capacity.Resources{}), &workload.Workload{Replicas: 1}, &judged, q.now, func() string { return "" })
		if s != "" {
			violated(s, s == filter.Taint)
		}
	}
	for i := range q.placement.object.Spec.Constraints {
		if holds, denied := conjuncts(i, row, w); !holds {
			violated(filter.Constraint, denied && q.placement.object.Spec.Constraints[i].RequiredDuringExecution)
		}
	}
	for _, term := range judgement.Terms {
		if term.Required && !term.Match.Matches(row) {
			violated(filter.Policy, term.RequiredDuringExecution)
		}
	}
	return stage, evicts
}

// rank compares two clusters by the strategy, better ones first.
func (q *question) rank(a, b referenceCandidate) int {
	near := 0
	if q.placement.object.Spec.Strategy.Type == v1alpha1.StrategyAffinity {
		near = cmp.Compare(b.Factors[scoring.Affinity]+b.Factors[scoring.Location], a.Factors[scoring.Affinity]+a.Factors[scoring.Location])
	}
	return cmp.Or(near, cmp.Compare(b.Total, a.Total), cmp.Compare(b.Headroom, a.Headroom), strings.Compare(a.name, b.name))
}

func (c *referenceCandidate) choice() engine.Choice {
	return engine.Choice{Name: c.name, Replicas: c.on.Replicas, Score: c.Total, Reason: scoring.Reason(c.Total), Reserved: c.on.Requests}
}

type referenceCandidate struct {
	name string
	// on is the workload there.
	on *workload.Workload
	scoring.Score
}

// referenceOn returns a workload as it is on a cluster: a PerNode workload has its replicas and requests once for each node.
func referenceOn(w *workload.Workload, row *snapshot.Row) *workload.Workload {
	if !w.PerNode {
		return w
	}
	on := *w
	running, usable := referenceNodesFor(row, w)
	if on.Pod = w.Replica(); usable == 0 {
		on.Pod = capacity.Resources{}
	}
	on.Replicas, on.Requests = running*w.Replicas, w.Requests.Sub(w.Requests)
	for range usable {
		on.Requests = on.Requests.Add(w.Requests)
	}
	return &on
}

// referenceNodesFor returns on how many nodes a workload with a pod on each runs, and how many of these have no taint.
func referenceNodesFor(row *snapshot.Row, w *workload.Workload) (running, usable int64) {
	if row.Nodes == nil || row.Nodes.Incomplete || slices.ContainsFunc(row.Nodes.Groups, func(g nodes.Group) bool { return g.Count == 0 }) {
		return row.UsableNodes, row.UsableNodes
	}
	for _, g := range row.Nodes.Groups {
		of := snapshot.Row{Basis: &snapshot.Basis{Cluster: &snapshot.Cluster{Nodes: &nodes.Summary{Groups: []nodes.Group{g}}}}}
		several := w.Nodes == differentialAsks["both disks"] // of two templates, one of which tolerates all
		switch {
		case several && (g.Labels["disk"] == "hdd" || g.Labels["disk"] == "ssd" && len(g.Taints) == 0), !several && referenceNodes(&of, w):
			running += g.Count
			if len(g.Taints) == 0 {
				usable += g.Count
			}
		}
	}
	return running, usable
}

// referenceFilter returns the first stage that rejects a cluster, with the constraint if it is one; constraints returns
// the first that does not hold.
func referenceFilter(spec *v1alpha1.WorkloadPlacementSpec, row *snapshot.Row, w *workload.Workload, judgement *policy.Judgement,
	now int, constraints func() string,
) (filter.Stage, string) {
	selects := func(selector *metav1.LabelSelector, set map[string]string) bool {
		compiled, err := metav1.LabelSelectorAsSelector(selector)
		return selector == nil || err == nil && compiled.Matches(labels.Set(set))
	}
	tolerated := func(taint corev1.Taint) bool {
		i := slices.IndexFunc(spec.Tolerations, func(t corev1.Toleration) bool {
			return (t.Effect == "" || t.Effect == taint.Effect) && (t.Key == "" || t.Key == taint.Key) &&
				(t.Operator == corev1.TolerationOpExists || t.Value == taint.Value)
		})
		return taint.Effect == corev1.TaintEffectPreferNoSchedule || i >= 0 && (spec.Tolerations[i].TolerationSeconds == nil ||
			taint.TimeAdded == nil || int64(60*now) < *spec.Tolerations[i].TolerationSeconds)
	}
	switch {
	case row.Invalid != "":
		return filter.Registration, ""
	case !slices.ContainsFunc(row.Conditions, func(c snapshot.Condition) bool { return c.Type == "Ready" && c.Status == "True" }):
		return filter.Ready, ""
	case row.Unschedulable || row.Draining:
		return filter.Unschedulable, ""
	case !selects(spec.LocationSelector, map[string]string{"location": row.Location}):
		return filter.Location, ""
	case spec.ClusterSelector != nil && (!selects(spec.ClusterSelector.LabelSelector, row.Labels) ||
		len(spec.ClusterSelector.ClusterNames) > 0 && !slices.Contains(spec.ClusterSelector.ClusterNames, row.Name)):
		return filter.ClusterSelector, ""
	}
	for _, taint := range row.Taints {
		if !tolerated(taint) {
			return filter.Taint, ""
		}
	}
	for _, requirement := range spec.CapabilityRequirements {
		at := slices.IndexFunc(row.Capabilities, func(c snapshot.Capability) bool { return c.Type == requirement.Type })
		if at < 0 && requirement.Required || at >= 0 && !row.Capabilities[at].Available {
			return filter.Capability, ""
		}
	}
	if !referenceNodes(row, w) {
		return filter.Nodes, ""
	}
	if failed := constraints(); failed != "" {
		return filter.Constraint, failed
	}
	if running, _ := referenceNodesFor(row, w); w.PerNode && running == 0 {
		return filter.Capacity, ""
	}
	if !referenceFits(row, w) {
		return filter.Capacity, ""
	}
	for _, term := range judgement.Terms {
		if term.Required && !term.Match.Matches(row) {
			return filter.Policy, ""
		}
	}
	return "", ""
}

// referenceNodes reports whether a cluster has a node for the pods of a workload, by their names in differentialAsks.
func referenceNodes(row *snapshot.Row, w *workload.Workload) bool {
	has := func(disk string, tolerated bool) bool {
		return slices.ContainsFunc(row.Nodes.Groups, func(g nodes.Group) bool {
			return (disk == "" || g.Labels["disk"] == disk) && (tolerated || len(g.Taints) == 0)
		})
	}
	return row.Nodes == nil || row.Nodes.Incomplete || map[*nodes.Wishes]func() bool{
		nil:                               func() bool { return has("", false) },
		differentialAsks["a fast disk"]:   func() bool { return has("ssd", false) },
		differentialAsks["anything else"]: func() bool { return has("", true) },
		differentialAsks["both disks"]:    func() bool { return has("ssd", false) && has("hdd", true) },
	}[w.Nodes]()
}

// differentialAsks are requirements of workloads on nodes.
var differentialAsks = func() map[string]*nodes.Wishes {
	anything := []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	ssd, hdd := nodes.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}}, nodes.PodSpec{Tolerations: anything}
	hdd.Affinity.NodeAffinity.Required = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
		{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"hdd"}}}},
	}}
	return map[string]*nodes.Wishes{
		"nothing": nil, "a fast disk": asksOf(ssd), "anything else": asksOf(nodes.PodSpec{Tolerations: anything}), "both disks": asksOf(ssd, hdd),
	}
}()

// asksOf returns the requirements of some pod templates on nodes.
func asksOf(specs ...nodes.PodSpec) *nodes.Wishes {
	all := make([]nodes.Pods, len(specs))
	for i := range specs {
		var err error
		if all[i], err = specs[i].Of("spec", nil); err != nil {
			panic(err)
		}
	}
	w, err := nodes.Of(all)
	if err != nil {
		panic(err)
	}
	return w
}

// referenceFits reports whether a cluster has room for a workload.
func referenceFits(row *snapshot.Row, w *workload.Workload) bool {
	for name, amount := range w.Requests.Each {
		if amount > 0 && row.Free.Get(name) < amount {
			return false
		}
		if row.LargestFree == nil || name == capacity.Storage { // volumes are not on nodes
			continue
		}
		pod := w.Pod.Get(name)
		if w.Pod.IsZero() && amount > 0 {
			pod = (amount-1)/w.Replicas + 1
		}
		if pod > 0 && row.LargestFree.Get(name) < pod {
			return false
		}
	}
	return true
}

// referenceSelect selects from the feasible clusters, best first.
func (q *question) referenceSelect(feasible []referenceCandidate) []referenceCandidate {
	number := 1
	switch spec := &q.placement.object.Spec; spec.Strategy.Type {
	case v1alpha1.StrategySpread, "":
		number = int(ptr.Deref(spec.NumberOfClusters, intstr.FromInt32(3)).IntVal)
	case v1alpha1.StrategyRoundRobin:
		used := map[string]int{}
		for ref, c := range q.world.held {
			if ref != q.workload.Reference && c.placement.Name == q.placement.object.Name {
				for _, s := range c.shares {
					used[s.Cluster]++
				}
			}
		}
		if len(feasible) > 0 {
			return []referenceCandidate{slices.MinFunc(feasible, func(a, b referenceCandidate) int { return cmp.Compare(used[a.name], used[b.name]) })}
		}
	}
	return feasible[:min(number, len(feasible))]
}

// reserved returns what is reserved on a cluster for all workloads but one.
func (w *world) reserved(cluster string, but *workload.Reference) (sum capacity.Resources) {
	for ref, c := range w.held {
		if s := c.on(cluster); s != nil && !s.Expired && (but == nil || ref != *but) {
			sum = sum.Add(s.Amount.Combine(w.counted(cluster, ref), func(a, b int64) int64 { return max(0, a-b) }))
		}
	}
	// A claim of nothing leaves no trace: constraints can distinguish a resource with amount 0 from one that is not listed,
	// and the answer must not depend on who has asked for none of it.
	maps.DeleteFunc(sum.Extended, func(_ string, amount int64) bool { return amount == 0 })
	return sum
}

// counted returns what a cluster reports for a workload's pods.
func (w *world) counted(cluster string, ref workload.Reference) capacity.Resources {
	if c := w.fleet[cluster]; c != nil && ref.UID != "" {
		return c.Counted[ref.UID]
	}
	return capacity.Resources{}
}

// row returns a cluster as a workload sees it: what it holds there itself does not count.
func (w *world) row(cluster string, ref workload.Reference) *snapshot.Row {
	c := *w.fleet[cluster]
	if held, found := w.held[ref]; found && held.on(cluster) != nil {
		mine := w.counted(cluster, ref)
		c.Allocated = c.Allocated.Sub(mine)
		if c.LargestFree != nil {
			largest := c.LargestFree.Add(mine)
			c.LargestFree = &largest
		}
	}
	row := snapshot.NewRow(&c, w.reserved(cluster, &ref))
	row.CostScore = w.costScore(cluster)
	return row
}

// costScore returns where the cost of a cluster is between the most expensive, 0, and the cheapest, 100.
func (w *world) costScore(cluster string) int64 {
	costs := map[string]float64{}
	for name, c := range w.fleet {
		if cost, err := strconv.ParseFloat(c.Labels[v1alpha1.LabelCost], 64); err == nil {
			costs[name] = cost
		}
	}
	cost, known := costs[cluster]
	if !known {
		return 50
	}
	all := slices.Collect(maps.Values(costs))
	least, most := slices.Min(all), slices.Max(all)
	if least == most {
		return 100
	}
	return int64(math.Round(100 * ((most - cost) / (most - least))))
}

// usual returns what the workloads of a workspace usually ask for, if the policies use it: of each magnitude the shape of the
// most claims.
func (w *world) usual(judgement *policy.Judgement) *capacity.Usual {
	if judgement.Weights.Factors[scoring.Packing] == 0 {
		return nil
	}
	type shape struct{ cpu, memory, storage, gpus int64 }
	counts := map[shape]int{}
	for _, c := range w.held {
		for _, s := range c.shares {
			if !s.Amount.IsZero() {
				counts[shape{s.Amount.CPU, s.Amount.Memory, s.Amount.Storage, s.Amount.Extended[gpu]}]++
			}
		}
	}
	floor := func(n int) int {
		power := 1
		for ; 2*power <= n; power *= 2 {
		}
		return power
	}
	compare := func(a, b shape) int {
		gpus := func(n int64) string {
			if n == 0 {
				return ""
			}
			return fmt.Sprintf("%s=%d,", gpu, n)
		}
		return cmp.Or(cmp.Compare(a.cpu, b.cpu), cmp.Compare(a.memory, b.memory), cmp.Compare(a.storage, b.storage), strings.Compare(gpus(a.gpus), gpus(b.gpus)))
	}
	type group struct {
		shape
		weight int
	}
	groups := map[string]*group{}
	for s, n := range counts {
		size := fmt.Sprint(bits.Len64(uint64(s.cpu)), bits.Len64(uint64(s.memory)), bits.Len64(uint64(s.storage)), bits.Len64(uint64(s.gpus)))
		g := groups[size]
		if g == nil {
			g = &group{shape: s}
			groups[size] = g
		}
		g.weight += floor(n)
		if order := cmp.Or(cmp.Compare(floor(n), floor(counts[g.shape])), compare(s, g.shape)); order > 0 {
			g.shape = s
		}
	}
	sorted := slices.SortedFunc(maps.Values(groups), func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), compare(b.shape, a.shape))
	})
	sorted = sorted[:min(len(sorted), capacity.MaxShapes)]
	total := 0
	for _, g := range sorted {
		total += g.weight
	}
	var shapes []capacity.Shape
	for _, g := range sorted {
		requests := capacity.Resources{CPU: g.cpu, Memory: g.memory, Storage: g.storage}
		if g.gpus > 0 {
			requests.Extended = map[string]int64{gpu: g.gpus}
		}
		shapes = append(shapes, capacity.Shape{Requests: requests, Share: float64(g.weight) / float64(total)})
	}
	if len(shapes) == 0 {
		return nil
	}
	return capacity.NewUsual(shapes)
}

// checkReservations compares what the engine reports as reserved on every cluster with what is.
func (h *history) checkReservations(t *rapid.T) {
	for _, w := range h.worlds {
		rows := h.engine.Snapshot(w.name).Rows()
		if len(rows) != len(w.fleet) {
			t.Fatalf("%d clusters in %s, want %d", len(rows), w.name, len(w.fleet))
		}
		for i, name := range slices.Sorted(maps.Keys(w.fleet)) {
			want := snapshot.NewRow(w.fleet[name], w.reserved(name, nil))
			got := rows[i]
			if got.Name != name || !got.Reserved.Equal(want.Reserved) || !got.Free.Equal(want.Free) || !got.Utilization().Equal(want.Utilization()) ||
				got.HealthScore != want.HealthScore || got.PerformanceScore != want.PerformanceScore || got.CostScore != w.costScore(name) {
				t.Fatalf("%s in %s is\n%+v, want\n%+v", name, w.name, got, want)
			}
		}
	}
}

// shortages returns by how much each cluster is overcommitted, because it has shrunk or claims were restored.
func (h *history) shortages(w *world) map[string]int64 {
	short := map[string]int64{}
	for _, row := range h.engine.Snapshot(w.name).Rows() {
		for name, free := range row.Free.Each {
			if free < 0 {
				short[row.Name+" "+name] = -free
			}
		}
	}
	return short
}

// checkShortages checks that deciding has neither created nor increased a shortage.
func (h *history) checkShortages(t *rapid.T, w *world, before map[string]int64) {
	for what, short := range h.shortages(w) {
		if short > before[what] {
			t.Fatalf("%s in %s is short of %d, was of %d: more was promised than there is", what, w.name, short, before[what])
		}
	}
}

func copyOf(c *snapshot.Cluster) *snapshot.Cluster {
	again := *c
	again.Labels = maps.Clone(c.Labels)
	again.Capabilities, again.Taints, again.Conditions = slices.Clone(c.Capabilities), slices.Clone(c.Taints), slices.Clone(c.Conditions)
	again.Allocatable.Extended, again.Allocated.Extended = maps.Clone(c.Allocatable.Extended), maps.Clone(c.Allocated.Extended)
	again.Counted = maps.Clone(c.Counted)
	return &again
}

func (h *history) drawCluster(t *rapid.T) *snapshot.Cluster {
	c := &snapshot.Cluster{Name: draw(t, "cluster", h.names...)}
	drawFacts(t, c)
	drawCapacity(t, c)
	drawAllocated(t, c)
	return c
}

func drawFacts(t *rapid.T, c *snapshot.Cluster) {
	c.Location = draw(t, "location", "eu", "us", "ap", "")
	c.Labels = drawMap(t, "label", map[string][]string{"tier": {"gold", "silver", "bronze"}, "zone": {"a", "b"}, "rank": {"0", "1", "x"}, v1alpha1.LabelCost: {"0", "1", "2.5", "7", "cheap"}})
	c.Capabilities, c.Taints, c.Scores = nil, nil, nil
	for _, name := range []string{"cheap", "green"} {
		if rapid.Bool().Draw(t, "has score") {
			c.Scores = append(c.Scores, snapshot.Score{
				Name: name, Value: rapid.Int64Range(-100, 100).Draw(t, "score"),
				Expired: rapid.SampledFrom([]time.Time{{}, {}, time.Unix(1, 0)}).Draw(t, "expired"),
			})
		}
	}
	for _, kind := range []string{"gpu", "ssd"} {
		if !oneIn(t, "has no "+kind, 3) {
			c.Capabilities = append(c.Capabilities, snapshot.Capability{
				Type: kind, Available: draw(t, "available", true, true, false),
				Attributes: drawMap(t, "attribute", map[string][]string{"model": {"a100", "t4"}}),
			})
		}
	}
	if oneIn(t, "tainted", 6) {
		c.Taints = []corev1.Taint{{
			Key:    draw(t, "taint", "dedicated", "maintenance"),
			Value:  draw(t, "value", "", "ml"),
			Effect: draw(t, "effect", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute),

			TimeAdded: draw(t, "added", nil, &taintsAdded),
		}}
	}
	c.Unschedulable, c.Draining = oneIn(t, "is cordoned", 8), oneIn(t, "is drained", 8)
	c.Nodes = nil
	if oneIn(t, "tells of its nodes", 3) {
		c.Nodes = &nodes.Summary{Incomplete: oneIn(t, "not of all", 6)}
		for range 1 + below(t, "node groups", 3) {
			g := nodes.Group{Labels: drawMap(t, "node label", map[string][]string{"disk": {"ssd", "hdd"}}), Count: 1 + int64(below(t, "nodes", 3))}
			if oneIn(t, "nodes are not counted", 6) {
				g.Count = 0
			}
			if oneIn(t, "node taint", 3) {
				g.Taints = []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}
			}
			c.Nodes.Groups = append(c.Nodes.Groups, g)
		}
	}
	c.Conditions = nil
	if status := draw(t, "ready", "True", "True", "True", "True", "True", "True", "True", "True", "True", "False", "Unknown", ""); status != "" {
		c.Conditions = []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: status}}
		if status == "False" && oneIn(t, "lost", 2) {
			c.Conditions[0].Reason = v1alpha1.ClusterLostReason
		}
	}
	if oneIn(t, "under pressure", 8) {
		c.Conditions = append(c.Conditions, snapshot.Condition{Type: "Pressure", Status: "True"})
	}
	c.Invalid = ""
	if oneIn(t, "invalid", 20) {
		c.Invalid = "status.allocatable.cpu: -1 is negative"
	}
}

func drawCapacity(t *rapid.T, c *snapshot.Cluster) {
	c.Allocatable, c.UsableNodes = drawAmounts(t, "allocatable", 24), int64(below(t, "usable nodes", 5))
}

func drawAllocated(t *rapid.T, c *snapshot.Cluster) {
	c.Allocated, c.Counted, c.LargestFree = drawAmounts(t, "allocated", 6), nil, nil
	for _, name := range some(t, "counted", 0, 3, differentialWorkloads) {
		if c.Counted == nil {
			c.Counted = map[string]capacity.Resources{}
		}
		amount := drawAmounts(t, "counted", 3)
		uid := uidOf(draw(t, "kind", "Deployment", "DaemonSet"), name)
		c.Allocated = c.Allocated.Combine(amount, func(a, b int64) int64 { return min(capacity.MaxAmount, a+b) })
		c.Counted[uid] = amount
	}
	if oneIn(t, "nodes are known", 3) {
		largest := drawAmounts(t, "largest free", 6)
		c.LargestFree = &largest
	}
}

// uidOf is the UID of a workload; some have none.
func uidOf(kind, name string) string {
	if kind == "Job" {
		return ""
	}
	return "uid of " + kind + name
}

// drawAmounts draws amounts below most, and now and then one near MaxAmount.
func drawAmounts(t *rapid.T, what string, most int) (r capacity.Resources) {
	amount := func(name string) int64 {
		if oneIn(t, "huge "+what+" "+name, 50) {
			return draw(t, what+" "+name, 1<<32, 1<<50, capacity.MaxAmount/3, capacity.MaxAmount)
		}
		return int64(below(t, what+" "+name, most))
	}
	r.CPU, r.Memory = amount(capacity.CPU), amount(capacity.Memory)
	if what == "allocatable" || oneIn(t, what+" has storage", 3) {
		r.Storage = amount(capacity.Storage)
	}
	if oneIn(t, what+" has gpus", 3) {
		r.Extended = map[string]int64{gpu: amount(gpu)}
	}
	return r
}

func drawWorkload(t *rapid.T) *workload.Workload {
	w := &workload.Workload{
		Reference: workload.Reference{
			APIVersion: "apps/v1", Kind: draw(t, "kind", "Deployment", "Deployment", "Job", "DaemonSet"),
			Namespace: "default", Name: draw(t, "workload", differentialWorkloads...),
		},
		Labels: drawMap(t, "label", map[string][]string{"tier": {"gold", "silver"}, "regions": {"eu", "eu_ap"}, "default": {"a", "b"}}),
		Annotations: drawMap(t, "annotation", map[string][]string{
			v1alpha1.AnnotationPreferredCluster:  {"a", "d", "elsewhere", ""},
			v1alpha1.AnnotationAvoidCluster:      {"b", "d"},
			v1alpha1.AnnotationPreferredLocation: {"eu", "mars"},
			"near":                               {"us"},
		}),
		Replicas: int64(1 + below(t, "replicas", 3)),
		Requests: drawAmounts(t, "requests", 4),
		Nodes:    differentialAsks[draw(t, "asks of nodes", "nothing", "nothing", "a fast disk", "anything else", "both disks")],
	}
	w.UID, w.PerNode = uidOf(w.Kind, w.Name), w.Kind == "DaemonSet"
	w.Divisible = !w.PerNode
	if oneIn(t, "one pod requests it all", 4) {
		w.Pod = w.Requests
		w.Pod.Storage = 0
	}
	return w
}

// drawMap draws some of the keys, each with one of its values.
func drawMap(t *rapid.T, what string, values map[string][]string) map[string]string {
	if oneIn(t, "no "+what, 4) {
		return nil
	}
	drawn := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !oneIn(t, "has no "+key, 3) {
			drawn[key] = draw(t, key, values[key]...)
		}
	}
	return drawn
}

func (h *history) drawPlacement(t *rapid.T, index int) *placed {
	object := &v1alpha1.WorkloadPlacement{}
	object.Name, object.Namespace = fmt.Sprintf("p%d", index), "default"
	object.Labels = drawMap(t, "label", map[string][]string{"team": {"shop", "ml"}})
	spec := &object.Spec
	spec.Strategy.Type = draw(t, "strategy",
		"", v1alpha1.StrategySpread, v1alpha1.StrategyRoundRobin, v1alpha1.StrategyAffinity,
	)
	if number := int32(below(t, "number of clusters", 5)); number > 0 {
		spec.NumberOfClusters = ptr.To(intstr.FromInt32(number))
	}
	expressions := some(t, "constraints", 0, 2, tenantConstraints)
	for i, expression := range expressions {
		spec.Constraints = append(spec.Constraints, v1alpha1.Constraint{
			Name: fmt.Sprintf("c%d", i), Expression: expression, RequiredDuringExecution: oneIn(t, "required during execution", 3),
		})
	}
	if oneIn(t, "selects locations", 4) {
		spec.LocationSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "location", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"us"}},
		}}
	}
	if oneIn(t, "selects clusters", 4) {
		spec.ClusterSelector = &v1alpha1.ClusterSelector{
			LabelSelector: &metav1.LabelSelector{MatchLabels: drawMap(t, "label", map[string][]string{"zone": {"a"}})},
			ClusterNames:  some(t, "names", 0, 6, differentialClusters),
		}
	}
	if oneIn(t, "requires a capability", 4) {
		spec.CapabilityRequirements = []v1alpha1.CapabilityRequirement{{Type: "gpu", Required: rapid.Bool().Draw(t, "required")}}
	}
	if oneIn(t, "tolerates", 4) {
		spec.Tolerations = draw(t, "tolerations", [][]corev1.Toleration{
			{{Operator: corev1.TolerationOpExists}},
			{{Key: "dedicated", Value: "ml"}},
			{{Key: "maintenance", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}},
			{{Key: "dedicated", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](60)}},
			{
				{Key: "maintenance", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](120)},
				{Operator: corev1.TolerationOpExists},
			},
		}...)
	}
	if oneIn(t, "chosen together", 3) {
		h.drawTogether(t, spec)
	}
	compiled, err := h.engine.CompilePlacement(object)
	if err != nil {
		t.Fatal(err)
	}
	return &placed{object, compiled}
}

// drawTogether draws the fields that make clusters be chosen together.
func (h *history) drawTogether(t *rapid.T, spec *v1alpha1.WorkloadPlacementSpec) {
	p := &puzzle{Rand: rand.New(rand.NewPCG(0, uint64(uniform.Draw(t, "seed"))))}
	if spec.Strategy.Type == "" || spec.Strategy.Type == v1alpha1.StrategySpread {
		spec.Strategy.Type = draw(t, "strategy", v1alpha1.StrategySpread, v1alpha1.StrategyBinPack, v1alpha1.StrategyWeighted)
		switch below(t, "how many", 4) {
		case 0:
			spec.NumberOfClusters = ptr.To(intstr.FromString(v1alpha1.AllClusters))
		case 1:
			spec.NumberOfClusters, spec.MinClusters = ptr.To(intstr.FromInt32(4)), 2
		}
		if oneIn(t, "divided", 2) {
			p.drawDivision(spec)
		}
	}
	if oneIn(t, "spread", 2) {
		p.drawSpread(spec)
	}
	if oneIn(t, "fallback", 2) {
		tiers := []string{"gold", "silver"}
		for i, name := range some(t, "groups", 1, 2, []string{"x", "y"}) {
			spec.Fallback = append(spec.Fallback, v1alpha1.ClusterGroup{
				Name: name, ClusterSelector: &v1alpha1.ClusterSelector{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": tiers[i]}}},
			})
		}
		spec.Fallback = append(spec.Fallback, v1alpha1.ClusterGroup{Name: "all"})
	}
}
