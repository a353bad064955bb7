package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
)

// WorkloadAffinity is the stage that rejects clusters because of the workloads that are, or are not, placed in their domains.
const WorkloadAffinity filter.Stage = "WorkloadAffinity"

// attraction is the effect of affinity terms on clusters, for one workload and for what else was placed when it was evaluated.
type attraction struct {
	rules []rule
	// rejected is how many feasible clusters of each tier the rules reject.
	rejected []int
	// running are the positions of the clusters that the workload runs on: they are not judged.
	running   []int
	workload  *workload.Workload
	inventory *inventory
	// unplaced are the selectors that match no placed workload; nil if that does not matter.
	unplaced map[string]bool
}

// rule is a term, applied to one workload.
type rule struct {
	*placement.Affinity
	// by is the placement of others whose term keeps the workload away; empty for one of its own placement.
	by types.NamespacedName
	*topology
	// in marks the domains with any of the others; vacant are those of them that have none except workloads that do not count. nowhere is set
	// if all are vacant.
	in      []bool
	vacant  []int32
	nowhere bool
	// first is set if none of the others is placed, and the workload may be the first.
	first bool
	// rejects is how many feasible clusters this rule is the first to reject.
	rejects int
}

// attractionOf returns the effect of terms on a workload; nil if there are none. The workspace is locked.
func (w *workspace) attractionOf(r *Request, claimed *holding) *attraction {
	a, terms := &w.affinity, r.Placement.Affinity
	if len(terms) == 0 && len(a.repulsions) == 0 {
		return nil
	}
	rules := make([]rule, 0, len(terms))
	for i := range terms {
		one := w.ruleOf(&terms[i], w.workloadSetOf(&terms[i].Others), r, claimed)
		one.first = one.nowhere && terms[i].Others.Match(r.Workload.Namespace, r.Workload.Labels)
		rules = append(rules, one)
	}
	var repellers []repeller
	a.repelling(r, func(one repeller) bool {
		repellers = append(repellers, one)
		return true
	})
	slices.SortFunc(repellers, repeller.compare)
	for _, by := range repellers {
		one := w.ruleOf(by.term, by.workloadSet, r, claimed)
		one.by = by.group
		rules = append(rules, one)
	}
	if len(rules) == 0 {
		return nil
	}
	all := &attraction{rules: rules, workload: r.Workload, inventory: a.inventory}
	if slices.ContainsFunc(rules, func(r rule) bool { return r.waits() }) {
		all.unplaced = a.noneOf()
	}
	return all
}

// ruleOf applies a term to a workload, which never counts as one of its own others.
func (w *workspace) ruleOf(t *placement.Affinity, s *workloadSet, r *Request, claimed *holding) rule {
	p := w.presence(s, t.Key)
	p.lent = true
	one := rule{Affinity: t, topology: p.topology, in: p.in, nowhere: p.inhabited == 0}
	if absent := claimed.absent(s, r.owner()); len(absent) > 0 {
		one.vacant = w.vacantWithout(p, absent)
		one.nowhere = p.inhabited == len(one.vacant)
	}
	return one
}

// inhabits reports whether any of the others is in a domain.
func (r *rule) inhabits(domain int32) bool {
	return domain != spread.None && r.in[domain] && !slices.Contains(r.vacant, domain)
}

// absent returns the clusters of the shares in a set that do not count, one entry per share: those of the workload itself, and those that
// are gone.
func (h *holding) absent(s *workloadSet, owner capacity.Owner) (clusters []string) {
	if s.has(owner, h.Claim) {
		for i := range h.Shares {
			clusters = append(clusters, h.Shares[i].Cluster)
		}
	}
	if h.displaced != nil {
		for i := range h.displaced.stakes {
			if at := h.displaced.stakes[i]; s.has(at.owner, at.claim) {
				clusters = append(clusters, at.cluster)
			}
		}
	}
	return clusters
}

// vacantWithout returns the domains of a presence that have workloads only on the absent clusters, in order.
func (w *workspace) vacantWithout(p *presence, absent []string) (vacant []int32) {
	domains := make([]int32, 0, 8)
	for _, cluster := range absent {
		if position, there := w.seen.Position(cluster); there && p.of[position] != spread.None {
			domains = append(domains, p.of[position])
		}
	}
	slices.Sort(domains)
	for first, next := 0, 0; first < len(domains); first = next {
		domain := domains[first]
		for next < len(domains) && domains[next] == domain {
			next++
		}
		if next-first == p.counts[domain] {
			vacant = append(vacant, domain)
		}
	}
	return vacant
}

// waits reports whether nothing can be placed before one of the others is.
func (r *rule) waits() bool { return r.Required && !r.Repels && r.nowhere && !r.first }

// rejectsAt reports whether the rule rejects the cluster at a position.
func (r *rule) rejectsAt(position int) bool {
	if !r.Required {
		return false
	}
	domain := r.of[position]
	in := r.inhabits(domain)
	if r.Repels {
		return in
	}
	return !in && (!r.first || domain == spread.None)
}

// rejects returns the rule that rejects the cluster at a position, nil if none does.
func (a *attraction) rejects(position int) *rule {
	if a == nil {
		return nil
	}
	for i := range a.rules {
		if a.rules[i].rejectsAt(position) {
			return &a.rules[i]
		}
	}
	return nil
}

// begin resets the counts of rejected clusters. Clusters that the workload runs on are not counted.
func (a *attraction) begin(running []int) {
	if a == nil {
		return
	}
	a.running, a.rejected = running, a.rejected[:0]
	for i := range a.rules {
		a.rules[i].rejects = 0
	}
}

// kinds partitions the clusters of a class by the effect of the rules on them, and by their groups. It is kept as long as neither changes.
type kinds struct {
	groups *groups
	rules  []rule
	// of has for each position -1-i if rule i rejects it; otherwise (index of its points) * (number of groups) + its group. points
	// are the distinct values.
	of     []int32
	points []int64
	// rejected are the positions that any rule rejects.
	rejected []int
}

func (a *attraction) kindsOf(c *class, g *groups) *kinds {
	if k := c.kinds; k != nil && k.groups == g && slices.EqualFunc(k.rules, a.rules, sameRule) {
		return k
	}
	k := &kinds{groups: g, rules: a.rules, of: make([]int32, len(g.of))}
	for position := range k.of {
		rejected := int32(0)
		for i := range a.rules {
			if a.rules[i].rejectsAt(position) {
				rejected = int32(-1 - i)
				break
			}
		}
		if rejected < 0 {
			k.of[position], k.rejected = rejected, append(k.rejected, position)
			continue
		}
		more := a.points(position)
		at := slices.Index(k.points, more)
		if at < 0 {
			at, k.points = len(k.points), append(k.points, more)
		}
		k.of[position] = int32(at*g.n) + g.of[position]
	}
	c.kinds = k
	return k
}

// sameRule reports whether two rules have the same effect on every cluster.
func sameRule(a, b rule) bool {
	return a.Affinity == b.Affinity && a.topology == b.topology && a.first == b.first && len(a.in) == len(b.in) &&
		slices.Equal(a.vacant, b.vacant) && (len(a.in) == 0 || &a.in[0] == &b.in[0] || slices.Equal(a.in, b.in))
}

// best yields the feasible clusters of a tier that no rule rejects, best first, at most enough of each kind.
func (a *attraction) best(c *class, tier int, ranked *ranking.Ranking, groups *groups, enough int, yield func(ranking.Key) bool) {
	k := a.kindsOf(c, groups)
	for tier >= len(a.rejected) {
		a.rejected = append(a.rejected, 0)
	}
	for _, position := range k.rejected {
		if ranked.At(position) != 0 && !slices.Contains(a.running, position) {
			a.rules[-1-k.of[position]].rejects++
			a.rejected[tier]++
		}
	}
	left, full := make([]int, len(k.points)*groups.n), 0
	for kind := range left {
		left[kind] = enough
	}
	allowed := func(yield func(ranking.Key) bool) {
		for key := range ranked.Descending {
			kind := k.of[key.Position()]
			if kind < 0 || left[kind] == 0 {
				continue
			}
			if !yield(key) {
				return
			}
			if left[kind]--; left[kind] == 0 {
				if full++; full == len(left) {
					return
				}
			}
		}
	}
	if len(k.points) == 1 {
		allowed(yield)
		return
	}
	all := slices.Collect(allowed)
	value := func(key ranking.Key) int64 {
		return c.Strategy.Value(key) + k.points[int(k.of[key.Position()])/groups.n]*ranking.Point
	}
	slices.SortFunc(all, func(a, b ranking.Key) int { return cmp.Or(cmp.Compare(value(b), value(a)), cmp.Compare(b, a)) })
	for _, key := range all {
		if !yield(key) {
			return
		}
	}
}

// excluded returns how many feasible clusters of a tier are rejected.
func (a *attraction) excluded(tier int) int {
	if a == nil || tier >= len(a.rejected) {
		return 0
	}
	return a.rejected[tier]
}

// points returns what the terms that are not required add to the score of the cluster at a position.
func (a *attraction) points(position int) (points int64) {
	if a == nil {
		return 0
	}
	for i := range a.rules {
		points += a.rules[i].points(position)
	}
	return points
}

func (r *rule) points(position int) int64 {
	domain := r.of[position]
	switch {
	case r.Required || !r.inhabits(domain):
		return 0
	case r.Repels:
		return -r.Weight
	default:
		return r.Weight
	}
}

// domain returns, for example, "location eu".
func (r *rule) domain(position int) string {
	return fmt.Sprintf("%s %s", r.Key, r.domains[r.of[position]])
}

// rejection returns why the rule rejects the cluster at a position.
func (r *rule) rejection(position int) *filter.Rejection {
	var message string
	switch {
	case r.by != (types.NamespacedName{}):
		message = fmt.Sprintf("a workload of placement %s is in %s, whose %s keeps %s away", r.by, r.domain(position), r.Name, &r.Others)
	case r.Repels:
		message = fmt.Sprintf("one of the %s is in %s", &r.Others, r.domain(position))
	case r.of[position] == spread.None:
		message = fmt.Sprintf("it has no %s: no %s can be in the same one", r.Key, &r.Others)
	case r.nowhere:
		message = fmt.Sprintf("none of the %s is placed", &r.Others)
	default:
		message = fmt.Sprintf("none of the %s is in %s", &r.Others, r.domain(position))
	}
	return &filter.Rejection{Stage: WorkloadAffinity, Message: message}
}

// obstacle returns the rejection with what would remove it.
func (r *rule) obstacle(position int) filter.Obstacle {
	var needs string
	switch {
	case r.by != (types.NamespacedName{}):
		needs = fmt.Sprintf("no workload of placement %s in %s", r.by, r.domain(position))
	case r.Repels:
		needs = fmt.Sprintf("none of the %s in %s", &r.Others, r.domain(position))
	case r.of[position] == spread.None:
		needs = fmt.Sprintf("a value for %s", r.Key)
	default:
		needs = fmt.Sprintf("one of the %s in %s", &r.Others, r.domain(position))
	}
	return filter.NewObstacle(*r.rejection(position), needs)
}

// Related reports whether affinity to other workloads had any effect: then other workloads of the class may be decided differently.
func (d *Decision) Related() bool { return d.attraction() != nil }

// Peers identifies the workloads that get the same result as this one at one Revision: they agree in their inputs, in the effect
// of affinity to other workloads, and in the clusters that are withheld from them.
func (d *Decision) Peers() string {
	peers := d.InputsDigest
	if len(d.withheld) > 0 {
		peers += fmt.Sprint(" ", d.withheld)
	}
	if a := d.attraction(); a != nil {
		for i := range a.rules {
			r := &a.rules[i]
			peers += fmt.Sprintf(" %s %s %s %t %t", r.by, r.Name, r.Others.ID(), r.nowhere, r.first)
		}
	}
	return peers
}

// why states which terms reject feasible clusters, and which workloads therefore wait for each other.
func (a *attraction) why() string {
	if a == nil {
		return ""
	}
	var why []string
	for i := range a.rules {
		switch r := &a.rules[i]; {
		case r.rejects == 0:
		case r.by != (types.NamespacedName{}):
			why = append(why, fmt.Sprintf("%s of placement %s keeps %s out of each %s where one of its own is", r.Name, r.by, &r.Others, r.Key))
		case r.Repels:
			why = append(why, fmt.Sprintf("%s keeps it out of each %s where one of the %s is", r.Name, r.Key, &r.Others))
		case r.nowhere:
			why = append(why, fmt.Sprintf("%s asks for the same %s as one of the %s, and none is placed", r.Name, r.Key, &r.Others))
		default:
			why = append(why, fmt.Sprintf("%s asks for the same %s as one of the %s", r.Name, r.Key, &r.Others))
		}
	}
	if circle := a.circle(); circle != "" {
		why = append(why, circle)
	}
	return strings.Join(why, "; ")
}

// maxLinks bounds how many terms are followed to find workloads that wait for each other.
const maxLinks = 64

// link is a term that waits for one of its others, and the workload that waits because of it.
type link struct {
	waiting *workload.Workload
	term    *placement.Affinity
	from    int
}

// circle states which workloads wait for each other, so that none of them is ever placed; empty if none do.
func (a *attraction) circle() string {
	if a.inventory == nil {
		return ""
	}
	var links []link
	for i := range a.rules {
		if r := &a.rules[i]; r.waits() && r.by == (types.NamespacedName{}) {
			links = append(links, link{a.workload, r.Affinity, -1})
		}
	}
	seen := map[string]bool{}
	for at := 0; at < len(links) && at < maxLinks; at++ {
		var next []link
		closes, opens := false, false
		for o := range a.inventory.each {
			switch {
			case o.End != "" || !links[at].term.Others.Match(o.Namespace, o.Labels):
			case sameWorkload(o.Workload, a.workload):
				closes = true
			default:
				terms := a.waitsBy(o)
				opens = opens || len(terms) == 0 // it can be placed first
				for _, t := range terms {
					next = append(next, link{o.Workload, t, at})
				}
			}
		}
		if opens {
			continue
		}
		if closes {
			return circleOf(links, at)
		}
		slices.SortStableFunc(next, func(a, b link) int { return strings.Compare(a.waiting.String(), b.waiting.String()) })
		for _, l := range next {
			if id := l.term.Others.ID(); !seen[id] {
				seen[id] = true
				links = append(links, l)
			}
		}
	}
	return ""
}

// waitsBy returns the terms because of which a known workload cannot be placed, since none of the others is.
func (a *attraction) waitsBy(o related) (terms []*placement.Affinity) {
	under := a.inventory.placementOf(o)
	if under == nil {
		return nil
	}
	for i := range under.Affinity {
		t := &under.Affinity[i]
		if t.Required && !t.Repels && a.unplaced[t.Others.ID()] && !t.Others.Match(o.Namespace, o.Labels) {
			terms = append(terms, t)
		}
	}
	return terms
}

// circleOf describes a chain of links whose last link waits for the first workload.
func circleOf(links []link, last int) string {
	var chain []string
	for at := last; at >= 0; at = links[at].from {
		chain = append(chain, links[at].waiting.String())
	}
	slices.Reverse(chain)
	return fmt.Sprintf("%s wait for each other: leave out required in one of their terms, or have the labelSelector of one select "+
		"its own workload, too, so that it may be the first", strings.Join(chain, " and "))
}

func sameWorkload(a, b *workload.Workload) bool { return ownerOf(a.Reference) == ownerOf(b.Reference) }

// notes state what the terms that are not required add to the scores of chosen clusters.
func (a *attraction) notes(d *Decision) (notes []string) {
	if a == nil {
		return nil
	}
	for i := range a.rules {
		r := &a.rules[i]
		if r.Required {
			continue
		}
		var on []string
		for j := range d.Clusters {
			if position, there := d.snapshot.Position(d.Clusters[j].Name); there && r.points(position) != 0 {
				on = append(on, d.Clusters[j].Name)
			}
		}
		if len(on) > 0 {
			sign := +r.Weight
			if r.Repels {
				sign = -r.Weight
			}
			notes = append(notes, fmt.Sprintf("%s: %+d points for the same %s as one of the %s: %s", r.Name, sign, r.Key, &r.Others, strings.Join(on, ", ")))
		}
	}
	return notes
}
