// A flow from old to new clusters: how many workloads go from where to where.
import { useMemo } from "preact/hooks";
import { plural } from "./format";

export interface Flow {
  from: string;
  to: string;
  count: number;
}

export const nowhere = "nowhere";

const nodeWidth = 8;
const gap = 10;
const width = 640;
const label = 150;

interface Band extends Flow {
  y0: number;
  y1: number;
  h: number;
  tone: number;
}

export function layout(flows: Flow[]) {
  const size = (key: "from" | "to") => {
    const totals = new Map<string, number>();
    for (const f of flows) totals.set(f[key], (totals.get(f[key]) ?? 0) + f.count);
    return [...totals].map(([name, total]) => ({ name, total, y: 0, h: 0 })).sort((a, b) => (a.name === nowhere ? 1 : b.name === nowhere ? -1 : b.total - a.total || (a.name < b.name ? -1 : 1)));
  };
  const left = size("from");
  const right = size("to");
  const total = flows.reduce((a, f) => a + f.count, 0);
  const rows = Math.max(left.length, right.length);
  const body = Math.max(120, Math.min(380, rows * 34));
  const height = body + rows * gap;
  // Each node is at least as high as its name.
  const place = (nodes: typeof left) => {
    const least = 16;
    const free = Math.max(0, body - nodes.length * least);
    let y = 0;
    for (const n of nodes) {
      n.h = least + (free * n.total) / total;
      n.y = y;
      y += n.h + gap;
    }
  };
  place(left);
  place(right);
  const at = { left: new Map(left.map((n) => [n.name, { ...n, used: 0 }])), right: new Map(right.map((n) => [n.name, { ...n, used: 0 }])) };
  const tones = new Map(left.map((n, i) => [n.name, i % 6]));
  const order = (name: string, nodes: typeof left) => nodes.findIndex((n) => n.name === name);
  const bands: Band[] = [...flows]
    .sort((a, b) => order(a.from, left) - order(b.from, left) || order(a.to, right) - order(b.to, right))
    .map((f) => {
      const [a, b] = [at.left.get(f.from)!, at.right.get(f.to)!];
      const [ha, hb] = [(a.h * f.count) / a.total, (b.h * f.count) / b.total];
      const band = { ...f, y0: a.y + a.used, y1: b.y + b.used, h: Math.max(1, Math.min(ha, hb)), tone: tones.get(f.from)! };
      a.used += ha;
      b.used += hb;
      return band;
    });
  return { left, right, bands, height };
}

export function Sankey({ flows, what }: { flows: Flow[]; what: string }) {
  const { left, right, bands, height } = useMemo(() => layout(flows), [flows]);
  const [x0, x1] = [label + nodeWidth, width - label - nodeWidth];
  const text = (name: string) => (name.length > 18 ? `${name.slice(0, 17)}…` : name);
  const described = flows.map((f) => `${plural(f.count, "workload")} ${f.from === f.to ? `stay on ${f.from}` : `from ${f.from} to ${f.to}`}`).join("; ");
  return (
    <svg viewBox={`0 0 ${width} ${height}`} width="100%" role="img" aria-label={`${what}: ${described}`}>
      {bands.map((b) => (
        <path
          key={`${b.from} ${b.to}`}
          class={b.from === b.to ? "flow stay" : `flow c${b.tone}`}
          d={`M${x0},${b.y0}C${(x0 + x1) / 2},${b.y0} ${(x0 + x1) / 2},${b.y1} ${x1},${b.y1}v${b.h}C${(x0 + x1) / 2},${b.y1 + b.h} ${(x0 + x1) / 2},${b.y0 + b.h} ${x0},${b.y0 + b.h}Z`}
        >
          <title>{`${b.from} → ${b.to}: ${plural(b.count, "workload")}`}</title>
        </path>
      ))}
      {left.map((n) => (
        <g key={n.name}>
          <rect class="node" x={label} y={n.y} width={nodeWidth} height={n.h} rx={2} />
          <text x={label - 8} y={n.y + n.h / 2 + 4} text-anchor="end">
            {text(n.name)} <tspan class="faint">{n.total}</tspan>
          </text>
        </g>
      ))}
      {right.map((n) => (
        <g key={n.name}>
          <rect class="node" x={width - label - nodeWidth} y={n.y} width={nodeWidth} height={n.h} rx={2} />
          <text x={width - label + 8} y={n.y + n.h / 2 + 4}>
            {text(n.name)} <tspan class="faint">{n.total}</tspan>
          </text>
        </g>
      ))}
    </svg>
  );
}
