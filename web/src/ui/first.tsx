// What an empty store shows: the next step, with code that works on this host, and a request to send right away.
import { useState } from "preact/hooks";
import { send } from "../lib/api";
import { loadSession, session } from "../lib/session";
import { curl, python } from "../lib/snippets";
import { attempt, toast } from "../lib/toast";
import { Code, Tabs } from "./basics";
import { Icon } from "./icons";

const example = (model: string) => ({ model, messages: [{ role: "user", content: "Say hello in three languages." }] });

export function FirstSteps({ sent }: { sent: () => void }) {
  const [tab, setTab] = useState("curl");
  const [busy, setBusy] = useState(false);
  const who = session.value;
  const model = who?.auto ? "auto" : (who?.models[0] ?? "openai/gpt-4o-mini");
  const body = example(model);
  const keyed = who?.keys_required ?? false;
  const test = async () => {
    setBusy(true);
    const answer = await attempt(() =>
      send<{ model: string; trace_id: string }>("POST", "/v1/dashboard/test-request", {}),
    );
    setBusy(false);
    if (!answer) return;
    toast(`${answer.model} answered`);
    await loadSession();
    sent();
  };
  return (
    <section class="first card" aria-label="First steps">
      <h2>No traces yet</h2>
      <p>
        Every request that goes through this engine appears here a moment later: what was asked, which model answered, what it
        cost and why it was chosen. Send one to begin.
      </p>
      <div class="row">
        <button type="button" class="primary" disabled={busy} onClick={() => void test()}>
          <Icon name="play" size={14} />
          {busy ? "Sending…" : "Send a test request"}
        </button>
        <span class="note">
          {who?.models.length
            ? `goes to ${model}`
            : "needs no key: a stand-in inside the engine answers"}
        </span>
      </div>
      <p>Or from your own terminal or program:</p>
      <Tabs names={["curl", "Python"]} at={tab} pick={setTab} label="Language" />
      <Code text={tab === "curl" ? curl(body, keyed) : python(body, keyed)} />
    </section>
  );
}
