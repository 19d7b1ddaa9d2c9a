// Playground: one prompt, up to four models side by side, with what each took and cost; saved as a row of a dataset.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, send, streamChat } from "../lib/api";
import { wordDiff } from "../lib/diff";
import { count, ms, usd } from "../lib/format";
import { conversation, parse } from "../lib/messages";
import { session } from "../lib/session";
import { attempt, toast } from "../lib/toast";
import { param, params, set } from "../lib/url";
import type { TraceAnswer } from "../lib/types";
import { Card, CopyButton, Field, Model, Screen } from "../ui/basics";
import { Dialog } from "../ui/dialog";
import { Icon } from "../ui/icons";
import { Markdown } from "../ui/markdown";

const MOST = 4;

interface Run {
  state: "idle" | "running" | "done" | "failed";
  text: string;
  reasoning: string;
  problem: string;
  model: string;
  first: number | null;
  latency: number | null;
  cost: number | null;
  tokensIn: number | null;
  tokensOut: number | null;
  traceId: string | null;
}

const idle = (): Run => ({ state: "idle", text: "", reasoning: "", problem: "", model: "", first: null, latency: null, cost: null, tokensIn: null, tokensOut: null, traceId: null });

async function run(body: Record<string, unknown>, signal: AbortSignal, show: (run: Run) => void) {
  const now = { ...idle(), state: "running" as Run["state"], model: String(body.model) };
  show({ ...now });
  const begun = performance.now();
  let frame = 0;
  const soon = () => {
    // pieces come faster than anybody reads: one drawing per frame
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      show({ ...now });
    });
  };
  try {
    const end = await streamChat(
      { ...body, stream_options: { include_usage: true } },
      (delta) => {
        if ((delta.text || delta.reasoning) && now.first === null) now.first = performance.now() - begun;
        now.text += delta.text;
        now.reasoning += delta.reasoning;
        if (delta.usage) {
          now.tokensIn = delta.usage.prompt_tokens ?? null;
          now.tokensOut = delta.usage.completion_tokens ?? null;
        }
        if (delta.extras) {
          now.cost = (delta.extras._cost as number | null) ?? null;
          const routing = delta.extras._routing as { selected_model?: string } | undefined;
          now.model = routing?.selected_model ?? now.model;
        }
        soon();
      },
      signal,
    );
    now.state = "done";
    now.traceId = end.traceId;
    // as the first token is: seen from here, so that the two can be compared
    now.latency = performance.now() - begun;
  } catch (error) {
    if ((error as Error).name === "AbortError") now.state = "done";
    else {
      now.state = "failed";
      now.problem = (error as Error).message;
    }
  }
  cancelAnimationFrame(frame);
  show({ ...now });
}

function Column({ model, pick, run: r, against, drop }: { model: string; pick: (m: string) => void; run: Run; against: Run | null; drop?: () => void }) {
  return (
    <section class={`column ${r.state}`} aria-label={`Answer of ${model}`}>
      <header class="row">
        <input aria-label="Model" list="models" value={model} onInput={(e) => pick(e.currentTarget.value)} />
        {drop && (
          <button type="button" class="ghost" aria-label={`Remove ${model}`} onClick={drop}>
            <Icon name="close" />
          </button>
        )}
      </header>
      <dl class="figures num">
        <div>
          <dt>Latency</dt>
          <dd>{ms(r.latency)}</dd>
        </div>
        <div>
          <dt>First token</dt>
          <dd>{ms(r.first)}</dd>
        </div>
        <div>
          <dt>Tokens</dt>
          <dd>{r.tokensOut === null ? "–" : `${count(r.tokensIn)} → ${count(r.tokensOut)}`}</dd>
        </div>
        <div>
          <dt>Cost</dt>
          <dd>{usd(r.cost)}</dd>
        </div>
      </dl>
      <div class="answer" aria-live="polite" aria-busy={r.state === "running"} tabIndex={0} role="group" aria-label="Answer">
        {r.state === "idle" && <p class="empty">Runs when you press Run.</p>}
        {r.state === "failed" && <p class="bad-text">{r.problem}</p>}
        {r.reasoning && (
          <details>
            <summary>Reasoning</summary>
            <pre tabIndex={0}>{r.reasoning}</pre>
          </details>
        )}
        {against && against.text && r.state === "done" ? (
          <p class="diff">
            {wordDiff(against.text, r.text).map((p, i) => (p.kind === "same" ? p.text : p.kind === "added" ? <ins key={i}>{p.text}</ins> : <del key={i}>{p.text}</del>))}
          </p>
        ) : (
          <Markdown text={r.text} />
        )}
      </div>
      {r.state === "done" && (
        <footer class="row">
          {r.model && r.model !== model && <Model name={r.model} />}
          <CopyButton text={() => r.text} what="Answer" />
          {r.traceId && (
            <a class="button small" href={`/traces/${r.traceId}`}>
              Trace
            </a>
          )}
        </footer>
      )}
    </section>
  );
}

function SaveRow({ close, system, prompt, answer }: { close: () => void; system: string; prompt: string; answer: string }) {
  const [name, setName] = useState("playground");
  const [expected, setExpected] = useState(answer);
  const save = async () => {
    const messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }];
    const done = await attempt(() => send<{ version: number; rows: number }>("POST", `/v1/dashboard/datasets/${encodeURIComponent(name)}/rows`, { rows: [{ messages, answer: expected || null }] }));
    if (done) {
      toast(`Saved: ${name}, version ${done.version}, now ${done.rows} rows`);
      close();
    }
  };
  return (
    <Dialog title="Save as a dataset row" close={close}>
      <form
        class="stack"
        onSubmit={(e) => {
          e.preventDefault();
          void save();
        }}
      >
        <Field label="Dataset" hint="A new name makes a new dataset; an old one gets a new version.">
          <input value={name} required pattern="[A-Za-z0-9][A-Za-z0-9._\-]{0,63}" onInput={(e) => setName(e.currentTarget.value)} />
        </Field>
        <Field label="Expected answer" hint="What evaluations compare with; may be left empty.">
          <textarea rows={6} value={expected} onInput={(e) => setExpected(e.currentTarget.value)} />
        </Field>
        <div class="row end">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Save
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function Playground() {
  const known = session.value?.models ?? [];
  const models = param("models") ? param("models").split(",") : known.slice(0, 2).length ? known.slice(0, 2) : ["auto"];
  const [system, setSystem] = useState(param("system"));
  const [prompt, setPrompt] = useState(param("prompt"));
  const [more, setMore] = useState<Record<string, unknown>>({});
  const [runs, setRuns] = useState<Run[]>(models.map(idle));
  const [saving, setSaving] = useState(false);
  const [temperature, setTemperature] = useState("");
  const [limit, setLimit] = useState("");
  const abort = useRef<AbortController | null>(null);
  const diff = params.value.get("diff") === "1";
  const running = runs.some((r) => r.state === "running");

  useEffect(() => () => abort.current?.abort(), []);
  useEffect(() => {
    const source = param("from");
    if (!source) return;
    void attempt(() => get<TraceAnswer>(`/v1/dashboard/traces/${source}`)).then((answer) => {
      if (!answer) return;
      const body = parse(answer.trace.request);
      const turns = conversation(answer.trace.request, null);
      setSystem(turns.find((t) => t.role === "system")?.text ?? "");
      setPrompt([...turns].reverse().find((t) => t.role === "user")?.text ?? "");
      // everything before the last question, and the options, are kept as they were
      if (body) {
        const { model, messages, stream, ...rest } = body;
        void model;
        void stream;
        const all = messages as Array<{ role: string }>;
        const last = all.map((m) => m.role).lastIndexOf("user");
        setMore({ ...rest, history: all.slice(0, last).filter((m) => m.role !== "system") });
      }
      if (!param("models")) set({ models: [answer.trace.requested_model, ...known.filter((m) => m !== answer.trace.requested_model).slice(0, 1)].join(",") }, true);
    });
  }, []);

  const start = () => {
    if (!prompt.trim()) return;
    abort.current?.abort();
    const control = (abort.current = new AbortController());
    const { history, ...rest } = more as { history?: unknown[] };
    const messages = [...(system ? [{ role: "system", content: system }] : []), ...(history ?? []), { role: "user", content: prompt }];
    const options = { ...rest, ...(temperature === "" ? {} : { temperature: Number(temperature) }), ...(limit === "" ? {} : { max_tokens: Number(limit) }) };
    set({ prompt: prompt.length < 1_500 ? prompt : null, system: system && system.length < 500 ? system : null, models: models.join(","), from: null }, true);
    setRuns(models.map(idle));
    models.forEach((model, i) => {
      void run({ ...options, model, messages }, control.signal, (r) => setRuns((old) => models.map((_, j) => (j === i ? r : (old[j] ?? idle())))));
    });
  };
  const pick = (i: number, model: string) => set({ models: models.map((m, j) => (j === i ? model : m)).join(",") }, true);
  const free = known.find((m) => !models.includes(m)) ?? "auto";

  return (
    <Screen title="Playground" lead="One prompt, up to four models, side by side">
      <Card>
        <form
          class="prompt"
          onSubmit={(e) => {
            e.preventDefault();
            start();
          }}
          onKeyDown={(e) => {
            if (e.key === "Enter" && (e.metaKey || e.ctrlKey)) {
              e.preventDefault();
              start();
            }
          }}
        >
          <Field label="System">
            <textarea rows={2} placeholder="Optional" value={system} onInput={(e) => setSystem(e.currentTarget.value)} />
          </Field>
          <Field label="Prompt">
            <textarea rows={4} placeholder="What is 17 * 23?" value={prompt} onInput={(e) => setPrompt(e.currentTarget.value)} />
          </Field>
          <div class="row">
            <button type="submit" class="primary" disabled={!prompt.trim() || running}>
              <Icon name="play" size={14} /> {running ? "Running…" : "Run"}
            </button>
            {running && (
              <button type="button" onClick={() => abort.current?.abort()}>
                Stop
              </button>
            )}
            <span class="note">Ctrl + Enter</span>
            <label class="inline">
              Temperature <input class="tiny" inputMode="decimal" value={temperature} placeholder="default" onInput={(e) => setTemperature(e.currentTarget.value)} />
            </label>
            <label class="inline">
              Max tokens <input class="tiny" inputMode="numeric" value={limit} placeholder="default" onInput={(e) => setLimit(e.currentTarget.value)} />
            </label>
            <span class="grow" />
            <label class="check">
              <input type="checkbox" checked={diff} onChange={() => set({ diff: diff ? null : "1" }, true)} /> Word diff against the first
            </label>
            <button type="button" disabled={!prompt.trim()} onClick={() => setSaving(true)}>
              <Icon name="datasets" size={14} /> Save as dataset row
            </button>
          </div>
        </form>
      </Card>
      <div class="columns">
        {models.map((model, i) => (
          <Column
            key={i}
            model={model}
            run={runs[i] ?? idle()}
            pick={(m) => pick(i, m)}
            against={diff && i > 0 ? (runs[0] ?? null) : null}
            drop={models.length > 1 ? () => set({ models: models.filter((_, j) => j !== i).join(",") }, true) : undefined}
          />
        ))}
        {models.length < MOST && (
          <button type="button" class="add" onClick={() => set({ models: [...models, free].join(",") }, true)}>
            <Icon name="plus" /> Add a model
          </button>
        )}
      </div>
      {saving && <SaveRow close={() => setSaving(false)} system={system} prompt={prompt} answer={runs.find((r) => r.state === "done")?.text ?? ""} />}
    </Screen>
  );
}
