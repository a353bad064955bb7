package rebalance

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/int128"
)

// state is the world in the course of moves.
type state struct {
	World
	Options
	ctx   context.Context
	items []item
	// clusters by name, sorted.
	clusters []string
	// done are the moves that have led here, each with how to undo it.
	done []step
	// asked counts decisions of the engine.
	asked int
	// err ended the computation.
	err error
	// kinds is what is known of workloads that are alike.
	kinds map[string]*kind
	seed  maphash.Seed
	// fleet holds the rows as they are now, by name and in order; nil after a change.
	fleet *fleet
}

type fleet struct {
	rows   []*snapshot.Row
	byName map[string]*snapshot.Row
}

// item is a workload where it is now.
type item struct {
	*Workload
	index   int
	current []engine.Choice
	*kind
	// like identifies items that can replace each other in a plan: they are of the same kind, and in the same place.
	like string
}

// kind is a set of workloads that differ in nothing but their names.
type kind struct {
	name string
	// fixed is why the engine is not asked about them.
	fixed string
	// goes holds the clusters whose properties let them run there.
	goes    map[string]bool
	divided bool
}

// move of a workload, by its index.
type move struct {
	workload int
	from, to string
}

type step struct {
	move
	undo func()
}

func newState(ctx context.Context, world World, options Options) (*state, error) {
	s := &state{World: world, Options: options, ctx: ctx, kinds: map[string]*kind{}, seed: maphash.MakeSeed(), items: make([]item, len(world.Workloads))}
	for _, row := range s.rows() {
		s.clusters = append(s.clusters, row.Name)
	}
	for i := range world.Workloads {
		w := &world.Workloads[i]
		s.items[i] = item{Workload: w, index: i, current: w.Current}
		if err := s.classify(&s.items[i]); err != nil {
			return nil, err
		}
		s.items[i].like = s.likeness(&s.items[i])
	}
	return s, nil
}

// now is the fleet after the moves so far.
func (s *state) now() *fleet {
	if s.fleet == nil {
		s.fleet = &fleet{rows: s.Engine.Snapshot(s.Workspace).Rows(), byName: map[string]*snapshot.Row{}}
		for _, row := range s.fleet.rows {
			s.fleet.byName[row.Name] = row
		}
	}
	return s.fleet
}

func (s *state) rows() []*snapshot.Row { return s.now().rows }

// row of a cluster, nil where there is none.
func (s *state) row(cluster string) *snapshot.Row { return s.now().byName[cluster] }

// classify determines the kind of a workload.
func (s *state) classify(w *item) error {
	if w.Fixed != "" {
		w.kind = &kind{name: fmt.Sprintf("fixed %d", w.index), fixed: w.Fixed}
		return nil
	}
	var labels []string
	for _, key := range slices.Sorted(maps.Keys(w.Request.Workload.Labels)) {
		labels = append(labels, key+"="+w.Request.Workload.Labels[key])
	}
	name := strings.Join(append(labels, w.Request.Workload.Namespace, w.Group, s.Engine.InputsDigest(w.Request)), "\x00")
	if w.kind = s.kinds[name]; w.kind != nil {
		return nil
	}
	k := &kind{name: name, goes: map[string]bool{}}
	w.kind, s.kinds[name] = k, k
	r := w.Request
	r.Current, r.Group = nil, ""
	d, err := s.Engine.Explain(s.ctx, r)
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if err != nil {
		k.fixed = err.Error()
		return nil
	}
	k.divided = d.Divides()
	for v := range d.EachVerdict {
		k.goes[v.Cluster] = v.Rejection == nil || !v.Rejection.Stage.ReadsFacts()
	}
	return nil
}

// likeness returns the same value for items that moves cannot distinguish.
func (s *state) likeness(w *item) string {
	var b strings.Builder
	b.WriteString(w.name)
	for i := range w.current {
		c := &w.current[i]
		fmt.Fprintf(&b, "\x00%s %d %t %v %v", c.Name, c.Replicas, c.Expired, c.Reserved, s.counted(w, c.Name))
	}
	return b.String()
}

// counted returns what a cluster counts of a workload.
func (s *state) counted(w *item, cluster string) capacity.Resources {
	row := s.row(cluster)
	if row == nil || w.Request.Workload.UID == "" {
		return capacity.Resources{}
	}
	return row.Counted[w.Request.Workload.UID]
}

// takes returns what a workload takes of a cluster that it runs on.
func (s *state) takes(w *item, on *engine.Choice) capacity.Resources {
	counted := s.counted(w, on.Name)
	share := capacity.Share{Amount: on.Reserved, Expired: on.Expired}
	return share.Reserved(counted).Add(counted)
}

// asks returns what it would take of another cluster.
func (s *state) asks(w *item, from *engine.Choice, to *snapshot.Row) capacity.Resources {
	if w.divided {
		return w.Request.Workload.Share(from.Replicas).Requests
	}
	return to.On(w.Request.Workload).Requests
}

// on returns what a workload has on a cluster, nil if it has nothing.
func (w *item) on(cluster string) *engine.Choice {
	if i := slices.IndexFunc(w.current, func(c engine.Choice) bool { return c.Name == cluster }); i >= 0 {
		return &w.current[i]
	}
	return nil
}

// movable reports whether a workload may move at all.
func (w *item) movable() bool { return w.fixed == "" && len(w.current) > 0 }

// may reports whether a move can be requested at all.
func (s *state) may(w *item, from *engine.Choice, to *snapshot.Row) bool {
	if !w.movable() || !w.goes[to.Name] || w.on(to.Name) != nil {
		return false
	}
	_, short := to.Free.Lacking(s.asks(w, from, to))
	return !short
}

// because is why the engine is asked to move a workload.
var because = filter.Rejection{Stage: "Rebalance", Message: "somebody asks for it"}

// leave moves a workload from a cluster to the best one of into; to any if into is nil. It reports whether that was done; nothing else
// changes.
func (s *state) leave(w *item, from string, into []string) bool {
	had := w.on(from)
	if s.err != nil || had == nil || !w.movable() {
		return false
	}
	s.asked++
	r := s.request(w)
	r.Leave, r.Into = []engine.Verdict{{Cluster: from, Rejection: &because}}, into
	before := s.reservation(w)
	d, err := s.Engine.Decide(s.ctx, r)
	s.fleet = nil
	if s.ctx.Err() != nil {
		s.err = context.Cause(s.ctx)
		return false
	}
	if err != nil {
		return false // its policies fail for it now
	}
	to := w.exchanged(d, had)
	if to == "" {
		if d.Changes() {
			s.restore(before)
		}
		return false
	}
	was, like, reported := w.current, w.like, s.report(w, from)
	w.current = d.Clusters
	w.like = s.likeness(w)
	s.done = append(s.done, step{move{w.index, from, to}, func() {
		if reported != nil {
			s.set(reported)
		}
		w.current, w.like = was, like
		s.restore(before)
	}})
	return true
}

func (s *state) request(w *item) engine.Request {
	r := w.Request
	r.Current = w.current
	return r
}

// exchanged returns the cluster by which a decision replaces another one, with as many replicas; empty if it does anything else.
func (w *item) exchanged(d *engine.Decision, old *engine.Choice) (to string) {
	if len(d.Clusters) != len(w.current) || len(d.Left) != 1 || d.Left[0].Cluster != old.Name || d.Group != w.Group || d.Waiting > 0 {
		return ""
	}
	for i := range d.Clusters {
		c := &d.Clusters[i]
		had := w.on(c.Name)
		switch {
		case had != nil && had.Replicas == c.Replicas:
		case had == nil && to == "" && (!w.divided || c.Replicas == old.Replicas):
			to = c.Name
		default:
			return ""
		}
	}
	return to
}

// report makes a cluster report that a workload is gone, and returns its previous report; nil if it counted nothing of the workload.
func (s *state) report(w *item, cluster string) (before *snapshot.Cluster) {
	counted := s.counted(w, cluster)
	if counted.IsZero() {
		return nil
	}
	before = s.row(cluster).Cluster
	after := *before
	after.Allocated = before.Allocated.Without(counted)
	after.Counted = maps.Clone(before.Counted)
	delete(after.Counted, w.Request.Workload.UID)
	if before.LargestFree != nil { // all its pods may have been on the node with the most room
		largest := before.LargestFree.Combine(counted, func(free, more int64) int64 { return min(free+more, capacity.MaxAmount) })
		after.LargestFree = &largest
	}
	s.set(&after)
	return before
}

func (s *state) set(c *snapshot.Cluster) {
	s.fleet = nil
	if _, err := s.Engine.SetCluster(s.Workspace, c); err != nil {
		s.err = errors.Join(s.err, err)
	}
}

// reservation returns what is reserved for a workload.
func (s *state) reservation(w *item) engine.Reservation {
	r := engine.Reservation{Workload: w.Request.Workload.Reference, Placement: w.Placement.NamespacedName()}
	for _, c := range w.current {
		r.Shares = append(r.Shares, capacity.Share{Cluster: c.Name, Amount: c.Reserved, Expired: c.Expired})
	}
	return r
}

func (s *state) restore(r engine.Reservation) {
	s.fleet = nil
	if err := s.Engine.Restore(s.Workspace, r); err != nil {
		s.err = errors.Join(s.err, err)
	}
}

// rewind undoes moves until n are left.
func (s *state) rewind(n int) {
	for len(s.done) > n {
		last := s.done[len(s.done)-1]
		s.done = s.done[:len(s.done)-1]
		last.undo()
	}
}

// moves returns the moves that have led here.
func (s *state) moves() []move {
	moves := make([]move, len(s.done))
	for i := range s.done {
		moves[i] = s.done[i].move
	}
	return moves
}

// follow makes moves, and reports whether each could be made.
func (s *state) follow(moves []move) bool {
	for _, m := range moves {
		if !s.leave(&s.items[m.workload], m.from, []string{m.to}) {
			return false
		}
	}
	return true
}

// digest returns the same value for states that moves cannot distinguish.
func (s *state) digest() (digest uint64) {
	for i := range s.items {
		digest += maphash.String(s.seed, s.items[i].like)
	}
	return digest
}

// uses returns the use of the clusters, as Before.
func (s *state) uses() []ClusterUse {
	uses := make([]ClusterUse, 0, len(s.clusters))
	for _, row := range s.rows() {
		uses = append(uses, ClusterUse{Name: row.Name, Before: useOf(row)})
	}
	return uses
}

// useOf returns the use of a cluster's dominant resource.
func useOf(row *snapshot.Row) (most Use) {
	for name, allocatable := range row.Allocatable.Each {
		if h := hundredths(saturating(row.Allocated.Get(name), row.Reserved.Get(name)), allocatable); allocatable > 0 && (h > most.Hundredths || most.Resource == "") {
			most = Use{name, h}
		}
	}
	return most
}

func saturating(a, b int64) int64 { return a + min(b, math.MaxInt64-a) }

// hundredths returns the ratio of two amounts in hundredths of a percent, truncated; at most maxHundredths.
func hundredths(amount, of int64) int64 {
	if of <= 0 || amount <= 0 {
		return 0
	}
	if amount/of >= maxHundredths/10_000 {
		return maxHundredths
	}
	h, _ := int128.MulDiv(amount, 10_000, of)
	return h
}

const maxHundredths = 1_000_000_000

// weight returns the most by which an amount changes the use of a cluster.
func weight(amount capacity.Resources, row *snapshot.Row) (most int64) {
	for name, n := range amount.Each {
		if allocatable := row.Allocatable.Get(name); allocatable > 0 && n > 0 {
			most = max(most, hundredths(n, allocatable)+1)
		}
	}
	return most
}
