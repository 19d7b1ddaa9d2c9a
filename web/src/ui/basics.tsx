// Small parts that every screen is made of.
import type { ComponentChildren, TargetedKeyboardEvent } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Loaded } from "../lib/load";
import { ago, bare, bothClocks, nano } from "../lib/format";
import { colorVar } from "../lib/colors";
import { toast } from "../lib/toast";
import { Icon } from "./icons";

/** True once something has been going on for 150 ms: before that a skeleton would only flicker. */
function useLate(on: boolean): boolean {
  const [late, setLate] = useState(false);
  useEffect(() => {
    if (!on) {
      setLate(false);
      return;
    }
    const timer = setTimeout(() => setLate(true), 150);
    return () => clearTimeout(timer);
  }, [on]);
  return late;
}

export function Failed({ error, again }: { error: Error; again: () => void }) {
  return (
    <div class="failed" role="alert">
      <Icon name="warn" />
      <span>{error.message}</span>
      <button type="button" class="small" onClick={again}>
        Try again
      </button>
    </div>
  );
}

interface CardProps {
  title?: string;
  note?: ComponentChildren;
  actions?: ComponentChildren;
  class?: string;
  children: ComponentChildren;
}

export function Card({ title, note, actions, class: more = "", children }: CardProps) {
  return (
    <section class={`card ${more}`} aria-label={title}>
      {(title || actions) && (
        <header>
          {title && <h2>{title}</h2>}
          {note && <span class="note">{note}</span>}
          {actions && <div class="actions">{actions}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

/** A card around something loaded: skeleton, old data while new ones come, and an error of its own. */
export function LoadedCard<T>({
  from,
  children,
  room = 80,
  ...rest
}: Omit<CardProps, "children"> & {
  from: Loaded<T>;
  children: (data: T) => ComponentChildren;
  /** Height in pixels that is kept free until there is something: what stands below must not move away from the pointer. */
  room?: number;
}) {
  const late = useLate(from.loading && from.data === null);
  return (
    <Card {...rest} class={`${rest.class ?? ""} ${from.loading && from.data ? "refreshing" : ""}`}>
      {from.error && <Failed error={from.error} again={from.reload} />}
      {from.data !== null ? children(from.data) : (
        <div style={{ minHeight: from.error ? "" : `${room}px` }}>{late && !from.error && <Skeleton />}</div>
      )}
    </Card>
  );
}

export const Skeleton = () => (
  <div class="skeleton" role="status" aria-label="Loading">
    <i />
    <i />
    <i />
  </div>
);

export function Ago({ at, now }: { at: number; now?: number }) {
  return (
    <time class="num" dateTime={new Date(at).toISOString()} title={bothClocks(at)}>
      {ago(at, now)}
    </time>
  );
}

export function Model({ name, full = false }: { name: string; full?: boolean }) {
  return (
    <span class="model" title={name}>
      <i class="dot" style={{ background: colorVar(name) }} aria-hidden="true" />
      <span class="cut">{(full ? name : bare(name)) || "–"}</span>
    </span>
  );
}

const OUTCOMES: Record<string, [string, string, string]> = {
  ok: ["ok", "check", "ok"],
  upstream_error: ["bad", "cross", "upstream error"],
  timeout: ["bad", "cross", "timeout"],
  truncated: ["bad", "cross", "truncated"],
  client_cancelled: ["mild", "close", "cancelled"],
  rejected: ["mild", "warn", "rejected"],
  shed: ["bad", "warn", "shed"],
  interrupted: ["bad", "cross", "interrupted"],
};

export function Outcome({ outcome, http }: { outcome: string; http?: number }) {
  const [tone, icon, text] = OUTCOMES[outcome] ?? ["mild", "help", outcome];
  return (
    <span class={`outcome ${tone}`}>
      <Icon name={icon} size={13} />
      {text}
      {http !== undefined && outcome !== "ok" && <span class="num"> {http}</span>}
    </span>
  );
}

export function Chip({ children, remove, tone = "" }: { children: ComponentChildren; remove?: () => void; tone?: string }) {
  return (
    <span class={`chip ${tone}`}>
      {children}
      {remove && (
        <button type="button" aria-label="Remove" onClick={remove}>
          <Icon name="close" size={12} />
        </button>
      )}
    </span>
  );
}

export function Stat({ label, children, hint }: { label: string; children: ComponentChildren; hint?: string }) {
  return (
    <div class="stat" title={hint}>
      <span class="label">{label}</span>
      <span class="value num">{children}</span>
    </div>
  );
}

export const Money = ({ value, title }: { value: number | null | undefined; title?: string }) => (
  <span class="num" title={title ?? (value === null || value === undefined ? "The price of this model is not known" : `${value} nano-USD`)}>
    {nano(value)}
  </span>
);

export function Bar({ share, tone = "", label }: { share: number; tone?: string; label: string }) {
  const percent = Math.max(0, Math.min(100, share * 100));
  return (
    <div
      class={`bar ${tone}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(percent)}
    >
      <i style={{ width: `${percent}%` }} />
    </div>
  );
}

export async function copy(text: string, what: string) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    toast("The browser does not let this page copy: select the text instead", "bad");
  }
}

export function CopyButton({ text, what, label = "Copy" }: { text: () => string; what: string; label?: string }) {
  return (
    <button type="button" class="small" aria-label={label ? undefined : `Copy ${what.toLowerCase()}`} onClick={() => void copy(text(), what)}>
      <Icon name="copy" size={14} />
      {label}
    </button>
  );
}

export function Code({ text, what = "Snippet" }: { text: string; what?: string }) {
  return (
    <div class="code">
      <CopyButton text={() => text} what={what} />
      <pre tabIndex={0}>{text}</pre>
    </div>
  );
}

export function Tabs({ names, at, pick, label }: { names: string[]; at: string; pick: (name: string) => void; label: string }) {
  const move = (event: TargetedKeyboardEvent<HTMLDivElement>) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const next = names[(names.indexOf(at) + step + names.length) % names.length];
    pick(next);
    (event.currentTarget.children[names.indexOf(next)] as HTMLElement).focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} onKeyDown={move}>
      {names.map((name) => (
        <button
          type="button"
          role="tab"
          key={name}
          aria-selected={name === at}
          tabIndex={name === at ? 0 : -1}
          onClick={() => pick(name)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}

export function Field({ label, hint, children }: { label: string; hint?: string; children: ComponentChildren }) {
  return (
    <label class="field">
      <span>{label}</span>
      {children}
      {hint && <small>{hint}</small>}
    </label>
  );
}

export function Screen({ title, lead, tools, children }: { title: string; lead?: ComponentChildren; tools?: ComponentChildren; children: ComponentChildren }) {
  useEffect(() => {
    document.title = `${title} · OpenTracy`;
  }, [title]);
  return (
    <>
      <div class="head">
        <div>
          <h1>{title}</h1>
          {lead && <p class="lead">{lead}</p>}
        </div>
        {tools && <div class="tools">{tools}</div>}
      </div>
      {children}
    </>
  );
}
