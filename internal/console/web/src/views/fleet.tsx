// How full the fleet is, what is wrong with it, and where there is room: a map of all clusters, and one of them in detail.
import { memo } from "../memo";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Cluster, Fleet as FleetData, Workloads } from "../api";
import { useAnswer } from "../fetching";
import { age, amount, clock, plural, refPath, refText, resourceName, resources, used } from "../format";
import { firstView, measure } from "../marks";
import { About, AmountBar, AmountKey, Choose, Empty, Failed, Loading, Survival, Suspensions, sum } from "../parts";
import { href, navigate, refine, useAddress } from "../router";

type Colouring = "use" | "headroom" | "health";

export function Fleet({ workspace }: { workspace: string }) {
  const { path, query } = useAddress();
  const { data, failure } = useAnswer<FleetData>(`fleet?workspace=${encodeURIComponent(workspace)}`);
  const clusters = data?.clusters;
  const names = useMemo(() => resources(clusters ?? []), [clusters]);
  const keys = useMemo(() => groupings(clusters ?? []), [clusters]);
  useEffect(() => {
    if (data) firstView("fleet");
  }, [data !== undefined]);

  if (!data || !clusters) return failure ? <Failed failure={failure} /> : <Loading what="the fleet" />;
  const colour = (query.get("colour") ?? "use") as Colouring;
  const resource = query.get("resource") ?? scarcest(clusters, names);
  const group = query.get("group") ?? "location";
  const search = (query.get("find") ?? "").toLowerCase();
  const selected = path[1];
  const cluster = clusters.find((c) => c.name === selected);
  return (
    <>
      <div class="head">
        <div>
          <h1>Fleet</h1>
          <p>
            {data.simulated && "Simulated, since there are no PlacementDecisions: "}
            {plural(data.summary.clusters, "cluster")}, {unready(clusters)}, {data.summary.overcommitted ? `${data.summary.overcommitted} overcommitted` : "none overcommitted"};{" "}
            <a href={href(["workloads"], { state: data.summary.waiting ? "Waiting" : null })}>
              {data.summary.waiting === 1 ? "1 workload waits" : `${plural(data.summary.waiting, "workload")} ${data.summary.waiting ? "wait" : "waiting"}`}
            </a>
            .
          </p>
        </div>
      </div>
      <About of={data} failure={failure} />
      <Suspensions of={data.suspended} />
      {clusters.length === 0 ? (
        <section class="card">
          <Empty title="There are no clusters yet">
            Register one with the agent (docs/agent.md), or write a ClusterRegistration. Then it appears here by itself.
          </Empty>
        </section>
      ) : (
        <>
          <section class="card" aria-label="The fleet as a whole">
            <div class="totals">
              {names.map((r) => (
                <AmountBar key={r} resource={r} allocatable={sum(clusters, "allocatable", r)} allocated={sum(clusters, "allocated", r)} reserved={sum(clusters, "reserved", r)} />
              ))}
            </div>
            <AmountKey />
          </section>
          <div class={`split ${cluster ? "open" : ""}`}>
            <section class="card stack tight" aria-label="Map of the clusters">
              <div class="tools">
                <Choose
                  legend="Colour by"
                  name="colour"
                  value={colour}
                  options={[
                    { value: "use", label: "Use" },
                    { value: "headroom", label: "Headroom" },
                    { value: "health", label: "Health" },
                  ]}
                  onChange={(value) => {
                    measure("fleet:colour");
                    refine({ colour: value });
                  }}
                />
                <label class="field">
                  Resource
                  <select value={resource} disabled={colour === "health"} onChange={(e) => refine({ resource: e.currentTarget.value })}>
                    {names.map((r) => (
                      <option key={r} value={r}>
                        {resourceName(r)}
                      </option>
                    ))}
                  </select>
                </label>
                <label class="field">
                  Group by
                  <select
                    value={group}
                    onChange={(e) => {
                      measure("fleet:group");
                      refine({ group: e.currentTarget.value });
                    }}
                  >
                    {keys.map((k) => (
                      <option key={k} value={k}>
                        {k === "location" ? "Location" : k === "" ? "Nothing" : k}
                      </option>
                    ))}
                  </select>
                </label>
                <label class="field grow">
                  Show only
                  <input type="search" placeholder="name or label" value={query.get("find") ?? ""} onInput={(e) => refine({ find: e.currentTarget.value })} />
                </label>
              </div>
              <Legend colour={colour} />
              <Map clusters={clusters} colour={colour} resource={resource} group={group} search={search} selected={selected} />
            </section>
            <div class="stack">
              {selected && (cluster ? <Details key={selected} cluster={cluster} workspace={workspace} names={names} /> : <Gone name={selected} />)}
              {data.headroom && data.headroom.length > 0 && (
                <section class="card" aria-label="If clusters were lost">
                  <header>
                    <h2>If clusters were lost</h2>
                  </header>
                  <ul class="list">
                    {data.headroom.map((h) => (
                      <li key={`${h.namespace}/${h.placement}`}>
                        <a class="strong" href={href(["workloads"], { placement: h.placement, namespace: h.namespace })}>
                          {h.namespace}/{h.placement}
                        </a>{" "}
                        <Survival of={h} />
                      </li>
                    ))}
                  </ul>
                </section>
              )}
              <section class="card">
                <header>
                  <h2>What changed lately</h2>
                </header>
                {data.changes.length === 0 ? (
                  <p class="muted small">Nothing has changed since the console began to watch.</p>
                ) : (
                  <ol class="feed" tabIndex={0} aria-label="Changes, the latest first">
                    {data.changes.map((c, i) => (
                      <li key={`${c.at} ${i}`}>
                        <time dateTime={c.at}>{clock(c.at)}</time>
                        <span>{c.workload ? <a href={href(refPath(c.workload))}>{c.text}</a> : c.cluster ? <a href={href(["fleet", c.cluster])}>{c.text}</a> : c.text}</span>
                      </li>
                    ))}
                  </ol>
                )}
              </section>
            </div>
          </div>
        </>
      )}
    </>
  );
}

function unready(clusters: Cluster[]): string {
  const n = clusters.filter((c) => c.ready !== "True").length;
  return n === 0 ? "all ready" : `${n} not ready`;
}

/** The resource of which the largest share is in use: what one looks at first. */
function scarcest(clusters: Cluster[], names: string[]): string {
  let most = names[0] ?? "cpu";
  let worst = -1;
  for (const r of names) {
    const use = used(sum(clusters, "allocatable", r), sum(clusters, "allocated", r) + sum(clusters, "reserved", r)) ?? 0;
    if (use > worst) [most, worst] = [r, use];
  }
  return most;
}

function groupings(clusters: Cluster[]): string[] {
  const keys = new Set<string>();
  for (const c of clusters) for (const key of Object.keys(c.labels ?? {})) keys.add(key);
  return ["location", "", ...[...keys].sort()];
}

interface Look {
  tone: string;
  value: string;
  text: string;
}

/** How a cluster looks in the map, and the same in words. */
function look(c: Cluster, colour: Colouring, resource: string, most: number): Look {
  const health = healthOf(c);
  if (colour === "health") return { tone: health.tone, value: health.word, text: health.word };
  const allocatable = c.allocatable[resource] ?? 0;
  const taken = (c.allocated[resource] ?? 0) + (c.reserved[resource] ?? 0);
  const name = resourceName(resource);
  if (allocatable === 0 && taken === 0) return { tone: "none", value: "none", text: `none: it has no ${name}` };
  const use = used(allocatable, taken) ?? 0;
  const free = allocatable - taken;
  const state = health.tone === "good" ? "" : `, ${health.word.toLowerCase()}`;
  if (free < 0) return { tone: "over", value: `${amount(resource, -free)} over`, text: `${amount(resource, -free)} over what there is of ${name}${state}` };
  if (colour === "use") return { tone: `u${Math.min(10, Math.floor(use / 9.0909))}`, value: `${Math.round(use)}%`, text: `${Math.round(use)}% in use of ${name}, ${amount(resource, free)} free${state}` };
  return { tone: `u${most > 0 ? Math.floor((10 * free) / most) : 0}`, value: amount(resource, free), text: `${amount(resource, free)} free of ${name}${state}` };
}

function healthOf(c: Cluster): { tone: "good" | "warn" | "bad"; word: string } {
  if (c.ready === "False") return { tone: "bad", word: "Not ready" };
  if (c.ready !== "True") return { tone: "bad", word: "Unknown" };
  if (c.draining) return { tone: "warn", word: "Draining" };
  if (c.schedulingDisabled) return { tone: "warn", word: "Cordoned" };
  return { tone: "good", word: "Ready" };
}

function Legend({ colour }: { colour: Colouring }) {
  if (colour === "health") {
    return (
      <p class="legend">
        <span class="tag good">✓ ready</span>
        <span class="tag warn">◷ cordoned or draining</span>
        <span class="tag bad">✕ not ready</span>
      </p>
    );
  }
  return (
    <p class="legend">
      <span>{colour === "use" ? "0%" : "nothing free"}</span>
      <span class="ramp" aria-hidden="true">
        {Array.from({ length: 11 }, (_, i) => (
          <i key={i} class={`u${i}`} />
        ))}
      </span>
      <span>{colour === "use" ? "100% in use" : "the most that is free on one"}</span>
      <span class="ramp" aria-hidden="true">
        <i class="over" />
      </span>
      <span>overcommitted</span>
    </p>
  );
}

interface MapProps {
  clusters: Cluster[];
  colour: Colouring;
  resource: string;
  group: string;
  search: string;
  selected: string | undefined;
}

const Map = memo(function Map({ clusters, colour, resource, group, search, selected }: MapProps) {
  const box = useRef<HTMLDivElement>(null);
  const [tip, setTip] = useState<{ x: number; y: number; name: string; text: string } | null>(null);
  const { groups, shown } = useMemo(() => {
    const most = Math.max(0, ...clusters.map((c) => c.free[resource] ?? 0));
    const groups: Record<string, { name: string; cells: { c: Cluster; look: Look }[] }> = Object.create(null);
    let shown = 0;
    for (const c of clusters) {
      if (search && !matches(c, search)) continue;
      shown++;
      const name = group === "" ? "All clusters" : group === "location" ? c.location || "no location" : (c.labels?.[group] ?? `without ${group}`);
      (groups[name] ??= { name, cells: [] }).cells.push({ c, look: look(c, colour, resource, most) });
    }
    return { groups: Object.values(groups).sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true })), shown };
  }, [clusters, colour, resource, group, search]);
  const roomy = shown <= 60;

  const cellOf = (e: Event) => (e.target as Element).closest<HTMLElement>("[data-name]");
  const select = useCallback(
    (e: Event) => {
      const name = cellOf(e)?.dataset.name;
      if (!name) return;
      measure("fleet:select");
      const keys = Object.fromEntries(new URLSearchParams(location.search));
      navigate(href(name === selected ? ["fleet"] : ["fleet", name], keys));
    },
    [selected],
  );
  // Arrows go from cell to cell; Tab comes to the map once.
  const move = (e: KeyboardEvent) => {
    const cells = [...box.current!.querySelectorAll<HTMLElement>("[data-name]")];
    const now = cells.indexOf(document.activeElement as HTMLElement);
    if (now < 0) return;
    const here = cells[now].getBoundingClientRect();
    const vertical = (down: boolean) => {
      const others = cells.map((el, i) => ({ i, r: el.getBoundingClientRect() })).filter(({ r }) => (down ? r.top > here.top + 4 : r.top < here.top - 4));
      others.sort((a, b) => Math.abs(a.r.top - here.top) - Math.abs(b.r.top - here.top) || Math.abs(a.r.left - here.left) - Math.abs(b.r.left - here.left));
      return others[0]?.i ?? now;
    };
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: cells.length - 1 }[e.key] ?? (e.key === "ArrowDown" ? vertical(true) : e.key === "ArrowUp" ? vertical(false) : undefined);
    if (to === undefined || !cells[to]) return;
    e.preventDefault();
    cells[now].tabIndex = -1;
    cells[to].tabIndex = 0;
    cells[to].focus();
  };
  const show = (e: Event) => {
    const cell = cellOf(e);
    if (!cell) return setTip(null);
    const r = cell.getBoundingClientRect();
    setTip({ x: r.left, y: r.bottom + 6, name: cell.dataset.name!, text: cell.dataset.text! });
  };
  if (shown === 0) return <Empty title="No cluster is like that">Change what is typed in “Show only”.</Empty>;
  const first = groups[0].cells[0].c.name;
  const stop = selected && clusters.some((c) => c.name === selected && (!search || matches(c, search))) ? selected : first;
  return (
    <div ref={box} class="groups" onClick={select} onKeyDown={move} onMouseOver={show} onMouseLeave={() => setTip(null)} onFocusCapture={show} onBlurCapture={() => setTip(null)}>
      {groups.map((g) => (
        <section key={g.name} class="group" aria-label={g.name}>
          <header>
            <h2>{g.name}</h2>
            <span class="muted small">{plural(g.cells.length, "cluster")}</span>
          </header>
          <div class={`cells ${roomy ? "roomy" : ""}`} role="group" aria-label={`Clusters of ${g.name}`}>
            {g.cells.map(({ c, look }) => (
              <button
                key={c.name}
                type="button"
                class={`cell ${look.tone}`}
                data-name={c.name}
                data-text={look.text}
                aria-pressed={c.name === selected}
                aria-label={`${c.name} ${look.text}`}
                tabIndex={c.name === stop ? 0 : -1}
              >
                {roomy ? (
                  <>
                    <b>{c.name}</b>{" "}
                    <span class="value">
                      {look.value} {colour !== "health" && look.tone.startsWith("u") && <small>{colour === "use" ? "in use" : "free"}</small>}
                    </span>
                  </>
                ) : healthOf(c).tone === "good" ? (
                  ""
                ) : (
                  <span aria-hidden="true">{healthOf(c).tone === "bad" ? "✕" : "◷"}</span>
                )}
              </button>
            ))}
          </div>
        </section>
      ))}
      {tip && !roomy && (
        <div class="tip" style={{ left: `${Math.max(8, Math.min(tip.x, innerWidth - 330))}px`, top: `${Math.min(tip.y, innerHeight - 70)}px` }}>
          <strong>{tip.name}</strong>
          <br />
          {tip.text}
        </div>
      )}
    </div>
  );
});

function matches(c: Cluster, search: string): boolean {
  if (c.name.toLowerCase().includes(search) || c.location.toLowerCase().includes(search)) return true;
  for (const [key, value] of Object.entries(c.labels ?? {})) if (`${key}=${value}`.toLowerCase().includes(search)) return true;
  return false;
}

function Gone({ name }: { name: string }) {
  return (
    <section class="card">
      <Empty title={`There is no cluster ${name}`}>
        It may have been removed. <a href={href(["fleet"])}>Show the fleet.</a>
      </Empty>
    </section>
  );
}

function Details({ cluster: c, workspace, names }: { cluster: Cluster; workspace: string; names: string[] }) {
  const health = healthOf(c);
  const about = `workloads?workspace=${encodeURIComponent(workspace)}&limit=20`;
  const here = useAnswer<Workloads>(`${about}&cluster=${encodeURIComponent(c.name)}`).data;
  const waits = useAnswer<Workloads>(`${about}&nearest=${encodeURIComponent(c.name)}`).data;
  const keys = Object.fromEntries(new URLSearchParams(location.search));
  return (
    <section class="card panel stack tight" aria-label={`Cluster ${c.name}`}>
      <header>
        <div class="between">
          <h2>{c.name}</h2>
          <a class="button tiny" href={href(["fleet"], keys)}>
            Close
          </a>
        </div>
        <p class="tags">
          <span class={`tag ${health.tone}`}>
            <span aria-hidden="true">{{ good: "✓", warn: "◷", bad: "✕" }[health.tone]}</span>
            {health.word}
          </span>
          {c.location && <span class="tag">{c.location}</span>}
          {c.capabilities?.map((cap) => (
            <span key={cap.type} class="tag accent">
              {cap.type}
              {!cap.available && " (not available)"}
              {Object.values(cap.attributes ?? {}).length > 0 && `: ${Object.values(cap.attributes!).join(", ")}`}
            </span>
          ))}
        </p>
      </header>
      {names
        .filter((r) => (c.allocatable[r] ?? 0) !== 0 || (c.allocated[r] ?? 0) !== 0)
        .map((r) => (
          <AmountBar key={r} resource={r} allocatable={c.allocatable[r] ?? 0} allocated={c.allocated[r] ?? 0} reserved={c.reserved[r] ?? 0} />
        ))}
      {c.largestFree && (
        <p class="small muted">
          The largest node still takes {Object.entries(c.largestFree).filter(([, v]) => v > 0).map(([r, v]) => `${amount(r, v)} ${resourceName(r)}`).join(", ") || "nothing"}.
        </p>
      )}
      <h3>Runs here{here ? `: ${here.total}` : ""}</h3>
      {!here?.total ? (
        <p class="small muted">{here ? "Nothing has been placed here." : "Loading …"}</p>
      ) : (
        <ul class="list">
          {here.workloads.map((w) => {
            const on = w.clusters.find((x) => x.name === c.name);
            return (
              <li key={refText(w.workload)}>
                <span class="row">
                  <a href={href(refPath(w.workload))}>{refText(w.workload)}</a>
                  <span class="muted">{on ? `${on.replicas > 1 ? `${plural(on.replicas, "replica")}, ` : ""}score ${on.score}` : "leaving"}</span>
                </span>
              </li>
            );
          })}
        </ul>
      )}
      {here && here.total > here.workloads.length && <a href={href(["workloads"], { cluster: c.name })}>All {here.total}</a>}
      <h3>Waits for it{waits ? `: ${waits.total}` : ""}</h3>
      {!waits?.total ? (
        <p class="small muted">{waits ? "No workload waits with this cluster as the nearest." : "Loading …"}</p>
      ) : (
        <ul class="list">
          {waits.workloads.map((w) => (
            <li key={refText(w.workload)}>
              <a href={href(refPath(w.workload))}>{refText(w.workload)}</a>
              <br />
              <span class="muted small">{w.waitsFor}</span>
            </li>
          ))}
        </ul>
      )}
      {waits && waits.total > waits.workloads.length && <a href={href(["workloads"], { nearest: c.name })}>All {waits.total}</a>}
      <details>
        <summary>Labels, taints and conditions</summary>
        <dl class="facts">
          {Object.entries(c.labels ?? {}).map(([k, v]) => (
            <>
              <dt key={`k ${k}`}>{k}</dt>
              <dd>{v}</dd>
            </>
          ))}
          {c.taints?.map((t) => (
            <>
              <dt>taint {t.key}</dt>
              <dd>
                {t.value} {t.effect}
              </dd>
            </>
          ))}
          {c.conditions?.map((x) => (
            <>
              <dt>{x.type}</dt>
              <dd>
                {x.status} {x.reason && `(${x.reason})`} {x.lastTransitionTime && `for ${age(x.lastTransitionTime)}`} {x.message}
              </dd>
            </>
          ))}
        </dl>
      </details>
    </section>
  );
}
