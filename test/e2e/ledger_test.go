package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestAFullFleetIsExact: workloads fill two clusters to the last millicore, and come, grow and go. No pod ever lacks room, so nothing
// is promised twice; each gap is filled, so nothing is lost; what a cluster counts for a workload is what its pods request, and they never
// request more than is promised to it.
func TestAFullFleetIsExact(t *testing.T) {
	emptyClusters(t)
	t.Cleanup(func() { emptyClusters(t) }) // once no agent is left
	f := newFleet(t, newTeam(t))
	f.watchPods()
	f.watchPromises()
	f.apply(placement("app", "numberOfClusters: 1"))
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for _, name := range names {
		f.apply(fourCPUs(name, 1))
	}
	f.eventually("they fill the fleet", "east 16, west 16", f.requested)
	f.eventually("the clusters count them", "", f.miscounted)

	f.apply(fourCPUs("late", 1))
	f.waits("late", "0 free")
	on := f.placed()
	f.delete(deployments, "default", "a")
	f.eventually("the next one has its place", on["Deployment a"], func() string { return f.placed()["Deployment late"] })

	// One of those that share a cluster goes, another grows by as much.
	delete(on, "Deployment a")
	goes := "b"
	grows := slices.IndexFunc(names, func(name string) bool { return name > goes && on["Deployment "+name] == on["Deployment "+goes] })
	f.apply(fourCPUs(names[grows], 2))
	f.eventually("it waits for the room, with what it has", "1", func() string { return f.readyReplicas(names[grows]) })
	f.delete(deployments, "default", goes)
	f.eventually("it has grown", "2", func() string { return f.readyReplicas(names[grows]) })
	f.eventually("the fleet is full again", "east 16, west 16", f.requested)
	f.eventually("the clusters count what runs", "", f.miscounted)

	// One that shrinks makes room for the next once fewer of its pods run.
	f.apply(fourCPUs("next", 1))
	f.waits("next", "0 free")
	f.apply(fourCPUs(names[grows], 1))
	f.eventually("the next one has the room", "1", func() string { return f.readyReplicas("next") })
	f.eventually("the fleet is full once more", "east 16, west 16", f.requested)
	f.eventually("what is promised is what runs", "", func() string { return f.unpromised(f.promised(), true) })
}

// emptyClusters removes what tests leave behind in clusters when their agents go: here all room counts.
func emptyClusters(t *testing.T) {
	t.Helper()
	started, err := physicalClusters()
	if err != nil {
		t.Fatal(err)
	}
	ctx, done := context.WithTimeout(context.Background(), within)
	defer done()
	for _, s := range started {
		client, err := clientset.NewForConfig(s.Config())
		if err != nil {
			t.Fatal(err)
		}
		namespaces, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelWorkspace})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range namespaces.Items {
			if err := client.CoreV1().Namespaces().Delete(ctx, n.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
		}
		for left := -1; left != 0; time.Sleep(100 * time.Millisecond) {
			pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelWorkloadUID})
			if err != nil {
				t.Fatalf("%d pods are left: %v", left, err)
			}
			left = len(pods.Items)
		}
	}
}

// fourCPUs is a Deployment whose pods ask for 4 CPUs each.
func fourCPUs(name string, replicas int) string {
	return strings.NewReplacer("namespace: default, labels: {app: "+name+"}", "namespace: default, labels: {app: app}", "cpu: 100m", `cpu: "4"`).
		Replace(app(name, replicas, "nginx:1"))
}

func (f *fleet) readyReplicas(name string) string {
	out, err := f.kubectl("get", "deployment", name, "-o", "jsonpath={.status.readyReplicas}")
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return out
}

// pods of the team in a cluster that have not ended.
func (f *fleet) pods(cluster string) []corev1.Pod {
	list, err := f.inCluster(cluster).CoreV1().Pods("").List(f.Context(), metav1.ListOptions{LabelSelector: v1alpha1.LabelWorkloadUID})
	if err != nil {
		if f.Context().Err() == nil {
			f.Error(err)
		}
		return nil
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
}

// watchPods looks for pods that lack room, until the test ends.
func (f *fleet) watchPods() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for f.Context().Err() == nil {
			for cluster := range f.clusters {
				for _, p := range f.pods(cluster) {
					for _, c := range p.Status.Conditions {
						if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable {
							f.Errorf("pod %s in %s: %s", p.Name, cluster, c.Message)
						}
					}
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	f.Cleanup(func() { <-done })
}

// promises are the CPU that decisions reserve on each cluster, by the UID of the workload.
type promises map[string]map[string]resource.Quantity

func (f *fleet) promised() promises {
	all := promises{}
	list, err := f.client.Resource(decisions).Namespace("default").List(f.Context(), metav1.ListOptions{})
	if err != nil {
		if f.Context().Err() == nil {
			f.Error(err)
		}
		return all
	}
	for i := range list.Items {
		for _, d := range as[v1alpha1.PlacementDecision](f.team, &list.Items[i]).Decisions {
			add := func(cluster string, reserved corev1.ResourceList) {
				if all[cluster] == nil {
					all[cluster] = map[string]resource.Quantity{}
				}
				if had := all[cluster][string(d.Workload.UID)]; had.Cmp(*reserved.Cpu()) < 0 {
					all[cluster][string(d.Workload.UID)] = *reserved.Cpu()
				}
			}
			for _, c := range d.Clusters {
				if len(c.Reserved) == 0 {
					c.Reserved = d.Reserved
				}
				add(c.Name, c.Reserved)
			}
			for _, l := range d.Leaving {
				add(l.Name, l.Reserved)
			}
		}
	}
	return all
}

// unpromised says whose pods request more than is promised to them; exactly also whose request less.
func (f *fleet) unpromised(p promises, exactly bool) string {
	var wrong []string
	for cluster := range f.clusters {
		runs := f.requestedBy(cluster)
		for uid, runs := range runs {
			promised, decided := p[cluster][uid]
			if !decided && !exactly {
				continue // it is deleted, and on its way out
			}
			if runs.Cmp(promised) > 0 || exactly && runs.Cmp(promised) < 0 {
				wrong = append(wrong, fmt.Sprintf("%s: pods of %s request %s, and %s are promised", cluster, uid, runs.String(), promised.String()))
			}
		}
		for uid, promised := range p[cluster] {
			if _, runs := runs[uid]; exactly && !runs && !promised.IsZero() {
				wrong = append(wrong, fmt.Sprintf("%s: no pod of %s runs, and %s are promised", cluster, uid, promised.String()))
			}
		}
	}
	slices.Sort(wrong)
	return strings.Join(wrong, "; ")
}

// watchPromises looks for workloads whose pods request more than is promised to them, until the test ends. They are to grow and to shrink
// only, since the pods of an update surge.
func (f *fleet) watchPromises() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for before := (promises{}); f.Context().Err() == nil; time.Sleep(50 * time.Millisecond) {
			wrong := f.unpromised(before, false)
			before = f.promised()
			if wrong == "" || f.Context().Err() != nil {
				continue
			}
			if still := f.unpromised(before, false); still != "" {
				f.Error(still)
			}
		}
	}()
	f.Cleanup(func() { <-done })
}

// requestedBy sums the CPU that pods in a cluster request, by the UID of their workload.
func (f *fleet) requestedBy(cluster string) map[string]resource.Quantity {
	sums := map[string]resource.Quantity{}
	for _, p := range f.pods(cluster) {
		if p.DeletionTimestamp != nil {
			continue // it is on its way out
		}
		sum := sums[p.Labels[v1alpha1.LabelWorkloadUID]]
		sum.Add(*p.Spec.Containers[0].Resources.Requests.Cpu())
		sums[p.Labels[v1alpha1.LabelWorkloadUID]] = sum
	}
	return sums
}

func (f *fleet) requested() string {
	var all []string
	for _, cluster := range slices.Sorted(maps.Keys(f.clusters)) {
		var sum resource.Quantity
		for _, of := range f.requestedBy(cluster) {
			sum.Add(of)
		}
		all = append(all, cluster+" "+sum.String())
	}
	return strings.Join(all, ", ")
}

// miscounted says where the usage that a cluster reports is another than what its pods request, workload by workload.
func (f *fleet) miscounted() string {
	var wrong []string
	for cluster := range f.clusters {
		u, err := f.client.Resource(usages).Get(f.Context(), cluster, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		runs := f.requestedBy(cluster)
		for _, w := range as[v1alpha1.ClusterUsage](f.team, u).Workloads {
			if sum := runs[string(w.UID)]; sum.Cmp(*w.Requests.Cpu()) != 0 {
				wrong = append(wrong, fmt.Sprintf("%s counts %s for %s, whose pods request %s", cluster, w.Requests.Cpu(), w.UID, sum.String()))
			}
			delete(runs, string(w.UID))
		}
		for uid := range runs {
			wrong = append(wrong, fmt.Sprintf("%s does not count %s", cluster, uid))
		}
	}
	slices.Sort(wrong)
	return strings.Join(wrong, "; ")
}
