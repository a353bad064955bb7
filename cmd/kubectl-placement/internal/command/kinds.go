package command

import (
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/report"
)

func kindsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "kinds",
		Short: "List the kinds of workload, and how their pods are counted",
		Long: `kinds lists the kinds of workload that are placed: where the pod templates of an object stand, how many pods each makes, and
when it has finished or is suspended. Expressions are CEL over the object; docs/workloads.md says what they can read.

-o yaml prints the table in the form in which --kinds-file reads one. A kind of that file replaces the one of the same group and kind.
The controller has the same flag; --workload-kinds says which kinds it watches.`,
		Example: `  kubectl placement kinds
  kubectl placement kinds -o yaml > kinds.yaml      # change or add a kind, then
  kubectl placement simulate fleet/ --kinds-file kinds.yaml`,
		Args: cobra.NoArgs,
	}
	out := output.NewFlag(c, kinds{})
	c.PreRunE = validate(out)
	c.RunE = func(c *cobra.Command, _ []string) error {
		t, err := input.Kinds(c)
		if err != nil {
			return err
		}
		return out.Write(c.OutOrStdout(), kinds{t.All()})
	}
	return c
}

// kinds is the answer of kinds.
type kinds struct {
	Kinds []*workload.Definition `json:"kinds"`
}

// Table implements output.Tabular.
func (k kinds) Table(w io.Writer) {
	t := report.NewTable(w)
	t.AppendHeader(table.Row{"KIND", "APIVERSION", "RESOURCE", "POD TEMPLATES"})
	for _, d := range k.Kinds {
		var templates []string
		for _, p := range d.PodSets {
			path := p.Template
			if p.Each != "" {
				path = p.Each + "[]." + path
			}
			templates = append(templates, path)
		}
		t.AppendRow(table.Row{d.Kind, strings.Join(d.APIVersions(), "\n"), d.Resource, strings.Join(templates, "\n")})
	}
	t.Render()
}
