package controller

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/delivery"
	"github.com/kcp-placement/placement/internal/panics"
)

// finalizers are the finalizers to add to workloads. They are written one by one, and slower than Works, which do not wait for them.
type finalizers struct {
	mu sync.Mutex
	// wanted are the finalizers to write, by the UID of the workload; tried are the versions of workloads for which a write was tried.
	wanted map[types.UID]delivery.Finalizer
	tried  map[types.UID]string
	// since is when workloads began to lack a finalizer that they should have.
	since map[types.UID]time.Time
}

const (
	// finalizersAtOnce is how many finalizers of a workspace are written before other workspaces have their turn.
	finalizersAtOnce = 20
	// finalizersAfter is how long a workload goes without its finalizer, finalizersWithin how long while statuses are being written: a
	// finalizer costs as much as a status, and is written when the burst is over. If the workload is deleted before, its copies are removed all
	// the same, and its deletion does not wait for that.
	finalizersAfter  = 10 * time.Second
	finalizersWithin = time.Minute
	// finalizersRetry is when failed writes are retried.
	finalizersRetry = 10 * time.Second
)

// want replaces the set of finalizers to write.
func (f *finalizers) want(wanted []delivery.Finalizer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted = make(map[types.UID]delivery.Finalizer, len(wanted))
	tried, since, now := map[types.UID]string{}, map[types.UID]time.Time{}, time.Now()
	for _, w := range wanted {
		uid := types.UID(w.UID)
		if w.Wanted {
			if since[uid] = f.since[uid]; since[uid].IsZero() {
				since[uid] = now
			}
		}
		if version := f.tried[uid]; version == w.ResourceVersion {
			tried[uid] = version
			continue
		}
		f.wanted[uid] = w
	}
	f.tried, f.since = tried, since
}

// next returns some of the finalizers to write: few while the server is busy with statuses. wait is when there may be more; 0 if not
// before others are wanted.
func (f *finalizers) next(busy bool) (next []delivery.Finalizer, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.tried == nil {
		f.tried = map[types.UID]string{}
	}
	for uid, w := range f.wanted {
		left := f.since[uid].Add(finalizersAfter).Sub(now)
		if busy && left <= 0 && now.Before(f.since[uid].Add(finalizersWithin)) {
			left = yieldEvery
		}
		if w.Wanted && left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		if len(next) == finalizersAtOnce {
			return next, time.Millisecond
		}
		next = append(next, w)
		f.tried[uid] = w.ResourceVersion
		delete(f.wanted, uid)
	}
	return next, wait
}

// again puts back a finalizer that could not be written, unless another is wanted by now.
func (f *finalizers) again(w delivery.Finalizer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	uid := types.UID(w.UID)
	delete(f.tried, uid)
	if _, found := f.wanted[uid]; !found {
		f.wanted[uid] = w
	}
}

// waiting reports whether there are finalizers to write.
func (f *finalizers) waiting() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.wanted) > 0
}

// writeFinalizers writes some finalizers. If the workload has changed meanwhile, its finalizer is written once the watch shows the change.
func (d *deliverer) writeFinalizers(ctx context.Context) (r result) {
	next, wait := d.next(d.endpoint.statuses.Load() > 0)
	var writing errgroup.Group
	writing.SetLimit(statusesInFlight)
	for _, f := range next {
		writing.Go(func() (panicked error) {
			defer panics.RecoverTo(&panicked)
			if err := d.writeFinalizer(ctx, f); err != nil {
				klog.FromContext(ctx).V(2).Info("A finalizer is not written", "workload", f.String(), "wanted", f.Wanted, "reason", err.Error())
				if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
					d.again(f)
				}
			}
			return nil
		})
	}
	r.fail(writing.Wait()) // failed writes are wanted again
	switch {
	case wait > 0:
		r.within(wait)
	case d.waiting():
		r.within(finalizersRetry)
	}
	return r
}

func (d *deliverer) writeFinalizer(ctx context.Context, f delivery.Finalizer) error {
	all := slices.DeleteFunc(slices.Clone(f.Finalizers), func(name string) bool { return name == v1alpha1.FinalizerDelivery })
	if f.Wanted {
		all = append(all, v1alpha1.FinalizerDelivery)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": f.UID, "resourceVersion": f.ResourceVersion, "finalizers": all}})
	if err != nil {
		return err
	}
	return d.patch(ctx, "Finalizer", f.Reference, patch)
}
