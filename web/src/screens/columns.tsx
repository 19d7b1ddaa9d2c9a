// The columns of the traces: what each shows, and which of them stay where there is little room.
import { ago, bare, bothClocks, count, ms, nano } from "../lib/format";
import type { Row } from "../lib/types";
import { Model, Outcome } from "../ui/basics";

export interface Column {
  id: string;
  title: string;
  width: string;
  right?: boolean;
  show: (row: Row) => preact.ComponentChildren;
}

export const COLUMNS: Column[] = [
  { id: "time", title: "Time", width: "92px", show: (r) => <time class="num" dateTime={new Date(r.ts_ms).toISOString()} title={bothClocks(r.ts_ms)}>{ago(r.ts_ms)}</time> },
  { id: "status", title: "Status", width: "158px", show: (r) => <Outcome outcome={r.outcome} http={r.http_status} /> },
  { id: "model", title: "Model", width: "minmax(150px, 1.6fr)", show: (r) => <Model name={r.model || r.requested_model} /> },
  { id: "requested", title: "Asked for", width: "minmax(90px, 1fr)", show: (r) => <span class="cut note" title={r.requested_model}>{bare(r.requested_model)}{r.fallback ? " ⤳" : ""}</span> },
  { id: "latency", title: "Latency", width: "84px", right: true, show: (r) => <span class="num">{ms(r.latency_ms)}</span> },
  { id: "ttft", title: "First token", width: "84px", right: true, show: (r) => <span class="num">{ms(r.ttft_ms)}</span> },
  { id: "tokens", title: "Tokens", width: "110px", right: true, show: (r) => <span class="num" title="in → out">{count(r.tokens_in)} → {count(r.tokens_out)}</span> },
  { id: "cost", title: "Cost", width: "88px", right: true, show: (r) => <span class="num">{nano(r.cost_nano)}</span> },
  { id: "provider", title: "Provider", width: "92px", show: (r) => <span class="cut">{r.provider || "–"}</span> },
  { id: "cluster", title: "Cluster", width: "70px", right: true, show: (r) => <span class="num">{r.cluster_id ?? "–"}</span> },
  { id: "key", title: "Key", width: "minmax(70px, .8fr)", show: (r) => <span class="cut">{r.key_id ?? "–"}</span> },
  { id: "tags", title: "Tags", width: "minmax(80px, 1fr)", show: (r) => <span class="cut">{r.tags.join(", ") || "–"}</span> },
  { id: "user", title: "User", width: "minmax(80px, .8fr)", show: (r) => <span class="cut">{r.user_id ?? "–"}</span> },
  { id: "session", title: "Session", width: "minmax(80px, .8fr)", show: (r) => <span class="cut">{r.session_id ?? "–"}</span> },
  { id: "attempts", title: "Attempts", width: "72px", right: true, show: (r) => <span class="num">{r.attempts}</span> },
  { id: "error", title: "Error", width: "minmax(90px, 1fr)", show: (r) => <span class="cut bad-text">{r.error_type ?? ""}</span> },
];
export const DEFAULT_COLUMNS = ["time", "status", "model", "requested", "latency", "ttft", "tokens", "cost"];
/** What stays in view beside an open trace. */
export const BESIDE: Record<string, string> = { time: "84px", status: "44px", model: "minmax(110px, 1fr)", latency: "70px", cost: "80px" };
/** What a telephone shows: columns and their widths. */
export const NARROW: Record<string, string> = { time: "70px", status: "44px", model: "minmax(0, 1fr)", cost: "76px" };
