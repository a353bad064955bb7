package policy

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Field is a part of the input, such as workload.kind.
type Field struct {
	Name string
	// Key of a label, an annotation or a resource; empty for other fields.
	Key string
}

// String writes the field as Rego does.
func (f Field) String() string {
	if f.Key == "" {
		return "input." + f.Name
	}
	return "input." + f.Name + "[" + ast.String(f.Key).String() + "]"
}

// Comparison is a comparison of a part of the input with a literal.
type Comparison struct {
	Position
	Field Field
	// Operator is the name of the function, such as equal, lt or startswith; Read if a key is only read.
	Operator string
	// Literal is a string, an int64, a boolean, or a json.Number that does not fit an int64.
	Literal any
}

// Operators of comparisons that are not OPA functions.
const (
	// Read stands for a label, an annotation or a resource that is read.
	Read = "read"
	// Derived stands for a comparison with a value that a function derives from the field.
	Derived = "derived"
)

// maxComparisons bounds how many comparisons of a set are recorded, maxCompared how many literals are examined for them.
const (
	maxComparisons = 4000
	maxCompared    = 100_000
)

// comparisons finds what the rules of a workspace compare with what.
type comparisons struct {
	compiler *ast.Compiler
	// parameters are the parts of the input that are passed to functions, by the function's path and the argument's index.
	parameters map[argument][]source
	// Of the current rule: what variables stand for.
	fields    map[ast.Var][]source
	constants map[ast.Var][]*ast.Term
	found     []Comparison
	// left is how many more literals may be examined.
	left int
}

// source is a part of the input; derived means that not the part itself is compared but, for example, its lower case.
type source struct {
	path    ast.Ref
	derived bool
}

// maxSources bounds the parts of the input that one variable may stand for.
const maxSources = 8

// condition is what one rule body requires of the input.
type condition []setting

// setting is a value of a part of the input.
type setting struct {
	Field
	value ast.Value
}

// compared returns the comparisons of a set by position, and the conditions under which the bodies of its rules hold.
func compared(compiler *ast.Compiler) ([]Comparison, []condition) {
	c := &comparisons{compiler: compiler, left: maxCompared, parameters: map[argument][]source{}}
	var conditions []condition
	each := func(do func(part *ast.Rule)) {
		for _, file := range ownFiles(compiler) {
			for _, rule := range compiler.Modules[file].Rules {
				for part := rule; part != nil; part = part.Else {
					c.prepare(part)
					do(part)
				}
			}
		}
	}
	for range 2 { // arguments of functions, and of functions that those call
		each(func(*ast.Rule) {})
	}
	each(func(part *ast.Rule) {
		if holds := c.body(part); len(holds) > 0 {
			conditions = append(conditions, holds)
		}
	})
	slices.SortStableFunc(c.found, func(a, b Comparison) int { return a.compare(b.Position) })
	return slices.Compact(c.found), conditions
}

// prepare records what the variables of a rule stand for, and the arguments of its calls.
func (c *comparisons) prepare(part *ast.Rule) {
	c.fields, c.constants = map[ast.Var][]source{}, map[ast.Var][]*ast.Term{}
	for i, arg := range part.Head.Args {
		if v, ok := arg.Value.(ast.Var); ok {
			c.fields[v] = c.parameters[argument{part.Ref().String(), i}]
		}
	}
	for range 2 { // a variable may be used before it is assigned
		ast.WalkExprs(part.Body, func(expr *ast.Expr) bool {
			c.assign(expr)
			return false
		})
	}
}

// body records the comparisons of a rule, and returns what has to hold for its body.
func (c *comparisons) body(part *ast.Rule) (holds condition) {
	for _, expr := range part.Body {
		holds = append(holds, c.expr(expr)...)
	}
	ast.WalkTerms(part.Head, c.lookup)
	// Comprehensions and every: comparisons in them do not have to hold.
	for _, nested := range nestedBodies(part.Body) {
		for _, expr := range nested {
			c.expr(expr)
		}
	}
	return holds
}

func nestedBodies(body ast.Body) (bodies []ast.Body) {
	ast.WalkClosures(body, func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension:
			bodies = append(bodies, x.Body)
		case *ast.SetComprehension:
			bodies = append(bodies, x.Body)
		case *ast.ObjectComprehension:
			bodies = append(bodies, x.Body)
		case *ast.Every:
			bodies = append(bodies, x.Body)
		}
		return false
	})
	return bodies
}

// assign records what variables stand for, and the arguments of calls.
func (c *comparisons) assign(expr *ast.Expr) {
	if expr.IsEquality() {
		left, right := expr.Operand(0), expr.Operand(1)
		v, ok := left.Value.(ast.Var)
		if !ok {
			v, ok = right.Value.(ast.Var)
			right = left
		}
		if !ok {
			return
		}
		c.fields[v] = add(c.fields[v], c.sources(right))
		if len(c.constants[v]) == 0 {
			c.constants[v] = c.values(right)
		}
		return
	}
	if !expr.IsCall() {
		return
	}
	name, operands := expr.Operator().String(), expr.Operands()
	output := func(n int) (ast.Var, bool) {
		if len(operands) <= n {
			return "", false
		}
		v, ok := operands[n].Value.(ast.Var)
		return v, ok
	}
	switch name {
	case "lower", "upper", "trim_space":
		if v, ok := output(1); ok {
			for _, s := range c.sources(operands[0]) {
				c.fields[v] = add(c.fields[v], []source{{s.path, true}})
			}
		}
	case "object.get":
		if v, ok := output(3); ok {
			for _, s := range c.sources(operands[0]) {
				for _, key := range c.values(operands[1]) {
					c.fields[v] = add(c.fields[v], []source{{s.path.Append(key), s.derived}})
				}
			}
		}
	default:
		for i, operand := range operands {
			if a := (argument{name, i}); strings.HasPrefix(name, "data.") {
				if s := c.sources(operand); len(s) > 0 {
					c.parameters[a] = add(c.parameters[a], s)
				}
			}
		}
	}
}

func add(sources, more []source) []source {
	for _, m := range more {
		known := slices.ContainsFunc(sources, func(s source) bool { return s.derived == m.derived && s.path.Equal(m.path) })
		if !known && len(sources) < maxSources && len(m.path) <= maxPath {
			sources = append(sources, m)
		}
	}
	return sources
}

// sources returns the parts of the input that a term stands for.
func (c *comparisons) sources(t *ast.Term) (sources []source) {
	switch v := t.Value.(type) {
	case ast.Var:
		return c.fields[v]
	case ast.Ref:
		if len(v) > maxPath {
			return nil
		}
		if v[0].Equal(ast.InputRootDocument) {
			return []source{{path: v}}
		}
		if head, ok := v[0].Value.(ast.Var); ok {
			for _, s := range c.fields[head] {
				sources = append(sources, source{s.path.Concat(v[1:]), s.derived})
			}
		}
	}
	return sources
}

// field returns the part of the input at a path; ok is false if the path is not a single value.
func field(path ast.Ref) (f Field, ok bool) {
	var names []string
	for _, element := range path[1:] {
		name, ok := element.Value.(ast.String)
		if !ok {
			return f, false
		}
		names = append(names, string(name))
	}
	switch {
	case len(names) == 1 && names[0] == "workspace":
		return Field{Name: names[0]}, true
	case len(names) == 2 && !slices.Contains([]string{"labels", "annotations", "requests"}, names[1]):
		return Field{Name: names[0] + "." + names[1]}, true
	case len(names) == 3:
		return Field{names[0] + "." + names[1], names[2]}, true
	}
	return f, false
}

// values returns the scalars that a term may stand for: itself, or the elements of a literal collection.
func (c *comparisons) values(t *ast.Term) []*ast.Term {
	switch v := t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean:
		return []*ast.Term{t}
	case ast.Var:
		return c.constants[v]
	case ast.Ref:
		if head, ok := v[0].Value.(ast.Var); ok && len(v) == 2 && len(c.constants[head]) > 0 {
			return c.constants[head] // some x in constants
		}
		if v.HasPrefix(prefix) {
			return c.ruleValues(v)
		}
	}
	values, _ := c.elements(t)
	return values
}

// elements returns the values of a literal collection, and its keys.
func (c *comparisons) elements(t *ast.Term) (values, keys []*ast.Term) {
	take := func(into *[]*ast.Term, t *ast.Term) {
		if c.left--; c.left < 0 {
			return
		}
		switch t.Value.(type) {
		case ast.String, ast.Number, ast.Boolean:
			*into = append(*into, t)
		}
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { take(&values, t) })
	case ast.Set:
		v.Foreach(func(t *ast.Term) { take(&values, t); take(&keys, t) })
	case ast.Object:
		v.Foreach(func(k, t *ast.Term) { take(&keys, k); take(&values, t) })
	}
	return values, keys
}

// ruleValues returns the elements of rules that are literals.
func (c *comparisons) ruleValues(ref ast.Ref) (values []*ast.Term) {
	for _, rule := range c.exact(ref) {
		switch {
		case rule.Head.RuleKind() == ast.MultiValue && rule.Head.Key != nil:
			values = append(values, c.scalar(rule.Head.Key)...)
		case rule.Head.Value != nil:
			if found := c.scalar(rule.Head.Value); len(found) > 0 {
				values = append(values, found...)
			} else {
				found, _ := c.elements(rule.Head.Value)
				values = append(values, found...)
			}
		}
	}
	return values
}

// ruleKeys returns the keys of rules that are literal objects or sets.
func (c *comparisons) ruleKeys(ref ast.Ref) (keys []*ast.Term) {
	for _, rule := range c.exact(ref) {
		if rule.Head.RuleKind() == ast.MultiValue && rule.Head.Key != nil {
			keys = append(keys, c.scalar(rule.Head.Key)...)
		} else if rule.Head.Value != nil {
			_, found := c.elements(rule.Head.Value)
			keys = append(keys, found...)
		}
	}
	return keys
}

// exact returns the rules of a path, up to a small number.
func (c *comparisons) exact(ref ast.Ref) []*ast.Rule {
	if len(ref) > maxPath {
		return nil
	}
	found := c.compiler.GetRulesExact(ref.StringPrefix())
	return found[:min(len(found), maxSources)]
}

func (c *comparisons) scalar(t *ast.Term) []*ast.Term {
	switch t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean:
		return []*ast.Term{t}
	}
	return nil
}

// expr records the comparisons in an expression, and returns what has to hold for it to be true.
func (c *comparisons) expr(expr *ast.Expr) (holds condition) {
	ast.WalkTerms(expr, c.lookup)
	if t, ok := expr.Terms.(*ast.Term); ok {
		if ref, ok := t.Value.(ast.Ref); ok && !expr.Negated && ref.HasPrefix(prefix) {
			holds = c.keyed(ref)
		}
		return holds
	}
	if !expr.IsCall() && !expr.IsEquality() {
		return nil
	}
	operator, operands := expr.Operator().String(), expr.Operands()
	if len(operands) < 2 {
		return nil
	}
	left, right := operands[0], operands[1]
	switch operator {
	case "eq", "equal", "neq", "lt", "lte", "gt", "gte":
		if len(c.sources(left)) == 0 {
			left, right, operator = right, left, mirrored(operator)
		}
	case "internal.member_2", "startswith", "endswith", "contains":
	case "glob.match":
		if len(operands) < 3 {
			return nil
		}
		left, right = operands[2], operands[0]
	default:
		return nil
	}
	values := c.values(right)
	for _, s := range c.sources(left) {
		f, ok := field(s.path)
		if !ok {
			continue
		}
		for _, value := range values[:min(len(values), max(0, c.left))] {
			c.compare(expr.Location, f, s.derived, operator, value)
		}
		if len(values) > 0 && !expr.Negated && len(holds) == 0 {
			if value := satisfying(operator, values[0].Value); value != nil {
				holds = condition{{f, value}}
			}
		}
	}
	return holds
}

func mirrored(operator string) string {
	switch operator {
	case "lt":
		return "gt"
	case "lte":
		return "gte"
	case "gt":
		return "lt"
	case "gte":
		return "lte"
	}
	return operator
}

// lookup records the keys of labels, annotations and requests that are read, and those of a table in which a part of the input is
// looked up, as in share[input.workload.labels.team].
func (c *comparisons) lookup(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	if !ok {
		return false
	}
	c.keyed(ref)
	for _, s := range c.sources(t) {
		if f, ok := field(s.path); ok && f.Key != "" {
			c.compare(t.Location, f, false, Read, ast.NullTerm())
		}
	}
	return false
}

func (c *comparisons) keyed(ref ast.Ref) (holds condition) {
	if !ref.HasPrefix(prefix) || len(ref) > maxPath {
		return nil
	}
	for i := 1; i < len(ref); i++ {
		for _, s := range c.sources(ref[i]) {
			f, ok := field(s.path)
			if !ok {
				continue
			}
			keys := c.ruleKeys(ref[:i])
			for _, key := range keys[:min(len(keys), max(0, c.left))] {
				c.compare(key.Location, f, s.derived, "equal", key)
			}
			if len(keys) > 0 && len(holds) == 0 {
				holds = condition{{f, keys[0].Value}}
			}
		}
	}
	return holds
}

func (c *comparisons) compare(location *ast.Location, f Field, derived bool, operator string, value *ast.Term) {
	if c.left--; c.left < 0 || len(c.found) >= maxComparisons {
		return
	}
	switch {
	case derived:
		operator = Derived
	case operator == "eq":
		operator = "equal"
	}
	found := Comparison{Position: positionOf(cmp.Or(value.Location, location)), Field: f, Operator: operator}
	switch v := value.Value.(type) {
	case ast.String:
		found.Literal = string(v)
	case ast.Number:
		found.Literal = json.Number(v)
		if n, ok := v.Int64(); ok {
			found.Literal = n
		}
	case ast.Boolean:
		found.Literal = bool(v)
	}
	c.found = append(c.found, found)
}

// satisfying returns a value for which a comparison with a literal is true; nil if there is no simple one.
func satisfying(operator string, literal ast.Value) ast.Value {
	switch v := literal.(type) {
	case ast.Number:
		n, ok := v.Int64()
		if !ok {
			return nil
		}
		switch operator {
		case "gt", "neq":
			n++
		case "lt":
			n--
		}
		return ast.NumberTerm(number(n)).Value
	case ast.String:
		switch operator {
		case "glob.match":
			return ast.String(strings.NewReplacer("**", "x", "*", "x", "?", "x").Replace(string(v)))
		case "neq":
			return ast.String("other")
		}
		return v
	}
	return nil
}
