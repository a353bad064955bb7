package engine

import (
	"fmt"
	"slices"

	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// passedOver states why a feasible cluster is not chosen although it ranks before a chosen one, or could be added; empty if it does
// not, or if the question does not arise.
//
// What is chosen together is optimal. So with the cluster in place of the worst chosen one, a constraint breaks, there is less
// room, or it costs more than it is worth.
func (d *Decision) passedOver(position int, row *snapshot.Row, v *Verdict) string {
	p := d.plan
	if p == nil || p.problem == nil {
		return ""
	}
	if p.division != nil {
		switch room, _ := p.roomOn(row); {
		case p.division.Excludes(row.Cluster):
			return "weights give it none"
		case room < p.minimum:
			return fmt.Sprintf("there is room for %d replicas, and a cluster gets %d at least", room, p.minimum)
		}
	}
	last := len(p.chosen) - 1
	i := slices.IndexFunc(p.candidates, func(c feasibleCluster) bool { return c.key.Position() == position })
	before := last >= 0 && i >= 0 && i < p.chosen[last]
	if i < 0 {
		// It is no candidate, since there are enough better ones in the same domains: one of them stands for it.
		i = p.insteadOf(row)
		if last >= 0 {
			value, key := d.rank(position, v)
			worst := &p.candidates[p.chosen[last]]
			before = value > worst.value || value == worst.value && key > worst.key
		}
	}
	if i < 0 || slices.Contains(p.chosen, i) {
		return ""
	}
	if len(p.chosen) < p.problem.Number || p.why != "" {
		if note := d.breaks(i, -1); note != "" {
			return note
		}
	}
	if !before {
		return ""
	}
	return d.breaks(i, p.chosen[last])
}

// insteadOf returns a candidate that is not chosen, in the same domains as a cluster that is no candidate; -1 if there is none.
func (p *plan) insteadOf(row *snapshot.Row) int {
	if len(p.spread) == 0 {
		return -1
	}
	domains := make([]int32, len(p.spread))
	for k := range p.spread {
		domains[k] = spread.None
		if domain, found := p.spread[k].Key.Domain(row.Cluster); found {
			domains[k] = int32(slices.Index(p.spread[k].domains, domain))
		}
	}
	for i := range p.candidates {
		if slices.Equal(p.problem.Domains(i), domains) && !slices.Contains(p.chosen, i) {
			return i
		}
	}
	return -1
}

// breaks states what is worse with candidate i in place of another; -1 adds it instead.
func (d *Decision) breaks(i, other int) string {
	p, with := d.plan, []int{i}
	for _, at := range d.plan.chosen {
		if at != other {
			with = append(with, at)
		}
	}
	cost, costly := int64(0), ""
	for k := range p.spread {
		constraint := &p.problem.Constraints[k]
		more := p.problem.Excess(k, with) - p.problem.Excess(k, p.chosen)
		if more <= 0 {
			continue
		}
		note := d.without(k, other, p.problem.Domains(i)[k])
		if constraint.Cost == 0 {
			return note
		}
		if cost += int64(more) * constraint.Cost / ranking.Point; costly == "" {
			costly = note
		}
	}
	switch {
	case other < 0:
		return ""
	case p.room(with) < p.room(p.chosen):
		return fmt.Sprintf("instead of %s, there would be room for %d replicas fewer", d.nameOf(other), p.room(p.chosen)-p.room(with))
	case cost > 0:
		return fmt.Sprintf("%s, which costs %s", costly, points(cost))
	case p.bounded:
		return "not in any of the choices that were looked at"
	}
	return ""
}

func points(n int64) string {
	if n == 1 {
		return "1 point"
	}
	return fmt.Sprintf("%d points", n)
}

// room returns the room of candidates, as far as it is needed.
func (p *plan) room(chosen []int) (room int64) {
	for _, i := range chosen {
		room += p.problem.Candidates[i].Room
	}
	return min(room, p.problem.Need)
}

// without states what a domain would have, for example "spread over location: instead of dublin, eu would have 2 and ap 0".
func (d *Decision) without(k, other int, domain int32) string {
	p, s := d.plan, &d.plan.spread[k]
	start := fmt.Sprintf("spread over %s: ", s.Key)
	if domain == spread.None {
		return start + "it is in no domain"
	}
	counts, verb := p.counts(k), "has"
	if other >= 0 {
		start, verb = fmt.Sprintf("%sinstead of %s, ", start, d.nameOf(other)), "would have"
		counts[domain]++
		if out := p.problem.Domains(other)[k]; out != spread.None {
			counts[out]--
		}
	}
	text := fmt.Sprintf("%s%s %s %d", start, s.domains[domain], verb, counts[domain])
	fewest := -1
	for at, eligible := range s.eligible {
		if eligible && at != int(domain) && (fewest < 0 || counts[at] < counts[fewest]) {
			fewest = at
		}
	}
	if _, lacks := s.lacksDomains(); lacks && s.Required {
		return fmt.Sprintf("%s, and no more than %d until there are %d domains", text, s.MaxSkew, s.MinDomains)
	}
	if fewest >= 0 && counts[fewest] < counts[domain] {
		text += fmt.Sprintf(" and %s %d", s.domains[fewest], counts[fewest])
	}
	return text
}

func (d *Decision) nameOf(candidate int) string {
	base := d.snapshot.Base() // where names and positions are the same
	return base.Rows[d.plan.candidates[candidate].key.Position()].Name
}
