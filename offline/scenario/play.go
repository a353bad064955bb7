package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	yamlv3 "go.yaml.in/yaml/v3"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/offline/manifest"
)

// beginning is the time of stories that do not give one: a Thursday.
var beginning = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Bounds of what a controller may do in vain, far beyond what it does in any story.
const (
	maxPasses  = 1000
	maxWakeUps = 100_000
)

// player plays a story.
type player struct {
	*Scenario
	world *controller.Local
	now   time.Time
	// wake is when the controller makes a pass though nothing changes, the zero time if it does not.
	wake time.Time
	// agents are those of the registered clusters by name.
	agents map[string]*agent
	// decisions are the latest, and moves how often each workload has lost a cluster.
	decisions map[string]decided
	moves     map[string]int
	// events are those since the step before.
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

// play plays the story and returns the expectations that are not met. It fails where the story itself is wrong, or ctx ends.
func (s *Scenario) play(ctx context.Context) ([]Failure, error) {
	start := s.story.start
	p := &player{Scenario: s, now: start, wake: start, agents: map[string]*agent{}, moves: map[string]int{}}
	var err error
	if p.world, err = controller.NewLocal(manifest.DefaultWorkspace, s.story.pace, workload.Kinds(), func() time.Time { return p.now }); err != nil {
		return nil, err
	}
	if err := p.apply(s.files); err != nil {
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

// at says which step it is, and when.
func (p *player) at(step *Step) string {
	return strings.TrimSuffix(fmt.Sprintf("%s:%d at %s: %s", stepsFile, step.node.Line, p.now.Sub(p.story.start), step.Title), ": ")
}

func (p *player) step(ctx context.Context, step *Step) error {
	until := p.now
	switch {
	case step.after != nil:
		until = until.Add(*step.after)
	case step.at != nil:
		if until = p.story.start.Add(*step.at); until.Before(p.now) {
			return fmt.Errorf("the step is at %s, and the one before at %s", *step.at, p.now.Sub(p.story.start))
		}
	}
	if err := p.advance(ctx, until); err != nil {
		return err
	}
	if err := p.act(step); err != nil {
		return err
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	before := len(p.failures)
	if p.check(step); len(p.failures) > before {
		p.failures[len(p.failures)-1].Log = p.log()
	}
	p.events = nil
	return nil
}

// advance goes from one time at which the controller wakes up to the next, and on to the time of a step.
func (p *player) advance(ctx context.Context, until time.Time) error {
	for range maxWakeUps {
		if p.wake.IsZero() || p.wake.After(until) {
			p.now = until
			return p.beat()
		}
		if p.wake.After(p.now) {
			p.now = p.wake
		}
		if err := p.settle(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("the controller has woken up %d times and would go on", maxWakeUps)
}

// settle has the agents report, and the controller make passes until none is due.
func (p *player) settle(ctx context.Context) error {
	if err := p.beat(); err != nil {
		return err
	}
	for range maxPasses {
		again, wake, err := p.world.Pass(ctx)
		if err != nil {
			return err
		}
		p.countMoves()
		p.events = append(p.events, p.world.Events()...)
		if !again {
			p.wake = wake
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("the controller has made %d passes and would go on", maxPasses)
}

// beat renews the Leases of the clusters that are not silent.
func (p *player) beat() error {
	for _, name := range slices.Sorted(maps.Keys(p.agents)) {
		if p.agents[name].silent {
			continue
		}
		lease := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
			"metadata": map[string]any{"namespace": v1alpha1.AgentNamespace, "name": name, "labels": map[string]any{v1alpha1.LabelHeartbeat: "true"}},
			"spec":     map[string]any{"holderIdentity": name, "renewTime": p.now.Format("2006-01-02T15:04:05.000000Z07:00")},
		}}
		if err := p.world.Put(lease); err != nil {
			return err
		}
	}
	return nil
}

// countMoves counts the workloads that have lost a cluster in a pass.
func (p *player) countMoves() {
	after := map[string]decided{}
	for ref, d := range p.world.Decisions() {
		ref.APIVersion, ref.UID = "", ""
		one := decided{uid: string(d.Workload.UID), group: d.Group, clusters: map[string]int64{}}
		for _, c := range d.Clusters {
			one.clusters[c.Name] = int64(c.Replicas)
		}
		after[ref.String()] = one
	}
	for name, before := range p.decisions {
		now, uid := after[name], ""
		if o := p.object(name); o != nil {
			uid = string(o.GetUID())
		}
		for cluster := range before.clusters {
			if _, still := now.clusters[cluster]; !still && uid == before.uid {
				p.moves[name]++
				break
			}
		}
	}
	p.decisions = after
}

// object returns an object by its name, such as "ClusterRegistration eu"; nil where there is none.
func (p *player) object(name string) *unstructured.Unstructured {
	for _, o := range p.world.Objects() {
		if nameOf(o) == name {
			return o
		}
	}
	return nil
}

func nameOf(o *unstructured.Unstructured) string { return (&manifest.Object{Unstructured: o}).String() }

// named is object for a name that a step has.
func (p *player) named(name string) (*unstructured.Unstructured, error) {
	if o := p.object(name); o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("there is no %s: an object is named by its kind, namespace and name, as in Deployment default/web or ClusterRegistration eu", name)
}

// act does what a step does.
func (p *player) act(step *Step) error {
	for i, applied := range step.Apply {
		if err := p.applyStep(step, i, applied); err != nil {
			return fmt.Errorf("apply[%d]: %w", i, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(step.Patch)) {
		if err := p.patch(name, step.Patch[name]); err != nil {
			return fmt.Errorf("patch: %s: %w", name, err)
		}
	}
	for _, name := range step.Delete {
		if err := p.delete(name); err != nil {
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
		if err := p.report(name); err != nil {
			return fmt.Errorf("reports: %w", err)
		}
	}
	if step.Restart {
		return p.world.Restart()
	}
	return nil
}

func (p *player) applyStep(step *Step, i int, applied json.RawMessage) error {
	var name string
	if json.Unmarshal(applied, &name) != nil {
		return p.apply([]*manifest.File{{Name: fmt.Sprintf("%s/%s, line %d, apply[%d]", p.File, stepsFile, step.node.Line, i), Text: string(applied)}})
	}
	return p.apply(p.later[name])
}

// apply creates or replaces the objects of files, with the defaults that the server sets.
func (p *player) apply(files []*manifest.File) error {
	var objects []*manifest.File
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".rego") {
			objects = append(objects, f)
		} else if !policy.IsSuite(f.Name) {
			if err := p.world.Put(policyMap(f)); err != nil {
				return err
			}
		}
	}
	workspaces, wrong := manifest.Read(objects)
	return p.put(workspaces, wrong)
}

func (p *player) put(workspaces []*manifest.Workspace, wrong []*manifest.Error) error {
	if len(wrong) > 0 {
		return manifest.Join(wrong)
	}
	for _, w := range workspaces {
		if w.Name != manifest.DefaultWorkspace {
			return fmt.Errorf("a story is about one workspace: leave out the annotation kcp.io/cluster %s", w.Name)
		}
		for _, o := range w.Objects() {
			if o.GetKind() == "ClusterRegistration" {
				if err := p.connect(o.Unstructured); err != nil {
					return err
				}
			}
			if err := p.world.Put(o.Unstructured); err != nil {
				return fmt.Errorf("%s: %w", o, err)
			}
		}
	}
	return nil
}

// policyMap is the ConfigMap of a Rego file.
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
	name := registration.GetName()
	if p.agents[name] == nil {
		p.agents[name] = &agent{}
	}
	p.agents[name].ready = readyOf(registration)
	return unstructured.SetNestedField(registration.Object, name, "status", "clusterUID")
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

// report has an agent report again, its Ready condition included.
func (p *player) report(name string) error {
	a := p.agents[name]
	if a == nil {
		return fmt.Errorf("there is no ClusterRegistration %s", name)
	}
	a.silent = false
	registration := p.object("ClusterRegistration " + name).DeepCopy()
	conditions, _, _ := unstructured.NestedSlice(registration.Object, "status", "conditions")
	conditions = slices.DeleteFunc(conditions, isReady)
	if a.ready != nil {
		conditions = append(conditions, runtime.DeepCopyJSONValue(a.ready))
	}
	if err := unstructured.SetNestedSlice(registration.Object, conditions, "status", "conditions"); err != nil {
		return err
	}
	return p.world.Put(registration)
}

func (p *player) patch(name string, patch json.RawMessage) error {
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
	w, wrong := manifest.Reader{Kinds: workload.Kinds()}.FromObjects(manifest.DefaultWorkspace, []*unstructured.Unstructured{after})
	return p.put([]*manifest.Workspace{w}, wrong)
}

func (p *player) delete(name string) error {
	o, err := p.named(name)
	if err != nil {
		return err
	}
	if o.GetKind() == "ClusterRegistration" {
		delete(p.agents, o.GetName())
	}
	return p.world.Delete(o)
}

// check compares what is expected with what is.
func (p *player) check(step *Step) {
	differ := func(about, what string, at *yamlv3.Node, expected, actual any) {
		if !reflect.DeepEqual(expected, actual) {
			p.failures = append(p.failures, Failure{
				Step: p.at(step), Workload: about, What: what, Expected: plain(expected), Actual: plain(actual), node: at, value: actual,
			})
		}
	}
	expect := field(step.node, "expect")
	if expect != nil && expect.Tag == "!!null" {
		differ("", "expect", expect, "nothing yet", p.placed())
	}
	for _, name := range slices.Sorted(maps.Keys(step.Expect)) {
		o := p.object(name)
		if o == nil {
			differ(name, "object", nil, name, "there is no such object")
			continue
		}
		e, d, node := step.Expect[name], p.decisions[name], field(expect, name)
		if e.Clusters != nil {
			differ(name, "clusters", field(node, "clusters"), inOrder(slices.Values(*e.Clusters)), inOrder(maps.Keys(d.clusters)))
		}
		if e.Replicas != nil {
			differ(name, "replicas", field(node, "replicas"), e.Replicas, d.clusters)
		}
		if e.Group != "" {
			differ(name, "group", field(node, "group"), e.Group, d.group)
		}
		if e.Moves != nil {
			differ(name, "moves", field(node, "moves"), *e.Moves, p.moves[name])
		}
		for _, kind := range slices.Sorted(maps.Keys(e.Conditions)) {
			if actual := condition(o, kind); !meets(e.Conditions[kind], actual) {
				differ(name, "condition "+kind, field(field(node, "conditions"), kind), e.Conditions[kind], actual)
			}
		}
		if e.Status != nil {
			differ(name, "status", field(node, "status"), any(e.Status), asked(e.Status, asJSON(o.Object["status"])))
		}
	}
	if step.Placed != nil {
		placed := map[string]int{}
		for cluster := range step.Placed {
			placed[cluster] = 0
		}
		for _, d := range p.decisions {
			for cluster := range d.clusters {
				if _, named := placed[cluster]; named {
					placed[cluster]++
				}
			}
		}
		differ("", "placed", field(step.node, "placed"), step.Placed, placed)
	}
	if step.Waiting != nil {
		differ("", "waiting", field(step.node, "waiting"), *step.Waiting, p.waiting())
	}
	if step.Moves != nil {
		moves := 0
		for _, n := range p.moves {
			moves += n
		}
		differ("", "moves", field(step.node, "moves"), *step.Moves, moves)
	}
	p.checkEvents(step, differ)
}

// placed is what could be expected of the workloads.
func (p *player) placed() map[string]any {
	placed := map[string]any{}
	for _, o := range p.workloads() {
		placed[nameOf(o)] = map[string]any{"clusters": inOrder(maps.Keys(p.decisions[nameOf(o)].clusters))}
	}
	return placed
}

func inOrder(names iter.Seq[string]) []string { return append([]string{}, slices.Sorted(names)...) }

// workloads returns the objects of the kinds that are placed.
func (p *player) workloads() []*unstructured.Unstructured {
	return slices.DeleteFunc(p.world.Objects(), func(o *unstructured.Unstructured) bool {
		_, err := workload.Kinds().Find(o.GetAPIVersion(), o.GetKind())
		return err != nil
	})
}

// updateSteps returns the text of the scenario with what is in place of what was expected in its steps.
func (s *Scenario) updateSteps(ctx context.Context) (string, error) {
	failures, err := s.play(ctx)
	if err != nil {
		return "", err
	}
	for _, f := range failures {
		if f.node == nil {
			continue // only the author can resolve it
		}
		if err := replace(f.node, f.value); err != nil {
			return "", err
		}
	}
	text, err := format(&s.story.document)
	if err != nil {
		return "", err
	}
	if strings.Contains(s.text(stepsFile), "\n\n- ") { // blank lines are lost between steps
		text = []byte(strings.ReplaceAll(string(text), "\n- ", "\n\n- "))
	}
	return s.with(stepsFile, text), nil
}

// plain is a text as it is, and another value on one line.
func plain(value any) string {
	if text, isText := value.(string); isText {
		return text
	}
	return inline(value)
}

// waiting counts the workloads without a decision.
func (p *player) waiting() (n int) {
	for _, o := range p.workloads() {
		if _, placed := p.decisions[nameOf(o)]; !placed {
			n++
		}
	}
	return n
}

func (p *player) checkEvents(step *Step, differ func(about, what string, at *yamlv3.Node, expected, actual any)) {
	if step.Events == nil {
		return
	}
	actual := []string{}
	for _, e := range p.events {
		actual = append(actual, fmt.Sprintf("%s %s: %s", e.About, e.Reason, e.Message))
	}
	if len(*step.Events) == 0 {
		differ("", "events", field(step.node, "events"), *step.Events, actual)
	}
	for _, expected := range *step.Events {
		if !slices.ContainsFunc(actual, func(e string) bool { return meets(expected, e) }) {
			differ("", "events", nil, expected, actual)
		}
	}
}

// condition is for example "False WorkloadsWaiting: 2 of 3 workloads wait".
func condition(o *unstructured.Unstructured, kind string) string {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		c, ok := c.(map[string]any)
		if !ok || c["type"] != kind {
			continue
		}
		text := fmt.Sprint(c["status"])
		if reason, _ := c["reason"].(string); reason != "" {
			text += " " + reason
		}
		if message, _ := c["message"].(string); message != "" {
			text += ": " + message
		}
		return text
	}
	return "none"
}

// meets reports whether a text such as "False Reason: message" begins as is expected, and its message has the expected part.
func meets(expected, actual string) bool {
	head, part, _ := strings.Cut(expected, ": ")
	actualHead, message, _ := strings.Cut(actual, ": ")
	return (actualHead == head || strings.HasPrefix(actualHead, head+" ")) && strings.Contains(message, part)
}

// asked returns the fields of an actual value that the expected one has.
func asked(expected, actual any) any {
	fields, isMap := expected.(map[string]any)
	has, same := actual.(map[string]any)
	if !isMap || !same {
		return actual
	}
	of := map[string]any{}
	for name, value := range fields {
		if found, has := has[name]; has {
			of[name] = asked(value, found)
		}
	}
	return of
}

// asJSON is a value as JSON has it, where all numbers are alike.
func asJSON(value any) (same any) {
	if text, err := json.Marshal(value); err != nil || json.Unmarshal(text, &same) != nil {
		return value
	}
	return same
}

// log tells what has happened since the step before.
func (p *player) log() (lines []string) {
	for _, e := range p.events {
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", e.At.Sub(p.story.start), e.About, e.Reason, e.Message))
	}
	return lines
}
