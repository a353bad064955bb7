package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/test/kubernetes"
)

// TestReadme types what README.md tells whoever tries the project to type, in the workspace that make run has made, and sees what
// README.md shows.
func TestReadme(t *testing.T) {
	kubectl, err := kubernetes.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	team := newTeam(t)
	for _, name := range []string{"fleet", "policies", "placements", "workloads"} {
		text, err := os.ReadFile("../../examples/team-shop/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		team.apply(string(text))
	}
	text, err := os.ReadFile("../../examples/team-shop/expected.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string][]string
	if err := yaml.Unmarshal(text, &expected); err != nil {
		t.Fatal(err)
	}
	for name, clusters := range expected {
		team.expect(strings.Replace(name, " default/", " ", 1), strings.Join(clusters, ","))
	}

	// The folder of the project, as it is after make run.
	dir := t.TempDir()
	link := func(target, name string) {
		if target, err = filepath.Abs(target); err == nil {
			err = os.Symlink(target, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "cmd", "crds", "docs", "engine", "examples", "internal", "offline", "policies", "test"} {
		link("../../"+name, name)
	}
	for _, folder := range []string{".kcp", "tools"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link(kubectl, "tools/kubectl")
	if err := server.WriteKubeconfig(team.workspace, filepath.Join(dir, ".kcp/team-shop.kubeconfig")); err != nil {
		t.Fatal(err)
	}

	readme := readPage(t, "../../README.md")
	bash := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", readme.script())
	bash.Dir = dir
	bash.Env = append(os.Environ(), "HOME="+dir, "GOCACHE="+goEnv(t, "GOCACHE"), "GOPATH="+goEnv(t, "GOPATH"), "PATH="+filepath.Join(dir, "tools")+":"+os.Getenv("PATH"))
	out, err := bash.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	readme.compare(t, string(out))
}

// goEnv is a setting of Go, whatever HOME is.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
