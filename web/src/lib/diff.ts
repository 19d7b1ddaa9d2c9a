// Which words two texts share: a longest common subsequence over words and the white space between them.

export interface Piece {
  text: string;
  kind: "same" | "added" | "removed";
}

const LIMIT = 2_000; // words a side; beyond it the table would cost more than it tells

const words = (text: string) => text.match(/\s+|[^\s]+/g) ?? [];

export function wordDiff(before: string, after: string): Piece[] {
  const a = words(before);
  const b = words(after);
  if (a.length > LIMIT || b.length > LIMIT) {
    return [
      { text: before, kind: "removed" },
      { text: after, kind: "added" },
    ];
  }
  const width = b.length + 1;
  const table = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      table[i * width + j] =
        a[i] === b[j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  const pieces: Piece[] = [];
  const put = (text: string, kind: Piece["kind"]) => {
    const last = pieces.at(-1);
    if (last?.kind === kind) last.text += text;
    else pieces.push({ text, kind });
  };
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      put(a[i++], "same");
      j++;
    } else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) put(a[i++], "removed");
    else put(b[j++], "added");
  }
  while (i < a.length) put(a[i++], "removed");
  while (j < b.length) put(b[j++], "added");
  return pieces;
}
