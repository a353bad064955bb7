package manifest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/offline/manifest"
)

// TestNamesOfWorkspaces: an object says which workspace it is of by a logical cluster or a path. Where both are known, others may refer to
// the workspace by either.
func TestNamesOfWorkspaces(t *testing.T) {
	object := func(name, annotations string) string {
		return fmt.Sprintf("apiVersion: tmc.kcp.io/v1alpha1\nkind: ClusterRegistration\nmetadata: {name: %s, annotations: {%s}}\nspec: {location: eu}\n", name, annotations)
	}
	for _, test := range []struct {
		name    string
		objects []string
		want    string
	}{
		{"nothing", []string{object("a", "")}, "default () 1"},
		{"a logical cluster", []string{object("a", "kcp.io/cluster: c1")}, "c1 () 1"},
		{"a path", []string{object("a", "kcp.io/path: root:a"), object("b", `kcp.io/cluster: "root:a"`)}, "root:a (root:a) 2"},
		{"both", []string{object("a", "kcp.io/cluster: c1, kcp.io/path: root:a"), object("b", "kcp.io/cluster: c1")}, "c1 (root:a) 2"},
		{"as kcp says it", []string{object("a", "kcp.io/cluster: c1"), "apiVersion: core.kcp.io/v1alpha1\nkind: LogicalCluster\nmetadata: {name: cluster, annotations: {kcp.io/cluster: c1, kcp.io/path: root:a}}\nspec: {}\n"}, "c1 (root:a) 1"},
		{"two paths of one", []string{object("a", "kcp.io/cluster: c1, kcp.io/path: root:a"), object("b", "kcp.io/cluster: c1, kcp.io/path: root:b")},
			"c1 (root:a) 2; f.yaml:8:68: ClusterRegistration b: workspace c1 has the path root:a already: give all its objects one path"},
		{"two names of one", []string{object("a", "kcp.io/cluster: c1, kcp.io/path: root:a"), object("b", "kcp.io/path: root:a")},
			"c1 (root:a) 1, root:a (root:a) 1; f.yaml:8:34: workspace root:a is named c1 and root:a: give all its objects the same annotation kcp.io/cluster"},
	} {
		t.Run(test.name, func(t *testing.T) {
			workspaces, errs := manifest.Read([]*manifest.File{{Name: "f.yaml", Text: strings.Join(test.objects, "---\n")}})
			var all []string
			for _, w := range workspaces {
				all = append(all, fmt.Sprintf("%s (%s) %d", w.Name, w.Path, len(w.Clusters)))
			}
			got := strings.Join(all, ", ")
			for _, err := range errs {
				got += "; " + err.Error()
			}
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestDecisionsBesideRegistrations: what is kept in the workspace of the clusters counts for the workspace of the placement, in its
// namespace, and what that has itself is a copy.
func TestDecisionsBesideRegistrations(t *testing.T) {
	slice := func(workspace, namespace, name, source, workload string) string {
		return fmt.Sprintf(`apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementDecision
metadata: {name: %s, namespace: %s, annotations: {kcp.io/cluster: %s}}
placementName: web
%s
decisions:
- {workload: {apiVersion: apps/v1, kind: Deployment, name: %s, uid: u}, clusters: [{name: eu, replicas: 1, score: 50, reason: Fair, reserved: {cpu: "1"}}], inputsDigest: d, decidedAt: "2026-01-01T00:00:00Z"}
---
`, name, namespace, workspace, source, workload)
	}
	workspaces, errs := manifest.Read([]*manifest.File{{Name: "f.yaml", Text: slice("platform", "placement-decisions", "x", "source: {workspace: team, namespace: shop}", "kept") +
		slice("platform", "default", "own", "", "mine") + slice("team", "shop", "web", "", "edited") + slice("other", "shop", "web", "", "own") +
		slice("apart, tmc.kcp.io/copy-of: elsewhere", "shop", "web", "", "copied")}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var got []string
	for _, w := range workspaces {
		for _, d := range w.Decisions {
			got = append(got, fmt.Sprintf("%s held by %q: %s/%s %s", w.Name, w.Held, d.Typed.Namespace, d.Typed.PlacementName, d.Typed.Decisions[0].Workload.Name))
		}
	}
	want := []string{`apart held by "elsewhere": shop/web copied`, `other held by "": shop/web own`, `platform held by "": default/web mine`, `team held by "platform": shop/web kept`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
