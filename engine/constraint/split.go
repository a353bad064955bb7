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

// MaxComparisons is how many comparisons are taken out of a conjunct. What there are more of stays in the rest.
const MaxComparisons = 3

// Conjunct is one of the parts that && joins at the top of an expression, which holds if and only if all of them do. It
// is split into the comparisons of numbers in it, and the rest, which is left to CEL: of the numbers, which change
// often, the rest sees no more than which of the comparisons hold. It is safe for concurrent use.
type Conjunct struct {
	text, key   string
	comparisons []*Comparison
	// rest gives the program of the rest, planned when it is first asked for; it is nil where there is no rest.
	rest   func() cel.Program
	reads  Reads
	checks []check
}

// String is the conjunct as CEL.
func (c *Conjunct) String() string { return c.text }

// Key is the same for conjuncts that mean the same, and for no others.
func (c *Conjunct) Key() string { return c.key }

// Comparisons of the conjunct, in the order of the bits that Holds takes: at most MaxComparisons, each once.
func (c *Conjunct) Comparisons() []*Comparison { return c.comparisons }

// Bare tells that the conjunct is its one comparison and nothing else.
func (c *Conjunct) Bare() bool { return c.rest == nil }

// Reads says what the rest looks at.
func (c *Conjunct) Reads() Reads { return c.reads }

// Holds evaluates the rest, given the outcomes of the comparisons: bit i of holding tells that Comparisons()[i] holds, bit i
// of failing that it has no outcome. That is an error, which may not count beside something that decides. An error of the
// rest counts as not holding.
func (c *Conjunct) Holds(v *Variables, holding, failing uint) bool {
	if c.Bare() {
		return holding&1 != 0
	}
	if within(c.checks, v) != nil {
		return false
	}
	program := c.rest()
	if program == nil {
		return false
	}
	var activation interpreter.Activation = v
	if len(c.comparisons) > 0 {
		activation = &assignment{v, holding, failing}
	}
	value, _, _ := program.Eval(activation) // an error is a value other than true
	return value == types.True
}

// outcomeNames are what a rest knows outcomes by: names that no author can write.
var outcomeNames = [MaxComparisons]string{"@0", "@1", "@2"}

// assignment is what a rest is evaluated over.
type assignment struct {
	*Variables
	holding, failing uint // in bits
}

// ResolveName implements interpreter.Activation.
func (a *assignment) ResolveName(name string) (any, bool) {
	i := slices.Index(outcomeNames[:], name)
	switch {
	case i < 0:
		return a.Variables.ResolveName(name)
	case a.failing&(1<<i) != 0:
		return types.NewErr("the comparison is an error"), true // each its own, since CEL writes into it
	default:
		return types.Bool(a.holding&(1<<i) != 0), true
	}
}

// split makes the conjuncts of a program.
func (c *Compiler) split(p *Program) (conjuncts []*Conjunct) {
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

// conjunct makes a conjunct of a part of a program, or finds the same one of another program.
func (c *Compiler) conjunct(p *Program, e ast.Expr) *Conjunct {
	key := fingerprint(e)
	if known, found := c.conjuncts.Get(key); found {
		return known
	}
	a := newAbstraction(p, e)
	conjunct := &Conjunct{text: p.text(e), key: key, comparisons: a.comparisons}
	if !isOutcome(a.rest) {
		conjunct.rest = sync.OnceValue(func() cel.Program { return c.planRest(a) })
		conjunct.reads, conjunct.checks = readsOf(a.rest), checksFor(a.rest)
	}
	c.conjuncts.Add(key, conjunct)
	return conjunct
}

// abstraction takes the comparisons out of a part of a program.
type abstraction struct {
	program *Program
	// rest is a copy of the part, with names of outcomes in the place of comparisons.
	rest        ast.Expr
	comparisons []*Comparison
	// keys of the comparisons, by which one that stands twice is found again.
	keys []string
}

func newAbstraction(p *Program, e ast.Expr) *abstraction {
	a := &abstraction{program: p, rest: ast.NewExprFactory().CopyExpr(e)}
	a.abstract(a.rest, nil)
	return a
}

// abstract takes the comparisons out of a part of the rest. The names in hidden are those of variables of macros around.
func (a *abstraction) abstract(e ast.Expr, hidden []string) {
	if comparison, ok := comparisonAt(e, a.program.ast, hidden); ok {
		a.replace(e, comparison)
		return
	}
	if e.Kind() != ast.ComprehensionKind {
		a.abstractAll(partsOf(e), hidden)
		return
	}
	c := e.AsComprehension()
	a.abstractAll([]ast.Expr{c.IterRange(), c.AccuInit()}, hidden)
	hidden = append(slices.Clip(hidden), c.IterVar(), c.IterVar2(), c.AccuVar())
	a.abstractAll([]ast.Expr{c.LoopCondition(), c.LoopStep(), c.Result()}, hidden)
}

func (a *abstraction) abstractAll(parts []ast.Expr, hidden []string) {
	for _, part := range parts {
		a.abstract(part, hidden)
	}
}

// replace puts the name of its outcome in the place of a comparison, unless there are too many already.
func (a *abstraction) replace(e ast.Expr, comparison *Comparison) {
	key := fingerprint(e)
	i := slices.Index(a.keys, key)
	if i < 0 {
		if i = len(a.keys); i == MaxComparisons {
			return
		}
		comparison.text = a.program.text(e)
		a.keys, a.comparisons = append(a.keys, key), append(a.comparisons, comparison)
	}
	e.SetKindCase(ast.NewExprFactory().NewIdent(e.ID(), outcomeNames[i]))
}

func isOutcome(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && slices.Contains(outcomeNames[:], e.AsIdent())
}

// planRest makes the program of a rest; nil where that fails, which it does not where the whole could be planned.
func (c *Compiler) planRest(a *abstraction) cel.Program {
	whole := a.program.ast
	if a.rest.ID() == whole.Expr().ID() && len(a.comparisons) == 0 {
		return a.program.evaluator
	}
	references := map[int64]*ast.ReferenceInfo{}
	ast.PreOrderVisit(a.rest, ast.NewExprVisitor(func(e ast.Expr) {
		reference, found := whole.ReferenceMap()[e.ID()]
		if isOutcome(e) {
			reference, found = ast.NewIdentReference(e.AsIdent(), nil), true
		}
		if found {
			references[e.ID()] = reference
		}
	}))
	rest := ast.NewCheckedAST(ast.NewAST(a.rest, whole.SourceInfo()), whole.TypeMap(), references)
	program, err := c.plan(rest, cel.OptOptimize)
	if err != nil {
		return nil
	}
	return program
}

// fingerprint is the same for expressions that mean the same, and for no others. It is of all the nodes of an expression
// in order, each with how many there are below it, and not of its text: two that CEL writes alike, as (-a).b and -a.b,
// must not stand for one another, since they can be of different authors.
func fingerprint(e ast.Expr) string {
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
			fmt.Fprintf(&b, "call %q %t %d\n", e.AsCall().FunctionName(), e.AsCall().IsMemberFunction(), len(e.AsCall().Args()))
		case ast.ListKind:
			fmt.Fprintf(&b, "list %d %v\n", e.AsList().Size(), e.AsList().OptionalIndices())
		case ast.MapKind:
			fmt.Fprint(&b, "map")
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
