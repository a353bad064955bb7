package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/panics"
)

// updatePolicies puts the Rego of the workspace's ConfigMaps into force, all together or not at all, and annotates each
// ConfigMap with the outcome. If it does not compile, or fails for an existing workload, the last good policies stay in
// force. If there are none, as after a restart, nothing is decided: waiting is better than deciding by policies that are not the
// workspace's own.
func (w *workspace) updatePolicies(ctx context.Context, o cacheView, placements []*placementState, r *result) {
	if unseen := w.policiesUnseen(ctx, &o, r); unseen != nil {
		if h := new(hidden); !w.inForce || !errors.As(unseen, &h) || !h.fleeting {
			w.setPolicyErr(unseen)
		}
		return
	}
	w.policiesShown = o.configMaps
	start, inForce := time.Now(), policy.OfSet(o.configMaps, "")
	w.compileShadow(policy.OfSet(o.configMaps, v1alpha1.PolicySetShadow), o.unreadable)
	var set *policy.Set
	var err error
	if panicked := panics.Recovered(func() { set, err = w.compilePolicies(inForce, o.unreadable) }); panicked != nil {
		err = panicked
	}
	w.metrics.compile.Observe(time.Since(start).Seconds())
	if err == nil && !w.wasInForce(set, inForce) {
		if panicked := panics.Recovered(func() { err = w.fails(ctx, &w.trial, set, placements) }); panicked != nil {
			err = panicked
		}
	}
	w.setPolicyErr(err)
	if errors.Is(err, errOnTrial) {
		r.again = true
		return
	}
	if err == nil {
		if set.Digest() != w.engine.PolicyDigest(w.name) {
			w.restUntil = time.Time{} // a new digest ends the rest
		}
		w.engine.SetPolicies(w.name, set)
		w.inForce = true
		w.lintPolicies(ctx, set)
	}
	w.annotatePolicies(ctx, inForce, &w.refused, func(c *corev1.ConfigMap) policyStatus { return newPolicyStatus(c, set, err, w.linted.findings) }, r)
}

// wasInForce reports whether policies are in force, or were before a restart. Such policies stay, and a workload for which they fail
// waits alone. The built-in policies fail for none.
func (w *workspace) wasInForce(set *policy.Set, configMaps []*corev1.ConfigMap) bool {
	if w.rollout != nil && w.rollout.Phase == v1alpha1.RolloutComplete && set.Digest() == w.rollout.Digest {
		return true
	}
	if w.inForce {
		return set.Digest() == w.engine.PolicyDigest(w.name)
	}
	return set == w.policies.Builtin() || set.WasInForce(configMaps)
}

// linted holds the findings in the policies in force.
type linted struct {
	set      *policy.Set
	facts    uint64
	probes   []policy.Probe
	findings []lint.Finding
	// messages are the findings as conditions report them.
	messages []string
}

// lintPolicies lints the policies in force when they or the facts of clusters have changed.
func (w *workspace) lintPolicies(ctx context.Context, set *policy.Set) {
	if set == w.policies.Builtin() {
		w.linted = linted{}
		return
	}
	if w.linted.set == set && w.linted.facts == w.facts {
		return
	}
	if w.linted.set != set {
		w.linted.probes = set.Probe(ctx, w.table.References())
	}
	var clusters []*snapshot.Cluster
	for _, row := range w.engine.Snapshot(w.name).Rows() {
		clusters = append(clusters, row.Cluster)
	}
	checked := lint.Policies{Set: set, Kinds: w.table.References(), Probes: w.linted.probes, Fleet: lint.NewFleet(clusters)}
	w.linted.set, w.linted.facts, w.linted.findings, w.linted.messages = set, w.facts, checked.Find(), nil
	for _, f := range w.linted.findings {
		w.linted.messages = append(w.linted.messages, fmt.Sprintf("%s:%d:%d: %s", f.Object, f.Line, f.Column, f.Message))
	}
}

var factsSeed = maphash.MakeSeed()

// factsHash identifies everything that policies and placements can refer to in the clusters.
func (w *workspace) factsHash(registrations []*v1alpha1.ClusterRegistration) (sum uint64) {
	for _, r := range registrations {
		fact := func(key, value string) { sum += maphash.Comparable(factsSeed, [3]string{r.Name, key, value}) }
		fact("location", r.Spec.Location)
		for key, value := range r.Labels {
			fact(key, value)
		}
		for _, capability := range r.Spec.Capabilities {
			fact("capability", capability.Type)
			for key, value := range capability.Attributes {
				fact(capability.Type+" "+key, value)
			}
		}
		for _, taint := range r.Spec.Taints {
			fact("taint", taint.Key)
		}
		for name := range r.Status.Allocatable {
			fact("resource", string(name))
		}
		for _, s := range w.clusters[r.Name].scores {
			fact("score "+s.Name+" "+s.From, s.Expired.UTC().Format(time.RFC3339))
		}
	}
	return sum
}

// annotatePolicies writes the outcome to the ConfigMaps, with an event for each that is newly refused.
func (w *workspace) annotatePolicies(ctx context.Context, configMaps []*corev1.ConfigMap, refused *map[types.UID]string, statusOf func(*corev1.ConfigMap) policyStatus, r *result) {
	refusals := map[types.UID]string{}
	for _, configMap := range configMaps {
		status := statusOf(configMap)
		text := status.String()
		if status.Error != nil {
			refusals[configMap.UID] = text
		}
		if configMap.Annotations[v1alpha1.AnnotationPolicyStatus] == text {
			continue
		}
		if status.Error != nil && (*refused)[configMap.UID] != text {
			w.event(configMap, corev1.EventTypeWarning, "PoliciesRefused", status.Error.String())
		}
		r.fail(w.annotate(ctx, configMap, v1alpha1.AnnotationPolicyStatus, text))
	}
	*refused = refusals
}

// maxRefusedEvents bounds the events of one pass about refused policies, since these affect every placement of the workspace.
const maxRefusedEvents = 20

// refusedEvent records an event about refused policies, once per refusal, and reports whether there is one.
func (w *workspace) refusedEvent(after, before *v1alpha1.WorkloadPlacement) bool {
	now, last := conditions.Get(after, v1alpha1.PoliciesReadyCondition), conditions.Get(before, v1alpha1.PoliciesReadyCondition)
	if now == nil || w.policyErr == nil || now.Reason != policyErrorReason || last != nil && last.Message == now.Message {
		return false
	}
	w.event(after, corev1.EventTypeWarning, "PoliciesRefused", now.Message)
	return true
}

func (w *workspace) setPolicyErr(err error) {
	if (err == nil) != (w.policyErr == nil) {
		w.metrics.policyErrs.Add(map[bool]float64{true: -1, false: 1}[err == nil])
	}
	w.policyErr = err
}

// compilePolicies fails if a ConfigMap cannot be read in full, since a policy could be missing.
func (w *workspace) compilePolicies(configMaps []*corev1.ConfigMap, problemsOf map[types.UID]decode.Problems) (*policy.Set, error) {
	var unreadable policy.Errors
	for _, configMap := range configMaps {
		if problems := problemsOf[configMap.UID]; len(problems) > 0 {
			unreadable = append(unreadable, policy.Error{Code: "unreadable", File: policy.ModuleName(configMap, ""), Row: 1, Col: 1, Message: problems.Error()})
		}
	}
	if len(unreadable) > 0 {
		return nil, unreadable
	}
	return w.policies.Compile(policy.Modules(configMaps))
}

// policyStatus is the annotation of a ConfigMap, in the format of kube-mgmt, extended by warnings.
type policyStatus struct {
	Status string       `json:"status"`
	Error  *policyError `json:"error,omitempty"`
	// Warnings are parts of the modules that have no effect.
	Warnings []policyDetail `json:"warnings,omitempty"`
	// Digest is the digest of the workspace's policies if they are in force, Shadow that of its shadow policies if they are evaluated.
	Digest string `json:"digest,omitempty"`
	Shadow string `json:"shadow,omitempty"`
}

type policyError struct {
	Code    string         `json:"code"`
	Message string         `json:"message"`
	Errors  []policyDetail `json:"errors"`
}

type policyDetail struct {
	Code     string          `json:"code"`
	Message  string          `json:"message"`
	Location *policyLocation `json:"location,omitempty"`
}

type policyLocation struct {
	File string `json:"file"`
	Row  int    `json:"row"`
	Col  int    `json:"col"`
}

// maxPolicyWarnings bounds the warnings in an annotation.
const maxPolicyWarnings = 20

// newPolicyStatus returns the status of a ConfigMap: the errors in its own modules and those without a location, or the warnings
// for its modules.
func newPolicyStatus(configMap *corev1.ConfigMap, set *policy.Set, err error, findings []lint.Finding) policyStatus {
	status := policyStatus{Status: "ok"}
	modules := policy.ModuleName(configMap, "")
	if err == nil {
		status.Digest = set.Digest()
		for _, f := range lint.ConfigMap(configMap) {
			status.Warnings = append(status.Warnings, policyDetail{f.Code, strings.TrimSpace(f.Field + " " + f.Message), nil})
		}
		for _, f := range findings {
			if strings.HasPrefix(f.Object, modules) {
				status.Warnings = append(status.Warnings, policyDetail{f.Code, f.Message, &policyLocation{f.Object, f.Line, f.Column}})
			}
		}
		status.Warnings = status.Warnings[:min(len(status.Warnings), maxPolicyWarnings)]
		return status
	}
	var all policy.Errors
	if !errors.As(err, &all) {
		all = policy.Errors{{Code: "internal_error", Message: err.Error()}}
	}
	for _, e := range all {
		detail := policyDetail{Code: e.Code, Message: e.Message}
		switch {
		case strings.HasPrefix(e.File, modules):
			detail.Location = &policyLocation{e.File, e.Row, e.Col}
		case e.File != "":
			continue
		}
		if status.Error == nil {
			status.Status = "error"
			status.Error = &policyError{Code: "invalid_parameter", Message: "the policies do not come into force; the last good ones stay"}
		}
		status.Error.Errors = append(status.Error.Errors, detail)
	}
	return status
}

// String returns the annotation value.
func (s policyStatus) String() string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return string(text)
}

// String returns the message including the nested errors.
func (e *policyError) String() string {
	parts := []string{e.Message}
	for _, d := range e.Errors {
		text := d.Code + ": " + d.Message
		if d.Location != nil {
			text = fmt.Sprintf("%s:%d:%d: %s", d.Location.File, d.Location.Row, d.Location.Col, text)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ": ")
}

// policyWarnings returns a message about parts of the policies in force that have no effect; empty if there are none.
func (w *workspace) policyWarnings() string {
	if len(w.linted.messages) == 0 {
		return ""
	}
	return shorten("In force, and in part without effect or faulty: " + examples(w.linted.messages))
}
