package kubernetes

import (
	"context"
	"io"
	"path/filepath"

	"github.com/kcp-placement/placement/test/internal/process"
)

// The environment variables with the paths of programs to use instead of building them.
const (
	EtcdVariable              = "ETCD_BIN"
	APIServerVariable         = "KUBE_APISERVER_BIN"
	ControllerManagerVariable = "KUBE_CONTROLLER_MANAGER_BIN"
	SchedulerVariable         = "KUBE_SCHEDULER_BIN"
	KWOKVariable              = "KWOK_BIN"
	KubectlVariable           = "KUBECTL_BIN"
)

// module pins the programs of Kubernetes. KWOK, which is built from other releases of the same libraries, has a module of its own.
const module = "test/kubernetes/server"

var (
	etcd = process.Program{
		Name: "etcd", Variable: EtcdVariable, Module: module, Package: "go.etcd.io/etcd/server/v3",
		Takes: "a minute on two cores",
	}
	apiServer = process.Program{
		Name: "kube-apiserver", Variable: APIServerVariable, Module: module, Package: "k8s.io/kubernetes/cmd/kube-apiserver",
		Takes: "about five minutes on two cores",
	}
	controllerManager = process.Program{
		Name: "kube-controller-manager", Variable: ControllerManagerVariable, Module: module, Package: "k8s.io/kubernetes/cmd/kube-controller-manager",
		Takes: "about two minutes after kube-apiserver",
	}
	scheduler = process.Program{
		Name: "kube-scheduler", Variable: SchedulerVariable, Module: module, Package: "k8s.io/kubernetes/cmd/kube-scheduler",
		Takes: "half a minute after kube-apiserver",
	}
	kwok = process.Program{
		Name: "kwok", Variable: KWOKVariable, Module: "test/kubernetes/kwok", Package: "sigs.k8s.io/kwok/cmd/kwok",
		Takes: "about a minute on two cores",
	}
	kubectl = process.Program{
		Name: "kubectl", Variable: KubectlVariable, Module: module, Package: "k8s.io/kubernetes/cmd/kubectl",
		Takes: "half a minute after kube-apiserver",
	}
)

// Programs are what a server consists of.
type Programs struct {
	// The paths of the programs that serve the API.
	Etcd, APIServer string
	// The paths of those that run pods.
	ControllerManager, Scheduler, KWOK string
	// Stages is the folder of the files that tell KWOK what becomes of nodes, pods and volumes.
	Stages string
}

// Binaries returns the programs that serve the API: ETCD_BIN and KUBE_APISERVER_BIN, or bin/etcd and bin/kube-apiserver, which
// are built first from the Go modules pinned in test/kubernetes/server if they do not exist. That takes minutes, so progress is
// written to the writer.
func Binaries(ctx context.Context, progress io.Writer) (p Programs, err error) {
	if p.Etcd, err = etcd.Binary(ctx, progress); err != nil {
		return p, err
	}
	p.APIServer, err = apiServer.Binary(ctx, progress)
	return p, err
}

// ClusterBinaries returns the programs of a cluster that runs pods, found or built in the same way.
func ClusterBinaries(ctx context.Context, progress io.Writer) (Programs, error) {
	p, err := Binaries(ctx, progress)
	if err != nil {
		return p, err
	}
	if p.ControllerManager, err = controllerManager.Binary(ctx, progress); err != nil {
		return p, err
	}
	if p.Scheduler, err = scheduler.Binary(ctx, progress); err != nil {
		return p, err
	}
	if p.KWOK, err = kwok.Binary(ctx, progress); err != nil {
		return p, err
	}
	source, err := kwok.Source(ctx)
	p.Stages = filepath.Join(source, "kustomize", "stage")
	return p, err
}

// Kubectl returns the path of kubectl: KUBECTL_BIN, or bin/kubectl, which is built first from the same modules.
func Kubectl(ctx context.Context, progress io.Writer) (string, error) {
	return kubectl.Binary(ctx, progress)
}
