package scenario_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/scenario"
)

// FuzzSteps: whatever a story says, it is played to its end or refused, and does not go on for ever.
func FuzzSteps(f *testing.F) {
	for _, steps := range []string{
		"- waiting: 0", "-", "- null\n- 1", "[]", "- {at: 2026-03-02T08:00:00Z, waiting: 0}", "- {at: 1e9h, events: []}", "- {after: 30d, moves: 0}",
		"- {repeat: 3, steps: [{after: 90s, silent: [eu]}, {after: 10s, reports: [eu]}]}", "- {repeat: 2, steps: &s [{repeat: 2, steps: *s}]}",
		"- expect: {Deployment default/web: {clusters: [eu], conditions: {Ready: none}, status: {a: [1]}}}", "- expect:", "- expect: []",
		"- patch: {ClusterRegistration eu: null}", "- patch: {ClusterRegistration eu: {metadata: null}}", "- patch: {Deployment default/web: {kind: Job, metadata: {name: x}}}",
		"- patch: {ClusterRegistration eu: {status: {conditions: 1}}}\n- reports: [eu]", "- delete: [Deployment default/web, ClusterRegistration eu]\n- reports: [eu]",
		"- apply: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x, annotations: 1}}]", "- apply: [1, null, eu.yaml]", "- restart: true\n- restart: true",
	} {
		f.Add(steps)
	}
	f.Fuzz(func(t *testing.T, steps string) {
		ctx, done := context.WithTimeout(t.Context(), 5*time.Second)
		defer done()
		s, err := scenario.Parse(&manifest.File{Name: "fuzz.txtar", Text: `-- fleet.yaml --
{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterRegistration, metadata: {name: eu}, spec: {location: eu}, status: {allocatable: {cpu: "4"}, conditions: [{type: Ready, status: "True"}]}}
---
{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p}, spec: {workloadSelector: {}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{name: main}]}}}}
-- steps.yaml --
` + steps + "\n"}, func(string) ([]*manifest.File, error) { return nil, errors.New("there are no other files") })
		if err != nil {
			return
		}
		if _, err := s.Run(ctx); ctx.Err() != nil {
			t.Error("it goes on: ", err)
		}
		_, _ = s.Update(ctx)
	})
}
