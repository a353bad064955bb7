package controller

import (
	"context"
	"slices"

	"github.com/kcp-placement/placement/engine"
)

// maxInLineEach is how many workloads of a placement stand in line for room on shared clusters: the first.
const maxInLineEach = 8

// standInLine says which workloads wait for room on clusters that other workspaces share, and has passes be made over those workspaces
// whose turn it is to look at what is free. While it cannot decide, it has nobody stand in line.
func (w *workspace) standInLine(ctx context.Context, p *pass, decides bool, r *result) {
	if w.host == nil {
		return
	}
	var waiting []engine.Request
	if decides {
		waiting = p.inLine()
	}
	call, blind := w.engine.SetLine(ctx, w.name, waiting)
	for _, name := range call {
		if name == w.name {
			r.again = true
		} else {
			w.host.wake(name)
		}
	}
	if blind {
		r.within(engine.TurnWithin)
	}
}

// inLine are the workloads that wait for room, in turn, of those that are decided on as soon as there is any.
func (p *pass) inLine() (waiting []engine.Request) {
	if !p.inForce || p.now().Before(p.restUntil) {
		return nil
	}
	var items []*workItem
	for _, s := range p.placements {
		if s.err != nil || s.suspension != nil {
			continue
		}
		for _, of := range []*lines{&s.waiting, &s.partial, &s.standing} {
			for _, l := range of.upTo(maxInLineEach) {
				if item := l.item; item.err == nil && !item.deferred && !item.paced && p.nominations[item.key] == nil {
					items = append(items, item)
				}
			}
		}
	}
	slices.SortFunc(items, inTurn)
	for _, item := range slices.Compact(items) {
		waiting = append(waiting, p.request(item))
	}
	return waiting
}
