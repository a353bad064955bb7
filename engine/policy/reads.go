package policy

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/kcp-placement/placement/engine/workload"
)

// readsOf returns what compiled modules can read of the workload. Any use other than of one field, or one key of a field,
// counts as reading all of it, as when the workload is passed to a function.
func readsOf(modules map[string]*ast.Module) workload.Reads {
	r := &readsAnalysis{texts: textsGiven(modules)}
	for _, module := range modules {
		for _, rule := range module.Rules {
			r.rule(rule)
		}
	}
	return r.reads
}

// readsAnalysis collects what rules read.
type readsAnalysis struct {
	reads workload.Reads
	// texts are the literal arguments of functions, see textsGiven.
	texts map[argument][]string

	// Of the current rule: variables that are aliases of a document, and those that are arguments of a function.
	aliases   map[ast.Var]ast.Ref
	arguments map[ast.Var]argument
}

// argument is one of a function's.
type argument struct {
	function string
	index    int
}

// textsGiven collects the values of each function argument that is a literal string in all calls, so that a key passed to a
// function counts as one written in place. Functions are not values in Rego, so their names identify all calls.
func textsGiven(modules map[string]*ast.Module) map[argument][]string {
	given := map[argument][]string{}
	computed := map[argument]bool{}
	call := func(terms []*ast.Term) {
		for i, operand := range terms[1:] {
			a := argument{terms[0].String(), i}
			if text, ok := operand.Value.(ast.String); ok {
				given[a] = append(given[a], string(text))
			} else {
				computed[a] = true
			}
		}
	}
	for _, module := range modules {
		ast.NewGenericVisitor(func(x any) bool {
			switch x := x.(type) {
			case *ast.Expr:
				if terms, ok := x.Terms.([]*ast.Term); ok {
					call(terms)
				}
			case ast.Call:
				call(x)
			}
			return false
		}).Walk(module)
	}
	maps.DeleteFunc(given, func(a argument, _ []string) bool { return computed[a] })
	return given
}

func (r *readsAnalysis) rule(rule *ast.Rule) {
	r.aliases, r.arguments = map[ast.Var]ast.Ref{}, map[ast.Var]argument{}
	ambiguous := map[ast.Var]bool{}
	ast.WalkExprs(rule, func(expr *ast.Expr) bool {
		if variable, document, ok := aliasOf(expr); ok {
			ambiguous[variable] = r.aliases[variable] != nil
			r.aliases[variable] = document
		}
		return false
	})
	maps.DeleteFunc(r.aliases, func(variable ast.Var, _ ast.Ref) bool { return ambiguous[variable] })
	for part := rule; part != nil; part = part.Else {
		for i, arg := range part.Head.Args {
			if variable, ok := arg.Value.(ast.Var); ok {
				r.arguments[variable] = argument{rule.Ref().String(), i}
			}
		}
		r.walk(part.Head.Reference) // OPA's visitors skip it
	}
	r.walk(rule)
}

// aliasOf recognizes an alias of a document, as in labels := input.workload.labels.
func aliasOf(expr *ast.Expr) (variable ast.Var, document ast.Ref, ok bool) {
	if !expr.IsEquality() {
		return "", nil, false
	}
	variable, isVar := expr.Operand(0).Value.(ast.Var)
	document, isRef := expr.Operand(1).Value.(ast.Ref)
	ok = isVar && isRef && !slices.ContainsFunc(document[1:], func(t *ast.Term) bool {
		_, isString := t.Value.(ast.String)
		return !isString
	})
	return variable, document, ok
}

func (r *readsAnalysis) walk(x any) {
	ast.NewGenericVisitor(func(x any) (done bool) {
		switch x := x.(type) {
		case *ast.With: // the whole input is copied, and charged for by its size
			r.document(ast.InputRootRef)
		case *ast.Expr:
			return r.expr(x)
		case ast.Ref:
			r.ref(x)
			return true
		case ast.Var:
			r.ref(ast.Ref{ast.NewTerm(x)})
		}
		return false
	}).Walk(x)
}

// expr reports whether it has handled all of an expression.
func (r *readsAnalysis) expr(expr *ast.Expr) (done bool) {
	if len(expr.With) > 0 {
		return false
	}
	if variable, document, ok := aliasOf(expr); ok && r.aliases[variable] != nil {
		// The input and its fields are always defined: only uses of the alias read anything.
		document, ok := r.resolve(document)
		return ok && len(document) <= len(ast.Ref{ast.InputRootDocument, ast.StringTerm("workload"), ast.StringTerm("labels")})
	}
	if expr.IsCall() && expr.Operator().Equal(ast.ObjectGet.Ref()) {
		object, key := expr.Operand(0), expr.Operand(1)
		var ref ast.Ref
		switch v := object.Value.(type) {
		case ast.Var:
			ref = ast.Ref{object, key}
		case ast.Ref:
			ref = v.Append(key)
		default:
			return false
		}
		r.ref(ref)
		for _, operand := range expr.Operands()[2:] {
			r.walk(operand)
		}
		return true
	}
	return false
}

// ref adds what a reference reads.
func (r *readsAnalysis) ref(ref ast.Ref) {
	if len(ref) == 0 {
		return
	}
	if _, ok := ref[0].Value.(ast.Var); !ok {
		r.walk(ref[0])
	}
	for _, element := range ref[1:] {
		r.walk(element)
	}
	if document, ok := r.resolve(ref); ok {
		r.document(document)
	}
}

// resolve replaces aliases in a reference; ok is false if it does not refer to the input.
func (r *readsAnalysis) resolve(ref ast.Ref) (document ast.Ref, ok bool) {
	for range 1 + len(r.aliases) {
		if ref[0].Equal(ast.InputRootDocument) {
			return ref, true
		}
		variable, _ := ref[0].Value.(ast.Var)
		named, found := r.aliases[variable]
		if !found {
			return nil, false
		}
		ref = named.Concat(ref[1:])
	}
	return ast.InputRootRef, true // aliases of each other
}

// document adds what a reference such as input.workload.labels reads.
func (r *readsAnalysis) document(ref ast.Ref) {
	reads := workload.Reads{Fields: workload.AllFields}
	switch {
	case is(ref, 1, "workspace"), is(ref, 1, "placement"):
		return
	case is(ref, 1, "workload") && len(ref) > 2:
		if field, ok := ref[2].Value.(ast.String); ok {
			reads = r.field(string(field), ref[3:])
		}
	}
	r.reads = r.reads.Union(reads)
}

func is(ref ast.Ref, i int, name ast.String) bool {
	return i < len(ref) && ref[i].Value.Compare(name) == 0
}

// field returns what is read of a field of the workload, given a path within it.
func (r *readsAnalysis) field(name string, path ast.Ref) (reads workload.Reads) {
	if len(path) == 0 {
		return workload.ReadsOf(name)
	}
	switch key := path[0].Value.(type) {
	case ast.String:
		return workload.ReadsOfKey(name, string(key))
	case ast.Var:
		if argument, ok := r.arguments[key]; ok && len(r.texts[argument]) > 0 {
			for _, text := range r.texts[argument] {
				reads = reads.Union(workload.ReadsOfKey(name, text))
			}
			return reads
		}
	}
	return workload.ReadsOf(name)
}
