// Overview: is it well, what does it cost, what changed. Every card asks for itself and fails alone.
import { useMemo } from "preact/hooks";
import { colorOf, colorVar, cssVar } from "../lib/colors";
import { bare, bytes, count, ms, percent, plural, usd, usdAxis } from "../lib/format";
import { useLoad } from "../lib/load";
import { term } from "../lib/query";
import { loadSession, session } from "../lib/session";
import { shade } from "../lib/theme";
import { column, grid, useStats } from "../lib/stats";
import { before, bounds, fixed, range } from "../lib/time";
import { link, params, set } from "../lib/url";
import type { StatRow } from "../lib/types";
import { Chart, Spark } from "../ui/chart";
import { Card, LoadedCard, Model, Screen } from "../ui/basics";
import { FirstSteps } from "../ui/first";
import { Icon } from "../ui/icons";
import { RangePicker } from "../ui/range";

const REFRESH = 15_000;

function useOverview(metric: string, more: Record<string, string | number> = {}, when = bounds, buckets = 0) {
  const key = `${range.value} ${params.value} ${JSON.stringify(more)}`;
  return useStats(metric, () => more, key, { buckets, when, every: fixed.value ? 0 : REFRESH });
}

const num = (row: StatRow | undefined, name: string) => (row?.[name] ?? null) as number | null;

interface TileProps {
  label: string;
  value: string;
  now: number | null;
  then: number | null;
  /** whether more is good (1), bad (-1) or neither (0) */
  good: number;
  spark?: Array<number | null>;
  color: string;
  href?: string;
  hint?: string;
  /** stands in place of the change */
  sub?: string;
}

function Tile({ label, value, now, then, good, spark, color, href, hint, sub }: TileProps) {
  const change = now !== null && then ? (now - then) / then : null;
  const tone = change === null || Math.abs(change) < 0.02 || !good ? "" : change * good > 0 ? "up" : "down";
  const body = (
    <>
      <span class="label">{label}</span>
      <span class="value num">{value}</span>
      <span class={`delta num ${tone}`} title="against the period before, of the same length">
        {sub ?? (change === null ? "–" : `${change >= 0 ? "▲" : "▼"} ${percent(Math.abs(change))}`)}
      </span>
      {spark && <Spark values={spark} color={color} />}
    </>
  );
  return href ? (
    <a class="tile" href={href} title={hint}>
      {body}
    </a>
  ) : (
    <div class="tile" title={hint}>
      {body}
    </div>
  );
}

const TOTALS = "requests,errors,error_rate,cost,p50,p95,ttft_avg,cache_rate,unpriced,tokens_in,tokens_out";

function Tiles() {
  const now = useOverview(TOTALS);
  const then = useOverview(TOTALS, {}, before);
  const line = useOverview("requests,errors,cost,p50,p95,ttft_avg", {}, bounds, 48);
  const auto = useOverview("requests,cost,counterfactual_cost", { requested: "auto" });
  const autoLine = useOverview("cost,counterfactual_cost", { requested: "auto" }, bounds, 48);
  return (
    <LoadedCard from={now} room={112} class="bare">
      {(data) => {
        const a = data.rows[0];
        const b = then.data?.rows[0];
        const times = line.data ? grid(line.data) : [];
        const spark = (name: string) => (line.data ? column(line.data.rows, times, name, 0) : undefined);
        const routed = auto.data?.rows[0];
        const best = num(routed, "counterfactual_cost") ?? 0;
        const saved = best - (num(routed, "cost") ?? 0);
        const savedLine = () => {
          const at = grid(autoLine.data!);
          const [most, spent] = [column(autoLine.data!.rows, at, "counterfactual_cost", 0), column(autoLine.data!.rows, at, "cost", 0)];
          return at.map((_, i) => Math.max(0, (most[i] ?? 0) - (spent[i] ?? 0)));
        };
        const tile = (label: string, name: string, show: (v: number | null) => string, good: number, color: string, more = {}) => (
          <Tile
            label={label}
            value={show(num(a, name))}
            now={num(a, name)}
            then={num(b, name)}
            good={good}
            spark={spark(name)}
            color={color}
            {...more}
          />
        );
        return (
          <div class="tiles">
            {tile("Requests", "requests", count, 0, "var(--accent)", { href: link("/traces") })}
            {tile("Errors", "error_rate", percent, -1, "var(--bad)", {
              href: link("/traces", { q: "status:error" }),
              spark: spark("errors"),
              hint: plural(num(a, "errors") ?? 0, "failed request"),
            })}
            {tile("Latency p50", "p50", ms, -1, "var(--hue-0)")}
            {tile("Latency p95", "p95", ms, -1, "var(--hue-0)")}
            {tile("First token, mean", "ttft_avg", ms, -1, "var(--hue-4)")}
            {tile("Cost", "cost", usd, -1, "var(--hue-2)", {
              href: link("/spend"),
              hint: num(a, "unpriced") ? `${plural(num(a, "unpriced")!, "request")} without a known price not included` : undefined,
            })}
            <Tile
              label="Saved by auto"
              value={best > 0 ? usd(saved) : "–"}
              now={null}
              then={null}
              good={1}
              spark={best > 0 && autoLine.data ? savedLine() : undefined}
              color="var(--ok)"
              href={link("/routing")}
              sub={best > 0 ? `${percent(saved / best)} saved` : "auto was not used"}
              hint="against always asking the model with the best expected quality"
            />
            {tile("Cache hits", "cache_rate", percent, 1, "var(--ink-3)")}
          </div>
        );
      }}
    </LoadedCard>
  );
}

const OTHER = "(other)";

function ByModel() {
  const metric = params.value.get("stack") === "requests" ? "requests" : "cost";
  const from = useOverview(metric, { group_by: "model", limit: 7 }, bounds, 48);
  const format = metric === "cost" ? (v: number | null) => usd(v) : (v: number | null) => count(v);
  const picker = (
    <div class="segments">
      {["cost", "requests"].map((name) => (
        <button type="button" key={name} aria-pressed={metric === name} onClick={() => set({ stack: name === "cost" ? null : name }, true)}>
          {name}
        </button>
      ))}
    </div>
  );
  const mode = shade.value;
  const chart = useMemo(() => {
    if (!from.data) return null;
    const times = grid(from.data);
    const totals = new Map<string, number>();
    for (const row of from.data.rows) {
      const name = String(row.model);
      totals.set(name, (totals.get(name) ?? 0) + Number(row[metric] ?? 0));
    }
    const names = [...totals].sort((a, b) => b[1] - a[1]).map(([name]) => name);
    const series = names.map((name) => ({
      name: name === OTHER ? "other" : bare(name) || "no model",
      color: colorOf(name === OTHER ? "other" : name),
      values: column(from.data!.rows.filter((row) => row.model === name), times, metric, 0),
    }));
    return { times, series };
  }, [from.data, mode, metric]);
  return (
    <LoadedCard from={from} room={262} title={metric === "cost" ? "Cost by model" : "Requests by model"} actions={picker} class="wide">
      {() => <Chart label={`${metric} by model`} times={chart!.times} series={chart!.series} format={format} labels={metric === "cost" ? usdAxis : undefined} kind="bars" stacked height={220} legend />}
    </LoadedCard>
  );
}

function Latency() {
  const from = useOverview("p50,p95,p99,ttft_avg", {}, bounds, 60);
  const mode = shade.value;
  const chart = useMemo(() => {
    if (!from.data) return null;
    const times = grid(from.data);
    const one = (name: string, text: string, color: string, dash?: number[]) => ({
      name: text,
      color: cssVar(color),
      values: column(from.data!.rows, times, name, null),
      dash,
    });
    return {
      times,
      series: [one("p50", "p50", "--hue-0"), one("p95", "p95", "--hue-1"), one("p99", "p99", "--hue-3"), one("ttft_avg", "first token, mean", "--ink-3", [4, 3])],
    };
  }, [from.data, mode]);
  return (
    <LoadedCard from={from} room={264} title="Latency" class="wide">
      {() => <Chart label="Latency" times={chart!.times} series={chart!.series} format={ms} height={220} log />}
    </LoadedCard>
  );
}

function Health() {
  const from = useOverview("requests,errors,p95", { group_by: "provider" }, bounds, 32);
  return (
    <LoadedCard from={from} room={250} title="Provider health" note="share of failed requests over time">
      {(data) => {
        const times = grid(data);
        const names = [...new Set(data.rows.map((row) => String(row.provider ?? "")))].filter(Boolean).sort();
        if (!names.length) return <p class="empty">No requests in this range.</p>;
        return (
          <div class="health">
            {names.map((name) => {
              const rows = data.rows.filter((row) => row.provider === name);
              const at = new Map(rows.map((row) => [row.bucket, row]));
              const total = rows.reduce((sum, row) => sum + Number(row.requests), 0);
              const bad = rows.reduce((sum, row) => sum + Number(row.errors), 0);
              return (
                <a class="strip" key={name} href={link("/traces", { q: term("provider", name) })}>
                  <span class="cut">{name}</span>
                  <span class="cells" aria-hidden="true">
                    {times.map((t) => {
                      const row = at.get(t);
                      const share = row ? Number(row.errors) / Number(row.requests) : -1;
                      const tone = share < 0 ? "none" : share === 0 ? "good" : share < 0.05 ? "fair" : share < 0.25 ? "warn" : "bad";
                      return <i key={t} class={tone} />;
                    })}
                  </span>
                  <span class={`num ${bad / total > 0.05 ? "bad-text" : ""}`} title={`${bad} of ${total} failed`}>
                    {percent(1 - bad / total)} <span class="note">ok</span>
                  </span>
                </a>
              );
            })}
            <ul class="legend cells-legend">
              <li><i class="good" /> none failed</li>
              <li><i class="fair" /> under 5 %</li>
              <li><i class="warn" /> under 25 %</li>
              <li><i class="bad" /> more</li>
            </ul>
          </div>
        );
      }}
    </LoadedCard>
  );
}

function Models() {
  const from = useOverview("cost,requests,error_rate,p50,p95,tokens_out", { group_by: "model,provider", limit: 12 });
  return (
    <LoadedCard from={from} room={250} title="Models">
      {(data) => {
        if (!data.rows.length) return <p class="empty">No requests in this range.</p>;
        const top = Math.max(...data.rows.map((row) => Number(row.cost ?? 0)), 1e-12);
        return (
          <div class="scroll" tabIndex={0} role="group" aria-label="Models table">
            <table>
              <thead>
                <tr>
                  <th scope="col">Model</th>
                  <th scope="col" class="r">Requests</th>
                  <th scope="col" class="r hide-narrow">Errors</th>
                  <th scope="col" class="r hide-narrow">p50</th>
                  <th scope="col" class="r">p95</th>
                  <th scope="col" class="r">Cost</th>
                </tr>
              </thead>
              <tbody>
                {data.rows.map((row) => (
                  <tr key={`${row.provider} ${row.model}`}>
                    <td>
                      <a href={link("/traces", { q: `${term("model", String(row.model))}` })}>
                        <Model name={String(row.model)} />
                      </a>{" "}
                      <span class="note">{row.provider}</span>
                    </td>
                    <td class="r num">{count(num(row, "requests"))}</td>
                    <td class={`r num hide-narrow ${(num(row, "error_rate") ?? 0) > 0.05 ? "bad-text" : ""}`}>{percent(num(row, "error_rate"))}</td>
                    <td class="r num hide-narrow">{ms(num(row, "p50"))}</td>
                    <td class="r num">{ms(num(row, "p95"))}</td>
                    <td class="r num bars">
                      <i style={{ width: `${(Number(row.cost ?? 0) / top) * 100}%`, background: colorVar(String(row.model)) }} />
                      <span>{usd(num(row, "cost"))}</span>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        );
      }}
    </LoadedCard>
  );
}

function Errors() {
  const from = useOverview("requests", { group_by: "error,model", status: "error", limit: 8 });
  return (
    <LoadedCard from={from} room={265} title="Most frequent errors">
      {(data) =>
        data.rows.length ? (
          <ul class="ranked">
            {data.rows.filter((row) => row.error !== OTHER).map((row) => (
              <li key={`${row.error} ${row.model}`}>
                <a href={link("/traces", { q: ["status:error", row.error ? term("error", String(row.error)) : "", row.model ? term("model", String(row.model)) : ""].join(" ").trim() })}>
                  <span class="bad-text cut">
                    <Icon name="cross" size={13} /> {row.error ?? "without a type"}
                  </span>
                  <span class="note cut">{row.model || "no model"}</span>
                  <b class="num">{count(num(row, "requests"))}</b>
                </a>
              </li>
            ))}
          </ul>
        ) : (
          <p class="empty">
            <Icon name="check" /> No errors in this range.
          </p>
        )
      }
    </LoadedCard>
  );
}

function Keys() {
  const from = useOverview("cost,requests", { group_by: "key", limit: 8 });
  return (
    <LoadedCard from={from} room={265} title="Spend by key">
      {(data) => {
        const top = Math.max(...data.rows.map((row) => Number(row.cost ?? 0)), 1e-12);
        return data.rows.length ? (
          <ul class="ranked">
            {data.rows.map((row) => (
              <li key={String(row.key)}>
                <a href={link("/traces", row.key && row.key !== OTHER ? { q: term("key", String(row.key)) } : {})}>
                  <span class="cut">{row.key ?? "without a key"}</span>
                  <span class="bar"><i style={{ width: `${(Number(row.cost ?? 0) / top) * 100}%` }} /></span>
                  <b class="num">{usd(num(row, "cost"))}</b>
                </a>
              </li>
            ))}
          </ul>
        ) : (
          <p class="empty">No requests in this range.</p>
        );
      }}
    </LoadedCard>
  );
}

interface Store {
  traces: number;
  bytes: number;
  queue: number;
  dropped: number;
  free_bytes: number;
  problem: string | null;
}

function StoreLine() {
  const from = useLoad<Store>("/v1/dashboard/store", () => ({}), "", REFRESH);
  const s = from.data;
  if (!s) return from.error ? <Card>{from.error.message}</Card> : null;
  return (
    <p class={`store-line note num ${s.problem || s.dropped ? "bad-text" : ""}`}>
      <Icon name={s.problem || s.dropped ? "warn" : "check"} size={13} />
      {s.problem ?? `${plural(s.traces, "trace")} stored, ${plural(s.queue, "trace")} waiting, ${s.dropped ? `${count(s.dropped)} dropped` : "none dropped"}; ${bytes(s.bytes)} on disk${s.free_bytes ? `, ${bytes(s.free_bytes)} free` : ""}`}
    </p>
  );
}

export function Overview() {
  if (session.value?.empty) {
    return (
      <Screen title="Overview">
        <FirstSteps sent={() => void loadSession()} />
      </Screen>
    );
  }
  return (
    <Screen title="Overview" tools={<RangePicker />}>
      <Tiles />
      <div class="cards two">
        <ByModel />
        <Latency />
      </div>
      <div class="cards two">
        <Models />
        <Health />
      </div>
      <div class="cards two">
        <Errors />
        <Keys />
      </div>
      <StoreLine />
    </Screen>
  );
}
