package constraint

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/interpreter"
)

// MaxComparisons is how many comparisons are taken out of a conjunct. Those beyond stay for CEL.
const MaxComparisons = 3

// Conjunct is one of the parts that && joins at the top of an expression, which holds if and only if all of them do. It
// is split into the comparisons of numbers in it and the rest, which is left to CEL: of what changes often the rest sees
// no more than which of the comparisons hold. It is safe for concurrent use.
type Conjunct struct {
	text, key   string
	comparisons []*Comparison
	// bounds are those of the whole conjunct, restBounds those of the rest.
	bounds, restBounds []bound
	reads              Reads
	// rest gives the program that evaluates the rest; it is nil where there is no rest.
	rest func() cel.Program
}

// String is the conjunct as CEL.
func (c *Conjunct) String() string { return c.text }

// Key is the same for conjuncts that mean the same, and for no others.
func (c *Conjunct) Key() string { return c.key }

// Comparisons of the conjunct, in the order of the bits that Holds takes: at most MaxComparisons, all different.
func (c *Conjunct) Comparisons() []*Comparison { return c.comparisons }

// Bare tells that the conjunct is its one comparison and nothing else.
func (c *Conjunct) Bare() bool { return c.rest == nil }

// Reads says what the rest looks at.
func (c *Conjunct) Reads() Reads { return c.reads }

// Holds evaluates the rest, given which of the comparisons hold: bit i stands for Comparisons()[i]. All must have an
// outcome for the row and the workload. An error counts as not holding.
func (c *Conjunct) Holds(v *Variables, comparisons uint) bool {
	if c.Bare() {
		return comparisons&1 != 0
	}
	return within(c.restBounds, v) == nil && c.evaluate(v, outcomes{holding: comparisons})
}

// HoldsWhole evaluates all of the conjunct. It is for where a comparison has no outcome: an error may not count, where
// it stands beside something that decides.
func (c *Conjunct) HoldsWhole(v *Variables) bool {
	if within(c.bounds, v) != nil {
		return false
	}
	var o outcomes
	for i, comparison := range c.comparisons {
		holds, known := comparison.Bind(v.Workload).Outcome(v.Row)
		if holds {
			o.holding |= 1 << i
		}
		if !known {
			o.failing |= 1 << i
		}
	}
	if c.Bare() {
		return o.holding != 0
	}
	return c.evaluate(v, o)
}

func (c *Conjunct) evaluate(v *Variables, o outcomes) bool {
	program := c.rest()
	if program == nil {
		return false
	}
	if len(c.comparisons) == 0 {
		value, _, _ := program.Eval(v)
		return value == types.True
	}
	value, _, _ := program.Eval(&assignment{v, o})
	return value == types.True
}

// outcomes of comparisons, in bits: which hold, and which have no outcome because they are an error.
type outcomes struct{ holding, failing uint }

// assignment is what a rest is evaluated over: the variables, and the outcomes under names that no author can write.
type assignment struct {
	*Variables
	outcomes outcomes
}

var _ interpreter.Activation = (*assignment)(nil)

// outcomeNames are the names of the outcomes.
var outcomeNames = [MaxComparisons]string{"@0", "@1", "@2"}

// ResolveName implements interpreter.Activation.
func (a *assignment) ResolveName(name string) (any, bool) {
	i := slices.Index(outcomeNames[:], name)
	switch {
	case i < 0:
		return a.Variables.ResolveName(name)
	case a.outcomes.failing&(1<<i) != 0:
		return types.NewErr("%s has no outcome", name), true
	default:
		return types.Bool(a.outcomes.holding&(1<<i) != 0), true
	}
}

// split makes the conjuncts of a program.
func (c *Compiler) split(p *Program) []*Conjunct {
	var conjuncts []*Conjunct
	for _, part := range joinedBy(operators.LogicalAnd, p.ast.Expr()) {
		conjuncts = append(conjuncts, c.conjunct(p, part))
	}
	return conjuncts
}

// joinedBy returns the parts that a function joins, however they are nested.
func joinedBy(function string, e ast.Expr) (parts []ast.Expr) {
	if !isCall(e, function) {
		return []ast.Expr{e}
	}
	for _, arg := range e.AsCall().Args() {
		parts = append(parts, joinedBy(function, arg)...)
	}
	return parts
}

// conjunct makes a conjunct of a part of a program, or finds the one that is the same in another program.
func (c *Compiler) conjunct(p *Program, e ast.Expr) *Conjunct {
	key := keyOfExpr(e)
	if known, found := c.conjuncts.Get(key); found {
		return known
	}
	a := &abstraction{program: p, rest: ast.NewExprFactory().CopyExpr(e)}
	a.abstract(a.rest, nil)
	conjunct := &Conjunct{text: p.text(e), key: key, comparisons: a.comparisons, bounds: boundsFor(e)}
	if a.rest.Kind() != ast.IdentKind || a.rest.AsIdent() != outcomeNames[0] {
		conjunct.reads, conjunct.restBounds = readsOf(a.rest), boundsFor(a.rest)
		conjunct.rest = sync.OnceValue(func() cel.Program { return c.plan(a) })
	}
	c.conjuncts.Add(key, conjunct)
	return conjunct
}

// abstraction takes the comparisons out of a conjunct.
type abstraction struct {
	program     *Program
	rest        ast.Expr
	comparisons []*Comparison
	keys        []string
}

// abstract puts names of outcomes in the place of comparisons. Names in hidden are those of variables of macros.
func (a *abstraction) abstract(e ast.Expr, hidden []string) {
	if comparison, ok := comparisonAt(e, a.program.ast, hidden); ok {
		if name, ok := a.named(e, comparison); ok {
			e.SetKindCase(ast.NewExprFactory().NewIdent(e.ID(), name))
		}
		return
	}
	each := func(parts ...ast.Expr) {
		for _, part := range parts {
			a.abstract(part, hidden)
		}
	}
	switch e.Kind() {
	case ast.SelectKind:
		each(e.AsSelect().Operand())
	case ast.CallKind:
		if e.AsCall().IsMemberFunction() {
			each(e.AsCall().Target())
		}
		each(e.AsCall().Args()...)
	case ast.ListKind:
		each(e.AsList().Elements()...)
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			each(entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		for _, field := range e.AsStruct().Fields() {
			each(field.AsStructField().Value())
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		each(c.IterRange(), c.AccuInit())
		hidden = append(slices.Clip(hidden), c.IterVar(), c.IterVar2(), c.AccuVar())
		each(c.LoopCondition(), c.LoopStep(), c.Result())
	}
}

// named gives the name of a comparison's outcome; ok is false where there are too many.
func (a *abstraction) named(e ast.Expr, comparison *Comparison) (name string, ok bool) {
	key := keyOfExpr(e)
	i := slices.Index(a.keys, key)
	if i < 0 {
		if i = len(a.keys); i == MaxComparisons {
			return "", false
		}
		comparison.text = a.program.text(e)
		a.keys, a.comparisons = append(a.keys, key), append(a.comparisons, comparison)
	}
	return outcomeNames[i], true
}

// plan makes the program that evaluates what is left; nil where that fails, which it does not where the whole could be
// planned.
func (c *Compiler) plan(a *abstraction) cel.Program {
	whole := a.program.ast
	references := map[int64]*ast.ReferenceInfo{}
	ast.PreOrderVisit(a.rest, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind && slices.Contains(outcomeNames[:], e.AsIdent()) {
			references[e.ID()] = ast.NewIdentReference(e.AsIdent(), nil)
		} else if reference, found := whole.ReferenceMap()[e.ID()]; found {
			references[e.ID()] = reference
		}
	}))
	program, err := c.env.PlanProgram(
		ast.NewCheckedAST(ast.NewAST(a.rest, whole.SourceInfo()), whole.TypeMap(), references), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil
	}
	return program
}

// keyOfExpr is the same for expressions that mean the same. It is made of all their nodes in order, each with how many
// there are below it, and not of their text: what a formatter leaves out would let one author's expression stand for
// another's.
func keyOfExpr(e ast.Expr) string {
	var b strings.Builder
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.LiteralKind:
			fmt.Fprintf(&b, "literal %s %q\n", e.AsLiteral().Type().TypeName(), fmt.Sprint(e.AsLiteral().Value()))
		case ast.IdentKind:
			fmt.Fprintf(&b, "ident %q\n", e.AsIdent())
		case ast.SelectKind:
			fmt.Fprintf(&b, "select %q %t\n", e.AsSelect().FieldName(), e.AsSelect().IsTestOnly())
		case ast.CallKind:
			call := e.AsCall()
			fmt.Fprintf(&b, "call %q %t %d\n", call.FunctionName(), call.IsMemberFunction(), len(call.Args()))
		case ast.ListKind:
			fmt.Fprintf(&b, "list %d %v\n", e.AsList().Size(), e.AsList().OptionalIndices())
		case ast.MapKind:
			fmt.Fprintf(&b, "map %d", e.AsMap().Size())
			for _, entry := range e.AsMap().Entries() {
				fmt.Fprintf(&b, " %t", entry.AsMapEntry().IsOptional())
			}
			fmt.Fprintln(&b)
		case ast.StructKind:
			fmt.Fprintf(&b, "struct %q", e.AsStruct().TypeName())
			for _, field := range e.AsStruct().Fields() {
				fmt.Fprintf(&b, " %q %t", field.AsStructField().Name(), field.AsStructField().IsOptional())
			}
			fmt.Fprintln(&b)
		case ast.ComprehensionKind:
			c := e.AsComprehension()
			fmt.Fprintf(&b, "for %q %q %q\n", c.IterVar(), c.IterVar2(), c.AccuVar())
		}
	}))
	sum := sha256.Sum256([]byte(b.String()))
	return string(sum[:])
}
