package engine_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/int128"
)

// baseline decides as the engine does for the constraints of benchSpec and the built-in policies, and for nothing else. It
// holds what it decided for one workload until it decides again. The engine is measured against it.
type baseline interface {
	decide(w *workload.Workload) []pick
}

// pick is a cluster that was chosen, with its total.
type pick struct {
	name  string
	total int64
}

// naive uses cel-go and OPA as their documentation describes: expressions and policy are compiled once and evaluated
// per cluster over maps, with cost tracking as in Kubernetes. The maps of a cluster are made when it changes.
type naive struct {
	clusters []naiveCluster
	programs []cel.Program
	policy   rego.PreparedEvalQuery
	held     []int // indices of clusters
	amounts  amounts
}

type naiveCluster struct {
	*snapshot.Cluster
	reserved, free    amounts
	cluster, capacity map[string]any
}

type amounts struct{ cpu, memory int64 }

// naivePolicy scores one cluster as docs/policies.md describes.
const naivePolicy = `package naive

weights := {"capacity": 30, "health": 30, "performance": 20, "affinity": 10, "location": 10}

total := floor(weighted / sum([weight | some weight in weights]))

weighted := sum([product |
	some name, score in factors
	product := weights[name] * score
])

factors := {
	"capacity": floor((coverage("cpu") + coverage("memory")) / 2),
	"health": health,
	"performance": performance,
	"affinity": clamp((50 + preferred) + avoided),
	"location": clamp(50 + near),
}

coverage(resource) := covered(input.capacity.free[resource], input.workload.requests[resource])

covered(free, required) := 100 if {
	required <= 0
} else := 100 if {
	free >= 10 * required
} else := 80 if {
	free >= 5 * required
} else := 60 if {
	free >= 2 * required
} else := 40 if {
	free >= required
} else := 0

default health := 0

health := 100 if input.cluster.ready == "True"

health := 50 if input.cluster.ready == "False"

# mean_below tells whether the mean of used / allocatable of CPU and memory is below so many percent, without dividing.
mean_below(percent) if {
	used := input.capacity.used
	allocatable := input.capacity.allocatable
	50 * ((used.cpu * allocatable.memory) + (used.memory * allocatable.cpu)) < (percent * allocatable.cpu) * allocatable.memory
}

performance := 100 if {
	mean_below(50)
} else := 70 if {
	mean_below(80)
} else := 40 if {
	mean_below(95)
} else := 10

clamp(score) := max([0, min([100, score])])

wish(annotation) := value if {
	value := input.workload.annotations[annotation]
	value != ""
}

default preferred := 0

preferred := 50 if wish("tmc.kcp.io/preferred-cluster") == input.cluster.name

preferred := -25 if wish("tmc.kcp.io/preferred-cluster") != input.cluster.name

default avoided := 0

avoided := -50 if wish("tmc.kcp.io/avoid-cluster") == input.cluster.name

default near := 0

near := 50 if wish("tmc.kcp.io/preferred-location") == input.cluster.location

near := -20 if wish("tmc.kcp.io/preferred-location") != input.cluster.location
`

func newNaive(t testing.TB, fleet []*snapshot.Cluster) *naive {
	t.Helper()
	env, err := cel.NewEnv(
		cel.Variable("cluster", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("capacity", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("workload", cel.MapType(cel.StringType, cel.DynType)),
	)
	if err != nil {
		t.Fatal(err)
	}
	n := &naive{}
	for _, c := range benchSpec.Constraints {
		checked, issues := env.Compile(c.Expression)
		if issues.Err() != nil {
			t.Fatal(issues.Err())
		}
		program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize, cel.OptTrackCost), cel.CostLimit(1_000_000),
			cel.InterruptCheckFrequency(100))
		if err != nil {
			t.Fatal(err)
		}
		n.programs = append(n.programs, program)
	}
	n.policy, err = rego.New(rego.Query("data.naive.total"), rego.Module("naive.rego", naivePolicy)).PrepareForEval(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range fleet {
		n.clusters = append(n.clusters, naiveCluster{Cluster: c})
		n.clusters[len(n.clusters)-1].refresh()
	}
	return n
}

// refresh makes the maps of the cluster.
func (c *naiveCluster) refresh() {
	used := amounts{c.Allocated.CPU + c.reserved.cpu, c.Allocated.Memory + c.reserved.memory}
	c.free = amounts{c.Allocatable.CPU - used.cpu, c.Allocatable.Memory - used.memory}
	labels := make(map[string]any, len(c.Labels))
	for key, value := range c.Labels {
		labels[key] = value
	}
	capabilities := make([]any, len(c.Capabilities))
	for i, capability := range c.Capabilities {
		capabilities[i] = map[string]any{"type": capability.Type, "available": capability.Available}
	}
	ready, _ := c.Condition(snapshot.ReadyCondition)
	c.cluster = map[string]any{
		"name": c.Name, "location": c.Location, "ready": ready.Status, "labels": labels, "capabilities": capabilities,
	}
	c.capacity = map[string]any{
		"free":        map[string]any{"cpu": c.free.cpu, "memory": c.free.memory},
		"used":        map[string]any{"cpu": used.cpu, "memory": used.memory},
		"allocatable": map[string]any{"cpu": c.Allocatable.CPU, "memory": c.Allocatable.Memory},
	}
}

func (n *naive) decide(w *workload.Workload) []pick {
	n.reserve(nil, amounts{})
	type candidate struct {
		pick
		headroom int64
		index    int
	}
	annotations := make(map[string]any, len(w.Annotations))
	for key, value := range w.Annotations {
		annotations[key] = value
	}
	asked := amounts{w.Requests.CPU, w.Requests.Memory}
	input := map[string]any{
		"annotations": annotations, "requests": map[string]any{"cpu": asked.cpu, "memory": asked.memory},
	}
	var candidates []candidate
	for i := range n.clusters {
		c := &n.clusters[i]
		variables := map[string]any{"cluster": c.cluster, "capacity": c.capacity, "workload": input}
		if c.cluster["ready"] != "True" || !n.holds(variables) ||
			asked.cpu > 0 && c.free.cpu < asked.cpu || asked.memory > 0 && c.free.memory < asked.memory {
			continue
		}
		results, err := n.policy.Eval(context.Background(), rego.EvalInput(variables))
		if err != nil || len(results) != 1 {
			panic(fmt.Sprint(results, err))
		}
		total, err := results[0].Expressions[0].Value.(json.Number).Int64()
		if err != nil {
			panic(err)
		}
		headroom := min(
			permillion(c.free.cpu, asked.cpu, c.Allocatable.CPU),
			permillion(c.free.memory, asked.memory, c.Allocatable.Memory),
		)
		candidates = append(candidates, candidate{pick{c.Name, total}, headroom, i})
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.total, a.total), cmp.Compare(b.headroom, a.headroom), strings.Compare(a.name, b.name))
	})
	var picks []pick
	var chosen []int
	for _, c := range candidates[:min(3, len(candidates))] {
		picks, chosen = append(picks, c.pick), append(chosen, c.index)
	}
	n.reserve(chosen, asked)
	return picks
}

// holds reports whether all constraints hold; one that errs does not.
func (n *naive) holds(variables map[string]any) bool {
	for _, program := range n.programs {
		value, _, err := program.ContextEval(context.Background(), variables)
		if err != nil || value.Value() != true {
			return false
		}
	}
	return true
}

// reserve reserves an amount on clusters in place of what was reserved before.
func (n *naive) reserve(clusters []int, asked amounts) {
	for _, i := range n.held {
		c := &n.clusters[i]
		c.reserved.cpu -= n.amounts.cpu
		c.reserved.memory -= n.amounts.memory
		c.refresh()
	}
	for _, i := range clusters {
		c := &n.clusters[i]
		c.reserved.cpu += asked.cpu
		c.reserved.memory += asked.memory
		c.refresh()
	}
	n.held, n.amounts = clusters, asked
}

// permillion is floor(1,000,000 x (free - asked) / allocatable), and 1,000,000 if nothing is asked for.
func permillion(free, asked, allocatable int64) int64 {
	if asked <= 0 {
		return 1_000_000
	}
	hi, lo := bits.Mul64(uint64(free-asked), 1_000_000)
	quotient, _ := bits.Div64(hi, lo, uint64(allocatable))
	return int64(quotient)
}

// short reports whether permillion of the same arguments is below least.
func short(free, asked, allocatable int64, least uint64) bool {
	hi, lo := bits.Mul64(uint64(free-asked), 1_000_000)
	leastHi, leastLo := bits.Mul64(uint64(allocatable), least)
	return asked > 0 && (hi < leastHi || hi == leastHi && lo < leastLo)
}

// native does the same by hand: one loop over an array, only for these constraints and weights. Labels and capabilities
// are bits, the part of the score that depends only on the cluster is added up when it changes, thresholds are multiplied
// once instead of dividing per cluster, and headroom, which is expensive, is computed only for clusters that could be
// among the best three.
type native struct {
	clusters []nativeCluster // by name
	indices  map[string]int32
	names    []string
	// locations by name, counted from 1.
	locations map[string]uint8
	held      [3]int32
	holds     int
	amounts   amounts
}

type nativeCluster struct {
	free, allocatable amounts
	// factScore is the part of the weighted sum that depends only on the cluster.
	factScore int32
	location  uint8
	facts     uint8
}

const (
	factReady = 1 << iota
	factSSD
	factZone
	factGold
	factSilver

	factsAll = factReady | factSSD | factZone
	factsAny = factGold | factSilver
)

func newNative(fleet []*snapshot.Cluster) *native {
	n := &native{indices: map[string]int32{}, locations: map[string]uint8{}}
	for i, c := range fleet {
		row := nativeCluster{
			free:        amounts{c.Allocatable.CPU - c.Allocated.CPU, c.Allocatable.Memory - c.Allocated.Memory},
			allocatable: amounts{c.Allocatable.CPU, c.Allocatable.Memory},
		}
		if n.locations[c.Location] == 0 {
			n.locations[c.Location] = uint8(len(n.locations) + 1)
		}
		row.location = n.locations[c.Location]
		for fact, holds := range map[uint8]bool{
			factReady: c.Ready(), factGold: c.Labels["tier"] == "gold", factSilver: c.Labels["tier"] == "silver",
			factSSD: slices.ContainsFunc(c.Capabilities, func(c snapshot.Capability) bool { return c.Type == "ssd" && c.Available }),
		} {
			if holds {
				row.facts |= fact
			}
		}
		if _, found := c.Labels["zone"]; found {
			row.facts |= factZone
		}
		row.refresh()
		n.clusters, n.names = append(n.clusters, row), append(n.names, c.Name)
		n.indices[c.Name] = int32(i)
	}
	return n
}

// refresh computes what depends only on the cluster. Health is 100 for all that are Ready; others are never chosen.
func (c *nativeCluster) refresh() {
	used := int128.Mul(50*(c.allocatable.cpu-c.free.cpu), c.allocatable.memory).
		Add(int128.Mul(50*(c.allocatable.memory-c.free.memory), c.allocatable.cpu))
	performance := int32(10)
	switch { // the mean of both in percent, both sides times what is allocatable
	case used.Less(int128.Mul(50*c.allocatable.cpu, c.allocatable.memory)):
		performance = 100
	case used.Less(int128.Mul(80*c.allocatable.cpu, c.allocatable.memory)):
		performance = 70
	case used.Less(int128.Mul(95*c.allocatable.cpu, c.allocatable.memory)):
		performance = 40
	}
	c.factScore = 30*100 + 20*performance
}

// thresholds are the amounts that must be free to cover a request that many times.
type thresholds struct{ ten, five, two, one int64 }

func newThresholds(request int64) thresholds {
	if request <= 0 {
		return thresholds{ten: math.MinInt64}
	}
	return thresholds{10 * request, 5 * request, 2 * request, request}
}

func (t *thresholds) score(free int64) int32 {
	switch {
	case free >= t.ten:
		return 100
	case free >= t.five:
		return 80
	case free >= t.two:
		return 60
	case free >= t.one:
		return 40
	default:
		return 0
	}
}

// wishes are what a workload's annotations ask for; -1 and 0 where they ask for nothing.
type wishes struct {
	preferred, avoided int32
	any                bool
	location           uint8
	hasPreferred       bool
	hasLocation        bool
}

func (n *native) wishes(w *workload.Workload) wishes {
	s := wishes{preferred: -1, avoided: -1}
	if len(w.Annotations) == 0 {
		return s
	}
	if name := w.Annotations[v1alpha1.AnnotationPreferredCluster]; name != "" {
		s.any, s.hasPreferred = true, true
		if i, found := n.indices[name]; found {
			s.preferred = i
		}
	}
	if i, found := n.indices[w.Annotations[v1alpha1.AnnotationAvoidCluster]]; found {
		s.any, s.avoided = true, i
	}
	if name := w.Annotations[v1alpha1.AnnotationPreferredLocation]; name != "" {
		s.any, s.hasLocation, s.location = true, true, n.locations[name]
	}
	return s
}

// moved is affinity and location together.
func (s *wishes) moved(i int32, location uint8) int32 {
	affinity, near := int32(50), int32(50)
	if s.hasPreferred {
		affinity -= 25
		if i == s.preferred {
			affinity += 75
		}
	}
	if i == s.avoided {
		affinity -= 50
	}
	if s.hasLocation {
		near -= 20
		if location == s.location {
			near += 70
		}
	}
	return min(max(affinity, 0), 100) + min(max(near, 0), 100)
}

func (n *native) decide(w *workload.Workload) []pick {
	n.reserve([3]int32{}, 0, amounts{})
	asked := amounts{w.Requests.CPU, w.Requests.Memory}
	cpu, memory, wish := newThresholds(asked.cpu), newThresholds(asked.memory), n.wishes(w)
	// What must be free: twice the requested CPU, the requested memory, and some memory at all.
	leastCPU, leastMemory := 2*asked.cpu, max(asked.memory, 1)
	// A key is a total with the headroom below it. Later clusters have later names, so they must be better. Headroom is a
	// share of what is allocatable, 1,000,000 at most.
	const headroomBits = 20
	var keys [3]uint64
	var best [3]int32
	for i := range n.clusters {
		c := &n.clusters[i]
		if c.facts&factsAll != factsAll || c.facts&factsAny == 0 || c.free.cpu < leastCPU || c.free.memory < leastMemory {
			continue
		}
		moved := int32(100)
		if wish.any {
			moved = wish.moved(int32(i), c.location)
		}
		total := uint64(c.factScore+30*((cpu.score(c.free.cpu)+memory.score(c.free.memory))/2)+10*moved) / 100
		// Totals count from 1 here, so that no key is that of an empty place.
		key := (total + 1) << headroomBits
		if key+1_000_000 <= keys[2] {
			continue
		}
		if key <= keys[2] {
			// Most have too little headroom, which shows without division.
			least := keys[2] - key + 1
			if short(c.free.cpu, asked.cpu, c.allocatable.cpu, least) || short(c.free.memory, asked.memory, c.allocatable.memory, least) {
				continue
			}
		}
		key += uint64(min(
			permillion(c.free.cpu, asked.cpu, c.allocatable.cpu), permillion(c.free.memory, asked.memory, c.allocatable.memory),
		))
		switch {
		case key <= keys[1]:
			keys[2], best[2] = key, int32(i)
		case key <= keys[0]:
			keys[1], keys[2], best[1], best[2] = key, keys[1], int32(i), best[1]
		default:
			keys[0], keys[1], keys[2], best[0], best[1], best[2] = key, keys[0], keys[1], int32(i), best[0], best[1]
		}
	}
	picks := make([]pick, 0, 3)
	for i, key := range keys {
		if key > 0 {
			picks = append(picks, pick{n.names[best[i]], int64(key>>headroomBits) - 1})
		}
	}
	n.reserve(best, len(picks), asked)
	return picks
}

// reserve reserves an amount on the first number of clusters in place of what was reserved before.
func (n *native) reserve(clusters [3]int32, number int, asked amounts) {
	for _, i := range n.held[:n.holds] {
		c := &n.clusters[i]
		c.free.cpu += n.amounts.cpu
		c.free.memory += n.amounts.memory
		c.refresh()
	}
	for _, i := range clusters[:number] {
		c := &n.clusters[i]
		c.free.cpu -= asked.cpu
		c.free.memory -= asked.memory
		c.refresh()
	}
	n.held, n.holds, n.amounts = clusters, number, asked
}

// agree checks that a baseline has the same results as the engine.
func agree(t testing.TB, e *engine.Engine, p *placement.Placement, b baseline, w *workload.Workload) (chosen int) {
	t.Helper()
	d, err := e.Decide(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: w})
	if err != nil {
		t.Fatal(err)
	}
	var want []pick
	for _, c := range d.Clusters {
		want = append(want, pick{c.Name, c.Score})
	}
	if got := b.decide(w); !slices.Equal(got, want) {
		t.Fatalf("%T chose %v, the engine %v, for %+v", b, got, want, w)
	}
	return len(want)
}

// TestBaselinesAgree: the baselines give the engine's answers, for all fleets and workloads that they know.
func TestBaselinesAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 2, 5, 60} {
		var fleet []*snapshot.Cluster
		e := newEngine(t, engine.Options{})
		for i := range size {
			c := fleetCluster(i, 0)
			// A few amounts, for ties.
			c.Allocatable.CPU, c.Allocatable.Memory = 1000*(1+random.Int64N(4)), 1<<30*(1+random.Int64N(4))
			c.Allocated.CPU = c.Allocatable.CPU / 4 * random.Int64N(5)
			c.Allocated.Memory = c.Allocatable.Memory / 4 * random.Int64N(5)
			if random.IntN(8) == 0 {
				delete(c.Labels, []string{"tier", "zone"}[random.IntN(2)])
			}
			c.Capabilities[1].Available = random.IntN(8) > 0
			c.Conditions[0].Status = []string{"True", "True", "True", "False", "Unknown"}[random.IntN(5)]
			fleet = append(fleet, c)
			e.SetCluster(ws, c)
		}
		p := compile(t, e, benchSpec)
		both := []baseline{newNaive(t, fleet), newNative(fleet)}
		chosen := 0
		for range 100 {
			w := benchWorkload("w", 100*random.Int64N(6), 1<<27*random.Int64N(6))
			w.Annotations = map[string]string{}
			for _, annotation := range []string{v1alpha1.AnnotationPreferredCluster, v1alpha1.AnnotationAvoidCluster} {
				if random.IntN(2) == 0 {
					w.Annotations[annotation] = fleetName(random.IntN(size + 1))
				}
			}
			if random.IntN(2) == 0 {
				w.Annotations[v1alpha1.AnnotationPreferredLocation] = []string{"eu", "us", "mars"}[random.IntN(3)]
			}
			for _, b := range both {
				chosen += agree(t, e, p, b, w)
			}
		}
		if size == 60 && chosen == 0 {
			t.Error("nothing was ever chosen")
		}
	}
}

// benchmarkBaseline decides for classes never seen before, as BenchmarkDecideUncached does.
func benchmarkBaseline(b *testing.B, checks int, make func([]*snapshot.Cluster) baseline) {
	overSizes(b, func(b *testing.B, s *scene) {
		b.StopTimer()
		fleet := []*snapshot.Cluster{}
		for i := range s.size {
			fleet = append(fleet, fleetCluster(i, 0))
		}
		baseline := make(fleet)
		for i := range checks {
			agree(b, s.engine, s.placement, baseline, newClass(i*997))
		}
		b.ResetTimer()
		b.StartTimer()
		for i := 0; b.Loop(); i++ {
			if len(baseline.decide(newClass(i))) != 3 {
				b.Fatal("not three")
			}
		}
	})
}

// BenchmarkBaselineNaive: the two libraries, used as their documentation describes.
func BenchmarkBaselineNaive(b *testing.B) {
	benchmarkBaseline(b, 1, func(fleet []*snapshot.Cluster) baseline { return newNaive(b, fleet) })
}

// BenchmarkBaselineNative: the limit, one policy written by hand in Go.
func BenchmarkBaselineNative(b *testing.B) {
	benchmarkBaseline(b, 100, func(fleet []*snapshot.Cluster) baseline { return newNative(fleet) })
}
