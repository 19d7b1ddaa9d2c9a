// Keyboard: one table of keys, per screen on top of the global ones. Keys typed into a field belong to the field.
import { useEffect, useRef } from "preact/hooks";

type Handler = (event: KeyboardEvent) => void;
const layers: Array<{ current: Record<string, Handler> }> = [];

export function nameOf(event: KeyboardEvent): string {
  const mod = event.metaKey || event.ctrlKey ? "mod+" : "";
  return mod + event.key;
}

function typing(event: KeyboardEvent): boolean {
  const at = event.target as HTMLElement;
  return at.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(at.tagName);
}

window.addEventListener("keydown", (event) => {
  const name = nameOf(event);
  if (event.altKey || (typing(event) && name !== "Escape" && !name.startsWith("mod+"))) return;
  // Enter and space on a control are the control's own
  if ((name === "Enter" || name === " ") && (event.target as Element).closest("button, a, summary, [role=option]")) return;
  for (const layer of [...layers].reverse()) {
    const handler = layer.current[name];
    if (handler) {
      event.preventDefault();
      handler(event);
      return;
    }
  }
});

/** Binds keys while the component is shown; the latest component wins. */
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
