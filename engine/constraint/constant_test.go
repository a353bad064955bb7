package constraint_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
)

// TestConstants: what a constraint says in vain is found at its place. Where the outcome depends on anything, or could, nothing is.
func TestConstants(t *testing.T) {
	c := compiler(t)
	for _, test := range []struct {
		expression string
		want       []string
	}{
		// the same for all
		{`true`, []string{"1:1 always true"}},
		{`false`, []string{"1:1 never true"}},
		{`1 + 1 == 2`, []string{"1:1 always true"}},
		{`capacity.free.cpu == capacity.free.cpu`, []string{"1:1 always true"}},
		{`workload.replicas >= 0`, []string{"1:1 always true"}},
		{`workload.requests.cpu < 0`, []string{"1:1 never true"}},
		{`size(cluster.labels) >= 0`, []string{"1:1 always true"}},
		{`cluster.location == "eu" || cluster.location != "eu"`, []string{"1:1 always true"}},
		{`cluster.location == "eu" && cluster.location == "us"`, []string{"1:1 never true"}},
		{`cluster.location in ["eu", "us"] && cluster.location == "asia"`, []string{"1:1 never true"}},
		{`cluster.location in []`, []string{"1:1 never true"}},
		{`capacity.free.cpu > 4000 && cluster.name != "a" && capacity.free.cpu < 2000`, []string{"1:1 never true"}},
		{`capacity.free.cpu > workload.requests.cpu && workload.requests.cpu > capacity.free.cpu`, []string{"1:1 never true"}},
		{`capacity.free["gpu"] > 4 && 2 > capacity.free["gpu"]`, []string{"1:1 never true"}},
		{`!("a" in cluster.labels) && "a" in cluster.labels`, []string{"1:1 never true"}},
		{`cluster.name.startsWith("a") || !cluster.name.startsWith("a")`, nil}, // could be an error, for all that is known
		{`capacity.healthScore > 100`, []string{"1:1 never true"}},
		{`capacity.performanceScore <= 100`, []string{"1:1 always true"}},
		{`capacity.healthScore < 0 ? true : false`, []string{"1:1 never true"}},
		{`"" <= cluster.name`, []string{"1:1 always true"}},

		// a part
		{`capacity.free.cpu > 2 && 1 < 2`, []string{"1:26 1 < 2: always true"}},
		{`cluster.capabilities.exists(c, c.type == "gpu" && c.type == "ssd")`, []string{`1:32 c.type == "gpu" && c.type == "ssd": never true`}},
		{"cluster.name == 'a' ||\n  workload.replicas < 0", []string{"2:3 workload.replicas < 0: never true"}},

		// always an error
		{`1000000000000 * 1000000000000 > 0`, []string{"1:1 integer overflow"}},
		{`capacity.free.memory > 1000000000000 * 1000000000000`, []string{"1:24 1000000000000 * 1000000000000: integer overflow"}},
		{`capacity.free.memory / 0 > 1`, []string{"1:1 capacity.free.memory / 0: division by zero"}},
		{`capacity.free.memory % (1 - 1) > 1`, []string{"1:1 capacity.free.memory % (1 - 1): division by zero"}},

		// near misses
		{`capacity.free.cpu >= 0`, nil}, // a cluster can be overcommitted
		{`capacity.utilization.cpu <= 100`, nil},
		{`capacity.healthScore >= 100 && capacity.performanceScore > 99`, nil},
		{`workload.replicas > 0`, nil}, // a workload can be scaled to nothing
		{`cluster.location == "eu" || cluster.location == "us"`, nil},
		{`cluster.labels["a"] == "x" || cluster.labels["a"] != "x"`, nil}, // it asks for the label
		{`has(cluster.labels.a) ? cluster.labels.a == "x" : true`, nil},
		{`cluster.labels.?a.orValue("x") == "x"`, nil},
		{`capacity.free.cpu > 2000 && capacity.free.cpu < 2002`, nil},
		{`capacity.free.cpu >= 2000 && capacity.free.cpu <= 2000`, nil},
		{`"a" < cluster.name && cluster.name < "b"`, nil},
		{`1000000000 * 1000000000 > capacity.free.memory`, nil},
		{`cluster.labels.exists(capacity, capacity == "a" && capacity == "b")`, nil}, // hidden names are not looked at
	} {
		program, err := c.Compile(test.expression)
		if err != nil {
			t.Errorf("%s: %v", test.expression, err)
			continue
		}
		var got []string
		for _, found := range c.Constants(program) {
			text := fmt.Sprintf("%d:%d ", found.Line, found.Column)
			if !found.Whole {
				text += found.Text + ": "
			}
			switch {
			case found.Err != nil:
				text += found.Err.Error()
			case found.Always:
				text += "always true"
			default:
				text += "never true"
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.expression, diff)
		}
	}
}

// checkConstants compares what is said of a random expression with what it gives for a random cluster and workload.
func checkConstants(t testing.TB, c *constraint.Compiler, writing, making []byte) {
	a := author{choices: choices{bytes: writing}}
	expression := a.condition()
	program, err := c.Compile(expression)
	if err != nil {
		return
	}
	v := (&world{choices{bytes: making}}).variables()
	possible := func(amounts *capacity.Resources) {
		*amounts = amounts.Combine(capacity.Resources{}, func(a, _ int64) int64 { return max(a, 0) })
	}
	v.Workload.Replicas = max(v.Workload.Replicas, 0)
	for _, amounts := range []*capacity.Resources{&v.Row.Allocated, &v.Row.Reserved, &v.Workload.Requests} {
		possible(amounts)
	}
	cluster := *v.Row.Cluster
	possible(&cluster.Allocatable)
	v.Row.Cluster = &cluster
	holds, err := program.Eval(v)
	for _, found := range c.Constants(program) {
		if !found.Whole || err != nil && strings.Contains(err.Error(), "are evaluated over at most") { // it is not evaluated
			continue
		}
		wrong := found.Always != holds
		if found.Always {
			wrong = wrong || err != nil
		}
		if found.Err != nil {
			wrong = err == nil
		}
		if wrong {
			t.Fatalf("%s: %+v, and it gives %v, %v", expression, found, holds, err)
		}
	}
}

func TestConstantsAgree(t *testing.T) {
	c, random := generous(t), rand.New(rand.NewPCG(7, 8))
	for range 5000 {
		checkConstants(t, c, randomBytes(random, 1+random.IntN(60)), randomBytes(random, 200))
	}
}

func FuzzConstants(f *testing.F) {
	c, random := generous(f), rand.New(rand.NewPCG(9, 10))
	for range 50 {
		f.Add(randomBytes(random, 1+random.IntN(60)), randomBytes(random, 200))
	}
	f.Fuzz(func(t *testing.T, writing, making []byte) { checkConstants(t, c, writing, making) })
}
