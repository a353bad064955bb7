package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Reasons of events on a registration, besides those of its conditions.
const (
	// RegisteredReason: the agent has created the registration.
	RegisteredReason = "Registered"
	// ConflictReason: the agent of another cluster writes this registration.
	ConflictReason = "AgentConflict"
	// TookOverReason: the agent was told to take the registration from another cluster, and has.
	TookOverReason = "TookOver"
)

// userAgent is how servers know the agent, and who events are from.
const userAgent = "placement-agent"

// requestTimeout bounds each request to kcp.
const requestTimeout = 10 * time.Second

// held is why nothing is written until somebody helps.
type held struct {
	result string
	error
}

// registration is the one ClusterRegistration that the agent writes.
type registration struct {
	template *v1alpha1.ClusterRegistration
	register bool
	// takeOver allows to take the name from another cluster, once: two that may would take it from each other for ever.
	takeOver bool

	// cached returns what the watch has shown last, nil where that is nothing.
	cached       func() *v1alpha1.ClusterRegistration
	get          func(context.Context) (*v1alpha1.ClusterRegistration, error)
	create       func(context.Context, *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error)
	updateStatus func(context.Context, *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error)
	event        func(about runtime.Object, kind, reason, format string, args ...any)
	// run watches until ctx ends, and writes events.
	run func(context.Context)

	// changed has an element after somebody else has changed something that matters.
	changed chan struct{}
	// stale tells that the watch lags behind, existed that there was a registration before.
	stale, existed bool

	mu sync.Mutex
	// seen is the registration that the agent has dealt with last.
	seen identity
}

// identity is what tells whose a registration is.
type identity struct{ uid, cluster types.UID }

func identityOf(r *v1alpha1.ClusterRegistration) identity {
	return identity{uid: r.UID, cluster: r.Status.ClusterUID}
}

// newRegistration connects to a workspace.
func newRegistration(config *rest.Config, template *v1alpha1.ClusterRegistration, register, takeOver bool) (*registration, error) {
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
	config.GroupVersion, config.APIPath = &v1alpha1.SchemeGroupVersion, "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	connection, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	client := gentype.NewClientWithList("clusterregistrations", connection, runtime.NewParameterCodec(scheme), "",
		func() *v1alpha1.ClusterRegistration { return &v1alpha1.ClusterRegistration{} },
		func() *v1alpha1.ClusterRegistrationList { return &v1alpha1.ClusterRegistrationList{} })

	r := &registration{template: template, register: register, takeOver: takeOver, changed: make(chan struct{}, 1)}
	r.get = func(ctx context.Context) (*v1alpha1.ClusterRegistration, error) {
		return client.Get(ctx, template.Name, metav1.GetOptions{})
	}
	r.create = func(ctx context.Context, object *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
		return client.Create(ctx, object, metav1.CreateOptions{})
	}
	r.updateStatus = func(ctx context.Context, object *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
		return client.UpdateStatus(ctx, object, metav1.UpdateOptions{})
	}

	// The right to list and watch one object by name is enough with this selector.
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
			AddFunc:    func(object any) { r.showed(object) },
			UpdateFunc: func(_, object any) { r.showed(object) },
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

// showed is what the watch calls with a registration that is new or has changed.
func (r *registration) showed(object any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if identityOf(object.(*v1alpha1.ClusterRegistration)) != r.seen {
		r.signal()
	}
}

// deleted is what the watch calls when the registration has gone.
func (r *registration) deleted(any) { r.signal() }

func (r *registration) signal() {
	select {
	case r.changed <- struct{}{}:
	default: // there is one already
	}
}

func (r *registration) dealtWith(object *v1alpha1.ClusterRegistration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = identityOf(object)
}

// write reports to the registration, which it creates where there is none. An update carries the resource version of what
// was looked at, so that nothing that others write meanwhile is lost, the claim of another agent least of all.
func (r *registration) write(ctx context.Context, report *report, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	current, err := r.latest(ctx)
	if err != nil {
		return err
	}
	if holder := current.Status.ClusterUID; holder != "" && holder != report.clusterUID && !r.takeOver {
		r.dealtWith(current)
		err := fmt.Errorf("ClusterRegistration %s is written by the agent of another cluster: its clusterUID is %s, this cluster's is %s. "+
			"Give one of the two another --registration-name, or, if this cluster replaces the other, start this agent with --take-over",
			current.Name, holder, report.clusterUID)
		r.event(current, corev1.EventTypeWarning, ConflictReason, "The agent of cluster %s wants to report here too, but %s does. One of the two needs another --registration-name",
			report.clusterUID, holder)
		return &held{"conflict", err}
	}
	updated := current.DeepCopy()
	report.writeTo(updated, now)
	written, err := r.updateStatus(ctx, updated)
	if err != nil {
		r.stale = true
		return fmt.Errorf("status of ClusterRegistration %s: %w", current.Name, err)
	}
	r.stale = false
	r.dealtWith(written)
	if holder := current.Status.ClusterUID; holder != "" && holder != report.clusterUID {
		r.takeOver = false
		klog.FromContext(ctx).Info("Took over the registration", "name", current.Name, "from", holder, "clusterUID", report.clusterUID)
		r.event(written, corev1.EventTypeNormal, TookOverReason, "Cluster %s has taken over from %s", report.clusterUID, holder)
	}
	r.tellTurned(current, written, report)
	return nil
}

// latest returns the registration as it is, created where there is none.
func (r *registration) latest(ctx context.Context) (*v1alpha1.ClusterRegistration, error) {
	if current := r.cached(); current != nil && !r.stale {
		r.existed = true
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
	r.dealtWith(created)
	r.existed = true
	return created, nil
}

// createNew registers the cluster. What it may not do itself it says how to do.
func (r *registration) createNew(ctx context.Context) (*v1alpha1.ClusterRegistration, error) {
	name := r.template.Name
	missing := func(why string) error {
		return &held{"unregistered", fmt.Errorf("there is no ClusterRegistration %s, and %s. The agent goes on once it exists: apply "+
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
		return nil, &held{"unregistered", errors.New("the workspace does not serve ClusterRegistrations: bind the APIExport of the placement API in it, " +
			"or point --kcp-kubeconfig at the right workspace")}
	}
	return nil, fmt.Errorf("creating ClusterRegistration %s: %w", name, err)
}

// tellTurned writes an event for each condition of the report that has another status than before.
func (r *registration) tellTurned(before, after *v1alpha1.ClusterRegistration, report *report) {
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
