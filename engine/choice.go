package engine

import (
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// begin begins a decision in d.
func (w *workspace) begin(d *Decision, c *class, r *Request, s *snapshot.Snapshot, claimed *holding, cached bool) {
	*d = Decision{
		Workload:     r.Workload.Reference,
		Asked:        c.Strategy.Number,
		Weights:      c.Judgement.Weights,
		Terms:        c.Judgement.Terms,
		PolicyDigest: c.Policy.Policies.Digest(),
		InputsDigest: c.Digest,
		Generation:   s.Generation,
		Revision:     s.Generation + w.affinity.changes + w.turns.Load(),
		Cached:       cached,
		class:        c.Class,
		snapshot:     *s,
		grants:       w.grants(),
		holding:      *claimed,
		now:          r.Now,
		withheld:     r.withheld,
	}
}

// choose makes the choice of a feasible cluster.
func (w *workspace) choose(c *class, key ranking.Key) Choice {
	total, row := c.Strategy.Total(key), w.seen.Row(key.Position())
	asks := c.On(row).Workload
	return Choice{Name: row.Name, Replicas: asks.Replicas, Score: total, Reason: scoring.Reason(total), Reserved: asks.Requests}
}

// choices allocates the choices of a batch of decisions together. The zero value allocates each decision's choices on their own.
type choices struct {
	free []Choice
	// left is how many more decisions to allocate for.
	left int
}

func (c *choices) take(n int) []Choice {
	if len(c.free) < n {
		c.free = make([]Choice, n*max(1, min(c.left, maxTogether)))
	}
	c.left--
	taken := c.free[:n:n]
	c.free = c.free[n:]
	return taken
}
