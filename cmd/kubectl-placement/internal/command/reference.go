package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/internal/reference"
	"github.com/kcp-placement/placement/offline/report"
)

func referenceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "reference [TOPIC [WORD]]",
		Short: "Show what constraints and policies can say: variables, functions, units, examples",
		Long: `reference shows the languages of placement: every variable, function and limit, with examples. Without a topic it lists the
topics; with a word it shows the sections with the word in their titles, or else in their texts.`,
		Example: `  kubectl placement reference
  kubectl placement reference cel
  kubectl placement reference cel strings       # a section
  kubectl placement reference cel optFlatMap    # the sections that mention it
  kubectl placement reference terms required`,
		Args: cobra.MaximumNArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, t := range reference.Topics() {
				if len(args) == 0 {
					names = append(names, t.Name+"\t"+reference.Plain(t.Title))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	out := output.NewFlag(c, topics{})
	c.PreRunE = validate(out)
	c.RunE = func(c *cobra.Command, args []string) error {
		all := reference.Topics()
		if len(args) == 0 {
			return out.Write(c.OutOrStdout(), topics(all))
		}
		var names []string
		for _, t := range all {
			names = append(names, t.Name)
			if t.Name != args[0] {
				continue
			}
			if len(args) > 1 {
				if t = t.Mentioning(args[1]); len(t.Sections) == 0 {
					return fmt.Errorf("nothing about %s mentions %s", t.Name, args[1])
				}
			}
			return out.Write(c.OutOrStdout(), topic(t))
		}
		return fmt.Errorf("there is no topic %s: the topics are %s", args[0], strings.Join(names, ", "))
	}
	return c
}

// topics is the answer of reference without a topic.
type topics []reference.Topic

// Table implements output.Tabular.
func (all topics) Table(w io.Writer) {
	t := report.NewTable(w)
	t.AppendHeader(table.Row{"TOPIC", "WHAT"})
	for _, topic := range all {
		t.AppendRow(table.Row{topic.Name, reference.Plain(topic.Title)})
	}
	t.Render()
}

// topic is the answer of reference.
type topic reference.Topic

// Table implements output.Tabular.
func (t topic) Table(w io.Writer) {
	for i, s := range t.Sections {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s\n\n", text.Bold.Sprint(strings.ToUpper(s.Title)))
		markdown(w, s.Text)
	}
}

// markdown prints the text of a page for a terminal: tables in columns, code indented.
func markdown(w io.Writer, page string) {
	var rows *report.Table
	end := func() {
		if rows != nil {
			rows.Render()
			rows = nil
		}
	}
	code := false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			end()
			code = !code
		case code && line == "":
			fmt.Fprintln(w)
		case code:
			fmt.Fprintln(w, "    "+line)
		case strings.HasPrefix(line, "|"):
			cells := reference.Cells(line)
			if rows == nil {
				rows = report.NewTable(w)
				if strings.Trim(strings.Join(cells, ""), " ") != "" {
					header := make(table.Row, len(cells))
					for i, c := range cells {
						header[i] = strings.ToUpper(c)
					}
					rows.AppendHeader(header)
				}
				continue
			}
			if len(cells) > 0 {
				row := make(table.Row, len(cells))
				for i, c := range cells {
					row[i] = c
				}
				rows.AppendRow(row)
			}
		default:
			end()
			title, found := strings.CutPrefix(line, "### ")
			if found {
				line = text.Bold.Sprint(title)
			}
			fmt.Fprintln(w, reference.Plain(line))
		}
	}
	end()
}
