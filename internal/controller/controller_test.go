package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	apisv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha1"
	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/policy"
)

// installation is a controller that runs against servers of its own: one that has the export, and one for each shard.
type installation struct {
	*Controller
	t        *testing.T
	provider *apiServer
}

func newInstallation(t *testing.T, change ...func(*Config)) *installation {
	policies, err := policy.NewCompiler(policy.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Options{Policies: policies})
	if err != nil {
		t.Fatal(err)
	}
	i := &installation{t: t, provider: newAPIServer(t)}
	i.shows()
	config := Config{
		Provider: i.provider.config(), EndpointSlice: "tmc.kcp.io", Kinds: []schema.GroupVersionResource{deployments},
		Engine: e, Policies: policies, Registry: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&config)
	}
	if i.Controller, err = New(config); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- i.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		i.expectNothingIsKept()
	})
	return i
}

// shows makes the endpoint slice name these shards.
func (i *installation) shows(shards ...*apiServer) {
	slice := &apisv1alpha1.APIExportEndpointSlice{
		TypeMeta:   metav1.TypeMeta{APIVersion: apisv1alpha1.SchemeGroupVersion.String(), Kind: "APIExportEndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{Name: "tmc.kcp.io"},
	}
	for _, s := range shards {
		slice.Status.APIExportEndpoints = append(slice.Status.APIExportEndpoints, apisv1alpha1.APIExportEndpoint{URL: s.URL})
	}
	i.provider.put("apiexportendpointslices", "", slice)
}

func (i *installation) following() int {
	return int(testutil.ToFloat64(i.metrics.workspaces))
}

// reserved is what the ledger has for the one cluster of a workspace.
func (i *installation) reserved() int64 {
	for _, row := range i.config.Engine.Snapshot("shop").Rows() {
		return row.Reserved.CPU
	}
	return 0
}

func (i *installation) expectNothingIsKept() {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if n := len(i.workspaces); n != 0 || i.following() != 0 || len(i.config.Engine.Snapshot("shop").Rows()) != 0 {
		i.t.Errorf("kept: %d workspaces, %d in the metric, %d clusters", n, i.following(), len(i.config.Engine.Snapshot("shop").Rows()))
	}
}

// newShop is a shard with the workspace "shop": a cluster, a placement and workloads of one CPU each.
func newShop(t *testing.T, workloads ...string) *apiServer {
	s := newAPIServer(t)
	s.put("apibindings", "shop", testBinding("configmaps", "leases.coordination.k8s.io", "deployments.apps", "jobs.batch"))
	cluster := testCluster("a", "4")
	cluster.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterRegistration"}
	s.put("clusterregistrations", "shop", cluster)
	placement := testPlacement(one)
	placement.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "WorkloadPlacement"}
	s.put("workloadplacements", "shop", placement)
	for _, name := range workloads {
		s.put("deployments", "shop", oneCPU(name))
	}
	return s
}

func oneCPU(name string) *appsv1.Deployment {
	d := testDeployment(name)
	d.Spec.Replicas = ptr.To[int32](1)
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("1")},
	}}}
	return d
}

// noDecisions refuses to write decisions.
func noDecisions(r *http.Request) *apierrors.StatusError {
	if r.Method != http.MethodGet && strings.Contains(r.URL.Path, "placementdecisions") {
		return apierrors.NewTimeoutError("try later", 1)
	}
	return nil
}

// TestAnEndpointThatGoesTakesItsWorkspaces: nothing is reconciled any more from what its informers showed last.
func TestAnEndpointThatGoesTakesItsWorkspaces(t *testing.T) {
	i := newInstallation(t)
	shard := newShop(t, "w")
	i.shows(shard)
	eventually(t, "w is placed", func() bool { return len(shard.stored("placementdecisions")) == 1 })
	i.shows()
	eventually(t, "the workspace is forgotten", func() bool { return i.following() == 0 })
	i.expectNothingIsKept()
	shard.put("deployments", "shop", oneCPU("later"))
	i.queue.Add("shop") // by a timer of the last pass, for example
	eventually(t, "the queue is empty", func() bool { return i.queue.Len() == 0 })
	i.expectNothingIsKept()
}

// TestAnEndpointIsReplaced by another that shows the same workspace, as when a shard gets another address. What was reserved
// through the first and never written is given up, and what was written is not lost.
func TestAnEndpointIsReplaced(t *testing.T) {
	i := newInstallation(t)
	before := newShop(t, "w")
	before.refuse = noDecisions
	i.shows(before)
	eventually(t, "w is decided", func() bool { return i.reserved() == 1000 })
	after := newShop(t)
	i.shows(after)
	eventually(t, "the other shows the workspace", func() bool {
		return after.requested("GET placementdecisions") > 1 && len(i.config.Engine.Snapshot("shop").Rows()) == 1
	})
	eventually(t, "nothing is reserved for w, which is not there", func() bool { return i.reserved() == 0 })
	after.put("deployments", "shop", oneCPU("x"))
	eventually(t, "x is placed", func() bool { return len(after.stored("placementdecisions")) == 1 && i.reserved() == 1000 })
	if i.following() != 1 {
		t.Errorf("%d workspaces", i.following())
	}
}

// TestAWorkspaceMoves from one shard to another, while both are followed. The one that it is followed through is kept while
// it shows anything, and its last deletions do not take the workspace back from the other.
func TestAWorkspaceMoves(t *testing.T) {
	i := newInstallation(t)
	from, to := newShop(t, "w"), newAPIServer(t)
	i.shows(from, to)
	eventually(t, "w is placed", func() bool { return len(from.stored("placementdecisions")) == 1 })
	for _, resource := range []string{"apibindings", "clusterregistrations", "workloadplacements", "deployments", "placementdecisions"} {
		for _, object := range from.stored(resource) {
			to.put(resource, "shop", object)
		}
	}
	eventually(t, "the queue is empty", func() bool { return i.queue.Len() == 0 })
	for _, resource := range []string{"deployments", "placementdecisions", "workloadplacements", "clusterregistrations"} {
		for _, object := range from.stored(resource) {
			from.remove(resource, object.GetNamespace(), object.GetName())
		}
	}
	to.put("deployments", "shop", oneCPU("x"))
	eventually(t, "x is placed as well", func() bool { return i.reserved() == 2000 })
	if i.following() != 1 {
		t.Errorf("%d workspaces", i.following())
	}
}

// TestNothingIsDecidedOnHalfAWorkspace: a pass before everything is listed would release what it does not see yet. Once it is,
// no other event is needed.
func TestNothingIsDecidedOnHalfAWorkspace(t *testing.T) {
	i := newInstallation(t)
	shard := newShop(t, "w")
	shard.refuse = func(r *http.Request) *apierrors.StatusError {
		if strings.Contains(r.URL.Path, "configmaps") {
			return apierrors.NewNotFound(schema.GroupResource{}, "configmaps") // the claim is not accepted yet
		}
		return nil
	}
	i.shows(shard)
	eventually(t, "all else is listed", func() bool {
		err := i.Ready()
		return shard.requested("WATCH deployments") > 0 && err != nil && strings.Contains(err.Error(), "configmaps have not been listed yet")
	})
	i.queue.Add("shop")
	eventually(t, "the queue is empty", func() bool { return i.queue.Len() == 0 })
	if i.following() != 0 || len(shard.stored("placementdecisions")) != 0 {
		t.Error("something was decided")
	}
	shard.set(func(s *apiServer) { s.refuse = nil })
	eventually(t, "w is placed", func() bool { return len(shard.stored("placementdecisions")) == 1 })
	if err := i.Ready(); err != nil {
		t.Error(err)
	}
}

// TestAListThatFallsShort: when a watch is opened anew and its list shows nothing of a resource, nothing is given up for that.
func TestAListThatFallsShort(t *testing.T) {
	for _, resource := range []string{"deployments", "workloadplacements", "clusterregistrations", "apibindings"} {
		t.Run(resource, func(t *testing.T) {
			i := newInstallation(t)
			shard := newShop(t, "w")
			i.shows(shard)
			eventually(t, "w is placed", func() bool { return len(shard.stored("placementdecisions")) == 1 })
			before := shard.stored("placementdecisions")[0].GetResourceVersion()
			shard.set(func(s *apiServer) { s.short = resource })
			e := i.currentEndpoints()[0]
			var short *resourceWatch
			for _, watch := range e.watches {
				if watch.resource.Resource == resource {
					short = watch
				}
			}
			short.relist()
			eventually(t, "nothing of it is shown", func() bool { return len(short.objects.List()) == 0 })
			asked := shard.requested("GET " + resource)
			eventually(t, "the server is asked", func() bool { return shard.requested("GET "+resource) > asked+1 })
			if stored := shard.stored("placementdecisions"); len(stored) != 1 || stored[0].GetResourceVersion() != before {
				t.Errorf("decisions were written: %v", stored)
			}
			shard.set(func(s *apiServer) { s.short = "" })
			short.relist()
			shard.put("deployments", "shop", oneCPU("x"))
			eventually(t, "x is placed as well", func() bool { return i.reserved() == 2000 })
		})
	}
}

// TestManyThatAreGone are looked for in a list rather than one by one.
func TestManyThatAreGone(t *testing.T) {
	i := newInstallation(t)
	shard := newShop(t)
	const many = 1000
	for n := range many {
		w := oneCPU(fmt.Sprint("w", n))
		w.Spec.Template.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("1m")
		shard.put("deployments", "shop", w)
	}
	i.shows(shard)
	eventually(t, "all are placed", func() bool { return i.reserved() == many })
	asked, bound := shard.requested("GET deployments"), shard.requested("GET apibindings")
	for n := range many {
		shard.remove("deployments", "default", fmt.Sprint("w", n))
	}
	eventually(t, "all are released", func() bool { return i.reserved() == 0 && len(shard.stored("placementdecisions")) == 0 })
	if asked, bound = shard.requested("GET deployments")-asked, shard.requested("GET apibindings")-bound; asked > many/5 || bound > asked {
		t.Errorf("%d requests for deployments, %d for the binding", asked, bound)
	}
}

// placementStatus is the status of the one placement of a shard.
func placementStatus(s *apiServer) string {
	text, _ := json.Marshal(s.stored("workloadplacements")[0].Object["status"])
	return string(text)
}

// TestAClaimThatIsWithdrawn and shows its objects as deleted before the informer of bindings shows that it is.
func TestAClaimThatIsWithdrawn(t *testing.T) {
	i := newInstallation(t)
	shard := newShop(t, "w")
	i.shows(shard)
	eventually(t, "w is placed", func() bool { return len(shard.stored("placementdecisions")) == 1 })
	shard.set(func(s *apiServer) { s.withheld = "apibindings" })
	binding := testBinding("configmaps", "leases.coordination.k8s.io", "deployments.apps")
	binding.Spec.PermissionClaims[2].State = apisv1alpha2.ClaimRejected
	kcpApplies(binding)
	shard.put("apibindings", "shop", binding)
	w, asked := shard.stored("deployments")[0], shard.requested("GET apibindings")
	shard.remove("deployments", "default", "w")
	eventually(t, "the server is asked", func() bool { return shard.requested("GET apibindings") > asked })
	shard.set(func(s *apiServer) { s.withheld = "" })
	i.currentEndpoints()[0].watches[0].relist()
	eventually(t, "the placement says so", func() bool { return strings.Contains(placementStatus(shard), "ClaimNotAccepted") })
	shard.put("deployments", "shop", w)
	shard.put("apibindings", "shop", testBinding("configmaps", "leases.coordination.k8s.io", "deployments.apps"))
	eventually(t, "the placement does not say so any more", func() bool { return !strings.Contains(placementStatus(shard), "ClaimNotAccepted") })
	if stored := shard.stored("placementdecisions"); len(stored) != 1 || i.reserved() != 1000 {
		t.Errorf("%d decisions, %d reserved", len(stored), i.reserved())
	}
}

// TestAWorkspaceUnbinds: nothing is decided or written on what is left while kcp deletes the objects of the API. Once the binding
// is gone the workspace is forgotten, though its workloads may still be shown.
func TestAWorkspaceUnbinds(t *testing.T) {
	i := newInstallation(t)
	shard := newShop(t, "w")
	i.shows(shard)
	eventually(t, "w is placed", func() bool { return len(shard.stored("placementdecisions")) == 1 })
	eventually(t, "the status is written", func() bool { return strings.Contains(placementStatus(shard), "Ready") })
	binding := testBinding("configmaps", "leases.coordination.k8s.io", "deployments.apps")
	binding.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	shard.put("apibindings", "shop", binding)
	eventually(t, "the informer shows that", func() bool { return i.currentEndpoints()[0].view("shop").binding.DeletionTimestamp != nil })
	written := shard.requested("PUT workloadplacements")
	shard.remove("clusterregistrations", "", "a")
	shard.put("deployments", "shop", oneCPU("x"))
	eventually(t, "the informer shows that", func() bool {
		v := i.currentEndpoints()[0].view("shop")
		return len(v.clusters) == 0 && v.live.count("shop") == 2
	})
	eventually(t, "the queue is empty", func() bool { return i.queue.Len() == 0 })
	if got := shard.stored("placementdecisions"); len(got) != 1 || shard.requested("PUT workloadplacements") != written {
		t.Errorf("%d decisions, %d statuses written", len(got), shard.requested("PUT workloadplacements")-written)
	}
	shard.remove("apibindings", "", "tmc.kcp.io")
	eventually(t, "the workspace is forgotten", func() bool { return i.following() == 0 })
}

// TestNothingIsKeptOfWorkspacesThatAreGone: workspaces come, name others, unbind and go, and their objects go while nothing is
// decided in them any more. Nothing in memory grows with them.
func TestNothingIsKeptOfWorkspacesThatAreGone(t *testing.T) {
	i := newInstallation(t)
	shard := newAPIServer(t)
	const many = 100
	names := make([]string, many)
	for n := range names {
		names[n] = fmt.Sprint("team-", n)
	}
	claims := []string{"configmaps", "leases.coordination.k8s.io", "deployments.apps", "jobs.batch"}
	removeAll := func(resources ...string) {
		shard.set(func(s *apiServer) {
			for _, resource := range resources {
				for _, u := range slices.Collect(maps.Values(s.objects[resource])) {
					s.drop(target{cluster: u.GetAnnotations()["kcp.io/cluster"], namespace: u.GetNamespace(), resource: resource, name: u.GetName()})
				}
			}
		})
	}
	for n, name := range names {
		shard.put("apibindings", name, testBinding(claims...))
		shard.put("deployments", name, oneCPU("w"))
		shard.put("leases", name, &coordinationv1.Lease{
			TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}, ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.AgentNamespace, Name: "a"},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("u"), RenewTime: ptr.To(metav1.NowMicro())},
		})
		shard.put("placementdecisions", name, &v1alpha1.PlacementDecision{
			TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "PlacementDecision"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p-0", Annotations: map[string]string{v1alpha1.AnnotationCopyOf: fmt.Sprint("gone-", n)}},
		})
		shard.put("clustersetbindings", name, &v1alpha1.ClusterSetBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterSetBinding"},
			ObjectMeta: metav1.ObjectMeta{Name: "gold"}, Spec: v1alpha1.ClusterSetBindingSpec{ClusterSet: "gold", Workspace: v1alpha1.WorkspaceReference{Cluster: fmt.Sprint("other-", n)}},
		})
	}
	i.shows(shard)
	eventually(t, "all are followed", func() bool { return i.following() == many })
	eventually(t, "they look at the clusters of others", func() bool {
		i.fleets.mu.Lock()
		defer i.fleets.mu.Unlock()
		return len(i.fleets.absent) == many
	})
	e := i.currentEndpoints()[0]
	for _, name := range names {
		binding := testBinding(claims...)
		binding.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		shard.put("apibindings", name, binding)
	}
	eventually(t, "the informer shows that they unbind", func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return e.view(logicalcluster.Name(name)).binding.DeletionTimestamp == nil })
	})
	removeAll("deployments", "placementdecisions", "clustersetbindings", "leases")
	removeAll("apibindings")
	eventually(t, "they are forgotten", func() bool { return i.following() == 0 })
	eventually(t, "nothing of them is kept", func() bool {
		e.workloads.mu.Lock()
		defer e.workloads.mu.Unlock()
		e.beats.mu.Lock()
		defer e.beats.mu.Unlock()
		i.fleets.mu.Lock()
		defer i.fleets.mu.Unlock()
		f := i.fleets
		return len(e.workloads.in)+len(e.beats.heard)+len(f.fleets)+len(f.absent)+len(f.states)+len(f.naming)+len(f.waiting) == 0
	})
}

// TestAResourceThatIsNotServed says nothing about its objects, unlike an object that is not found.
func TestAResourceThatIsNotServed(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEndpoint(Config{Provider: &rest.Config{Host: server.URL}, Kinds: []schema.GroupVersionResource{deployments}}, server.URL, m, func(logicalcluster.Name) {}, func(logicalcluster.Name) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]types.NamespacedName{{{Namespace: "default", Name: "w"}}, {{Name: "v"}, {Name: "w"}}, nil} {
		if there, err := e.liveUIDs(t.Context(), "shop", deployments, names); err == nil {
			t.Errorf("%v: the server has %v", names, there)
		}
	}
}

// TestAPlanOutlivesItsController: one controller begins a plan and cannot write a decision any more, the next one carries it out.
func TestAPlanOutlivesItsController(t *testing.T) {
	s := newShop(t, "api", "web")
	on := func(cluster string) (n int) {
		for _, u := range s.stored("placementdecisions") {
			for _, d := range written[v1alpha1.PlacementDecision](u).Decisions {
				if len(d.Clusters) == 1 && d.Clusters[0].Name == cluster {
					n++
				}
			}
		}
		return n
	}
	plan := func() *v1alpha1.RebalancePlan { return written[v1alpha1.RebalancePlan](s.stored("rebalanceplans")[0]) }
	t.Run("begun", func(t *testing.T) {
		newInstallation(t).shows(s)
		eventually(t, "both are on a", func() bool { return on("a") == 2 })
		s.set(func(s *apiServer) { s.refuse = noDecisions })
		b := testCluster("b", "4")
		b.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterRegistration"}
		s.put("clusterregistrations", "shop", b)
		two := moves("p1", "1 api a b", "2 web a b")
		two.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "RebalancePlan"}
		s.put("rebalanceplans", "shop", two)
		eventually(t, "the first wave has begun", func() bool { return plan().Status.Wave == 1 })
	})
	if n := on("a"); n != 2 {
		t.Errorf("%d are on a", n)
	}
	s.set(func(s *apiServer) { s.refuse = nil })
	t.Run("carried on", func(t *testing.T) {
		newInstallation(t).shows(s)
		eventually(t, "the plan is complete", func() bool { return plan().IsOver() })
	})
	if got := plan().Status; got.Moved != 2 || on("b") != 2 {
		t.Errorf("%d are on b: %+v", on("b"), got)
	}
}
