package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Notes state how the clusters were chosen together: the fallback group, how replicas are divided, how domains are spread over
// and what that costs. If the clusters were chosen one by one, only the notes of policies are left.
func (d *Decision) Notes() (notes []string) {
	if d == nil || d.class == nil {
		return nil
	}
	if notes = policyNotes(d.class.Placement); d.plan == nil {
		return notes
	}
	if d.Group != "" && len(d.Clusters) > 0 {
		notes = append(notes, "by fallback group "+d.Group)
	}
	if p := d.plan; p.division != nil && len(d.Clusters) > 0 {
		note := fmt.Sprintf("%d of %d replicas are divided: %s", p.replicas-d.Waiting, p.replicas, p.division.By)
		notes = append(append(notes, note), p.trimmed...)
	}
	for i := range d.plan.spread {
		notes = append(notes, d.plan.spread[i].note(d.plan.counts(i)))
	}
	notes = append(notes, d.plan.attraction.notes(d)...)
	if d.plan.cost > 0 {
		notes = append(notes, fmt.Sprintf("spread constraints that do not have to hold cost %s", points(d.plan.cost)))
	}
	if d.plan.bounded {
		notes = append(notes, "the search was cut short: there may be a better choice")
	}
	return notes
}

// mostDomains is how many domains a note names at most.
const mostDomains = 8

// note returns, for example, "clusters over location: eu 2, us 1 (max skew 1)". Of many domains it names those with the
// most.
func (s *spreadOver) note(counted []int) string {
	what := "clusters"
	if s.Workloads {
		what = "workloads"
	}
	var domains []int
	for i := range s.domains {
		if s.eligible[i] || counted[i] > 0 {
			domains = append(domains, i)
		}
	}
	if len(domains) == 0 {
		return fmt.Sprintf("%s over %s: no cluster that passes is in a domain", what, s.Key)
	}
	byName := func(a, b int) int { return cmp.Compare(s.domains[a], s.domains[b]) }
	more := ""
	if n := len(domains) - mostDomains; n > 0 {
		slices.SortFunc(domains, func(a, b int) int { return cmp.Or(cmp.Compare(counted[b], counted[a]), byName(a, b)) })
		more = fmt.Sprintf(" and %d more with %d", n, counted[domains[mostDomains]])
		if least := counted[domains[len(domains)-1]]; least < counted[domains[mostDomains]] {
			more += fmt.Sprintf(" down to %d", least)
		}
		domains = domains[:mostDomains]
	}
	slices.SortFunc(domains, byName)
	counts := make([]string, len(domains))
	for i, domain := range domains {
		counts[i] = fmt.Sprintf("%s %d", s.domains[domain], counted[domain])
	}
	bound := fmt.Sprintf("max skew %d", s.MaxSkew)
	if there, lacks := s.lacksDomains(); lacks {
		bound += fmt.Sprintf(", and %d of %d domains", there, s.MinDomains)
	}
	return fmt.Sprintf("%s over %s: %s%s (%s)", what, s.Key, strings.Join(counts, ", "), more, bound)
}

// lacksDomains reports whether there are fewer domains than MinDomains, and how many there are.
func (s *spreadOver) lacksDomains() (there int, lacks bool) {
	for _, eligible := range s.eligible {
		if eligible {
			there++
		}
	}
	return there, there < s.MinDomains
}
