// System: what is configured, what is well, and what would change. Secrets are never sent to this page.
import { useState } from "preact/hooks";
import { send } from "../lib/api";
import { bare, bytes, count, ms, percent, plural, usd } from "../lib/format";
import { useLoad } from "../lib/load";
import { may } from "../lib/session";
import { attempt, toast } from "../lib/toast";
import type { Rule, SystemAnswer } from "../lib/types";
import { Ago, Bar, Card, Chip, Code, Field, LoadedCard, Screen } from "../ui/basics";
import { Dialog } from "../ui/dialog";
import { Icon } from "../ui/icons";
import type { Loaded } from "../lib/load";

type From = Loaded<SystemAnswer>;

// ---------------------------------------------------------------- providers
interface Tested {
  ok: boolean;
  ms: number;
  text: string;
}

function Providers({ from }: { from: From }) {
  const [tested, setTested] = useState<Record<string, Tested | "running">>({});
  const test = async (name: string) => {
    setTested((old) => ({ ...old, [name]: "running" }));
    const answer = await attempt(() => send<Tested>("POST", `/v1/dashboard/providers/${name}/test`));
    setTested((old) => {
      const next = { ...old };
      if (answer) next[name] = answer;
      else delete next[name];
      return next;
    });
  };
  return (
    <LoadedCard from={from} room={322} title="Providers" note={from.data ? `${from.data.providers.filter((p) => p.callable).length} of ${from.data.providers.length} can be called` : ""}>
      {(data) => (
        <ul class="providers">
          {data.providers.filter((p) => p.callable).map((p) => {
            const t = tested[p.name];
            const sick = p.circuits.filter((c) => c.state !== "closed");
            return (
              <li key={p.name}>
                <span class={`outcome ${sick.length ? "bad" : "ok"}`}>
                  <Icon name={sick.length ? "warn" : "check"} size={13} />
                  <b>{p.name}</b>
                </span>
                <span class="note cut">
                  {p.key ? `key ${p.key}` : "no key needed"}
                  {p.base && ` · ${p.base}`}
                </span>
                {sick.map((c) => (
                  <small key={c.target} class="bad-text">
                    {bare(c.target)} {c.state} for {Math.ceil(c.seconds)} s ({c.cause})
                  </small>
                ))}
                {t && t !== "running" && (
                  <small class={t.ok ? "note" : "bad-text"}>
                    {t.text} {t.ok && ms(t.ms)}
                  </small>
                )}
                <button type="button" class="small" disabled={t === "running" || !may("admin")} onClick={() => void test(p.name)}>
                  {t === "running" ? "Testing…" : "Test"}
                </button>
              </li>
            );
          })}
          <li class="off note">
            Without a key: {data.providers.filter((p) => !p.callable).map((p) => p.name).join(", ") || "none"}
          </li>
        </ul>
      )}
    </LoadedCard>
  );
}

// ---------------------------------------------------------------- aliases
interface Preview {
  targets: Array<{ model: string; callable: boolean; reason: string | null; input: number | null; output: number | null }>;
  diff: Array<{ kind: "same" | "added" | "removed"; text: string }>;
  used: number;
  writable: boolean;
  path: string | null;
}

function AliasForm({ alias, close }: { alias: SystemAnswer["aliases"][number] | null; close: () => void }) {
  const [name, setName] = useState(alias?.name ?? "");
  const [model, setModel] = useState(alias?.model ?? "");
  const [fallbacks, setFallbacks] = useState(alias?.fallbacks.join(", ") ?? "");
  const [retries, setRetries] = useState(alias?.num_retries?.toString() ?? "");
  const [preview, setPreview] = useState<Preview | null>(null);
  const body = () => ({
    name,
    model,
    fallbacks: fallbacks.split(",").map((m) => m.trim()).filter(Boolean),
    num_retries: retries.trim() === "" ? null : Number(retries),
  });
  const look = async () => setPreview(await attempt(() => send<Preview>("POST", "/v1/dashboard/aliases/preview", body())));
  const save = async () => {
    const done = await attempt(() => send("PUT", `/v1/dashboard/aliases/${encodeURIComponent(name)}`, body()));
    if (done) {
      toast(`${name} is in effect`);
      close();
    }
  };
  const edit = (put: (v: string) => void) => (e: { currentTarget: { value: string } }) => {
    put(e.currentTarget.value);
    setPreview(null);
  };
  return (
    <Dialog title={alias ? `Alias ${alias.name}` : "New alias"} close={close} wide>
      <form
        class="stack"
        onSubmit={(e) => {
          e.preventDefault();
          void look();
        }}
      >
        <div class="fields">
          <Field label="Name">
            <input value={name} required disabled={alias !== null} pattern="[A-Za-z0-9][A-Za-z0-9._\-]{0,63}" onInput={edit(setName)} />
          </Field>
          <Field label="Model">
            <input value={model} required list="models" placeholder="provider/model" onInput={edit(setModel)} />
          </Field>
          <Field label="Retries">
            <input value={retries} inputMode="numeric" placeholder="default" onInput={edit(setRetries)} />
          </Field>
        </div>
        <Field label="Fallbacks" hint="In order, separated by commas.">
          <input value={fallbacks} onInput={edit(setFallbacks)} />
        </Field>
        <div class="row end">
          <button type="submit">Show the effect</button>
        </div>
      </form>
      {preview && (
        <div class="stack">
          <h3>What will happen</h3>
          <ol class="targets">
            {preview.targets.map((t, i) => (
              <li key={t.model}>
                <b>{i === 0 ? "first" : "then"}</b> {t.model}{" "}
                {t.callable ? <Chip tone="accent">can be called</Chip> : <Chip tone="bad">{t.reason ?? "cannot be called"}</Chip>}{" "}
                <span class="note num">{t.input !== null && t.output !== null ? `$${t.input} in, $${t.output} out per million tokens` : "price not known"}</span>
              </li>
            ))}
          </ol>
          <p class="note">{preview.used ? `${plural(preview.used, "request")} asked for this name in the last seven days.` : "Nobody asked for this name in the last seven days."}</p>
          <h3>What changes in {preview.path ?? "the configuration"}</h3>
          <pre class="patch" tabIndex={0}>
            {preview.diff.map((line, i) => (
              <span key={i} class={line.kind}>
                {line.kind === "added" ? "+ " : line.kind === "removed" ? "- " : "  "}
                {line.text}
                {"\n"}
              </span>
            ))}
          </pre>
          {!preview.writable && <p class="note">This engine runs without a configuration file it may write, so copy these lines into your own and reload.</p>}
          <div class="row end">
            <button type="button" onClick={close}>
              Cancel
            </button>
            <button type="button" class="primary" disabled={!preview.writable} onClick={() => void save()}>
              Save and reload
            </button>
          </div>
        </div>
      )}
    </Dialog>
  );
}

function Aliases({ from }: { from: From }) {
  const [editing, setEditing] = useState<SystemAnswer["aliases"][number] | "new" | null>(null);
  return (
    <LoadedCard
      from={from}
      title="Aliases"
      actions={
        <button type="button" disabled={!may("admin")} onClick={() => setEditing("new")}>
          <Icon name="plus" size={14} /> New alias
        </button>
      }
    >
      {(data) => (
        <>
          {data.aliases.length ? (
            <table>
              <thead>
                <tr>
                  <th scope="col">Name</th>
                  <th scope="col">Goes to</th>
                  <th scope="col" class="r" />
                </tr>
              </thead>
              <tbody>
                {data.aliases.map((a) => (
                  <tr key={a.name}>
                    <td>
                      <b>{a.name}</b>
                    </td>
                    <td>
                      {[a.model, ...a.fallbacks].map((m, i) => (
                        <span key={m}>
                          {i > 0 && <span class="note"> then </span>}
                          {m}
                        </span>
                      ))}
                      {a.num_retries !== null && <small class="note">{plural(a.num_retries, "retry", "retries")} each</small>}
                    </td>
                    <td class="r">
                      <button type="button" class="small" disabled={!may("admin")} onClick={() => setEditing(a)}>
                        Edit
                      </button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          ) : (
            <p class="empty">No aliases. An alias is a name of your own for a model and what follows when it fails.</p>
          )}
          <p class="note">
            auto: {data.auto.models.length ? data.auto.models.map(bare).join(", ") : "every model with a key and published figures"}; default {data.auto.default ?? "none"}; cost weight {data.auto.cost_weight}
          </p>
          {editing && (
            <AliasForm
              alias={editing === "new" ? null : editing}
              close={() => {
                setEditing(null);
                from.reload();
              }}
            />
          )}
        </>
      )}
    </LoadedCard>
  );
}

// ---------------------------------------------------------------- store
const days = (n: number | null) => (n ? plural(n, "day") : "kept for ever");
const REDACTION: Record<string, string> = { all: "off: texts as they are", redacted: "on: masked before writing", none: "no texts to mask" };

function Store({ from }: { from: From }) {
  return (
    <LoadedCard from={from} room={267} title="Trace store">
      {({ store, retention }) => (
        <>
          {store.problem && (
            <div class="failed" role="alert">
              <Icon name="warn" /> {store.problem}
            </div>
          )}
          {store.dropped > 0 && (
            <div class="failed" role="alert">
              <Icon name="warn" /> {plural(store.dropped, "trace")} dropped since the start
            </div>
          )}
          <dl class="facts two">
            <div>
              <dt>Traces</dt>
              <dd class="num">{count(store.traces)}</dd>
            </div>
            <div>
              <dt>Oldest</dt>
              <dd>{store.oldest_ms ? <Ago at={store.oldest_ms} /> : "–"}</dd>
            </div>
            <div>
              <dt>Waiting to be written</dt>
              <dd class="num">{count(store.queue)}</dd>
            </div>
            <div>
              <dt>Texts dropped under load</dt>
              <dd class="num">{count(store.bodies_dropped)}</dd>
            </div>
            <div>
              <dt>Texts of prompts and answers</dt>
              <dd>{retention.content === "none" ? "not kept" : days(retention.bodies_days)}</dd>
            </div>
            <div>
              <dt>Redaction</dt>
              <dd title="Addresses, telephone and card numbers, keys and the like, before anything is written">{REDACTION[retention.content] ?? retention.content}</dd>
            </div>
            <div>
              <dt>Figures kept</dt>
              <dd>{days(retention.metrics_days)}</dd>
            </div>
            <div>
              <dt>Durability</dt>
              <dd>{retention.durability}</dd>
            </div>
            <div>
              <dt>File</dt>
              <dd class="cut" title={store.path ?? ""}>
                {store.path ?? "traces are off"}
              </dd>
            </div>
          </dl>
          {store.free_bytes > 0 && (
            <div class="row">
              <Bar share={store.bytes / (store.bytes + store.free_bytes)} label="Disk used by the store" />
              <span class="note num">
                {bytes(store.bytes)} used, {bytes(store.free_bytes)} free on its disk
              </span>
            </div>
          )}
          <p class="note">
            Change these under <code>[traces]</code>: content, metrics_days, bodies_days.
          </p>
        </>
      )}
    </LoadedCard>
  );
}

// ---------------------------------------------------------------- alerts
const FIGURES: Record<Rule["metric"], (v: number) => string> = {
  cost: usd,
  error_rate: percent,
  p95: ms,
  provider_down: count,
  unpriced: count,
  dropped: count,
};

/** A span of minutes as people say it. */
const span = (minutes: number) => (minutes % 1440 === 0 ? plural(minutes / 1440, "day") : minutes % 60 === 0 ? plural(minutes / 60, "hour") : `${minutes} min`);

function ruleText(r: Rule): string {
  const what = {
    cost: `cost above ${usd(r.above)}`,
    error_rate: `more than ${percent(r.above)} of requests failed`,
    p95: `p95 above ${ms(r.above)}`,
    provider_down: "every request to a provider failed",
    unpriced: r.above ? `more than ${count(r.above)} requests without a known price` : "requests without a known price",
    dropped: r.above ? `more than ${count(r.above)} traces dropped` : "traces were dropped",
  }[r.metric];
  const where = r.metric === "dropped" ? "" : ` in ${span(r.minutes)}`;
  return `${what}${where}${r.by ? `, for each ${r.by}` : ""}${r.filter ? `, of ${r.filter}` : ""}`;
}

function RuleLine({ rule: r }: { rule: Rule }) {
  const tone = r.state === "firing" ? "bad" : r.state === "ok" ? "ok" : "mild";
  const show = FIGURES[r.metric];
  return (
    <li>
      <span class={`outcome ${tone}`}>
        <Icon name={r.state === "firing" ? "warn" : r.state === "ok" ? "check" : "help"} size={13} />
        {r.state}
      </span>
      <span>
        <b>{r.name}</b> <span class="note">{ruleText(r)}</span>
        {r.over.map((o) => (
          <small key={o.group ?? ""} class="bad-text">
            {o.group ?? "all"}: {show(o.value)}
          </small>
        ))}
      </span>
      <span class="num" title="the highest now">
        {r.value === null ? "–" : show(r.value)}
      </span>
    </li>
  );
}

function Alerts({ from }: { from: From }) {
  return (
    <LoadedCard from={from} room={142} title="Alerts" note={from.data && !from.data.alerts.problem ? (from.data.alerts.usual ? "the usual rules: none is configured" : plural(from.data.alerts.rules.length, "configured rule")) : ""}>
      {({ alerts }) => (
        <>
          {alerts.problem && (
            <div class="failed" role="alert">
              <Icon name="warn" /> {alerts.problem}
            </div>
          )}
          <ul class="alerts">
            {alerts.rules.map((r) => (
              <RuleLine key={r.name} rule={r} />
            ))}
          </ul>
          <p class="note">
            {alerts.problem ? null : alerts.told ? (
              <>
                Looked at every {alerts.every} s; messages go to <code>{alerts.told}</code>.
              </>
            ) : (
              <>
                Nobody is told: set <code>webhook</code> under <code>[alerts]</code>, and rules of your own under <code>[alerts.rules.NAME]</code>.
              </>
            )}
          </p>
        </>
      )}
    </LoadedCard>
  );
}

function Engine({ from }: { from: From }) {
  const reload = async () => {
    const done = await attempt(() => send("POST", "/v1/reload"));
    if (done) {
      toast("The configuration was read again");
      from.reload();
    }
  };
  return (
    <LoadedCard
      from={from}
      room={263}
      title="Engine"
      actions={
        <button type="button" disabled={!may("admin")} onClick={() => void reload()}>
          <Icon name="refresh" size={14} /> Reload the configuration
        </button>
      }
    >
      {(data) => (
        <>
          <dl class="facts two">
            <div>
              <dt>Version</dt>
              <dd class="num">{data.version}</dd>
            </div>
            <div>
              <dt>Up for</dt>
              <dd class="num">{ms(data.uptime_s * 1000)}</dd>
            </div>
            <div>
              <dt>Running now</dt>
              <dd class="num">{plural(data.in_flight, "request")}</dd>
            </div>
            <div>
              <dt>Configuration</dt>
              <dd class="cut" title={data.config_path ?? ""}>
                {data.config_path ?? "defaults and environment"} <span class="note num">{data.config_hash}</span>
              </dd>
            </div>
            <div>
              <dt>Prices</dt>
              <dd>
                {data.prices.updated} <span class="note">{data.prices.source}</span>
              </dd>
            </div>
            <div>
              <dt>Metrics</dt>
              <dd>
                <a href="/metrics" target="_blank" rel="noreferrer">
                  /metrics
                </a>
              </dd>
            </div>
          </dl>
          <details>
            <summary>Effective configuration</summary>
            <Code text={JSON.stringify(data.config, null, 2)} what="Configuration" />
          </details>
        </>
      )}
    </LoadedCard>
  );
}

function Audit({ from }: { from: From }) {
  return (
    <LoadedCard from={from} title="Changes made here">
      {(data) =>
        data.audit.length ? (
          <ul class="plain">
            {data.audit.map((a, i) => (
              <li key={i}>
                <Ago at={a.ts_ms} /> <b>{a.what}</b> {a.detail} <span class="note">{a.who}</span>
              </li>
            ))}
          </ul>
        ) : (
          <p class="empty">None yet.</p>
        )
      }
    </LoadedCard>
  );
}

export function System() {
  const from = useLoad<SystemAnswer>("/v1/dashboard/system", () => ({}), "", 10_000);
  return (
    <Screen title="System">
      {from.error && !from.data ? (
        <Card>
          <p class="bad-text">{from.error.message}</p>
        </Card>
      ) : (
        <>
          <div class="cards two">
            <Providers from={from} />
            <div class="stack">
              <Alerts from={from} />
              <Aliases from={from} />
            </div>
          </div>
          <div class="cards two">
            <Store from={from} />
            <Engine from={from} />
          </div>
          <Audit from={from} />
        </>
      )}
    </Screen>
  );
}

