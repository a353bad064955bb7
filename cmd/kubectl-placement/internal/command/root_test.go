package command_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/command"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
)

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestOutputIsLost: an answer that could not be written is no success.
func TestOutputIsLost(t *testing.T) {
	var errOut bytes.Buffer
	code := command.Run(t.Context(), []string{"version"}, nil, full{}, &errOut)
	if want := "kubectl placement: no space left\n"; code != exit.Error || errOut.String() != want {
		t.Errorf("exit code %d: %s", code, &errOut)
	}
}
