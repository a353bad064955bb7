// Package constraint evaluates the hard constraints of placements: it compiles CEL expressions, refuses those that could
// cost too much, and evaluates them for one cluster at a time.
package constraint

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
	lru "github.com/hashicorp/golang-lru/v2"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Defaults of Options.
const (
	DefaultCacheSize = 4096
	DefaultCostLimit = 100_000
)

// Version of the environment. It is incremented when the meaning of an expression changes, or whether it compiles.
const Version = 2

// MaxExpressionLength is the largest number of characters of an expression.
const MaxExpressionLength = 4096

// Options of a Compiler; the zero value is ready to use.
type Options struct {
	// CacheSize is the number of expressions that are cached, including those that do not compile.
	CacheSize int
	// CostLimit is the largest static cost estimate of an expression, in CEL's units.
	CostLimit uint64
}

// Compiler compiles expressions and caches them by their text. It is safe for concurrent use.
type Compiler struct {
	env       *cel.Env
	costLimit uint64
	cache     *lru.Cache[string, cached]
	// conjuncts by key: programs share them, so that none is planned twice.
	conjuncts *lru.Cache[string, *Conjunct]
}

type cached struct {
	program *Program
	err     error
}

// Error is an error in an expression, with its position.
type Error struct {
	// Line and Column start at 1; both are 0 if the error concerns the whole expression.
	Line, Column int
	Message      string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message)
}

// NewCompiler makes a compiler.
func NewCompiler(options Options) (*Compiler, error) {
	if options.CacheSize == 0 {
		options.CacheSize = DefaultCacheSize
	}
	if options.CostLimit == 0 {
		options.CostLimit = DefaultCostLimit
	}
	provider, err := newProvider()
	if err != nil {
		return nil, err
	}
	env, err := cel.NewEnv(
		cel.CustomTypeProvider(provider),
		cel.CustomTypeAdapter(provider),
		cel.Variable("cluster", clusterType.typ),
		cel.Variable("capacity", capacityType.typ),
		cel.Variable("workload", workloadType.typ),
		cel.Variable("placement", placementType.typ),
		cel.OptionalTypes(),
		cel.EnableMacroCallTracking(),
		// Later versions add format, quote and reverse, whose results have no bound on their size.
		ext.Strings(ext.StringsVersion(0)),
		ext.Sets(),
		ext.TwoVarComprehensions(ext.TwoVarComprehensionsVersion(0)),
		library.Lists(),
		library.Regex(),
		library.SemverLib(library.SemverVersion(1)),
		cel.Macros(cel.GlobalMacro("quantity", 1, quantity)),
		inOrderFunction,
		cel.ParserExpressionSizeLimit(MaxExpressionLength),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), regexValidator{}, timeZoneValidator{},
		),
	)
	if err != nil {
		return nil, err
	}
	cache, err := lru.New[string, cached](options.CacheSize)
	if err != nil {
		return nil, err
	}
	conjuncts, err := lru.New[string, *Conjunct](options.CacheSize)
	if err != nil {
		return nil, err
	}
	return &Compiler{env: env, costLimit: options.CostLimit, cache: cache, conjuncts: conjuncts}, nil
}

// CostLimit returns the largest cost that an expression may have.
func (c *Compiler) CostLimit() uint64 { return c.costLimit }

// Compile parses, checks and costs an expression. The error is an *Error, or unwraps to several. Results are cached.
func (c *Compiler) Compile(expression string) (*Program, error) {
	if known, found := c.cache.Get(expression); found {
		return known.program, known.err
	}
	expression = strings.Clone(expression)
	program, err := c.compile(expression)
	c.cache.Add(expression, cached{program, err})
	return program, err
}

func (c *Compiler) compile(expression string) (program *Program, err error) {
	defer func() {
		if p := recover(); p != nil {
			program, err = nil, &Error{Message: fmt.Sprintf("the expression cannot be compiled: %v", p)}
		}
	}()
	if length := utf8.RuneCountInString(expression); length > MaxExpressionLength {
		return nil, &Error{Message: fmt.Sprintf("the expression has %d characters, more than %d", length, MaxExpressionLength)}
	}
	checked, issues := c.env.Compile(expression)
	if issues.Err() != nil {
		return nil, joined(issues.Errors())
	}
	if checked.OutputType() != cel.BoolType {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf("gives %s, must give bool", checked.OutputType())}
	}
	cost, err := c.env.EstimateCost(checked, estimator{})
	if err != nil {
		return nil, &Error{Message: err.Error()}
	}
	if cost.Max > c.costLimit {
		return nil, &Error{Message: fmt.Sprintf("may cost %d, more than the limit of %d: look at fewer labels, or nest less", cost.Max, c.costLimit)}
	}
	if tooMuch(checked.NativeRep()) {
		return nil, &Error{Message: "may make lists, maps or texts without bound: use what is iterated over once, or nest less"}
	}
	evaluator, err := c.plan(checked.NativeRep(), cel.OptOptimize)
	if err != nil {
		return nil, &Error{Message: err.Error()}
	}
	// Explain evaluates every part of the expression. The estimate covers one branch of each conditional: if all branches
	// together could cost too much, Explain uses only the parts that an ordinary evaluation reaches.
	option := cel.OptExhaustiveEval
	if all := cost.Max * (1 + conditionals(checked.NativeRep().Expr())); all > c.costLimit {
		option = cel.OptTrackState
	}
	explainer := sync.OnceValues(func() (cel.Program, error) { return c.plan(checked.NativeRep(), option) })
	program = newProgram(expression, checked, cost.Max, evaluator, explainer)
	program.conjuncts = c.split(program)
	return program, nil
}

// plan makes an executable program. A panic of CEL becomes an error.
func (c *Compiler) plan(checked *ast.AST, option cel.EvalOption) (program cel.Program, err error) {
	defer func() {
		if p := recover(); p != nil {
			program, err = nil, fmt.Errorf("the expression cannot be planned: %v", p)
		}
	}()
	return c.env.PlanProgram(ordered(checked), cel.EvalOptions(option))
}

// conditionals counts conditional expressions c ? a : b.
func conditionals(e ast.Expr) (n uint64) {
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Conditional {
			n++
		}
	}))
	return n
}

// joined converts CEL's issues into one error.
func joined(issues []*common.Error) error {
	errs := make([]error, len(issues))
	for i, issue := range issues {
		errs[i] = &Error{Line: issue.Location.Line(), Column: issue.Location.Column() + 1, Message: issue.Message}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return several(errs)
}

// several joins errors on one line.
type several []error

func (s several) Error() string {
	texts := make([]string, len(s))
	for i, err := range s {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (s several) Unwrap() []error { return s }

// quantity is a macro: it replaces quantity("4Gi") by an integer when the expression is parsed.
func quantity(factory cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	arg := args[0]
	text, ok := "", arg.Kind() == ast.LiteralKind
	if ok {
		text, ok = arg.AsLiteral().Value().(string)
	}
	if !ok {
		return nil, factory.NewError(arg.ID(), `quantity takes a literal, for example quantity("4Gi")`)
	}
	q, err := capacity.ParseQuantity(text)
	if err != nil {
		return nil, factory.NewError(arg.ID(), fmt.Sprintf("%q is not a quantity", text))
	}
	value, exact := q.AsInt64()
	if !exact {
		return nil, factory.NewError(arg.ID(), fmt.Sprintf("%q is not a whole number of units; cpu is in millicores, so 500m of it is 500", text))
	}
	return factory.NewLiteral(types.Int(value)), nil
}
