package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// MaxTypeSize limits the type sizes of a workspace's rules together.
const MaxTypeSize = 100_000

// typeSizes bounds the number of parts of the types of rules. The type checker compares types in full and cannot be
// interrupted: if each rule nests the previous one twice, it never ends. Such rules are refused before the check.
type typeSizes struct {
	compiler *ast.Compiler
	known    map[*ast.Rule]int
	total    int
}

// checkTypeSize is a compiler stage. It requires that no rule is recursive.
func checkTypeSize(compiler *ast.Compiler) *ast.Error {
	e := &typeSizes{compiler: compiler, known: map[*ast.Rule]int{}}
	for _, module := range compiler.Modules {
		for _, rule := range module.Rules {
			e.rule(rule)
			if e.total > MaxTypeSize {
				return ast.NewError(codeLimit, rule.Location, "the rules nest what other rules make to more than %d parts in all", MaxTypeSize)
			}
		}
	}
	return nil
}

func (e *typeSizes) rule(rule *ast.Rule) int {
	if size, found := e.known[rule]; found {
		return size
	}
	size := 0
	for r := rule; r != nil && e.total <= MaxTypeSize; r = r.Else {
		vars := map[ast.Var]int{}
		e.body(r.Body, vars)
		for _, t := range []*ast.Term{r.Head.Key, r.Head.Value} {
			if t != nil {
				size += e.term(t, vars)
			}
		}
	}
	e.known[rule] = size
	e.total += size
	return size
}

// body adds the type sizes of a body, and records those of its variables.
func (e *typeSizes) body(body ast.Body, vars map[ast.Var]int) {
	for _, expr := range body {
		if e.total > MaxTypeSize {
			return
		}
		switch terms := expr.Terms.(type) {
		case *ast.Term:
			e.total += e.term(terms, vars)
		case *ast.Every:
			domain := e.term(terms.Domain, vars)
			e.total += domain
			e.bind(terms.Value, domain, vars)
			e.body(terms.Body, vars)
		case *ast.Not:
			e.body(terms.Body, vars)
		case []*ast.Term:
			sizes := make([]int, len(terms))
			for i, t := range terms {
				sizes[i] = e.term(t, vars)
				e.total += sizes[i]
			}
			if expr.IsEquality() {
				e.bind(terms[1], sizes[2], vars)
				e.bind(terms[2], sizes[1], vars)
			} else {
				e.bind(terms[len(terms)-1], sizes[0], vars) // the result of the function
			}
		}
	}
}

// bind records the type size of the variables in a term.
func (e *typeSizes) bind(t *ast.Term, size int, vars map[ast.Var]int) {
	switch v := t.Value.(type) {
	case ast.Var:
		vars[v] = max(vars[v], size)
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { e.bind(t, size, vars) })
	case ast.Object:
		v.Foreach(func(_, t *ast.Term) { e.bind(t, size, vars) })
	case ast.Ref:
		for _, t := range v[1:] {
			e.bind(t, size, vars)
		}
	}
}

// term returns the size of a term's type.
func (e *typeSizes) term(t *ast.Term, vars map[ast.Var]int) int {
	sum := 1
	add := func(t *ast.Term) { sum = min(sum+e.term(t, vars), MaxTypeSize+1) }
	switch v := t.Value.(type) {
	case ast.Var:
		sum = max(sum, vars[v])
	case ast.Ref:
		if !v[0].Equal(ast.DefaultRootDocument) {
			return e.term(v[0], vars)
		}
		sum = 0
		for _, rule := range e.compiler.GetRulesDynamicWithOpts(v, ast.RulesOptions{}) {
			sum = min(sum+e.rule(rule), MaxTypeSize+1)
		}
		sum = max(sum, 1)
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) { add(key); add(value) })
	case *ast.ArrayComprehension:
		e.body(v.Body, vars)
		add(v.Term)
	case *ast.SetComprehension:
		e.body(v.Body, vars)
		add(v.Term)
	case *ast.ObjectComprehension:
		e.body(v.Body, vars)
		add(v.Key)
		add(v.Value)
	}
	return sum
}
