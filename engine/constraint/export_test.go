package constraint

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/parser"

	"github.com/kcp-placement/placement/engine/snapshot"
)

// Limits that docs/cel.md states.
const (
	MaxEntries      = maxEntries
	MaxItems        = maxItems
	MaxPatternSteps = maxPatternSteps
)

// unwritten are functions that macros, planning and older versions of CEL use: nobody writes them.
var unwritten = []string{"@not_strictly_false", "__not_strictly_false__", "cel.@mapInsert", "_in_", "in", inOrderName}

// Vocabulary lists what an expression can name: fields as tmc.Cluster.name, functions and operators, and macros with
// the number of their arguments, as exists/2.
func (c *Compiler) Vocabulary() (names []string) {
	for _, o := range c.env.CELTypeProvider().(*provider).objects {
		for _, field := range o.names {
			names = append(names, o.typ.TypeName()+"."+field)
		}
	}
	for name := range maps.Keys(c.env.Functions()) {
		if !slices.Contains(unwritten, name) {
			names = append(names, name)
		}
	}
	for _, macro := range c.env.Macros() {
		names = append(names, macroName(macro.Function(), macro.ArgCount()))
	}
	slices.Sort(names)
	return names
}

func macroName(function string, args int) string { return function + "/" + strconv.Itoa(args) }

// Uses lists what of the vocabulary an expression that compiles names.
func (c *Compiler) Uses(expression string) (names []string) {
	checked, issues := c.env.Compile(expression)
	if issues.Err() != nil {
		return nil
	}
	typed := checked.NativeRep()
	ast.PreOrderVisit(typed.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.SelectKind {
			names = append(names, typed.GetType(e.AsSelect().Operand().ID()).TypeName()+"."+e.AsSelect().FieldName())
		}
	}))
	// Functions are those that are written, not those that macros become: without macros these are calls themselves.
	plain, err := parser.NewParser(parser.EnableOptionalSyntax(true))
	if err != nil {
		return nil
	}
	parsed, errs := plain.Parse(common.NewTextSource(expression))
	if len(errs.GetErrors()) > 0 {
		return nil
	}
	ast.PreOrderVisit(parsed.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		names = append(names, call.FunctionName(), macroName(call.FunctionName(), len(call.Args())))
		if call.IsMemberFunction() && call.Target().Kind() == ast.IdentKind { // sets.contains
			names = append(names, call.Target().AsIdent()+"."+call.FunctionName())
		}
	}))
	return names
}

// Rests are what is left of the conjuncts of an expression for CEL, as CEL writes it.
func (c *Compiler) Rests(expression string) (rests []string, err error) {
	program, err := c.Compile(expression)
	if err != nil {
		return nil, err
	}
	for _, part := range joinedBy(operators.LogicalAnd, program.ast.Expr()) {
		a := newAbstraction(program, part)
		outcomes := map[int64]ast.Expr{}
		visit := func(e ast.Expr, f func(ast.Expr)) { ast.PreOrderVisit(e, ast.NewExprVisitor(f)) }
		visit(a.rest, func(e ast.Expr) {
			if isOutcome(e) {
				outcomes[e.ID()] = e
			}
		})
		// Macros are written as they were called: there, too, the names have to take the place of comparisons.
		info := ast.CopySourceInfo(program.ast.SourceInfo())
		for id, call := range info.MacroCalls() {
			if outcomes[id] != nil { // has(capacity.free.cpu)
				info.ClearMacroCall(id)
				continue
			}
			visit(call, func(e ast.Expr) {
				if outcome := outcomes[e.ID()]; outcome != nil {
					e.SetKindCase(outcome)
				}
			})
		}
		rest, err := cel.ExprToString(a.rest, info)
		if err != nil {
			return nil, err
		}
		rests = append(rests, strings.Join(strings.Fields(rest), " "))
	}
	return rests, nil
}

// Of returns the number of a cluster.
func (l Resource) Of(row *snapshot.Row) int64 {
	if l == FreeCPU {
		return row.Free.CPU
	}
	return row.Free.Memory
}
