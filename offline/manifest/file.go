package manifest

import (
	"fmt"
	"strings"
)

// File is a file as it was read.
type File struct {
	// Name as people gave it, "-" for standard input.
	Name string
	Text string
	// Found tells that the file was found in a folder rather than named: then it may hold something else than objects.
	Found bool

	lines []string
}

// Line returns a line of the file, from 1; "" where there is none.
func (f *File) Line(n int) string {
	if f.lines == nil {
		f.lines = strings.Split(f.Text, "\n")
	}
	if n < 1 || n > len(f.lines) {
		return ""
	}
	return strings.TrimSuffix(f.lines[n-1], "\r")
}

// Position is a place in a file. Line and Column are counted from 1, columns in characters; both are 0 where it is
// the file as a whole, and File is nil for what was not read from a file.
type Position struct {
	File         *File
	Line, Column int
}

// String writes the position as file:line:column.
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

// Error is something that is wrong with an object, or with a file as a whole.
type Error struct {
	Position
	// Object that is concerned, as "WorkloadPlacement default/web"; empty where it could not be read so far.
	Object string
	// Field that is concerned, as spec.constraints[0].name; empty where it is the whole object.
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
