package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	kcpdynamic "github.com/kcp-dev/client-go/dynamic"
	"github.com/kcp-dev/logicalcluster/v3"
)

// paths resolves workspace paths to logical clusters. It asks kcp for the Workspace in the parent, whose spec.cluster only kcp
// writes: what is in a workspace itself, such as the path in the annotations of its LogicalCluster, can be written by its owners.
type paths struct {
	// read returns the logical cluster of a workspace from its parent.
	read func(ctx context.Context, parent logicalcluster.Path, name string) (logicalcluster.Name, error)
	// changed is called with the paths that now resolve to another workspace, or to none.
	changed func(paths map[string]bool)
	now     func() time.Time
	// queue holds the paths to read. The zero value in it stands for a call of changed.
	queue workqueue.TypedRateLimitingInterface[pathAsked]

	mu    sync.Mutex
	found map[string]*atPath
	// notified is when changed was last called, and unnotified are the paths of its next call.
	notified   time.Time
	unnotified map[string]bool
}

// pathAsked is a path that a workspace asks for.
type pathAsked struct {
	by   logicalcluster.Name
	path string
}

// atPath is the workspace found at a path.
type atPath struct {
	cluster logicalcluster.Name
	// err is why it is not known.
	err error
	// asked is when it was last asked for.
	asked time.Time
	// followed is set once the path is read in the turns of one workspace (by), which does not change.
	followed bool
	by       logicalcluster.Name
}

const (
	// pathsEvery is how often a path is read again, pathsRetried the longest wait after a failure.
	pathsEvery, pathsRetried = 10 * time.Minute, 10 * time.Minute
	// pathsKept is how long a path is followed after it was last asked for.
	pathsKept = time.Hour
	// pathsPerSecond bounds the reads, however many paths workspaces name.
	pathsPerSecond, concurrentPaths = 50, 4
	// pathsNotifyEvery is the least time between calls of changed.
	pathsNotifyEvery = time.Second
)

// errPathUntried and errPathUnread are why it is not known yet what is at a path: it has not been read yet, or reading has failed.
var (
	errPathUntried = errors.New("it is about to be read which workspace that is")
	errPathUnread  = errors.New("it could not be read yet which workspace that is")
)

// unreadablePath means that the controller cannot know which workspace is at a path, or whether there is one.
type unreadablePath struct{ parent logicalcluster.Path }

// Error implements error.
func (e *unreadablePath) Error() string {
	return fmt.Sprintf("the controller may not read the workspaces of %s, or there is no such workspace: check the path; name the workspace by its logical cluster, "+
		"which is spec.cluster of the Workspace; or let the controller get workspaces there", e.parent)
}

// workspaceResource is the resource of workspaces in their parent.
var workspaceResource = schema.GroupVersionResource{Group: "tenancy.kcp.io", Version: "v1alpha1", Resource: "workspaces"}

// newPaths reads paths at the kcp that a config reaches.
func newPaths(config *rest.Config, changed func(map[string]bool)) (*paths, error) {
	at := rest.CopyConfig(config)
	at.Host, _, _ = strings.Cut(at.Host, "/clusters/")
	at.QPS, at.Burst = pathsPerSecond, pathsPerSecond
	client, err := kcpdynamic.NewForConfig(at)
	if err != nil {
		return nil, err
	}
	p := unreadPaths(changed)
	p.read = func(ctx context.Context, parent logicalcluster.Path, name string) (logicalcluster.Name, error) {
		u, err := client.Cluster(parent).Resource(workspaceResource).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		cluster, _, _ := unstructured.NestedString(u.Object, "spec", "cluster")
		return logicalcluster.Name(cluster), nil
	}
	return p, nil
}

func unreadPaths(changed func(map[string]bool)) *paths {
	queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[pathAsked]{Name: "paths", Queue: newTurns(func(asked pathAsked) logicalcluster.Name { return asked.by })})
	return &paths{changed: changed, now: time.Now, found: map[string]*atPath{}, queue: workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[pathAsked](time.Second, pathsRetried),
		workqueue.TypedRateLimitingQueueConfig[pathAsked]{
			DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[pathAsked]{Name: "paths", Queue: queue}),
		},
	)}
}

// of returns the logical cluster at a path that a workspace asks for.
func (p *paths) of(by logicalcluster.Name, path string) (logicalcluster.Name, error) {
	parent, name := logicalcluster.NewPath(path).Split()
	if parent.Empty() {
		return logicalcluster.Name(name), nil // root, or the name of a logical cluster
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.found[path]
	if at == nil {
		at = &atPath{err: errPathUntried}
		p.found[path] = at
	}
	if !at.followed {
		p.queue.Add(pathAsked{by, path}) // read by the workspace whose turn comes first
	}
	at.asked = p.now()
	return at.cluster, at.err
}

// retry reads paths that were not found again at once, because there is a new workspace.
func (p *paths) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for path, at := range p.found {
		if at.followed && at.err != nil {
			p.queue.Add(pathAsked{at.by, path})
		}
	}
}

// run reads paths until ctx ends.
func (p *paths) run(ctx context.Context) {
	defer context.AfterFunc(ctx, p.queue.ShutDown)()
	var reading sync.WaitGroup
	for range concurrentPaths {
		reading.Go(func() {
			for {
				asked, shutdown := p.queue.Get()
				if shutdown {
					return
				}
				if asked == (pathAsked{}) {
					p.notify("")
				} else {
					p.follow(ctx, asked)
				}
				p.queue.Done(asked)
			}
		})
	}
	reading.Wait()
}

// notify calls changed with a path, unless it is empty, and with all that wait, at once or as soon as pathsNotifyEvery has passed.
func (p *paths) notify(path string) {
	p.mu.Lock()
	if path != "" {
		if p.unnotified == nil {
			p.unnotified = map[string]bool{}
		}
		p.unnotified[path] = true
	}
	wait := p.notified.Add(pathsNotifyEvery).Sub(p.now())
	var all map[string]bool
	if wait <= 0 {
		p.notified, all, p.unnotified = p.now(), p.unnotified, nil
	}
	p.mu.Unlock()
	if wait > 0 {
		p.queue.AddAfter(pathAsked{}, wait)
		return
	}
	if len(all) > 0 {
		p.changed(all)
	}
}

// follows returns what is known of a path if it is read in the turns of the workspace that asks, nil if not. A path that nobody has asked
// for in a while is forgotten.
func (p *paths) follows(asked pathAsked) *atPath {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.found[asked.path]
	switch {
	case at == nil, at.followed && at.by != asked.by:
		at = nil
	case p.now().Sub(at.asked) > pathsKept:
		delete(p.found, asked.path)
		at = nil
	default:
		at.followed, at.by = true, asked.by
	}
	if at == nil {
		p.queue.Forget(asked)
	}
	return at
}

// failed records that a path could not be read, and notifies if it has never been read.
func (p *paths) failed(path string, at *atPath) {
	p.mu.Lock()
	first := errors.Is(at.err, errPathUntried)
	if first {
		at.err = errPathUnread
	}
	p.mu.Unlock()
	if first {
		p.notify(path)
	}
}

// follow reads what is at a path, and schedules the next read.
func (p *paths) follow(ctx context.Context, asked pathAsked) {
	at := p.follows(asked)
	if at == nil {
		return
	}
	path := asked.path
	parent, name := logicalcluster.NewPath(path).Split()
	within, done := context.WithTimeout(ctx, readWithin)
	cluster, err := p.read(within, parent, name)
	done()
	switch {
	case ctx.Err() != nil:
		return
	case apierrors.IsNotFound(err):
		err = fmt.Errorf("there is no workspace %s in %s: check the path", name, parent)
	case apierrors.IsForbidden(err):
		err = &unreadablePath{parent}
	case err == nil && cluster == "":
		err = fmt.Errorf("workspace %s is not ready yet", path)
	case err != nil:
		klog.FromContext(ctx).Error(err, "It cannot be read which workspace is at a path", "path", path)
		p.queue.AddRateLimited(asked)
		p.failed(path, at)
		return // the last known answer still holds
	}
	p.mu.Lock()
	changed := at.cluster != cluster || fmt.Sprint(at.err) != fmt.Sprint(err)
	at.cluster, at.err = cluster, err
	p.mu.Unlock()
	if err != nil {
		p.queue.AddRateLimited(asked)
	} else {
		p.queue.Forget(asked)
		p.queue.AddAfter(asked, pathsEvery)
	}
	if changed {
		p.notify(path)
	}
}
