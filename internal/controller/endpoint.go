package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	kcpcache "github.com/kcp-dev/apimachinery/v2/pkg/cache"
	kcpdynamic "github.com/kcp-dev/client-go/dynamic"
	"github.com/kcp-dev/client-go/dynamic/dynamicinformer"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// endpoint is one virtual workspace of the APIExport, through which all consumers on one shard are seen.
type endpoint struct {
	url       string
	client    kcpdynamic.ClusterInterface
	recorder  *recorder
	informers map[schema.GroupVersionResource]kcpcache.ScopeableSharedIndexInformer
	metrics   *metrics
	beats     heartbeats
	stop      context.CancelFunc
	done      sync.WaitGroup
}

// startEndpoint starts informers on the endpoint; changed is called with the workspace of every object that changes.
func startEndpoint(ctx context.Context, base *rest.Config, url string, kinds []schema.GroupVersionResource, metrics *metrics,
	changed func(*endpoint, logicalcluster.Name),
) (*endpoint, error) {
	config := rest.CopyConfig(base)
	config.Host = url
	client, err := kcpdynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", url, err)
	}
	ctx, stop := context.WithCancel(ctx)
	e := &endpoint{
		url: url, client: client, metrics: metrics, stop: stop, beats: heartbeats{heard: map[types.UID]heartbeat{}},
		informers: map[schema.GroupVersionResource]kcpcache.ScopeableSharedIndexInformer{},
	}
	if e.recorder, err = newRecorder(config, metrics); err != nil {
		stop()
		return nil, fmt.Errorf("endpoint %s: %w", url, err)
	}
	e.done.Go(func() { e.recorder.run(ctx) })
	logger := klog.FromContext(ctx)
	for _, resource := range append([]schema.GroupVersionResource{clusterResource, placementResource, decisionResource, configMapResource}, kinds...) {
		tweak := func(*metav1.ListOptions) {}
		if resource == configMapResource {
			// Otherwise every kube-root-ca.crt would come along.
			tweak = func(o *metav1.ListOptions) {
				o.LabelSelector = labels.Set{v1alpha1.LabelPolicy: v1alpha1.PolicyRego}.String()
			}
		}
		informer := dynamicinformer.NewFilteredDynamicInformer(client, resource, 0, cache.Indexers{
			kcpcache.ClusterIndexName: kcpcache.ClusterIndexFunc,
		}, tweak).Informer()
		if err := informer.SetTransform(transform(resource)); err != nil {
			stop()
			return nil, err
		}
		if err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
			switch {
			case ctx.Err() != nil || apierrors.IsResourceExpired(err):
			case apierrors.IsNotFound(err):
				// The first consumer has only just bound, or has not accepted the claim.
				logger.V(2).Info("Not served yet", "endpoint", url, "resource", resource)
			default:
				logger.Error(err, "Watching failed and is tried again", "endpoint", url, "resource", resource)
			}
		}); err != nil {
			stop()
			return nil, err
		}
		notify := func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if o, ok := object.(metav1.Object); ok {
				changed(e, logicalcluster.From(o))
			}
		}
		handler := cache.ResourceEventHandlerFuncs{
			AddFunc:    notify,
			UpdateFunc: func(_, object any) { notify(object) },
			DeleteFunc: notify,
		}
		if resource == clusterResource {
			handler = e.listening(handler)
		}
		if _, err := informer.AddEventHandler(handler); err != nil {
			stop()
			return nil, err
		}
		e.informers[resource] = informer
		e.done.Go(func() { informer.RunWithContext(ctx) })
	}
	return e, nil
}

// listening takes note of heartbeats before anybody is told of a registration. One that has changed in nothing else is
// kept quiet: a thousand clusters must not wake their workspace twice a minute each.
func (e *endpoint) listening(to cache.ResourceEventHandlerFuncs) cache.ResourceEventHandlerFuncs {
	hear := func(object any) *v1alpha1.ClusterRegistration {
		r, ok := object.(*v1alpha1.ClusterRegistration)
		if ok {
			e.beats.hear(r, time.Now())
		}
		return r
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			hear(object)
			to.AddFunc(object)
		},
		UpdateFunc: func(before, after any) {
			b, known := before.(*v1alpha1.ClusterRegistration)
			if a := hear(after); !known || a == nil || !onlyHeartbeat(b, a) {
				to.UpdateFunc(before, after)
			}
		},
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if r, ok := object.(*v1alpha1.ClusterRegistration); ok {
				e.beats.forget(r)
			}
			to.DeleteFunc(object)
		},
	}
}

// synced tells which resource has not been listed yet; ok is true where all have.
func (e *endpoint) synced() (missing schema.GroupVersionResource, ok bool) {
	for resource, informer := range e.informers {
		if !informer.HasSynced() {
			return resource, false
		}
	}
	return schema.GroupVersionResource{}, true
}

// close stops the informers and waits until they have stopped.
func (e *endpoint) close() {
	e.stop()
	e.done.Wait()
}

// observe reads a workspace from the informers.
func (e *endpoint) observe(name logicalcluster.Name, kinds []schema.GroupVersionResource) (o cacheView, err error) {
	list := func(resource schema.GroupVersionResource) []any {
		objects, indexErr := e.informers[resource].GetIndexer().ByIndex(kcpcache.ClusterIndexName, kcpcache.ClusterIndexKey(name))
		if indexErr != nil {
			err = indexErr
		}
		return objects
	}
	o.clusters = as[*v1alpha1.ClusterRegistration](list(clusterResource))
	o.heard = e.beats.of(o.clusters)
	o.placements = as[*v1alpha1.WorkloadPlacement](list(placementResource))
	o.decisions = as[*v1alpha1.PlacementDecision](list(decisionResource))
	o.configMaps = as[*corev1.ConfigMap](list(configMapResource))
	for _, kind := range kinds {
		o.workloads = append(o.workloads, as[*workloadObject](list(kind))...)
	}
	return o, err
}

func as[T any](objects []any) []T {
	typed := make([]T, 0, len(objects))
	for _, object := range objects {
		if t, ok := object.(T); ok {
			typed = append(typed, t)
		}
	}
	return typed
}

// actions writes to one workspace through the endpoint.
func (e *endpoint) actions(name logicalcluster.Name) actions {
	in := e.client.Cluster(name.Path())
	counted := func(kind string, err error) error {
		result := "ok"
		switch {
		case apierrors.IsConflict(err):
			result = "conflict"
		case err != nil:
			result = "error"
		}
		e.metrics.writes.WithLabelValues(kind, result).Inc()
		return err
	}
	return actions{
		listDecisions: func(ctx context.Context) ([]*v1alpha1.PlacementDecision, error) {
			list, err := in.Resource(decisionResource).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			decisions := make([]*v1alpha1.PlacementDecision, len(list.Items))
			for i := range list.Items {
				if decisions[i], err = read[v1alpha1.PlacementDecision](&list.Items[i]); err != nil {
					return nil, err
				}
			}
			return decisions, nil
		},
		writeDecision: func(ctx context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
			u, err := toUnstructured(d, "PlacementDecision")
			if err != nil {
				return nil, err
			}
			resource := in.Resource(decisionResource).Namespace(d.Namespace)
			if d.ResourceVersion == "" {
				u, err = resource.Create(ctx, u, metav1.CreateOptions{})
			} else {
				u, err = resource.Update(ctx, u, metav1.UpdateOptions{})
			}
			if counted("PlacementDecision", err) != nil {
				return nil, err
			}
			return read[v1alpha1.PlacementDecision](u)
		},
		deleteDecision: func(ctx context.Context, d *v1alpha1.PlacementDecision) error {
			err := in.Resource(decisionResource).Namespace(d.Namespace).Delete(ctx, d.Name, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &d.UID, ResourceVersion: &d.ResourceVersion},
			})
			if apierrors.IsNotFound(err) {
				err = nil
			}
			return counted("PlacementDecision", err)
		},
		writeStatus: func(ctx context.Context, p *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error) {
			u, err := toUnstructured(p, "WorkloadPlacement")
			if err != nil {
				return nil, err
			}
			u, err = in.Resource(placementResource).Namespace(p.Namespace).UpdateStatus(ctx, u, metav1.UpdateOptions{})
			if counted("WorkloadPlacement", err) != nil {
				return nil, err
			}
			return read[v1alpha1.WorkloadPlacement](u)
		},
		writeConditions: func(ctx context.Context, r *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
			// Nothing but the conditions: what the cluster reports beside them can be a megabyte.
			patch, err := json.Marshal(map[string]any{
				"metadata": map[string]any{"resourceVersion": r.ResourceVersion}, "status": map[string]any{"conditions": r.Status.Conditions},
			})
			if err != nil {
				return nil, err
			}
			u, err := in.Resource(clusterResource).Patch(ctx, r.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
			if counted("ClusterRegistration", err) != nil {
				return nil, err
			}
			return read[v1alpha1.ClusterRegistration](u)
		},
		annotate: func(ctx context.Context, configMap *corev1.ConfigMap, key, value string) error {
			patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
			if err != nil {
				return err
			}
			_, err = in.Resource(configMapResource).Namespace(configMap.Namespace).
				Patch(ctx, configMap.Name, types.MergePatchType, patch, metav1.PatchOptions{})
			if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
				// Gone, or not ours to write: the placements' conditions tell it all the same.
				klog.FromContext(ctx).V(2).Info("The outcome is not written to the ConfigMap", "configMap", klog.KObj(configMap), "reason", err.Error())
				err = nil
			}
			return counted("ConfigMap", err)
		},
		event: e.recorder.in(name),
	}
}
