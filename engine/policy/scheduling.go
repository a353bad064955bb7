package policy

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"k8s.io/apimachinery/pkg/util/json"
	apifield "k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/internal/decode"
)

// affinityField is the field of scheduling that relates workloads to others.
const affinityField = "workloadAffinity"

// decodeScheduling reads the scheduling of policies, which has the form of a placement's spec; nil if it is empty. The error is a *fieldError
// if it is known which part is wrong.
func decodeScheduling(t *ast.Term) (*placement.Scheduling, error) {
	if object, ok := t.Value.(ast.Object); !ok {
		return nil, fmt.Errorf("it must be an object with fields of a placement's spec, and is %s", short(t))
	} else if object.Len() == 0 {
		return nil, nil
	}
	value, err := plain(t.Value)
	if err != nil {
		return nil, err
	}
	if unknown := decode.Unknown[placement.SchedulingSpec](value); len(unknown) > 0 {
		return nil, &fieldError{t, unknown[0].Field, unknown[0]}
	}
	spec, problems := decode.To[placement.SchedulingSpec](value)
	if len(problems) > 0 {
		return nil, &fieldError{t, problems[0].Field, problems[0]}
	}
	s, err := placement.CompileScheduling(&spec)
	if wrong := (*apifield.Error)(nil); errors.As(err, &wrong) {
		return nil, &fieldError{t, wrong.Field, err}
	}
	return s, err
}

// fieldError is an error in a field of the scheduling of policies.
type fieldError struct {
	of    *ast.Term
	field string
	err   error
}

func (e *fieldError) Error() string { return e.err.Error() }

// schedulingAt returns the location of the rule that made a field of the scheduling.
func (s *Set) schedulingAt(of *ast.Term, name string) *ast.Location {
	if part := partOf(of, name); part != nil {
		if rule := s.ruleAt(part.Location); rule != nil {
			return rule
		}
	}
	if end := strings.IndexAny(name, ".["); end > 0 {
		name = name[:end]
	}
	rules := s.compiler.GetRulesWithPrefix(ast.MustParseRef(schedulingPath).Append(ast.StringTerm(name)))
	return cmp.Or(firstOf(rules), s.firstRule(schedulingPath))
}

// partOf returns the innermost part of a value on the way to a field that has a location; nil if none has.
func partOf(t *ast.Term, path string) (part *ast.Term) {
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		var next *ast.Term
		switch v := t.Value.(type) {
		case ast.Object:
			next = v.Get(ast.StringTerm(step))
		case *ast.Array:
			next = element(step, v.Len(), v.Elem)
		case ast.Set:
			next = element(step, v.Len(), func(i int) *ast.Term { return v.Slice()[i] })
		}
		if next == nil {
			return part
		}
		if t = next; t.Location != nil {
			part = t
		}
	}
	return part
}

func element(step string, n int, at func(int) *ast.Term) *ast.Term {
	if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < n {
		return at(i)
	}
	return nil
}

// plain converts a value of Rego to JSON. A set becomes a list, in the order of Rego.
func plain(v ast.Value) (value any, err error) {
	of, err := ast.JSONWithOpt(v, ast.JSONOpt{SortSets: true})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(of)
	if err != nil {
		return nil, err
	}
	return value, json.Unmarshal(text, &value)
}
