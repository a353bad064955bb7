// All workloads of a workspace, and the queue: who waits, in which order, and for what.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Workload, Workloads as Data } from "../api";
import { useAnswer } from "../fetching";
import { age, count, plural, refPath, refText } from "../format";
import { firstView, measure } from "../marks";
import { Choose, Clusters, Empty, Failed, Loading, State, clusterHref } from "../parts";
import { href, refine, useAddress } from "../router";

const states = ["Running", "Partial", "Waiting", "Failed", "Unselected"];

export function Workloads({ workspace }: { workspace: string }) {
  const { query } = useAddress();
  const { data, failure } = useAnswer<Data>(`workloads?workspace=${encodeURIComponent(workspace)}`);
  useEffect(() => {
    if (data) firstView("workloads");
  }, [data !== undefined]);
  const state = query.get("state") ?? "";
  const [typed, type] = useState(query.get("q") ?? "");
  useEffect(() => type(query.get("q") ?? ""), [query.get("q")]);
  const filters = { text: typed.trim().toLowerCase(), namespace: query.get("namespace") ?? "", placement: query.get("placement") ?? "" };

  const all = data?.workloads;
  const known = useMemo(() => {
    const namespaces = new Set<string>();
    const placements = new Set<string>();
    for (const w of all ?? []) {
      namespaces.add(w.workload.namespace);
      if (w.placement) placements.add(w.placement);
    }
    return { namespaces: [...namespaces].sort(), placements: [...placements].sort() };
  }, [all]);
  const { shown, counts } = useMemo(() => {
    const counts: Record<string, number> = {};
    const shown: Workload[] = [];
    for (const w of all ?? []) {
      if (!matches(w, filters)) continue;
      counts[w.state] = (counts[w.state] ?? 0) + 1;
      if (state === "" || w.state === state) shown.push(w);
    }
    if (state === "Waiting") shown.sort((a, b) => (a.position ?? Infinity) - (b.position ?? Infinity));
    return { shown, counts };
  }, [all, state, filters.text, filters.namespace, filters.placement]);

  if (!data) return failure ? <Failed failure={failure} /> : <Loading what="the workloads" />;
  const total = Object.values(counts).reduce((a, b) => a + b, 0);
  return (
    <>
      <div class="head">
        <div>
          <h1>Workloads and queue</h1>
          <p>
            {plural(data.workloads.length, "workload")}. Those that wait are tried by priority, then age, then name. Follow a name to see why it runs where it does, or what it
            waits for.
          </p>
        </div>
      </div>
      <div class="tools">
        <Choose
          legend="State"
          name="state"
          value={state}
          options={[
            { value: "", label: <>All <span class="muted">{count(total)}</span></> },
            ...states
              .filter((s) => counts[s] || s === state || s === "Waiting" || s === "Running")
              .map((s) => ({ value: s, label: <>{s} <span class="muted">{count(counts[s] ?? 0)}</span></> })),
          ]}
          onChange={(value) => {
            measure("workloads:state");
            refine({ state: value });
          }}
        />
        <label class="field grow">
          Search
          <input
            type="search"
            placeholder="name, namespace, cluster or reason"
            value={typed}
            onInput={(e) => {
              measure("workloads:search");
              type(e.currentTarget.value);
              refine({ q: e.currentTarget.value });
            }}
          />
        </label>
        <label class="field">
          Namespace
          <select value={filters.namespace} onChange={(e) => refine({ namespace: e.currentTarget.value })}>
            <option value="">All</option>
            {known.namespaces.map((n) => (
              <option key={n}>{n}</option>
            ))}
          </select>
        </label>
        <label class="field">
          Placement
          <select value={filters.placement} onChange={(e) => refine({ placement: e.currentTarget.value })}>
            <option value="">All</option>
            {known.placements.map((n) => (
              <option key={n}>{n}</option>
            ))}
          </select>
        </label>
      </div>
      {shown.length === 0 ? (
        <section class="card">
          {data.workloads.length === 0 ? (
            <Empty title="There are no workloads yet">Create a Deployment, StatefulSet or Job in this workspace, and a WorkloadPlacement that selects it.</Empty>
          ) : state === "Waiting" && total > 0 && !counts.Waiting ? (
            <Empty title="Nothing waits">Everything that a placement selects has a place.</Empty>
          ) : (
            <Empty title="No workload is like that">
              <a href={href(["workloads"])}>Show all {plural(data.workloads.length, "workload")}</a>
            </Empty>
          )}
        </section>
      ) : (
        <Rows of={shown} />
      )}
    </>
  );
}

function matches(w: Workload, f: { text: string; namespace: string; placement: string }): boolean {
  if (f.namespace && w.workload.namespace !== f.namespace) return false;
  if (f.placement && w.placement !== f.placement) return false;
  if (!f.text) return true;
  const ref = w.workload;
  return (
    `${ref.kind} ${ref.namespace}/${ref.name}`.toLowerCase().includes(f.text) ||
    w.placement.toLowerCase().includes(f.text) ||
    w.clusters.some((c) => c.name.toLowerCase().includes(f.text)) ||
    (w.waitsFor ?? w.error ?? "").toLowerCase().includes(f.text)
  );
}

/** Only the rows that are seen are in the page, however many there are. */
function Rows({ of }: { of: Workload[] }) {
  const box = useRef<HTMLDivElement>(null);
  const [view, set] = useState({ top: 0, height: 800, row: 56 });
  const wanted = useRef<number | null>(null);
  const update = () => {
    const el = box.current;
    if (el) set({ top: el.scrollTop, height: el.clientHeight, row: matchMedia("(max-width: 860px)").matches ? 104 : 56 });
  };
  useLayoutEffect(update, []);
  useEffect(() => {
    addEventListener("resize", update);
    return () => removeEventListener("resize", update);
  }, []);
  useLayoutEffect(() => {
    box.current!.scrollTop = 0;
    update();
  }, [of]);
  const first = Math.max(0, Math.floor(view.top / view.row) - 8);
  const last = Math.min(of.length, Math.ceil((view.top + view.height) / view.row) + 8);

  useLayoutEffect(() => {
    if (wanted.current === null) return;
    box.current!.querySelector<HTMLElement>(`[aria-rowindex="${wanted.current + 2}"] a`)?.focus();
    wanted.current = null;
  });
  const move = (e: KeyboardEvent) => {
    const row = (document.activeElement as Element | null)?.closest("[aria-rowindex]");
    if (!row) return;
    const now = Number(row.getAttribute("aria-rowindex")) - 2;
    const page = Math.max(1, Math.floor(view.height / view.row) - 1);
    const to = { ArrowDown: now + 1, ArrowUp: now - 1, PageDown: now + page, PageUp: now - page, Home: 0, End: of.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    const target = Math.max(0, Math.min(of.length - 1, to));
    const el = box.current!;
    if (target * view.row < el.scrollTop) el.scrollTop = target * view.row;
    else if ((target + 1) * view.row > el.scrollTop + el.clientHeight) el.scrollTop = (target + 1) * view.row - el.clientHeight;
    wanted.current = target;
    update();
  };
  return (
    <div class="grid" role="table" aria-label="Workloads" aria-rowcount={of.length + 1}>
      <div role="rowgroup">
        <div class="row titles" role="row" aria-rowindex={1}>
          <span role="columnheader">Workload</span>
          <span role="columnheader" class="c-place">Placement</span>
          <span role="columnheader">State</span>
          <span role="columnheader" class="c-on">Runs on</span>
          <span role="columnheader" class="c-waits">Waits for</span>
          <span role="columnheader" class="c-age">Age</span>
        </div>
      </div>
      <div
        ref={box}
        class="window"
        role="rowgroup"
        tabIndex={-1}
        onScroll={update}
        onKeyDown={move}
      >
        <div class="body" role="presentation" style={{ height: `${of.length * view.row}px` }}>
          {of.slice(first, last).map((w, i) => (
            <Row key={refText(w.workload)} w={w} index={first + i} top={(first + i) * view.row} />
          ))}
        </div>
      </div>
    </div>
  );
}

function Row({ w, index, top }: { w: Workload; index: number; top: number }) {
  const ref = w.workload;
  return (
    <div class="row" role="row" aria-rowindex={index + 2} style={{ top: `${top}px` }}>
      <span role="cell">
        <a class="strong one" href={href(refPath(ref))} title={refText(ref)}>
          {ref.name}
        </a>
        <br />
        <span class="muted small one">
          {ref.kind} in {ref.namespace}
        </span>
      </span>
      <span role="cell" class="c-place one">
        {w.placement || <span class="muted">none</span>}
      </span>
      <span role="cell">
        <State state={w.state} />
      </span>
      <span role="cell" class="c-on">
        {w.clusters.length ? <Clusters of={w.clusters} replicas /> : <span class="muted">nowhere</span>}
      </span>
      <span role="cell" class="c-waits">
        <Blocker w={w} />
      </span>
      <span role="cell" class="c-age muted">
        {age(w.since ?? w.createdAt)}
      </span>
    </div>
  );
}

/** What a workload waits for, with its place in the queue and a link to what is in the way. */
function Blocker({ w }: { w: Workload }) {
  if (w.error && w.state !== "Waiting") return <span class="two mark bad small">{w.error}</span>;
  if (w.position === undefined) return w.delivery?.length ? <Delivery of={w.delivery} /> : <span class="muted">–</span>;
  const text = w.waitsFor ?? "";
  const nearest = w.nearest && text.startsWith(`${w.nearest}: `) ? w.nearest : "";
  return (
    <span class="two small" title={text}>
      <span class="tag warn" title="Place in the queue">
        #{w.position}
      </span>{" "}
      {nearest ? (
        <>
          <a href={clusterHref(nearest)}>{nearest}</a>
          {text.slice(nearest.length)}
        </>
      ) : (
        text
      )}
    </span>
  );
}

function Delivery({ of }: { of: NonNullable<Workload["delivery"]> }) {
  return (
    <span class="tags">
      {of.slice(0, 3).map((d) => (
        <span key={d.cluster} class={`tag ${d.ready >= d.replicas ? "good" : "warn"}`} title={d.message}>
          {d.cluster} {d.ready}/{d.replicas} ready
        </span>
      ))}
    </span>
  );
}
