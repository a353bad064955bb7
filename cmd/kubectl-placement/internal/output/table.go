package output

import "io"

// Tabular is an answer that people read at a terminal.
type Tabular interface {
	// Table writes the answer as text; errors are those of w.
	Table(w io.Writer)
}

func writeTable(w io.Writer, answer Tabular) error {
	answer.Table(w)
	return nil
}
