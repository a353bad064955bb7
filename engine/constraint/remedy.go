package constraint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/kcp-placement/placement/engine/capacity"
)

// remedy describes what would make a part of the expression true, or false.
func (w *explanation) remedy(e ast.Expr, want bool) string {
	switch {
	case isCall(e, operators.LogicalNot):
		return w.remedy(e.AsCall().Args()[0], !want)
	case isCall(e, operators.LogicalOr, operators.LogicalAnd):
		return w.remedies(e, want)
	case isCall(e, operators.In):
		return w.membership(e, want)
	case e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly():
		if subject, ok := chainOf(e.AsSelect().Operand()); ok && subject.isLabels() {
			return labelled(e.AsSelect().FieldName(), want)
		}
	case e.Kind() == ast.ComprehensionKind:
		if change := w.existence(e, want); change != "" {
			return change
		}
	case e.Kind() == ast.CallKind && len(e.AsCall().Args()) == 2 && !e.AsCall().IsMemberFunction():
		if change := w.comparison(e.AsCall(), want); change != "" {
			return change
		}
	}
	if want {
		return w.text(e)
	}
	return "not " + w.text(e)
}

// remedies describes the operands of && or || that have to change: all of them, or any.
func (w *explanation) remedies(e ast.Expr, want bool) string {
	joint := " and "
	if isCall(e, operators.LogicalOr) == want {
		joint = " or "
	}
	var parts []string
	for _, side := range e.AsCall().Args() {
		if w.value(side) != types.Bool(want) {
			parts = append(parts, w.remedy(side, want))
		}
	}
	return strings.Join(parts, joint)
}

// existence describes what makes a macro such as cluster.capabilities.exists(c, ...) hold.
func (w *explanation) existence(e ast.Expr, want bool) string {
	macro, ok := w.ast.SourceInfo().GetMacroCall(e.ID())
	if !ok || !isCall(macro, operators.Exists) || len(macro.AsCall().Args()) != 2 {
		return ""
	}
	of, ok := chainOf(macro.AsCall().Target())
	if !ok || of.root != "cluster" || len(of.steps) != 1 {
		return ""
	}
	one := map[string]string{"capabilities": "capability", "taints": "taint", "conditions": "condition", "labels": "label"}[of.steps[0].key]
	if one == "" {
		return ""
	}
	return map[bool]string{true: "a ", false: "no "}[want] + one + " where " + w.text(macro.AsCall().Args()[1])
}

// membership describes what makes "key" in cluster.labels, or cluster.location in [...], hold.
func (w *explanation) membership(e ast.Expr, want bool) string {
	element, container := e.AsCall().Args()[0], e.AsCall().Args()[1]
	if of, ok := chainOf(container); ok && of.isLabels() {
		if key, ok := w.value(element).(types.String); ok {
			return labelled(string(key), want)
		}
	}
	if subject, ok := subjectOf(element); ok {
		list, listed := w.value(container).(traits.Lister)
		if name, ok := subject.noun(); ok && listed {
			var values []string
			for it := list.Iterator(); it.HasNext() == types.True; {
				values = append(values, plain(it.Next()))
			}
			return map[bool]string{true: name + " one of ", false: name + " none of "}[want] + strings.Join(values, ", ")
		}
	}
	if want {
		return w.text(e)
	}
	return "not " + w.text(e)
}

// negated and mirrored map operators to those of the opposite comparison, and of that with its sides swapped.
var (
	negated = map[string]string{
		operators.Equals: operators.NotEquals, operators.NotEquals: operators.Equals,
		operators.Less: operators.GreaterEquals, operators.GreaterEquals: operators.Less,
		operators.Greater: operators.LessEquals, operators.LessEquals: operators.Greater,
	}
	mirrored = map[string]string{
		operators.Equals: operators.Equals, operators.NotEquals: operators.NotEquals,
		operators.Less: operators.Greater, operators.Greater: operators.Less,
		operators.LessEquals: operators.GreaterEquals, operators.GreaterEquals: operators.LessEquals,
	}
	words = map[string]string{
		operators.Less: "below", operators.LessEquals: "at most", operators.Greater: "above", operators.GreaterEquals: "at least",
	}
)

// comparison describes what makes a comparison of a cluster's field with a value hold; empty for any other comparison.
func (w *explanation) comparison(call ast.CallExpr, want bool) string {
	operator := call.FunctionName()
	if negated[operator] == "" {
		return ""
	}
	left, right := call.Args()[0], call.Args()[1]
	subject, ok := subjectOf(left)
	if !ok {
		subject, ok = subjectOf(right)
		left, right, operator = right, left, mirrored[operator]
	}
	if !ok {
		return ""
	}
	if !want {
		operator = negated[operator]
	}
	value := w.value(right)
	if value == nil || types.IsUnknownOrError(value) {
		return ""
	}
	if subject.root == "capacity" && len(subject.steps) == 2 {
		return w.amount(subject, operator, left, value)
	}
	name, ok := subject.noun()
	if !ok {
		return ""
	}
	label := strings.HasPrefix(name, "label ")
	switch {
	case operator == operators.Equals && label:
		return name + "=" + plain(value)
	case operator == operators.Equals:
		return name + " " + plain(value)
	case operator == operators.NotEquals:
		return name + " other than " + plain(value)
	default:
		return name + " " + words[operator] + " " + plain(value)
	}
}

// amount describes by how much a resource has to grow or shrink.
func (w *explanation) amount(subject path, operator string, left ast.Expr, value ref.Val) string {
	wanted, ok := value.(types.Int)
	if !ok || words[operator] == "" {
		return ""
	}
	field, resource := subject.steps[0].key, subject.steps[1].key
	if field == "utilization" {
		return fmt.Sprintf("%s utilization %s %d%%", resource, words[operator], wanted)
	}
	is, _ := w.value(left).(types.Int) // 0 where there is none
	switch operator {
	case operators.Greater:
		wanted++
	case operators.Less:
		wanted--
	}
	difference, more := int64(wanted-is), "more"
	if difference < 0 {
		difference, more = -difference, "less"
	}
	return fmt.Sprintf("%s %s %s %s", capacity.Rounded(resource, difference, true), more, resource, field)
}

// subjectOf returns the field of the cluster that a comparison is about: a path, or a path with a default.
func subjectOf(e ast.Expr) (path, bool) {
	key, optional := "", withDefault(e)
	if optional {
		call := e.AsCall().Target().AsCall()
		if key, optional = literal(call.Args()[1]); !optional {
			return path{}, false
		}
		e = call.Args()[0]
	}
	chain, ok := chainOf(e)
	if optional {
		chain.steps = append(slices.Clone(chain.steps), step{key: key})
	}
	return chain, ok && len(chain.steps) > 0 && (chain.root == "cluster" || chain.root == "capacity")
}

// noun names the field of a cluster in words.
func (p *path) noun() (string, bool) {
	switch {
	case p.isLabels():
		return "", false
	case p.root == "cluster" && len(p.steps) == 2 && p.steps[0].key == "labels":
		return "label " + p.steps[1].key, true
	case p.root == "cluster" && len(p.steps) == 1 && (p.steps[0].key == "location" || p.steps[0].key == "name"):
		return p.steps[0].key, true
	case p.root == "capacity" && len(p.steps) == 1:
		return p.steps[0].key, true
	}
	return "", false
}

func (p *path) isLabels() bool {
	return p.root == "cluster" && len(p.steps) == 1 && p.steps[0].key == "labels"
}

func labelled(key string, want bool) string {
	if want {
		return "label " + key
	}
	return "no label " + key
}

// plain writes a value as in a label.
func plain(value ref.Val) string {
	if s, ok := value.(types.String); ok && s != "" {
		return string(s)
	}
	return shorten(value)
}

func isCall(e ast.Expr, functions ...string) bool {
	return e.Kind() == ast.CallKind && slices.Contains(functions, e.AsCall().FunctionName())
}
