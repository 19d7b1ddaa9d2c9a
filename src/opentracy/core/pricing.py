"""What a call costs: prices by provider and model, and the arithmetic from usage to integer nano-USD.

Everything is exact integer arithmetic on pico-USD per token, rounded once to nano-USD (half-even). Unknown is None and
never zero: no price, a usage without clean counts, a part whose rate is not known.

Does not belong here: how a model name finds its row (price_table.py), what usage means (usage.py), budgets and totals.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import msgspec

from .price_table import RATE_NAMES, Price, Rates, TableInfo, builtin
from .surcharges import STANDARD, Terms, terms
from .usage import MAX_TOKENS, CleanUsage, clean_int, reasoning_outside

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
# Charges beside tokens that a provider reports, in USD, in its usage.
_REPORTED_FEES = ("request_cost", "search_queries_cost", "citation_tokens_cost")

Amount = int | float | str | Decimal


class Cost(msgspec.Struct, frozen=True, gc=False):
    """Integer nano-USD of one call; input + cached_read + cache_write + output + fees == total.

    `input` is what was neither read from nor written to a cache; `output` includes reasoning; `fees` are charges per
    request. The total is rounded once; a part may be a nano-USD off its own rounding so that the sum is exact.
    """

    input: int
    cached_read: int
    cache_write: int
    output: int
    fees: int
    total: int

    @property
    def usd(self) -> float:
        """The total in USD."""
        return self.total / 1_000_000_000


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
    amount = None if told is None or isinstance(told, str) or usage.get("is_byok") else _decimal(told)
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
    input_ = _nano(asked) if asked % 1000 else asked // 1000
    sum_ = _nano(both) if both % 1000 else both // 1000
    return Cost(input_, 0, 0, sum_ - input_, 0, sum_)


@lru_cache(maxsize=_CACHE_LIMIT)
def _always_fee(provider: str, model: str) -> bool:
    """Whether every answer of a model has a fee of which it does not tell."""
    return terms(builtin().terms(provider.lower()), model, {}) is None


def cost_with(
    price: Price, usage: Mapping[str, Any], at: float | None = None, terms: Terms = STANDARD
) -> Cost | None:
    """The cost of this usage at this price and on these terms; None when a needed count or rate is unknown.

    An answer to a prompt of no tokens has no known cost: some services leave out what they did not count.
    Where the provider says how many tokens it bills (`billed_units`), these count and not what the model saw.
    """
    if (billed := usage.get("billed_units")) is not None:
        usage = _billed(billed)
    if terms is not STANDARD:
        return _full_cost(price, usage, at, terms)
    if price.flat is not None:
        cost = _flat_cost(*price.flat, usage)
        if cost is not None:
            return cost
    return _full_cost(price, usage, at)


def _flat_cost(fresh: int, answered: int, usage: Mapping[str, Any]) -> Cost | None:
    """The usual case of `_full_cost`: so many tokens in and out at one rate each; None when there is more to it."""
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    total = usage.get("total_tokens", 0)
    if not (type(prompt) is type(completion) is type(total) is int):
        return None
    if not (0 < prompt <= MAX_TOKENS and 0 <= completion <= MAX_TOKENS and 0 <= total <= 2 * MAX_TOKENS):
        return None
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        details = usage.get(name)
        if details:
            for count in details.values():
                if count or type(count) is not int:
                    return None
    input_ = _nano(prompt * fresh)
    sum_ = _nano(prompt * fresh + completion * answered)
    return Cost(input_, 0, 0, sum_ - input_, 0, sum_)


def _full_cost(price: Price, usage: Mapping[str, Any], at: float | None, terms: Terms = STANDARD) -> Cost | None:
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    total = usage.get("total_tokens", 0)
    if type(prompt) is not int or type(completion) is not int or type(total) is not int:
        return None
    if not (0 <= prompt <= MAX_TOKENS and 0 <= completion <= MAX_TOKENS and 0 <= total <= 2 * MAX_TOKENS):
        return None
    if completion and not prompt:
        return None  # nothing is answered without a prompt: the provider did not count it
    rates = price.rates if not price.tiers and not price.windows else price.rates_for(prompt, at)
    inputs = _input_parts(rates, prompt, usage.get("prompt_tokens_details"))
    output = _output_part(rates, completion, usage)
    fees = _fees(price, usage)
    if inputs is None or output is None or fees is None:
        return None
    # Rounding the running sums, not the parts, keeps both true: one rounding of the total, and parts that add up.
    times, by = terms.share
    run = inputs[0]
    fresh = _nano(run * times, by)
    run += inputs[1]
    read = _nano(run * times, by)
    run += inputs[2]
    written = _nano(run * times, by)
    run += output
    answered = _nano(run * times, by)
    total = _nano(run * times + (fees + terms.fee) * by, by)
    return Cost(fresh, read - fresh, written - read, answered - written, total - answered, total)


def _billed(units: Any) -> Mapping[str, Any]:
    """Usage of billed units, which some state in the very form of a usage; empty, so unknown, when they are none."""
    told: Mapping[str, Any] = units if isinstance(units, Mapping) else {}
    if "prompt_tokens" in told:
        return told
    if any(told.get(name) for name in told.keys() - {"input_tokens", "output_tokens"}):
        return {}  # searches and the like, of which the table knows nothing
    counts = clean_int(told.get("input_tokens", 0)), clean_int(told.get("output_tokens", 0))
    return {"prompt_tokens": counts[0], "completion_tokens": counts[1]} if told else {}


def _input_parts(rates: Rates, prompt: int, details: Any) -> tuple[int, int, int] | None:
    """Pico-USD of the fresh, read and written prompt tokens.

    A cache rate that the table lacks is the input rate: so the source defines it, for providers without a discount.
    A write with the long lifetime has no such default where short ones have a rate of their own.
    """
    base = rates.input
    if base is None:
        return None
    if not details:
        return prompt * base, 0, 0
    read = details.get("cached_tokens", 0)
    write = details.get("cache_creation_tokens", 0) or details.get("cache_write_tokens", 0)
    long = details.get("cache_creation_1h_tokens", 0)
    audio = details.get("audio_tokens", 0)
    if not (_is_count(read) and _is_count(write) and _is_count(long) and _is_count(audio)):
        return None
    # Unclean under its first name must stay unknown even where the second name is clean.
    if details.get("cache_creation_tokens", 0) is None or long > write:
        return None
    fresh = prompt - read - write
    if fresh < 0:
        return None
    extra = _audio_extra(rates.input_audio, base, audio, fresh, bool(read))
    written = _written(rates, base, write, long)
    if extra is None or written is None:
        return None
    return fresh * base + extra, read * (base if rates.cached_read is None else rates.cached_read), written


def _written(rates: Rates, base: int, write: int, long: int) -> int | None:
    if not write:
        return 0
    if rates.cache_write is None:
        return write * base
    if not long:
        return write * rates.cache_write
    return None if rates.cache_write_1h is None else (write - long) * rates.cache_write + long * rates.cache_write_1h


def _audio_extra(rate: int | None, base: int, audio: int, fresh: int, cached: bool) -> int | None:
    """What audio tokens cost beyond the text rate; None where they are not part of `fresh`, so cannot be told apart."""
    if not audio:
        return 0
    if audio > fresh or (cached and rate is not None):
        return None
    return 0 if rate is None else audio * (rate - base)


def _output_part(rates: Rates, completion: int, usage: Mapping[str, Any]) -> int | None:
    base = rates.output
    details = usage.get("completion_tokens_details")
    if base is None:
        return None if completion or details else 0
    if not details:
        return completion * base
    reasoning, audio = details.get("reasoning_tokens", 0), details.get("audio_tokens", 0)
    if not (_is_count(reasoning) and _is_count(audio)):
        return None
    if reasoning:
        completion += reasoning_outside(usage)
    extra = _audio_extra(rates.output_audio, base, audio, completion, False)
    if extra is None:
        return None
    if rates.reasoning is not None:
        extra += min(reasoning, completion) * (rates.reasoning - base)
    return completion * base + extra


def _fees(price: Price, usage: Mapping[str, Any]) -> int | None:
    """Pico-USD of charges per request: what the provider reports of them, else the table's figure."""
    reported = usage.get("cost")
    if not isinstance(reported, Mapping) or not any(name in reported for name in _REPORTED_FEES):
        return price.request
    fees = 0
    for name in _REPORTED_FEES:
        amount = _decimal(reported.get(name, 0))
        if amount is None or amount < 0:
            return None
        fees += int((amount * 10**12).to_integral_value(ROUND_HALF_EVEN))
    return fees


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS


def _nano(pico: int, by: int = 1) -> int:
    """Pico-USD divided by `by`, as nano-USD, half-even."""
    nano, rest = divmod(pico, 1000 * by)
    return nano + (rest > 500 * by or (rest == 500 * by and nano & 1))


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
    value = _decimal(amount)
    if value is None or value < 0:
        raise ValueError(f"price of {model!r}: {name} must be a finite amount of USD >= 0, not {amount!r}")
    return int((value * 10**6).to_integral_value(ROUND_HALF_EVEN))


def _decimal(value: object) -> Decimal | None:
    """The number as written (a float by its shortest form, so 0.1 is 0.1); None for what is none or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
