package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/engine/workload"
)

// check compares the expectations of a step with the current state.
func (p *player) check(step *Step) (failures []Failure) {
	differ := func(about, what string, at *yamlv3.Node, expected, actual any) {
		if !reflect.DeepEqual(expected, actual) {
			failures = append(failures, Failure{
				Step: p.at(step), Workload: about, What: what, Expected: plain(expected), Actual: plain(actual), node: at, value: actual,
			})
		}
	}
	expect := field(step.node, "expect")
	if expect != nil && expect.Tag == "!!null" {
		differ("", "expect", expect, "nothing yet", p.placed())
	}
	for _, name := range slices.Sorted(maps.Keys(step.Expect)) {
		o := p.objects[name]
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
	if len(failures) > 0 {
		failures[len(failures)-1].Log = p.log()
	}
	return failures
}

// placed returns what a step could expect of the workloads.
func (p *player) placed() map[string]any {
	placed := map[string]any{}
	for _, name := range p.workloads() {
		placed[name] = map[string]any{"clusters": inOrder(maps.Keys(p.decisions[name].clusters))}
	}
	return placed
}

func inOrder(names iter.Seq[string]) []string { return append([]string{}, slices.Sorted(names)...) }

// workloads returns the names of the objects of the kinds that are placed.
func (p *player) workloads() (names []string) {
	for name, o := range p.objects {
		if _, err := workload.Kinds().Find(o.GetAPIVersion(), o.GetKind()); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// updateSteps returns the text of the scenario with the expectations of its steps replaced by actual values.
func (s *Scenario) updateSteps(ctx context.Context) (string, error) {
	failures, err := s.Run(ctx)
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
	if strings.Contains(s.text(stepsFile), "\n\n- ") { // blank lines between steps are lost
		text = []byte(strings.ReplaceAll(string(text), "\n- ", "\n\n- "))
	}
	return s.with(stepsFile, text), nil
}

// plain returns a text as it is, and any other value on one line.
func plain(value any) string {
	if text, isText := value.(string); isText {
		return text
	}
	return inline(value)
}

// waiting counts the workloads without a decision.
func (p *player) waiting() (n int) {
	for _, name := range p.workloads() {
		if _, placed := p.decisions[name]; !placed {
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

// condition returns for example "False WorkloadsWaiting: 2 of 3 workloads wait".
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

// meets reports whether a text such as "False Reason: message" begins as expected, and its message contains the expected part.
func meets(expected, actual string) bool {
	head, part, _ := strings.Cut(expected, ": ")
	actualHead, message, _ := strings.Cut(actual, ": ")
	return (actualHead == head || strings.HasPrefix(actualHead, head+" ")) && strings.Contains(message, part)
}

// asked returns the fields of an actual value that are present in the expected one.
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

// asJSON returns a value in its JSON form, in which all numbers have the same type.
func asJSON(value any) (same any) {
	if text, err := json.Marshal(value); err != nil || json.Unmarshal(text, &same) != nil {
		return value
	}
	return same
}

// log returns what has happened since the previous step.
func (p *player) log() (lines []string) {
	for _, e := range p.events {
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", e.At.Sub(p.began), e.About, e.Reason, e.Message))
	}
	return lines
}
