// All workloads of a workspace, and the queue: who waits, in which order, and for what.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Workload, Workloads as Data } from "../api";
import { Failure, ask } from "../fetching";
import { age, count, plural, refPath, refText } from "../format";
import { useLive } from "../live";
import { firstView, measure } from "../marks";
import { About, Choose, Clusters, Empty, Failed, Loading, State, clusterHref } from "../parts";
import { href, refine, useAddress } from "../router";

const states = ["Running", "Partial", "Moving", "Waiting", "Failed", "Ended", "Unselected"];

export function Workloads({ workspace }: { workspace: string }) {
  const { query } = useAddress();
  const [typed, type] = useState(query.get("q") ?? "");
  const asked = query.get("q") ?? "";
  useEffect(() => type(asked), [asked]);
  const filter = Object.fromEntries(["q", "state", "namespace", "placement", "cluster", "nearest"].map((k) => [k, query.get(k) ?? ""]));
  const rows = useRows(workspace, filter);
  const searched = useRef(0);
  const { head, failure } = rows;
  useEffect(() => {
    if (head) firstView("workloads");
  }, [head !== undefined]);
  // The address follows a moment after the last key: keys that come at once are one search. A request that is under way for the
  // address before is cancelled.
  useEffect(() => {
    if (typed === asked) return;
    searched.current ||= performance.now();
    const timer = setTimeout(() => refine({ q: typed }), 50);
    return () => clearTimeout(timer);
  }, [typed]);
  useEffect(() => {
    if (!searched.current || rows.query.get("q") !== (typed || null)) return;
    measure("workloads:search", searched.current);
    searched.current = 0;
  }, [head]);

  if (!head) return failure ? <Failed failure={failure} /> : <Loading what="the workloads" />;
  const all = Object.values(head.states).reduce((a, b) => a + b, 0);
  const filtered = Object.values(filter).some(Boolean);
  const about = filter.cluster || filter.nearest;
  return (
    <>
      <div class="head">
        <div>
          <h1>Workloads and queue</h1>
          <p>Those that wait are tried by priority, then age, then name. Follow a name to see why a workload runs where it does, or what it waits for.</p>
        </div>
      </div>
      <div class="tools">
        <Choose
          legend="State"
          name="state"
          value={filter.state}
          options={[
            { value: "", label: <>All <span class="muted">{count(all)}</span></> },
            ...states
              .filter((s) => head.states[s] || s === filter.state || s === "Waiting" || s === "Running")
              .map((s) => ({ value: s, label: <>{s} <span class="muted">{count(head.states[s] ?? 0)}</span></> })),
          ]}
          onChange={(value) => {
            measure("workloads:state");
            refine({ state: value });
          }}
        />
        <label class="field grow">
          Search
          <input type="search" placeholder="name, namespace, cluster or reason" value={typed} onInput={(e) => type(e.currentTarget.value)} />
        </label>
        <label class="field">
          Namespace
          <select value={filter.namespace} onChange={(e) => refine({ namespace: e.currentTarget.value })}>
            <option value="">All</option>
            {head.namespaces.map((n) => (
              <option key={n}>{n}</option>
            ))}
          </select>
        </label>
        <label class="field">
          Placement
          <select value={filter.placement} onChange={(e) => refine({ placement: e.currentTarget.value })}>
            <option value="">All</option>
            {head.placements.map((n) => (
              <option key={n}>{n}</option>
            ))}
          </select>
        </label>
        {about && (
          <a class="button" href={href(["workloads"])}>
            {filter.cluster ? "Only on" : "Only those that wait for"} {about}: show all
          </a>
        )}
      </div>
      <About of={head} failure={failure} />
      <p class="visually-hidden" role="status">
        {plural(head.total, "workload")}
      </p>
      {head.total === 0 ? (
        <section class="card">
          {!filtered ? (
            <Empty title="There are no workloads yet">Create a Deployment, StatefulSet or Job in this workspace, and a WorkloadPlacement that selects it.</Empty>
          ) : filter.state === "Waiting" && all > 0 ? (
            <Empty title="Nothing waits">Everything that a placement selects has a place.</Empty>
          ) : (
            <Empty title="No workload is like that">
              <a href={href(["workloads"])}>Show all</a>
            </Empty>
          )}
        </section>
      ) : (
        <Rows rows={rows} total={head.total} />
      )}
    </>
  );
}

const page = 200;

interface LoadedRows {
  /** The query that the rows are of. */
  query: URLSearchParams;
  head?: Data;
  failure?: Failure;
  at(index: number): Workload | undefined;
  /** Has the rows from first to last loaded, if they are not. */
  need(first: number, last: number): void;
}

/** The rows of a query, loaded page by page as they come into view; what is shown stays until there is newer. */
function useRows(workspace: string, filter: Record<string, string>): LoadedRows {
  const { revision } = useLive();
  const query = new URLSearchParams({ workspace, ...Object.fromEntries(Object.entries(filter).filter(([, v]) => v)) }).toString();
  const [loaded, set] = useState<{ query: string; head?: Data; failure?: Failure; pages: Record<number, Workload[]> }>({ query, pages: {} });
  const run = useRef({ stop: new AbortController(), asked: new Set<number>() });
  const load = (n: number, first: boolean) => {
    const { stop, asked } = run.current;
    if (asked.has(n)) return;
    asked.add(n);
    ask<Data>(`workloads?${query}&limit=${page}${n ? `&continue=${n * page}` : ""}`, undefined, stop.signal).then(
      (data) => set((l) => ({ query, head: data, pages: first ? { [n]: data.workloads } : { ...l.pages, [n]: data.workloads } })),
      (error: unknown) => {
        if (!stop.signal.aborted) set((l) => ({ ...l, failure: error instanceof Failure ? error : new Failure(0, String(error)) }));
      },
    );
  };
  useEffect(() => {
    run.current = { stop: new AbortController(), asked: new Set() };
    load(0, loaded.query !== query);
    const { stop } = run.current;
    return () => stop.abort();
  }, [query, revision]);
  return {
    query: new URLSearchParams(loaded.query),
    head: loaded.head,
    failure: loaded.failure,
    at: (index) => loaded.pages[Math.floor(index / page)]?.[index % page],
    need(first, last) {
      if (loaded.query !== query) return;
      for (let n = Math.floor(first / page); n <= Math.floor(Math.max(first, last - 1) / page); n++) load(n, false);
    },
  };
}

/** Only the rows that are seen are in the page, however many there are. */
function Rows({ rows, total }: { rows: LoadedRows; total: number }) {
  const box = useRef<HTMLDivElement>(null);
  const [view, set] = useState({ top: 0, height: 800, row: 56 });
  const wanted = useRef<number | null>(null);
  const update = () => {
    const el = box.current;
    if (el) set({ top: el.scrollTop, height: el.clientHeight, row: matchMedia("(max-width: 860px)").matches ? 104 : 56 });
  };
  useLayoutEffect(() => {
    update();
    addEventListener("resize", update);
    return () => removeEventListener("resize", update);
  }, []);
  const top = Math.min(view.top, Math.max(0, total * view.row - view.height));
  const first = Math.max(0, Math.floor(top / view.row) - 8);
  const last = Math.min(total, Math.ceil((top + view.height) / view.row) + 8);
  useEffect(() => rows.need(first, last));
  useLayoutEffect(() => {
    if (wanted.current === null) return;
    const link = box.current!.querySelector<HTMLElement>(`[aria-rowindex="${wanted.current + 2}"] a`);
    if (!link) return;
    link.focus();
    wanted.current = null;
  });
  const move = (e: KeyboardEvent) => {
    const row = (document.activeElement as Element | null)?.closest("[aria-rowindex]");
    if (!row) return;
    const now = Number(row.getAttribute("aria-rowindex")) - 2;
    const seen = Math.max(1, Math.floor(view.height / view.row) - 1);
    const to = { ArrowDown: now + 1, ArrowUp: now - 1, PageDown: now + seen, PageUp: now - seen, Home: 0, End: total - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    const target = Math.max(0, Math.min(total - 1, to));
    const el = box.current!;
    if (target * view.row < el.scrollTop) el.scrollTop = target * view.row;
    else if ((target + 1) * view.row > el.scrollTop + el.clientHeight) el.scrollTop = (target + 1) * view.row - el.clientHeight;
    wanted.current = target;
    update();
  };
  const shown = [];
  for (let i = first; i < last; i++) shown.push(<Row key={i} w={rows.at(i)} index={i} top={i * view.row} />);
  return (
    <div class="grid" role="table" aria-label="Workloads" aria-rowcount={total + 1}>
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
      <div ref={box} class="window" role="presentation" onScroll={update} onKeyDown={move}>
        <div class="body" role="rowgroup" style={{ height: `${total * view.row}px` }}>
          {shown}
        </div>
      </div>
    </div>
  );
}

function Row({ w, index, top }: { w: Workload | undefined; index: number; top: number }) {
  if (!w) {
    return (
      <div class="row muted" role="row" aria-rowindex={index + 2} style={{ top: `${top}px` }}>
        <span role="cell">…</span>
      </div>
    );
  }
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
        {w.suspended && (
          <span class="tag warn" title={`Nothing is decided on it now, by ${w.suspended}`}>
            ‖ suspended
          </span>
        )}
      </span>
      <span role="cell" class="c-on">
        {w.clusters.length ? <Clusters of={w.clusters} replicas /> : <span class="muted">nowhere</span>}
      </span>
      <span role="cell" class="c-waits">
        <Blocker w={w} />
      </span>
      <span role="cell" class="c-age muted">
        {age(w.since ?? w.createdAt) || "–"}
      </span>
    </div>
  );
}

/** What a workload waits for, with its place in the queue and a link to what is in the way. */
function Blocker({ w }: { w: Workload }) {
  if (w.error && w.state !== "Waiting") return <span class="two mark bad small">{w.error}</span>;
  if (w.position === undefined) return w.delivery?.length ? <Delivery of={w.delivery} /> : <span class="muted nothing">–</span>;
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

// What agents report, in the words of kstatus, as one would say it.
const fares: Record<string, string> = { Current: "healthy", InProgress: "in progress", Pending: "not there yet", Failed: "failed", Terminating: "ending", Unknown: "unknown" };

function Delivery({ of }: { of: NonNullable<Workload["delivery"]> }) {
  return (
    <span class="tags">
      {of.slice(0, 3).map((d) => (
        <span key={d.cluster} class={`tag ${{ Current: "good", Failed: "bad" }[d.state] ?? "warn"}`} title={d.message}>
          {d.cluster}: {fares[d.state] ?? d.state}
        </span>
      ))}
    </span>
  );
}
