"""Compile the figures that are known about models without labels: published benchmark results, on one scale.

    python scripts/compile_abilities.py [--out src/opentracy/routing/data/abilities.json]

Every number below was published by its source. MMLU-Pro is the scale, because it predicts other benchmarks best. A
model without it gets its overall figure from GPQA diamond, else from MMLU, by a line in logits through the models of
the table that have both; what the line misses by is part of the figure's standard error. In the same way a benchmark of
a domain says which overall figure a model of that strength would have: the domain's figure. They are pulled to the
overall figure when used, the more the less certain they are (`opentracy.routing.prior.shrunk_domains`).

`checked`: when the figure was compared with its source: the publication itself where it is a public file, else a public
record that names the publication (most through llm-stats, github JonathanChavezTamales/llm-leaderboard). What could not
be compared says so, and carries twice the error.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

CHECKED = "2026-11-26"
PROTOCOL = 0.02  # how far one benchmark moves with prompting and parsing alone
ITEMS = {"mmlu_pro": 12032, "mmlu": 14042, "gpqa": 198, "math": 5000, "humaneval": 164, "livecodebench": 400,
         "aime": 30, "bbh": 6511, "arc_c": 1172}  # fmt: skip
DOMAIN = {"math": "math", "aime": "math", "humaneval": "code", "livecodebench": "code", "mmlu": "knowledge",
          "gpqa": "reasoning", "bbh": "reasoning", "arc_c": "commonsense"}  # fmt: skip
_LEAST = 5  # models through which a line may be drawn


@dataclass(frozen=True)
class Row:
    """One model under all names that providers give it. figures: benchmark -> share correct."""

    names: tuple[str, ...]
    figures: dict[str, float]
    source: str
    date: str
    checked: bool = True
    output_tokens: float | None = None
    note: str = ""
    extra: float = 0.0  # standard error beside the benchmark's own
    panel: str = "published"
    domains: dict[str, float] = field(default_factory=dict)


def names(text: str) -> tuple[str, ...]:
    """Names as one text."""
    return tuple(text.split())


META, QWEN = "Meta's model card", "Qwen's announcement"
PAPER = "MMLU-Pro: github TIGER-AI-Lab/MMLU-Pro, README (the paper is arXiv 2406.01574)"
SIMPLE = "github openai/simple-evals, README"
GEMMA = "Gemma 3 technical report (arXiv 2503.19786), table 6"
EXTRACT = "public extract of LLMRouterBench, 60 prompts each (github xxyy-x/LLM-Optimization @ 4d2edf3)"
ROWS = (
    Row(names("gpt-4o gpt-4o-2024-08-06 gpt-4o-2024-11-20"),
        {"mmlu_pro": 0.726, "mmlu": 0.887, "gpqa": 0.531, "math": 0.759, "humaneval": 0.902},
        f"{PAPER}; the others: {SIMPLE}, of gpt-4o-2024-08-06", "2024-08"),
    Row(names("gpt-4o-mini gpt-4o-mini-2024-07-18"),
        {"mmlu": 0.82, "gpqa": 0.402, "math": 0.702, "humaneval": 0.872},
        "openai.com/index/gpt-4o-mini-advancing-cost-efficient-intelligence", "2024-07"),
    Row(names("gpt-4-turbo gpt-4-turbo-2024-04-09"),
        {"mmlu_pro": 0.637, "mmlu": 0.867, "gpqa": 0.493, "math": 0.734, "humaneval": 0.882},
        f"{PAPER}; the others: {SIMPLE}", "2024-06"),
    Row(names("gpt-4.1 gpt-4.1-2025-04-14"), {"mmlu": 0.902, "gpqa": 0.663}, "openai.com/index/gpt-4-1", "2025-04"),
    Row(names("gpt-4.1-mini gpt-4.1-mini-2025-04-14"), {"mmlu": 0.875, "gpqa": 0.65, "humaneval": 0.938}, SIMPLE,
        "2025-04"),
    Row(names("gpt-4.1-nano gpt-4.1-nano-2025-04-14"), {"mmlu": 0.801, "gpqa": 0.503, "humaneval": 0.87}, SIMPLE,
        "2025-04"),
    Row(names("o3 o3-2025-04-16"), {"mmlu": 0.929, "gpqa": 0.828, "humaneval": 0.874}, SIMPLE, "2025-04"),
    Row(names("o4-mini o4-mini-2025-04-16"), {"mmlu": 0.90, "gpqa": 0.776, "humaneval": 0.973}, SIMPLE, "2025-04"),
    Row(names("o3-mini o3-mini-2025-01-31"), {"mmlu": 0.859, "gpqa": 0.749, "humaneval": 0.963}, SIMPLE, "2025-01"),
    Row(names("gpt-5-mini gpt-5-mini-2025-08-07"), {"gpqa": 0.823}, "openai.com/index/gpt-5, thinking", "2025-08"),
    Row(names("gpt-5-nano gpt-5-nano-2025-08-07"), {"gpqa": 0.712}, "openai.com/index/gpt-5, thinking", "2025-08"),
    Row(names("gpt-oss-120b openai.gpt-oss-120b-1:0"), {"mmlu": 0.90, "gpqa": 0.801},
        "openai.com/index/introducing-gpt-oss", "2025-08"),
    Row(names("claude-sonnet-4-5 claude-sonnet-4-5-20250929 anthropic.claude-sonnet-4-5-20250929-v1:0 "
              "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        {"gpqa": 0.834}, "anthropic.com/news/claude-sonnet-4-5", "2025-09", output_tokens=936),
    Row(names("claude-sonnet-4-6"), {"gpqa": 0.834},
        "the predecessor's figure (anthropic.com/news/claude-sonnet-4-5)", "2025-09", output_tokens=936,
        note="no figure of its own, hence the wide error", extra=0.06),
    Row(names("claude-3-5-sonnet-20241022 claude-3-5-sonnet-latest anthropic.claude-3-5-sonnet-20241022-v2:0"),
        {"mmlu_pro": 0.776, "math": 0.783, "humaneval": 0.937, "bbh": 0.931},
        "MMLU-Pro leaderboard of TIGER-Lab; the others: anthropic.com/news/3-5-models-and-computer-use", "2024-10"),
    Row(names("claude-3-5-haiku-20241022 claude-3-5-haiku-latest anthropic.claude-3-5-haiku-20241022-v1:0"),
        {"mmlu_pro": 0.65, "gpqa": 0.416, "math": 0.694, "humaneval": 0.881},
        "anthropic.com/news/3-5-models-and-computer-use", "2024-10"),
    Row(names("claude-3-opus-20240229"),
        {"mmlu_pro": 0.685, "mmlu": 0.868, "gpqa": 0.504, "math": 0.601, "humaneval": 0.849},
        f"{PAPER}; the others: Anthropic's model card of Claude 3, as {SIMPLE} lists it", "2024-06"),
    Row(names("claude-3-haiku-20240307 anthropic.claude-3-haiku-20240307-v1:0"), {"mmlu_pro": 0.423},
        "MMLU-Pro leaderboard of TIGER-Lab", "2024-06", checked=False),
    Row(names("gemini-2.0-flash gemini-2.0-flash-001"),
        {"mmlu_pro": 0.764, "gpqa": 0.621, "math": 0.897, "livecodebench": 0.351},
        "blog.google: Gemini 2.0, December 2024", "2024-12"),
    Row(names("gemini-2.0-flash-lite gemini-2.0-flash-lite-001"),
        {"mmlu_pro": 0.716, "gpqa": 0.515, "math": 0.868, "livecodebench": 0.289},
        "developers.googleblog.com: Gemini 2 family expands", "2025-02"),
    Row(names("gemini-1.5-pro gemini-1.5-pro-002"),
        {"mmlu_pro": 0.758, "gpqa": 0.591, "math": 0.865, "livecodebench": 0.342}, GEMMA, "2025-03"),
    Row(names("gemini-1.5-flash gemini-1.5-flash-002"),
        {"mmlu_pro": 0.673, "gpqa": 0.51, "math": 0.779, "livecodebench": 0.307}, GEMMA, "2025-03"),
    Row(names("deepseek-v3-0324 deepseek-chat-v3-0324 deepseek-v3-0324-fast"),
        {"mmlu_pro": 0.812, "gpqa": 0.684, "livecodebench": 0.492},
        "api-docs.deepseek.com/news/news250325", "2025-03", output_tokens=1406),
    Row(names("deepseek-chat"), {"mmlu_pro": 0.812, "gpqa": 0.684, "livecodebench": 0.492},
        "api-docs.deepseek.com/news/news250325, of DeepSeek-V3-0324", "2025-03", output_tokens=1406,
        note="the provider's name moves to newer versions, hence the wider error", extra=0.04),
    Row(names("deepseek-v3 deepseek-v3-1226"),
        {"mmlu_pro": 0.759, "mmlu": 0.885, "gpqa": 0.591, "livecodebench": 0.405},
        "github deepseek-ai/DeepSeek-V3, README", "2024-12"),
    Row(names("deepseek-r1"), {"mmlu_pro": 0.84, "mmlu": 0.908, "gpqa": 0.715, "livecodebench": 0.659},
        "github deepseek-ai/DeepSeek-R1, README", "2025-01"),
    Row(names("deepseek-r1-0528"), {"mmlu_pro": 0.85, "gpqa": 0.81, "livecodebench": 0.733},
        "model card of DeepSeek-V3.1, which lists it", "2025-08"),
    Row(names("deepseek-reasoner"), {"mmlu_pro": 0.85, "gpqa": 0.81, "livecodebench": 0.733},
        "model card of DeepSeek-V3.1, of DeepSeek-R1-0528", "2025-08",
        note="the provider's name moves to newer versions, hence the wider error", extra=0.04),
    Row(names("llama-3.3-70b-instruct llama-3.3-70b-versatile llama-3.3-70b-instruct-turbo llama-3.3-70b "
              "llama-v3p3-70b-instruct meta-llama-3.3-70b-instruct llama3.3-70b meta.llama3-3-70b-instruct-v1:0 "
              "us.meta.llama3-3-70b-instruct-v1:0"),
        {"mmlu_pro": 0.689, "mmlu": 0.86, "gpqa": 0.505, "math": 0.77, "humaneval": 0.884}, f"{META} of Llama 3.3",
        "2024-12"),
    Row(names("llama-3.1-8b-instruct llama-3.1-8b-instant meta-llama-3.1-8b-instruct meta-llama-3.1-8b-instruct-turbo "
              "llama-v3p1-8b-instruct llama3.1-8b meta.llama3-1-8b-instruct-v1:0"),
        {"mmlu_pro": 0.483, "mmlu": 0.73, "gpqa": 0.304, "math": 0.519, "humaneval": 0.726, "arc_c": 0.834},
        f"{META} of Llama 3.1", "2024-07"),
    Row(names("meta-llama-3.1-70b-instruct meta-llama-3.1-70b-instruct-turbo llama-v3p1-70b-instruct "
              "llama-3.1-70b-instruct meta.llama3-1-70b-instruct-v1:0"),
        {"mmlu_pro": 0.669, "mmlu": 0.803, "math": 0.60, "humaneval": 0.787, "arc_c": 0.945, "gpqa": 0.432},
        "Vector Institute's evaluation (huggingface datasets/vector-institute/llm-eval-results)", "2025-04"),
    Row(names("meta-llama-3.1-405b-instruct meta-llama-3.1-405b-instruct-turbo llama-v3p1-405b-instruct "
              "llama-3.1-405b-instruct"),
        {"mmlu_pro": 0.733, "mmlu": 0.886, "gpqa": 0.507, "math": 0.738, "humaneval": 0.89, "arc_c": 0.969},
        f"{META} of Llama 3.1", "2024-07"),
    Row(names("llama-4-maverick-17b-128e-instruct llama-4-maverick-17b-128e-instruct-fp8 "
              "llama4-maverick-instruct-basic meta.llama4-maverick-17b-instruct-v1:0"),
        {"mmlu_pro": 0.805, "gpqa": 0.698, "livecodebench": 0.434}, "ai.meta.com: Llama 4", "2025-04"),
    Row(names("llama-4-scout-17b-16e-instruct llama4-scout-instruct-basic meta.llama4-scout-17b-instruct-v1:0"),
        {"mmlu_pro": 0.743, "gpqa": 0.572, "livecodebench": 0.328}, "ai.meta.com: Llama 4", "2025-04"),
    Row(names("qwen2.5-72b-instruct qwen2.5-72b-instruct-turbo qwen2p5-72b-instruct qwen-2.5-72b-instruct"),
        {"mmlu_pro": 0.711, "gpqa": 0.49, "math": 0.831, "humaneval": 0.866}, f"{QWEN} of Qwen2.5", "2024-09"),
    Row(names("qwen2.5-7b-instruct qwen2.5-7b-instruct-turbo qwen-2.5-7b-instruct"),
        {"mmlu_pro": 0.563, "gpqa": 0.364, "math": 0.755, "humaneval": 0.848},
        "Qwen2.5 technical report (arXiv 2412.15115), table 8", "2024-12"),
    Row(names("mistral-small-2503 mistral-small-3.1-24b-instruct-2503"),
        {"mmlu_pro": 0.668, "mmlu": 0.806, "gpqa": 0.46, "math": 0.693, "humaneval": 0.884},
        "Mistral's model card of Small 3.1", "2025-03"),
    Row(names("mistral-small-2506 mistral-small-3.2-24b-instruct-2506"),
        {"mmlu_pro": 0.691, "mmlu": 0.805, "gpqa": 0.461, "math": 0.694},
        "Mistral's model card of Small 3.2", "2025-06"),
    Row(names("mistral-small-latest"), {"mmlu_pro": 0.691, "mmlu": 0.805, "gpqa": 0.461, "math": 0.694},
        "Mistral's model card of Small 3.2", "2025-06",
        note="the provider's name moves to newer versions, hence the wider error", extra=0.04),
    Row(names("mistral-medium-2505"), {"mmlu_pro": 0.772}, "Mistral's announcement of Medium 3", "2025-05",
        checked=False),
    Row(names("mixtral-8x7b-instruct-v0.1 mixtral-8x7b-instruct"), {"mmlu_pro": 0.433},
        "MMLU-Pro leaderboard of TIGER-Lab", "2024-06", checked=False),
    Row(names("gemma-2-27b-it gemma2-27b-it"),
        {"mmlu_pro": 0.555, "gpqa": 0.384, "math": 0.544, "humaneval": 0.787},
        "Qwen2.5 technical report (arXiv 2412.15115), table 7", "2024-12"),
    Row(names("gemma-3-27b-it"), {"mmlu_pro": 0.675, "gpqa": 0.424, "math": 0.89, "livecodebench": 0.297}, GEMMA,
        "2025-03"),
    Row(names("amazon.nova-pro-v1:0 us.amazon.nova-pro-v1:0 eu.amazon.nova-pro-v1:0"),
        {"mmlu": 0.859, "gpqa": 0.469, "math": 0.766, "humaneval": 0.89, "bbh": 0.869, "arc_c": 0.948},
        "Amazon Nova technical report", "2024-12"),
    Row(names("amazon.nova-lite-v1:0 us.amazon.nova-lite-v1:0 eu.amazon.nova-lite-v1:0"),
        {"mmlu": 0.805, "gpqa": 0.42, "math": 0.733, "humaneval": 0.854}, "Amazon Nova technical report", "2024-12"),
    Row(names("amazon.nova-micro-v1:0 us.amazon.nova-micro-v1:0 eu.amazon.nova-micro-v1:0"),
        {"mmlu": 0.776, "gpqa": 0.40, "math": 0.693, "humaneval": 0.811}, "Amazon Nova technical report", "2024-12"),
    Row(names("command-r-plus command-r-plus-04-2024"), {"mmlu": 0.757}, "Cohere's model card of Command R+", "2024-04",
        note="MMLU without reasoning steps", extra=0.03),
    Row(names("command-a-03-2025 command-a"), {"mmlu": 0.855}, "Cohere's table of Command A", "2025-03", checked=False),
    Row(names("sonar"), {"mmlu_pro": 0.689},
        "Meta's model card of Llama 3.3 70B, on which its maker says it is built", "2025-02", checked=False,
        extra=0.03),
    Row(names("grok-4 grok-4-0709"), {"gpqa": 0.875, "livecodebench": 0.79}, "xAI's announcement of Grok 4", "2025-07"),
    *(Row(names(n), dict(zip(("aime", "gpqa", "livecodebench", "mmlu_pro"), f, strict=True)), EXTRACT, "2025-12",
          output_tokens=tokens, panel="extract")
      for n, f, tokens in (
        ("gpt-5 gpt-5-2025-08-07", (0.88, 0.87, 0.92, 0.88), 4217),
        ("gpt-5-chat gpt-5-chat-latest", (0.72, 0.75, 0.75, 0.75), 1055),
        ("claude-sonnet-4 claude-sonnet-4-0 claude-sonnet-4-20250514", (0.37, 0.65, 0.68, 0.78), 936),
        ("gemini-2.5-flash", (0.63, 0.68, 0.73, 0.75), 6651),
        ("gemini-2.5-pro", (0.85, 0.83, 0.87, 0.77), 10803),
        ("qwen3-235b-a22b-2507 qwen3-235b-a22b-instruct-2507 qwen-3-235b-a22b-instruct-2507 "
         "qwen3-235b-a22b-instruct-2507-tput", (0.77, 0.60, 0.80, 0.75), None),
        ("kimi-k2-instruct-0905 kimi-k2-0905 kimi-k2-0905-preview", (0.65, 0.77, 0.77, 0.77), None),
        ("glm-4.6 glm-4p6", (0.82, 0.75, 0.77, 0.62), None),
      )),
)  # fmt: skip


def logit(p: float) -> float:
    """log(p / (1 - p)), p kept off 0 and 1."""
    p = min(max(p, 0.02), 0.98)
    return math.log(p / (1 - p))


def error_of(row: Row, benchmark: str) -> float:
    """Standard error of one figure: its items, the protocol, and what the row says."""
    items = 60 if row.panel == "extract" else ITEMS[benchmark]
    p = row.figures[benchmark]
    return (1.0 if row.checked else 2.0) * math.hypot(math.sqrt(p * (1 - p) / items), PROTOCOL)


@dataclass(frozen=True)
class Line:
    """logit(overall) = slope * logit(figure) + level, and what it misses by (in logits)."""

    slope: float
    level: float
    miss: float

    def at(self, figure: float, error: float) -> tuple[float, float]:
        """(overall that goes with a figure, its standard error)."""
        z = self.slope * logit(figure) + self.level
        p = 1 / (1 + math.exp(-z))
        steep = p * (1 - p)
        own = self.slope * error / max(figure * (1 - figure), 0.02)
        return p, steep * math.hypot(own, self.miss)


def line(panel: str, benchmark: str) -> Line | None:
    """The line through the checked models of a panel that have both; None where they are too few."""
    sound = [r for r in ROWS if r.panel == panel and r.checked and not r.extra]
    both = [r for r in sound if {benchmark, "mmlu_pro"} <= set(r.figures)]
    if len(both) < _LEAST:
        return None
    x = np.array([logit(r.figures[benchmark]) for r in both])
    y = np.array([logit(r.figures["mmlu_pro"]) for r in both])
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / max(((x - x.mean()) ** 2).sum(), 1e-9))
    slope = min(max(slope, 0.0), 1.5)
    left = y - slope * x
    return Line(slope, float(left.mean()), float(left.std(ddof=2)))


def figure(value: float, error: float, source: str, row: Row) -> dict[str, object]:
    """One figure as it is stored."""
    return {
        "value": round(value, 4),
        "se": round(math.hypot(error, row.extra), 4),
        "source": source + (f"; {row.note}" if row.note else ""),
        "date": row.date,
        "checked": CHECKED if row.checked else None,
    }


def compiled(row: Row, lines: dict[tuple[str, str], Line | None]) -> dict[str, object]:
    """A row of abilities.json."""
    how = "MMLU-Pro"
    value = row.figures.get("mmlu_pro")
    error = 0.0 if value is None else error_of(row, "mmlu_pro")
    for benchmark in ("gpqa", "mmlu"):
        found = lines[row.panel, benchmark]
        if value is None and found is not None and benchmark in row.figures:
            value, error = found.at(row.figures[benchmark], error_of(row, benchmark))
            how = f"MMLU-Pro expected with {benchmark.upper()} {row.figures[benchmark]}"
    assert value is not None, row.names
    domains: dict[str, list[tuple[float, float, str]]] = {}
    for benchmark, published in row.figures.items():
        found = lines.get((row.panel, benchmark))
        if found is not None and benchmark in DOMAIN and "mmlu_pro" in row.figures:
            p, se = found.at(published, error_of(row, benchmark))
            domains.setdefault(DOMAIN[benchmark], []).append((p, se, f"{benchmark} {published}"))
    if "mmlu_pro" in row.figures:
        domains.setdefault("knowledge", [(value, error, f"MMLU-Pro {value}")])
    out: dict[str, object] = {
        "models": list(row.names),
        "overall": figure(value, error, f"{how}: {row.source}", row),
        "domains": {
            name: figure(
                float(np.average([p for p, _, _ in rows], weights=[1 / se**2 for _, se, _ in rows])),
                1 / math.sqrt(sum(1 / se**2 for _, se, _ in rows)),
                f"MMLU-Pro expected with {', '.join(text for _, _, text in rows)}: {row.source}",
                row,
            )
            for name, rows in sorted(domains.items())
        },
    }
    if row.output_tokens is not None:
        out["output_tokens"] = row.output_tokens
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/opentracy/routing/data/abilities.json"))
    args = parser.parse_args()
    lines = {(panel, b): line(panel, b) for panel in ("published", "extract") for b in {*DOMAIN, "aime"}}
    for key, found in sorted(lines.items()):
        if found is not None:
            print(*key, f"slope {found.slope:.2f} miss {found.miss:.2f}")
    rows = [compiled(row, lines) for row in ROWS]
    args.out.write_bytes(msgspec.json.format(msgspec.json.encode({"rows": rows}), indent=1) + b"\n")
    print(len(rows), "models,", sum(r.checked for r in ROWS), "checked")


if __name__ == "__main__":
    main()
