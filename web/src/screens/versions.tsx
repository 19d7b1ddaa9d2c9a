// The router's versions, what another one would do, and what was learned since the one in use was trained.
import { useState } from "preact/hooks";
import { get, send } from "../lib/api";
import { bare, count, percent, plural, usd } from "../lib/format";
import { useLoad } from "../lib/load";
import { may } from "../lib/session";
import { attempt, toast } from "../lib/toast";
import { set } from "../lib/url";
import type { Comparison, RouterState, Version } from "../lib/types";
import { Ago, Chip, LoadedCard, Model } from "../ui/basics";
import { Dialog } from "../ui/dialog";
import { Icon } from "../ui/icons";

// ---------------------------------------------------------------- versions
const shares = (of: Record<string, number>) =>
  Object.entries(of)
    .map(([name, share]) => `${bare(name)} ${percent(share)}`)
    .join(", ");

/** Both routers on the same prompts, each by its own estimates. */
function SideBySide({ data: d, close }: { data: Comparison; close: () => void }) {
  return (
    <Dialog title={`${d.version} beside the one in use`} close={close} wide>
      {d.prompts === 0 ? (
        <p class="empty">There are no routed prompts with their texts in the last seven days to compare on.</p>
      ) : (
        <>
          <p class="sentence">
            Of {plural(d.prompts, "prompt")} of the last seven days, <b class="num">{percent(d.moved)}</b> would go to another model.
          </p>
          <div class="scroll" tabIndex={0} role="group" aria-label="Versions side by side">
            <table>
              <thead>
                <tr>
                  <th scope="col">Version</th>
                  <th scope="col" class="r">Quality</th>
                  <th scope="col" class="r">Cost of 1,000</th>
                  <th scope="col" class="hide-narrow">Who answers</th>
                </tr>
              </thead>
              <tbody>
                {([[d.current, d.before], [d.version, d.after]] as const).map(([name, side], i) => (
                  <tr key={name}>
                    <td class="num">
                      {name} {i === 0 && <Chip tone="accent">in use</Chip>}
                    </td>
                    <td class="r num">{side.quality?.toFixed(3) ?? "–"}</td>
                    <td class="r num">{usd(side.cost === null ? null : side.cost * 1000)}</td>
                    <td class="hide-narrow note">{shares(side.shares)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <p class="note">Each version by its own estimates: only judged answers tell which of the two is right.</p>
          {d.examples.length > 0 && (
            <ul class="plain">
              {d.examples.map((e, i) => (
                <li key={i}>
                  <Model name={e.before} /> → <Model name={e.after} /> <span class="note">{e.prompt}</span>
                </li>
              ))}
            </ul>
          )}
        </>
      )}
    </Dialog>
  );
}

export function Versions() {
  const from = useLoad<{ versions: Version[]; can_change: boolean; note: string }>("/v1/dashboard/routing/versions", () => ({}), "");
  const [asked, setAsked] = useState<Version | null>(null);
  const [compared, setCompared] = useState<Comparison | null>(null);
  const compare = async (version: Version) => setCompared(await attempt(() => get<Comparison>("/v1/dashboard/routing/compare", { version: version.version })));
  const promote = async (version: Version) => {
    setAsked(null);
    const done = await attempt(() => send("POST", "/v1/dashboard/routing/promote", { version: version.version }));
    if (done) {
      toast(`Router ${version.version} decides from now on`);
      from.reload();
    }
  };
  return (
    <LoadedCard from={from} room={130} title="Router versions">
      {(data) => (
        <>
          <table>
            <thead>
              <tr>
                <th scope="col">Version</th>
                <th scope="col" class="hide-narrow">Made</th>
                <th scope="col" class="r">Prompts</th>
                <th scope="col" class="r hide-narrow">Models</th>
                <th scope="col" />
              </tr>
            </thead>
            <tbody>
              {data.versions.map((v) => (
                <tr key={v.version} class={v.current ? "chosen" : ""}>
                  <td class="num">
                    {v.version} {v.current && <Chip tone="accent">in use</Chip>}
                    {v.note && <small class="note">{v.note}</small>}
                  </td>
                  <td class="hide-narrow">{v.created_ms ? <Ago at={v.created_ms} /> : <span class="note">bundled</span>}</td>
                  <td class="r num">{count(v.rows)}</td>
                  <td class="r num hide-narrow" title={v.models ? "" : "any model, from published figures"}>
                    {v.models ? count(v.models) : "any"}
                  </td>
                  <td class="r">
                    {!v.current && (
                      <span class="row end">
                        <button type="button" class="small" onClick={() => void compare(v)}>
                          Compare
                        </button>
                        <button type="button" class="small" disabled={!may("admin")} onClick={() => setAsked(v)}>
                          Use this one
                        </button>
                      </span>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
          <p class="note">{data.note}</p>
          {compared && <SideBySide data={compared} close={() => setCompared(null)} />}
          {asked && (
            <Dialog title="Change the router" close={() => setAsked(null)}>
              <p>
                Router <b>{asked.version}</b> will decide from the next request on. Requests that are running are not touched, and you can come back to the
                one in use now in the same way.
              </p>
              <div class="row end">
                <button type="button" onClick={() => setAsked(null)}>
                  Leave it
                </button>
                <button type="button" class="primary" onClick={() => void promote(asked)}>
                  Use {asked.version}
                </button>
              </div>
            </Dialog>
          )}
        </>
      )}
    </LoadedCard>
  );
}

// ---------------------------------------------------------------- learned
const ClusterLink = ({ id, label }: { id: number; label: string | null }) => (
  <button type="button" class="value" onClick={() => set({ cluster: String(id) })}>
    <span class="num note">{id}</span> {label}
  </button>
);

export function Learned() {
  const from = useLoad<RouterState>("/v1/router", () => ({}), "", 30_000);
  return (
    <LoadedCard from={from} title="Learned since it was trained" note={from.data ? `from ${plural(from.data.learned.outcomes, "judged answer")} (${from.data.metric})` : ""}>
      {({ learned, drift, shadow, metric }) => (
        <div class="stack">
          {[...learned.alarms.map((a) => ({ ...a, text: `${bare(a.model)} is ${a.direction === "up" ? "better" : "worse"} than it was` })), ...drift.map((d) => ({ ...d, text: `${d.kind} of its traffic is ${d.observed.toFixed(3)} instead of ${d.expected.toFixed(3)}` }))].map((a, i) => (
            <div class="banner" key={i}>
              <Icon name="warn" size={13} /> <ClusterLink id={a.cluster_id} label={a.cluster_label} />: {a.text}
            </div>
          ))}
          {learned.shifts.length ? (
            <table>
              <thead>
                <tr>
                  <th scope="col">Cluster</th>
                  <th scope="col">Model</th>
                  <th scope="col" class="r">Answers</th>
                  <th scope="col" class="r" title="By how much the expected quality was moved">Moved by</th>
                </tr>
              </thead>
              <tbody>
                {learned.shifts.slice(0, 10).map((s) => (
                  <tr key={`${s.cluster_id} ${s.model}`}>
                    <td>
                      <ClusterLink id={s.cluster_id} label={s.cluster_label} />
                    </td>
                    <td>
                      <Model name={s.model} />
                    </td>
                    <td class="r num">{count(s.outcomes)}</td>
                    <td class={`r num ${s.shift < 0 ? "bad-text" : ""}`}>
                      {s.shift < 0 ? "−" : "+"}
                      {Math.abs(s.shift).toFixed(3)}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          ) : (
            <p class="note">
              No answer was judged yet. Feedback named <code>{metric}</code>, on a trace or by <code>POST /v1/feedback</code>, moves the estimates at once.
            </p>
          )}
          <p class="note num">
            {shadow.judge && shadow.share > 0 ? (
              <>
                Shadow: {percent(shadow.share)} of the requests are asked again of a second model and judged by {shadow.judge}; {plural(shadow.replays, "replay")}, {count(shadow.judged)} judged, {usd(shadow.spent)} of {usd(shadow.budget)} today.
                {shadow.problem && <span class="bad-text"> {shadow.problem}</span>}
              </>
            ) : (
              <>
                Shadow evaluation is off: <code>share</code> and <code>judge</code> under <code>[shadow]</code> ask a part of the requests again of a second model.
              </>
            )}
          </p>
        </div>
      )}
    </LoadedCard>
  );
}
