package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
)

// report enters the state of a workload into the tallies.
func (p *pass) report(ctx context.Context, item *workItem) {
	object, a := item.object, account{to: item.owner, owned: true, elsewhere: item.others}
	if object.err != nil {
		report := unreadableReport{object.UID, object.err.Error()}
		if item.unreadable != report {
			p.event(object, corev1.EventTypeWarning, "InvalidWorkload", report.why)
		}
		item.unreadable = report
	} else {
		item.unreadable = unreadableReport{}
	}
	if item.deferred {
		item.reason, item.err = item.attempt.message, item.before.err
	}
	if item.err != nil {
		item.reason = item.err.Error()
		if !errors.Is(item.err, errPanicked) {
			a.failed = item.err
		}
	}
	if item.paced {
		a.paced = object.workload.String()
	}
	if a.unevaluated = item.unevaluated && item.supposed == nil; item.supposed != nil {
		a.would, a.supposed = item.supposed.would, item.supposed.message
	}
	placed := item.found && !item.stale
	switch {
	case placed:
		p.reportPlaced(ctx, item, &a)
	case item.deferred && item.reason == "":
		a.undecided = true
	default:
		a.waiting = fmt.Sprintf("%s: %s", object.workload, item.reason)
		if object.err == nil && object.end == "" {
			p.asked(ctx, item, &a)
		}
	}
	if !item.tried && (!placed || item.attempt.inputs == "") {
		item.attempt = attempt{}
	}
	p.followWaiting(item, a.waiting != "" || a.partial != "")
	p.index.setClusters(item, item.clusters())
	p.index.setOpen(item, !item.satisfied)
	if item.err != nil || item.deferred || item.unevaluated || item.paced || item.lacks {
		p.index.add(item, leftOver)
	}
	item.enter(a)
}

// clusters returns the clusters that the decision on a workload names.
func (item *workItem) clusters() (names []string) {
	for _, c := range item.stored.Clusters {
		names = append(names, c.Name)
	}
	return names
}

// asked returns the placement of a workload as policies schedule it, and enters that into its account; nil if it is not known.
func (p *pass) asked(ctx context.Context, item *workItem, a *account) *placement.Placement {
	owner := item.owner
	if owner.placement == nil || item.err != nil {
		return nil // the workload's own state explains why
	}
	under, err := p.engine.Scheduled(ctx, engine.Request{Workspace: p.name, Placement: owner.placement, Workload: p.asks(item), Shadow: owner.candidate})
	if err != nil {
		return nil
	}
	if under == owner.placement {
		return under
	}
	a.under = under
	if under.TolerationsEnd {
		if key, err := json.Marshal(under.Tolerations); err == nil {
			a.timed = string(key)
		}
	}
	return under
}

func (p *pass) reportPlaced(ctx context.Context, item *workItem, a *account) {
	a.placed, a.clusters = true, item.clusters()
	p.result.do(func() { a.delivery = p.reportDelivery(item) })
	switch {
	case item.attempt.message == "":
	case item.stored.WaitingReplicas > 0:
		a.partial = fmt.Sprintf("%s: %s", item.object.workload, item.attempt.message)
		a.waitingReplicas = item.stored.WaitingReplicas
	default:
		a.retained = fmt.Sprintf("%s %s", item.object.workload, item.attempt.message)
	}
	if expired := expiredSince(item.stored); len(expired) > 0 {
		a.expired = fmt.Sprintf("%s %s", item.object.workload, strings.Join(expired, ", "))
	}
	has := len(item.stored.Clusters)
	if asked := p.asked(ctx, item, a); asked != nil && asked.Division == nil && !asked.AllClusters && has < asked.NumberOfClusters {
		a.fewer = fmt.Sprintf("%s has %d of %d", item.object.workload, has, asked.NumberOfClusters)
	}
}
