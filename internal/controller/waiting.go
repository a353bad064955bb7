package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
)

// attempt is a decision that found no cluster: there is no point in another for the same inputs until one is feasible.
type attempt struct {
	inputs  string
	message string
	// generation of the fleet that the message is about, and when it was told.
	generation int64
	told       time.Time
}

// feasible tells whether a cluster is feasible for a workload that waits, and now and then tells anew what it waits for.
func (p *placing) feasible(ctx context.Context, s *step) (bool, error) {
	a := p.waiting[s.key]
	generation := p.engine.Snapshot(p.name).Generation
	if a.generation == generation {
		return false, nil
	}
	bounded, done := context.WithTimeoutCause(ctx, decideWithin, errTooLong)
	defer done()
	feasible, err := p.engine.Feasible(bounded, p.request(s))
	if err != nil {
		p.failed(err)
	}
	if err != nil || feasible || len(s.owner.waiting) >= maxExamples {
		return feasible, err
	}
	// People read of the first few why they wait.
	if wait := a.told.Add(countsEvery).Sub(p.now()); wait > 0 {
		p.result.within(wait)
		return false, nil
	}
	decision, err := p.engine.Explain(bounded, p.request(s))
	if err != nil {
		p.failed(err)
		return false, err
	}
	p.wait(s, decision)
	return false, nil
}

// wait notes that a workload found no cluster, and says why.
func (p *placing) wait(s *step, decision *engine.Decision) string {
	a := p.told[decision.InputsDigest]
	if a.message == "" || a.generation != decision.Generation {
		// To say why costs as much as to look at every cluster: it is said once for all that are alike.
		a = attempt{inputs: decision.InputsDigest, message: waitingFor(decision), generation: decision.Generation, told: p.now()}
		p.told[decision.InputsDigest] = a
	}
	p.waiting[s.key] = a
	return a.message
}

// waitingFor says what a workload waits for that found no cluster: what the nearest lacks, and what rejected others.
func waitingFor(d *engine.Decision) string {
	var told []string
	for v := range d.EachVerdict {
		if len(told) == maxExamples {
			break
		}
		if v.Rejection != nil {
			stage := string(v.Rejection.Stage)
			if v.Rejection.Constraint != "" {
				stage += " " + v.Rejection.Constraint
			}
			told = append(told, fmt.Sprintf("%s: %s: %s", v.Cluster, stage, v.Rejection.Message))
		}
	}
	message := d.Summary()
	if len(told) > 0 {
		message += " (" + strings.Join(told, "; ") + ")"
	}
	if nearest, obstacles := d.Nearest(); nearest != "" {
		message = fmt.Sprintf("waits for %s on %s: %s", strings.Join(filter.Remedies(obstacles), " and "), nearest, message)
	}
	return shorten(message)
}
