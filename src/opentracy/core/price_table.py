"""The compiled price table: what a row means and which row a model name finds.

The data is prices.json beside this file, written by scripts/compile_prices.py, read once at the first look-up.
Names of providers and their spellings are data of the table, not of this code.

Does not belong here: what a call costs (pricing.py) and prices that a user sets (pricing.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

_PATH = Path(__file__).with_name("prices.json")
_DATE = re.compile(r"[-@](20\d\d)-?([01]\d)-?([0-3]\d)\Z")
# What may follow a prefix or an infix that a rule names: dates, versions and words that do not make another product.
# "-lite", "-8b" or "-fast" do, and must not inherit the price of the name they extend.
_VARIANT = re.compile(
    r"(?:[-@:._](?:\d{2,8}|v\d+|latest|preview|exp|experimental|beta|thinking|reasoning|instruct|it|text|us|default))*"
    r"(?::\d+)?(?::\d+k)?\Z"
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Integer pico-USD per token (USD per million tokens x 10**6); None: no rate of its own is known."""

    input: int | None = None
    output: int | None = None
    cached_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    input_audio: int | None = None
    output_audio: int | None = None


RATE_NAMES = tuple(f.name for f in fields(Rates))


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs.

    `tiers`: (start, rates), ascending; a prompt of more than `start` tokens has these rates for the whole request.
    `windows`: (from, to, rates), seconds of the UTC day, `to` exclusive, may cross midnight; outside them, and for a
    call without a time, `rates` hold. `request`: pico-USD a request. `context`: tokens. `since`: the day this price
    came into force, where known. `source`: where the figures are from.
    """

    model: str
    rates: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    windows: tuple[tuple[int, int, Rates], ...] = ()
    request: int = 0
    context: int | None = None
    since: str | None = None
    source: str = ""
    flat: tuple[int, int] | None = field(init=False, repr=False, compare=False)
    """The rates of input and output, where these alone make the price."""

    def __post_init__(self) -> None:
        rates = self.rates
        plain = not (self.tiers or self.windows or self.request) and None not in (rates.input, rates.output)
        object.__setattr__(self, "flat", (rates.input, rates.output) if plain else None)

    def rates_for(self, prompt_tokens: float, at: float | None = None) -> Rates:
        """The rates of a request with that many prompt tokens, begun at `at` (seconds since the epoch)."""
        rates = self.rates
        if self.windows and at is not None:
            second = at % 86400
            for start, end, other in self.windows:
                if start <= second < end if start < end else second >= start or second < end:
                    rates = other
        for start, other in self.tiers:
            if prompt_tokens > start:
                rates = other
        return rates

    def usd_per_million(self) -> dict[str, float]:
        """The known base rates in USD per million tokens, by name."""
        known = ((name, getattr(self.rates, name)) for name in RATE_NAMES)
        return {name: rate / 1e6 for name, rate in known if rate is not None}


@dataclass(frozen=True, slots=True)
class TableInfo:
    """The origin of the table: `date` (ISO) of the prices in force, `source` and `licence` of the facts, row count."""

    date: str
    source: str
    licence: str
    models: int


class _Index:
    """One provider's rows by exact name, and the rules for the names that no row spells out, in the table's order."""

    __slots__ = ("exact", "rewrites", "rules")

    def __init__(self, models: list[dict[str, Any]], rewrites: list[list[str]]) -> None:
        self.exact: dict[str, dict[str, Any]] = {}
        self.rules: list[tuple[str, dict[str, Any]]] = []
        self.rewrites = [(re.compile(pattern), to) for pattern, to in rewrites]
        for row in models:
            for rule in row["match"]:
                if rule[0] == "=":
                    self.exact.setdefault(rule[1:], row)
                else:
                    self.rules.append((rule, row))
        for row in models:
            self.exact.setdefault(row["id"].lower(), row)

    def find(self, name: str) -> dict[str, Any] | None:
        found = self.exact.get(name)
        if found is None:
            found = next((row for rule, row in self.rules if _matches(rule, name)), None)
        return found

    def spellings(self, name: str) -> Iterator[str]:
        """`name`, then as the rewrites leave it one after the other; all of them again without a date at the end."""
        names = [name]
        for pattern, to in self.rewrites:
            other = pattern.sub(to, names[-1])
            if other != names[-1]:
                names.append(other)
        yield from names
        for each in names:
            if date := _DATE.search(each):
                stem = each[: date.start()]
                # A dated snapshot may have a price of its own under the other way to write the date.
                yield f"{stem}-{'-'.join(date.groups())}"
                yield f"{stem}-{''.join(date.groups())}"
                yield stem


def _matches(rule: str, name: str) -> bool:
    kind, text = rule[0], rule[1:]
    match kind:
        case "^":
            return name.startswith(text) and _is_variant(text, name[len(text) :])
        case "*":
            at = name.find(text)
            return at >= 0 and _is_variant(text, name[at + len(text) :])
        case "$":
            return name.endswith(text)
        case "~":
            return re.search(text, name) is not None
        case "&":
            return all(_matches(part, name) for part in msgspec.json.decode(text, type=list[str]))
    return name == text


def _is_variant(rule: str, rest: str) -> bool:
    # Fine-tunes end in names of their owner's choice, and share one price.
    if not rest or rule.startswith("ft:") or ".ft-" in rule:
        return True
    # A rule may end inside a number, at a year ("x-2025") or a leading zero ("x-0"): its other digits follow at once.
    if rule[-4:].isdigit() or rule.endswith("-0"):
        rest = rest.lstrip("0123456789")
    elif rule[-1] in "-@:":
        rest = rule[-1] + rest
    return _VARIANT.match(rest) is not None


class PriceTable:
    """A decoded table. `find` is pure; indexes are built per provider at its first look-up."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._providers: Mapping[str, Mapping[str, Any]] = document["providers"]
        self._indexes: dict[str, _Index] = {}
        self.info = TableInfo(
            document["date"],
            document["source"],
            document["licence"],
            sum(len(p.get("models", ())) for p in self._providers.values()),
        )

    def find(self, provider: str, model: str) -> Price | None:
        """The price of a model as its provider names it, case-insensitively; None when no row is surely its own."""
        name = model.strip().lower()
        entry = self._providers.get(provider)
        if entry is None or not name:
            return None
        for key in (provider, *entry.get("fallback", ())):
            index = self._index(key)
            for spelling in index.spellings(name):
                if (row := index.find(spelling)) is not None:
                    return self._price(key, row)
        return None

    def terms(self, provider: str) -> Mapping[str, Any]:
        """What the provider's prices hold of answers that were not made on standard terms; see `surcharges`."""
        found: Mapping[str, Any] = self._providers.get(provider, {}).get("terms", {})
        return found

    def _index(self, provider: str) -> _Index:
        index = self._indexes.get(provider)
        if index is None:
            entry = self._providers[provider]
            base = self._providers[entry["like"]] if "like" in entry else entry
            rewrites = [*entry.get("rewrites", ()), *(base.get("rewrites", ()) if base is not entry else ())]
            index = self._indexes[provider] = _Index(base["models"], rewrites)
        return index

    def _price(self, provider: str, row: Mapping[str, Any]) -> Price | None:
        """The row as a value; None for a row with a figure that cannot be one (negative, fractional, missing)."""
        try:
            return Price(
                model=row["id"],
                rates=_rates(row["rates"]),
                tiers=tuple((_count(start), _rates(rates)) for start, rates in row.get("tiers", ())),
                windows=tuple((_count(a), _count(b), _rates(rates)) for a, b, rates in row.get("windows", ())),
                request=_count(row.get("request", 0)),
                context=row.get("context"),
                since=row.get("since"),
                source=f"{self.info.source}, {self.info.date}, {provider}",
            )
        except (ValueError, TypeError, KeyError):
            return None


def _rates(raw: Mapping[str, Any]) -> Rates:
    if "input" not in raw:
        raise ValueError("a row without an input rate")
    return Rates(**{name: _count(value) for name, value in raw.items()})


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"not a non-negative integer: {value!r}")
    return value


@cache
def builtin() -> PriceTable:
    """The table that ships with the package, read at the first call."""
    return PriceTable(msgspec.json.decode(_PATH.read_bytes()))
