package lint

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/spelling"
)

// Policies is the input of a check of a workspace's policies.
type Policies struct {
	Set *policy.Set
	// Kinds of workload that exist, as APIVersion and Kind.
	Kinds []workload.Reference
	// Probes of Set for Kinds.
	Probes []policy.Probe
	Fleet  *Fleet
	// Workloads are some that the policies are to decide about. A name that is likely a typo of one of theirs is reported.
	Workloads []*workload.Workload
	// given are the values that fields of Workloads have, typos how many names have been looked up in them.
	given map[policy.Field][]string
	typos int
}

// Limits on the findings in the policies of a workspace, on the terms that are checked, and on the misspelt names for which the
// nearest name is looked up.
const (
	maxPolicyFindings = 100
	maxMadeTerms      = 500
	maxLookUps        = 40
)

// Find returns findings about parts of the policies that have no effect, and failures for made-up workloads, by module and position. The
// object of a finding is the module.
func (p *Policies) Find() []Finding {
	r := &policyReport{seen: map[Finding]bool{}, lookUps: maxLookUps}
	p.unread(r)
	p.comparisons(r)
	p.terms(r)
	p.scheduling(r)
	p.failures(r)
	slices.SortStableFunc(r.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	return r.findings[:min(len(r.findings), maxPolicyFindings)]
}

// policyReport collects findings, each once.
type policyReport struct {
	findings []Finding
	seen     map[Finding]bool
	// lookUps is for how many more misspelt names the nearest one is looked up.
	lookUps int
}

// near is DidYouMean for a name made by policies, of any length, in a fleet of any size.
func (r *policyReport) near(misspelt string, names []string) string {
	if r.lookUps--; r.lookUps < 0 || len(misspelt) > validation.LabelValueMaxLength {
		return ""
	}
	return spelling.DidYouMean(misspelt, names)
}

// typo is spelling.Typo, likewise.
func (r *policyReport) typo(misspelt string, names []string) string {
	if r.lookUps--; r.lookUps < 0 || len(misspelt) > validation.LabelValueMaxLength {
		return ""
	}
	return spelling.Typo(misspelt, names)
}

func (r *policyReport) at(severity Severity, code string, at policy.Position, format string, args ...any) {
	f := Finding{Severity: severity, Code: code, Object: at.File, Line: at.Row, Column: at.Col, Message: fmt.Sprintf(format, args...)}
	if !r.seen[f] {
		r.seen[f] = true
		r.findings = append(r.findings, f)
	}
}

// Codes of findings in policies.
const (
	codeUnread       = "unread_rule"
	codeUndefined    = "undefined_rule"
	codeComparison   = "impossible_comparison"
	codeUnit         = "unit"
	codeEffect       = "term_without_effect"
	codeUnknown      = "term_matches_nothing"
	codeNoWeights    = "no_weights"
	codeUnknownScore = "unknown_score"
	codeStaleScore   = "stale_score"
	codeJudgement    = "judgement"
	codeNotLoaded    = "not_loaded"
	codePolicySet    = "policy_set"
	codePolicyLabel  = "policy_label"
)

func (p *Policies) unread(r *policyReport) {
	undefined := p.Set.Undefined()
	wanted := []string{"placement.scoring", "placement.affinity"}
	for _, u := range undefined {
		for path := parent(u.Path); path != ""; path = parent(path) {
			wanted = append(wanted, path)
		}
	}
	for _, u := range p.Set.Unread() {
		switch {
		case u.Empty:
			r.at(Warning, codeUnread, u.Position, "the module has no rules")
		case p.Set.IsLibrary() && !p.Fleet.Known():
			// A folder of policies for others to use decides about no fleet.
		case strings.HasPrefix(u.Path, "placement.library."):
			r.at(Warning, codeUnread, u.Position, "nothing reads the package %s, so it has no effect: use its rules in one of placement.scoring or placement.affinity", u.Path)
		case u.Package:
			r.at(Warning, codeUnread, u.Position, "nothing reads the package %s, so it has no effect%s", u.Path,
				cmp.Or(spelling.DidYouMean(u.Path, wanted), "; the engine reads "+strings.Join(policy.EntryPoints(), ", ")))
		default:
			r.at(Warning, codeUnread, u.Position, "nothing reads %s, so it has no effect%s", u.Path, p.meantByRule(u.Path, undefined))
		}
	}
	rules := p.Set.Rules()
	for _, u := range undefined {
		near := spelling.DidYouMean(u.Path, rules)
		if near == "" {
			near = spelling.DidYouMean(parent(u.Path), parents(rules))
		}
		r.at(Warning, codeUndefined, u.Position, "data.%s never has a value, since no module defines it%s", u.Path, near)
	}
}

// meantByRule suggests which rule that is read was likely meant by one that is not.
func (p *Policies) meantByRule(path string, undefined []policy.Undefined) string {
	entries := policy.EntryPoints()
	var read []string // in the same package
	for _, u := range undefined {
		read = append(read, u.Path)
	}
	read = append(read, entries...)
	name := path[len(parent(path))+1:]
	for _, candidate := range read {
		if parent(candidate) == parent(path) && spelling.Nearest(name, []string{candidate[len(parent(path))+1:]}) != "" {
			return fmt.Sprintf(", did you mean %s?", candidate[len(parent(path))+1:])
		}
	}
	for _, candidate := range entries { // the right name in the wrong package
		if name == candidate[len(parent(candidate))+1:] {
			return fmt.Sprintf(", did you mean %s?", candidate)
		}
	}
	return cmp.Or(spelling.DidYouMean(path, read), "; the engine reads "+strings.Join(entries, ", "))
}

func parent(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

func parents(paths []string) []string {
	all := make([]string, len(paths))
	for i, path := range paths {
		all[i] = parent(path)
	}
	return all
}

// madeTerm is a term that the policies of a workspace make for some workload.
type madeTerm struct {
	at   policy.Position
	term *scoring.Term
	// weighed is set if its factor has a weight for one of the workloads.
	weighed bool
}

// terms checks the terms in the results of probes.
func (p *Policies) terms(r *policyReport) {
	made := map[string]*madeTerm{}
	for i := range p.Probes {
		j := p.Probes[i].Judgement
		if j == nil || !p.Probes[i].Likely {
			continue
		}
		for t := range j.Terms {
			at, own := p.Set.Origin(j, t)
			if !own {
				continue
			}
			key := fmt.Sprint(at, j.Terms[t])
			if made[key] == nil && len(made) >= maxMadeTerms {
				continue
			}
			if made[key] == nil {
				made[key] = &madeTerm{at: at, term: &j.Terms[t]}
			}
			made[key].weighed = made[key].weighed || j.Weights.Factors[j.Terms[t].Factor] > 0
		}
		for _, score := range j.Weights.Scores {
			p.score(score.Name, p.Set.OriginOfWeights(j), r)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(made)) {
		effect(made[key], r)
		if p.Fleet.Known() {
			p.matches(made[key], r)
		}
		if score := made[key].term.Score; score != "" {
			p.score(score, made[key].at, r)
		}
	}
}

// score reports a score that policies name and that no cluster has, or that has expired.
func (p *Policies) score(name string, at policy.Position, r *policyReport) {
	if !p.Fleet.Known() {
		return
	}
	if !isKnown(name, p.Fleet.Scores) {
		r.at(Warning, codeUnknownScore, at, "no ClusterScore gives a cluster of the fleet the score %q%s", name, r.near(name, p.Fleet.Scores))
		return
	}
	var stale []string
	given := 0
	for _, c := range p.Fleet.Clusters {
		score, found := c.Score(name)
		if !found {
			continue
		}
		if given++; !score.Expired.IsZero() {
			stale = append(stale, fmt.Sprintf("of cluster %s at %s", c.Name, score.Expired.UTC().Format(time.RFC3339)))
		}
	}
	if n := len(stale); n > 0 {
		if n > maxStale {
			stale = append(stale[:maxStale:maxStale], fmt.Sprintf("and %d more", n-maxStale))
		}
		r.at(Warning, codeStaleScore, at, "the score %q has run out for %d of %d clusters and weighs nothing there: %s", name, n, given, strings.Join(stale, ", "))
	}
}

// maxStale is how many clusters with an expired score are named.
const maxStale = 3

// effect reports a term that cannot make one cluster better than another.
func effect(made *madeTerm, r *policyReport) {
	t := made.term
	switch {
	case t.Required:
	case t.OnMatch == 0 && t.Otherwise == 0:
		r.at(Warning, codeEffect, made.at, "a term has no effect: give it onMatch, otherwise or required")
	case t.OnMatch == t.Otherwise && t.Score == "":
		r.at(Warning, codeEffect, made.at, "a term has no effect: it adds %d to the clusters that match and to all others alike", t.OnMatch)
	case !made.weighed:
		r.at(Warning, codeEffect, made.at, "a term has no effect: the weights give its factor %s no weight", t.Factor)
	}
}

// matches reports names in a term that no cluster of the fleet has.
func (p *Policies) matches(made *madeTerm, r *policyReport) {
	m, named := &made.term.Match, false
	unknown := func(what, name string, known []string) {
		named = true
		if avoids(made.term) && r.typo(name, known) == "" {
			return // what is avoided need not exist
		}
		r.at(Warning, codeUnknown, made.at, "a term names the %s %q, which no cluster of the fleet has%s%s", what, name, r.near(name, known), consequence(made.term))
	}
	for _, name := range m.ClusterNames[:min(len(m.ClusterNames), maxPolicyFindings)] {
		if !isKnown(name, p.Fleet.Names) {
			named = true
			r.at(Warning, codeUnknown, made.at, "a term names the cluster %q, which is not in the fleet%s%s", name, r.near(name, p.Fleet.Names), consequence(made.term))
		}
	}
	if m.Location != "" && !isKnown(m.Location, p.Fleet.Locations) {
		unknown("location", m.Location, p.Fleet.Locations)
	}
	if m.Capability != "" && !isKnown(m.Capability, p.Fleet.Capabilities) {
		unknown("capability", m.Capability, p.Fleet.Capabilities)
	}
	if m.Labels != nil {
		requirements, _ := m.Labels.Requirements()
		for _, requirement := range requirements {
			p.requirement(requirement, r, unknown)
		}
	}
	if named || avoids(made.term) || strings.Contains(fmt.Sprint(*m), policy.MadeUp) {
		return
	}
	if !slices.ContainsFunc(p.Fleet.Clusters, func(c *snapshot.Cluster) bool { return mayMatch(m, c) }) {
		r.at(Warning, codeUnknown, made.at, "a term matches no cluster of the fleet: each part of its match does, but no cluster all of them%s", consequence(made.term))
	}
}

// avoids reports whether a term counts against clusters that match, or for those without a label.
func avoids(t *scoring.Term) bool {
	if t.OnMatch < t.Otherwise {
		return true
	}
	if t.Match.Labels == nil {
		return false
	}
	requirements, _ := t.Match.Labels.Requirements()
	return slices.ContainsFunc(requirements, func(r labels.Requirement) bool {
		return slices.Contains([]selection.Operator{selection.NotIn, selection.NotEquals, selection.DoesNotExist}, r.Operator())
	})
}

// mayMatch is scoring.Match.Matches for a cluster whose capabilities are all available.
func mayMatch(m *scoring.Match, c *snapshot.Cluster) bool {
	return (len(m.ClusterNames) == 0 || slices.Contains(m.ClusterNames, c.Name)) &&
		(m.Location == "" || m.Location == c.Location) &&
		(m.Labels == nil || m.Labels.Matches(labels.Set(c.Labels))) &&
		(m.Capability == "" || hasCapability(c, m.Capability))
}

func hasCapability(c *snapshot.Cluster, capability string) bool {
	_, found := c.Capability(capability)
	return found
}

// requirement reports the key and the values of a label selector that no cluster has.
func (p *Policies) requirement(requirement labels.Requirement, r *policyReport, unknown func(what, name string, known []string)) {
	key, values := requirement.Key(), p.Fleet.Labels[requirement.Key()]
	if !isKnown(key, p.Fleet.LabelKeys) {
		unknown("label", key, p.Fleet.LabelKeys)
		return
	}
	wanted := requirement.Values()
	excludes := requirement.Operator() == selection.NotIn || requirement.Operator() == selection.NotEquals
	positive := !excludes && !wanted.HasAny(values...)
	for _, value := range slices.Sorted(maps.Keys(wanted)) {
		// A value that no cluster has yet is fine next to others, or if it is excluded, unless it looks misspelt.
		if !isKnown(value, values) && (positive || r.typo(value, values) != "") {
			unknown("label "+key+" with the value", value, values)
		}
	}
}

// isKnown reports whether a name is known, or comes from a made-up workload and not from the policies.
func isKnown(name string, known []string) bool {
	return slices.Contains(known, name) || strings.Contains(strings.ToLower(name), policy.MadeUp)
}

func consequence(t *scoring.Term) string {
	if t.Required {
		return "; it is required, so its workloads find no such cluster"
	}
	return ""
}

// failures reports where the policies fail for made-up workloads. A failure for workloads that the policies themselves refer to can never be
// intended; for others, it is not known whether they will exist.
func (p *Policies) failures(r *policyReport) {
	reported := map[Finding]bool{}
	for i := range p.Probes {
		probe := &p.Probes[i]
		severity := Warning
		if probe.Likely {
			severity = Error
		}
		var errs policy.Errors
		switch {
		case probe.Err == nil:
			continue
		case !errors.As(probe.Err, &errs):
			errs = policy.Errors{{Code: codeJudgement, Message: probe.Err.Error()}}
		}
		for _, e := range errs {
			f := Finding{Object: e.File, Line: e.Row, Column: e.Col, Code: e.Code, Message: e.Message}
			if reported[f] {
				continue
			}
			reported[f] = true
			f.Severity, f.Message = severity, fmt.Sprintf("%s (for %s)", strings.ReplaceAll(e.Message, "\n ", ""), probe.Workload)
			if probe.Undefined() {
				f.Severity, f.Code = Warning, codeNoWeights
			}
			r.findings = append(r.findings, f)
		}
	}
}

// short shortens a literal for a message.
func short(literal any) string {
	const most = 60
	text := fmt.Sprint(literal)
	if s, ok := literal.(string); ok {
		text = s
	}
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	if _, ok := literal.(string); ok {
		quoted, err := json.Marshal(text)
		if err == nil {
			return string(quoted)
		}
	}
	return text
}
