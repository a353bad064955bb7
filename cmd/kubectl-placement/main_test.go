package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/command"
)

var update = flag.Bool("update", false, "write the output of the commands into the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kubectl-placement": func() { os.Exit(command.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// changing matches what differs from run to run: times, as 12 ms, "ms": 12 and elapsedMs: 12.
var changing = regexp.MustCompile(`\b\d+( ms\b)|((?:elapsedMs|\bms)"?: )\d+`)

// TestScripts runs the scripts of testdata, which show what users type and see. In addition to testscript's commands they
// have
//
//	placement CODE ARGS...   runs kubectl placement, expects the exit code, and writes its output to the files out and
//	                         err, with 0 for times
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("KUBECONFIG", env.WorkDir+"/no-kubeconfig")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"placement": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec("kubectl-placement", args[1:]...)
				code := 0
				var exit *exec.ExitError
				switch {
				case errors.As(err, &exit):
					code = exit.ExitCode()
				case err != nil:
					ts.Fatalf("%v", err)
				}
				for _, name := range []string{"stdout", "stderr"} {
					text := changing.ReplaceAllString(ts.ReadFile(name), "${2}0$1")
					ts.Check(os.WriteFile(ts.MkAbs(name[3:]), []byte(text), 0o644))
				}
				if code != want {
					ts.Fatalf("exit code %d, want %d", code, want)
				}
			},
		},
	})
}
