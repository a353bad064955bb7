package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/command"
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/test/policies/scenarios"
)

// TestScenarios runs the scenarios of the engine through the command line: `kubectl placement simulate` places the workloads of a
// scenario as the engine does, up to where something changes beside those that are placed.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../../test/policies/scenarios/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	compared := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := scenario{objects: map[string]any{}, workloads: map[string]*unstructured.Unstructured{}, want: map[string]string{}}
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
				if !s.over {
					s.over = !s.take(t, d)
				}
				return d.Expected
			})
			s.simulate(t)
			compared += len(s.order)
		})
	}
	if compared < len(files) {
		t.Errorf("%d decisions in %d files are compared", compared, len(files))
	}
}

// scenario is the beginning of one, as files for the command line.
type scenario struct {
	objects    map[string]any
	placements []*placement.Placement
	workloads  map[string]*unstructured.Unstructured
	// order has the workloads that are decided on, one after another, want what becomes of each.
	order []string
	want  map[string]string
	over  bool
}

// take takes one command, and reports whether it can be told in files.
func (s *scenario) take(t *testing.T, d *datadriven.TestData) bool {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	switch d.Cmd {
	case "explain", "free":
		return true
	case "decide":
		for _, arg := range d.CmdArgs {
			if slices.Contains(s.order, arg.Key) {
				return false // it is released before
			}
			if by := s.ownerOf(t, arg.Key); by == nil || by.Strategy == v1alpha1.StrategyWeighted && len(s.order) > 0 {
				return false
			}
			s.order = append(s.order, arg.Key)
			s.want[arg.Key] = answerFor(arg.Key, d.Expected)
		}
		return true
	}
	if len(s.order) > 0 && d.Cmd != "workload" || strings.HasPrefix(d.Expected, "error:") {
		return false
	}
	switch d.Cmd {
	case "clusters":
		read, err := scenarios.Clusters(d.Input)
		check(err)
		for name, c := range read {
			if delete(s.objects, "usage "+name); c == nil {
				delete(s.objects, "cluster "+name)
				continue
			}
			if c.Spec.Location == "" {
				c.Spec.Location = "nowhere" // files need one
			}
			for i := range c.Status.Conditions {
				c.Status.Conditions[i].LastTransitionTime = metav1.Unix(0, 0)
			}
			c.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterRegistration"}
			if s.objects["cluster "+name] = c.ClusterRegistration; c.Usage != nil {
				c.Usage.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterUsage"}
				c.Usage.Name = name
				s.objects["usage "+name] = c.Usage
			}
		}
	case "scores":
		read, err := scenarios.Scores(d.Input)
		check(err)
		for _, score := range read {
			score.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterScore"}
			s.objects["score "+score.Name] = score
		}
	case "policies":
		modules, err := scenarios.Policies(d.Input)
		check(err)
		policies := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: modules}
		policies.Name, policies.Namespace, policies.Labels = "policies", "default", map[string]string{v1alpha1.LabelPolicy: v1alpha1.PolicyRego}
		s.objects["policies"] = policies
	case "placement":
		p, err := scenarios.Placement(d.CmdArgs[0].Key, d.Input)
		check(err)
		e, err := engine.New(engine.Options{})
		check(err)
		compiled, err := e.CompilePlacement(p)
		check(err)
		s.placements = append([]*placement.Placement{compiled}, s.placements...)
		p.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "WorkloadPlacement"}
		s.objects["placement "+p.Namespace+"/"+p.Name] = p
	case "workload":
		name := d.CmdArgs[1].Key
		if slices.Contains(s.order, name) {
			return false
		}
		object, err := scenarios.Workload(d.CmdArgs[0].Key, name, d.Input)
		check(err)
		s.workloads[name] = object
	default:
		return false
	}
	return true
}

// ownerOf is the placement that a scenario decides by: the latest that selects a workload.
func (s *scenario) ownerOf(t *testing.T, name string) *placement.Placement {
	t.Helper()
	w, err := workload.FromObject(s.workloads[name])
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(s.placements, func(p *placement.Placement) bool { return p.Selects(w) })
	if at < 0 {
		return nil
	}
	return s.placements[at]
}

func (s *scenario) simulate(t *testing.T) {
	t.Helper()
	for i, name := range s.order {
		w := s.workloads[name]
		annotations := w.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[v1alpha1.AnnotationPlacement] = s.ownerOf(t, name).Name
		w.SetAnnotations(annotations)
		w.SetCreationTimestamp(metav1.Unix(int64(i), 0)) // they are placed in the order in which they are made
		s.objects["workload "+name] = w
	}
	var files bytes.Buffer
	for _, object := range s.objects {
		text, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&files, "---\n%s", text)
	}
	var out, errs bytes.Buffer
	now := time.Unix(1_000_000, 0).UTC().Format(time.RFC3339)
	code := command.Run(t.Context(), []string{"simulate", "-f", "-", "--now", now, "-o", "json"}, &files, &out, &errs)
	if code != 0 && out.Len() == 0 { // a scenario may have a registration that is wrong
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	var result struct {
		Decisions []struct {
			Workload struct{ Name string }
			Clusters []struct {
				Name     string
				Replicas int64
				Score    int64
				Reason   string
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range result.Decisions {
		var on []string
		for _, c := range d.Clusters {
			one := fmt.Sprintf("%s (%d %s)", c.Name, c.Score, c.Reason)
			if strings.Contains(s.want[d.Workload.Name], " x") {
				one += fmt.Sprintf(" x%d", c.Replicas)
			}
			on = append(on, one)
		}
		got[d.Workload.Name] = strings.Join(on, " ")
	}
	for i, name := range s.order {
		want := s.want[name]
		if strings.HasPrefix(want, "waits") {
			if want = ""; i < len(s.order)-1 {
				continue // a simulation tries it again once the others are placed
			}
		}
		if got[name] != want {
			t.Errorf("%s is placed on %q, and by the engine's scenario on %q", name, got[name], want)
		}
	}
}

// answerFor is the line of an answer that is about a workload.
func answerFor(name, answer string) string {
	for line := range strings.Lines(answer) {
		if rest, found := strings.CutPrefix(line, name+":"); found {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
