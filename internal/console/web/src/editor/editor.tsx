// A text editor in a shadow root: there its styles are constructed sheets, which a strict Content-Security-Policy allows.
import { type Completion as Option, type CompletionContext, type CompletionResult, autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { HighlightStyle, bracketMatching, indentOnInput, indentUnit, syntaxHighlighting, syntaxTree } from "@codemirror/language";
import { type Diagnostic, lintGutter, lintKeymap, nextDiagnostic, setDiagnostics } from "@codemirror/lint";
import { EditorState, type Extension } from "@codemirror/state";
import { EditorView, drawSelection, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "preact/hooks";
import type { Completions, Finding } from "../api";
import { celRange, placement } from "./cel";
import { rego } from "./rego";

export type Language = "placement" | "rego";

export interface EditorProps {
  id: string;
  label: string;
  language: Language;
  value: string;
  findings: Finding[];
  completions: Completions | undefined;
  /** A place to go to; a new object goes there again. */
  at?: { line: number; column: number };
  onChange: (value: string) => void;
}

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.atom], color: "var(--f3)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--good)" },
  { tag: tags.number, color: "var(--warn)" },
  { tag: [tags.comment, tags.lineComment], color: "var(--muted)", fontStyle: "italic" },
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
  { tag: [tags.function(tags.variableName)], color: "var(--accent)" },
  { tag: tags.special(tags.variableName), color: "var(--bad)" },
  { tag: tags.operator, color: "var(--muted)" },
]);

const look = EditorView.theme({
  "&": { minHeight: "260px", maxHeight: "min(64vh, 640px)", fontSize: "13px", color: "var(--text)", backgroundColor: "var(--surface)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6", overflow: "auto" },
  ".cm-content": { caretColor: "var(--text)", padding: "12px 0" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": { backgroundColor: "var(--surface)", color: "var(--muted)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "transparent" },
  "&.cm-focused .cm-activeLine": { backgroundColor: "color-mix(in srgb, var(--accent) 7%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "color-mix(in srgb, var(--accent) 26%, transparent)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "color-mix(in srgb, var(--accent) 22%, transparent)", outline: "none" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bad) 1.5px", textUnderlineOffset: "3px" },
  ".cm-lintRange-warning": { backgroundImage: "none", textDecoration: "underline wavy var(--warn) 1.5px", textUnderlineOffset: "3px" },
  ".cm-tooltip": { backgroundColor: "var(--surface)", color: "var(--text)", border: "1px solid var(--line-strong)", borderRadius: "8px", boxShadow: "var(--float)", overflow: "hidden", maxWidth: "520px" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", maxHeight: "16em" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { padding: "3px 10px", color: "var(--text)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent-soft)", color: "var(--text)" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "700", color: "var(--accent)" },
  ".cm-completionDetail": { color: "var(--muted)", fontStyle: "normal" },
  ".cm-diagnostic": { whiteSpace: "pre-wrap", padding: "6px 10px", fontFamily: "inherit" },
  ".cm-diagnostic-error": { borderLeft: "4px solid var(--bad)" },
  ".cm-diagnostic-warning": { borderLeft: "4px solid var(--warn)" },
});

// States outlive the editor, so that going to another tab and back keeps what can be undone.
const states = new Map<string, EditorState>();

export function Editor(props: EditorProps) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  // What was told by onChange and has not come back as the value: it is no news, and may be older than what stands here.
  const told = useRef<string[]>([]);
  const latest = useRef(props);
  latest.current = props;

  useEffect(() => {
    const root = host.current!.shadowRoot ?? host.current!.attachShadow({ mode: "open" });
    const { id, label, language, value } = latest.current;
    const config: Extension[] = [
      lineNumbers(),
      lintGutter(),
      history(),
      drawSelection(),
      indentOnInput(),
      indentUnit.of(language === "rego" ? "\t" : "  "),
      bracketMatching(),
      closeBrackets(),
      highlightActiveLine(),
      syntaxHighlighting(colours),
      look,
      language === "rego" ? rego : placement,
      autocompletion({ override: [(context) => complete(context, language, latest.current.completions)], icons: false }),
      keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap, { key: "F8", run: nextDiagnostic }]),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ "aria-label": label, spellcheck: "false", autocapitalize: "off" }),
      EditorView.updateListener.of((update) => {
        if (!update.docChanged) return;
        const text = update.state.doc.toString();
        told.current.push(text);
        latest.current.onChange(text);
      }),
    ];
    const before = states.get(id);
    const state = EditorState.create({ doc: value, extensions: config, selection: before && before.doc.toString() === value ? before.selection : undefined });
    const editor = new EditorView({ state, root, parent: root });
    view.current = editor;
    told.current = [];
    return () => {
      states.set(id, editor.state);
      editor.destroy();
    };
  }, [props.id, props.language]);

  // A value from elsewhere, such as a slider, is put in as one change, which can be undone.
  useEffect(() => {
    const editor = view.current;
    const at = told.current.lastIndexOf(props.value);
    if (at >= 0) {
      told.current.splice(0, at + 1);
      return;
    }
    if (!editor || editor.state.doc.toString() === props.value) return;
    editor.dispatch({ changes: difference(editor.state.doc.toString(), props.value) });
  }, [props.value]);

  useEffect(() => {
    const editor = view.current;
    if (editor) editor.dispatch(setDiagnostics(editor.state, props.findings.map((f) => diagnostic(editor.state, f))));
  }, [props.findings, props.id]);

  useEffect(() => {
    const editor = view.current;
    if (!editor || !props.at) return;
    const line = editor.state.doc.line(Math.min(Math.max(1, props.at.line), editor.state.doc.lines));
    editor.dispatch({ selection: { anchor: Math.min(line.to, line.from + Math.max(0, props.at.column - 1)) }, scrollIntoView: true });
    editor.focus();
  }, [props.at]);

  return <div class="code-editor" ref={host} />;
}

function difference(before: string, after: string): { from: number; to: number; insert: string } {
  let from = 0;
  while (from < before.length && before[from] === after[from]) from++;
  let end = 0;
  while (end < before.length - from && end < after.length - from && before[before.length - 1 - end] === after[after.length - 1 - end]) end++;
  return { from, to: before.length - end, insert: after.slice(from, after.length - end) };
}

function diagnostic(state: EditorState, f: Finding): Diagnostic {
  const line = state.doc.line(Math.min(Math.max(1, f.line), state.doc.lines));
  const from = Math.min(line.to, line.from + Math.max(0, f.column - 1));
  const word = /^(?:[\w.]+|\S)/.exec(line.text.slice(from - line.from));
  return { from, to: Math.min(line.to, from + (word?.[0].length ?? 0)), severity: f.severity === "error" ? "error" : "warning", message: f.message };
}

/** What can stand at the cursor: names of the language, and what the fleet has. */
function complete(context: CompletionContext, language: Language, known: Completions | undefined): CompletionResult | null {
  if (!known || (language === "placement" && !within(context))) return null;
  const quoted = context.matchBefore(/"[^"\n]*/);
  if (quoted && (context.state.sliceDoc(context.state.doc.lineAt(context.pos).from, quoted.from).split('"').length - 1) % 2 === 0) {
    return { from: quoted.from + 1, options: vocabulary(known).map((label) => ({ label })), validFor: /^[^"]*$/ };
  }
  const word = context.matchBefore(/[A-Za-z_][\w.]*/);
  if (!word && !context.explicit) return null;
  const dot = word ? word.text.lastIndexOf(".") + 1 : 0;
  const path = word?.text.slice(0, dot) ?? "";
  const options: Option[] = [];
  for (const c of known[language === "rego" ? "rego" : "cel"]) {
    const apply = (label: string) => (c.type === "function" ? `${label}(` : label);
    const ofAny = !c.label.includes(".") && (c.type === "function" || c.type === "property"); // of whatever stands before the dot
    if (!path && c.type === "property" && ofAny) continue;
    if (c.label.startsWith(path)) options.push({ label: c.label.slice(dot), detail: c.detail, info: c.info, apply: apply(c.label.slice(dot)) });
    else if (path && ofAny) options.push({ label: c.label, detail: c.detail, info: c.info, apply: apply(c.label), boost: -10 });
  }
  if (/^capacity\.\w+\.$|^(?:input\.)?workload\.requests\.$/.test(path)) options.push(...known.fleet.resources.map(member));
  if (path === "cluster.labels.") options.push(...Object.keys(known.fleet.labels).map(member));
  return { from: (word?.from ?? context.pos) + dot, options, validFor: /^\w*$/ };
}

/** A key of a map: in brackets, where it is no plain name. */
function member(key: string): Option {
  if (/^[A-Za-z_]\w*$/.test(key)) return { label: key };
  return { label: key, apply: (view, _, from, to) => view.dispatch({ changes: { from: from - 1, to, insert: `[${JSON.stringify(key)}]` } }) };
}

function vocabulary({ fleet }: Completions): string[] {
  const values = [
    ...fleet.locations,
    ...fleet.clusters,
    ...Object.entries(fleet.labels).flatMap(([key, all]) => [key, ...all]),
    ...Object.entries(fleet.capabilities).flatMap(([key, all]) => [key, ...all]),
    ...fleet.taints,
    ...fleet.conditions,
    ...fleet.resources,
  ];
  return [...new Set(values)];
}

function within({ state, pos }: CompletionContext): boolean {
  const tree = syntaxTree(state);
  for (let node: ReturnType<typeof tree.resolve> | null = tree.resolve(pos, -1); node; node = node.parent) {
    if (celRange(node, { read: (a, b) => state.sliceDoc(a, b) })) return true;
  }
  return /^\s*(?:- )?expression:/.test(state.doc.lineAt(pos).text);
}
