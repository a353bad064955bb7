// Package regal runs the linter Regal. Regal is run as a program, since its library does not build with the OPA of the engine.
package regal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/policies"
)

// Check adds what Regal finds in the modules of files, those in ConfigMaps included, to a report as warnings.
func Check(ctx context.Context, files []*manifest.File, r *check.Report) error {
	binary, err := exec.LookPath("regal")
	if err != nil {
		return fmt.Errorf("--regal: %w: see https://www.openpolicyagent.org/projects/regal", err)
	}
	dir, err := os.MkdirTemp("", "kubectl-placement-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var modules []manifest.Module
	seen := map[manifest.Position]bool{} // a Rego file is a module of every workspace
	workspaces, _ := manifest.Read(files)
	for _, w := range workspaces {
		for _, name := range slices.Sorted(maps.Keys(w.Modules)) {
			m := w.Modules[name]
			if seen[m.At(1, 1).Position] {
				continue
			}
			seen[m.At(1, 1).Position] = true
			// Each module gets its own folder, so that the file keeps its name: some rules look at it.
			target := filepath.Join(dir, strconv.Itoa(len(modules)), manifest.Name(name))
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(target, []byte(m.Text), 0o600); err != nil {
				return err
			}
			modules = append(modules, m)
		}
	}
	if len(modules) == 0 {
		return nil
	}
	// The built-in policies are there to resolve imports; findings in them are dropped below.
	if err := os.CopyFS(filepath.Join(dir, "builtin"), policies.Modules); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, binary, "lint", "--format", "json", "--disable", "directory-package-mismatch", ".")
	command.Dir = dir
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	err = command.Run() // also fails where it finds something
	var found struct {
		Violations []struct {
			Title, Description, Category string
			Location                     struct {
				File     string
				Row, Col int
			}
		}
	}
	if wrong := json.Unmarshal(out.Bytes(), &found); wrong != nil {
		return fmt.Errorf("--regal: %w", errors.Join(err, errors.New(strings.TrimSpace(errOut.String()))))
	}
	for _, v := range found.Violations {
		number, _, _ := strings.Cut(filepath.ToSlash(strings.TrimPrefix(v.Location.File, "./")), "/")
		if number == "builtin" {
			continue
		}
		i, err := strconv.Atoi(number)
		if err != nil || i < 0 || i >= len(modules) {
			return fmt.Errorf("--regal: a finding in file %q, which it was not given", v.Location.File)
		}
		r.Findings = append(r.Findings, check.Finding{
			Severity: check.Warning, Code: "regal/" + v.Category + "/" + v.Title,
			Position: modules[i].At(v.Location.Row, v.Location.Col).Position, Message: v.Description,
		})
	}
	r.Sort()
	return nil
}
