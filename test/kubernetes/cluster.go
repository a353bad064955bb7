package kubernetes

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// stages of KWOK's module: nodes are ready and pods running at once, Jobs are done as soon as they run, and volumes are bound. A
// pod fails if its label pod-container-running-failed.stage.kwok.x-k8s.io is "true".
var stages = []string{
	"node/fast/node-initialize.yaml", "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
	"pod/fast/pod-ready.yaml", "pod/fast/pod-complete.yaml", "pod/fast/pod-delete.yaml", "pod/chaos/pod-container-running-failed.yaml",
	"volume/fast/pvc-provision.yaml", "volume/fast/pvc-delete.yaml", "volume/fast/pv-bind.yaml", "volume/fast/pv-delete.yaml",
}

// storageClass is the one, and the default one, of a cluster in which pods run.
const storageClass = "volume/fast/storage-class.yaml"

// startControllers starts what runs pods, and waits until pods can be created in the namespace default.
func (s *Server) startControllers(ctx context.Context, programs Programs) error {
	common := []string{"--kubeconfig", s.Kubeconfig(), "--leader-elect=false", "--secure-port=0",
		"--kube-api-qps=1000", "--kube-api-burst=1000"} // so that a test waits for nothing but the API server
	manager, err := s.startProcess("kube-controller-manager", programs.ControllerManager, slices.Concat(common, []string{
		"--service-account-private-key-file", s.key, "--root-ca-file", s.config.CAFile,
		"--node-monitor-grace-period", "1h"})...) // on a busy machine KWOK is late, and pods that are marked not ready stay so
	if err != nil {
		return err
	}
	if _, err := s.startProcess("kube-scheduler", programs.Scheduler, common...); err != nil {
		return err
	}
	class, err := os.ReadFile(filepath.Join(programs.Stages, storageClass))
	if err != nil {
		return err
	}
	if err := s.Apply(ctx, class); err != nil {
		return err
	}
	args := []string{"--kubeconfig", s.Kubeconfig(), "--manage-all-nodes=true"}
	for _, stage := range stages {
		args = append(args, "--config", filepath.Join(programs.Stages, stage))
	}
	if s.kwok, err = s.startProcess("kwok", programs.KWOK, args...); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		return err
	}
	return manager.WaitReady(ctx, time.Minute, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
}

// Node returns a node as its kubelet would register it, with room for 110 pods unless something else is said.
func Node(name string, allocatable corev1.ResourceList) *corev1.Node {
	all := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("110")}
	maps.Copy(all, allocatable)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		}},
		Status: corev1.NodeStatus{Allocatable: all, Capacity: all},
	}
}

// AddNodes adds nodes to a cluster in which pods run, and waits until pods can be scheduled to all of them.
func (s *Server) AddNodes(ctx context.Context, nodes ...*corev1.Node) error {
	client, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return s.kwok.WaitReady(ctx, time.Minute, func(ctx context.Context) (bool, error) {
		for _, node := range nodes {
			found, err := client.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
			// A node comes with this taint, which goes once the node is ready.
			if err != nil || slices.ContainsFunc(found.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady }) {
				return false, nil
			}
		}
		return true, nil
	})
}
