// Parts of a CEL expression for showing: which fail, and what was observed where.

export interface Part {
  text: string;
  failing: boolean;
  /** What the path that ends here had. */
  value?: string;
}

/** Divides an expression at the part that fails and at the paths that were observed in it. */
export function markExpression(full: string, failing: string, observed: { path: string; value: string }[]): Part[] {
  const start = full.indexOf(failing);
  const [from, to] = start < 0 ? [0, full.length] : [start, start + failing.length];
  // Where each observed path ends. The longest is looked for first, so that a.b is not found in a.b.c.
  const ends = new Map<number, string>();
  const taken: [number, number][] = [];
  for (const { path, value } of [...observed].sort((a, b) => b.path.length - a.path.length)) {
    for (let at = full.indexOf(path, from); path && at >= 0 && at + path.length <= to; at = full.indexOf(path, at + 1)) {
      const end = at + path.length;
      if (/\w/.test(full[end] ?? "") || /[\w.]/.test(full[at - 1] ?? "") || taken.some(([a, b]) => at < b && end > a)) continue;
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
