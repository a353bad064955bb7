package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/test/kcp"
)

var (
	deployments = appsv1.SchemeGroupVersion.WithResource("deployments")
	clusters    = v1alpha1.SchemeGroupVersion.WithResource("clusterregistrations")
	placements  = v1alpha1.SchemeGroupVersion.WithResource("workloadplacements")
	decisions   = v1alpha1.SchemeGroupVersion.WithResource("placementdecisions")
)

// writers is how many requests are made at once where the order does not matter.
const writers = 8

const namespace = "default"

// team is one workspace, with a client without a rate limit.
type team struct {
	name   string
	client dynamic.Interface
}

// bareRights lets the benchmark write decisions without the controller, which the export does not allow otherwise.
const bareRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: bare-writes}
rules: [{apiGroups: [tmc.kcp.io], resources: [placementdecisions], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bare-writes}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bare-writes}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "apis.kcp.io:binding:system:authenticated"}]
`

// prepare makes the workspaces, their clusters and their Deployments, and watches for decisions.
func (b *bench) prepare(ctx context.Context) error {
	b.say("making %d workspaces", b.workspaces)
	if err := b.server.Apply(ctx, kcp.Provider, []byte(bareRights)); err != nil {
		return err
	}
	b.teams = make([]*team, b.workspaces)
	err := b.each(ctx, "workspaces", 4, b.workspaces, func(ctx context.Context, i int) error {
		name := fmt.Sprintf("bench-%02d", i)
		if err := b.server.CreateTeam(ctx, name); err != nil {
			return err
		}
		config := b.server.Config("root:" + name)
		config.QPS = -1
		client, err := dynamic.NewForConfig(config)
		b.teams[i] = &team{name, client}
		return err
	})
	if err != nil {
		return err
	}
	if err := b.each(ctx, "clusters", writers, b.workspaces*b.clusters, func(ctx context.Context, i int) error {
		return b.teams[i%b.workspaces].createCluster(ctx, i/b.workspaces)
	}); err != nil {
		return err
	}
	if err := b.each(ctx, "Deployments", writers, b.workspaces*b.deployments, func(ctx context.Context, i int) error {
		return b.teams[i%b.workspaces].create(ctx, deployments, deployment(fmt.Sprintf("web-%04d", i/b.workspaces), i/b.workspaces))
	}); err != nil {
		return err
	}
	return b.watch(ctx)
}

// each calls do for 0 to n-1, several at a time, and reports progress.
func (b *bench) each(ctx context.Context, what string, atOnce, n int, do func(ctx context.Context, i int) error) error {
	var done atomic.Int64
	start := time.Now()
	tick := time.NewTicker(5 * time.Second)
	over := make(chan struct{})
	var reporting sync.WaitGroup
	defer func() {
		tick.Stop()
		close(over)
		reporting.Wait()
	}()
	report := func() {
		b.say("%s: %d of %d, %.1f/s", what, done.Load(), n, float64(done.Load())/time.Since(start).Seconds())
	}
	reporting.Go(func() {
		for {
			select {
			case <-tick.C:
				report()
			case <-over:
				return
			}
		}
	})
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := do(ctx, i)
			done.Add(1)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	report()
	return nil
}

func (t *team) create(ctx context.Context, resource schema.GroupVersionResource, object runtime.Object) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: content}
	_, err = t.client.Resource(resource).Namespace(u.GetNamespace()).Create(ctx, u, metav1.CreateOptions{})
	return err
}

// createCluster registers a cluster that is ready and has room for all.
func (t *team) createCluster(ctx context.Context, i int) error {
	cluster := &v1alpha1.ClusterRegistration{
		TypeMeta:   typeMeta("ClusterRegistration"),
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("cluster-%03d", i), Labels: map[string]string{"tier": []string{"gold", "silver"}[i%2]}},
		Spec:       v1alpha1.ClusterRegistrationSpec{Location: []string{"eu", "us", "ap"}[i%3]},
		Status: v1alpha1.ClusterRegistrationStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4000"), corev1.ResourceMemory: resource.MustParse("16Ti")},
			Conditions: conditionsv1alpha1.Conditions{{
				Type: v1alpha1.ReadyCondition, Status: corev1.ConditionTrue, Reason: "Bench", LastTransitionTime: metav1.Now(),
			}},
		},
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(cluster)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: content}
	status := u.Object["status"]
	made, err := t.client.Resource(clusters).Create(ctx, u, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Object["status"] = status
	_, err = t.client.Resource(clusters).UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// deployment has one of five sizes, so there are five equivalence classes.
func deployment(name string, size int) *appsv1.Deployment {
	requests := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(int64(100*(1+size%5)), resource.DecimalSI),
		corev1.ResourceMemory: resource.MustParse("128Mi"),
	}
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](2),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "main", Image: "example.com/web:1", Resources: corev1.ResourceRequirements{Requests: requests},
				}}},
			},
		},
	}
}

// placement selects all Deployments of a workspace.
func placement() *v1alpha1.WorkloadPlacement {
	return &v1alpha1.WorkloadPlacement{
		TypeMeta:   typeMeta("WorkloadPlacement"),
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "all"},
		Spec: v1alpha1.WorkloadPlacementSpec{
			Constraints: []v1alpha1.Constraint{
				{Name: "tier", Expression: `cluster.labels["tier"] in ["gold", "silver"]`},
				{Name: "roomy", Expression: "capacity.free.cpu >= 2 * workload.requests.cpu"},
			},
			Strategy:         v1alpha1.Strategy{Type: v1alpha1.StrategySpread},
			NumberOfClusters: ptr.To(intstr.FromInt32(2)),
		},
	}
}

// decision is the smallest object that publishes a decision on one workload: what bare writing writes.
func decision(workload string) *v1alpha1.PlacementDecision {
	return &v1alpha1.PlacementDecision{
		TypeMeta:      typeMeta("PlacementDecision"),
		ObjectMeta:    metav1.ObjectMeta{Namespace: namespace, Name: workload},
		PlacementName: "bare",
		Count:         1,
		Decisions: []v1alpha1.WorkloadDecision{{
			Workload:  v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: workload, UID: types.UID("bare-" + workload)},
			Clusters:  []v1alpha1.ClusterDecision{{Name: "cluster-000", Replicas: 2, Score: 80, Reason: "Good"}},
			DecidedAt: metav1.Now(),
		}},
	}
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: kind}
}
