package engine

import (
	"context"
	"slices"

	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/selection"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// class is all that a decision rests on but the clusters. What can be said of a cluster is a function of the class
// and the cluster's row, and a row never changes: this is what makes a cached ranking exact.
type class struct {
	digest    string
	placement *Placement
	workload  *workload.Workload
	judgement *policy.Judgement
}

// ranking is what was found of every cluster of a snapshot. It is not changed once it is made.
type ranking struct {
	class    *class
	snapshot *snapshot.Snapshot
	// outcomes in the order of the snapshot's rows.
	outcomes []*outcome
	// feasible candidates, best first.
	feasible []*selection.Candidate
}

type outcome struct {
	row *snapshot.Row
	// failure is nil where the cluster is feasible.
	failure   *failure
	candidate selection.Candidate
}

func (c *class) evaluate(row *snapshot.Row) *outcome {
	o := &outcome{row: row, failure: c.infeasible(row, false)}
	if o.failure == nil {
		o.candidate.Name = row.Name
		o.candidate.Score = scoring.Of(row, c.workload.Requests, c.judgement.Weights, c.judgement.Terms)
	}
	return o
}

// rank ranks the clusters of a snapshot. Only those whose row is not the one that previous was made with are looked
// at again; previous may be nil. It fails only where ctx ends.
func (c *class) rank(ctx context.Context, s *snapshot.Snapshot, previous *ranking) (*ranking, error) {
	if previous == nil {
		previous = &ranking{snapshot: &snapshot.Snapshot{}}
	}
	if previous.snapshot == s {
		return previous, nil
	}
	r := &ranking{class: c, snapshot: s, outcomes: make([]*outcome, len(s.Rows))}
	known := previous.outcomes
	stale := map[*selection.Candidate]bool{}
	var fresh []*selection.Candidate
	for i, row := range s.Rows {
		if i%16 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		// Both sides are ordered by name: pass over clusters that are gone.
		for len(known) > 0 && known[0].row.Name < row.Name {
			stale[&known[0].candidate], known = true, known[1:]
		}
		if len(known) > 0 && known[0].row == row {
			r.outcomes[i], known = known[0], known[1:]
			continue
		}
		r.outcomes[i] = c.evaluate(row)
		if r.outcomes[i].failure == nil {
			fresh = append(fresh, &r.outcomes[i].candidate)
		}
		if len(known) > 0 && known[0].row.Name == row.Name {
			stale[&known[0].candidate], known = true, known[1:]
		}
	}
	for _, o := range known {
		stale[&o.candidate] = true
	}
	r.feasible = merge(previous.feasible, stale, fresh, c.placement.strategy.Compare)
	return r, nil
}

// merge takes the stale candidates out of a ranked list and puts the fresh ones in.
func merge(ranked []*selection.Candidate, stale map[*selection.Candidate]bool, fresh []*selection.Candidate,
	compare func(a, b *selection.Candidate) int,
) []*selection.Candidate {
	slices.SortFunc(fresh, compare)
	merged := make([]*selection.Candidate, 0, len(ranked)+len(fresh))
	for _, c := range ranked {
		if stale[c] {
			continue
		}
		for len(fresh) > 0 && compare(fresh[0], c) < 0 {
			merged, fresh = append(merged, fresh[0]), fresh[1:]
		}
		merged = append(merged, c)
	}
	return append(merged, fresh...)
}
