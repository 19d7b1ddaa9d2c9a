// Traces: query bar, facets, histogram to brush, a table of any length, live tail, export of exactly this filter.
// Everything that is chosen stands in the address.
import { Component } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { address, get, ApiError } from "../lib/api";
import { cssVar } from "../lib/colors";
import { filter, filterKey, query, setQuery } from "../lib/filter";
import { bare, count, plural } from "../lib/format";
import { useKeys } from "../lib/keys";
import { useLoad } from "../lib/load";
import { has, terms, toggle, without } from "../lib/query";
import { loadSession, session } from "../lib/session";
import { shade } from "../lib/theme";
import { column, grid, useStats } from "../lib/stats";
import { fixed, setFixed, stepRange } from "../lib/time";
import { param, params, path, set } from "../lib/url";
import type { Facets, Row } from "../lib/types";
import { Chip, Failed, Screen } from "../ui/basics";
import { Chart } from "../ui/chart";
import { FirstSteps } from "../ui/first";
import { Icon } from "../ui/icons";
import { RangePicker } from "../ui/range";
import { BESIDE, type Column, COLUMNS, DEFAULT_COLUMNS, NARROW } from "./columns";
import { ColumnPicker, Export, Views } from "./tools";
import { TraceDetail } from "./trace";

const PAGE = 250;
const ROW = 34;

const FACETS: Array<[string, string]> = [
  ["outcome", "Status"],
  ["model", "Model"],
  ["provider", "Provider"],
  ["requested", "Asked for"],
  ["key", "Key"],
  ["tag", "Tag"],
  ["cluster", "Cluster"],
  ["error", "Error"],
  ["stream", "Streamed"],
  ["tools", "With tools"],
  ["fallback", "Fell back"],
];
const FLAGS = new Set(["stream", "tools", "fallback"]);

// ---------------------------------------------------------------- query bar
function QueryBar({ problem }: { problem: string | null }) {
  const [text, setText] = useState(query());
  const filtered = useRef(query());
  // a filter that comes from elsewhere replaces the text in the same drawing; in an effect, it would come a frame later
  // and take with it what was typed meanwhile
  if (filtered.current !== query()) {
    filtered.current = query();
    setText(query());
  }
  const ref = useRef<HTMLInputElement>(null);
  useKeys({ "/": () => ref.current?.focus(), f: () => ref.current?.focus() });
  const chips = terms(query());
  return (
    <div class="query">
      <form
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          setQuery(text);
        }}
      >
        <Icon name="search" />
        <input
          ref={ref}
          type="search"
          aria-label="Filter traces"
          aria-invalid={problem !== null}
          placeholder={'model:gpt-4o status:error cost>0.01 "refund"'}
          value={text}
          spellcheck={false}
          autocomplete="off"
          onInput={(e) => setText(e.currentTarget.value)}
          onKeyDown={(e) => e.key === "Escape" && ref.current?.blur()}
        />
        <kbd>/</kbd>
      </form>
      {problem && (
        <p class="bad-text" role="alert">
          {problem}
        </p>
      )}
      {chips.length > 0 && (
        <div class="chips">
          {chips.map((t) => (
            <Chip key={t.text} tone={t.negated ? "bad" : "accent"} remove={() => setQuery(without(query(), t.text))}>
              {t.name ? (
                <>
                  <span class="note">{t.negated ? "not " : ""}{t.name}{t.op === ":" ? "" : ` ${t.op}`}</span> {t.value}
                </>
              ) : (
                <>text {t.value}</>
              )}
            </Chip>
          ))}
          <button type="button" class="small ghost" onClick={() => setQuery("")}>
            Clear all
          </button>
        </div>
      )}
    </div>
  );
}

// ---------------------------------------------------------------- facets
function FacetRail({ ready }: { ready: boolean }) {
  const from = useLoad<Facets, { facets: Facets }>(
    ready ? "/v1/traces/facets" : null,
    () => ({ field: FACETS.map(([name]) => name).join(","), ...filter() }),
    filterKey(),
    fixed.value ? 0 : 30_000,
    (answer) => answer.facets,
  );
  return (
    <aside class={`facets ${from.loading ? "refreshing" : ""}`} aria-label="Filters with counts">
      {from.error && <Failed error={from.error} again={from.reload} />}
      {from.data &&
        FACETS.map(([field, title]) => {
          const values = (from.data![field] ?? []).filter((v) => v.value !== null && v.value !== "");
          if (!values.length || (values.length < 2 && FLAGS.has(field))) return null;
          const top = Math.max(...values.map((v) => v.count));
          return (
            <details key={field} open={["outcome", "model", "provider"].includes(field) || terms(query()).some((t) => t.name === field)}>
              <summary>{title}</summary>
              <ul>
                {values.map(({ value, count: n }) => {
                  const text = FLAGS.has(field) ? (Number(value) ? "true" : "false") : String(value);
                  const named = field === "model" || (field === "requested" && values.filter((v) => bare(String(v.value)) === bare(text)).length === 1);
                  const shown = FLAGS.has(field) ? (Number(value) ? "yes" : "no") : named ? bare(text) : text.replaceAll("_", " ");
                  const on = has(query(), field, text);
                  return (
                    <li key={text}>
                      <button type="button" aria-pressed={on} title={text} onClick={() => setQuery(toggle(query(), field, text))}>
                        <i style={{ width: `${(n / top) * 100}%` }} aria-hidden="true" />
                        <span class="cut">{shown}</span>
                        <span class="num">{count(n)}</span>
                      </button>
                    </li>
                  );
                })}
              </ul>
            </details>
          );
        })}
    </aside>
  );
}

// ---------------------------------------------------------------- histogram
function Histogram({ ready }: { ready: boolean }) {
  // sums know nothing of texts: the bars are of everything that the other terms let through
  const q = () => terms(query()).filter((t) => t.name !== null).map((t) => t.text).join(" ");
  const from = useStats("requests,errors", () => ({ q: q() }), filterKey(), { buckets: 90, every: fixed.value ? 0 : 15_000, ready });
  const mode = shade.value;
  const chart = useMemo(() => {
    if (!from.data) return null;
    const times = grid(from.data);
    const errors = column(from.data.rows, times, "errors", 0);
    const all = column(from.data.rows, times, "requests", 0);
    return {
      times,
      total: all.reduce<number>((a, b) => a + (b ?? 0), 0),
      series: [
        { name: "failed", values: errors, color: cssVar("--bad") },
        { name: "ok", values: all.map((v, i) => (v ?? 0) - (errors[i] ?? 0)), color: cssVar("--accent") },
      ],
    };
  }, [from.data, mode]);
  if (from.error) return <Failed error={from.error} again={from.reload} />;
  if (!chart) return <div class="histogram" />;
  return (
    <div class="histogram" title="Drag across to narrow the time">
      <Chart label="Requests over time" times={chart.times} series={chart.series} format={(v) => count(v)} kind="bars" stacked height={84} brush={setFixed} legend={false} />
      <p class="note num" title={`${chart.total}`}>
        {plural(chart.total, "trace")}
        {terms(query()).some((t) => t.name === null) ? " before the text filter" : ""}
      </p>
    </div>
  );
}

// ---------------------------------------------------------------- rows
interface Rows {
  rows: Row[];
  next: string | null;
  loading: boolean;
  error: Error | null;
  more: () => void;
  reload: () => void;
  prepend: (fresh: Row[]) => void;
}

function useRows(): Rows {
  const [state, setState] = useState<{ rows: Row[]; next: string | null; loading: boolean; error: Error | null }>({ rows: [], next: null, loading: true, error: null });
  const [turn, setTurn] = useState(0);
  const busy = useRef(false);
  const frozen = useRef(filter());
  const key = filterKey();

  // before the frame is painted: the rows are what everybody waits for, the counts beside them may come later
  useLayoutEffect(() => {
    const abort = new AbortController();
    frozen.current = filter();
    busy.current = true;
    setState((old) => ({ ...old, loading: true, error: null }));
    get<{ data: Row[]; next: string | null }>("/v1/traces", { ...frozen.current, limit: PAGE }, abort.signal)
      .then((page) => setState({ rows: page.data, next: page.next, loading: false, error: null }))
      .catch((error: Error) => error.name !== "AbortError" && setState({ rows: [], next: null, loading: false, error }))
      .finally(() => {
        if (!abort.signal.aborted) busy.current = false; // the next question is under way already
      });
    return () => abort.abort();
  }, [key, turn]);

  const more = useCallback(() => {
    if (busy.current || !state.next) return;
    busy.current = true;
    const asked = frozen.current;
    get<{ data: Row[]; next: string | null }>("/v1/traces", { ...asked, cursor: state.next, limit: PAGE })
      .then((page) => asked === frozen.current && setState((old) => ({ ...old, rows: [...old.rows, ...page.data], next: page.next })))
      .catch((error: Error) => setState((old) => ({ ...old, error })))
      .finally(() => (busy.current = false));
  }, [state.next]);

  const prepend = useCallback((fresh: Row[]) => {
    setState((old) => {
      const seen = new Set(old.rows.slice(0, 400).map((r) => r.trace_id));
      return { ...old, rows: [...fresh.filter((r) => !seen.has(r.trace_id)), ...old.rows] };
    });
  }, []);

  return { ...state, more, reload: () => setTurn((n) => n + 1), prepend };
}

// ---------------------------------------------------------------- live tail
/** New traces as they arrive, held back while the reader points at the table or has scrolled down. */
function useTail(live: boolean, hold: () => boolean, prepend: (rows: Row[]) => void) {
  const [waiting, setWaiting] = useState<Row[]>([]);
  const [state, setState] = useState("off");
  const held = useRef<Row[]>([]);
  const release = useCallback(() => {
    prepend(held.current);
    held.current = [];
    setWaiting([]);
  }, [prepend]);
  const key = query();
  useEffect(() => {
    if (!live) {
      setState("off");
      return;
    }
    const source = new EventSource(address("/v1/traces/tail", { q: key }));
    source.addEventListener("open", () => setState("on"));
    source.addEventListener("error", () => setState("reconnecting"));
    // one event per trace, many at once: drawn together in the next frame
    let fresh: Row[] = [];
    let frame = 0;
    const show = () => {
      frame = 0;
      const batch = fresh;
      fresh = [];
      if (hold()) {
        held.current = [...batch, ...held.current].slice(0, 5_000);
        setWaiting(held.current);
      } else prepend(batch);
    };
    source.addEventListener("message", (event) => {
      fresh.unshift(JSON.parse((event as MessageEvent<string>).data) as Row);
      frame ||= requestAnimationFrame(show);
    });
    return () => source.close();
  }, [live, key]);
  return { waiting: waiting.length, release, state };
}

// ---------------------------------------------------------------- table
interface LineProps {
  row: Row;
  at: number;
  open: boolean;
  columns: Column[];
  template: string;
  pick: (id: string) => void;
  moment: number; // changes when relative times have to be said anew
}

/** One row, drawn again only when something in it changes: scrolling moves a window over thousands of them. */
class Line extends Component<LineProps> {
  shouldComponentUpdate(next: LineProps) {
    const now = this.props;
    return now.row !== next.row || now.at !== next.at || now.open !== next.open || now.template !== next.template || now.moment !== next.moment;
  }

  render({ row, at, open, columns, template, pick }: LineProps) {
    return (
      <div
        role="row"
        data-id={row.trace_id}
        aria-rowindex={at + 2}
        aria-selected={open}
        class={`grid-row ${row.outcome === "ok" ? "" : "failed-row"}`}
        style={{ gridTemplateColumns: template, transform: `translateY(${at * ROW}px)` }}
        onClick={() => pick(row.trace_id)}
      >
        {columns.map((c) => (
          <div role="gridcell" key={c.id} class={c.right ? "r" : ""}>
            {c.show(row)}
          </div>
        ))}
      </div>
    );
  }
}

interface TableProps {
  from: Rows;
  columns: Column[];
  terse: boolean;
  open: string;
  pick: (id: string) => void;
  scroller: preact.RefObject<HTMLDivElement | null>;
}

function Table({ from, columns, terse, open, pick, scroller }: TableProps) {
  const [view, setView] = useState({ first: 0, height: 600 });
  const template = columns.map((c) => c.width).join(" ");
  const moment = Math.floor(Date.now() / 20_000);
  const { rows } = from;

  useEffect(() => {
    const box = scroller.current!;
    let frame = 0;
    const measure = () => {
      frame = 0;
      const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 6);
      setView((old) => (old.first === first && old.height === box.clientHeight ? old : { first, height: box.clientHeight }));
    };
    const ask = () => {
      frame ||= requestAnimationFrame(measure);
    };
    box.addEventListener("scroll", ask, { passive: true });
    const watch = new ResizeObserver(ask);
    watch.observe(box);
    measure();
    return () => {
      cancelAnimationFrame(frame);
      box.removeEventListener("scroll", ask);
      watch.disconnect();
    };
  }, []);

  const last = Math.min(rows.length, view.first + Math.ceil(view.height / ROW) + 12);
  useEffect(() => {
    if (last > rows.length - 60) from.more();
  }, [last, rows.length, from.more]);

  const shown = rows.slice(view.first, last);
  return (
    <div class={terse ? "grid terse" : "grid"}>
      <div
        class="grid-scroll"
        ref={scroller}
        tabIndex={0}
        role="grid"
        aria-label="Traces"
        aria-rowcount={from.next ? -1 : rows.length + 1}
        aria-busy={from.loading}
      >
        <div role="rowgroup" class="grid-head">
          <div role="row" class="grid-row" style={{ gridTemplateColumns: template }} aria-rowindex={1}>
            {columns.map((c) => (
              <div role="columnheader" key={c.id} class={c.right ? "r" : ""}>
                {c.title}
              </div>
            ))}
          </div>
        </div>
        <div role="rowgroup" class="grid-body" style={{ height: `${rows.length * ROW}px` }}>
          {shown.map((row, i) => (
            <Line key={row.trace_id} row={row} at={view.first + i} open={row.trace_id === open} columns={columns} template={template} pick={pick} moment={moment} />
          ))}
        </div>
      </div>
      {!rows.length && !from.loading && !from.error && (
        <div class="empty">
          <p>Nothing matches in this range.</p>
          <div class="row">
            {query() && (
              <button type="button" onClick={() => setQuery("")}>
                Clear the filter
              </button>
            )}
            <button type="button" onClick={() => stepRange(1)}>
              Look further back
            </button>
          </div>
        </div>
      )}
    </div>
  );
}

// ---------------------------------------------------------------- screen
export function Traces() {
  const from = useRows();
  const scroller = useRef<HTMLDivElement>(null);
  const hovering = useRef(false);
  const [rail, setRail] = useState(false);
  // whether a text occurs is looked up among what is stored, so it cannot be watched for
  const worded = terms(query()).some((t) => t.name === null);
  const live = params.value.get("live") === "1" && !worded;
  const open = param("open");
  const wide = window.innerWidth > 720;
  const beside = open && window.innerWidth < 1900; // the open trace needs the room of some columns
  const chosen = params.value.get("cols")?.split(",") ?? (!wide ? Object.keys(NARROW) : beside ? Object.keys(BESIDE) : DEFAULT_COLUMNS);
  const widths = !wide ? NARROW : beside && !params.value.get("cols") ? BESIDE : {};
  const columns = COLUMNS.filter((c) => chosen.includes(c.id)).map((c) => (widths[c.id] ? { ...c, width: widths[c.id] } : c));
  const tail = useTail(live, () => hovering.current || (scroller.current?.scrollTop ?? 0) > 4, from.prepend);

  const problem = from.error instanceof ApiError && from.error.status === 400 ? from.error.message : null;
  const pick = (id: string | null) => set({ open: id }, Boolean(open && id));
  const at = from.rows.findIndex((row) => row.trace_id === open);
  const step = (by: number) => {
    const next = from.rows[at < 0 ? 0 : at + by];
    if (!next) return;
    pick(next.trace_id);
    const box = scroller.current!;
    const y = from.rows.indexOf(next) * ROW;
    if (y < box.scrollTop) box.scrollTop = y;
    else if (y + ROW * 3 > box.scrollTop + box.clientHeight) box.scrollTop = y - box.clientHeight + ROW * 3;
  };
  // the first rows do not share the engine with the counts beside them
  const [ready, setReady] = useState(false);
  useEffect(() => {
    if (!from.loading) setReady(true);
  }, [from.loading]);
  // the same elements as before are not gone through again when the next page of rows arrives
  const bar = useMemo(() => <QueryBar problem={problem} />, [problem]);
  const rails = useMemo(() => <FacetRail ready={ready} />, [ready]);
  const bars = useMemo(() => <Histogram ready={ready} />, [ready]);
  const flipLive = () => set({ live: live ? null : "1" }, true);
  useKeys({
    j: () => step(1),
    k: () => step(-1),
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
    Enter: () => (open ? set({}, true) : step(0)),
    Escape: () => pick(null),
    t: flipLive,
    "[": () => stepRange(-1),
    "]": () => stepRange(1),
  });

  if (session.value?.empty && !query()) {
    return (
      <Screen title="Traces">
        <FirstSteps sent={() => { void loadSession(); from.reload(); }} />
      </Screen>
    );
  }
  return (
    <Screen
      title="Traces"
      tools={
        <>
          <button type="button" aria-pressed={live} class={live ? "live on" : "live"} disabled={worded} onClick={flipLive} title={worded ? "Not with a text filter" : "New traces as they arrive (t)"}>
            <Icon name="live" size={14} /> {tail.state === "reconnecting" ? "Reconnecting" : "Live"}
          </button>
          <RangePicker />
          <Views />
          <ColumnPicker on={chosen} />
          <Export />
        </>
      }
    >
      {bar}
      <div class={`traces ${rail ? "rail-open" : ""}`}>
        <button type="button" class="rail-toggle" aria-expanded={rail} onClick={() => setRail(!rail)}>
          <Icon name="filter" size={14} /> Filters
        </button>
        {rails}
        <div class="results" onPointerEnter={() => (hovering.current = true)} onPointerLeave={() => { hovering.current = false; if (tail.waiting && (scroller.current?.scrollTop ?? 0) < 4) tail.release(); }}>
          {bars}
          {from.error && !problem && <Failed error={from.error} again={from.reload} />}
          {tail.waiting > 0 && (
            <button type="button" class="pill" onClick={() => { tail.release(); scroller.current!.scrollTop = 0; }}>
              {count(tail.waiting)} new
            </button>
          )}
          <Table from={from} columns={columns} terse={widths === BESIDE} open={open} pick={pick} scroller={scroller} />
        </div>
        {open && path.value === "/traces" && (
          <aside class="drawer" aria-label="Trace">
            <TraceDetail id={open} close={() => pick(null)} previous={at > 0 ? () => step(-1) : undefined} next={at >= 0 && at < from.rows.length - 1 ? () => step(1) : undefined} />
          </aside>
        )}
      </div>
    </Screen>
  );
}

