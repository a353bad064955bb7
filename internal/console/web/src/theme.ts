const key = "placement-theme";
export type Theme = "system" | "light" | "dark";

export const theme = (): Theme => (localStorage.getItem(key) as Theme | null) ?? "system";

export function applyTheme(to: Theme = theme()): void {
  if (to === "system") {
    localStorage.removeItem(key);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(key, to);
    document.documentElement.dataset.theme = to;
  }
}
