// Request and response of a trace as turns of a conversation, whatever shape they were stored in.

export interface Turn {
  role: string;
  text: string;
  reasoning: string;
  images: number;
  calls: Array<{ id: string; name: string; args: string }>;
  answers: string | null; // the id of the tool call this turn answers
}

type Json = Record<string, unknown>;

function parts(content: unknown): { text: string; images: number } {
  if (typeof content === "string") return { text: content, images: 0 };
  if (!Array.isArray(content)) return { text: content === null || content === undefined ? "" : JSON.stringify(content, null, 2), images: 0 };
  let images = 0;
  const texts: string[] = [];
  for (const part of content as Json[]) {
    if (typeof part?.text === "string") texts.push(part.text);
    else if (part?.type === "image_url" || part?.type === "input_audio" || part?.type === "file") images++;
    else texts.push(JSON.stringify(part));
  }
  return { text: texts.join("\n"), images };
}

export function turn(message: Json): Turn {
  const { text, images } = parts(message.content ?? (typeof message.refusal === "string" ? message.refusal : ""));
  const calls = Array.isArray(message.tool_calls) ? (message.tool_calls as Json[]) : [];
  return {
    role: String(message.role ?? "assistant"),
    text,
    images,
    reasoning: typeof message.reasoning_content === "string" ? message.reasoning_content : "",
    calls: calls.map((call) => {
      const fn = (call.function ?? {}) as Json;
      return { id: String(call.id ?? ""), name: String(fn.name ?? "?"), args: pretty(String(fn.arguments ?? "")) };
    }),
    answers: typeof message.tool_call_id === "string" ? message.tool_call_id : null,
  };
}

export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

export function parse(text: string | null): Json | null {
  if (!text) return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : null;
  } catch {
    return null;
  }
}

/** All turns of a trace, the answer last; text that is no JSON is a turn as it stands. */
export function conversation(request: string | null, response: string | null): Turn[] {
  const out: Turn[] = [];
  const asked = parse(request);
  if (asked && Array.isArray(asked.messages)) out.push(...(asked.messages as Json[]).map(turn));
  else if (asked && asked.input !== undefined) out.push(turn({ role: "input", content: asked.input }));
  else if (request) out.push(turn({ role: "request", content: request }));
  const answer = parse(response);
  if (answer && Array.isArray(answer.choices)) {
    for (const choice of answer.choices as Json[]) out.push(turn((choice.message ?? {}) as Json));
  } else if (answer && answer.error) {
    out.push(turn({ role: "error", content: String((answer.error as Json).message ?? JSON.stringify(answer.error)) }));
  } else if (answer && Array.isArray(answer.data)) {
    out.push(turn({ role: "output", content: `${answer.data.length} vectors` }));
  } else if (response) out.push(turn({ role: "assistant", content: response }));
  return out;
}

export function tools(request: string | null): Array<{ name: string; description: string; schema: string }> {
  const asked = parse(request);
  if (!asked || !Array.isArray(asked.tools)) return [];
  return (asked.tools as Json[]).map((tool) => {
    const fn = (tool.function ?? tool) as Json;
    return {
      name: String(fn.name ?? "?"),
      description: String(fn.description ?? ""),
      schema: JSON.stringify(fn.parameters ?? {}, null, 2),
    };
  });
}

/** The text of the answer alone. */
export function answerText(response: string | null): string {
  const turns = conversation(null, response);
  return turns.map((t) => t.text || t.calls.map((c) => `${c.name}(${c.args})`).join("\n")).join("\n");
}
