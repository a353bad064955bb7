package constraint

import (
	"math"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Comparison compares integers computed from a cluster's capacity and a workload's requests only, as in
// capacity.free.cpu >= 2 * workload.requests.cpu. It is evaluated in Go, without CEL. It is safe for concurrent use.
type Comparison struct {
	text        string
	relation    relation
	left, right operand
}

// BoundComparison is a comparison for one workload, which depends on the cluster alone. It is safe for concurrent use.
type BoundComparison struct {
	relation    relation
	left, right operand
}

// String returns the comparison as CEL.
func (c *Comparison) String() string { return c.text }

// Bind substitutes the values of a workload.
func (c *Comparison) Bind(w *workload.Workload) BoundComparison {
	return BoundComparison{relation: c.relation, left: c.left.bind(w), right: c.right.bind(w)}
}

// Outcome compares for one cluster. known is false if CEL returns an error.
func (b BoundComparison) Outcome(row *snapshot.Row) (holds, known bool) {
	left, known := b.left.value(row)
	if !known {
		return false, false
	}
	right, known := b.right.value(row)
	return known && b.relation.holds(left, right), known
}

// Resource is a cluster value that clusters can be sorted by.
type Resource uint8

// The resources.
const (
	FreeCPU Resource = iota + 1
	FreeMemory
)

// Range returns the interval of one resource in which the comparison holds; ok is false if it depends on anything
// else. Invariant: for every cluster the outcome is known, and is lo <= value <= hi. An empty interval has lo > hi.
func (b BoundComparison) Range() (resource Resource, lo, hi int64, ok bool) {
	r, left, right := b.relation, b.left, b.right
	if _, isConstant := left.(constant); isConstant {
		r, left, right = r.mirrored(), right, left
	}
	read, isRead := left.(*clusterValue)
	limit, isConstant := right.(constant)
	if !isRead || !isConstant || read.resource == 0 || r.less && r.greater {
		return 0, 0, 0, false
	}
	lo, hi = r.interval(int64(limit))
	return read.resource, lo, hi, true
}

// relation is the set of orderings of two numbers in which a comparison holds.
type relation struct{ less, equal, greater bool }

var relations = map[string]relation{
	operators.Less:          {less: true},
	operators.LessEquals:    {less: true, equal: true},
	operators.Equals:        {equal: true},
	operators.NotEquals:     {less: true, greater: true},
	operators.GreaterEquals: {equal: true, greater: true},
	operators.Greater:       {greater: true},
}

func (r relation) holds(a, b int64) bool {
	switch {
	case a < b:
		return r.less
	case a > b:
		return r.greater
	default:
		return r.equal
	}
}

// mirrored swaps the sides.
func (r relation) mirrored() relation {
	return relation{less: r.greater, equal: r.equal, greater: r.less}
}

// interval returns the numbers that are in the relation to a limit. The relation must not be !=.
func (r relation) interval(limit int64) (lo, hi int64) {
	lo, hi = limit, limit
	if r.less {
		lo = math.MinInt64
	}
	if r.greater {
		hi = math.MaxInt64
	}
	switch {
	case r.equal:
		return lo, hi
	case r.less && limit > math.MinInt64:
		return lo, limit - 1
	case r.greater && limit < math.MaxInt64:
		return limit + 1, hi
	default: // no int64 is below the minimum or above the maximum
		return 1, 0
	}
}

// comparisonAt reads a part of an expression as a comparison; ok is false if it is anything else. hidden are the
// variables of the macros around it, which shadow names.
func comparisonAt(e ast.Expr, typed *ast.AST, hidden []string) (c *Comparison, ok bool) {
	r := &comparisonReader{typed: typed, hidden: hidden}
	switch {
	case isPresence(e):
		ok = r.presence(e)
	case isCall(e, "hasValue") && isOptional(e.AsCall().Target()):
		ok = r.presence(e.AsCall().Target())
	case e.Kind() == ast.CallKind:
		ok = r.relation(e.AsCall())
	}
	if !ok || !r.readsSomething {
		return nil, false
	}
	return &r.comparison, true
}

// isPresence recognizes "b" in a and has(a.b).
func isPresence(e ast.Expr) bool {
	return isCall(e, operators.In) || e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly()
}

// isOptional recognizes a.?b and a[?"b"].
func isOptional(e ast.Expr) bool { return isCall(e, operators.OptSelect, operators.OptIndex) }

// comparisonReader builds a comparison from a part of an expression.
type comparisonReader struct {
	comparison Comparison
	typed      *ast.AST
	hidden     []string
	// readsSomething is whether the comparison contains anything besides constants.
	readsSomething bool
}

func (r *comparisonReader) relation(call ast.CallExpr) (ok bool) {
	c := &r.comparison
	if c.relation, ok = relations[call.FunctionName()]; !ok {
		return false
	}
	if c.left, ok = r.operand(call.Args()[0]); !ok {
		return false
	}
	c.right, ok = r.operand(call.Args()[1])
	return ok
}

// presence compares the number of resources of a name, 0 or 1, with 1.
func (r *comparisonReader) presence(e ast.Expr) (ok bool) {
	c := &r.comparison
	c.relation, c.right = relations[operators.Equals], constant(1)
	c.left, ok = r.amount(e, func(_ int64, found bool) (int64, bool) {
		if found {
			return 1, true
		}
		return 0, true
	})
	return ok
}
