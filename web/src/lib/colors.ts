// One colour per model, the same on every screen and after a reload; told apart by colour-blind eyes as well.
// The hues follow Okabe and Ito's palette, darkened or lightened for the theme (see --hue-N in style.css).

const HUES = 10;
const KEY = "opentracy.colors";

function load(): Record<string, number> {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") as Record<string, number>;
  } catch {
    return {};
  }
}

const known = load();

function hash(text: string): number {
  let h = 2166136261;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
  return h >>> 0;
}

/** The number of a name's hue: its hash picks one, unless another name has it and a free one is left. */
export function hue(name: string): number {
  if (name in known) return known[name];
  const used = new Set(Object.values(known));
  let at = hash(name) % HUES;
  if (used.size < HUES) while (used.has(at)) at = (at + 1) % HUES;
  known[name] = at;
  try {
    localStorage.setItem(KEY, JSON.stringify(known));
  } catch {
    // private windows keep nothing: the colours then hold for this visit
  }
  return at;
}

export const colorVar = (name: string) => (name === "other" ? "var(--ink-3)" : `var(--hue-${hue(name)})`);

/** The colour as canvas needs it. */
export function colorOf(name: string): string {
  return cssVar(name === "other" ? "--ink-3" : `--hue-${hue(name)}`);
}

export function cssVar(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
