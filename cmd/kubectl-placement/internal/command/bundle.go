package command

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/terminal"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/bundle"
	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/report"
)

// applyLimit is how large an object may be that kubectl apply puts into an annotation of itself.
const applyLimit = 256 << 10

func bundleCommand() *cobra.Command {
	var name, namespace, format string
	c := &cobra.Command{
		Use:   "bundle [PATH...]",
		Short: "Write a folder of Rego as a ConfigMap",
		Long: `bundle writes the Rego of files and folders, by default of the working folder, as a ConfigMap with the label by which
policies are loaded. Each file becomes a key, as a block that people can read and edit; test suites are left out. The same
files give the same bytes.

It refuses what check refuses: what it writes comes into force when it is applied.`,
		Example: `  kubectl placement bundle policies/ --name shop -n default | kubectl apply -f -
  kubectl placement bundle policies/ > configmap.yaml`,
	}
	paths := input.NewPaths(c)
	c.Flags().StringVar(&name, "name", "placement-policies", "Name of the ConfigMap.")
	c.Flags().StringVarP(&namespace, "namespace", "n", "", "Namespace of the ConfigMap; left out where it is empty.")
	c.Flags().StringVarP(&format, "output", "o", "yaml", "Output format: yaml, json.")
	c.PreRunE = func(*cobra.Command, []string) error {
		if format != "yaml" && format != "json" {
			return fmt.Errorf("-o %s: the formats are yaml, json", format)
		}
		for flag, wrong := range map[string][]string{"name": validation.IsDNS1123Subdomain(name), "namespace": validation.IsDNS1123Label(namespace)} {
			if len(wrong) > 0 && (flag != "namespace" || namespace != "") {
				return fmt.Errorf("--%s: %s", flag, wrong[0])
			}
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		files, err := input.Files(c.Context(), paths.Of(args), c.InOrStdin(), ".rego")
		if err != nil {
			return err
		}
		files = slices.DeleteFunc(files, func(f *manifest.File) bool { return !policy.IsModule(f.Name) })
		data, err := bundled(files)
		if err != nil {
			return err
		}
		checked, err := check.Run(c.Context(), workload.Kinds(), files)
		if err != nil {
			return err
		}
		if len(checked.Findings) > 0 {
			report.Check(c.ErrOrStderr(), checked, len(files), false)
		}
		if checked.Count(check.Error) > 0 {
			return exit.Failure{}
		}
		text, err := bundle.ConfigMap(name, namespace, data, format)
		if err != nil {
			return err
		}
		if len(text) > applyLimit {
			fmt.Fprintf(c.ErrOrStderr(), "The ConfigMap has %d bytes, too many for kubectl apply to keep a copy: use kubectl apply --server-side.\n", len(text))
		}
		_, err = terminal.Raw(c.OutOrStdout()).Write([]byte(text))
		return err
	}
	return c
}

// bundled returns the texts of modules by their keys in a ConfigMap.
func bundled(files []*manifest.File) (map[string]string, error) {
	if len(files) == 0 {
		return nil, errors.New("there is no Rego to bundle, test suites aside")
	}
	data, from := map[string]string{}, map[string]string{}
	for _, f := range files {
		key := filepath.Base(f.Name)
		if wrong := validation.IsConfigMapKey(key); len(wrong) > 0 {
			return nil, fmt.Errorf("%s: the file name cannot be a key of a ConfigMap: %s", f.Name, wrong[0])
		}
		if other, twice := from[key]; twice {
			return nil, fmt.Errorf("%s and %s would be the same key: rename one of them", other, f.Name)
		}
		data[key], from[key] = strings.ReplaceAll(strings.TrimPrefix(f.Text, "\ufeff"), "\r\n", "\n"), f.Name
	}
	return data, nil
}
