package main

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

// maxFileBytes bounds a file: no object is larger than a few megabytes.
const maxFileBytes = 64 << 20

// paths are the files and folders that a command works on, as arguments or by -f.
type paths struct{ named []string }

func newPaths(c *cobra.Command) *paths {
	p := &paths{}
	c.Flags().StringArrayVarP(&p.named, "filename", "f", nil, "File or folder, like an argument; - for standard input. Repeatable.")
	return p
}

// of returns the paths with arguments, the working folder where there are none.
func (p *paths) of(args []string) []string {
	if all := slices.Concat(args, p.named); len(all) > 0 {
		return all
	}
	return []string{"."}
}

// readFiles reads files, and folders with all that is below them, of the endings given. "-" is standard input. The
// same file is read once.
func readFiles(ctx context.Context, paths []string, stdin io.Reader, endings ...string) ([]*manifest.File, error) {
	var files []*manifest.File
	seen := map[string]bool{}
	add := func(path string, found bool) error {
		if seen[filepath.Clean(path)] {
			return nil
		}
		seen[filepath.Clean(path)] = true
		text, err := readFile(ctx, path)
		if err != nil {
			return err
		}
		files = append(files, &manifest.File{Name: path, Text: text, Found: found})
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
		// With the separator a link to a folder is followed.
		err = filepath.WalkDir(path+string(filepath.Separator), func(file string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && filepath.Clean(file) != filepath.Clean(path):
				return fs.SkipDir
			case entry.IsDir() || strings.HasPrefix(entry.Name(), ".") || !slices.Contains(endings, filepath.Ext(file)):
				return nil
			}
			if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
				return err
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

// readAll reads to the end, or until ctx ends: a terminal or a pipe may have no end.
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
		return string(all.text), all.err
	}
}

// The endings of files that hold objects and policies.
var manifestEndings = []string{".yaml", ".yml", ".json", ".rego"}
