package terminal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/terminal"
)

// TestWriter: text that tenants write does not control the terminal of those who read it.
func TestWriter(t *testing.T) {
	var out bytes.Buffer
	w := terminal.NewWriter(&out)
	text := "a\tb\n\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J \r \x00 \u0085 \u202e é"
	if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
		t.Error(n, err)
	}
	if want := "a\tb\n\x1b[31mred\x1b[0m ?]0;title? ?[2J ? ? ? ? é"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

// TestWriterKeepsError: a table that could not be written is an error, although printing it drops every error.
func TestWriterKeepsError(t *testing.T) {
	noSpace := errors.New("no space left")
	w := terminal.NewWriter(full{noSpace})
	_, _ = w.Write([]byte("a"))
	if !errors.Is(w.Err(), noSpace) {
		t.Errorf("got %v", w.Err())
	}
}
