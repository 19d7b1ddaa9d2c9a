// Light, dark, or what the system says.
import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
const KEY = "opentracy.theme";
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system";
  }
}

export const theme = signal<Theme>(stored());
/** Changes whenever colours do, so that canvases are drawn again. */
export const shade = signal<"light" | "dark">("light");

function apply() {
  shade.value = theme.value === "system" ? (dark.matches ? "dark" : "light") : theme.value;
  document.documentElement.dataset.theme = shade.value;
}

export function setTheme(value: Theme) {
  theme.value = value;
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // a window that keeps nothing still changes its colours
  }
  apply();
}

dark.addEventListener("change", apply);
apply();
