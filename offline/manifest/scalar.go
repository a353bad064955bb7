package manifest

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Within returns the position in the file of a line and column of a field's text.
func (o *Object) Within(path string, line, column int) Position {
	p, _ := o.within(path, line, column)
	return p
}

// within is Within; plain reports whether the lines of the text are lines of the file, as in a literal block.
func (o *Object) within(path string, line, column int) (p Position, plain bool) {
	n := o.find(path)
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	start := o.position(n)
	if n == nil || n.Kind != yaml.ScalarNode || line < 1 || o.file == nil {
		return start, false
	}
	if n.Style&yaml.LiteralStyle != 0 {
		return Position{File: o.file, Line: start.Line + line, Column: o.indent(n) + column}, true
	}
	source := &scalar{file: o.file, line: start.Line, column: start.Column, style: n.Style}
	plain = !strings.Contains(n.Value, "\n")
	if at, found := source.locate(n.Value, line, column); found {
		return at, plain
	}
	return start, plain
}

// indent returns the indentation of the lines of a literal block, which follow the line of its indicator.
func (o *Object) indent(n *yaml.Node) int {
	for i, text := range strings.Split(n.Value, "\n") {
		if strings.TrimSpace(text) != "" {
			return max(0, len(o.file.Line(o.above+n.Line+1+i))-len(text))
		}
	}
	return 0
}

// scalar reads the characters in the file, without white space, of a scalar that is not a literal block.
type scalar struct {
	file  *File
	style yaml.Style
	// line and column of the next character.
	line, column int
}

// locate returns the position in the file of a line and a column of the scalar's value. Folding changes only white
// space, so it counts the characters before the position: value and file have the same ones in the same order.
func (s *scalar) locate(value string, line, column int) (p Position, found bool) {
	lines := strings.Split(value, "\n")
	if line > len(lines) {
		return p, false
	}
	switch {
	case s.style&yaml.FoldedStyle != 0: // it begins on the line after its indicator
		s.line, s.column = s.line+1, 1
	case s.style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		s.column++
	}
	last := []rune(lines[line-1])
	before := strings.Join(lines[:line-1], "") + string(last[:min(len(last), max(0, column-1))])
	for _, want := range before {
		if isSpace(want) {
			continue
		}
		if got, _, ok := s.next(); !ok || got != want {
			return p, false
		}
	}
	_, p, found = s.next()
	return p, found
}

func isSpace(r rune) bool { return strings.ContainsRune(" \t\r\n", r) }

// next returns the next character of the value that is not white space, and its position; false at the end of the file.
func (s *scalar) next() (r rune, at Position, found bool) {
	text := []rune(s.file.Line(s.line))
	for {
		at = Position{File: s.file, Line: s.line, Column: s.column}
		if s.column > len(text) {
			if s.line++; s.line > s.file.lineCount() {
				return 0, at, false
			}
			s.column, text = 1, []rune(s.file.Line(s.line))
			continue
		}
		r, length := s.decode(text[s.column-1:])
		if s.column += length; !isSpace(r) {
			return r, at, true
		}
	}
}

// decode returns the first character of a text, and how many characters encode it.
func (s *scalar) decode(text []rune) (r rune, length int) {
	switch {
	case s.style&yaml.SingleQuotedStyle != 0 && text[0] == '\'':
		return '\'', 2
	case s.style&yaml.DoubleQuotedStyle == 0 || text[0] != '\\':
		return text[0], 1
	case len(text) == 1:
		return ' ', 1 // the line is continued
	}
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[text[1]]
	if digits == 0 {
		if special, found := escapes[text[1]]; found {
			return special, 2
		}
		return text[1], 2
	}
	length = min(2+digits, len(text))
	code, err := strconv.ParseUint(string(text[2:length]), 16, 32)
	if err != nil {
		return text[1], length
	}
	return rune(code), length
}

// escapes are the YAML escapes that do not stand for themselves.
var escapes = map[rune]rune{
	'0': 0, 'a': '\a', 'b': '\b', 't': '\t', '\t': '\t', 'n': '\n', 'v': '\v', 'f': '\f', 'r': '\r', 'e': 0x1b,
	'N': 0x85, '_': 0xa0, 'L': 0x2028, 'P': 0x2029,
}
