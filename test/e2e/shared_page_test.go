package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/kcp-placement/placement/test/kcp"
	"github.com/kcp-placement/placement/test/kubernetes"
)

// onSharedError tells how things are when a command fails.
const onSharedError = `trap 'export KUBECONFIG=operator.kubeconfig; for w in platform checkout search research; do at "$ORGANIZATION:$w" get clustersets,clustersetbindings,workloadplacements,placementdecisions,events -A -o yaml; done' ERR
`

var (
	provider   = regexp.MustCompile(`(?m)^export PROVIDER=\S+`)
	workspaces = schema.GroupVersionResource{Group: "tenancy.kcp.io", Version: "v1alpha1", Resource: "workspaces"}
)

// TestSharedFleetsPage does what docs/shared-fleets.md says, command by command, on a real kcp and as people who are no administrators of
// it: the platform team in its workspace, and teams in theirs.
func TestSharedFleetsPage(t *testing.T) {
	kubectl, err := kubernetes.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.CreateWorkspace(t.Context(), "root", "acme"); err != nil {
		t.Fatal(err)
	}
	if err := server.Apply(t.Context(), "root:acme", []byte(organization)); err != nil {
		t.Fatal(err)
	}
	// As docs/deploy.md has it.
	for _, file := range []string{"rbac.yaml", "teams-rbac.yaml"} {
		text, err := os.ReadFile("../../docs/deploy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Apply(t.Context(), kcp.Provider, text); err != nil {
			t.Fatal(err)
		}
	}
	config := withToken(t, server.Config(kcp.Provider), "placement-controller")
	config.Host = server.Config("root:acme").Host
	asController, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asController.Resource(workspaces).Get(t.Context(), "platform", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Fatalf("the controller needs no right to read paths: %v", err)
	}

	dir := t.TempDir()
	link := func(target, name string) {
		if target, err = filepath.Abs(target); err == nil {
			err = os.Symlink(target, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	link("../../docs", "docs")
	link(kubectl, "kubectl")
	link(cliProgram.build(t), "kubectl-placement")
	if err := server.WriteKubeconfig("root:acme", filepath.Join(dir, "operator.kubeconfig")); err != nil {
		t.Fatal(err)
	}
	for file, token := range map[string]string{"platform": "token-of-the-operator", "team": "token-of-the-team"} {
		config := rest.AnonymousClientConfig(server.Config("root:acme"))
		config.BearerToken = token
		writeKubeconfig(t, config, filepath.Join(dir, file+".kubeconfig"))
	}

	p := readPage(t, "../../docs/shared-fleets.md")
	host, _, _ := strings.Cut(server.Config("root").Host, "/clusters/")
	script := onSharedError + address.ReplaceAllLiteralString(p.script(), "export KCP="+host)
	script = provider.ReplaceAllLiteralString(script, "export PROVIDER="+kcp.Provider)
	ctx, done := context.WithTimeout(t.Context(), 3*time.Minute)
	defer done()
	bash := exec.CommandContext(ctx, "bash", "-Eeuo", "pipefail", "-c", script)
	bash.Dir = dir
	bash.Env = append(os.Environ(), "HOME="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
	bash.WaitDelay = time.Second
	out, err := bash.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.compare(t, string(out))

	// As docs/deploy/paths-rbac.yaml says, what it gives is not enough on kcp v0.32.3.
	client, err := discovery.NewDiscoveryClientForConfig(server.Config("root:acme"))
	if err != nil {
		t.Fatal(err)
	}
	version, err := client.ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	_, err = asController.Resource(workspaces).Get(t.Context(), "platform", metav1.GetOptions{})
	if enough := !strings.HasSuffix(version.GitVersion, "+kcp-v0.32.3"); enough != (err == nil) || err != nil && !apierrors.IsForbidden(err) {
		t.Errorf("whether the page gives the controller a right to read paths on %s should be %t: %v", version.GitVersion, enough, err)
	}
}
