package manifest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kcp-dev/logicalcluster/v3"
)

// Overlay returns workspaces as they would be once candidates were applied to them: an object takes the place of the
// one of its kind and name, a ConfigMap all its modules, and a file of Rego the module of its file name, in every
// workspace. With prune, policies that the candidates do not have are removed. Candidates that do not say which
// workspace they are of are of the only one that there is. Neither side is changed. It fails where it is not clear
// what a candidate stands for.
func Overlay(workspaces, candidates []*Workspace, prune bool) ([]*Workspace, error) {
	candidates, err := assigned(workspaces, candidates)
	if err != nil {
		return nil, err
	}
	files := filesOf(candidates)
	var result []*Workspace
	for _, c := range candidates {
		if len(c.Decisions) > 0 {
			return nil, &Error{Position: c.Decisions[0].Position(""), Object: c.Decisions[0].String(), Message: "a PlacementDecision is no candidate: the controller writes it"}
		}
		if !slices.ContainsFunc(workspaces, func(w *Workspace) bool { return w.Name == c.Name }) && !c.onlyFiles() {
			// A workspace that is new has the files of Rego that the others have.
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

// assigned puts candidates of the default workspace into the only one that there is, where that has another name.
func assigned(workspaces, candidates []*Workspace) ([]*Workspace, error) {
	var names []string
	for _, w := range workspaces {
		names = append(names, w.Name.String())
	}
	result := slices.Clone(candidates)
	for i, c := range candidates {
		if c.Name != DefaultWorkspace || c.onlyFiles() || slices.Contains(names, c.Name.String()) {
			continue
		}
		if len(names) != 1 {
			return nil, fmt.Errorf("candidates do not say which workspace they are of: give them the annotation %s with one of %s",
				logicalcluster.AnnotationKey, strings.Join(names, ", "))
		}
		renamed := *c
		renamed.Name = workspaces[0].Name
		result[i] = &renamed
	}
	return result, nil
}

// onlyFiles tells whether a workspace has nothing but files of Rego, which are of no workspace in particular.
func (w *Workspace) onlyFiles() bool {
	return len(w.Clusters)+len(w.Placements)+len(w.Decisions)+len(w.Workloads)+len(w.configMaps) == 0
}

// Empty tells whether there is nothing in the workspace at all.
func (w *Workspace) Empty() bool { return w.onlyFiles() && len(w.Modules) == 0 }

// filesOf returns the modules that are files of Rego.
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

// replaceFiles puts files of Rego in the place of the modules of their file names.
func (w *Workspace) replaceFiles(files map[string]Module) error {
	for _, file := range slices.Sorted(maps.Keys(files)) {
		var replaced []string
		for _, known := range slices.Sorted(maps.Keys(w.Modules)) {
			if _, isCandidate := files[known]; Name(known) == Name(file) && !isCandidate {
				replaced = append(replaced, known)
			}
		}
		if len(replaced) > 1 {
			return fmt.Errorf("%s could stand for any of %s: give the ConfigMap as a candidate", file, strings.Join(replaced, ", "))
		}
		for _, known := range replaced {
			delete(w.Modules, known)
		}
	}
	maps.Copy(w.Modules, files)
	return nil
}

// replaceObjects puts the objects of a candidate in the place of those of their names.
func (w *Workspace) replaceObjects(c *Workspace) {
	for _, configMap := range c.configMaps {
		maps.DeleteFunc(w.Modules, func(known string, m Module) bool { return m.object != nil && strings.HasPrefix(known, configMap) })
	}
	maps.Copy(w.Modules, c.Modules)
	w.Clusters = replace(w.Clusters, c.Clusters)
	w.Placements = replace(w.Placements, c.Placements)
	w.Workloads = replace(w.Workloads, c.Workloads)
}

// replace puts objects in the place of those of their names, and adds the others.
func replace[T interface{ String() string }](known, by []T) []T {
	result := slices.Clone(known)
	for _, o := range by {
		if i := slices.IndexFunc(result, func(k T) bool { return k.String() == o.String() }); i >= 0 {
			result[i] = o
		} else {
			result = append(result, o)
		}
	}
	return result
}
