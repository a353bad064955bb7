package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// Budget is what one evaluation may cost: each step of the evaluator costs one unit, and so does each value that is made,
// counted as often as it appears in a larger one. A unit corresponds to about a microsecond and a few hundred bytes.
// Invariant: the same policies stop on the same input at the same step, whatever the machine and its load.
const Budget = 100_000

// MaxCPUTime is how much processor time one evaluation may take, where the platform counts it by thread. It is several
// times what the budget takes, and stops evaluations for which the budget is too cheap.
const MaxCPUTime = 500 * time.Millisecond

const (
	// unitsPerCheck is the part of the budget between two checks of the clocks and the context.
	unitsPerCheck = 512
	// maxNumber bounds the digits of a computed number: products grow faster than anything that is counted.
	maxNumber = 256
	// maxPattern bounds the characters of a glob, which OPA compiles when it is used.
	maxPattern = 256
	// maxNumeral bounds the characters of a text that is parsed as a number.
	maxNumeral = 256
	// What one unit buys: characters of a string, digits of a number, elements that are compared or added up, and probes
	// of a hash table.
	charactersPerUnit = 64
	digitsPerUnit     = 8
	elementsPerUnit   = 2
	probesPerUnit     = 8
	// collisionCost is the cost of comparing two keys in full, which are numbers of many digits at worst.
	collisionCost = 4
	// withCost is the cost of replacing the input, in addition to the size of the input.
	withCost = 32
)

// meter stops an evaluation when its budget is spent, when its thread has used too much processor time, or when its
// deadline or its caller ends it. OPA asks it before every step, which is the only place where OPA can be interrupted;
// whatever can be large within one step is charged for, see metered. A meter belongs to one evaluation and its goroutine.
type meter struct {
	left int
	// stopped is why the evaluation has to end.
	stopped error
	// tables hold what the evaluation has put into sets and objects, by the rule or comprehension that makes them.
	tables map[ast.Value]hashTable

	ctx      context.Context
	timeout  time.Duration
	deadline time.Time
	// nextCheck is the value of left at which the clocks are read again: reading them costs more than a step.
	nextCheck int
	cpu       cpuClock
}

func newMeter(ctx context.Context, timeout time.Duration) *meter {
	return &meter{left: Budget, nextCheck: Budget - unitsPerCheck, ctx: ctx, timeout: timeout, deadline: time.Now().Add(timeout)}
}

// Cancel implements topdown.Cancel.
func (m *meter) Cancel() { m.stop(context.Canceled) }

// Cancelled implements topdown.Cancel.
func (m *meter) Cancelled() bool {
	m.spend(1)
	if m.left <= m.nextCheck && m.stopped == nil {
		m.nextCheck = m.left - unitsPerCheck
		m.readClocks()
	}
	return m.stopped != nil
}

func (m *meter) readClocks() {
	switch {
	case m.cpu.elapsed() > MaxCPUTime:
		m.stop(&CPUTimeError{})
	case m.ctx.Err() != nil:
		m.stop(context.Cause(m.ctx))
	case time.Now().After(m.deadline):
		m.stop(&TimeoutError{After: m.timeout})
	}
}

// stop ends the evaluation at its next step. The first reason counts.
func (m *meter) stop(err error) {
	if m.stopped == nil {
		m.stopped = err
	}
}

func (m *meter) spend(units int) {
	if m.left -= units; m.left < 0 {
		m.exceed("they take more than %d steps", Budget)
	}
}

func (m *meter) exceed(format string, args ...any) {
	if m.stopped == nil {
		m.left, m.stopped = -1, &BudgetError{fmt.Sprintf(format, args...)}
	}
}

// charge charges for a value that was made, including everything in it.
func (m *meter) charge(t *ast.Term) {
	m.each(t, func(t *ast.Term) {
		m.spend(1)
		switch v := t.Value.(type) {
		case ast.String:
			m.spend(len(v) / charactersPerUnit)
		case ast.Number:
			m.spend(len(v) / digitsPerUnit)
			if isLong(string(v)) {
				m.exceed("they compute a number of more than %d digits", maxNumber)
			}
		}
	})
}

// read charges for going through values that were made before, which costs less.
func (m *meter) read(operands []*ast.Term) {
	parts := 0
	for _, operand := range operands {
		m.each(operand, func(t *ast.Term) {
			if parts++; parts%elementsPerUnit == 0 {
				m.spend(1)
			}
			if text, ok := t.Value.(ast.String); ok {
				m.spend(len(text) / charactersPerUnit)
			}
		})
	}
}

// each visits a value and everything in it, until the evaluation is stopped.
func (m *meter) each(t *ast.Term, visit func(*ast.Term)) {
	if visit(t); m.stopped != nil {
		return
	}
	part := func(t *ast.Term) error {
		m.each(t, visit)
		return m.stopped
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		_ = v.Iter(part)
	case ast.Set:
		_ = v.Iter(part)
	case ast.Object:
		_ = v.Iter(func(key, value *ast.Term) error {
			if err := part(key); err != nil {
				return err
			}
			return part(value)
		})
	}
}

// hashTable mimics how OPA looks for a free slot in a set. The hashes of small numbers, and of arrays of them, are adjacent,
// and those of fractions are all the same: keys can be chosen so that each is compared with all before it.
type hashTable map[int]*ast.Term

// insert charges for putting a key into a table.
func (m *meter) insert(table hashTable, key *ast.Term) {
	hash := key.Hash()
	for slot := hash; m.stopped == nil; slot++ {
		other, taken := table[slot]
		if !taken {
			table[slot] = key
			return
		}
		if ast.KeyHashEqual(other.Value, key.Value) {
			return
		}
		if other.Hash() == hash {
			m.spend(collisionCost)
		} else if (slot-hash)%probesPerUnit == 0 {
			m.spend(1)
		}
	}
}

// table returns what a rule or comprehension has put into its sets or objects in this evaluation.
func (m *meter) table(maker ast.Value) hashTable {
	table, found := m.tables[maker]
	if !found {
		table = hashTable{}
		if m.tables == nil {
			m.tables = map[ast.Value]hashTable{}
		}
		m.tables[maker] = table
	}
	return table
}

// isLong reports whether a number has more than maxNumber digits without its exponent.
func isLong(number string) bool {
	_, exponent, found := strings.Cut(strings.ToLower(number), "e")
	if !found {
		return len(number) > maxNumber
	}
	n, err := strconv.Atoi(strings.TrimRight(exponent, "bikmgtp")) // of a number with a unit
	return len(number) > maxNumber || n > maxNumber || n < -maxNumber || errors.Is(err, strconv.ErrRange)
}

// matching charges for matching a glob: gobwas/glob, which OPA uses, tries every way to split the text among the
// wildcards, and every alternative in braces.
func (m *meter) matching(pattern, text ast.String, delimiters ast.Value) {
	if len(pattern) > maxPattern {
		m.exceed("they match by a glob of more than %d characters", maxPattern)
		return
	}
	// OPA caches compiled globs for all workspaces by the text pattern-delimiters, which is ambiguous with this delimiter.
	if list, ok := delimiters.(*ast.Array); ok && list.Until(func(t *ast.Term) bool { return t.Value.Compare(ast.String("-")) == 0 }) {
		m.exceed(`they match by a glob with the delimiter "-"`)
		return
	}
	const endless = 1 << 40 // so far above the budget that no division below brings it back
	ways := 1 + len(text)/charactersPerUnit
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
	if ways > m.left {
		m.exceed("they match %d characters by the glob %s", len(text), pattern)
	}
	m.spend(ways)
}

// uniting charges for putting the elements of sets, or of the sets in a set, into one set.
func (m *meter) uniting(operands []*ast.Term) {
	m.read(operands)
	table := hashTable{}
	insert := func(t *ast.Term) error {
		m.insert(table, t)
		return m.stopped
	}
	for _, operand := range operands {
		if set, ok := operand.Value.(ast.Set); ok && m.stopped == nil {
			_ = set.Iter(func(t *ast.Term) error {
				if inner, ok := t.Value.(ast.Set); ok { // as in union({{1}, {2}})
					if err := inner.Iter(insert); err != nil {
						return err
					}
				}
				return insert(t)
			})
		}
	}
}

// A fee is a function that metered inserts into policies. Tenants cannot call it: it is not in the capabilities.
type fee struct {
	name ast.Ref
	do   func(*meter, []*ast.Term)
}

var (
	made     = newFee("made", func(m *meter, operands []*ast.Term) { m.charge(operands[0]) })
	inserted = newFee("inserted", func(m *meter, operands []*ast.Term) {
		m.charge(operands[1])
		m.insert(m.table(operands[0].Value), operands[1])
	})
	replaced = newFee("replaced", func(m *meter, operands []*ast.Term) {
		m.spend(withCost)
		m.charge(operands[0])
	})
	uniting  = newFee("uniting", (*meter).uniting)
	reading  = newFee("reading", (*meter).read)
	matching = newFee("matching", func(m *meter, operands []*ast.Term) {
		pattern, isPattern := operands[0].Value.(ast.String)
		text, isText := operands[2].Value.(ast.String)
		if isPattern && isText {
			m.matching(pattern, text, operands[1].Value)
		}
	})
	searching = newFee("searching", func(m *meter, operands []*ast.Term) {
		text, isText := operands[0].Value.(ast.String)
		part, isPart := operands[1].Value.(ast.String)
		if isText && isPart { // OPA compares rune by rune, at every place
			m.spend(len(text) * len(part) / charactersPerUnit)
		}
	})
	parsing = newFee("parsing", func(m *meter, operands []*ast.Term) {
		if s, ok := operands[0].Value.(ast.String); ok && (len(s) > maxNumeral || isLong(string(s))) {
			m.exceed("they parse a number of more than %d characters", maxNumeral)
		}
	})

	// beforeCalls are charged before a function is called, based on its operands: its cost depends on their size.
	beforeCalls = map[string]fee{
		ast.GlobMatch.Name: matching, ast.IndexOf.Name: searching,
		ast.ToNumber.Name: parsing, ast.UnitsParse.Name: parsing, ast.UnitsParseBytes.Name: parsing,
		ast.Or.Name: uniting, ast.And.Name: uniting, ast.Minus.Name: uniting, ast.Union.Name: uniting, ast.Intersection.Name: uniting,
		ast.Equal.Name: reading, ast.NotEqual.Name: reading,
		ast.LessThan.Name: reading, ast.LessThanEq.Name: reading, ast.GreaterThan.Name: reading, ast.GreaterThanEq.Name: reading,
		ast.Sum.Name: reading, ast.Max.Name: reading, ast.Min.Name: reading, ast.Sort.Name: reading, ast.ObjectKeys.Name: reading,
		ast.Member.Name: reading, ast.MemberWithKey.Name: reading, ast.Contains.Name: reading,
		ast.SemVerCompare.Name: reading, ast.SemVerIsValid.Name: reading,
	}
	meterFunctions = functions(made, inserted, replaced, uniting, reading, matching, searching, parsing)
)

func newFee(name string, do func(*meter, []*ast.Term)) fee {
	return fee{ast.Ref{ast.VarTerm("meter"), ast.StringTerm(name)}, do}
}

func functions(fees ...fee) map[string]*topdown.Builtin {
	functions := map[string]*topdown.Builtin{}
	for _, f := range fees {
		functions[f.name.String()] = f.builtin()
	}
	return functions
}

// builtin is the function as OPA calls it: with an array of operands.
func (f fee) builtin() *topdown.Builtin {
	return &topdown.Builtin{
		Decl: &ast.Builtin{Name: f.name.String(), Decl: types.NewFunction(types.Args(types.A), types.B)},
		Func: func(ctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			if m, ok := ctx.Cancel.(*meter); ok {
				if array, ok := operands[0].Value.(*ast.Array); ok {
					all := make([]*ast.Term, 0, array.Len())
					array.Foreach(func(t *ast.Term) { all = append(all, t) })
					f.do(m, all)
				}
			}
			return iter(ast.InternedTerm(true))
		},
	}
}

// metered rewrites compiled rules so that they charge for what they make: collections, results of rules and of
// built-in functions. A step can make a large value, or one that is small in memory and endless to walk through, as when
// every array holds the one before it twice; OPA cannot be stopped while it copies, sorts or compares such values.
// Invariant: parts of a value <= Budget, since each is charged for when the value is made.
func metered(compiler *ast.Compiler) {
	r := &rewriter{compiler: compiler}
	for _, module := range compiler.Modules {
		for _, rule := range module.Rules {
			table := ast.StringTerm(rule.Ref().GroundPrefix().String())
			for ; rule != nil; rule = rule.Else {
				arguments := ast.NewVarSet()
				for _, argument := range rule.Head.Args {
					arguments.Update(argument.Vars())
				}
				rule.Body = r.body(rule.Body, arguments)
				switch head := rule.Head; {
				case head.RuleKind() == ast.MultiValue:
					charge(&rule.Body, inserted, table, head.Key)
				case !head.Ref().IsGround():
					charge(&rule.Body, inserted, table, head.Ref()[len(head.Ref())-1])
					charge(&rule.Body, made, head.Value)
				default:
					charge(&rule.Body, made, head.Value)
				}
			}
		}
	}
}

// rewriter puts fees into bodies.
type rewriter struct {
	compiler *ast.Compiler
	// names is how many tables and variables have been named.
	names int
}

// nested rewrites the bodies within an expression. The variables in bound have values before it is evaluated.
func (r *rewriter) nested(expr *ast.Expr, bound ast.VarSet) {
	ast.NewGenericVisitor(func(x any) (done bool) {
		switch x := x.(type) {
		case *ast.ArrayComprehension:
			x.Body = r.body(x.Body, bound)
			charge(&x.Body, made, x.Term)
		case *ast.SetComprehension:
			x.Body = r.body(x.Body, bound)
			charge(&x.Body, inserted, r.table(), x.Term)
		case *ast.ObjectComprehension:
			x.Body = r.body(x.Body, bound)
			charge(&x.Body, inserted, r.table(), x.Key)
			charge(&x.Body, made, x.Value)
		case *ast.Every:
			x.Body = r.body(x.Body, bound)
		case *ast.Not:
			x.Body = r.body(x.Body, bound)
		default:
			return false
		}
		return true
	}).Walk(expr)
}

// table names a table, see meter.table.
func (r *rewriter) table() *ast.Term {
	r.names++
	return ast.InternedTerm(r.names)
}

// charge adds a fee to a body, unless everything that it charges for is written out in the policy.
func charge(body *ast.Body, f fee, operands ...*ast.Term) {
	last := operands[len(operands)-1]
	if last != nil && !last.IsGround() {
		body.Append(f.call(last.Location, operands...))
	}
}

// call is an expression that calls the function.
func (f fee) call(location *ast.Location, operands ...*ast.Term) *ast.Expr {
	return &ast.Expr{Terms: []*ast.Term{ast.NewTerm(f.name), ast.ArrayTerm(operands...)}, Location: location}
}

// body charges for what the expressions of a body make and go through. The variables in bound have values before it.
func (r *rewriter) body(body ast.Body, bound ast.VarSet) ast.Body {
	var rewritten ast.Body
	bound = bound.Copy()
	for _, expr := range body {
		r.nested(expr, bound)
		if len(expr.With) > 0 { // the input is copied
			rewritten.Append(replaced.call(expr.Location, ast.NewTerm(ast.InputRootRef)))
		}
		switch terms, isCall := expr.Terms.([]*ast.Term); {
		case !isCall:
			rewritten.Append(expr)
		case expr.IsEquality():
			r.equality(&rewritten, expr, bound)
		default:
			arity := r.compiler.GetArity(expr.Operator())
			operands, outputs := terms[1:min(1+arity, len(terms))], terms[min(1+arity, len(terms)):]
			for _, operand := range operands {
				if isCollection(operand) {
					charge(&rewritten, made, operand)
				}
			}
			if before, found := beforeCalls[expr.Operator().String()]; found && !isCheap(expr) {
				rewritten.Append(before.call(expr.Location, operands...))
			}
			rewritten.Append(expr)
			for _, output := range outputs {
				if !expr.Negated {
					charge(&rewritten, made, output)
				}
			}
		}
		bound.Update(expr.Vars(ast.VarVisitorParams{}))
	}
	return rewritten
}

// equality charges for what a unification compares, and for what it makes.
func (r *rewriter) equality(body *ast.Body, expr *ast.Expr, bound ast.VarSet) {
	a, b := expr.Operand(0), expr.Operand(1)
	if len(expr.With) == 0 && !expr.Negated && hasValue(a, bound) && hasValue(b, bound) {
		a, b = r.variable(body, a), r.variable(body, b)
		body.Append(reading.call(expr.Location, a, b))
		compared := *expr
		compared.Terms = []*ast.Term{expr.OperatorTerm(), a, b}
		body.Append(&compared)
		return
	}
	body.Append(expr)
	if t := madeBy(a, b); t != nil && !expr.Negated {
		charge(body, made, t)
	}
}

// hasValue reports whether a term may have a large value before it is unified. The input is small.
func hasValue(t *ast.Term, bound ast.VarSet) bool {
	switch v := t.Value.(type) {
	case ast.Var:
		return bound.Contains(v)
	case ast.Ref:
		return !v[0].Equal(ast.InputRootDocument)
	}
	return false
}

// variable gives the value of a reference a name, so that it can be handed to a fee: that does not follow references.
func (r *rewriter) variable(body *ast.Body, t *ast.Term) *ast.Term {
	if _, isRef := t.Value.(ast.Ref); !isRef {
		return t
	}
	r.names++
	name := ast.VarTerm(fmt.Sprintf("__metered%d__", r.names))
	value := ast.Equality.Expr(name, t)
	value.Location = t.Location
	body.Append(value)
	return name
}

// madeBy returns which of two unified terms to charge for as newly made; nil if nothing was made.
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

// isCollection reports whether a term is a collection that each evaluation makes anew.
func isCollection(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.Array, ast.Set, ast.Object:
		return !t.IsGround()
	}
	return false
}

// isCheap reports whether a call compares with a literal scalar, which ends at once.
func isCheap(comparison *ast.Expr) bool {
	switch comparison.Operator().String() {
	case ast.Equal.Name, ast.NotEqual.Name, ast.LessThan.Name, ast.LessThanEq.Name, ast.GreaterThan.Name, ast.GreaterThanEq.Name:
		return slices.ContainsFunc(comparison.Operands(), func(t *ast.Term) bool { return ast.IsScalar(t.Value) })
	}
	return false
}
