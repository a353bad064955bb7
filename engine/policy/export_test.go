package policy

import (
	"context"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Everything is all that the policies come to for an input, as Rego writes it.
func (s *Set) Everything(ctx context.Context, in Input) (string, error) {
	query, err := s.compiler.QueryCompiler().Compile(ast.MustParseBody("everything = [x | x := data.placement]"))
	if err != nil {
		return "", err
	}
	all := *s
	all.query = query
	results, err := all.evaluate(ctx, in.term())
	if err != nil {
		return "", err
	}
	return results["everything"].String(), nil
}
