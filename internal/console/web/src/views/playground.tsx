// Try a policy: edit constraints and Rego, and see at once what would move. Nothing is written to a server.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Completions, Diff, Finding, MoveChange, Played, Policies, Preset } from "../api";
import { Editor } from "../editor/editor";
import { Failure, ask, useAnswer } from "../fetching";
import { list, percent, plural, refPath, refText, resourceName } from "../format";
import { firstView } from "../marks";
import { Choose, Empty, Failed, Loading, Suspensions } from "../parts";
import { href, useAddress } from "../router";
import { type Flow, Sankey, nowhere } from "../sankey";
import { type Example, pack, unpack } from "../share";
import { useLive } from "../live";
import { type Weights, findWeights, startModule, withWeight } from "../weights";

type Texts = Record<string, string>;

interface Work {
  placements: Texts;
  modules: Texts;
  /** Other objects, from a link or from files of the person; without them it is about the workspace. */
  objects?: string;
}

export function Playground({ workspace }: { workspace: string }) {
  const { fragment } = useAddress();
  const { data, failure } = useAnswer<Policies>(`policies?workspace=${encodeURIComponent(workspace)}`);
  const [linked, setLinked] = useState<Example | { error: string }>();
  const packed = /^example=(.+)$/.exec(fragment)?.[1];
  useEffect(() => {
    if (packed) unpack(packed).then(setLinked, () => setLinked({ error: "The link does not hold a whole example: it may have been cut off. Ask for it again." }));
  }, [packed]);
  const base = useRef<{ workspace: string; work: Work } | null>(null);
  if (data && base.current?.workspace !== workspace) {
    base.current = { workspace, work: { placements: Object.fromEntries(data.placements.map((p) => [`${p.namespace}/${p.name}`, p.yaml])), modules: data.modules } };
  }
  const policies = useRef(data);
  policies.current = data ?? policies.current;
  // What one is editing stays, whatever the server answers meanwhile.
  if (!policies.current || base.current?.workspace !== workspace || (packed && !linked)) return failure ? <Failed failure={failure} /> : <Loading what="the policies" />;
  const error = linked && "error" in linked ? linked.error : undefined;
  const start = linked && !("error" in linked) ? linked : undefined;
  return <Table key={`${workspace} ${packed ?? ""}`} workspace={workspace} base={base.current.work} start={start} error={error} policies={policies.current} />;
}

function Table({ workspace, base, start, error, policies }: { workspace: string; base: Work; start?: Example; error?: string; policies: Policies }) {
  const { query } = useAddress();
  const [work, setWork] = useState<Work>(start ?? base);
  const tabs = useMemo(() => [...Object.keys(work.placements).map((key) => ({ kind: "placement" as const, key })), ...Object.keys(work.modules).map((key) => ({ kind: "rego" as const, key }))], [work]);
  const wanted = query.get("placement");
  const [chosen, choose] = useState(() => tabs.find((t) => t.kind === "placement" && t.key.endsWith(`/${wanted}`)) ?? tabs.find((t) => t.kind === "rego") ?? tabs[0]);
  const tab = tabs.find((t) => t.kind === chosen?.kind && t.key === chosen.key) ?? tabs[0];
  const [at, goTo] = useState<{ line: number; column: number }>();
  const [fresh, setFresh] = useState(false);
  const [message, say] = useState(error ?? "");
  const played = usePlayed(workspace, work, fresh);
  const completions = useAnswer<Completions>(`completions?workspace=${encodeURIComponent(workspace)}`).data;
  const library = useAnswer<{ presets: Preset[] }>("library").data?.presets ?? [];
  const [picked, pick] = useState("");
  const preset = library.find((p) => p.name === picked);
  useEffect(() => firstView("playground"), []);

  const text = tab ? (tab.kind === "rego" ? work.modules[tab.key] : work.placements[tab.key]) : "";
  const edit = (kind: "rego" | "placement", key: string, value: string) =>
    setWork((w) => (kind === "rego" ? { ...w, modules: { ...w.modules, [key]: value } } : { ...w, placements: { ...w.placements, [key]: value } }));
  const of = (t: { kind: string; key: string }) => (f: Finding) => f.file === (t.kind === "rego" ? t.key : `placement ${t.key}`);
  const findings = played.data?.findings ?? none;
  const here = useMemo(() => (tab ? findings.filter(of(tab)) : none), [findings, tab?.kind, tab?.key]);
  const changed = (t: { kind: string; key: string }) => (t.kind === "rego" ? work.modules[t.key] !== base.modules[t.key] : work.placements[t.key] !== base.placements[t.key]);
  const anyChange = tabs.some(changed) || Object.keys(base.modules).some((k) => !(k in work.modules));

  const addModule = (name: string, module: string) => {
    let file = name;
    for (let n = 2; file in work.modules && work.modules[file] !== module; n++) file = name.replace(/(\.rego)?$/, `-${n}.rego`);
    edit("rego", file, module);
    choose({ kind: "rego", key: file });
  };
  // Two rules for the same weights would conflict: those of a policy of the library stand in for those that are written out already.
  const addPreset = (preset: Preset) => {
    const weights = /^(?:default )?(?:scoring\.)?weights\b/m;
    const written = /^(?:scoring\.)?weights\s*:=\s*\{[^}]*\}[ \t]*$/gm;
    const standsIn = Object.values(preset.entries).some((text) => weights.test(text)) && Object.values(work.modules).some((text) => text.search(written) >= 0);
    if (standsIn) {
      const commented = (text: string) => text.replace(written, (rule) => rule.replace(/^/gm, "# "));
      setWork((w) => ({ ...w, modules: Object.fromEntries(Object.entries(w.modules).map(([name, text]) => [name, commented(text)])) }));
    }
    for (const [name, entry] of Object.entries(preset.entries)) addModule(name, entry);
    addModule(preset.file, preset.module);
    say(`${preset.title}: ${preset.description}${standsIn ? " Its weights are in force; those that were written out are commented out." : ""}`);
  };
  const share = async () => {
    const link = new URL(href(["playground"]), location.origin);
    link.hash = `example=${await pack({ workspace, ...work })}`;
    history.replaceState(null, "", link);
    try {
      await navigator.clipboard.writeText(link.href);
      say("The link is in the address bar and on the clipboard. It holds the whole example.");
    } catch {
      say("The link is in the address bar. It holds the whole example.");
    }
  };
  const save = async (as: "configmap" | "scenario") => {
    try {
      const { filename, text } = await ask<{ filename: string; text: string }>("export", { workspace, ...body(work), fresh, as });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
      link.download = filename;
      link.click();
      URL.revokeObjectURL(link.href);
      say(`${filename} is saved.`);
    } catch (e) {
      say(e instanceof Failure ? e.message : String(e));
    }
  };
  const load = async (files: FileList) => {
    const next = await readFiles(files, work);
    setWork(next);
    say(`${plural(files.length, "file")} loaded${next.objects && !work.objects ? ". What is shown is about the clusters and workloads in them" : ""}.`);
  };
  const tabId = (t: { kind: string; key: string }) => `tab-${t.kind}-${t.key}`.replace(/[^\w-]/g, "_");
  const move = (e: KeyboardEvent) => {
    const now = tabs.findIndex((t) => t === tab);
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tabs.length - 1 }[e.key];
    if (to === undefined || !tabs[to]) return;
    e.preventDefault();
    choose(tabs[to]);
    document.getElementById(tabId(tabs[to]))?.focus();
  };
  return (
    <>
      <div class="head">
        <div>
          <h1>Playground</h1>
          <p>Change a constraint, a weight or a rule, and see what would move. It only simulates: nothing is written to a server.</p>
        </div>
        <div class="tools">
          {library.length > 0 && (
            <label class="field">
              Add from the library
              <select value={preset?.name ?? ""} onChange={(e) => pick(e.currentTarget.value)}>
                <option value="">Choose a policy …</option>
                {library.map((p) => (
                  <option key={p.name} value={p.name}>
                    {p.title}
                  </option>
                ))}
              </select>
            </label>
          )}
          {library.length > 0 && (
            <button type="button" class="button" disabled={!preset} onClick={() => preset && addPreset(preset)}>
              Add
            </button>
          )}
          <label class="button">
            Open files
            <input class="visually-hidden" type="file" multiple accept=".yaml,.yml,.rego" onChange={(e) => e.currentTarget.files?.length && void load(e.currentTarget.files)} />
          </label>
          <button type="button" class="button" onClick={() => void share()}>
            Share a link
          </button>
          <button type="button" class="button" onClick={() => void save("configmap")}>
            Save as ConfigMap
          </button>
          <button type="button" class="button" onClick={() => void save("scenario")}>
            Save as scenario
          </button>
          <button
            type="button"
            class="button quiet"
            disabled={!anyChange && !work.objects}
            onClick={() => {
              setWork(base);
              say("What is in force is back.");
            }}
          >
            Start again
          </button>
        </div>
      </div>
      <p class={message ? "notice" : "visually-hidden"} role="status">
        {message}
      </p>
      <div class="play">
        <div class="stack">
          <WeightsForm work={work} policies={policies} onEdit={(module, value) => edit("rego", module, value)} onStart={() => addModule("weights.rego", startModule(policies.defaults))} />
          {tab ? (
            <div>
              <div class="tabs" role="tablist" aria-label="What to edit" onKeyDown={move}>
                {tabs.map((t) => (
                  <button
                    key={`${t.kind} ${t.key}`}
                    id={tabId(t)}
                    type="button"
                    role="tab"
                    aria-selected={t === tab}
                    aria-controls="editor-panel"
                    tabIndex={t === tab ? 0 : -1}
                    title={t.kind === "rego" ? `Policy ${t.key}` : `Placement ${t.key}`}
                    onClick={() => choose(t)}
                  >
                    {t.kind === "rego" ? t.key.split("/").at(-1) : `Placement ${t.key.split("/").at(-1)}`}
                    {changed(t) && (
                      <>
                        <span class="dot" aria-hidden="true">
                          ●
                        </span>
                        <span class="visually-hidden"> changed</span>
                      </>
                    )}
                    {findings.some((f) => of(t)(f) && f.severity === "error") && (
                      <span class="mark bad">
                        {" "}!<span class="visually-hidden"> has errors</span>
                      </span>
                    )}
                  </button>
                ))}
              </div>
              <div class="editor" role="tabpanel" id="editor-panel" aria-labelledby={tabId(tab)}>
                <Editor
                  key={`${tab.kind} ${tab.key}`}
                  id={`${workspace} ${tab.kind} ${tab.key}`}
                  label={tab.kind === "rego" ? `Rego of ${tab.key}` : `Placement ${tab.key}, YAML with CEL`}
                  language={tab.kind}
                  value={text}
                  findings={here}
                  completions={completions}
                  at={at}
                  onChange={(value) => edit(tab.kind, tab.key, value)}
                />
              </div>
              <p class="small muted">Ctrl-Space completes. Tab leaves the editor; F8 goes to the next finding.</p>
            </div>
          ) : (
            <section class="card">
              <Empty title="There is nothing to edit yet">Add a policy from the library, open files, or change the weights.</Empty>
            </section>
          )}
          <FindingList
            findings={findings}
            goTo={(f) => {
              const t = tabs.find((t) => of(t)(f));
              if (t) choose(t);
              goTo({ line: f.line, column: f.column });
            }}
          />
        </div>
        <Outcome played={played} fresh={fresh} setFresh={setFresh} changed={anyChange} />
      </div>
    </>
  );
}

const none: Finding[] = [];

const body = (work: Work) => ({ placements: work.placements, modules: work.modules, objects: work.objects });

interface PlayedState {
  data?: Played;
  failure?: Failure;
  loading: boolean;
}

/** What the server makes of the work, asked again a moment after the last change; an older question is cancelled. */
function usePlayed(workspace: string, work: Work, fresh: boolean): PlayedState {
  const [state, set] = useState<PlayedState>({ loading: true });
  const { revision } = useLive();
  const first = useRef(true);
  useEffect(() => {
    const stop = new AbortController();
    set((s) => ({ ...s, loading: true }));
    const timer = setTimeout(
      () => {
        const start = performance.now();
        ask<Played>("playground", { workspace, ...body(work), fresh }, stop.signal).then(
          (data) => {
            set({ data, loading: false });
            requestAnimationFrame(() => setTimeout(() => performance.measure("playground:simulate", { start, end: performance.now() })));
          },
          (error: unknown) => {
            if (!stop.signal.aborted) set((s) => ({ data: s.data, failure: error instanceof Failure ? error : new Failure(0, String(error)), loading: false }));
          },
        );
      },
      first.current ? 0 : 180,
    );
    first.current = false;
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [workspace, work, fresh, revision]);
  return state;
}

function WeightsForm({ work, policies, onEdit, onStart }: { work: Work; policies: Policies; onEdit: (module: string, text: string) => void; onStart: () => void }) {
  const found = useMemo(() => findWeights(work.modules), [work.modules]);
  const [index, setIndex] = useState(0);
  const of = found[Math.min(index, found.length - 1)];
  if (!of) {
    return (
      <section class="card">
        <header>
          <h2>Weights</h2>
        </header>
        <p class="small">
          {Object.keys(work.modules).length === 0 ? "No policy is in force: the built-in weights hold" : "The policies write out no weights that can be changed here: edit the Rego below"}
          {Object.keys(work.modules).length === 0 && ` (${Object.entries(policies.defaults).map(([f, w]) => `${f} ${w}`).join(", ")})`}.
        </p>
        <br />
        <button type="button" class="button" onClick={onStart}>
          Change the weights
        </button>
      </section>
    );
  }
  const values = new Map(of.values);
  const set = (factor: string, weight: number) => onEdit(of.module, withWeight(work.modules[of.module], of, factor, weight));
  const name = (w: Weights) => `${w.module.split("/").at(-1)}, line ${w.line}${w.isDefault ? ": otherwise" : ""}${w.condition ? `: ${w.condition}` : ""}`;
  return (
    <section class="card">
      <header>
        <h2>Weights</h2>
        {found.length > 1 ? (
          <select aria-label="Which weights" value={index} onChange={(e) => setIndex(Number(e.currentTarget.value))}>
            {found.map((w, i) => (
              <option key={`${w.module} ${w.line}`} value={i}>
                {name(w)}
              </option>
            ))}
          </select>
        ) : (
          <span class="small muted">{name(of)}</span>
        )}
      </header>
      <div class="weights">
        {policies.factors.map((factor) => {
          const weight = values.get(factor) ?? 0;
          return (
            <div key={factor} class="weight">
              <label for={`weight-${factor}`}>{factor}</label>
              <input id={`weight-${factor}`} type="range" min="0" max="100" value={weight} onInput={(e) => set(factor, Number(e.currentTarget.value))} />
              <output for={`weight-${factor}`}>{weight}</output>
              <button type="button" class="button tiny" disabled={weight < 2} onClick={() => set(factor, Math.floor(weight / 2))}>
                <span aria-hidden="true">½</span>
                <span class="visually-hidden">Halve {factor}</span>
              </button>
              <button type="button" class="button tiny" title={weight * 2 > 100 ? "A weight is 100 at most" : undefined} disabled={weight === 0 || weight >= 100} onClick={() => set(factor, Math.min(100, weight * 2))}>
                <span aria-hidden="true">×2</span>
                <span class="visually-hidden">Double {factor}</span>
              </button>
            </div>
          );
        })}
      </div>
    </section>
  );
}

function FindingList({ findings, goTo }: { findings: Finding[]; goTo: (f: Finding) => void }) {
  if (findings.length === 0) return null;
  return (
    <section class="card">
      <header>
        <h2>Findings</h2>
        <span class="muted small">as kubectl placement check tells them</span>
      </header>
      <ul class="findings" aria-live="polite">
        {findings.slice(0, 50).map((f, i) => (
          <li key={i}>
            <span class={`tag ${f.severity === "error" ? "bad" : "warn"}`}>{f.severity}</span>
            <span>
              <button type="button" onClick={() => goTo(f)}>
                {f.file}:{f.line}:{f.column}
              </button>{" "}
              {[f.object, f.field, f.message].filter(Boolean).join(": ")}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Outcome({ played, fresh, setFresh, changed }: { played: PlayedState; fresh: boolean; setFresh: (fresh: boolean) => void; changed: boolean }) {
  const diff = played.data?.diff;
  return (
    <div class="stack" aria-busy={played.loading}>
      <section class="card stack tight" aria-label="What would move">
        <header>
          <h2>What would move</h2>
          {played.data && <span class="muted small">simulated in {played.data.elapsedMs} ms</span>}
        </header>
        <Choose
          legend="Assume that"
          name="fresh"
          value={fresh ? "fresh" : "kept"}
          options={[
            { value: "kept", label: "What runs stays where it may" },
            { value: "fresh", label: "All is placed anew" },
          ]}
          onChange={(value) => setFresh(value === "fresh")}
        />
        {played.failure && <Failed failure={played.failure} />}
        {!played.failure && !played.data && <Loading what="the simulation" />}
        {played.data && !diff && (
          <Empty title="Nothing can be simulated">
            {played.data.findings.some((f) => f.severity === "error") ? "Mend the errors in Findings. Until then what was in force before would stay in force." : "There are no workloads to place."}
          </Empty>
        )}
        {diff && (
          <div class={played.loading ? "stale stack tight" : "stack tight"}>
            <Suspensions of={diff.suspended} />
            <Moved diff={diff} fresh={fresh} changed={changed} tryFresh={() => setFresh(true)} />
          </div>
        )}
      </section>
      {diff && diff.clusters.length > 0 && <UseChanges diff={diff} />}
      {diff && <MoveTable diff={diff} />}
    </div>
  );
}

function Moved({ diff, fresh, changed, tryFresh }: { diff: Diff; fresh: boolean; changed: boolean; tryFresh: () => void }) {
  const s = diff.summary;
  const flows = useMemo(() => flowsOf([...diff.moves, ...diff.gains, ...diff.held]), [diff]);
  return (
    <>
      <dl class="big">
        <Count n={s.moved} label={s.moved === 1 ? "workload moves" : "workloads move"} />
        {s.gained > 0 && <Count n={s.gained} label="get clusters and lose none" />}
        {s.redivided > 0 && <Count n={s.redivided} label="are divided otherwise" />}
        {s.unplaced > 0 && <Count n={s.unplaced} label="lose their place" />}
        {s.held > 0 && <Count n={s.held} label="wait for their turn to move" />}
        {s.standing > 0 && <Count n={s.standing} label="should move, without a better place" />}
        {s.rescored > 0 && <Count n={s.rescored} label={s.rescored === 1 ? "stays with another score" : "stay with another score"} />}
      </dl>
      {flows.length > 0 ? (
        <Sankey flows={flows} what={fresh ? "Where workloads would be placed, before and after" : "From where to where workloads would move"} />
      ) : (
        <Empty title={changed ? "Nothing would move" : "Nothing is changed yet"}>
          {!changed ? (
            "Double a weight, or edit the policy. What would move is shown here as you type."
          ) : fresh ? (
            `All of the ${plural(s.workloads, "workload")} would be placed where they are.`
          ) : (
            <>
              What runs stays where it may stay, so new weights by themselves move nothing.{" "}
              <button type="button" class="button tiny" onClick={tryFresh}>
                Show where all would go if placed anew
              </button>
            </>
          )}
        </Empty>
      )}
    </>
  );
}

function Count({ n, label }: { n: number; label: string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{n}</dd>
    </div>
  );
}

/** Pairs the clusters that workloads leave with those that they get. */
function flowsOf(changes: MoveChange[]): Flow[] {
  const counts = new Map<string, Flow>();
  for (const c of changes) {
    const left = c.before.filter((b) => !c.after.some((a) => a.name === b.name)).map((x) => x.name);
    const got = c.after.filter((a) => !c.before.some((b) => b.name === a.name)).map((x) => x.name);
    for (let i = 0; i < Math.max(left.length, got.length); i++) {
      const [from, to] = [left[i] ?? nowhere, got[i] ?? nowhere];
      const key = JSON.stringify([from, to]);
      const flow = counts.get(key) ?? { from, to, count: 0 };
      flow.count++;
      counts.set(key, flow);
    }
  }
  return [...counts.values()];
}

function UseChanges({ diff }: { diff: Diff }) {
  const names = useMemo(() => [...new Set(diff.clusters.flatMap((c) => Object.keys({ ...c.before, ...c.after }).filter((r) => (c.before[r] ?? 0) !== (c.after[r] ?? 0))))].sort((a, b) => rank(a) - rank(b)), [diff]);
  const [asked, ask] = useState("");
  const resource = names.includes(asked) ? asked : names[0];
  if (!resource) return null;
  const rows = diff.clusters
    .map((c) => ({ name: c.name, before: c.before[resource] ?? 0, after: c.after[resource] ?? 0 }))
    .filter((c) => c.before !== c.after)
    .sort((a, b) => Math.abs(b.after - b.before) - Math.abs(a.after - a.before));
  return (
    <section class="card stack tight" aria-label="Change of use">
      <header>
        <h2>Use of each cluster</h2>
        <select aria-label="Resource" value={resource} onChange={(e) => ask(e.currentTarget.value)}>
          {names.map((r) => (
            <option key={r} value={r}>
              {resourceName(r)}
            </option>
          ))}
        </select>
      </header>
      <div class="usechange">
        {rows.slice(0, 16).map((c) => (
          <>
            <span class="one" title={c.name}>{c.name}</span>
            <span class="track" aria-hidden="true">
              <i class="was" style={{ width: `${Math.min(100, c.before)}%` }} />
              <i class="now" style={{ width: `${Math.min(100, c.after)}%` }} />
            </span>
            <span class="right nowrap">
              {percent(c.before)} → <strong>{percent(c.after)}</strong>
            </span>
          </>
        ))}
      </div>
      {rows.length > 16 && <p class="muted small">and {rows.length - 16} more clusters with smaller changes</p>}
      <p class="key">
        <span>
          <i class="reserved" /> before
        </span>
        <span>
          <i class="allocated" /> after
        </span>
      </p>
    </section>
  );
}

const rank = (r: string): number => (r === "cpu" ? 0 : r === "memory" ? 1 : r === "storage" ? 3 : 2);

function MoveTable({ diff }: { diff: Diff }) {
  const rows = [
    ...diff.moves.map((c) => ({ c, what: c.after.length === 0 ? "loses its place" : "moves" })),
    ...diff.gains.map((c) => ({ c, what: c.before.length === 0 ? "gets a place" : "gets a cluster" })),
    ...diff.held.map((c) => ({ c, what: "waits for its turn" })),
    ...diff.redivided.map((c) => ({ c, what: "is divided otherwise" })),
    ...diff.standing.map((c) => ({ c, what: "should move" })),
    ...diff.rescored.map((c) => ({ c, what: "stays" })),
  ];
  if (rows.length === 0) return null;
  const names = (cs: MoveChange["before"], divided?: boolean) => list(cs.map((x) => (divided ? `${x.name} ×${x.replicas}` : x.name))) || nowhere;
  const scores = (cs: MoveChange["before"]) => cs.map((x) => x.score).join(", ") || "–";
  return (
    <section class="card" aria-label="Each workload">
      <header>
        <h2>Each workload</h2>
        <span class="muted small">{rows.length > 100 ? `the first 100 of ${rows.length}` : plural(rows.length, "workload")}</span>
      </header>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Workload</th>
              <th scope="col">What</th>
              <th scope="col">From</th>
              <th scope="col">To</th>
              <th scope="col" class="right">Score</th>
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, 100).map(({ c, what }) => (
              <tr key={`${refText(c.workload)} ${what}`}>
                <th scope="row">
                  <a href={href(refPath(c.workload))}>{refText(c.workload)}</a>
                </th>
                <td>{what}</td>
                <td>{names(c.before, c.divided)}</td>
                <td>
                  {names(c.after, c.divided)}
                  {(c.error || c.noBetterPlace) && <p class="small muted">{c.error || c.noBetterPlace}</p>}
                </td>
                <td class="right nowrap">
                  {scores(c.before)} → {scores(c.after)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Puts the person's files into the work: Rego, placements, policies of ConfigMaps stay objects, as all else. */
async function readFiles(files: FileList, work: Work): Promise<Work> {
  const next: Work = { placements: { ...work.placements }, modules: { ...work.modules }, objects: work.objects };
  const objects: string[] = [];
  for (const file of files) {
    const text = await file.text();
    if (file.name.endsWith(".rego")) {
      next.modules[file.name] = text;
      continue;
    }
    for (const document of text.split(/^---[^\n]*$/m)) {
      const kind = /^kind:\s*(\S+)/m.exec(document)?.[1];
      const field = (name: string) => new RegExp(`^  ${name}:\\s*(\\S+)`, "m").exec(document)?.[1];
      if (kind === "WorkloadPlacement") next.placements[`${field("namespace") ?? "default"}/${field("name") ?? file.name}`] = document.trim() + "\n";
      else if (document.trim()) objects.push(document.trim());
    }
  }
  if (objects.length > 0) next.objects = [...(next.objects ? [next.objects] : []), ...objects].join("\n---\n") + "\n";
  return next;
}
