package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/test/agent"
	"github.com/kcp-placement/placement/test/kubernetes"
)

// live is the team of the physical clusters: agents register them, and pods run there.
var live = team{name: "team-live", explain: "Deployment default/web", files: []string{"placements.yaml", "workloads.yaml"}}

// nodeSize is what each of the two nodes of a physical cluster has.
var nodeSize = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi")}

// startPhysical starts the physical clusters.
func (d *demo) startPhysical(ctx context.Context) error {
	programs, err := kubernetes.ClusterBinaries(ctx, os.Stderr)
	if err != nil {
		return err
	}
	// Those of an earlier run have pods of its workloads, which are cleared, too.
	if err := os.RemoveAll(filepath.Join(d.dir, "physical")); err != nil {
		return err
	}
	d.clusters = map[string]*kubernetes.Server{}
	for i := range d.physical {
		name := fmt.Sprintf("physical-%d", i+1)
		cluster, err := kubernetes.Start(ctx, kubernetes.Options{Programs: programs, Dir: d.folder(name), Pods: true})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		d.clusters[name] = cluster
		d.started = append(d.started, cluster.Stop)
		if err := cluster.AddNodes(ctx, kubernetes.Node("a", nodeSize), kubernetes.Node("b", nodeSize)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// folder of a physical cluster and its agent.
func (d *demo) folder(cluster string) string { return filepath.Join(d.dir, "physical", cluster) }

// startAgents starts an agent for each physical cluster, and waits until all have registered and report.
func (d *demo) startAgents(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(d.clusters)) {
		p, err := agent.Start(ctx, agent.Options{
			Binary: d.agent, Dir: d.folder(name), Registration: name,
			Workspace: d.server.Config("root:" + live.name), Cluster: d.clusters[name].Config(),
			Args: []string{"--location", "here", "--metrics-bind-address", "", "--v=2"},
		})
		if err != nil {
			return fmt.Errorf("the agent of %s: %w", name, err)
		}
		d.started = append(d.started, func() { _ = p.Stop() })
		if err := p.WaitReady(ctx, placeWithin, func(ctx context.Context) (bool, error) {
			registrations, err := d.registrations(ctx)
			return slices.ContainsFunc(registrations, func(r v1alpha1.ClusterRegistration) bool {
				return r.Name == name && conditions.IsTrue(&r, v1alpha1.ReadyCondition)
			}), err
		}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// registrations of the team live.
func (d *demo) registrations(ctx context.Context) ([]v1alpha1.ClusterRegistration, error) {
	client, err := dynamic.NewForConfig(d.server.Config("root:" + live.name))
	if err != nil {
		return nil, err
	}
	list, err := client.Resource(v1alpha1.SchemeGroupVersion.WithResource("clusterregistrations")).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	registrations := make([]v1alpha1.ClusterRegistration, len(list.Items))
	for i := range list.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &registrations[i]); err != nil {
			return nil, err
		}
	}
	return registrations, nil
}

// showClusters prints the physical clusters as their agents report them.
func (d *demo) showClusters(ctx context.Context) error {
	registrations, err := d.registrations(ctx)
	if err != nil {
		return err
	}
	t := report.NewTable(os.Stdout)
	t.AppendHeader(table.Row{"CLUSTER", "READY", "NODES", "CPU", "MEMORY"})
	for i := range registrations {
		r := &registrations[i]
		usable := ""
		if r.Status.Nodes != nil {
			usable = strconv.Itoa(int(r.Status.Nodes.Usable))
		}
		t.AppendRow(table.Row{r.Name, conditions.IsTrue(r, v1alpha1.ReadyCondition), usable, r.Status.Allocatable.Cpu(), r.Status.Allocatable.Memory()})
	}
	t.Render()
	fmt.Println()
	return nil
}

// checkLive returns an error for each workload of the team live that is not placed.
func (d *demo) checkLive(ctx context.Context) error {
	client, err := dynamic.NewForConfig(d.server.Config("root:" + live.name))
	if err != nil {
		return err
	}
	placed, err := d.placed(ctx, live.name)
	if err != nil {
		return err
	}
	var errs []error
	for _, resource := range d.kinds {
		list, err := client.Resource(resource).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, object := range list.Items {
			name := object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
			if !slices.ContainsFunc(placed, func(p report.Placed) bool { return p.Workload == name && len(p.Clusters) > 0 }) {
				errs = append(errs, fmt.Errorf("%s: %s is not placed", live.name, name))
			}
		}
	}
	return errors.Join(errs...)
}

func (d *demo) hintsPhysical() {
	fmt.Printf(`
The clusters of %[1]s are real:

  kubectl --kubeconfig %[2]s/%[1]s.kubeconfig get clusterregistrations
`, live.name, d.dir)
	for _, name := range slices.Sorted(maps.Keys(d.clusters)) {
		fmt.Printf("  kubectl --kubeconfig %s get nodes,pods -A\n", filepath.Join(d.folder(name), "kubeconfig"))
	}
}
