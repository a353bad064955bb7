package console

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// placementFile is the name of the file that a placement is tried as.
const placementFile = "placement "

// files are what is tried, as files of their own.
func (p *Play) files() (files []*manifest.File) {
	for _, name := range slices.Sorted(maps.Keys(p.Placements)) {
		files = append(files, &manifest.File{Name: placementFile + name, Text: p.Placements[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(p.Modules)) {
		files = append(files, &manifest.File{Name: name, Text: p.Modules[name]})
	}
	return files
}

// play tries placements and policies on a workspace.
func (v *view) play(ctx context.Context, kinds *workload.Table, w *manifest.Workspace, p *Play) (*Played, error) {
	start := time.Now()
	answer := &Played{Findings: []Finding{}}
	candidates, wrong := manifest.Reader{Kinds: kinds}.Read(p.files())
	for _, e := range wrong {
		answer.Findings = append(answer.Findings, newFinding(check.Finding{Severity: check.Error, Code: check.CodeManifest, Position: e.Position, Object: e.Object, Field: e.Field, Message: e.Message}))
	}
	if len(wrong) > 0 {
		answer.ElapsedMs = time.Since(start).Milliseconds()
		return answer, nil
	}
	base := []*manifest.Workspace{w}
	overlaid, err := manifest.Overlay(base, candidates, p.Modules != nil)
	if err != nil {
		return nil, &failure{http.StatusUnprocessableEntity, err.Error()}
	}
	sim, err := simulation.New(simulation.Options{Fresh: p.Fresh, Now: v.at})
	if err != nil {
		return nil, err
	}
	_ = sim.Load(ctx, base)
	before, err := sim.Run(ctx)
	if err != nil {
		return nil, err
	}
	budget := disruption.Default
	if p.DisruptionPercent != nil {
		budget.Percent = *p.DisruptionPercent
	}
	sim.Pace(budget)
	if p.Fresh {
		sim.Clear()
	}
	if err := sim.Load(ctx, overlaid); err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			answer.Findings = append(answer.Findings, Finding{Severity: string(check.Error), Message: line})
		}
		answer.ElapsedMs = time.Since(start).Milliseconds()
		return answer, nil
	}
	after, err := sim.Run(ctx)
	if err != nil {
		return nil, err
	}
	answer.Diff = simulation.Compare(before, after)
	answer.ElapsedMs = time.Since(start).Milliseconds()
	return answer, nil
}

func newFinding(f check.Finding) Finding {
	found := Finding{Severity: string(f.Severity), Code: f.Code, Line: f.Line, Column: f.Column, Object: f.Object, Field: f.Field, Message: f.Message}
	if f.File != nil {
		found.File = f.File.Name
	}
	return found
}
