package constraint

import (
	"fmt"
	"regexp/syntax"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
)

// maxPatternSteps bounds the size of a regular expression: Go matches in time linear in the text times this, which the
// pattern's length says nothing of, since x{1000} is a thousand steps in seven characters.
const maxPatternSteps = 1000

// stepsPerCost is how many steps of matching cost as much as one of CEL's own units.
const stepsPerCost = 10

// regexValidator is a validator of regular expressions. They have to be literals, so that what they cost is known and they
// are compiled once.
type regexValidator struct{}

// Name implements cel.ASTValidator.
func (regexValidator) Name() string { return "tmc.validate.regex" }

// Validate implements cel.ASTValidator.
func (regexValidator) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		pattern := patternOf(e.AsCall())
		if pattern == nil {
			return
		}
		text, ok := literal(pattern)
		if !ok {
			issues.ReportErrorAtID(pattern.ID(), "a regular expression must be a literal")
			return
		}
		if _, err := stepsOf(text); err != nil {
			issues.ReportErrorAtID(pattern.ID(), "invalid regular expression: %v", err)
		}
	}))
}

// patternOf returns the regular expression that a call matches by, nil if it is no such call.
func patternOf(call ast.CallExpr) ast.Expr {
	switch call.FunctionName() {
	case "matches", "find", "findAll":
		args := call.Args()
		if !call.IsMemberFunction() {
			args = args[min(1, len(args)):]
		}
		if len(args) > 0 {
			return args[0]
		}
	}
	return nil
}

func literal(e ast.Expr) (text string, ok bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok = e.AsLiteral().Value().(string)
	return text, ok
}

// stepsOf returns how many steps a regular expression takes for each character at most.
func stepsOf(pattern string) (int, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	steps := stepsIn(parsed)
	if steps > maxPatternSteps {
		return 0, fmt.Errorf("it has %d steps with all repetitions written out, more than %d", steps, maxPatternSteps)
	}
	return steps, nil
}

func stepsIn(r *syntax.Regexp) int {
	const enough = 1 << 20
	steps := 1
	if r.Op == syntax.OpLiteral {
		steps = len(r.Rune)
	}
	for i, sub := range r.Sub {
		if i == 0 {
			steps = 0
		}
		steps = min(steps+stepsIn(sub), enough)
	}
	if r.Op == syntax.OpRepeat {
		steps = min(steps*max(1, r.Min, r.Max), enough)
	}
	return steps
}

// matchingCost is what matching by a regular expression costs; nil for any other call.
func matchingCost(b estimator, function string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	if function != "matches" && function != "find" && function != "findAll" || len(args) == 0 {
		return nil
	}
	text := target
	if text == nil {
		text, args = &args[0], args[1:]
	}
	if len(args) == 0 {
		return nil
	}
	pattern, ok := literal(args[0].Expr())
	if !ok {
		return nil // refused already
	}
	steps, err := stepsOf(pattern)
	if err != nil {
		return nil
	}
	size := b.sizeOf(text)
	looks := size
	if function == "findAll" { // for every match it may look through all that is left
		looks = size.Multiply(size)
	}
	estimate := &checker.CallEstimate{CostEstimate: checker.CostEstimate{Min: 1, Max: 1}.Add(
		looks.MultiplyByCostFactor(float64(steps) / stepsPerCost))}
	if function != "matches" { // what is found is part of the text
		estimate.ResultSize = &checker.SizeEstimate{Max: size.Max}
	}
	return estimate
}
