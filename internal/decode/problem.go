package decode

import (
	"fmt"
	"strings"
)

// Problem is a field that cannot be read.
type Problem struct {
	// Field is its path, as spec.taints[0].timeAdded; empty for the whole.
	Field   string
	Message string
}

// Error implements error.
func (p Problem) Error() string {
	if p.Field == "" {
		return p.Message
	}
	return p.Field + ": " + p.Message
}

// maxProblems bounds the problems that are recorded of one object, maxListed those that Error lists.
const (
	maxProblems = 100
	maxListed   = 3
)

// Problems are the fields of one object that cannot be read, in a deterministic order. After a hundred of them the last is the
// whole object, so that In never takes a field for readable that may not be.
type Problems []Problem

// Error implements error.
func (p Problems) Error() string {
	var text strings.Builder
	for i, problem := range p[:min(len(p), maxListed)] {
		if i > 0 {
			text.WriteString("; ")
		}
		text.WriteString(problem.Error())
	}
	if more := len(p) - maxListed; more > 0 {
		fmt.Fprintf(&text, "; and %d more", more)
	}
	return text.String()
}

// Err returns the problems as an error, nil if there are none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// In returns the problems at, below or above a path: those that keep some of that field from being read.
func (p Problems) In(field string) Problems { return p.filter(field, true) }

// Outside returns the other problems.
func (p Problems) Outside(field string) Problems { return p.filter(field, false) }

func (p Problems) filter(field string, in bool) (some Problems) {
	for _, problem := range p {
		if (leadsTo(problem.Field, field) || leadsTo(field, problem.Field)) == in {
			some = append(some, problem)
		}
	}
	return some
}

// leadsTo reports whether a path is another one or a parent of it.
func leadsTo(path, other string) bool {
	rest, found := strings.CutPrefix(other, path)
	return found && (rest == "" || path == "" || rest[0] == '.' || rest[0] == '[')
}
