package starter

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"path"

	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/offline/bundle"
	"github.com/kcp-placement/placement/offline/scenario"
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
	for name, text := range bundle.Entries(library...) {
		files["policies/"+name] = []byte(text)
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
func Order(library ...string) []string { return bundle.Defining("weights", library) }
