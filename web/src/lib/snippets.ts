// Code that works against this very host, to paste into a terminal or a file.

const origin = () => window.location.origin;
const shell = (text: string) => `'${text.replace(/'/g, `'\\''`)}'`;
const auth = (keyed: boolean) => (keyed ? ` \\\n  -H "authorization: Bearer $OPENTRACY_API_KEY"` : "");

export function curl(body: unknown, keyed: boolean): string {
  return `curl ${origin()}/v1/chat/completions \\\n  -H "content-type: application/json"${auth(keyed)} \\\n  -d ${shell(JSON.stringify(body))}`;
}

/** JSON as a Python literal: the same but for three words. */
function literal(value: unknown, indent: string): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const parts = Array.isArray(value)
    ? value.map((v) => literal(v, inner))
    : Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${literal(v, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const flat = open + parts.join(", ") + close;
  return flat.length < 90 ? flat : `${open}\n${parts.map((p) => inner + p).join(",\n")},\n${indent}${close}`;
}

export function python(body: Record<string, unknown>, keyed: boolean): string {
  const { model, messages, ...rest } = body;
  const lines = ["import os", "", `os.environ["OPENTRACY_ENGINE_URL"] = ${JSON.stringify(origin())}`];
  if (keyed) lines.push(`# os.environ["OPENTRACY_API_KEY"] holds your key`);
  lines.push("", "import opentracy as ot", "", "response = ot.completion(");
  lines.push(`    model=${JSON.stringify(model ?? "auto")},`, `    messages=${literal(messages ?? [], "    ")},`);
  for (const [name, value] of Object.entries(rest)) {
    if (name !== "stream" && /^[a-z_]+$/.test(name)) lines.push(`    ${name}=${literal(value, "    ")},`);
  }
  lines.push(")", "print(response.choices[0].message.content)");
  return lines.join("\n");
}
