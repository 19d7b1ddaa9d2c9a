// Spend & keys: who spends what, whether the sums agree, and the virtual keys with their budgets and limits.
import { useState } from "preact/hooks";
import { send } from "../lib/api";
import { colorVar } from "../lib/colors";
import { bare, count, plural, usd } from "../lib/format";
import { useLoad, type Loaded } from "../lib/load";
import { term } from "../lib/query";
import { may, session } from "../lib/session";
import { attempt, toast } from "../lib/toast";
import { useStats } from "../lib/stats";
import { bounds, DAY, range } from "../lib/time";
import { link, param, params, set } from "../lib/url";
import type { Key } from "../lib/types";
import { Ago, Bar, Chip, Code, Field, LoadedCard, Model, Screen, Tabs } from "../ui/basics";
import { Dialog } from "../ui/dialog";
import { Icon } from "../ui/icons";
import { RangePicker } from "../ui/range";

interface KeysAnswer {
  keys: Key[];
  now_ms: number;
  enabled: boolean;
  note: string | null;
}

// ---------------------------------------------------------------- spend
const BY = ["key", "model", "user", "tag", "project"];

function Spend() {
  const by = BY.includes(param("by")) ? param("by") : "key";
  const stamp = `${range.value} ${params.value.get("since")} ${params.value.get("until")}`;
  const [ends] = useState(() => ({ at: "", since: 0, until: 0 }));
  // both questions about the very same span, or the sums could differ by what arrived between them
  const when = () => (ends.at === stamp ? ends : Object.assign(ends, { at: stamp }, bounds()));
  const from = useStats("cost,cost_nano,requests,unpriced,tokens_in,tokens_out", () => ({ group_by: by, limit: 50 }), `${by} ${stamp}`, { when });
  const total = useStats("cost_nano,requests,unpriced", () => ({}), stamp, { when });
  return (
    <LoadedCard from={from} room={315} title="Spend" actions={<Tabs names={BY} at={by} pick={(name) => set({ by: name === "key" ? null : name }, true)} label="Spend by" />}>
      {(data) => {
        const rows = data.rows;
        const sum = rows.reduce((a, r) => a + Number(r.cost_nano ?? 0), 0);
        const whole = total.data?.rows[0];
        const top = Math.max(...rows.map((r) => Number(r.cost ?? 0)), 1e-12);
        const unpriced = Number(whole?.unpriced ?? 0);
        const agrees = by === "tag" ? null : whole ? sum === Number(whole.cost_nano) : null;
        return (
          <>
            <div class="scroll" tabIndex={0} role="group" aria-label="Spend table">
              <table>
                <thead>
                  <tr>
                    <th scope="col">{by}</th>
                    <th scope="col" class="r">Requests</th>
                    <th scope="col" class="r hide-narrow">Tokens in</th>
                    <th scope="col" class="r hide-narrow">Tokens out</th>
                    <th scope="col" class="r">Cost</th>
                  </tr>
                </thead>
                <tbody>
                  {rows.map((row) => {
                    const name = row[by] === null || row[by] === "" ? null : String(row[by]);
                    return (
                      <tr key={name ?? ""}>
                        <td>
                          {name === null ? (
                            <span class="note">without a {by}</span>
                          ) : name === "(other)" ? (
                            "others"
                          ) : (
                            <a href={link("/traces", { q: term(by, name) })}>{by === "model" ? <Model name={name} /> : name}</a>
                          )}
                        </td>
                        <td class="r num">{count(Number(row.requests))}</td>
                        <td class="r num hide-narrow">{count(Number(row.tokens_in))}</td>
                        <td class="r num hide-narrow">{count(Number(row.tokens_out))}</td>
                        <td class="r num bars">
                          <i style={{ width: `${(Number(row.cost ?? 0) / top) * 100}%`, background: by === "model" && name ? colorVar(name) : "var(--accent)" }} />
                          <span>{usd(Number(row.cost))}</span>
                        </td>
                      </tr>
                    );
                  })}
                </tbody>
                <tfoot>
                  <tr>
                    <th scope="row">Sum of the rows</th>
                    <td class="r num">{count(rows.reduce((a, r) => a + Number(r.requests), 0))}</td>
                    <td class="hide-narrow" />
                    <td class="hide-narrow" />
                    <td class="r num">{usd(sum / 1e9)}</td>
                  </tr>
                </tfoot>
              </table>
            </div>
            <p class={`reconcile num ${agrees === false ? "bad-text" : ""}`}>
              {agrees !== null && <Icon name={agrees ? "check" : "warn"} size={14} />}
              <span>
              {agrees === null
                ? by === "tag"
                  ? `A trace may have several tags, so these rows may add up to more than the total of ${usd(Number(whole?.cost_nano ?? 0) / 1e9)}.`
                  : ""
                : agrees
                  ? `Reconciled: the rows add up to the total of ${usd(Number(whole!.cost_nano) / 1e9)}, to the nano-dollar.`
                  : `The rows differ from the total of ${usd(Number(whole!.cost_nano) / 1e9)}; requests arrived in between, or something is wrong.`}{" "}
              {unpriced > 0 ? (
                <span class="note">
                  {plural(unpriced, "request")} without a known price {unpriced === 1 ? "is" : "are"} in no sum.
                </span>
              ) : (
                <span class="note">Every request has a price.</span>
              )}
              </span>
            </p>
          </>
        );
      }}
    </LoadedCard>
  );
}

// ---------------------------------------------------------------- keys
const SCOPES: Array<[string, string]> = [
  ["inference", "Call models"],
  ["read", "Read traces"],
  ["admin", "Everything"],
];

function NewKey({ close, made, old }: { close: () => void; made: (secret: string, name: string) => void; old: Key | null }) {
  const [form, setForm] = useState({
    name: old?.name ?? "",
    owner: old?.owner ?? "",
    scopes: old?.scopes ?? ["inference"],
    models: old?.models?.join(", ") ?? "",
    daily: old?.daily_usd?.toString() ?? "",
    monthly: old?.monthly_usd?.toString() ?? "",
    rpm: old?.rpm?.toString() ?? "",
    tpm: old?.tpm?.toString() ?? "",
    days: "",
  });
  const put = (name: keyof typeof form) => (e: { currentTarget: { value: string } }) => setForm({ ...form, [name]: e.currentTarget.value });
  const number = (text: string) => (text.trim() === "" ? null : Number(text));
  const submit = async () => {
    const body = {
      name: form.name,
      owner: form.owner || null,
      scopes: form.scopes,
      models: form.models.split(",").map((m) => m.trim()).filter(Boolean),
      daily_usd: number(form.daily),
      monthly_usd: number(form.monthly),
      rpm: number(form.rpm),
      tpm: number(form.tpm),
      expires_days: number(form.days),
    };
    const done = await attempt(() => (old ? send<{ id: string }>("PUT", `/v1/dashboard/keys/${old.id}`, body) : send<{ id: string; secret: string }>("POST", "/v1/dashboard/keys", body)));
    if (!done) return;
    close();
    if ("secret" in done) made(done.secret as string, form.name);
    else toast(`${form.name} changed`);
  };
  return (
    <Dialog title={old ? `Change ${old.name}` : "New key"} close={close}>
      <form
        class="stack"
        onSubmit={(e) => {
          e.preventDefault();
          void submit();
        }}
      >
        <div class="fields">
          <Field label="Name">
            <input value={form.name} required maxLength={64} onInput={put("name")} />
          </Field>
          <Field label="Owner">
            <input value={form.owner} maxLength={128} placeholder="team or person" onInput={put("owner")} />
          </Field>
        </div>
        {!old && (
          <fieldset>
            <legend>May</legend>
            {SCOPES.map(([scope, text]) => (
              <label class="check" key={scope}>
                <input
                  type="checkbox"
                  checked={form.scopes.includes(scope)}
                  onChange={() => setForm({ ...form, scopes: form.scopes.includes(scope) ? form.scopes.filter((s) => s !== scope) : [...form.scopes, scope] })}
                />{" "}
                {text}
              </label>
            ))}
          </fieldset>
        )}
        <Field label="Models" hint="Separated by commas; empty means all. Names as in requests: provider/model, aliases, auto.">
          <input value={form.models} list="models" onInput={put("models")} />
        </Field>
        <div class="fields">
          <Field label="Budget a day, USD">
            <input inputMode="decimal" value={form.daily} placeholder="none" onInput={put("daily")} />
          </Field>
          <Field label="Budget a month, USD">
            <input inputMode="decimal" value={form.monthly} placeholder="none" onInput={put("monthly")} />
          </Field>
          <Field label="Requests a minute">
            <input inputMode="numeric" value={form.rpm} placeholder="none" onInput={put("rpm")} />
          </Field>
          <Field label="Tokens a minute">
            <input inputMode="numeric" value={form.tpm} placeholder="none" onInput={put("tpm")} />
          </Field>
          {!old && (
            <Field label="Expires after days">
              <input inputMode="numeric" value={form.days} placeholder="never" onInput={put("days")} />
            </Field>
          )}
        </div>
        <div class="row end">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary">
            {old ? "Save" : "Create key"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Budget({ spent, limit, what }: { spent: number; limit: number | null; what: string }) {
  if (limit === null) return <span class="note num">{usd(spent)} {what}, no budget</span>;
  const share = limit > 0 ? spent / limit : 1;
  return (
    <span class="budget">
      <span class="num note">
        {usd(spent)} of {usd(limit)} {what}
      </span>
      <Bar share={share} tone={share >= 1 ? "bad" : share > 0.8 ? "warn" : ""} label={`Budget ${what}`} />
    </span>
  );
}

function runsOut(key: Key, now: number): string {
  const over = (key.daily_usd !== null && key.spent_day_usd >= key.daily_usd) || (key.monthly_usd !== null && key.spent_month_usd >= key.monthly_usd);
  if (over) return "used up";
  if (key.runs_out_ms === null) return "–";
  const days = (key.runs_out_ms - now) / DAY;
  if (days > 365) return "in over a year";
  return days < 1 ? `in ${Math.max(1, Math.round(days * 24))} h` : `in ${Math.round(days)} d`;
}

function state(key: Key, now: number): [string, string] {
  if (key.revoked_ms) return ["revoked", "bad"];
  if (key.expires_ms && key.expires_ms < now) return ["expired", "bad"];
  return ["active", "accent"];
}

function Keys({ from }: { from: Loaded<KeysAnswer> }) {
  const [making, setMaking] = useState(false);
  const [changing, setChanging] = useState<Key | null>(null);
  const [revoking, setRevoking] = useState<Key | null>(null);
  const [secret, setSecret] = useState<{ secret: string; name: string } | null>(null);
  const admin = may("admin");
  const rotate = async (key: Key) => {
    const done = await attempt(() => send<{ secret: string }>("POST", `/v1/dashboard/keys/${key.id}/rotate`));
    if (done) {
      setSecret({ secret: done.secret, name: key.name });
      from.reload();
    }
  };
  const revoke = async (key: Key) => {
    setRevoking(null);
    const done = await attempt(() => send("DELETE", `/v1/dashboard/keys/${key.id}`));
    if (done) {
      toast(`${key.name} is revoked`);
      from.reload();
    }
  };
  return (
    <LoadedCard
      from={from}
      title="Virtual keys"
      note={admin ? "" : "changing them needs an admin key"}
      actions={
        <button type="button" class="primary" disabled={!admin || from.data?.enabled === false} onClick={() => setMaking(true)}>
          <Icon name="plus" size={14} /> New key
        </button>
      }
    >
      {(data) => (
        <>
          {data.note && <p class="note">{data.note}</p>}
          {data.keys.length === 0 ? (
            <p class="empty">
              No virtual keys yet. One key per team or program shows who spends what, and stops at its budget.
            </p>
          ) : (
            <div class="scroll" tabIndex={0} role="group" aria-label="Virtual keys table">
              <table class="keys">
                <thead>
                  <tr>
                    <th scope="col">Key</th>
                    <th scope="col" class="hide-narrow">May</th>
                    <th scope="col">Budget</th>
                    <th scope="col" class="hide-narrow">Runs out</th>
                    <th scope="col" class="hide-narrow">Limits</th>
                    <th scope="col" class="hide-narrow">Last used</th>
                    <th scope="col" />
                  </tr>
                </thead>
                <tbody>
                  {data.keys.map((key) => {
                    const [text, tone] = state(key, data.now_ms);
                    return (
                      <tr key={key.id} class={key.revoked_ms ? "gone" : ""}>
                        <td>
                          <b>{key.name}</b> <Chip tone={tone}>{text}</Chip>
                          <small class="note num">
                            ot_{key.id}_… {key.owner && `· ${key.owner}`}
                          </small>
                        </td>
                        <td class="hide-narrow">
                          {key.scopes.join(", ")}
                          <small class="note">{key.models?.length ? key.models.map(bare).join(", ") : "all models"}</small>
                        </td>
                        <td>
                          <Budget spent={key.spent_day_usd} limit={key.daily_usd} what="today" />
                          <Budget spent={key.spent_month_usd} limit={key.monthly_usd} what="this month" />
                        </td>
                        <td class="num hide-narrow">{runsOut(key, data.now_ms)}</td>
                        <td class="num hide-narrow">
                          {key.rpm ? `${count(key.rpm)} / min` : "–"}
                          <small class="note">{key.tpm ? `${count(key.tpm)} tokens / min` : ""}</small>
                        </td>
                        <td class="hide-narrow">{key.last_used_ms ? <Ago at={key.last_used_ms} /> : <span class="note">never</span>}</td>
                        <td class="r">
                          {!key.revoked_ms && admin && (
                            <span class="row end">
                              <button type="button" class="small" onClick={() => setChanging(key)}>
                                Change
                              </button>
                              <button type="button" class="small" onClick={() => void rotate(key)}>
                                Rotate
                              </button>
                              <button type="button" class="small danger" onClick={() => setRevoking(key)}>
                                Revoke
                              </button>
                            </span>
                          )}
                        </td>
                      </tr>
                    );
                  })}
                </tbody>
              </table>
            </div>
          )}
          {(making || changing) && (
            <NewKey
              old={changing}
              close={() => {
                setMaking(false);
                setChanging(null);
                from.reload();
              }}
              made={(value, name) => setSecret({ secret: value, name })}
            />
          )}
          {revoking && (
            <Dialog title={`Revoke ${revoking.name}?`} close={() => setRevoking(null)}>
              <p>Requests with this key are refused from now on. This cannot be taken back; its traces and spend stay.</p>
              <div class="row end">
                <button type="button" onClick={() => setRevoking(null)}>
                  Keep it
                </button>
                <button type="button" class="danger" onClick={() => void revoke(revoking)}>
                  Revoke
                </button>
              </div>
            </Dialog>
          )}
          {secret && (
            <Dialog title={`The key of ${secret.name}`} close={() => setSecret(null)}>
              <p>This is the only time it is shown: only a fingerprint of it is stored.</p>
              <Code text={secret.secret} what="Key" />
              <p class="note">Use it as a bearer token, or as OPENTRACY_API_KEY with the SDK.</p>
              <div class="row end">
                <button type="button" class="primary" onClick={() => setSecret(null)}>
                  I have kept it
                </button>
              </div>
            </Dialog>
          )}
        </>
      )}
    </LoadedCard>
  );
}

export function SpendScreen() {
  const keys = useLoad<KeysAnswer>("/v1/dashboard/keys", () => ({}), "", 15_000);
  return (
    <Screen title="Spend & keys" tools={<RangePicker />}>
      {session.value && !session.value.keys_required && (
        <p class="banner">
          This engine has no key configured and serves this machine only. Virtual keys are counted and limited all the same; requests without one are let in.
        </p>
      )}
      <Keys from={keys} />
      <Spend />
    </Screen>
  );
}

