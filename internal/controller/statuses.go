package controller

import (
	"context"
	"fmt"
	"slices"
	"sync"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
	"github.com/kcp-placement/placement/internal/panics"
)

const (
	// concurrentStatuses is in how many workspaces workload statuses are written at once, statusesInFlight how many per workspace.
	concurrentStatuses = 4
	statusesInFlight   = 8
)

// report determines which workload statuses have to be written after a round.
func (d *deliverer) report(round *delivery.Round, done *delivery.Result, r *result) {
	copies, known := d.Copies(round)
	if !known {
		return // while it is not known what runs, statuses stay as they are
	}
	for _, err := range d.reporter.Report(round, copies, done.Problems) {
		r.fail(err)
	}
}

// reportDenied reports workloads whose status and finalizer the workspace does not let the controller write.
func (d *deliverer) reportDenied(binding *apisv1alpha2.APIBinding, round *delivery.Round, done *delivery.Result) {
	resources := make([]schema.GroupVersionResource, len(d.endpoint.kinds))
	for i, kind := range d.endpoint.kinds {
		resources[i] = kind.GroupVersionResource
	}
	denied := deniedBy(binding, resources, deliveryVerbs)
	if len(denied) == 0 {
		return
	}
	for _, a := range round.Assignments {
		at := slices.IndexFunc(d.endpoint.kinds, func(k watchedKind) bool { return k.kind == a.Kind && k.apiVersion == a.APIVersion })
		if a.State != delivery.Decided || at < 0 {
			continue
		}
		if why := denied[resources[at].GroupResource()]; why != nil && !why.partly {
			uid := types.UID(a.UID)
			done.Problems[uid] = append(done.Problems[uid], delivery.Problem{
				Reason: why.reason, Message: "the workload's own status and finalizer cannot be written: " + why.Error(),
			})
		}
	}
}

// writeStatuses writes the workload statuses that are due. The rate limit of their client holds up nothing else.
func (d *deliverer) writeStatuses(ctx context.Context) (r result) {
	next, wait := d.reporter.Next()
	d.endpoint.statuses.Add(int64(len(next)))
	defer d.endpoint.statuses.Add(-int64(len(next)))
	var mu sync.Mutex
	var writing errgroup.Group
	writing.SetLimit(statusesInFlight)
	failed, first := 0, error(nil)
	for _, write := range next {
		writing.Go(func() (panicked error) {
			defer panics.RecoverTo(&panicked)
			err := d.writeStatus(ctx, write)
			gone := apierrors.IsNotFound(err) || apierrors.IsConflict(err)
			d.reporter.Wrote(write, err, gone)
			if err != nil && !gone {
				mu.Lock()
				defer mu.Unlock()
				if failed++; first == nil {
					first = fmt.Errorf("status of %s: %w", write.Reference, err)
				}
			}
			return nil
		})
	}
	r.fail(writing.Wait()) // the outcomes are recorded one by one
	if failed > 0 {
		r.fail(fmt.Errorf("%d statuses of workloads are not written, the first: %w", failed, first))
	}
	if r.again = len(next) > 0; wait > 0 {
		r.within(wait)
	}
	return r
}

// writeStatus writes the status of a workload, and reports problems to its owner.
func (d *deliverer) writeStatus(ctx context.Context, write *delivery.StatusWrite) error {
	if write.Patch != nil {
		if err := d.patch(ctx, "WorkloadStatus", write.Reference, write.Patch, "status"); err != nil {
			return err
		}
	}
	if write.Event != nil {
		about := &workloadObject{
			TypeMeta:   metav1.TypeMeta{APIVersion: write.APIVersion, Kind: write.Kind},
			ObjectMeta: metav1.ObjectMeta{Namespace: write.Namespace, Name: write.Name, UID: types.UID(write.UID), ResourceVersion: write.ResourceVersion},
		}
		d.event(about, write.Event.Type, write.Event.Reason, write.Event.Message)
	}
	return nil
}

// patch patches a workload.
func (d *deliverer) patch(ctx context.Context, what string, ref workload.Reference, patch []byte, subresources ...string) error {
	i := slices.IndexFunc(d.endpoint.kinds, func(k watchedKind) bool { return k.kind == ref.Kind && k.apiVersion == ref.APIVersion })
	if i < 0 {
		return nil // no longer watched, so its resource is not known
	}
	_, err := fenced(d.fence, func(ctx context.Context, patch []byte) (any, error) {
		return d.endpoint.reporting.Cluster(d.name.Path()).Resource(d.endpoint.kinds[i].GroupVersionResource).Namespace(ref.Namespace).
			Patch(ctx, ref.Name, types.MergePatchType, patch, metav1.PatchOptions{}, subresources...)
	})(ctx, patch)
	return d.endpoint.metrics.wrote(what, err)
}
