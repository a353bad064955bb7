// The weights that Rego modules write out, so that they can be changed without knowing Rego.

export interface Weights {
  module: string;
  /** The line that they begin on, from 1. */
  line: number;
  isDefault: boolean;
  /** What stands after them, such as an "if". */
  condition: string;
  values: [factor: string, weight: number][];
  from: number;
  to: number;
}

const pattern = /^[ \t]*(default\s+)?((?:[\w.]+\.)?weights)\s*:=\s*(\{[^{}]*\})([^\n]*)/gm;

export function findWeights(modules: Record<string, string>): Weights[] {
  const found: Weights[] = [];
  for (const [module, text] of Object.entries(modules)) {
    for (const m of text.matchAll(pattern)) {
      const values = [...m[3].matchAll(/"(\w+)"\s*:\s*(\d+)\b/g)].map((v) => [v[1], Number(v[2])] as [string, number]);
      // Only what is nothing but numbers can be written back.
      if (values.length === 0 || m[3].split(":").length - 1 !== values.length) continue;
      const from = m.index + m[0].indexOf("{", m[0].indexOf(":="));
      found.push({ module, line: text.slice(0, from).split("\n").length, isDefault: Boolean(m[1]), condition: m[4].trim(), values, from, to: from + m[3].length });
    }
  }
  return found;
}

/** The module's text with another weight of a factor. */
export function withWeight(text: string, of: Weights, factor: string, weight: number): string {
  const old = text.slice(of.from, of.to);
  const quoted = `"${factor}"`;
  const next = of.values.some(([f]) => f === factor)
    ? old.replace(new RegExp(`(${quoted}\\s*:\\s*)\\d+`), `$1${weight}`)
    : old.replace(/\s*,?\s*\}$/, `, ${quoted}: ${weight}}`);
  return text.slice(0, of.from) + next + text.slice(of.to);
}

/** A module that weighs as the built-in one does, to begin with. */
export function startModule(defaults: Record<string, number>): string {
  const values = Object.entries(defaults).map(([f, w]) => `"${f}": ${w}`);
  return `package placement.scoring\n\nweights := {${values.join(", ")}}\n`;
}
