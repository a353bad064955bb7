package scenario

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/internal/controller"
)

// Files of a story over time with a special meaning.
const (
	stepsFile = "steps.yaml"
	flagsFile = "flags"
)

// story is what happens in a workspace over time, and what is expected on the way.
type story struct {
	pace  controller.Pace
	steps []*Step
	// document is steps.yaml with its comments.
	document yamlv3.Node
	// start is the time of the first step.
	start time.Time
}

// Step is a point in time of a story. At that time the step acts, the controller then does what is due, and after that the expectations
// are compared. A step that leaves out at and after follows the previous one at once.
type Step struct {
	// Title describes what happens or is expected.
	Title string `json:"step,omitempty"`
	// At is the time since the story began, for example 5m; in the first step it may be a time such as 2026-03-02T08:00:00Z.
	At string `json:"at,omitempty"`
	// After is the time since the previous step.
	After string `json:"after,omitempty"`

	// Apply creates or replaces objects: each element is an object, or the name of a file in the story or next to it. A file named here is
	// not applied when the story begins.
	Apply []json.RawMessage `json:"apply,omitempty"`
	// Patch changes objects by name, such as "ClusterRegistration eu", by JSON merge patches: null removes a field.
	Patch map[string]json.RawMessage `json:"patch,omitempty"`
	// Delete deletes objects by name.
	Delete []string `json:"delete,omitempty"`
	// Silent are clusters whose agents fall silent, and Reports those whose agents report again.
	Silent  []string `json:"silent,omitempty"`
	Reports []string `json:"reports,omitempty"`
	// Restart makes another controller take over.
	Restart bool `json:"restart,omitempty"`

	// Repeat makes Steps happen that many times in a row.
	Repeat int     `json:"repeat,omitempty"`
	Steps  []*Step `json:"steps,omitempty"`

	// Expect is what is expected of objects by name.
	Expect map[string]StepExpectation `json:"expect,omitempty"`
	// Placed is how many workloads are on a cluster, by its name.
	Placed map[string]int `json:"placed,omitempty"`
	// Waiting is how many workloads have no cluster.
	Waiting *int `json:"waiting,omitempty"`
	// Moves is how often workloads have lost a cluster since the story began.
	Moves *int `json:"moves,omitempty"`
	// Events are events since the previous step, as in "Deployment default/web Moved: left eu", with a part of the message. An empty list
	// means that there are none.
	Events *[]string `json:"events,omitempty"`

	// at and after are parsed; node is the step in the file.
	at, after *time.Duration
	node      *yamlv3.Node
}

// StepExpectation is what is expected of one object. Fields that are left out are not compared.
type StepExpectation struct {
	// Clusters that a workload is on, in any order; an empty list if it waits.
	Clusters *[]string `json:"clusters,omitempty"`
	// Replicas on clusters.
	Replicas map[string]int64 `json:"replicas,omitempty"`
	// Group is the fallback group of a workload.
	Group string `json:"group,omitempty"`
	// Moves is how often a workload has lost a cluster since the story began.
	Moves *int `json:"moves,omitempty"`
	// Conditions by type, as in "True", "False WorkloadsWaiting" or "False WorkloadsWaiting: 2 of 3", with a part of the message. A missing
	// condition is "none".
	Conditions map[string]string `json:"conditions,omitempty"`
	// Status holds fields of the status.
	Status map[string]any `json:"status,omitempty"`
}

// parseSteps parses steps.yaml. Errors include the line.
func (s *story) parseSteps(text []byte) error {
	documents := yamlv3.NewDecoder(bytes.NewReader(text))
	if err := documents.Decode(&s.document); err != nil && !errors.Is(err, io.EOF) {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var second yamlv3.Node
	if documents.Decode(&second) == nil {
		return fmt.Errorf("line %d: a second document begins here: one says it all", second.Line)
	}
	if len(s.document.Content) == 0 || s.document.Content[0].Kind != yamlv3.SequenceNode || len(s.document.Content[0].Content) == 0 {
		return errors.New("it must be a list of steps, the first of them at the beginning")
	}
	if err := yaml.UnmarshalStrict(text, &s.steps); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: json: "))
	}
	return s.validate(s.steps, s.document.Content[0], true)
}

// validate sets the nodes and times of steps.
func (s *story) validate(steps []*Step, list *yamlv3.Node, outermost bool) error {
	for i, step := range steps {
		if step == nil {
			return fmt.Errorf("line %d: the step is empty", list.Content[i].Line)
		}
		step.node = resolve(list.Content[i])
		if err := s.validateStep(step, outermost && i == 0, outermost); err != nil {
			return fmt.Errorf("line %d: %w", step.node.Line, err)
		}
		if len(step.Steps) == 0 {
			continue
		}
		if err := s.validate(step.Steps, resolve(field(step.node, "steps")), false); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) validateStep(step *Step, first, outermost bool) (err error) {
	switch {
	case step.At != "" && step.After != "":
		return errors.New("at and after: give one of them")
	case step.At != "" && !outermost:
		return errors.New("at: in steps that are repeated, give after")
	case (step.Repeat != 0) != (len(step.Steps) > 0):
		return errors.New("repeat and steps: give both")
	case step.Repeat < 0:
		return fmt.Errorf("repeat: must not be negative, is %d", step.Repeat)
	}
	for name, e := range step.Expect {
		if e.Clusters == nil && e.Replicas == nil && e.Group == "" && e.Moves == nil && e.Conditions == nil && e.Status == nil {
			return fmt.Errorf("expect: %s: nothing is expected: give clusters, replicas, group, moves, conditions or status", name)
		}
	}
	if step.after, err = parseTime("after", step.After); err != nil {
		return err
	}
	if begin, err := time.Parse(time.RFC3339, step.At); err == nil && first {
		s.start, step.At = begin, ""
	}
	step.at, err = parseTime("at", step.At)
	return err
}

// parseTime parses a time relative to another.
func parseTime(name, text string) (*time.Duration, error) {
	if text == "" {
		return nil, nil
	}
	d, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		d = time.Duration(n * 24 * float64(time.Hour))
	}
	if err != nil || d < 0 {
		return nil, fmt.Errorf("%s: %q is not a time such as 90s, 5m, 36h or 2d", name, text)
	}
	return &d, nil
}

// parseFlags parses flags of the controller, separated by blanks and line breaks.
func (s *story) parseFlags(text []byte) error {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	s.pace.AddFlags(flags)
	if err := flags.Parse(strings.Fields(string(text))); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: is not a flag", flags.Arg(0))
	}
	return s.pace.Validate()
}

// expects reports whether a step, or one nested in it, has expectations.
func (s *Step) expects() bool {
	return len(s.Expect) > 0 || len(s.Placed) > 0 || s.Waiting != nil || s.Moves != nil || s.Events != nil || slices.ContainsFunc(s.Steps, (*Step).expects)
}

// files are the names of the files that steps apply.
func files(steps []*Step) (names []string) {
	for _, step := range steps {
		for _, applied := range step.Apply {
			var name string
			if json.Unmarshal(applied, &name) == nil {
				names = append(names, name)
			}
		}
		names = append(names, files(step.Steps)...)
	}
	return names
}

// resolve returns the node that an alias stands for.
func resolve(n *yamlv3.Node) *yamlv3.Node {
	if n != nil && n.Kind == yamlv3.AliasNode {
		return n.Alias
	}
	return n
}

// field returns the value of a field of a mapping; nil if there is none.
func field(n *yamlv3.Node, name string) *yamlv3.Node {
	if n = resolve(n); n == nil {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}
