package report

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"pgregory.net/rapid"
)

// screen is a terminal.
type screen struct {
	bytes.Buffer
	width int
}

func (s *screen) Width() int { return s.width }

// TestTablesFit: on a terminal long cells wrap in their columns, so that a row stays readable. Pipes and files get full rows.
func TestTablesFit(t *testing.T) {
	print := func(width int) string {
		out := &screen{width: width}
		table := NewTable(out)
		table.AppendHeader([]any{"CLUSTER", "BECAUSE", "NEEDS"})
		table.AppendRow([]any{"paris", "Ready is False: the agent has not reported for 10 minutes", "Ready to be True"})
		table.Render()
		return out.String()
	}
	const full = `
CLUSTER   BECAUSE                                                     NEEDS
paris     Ready is False: the agent has not reported for 10 minutes   Ready to be True
`
	const wrapped = `
CLUSTER   BECAUSE                   NEEDS
paris     Ready is False: the       Ready to be True
          agent has not reported
          for 10 minutes
`
	for width, want := range map[int]string{0: full, 200: full, 52: wrapped} {
		if got := print(width); got != want[1:] {
			t.Errorf("%d columns:\n%s\nwant%s", width, got, want)
		}
	}
}

// TestFit: a table is as narrow as asked for where its columns can be, and no narrower; no column grows.
func TestFit(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		wanted := rapid.SliceOf(rapid.IntRange(0, 100)).Draw(r, "wanted")
		limit := rapid.IntRange(1, 300).Draw(r, "limit")
		sum := func(widths []int) int {
			total := (len(widths) - 1) * len(gap)
			for _, width := range widths {
				total += width
			}
			return total
		}
		got := fit(wanted, limit)
		if sum(wanted) <= limit && !slices.Equal(got, wanted) {
			r.Fatalf("%v fits and becomes %v", wanted, got)
		}
		for i := range got {
			if got[i] > wanted[i] || got[i] < min(wanted[i], narrowest) {
				r.Fatalf("%v becomes %v", wanted, got)
			}
		}
		if most := slices.Max(append(got, 0)); sum(wanted) > limit && sum(got) != limit && most > narrowest {
			r.Fatalf("%v becomes %v, %d wide", wanted, got, sum(got))
		}
	})
}

// TestTablesKeepWhatIsInThem: however narrow a terminal is, no word of a cell is lost.
func TestTablesKeepWhatIsInThem(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,30}`), 1, 20).Draw(r, "words")
		out := &screen{width: rapid.IntRange(1, 100).Draw(r, "width")}
		printed := NewTable(out)
		printed.AppendRow(table.Row{strings.Join(words, " ")})
		printed.Render()
		if got := strings.Join(strings.Fields(text.StripEscape(out.String())), ""); got != strings.Join(words, "") {
			r.Fatalf("got %s", out)
		}
	})
}
