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

// paths says which logical cluster is at the path of a workspace. It asks kcp for the Workspace in the parent, whose spec.cluster kcp
// alone writes: what is in a workspace itself, such as the path in the annotations of its LogicalCluster, its owners can write.
type paths struct {
	// read returns the logical cluster of a workspace in its parent.
	read func(ctx context.Context, parent logicalcluster.Path, name string) (logicalcluster.Name, error)
	// changed is called with the paths at which another workspace, or none, has been found.
	changed func(paths map[string]bool)
	now     func() time.Time
	// queue has what to read. The zero value in it stands for calling changed.
	queue workqueue.TypedRateLimitingInterface[pathAsked]

	mu    sync.Mutex
	found map[string]*atPath
	// notified is when changed was called last, and unnotified are the paths that it is to be called with next.
	notified   time.Time
	unnotified map[string]bool
}

// pathAsked is a path that a workspace asks for.
type pathAsked struct {
	by   logicalcluster.Name
	path string
}

// atPath is what is at a path.
type atPath struct {
	cluster logicalcluster.Name
	// err is why that is not known.
	err error
	// asked is when somebody asked last.
	asked time.Time
	// followed is set once it is read in the turns of a workspace, which it stays with.
	followed bool
	by       logicalcluster.Name
}

const (
	// pathsEvery is how often it is read again what is at a path, pathsRetried how long at most after a failure.
	pathsEvery, pathsRetried = 10 * time.Minute, 10 * time.Minute
	// pathsKept is how long a path is followed that nobody asks for.
	pathsKept = time.Hour
	// pathsPerSecond is how many are read at most, whatever workspaces name.
	pathsPerSecond, concurrentPaths = 50, 4
	// pathsNotifyEvery is how often changed is called at most.
	pathsNotifyEvery = time.Second
)

// errPathUntried and errPathUnread are why it is not known yet what is at a path: nobody has tried to read it, or that has failed.
var (
	errPathUntried = errors.New("it is about to be read which workspace that is")
	errPathUnread  = errors.New("it could not be read yet which workspace that is")
)

// unreadablePath is why the controller cannot know which workspace is at a path, whether there is one or not.
type unreadablePath struct{ parent logicalcluster.Path }

// Error implements error.
func (e *unreadablePath) Error() string {
	return fmt.Sprintf("the controller may not read the workspaces of %s, or there is no such workspace: check the path; name the workspace by its logical cluster, "+
		"which is spec.cluster of the Workspace; or let the controller get workspaces there", e.parent)
}

// workspaceResource has the workspaces in their parent.
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
	queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[pathAsked]{Name: "paths", Queue: &pathTurns{of: map[logicalcluster.Name][]pathAsked{}}})
	return &paths{changed: changed, now: time.Now, found: map[string]*atPath{}, queue: workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[pathAsked](time.Second, pathsRetried),
		workqueue.TypedRateLimitingQueueConfig[pathAsked]{
			DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[pathAsked]{Name: "paths", Queue: queue}),
		},
	)}
}

// pathTurns is a queue in which workspaces take turns, however many paths each asks for.
type pathTurns struct {
	next []logicalcluster.Name
	of   map[logicalcluster.Name][]pathAsked
	n    int
}

// Touch implements workqueue.Queue.
func (*pathTurns) Touch(pathAsked) {}

// Push implements workqueue.Queue.
func (t *pathTurns) Push(asked pathAsked) {
	if len(t.of[asked.by]) == 0 {
		t.next = append(t.next, asked.by)
	}
	t.of[asked.by] = append(t.of[asked.by], asked)
	t.n++
}

// Len implements workqueue.Queue.
func (t *pathTurns) Len() int { return t.n }

// Pop implements workqueue.Queue.
func (t *pathTurns) Pop() pathAsked {
	by := t.next[0]
	first := t.of[by][0]
	t.next, t.of[by], t.n = t.next[1:], t.of[by][1:], t.n-1
	if len(t.of[by]) > 0 {
		t.next = append(t.next, by)
	} else {
		delete(t.of, by)
	}
	return first
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
		p.queue.Add(pathAsked{by, path}) // whose turn comes first
	}
	at.asked = p.now()
	return at.cluster, at.err
}

// retry reads at once what was not found: there is another workspace.
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

// notify calls changed with a path, unless it is empty, and with what waits for that: at once, or when pathsNotifyEvery is over.
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

// follows returns what is known of a path if it is to be read in the turns of the workspace that asks. One that nobody has asked for in a
// while is forgotten.
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

// failed has it be told that a path could not be read, if it never has been.
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

// follow reads what is at a path, and has it read again in time.
func (p *paths) follow(ctx context.Context, asked pathAsked) {
	at := p.follows(asked)
	if at == nil {
		return
	}
	path := asked.path
	parent, name := logicalcluster.NewPath(path).Split()
	cluster, err := p.read(ctx, parent, name)
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
		return // it is taken to be what it was
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
