package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/terminal"
	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// session is a simulation of the workspaces that a command reads.
type session struct {
	*simulation.Simulation
	workspaces []*manifest.Workspace
	// printed are the faults of ClusterSets and ClusterSetBindings that have been printed.
	printed map[string]bool
	// about is the only workspace that is asked about; all if empty.
	about logicalcluster.Name
	// invalid reports objects that are wrong: those that cannot be read are left out, and workloads of placements and policies
	// that are wrong are not decided.
	invalid error
	// done ends the progress bar; it may be called again.
	done func()
}

// open reads workspaces from a source into a simulation, with a progress bar.
func open(c *cobra.Command, from *input.Source, what string, options simulation.Options) (*session, error) {
	update, done := terminal.Progress(c.ErrOrStderr(), what)
	s, err := load(c, from, update, options)
	if err != nil {
		done()
		return nil, err
	}
	s.done = done
	return s, nil
}

func load(c *cobra.Command, from *input.Source, update func(done, total int), options simulation.Options) (*session, error) {
	workspaces, wrong := from.Load(c)
	if workspaces == nil {
		return nil, wrong
	}
	printLeftOut(c.ErrOrStderr(), asked(workspaces, from.About()))
	printed := printSharing(c.ErrOrStderr(), workspaces, from.About(), nil)
	options.Progress, options.About = update, from.About()
	s, err := simulation.New(options)
	if err != nil {
		return nil, err
	}
	return &session{Simulation: s, workspaces: workspaces, printed: printed, about: options.About, invalid: errors.Join(wrong, s.Load(c.Context(), workspaces))}, nil
}

// asked returns the workspaces that are asked about.
func asked(workspaces []*manifest.Workspace, about logicalcluster.Name) []*manifest.Workspace {
	return slices.DeleteFunc(slices.Clone(workspaces), func(w *manifest.Workspace) bool { return about != "" && w.Name != about })
}

// printSharing prints what is wrong with ClusterSets and ClusterSetBindings, except what has been printed before. It returns all of it.
func printSharing(errOut io.Writer, workspaces []*manifest.Workspace, about logicalcluster.Name, printed map[string]bool) map[string]bool {
	all, n := map[string]bool{}, 0
	for _, f := range check.Sharing(workspaces, asked(workspaces, about)) {
		what := f.Description()
		all[what] = true
		if printed[what] {
			continue
		}
		if n++; n <= maxLeftOut {
			fmt.Fprintln(errOut, what)
		}
	}
	if more := n - maxLeftOut; more > 0 {
		fmt.Fprintf(errOut, "%d more faults of ClusterSets and ClusterSetBindings: kubectl placement check names all\n", more)
	}
	return all
}

// maxLeftOut is how many objects that are not placed, or that share clusters in vain, are named.
const maxLeftOut = 10

// printLeftOut prints the objects that may be meant as workloads and are not placed.
func printLeftOut(errOut io.Writer, workspaces []*manifest.Workspace) {
	n := 0
	for _, w := range workspaces {
		for _, o := range w.LeftOut {
			if n++; n <= maxLeftOut {
				_, why, _ := strings.Cut(o.Err.Error(), ": ")
				fmt.Fprintf(errOut, "%s is not placed: %s\n", o, why)
			}
		}
	}
	if more := n - maxLeftOut; more > 0 {
		fmt.Fprintf(errOut, "%d more objects are not placed: kubectl placement check names all\n", more)
	}
}

// verdict returns a failed check where a placement, a policy or a workload is wrong.
func (s *session) verdict(result *simulation.Result) error {
	if s.invalid != nil {
		return exit.Failure{Cause: s.invalid}
	}
	for i := range result.Decisions {
		if result.Decisions[i].Failed() {
			return exit.Failure{} // the decision says why
		}
	}
	return nil
}

// hasDecisions reports whether PlacementDecisions say where workloads run.
func (s *session) hasDecisions() bool {
	return slices.ContainsFunc(s.workspaces, func(w *manifest.Workspace) bool { return len(w.Decisions) > 0 })
}
