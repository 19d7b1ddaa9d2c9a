"""What a usage costs at a price: exact integer arithmetic on pico-USD per token, rounded once to nano-USD (half-even).

Unknown is None and never zero: a usage without clean counts, a part whose rate is not known. Not here: which price and
terms an answer has (`pricing`, `surcharges`), what usage means (`usage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

import msgspec

from .price_table import Price, Rates
from .surcharges import STANDARD, Terms
from .usage import MAX_TOKENS, clean_int, reasoning_outside

# Charges beside tokens that a provider reports, in USD, in its usage.
_REPORTED_FEES = ("request_cost", "search_queries_cost", "citation_tokens_cost")


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
    input_ = to_nano(prompt * fresh)
    sum_ = to_nano(prompt * fresh + completion * answered)
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
    fresh = to_nano(run * times, by)
    run += inputs[1]
    read = to_nano(run * times, by)
    run += inputs[2]
    written = to_nano(run * times, by)
    run += output
    answered = to_nano(run * times, by)
    total = to_nano(run * times + (fees + terms.fee) * by, by)
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
        amount = decimal_of(reported.get(name, 0))
        if amount is None or amount < 0:
            return None
        fees += int((amount * 10**12).to_integral_value(ROUND_HALF_EVEN))
    return fees


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS


def to_nano(pico: int, by: int = 1) -> int:
    """Pico-USD divided by `by`, as nano-USD, half-even."""
    nano, rest = divmod(pico, 1000 * by)
    return nano + (rest > 500 * by or (rest == 500 * by and nano & 1))


def decimal_of(value: object) -> Decimal | None:
    """The number as written (a float by its shortest form, so 0.1 is 0.1); None for what is none or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
