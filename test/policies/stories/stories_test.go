// Package stories holds stories over time: what the controller does when clusters fall silent, objects change and time goes by. Each
// file reads from top to bottom; `kubectl placement test test/policies/stories` runs them, too.
package stories

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/scenario"
)

func TestStories(t *testing.T) {
	files, err := filepath.Glob("*" + scenario.Ending)
	if err != nil || len(files) == 0 {
		t.Fatalf("%d stories: %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(name, scenario.Ending), func(t *testing.T) {
			t.Parallel()
			file, err := read(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := scenario.Parse(file[0], read)
			if err != nil {
				t.Fatal(err)
			}
			failures, err := s.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range failures {
				t.Errorf("%s\n%s: %s: expected %s, actual %s\n%s", f.Step, f.Workload, f.What, f.Expected, f.Actual, strings.Join(f.Log, "\n"))
			}
		})
	}
}

func read(name string) ([]*manifest.File, error) {
	text, err := os.ReadFile(name)
	return []*manifest.File{{Name: name, Text: string(text)}}, err
}
