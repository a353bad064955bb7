// Package kubernetes runs the API of a real physical cluster on this machine: etcd and kube-apiserver, and nothing else.
// Nodes and pods are created through the API; no kubelet, scheduler or controller changes or removes them.
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
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kcp-placement/placement/test/internal/objects"
	"github.com/kcp-placement/placement/test/internal/process"
)

// The environment variables with the paths of programs to use instead of building them.
const (
	EtcdVariable      = "ETCD_BIN"
	APIServerVariable = "KUBE_APISERVER_BIN"
	KubectlVariable   = "KUBECTL_BIN"
)

// module pins the programs.
const module = "test/kubernetes/server"

// Programs are the paths of the two programs that make up a server.
type Programs struct {
	Etcd, APIServer string
}

// Binaries returns the paths of the programs: ETCD_BIN and KUBE_APISERVER_BIN, or bin/etcd and bin/kube-apiserver, which are
// built first from the Go modules pinned in test/kubernetes/server if they do not exist. That takes minutes, so progress is
// written to the writer.
func Binaries(ctx context.Context, progress io.Writer) (Programs, error) {
	etcd, err := process.Program{
		Name: "etcd", Variable: EtcdVariable, Module: module, Package: "go.etcd.io/etcd/server/v3",
		Takes: "a minute on two cores",
	}.Binary(ctx, progress)
	if err != nil {
		return Programs{}, err
	}
	apiServer, err := process.Program{
		Name: "kube-apiserver", Variable: APIServerVariable, Module: module, Package: "k8s.io/kubernetes/cmd/kube-apiserver",
		Takes: "about five minutes on two cores",
	}.Binary(ctx, progress)
	return Programs{etcd, apiServer}, err
}

// Kubectl returns the path of kubectl: KUBECTL_BIN, or bin/kubectl, which is built first from the same modules.
func Kubectl(ctx context.Context, progress io.Writer) (string, error) {
	return process.Program{
		Name: "kubectl", Variable: KubectlVariable, Module: module, Package: "k8s.io/kubernetes/cmd/kubectl",
		Takes: "half a minute after kube-apiserver",
	}.Binary(ctx, progress)
}

// Options of a Server.
type Options struct {
	Programs
	// Dir is where the server keeps its data and logs. A server that is started again on the same folder finds them.
	Dir string
}

// Server is the running API of a cluster.
type Server struct {
	config          *rest.Config
	etcd, apiServer *process.Process
}

// Start starts a server on free ports of the loopback address and waits until it answers. The caller stops it.
func Start(ctx context.Context, options Options) (*Server, error) {
	dir, err := filepath.Abs(options.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ports, err := process.FreePorts(3)
	if err != nil {
		return nil, err
	}
	key, err := signingKey(dir)
	if err != nil {
		return nil, err
	}
	token := rand.Text()
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"), 0o600); err != nil {
		return nil, err
	}

	s := &Server{}
	etcdURL, peerURL := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	s.etcd, err = process.Start("etcd", dir, options.Etcd, "--data-dir", filepath.Join(dir, "etcd"),
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL,
		"--unsafe-no-fsync") // a test's data need not survive a crash of the machine
	if err != nil {
		return nil, err
	}
	certificates := filepath.Join(dir, "certificates")
	s.apiServer, err = process.Start("kube-apiserver", dir, options.APIServer, "--etcd-servers", etcdURL,
		"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", strconv.Itoa(ports[2]),
		"--endpoint-reconciler-type", "none", // the Service kubernetes cannot route to a loopback address
		"--cert-dir", certificates,
		"--service-account-key-file", key, "--service-account-signing-key-file", key,
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-cluster-ip-range", "10.0.0.0/24",
		"--token-auth-file", tokens, "--authorization-mode", "RBAC",
		// These rely on ServiceAccounts and taints that only controllers, which do not run here, create and remove.
		"--disable-admission-plugins", "ServiceAccount,TaintNodesByCondition")
	if err != nil {
		s.Stop()
		return nil, err
	}
	s.config = &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", ports[2]),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(certificates, "apiserver.crt")},
		// A test needs no client-side rate limit.
		QPS: 200, Burst: 400,
	}
	if err := s.apiServer.WaitReady(ctx, 2*time.Minute, s.ready); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%w\nthe end of etcd's log:\n%s", err, s.etcd.Tail(20))
	}
	return s, nil
}

// ready reports whether the server answers and has created the namespaces that every cluster has.
func (s *Server) ready(ctx context.Context) (bool, error) {
	var err error
	// The server writes its certificate when it starts.
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
	for _, p := range []*process.Process{s.apiServer, s.etcd} {
		if p != nil {
			_ = p.Stop()
		}
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

// WriteKubeconfig writes an administrator's kubeconfig.
func (s *Server) WriteKubeconfig(path string) error {
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{
			"physical": {Server: s.config.Host, CertificateAuthorityData: s.config.CAData},
		},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"admin": {Token: s.config.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"physical": {Cluster: "physical", AuthInfo: "admin"}},
		CurrentContext: "physical",
	}, path)
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
