package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// Where modules of workspaces may be, and where the built-in ones are.
var (
	prefix        = ast.MustParseRef("data.placement")
	builtinPrefix = ast.MustParseRef("data.placement.builtin")
)

// examine checks the scope and the size of a tenant's module, and adds its nodes to the count.
func examine(module *ast.Module, nodes *int) (errs Errors) {
	if path := module.Package.Path; !path.HasPrefix(prefix) {
		errs = append(errs, at(module.Package.Location, codeScope, "package %s is outside placement", module.Package.Path[1:]))
	}
	for _, rule := range module.Rules {
		if path := module.Package.Path.Extend(rule.Head.Ref().GroundPrefix()); path.HasPrefix(builtinPrefix) {
			errs = append(errs, at(rule.Location, codeScope, "%s belongs to the built-in policies and cannot be defined", path))
		}
	}
	ast.WalkNodes(module, func(ast.Node) bool {
		*nodes++
		return false
	})
	for _, x := range module.Imports {
		errs = append(errs, outOfScope(x.Path)...)
	}
	for _, x := range module.Rules {
		errs = append(errs, outOfScope(x)...)
	}
	ast.WalkWiths(module, func(with *ast.With) bool {
		// Only input may be replaced: the meter would not charge for a replaced function.
		if ref, ok := with.Target.Value.(ast.Ref); !ok || !ref[0].Equal(ast.InputRootDocument) {
			errs = append(errs, at(with.Location, codeScope, "with replaces %s, policies may only replace input", with.Target))
		}
		return false
	})
	ast.WalkExprs(module, func(expr *ast.Expr) bool {
		if (expr.IsEquality() || expr.IsAssignment()) && isLarge(expr.Operand(0)) && isLarge(expr.Operand(1)) {
			errs = append(errs, at(expr.Location, codeLimit, "two collections of more than %d elements each are unified: compare them by ==", maxUnified))
		}
		return false
	})
	return errs
}

// maxUnified limits literal collections that are unified with each other: OPA compares them before the meter charges.
const maxUnified = 16

func isLarge(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case *ast.Array:
		return v.Len() > maxUnified
	case ast.Object:
		return v.Len() > maxUnified
	case ast.Set:
		return v.Len() > maxUnified
	}
	return false
}

// outOfScope finds references to data outside the prefix, and numbers that are too long.
func outOfScope(x any) (errs Errors) {
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			if v[0].Equal(ast.DefaultRootDocument) && !v.HasPrefix(prefix) {
				errs = append(errs, at(t.Location, codeScope, "%s is outside data.placement", v))
			}
			for _, element := range v[1:] {
				errs = append(errs, outOfScope(element)...)
			}
			return true
		case ast.Var:
			if v.Equal(ast.DefaultRootDocument.Value) {
				errs = append(errs, at(t.Location, codeScope, "data as a whole cannot be read, only what is in data.placement"))
			}
		case ast.Number:
			if len(v) > MaxDigits {
				errs = append(errs, at(t.Location, codeLimit, "the number has %d digits, more than %d", len(v), MaxDigits))
			} else if isLong(string(v)) {
				errs = append(errs, at(t.Location, codeLimit, "the number %s has more than %d digits", v, maxNumber))
			}
		}
		return false
	})
	return errs
}
