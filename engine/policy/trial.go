package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Trial evaluates a set for the existing workloads before it comes into force, once for all that look the same to it.
type Trial struct {
	Set  *Set
	seed maphash.Seed
	// outcomes are the errors of workloads by what the set sees of them; nil if it does not fail.
	outcomes map[seen]error
	// overran is the error of an evaluation that exceeded its budget.
	overran error
}

// Overran returns the error of an evaluation that exceeded its budget; nil if none has.
func (t *Trial) Overran() error { return t.overran }

// seen is what a set sees of a workload of a workspace.
type seen struct {
	placement string
	workload  uint64
}

// NewTrial returns a trial of a set.
func NewTrial(set *Set) *Trial {
	return &Trial{Set: set, seed: maphash.MakeSeed(), outcomes: map[seen]error{}}
}

// Run evaluates the set for workloads that an earlier Run has not covered, until it fails or goesOn returns false. It returns the Errors
// because of which the set must not come into force, with the name of a workload, or the cause of ctx. Without an error, the set is
// sound for all workloads once done is true.
func (t *Trial) Run(ctx context.Context, workloads []Input, goesOn func() bool) (done bool, err error) {
	var failing []string // workloads
	var cut bool
	outcomes := make(map[seen]error, len(t.outcomes))
	for _, in := range workloads {
		class := seen{
			fmt.Sprintf("%s/%s %s", in.Placement.Namespace, in.Placement.Name, labels.Set(in.Placement.Labels)),
			t.Set.Reads().Hash(t.seed, in.Workload),
		}
		outcome, known := outcomes[class]
		if !known {
			outcome, known = t.outcomes[class]
		}
		if !known {
			if cut = cut || err != nil || !goesOn(); cut {
				continue
			}
			_, outcome = t.Set.Judge(ctx, in)
			if OverBudget(outcome) {
				t.overran = outcome
			}
			switch {
			case ctx.Err() != nil:
				return false, context.Cause(ctx)
			case Stopped(outcome) && !OverBudget(outcome):
				outcome = nil // a clock stopped it, which reveals nothing about the policies
			}
		}
		outcomes[class] = outcome
		if outcome != nil && (err == nil || err.Error() == outcome.Error()) {
			err, failing = outcome, append(failing, in.Workload.String())
		}
	}
	t.outcomes = outcomes
	if err != nil {
		return false, forWorkload(err, slices.Min(failing))
	}
	return !cut, nil
}

// forWorkload adds to an error of policies the workload for which they fail.
func forWorkload(err error, name string) Errors {
	var errs Errors
	if !errors.As(err, &errs) {
		errs = Errors{{Code: codeLimit, Message: err.Error()}}
	}
	errs = slices.Clone(errs)
	for i := range errs {
		errs[i].Message += fmt.Sprintf(" (for %s)", name)
	}
	return errs
}

// WasInForce reports whether ConfigMaps record that the set is in force, in the status that the controller writes.
func (s *Set) WasInForce(configMaps []*corev1.ConfigMap) bool {
	return slices.ContainsFunc(configMaps, func(c *corev1.ConfigMap) bool { return writtenStatusOf(c).Digest == s.digest })
}

// WasShadow reports whether ConfigMaps record there that the set is evaluated as the shadow policies.
func (s *Set) WasShadow(configMaps []*corev1.ConfigMap) bool {
	return slices.ContainsFunc(configMaps, func(c *corev1.ConfigMap) bool { return writtenStatusOf(c).Shadow == s.digest })
}

// writtenStatus is the part of that status that is read back.
type writtenStatus struct {
	Digest string `json:"digest"`
	Shadow string `json:"shadow"`
}

func writtenStatusOf(c *corev1.ConfigMap) (status writtenStatus) {
	if json.Unmarshal([]byte(c.Annotations[v1alpha1.AnnotationPolicyStatus]), &status) != nil {
		return writtenStatus{}
	}
	return status
}
