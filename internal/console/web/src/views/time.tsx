// How the fleet went along for as long as the console has watched, or for as long as Prometheus knows.
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Series } from "../api";
import { useAnswer } from "../fetching";
import { amount, count, percent, resourceName } from "../format";
import { firstView } from "../marks";
import { Choose, Empty, Failed, Loading } from "../parts";
import { refine, useAddress } from "../router";

const ranges = { "15m": 15, "1h": 60, "6h": 360, "": 0 } as const;
type Range = keyof typeof ranges;

export function Time({ workspace }: { workspace: string }) {
  const { query } = useAddress();
  const { data, failure } = useAnswer<Series>(`series?workspace=${encodeURIComponent(workspace)}`);
  useEffect(() => {
    if (data) firstView("time");
  }, [data !== undefined]);
  if (!data) return failure ? <Failed failure={failure} /> : <Loading what="the charts" />;
  const range = (query.get("range") ?? "") as Range;
  const after = ranges[range] ? Date.now() - ranges[range] * 60_000 : 0;
  const charts = group(data);
  return (
    <>
      <div class="head">
        <div>
          <h1>Over time</h1>
          <p>
            For as long as this console has watched
            {data.source === "prometheus" ? ", and from Prometheus." : data.problem ? "." : ". Start it with --prometheus to see more."}
          </p>
        </div>
        <Choose
          legend="Span"
          name="range"
          value={range}
          options={[
            { value: "15m", label: "15 min" },
            { value: "1h", label: "1 h" },
            { value: "6h", label: "6 h" },
            { value: "", label: "All" },
          ]}
          onChange={(value) => refine({ range: value })}
        />
      </div>
      {data.problem && (
        <div class="notice warn" role="note" aria-label="Prometheus">
          <span aria-hidden="true">!</span>
          <div>{data.problem}</div>
        </div>
      )}
      {charts.length === 0 ? (
        <section class="card">
          <Empty title="Nothing has been measured yet">The first points come within seconds. Leave the page open.</Empty>
        </section>
      ) : (
        <div class="halves">
          {charts.map((c) => (
            <Chart key={c.title} {...c} after={after} />
          ))}
        </div>
      )}
    </>
  );
}

interface ChartData {
  title: string;
  unit: string;
  lines: { name: string; points: [number, number][] }[];
}

/** Lines of one unit that are about the same stand in one chart. */
function group(data: Series): ChartData[] {
  const charts: ChartData[] = [];
  for (const s of data.series) {
    const title = s.chart;
    const points = s.points.map(([t, v]) => [t * 1000, v] as [number, number]);
    const at = charts.find((c) => c.title === title);
    const line = { name: s.unit === "percent" ? resourceName(s.name) : s.name, points };
    if (at) at.lines.push(line);
    else charts.push({ title, unit: s.unit, lines: [line] });
  }
  return charts;
}

const width = 640;
const height = 220;
const pad = { left: 48, right: 8, top: 10, bottom: 26 };

function Chart({ title, unit, lines, after }: ChartData & { after: number }) {
  const [at, setAt] = useState<number | null>(null);
  const [tabled, setTabled] = useState(false);
  const kept = useMemo(() => lines.map((l) => ({ ...l, points: l.points.filter(([t]) => t >= after) })), [lines, after]);
  const times = [...new Set(kept.flatMap((l) => l.points.map(([t]) => t)))].sort((a, b) => a - b);
  const say = (v: number) => (unit === "percent" ? percent(v) : unit === "count" ? count(v) : amount(unit, v));
  if (times.length === 0) {
    return (
      <section class="card">
        <header>
          <h2>{title}</h2>
        </header>
        <Empty title="No points in this span">Choose a longer one.</Empty>
      </section>
    );
  }
  const [first, last] = [times[0], Math.max(times.at(-1)!, times[0] + 1000)];
  const top = unit === "percent" ? Math.max(100, ...kept.flatMap((l) => l.points.map(([, v]) => v))) : nice(Math.max(1, ...kept.flatMap((l) => l.points.map(([, v]) => v))));
  const x = (t: number) => pad.left + ((t - first) / (last - first)) * (width - pad.left - pad.right);
  const y = (v: number) => height - pad.bottom - (v / top) * (height - pad.top - pad.bottom);
  const nearest = at === null ? times.length - 1 : at;
  const moment = times[nearest];
  const valueAt = (points: [number, number][]) => points.findLast(([t]) => t <= moment)?.[1];
  return (
    <section class="card" aria-label={title}>
      <header>
        <h2>{title}</h2>
        <span class="muted small">{new Date(moment).toLocaleTimeString("en-GB")}</span>
      </header>
      <p class="key">
        {kept.map((l, i) => (
          <span key={l.name}>
            <i class={`b${i % 6}`} /> {l.name} <strong>{valueAt(l.points) === undefined ? "–" : say(valueAt(l.points)!)}</strong>
          </span>
        ))}
      </p>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        width="100%"
        role="img"
        aria-label={`${title}: ${kept.map((l) => `${l.name} from ${say(l.points[0]?.[1] ?? 0)} to ${say(l.points.at(-1)?.[1] ?? 0)}`).join(", ")}`}
        onMouseMove={(e) => {
          const r = e.currentTarget.getBoundingClientRect();
          const t = first + (((e.clientX - r.left) / r.width) * width - pad.left) * ((last - first) / (width - pad.left - pad.right));
          let best = 0;
          for (let i = 1; i < times.length; i++) if (Math.abs(times[i] - t) < Math.abs(times[best] - t)) best = i;
          setAt(best);
        }}
        onMouseLeave={() => setAt(null)}
      >
        {[0, 0.5, 1].map((f) => (
          <g key={f}>
            <line class="axis" x1={pad.left} x2={width - pad.right} y1={y(f * top)} y2={y(f * top)} />
            <text class="faint" x={pad.left - 8} y={y(f * top) + 4} text-anchor="end">
              {say(f * top)}
            </text>
          </g>
        ))}
        <text class="faint" x={pad.left} y={height - 6}>
          {new Date(first).toLocaleTimeString("en-GB")}
        </text>
        <text class="faint" x={width - pad.right} y={height - 6} text-anchor="end">
          {new Date(last).toLocaleTimeString("en-GB")}
        </text>
        {kept.map((l, i) => {
          const path = steps(l.points, x, y, last);
          return path && (
            <g key={l.name}>
              {kept.length === 1 && <path class={`area c${i % 6}`} d={`${path}L${x(last)},${y(0)}L${x(l.points[0][0])},${y(0)}Z`} />}
              <path class={`line s${i % 6}`} d={path} />
            </g>
          );
        })}
        {at !== null && <line class="axis" x1={x(moment)} x2={x(moment)} y1={pad.top} y2={height - pad.bottom} />}
      </svg>
      <details onToggle={(e) => setTabled(e.currentTarget.open)}>
        <summary class="small">As a table</summary>
        {tabled && (
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th scope="col">Time</th>
                  {kept.map((l) => (
                    <th key={l.name} scope="col" class="right">
                      {l.name}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {times.slice(-30).reverse().map((t) => (
                  <tr key={t}>
                    <th scope="row">{new Date(t).toLocaleTimeString("en-GB")}</th>
                    {kept.map((l) => {
                      const v = l.points.findLast(([p]) => p <= t)?.[1];
                      return (
                        <td key={l.name} class="right">
                          {v === undefined ? "–" : say(v)}
                        </td>
                      );
                    })}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </details>
    </section>
  );
}

function steps(points: [number, number][], x: (t: number) => number, y: (v: number) => number, last: number): string {
  if (points.length === 0) return "";
  let d = `M${x(points[0][0])},${y(points[0][1])}`;
  for (const [t, v] of points.slice(1)) d += `H${x(t)}V${y(v)}`;
  return `${d}H${x(last)}`;
}

/** The next of 2, 4, 6, 10, 20 ..., of which the half is whole, too. */
function nice(v: number): number {
  const power = 10 ** Math.floor(Math.log10(v));
  return [2, 4, 6, 10, 20].map((f) => f * power).find((n) => n >= v)!;
}
