package constraint

import (
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// Mention is a literal that an expression compares a field with, or looks up in it.
type Mention struct {
	// Field is for example cluster.location, capacity.free or, of the elements of a list, capability.type.
	Field string
	// Key that is looked up in the field, where Keyed.
	Key   string
	Keyed bool
	// Value that the field, or its entry under the key, is compared with, where Compared.
	Value    string
	Compared bool
	// Unlike is set where the expression asks for another value.
	Unlike bool
	// Optional is set where the expression says what holds without the key.
	Optional bool
	// Where the literal begins in the expression.
	Line, Column int
}

// Mentions returns the literals that an expression holds against fields, in the order of the expression.
func (p *Program) Mentions() []Mention {
	r := &mentionReader{program: p}
	r.read(p.ast.Expr())
	for i, m := range r.mentions {
		for _, other := range r.mentions { // as in "a" in m && m["a"] > 1
			if m.Keyed && other.Optional && other.Field == m.Field && other.Key == m.Key {
				r.mentions[i].Optional = true
			}
		}
	}
	return r.mentions
}

type mentionReader struct {
	program  *Program
	mentions []Mention
}

func (r *mentionReader) read(e ast.Expr) {
	if m, ok := r.lookUp(e); ok {
		r.mentions = append(r.mentions, m)
	}
	if e.Kind() == ast.CallKind && len(e.AsCall().Args()) == 2 {
		r.comparison(e.AsCall().FunctionName(), e.AsCall().Args())
	}
	for _, part := range partsOf(e) {
		r.read(part)
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

// lookUp recognizes the look-up of a key in a field that is a map.
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
		if at := r.program.ast.SourceInfo().GetStartLocation(e.ID()); at.Line() > 0 { // that of the dot
			m.Line, m.Column = at.Line(), at.Column()+2
		}
	}
	return m, true
}

// comparison recognizes a field, or an entry of one, that is compared with literals.
func (r *mentionReader) comparison(function string, args []ast.Expr) {
	subject, literals := args[0], []ast.Expr{args[1]}
	switch function {
	case operators.Equals, operators.NotEquals:
		if _, isLiteral := literal(args[0]); isLiteral {
			subject, literals = args[1], []ast.Expr{args[0]}
		}
	case operators.In:
		if args[1].Kind() != ast.ListKind {
			return
		}
		literals = args[1].AsList().Elements()
	default:
		return
	}
	if isCall(subject, "orValue") && isOptional(subject.AsCall().Target()) {
		subject = subject.AsCall().Target()
	}
	m, isEntry := r.lookUp(subject)
	if !isEntry {
		name, _, ok := r.field(subject)
		if !ok {
			return
		}
		m = Mention{Field: name}
	}
	for _, l := range literals {
		value, isText := literal(l)
		if !isText {
			continue
		}
		m.Value, m.Compared, m.Unlike = value, true, function == operators.NotEquals
		m.Line, m.Column = r.program.start(l)
		r.mentions = append(r.mentions, m)
	}
}
