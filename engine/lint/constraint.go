package lint

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/spelling"
)

// eachConstraint visits the constraints that compile, and where their expressions stand.
func eachConstraint(p *v1alpha1.WorkloadPlacement, w *Workspace, visit func(*constraint.Program, *field.Path)) {
	for i, c := range p.Spec.Constraints {
		if program, err := w.Constraints.Compile(c.Expression); err == nil {
			visit(program, spec.Child("constraints").Index(i).Child("expression"))
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
				report.within(at, c.Line, c.Column, "holds for no cluster and no workload, so nothing is placed")
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

// mentions reports keys and values that constraints look for and nothing has.
func mentions(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	eachConstraint(p, w, func(program *constraint.Program, at *field.Path) {
		for _, m := range program.Mentions() {
			if message := mention(p, w, m); message != "" {
				report.within(at, m.Line, m.Column, "%s", message)
			}
		}
	})
}

// mention returns what is wrong with a literal that is held against a field. Of what need not be there, or is excluded, only
// what is likely misspelt is reported.
func mention(p *v1alpha1.WorkloadPlacement, w *Workspace, m constraint.Mention) string {
	prudent := m.Optional || m.Unlike
	absent := func(what, name string, known []string) string {
		if slices.Contains(known, name) || prudent && spelling.Nearest(name, known) == "" {
			return ""
		}
		return what + " " + name + spelling.DidYouMean(name, known)
	}
	variable, _, _ := strings.Cut(m.Field, ".")
	switch {
	case m.Field == "workload.requests" || variable == "capacity" && m.Keyed:
		return w.resource(variable, m)
	case m.Field == "placement.labels" && m.Keyed && !m.Compared:
		return absent("the placement has no label", m.Key, slices.Sorted(maps.Keys(p.Labels)))
	case m.Field == "workload.kind":
		return absent("there is no kind of workload", m.Value, w.kinds(func(d *workload.Definition) []string { return []string{d.Kind} }))
	case m.Field == "workload.apiVersion":
		return absent("there is no kind of workload in", m.Value, w.kinds((*workload.Definition).APIVersions))
	case m.Field == "taint.effect":
		return absent("there is no effect", m.Value, effects)
	case m.Field == "condition.status":
		return absent("no condition has the status", m.Value, statuses)
	case !w.Fleet.Known():
		return ""
	}
	const none = "no cluster of the fleet has"
	switch m.Field {
	case "cluster.name":
		return absent("there is no cluster of the name", m.Value, w.Fleet.Names)
	case "cluster.location":
		return absent(none+" the location", m.Value, w.Fleet.Locations)
	case "cluster.labels", "capability.attributes":
		keys, values, what := w.Fleet.LabelKeys, w.Fleet.Labels, " the label "
		if m.Field == "capability.attributes" {
			keys, values, what = slices.Sorted(maps.Keys(w.Fleet.Attributes)), w.Fleet.Attributes, " a capability with the attribute "
		}
		if !m.Compared {
			return absent(none+strings.TrimSuffix(what, " "), m.Key, keys)
		}
		if len(values[m.Key]) == 0 {
			return "" // said of the key
		}
		prudent = m.Unlike
		return absent(none+what+m.Key+" with the value", m.Value, values[m.Key])
	case "capability.type":
		return absent(none+" the capability", m.Value, w.Fleet.Capabilities)
	case "taint.key":
		prudent = true // taints come and go
		return absent(none+" a taint", m.Value, w.Fleet.TaintKeys)
	}
	return ""
}

// kinds returns names of the kinds of workload.
func (w *Workspace) kinds(names func(*workload.Definition) []string) (all []string) {
	for _, d := range w.Kinds.All() {
		all = append(all, names(d)...)
	}
	return unique(all)
}

// statuses of conditions.
var statuses = []string{string(corev1.ConditionTrue), string(corev1.ConditionFalse), string(corev1.ConditionUnknown)}

// resources that Kubernetes, and those who make devices, have names for.
var resources = []string{
	"cpu", "memory", "storage", "ephemeral-storage", "pods", "hugepages-2Mi", "hugepages-1Gi",
	"nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "gpu.intel.com/i915", "google.com/tpu", "aws.amazon.com/neuron",
}

// resource returns what is wrong with the name of a resource.
func (w *Workspace) resource(variable string, m constraint.Mention) string {
	known := slices.Concat(w.Fleet.Resources, resources)
	qualified := strings.Contains(m.Key, "/") || strings.HasPrefix(m.Key, "hugepages-")
	switch {
	case slices.Contains(w.Fleet.Resources, m.Key):
		return ""
	case !slices.Contains(known, m.Key) && (!qualified || spelling.Nearest(m.Key, known) != ""):
		return "there is no resource " + m.Key + spelling.DidYouMean(m.Key, known)
	case variable == "capacity" && !m.Optional && w.Fleet.Known():
		return "no cluster of the fleet reports the resource " + m.Key + ", so this is an error for each: ask whether it is there first"
	}
	return ""
}
