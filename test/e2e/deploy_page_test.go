package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"

	"github.com/kcp-placement/placement/test/internal/access"
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

// onError tells how things are when a command fails.
const onError = `trap 'export KUBECONFIG=team.kubeconfig; at "$TEAM" get clusterregistrations,workloadplacements,placementdecisions,works,events -A -o yaml' ERR
`

var (
	columns = regexp.MustCompile(`(?m)^web-\S+ +web +1 +web: frankfurt +\S+$`)
	address = regexp.MustCompile(`(?m)^export KCP=\S+`)
)

// TestDeployPages does what docs/deploy.md and then docs/delivery.md say, command by command, on a real kcp and two real clusters, with a
// real kubectl and as people who are no administrators of kcp. It runs the containers of the programs, and nothing else.
func TestDeployPages(t *testing.T) {
	t.Parallel()
	programs, err := kubernetes.ClusterBinaries(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
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

	dir := t.TempDir()
	link := func(target, name string) {
		if target, err = filepath.Abs(target); err == nil {
			err = os.Symlink(target, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"crds", "docs", "examples", "test"} {
		link("../../"+folder, folder)
	}
	link(kubectl, "kubectl")
	link(cliProgram.build(t), "kubectl-placement")
	certificate, key, err := cert.GenerateSelfSignedCertKey("console.example.com", nil, nil)
	for name, content := range map[string][]byte{"console.crt": certificate, "console.key": key} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
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
	ctx, cancel := context.WithCancelCause(t.Context())
	var kubelets sync.WaitGroup
	defer kubelets.Wait()
	defer cancel(nil)
	for _, name := range []string{"cluster", "dublin"} {
		s, err := kubernetes.Start(t.Context(), kubernetes.Options{Programs: programs, Dir: filepath.Join(dir, name), Pods: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		if err := s.AddNodes(t.Context(), kubernetes.Node("node", resources(t, "cpu=8 memory=16Gi"))); err != nil {
			t.Fatal(err)
		}
		link(s.Kubeconfig(), name+".kubeconfig")
		k := newKubelet(t, s, filepath.Join(dir, name))
		kubelets.Go(func() { cancel(k.run(ctx)) })
	}

	deploy, delivery := readPage(t, "../../docs/deploy.md"), readPage(t, "../../docs/delivery.md")
	// In between is what people try next, with the kinds and the columns that the page has installed.
	script := deploy.script() + `
at "$TEAM" scale deployment web --replicas=3
at "$TEAM" get pd
at "$TEAM" scale deployment web --replicas=2
` + delivery.script()
	host, _, _ := strings.Cut(server.Config("root").Host, "/clusters/")
	if n := len(address.FindAllString(script, -1)); n != 1 {
		t.Fatalf("the pages name the server %d times", n)
	}
	script = onError + address.ReplaceAllLiteralString(script, "export KCP="+host)

	limited, done := context.WithTimeout(ctx, 5*time.Minute)
	defer done()
	bash := exec.CommandContext(limited, "bash", "-Eeuo", "pipefail", "-c", script)
	bash.Dir = dir
	bash.Env = append(os.Environ(), "HOME="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
	bash.WaitDelay = time.Second
	out, err := bash.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", cmp.Or(context.Cause(limited), err), out)
	}
	if rest := deploy.compare(t, string(out)); !columns.MatchString(rest) {
		t.Errorf("kubectl get pd does not show where things are:\n%s", rest)
	} else {
		delivery.compare(t, rest)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
}

// kubelet runs the containers of our programs in a cluster, as processes.
type kubelet struct {
	dir      string
	admin    *rest.Config
	client   clientset.Interface
	programs map[string]string
	running  map[string]*container
}

// container is a process that runs for a Deployment, with the arguments that it has there.
type container struct {
	*process.Process
	args []string
}

func newKubelet(t *testing.T, s *kubernetes.Server, dir string) *kubelet {
	t.Helper()
	client, err := clientset.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	k := &kubelet{dir: dir, admin: s.Config(), client: client, running: map[string]*container{}, programs: map[string]string{}}
	for _, p := range []*program{controllerProgram, agentProgram} {
		k.programs[p.name] = p.build(t)
	}
	t.Cleanup(func() {
		for name, running := range k.running {
			running.Kill()
			if t.Failed() {
				t.Logf("%s in %s\n%s", name, filepath.Base(dir), running.Tail(40))
			}
		}
	})
	return k
}

// run runs the containers of Deployments as they stand, until the end of the context. It fails if one does.
func (k *kubelet) run(ctx context.Context) error {
	for {
		deployments, err := k.client.AppsV1().Deployments("").List(ctx, metav1.ListOptions{})
		for i := 0; err == nil && i < len(deployments.Items); i++ {
			if d := &deployments.Items[i]; k.programs[d.Name] != "" {
				err = k.keep(ctx, d)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// keep runs the container of a Deployment as soon as there is its Secret, and anew when its arguments change. They are as they stand
// but for what a container has of its own: the paths of mounts, the address of its metrics, and the account of its pod.
func (k *kubelet) keep(ctx context.Context, d *appsv1.Deployment) error {
	pod := d.Spec.Template.Spec
	c := pod.Containers[0]
	if running := k.running[d.Name]; running != nil {
		select {
		case <-running.Exited():
			return fmt.Errorf("%s has ended", d.Name)
		default:
		}
		if slices.Equal(running.args, c.Args) {
			return nil
		}
		if err := running.Stop(); err != nil {
			return fmt.Errorf("stopping %s: %w", d.Name, err)
		}
	}
	secret, err := k.client.CoreV1().Secrets(d.Namespace).Get(ctx, pod.Volumes[0].Secret.SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return err
	}
	mount := filepath.Join(k.dir, d.Name)
	if err := os.MkdirAll(mount, 0o700); err != nil {
		return err
	}
	for key, value := range secret.Data {
		if err := os.WriteFile(filepath.Join(mount, key), value, 0o600); err != nil {
			return err
		}
	}
	ports, err := process.FreePorts(1)
	if err != nil {
		return err
	}
	listen, args := fmt.Sprintf("127.0.0.1:%d", ports[0]), []string{}
	for _, arg := range c.Args {
		arg = strings.Replace(arg, c.VolumeMounts[0].MountPath, mount, 1)
		args = append(args, strings.Replace(arg, fmt.Sprintf("=:%d", c.Ports[0].ContainerPort), "="+listen, 1))
	}
	if account := pod.ServiceAccountName; account != "" {
		config, err := access.ServiceAccount(ctx, k.admin, d.Namespace, account)
		if err != nil {
			return err
		}
		path := filepath.Join(mount, "in-cluster")
		if err := access.WriteKubeconfig(config, path); err != nil {
			return err
		}
		args = append(args, "--kubeconfig="+path)
	}
	p, err := process.Start(d.Name, k.dir, k.programs[d.Name], args...)
	if err != nil {
		return err
	}
	k.running[d.Name] = &container{p, c.Args}
	url := "http://" + listen + c.ReadinessProbe.HTTPGet.Path
	return p.WaitReady(ctx, within, func(context.Context) (bool, error) { return strings.HasPrefix(get(url), "200"), nil })
}
