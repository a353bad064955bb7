package console

import (
	"cmp"
	"context"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/bundle"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/policies"
)

// policies returns what is in force in a workspace.
func (v *view) policies(w *manifest.Workspace) (*Policies, error) {
	p := &Policies{Shown: v.shown(w), Placements: []Text{}, Modules: w.Texts(), Shadow: w.TextsOf(v1alpha1.PolicySetShadow), Builtin: map[string]string{}}
	maps.DeleteFunc(p.Modules, func(name, _ string) bool { return strings.HasSuffix(name, "_test.rego") })
	for _, o := range w.Placements {
		object := o.Unstructured().DeepCopy()
		object.SetManagedFields(nil)
		delete(object.Object, "status")
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			return nil, err
		}
		p.Placements = append(p.Placements, Text{o.Typed.Namespace, o.Typed.Name, string(text)})
	}
	slices.SortFunc(p.Placements, func(a, b Text) int { return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name)) })
	names, err := fs.Glob(policies.Modules, "*.rego")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(policies.Modules, name)
		if err != nil {
			return nil, err
		}
		p.Builtin[name] = string(text)
	}
	factors := scoring.FactorNames()
	p.Factors = factors[:]
	p.Defaults, err = builtinWeights()
	return p, err
}

// compiler of policies that are not tried.
var compiler = sync.OnceValues(func() (*policy.Compiler, error) { return policy.NewCompiler(policy.Options{}) })

// builtinWeights are those of a workspace without policies.
var builtinWeights = sync.OnceValues(func() (map[string]int64, error) {
	compiler, err := compiler()
	if err != nil {
		return nil, err
	}
	set, err := compiler.Compile(nil)
	if err != nil {
		return nil, err
	}
	judgement, err := set.Judge(context.Background(), policy.Input{Workload: &workload.Workload{}})
	if err != nil {
		return nil, err
	}
	weights := map[string]int64{}
	for factor, name := range scoring.FactorNames() {
		weights[name] = judgement.Weights.Factors[factor]
	}
	return weights, nil
})

// library returns the policies of the library.
func library() (*Library, error) {
	folders, err := fs.ReadDir(policies.Library, "library")
	if err != nil {
		return nil, err
	}
	l := &Library{Presets: []Preset{}}
	for _, f := range folders {
		text, err := fs.ReadFile(policies.Library, path.Join("library", f.Name(), f.Name()+".rego"))
		if err != nil {
			return nil, err
		}
		title, about := metadata(string(text))
		entries := map[string]string{}
		for name, text := range bundle.Entries(f.Name()) {
			entries[f.Name()+"-"+name] = text
		}
		l.Presets = append(l.Presets, Preset{Name: f.Name(), Title: title, Description: about, File: f.Name() + ".rego", Module: string(text), Entries: entries})
	}
	return l, nil
}

// metadata returns what the comment at the start of a module says.
func metadata(module string) (title, about string) {
	var comment strings.Builder
	for line := range strings.Lines(module) {
		text, isComment := strings.CutPrefix(line, "# ")
		if !isComment {
			break
		}
		if !strings.HasPrefix(text, "METADATA") {
			comment.WriteString(text)
		}
	}
	var of struct{ Title, Description string }
	_ = yaml.Unmarshal([]byte(comment.String()), &of) // a test holds that the library's is YAML
	return of.Title, strings.TrimSpace(of.Description)
}
