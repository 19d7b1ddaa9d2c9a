// All state of a screen stands in the address: path, filters, range, sort, what is open. Reloading shows the same.
import { batch, computed, signal } from "@preact/signals";

const here = () => new URL(window.location.href);

export const path = signal(here().pathname);
export const params = signal(new URLSearchParams(here().search));

window.addEventListener("popstate", () =>
  batch(() => {
    path.value = here().pathname;
    params.value = new URLSearchParams(here().search);
  }),
);

function show(target: string, replace: boolean) {
  if (target === here().pathname + here().search) return;
  window.history[replace ? "replaceState" : "pushState"](null, "", target);
  batch(() => {
    path.value = here().pathname;
    params.value = new URLSearchParams(here().search);
  });
}

/** Goes to a path of this application, as a link would. */
export function go(target: string) {
  show(target, false);
}

/** Sets (or with null removes) parameters of the current address. */
export function set(changes: Record<string, string | null>, replace = false) {
  const next = new URLSearchParams(params.value);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  show(path.value + (text ? `?${text}` : ""), replace);
}

export const param = (name: string) => params.value.get(name) ?? "";

/** The link to another screen that keeps the time range. */
export function link(target: string, more: Record<string, string> = {}) {
  const search = new URLSearchParams();
  for (const name of ["range", "since", "until"]) {
    const value = params.value.get(name);
    if (value) search.set(name, value);
  }
  for (const [name, value] of Object.entries(more)) search.set(name, value);
  const text = search.toString();
  return target + (text ? `?${text}` : "");
}

export const screen = computed(() => path.value.split("/")[1] || "overview");
export const item = computed(() => decodeURIComponent(path.value.split("/")[2] ?? ""));

/** Clicks on links of ours change the address without loading the page again. */
export function onLink(event: MouseEvent) {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const anchor = (event.target as Element).closest("a");
  const href = anchor?.getAttribute("href");
  if (!anchor || !href?.startsWith("/") || anchor.hasAttribute("download") || anchor.target) return;
  event.preventDefault();
  go(href);
}
