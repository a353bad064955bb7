package policy_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/workload"
)

func compiler(t testing.TB) *policy.Compiler {
	t.Helper()
	c, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func input(change ...func(*workload.Workload)) policy.Input {
	w := &workload.Workload{
		Reference: workload.Reference{APIVersion: "batch/v1", Kind: "Job", Namespace: "shop", Name: "report"},
		Labels:    map[string]string{"team": "a"}, Replicas: 2,
		Requests: capacity.Resources{CPU: 500, Memory: 1 << 30, Extended: map[string]int64{"nvidia.com/gpu": 1}},
	}
	for _, f := range change {
		f(w)
	}
	return policy.Input{
		Workspace: "2fjhb2c5cnpc6wh3", Workload: w,
		Placement: workload.Placement{Name: "jobs", Namespace: "shop", Labels: map[string]string{"p": "q"}},
	}
}

var defaults = scoring.Weights{Factors: scoring.PerFactor{30, 30, 20, 10, 10}}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name, rego string
		weights    scoring.Weights
		terms      []string
	}{
		{name: "nothing of its own", weights: defaults},
		{
			name: "weights replace the built-in ones whole",
			rego: `package placement.scoring
				weights := {"capacity": 100, "location": 1}`,
			weights: scoring.Weights{Factors: scoring.PerFactor{100, 0, 0, 0, 1}},
		},
		{
			name: "weights built upon the built-in ones",
			rego: `package placement.scoring
				weights["affinity"] := 90
				weights[f] := w if { some f, w in data.placement.builtin.scoring.weights; f != "affinity" }`,
			weights: scoring.Weights{Factors: scoring.PerFactor{30, 30, 20, 90, 10}},
		},
		{
			name: "the whole input can be read",
			rego: `package placement
				scoring.weights := {"capacity": 7} if {
					input.workspace == "2fjhb2c5cnpc6wh3"
					input.placement == {"name": "jobs", "namespace": "shop", "labels": {"p": "q"}}
					input.workload == {"apiVersion": "batch/v1", "kind": "Job", "namespace": "shop", "name": "report",
						"labels": {"team": "a"}, "annotations": {}, "replicas": 2,
						"requests": {"cpu": 500, "memory": 1073741824, "storage": 0, "nvidia.com/gpu": 1}}
				}`,
			weights: scoring.Weights{Factors: scoring.PerFactor{7}},
		},
		{
			name: "terms of every kind",
			rego: `package placement.affinity
				terms contains {"factor": "location", "match": {"location": "eu"}, "onMatch": 10, "otherwise": -10, "reason": "near"}
				terms contains {"factor": "affinity", "match": {"capability": "ssd"}, "onMatch": 5, "required": true}
				terms contains {"factor": "affinity", "match": {"clusterNames": ["a", "b"], "labelSelector": {"matchLabels": {"x": "y"}}}, "otherwise": -1}`,
			weights: defaults,
			terms: []string{
				"affinity +5 -0 required=true {[]  <nil> ssd} ",
				"affinity +0 -1 required=false {[a b]  x=y } ",
				"location +10 -10 required=false {[] eu <nil> } near",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			modules := map[string]string{}
			if test.rego != "" {
				modules["ns/cm/a.rego"] = test.rego
			}
			set, err := compiler(t).Compile(modules)
			if err != nil {
				t.Fatal(err)
			}
			got, err := set.Judge(context.Background(), input())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Weights, test.weights) {
				t.Errorf("weights %v, want %v", got.Weights, test.weights)
			}
			var terms []string
			for _, term := range got.Terms {
				m := term.Match
				terms = append(terms, fmt.Sprintf("%s +%d -%d required=%v {%v %s %v %s} %s", term.Factor, term.OnMatch, max(-term.Otherwise, 0), term.Required,
					m.ClusterNames, m.Location, m.Labels, m.Capability, term.Reason))
			}
			if diff := cmp.Diff(test.terms, terms); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestComprehensionsReadVariablesAroundThem: OPA would index such a comprehension, and then evaluate it without them.
func TestComprehensionsReadVariablesAroundThem(t *testing.T) {
	set, err := compiler(t).Compile(map[string]string{"a.rego": `package placement.scoring

listed := [{"factor": "capacity", "share": 20}, {"factor": "health", "share": 30}, {"factor": "capacity", "share": 50}]

weights := {factor: weight |
	some factor in {item.factor | some item in listed}
	weight := sum([item.share | some item in listed; item.factor == factor])
}
`})
	if err != nil {
		t.Fatal(err)
	}
	judgement, err := set.Judge(context.Background(), input())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := weightsText(judgement.Weights), `{"capacity":70,"health":30}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestBuiltinTerms(t *testing.T) {
	wishes := func(w *workload.Workload) {
		w.Annotations = map[string]string{
			"tmc.kcp.io/preferred-cluster": "a", "tmc.kcp.io/avoid-cluster": "b", "tmc.kcp.io/preferred-location": "eu",
		}
	}
	terms := func(rego string) int {
		t.Helper()
		set, err := compiler(t).Compile(map[string]string{"a.rego": "package placement.affinity\n" + rego})
		if err != nil {
			t.Fatal(err)
		}
		judgement, err := set.Judge(context.Background(), input(wishes))
		if err != nil {
			t.Fatal(err)
		}
		return len(judgement.Terms)
	}
	if got := terms(``); got != 3 {
		t.Errorf("%d built-in terms, want 3", got)
	}
	if got := terms(`use_builtin := false`); got != 0 {
		t.Errorf("%d terms with the built-in ones turned off", got)
	}
	if got := terms(`terms contains {"factor": "affinity", "match": {"location": "x"}, "onMatch": 1}`); got != 4 {
		t.Errorf("%d terms with one of its own, want 4", got)
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, test := range []struct{ name, rego, err string }{
		{"syntax", "package placement.scoring\n\nweights := {", `f.rego:3:12: rego_parse_error: unexpected eof token`},
		{"empty", "", "f.rego:0:0: rego_parse_error: empty module"},
		{"old syntax", "package placement.x\np { true }", "f.rego:2:1: rego_parse_error: `if` keyword is required before rule body"},
		{"outside placement", "package kubernetes.admission\nx := 1", "f.rego:1:1: scope_error: package kubernetes.admission is outside placement"},
		{"inside the built-in", "package placement.builtin.scoring\nweights := {}", "f.rego:2:1: scope_error: data.placement.builtin.scoring.weights belongs to the built-in policies and cannot be defined"},
		{"inside the built-in by a long head", "package placement\nbuiltin.affinity.terms contains 1", "scope_error: data.placement.builtin.affinity.terms belongs"},
		{"reads outside", "package placement.x\np := data.secrets.token", "f.rego:2:6: scope_error: data.secrets.token is outside data.placement"},
		{"reads outside by an import", "package placement.x\nimport data.secrets\np := secrets", "scope_error: data.secrets is outside data.placement"},
		{"reads everything", "package placement.x\np := data", "scope_error"},
		{"reads what is computed", "package placement.x\np := data[input.x]", "scope_error"},
		{"reaches outside", "package placement.x\np := http.send({})", "f.rego:2:6: rego_type_error: http.send is none of the functions that policies may call"},
		{"tells the time", "package placement.x\np := time.now_ns()", "time.now_ns is none of the functions that policies may call"},
		{"makes much of little", "package placement.x\np := bits.lsh(1, 50000000)", "bits.lsh is none of the functions that policies may call"},
		{"prints big numbers", "package placement.x\np := sprintf(\"%d\", [1])", "sprintf is none of the functions that policies may call"},
		{"walks graphs", "package placement.x\np := graph.reachable_paths({}, [])", "graph.reachable_paths is none of the functions that policies may call"},
		{"renders templates", "package placement.x\np := strings.render_template(\"\", {})", "strings.render_template is none of the functions that policies may call"},
		{"interpolates strings", "package placement.x\np := $\"{input.x}\"", "rego_parse_error"},
		{"recursion", "package placement.x\np := q\nq := p", "rego_recursion_error: rule data.placement.x.p is recursive: data.placement.x.p -> data.placement.x.q -> data.placement.x.p"},
		{"two values of one rule", "package placement.scoring\nweights := {\"health\": 1}\nweights := {\"health\": 2}", "f.rego:3:1: eval_conflict_error: rule data.placement.scoring.weights produced conflicting values:\n  {\"health\": 1} at f.rego:2\n  {\"health\": 2} at f.rego:3"},
		{"weights of the wrong type", "package placement.scoring\n\nweights := 3", "f.rego:3:1: shape_error: data.placement.scoring.weights must be an object from factor to weight, is 3"},
		{"unknown factor", "package placement.scoring\nweights := {\"price\": 3}", `f.rego:2:1: shape_error: data.placement.scoring.weights has an unknown factor "price": the factors are capacity, health, performance, affinity, location, cost, packing`},
		{"weight out of range", "package placement.scoring\nweights := {\"health\": 101}", `gives "health" the weight 101: it must be a whole number from 0 to 100`},
		{"weight not whole", "package placement.scoring\nweights := {\"health\": 1.5}", `gives "health" the weight 1.5`},
		{"weight not a number", "package placement.scoring\nweights := {\"health\": \"1\"}", `gives "health" the weight "1"`},
		{"no weight at all", "package placement.scoring\nweights := {\"health\": 0}", "gives no factor any weight"},
		{"terms of the wrong type", "package placement.affinity\nterms := []", "data.placement.affinity.terms must be a set of terms, is []"},
		{"unknown field of a term", "package placement.affinity\nterms contains {\"factor\": \"affinity\", \"match\": {\"location\": \"x\"}, \"bonus\": 1}", `unknown field "bonus"`},
		{"factor that terms cannot move", "package placement.affinity\nterms contains {\"factor\": \"health\", \"match\": {\"location\": \"x\"}}", `factor is "health", it must be affinity or location`},
		{"match of nothing", "package placement.affinity\nterms contains {\"factor\": \"affinity\", \"match\": {}}", "match says nothing: it needs clusterNames, location, labelSelector or capability"},
		{"bad selector", "package placement.affinity\nterms contains {\"factor\": \"affinity\", \"match\": {\"labelSelector\": {\"matchExpressions\": [{\"key\": \"a\", \"operator\": \"Like\"}]}}}", `match.labelSelector: "Like" is not a valid label selector operator`},
		{"a selector without end", "package placement.affinity\nten := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\nterms contains {\"factor\": \"affinity\", \"match\": {\"labelSelector\": {\"matchExpressions\": [{\"key\": \"a\", \"operator\": \"In\", \"values\": [\"!\" | some a in ten; some b in ten; some c in ten]}]}}}", "match.labelSelector: it has 1001 labels, expressions and values, more than 256"},
		{"too much", "package placement.affinity\nterms contains {\"factor\": \"affinity\", \"match\": {\"location\": \"x\"}, \"onMatch\": 101}", "onMatch is 101 and otherwise 0, both must be from -100 to 100"},
		{"delta of the wrong type", "package placement.affinity\nterms contains {\"factor\": \"affinity\", \"match\": {\"location\": \"x\"}, \"onMatch\": \"5\"}", "onMatch cannot be a string"},
		{"replaces a function", "package placement.x\np if count([]) with count as sum", "f.rego:2:16: scope_error: with replaces count, policies may only replace input"},
		{"replaces data", "package placement.x\nq := 1\np if q with data.placement.x.q as 2", "scope_error: with replaces data.placement.x.q"},
		{"a misspelt field", "package placement.x\np if input.workload.lables.team", `f.rego:2:6: rego_type_error: undefined ref: input.workload.lables.team: input.workload.lables.team`},
		{"use_builtin of the wrong type", "package placement.affinity\nuse_builtin := 1", "data.placement.affinity.use_builtin must be true or false, is 1"},
		{"a megabyte", "package placement.x\n#" + strings.Repeat("x", 1<<20), "f.rego:1:1: limit_error: the module has 1048597 bytes, more than 262144"},
		{"deep nesting", "package placement.x\np := " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), "max parsing recursion depth exceeded"},
		{"many rules", "package placement.x\n" + strings.Repeat("p if input.workspace\n", 501), "limit_error: the modules of the workspace have 501 rules together, more than 500"},
		{"many nodes", "package placement.x\np := [" + strings.Repeat("1,", 60_000) + "1]", "limit_error: the modules of the workspace have"},
		{"a huge number", "package placement.x\np := " + strings.Repeat("9", 1000), "limit_error: the number has 1000 digits, more than 32"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := compiler(t).Compile(map[string]string{"f.rego": test.rego})
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v\nwant %s", err, test.err)
			}
			if errs := (policy.Errors)(nil); !errors.As(err, &errs) || len(errs) == 0 {
				t.Errorf("%T is not an Errors", err)
			}
			if len(err.Error()) > 10_000 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestCompileAllOrNothing(t *testing.T) {
	c := compiler(t)
	_, err := c.Compile(map[string]string{
		"a.rego": "package placement.scoring\nweights := {\"health\": 1}",
		"b.rego": "package placement.x\np := nonsense(1)",
		"c.rego": "package placement.x\nq := nonsense(2)",
	})
	want := "b.rego:2:6: rego_type_error: undefined function nonsense\nc.rego:2:6: rego_type_error: undefined function nonsense"
	if fmt.Sprint(err) != want {
		t.Errorf("got %v\nwant %v", err, want)
	}
	_, again := c.Compile(map[string]string{"b.rego": "package placement.x\np := nonsense(1)"})
	if again == nil {
		t.Error("the error must stay")
	}
	many := map[string]string{}
	for i := range policy.MaxModules + 1 {
		many[fmt.Sprint(i)] = "package placement.x"
	}
	if _, err := c.Compile(many); !strings.Contains(fmt.Sprint(err), "the workspace has 65 modules, more than 64") {
		t.Error(err)
	}
}

func TestSuitesAreNotLoaded(t *testing.T) {
	set, err := compiler(t).Compile(map[string]string{"x_test.rego": "package kubernetes\nnonsense("})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Judge(context.Background(), input()); err != nil {
		t.Fatal(err)
	}
}

func TestSetsAreSharedByContent(t *testing.T) {
	c := compiler(t)
	modules := func(weight int) map[string]string {
		return map[string]string{"a.rego": fmt.Sprintf("package placement.scoring\nweights := {\"health\": %d}", weight)}
	}
	first, _ := c.Compile(modules(1))
	again, _ := c.Compile(modules(1))
	other, _ := c.Compile(modules(2))
	if first != again || first == other || first.Digest() == other.Digest() || first.Digest() == c.Builtin().Digest() {
		t.Error("one content, one set")
	}
}

func TestUndefinedWeights(t *testing.T) {
	set, err := compiler(t).Compile(map[string]string{"a.rego": "package placement.scoring\nweights := {\"health\": 1} if input.workload.labels.team == \"b\""})
	if err != nil {
		t.Fatal("that it is undefined for a sample must not refuse a policy:", err)
	}
	_, err = set.Judge(context.Background(), input())
	want := "a.rego:2:1: shape_error: data.placement.scoring.weights is undefined for this workload: give it a default"
	if fmt.Sprint(err) != want {
		t.Errorf("got %v\nwant %v", err, want)
	}
	if errs := (policy.Errors)(nil); !errors.As(err, &errs) {
		t.Errorf("%T is not an Errors", err)
	}
}

// slow takes ages, for workloads of team a only, so that it compiles.
const slow = `package placement.scoring
default weights := {"health": 1}
ten := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
weights := {"health": 2} if {
	input.workload.labels.team == "a"
	count([1 | some a in ten; some b in ten; some c in ten; some d in ten; some e in ten; some f in ten; some g in ten; some h in ten; a + b + c + d + e + f + g + h < 0]) == 1
}`

// busy keeps every processor that this process may use occupied until the test ends, with so many goroutines that any
// other one waits for a hundred milliseconds whenever it is preempted: as a container does that is throttled.
func busy(t *testing.T) {
	t.Helper()
	processors := runtime.GOMAXPROCS(1)
	var done atomic.Bool
	var spinning sync.WaitGroup
	for range 10 {
		spinning.Go(func() {
			for !done.Load() {
			}
		})
	}
	t.Cleanup(func() {
		done.Store(true)
		spinning.Wait()
		runtime.GOMAXPROCS(processors)
	})
}

// honest goes through a few hundred pairs, which takes some ten milliseconds of a processor: long enough to be preempted.
const honest = `package placement.scoring
numbers := [n | some a in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]; some b in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]; n := (a * 10) + b]
weights := {"health": w} if w := count([1 | some a in numbers; some b in numbers; a + b == 198; input.workload.name])`

// TestBusyMachine: how busy the machine is decides nothing. What is within the budget is never stopped, and what is not is
// stopped for its cost, after the same steps.
func TestBusyMachine(t *testing.T) {
	// Not the default: how often an evaluation is preempted, and so how long the longest of them takes, has no bound.
	c, err := policy.NewCompiler(policy.Options{Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	evaluate := func(rego string) (int, error) {
		set, err := c.Compile(map[string]string{"a.rego": rego})
		if err != nil {
			t.Fatal(err)
		}
		return set.Spent(context.Background(), input())
	}
	within, err := evaluate(honest)
	if err != nil {
		t.Fatal(err)
	}
	builtin, err := evaluate("package placement.scoring")
	if err != nil {
		t.Fatal(err)
	}
	over, err := evaluate(slow)
	if budget := new(policy.BudgetError); raceFactor == 1 && !errors.As(err, &budget) {
		t.Fatalf("error %v, want that the budget is spent", err)
	}
	busy(t)
	if spent, err := evaluate(honest); err != nil || spent != within {
		t.Errorf("honest policies spent %d beside others and %d alone: %v", spent, within, err)
	}
	for range 20 {
		if spent, err := evaluate("package placement.scoring"); err != nil || spent != builtin {
			t.Errorf("the built-in policies spent %d beside others and %d alone: %v", spent, builtin, err)
		}
		if _, err := compiler(t).Builtin().Judge(context.Background(), input()); err != nil {
			t.Errorf("the built-in policies with the default deadline: %v", err)
		}
	}
	if spent, busy := evaluate(slow); raceFactor == 1 && (spent != over || fmt.Sprint(busy) != fmt.Sprint(err)) {
		t.Errorf("stopped after %d beside others and %d alone: %v, %v", spent, over, busy, err)
	}
}

func TestBudget(t *testing.T) {
	set, err := compiler(t).Compile(map[string]string{"a.rego": slow})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same every time
		_, err = set.Judge(context.Background(), input())
		if !policy.OverBudget(err) || !policy.Stopped(err) {
			t.Errorf("error %v, want that it costs too much", err)
		}
	}
	if _, err := set.Judge(context.Background(), input(func(w *workload.Workload) { w.Labels = nil })); err != nil {
		t.Errorf("a workload that it is quick for: %v", err)
	}
}

// TestDeadline: the clock on the wall stops an evaluation, but that is not held against the policies.
func TestDeadline(t *testing.T) {
	c, err := policy.NewCompiler(policy.Options{Timeout: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	set, err := c.Compile(map[string]string{"a.rego": slow})
	if err != nil {
		t.Fatal("what takes long once must not refuse a policy:", err)
	}
	_, err = set.Judge(context.Background(), input())
	if timeout := new(policy.TimeoutError); !errors.As(err, &timeout) || timeout.After != time.Microsecond || !policy.Stopped(err) || policy.OverBudget(err) {
		t.Errorf("error %v, want a time-out", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := set.Judge(ctx, input()); !errors.Is(err, context.Canceled) || policy.Stopped(err) {
		t.Errorf("error %v, want that the caller has gone", err)
	}
}

// TestCallerGoesAway: an evaluation ends when its caller gives up on it, and says why.
func TestCallerGoesAway(t *testing.T) {
	set, err := compiler(t).Compile(map[string]string{"a.rego": slow})
	if err != nil {
		t.Fatal(err)
	}
	reason := errors.New("the caller is in a hurry")
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Millisecond, reason)
	defer cancel()
	if _, err := set.Judge(ctx, input()); !errors.Is(err, reason) {
		t.Errorf("error %v, want that of the caller", err)
	}
}

// TestCPUTime: an evaluation that the meter takes to be cheap and that is dear is stopped for the time of its processor.
func TestCPUTime(t *testing.T) {
	if !policy.HasCPUTime() {
		if _, err := compiler(t).Builtin().Judge(context.Background(), input()); err != nil {
			t.Error(err)
		}
		return
	}
	set, err := compiler(t).Compile(map[string]string{"a.rego": slow})
	if err != nil {
		t.Fatal(err)
	}
	err = set.Unmetered(input())
	if cpu := new(policy.CPUTimeError); !errors.As(err, &cpu) || !policy.OverBudget(err) {
		t.Errorf("error %v, want that it took too long", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := compiler(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				set, err := c.Compile(map[string]string{"a.rego": fmt.Sprintf("package placement.scoring\nweights := {\"health\": %d}", 1+j%3)})
				if err != nil {
					t.Error(err)
					return
				}
				got, err := set.Judge(context.Background(), input())
				if err != nil || got.Weights.Factors[scoring.Health] != int64(1+j%3) {
					t.Errorf("%d: %v, %v", i, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCompile(b *testing.B) {
	c := compiler(b)
	for i := 0; b.Loop(); i++ {
		if _, err := c.Compile(map[string]string{"a.rego": fmt.Sprintf("package placement.x\np := %d", i)}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	set := compiler(b).Builtin()
	in := input(func(w *workload.Workload) { w.Annotations = map[string]string{"tmc.kcp.io/preferred-cluster": "a"} })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.Judge(context.Background(), in); err != nil {
			b.Fatal(err)
		}
	}
}
