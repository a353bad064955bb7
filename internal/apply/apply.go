package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/outcome"
)

const (
	userAgent = "placement-agent"
	// requestTimeout bounds each request.
	requestTimeout = 30 * time.Second
	// gather is how long changes are collected before they are looked at.
	gather = 20 * time.Millisecond
	// maxRequests bounds the concurrent requests to the cluster, maxRepeated those among them that failed before: what the cluster
	// takes long to refuse delays nothing else.
	maxRequests, maxRepeated = 16, 4
	// A status that could not be written is retried after statusRetry, then after twice that, up to maxRetry.
	statusRetry     = time.Second
	maxStatusWrites = 4
)

// Config is what an Applier needs.
type Config struct {
	// Cluster is the physical cluster, KCP the workspace with the registration and the Works.
	Cluster, KCP *rest.Config
	// Registration is the name of the ClusterRegistration.
	Registration string
	// Delivery is how objects are delivered: the namespace template, Pod Security and the kinds.
	Delivery v1alpha1.AgentDelivery
	// PruneVolumeClaims removes PersistentVolumeClaims like other objects, with all their data.
	PruneVolumeClaims bool
	// Holds reports whether the registration belongs to this cluster. Until it does, nothing is delivered.
	Holds func() bool
	// Registry registers metrics. Optional.
	Registry prometheus.Registerer
}

// Applier keeps a cluster in line with its Works.
type Applier struct {
	Config
	cluster      dynamic.Interface
	discovery    discovery.DiscoveryInterface
	registration dynamic.ResourceInterface
	works        dynamic.ResourceInterface
	metrics      *metrics
	own          labels.Set
	// changed receives an element when the state has changed.
	changed chan struct{}

	mu       sync.Mutex
	state    state
	worksErr error
	writes   map[string]*statusWrite
	running  requests
}

// requests counts the requests that are under way.
type requests struct{ all, repeated, statuses int }

// statusWrite is the state of writing a Work's status.
type statusWrite struct {
	uid types.UID
	// last is the status that was written; the watch may not show it yet. version is the resulting resource version.
	last     *v1alpha1.WorkStatus
	version  string
	running  bool
	since    time.Time // when the status first differed from what was written
	earliest time.Time
	failures int
}

// New returns an applier, which delivers once it is run.
func New(c Config) (*Applier, error) {
	a := &Applier{Config: c, metrics: newMetrics(c.Registry), changed: make(chan struct{}, 1), writes: map[string]*statusWrite{}}
	configure := func(config *rest.Config) *rest.Config {
		config = rest.CopyConfig(config)
		config.UserAgent, config.QPS, config.WarningHandler = userAgent, -1, rest.NoWarnings{} // the number of concurrent requests is bounded instead
		return config
	}
	var err error
	if a.cluster, err = dynamic.NewForConfig(configure(c.Cluster)); err != nil {
		return nil, fmt.Errorf("the physical cluster: %w", err)
	}
	if a.discovery, err = discovery.NewDiscoveryClientForConfig(configure(c.Cluster)); err != nil {
		return nil, fmt.Errorf("the physical cluster: %w", err)
	}
	kcp, err := dynamic.NewForConfig(configure(c.KCP))
	if err != nil {
		return nil, fmt.Errorf("the kcp workspace: %w", err)
	}
	a.registration = kcp.Resource(v1alpha1.SchemeGroupVersion.WithResource("clusterregistrations"))
	a.works = kcp.Resource(v1alpha1.SchemeGroupVersion.WithResource("works")).Namespace(v1alpha1.WorkNamespace(c.Registration))
	a.state = newState(settings{
		cluster: c.Registration, namespaceTemplate: c.Delivery.NamespaceTemplate, podSecurity: c.Delivery.PodSecurity, pruneVolumes: c.PruneVolumeClaims,
	}, c.Delivery.Kinds)
	return a, nil
}

func newState(s settings, kinds []v1alpha1.WorkloadType) state {
	namespace := schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
	all := state{
		settings: s, kinds: map[schema.GroupVersionKind]*kind{}, namespaceKind: &kind{GroupVersionKind: namespace}, works: map[string]*work{},
		live: map[id]*live{}, pods: pods{}, memory: map[id]*memory{}, vanished: map[string]*vanished{},
	}
	for _, k := range kinds {
		gvk := schema.FromAPIVersionAndKind(k.APIVersion, k.Kind)
		all.kinds[gvk] = &kind{GroupVersionKind: gvk}
	}
	return all
}

// Run delivers until ctx ends.
func (a *Applier) Run(ctx context.Context) {
	ctx = klog.NewContext(ctx, klog.FromContext(ctx).WithName("delivery"))
	if err := a.identify(ctx); err != nil {
		return // ctx has ended
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { a.followWorks(ctx) })
	running.Go(func() { a.followPods(ctx) })
	running.Go(func() { a.followKind(ctx, a.state.namespaceKind) })
	for _, k := range a.state.kinds {
		running.Go(func() { a.followKind(ctx, k) })
	}
	timer := time.NewTimer(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.changed:
		case <-timer.C:
		}
		started := time.Now()
		next := a.step(ctx, &running)
		// The state may be large, so looking at it takes at most a fifth of the time.
		pause := max(gather, 4*time.Since(started))
		if !sleep(ctx, pause) {
			return
		}
		timer.Reset(max(0, time.Until(next)))
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// identify waits until the registration belongs to this cluster, and learns its logical cluster.
func (a *Applier) identify(ctx context.Context) error {
	return wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		if !a.Holds() {
			return false, nil
		}
		registration, err := a.registration.Get(ctx, a.Registration, metav1.GetOptions{})
		if err == nil && logicalcluster.From(registration).Empty() {
			err = fmt.Errorf("ClusterRegistration %s has no annotation %s: --kcp-kubeconfig must point at a workspace of kcp", a.Registration, logicalcluster.AnnotationKey)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.worksErr = err; err != nil {
			klog.FromContext(ctx).Error(err, "Cannot deliver yet")
			return false, nil
		}
		a.state.workspace = logicalcluster.From(registration).String()
		a.own = labels.Set{v1alpha1.LabelWorkspace: a.state.workspace, v1alpha1.LabelCluster: labelValue(a.Registration)}
		return true, nil
	})
}

// update changes the state; change reports whether anything has to be looked at.
func (a *Applier) update(change func(*state) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if change(&a.state) {
		a.signal()
	}
}

func (a *Applier) signal() {
	select {
	case a.changed <- struct{}{}:
	default: // one is pending already
	}
}

// step starts what is due, and returns when to look again.
func (a *Applier) step(ctx context.Context, running *sync.WaitGroup) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	next := now.Add(time.Minute)
	if !a.Holds() {
		return now.Add(time.Second)
	}
	actions, again := a.state.plan(now)
	if !again.IsZero() && again.Before(next) {
		next = again
	}
	for _, do := range actions {
		if do.confirm == "" && (a.running.all >= maxRequests || do.again && a.running.repeated >= maxRepeated) {
			continue // once another has ended
		}
		a.begin(do)
		running.Go(func() { a.run(ctx, do) })
	}
	if !a.state.known() {
		return next
	}
	applied, failed, removing := 0, 0, 0
	for name, status := range a.state.statuses() {
		if due := a.writeStatus(ctx, running, a.state.works[name], status.WorkStatus, now); !due.IsZero() && due.Before(next) {
			next = due
		}
		applied, failed, removing = applied+status.applied, failed+int(status.Failed), removing+len(status.Removing)
	}
	maps.DeleteFunc(a.writes, func(name string, w *statusWrite) bool { return a.state.works[name] == nil && !w.running })
	a.metrics.works.Set(float64(len(a.state.works)))
	a.metrics.objects.WithLabelValues("applied").Set(float64(applied))
	a.metrics.objects.WithLabelValues("failed").Set(float64(failed))
	a.metrics.removing.Set(float64(removing))
	return next
}

// begin records that an action is under way. The caller holds the lock.
func (a *Applier) begin(do action) {
	if do.confirm != "" {
		return
	}
	a.running.all++
	if do.again {
		a.running.repeated++
	}
	a.state.begin(do)
}

// run carries out an action and records the outcome.
func (a *Applier) run(ctx context.Context, do action) {
	requesting, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var err error
	var end func(now time.Time)
	switch {
	case do.confirm != "":
		_, err = a.works.Get(requesting, do.confirm, metav1.GetOptions{})
		end = func(now time.Time) { a.state.confirmed(do.confirm, isGone(err, do.confirm), now) }
	case do.readEvents:
		warning := a.warning(requesting, do.live)
		end = func(now time.Time) { a.state.eventsRead(do.id, warning, now) }
	default:
		var applied *live
		applied, err = a.request(requesting, do)
		end = func(now time.Time) {
			if a.state.end(do, applied, err, now) {
				a.metrics.corrections.Inc()
			}
		}
	}
	if ctx.Err() != nil {
		return
	}
	a.log(ctx, do, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.signal()
	if do.confirm == "" {
		a.running.all--
		if do.again {
			a.running.repeated--
		}
	}
	end(time.Now())
}

// log logs and counts the outcome of an action.
func (a *Applier) log(ctx context.Context, do action, err error) {
	log, verb := klog.FromContext(ctx), "apply"
	switch {
	case do.confirm != "":
		if !isGone(err, do.confirm) {
			log.Info("A Work is not seen any more, and the server does not confirm that it is gone: what it had is left as it is", "work", do.confirm, "err", err)
		}
		return
	case do.readEvents:
		return
	case do.wanted == nil:
		verb = "remove"
	}
	log = log.WithValues("kind", do.id.Kind, "namespace", do.id.namespace, "name", do.id.name)
	a.metrics.requests.WithLabelValues(verb, resultOf(err)).Inc()
	if err != nil && do.wanted == nil {
		log.Info("Cannot remove an object", "err", err) // there is no manifest to report it on
		return
	}
	if err != nil {
		log.V(2).Info("Cannot apply an object", "err", err)
		return
	}
	log.V(2).Info("Done", "verb", verb)
}

// request carries out an action. It returns what was applied.
func (a *Applier) request(ctx context.Context, do action) (applied *live, err error) {
	defer func() {
		if p := recover(); p != nil {
			klog.FromContext(ctx).Error(nil, "Panicked on an object", "kind", do.id.Kind, "name", do.id.name, "panic", p, "stack", string(debug.Stack()))
			err = &refusal{fmt.Sprintf("the agent fails on it: %v", p)}
		}
	}()
	if do.wanted == nil {
		return nil, a.remove(ctx, do)
	}
	return a.put(ctx, do)
}

// isGone reports whether the error means that no Work of the name exists, as opposed to no resource or workspace.
func isGone(err error, name string) bool {
	status := apierrors.APIStatus(nil)
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Kind == "works" && details.Group == v1alpha1.SchemeGroupVersion.Group && details.Name == name && len(details.Causes) == 0
}

// writeStatus writes the status of a Work if it is due, and otherwise returns when it is. The caller holds the lock.
func (a *Applier) writeStatus(ctx context.Context, running *sync.WaitGroup, w *work, status *v1alpha1.WorkStatus, now time.Time) time.Time {
	write := a.writes[w.name]
	if write == nil || write.uid != w.uid {
		write = &statusWrite{uid: w.uid}
		a.writes[w.name] = write
	}
	written := &w.status
	if write.last != nil && outcome.Newer(write.version, w.resourceVersion) {
		written = write.last
	}
	switch {
	case write.running:
		return time.Time{}
	case equality.Semantic.DeepEqual(written, status):
		write.since = time.Time{}
		return time.Time{}
	case write.since.IsZero():
		write.since = now
	}
	due := statusDue(written, status, write.since)
	if due.Before(write.earliest) {
		due = write.earliest
	}
	if now.Before(due) || a.running.statuses >= maxStatusWrites {
		return due
	}
	write.running = true
	a.running.statuses++
	name, uid := w.name, w.uid
	running.Go(func() {
		requesting, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		version, err := a.patchStatus(requesting, name, uid, status)
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		defer a.signal()
		a.running.statuses--
		ended := time.Now()
		write.running, write.since, write.earliest = false, time.Time{}, ended.Add(statusPause(ended.Sub(now)))
		a.metrics.statuses.WithLabelValues(resultOf(err)).Inc()
		if err == nil {
			write.last, write.version, write.failures = status, version, 0
			return
		}
		write.failures++
		write.earliest = time.Now().Add(wait.Jitter(min(statusRetry<<min(write.failures, 6), maxRetry), 0.2))
		if !apierrors.IsNotFound(err) {
			klog.FromContext(ctx).Error(err, "The status of a Work was not written; retrying", "work", name, "in", time.Until(write.earliest))
		}
	})
	return time.Time{}
}

// patchStatus replaces the status of a Work, provided that it still has the UID.
func (a *Applier) patchStatus(ctx context.Context, name string, uid types.UID, status *v1alpha1.WorkStatus) (version string, err error) {
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": uid},
		{"op": "add", "path": "/status", "value": status},
	})
	if err != nil {
		return "", err
	}
	written, err := a.works.Patch(ctx, name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	if err != nil {
		return "", err
	}
	return written.GetResourceVersion(), nil
}

// Ready returns nil if the Works and the objects of the cluster are known, otherwise why they are not.
func (a *Applier) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.worksErr != nil:
		return fmt.Errorf("delivery: %w", a.worksErr)
	case !a.state.listed:
		return errors.New("delivery: the Works have not been listed yet")
	}
	for _, k := range a.state.kinds {
		switch {
		case k.problem != "" || k.synced:
		case k.err != nil:
			return fmt.Errorf("delivery: %s cannot be listed: %w", k.Kind, k.err)
		default:
			return fmt.Errorf("delivery: %s have not been listed yet", k.Kind)
		}
	}
	return nil
}

// ownLabels are on each object of the cluster that belongs to this agent.
func (a *Applier) ownLabels() labels.Set { return a.own }

// labelValue returns a label value for the name of a registration, which may be too long for one.
func labelValue(name string) string {
	if len(validation.IsValidLabelValue(name)) == 0 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.TrimRight(name[:validation.LabelValueMaxLength-9], "-.") + "-" + hex.EncodeToString(sum[:4])
}

// served returns the resources of all kinds that may be applied and that the cluster serves, and pods.
func (a *Applier) served() []schema.GroupVersionResource {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := []schema.GroupVersionResource{podResource}
	for _, k := range a.state.kinds {
		if k.problem == "" && k.resource != podResource {
			all = append(all, k.resource)
		}
	}
	return all
}
