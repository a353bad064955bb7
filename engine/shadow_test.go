package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/policy"
)

// TestHostileShadow: shadow policies that exceed their budget are quarantined on their own, however often the policies in force succeed
// in between, and these decide as before.
func TestHostileShadow(t *testing.T) {
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	compiled := func(text string) *policy.Set {
		set, err := policies.Compile(map[string]string{"a.rego": text})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	e := newEngine(t, engine.Options{Policies: policies})
	e.SetCluster(ws, cluster("a", 1000))
	e.SetPolicies(ws, compiled(`package placement.scoring
weights := {"health": 1} if input.workload.name`))
	e.SetShadowPolicies(ws, compiled(`package placement.scoring
default weights := {"health": 1}
ten := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
weights := {"health": 2} if {
	input.workload.name != "sample"
	every a in ten { every b in ten { every c in ten { every d in ten { every e in ten { every f in ten { a + b + c + d + e + f >= 0 } } } } } }
}`))
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	for i := range 5 {
		request := engine.Request{Workspace: ws, Placement: p, Workload: workloadOf(fmt.Sprint(i), 1)}
		if d, err := e.Decide(context.Background(), request); err != nil || names(d) != "a" {
			t.Fatalf("in force: %v, %v", d, err)
		}
		request.Shadow = true
		_, err := e.Explain(context.Background(), request)
		var quarantine *policy.QuarantineError
		if quarantined := errors.As(err, &quarantine); !quarantined && !policy.OverBudget(err) || quarantined != (i >= 3) {
			t.Errorf("evaluation %d of the shadow: %v", i, err)
		}
	}
	if err := e.Quarantine(ws); err != nil {
		t.Errorf("those in force are in quarantine: %v", err)
	}
}

// TestShadowSuggests: for a workload that shadow policies decide on, only a cluster that they would place it on is suggested.
func TestShadowSuggests(t *testing.T) {
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := policies.Compile(map[string]string{"a.rego": `package placement.affinity
terms contains {"match": {"location": "mars"}, "factor": "location", "required": true}`})
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, engine.Options{Policies: policies})
	e.SetCluster(ws, cluster("a", 10))
	e.SetShadowPolicies(ws, set)
	request := engine.Request{Workspace: ws, Placement: compile(t, e, v1alpha1.WorkloadPlacementSpec{}), Workload: workloadOf("w", 20), Shadow: true}
	suggested, err := e.Suggest(context.Background(), request)
	if err != nil || suggested != nil && suggested.Location != "mars" {
		t.Errorf("suggests %+v, %v", suggested, err)
	}
}
