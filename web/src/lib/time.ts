// The time range of a screen: a span up to now, or two fixed ends.
import { computed } from "@preact/signals";
import { params, set } from "./url";

export const RANGES = ["15m", "1h", "6h", "24h", "7d", "30d"] as const;
const UNIT: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };
export const DAY = 86_400_000;

export function spanMs(text: string): number {
  const found = /^(\d+)([mhd])$/.exec(text);
  return found ? Number(found[1]) * UNIT[found[2]] : DAY;
}

export const range = computed(() => {
  const named = params.value.get("range") ?? "";
  return /^\d+[mhd]$/.test(named) ? named : "24h";
});

export const fixed = computed(() => {
  const since = Number(params.value.get("since"));
  const until = Number(params.value.get("until"));
  return since > 0 && until > since ? { since, until } : null;
});

/** Both ends now, in milliseconds. */
export function bounds(): { since: number; until: number } {
  if (fixed.value) return fixed.value;
  const until = Date.now();
  return { since: until - spanMs(range.value), until };
}

/** A period as long as the current one, ending where it begins. */
export function before(): { since: number; until: number } {
  const { since, until } = bounds();
  return { since: since - (until - since), until: since };
}

export const setRange = (value: string) => set({ range: value === "24h" ? null : value, since: null, until: null });
export const setFixed = (since: number, until: number) =>
  set({ since: String(Math.floor(since)), until: String(Math.ceil(until)), range: null });

/** The next longer or shorter range. */
export function stepRange(step: number) {
  const at = fixed.value ? RANGES.indexOf("24h") : RANGES.indexOf(range.value as (typeof RANGES)[number]);
  setRange(RANGES[Math.min(RANGES.length - 1, Math.max(0, at + step))]);
}

/** A bucket width that gives about `count` buckets: a whole number of a unit that people think in. */
export function bucketFor(span: number, count = 60): number {
  const steps = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400].map((s) => s * 1000);
  return steps.find((s) => span / s <= count) ?? 86_400_000;
}
