package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/offline/manifest"
)

// configMaps reports what of the ConfigMaps is not loaded.
func (c *checker) configMaps(w *manifest.Workspace) {
	for _, o := range w.ConfigMaps {
		c.lint(o.Object, lint.ConfigMap(o.Typed))
	}
}

// modules checks the Rego of a workspace, and returns the policies that come into force; nil if they do not.
func (c *checker) modules(w *manifest.Workspace) *policy.Set {
	texts := w.Texts()
	c.report.Modules += len(texts)
	set, err := c.policies.Compile(texts)
	if err != nil {
		c.rego(w, Error, "", err)
		return nil
	}
	c.engine.SetPolicies(w.Name, set)
	errs, warnings := c.policies.Lint(texts)
	c.rego(w, Error, "", errs)
	c.rego(w, Warning, CodeLint, warnings)
	return set
}

// shadow checks the Rego of the shadow policies.
func (c *checker) shadow(w *manifest.Workspace) {
	texts := w.TextsOf(v1alpha1.PolicySetShadow)
	c.report.Modules += len(texts)
	if _, err := c.policies.Compile(texts); err != nil {
		c.rego(w, Error, "", err)
		return
	}
	errs, warnings := c.policies.Lint(texts)
	c.rego(w, Error, "", errs)
	c.rego(w, Warning, CodeLint, warnings)
}

// effect looks for parts of policies that have no effect, and evaluates the policies for made-up workloads. It returns its findings.
func (c *checker) effect(ctx context.Context, w *manifest.Workspace, set *policy.Set, linter *lint.Workspace) []lint.Finding {
	kinds := c.kinds.References()
	checked := lint.Policies{Set: set, Kinds: kinds, Probes: set.Probe(ctx, kinds), Fleet: linter.Fleet, Workloads: linter.Workloads}
	found := checked.Find()
	for _, f := range found {
		found := c.inModule(w, policy.Error{File: f.Object, Row: f.Line, Col: f.Column, Code: f.Code, Message: f.Message})
		found.Severity = f.Severity
		if message, _, _ := strings.Cut(found.Message, " (for a "); !c.reported(found, message) {
			c.find(found)
		}
	}
	return found
}

// rego adds errors of policies at their positions, with the given code or their own.
func (c *checker) rego(w *manifest.Workspace, severity Severity, code string, err error) {
	var errs policy.Errors
	if !errors.As(err, &errs) {
		errs = policy.Errors{{Code: CodeJudgement, Message: err.Error()}}
	}
	for _, e := range errs {
		f := c.inModule(w, e)
		f.Severity, f.Code = severity, cmp.Or(code, e.Code)
		c.find(f)
	}
}

// inModule returns the finding for an error in a module, at its position.
func (c *checker) inModule(w *manifest.Workspace, e policy.Error) Finding {
	p, found := w.At(e.File, e.Row, e.Col)
	if !found {
		p.Object = "policies of workspace " + w.Name.String()
	}
	return Finding{Severity: Error, Code: e.Code, Position: p.Position, Object: p.Object, Field: p.Field, Message: p.Within(e.Message)}
}

// judgement adds the error of evaluating the policies for a workload, only once if many workloads share it.
func (c *checker) judgement(w *manifest.Workspace, o manifest.Workload, err error) {
	before := len(c.report.Findings)
	c.rego(w, Error, "", err)
	found := slices.Clone(c.report.Findings[before:])
	c.report.Findings = c.report.Findings[:before]
	for _, f := range found {
		if f.File == nil { // for example if the policies exceed their budget
			f.Code, f.Position, f.Object = CodeJudgement, o.Position(""), o.String()
		}
		if !c.reported(f, f.Message) {
			f.Message += fmt.Sprintf(" (for %s)", o)
			c.find(f)
		}
	}
}

// reported reports whether there is already a finding that begins with a message.
func (c *checker) reported(f Finding, message string) bool {
	return slices.ContainsFunc(c.report.Findings, func(k Finding) bool {
		return k.Position == f.Position && k.Code == f.Code && strings.HasPrefix(k.Message, message)
	})
}
