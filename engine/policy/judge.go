package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/workload"
)

// Limits on the results of policies.
const (
	MaxWeight = 100
	MaxDelta  = 100
	MaxTerms  = 256
	MaxReason = 256
)

// Input is the document `input` of policies.
type Input struct {
	Workspace string
	Placement workload.Placement
	Workload  *workload.Workload
}

// Judgement is the result of the policies for one class of workloads.
type Judgement struct {
	Weights scoring.Weights
	// Terms of the workspace and the built-in ones, in a deterministic order.
	Terms []scoring.Term

	// Scheduling applies to fields that the placement leaves out; nil if policies define none.
	Scheduling *placement.Scheduling

	// locations are where the terms are written, weightsAt is where the weights are, scheduling is the value that Scheduling was read from.
	locations  []*ast.Location
	weightsAt  *ast.Location
	scheduling *ast.Term
}

// Set is the compiled policies of a workspace. It is safe for concurrent use.
type Set struct {
	digest   string
	compiler *ast.Compiler
	query    ast.Body
	timeout  time.Duration
	reads    workload.Reads
	// constants are results that need no evaluation.
	constants map[ast.Var]*ast.Term
	schedules bool
	relates   bool

	unread      []Unread
	undefined   []Undefined
	comparisons []Comparison
	conditions  []condition
}

// Unread returns the rules and packages that nothing reads, by position.
func (s *Set) Unread() []Unread { return s.unread }

// Undefined returns the references to what no module defines.
func (s *Set) Undefined() []Undefined { return s.undefined }

// Comparisons returns the comparisons of parts of the input with literals, by position. Not all are found.
func (s *Set) Comparisons() []Comparison { return s.comparisons }

// Reads returns what the policies can read of a workload. Invariant: two workloads that agree in it get the same judgement.
func (s *Set) Reads() workload.Reads { return s.reads }

// Schedules reports whether the policies may define how workloads are scheduled: Judgement.Scheduling.
func (s *Set) Schedules() bool { return s.schedules }

// Relates reports whether the policies may have terms of affinity between workloads.
func (s *Set) Relates() bool { return s.relates }

// Digest identifies the text of the policies, the built-in ones included.
func (s *Set) Digest() string { return s.digest }

// Entry points.
const (
	weightsPath        = "data.placement.scoring.weights"
	builtinWeightsPath = "data.placement.builtin.scoring.weights"
	termsPath          = "data.placement.affinity.terms"
	builtinTermsPath   = "data.placement.builtin.affinity.terms"
	useBuiltinPath     = "data.placement.affinity.use_builtin"
	schedulingPath     = "data.placement.scheduling"
)

// Variables of the query, one for each result.
const (
	weightsVar    ast.Var = "weights"
	builtinVar    ast.Var = "builtin"
	termsVar      ast.Var = "terms"
	useVar        ast.Var = "use"
	schedulingVar ast.Var = "scheduling"
)

func newSet(digest string, compiler *ast.Compiler, timeout time.Duration) (*Set, error) {
	s := &Set{digest: digest, compiler: compiler, timeout: timeout, reads: readsOf(compiler.Modules), constants: map[ast.Var]*ast.Term{}}
	weights := weightsPath
	if !defined(compiler, weightsPath) {
		weights = builtinWeightsPath
	}
	var query []string
	for _, document := range []struct {
		name ast.Var
		path string
	}{{weightsVar, weights}, {builtinVar, builtinTermsPath}, {termsVar, termsPath}, {useVar, useBuiltinPath}, {schedulingVar, schedulingPath}} {
		if constant := constantAt(compiler, document.path); constant != nil {
			s.constants[document.name] = constant
		} else if defined(compiler, document.path) {
			// Each result is wrapped in a list, which is empty if the document is undefined.
			query = append(query, fmt.Sprintf("%s = [x | x := %s]", document.name, document.path))
		}
	}
	body, err := ast.ParseBody(strings.Join(query, "; "))
	if err != nil {
		return nil, err
	}
	if s.query, err = compiler.QueryCompiler().Compile(body); err != nil {
		return nil, err
	}
	s.schedules, s.relates = defined(compiler, schedulingPath), s.mayRelate()
	s.unread, s.undefined = unreadOf(compiler), undefinedOf(compiler)
	s.comparisons, s.conditions = compared(compiler)
	metered(compiler)
	return s, nil
}

// mayRelate reports whether any rule may define affinity terms between workloads: a rule of that name, or one for a larger document.
func (s *Set) mayRelate() bool {
	if constant := s.constants[schedulingVar]; constant != nil {
		object, ok := constant.Value.(ast.Object)
		return !ok || object.Get(ast.StringTerm(affinityField)) != nil
	}
	return slices.ContainsFunc(rules(s.compiler, schedulingPath), func(r *ast.Rule) bool {
		below := r.Ref()[len(ast.MustParseRef(schedulingPath)):]
		return len(below) == 0 || !below[0].IsGround() || below[0].Value.Compare(ast.String(affinityField)) == 0
	})
}

// constantAt returns the value of a document that does not depend on the input, such as the built-in weights; nil if it
// has to be evaluated.
func constantAt(compiler *ast.Compiler, path string) *ast.Term {
	all := rules(compiler, path)
	exact := compiler.GetRulesExact(ast.MustParseRef(path))
	if len(exact) != 1 || slices.ContainsFunc(all, func(r *ast.Rule) bool { return r != exact[0] }) {
		return nil
	}
	rule := exact[0]
	always := len(rule.Body) == 1 && rule.Body[0].Equal(ast.NewExpr(ast.InternedTerm(true)))
	if !always || rule.Else != nil || len(rule.Head.Args) > 0 || rule.Head.RuleKind() != ast.SingleValue || !ast.IsConstant(rule.Head.Value.Value) {
		return nil
	}
	return rule.Head.Value
}

// defined reports whether any rule defines the document.
func defined(compiler *ast.Compiler, path string) bool { return len(rules(compiler, path)) > 0 }

func rules(compiler *ast.Compiler, path string) []*ast.Rule {
	ref := ast.MustParseRef(path)
	return append(compiler.GetRules(ref), compiler.GetRulesWithPrefix(ref)...)
}

// undefinedError means that a document has no value for this input.
type undefinedError struct{ Errors }

func (e *undefinedError) Unwrap() error { return e.Errors }

// Judge evaluates the policies for a workload. It fails with Errors that name the file and the row, with a *BudgetError, a
// *CPUTimeError or a *TimeoutError, or with the cause of ctx.
func (s *Set) Judge(ctx context.Context, in Input) (*Judgement, error) {
	return s.judge(ctx, newMeter(ctx, s.timeout), in)
}

func (s *Set) judge(ctx context.Context, m *meter, in Input) (judgement *Judgement, err error) {
	defer func() {
		if p := recover(); p != nil {
			judgement, err = nil, Errors{at(nil, "internal_error", "the policies cannot be evaluated: %v", p)}
		}
	}()
	results, err := s.evaluate(ctx, m, in.value())
	if err != nil {
		return nil, err
	}
	weights := s.answer(results, weightsVar)
	if weights == nil {
		return nil, &undefinedError{Errors{s.shape(weightsPath, "is undefined for this workload: give it a default")}}
	}
	judgement = &Judgement{weightsAt: weights.Location}
	if judgement.Weights, err = decodeWeights(weights); err != nil {
		return nil, Errors{s.shape(weightsPath, "%v", err)}
	}
	useBuiltin := true
	if use := s.answer(results, useVar); use != nil {
		b, ok := use.Value.(ast.Boolean)
		if !ok {
			return nil, Errors{s.shape(useBuiltinPath, "must be true or false, is %s", short(use))}
		}
		useBuiltin = bool(b)
	}
	if useBuiltin {
		if err = judgement.addTerms(s.answer(results, builtinVar)); err != nil {
			return nil, Errors{s.shape(builtinTermsPath, "%v", err)}
		}
	}
	if err = judgement.addTerms(s.answer(results, termsVar)); err != nil {
		return nil, Errors{s.shape(termsPath, "%v", err)}
	}
	if scheduling := s.answer(results, schedulingVar); scheduling != nil {
		judgement.scheduling = scheduling
		if judgement.Scheduling, err = decodeScheduling(scheduling); err != nil {
			return nil, Errors{s.shape(schedulingPath, "cannot be used: %v", err)}
		}
	}
	return judgement, nil
}

// answer returns the value of one variable of the query; nil if it is undefined.
func (s *Set) answer(results topdown.QueryResult, name ast.Var) *ast.Term {
	if result, found := results[name]; found {
		if list, ok := result.Value.(*ast.Array); ok && list.Len() > 0 {
			return list.Elem(0)
		}
		return nil
	}
	return s.constants[name]
}

// noData is the empty store that policies see besides their own rules. Nobody writes to it.
var (
	noData            = inmem.New()
	noDataTransaction = storage.NewTransactionOrDie(context.Background(), noData)
)

// evaluate runs the query under a meter.
func (s *Set) evaluate(ctx context.Context, m *meter, input *ast.Term) (topdown.QueryResult, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	defer m.cpu.stop()
	results, err := topdown.NewQuery(s.query).WithCompiler(s.compiler).WithStore(noData).WithTransaction(noDataTransaction).
		WithCancel(m).WithBuiltins(meterFunctions).WithInput(input).WithStrictBuiltinErrors(true).
		WithMetrics(metrics.NoOp()).Run(ctx)
	switch {
	case m.stopped != nil:
		return nil, m.stopped
	case err != nil:
		return nil, fromOPA(err).sorted()
	case len(results) != 1:
		return nil, Errors{at(nil, "internal_error", "the policies gave %d answers", len(results))}
	}
	return results[0], nil
}

// shape returns an error about the value of a document, at the position of the rule that made the wrong part of it, or else
// of the first rule that defines it.
func (s *Set) shape(path, format string, args ...any) Error {
	var location *ast.Location
	for _, arg := range args {
		switch wrong := arg.(type) {
		case *termError:
			location = s.ruleAt(wrong.term.Location)
		case *fieldError:
			location = s.schedulingAt(wrong.of, wrong.field)
		}
	}
	if location == nil {
		location = s.firstRule(path)
	}
	return at(location, codeShape, path+" "+format, args...)
}

// firstRule returns the location of the first rule that defines a document; nil if there is none.
func (s *Set) firstRule(path string) *ast.Location { return firstOf(rules(s.compiler, path)) }

func firstOf(rules []*ast.Rule) (location *ast.Location) {
	for _, rule := range rules { // in random order
		if location == nil || rule.Location.Compare(location) < 0 {
			location = rule.Location
		}
	}
	return location
}

// short formats a value as Rego, truncated if it is long.
func short(t *ast.Term) string {
	const most = 120
	text := t.String()
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// Keys of the input, shared by all inputs.
var (
	workspaceKey   = ast.StringTerm("workspace")
	placementKey   = ast.StringTerm("placement")
	workloadKey    = ast.StringTerm("workload")
	apiVersionKey  = ast.StringTerm("apiVersion")
	kindKey        = ast.StringTerm("kind")
	namespaceKey   = ast.StringTerm("namespace")
	nameKey        = ast.StringTerm("name")
	labelsKey      = ast.StringTerm("labels")
	annotationsKey = ast.StringTerm("annotations")
	replicasKey    = ast.StringTerm("replicas")
	requestsKey    = ast.StringTerm("requests")
)

// value returns the input as Rego, with the names and units of CEL.
func (in Input) value() *ast.Term {
	requests := ast.NewObject()
	for name, amount := range in.Workload.Requests.Each {
		requests.Insert(ast.StringTerm(name), integer(amount))
	}
	w := in.Workload
	return ast.ObjectTerm(
		ast.Item(workspaceKey, ast.StringTerm(in.Workspace)),
		ast.Item(placementKey, ast.ObjectTerm(
			ast.Item(nameKey, ast.StringTerm(in.Placement.Name)),
			ast.Item(namespaceKey, ast.StringTerm(in.Placement.Namespace)),
			ast.Item(labelsKey, stringMap(in.Placement.Labels)),
		)),
		ast.Item(workloadKey, ast.ObjectTerm(
			ast.Item(apiVersionKey, ast.StringTerm(w.APIVersion)),
			ast.Item(kindKey, ast.StringTerm(w.Kind)),
			ast.Item(namespaceKey, ast.StringTerm(w.Namespace)),
			ast.Item(nameKey, ast.StringTerm(w.Name)),
			ast.Item(labelsKey, stringMap(w.Labels)),
			ast.Item(annotationsKey, stringMap(w.Annotations)),
			ast.Item(replicasKey, integer(w.Replicas)),
			ast.Item(requestsKey, ast.NewTerm(requests)),
		)),
	)
}

func integer(n int64) *ast.Term { return ast.NumberTerm(number(n)) }

func number(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

func stringMap(m map[string]string) *ast.Term {
	if len(m) == 0 {
		return ast.InternedEmptyObject
	}
	o := ast.NewObject()
	for key, value := range m {
		o.Insert(ast.StringTerm(key), ast.StringTerm(value))
	}
	return ast.NewTerm(o)
}
