package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/kcp-placement/placement/engine/snapshot"
)

// decide is the whole path of a decision, with the workload scheduled as the policies in force say.
func (w *workspace) decide(ctx context.Context, r *Request, reserve bool) (*Decision, error) {
	if err := r.validate(ctx); err != nil {
		return nil, err
	}
	for {
		in, policies, err := w.scheduled(ctx, r)
		if err != nil {
			return nil, err
		}
		d, err := w.decideAs(ctx, in, reserve)
		if err != nil {
			return nil, err
		}
		if d.class.Policy.Policies != policies {
			continue // they have changed, and may schedule the workload differently
		}
		if in != r {
			d.InputsDigest = w.inputsDigest(r)
		}
		w.options.Metrics.Request(d.Cached)
		return d, nil
	}
}

// decideAs decides a request as it is scheduled. If others come first on clusters that it would choose, it decides again without these.
func (w *workspace) decideAs(ctx context.Context, r *Request, reserve bool) (*Decision, error) {
	for {
		d, err := w.decideAmong(ctx, r, reserve)
		if err == nil {
			return d, nil
		}
		var others *othersFirst
		if !errors.As(err, &others) {
			return nil, err
		}
		rest := *r
		rest.withheld = slices.Concat(r.withheld, others.clusters)
		r = &rest
	}
}

// decideAmong decides a request on the clusters that are not withheld from it.
func (w *workspace) decideAmong(ctx context.Context, r *Request, reserve bool) (*Decision, error) {
	if r.Placement.Plans() {
		return w.decideTogether(ctx, r, reserve)
	}
	for {
		// Find the class of the workload, and with it what the policies decide for it.
		c, cached, err := w.classOf(ctx, r)
		if err != nil {
			return nil, err
		}
		// See whether the workload keeps what it has. Otherwise rank the clusters for the class: locked and current, so that
		// what is selected can be reserved.
		d := new(Decision)
		decided, err := w.tryKeeping(d, &choices{}, c, r, cached, reserve)
		if !decided && err == nil {
			err = w.withRanking(ctx, c, func(s snapshot.Snapshot) error {
				switch {
				case w.policiesOf(r) != c.Policy.Policies:
					return errNewPolicies
				case w.keepsOut(r):
					return errKeptOut
				}
				return w.selectFor(d, &choices{}, c, r, &s, cached, reserve)
			})
		}
		switch {
		case errors.Is(err, errNewPolicies), errors.Is(err, errTaken):
		case errors.Is(err, errKeptOut):
			return w.decideTogether(ctx, r, reserve)
		case err != nil:
			return nil, err
		default:
			return d, nil
		}
	}
}
