package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Position is a place in a module. Row and Col start at 1.
type Position struct {
	File     string
	Row, Col int
}

func positionOf(l *ast.Location) Position {
	if l == nil {
		return Position{}
	}
	return Position{l.File, l.Row, l.Col}
}

func (p Position) compare(o Position) int {
	return cmp.Or(cmp.Compare(p.File, o.File), cmp.Compare(p.Row, o.Row), cmp.Compare(p.Col, o.Col))
}

// Unread is a rule that no result of the policies depends on, or a package with only such rules.
type Unread struct {
	Position
	// Path is for example placement.scoring.weight.
	Path string
	// Package is set for a package, Empty if the module has no rules.
	Package, Empty bool
}

// Undefined is a reference to something that no module defines, and that therefore never has a value.
type Undefined struct {
	Position
	// Path is for example placement.teams.clusters.
	Path string
}

// EntryPoints are the paths of the rules that the engine reads.
func EntryPoints() []string {
	return []string{pathOf(weightsPath), pathOf(termsPath), pathOf(useBuiltinPath), pathOf(schedulingPath)}
}

func pathOf(path string) string { return strings.TrimPrefix(path, "data.") }

// entryPackages are the packages in which the engine looks for rules, so that an unread rule there is likely misspelt.
var entryPackages = []string{"placement", "placement.scoring", "placement.affinity", "placement.scheduling"}

// library is the prefix of packages that may define more than is used of them.
const library = "placement.library."

// unreadOf returns the rules and packages that nothing reads, by position.
func unreadOf(compiler *ast.Compiler) (unread []Unread) {
	reached := reachable(compiler)
	readPackages := map[string]bool{}
	for _, module := range compiler.Modules {
		for _, rule := range module.Rules {
			if reached[rule] {
				readPackages[pathOf(module.Package.Path.String())] = true
			}
		}
	}
	seen := map[string]bool{}
	for _, file := range ownFiles(compiler) {
		module := compiler.Modules[file]
		name := pathOf(module.Package.Path.String())
		switch {
		case len(module.Rules) == 0:
			unread = append(unread, Unread{positionOf(module.Package.Location), name, true, true})
		case !readPackages[name] && !slices.Contains(entryPackages, name):
			unread = append(unread, Unread{positionOf(module.Package.Location), name, true, false})
		case !strings.HasPrefix(name, library):
			for _, rule := range module.Rules {
				path := pathOf(rule.Ref().GroundPrefix().String())
				if !reached[rule] && !seen[path] {
					seen[path] = true
					unread = append(unread, Unread{positionOf(rule.Location), path, false, false})
				}
			}
		}
	}
	return unread
}

// IsLibrary reports whether the workspace has only modules meant for others to use.
func (s *Set) IsLibrary() bool {
	return !slices.ContainsFunc(ownFiles(s.compiler), func(file string) bool {
		return !strings.HasPrefix(pathOf(s.compiler.Modules[file].Package.Path.String()), library)
	})
}

// reachable returns the rules that results depend on.
func reachable(compiler *ast.Compiler) map[*ast.Rule]bool {
	reached := map[*ast.Rule]bool{}
	var next []*ast.Rule
	for _, path := range []string{weightsPath, termsPath, useBuiltinPath, schedulingPath} {
		next = append(next, rules(compiler, path)...)
	}
	for len(next) > 0 {
		rule := next[len(next)-1]
		next = next[:len(next)-1]
		for part := rule; part != nil && !reached[part]; part = part.Else {
			reached[part] = true
			for node := range compiler.Graph.Dependencies(part) {
				next = append(next, node.(*ast.Rule))
			}
		}
	}
	return reached
}

// ownFiles returns the names of the workspace's modules, sorted.
func ownFiles(compiler *ast.Compiler) (files []string) {
	for file, module := range compiler.Modules {
		if !module.Package.Path.HasPrefix(builtinPrefix) {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files
}

// maxPath is how many elements of a path are examined: comparing the prefixes of longer ones has quadratic cost.
const maxPath = 16

// undefinedOf returns the references to something that no module defines, each once per module.
func undefinedOf(compiler *ast.Compiler) (undefined []Undefined) {
	// Paths of rules, and their prefixes.
	exact, above := map[string]bool{}, map[string]bool{}
	for _, module := range compiler.Modules {
		for _, rule := range module.Rules {
			path := rule.Ref().StringPrefix()
			for i := range min(len(path), maxPath) {
				above[path[:i+1].String()] = true
			}
			if len(path) <= maxPath {
				exact[path.String()] = true
			}
		}
	}
	defined := func(path ast.Ref) bool {
		if above[path.String()] {
			return true
		}
		for i := range path {
			if exact[path[:i+1].String()] {
				return true
			}
		}
		return false
	}
	seen := map[[2]string]bool{}
	for _, file := range ownFiles(compiler) {
		for _, rule := range compiler.Modules[file].Rules {
			ast.WalkTerms(rule, func(t *ast.Term) bool {
				ref, ok := t.Value.(ast.Ref)
				if !ok || !ref.HasPrefix(prefix) {
					return false
				}
				path := ref.StringPrefix()
				path = path[:min(len(path), maxPath)]
				if at := [2]string{file, path.String()}; !defined(path) && !seen[at] {
					seen[at] = true
					undefined = append(undefined, Undefined{positionOf(cmp.Or(t.Location, rule.Location)), pathOf(path.String())})
				}
				return false
			})
		}
	}
	return undefined
}

// ruleAt returns the location of the rule that a part of a module belongs to; nil if not known.
func (s *Set) ruleAt(location *ast.Location) (rule *ast.Location) {
	if location == nil {
		return nil
	}
	for _, module := range s.compiler.Modules {
		for _, r := range module.Rules {
			if r.Location.File == location.File && r.Location.Compare(location) <= 0 && (rule == nil || rule.Compare(r.Location) < 0) {
				rule = r.Location
			}
		}
	}
	return rule
}

// Origin returns the position of the rule that made a term of a judgement; own is false for a built-in one.
func (s *Set) Origin(j *Judgement, term int) (p Position, own bool) {
	rule := s.ruleAt(j.locations[term])
	return positionOf(rule), rule == nil || !strings.HasPrefix(rule.File, builtinFiles)
}

// OriginOfWeights returns the position of the rule that made the weights of a judgement.
func (s *Set) OriginOfWeights(j *Judgement) Position {
	if rule := s.ruleAt(j.weightsAt); rule != nil {
		return positionOf(rule)
	}
	return positionOf(s.firstRule(weightsPath))
}

// Rules returns the paths of all rules, sorted.
func (s *Set) Rules() (paths []string) {
	for _, module := range s.compiler.Modules {
		for _, rule := range module.Rules {
			path := rule.Ref().StringPrefix()
			paths = append(paths, pathOf(path[:min(len(path), maxPath)].String()))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// OriginOfScheduling returns the position of the rule that made a field of a judgement's scheduling.
func (s *Set) OriginOfScheduling(j *Judgement, field string) Position {
	return positionOf(s.schedulingAt(j.scheduling, field))
}
