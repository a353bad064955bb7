package lint

import (
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/spelling"
)

// eachConstraint visits the constraints that compile, including those of fallback groups, with the paths of their expressions.
func eachConstraint(p *v1alpha1.WorkloadPlacement, w *Workspace, visit func(*constraint.Program, *field.Path)) {
	for at, c := range placement.EachConstraint(p) {
		if program, err := w.Constraints.Compile(c.Expression); err == nil {
			visit(program, at.Child("expression"))
		}
	}
}

// neverTrue reports constraints that reject every cluster, and computations that always fail.
func neverTrue(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	eachConstraint(p, w, func(program *constraint.Program, at *field.Path) {
		for _, c := range w.Constraints.Constants(program) {
			switch {
			case c.Err != nil:
				report.within(at, c.Line, c.Column, "%s is an error for every cluster and workload: %v", c.Text, c.Err)
			case c.Whole && !c.Always:
				effect := "nothing is placed"
				if strings.HasPrefix(at.String(), spec.Child("fallback").String()) {
					effect = "nothing is placed by this group"
				}
				report.within(at, c.Line, c.Column, "holds for no cluster and no workload, so %s", effect)
			}
		}
	})
}

// alwaysTrue reports constraints that reject nothing, and parts of constraints that change nothing.
func alwaysTrue(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	eachConstraint(p, w, func(program *constraint.Program, at *field.Path) {
		for _, c := range w.Constraints.Constants(program) {
			switch {
			case c.Err != nil:
			case c.Whole && c.Always:
				report.within(at, c.Line, c.Column, "holds for every cluster and workload, so it has no effect")
			case c.Always:
				report.within(at, c.Line, c.Column, "%s holds for every cluster and workload", c.Text)
			case !c.Whole:
				report.within(at, c.Line, c.Column, "%s holds for no cluster and no workload", c.Text)
			}
		}
	})
}

// maxEvaluated bounds the evaluation of a placement's constraints, in units of CEL's costs. Nothing is reported beyond it.
const maxEvaluated = 10_000_000

// neverHolds reports constraints that no cluster of the fleet meets for any of the given workloads, whatever is free and whatever the
// clusters' conditions are. Constraints with an unknown name have been reported already.
func neverHolds(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	known := w.known(p)
	eachConstraint(p, w, func(program *constraint.Program, at *field.Path) {
		said := slices.ContainsFunc(report.findings, func(f Finding) bool { return f.Field == at.String() })
		if said || slices.ContainsFunc(w.Constraints.Constants(program), func(c constraint.Constant) bool { return c.Whole }) {
			return
		}
		if unmet := known.unmet(program); unmet != "" {
			report.at(at, "%s", unmet)
		}
	})
}

// unmet describes what of a constraint no cluster meets; empty if some do, or if that is not known.
func (k *known) unmet(program *constraint.Program) string {
	var reads constraint.Reads
	var conjuncts []*constraint.Conjunct
	for _, c := range program.Conjuncts() {
		r := c.Reads()
		if c.Lasting() && len(c.Comparisons()) == 0 && (k.Fleet.Known() || !r.Cluster) && (len(k.selected) > 0 || r.Workload.IsZero()) {
			conjuncts = append(conjuncts, c)
			reads.Cluster, reads.Workload = reads.Cluster || r.Cluster, reads.Workload.Union(r.Workload)
		}
	}
	if len(conjuncts) == 0 {
		return ""
	}
	rows, workloads := []*snapshot.Row{{Basis: &snapshot.Basis{Cluster: &snapshot.Cluster{}}}}, slices.Values([]*workload.Workload{{}})
	if reads.Cluster {
		rows = k.Fleet.rows
	}
	if !reads.Workload.IsZero() {
		workloads = distinct(k.selected, reads.Workload)
	}
	met := make([]bool, len(conjuncts))
	v := &constraint.Variables{Placement: workload.Placement{Name: k.placement.Name, Namespace: k.placement.Namespace, Labels: k.placement.Labels}}
	for v.Workload = range workloads {
		for _, v.Row = range rows {
			if k.evaluated += program.Cost() + 1; k.evaluated > maxEvaluated {
				return ""
			}
			all := true
			for i, c := range conjuncts {
				holds := c.Holds(v, 0, 0)
				met[i], all = met[i] || holds, all && holds
			}
			if all {
				return ""
			}
		}
	}
	what, whom := "", "cluster of the fleet"
	if i := slices.Index(met, false); i >= 0 {
		what, reads = " "+conjuncts[i].String(), conjuncts[i].Reads()
	}
	switch {
	case !reads.Cluster && reads.Workload.IsZero():
		return "does not hold for this placement:" + what
	case !reads.Cluster:
		whom = "workload given that the placement selects"
	case !reads.Workload.IsZero():
		whom += " and workload given that the placement selects"
	}
	if what == "" {
		return "holds for no " + whom + ": each part does, but not all of them together"
	}
	return "holds for no " + whom + ":" + what
}

// distinct yields the workloads that differ from all earlier ones in what is read.
func distinct(workloads []*workload.Workload, reads workload.Reads) iter.Seq[*workload.Workload] {
	return func(yield func(*workload.Workload) bool) {
		seed, known := maphash.MakeSeed(), map[uint64][]*workload.Workload{}
		for _, w := range workloads {
			hash := reads.Hash(seed, w)
			if slices.ContainsFunc(known[hash], func(o *workload.Workload) bool { return reads.Same(o, w) }) {
				continue
			}
			if known[hash] = append(known[hash], w); !yield(w) {
				return
			}
		}
	}
}

// mentions reports keys and values that constraints look for and nothing has.
func mentions(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	known := w.known(p)
	eachConstraint(p, w, func(program *constraint.Program, at *field.Path) {
		for _, m := range program.Mentions() {
			if message := known.mention(m); message != "" {
				report.within(at, m.Line, m.Column, "%s", message)
			}
		}
	})
}

// limits reports numbers that are likely in the wrong unit.
func limits(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	eachConstraint(p, w, func(program *constraint.Program, at *field.Path) {
		for _, m := range program.Mentions() {
			number, isNumber := m.Value.(int64)
			if !isNumber {
				continue
			}
			if wrong := unit(m.Field, m.Key, m.Operator, number, asQuantity); wrong != "" {
				report.within(at, m.Line, m.Column, "%s", wrong)
			}
		}
	})
}

// known is what the literals in a placement's constraints can refer to.
type known struct {
	*Workspace
	placement *v1alpha1.WorkloadPlacement
	// selected are the given workloads that the placement selects.
	selected []*workload.Workload
	// evaluated is the cost of the constraint evaluations so far.
	evaluated uint64
}

func (w *Workspace) known(p *v1alpha1.WorkloadPlacement) *known {
	k := &known{Workspace: w, placement: p}
	selector, err := compiled(p)
	if err != nil {
		return k
	}
	for _, o := range w.Workloads {
		if selector.Selects(o) {
			k.selected = append(k.selected, o)
		}
	}
	return k
}

// mention returns what is wrong with a text that is compared with a field. If the text is optional, excluded, or one of several alternatives
// that clusters may have, it is only reported if it is likely misspelt.
func (k *known) mention(m constraint.Mention) string {
	w, p := k.Workspace, k.placement
	value, _ := m.Value.(string)
	prudent := m.Unlike || m.Optional
	// absent reports a name that is not among the known ones.
	absent := func(what, name string, known []string) string {
		switch {
		case slices.ContainsFunc(known, func(known string) bool { return name == known || name == value && meets(m, known) }):
			return ""
		case m.Operator == "startsWith" || m.Operator == "endsWith":
			if prudent {
				return ""
			}
			return fmt.Sprintf("%s that %s %s%s", what, affixes[m.Operator], name, spelling.DidYouMean(name, ends(m.Operator, name, known)))
		case m.Operator == "contains" || m.Operator == "matches":
			if prudent {
				return ""
			}
			return fmt.Sprintf("%s that %s %s", what, affixes[m.Operator], name)
		case !prudent:
			return what + " " + name + spelling.DidYouMean(name, known)
		}
		if near := spelling.Typo(name, known); near != "" {
			return fmt.Sprintf("%s %s, did you mean %s?", what, name, near)
		}
		return ""
	}
	// ofWorkloads reports a name that none of the given workloads has, if it is likely misspelt: other workloads are not known.
	ofWorkloads := func(what, name string, of func(*workload.Workload) []string) string {
		var known []string
		for _, o := range k.selected {
			known = append(known, of(o)...)
		}
		prudent = true
		return absent("none of the workloads given that the placement selects has "+what, name, unique(known))
	}
	compared := m.Operator != ""
	if _, isNumber := m.Value.(int64); isNumber {
		return ""
	}
	variable, _, _ := strings.Cut(m.Field, ".")
	switch {
	case m.Field == "workload.requests" || variable == "capacity" && m.Keyed:
		return k.resource(variable, m)
	case m.Field == "placement.labels" && m.Keyed && !compared:
		return absent("the placement has no label", m.Key, slices.Sorted(maps.Keys(p.Labels)))
	case m.Field == "placement.labels" && m.Keyed && p.Labels[m.Key] != "":
		prudent = m.Unlike
		return absent(fmt.Sprintf("the label %s of the placement is %s and never a value", m.Key, p.Labels[m.Key]), value, []string{p.Labels[m.Key]})
	case m.Field == "placement.name":
		return absent("the placement does not have the name", value, []string{p.Name})
	case m.Field == "placement.namespace":
		return absent("the placement is not in the namespace", value, []string{p.Namespace})
	case m.Field == "workload.namespace":
		return absent(fmt.Sprintf("a placement selects workloads of its own namespace, %s, and none of the namespace", p.Namespace), value, []string{p.Namespace})
	case m.Field == "workload.name":
		return ofWorkloads("the name", value, func(o *workload.Workload) []string { return []string{o.Name} })
	case m.Field == "workload.kind":
		if unknown := absent("there is no kind of workload", value, w.kinds(func(d *workload.Definition) []string { return []string{d.Kind} })); unknown != "" {
			return unknown
		}
		return k.ofTypes(absent, value, func(t v1alpha1.WorkloadType) string { return t.Kind })
	case m.Field == "workload.apiVersion":
		if unknown := absent("there is no kind of workload in", value, w.kinds((*workload.Definition).APIVersions)); unknown != "" {
			return unknown
		}
		return k.ofTypes(absent, value, func(t v1alpha1.WorkloadType) string { return t.APIVersion })
	case m.Field == "workload.annotations" && !compared && isMisspelt(m.Key, v1alpha1.WorkloadAnnotations):
		return "no such annotation is read" + spelling.DidYouMean(m.Key, v1alpha1.WorkloadAnnotations)
	case m.Field == "workload.labels" && compared && p.Spec.WorkloadSelector.LabelSelector != nil && p.Spec.WorkloadSelector.LabelSelector.MatchLabels[m.Key] != "":
		prudent = m.Unlike
		selected := p.Spec.WorkloadSelector.LabelSelector.MatchLabels[m.Key]
		return absent(fmt.Sprintf("the placement selects workloads with the label %s=%s and none with a value", m.Key, selected), value, []string{selected})
	case m.Field == "workload.labels" && m.Keyed, m.Field == "workload.annotations" && m.Keyed:
		return k.entry(m, value, ofWorkloads)
	case m.Field == "taint.effect":
		return absent("there is no effect", value, effects)
	case m.Field == "condition.status":
		return absent("no condition has the status", value, statuses)
	case !w.Fleet.Known():
		return ""
	}
	prudent = prudent || m.Alternative
	const none = "no cluster of the fleet has"
	switch m.Field {
	case "cluster.name":
		return absent("there is no cluster of the name", value, w.Fleet.Names)
	case "cluster.location":
		return absent(none+" the location", value, w.Fleet.Locations)
	case "cluster.labels", "capability.attributes":
		keys, values, what := w.Fleet.LabelKeys, w.Fleet.Labels, " the label "
		if m.Field == "capability.attributes" {
			keys, values, what = slices.Sorted(maps.Keys(w.Fleet.Attributes)), w.Fleet.Attributes, " a capability with the attribute "
		}
		if !compared {
			return absent(none+strings.TrimSuffix(what, " "), m.Key, keys)
		}
		if len(values[m.Key]) == 0 {
			return "" // reported for the key
		}
		prudent = m.Unlike || m.Alternative
		return absent(none+what+m.Key+" with the value", value, values[m.Key])
	case "capability.type":
		return absent(none+" the capability", value, w.Fleet.Capabilities)
	case "taint.key":
		prudent = true // taints come and go
		return absent(none+" a taint", value, w.Fleet.TaintKeys)
	}
	return ""
}

// ofTypes returns what is wrong with a name, given the types in the workloadSelector.
func (k *known) ofTypes(absent func(what, name string, known []string) string, value string, of func(v1alpha1.WorkloadType) string) string {
	var known []string
	for _, t := range k.placement.Spec.WorkloadSelector.WorkloadTypes {
		known = append(known, of(t))
	}
	if len(known) == 0 {
		return ""
	}
	return absent("workloadSelector.workloadTypes has no", value, known)
}

// entry returns what is wrong with a key or a value of a workload's labels or annotations.
func (k *known) entry(m constraint.Mention, value string, ofWorkloads func(what, name string, of func(*workload.Workload) []string) string) string {
	entries := func(o *workload.Workload) map[string]string { return o.Annotations }
	what := "the annotation"
	if m.Field == "workload.labels" {
		entries, what = func(o *workload.Workload) map[string]string { return o.Labels }, "the label"
	}
	if m.Operator == "" {
		return ofWorkloads(what, m.Key, func(o *workload.Workload) []string { return slices.Collect(maps.Keys(entries(o))) })
	}
	return ofWorkloads(fmt.Sprintf("%s %s with the value", what, m.Key), value, func(o *workload.Workload) []string {
		if value, found := entries(o)[m.Key]; found {
			return []string{value}
		}
		return nil
	})
}

// affixes are the words for the relation of names.
var affixes = map[string]string{"startsWith": "starts with", "endsWith": "ends with", "contains": "contains", "matches": "matches"}

// meets reports whether a name matches what a constraint looks for.
func meets(m constraint.Mention, name string) bool {
	value, _ := m.Value.(string)
	switch m.Operator {
	case "startsWith":
		return strings.HasPrefix(name, value)
	case "endsWith":
		return strings.HasSuffix(name, value)
	case "contains":
		return strings.Contains(name, value)
	case "matches":
		matches, err := regexp.MatchString(value, name)
		return matches || err != nil
	case "==", "!=", "":
		return name == value
	}
	return true // an order: there may be other names
}

// ends returns the prefixes or suffixes of names that have the length of what is looked for.
func ends(operator, like string, names []string) (all []string) {
	for _, name := range names {
		if n := min(len(like), len(name)); operator == "startsWith" {
			all = append(all, name[:n])
		} else {
			all = append(all, name[len(name)-n:])
		}
	}
	return all
}

// kinds returns names of the workload kinds.
func (w *Workspace) kinds(names func(*workload.Definition) []string) (all []string) {
	for _, d := range w.Kinds.All() {
		all = append(all, names(d)...)
	}
	return unique(all)
}

// statuses of conditions.
var statuses = []string{string(corev1.ConditionTrue), string(corev1.ConditionFalse), string(corev1.ConditionUnknown)}

// resources that Kubernetes and device vendors have names for.
var resources = []string{
	"cpu", "memory", "storage", "ephemeral-storage", "pods", "hugepages-2Mi", "hugepages-1Gi",
	"nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "gpu.intel.com/i915", "google.com/tpu", "aws.amazon.com/neuron",
}

// resource returns what is wrong with the name of a resource.
func (k *known) resource(variable string, m constraint.Mention) string {
	known := slices.Concat(k.Fleet.Resources, resources)
	switch qualified := isQualified(m.Key); {
	case m.Operator != "":
		return "" // reported for the key
	case !qualified && !slices.Contains(known, m.Key):
		return "there is no resource " + m.Key + spelling.DidYouMean(m.Key, known)
	case qualified && spelling.Typo(m.Key, known) != "":
		return fmt.Sprintf("there is no resource %s, did you mean %s?", m.Key, spelling.Typo(m.Key, known))
	case !qualified || m.Optional:
		return ""
	case variable == "capacity" && k.Fleet.Known() && !slices.Contains(k.Fleet.Resources, m.Key):
		return "no cluster of the fleet reports the resource " + m.Key + ", so this is an error for each: ask whether it is there first"
	case variable == "workload" && len(k.selected) > 0 && !slices.ContainsFunc(k.selected, func(o *workload.Workload) bool {
		_, found := o.Requests.Extended[m.Key]
		return found
	}):
		return "none of the workloads given that the placement selects requests the resource " + m.Key + ", so this is an error for each: ask whether it is there first"
	}
	return ""
}

// isQualified reports whether the name of a resource is one that anybody may define.
func isQualified(resource string) bool {
	return strings.Contains(resource, "/") || strings.HasPrefix(resource, corev1.ResourceHugePagesPrefix)
}
