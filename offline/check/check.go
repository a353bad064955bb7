// Package check finds errors in placements, policies and workloads before they are applied, each with its position.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/manifest"
)

// Severity of a finding.
type Severity = lint.Severity

// The severities.
const (
	// Error is a finding that does not come into force, or keeps workloads from being placed.
	Error = lint.Error
	// Warning is likely a mistake.
	Warning = lint.Warning
)

// Codes of findings. Findings in Rego have OPA's codes, such as rego_type_error; those of engine/lint have the names of its checks.
const (
	CodeManifest  = "manifest"
	CodeCEL       = "cel"
	CodePlacement = "placement"
	CodeCluster   = "cluster"
	CodeWorkload  = "workload"
	CodeDecision  = "decision"
	// CodeNotPlaced marks objects that may be meant as workloads and are not placed.
	CodeNotPlaced = "not_placed"
	// CodeDeadline marks drains whose deadline has passed.
	CodeDeadline = "deadline"
	CodeLint     = "rego_lint"
	// CodeJudgement marks policies that fail for one of the workloads.
	CodeJudgement = "judgement"
)

// Finding is one error or warning.
type Finding struct {
	Severity Severity
	Code     string
	manifest.Position
	// Object is for example "WorkloadPlacement default/web"; empty for a Rego module.
	Object string
	// Field of the object; empty for the object as a whole.
	Field   string
	Message string
}

// Description returns the message prefixed by the object and the field.
func (f Finding) Description() string {
	parts := []string{f.Object, f.Field, f.Message}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), ": ")
}

// Cost is the highest cost of one evaluation of a constraint.
type Cost struct {
	manifest.Position
	Placement, Constraint string
	Cost, Limit           uint64
}

// Report is the result of a check.
type Report struct {
	// Findings by position.
	Findings []Finding
	// Costs of the constraints that compile, highest first.
	Costs []Cost
	// Placements and Modules are numbers of objects checked.
	Placements, Modules int
}

// Count returns the number of findings of a severity.
func (r *Report) Count(severity Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == severity {
			n++
		}
	}
	return n
}

// Run checks files, with these workload kinds. It fails only if ctx ends.
func Run(ctx context.Context, kinds *workload.Table, files []*manifest.File) (*Report, error) {
	workspaces, wrong := manifest.Reader{Kinds: kinds}.Read(files)
	return Workspaces(ctx, kinds, workspaces, wrong, func(*manifest.File) bool { return true })
}

// Workspaces checks workspaces that have been read, and adds the errors found in reading. It reports only findings in files for which of
// returns true, and skips work that could only yield findings in others. It fails only if ctx ends.
func Workspaces(ctx context.Context, kinds *workload.Table, workspaces []*manifest.Workspace, wrong []*manifest.Error, of func(*manifest.File) bool) (*Report, error) {
	constraints, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		return nil, err
	}
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		return nil, err
	}
	e, err := engine.New(engine.Options{Constraints: constraints, Policies: policies})
	if err != nil {
		return nil, err
	}
	c := checker{kinds: kinds, constraints: constraints, policies: policies, engine: e, now: time.Now(), of: of, report: &Report{}}
	for _, e := range wrong {
		c.find(Finding{Error, CodeManifest, e.Position, e.Object, e.Field, e.Message})
	}
	c.shared = newShared(workspaces)
	for _, w := range workspaces {
		c.sharing(w)
		if err := c.workspace(ctx, w); err != nil {
			return nil, err
		}
	}
	r := c.report
	r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool { return !of(f.File) })
	r.Sort()
	slices.SortStableFunc(r.Costs, func(a, b Cost) int { return cmp.Compare(b.Cost, a.Cost) })
	return r, nil
}

// Sort sorts the findings by position, and removes duplicates.
func (r *Report) Sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(name(a.File), name(b.File)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	r.Findings = slices.Compact(r.Findings)
}

func name(f *manifest.File) string {
	if f == nil {
		return ""
	}
	return f.Name
}

type checker struct {
	kinds       *workload.Table
	constraints *constraint.Compiler
	policies    *policy.Compiler
	engine      *engine.Engine
	now         time.Time
	shared      *shared
	// of reports whether findings in a file are reported.
	of     func(*manifest.File) bool
	report *Report
}

// reports reports whether findings in an object are reported.
func (c *checker) reports(o *manifest.Object) bool { return c.of(o.File()) }

func (c *checker) find(f Finding) { c.report.Findings = append(c.report.Findings, f) }

func (c *checker) workspace(ctx context.Context, w *manifest.Workspace) error {
	oldestFirst := slices.SortedFunc(slices.Values(w.Placements), func(a, b manifest.Typed[v1alpha1.WorkloadPlacement]) int { return placement.ByAge(a.Typed, b.Typed) })
	var clusters []*snapshot.Cluster
	owner, seen := c.shared.fleetOf(w)
	for _, o := range seen {
		usage, at := owner.UsageOf(o.Typed.Name), o.Object
		s := owner.Cluster(o.Typed, c.now)
		clusters = append(clusters, s)
		if s.Invalid != "" && owner == w {
			invalid, ofUsage := strings.CutPrefix(s.Invalid, "ClusterUsage: ")
			if ofUsage {
				at = usage.Object
			}
			field, message, _ := strings.Cut(invalid, ": ")
			c.find(Finding{Error, CodeCluster, at.Position(field), at.String(), field, message})
		}
	}
	linter := &lint.Workspace{Fleet: lint.NewFleet(clusters), Constraints: c.constraints, Kinds: c.kinds, Now: c.now}
	for _, o := range w.Scores {
		linter.Scores = append(linter.Scores, o.Typed)
	}
	for _, o := range w.Scores {
		if c.reports(o.Object) {
			c.lint(o.Object, linter.Score(o.Typed))
		}
	}
	for _, o := range w.Clusters {
		if c.reports(o.Object) {
			c.lint(o.Object, lint.Registration(o.Typed))
			c.deadline(o)
		}
	}
	for _, o := range oldestFirst {
		linter.Placements = append(linter.Placements, o.Typed)
	}
	for _, o := range w.Workloads {
		if o.End() == "" || o.End() == workload.Suspended {
			linter.Workloads = append(linter.Workloads, o.Workload)
		}
	}
	for _, o := range w.Decisions {
		if !c.reports(o.Object) {
			continue
		}
		for i, d := range o.Typed.Decisions {
			if _, err := engine.ReservationOf(types.NamespacedName{}, &d); err != nil {
				field, message, _ := strings.Cut(fmt.Sprintf("decisions[%d].%v", i, err), ": ")
				c.find(Finding{Error, CodeDecision, o.Position(field), o.String(), field, message})
			}
		}
	}
	placements := make([]*placement.Placement, len(oldestFirst))
	selectors := make([]placement.Selector, len(oldestFirst))
	for i, o := range oldestFirst {
		placements[i] = c.placement(o)
		if c.reports(o.Object) {
			c.lint(o.Object, linter.Placement(o.Typed))
		}
		selectors[i], _ = placement.CompileSelector(o.Typed)
	}
	c.configMaps(w)
	set := c.modules(w)
	c.shadow(w)
	linter.Policies = workload.ReadsOf("annotations")
	if set != nil { // otherwise nobody knows
		linter.Policies = set.Reads()
	}
	// scheduled are the placements as policies schedule their workloads, each with the first such workload.
	var scheduled []scheduledAs
	sampled := map[string]bool{}
	for _, o := range w.LeftOut {
		if !c.reports(o.Object) {
			continue
		}
		field, message, _ := strings.Cut(o.Err.Error(), ": ")
		c.find(Finding{Warning, CodeNotPlaced, o.Position(field), o.String(), field, message})
	}
	objects := map[string]*manifest.Object{}
	for _, o := range oldestFirst {
		objects[o.String()] = o.Object
	}
	owned := make([][]manifest.Workload, len(oldestFirst))
	for _, o := range w.Workloads {
		objects[o.String()] = o.Object
		if o.End() != workload.Controlled && c.reports(o.Object) {
			c.lintAll(o.Object, linter.Workload(lint.Workload{Unstructured: o.Unstructured(), Read: o.Workload}))
		}
		if o.Err != nil {
			if c.reports(o.Object) {
				field, message, _ := strings.Cut(o.Err.Error(), ": ")
				c.find(Finding{Error, CodeWorkload, o.Position(field), o.String(), field, message})
			}
			continue
		}
		owner, _ := placement.Owner(selectors, o.Workload)
		if owner >= 0 && o.End() != workload.Controlled {
			owned[owner] = append(owned[owner], o)
		}
		if set == nil || owner < 0 || placements[owner] == nil {
			continue
		}
		request := engine.Request{Workspace: w.Name, Placement: placements[owner], Workload: o.Workload}
		_, err := c.engine.Explain(ctx, request)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			c.judgement(w, o, err)
			continue
		}
		if under, err := c.engine.Scheduled(ctx, request); err == nil && !sampled[under.Digest] {
			sampled[under.Digest] = true
			scheduled = append(scheduled, scheduledAs{oldestFirst[owner], under, o.Workload})
		}
	}
	delivery := c.delivery(w, seen)
	for i, o := range oldestFirst {
		if c.reports(o.Object) {
			delivery.placement(o, owned[i])
		}
	}
	for _, f := range linter.Selection() {
		if c.reports(objects[f.Object]) {
			c.lintAll(objects[f.Object], []lint.Finding{f})
		}
	}
	if set != nil {
		reported := c.effect(ctx, w, set, linter)
		for _, s := range scheduled {
			if !c.reports(s.placement.Object) {
				continue
			}
			c.lintAll(s.placement.Object, linter.Scheduled(s.placement.Typed, s.under, s.workload, reported))
		}
	}
	return nil
}

// deadline warns of a drain that would be applied with a deadline in the past. For a drain that has begun, that is fine.
func (c *checker) deadline(o manifest.Typed[v1alpha1.ClusterRegistration]) {
	drain := o.Typed.Spec.Drain
	if drain == nil || drain.Deadline == nil || o.Typed.Status.Drain != nil || c.now.Before(drain.Deadline.Time) {
		return
	}
	const at = "spec.drain.deadline"
	c.find(Finding{Warning, CodeDeadline, o.Position(at), o.String(), at, fmt.Sprintf(
		"%s has passed, so that all that can leave does at once: give a later time, or leave it out to keep the pace", drain.Deadline.UTC().Format(time.RFC3339))})
}

// scheduledAs is a placement as policies schedule one of its workloads.
type scheduledAs struct {
	placement manifest.Typed[v1alpha1.WorkloadPlacement]
	under     *placement.Placement
	workload  *workload.Workload
}

// placement checks a placement, and returns it compiled; nil if it has errors.
func (c *checker) placement(o manifest.Typed[v1alpha1.WorkloadPlacement]) *placement.Placement {
	c.report.Placements++
	expressions := map[string]bool{}
	for path, constraint := range placement.EachConstraint(o.Typed) {
		at := path.Child("expression").String()
		expressions[at] = true
		program, err := c.constraints.Compile(constraint.Expression)
		for _, e := range celErrors(err) {
			message := fmt.Sprintf("constraint %s: %s", constraint.Name, e.Message)
			c.find(Finding{Error, CodeCEL, o.Within(at, e.Line, e.Column), o.String(), at, message})
		}
		if err == nil {
			c.report.Costs = append(c.report.Costs, Cost{o.Position(at), o.String(), constraint.Name, program.Cost(), c.constraints.CostLimit()})
		}
	}
	compiled, err := c.engine.CompilePlacement(o.Typed)
	var all utilerrors.Aggregate
	if errors.As(err, &all) {
		for _, err := range all.Errors() {
			var wrong *field.Error
			if !errors.As(err, &wrong) {
				continue
			}
			reported := expressions[wrong.Field] || slices.ContainsFunc(c.report.Findings, func(f Finding) bool {
				return f.Object == o.String() && f.Field == wrong.Field
			})
			if !reported {
				c.find(Finding{Error, CodePlacement, o.Position(wrong.Field), o.String(), wrong.Field, wrong.ErrorBody()})
			}
		}
	}
	return compiled
}

// lint adds findings in an object, except in fields already known to be wrong.
func (c *checker) lint(o *manifest.Object, findings []lint.Finding) {
	for _, f := range findings {
		reported := slices.ContainsFunc(c.report.Findings, func(k Finding) bool {
			return k.Severity == Error && k.Object == f.Object && k.Field != "" && k.Field != "spec" && strings.HasPrefix(f.Field, k.Field)
		})
		if !reported {
			c.lintAll(o, []lint.Finding{f})
		}
	}
}

// lintAll adds findings in an object.
func (c *checker) lintAll(o *manifest.Object, findings []lint.Finding) {
	for _, f := range findings {
		at := o.Position(f.Field)
		switch {
		case f.Name:
			at = o.PositionOfKey(f.Field)
		case f.Line > 0:
			at = o.Within(f.Field, f.Line, f.Column)
		}
		c.find(Finding{f.Severity, f.Code, at, f.Object, f.Field, f.Message})
	}
}

// celErrors returns the individual errors of an expression.
func celErrors(err error) (errs []*constraint.Error) {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range several.Unwrap() {
			errs = append(errs, celErrors(e)...)
		}
		return errs
	}
	var one *constraint.Error
	if errors.As(err, &one) {
		errs = append(errs, one)
	}
	return errs
}
