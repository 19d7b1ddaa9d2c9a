// The engine's answers. What it refuses becomes an ApiError with its own words; a 401 asks for a key.
import { signal } from "@preact/signals";

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
  ) {
    super(message);
  }
}

/** Set when the engine wants a key that we have not given. */
export const locked = signal(false);

type Params = Record<string, string | number | null | undefined> | URLSearchParams;

export function address(path: string, params?: Params): string {
  if (!params) return path;
  const search = params instanceof URLSearchParams ? params : new URLSearchParams();
  if (!(params instanceof URLSearchParams)) {
    for (const [name, value] of Object.entries(params)) {
      if (value !== null && value !== undefined && value !== "") search.set(name, String(value));
    }
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

async function refusal(answer: Response): Promise<ApiError> {
  let message = `${answer.status} ${answer.statusText}`;
  let code = "error";
  try {
    const body = (await answer.json()) as { error?: { message?: string; code?: string } };
    message = body.error?.message ?? message;
    code = body.error?.code ?? code;
  } catch {
    // not our JSON: the status line has to do
  }
  return new ApiError(message, answer.status, code);
}

/** Said before anything was done, of a store that is asked too much: it may be asked again. */
const BUSY = "store_busy";
/** Said of a store that cannot be written or read for a moment: a question may be asked again, a change might be made twice. */
const AWAY = "store_unavailable";
const TRIES = 4;
const LONGEST_MS = 5000;

/** What the engine asks to wait, a little longer each time and not for all screens the same. */
function pause(answer: Response, tries: number, signal?: AbortSignal | null): Promise<void> {
  const asked = Number(answer.headers.get("retry-after"));
  const wait = Math.min((asked > 0 ? asked * 1000 : 1000) * tries, LONGEST_MS) * (0.75 + Math.random() / 2);
  return new Promise((resolve, reject) => {
    const gone = () => {
      clearTimeout(timer);
      reject(new DOMException("nobody waits any more", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", gone);
      resolve();
    }, wait);
    if (signal?.aborted) gone();
    else signal?.addEventListener("abort", gone, { once: true });
  });
}

/** As `once`; a busy store is asked again a few times before anybody is told. */
async function call(path: string, init: RequestInit): Promise<Response> {
  const changes = init.method !== undefined && init.method !== "GET";
  for (let tries = 1; ; tries++) {
    const answer = await once(path, init);
    if (answer.ok) return answer;
    const refused = await refusal(answer);
    const again = answer.status === 503 && (refused.code === BUSY || (refused.code === AWAY && !changes));
    if (!again || tries === TRIES) throw refused;
    await pause(answer, tries, init.signal);
  }
}

async function once(path: string, init: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The engine does not answer. Is it still running?", 0, "unreachable");
  }
  if (answer.status === 401 && !path.endsWith("/login")) locked.value = true;
  return answer;
}

export async function get<T>(path: string, params?: Params, signal?: AbortSignal): Promise<T> {
  const answer = await call(address(path, params), { signal, headers: { accept: "application/json" } });
  return (await answer.json()) as T;
}

export async function send<T>(method: "POST" | "PUT" | "DELETE", path: string, body: unknown = {}): Promise<T> {
  const answer = await call(path, {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return (await answer.json()) as T;
}

export interface Delta {
  text: string;
  reasoning: string;
  extras: Record<string, unknown> | null;
  usage: { prompt_tokens?: number; completion_tokens?: number } | null;
}

/** A streamed chat completion; `onDelta` is called for each piece. Errors inside the stream are thrown. */
export async function streamChat(
  body: Record<string, unknown>,
  onDelta: (delta: Delta) => void,
  signal: AbortSignal,
): Promise<{ traceId: string | null; finish: string | null }> {
  const answer = await call("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  const traceId = answer.headers.get("x-opentracy-trace-id");
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  let finish: string | null = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { traceId, finish };
    buffer += value;
    let end: number;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const event = buffer.slice(0, end);
      buffer = buffer.slice(end + 2);
      const data = event
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trim())
        .join("\n");
      if (!data || data === "[DONE]") continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message ?? "the stream broke off", 502, chunk.error.code ?? "error");
      const choice = chunk.choices?.[0];
      finish = choice?.finish_reason ?? finish;
      onDelta({
        text: choice?.delta?.content ?? "",
        reasoning: choice?.delta?.reasoning_content ?? "",
        extras: "_latency_ms" in chunk || "_routing" in chunk ? chunk : null,
        usage: chunk.usage ?? null,
      });
    }
  }
}
