package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// namedWorkload is the workload that the arguments of a command name before the files.
type namedWorkload struct {
	from      *input.Source
	words     []string
	namespace string
}

// newNamedWorkload has a command take the name of a workload, and then files.
func newNamedWorkload(c *cobra.Command, from *input.Source) *namedWorkload {
	n := &namedWorkload{from: from}
	c.Flags().StringVarP(&n.namespace, "namespace", "n", "", "Namespace of the workload. Default: any.")
	// What exists as a file is one, but for the name of the workload; a kind and a name may come before files.
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("name a workload: %s", c.Use)
		}
		count := 1
		if len(args) > 1 && !input.IsPath(args[1]) {
			count = 2
		}
		n.words = args[:count]
		return from.Arguments(c, args[count:])
	}
	return n
}

// decide places the workloads up to the one that is named, and returns the decision on it with its workspace.
func (n *namedWorkload) decide(c *cobra.Command, now time.Time) (*session, *manifest.Workspace, *simulation.Decision, error) {
	s, isWanted, err := n.open(c, now)
	if err != nil {
		return nil, nil, nil, err
	}
	defer s.done()
	result, err := s.RunUntil(c.Context(), isWanted)
	if err != nil {
		return nil, nil, nil, err
	}
	d := &result.Decisions[len(result.Decisions)-1]
	return s, s.workspaces[slices.IndexFunc(s.workspaces, func(w *manifest.Workspace) bool { return w.Name.String() == d.Workspace })], d, nil
}

// open reads the source into a simulation, and returns a predicate for the decision on the workload.
func (n *namedWorkload) open(c *cobra.Command, now time.Time) (*session, func(*simulation.Decision) bool, error) {
	names, err := input.ParseWorkloadName(n.words, n.namespace)
	if err != nil {
		return nil, nil, err
	}
	s, err := open(c, n.from, "placing workloads", simulation.Options{Now: now})
	if err != nil {
		if len(n.words) == 2 && n.from.Live() {
			return nil, nil, fmt.Errorf("%w (there is no file or folder %s)", err, n.words[1])
		}
		return nil, nil, err
	}
	isWanted, err := findWorkload(asked(s.workspaces, s.about), names, strings.Join(n.words, " "))
	if err != nil {
		s.done()
		return nil, nil, errors.Join(err, s.invalid) // it may be among what cannot be read
	}
	return s, isWanted, nil
}

// findWorkload finds the one workload that a name selects, and returns a predicate for its decision.
func findWorkload(workspaces []*manifest.Workspace, names []input.WorkloadName, text string) (func(*simulation.Decision) bool, error) {
	for _, name := range names {
		var found []string
		var isWanted func(*simulation.Decision) bool
		for _, w := range workspaces {
			for _, o := range w.Workloads {
				if !name.Matches(o) {
					continue
				}
				found = append(found, fmt.Sprintf("%s (%s) of workspace %s", o, o.GetAPIVersion(), w.Name))
				workload := simulation.Workload{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
				workspace := w.Name.String()
				isWanted = func(d *simulation.Decision) bool { return d.Workspace == workspace && d.Workload == workload }
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return isWanted, nil
		default:
			slices.Sort(found)
			return nil, fmt.Errorf("%s is not one workload but %d: %s: give kind, namespace, -n or --workspace, too", text, len(found), strings.Join(found, ", "))
		}
	}
	return nil, fmt.Errorf("there is no workload %s", text)
}
