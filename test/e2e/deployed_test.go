package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kcp-placement/placement/test/kcp"
)

// TestDeployed runs the program as it is deployed: with the rights of docs/deploy/rbac.yaml and no more.
func TestDeployed(t *testing.T) {
	alone(t)
	binary, dir := controllerProgram.build(t), t.TempDir()
	rbac, err := os.ReadFile("../../docs/deploy/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Apply(t.Context(), kcp.Provider, rbac); err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	writeKubeconfig(t, withToken(t, server.Config(kcp.Provider), "placement-controller"), kubeconfig)

	address := freeAddress(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	program := exec.Command(binary, "--kubeconfig", kubeconfig, "--leader-elect", "--metrics-bind-address", address, "--v=2")
	program.Stdout, program.Stderr = log, log
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = program.Process.Kill()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s", text[max(0, len(text)-8000):])
		}
	})

	team := newTeam(t)
	team.eventually("readyz", "200 ok", func() string { return get("http://" + address + "/readyz") })
	team.apply(cluster("a", "4"), placement("app"), policies("p", "package placement.scoring\nweights := {\"capacity\": 1}"), deployment("web", "app", "1"))
	team.expect("Deployment web", "a")
	team.eventually("Ready", "True", func() string { return team.condition("app", "Ready") })
	team.eventually("the event", "Placed", func() string { return team.events("app") })
	team.eventually("the ConfigMap", `{"status":"ok"`, func() string {
		object, err := team.client.Resource(configMaps).Namespace("default").Get(t.Context(), "p", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		status, _, _ := strings.Cut(object.GetAnnotations()["openpolicyagent.org/policy-status"], ",")
		return status // the digest follows
	})
	// It decides in the workspaces of other tests as well.
	if metrics := get("http://" + address + "/metrics"); !regexp.MustCompile(`placement_writes_total{kind="PlacementDecision",result="ok"} [1-9]`).MatchString(metrics) {
		t.Errorf("the metrics do not count the write:\n%s", metrics)
	}

	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err != nil {
		t.Errorf("asked to stop: %v", err)
	}
	client, err := kubernetes.NewForConfig(server.Config(kcp.Provider))
	if err != nil {
		t.Fatal(err)
	}
	lease, err := client.CoordinationV1().Leases("default").Get(t.Context(), "placement-controller", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("the lease is still held by %s", *holder)
	}
}

// TestUsage: a wrong invocation fails with one line.
func TestUsage(t *testing.T) {
	t.Parallel()
	binary := controllerProgram.build(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--max-concurrent-decisions", "0"}, "--max-concurrent-decisions must be at least 1, is 0"},
		{[]string{"--workload-kinds", "deployments"}, `--workload-kinds: "deployments" is not resource.version.group, for example deployments.v1.apps`},
		{[]string{"--kubeconfig", "/nowhere"}, "--kubeconfig: stat /nowhere: no such file or directory"},
		{[]string{"--api-export-endpoint-slice", "other", "--metrics-bind-address", "", "--kubeconfig", server.AdminKubeconfig}, `there is no APIExportEndpointSlice "other" in the workspace that the kubeconfig points at`},
		{[]string{"extra"}, `unknown command "extra"`},
	} {
		out, err := exec.Command(binary, test.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%v: %v\n%s", test.args, err, out)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func get(url string) string {
	response, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", response.StatusCode, strings.TrimSpace(string(body)))
}
