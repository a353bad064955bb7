// Why a workload runs where it does, or why it waits: the answer in a sentence, the way to its pods, and every cluster's verdict.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { HistoryData, Link, Obstacle, Queued, Verdict, WhyData } from "../api";
import { markExpression } from "../cel";
import { useAnswer } from "../fetching";
import { age, clock, list, plural } from "../format";
import { firstView, measure } from "../marks";
import { About, Choose, Empty, Failed, Loading, Survival, Suspensions, clusterHref } from "../parts";
import { href, refine, useAddress } from "../router";

export function Why({ workspace }: { workspace: string }) {
  const { path, query } = useAddress();
  const [, kind, namespace, name] = path;
  const complete = kind && namespace && name;
  const at = `workloads/${[kind, namespace, name].map((p) => encodeURIComponent(p ?? "")).join("/")}`;
  const { data, failure } = useAnswer<WhyData>(complete ? `${at}/why?workspace=${encodeURIComponent(workspace)}` : null);
  useEffect(() => {
    if (data) firstView("why");
  }, [data !== undefined]);
  if (!complete) {
    return (
      <Empty page title="Which workload?">
        Choose one in <a href={href(["workloads"])}>the workloads</a>, or press / and type its name.
      </Empty>
    );
  }
  if (!data) {
    if (failure?.status === 404) {
      return (
        <Empty page title={`There is no ${kind} ${namespace}/${name}`}>
          It may have been deleted. <a href={href(["workloads"])}>Show the workloads.</a>
        </Empty>
      );
    }
    return failure ? <Failed failure={failure} /> : <Loading what="the verdicts" />;
  }
  return (
    <>
      <div class="head">
        <div>
          <p class="small">
            <a href={href(["workloads"])}>Workloads</a> / {data.workload.kind} in {data.workload.namespace}
          </p>
          <h1>{data.workload.name}</h1>
        </div>
        {data.placement && (
          <a class="button" href={href(["playground"], { placement: data.placement })}>
            Try another policy
          </a>
        )}
      </div>
      <About of={data} failure={failure} />
      <section class="card stack tight" aria-label="The answer">
        <p class="answer">{sentence(data)}</p>
        {data.error && data.verdicts.length === 0 && (
          <div class="notice bad">
            <span aria-hidden="true">✕</span>
            <div>{data.error}</div>
          </div>
        )}
        {data.suspended && <Suspensions of={[{ placements: [`${data.workload.namespace}/${data.placement}`], by: data.suspended }]} />}
        <NextStep data={data} />
        {data.noBetterPlace && (
          <div class="notice warn">
            <span aria-hidden="true">!</span>
            <div>It should leave where it stands, and stays for want of a better place: {data.noBetterPlace}</div>
          </div>
        )}
        {data.gain && data.gain.to.length > 0 && (
          <p class="small">
            It would be better off on {list(data.gain.to.map((c) => c.name))} ({data.gain.gain}){data.gain.keeps.length > 0 && `, and stays: ${data.gain.keeps.join("; ")}`}.
          </p>
        )}
        {data.headroom && (
          <p class="small">
            If clusters were lost: <Survival of={data.headroom} />
          </p>
        )}
        {data.notes && data.notes.length > 0 && (
          <ul class="small muted">
            {data.notes.map((n) => (
              <li key={n}>{n}</li>
            ))}
          </ul>
        )}
        {data.chain.length > 0 && <Chain of={data.chain} simulated={data.simulated === true && data.clusters.length > 0} />}
      </section>
      {data.verdicts.length > 0 && (
        <>
          <div class="halves">
            <Funnel data={data} />
            <Scores verdicts={data.verdicts} />
          </div>
          <Verdicts data={data} only={query.get("only") ?? ""} shown={query.get("cluster") ?? ""} />
        </>
      )}
      <History at={at} workspace={workspace} />
    </>
  );
}

/** The answer, as one would say it. */
function sentence(d: WhyData): ComponentChildren {
  const feasible = d.verdicts.filter((v) => v.feasible);
  const chosen = d.clusters;
  const name = <strong>{d.workload.name}</strong>;
  const now = d.delivered.filter((c) => !c.leaving).map((c) => c.name);
  const leaves = now.filter((c) => !chosen.some((x) => x.name === c));
  if (chosen.length === 0) {
    if (d.verdicts.length === 0) return <>{name} runs nowhere.</>;
    if (feasible.length === 0) {
      return (
        <>
          {name} runs nowhere: none of the {plural(d.verdicts.length, "cluster")} may take it.
        </>
      );
    }
    return (
      <>
        {name} has no place yet, although {feasible.length} of {plural(d.verdicts.length, "cluster")} could take it.
      </>
    );
  }
  const where = chosen.map((c, i) => (
    <>
      {i > 0 && (i === chosen.length - 1 ? " and " : ", ")}
      <a href={clusterHref(c.name)}>
        <strong>{c.name}</strong>
      </a>
      {d.divided && ` (${plural(c.replicas, "replica")})`}
    </>
  ));
  const top = chosen[0];
  const others = feasible.filter((v) => !chosen.some((c) => c.name === v.cluster));
  // The score of a decision is that of the time when it was made; what can be compared are those of now.
  const worst = feasible.filter((v) => chosen.some((c) => c.name === v.cluster)).at(-1);
  return (
    <>
      {name}{" "}
      {leaves.length > 0 ? (
        <>
          runs on <strong>{list(now)}</strong>, and is to move to {where}.
        </>
      ) : (
        <>
          {d.simulated ? "would run" : "runs"} on {where}.
        </>
      )}{" "}
      {d.verdicts.length === 0 ? (
        ""
      ) : feasible.length === 1 && chosen.length === 1 ? (
        <>
          It is the only one of {plural(d.verdicts.length, "cluster")} that may take it; its score is {top.score} ({top.reason}).
        </>
      ) : others.length === 0 ? (
        <>
          {feasible.length === d.verdicts.length ? `All ${plural(feasible.length, "cluster")} may` : `These are the only ones of ${plural(d.verdicts.length, "cluster")} that may`} take it.
        </>
      ) : (
        <>
          {feasible.length} of {plural(d.verdicts.length, "cluster")} may take it
          {others[0].score > (worst?.score ?? 0) ? (
            <>
              . <a href={clusterHref(others[0].cluster)}>{others[0].cluster}</a> would score more, {others[0].score} ({others[0].reason}), than {worst ? `${worst.cluster}, ${worst.score} (${worst.reason})` : top.name}
              {d.simulated ? "." : ", but what runs stays where it may stay."}
            </>
          ) : (
            <>
              , and {chosen.length === 1 ? "this one has" : "these have"} the best place in their order: {worst?.score} ({worst?.reason}); next is {others[0].cluster} with {others[0].score}.
            </>
          )}
        </>
      )}
    </>
  );
}

/** What would let a workload in that waits. */
function NextStep({ data: d }: { data: WhyData }) {
  const q = d.queue;
  if (!q) return null;
  const [nearest, ...others] = d.remedies ?? [];
  return (
    <div class="notice warn" role="note" aria-label="What would let it in">
      <span aria-hidden="true">◷</span>
      <div>
        <strong>
          {q.position ? `#${q.position} in the queue` : "It waits"}
          {q.since && `, for ${age(q.since)}`}
          {q.estimate && `, until about ${clock(q.estimate.at)}`}
        </strong>
        <p>
          {nearest ? (
            <>
              What would let it in: <a href={clusterHref(nearest.cluster)}>{nearest.cluster}</a> is nearest, and needs <strong>{list(distinct(nearest.needs))}</strong>.
            </>
          ) : (
            <>What keeps it: {q.waitsFor}.</>
          )}
        </p>
        {others.slice(0, 3).map((r) => (
          <p key={r.cluster} class="small">
            Or <a href={clusterHref(r.cluster)}>{r.cluster}</a>: {list(distinct(r.needs))}.
          </p>
        ))}
        {q.estimate?.because && <p class="small">{q.estimate.because}</p>}
        {q.wouldFit && <p class="small">Or register a cluster {fitting(q.wouldFit)}.</p>}
      </div>
    </div>
  );
}

/** Several obstacles may need the same. */
const distinct = (needs: string[]): string[] => [...new Set(needs.filter(Boolean))];

function fitting(c: NonNullable<Queued["wouldFit"]>): string {
  const parts = [
    c.name && `named ${c.name}`,
    c.location && `in ${c.location}`,
    ...Object.entries(c.labels ?? {}).map(([k, v]) => `with the label ${k}=${v}`),
    ...(c.capabilities ?? []).map((cap) => `with the capability ${cap.type}`),
    Object.keys(c.allocatable ?? {}).length > 0 && `with at least ${list(Object.entries(c.allocatable!).map(([r, v]) => `${v} ${r}`))}`,
  ];
  return parts.filter(Boolean).join(", ");
}

/** The way of the workload to its pods. Where it breaks is marked; what comes after follows from that. */
function Chain({ of, simulated }: { of: Link[]; simulated: boolean }) {
  // In a simulation nothing has been decided yet: that is no fault.
  const end = of.findIndex((l) => l.wrong);
  const broken = simulated && of[end]?.name === "decision" ? -1 : end;
  return (
    <div>
      <h2 id="chain" class="minor">From the placement to the pods</h2>
      <ol class="chain" aria-labelledby="chain">
        {of.map((l, i) => {
          const state = i === broken ? "broken" : end >= 0 && i >= end ? "pending" : "ok";
          return (
            <li key={`${l.name} ${i}`} class={state === "pending" ? "after" : ""}>
              <div class={`link ${state}`}>
                <span class="what">
                  <span class={`mark ${{ ok: "good", broken: "bad", pending: "" }[state]}`} aria-hidden="true">
                    {{ ok: "✓", broken: "✕", pending: "◷" }[state]}
                  </span>
                  <span>
                    {l.name}
                    {state === "broken" && <strong class="mark bad">: broken here</strong>}
                  </span>
                </span>
                <span class="says">{l.state}</span>
              </div>
            </li>
          );
        })}
      </ol>
    </div>
  );
}

/** How many clusters each stage of the filter rejects, in the order of the stages. */
function Funnel({ data }: { data: WhyData }) {
  const total = data.verdicts.length;
  const feasible = data.verdicts.filter((v) => v.feasible).length;
  const chosen = data.verdicts.filter((v) => v.chosen).length;
  const width = (n: number) => ({ width: `${(100 * n) / total}%` });
  return (
    <section class="card">
      <header>
        <h2>How many clusters are left</h2>
        <span class="muted small">after each stage</span>
      </header>
      <ol class="funnel">
        <li>
          <span>All clusters</span>
          <span class="track" aria-hidden="true">
            <i class="kept" style={width(total)} />
          </span>
          <span class="right strong">{total}</span>
        </li>
        {data.stages.map((s) => (
          <li key={s.name}>
            <span class="one" title={s.name}>{s.name}</span>
            <span class="track" aria-hidden="true">
              <i class="kept" style={width(s.left)} />
              <i class="lost" style={width(s.rejected)} />
            </span>
            <span class="right">
              <strong>{s.left}</strong> <span class="muted">(−{s.rejected})</span>
            </span>
          </li>
        ))}
        <li class="end">
          <span>{chosen ? "Chosen" : "May take it"}</span>
          <span class="track" aria-hidden="true">
            <i class="kept" style={width(chosen || feasible)} />
          </span>
          <span class="right strong">
            {chosen || feasible}
            {chosen > 0 && chosen < feasible && <span class="muted"> of {feasible}</span>}
          </span>
        </li>
      </ol>
    </section>
  );
}

/** What each factor adds to the total of the best clusters: the bars are as long as the totals. */
function Scores({ verdicts }: { verdicts: Verdict[] }) {
  const feasible = verdicts.filter((v) => v.feasible);
  const names = feasible[0]?.factors.map((f) => f.name) ?? [];
  if (feasible.length === 0) {
    return (
      <section class="card">
        <header>
          <h2>What each factor adds</h2>
        </header>
        <Empty title="No cluster has a score">Only clusters that may take the workload are scored. The table says what each one lacks.</Empty>
      </section>
    );
  }
  // Where it is, whatever that scores, and the best of the others.
  const shown = [...feasible.slice(0, 8), ...feasible.slice(8).filter((v) => v.chosen).slice(0, 4)];
  return (
    <section class="card">
      <header>
        <h2>What each factor adds</h2>
        <span class="muted small">{shown.length < feasible.length ? `the best of ${feasible.length}` : "score × weight, of 100"}</span>
      </header>
      <ul class="funnel">
        {shown.map((v) => (
          <li key={v.cluster}>
            <span class={`one ${v.chosen ? "strong" : ""}`} title={v.cluster}>{v.cluster}</span>
            <FactorBar v={v} />
            <span class="right">
              <strong>{v.score}</strong> <span class="muted">{v.reason}</span>
            </span>
          </li>
        ))}
      </ul>
      <br />
      <p class="key">
        {names.map((n, i) => (
          <span key={n}>
            <i class={`b${i % 6}`} /> {n}
            {weightOf(feasible[0], n) === 0 && " (weighs 0)"}
          </span>
        ))}
      </p>
    </section>
  );
}

const weightOf = (v: Verdict, name: string): number => v.factors.find((f) => f.name === name)?.weight ?? 0;

function FactorBar({ v }: { v: Verdict }) {
  const weights = v.factors.reduce((a, f) => a + f.weight, 0) || 1;
  const label = v.factors.map((f) => `${f.name} adds ${Math.round((10 * f.score * f.weight) / weights) / 10}`).join(", ");
  return (
    <span class="factors" role="img" aria-label={label}>
      {v.factors.map((f, i) => (
        <i key={f.name} class={`f${i % 6}`} style={{ width: `${(f.score * f.weight) / weights}%` }} title={`${f.name}: ${f.score} × ${f.weight}`} />
      ))}
    </span>
  );
}

const most = 200;

function Verdicts({ data, only, shown }: { data: WhyData; only: string; shown: string }) {
  const [search, set] = useState("");
  const text = search.toLowerCase();
  const rows = data.verdicts.filter(
    (v) => (only === "" || (only === "chosen" ? v.chosen : only === "feasible" ? v.feasible : !v.feasible)) && (!text || v.cluster.toLowerCase().includes(text) || v.obstacles.some((o) => o.message.toLowerCase().includes(text))),
  );
  const n = (f: (v: Verdict) => boolean) => data.verdicts.filter(f).length;
  return (
    <section class="card stack tight" aria-label="Every cluster's verdict">
      <header>
        <h2>Every cluster’s verdict</h2>
        <span class="muted small">{data.summary}</span>
      </header>
      <div class="tools">
        <Choose
          legend="Show"
          name="only"
          value={only}
          options={[
            { value: "", label: `All ${data.verdicts.length}` },
            { value: "chosen", label: `Chosen ${n((v) => v.chosen)}` },
            { value: "feasible", label: `May take it ${n((v) => v.feasible)}` },
            { value: "rejected", label: `May not ${n((v) => !v.feasible)}` },
          ]}
          onChange={(value) => refine({ only: value })}
        />
        {data.verdicts.length > 12 && (
          <label class="field grow">
            Search
            <input type="search" value={search} placeholder="cluster or reason" onInput={(e) => set(e.currentTarget.value)} />
          </label>
        )}
      </div>
      {rows.length === 0 ? (
        <Empty title="No cluster is like that" />
      ) : (
        <div class="scroll">
          <table class="verdicts">
            <thead>
              <tr>
                <th scope="col">Cluster</th>
                <th scope="col">Verdict</th>
                <th scope="col">Because</th>
                <th scope="col">What would let it in</th>
              </tr>
            </thead>
            <tbody>
              {rows.slice(0, most).map((v) => (
                <Row key={v.cluster} v={v} data={data} open={v.cluster === shown} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {rows.length > most && <p class="muted small">{rows.length - most} more: search for one by its name.</p>}
    </section>
  );
}

function Row({ v, data, open }: { v: Verdict; data: WhyData; open: boolean }) {
  const needs = distinct(v.obstacles.map((o) => o.needs));
  const remember = (e: Event) => {
    const opened = (e.currentTarget as HTMLDetailsElement).open;
    if (opened) measure("why:open");
    if (opened !== open) refine({ cluster: opened ? v.cluster : null });
  };
  return (
    <tr class={v.chosen ? "chosen" : ""}>
      <th scope="row">
        <a href={clusterHref(v.cluster)}>{v.cluster}</a>
      </th>
      <td class="nowrap">
        {v.chosen ? (
          <span class="tag accent">✓ chosen</span>
        ) : v.feasible ? (
          <span class="tag">may take it</span>
        ) : (
          <span class="tag bad">✕ may not</span>
        )}
        {v.chosen && data.divided && v.replicas ? <div class="small muted">{plural(v.replicas, "replica")}</div> : null}
      </td>
      <td>
        {v.feasible ? (
          <details open={open} onToggle={remember}>
            <summary>
              {v.score} {v.reason}
              {v.points ? `, ${v.points > 0 ? "+" : ""}${v.points} for affinity` : ""}
            </summary>
            <Factors v={v} />
          </details>
        ) : (
          <div class="stack tight">
            {v.obstacles.slice(0, open ? undefined : 1).map((o, i) => (
              <Obstructed key={i} o={o} data={data} />
            ))}
            {v.obstacles.length > 1 && (
              <details open={open} onToggle={remember}>
                <summary>
                  {open ? "Show the first only" : `${v.obstacles.length - 1} more in its way`}
                </summary>
              </details>
            )}
          </div>
        )}
        {v.note && <p class="small muted">{v.note}</p>}
      </td>
      <td>{needs.length > 0 ? needs.map((n) => <div key={n} class="needs">{n}</div>) : <span class="muted">–</span>}</td>
    </tr>
  );
}

function Factors({ v }: { v: Verdict }) {
  const weights = v.factors.reduce((a, f) => a + f.weight, 0) || 1;
  return (
    <div class="stack tight">
      <FactorBar v={v} />
      <table>
        <thead>
          <tr>
            <th scope="col">Factor</th>
            <th scope="col" class="right">Score</th>
            <th scope="col" class="right">Weight</th>
            <th scope="col" class="right">Adds</th>
            <th scope="col">Because</th>
          </tr>
        </thead>
        <tbody>
          {v.factors.map((f) => (
            <tr key={f.name}>
              <th scope="row">{f.name}</th>
              <td class="right">{f.score}</td>
              <td class="right">{f.weight}</td>
              <td class="right">{((f.score * f.weight) / weights).toFixed(1)}</td>
              <td>{f.because}</td>
            </tr>
          ))}
          <tr>
            <th scope="row">Total</th>
            <td />
            <td class="right">{weights}</td>
            <td class="right strong">{v.score}</td>
            <td class="muted">rounded down</td>
          </tr>
        </tbody>
      </table>
    </div>
  );
}

/** An obstacle; of a constraint, its text with the part that fails marked, and what was observed beside each name. */
function Obstructed({ o, data }: { o: Obstacle; data: WhyData }) {
  // Fallback groups may have constraints of the same name: which of them fails is not said, so the part is shown alone.
  const named = data.constraints?.filter((c) => c.name === o.constraint) ?? [];
  const full = named.length === 1 ? named[0] : undefined;
  return (
    <div>
      <span class="strong">{o.constraint ? `Constraint ${o.constraint}` : o.stage}</span>
      {!o.expression && <span>: {o.message}</span>}
      {full?.message && <p class="small muted">{full.message}</p>}
      {o.expression && (
        <>
          <p class="cel">
            {markExpression(full?.expression ?? o.expression, full && o.span, o.observed).map((part, i) => {
              const text = part.failing ? <mark key={i}>{part.text}</mark> : <span key={i}>{part.text}</span>;
              return part.value === undefined ? text : (
                <>
                  {text}
                  <span class="seen">
                    <span class="visually-hidden">observed </span>
                    {part.value}
                  </span>
                </>
              );
            })}
          </p>
          {/^cannot be evaluated/.test(o.message) && <p class="small">{o.message}</p>}
        </>
      )}
    </div>
  );
}

function History({ at, workspace }: { at: string; workspace: string }) {
  const { data } = useAnswer<HistoryData>(`${at}/history?workspace=${encodeURIComponent(workspace)}`);
  if (!data?.changes.length) return null;
  return (
    <section class="card">
      <header>
        <h2>How it came to run there</h2>
        <span class="muted small">the latest first</span>
      </header>
      <ol class="feed">
        {data.changes.map((c, i) => (
          <li key={`${c.at} ${i}`}>
            <time dateTime={c.at}>{clock(c.at)}</time>
            <span>
              <strong>{c.reason}</strong>
              {c.from?.length ? ` from ${list(c.from)}` : ""}
              {c.to?.length ? ` to ${list(c.to)}` : ""}
              {c.message && <span class="muted">: {c.message}</span>}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}
