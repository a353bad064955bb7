package constraint

import (
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
)

// timeZoneValidator refuses time zone names: files of the machine define them, so the result would depend on the machine.
type timeZoneValidator struct{}

// Name implements cel.ASTValidator.
func (timeZoneValidator) Name() string { return "tmc.validate.zones" }

// Validate implements cel.ASTValidator.
func (timeZoneValidator) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || !e.AsCall().IsMemberFunction() || len(e.AsCall().Args()) != 1 {
			return
		}
		switch e.AsCall().FunctionName() {
		case "getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek",
			"getHours", "getMinutes", "getSeconds", "getMilliseconds":
			zone := e.AsCall().Args()[0]
			if text, ok := literal(zone); !ok || text != "UTC" && !strings.Contains(text, ":") {
				issues.ReportErrorAtID(zone.ID(), `a time zone must be "UTC" or an offset as "+02:00": names of zones depend on the machine`)
			}
		}
	}))
}
