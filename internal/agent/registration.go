package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/outcome"
)

// Reasons of events on a registration, besides those of its conditions.
const (
	// RegisteredReason: the agent has created the registration.
	RegisteredReason = "Registered"
	// ConflictReason: the agent of another cluster writes this registration.
	ConflictReason = "AgentConflict"
	// TookOverReason: the agent has taken the registration from another cluster, as --take-over asks.
	TookOverReason = "TookOver"
)

// userAgent identifies the agent in requests and as the source of events.
const userAgent = "placement-agent"

// requestTimeout bounds each request to kcp.
const requestTimeout = 10 * time.Second

// blockedError is an error that the agent cannot resolve itself.
type blockedError struct {
	result string
	error
}

// registration is what the agent writes in the workspace: the status of its ClusterRegistration, its ClusterUsage and its Lease.
type registration struct {
	template *v1alpha1.ClusterRegistration
	register bool
	// takeOver allows the agent to take the registration over from another cluster, once: otherwise two such agents would take it
	// from each other forever.
	takeOver bool
	// interval is how often the Lease is renewed.
	interval time.Duration
	// delivery is how the agent delivers; nil if it does not.
	delivery *v1alpha1.AgentDelivery

	// cached returns the registration as last shown by the watch; nil if there is none.
	cached       func() *v1alpha1.ClusterRegistration
	get          func(context.Context) (*v1alpha1.ClusterRegistration, error)
	create       func(context.Context, *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error)
	updateStatus func(context.Context, *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error)
	getUsage     func(context.Context) (*v1alpha1.ClusterUsage, error)
	createUsage  func(context.Context, *v1alpha1.ClusterUsage) (*v1alpha1.ClusterUsage, error)
	updateUsage  func(context.Context, *v1alpha1.ClusterUsage) (*v1alpha1.ClusterUsage, error)
	// patchLease applies a JSON merge patch.
	patchLease  func(context.Context, []byte) error
	createLease func(context.Context, *coordinationv1.Lease) error
	event       func(about runtime.Object, kind, reason, format string, args ...any)
	// run watches the registration and writes events until ctx ends.
	run func(context.Context)

	// changed receives an element when another writer has changed the registration in a way that requires writing it again.
	changed chan struct{}
	// last is the registration as this agent last wrote it, which the watch may not show yet. stale is set after a failed
	// write, when the watch may lag behind. existed is set once there has been a registration.
	last           *v1alpha1.ClusterRegistration
	stale, existed bool
	// usage is the ClusterUsage as last read or written; nil if it has to be read.
	usage *v1alpha1.ClusterUsage
	// renewed is when the Lease was last renewed.
	renewed time.Time

	mu sync.Mutex
	// seen is what the agent has last written or accepted.
	seen identity
}

// identity is the part of a registration whose changes the agent reacts to: which object it is, which cluster it belongs to,
// and its Ready condition, which the controller writes as well.
type identity struct {
	uid, cluster types.UID
	ready        corev1.ConditionStatus
	reason       string
}

func identityOf(r *v1alpha1.ClusterRegistration) identity {
	i := identity{uid: r.UID, cluster: r.Status.ClusterUID}
	if ready := conditions.Get(r, v1alpha1.ReadyCondition); ready != nil {
		i.ready, i.reason = ready.Status, ready.Reason
	}
	return i
}

// newRegistration connects to a workspace.
func newRegistration(config *rest.Config, template *v1alpha1.ClusterRegistration, register, takeOver bool, interval time.Duration) (*registration, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.UserAgent = userAgent
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	coordination, err := coordinationv1client.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	config.GroupVersion, config.APIPath = &v1alpha1.SchemeGroupVersion, "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	connection, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	client := gentype.NewClientWithList("clusterregistrations", connection, runtime.NewParameterCodec(scheme), "",
		func() *v1alpha1.ClusterRegistration { return &v1alpha1.ClusterRegistration{} },
		func() *v1alpha1.ClusterRegistrationList { return &v1alpha1.ClusterRegistrationList{} })

	usages := gentype.NewClient("clusterusages", connection, runtime.NewParameterCodec(scheme), "",
		func() *v1alpha1.ClusterUsage { return &v1alpha1.ClusterUsage{} })
	leases := coordination.Leases(v1alpha1.AgentNamespace)

	r := &registration{template: template, register: register, takeOver: takeOver, interval: interval, changed: make(chan struct{}, 1)}
	r.get = func(ctx context.Context) (*v1alpha1.ClusterRegistration, error) {
		return client.Get(ctx, template.Name, metav1.GetOptions{})
	}
	r.create = func(ctx context.Context, object *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
		return client.Create(ctx, object, metav1.CreateOptions{})
	}
	r.updateStatus = func(ctx context.Context, object *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
		return client.UpdateStatus(ctx, object, metav1.UpdateOptions{})
	}
	r.getUsage = func(ctx context.Context) (*v1alpha1.ClusterUsage, error) {
		return usages.Get(ctx, template.Name, metav1.GetOptions{})
	}
	r.createUsage = func(ctx context.Context, object *v1alpha1.ClusterUsage) (*v1alpha1.ClusterUsage, error) {
		return usages.Create(ctx, object, metav1.CreateOptions{})
	}
	r.updateUsage = func(ctx context.Context, object *v1alpha1.ClusterUsage) (*v1alpha1.ClusterUsage, error) {
		return usages.Update(ctx, object, metav1.UpdateOptions{})
	}
	r.patchLease = func(ctx context.Context, patch []byte) error {
		_, err := leases.Patch(ctx, template.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	r.createLease = func(ctx context.Context, object *coordinationv1.Lease) error {
		_, err := leases.Create(ctx, object, metav1.CreateOptions{})
		return err
	}

	// With this selector, the right to list and watch this one object by name is enough.
	own := fields.OneTermEqualSelector(metav1.ObjectNameField, template.Name).String()
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = own
				return client.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = own
				return client.Watch(ctx, o)
			},
		}, client),
		ObjectType: &v1alpha1.ClusterRegistration{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { r.observed(object) },
			UpdateFunc: func(_, object any) { r.observed(object) },
			DeleteFunc: r.deleted,
		},
	})
	r.cached = func() *v1alpha1.ClusterRegistration {
		object, found, err := store.GetByKey(template.Name)
		if err != nil || !found {
			return nil
		}
		return object.(*v1alpha1.ClusterRegistration)
	}

	events := record.NewBroadcaster()
	r.event = events.NewRecorder(scheme, corev1.EventSource{Component: userAgent}).Eventf
	r.run = func(ctx context.Context) {
		events.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: core.Events(metav1.NamespaceAll)})
		defer events.Shutdown()
		informer.RunWithContext(ctx)
	}
	return r, nil
}

// observed is called by the watch when the registration is new or has changed.
func (r *registration) observed(object any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if identityOf(object.(*v1alpha1.ClusterRegistration)) != r.seen {
		r.signal()
	}
}

// deleted is called by the watch when the registration is gone.
func (r *registration) deleted(any) { r.signal() }

func (r *registration) signal() {
	select {
	case r.changed <- struct{}{}:
	default: // a signal is pending already
	}
}

// accept records a registration as one that the agent need not react to.
func (r *registration) accept(object *v1alpha1.ClusterRegistration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = identityOf(object)
}

// write writes the changes in a report, and returns the registration, which it creates if there is none.
func (r *registration) write(ctx context.Context, report *report, now time.Time) (*v1alpha1.ClusterRegistration, error) {
	current, err := r.latest(ctx)
	if err != nil {
		return nil, err
	}
	if holder := current.Status.ClusterUID; holder != "" && holder != report.clusterUID && !r.takeOver {
		r.accept(current)
		r.usage = nil
		err := fmt.Errorf("ClusterRegistration %s is written by the agent of another cluster: its clusterUID is %s, this cluster's is %s. "+
			"Give one of the two another --registration-name, or, if this cluster replaces the other, start this agent with --take-over",
			current.Name, holder, report.clusterUID)
		r.event(current, corev1.EventTypeWarning, ConflictReason, "The agent of cluster %s wants to report here too, but %s does. One of the two needs another --registration-name",
			report.clusterUID, holder)
		return nil, &blockedError{"conflict", err}
	}
	written, err := r.writeStatus(ctx, current, report, now)
	if err != nil {
		return nil, err
	}
	return written, r.writeUsage(ctx, written, report)
}

// writeStatus writes the status if it differs. The update carries the resource version that was read, so nothing that others
// write meanwhile is lost, neither conditions nor the clusterUID of another agent.
func (r *registration) writeStatus(ctx context.Context, current *v1alpha1.ClusterRegistration, report *report, now time.Time) (*v1alpha1.ClusterRegistration, error) {
	updated := current.DeepCopy()
	report.writeTo(updated)
	updated.Status.AgentDelivery = r.delivery
	if equality.Semantic.DeepEqual(current.Status, updated.Status) {
		r.accept(current)
		return current, nil
	}
	updated.Status.LastHeartbeatTime = &metav1.Time{Time: now}
	written, err := r.updateStatus(ctx, updated)
	if err != nil {
		r.last, r.stale = nil, true
		return nil, fmt.Errorf("status of ClusterRegistration %s: %w", current.Name, err)
	}
	r.last, r.stale = written, false
	r.accept(written)
	if holder := current.Status.ClusterUID; holder != "" && holder != report.clusterUID {
		r.takeOver = false
		klog.FromContext(ctx).Info("Took over the registration", "name", current.Name, "from", holder, "clusterUID", report.clusterUID)
		r.event(written, corev1.EventTypeNormal, TookOverReason, "Cluster %s has taken over from %s", report.clusterUID, holder)
	}
	r.recordTransitions(current, written, report)
	return written, nil
}

// latest returns the current registration, and creates it if there is none.
func (r *registration) latest(ctx context.Context) (*v1alpha1.ClusterRegistration, error) {
	if current := r.cached(); current != nil && !r.stale {
		r.existed = true
		if r.last != nil && r.last.UID == current.UID && outcome.Newer(r.last.ResourceVersion, current.ResourceVersion) {
			return r.last, nil
		}
		return current, nil
	}
	current, err := r.get(ctx)
	switch {
	case err == nil:
		r.existed = true
		return current, nil
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("ClusterRegistration %s: %w", r.template.Name, err)
	}
	created, err := r.createNew(ctx)
	if err != nil {
		return nil, err
	}
	message := "The agent has registered its cluster"
	if r.existed {
		message = "The agent has registered its cluster anew: the registration before was deleted"
	}
	klog.FromContext(ctx).Info(message, "name", created.Name, "uid", created.UID)
	r.event(created, corev1.EventTypeNormal, RegisteredReason, "%s", message)
	r.accept(created)
	r.existed = true
	return created, nil
}

// createNew registers the cluster. If it is not allowed to, its error says what to apply.
func (r *registration) createNew(ctx context.Context) (*v1alpha1.ClusterRegistration, error) {
	name := r.template.Name
	missing := func(why string) error {
		return &blockedError{"unregistered", fmt.Errorf("there is no ClusterRegistration %s, and %s. The agent goes on once it exists: apply "+
			`{"apiVersion":"%s","kind":"ClusterRegistration","metadata":{"name":%q},"spec":{"location":%q}}`,
			name, why, v1alpha1.SchemeGroupVersion, name, r.template.Spec.Location)}
	}
	switch {
	case !r.register:
		return nil, missing("--register=false forbids to create it")
	case r.template.Spec.Location == "":
		return nil, missing("it cannot be created without --location")
	}
	created, err := r.create(ctx, r.template.DeepCopy())
	switch {
	case err == nil:
		return created, nil
	case apierrors.IsForbidden(err):
		return nil, missing("creating it is forbidden: " + err.Error())
	case apierrors.IsInvalid(err):
		return nil, missing("what the flags say is invalid: " + err.Error())
	case apierrors.IsNotFound(err):
		return nil, &blockedError{"unregistered", errors.New("the workspace does not serve ClusterRegistrations: bind the APIExport of the placement API in it, " +
			"or point --kcp-kubeconfig at the right workspace")}
	}
	return nil, fmt.Errorf("creating ClusterRegistration %s: %w", name, err)
}

// recordTransitions writes an event for each condition of the report whose status or reason has changed.
func (r *registration) recordTransitions(before, after *v1alpha1.ClusterRegistration, report *report) {
	for _, c := range report.conditions {
		last := conditions.Get(before, c.Type)
		ready := c.Type == v1alpha1.ReadyCondition
		switch {
		case last != nil && last.Status == c.Status && last.Reason == c.Reason:
		case c.Status != corev1.ConditionTrue:
			r.event(after, corev1.EventTypeWarning, c.Reason, "%s", c.Message)
		case last != nil || ready:
			r.event(after, corev1.EventTypeNormal, string(c.Type), "%s", turnedTrue(c.Type))
		}
	}
}

// turnedTrue returns the message of the event for a condition that has become True.
func turnedTrue(kind conditionsv1alpha1.ConditionType) string {
	switch kind {
	case v1alpha1.ReadyCondition:
		return "The cluster can take pods"
	case v1alpha1.WorkloadsCountedCondition:
		return "All workloads are in the report again"
	default:
		return "All quantities can be used again"
	}
}
