package exit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
)

// TestCode: scripts distinguish a failed check from a wrong command line by the exit code, however deep the error is wrapped.
func TestCode(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name    string
		ctx     context.Context
		err     error
		code    int
		message string
	}{
		{"success", t.Context(), nil, 0, ""},
		{"success that a signal came too late for", interrupted, nil, 0, ""},
		{"a failed check that was printed", t.Context(), exit.Failure{}, 1, ""},
		{"a failed check", t.Context(), exit.Failure{Cause: errors.New("a.rego:1:1: wrong")}, 1, "a.rego:1:1: wrong"},
		{"a failed check, wrapped", t.Context(), fmt.Errorf("policies: %w", exit.Failure{Cause: errors.New("wrong")}), 1, "wrong"},
		{"a wrong command line", t.Context(), errors.New("unknown flag"), 2, "kubectl placement: unknown flag"},
		{"interrupted", interrupted, exit.Failure{}, 130, "interrupted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if code, message := exit.Code(test.ctx, test.err); code != test.code || message != test.message {
				t.Errorf("got %d %q, want %d %q", code, message, test.code, test.message)
			}
		})
	}
}
