package main

import (
	"bytes"
	"errors"
	"testing"
)

// TestPrintable: what tenants write does not control the terminal of those who read it.
func TestPrintable(t *testing.T) {
	var out bytes.Buffer
	p := &printable{w: &out}
	text := "a\tb\n\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J \r \x00 \u0085 \u202e é"
	if n, err := p.Write([]byte(text)); n != len(text) || err != nil {
		t.Error(n, err)
	}
	if want := "a\tb\n\x1b[31mred\x1b[0m ?]0;title? ?[2J ? ? ? ? é"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

// TestFull: a table that cannot be written is no success.
func TestFull(t *testing.T) {
	var errOut bytes.Buffer
	if code := run(t.Context(), []string{"version"}, nil, full{}, &errOut); code != exitWrongCall || !bytes.Contains(errOut.Bytes(), []byte("no space left")) {
		t.Errorf("exit code %d: %s", code, &errOut)
	}
}
