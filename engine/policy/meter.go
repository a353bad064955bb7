package policy

import (
	"errors"
	"fmt"
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
func (m *meter) uniting(operands []*ast.Term) {
	same := map[int]int{}
	count := func(t *ast.Term) {
		hash := t.Hash()
		m.left -= same[hash]
		same[hash]++
	}
	for _, operand := range operands {
		set, ok := operand.Value.(ast.Set)
		if !ok {
			continue
		}
		set.Foreach(func(t *ast.Term) {
			count(t)
			if inner, ok := t.Value.(ast.Set); ok { // as in union({{1}, {2}})
				inner.Foreach(count)
			}
		})
	}
}

// charging is a function that metered puts into policies. Tenants cannot call it: it is not in the capabilities.
type charging struct {
	name ast.Ref
	do   func(*meter, []*ast.Term)
}

var (
	chargeMade = newCharging("charge", func(m *meter, operands []*ast.Term) { m.charge(operands[0]) })
	// beforeCalls charge for calls that cannot be stopped, by the functions that are called and with their operands.
	beforeCalls, meterFunctions = chargings()
)

func chargings() (beforeCalls map[string]charging, functions map[string]*topdown.Builtin) {
	beforeCalls = map[string]charging{}
	functions = map[string]*topdown.Builtin{chargeMade.name.String(): chargeMade.builtin()}
	before := func(c charging, calls ...*ast.Builtin) {
		functions[c.name.String()] = c.builtin()
		for _, call := range calls {
			beforeCalls[call.Name] = c
		}
	}
	before(newCharging("matching", func(m *meter, operands []*ast.Term) {
		pattern, isPattern := operands[0].Value.(ast.String)
		text, isText := operands[2].Value.(ast.String)
		if isPattern && isText {
			m.matching(pattern, text, operands[1].Value)
		}
	}), ast.GlobMatch)
	before(newCharging("searching", func(m *meter, operands []*ast.Term) {
		text, isText := operands[0].Value.(ast.String)
		part, isPart := operands[1].Value.(ast.String)
		if isText && isPart { // OPA looks for it rune by rune, at every place
			m.left -= len(text) * len(part) / charactersPerValue
		}
	}), ast.IndexOf)
	before(newCharging("uniting", (*meter).uniting), ast.Or, ast.And, ast.Minus, ast.Union, ast.Intersection)
	before(newCharging("numeral", func(m *meter, operands []*ast.Term) {
		if s, ok := operands[0].Value.(ast.String); ok && (len(s) > maxNumeral || isLong(string(s))) {
			m.exceed("they read a number of more than %d characters", maxNumeral)
		}
	}), ast.ToNumber, ast.UnitsParse, ast.UnitsParseBytes)
	return beforeCalls, functions
}

func newCharging(name string, do func(*meter, []*ast.Term)) charging {
	return charging{ast.Ref{ast.VarTerm("meter"), ast.StringTerm(name)}, do}
}

// builtin is the function as OPA calls it: with an array of operands.
func (c charging) builtin() *topdown.Builtin {
	return &topdown.Builtin{
		Decl: &ast.Builtin{Name: c.name.String(), Decl: types.NewFunction(types.Args(types.A), types.B)},
		Func: func(ctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			if m, ok := ctx.Cancel.(*meter); ok {
				if array, ok := operands[0].Value.(*ast.Array); ok {
					all := make([]*ast.Term, 0, array.Len())
					array.Foreach(func(t *ast.Term) { all = append(all, t) })
					c.do(m, all)
				}
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
	charge := func(c charging, location *ast.Location, operands ...*ast.Term) {
		rewritten.Append(&ast.Expr{Terms: []*ast.Term{ast.NewTerm(c.name), ast.ArrayTerm(operands...)}, Location: location})
	}
	chargeFor := func(t *ast.Term) { charge(chargeMade, t.Location, t) }
	for _, expr := range body {
		if len(expr.With) > 0 { // the input is copied
			charge(chargeMade, expr.Location, ast.NewTerm(ast.InputRootRef))
		}
		terms, isCall := expr.Terms.([]*ast.Term)
		if !isCall || expr.IsEquality() {
			rewritten.Append(expr)
			if isCall && !expr.Negated {
				if t := madeBy(terms[1], terms[2]); t != nil {
					chargeFor(t)
				}
			}
			continue
		}
		arity := compiler.GetArity(expr.Operator())
		operands, outputs := terms[1:min(1+arity, len(terms))], terms[min(1+arity, len(terms)):]
		for _, operand := range operands {
			if isCollection(operand) {
				chargeFor(operand)
			}
		}
		if before, found := beforeCalls[expr.Operator().String()]; found {
			charge(before, expr.Location, operands...)
		}
		rewritten.Append(expr)
		for _, output := range outputs {
			if !expr.Negated {
				chargeFor(output)
			}
		}
	}
	for _, result := range results {
		if result != nil && !result.IsGround() {
			chargeFor(result)
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
