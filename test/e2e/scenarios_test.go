package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	compiled "github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/test/internal/objects"
	"github.com/kcp-placement/placement/test/policies/scenarios"
)

// TestScenarios runs the scenarios of the engine on the controller, each file in a workspace of its own: where a scenario decides on a
// workload, it is created, and what the controller publishes is compared with the clusters, scores and replicas of the answer. What
// a scenario asks of the engine alone (explain, free, stays, return, and all after a change of the clock, or once another workspace looks
// at its clusters) is left to the engine's test.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../policies/scenarios/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
				s.T = t
				return s.run(d)
			})
		})
	}
}

var clusterScores = v1alpha1.SchemeGroupVersion.WithResource("clusterscores")

// scenario is one file on its way through the controller.
type scenario struct {
	*team
	// engine compiles placements, to know which one selects a workload.
	engine     *engine.Engine
	placements []*compiled.Placement
	// workloads as the scenario has them, created those that the workspace has.
	workloads map[string]*unstructured.Unstructured
	created   map[string]bool
	scores    []string
	// alone is set once the scenario is one for the engine alone: it has told the time, and a server has its own, or it has
	// other workspaces look at its clusters.
	alone bool
	// reported is set once agents report workloads by their UIDs, so that they cannot be created anew.
	reported bool
	// moved is set once clusters have changed beside workloads: then the controller
	// decides again at once, where a scenario waits to be told, and how much room is left where may differ.
	moved bool
}

func newScenario(t *testing.T) *scenario {
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &scenario{team: newTeam(t), engine: e, workloads: map[string]*unstructured.Unstructured{}, created: map[string]bool{}}
}

// run carries out one command, and returns the answer that is expected where there is nothing to be compared.
func (s *scenario) run(d *datadriven.TestData) string {
	if s.alone = s.alone || d.Cmd == "now" || d.Cmd == "share"; s.alone || strings.HasPrefix(d.Expected, "error:") {
		return d.Expected
	}
	switch d.Cmd {
	case "clusters":
		s.setClusters(d.Input)
	case "scores":
		s.setScores(d.Input)
	case "policies":
		s.setPolicies(d.Input)
	case "placement":
		p, err := scenarios.Placement(d.CmdArgs[0].Key, d.Input)
		s.check(err)
		by, err := s.engine.CompilePlacement(p)
		s.check(err)
		s.placements = append([]*compiled.Placement{by}, s.placements...)
		s.makeNamespace(p.Namespace)
		s.applyObject(placements, p, "WorkloadPlacement")
	case "workload":
		kind, name := d.CmdArgs[0].Key, d.CmdArgs[1].Key
		object, err := scenarios.Workload(kind, name, d.Input)
		s.check(err)
		if s.workloads[name] = object; s.created[name] {
			s.create(name)
		}
	case "decide", "again":
		return s.decide(d)
	case "release":
		for _, arg := range d.CmdArgs {
			s.remove(arg.Key)
		}
	}
	return d.Expected
}

func (s *scenario) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scenario) applyObject(resource schema.GroupVersionResource, object runtime.Object, kind string) {
	s.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	s.check(err)
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(resource.GroupVersion().WithKind(kind))
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	if kind != "ClusterRegistration" {
		delete(content, "status") // the controller writes it
	}
	s.check(objects.Apply(s.Context(), s.client.Resource(resource).Namespace(u.GetNamespace()), u))
}

func (s *scenario) setClusters(input string) {
	read, err := scenarios.Clusters(input)
	s.check(err)
	s.moved = s.moved || len(s.created) > 0
	for name, c := range read {
		if c == nil {
			s.delete(clusters, "", name)
			continue
		}
		c.Spec.Location = cmp.Or(c.Spec.Location, "nowhere") // the server asks for one
		for i := range c.Status.Conditions {
			c.Status.Conditions[i].LastTransitionTime = metav1.NewTime(time.Unix(0, 0))
		}
		s.applyObject(clusters, c.ClusterRegistration, "ClusterRegistration")
		if c.Usage == nil {
			s.forget(usages, "", name)
			continue
		}
		s.reported = true
		c.Usage.Name = name
		for i := range c.Usage.Workloads {
			c.Usage.Workloads[i].UID = s.uidOf(c.Usage.Workloads[i].UID)
		}
		s.applyObject(usages, c.Usage, "ClusterUsage")
	}
}

// forget deletes an object that may be there.
func (s *scenario) forget(resource schema.GroupVersionResource, namespace, name string) {
	s.Helper()
	if err := s.client.Resource(resource).Namespace(namespace).Delete(s.Context(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		s.Fatal(err)
	}
}

func (s *scenario) makeNamespace(name string) {
	s.Helper()
	s.applyObject(corev1.SchemeGroupVersion.WithResource("namespaces"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, "Namespace")
}

// uidOf is the UID that the server has given a workload which the scenario knows as uid-NAME.
func (s *scenario) uidOf(uid types.UID) types.UID {
	name := strings.TrimPrefix(string(uid), "uid-")
	if !s.created[name] {
		return uid
	}
	object, err := s.resource(name).Get(s.Context(), name, metav1.GetOptions{})
	s.check(err)
	return object.GetUID()
}

func (s *scenario) setScores(input string) {
	read, err := scenarios.Scores(input)
	s.check(err)
	for _, name := range s.scores {
		s.delete(clusterScores, "", name)
	}
	s.scores = nil
	for _, score := range read {
		s.applyObject(clusterScores, score, "ClusterScore")
		s.scores = append(s.scores, score.Name)
	}
}

// setPolicies replaces the policies, and waits until they are in force.
func (s *scenario) setPolicies(input string) {
	modules, err := scenarios.Policies(input)
	s.check(err)
	policies := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "policies", Namespace: "default", Labels: map[string]string{v1alpha1.LabelPolicy: v1alpha1.PolicyRego},
	}, Data: modules}
	s.forget(configMaps, "default", "policies")
	s.applyObject(configMaps, policies, "ConfigMap")
	s.eventually("the policies are in force", "true", func() string {
		object, err := s.client.Resource(configMaps).Namespace("default").Get(s.Context(), "policies", metav1.GetOptions{})
		s.check(err)
		return fmt.Sprint(strings.Contains(object.GetAnnotations()[v1alpha1.AnnotationPolicyStatus], `"status":"ok"`))
	})
}

func (s *scenario) resource(name string) dynamic.ResourceInterface {
	object := s.workloads[name]
	return s.client.Resource(deployments).Namespace(object.GetNamespace())
}

// ownerOf is the placement that the scenario decides by: the latest that selects a workload.
func (s *scenario) ownerOf(name string) *compiled.Placement {
	w, err := workload.FromObject(s.workloads[name])
	s.check(err)
	at := slices.IndexFunc(s.placements, func(p *compiled.Placement) bool { return p.Selects(w) })
	if at < 0 {
		s.Fatalf("no placement selects %s", name)
	}
	return s.placements[at]
}

// create creates or updates a workload.
func (s *scenario) create(name string) {
	object := s.workloads[name].DeepCopy()
	annotations := maps.Clone(object.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[v1alpha1.AnnotationPlacement] = s.ownerOf(name).Name
	object.SetAnnotations(annotations)
	object.SetUID("")
	s.check(objects.Apply(s.Context(), s.resource(name), object))
	s.created[name] = true
}

// remove deletes a workload, and waits until nothing is promised to it.
func (s *scenario) remove(name string) {
	if !s.created[name] {
		return
	}
	delete(s.created, name)
	s.check(s.resource(name).Delete(s.Context(), name, metav1.DeleteOptions{}))
	s.expect("Deployment "+name, "")
}

// decide has the controller decide on workloads, one after another. A workload that is decided on again keeps its decision.
func (s *scenario) decide(d *datadriven.TestData) string {
	for _, arg := range d.CmdArgs {
		name := arg.Key
		by := s.ownerOf(name)
		if s.workloads[name].GetKind() != "Deployment" || by.Strategy == v1alpha1.StrategyWeighted {
			continue // the tests' controller is not told to place other kinds; Weighted draws by UIDs that the server gives
		}
		again := d.Cmd == "again" || s.created[name] && s.reported
		if !again {
			s.remove(name)
		}
		if !s.created[name] {
			s.create(name)
		}
		want, why := answerFor(name, d.Expected)
		if s.moved && strings.Contains(why, "stays on clusters that it should leave") {
			continue // nobody asks the controller: it follows what it waits for as soon as that has moved
		}
		if summary, waits := strings.CutPrefix(want, "waits, "); waits {
			summary, _, _ = strings.Cut(summary, ";") // which other workloads it waits for depends on which there are
			s.eventually(name+" waits", "true: "+summary, func() string { return s.waits(name, summary) })
			s.remove(name) // it does not get a place behind the scenario's back
			continue
		}
		words := func(answer string) string { return answer }
		switch {
		case s.moved:
			words = namesOnly
		case again: // the scores of a decision that stands are those of when it was made
			words = withoutScores
		}
		s.eventually(name+" is placed", words(want), func() string { return words(s.decision(name, by.Division != nil)) })
	}
	return d.Expected
}

var (
	score    = regexp.MustCompile(` \(\d+ \w+\)`)
	replicas = regexp.MustCompile(` x\d+`)
)

// withoutScores has the clusters of an answer by name, with their replicas.
func withoutScores(answer string) string {
	on := strings.Fields(strings.ReplaceAll(score.ReplaceAllString(answer, ""), " x", "_x"))
	slices.Sort(on)
	return strings.ReplaceAll(strings.Join(on, " "), "_x", " x")
}

func namesOnly(answer string) string { return replicas.ReplaceAllString(withoutScores(answer), "") }

// answerFor is the line of an answer that is about a workload, and the lines below it that say why.
func answerFor(name, answer string) (line, why string) {
	_, rest, _ := strings.Cut("\n"+answer, "\n"+name+":")
	line, rest, _ = strings.Cut(rest, "\n")
	for l := range strings.Lines(rest) {
		if !strings.HasPrefix(l, " ") {
			break
		}
		why += l
	}
	return strings.TrimSpace(line), why
}

// decision reads the decision on a workload in the words of the scenarios.
func (s *scenario) decision(name string, divided bool) string {
	list, err := s.client.Resource(decisions).List(s.Context(), metav1.ListOptions{})
	s.check(err)
	for i := range list.Items {
		for _, d := range as[v1alpha1.PlacementDecision](s.team, &list.Items[i]).Decisions {
			if d.Workload.Name != name {
				continue
			}
			var on []string
			for _, c := range d.Clusters {
				one := fmt.Sprintf("%s (%d %s)", c.Name, c.Score, c.Reason)
				if divided {
					one += fmt.Sprintf(" x%d", c.Replicas)
				}
				on = append(on, one)
			}
			return strings.Join(on, " ")
		}
	}
	return "nowhere"
}

// waits looks for a reason in what the placement says of a workload that waits.
func (s *scenario) waits(name, summary string) string {
	by := s.ownerOf(name)
	object, err := s.client.Resource(placements).Namespace(by.Namespace).Get(s.Context(), by.Name, metav1.GetOptions{})
	s.check(err)
	c := conditions.Get(as[v1alpha1.WorkloadPlacement](s.team, object), v1alpha1.ScheduledCondition)
	if c != nil && strings.Contains(c.Message, summary) {
		return "true: " + summary
	}
	return fmt.Sprint(c)
}
