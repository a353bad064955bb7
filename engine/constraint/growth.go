package constraint

import (
	"math"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// Limits on the values that an expression makes and the work on them. A unit is one element of a collection, or unitText
// characters.
const (
	maxGrowth = 20_000
	maxWork   = 1_000_000
	maxVisits = 100_000
	unitText  = 64
)

// growth bounds the size of all values that an expression makes, and the work on them, from its shape alone.
//
// It exists because CEL's estimate loses the size of elements of computed collections: for it [s].map(x, x + x)[0] is no
// larger than s, and twenty of these nested make a gigabyte. CEL's own limit at run time, CostLimit with
// InterruptCheckFrequency, cannot replace it. It makes an evaluation 3 to 10 times as slow (label 0.3 to 3.0 us, capability
// 0.9 to 2.7 us), and it does not stop everything: it tracks elements of collections by the same estimate, so that
// twenty-four nested replace calls took 700 ms at a cost of 362, and a doubled list that is sorted 740 ms at a cost of 551.
type growth struct {
	tree *ast.AST
	// vars are the sizes of the variables of comprehensions.
	vars                  map[string]float64
	largest, work, visits float64
}

// tooMuch reports whether an expression could make too much, or take too long.
func tooMuch(tree *ast.AST) bool {
	g := &growth{tree: tree, vars: map[string]float64{}}
	g.size(tree.Expr(), 1)
	return g.exceeded()
}

func (g *growth) exceeded() bool {
	return g.largest > maxGrowth || g.work > maxWork || g.visits > maxVisits
}

// size returns the size of the value of a part that is evaluated a number of times, and adds its work.
func (g *growth) size(e ast.Expr, times float64) (size float64) {
	if g.visits++; g.exceeded() {
		return 1
	}
	g.work += times
	switch e.Kind() {
	case ast.LiteralKind:
		if text, ok := literal(e); ok {
			size = float64(len(text)) / unitText
		}
	case ast.IdentKind:
		size = g.vars[e.AsIdent()]
	case ast.SelectKind:
		size = g.size(e.AsSelect().Operand(), times)
		if chain, ok := chainOf(e); ok {
			size = g.read(e, chain.elements())
		}
	case ast.CallKind:
		size = g.call(e, times)
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			size += g.size(element, times)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			size += g.size(entry.AsMapEntry().Key(), times) + g.size(entry.AsMapEntry().Value(), times)
		}
	case ast.ComprehensionKind:
		size = g.comprehension(e.AsComprehension(), times)
	}
	size = max(1, size)
	if g.isScalar(e) {
		size = 1
	}
	g.largest = max(g.largest, size)
	return size
}

func (g *growth) isScalar(e ast.Expr) bool {
	switch g.tree.GetType(e.ID()).Kind() {
	case types.BoolKind, types.IntKind, types.UintKind, types.DoubleKind, types.NullTypeKind, types.TimestampKind, types.DurationKind:
		return true
	}
	return false
}

// read returns the size of the field at a path. Collections are never copied; strings and optionals can be.
func (g *growth) read(e ast.Expr, path []string) float64 {
	switch g.tree.GetType(e.ID()).Kind() {
	case types.StringKind, types.OpaqueKind:
		return textAt(path)
	}
	return 1
}

// textAt returns the size of the string at a path.
func textAt(path []string) float64 { return 1 + float64(textBound(path))/unitText }

// elements returns the path as CEL writes it, followed by more.
func (p *path) elements(more ...string) []string {
	elements := []string{p.root}
	for _, s := range p.steps {
		elements = append(elements, s.key)
	}
	return append(elements, more...)
}

func (g *growth) call(e ast.Expr, times float64) float64 {
	call := e.AsCall()
	operands := slices.Clone(call.Args())
	if call.IsMemberFunction() {
		operands = append([]ast.Expr{call.Target()}, operands...)
	}
	sizes := make([]float64, len(operands))
	sum := 0.0
	compares := comparing(call.FunctionName())
	for i, operand := range operands {
		sizes[i] = g.size(operand, times)
		sum += sizes[i]
		if _, ok := chainOf(operand); ok && compares && !g.isScalar(operand) && g.tree.GetType(operand.ID()).Kind() != types.StringKind {
			g.work += times * maxEntries // it iterates over the whole collection
		}
	}
	g.work += times * sum
	switch call.FunctionName() {
	case operators.Conditional:
		return max(sizes[1], sizes[2])
	case operators.Index, operators.OptIndex, operators.OptSelect:
		if chain, ok := chainOf(operands[0]); ok {
			return g.read(e, chain.elements(valuesOf))
		}
		return sizes[0]
	case "replace":
		if len(operands) > 2 {
			grows := unitText * sizes[2]
			if text, ok := literal(operands[2]); ok {
				grows = float64(len(text))
			}
			return sizes[0] * (1 + grows)
		}
	case "split":
		return unitText * sizes[0]
	case "join":
		return 2 * sizes[0] * max(1, sum-sizes[0])
	}
	return sum
}

// comparing reports whether a function iterates over all of its operands.
func comparing(function string) bool {
	return function == operators.Equals || function == operators.NotEquals || function == operators.In || strings.HasPrefix(function, "sets.")
}

func (g *growth) comprehension(c ast.ComprehensionExpr, times float64) float64 {
	source := g.size(c.IterRange(), times)
	chain, isRead := chainOf(c.IterRange())
	switch {
	case isRead:
		if g.tree.GetType(c.IterRange().ID()).Kind() == types.MapKind {
			return g.rounds(c, times, maxEntries, textAt(chain.elements(keysOf)), textAt(chain.elements(valuesOf)))
		}
		item := textAt(chain.elements(itemsOf))
		return g.rounds(c, times, maxItems, item, item)
	case c.IterRange().Kind() == ast.ListKind:
		return g.rounds(c, times, float64(len(c.IterRange().AsList().Elements())), source, source)
	case c.IterRange().Kind() == ast.MapKind:
		return g.rounds(c, times, float64(len(c.IterRange().AsMap().Entries())), source, source)
	default:
		// The elements together are as large as the range: the maximum is at as many as possible, or at one.
		return g.rounds(c, times, source, 1, 1) + g.rounds(c, times, 1, source, source)
	}
}

// rounds returns the size of the result of a comprehension with a number of iterations, over elements of a size.
func (g *growth) rounds(c ast.ComprehensionExpr, times, rounds, first, second float64) float64 {
	outer := map[string]float64{}
	for _, name := range []string{c.IterVar(), c.IterVar2(), c.AccuVar()} {
		outer[name] = g.vars[name]
	}
	g.vars[c.IterVar()], g.vars[c.IterVar2()], g.vars[c.AccuVar()] = first, second, 0
	rounds = max(1, rounds)
	total := g.size(c.AccuInit(), times)
	g.size(c.LoopCondition(), times*rounds)
	total = math.Min(total+rounds*g.size(c.LoopStep(), times*rounds), math.MaxFloat64)
	if g.isScalar(c.AccuInit()) {
		total = 1
	}
	g.vars[c.AccuVar()] = total
	result := g.size(c.Result(), times)
	for name, size := range outer {
		g.vars[name] = size
	}
	return result
}
