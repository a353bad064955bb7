package input_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
)

// TestFiles: folders give the files with the wanted endings and nothing hidden, named files are read whatever their
// ending, and nothing is read twice.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/b.yaml", "a/c.rego", "a/d.txt", "a/.git/e.yaml", "a/.f.yaml", "a/deep/g.json"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "a", "deep"), filepath.Join(dir, "a", "loop.yaml")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, test := range []struct {
		name  string
		paths []string
		want  []string
	}{
		{"a folder", []string{"a"}, []string{"a/b.yaml", "a/c.rego", "a/deep/g.json"}},
		{"a folder and a file of it", []string{"a", "a/b.yaml", "./a"}, []string{"a/b.yaml", "a/c.rego", "a/deep/g.json"}},
		{"a file of any ending", []string{"a/d.txt"}, []string{"a/d.txt"}},
		{"a hidden folder that is named", []string{"a/.git"}, []string{"a/.git/e.yaml"}},
		{"a link to a folder", []string{"link"}, []string{"link/b.yaml", "link/c.rego", "link/deep/g.json"}},
		{"standard input", []string{"-"}, []string{"-"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			files, err := input.Files(t.Context(), test.paths, strings.NewReader("in"), input.ManifestEndings...)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range files {
				names = append(names, filepath.Clean(f.Name))
			}
			if !slices.Equal(names, test.want) {
				t.Errorf("got %v, want %v", names, test.want)
			}
		})
	}
	if _, err := input.Files(t.Context(), []string{"missing"}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestFilesUnreadable: a file that is found and cannot be read says so, and keeps none of the others from being read. One that is
// named has to be there.
func TestFilesUnreadable(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("good.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop.yaml", "loop.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("vast.json", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate("vast.json", 65<<20); err != nil { // without a block on the disk
		t.Fatal(err)
	}
	files, err := input.Files(t.Context(), []string{"."}, nil, input.ManifestEndings...)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, fmt.Sprint(f.Err))
	}
	want := []string{"<nil>", "open loop.yaml: too many levels of symbolic links", "vast.json has more than 67108864 bytes"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range []string{"loop.yaml", "vast.json"} {
		if _, err := input.Files(t.Context(), []string{name}, nil, input.ManifestEndings...); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// TestFilesEndless: Ctrl-C ends a read from a terminal or a pipe that never ends.
func TestFilesEndless(t *testing.T) {
	never, _ := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := input.Files(ctx, []string{"-"}, never); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
