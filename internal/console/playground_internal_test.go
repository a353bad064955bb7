package console

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/manifest"
)

// TestTryOfTheSameRules: what policies would move is not worked out again where only a comment or the layout changes, and where they
// stand wrong is told anew. Where it may change, it is worked out again.
func TestTryOfTheSameRules(t *testing.T) {
	const folder = "../../examples/team-ml/"
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var files []*manifest.File
	for _, e := range entries {
		if text, err := os.ReadFile(folder + e.Name()); err == nil && e.Name() != "expected.yaml" {
			files = append(files, &manifest.File{Name: e.Name(), Text: string(text)})
		}
	}
	workspaces, wrong := manifest.Read(files)
	if err := manifest.Join(wrong); err != nil {
		t.Fatal(err)
	}
	v := &view{workspaces: workspaces, table: newTable(workspaces, "", time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC))}
	const text = "package placement.scoring\n\nweights := {\"capacity\": 10, \"health\": 10, \"performance\": 40, \"location\": 10}\n\nwieght := 1\n"
	percent := 7
	begin := func() *Play {
		return &Play{Modules: map[string]string{"a.rego": text, "b.rego": "package placement.scheduling\n"}, Placements: map[string]string{}}
	}
	play := func(p *Play) *Played {
		t.Helper()
		played, err := v.play(t.Context(), workload.Kinds(), workspaces[0], p)
		if err != nil || played.Diff == nil {
			t.Fatalf("%v: %+v", err, played)
		}
		return played
	}
	line := func(p *Played) int {
		i := slices.IndexFunc(p.Findings, func(f Finding) bool { return f.File == "a.rego" })
		if i < 0 {
			t.Fatalf("nothing is found in a.rego: %+v", p.Findings)
		}
		return p.Findings[i].Line
	}
	for name, test := range map[string]struct {
		change func(*Play)
		same   bool
	}{
		"nothing":        {func(*Play) {}, true},
		"a comment":      {func(p *Play) { p.Modules["a.rego"] = "# why\n" + text }, true},
		"the layout":     {func(p *Play) { p.Modules["a.rego"] = strings.ReplaceAll(text, ", ", ",\n\t") }, true},
		"a value":        {func(p *Play) { p.Modules["a.rego"] = strings.Replace(text, "40", "41", 1) }, false},
		"a module less":  {func(p *Play) { delete(p.Modules, "b.rego") }, false},
		"a module more":  {func(p *Play) { p.Modules["c.rego"] = "package placement.scheduling\n" }, false},
		"another name":   {func(p *Play) { delete(p.Modules, "b.rego"); p.Modules["c.rego"] = "package placement.scheduling\n" }, false},
		"no modules":     {func(p *Play) { p.Modules = nil }, false},
		"anew":           {func(p *Play) { p.Fresh = true }, false},
		"another budget": {func(p *Play) { p.DisruptionPercent = &percent }, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := play(begin())
			changed := begin()
			test.change(changed)
			after := play(changed)
			if same := after.Diff == before.Diff; same != test.same {
				t.Errorf("what it moves is worked out again: %t", !same)
			}
			if name == "a comment" && line(after) != line(before)+1 {
				t.Errorf("%+v became %+v", before.Findings, after.Findings)
			}
		})
	}
}
