package engine

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// selectFor selects clusters for a workload from the ranking of its class, makes the decision in d, and reserves it if
// reserve is set. What the workload itself holds does not count. The workspace is locked, and the ranking is current for
// the snapshot.
func (w *workspace) selectFor(d *Decision, choices *choices, c *class, r *Request, s *snapshot.Snapshot, cached, reserve bool) error {
	if r.MinGain > 0 {
		r = w.forGainOf(c, r, s)
	}
	held := w.holdingOf(c, r)
	w.begin(d, c, r, s, &held, cached)
	if len(r.Current) > 0 {
		places := w.placesOf(r, &held, nil, c)
		number := c.Strategy.Number - len(places.kept)
		others, b := w.selectOthers(c, r, &held, &places, number)
		d.quota = b
		return w.stay(d, choices, c, r, &places, others, reserve)
	}
	chosen, b := w.selectFrom(c, r, &held)
	d.quota = b
	if len(chosen) > 0 {
		d.Clusters = choices.take(len(chosen))
	}
	for i, key := range chosen {
		d.Clusters[i] = w.choose(c, key)
	}
	d.changes = true
	if !reserve {
		return w.mayYield(r, d)
	}
	return w.reserve(r, d, chosen)
}

// begin begins a decision in d.
func (w *workspace) begin(d *Decision, c *class, r *Request, s *snapshot.Snapshot, held *holding, cached bool) {
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
		holding:      *held,
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

// selectFrom takes clusters from the ranking for a workload that may already hold something: while they are selected, its
// clusters have the keys that they would have without it. It returns the budget if that may exclude some clusters.
func (w *workspace) selectFrom(c *class, r *Request, held *holding) ([]ranking.Key, *budget) {
	generation := c.ranking.Generation()
	var b *budget
	if c.Workload.PerNode || !w.ledger.Suffices(c.Workload.Requests, int64(c.Strategy.Number)) {
		if b = w.budgetOf(held); !b.binds(c, c.Strategy.Number) {
			b = nil
		}
	}
	// The last selection is not reused with a Select function, which may read more than the ranking, nor with tolerations that end, since time
	// passes.
	if c.last.generation == generation && c.last.holding.same(held) && c.Strategy.Select == nil && !c.Placement.TolerationsEnd && r.mayAddAny() && b == nil {
		return c.last.chosen, nil
	}
	ranked := c.take()
	w.current = w.takeOut(c, ranked, r, held)
	left := b.clone()
	chosen := w.selectRanked(b, c, ranked, r, held, c.Strategy.Number, c.last.chosen[:0])
	putBack(ranked, w.current)
	c.ranking = ranked
	if c.last = (selection{}); r.mayAddAny() && b == nil {
		c.last = selection{generation: generation, holding: *held, chosen: chosen}
	}
	return chosen, left.rejecting(b)
}

// selectRanked takes clusters from a ranking prepared for one request, as far as a budget has room for them.
func (w *workspace) selectRanked(b *budget, c *class, ranked *ranking.Ranking, r *Request, held *holding, number int, chosen []ranking.Key) []ranking.Key {
	switch {
	case b != nil:
		return w.selectWithin(b, c, ranked, r, held, number, chosen)
	case c.Strategy.Select == nil:
		return ranked.Best(number, chosen)
	default:
		return w.selectInTurn(&c.Strategy, ranked.Tournament, r, *held, number, chosen)
	}
}

// takeOut prepares a ranking for one request, and returns the keys that it had.
func (w *workspace) takeOut(c *class, ranked *ranking.Ranking, r *Request, held *holding) (before []positionedKey) {
	return w.takeOutOthers(ranked, r, w.takeOutEnded(c, ranked, r.Now, w.withoutHeld(ranked, held)))
}

// withoutHeld gives the clusters on which a workload holds something the keys that they would have without it, and returns
// their previous keys.
func (w *workspace) withoutHeld(ranked *ranking.Ranking, held *holding) (before []positionedKey) {
	before = w.current[:0]
	for cluster := range held.clusters {
		if position, there := w.seen.Position(cluster); there {
			before = append(before, positionedKey{position, ranked.At(position)})
			held.without(w.seen.Row(position), &w.row)
			ranked.Set(position, ranked.KeyOf(position, &w.row))
		}
	}
	return before
}

// takeOutEnded takes clusters whose toleration has ended out of a ranking, and appends their previous keys. So rankings do
// not depend on time: a key is valid for as long as tolerations last.
func (w *workspace) takeOutEnded(c *class, r *ranking.Ranking, now time.Time, before []positionedKey) []positionedKey {
	if !c.Placement.TolerationsEnd || now.IsZero() {
		return before
	}
	for position := range w.seen.Len() {
		if c.HasEnded(w.seen.Row(position), now) {
			before = append(before, positionedKey{position, r.At(position)})
			r.Set(position, 0)
		}
	}
	return before
}

// takeOutOthers takes clusters that a request may not use out of a ranking, and appends their previous keys.
func (w *workspace) takeOutOthers(ranked *ranking.Ranking, r *Request, before []positionedKey) []positionedKey {
	takeOut := func(position int) {
		if key := ranked.At(position); key != 0 {
			before = append(before, positionedKey{position, key})
			ranked.Set(position, 0)
		}
	}
	for _, name := range r.withheld {
		if position, registered := w.seen.Position(name); registered {
			takeOut(position)
		}
	}
	if r.Into == nil {
		return before
	}
	into := make([]bool, w.seen.Len())
	for _, name := range r.Into {
		if position, registered := w.seen.Position(name); registered {
			into[position] = true
		}
	}
	for position, may := range into {
		if !may {
			takeOut(position)
		}
	}
	return before
}

// putBack restores the keys of clusters, in reverse order, since one may have been changed twice.
func putBack(r *ranking.Ranking, before []positionedKey) {
	for _, k := range slices.Backward(before) {
		r.Set(k.position, k.key)
	}
}

// selectOthers takes up to number clusters from the ranking for a workload that runs somewhere, none of them its own. It returns the
// budget if that may exclude some clusters.
func (w *workspace) selectOthers(c *class, r *Request, held *holding, places *places, number int) (chosen []ranking.Key, left *budget) {
	if number <= 0 {
		return nil, nil
	}
	b := w.budgetOf(held)
	for i := range places.kept {
		b.take(places.kept[i].choice)
	}
	left = b.clone()
	if !b.binds(c, number) {
		b = nil
	}
	ranked := c.take()
	w.current = w.takeOut(c, ranked, r, held)
	for i := range r.Current {
		if position, there := w.seen.Position(r.Current[i].Name); there {
			w.current = append(w.current, positionedKey{position, ranked.At(position)})
			ranked.Set(position, 0)
		}
	}
	chosen = w.selectRanked(b, c, ranked, r, held, number, nil)
	putBack(ranked, w.current)
	c.ranking = ranked
	chosen = chosen[:min(number, len(chosen))]
	for len(chosen) > 0 && left.exceeded(w, c, places, chosen) {
		chosen = chosen[:len(chosen)-1]
	}
	return chosen, left.rejecting(b)
}

// selectInTurn selects by a strategy's own Select. It takes held by value, which would otherwise escape to the heap.
func (w *workspace) selectInTurn(s *ranking.Strategy, t *ranking.Tournament, r *Request, held holding, number int, chosen []ranking.Key) []ranking.Key {
	turn := w.turn(r, held, number)
	return s.Select(t, &turn, chosen)
}

// turn returns what a strategy knows of a workload.
func (w *workspace) turn(r *Request, held holding, number int) ranking.Turn {
	group, ref := r.group(), &r.Workload.Reference
	return ranking.Turn{
		Number: number,
		Seed:   seedOf(cmp.Or(ref.UID, ref.String())),
		InUse: func(position int) int {
			name := w.seen.Row(position).Name
			n := w.ledger.InGroup(group, name)
			if held.Group == group && held.ShareOn(name) != nil {
				n-- // the workload's own
			}
			return n
		},
	}
}

// seedOf returns a hash that is the same in every process.
func seedOf(uid string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(uid))
	return h.Sum64()
}

// holding is what a workload holds. It does not count when that workload is decided on.
type holding struct {
	*capacity.Claim
	// counted is what its clusters count for the workload, as of that number of reports; nil if none counts anything.
	counted []capacity.Resources
	reports int64
	// former is set if an earlier workload of the same name holds it, whose pods are not those of the current one.
	former bool
	// gone is what does not count of others that the workload takes the place of; nil if nothing.
	gone *gone
}

func (h *holding) same(o *holding) bool {
	return h.Claim == o.Claim && h.reports == o.reports && h.former == o.former && h.gone == o.gone
}

// clusters yields the clusters on which anything does not count.
func (h *holding) clusters(yield func(string) bool) {
	for i := range h.Shares {
		if !yield(h.Shares[i].Cluster) {
			return
		}
	}
	for cluster := range h.gone.clusters {
		if h.index(cluster) < 0 && !yield(cluster) {
			return
		}
	}
}

// index returns the index of the share on a cluster, -1 if there is none.
func (h *holding) index(cluster string) int {
	return slices.IndexFunc(h.Shares, func(s capacity.Share) bool { return s.Cluster == cluster })
}

var nothing = holding{Claim: &capacity.Claim{}}

func (w *workspace) holdingOf(c *class, r *Request) holding {
	claim := w.ledger.Claim(r.owner())
	gone := r.gone
	if len(r.Instead) > 0 {
		gone = w.instead(r.Instead)
	}
	if claim == nil {
		h := nothing
		h.gone = gone
		return h
	}
	h := holding{Claim: claim, reports: w.reports, former: claim.UID != r.Workload.UID, gone: gone}
	if last := &c.last.holding; last.same(&h) {
		return *last
	}
	h.counted = w.counted(claim)
	return h
}

// without stores in to the row of a cluster as it would be without what does not count. It returns false if everything counts.
func (h *holding) without(row, to *snapshot.Row) bool {
	i, rest := h.index(row.Name), h.gone.from(row.Name)
	if i < 0 && rest == nil {
		return false
	}
	var promised, reserved, counted capacity.Resources
	if i >= 0 {
		promised = h.Shares[i].Amount
		if h.counted != nil {
			counted = h.counted[i]
		}
		reserved = h.Shares[i].Reserved(counted)
		if h.former {
			counted = capacity.Resources{}
		}
	}
	if rest != nil {
		promised, reserved, counted = promised.Add(rest.promised), reserved.Add(rest.reserved), counted.Add(rest.counted)
	}
	row.Without(promised, reserved, counted, to)
	return true
}

// reserve records a decision in the ledger, in place of what the workload held before; chosen are the keys of its clusters. It returns
// errTaken if the fleet has changed since the workspace last read it, so that the decision is no longer possible.
func (w *workspace) reserve(r *Request, d *Decision, chosen []ranking.Key) error {
	group, before := r.group(), d.holding.Claim
	if len(r.Instead) == 0 && before.Group == group && before.UID == r.Workload.UID && sameShares(before.Shares, d.Clusters) && !w.relabelled(before, r) {
		return nil
	}
	claim := claimOf(r, d)
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	v := w.window
	if v != nil && (len(before.Shares) > 0 || len(r.Instead) > 0) {
		v.follows = false // other clusters than those of the decision change as well
	}
	if len(d.Clusters) == 0 {
		w.recount(r.owner(), w.ledger.Release(r.owner()), nil)
		w.holdGivenUp(r, d, nil)
		w.fleet.updateReserved(before)
		w.fleet.lines.decided(w.name, r.owner(), d)
		return nil
	}
	if v != nil && v.facts != w.fleet.rows.Facts() {
		return errTaken
	}
	if err := w.yields(r, d); err != nil {
		return err
	}
	w.addRepulsions(r.Placement) // before the claim: it is counted below
	instead := make([]*capacity.Claim, len(r.Instead))
	for i, h := range r.Instead {
		instead[i] = w.ledger.Release(h.owner)
	}
	if err := w.ledger.Update(r.owner(), claim); err != nil {
		for i, h := range r.Instead {
			if instead[i] != nil {
				w.ledger.Restore(h.owner, instead[i])
			}
		}
		if v != nil && v.synced != w.fleet.recent.generation {
			return errTaken
		}
		// The ranking is current for what the ledger holds: the two cannot differ.
		return fmt.Errorf("the ledger refuses what was decided: %w", err)
	}
	w.recount(r.owner(), before, claim)
	w.holdGivenUp(r, d, claim)
	w.fleet.updateReserved(before)
	for _, released := range instead {
		if released != nil {
			w.fleet.updateReserved(released)
		}
	}
	w.fleet.lines.decided(w.name, r.owner(), d)
	w.ledger.EachReserved(claim, func(i int, reserved capacity.Resources) {
		index := w.fleetIndex(chosen[i].Position())
		if w.fleet.reserveAt(index, reserved); v != nil && v.follows {
			v.ownUpdates = append(v.ownUpdates, v.updateOf(w.fleet, index))
		}
	})
	return nil
}

// claimOf returns the claim that a decision makes.
func claimOf(r *Request, d *Decision) *capacity.Claim {
	claim := capacity.NewClaim(len(d.Clusters))
	claim.UID, claim.Group, claim.Labels = r.Workload.UID, r.group(), r.Workload.Labels
	claim.Idle, claim.Repels = r.Workload.End.RequestsNothing(), r.Placement.RepelsByPolicies()
	for i := range d.Clusters {
		claim.Shares[i] = capacity.Share{Cluster: d.Clusters[i].Name, Amount: d.Clusters[i].Reserved, Expired: d.Clusters[i].Expired}
	}
	return claim
}

// errTaken ends an attempt that was decided on an outdated view of the fleet.
var errTaken = errors.New("others have taken the room meanwhile")

// sameShares reports whether shares are what choices reserve.
func sameShares(shares []capacity.Share, choices []Choice) bool {
	if len(shares) != len(choices) {
		return false
	}
	for i := range shares { // in place: both are large
		s, c := &shares[i], &choices[i]
		if s.Cluster != c.Name || s.Expired != c.Expired || !s.Amount.Same(c.Reserved) {
			return false
		}
	}
	return true
}
