package constraint

import (
	"slices"

	"github.com/antlr4-go/antlr/v4"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/parser/gen"
)

// Span is where a part of an expression stands in its text, in characters (Unicode code points) from 0. End is that after the last one.
type Span struct{ Start, End int }

// spansOf returns where an expression and the operands of its top-level && stand, by their IDs: without the white space, the comments
// and the parentheses around them. CEL keeps where each && stands; what is between two of them is an operand.
func spansOf(text string, of *ast.AST) map[int64]Span {
	spans := map[int64]Span{}
	var visit func(e ast.Expr, tokens []antlr.Token)
	visit = func(e ast.Expr, tokens []antlr.Token) {
		tokens = unwrapped(tokens)
		spans[e.ID()] = Span{tokens[0].GetStart(), tokens[len(tokens)-1].GetStop() + 1}
		if !isCall(e, operators.LogicalAnd) {
			return
		}
		at, _ := of.SourceInfo().GetOffsetRange(e.ID())
		i := slices.IndexFunc(tokens, func(t antlr.Token) bool { return t.GetStart() == int(at.Start) })
		visit(e.AsCall().Args()[0], tokens[:i])
		visit(e.AsCall().Args()[1], tokens[i+1:])
	}
	visit(of.Expr(), tokensOf(text))
	return spans
}

// tokensOf returns what CEL reads of a text, without white space and comments.
func tokensOf(text string) []antlr.Token {
	stream := antlr.NewCommonTokenStream(gen.NewCELLexer(antlr.NewInputStream(text)), antlr.TokenDefaultChannel)
	stream.Fill()
	return slices.DeleteFunc(stream.GetAllTokens(), func(t antlr.Token) bool {
		return t.GetChannel() != antlr.TokenDefaultChannel || t.GetTokenType() == antlr.TokenEOF
	})
}

// unwrapped leaves out the pairs of parentheses around all tokens.
func unwrapped(tokens []antlr.Token) []antlr.Token {
	for tokens[0].GetTokenType() == gen.CELLexerLPAREN && closing(tokens) == len(tokens)-1 {
		tokens = tokens[1 : len(tokens)-1]
	}
	return tokens
}

// closing returns which token closes the parenthesis that the first one opens.
func closing(tokens []antlr.Token) int {
	open := 0
	return slices.IndexFunc(tokens, func(t antlr.Token) bool {
		switch t.GetTokenType() {
		case gen.CELLexerLPAREN:
			open++
		case gen.CELLexerRPAREN:
			open--
		}
		return open == 0
	})
}
