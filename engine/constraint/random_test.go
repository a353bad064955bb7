package constraint_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// choices makes what is random in a test out of bytes, so that a fuzzer can lead it. When the bytes have run out every
// choice is the first.
type choices struct{ bytes []byte }

func (c *choices) below(n int) int {
	if len(c.bytes) == 0 {
		return 0
	}
	b := int(c.bytes[0])
	c.bytes = c.bytes[1:]
	return b % n
}

func pick[T any](c *choices, from ...T) T { return from[c.below(len(from))] }

// author writes expressions that compile, most of them: with errors of every kind when they are evaluated, and with
// variables of macros that hide those of the environment. Some of it depends on the order in which maps are gone through.
type author struct {
	choices
	// ints and texts are the variables of the macros around.
	ints, texts []string
	// capacityMaps and workloadMaps are what the names capacity and workload stand for: nil for the variables, otherwise
	// the fields of the map that a macro calls so.
	capacityMaps, workloadMaps []string
	depth                      int
	// withinLarge tells that a macro around goes through what has many elements: two of these are too much.
	withinLarge bool
}

const deepest = 5

// nested writes with one level less left, and with the variables that are there now restored afterwards.
func (a *author) nested(write func() string) string {
	before := *a
	a.depth++
	text := write()
	after := a.choices
	*a = before
	a.choices = after
	return text
}

// with writes where a macro names an int, or a text.
func (a *author) with(ints, texts []string, write func() string) string {
	return a.nested(func() string {
		for _, name := range slices.Concat(ints, texts) {
			a.forget(name)
			switch name {
			case "capacity":
				a.capacityMaps = []string{}
			case "workload":
				a.workloadMaps = []string{}
			}
		}
		a.ints, a.texts = append(a.ints, ints...), append(a.texts, texts...)
		return write()
	})
}

// forget a variable of a macro around, whose name is given to something else.
func (a *author) forget(name string) {
	isName := func(known string) bool { return known == name }
	a.ints = slices.DeleteFunc(slices.Clone(a.ints), isName)
	a.texts = slices.DeleteFunc(slices.Clone(a.texts), isName)
}

// condition writes a bool.
func (a *author) condition() string {
	if a.depth >= deepest {
		return a.comparison()
	}
	sub := func() string { return a.nested(a.condition) }
	switch a.below(20) {
	case 0, 1, 2, 3:
		return a.comparison()
	case 4, 5:
		return sub() + " && " + sub()
	case 6:
		return "(" + sub() + " || " + sub() + ")"
	case 7:
		return "(" + sub() + " && " + sub() + ")"
	case 8:
		return "!(" + sub() + ")"
	case 9:
		return "(" + sub() + " ? " + sub() + " : " + sub() + ")"
	case 10, 11:
		return a.fact()
	case 12:
		return a.presence()
	case 13, 14:
		if !a.withinLarge {
			return a.large()
		}
		return a.small()
	case 15:
		return a.small()
	case 16:
		return fmt.Sprintf(pick(&a.choices, "(%s) == (%s)", "(%s) in [%s]", "[%s] == [%s]", "type(%s) == type(%s)",
			"[%s, %s].exists(b, !b)", "dyn(%s) == (%s)", "{'a': %s}.a != (%s)", "sets.contains([%s], [%s])"), sub(), sub())
	case 17:
		return fmt.Sprintf(pick(&a.choices, "dyn(%s) > double(%s) / 2.5", "[%s, %s].max() > 3", "(%s) in [1, %s]", "[1].all(x, x < %s || %s > x)",
			"size(cluster.labels) * %s < %s", "dyn(%s) == dyn(%s)", "double(%s) == double(%s)"), a.number(), a.number())
	case 18:
		return fmt.Sprintf("(%s ? %s : %s) %s %s", sub(), a.number(), a.number(), a.relation(), a.number())
	default:
		if a.capacityMaps != nil {
			return pick(&a.choices, "true", "false", ".capacity.free.cpu > 3", ".workload.requests.cpu <= .capacity.free.cpu")
		}
		return pick(&a.choices, "1 > 2", "capacity == capacity", "has(capacity.free)", "capacity.free == capacity.allocatable",
			"capacity.?free.?gpu.hasValue()", "capacity.?free.gpu == capacity.?free.tpu", "has(capacity.?free.gpu)")
	}
}

// large writes a macro over what can have many elements.
func (a *author) large() string {
	return a.nested(func() string {
		a.withinLarge = true
		switch a.below(5) {
		case 0:
			key := pick(&a.choices, "k", "capacity", "workload")
			return fmt.Sprintf("cluster.labels.%s(%s, %s)", pick(&a.choices, "exists", "all", "exists_one"), key,
				a.with(nil, []string{key}, a.condition))
		case 1:
			return fmt.Sprintf("%s.%s(k, v, %s)", pick(&a.choices, "cluster.labels", a.labels()),
				pick(&a.choices, "exists", "all", "existsOne"), a.with(nil, []string{"k", "v"}, a.condition))
		case 2:
			return fmt.Sprintf("cluster.capabilities.%s(c, %s && c.available)", pick(&a.choices, "exists", "all", "exists_one"),
				a.with(nil, nil, a.condition))
		case 3:
			return fmt.Sprintf("%s.%s == %s", pick(&a.choices, "cluster.labels", "cluster.capabilities[0].attributes", a.labels()),
				pick(&a.choices, "map(k, k)[0]", "transformList(k, v, v)[1]", "filter(k, k > 'a')[0]", "transformMap(k, v, v).map(k, k)[0]"),
				a.key())
		default:
			return fmt.Sprintf("%s.%s(r, amount, %s)", a.resources(), pick(&a.choices, "all", "exists", "existsOne"),
				a.with([]string{"amount"}, []string{"r"}, a.condition))
		}
	})
}

// small writes a macro over what it makes itself.
func (a *author) small() string {
	switch a.below(5) {
	case 0:
		n := pick(&a.choices, "n", "capacity", "workload")
		return fmt.Sprintf("[%s, %s].%s(%s, %s)", a.number(), a.number(), pick(&a.choices, "exists", "all"), n,
			a.with([]string{n}, nil, a.condition))
	case 1:
		n := pick(&a.choices, "n", "capacity", "workload")
		return fmt.Sprintf("%s.optMap(%s, %s).orValue(%s)", a.optional(), n, a.with([]string{n}, nil, a.condition),
			a.nested(a.condition))
	case 2:
		return fmt.Sprintf("{'a': %s}.exists(k, v, v == %s || %s)", a.text(), a.text(), a.with(nil, []string{"k", "v"}, a.condition))
	case 3:
		return fmt.Sprintf("{'b': %s, 'a': %s}.transformList(k, v, v)[0] == %s", a.text(), a.text(), a.text())
	default:
		return a.hiding()
	}
}

// fact writes a bool that reads no amounts, most of the time.
func (a *author) fact() string {
	return pick(&a.choices,
		fmt.Sprintf("cluster.labels[%s] == %s", a.key(), a.text()),
		fmt.Sprintf("%s in cluster.labels", a.key()),
		"has(cluster.labels."+pick(&a.choices, "a", "b", "zone")+")",
		fmt.Sprintf("cluster.labels[?%s].orValue(%s) == %s", a.key(), a.text(), a.text()),
		"cluster.location in ['eu', 'us']",
		"placement.labels.?team.orValue('') == "+a.text(),
		"int(cluster.labels.n) > "+a.number(),
		"cluster.name.matches('^[ab]')",
		"cluster.capabilities[0].type == 'gpu'",
		fmt.Sprintf("%s.?a.orValue(%s) == cluster.labels.a", a.labels(), a.text()),
		a.workloadText()+" == "+a.text(),
	)
}

func (a *author) labels() string {
	if a.workloadMaps != nil {
		return "placement.labels"
	}
	return "workload.labels"
}

func (a *author) workloadText() string {
	if a.workloadMaps != nil {
		return "placement.name"
	}
	return pick(&a.choices, "workload.kind", "workload.name", "workload.annotations.note")
}

func (a *author) key() string {
	if len(a.texts) > 0 && a.below(2) == 1 {
		return pick(&a.choices, a.texts...)
	}
	return pick(&a.choices, "'a'", "'b'", "'zone'", "'n'")
}

func (a *author) text() string {
	if len(a.texts) > 0 && a.below(2) == 1 {
		return pick(&a.choices, a.texts...)
	}
	return pick(&a.choices, "'x'", "'y'", "'7'", "''")
}

func (a *author) relation() string { return pick(&a.choices, ">=", "<", ">", "<=", "==", "!=") }

func (a *author) comparison() string {
	return fmt.Sprintf("%s %s %s", a.number(), a.relation(), a.number())
}

// number writes an int.
func (a *author) number() string {
	if a.depth >= deepest {
		return a.leaf()
	}
	sub := func() string { return a.nested(a.number) }
	switch a.below(14) {
	case 0, 1, 2, 3, 4, 5, 6:
		return a.leaf()
	case 7, 8:
		return fmt.Sprintf("(%s %s %s)", sub(), pick(&a.choices, "+", "-", "*", "/", "%"), sub())
	case 9:
		return fmt.Sprintf("2 * %s", a.leaf())
	case 10:
		return "-(" + sub() + ")"
	case 11:
		return fmt.Sprintf("%s.orValue(%s)", a.optional(), pick(&a.choices, "0", "-3", "9223372036854775807", a.leaf()))
	case 12:
		if len(a.ints) > 0 {
			return pick(&a.choices, a.ints...)
		}
		return a.leaf()
	default:
		return pick(&a.choices, "size(cluster.name)", "int(cluster.labels.?n.orValue('7'))", "[1, 2].max()", "quantity('4Gi')")
	}
}

// leaf writes an int that has no other in it.
func (a *author) leaf() string {
	switch a.below(10) {
	case 0, 1, 2, 3:
		return a.lookUp(pick(&a.choices, "cpu", "memory", "cpu", "storage", "gpu", "tpu"), a.resources())
	case 4, 5:
		if a.workloadMaps == nil {
			return pick(&a.choices, "workload.requests.cpu", "workload.replicas", "workload.requests.memory", "workload.requests['gpu']")
		}
	case 6:
		if a.capacityMaps == nil {
			return pick(&a.choices, "capacity.healthScore", "capacity.performanceScore")
		}
	}
	return pick(&a.choices, "0", "1", "3", "-1", "1000", "9223372036854775807", "-9223372036854775808", "4611686018427387904", "100")
}

// resources writes a map from resources to amounts.
func (a *author) resources() string {
	switch {
	case a.capacityMaps == nil:
		return "capacity." + pick(&a.choices, "free", "allocatable", "utilization", "allocated", "reserved")
	case len(a.capacityMaps) > 0:
		return "capacity." + pick(&a.choices, a.capacityMaps...)
	case a.workloadMaps == nil:
		return "workload.requests"
	case len(a.workloadMaps) > 0:
		return "workload." + pick(&a.choices, a.workloadMaps...)
	default:
		return "{'cpu': 3, 'memory': 1000}"
	}
}

func (a *author) lookUp(name, in string) string {
	if a.below(3) == 0 {
		return fmt.Sprintf("%s[%q]", in, name)
	}
	return in + "." + name
}

func (a *author) optional() string {
	name := pick(&a.choices, "gpu", "cpu", "tpu")
	if a.below(2) == 0 {
		return fmt.Sprintf("%s[?%q]", a.resources(), name)
	}
	return a.resources() + ".?" + name
}

func (a *author) presence() string {
	name := pick(&a.choices, "gpu", "cpu", "tpu")
	return pick(&a.choices, fmt.Sprintf("%q in %s", name, a.resources()), fmt.Sprintf("has(%s.%s)", a.resources(), name),
		a.optional()+".hasValue()", fmt.Sprintf("has(%s.%s) == has(%s.tpu)", a.resources(), name, a.resources()),
		a.optional()+" == "+a.optional())
}

// hiding writes a macro whose variable has the name of one of the environment, and fields that look the same.
func (a *author) hiding() string {
	return a.nested(func() string {
		name, field := "capacity", pick(&a.choices, "free", "allocatable")
		if a.below(2) == 1 {
			name, field = "workload", "requests"
		}
		value := fmt.Sprintf("{'%s': {'cpu': %s, 'memory': %s}}", field, a.number(), a.number())
		format := pick(&a.choices, "[%s].exists(%s, %s)", "[%s].all(i, %s, %s)", "{'a': %s}.exists(k, %s, %s)",
			"optional.of(%s).optMap(%s, %s).orValue(false)")
		if name == "capacity" {
			a.capacityMaps = []string{field}
		} else {
			a.workloadMaps = []string{field}
		}
		a.forget(name)
		return fmt.Sprintf(format, value, name, a.condition())
	})
}

// world makes what expressions are evaluated over: small amounts as they are in life, and some near the ends of int64.
type world struct{ choices }

func (w *world) amount() int64 {
	return pick(&w.choices, int64(0), 1, 3, 1000, 1500, 4<<30, 100, -1, -1000, math.MaxInt64, math.MinInt64, math.MaxInt64-1,
		math.MinInt64+1, math.MaxInt64/2, math.MinInt64/2, 1<<60, int64(w.below(256)))
}

func (w *world) resources() capacity.Resources {
	r := capacity.Resources{CPU: w.amount(), Memory: w.amount(), Storage: w.amount()}
	switch n := w.below(40); {
	case n < 15:
	case n == 15:
		r.Extended = map[string]int64{strings.Repeat("long", 100): 1}
	case n == 16:
		r.Extended = map[string]int64{"gpu": 1}
		for i := range constraint.MaxEntries {
			r.Extended[strconv.Itoa(i)] = 1
		}
	default:
		r.Extended = map[string]int64{}
		for _, name := range []string{"gpu", "tpu", "nvidia.com/gpu"} {
			if w.below(2) == 1 {
				r.Extended[name] = w.amount()
			}
		}
	}
	return r
}

func (w *world) labels() map[string]string {
	labels := map[string]string{}
	for _, key := range []string{"a", "b", "zone", "n", "team"} {
		if w.below(2) == 1 {
			labels[key] = pick(&w.choices, "x", "y", "7", "")
		}
	}
	switch w.below(40) {
	case 1:
		labels["a"] = strings.Repeat("x", 64)
	case 2:
		for i := range constraint.MaxEntries + 1 {
			labels[strconv.Itoa(i)] = "x"
		}
	}
	return labels
}

// variables are a cluster, a workload and a placement.
func (w *world) variables() *constraint.Variables {
	c := &snapshot.Cluster{Name: pick(&w.choices, "a", "b", "c"), Location: pick(&w.choices, "eu", "us", "asia"), Labels: w.labels()}
	for i := range w.below(4) {
		c.Capabilities = append(c.Capabilities, snapshot.Capability{
			Type: pick(&w.choices, "gpu", "ssd", "fpga") + strconv.Itoa(i)[1:], Available: w.below(2) == 1,
			Attributes: map[string]string{"model": pick(&w.choices, "x", "y")},
		})
	}
	c.Conditions = []snapshot.Condition{{Type: "Ready", Status: pick(&w.choices, "True", "False", "Unknown")}}
	c.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
	c.Allocatable, c.Allocated = w.resources(), w.resources()
	row := snapshot.NewRow(c, w.resources())
	if w.below(2) == 1 {
		row.Free.CPU, row.Free.Memory = w.amount(), w.amount()
		row.Allocated.CPU = w.amount()
	}
	return &constraint.Variables{
		Row: row,
		Workload: &workload.Workload{
			Reference: workload.Reference{APIVersion: "apps/v1", Kind: pick(&w.choices, "Deployment", "Job"), Name: pick(&w.choices, "x", "y")},
			Labels:    w.labels(), Annotations: map[string]string{"note": pick(&w.choices, "x", "y")},
			Replicas: w.amount(), Requests: w.resources(),
		},
		Placement: workload.Placement{Name: pick(&w.choices, "x", "y"), Labels: w.labels()},
	}
}

// otherAmounts are the same variables, but for what the cluster has and the workload asks for.
func (w *world) otherAmounts(v *constraint.Variables) *constraint.Variables {
	cluster, asking := *v.Row.Cluster, *v.Workload
	cluster.Allocatable, cluster.Allocated = w.resources(), w.resources()
	asking.Replicas, asking.Requests = w.amount(), w.resources()
	asking.Labels = maps.Clone(asking.Labels)
	return &constraint.Variables{Row: snapshot.NewRow(&cluster, w.resources()), Workload: &asking, Placement: v.Placement}
}
