package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/kcp-placement/placement/offline/check"
)

// Check prints the findings of a check over a number of files and, with costs, the cost of each constraint.
func Check(w io.Writer, r *check.Report, files int, costs bool) {
	for _, f := range r.Findings {
		finding(w, f)
	}
	if costs && len(r.Costs) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"CONSTRAINT", "PLACEMENT", "MAY COST", "LIMIT", "AT"})
		for _, c := range r.Costs {
			t.AppendRow(table.Row{c.Constraint, c.Placement, c.Cost, c.Limit, c.Position})
		}
		t.Render()
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d files, %d placements, %d modules of Rego: %d errors, %d warnings\n",
		files, r.Placements, r.Modules, r.Count(check.Error), r.Count(check.Warning))
}

// finding prints a finding, and below it the line of the file with the position underlined.
func finding(w io.Writer, f check.Finding) {
	start := text.FgRed.Sprint(string(f.Severity))
	if f.Severity == check.Warning {
		start = text.FgYellow.Sprint(string(f.Severity))
	}
	if position := f.String(); position != "" {
		start = position + ": " + start
	}
	fmt.Fprintf(w, "%s: %s [%s]\n", start, f.Description(), f.Code)
	if f.File == nil || f.Line == 0 {
		return
	}
	line, margin := f.File.Line(f.Line), fmt.Sprintf("%5d | ", f.Line)
	runes := []rune(line)
	if len(runes) > 200 || f.Column < 1 || f.Column > len(runes)+1 {
		return
	}
	// Tabs stay tabs, so that the underline lines up with the text.
	var before strings.Builder
	for _, r := range runes[:f.Column-1] {
		if r == '\t' {
			before.WriteRune('\t')
		} else {
			before.WriteRune(' ')
		}
	}
	fmt.Fprintf(w, "%s%s\n%s%s%s\n", margin, line, strings.Repeat(" ", len(margin)-2)+"| ", before.String(),
		text.FgRed.Sprint(strings.Repeat("^", wordLength(runes[f.Column-1:]))))
}

// wordLength returns the length of the word at the start of a text, at least 1.
func wordLength(rest []rune) int {
	n := 0
	for n < len(rest) && (rest[n] == '_' || rest[n] >= '0' && rest[n] <= '9' || rest[n] >= 'A' && rest[n] <= 'Z' || rest[n] >= 'a' && rest[n] <= 'z') {
		n++
	}
	return max(1, n)
}
