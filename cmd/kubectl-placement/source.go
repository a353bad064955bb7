package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/offline/manifest"
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
	c.Flags().StringVar(&s.workspace, "workspace", "", "Path of the live workspace, for example root:team-shop; the one that the kubeconfig points at if empty. With -f, the workspace of the files that is looked at.")
	c.Flags().StringSliceVar(&s.kinds, "workload-kinds", s.kinds, "Kinds of workload to read from a live workspace, as resource.version.group.")
	return s
}

func (s *source) validate() error {
	for _, kind := range s.kinds {
		if gvr, _ := schema.ParseResourceArg(kind); gvr == nil {
			return fmt.Errorf("--workload-kinds: %q is not resource.version.group, for example deployments.v1.apps", kind)
		}
	}
	if len(s.files) > 0 && s.kubeconfig+s.context != "" {
		return errors.New("-f reads files, --kubeconfig and --context a live workspace: give one of them")
	}
	return nil
}

// load reads the workspaces. What is wrong with objects is a failed check.
func (s *source) load(c *cobra.Command) ([]*manifest.Workspace, error) {
	if len(s.files) == 0 {
		return s.live(c.Context(), c.ErrOrStderr())
	}
	workspaces, err := readWorkspaces(c, s.files)
	if err != nil || s.workspace == "" {
		return workspaces, err
	}
	for _, w := range workspaces {
		if w.Name.String() == s.workspace {
			return []*manifest.Workspace{w}, nil
		}
	}
	return nil, fmt.Errorf("--workspace %s: the files have nothing of it", s.workspace)
}

func readWorkspaces(c *cobra.Command, paths []string) ([]*manifest.Workspace, error) {
	files, err := readFiles(c.Context(), paths, c.InOrStdin(), manifestEndings...)
	if err != nil {
		return nil, err
	}
	workspaces, errs := manifest.Read(files)
	if len(errs) > 0 {
		return nil, failed{manifest.Join(errs)}
	}
	return workspaces, nil
}

// named is a workload as an argument names it; what is empty is any.
type named struct{ kind, group, namespace, name string }

// shortNames are those that kubectl has for kinds of workload.
var shortNames = map[string]string{"deploy": "deployment", "sts": "statefulset", "ds": "daemonset", "rs": "replicaset"}

// parseName reads NAME, KIND/NAME, NAMESPACE/NAME or KIND/NAMESPACE/NAME, with the kind before it as kubectl has it,
// too: it returns all that the arguments may mean, likeliest first.
func parseName(args []string, namespace string) ([]named, error) {
	kind := ""
	if len(args) == 2 {
		kind = args[0]
	}
	parts := strings.Split(args[len(args)-1], "/")
	wrong := fmt.Errorf("%q names no workload: give NAME, KIND/NAME or KIND NAMESPACE/NAME", strings.Join(args, " "))
	if slices.Contains(parts, "") || len(parts) > 3 || len(parts) == 3 && kind != "" {
		return nil, wrong
	}
	var all []named
	add := func(kind, in, name string) error {
		if in != "" && namespace != "" && in != namespace {
			return fmt.Errorf("%q is in namespace %s, and -n says %s", strings.Join(args, " "), in, namespace)
		}
		kind, group, _ := strings.Cut(strings.ToLower(kind), ".")
		if long, found := shortNames[kind]; found {
			kind = long
		}
		all = append(all, named{kind, group, cmp.Or(in, namespace), name})
		return nil
	}
	var err error
	switch {
	case len(parts) == 1:
		err = add(kind, "", parts[0])
	case len(parts) == 3:
		err = add(parts[0], parts[1], parts[2])
	case kind != "":
		err = add(kind, parts[0], parts[1])
	default: // KIND/NAME, or else NAMESPACE/NAME
		if err = add(parts[0], "", parts[1]); err == nil && (namespace == "" || namespace == parts[0]) {
			err = add("", parts[0], parts[1])
		}
	}
	return all, err
}

// matches tells whether a workload is the one named. Kinds are compared as kubectl does, plural or not.
func (n named) matches(o manifest.Workload) bool {
	kind := strings.ToLower(o.GetKind())
	return o.GetName() == n.name && (n.namespace == "" || n.namespace == o.GetNamespace()) &&
		(n.kind == "" || n.kind == kind || n.kind == kind+"s") && (n.group == "" || n.group == o.GroupVersionKind().Group)
}
