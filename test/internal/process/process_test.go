package process

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

func TestWaitReady(t *testing.T) {
	p, err := Start("sh", t.TempDir(), "/bin/sh", "-c", "echo last words; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	never := func(context.Context) (bool, error) { return false, nil }
	err = p.WaitReady(t.Context(), time.Minute, never)
	for _, want := range []string{"sh is not ready", "it has ended: exit status 3", "last words"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("not said: %s\n%v", want, err)
		}
	}
	if err := p.Stop(); err == nil {
		t.Error("Stop does not return how it ended")
	}
	p.Kill()
}

// TestStop: a paused program stops gracefully all the same.
func TestStop(t *testing.T) {
	p, err := Start("sh", t.TempDir(), "/bin/sh", "-c", "trap 'echo stopping; exit 0' TERM; echo started; while :; do sleep 0.1; done")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	err = p.WaitReady(t.Context(), time.Minute, func(context.Context) (bool, error) { return p.Tail(1) == "started", nil })
	if err != nil {
		t.Fatal(err)
	}
	p.Pause()
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if got := p.Tail(1); got != "stopping" {
		t.Errorf("the last line is %q", got)
	}
	select {
	case <-p.Exited():
	default:
		t.Error("stopped, but not known to have ended")
	}
}

func TestVariable(t *testing.T) {
	t.Setenv("NAME_BIN", "/nowhere/name")
	_, err := Program{Name: "name", Variable: "NAME_BIN"}.Binary(t.Context(), io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "NAME_BIN: ") {
		t.Errorf("a program that is not there: %v", err)
	}
	t.Setenv("NAME_BIN", "/bin/sh")
	if path, err := (Program{Name: "name", Variable: "NAME_BIN"}).Binary(t.Context(), io.Discard); path != "/bin/sh" || err != nil {
		t.Errorf("%s, %v", path, err)
	}
}
