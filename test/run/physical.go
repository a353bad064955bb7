package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/delivery"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/test/agent"
	"github.com/kcp-placement/placement/test/kubernetes"
)

// live is the team of the physical clusters: agents register them, and its workloads run there.
var live = team{name: "team-live", explain: "Deployment default/hello", files: []string{"placements.yaml", "workloads.yaml"}}

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
			Args: []string{"--deliver", "--location", "here", "--metrics-bind-address", "", "--v=2"},
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
	return listAll[v1alpha1.ClusterRegistration](ctx, d.server.Config("root:"+live.name), "clusterregistrations")
}

// listAll reads all objects of a resource of the placement API in a workspace.
func listAll[T any](ctx context.Context, workspace *rest.Config, resource string) ([]T, error) {
	client, err := dynamic.NewForConfig(workspace)
	if err != nil {
		return nil, err
	}
	found, err := client.Resource(v1alpha1.SchemeGroupVersion.WithResource(resource)).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	all := make([]T, len(found.Items))
	for i := range found.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Items[i].Object, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
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

// running is a workload of the team live in one of the clusters that it is placed on.
type running struct {
	workload, cluster string
	health            v1alpha1.Health
	desired, ready    int32
	message           string
}

// deliveries reads how the workloads of the team live fare where they are placed, in the order of their decisions.
func (d *demo) deliveries(ctx context.Context) ([]running, error) {
	workspace := d.server.Config("root:" + live.name)
	decisions, err := listAll[v1alpha1.PlacementDecision](ctx, workspace, "placementdecisions")
	if err != nil {
		return nil, err
	}
	works, err := listAll[v1alpha1.Work](ctx, workspace, "works")
	if err != nil {
		return nil, err
	}
	pointers := make([]*v1alpha1.Work, len(works))
	for i := range works {
		pointers[i] = &works[i]
	}
	copies := delivery.CopiesOf(slices.Collect(maps.Keys(d.clusters)), pointers)
	var all []running
	for _, slice := range decisions {
		for _, decision := range slice.Decisions {
			w := decision.Workload
			for _, cluster := range decision.Clusters {
				r := running{workload: fmt.Sprintf("%s %s/%s", w.Kind, slice.Namespace, w.Name), cluster: cluster.Name, health: v1alpha1.HealthPending}
				if cluster.Delivery != nil {
					r.health, r.message = cluster.Delivery.Health, cluster.Delivery.Message
				}
				if copied := copies.Of(w.UID)[cluster.Name]; copied != nil {
					r.desired = int32(copied.Replicas())
					if copied.Status != nil && copied.Status.Counts != nil {
						r.ready = copied.Status.Counts.Ready + copied.Status.Counts.Succeeded
					}
				}
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b running) int {
		return cmp.Or(strings.Compare(a.workload, b.workload), strings.Compare(a.cluster, b.cluster))
	})
	return all, nil
}

// showRunning prints what runs where.
func (d *demo) showRunning(ctx context.Context) error {
	all, err := d.deliveries(ctx)
	if err != nil {
		return err
	}
	fmt.Print("\nwhat runs there:\n\n")
	t := report.NewTable(os.Stdout)
	t.AppendHeader(table.Row{"WORKLOAD", "CLUSTER", "DESIRED", "READY", "HEALTH"})
	before := ""
	for _, r := range all {
		name := r.workload
		if name == before {
			name = ""
		}
		before = r.workload
		t.AppendRow(table.Row{name, r.cluster, r.desired, r.ready, strings.TrimSuffix(fmt.Sprintf("%s: %s", r.health, r.message), ": ")})
	}
	t.Render()
	return nil
}

// checkLive returns an error for each workload of the team live that is not ready everywhere where it is placed.
func (d *demo) checkLive(ctx context.Context) error {
	client, err := dynamic.NewForConfig(d.server.Config("root:" + live.name))
	if err != nil {
		return err
	}
	all, err := d.deliveries(ctx)
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
			if !slices.ContainsFunc(all, func(r running) bool { return r.workload == name }) {
				errs = append(errs, fmt.Errorf("%s: %s is not placed", live.name, name))
			}
		}
	}
	for _, r := range all {
		if r.health != v1alpha1.HealthCurrent {
			errs = append(errs, fmt.Errorf("%s: %s is not ready in %s: %s %s", live.name, r.workload, r.cluster, r.health, r.message))
		}
	}
	return errors.Join(errs...)
}

func (d *demo) hintsPhysical() {
	fmt.Printf(`
What %[1]s has runs in clusters of its own, as docs/delivery.md says:

  export KUBECONFIG=%[2]s/%[1]s.kubeconfig
  kubectl get deployments,jobs                     # as in a cluster: the sums over all
  kubectl get workloadplacements,works -A
  kubectl scale deployment hello --replicas=6 && kubectl rollout status deployment hello
  kubectl placement render hello                   # what each cluster gets
`, live.name, d.dir)
	for _, name := range slices.Sorted(maps.Keys(d.clusters)) {
		fmt.Printf("  kubectl --kubeconfig %s get deployments,pods -A\n", filepath.Join(d.folder(name), "kubeconfig"))
	}
}
