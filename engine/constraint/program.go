package constraint

import (
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/interpreter"

	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	evaluator cel.Program
	reads     Reads
	checks    []check
	cost      uint64
	// explainer returns the program that Explain runs, which evaluates every part of ast. It is planned on first use: most
	// expressions are never explained.
	explainer func() (cel.Program, error)
	ast       *ast.AST
	conjuncts []*Conjunct
	// spans are the locations of the parts that Explain names.
	spans func() map[int64]Span
}

// Variables are what an expression is evaluated over.
type Variables struct {
	Row       *snapshot.Row
	Workload  *workload.Workload
	Placement workload.Placement
}

// Observation is a field that an expression read, and its value.
type Observation struct {
	// Path in CEL, for example capacity.free.cpu.
	Path string
	// Value in CEL, shortened if it is long; "absent" if there is none.
	Value string
}

func newProgram(text string, checked *cel.Ast, cost uint64, evaluator cel.Program, explainer func() (cel.Program, error)) *Program {
	p := &Program{evaluator: evaluator, cost: cost, explainer: explainer, ast: checked.NativeRep()}
	p.reads = readsOf(p.ast.Expr())
	p.checks = checksFor(p.ast.Expr())
	p.spans = sync.OnceValue(func() map[int64]Span { return spansOf(text, p.ast) })
	return p
}

// Cost is the static estimate of the cost of one evaluation, in CEL's units.
func (p *Program) Cost() uint64 { return p.cost }

// Reads returns what the expression reads.
func (p *Program) Reads() Reads { return p.reads }

// Conjuncts returns the operands of the top-level &&. Invariant: the expression holds iff all of them hold.
func (p *Program) Conjuncts() []*Conjunct { return p.conjuncts }

// Eval evaluates the expression. An error means that there is no answer, not that the answer is false.
func (p *Program) Eval(v *Variables) (holds bool, err error) {
	if err := within(p.checks, v); err != nil {
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

// ResolveName implements interpreter.Activation without copying anything.
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
