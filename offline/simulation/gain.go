package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
)

// Gain is where a workload would be better off.
type Gain struct {
	// From is the cluster that it would leave, To where it would run; empty if no other cluster is better by enough.
	From string          `json:"from"`
	To   []engine.Choice `json:"to"`
	// Gain compares their scores.
	Gain string `json:"gain"`
	// Keeps is what keeps it where it is. If nothing does, the controller moves it once the gain has lasted for After without interruption,
	// within the budgets.
	Keeps []string `json:"keeps"`
	After string   `json:"after"`
}

// gain determines where a workload would be better off, and what keeps it from moving there; nil if its placement does not let workloads
// move for a gain, or if there is none.
func (s *Simulation) gain(ctx context.Context, i item, current assignment, r engine.Request, scheduled *placement.Placement) *Gain {
	rules := scheduled.Steadied(i.placement.compiled.Stability)
	if rules == nil || len(current.clusters) == 0 {
		return nil
	}
	now := s.options.Now
	r.MinGain = rules.MinGain
	barred, until := rules.Bars(current.history, now)
	from, _, d, err := s.engine.ForGain(ctx, r, barred)
	if err == nil && d == nil && len(barred) > 0 {
		from, _, d, err = s.engine.ForGain(ctx, r, nil)
	}
	if err != nil || d == nil {
		return nil
	}
	g := &Gain{From: from, To: slices.Clone(d.Clusters), Gain: d.Gain(from), Keeps: []string{}, After: rules.After.String()}
	keeps := func(format string, args ...any) { g.Keeps = append(g.Keeps, fmt.Sprintf(format, args...)) }
	if why, pinned := rules.Pins(i.Workload.Workload); pinned {
		keeps("%s", why)
	}
	if cools := rules.CoolsUntil(current.history); now.Before(cools) {
		keeps("it has moved, and stays until %s", cools.UTC().Format(time.RFC3339))
	}
	if slices.ContainsFunc(d.Clusters, func(c engine.Choice) bool { return slices.Contains(barred, c.Name) }) {
		keeps("it has left that cluster in one of its last two moves, and does not return before %s", until.UTC().Format(time.RFC3339))
	}
	if open, opens := rules.Windows.Open(now); !open && opens.IsZero() {
		keeps("no window opens any more")
	} else if !open {
		keeps("the next window opens at %s", opens.UTC().Format(time.RFC3339))
	}
	return g
}

// Sentence describes where a workload would be better off, and what keeps it from moving.
func (g *Gain) Sentence(w Workload) string {
	var to []string
	for _, c := range g.To {
		to = append(to, c.Name)
	}
	text := fmt.Sprintf("%s would move for a gain, leaving %s to run on %s (%s)", w, g.From, strings.Join(to, ", "), g.Gain)
	if len(g.Keeps) > 0 {
		return text + ", and stays: " + strings.Join(g.Keeps, "; ") + "."
	}
	return text + ", once that has been so for " + g.After + "."
}
