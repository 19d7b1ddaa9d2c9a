// The menus above the traces: export of the filter, choice of columns, saved views.
import { useState } from "preact/hooks";
import { address } from "../lib/api";
import { filter } from "../lib/filter";
import { set } from "../lib/url";
import { removeView, saved, saveView } from "../lib/views";
import { Icon } from "../ui/icons";
import { COLUMNS, DEFAULT_COLUMNS } from "./columns";

export function Export() {
  const [open, setOpen] = useState(false);
  const formats: Array<[string, string]> = [
    ["jsonl", "JSONL, everything"],
    ["csv", "CSV, the columns"],
    ["parquet", "Parquet"],
    ["finetune", "Fine-tuning (OpenAI)"],
  ];
  return (
    <span class="menu-holder">
      <button type="button" aria-haspopup="menu" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="download" size={14} /> Export
      </button>
      {open && (
        <span class="menu right" role="menu">
          {formats.map(([format, text]) => (
            <a role="menuitem" key={format} download href={address("/v1/dashboard/export", { format, ...filter() })} onClick={() => setOpen(false)}>
              {text}
            </a>
          ))}
        </span>
      )}
    </span>
  );
}

export function ColumnPicker({ on }: { on: string[] }) {
  const [open, setOpen] = useState(false);
  const flip = (id: string) => {
    const next = COLUMNS.map((c) => c.id).filter((c) => (c === id ? !on.includes(c) : on.includes(c)));
    set({ cols: next.join(",") === DEFAULT_COLUMNS.join(",") ? null : next.join(",") }, true);
  };
  return (
    <span class="menu-holder">
      <button type="button" aria-haspopup="true" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="columns" size={14} /> Columns
      </button>
      {open && (
        <span class="menu right checks">
          {COLUMNS.map((c) => (
            <label key={c.id}>
              <input type="checkbox" checked={on.includes(c.id)} onChange={() => flip(c.id)} /> {c.title}
            </label>
          ))}
        </span>
      )}
    </span>
  );
}

export function Views() {
  const [open, setOpen] = useState(false);
  const [name, setName] = useState("");
  return (
    <span class="menu-holder">
      <button type="button" aria-haspopup="true" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="filter" size={14} /> Views
      </button>
      {open && (
        <span class="menu right views">
          {saved.value.map((v) => (
            <span class="row" key={v.name}>
              <a href={`/traces${v.search}`} onClick={() => setOpen(false)}>
                {v.name}
              </a>
              <button type="button" class="ghost small" aria-label={`Forget ${v.name}`} onClick={() => removeView(v.name)}>
                <Icon name="close" size={12} />
              </button>
            </span>
          ))}
          <form
            class="row"
            onSubmit={(e) => {
              e.preventDefault();
              if (name.trim()) saveView(name.trim(), window.location.search);
              setName("");
            }}
          >
            <input aria-label="Name of the view" placeholder="Save this view as…" value={name} onInput={(e) => setName(e.currentTarget.value)} />
            <button type="submit" class="small">
              Save
            </button>
          </form>
        </span>
      )}
    </span>
  );
}
