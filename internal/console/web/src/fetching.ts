// Asks the server. Answers are kept until something is new; what is asked for and no longer wanted is cancelled.
import { useEffect, useRef, useState } from "preact/hooks";
import { saw, useLive } from "./live";
import { token } from "./session";

export class Failure extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export async function ask<T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: { accept: "application/json", ...token(), ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, "The console's server does not answer. Is kubectl placement console still running?");
  }
  const text = await response.text();
  if (!response.ok) throw new Failure(response.status, reason(text) || `The server answers ${response.status}.`);
  const answer = JSON.parse(text);
  if (answer.at && answer.version) saw(answer.version);
  return answer as T;
}

function reason(text: string): string {
  try {
    const answer = JSON.parse(text);
    return String(answer.detail ?? answer.title ?? text);
  } catch {
    return text.trim();
  }
}

export interface Answer<T> {
  data?: T;
  failure?: Failure;
  loading: boolean;
}

const kept = new Map<string, unknown>();

/** What one may not see, or what is not there, is shown no more; whatever else goes wrong, what one looks at stays. */
const refuses = ({ status }: Failure): boolean => status >= 400 && status < 500 && status !== 408 && status !== 429;

/** Answer of a path, asked again when something is new. Until a new answer comes the last one of the same path stands. */
export function useAnswer<T>(path: string | null): Answer<T> {
  const { revision } = useLive();
  const [answer, set] = useState<Answer<T> & { path: string | null }>({ path: null, loading: true });
  const latest = useRef(path);
  latest.current = path;
  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    set((before) => ({
      path,
      data: (kept.get(path) as T | undefined) ?? (before.path === path ? before.data : undefined),
      failure: before.path === path ? before.failure : undefined,
      loading: true,
    }));
    ask<T>(path, undefined, stop.signal).then(
      (data) => {
        if (kept.size > 40) kept.delete(kept.keys().next().value!);
        kept.set(path, data);
        if (latest.current === path) set({ path, data, loading: false });
      },
      (error: unknown) => {
        if (stop.signal.aborted) return;
        const failure = error instanceof Failure ? error : new Failure(0, String(error));
        set((before) => ({ path, data: refuses(failure) ? undefined : before.data, failure, loading: false }));
      },
    );
    return () => stop.abort();
  }, [path, revision]);
  return answer.path === path ? answer : { loading: path !== null, data: path === null ? undefined : (kept.get(path) as T | undefined) };
}
