package command

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/starter"
	"github.com/kcp-placement/placement/offline/report"
)

func initCommand() *cobra.Command {
	var policies []string
	var list bool
	c := &cobra.Command{
		Use:   "init [FOLDER]",
		Short: "Create a policy suite whose tests pass",
		Long: `init writes a policy suite into a folder, by default the working folder:

  policies/    Rego, each module with its tests
  fleet/       clusters, a placement with a CEL constraint, and workloads
  scenarios/   the expected decisions, as a test

--library begins with policies of the library, one or several, which then decide together. Existing files are never
overwritten.`,
		Example: `  kubectl placement init my-policies
  kubectl placement init --list
  kubectl placement init my-policies --library data-residency
  kubectl placement init my-policies --library cost-aware,green-energy   # together: the terms of all, the weights of the first`,
		Args: cobra.MaximumNArgs(1),
	}
	out := output.NewFlag(c, written{})
	const usage = "Policies of the library to begin with; see --list. Repeatable."
	c.Flags().StringSliceVar(&policies, "library", nil, usage)
	c.Flags().StringSliceVar(&policies, "from", nil, usage)
	_ = c.Flags().MarkHidden("from") // as --library was called
	c.Flags().BoolVar(&list, "list", false, "List the policies of the library.")
	_ = c.RegisterFlagCompletionFunc("library", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, p := range starter.Library() {
			names = append(names, p.Name+"\t"+p.Title)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	c.PreRunE = validate(out)
	c.RunE = func(c *cobra.Command, args []string) error {
		if list {
			return out.Write(c.OutOrStdout(), library(starter.Library()))
		}
		folder := "."
		if len(args) > 0 {
			folder = args[0]
		}
		files, err := starter.Files(policies...)
		if err != nil {
			return err
		}
		names, err := starter.Write(folder, files)
		if err != nil {
			return err
		}
		return out.Write(c.OutOrStdout(), written{names, folder, starter.Order(policies...)})
	}
	return c
}

// library is the answer of init --list.
type library []starter.Policy

// Table implements output.Tabular.
func (l library) Table(w io.Writer) {
	t := report.NewTable(w)
	t.AppendHeader(table.Row{"NAME", "POLICY"})
	for _, p := range l {
		t.AppendRow(table.Row{p.Name, p.Title})
	}
	t.Render()
}

// written is the answer of init.
type written struct {
	Written []string `json:"written"`
	folder  string
	// weighing are the policies that set weights, where these are several.
	weighing []string
}

// Table implements output.Tabular.
func (f written) Table(w io.Writer) {
	for _, name := range f.Written {
		fmt.Fprintln(w, name)
	}
	if len(f.weighing) > 1 {
		fmt.Fprintf(w, "\n%s set weights. For each workload those of the first count that are not the built-in ones: see %s.\n",
			strings.Join(f.weighing, ", "), filepath.Join(f.folder, "policies", "scoring.rego"))
	}
	fmt.Fprintf(w, `
Next:
  kubectl placement test %[1]s            # run the suites and the scenario
  kubectl placement simulate %[1]s        # where everything would run
  kubectl placement bundle %[2]s | kubectl apply -f -
`, f.folder, filepath.Join(f.folder, "policies"))
}
