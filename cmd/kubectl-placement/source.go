package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/engine/manifest"
)

// source is where a command reads workspaces from: files, or a live workspace where none are given.
type source struct {
	files []string

	kubeconfig, context, workspace string
	kinds                          []string
}

func newSource(c *cobra.Command) *source {
	s := &source{kinds: []string{"deployments.v1.apps", "statefulsets.v1.apps", "jobs.v1.batch"}}
	c.Flags().StringArrayVarP(&s.files, "filename", "f", nil, "File or folder to read, all below it included; - for standard input. Repeatable. A live workspace is read if left out.")
	c.Flags().StringVar(&s.kubeconfig, "kubeconfig", "", "Path of the kubeconfig for a live workspace. $KUBECONFIG or ~/.kube/config if empty.")
	c.Flags().StringVar(&s.context, "context", "", "Context of the kubeconfig. The current one if empty.")
	c.Flags().StringVar(&s.workspace, "workspace", "", "Path of the live workspace, for example root:team-shop. The one that the kubeconfig points at if empty.")
	c.Flags().StringSliceVar(&s.kinds, "workload-kinds", s.kinds, "Kinds of workload to read from a live workspace, as resource.version.group.")
	return s
}

func (s *source) validate() error {
	for _, kind := range s.kinds {
		if gvr, _ := schema.ParseResourceArg(kind); gvr == nil {
			return fmt.Errorf("--workload-kinds: %q is not resource.version.group, for example deployments.v1.apps", kind)
		}
	}
	if len(s.files) > 0 && s.kubeconfig+s.context+s.workspace != "" {
		return errors.New("-f reads files, --kubeconfig, --context and --workspace a live workspace: give one of them")
	}
	return nil
}

// load reads the workspaces. What is wrong with objects is a failed check.
func (s *source) load(c *cobra.Command) ([]*manifest.Workspace, error) {
	if len(s.files) == 0 {
		return s.live(c.Context(), c.ErrOrStderr())
	}
	return readWorkspaces(c, s.files)
}

func readWorkspaces(c *cobra.Command, paths []string) ([]*manifest.Workspace, error) {
	files, err := readFiles(paths, c.InOrStdin(), manifestEndings...)
	if err != nil {
		return nil, err
	}
	workspaces, errs := manifest.Read(files)
	if len(errs) > 0 {
		return nil, failed{manifest.Join(errs)}
	}
	return workspaces, nil
}

// named finds the decision that an argument names: NAME, KIND/NAME or KIND NAME, with or without a namespace before
// the name.
type named struct{ kind, namespace, name string }

func parseName(args []string, namespace string) (named, error) {
	n := named{namespace: namespace}
	rest := args[len(args)-1]
	if len(args) == 2 {
		n.kind = args[0]
	}
	switch parts := strings.Split(rest, "/"); {
	case len(parts) == 1:
		n.name = parts[0]
	case len(parts) == 2 && n.kind == "":
		n.kind, n.name = parts[0], parts[1]
	case len(parts) == 2:
		n.namespace, n.name = parts[0], parts[1]
	case len(parts) == 3 && n.kind == "":
		n.kind, n.namespace, n.name = parts[0], parts[1], parts[2]
	default:
		return n, fmt.Errorf("%q names no workload: give NAME, KIND/NAME or KIND NAMESPACE/NAME", strings.Join(args, " "))
	}
	if n.name == "" {
		return n, fmt.Errorf("%q names no workload: give NAME, KIND/NAME or KIND NAMESPACE/NAME", strings.Join(args, " "))
	}
	return n, nil
}

// matches tells whether a workload is the one named. Kinds are compared as kubectl does, plural or not.
func (n named) matches(kind, namespace, name string) bool {
	wanted, _, _ := strings.Cut(strings.ToLower(n.kind), ".")
	known := strings.ToLower(kind)
	return name == n.name && (n.namespace == "" || n.namespace == namespace) && (wanted == "" || wanted == known || wanted == known+"s")
}

func (n named) String() string {
	text := n.name
	if n.namespace != "" {
		text = n.namespace + "/" + text
	}
	return strings.TrimSpace(n.kind + " " + text)
}
