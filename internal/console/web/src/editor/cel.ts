// CEL for CodeMirror, and YAML in which the constraints are CEL.
import { yamlLanguage } from "@codemirror/lang-yaml";
import { LRLanguage, LanguageSupport, StreamLanguage } from "@codemirror/language";
import type { SyntaxNodeRef } from "@lezer/common";
import { type Input, parseMixed } from "@lezer/common";

const roots = new Set(["cluster", "capacity", "workload", "placement"]);
const words: Record<string, string> = { true: "atom", false: "atom", null: "atom", in: "keyword" };

export const cel = StreamLanguage.define({
  name: "cel",
  token(stream) {
    if (stream.eatSpace()) return null;
    if (stream.match(/^\/\/.*/)) return "comment";
    if (stream.match(/^[rRbB]{0,2}("""[^]*?"""|'''[^]*?'''|"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)/)) return "string";
    if (stream.match(/^(?:0x[\da-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)u?/)) return "number";
    const word = stream.match(/^[A-Za-z_]\w*/) as RegExpMatchArray | null;
    if (word) {
      if (Object.hasOwn(words, word[0])) return words[word[0]];
      if (stream.match(/^\s*\(/, false)) return "variableName.function";
      if (roots.has(word[0])) return "variableName.special";
      return "variableName";
    }
    if (stream.match(/^(?:&&|\|\||==|!=|<=|>=|\.\?|\[\?|[<>!?:+\-*/%])/)) return "operator";
    stream.next();
    return null;
  },
});

/** The range of CEL that a node of YAML is: the value of a key named expression. */
export function celRange(node: SyntaxNodeRef, input: { read(from: number, to: number): string }): { from: number; to: number } | null {
  if (!/^(?:Literal|QuotedLiteral|BlockLiteralContent)$/.test(node.name)) return null;
  let pair = node.node.parent;
  if (pair?.name === "BlockLiteral") pair = pair.parent;
  const key = pair?.name === "Pair" ? pair.getChild("Key") : null;
  if (!key || input.read(key.from, key.to) !== "expression") return null;
  return node.name === "QuotedLiteral" ? { from: node.from + 1, to: Math.max(node.from + 1, node.to - 1) } : { from: node.from, to: node.to };
}

const mixed = LRLanguage.define({
  name: "placement",
  parser: yamlLanguage.parser.configure({
    wrap: parseMixed((node, input: Input) => {
      const range = celRange(node, input);
      return range && range.from < range.to ? { parser: cel.parser, overlay: [range] } : null;
    }),
  }),
  languageData: { commentTokens: { line: "#" } },
});

export const placement = new LanguageSupport(mixed);
