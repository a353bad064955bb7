package engine

import (
	"context"
	"errors"

	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/snapshot"
)

const (
	// maxTogether is how many decisions of a batch are allocated together at most: while one of them is referenced, all stay in memory.
	maxTogether = 16
	// maxFollowed is how many decisions of a batch are made at most before the workspace reads what others have done on the fleet.
	maxFollowed = 512
)

// batch is a call of DecideBatch in one workspace.
type batch struct {
	*workspace
	requests []Request
	results  []Result
	// next is the index of the request to decide.
	next int
	// classes that were looked up, by hash, and the view of the last request.
	classes   map[uint64]*class
	viewed    viewKey
	lastView  *ranking.View
	decisions []Decision
	choices   choices
}

// errKeptOut ends an attempt that ignores what is placed, if a term of others may keep the workload away.
var errKeptOut = errors.New("affinity of other workloads counts")

// errNewPolicies ends an attempt under policies that are no longer in force.
var errNewPolicies = errors.New("the policies have changed")

// decideBatch decides the requests of this workspace in order. It keeps the workspace locked from one request to the next,
// as long as their classes are known and their rankings are not far behind.
func (w *workspace) decideBatch(ctx context.Context, requests []Request, results []Result) {
	b := &batch{workspace: w, requests: requests, results: results, classes: make(map[uint64]*class, 16)}
	for b.next < len(requests) {
		if err := requests[b.next].validate(ctx); err != nil {
			results[b.next].Err = err
			b.next++
			continue
		}
		if requests[b.next].Placement.Plans() || b.policiesOf(&requests[b.next]).Schedules() {
			results[b.next].Decision, results[b.next].Err = w.decide(ctx, &requests[b.next], true)
			b.next++
			continue
		}
		c, cached := b.reusedClass(&requests[b.next])
		var err error
		if !cached {
			if c, cached, err = w.classOf(ctx, &requests[b.next]); err == nil {
				if c.Policy.Policies.Schedules() {
					continue // they have just come into force
				}
				b.classes[c.hash] = c
			}
		}
		if err == nil {
			var decided bool
			if decided, err = b.tryKeeping(c, cached); decided {
				continue
			}
		}
		if err == nil {
			err = w.withRanking(ctx, c, func(s snapshot.Snapshot) error { return b.decideLocked(ctx, c, s, cached) })
		}
		switch {
		case errors.Is(err, errNewPolicies):
			clear(b.classes)
		case errors.Is(err, errTaken):
		case errors.Is(err, errKeptOut), errors.As(err, new(*othersFirst)):
			results[b.next].Decision, results[b.next].Err = w.decide(ctx, &requests[b.next], true)
			b.next++
		case err != nil:
			b.results[b.next].Err = err
			b.next++
		}
	}
}

// reusedClass returns the class of a request if the batch has looked it up before.
func (b *batch) reusedClass(r *Request) (*class, bool) {
	if key := (viewKey{r.Placement, b.policiesOf(r)}); b.lastView == nil || b.viewed != key {
		b.viewed, b.lastView = key, b.view(r)
	}
	v := b.lastView
	c := b.classes[v.ClassHash(r.Workload)]
	return c, c != nil && v.InClass(r.Workload, c.Class)
}

// decision returns the decision for the next request, and allocates it if needed.
func (b *batch) decision() *Decision {
	if len(b.decisions) == 0 {
		b.decisions = make([]Decision, min(len(b.requests)-b.next, maxTogether))
	}
	b.choices.left = len(b.requests) - b.next
	return &b.decisions[0]
}

// decided records the decision for the next request as its result.
func (b *batch) decided(cached bool) {
	b.results[b.next].Decision, b.decisions = &b.decisions[0], b.decisions[1:]
	b.options.Metrics.Request(cached)
	b.next++
}

// tryKeeping decides the next request if that needs no ranking.
func (b *batch) tryKeeping(c *class, cached bool) (decided bool, err error) {
	if decided, err = b.workspace.tryKeeping(b.decision(), &b.choices, c, &b.requests[b.next], cached, true); decided && err == nil {
		b.decided(cached)
	}
	return decided && err == nil, err
}

// decideLocked decides the next request, whose class has a current ranking, and as many after it as it can. It does not read what others do
// on a shared fleet meanwhile: if they have taken the room, or clusters have changed, reserve fails.
func (b *batch) decideLocked(ctx context.Context, c *class, s snapshot.Snapshot, cached bool) error {
	defer b.startFollowing()()
	for last := b.next + maxFollowed; ; {
		switch {
		case b.policiesOf(&b.requests[b.next]) != c.Policy.Policies:
			return errNewPolicies
		case b.keepsOut(&b.requests[b.next]):
			return errKeptOut
		}
		if err := b.selectFor(b.decision(), &b.choices, c, &b.requests[b.next], &s, cached, true); err != nil {
			return err
		}
		if b.decided(cached); b.next == len(b.requests) || b.requests[b.next].validate(ctx) != nil {
			return nil
		}
		if c, cached = b.reusedClass(&b.requests[b.next]); !cached || b.next >= last || !b.follow() {
			return nil
		}
		s = b.snapshotFor(c)
		if current, err := b.refresh(ctx, c, &s); !current || err != nil {
			return err
		}
	}
}
