// Package kubernetes runs real physical clusters on this machine. Of most there is only the API: etcd and kube-apiserver. Nodes and
// pods are created through it; no kubelet, scheduler or controller changes or removes them. In others pods run.
package kubernetes

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kcp-placement/placement/test/internal/access"
	"github.com/kcp-placement/placement/test/internal/objects"
	"github.com/kcp-placement/placement/test/internal/process"
)

// Options of a Server.
type Options struct {
	Programs
	// Dir is where the server keeps its data and logs. A server that is started again on the same folder finds them, and has the
	// same address and credentials.
	Dir string
	// Pods makes it a cluster in which pods run: kube-controller-manager and kube-scheduler do what they do everywhere, and KWOK
	// plays the kubelets and the volumes' provisioner. It takes the programs of ClusterBinaries.
	Pods bool
}

// Server is the running API of a cluster.
type Server struct {
	dir, key  string
	etcd      string // where it serves
	config    *rest.Config
	apiServer *process.Process
	kwok      *process.Process
	processes []*process.Process // in the order in which they were started
}

// Start starts a server on free ports of the loopback address and waits until it answers. The caller stops it.
func Start(ctx context.Context, options Options) (*Server, error) {
	s := &Server{}
	if err := s.start(ctx, options); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, options Options) (err error) {
	if s.dir, err = filepath.Abs(options.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if s.key, err = signingKey(s.dir); err != nil {
		return err
	}
	if s.config, err = s.identity(); err != nil {
		return err
	}
	if err := s.startEtcd(options.Etcd); err != nil {
		return err
	}
	if err := s.startAPIServer(ctx, options); err != nil {
		return err
	}
	if err := access.WriteKubeconfig(s.config, s.Kubeconfig()); err != nil {
		return err
	}
	if options.Pods {
		return s.startControllers(ctx, options.Programs)
	}
	return nil
}

// startProcess starts one of the server's programs.
func (s *Server) startProcess(name, binary string, args ...string) (*process.Process, error) {
	p, err := process.Start(name, s.dir, binary, args...)
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return p, err
}

func (s *Server) startEtcd(binary string) error {
	ports, err := process.FreePorts(2)
	if err != nil {
		return err
	}
	peers := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	s.etcd = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	_, err = s.startProcess("etcd", binary, "--data-dir", filepath.Join(s.dir, "etcd"),
		"--listen-client-urls", s.etcd, "--advertise-client-urls", s.etcd,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers,
		"--unsafe-no-fsync") // a test's data need not survive a crash of the machine
	return err
}

func (s *Server) startAPIServer(ctx context.Context, options Options) error {
	tokens := filepath.Join(s.dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(s.config.BearerToken+",admin,admin,system:masters\n"), 0o600); err != nil {
		return err
	}
	address, err := url.Parse(s.config.Host)
	if err != nil {
		return err
	}
	args := []string{
		"--etcd-servers", s.etcd,
		"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", address.Port(),
		"--endpoint-reconciler-type", "none", // the Service kubernetes cannot route to a loopback address
		"--cert-dir", filepath.Dir(s.config.CAFile),
		"--service-account-key-file", s.key, "--service-account-signing-key-file", s.key,
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-cluster-ip-range", "10.96.0.0/16",
		"--token-auth-file", tokens, "--authorization-mode", "RBAC",
	}
	if !options.Pods {
		// These rely on ServiceAccounts and taints that only controllers, which do not run then, create and remove.
		args = append(args, "--disable-admission-plugins", "ServiceAccount,TaintNodesByCondition")
	}
	if s.apiServer, err = s.startProcess("kube-apiserver", options.APIServer, args...); err != nil {
		return err
	}
	if err := s.apiServer.WaitReady(ctx, 2*time.Minute, s.ready); err != nil {
		return fmt.Errorf("%w\nthe end of etcd's log:\n%s", err, s.processes[0].Tail(20))
	}
	return nil
}

// ready reports whether the server answers and has created the namespaces that every cluster has.
func (s *Server) ready(ctx context.Context) (bool, error) {
	var err error
	if s.config.CAData, err = os.ReadFile(s.config.CAFile); err != nil {
		return false, nil
	}
	client, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		return false, nil // it is still being written
	}
	if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return false, nil
	}
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		if _, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return false, nil
		}
	}
	return true, nil
}

// Stop shuts the server down gracefully, then forcibly. It may be called again.
func (s *Server) Stop() {
	for _, p := range slices.Backward(s.processes) {
		_ = p.Stop()
	}
}

// Pause suspends the API server: connections stay open, but nothing is answered until Resume.
func (s *Server) Pause() { s.apiServer.Pause() }

// Resume lets the API answer again after Pause.
func (s *Server) Resume() { s.apiServer.Resume() }

// Config returns an administrator's configuration.
func (s *Server) Config() *rest.Config { return rest.CopyConfig(s.config) }

// Apply applies a stream of YAML documents, including the status where it is a subresource.
func (s *Server) Apply(ctx context.Context, documents []byte) error {
	return objects.ApplyAll(ctx, s.Config(), bytes.NewReader(documents))
}

// Kubeconfig returns the path of an administrator's kubeconfig.
func (s *Server) Kubeconfig() string { return filepath.Join(s.dir, "kubeconfig") }

// identity returns the address and the administrator's credentials: those of before if the folder has a kubeconfig.
func (s *Server) identity() (*rest.Config, error) {
	config := &rest.Config{
		// The server writes its certificate when it first starts.
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(s.dir, "certificates", "apiserver.crt")},
		// A test needs no client-side rate limit.
		QPS: 200, Burst: 400,
	}
	switch before, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig()); {
	case err == nil:
		config.Host, config.BearerToken = before.Host, before.BearerToken
	case errors.Is(err, os.ErrNotExist):
		ports, err := process.FreePorts(1)
		if err != nil {
			return nil, err
		}
		config.Host, config.BearerToken = fmt.Sprintf("https://127.0.0.1:%d", ports[0]), rand.Text()
	default:
		return nil, err
	}
	return config, nil
}

// signingKey returns the path of the key that the tokens of ServiceAccounts are signed with.
func signingKey(dir string) (string, error) {
	path := filepath.Join(dir, "service-accounts.key")
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return path, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return path, os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}
