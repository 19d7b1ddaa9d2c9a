// One trace: what happened when, what was said, why this model, what it cost and why; and what another model would say.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { streamChat, send } from "../lib/api";
import { bare, clock, count, ms, nano, percent, usd } from "../lib/format";
import { useKeys } from "../lib/keys";
import { useLoad } from "../lib/load";
import { answerText, conversation, parse, pretty, tools, type Turn } from "../lib/messages";
import { wordDiff } from "../lib/diff";
import { session } from "../lib/session";
import { curl, python } from "../lib/snippets";
import { attempt, toast } from "../lib/toast";
import { go, link, param } from "../lib/url";
import type { Score, Trace, TraceAnswer } from "../lib/types";
import { Ago, Code, CopyButton, Failed, Model, Money, Outcome, Screen, Skeleton, Stat, Tabs, copy } from "../ui/basics";
import { Icon } from "../ui/icons";
import { Markdown } from "../ui/markdown";
import { Value } from "../ui/value";

// ---------------------------------------------------------------- waterfall
interface Span {
  name: string;
  start: number;
  ms: number;
  tone: string;
  note: string;
}

/** What the time went into, gaps between attempts included. */
function spans(t: Trace): Span[] {
  const out: Span[] = [];
  let at = 0;
  const put = (name: string, length: number | null, tone: string, note = "") => {
    if (!length) return;
    out.push({ name, start: at, ms: length, tone, note });
    at += length;
  };
  put("queue", t.queue_ms, "wait");
  put("embed", t.embedding_ms, "route");
  put("route", t.routing_ms === null ? null : Math.max(0, t.routing_ms - (t.embedding_ms ?? 0)), "route", t.cluster_label ?? "");
  t.attempts.forEach((a, i) => {
    if (a.start_ms - at > 1 && i > 0) out.push({ name: "backoff", start: at, ms: a.start_ms - at, tone: "wait", note: t.attempts[i - 1].reason ?? "" });
    const last = i === t.attempts.length - 1;
    const first = a.ttft_ms ?? (last && t.ttft_ms !== null ? t.ttft_ms - a.start_ms : null);
    const failed = a.code !== null || (a.status !== null && a.status >= 400);
    const label = `${i + 1} · ${bare(a.target)}`;
    const note = [a.status ? String(a.status) : "", a.code ?? ""].filter(Boolean).join(" ");
    if (first !== null && first > 0 && first < a.ms && !failed) {
      out.push({ name: label, start: a.start_ms, ms: first, tone: "wait-model", note: `first token after ${ms(first)}` });
      out.push({ name: "stream", start: a.start_ms + first, ms: a.ms - first, tone: "good", note: t.tokens_out ? `${(t.tokens_out / ((a.ms - first) / 1000)).toFixed(0)} tokens/s` : "" });
    } else out.push({ name: label, start: a.start_ms, ms: a.ms, tone: failed ? "bad" : "good", note });
    at = a.start_ms + a.ms;
  });
  if (t.latency_ms - at > Math.max(2, t.latency_ms * 0.02)) out.push({ name: "rest", start: at, ms: t.latency_ms - at, tone: "wait", note: "" });
  return out;
}

function Waterfall({ trace }: { trace: Trace }) {
  const [log, setLog] = useState(false);
  const all = spans(trace);
  const total = Math.max(trace.latency_ms, ...all.map((s) => s.start + s.ms), 1);
  const place = (value: number) => (log ? Math.log1p(value) / Math.log1p(total) : value / total) * 100;
  return (
    <section class="part" aria-label="Timeline">
      <h3>
        Timeline
        <label class="check">
          <input type="checkbox" checked={log} onChange={() => setLog(!log)} /> log scale
        </label>
      </h3>
      <ol class="waterfall">
        {all.map((s, i) => (
          <li key={i}>
            <span class="cut">{s.name}</span>
            <span class="lane">
              <i class={s.tone} style={{ left: `${place(s.start)}%`, width: `max(2px, ${place(s.start + s.ms) - place(s.start)}%)` }} />
            </span>
            <span class="num r">{ms(s.ms)}</span>
            {s.note && <small class={s.tone === "bad" ? "bad-text" : "note"}>{s.note}</small>}
          </li>
        ))}
      </ol>
    </section>
  );
}

// ---------------------------------------------------------------- messages
const MODES = ["Formatted", "Plain", "JSON"];

function TurnView({ turn, plain }: { turn: Turn; plain: boolean }) {
  const long = turn.text.length > 6_000;
  const [whole, setWhole] = useState(!long);
  const text = whole ? turn.text : turn.text.slice(0, 6_000);
  return (
    <article class={`turn ${turn.role}`}>
      <header>
        <b>{turn.role}</b>
        {turn.answers && <span class="note">answers {turn.answers}</span>}
        {turn.images > 0 && <span class="chip">{turn.images} attachment{turn.images > 1 ? "s" : ""}, not shown</span>}
        <CopyButton text={() => turn.text} what="Message" label="" />
      </header>
      {turn.reasoning && (
        <details>
          <summary>Reasoning</summary>
          <pre tabIndex={0}>{turn.reasoning}</pre>
        </details>
      )}
      {text && (plain ? <pre tabIndex={0}>{text}</pre> : <Markdown text={text} />)}
      {!whole && (
        <button type="button" class="small" onClick={() => setWhole(true)}>
          Show all {count(turn.text.length)} characters
        </button>
      )}
      {turn.calls.map((call) => (
        <div class="call" key={call.id}>
          <b>{call.name}</b> <span class="note">{call.id}</span>
          <pre tabIndex={0}>{call.args}</pre>
        </div>
      ))}
    </article>
  );
}

function Messages({ answer }: { answer: TraceAnswer }) {
  const [mode, setMode] = useState(MODES[0]);
  const { trace } = answer;
  const turns = useMemo(() => conversation(trace.request, trace.response), [trace]);
  return (
    <section class="part" aria-label="Messages">
      <h3>
        Messages
        <Tabs names={MODES} at={mode} pick={setMode} label="How messages are shown" />
      </h3>
      {answer.body_note && <p class="note">{answer.body_note}</p>}
      {mode === "JSON" ? (
        <>
          {trace.request && <Code text={pretty(trace.request)} what="Request" />}
          {trace.response && <Code text={pretty(trace.response)} what="Response" />}
        </>
      ) : (
        turns.map((turn, i) => <TurnView key={i} turn={turn} plain={mode === "Plain"} />)
      )}
    </section>
  );
}

function Tools({ request }: { request: string | null }) {
  const all = tools(request);
  if (!all.length) return null;
  return (
    <section class="part" aria-label="Tools">
      <h3>Tools offered</h3>
      {all.map((tool) => (
        <details key={tool.name}>
          <summary>
            <b>{tool.name}</b> <span class="note">{tool.description}</span>
          </summary>
          <pre tabIndex={0}>{tool.schema}</pre>
        </details>
      ))}
    </section>
  );
}

// ---------------------------------------------------------------- routing
/** The decision as one sentence. */
export function sentence(t: Trace): string {
  const scores = t.route_candidates ?? {};
  const chosen = scores[t.model] ?? Object.entries(scores).find(([name]) => bare(name) === bare(t.model))?.[1];
  const able = Object.entries(scores).filter(([, s]) => s.quality !== null && !s.excluded);
  const best = able.sort((a, b) => (b[1].quality ?? 0) - (a[1].quality ?? 0))[0];
  const where = t.cluster_id === null ? "" : `cluster ${t.cluster_id}${t.cluster_label ? ` (${t.cluster_label})` : ""}: `;
  if (!chosen || chosen.quality === null || !best) return `${where}${bare(t.model)} answered${t.fallback_reason ? ` (${t.fallback_reason})` : ""}.`;
  const name = bare(t.model);
  const own = `${where}${name} expected quality ${chosen.quality!.toFixed(2)}`;
  if (best[1] === chosen) return `${own}, the best of ${able.length} that could serve it.`;
  const ratio = chosen.cost && best[1].cost ? best[1].cost / chosen.cost : null;
  const price = ratio === null ? "" : ratio >= 1.05 ? `, ${ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(1)}× cheaper` : ratio <= 0.95 ? `, ${(1 / ratio).toFixed(1)}× dearer` : ", at the same cost";
  return `${own} against ${best[1].quality!.toFixed(2)} for ${bare(best[0])}${price}.`;
}

export function Scores({ scores, chosen, word = "answered" }: { scores: Record<string, Score>; chosen: string; word?: string }) {
  const rows = Object.entries(scores).sort((a, b) => (b[1].utility ?? -9) - (a[1].utility ?? -9));
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="Scores of the candidates">
      <table>
        <thead>
          <tr>
            <th scope="col">Candidate</th>
            <th scope="col" class="r">Quality</th>
            <th scope="col" class="r">Cost</th>
            <th scope="col" class="r hide-narrow">Utility</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, s]) => (
            <tr key={name} class={name === chosen || bare(name) === bare(chosen) ? "chosen" : ""}>
              <td>
                <Model name={name} /> {(name === chosen || bare(name) === bare(chosen)) && <span class="chip accent">{word}</span>}
                {s.excluded && <small class="note">not possible: {s.excluded}</small>}
              </td>
              <td class="r num">{s.quality === null ? "–" : `${s.quality.toFixed(2)}${s.quality_error ? ` ±${s.quality_error.toFixed(2)}` : ""}`}</td>
              <td class="r num">{usd(s.cost)}</td>
              <td class="r num hide-narrow">{s.utility === null ? "–" : s.utility.toFixed(3)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export const REASONS: Record<string, string> = {
  margin: "another model looked better, but by less than the estimates can tell apart",
  novel: "the prompt resembles nothing the router has learned from, so the default answered",
  thin: "too little is known about the models to leave the default",
  default_unavailable: "the default model could not be called",
  only_candidate: "no other model could serve the request",
  empty: "the prompt is empty",
  too_long: "the prompt is too long to be judged",
  unreadable: "the prompt has no readable text",
};

function Routing({ trace }: { trace: Trace }) {
  if (trace.cluster_id === null && !trace.route_candidates) return null;
  const reason = trace.fallback_reason;
  return (
    <section class="part" aria-label="Routing">
      <h3>
        Why this model
        <a class="note" href={link("/routing", { cluster: String(trace.cluster_id ?? "") })}>
          open the cluster
        </a>
      </h3>
      <p class="sentence">{sentence(trace)}</p>
      {reason && <p class="note">{REASONS[reason] ?? reason}</p>}
      {trace.counterfactual_nano !== null && trace.cost_nano !== null && trace.counterfactual_nano > trace.cost_nano && (
        <p class="note num">
          The best model would have cost about {nano(trace.counterfactual_nano)}; this was {nano(trace.cost_nano)} (
          {percent(1 - trace.cost_nano / trace.counterfactual_nano)} less).
        </p>
      )}
      {trace.route_candidates && Object.keys(trace.route_candidates).length > 0 && <Scores scores={trace.route_candidates} chosen={trace.model} />}
      <p class="note">
        policy {trace.route_policy ?? "–"}, router {trace.router_version ?? "–"}
      </p>
    </section>
  );
}

// ---------------------------------------------------------------- cost
function Cost({ answer }: { answer: TraceAnswer }) {
  const { cost, trace } = answer;
  return (
    <section class="part" aria-label="Cost">
      <h3>
        Cost <b class="num">{nano(trace.cost_nano)}</b>
      </h3>
      {cost ? (
        <>
          <table class="sum">
            <tbody>
              {cost.parts.map((p) => (
                <tr key={p.name}>
                  <th scope="row">{p.name}</th>
                  <td class="r num">{count(p.tokens)} tokens</td>
                  <td class="r num">× {p.usd_per_million === null ? "–" : usd(p.usd_per_million)} / M</td>
                  <td class="r num">= {nano(p.nano)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <p class="note">
            Prices of {cost.updated} ({cost.source}).{" "}
            {cost.total_nano !== trace.cost_nano && `Today's prices give ${nano(cost.total_nano)}; what was recorded stands.`}
            {trace.cost_estimated && " Tokens were counted here, because the caller left before the provider said them."}
          </p>
        </>
      ) : (
        <p class="note">
          {trace.cost_nano === null
            ? "Not known: the price list has no price for this model, or the provider reported no usage. It is not counted as zero."
            : "The recorded cost cannot be taken apart any more."}
        </p>
      )}
    </section>
  );
}

// ---------------------------------------------------------------- feedback
function Feedback({ answer, again }: { answer: TraceAnswer; again: () => void }) {
  const [comment, setComment] = useState("");
  const metric = session.value?.metric ?? "quality";
  const say = async (metric: string, value: unknown) => {
    const done = await attempt(() => send("POST", "/v1/feedback", { trace_id: answer.trace.trace_id, metric, value }));
    if (done) {
      toast("Thank you, kept with the trace");
      again();
    }
  };
  return (
    <section class="part" aria-label="Feedback">
      <h3>
        Feedback
        <span class="note" title="auto.metric in the configuration">
          the router learns from <code>{metric}</code>
        </span>
      </h3>
      <div class="row">
        <button type="button" class="small" onClick={() => void say(metric, true)}>
          <Icon name="check" size={14} /> Good answer
        </button>
        <button type="button" class="small" onClick={() => void say(metric, false)}>
          <Icon name="cross" size={14} /> Bad answer
        </button>
        <form
          class="row grow"
          onSubmit={(e) => {
            e.preventDefault();
            if (comment.trim()) void say("comment", comment.trim()).then(() => setComment(""));
          }}
        >
          <input aria-label="Comment" placeholder="Comment" value={comment} onInput={(e) => setComment(e.currentTarget.value)} />
          <button type="submit" class="small">
            Add
          </button>
        </form>
      </div>
      {answer.feedback.length > 0 && (
        <ul class="plain">
          {answer.feedback.map((f, i) => (
            <li key={i}>
              <b>{f.metric}</b> {String(f.value)} <span class="note">{f.author ?? ""} <Ago at={f.ts_ms} /></span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

// ---------------------------------------------------------------- replay
interface Run {
  text: string;
  state: "running" | "done" | "failed";
  note: string;
  model: string;
  cost: number | null;
  latency: number | null;
  traceId: string | null;
}

function Replay({ trace }: { trace: Trace }) {
  const body = useMemo(() => parse(trace.request), [trace]);
  const [model, setModel] = useState(trace.requested_model);
  const [run, setRun] = useState<Run | null>(null);
  const abort = useRef<AbortController | null>(null);
  useEffect(() => () => abort.current?.abort(), []);
  if (!body || !Array.isArray(body.messages)) return null;
  const start = async () => {
    abort.current?.abort();
    const control = (abort.current = new AbortController());
    const fresh: Run = { text: "", state: "running", note: "", model, cost: null, latency: null, traceId: null };
    setRun(fresh);
    try {
      const end = await streamChat(
        { ...body, model, metadata: { ...((body.metadata as object) ?? {}), replay_of: trace.trace_id } },
        (delta) => {
          fresh.text += delta.text;
          if (delta.extras) {
            fresh.cost = (delta.extras._cost as number | null) ?? null;
            fresh.latency = (delta.extras._latency_ms as number | null) ?? null;
            fresh.model = String((delta.extras._routing as { selected_model?: string })?.selected_model ?? model);
          }
          setRun({ ...fresh });
        },
        control.signal,
      );
      setRun({ ...fresh, state: "done", traceId: end.traceId });
    } catch (error) {
      if ((error as Error).name !== "AbortError") setRun({ ...fresh, state: "failed", note: (error as Error).message });
    }
  };
  const before = answerText(trace.response);
  return (
    <section class="part" aria-label="Replay">
      <h3>Replay</h3>
      <form
        class="row"
        onSubmit={(e) => {
          e.preventDefault();
          void start();
        }}
      >
        <input aria-label="Model for the replay" list="models" value={model} onInput={(e) => setModel(e.currentTarget.value)} />
        <button type="submit" class="primary" disabled={run?.state === "running"}>
          <Icon name="play" size={14} /> {run?.state === "running" ? "Running…" : "Replay"}
        </button>
        <a class="button" href={link("/playground", { from: trace.trace_id })}>
          Open in the playground
        </a>
      </form>
      {run && (
        <div class="replay" aria-live="polite">
          <p class="note num">
            <Model name={run.model} /> {ms(run.latency)} · {usd(run.cost)} · was {ms(trace.latency_ms)} · {nano(trace.cost_nano)}
            {run.traceId && (
              <>
                {" "}· <a href={`/traces/${run.traceId}`}>its trace</a>
              </>
            )}
          </p>
          {run.state === "failed" && <p class="bad-text">{run.note}</p>}
          {run.state === "done" ? (
            <p class="diff">
              {wordDiff(before, run.text).map((p, i) => (p.kind === "same" ? p.text : p.kind === "added" ? <ins key={i}>{p.text}</ins> : <del key={i}>{p.text}</del>))}
            </p>
          ) : (
            <p class="diff">{run.text}</p>
          )}
        </div>
      )}
    </section>
  );
}

// ---------------------------------------------------------------- whole
function Facts({ trace }: { trace: Trace }) {
  const rows: Array<[string, string, string]> = [];
  const put = (name: string, field: string, value: string | number | null | undefined) =>
    value !== null && value !== undefined && value !== "" && rows.push([name, field, String(value)]);
  put("Model", "model", trace.model);
  put("Asked for", "requested", trace.requested_model);
  put("Provider", "provider", trace.provider);
  put("Alias", "alias", trace.alias);
  put("Cluster", "cluster", trace.cluster_id);
  put("Key", "key", trace.key_id);
  put("User", "user", trace.user_id);
  put("Session", "session", trace.session_id);
  put("Error", "error", trace.error_type);
  put("Finish", "finish", trace.finish_reason);
  for (const tag of trace.tags ?? []) rows.push(["Tag", "tag", tag]);
  return (
    <dl class="facts">
      {rows.map(([name, field, value]) => (
        <div key={name + value}>
          <dt>{name}</dt>
          <dd>
            <Value field={field} value={value} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

interface DetailProps {
  id: string;
  close?: () => void;
  previous?: () => void;
  next?: () => void;
}

export function TraceDetail({ id, close, previous, next }: DetailProps) {
  const from = useLoad<TraceAnswer>(`/v1/dashboard/traces/${encodeURIComponent(id)}`, () => ({}), id);
  const answer = from.data?.trace.trace_id === id ? from.data : null;
  const trace = answer?.trace;
  const keyed = session.value?.keys_required ?? false;
  return (
    <div class="trace">
      <header class="trace-head">
        <div class="row">
          {previous !== undefined || next !== undefined ? (
            <>
              <button type="button" class="ghost" aria-label="Previous trace (k)" disabled={!previous} onClick={previous}>
                <Icon name="left" />
              </button>
              <button type="button" class="ghost" aria-label="Next trace (j)" disabled={!next} onClick={next}>
                <Icon name="right" />
              </button>
            </>
          ) : null}
          <button type="button" class="id" title="Copy the trace id" onClick={() => void copy(id, "Trace id")}>
            {id}
          </button>
          {close && (
            <>
              <a class="button ghost" href={`/traces/${id}`}>
                Full page
              </a>
              <button type="button" class="ghost" aria-label="Close (Escape)" onClick={close}>
                <Icon name="close" />
              </button>
            </>
          )}
        </div>
        {trace && (
          <>
            <h2>
              <Model name={trace.model || trace.requested_model} full /> <Outcome outcome={trace.outcome} http={trace.http_status} />
            </h2>
            <p class="note">
              {clock(trace.ts_ms)} · <Ago at={trace.ts_ms} />
            </p>
            <div class="stats">
              <Stat label="Latency">{ms(trace.latency_ms)}</Stat>
              <Stat label="First token">{ms(trace.ttft_ms)}</Stat>
              <Stat label="Tokens in">
                {count(trace.tokens_in)}
                {trace.tokens_cached ? <small class="note"> {count(trace.tokens_cached)} cached</small> : null}
              </Stat>
              <Stat label="Tokens out">{count(trace.tokens_out)}</Stat>
              <Stat label="Cost">
                <Money value={trace.cost_nano} />
              </Stat>
              <Stat label="Speed">
                {trace.tokens_out && trace.latency_ms > (trace.ttft_ms ?? 0) ? `${(trace.tokens_out / ((trace.latency_ms - (trace.ttft_ms ?? 0)) / 1000)).toFixed(0)} tok/s` : "–"}
              </Stat>
            </div>
          </>
        )}
      </header>
      {from.error && <Failed error={from.error} again={from.reload} />}
      {!answer && !from.error && <Skeleton />}
      {answer && trace && (
        <>
          {trace.error_msg && (
            <div class="failed" role="note">
              <Icon name="warn" />
              <span>
                {trace.error_code && <b>{trace.error_code}: </b>}
                {trace.error_msg}
              </span>
            </div>
          )}
          <div class="trace-main">
            <Waterfall trace={trace} />
            <Messages answer={answer} />
            <Tools request={trace.request} />
          </div>
          <div class="trace-side">
          <Routing trace={trace} />
          <Cost answer={answer} />
          <Replay trace={trace} />
          <section class="part" aria-label="Details">
            <h3>
              Details
              <span class="row">
                {trace.request && parse(trace.request) && (
                  <>
                    <CopyButton text={() => curl(parse(trace.request), keyed)} what="curl command" label="Copy as curl" />
                    <CopyButton text={() => python(parse(trace.request)!, keyed)} what="Python code" label="Copy as Python" />
                  </>
                )}
              </span>
            </h3>
            <Facts trace={trace} />
            {trace.metadata && <Code text={JSON.stringify(trace.metadata, null, 2)} what="Metadata" />}
          </section>
          <Feedback answer={answer} again={from.reload} />
          </div>
        </>
      )}
    </div>
  );
}

export function TracePage({ id }: { id: string }) {
  useKeys({ Escape: () => go(link("/traces")) });
  return (
    <Screen
      title="Trace"
      tools={
        <a class="button" href={link("/traces", param("q") ? { q: param("q") } : {})}>
          <Icon name="left" size={14} /> All traces
        </a>
      }
    >
      <div class="page">
        <TraceDetail id={id} />
      </div>
    </Screen>
  );
}

