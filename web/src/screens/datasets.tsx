// Datasets: made from filters, clusters or the playground, in versions that never change; and evaluations on them.
import { useState } from "preact/hooks";
import { ApiError, address, get, send } from "../lib/api";
import { bare, clock, count, ms, percent, plural, usd } from "../lib/format";
import { useLoad, type Loaded } from "../lib/load";
import { turn } from "../lib/messages";
import { may, session } from "../lib/session";
import { attempt, toast } from "../lib/toast";
import { bounds } from "../lib/time";
import { go, item, link, param, set } from "../lib/url";
import type { DatasetInfo, Evaluation, Example } from "../lib/types";
import { Ago, Bar, Card, Chip, Failed, Field, LoadedCard, Model, Screen } from "../ui/basics";
import { Dialog } from "../ui/dialog";
import { Icon } from "../ui/icons";
import { RangePicker } from "../ui/range";

const NAME = "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}";
const base = (name: string) => `/v1/dashboard/datasets/${encodeURIComponent(name)}`;

/** A version, or one in the making that has to be asked after. */
interface Making {
  id?: string;
  state?: "running" | "done" | "failed";
  rows: number;
  skipped: number;
  problem?: string;
}

const LOOK_MS = 400;

async function made(name: string, begun: Making): Promise<Making> {
  let now = begun;
  while (now.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    now = await get<Making>(`${base(name)}/making/${begun.id}`);
  }
  if (now.state === "failed") throw new ApiError(now.problem ?? "The dataset could not be made", 500, "error");
  return now;
}

function FromTraces({ close, done }: { close: () => void; done: (name: string) => void }) {
  const [name, setName] = useState("");
  const [q, setQ] = useState(param("new") || "status:ok");
  const [limit, setLimit] = useState("500");
  const [busy, setBusy] = useState(false);
  const make = async () => {
    setBusy(true);
    const answer = await attempt(async () => made(name, await send<Making>("POST", base(name), { q, ...bounds(), limit: Number(limit) })));
    setBusy(false);
    if (!answer) return;
    toast(`${name}: ${plural(answer.rows, "row")}${answer.skipped ? `, ${plural(answer.skipped, "trace")} without usable text left out` : ""}`);
    done(name);
  };
  return (
    <Dialog title="Dataset from traces" close={close}>
      <form
        class="stack"
        onSubmit={(e) => {
          e.preventDefault();
          void make();
        }}
      >
        <Field label="Name" hint="An existing name gets a new version.">
          <input value={name} required pattern={NAME} onInput={(e) => setName(e.currentTarget.value)} />
        </Field>
        <Field label="Filter" hint="As in the query bar of the traces: model:gpt-4o cluster:12 tag:support">
          <input value={q} onInput={(e) => setQ(e.currentTarget.value)} />
        </Field>
        <Field label="At most rows">
          <input inputMode="numeric" value={limit} onInput={(e) => setLimit(e.currentTarget.value)} />
        </Field>
        <div class="row">
          <span class="note">Time range</span>
          <RangePicker />
        </div>
        <div class="row end">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={busy}>
            {busy ? "Collecting…" : "Make it"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function List() {
  const from = useLoad<{ datasets: DatasetInfo[] }>("/v1/dashboard/datasets", () => ({}), "");
  const [making, setMaking] = useState(param("new") !== "");
  return (
    <Screen
      title="Datasets"
      lead="Rows from real traffic, to compare models on and to train with"
      tools={
        <button type="button" class="primary" disabled={!may("admin")} onClick={() => setMaking(true)}>
          <Icon name="plus" size={14} /> From traces
        </button>
      }
    >
      <LoadedCard from={from} title="All datasets">
        {(data) =>
          data.datasets.length ? (
            <table>
              <thead>
                <tr>
                  <th scope="col">Name</th>
                  <th scope="col" class="r">Versions</th>
                  <th scope="col" class="r">Rows</th>
                  <th scope="col" class="hide-narrow">Source</th>
                  <th scope="col">Changed</th>
                </tr>
              </thead>
              <tbody>
                {data.datasets.map((d) => {
                  const last = d.versions[d.versions.length - 1];
                  return (
                    <tr key={d.name}>
                      <td>
                        <a href={link(`/datasets/${d.name}`)}>
                          <b>{d.name}</b>
                        </a>
                      </td>
                      <td class="r num">{d.versions.length}</td>
                      <td class="r num">{count(last.rows)}</td>
                      <td class="hide-narrow note cut">{last.source}</td>
                      <td>
                        <Ago at={last.created_ms} />
                      </td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          ) : (
            <div class="empty">
              <p>No datasets yet. Make one from a filter over your traces, from a cluster on the routing screen, or save prompts in the playground.</p>
              <button type="button" disabled={!may("admin")} onClick={() => setMaking(true)}>
                Make one from traces
              </button>
            </div>
          )
        }
      </LoadedCard>
      {making && (
        <FromTraces
          close={() => {
            setMaking(false);
            set({ new: null }, true);
          }}
          done={(name) => go(link(`/datasets/${name}`))}
        />
      )}
    </Screen>
  );
}

// ---------------------------------------------------------------- one dataset
const GRADERS: Array<[string, string]> = [
  ["overlap", "Word overlap with the expected answer (F1)"],
  ["exact", "Exactly the expected answer"],
  ["contains", "Contains the expected answer"],
  ["number", "The last number is the expected one"],
];

function Evaluate({ name, version, close, begun }: { name: string; version: number; close: () => void; begun: () => void }) {
  const known = session.value?.models ?? [];
  const [models, setModels] = useState<string[]>(known.slice(0, 2));
  const [other, setOther] = useState("");
  const [grader, setGrader] = useState("overlap");
  const [limit, setLimit] = useState("50");
  const run = async () => {
    const all = [...models, ...other.split(",").map((m) => m.trim()).filter(Boolean)];
    const done = await attempt(() => send("POST", "/v1/dashboard/evaluations", { dataset: name, version, models: all, grader, limit: Number(limit) }));
    if (!done) return;
    begun();
    close();
  };
  return (
    <Dialog title={`Evaluate on ${name}`} close={close}>
      <form
        class="stack"
        onSubmit={(e) => {
          e.preventDefault();
          void run();
        }}
      >
        <fieldset>
          <legend>Models</legend>
          {known.map((m) => (
            <label class="check" key={m}>
              <input type="checkbox" checked={models.includes(m)} onChange={() => setModels(models.includes(m) ? models.filter((x) => x !== m) : [...models, m])} /> {m}
            </label>
          ))}
          <input aria-label="Further models" placeholder="others, separated by commas" value={other} onInput={(e) => setOther(e.currentTarget.value)} />
        </fieldset>
        <Field label="Score">
          <select value={grader} onChange={(e) => setGrader(e.currentTarget.value)}>
            {GRADERS.map(([id, text]) => (
              <option key={id} value={id}>
                {text}
              </option>
            ))}
          </select>
        </Field>
        <Field label="Rows a model" hint="Every row is a real call and costs what such calls cost.">
          <input inputMode="numeric" value={limit} onInput={(e) => setLimit(e.currentTarget.value)} />
        </Field>
        <div class="row end">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={!models.length && !other.trim()}>
            Run
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Run({ run: e, again }: { run: Evaluation; again: () => void }) {
  const stop = async () => {
    await attempt(() => send("POST", `/v1/dashboard/evaluations/${e.id}/stop`));
    again();
  };
  const ranked = [...e.results].sort((a, b) => (b.score ?? -1) - (a.score ?? -1));
  return (
    <article class="evaluation">
      <header class="row">
        <b>version {e.version}</b> <span class="note">{GRADERS.find(([id]) => id === e.grader)?.[1] ?? e.grader}</span>
        <span class="grow" />
        <span class="note" title={clock(e.started_ms)}>
          <Ago at={e.started_ms} />
        </span>
        <Chip tone={e.state === "done" ? "accent" : e.state === "failed" ? "bad" : ""}>{e.state}</Chip>
        {e.state === "done" && (
          <a
            class="button small"
            download
            href={address(`/v1/dashboard/evaluations/${e.id}/labels`, {})}
            title="What opentracy routing train and add-model read: a line a prompt, with the score and cost of each model"
          >
            <Icon name="download" size={14} /> Router labels
          </a>
        )}
      </header>
      {e.state === "running" && (
        <div class="row">
          <Bar share={e.total ? e.done / e.total : 0} label="Progress of the evaluation" />
          <span class="num note">
            {e.done} of {e.total}
          </span>
          <button type="button" class="small" onClick={() => void stop()}>
            Stop
          </button>
        </div>
      )}
      {e.problem && <p class="bad-text">{e.problem}</p>}
      <div class="scroll" tabIndex={0} role="group" aria-label="Leaderboard">
      <table>
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col" class="r">Score</th>
            <th scope="col" class="r hide-narrow">Rows</th>
            <th scope="col" class="r">Failed</th>
            <th scope="col" class="r hide-narrow">Mean latency</th>
            <th scope="col" class="r">Cost</th>
          </tr>
        </thead>
        <tbody>
          {ranked.map((r, i) => (
            <tr key={r.model} class={i === 0 && e.state === "done" ? "chosen" : ""}>
              <td>
                <Model name={r.model} />
              </td>
              <td class="r num">{percent(r.score)}</td>
              <td class="r num hide-narrow">{count(r.scored)}</td>
              <td class={`r num ${r.errors ? "bad-text" : ""}`}>{count(r.errors)}</td>
              <td class="r num hide-narrow">{ms(r.latency_ms)}</td>
              <td class="r num" title={r.unpriced ? `${r.unpriced} calls without a known price` : undefined}>
                {usd(r.cost)}
                {r.unpriced ? " +" : ""}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      </div>
      {e.failures.length > 0 && (
        <details>
          <summary>{plural(e.failures.length, "row")} that went wrong</summary>
          <ul class="plain failures">
            {e.failures.map((f, i) => (
              <li key={i}>
                <b class="num">row {f.row + 1}</b> {bare(f.model)} <span class="bad-text">{f.reason}</span>
                {f.answer && <pre tabIndex={0}>{f.answer}</pre>}
              </li>
            ))}
          </ul>
        </details>
      )}
    </article>
  );
}

function Evaluations({ name, from }: { name: string; from: Loaded<{ evaluations: Evaluation[] }> }) {
  return (
    <LoadedCard from={from} title="Evaluations">
      {(data) => {
        const mine = data.evaluations.filter((e) => e.dataset === name);
        return mine.length ? (
          <>
            {mine.map((e) => (
              <Run key={e.id} run={e} again={from.reload} />
            ))}
          </>
        ) : (
          <p class="empty">Not evaluated yet: run your models over these rows and see who answers best for what money.</p>
        );
      }}
    </LoadedCard>
  );
}

function lastQuestion(row: Example): string {
  const asked = row.messages.map((m) => turn(m as Record<string, unknown>)).filter((t) => t.role === "user");
  return asked[asked.length - 1]?.text ?? "–";
}

function Rows({ name, version }: { name: string; version: number }) {
  const [most, setMost] = useState(25);
  const from = useLoad<{ rows: Example[]; total: number }>(`${base(name)}/rows`, () => ({ version, limit: most }), `${name} ${version} ${most}`);
  return (
    <LoadedCard from={from} title="Rows" note={from.data ? `first ${count(from.data.rows.length)} of ${count(from.data.total)}` : ""}>
      {(data) => (
        <>
        <ol class="examples rows">
          {data.rows.map((row, i) => (
            <li key={i}>
              <details>
                <summary>
                  <span class="cut">{lastQuestion(row)}</span>
                  <span class="cut note">{row.answer ?? "no expected answer"}</span>
                </summary>
                {row.messages.map((m, j) => {
                  const t = turn(m as Record<string, unknown>);
                  return (
                    <div class={`turn ${t.role}`} key={j}>
                      <b>{t.role}</b>
                      <pre tabIndex={0}>{t.text}</pre>
                    </div>
                  );
                })}
                <div class="turn assistant">
                  <b>expected</b>
                  <pre tabIndex={0}>{row.answer ?? "nothing"}</pre>
                </div>
                {row.trace_id && (
                  <a class="note" href={`/traces/${row.trace_id}`}>
                    its trace
                  </a>
                )}
              </details>
            </li>
          ))}
        </ol>
        {data.rows.length < data.total && data.rows.length === most && (
          <button type="button" class="small" onClick={() => setMost(most * 4)}>
            Show more
          </button>
        )}
        </>
      )}
    </LoadedCard>
  );
}

function One({ name }: { name: string }) {
  const all = useLoad<{ datasets: DatasetInfo[] }>("/v1/dashboard/datasets", () => ({}), name);
  const [running, setRunning] = useState(false);
  const runs = useLoad<{ evaluations: Evaluation[] }>("/v1/dashboard/evaluations", () => ({ dataset: name }), name, 2_000);
  const info = all.data?.datasets.find((d) => d.name === name);
  const last = info?.versions[info.versions.length - 1];
  const version = Number(param("version")) || last?.version || 0;
  const shown = info?.versions.find((v) => v.version === version);
  return (
    <Screen
      title={name}
      lead={shown && `${plural(shown.rows, "row")} in version ${shown.version}${shown.source ? `, from ${shown.source}` : ""}`}
      tools={
        info && (
          <>
            <label class="inline">
              Version
              <select value={String(version)} onChange={(e) => set({ version: e.currentTarget.value }, true)}>
                {info.versions.map((v) => (
                  <option key={v.version} value={String(v.version)}>
                    {v.version} · {v.rows} rows · {clock(v.created_ms).slice(0, 16)}
                  </option>
                ))}
              </select>
            </label>
            <a class="button" download href={address(`${base(name)}/export`, { version, format: "finetune" })}>
              <Icon name="download" size={14} /> For fine-tuning
            </a>
            <a class="button" download href={address(`${base(name)}/export`, { version, format: "jsonl" })}>
              <Icon name="download" size={14} /> JSONL
            </a>
            <button type="button" class="primary" disabled={!may("admin")} onClick={() => setRunning(true)}>
              <Icon name="play" size={14} /> Evaluate
            </button>
          </>
        )
      }
    >
      {all.error && !info && (
        <Card>
          <Failed error={all.error} again={all.reload} />
        </Card>
      )}
      {all.data && !info && (
        <Card>
          <p class="empty">
            There is no dataset of this name. <a href="/datasets">All datasets</a>
          </p>
        </Card>
      )}
      {info && version > 0 && (
        <>
          <Evaluations name={name} from={runs} />
          <Rows name={name} version={version} />
        </>
      )}
      {running && <Evaluate name={name} version={version} close={() => setRunning(false)} begun={runs.reload} />}
    </Screen>
  );
}

export const Datasets = () => (item.value ? <One key={item.value} name={item.value} /> : <List />);
