package policy

import (
	"context"
	"math"
	"time"

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
	results, err := all.evaluate(ctx, newMeter(ctx, s.timeout), in.value())
	if err != nil {
		return "", err
	}
	return results["everything"].String(), nil
}

// Spent is what an evaluation costs of its budget, up to the step at which it is stopped.
func (s *Set) Spent(ctx context.Context, in Input) (int, error) {
	m := newMeter(ctx, s.timeout)
	_, err := s.evaluate(ctx, m, in.value())
	return Budget - m.left, err
}

// Unmetered evaluates with a budget without end.
func (s *Set) Unmetered(in Input) error {
	m := newMeter(context.Background(), time.Hour)
	m.left, m.nextCheck = math.MaxInt, math.MaxInt
	_, err := s.evaluate(m.ctx, m, in.value())
	return err
}

// HasCPUTime tells whether the platform counts the processor time of a thread.
func HasCPUTime() bool { return threadCPUTime() > 0 }

// ThreadCPUTime is the processor time of the calling thread.
func ThreadCPUTime() time.Duration { return threadCPUTime() }
