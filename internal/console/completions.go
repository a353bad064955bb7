package console

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/internal/reference"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/policies"
)

// completions are the words of the languages, and of the fleet.
func (v *view) completions(w *manifest.Workspace) *Completions {
	return &Completions{CEL: celWords(), Rego: regoWords(), Fleet: v.vocabulary(w)}
}

// celWords are what a constraint can say, by the tables of the reference.
var celWords = sync.OnceValue(func() []Completion {
	var all []Completion
	for _, topic := range reference.Topics() {
		if topic.Name != "cel" {
			continue
		}
		for _, section := range topic.Sections {
			variable := ""
			for line := range strings.Lines(section.Text) {
				if name, isTitle := strings.CutPrefix(strings.TrimSpace(line), "### "); isTitle {
					variable = name
					if !strings.Contains(name, " ") {
						all = append(all, Completion{Label: name, Type: "variable"})
					}
				}
				cells := reference.Cells(line)
				if !strings.HasPrefix(line, "| `") || len(cells) < 4 {
					continue
				}
				all = append(all, celWord(section.Title, variable, cells)...)
			}
		}
	}
	return all
})

var call = regexp.MustCompile(`^(?:[a-z]\.)?([A-Za-z_.]+)\(.*\)$`)

// celWord is what a row of a table of the reference has.
func celWord(section, variable string, cells []string) []Completion {
	label, about := cells[0], cells[1]
	if section == "Variables" {
		path := variable + "." + label
		if !strings.Contains(cells[3], path) { // a field of what is in a list, such as a taint
			path = label
		}
		return []Completion{{Label: path, Type: "property", Detail: cells[1], Info: cells[2]}}
	}
	label, _, _ = strings.Cut(label, ", (")
	name := call.FindStringSubmatch(label)
	if name == nil {
		return nil
	}
	return []Completion{{Label: name[1], Type: "function", Detail: cells[0], Info: about}}
}

// regoWords are what policies can say.
var regoWords = sync.OnceValue(func() []Completion {
	all := []Completion{
		{Label: "data.placement.scoring.weights", Type: "variable", Info: "How much each factor counts, 0 to 100."},
		{Label: "data.placement.affinity.terms", Type: "variable", Info: "Which clusters are preferred or required."},
		{Label: "data.placement.affinity.use_builtin", Type: "variable", Info: "false turns the built-in terms off."},
		{Label: "data.placement.scheduling", Type: "variable", Info: "How many clusters, how spread and how divided."},
		{Label: "data.placement.builtin.scoring.weights", Type: "variable", Info: "The built-in weights."},
	}
	for _, factor := range scoring.FactorNames() {
		all = append(all, Completion{Label: factor, Type: "constant", Detail: "factor"})
	}
	for _, at := range []string{"workspace", "placement.name", "placement.namespace", "placement.labels", "workload.apiVersion", "workload.kind", "workload.namespace",
		"workload.name", "workload.labels", "workload.annotations", "workload.replicas", "workload.requests", "workload.requests.cpu", "workload.requests.memory", "workload.requests.storage"} {
		all = append(all, Completion{Label: "input." + at, Type: "property"})
	}
	var allowed struct {
		Builtins []struct {
			Name, Description string
			Infix             string
			Decl              struct {
				Args   []struct{ Name, Type string }
				Result struct{ Type string }
			}
		}
	}
	if err := json.Unmarshal(policies.Capabilities, &allowed); err != nil {
		panic(err) // embedded
	}
	for _, b := range allowed.Builtins {
		if b.Infix != "" || strings.HasPrefix(b.Name, "internal.") {
			continue
		}
		args := make([]string, len(b.Decl.Args))
		for i, a := range b.Decl.Args {
			args[i] = a.Name
		}
		all = append(all, Completion{Label: b.Name, Type: "function", Detail: fmt.Sprintf("%s(%s)", b.Name, strings.Join(args, ", ")), Info: b.Description})
	}
	return all
})

// vocabulary is what the clusters of a workspace have.
func (v *view) vocabulary(w *manifest.Workspace) Vocabulary {
	words := Vocabulary{Labels: map[string][]string{}, Capabilities: map[string][]string{}}
	var resources []string
	for i := range v.top.Clusters {
		c := &v.top.Clusters[i]
		if c.Workspace != w.Name.String() {
			continue
		}
		words.Clusters = append(words.Clusters, c.Name)
		words.Locations = append(words.Locations, c.Location)
		for key, value := range c.Row.Labels {
			words.Labels[key] = append(words.Labels[key], value)
		}
		for _, has := range c.Row.Capabilities {
			words.Capabilities[has.Type] = append(words.Capabilities[has.Type], slices.Collect(maps.Keys(has.Attributes))...)
		}
		for _, t := range c.Row.Taints {
			words.Taints = append(words.Taints, t.Key)
		}
		for _, at := range c.Row.Conditions {
			words.Conditions = append(words.Conditions, at.Type)
		}
		resources = slices.AppendSeq(resources, maps.Keys(c.Allocatable))
	}
	words.Resources = resources
	for _, all := range []*[]string{&words.Clusters, &words.Locations, &words.Taints, &words.Conditions, &words.Resources} {
		*all = distinct(*all)
	}
	for _, by := range []map[string][]string{words.Labels, words.Capabilities} {
		for key, values := range by {
			by[key] = distinct(values)
		}
	}
	return words
}

// distinct returns sorted names without repetitions; never nil, which JSON would have as null.
func distinct(names []string) []string {
	slices.Sort(names)
	return append([]string{}, slices.Compact(names)...)
}
