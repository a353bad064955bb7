package engine

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// failure is why a cluster is not feasible, kept as what was found; people's words for it are made on demand.
type failure struct {
	stage Stage
	// index of the constraint, capability requirement, taint or term that failed.
	index int
	// resource that is lacking, in all or on any one node.
	resource string
	onNode   bool
	// err of a constraint that could not be evaluated.
	err error
}

// infeasible sends one cluster through the filter and returns the first stage that it fails, nil if it passes all.
// For a workload that is there already, and is to stay, how full the cluster is does not count, nor that it is not known
// whether the cluster is Ready.
func (c *class) infeasible(row *snapshot.Row, staying bool) (first *failure) {
	c.filter(row, staying, func(f failure) bool {
		first = &f
		return false
	})
	return first
}

// filter sends one cluster through the filter and hands over all that it fails, as long as more is asked for.
func (c *class) filter(row *snapshot.Row, staying bool, more func(failure) bool) {
	p := c.family.placement
	if !p.filter(row, staying, more) {
		return
	}
	variables := c.variables(row)
	for i := range p.constraints {
		program := p.constraints[i].program
		if staying && program.Reads().Capacity {
			continue
		}
		if holds, err := program.Eval(variables); (err != nil || !holds) && !more(failure{stage: StageConstraint, index: i, err: err}) {
			return
		}
	}
	if !staying {
		resource, onNode := row.Lacking(c.workload.Requests, c.replica)
		if resource != "" && !more(failure{stage: StageCapacity, resource: resource, onNode: onNode}) {
			return
		}
	}
	for i := range c.family.judgement.Terms {
		if term := &c.family.judgement.Terms[i]; term.Required && !term.Match.Matches(row) && !more(failure{stage: StagePolicy, index: i}) {
			return
		}
	}
}

// filter hands over what keeps a cluster from being one that the placement selects, and tells whether to go on.
func (p *Placement) filter(row *snapshot.Row, staying bool, more func(failure) bool) bool {
	if row.Invalid != "" && !more(failure{stage: StageRegistration}) {
		return false
	}
	if !row.Ready() && (row.NotReady() || !staying) && !more(failure{stage: StageReady}) {
		return false
	}
	if !p.locations.Matches(labels.Set{"location": row.Location}) && !more(failure{stage: StageLocation}) {
		return false
	}
	if (p.excludes(row.Name) || !p.clusters.Matches(labels.Set(row.Labels))) && !more(failure{stage: StageCluster}) {
		return false
	}
	for i, taint := range row.Taints {
		if p.untolerated(taint) && !more(failure{stage: StageTaint, index: i}) {
			return false
		}
	}
	for i, requirement := range p.capabilities {
		capability, listed := row.Capability(requirement.Type)
		if (listed && !capability.Available || !listed && requirement.Required) && !more(failure{stage: StageCapability, index: i}) {
			return false
		}
	}
	return true
}

// admits tells whether the placement selects a cluster.
func (p *Placement) admits(row *snapshot.Row) bool {
	admitted := true
	p.filter(row, false, func(failure) bool {
		admitted = false
		return false
	})
	return admitted
}

func (c *class) variables(row *snapshot.Row) *constraint.Variables {
	return &constraint.Variables{Row: row, Workload: c.workload, Placement: c.family.placement.Placement}
}

// excludes tells whether the placement names clusters and this is none of them.
func (p *Placement) excludes(cluster string) bool {
	return len(p.clusterNames) > 0 && !slices.Contains(p.clusterNames, cluster)
}

// untolerated tells whether a taint keeps the placement's workloads away. PreferNoSchedule never does.
func (p *Placement) untolerated(taint corev1.Taint) bool {
	if taint.Effect == corev1.TaintEffectPreferNoSchedule {
		return false
	}
	return !corev1helpers.TolerationsTolerateTaint(klog.Logger{}, p.tolerations, &taint, false)
}

// rejection puts a failure into words.
func (c *class) rejection(row *snapshot.Row, f *failure) *Rejection {
	p := c.family.placement
	r := &Rejection{Stage: f.stage}
	switch f.stage {
	case StageRegistration:
		r.Message = "the registration is not usable: " + row.Invalid
	case StageReady:
		ready, known := row.Condition(snapshot.ReadyCondition)
		switch {
		case !known:
			r.Message = "the cluster has not reported a Ready condition"
		case ready.Reason != "" || ready.Message != "":
			r.Message = fmt.Sprintf("Ready is %s: %s", ready.Status, strings.Trim(ready.Reason+": "+ready.Message, ": "))
		default:
			r.Message = "Ready is " + ready.Status
		}
	case StageLocation:
		r.Message = fmt.Sprintf("location %q is not selected by locationSelector %q", row.Location, p.locations)
	case StageCluster:
		if p.excludes(row.Name) {
			r.Message = "not among clusterSelector.clusterNames"
		} else {
			r.Message = fmt.Sprintf("labels are not selected by clusterSelector %q", p.clusters)
		}
	case StageTaint:
		r.Message = fmt.Sprintf("taint %s is not tolerated", row.Taints[f.index].ToString())
	case StageCapability:
		kind := p.capabilities[f.index].Type
		if _, listed := row.Capability(kind); listed {
			r.Message = fmt.Sprintf("capability %q is not available", kind)
		} else {
			r.Message = fmt.Sprintf("capability %q is required and not listed", kind)
		}
	case StageConstraint:
		failed := &p.constraints[f.index]
		r.Constraint = failed.Name
		r.Message = failed.told(failed.program.Explain(c.variables(row)), f.err)
	case StageCapacity:
		r.Message = fmt.Sprintf("asks for %s %s, %s free", capacity.Format(f.resource, c.workload.Requests.Get(f.resource)),
			f.resource, capacity.Rounded(f.resource, row.Free.Get(f.resource), false))
		if f.onNode {
			r.Message = fmt.Sprintf("each replica asks for %s %s, %s free on any one node", capacity.Format(f.resource, c.replica.Get(f.resource)),
				f.resource, capacity.Rounded(f.resource, row.LargestFree.Get(f.resource), false))
		}
	case StagePolicy:
		r.Message = "excluded by a required term"
		if reason := c.family.judgement.Terms[f.index].Reason; reason != "" {
			r.Message += ": " + reason
		}
	}
	return r
}

// told puts into words why a constraint does not hold: the author's message, the parts that fail, what they looked at.
func (c *compiledConstraint) told(causes []constraint.Cause, err error) string {
	var parts, observed []string
	for _, cause := range causes {
		parts = append(parts, cause.Expression)
		for _, o := range cause.Observed {
			if told := o.Path + " = " + o.Value; !slices.Contains(observed, told) {
				observed = append(observed, told)
			}
		}
	}
	message := "not true: " + strings.Join(parts, " && ")
	switch {
	case err != nil:
		message = fmt.Sprintf("cannot be evaluated: %v", err)
	case c.Message != "":
		message = c.Message + ": " + message
	}
	if len(observed) > 0 {
		message += " (" + strings.Join(observed, ", ") + ")"
	}
	return message
}
