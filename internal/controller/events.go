package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/record/util"
	"k8s.io/client-go/tools/reference"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"

	kcpkubernetes "github.com/kcp-dev/client-go/kubernetes"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Events are for people and may be dropped: one costs the server as much as a slice of a hundred decisions. A flood in one
// workspace takes nothing from the others.
const (
	eventsPerSecond     = 10 // written per second for all workspaces
	eventsBurst         = 20
	eventsQueued        = 1000
	workspaceEvents     = 1 // per second and workspace in the long run, excluding events of placements
	workspaceEventBurst = 25
	workspaceQueued     = 200  // for each workspace, with those of placements
	maxEvent            = 1000 // bytes of a message; the API server takes 1024
)

// recorder writes the events of one endpoint, one after the other. An event that cannot be written is not retried.
//
// It replaces client-go's event broadcaster, which drops events without counting them, both when its queue is full and when its
// spam filter skips them. One broadcaster for all workspaces would also share a single queue, so that a flood in one crowds out
// the rest, while one per workspace would have no common rate and would keep a queue and goroutines for every workspace.
type recorder struct {
	metrics *metrics
	fence   func() error
	// create and patch write to a workspace.
	create func(context.Context, logicalcluster.Name, *corev1.Event) (*corev1.Event, error)
	patch  func(context.Context, logicalcluster.Name, *corev1.Event, []byte) (*corev1.Event, error)

	// added receives an element when there is something in the queue.
	added chan struct{}
	mu    sync.Mutex
	queue *turns[queuedEvent]
}

// queuedEvent is an event with the workspace to write it to.
type queuedEvent struct {
	workspace logicalcluster.Name
	event     *corev1.Event
}

// newRecorder returns a recorder for the workspaces of one endpoint; run writes what it has queued.
func newRecorder(config *rest.Config, fence func() error, m *metrics) (*recorder, error) {
	slow := rest.CopyConfig(config)
	slow.QPS, slow.Burst = eventsPerSecond, eventsBurst
	client, err := kcpkubernetes.NewForConfig(slow)
	if err != nil {
		return nil, err
	}
	r := emptyRecorder(fence, m)
	r.create = func(ctx context.Context, in logicalcluster.Name, e *corev1.Event) (*corev1.Event, error) {
		return client.Cluster(in.Path()).CoreV1().Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{})
	}
	r.patch = func(ctx context.Context, in logicalcluster.Name, e *corev1.Event, patch []byte) (*corev1.Event, error) {
		return client.Cluster(in.Path()).CoreV1().Events(e.Namespace).Patch(ctx, e.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	}
	return r, nil
}

// emptyRecorder returns a recorder that has no server to write to.
func emptyRecorder(fence func() error, m *metrics) *recorder {
	return &recorder{
		metrics: m, fence: fence, added: make(chan struct{}, 1),
		queue: newTurns(func(e queuedEvent) logicalcluster.Name { return e.workspace }),
	}
}

// in returns a function that records events in one workspace.
func (r *recorder) in(workspace logicalcluster.Name) func(about runtime.Object, kind, reason, message string) {
	limit := flowcontrol.NewTokenBucketPassiveRateLimiter(workspaceEvents, workspaceEventBurst)
	return func(about runtime.Object, kind, reason, message string) {
		// Events of placements are summaries already: half of the queue is reserved for them.
		room := eventsQueued
		if _, summary := about.(*v1alpha1.WorkloadPlacement); !summary {
			if room /= 2; !limit.TryAccept() {
				r.count("dropped")
				return
			}
		}
		event, err := newEvent(about, kind, reason, message)
		if err != nil {
			klog.Background().Error(err, "An event cannot refer to its object", "workspace", workspace, "reason", reason)
			return
		}
		r.add(queuedEvent{workspace, event}, room)
	}
}

// add queues an event. Where there is no room, the workspace that has the most queued loses its latest.
func (r *recorder) add(event queuedEvent, room int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := len(r.queue.of[event.workspace])
	if own >= workspaceQueued {
		r.count("dropped")
		return
	}
	if r.queue.Len() >= room {
		r.count("dropped")
		longest := r.queue.longest()
		if len(r.queue.of[longest]) <= own+1 {
			return
		}
		r.queue.dropLast(longest)
	}
	r.queue.Push(event)
	select {
	case r.added <- struct{}{}:
	default: // it is known already that there is something
	}
}

// take takes the next event off the queue, if there is one.
func (r *recorder) take() (next queuedEvent, found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue.Len() == 0 {
		return next, false
	}
	return r.queue.Pop(), true
}

func newEvent(about runtime.Object, kind, reason, message string) (*corev1.Event, error) {
	object, err := reference.GetReference(scheme.Scheme, about)
	if err != nil {
		return nil, err
	}
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: object.Namespace, Name: util.GenerateEventName(object.Name, now.UnixNano())},
		InvolvedObject:      *object,
		Type:                kind,
		Reason:              reason,
		Message:             shortenTo(message, maxEvent),
		Source:              corev1.EventSource{Component: component},
		ReportingController: component,
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
	}
	if event.Namespace == "" {
		event.Namespace = metav1.NamespaceDefault
	}
	return event, nil
}

// component is the source of events.
const component = "placement-controller"

// run writes queued events until ctx ends. Repetitions are counted in one event, as client-go's broadcaster does.
func (r *recorder) run(ctx context.Context) {
	correlator := record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{
		// The limits above deal with floods: the correlator's default would silence a busy placement after four minutes.
		BurstSize: workspaceEventBurst, QPS: float32(time.Second) / float32(placedEvery),
	})
	for ctx.Err() == nil {
		queued, found := r.take()
		if !found {
			select {
			case <-ctx.Done():
			case <-r.added:
			}
			continue
		}
		if err := r.write(ctx, correlator, queued); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "An event is lost", "workspace", queued.workspace, "event", klog.KObj(queued.event))
		}
	}
}

// write writes an event while the fence admits it, and for WriteWithin at most.
func (r *recorder) write(ctx context.Context, correlator *record.EventCorrelator, queued queuedEvent) error {
	_, err := fenced(r.fence, func(ctx context.Context, queued queuedEvent) (any, error) {
		return nil, r.send(ctx, correlator, queued)
	})(ctx, queued)
	if errors.Is(err, errFenced) {
		r.count("dropped")
		return nil // the next leader tells what is still so
	}
	return err
}

func (r *recorder) send(ctx context.Context, correlator *record.EventCorrelator, queued queuedEvent) error {
	correlated, err := correlator.EventCorrelate(queued.event)
	if err != nil {
		return err
	}
	if correlated.Skip {
		r.count("dropped")
		return nil
	}
	event := correlated.Event
	repeated := event.Count > 1
	if repeated {
		event, err = r.patch(ctx, queued.workspace, event, correlated.Patch)
	}
	if !repeated || apierrors.IsNotFound(err) { // events expire after an hour
		event = correlated.Event
		event.ResourceVersion = ""
		event, err = r.create(ctx, queued.workspace, event)
	}
	if err != nil {
		r.count("error")
		return err
	}
	r.count("ok")
	correlator.UpdateState(event)
	return nil
}

func (r *recorder) count(result string) { r.metrics.writes.WithLabelValues("Event", result).Inc() }
