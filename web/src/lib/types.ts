// The shapes of the engine's answers (opentracy/engine/dashboard_*.py). Times are milliseconds, money nano-USD where the
// name says so and USD otherwise; null is "not known".

export interface Session {
  keys_required: boolean;
  signed_in: boolean;
  key_id: string | null;
  scopes: string[];
  version: string;
  empty: boolean;
  traces_enabled: boolean;
  models: string[];
  seen: string[];
  auto: boolean;
  /** the feedback that the router learns from */
  metric: string;
}

export interface Row {
  trace_id: string;
  seq: number;
  ts_ms: number;
  outcome: string;
  http_status: number;
  model: string;
  provider: string;
  requested_model: string;
  alias: string | null;
  project: string | null;
  key_id: string | null;
  user_id: string | null;
  session_id: string | null;
  tags: string[];
  cluster_id: number | null;
  stream: boolean;
  cache_hit: boolean;
  has_tools: boolean;
  fallback: boolean;
  attempts: number;
  latency_ms: number;
  ttft_ms: number | null;
  tokens_in: number | null;
  tokens_out: number | null;
  tokens_cached: number | null;
  cost_nano: number | null;
  counterfactual_nano: number | null;
  error_type: string | null;
  finish_reason: string | null;
}

export interface Stats {
  bucket_ms: number | null;
  since: number;
  until: number;
  rows: StatRow[];
}
export type StatRow = Record<string, string | number | null>;

export type Facets = Record<string, Array<{ value: string | number | null; count: number }>>;

export interface Attempt {
  target: string;
  provider: string;
  status: number | null;
  code: string | null;
  start_ms: number;
  ms: number;
  tokens_in: number | null;
  tokens_out: number | null;
  cost_nano: number | null;
  reason: string | null;
  ttft_ms: number | null;
}

export interface Score {
  quality: number | null;
  quality_error?: number | null;
  cost: number | null;
  utility: number | null;
  excluded?: string;
}

export interface Trace {
  trace_id: string;
  ts_ms: number;
  outcome: string;
  http_status: number;
  requested_model: string;
  model: string;
  provider: string;
  alias: string | null;
  project: string | null;
  key_id: string | null;
  user_id: string | null;
  session_id: string | null;
  parent_id: string | null;
  tags: string[] | null;
  metadata: Record<string, unknown> | null;
  operation: string;
  stream: boolean;
  cluster_id: number | null;
  cluster_label: string | null;
  route_policy: string | null;
  route_score: number | null;
  route_candidates: Record<string, Score> | null;
  counterfactual_nano: number | null;
  router_version: string | null;
  fallback_reason: string | null;
  fallback_from: string | null;
  error_type: string | null;
  error_code: string | null;
  error_msg: string | null;
  finish_reason: string | null;
  attempts: Attempt[];
  queue_ms: number | null;
  routing_ms: number | null;
  embedding_ms: number | null;
  ttft_ms: number | null;
  latency_ms: number;
  tokens_in: number | null;
  tokens_out: number | null;
  tokens_cached: number | null;
  tokens_cache_write: number | null;
  tokens_reasoning: number | null;
  cost_nano: number | null;
  cost_source: string;
  cost_estimated: boolean;
  body_state: string;
  request: string | null;
  response: string | null;
}

export interface CostPart {
  name: string;
  tokens: number;
  usd_per_million: number | null;
  nano: number;
}

export interface TraceAnswer {
  trace: Trace;
  cost: { parts: CostPart[]; total_nano: number; source: string; updated: string } | null;
  feedback: Array<{ metric: string; value: unknown; author: string | null; ts_ms: number }>;
  body_note: string | null;
}

export interface Cluster {
  id: number;
  label: string;
  terms: string[];
  size: number;
  examples: string[];
  x: number;
  y: number;
  requests: number;
  cost_nano: number;
  errors: number;
  latency_avg: number | null;
  /** of the routed requests in the range, and in the period before */
  share: number | null;
  share_before: number | null;
  winner: string | null;
  models: Record<string, Score>;
}

export interface RoutingAnswer {
  version: string | null;
  problem: string | null;
  cost_weight: number;
  default: string | null;
  models: string[];
  clusters: Cluster[];
}

export interface Projection {
  traces: number;
  used: number;
  current_weight: number;
  points: Array<{ weight: number; cost: number; quality: number; shares: Record<string, number> }>;
  best: { cost: number; quality: number };
  cheapest: { cost: number; quality: number };
  actual: { cost: number; quality: number } | null;
}

export interface Savings {
  bucket_ms: number;
  times: number[];
  actual: number[];
  best: number[];
  cheapest: number[];
  traces: number;
  sampled: boolean;
}

/** `/v1/router`: what was learned since the router was trained, drift, and replays on a second model. */
export interface RouterState {
  metric: string;
  learned: {
    outcomes: number;
    shifts: Array<{ cluster_id: number; cluster_label: string | null; model: string; shift: number; error_left: number; outcomes: number }>;
    alarms: Array<{ cluster_id: number; cluster_label: string | null; model: string; direction: "up" | "down" }>;
  };
  drift: Array<{ cluster_id: number; cluster_label: string | null; kind: string; observed: number; expected: number }>;
  shadow: { share: number; judge: string | null; budget: number; spent: number; replays: number; judged: number; failed: number; problem: string | null };
}

interface Side {
  cost: number | null;
  quality: number | null;
  shares: Record<string, number>;
}

export interface Comparison {
  version: string;
  current: string;
  prompts: number;
  moved: number;
  before: Side;
  after: Side;
  examples: Array<{ prompt: string; before: string; after: string }>;
}

export interface Version {
  version: string;
  current: boolean;
  created_ms: number;
  note: string;
  rows: number;
  models: number;
}

export interface Key {
  id: string;
  name: string;
  owner: string | null;
  scopes: string[];
  models: string[] | null;
  created_ms: number;
  expires_ms: number | null;
  revoked_ms: number | null;
  last_used_ms: number | null;
  daily_usd: number | null;
  monthly_usd: number | null;
  spent_day_usd: number;
  spent_month_usd: number;
  rpm: number | null;
  tpm: number | null;
  runs_out_ms: number | null;
}

export interface DatasetInfo {
  name: string;
  versions: Array<{ version: number; rows: number; created_ms: number; source: string }>;
}

export interface Example {
  messages: Array<{ role: string; content: unknown }>;
  answer: string | null;
  trace_id?: string | null;
  model?: string | null;
}

export interface Evaluation {
  id: string;
  dataset: string;
  version: number;
  grader: string;
  models: string[];
  state: "running" | "done" | "failed" | "stopped";
  done: number;
  total: number;
  started_ms: number;
  ended_ms: number | null;
  results: Array<{ model: string; scored: number; score: number | null; errors: number; cost: number | null; unpriced: number; latency_ms: number | null }>;
  failures: Array<{ row: number; model: string; reason: string; answer: string }>;
  problem: string | null;
}

export interface Rule {
  name: string;
  metric: "cost" | "error_rate" | "p95" | "provider_down" | "unpriced" | "dropped";
  above: number;
  minutes: number;
  by: string | null;
  filter: string;
  again: number;
  state: "ok" | "firing" | "no data";
  value: number | null;
  over: Array<{ group: string | null; value: number }>;
  groups: number;
}

export interface SystemAnswer {
  version: string;
  uptime_s: number;
  in_flight: number;
  config_hash: string;
  config_path: string | null;
  providers: Array<{ name: string; callable: boolean; base: string | null; key: string | null; circuits: Array<{ target: string; state: string; seconds: number; cause: string }> }>;
  aliases: Array<{ name: string; model: string; fallbacks: string[]; num_retries: number | null; timeout: number | null }>;
  auto: { models: string[]; default: string | null; cost_weight: number; router: string };
  store: {
    enabled: boolean;
    path: string | null;
    problem: string | null;
    bytes: number;
    free_bytes: number;
    traces: number;
    oldest_ms: number | null;
    newest_ms: number | null;
    queue: number;
    written: number;
    dropped: number;
    bodies_dropped: number;
  };
  retention: { content: string; durability: string; metrics_days: number | null; bodies_days: number | null };
  alerts: { usual: boolean; told: string | null; every: number; rules: Rule[]; problem?: string };
  prices: { updated: string; source: string; models: number };
  config: Record<string, unknown>;
  audit: Array<{ ts_ms: number; who: string; what: string; detail: string }>;
}
