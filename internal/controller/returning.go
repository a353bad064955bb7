package controller

import (
	"context"
	"time"

	"github.com/kcp-placement/placement/engine"
)

// betterGroup is a fallback group that has had room for a workload for some time.
type betterGroup struct {
	group string
	since time.Time
}

// mayReturn reports whether a workload returns to a better fallback group now: one that has had room for it in every pass for the group's
// returnAfter. After a restart that time starts again. Returns are paced like all disruptions.
func (p *pass) mayReturn(ctx context.Context, item *workItem, r *engine.Request) (bool, error) {
	if len(r.Current) == 0 || len(r.Placement.Groups) == 0 {
		return false, nil
	}
	better, err := p.engine.BetterGroup(ctx, *r)
	if err != nil || better == "" {
		return false, err
	}
	since, now := item.before.returning, p.now()
	if since.group != better {
		since = betterGroup{better, now}
	}
	item.returning = since
	if at := since.since.Add(r.Placement.GroupNamed(better).ReturnAfter); at.After(now) {
		p.index.wakeAt(item, at)
		return false, nil
	}
	item.returnTo, r.Return = better, better
	return true, nil
}
