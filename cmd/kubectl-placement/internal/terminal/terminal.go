// Package terminal writes text that tenants have written to a terminal: without control sequences, in colour and with
// progress where the output is a terminal.
package terminal

import (
	"io"
	"os"
	"regexp"

	"golang.org/x/term"
)

// Writer removes from text what would control a terminal, since names, messages and lines of files are written by
// tenants; colours stay. It keeps the first error, since printing a table drops it.
type Writer struct {
	w   io.Writer
	err error
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

var unprintable = regexp.MustCompile(`\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f\x{80}-\x{9f}\x{2028}\x{2029}\x{202a}-\x{202e}\x{2066}-\x{2069}]`)

// Write implements io.Writer.
func (w *Writer) Write(text []byte) (int, error) {
	clean := unprintable.ReplaceAllFunc(text, func(match []byte) []byte {
		if len(match) > 3 && match[0] == 0x1b {
			return match
		}
		return []byte("?")
	})
	if _, err := w.w.Write(clean); err != nil {
		if w.err == nil {
			w.err = err
		}
		return 0, err
	}
	return len(text), nil
}

// Err returns the first error of a write.
func (w *Writer) Err() error { return w.err }

// Raw returns what a Writer writes to, for text that must not change.
func Raw(w io.Writer) io.Writer {
	if clean, ok := w.(*Writer); ok {
		return clean.w
	}
	return w
}

// Interactive reports whether w shows colours and progress: it is a terminal, and $NO_COLOR is not set.
func Interactive(w io.Writer) bool {
	file, ok := Raw(w).(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""
}

// Width is how many columns w shows; 0 is without a limit, as for files and pipes.
func (w *Writer) Width() int {
	file, ok := w.w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}
