package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// Budget is what one evaluation may cost: a step of the evaluator is one, and so is each value that is made, counted
// as often as it appears in what it is part of. It bounds time, by about a microsecond each, and memory, by a few
// hundred bytes each, and it is exceeded by the same policies on the same input every time, however busy the machine.
const Budget = 100_000

const (
	// maxNumber bounds the digits of a number that is computed: products grow faster than anything that is counted.
	maxNumber = 256
	// maxPattern bounds the characters of a glob, which OPA compiles when it is used.
	maxPattern = 256
	// maxNumeral bounds the characters of what is read as a number.
	maxNumeral = 256
	// charactersPerValue is how much of a string costs as much as a value.
	charactersPerValue = 64
	// digitsPerValue is how much of a number does.
	digitsPerValue = 8
)

// meter stops an evaluation when its budget is spent or its caller gives up. OPA asks it before every step, which is
// the only moment at which OPA can be stopped; what could be large between two steps charges for itself, see metered.
type meter struct {
	left int
	// exceeded is why the budget is spent where it was not by counting.
	exceeded string
	canceled atomic.Bool
}

// Cancel implements topdown.Cancel.
func (m *meter) Cancel() { m.canceled.Store(true) }

// Cancelled implements topdown.Cancel.
func (m *meter) Cancelled() bool {
	m.left--
	return m.left < 0 || m.canceled.Load()
}

func (m *meter) err() error {
	if m.exceeded != "" {
		return &BudgetError{m.exceeded}
	}
	return &BudgetError{fmt.Sprintf("they take more than %d steps", Budget)}
}

func (m *meter) exceed(format string, args ...any) {
	m.left, m.exceeded = -1, fmt.Sprintf(format, args...)
}

// charge counts a value and all that is in it.
func (m *meter) charge(t *ast.Term) {
	if m.left--; m.left < 0 {
		return
	}
	switch v := t.Value.(type) {
	case ast.String:
		m.left -= len(v) / charactersPerValue
	case ast.Number:
		m.left -= len(v) / digitsPerValue
		if isLong(string(v)) {
			m.exceed("they compute a number of more than %d digits", maxNumber)
		}
	case *ast.Array:
		_ = v.Iter(m.chargePart)
	case ast.Set:
		_ = v.Iter(m.chargePart)
	case ast.Object:
		_ = v.Iter(func(key, value *ast.Term) error {
			m.charge(key)
			return m.chargePart(value)
		})
	}
}

func (m *meter) chargePart(t *ast.Term) error {
	if m.charge(t); m.left < 0 {
		return errSpent
	}
	return nil
}

var errSpent = fmt.Errorf("the budget is spent")

// isLong tells whether a number has more than maxNumber digits written out: its text may be short.
func isLong(number string) bool {
	_, exponent, found := strings.Cut(strings.ToLower(number), "e")
	if !found {
		return len(number) > maxNumber
	}
	n, err := strconv.Atoi(strings.TrimRight(exponent, "bikmgtp")) // of a number with a unit
	return len(number) > maxNumber || n > maxNumber || n < -maxNumber || errors.Is(err, strconv.ErrRange)
}

// matching counts what matching a text by a glob costs: gobwas/glob, which OPA uses, tries every way to share out the
// text among the wildcards, and every alternative in braces.
func (m *meter) matching(pattern, text ast.String, delimiters ast.Value) {
	if len(pattern) > maxPattern {
		m.exceed("they match by a glob of more than %d characters", maxPattern)
		return
	}
	// OPA keeps compiled globs for all workspaces by pattern-delimiters: with this one two of them could be mistaken.
	if list, ok := delimiters.(*ast.Array); ok && list.Until(func(t *ast.Term) bool { return t.Value.Compare(ast.String("-")) == 0 }) {
		m.exceed(`they match by a glob with the delimiter "-"`)
		return
	}
	const endless = 1 << 40 // so far above the budget that no division below brings it back
	ways := 1 + len(text)/charactersPerValue
	multiply := func(by int) { ways = min(ways*by, endless) }
	stars, alternatives := 0, 0
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*':
			if i+1 < len(pattern) && pattern[i+1] == '*' {
				i++
			}
			stars++
			multiply(len(text) + stars) // in all binomial(len(text)+stars, stars)
			ways = (ways + stars - 1) / stars
		case (c == '{' || c == '[' || c == '\\') && alternatives > 0:
			m.exceed("they match by a glob with braces, brackets or escapes in braces")
			return
		case c == '{', c == ',' && alternatives > 0:
			alternatives++
		case c == '}':
			multiply(max(1, alternatives))
			alternatives = 0
		}
	}
	if m.left -= ways; m.left < 0 {
		m.exceeded = fmt.Sprintf("they match %d characters by the glob %s", len(text), pattern)
	}
}

// uniting counts what it costs to put the elements of sets into one set: those whose hashes are the same, as they can be
// chosen to be, are compared each with all others, in one step.
func (m *meter) uniting(operands *ast.Array) {
	same := map[int]int{}
	count := func(t *ast.Term) {
		hash := t.Hash()
		m.left -= same[hash]
		same[hash]++
	}
	operands.Foreach(func(t *ast.Term) {
		set, ok := t.Value.(ast.Set)
		if !ok {
			return
		}
		set.Foreach(func(t *ast.Term) {
			count(t)
			if inner, ok := t.Value.(ast.Set); ok { // as in union({{1}, {2}})
				inner.Foreach(count)
			}
		})
	})
}

// The functions that metered puts into policies. Tenants cannot call them: they are not in the capabilities.
var (
	chargeName    = ast.Ref{ast.VarTerm("meter"), ast.StringTerm("charge")}
	matchingName  = ast.Ref{ast.VarTerm("meter"), ast.StringTerm("matching")}
	searchingName = ast.Ref{ast.VarTerm("meter"), ast.StringTerm("searching")}
	uniting       = ast.Ref{ast.VarTerm("meter"), ast.StringTerm("uniting")}
	numeralName   = ast.Ref{ast.VarTerm("meter"), ast.StringTerm("numeral")}

	meterFunctions = map[string]*topdown.Builtin{
		chargeName.String(): meterFunction(chargeName, func(m *meter, t *ast.Term) { m.charge(t) }),
		matchingName.String(): meterFunction(matchingName, func(m *meter, t *ast.Term) {
			operands, ok := t.Value.(*ast.Array)
			if !ok || operands.Len() != 3 {
				return
			}
			pattern, isPattern := operands.Elem(0).Value.(ast.String)
			text, isText := operands.Elem(2).Value.(ast.String)
			if isPattern && isText {
				m.matching(pattern, text, operands.Elem(1).Value)
			}
		}),
		searchingName.String(): meterFunction(searchingName, func(m *meter, t *ast.Term) {
			operands, ok := t.Value.(*ast.Array)
			if !ok || operands.Len() != 2 {
				return
			}
			text, isText := operands.Elem(0).Value.(ast.String)
			part, isPart := operands.Elem(1).Value.(ast.String)
			if isText && isPart { // OPA looks for it rune by rune, at every place
				m.left -= len(text) * len(part) / charactersPerValue
			}
		}),
		uniting.String(): meterFunction(uniting, func(m *meter, t *ast.Term) {
			if operands, ok := t.Value.(*ast.Array); ok {
				m.uniting(operands)
			}
		}),
		numeralName.String(): meterFunction(numeralName, func(m *meter, t *ast.Term) {
			if s, ok := t.Value.(ast.String); ok && (len(s) > maxNumeral || isLong(string(s))) {
				m.exceed("they read a number of more than %d characters", maxNumeral)
			}
		}),
	}

	// unions are the functions that put the elements of sets into one.
	unions = []ast.Ref{ast.Or.Ref(), ast.And.Ref(), ast.Minus.Ref(), ast.Union.Ref(), ast.Intersection.Ref()}

	// numerals are the functions that read a number.
	numerals = []ast.Ref{ast.ToNumber.Ref(), ast.UnitsParse.Ref(), ast.UnitsParseBytes.Ref()}
)

func meterFunction(name ast.Ref, f func(*meter, *ast.Term)) *topdown.Builtin {
	return &topdown.Builtin{
		Decl: &ast.Builtin{Name: name.String(), Decl: types.NewFunction(types.Args(types.A), types.B)},
		Func: func(ctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			if m, ok := ctx.Cancel.(*meter); ok {
				f(m, operands[0])
			}
			return iter(ast.InternedTerm(true))
		},
	}
}

// metered rewrites compiled rules so that they charge for what they make: collections, results of rules and of
// built-in functions. A step can make a large value, or one small in memory that is endless to walk through, as when
// every array holds the one before it twice; OPA cannot be stopped while it copies, sorts or compares such values.
// Since each is charged for when it is made, none can be larger than the budget.
func metered(compiler *ast.Compiler) {
	for _, module := range compiler.Modules {
		for _, rule := range module.Rules {
			for ; rule != nil; rule = rule.Else {
				rule.Body = meteredBody(compiler, rule.Body, rule.Head.Key, rule.Head.Value)
				ast.NewGenericVisitor(func(x any) bool {
					meterNested(compiler, x)
					return false
				}).Walk(rule.Body)
			}
		}
	}
}

// meterNested does the same to the bodies within expressions.
func meterNested(compiler *ast.Compiler, x any) {
	switch x := x.(type) {
	case *ast.ArrayComprehension:
		x.Body = meteredBody(compiler, x.Body, x.Term)
	case *ast.SetComprehension:
		x.Body = meteredBody(compiler, x.Body, x.Term)
	case *ast.ObjectComprehension:
		x.Body = meteredBody(compiler, x.Body, x.Key, x.Value)
	case *ast.Every:
		x.Body = meteredBody(compiler, x.Body)
	case *ast.Not:
		x.Body = meteredBody(compiler, x.Body)
	}
}

// meteredBody charges for what the expressions of a body make, and for its results.
func meteredBody(compiler *ast.Compiler, body ast.Body, results ...*ast.Term) ast.Body {
	var rewritten ast.Body
	charge := func(name ast.Ref, t *ast.Term) {
		rewritten.Append(&ast.Expr{Terms: []*ast.Term{ast.NewTerm(name), t}, Location: t.Location})
	}
	for _, expr := range body {
		if len(expr.With) > 0 { // the input is copied
			charge(chargeName, ast.NewTerm(ast.InputRootRef).SetLocation(expr.Location))
		}
		terms, isCall := expr.Terms.([]*ast.Term)
		if !isCall || expr.IsEquality() {
			rewritten.Append(expr)
			if isCall && !expr.Negated {
				if t := madeBy(terms[1], terms[2]); t != nil {
					charge(chargeName, t)
				}
			}
			continue
		}
		arity := compiler.GetArity(expr.Operator())
		operands, outputs := terms[1:min(1+arity, len(terms))], terms[min(1+arity, len(terms)):]
		for _, operand := range operands {
			if isCollection(operand) {
				charge(chargeName, operand)
			}
		}
		switch operator := expr.Operator(); {
		case operator.Equal(ast.GlobMatch.Ref()):
			charge(matchingName, ast.ArrayTerm(operands...).SetLocation(expr.Location))
		case operator.Equal(ast.IndexOf.Ref()):
			charge(searchingName, ast.ArrayTerm(operands...).SetLocation(expr.Location))
		case slices.ContainsFunc(unions, func(union ast.Ref) bool { return operator.Equal(union) }):
			charge(uniting, ast.ArrayTerm(operands...).SetLocation(expr.Location))
		case slices.ContainsFunc(numerals, func(numeral ast.Ref) bool { return operator.Equal(numeral) }):
			charge(numeralName, operands[0])
		}
		rewritten.Append(expr)
		for _, output := range outputs {
			if !expr.Negated {
				charge(chargeName, output)
			}
		}
	}
	for _, result := range results {
		if result != nil && !result.IsGround() {
			charge(chargeName, result)
		}
	}
	return rewritten
}

// madeBy returns the one of two terms that are the same once they are unified by which to charge for what was made;
// nil where nothing was.
func madeBy(a, b *ast.Term) *ast.Term {
	for _, pair := range [][2]*ast.Term{{a, b}, {b, a}} {
		made, other := pair[0], pair[1]
		if ast.IsComprehension(made.Value) {
			return other
		}
		if isCollection(made) && !ast.IsComprehension(other.Value) {
			return made
		}
	}
	return nil
}

// isCollection tells whether a term is a collection that is made anew whenever it is met.
func isCollection(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.Array, ast.Set, ast.Object:
		return !t.IsGround()
	}
	return false
}
