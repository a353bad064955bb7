// Goes to a workload or a cluster by its name. "/" puts the cursor there.
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import type { Fleet, Workloads } from "./api";
import { useAnswer } from "./fetching";
import { refPath } from "./format";
import { href, navigate } from "./router";

interface Found {
  key: string;
  name: string;
  what: string;
  to: string;
}

export function Finder({ workspace }: { workspace: string }) {
  const [text, set] = useState("");
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const id = useId();
  const query = text.trim().toLowerCase();
  const asked = open && query !== "";
  const w = encodeURIComponent(workspace);
  const fleet = useAnswer<Fleet>(asked ? `fleet?workspace=${w}` : null);
  const workloads = useAnswer<Workloads>(asked ? `workloads?workspace=${w}&q=${encodeURIComponent(query)}&limit=8` : null);

  useEffect(() => {
    const focus = (event: KeyboardEvent) => {
      const on = event.composedPath()[0] as HTMLElement;
      if (event.key !== "/" || event.ctrlKey || event.metaKey || on.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(on.tagName)) return;
      event.preventDefault();
      input.current?.focus();
    };
    addEventListener("keydown", focus);
    return () => removeEventListener("keydown", focus);
  }, []);

  const found = useMemo(() => {
    if (!asked) return [];
    const all: Found[] = [];
    for (const { workload: ref, placement } of workloads.data?.workloads ?? []) {
      const name = `${ref.namespace}/${ref.name}`;
      all.push({ key: `${ref.kind}/${name}`, name, what: placement ? `${ref.kind}, ${placement}` : ref.kind, to: href(refPath(ref)) });
    }
    let clusters = 0;
    for (const c of fleet.data?.clusters ?? []) {
      if (clusters >= 6) break;
      if (!c.name.toLowerCase().includes(query)) continue;
      clusters++;
      all.push({ key: `cluster/${c.name}`, name: c.name, what: "Cluster", to: href(["fleet", c.name]) });
    }
    return all;
  }, [asked, query, fleet.data, workloads.data]);
  const chosen = Math.min(at, Math.max(0, found.length - 1));

  const go = (to: Found | undefined) => {
    if (!to) return;
    set("");
    setOpen(false);
    navigate(to.to);
  };
  return (
    <div class="finder">
      <input
        ref={input}
        type="search"
        role="combobox"
        list={undefined}
        aria-label="Find a workload or a cluster"
        aria-expanded={asked}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={asked && found.length ? `${id}-${chosen}` : undefined}
        aria-keyshortcuts="/"
        placeholder="Find a workload or cluster"
        autocomplete="off"
        spellcheck={false}
        value={text}
        onInput={(e) => {
          set(e.currentTarget.value);
          setOpen(true);
          setAt(0);
        }}
        onBlur={() => setOpen(false)}
        onKeyDown={(e) => {
          if (e.key === "Escape") {
            setOpen(false);
            set("");
          } else if (e.key === "ArrowDown" || e.key === "ArrowUp") {
            e.preventDefault();
            setOpen(true);
            setAt((chosen + (e.key === "ArrowDown" ? 1 : found.length - 1)) % Math.max(1, found.length));
          } else if (e.key === "Enter") {
            e.preventDefault();
            go(found[chosen]);
          }
        }}
      />
      <div role="listbox" id={`${id}-list`} aria-label="What was found" hidden={!asked || found.length === 0}>
        {found.map((f, i) => (
          <div key={f.key} id={`${id}-${i}`} role="option" aria-selected={i === chosen} onMouseDown={(e) => e.preventDefault()} onClick={() => go(f)} onMouseEnter={() => setAt(i)}>
            <span>{f.name}</span>
            <span class="muted">{f.what}</span>
          </div>
        ))}
      </div>
      <span class="visually-hidden" role="status">
        {asked ? (found.length ? `${found.length} found` : workloads.loading ? "Searching" : "Nothing found") : ""}
      </span>
    </div>
  );
}
