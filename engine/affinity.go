package engine

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// affinity is the index of what is placed where, as far as terms of affinity between workloads ask for it. The workspace's mu
// guards it.
//
// Invariant: what a set counts on a cluster is the claims of the ledger with a share there whose owner is in the set.
type affinity struct {
	// terms of the placements that keep workloads out of domains, by name, and their names in order.
	terms map[types.NamespacedName][]placement.Affinity
	repel []types.NamespacedName
	sets  map[setKey]*set
	known *known
	// changes counts what has changed of all this.
	changes int64
	// unplaced are the selectors of which none is placed, as of emptyAt changes.
	unplaced map[string]bool
	emptyAt  int64
}

// setKey is what the workloads of a set have in common: a selector selects them, or a placement places them.
type setKey struct {
	others string
	group  types.NamespacedName
}

// set is the placed workloads that a term is about.
type set struct {
	// others is nil for the workloads of the placement group.
	others *placement.Others
	group  types.NamespacedName
	// on is how many there are on each cluster.
	on map[string]int
	// domains by topology key.
	domains map[snapshot.TopologyKey]*presence
}

// presence is in which domains of a topology key any of a set is.
type presence struct {
	*topology
	counts []int
	// in has the domains that are not empty, inhabited is how many these are. Once it is lent, in is not changed any more.
	in        []bool
	inhabited int
	lent      bool
}

// known is what SetAffinity was told: all that could be placed. It is immutable.
type known struct {
	placements []*placement.Placement
	selectors  []placement.Selector
	workloads  []*workload.Workload
}

// SetAffinity tells what affinity between workloads has to know before the first decision, and again whenever it changes: all
// valid placements of a workspace, oldest first, and its workloads. Of these, only the labels of those that hold something
// count, which a Reservation does not have. Where no placement has terms, the workloads are not looked at. It returns whether
// anything has changed by that.
func (e *Engine) SetAffinity(workspace logicalcluster.Name, placements []*placement.Placement, workloads iter.Seq[*workload.Workload]) (changed bool) {
	if !slices.ContainsFunc(placements, func(p *placement.Placement) bool { return len(p.Affinity) > 0 }) {
		return e.lookUp(workspace).forgetAffinity()
	}
	k := &known{placements: slices.Clone(placements), workloads: slices.Collect(workloads)}
	for _, p := range placements {
		k.selectors = append(k.selectors, p.Selector)
	}
	return e.workspace(workspace).setAffinity(k)
}

// Revision changes whenever anything does that decisions depend on beside their inputs: clusters, what is reserved on them, and
// what is placed where, as far as affinity between workloads asks for it.
func (e *Engine) Revision(workspace logicalcluster.Name) int64 {
	w := e.lookUp(workspace)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.revision()
}

func (w *workspace) revision() int64 { return w.fleet.Snapshot().Generation + w.affinity.changes }

func (w *workspace) forgetAffinity() (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.affinity.known == nil && len(w.affinity.sets) == 0 {
		return false
	}
	w.affinity = affinity{changes: w.affinity.changes + 1}
	return true
}

func (w *workspace) setAffinity(k *known) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, before := &w.affinity, w.affinity.changes
	last := a.known
	a.known = k
	for _, o := range k.workloads {
		owner := ownerOf(o.Reference)
		claim := w.ledger.Claim(owner)
		if idle := o.End.RequestsNothing(); claim != nil && (o.UID == "" || claim.UID == o.UID) && (claim.Idle != idle || !maps.Equal(claim.Labels, o.Labels)) {
			w.restoreClaim(owner, claim, &capacity.Claim{UID: claim.UID, Group: claim.Group, Shares: claim.Shares, Labels: o.Labels, Idle: idle})
		}
	}
	if last == nil || !slices.Equal(last.placements, k.placements) {
		w.setTerms(k.placements)
	}
	return a.changes != before
}

// setTerms keeps the sets that the terms of these placements are about, and no others.
func (w *workspace) setTerms(placements []*placement.Placement) {
	a := &w.affinity
	before := a.sets
	a.terms, a.repel, a.sets = nil, nil, nil
	a.changes++
	for _, p := range placements {
		w.addTerms(p, before)
		for i := range p.Affinity {
			w.setOf(&p.Affinity[i].Others, before)
		}
	}
}

// addTerms has the terms of a placement keep others away from its workloads.
func (w *workspace) addTerms(p *placement.Placement, existing map[setKey]*set) {
	a, name := &w.affinity, p.NamespacedName()
	if len(p.Affinity)+len(a.terms) == 0 {
		return
	}
	repels := slices.ContainsFunc(p.Affinity, func(t placement.Affinity) bool { return t.Required && t.Repels })
	if before, known := a.terms[name]; known && repels && &before[0] == &p.Affinity[0] || !known && !repels {
		return
	}
	a.changes++
	if !repels {
		delete(a.terms, name)
		a.repel = slices.DeleteFunc(a.repel, func(n types.NamespacedName) bool { return n == name })
		return
	}
	if a.terms == nil {
		a.terms = map[types.NamespacedName][]placement.Affinity{}
	}
	a.terms[name] = p.Affinity
	if at, found := slices.BinarySearchFunc(a.repel, name, byName); !found {
		a.repel = slices.Insert(a.repel, at, name)
	}
	w.set(setKey{group: name}, nil, existing)
}

func byName(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }

// setOf returns the set of the placed workloads that others selects.
func (w *workspace) setOf(others *placement.Others, existing map[setKey]*set) *set {
	return w.set(setKey{others: others.ID()}, others, existing)
}

// maxSets bounds how many sets are kept: beyond it, those of selectors are counted anew when they are needed.
const maxSets = 4096

// set returns a set, which is counted unless it exists.
func (w *workspace) set(key setKey, others *placement.Others, existing map[setKey]*set) *set {
	a := &w.affinity
	if s := a.sets[key]; s != nil {
		return s
	}
	if a.sets == nil {
		a.sets = map[setKey]*set{}
	}
	s := existing[key]
	if s == nil {
		s = &set{others: others, group: key.group}
		s.countAll(w.ledger)
		if len(a.sets) >= maxSets && len(existing) == 0 {
			maps.DeleteFunc(a.sets, func(k setKey, _ *set) bool { return k.others != "" })
		}
	}
	a.sets[key] = s
	return s
}

// has reports whether the owner of a claim is in the set. What is held until something is written is of no owner.
func (s *set) has(owner capacity.Owner, c *capacity.Claim) bool {
	switch {
	case c == nil || owner.Held != 0 || c.Idle:
		return false
	case s.others == nil:
		return c.Group == s.group
	default:
		return s.others.Match(owner.Namespace, c.Labels)
	}
}

// recount updates the sets for an owner that has another claim than before. Either may be nil.
func (w *workspace) recount(owner capacity.Owner, before, after *capacity.Claim) {
	for _, s := range w.affinity.sets {
		was, is := s.has(owner, before), s.has(owner, after)
		if was && is && slices.EqualFunc(before.Shares, after.Shares, func(a, b capacity.Share) bool { return a.Cluster == b.Cluster }) {
			continue
		}
		if was {
			s.count(w, before, -1)
		}
		if is {
			s.count(w, after, 1)
		}
		if was || is {
			w.affinity.changes++
		}
	}
}

// recountAll makes all sets anew.
func (w *workspace) recountAll() {
	for _, s := range w.affinity.sets {
		s.countAll(w.ledger)
		w.affinity.changes++
	}
}

// countAll counts the claims of a ledger, and no others.
func (s *set) countAll(l *capacity.Ledger) {
	s.on, s.domains = map[string]int{}, map[snapshot.TopologyKey]*presence{}
	for owner, claim := range l.EachClaim {
		if s.has(owner, claim) {
			for i := range claim.Shares {
				s.on[claim.Shares[i].Cluster]++
			}
		}
	}
}

func (s *set) count(w *workspace, c *capacity.Claim, by int) {
	for i := range c.Shares {
		cluster := c.Shares[i].Cluster
		if s.on[cluster] += by; s.on[cluster] == 0 {
			delete(s.on, cluster)
		}
		position, there := w.fleet.Position(cluster)
		for key, p := range s.domains {
			switch {
			case p.facts != w.fleet.Facts():
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

// presence returns in which domains of a topology key any of a set is.
func (w *workspace) presence(s *set, key snapshot.TopologyKey) *presence {
	if p := s.domains[key]; p != nil && p.facts == w.fleet.Facts() {
		return p
	}
	t := w.topology(key)
	p := &presence{topology: t, counts: make([]int, len(t.domains)), in: make([]bool, len(t.domains))}
	for cluster, n := range s.on {
		if position, there := w.fleet.Position(cluster); there && t.of[position] != spread.None {
			p.count(t.of[position], n)
		}
	}
	if len(s.domains) >= maxTopologies {
		clear(s.domains)
	}
	s.domains[key] = p
	return p
}

// relabelled reports whether the sets know a workload by other labels.
func (w *workspace) relabelled(claim *capacity.Claim, r *Request) bool {
	return len(w.affinity.sets) > 0 && (claim.Idle != r.Workload.End.RequestsNothing() || !maps.Equal(claim.Labels, r.Workload.Labels))
}

// keepsOut reports whether a term of a placement with placed workloads may keep a workload out of domains.
func (w *workspace) keepsOut(r *Request) bool {
	a := &w.affinity
	for _, name := range a.repel {
		if len(a.sets[setKey{group: name}].on) == 0 {
			continue
		}
		for i := range a.terms[name] {
			if t := &a.terms[name][i]; t.Required && t.Repels && t.Others.Match(r.Workload.Namespace, r.Workload.Labels) {
				return true
			}
		}
	}
	return false
}

// noneOf returns the selectors of the placements' terms of which none is placed, by ID.
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
