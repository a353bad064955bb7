package engine

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/google/btree"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// affinity is the index of what is placed where, as far as terms of affinity between workloads need it. The workspace's mu
// guards it.
//
// Invariant: what a set counts on a cluster is the claims of the ledger with a share there whose owners are in the set.
type affinity struct {
	sets map[workloadSetKey]*workloadSet
	// selecting are the sets that have a selector.
	selecting byLabel[*workloadSet]
	// repulsions holds the terms by which the workloads of a set keep others away; repellers finds each of these terms.
	repulsions map[workloadSetKey][]placement.Affinity
	repellers  byLabel[repeller]
	inventory  *inventory
	// changes counts the changes of all fields above.
	changes int64
	// unplaced are the selectors that match no placed workload, as of changes == emptyAt.
	unplaced map[string]bool
	emptyAt  int64
	// presences bounds the number of presences in all sets; sweepAt is the number of repulsions at which unused ones are dropped.
	presences, sweepAt int
	// was and is are scratch space of recount.
	was, is []*workloadSet
}

// workloadSetKey is what the workloads of a set have in common: they match a selector, or they belong to a placement and repel others by
// the same policy terms, if by any.
type workloadSetKey struct {
	others string
	group  types.NamespacedName
	repels string
}

// workloadSet is the placed workloads that a term is about.
type workloadSet struct {
	workloadSetKey
	// others is nil for the workloads of a placement.
	others *placement.Others
	// on is the number of workloads on each cluster.
	on map[string]int
	// domains by topology key.
	domains map[snapshot.TopologyKey]*presence
}

// repeller is a term by which the workloads of a set keep others away.
type repeller struct {
	*workloadSet
	term *placement.Affinity
}

// compare orders repellers by placement, then by term.
func (r repeller) compare(o repeller) int {
	return cmp.Or(strings.Compare(r.group.String(), o.group.String()), strings.Compare(r.repels, o.repels), strings.Compare(r.term.Name, o.term.Name))
}

// byLabel finds the entries about workloads with a label: each entry is under a label that all of these have, or in rest.
type byLabel[T any] struct {
	with map[placement.Label][]T
	rest []T
}

func (l *byLabel[T]) add(others *placement.Others, one T) {
	label, known := others.Asks()
	if !known {
		l.rest = append(l.rest, one)
		return
	}
	if l.with == nil {
		l.with = map[placement.Label][]T{}
	}
	l.with[label] = append(l.with[label], one)
}

// each yields all entries that may be about workloads with these labels.
func (l *byLabel[T]) each(labels map[string]string, yield func(T) bool) {
	for _, one := range l.rest {
		if !yield(one) {
			return
		}
	}
	if len(l.with) == 0 {
		return
	}
	for key, value := range labels {
		for _, one := range l.with[placement.Label{Key: key, Value: value}] {
			if !yield(one) {
				return
			}
		}
	}
}

// presence records in which domains of a topology key a set has workloads.
type presence struct {
	*topology
	counts []int
	// in marks the domains that are not empty, inhabited is their number. Once in is lent, it is not changed any more.
	in        []bool
	inhabited int
	lent      bool
}

// inventory is what was passed to SetAffinity and UpdateAffinity: everything that could be placed. It is immutable.
type inventory struct {
	placements []*placement.Placement
	selectors  []placement.Selector
	workloads  *btree.BTreeG[related]
}

// related is a workload that could be placed, and its placement as policies schedule it; that is nil if policies have no terms.
type related struct {
	*workload.Workload
	under *placement.Placement
}

func newInventory(placements []*placement.Placement) *inventory {
	k := &inventory{placements: slices.Clone(placements), workloads: btree.NewG(16, func(a, b related) bool {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.APIVersion, b.APIVersion)) < 0
	})}
	for _, p := range placements {
		k.selectors = append(k.selectors, p.Selector)
	}
	return k
}

// each yields the workloads, by name.
func (k *inventory) each(yield func(related) bool) { k.workloads.Ascend(yield) }

// placementOf returns the placement of a workload as policies schedule it, nil if that is not known.
func (k *inventory) placementOf(o related) *placement.Placement {
	if o.under != nil {
		return o.under
	}
	if owner, _ := placement.Owner(k.selectors, o.Workload); owner >= 0 {
		return k.placements[owner]
	}
	return nil
}

// SetAffinity sets what affinity between workloads depends on: all valid placements of a workspace, oldest first, and its workloads. It is
// called before the first decision and whenever placements change; UpdateAffinity is enough if only workloads do. If policies may have terms
// (see Relates), each workload comes with its placement as Scheduled returns it, nil if that fails: then what was known of the workload
// stays. The labels of workloads that hold something count, and the policy terms by which they keep others away: a Reservation has neither.
// If neither placements nor policies have terms, the workloads are not read. It returns whether this has changed anything.
func (e *Engine) SetAffinity(workspace logicalcluster.Name, placements []*placement.Placement, workloads iter.Seq2[*workload.Workload, *placement.Placement]) (changed bool) {
	if !e.Relates(workspace) && !slices.ContainsFunc(placements, func(p *placement.Placement) bool { return len(p.Affinity) > 0 }) {
		return e.lookUp(workspace).forgetAffinity()
	}
	k := newInventory(placements)
	for w, scheduled := range workloads {
		k.workloads.ReplaceOrInsert(related{w, scheduled})
	}
	return e.workspace(workspace).setAffinity(k)
}

// UpdateAffinity passes the workloads that have changed since SetAffinity, and those that are gone. Afterwards the engine knows the
// same as if SetAffinity had been called with all. Before SetAffinity it has no effect. It returns whether this has changed
// anything.
func (e *Engine) UpdateAffinity(workspace logicalcluster.Name, workloads iter.Seq2[*workload.Workload, *placement.Placement], gone []workload.Reference) (changed bool) {
	return e.lookUp(workspace).updateAffinity(workloads, gone)
}

// Relates reports whether the policies of a workspace, including the shadow policies, may have terms of affinity between workloads. If not,
// placements are all that SetAffinity needs to know.
func (e *Engine) Relates(workspace logicalcluster.Name) bool {
	w := e.lookUp(workspace)
	shadow := w.shadow.Load()
	return w.policies.Load().Relates() || shadow != nil && shadow.Relates()
}

// Revision changes whenever something changes that decisions depend on besides their inputs: clusters, what is reserved on
// them, and what is placed where, as far as affinity between workloads needs it.
func (e *Engine) Revision(workspace logicalcluster.Name) int64 {
	w := e.lookUp(workspace)
	w.lock()
	defer w.mu.Unlock()
	return w.revision()
}

func (w *workspace) revision() int64 {
	return w.seen.Snapshot().Generation + w.affinity.changes + w.turns.Load()
}

func (w *workspace) forgetAffinity() (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.affinity.inventory == nil && len(w.affinity.sets) == 0 {
		return false
	}
	w.affinity = affinity{changes: w.affinity.changes + 1}
	return true
}

func (w *workspace) setAffinity(k *inventory) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, before := &w.affinity, w.affinity.changes
	last := a.inventory
	a.inventory = k
	if last == nil || !slices.Equal(last.placements, k.placements) {
		w.setTerms(k.placements)
	}
	circles, renewed := maxCircles, false
	for o := range k.each {
		w.relate(o, &circles)
	}
	if last != nil {
		for o := range last.each {
			is, _ := k.workloads.Get(o)
			renewed = renewed || a.awaits(o, is)
		}
		for o := range k.each {
			renewed = renewed || !last.workloads.Has(o) && a.awaits(related{}, o)
		}
	}
	if renewed {
		a.changes++
	}
	return a.changes != before
}

func (w *workspace) updateAffinity(workloads iter.Seq2[*workload.Workload, *placement.Placement], gone []workload.Reference) (changed bool) {
	var all []related // the iterator may take long: it runs without the lock
	for o, scheduled := range workloads {
		all = append(all, related{o, scheduled})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a, before := &w.affinity, w.affinity.changes
	if a.inventory == nil {
		return false
	}
	k := *a.inventory
	a.inventory, k.workloads = &k, k.workloads.Clone()
	circles, renewed := maxCircles, false
	for _, ref := range gone {
		was, _ := k.workloads.Delete(related{Workload: &workload.Workload{Reference: ref}})
		renewed = renewed || a.awaits(was, related{})
	}
	for _, o := range all {
		was, _ := k.workloads.ReplaceOrInsert(o)
		w.relate(o, &circles)
		renewed = renewed || a.awaits(was, o)
	}
	if renewed {
		a.changes++
	}
	return a.changes != before
}

// awaits reports whether any workload may wait for one that has changed, because no workload that its term selects is placed. It has to
// be told the reason anew, which depends on what that one waits for itself. was and is have no Workload if it was or is not known.
func (a *affinity) awaits(was, is related) (awaited bool) {
	if was.Workload != nil && is.Workload != nil && was.under == is.under && was.End == is.End && maps.Equal(was.Labels, is.Labels) {
		return false
	}
	for _, o := range []related{was, is} {
		if o.Workload == nil || awaited {
			continue
		}
		a.selecting.each(o.Labels, func(s *workloadSet) bool {
			awaited = len(s.on) == 0 && s.others.Match(o.Namespace, o.Labels)
			return !awaited
		})
	}
	return awaited
}

// relate updates what affinity reads of a workload in its claim. For a workload that is not placed, it makes sets of the others
// that it waits for, as long as there are circles left.
func (w *workspace) relate(o related, circles *int) {
	a, owner := &w.affinity, ownerOf(o.Reference)
	claim := w.ledger.Claim(owner)
	switch {
	case claim != nil && (o.UID == "" || claim.UID == o.UID):
		now := capacity.Claim{UID: claim.UID, Group: claim.Group, Shares: claim.Shares, Labels: o.Labels, Idle: o.End.RequestsNothing(), Repels: claim.Repels}
		if o.under != nil && o.under.NamespacedName() == claim.Group {
			now.Repels = o.under.RepelsByPolicies()
			w.addRepulsions(o.under)
		}
		if now.Idle != claim.Idle || now.Repels != claim.Repels || !maps.Equal(now.Labels, claim.Labels) {
			w.restoreClaim(owner, claim, &now) // what is reserved stays the same
		}
	case o.under != nil && o.End == "":
		for i := range o.under.Affinity {
			if t := &o.under.Affinity[i]; t.Required && !t.Repels && *circles > 0 {
				sets := len(a.sets)
				if w.workloadSetOf(&t.Others); len(a.sets) > sets {
					*circles--
				}
			}
		}
	}
}

// maxCircles bounds the number of selectors in terms of policies for which one call counts the placed workloads. Only with these,
// workloads that wait for each other are detected.
const maxCircles = 256

// setTerms makes the sets that the terms of these placements are about.
func (w *workspace) setTerms(placements []*placement.Placement) {
	a := &w.affinity
	a.changes++
	own := map[workloadSetKey]bool{}
	for _, p := range placements {
		w.addRepulsions(p)
		for i := range p.Repulsions {
			own[workloadSetKey{group: p.NamespacedName(), repels: p.Repulsions[i].ID}] = true
		}
		for i := range p.Affinity {
			w.workloadSetOf(&p.Affinity[i].Others)
		}
	}
	w.removeRepulsions(func(key workloadSetKey) bool { return key.repels == "" && !own[key] })
}

// addRepulsions makes the terms of a placement keep others away from its workloads.
func (w *workspace) addRepulsions(p *placement.Placement) {
	a := &w.affinity
	if len(p.Repulsions)+len(a.repulsions) == 0 {
		return
	}
	own := workloadSetKey{group: p.NamespacedName()}
	if len(p.Repulsions) == 0 || p.Repulsions[0].ID != "" {
		if _, had := a.repulsions[own]; had {
			w.removeRepulsions(func(key workloadSetKey) bool { return key == own })
		}
	}
	for i := range p.Repulsions {
		r, key := &p.Repulsions[i], own
		key.repels = r.ID
		before, had := a.repulsions[key]
		if had && (r.ID != "" || &before[0] == &r.Terms[0]) {
			continue
		}
		if had {
			w.removeRepulsions(func(k workloadSetKey) bool { return k == key })
		}
		if a.repulsions == nil {
			a.repulsions = map[workloadSetKey][]placement.Affinity{}
		}
		if len(a.repulsions) >= a.sweepAt {
			w.removeRepulsions(func(key workloadSetKey) bool { return key.repels != "" && len(a.sets[key].on) == 0 })
			a.sweepAt = max(minSweep, 2*len(a.repulsions))
		}
		a.changes++
		a.repulsions[key] = r.Terms
		s := w.workloadSet(key, nil)
		for i := range r.Terms {
			a.repellers.add(&r.Terms[i].Others, repeller{s, &r.Terms[i]})
		}
	}
}

// minSweep is how many repulsions are kept before unused ones are dropped.
const minSweep = 1024

// removeRepulsions removes the repulsions whose keys match.
func (w *workspace) removeRepulsions(remove func(workloadSetKey) bool) {
	a, removed := &w.affinity, false
	for key := range a.repulsions {
		if remove(key) {
			removed = true
			a.changes++
			delete(a.repulsions, key)
			delete(a.sets, key)
		}
	}
	if !removed {
		return
	}
	a.repellers = byLabel[repeller]{}
	for key, terms := range a.repulsions {
		for i := range terms {
			a.repellers.add(&terms[i].Others, repeller{a.sets[key], &terms[i]})
		}
	}
}

// workloadSetOf returns the set of the placed workloads that others selects.
func (w *workspace) workloadSetOf(others *placement.Others) *workloadSet {
	return w.workloadSet(workloadSetKey{others: others.ID()}, others)
}

// maxSets bounds how many sets are kept. Beyond it the sets of selectors are dropped, and counted anew when they are needed.
const maxSets = 4096

// workloadSet returns a set, and counts it if it does not exist.
func (w *workspace) workloadSet(key workloadSetKey, others *placement.Others) *workloadSet {
	a := &w.affinity
	if s := a.sets[key]; s != nil {
		return s
	}
	if a.sets == nil {
		a.sets = map[workloadSetKey]*workloadSet{}
	}
	if len(a.sets) >= maxSets && others != nil {
		maps.DeleteFunc(a.sets, func(_ workloadSetKey, s *workloadSet) bool { return s.others != nil })
		a.selecting = byLabel[*workloadSet]{}
	}
	s := &workloadSet{workloadSetKey: key, others: others, on: map[string]int{}, domains: map[snapshot.TopologyKey]*presence{}}
	if key.repels == "" { // Invariant: the set for a claim's repels exists before the claim
		for owner, claim := range w.ledger.EachClaim {
			if s.has(owner, claim) {
				s.count(w, claim, 1)
			}
		}
	}
	if a.sets[key] = s; others != nil {
		a.selecting.add(others, s)
	}
	return s
}

// has reports whether the owner of a claim is in the set. A held claim is in none.
func (s *workloadSet) has(owner capacity.Owner, c *capacity.Claim) bool {
	switch {
	case c == nil || owner.Held != 0 || c.Idle:
		return false
	case s.others == nil:
		return c.Group == s.group && (s.repels == "" || c.Repels == s.repels)
	default:
		return s.others.Match(owner.Namespace, c.Labels)
	}
}

// having appends the sets that contain the owner of a claim.
func (a *affinity) having(owner capacity.Owner, c *capacity.Claim, sets []*workloadSet) []*workloadSet {
	if c == nil {
		return sets
	}
	if s := a.sets[workloadSetKey{group: c.Group}]; s != nil && s.has(owner, c) {
		sets = append(sets, s)
	}
	if c.Repels != "" {
		if s := a.sets[workloadSetKey{group: c.Group, repels: c.Repels}]; s != nil && s.has(owner, c) {
			sets = append(sets, s)
		}
	}
	a.selecting.each(c.Labels, func(s *workloadSet) bool {
		if s.has(owner, c) {
			sets = append(sets, s)
		}
		return true
	})
	return sets
}

// recount updates the sets after an owner's claim has changed. Either claim may be nil.
func (w *workspace) recount(owner capacity.Owner, before, after *capacity.Claim) {
	a := &w.affinity
	if len(a.sets) == 0 {
		return
	}
	a.was, a.is = a.having(owner, before, a.was[:0]), a.having(owner, after, a.is[:0])
	stays := before != nil && after != nil &&
		slices.EqualFunc(before.Shares, after.Shares, func(a, b capacity.Share) bool { return a.Cluster == b.Cluster })
	for _, s := range a.was {
		if !stays || !slices.Contains(a.is, s) {
			s.count(w, before, -1)
			a.changes++
		}
	}
	for _, s := range a.is {
		if !stays || !slices.Contains(a.was, s) {
			s.count(w, after, 1)
			a.changes++
		}
	}
}

// recountAll counts all sets anew.
func (w *workspace) recountAll() {
	a := &w.affinity
	if len(a.sets) == 0 {
		return
	}
	for _, s := range a.sets {
		clear(s.on)
		clear(s.domains)
	}
	a.presences = 0
	a.changes++
	for owner, claim := range w.ledger.EachClaim {
		a.is = a.having(owner, claim, a.is[:0])
		for _, s := range a.is {
			s.count(w, claim, 1)
		}
	}
}

func (s *workloadSet) count(w *workspace, c *capacity.Claim, by int) {
	for i := range c.Shares {
		cluster := c.Shares[i].Cluster
		if s.on[cluster] += by; s.on[cluster] == 0 {
			delete(s.on, cluster)
		}
		position, there := w.seen.Position(cluster)
		for key, p := range s.domains {
			switch {
			case p.facts != w.seen.Facts():
				delete(s.domains, key) // made anew when it is needed
			case there && p.of[position] != spread.None:
				p.count(p.of[position], by)
			}
		}
	}
}

func (p *presence) count(domain int32, by int) {
	p.counts[domain] += by
	if in := p.counts[domain] > 0; in != p.in[domain] {
		if p.lent {
			p.in, p.lent = slices.Clone(p.in), false
		}
		if p.in[domain] = in; in {
			p.inhabited++
		} else {
			p.inhabited--
		}
	}
}

// maxPresences bounds how many presences are kept. Beyond it they are dropped, and made anew when they are needed.
const maxPresences = 4096

// presence returns in which domains of a topology key a set has workloads.
func (w *workspace) presence(s *workloadSet, key snapshot.TopologyKey) *presence {
	if p := s.domains[key]; p != nil && p.facts == w.seen.Facts() {
		return p
	}
	t := w.topology(key)
	p := &presence{topology: t, counts: make([]int, len(t.domains)), in: make([]bool, len(t.domains))}
	for cluster, n := range s.on {
		if position, there := w.seen.Position(cluster); there && t.of[position] != spread.None {
			p.count(t.of[position], n)
		}
	}
	a := &w.affinity
	if a.presences >= maxPresences {
		for _, s := range a.sets {
			clear(s.domains)
		}
		a.presences = 0
	}
	a.presences++
	s.domains[key] = p
	return p
}

// relabelled reports whether a workload has other labels than its claim, as far as any set reads them, or repels others by other
// terms.
func (w *workspace) relabelled(claim *capacity.Claim, r *Request) bool {
	return claim.Repels != r.Placement.RepelsByPolicies() || len(w.affinity.sets) > 0 && (claim.Idle != r.Workload.End.RequestsNothing() || !maps.Equal(claim.Labels, r.Workload.Labels))
}

// keepsOut reports whether a term of placed workloads may keep a workload out of domains.
func (w *workspace) keepsOut(r *Request) bool {
	kept := false
	w.affinity.repelling(r, func(repeller) bool {
		kept = true
		return false
	})
	return kept
}

// repelling yields the terms of placed workloads that keep a workload out of their domains, in no order.
func (a *affinity) repelling(r *Request, yield func(repeller) bool) {
	a.repellers.each(r.Workload.Labels, func(one repeller) bool {
		return len(one.on) == 0 || !one.term.Others.Match(r.Workload.Namespace, r.Workload.Labels) || yield(one)
	})
}

// noneOf returns the IDs of the selectors in terms that match no placed workload.
func (a *affinity) noneOf() map[string]bool {
	if a.unplaced == nil || a.emptyAt != a.changes {
		a.unplaced, a.emptyAt = map[string]bool{}, a.changes
		for key, s := range a.sets {
			if s.others != nil && len(s.on) == 0 {
				a.unplaced[key.others] = true
			}
		}
	}
	return a.unplaced
}
