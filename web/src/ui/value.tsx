// A value that can be filtered by, excluded or copied with one click.
import { useEffect, useRef, useState } from "preact/hooks";
import { term } from "../lib/query";
import { go, link } from "../lib/url";
import { copy } from "./basics";
import type { ComponentChildren } from "preact";

interface Props {
  field: string;
  value: string;
  children?: ComponentChildren;
}

export function Value({ field, value, children }: Props) {
  const [open, setOpen] = useState(false);
  const ref = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (!open) return;
    const close = (event: Event) => {
      if (event instanceof KeyboardEvent ? event.key === "Escape" : !ref.current?.contains(event.target as Node)) {
        event.stopPropagation();
        setOpen(false);
      }
    };
    document.addEventListener("pointerdown", close);
    document.addEventListener("keydown", close, true);
    return () => {
      document.removeEventListener("pointerdown", close);
      document.removeEventListener("keydown", close, true);
    };
  }, [open]);
  const search = (negated: boolean) => go(link("/traces", { q: term(field, value, negated) }));
  return (
    <span class="menu-holder" ref={ref}>
      <button type="button" class="value" aria-haspopup="menu" aria-expanded={open} onClick={() => setOpen(!open)}>
        {children ?? value}
      </button>
      {open && (
        <span class="menu" role="menu">
          <button type="button" role="menuitem" onClick={() => search(false)}>
            Only {field}:{value}
          </button>
          <button type="button" role="menuitem" onClick={() => search(true)}>
            Without {field}:{value}
          </button>
          <button type="button" role="menuitem" onClick={() => { setOpen(false); void copy(value, field); }}>
            Copy
          </button>
        </span>
      )}
    </span>
  );
}
