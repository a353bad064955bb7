package scenario

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/offline/manifest"
)

// beginning is the time of stories that do not set one: a Thursday.
var beginning = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// World is where a story is played: workspaces, and a controller that follows them. The annotation kcp.io/cluster of an object names its
// workspace if that is not the one that the story is about.
type World interface {
	// Put creates or replaces an object including its status, and Delete deletes one.
	Put(ctx context.Context, object *unstructured.Unstructured) error
	Delete(ctx context.Context, object *unstructured.Unstructured) error
	// Objects returns all objects that steps can name, including PlacementDecisions. The caller must not modify them.
	Objects(ctx context.Context) ([]*unstructured.Unstructured, error)
	// Restart makes another controller take over.
	Restart(ctx context.Context) error
	// Advance lets time pass until a time of the story. Before the controller acts on a possible change it calls beat, in which agents
	// report, and after that it calls seen.
	Advance(ctx context.Context, until time.Time, beat, seen func() error) error
	// Now returns the time of the story.
	Now() time.Time
	// Events returns the events since the last call.
	Events() []controller.LocalEvent
	// Patience is how long the controller may take to do what is expected; 0 if it has done so when Advance returns.
	Patience() time.Duration
}

// player plays a story.
type player struct {
	*Scenario
	World
	// began is when the story began.
	began time.Time
	// agents are the agents of registered clusters, by cluster name, prefixed by the workspace if that is another one.
	agents map[string]*agent
	// objects by name, and decisions, as last seen.
	objects   map[string]*unstructured.Unstructured
	decisions map[string]decided
	// moves is how often each workload has lost a cluster.
	moves map[string]int
	// events are those since the previous step.
	events   []controller.LocalEvent
	failures []Failure
}

// agent reports for a cluster.
type agent struct {
	silent bool
	// ready is the condition that it reports, nil if it reports none.
	ready any
}

// decided is the decision on a workload.
type decided struct {
	uid      string
	clusters map[string]int64 // with their replicas
	group    string
}

// Play plays a scenario over time and returns the expectations that are not met. It fails if the story itself is invalid, or ctx
// ends.
func (s *Scenario) Play(ctx context.Context, world World) ([]Failure, error) {
	p := &player{Scenario: s, World: world, began: world.Now(), agents: map[string]*agent{}, moves: map[string]int{}}
	if err := p.apply(ctx, s.files); err != nil {
		return nil, err
	}
	if err := p.play(ctx, s.story.steps); err != nil {
		return nil, fmt.Errorf("%s: %w", s.File, err)
	}
	return p.failures, nil
}

func (p *player) play(ctx context.Context, steps []*Step) error {
	for _, step := range steps {
		if err := p.step(ctx, step); err != nil {
			return fmt.Errorf("%s: %w", p.at(step), err)
		}
		for range step.Repeat {
			if err := p.play(ctx, step.Steps); err != nil {
				return err
			}
		}
	}
	return nil
}

// at returns which step it is, and when.
func (p *player) at(step *Step) string {
	return strings.TrimSuffix(fmt.Sprintf("%s:%d at %s: %s", stepsFile, step.node.Line, p.Now().Sub(p.began), step.Title), ": ")
}

func (p *player) step(ctx context.Context, step *Step) error {
	until := p.Now()
	switch {
	case step.after != nil:
		until = until.Add(*step.after)
	case step.at != nil:
		if until = p.began.Add(*step.at); until.Before(p.Now()) && p.Patience() == 0 {
			return fmt.Errorf("the step is at %s, and the one before at %s", *step.at, p.Now().Sub(p.began))
		}
	}
	beat, seen := func() error { return p.beat(ctx) }, func() error { return p.see(ctx) }
	if err := p.Advance(ctx, until, beat, seen); err != nil {
		return err
	}
	if err := p.act(ctx, step); err != nil {
		return err
	}
	deadline := time.Now().Add(p.Patience())
	for {
		if err := p.Advance(ctx, p.Now(), beat, seen); err != nil {
			return err
		}
		failures := p.check(step)
		if len(failures) == 0 || !time.Now().Before(deadline) {
			p.failures, p.events = append(p.failures, failures...), nil
			return nil
		}
	}
}

// beat renews the Leases of the clusters that are not silent.
func (p *player) beat(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(p.agents)) {
		if p.agents[name].silent {
			continue
		}
		workspace, cluster := apart(name)
		lease := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
			"metadata": map[string]any{"namespace": v1alpha1.AgentNamespace, "name": cluster, "labels": map[string]any{v1alpha1.LabelHeartbeat: "true"}},
			"spec":     map[string]any{"holderIdentity": cluster, "renewTime": p.Now().Format("2006-01-02T15:04:05.000000Z07:00")},
		}}
		if workspace != "" {
			setWorkspace(lease, workspace)
		}
		if err := p.Put(ctx, lease); err != nil {
			return err
		}
	}
	return nil
}

// see reads the objects, and counts the workloads that have lost a cluster.
func (p *player) see(ctx context.Context) error {
	all, err := p.Objects(ctx)
	if err != nil {
		return err
	}
	p.events = append(p.events, p.Events()...)
	before := p.decisions
	p.objects, p.decisions = map[string]*unstructured.Unstructured{}, map[string]decided{}
	for _, o := range all {
		p.objects[nameOf(o)] = o
		if o.GetKind() == "PlacementDecision" {
			if err := p.readDecisions(o); err != nil {
				return err
			}
		}
	}
	for name, had := range before {
		uid := ""
		if o := p.objects[name]; o != nil {
			uid = string(o.GetUID())
		}
		for cluster := range had.clusters {
			if _, still := p.decisions[name].clusters[cluster]; !still && uid == had.uid {
				p.moves[name]++
				break
			}
		}
	}
	return nil
}

func (p *player) readDecisions(o *unstructured.Unstructured) error {
	var slice v1alpha1.PlacementDecision
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &slice); err != nil {
		return fmt.Errorf("%s: %w", nameOf(o), err)
	}
	workspace, namespace := workspaceOf(o), slice.Namespace
	switch {
	case slice.Annotations[v1alpha1.AnnotationCopyOf] != "":
		return nil // the original in the other workspace counts
	case slice.Source != nil:
		workspace, namespace = logicalcluster.Name(slice.Source.Workspace), slice.Source.Namespace
	}
	for _, d := range slice.Decisions {
		one := decided{uid: string(d.Workload.UID), group: d.Group, clusters: map[string]int64{}}
		for _, c := range d.Clusters {
			one.clusters[c.Name] = int64(c.Replicas)
		}
		p.decisions[within(workspace, workload.Reference{Kind: d.Workload.Kind, Namespace: namespace, Name: d.Workload.Name}.String())] = one
	}
	return nil
}

// nameOf returns the name of an object in steps: "Deployment default/web", prefixed by the workspace if that is another one, as in
// "root:teams:shop Deployment default/web".
func nameOf(o *unstructured.Unstructured) string {
	return within(workspaceOf(o), manifest.NewObject(o).String())
}

func workspaceOf(o *unstructured.Unstructured) logicalcluster.Name {
	return cmp.Or(logicalcluster.From(o), manifest.DefaultWorkspace)
}

func setWorkspace(o *unstructured.Unstructured, workspace logicalcluster.Name) {
	annotations := maps.Clone(o.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[logicalcluster.AnnotationKey] = workspace.String()
	o.SetAnnotations(annotations)
}

func within(workspace logicalcluster.Name, name string) string {
	if workspace == manifest.DefaultWorkspace {
		return name
	}
	return workspace.String() + " " + name
}

// apart splits the name of a cluster from that of its workspace, which is empty for the one that the story is about.
func apart(name string) (workspace logicalcluster.Name, cluster string) {
	if at := strings.LastIndexByte(name, ' '); at >= 0 {
		return logicalcluster.Name(name[:at]), name[at+1:]
	}
	return "", name
}

// named returns an object by its name in a step.
func (p *player) named(name string) (*unstructured.Unstructured, error) {
	if o := p.objects[name]; o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("there is no %s: an object is named by its kind, namespace and name, as in Deployment default/web or ClusterRegistration eu", name)
}

// act carries out a step.
func (p *player) act(ctx context.Context, step *Step) error {
	for i, applied := range step.Apply {
		if err := p.applyStep(ctx, step, i, applied); err != nil {
			return fmt.Errorf("apply[%d]: %w", i, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(step.Patch)) {
		if err := p.patch(ctx, name, step.Patch[name]); err != nil {
			return fmt.Errorf("patch: %s: %w", name, err)
		}
	}
	for _, name := range step.Delete {
		if err := p.delete(ctx, name); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	for _, name := range step.Silent {
		if p.agents[name] == nil {
			return fmt.Errorf("silent: there is no ClusterRegistration %s", name)
		}
		p.agents[name].silent = true
	}
	for _, name := range step.Reports {
		if err := p.report(ctx, name); err != nil {
			return fmt.Errorf("reports: %w", err)
		}
	}
	if step.Restart {
		return p.Restart(ctx)
	}
	return nil
}

func (p *player) applyStep(ctx context.Context, step *Step, i int, applied json.RawMessage) error {
	var name string
	if json.Unmarshal(applied, &name) != nil {
		return p.apply(ctx, []*manifest.File{{Name: fmt.Sprintf("%s/%s, line %d, apply[%d]", p.File, stepsFile, step.node.Line, i), Text: string(applied)}})
	}
	return p.apply(ctx, p.later[name])
}

// apply creates or replaces the objects of files, with the defaults that the server sets.
func (p *player) apply(ctx context.Context, files []*manifest.File) error {
	var objects []*manifest.File
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".rego") {
			objects = append(objects, f)
		} else if !policy.IsSuite(f.Name) {
			if err := p.Put(ctx, policyMap(f)); err != nil {
				return err
			}
		}
	}
	workspaces, wrong := manifest.Read(objects)
	return p.put(ctx, workspaces, wrong)
}

func (p *player) put(ctx context.Context, workspaces []*manifest.Workspace, wrong []*manifest.Error) error {
	if len(wrong) > 0 {
		return manifest.Join(wrong)
	}
	for _, w := range workspaces {
		for _, o := range w.Objects() {
			object := o.Unstructured().DeepCopy()
			if w.Name != manifest.DefaultWorkspace {
				setWorkspace(object, w.Name)
			}
			if o.GetKind() == "ClusterRegistration" {
				if err := p.connect(object); err != nil {
					return err
				}
			}
			if err := p.Put(ctx, object); err != nil {
				return fmt.Errorf("%s: %w", o, err)
			}
		}
	}
	return nil
}

// policyMap returns the ConfigMap for a Rego file.
func policyMap(f *manifest.File) *unstructured.Unstructured {
	base := path.Base(f.Name)
	name := strings.ToLower(strings.NewReplacer("_", "-", " ", "-").Replace(strings.TrimSuffix(base, ".rego")))
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{base: f.Text},
		"metadata": map[string]any{"namespace": "default", "name": name, "labels": map[string]any{v1alpha1.LabelPolicy: v1alpha1.PolicyRego}},
	}}
}

// connect gives a registered cluster an agent, which reports the Ready condition that the registration has.
func (p *player) connect(registration *unstructured.Unstructured) error {
	name := within(workspaceOf(registration), registration.GetName())
	if p.agents[name] == nil {
		p.agents[name] = &agent{}
	}
	p.agents[name].ready = readyOf(registration)
	return unstructured.SetNestedField(registration.Object, registration.GetName(), "status", "clusterUID")
}

func readyOf(registration *unstructured.Unstructured) any {
	conditions, _, _ := unstructured.NestedSlice(registration.Object, "status", "conditions")
	if i := slices.IndexFunc(conditions, isReady); i >= 0 {
		return conditions[i]
	}
	return nil
}

func isReady(condition any) bool {
	c, ok := condition.(map[string]any)
	return ok && c["type"] == string(v1alpha1.ReadyCondition)
}

// report makes an agent report again, including its Ready condition.
func (p *player) report(ctx context.Context, name string) error {
	a := p.agents[name]
	if a == nil {
		return fmt.Errorf("there is no ClusterRegistration %s", name)
	}
	a.silent = false
	workspace, cluster := apart(name)
	registration := p.objects[within(cmp.Or(workspace, manifest.DefaultWorkspace), "ClusterRegistration "+cluster)].DeepCopy()
	conditions, _, _ := unstructured.NestedSlice(registration.Object, "status", "conditions")
	conditions = slices.DeleteFunc(conditions, isReady)
	if a.ready != nil {
		conditions = append(conditions, runtime.DeepCopyJSONValue(a.ready))
	}
	if err := unstructured.SetNestedSlice(registration.Object, conditions, "status", "conditions"); err != nil {
		return err
	}
	return p.Put(ctx, registration)
}

func (p *player) patch(ctx context.Context, name string, patch json.RawMessage) error {
	before, err := p.named(name)
	if err != nil {
		return err
	}
	text, err := before.MarshalJSON()
	if err != nil {
		return err
	}
	if text, err = jsonpatch.MergePatch(text, patch); err != nil {
		return err
	}
	after := &unstructured.Unstructured{}
	if err := after.UnmarshalJSON(text); err != nil {
		return err
	}
	workspaces, wrong := manifest.Reader{Kinds: workload.Kinds()}.FromObjects(manifest.Live{Name: workspaceOf(after), Objects: []*unstructured.Unstructured{after}})
	return p.put(ctx, workspaces, wrong)
}

func (p *player) delete(ctx context.Context, name string) error {
	o, err := p.named(name)
	if err != nil {
		return err
	}
	if o.GetKind() == "ClusterRegistration" {
		delete(p.agents, within(workspaceOf(o), o.GetName()))
	}
	return p.Delete(ctx, o)
}
