package lint

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/spelling"
)

// comparisons reports values that a field of the input can never have.
func (p *Policies) comparisons(r *policyReport) {
	reported := map[string]bool{} // of a key and a line, which may both read and compare it
	for _, c := range p.Set.Comparisons() {
		never := func(severity Severity, because string) {
			r.at(severity, codeComparison, c.Position, "%s is never %s: %s", c.Field, short(c.Literal), because)
		}
		if wrong := wrongKey(c.Field); wrong != "" {
			r.at(Error, codeComparison, c.Position, "%s never has a value: %s", c.Field, wrong)
			continue
		}
		if misspelt := p.misspeltKey(c.Field); misspelt != "" {
			line := fmt.Sprint(c.Field, c.File, c.Row)
			if !reported[line] {
				r.at(Warning, codeComparison, c.Position, "%s: %s", c.Field, misspelt)
			}
			reported[line] = true
			continue
		}
		switch literal := c.Literal.(type) {
		case string:
			if c.Operator == "equal" || c.Operator == "neq" || c.Operator == "internal.member_2" {
				p.text(c, literal, never)
			}
		case int64:
			if c.Operator == "equal" && literal < 0 || c.Operator == "lt" && literal <= 0 || c.Operator == "lte" && literal < 0 {
				r.at(Error, codeComparison, c.Position, "%s is never less than 0", c.Field)
			} else if wrong := unit(c.Field.Name, c.Field.Key, relations[c.Operator], literal, asBytes); relations[c.Operator] != "" && wrong != "" {
				r.at(Warning, codeUnit, c.Position, "%s: %s", c.Field, wrong)
			}
		}
	}
}

// relations by which numbers are compared, as CEL writes them.
var relations = map[string]string{"equal": "==", "neq": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}

// misspeltKey suggests what was likely meant by a key of a resource, an annotation or a label that could also be right.
func (p *Policies) misspeltKey(f policy.Field) string {
	switch {
	case f.Name == "workload.requests" && isQualified(f.Key) && !slices.Contains(p.Fleet.Resources, f.Key):
		if near := spelling.Typo(f.Key, slices.Concat(p.Fleet.Resources, resources)); near != "" {
			return fmt.Sprintf("there is no such resource, did you mean %s?", near)
		}
	case f.Name == "workload.annotations":
		if near := spelling.Typo(f.Key, v1alpha1.WorkloadAnnotations); near != "" {
			return fmt.Sprintf("no such annotation is read otherwise, did you mean %s?", near)
		}
	}
	if near := p.typo(f.Key, policy.Field{Name: f.Name}); near != "" {
		return fmt.Sprintf("none of the workloads given has it, did you mean %s?", near)
	}
	return ""
}

// Limits on the search for typos, which takes time proportional to the names: how many are looked up, and in how many.
const (
	maxTypos = 500
	maxGiven = 1000
)

// typo returns what a name is a typo of, among the values of a field in the given workloads, or among the keys for labels and annotations
// without a key.
func (p *Policies) typo(name string, f policy.Field) string {
	if len(p.Workloads) == 0 || name == "" {
		return ""
	}
	known, found := p.given[f]
	if !found {
		for _, w := range p.Workloads {
			known = append(known, valuesOf(w, f)...)
		}
		if p.given == nil {
			p.given = map[policy.Field][]string{}
		}
		known = unique(known)
		p.given[f] = known
	}
	if _, there := slices.BinarySearch(known, name); there || len(known) > maxGiven || p.typos >= maxTypos {
		return ""
	}
	p.typos++
	return spelling.Typo(name, known)
}

func valuesOf(w *workload.Workload, f policy.Field) []string {
	var entries map[string]string
	switch f.Name {
	case "workload.namespace":
		return []string{w.Namespace}
	case "workload.name":
		return []string{w.Name}
	case "workload.labels":
		entries = w.Labels
	case "workload.annotations":
		entries = w.Annotations
	}
	if f.Key == "" {
		return slices.Collect(maps.Keys(entries))
	}
	return []string{entries[f.Key]}
}

// wrongKey returns why no object can have a label, an annotation or a resource of the name; empty if one can.
func wrongKey(f policy.Field) string {
	if f.Key == "" {
		return ""
	}
	switch {
	case strings.HasSuffix(f.Name, ".labels"), strings.HasSuffix(f.Name, ".annotations"):
		key := f.Key
		if strings.HasSuffix(f.Name, ".annotations") {
			key = strings.ToLower(key)
		}
		if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
			return wrong[0]
		}
	case f.Name == "workload.requests" && !strings.Contains(f.Key, "/") && !slices.Contains(native, f.Key) && !strings.HasPrefix(f.Key, "hugepages-"):
		return "there is no such resource" + didYouMeanOr(f.Key, native)
	}
	return ""
}

// native are the resources without a domain.
var native = []string{"cpu", "memory", "storage", "ephemeral-storage"}

// text reports a text that a field can never be.
func (p *Policies) text(c policy.Comparison, literal string, never func(severity Severity, because string)) {
	first := func(severity Severity, wrong []string) {
		if len(wrong) > 0 {
			never(severity, wrong[0])
		}
	}
	if near := p.typo(literal, c.Field); near != "" {
		never(Warning, fmt.Sprintf("none of the workloads given has this value, did you mean %s?", near))
		return
	}
	switch c.Field.Name {
	case "workload.kind":
		p.kind(literal, never)
	case "workload.apiVersion":
		p.apiVersion(literal, never)
	case "workload.namespace", "placement.namespace":
		first(Error, validation.IsDNS1123Label(literal))
	case "workload.name", "placement.name":
		first(Error, validation.IsDNS1123Subdomain(literal))
	case "workload.labels", "placement.labels":
		first(Error, validation.IsValidLabelValue(literal))
	case "workspace":
		if strings.Contains(literal, ":") && !strings.HasPrefix(literal, "system:") {
			never(Warning, "it is the name of the logical cluster, as in the annotation kcp.io/cluster, and not a path")
		}
	}
}

func (p *Policies) kind(literal string, never func(severity Severity, because string)) {
	var kinds []string
	for _, k := range p.Kinds {
		kinds = append(kinds, k.Kind)
	}
	switch near := spelling.Nearest(literal, kinds); {
	case len(kinds) == 0 || slices.Contains(kinds, literal):
	case near != "" && strings.EqualFold(near, literal):
		never(Error, fmt.Sprintf("kinds are written as in manifests, did you mean %s?", near))
	default:
		never(Warning, "no kind of workload that is placed has this name"+spelling.DidYouMean(literal, kinds))
	}
}

func (p *Policies) apiVersion(literal string, never func(severity Severity, because string)) {
	var versions, groups []string
	for _, k := range p.Kinds {
		group, _, _ := strings.Cut(k.APIVersion, "/")
		versions, groups = append(versions, k.APIVersion), append(groups, group)
	}
	group, _, _ := strings.Cut(literal, "/")
	if len(versions) > 0 && !slices.Contains(versions, literal) && !slices.Contains(groups, group) {
		never(Warning, "no kind of workload that is placed is of this group and version"+spelling.DidYouMean(literal, versions))
	}
}
