package input

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kcp-dev/logicalcluster/v3"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/manifest"
)

// Source is where a command reads workspaces from: files, or a live workspace where no files are given.
type Source struct {
	files []string

	kubeconfig, context, workspace string
	kinds                          []string
	// about is the only workspace that is asked about.
	about logicalcluster.Name
	// teams: the workspaces of grants are read, too.
	teams bool
	// companions: objects that go with workloads are read, too.
	companions bool
	// works: Works are read, too.
	works bool
	// read are the kinds and what was read of the files, for when they are read again.
	read manifest.Reader
}

// NewSource adds the flags of a source to a command.
func NewSource(c *cobra.Command) *Source {
	s := &Source{kinds: slices.Clone(workload.DefaultResources)}
	c.Flags().StringArrayVarP(&s.files, "filename", "f", nil, "File or folder with everything below it, like an argument; - is standard input. Repeatable. Without any a live workspace is read.")
	c.Flags().StringVar(&s.kubeconfig, "kubeconfig", "", "Kubeconfig of the live workspace. Default: $KUBECONFIG or ~/.kube/config.")
	c.Flags().StringVar(&s.context, "context", "", "Context of the kubeconfig. Default: the current one.")
	c.Flags().StringVar(&s.workspace, "workspace", "", "Path of the live workspace, for example root:team-shop. Default: the one that the kubeconfig points at. With files: the only workspace of the files to show; those that share clusters with it count.")
	c.Flags().BoolVar(&s.teams, "with-teams", false, "In a live workspace with ClusterSets: read the workspaces that its grants are for, too.")
	c.Flags().StringSliceVar(&s.kinds, "workload-kinds", s.kinds, "Workload kinds to read from a live workspace, as resource.version.group; see kubectl placement kinds.")
	return s
}

// NewLiveSource adds the flags for a command that is about a live workspace alone.
func NewLiveSource(c *cobra.Command) *Source {
	s := &Source{}
	c.Flags().StringVar(&s.kubeconfig, "kubeconfig", "", "Kubeconfig of the workspace. Default: $KUBECONFIG or ~/.kube/config.")
	c.Flags().StringVar(&s.context, "context", "", "Context of the kubeconfig. Default: the current one.")
	c.Flags().StringVar(&s.workspace, "workspace", "", "Path of the workspace, for example root:team-shop. Default: the one that the kubeconfig points at.")
	return s
}

// ReadCompanions has the objects read that go with workloads when these are delivered. Files have them in any case.
func (s *Source) ReadCompanions() { s.companions = true }

// ReadWorks has Works read. Files have them in any case.
func (s *Source) ReadWorks() { s.works = true }

// Arguments takes the arguments of a command for files and folders to read, as -f does. It is a cobra.PositionalArgs.
func (s *Source) Arguments(_ *cobra.Command, paths []string) error {
	s.files = append(s.files, paths...)
	return nil
}

// Validate fails where the flags contradict each other.
func (s *Source) Validate() error {
	if len(s.files) > 0 && s.kubeconfig+s.context != "" {
		return errors.New("files are read, or by --kubeconfig and --context a live workspace: give one of them")
	}
	return nil
}

// ReadsStdin reports whether standard input is one of the files.
func (s *Source) ReadsStdin() bool { return slices.Contains(s.files, "-") }

// Live reports whether a live workspace is read.
func (s *Source) Live() bool { return len(s.files) == 0 }

// String names what is read.
func (s *Source) String() string {
	if s.Live() {
		return cmp.Or(s.workspace, "the workspace of the kubeconfig")
	}
	return strings.Join(s.files, " ")
}

// IsPath reports whether an argument names a file or folder that there is, or standard input.
func IsPath(argument string) bool {
	if argument == "-" {
		return true
	}
	_, err := os.Stat(argument)
	return err == nil
}

// Load reads the workspaces. Objects with errors are left out; then there are workspaces, and an exit.Failure.
func (s *Source) Load(c *cobra.Command) ([]*manifest.Workspace, error) {
	if s.Live() {
		kinds, err := Kinds(c)
		if err != nil {
			return nil, err
		}
		return s.live(c.Context(), kinds, c.ErrOrStderr())
	}
	if s.read.Kinds == nil {
		kinds, err := Kinds(c)
		if err != nil {
			return nil, err
		}
		s.read.Kinds = kinds
	}
	workspaces, err := read(c, s.files, s.read)
	if workspaces != nil {
		s.read.Before = workspaces
	}
	if workspaces == nil || s.workspace == "" {
		return workspaces, err
	}
	for _, w := range workspaces {
		if w.Name.String() == s.workspace || w.Path == s.workspace {
			s.about = w.Name
			return manifest.SharingWith(workspaces, w.Name), err
		}
	}
	return nil, fmt.Errorf("--workspace %s: the files have no objects of it", s.workspace)
}

// About is the only workspace that is asked about, where others are read for the clusters that it shares with them; empty for all that
// are read. It is known once they are.
func (s *Source) About() logicalcluster.Name { return s.about }

// Workspaces reads the workspaces of files and folders. Objects with errors are left out, as kubectl goes on with the others; then
// there are workspaces, and an exit.Failure.
func Workspaces(c *cobra.Command, paths []string) ([]*manifest.Workspace, error) {
	kinds, err := Kinds(c)
	if err != nil {
		return nil, err
	}
	return read(c, paths, manifest.Reader{Kinds: kinds})
}

func read(c *cobra.Command, paths []string, by manifest.Reader) ([]*manifest.Workspace, error) {
	files, err := Files(c.Context(), paths, c.InOrStdin(), ManifestEndings...)
	if err != nil {
		return nil, err
	}
	workspaces, errs := by.Read(files)
	for _, w := range workspaces {
		w.LeaveOutRefused()
	}
	if len(errs) > 0 {
		return workspaces, exit.Failure{Cause: manifest.Join(errs)}
	}
	return workspaces, nil
}
