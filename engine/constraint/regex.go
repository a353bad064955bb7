package constraint

import (
	"fmt"
	"regexp/syntax"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
)

// maxPatternSteps limits the size of a compiled regular expression. Go matches in time linear in the text times this size,
// which the length of the pattern does not show: x{1000} is a thousand steps.
const maxPatternSteps = 1000

// regexValidator requires regular expressions to be literals, so that their cost is known and they are compiled once.
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

// patternOf returns the regular expression of a call, nil for any other call.
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

// stepsOf returns the maximum number of steps that matching takes for each character.
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
