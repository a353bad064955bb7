package constraint

import (
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"

	"github.com/kcp-placement/placement/engine/internal/remedy"
)

// Cause is a conjunct that does not hold.
type Cause struct {
	// Expression is the part, as CEL, and Span its location in the text of the whole.
	Expression string
	Span       Span
	// Err is set if the part cannot be evaluated.
	Err error
	// Observed are the values that the part read.
	Observed []Observation
	// Remedies are the smallest changes to the cluster that make the part hold: any one of them is enough.
	Remedies []remedy.Option
}

// Explain returns the parts, joined by &&, that keep the expression from holding; none if it holds. It is computed on request
// and costs much more than Eval.
func (p *Program) Explain(v *Variables) []Cause {
	if err := within(p.checks, v); err != nil {
		less := remedy.Words("less of what the constraint reads")
		cause := p.cause(p.ast.Expr())
		cause.Err, cause.Remedies = err, one(less)
		return []Cause{cause}
	}
	explainer, err := p.explainer()
	if err != nil {
		cause := p.cause(p.ast.Expr())
		cause.Err = err
		return []Cause{cause}
	}
	_, details, _ := explainer.Eval(v) // an error is the value of the part that it is in
	if details == nil || details.State() == nil {
		return nil
	}
	w := &explanation{Program: p, tracker: explainer, state: details.State(), variables: v}
	return w.causes(p.ast.Expr())
}

// explanation is one evaluation of every part of an expression.
type explanation struct {
	*Program
	// tracker evaluates every part, including for a changed cluster.
	tracker   cel.Program
	state     interpreter.EvalState
	variables *Variables
}

func (w *explanation) causes(e ast.Expr) (causes []Cause) {
	if isCall(e, operators.LogicalAnd) {
		for _, arg := range e.AsCall().Args() {
			causes = append(causes, w.causes(arg)...)
		}
		return causes
	}
	value := w.value(e)
	if value == types.True || value == nil { // it holds, or nothing is known of it
		return nil
	}
	cause := w.cause(e)
	cause.Observed, cause.Remedies = observe(pathsOf(e, nil), w.variables), w.remedies(e)
	if err, failed := value.(*types.Err); failed {
		cause.Err = err
	}
	return []Cause{cause}
}

// value returns the value of a part of the expression; nil if there is none.
func (w *explanation) value(e ast.Expr) ref.Val {
	if e.Kind() == ast.LiteralKind {
		return e.AsLiteral()
	}
	if value, found := w.state.Value(e.ID()); found {
		return value
	}
	// CEL does not evaluate the operands beside one that fails. A plain field access can be read here.
	if chain, ok := chainOf(e); ok {
		if value, found := chain.value(w.variables); found {
			return valueOf(value)
		}
	}
	return nil
}

// cause returns the cause for a part of the expression that does not hold.
func (p *Program) cause(e ast.Expr) Cause {
	return Cause{Expression: p.text(e), Span: p.spans()[e.ID()]}
}

// text returns a part of the expression as CEL, on one line.
func (p *Program) text(e ast.Expr) string {
	text, err := cel.ExprToString(e, p.ast.SourceInfo())
	if err != nil {
		return "the expression"
	}
	return strings.Join(strings.Fields(text), " ")
}
