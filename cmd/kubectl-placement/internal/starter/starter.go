// Package starter holds the policy suites that authors begin with.
package starter

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

	"github.com/open-policy-agent/opa/v1/ast"
	"golang.org/x/tools/txtar"

	"github.com/kcp-placement/placement/offline/scenario"
	"github.com/kcp-placement/placement/policies"
	suites "github.com/kcp-placement/placement/test/policies"
)

// general is the suite that is no policy of the library.
//
//go:embed files
var general embed.FS

// Policy is a policy of the library.
type Policy struct {
	Name  string `json:"name"`
	Title string `json:"title"`
}

// Library returns the policies of the library, by name.
func Library() (all []Policy) {
	entries, _ := fs.ReadDir(policies.Library, "library") // embedded
	for _, entry := range entries {
		p := Policy{Name: entry.Name()}
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

// Files returns the files of a suite by their paths in its folder: of the general one, of a policy of the library, or of several
// that decide together.
func Files(library ...string) (map[string][]byte, error) {
	for i, name := range library {
		if _, err := fs.Stat(policies.Library, libraryModule(name)); err != nil {
			var names []string
			for _, p := range Library() {
				names = append(names, p.Name)
			}
			return nil, fmt.Errorf("--library %s: the policies of the library are %s", name, strings.Join(names, ", "))
		}
		if slices.Contains(library[:i], name) {
			return nil, fmt.Errorf("--library: %s is named twice", name)
		}
	}
	switch len(library) {
	case 0:
		return generalFiles()
	case 1:
		return libraryFiles(library[0])
	default:
		return composed(library)
	}
}

func generalFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	root, err := fs.Sub(general, "files")
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

// libraryFiles are those of a policy of the library, with a suite and a scenario.
func libraryFiles(name string) (map[string][]byte, error) {
	files, archive, err := policyFiles(name)
	if err != nil {
		return nil, err
	}
	// The objects in the scenario of the library become files of the suite, for its author to change.
	used := &txtar.Archive{Comment: archive.Comment, Files: []txtar.File{{Name: "use", Data: []byte("../policies\n../fleet\n")}}}
	for _, f := range archive.Files {
		switch {
		case f.Name == "expect.yaml":
			used.Files = append(used.Files, f)
		case strings.HasSuffix(f.Name, ".yaml"):
			files["fleet/"+f.Name] = f.Data
		case strings.HasSuffix(f.Name, ".rego"):
			files[f.Name] = f.Data
		}
	}
	files["scenarios/"+name+scenario.Ending] = txtar.Format(used)
	return files, nil
}

// policyFiles are the module of a policy and its tests; its scenario comes with them.
func policyFiles(name string) (map[string][]byte, *txtar.Archive, error) {
	module, err := fs.ReadFile(policies.Library, libraryModule(name))
	if err != nil {
		return nil, nil, err
	}
	base := path.Join("library", name, name)
	tests, err := fs.ReadFile(suites.Library, base+"_test.rego")
	if err != nil {
		return nil, nil, err
	}
	story, err := fs.ReadFile(suites.Library, base+scenario.Ending)
	if err != nil {
		return nil, nil, err
	}
	return map[string][]byte{"policies/" + name + ".rego": module, "policies/" + name + "_test.rego": tests}, txtar.Parse(story), nil
}

// Write writes files into a folder. It writes none where one of them exists.
func Write(folder string, files map[string][]byte) (written []string, err error) {
	var there []error
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		target := filepath.Join(folder, filepath.FromSlash(name))
		written = append(written, target)
		switch _, err := os.Lstat(target); {
		case err == nil:
			there = append(there, fmt.Errorf("%s exists already", target))
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
