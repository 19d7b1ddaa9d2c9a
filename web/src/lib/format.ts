// Numbers, money and times as people read them. Money is never shown as zero when it is not.

// made once: making a formatter costs more than a hundred formats
const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) < 1_000) return String(Math.round(value));
  if (Math.abs(value) < 10_000) return grouped.format(value);
  if (Math.abs(value) < 1e6) return `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)} k`;
  if (Math.abs(value) < 1e9) return `${(value / 1e6).toFixed(2)} M`;
  return `${(value / 1e9).toFixed(2)} G`;
}

/** USD with three meaningful digits; unknown is a dash, which is something else than nothing. */
export function usd(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "$0";
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size >= 1000) return `${sign}$${grouped.format(size)}`;
  if (size >= 1) return `${sign}$${size.toFixed(2)}`;
  const digits = Math.min(9, 2 - Math.floor(Math.log10(size)));
  return `${sign}$${size.toFixed(digits)}`;
}

/** USD on an axis: the digits that the steps need, the same on every label. */
export function usdAxis(values: Array<number | null>): string[] {
  const known = values.filter((v): v is number => v !== null && v !== 0);
  // the fewest digits that tell every step exactly, two of them as soon as there are cents
  const exact = (digits: number) => known.every((v) => Math.abs(v - Number(v.toFixed(digits))) <= Math.abs(v) * 1e-6);
  let digits = 0;
  while (digits < 9 && !exact(digits)) digits++;
  if (digits === 1) digits = 2;
  return values.map((v) => (v === null ? "" : v === 0 ? "$0" : `$${v >= 1000 ? grouped.format(v) : v.toFixed(digits)}`));
}

export const nano = (value: number | null | undefined) =>
  usd(value === null || value === undefined ? null : value / 1e9);

/** Without zeros that say nothing: 2 s, not 2.00 s. */
const short = (value: number, digits: number) => (Number.isInteger(value) ? String(value) : value.toFixed(digits));

export function ms(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 1) return `${value.toFixed(2)} ms`;
  if (value < 100) return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
  if (value < 1000) return `${value.toFixed(0)} ms`;
  if (value <= 60_000) return `${short(value / 1000, value < 10_000 ? 2 : 1)} s`;
  if (value < 3_600_000) return `${Math.floor(value / 60_000)} min ${Math.round((value % 60_000) / 1000)} s`;
  return `${Math.floor(value / 3_600_000)} h ${Math.round((value % 3_600_000) / 60_000)} min`;
}

export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const value = share * 100;
  if (value === 0) return "0 %";
  if (Math.abs(value) < 0.1) return value < 0 ? ">−0.1 %" : "<0.1 %";
  return `${value.toFixed(Math.abs(value) < 10 ? 1 : 0)} %`;
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value < 1024) return `${value} B`;
  if (value < 1024 ** 2) return `${(value / 1024).toFixed(0)} kB`;
  if (value < 1024 ** 3) return `${(value / 1024 ** 2).toFixed(1)} MB`;
  return `${(value / 1024 ** 3).toFixed(2)} GB`;
}

export function ago(at: number, now = Date.now()): string {
  const seconds = Math.round((now - at) / 1000);
  if (seconds < 0) return clock(at);
  if (seconds < 5) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

const two = (value: number) => String(value).padStart(2, "0");

export function clock(at: number): string {
  const t = new Date(at);
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
}

export function shortClock(at: number, span: number): string {
  const t = new Date(at);
  const day = t.toLocaleString("en-GB", { day: "numeric", month: "short" });
  if (span > 4 * 86_400_000) return day;
  return t.getHours() === 0 && t.getMinutes() === 0 ? day : `${two(t.getHours())}:${two(t.getMinutes())}`;
}

/** Local time and UTC, for a tooltip. */
export const bothClocks = (at: number) => `${clock(at)} local\n${new Date(at).toISOString()}`;

/** The model's own name; the provider stands beside it elsewhere. */
export const bare = (model: string) => model.slice(model.lastIndexOf("/") + 1);

export const plural = (n: number, one: string, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
