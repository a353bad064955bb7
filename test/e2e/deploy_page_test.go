package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/kcp-placement/placement/test/internal/process"
	"github.com/kcp-placement/placement/test/kubernetes"
)

// users of the server by their tokens. They administer no more than the workspaces that they make.
var users = map[string]string{"token-of-the-operator": "operator", "token-of-the-team": "team"}

// organization is a workspace below root in which the users may make workspaces, and no more.
const organization = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: makes-workspaces}
rules:
  - nonResourceURLs: ["/"]
    verbs: [access]
  - apiGroups: [tenancy.kcp.io]
    resources: [workspaces]
    verbs: [create, get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: makes-workspaces}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: makes-workspaces}
subjects:
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: operator}
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: team}
`

var (
	commands = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	columns  = regexp.MustCompile(`(?m)^web-\S+ +web +1 +web: frankfurt +\S+$`)
	address  = regexp.MustCompile(`(?m)^export KCP=\S+`)
)

// TestDeployPage does what docs/deploy.md says, command by command, on a real kcp, with a real kubectl and as people who are no
// administrators of kcp. It plays the kubelet and nothing else.
func TestDeployPage(t *testing.T) {
	site := newSite(t)
	site.addNode("node", "cpu=8 memory=16Gi")
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

	page, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	script := ""
	for _, block := range commands.FindAllStringSubmatch(string(page), -1) {
		script += block[1]
	}
	host, _, _ := strings.Cut(server.Config("root").Host, "/clusters/")
	if n := len(address.FindAllString(script, -1)); n != 1 {
		t.Fatalf("the page names the server %d times", n)
	}
	script = address.ReplaceAllLiteralString(script, "export KCP="+host)
	// What people try next, with the kinds and the columns that the page has installed.
	script += "at \"$TEAM\" scale deployment web --replicas=3\nat \"$TEAM\" get pd\n"

	dir := t.TempDir()
	for _, folder := range []string{"crds", "docs", "test"} {
		target, err := filepath.Abs(filepath.Join("../..", folder))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	for token, user := range users {
		config := rest.AnonymousClientConfig(server.Config("root:acme"))
		config.BearerToken = token
		writeKubeconfig(t, config, filepath.Join(dir, user+".kubeconfig"))
		client, err := dynamic.NewForConfig(rest.CopyConfig(config))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Resource(configMaps).Namespace("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Fatalf("%s is more than the page asks for: %v", user, err)
		}
	}
	writeKubeconfig(t, physical.Config(), filepath.Join(dir, "cluster.kubeconfig"))
	if err := os.Symlink(kubectl, filepath.Join(dir, "kubectl")); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	bash := exec.CommandContext(ctx, "bash", "-euxo", "pipefail", "-c", script)
	bash.Dir = dir
	bash.Env = append(os.Environ(), "HOME="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
	bash.WaitDelay = time.Second
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := bash.CombinedOutput()
		done <- result{out, err}
	}()
	kubelet := &kubelet{site, dir}
	for _, d := range []struct {
		namespace, name string
		program         *program
	}{
		{"default", "placement-controller", controllerProgram},
		{"placement-system", "placement-agent", agentProgram},
	} {
		for !kubelet.run(d.namespace, d.name, d.program) {
			select {
			case r := <-done:
				t.Fatalf("%v: the page does not deploy %s\n%s", r.err, d.name, r.out)
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	r := <-done
	if r.err != nil {
		t.Fatalf("%v\n%s", r.err, r.out)
	}

	client, err := dynamic.NewForConfig(server.Config("root:acme:shop"))
	if err != nil {
		t.Fatal(err)
	}
	team := &team{t, "root:acme:shop", client}
	if got := team.placed()["Deployment web"]; got != "frankfurt" {
		t.Errorf("web is on %q\n%s", got, r.out)
	}
	if !columns.Match(r.out) {
		t.Errorf("kubectl get pd does not show where things are:\n%s", r.out)
	}
}

// kubelet runs the containers of Deployments as processes.
type kubelet struct {
	*site
	dir string
}

// run runs a Deployment as soon as there are it and its Secret, with its arguments as they stand but for what a container has of
// its own: the paths of mounts, the address of its metrics, and the account of its pod. It reports that it is available when it is.
func (k *kubelet) run(namespace, name string, p *program) bool {
	k.Helper()
	deployment, err := k.client.AppsV1().Deployments(namespace).Get(k.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false
	} else if err != nil {
		k.Fatal(err)
	}
	pod := deployment.Spec.Template.Spec
	secret, err := k.client.CoreV1().Secrets(namespace).Get(k.Context(), pod.Volumes[0].Secret.SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false
	} else if err != nil {
		k.Fatal(err)
	}
	container, mount := pod.Containers[0], filepath.Join(k.dir, name)
	if err := os.Mkdir(mount, 0o700); err != nil {
		k.Fatal(err)
	}
	for key, value := range secret.Data {
		if err := os.WriteFile(filepath.Join(mount, key), value, 0o600); err != nil {
			k.Fatal(err)
		}
	}
	listen := freeAddress(k.T)
	args := []string{}
	for _, arg := range container.Args {
		arg = strings.Replace(arg, container.VolumeMounts[0].MountPath, mount, 1)
		args = append(args, strings.Replace(arg, fmt.Sprintf("=:%d", container.Ports[0].ContainerPort), "="+listen, 1))
	}
	if account := pod.ServiceAccountName; account != "" {
		path := filepath.Join(mount, "in-cluster")
		writeKubeconfig(k.T, withToken(k.T, physical.Config(), namespace, account), path)
		args = append(args, "--kubeconfig="+path)
	}
	running, err := process.Start(name, k.dir, p.build(k.T), args...)
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() {
		running.Kill()
		if k.Failed() {
			k.Logf("%s\n%s", name, running.Tail(40))
		}
	})
	url := "http://" + listen + container.ReadinessProbe.HTTPGet.Path
	if err := running.WaitReady(k.Context(), within, func(context.Context) (bool, error) { return strings.HasPrefix(get(url), "200"), nil }); err != nil {
		k.Fatal(err)
	}
	deployment.Status = appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}}}
	if _, err := k.client.AppsV1().Deployments(namespace).UpdateStatus(k.Context(), deployment, metav1.UpdateOptions{}); err != nil {
		k.Fatal(err)
	}
	return true
}
