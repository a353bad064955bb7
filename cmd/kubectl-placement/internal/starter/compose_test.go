package starter_test

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/command"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/starter"
)

// TestLibraryComposes: policies of the library, each alone, each with its neighbour and all of them, make a suite without findings whose tests
// pass.
func TestLibraryComposes(t *testing.T) {
	var all []string
	var suites [][]string
	for _, p := range starter.Library() {
		suites = append(suites, []string{p.Name})
		if len(all) > 0 {
			suites = append(suites, []string{p.Name, all[len(all)-1]})
		}
		all = append(all, p.Name)
	}
	for _, policies := range append(suites, all) {
		names := strings.Join(policies, ",")
		t.Run(names, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "suite")
			for _, args := range [][]string{{"init", dir, "--library", names}, {"check", "--strict", dir}, {"test", dir}, {"simulate", dir}} {
				var out strings.Builder
				if code := command.Run(context.Background(), args, strings.NewReader(""), &out, io.Writer(&out)); code != 0 {
					t.Fatalf("%s: exit code %d\n%s", args[0], code, &out)
				}
			}
		})
	}
}
