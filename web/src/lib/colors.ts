// One colour per model, the same on every screen, for everybody who looks at this engine; told apart by colour-blind eyes
// as well. The hues follow Okabe and Ito's palette, darkened or lightened for the theme (see --hue-N in style.css).
import { bare } from "./format";

const HUES = 10;
const known = new Map<string, number>();

function hash(text: string): number {
  let h = 2166136261;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
  return h >>> 0;
}

/** Gives out the hues: each name gets the one its hash points at, or the next free one. `names`: oldest model first. */
export function spread(names: string[]) {
  known.clear();
  let free = new Set<number>();
  for (const full of names) {
    const name = bare(full);
    if (known.has(name)) continue;
    if (!free.size) free = new Set(Array.from({ length: HUES }, (_, i) => i));
    let at = hash(name) % HUES;
    while (!free.has(at)) at = (at + 1) % HUES;
    free.delete(at);
    known.set(name, at);
  }
}

/** The number of a model's hue. */
export const hue = (name: string) => known.get(bare(name)) ?? hash(bare(name)) % HUES;

export const colorVar = (name: string) => (name === "other" ? "var(--ink-3)" : `var(--hue-${hue(name)})`);

/** The colour as canvas needs it. */
export const colorOf = (name: string) => cssVar(name === "other" ? "--ink-3" : `--hue-${hue(name)}`);

export function cssVar(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
