// Package policy compiles a workspace's Rego together with the built-in modules, in a sandbox, and evaluates it once per
// class of workloads to weights and terms.
package policy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/kcp-placement/placement/engine/internal/lru"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/policies"
)

// Defaults of Options.
const (
	DefaultTimeout    = 5 * time.Second
	DefaultCacheBytes = 256 << 20
)

// Limits on the modules of one workspace. Compiling cannot be interrupted; they keep it below a fifth of a second.
const (
	MaxModules     = 64
	MaxRules       = 500
	MaxModuleBytes = 256 << 10
	MaxTotalBytes  = 1 << 20
	MaxNodes       = 10_000
	MaxNesting     = 100
	MaxDigits      = 32
)

// builtinFiles is the prefix of built-in modules' names. No other module has such a name: in a ConfigMap names have two slashes, and those
// of files end in .rego.
const builtinFiles = "placement.builtin/"

// Options of a Compiler; the zero value is ready to use.
type Options struct {
	// Timeout is the wall-clock limit of one evaluation: seconds, since a throttled container or a busy machine
	// can hold up any evaluation, while its cost is bounded by Budget and MaxCPUTime.
	Timeout time.Duration
	// CacheBytes is the memory that cached sets and errors may take, estimated from their text.
	CacheBytes int
}

// Compiler compiles sets of modules and caches them by content, so that workspaces with the same text share one Set. It
// is safe for concurrent use.
type Compiler struct {
	options      Options
	capabilities *ast.Capabilities
	schemas      *ast.SchemaSet
	builtin      map[string]*ast.Module
	// prefix is the built-in modules' part of every digest.
	prefix     []byte
	builtinSet *Set
	cache      *lru.Cache[string, compiled]
}

// NewCompiler makes a compiler.
func NewCompiler(options Options) (*Compiler, error) {
	if options.Timeout == 0 {
		options.Timeout = DefaultTimeout
	}
	if options.CacheBytes == 0 {
		options.CacheBytes = DefaultCacheBytes
	}
	capabilities, err := ast.LoadCapabilitiesJSON(bytes.NewReader(policies.Capabilities))
	if err != nil {
		return nil, err
	}
	schemas, err := schemaSet()
	if err != nil {
		return nil, err
	}
	c := &Compiler{
		options: options, capabilities: capabilities, schemas: schemas, builtin: map[string]*ast.Module{},
		cache: lru.New[string, compiled](lru.Options{MaxBytes: options.CacheBytes}),
	}
	files, err := fs.Glob(policies.Modules, "*.rego")
	if err != nil {
		return nil, err
	}
	for _, file := range files { // sorted by name
		text, err := fs.ReadFile(policies.Modules, file)
		if err != nil {
			return nil, err
		}
		c.prefix = fmt.Appendf(c.prefix, "%d %s %d %s", len(file), file, len(text), text)
		name := builtinFiles + strings.TrimSuffix(file, ".rego")
		if c.builtin[name], err = c.parse(name, string(text)); err != nil {
			return nil, err
		}
	}
	c.builtinSet, err = c.Compile(nil)
	return c, err
}

// schemaSet gives OPA's type checker the schema of the input, so that a misspelt field is an error and not undefined, and
// the other schemas of policies/schemas for use in annotations.
func schemaSet() (*ast.SchemaSet, error) {
	schemas := ast.NewSchemaSet()
	return schemas, fs.WalkDir(policies.Schemas, "schemas", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(policies.Schemas, path)
		if err != nil {
			return err
		}
		var schema any
		if err := json.Unmarshal(text, &schema); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		ref := ast.SchemaRootRef
		for element := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(path, "schemas/"), ".json"), "/") {
			ref = ref.Append(ast.StringTerm(element))
		}
		schemas.Put(ref, schema)
		if path == "schemas/input.json" {
			schemas.Put(ast.SchemaRootRef, schema)
		}
		return nil
	})
}

// digestOfBuiltin begins the digest of the built-in modules alone, in all versions.
const digestOfBuiltin = "builtin-"

// IsBuiltin reports whether a digest is of the built-in modules alone, in this version or another.
func IsBuiltin(digest string) bool { return strings.HasPrefix(digest, digestOfBuiltin) }

// Builtin returns the set of the built-in modules alone.
func (c *Compiler) Builtin() *Set { return c.builtinSet }

// Compile compiles modules, given as text by file name, all or none. Files that end in _test.rego are left out. The error
// is an Errors. Results are cached.
func (c *Compiler) Compile(modules map[string]string) (*Set, error) {
	modules = maps.Clone(modules)
	maps.DeleteFunc(modules, func(file, _ string) bool { return IsSuite(file) })
	if err := withinLimits(modules); err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write(c.prefix)
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		fmt.Fprintf(h, "%d %s %d %s", len(file), file, len(modules[file]), modules[file])
	}
	digest := hex.EncodeToString(h.Sum(nil))
	if len(modules) == 0 {
		digest = digestOfBuiltin + digest
	}
	if known, found := c.cache.Get(digest, time.Time{}); found {
		return known.set, known.err
	}
	set, errs := c.compile(digest, modules)
	var err error
	if len(errs) > 0 {
		set, err = nil, errs.sorted()
	}
	c.cache.Put(digest, compiled{set, err}, bytesOf(set, modules), time.Time{})
	return set, err
}

func withinLimits(modules map[string]string) error {
	var errs Errors
	total := 0
	for file, text := range modules {
		total += len(text)
		if len(text) > MaxModuleBytes {
			errs = append(errs, Error{file, 1, 1, codeLimit, fmt.Sprintf("the module has %d bytes, more than %d", len(text), MaxModuleBytes)})
		}
	}
	if len(modules) > MaxModules {
		errs = append(errs, at(nil, codeLimit, "the workspace has %d modules, more than %d", len(modules), MaxModules))
	}
	if total > MaxTotalBytes {
		errs = append(errs, at(nil, codeLimit, "the modules of the workspace have %d bytes together, more than %d", total, MaxTotalBytes))
	}
	if errs = append(errs, withinTokens(modules)...); len(errs) > 0 {
		return errs.sorted()
	}
	return nil
}

func (c *Compiler) compile(digest string, texts map[string]string) (set *Set, errs Errors) {
	defer func() {
		if p := recover(); p != nil {
			set, errs = nil, Errors{at(nil, "internal_error", "the modules cannot be compiled: %v", p)}
		}
	}()
	modules := make(map[string]*ast.Module, len(c.builtin)+len(texts))
	var nodes, rules int
	for file, text := range texts {
		module, err := c.parse(file, text)
		if err != nil {
			errs = append(errs, fromOPA(err)...)
			continue
		}
		errs = append(errs, examine(module, &nodes)...)
		rules += len(module.Rules)
		modules[file] = module
	}
	if nodes > MaxNodes {
		errs = append(errs, at(nil, codeLimit, "the modules of the workspace have %d syntax nodes together, more than %d", nodes, MaxNodes))
	}
	if rules > MaxRules {
		errs = append(errs, at(nil, codeLimit, "the modules of the workspace have %d rules together, more than %d", rules, MaxRules))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	for file, module := range c.builtin {
		modules[file] = module.Copy()
	}
	compiler := c.OPA()
	compiler.Compile(modules)
	if compiler.Failed() {
		return nil, fromOPA(compiler.Errors)
	}
	set, err := newSet(digest, compiler, c.options.Timeout)
	if err != nil {
		return nil, fromOPA(err)
	}
	return set, set.trial()
}

// OPA returns an OPA compiler with the capabilities and schemas of policies, which refuses modules that would take too long to
// type-check. It builds no comprehension indices: with one, OPA evaluates a comprehension without the variables around it,
// which the meter's fees need, and does work that is not charged for.
func (c *Compiler) OPA() *ast.Compiler {
	return ast.NewCompiler().WithCapabilities(c.capabilities).WithSchemas(c.schemas).WithDefaultRegoVersion(ast.RegoV1).
		WithStageAfterID(ast.StageCheckRecursion, ast.CompilerStageDefinition{Name: "CheckTypeSize", Stage: checkTypeSize}).
		WithSkipStages(ast.StageBuildComprehensionIndices)
}

// Suites returns a compiler like that of OPA for test suites, which may call every function without side effects.
func (c *Compiler) Suites() *ast.Compiler {
	all := ast.CapabilitiesForThisVersion()
	all.Builtins = slices.DeleteFunc(all.Builtins, func(b *ast.Builtin) bool {
		return slices.Contains([]string{ast.HTTPSend.Name, ast.NetLookupIPAddr.Name, ast.OPARuntime.Name}, b.Name)
	})
	all.AllowNet = []string{}
	return c.OPA().WithCapabilities(all)
}

// ParserOptions returns the options for parsing modules.
func (c *Compiler) ParserOptions() ast.ParserOptions {
	return ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: c.capabilities}
}

func (c *Compiler) parse(file, text string) (*ast.Module, error) {
	// Only a bare Parser takes a depth, without which hostile nesting costs hundreds of megabytes of stack.
	_, _, errs := ast.NewParser().WithFilename(file).WithReader(strings.NewReader(text)).
		WithRegoVersion(ast.RegoV1).WithCapabilities(c.capabilities).WithMaxRecursionDepth(MaxNesting).Parse()
	if len(errs) > 0 {
		return nil, errs
	}
	return ast.ParseModuleWithOpts(file, text, c.ParserOptions())
}

// SameRules reports whether modules, given as text by file name, differ only in comments and layout. Modules that cannot be parsed
// count as different.
func (c *Compiler) SameRules(a, b map[string]string) (same bool) {
	defer func() {
		if recover() != nil { // as in compile
			same = false
		}
	}()
	if withinLimits(a) != nil || withinLimits(b) != nil {
		return false
	}
	for file, text := range a {
		other, both := b[file]
		if !both {
			return false
		}
		if text == other {
			continue
		}
		one, err := c.parse(file, text)
		if err != nil {
			return false
		}
		two, err := c.parse(file, other)
		if err != nil || !one.Equal(two) {
			return false
		}
	}
	return len(a) == len(b)
}

var sample = Input{
	Workspace: "sample",
	Placement: workload.Placement{Name: "sample", Namespace: "default"},
	Workload: &workload.Workload{
		Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: "sample"},
		Replicas:  1,
	},
}

// trial evaluates the set for a workload without labels, so that errors that affect every workload are refused before
// the set is in force. A document that is undefined for this workload is not an error. A stop by a clock does not count: whether
// a set compiles must not depend on the machine.
func (s *Set) trial() Errors {
	_, err := s.Judge(context.Background(), sample)
	var (
		undefined *undefinedError
		budget    *BudgetError
		errs      Errors
	)
	switch {
	case err == nil, errors.As(err, &undefined):
		return nil
	case errors.As(err, &budget):
		return Errors{at(nil, codeLimit, "for a workload without labels, %v", err)}
	case Stopped(err):
		return nil
	case errors.As(err, &errs):
		return errs
	default:
		return fromOPA(err)
	}
}
