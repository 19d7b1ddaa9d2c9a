// Saved views: names for addresses, kept in this browser.
import { signal } from "@preact/signals";

export interface View {
  name: string;
  search: string;
}

const KEY = "opentracy.views";
const START: View[] = [
  { name: "Errors of the last day", search: "?q=status%3Aerror" },
  { name: "Expensive (over 1 cent)", search: "?q=cost%3E0.01" },
  { name: "Slow (over 10 s)", search: "?q=latency%3E10s" },
  { name: "Fell back", search: "?q=fallback%3Atrue" },
];

function load(): View[] {
  try {
    return (JSON.parse(localStorage.getItem(KEY) ?? "null") as View[] | null) ?? START;
  } catch {
    return START;
  }
}

export const saved = signal<View[]>(load());

function keep(views: View[]) {
  saved.value = views;
  try {
    localStorage.setItem(KEY, JSON.stringify(views));
  } catch {
    // not kept beyond this visit
  }
}

export const saveView = (name: string, search: string) => keep([...saved.value.filter((v) => v.name !== name), { name, search }]);
export const removeView = (name: string) => keep(saved.value.filter((v) => v.name !== name));
