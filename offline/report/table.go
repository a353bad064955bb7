package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Table is a table in kubectl's layout. On a terminal it is at most as wide as the terminal: longer texts wrap within their column.
type Table struct {
	table.Writer
	width  int   // of the terminal; 0 is unlimited
	widest []int // the widest cell of each column
}

const (
	gap = "   " // between two columns
	// narrowest is the least width of a column whose content is wider.
	narrowest = 12
)

// NewTable returns a table that is printed to w. If w has a method Width, that is the width in columns.
func NewTable(w io.Writer) *Table {
	t := &Table{Writer: table.NewWriter()}
	if terminal, ok := w.(interface{ Width() int }); ok {
		t.width = terminal.Width()
	}
	t.SetOutputMirror(trimmer{w})
	style := table.StyleDefault
	style.Name = "kubectl"
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", gap
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	return t
}

// AppendHeader implements table.Writer.
func (t *Table) AppendHeader(row table.Row, configs ...table.RowConfig) {
	t.measure(row)
	t.Writer.AppendHeader(row, configs...)
}

// AppendRow implements table.Writer.
func (t *Table) AppendRow(row table.Row, configs ...table.RowConfig) {
	t.measure(row)
	t.Writer.AppendRow(row, configs...)
}

func (t *Table) measure(row table.Row) {
	for len(t.widest) < len(row) {
		t.widest = append(t.widest, 0)
	}
	for i, cell := range row {
		t.widest[i] = max(t.widest[i], text.LongestLineLen(fmt.Sprint(cell)))
	}
}

// Render implements table.Writer. The widest column shrinks until the table fits.
func (t *Table) Render() string {
	if t.width > 0 {
		configs := make([]table.ColumnConfig, len(t.widest))
		for i, width := range fit(t.widest, t.width) {
			configs[i] = table.ColumnConfig{Number: i + 1, WidthMax: width, WidthMaxEnforcer: text.WrapSoft}
		}
		t.SetColumnConfigs(configs)
	}
	return t.Writer.Render()
}

// fit returns column widths, at most the wanted ones, such that a row including its gaps is at most limit wide, provided that each can
// be as wide as the narrowest.
func fit(wanted []int, limit int) []int {
	widths := append([]int(nil), wanted...)
	for {
		total, widest := (len(widths)-1)*len(gap), 0
		for i, width := range widths {
			total += width
			if width > widths[widest] {
				widest = i
			}
		}
		if total <= limit || len(widths) == 0 || widths[widest] <= narrowest {
			return widths
		}
		widths[widest]--
	}
}

// trimmer removes the padding after the last column.
type trimmer struct{ io.Writer }

func (t trimmer) Write(p []byte) (int, error) {
	lines := strings.Split(string(p), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	if _, err := io.WriteString(t.Writer, strings.Join(lines, "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}
