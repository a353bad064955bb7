// Package scenario tests whole decisions: a scenario is a text file with a fleet, policies, workloads, and the expected
// decisions, at once or step by step over time.
package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// Ending is the file name extension of scenarios.
const Ending = ".txtar"

// Files of a scenario with a special meaning.
const (
	useFile    = "use"
	expectFile = "expect.yaml"
)

// Scenario is a txtar archive: a comment that describes it, then files of objects and Rego, and
//
//	use           paths of more files and folders to read, one per line, relative to the scenario
//	expect.yaml   the expectation of each workload, see Expectation
//
// A scenario over time has, instead of expect.yaml,
//
//	steps.yaml    what happens and what is expected, a list of Steps
//	flags         flags of the controller, such as --failover-after=10m
type Scenario struct {
	// File that it was read from.
	File string
	// Title is the first line of the story.
	Title string

	archive *txtar.Archive
	files   []*manifest.File
	expect  map[string]Expectation
	// story is nil if everything is decided at once. later are the files that its steps apply.
	story *story
	later map[string][]*manifest.File
}

// Expectation is the expected decision on one workload. Fields that are left out are not compared.
type Expectation struct {
	// Clusters that are chosen, best first; an empty list if the workload is not placed.
	Clusters *[]string `json:"clusters,omitempty"`
	// Scores of chosen clusters.
	Scores map[string]int64 `json:"scores,omitempty"`
	// Replicas of chosen clusters.
	Replicas map[string]int64 `json:"replicas,omitempty"`
	// Group is the workload's fallback group.
	Group string `json:"group,omitempty"`
	// Rejected clusters by name, each with the stage that rejects it: "Taint", or with the constraint: "Constraint gold".
	Rejected map[string]string `json:"rejected,omitempty"`
	// Error is a part of the reason why the workload is not placed.
	Error string `json:"error,omitempty"`
}

// Parse parses a scenario. It calls read for the files and folders that the scenario uses.
func Parse(file *manifest.File, read func(path string) ([]*manifest.File, error)) (*Scenario, error) {
	s := &Scenario{File: file.Name, archive: txtar.Parse([]byte(file.Text))}
	s.Title, _, _ = strings.Cut(strings.TrimSpace(string(s.archive.Comment)), "\n")
	expects := slices.ContainsFunc(s.archive.Files, func(f txtar.File) bool { return f.Name == expectFile })
	if err := s.parseStory(expects, read); err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name, err)
	}
	for _, f := range s.archive.Files {
		text := string(f.Data)
		switch f.Name {
		case useFile:
			for line := range strings.Lines(text) {
				name := strings.TrimSpace(line)
				if name == "" {
					continue
				}
				files, err := read(path.Join(path.Dir(file.Name), name))
				if err != nil {
					return nil, fmt.Errorf("%s: use: %w", file.Name, err)
				}
				s.files = append(s.files, files...)
			}
		case expectFile:
			if err := s.parseExpectations(f.Data); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", file.Name, expectFile, err)
			}
		case stepsFile, flagsFile: // parsed before
		default:
			if s.later[f.Name] == nil {
				s.files = append(s.files, s.contained(f))
			}
		}
	}
	return s, nil
}

// contained returns a file of the archive.
func (s *Scenario) contained(f txtar.File) *manifest.File {
	return &manifest.File{Name: path.Join(s.File, f.Name), Text: string(f.Data)}
}

// parseStory parses the files of a scenario over time.
func (s *Scenario) parseStory(expects bool, read func(path string) ([]*manifest.File, error)) error {
	at := func(name string) int {
		return slices.IndexFunc(s.archive.Files, func(f txtar.File) bool { return f.Name == name })
	}
	steps, flags := at(stepsFile), at(flagsFile)
	switch {
	case steps < 0 && !expects:
		return fmt.Errorf("there is no file %s in the scenario, which says where the workloads are to run, nor %s, which tells a story over time", expectFile, stepsFile)
	case steps < 0 && flags >= 0:
		return fmt.Errorf("%s: only a scenario over time, with a file %s, has flags of the controller", flagsFile, stepsFile)
	case steps < 0:
		return nil
	case expects:
		return fmt.Errorf("there are %s and %s: each step says what is expected", stepsFile, expectFile)
	}
	s.story, s.later = &story{pace: controller.DefaultPace(), start: beginning}, map[string][]*manifest.File{}
	if flags >= 0 {
		if err := s.story.parseFlags(s.archive.Files[flags].Data); err != nil {
			return fmt.Errorf("%s: %w", flagsFile, err)
		}
	}
	if err := s.story.parseSteps(s.archive.Files[steps].Data); err != nil {
		return fmt.Errorf("%s: %w", stepsFile, err)
	}
	for _, name := range files(s.story.steps) {
		if i := at(name); i >= 0 {
			s.later[name] = []*manifest.File{s.contained(s.archive.Files[i])}
			continue
		}
		found, err := read(path.Join(path.Dir(s.File), name))
		if err != nil {
			return fmt.Errorf("%s: apply: %w", stepsFile, err)
		}
		s.later[name] = found
	}
	return nil
}

func (s *Scenario) parseExpectations(text []byte) error {
	documents := yamlv3.NewDecoder(bytes.NewReader(text))
	var document yamlv3.Node
	for range 2 {
		if err := documents.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
			return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
		} else if err != nil {
			break
		}
		if s.expect != nil {
			return fmt.Errorf("line %d: a second document begins here: one says it all", document.Line)
		}
		s.expect = map[string]Expectation{}
	}
	if err := yaml.UnmarshalStrict(text, &s.expect); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: json: "))
	}
	for _, name := range slices.Sorted(maps.Keys(s.expect)) {
		if e := s.expect[name]; e.Clusters == nil && len(e.Scores)+len(e.Replicas)+len(e.Rejected) == 0 && e.Group == "" && e.Error == "" {
			return fmt.Errorf("%s: nothing is expected: give clusters, scores, replicas, group, rejected or error", name)
		}
	}
	return nil
}

// Expects reports whether the scenario has an expectation yet.
func (s *Scenario) Expects() bool {
	return len(s.expect) > 0 || s.story != nil && slices.ContainsFunc(s.story.steps, (*Step).expects)
}

// Failure is an expectation that was not met.
type Failure struct {
	// Step of a scenario over time: its position, its time, and its title.
	Step string `json:"step,omitempty"`
	// Workload as named in expect.yaml; in a step, any object, or empty if all are concerned.
	Workload string `json:"workload"`
	// What was expected: clusters, scores, replicas, group, rejected or error, or a field of a step.
	What     string `json:"what"`
	Expected string `json:"expected"`
	Actual   string `json:"actual"`
	// Log is what had happened since the previous step; only the last failure of a step has it.
	Log []string `json:"log,omitempty"`

	// Decision that was made; nil if there is no such workload.
	Decision *simulation.Decision `json:"-"`

	// node is the expected value in steps.yaml, nil if it cannot be replaced by the actual value.
	node  *yamlv3.Node
	value any
}

// Run places the workloads of the scenario and returns the expectations that are not met. It fails if the scenario
// itself is invalid, or ctx ends.
func (s *Scenario) Run(ctx context.Context) ([]Failure, error) {
	if s.story != nil {
		world, err := newLocal(s.story)
		if err != nil {
			return nil, err
		}
		return s.Play(ctx, world)
	}
	decisions, err := s.decide(ctx)
	if err != nil {
		return nil, err
	}
	var failures []Failure
	for _, name := range slices.Sorted(maps.Keys(s.expect)) {
		d, found := decisions[name]
		if !found {
			failures = append(failures, Failure{
				Workload: name, What: "workload", Expected: name, Actual: "there are " + strings.Join(slices.Sorted(maps.Keys(decisions)), ", "),
			})
			continue
		}
		failures = append(failures, s.expect[name].compare(name, d)...)
	}
	return failures, nil
}

// decide returns the decisions by the names that expect.yaml uses for workloads.
func (s *Scenario) decide(ctx context.Context) (map[string]*simulation.Decision, error) {
	workspaces, wrong := manifest.Read(s.files)
	if len(wrong) > 0 {
		return nil, manifest.Join(wrong)
	}
	sim, err := simulation.New(simulation.Options{Rejected: true, Explained: true})
	if err != nil {
		return nil, err
	}
	if err := sim.Load(ctx, workspaces); err != nil {
		return nil, err
	}
	result, err := sim.Run(ctx)
	if err != nil {
		return nil, err
	}
	decisions := map[string]*simulation.Decision{}
	for i := range result.Decisions {
		d := &result.Decisions[i]
		name := d.Workload.String()
		if d.Workspace != manifest.DefaultWorkspace.String() {
			name = d.Workspace + " " + name
		}
		decisions[name] = d
	}
	return decisions, nil
}

func (e Expectation) compare(name string, d *simulation.Decision) (failures []Failure) {
	actual := e.observe(d)
	differ := func(what string, expected, actual any) {
		if !reflect.DeepEqual(expected, actual) {
			failures = append(failures, Failure{Workload: name, What: what, Expected: inline(expected), Actual: inline(actual), Decision: d})
		}
	}
	if e.Clusters != nil {
		differ("clusters", *e.Clusters, *actual.Clusters)
	}
	if len(e.Scores) > 0 {
		differ("scores", e.Scores, actual.Scores)
	}
	if len(e.Replicas) > 0 {
		differ("replicas", e.Replicas, actual.Replicas)
	}
	if e.Group != "" {
		differ("group", e.Group, actual.Group)
	}
	if len(e.Rejected) > 0 {
		differ("rejected", e.Rejected, actual.Rejected)
	}
	if !strings.Contains(d.Error, e.Error) {
		failures = append(failures, Failure{Workload: name, What: "error", Expected: e.Error, Actual: d.Error, Decision: d})
	}
	return failures
}

// observe returns the actual values of the fields that the expectation has.
func (e Expectation) observe(d *simulation.Decision) Expectation {
	observed := Expectation{Clusters: &[]string{}, Scores: map[string]int64{}, Replicas: map[string]int64{}, Group: d.Group, Rejected: map[string]string{}, Error: d.Error}
	for _, c := range d.Clusters {
		*observed.Clusters = append(*observed.Clusters, c.Name)
		if _, asked := e.Scores[c.Name]; asked {
			observed.Scores[c.Name] = c.Score
		}
		if _, asked := e.Replicas[c.Name]; asked {
			observed.Replicas[c.Name] = c.Replicas
		}
	}
	for _, r := range d.Rejected {
		if _, asked := e.Rejected[r.Cluster]; asked {
			observed.Rejected[r.Cluster] = r.Stage
			// The name of the constraint is compared only if the expectation has it.
			if r.Constraint != "" && e.Rejected[r.Cluster] != r.Stage {
				observed.Rejected[r.Cluster] += " " + r.Constraint
			}
		}
	}
	return observed
}

// inline formats a value as YAML on one line.
func inline(value any) string {
	var node yamlv3.Node
	if err := node.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	node.Style = yamlv3.FlowStyle
	text, err := yamlv3.Marshal(&node)
	if err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSpace(string(text))
}

// Update returns the text of the scenario with the actual decisions as expectations. An empty expect.yaml gets the
// clusters and scores of every workload. Comments stay.
func (s *Scenario) Update(ctx context.Context) (string, error) {
	if s.story != nil {
		return s.updateSteps(ctx)
	}
	decisions, err := s.decide(ctx)
	if err != nil {
		return "", err
	}
	text, err := s.expectations([]byte(s.text(expectFile)), decisions)
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", s.File, expectFile, err)
	}
	return s.with(expectFile, text), nil
}

// text returns the text of a file in the scenario; empty if there is no such file.
func (s *Scenario) text(name string) string {
	for _, f := range s.archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// with returns the text of the scenario with the text of one of its files replaced.
func (s *Scenario) with(name string, text []byte) string {
	updated := &txtar.Archive{Comment: s.archive.Comment, Files: slices.Clone(s.archive.Files)}
	for i := range updated.Files {
		if updated.Files[i].Name == name {
			updated.Files[i].Data = text
		}
	}
	return string(txtar.Format(updated))
}

func (s *Scenario) expectations(text []byte, decisions map[string]*simulation.Decision) ([]byte, error) {
	if len(s.expect) == 0 {
		var all strings.Builder
		for _, name := range slices.Sorted(maps.Keys(decisions)) {
			d, asked := decisions[name], Expectation{Scores: map[string]int64{}}
			for _, c := range d.Clusters {
				asked.Scores[c.Name] = c.Score
			}
			fmt.Fprintf(&all, "%s:\n  clusters: %s\n", name, inline(*asked.observe(d).Clusters))
			if len(d.Clusters) > 0 {
				fmt.Fprintf(&all, "  scores: %s\n", inline(asked.Scores))
			}
		}
		comments := strings.TrimRight(string(text), "\n")
		if comments != "" {
			comments += "\n"
		}
		return []byte(comments + all.String()), nil
	}
	var document yamlv3.Node
	if err := yamlv3.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	root := document.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		name, fields := root.Content[i].Value, root.Content[i+1]
		d, found := decisions[name]
		if !found {
			continue // stays, and fails: only the author can fix a misspelt name
		}
		actual := s.expect[name].observe(d)
		for j := 0; j+1 < len(fields.Content); j += 2 {
			value := map[string]any{
				"clusters": *actual.Clusters, "scores": actual.Scores, "replicas": actual.Replicas, "group": actual.Group, "rejected": actual.Rejected, "error": actual.Error,
			}[fields.Content[j].Value]
			if inline(value) == inline(fields.Content[j+1]) || fields.Content[j].Value == "error" && strings.Contains(actual.Error, s.expect[name].Error) {
				continue
			}
			if err := replace(fields.Content[j+1], value); err != nil {
				return nil, err
			}
		}
	}
	return format(&document)
}

// replace replaces a value in YAML. Its comment stays.
func replace(node *yamlv3.Node, value any) error {
	comment := node.LineComment
	if err := node.Encode(value); err != nil {
		return err
	}
	node.LineComment = comment
	if node.Kind != yamlv3.ScalarNode {
		node.Style = yamlv3.FlowStyle
	}
	return nil
}

func format(document *yamlv3.Node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yamlv3.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(document); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
