package constraint

import (
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// Mention is a literal that an expression compares a field with, or looks up in it.
type Mention struct {
	// Field is for example cluster.location, capacity.free or, for the elements of a list, capability.type.
	Field string
	// Key that is looked up in the field, if Keyed.
	Key   string
	Keyed bool
	// Operator by which the field, or its entry under the key, is compared, written as if it were on the left: a relation such as == or
	// >=, or one of startsWith, endsWith, contains and matches. The elements of a list are compared one by one. It is empty if
	// a key is only looked up.
	Operator string
	// Value that it is compared with: a string or an int64.
	Value any
	// Unlike is set if the expression can hold because the field has another value, as in != or below a negation.
	Unlike bool
	// Optional is set if the expression defines what happens without the key.
	Optional bool
	// Alternative is set if another element of a list, or another operand of || about clusters, may satisfy the expression as well.
	Alternative bool
	// Where the literal begins in the expression.
	Line, Column int
}

// Mentions returns the literals that an expression compares with fields, in the order of the expression.
func (p *Program) Mentions() []Mention {
	r := &mentionReader{program: p}
	r.read(p.ast.Expr(), asked, false)
	for i, m := range r.mentions {
		for _, other := range r.mentions { // as in "a" in m && m["a"] > 1
			if m.Keyed && other.Optional && other.Field == m.Field && other.Key == m.Key {
				r.mentions[i].Optional = true
			}
		}
	}
	return r.mentions
}

// polarity is which outcome of a part makes an expression hold.
type polarity uint8

const (
	asked polarity = iota
	excluded
	either
)

func (p polarity) negated() polarity {
	switch p {
	case asked:
		return excluded
	case excluded:
		return asked
	}
	return either
}

type mentionReader struct {
	program  *Program
	mentions []Mention
}

func (r *mentionReader) read(e ast.Expr, wanted polarity, alternative bool) {
	if m, ok := r.lookUp(e); ok {
		m.Alternative = alternative
		r.mentions = append(r.mentions, m)
	}
	if e.Kind() == ast.CallKind {
		r.comparison(e.AsCall(), wanted, alternative)
	}
	parts := partsOf(e)
	for i, part := range parts {
		switch {
		case isCall(e, operators.LogicalNot):
			r.read(part, wanted.negated(), alternative)
		case isCall(e, operators.LogicalOr):
			other := readsOf(parts[1-i])
			r.read(part, wanted, alternative || other.Cluster || other.Capacity)
		case isCall(e, operators.LogicalAnd), isCall(e, operators.Conditional) && i > 0, e.Kind() == ast.ComprehensionKind:
			r.read(part, wanted, alternative)
		default:
			r.read(part, either, alternative)
		}
	}
}

// field recognizes a field of one of our objects.
func (r *mentionReader) field(e ast.Expr) (name string, typ *types.Type, ok bool) {
	if e.Kind() != ast.SelectKind || e.AsSelect().IsTestOnly() {
		return "", nil, false
	}
	object := r.program.ast.GetType(e.AsSelect().Operand().ID()).TypeName()
	short, isOurs := strings.CutPrefix(object, "tmc.")
	if !isOurs {
		return "", nil, false
	}
	return strings.ToLower(short) + "." + e.AsSelect().FieldName(), r.program.ast.GetType(e.ID()), true
}

// lookUp recognizes the look-up of a key in a map field.
func (r *mentionReader) lookUp(e ast.Expr) (m Mention, ok bool) {
	operand, key, ok := lookupAt(e)
	if !ok {
		return Mention{}, false
	}
	name, typ, ok := r.field(operand)
	if !ok || typ.Kind() != types.MapKind {
		return Mention{}, false
	}
	m = Mention{Field: name, Key: key, Keyed: true, Optional: isPresence(e) || isOptional(e)}
	m.Line, m.Column = r.program.start(e)
	switch {
	case isCall(e, operators.In):
		m.Line, m.Column = r.program.start(e.AsCall().Args()[0])
	case isCall(e, operators.Index, operators.OptIndex, operators.OptSelect):
		m.Line, m.Column = r.program.start(e.AsCall().Args()[1])
	case !isPresence(e):
		if at := r.program.ast.SourceInfo().GetStartLocation(e.ID()); at.Line() > 0 { // the position of the dot
			m.Line, m.Column = at.Line(), at.Column()+2
		}
	}
	return m, true
}

// comparison recognizes a field, or an entry of one, that is compared with literals.
func (r *mentionReader) comparison(call ast.CallExpr, wanted polarity, alternative bool) {
	function, args := call.FunctionName(), call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	if len(args) != 2 {
		return
	}
	subject, literals, operator := args[0], []ast.Expr{args[1]}, function
	switch function {
	case operators.In:
		if args[1].Kind() != ast.ListKind {
			return
		}
		literals, function = args[1].AsList().Elements(), operators.Equals
		operator = "=="
	case "startsWith", "endsWith", "contains", "matches":
	default:
		if mirrored[function] == "" {
			return
		}
		if args[0].Kind() == ast.LiteralKind {
			subject, literals, function = args[1], []ast.Expr{args[0]}, mirrored[function]
		}
		operator, _ = operators.FindReverse(function)
	}
	m, ok := r.subject(subject)
	if !ok {
		return
	}
	for _, l := range literals {
		if l.Kind() != ast.LiteralKind {
			continue
		}
		switch value := l.AsLiteral().Value().(type) {
		case string, int64:
			m.Value = value
		default:
			continue
		}
		m.Operator, m.Unlike, m.Alternative = operator, wanted != asked, alternative || len(literals) > 1
		if function == operators.NotEquals {
			m.Unlike = wanted != excluded
		}
		m.Line, m.Column = r.program.start(l)
		r.mentions = append(r.mentions, m)
	}
}

// subject recognizes a field, an entry of one, or the common key of sums of and differences between entries.
func (r *mentionReader) subject(e ast.Expr) (m Mention, ok bool) {
	if isCall(e, "orValue") && isOptional(e.AsCall().Target()) {
		e = e.AsCall().Target()
	}
	if m, ok = r.lookUp(e); ok {
		return m, true
	}
	if isCall(e, operators.Add, operators.Subtract) && r.program.ast.GetType(e.ID()).Kind() == types.IntKind {
		left, right := e.AsCall().Args()[0], e.AsCall().Args()[1]
		m, ok = r.subject(left)
		other, alsoOK := r.subject(right)
		switch {
		case left.Kind() == ast.LiteralKind:
			return other, alsoOK
		case right.Kind() == ast.LiteralKind:
			return m, ok
		}
		return m, ok && alsoOK && m.Key == other.Key
	}
	m.Field, _, ok = r.field(e)
	return m, ok
}
