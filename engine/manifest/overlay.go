package manifest

import (
	"maps"
	"slices"
	"strings"

	"github.com/kcp-dev/logicalcluster/v3"
)

// Overlay returns workspaces as they would be once candidates were applied to them: an object takes the place of the
// one of its kind and name, a ConfigMap all its modules, and a file of Rego those of that file name, in every
// workspace. With prune, policies that the candidates do not have are removed. Neither side is changed.
func Overlay(workspaces, candidates []*Workspace, prune bool) []*Workspace {
	var result []*Workspace
	names := map[logicalcluster.Name]bool{}
	for _, w := range workspaces {
		result = append(result, w.with(candidates, prune))
		names[w.Name] = true
	}
	for _, c := range candidates {
		if !names[c.Name] && !c.onlyFiles() {
			result = append(result, c)
		}
	}
	return result
}

// onlyFiles tells whether a workspace has nothing but files of Rego, which are of no workspace in particular.
func (w *Workspace) onlyFiles() bool {
	return len(w.Clusters)+len(w.Placements)+len(w.Decisions)+len(w.Workloads)+len(w.configMaps) == 0
}

func (w *Workspace) with(candidates []*Workspace, prune bool) *Workspace {
	next := *w
	next.Modules = maps.Clone(w.Modules)
	if prune {
		next.Modules = map[string]Module{}
	}
	for _, c := range candidates {
		for _, name := range slices.Sorted(maps.Keys(c.Modules)) {
			if module := c.Modules[name]; module.file != nil {
				maps.DeleteFunc(next.Modules, func(known string, _ Module) bool { return Name(known) == Name(name) })
				next.Modules[name] = module
			}
		}
		if c.Name != w.Name {
			continue
		}
		for _, configMap := range c.configMaps {
			maps.DeleteFunc(next.Modules, func(known string, m Module) bool { return m.object != nil && strings.HasPrefix(known, configMap) })
		}
		for name, module := range c.Modules {
			next.Modules[name] = module
		}
		next.Clusters = replace(w.Clusters, c.Clusters)
		next.Placements = replace(w.Placements, c.Placements)
		next.Workloads = replace(w.Workloads, c.Workloads)
	}
	return &next
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
