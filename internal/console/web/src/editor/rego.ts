// Rego for CodeMirror: what colours need to know, and no more.
import { StreamLanguage } from "@codemirror/language";

const keywords = new Set(["package", "import", "as", "default", "else", "not", "with", "some", "every", "in", "contains", "if"]);
const atoms = new Set(["true", "false", "null"]);
const roots = new Set(["input", "data"]);

interface State {
  raw: boolean;
}

export const rego = StreamLanguage.define<State>({
  name: "rego",
  startState: () => ({ raw: false }),
  token(stream, state) {
    if (state.raw) {
      state.raw = !stream.skipTo("`");
      if (state.raw) stream.skipToEnd();
      else stream.next();
      return "string";
    }
    if (stream.eatSpace()) return null;
    if (stream.match(/^#.*/)) return "comment";
    if (stream.match(/^"(?:[^"\\]|\\.)*"?/)) return "string";
    if (stream.eat("`")) {
      state.raw = true;
      return "string";
    }
    if (stream.match(/^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/)) return "number";
    const word = stream.match(/^[A-Za-z_]\w*/) as RegExpMatchArray | null;
    if (word) {
      if (keywords.has(word[0])) return "keyword";
      if (atoms.has(word[0])) return "atom";
      if (roots.has(word[0])) return "variableName.special";
      if (stream.match(/^(?:\.\w+)*\(/, false)) return "variableName.function";
      return "variableName";
    }
    if (stream.match(/^(?::=|==|!=|<=|>=|[<>=+\-*/%&|])/)) return "operator";
    stream.next();
    return null;
  },
  languageData: { commentTokens: { line: "#" }, closeBrackets: { brackets: ["(", "[", "{", '"', "`"] }, indentOnInput: /^\s*[\]})]$/ },
});
