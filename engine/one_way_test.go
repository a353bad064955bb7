package engine

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDecideGoesOneWay follows a request through Decide from file to file: no file calls one that has called it, directly or not. So the
// files can be read in one order, from decide.go to what they rest on.
func TestDecideGoesOneWay(t *testing.T) {
	calls := callsIn(t, ".")
	next := map[string]map[string]string{} // by file, with a call for example
	for caller := range reachable(calls, "Engine.Decide") {
		for callee := range calls[caller] {
			if from, to := caller.file, callee.file; from != to {
				if next[from] == nil {
					next[from] = map[string]string{}
				}
				next[from][to] = fmt.Sprintf("%s in %s calls %s in %s", caller.name, from, callee.name, to)
			}
		}
	}
	if len(next) < 20 {
		t.Fatalf("%d files are called: the calls are not all found", len(next))
	}
	done := map[string]bool{}
	var follow func(file string, way []string)
	follow = func(file string, way []string) {
		if at := slices.Index(way, file); at >= 0 {
			var steps []string
			for i, from := range way[at:] {
				to := file
				if at+i+1 < len(way) {
					to = way[at+i+1]
				}
				steps = append(steps, next[from][to])
			}
			t.Errorf("a way back:\n%s", strings.Join(steps, "\n"))
			return
		}
		if done[file] {
			return
		}
		for _, to := range slices.Sorted(maps.Keys(next[file])) {
			follow(to, append(slices.Clone(way), file))
		}
		done[file] = true
	}
	follow("engine.go", nil)
}

// function is one of the package: "Type.method" or "function".
type function struct{ name, file string }

// source is the package without its tests. What it imports is not read: its own types suffice.
type source struct {
	*types.Package
	info  types.Info
	fset  *token.FileSet
	files []*ast.File
}

func checked(t *testing.T, dir string) *source {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	s := &source{fset: token.NewFileSet(), info: types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}}
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.fset, p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, f)
	}
	config := types.Config{Importer: standardLibrary{importer.Default()}, Error: func(error) {}}
	s.Package, _ = config.Check("engine", s.fset, s.files, &s.info)
	return s
}

// callsIn returns which functions of a package each of them mentions.
func callsIn(t *testing.T, dir string) map[function]map[function]bool {
	s := checked(t, dir)
	of := func(f *types.Func) function {
		name := f.Name()
		if receiver := f.Signature().Recv(); receiver != nil {
			typ := receiver.Type()
			if pointer, is := typ.(*types.Pointer); is {
				typ = pointer.Elem()
			}
			name = typ.(*types.Named).Obj().Name() + "." + name
		}
		return function{name, path.Base(s.fset.Position(f.Pos()).Filename)}
	}
	calls := map[function]map[function]bool{}
	for _, file := range s.files {
		for _, declaration := range file.Decls {
			d, is := declaration.(*ast.FuncDecl)
			if !is {
				continue
			}
			caller := of(s.info.Defs[d.Name].(*types.Func))
			calls[caller] = map[function]bool{}
			ast.Inspect(d, func(n ast.Node) bool {
				if id, is := n.(*ast.Ident); is {
					if f, is := s.info.Uses[id].(*types.Func); is && f.Pkg() == s.Package {
						calls[caller][of(f.Origin())] = true
					}
				}
				return true
			})
		}
	}
	return calls
}

// standardLibrary imports no other packages: it has empty ones in their place.
type standardLibrary struct{ types.Importer }

func (s standardLibrary) Import(p string) (*types.Package, error) {
	if domain, _, _ := strings.Cut(p, "/"); !strings.Contains(domain, ".") {
		return s.Importer.Import(p)
	}
	empty := types.NewPackage(p, path.Base(p))
	empty.MarkComplete()
	return empty, nil
}

func reachable(calls map[function]map[function]bool, from string) map[function]bool {
	reached := map[function]bool{}
	var reach func(f function)
	reach = func(f function) {
		if !reached[f] {
			reached[f] = true
			for callee := range calls[f] {
				reach(callee)
			}
		}
	}
	for f := range calls {
		if f.name == from {
			reach(f)
		}
	}
	return reached
}

// TestNamesAreNotDoubled: no two types, functions or values of the package are told apart by the case of a letter alone.
func TestNamesAreNotDoubled(t *testing.T) {
	declared := map[string]string{}
	for _, name := range checked(t, ".").Scope().Names() {
		if other := declared[strings.ToLower(name)]; other != "" {
			t.Errorf("%s and %s", other, name)
		}
		declared[strings.ToLower(name)] = name
	}
	if len(declared) < 50 {
		t.Errorf("%d names: they are not all found", len(declared))
	}
}
