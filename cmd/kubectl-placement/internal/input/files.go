// Package input reads what commands work on: files and folders, standard input, or a live workspace.
package input

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/offline/manifest"
)

// maxFileBytes bounds a file. Objects have a few megabytes at most.
const maxFileBytes = 64 << 20

// ManifestEndings are the endings of files with objects and policies.
var ManifestEndings = []string{".yaml", ".yml", ".json", ".rego"}

// Paths are the files and folders that a command works on, given as arguments or by -f.
type Paths struct{ named []string }

// NewPaths adds -f to a command.
func NewPaths(c *cobra.Command) *Paths {
	p := &Paths{}
	c.Flags().StringArrayVarP(&p.named, "filename", "f", nil, "File or folder, like an argument; - is standard input. Repeatable.")
	return p
}

// Of returns the paths, arguments first; the working folder where there are none.
func (p *Paths) Of(args []string) []string {
	if all := slices.Concat(args, p.named); len(all) > 0 {
		return all
	}
	return []string{"."}
}

// Files reads the files at paths, and the files with one of the endings in folders and below. "-" is standard input. A
// file that is reached twice is read once. One that is found and cannot be read has an Err, and the others are read all the same.
func Files(ctx context.Context, paths []string, stdin io.Reader, endings ...string) ([]*manifest.File, error) {
	var files []*manifest.File
	seen := map[string]bool{}
	add := func(path string, found bool) error {
		if seen[filepath.Clean(path)] {
			return nil
		}
		seen[filepath.Clean(path)] = true
		text, err := readFile(ctx, path)
		if err != nil && (!found || ctx.Err() != nil) {
			return err
		}
		files = append(files, &manifest.File{Name: path, Text: text, Found: found, Err: err})
		return nil
	}
	for _, path := range paths {
		if path == "-" {
			text, err := readAll(ctx, "standard input", stdin)
			if err != nil {
				return nil, err
			}
			files = append(files, &manifest.File{Name: "-", Text: text})
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if err := add(path, false); err != nil {
				return nil, err
			}
			continue
		}
		// The separator makes WalkDir follow a link to a folder.
		err = filepath.WalkDir(path+string(filepath.Separator), func(file string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil && filepath.Clean(file) == filepath.Clean(path):
				return err
			case err != nil: // a folder that cannot be read
				files = append(files, &manifest.File{Name: file, Found: true, Err: err})
				return nil
			case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && filepath.Clean(file) != filepath.Clean(path):
				return fs.SkipDir
			case entry.IsDir() || strings.HasPrefix(entry.Name(), ".") || !slices.Contains(endings, filepath.Ext(file)):
				return nil
			}
			if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
				return nil
			}
			return add(file, true)
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func readFile(ctx context.Context, path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return readAll(ctx, path, file)
}

// readAll reads to the end, or until ctx ends, since a terminal or a pipe may have no end.
func readAll(ctx context.Context, name string, r io.Reader) (string, error) {
	type read struct {
		text []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
		done <- read{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case all := <-done:
		if all.err == nil && len(all.text) > maxFileBytes {
			all.err = fmt.Errorf("%s has more than %d bytes", name, maxFileBytes)
		}
		if all.err != nil {
			return "", all.err
		}
		return string(all.text), nil
	}
}
