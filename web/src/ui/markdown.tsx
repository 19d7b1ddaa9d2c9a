// What models write, as elements: fences, headings, lists, bold, inline code. Everything becomes a text node; there is no
// HTML and there are no links, because the text comes from anybody.
import type { ComponentChildren, VNode } from "preact";

function inline(text: string): ComponentChildren[] {
  const parts: ComponentChildren[] = [];
  let from = 0;
  for (const found of text.matchAll(/`([^`\n]+)`|\*\*([^*\n]+)\*\*/g)) {
    if (found.index > from) parts.push(text.slice(from, found.index));
    parts.push(found[1] !== undefined ? <code>{found[1]}</code> : <strong>{found[2]}</strong>);
    from = found.index + found[0].length;
  }
  parts.push(text.slice(from));
  return parts;
}

function block(lines: string[], key: number): VNode {
  const first = lines[0];
  const heading = /^(#{1,6})\s+(.*)$/.exec(first);
  if (heading && lines.length === 1) {
    return (
      <p key={key} class="md-heading">
        {inline(heading[2])}
      </p>
    );
  }
  const bullet = /^\s*(?:[-*•]|\d+[.)])\s+/;
  if (lines.every((line) => bullet.test(line) || /^\s{2,}/.test(line))) {
    const items: string[] = [];
    for (const line of lines) {
      if (bullet.test(line)) items.push(line.replace(bullet, ""));
      else items[items.length - 1] += `\n${line.trim()}`;
    }
    const List = /^\s*\d/.test(first) ? "ol" : "ul";
    return (
      <List key={key}>
        {items.map((text, i) => (
          <li key={i}>{inline(text)}</li>
        ))}
      </List>
    );
  }
  return <p key={key}>{inline(lines.join("\n"))}</p>;
}

export function Markdown({ text }: { text: string }) {
  const out: VNode[] = [];
  let open: string[] = [];
  let fence: string[] | null = null;
  const flush = () => {
    if (open.length) out.push(block(open, out.length));
    open = [];
  };
  for (const line of text.split("\n")) {
    if (fence) {
      if (/^\s*```\s*$/.test(line)) {
        out.push(
          <pre key={out.length} tabIndex={0}>
            {fence.join("\n")}
          </pre>,
        );
        fence = null;
      } else fence.push(line);
    } else if (/^\s*```/.test(line)) {
      flush();
      fence = [];
    } else if (!line.trim()) flush();
    else if (/^#{1,6}\s/.test(line)) {
      flush();
      out.push(block([line], out.length));
    } else open.push(line);
  }
  flush();
  if (fence)
    out.push(
      <pre key={out.length} tabIndex={0}>
        {fence.join("\n")}
      </pre>,
    );
  return <div class="md">{out}</div>;
}
