package policy

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Lint reports what Compile does not: errors in test suites, and as warnings what OPA's strict mode refuses, such as unused
// variables and imports. Call Compile first.
func (c *Compiler) Lint(modules map[string]string) (errs, warnings Errors) {
	suites := maps.Clone(modules)
	maps.DeleteFunc(suites, func(file, _ string) bool { return !IsSuite(file) })
	if errs = withinTokens(suites); len(errs) > 0 {
		return errs.sorted(), nil
	}
	if errs = c.lint(modules, false); len(errs) > 0 {
		return errs.sorted(), nil
	}
	return nil, c.lint(modules, true).sorted()
}

func (c *Compiler) lint(texts map[string]string, strict bool) (errs Errors) {
	defer func() {
		if p := recover(); p != nil {
			errs = Errors{at(nil, "internal_error", "the modules cannot be compiled: %v", p)}
		}
	}()
	modules := make(map[string]*ast.Module, len(c.builtin)+len(texts))
	for file, text := range texts {
		module, err := c.parse(file, text)
		if err != nil {
			errs = append(errs, fromOPA(err)...)
			continue
		}
		modules[file] = module
	}
	if len(errs) > 0 {
		return errs
	}
	for file, module := range c.builtin {
		modules[file] = module.Copy()
	}
	compiler := c.Suites().WithStrict(strict)
	if compiler.Compile(modules); compiler.Failed() {
		return fromOPA(compiler.Errors)
	}
	return nil
}
