package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
)

// Local is a workspace whose objects are in memory and whose clock is the caller's; its passes are those of a Controller. What a pass
// writes is visible at once to the next pass. It is not safe for concurrent use, nor are several workspaces of one controller.
type Local struct {
	*localServer
	name      logicalcluster.Name
	workspace *workspace
	objects   map[schema.GroupVersionResource]map[types.NamespacedName]localObject
	// shown caches the objects of a resource in order; a resource that has changed is left out.
	shown  map[schema.GroupVersionResource][]any
	events []LocalEvent
	// due is set once something has changed since the last pass began, or a pass over another workspace has asked for one.
	due bool
}

// localServer holds the workspaces that one controller decides.
type localServer struct {
	pace     Pace
	table    *workload.Table
	policies *policy.Compiler
	now      func() time.Time

	workspaces map[logicalcluster.Name]*Local
	kinds      []watchedKind
	beats      heartbeats
	version    int
	engine     *engine.Engine
	metrics    *metrics
	fleets     *fleets
}

// localObject is an object as a server has it, and as an informer shows it.
type localObject struct {
	stored *unstructured.Unstructured
	shown  any
}

// LocalEvent is an event that a pass has recorded.
type LocalEvent struct {
	At time.Time
	// About is for example "Deployment default/web".
	About, Type, Reason, Message string
}

// localResources are the API resources that a Local has besides those of workloads, by kind.
var localResources = map[schema.GroupKind]schema.GroupVersionResource{
	{Group: v1alpha1.GroupName, Kind: "ClusterRegistration"}: clusterResource,
	{Group: v1alpha1.GroupName, Kind: "ClusterUsage"}:        usageResource,
	{Group: v1alpha1.GroupName, Kind: "ClusterScore"}:        scoreResource,
	{Group: v1alpha1.GroupName, Kind: "PlacementConfig"}:     configResource,
	{Group: v1alpha1.GroupName, Kind: "WorkloadPlacement"}:   placementResource,
	{Group: v1alpha1.GroupName, Kind: "PlacementDecision"}:   decisionResource,
	{Group: v1alpha1.GroupName, Kind: "RebalancePlan"}:       planResource,
	{Group: v1alpha1.GroupName, Kind: "ClusterSet"}:          setResource,
	{Group: v1alpha1.GroupName, Kind: "ClusterSetBinding"}:   setBindingResource,
	{Kind: "ConfigMap"}:                              configMapResource,
	{Kind: "LimitRange"}:                             limitRangeResource,
	{Group: coordinationv1.GroupName, Kind: "Lease"}: leaseResource,
}

// NewLocal makes a workspace without objects. All workload kinds in the table are placed.
func NewLocal(name logicalcluster.Name, pace Pace, table *workload.Table, now func() time.Time) (*Local, error) {
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		return nil, err
	}
	s := &localServer{pace: pace, table: table, policies: policies, now: now, workspaces: map[logicalcluster.Name]*Local{}, beats: heartbeats{heard: map[clusterKey]heartbeat{}}}
	for _, d := range table.All() {
		for _, version := range d.Versions {
			s.kinds = append(s.kinds, watchedKinds(table, []schema.GroupVersionResource{{Group: d.Group, Version: version, Resource: d.Resource}})...)
		}
	}
	if err := s.Restart(); err != nil {
		return nil, err
	}
	return s.Workspace(name), nil
}

// Workspace returns another workspace that the same controller decides, empty if it is new. A reference to a workspace by path means the
// workspace whose name is that path.
func (s *localServer) Workspace(name logicalcluster.Name) *Local {
	l := s.workspaces[name]
	if l == nil {
		l = &Local{localServer: s, name: name, objects: map[schema.GroupVersionResource]map[types.NamespacedName]localObject{}, shown: map[schema.GroupVersionResource][]any{}}
		s.workspaces[name] = l
		l.begin(nil)
	}
	return l
}

// Due lists the workspaces over which a pass is due, because something has changed there or a pass over another one has asked for it,
// ordered by name.
func (s *localServer) Due() (due []*Local) {
	for _, name := range slices.Sorted(maps.Keys(s.workspaces)) {
		if l := s.workspaces[name]; l.due {
			due = append(due, l)
		}
	}
	return due
}

// Restart makes a new controller continue with the objects of all workspaces as they are.
func (s *localServer) Restart() (err error) {
	if s.engine, err = engine.New(engine.Options{Policies: s.policies, NotReadyDelay: s.pace.NotReadyDelay}); err != nil {
		return err
	}
	if s.metrics, err = newMetrics(prometheus.NewRegistry()); err != nil {
		return err
	}
	s.beats.heard = map[clusterKey]heartbeat{}
	s.fleets = newFleets()
	s.fleets.wake = func(name logicalcluster.Name) {
		if l := s.workspaces[name]; l != nil {
			l.due = true
		}
	}
	s.fleets.gone = func(_ context.Context, of logicalcluster.Name, placement types.NamespacedName) (bool, error) {
		l := s.workspaces[of]
		return l == nil || placement.Name != "" && l.objects[placementResource][placement].stored == nil, nil
	}
	s.fleets.at = func(_ logicalcluster.Name, path string) (logicalcluster.Name, error) {
		return logicalcluster.Name(path), nil
	}
	for _, l := range s.workspaces {
		l.begin(nil)
	}
	return nil
}

// begin makes the controller follow the workspace, which uses the clusters of host, unless that is nil.
func (l *Local) begin(host *fleet) {
	config := Config{Pace: l.pace, BatchSize: DefaultBatchSize, BatchTimeout: DefaultBatchTimeout}
	l.workspace = newWorkspace(l.name, l.engine, l.policies, l.metrics, config.limits(), l.actions())
	l.workspace.now, l.workspace.table, l.workspace.fleets = l.now, l.table, l.fleets
	for _, lease := range l.objects[leaseResource] {
		l.beats.hear(unwrap(lease.shown).(*coordinationv1.Lease), l.now())
	}
	l.workspace.fleet.kept = l.kept
	if l.fleets.add(l.workspace.fleet); host != nil {
		l.fleets.attach(l.workspace, host)
	}
}

// kept returns the slices that the workspace keeps for another one.
func (l *Local) kept(of logicalcluster.Name) []*v1alpha1.PlacementDecision {
	return keptFor(of, as[*v1alpha1.PlacementDecision](l.show(decisionResource), map[types.UID]decode.Problems{}))
}

// Pass makes one pass. again reports that another is due at once; otherwise wake is when one is due though nothing changes, the zero
// time if never.
func (l *Local) Pass(ctx context.Context) (again bool, wake time.Time, err error) {
	l.due = false
	r := l.workspace.reconcile(klog.NewContext(ctx, klog.Logger{}), l.follow())
	if r.after > 0 {
		wake = l.now().Add(r.after)
	}
	return r.again, wake, errors.Join(r.errs...)
}

// follow attaches the workspace to the clusters that its objects make it use, and returns its view.
func (l *Local) follow() cacheView {
	view := l.view()
	host, grants := l.fleets.fleetFor(l.name, &view, l.workspace)
	if l.workspace.host != host {
		l.fleets.forget(l.workspace)
		l.engine.Forget(l.name)
		host, grants = l.fleets.fleetFor(l.name, &view, nil)
		l.begin(host)
	}
	if host != nil {
		view.showHost(host, l.name, grants)
	}
	return view
}

func (l *Local) view() cacheView {
	view := cacheView{unreadable: map[types.UID]decode.Problems{}, visibility: visibility{kinds: l.kinds}, limitRangesRead: true}
	for _, resource := range slices.SortedFunc(maps.Keys(l.objects), compareResources) {
		view.show(resource, l.show(resource))
	}
	view.heard = l.beats.of(l.name, view.clusters)
	return view
}

// show returns the objects of a resource as an informer shows them, ordered by namespace and name.
func (l *Local) show(resource schema.GroupVersionResource) []any {
	if shown, current := l.shown[resource]; current {
		return shown
	}
	shown := make([]any, 0, len(l.objects[resource]))
	for _, name := range slices.SortedFunc(maps.Keys(l.objects[resource]), compareNames) {
		shown = append(shown, l.objects[resource][name].shown)
	}
	l.shown[resource] = shown
	return shown
}

func compareResources(a, b schema.GroupVersionResource) int {
	return strings.Compare(a.String(), b.String())
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// Objects returns all objects, each kind ordered by namespace and name. The caller must not change them.
func (l *Local) Objects() (all []*unstructured.Unstructured) {
	for _, resource := range slices.SortedFunc(maps.Keys(l.objects), compareResources) {
		for _, name := range slices.SortedFunc(maps.Keys(l.objects[resource]), compareNames) {
			all = append(all, l.objects[resource][name].stored)
		}
	}
	return all
}

// Decisions returns the stored decisions on workloads.
func (l *Local) Decisions() map[workload.Reference]v1alpha1.WorkloadDecision {
	decisions := map[workload.Reference]v1alpha1.WorkloadDecision{}
	for _, slice := range as[*v1alpha1.PlacementDecision](l.show(decisionResource), map[types.UID]decode.Problems{}) {
		for _, d := range slice.Decisions {
			decisions[workload.Reference{
				APIVersion: d.Workload.APIVersion, Kind: d.Workload.Kind, Namespace: slice.Namespace, Name: d.Workload.Name, UID: string(d.Workload.UID),
			}] = d
		}
	}
	return decisions
}

// Events returns the events recorded since the last call.
func (l *Local) Events() []LocalEvent {
	events := l.events
	l.events = nil
	return events
}

// Put creates or replaces an object as an API server would, but defaults only its metadata. An object without a status keeps its
// existing status.
func (l *Local) Put(object *unstructured.Unstructured) error {
	resource, err := l.resourceOf(object)
	if err != nil {
		return err
	}
	u := object.DeepCopy()
	before, found := l.objects[resource][namespacedName(u)]
	if found {
		u.SetUID(before.stored.GetUID())
		u.SetCreationTimestamp(before.stored.GetCreationTimestamp())
		u.SetGeneration(before.stored.GetGeneration())
		if status, has := before.stored.Object["status"]; has && u.Object["status"] == nil {
			u.Object["status"] = status
		}
		if !equality.Semantic.DeepEqual(u.Object["spec"], before.stored.Object["spec"]) {
			u.SetGeneration(before.stored.GetGeneration() + 1)
		}
	} else {
		if u.GetUID() == "" {
			u.SetUID(types.UID(fmt.Sprintf("%s-%d", u.GetName(), l.version+1)))
		}
		if created := u.GetCreationTimestamp(); created.IsZero() {
			u.SetCreationTimestamp(metav1.NewTime(l.now()))
		}
		u.SetGeneration(1)
	}
	l.store(resource, u)
	return nil
}

// Delete deletes an object. It fails if there is none.
func (l *Local) Delete(object *unstructured.Unstructured) error {
	resource, err := l.resourceOf(object)
	if err != nil {
		return err
	}
	return l.remove(resource, namespacedName(object))
}

func (l *Local) resourceOf(object *unstructured.Unstructured) (schema.GroupVersionResource, error) {
	kind := object.GroupVersionKind()
	if resource, found := localResources[kind.GroupKind()]; found {
		return resource, nil
	}
	d, err := l.table.Find(object.GetAPIVersion(), object.GetKind())
	if err != nil {
		return schema.GroupVersionResource{}, err
	}
	return schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: d.Resource}, nil
}

func (l *Local) store(resource schema.GroupVersionResource, u *unstructured.Unstructured) *unstructured.Unstructured {
	l.version++
	u.SetResourceVersion(strconv.Itoa(l.version))
	if l.objects[resource] == nil {
		l.objects[resource] = map[types.NamespacedName]localObject{}
	}
	inWorkspace := u.DeepCopy()
	inWorkspace.SetAnnotations(labels.Merge(u.GetAnnotations(), labels.Set{logicalcluster.AnnotationKey: l.name.String()}))
	shown, _ := transform(resource, l.table, false)(inWorkspace) // never fails
	l.objects[resource][namespacedName(u)] = localObject{u, shown}
	delete(l.shown, resource)
	l.changed(shown)
	if lease, ok := unwrap(shown).(*coordinationv1.Lease); ok {
		l.beats.hear(lease, l.now())
	}
	return u
}

// changed makes a pass due over the workspace that a change concerns.
func (l *Local) changed(shown any) {
	concerned := l
	if d, ok := unwrap(shown).(*v1alpha1.PlacementDecision); ok && d.Source != nil {
		if of := logicalcluster.Name(d.Source.Workspace); l.fleets.hasGuest(l.name, of) {
			concerned = l.workspaces[of]
		}
	}
	concerned.due = true
}

func (l *Local) remove(resource schema.GroupVersionResource, name types.NamespacedName) error {
	if _, found := l.objects[resource][name]; !found {
		return apierrors.NewNotFound(resource.GroupResource(), name.Name)
	}
	l.changed(l.objects[resource][name].shown)
	delete(l.objects[resource], name)
	delete(l.shown, resource)
	if resource == leaseResource {
		l.beats.forget(clusterKey{l.name, name.Name})
	}
	return nil
}

// write replaces an object, or the field of it at a path, if it still has the version that its writer has read. An object without a
// version is created.
func (l *Local) write(resource schema.GroupVersionResource, object runtime.Object, kind string, path ...string) (*unstructured.Unstructured, error) {
	u, err := toUnstructured(object, kind)
	if err != nil {
		return nil, err
	}
	before, found := l.objects[resource][namespacedName(u)]
	switch version := u.GetResourceVersion(); {
	case version == "" && found:
		return nil, apierrors.NewAlreadyExists(resource.GroupResource(), u.GetName())
	case version == "":
		u.SetUID(types.UID(fmt.Sprintf("%s-%d", u.GetName(), l.version+1)))
		u.SetCreationTimestamp(metav1.NewTime(l.now()))
	case !found || before.stored.GetResourceVersion() != version:
		return nil, apierrors.NewConflict(resource.GroupResource(), u.GetName(), errors.New("the object has been modified"))
	}
	if len(path) > 0 {
		field, _, err := unstructured.NestedFieldNoCopy(u.Object, path...)
		if err != nil {
			return nil, err
		}
		u = before.stored.DeepCopy()
		if err := unstructured.SetNestedField(u.Object, field, path...); err != nil {
			return nil, err
		}
	}
	return l.store(resource, u), nil
}

// actions returns the in-memory counterparts of an endpoint's actions.
func (l *Local) actions() actions {
	return actions{
		listDecisions: func(context.Context) ([]*v1alpha1.PlacementDecision, error) {
			return as[*v1alpha1.PlacementDecision](l.show(decisionResource), map[types.UID]decode.Problems{}), nil
		},
		listKept: func(context.Context, logicalcluster.Name) ([]*v1alpha1.PlacementDecision, error) {
			return as[*v1alpha1.PlacementDecision](l.show(decisionResource), map[types.UID]decode.Problems{}), nil
		},
		writeDecision: func(_ context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
			u, err := l.write(decisionResource, d, "PlacementDecision")
			if err != nil {
				return nil, err
			}
			return written[v1alpha1.PlacementDecision](u), nil
		},
		deleteDecision: func(_ context.Context, d *v1alpha1.PlacementDecision) error {
			return l.remove(decisionResource, namespacedName(d))
		},
		makeNamespace: func(context.Context, string) error { return nil }, // every namespace exists
		writeStatus: func(_ context.Context, p *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error) {
			u, err := l.write(placementResource, p, "WorkloadPlacement", "status")
			if err != nil {
				return nil, err
			}
			return written[v1alpha1.WorkloadPlacement](u), nil
		},
		writeConfig: func(_ context.Context, c *v1alpha1.PlacementConfig) (*v1alpha1.PlacementConfig, error) {
			u, err := l.write(configResource, c, "PlacementConfig", "status")
			if err != nil {
				return nil, err
			}
			return written[v1alpha1.PlacementConfig](u), nil
		},
		writeSet: func(_ context.Context, s *v1alpha1.ClusterSet) (*v1alpha1.ClusterSet, error) {
			u, err := l.write(setResource, s, "ClusterSet", "status")
			if err != nil {
				return nil, err
			}
			return written[v1alpha1.ClusterSet](u), nil
		},
		writeSetBinding: func(_ context.Context, b *v1alpha1.ClusterSetBinding) (*v1alpha1.ClusterSetBinding, error) {
			u, err := l.write(setBindingResource, b, "ClusterSetBinding", "status")
			if err != nil {
				return nil, err
			}
			return written[v1alpha1.ClusterSetBinding](u), nil
		},
		writePlan: func(_ context.Context, p *v1alpha1.RebalancePlan) (*v1alpha1.RebalancePlan, error) {
			u, err := l.write(planResource, p, "RebalancePlan", "status")
			if err != nil {
				return nil, err
			}
			return written[v1alpha1.RebalancePlan](u), nil
		},
		writeConditions: func(_ context.Context, r *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
			u, err := l.write(clusterResource, r, "ClusterRegistration", "status")
			if err != nil {
				return nil, err
			}
			return written[v1alpha1.ClusterRegistration](u), nil
		},
		liveUIDs: func(_ context.Context, resource schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]types.UID, error) {
			there := map[types.NamespacedName]types.UID{}
			for name, o := range l.objects[resource] {
				if names == nil || slices.Contains(names, name) {
					there[name] = o.stored.GetUID()
				}
			}
			return there, nil
		},
		stillBound: func(context.Context, *apisv1alpha2.APIBinding) (bool, error) { return true, nil },
		readHeartbeat: func(_ context.Context, cluster string) (heartbeat, bool, error) {
			beat, found := l.beats.get(clusterKey{l.name, cluster})
			return beat, found, nil
		},
		annotate: func(_ context.Context, configMap *corev1.ConfigMap, key, value string) error {
			before, found := l.objects[configMapResource][namespacedName(configMap)]
			if !found {
				return nil
			}
			annotated := before.stored.DeepCopy()
			if err := unstructured.SetNestedField(annotated.Object, value, "metadata", "annotations", key); err != nil {
				return err
			}
			l.store(configMapResource, annotated)
			return nil
		},
		event: func(about runtime.Object, kind, reason, message string) {
			name := about.GetObjectKind().GroupVersionKind().Kind + " "
			if o, ok := about.(metav1.Object); ok {
				name += strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/")
			}
			l.events = append(l.events, LocalEvent{l.now(), name, kind, reason, message})
		},
	}
}
