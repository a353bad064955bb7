package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
)

// attempt is a decision that found no cluster, or no better one. It is repeated for the same inputs only once a cluster
// is feasible, or the workspace has changed.
type attempt struct {
	// inputs is the digest of what was decided on.
	inputs string
	// message is empty for a workload that is on suitable clusters, though fewer than it asks for.
	message string
	// revision is the workspace revision that was decided on, and current what the workload had and ran then.
	revision int64
	current  []engine.Choice
	// at is when the message was made; named means that it was made for a workload that the status names.
	at    time.Time
	named bool
	// blockers are the objects that keep the workload waiting, as far as that is known.
	blockers []v1alpha1.QueueBlocker
	preempting
	// history is the history of the decision that a waiting workload had before.
	history []v1alpha1.DecisionChange
}

// mayFindCluster reports whether it is worth deciding on a workload that has no decision: it is new, its inputs have changed,
// or a cluster has become feasible for it.
func (p *pass) mayFindCluster(ctx context.Context, item *workItem) (bool, error) {
	if nominated, due, err := p.nominated(ctx, item); nominated || err != nil {
		return due, err
	}
	if !item.tried || item.attempt.inputs != p.engine.InputsDigest(p.request(item)) {
		return true, nil
	}
	item.reason = item.attempt.message
	explained := item.attempt.named || !item.first(&item.owner.waiting)
	if explained && item.attempt.revision == p.engine.Revision(p.name) {
		return false, nil
	}
	feasible, err := p.engine.Feasible(ctx, p.request(item))
	if err != nil || feasible {
		return feasible, err
	}
	return false, p.explainAgain(ctx, item)
}

// explainAgain updates the message of a workload that still waits, if it is one of the few that the status names and
// the message is old enough.
func (p *pass) explainAgain(ctx context.Context, item *workItem) error {
	if !item.first(&item.owner.waiting) {
		return nil
	}
	if next := item.attempt.at.Add(countsEvery); next.After(p.now()) {
		p.index.wakeAt(item, next)
		return nil
	}
	decision, err := p.engine.Explain(ctx, p.request(item))
	if err == nil {
		p.wait(item, decision)
	}
	return err
}

// wait records that a workload found no cluster, and why. Finding the nearest cluster takes a look at each of them, so the message
// is made once per pass for each equivalence class, and only if the status will name the workload.
func (p *pass) wait(item *workItem, decision *engine.Decision) {
	named := item.first(&item.owner.waiting)
	peers := decision.Peers()
	a, explained := p.explained[peers]
	if !explained || named && !a.named {
		a = attempt{inputs: decision.InputsDigest, message: decision.Summary(), at: p.now(), named: named}
		if named {
			a.message, a.blockers = waitingFor(decision), decision.Blockers()
		}
	}
	a.revision = decision.Revision
	p.explained[peers] = a
	a.history, a.preempting = item.attempt.history, item.attempt.preempting
	item.attempt, item.reason = a, a.message
	p.index.setWaiting(item, true)
}

// first reports whether few enough lines are about workloads whose turns come before that of an item for the status to include its own.
func (item *workItem) first(of ...*lines) bool {
	n := 0
	for _, l := range of {
		n += l.before(item, maxExamples)
	}
	return n < maxExamples
}

// waitingFor describes what a workload waits for: what the nearest cluster lacks, and what rejected others.
func waitingFor(d *engine.Decision) string {
	var rejections []string
	for v := range d.EachVerdict {
		if len(rejections) == maxExamples {
			break
		}
		if v.Rejection != nil {
			stage := string(v.Rejection.Stage)
			if v.Rejection.Constraint != "" {
				stage += " " + v.Rejection.Constraint
			}
			rejections = append(rejections, fmt.Sprintf("%s: %s: %s", v.Cluster, stage, v.Rejection.Message))
		}
	}
	message := d.Summary()
	if len(rejections) > 0 {
		message += " (" + strings.Join(rejections, "; ") + ")"
	}
	if nearest, obstacles := d.Nearest(); nearest != "" {
		message = fmt.Sprintf("waits for %s on %s: %s", strings.Join(filter.Remedies(obstacles), " and "), nearest, message)
	}
	return shorten(message)
}

// stillSettled reports whether it is known that there is no better place for a workload.
func (p *pass) stillSettled(item *workItem, r *engine.Request) bool {
	a := &item.attempt
	runsSame := func(a, b engine.Choice) bool {
		return a.Name == b.Name && a.Replicas == b.Replicas && a.Part == b.Part && a.Runs.Same(b.Runs) && ptr.Equal(a.Left, b.Left)
	}
	if a.inputs == "" || a.revision != p.engine.Revision(p.name) || a.inputs != p.engine.InputsDigest(*r) || !slices.EqualFunc(a.current, r.Current, runsSame) {
		return false
	}
	// If it depends on time whether a workload may stay, the answer can change though the fleet does not.
	return !slices.ContainsFunc(r.Current, func(c engine.Choice) bool { return p.changeable[c.Name] })
}

// settle records that there is no better place for a workload that should have other clusters, or more, and why. The explanation
// takes a look at every cluster, so it is made only for a workload that the status will name.
func (p *pass) settle(item *workItem, d *engine.Decision, current []engine.Choice) {
	before := item.attempt
	if item.attempt = (attempt{}); len(d.Retained) == 0 && d.Waiting == 0 && len(d.Clusters) >= d.Asked {
		return
	}
	item.attempt = attempt{inputs: d.InputsDigest, revision: d.Revision, current: current, at: before.at, named: item.first(&item.owner.retained, &item.owner.partial)}
	switch {
	case len(d.Retained) == 0 && d.Waiting == 0:
		return
	case before.message != "" && before.inputs == d.InputsDigest && (before.named || !item.attempt.named) && p.now().Sub(before.at) < countsEvery:
		item.attempt.message, item.attempt.named, item.attempt.blockers = before.message, before.named, before.blockers
		p.result.within(countsEvery)
		return
	case item.attempt.named:
		item.attempt.message, item.attempt.blockers = shorten(d.NoBetterPlace()), d.Blockers()
	case len(d.Retained) == 0:
		item.attempt.message = fmt.Sprintf("%d replicas wait for room", d.Waiting)
	default:
		item.attempt.message = fmt.Sprintf("stays on %s for want of a better place: %s", d.Retained[0].Cluster, d.Retained[0].Rejection)
	}
	item.attempt.at = p.now()
	if before.message == "" {
		reason := noBetterPlace
		if len(d.Retained) == 0 {
			reason = replicasWaiting
		}
		p.event(item.object, corev1.EventTypeWarning, reason, item.attempt.message)
	}
}
