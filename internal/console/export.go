package console

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/bundle"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// export returns what was tried as something to keep: a ConfigMap with the placements, or a scenario with all that it takes.
func (v *view) export(ctx context.Context, kinds *workload.Table, w *manifest.Workspace, e *Export) (*Exported, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	if e.Objects != "" {
		workspaces, wrong := manifest.Reader{Kinds: kinds}.Read([]*manifest.File{{Name: "objects", Text: e.Objects}})
		if err := manifest.Join(wrong); err != nil || len(workspaces) != 1 {
			return nil, &failure{http.StatusUnprocessableEntity, fmt.Sprintf("objects: they must be of one workspace, and right: %v", err)}
		}
		w = workspaces[0]
	}
	overlaid, wrong, err := e.overlay(kinds, w)
	if err != nil {
		return nil, err
	}
	if err := manifest.Join(wrong); err != nil {
		return nil, &failure{http.StatusUnprocessableEntity, "what is wrong cannot be exported: " + err.Error()}
	}
	switch e.As {
	case "configmap":
		return configMap(overlaid, e)
	case "scenario":
		return scenarioOf(ctx, overlaid)
	}
	return nil, &failure{http.StatusUnprocessableEntity, fmt.Sprintf("as: %q must be configmap or scenario", e.As)}
}

// configMap is the modules as a ConfigMap, and the placements.
func configMap(w *manifest.Workspace, e *Export) (*Exported, error) {
	data := map[string]string{}
	namespace := ""
	for _, p := range w.Placements {
		namespace = p.Typed.Namespace
	}
	for name, text := range w.Texts() {
		key := manifest.Name(name)
		if wrong := validation.IsConfigMapKey(key); len(wrong) > 0 {
			return nil, &failure{http.StatusUnprocessableEntity, fmt.Sprintf("modules: %s cannot be a key of a ConfigMap: %s", name, wrong[0])}
		}
		if _, twice := data[key]; twice {
			return nil, &failure{http.StatusUnprocessableEntity, fmt.Sprintf("modules: two of them would have the key %s of the ConfigMap: rename one", key)}
		}
		data[key] = text
	}
	var parts []string
	if len(data) > 0 {
		text, err := bundle.ConfigMap("placement-policies", namespace, data, "yaml")
		if err != nil {
			return nil, err
		}
		parts = append(parts, text)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Placements)) {
		parts = append(parts, strings.TrimSuffix(e.Placements[name], "\n")+"\n")
	}
	if len(parts) == 0 {
		return nil, &failure{http.StatusUnprocessableEntity, "there is neither a module nor a placement to export"}
	}
	return &Exported{"policies.yaml", strings.Join(parts, "---\n")}, nil
}

// scenarioOf is the workspace as a scenario for kubectl placement test, which expects what is decided now.
func scenarioOf(ctx context.Context, w *manifest.Workspace) (*Exported, error) {
	archive := &txtar.Archive{Comment: []byte("What was tried in the console, with the decisions of then.\n\n")}
	add := func(name string, objects []*manifest.Object) error {
		var text strings.Builder
		for i, o := range objects {
			part, err := yaml.Marshal(portable(o.Unstructured()))
			if err != nil {
				return err
			}
			if i > 0 {
				text.WriteString("---\n")
			}
			text.Write(part)
		}
		if len(objects) > 0 {
			archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(text.String())})
		}
		return nil
	}
	for name, objects := range map[string][]*manifest.Object{
		"fleet.yaml":      slices.Concat(objectsOf(w.Clusters), objectsOf(w.Usages), objectsOf(w.Scores)),
		"placements.yaml": objectsOf(w.Placements),
		"workloads.yaml":  append(objectsOf(w.LimitRanges), workloadsOf(w)...),
	} {
		if err := add(name, objects); err != nil {
			return nil, err
		}
	}
	for name, text := range w.Texts() {
		archive.Files = append(archive.Files, txtar.File{Name: "policies/" + strings.ReplaceAll(name, "/", "-"), Data: []byte(text)})
	}
	slices.SortFunc(archive.Files, func(a, b txtar.File) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range archive.Files {
		if line := marker.Find(f.Data); line != nil {
			return nil, &failure{http.StatusUnprocessableEntity, fmt.Sprintf("%s: a scenario cannot hold the line %q, which would begin another file: change it", f.Name, line)}
		}
	}
	expect, err := expectations(ctx, w)
	if err != nil {
		return nil, err
	}
	archive.Files = append(archive.Files, txtar.File{Name: "expect.yaml", Data: expect})
	return &Exported{"console.txtar", string(txtar.Format(archive))}, nil
}

var marker = regexp.MustCompile(`(?m)^-- .* --\r?$`)

func objectsOf[T any](all []manifest.Typed[T]) []*manifest.Object {
	objects := make([]*manifest.Object, len(all))
	for i := range all {
		objects[i] = all[i].Object
	}
	return objects
}

func workloadsOf(w *manifest.Workspace) []*manifest.Object {
	objects := make([]*manifest.Object, len(w.Workloads))
	for i := range w.Workloads {
		objects[i] = w.Workloads[i].Object
	}
	return objects
}

// portable is an object without what only a server says of it.
func portable(o *unstructured.Unstructured) map[string]any {
	o = o.DeepCopy()
	o.SetManagedFields(nil)
	o.SetUID("")
	o.SetResourceVersion("")
	o.SetGeneration(0)
	annotations := o.GetAnnotations()
	delete(annotations, "kcp.io/cluster")
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	o.SetAnnotations(annotations)
	return o.Object
}

// expectations are what is decided for all workloads anew.
func expectations(ctx context.Context, w *manifest.Workspace) ([]byte, error) {
	sim, err := simulation.New(simulation.Options{Fresh: true})
	if err != nil {
		return nil, err
	}
	if err := sim.Load(ctx, []*manifest.Workspace{w}); err != nil {
		return nil, &failure{http.StatusUnprocessableEntity, "what is wrong cannot be a scenario: " + err.Error()}
	}
	result, err := sim.Run(ctx)
	if err != nil {
		return nil, err
	}
	expected := map[string]map[string][]string{}
	for i := range result.Decisions {
		d := &result.Decisions[i]
		clusters := []string{}
		for _, c := range d.Clusters {
			clusters = append(clusters, c.Name)
		}
		expected[d.Workload.String()] = map[string][]string{"clusters": clusters}
	}
	return yaml.Marshal(expected)
}
