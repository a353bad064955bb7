package agent

import (
	"fmt"
	"math"
	"slices"
	"strings"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// QuantitiesValidCondition on a ClusterRegistration: all quantities of the cluster's nodes and pods could be used.
const QuantitiesValidCondition = "QuantitiesValid"

// Reasons of conditions.
const (
	// NoNodesReason on Ready False: the cluster has no nodes.
	NoNodesReason = "NoNodes"
	// NoUsableNodesReason on Ready False: the cluster has nodes, but none that can take pods.
	NoUsableNodesReason = "NoUsableNodes"
	// ClusterUnreachableReason on Ready False: its API server does not answer, so that nothing is known.
	ClusterUnreachableReason = "ClusterUnreachable"
	// TooManyWorkloadsReason on WorkloadsCounted False: the report has no room for all of them.
	TooManyWorkloadsReason = "TooManyWorkloads"
	// InvalidQuantitiesReason on QuantitiesValid False: some could not be used.
	InvalidQuantitiesReason = "InvalidQuantities"
)

// report is what the agent writes about its cluster.
type report struct {
	clusterUID types.UID
	// figures are nil if the state of the cluster is unknown; then the last written ones stay.
	figures    *figures
	conditions []*conditionsv1alpha1.Condition
}

// newReport reports figures and the conditions that follow from them.
func newReport(clusterUID types.UID, f *figures) *report {
	return &report{clusterUID: clusterUID, figures: f, conditions: []*conditionsv1alpha1.Condition{f.ready(), f.workloadsCounted(), f.quantitiesValid()}}
}

// unreachable returns a report that the state of the cluster is unknown, and why.
func unreachable(clusterUID types.UID, why string) *report {
	return &report{clusterUID: clusterUID, conditions: []*conditionsv1alpha1.Condition{
		conditions.FalseCondition(v1alpha1.ReadyCondition, ClusterUnreachableReason, conditionsv1alpha1.ConditionSeverityError, "%s", why),
	}}
}

// writeTo writes the report, without the time, into a registration. Conditions of other writers stay.
func (r *report) writeTo(registration *v1alpha1.ClusterRegistration) {
	status := &registration.Status
	status.ClusterUID = r.clusterUID
	if f := r.figures; f != nil {
		nodes := f.nodes
		status.Nodes = &nodes
		status.Allocatable, status.Allocated, status.LargestFree = f.allocatable, f.allocated, f.largestFree
		status.NodeGroups, status.OmittedNodeGroups, status.OmittedNodeLabels = f.summary.groups, f.summary.omittedGroups, f.summary.omittedLabels
	}
	for _, c := range r.conditions {
		condition := *c
		conditions.Set(registration, &condition)
	}
}

// writeUsageTo writes the figures into a usage.
func (r *report) writeUsageTo(usage *v1alpha1.ClusterUsage) {
	usage.ClusterUID = r.clusterUID
	if f := r.figures; f != nil {
		usage.Allocatable, usage.Allocated, usage.Workloads = f.allocatable, f.allocated, f.workloads
		usage.OmittedWorkloads = int32(f.allWorkloads - len(f.workloads))
	}
}

// material reports whether the difference from an earlier report is to be written at once. An amount that is allocated, or free
// on one node, has to change by a percentage of the allocatable amount.
func (r *report) material(before *report, percent float64) bool {
	if before == nil || r.clusterUID != before.clusterUID || !slices.EqualFunc(r.conditions, before.conditions, alike) {
		return true
	}
	f, g := r.figures, before.figures
	if f == nil || g == nil {
		return f != g
	}
	return f.nodes != g.nodes || !f.summary.same(g.summary) || !equal(f.allocatable, g.allocatable) || !slices.EqualFunc(f.workloads, g.workloads, sameWorkload) ||
		moved(f.allocated, g.allocated, f.allocatable, percent) || moved(f.largestFree, g.largestFree, f.allocatable, percent)
}

// alike reports whether two conditions differ at most in their messages.
func alike(a, b *conditionsv1alpha1.Condition) bool {
	return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason
}

func equal(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, q := range a {
		if o, found := b[name]; !found || q.Cmp(o) != 0 {
			return false
		}
	}
	return true
}

// moved reports whether an amount differs between a and b by percent of the whole.
func moved(a, b, whole corev1.ResourceList, percent float64) bool {
	if len(a) != len(b) {
		return true
	}
	for name, q := range a {
		o, found := b[name]
		if !found {
			return true
		}
		if q.Cmp(o) == 0 {
			continue
		}
		all := whole[name]
		if 100*math.Abs(q.AsApproximateFloat64()-o.AsApproximateFloat64()) >= percent*all.AsApproximateFloat64() {
			return true
		}
	}
	return false
}

func (f *figures) ready() *conditionsv1alpha1.Condition {
	switch {
	case f.nodes.Usable > 0:
		return conditions.TrueCondition(v1alpha1.ReadyCondition)
	case f.nodes.Total == 0:
		return conditions.FalseCondition(v1alpha1.ReadyCondition, NoNodesReason, conditionsv1alpha1.ConditionSeverityError, "the cluster has no nodes")
	}
	var why []string
	for _, because := range []struct {
		state state
		text  string
	}{
		{notReady, "not ready"}, {unschedulable, "unschedulable"}, {tainted, "tainted"}, {invalid, "with quantities that cannot be used"},
	} {
		if n := f.because[because.state]; n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, because.text))
		}
	}
	return conditions.FalseCondition(v1alpha1.ReadyCondition, NoUsableNodesReason, conditionsv1alpha1.ConditionSeverityError,
		"no node can take pods: of %d, %s", f.nodes.Total, strings.Join(why, ", "))
}

func (f *figures) workloadsCounted() *conditionsv1alpha1.Condition {
	if len(f.workloads) == f.allWorkloads {
		return conditions.TrueCondition(v1alpha1.WorkloadsCountedCondition)
	}
	return conditions.FalseCondition(v1alpha1.WorkloadsCountedCondition, TooManyWorkloadsReason, conditionsv1alpha1.ConditionSeverityWarning,
		"%d workloads have pods here, of which %d have room in the report", f.allWorkloads, len(f.workloads))
}

func (f *figures) quantitiesValid() *conditionsv1alpha1.Condition {
	var messages []string
	if f.problems > 0 {
		text := fmt.Sprintf("%d could not be used: %s", f.problems, strings.Join(f.firstProblems, "; "))
		if more := f.problems - len(f.firstProblems); more > 0 {
			text += fmt.Sprintf("; and %d more", more)
		}
		messages = append(messages, text)
	}
	if f.unlisted > 0 {
		messages = append(messages, fmt.Sprintf("%d resources have no room in the report, which lists %d", f.unlisted, maxResources))
	}
	if len(messages) == 0 {
		return conditions.TrueCondition(QuantitiesValidCondition)
	}
	return conditions.FalseCondition(QuantitiesValidCondition, InvalidQuantitiesReason, conditionsv1alpha1.ConditionSeverityWarning,
		"%s", strings.Join(messages, ". "))
}
