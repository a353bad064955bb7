package constraint

import (
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"github.com/kcp-placement/placement/engine/workload"
)

// Reads is what an expression reads.
type Reads struct {
	Cluster, Capacity, Placement bool
	// Workload is what it reads of the workload.
	Workload workload.Reads
}

// readsOf returns what an expression or a part of one reads. A macro's variable with the name of one of ours counts
// as ours, which errs on the safe side.
func readsOf(e ast.Expr) (reads Reads) {
	walkUses(e, func(u use) {
		switch u.variable {
		case "cluster":
			reads.Cluster = true
		case "capacity":
			reads.Capacity = true
		case "placement":
			reads.Placement = true
		case "workload":
			reads.Workload = reads.Workload.Union(u.workload())
		}
	})
	return reads
}

// lasting reports whether an expression reads only lasting properties of clusters, workloads and placements.
func (p *Program) lasting(e ast.Expr) bool {
	lasts := true
	walkUses(e, func(u use) {
		switch u.variable {
		case "capacity":
			lasts = false
		case "cluster":
			lasts = lasts && u.field != "" && u.field != "taints" && u.field != "conditions"
		case "workload":
			lasts = lasts && u.field != "" && u.field != "replicas" && u.field != "requests"
		}
	})
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.SelectKind && e.AsSelect().FieldName() == "available" {
			lasts = false
		}
	}))
	return lasts
}

// checksFor returns the size checks of exactly the fields that an expression reads: a field that it does not read
// must not keep it from being evaluated. A single amount has no size.
func checksFor(e ast.Expr) (needed []check) {
	used := map[string]bool{}
	walkUses(e, func(u use) {
		if !u.isAmount() {
			used[u.variable+"."+u.field] = true
		}
	})
	keys := readsOf(e).Workload
	for _, b := range sizeChecks {
		variable, _, _ := strings.Cut(b.field, ".")
		switch {
		case !used[b.field] && !used[variable+"."]:
			continue
		case b.field == "workload.labels" && len(keys.Labels) > 0:
			b.check = func(f string, v *Variables) error { return shortAt(f, v.Workload.Labels, keys.Labels, maxLabel) }
		case b.field == "workload.annotations" && len(keys.Annotations) > 0:
			b.check = func(f string, v *Variables) error {
				return shortAt(f, v.Workload.Annotations, keys.Annotations, maxText)
			}
		}
		needed = append(needed, b)
	}
	return needed
}

// shortAt limits the length of the values of some keys.
func shortAt(field string, m map[string]string, keys []string, most int) error {
	for _, key := range keys {
		if err := short(field, m[key], most); err != nil {
			return err
		}
	}
	return nil
}

// use is one occurrence of a variable.
type use struct {
	variable string
	// field that is read; empty if the variable is used as a whole.
	field string
	// key of the field, if isKey.
	key   string
	isKey bool
}

// isAmount reports whether one amount of a resource is read, as in capacity.free.cpu.
func (u use) isAmount() bool {
	o := variables[u.variable]
	if o == nil || !u.isKey {
		return false
	}
	field := o.fields[u.field]
	return field != nil && field.Type == intMap
}

// workload returns what a use of the variable workload reads.
func (u use) workload() workload.Reads {
	if u.isKey {
		return workload.ReadsOfKey(u.field, u.key)
	}
	return workload.ReadsOf(u.field)
}

// walkUses visits all uses of variables, including those of macros.
func walkUses(e ast.Expr, visit func(use)) {
	if u, ok := useAt(e); ok {
		visit(u)
		return
	}
	for _, part := range partsOf(e) {
		walkUses(part, visit)
	}
}

// partsOf returns the direct subexpressions.
func partsOf(e ast.Expr) (parts []ast.Expr) {
	switch e.Kind() {
	case ast.SelectKind:
		parts = append(parts, e.AsSelect().Operand())
	case ast.CallKind:
		if call := e.AsCall(); call.IsMemberFunction() {
			parts = append(parts, call.Target())
		}
		parts = append(parts, e.AsCall().Args()...)
	case ast.ListKind:
		parts = e.AsList().Elements()
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			parts = append(parts, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		for _, field := range e.AsStruct().Fields() {
			parts = append(parts, field.AsStructField().Value())
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		parts = append(parts, c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result())
	}
	return parts
}

// useAt recognizes a variable, a field of it, and a key of that field.
func useAt(e ast.Expr) (u use, ok bool) {
	if e.Kind() == ast.IdentKind {
		// A leading dot names the variable even where a macro shadows it.
		return use{variable: strings.TrimPrefix(e.AsIdent(), ".")}, true
	}
	operand, key, ok := lookupAt(e)
	if !ok {
		return use{}, false
	}
	u, ok = useAt(operand)
	switch {
	case !ok || u.isKey:
		return use{}, false
	case u.field == "":
		u.field = key
	default:
		u.key, u.isKey = key, true
	}
	return u, true
}

// lookupAt recognizes the look-up of a literal key b in an operand a: a.b, has(a.b), a["b"], "b" in a, a.?b and a[?"b"].
func lookupAt(e ast.Expr) (operand ast.Expr, key string, ok bool) {
	switch e.Kind() {
	case ast.SelectKind:
		return e.AsSelect().Operand(), e.AsSelect().FieldName(), true
	case ast.CallKind:
		args := e.AsCall().Args()
		switch e.AsCall().FunctionName() {
		case operators.Index, operators.OptIndex, operators.OptSelect:
			key, ok = literal(args[1])
			return args[0], key, ok
		case operators.In:
			key, ok = literal(args[0])
			return args[1], key, ok
		}
	}
	return nil, "", false
}
