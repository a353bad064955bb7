package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/panics"
)

// shadow is the second set of policies of a workspace, from the ConfigMaps labeled as shadow.
//
// Invariant: whatever is wrong with it, and however slow it is, the policies in force decide what they would without it. It is evaluated
// after decisions are published, and never again once it has exceeded its budget.
type shadow struct {
	configMaps []*corev1.ConfigMap
	// compiled is the set as written; err is why there is none or why it is refused.
	compiled *policy.Set
	err      error
	// set is the set that is evaluated; nil if there is none, if it is refused, and until it has been tried.
	set   *policy.Set
	trial *policy.Trial
	// overran is a set that has exceeded its budget; overranErr has the details.
	overran    *policy.Set
	overranErr error
	refused    map[types.UID]string
	// unknown are ConfigMaps that name a set which does not exist.
	unknown map[types.UID]string
}

const (
	// maxShadowed is how many decisions of a pass the shadow policies make again at most, shadowWithin how long that may take.
	maxShadowed  = 200
	shadowWithin = 100 * time.Millisecond
)

// compileShadow compiles the shadow policies. A set that was evaluated no longer is once its text has changed.
func (w *workspace) compileShadow(configMaps []*corev1.ConfigMap, unreadable map[types.UID]decode.Problems) {
	s := &w.shadow
	s.configMaps = configMaps
	if len(configMaps) == 0 {
		s.compiled, s.err, s.trial, s.overran = nil, nil, nil, nil
	} else if panicked := panics.Recovered(func() { s.compiled, s.err = w.compilePolicies(configMaps, unreadable) }); panicked != nil {
		s.compiled, s.err = nil, panicked
	}
	switch {
	case s.compiled == nil:
		w.evaluateShadow(nil)
	case s.compiled == s.overran:
		s.err = s.overranErr
	case s.compiled == s.set:
	case s.compiled.WasShadow(configMaps), w.rollout != nil && w.rollout.Percent > 0 && w.rollout.Digest == s.compiled.Digest(): // before a restart
		w.evaluateShadow(s.compiled)
	default:
		w.evaluateShadow(nil)
	}
}

// evaluateShadow makes the engine evaluate a set alongside the one in force.
func (w *workspace) evaluateShadow(set *policy.Set) {
	if w.shadow.set != set {
		w.shadow.set = set
		w.engine.SetShadowPolicies(w.name, set)
	}
}

// tryShadow tries shadow policies for the existing workloads, like policies before they come into force, and reports the outcome.
func (w *workspace) tryShadow(ctx context.Context, o *cacheView, placements []*placementState, r *result) {
	s := &w.shadow
	if s.compiled != nil && s.compiled != s.set && s.err == nil {
		var err error
		if panicked := panics.Recovered(func() { err = w.fails(ctx, &s.trial, s.compiled, placements) }); panicked != nil {
			err = panicked
		}
		if errors.Is(err, errOnTrial) {
			r.again = true
			return
		}
		if s.trial != nil && s.trial.Overran() != nil {
			s.overran, s.overranErr = s.compiled, err
		}
		if s.err = err; err == nil {
			w.evaluateShadow(s.compiled)
		}
	}
	w.annotatePolicies(ctx, s.configMaps, &s.refused, s.status, r)
	unknown := slices.DeleteFunc(slices.Clone(o.configMaps), func(c *corev1.ConfigMap) bool {
		set := policy.SetOf(c)
		return set == "" || set == v1alpha1.PolicySetShadow
	})
	w.annotatePolicies(ctx, unknown, &s.unknown, unknownSet, r)
}

// status returns the annotation for a ConfigMap of the shadow policies.
func (s *shadow) status(configMap *corev1.ConfigMap) policyStatus {
	status := newPolicyStatus(configMap, s.compiled, s.err, nil)
	status.Digest = ""
	if status.Error != nil {
		status.Error.Message = "the shadow policies are not evaluated"
	} else if s.err == nil {
		status.Shadow = s.compiled.Digest()
	}
	return status
}

// unknownSet returns the annotation for a ConfigMap whose policies belong to no set.
func unknownSet(configMap *corev1.ConfigMap) policyStatus {
	message := fmt.Sprintf("the label %s is %q: it must be %q, or be left out for the policies in force", v1alpha1.LabelPolicySet, policy.SetOf(configMap), v1alpha1.PolicySetShadow)
	return policyStatus{Status: "error", Error: &policyError{
		Code: "invalid_parameter", Message: "the policies are not loaded", Errors: []policyDetail{{Code: "unknown_set", Message: message}},
	}}
}

// shadowResult is how the shadow policies would decide differently, as a label of the metric.
type shadowResult string

const (
	differsNot    shadowResult = "same"
	otherClusters shadowResult = "other_clusters"
	wouldWait     shadowResult = "would_wait"
	wouldNotWait  shadowResult = "would_not_wait"
	shadowFailed  shadowResult = "failed"
	shadowSkipped shadowResult = "skipped"
)

// differenceOf compares the decisions on one workload by the policies in force and by the shadow policies.
func differenceOf(inForce, shadow *engine.Decision) shadowResult {
	byName := func(a, b engine.Choice) int { return strings.Compare(a.Name, b.Name) }
	one, other := slices.SortedFunc(slices.Values(inForce.Clusters), byName), slices.SortedFunc(slices.Values(shadow.Clusters), byName)
	switch {
	case slices.EqualFunc(one, other, func(a, b engine.Choice) bool { return a.Name == b.Name && a.Replicas == b.Replicas }):
		return differsNot
	case len(other) == 0:
		return wouldWait
	case len(one) == 0:
		return wouldNotWait
	default:
		return otherClusters
	}
}

// shadowed queues a request for the shadow policies to decide again once the decision is published.
func (p *pass) shadowed(r engine.Request) {
	switch {
	case p.shadow.set == nil:
	case len(p.made) < maxShadowed:
		p.made = append(p.made, r)
	default:
		p.metrics.shadow.WithLabelValues(string(shadowSkipped)).Inc()
	}
}

// compareShadow makes the decisions of a pass again, by the policies in force and by the shadow policies, and counts the differences. Both
// see the same clusters, ignoring what the workload itself has been given, and nothing is reserved.
func (p *pass) compareShadow(ctx context.Context) {
	start := time.Now()
	for i, r := range p.made {
		result := shadowSkipped
		if time.Since(start) < shadowWithin && p.shadow.set != nil {
			result = p.compareOne(ctx, r)
		}
		p.metrics.shadow.WithLabelValues(string(result)).Inc()
		p.made[i] = engine.Request{}
	}
}

func (p *pass) compareOne(ctx context.Context, r engine.Request) shadowResult {
	ctx, done := context.WithTimeout(ctx, decideWithin)
	defer done()
	r.Shadow = false
	inForce, err := p.engine.Explain(ctx, r)
	if err != nil {
		return shadowSkipped
	}
	r.Shadow = true
	var shadow *engine.Decision
	if panicked := panics.Recovered(func() { shadow, err = p.engine.Explain(ctx, r) }); panicked != nil {
		err = panicked
	}
	switch {
	case policy.OverBudget(err):
		p.shadow.overran = p.shadow.set
		p.shadow.overranErr = policy.Errors{{Code: "limit_error", Message: fmt.Sprintf("%v (for %s): they are not evaluated until they are changed", err, r.Workload)}}
		p.shadow.err = p.shadow.overranErr
		p.evaluateShadow(nil)
		p.result.again = true // so that its ConfigMaps are annotated
		return shadowFailed
	case err != nil:
		return shadowFailed
	case inForce.Revision != shadow.Revision:
		return shadowSkipped
	default:
		return differenceOf(inForce, shadow)
	}
}
