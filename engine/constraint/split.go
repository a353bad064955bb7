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
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
)

// MaxComparisons is the number of comparisons that are taken out of a conjunct. Further ones stay in the rest.
const MaxComparisons = 3

// Conjunct is an operand of the top-level && of an expression. It is split into its comparisons of numbers, which change
// often, and the rest, a CEL program over the outcomes of the comparisons. It is safe for concurrent use.
type Conjunct struct {
	text, key   string
	comparisons []*Comparison
	// rest returns the program of the rest, planned on first use; nil if there is no rest.
	rest   func() cel.Program
	reads  Reads
	checks []check
	// lasting is set if the conjunct reads only lasting properties of clusters and workloads.
	lasting bool
}

// String returns the conjunct as CEL.
func (c *Conjunct) String() string { return c.text }

// Key identifies the conjunct. Invariant: conjuncts with equal keys mean the same.
func (c *Conjunct) Key() string { return c.key }

// Comparisons of the conjunct, in the order of the bits that Holds takes: at most MaxComparisons, each once.
func (c *Conjunct) Comparisons() []*Comparison { return c.comparisons }

// Bare reports whether the conjunct is a single comparison.
func (c *Conjunct) Bare() bool { return c.rest == nil }

// Reads returns what the rest reads.
func (c *Conjunct) Reads() Reads { return c.reads }

// Lasting reports whether the conjunct reads only lasting properties of clusters, workloads and placements: neither what changes by itself,
// such as capacity, taints, conditions and the availability of capabilities, nor what a workload is scaled to.
func (c *Conjunct) Lasting() bool { return c.lasting }

// Holds evaluates the rest, given the outcomes of the comparisons: bit i of holding is set if Comparisons()[i] holds, bit
// i of failing if it is an error. An error of a comparison may not matter, as in false && error; an error of the rest
// counts as not holding.
func (c *Conjunct) Holds(v *Variables, holding, failing uint) bool {
	if c.Bare() {
		return holding&1 != 0
	}
	var activation interpreter.Activation = v
	if len(c.comparisons) > 0 {
		activation = &assignment{v, holding, failing}
	}
	return c.evaluate(v, activation) == types.True
}

// Denies reports whether a conjunct without comparisons is false, rather than an error.
func (c *Conjunct) Denies(v *Variables) bool { return c.evaluate(v, v) == types.False }

// evaluate returns the value of the rest; an error is a value other than true and false.
func (c *Conjunct) evaluate(v *Variables, activation interpreter.Activation) ref.Val {
	if within(c.checks, v) != nil {
		return nil
	}
	program := c.rest()
	if program == nil {
		return nil
	}
	value, _, _ := program.Eval(activation)
	return value
}

// outcomeNames are the variables of outcomes in a rest. No author can write these names.
var outcomeNames = [MaxComparisons]string{"@0", "@1", "@2"}

// assignment is the activation of a rest.
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
		return types.NewErr("the comparison is an error"), true // a new one each time, since CEL writes to it
	default:
		return types.Bool(a.holding&(1<<i) != 0), true
	}
}

// split returns the conjuncts of a program.
func (c *Compiler) split(p *Program) (conjuncts []*Conjunct) {
	for _, part := range joinedBy(operators.LogicalAnd, p.ast.Expr()) {
		conjuncts = append(conjuncts, c.conjunct(p, part))
	}
	return conjuncts
}

// joinedBy returns the operands of nested calls of a function.
func joinedBy(function string, e ast.Expr) (parts []ast.Expr) {
	if !isCall(e, function) {
		return []ast.Expr{e}
	}
	for _, arg := range e.AsCall().Args() {
		parts = append(parts, joinedBy(function, arg)...)
	}
	return parts
}

// conjunct returns the conjunct of a part of a program, shared with other programs.
func (c *Compiler) conjunct(p *Program, e ast.Expr) *Conjunct {
	key := fingerprint(e)
	if known, found := c.conjuncts.Get(key); found {
		return known
	}
	a := newAbstraction(p, e)
	conjunct := &Conjunct{text: p.text(e), key: key, comparisons: a.comparisons, lasting: p.lasting(e)}
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
	// rest is a copy of the part in which outcomes replace comparisons.
	rest        ast.Expr
	comparisons []*Comparison
	// keys of the comparisons: a repeated comparison is taken out once.
	keys []string
}

func newAbstraction(p *Program, e ast.Expr) *abstraction {
	a := &abstraction{program: p, rest: ast.NewExprFactory().CopyExpr(e)}
	a.abstract(a.rest, nil)
	return a
}

// abstract takes the comparisons out of a part of the rest. hidden are the variables of the macros around it.
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

// replace replaces a comparison by its outcome, unless there are too many already.
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

// planRest plans the rest; nil if that fails, which it does not if the whole can be planned.
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

// fingerprint identifies an expression by its nodes in order, each with its arity. Its text would not do: CEL prints
// different expressions, such as (-a).b and -a.b, alike.
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
