package policy_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// What no policy may exceed, whatever it does. The time is that of a processor, in times of what compiling an honest policy takes in the same
// run, since machines differ.
const (
	mostTimes  = 60
	mostMemory = 64 << 20
)

// honestTime is what compiling a policy of 400 rules takes of a processor here, of many times the least.
var honestTime = sync.OnceValue(func() time.Duration {
	least := time.Duration(math.MaxInt64)
	for i := range 20 {
		c, err := policy.NewCompiler(policy.Options{})
		if err != nil {
			panic(err)
		}
		rules := repeat(400, fmt.Sprintf("q$i if input.workload.labels.team == \"%d-$i\"\n", i))
		least = min(least, threadTime(func() {
			_, err = c.Compile(map[string]string{"a.rego": "package placement.scoring\n\ndefault weights := {\"health\": 1}\n\n" + rules + "\nweights := {\"health\": 2} if q1\n"})
		}))
		if err != nil {
			panic(err)
		}
	}
	return least
})

// threadTime is what a function takes of a processor.
func threadTime(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := policy.ThreadCPUTime()
	f()
	return policy.ThreadCPUTime() - start
}

// hostile are modules of placement.scoring that define p. Every one of them is dear or endless for an evaluator that
// can be stopped between two steps only, or for a compiler that cannot be stopped at all.
var hostile = map[string]string{
	"exponential reachability": `
		edges := {n: {n + 1, n + 101} | some n in ` + numbers(300) + `}
		paths0 contains [0]
		` + repeat(25, `paths$i contains [p, next] if { some p in paths$h; some n in `+numbers(200)+`; some next in edges[n] }
		`) + `
		p := count(paths25)`,
	"graph builtins":               `p := graph.reachable_paths({"a": ["b"]}, ["a"])`,
	"doubling strings":             `p := concat("", ["a", "a"])`,
	"doubling arrays":              "a0 := [1]\n" + repeat(40, "a$i := [a$h, a$h]\n") + "p := [x | some x in a40]",
	"doubling arrays, compared":    twins("a$i := [a$h, a$h]") + "p := a30 == b30",
	"doubling arrays, in a set":    twins("a$i := [a$h, a$h]") + "p := count({a30, b30})",
	"doubling objects":             twins(`a$i := {"l": a$h, "r": a$h}`) + "p := a30 == b30",
	"doubling within one rule":     "p if {\n" + twins("a$i := [a$h, a$h]") + "count({a30, b30}) > 0\n}",
	"doubling out of a builtin":    twins("a$i := object.get({1: [a$h, a$h]}, 1, 0)") + "p := a30 == b30",
	"doubling through functions":   "f0(x) := [x, x]\n" + repeat(30, "f$i(x) := [f$h(x), f$h(x)]\n") + "p := f30(1) == f30(1)",
	"doubling through iteration":   repeat(1, "a0 := "+numbers(100)+"\nb0 := "+numbers(100)+"\n") + repeat(8, "a$i := [a$h | some x in a0]\nb$i := [b$h | some x in b0]\n") + "p := a8 == b8",
	"doubling, as the answer":      "a0 := [1]\n" + repeat(40, "a$i := object.get({1: [a$h, a$h]}, 1, 0)\n") + "p := 1\nweights := a40",
	"big integers":                 "a0 := 99999999999999999999999999999999\n" + repeat(24, "a$i := a$h * a$h\n") + "p := a24 > 0",
	"big exponents":                `p := floor(to_number("1e999999999"))`,
	"big units":                    `p := units.parse("1e99999999")`,
	"deep comprehensions":          `p := count([1 | ` + repeat(20, "some x$i in "+numbers(10)+"; ") + `x1 > 10])`,
	"deep every":                   "big := " + numbers(1000) + "\np if { every x in big { every y in big { every z in big { x + y + z >= 0 } } } }",
	"wide unions":                  "big := " + numbers(1000) + "\ns := {x | some x in big}\np := count([t | some x in big; t := s | {x, [x]}])",
	"wide products":                "big := " + numbers(1000) + "\np := count({z | some x in big; some y in big; z := [x, y]})",
	"colliding hashes":             "big := " + numbers(1000) + "\np := count({[x, y, z] | some x in big; some y in big; some z in big})",
	"wide literals":                "p := count([[x," + strings.Repeat("x,", 2000) + "x] | some x in " + numbers(1000) + "])",
	"sorting":                      "big := [z | some x in " + numbers(1000) + "; some y in [1, 2, 3, 4]; z := x * y]\np := count([sort(big) | some x in big])",
	"template rendering":           `p := strings.render_template("{{.x}}", {"x": 1})`,
	"huge literals":                "p := " + strings.Repeat("9", 100_000),
	"huge strings":                 `p := count([upper(s) | some x in ` + numbers(1000) + `; s := concat("", ["` + strings.Repeat("a", 200_000) + `"])])`,
	"huge copies of a string":      `p := count([s | some x in ` + numbers(1000) + `; s := upper("` + strings.Repeat("a", 200_000) + `")])`,
	"recursion through with":       "q0 := input.workspace\n" + repeat(30, "q$i if { q$h with input.workspace as \"$i\"; q$h with input.workspace as \"0\" }\n") + "p if not q30",
	"plain recursion through with": "p if { p with input.workspace as \"1\" }",
	"globs":                        `p := glob.match("` + strings.Repeat("{a*,b*}", 36) + `c", [], "` + strings.Repeat("ab", 2000) + `")`,
	"long globs":                   `p := glob.match("` + strings.Repeat("{a,", 90) + strings.Repeat("}", 90) + `", [], "a")`,
	"globs that backtrack":         `p := glob.match("` + strings.Repeat("[ab]*", 12) + `c?", [], "` + strings.Repeat("ab", 15) + `")`,
	"globs of many alternatives":   `p := glob.match("` + strings.Repeat("{a,aa}", 30) + `c", [], "` + strings.Repeat("a", 60) + `")`,
	"globs of nested alternatives": `p := glob.match("` + strings.Repeat("{a,{aa,{b,", 12) + "c" + strings.Repeat("}}}", 12) + `*", [], "` + strings.Repeat("a", 60) + `")`,
	"globs at the limit":           `p := glob.match("` + strings.Repeat("[ab]*", 3) + `c?", [], "` + strings.Repeat("ab", 30) + `")`,
	"alternatives at the limit":    `p := glob.match("` + strings.Repeat("{a,aa}", 16) + `c", [], "` + strings.Repeat("a", 60) + `")`,
	"wide alternatives":            `p := glob.match("` + strings.Repeat("{a*,aa}", 2) + strings.Repeat("{a,aa}", 3) + `{` + strings.Repeat("a,", 80) + `b}c", [], "` + strings.Repeat("a", 60) + `")`,
	"globs with escapes":           `p := glob.match("` + strings.Repeat(`{\\},,,,,}`, 24) + `[z]", [], "` + strings.Repeat("a", 60) + `")`,
	"globs with classes":           `p := glob.match("` + strings.Repeat(`{[}],,,,}`, 26) + `[z]", [], "` + strings.Repeat("a", 60) + `")`,
	"globs by another name":        `m(a, b, c) := true` + "\n" + `p if m("` + strings.Repeat("[ab]*", 12) + `c?", [], "` + strings.Repeat("ab", 15) + `") with data.placement.scoring.m as glob.match`,
	"globs for a function":         `p if count("` + strings.Repeat("[ab]*", 12) + `") with count as glob.match`,
	"globs that are mistaken":      `p if { glob.match("eu", ["*", "-"], "x"); glob.match("eu-*", null, "x") }`,
	"small numbers":                "a0 := 1e-250\n" + repeat(24, "a$i := a$h * a$h\n") + "p := a24 > 0",
	"small literals":               `p := 1e-15000 * 1e-15000`,
	"small units":                  `p := units.parse("1e-99999")`,
	"searches":                     `p := count([1 | some i in ` + numbers(1000) + `; indexof("` + strings.Repeat("é", 40_000) + `", "` + strings.Repeat("é", 20_000) + `x") > i])`,
	"many words":                   "p := [1" + strings.Repeat(",1", 120_000) + "]",
	"many statements":              strings.Repeat("a := 1\n", 30_000) + "p := 1",
	"colliding literals":           "p := {0.5" + repeat(9000, ",0.0$i") + "}",
	"colliding literals, in many":  "p := [" + strings.Repeat("{0.5"+repeat(300, ",0.0$i")+"},", 30) + "1]",
	"colliding unions":             "ss := [s | some i in " + numbers(100) + "; s := {x | some j in " + numbers(15) + "; x := 1 / ((3 + (i * 15)) + j)}]\np := count(union({s | some s in ss}))",
	"colliding intersections":      "ss := [s | some i in " + numbers(100) + "; s := {x | some j in " + numbers(15) + "; x := 1 / ((3 + (i * 15)) + j)}]\np := count([1 | some s in ss; some t in ss; count(s | t) > 0])",
	"colliding keys":               "big := " + numbers(1000) + "\np := count({x: 1 | some i in big; some j in " + numbers(30) + "; x := 1 / ((2 + i) + (j * 1001))})",
	"colliding rules":              "big := " + numbers(1000) + "\n" + repeat(20, "q contains [$i, x] if some x in big\n") + "p := count(q)",
	"sums, again and again":        "big := " + numbers(4000) + "\np := count([1 | some x in big; some y in big; sum(big) > x + y])",
	"disjoint sets":                "big := {x | some x in " + numbers(3000) + "}\nother := {\"x\", \"y\"}\np := count([1 | some x in big; some y in big; count(big & other) > x + y])",
	"comparisons of collections":   "a := [x | some x in " + numbers(3000) + "]\nb := [x | some x in " + numbers(3000) + "]\np := count([1 | some x in a; some y in a; a == b; x + y < 0])",
	"versions, again and again":    `p := count([1 | some x in ` + numbers(1000) + `; some y in ` + numbers(1000) + `; semver.is_valid("1.2.3-` + strings.Repeat("9.", 30_000) + `9"); x + y < 0])`,
	"long numbers, sorted":         `b := to_number("` + strings.Repeat("7", 240) + `")` + "\nxs := [y | some i in " + numbers(100) + "; some j in " + numbers(20) + "; y := b + (((i * 7919) + (j * 104729)) % 10007)]\np := count(sort(xs))",
	"many globs":                   "big := " + numbers(1000) + "\n" + `p := count([x | some x in big; not glob.match("*a*b", [], "` + strings.Repeat("a", 250) + `")])`,
	"long numbers":                 `p := units.parse("` + strings.Repeat("9", 200_000) + `")`,
	"long numbers of bytes":        `p := units.parse_bytes("` + strings.Repeat("9", 200_000) + `Ki")`,
	"long versions":                `p := semver.compare("1.2.3-` + strings.Repeat("9.", 100_000) + `9", "1.2.3-` + strings.Repeat("9.", 100_000) + `8")`,
	"a long chain of rules":        "q0 := 1\n" + repeat(490, "q$i := q$h\n") + "p := q490",
	"a long chain of elses":        "p := 0 if { input.workspace } " + strings.Repeat("else := 1 if { input.workspace }\n", 1000),
	"a wide union of types":        "t := {" + repeat(1600, `"e$i": {"k$i": 1},`) + "}\np := count([1 | some k; t[k]])",
	"many wide unions of types":    "t := {" + repeat(1600, `"e$i": {"k$i": 1},`) + "}\n" + repeat(100, "u$i := t[input.workload.name]\n") + "p := u1",
	"rules of many types":          repeat(450, `q contains {"k$i": $i}`+"\n") + "p := count(q)",
	"deep nesting":                 "p := " + strings.Repeat("[", 100_000),
}

// TestHostilePolicies: whatever tenants write, compiling it and evaluating it once take no more of a processor than compiling 60 honest
// policies does, and 64 MiB.
func TestHostilePolicies(t *testing.T) {
	for name, rego := range hostile {
		t.Run(name, func(t *testing.T) {
			c := compiler(t)
			modules := map[string]string{"a.rego": "package placement.scoring\n\ndefault weights := {\"health\": 1}\n\n" +
				rego + "\n\nweights := {\"health\": 2} if p != \"nonsense\"\n"}
			if strings.Contains(rego, "weights") {
				modules["a.rego"] = "package placement.scoring\n" + rego
			}
			var set *policy.Set
			var err error
			within(t, "compiling", func() { set, err = c.Compile(modules) })
			if err == nil {
				within(t, "evaluating", func() { _, err = set.Judge(context.Background(), input()) })
			}
			if message := fmt.Sprint(err); len(message) > 2000 {
				t.Errorf("the error has %d bytes", len(message))
			}
			t.Log(err)
		})
	}
}

// within holds what f does to the limits: the processor's time, since the machine may be busy with something else.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	runtime.GC()
	before, most := heap(), uint64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for ticker := time.Tick(time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-ticker:
				most = max(most, heap())
			}
		}
	}()
	took := threadTime(f)
	close(stop)
	<-stopped
	if took > mostTimes*honestTime() {
		t.Errorf("%s took %s of a processor, an honest policy %s", what, took, honestTime())
	}
	if most > before+mostMemory {
		t.Errorf("%s took %d MiB", what, (most-before)>>20)
	}
	t.Logf("%s: %s, %d MiB", what, took.Round(100*time.Microsecond), (max(most, before)-before)>>20)
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// repeat writes a text n times, with $i for the number from 1 and $h for the one before.
func repeat(n int, text string) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		b.WriteString(strings.NewReplacer("$i", fmt.Sprint(i), "$h", fmt.Sprint(i-1)).Replace(text))
	}
	return b.String()
}

// twins makes two chains of thirty rules that end in equal values, which are not the same in memory.
func twins(text string) string {
	return "a0 := [1]\nb0 := [1]\n" + repeat(30, text+"\n"+strings.ReplaceAll(text, "a$", "b$")+"\n")
}

func numbers(n int) string {
	return "[" + strings.TrimSuffix(repeat(n, "$h, "), ", ") + "]"
}

// TestHostileProbes: whatever tenants write, all that is made up to find faults in it takes a bounded time, and what is found is
// bounded, too.
func TestHostileProbes(t *testing.T) {
	literals := func(n int, format string) string { return strings.TrimSuffix(repeat(n, format+", "), ", ") }
	modules := map[string]string{
		"thousands of literals":         `p if input.workload.labels.team in {` + literals(400, `"team$i"`) + `}` + "\n" + repeat(400, `p if input.workload.labels["k$i"] == "v$i"`+"\n"),
		"a table for each rule":         "t := {" + literals(150, `"k$i": $i`) + "}\n" + repeat(400, "p if t[input.workload.labels.l$i]\n"),
		"rules that stand for tables":   "a0 := [" + literals(150, "$i") + "]\n" + repeat(8, `t contains "k$i"`+"\n") + repeat(450, "p if input.workload.replicas in a0\n"),
		"dear for every workload":       "big := " + numbers(120) + "\np if { count([1 | some x in big; some y in big; x + y < 0]) == 0 }\n" + repeat(300, `p if input.workload.name == "n$i"`+"\n"),
		"functions that call functions": "f0(x) if x == 1\n" + repeat(300, "f$i(x) if f$h(x)\n") + "p if f300(input.workload.replicas)\n" + repeat(100, "p if f$i(input.workload.labels.l$i)\n"),
		"a long path":                   "p if data.placement." + strings.Repeat("a.", 4000) + "b",
		"long paths":                    repeat(100, "p if data.placement.x$i."+strings.Repeat("a.", 40)+"b\n"),
		"a long chain of elses":         "p := 0 if { input.workload.kind == \"a\" } " + strings.Repeat("else := 1 if { input.workload.kind == \"b\" }\n", 700),
		"long literals":                 `p if input.workload.name == "` + strings.Repeat("a", 200_000) + `"` + "\n" + repeat(300, `p if input.workload.name in {"b$i"}`+"\n"),
		"huge globs":                    `p if glob.match("` + strings.Repeat("*", 200) + `", [], input.workload.name)`,
	}
	for name, rego := range modules {
		t.Run(name, func(t *testing.T) {
			text := "package placement.scoring\n\ndefault weights := {\"health\": 1}\n\n" + rego + "\n\nweights := {\"health\": 2} if p\n"
			var set *policy.Set
			var err error
			within(t, "compiling", func() { set, err = compiler(t).Compile(map[string]string{"a.rego": text}) })
			if err != nil {
				t.Log(err)
				return
			}
			var probes []policy.Probe
			took := threadTime(func() { probes = set.Probe(context.Background(), workload.Kinds().References()) })
			if took > 5*mostTimes*honestTime() {
				t.Errorf("%d probes took %s of a processor, an honest policy %s", len(probes), took, honestTime())
			}
			t.Logf("%d probes took %s, %d comparisons", len(probes), took, len(set.Comparisons()))
			if len(probes) > 500 || len(set.Comparisons()) > 4000 {
				t.Errorf("%d probes, %d comparisons", len(probes), len(set.Comparisons()))
			}
		})
	}
}
