package policy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// weighted fails for workloads whose label weight is no number, and reads nothing else of them.
const weighted = `package placement.scoring
default weights := {"health": 1}
weights := {"health": to_number(input.workload.labels.weight)}`

// TestTrial: a set is evaluated once for the workloads that are the same to it, as far as a run goes on; the next run takes up
// where it ended. An error names the first workload by name for which it is.
func TestTrial(t *testing.T) {
	set, err := compiler(t).Compile(map[string]string{"a.rego": weighted})
	if err != nil {
		t.Fatal(err)
	}
	weighing := func(name, weight, placement string) policy.Input {
		in := input(func(w *workload.Workload) { w.Name, w.Labels = name, map[string]string{"weight": weight} })
		in.Placement.Name = placement
		return in
	}
	classes := 0
	goesOn := func() bool { classes++; return true }
	run := func(trial *policy.Trial, inputs []policy.Input, goesOn func() bool) string {
		done, err := trial.Run(t.Context(), inputs, goesOn)
		return fmt.Sprint(done, " ", err)
	}

	trial := policy.NewTrial(set)
	sound := []policy.Input{weighing("a", "1", "p"), weighing("b", "2", "p"), weighing("c", "1", "p"), weighing("d", "1", "q")}
	once := func() bool { goesOn(); return classes%2 == 1 }
	for _, want := range []string{"false <nil>", "false <nil>", "true <nil>", "true <nil>"} {
		if got := run(trial, sound, once); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if classes != 5 { // three that are evaluated, and two that end a run
		t.Errorf("%d times it was asked whether to go on", classes)
	}

	failing := []policy.Input{weighing("z", "heavy", "p"), weighing("y", "heavy", "p"), weighing("x", "light", "p"), weighing("a", "1", "p")}
	const why = `false a.rego:3:23: eval_builtin_error: to_number: strconv.ParseFloat: parsing "heavy": invalid syntax (for Job shop/y)`
	for range 2 {
		if got := run(trial, failing, goesOn); got != why {
			t.Errorf("%s, want %s", got, why)
		}
	}
	if got := run(trial, sound, func() bool { return true }); got != "true <nil>" {
		t.Errorf("%s once what fails is gone", got)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if done, err := policy.NewTrial(set).Run(ctx, sound, goesOn); done || !errors.Is(err, gone) {
		t.Errorf("interrupted: %v, %v", done, err)
	}
}

// TestTrialOfCost: policies that cost more than their budget for a workload fail for it. Those that a clock stops do not: that says
// as much about the machine.
func TestTrialOfCost(t *testing.T) {
	for _, test := range []struct {
		name    string
		timeout time.Duration
		want    string
	}{
		{"over the budget", 0, "(for Job shop/report)"},
		{"stopped by a clock", time.Microsecond, "<nil>"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := policy.NewCompiler(policy.Options{Timeout: test.timeout})
			if err != nil {
				t.Fatal(err)
			}
			set, err := c.Compile(map[string]string{"a.rego": slow})
			if err != nil {
				t.Fatal(err)
			}
			_, err = policy.NewTrial(set).Run(t.Context(), []policy.Input{input()}, func() bool { return true })
			if got := fmt.Sprint(err); !strings.Contains(got, test.want) {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
