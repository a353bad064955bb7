package workload

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apiserver/pkg/cel/library"
)

// Bounds of an expression over an object.
const (
	// maxExpression is its maximum number of characters.
	maxExpression = 4096
	// maxCost is the maximum cost in CEL's units: as estimated if no list, map or text of an object has more than maxSize
	// elements, and of each evaluation, whatever the object is.
	maxCost = 100_000
	maxSize = 256
)

// resultType is the type of an expression's result.
type resultType struct {
	typ  *cel.Type
	name string
}

var (
	count = resultType{cel.IntType, "int"}
	truth = resultType{cel.BoolType, "bool"}
)

// expression is CEL over an object.
type expression struct {
	program cel.Program
	// reads are the fields that it reads, for error messages.
	reads []string
}

// objectEnv is what expressions are compiled in.
var objectEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("object", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("each", cel.DynType),
		cel.Variable("key", cel.StringType),
		cel.OptionalTypes(),
		ext.Math(), ext.Bindings(), library.Lists(),
		cel.Function("countIndexes", cel.Overload("countIndexes_string", []*cel.Type{cel.StringType}, cel.IntType,
			cel.UnaryBinding(func(text ref.Val) ref.Val { return countIndexes(string(text.(types.String))) }))),
		cel.ParserExpressionSizeLimit(maxExpression),
	)
})

// countIndexes counts the indexes of an Indexed Job as written in its status: "1,3-5" are four.
func countIndexes(text string) ref.Val {
	var n types.Int
	if text == "" {
		return n
	}
	for interval := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(interval, "-")
		if !isRange {
			last = first
		}
		from, fromErr := strconv.ParseUint(first, 10, 31)
		to, toErr := strconv.ParseUint(last, 10, 31)
		if fromErr != nil || toErr != nil || from > to {
			return types.NewErr("%q is neither an index nor a range of indexes", interval)
		}
		n += types.Int(to - from + 1)
	}
	return n
}

func compileExpression(text string, result resultType) (e *expression, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, err = nil, fmt.Errorf("it cannot be compiled: %v", p)
		}
	}()
	env, err := objectEnv()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		messages := make([]string, len(issues.Errors()))
		for i, issue := range issues.Errors() {
			messages[i] = fmt.Sprintf("%d:%d: %s", issue.Location.Line(), issue.Location.Column()+1, issue.Message)
		}
		return nil, errors.New(strings.Join(messages, "; "))
	}
	if typ := checked.OutputType(); !typ.IsExactType(result.typ) && !typ.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("gives %s, must give %s", typ, result.name)
	}
	cost, err := env.EstimateCost(checked, objectSizes{})
	if err != nil {
		return nil, err
	}
	if cost.Max > maxCost {
		return nil, fmt.Errorf("may cost %d, more than the limit of %d: nest less", cost.Max, maxCost)
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, err
	}
	return &expression{program, fieldsOf(checked.NativeRep().Expr())}, nil
}

// objectSizes returns the sizes up to which expressions over objects are costed.
type objectSizes struct{}

func (objectSizes) EstimateSize(checker.AstNode) *checker.SizeEstimate {
	return &checker.SizeEstimate{Max: maxSize}
}

func (o objectSizes) EstimateCallCost(function, overload string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	return (&library.CostEstimator{SizeEstimator: o}).EstimateCallCost(function, overload, target, args)
}

// fieldsOf returns the fields of object that an expression reads, and those of each with a leading dot, without those that are
// part of another.
func fieldsOf(e ast.Expr) (fields []string) {
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		path, ok := pathOf(e)
		path = strings.TrimPrefix(strings.TrimPrefix(path, "each"), "object.")
		longer := slices.ContainsFunc(fields, func(f string) bool { return f == path || strings.HasPrefix(f, path+".") })
		if ok && path != "object" && path != "" && !longer {
			fields = append(fields, path)
		}
	}))
	return fields
}

// pathOf returns the path of a field: object.spec.replicas, whether or not its parts are optional.
func pathOf(e ast.Expr) (string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		name := e.AsIdent()
		return name, name == "object" || name == "each"
	case ast.SelectKind:
		parent, ok := pathOf(e.AsSelect().Operand())
		return parent + "." + e.AsSelect().FieldName(), ok
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != operators.OptSelect || call.Args()[1].Kind() != ast.LiteralKind {
			return "", false
		}
		parent, ok := pathOf(call.Args()[0])
		return parent + "." + fmt.Sprint(call.Args()[1].AsLiteral().Value()), ok
	default:
		return "", false
	}
}

// scope is what an expression is evaluated over.
type scope struct {
	object map[string]any
	// each is at the path at, and under key in a map.
	each    any
	key, at string
}

// ResolveName implements interpreter.Activation.
func (s *scope) ResolveName(name string) (any, bool) {
	switch name {
	case "object":
		return s.object, true
	case "each":
		return s.each, true
	case "key":
		return s.key, true
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (s *scope) Parent() interpreter.Activation { return nil }

// eval evaluates the expression. An error names the fields that it reads.
func (e *expression) eval(s *scope) (value any, err error) {
	defer func() {
		if p := recover(); p != nil {
			value, err = nil, s.wrong(e, "%v", p)
		}
	}()
	result, _, err := e.program.Eval(s)
	switch {
	case err != nil && strings.Contains(err.Error(), "cost limit exceeded"):
		return nil, s.wrong(e, "there is so much of it that counting costs more than %d, the limit", maxCost)
	case err != nil:
		return nil, s.wrong(e, "%v", err)
	}
	return result.Value(), nil
}

func (s *scope) wrong(e *expression, format string, args ...any) error {
	fields := make([]string, len(e.reads))
	for i, field := range e.reads {
		if strings.HasPrefix(field, ".") {
			field = s.at + field
		}
		fields[i] = field
	}
	return fmt.Errorf("%s: %w", strings.Join(fields, ", "), fmt.Errorf(format, args...))
}

// readsStatus reports whether the expression reads the status of the object.
func (e *expression) readsStatus() bool {
	return e != nil && slices.ContainsFunc(e.reads, func(field string) bool { return field == "status" || strings.HasPrefix(field, "status.") })
}

// count returns how many pods there are; 1 without an expression.
func (e *expression) count(s *scope) (int64, error) {
	if e == nil {
		return 1, nil
	}
	value, err := e.eval(s)
	if err != nil {
		return 0, err
	}
	n, ok := value.(int64)
	if f, isFloat := value.(float64); isFloat && f == math.Trunc(f) {
		n, ok = int64(f), true
	}
	if !ok || n < 0 || n > math.MaxInt32 {
		return 0, s.wrong(e, "%s is not a count", written(value))
	}
	return n, nil
}

// written formats a value as in manifests: the text "2" is not the number 2.
func written(value any) string {
	if text, ok := value.(string); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprint(value)
}

// holds returns whether the expression is true; false without one.
func (e *expression) holds(s *scope) (bool, error) {
	if e == nil {
		return false, nil
	}
	value, err := e.eval(s)
	if err != nil {
		return false, err
	}
	holds, ok := value.(bool)
	if !ok {
		return false, s.wrong(e, "%s is neither true nor false", written(value))
	}
	return holds, nil
}
