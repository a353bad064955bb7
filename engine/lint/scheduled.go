package lint

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/stability"
	"github.com/kcp-placement/placement/engine/workload"
)

// codeOverruled is the code for scheduling by policies that a placement does not allow.
const codeOverruled = "overruled"

// codeStability is the code for rules of policies on moves for a gain that have no effect.
const codeStability = "stability"

// Scheduled returns findings about parts of the policies that have no effect for a workload of a placement, and about parts of the placement
// that have none because of the policies. It leaves out findings about the placement itself, and those already reported for the policies.
func (w *Workspace) Scheduled(p *v1alpha1.WorkloadPlacement, under *placement.Placement, of *workload.Workload, reported []Finding) (findings []Finding) {
	if len(under.ByPolicies)+len(under.Overruled) == 0 {
		return nil
	}
	as := *w
	as.of = of
	for _, f := range as.beyond(p, under) {
		if slices.ContainsFunc(reported, func(o Finding) bool { return o.Message == f.Field+": "+f.Message }) {
			continue
		}
		f.Message += fmt.Sprintf(" (as the policies schedule %s)", of)
		findings = append(findings, f)
	}
	if message := w.steadiedInVain(under); message != "" {
		findings = append(findings, Finding{
			Severity: Warning, Code: codeStability, Object: objectOf(p), Field: "scheduling.stability",
			Message: fmt.Sprintf("has no effect: %s (as the policies schedule %s)", message, of),
		})
	}
	for _, why := range under.Overruled {
		field, reason, _ := strings.Cut(why, ": ")
		findings = append(findings, Finding{
			Severity: Warning, Code: codeOverruled, Object: objectOf(p), Field: "scheduling." + field,
			Message: fmt.Sprintf("has no effect: %s (as the policies schedule %s)", reason, of),
		})
	}
	return findings
}

// steadiedInVain returns why the policies' rules on moves for a gain change nothing for a placement; empty if they do. Policies of a
// workspace may well be meant for only some of its placements.
func (w *Workspace) steadiedInVain(under *placement.Placement) string {
	rules := under.Stability
	switch steadied := under.Steadied(rules); {
	case !slices.Contains(under.ByPolicies, "stability"):
	case rules != nil && steadied.MinGain == rules.MinGain && steadied.After == rules.After && steadied.Pinned == rules.Pinned:
		return "spec.stability asks for as much or more, and the larger counts"
	case rules == nil && !slices.ContainsFunc(w.Placements, movesForGain):
		return "no placement has workloads move for a gain, which spec.stability.moves: ForGain is for"
	}
	return ""
}

func movesForGain(p *v1alpha1.WorkloadPlacement) bool {
	return p.Spec.Stability != nil && p.Spec.Stability.Moves == v1alpha1.MovesForGain
}

// beyond returns the findings about a placement as policies schedule it, without those about the placement itself. Fields set by policies are
// those of data.placement.scheduling.
func (w *Workspace) beyond(p *v1alpha1.WorkloadPlacement, under *placement.Placement) []Finding {
	known := w.Placement(p)
	found := slices.DeleteFunc(w.Placement(under.Object(p)), func(f Finding) bool { return slices.Contains(known, f) })
	for i := range found {
		found[i].Field = under.FieldOf(p, found[i].Field)
		found[i].Message = affinityTerm.ReplaceAllStringFunc(found[i].Message, func(term string) string {
			return strings.TrimPrefix(under.FieldOf(p, "spec."+term), "spec.")
		})
	}
	return found
}

var affinityTerm = regexp.MustCompile(`workloadAffinity\[\d+\]`)

// maxMadeSchedulings limits how many different schedulings by policies are checked for parts without effect.
const maxMadeSchedulings = 32

// scheduling checks the scheduling of probes, for placements that leave all of it to the policies.
func (p *Policies) scheduling(r *policyReport) {
	seen := map[string]bool{}
	w, bare := &Workspace{Fleet: p.Fleet}, &v1alpha1.WorkloadPlacement{}
	for i := range p.Probes {
		j := p.Probes[i].Judgement
		if j == nil || !p.Probes[i].Likely || j.Scheduling == nil || seen[j.Scheduling.String()] || len(seen) == maxMadeSchedulings {
			continue
		}
		seen[j.Scheduling.String()] = true
		for _, f := range w.beyond(bare, j.Scheduling.Alone()) {
			if strings.Contains(f.Message, policy.MadeUp) {
				continue
			}
			// It is not known whether such workloads, and such placements, exist.
			r.at(Warning, f.Code, p.Set.OriginOfScheduling(j, strings.TrimPrefix(f.Field, "scheduling.")), "%s: %s", f.Field, f.Message)
		}
		if s := j.Scheduling.Alone().Steadied(&stability.Rules{}); s.Pinned && (s.MinGain > 0 || s.After > 0) {
			r.at(Warning, codeStability, p.Set.OriginOfScheduling(j, "stability"), "scheduling.stability: what is pinned does not move, whatever minGain and after say: leave out one or the other")
		}
	}
}
