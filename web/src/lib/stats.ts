// Sums over traces from /v1/stats, with the bucket they were asked in, so that silence can be shown as silence.
import { useLoad, type Loaded } from "./load";
import { bounds, bucketFor } from "./time";
import type { StatRow, Stats } from "./types";

type Params = Record<string, string | number | null | undefined>;

/** `buckets`: about how many over the range, 0 for one figure. `more`: filters, `group_by`, `limit`. Not asked until `ready`. */
export function useStats(
  metric: string,
  more: () => Params,
  key: string,
  { buckets = 0, every = 0, when = bounds, ready = true }: { buckets?: number; every?: number; when?: () => { since: number; until: number }; ready?: boolean } = {},
): Loaded<Stats> {
  return useLoad<Stats, { data: StatRow[] }>(
    ready ? "/v1/stats" : null,
    () => {
      const { since, until } = when();
      return { metric, bucket: buckets ? bucketFor(until - since, buckets) : undefined, ...more(), since, until };
    },
    `${metric} ${key}`,
    every,
    (answer, asked) => ({
      rows: answer.data,
      bucket_ms: (asked.bucket as number | undefined) ?? null,
      since: asked.since as number,
      until: asked.until as number,
    }),
  );
}

/** Bucket starts over the whole range. */
export function grid(stats: Stats): number[] {
  const step = stats.bucket_ms ?? 60_000;
  const out: number[] = [];
  for (let t = Math.floor(stats.since / step) * step; t < stats.until; t += step) out.push(t);
  return out;
}

/** One metric per bucket; `empty` where nothing happened. */
export function column(rows: StatRow[], times: number[], name: string, empty: number | null): Array<number | null> {
  const at = new Map(rows.map((row) => [row.bucket as number, row[name] as number | null]));
  return times.map((t) => at.get(t) ?? empty);
}
