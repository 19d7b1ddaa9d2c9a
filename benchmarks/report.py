"""docs/performance.md and its plot from the measured figures. Pure text; nothing is measured here."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

Rows = list[tuple[str, str, str, str]]
WIDTH, LABEL, BAR = 760, 260, 22


def budget_rows(r: dict[str, Any]) -> Rows:
    """What was promised, what was measured: (what, must, measured, whether it holds)."""
    rows: Rows = []

    def row(what: str, value: float | None, limit: float, *, least: bool = False, unit: str = "") -> None:
        if value is None:
            return
        sign, holds = ("at least", value >= limit) if least else ("at most", value <= limit)
        rows.append((what, f"{sign} {limit:g}{unit}", f"{value:.3g}{unit}", "yes" if holds else "**no**"))

    plain, stream, get = r.get("plain", {}), r.get("stream", {}), _get
    row("plain request, CPU against the Go engine", _ratio(plain, "OpenTracy", "Go engine 0.4.1"), 1 / 3)
    row("200-event stream, CPU against the Go engine", _ratio(stream, "OpenTracy", "Go engine 0.4.1"), 0.5)
    both = _ratio(stream, "OpenTracy, Anthropic", "OpenTracy")
    row("Anthropic stream translated, against our OpenAI stream", both, 1.6)
    row("LiteLLM's proxy against ours, plain", _ratio(plain, "LiteLLM proxy", "OpenTracy"), 100, least=True)
    row("LiteLLM's proxy against ours, stream", _ratio(stream, "LiteLLM proxy", "OpenTracy"), 200, least=True)
    row("plain request against a bare forwarding loop", r.get("floor"), 3.0)
    row("`auto` on top of a plain request, prompt seen before", get(r, "auto_us", "seen"), 150, unit=" us")
    row("`auto` on top of a plain request, new prompts of 100 words", get(r, "auto_us", "new"), 150, unit=" us")
    row("added latency at half load, p50", get(r, "latency", "p50_ms"), 0.4, unit=" ms")
    row("added latency at half load, p99", get(r, "latency", "p99_ms"), 3, unit=" ms")
    row("1,000 streams at once: errors", get(r, "many", "errors"), 0)
    row("1,000 streams at once: different texts", get(r, "many", "texts"), 1)
    row("1,000 streams at once: memory", get(r, "many", "rss_mb"), 250, unit=" MB")
    row("two workers against one (served per second)", r.get("workers"), 1.7, least=True)
    sdk = r.get("sdk", {})
    row("`import opentracy`, CPU", get(sdk, "medians", "ours", "import_ms"), 60, unit=" ms")
    row("SDK plain call against http.client and json", get(sdk, "ratios", "plain/floor"), 1.5)
    row("SDK stream against http.client and json", get(sdk, "ratios", "stream/floor"), 1.2)
    row("the openai package against the SDK, plain", get(sdk, "ratios", "openai/plain"), 6, least=True)
    row("the openai package against the SDK, stream", get(sdk, "ratios", "openai/stream"), 8, least=True)
    return rows


def _get(r: dict[str, Any], *names: str) -> Any:
    value: Any = r
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _ratio(table: dict[str, dict[str, float]], above: str, below: str) -> float | None:
    if above not in table or below not in table:
        return None
    return table[below]["ratio"] / table[above]["ratio"]


def markdown(r: dict[str, Any]) -> str:
    """The generated part of docs/performance.md."""
    machine = r["machine"]
    out = [
        f"Measured {machine['date']} on {machine['cores']} cores ({machine['cpu']}), Python {machine['python']}, "
        f"{machine['kernel']}; load average {machine['load_before']} before and {machine['load_after']} after.",
        "", f"Measured at (UTC): {', '.join(f'{part} {when}' for part, when in r['measured'].items())}.", "",
        "| | promised | measured | holds |", "|---|---|---|---|",
        *(f"| {' | '.join(cells)} |" for cells in budget_rows(r)), "",
        "![CPU per request](images/performance.svg)", "",
    ]  # fmt: skip
    for name, title in (("plain", "Plain request"), ("stream", "200-event stream, every event a write of its own")):
        if r.get(name):
            out += [f"{title}:", "", "| gateway | CPU us | per second | MB | not answered |", "|---|---|---|---|---|"]
            out += [
                f"| {who} | {row['us']:,.0f} | {row['per_second']:,.0f} | {row['rss_mb']:.0f} | {row['bad']:.0f} |"
                for who, row in r[name].items()
            ]
            out.append("")
    for name, title in (("plain", "Plain requests"), ("stream", "200-event streams")):
        table = _get(r, "concurrency", name)
        if table:
            out += [f"{title} by number of connections:", "", "| connections | CPU us | per second |", "|---|---|---|"]
            out += [f"| {n} | {row['us']:,.0f} | {row['per_second']:,.0f} |" for n, row in table.items()]
            out.append("")
    for name, title in (("routing", "Router, one prompt of 100 words"), ("traces", "Trace writer, per record")):
        if r.get(name):
            out += [f"{title}:", "", "```text no-run", r[name].rstrip(), "```", ""]
    return "\n".join(out)


def plot(r: dict[str, Any]) -> str:
    """Bars on a logarithmic axis: CPU microseconds per plain request and per stream."""
    bars = [(f"{who}, plain", row["us"]) for who, row in r.get("plain", {}).items()]
    bars += [(f"{who}, stream", row["us"]) for who, row in r.get("stream", {}).items()]
    bars = [(name, us) for name, us in bars if us > 0]
    low = 10.0
    high = max([us for _, us in bars], default=100.0) * 1.6
    height = 46 + BAR * len(bars)

    def x(us: float) -> float:
        return LABEL + (WIDTH - LABEL - 90) * math.log(max(us, low) / low) / math.log(high / low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="12" fill="#57606a">',
        "<title>CPU microseconds per request, logarithmic</title>",
    ]
    tick = low
    while tick < high:
        out.append(f'<path d="M{x(tick):.0f} 8V{height - 24}" stroke="#d0d7de"/>')
        out.append(f'<text x="{x(tick):.0f}" y="{height - 8}" text-anchor="middle">{tick:,.0f}</text>')
        tick *= 10
    for number, (name, us) in enumerate(bars):
        y = 12 + BAR * number
        colour = "#0969da" if name.startswith("OpenTracy") else "#8c959f"
        out.append(f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
        out.append(f'<rect x="{LABEL}" y="{y}" width="{x(us) - LABEL:.0f}" height="{BAR - 6}" fill="{colour}"/>')
        out.append(f'<text x="{x(us) + 6:.0f}" y="{y + 12}">{us:,.0f}</text>')
    return "\n".join([*out, "</svg>", ""])
