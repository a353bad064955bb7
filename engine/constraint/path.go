package constraint

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// path is a chain of fields and literal keys from a variable, as in cluster.labels["tier"].
type path struct {
	text  string
	root  string
	steps []step
}

type step struct {
	object *object // of which this is a field; nil for a key
	key    string
}

// Limits of explanations: observations of one evaluation, and characters of each value.
const (
	maxObservations = 16
	maxValue        = 64
)

// observe returns the values at the paths, in the order in which the expression has them.
func observe(paths []path, v *Variables) []Observation {
	observed := make([]Observation, len(paths))
	for i, path := range paths {
		observed[i] = Observation{Path: path.text, Value: path.read(v)}
	}
	return observed
}

func (p *path) read(v *Variables) string {
	value, found := p.value(v)
	if !found {
		return "absent"
	}
	return shorten(value)
}

// value returns the value at the path; found is false if there is none.
func (p *path) value(v *Variables) (current any, found bool) {
	current, _ = v.ResolveName(p.root)
	for _, s := range p.steps {
		if s.object != nil {
			field, err := s.object.fields[s.key].GetFrom(current)
			if err != nil {
				return nil, false
			}
			current = field
			continue
		}
		found := false
		switch m := current.(type) {
		case map[string]string:
			current, found = m[s.key]
		case *resourceMap:
			current, found = m.Find(types.String(s.key))
		}
		if !found {
			return nil, false
		}
	}
	return current, true
}

func shorten(value any) string {
	var text string
	switch v := value.(type) {
	case string:
		text = strconv.Quote(v)
	case types.String:
		text = strconv.Quote(string(v))
	case map[string]string:
		text = fmt.Sprintf("%d entries", len(v))
	case *resourceMap:
		text = fmt.Sprint(v.asMap())
	case ref.Val:
		if l, ok := v.(interface{ Size() ref.Val }); ok {
			text = fmt.Sprintf("%v entries", l.Size().Value())
		} else {
			text = fmt.Sprint(v.Value())
		}
	default:
		text = fmt.Sprint(v)
	}
	if runes := []rune(text); len(runes) > maxValue {
		text = string(runes[:maxValue]) + "..."
	}
	return text
}

// pathsOf collects the longest paths of an expression.
func pathsOf(e ast.Expr, paths []path) []path {
	chain, ok := chainOf(e)
	if !ok {
		chain, ok = keyOf(e)
	}
	if ok {
		known := slices.ContainsFunc(paths, func(p path) bool { return p.text == chain.text })
		if len(chain.steps) > 0 && !known && len(paths) < maxObservations {
			paths = append(paths, chain)
		}
		return paths
	}
	switch e.Kind() {
	case ast.SelectKind:
		paths = pathsOf(e.AsSelect().Operand(), paths)
	case ast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			paths = pathsOf(call.Target(), paths)
		}
		for _, arg := range call.Args() {
			paths = pathsOf(arg, paths)
		}
	case ast.ComprehensionKind:
		paths = pathsOf(e.AsComprehension().IterRange(), paths)
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			paths = pathsOf(element, paths)
		}
	}
	return paths
}

var variables = map[string]*object{
	"cluster": clusterType, "capacity": capacityType, "workload": workloadType, "placement": placementType,
}

// keyOf reads "b" in a, a.?b and a[?"b"] as the path a["b"]: this key alone may be known of a workload.
func keyOf(e ast.Expr) (chain path, ok bool) {
	operand, key, ok := lookupAt(e)
	if !ok {
		return path{}, false
	}
	if chain, ok = chainOf(operand); !ok || len(chain.steps) == 0 {
		return path{}, false
	}
	chain.steps = append(slices.Clone(chain.steps), step{key: key})
	chain.text += "[" + strconv.Quote(key) + "]"
	return chain, true
}

// chainOf reads an expression as a path; ok is false if it is anything else.
func chainOf(e ast.Expr) (chain path, ok bool) {
	var key string
	var operand ast.Expr
	switch e.Kind() {
	case ast.IdentKind:
		name := e.AsIdent()
		_, ok := variables[name]
		return path{text: name, root: name}, ok
	case ast.SelectKind:
		key, operand = e.AsSelect().FieldName(), e.AsSelect().Operand()
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != operators.Index || call.Args()[1].Kind() != ast.LiteralKind {
			return path{}, false
		}
		literal, isString := call.Args()[1].AsLiteral().Value().(string)
		if !isString {
			return path{}, false
		}
		key, operand = literal, call.Args()[0]
	default:
		return path{}, false
	}
	chain, ok = chainOf(operand)
	if !ok {
		return path{}, false
	}
	next := step{key: key}
	if len(chain.steps) == 0 {
		// Only variables are objects; their fields are maps or values.
		next.object = variables[chain.root]
		if next.object.fields[key] == nil {
			return path{}, false
		}
	}
	chain.steps = append(slices.Clone(chain.steps), next)
	if e.Kind() == ast.SelectKind {
		chain.text += "." + key
	} else {
		chain.text += "[" + strconv.Quote(key) + "]"
	}
	return chain, true
}
