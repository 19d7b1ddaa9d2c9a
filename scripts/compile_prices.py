"""Compile src/opentracy/core/prices.json from the PyPI package genai-prices.

    python scripts/compile_prices.py [--date YYYY-MM-DD] [--out FILE] [--check]

The table holds facts only: identifiers, matching rules, integers. Rates are pico-USD per token (= USD per million
tokens x 10**6), requests are pico-USD per request. Of a model's price history the price in force on --date is taken
(default: today, UTC). Standard tier only: batch, flex, priority and fast prices are other products; where the provider
publishes a flat rule for one of them, it stands in TERMS below. Left out, because
a cost computed from tokens alone would be false: models billed by image, video, character, message, page or citation,
and audio models whose audio price the source does not know. A model without any price is left out, except the
gateway's ":free" ones, which are free by name.

Provider: its names at the source, terms, models. Row: id, match (rules), rates, and where known tiers, windows,
request, context, since. Rule: "=x" equal, "^x" prefix, "$x" suffix, "*x" contained, "~x" regular expression, "&[...]"
all of them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import sys
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from genai_prices import types as gp
from genai_prices.data import providers as source_providers

OUT = Path(__file__).parents[1] / "src/opentracy/core/prices.json"
LICENCE = "genai-prices: MIT, Copyright (c) Pydantic Services Inc. 2025 to present"

# Our provider -> the source's, what else it serves, and how its spellings of a model become the source's.
PROVIDERS: dict[str, dict[str, Any]] = {
    "openai": {"source": "openai"},
    "anthropic": {"source": "anthropic"},
    "gemini": {"source": "google", "rewrites": [["^models/", ""]]},
    "vertex": {
        "like": "gemini",
        "rewrites": [["^(?:.*/)?publishers/[^/]+/models/", ""], [r"@(?:default|latest|\d{3})$", ""]],
        "fallback": ["anthropic"],
    },
    "groq": {"source": "groq"},
    "mistral": {"source": "mistral"},
    "deepseek": {"source": "deepseek"},
    "together": {"source": "together"},
    "fireworks": {"source": "fireworks", "rewrites": [["^(?!accounts/)(?=.)", "accounts/fireworks/models/"]]},
    "cerebras": {"source": "cerebras"},
    "sambanova": {"source": "huggingface_sambanova"},
    "perplexity": {"source": "perplexity"},
    "cohere": {"source": "cohere"},
    "bedrock": {
        "source": "aws",
        "rewrites": [
            ["^arn:.*/", ""],
            [r"^(?:us-gov|us|eu|apac|ap|au|jp|ca|sa|me|af)\.", ""],
            [r"-v\d+(?::\d+)?(?::\w+)?$", ""],
        ],
    },
    "azure": {"source": "azure", "fallback": ["openai", "anthropic", "deepseek", "xai"]},
    "openrouter": {"source": "openrouter"},
    "xai": {"source": "x-ai"},
    "moonshot": {"source": "moonshotai"},
}

# What the providers' price pages say of answers that were not made on standard terms (the source holds none of it).
# shares: the tier's part of every standard rate; uncached_shares: the same, not for tokens read from a cache; places:
# the factor of work in one region; search: pico-USD of one search of the provider's own; always_fee: models (a pattern
# at the start) whose every request has a fee that no answer tells; states_cost: each answer says what it costs.
TERMS: dict[str, dict[str, Any]] = {
    "openai": {"shares": {"flex": [1, 2]}, "always_fee": r"gpt-[\w.-]*-search"},
    "anthropic": {"shares": {"batch": [1, 2]}, "places": {"us": [11, 10]}, "search": 10**10},
    "gemini": {"uncached_shares": {"flex": [1, 2]}},
    "vertex": {"uncached_shares": {"flex": [1, 2]}},
    "groq": {"shares": {"flex": [1, 1]}},
    "perplexity": {"states_cost": True},
    "openrouter": {"states_cost": True},
    "xai": {"states_cost": True},
}

RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
}
NOT_TOKENS_ALONE = ("image", "video", "mchars", "kpages", "messages", "citation")


def pico(price: Decimal, factor: int = 10**6) -> int:
    """USD per million tokens as integer pico-USD per token."""
    # The source holds a few quotients with 17 digits (1/12 USD); six decimals are what anybody publishes.
    return int((price * factor).quantize(Decimal(1), ROUND_HALF_EVEN))


def rules(clause: Any) -> list[str]:
    """The alternatives of a match clause, each as one rule string."""
    match clause:
        case gp.ClauseOr():
            return [rule for part in clause.or_ for rule in rules(part)]
        case gp.ClauseAnd():
            return ["&" + json.dumps([rule for part in clause.and_ for rule in rules(part)])]
        case gp.ClauseEquals():
            return ["=" + clause.equals.lower()]
        case gp.ClauseStartsWith():
            return ["^" + clause.starts_with.lower()]
        case gp.ClauseEndsWith():
            return ["$" + clause.ends_with.lower()]
        case gp.ClauseContains():
            return ["*" + clause.contains.lower()]
        case gp.ClauseRegex():
            return ["~" + clause.regex]
    raise TypeError(f"unknown match clause {clause!r}")


def in_force(model: gp.ModelInfo, day: dt.date) -> tuple[gp.ModelPrice, list[Any], dt.date | None]:
    """The price of that day, the times of day with another one, and since when it holds (None: not said)."""
    if isinstance(model.prices, gp.ModelPrice):
        return model.prices, [], None
    base, since, windows = model.prices[0].prices, None, []
    for entry in model.prices:
        limit = entry.constraint
        if isinstance(limit, gp.TimeOfDateConstraint):
            windows.append((limit.start_time, limit.end_time, entry.prices))
        elif limit is None or limit.start_date <= day:
            base, since, windows = entry.prices, limit and limit.start_date, []
    return base, windows, since


def rates(price: gp.ModelPrice, at: int = 0) -> dict[str, int]:
    """The rates of a prompt of `at` tokens."""
    out = {}
    for key, name in RATES.items():
        value = getattr(price, key)
        if isinstance(value, gp.TieredPrices):
            value = next((t.price for t in reversed(value.tiers) if at > t.start), value.base)
        if value is not None:
            out[name] = pico(value)
    return out


def tier_starts(price: gp.ModelPrice) -> list[int]:
    """The prompt sizes above which (exclusive) the whole request has other rates."""
    tiered = (v for k in RATES if isinstance(v := getattr(price, k), gp.TieredPrices))
    return sorted({tier.start for value in tiered for tier in value.tiers})


def daily(base: gp.ModelPrice, windows: list[Any]) -> tuple[gp.ModelPrice, list[list[Any]]]:
    """The rates that hold for most of the day first, then [from second, to second, rates] for the rest (UTC)."""
    spans = [(seconds(a), seconds(b), price) for a, b, price in windows]
    if len(spans) == 1 and (spans[0][1] - spans[0][0]) % 86400 > 43200:
        start, end, price = spans[0]
        base, spans = price, [(end, start, base)]
    return base, [[start, end, rates(price)] for start, end, price in spans]


def seconds(time: dt.time) -> int:
    """Second of the day, UTC."""
    return time.hour * 3600 + time.minute * 60 + time.second


def row(model: gp.ModelInfo, day: dt.date) -> dict[str, Any] | None:
    """One table row, or None for a model that the table cannot price."""
    price, windows, since = in_force(model, day)
    price, spans = daily(price, windows)
    named = [key for key, value in vars(price).items() if value is not None]
    free = not named and model.id.endswith(":free")
    if any(word in key for key in named for word in NOT_TOKENS_ALONE):
        return None
    if not free and price.input_mtok is None:
        return None
    if "-audio" in model.id and price.input_audio_mtok is None:
        return None
    out: dict[str, Any] = {"id": model.id, "match": rules(model.match)}
    out["rates"] = {"input": 0, "output": 0} if free else rates(price)
    if starts := tier_starts(price):
        out["tiers"] = [[start, rates(price, start + 1)] for start in starts]
    if spans:
        out["windows"] = spans
    if price.requests_kcount is not None:
        out["request"] = pico(price.requests_kcount, 10**9)
    if model.context_window:
        out["context"] = model.context_window
    if since:
        out["since"] = since.isoformat()
    return out


def native_names(entry: dict[str, Any]) -> dict[str, Any]:
    """A router's repository names as the provider itself spells them (last segment, "meta-llama/Llama" as
    "Meta-Llama"); the router's "-fast" alias is another product and goes."""
    names = [r[1:] for r in entry["match"] if not r.endswith("-fast")]
    own = {n.rsplit("/", 1)[-1] for n in names} | {n.replace("meta-llama/llama", "meta-llama") for n in names}
    return {**entry, "match": ["=" + n for n in sorted({*names, *own})]}


def compile_table(day: dt.date) -> dict[str, Any]:
    """The whole table."""
    by_id = {p.id: p for p in source_providers}
    table: dict[str, Any] = {
        "date": day.isoformat(),
        "source": f"genai-prices {importlib.metadata.version('genai-prices')}",
        "licence": LICENCE,
        "unit": "pico-USD per token; request: pico-USD per request",
        "providers": {},
    }
    for name, how in PROVIDERS.items():
        entry = dict(how)
        if source := by_id.get(entry.get("source", "")):
            models = [r for m in source.models if (r := row(m, day))]
            if name == "sambanova":
                models = [native_names(r) for r in models]
            entry |= {"urls": source.pricing_urls or [], "models": models}
        if name in TERMS:
            entry["terms"] = TERMS[name]
        table["providers"][name] = entry
    return table


def render(table: dict[str, Any]) -> str:
    """JSON with one model a line, so that a recompile shows as a readable diff."""
    marks: list[str] = []
    slim = {**table, "providers": {}}
    for name, entry in table["providers"].items():
        slim["providers"][name] = {**entry}
        if "models" in entry:
            rows = ",\n".join(json.dumps(m, separators=(",", ":"), ensure_ascii=False) for m in entry["models"])
            slim["providers"][name]["models"] = f"@{len(marks)}@"
            marks.append(f"[\n{rows}\n]")
    text = json.dumps(slim, indent=1, ensure_ascii=False)
    for number, rows in enumerate(marks):
        text = text.replace(f'"@{number}@"', rows)
    return text + "\n"


def main() -> int:
    """Write the table, or with --check say whether it is what the installed source gives for its own date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--date", type=dt.date.fromisoformat)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        old = args.out.read_text(encoding="utf-8")
        same = render(compile_table(dt.date.fromisoformat(json.loads(old)["date"]))) == old
        print(f"{args.out}: {'as compiled' if same else 'differs from the installed genai-prices'}")
        return 0 if same else 1
    text = render(compile_table(args.date or dt.datetime.now(dt.UTC).date()))
    args.out.write_text(text, encoding="utf-8")
    print(f"{args.out}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
