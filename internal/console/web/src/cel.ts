// Parts of a CEL expression for showing: which fail, and what was observed where.

export interface Part {
  text: string;
  failing: boolean;
  /** What the path that ends here had. */
  value?: string;
}

/** Divides an expression at the part that fails, which is all of it where span is left out, and at the paths that were observed in it. */
export function markExpression(full: string, span: { start: number; end: number } | undefined, observed: { path: string; value: string }[]): Part[] {
  const points = [...full];
  const unit = (point: number) => points.slice(0, point).join("").length; // JavaScript counts in units of UTF-16
  const [from, to] = span ? [unit(span.start), unit(span.end)] : [0, full.length];
  // Where each observed path ends. The longest is looked for first, so that a.b is not found in a.b.c.
  const ends = new Map<number, string>();
  const taken: [number, number][] = [];
  for (const { path, value } of [...observed].sort((a, b) => b.path.length - a.path.length)) {
    for (const { 0: found, index: at } of full.matchAll(written(path))) {
      const end = at + found.length;
      if (at < from || end > to || /\w/.test(full[end] ?? "") || /[\w.]/.test(full[at - 1] ?? "") || taken.some(([a, b]) => at < b && end > a)) continue;
      taken.push([at, end]);
      ends.set(end, value);
    }
  }
  const parts: Part[] = [];
  const cuts = [...new Set([0, from, to, full.length, ...ends.keys()])].sort((a, b) => a - b);
  for (let i = 1; i < cuts.length; i++) {
    const [a, b] = [cuts[i - 1], cuts[i]];
    if (a < b) parts.push({ text: full.slice(a, b), failing: a >= from && b <= to, value: ends.get(b) });
  }
  return parts;
}

/** Finds a path as its author may have written it, with white space between its parts and with other quotes. */
function written(path: string): RegExp {
  const parts = path.match(/\w+|"(?:[^"\\]|\\.)*"|[^]/g) ?? [];
  const escape = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(parts.map((p) => (p.length > 1 && p[0] === '"' ? `(?:${escape(p)}|'${escape(p.slice(1, -1))}')` : escape(p))).join("\\s*"), "g");
}
