package nodes

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/internal/toleration"
)

// Have reports whether pods can run on a node of some group. Labels that are not reported count as matching.
func (s *Summary) Have(p *Pods) bool {
	if s == nil || s.Incomplete {
		return true
	}
	p = p.reported(s)
	return slices.ContainsFunc(s.Groups, func(g Group) bool { return p.selects(&g) && p.untolerated(&g) == nil })
}

// Count returns on how many nodes a workload runs that has a pod on each node that it can run on, like a DaemonSet. usable counts those
// of them without taints: what the others have is not part of the cluster's capacity. known is false if not all groups, or not all their
// numbers of nodes, are reported.
func (s *Summary) Count(w *Wishes) (running, usable int64, known bool) {
	if s == nil || s.Incomplete {
		return 0, 0, false
	}
	all := slices.Clone(w.Pods())
	for i := range all {
		all[i] = *all[i].reported(s)
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		if g.Count == 0 {
			return 0, 0, false
		}
		if !slices.ContainsFunc(all, func(p Pods) bool { return p.selects(g) && p.untolerated(g) == nil }) {
			continue
		}
		running += g.Count
		if plain[0].untolerated(g) == nil {
			usable += g.Count
		}
	}
	return running, usable, true
}

// selects reports whether the node selector and the required node affinity select the nodes of a group.
func (p *Pods) selects(g *Group) bool {
	var node corev1.Node
	node.Labels = g.Labels
	matches, err := p.match.Match(&node)
	return matches && err == nil
}

// untolerated returns the taints that keep the pods off the nodes of a group. A taint of an unknown effect does.
func (p *Pods) untolerated(g *Group) (taints []*corev1.Taint) {
	for i := range g.Taints {
		if t := &g.Taints[i]; t.Effect != corev1.TaintEffectPreferNoSchedule && toleration.Of(p.tolerations, t) == nil {
			taints = append(taints, t)
		}
	}
	return taints
}

// reported returns the pods' requirements, reduced to labels that the cluster reports.
func (p *Pods) reported(s *Summary) *Pods {
	if len(s.OmittedLabels) == 0 || !p.reads(func(key string) bool { return !s.reports(key) }) {
		return p
	}
	reported := &Pods{path: p.path, selector: maps.Clone(p.selector), tolerations: p.tolerations}
	maps.DeleteFunc(reported.selector, func(key, _ string) bool { return !s.reports(key) })
	for _, term := range p.terms {
		if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
			reported.terms = append(reported.terms, term) // it selects nothing
			continue
		}
		term.MatchExpressions = slices.DeleteFunc(slices.Clone(term.MatchExpressions), func(r corev1.NodeSelectorRequirement) bool {
			return !s.reports(r.Key)
		})
		if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
			reported.terms = nil // any node may be what the term selects
			break
		}
		reported.terms = append(reported.terms, term)
	}
	reported.compile()
	return reported
}

// reads reports whether pods ask for a label of some kind.
func (p *Pods) reads(some func(key string) bool) bool {
	for key := range p.selector {
		if some(key) {
			return true
		}
	}
	return slices.ContainsFunc(p.terms, func(term corev1.NodeSelectorTerm) bool {
		return slices.ContainsFunc(term.MatchExpressions, func(r corev1.NodeSelectorRequirement) bool { return some(r.Key) })
	})
}

// Lack is something that pods ask for and no node of a cluster has.
type Lack struct {
	// Field of the workload that asks for it.
	Field string
	// Message states what is asked for, and that no group has it.
	Message string
	// Remedy is what would be needed: a node, or a toleration if InTemplate.
	Remedy     string
	InTemplate bool
}

// Lacking explains why pods for which a cluster does not Have a node cannot run there, based on the closest groups:
// those that are selected, those with the labels of the node selector, or all.
func (s *Summary) Lacking(p *Pods) Lack {
	p = p.reported(s)
	labelled := &Pods{selector: p.selector}
	labelled.compile()
	var tainted []*corev1.Taint
	isLabelled := len(p.selector) == 0
	for i := range s.Groups {
		g := &s.Groups[i]
		isLabelled = isLabelled || labelled.selects(g)
		if taints := p.untolerated(g); p.selects(g) && (tainted == nil || len(taints) < len(tainted)) {
			tainted = taints
		}
	}
	switch {
	case tainted != nil:
		return p.intolerant(tainted)
	case isLabelled:
		return p.unselected()
	default:
		return s.unlabelled(p)
	}
}

func (p *Pods) intolerant(taints []*corev1.Taint) Lack {
	texts := make([]string, len(taints))
	for i, t := range taints {
		texts[i] = t.ToString()
	}
	return Lack{
		Field:      p.at("tolerations"),
		Message:    "each node that the pods select has a taint that they do not tolerate: " + list(texts),
		Remedy:     "a toleration of taint " + list(texts) + " in the pod template",
		InTemplate: true,
	}
}

func (p *Pods) unselected() Lack {
	var terms []string
	for _, term := range p.terms {
		var all []string
		for _, r := range slices.Concat(term.MatchExpressions, term.MatchFields) {
			text := r.Key + " " + string(r.Operator)
			if len(r.Values) > 0 {
				text += " " + strings.Join(r.Values, ", ")
			}
			all = append(all, text)
		}
		if all != nil {
			terms = append(terms, strings.Join(all, " and "))
		}
	}
	at := p.at("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution")
	if terms == nil {
		return Lack{at, "an empty term selects no node", "a term with a requirement in the pod template", true}
	}
	text := short(strings.Join(terms, ", or "))
	return Lack{Field: at, Message: "no node group has " + text, Remedy: "a node with " + text}
}

func (s *Summary) unlabelled(p *Pods) Lack {
	var missing, all []string
	for _, key := range slices.Sorted(maps.Keys(p.selector)) {
		text := key + "=" + p.selector[key]
		all = append(all, text)
		if !slices.ContainsFunc(s.Groups, func(g Group) bool { value, found := g.Labels[key]; return found && value == p.selector[key] }) {
			missing = append(missing, text)
		}
	}
	together := ""
	if missing == nil {
		missing, together = all, " together"
	}
	return Lack{
		Field:   p.at("nodeSelector"),
		Message: "no node group has label " + list(missing) + together,
		Remedy:  "a node with label " + list(all),
	}
}

// at returns the path of a field of the pod's spec.
func (p *Pods) at(field string) string {
	if p.path == "" {
		return "" // they ask for nothing
	}
	return p.path + "." + field
}

func list(texts []string) string { return short(strings.Join(texts, " and ")) }

// maxText bounds what is quoted of a pod template, in bytes.
const maxText = 512

func short(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}
