// What the server tells of by itself: events say that something is new, and that the server is still there.
import { useEffect, useState } from "preact/hooks";
import { token } from "./session";

export type Liveness = "connecting" | "live" | "behind" | "offline";

export interface Live {
  state: Liveness;
  /** Grows with everything that is new: what was fetched before is fetched again. */
  revision: number;
  /** When the data was read last. */
  at: number;
  message: string;
}

// The version of what was fetched last: hearing of it again is no news.
let seen = "";

export function saw(version: string): void {
  seen = version;
}

let current: Live = { state: "connecting", revision: 0, at: 0, message: "" };
const listeners = new Set<(live: Live) => void>();

function set(change: Partial<Live>): void {
  current = { ...current, ...change };
  for (const listener of listeners) listener(current);
}

export function useLive(): Live {
  const [live, update] = useState(current);
  useEffect(() => {
    listeners.add(update);
    update(current);
    return () => void listeners.delete(update);
  }, []);
  return live;
}

/** Silence is how long the server may say nothing: it sends a comment every few seconds. */
const silence = 25_000;

/** Follows the server's events about a workspace until it is told to end, again and again. */
export async function follow(workspace: string, end: AbortSignal): Promise<void> {
  for (let wait = 500; !end.aborted; wait = Math.min(wait * 2, 15_000)) {
    const stop = new AbortController();
    const ended = () => stop.abort();
    end.addEventListener("abort", ended);
    let watchdog = 0;
    const heard = () => {
      clearTimeout(watchdog);
      watchdog = window.setTimeout(() => stop.abort(), silence);
    };
    try {
      heard();
      const response = await fetch(`/api/v1/events?workspace=${encodeURIComponent(workspace)}`, {
        headers: { accept: "text/event-stream", ...token() },
        signal: stop.signal,
      });
      if (!response.ok || !response.body) throw new Error(`the server answers ${response.status}`);
      set({ state: "live", message: "" });
      wait = 500;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        heard();
        const events = (rest + value).split("\n\n");
        rest = events.pop()!;
        for (const event of events) take(event);
      }
      throw new Error("the server has ended the connection");
    } catch (error) {
      if (end.aborted) return;
      set({ state: "offline", message: error instanceof Error ? error.message : String(error) });
    } finally {
      clearTimeout(watchdog);
      end.removeEventListener("abort", ended);
      stop.abort();
    }
    await new Promise((resume) => setTimeout(resume, wait));
  }
}

function take(event: string): void {
  let name = "message";
  let data = "";
  for (const line of event.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data += line.slice(5).trim();
  }
  if (!data) return;
  const told = JSON.parse(data) as { message?: string; version?: string };
  switch (name) {
    case "behind":
      set({ state: "behind", message: told.message ?? "" });
      break;
    case "changed":
      set({ state: "live", revision: current.revision + (told.version === seen ? 0 : 1), at: Date.now(), message: "" });
      seen = told.version ?? "";
      break;
    default:
      set({ state: "live", at: Date.now(), message: "" });
  }
}
