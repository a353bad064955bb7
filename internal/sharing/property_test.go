package sharing_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/sharing"
)

// TestAnyWorld: whatever workspaces grant and bind, in circles as well, a cluster is seen through one grant, a fleet is that of a workspace
// that uses its own, both sides say the same of a binding, and a view does not depend on what is granted to others.
func TestAnyWorld(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(r *rapid.T) {
		pick := rapid.SampledFrom(names)
		some := func(what, of string, most int) (lines []string) {
			for range rapid.IntRange(0, most).Draw(r, what) {
				lines = append(lines, of)
			}
			return lines
		}
		grants := func() (text string) {
			for i := range some("grants", "", 3) {
				text += fmt.Sprintf(`{name: g%d, workspace: {path: "root:%s"}, quota: {cpu: "%d"}, guaranteed: {cpu: "%d"}},`, i, pick.Draw(r, "to"), rapid.IntRange(-1, 9).Draw(r, "quota"), rapid.IntRange(0, 9).Draw(r, "guaranteed"))
			}
			return text
		}
		in := map[string]workspace{}
		for _, name := range names {
			w := workspace{clusters: rapid.SampledFrom([]string{"", "", "a1", "a1 a2 b1"}).Draw(r, "clusters"), sets: map[string]string{}}
			for i := range some("sets", "", 2) {
				w.sets[fmt.Sprintf("s%d", i)] = fmt.Sprintf(`{clusterSelector: %s, grants: [%s]}`, rapid.SampledFrom([]string{"{}", "null", "{clusterNames: [a1, b1]}", "{labelSelector: {matchLabels: {tier: a}}}"}).Draw(r, "selector"), grants())
			}
			for range some("bindings", "", 3) {
				w.bindings = append(w.bindings, pick.Draw(r, "of")+"/"+rapid.SampledFrom([]string{"s0", "s1"}).Draw(r, "set"))
			}
			in[name] = w
		}
		all := world(t, in)
		lookup := among(all)
		bound := map[string]bool{}
		for name, w := range all {
			v := sharing.ViewOf(w, lookup)
			if v.Fleet != w.Name {
				if own := sharing.ViewOf(all[v.Fleet.String()], lookup); own.Fleet != v.Fleet {
					r.Fatalf("%s looks at the fleet of %s, which looks at that of %s", name, v.Fleet, own.Fleet)
				}
			} else if len(v.Grants) > 0 {
				r.Fatalf("%s has grants for its own fleet", name)
			}
			seen := map[string]bool{}
			for _, g := range v.Grants {
				if seen[g.Set] {
					r.Fatalf("%s has two grants of %s", name, g.Set)
				}
				seen[g.Set] = true
			}
			for _, b := range v.Bindings {
				if b.Reason == sharing.Bound {
					bound[fmt.Sprint(b.Fleet, b.Spec.ClusterSet, name)] = true
				}
			}
		}
		told := map[string]bool{}
		for name, w := range all {
			for _, s := range sharing.SetsOf(w, lookup, func(string) capacity.Resources { return capacity.Resources{CPU: 10000} }) {
				for _, g := range s.Grants {
					if g.Bound {
						told[fmt.Sprint(name, s.Name, g.Workspace.Name)] = true
					}
				}
			}
		}
		if !reflect.DeepEqual(bound, told) {
			r.Fatalf("teams say %v, platforms %v", bound, told)
		}
		// What b is granted is taken away: c sees the same.
		others := map[string]workspace{}
		for name, w := range in {
			fewer := w
			fewer.sets = map[string]string{}
			for set, spec := range w.sets {
				parsed := read[map[string]any](t, spec)
				list, _ := parsed["grants"].([]any)
				parsed["grants"] = slices.DeleteFunc(slices.Clone(list), func(g any) bool {
					return g.(map[string]any)["workspace"].(map[string]any)["path"] == "root:b"
				})
				fewer.sets[set] = write(t, parsed)
			}
			others[name] = fewer
		}
		changed := world(t, others)
		if before, after := sharing.ViewOf(all["c"], lookup), sharing.ViewOf(changed["c"], among(changed)); !reflect.DeepEqual(before.Grants, after.Grants) || before.Fleet != after.Fleet {
			r.Fatalf("c sees %+v, and %+v once b is granted nothing", before, after)
		}
	})
}
