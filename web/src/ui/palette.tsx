// The command palette (Ctrl or Cmd + K) and the list of keys (?).
import { useMemo, useState } from "preact/hooks";
import { saved } from "../lib/views";
import { session } from "../lib/session";
import { setTheme } from "../lib/theme";
import { term } from "../lib/query";
import { go, link } from "../lib/url";
import { Dialog } from "./dialog";

interface Command {
  text: string;
  note: string;
  run: () => void;
}

function commands(text: string): Command[] {
  const screens: Array<[string, string]> = [
    ["Overview", "/"],
    ["Traces", "/traces"],
    ["Routing", "/routing"],
    ["Playground", "/playground"],
    ["Spend & keys", "/spend"],
    ["Datasets", "/datasets"],
    ["System", "/system"],
  ];
  const all: Command[] = screens.map(([name, path]) => ({ text: name, note: "screen", run: () => go(link(path)) }));
  for (const view of saved.value) all.push({ text: view.name, note: "view", run: () => go(`/traces${view.search}`) });
  for (const model of session.value?.models ?? []) {
    all.push({ text: `Traces of ${model}`, note: "filter", run: () => go(link("/traces", { q: term("requested", model) })) });
  }
  for (const name of ["light", "dark", "system"] as const) all.push({ text: `Theme: ${name}`, note: "look", run: () => setTheme(name) });
  const wanted = text.trim().toLowerCase();
  const found = wanted ? all.filter((c) => wanted.split(/\s+/).every((w) => c.text.toLowerCase().includes(w))) : all;
  const id = wanted.replaceAll("-", "");
  if (/^[0-9a-f]{32}$/.test(id)) found.unshift({ text: `Open trace ${id}`, note: "trace", run: () => go(`/traces/${id}`) });
  if (wanted) found.push({ text: `Search traces for ${text.trim()}`, note: "search", run: () => go(link("/traces", { q: text.trim() })) });
  return found.slice(0, 12);
}

export function Palette({ close }: { close: () => void }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const found = useMemo(() => commands(text), [text]);
  const run = (command?: Command) => {
    close();
    command?.run();
  };
  return (
    <Dialog title="Go to" close={close}>
      <input
        autofocus
        role="combobox"
        aria-label="Command"
        aria-expanded="true"
        aria-controls="commands"
        aria-activedescendant={found[at] ? `command-${at}` : undefined}
        placeholder="A screen, a view, a trace id, or anything to search for"
        value={text}
        onInput={(e) => {
          setText(e.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={(e) => {
          if (e.key === "ArrowDown" || e.key === "ArrowUp") {
            e.preventDefault();
            setAt((at + (e.key === "ArrowDown" ? 1 : found.length - 1)) % Math.max(1, found.length));
          } else if (e.key === "Enter") {
            e.preventDefault();
            run(found[at]);
          }
        }}
      />
      <ul class="palette" id="commands" role="listbox" aria-label="Commands">
        {found.map((c, i) => (
          <li key={c.text} id={`command-${i}`} role="option" aria-selected={i === at} onPointerMove={() => setAt(i)} onClick={() => run(c)}>
            <span class="cut">{c.text}</span>
            <span class="note">{c.note}</span>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

const KEYS: Array<[string, string]> = [
  ["Ctrl K", "go anywhere"],
  ["g then o t r p s d y", "overview, traces, routing, playground, spend, datasets, system"],
  ["/ or f", "filter the traces"],
  ["j k", "next and previous trace, also with the detail open"],
  ["Enter", "open the trace"],
  ["Escape", "close what is open"],
  ["t", "live tail on and off"],
  ["[ ]", "shorter and longer time range"],
  ["Ctrl Enter", "run the prompt"],
  ["?", "this list"],
];

export function Help({ close }: { close: () => void }) {
  return (
    <Dialog title="Keys" close={close}>
      <dl class="keylist">
        {KEYS.map(([key, text]) => (
          <div key={key}>
            <dt>
              {key.split(" ").map((k, i) => (/^(or|then)$/.test(k) ? ` ${k} ` : <kbd key={i}>{k}</kbd>))}
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
