package controller

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
)

// updatePolicies puts the Rego of the workspace's ConfigMaps into force, all together or not at all, and annotates each
// ConfigMap with the outcome. If it does not compile, the last good policies stay in force. If there are none, as after a
// restart, nothing is decided: waiting is better than deciding by policies that are not the workspace's own.
func (w *workspace) updatePolicies(ctx context.Context, o cacheView, r *result) {
	if unseen := w.policiesUnseen(ctx, &o, r); unseen != nil {
		if h := new(hidden); !w.inForce || !errors.As(unseen, &h) || !h.fleeting {
			w.setPolicyErr(unseen)
		}
		return
	}
	start := time.Now()
	var set *policy.Set
	var err error
	if panicked := recovered(func() { set, err = w.compilePolicies(o) }); panicked != nil {
		err = panicked
	}
	w.metrics.compile.Observe(time.Since(start).Seconds())
	w.setPolicyErr(err)
	if err == nil {
		if set.Digest() != w.engine.PolicyDigest(w.name) {
			w.restUntil = time.Time{} // a new digest ends the rest
		}
		w.engine.SetPolicies(w.name, set)
		w.inForce = true
	}

	for _, configMap := range o.configMaps {
		status := policyStatus(configMap, err)
		if configMap.Annotations[v1alpha1.AnnotationPolicyStatus] != status {
			r.fail(w.annotate(ctx, configMap, v1alpha1.AnnotationPolicyStatus, status))
		}
	}
}

func (w *workspace) setPolicyErr(err error) {
	if (err == nil) != (w.policyErr == nil) {
		w.metrics.policyErrs.Add(map[bool]float64{true: -1, false: 1}[err == nil])
	}
	w.policyErr = err
}

// compilePolicies fails where a ConfigMap cannot be read in full, since a policy could be missing.
func (w *workspace) compilePolicies(o cacheView) (*policy.Set, error) {
	var unreadable policy.Errors
	for _, configMap := range o.configMaps {
		if problems := o.unreadable[configMap.UID]; len(problems) > 0 {
			unreadable = append(unreadable, policy.Error{Code: "unreadable", File: policy.ModuleName(configMap, ""), Row: 1, Col: 1, Message: problems.Error()})
		}
	}
	if len(unreadable) > 0 {
		return nil, unreadable
	}
	return w.policies.Compile(policy.Modules(o.configMaps))
}

// policyStatus is the annotation of a ConfigMap in the shape that kube-mgmt uses: ok, or the errors in its own modules and
// those without a location.
func policyStatus(configMap *corev1.ConfigMap, err error) string {
	type location struct {
		File string `json:"file"`
		Row  int    `json:"row"`
		Col  int    `json:"col"`
	}
	type detail struct {
		Code     string    `json:"code"`
		Message  string    `json:"message"`
		Location *location `json:"location,omitempty"`
	}
	type failure struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Errors  []detail `json:"errors"`
	}
	var status struct {
		Status string   `json:"status"`
		Error  *failure `json:"error,omitempty"`
	}
	status.Status = "ok"
	if err != nil {
		var all policy.Errors
		if !errors.As(err, &all) {
			all = policy.Errors{{Code: "internal_error", Message: err.Error()}}
		}
		own := slices.DeleteFunc(slices.Clone(all), func(e policy.Error) bool {
			return e.File != "" && !strings.HasPrefix(e.File, policy.ModuleName(configMap, ""))
		})
		if len(own) > 0 {
			status.Status = "error"
			status.Error = &failure{Code: "invalid_parameter", Message: "the policies do not come into force; the last good ones stay"}
			for _, e := range own {
				d := detail{Code: e.Code, Message: e.Message}
				if e.File != "" {
					d.Location = &location{e.File, e.Row, e.Col}
				}
				status.Error.Errors = append(status.Error.Errors, d)
			}
		}
	}
	text, err := json.Marshal(status)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return string(text)
}
