// The query bar's text as terms, for chips and for clicks that add or remove a term. The engine decides what it means;
// the grammar here is the one of opentracy.traces.filters.

export interface Term {
  text: string;
  name: string | null;
  op: string;
  value: string;
  negated: boolean;
}

const TERM = /(-?)([A-Za-z_]+)(!=|>=|<=|:|=|>|<)("(?:[^"\\]|\\.)*"|\S+)|("[^"]*"|\S+)/g;

export function terms(query: string): Term[] {
  return [...query.matchAll(TERM)].map((m) =>
    m[2]
      ? { text: m[0], name: m[2].toLowerCase(), op: m[3], value: unquote(m[4]), negated: m[1] === "-" || m[3] === "!=" }
      : { text: m[0], name: null, op: "", value: m[0], negated: false },
  );
}

function unquote(value: string): string {
  return value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/g, "$1") : value;
}

function quote(value: string): string {
  return /^[^\s"<>]+$/.test(value) ? value : `"${value.replace(/(["\\])/g, "\\$1")}"`;
}

export const term = (name: string, value: string, negated = false) => `${negated ? "-" : ""}${name}:${quote(value)}`;

export function has(query: string, name: string, value: string, negated = false): boolean {
  return terms(query).some((t) => t.name === name && t.value === value && t.negated === negated && t.op !== ">" && t.op !== "<");
}

export function without(query: string, text: string): string {
  return terms(query)
    .map((t) => t.text)
    .filter((t) => t !== text)
    .join(" ");
}

/** Adds a term, or takes it away when it stands there; the opposite of it never stays. */
export function toggle(query: string, name: string, value: string, negated = false): string {
  const kept = terms(query).filter((t) => !(t.name === name && t.value === value));
  const texts = kept.map((t) => t.text);
  if (!has(query, name, value, negated)) texts.push(term(name, value, negated));
  return texts.join(" ");
}
