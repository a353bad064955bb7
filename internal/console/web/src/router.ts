// The address is the state: every view, filter and selection is in it, so each is a link.
import { useEffect, useState } from "preact/hooks";

const changed = "placement:navigate";

export interface Address {
  path: string[];
  query: URLSearchParams;
  fragment: string;
}

const read = (): Address => ({
  path: location.pathname.split("/").filter(Boolean).map(decoded),
  query: new URLSearchParams(location.search),
  fragment: location.hash.slice(1),
});

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function useAddress(): Address {
  const [address, set] = useState(read);
  useEffect(() => {
    const update = () => set(read());
    addEventListener("popstate", update);
    addEventListener(changed, update);
    return () => {
      removeEventListener("popstate", update);
      removeEventListener(changed, update);
    };
  }, []);
  return address;
}

export function navigate(to: string, replace = false): void {
  if (to === location.pathname + location.search + location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  dispatchEvent(new Event(changed));
}

/** href of a path of names, with the query of now; null in changes removes a key. */
export function href(path: string[], changes: Record<string, string | null> = {}, keep: string[] = ["workspace"]): string {
  const query = new URLSearchParams();
  const now = new URLSearchParams(location.search);
  for (const key of keep) if (now.has(key)) query.set(key, now.get(key)!);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(key);
    else query.set(key, value);
  }
  const search = query.toString();
  return "/" + path.map(encodeURIComponent).join("/") + (search ? `?${search}` : "");
}

/** Changes some keys of the query of this view. */
export function refine(changes: Record<string, string | null>, replace = true): void {
  const keys = [...new URLSearchParams(location.search).keys()];
  navigate(href(read().path, changes, keys), replace);
}

/** Links within the console change the address without loading the page again. */
export function interceptLinks(): void {
  document.addEventListener("click", (event) => {
    const link = (event.target as Element | null)?.closest?.("a");
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.origin !== location.origin || link.target || link.hasAttribute("download") || link.getAttribute("href")!.startsWith("#")) return;
    if (link.pathname.startsWith("/api/") || link.pathname.includes(".")) return;
    event.preventDefault();
    navigate(link.pathname + link.search + link.hash);
  });
}
