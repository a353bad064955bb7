package input

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/internal/console"
)

// followEvery is how often files are looked at.
const followEvery = 2 * time.Second

// Follow returns what is read for a console, and read again when it has changed; Load need not be called.
func (s *Source) Follow(c *cobra.Command) (console.Source, error) {
	if !s.Live() {
		return followed{s, c}, nil
	}
	kinds, err := Kinds(c)
	if err != nil {
		return nil, err
	}
	r, err := s.reader(kinds)
	if err != nil {
		return nil, err
	}
	return console.Live(r), nil
}

// followed are files that are read again when they have changed.
type followed struct {
	*Source
	command *cobra.Command
}

// Follow implements console.Source.
func (f followed) Follow(ctx context.Context, report func(console.Reading)) {
	var known map[string]time.Time
	for {
		if now := f.modified(); known == nil || !maps.Equal(now, known) {
			known = now
			workspaces, err := f.Load(f.command)
			r := console.Reading{Workspaces: workspaces, About: f.About(), At: time.Now(), Err: err}
			var wrong exit.Failure
			if errors.As(err, &wrong) && workspaces != nil { // objects that are left out
				r.Err, r.Problems = nil, strings.Split(wrong.Error(), "\n")
			}
			report(r)
		}
		if f.ReadsStdin() {
			<-ctx.Done()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(followEvery):
		}
	}
}

// modified returns when each file was modified. One that cannot be read is left out: reading says why.
func (f followed) modified() map[string]time.Time {
	times := map[string]time.Time{}
	for _, path := range f.files {
		if at, err := filepath.EvalSymlinks(path); err == nil { // a walk follows no link
			path = at
		}
		_ = filepath.WalkDir(path, func(file string, _ fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if info, err := os.Stat(file); err == nil {
				times[file] = info.ModTime()
			}
			return nil
		})
	}
	return times
}
