// Keyboard: one table of keys, per screen on top of the global ones. Keys typed into a field belong to the field, and
// while a dialog is open all of them are the dialog's.
import { useEffect, useRef } from "preact/hooks";

type Handler = (event: KeyboardEvent) => void;
const layers: Array<{ current: Record<string, Handler> }> = [];

/** How long the first key of a pair ("g t") waits for the second, ms. */
const PATIENCE = 1_000;
/** The first key of a pair that was pressed, and when; null when none waits. */
let begun: { key: string; at: number } | null = null;

export function nameOf(event: KeyboardEvent): string {
  const mod = event.metaKey || event.ctrlKey ? "mod+" : "";
  return mod + event.key;
}

function typing(event: KeyboardEvent): boolean {
  const at = event.target as HTMLElement;
  return at.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(at.tagName);
}

function find(name: string): Handler | undefined {
  for (let i = layers.length - 1; i >= 0; i--) {
    const handler = layers[i].current[name];
    if (handler) return handler;
  }
  return undefined;
}

const begins = (name: string) => layers.some((layer) => Object.keys(layer.current).some((key) => key.startsWith(`${name} `)));

window.addEventListener("keydown", (event) => {
  const name = nameOf(event);
  if (["Shift", "Control", "Meta", "Alt"].includes(event.key)) return;
  const before = begun;
  begun = null; // whatever comes now, a pair that was begun ends with it
  if (event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (typing(event) && name !== "Escape" && !name.startsWith("mod+")) return;
  // Enter and space on a control are the control's own
  if ((name === "Enter" || name === " ") && (event.target as Element).closest("button, a, summary, [role=option]")) return;
  const pair = before && event.timeStamp - before.at < PATIENCE ? find(`${before.key} ${name}`) : undefined;
  const handler = pair ?? find(name);
  if (handler) {
    event.preventDefault();
    handler(event);
  } else if (begins(name)) begun = { key: name, at: event.timeStamp };
});

/** Binds keys, and pairs of keys as "g t", while the component is shown; the latest component wins. */
export function useKeys(table: Record<string, Handler>) {
  const ref = useRef(table);
  ref.current = table;
  useEffect(() => {
    layers.push(ref);
    return () => {
      layers.splice(layers.indexOf(ref), 1);
    };
  }, []);
}
