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

// operand is one side of a comparison, or a part of one.
type operand interface {
	// bind substitutes the values of a workload.
	bind(*workload.Workload) operand
	// value of a bound operand for a cluster. known is false if CEL returns an error.
	value(*snapshot.Row) (n int64, known bool)
}

// The kinds of operands.
type (
	// constant is a literal, or a workload value after binding.
	constant int64
	// failure is an error for every cluster.
	failure struct{}
	// clusterValue is read from a cluster.
	clusterValue struct {
		read     func(*snapshot.Row) (n int64, known bool)
		resource Resource
	}
	// workloadValue is read from a workload.
	workloadValue func(*workload.Workload) (n int64, known bool)
	// arithmetic combines two operands as CEL does: an overflow is an error.
	arithmetic struct {
		apply       func(a, b int64) (n int64, known bool)
		left, right operand
	}
)

func (c constant) bind(*workload.Workload) operand          { return c }
func (c constant) value(*snapshot.Row) (int64, bool)        { return int64(c), true }
func (f failure) bind(*workload.Workload) operand           { return f }
func (f failure) value(*snapshot.Row) (int64, bool)         { return 0, false }
func (s *clusterValue) bind(*workload.Workload) operand     { return s }
func (s *clusterValue) value(r *snapshot.Row) (int64, bool) { return s.read(r) }
func (d workloadValue) bind(w *workload.Workload) operand   { return constantOr(d(w)) }
func (d workloadValue) value(*snapshot.Row) (int64, bool)   { return 0, false } // unknown before it is bound

func constantOr(n int64, known bool) operand {
	if !known {
		return failure{}
	}
	return constant(n)
}

func (a *arithmetic) bind(w *workload.Workload) operand {
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

// operations are CEL's, with its errors.
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

// operand reads a part of an expression as an operand.
func (r *comparisonReader) operand(e ast.Expr) (operand, bool) {
	switch {
	case r.typed.GetType(e.ID()).Kind() != types.IntKind:
		return nil, false
	case e.Kind() == ast.LiteralKind:
		n, ok := e.AsLiteral().(types.Int)
		return constant(n), ok
	case isCall(e, operators.Negate):
		n, ok := r.operand(e.AsCall().Args()[0])
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
		left, ok := r.operand(e.AsCall().Args()[0])
		if !ok {
			return nil, false
		}
		right, ok := r.operand(e.AsCall().Args()[1])
		return &arithmetic{operations[e.AsCall().FunctionName()], left, right}, ok
	}
	if number, ok := r.number(e); ok {
		return number, true
	}
	amount, ok := r.amount(e, func(n int64, found bool) (int64, bool) { return n, found })
	if s, isClusterValue := amount.(*clusterValue); isClusterValue {
		s.resource = resourceAt(e)
	}
	return amount, ok
}

// number reads a field such as capacity.healthScore.
func (r *comparisonReader) number(e ast.Expr) (operand, bool) {
	variable, field := r.field(e)
	switch {
	case variable == "capacity" && scores[field] != nil:
		score := scores[field]
		return &clusterValue{read: func(row *snapshot.Row) (int64, bool) { return score(row), true }}, true
	case variable == "workload" && field == "replicas":
		return workloadValue(func(w *workload.Workload) (int64, bool) { return w.Replicas, true }), true
	}
	return nil, false
}

// amount reads an amount such as capacity.free.cpu, in any of CEL's notations. give maps the result of the look-up.
func (r *comparisonReader) amount(e ast.Expr, give func(n int64, found bool) (int64, bool)) (operand, bool) {
	resources, name, ok := lookupAt(e)
	if !ok {
		return nil, false
	}
	variable, field := r.field(resources)
	switch {
	case variable == "capacity" && clusterAmounts[field] != nil:
		supplied := clusterAmounts[field]
		return &clusterValue{read: func(row *snapshot.Row) (int64, bool) {
			amounts := supplied(row)
			return give((*resourceMap)(&amounts).amount(name))
		}}, true
	case variable == "workload" && field == "requests":
		return workloadValue(func(w *workload.Workload) (int64, bool) {
			return give((*resourceMap)(&w.Requests).amount(name))
		}), true
	}
	return nil, false
}

// field recognizes a field of a variable; both results are empty if there is none.
func (r *comparisonReader) field(e ast.Expr) (variable, field string) {
	chain, ok := chainOf(e)
	if !ok || len(chain.steps) != 1 || slices.Contains(r.hidden, chain.root) {
		return "", ""
	}
	r.readsSomething = true
	return chain.root, chain.steps[0].key
}

// clusterAmounts and scores are the fields of the variable capacity.
var (
	clusterAmounts = map[string]func(*snapshot.Row) capacity.Resources{
		"allocatable": func(r *snapshot.Row) capacity.Resources { return r.Allocatable },
		"allocated":   func(r *snapshot.Row) capacity.Resources { return r.Allocated },
		"reserved":    func(r *snapshot.Row) capacity.Resources { return r.Reserved },
		"free":        func(r *snapshot.Row) capacity.Resources { return r.Free },
		"utilization": (*snapshot.Row).Utilization,
	}
	scores = map[string]func(*snapshot.Row) int64{
		"healthScore":      func(r *snapshot.Row) int64 { return r.HealthScore },
		"performanceScore": func(r *snapshot.Row) int64 { return r.PerformanceScore },
	}
)

// resourceAt returns the resource of an amount, 0 if clusters are not sorted by it.
func resourceAt(e ast.Expr) Resource {
	switch u, _ := useAt(e); u {
	case use{"capacity", "free", capacity.CPU, true}:
		return FreeCPU
	case use{"capacity", "free", capacity.Memory, true}:
		return FreeMemory
	default:
		return 0
	}
}
