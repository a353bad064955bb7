package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/policy"
)

// Overlay returns workspaces as they would be with candidates applied: an object replaces the one of its kind and name, a
// ConfigMap replaces all its modules, and a Rego file replaces the module of its file name in every workspace. With prune,
// policies that are not candidates are removed. Candidates without a workspace belong to the only one, if there is only
// one. The arguments are not changed. Overlay fails if it is ambiguous what a candidate replaces.
func Overlay(workspaces, candidates []*Workspace, prune bool) ([]*Workspace, error) {
	candidates, err := assigned(workspaces, candidates)
	if err != nil {
		return nil, err
	}
	files := filesOf(candidates)
	var result []*Workspace
	for _, c := range candidates {
		if len(c.Decisions) > 0 {
			return nil, &Error{Position: c.Decisions[0].Position(""), Object: c.Decisions[0].String(), Message: "a PlacementDecision cannot be a candidate: the controller writes it"}
		}
		if !slices.ContainsFunc(workspaces, func(w *Workspace) bool { return w.Name == c.Name }) && !c.onlyFiles() {
			// A new workspace has the Rego files of the others.
			result = append(result, &Workspace{Name: c.Name, Modules: filesOf(workspaces)})
		}
	}
	result = append(slices.Clone(workspaces), result...)
	var errs []error
	for i, w := range result {
		next := *w
		next.Modules = maps.Clone(w.Modules)
		if prune {
			next.Modules = map[string]Module{}
		}
		errs = append(errs, next.replaceFiles(files))
		for _, c := range candidates {
			if c.Name == w.Name {
				next.replaceObjects(c)
			}
		}
		result[i] = &next
	}
	return result, errors.Join(errs...)
}

// assigned moves candidates of the default workspace into the only workspace, if that has another name, and those that name a workspace
// only by its path into the workspace at that path.
func assigned(workspaces, candidates []*Workspace) ([]*Workspace, error) {
	var names []string
	for _, w := range workspaces {
		names = append(names, cmp.Or(w.Path, w.Name.String()))
	}
	result := slices.Clone(candidates)
	for i, c := range candidates {
		if at := slices.IndexFunc(workspaces, func(w *Workspace) bool { return w.Path != "" && w.Path == c.Name.String() }); at >= 0 && workspaces[at].Name != c.Name {
			renamed := *c
			renamed.Name = workspaces[at].Name
			result[i] = &renamed
			continue
		}
		if c.Name != DefaultWorkspace || c.onlyFiles() || slices.ContainsFunc(workspaces, func(w *Workspace) bool { return w.Name == c.Name }) {
			continue
		}
		if len(names) != 1 {
			return nil, fmt.Errorf("candidates do not say which workspace they are of: give them the annotation %s or %s of one of %s",
				annotationPath, logicalcluster.AnnotationKey, strings.Join(names, ", "))
		}
		renamed := *c
		renamed.Name = workspaces[0].Name
		result[i] = &renamed
	}
	return result, nil
}

// onlyFiles reports whether a workspace holds only Rego files, which belong to every workspace.
func (w *Workspace) onlyFiles() bool {
	return len(w.Clusters)+len(w.Usages)+len(w.Scores)+len(w.Placements)+len(w.Decisions)+len(w.Workloads)+len(w.ConfigMaps)+len(w.LimitRanges)+len(w.Configs)+len(w.Sets)+len(w.Bindings) == 0
}

// Empty reports whether the workspace holds nothing.
func (w *Workspace) Empty() bool { return w.onlyFiles() && len(w.Modules) == 0 }

// filesOf returns the modules that are Rego files.
func filesOf(workspaces []*Workspace) map[string]Module {
	files := map[string]Module{}
	for _, w := range workspaces {
		for name, module := range w.Modules {
			if module.file != nil {
				files[name] = module
			}
		}
	}
	return files
}

// replaceFiles replaces the modules whose file names are those of Rego files.
func (w *Workspace) replaceFiles(files map[string]Module) error {
	for _, file := range slices.Sorted(maps.Keys(files)) {
		var replaced []string
		for _, module := range slices.Sorted(maps.Keys(w.Modules)) {
			if _, isCandidate := files[module]; Name(module) == Name(file) && !isCandidate && w.Modules[module].Set == "" {
				replaced = append(replaced, module)
			}
		}
		if len(replaced) > 1 {
			return fmt.Errorf("%s could replace any of %s: give the ConfigMap as a candidate", file, strings.Join(replaced, ", "))
		}
		for _, module := range replaced {
			delete(w.Modules, module)
		}
	}
	maps.Copy(w.Modules, files)
	return nil
}

// replaceObjects replaces objects by those of a candidate with the same kinds and names, and adds the others.
func (w *Workspace) replaceObjects(c *Workspace) {
	for _, configMap := range c.ConfigMaps {
		own := policy.ModuleName(configMap.Typed, "")
		maps.DeleteFunc(w.Modules, func(name string, m Module) bool { return m.object != nil && strings.HasPrefix(name, own) })
	}
	maps.Copy(w.Modules, c.Modules)
	w.ConfigMaps = replace(w.ConfigMaps, c.ConfigMaps)
	w.Clusters = replace(w.Clusters, c.Clusters)
	w.Usages = replace(w.Usages, c.Usages)
	w.Scores = replace(w.Scores, c.Scores)
	w.Placements = replace(w.Placements, c.Placements)
	w.Workloads = replace(w.Workloads, c.Workloads)
	w.LimitRanges = replace(w.LimitRanges, c.LimitRanges)
	w.Configs = replace(w.Configs, c.Configs)
	w.Sets = replace(w.Sets, c.Sets)
	w.Bindings = replace(w.Bindings, c.Bindings)
	if len(c.Workloads)+len(c.LimitRanges) > 0 { // otherwise they ask for the same as before
		w.countRequests()
	}
}

// replace returns objects with those in by replacing the ones with the same names, and the others of by appended.
func replace[T interface{ String() string }](objects, by []T) []T {
	result := slices.Clone(objects)
	for _, o := range by {
		if i := slices.IndexFunc(result, func(r T) bool { return r.String() == o.String() }); i >= 0 {
			result[i] = o
		} else {
			result = append(result, o)
		}
	}
	return result
}
