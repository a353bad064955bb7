package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Error is one error in a workspace's Rego.
type Error struct {
	// File is the module; Row and Col start at 1. All are zero if there is no position.
	File     string
	Row, Col int
	// Code is OPA's, for example rego_parse_error, or limit_error, scope_error or shape_error.
	Code    string
	Message string
}

// Error implements error.
func (e Error) Error() string {
	if e.File == "" {
		return e.Code + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", e.File, e.Row, e.Col, e.Code, e.Message)
}

// Errors are sorted by file and position.
type Errors []Error

// Error implements error, with one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// BudgetError means that an evaluation was stopped because it cost more than Budget. The same policies fail like this on the same
// input every time.
type BudgetError struct{ what string }

// Error implements error.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("the policies cost more than one evaluation may and were stopped: %s", e.what)
}

// CPUTimeError means that an evaluation was stopped because its thread used more than MaxCPUTime, which does not include the
// time that other threads or a throttled container take from it.
type CPUTimeError struct{}

// Error implements error.
func (e *CPUTimeError) Error() string {
	return fmt.Sprintf("the policies took more than %s of processor time and were stopped", MaxCPUTime)
}

// TimeoutError means that an evaluation was stopped by the wall clock. That reveals as much about the machine as about
// the policies, so it never leads to quarantine.
type TimeoutError struct{ After time.Duration }

// Error implements error.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("the policies took longer than %s and were stopped", e.After)
}

// QuarantineError means that policies are no longer evaluated because they were over budget several times in a row.
type QuarantineError struct {
	Times int
	// Last is why they were stopped the last time.
	Last error
}

// Error implements error.
func (e *QuarantineError) Error() string {
	return fmt.Sprintf("the policies are in quarantine until they are changed, having been stopped %d times in a row: %v", e.Times, e.Last)
}

// Unwrap returns Last.
func (e *QuarantineError) Unwrap() error { return e.Last }

// OverBudget reports whether an evaluation was stopped because of its own cost, which counts towards quarantine.
func OverBudget(err error) bool {
	var budget *BudgetError
	var cpu *CPUTimeError
	return errors.As(err, &budget) || errors.As(err, &cpu)
}

// Stopped reports whether an evaluation was stopped before its end, because of its cost or by the clock.
func Stopped(err error) bool {
	var timeout *TimeoutError
	return OverBudget(err) || errors.As(err, &timeout)
}

// Error codes of this package.
const (
	codeLimit = "limit_error"
	codeScope = "scope_error"
	codeShape = "shape_error"
)

// Limits of reports: number of errors, and bytes of each.
const (
	maxErrors  = 20
	maxMessage = 500
)

func at(location *ast.Location, code, format string, args ...any) Error {
	e := Error{Code: code, Message: fmt.Sprintf(format, args...)}
	if len(e.Message) > maxMessage {
		e.Message = strings.ToValidUTF8(e.Message[:maxMessage], "") + "..."
	}
	if location != nil {
		e.File, e.Row, e.Col = location.File, location.Row, location.Col
	}
	return e
}

// fromOPA converts OPA's errors.
func fromOPA(err error) Errors {
	var parsed ast.Errors
	var single *ast.Error
	var evaluated *topdown.Error
	switch {
	case errors.As(err, &single):
		return fromOPA(ast.Errors{single})
	case errors.As(err, &parsed):
		errs := make(Errors, len(parsed))
		for i, e := range parsed {
			message := e.Message
			// The type checker does not know functions that are not in the capabilities.
			if name, found := strings.CutPrefix(message, "undefined function "); found && ast.BuiltinMap[name] != nil {
				message = fmt.Sprintf("%s is none of the functions that policies may call", name)
			}
			// The details of a parse error are the line with a caret, which does not survive on one line.
			if e.Details != nil && e.Code != ast.ParseErr {
				message += ": " + strings.Join(strings.Fields(strings.ReplaceAll(strings.Join(e.Details.Lines(), " "), "^", "")), " ")
			}
			errs[i] = at(e.Location, e.Code, "%s", message)
		}
		return errs
	case errors.As(err, &evaluated):
		return Errors{at(evaluated.Location, evaluated.Code, "%s", evaluated.Message)}
	default:
		return Errors{at(nil, "rego_error", "%v", err)}
	}
}

func (e Errors) sorted() Errors {
	slices.SortFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Message, b.Message))
	})
	e = slices.Compact(e)
	return e[:min(len(e), maxErrors)]
}
