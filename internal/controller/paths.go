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
	// changed is called once another workspace, or none, is found at a path that somebody has asked for.
	changed func()
	now     func() time.Time
	queue   workqueue.TypedRateLimitingInterface[string]

	mu    sync.Mutex
	found map[string]*atPath
}

// atPath is what is at a path.
type atPath struct {
	cluster logicalcluster.Name
	// err is why that is not known.
	err error
	// asked is when somebody asked last.
	asked time.Time
}

const (
	// pathsEvery is how often it is read again what is at a path, pathsRetried how long at most after a failure.
	pathsEvery, pathsRetried = 10 * time.Minute, 10 * time.Minute
	// pathsKept is how long a path is followed that nobody asks for.
	pathsKept = time.Hour
	// pathsPerSecond is how many are read at most, whatever workspaces name.
	pathsPerSecond, concurrentPaths = 50, 4
)

// errPathUnread is why it is not known yet what is at a path.
var errPathUnread = errors.New("it has not been read yet which workspace that is")

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
func newPaths(config *rest.Config, changed func()) (*paths, error) {
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

func unreadPaths(changed func()) *paths {
	return &paths{changed: changed, now: time.Now, found: map[string]*atPath{}, queue: workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](time.Second, pathsRetried), workqueue.TypedRateLimitingQueueConfig[string]{Name: "paths"},
	)}
}

// of returns the logical cluster at a path.
func (p *paths) of(path string) (logicalcluster.Name, error) {
	parent, name := logicalcluster.NewPath(path).Split()
	if parent.Empty() {
		return logicalcluster.Name(name), nil // root, or the name of a logical cluster
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.found[path]
	if at == nil {
		at = &atPath{err: errPathUnread}
		p.found[path] = at
		p.queue.Add(path)
	}
	at.asked = p.now()
	return at.cluster, at.err
}

// retry reads at once what was not found: there is another workspace.
func (p *paths) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for path, at := range p.found {
		if at.err != nil {
			p.queue.Add(path)
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
				path, shutdown := p.queue.Get()
				if shutdown {
					return
				}
				p.follow(ctx, path)
				p.queue.Done(path)
			}
		})
	}
	reading.Wait()
}

// follow reads what is at a path, and has it read again in time.
func (p *paths) follow(ctx context.Context, path string) {
	p.mu.Lock()
	at := p.found[path]
	if at == nil || p.now().Sub(at.asked) > pathsKept {
		delete(p.found, path)
		p.queue.Forget(path)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()

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
		p.queue.AddRateLimited(path)
		return // it is taken to be what it was
	}
	p.mu.Lock()
	changed := at.cluster != cluster || fmt.Sprint(at.err) != fmt.Sprint(err)
	at.cluster, at.err = cluster, err
	p.mu.Unlock()
	if err != nil {
		p.queue.AddRateLimited(path)
	} else {
		p.queue.Forget(path)
		p.queue.AddAfter(path, pathsEvery)
	}
	if changed {
		p.changed()
	}
}
