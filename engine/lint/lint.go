// Package lint finds parts of an object that have no effect: names that nothing has, selectors that match nothing, fields that nothing
// reads, values that can hardly be intended. Errors within the object itself are found when it is validated and compiled.
//
// A check is a function in a table: of placements in placement.go, of registrations in registration.go. It reports nothing
// about what it does not know: without a fleet, nothing is reported about names that the fleet does not have.
package lint

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/spelling"
)

// Severity of a finding.
type Severity string

// The severities.
const (
	// Error is something that can never be intended: it does not come into force, or keeps every workload from being placed.
	Error Severity = "error"
	// Warning is likely a mistake.
	Warning Severity = "warning"
)

// Finding is one error or warning.
type Finding struct {
	Severity Severity
	// Code names the check, for example unknown_cluster.
	Code string
	// Object is for example "WorkloadPlacement default/web"; for Rego it is the name of the module.
	Object string
	// Field of the object, for example spec.constraints[0].expression; empty for the object as a whole.
	Field string
	// Name is set if the name of the field is wrong, rather than its value.
	Name bool
	// Line and Column within the text of the field or module, counted from 1; both are 0 for the whole of it.
	Line, Column int
	// Message states what has no effect, and what to write instead.
	Message string
}

// Workspace is what the objects of a workspace are checked against.
type Workspace struct {
	Fleet       *Fleet
	Constraints *constraint.Compiler
	Placements  []*v1alpha1.WorkloadPlacement
	Scores      []*v1alpha1.ClusterScore
	// Now is the time by which Scores expire.
	Now time.Time
	// Workloads that are to be placed. If there are none, nothing is reported about what none of them has.
	Workloads []*workload.Workload
	// Kinds of workload that exist.
	Kinds *workload.Table
	// Policies are what the policies of the workspace read of its workloads.
	Policies workload.Reads

	// of is the only workload whose placement is checked, nil if all count.
	of *workload.Workload
	// waits are the workloads that wait for each other, once computed.
	waits map[*workload.Workload]*v1alpha1.WorkloadPlacement
}

// check is one check of objects of a type.
type check[T any] struct {
	severity Severity
	code     string
	find     func(object T, w *Workspace, report *report)
}

// report collects the findings of a check.
type report struct {
	template Finding
	findings []Finding
}

// at reports a finding at a field.
func (r *report) at(path *field.Path, format string, args ...any) {
	r.within(path, 0, 0, format, args...)
}

// name reports a finding in the name of a field.
func (r *report) name(path *field.Path, format string, args ...any) {
	r.at(path, format, args...)
	r.findings[len(r.findings)-1].Name = true
}

// within reports a finding at a position in the text of a field.
func (r *report) within(path *field.Path, line, column int, format string, args ...any) {
	f := r.template
	f.Line, f.Column, f.Message = line, column, fmt.Sprintf(format, args...)
	if path != nil {
		f.Field = path.String()
	}
	r.findings = append(r.findings, f)
}

// has reports whether there is a finding in a field.
func (r *report) has(path *field.Path) bool {
	return slices.ContainsFunc(r.findings, func(f Finding) bool { return strings.HasPrefix(f.Field, path.String()) })
}

// run runs all checks on an object.
func run[T any](checks []check[T], name string, object T, w *Workspace) []Finding {
	var r report
	for _, c := range checks {
		r.template = Finding{Severity: c.severity, Code: c.code, Object: name}
		c.find(object, w, &r)
	}
	return r.findings
}

// didYouMeanOr returns DidYouMean, or the list of names if none is near.
func didYouMeanOr(misspelt string, names []string) string {
	if near := spelling.DidYouMean(misspelt, names); near != "" {
		return near
	}
	return "; write " + strings.Join(names, ", ")
}
