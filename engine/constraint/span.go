package constraint

import (
	"slices"

	"github.com/antlr4-go/antlr/v4"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/parser/gen"
)

// Span is the location of a part of an expression in its text, in characters (Unicode code points) from 0. End is after the last one.
type Span struct{ Start, End int }

// spansOf returns the locations of an expression and of the operands of its top-level &&, by ID: without the white space, comments
// and parentheses around them. CEL records where each && is; the text between two of them is an operand.
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

// tokensOf returns the tokens that CEL reads from a text, without white space and comments.
func tokensOf(text string) []antlr.Token {
	stream := antlr.NewCommonTokenStream(gen.NewCELLexer(antlr.NewInputStream(text)), antlr.TokenDefaultChannel)
	stream.Fill()
	return slices.DeleteFunc(stream.GetAllTokens(), func(t antlr.Token) bool {
		return t.GetChannel() != antlr.TokenDefaultChannel || t.GetTokenType() == antlr.TokenEOF
	})
}

// unwrapped removes the pairs of parentheses around all tokens.
func unwrapped(tokens []antlr.Token) []antlr.Token {
	for tokens[0].GetTokenType() == gen.CELLexerLPAREN && closing(tokens) == len(tokens)-1 {
		tokens = tokens[1 : len(tokens)-1]
	}
	return tokens
}

// closing returns the index of the token that closes the first parenthesis.
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
