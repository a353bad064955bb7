package engine

import (
	"cmp"
	"iter"
	"slices"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/fairness"
	"github.com/kcp-placement/placement/internal/partition"
)

// grants are the grants of a workspace, ordered by the names of their sets.
type grants struct {
	all []Grant
	// groups are the distinct combinations of sets that clusters are in, as indices into all; of is the group of each cluster.
	groups [][]int
	of     map[string]int
	// bySize lists the sets, those with fewer clusters first; shared lists the groups, those with more sets first.
	bySize, shared []int
}

func newGrants(all []Grant) *grants {
	g := &grants{all: slices.Clone(all)}
	slices.SortFunc(g.all, func(a, b Grant) int { return cmp.Compare(a.Set, b.Set) })
	clusters := make([][]string, len(g.all))
	for set := range g.all {
		clusters[set], g.bySize = g.all[set].Clusters, append(g.bySize, set)
	}
	g.groups, g.of = partition.Of(clusters)
	for group := range g.groups {
		g.shared = append(g.shared, group)
	}
	slices.SortStableFunc(g.shared, func(a, b int) int { return cmp.Compare(len(g.groups[b]), len(g.groups[a])) })
	slices.SortStableFunc(g.bySize, func(a, b int) int { return cmp.Compare(len(g.all[a].Clusters), len(g.all[b].Clusters)) })
	return g
}

// groupOf returns the group of sets that a cluster is in, -1 if it is in none.
func (g *grants) groupOf(cluster string) int {
	if g != nil {
		if group, granted := g.of[cluster]; granted {
			return group
		}
	}
	return -1
}

// setsOf returns the sets of a group.
func (g *grants) setsOf(group int) []int {
	if group < 0 {
		return nil
	}
	return g.groups[group]
}

func (g *grants) in(group, set int) bool { return slices.Contains(g.setsOf(group), set) }

// on yields the grants of the sets that a cluster is in.
func (g *grants) on(cluster string) iter.Seq[*Grant] {
	return func(yield func(*Grant) bool) {
		for _, set := range g.setsOf(g.groupOf(cluster)) {
			if !yield(&g.all[set]) {
				return
			}
		}
	}
}

func (g *grants) quotas() []capacity.Quota {
	all := make([]capacity.Quota, len(g.all))
	for i := range g.all {
		all[i] = capacity.Quota{Set: g.all[i].Set, Clusters: g.all[i].Clusters, Whole: g.all[i].Limits(), Each: g.all[i].ClusterQuota}
	}
	return all
}

func (g *Grant) quotas() fairness.Quotas {
	t := fairness.Quotas{Quota: g.Quota, BorrowingLimit: g.BorrowingLimit, Weight: g.Weight}
	for name, amount := range g.Guaranteed {
		t.Guaranteed = t.Guaranteed.Add(capacity.Of(name, amount))
	}
	return t
}

// Most returns the most of a resource that the grant may ever allow on one cluster, math.MaxInt64 if that is not bounded.
func (g *Grant) Most(resource string) int64 {
	quotas := g.quotas()
	most := quotas.Limit(resource)
	if each, bounded := g.ClusterQuota[resource]; bounded {
		most = min(most, each)
	}
	return most
}

// Share makes a workspace use the fleet of another one through grants, which replace those that it had. It sees the clusters that are
// granted. It also sees those on which something is reserved for it, as clusters that it should leave: without a grant nothing new is
// placed there, and what is there stays until there is another place. It fails with an *InvalidError.
func (e *Engine) Share(workspace, fleet logicalcluster.Name, all []Grant) error {
	if err := validateGrants(workspace, fleet, all); err != nil {
		return err
	}
	owner := e.workspace(fleet)
	owner.share()
	w := e.workspace(workspace)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attach(owner.own, newGrants(all))
	return nil
}

// share makes the workspace's own fleet, if it uses that, one that others may change as well.
func (w *workspace) share() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.window == nil && w.fleet == w.own {
		w.attach(w.own, nil)
	}
}

// Unshare makes a workspace use its own fleet again. What is reserved for it on another one stays until ReleaseAll.
func (e *Engine) Unshare(workspace logicalcluster.Name) {
	w := e.lookUp(workspace)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fleet != w.own {
		w.attach(w.own, nil)
	}
}

// ReleaseAll releases everything that is reserved for a workspace on a fleet, and returns whether that was anything.
func (e *Engine) ReleaseAll(workspace, fleet logicalcluster.Name) (freed bool) {
	f := e.fleetOf(fleet)
	if f == nil {
		return false
	}
	w := e.lookUp(workspace)
	w.mu.Lock()
	defer w.mu.Unlock()
	freed = f.releaseAll(workspace)
	if freed && w.fleet == f {
		w.recountAll()
	}
	return freed
}

// attach makes a workspace use a fleet, through grants unless it is its own. The workspace is locked.
func (w *workspace) attach(f *fleet, through *grants) {
	if before := w.fleet; before != f {
		before.mu.Lock()
		before.lines.dismiss(w.name)
		before.mu.Unlock()
	}
	f.mu.Lock()
	if w.window == nil || w.fleet != f {
		// Invariant: generations only grow, so nothing that was kept for one fleet is mistaken for something of another.
		w.window = &window{}
		w.window.rows.ContinueFrom(w.seen)
		w.fleet, w.seen = f, &w.window.rows
		f.shared = true
		if ledger := f.ledgerOf(w.name); ledger != w.ledger {
			w.ledger = ledger
			defer w.recountAll()
		}
	}
	if w.window.grants, w.window.stale = through, true; through != nil {
		w.ledger.SetQuotas(through.quotas())
		f.lines.admit(w, through)
	}
	f.mu.Unlock()
}

// leaveLine removes a workspace from the line of the fleet that it uses.
func (w *workspace) leaveLine() {
	w.mu.Lock()
	f := w.fleet
	w.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines.dismiss(w.name)
}

// releaseAll releases everything that is reserved for a workspace.
func (f *fleet) releaseAll(workspace logicalcluster.Name) (freed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ledger := f.ledgers[workspace]
	if ledger == nil {
		return false
	}
	for _, cluster := range ledger.ReleaseAll() {
		freed = true
		f.updateReservedOn(cluster)
	}
	f.lines.ease(workspace)
	return freed
}

// forget removes the clusters and what is reserved for the fleet's own workspace. It returns whether the fleet itself can be dropped: no
// other workspace uses it.
func (f *fleet) forget() bool {
	f.mu.Lock()
	shared := f.shared
	var names []string
	for i := range f.rows.Len() {
		names = append(names, f.rows.Row(i).Name)
	}
	f.mu.Unlock()
	if !shared {
		return true
	}
	f.releaseAll(f.name)
	for _, name := range names {
		f.removeCluster(name)
	}
	return false
}

// Account is what a workspace has of a set of clusters.
type Account struct {
	Workspace logicalcluster.Name
	// Set is empty for what the fleet's own workspace has, and for what others have on clusters that are not granted to them.
	Set string
	// Promised is everything that is promised, Reserved the part of it that no report counts yet.
	Promised, Reserved capacity.Resources
	// Quota is the quota of the grant, and Left what it leaves, negative if more is promised.
	Quota, Left map[string]int64
}

// Room returns what is free for a workspace on each cluster that it sees: no more than its quotas leave, nothing if these are
// exceeded, and nothing on a cluster that is no longer granted.
func (e *Engine) Room(workspace logicalcluster.Name) map[string]capacity.Resources {
	room := map[string]capacity.Resources{}
	for _, row := range e.Snapshot(workspace).Rows() {
		switch {
		case row.Withdrawn:
			room[row.Name] = capacity.Resources{}
		case row.Quota != nil:
			room[row.Name] = row.Free.Combine(row.Quota.Free, func(left, free int64) int64 { return max(left, min(free, 0)) })
		default:
			room[row.Name] = row.Free
		}
	}
	return room
}

// fleetOf returns the fleet of a workspace, nil if there is none.
func (e *Engine) fleetOf(workspace logicalcluster.Name) *fleet {
	e.making.Lock()
	defer e.making.Unlock()
	return e.fleets[workspace]
}

// Accounts returns what workspaces have of a fleet, ordered by workspace and set.
func (e *Engine) Accounts(fleet logicalcluster.Name) (all []Account) {
	f := e.fleetOf(fleet)
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, ledger := range f.ledgers {
		all = append(all, accountsIn(name, ledger)...)
	}
	slices.SortFunc(all, func(a, b Account) int {
		return cmp.Or(cmp.Compare(a.Workspace, b.Workspace), cmp.Compare(a.Set, b.Set))
	})
	return all
}

// AccountsOf returns what one workspace has of the fleet that it uses, by the names of the sets.
func (e *Engine) AccountsOf(workspace logicalcluster.Name) []Account {
	w := e.lookUp(workspace)
	w.mu.Lock()
	ledger := w.ledger
	w.mu.Unlock()
	return accountsIn(workspace, ledger)
}

func accountsIn(workspace logicalcluster.Name, ledger *capacity.Ledger) (all []Account) {
	for _, a := range ledger.Accounts() {
		all = append(all, Account{Workspace: workspace, Set: a.Set, Promised: a.Promised, Reserved: a.Reserved, Quota: a.Quota, Left: a.Left})
	}
	return all
}
