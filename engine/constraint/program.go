package constraint

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"

	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	evaluator cel.Program
	reads     Reads
	cost      uint64
	// explainer evaluates every part of ast, which Why takes apart.
	explainer cel.Program
	ast       *ast.AST
}

// Reads says which variables an expression looks at.
type Reads struct {
	Cluster, Capacity, Workload, Placement bool
	// WorkloadFields are those of the workload's fields that it looks at.
	WorkloadFields workload.Fields
}

// Variables are what an expression is evaluated over.
type Variables struct {
	Row       *snapshot.Row
	Workload  *workload.Workload
	Placement workload.Placement
}

// Observation is something that an expression looked at, and what was there.
type Observation struct {
	// Path as it is written in CEL, for example capacity.free.cpu.
	Path string
	// Value as CEL writes it, shortened where it is long; "absent" where there is none.
	Value string
}

func newProgram(checked *cel.Ast, cost uint64, evaluator, explainer cel.Program) *Program {
	p := &Program{evaluator: evaluator, cost: cost, explainer: explainer, ast: checked.NativeRep()}
	whole := 0 // how often the workload is named without one of its fields
	ast.PreOrderVisit(p.ast.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.SelectKind {
			if of := e.AsSelect().Operand(); of.Kind() == ast.IdentKind && of.AsIdent() == "workload" {
				p.reads.WorkloadFields |= workload.FieldNamed(e.AsSelect().FieldName())
				whole--
			}
		}
		if e.Kind() != ast.IdentKind {
			return
		}
		switch e.AsIdent() {
		case "cluster":
			p.reads.Cluster = true
		case "capacity":
			p.reads.Capacity = true
		case "workload":
			p.reads.Workload = true
			whole++
		case "placement":
			p.reads.Placement = true
		}
	}))
	if whole > 0 {
		p.reads.WorkloadFields = workload.AllFields
	}
	return p
}

// Cost is the most that one evaluation may cost in CEL's own units, estimated when the expression was compiled.
func (p *Program) Cost() uint64 { return p.cost }

// Reads says which variables the expression looks at.
func (p *Program) Reads() Reads { return p.reads }

// Eval evaluates the expression. An error says why there is no answer: it is not an answer of false.
func (p *Program) Eval(v *Variables) (holds bool, err error) {
	if err := v.within(p.reads); err != nil {
		return false, err
	}
	value, _, err := p.evaluator.Eval(v)
	if err != nil {
		return false, err
	}
	holds, ok := value.Value().(bool)
	if !ok {
		return false, fmt.Errorf("gives %v, must give a bool", value.Type())
	}
	return holds, nil
}

// ResolveName and Parent let CEL read the variables where they are.
func (v *Variables) ResolveName(name string) (any, bool) {
	switch name {
	case "cluster":
		return v.Row, true
	case "capacity":
		return (*capacityRow)(v.Row), true
	case "workload":
		return v.Workload, true
	case "placement":
		return &v.Placement, true
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (v *Variables) Parent() interpreter.Activation { return nil }

// within holds what is read to the bounds that the expression was costed for.
func (v *Variables) within(reads Reads) error {
	check := func(what string, entries, most int) error {
		if entries > most {
			return fmt.Errorf("%s has %d entries, constraints are evaluated over at most %d", what, entries, most)
		}
		return nil
	}
	var errs [8]error
	if reads.Cluster {
		errs[0] = check("cluster.labels", len(v.Row.Labels), maxEntries)
		errs[1] = check("cluster.capabilities", len(v.Row.Capabilities), maxItems)
		errs[2] = check("cluster.taints", len(v.Row.Taints), maxItems)
		errs[3] = check("cluster.conditions", len(v.Row.Conditions), maxItems)
	}
	if reads.Capacity {
		errs[4] = check("capacity", len(v.Row.Free.Extended), maxEntries)
	}
	if reads.Workload {
		errs[5] = check("workload.labels", len(v.Workload.Labels), maxEntries)
		errs[6] = check("workload.annotations", len(v.Workload.Annotations), maxEntries)
	}
	if reads.Placement {
		errs[7] = check("placement.labels", len(v.Placement.Labels), maxEntries)
	}
	return cmp.Or(errs[:]...)
}

// path is a chain of fields and literal keys that starts at a variable.
type path struct {
	text  string
	root  string
	steps []step
}

type step struct {
	object *object // of which this is a field; nil for a key
	key    string
}

// maxObservations bounds what is told of one evaluation, maxValue how long each value may be.
const (
	maxObservations = 16
	maxValue        = 64
)

// observe tells what an expression looks at outside its macros, in the order in which it is written.
func observe(paths []path, v *Variables) []Observation {
	observed := make([]Observation, len(paths))
	for i, path := range paths {
		observed[i] = Observation{Path: path.text, Value: path.read(v)}
	}
	return observed
}

func (p *path) read(v *Variables) string {
	current, _ := v.ResolveName(p.root)
	for _, s := range p.steps {
		if s.object != nil {
			field, err := s.object.fields[s.key].GetFrom(current)
			if err != nil {
				return "absent"
			}
			current = field
			continue
		}
		var found bool
		switch m := current.(type) {
		case map[string]string:
			current, found = m[s.key]
		case *resourceMap:
			current, found = m.Find(types.String(s.key))
		}
		if !found {
			return "absent"
		}
	}
	return shorten(current)
}

func shorten(value any) string {
	var text string
	switch v := value.(type) {
	case string:
		text = strconv.Quote(v)
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

// pathsOf collects the longest chains of an expression.
func pathsOf(e ast.Expr, paths []path) []path {
	if chain, ok := chainOf(e); ok {
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

// chainOf reads an expression as a chain; ok is false where it is anything else.
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
		// Only the variables themselves are objects; what follows their fields are maps.
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
