package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/workload"
)

// Limits on what policies say.
const (
	MaxWeight = 100
	MaxDelta  = 100
	MaxTerms  = 256
	MaxReason = 256
	// MaxSelector is how many labels, expressions and values a label selector may have together.
	MaxSelector = 256
)

// Input is what policies see, as the document `input`.
type Input struct {
	Workspace string
	Placement workload.Placement
	Workload  *workload.Workload
}

// Judgement is what policies say of one class of workloads.
type Judgement struct {
	Weights scoring.Weights
	// Terms of the workspace and the built-in ones, in an order that never changes.
	Terms []scoring.Term
}

// Set is the compiled policies of a workspace. It is safe for concurrent use.
type Set struct {
	digest   string
	compiler *ast.Compiler
	query    ast.Body
	timeout  time.Duration
	reads    workload.Fields
}

// Reads says which fields of a workload the policies can read: of two workloads that agree in these, and in replicas
// and requests, they say the same.
func (s *Set) Reads() workload.Fields { return s.reads }

// Digest identifies the text of the policies, the built-in ones included.
func (s *Set) Digest() string { return s.digest }

// Entry points.
const (
	weightsPath        = "data.placement.scoring.weights"
	builtinWeightsPath = "data.placement.builtin.scoring.weights"
	termsPath          = "data.placement.affinity.terms"
	builtinTermsPath   = "data.placement.builtin.affinity.terms"
	useBuiltinPath     = "data.placement.affinity.use_builtin"
)

func newSet(digest string, compiler *ast.Compiler, timeout time.Duration) (*Set, error) {
	weights := weightsPath
	if !defined(compiler, weightsPath) {
		weights = builtinWeightsPath
	}
	// Each answer stands in a list of its own, which is empty where the document is undefined.
	query := fmt.Sprintf("weights = [x | x := %s]; builtin = [x | x := %s]", weights, builtinTermsPath)
	for name, path := range map[string]string{"terms": termsPath, "use": useBuiltinPath} {
		if defined(compiler, path) {
			query += fmt.Sprintf("; %s = [x | x := %s]", name, path)
		} else {
			query += fmt.Sprintf("; %s = []", name)
		}
	}
	body, err := ast.ParseBody(query)
	if err != nil {
		return nil, err
	}
	body, err = compiler.QueryCompiler().Compile(body)
	if err != nil {
		return nil, err
	}
	s := &Set{digest: digest, compiler: compiler, query: body, timeout: timeout, reads: readsOf(compiler.Modules)}
	metered(compiler)
	return s, nil
}

// defined tells whether any rule makes the document.
func defined(compiler *ast.Compiler, path string) bool { return len(rules(compiler, path)) > 0 }

func rules(compiler *ast.Compiler, path string) []*ast.Rule {
	ref := ast.MustParseRef(path)
	return append(compiler.GetRules(ref), compiler.GetRulesWithPrefix(ref)...)
}

// undefinedError tells that a document has no value for this input.
type undefinedError struct{ Errors }

func (e *undefinedError) Unwrap() error { return e.Errors }

// Judge evaluates the policies for a workload. It fails with Errors that name the file and the row, with a
// *BudgetError or a *TimeoutError, or as ctx ends.
func (s *Set) Judge(ctx context.Context, in Input) (judgement *Judgement, err error) {
	defer func() {
		if p := recover(); p != nil {
			judgement, err = nil, Errors{at(nil, "internal_error", "the policies cannot be evaluated: %v", p)}
		}
	}()
	answers, err := s.evaluate(ctx, in.term())
	if err != nil {
		return nil, err
	}
	if len(answers["weights"]) == 0 {
		return nil, &undefinedError{Errors{s.shape(weightsPath, "is undefined for this workload: give it a default")}}
	}
	judgement = &Judgement{}
	if judgement.Weights, err = decodeWeights(answers["weights"][0]); err != nil {
		return nil, Errors{s.shape(weightsPath, "%v", err)}
	}
	useBuiltin := true
	if use := answers["use"]; len(use) > 0 {
		b, ok := use[0].Value.(ast.Boolean)
		if !ok {
			return nil, Errors{s.shape(useBuiltinPath, "must be true or false, is %s", short(use[0]))}
		}
		useBuiltin = bool(b)
	}
	if useBuiltin {
		if judgement.Terms, err = decodeTerms(answers["builtin"], nil); err != nil {
			return nil, Errors{s.shape(builtinTermsPath, "%v", err)}
		}
	}
	if judgement.Terms, err = decodeTerms(answers["terms"], judgement.Terms); err != nil {
		return nil, Errors{s.shape(termsPath, "%v", err)}
	}
	return judgement, nil
}

// evaluate runs the query under the deadline.
func (s *Set) evaluate(ctx context.Context, input *ast.Term) (map[ast.Var][]*ast.Term, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	bounded, stop := context.WithTimeoutCause(ctx, s.timeout, &TimeoutError{s.timeout})
	defer stop()
	m := &meter{left: Budget}
	defer context.AfterFunc(bounded, m.Cancel)()

	store := inmem.New()
	txn, err := store.NewTransaction(bounded)
	if err != nil {
		return nil, Errors{at(nil, "internal_error", "%v", err)}
	}
	defer store.Abort(bounded, txn)
	results, err := topdown.NewQuery(s.query).WithCompiler(s.compiler).WithStore(store).WithTransaction(txn).
		WithCancel(m).WithBuiltins(meterFunctions).WithInput(input).WithStrictBuiltinErrors(true).Run(bounded)
	switch {
	case m.left < 0:
		return nil, m.err()
	case topdown.IsCancel(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		if cause := context.Cause(bounded); cause != nil {
			return nil, cause
		}
		return nil, err
	case err != nil:
		return nil, fromOPA(err).sorted()
	case len(results) != 1:
		return nil, Errors{at(nil, "internal_error", "the policies gave %d answers", len(results))}
	}
	answers := map[ast.Var][]*ast.Term{}
	for name, value := range results[0] {
		if list, ok := value.Value.(*ast.Array); ok {
			list.Foreach(func(t *ast.Term) { answers[name] = append(answers[name], t) })
		}
	}
	return answers, nil
}

// shape makes an error about what a document gives, placed at the first rule that makes it.
func (s *Set) shape(path, format string, args ...any) Error {
	var location *ast.Location
	for _, rule := range rules(s.compiler, path) { // in no order
		if location == nil || rule.Location.Compare(location) < 0 {
			location = rule.Location
		}
	}
	return at(location, codeShape, path+" "+format, args...)
}

func decodeWeights(t *ast.Term) (weights scoring.Weights, err error) {
	object, ok := t.Value.(ast.Object)
	if !ok {
		return weights, fmt.Errorf("must be an object from factor to weight, is %s", short(t))
	}
	var total int64
	err = object.Iter(func(key, value *ast.Term) error {
		name, _ := key.Value.(ast.String)
		factor := slices.Index(scoring.FactorNames[:], string(name))
		if factor < 0 {
			return fmt.Errorf("has an unknown factor %s: the factors are %s", short(key), strings.Join(scoring.FactorNames[:], ", "))
		}
		number, _ := value.Value.(ast.Number)
		weight, ok := number.Int64()
		if !ok || weight < 0 || weight > MaxWeight {
			return fmt.Errorf("gives %s the weight %s: it must be a whole number from 0 to %d", name, short(value), MaxWeight)
		}
		weights[factor] = weight
		total += weight
		return nil
	})
	if err == nil && total == 0 {
		err = errors.New("gives no factor any weight: at least one must weigh more than 0")
	}
	return weights, err
}

// term is a term as policies write it.
type term struct {
	Match struct {
		ClusterNames  []string              `json:"clusterNames"`
		Location      string                `json:"location"`
		LabelSelector *metav1.LabelSelector `json:"labelSelector"`
		Capability    string                `json:"capability"`
	} `json:"match"`
	Factor    string `json:"factor"`
	OnMatch   int64  `json:"onMatch"`
	Otherwise int64  `json:"otherwise"`
	Required  bool   `json:"required"`
	Reason    string `json:"reason"`
}

func decodeTerms(answers []*ast.Term, terms []scoring.Term) ([]scoring.Term, error) {
	if len(answers) == 0 {
		return terms, nil
	}
	set, ok := answers[0].Value.(ast.Set)
	if !ok {
		return nil, fmt.Errorf("must be a set of terms, is %s", short(answers[0]))
	}
	if set.Len() > MaxTerms {
		return nil, fmt.Errorf("has %d terms, more than %d", set.Len(), MaxTerms)
	}
	for _, element := range set.Slice() {
		decoded, err := decodeTerm(element)
		if err != nil {
			return nil, fmt.Errorf("has a term that cannot be used, %s: %w", short(element), err)
		}
		terms = append(terms, decoded)
	}
	return terms, nil
}

func decodeTerm(t *ast.Term) (decoded scoring.Term, err error) {
	value, err := ast.JSON(t.Value)
	if err != nil {
		return decoded, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return decoded, err
	}
	var raw term
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&raw); err != nil {
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &mismatch) {
			return decoded, fmt.Errorf("%s cannot be a %s", mismatch.Field, mismatch.Value)
		}
		return decoded, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	switch raw.Factor {
	case scoring.Affinity.String():
		decoded.Factor = scoring.Affinity
	case scoring.Location.String():
		decoded.Factor = scoring.Location
	default:
		return decoded, fmt.Errorf("factor is %q, it must be affinity or location", raw.Factor)
	}
	if most := max(raw.OnMatch, -raw.OnMatch, raw.Otherwise, -raw.Otherwise); most > MaxDelta {
		return decoded, fmt.Errorf("onMatch is %d and otherwise %d, both must be from -%d to %d", raw.OnMatch, raw.Otherwise, MaxDelta, MaxDelta)
	}
	if len(raw.Reason) > MaxReason {
		return decoded, fmt.Errorf("reason has %d bytes, more than %d", len(raw.Reason), MaxReason)
	}
	m := raw.Match
	if len(m.ClusterNames) == 0 && m.Location == "" && m.LabelSelector == nil && m.Capability == "" {
		return decoded, errors.New("match says nothing: it needs clusterNames, location, labelSelector or capability")
	}
	if err := boundSelector(m.LabelSelector); err != nil {
		return decoded, err
	}
	decoded.Match = scoring.Match{ClusterNames: m.ClusterNames, Location: m.Location, Capability: m.Capability}
	if m.LabelSelector != nil {
		if decoded.Match.Labels, err = metav1.LabelSelectorAsSelector(m.LabelSelector); err != nil {
			return decoded, fmt.Errorf("match.labelSelector: %w", err)
		}
	}
	decoded.OnMatch, decoded.Otherwise, decoded.Required, decoded.Reason = raw.OnMatch, raw.Otherwise, raw.Required, raw.Reason
	return decoded, nil
}

// boundSelector holds a label selector to a size: Kubernetes takes seconds to say what is wrong with thousands of values.
func boundSelector(s *metav1.LabelSelector) error {
	if s == nil {
		return nil
	}
	size := len(s.MatchLabels) + len(s.MatchExpressions)
	for i := range s.MatchExpressions {
		size += len(s.MatchExpressions[i].Values)
	}
	if size > MaxSelector {
		return fmt.Errorf("match.labelSelector has %d labels, expressions and values, more than %d", size, MaxSelector)
	}
	return nil
}

// short is a value as Rego writes it, cut where it is long.
func short(t *ast.Term) string {
	const most = 120
	text := t.String()
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// term is the input as a Rego value: the names and units are those of CEL.
func (in Input) term() *ast.Term {
	requests := ast.NewObject()
	for name, amount := range in.Workload.Requests.Each {
		requests.Insert(ast.StringTerm(name), integer(amount))
	}
	w := in.Workload
	return ast.ObjectTerm(
		item("workspace", ast.StringTerm(in.Workspace)),
		item("placement", ast.ObjectTerm(
			item("name", ast.StringTerm(in.Placement.Name)),
			item("namespace", ast.StringTerm(in.Placement.Namespace)),
			item("labels", stringMap(in.Placement.Labels)),
		)),
		item("workload", ast.ObjectTerm(
			item("apiVersion", ast.StringTerm(w.APIVersion)),
			item("kind", ast.StringTerm(w.Kind)),
			item("namespace", ast.StringTerm(w.Namespace)),
			item("name", ast.StringTerm(w.Name)),
			item("labels", stringMap(w.Labels)),
			item("annotations", stringMap(w.Annotations)),
			item("replicas", integer(w.Replicas)),
			item("requests", ast.NewTerm(requests)),
		)),
	)
}

func item(key string, value *ast.Term) [2]*ast.Term { return ast.Item(ast.StringTerm(key), value) }

func integer(n int64) *ast.Term { return ast.NumberTerm(json.Number(strconv.FormatInt(n, 10))) }

func stringMap(m map[string]string) *ast.Term {
	o := ast.NewObject()
	for key, value := range m {
		o.Insert(ast.StringTerm(key), ast.StringTerm(value))
	}
	return ast.NewTerm(o)
}
