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

	"github.com/kcp-placement/placement/engine/internal/remedy"
	"github.com/kcp-placement/placement/internal/int128"
)

// maxOptions is how many ways to make a part hold are considered.
const maxOptions = 8

// option is one way to make a part of the expression hold: changes that are made together.
type option = remedy.Option

// remedies returns the smallest changes that make a part of the expression true: any one of them is enough. Each has been tried.
func (w *explanation) remedies(e ast.Expr) []option {
	all := w.options(e, true)
	options := slices.DeleteFunc(slices.Clone(all), func(o option) bool { return !o.Tried() || !w.admits(e, o) })
	if len(options) == 0 {
		options = w.search(e)
	}
	if len(options) == 0 {
		options = slices.DeleteFunc(all, option.Tried)
	}
	if len(options) == 0 {
		options = one(w.words(e, true))
	}
	return options
}

// admits tries an option.
func (w *explanation) admits(e ast.Expr, o option) bool {
	changed := *w.variables
	changed.Row = remedy.Try(w.variables.Row, o)
	if within(w.checks, &changed) != nil {
		return false
	}
	_, details, _ := w.tracker.Eval(&changed)
	if details == nil || details.State() == nil {
		return false
	}
	value, _ := details.State().Value(e.ID())
	return value == types.True
}

// maxSearchedCost is the cost up to which an expression is evaluated repeatedly to find out how much has to be free.
const maxSearchedCost = 10_000

// search finds the least amount that has to be free of a resource that a part of the expression reads.
func (w *explanation) search(e ast.Expr) []option {
	if w.cost > maxSearchedCost {
		return nil
	}
	for _, p := range pathsOf(e, nil) {
		if p.root != "capacity" || len(p.steps) != 2 {
			continue
		}
		name := p.steps[1].key
		free := func(amount int64) option { return option{remedy.Free(remedy.More{Resource: name, Amount: amount})} }
		most := 8 * max(1<<30, min(1<<59, max(w.variables.Row.Allocatable.Get(name), w.variables.Workload.Requests.Get(name))))
		if !w.admits(e, free(most)) {
			continue
		}
		least := int64(1)
		for least < most && !w.admits(e, free(least)) {
			least *= 2
		}
		tooLittle := least / 2
		for least-tooLittle > 1 {
			if middle := tooLittle + (least-tooLittle)/2; w.admits(e, free(middle)) {
				least = middle
			} else {
				tooLittle = middle
			}
		}
		return []option{free(least)}
	}
	return nil
}

// options returns the ways to make a part of the expression true, or false.
func (w *explanation) options(e ast.Expr, want bool) []option {
	switch {
	case isCall(e, operators.LogicalNot):
		return w.options(e.AsCall().Args()[0], !want)
	case isCall(e, operators.LogicalOr, operators.LogicalAnd):
		return w.operands(e, want)
	case isCall(e, operators.In):
		return one(w.membership(e, want))
	case e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly():
		if subject, ok := chainOf(e.AsSelect().Operand()); ok && subject.isLabels() {
			return one(labelled(e.AsSelect().FieldName(), want))
		}
	case e.Kind() == ast.ComprehensionKind:
		if change := w.existence(e, want); change != "" {
			return one(remedy.Words(change))
		}
	case e.Kind() == ast.CallKind && len(e.AsCall().Args()) == 2 && !e.AsCall().IsMemberFunction():
		if change := w.comparison(e.AsCall(), want); change.Text != "" {
			return one(change)
		}
	}
	return one(w.words(e, want))
}

func one(c remedy.Change) []option { return []option{{c}} }

// words returns a change described only in words: a part of the expression has to be true, or false.
func (w *explanation) words(e ast.Expr, want bool) remedy.Change {
	if want {
		return remedy.Words(w.text(e))
	}
	return remedy.Words("not " + w.text(e))
}

// operands returns what has to change in the operands of && or ||: all of them, or any.
func (w *explanation) operands(e ast.Expr, want bool) (options []option) {
	all := isCall(e, operators.LogicalAnd) == want
	if all {
		options = []option{nil}
	}
	for _, side := range e.AsCall().Args() {
		if w.value(side) == types.Bool(want) {
			continue
		}
		of := w.options(side, want)
		if !all {
			options = append(options, of...)
			continue
		}
		var both []option
		for _, before := range options {
			for _, o := range of {
				both = append(both, slices.Concat(before, o))
			}
		}
		options = both[:min(len(both), maxOptions)]
	}
	return options[:min(len(options), maxOptions)]
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

// membership returns the change that makes "key" in cluster.labels, or cluster.location in [...], hold.
func (w *explanation) membership(e ast.Expr, want bool) remedy.Change {
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
			text := map[bool]string{true: name + " one of ", false: name + " none of "}[want] + strings.Join(values, ", ")
			if !want {
				return subject.other(text)
			}
			if len(values) > 0 {
				return subject.set(text, values[0])
			}
		}
	}
	return w.words(e, want)
}

// negated and mirrored map operators to those of the opposite comparison, and of the comparison with its sides swapped.
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

// comparison returns the change that makes a comparison of a cluster's field with a value hold; without text for any other comparison.
func (w *explanation) comparison(call ast.CallExpr, want bool) (none remedy.Change) {
	operator := call.FunctionName()
	if negated[operator] == "" {
		return none
	}
	left, right := call.Args()[0], call.Args()[1]
	subject, ok := subjectOf(left)
	if !ok {
		subject, ok = subjectOf(right)
		left, right, operator = right, left, mirrored[operator]
	}
	if !ok {
		return none
	}
	if !want {
		operator = negated[operator]
	}
	value := w.value(right)
	if value == nil || types.IsUnknownOrError(value) {
		return none
	}
	if subject.root == "capacity" && len(subject.steps) == 2 {
		return w.amount(subject, operator, left, value)
	}
	name, ok := subject.noun()
	if !ok {
		return none
	}
	label := strings.HasPrefix(name, "label ")
	switch {
	case operator == operators.Equals && label:
		return subject.set(name+"="+plain(value), plain(value))
	case operator == operators.Equals:
		return subject.set(name+" "+plain(value), plain(value))
	case operator == operators.NotEquals:
		return subject.other(name + " other than " + plain(value))
	default:
		return remedy.Words(name + " " + words[operator] + " " + plain(value))
	}
}

// amount returns the change by which a resource has to grow or shrink.
func (w *explanation) amount(subject path, operator string, left ast.Expr, value ref.Val) (none remedy.Change) {
	wanted, ok := value.(types.Int)
	if !ok || words[operator] == "" {
		return none
	}
	field, resource := subject.steps[0].key, subject.steps[1].key
	text := fmt.Sprintf("%s utilization %s %d%%", resource, words[operator], wanted)
	switch operator {
	case operators.Greater:
		wanted++
	case operators.Less:
		wanted--
	}
	if field == "utilization" {
		if operator == operators.Greater || operator == operators.GreaterEquals || wanted < 0 {
			return remedy.Words(text)
		}
		return remedy.FreeAs(text, remedy.More{Resource: resource, Amount: w.unused(resource, int64(wanted))})
	}
	is, _ := w.value(left).(types.Int) // 0 if there is none
	difference := int64(wanted - is)
	if field == "free" && difference > 0 {
		return remedy.Free(remedy.More{Resource: resource, Amount: difference})
	}
	return remedy.Amount(field, resource, difference)
}

// unused returns how much of the used amount of a resource has to go for a utilization of at most that percentage, which is
// truncated.
func (w *explanation) unused(resource string, percent int64) int64 {
	row := w.variables.Row
	allocatable := row.Allocatable.Get(resource)
	most, rest := int128.MulDiv(allocatable, percent+1, 100)
	if rest == 0 {
		most--
	}
	return max(0, allocatable-row.Free.Get(resource)-most)
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

func labelled(key string, want bool) remedy.Change {
	if want {
		return remedy.Label("label "+key, key, "")
	}
	return remedy.NoLabel("no label "+key, key)
}

// set gives a field of the cluster another value.
func (p *path) set(text, value string) remedy.Change {
	switch {
	case p.steps[0].key == "labels" && len(p.steps) == 2:
		return remedy.Label(text, p.steps[1].key, value)
	case p.steps[0].key == "location":
		return remedy.Location(text, value)
	default:
		return remedy.Elsewhere("another constraint, which asks for " + text)
	}
}

// other gives a field of the cluster a value that no expression names.
func (p *path) other(text string) remedy.Change { return p.set(text, "other") }

// plain formats a value as in a label.
func plain(value ref.Val) string {
	if s, ok := value.(types.String); ok && s != "" {
		return string(s)
	}
	return shorten(value)
}

func isCall(e ast.Expr, functions ...string) bool {
	return e.Kind() == ast.CallKind && slices.Contains(functions, e.AsCall().FunctionName())
}
