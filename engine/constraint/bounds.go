package constraint

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/kcp-placement/placement/engine/snapshot"
)

// Bounds up to which an expression is costed. Where an object that it reads is larger, it is not evaluated.
const (
	maxEntries   = 256 // of a map
	maxItems     = 64  // of a list
	maxKey       = 317 // characters of a name, or of a label's or annotation's key
	maxLabel     = 63  // characters of a label's value
	maxAttribute = 256 // characters of an attribute of a capability
	maxText      = 4096
)

// check holds one field to what expressions that read it are costed for.
type check struct {
	field string
	check func(field string, v *Variables) error
}

// sizeChecks are the fields that can be too large. That the API server would not let some of them be is not relied on.
var sizeChecks = []check{
	{"cluster.name", func(f string, v *Variables) error { return short(f, v.Row.Name, maxKey) }},
	{"cluster.location", func(f string, v *Variables) error { return short(f, v.Row.Location, maxKey) }},
	{"cluster.labels", func(f string, v *Variables) error { return small(f, v.Row.Labels, maxLabel) }},
	{"cluster.capabilities", func(f string, v *Variables) error {
		return each(f, v.Row.Capabilities, func(c *snapshot.Capability) error {
			if err := small("cluster.capabilities attributes", c.Attributes, maxAttribute); err != nil {
				return err
			}
			return short("cluster.capabilities type", c.Type, maxText)
		})
	}},
	{"cluster.taints", func(f string, v *Variables) error {
		return each(f, v.Row.Taints, func(t *corev1.Taint) error { return short(f, longest(t.Key, t.Value, string(t.Effect)), maxText) })
	}},
	{"cluster.conditions", func(f string, v *Variables) error {
		return each(f, v.Row.Conditions, func(c *snapshot.Condition) error {
			return short(f, longest(c.Type, c.Status, c.Reason, c.Message), maxText)
		})
	}},
	{"capacity.allocatable", resources}, {"capacity.allocated", resources}, {"capacity.reserved", resources},
	{"capacity.free", resources}, {"capacity.utilization", resources},
	{"workload.apiVersion", func(f string, v *Variables) error { return short(f, v.Workload.APIVersion, maxKey) }},
	{"workload.kind", func(f string, v *Variables) error { return short(f, v.Workload.Kind, maxKey) }},
	{"workload.namespace", func(f string, v *Variables) error { return short(f, v.Workload.Namespace, maxKey) }},
	{"workload.name", func(f string, v *Variables) error { return short(f, v.Workload.Name, maxKey) }},
	{"workload.labels", func(f string, v *Variables) error { return small(f, v.Workload.Labels, maxLabel) }},
	{"workload.annotations", func(f string, v *Variables) error { return small(f, v.Workload.Annotations, maxText) }},
	{"workload.requests", func(f string, v *Variables) error { return names(f, v.Workload.Requests.Extended) }},
	{"placement.name", func(f string, v *Variables) error { return short(f, v.Placement.Name, maxKey) }},
	{"placement.namespace", func(f string, v *Variables) error { return short(f, v.Placement.Namespace, maxKey) }},
	{"placement.labels", func(f string, v *Variables) error { return small(f, v.Placement.Labels, maxLabel) }},
}

// within holds what an expression reads to its bounds.
func within(bounds []check, v *Variables) error {
	for i := range bounds {
		if err := bounds[i].check(bounds[i].field, v); err != nil {
			return err
		}
	}
	return nil
}

func resources(field string, v *Variables) error {
	// What is allocatable, allocated or reserved is in what is free, if only as less than nothing.
	return names(field, v.Row.Free.Extended)
}

func names(field string, amounts map[string]int64) error {
	if err := entries(field, len(amounts), maxEntries); err != nil {
		return err
	}
	var longest string
	for name := range amounts {
		if len(name) > len(longest) {
			longest = name
		}
	}
	return short(field, longest, maxKey)
}

func entries(field string, n, most int) error {
	if n > most {
		return fmt.Errorf("%s has %d entries, constraints are evaluated over at most %d", field, n, most)
	}
	return nil
}

func short(field, text string, most int) error {
	if len(text) > most && utf8.RuneCountInString(text) > most {
		return fmt.Errorf("%s has a text of %d characters, constraints are evaluated over at most %d", field, utf8.RuneCountInString(text), most)
	}
	return nil
}

func small(field string, m map[string]string, most int) error {
	if err := entries(field, len(m), maxEntries); err != nil {
		return err
	}
	var key, value string // the longest: which is told does not depend on the order of the map
	for k, v := range m {
		if len(k) > len(key) {
			key = k
		}
		if len(v) > len(value) {
			value = v
		}
	}
	if err := short(field, key, maxKey); err != nil {
		return err
	}
	return short(field, value, most)
}

func each[T any](field string, items []T, check func(*T) error) error {
	if err := entries(field, len(items), maxItems); err != nil {
		return err
	}
	for i := range items {
		if err := check(&items[i]); err != nil {
			return err
		}
	}
	return nil
}

func longest(texts ...string) string {
	return slices.MaxFunc(texts, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
}

// estimator tells the cost estimator how large what an expression reads can be.
type estimator struct{}

func (estimator) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	path := node.Path()
	if len(path) == 0 {
		if node.Expr() != nil && withDefault(node.Expr()) { // an element of a list that is computed has no expression
			return &checker.SizeEstimate{Min: 0, Max: maxText}
		}
		return nil
	}
	most := uint64(maxText)
	switch node.Type().Kind() {
	case types.MapKind:
		most = maxEntries
	case types.ListKind:
		most = maxItems
	case types.StringKind, types.BytesKind:
		most = uint64(textBound(path))
	}
	return &checker.SizeEstimate{Min: 0, Max: most}
}

// The last elements of paths to what is in a collection, as CEL has them.
const (
	keysOf   = "@keys"
	valuesOf = "@values"
	itemsOf  = "@items"
)

// textBound is how many characters the text at a path can have.
func textBound(path []string) int {
	switch {
	case path[len(path)-1] == keysOf || len(path) == 2: // names, kinds and their like
		return maxKey
	case slices.Contains(path, "labels"):
		return maxLabel
	case slices.Contains(path, "attributes"):
		return maxAttribute
	}
	return maxText
}

// withDefault recognises cluster.labels.?tier.orValue("none") and its like, whose size CEL does not know although it
// knows that of both halves. What is computed in any other way stays without a bound.
func withDefault(e ast.Expr) bool {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "orValue" {
		return false
	}
	target, fallback := e.AsCall().Target(), e.AsCall().Args()[0]
	if target.Kind() != ast.CallKind || fallback.Kind() != ast.LiteralKind {
		return false
	}
	switch target.AsCall().FunctionName() {
	case operators.OptSelect, operators.OptIndex:
		_, ok := chainOf(target.AsCall().Args()[0])
		return ok
	}
	return false
}

// sizeOf is how large the value of a node can be.
func (b estimator) sizeOf(node *checker.AstNode) checker.SizeEstimate {
	if computed := (*node).ComputedSize(); computed != nil {
		return *computed
	}
	if known := b.EstimateSize(*node); known != nil {
		return *known
	}
	return checker.SizeEstimate{Max: math.MaxUint64}
}

// EstimateCallCost knows what the functions of Kubernetes' own libraries cost, and better than they do what regular
// expressions and functions of strings can come to.
func (b estimator) EstimateCallCost(function, overload string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	if estimate := matchingCost(b, function, target, args); estimate != nil {
		return estimate
	}
	if estimate := b.stringCost(function, target, args); estimate != nil {
		return estimate
	}
	return (&library.CostEstimator{SizeEstimator: b}).EstimateCallCost(function, overload, target, args)
}

// stringCost is what a function of a string costs that is dearer than it is usually taken for; nil for any other.
func (b estimator) stringCost(function string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	text := target
	if text == nil && len(args) > 0 {
		text = &args[0]
	}
	if text == nil || (*text).Type().Kind() != types.StringKind {
		return nil
	}
	size := b.sizeOf(text)
	estimate := func(size checker.SizeEstimate) *checker.CallEstimate {
		return &checker.CallEstimate{CostEstimate: checker.CostEstimate{Min: 1, Max: 1}.Add(size.MultiplyByCostFactor(common.StringTraversalCostFactor))}
	}
	switch {
	case function == "charAt": // it makes runes of all of the text
		cost := estimate(size)
		cost.ResultSize = &checker.SizeEstimate{Max: 1}
		return cost
	case (function == "indexOf" || function == "lastIndexOf") && target != nil && len(args) > 0: // it tries every place
		return estimate(size.Multiply(checker.SizeEstimate{Min: 1, Max: add1(b.sizeOf(&args[0]).Max)}))
	case function == "replace" && target != nil && len(args) > 1: // it may put the new text before every character
		result := checker.SizeEstimate{Max: size.Max}.Add(
			checker.SizeEstimate{Max: add1(size.Max)}.Multiply(checker.SizeEstimate{Max: b.sizeOf(&args[1]).Max}))
		cost := estimate(result)
		cost.ResultSize = &checker.SizeEstimate{Max: result.Max}
		return cost
	case slices.Contains([]string{"double", "int", "uint", "timestamp", "duration"}, function):
		return estimate(checker.SizeEstimate{Max: min(size.Max, maxText)}) // nothing that is read is longer
	}
	return nil
}

// add1 is n + 1, and no less where that has no room.
func add1(n uint64) uint64 { return max(n, n+1) }
