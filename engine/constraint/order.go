package constraint

import (
	"cmp"
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// inOrderName is the function that sorts a map's keys for iteration. No author can write the name.
const inOrderName = "@inOrder"

var inOrderFunction = cel.Function(inOrderName,
	cel.Overload(inOrderName, []*cel.Type{cel.DynType}, cel.DynType, cel.UnaryBinding(inOrder)))

// ordered makes every macro iterate over maps in the order of their keys. CEL iterates over computed maps in Go's random
// order, so that {"b": 1, "a": 2}.map(k, k)[0] would vary.
func ordered(checked *ast.AST) *ast.AST {
	if len(unordered(checked)) == 0 {
		return checked
	}
	tree, factory := ast.Copy(checked), ast.NewExprFactory()
	id := ast.MaxID(tree)
	for _, e := range unordered(tree) {
		// The call takes the place and the id of its argument, where Explain looks up the value.
		argument := factory.NewUnspecifiedExpr(id)
		argument.SetKindCase(e)
		tree.SetType(id, tree.GetType(e.ID()))
		if reference, found := tree.ReferenceMap()[e.ID()]; found {
			tree.SetReference(id, reference)
		}
		e.SetKindCase(factory.NewCall(e.ID(), inOrderName, argument))
		tree.SetReference(e.ID(), ast.NewFunctionReference(inOrderName))
		id++
	}
	return tree
}

// unordered finds the ranges of macros that may be maps without an order. Fields of objects always have one.
func unordered(tree *ast.AST) (ranges []ast.Expr) {
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.ComprehensionKind {
			return
		}
		r := e.AsComprehension().IterRange()
		isList := tree.GetType(r.ID()).Kind() == types.ListKind
		isField := r.Kind() == ast.SelectKind && tree.GetType(r.AsSelect().Operand().ID()).Kind() == types.StructKind
		if !isList && !isField {
			ranges = append(ranges, r)
		}
	}))
	return ranges
}

// inOrder returns a map that iterates in the order of its keys, and any other value unchanged.
func inOrder(value ref.Val) ref.Val {
	m, isMap := value.(traits.Mapper)
	if !isMap || hasOrder(m) {
		return value
	}
	var keys []ref.Val
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		switch key.(type) {
		case types.Bool, types.Int, types.Uint, types.String:
			keys = append(keys, key)
		default:
			return types.NewErr("a map can be gone through only if its keys are strings, bools, ints or uints")
		}
	}
	slices.SortFunc(keys, compareKeys)
	return &orderedMap{m, keys}
}

// hasOrder reports whether a map is of a type of this package, which iterates in order.
func hasOrder(m traits.Mapper) bool {
	switch m.(type) {
	case texts, *resourceMap:
		return true
	}
	return false
}

// compareKeys orders keys by type name, then by value.
func compareKeys(a, b ref.Val) int {
	if order := cmp.Compare(a.Type().TypeName(), b.Type().TypeName()); order != 0 {
		return order
	}
	order, _ := a.(traits.Comparer).Compare(b).(types.Int)
	return int(order)
}

// orderedMap is a map with sorted keys.
type orderedMap struct {
	traits.Mapper
	keys []ref.Val
}

// Iterator implements traits.Iterable.
func (m *orderedMap) Iterator() traits.Iterator {
	return types.NewRefValList(types.DefaultTypeAdapter, m.keys).Iterator()
}
