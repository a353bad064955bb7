package constraint

import (
	"math"
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Comparison compares whole numbers that are computed from what a cluster has and what a workload asks for, and from
// nothing else: capacity.free.cpu >= 2 * workload.requests.cpu. Go answers it without CEL. It is safe for concurrent
// use.
type Comparison struct {
	text        string
	relation    relation
	left, right term
	// ofResources and ofRequests tell whether it reads a map of resources of the cluster, and that of the workload.
	ofResources, ofRequests bool
}

// Bound is a comparison into which the numbers of one workload are put. It is safe for concurrent use.
type Bound struct {
	relation    relation
	left, right term
	ofResources bool
}

// String is the comparison as CEL.
func (c *Comparison) String() string { return c.text }

// Bind puts the numbers of a workload into the comparison, so that the cluster alone is left to look at.
func (c *Comparison) Bind(w *workload.Workload) *Bound {
	if c.ofRequests && names("workload.requests", w.Requests.Extended) != nil {
		return &Bound{left: failure{}, right: failure{}}
	}
	return &Bound{relation: c.relation, left: c.left.bind(w), right: c.right.bind(w), ofResources: c.ofResources}
}

// Outcome compares for one cluster. It is not known where CEL gives an error.
func (b *Bound) Outcome(row *snapshot.Row) (holds, known bool) {
	if b.ofResources && !Comparable(row) {
		return false, false
	}
	left, known := b.left.value(row)
	if !known {
		return false, false
	}
	right, known := b.right.value(row)
	return known && b.relation.holds(left, right), known
}

// Comparable tells whether the resources of a cluster are within the bounds of what constraints are evaluated over.
// Where they are not, no comparison with them has an outcome.
func Comparable(row *snapshot.Row) bool {
	return len(row.Free.Extended) == 0 || names("capacity", row.Free.Extended) == nil
}

// Leaf is a number of a cluster by which clusters can be kept in order.
type Leaf uint8

// The leaves.
const (
	FreeCPU Leaf = iota + 1
	FreeMemory
)

// Of returns the number of a cluster.
func (l Leaf) Of(row *snapshot.Row) int64 {
	if l == FreeCPU {
		return row.Free.CPU
	}
	return row.Free.Memory
}

// Range tells the numbers for which the comparison holds, where it is of one leaf: for all clusters that are Comparable
// its outcome is known, and it is whether lo <= leaf <= hi. Where no number would do, lo is above hi.
func (b *Bound) Range() (leaf Leaf, lo, hi int64, ok bool) {
	r, left, right := b.relation, b.left, b.right
	if _, isConstant := left.(constant); isConstant {
		r, left, right = r.mirrored(), right, left
	}
	read, isRead := left.(*supply)
	limit, isConstant := right.(constant)
	if !isRead || !isConstant || read.leaf == 0 || r.less && r.greater {
		return 0, 0, 0, false
	}
	lo, hi = r.interval(int64(limit))
	return read.leaf, lo, hi, true
}

// relation is the set of orders of two numbers in which a comparison holds.
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

// mirrored is the relation with its sides exchanged.
func (r relation) mirrored() relation {
	return relation{less: r.greater, equal: r.equal, greater: r.less}
}

// interval holds the numbers that stand in the relation to a limit; the relation must not be that of inequality.
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
	default: // nothing is less than the least, nor greater than the greatest
		return 1, 0
	}
}

// term is one side of a comparison, or a part of it.
type term interface {
	// bind returns the term with the numbers of a workload in it.
	bind(*workload.Workload) term
	// value of a bound term for a cluster; it is not known where CEL gives an error.
	value(*snapshot.Row) (n int64, known bool)
}

// The kinds of terms.
type (
	// constant is a number that is written, or that has become known by binding.
	constant int64
	// failure is an error, whatever the cluster.
	failure struct{}
	// supply is a number of a cluster.
	supply struct {
		read func(*snapshot.Row) (n int64, known bool)
		leaf Leaf
	}
	// demand is a number of a workload.
	demand func(*workload.Workload) (n int64, known bool)
	// arithmetic makes a number of two others, as CEL does: what has no room in an int64 is an error.
	arithmetic struct {
		apply       func(a, b int64) (n int64, known bool)
		left, right term
	}
)

func (c constant) bind(*workload.Workload) term       { return c }
func (c constant) value(*snapshot.Row) (int64, bool)  { return int64(c), true }
func (f failure) bind(*workload.Workload) term        { return f }
func (f failure) value(*snapshot.Row) (int64, bool)   { return 0, false }
func (s *supply) bind(*workload.Workload) term        { return s }
func (s *supply) value(r *snapshot.Row) (int64, bool) { return s.read(r) }
func (d demand) bind(w *workload.Workload) term       { return constantOr(d(w)) }
func (d demand) value(*snapshot.Row) (int64, bool)    { return 0, false } // it has no value before it is bound

func constantOr(n int64, known bool) term {
	if !known {
		return failure{}
	}
	return constant(n)
}

func (a *arithmetic) bind(w *workload.Workload) term {
	left, right := a.left.bind(w), a.right.bind(w)
	n, isConstant := left.(constant)
	m, areConstant := right.(constant)
	if isConstant && areConstant {
		return constantOr(a.apply(int64(n), int64(m)))
	}
	return &arithmetic{a.apply, left, right}
}

func (a *arithmetic) value(row *snapshot.Row) (int64, bool) {
	left, known := a.left.value(row)
	if !known {
		return 0, false
	}
	right, known := a.right.value(row)
	if !known {
		return 0, false
	}
	return a.apply(left, right)
}

// operations are those of arithmetic, with the errors of CEL.
var operations = map[string]func(a, b int64) (int64, bool){
	operators.Add: func(a, b int64) (int64, bool) {
		sum := a + b
		return sum, (sum > a) == (b > 0)
	},
	operators.Subtract: subtract,
	operators.Multiply: func(a, b int64) (int64, bool) {
		if a == 0 || b == 0 {
			return 0, true
		}
		product := a * b
		return product, product/b == a && (product < 0) == ((a < 0) != (b < 0))
	},
	operators.Divide: func(a, b int64) (int64, bool) {
		if !divisible(a, b) {
			return 0, false
		}
		return a / b, true
	},
	operators.Modulo: func(a, b int64) (int64, bool) {
		if !divisible(a, b) {
			return 0, false
		}
		return a % b, true
	},
}

func subtract(a, b int64) (int64, bool) {
	difference := a - b
	return difference, (difference < a) == (b > 0)
}

func divisible(a, b int64) bool { return b != 0 && (a != math.MinInt64 || b != -1) }

// comparisonAt reads a part of an expression as a comparison; ok is false where it is anything else. The names in hidden
// are those that macros around it give to something of their own.
func comparisonAt(e ast.Expr, typed *ast.AST, hidden []string) (c *Comparison, ok bool) {
	r := &reader{typed: typed, hidden: hidden}
	switch {
	case isPresence(e):
		ok = r.presence(e)
	case isCall(e, "hasValue") && isOptional(e.AsCall().Target()):
		ok = r.presence(e.AsCall().Target())
	case e.Kind() == ast.CallKind:
		ok = r.relation(e.AsCall())
	}
	return &r.comparison, ok && r.readsSomething
}

// isPresence recognises "b" in a and has(a.b).
func isPresence(e ast.Expr) bool {
	return isCall(e, operators.In) || e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly()
}

// isOptional recognises a.?b and a[?"b"].
func isOptional(e ast.Expr) bool { return isCall(e, operators.OptSelect, operators.OptIndex) }

// reader makes a comparison of a part of an expression.
type reader struct {
	comparison     Comparison
	typed          *ast.AST
	hidden         []string
	readsSomething bool
}

func (r *reader) relation(call ast.CallExpr) (ok bool) {
	c := &r.comparison
	if c.relation, ok = relations[call.FunctionName()]; !ok {
		return false
	}
	if c.left, ok = r.term(call.Args()[0]); !ok {
		return false
	}
	c.right, ok = r.term(call.Args()[1])
	return ok
}

// presence compares how many resources have a name, which is 1 or 0, with 1.
func (r *reader) presence(e ast.Expr) (ok bool) {
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

// term reads a part of an expression as a number.
func (r *reader) term(e ast.Expr) (term, bool) {
	switch {
	case r.typed.GetType(e.ID()).Kind() != types.IntKind:
		return nil, false
	case e.Kind() == ast.LiteralKind:
		n, ok := e.AsLiteral().(types.Int)
		return constant(n), ok
	case isCall(e, operators.Negate):
		n, ok := r.term(e.AsCall().Args()[0])
		return &arithmetic{subtract, constant(0), n}, ok
	case isCall(e, "orValue") && isOptional(e.AsCall().Target()):
		instead, ok := e.AsCall().Args()[0].AsLiteral().(types.Int)
		if !ok {
			return nil, false
		}
		return r.amount(e.AsCall().Target(), func(n int64, found bool) (int64, bool) {
			if !found {
				n = int64(instead)
			}
			return n, true
		})
	case e.Kind() == ast.CallKind && operations[e.AsCall().FunctionName()] != nil:
		left, ok := r.term(e.AsCall().Args()[0])
		if !ok {
			return nil, false
		}
		right, ok := r.term(e.AsCall().Args()[1])
		return &arithmetic{operations[e.AsCall().FunctionName()], left, right}, ok
	}
	if number, ok := r.number(e); ok {
		return number, true
	}
	return r.amount(e, func(n int64, found bool) (int64, bool) { return n, found })
}

// number reads capacity.healthScore and its like.
func (r *reader) number(e ast.Expr) (term, bool) {
	variable, field := r.field(e)
	switch {
	case variable == "capacity" && scores[field] != nil:
		score := scores[field]
		return &supply{read: func(row *snapshot.Row) (int64, bool) { return score(row), true }}, true
	case variable == "workload" && field == "replicas":
		return demand(func(w *workload.Workload) (int64, bool) { return w.Replicas, true }), true
	}
	return nil, false
}

// amount reads capacity.free.cpu and its like, whichever way it is looked up. What is found is put through give.
func (r *reader) amount(e ast.Expr, give func(n int64, found bool) (int64, bool)) (term, bool) {
	resources, name, ok := lookupAt(e)
	if !ok {
		return nil, false
	}
	variable, field := r.field(resources)
	switch {
	case variable == "capacity" && supplies[field] != nil:
		r.comparison.ofResources = true
		supplied := supplies[field]
		return &supply{func(row *snapshot.Row) (int64, bool) {
			return give((*resourceMap)(supplied(row)).amount(name))
		}, leafNamed(field, name)}, true
	case variable == "workload" && field == "requests":
		r.comparison.ofRequests = true
		return demand(func(w *workload.Workload) (int64, bool) {
			return give((*resourceMap)(&w.Requests).amount(name))
		}), true
	}
	return nil, false
}

// field recognises a field of a variable; both are empty where there is none.
func (r *reader) field(e ast.Expr) (variable, field string) {
	chain, ok := chainOf(e)
	if !ok || len(chain.steps) != 1 || slices.Contains(r.hidden, chain.root) {
		return "", ""
	}
	r.readsSomething = true
	return chain.root, chain.steps[0].key
}

// supplies and scores are what CEL knows as the fields of capacity.
var (
	supplies = map[string]func(*snapshot.Row) *capacity.Resources{
		"allocatable": func(r *snapshot.Row) *capacity.Resources { return &r.Allocatable },
		"allocated":   func(r *snapshot.Row) *capacity.Resources { return &r.Allocated },
		"reserved":    func(r *snapshot.Row) *capacity.Resources { return &r.Reserved },
		"free":        func(r *snapshot.Row) *capacity.Resources { return &r.Free },
		"utilization": func(r *snapshot.Row) *capacity.Resources { return &r.Utilization },
	}
	scores = map[string]func(*snapshot.Row) int64{
		"healthScore":      func(r *snapshot.Row) int64 { return r.HealthScore },
		"performanceScore": func(r *snapshot.Row) int64 { return r.PerformanceScore },
	}
)

func leafNamed(field, resource string) Leaf {
	switch {
	case field != "free":
		return 0
	case resource == capacity.CPU:
		return FreeCPU
	case resource == capacity.Memory:
		return FreeMemory
	}
	return 0
}
