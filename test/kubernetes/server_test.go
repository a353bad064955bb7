package kubernetes_test

import (
	"context"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kcp-placement/placement/test/kubernetes"
)

// TestServer: the kubeconfig gives an administrator access, and without its token there is none; nodes stay as they are
// created; the server can be paused and resumed; and its data, its address and the credentials survive a restart.
func TestServer(t *testing.T) {
	programs, err := kubernetes.Binaries(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	options := kubernetes.Options{Programs: programs, Dir: t.TempDir()}
	server, err := kubernetes.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { server.Stop() }()

	config, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	admin, anonymous := client.NewForConfigOrDie(config), client.NewForConfigOrDie(rest.AnonymousClientConfig(config))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	if node, err = admin.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(node.Spec.Taints) > 0 {
		t.Errorf("the node has taints: %v", node.Spec.Taints)
	}
	if _, err := anonymous.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("without a token: %v", err)
	}

	get := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := admin.CoreV1().Nodes().Get(ctx, "n", metav1.GetOptions{})
		return err
	}
	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := admin.CoreV1().Nodes().Get(ctx, "n", metav1.GetOptions{}); err == nil {
		t.Error("a server that is held answers")
	}
	server.Resume()
	if err := get(); err != nil {
		t.Errorf("resumed: %v", err)
	}

	server.Pause()
	server.Stop()
	if server, err = kubernetes.Start(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("restarted: %v", err)
	}
}
