// Who asks: with a console in a cluster it is the user's own token; with one on loopback, what its link holds.

const key = "placement-token";

/** The header with the user's own token, where the console asks for one. It is kept as long as the tab is open. */
export function token(): Record<string, string> {
  const value = sessionStorage.getItem(key);
  return value ? { authorization: `Bearer ${value}` } : {};
}

export function signIn(value: string): void {
  sessionStorage.setItem(key, value);
  location.reload();
}

export function signOut(): void {
  sessionStorage.removeItem(key);
  location.reload();
}

export const signedIn = (): boolean => sessionStorage.getItem(key) !== null;

/** A link with #token=... signs in, and the token leaves the address at once. */
export function signInByLink(): void {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(key, decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname + location.search);
}
