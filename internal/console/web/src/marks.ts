// How long things take, as performance measures that the browser's tools and the tests read.

/** Measures from a start until what follows from it is on the screen. */
export function measure(name: string, start = performance.now()): void {
  requestAnimationFrame(() => setTimeout(() => performance.measure(name, { start, end: performance.now() })));
}

const shown = new Set<string>();

/** Marks that a view shows its data for the first time. */
export function firstView(name: string): void {
  if (shown.has(name)) return;
  shown.add(name);
  requestAnimationFrame(() => setTimeout(() => performance.mark(`first-view:${name}`)));
}
