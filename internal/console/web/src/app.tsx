import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Workspaces } from "./api";
import { type Answer, useAnswer } from "./fetching";
import { Finder } from "./finder";
import { age } from "./format";
import { follow, useLive } from "./live";
import { Empty, Failed, Loading } from "./parts";
import { href, navigate, useAddress } from "./router";
import { signIn, signOut, signedIn } from "./session";
import { type Theme, applyTheme, theme } from "./theme";
import { Fleet } from "./views/fleet";
import { Time } from "./views/time";
import { Why } from "./views/why";
import { Workloads } from "./views/workloads";

const views = [
  { path: "fleet", title: "Fleet" },
  { path: "workloads", title: "Workloads" },
  { path: "playground", title: "Playground" },
  { path: "time", title: "Over time" },
];

export function App() {
  const address = useAddress();
  const known = useAnswer<Workspaces>("workspaces");
  const main = useRef<HTMLElement>(null);
  const view = address.path[0] ?? "fleet";
  const names = known.data?.workspaces ?? [];
  const asked = address.query.get("workspace");
  const workspace = asked ?? names[0]?.name;

  useEffect(() => {
    if (!workspace) return;
    const end = new AbortController();
    void follow(workspace, end.signal);
    return () => end.abort();
  }, [workspace]);

  // Another view is like another page: it starts at its top, and a screen reader hears its title.
  const place = address.path.slice(0, view === "why" ? 4 : 1).join("/");
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) {
      scrollTo(0, 0);
      main.current?.focus({ preventScroll: true });
    }
    first.current = false;
  }, [place]);
  const title = views.find((v) => v.path === view)?.title ?? (view === "why" ? `Why ${address.path[3] ?? ""}` : "Not found");
  useEffect(() => {
    document.title = `${title} · Placement`;
  }, [title]);

  return (
    <>
      <a class="skip" href="#main">Skip to content</a>
      <header class="bar">
        <div>
          <a class="brand" href={href(["fleet"])}>
            <img src="/icon.svg" alt="" width="24" height="24" />
            Placement
          </a>
          <nav class="main" aria-label="Views">
            {views.map((v) => (
              <a key={v.path} href={href([v.path])} aria-current={v.path === view || (v.path === "workloads" && view === "why") ? "page" : undefined}>
                {v.title}
              </a>
            ))}
          </nav>
          <div class="end">
            {workspace && <Finder workspace={workspace} />}
            {known.data && workspace && <WorkspaceField known={known.data} workspace={workspace} />}
            <LiveSign />
            <ThemeButton />
            {signedIn() && known.data?.source === "server" && (
              <button type="button" class="button quiet tiny" onClick={signOut}>
                Sign out
              </button>
            )}
          </div>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <Content known={known} workspace={workspace} view={view} />
      </main>
      {known.data && (
        <footer class="foot">
          <span>
            {known.data.source === "files" ? "From files" : "Live"}
            {known.data.from && `: ${known.data.from}`}
          </span>
          <span>It only reads: nothing here writes to a server.</span>
          <a href="/api/v1/openapi.json">API</a>
          <a href="/licenses.txt">Licences</a>
          {known.data.version && <span>{known.data.version}</span>}
        </footer>
      )}
    </>
  );
}

function Content({ known, workspace, view }: { known: Answer<Workspaces>; workspace: string | undefined; view: string }) {
  if (known.failure?.status === 401) return <SignIn refused={signedIn()} />;
  if (!known.data) return known.failure ? <Failed failure={known.failure} /> : <Loading what="the workspaces" />;
  if (!workspace) {
    if (known.data.source === "server") {
      return (
        <section class="card stack tight">
          <h1>Which workspace?</h1>
          <p class="muted">Write the path of one that you may read, for example root:team-shop, and press Enter.</p>
          <div>
            <WorkspaceField known={known.data} workspace="" />
          </div>
        </section>
      );
    }
    return (
      <Empty page title="There is no workspace to show">
        Start the console with files (kubectl placement console examples/team-ml), or with a kubeconfig that points at a workspace of kcp.
      </Empty>
    );
  }
  switch (view) {
    case "fleet":
      return <Fleet workspace={workspace} />;
    case "workloads":
      return <Workloads workspace={workspace} />;
    case "why":
      return <Why workspace={workspace} />;
    case "playground":
      return <Later key={workspace} load={loadPlayground} workspace={workspace} />;
    case "time":
      return <Time workspace={workspace} />;
    default:
      return (
        <Empty page title="There is no such page">
          <p>
            The console has <a href={href(["fleet"])}>the fleet</a>, <a href={href(["workloads"])}>the workloads and the queue</a>, and{" "}
            <a href={href(["playground"])}>the playground</a>.
          </p>
        </Empty>
      );
  }
}

type View = ComponentType<{ workspace: string }>;

// The editor is most of the script, and only the playground needs it.
const loadPlayground = () => import("./views/playground").then((m) => m.Playground as View);

function Later({ load, workspace }: { load: () => Promise<View>; workspace: string }) {
  const [loaded, set] = useState<{ view?: View; error?: string }>({});
  useEffect(() => {
    load().then(
      (view) => set({ view }),
      () => set({ error: "The page could not be loaded whole. Load it again." }),
    );
  }, []);
  if (loaded.error) return <p role="alert" class="notice bad">{loaded.error}</p>;
  return loaded.view ? <loaded.view workspace={workspace} /> : <Loading what="the editor" />;
}

/** The workspace: one of those that there are or, with a console in a cluster, any by its path. */
function WorkspaceField({ known, workspace }: { known: Workspaces; workspace: string }) {
  const go = (to: string) => to && to !== workspace && navigate(href(["fleet"], { workspace: to }));
  if (known.source === "server") {
    return (
      <>
        <input type="text" aria-label="Workspace" list="workspaces" placeholder="root:team" value={workspace} onChange={(e) => go(e.currentTarget.value.trim())} />
        <datalist id="workspaces">
          {known.workspaces.map((w) => (
            <option key={w.name} value={w.path ?? w.name} />
          ))}
        </datalist>
      </>
    );
  }
  if (known.workspaces.length < 2) return null;
  return (
    <select aria-label="Workspace" value={workspace} onChange={(e) => go(e.currentTarget.value)}>
      {known.workspaces.map((w) => (
        <option key={w.name} value={w.name}>
          {w.path ?? w.name}
        </option>
      ))}
    </select>
  );
}

function LiveSign() {
  const live = useLive();
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 5000);
    return () => clearInterval(timer);
  }, []);
  const since = live.at ? `, as of ${age(new Date(live.at).toISOString())} ago` : "";
  const text = {
    connecting: "Connecting",
    live: "Live",
    behind: `Behind${since}`,
    offline: `No connection${since}`,
  }[live.state];
  return (
    <span class={`live live-${live.state}`} role="status" title={live.message || undefined}>
      <span>{text}</span>
      {(live.state === "behind" || live.state === "offline") && <span class="visually-hidden">{live.message}</span>}
    </span>
  );
}

function ThemeButton() {
  const [now, set] = useState<Theme>(theme());
  const next: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
  return (
    <button
      type="button"
      class="button quiet icon"
      aria-label={`Colours: ${now}. Change to ${next[now]}.`}
      title={`Colours: ${now}`}
      onClick={() => {
        applyTheme(next[now]);
        set(next[now]);
      }}
    >
      <span aria-hidden="true">{{ system: "◐", light: "○", dark: "●" }[now]}</span>
    </button>
  );
}

function SignIn({ refused }: { refused: boolean }) {
  const [value, set] = useState("");
  return (
    <form
      class="card stack tight"
      onSubmit={(e) => {
        e.preventDefault();
        if (value.trim()) signIn(value.trim());
      }}
    >
      <h1>Sign in</h1>
      <p class="muted">This console sees what you may see: it acts with your token and has no rights of its own. The token stays in this tab.</p>
      {refused && (
        <p class="notice bad" role="alert">
          The token was refused. It may have expired: get a new one and try again.
        </p>
      )}
      <label class="field">
        Token
        <input type="password" autocomplete="off" value={value} onInput={(e) => set(e.currentTarget.value)} required />
      </label>
      <div>
        <button class="button primary">Sign in</button>
      </div>
    </form>
  );
}

