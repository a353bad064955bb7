package manifest

import (
	"fmt"
	"strings"
	"sync"
)

// File is a file that was read.
type File struct {
	// Name is as given by the user, "-" for standard input.
	Name string
	Text string
	// Found reports that the file was found in a folder instead of being named: it may hold YAML other than objects.
	Found bool
	// Err is why a file that was found cannot be read.
	Err error

	split sync.Once
	lines []string
}

// lineCount returns the number of lines.
func (f *File) lineCount() int {
	f.Line(1)
	return len(f.lines)
}

// Line returns line n of the file, counting from 1; "" if there is no such line.
func (f *File) Line(n int) string {
	f.split.Do(func() { f.lines = strings.Split(f.Text, "\n") })
	if n < 1 || n > len(f.lines) {
		return ""
	}
	return strings.TrimSuffix(f.lines[n-1], "\r")
}

// Position is a position in a file. Line and Column count from 1, columns in characters; both are 0 for the file as a
// whole. File is nil for an object that was not read from a file.
type Position struct {
	File         *File
	Line, Column int
}

// String returns file:line:column.
func (p Position) String() string {
	switch {
	case p.File == nil:
		return ""
	case p.Line == 0:
		return p.File.Name
	default:
		return fmt.Sprintf("%s:%d:%d", p.File.Name, p.Line, p.Column)
	}
}

// Error is an error in an object or in a file.
type Error struct {
	Position
	// Object is for example "WorkloadPlacement default/web"; empty if the object could not be read.
	Object string
	// Field is for example spec.constraints[0].name; empty for the object as a whole.
	Field   string
	Message string
}

// Error implements error.
func (e *Error) Error() string {
	var parts []string
	for _, part := range []string{e.String(), e.Object, e.Field, e.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}
