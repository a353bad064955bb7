package decode_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

// TestUnknown: fields that a type does not have are named with their path and what is likely meant, at any depth. Keys of maps, and
// what a type reads by itself, are no fields; values of the wrong type are another matter.
func TestUnknown(t *testing.T) {
	found := decode.Unknown[v1alpha1.WorkloadPlacementSpec](map[string]any{
		"spreadConstraint": []any{}, "numberOfClusters": map[string]any{"any": "thing"}, "priority": "high", "clusterSelector": nil,
		"spreadConstraints": []any{map[string]any{"topologykey": "a"}, "b", map[string]any{"topologyKey": "c", "zzz": int64(1)}},
		"workloadSelector":  map[string]any{"labelSelector": map[string]any{"matchLabels": map[string]any{"any": "label"}, "matchLabel": nil}},
	})
	var got []string
	for _, p := range found {
		got = append(got, p.Error())
	}
	if diff := cmp.Diff([]string{
		"spreadConstraint: unknown field, did you mean spreadConstraints?",
		"spreadConstraints[0].topologykey: unknown field, did you mean topologyKey?",
		"spreadConstraints[2].zzz: unknown field: there are topologyKey, maxSkew, minDomains, whenUnsatisfiable, scope, weight",
		"workloadSelector.labelSelector.matchLabel: unknown field, did you mean matchLabels?",
	}, got); diff != "" {
		t.Error(diff)
	}
}
