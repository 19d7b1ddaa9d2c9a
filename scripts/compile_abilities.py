"""Compile the figures that are known about models without labels: published benchmark results, on one scale.

    python scripts/compile_abilities.py [--out src/opentracy/routing/data/abilities.json]

Every number in published_figures.toml was published by the source that its row names. MMLU-Pro is the scale, because it
predicts other benchmarks best. A model without it gets its overall figure from GPQA diamond, else from MMLU, by a line
through the models of the table that have both, in logits of what is known beyond guessing; what the line misses by is
part of the figure's standard error. In the same way a benchmark of a domain says which overall figure a model of that
strength would have: the domain's figure, left out where it is next to guessing. Domain figures are pulled to the
overall one when used, the more the less certain they are (`opentracy.routing.prior.shrunk_domains`).

A row's keys: `names` of the model, the first of each provider being the one to call it by; `figures` as shares;
`source` and `date` of publication; `note` on what the figure is not quite of, `extra` for the standard error it adds;
`output_tokens` of an ordinary answer, where measured; `offered = false` for what `auto` does not choose unless it is
configured: retired or moving names, special purposes, prices that are many times those of the rest.

`checked`: the day on which the figures were compared with their source: the publication itself where it is a public
file, else a public record that names the publication (llm-stats, github JonathanChavezTamales/llm-leaderboard, is one).
What could not be compared has no such day, and carries twice the error.
"""

from __future__ import annotations

import argparse
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

FIGURES = Path(__file__).with_name("published_figures.toml")
PROTOCOL = 0.02  # how far one benchmark moves with prompting and parsing alone
ITEMS = {"mmlu_pro": 12032, "mmlu": 14042, "gpqa": 198, "math": 5000, "humaneval": 164, "livecodebench": 400,
         "aime": 30, "bbh": 6511, "arc_c": 1172}  # fmt: skip
DOMAIN = {"math": "math", "aime": "math", "humaneval": "code", "livecodebench": "code", "mmlu": "knowledge",
          "gpqa": "reasoning", "bbh": "reasoning", "arc_c": "commonsense"}  # fmt: skip
SCALE = "mmlu_pro"
CHANCE = {"mmlu_pro": 0.1, "gpqa": 0.25, "mmlu": 0.25, "arc_c": 0.25}  # right by guessing among the options
_UNSURE = 0.04  # standard error, at least, of what was not compared with its source
_VAGUE = 0.15  # standard error from which on a figure says nothing
_LEAST = 5  # models through which a line may be drawn


@dataclass(frozen=True)
class Row:
    """One model under all names that providers give it."""

    names: tuple[str, ...]
    figures: dict[str, float]
    source: str
    date: str
    checked: str | None = None
    output_tokens: float | None = None
    note: str = ""
    extra: float = 0.0  # standard error beside the benchmark's own
    offered: bool = True


def rows(path: Path = FIGURES) -> tuple[Row, ...]:
    """Every row of the file, which is refused when a name stands twice: the second would never be found."""
    found = [Row(**{**row, "names": tuple(row["names"])}) for row in tomllib.loads(path.read_text())["row"]]
    every = [name for row in found for name in row.names]
    twice = {name for name in every if every.count(name) > 1}
    if twice:
        raise SystemExit(f"{path.name}: named twice: {', '.join(sorted(twice))}")
    return tuple(found)


ROWS = rows()


def known(benchmark: str, p: float) -> float:
    """Share known of a benchmark, of the share correct p: what guessing gives is taken off; kept off 0 and 1."""
    guessed = CHANCE.get(benchmark, 0.0)
    return min(max((p - guessed) / (1 - guessed), 0.02), 0.98)


def logit(p: float) -> float:
    """log(p / (1 - p))."""
    return math.log(p / (1 - p))


def error_of(row: Row, benchmark: str) -> float:
    """Standard error of one figure: its items, the protocol, and what the row says."""
    p = row.figures[benchmark]
    return (1.0 if row.checked else 2.0) * math.hypot(math.sqrt(p * (1 - p) / ITEMS[benchmark]), PROTOCOL)


@dataclass(frozen=True)
class Line:
    """logit(known of the scale) = slope * logit(known of a benchmark) + level, and what it misses by (in logits)."""

    benchmark: str
    slope: float
    level: float
    miss: float

    def at(self, figure: float, error: float) -> tuple[float, float]:
        """(overall that goes with a figure, its standard error)."""
        share = known(self.benchmark, figure)
        p = 1 / (1 + math.exp(-(self.slope * logit(share) + self.level)))
        steep = (1 - CHANCE[SCALE]) * p * (1 - p)
        own = self.slope * error / ((1 - CHANCE.get(self.benchmark, 0.0)) * max(share * (1 - share), 0.02))
        return CHANCE[SCALE] + (1 - CHANCE[SCALE]) * p, steep * math.hypot(own, self.miss)


def line(benchmark: str) -> Line | None:
    """The line through the checked models that have both; None where they are too few."""
    both = [r for r in ROWS if r.checked and not r.extra and {benchmark, SCALE} <= set(r.figures)]
    if len(both) < _LEAST:
        return None
    x = np.array([logit(known(benchmark, r.figures[benchmark])) for r in both])
    y = np.array([logit(known(SCALE, r.figures[SCALE])) for r in both])
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / max(((x - x.mean()) ** 2).sum(), 1e-9))
    slope = min(max(slope, 0.0), 1.5)
    left = y - slope * x
    return Line(benchmark, slope, float(left.mean()), float(left.std(ddof=2)))


def figure(value: float, error: float, source: str, row: Row) -> dict[str, object]:
    """One figure as it is stored."""
    error = math.hypot(error, row.extra)
    return {
        "value": round(value, 4),
        "se": round(error if row.checked else max(error, _UNSURE), 4),
        "source": source + (f"; {row.note}" if row.note else ""),
        "date": row.date,
        "checked": row.checked,
    }


def compiled(row: Row, lines: dict[str, Line | None]) -> dict[str, object]:
    """A row of abilities.json."""
    how = "MMLU-Pro"
    value = row.figures.get(SCALE)
    error = 0.0 if value is None else error_of(row, SCALE)
    for benchmark in ("gpqa", "mmlu"):
        found = lines[benchmark]
        if value is None and found is not None and benchmark in row.figures:
            value, error = found.at(row.figures[benchmark], error_of(row, benchmark))
            how = f"MMLU-Pro expected with {benchmark.upper()} {row.figures[benchmark]}"
    if value is None or math.hypot(error, row.extra) > _VAGUE:
        raise SystemExit(f"{row.names[0]}: its figures do not say how good it is overall")
    domains: dict[str, list[tuple[float, float, str]]] = {}
    for benchmark, published in row.figures.items():
        found = lines.get(benchmark)
        if found is not None and SCALE in row.figures:
            p, se = found.at(published, error_of(row, benchmark))
            if se < _VAGUE:
                domains.setdefault(DOMAIN[benchmark], []).append((p, se, f"{benchmark} {published}"))
    if SCALE in row.figures:
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
    if not row.offered:
        out["offered"] = False
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/opentracy/routing/data/abilities.json"))
    args = parser.parse_args()
    lines = {benchmark: line(benchmark) for benchmark in sorted(DOMAIN)}
    for drawn in lines.values():
        if drawn is not None:
            print(drawn.benchmark, f"slope {drawn.slope:.2f} miss {drawn.miss:.2f}")
    found = [compiled(row, lines) for row in ROWS]
    args.out.write_bytes(msgspec.json.format(msgspec.json.encode({"rows": found}), indent=1) + b"\n")
    print(len(found), "models,", sum(r.checked is not None for r in ROWS), "checked")


if __name__ == "__main__":
    main()
