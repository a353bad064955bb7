package constraint

import (
	"math"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// Constant is a part of an expression that has the same result for every cluster and every workload.
type Constant struct {
	// Text of the part, and where it begins in the expression.
	Text         string
	Line, Column int
	// Whole is set if the part is the entire expression.
	Whole bool
	// Always is set if the part always holds. Otherwise it never does: it is false or an error.
	Always bool
	// Err is why the part is always an error.
	Err error
}

// Constants returns the largest constant parts of an expression: those whose outcome is the same for all values that are compared,
// and computations that always fail. Results of functions are taken to be arbitrary.
func (c *Compiler) Constants(p *Program) []Constant {
	f := &constantFinder{compiler: c, program: p, budget: maxConstantSteps}
	if !f.hides() {
		f.find(p.ast.Expr(), nil)
	}
	return f.found
}

// maxConstantSteps bounds the work for one expression, in evaluated parts. Parts that would need more are skipped.
const maxConstantSteps = 500_000

type constantFinder struct {
	compiler *Compiler
	program  *Program
	budget   int
	found    []Constant
}

// hides reports whether a macro has a variable with the name of one of ours. Then it is not known what the expression reads.
func (f *constantFinder) hides() (hides bool) {
	ast.PreOrderVisit(f.program.ast.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.ComprehensionKind {
			loop := e.AsComprehension()
			hides = hides || variables[loop.IterVar()] != nil || variables[loop.IterVar2()] != nil || variables[loop.AccuVar()] != nil
		}
	}))
	return hides
}

// find examines a part. accumulators are the variables made by the macros around it, which no author wrote.
func (f *constantFinder) find(e ast.Expr, accumulators []string) {
	if err := f.alwaysFails(e); err != nil {
		f.add(e, Constant{Err: err})
		return
	}
	whole := e.ID() == f.program.ast.Expr().ID()
	written := !slices.ContainsFunc(namesIn(e), func(name string) bool { return slices.Contains(accumulators, name) })
	// A literal in a part is a default, as in c ? a : true.
	if f.program.ast.GetType(e.ID()).Kind() == types.BoolKind && written && (whole || e.Kind() != ast.LiteralKind) {
		if outcome, isConstant := f.outcome(e); isConstant {
			f.add(e, Constant{Always: outcome == yes})
			return
		}
	}
	parts := partsOf(e)
	switch {
	case isCall(e, operators.LogicalAnd, operators.LogicalOr):
		parts = joinedBy(e.AsCall().FunctionName(), e)
	case e.Kind() == ast.ComprehensionKind:
		loop := e.AsComprehension()
		parts = []ast.Expr{loop.IterRange(), loop.LoopStep()}
		accumulators = append(slices.Clip(accumulators), loop.AccuVar())
	}
	for _, part := range parts {
		f.find(part, accumulators)
	}
}

func (f *constantFinder) add(e ast.Expr, c Constant) {
	c.Text, c.Whole = f.program.text(e), e.ID() == f.program.ast.Expr().ID()
	c.Line, c.Column = f.program.start(e)
	f.found = append(f.found, c)
}

// start returns the position of the first character of a part that is known, 0 if none is.
func (p *Program) start(e ast.Expr) (line, column int) {
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		at := p.ast.SourceInfo().GetStartLocation(e.ID())
		first := at.Column() + 1
		if e.Kind() == ast.CallKind && !e.AsCall().IsMemberFunction() {
			if _, isOperator := operators.FindReverse(e.AsCall().FunctionName()); !isOperator {
				first -= len(e.AsCall().FunctionName()) // the position is that of the parenthesis
			}
		}
		if at.Line() > 0 && (line == 0 || at.Line() < line || at.Line() == line && first < column) {
			line, column = at.Line(), first
		}
	}))
	return line, column
}

// namesIn returns the variables that a part reads.
func namesIn(e ast.Expr) (names []string) {
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind {
			names = append(names, e.AsIdent())
		}
	}))
	return names
}

// alwaysFails returns the error of a computation without variables, or of a division by zero.
func (f *constantFinder) alwaysFails(e ast.Expr) error {
	if e.Kind() != ast.CallKind {
		return nil
	}
	if isCall(e, operators.Divide, operators.Modulo) && f.program.ast.GetType(e.ID()).Kind() == types.IntKind {
		if divisor, known := f.number(e.AsCall().Args()[1]); known && divisor == 0 {
			return &Error{Message: "division by zero"}
		}
	}
	_, err := f.value(e)
	return err
}

// value computes a part without variables; nil if it has any.
func (f *constantFinder) value(e ast.Expr) (any, error) {
	if e.Kind() == ast.LiteralKind {
		return e.AsLiteral().Value(), nil
	}
	if len(namesIn(e)) > 0 || e.Kind() != ast.CallKind {
		return nil, nil
	}
	whole := f.program.ast
	part := ast.NewCheckedAST(ast.NewAST(e, whole.SourceInfo()), whole.TypeMap(), whole.ReferenceMap())
	program, err := f.compiler.plan(part, cel.OptOptimize)
	if err != nil {
		return nil, nil
	}
	value, _, err := program.Eval(cel.NoVars())
	if err != nil {
		return nil, err
	}
	return value.Value(), nil
}

// number computes an integer without variables.
func (f *constantFinder) number(e ast.Expr) (n int64, known bool) {
	if f.program.ast.GetType(e.ID()).Kind() != types.IntKind {
		return 0, false
	}
	value, _ := f.value(e)
	n, known = value.(int64)
	return n, known
}

// text computes a string without variables.
func (f *constantFinder) text(e ast.Expr) (text string, known bool) {
	value, _ := f.value(e)
	text, known = value.(string)
	return text, known
}

// outcome is the result of a part.
type outcome uint8

const (
	no outcome = iota
	yes
	failed
)

func outcomeOf(holds bool) outcome {
	if holds {
		return yes
	}
	return no
}

// outcome returns the constant result of a part, if it has one. Operands of && and || are independent unless they read the same, so only
// few have to be examined together.
func (f *constantFinder) outcome(e ast.Expr) (constant outcome, isConstant bool) {
	for function, decisive := range map[string]outcome{operators.LogicalAnd: no, operators.LogicalOr: yes} {
		if !isCall(e, function) {
			continue
		}
		all := true // each is constant, and none decides the result
		for _, group := range f.dependent(joinedBy(function, e)) {
			d := &domain{constantFinder: f}
			given, same := d.only(d.joined(function, group))
			if same && given == decisive {
				return decisive, true
			}
			all = all && same
		}
		return 1 - decisive, all
	}
	d := &domain{constantFinder: f}
	return d.only(d.node(e))
}

// dependent groups operands by what they read.
func (f *constantFinder) dependent(operands []ast.Expr) (groups [][]ast.Expr) {
	var terms [][]string
	for _, operand := range operands {
		d := &domain{constantFinder: f}
		d.node(operand)
		group, keys := []ast.Expr{operand}, d.keys
		for i := 0; i < len(groups); i++ {
			if slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(terms[i], key) }) {
				group, keys = append(groups[i], group...), append(keys, terms[i]...)
				groups, terms = slices.Delete(groups, i, i+1), slices.Delete(terms, i, i+1)
				i--
			}
		}
		groups, terms = append(groups, group), append(terms, keys)
	}
	return groups
}

// domain holds the terms that a part compares, each with one value for every possible outcome of the comparisons.
//
// Invariant: whatever the clusters and workloads are, the outcome of a part is that for one of the assignments.
type domain struct {
	*constantFinder
	keys   []string
	values [][]value
	// assigned is the index of the current value of each term.
	assigned []int
	// nodes is how many parts an assignment evaluates.
	nodes int
}

// value of a term; an error if failed is set.
type value struct {
	number int64
	text   string
	failed bool
}

// node evaluates a part for the current assignment.
type node func() outcome

// only returns the outcome of a node if it is the same for every assignment; same is false if it is not. Failing counts as
// not holding.
func (d *domain) only(n node) (given outcome, same bool) {
	d.assigned = make([]int, len(d.values))
	for {
		if d.budget -= d.nodes; d.budget < 0 {
			return 0, false
		}
		switch now := n(); {
		case now == failed && given == yes, now != failed && now != given && same:
			return 0, false
		case now == failed:
			given = no
		default:
			given = now
		}
		same = true
		if !d.next() {
			return given, true
		}
	}
}

// next advances to the next assignment.
func (d *domain) next() bool {
	for i := range d.assigned {
		if d.assigned[i]++; d.assigned[i] < len(d.values[i]) {
			return true
		}
		d.assigned[i] = 0
	}
	return false
}

// term returns the index of a term, adding values that it can have.
func (d *domain) term(key string, values ...value) int {
	i := slices.Index(d.keys, key)
	if i < 0 {
		i = len(d.keys)
		d.keys, d.values = append(d.keys, key), append(d.values, nil)
	}
	for _, v := range values {
		if !slices.Contains(d.values[i], v) {
			d.values[i] = append(d.values[i], v)
		}
	}
	return i
}

func (d *domain) valueOf(term int) value { return d.values[term][d.assigned[term]] }

func (d *domain) node(e ast.Expr) node {
	d.nodes++
	if value, _ := d.value(e); value != nil {
		holds := outcomeOf(value == true)
		return func() outcome { return holds }
	}
	switch {
	case isCall(e, operators.LogicalAnd):
		return d.joined(operators.LogicalAnd, joinedBy(operators.LogicalAnd, e))
	case isCall(e, operators.LogicalOr):
		return d.joined(operators.LogicalOr, joinedBy(operators.LogicalOr, e))
	case isCall(e, operators.LogicalNot):
		operand := d.node(e.AsCall().Args()[0])
		return func() outcome {
			if now := operand(); now != failed {
				return 1 - now
			}
			return failed
		}
	case isCall(e, operators.Conditional):
		args := e.AsCall().Args()
		condition, then, otherwise := d.node(args[0]), d.node(args[1]), d.node(args[2])
		return func() outcome {
			switch condition() {
			case yes:
				return then()
			case no:
				return otherwise()
			}
			return failed
		}
	case e.Kind() == ast.CallKind && len(e.AsCall().Args()) == 2:
		if n := d.comparison(e.AsCall()); n != nil {
			return n
		}
	}
	return d.unknown(e)
}

// joined evaluates operands of && or ||: one that decides makes up for errors of others.
func (d *domain) joined(function string, operands []ast.Expr) node {
	decisive := no
	if function == operators.LogicalOr {
		decisive = yes
	}
	nodes := make([]node, len(operands))
	for i, operand := range operands {
		nodes[i] = d.node(operand)
	}
	return func() outcome {
		result := 1 - decisive
		for _, n := range nodes {
			switch n() {
			case decisive:
				return decisive
			case failed:
				result = failed
			}
		}
		return result
	}
}

// unknown is a part that can be true, false, or an error unless it tests for the presence of a key.
func (d *domain) unknown(e ast.Expr) node {
	values := []value{{number: 0}, {number: 1}}
	if _, presence := chainOf(e); !presence && !isPresence(e) {
		values = append(values, value{failed: true})
	}
	term := d.term(fingerprint(e), values...)
	return func() outcome {
		if v := d.valueOf(term); !v.failed {
			return outcome(v.number)
		}
		return failed
	}
}

// comparison compares a term of integers or strings with constants, or two terms with each other; nil for anything else.
func (d *domain) comparison(call ast.CallExpr) node {
	left, right := call.Args()[0], call.Args()[1]
	r, isRelation := relations[call.FunctionName()]
	switch kind := d.program.ast.GetType(left.ID()).Kind(); {
	case kind == types.IntKind && isRelation:
		if n, known := d.number(left); known {
			r = r.mirrored()
			return d.against(right, func(v value) bool { return r.holds(v.number, n) }, around(n)...)
		}
		if n, known := d.number(right); known {
			return d.against(left, func(v value) bool { return r.holds(v.number, n) }, around(n)...)
		}
		return d.related(left, right, r)
	case kind == types.StringKind && isRelation:
		if _, known := d.text(left); known {
			left, right, r = right, left, r.mirrored()
		}
		if text, known := d.text(right); known {
			return d.against(left, func(v value) bool { return r.holds(int64(strings.Compare(v.text, text)), 0) },
				value{}, value{text: text}, value{text: text + "\x00"})
		}
		return d.related(left, right, r)
	case kind == types.StringKind && call.FunctionName() == operators.In && right.Kind() == ast.ListKind:
		var texts []string
		values := []value{{text: "\x00"}}
		for _, element := range right.AsList().Elements() {
			text, known := literal(element)
			if !known {
				return nil
			}
			texts, values = append(texts, text), append(values, value{text: text})
		}
		return d.against(left, func(v value) bool { return slices.Contains(texts, v.text) }, values...)
	}
	return nil
}

// around returns a number and its neighbors.
func around(n int64) []value {
	values := []value{{number: n}}
	if n > math.MinInt64 {
		values = append(values, value{number: n - 1})
	}
	if n < math.MaxInt64 {
		values = append(values, value{number: n + 1})
	}
	return values
}

// against compares a term with a constant. values includes one for every outcome.
func (d *domain) against(e ast.Expr, holds func(value) bool, values ...value) node {
	least, most, sure := rangeOf(e)
	values = slices.DeleteFunc(values, func(v value) bool { return v.number < least || v.number > most })
	if least > math.MinInt64 {
		values = append(values, value{number: least})
	}
	if most < math.MaxInt64 {
		values = append(values, value{number: most})
	}
	if !sure {
		values = append(values, value{failed: true})
	}
	term := d.term(fingerprint(e), values...)
	return func() outcome {
		v := d.valueOf(term)
		if v.failed {
			return failed
		}
		return outcomeOf(holds(v))
	}
}

// related compares two terms: either may be less, or both equal.
func (d *domain) related(left, right ast.Expr, r relation) node {
	one, other := fingerprint(left), fingerprint(right)
	if one > other {
		one, other, r = other, one, r.mirrored()
	}
	values := []value{{number: 0}}
	if one != other {
		values = append(values, value{number: -1}, value{number: 1})
	}
	_, _, sure := rangeOf(left)
	_, _, alsoSure := rangeOf(right)
	if !sure || !alsoSure {
		values = append(values, value{failed: true})
	}
	term := d.term(one+other, values...)
	return func() outcome {
		v := d.valueOf(term)
		if v.failed {
			return failed
		}
		return outcomeOf(r.holds(v.number, 0))
	}
}

// rangeOf returns the least and the largest value of a numeric term; sure is false if it can be an error.
func rangeOf(e ast.Expr) (least, most int64, sure bool) {
	if isCall(e, "size") {
		_, sure = chainOf(append(partsOf(e), e)[0])
		return 0, math.MaxInt64, sure
	}
	chain, ok := chainOf(e)
	if !ok || len(chain.steps) == 0 {
		return math.MinInt64, math.MaxInt64, false
	}
	sure = len(chain.steps) == 1
	if len(chain.steps) == 2 && chain.steps[0].object.fields[chain.steps[0].key].Type == intMap {
		_, sure = (&resourceMap{}).amount(chain.steps[1].key)
	}
	switch field := chain.root + "." + chain.steps[0].key; field {
	case "capacity.healthScore", "capacity.performanceScore":
		return 0, 100, sure
	case "workload.replicas", "workload.requests", "capacity.allocatable", "capacity.allocated", "capacity.reserved", "capacity.utilization":
		return 0, math.MaxInt64, sure
	}
	return math.MinInt64, math.MaxInt64, sure
}
