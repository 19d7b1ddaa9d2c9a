"""What a call costs: the price and the terms of a model's answer, from the table, the caller or the provider itself.

Does not belong here: how a model name finds its row (price_table.py), the arithmetic (cost.py), what terms an answer
was made on (surcharges.py), what usage means (usage.py), budgets and totals.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any

from .cost import Cost, cost_with, decimal_of, to_nano
from .price_table import RATE_NAMES, Price, Rates, TableInfo, builtin
from .surcharges import terms
from .usage import CleanUsage, clean_int

__all__ = [
    "Cost",
    "Price",
    "Rates",
    "TableInfo",
    "context_window",
    "cost_of",
    "cost_of_plain",
    "cost_with",
    "expected_cost",
    "price_from_usd",
    "price_of",
    "register_price",
    "table_info",
    "unregister_price",
]

# Names come from callers of a server too: the cache must not grow with what they invent.
_CACHE_LIMIT = 4096
_cache: dict[tuple[str, str], Price | None] = {}
_registered: dict[str, Price] = {}
_MAX_REPORTED = 10**6  # USD for one call: more is no amount of money but a broken field

Amount = int | float | str | Decimal


def price_of(provider: str, model: str) -> Price | None:
    """The price of `model` as `provider` names it (names as in the registry, any case); None when it is not known.

    A price set by `register_price` goes first. Then the table: the exact name, the source's matching rules, the name
    without a date at its end.
    """
    key = (provider, model)
    try:
        return _cache[key]
    except KeyError:
        pass
    name, owner = model.strip().lower(), provider.lower()
    found = _registered.get(f"{owner}/{name}") or _registered.get(name) or builtin().find(owner, model)
    if len(_cache) >= _CACHE_LIMIT:
        _cache.clear()
    _cache[key] = found
    return found


def cost_of(provider: str, model: str, usage: Mapping[str, Any] | None, at: float | None = None) -> Cost | None:
    """The cost of a call with this usage (`core.usage` form); None when its price or a needed count is unknown.

    A registered price goes first and holds whatever the tier. Of a tier, a place or a search with a price of its own
    the terms must be known (`core.surcharges`). Where the table does not help and the provider says itself what the
    call cost, that is the total, all of it `fees`; a few providers' own account goes before the table. `at`: when the
    request began, in seconds since the epoch. A few models have other prices at some hours; without it the rates that
    hold for most of the day are taken.
    """
    if not usage:
        return None
    price = price_of(provider, model)
    if price is not None and price.source == "registered":
        return cost_with(price, usage, at)
    rules = builtin().terms(provider.lower())
    found = None if price is None else terms(rules, model, usage)
    cost = None if price is None or found is None else cost_with(price, usage, at, found)
    if cost is not None and not rules.get("states_cost"):
        return cost
    told = _reported(usage)
    return cost if told is None or (cost is not None and abs(told.total - cost.total) <= 1) else told


def _reported(usage: Mapping[str, Any]) -> Cost | None:
    """What the provider charged by its own account: `cost` in USD, a breakdown with `total_cost`, or ticks of 10^-10.

    A key of the customer's own (`is_byok`) is billed elsewhere, so a 0 would be false.
    """
    ticks = clean_int(usage.get("cost_in_usd_ticks"))
    told: Any = usage.get("cost") if ticks is None else Decimal(ticks) / 10**10
    if isinstance(told, Mapping):
        told = told.get("total_cost")
    amount = None if told is None or isinstance(told, str) or usage.get("is_byok") else decimal_of(told)
    if amount is None or not 0 <= amount < _MAX_REPORTED:
        return None
    total = int((amount * 10**9).to_integral_value(ROUND_HALF_EVEN))
    return Cost(0, 0, 0, 0, total, total)


def cost_of_plain(provider: str, model: str, usage: CleanUsage, at: float | None = None) -> Cost | None:
    """`cost_of` for a usage that adds up and came in typed form."""
    price = price_of(provider, model)
    if price is None:
        return None
    flat = price.flat
    if flat is None or not usage.flat or _always_fee(provider, model):
        return cost_of(provider, model, usage.as_dict(), at)
    asked = usage.prompt_tokens * flat[0]
    both = asked + usage.completion_tokens * flat[1]
    # nearly every price is a whole number of nano-USD per token
    input_ = to_nano(asked) if asked % 1000 else asked // 1000
    sum_ = to_nano(both) if both % 1000 else both // 1000
    return Cost(input_, 0, 0, sum_ - input_, 0, sum_)


@lru_cache(maxsize=_CACHE_LIMIT)
def _always_fee(provider: str, model: str) -> bool:
    """Whether every answer of a model has a fee of which it does not tell."""
    return terms(builtin().terms(provider.lower()), model, {}) is None


def expected_cost(provider: str, model: str, prompt_tokens: float, output_tokens: float) -> float | None:
    """USD that a request of this size would cost without caching; sizes may be fractional estimates. None: unknown."""
    price = price_of(provider, model)
    if price is None:
        return None
    rates = price.rates_for(prompt_tokens)
    if rates.input is None or rates.output is None:
        return None
    return (prompt_tokens * rates.input + output_tokens * rates.output + price.request) / 1e12


def context_window(provider: str, model: str) -> int | None:
    """The context length in tokens, where the table knows it."""
    price = price_of(provider, model)
    return None if price is None else price.context


def table_info() -> TableInfo:
    """Date, source and licence of the built-in table."""
    return builtin().info


def price_from_usd(
    model: str,
    *,
    input: Amount,
    output: Amount | None,
    cached_read: Amount | None = None,
    cache_write: Amount | None = None,
    cache_write_1h: Amount | None = None,
    reasoning: Amount | None = None,
    input_audio: Amount | None = None,
    output_audio: Amount | None = None,
    tiers: Mapping[int, Mapping[str, Amount]] | None = None,
    request: Amount = 0,
    context: int | None = None,
) -> Price:
    """A price from USD per million tokens (`request`: USD per request), exact to six decimals.

    `tiers`: {prompt tokens: {rate name: USD per million}}; above that size the whole request has these rates, those
    not named stay. `output` None: not known (an embedding model has none). Raises ValueError naming the amount that is
    negative, not finite or not a number.
    """
    rates = {
        "input": input,
        "output": output,
        "cached_read": cached_read,
        "cache_write": cache_write,
        "cache_write_1h": cache_write_1h,
        "reasoning": reasoning,
        "input_audio": input_audio,
        "output_audio": output_audio,
    }
    base = {name: _pico(model, name, amount) for name, amount in rates.items() if amount is not None}
    steps: list[tuple[int, Rates]] = []
    for start in sorted(tiers or {}):
        assert tiers is not None
        if unknown := tiers[start].keys() - set(RATE_NAMES):
            raise ValueError(f"price of {model!r}: unknown rate {min(unknown)!r}; known are {', '.join(RATE_NAMES)}")
        base_up = {name: _pico(model, name, amount) for name, amount in tiers[start].items()}
        steps.append((start, Rates(**{**base, **base_up})))
    return Price(
        model=model,
        rates=Rates(**base),
        tiers=tuple(steps),
        request=_pico(model, "request", request) * 10**6,
        context=context,
        source="registered",
    )


def register_price(model: str, *, input: Amount, output: Amount | None, **more: Any) -> Price:
    """Set the price of `model`: "provider/model", or a bare name for every provider. Goes before the table.

    USD per million tokens; further arguments as of `price_from_usd`, which raises ValueError for a bad amount.
    """
    name = model.strip().lower()
    if not name:
        raise ValueError("register_price needs a model name")
    price = _registered[name] = price_from_usd(model, input=input, output=output, **more)
    _cache.clear()
    return price


def unregister_price(model: str) -> bool:
    """Take back `register_price`; whether there was one."""
    known = _registered.pop(model.strip().lower(), None) is not None
    _cache.clear()
    return known


def _pico(model: str, name: str, amount: Amount) -> int:
    value = decimal_of(amount)
    if value is None or value < 0:
        raise ValueError(f"price of {model!r}: {name} must be a finite amount of USD >= 0, not {amount!r}")
    return int((value * 10**6).to_integral_value(ROUND_HALF_EVEN))
