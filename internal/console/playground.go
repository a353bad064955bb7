package console

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"weak"

	"github.com/kcp-dev/logicalcluster/v3"
	"golang.org/x/sync/errgroup"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// table is where policies are tried on workspaces as they are. What is in force is placed once; each try starts from there, and
// leaves nothing behind. Tenants' Rego runs here with a budget and a quarantine of its own.
type table struct {
	workspaces []*manifest.Workspace
	about      logicalcluster.Name
	at         time.Time
	// turn is held by who tries; idle fires when nobody has tried for a while.
	turn chan struct{}
	idle *time.Timer
	// trial is where all is tried; nil before the first try. What is compiled and ranked there is most of what a table holds.
	trial *simulation.Simulation
	// invalid is why what is given as in force would not come into force.
	invalid error
	// decided is where workloads are by their decisions.
	decided simulation.Assignments
	// bases are what is in force, placed: as decided, and anew.
	bases map[bool]*base
	// last is what was tried last, and moved what; nil where that may depend on more than its rules.
	last *tried
}

type tried struct {
	*Play
	diff *simulation.Diff
}

// base is what is in force, placed.
type base struct {
	before *simulation.Result
	placed simulation.Assignments
}

func newTable(workspaces []*manifest.Workspace, about logicalcluster.Name, at time.Time) *table {
	t := &table{workspaces: workspaces, about: about, at: at, turn: make(chan struct{}, 1), bases: map[bool]*base{}}
	held := weak.Make(t) // the timer of what is shown no more holds nothing
	t.idle = time.AfterFunc(trialIdle, func() {
		if t := held.Value(); t != nil {
			t.forget()
		}
	})
	return t
}

// trialIdle is how long what a try has compiled and ranked is kept for the next one.
const trialIdle = 2 * time.Minute

// forget frees what the next try makes again.
func (t *table) forget() {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	t.free()
}

// leave frees what only a try on what is about to be shown no more would need; one that runs keeps it.
func (t *table) leave() {
	select {
	case t.turn <- struct{}{}:
		t.free()
		<-t.turn
	default:
	}
}

// free is called by who has the turn.
func (t *table) free() {
	t.trial, t.decided, t.last = nil, simulation.Assignments{}, nil
	clear(t.bases)
}

// base returns what is in force. Who calls it has the turn.
func (t *table) base(ctx context.Context, fresh bool) (*base, error) {
	if b := t.bases[fresh]; b != nil {
		return b, nil
	}
	begins := t.trial == nil
	if begins {
		s, err := simulation.New(simulation.Options{Now: t.at, About: t.about})
		if err != nil {
			return nil, err
		}
		t.invalid = s.Load(ctx, t.workspaces)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		t.trial, t.decided = s, s.Assignments()
	}
	if !begins || fresh {
		_ = t.load(ctx, t.workspaces, t.decided, fresh) // t.invalid has what is wrong
	}
	before, err := t.trial.Run(ctx)
	if err != nil {
		return nil, err
	}
	t.bases[fresh] = &base{before, t.trial.Assignments()}
	return t.bases[fresh], nil
}

// load has the trial begin from where workloads are, or from nothing.
func (t *table) load(ctx context.Context, workspaces []*manifest.Workspace, from simulation.Assignments, fresh bool) error {
	t.trial.Reset(from)
	if fresh {
		t.trial.Clear()
	}
	return t.trial.Load(ctx, workspaces)
}

// diff returns what other workspaces in the place of those in force would move, or a note why that is not known.
func (t *table) diff(ctx context.Context, p *Play, overlaid []*manifest.Workspace) (*simulation.Diff, string, error) {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, "", context.Cause(ctx)
	}
	t.idle.Stop()
	defer t.idle.Reset(trialIdle)
	if t.last != nil && t.last.same(p) {
		return t.last.diff, "", nil
	}
	t.last = nil
	b, err := t.base(ctx, p.Fresh)
	if err != nil {
		return nil, "", err
	}
	if t.invalid != nil && (p.Fresh || !decided(t.workspaces)) {
		return nil, "There is nothing to compare with: what is in force is wrong, and no PlacementDecision says where workloads run.", nil
	}
	budget := disruption.Default
	if p.DisruptionPercent != nil {
		budget.Percent = *p.DisruptionPercent
	}
	err = t.load(ctx, overlaid, b.placed, p.Fresh)
	if err != nil {
		return nil, "What is tried would not come into force: " + err.Error(), context.Cause(ctx)
	}
	t.trial.Pace(budget)
	after, err := t.trial.Run(ctx)
	if err != nil {
		return nil, "", err
	}
	diff := simulation.Compare(b.before, after)
	if !slices.ContainsFunc(after.Decisions, func(d simulation.Decision) bool { return d.Failed() }) { // errors tell the line of a module
		t.last = &tried{p, diff}
	}
	return diff, "", nil
}

// same reports whether two plays move the same: they differ in the comments and the layout of policies at most.
func (p *Play) same(other *Play) bool {
	if p.Workspace != other.Workspace || p.Fresh != other.Fresh || !ptr.Equal(p.DisruptionPercent, other.DisruptionPercent) ||
		!maps.Equal(p.Placements, other.Placements) || (p.Modules == nil) != (other.Modules == nil) {
		return false
	}
	compiler, err := compiler()
	return err == nil && compiler.SameRules(p.Modules, other.Modules)
}

// placementFile is what the name of the file begins with that a placement is tried as.
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

// validate refuses what no workspace can be.
func (p *Play) validate() error {
	for name := range p.Modules {
		if !strings.HasSuffix(name, ".rego") {
			return &failure{http.StatusUnprocessableEntity, fmt.Sprintf("modules: %q must end in .rego", name)}
		}
	}
	for name := range p.Placements {
		if strings.HasSuffix(name, ".rego") {
			return &failure{http.StatusUnprocessableEntity, fmt.Sprintf("placements: %q is the name of a module", name)}
		}
	}
	if p.DisruptionPercent != nil && (*p.DisruptionPercent < 0 || *p.DisruptionPercent > 100) {
		return &failure{http.StatusUnprocessableEntity, fmt.Sprintf("disruptionPercent: %d must be from 0 to 100", *p.DisruptionPercent)}
	}
	return nil
}

// overlay returns a workspace with what is tried in the place of what is in force, and the errors in that.
func (p *Play) overlay(kinds *workload.Table, w *manifest.Workspace) (*manifest.Workspace, []*manifest.Error, error) {
	candidates, wrong := manifest.Reader{Kinds: kinds}.Read(p.files())
	overlaid, err := manifest.Overlay([]*manifest.Workspace{w}, candidates, p.Modules != nil)
	switch {
	case err != nil:
		return nil, wrong, &failure{http.StatusUnprocessableEntity, err.Error()}
	case len(overlaid) != 1:
		return nil, wrong, &failure{http.StatusUnprocessableEntity, fmt.Sprintf("what is tried says that it is of another workspace than %s: take the annotation kcp.io/cluster out", w.Name)}
	}
	if p.Modules != nil { // the other sets of policies stay
		for name, m := range w.Modules {
			if m.Set != "" {
				overlaid[0].Modules[name] = m
			}
		}
	}
	return overlaid[0], wrong, nil
}

// play tries placements and policies on a workspace.
func (v *view) play(ctx context.Context, kinds *workload.Table, w *manifest.Workspace, p *Play) (*Played, error) {
	start := time.Now()
	if err := p.validate(); err != nil {
		return nil, err
	}
	t := v.table
	if p.Objects != "" {
		workspaces, wrong := manifest.Reader{Kinds: kinds}.Read([]*manifest.File{{Name: "objects", Text: p.Objects}})
		if err := manifest.Join(wrong); err != nil {
			return nil, &failure{http.StatusUnprocessableEntity, "objects: " + err.Error()}
		}
		if len(workspaces) != 1 {
			return nil, &failure{http.StatusUnprocessableEntity, "objects: they are of several workspaces: give those of one"}
		}
		w, t = workspaces[0], newTable(workspaces, "", v.at)
	}
	overlaid, wrong, err := p.overlay(kinds, w)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(t.workspaces)
	for i := range all {
		if all[i].Name == w.Name {
			all[i] = overlaid
		}
	}
	answer := &Played{}
	var group errgroup.Group
	group.Go(func() (err error) {
		answer.Findings, err = findings(ctx, kinds, all, wrong, p)
		return err
	})
	if len(wrong) > 0 {
		answer.Note = "What is tried would not be taken by the API server."
	} else {
		answer.Diff, answer.Note, err = t.diff(ctx, p, all)
	}
	if checkErr := group.Wait(); err == nil {
		err = checkErr
	}
	answer.ElapsedMs = time.Since(start).Milliseconds()
	return answer, err
}

// findings are those of check in what is tried.
func findings(ctx context.Context, kinds *workload.Table, workspaces []*manifest.Workspace, wrong []*manifest.Error, p *Play) ([]Finding, error) {
	report, err := check.Workspaces(ctx, kinds, workspaces, wrong, p.tries)
	if err != nil {
		return nil, err
	}
	found := []Finding{}
	for _, f := range report.Findings {
		found = append(found, newFinding(f))
	}
	return found, nil
}

// tries reports whether a file is one of those that are tried.
func (p *Play) tries(f *manifest.File) bool {
	if f == nil {
		return false
	}
	_, tried := p.Modules[f.Name]
	if name, isPlacement := strings.CutPrefix(f.Name, placementFile); isPlacement {
		_, tried = p.Placements[name]
	}
	return tried
}

func newFinding(f check.Finding) Finding {
	found := Finding{Severity: string(f.Severity), Code: f.Code, Line: f.Line, Column: f.Column, Object: f.Object, Field: f.Field, Message: f.Message}
	if f.File != nil {
		found.File = f.File.Name
	}
	return found
}
