package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/terminal"
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
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
		text, err := configMap(name, namespace, data, format)
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

// configMap returns a ConfigMap with policies as text.
func configMap(name, namespace string, data map[string]string, format string) (string, error) {
	metadata := map[string]any{"name": name, "labels": map[string]string{v1alpha1.LabelPolicy: v1alpha1.PolicyRego}}
	if namespace != "" {
		metadata["namespace"] = namespace
	}
	object := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
	if format == "json" {
		object["data"] = data
		text, err := json.MarshalIndent(object, "", "  ")
		return string(text) + "\n", err
	}
	head, err := yaml.Marshal(object)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	text.Write(head)
	text.WriteString("data:\n")
	for _, key := range slices.Sorted(maps.Keys(data)) {
		text.WriteString("  " + key + ": " + block(data[key]))
	}
	return text.String(), nil
}

// block writes a text as a literal block of YAML with an indentation of four, or in quotes where a block cannot hold it.
func block(text string) string {
	lines := strings.TrimRight(text, "\n")
	cannot := lines == "" || strings.ContainsFunc(text, func(r rune) bool {
		return r != '\n' && r != '\t' && (!unicode.IsPrint(r) && r != '\u00a0' && r != '\u3000' || r == '\ufeff' || r == unicode.ReplacementChar)
	})
	if cannot {
		return strconv.QuoteToASCII(text) + "\n" // YAML has all escapes of Go
	}
	header := "|"
	if strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\n") || strings.HasPrefix(text, "\t") {
		header += "2" // else the first line says how far the block is indented
	}
	ending := "\n"
	switch trailing := text[len(lines):]; len(trailing) {
	case 0:
		header += "-"
	case 1:
	default:
		header, ending = header+"+", trailing
	}
	var b strings.Builder
	b.WriteString(header + "\n")
	for i, line := range strings.Split(lines, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		if line != "" {
			b.WriteString("    " + line)
		}
	}
	return b.String() + ending
}
