package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/spf13/cobra"
	"golang.org/x/tools/txtar"

	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/scenario"
	"github.com/kcp-placement/placement/policies"
	suites "github.com/kcp-placement/placement/test/policies"
)

// suite is what init writes by itself.
//
//go:embed suite
var suite embed.FS

func initCommand() *cobra.Command {
	var from string
	var list bool
	c := &cobra.Command{
		Use:   "init [FOLDER]",
		Short: "Begin a policy suite, with tests that pass",
		Long: `init writes a policy suite into a folder, the working folder if none is named:

  policies/    Rego, with a test suite beside each module
  fleet/       clusters, a placement with a constraint in CEL, and workloads to try them on
  scenarios/   what is decided there, as a test

With --from it begins with a policy of the library. No file is overwritten.`,
		Example: `  kubectl placement init my-policies
  kubectl placement init --list
  kubectl placement init my-policies --from data-residency`,
		Args: cobra.MaximumNArgs(1),
	}
	out := newOutput(c)
	c.Flags().StringVar(&from, "from", "", "Policy of the library to begin with, see --list.")
	c.Flags().BoolVar(&list, "list", false, "List the policies of the library.")
	_ = c.RegisterFlagCompletionFunc("from", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, p := range library() {
			names = append(names, p.Name+"\t"+p.Title)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := out.validate(); err != nil {
			return err
		}
		if list {
			all := library()
			return out.print(c.OutOrStdout(), all, func() {
				t := report.NewTable(c.OutOrStdout())
				t.AppendHeader(table.Row{"NAME", "POLICY"})
				for _, p := range all {
					t.AppendRow(table.Row{p.Name, p.Title})
				}
				t.Render()
			})
		}
		folder := "."
		if len(args) > 0 {
			folder = args[0]
		}
		files, err := suiteFiles(from)
		if err != nil {
			return err
		}
		written, err := writeFiles(folder, files)
		if err != nil {
			return err
		}
		return out.print(c.OutOrStdout(), map[string]any{"written": written}, func() {
			for _, name := range written {
				fmt.Fprintln(c.OutOrStdout(), name)
			}
			fmt.Fprintf(c.OutOrStdout(), `
Next:
  kubectl placement test %[1]s            # run the suites and the scenario
  kubectl placement simulate -f %[1]s     # where everything would run
  kubectl create configmap placement-policies --from-file=%[2]s --dry-run=client -o yaml |
    kubectl label --local -f - openpolicyagent.org/policy=rego -o yaml | kubectl apply -f -
`, folder, filepath.Join(folder, "policies"))
		})
	}
	return c
}

// libraryPolicy is a ready policy.
type libraryPolicy struct {
	Name  string `json:"name"`
	Title string `json:"title"`
}

// library lists the ready policies.
func library() (all []libraryPolicy) {
	entries, _ := fs.ReadDir(policies.Library, "library") // it is part of the program
	for _, entry := range entries {
		p := libraryPolicy{Name: entry.Name()}
		text, _ := fs.ReadFile(policies.Library, libraryModule(p.Name))
		module, err := ast.ParseModuleWithOpts(p.Name, string(text), ast.ParserOptions{ProcessAnnotation: true})
		if err == nil && len(module.Annotations) > 0 {
			p.Title = module.Annotations[0].Title
		}
		all = append(all, p)
	}
	return all
}

func libraryModule(name string) string { return path.Join("library", name, name+".rego") }

// suiteFiles are the files of a suite by their paths in its folder: that of init, or of a policy of the library.
func suiteFiles(from string) (map[string][]byte, error) {
	files := map[string][]byte{}
	if from == "" {
		root, err := fs.Sub(suite, "suite")
		if err != nil {
			return nil, err
		}
		return files, fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			files[name], err = fs.ReadFile(root, name)
			return err
		})
	}
	module, err := fs.ReadFile(policies.Library, libraryModule(from))
	if err != nil {
		var names []string
		for _, p := range library() {
			names = append(names, p.Name)
		}
		return nil, fmt.Errorf("--from %s: the policies of the library are %s", from, strings.Join(names, ", "))
	}
	files["policies/"+from+".rego"] = module
	base := path.Join("library", from, from)
	if files["policies/"+from+"_test.rego"], err = fs.ReadFile(suites.Library, base+"_test.rego"); err != nil {
		return nil, err
	}
	story, err := fs.ReadFile(suites.Library, base+scenario.Ending)
	if err != nil {
		return nil, err
	}
	// What the scenario of the library has in itself, the suite has in files for people to change.
	archive := txtar.Parse(story)
	told := &txtar.Archive{Comment: archive.Comment, Files: []txtar.File{{Name: "use", Data: []byte("../policies\n../fleet\n")}}}
	for _, f := range archive.Files {
		switch {
		case f.Name == "expect.yaml":
			told.Files = append(told.Files, f)
		case strings.HasSuffix(f.Name, ".yaml"):
			files["fleet/"+f.Name] = f.Data
		case strings.HasSuffix(f.Name, ".rego"):
			files[f.Name] = f.Data
		}
	}
	files["scenarios/"+from+scenario.Ending] = txtar.Format(told)
	return files, nil
}

// writeFiles writes files into a folder; none of them may be there.
func writeFiles(folder string, files map[string][]byte) (written []string, err error) {
	var there []error
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		target := filepath.Join(folder, filepath.FromSlash(name))
		written = append(written, target)
		switch _, err := os.Lstat(target); {
		case err == nil:
			there = append(there, fmt.Errorf("%s is there already", target))
		case !errors.Is(err, fs.ErrNotExist):
			there = append(there, err)
		}
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("nothing was written: %w", errors.Join(there...))
	}
	for _, name := range names {
		target := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(target, files[name], 0o644); err != nil {
			return nil, err
		}
	}
	return written, nil
}
