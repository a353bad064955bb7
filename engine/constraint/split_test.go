package constraint_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestSplit shows what expressions are split into: a line for each conjunct, with what is left of it for CEL, what that
// reads, and the comparisons.
func TestSplit(t *testing.T) {
	for _, test := range []struct{ expression, want string }{
		{`cluster.labels["tier"] == "gold"`,
			`cluster.labels["tier"] == "gold" <- cluster`},
		{`capacity.free.cpu >= 2 * workload.requests.cpu`,
			`@0 | @0: capacity.free.cpu >= 2 * workload.requests.cpu`},
		{`cluster.labels["tier"] == "gold" && (capacity.free.cpu >= 4000 && (capacity.free.memory >= quantity("4Gi") && true))`,
			`cluster.labels["tier"] == "gold" <- cluster` + "\n" +
				`@0 | @0: capacity.free.cpu >= 4000` + "\n" +
				`@0 | @0: capacity.free.memory >= quantity("4Gi")` + "\n" +
				`true`},
		{`cluster.labels.exists(k, k == "zone" && capacity.free.memory > 0)`,
			`cluster.labels.exists(k, k == "zone" && @0) <- cluster | @0: capacity.free.memory > 0`},
		{`capacity.free.cpu - workload.requests.cpu >= capacity.allocatable.cpu / 4`,
			`@0 | @0: capacity.free.cpu - workload.requests.cpu >= capacity.allocatable.cpu / 4`},
		{`capacity.utilization.cpu < 80 && capacity.performanceScore >= 70 && capacity.healthScore == 100`,
			`@0 | @0: capacity.utilization.cpu < 80` + "\n" +
				`@0 | @0: capacity.performanceScore >= 70` + "\n" +
				`@0 | @0: capacity.healthScore == 100`},
		{`-capacity.free["cpu"] % 7 != capacity.reserved.storage`,
			`@0 | @0: -(capacity.free["cpu"]) % 7 != capacity.reserved.storage`},
		{`"nvidia.com/gpu" in workload.requests || capacity.free[?"nvidia.com/gpu"].orValue(0) == 0`,
			`@0 || @1 | @0: "nvidia.com/gpu" in workload.requests | @1: capacity.free[?"nvidia.com/gpu"].orValue(0) == 0`},
		{`"nvidia.com/gpu" in capacity.free && capacity.free["nvidia.com/gpu"] >= 4`,
			`@0 | @0: "nvidia.com/gpu" in capacity.free` + "\n" +
				`@0 | @0: capacity.free["nvidia.com/gpu"] >= 4`},
		{`has(capacity.free.tpu) ? capacity.free.tpu > 1 : capacity.free.?gpu.orValue(-1) > 1`,
			`@0 ? @1 : @2 | @0: has(capacity.free.tpu) | @1: capacity.free.tpu > 1 | @2: capacity.free.?gpu.orValue(-1) > 1`},
		{`capacity.free.?tpu.hasValue() == (workload.replicas > 3)`,
			`@0 == @1 | @0: capacity.free.?tpu.hasValue() | @1: workload.replicas > 3`},
		{`workload.replicas < 10 || capacity.allocatable.cpu > 64000`,
			`@0 || @1 | @0: workload.replicas < 10 | @1: capacity.allocatable.cpu > 64000`},
		{`workload.kind == "Job" ? capacity.utilization.cpu < 90 : capacity.utilization.cpu < 60`,
			`(workload.kind == "Job") ? @0 : @1 <- workload | @0: capacity.utilization.cpu < 90 | @1: capacity.utilization.cpu < 60`},
		{`!(capacity.free.cpu < 1 || capacity.free.cpu < 1 && placement.name == "p")`,
			`!(@0 || @0 && placement.name == "p") <- placement | @0: capacity.free.cpu < 1`},
		{`capacity.free.cpu > 1 || capacity.free.cpu > 2 || capacity.free.cpu > 3 || capacity.free.cpu > 4`,
			`@0 || @1 || @2 || capacity.free.cpu > 4 <- capacity | @0: capacity.free.cpu > 1 | @1: capacity.free.cpu > 2 | @2: capacity.free.cpu > 3`},
		{`workload.requests.cpu / workload.replicas <= 500`,
			`@0 | @0: workload.requests.cpu / workload.replicas <= 500`},
		{`1 < 2 || cluster.name == "a"`,
			`1 < 2 || cluster.name == "a" <- cluster`},
		{`capacity.allocatable.all(r, amount, 5 * capacity.free[r] >= amount)`,
			`capacity.allocatable.all(r, amount, 5 * capacity.free[r] >= amount) <- capacity`},
		{`capacity.free.cpu > int(cluster.labels.reserve)`,
			`capacity.free.cpu > int(cluster.labels.reserve) <- cluster capacity`},
		{`workload.requests.cpu * (cluster.labels.tier == "gold" ? 2 : 1) <= capacity.free.cpu`,
			`workload.requests.cpu * ((cluster.labels.tier == "gold") ? 2 : 1) <= capacity.free.cpu <- cluster capacity workload`},
		{`[capacity.utilization.cpu, capacity.utilization.memory].max() <= 80`,
			`[capacity.utilization.cpu, capacity.utilization.memory].max() <= 80 <- capacity`},
		{`dyn(capacity.free.cpu) > 1500.5`,
			`dyn(capacity.free.cpu) > 1500.5 <- capacity`},
		{`string(capacity.free.cpu > 1) == "true"`,
			`string(@0) == "true" | @0: capacity.free.cpu > 1`},
		{`(capacity.free.cpu > 1) == (capacity.free.memory > 1)`,
			`@0 == @1 | @0: capacity.free.cpu > 1 | @1: capacity.free.memory > 1`},
		{`[1, 2].exists(capacity, capacity > 1)`,
			`[1, 2].exists(capacity, capacity > 1) <- capacity`},
		{`[{"free": {"cpu": 1}}].exists(capacity, capacity.free.cpu > 0) || capacity.free.cpu > 0`,
			`[{"free": {"cpu": 1}}].exists(capacity, capacity.free.cpu > 0) || @0 <- capacity | @0: capacity.free.cpu > 0`},
		{`{"a": {"free": {"cpu": 1}}}.exists(k, capacity, capacity.free.cpu > 0)`,
			`{"a": {"free": {"cpu": 1}}}.exists(k, capacity, capacity.free.cpu > 0) <- capacity`},
		{`optional.of({"requests": {"cpu": 1}}).optMap(workload, capacity.free.cpu > workload.requests.cpu).orValue(false)`,
			`optional.of({"requests": {"cpu": 1}}).optMap(workload, capacity.free.cpu > workload.requests.cpu).orValue(false) <- capacity workload`},
		{`cluster.labels.?reserve.optMap(r, capacity.free.cpu > 0 && int(r) > 0).orValue(capacity.free.cpu > 0)`,
			`cluster.labels.?reserve.optMap(r, @0 && int(r) > 0).orValue(@0) <- cluster | @0: capacity.free.cpu > 0`},
		{`[1].exists(capacity, .capacity.free.cpu > 0)`,
			`[1].exists(capacity, .capacity.free.cpu > 0) <- capacity`},
		{`.capacity.free.cpu > 0`,
			`@0 | @0: capacity.free.cpu > 0`},
		{`capacity.?free.cpu == capacity.?free.memory`,
			`capacity.?free.cpu == capacity.?free.memory <- capacity`},
		{`capacity.free.?gpu == optional.none()`,
			`capacity.free.?gpu == optional.none() <- capacity`},
		{`has(capacity.free) && has(capacity.healthScore)`,
			`has(capacity.free) <- capacity` + "\n" +
				`has(capacity.healthScore) <- capacity`},
		{`capacity.free.cpu > 0 == has(capacity.free.gpu)`,
			`@0 == @1 | @0: capacity.free.cpu > 0 | @1: has(capacity.free.gpu)`},
	} {
		t.Run(test.expression, func(t *testing.T) {
			c := compiler(t)
			rests, err := c.Rests(test.expression)
			if err != nil {
				t.Fatal(err)
			}
			program, err := c.Compile(test.expression)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for i, conjunct := range program.Conjuncts() {
				if conjunct.Bare() != (rests[i] == "@0") {
					t.Errorf("%s: bare %v", rests[i], conjunct.Bare())
				}
				line := rests[i] + readsOf(conjunct)
				for i, comparison := range conjunct.Comparisons() {
					line += fmt.Sprintf(" | @%d: %s", i, comparison)
				}
				lines = append(lines, line)
			}
			if got := strings.Join(lines, "\n"); got != test.want {
				t.Errorf("is split into\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// readsOf names the variables that the rest of a conjunct reads.
func readsOf(c *constraint.Conjunct) (text string) {
	reads := c.Reads()
	if reads.Cluster {
		text += " cluster"
	}
	if reads.Capacity {
		text += " capacity"
	}
	if !reads.Workload.IsZero() {
		text += " workload"
	}
	if reads.Placement {
		text += " placement"
	}
	if text != "" {
		text = " <-" + text
	}
	return text
}

// generous compiles whatever the author writes: that it would be too dear is not what is tested.
func generous(t testing.TB) *constraint.Compiler {
	t.Helper()
	c, err := constraint.NewCompiler(constraint.Options{CostLimit: math.MaxUint64, CacheSize: 64})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// checkSplit holds the conjuncts of an expression to what the whole of it gives. It tells whether the expression compiles.
func checkSplit(t testing.TB, c *constraint.Compiler, writing, making []byte) (compiles bool) {
	t.Helper()
	expression := (&author{choices: choices{writing}}).condition()
	program, err := c.Compile(expression)
	if err != nil {
		return false
	}
	w := &world{choices{making}}
	v := w.variables()
	want, err := program.Eval(v)
	want = want && err == nil
	got := true
	for _, conjunct := range program.Conjuncts() {
		got = holds(t, conjunct, v, w.otherAmounts(v)) && got
	}
	if got != want {
		t.Errorf("%s\nholds: %v, the conjuncts: %v\n%+v\n%+v", expression, want, got, v.Row, v.Workload)
	}
	return true
}

// holds tells whether a conjunct holds, and that it does so whatever is not read. The variables of others differ from v in
// amounts alone.
func holds(t testing.TB, c *constraint.Conjunct, v, others *constraint.Variables) bool {
	t.Helper()
	for _, comparison := range c.Comparisons() {
		bound := comparison.Bind(v.Workload)
		is, known := bound.Outcome(v.Row)
		leaf, lo, hi, ranged := bound.Range()
		if !ranged {
			continue
		}
		if n := leaf.Of(v.Row); !known || is != (lo <= n && n <= hi) {
			t.Errorf("%s is %v, %v for %d, but ranges from %d to %d", comparison, is, known, n, lo, hi)
		}
	}
	holding, failing := outcomes(c, v)
	holds, reads := c.Holds(v, holding, failing), c.Reads()
	if !reads.Capacity && reads.Workload.Fields&(workload.Requests|workload.Replicas) == 0 {
		if again := c.Holds(others, holding, failing); again != holds {
			t.Errorf("%s holds: %v, with other amounts: %v", c, holds, again)
		}
	}
	return holds
}

// outcomes of the comparisons of a conjunct, in bits.
func outcomes(c *constraint.Conjunct, v *constraint.Variables) (holding, failing uint) {
	for i, comparison := range c.Comparisons() {
		holds, known := comparison.Bind(v.Workload).Outcome(v.Row)
		if holds {
			holding |= 1 << i
		}
		if !known {
			failing |= 1 << i
		}
	}
	return holding, failing
}

// TestSplitAgrees: whatever the expression, its conjuncts hold if and only if it does.
func TestSplitAgrees(t *testing.T) {
	const cases = 3000
	c, random := generous(t), rand.New(rand.NewPCG(1, 2))
	compiled := 0
	for range cases {
		if checkSplit(t, c, randomBytes(random, 1+random.IntN(200)), randomBytes(random, 200)) {
			compiled++
		}
	}
	if compiled < cases*9/10 {
		t.Errorf("only %d of %d expressions compile", compiled, cases)
	}
}

func randomBytes(random *rand.Rand, n int) []byte {
	bytes := make([]byte, n)
	for i := range bytes {
		bytes[i] = byte(random.Uint32())
	}
	return bytes
}

func FuzzSplit(f *testing.F) {
	c, random := generous(f), rand.New(rand.NewPCG(3, 4))
	for range 100 {
		f.Add(randomBytes(random, 1+random.IntN(200)), randomBytes(random, 200))
	}
	f.Fuzz(func(t *testing.T, writing, making []byte) { checkSplit(t, c, writing, making) })
}

// TestArithmetic: at the ends of int64, and beside 0, numbers are computed as CEL does.
func TestArithmetic(t *testing.T) {
	c, v := compiler(t), variables()
	numbers := []int64{math.MinInt64, math.MinInt64 + 1, math.MinInt64 / 2, -3, -1, 0, 1, 2, 1 << 31, math.MaxInt64/2 + 1, math.MaxInt64}
	for _, expression := range []string{
		"capacity.free.cpu + capacity.free.memory >= 0", "capacity.free.cpu - capacity.free.memory >= 0",
		"capacity.free.cpu * capacity.free.memory >= 0", "capacity.free.cpu / capacity.free.memory >= 0",
		"capacity.free.cpu % capacity.free.memory >= 0", "-capacity.free.cpu < capacity.free.memory",
		"capacity.free.cpu < capacity.free.memory", "capacity.free.cpu == capacity.free.memory",
		"capacity.free.cpu >= 2 * workload.requests.memory", "workload.requests.cpu / workload.requests.memory != capacity.free.cpu",
	} {
		program, err := c.Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		comparison := program.Conjuncts()[0].Comparisons()[0]
		for _, v.Row.Free.CPU = range numbers {
			for _, v.Row.Free.Memory = range numbers {
				v.Workload.Requests = v.Row.Free
				want, err := program.Eval(v)
				if got, known := comparison.Bind(v.Workload).Outcome(v.Row); got != want || known != (err == nil) {
					t.Errorf("%s of %d and %d: %v, known: %v; want %v, %v", expression, v.Row.Free.CPU, v.Row.Free.Memory, got, known, want, err)
				}
			}
		}
	}
}

// TestRange: what a comparison of one number comes to, at the ends of int64 too.
func TestRange(t *testing.T) {
	const least, most = math.MinInt64, math.MaxInt64
	none := [2]int64{1, 0}
	for expression, want := range map[string]any{
		`capacity.free.cpu >= 2 * workload.requests.cpu`:  [2]int64{3000, most},
		`2 * workload.requests.cpu > capacity.free.cpu`:   [2]int64{least, 2999},
		`capacity.free["memory"] == 7`:                    [2]int64{7, 7},
		`7 < capacity.free.memory`:                        [2]int64{8, most},
		`capacity.free.cpu > 9223372036854775807`:         none,
		`capacity.free.cpu < -9223372036854775808`:        none,
		`capacity.free.cpu <= -9223372036854775808`:       [2]int64{least, least},
		`capacity.free.cpu >= -9223372036854775808`:       [2]int64{least, most},
		`capacity.free.cpu != 7`:                          nil,
		`capacity.free.storage > 7`:                       nil,
		`capacity.allocatable.cpu > 7`:                    nil,
		`capacity.free.cpu > capacity.free.memory`:        nil,
		`capacity.free.cpu - workload.requests.cpu >= 7`:  nil,
		`capacity.free.cpu > workload.requests.gpu`:       nil,
		`capacity.free.cpu > 1 / workload.requests.gpu`:   nil,
		`workload.requests.cpu > 7`:                       nil,
		`"cpu" in capacity.free`:                          nil,
		`capacity.free.cpu > 4611686018427387904 * 2`:     nil,
		`capacity.free.cpu > 4611686018427387904 * 2 - 1`: nil,
	} {
		program, err := compiler(t).Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if _, lo, hi, ok := program.Conjuncts()[0].Comparisons()[0].Bind(variables().Workload).Range(); ok {
			got = [2]int64{lo, hi}
		}
		if got != want {
			t.Errorf("%s: %v, want %v", expression, got, want)
		}
	}
}

// TestConjunctsAreShared: what means the same is the same conjunct, whoever wrote it, and nothing else is.
func TestConjunctsAreShared(t *testing.T) {
	c := compiler(t)
	conjuncts := func(expression string) []*constraint.Conjunct {
		program, err := c.Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		return program.Conjuncts()
	}
	one := conjuncts(`cluster.labels.tier == "gold" && capacity.free.memory > quantity("4Gi")`)
	for i, again := range conjuncts(`(cluster . labels.tier=='gold')&&true && capacity.free.memory > 4294967296`) {
		if want := []*constraint.Conjunct{one[0], nil, one[1]}[i]; want != nil && again != want {
			t.Errorf("%s is not %s", again, want)
		}
	}
	keys := map[string]string{}
	for _, expression := range []string{
		`[?cluster.labels.?a].size() == 1`, `[cluster.labels.?a].size() == 1`,
		`(-dyn(1)).getHours() == 1`, `-dyn(1).getHours() == 1`,
		`type(1.0) == int`, `type(1) == int`, `type(1u) == int`, `type("1") == int`, `type(b"1") == int`,
		`cluster.labels["a  b"] == ""`, `cluster.labels["a b"] == ""`, `has(cluster.labels.a)`, `"a" in cluster.labels`,
		`{"a": true}.a`, `{?"a": optional.of(true)}.a`, `[1].exists(x, [2].exists(y, x == y))`, `[1].exists(x, [2].exists(x, x == x))`,
	} {
		key := conjuncts(expression)[0].Key()
		if other, found := keys[key]; found {
			t.Errorf("%s has the key of %s", expression, other)
		}
		keys[key] = expression
	}
}

// TestConjunctsAtOnce: a conjunct is planned once, and evaluated by any number of goroutines.
func TestConjunctsAtOnce(t *testing.T) {
	program, err := compiler(t).Compile(`cluster.labels.exists(k, k == "tier" && capacity.free.cpu > 1000) && capacity.free.gpu > 1`)
	if err != nil {
		t.Fatal(err)
	}
	v := variables()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				conjunct := program.Conjuncts()[0]
				if !conjunct.Holds(v, 1, 0) || conjunct.Holds(v, 0, 0) || conjunct.Holds(v, 0, 1) {
					t.Error("evaluated differently beside others")
				}
			}
		})
	}
	all.Wait()
}

// TestBoundsOfComparisons: to look up an amount by its name takes no longer where there are many. Where amounts are gone
// through, it does.
func TestBoundsOfComparisons(t *testing.T) {
	v := variables()
	v.Row.Free.Extended = map[string]int64{"gpu": 1}
	for i := range constraint.MaxEntries {
		v.Row.Free.Extended[strconv.Itoa(i)] = 1
	}
	v.Workload.Requests.Extended = v.Row.Free.Extended
	for expression, want := range map[string]bool{
		`capacity.free.cpu > 1`:                                           true,
		`capacity.free["gpu"] >= workload.requests.gpu`:                   true,
		`has(capacity.free.gpu) && "gpu" in workload.requests`:            true,
		`capacity.free.cpu > int(cluster.labels["rack.example.com/row"])`: true,
		`capacity.free.all(r, amount, amount > 0)`:                        false,
		`workload.requests.exists(r, r == "gpu")`:                         false,
		`capacity.free.cpu > 1 && size(capacity.free) > 1`:                false,
		`[capacity].exists(c, c.free.cpu > 1)`:                            false,
		`capacity.free[cluster.name == "alpha" ? "cpu" : "memory"] > 1`:   false,
		`capacity.free.cpu > 1 || dyn(capacity).free.cpu > 1`:             false,
	} {
		program, err := compiler(t).Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		got := true
		for _, conjunct := range program.Conjuncts() {
			holding, failing := outcomes(conjunct, v)
			got = conjunct.Holds(v, holding, failing) && got
		}
		if whole, _ := program.Eval(v); got != want || whole != want {
			t.Errorf("%s holds: %v, as a whole: %v, want %v", expression, got, whole, want)
		}
	}
}

// BenchmarkHolds is to be compared with BenchmarkEval: what it takes to ask the rest of a conjunct.
func BenchmarkHolds(b *testing.B) {
	for name, expression := range evaluated {
		conjunct, v := only(b, expression), variables()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !conjunct.Holds(v, 1, 0) {
					b.Fatal("does not hold")
				}
			}
		})
	}
}

// BenchmarkComparison is what it takes to compare for one workload, and for one cluster.
func BenchmarkComparison(b *testing.B) {
	for name, expression := range map[string]string{
		"amount":   `capacity.free.cpu >= 2 * workload.requests.cpu`,
		"percent":  `capacity.utilization.cpu < 80`,
		"computed": `capacity.free.cpu - workload.requests.cpu >= capacity.allocatable.cpu / 4`,
		"extended": `capacity.free[?"nvidia.com/gpu"].orValue(0) >= 1`,
	} {
		comparison, v := only(b, expression).Comparisons()[0], variables()
		if name != "extended" {
			v.Row.Free.Extended = nil // as most clusters have it
		}
		bound := comparison.Bind(v.Workload)
		b.Run("bind/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				comparison.Bind(v.Workload)
			}
		})
		b.Run("outcome/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bound.Outcome(v.Row)
			}
		})
	}
}

// only is the one conjunct of an expression.
func only(t testing.TB, expression string) *constraint.Conjunct {
	t.Helper()
	program, err := compiler(t).Compile(expression)
	if err != nil {
		t.Fatal(err)
	}
	return program.Conjuncts()[0]
}
