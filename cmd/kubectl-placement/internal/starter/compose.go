package starter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/offline/scenario"
	"github.com/kcp-placement/placement/policies"
)

// composed are the files of several policies of the library that decide together: terms add up, and of the weights those of the
// first policy count that has any for a workload. Each policy keeps its scenario, in which it decides alone.
func composed(library []string) (map[string][]byte, error) {
	fleet, err := generalFiles()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for name, text := range fleet {
		if path.Dir(name) == "fleet" {
			files[name] = text
		}
	}
	var stories []*txtar.Archive
	for _, name := range library {
		own, story, err := policyFiles(name)
		if err != nil {
			return nil, err
		}
		maps.Copy(files, own)
		for i, f := range story.Files {
			if f.Name == "use" {
				story.Files[i].Data = []byte("../policies/" + name + ".rego\n")
			}
		}
		files["scenarios/"+name+scenario.Ending] = txtar.Format(story)
		stories = append(stories, story)
	}
	if files[clustersFile], err = clusters(files[clustersFile], stories); err != nil {
		return nil, err
	}
	if names := defining("terms", library); len(names) > 0 {
		files["policies/affinity.rego"] = []byte(termsOf(names))
	}
	if names := defining("weights", library); len(names) > 0 {
		files["policies/scoring.rego"] = []byte(weightsOf(names))
	}
	if names := defining("scheduling", library); len(names) > 0 {
		files["policies/scheduling.rego"] = []byte(schedulingOf(names))
	}
	return files, nil
}

const clustersFile = "fleet/clusters.yaml"

// clusters are those of the general suite and of the stories, with the labels that all of them give a cluster: whatever a policy
// looks for, some cluster has.
func clusters(general []byte, stories []*txtar.Archive) ([]byte, error) {
	texts := [][]byte{general}
	for _, story := range stories {
		for _, f := range story.Files {
			if f.Name == "fleet.yaml" {
				texts = append(texts, f.Data)
			}
		}
	}
	var all []*unstructured.Unstructured
	named := map[string]*unstructured.Unstructured{}
	for _, text := range texts {
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			object := &unstructured.Unstructured{}
			if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
			known := named[object.GetName()]
			if known == nil {
				named[object.GetName()] = object
				all = append(all, object)
				continue
			}
			labels := object.GetLabels()
			if labels == nil {
				labels = map[string]string{}
			}
			maps.Copy(labels, known.GetLabels())
			known.SetLabels(labels)
		}
	}
	text := "# A fleet to try policies on, with the labels that they look for. In a workspace, an agent in each cluster writes the status.\n"
	for i, object := range all {
		document, err := sigsyaml.Marshal(object.Object)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			text += "---\n"
		}
		text += string(document)
	}
	return []byte(text), nil
}

// Order returns which policies of the library define weights, in the order in which these count.
func Order(library ...string) []string { return defining("weights", library) }

// defining returns the policies of the library that define a rule.
func defining(rule string, library []string) (names []string) {
	for _, name := range library {
		text, _ := fs.ReadFile(policies.Library, libraryModule(name)) // embedded
		module, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{})
		if err != nil {
			continue
		}
		for _, r := range module.Rules {
			if ref := r.Head.Ref(); len(ref) > 0 && ref[0].Value.Compare(ast.Var(rule)) == 0 {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

// identifier is the last part of the package of a policy.
func identifier(name string) string { return strings.ReplaceAll(name, "-", "_") }

func termsOf(library []string) string {
	var imports, rules string
	for _, name := range library {
		imports += "import data.placement.library." + identifier(name) + "\n"
		rules += fmt.Sprintf("\nterms contains term if some term in %s.terms\n", identifier(name))
	}
	return "# The terms of these policies add up.\npackage placement.affinity\n\n" + imports + rules
}

func weightsOf(library []string) string {
	imports, rule := "import data.placement.builtin.scoring as builtin\n", ""
	for i, name := range library {
		imports += "import data.placement.library." + identifier(name) + "\n"
		start := "weights := "
		if i > 0 {
			start = " else := "
		}
		rule += fmt.Sprintf("%[1]s%[2]s.weights if {\n\t%[2]s.weights != builtin.weights\n}", start, identifier(name))
	}
	return "# Weights do not add up. For each workload those of the first of these policies count that has any but the built-in ones: the\n" +
		"# order decides.\npackage placement.scoring\n\n" + imports + "\n" + rule + " else := builtin.weights\n"
}

func schedulingOf(library []string) string {
	var imports, rule string
	for i, name := range library {
		imports += "import data.placement.library." + identifier(name) + "\n"
		if i > 0 {
			rule += " else "
		} else {
			rule += "scheduling "
		}
		rule += fmt.Sprintf(":= %s.scheduling", identifier(name))
	}
	return "# For each workload the first of these policies counts that schedules it.\npackage placement\n\n" + imports + "\n" + rule + "\n"
}
