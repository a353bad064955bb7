// Small pieces that the views share.
import type { ComponentChildren } from "preact";
import type { Amounts, Choice, Headroom, Shown, Suspended } from "./api";
import type { Failure } from "./fetching";
import { amount, clock, percent, resourceName, used } from "./format";
import { href } from "./router";

export function Loading({ what }: { what: string }) {
  return (
    <p class="empty" role="status">
      Loading {what} …
    </p>
  );
}

export function Failed({ failure }: { failure: Failure }) {
  return (
    <div class="notice bad" role="alert">
      <span aria-hidden="true">✕</span>
      <div>
        {failure.message}
        {failure.status === 403 && " Ask the owner of the workspace for the rights to read it."}
      </div>
    </div>
  );
}

export function Problems({ of, title }: { of: string[] | undefined; title: string }) {
  if (!of?.length) return null;
  return (
    <div class="notice bad" role="alert">
      <span aria-hidden="true">!</span>
      <div>
        <strong>{title}</strong>
        <ul class="small mono">
          {of.slice(0, 20).map((text) => (
            <li key={text}>{text}</li>
          ))}
        </ul>
        {of.length > 20 && <p class="small">and {of.length - 20} more</p>}
      </div>
    </div>
  );
}

/** That what is shown is a simulation, or is not what is. */
export function About({ of, failure }: { of: Shown; failure?: Failure }) {
  return (
    <>
      {failure && <Failed failure={failure} />}
      {of.behind && (
        <div class="notice warn" role="alert">
          <span aria-hidden="true">!</span>
          <div>
            <strong>This may not be what is, since {clock(of.behind.since)}.</strong> {of.behind.message}
          </div>
        </div>
      )}
      <Problems of={of.problems} title="Some objects or policies are wrong" />
    </>
  );
}

/** That the controller decides nothing now on some placements, or on all. */
export function Suspensions({ of }: { of: Suspended[] | undefined }) {
  return (
    <>
      {of?.map((s, i) => (
        <div key={i} class="notice warn" role="note" aria-label="Suspended">
          <span aria-hidden="true">‖</span>
          <div>
            <strong>{s.placements ? `Nothing is decided for ${s.placements.join(", ")} now` : "Nothing is decided in this workspace now"}</strong>, by {s.by}: what runs stays, what is new waits.
          </div>
        </div>
      ))}
    </>
  );
}

/** Whether a placement survives the loss that it asks to survive, and what would help. */
export function Survival({ of }: { of: Headroom }) {
  return (
    <span>
      {of.survives ? <span class="tag good">✓ survives</span> : <span class="tag warn">! would wait</span>} {of.message}
    </span>
  );
}

/** That there is nothing to see, and what to do. A page that is nothing else has it as its heading. */
export function Empty({ title, page = false, children }: { title: string; page?: boolean; children?: ComponentChildren }) {
  return (
    <div class="empty">
      {page ? <h1>{title}</h1> : <strong>{title}</strong>}
      {children && <div>{children}</div>}
    </div>
  );
}

/** A few options, of which one is chosen. */
export function Choose<T extends string>(props: { legend: string; name: string; value: T; options: { value: T; label: ComponentChildren }[]; onChange: (value: T) => void }) {
  return (
    <fieldset class="choice">
      <legend>{props.legend}</legend>
      <div>
        {props.options.map((o) => (
          <label key={o.value}>
            <input type="radio" name={props.name} value={o.value} checked={o.value === props.value} onChange={() => props.onChange(o.value)} />
            {o.label}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

const share = (part: number, whole: number): string => `${Math.max(0, Math.min(100, whole > 0 ? (100 * part) / whole : 0))}%`;

/** How much of a resource is allocated, reserved and free, as a bar and in words. */
export function AmountBar({ resource, allocatable, allocated, reserved }: { resource: string; allocatable: number; allocated: number; reserved: number }) {
  const taken = allocated + reserved;
  const use = used(allocatable, taken);
  const over = taken > allocatable;
  const free = allocatable - taken;
  return (
    <div class="amount">
      <div class="top">
        <span class="strong">{resourceName(resource)}</span>
        <span class={over ? "mark bad" : undefined}>{use === undefined ? "none" : use === Infinity ? "overcommitted" : `${percent(use)} in use`}</span>
      </div>
      <div class="meter" aria-hidden="true">
        {over ? (
          <i class="over" style={{ width: "100%" }} />
        ) : (
          <>
            <i class="allocated" style={{ width: share(allocated, allocatable) }} />
            <i class="reserved" style={{ width: share(reserved, allocatable) }} />
          </>
        )}
      </div>
      <p class="small muted">
        {amount(resource, allocated)} allocated, {amount(resource, reserved)} reserved,{" "}
        {over ? <strong>{amount(resource, -free)} too much</strong> : `${amount(resource, free)} free`} of {amount(resource, allocatable)}
      </p>
    </div>
  );
}

export function AmountKey() {
  return (
    <p class="key">
      <span>
        <i class="allocated" /> allocated: reported by the cluster
      </span>
      <span>
        <i class="reserved" /> reserved: promised, not reported yet
      </span>
      <span>
        <i class="free" /> free
      </span>
    </p>
  );
}

export function sum(clusters: { [k in "allocatable" | "allocated" | "reserved"]: Amounts }[], of: "allocatable" | "allocated" | "reserved", resource: string): number {
  let total = 0;
  for (const c of clusters) total += c[of][resource] ?? 0;
  return total;
}

export const clusterHref = (name: string): string => href(["fleet", name]);

export function Clusters({ of, replicas = false }: { of: Choice[]; replicas?: boolean }) {
  return (
    <span class="tags">
      {of.slice(0, 4).map((c) => (
        <a key={c.name} class="tag" href={clusterHref(c.name)}>
          {c.name}
          {replicas && c.replicas > 1 && <span class="muted">×{c.replicas}</span>}
        </a>
      ))}
      {of.length > 4 && <span class="tag">+{of.length - 4}</span>}
    </span>
  );
}

const tones: Record<string, string> = { Running: "good", Partial: "warn", Moving: "accent", Waiting: "warn", Failed: "bad" };
const signs: Record<string, string> = { Running: "✓", Partial: "◐", Moving: "→", Waiting: "◷", Failed: "✕", Ended: "■" };

export function State({ state }: { state: string }) {
  return (
    <span class={`tag ${tones[state] ?? ""}`}>
      <span aria-hidden="true">{signs[state] ?? "·"}</span>
      {state}
    </span>
  );
}
