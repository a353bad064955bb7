package constraint

import (
	"math"
	"slices"

	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"k8s.io/apiserver/pkg/cel/library"
)

// stepsPerCost is the number of matching steps that cost one unit of CEL.
const stepsPerCost = 10

// estimator implements checker.CostEstimator: it knows the maximum size of the fields that expressions read.
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

// The last elements of CEL's paths into collections.
const (
	keysOf   = "@keys"
	valuesOf = "@values"
	itemsOf  = "@items"
)

// textBound returns the maximum number of characters of the text at a path.
func textBound(path []string) int {
	switch {
	case path[len(path)-1] == keysOf || len(path) == 2: // names, kinds and similar
		return maxKey
	case slices.Contains(path, "labels"):
		return maxLabel
	case slices.Contains(path, "attributes"):
		return maxAttribute
	}
	return maxText
}

// withDefault recognizes cluster.labels.?tier.orValue("none"). CEL does not derive its size, although it knows that of
// both halves. Any other computed text has no bound.
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

// sizeOf returns the largest size of the value of a node.
func (b estimator) sizeOf(node *checker.AstNode) checker.SizeEstimate {
	if computed := (*node).ComputedSize(); computed != nil {
		return *computed
	}
	if known := b.EstimateSize(*node); known != nil {
		return *known
	}
	return checker.SizeEstimate{Max: math.MaxUint64}
}

// EstimateCallCost adds the costs of Kubernetes' CEL libraries, and corrects those of regular expressions and string
// functions, which these libraries underestimate.
func (b estimator) EstimateCallCost(function, overload string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	if estimate := matchingCost(b, function, target, args); estimate != nil {
		return estimate
	}
	if estimate := b.stringCost(function, target, args); estimate != nil {
		return estimate
	}
	return (&library.CostEstimator{SizeEstimator: b}).EstimateCallCost(function, overload, target, args)
}

// stringCost returns the cost of a string function that CEL underestimates; nil for any other call.
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
	case function == "charAt": // it converts the whole text to runes
		cost := estimate(size)
		cost.ResultSize = &checker.SizeEstimate{Max: 1}
		return cost
	case (function == "indexOf" || function == "lastIndexOf") && target != nil && len(args) > 0: // it tries every position
		return estimate(size.Multiply(checker.SizeEstimate{Min: 1, Max: add1(b.sizeOf(&args[0]).Max)}))
	case function == "replace" && target != nil && len(args) > 1: // it may put the new text before every character
		result := checker.SizeEstimate{Max: size.Max}.Add(
			checker.SizeEstimate{Max: add1(size.Max)}.Multiply(checker.SizeEstimate{Max: b.sizeOf(&args[1]).Max}))
		cost := estimate(result)
		cost.ResultSize = &checker.SizeEstimate{Max: result.Max}
		return cost
	case slices.Contains([]string{"double", "int", "uint", "timestamp", "duration"}, function):
		return estimate(checker.SizeEstimate{Max: min(size.Max, maxText)}) // no field is longer
	}
	return nil
}

// add1 returns n + 1, saturating.
func add1(n uint64) uint64 { return max(n, n+1) }

// matchingCost returns the cost of matching a regular expression; nil for any other call.
func matchingCost(b estimator, function string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	if function != "matches" && function != "find" && function != "findAll" || len(args) == 0 {
		return nil
	}
	text := target
	if text == nil {
		text, args = &args[0], args[1:]
	}
	if len(args) == 0 {
		return nil
	}
	pattern, ok := literal(args[0].Expr())
	if !ok {
		return nil // already refused
	}
	steps, err := stepsOf(pattern)
	if err != nil {
		return nil
	}
	size := b.sizeOf(text)
	scanned := size
	if function == "findAll" { // each match may scan the rest of the text
		scanned = size.Multiply(size)
	}
	estimate := &checker.CallEstimate{CostEstimate: checker.CostEstimate{Min: 1, Max: 1}.Add(
		scanned.MultiplyByCostFactor(float64(steps) / stepsPerCost))}
	if function != "matches" { // the matches are parts of the text
		estimate.ResultSize = &checker.SizeEstimate{Max: size.Max}
	}
	return estimate
}
