package controller

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"

	kcpcache "github.com/kcp-dev/apimachinery/v2/pkg/cache"
	kcpmetadata "github.com/kcp-dev/client-go/metadata"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/internal/outcome"
)

// The checks of an endpoint share one page per second, so that they cost the server little however many objects there are.
const (
	checkQPS      = 1
	checkBurst    = 5
	checkPageSize = 500
	// checkGrace is how long an informer may lag behind a list, relistGrace how long it may after it was asked to relist: it backs
	// off for up to 30 seconds plus jitter first.
	checkGrace  = 5 * time.Second
	relistGrace = 90 * time.Second
	// checkConfirmations is how many objects that the informer lacks are looked up at most.
	checkConfirmations = 10
)

// watchChecker reopens the watches of one endpoint that are open but deaf: nothing comes through them, which looks as if
// nothing happened. kcp's main branch of August 2026 leaves wildcard watches deaf that are opened before the first
// workspace has bound the export. The checker compares lists of metadata.
type watchChecker struct {
	url    string
	client kcpmetadata.ClusterInterface
	// pace delays requests. A client limited by its own config would log a line for each request that waits for long.
	pace    flowcontrol.RateLimiter
	metrics *metrics
	// interval is how often each resource is checked; 0 is never.
	interval, grace time.Duration
}

func newWatchChecker(config *rest.Config, interval time.Duration, m *metrics) (*watchChecker, error) {
	unlimited := rest.CopyConfig(config)
	unlimited.QPS = -1
	client, err := kcpmetadata.NewForConfig(unlimited)
	if err != nil {
		return nil, err
	}
	return &watchChecker{
		url: config.Host, client: client, pace: flowcontrol.NewTokenBucketRateLimiter(checkQPS, checkBurst), metrics: m, interval: interval, grace: checkGrace,
	}, nil
}

// run checks a watch from its first list until ctx ends, about once per interval. It starts at a random time to spread the
// checks.
func (c *watchChecker) run(ctx context.Context, watch *resourceWatch) {
	if c.interval == 0 {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-watch.listed():
	}
	for pause := time.Duration(rand.Float64() * float64(c.interval)); ; pause = wait.Jitter(c.interval, 0.2) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if err := c.check(ctx, watch); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
			klog.FromContext(ctx).Error(err, "A watch cannot be checked", "endpoint", c.url, "resource", watch.resource)
		}
	}
}

// check reopens a watch until its informer has what a list shows.
func (c *watchChecker) check(ctx context.Context, watch *resourceWatch) error {
	for grace := c.grace; ; grace = relistGrace {
		differences, err := c.compare(ctx, watch)
		if differences = afterGrace(ctx, grace, watch, differences); ctx.Err() != nil {
			return ctx.Err()
		}
		confirmed := slices.IndexFunc(differences[:min(len(differences), checkConfirmations)], func(d difference) bool { return c.confirm(ctx, watch, d) })
		if confirmed < 0 {
			if err == nil {
				watch.deaf.Store(false)
			}
			return err
		}
		watch.deaf.Store(true)
		c.metrics.reopened.WithLabelValues(watch.resource.GroupResource().String()).Inc()
		klog.FromContext(ctx).Info("A watch is open but does not deliver what a list shows: reopening it", "endpoint", c.url,
			"resource", watch.resource, "objects", len(differences), "for example", differences[confirmed].String())
		watch.relist()
	}
}

// difference is an object about which a list and an informer disagree.
type difference struct {
	key     string
	uid     types.UID
	version string
	// gone means that the informer has the object and the list does not; otherwise the informer lacks that version of it.
	gone bool
}

func (d difference) String() string {
	if d.gone {
		return d.key + " is gone"
	}
	return fmt.Sprintf("%s has resource version %s", d.key, d.version)
}

// compare lists a resource and returns what the informer has not seen. If the list fails halfway, the first half counts.
func (c *watchChecker) compare(ctx context.Context, watch *resourceWatch) (differences []difference, err error) {
	unlisted := map[types.UID]difference{}
	for _, object := range watch.objects.List() {
		if o, ok := object.(metav1.Object); ok {
			unlisted[o.GetUID()] = difference{key: keyOfObject(o), uid: o.GetUID(), gone: true}
		}
	}
	pages := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		if err := c.pace.Wait(ctx); err != nil {
			return nil, err
		}
		ctx, done := context.WithTimeout(ctx, readWithin)
		defer done()
		return c.client.Resource(watch.resource).List(ctx, o)
	})
	pages.PageSize, pages.PageBufferSize = checkPageSize, 1
	err = pages.EachListItem(ctx, metav1.ListOptions{LabelSelector: watch.selector, FieldSelector: watch.fields}, func(object runtime.Object) error {
		o := object.(*metav1.PartialObjectMetadata)
		delete(unlisted, o.UID)
		if d := (difference{key: keyOfObject(o), uid: o.UID, version: o.ResourceVersion}); !d.resolved(watch) {
			differences = append(differences, d)
		}
		return nil
	})
	if err == nil {
		for _, d := range unlisted {
			differences = append(differences, d)
		}
	}
	return differences, err
}

func keyOfObject(o metav1.Object) string {
	return kcpcache.ToClusterAwareKey(logicalcluster.From(o).String(), o.GetNamespace(), o.GetName())
}

// resolved reports whether the informer has caught up. Resource versions of one endpoint come from one store and are therefore
// ordered: any later version under the same name was seen after the one looked for.
func (d difference) resolved(watch *resourceWatch) bool {
	object, found, err := watch.objects.GetByKey(d.key)
	o, ok := object.(metav1.Object)
	found = found && ok && err == nil
	if d.gone {
		return !found || o.GetUID() != d.uid
	}
	return found && !outcome.Newer(d.version, o.GetResourceVersion())
}

// afterGrace returns the differences that the informer has not caught up with after the grace period.
func afterGrace(ctx context.Context, grace time.Duration, watch *resourceWatch, differences []difference) []difference {
	_ = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, grace, true, func(context.Context) (bool, error) {
		differences = slices.DeleteFunc(differences, func(d difference) bool { return d.resolved(watch) })
		return len(differences) == 0, nil
	})
	return differences
}

// confirm reports whether an object that the informer lacks exists: one that was created and deleted within the grace period is not
// expected in an informer. What a list shows as gone does not come back.
func (c *watchChecker) confirm(ctx context.Context, watch *resourceWatch, d difference) bool {
	if d.gone {
		return true
	}
	name, namespace, object, err := kcpcache.SplitMetaClusterNamespaceKey(d.key)
	if err != nil {
		return false
	}
	if c.pace.Wait(ctx) != nil {
		return false
	}
	ctx, done := context.WithTimeout(ctx, readWithin)
	defer done()
	o, err := c.client.Resource(watch.resource).Cluster(name.Path()).Namespace(namespace).Get(ctx, object, metav1.GetOptions{})
	return err == nil && o.UID == d.uid
}
