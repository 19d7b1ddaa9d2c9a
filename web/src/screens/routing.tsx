// Routing: what the router knows per kind of prompt, what it saved, what another cost weight would do, and why one prompt
// goes where it goes.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError, send } from "../lib/api";
import { colorVar, cssVar } from "../lib/colors";
import { ago, bare, bothClocks, count, ms, nano, percent, plural, usd, usdAxis } from "../lib/format";
import { useLoad, type Loaded } from "../lib/load";
import { term } from "../lib/query";
import { shade } from "../lib/theme";
import { bounds, bucketFor, DAY, fixed, range } from "../lib/time";
import { link, param, params, set } from "../lib/url";
import type { Cluster, Projection, RoutingAnswer, Row, Savings, Score } from "../lib/types";
import { Card, Chip, LoadedCard, Model, Screen } from "../ui/basics";
import { Chart } from "../ui/chart";
import { Icon } from "../ui/icons";
import { RangePicker } from "../ui/range";
import { REASONS, Scores } from "./trace";
import { Learned, Versions } from "./versions";

const key = () => `${range.value} ${params.value.get("since")} ${params.value.get("until")}`;

// ---------------------------------------------------------------- savings
function SavingsCard() {
  const from = useLoad<Savings>(
    "/v1/dashboard/routing/savings",
    () => {
      const when = bounds();
      return { ...when, bucket: bucketFor(when.until - when.since, 48) };
    },
    key(),
    fixed.value ? 0 : 30_000,
  );
  const mode = shade.value;
  const chart = useMemo(() => {
    if (!from.data) return null;
    const run = (values: number[]) => {
      let sum = 0;
      return values.map((v) => (sum += v));
    };
    return {
      times: from.data.times,
      series: [
        { name: "always the best model", values: run(from.data.best), color: cssVar("--hue-1"), dash: [5, 4] },
        { name: "actual", values: run(from.data.actual), color: cssVar("--accent"), fill: true },
        { name: "always the cheapest", values: run(from.data.cheapest), color: cssVar("--ink-3"), dash: [2, 3] },
      ],
    };
  }, [from.data, mode]);
  return (
    <LoadedCard from={from} room={380} title="Cost of auto, summed up" note={from.data ? plural(from.data.traces, "routed request") : ""}>
      {(data) => {
        const total = (v: number[]) => v.reduce((a, b) => a + b, 0);
        const actual = total(data.actual);
        const best = total(data.best);
        return data.traces ? (
          <>
            <Chart label="Cost of auto" times={chart!.times} series={chart!.series} format={(v) => usd(v)} labels={usdAxis} height={240} />
            <p class="sentence num">
              <b>{usd(actual)}</b> spent; always asking the best model would have cost <b>{usd(best)}</b>
              {best > 0 ? `: ${percent(1 - actual / best)} saved` : ""}; always the cheapest about <b>{usd(total(data.cheapest))}</b>.
            </p>
          </>
        ) : (
          <p class="empty">No request was routed by auto in this range. Send one with model "auto".</p>
        );
      }}
    </LoadedCard>
  );
}

// ---------------------------------------------------------------- slider
function Slider() {
  const from = useLoad<Projection>(
    "/v1/dashboard/routing/projection",
    () => ({ since: Date.now() - 7 * DAY, until: Date.now() }),
    "",
  );
  const chosen = param("weight");
  return (
    <LoadedCard from={from} room={380} title="Cost weight" note={from.data ? `projected on ${plural(from.data.used, "routed request")} of the last seven days` : ""}>
      {(data) => {
        if (!data.points.length) return <p class="empty">Nothing to project from: no request was routed by auto in the last seven days.</p>;
        const weight = chosen === "" ? data.current_weight : Number(chosen);
        const at = data.points.reduce((a, b) => (Math.abs(b.weight - weight) < Math.abs(a.weight - weight) ? b : a));
        const now = data.points.reduce((a, b) => (Math.abs(b.weight - data.current_weight) < Math.abs(a.weight - data.current_weight) ? b : a));
        const change = (a: number, b: number) => (b ? `${a >= b ? "+" : "−"}${percent(Math.abs(a - b) / b)}` : "");
        return (
          <div class="slider">
            <label>
              <span>
                Cost weight <b class="num">{at.weight.toFixed(2)}</b>
                {Math.abs(at.weight - now.weight) < 1e-9 && <Chip tone="accent">as configured</Chip>}
              </span>
              <input
                type="range"
                min="0"
                max="1"
                step="0.05"
                value={at.weight}
                aria-valuetext={`${at.weight.toFixed(2)}: ${usd(at.cost)} a week at quality ${at.quality.toFixed(3)}`}
                onInput={(e) => set({ weight: Number(e.currentTarget.value) === data.current_weight ? null : e.currentTarget.value }, true)}
              />
              <span class="ends note">
                <span>best quality</span>
                <span>cheapest acceptable</span>
              </span>
            </label>
            <Frontier data={data} at={at} />
            <dl class="projected">
              <div>
                <dt>Cost of these requests</dt>
                <dd class="num">
                  {usd(at.cost)} <small class="note">{at === now ? "" : change(at.cost, now.cost)}</small>
                </dd>
              </div>
              <div>
                <dt>Expected quality</dt>
                <dd class="num">
                  {at.quality.toFixed(3)} <small class="note">{at === now ? "" : change(at.quality, now.quality)}</small>
                </dd>
              </div>
              {data.actual && (
                <Against title="As it was decided" of={data.actual} />
              )}
              <Against title="Always the best" of={data.best} />
              <Against title="Always the cheapest" of={data.cheapest} />
            </dl>
            <div class="shares" role="img" aria-label={Object.entries(at.shares).map(([m, s]) => `${bare(m)} ${percent(s)}`).join(", ")}>
              {Object.entries(at.shares)
                .sort((a, b) => b[1] - a[1])
                .map(([name, share]) => (
                  <span key={name} style={{ flexGrow: share, background: colorVar(name) }} title={`${bare(name)} ${percent(share)}`} />
                ))}
            </div>
            <ul class="legend">
              {Object.entries(at.shares)
                .sort((a, b) => b[1] - a[1])
                .map(([name, share]) => (
                  <li key={name}>
                    <i style={{ background: colorVar(name) }} aria-hidden="true" /> {bare(name)} <span class="num">{percent(share)}</span>
                  </li>
                ))}
            </ul>
            <p class="note">
              To keep it, set <code>cost_weight = {at.weight.toFixed(2)}</code> under <code>[auto]</code> and reload.
            </p>
          </div>
        );
      }}
    </LoadedCard>
  );
}

const Against = ({ title, of }: { title: string; of: { cost: number; quality: number } }) => (
  <div class="minor">
    <dt>{title}</dt>
    <dd class="num">
      {usd(of.cost)} <small class="note">at {of.quality.toFixed(3)}</small>
    </dd>
  </div>
);

/** Quality over cost for all weights, with where the slider stands. */
function Frontier({ data, at }: { data: Projection; at: Projection["points"][number] }) {
  const all = [...data.points, data.best, data.cheapest, ...(data.actual ? [data.actual] : [])];
  const costs = all.map((p) => p.cost);
  const marks = all.map((p) => p.quality);
  const [c0, c1] = [Math.min(...costs), Math.max(...costs)];
  const [q0, q1] = [Math.min(...marks), Math.max(...marks)];
  const x = (c: number) => 20 + ((c - c0) / (c1 - c0 || 1)) * 560;
  const y = (q: number) => 98 - ((q - q0) / (q1 - q0 || 1)) * 82;
  const line = [...data.points].sort((a, b) => a.cost - b.cost);
  return (
    <svg class="frontier" viewBox="0 0 600 124" role="img" aria-label="Quality against cost for every cost weight">
      <line x1="20" y1="106" x2="580" y2="106" class="axis" />
      <line x1="20" y1="8" x2="20" y2="106" class="axis" />
      <text x="26" y="16">quality</text>
      <text x="580" y="119" class="last">cost</text>
      <polyline points={line.map((p) => `${x(p.cost)},${y(p.quality)}`).join(" ")} />
      {data.points.map((p) => (
        <circle key={p.weight} cx={x(p.cost)} cy={y(p.quality)} r="2.2" class="dot" />
      ))}
      <circle cx={x(data.best.cost)} cy={y(data.best.quality)} r="4.5" class="mark" />
      <text x={x(data.best.cost) - 9} y={y(data.best.quality) + 18} class="last">
        always the best
      </text>
      <circle cx={x(data.cheapest.cost)} cy={y(data.cheapest.quality)} r="4.5" class="mark" />
      <text x={x(data.cheapest.cost) + 10} y={y(data.cheapest.quality) + 4}>always the cheapest</text>
      {data.actual && (
        <circle cx={x(data.actual.cost)} cy={y(data.actual.quality)} r="4.5" class="mark was">
          <title>as it was decided</title>
        </circle>
      )}
      <circle cx={x(at.cost)} cy={y(at.quality)} r="7" class="here" />
    </svg>
  );
}

// ---------------------------------------------------------------- explain
interface Decision {
  model: string;
  cluster_id: number;
  cluster_label: string;
  similarity: number;
  novelty: number;
  confidence: number;
  strategy: string;
  fallback_reason: string | null;
  routing_ms: number;
  scores: Record<string, Score>;
  nearest_clusters: Array<{ cluster_id: number; cluster_label: string; similarity: number }>;
}

function Explain() {
  const [prompt, setPrompt] = useState(param("prompt"));
  const [decision, setDecision] = useState<Decision | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const ask = async () => {
    set({ prompt: prompt || null }, true);
    try {
      const weight = param("weight");
      setDecision(await send<Decision>("POST", "/v1/route", { prompt, ...(weight ? { cost_weight: Number(weight) } : {}) }));
      setProblem(null);
    } catch (error) {
      setDecision(null);
      setProblem((error as ApiError).message);
    }
  };
  useEffect(() => {
    if (prompt) void ask();
  }, []);
  return (
    <Card title="Explain a prompt" note="decides without calling anybody">
      <form
        class="stack"
        onSubmit={(e) => {
          e.preventDefault();
          if (prompt.trim()) void ask();
        }}
      >
        <textarea
          aria-label="Prompt to explain"
          rows={3}
          placeholder="Write a SQL query that finds customers without orders"
          value={prompt}
          onInput={(e) => setPrompt(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key === "Enter" && (e.metaKey || e.ctrlKey) && prompt.trim()) void ask();
          }}
        />
        <div class="row">
          <button type="submit" class="primary" disabled={!prompt.trim()}>
            Explain
          </button>
          <span class="note">Ctrl + Enter</span>
        </div>
      </form>
      {problem && (
        <p class="bad-text" role="alert">
          {problem}
        </p>
      )}
      {decision && (
        <div aria-live="polite" class="stack">
          <p class="sentence">
            <Model name={decision.model} full /> would answer, {decision.fallback_reason ? `as the default: ${REASONS[decision.fallback_reason] ?? decision.fallback_reason}` : `with ${percent(decision.confidence)} confidence`}.
          </p>
          <div class="chips">
            {decision.nearest_clusters?.map((c) => (
              <button type="button" class="chip" key={c.cluster_id} onClick={() => set({ cluster: String(c.cluster_id) })}>
                {c.cluster_id} · {c.cluster_label} <span class="num note">{c.similarity.toFixed(2)}</span>
              </button>
            ))}
            <span class="note num">
              novelty {decision.novelty?.toFixed(2)} · {ms(decision.routing_ms)}
            </span>
          </div>
          <Scores scores={decision.scores} chosen={decision.model} word="would answer" />
        </div>
      )}
    </Card>
  );
}

// ---------------------------------------------------------------- clusters
const shortest = (cluster: Cluster) => cluster.terms.slice(0, 3).join(", ") || cluster.label;

function Map2d({ clusters, at, pick }: { clusters: Cluster[]; at: number | null; pick: (id: number) => void }) {
  const top = Math.max(...clusters.map((c) => c.requests), 1);
  const sizes = Math.max(...clusters.map((c) => c.size), 1);
  const any = clusters.some((c) => c.requests);
  return (
    <svg class="map" viewBox="-1.12 -1.12 2.24 2.24" role="group" aria-label="Map of clusters: near ones are alike">
      {clusters.map((c) => {
        const r = 0.018 + 0.07 * Math.sqrt(any ? c.requests / top : c.size / sizes);
        return (
          <circle
            key={c.id}
            cx={c.x}
            cy={c.y}
            r={r}
            class={c.id === at ? "on" : ""}
            style={{ fill: c.winner ? colorVar(c.winner) : "var(--ink-3)" }}
            tabIndex={0}
            role="button"
            aria-label={`Cluster ${c.id}: ${c.label}, ${plural(c.requests, "request")}`}
            onClick={() => pick(c.id)}
            onKeyDown={(e) => (e.key === "Enter" || e.key === " ") && pick(c.id)}
          >
            <title>{`${c.id} · ${c.label}\n${plural(c.requests, "request")}, best: ${c.winner ? bare(c.winner) : "–"}`}</title>
          </circle>
        );
      })}
    </svg>
  );
}

/** How many points of the traffic a cluster won or lost. */
function drift(c: Cluster): string {
  if (c.share === null || c.share_before === null) return "–";
  const points = (c.share - c.share_before) * 100;
  return Math.abs(points) < 0.05 ? "0" : `${points > 0 ? "+" : "−"}${Math.abs(points).toFixed(1)}`;
}

/** What the winner is expected to be worse by than the best; null when it is not known. */
function regret(c: Cluster): number | null {
  const won = c.winner ? c.models[c.winner]?.quality : null;
  const marks = Object.values(c.models).map((s) => s.quality).filter((q): q is number => q !== null);
  return won === null || won === undefined || !marks.length ? null : Math.max(0, Math.max(...marks) - won);
}

type Shade = "quality" | "cost";

/** The share between the lowest and the highest of a row, for the shade of a cell. */
function HeatMap({ data, by, at, pick }: { data: RoutingAnswer; by: Shade; at: number | null; pick: (id: number) => void }) {
  const values = data.clusters.flatMap((c) => data.models.map((m) => c.models[m]?.[by] ?? null)).filter((v): v is number => v !== null);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const scale = (v: number) => (by === "cost" ? (Math.log(v) - Math.log(low)) / (Math.log(high) - Math.log(low) || 1) : (v - low) / (high - low || 1));
  if (!values.length) return <p class="empty">Nothing is known about the models that auto may choose from.</p>;
  return (
    <div class="scroll tall" tabIndex={0} role="group" aria-label="Heat map of clusters and models">
      <table class="heat">
        <thead>
          <tr>
            <th scope="col">Cluster</th>
            <th scope="col" class="r" title="Routed requests in the range, and their share">Requests</th>
            <th scope="col" class="r" title="Change of the share against the period before, in points">Drift</th>
            <th scope="col" class="r" title="What a thousand requests cost">$ / 1k</th>
            <th scope="col" class="r" title="Mean latency">Latency</th>
            <th scope="col" class="r" title="Expected quality that the choice gives away against the best model">Regret</th>
            {data.models.map((m) => (
              <th scope="col" key={m} title={m}>
                <Model name={m} />
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {data.clusters.map((c) => (
            <tr key={c.id} class={c.id === at ? "chosen" : ""}>
              <th scope="row">
                <button type="button" class="value" title={c.label} onClick={() => pick(c.id)}>
                  <span class="num note">{c.id}</span> {shortest(c)}
                </button>
              </th>
              <td class="r num">
                {count(c.requests)} <small class="note">{c.requests ? percent(c.share) : ""}</small>
              </td>
              <td class="r num note">{drift(c)}</td>
              <td class="r num">{c.requests ? usd((c.cost_nano / 1e9 / c.requests) * 1000) : "–"}</td>
              <td class="r num">{ms(c.latency_avg)}</td>
              <td class="r num">{regret(c)?.toFixed(2) ?? "–"}</td>
              {data.models.map((m) => {
                const s = c.models[m];
                const v = s?.[by] ?? null;
                return (
                  <td key={m} class={`cell ${m === c.winner ? "winner" : ""}`} style={v === null ? {} : { "--heat": scale(v).toFixed(3) }} title={s ? `${bare(m)}: quality ${s.quality?.toFixed(3) ?? "–"}, cost ${usd(s.cost)}` : ""}>
                    <span class="num">{v === null ? "–" : by === "cost" ? usd(v) : v.toFixed(2)}</span>
                    {m === c.winner && <Icon name="check" size={12} />}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function ClusterDetail({ cluster, models }: { cluster: Cluster; models: string[] }) {
  const shown = Object.fromEntries(models.filter((m) => cluster.models[m]).map((m) => [m, cluster.models[m]]));
  return (
    <div class="stack cluster">
      <h3>
        {cluster.id} · {cluster.label}
        <button type="button" class="ghost" aria-label="Close the cluster" onClick={() => set({ cluster: null }, true)}>
          <Icon name="close" />
        </button>
      </h3>
      <p class="note num">
        {plural(cluster.requests, "request")} in range · {usd(cluster.cost_nano / 1e9)} · {plural(cluster.errors, "failure")} · learned from {count(cluster.size)} prompts
      </p>
      <p class="sentence">{clusterSentence(cluster)}</p>
      {cluster.examples.length > 0 && (
        <ul class="examples">
          {cluster.examples.map((text, i) => (
            <li key={i}>{text}</li>
          ))}
        </ul>
      )}
      <Scores scores={shown} chosen={cluster.winner ?? ""} word="would answer" />
      <div class="row">
        <a class="button" href={link("/traces", { q: term("cluster", String(cluster.id)) })}>
          Its traces
        </a>
        <a class="button" href={link("/datasets", { new: term("cluster", String(cluster.id)) })}>
          Make a dataset
        </a>
      </div>
    </div>
  );
}

function clusterSentence(c: Cluster): string {
  if (!c.winner) return "No model is established here: the default answers.";
  const won = c.models[c.winner];
  const able = Object.entries(c.models).filter(([, s]) => s.quality !== null);
  const best = able.sort((a, b) => (b[1].quality ?? 0) - (a[1].quality ?? 0))[0];
  if (!best || best[0] === c.winner) return `${bare(c.winner)} is expected to be best here.`;
  const ratio = won.cost && best[1].cost ? best[1].cost / won.cost : null;
  return `${bare(c.winner)} expected quality ${won.quality?.toFixed(2)} against ${best[1].quality?.toFixed(2)} for ${bare(best[0])}${ratio && ratio > 1.05 ? `, ${ratio.toFixed(ratio < 10 ? 1 : 0)}× cheaper` : ""}.`;
}

function Clusters({ from }: { from: Loaded<RoutingAnswer> }) {
  const by: Shade = param("heat") === "cost" ? "cost" : "quality";
  const at = param("cluster") === "" ? null : Number(param("cluster"));
  const detail = useRef<HTMLDivElement>(null);
  const pick = (id: number) => set({ cluster: String(id) }, true);
  useEffect(() => {
    if (at !== null) detail.current?.scrollIntoView({ block: "nearest" });
  }, [at]);
  return (
    <LoadedCard
      from={from}
      room={750}
      title="Clusters"
      note={from.data ? `${plural(from.data.clusters.length, "kind")} of prompt; colour and ✓: who would answer` : ""}
      actions={
        <div class="segments">
          {(["quality", "cost"] as const).map((name) => (
            <button type="button" key={name} aria-pressed={by === name} onClick={() => set({ heat: name === "quality" ? null : name }, true)}>
              {name}
            </button>
          ))}
        </div>
      }
    >
      {(data) =>
        data.problem && !data.clusters.length ? (
          <p class="empty">{data.problem}</p>
        ) : (
          <div class="clusters">
            <div ref={detail}>
              <Map2d clusters={data.clusters} at={at} pick={pick} />
              {data.clusters.filter((c) => c.id === at).map((c) => (
                <ClusterDetail key={c.id} cluster={c} models={data.models} />
              ))}
            </div>
            <HeatMap data={data} by={by} at={at} pick={pick} />
          </div>
        )
      }
    </LoadedCard>
  );
}

// ---------------------------------------------------------------- log
function Decisions({ clusters }: { clusters: Cluster[] }) {
  const from = useLoad<{ data: Row[] }>("/v1/traces", () => ({ q: "requested:auto", ...bounds(), limit: 8 }), key(), fixed.value ? 0 : 15_000);
  const name = (id: number) => clusters.find((c) => c.id === id);
  return (
    <LoadedCard
      from={from}
      room={280}
      title="Latest decisions"
      actions={
        <a class="button small" href={link("/traces", { q: "requested:auto", cols: "time,status,model,cluster,latency,cost" })}>
          All of them
        </a>
      }
    >
      {(data) =>
        data.data.length ? (
          <table class="log">
            <thead>
              <tr>
                <th scope="col">When</th>
                <th scope="col">Answered</th>
                <th scope="col" class="hide-narrow">Cluster</th>
                <th scope="col" class="r">Cost</th>
                <th scope="col" class="r hide-narrow" title="What the model with the best expected quality would have cost">Best</th>
              </tr>
            </thead>
            <tbody>
              {data.data.map((r) => {
                const cluster = r.cluster_id === null ? undefined : name(r.cluster_id);
                return (
                  <tr key={r.trace_id}>
                    <td>
                      <a href={`/traces/${r.trace_id}`} class="num" title={bothClocks(r.ts_ms)}>
                        {ago(r.ts_ms)}
                      </a>
                    </td>
                    <td>
                      <Model name={r.model || "no model"} />
                    </td>
                    <td class="hide-narrow cut note">
                      {r.cluster_id === null ? "–" : `${r.cluster_id}${cluster ? ` ${shortest(cluster)}` : ""}`}
                    </td>
                    <td class="r num">{nano(r.cost_nano)}</td>
                    <td class="r num note hide-narrow">{nano(r.counterfactual_nano)}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        ) : (
          <p class="empty">No request was routed by auto in this range.</p>
        )
      }
    </LoadedCard>
  );
}

export function RoutingScreen() {
  const clusters = useLoad<RoutingAnswer>(
    "/v1/dashboard/routing/clusters",
    () => ({ ...bounds(), weight: param("weight") || undefined }),
    `${key()} ${param("weight")}`,
  );
  return (
    <Screen title="Routing" lead='How "auto" chooses, and what that saves' tools={<RangePicker />}>
      <div class="cards two">
        <SavingsCard />
        <Slider />
      </div>
      <Clusters from={clusters} />
      <div class="cards two">
        <Explain />
        <div class="stack">
          <Decisions clusters={clusters.data?.clusters ?? []} />
          <Versions />
        </div>
      </div>
      <Learned />
    </Screen>
  );
}
