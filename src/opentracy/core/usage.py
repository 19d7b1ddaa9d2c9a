"""Token usage in OpenAI's form: what the dialects build and what pricing, traces and metrics read.

One meaning everywhere: `prompt_tokens` includes cached tokens, `completion_tokens` includes reasoning tokens.
`prompt_tokens_details` carries `cached_tokens` (cache reads), `cache_creation_tokens` (all cache writes) and
`cache_creation_1h_tokens` (the part of the writes with the long lifetime, when the provider tells it apart).
An absent key means "not reported"; a key that is present and None means "reported, but not a usable number", and
whoever computes from it must answer "unknown" too.

Does not belong here: prices, and the field names of one provider's native usage object (they stay in its dialect).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_TOKENS = 2**53
"""Largest count taken for real: beyond it JSON readers in other languages lose digits."""

_TOTALS = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
_CACHED_ALIASES = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")
# A usage holding one of these may need work even when its three totals are clean.
_ALIASES = frozenset((*_CACHED_ALIASES, "reasoning_tokens"))


_Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class _PromptDetails(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: _Tokens = 0
    audio_tokens: _Tokens = 0


class _CompletionDetails(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    reasoning_tokens: _Tokens = 0
    audio_tokens: _Tokens = 0
    accepted_prediction_tokens: _Tokens = 0
    rejected_prediction_tokens: _Tokens = 0


class PlainUsage(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A usage in which `normalise_openai` would change nothing, as it decodes from JSON; see `adds_up`."""

    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    total_tokens: _Tokens
    prompt_tokens_details: _PromptDetails | UnsetType = UNSET
    completion_tokens_details: _CompletionDetails | UnsetType = UNSET

    @property
    def adds_up(self) -> bool:
        """Whether the total is the sum; where it is not, tokens may stand apart that the other fields do not show."""
        return self.prompt_tokens + self.completion_tokens == self.total_tokens

    @property
    def flat(self) -> bool:
        """Whether so many tokens in and out are all there is to it: none cached, none of another kind."""
        inner, outer = self.prompt_tokens_details, self.completion_tokens_details
        return (inner is UNSET or not (inner.cached_tokens or inner.audio_tokens)) and (
            outer is UNSET
            or not (outer.reasoning_tokens or outer.audio_tokens or outer.accepted_prediction_tokens
                    or outer.rejected_prediction_tokens)
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The same as this module's usage dict."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class CleanUsage(Protocol):
    """A usage with two clean counts: `PlainUsage`, or a dict that is known to be clean."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def prompt_tokens_details(self) -> Any:
        """As in the usage; UNSET where there are none."""
        ...

    @property
    def completion_tokens_details(self) -> Any:
        """As in the usage; UNSET where there are none."""
        ...

    @property
    def flat(self) -> bool:
        """Whether so many tokens in and out are all there is to it."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """The same as a dict of this module."""
        ...


def clean_int(value: object) -> int | None:
    """`value` as a token count in 0..2**53; None for what is none: bool, NaN, infinities, fractions, negatives, text.

    A whole float (3.0) and a string of ASCII digits ("12") are read.
    """
    if type(value) is int:
        return value if 0 <= value <= MAX_TOKENS else None
    if type(value) is float:
        return int(value) if 0.0 <= value <= MAX_TOKENS and value.is_integer() else None
    if type(value) is str and len(value) <= 16 and value.isascii() and value.isdigit():
        return clean_int(int(value))
    return None


def sum_ints(*values: object) -> int | None:
    """The sum of the counts that are present (not None); None when there is none, or when one of them is unclean."""
    present = [clean_int(v) for v in values if v is not None]
    if not present:
        return None
    total = 0
    for value in present:
        if value is None:
            return None
        total += value
    return total


def prompt_including_cache(
    *, input: object, output: object = None, cached: object = None, cache_write: object = None, total: object = None
) -> int | None:
    """`prompt_tokens` for a provider that counts cached tokens apart from its input tokens.

    The rule: input + cache reads + cache writes. Some gateways already count the cached tokens as input under the same
    field names, and only the provider's total tells: where `total` equals input + output although there are cached
    tokens, and these fit into the input, the input is the whole prompt. None when a part is unclean or input is absent.
    """
    apart = sum_ints(0, cached, cache_write)
    fresh = clean_int(input)
    if fresh is None or apart is None:
        return None
    spent = clean_int(output)
    if apart and apart <= fresh and spent is not None and clean_int(total) == fresh + spent:
        return fresh
    return fresh + apart


def build(
    *,
    prompt: object = None,
    completion: object = None,
    total: object = None,
    cached: object = None,
    cache_write: object = None,
    cache_write_1h: object = None,
    reasoning: object = None,
    audio: object = None,
    audio_output: object = None,
) -> dict[str, Any]:
    """The usage dict of these counts; every one may be the raw value from the wire.

    None means absent: the detail is left out. A present but unclean value becomes None in the dict. `total` defaults
    to prompt + completion. `cache_write_1h` is a part of `cache_write`, `cached` and `cache_write` are parts of
    `prompt`, `reasoning` is a part of `completion`.
    """
    p, c = clean_int(prompt), clean_int(completion)
    out: dict[str, Any] = {"prompt_tokens": p, "completion_tokens": c, "total_tokens": clean_int(total)}
    if total is None and p is not None and c is not None:
        out["total_tokens"] = clean_int(p + c)
    details = {
        "cached_tokens": cached,
        "cache_creation_tokens": cache_write,
        "cache_creation_1h_tokens": cache_write_1h,
        "audio_tokens": audio,
    }
    if prompt_details := {k: clean_int(v) for k, v in details.items() if v is not None}:
        out["prompt_tokens_details"] = prompt_details
    details = {"reasoning_tokens": reasoning, "audio_tokens": audio_output}
    if completion_details := {k: clean_int(v) for k, v in details.items() if v is not None}:
        out["completion_tokens_details"] = completion_details
    return out


def normalise_openai(usage: Any, *, fold_reasoning: bool = True) -> dict[str, Any] | None:
    """A usage object of the OpenAI wire in the form of this module; None when it is no object or an empty one.

    The usual clean dict comes back as it is, the very same object. Otherwise a new dict: unclean counts are None,
    unknown fields are kept, counts of cached tokens under other names are repeated where OpenAI puts them.
    `fold_reasoning`: where the total shows that reasoning tokens lie outside `completion_tokens`, they are added to it
    (`core.pricing` bills both forms alike).
    """
    if type(usage) is dict:
        if _is_clean(usage):
            return usage
    elif not isinstance(usage, Mapping):
        return None
    return _rebuild(usage, fold_reasoning) if usage else None


def _is_clean(usage: dict[str, Any]) -> bool:
    """Whether nothing in `usage` needs work. The hot path: runs for every answer and must stay near a microsecond."""
    p, c, t = usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("total_tokens")
    if type(p) is not int or type(c) is not int or type(t) is not int or p + c != t:
        return False
    if not _ALIASES.isdisjoint(usage):
        return False
    for key, value in usage.items():
        kind = type(value)
        if kind is int:
            if not 0 <= value <= MAX_TOKENS:
                return False
        elif kind is dict:
            if key not in _DETAILS:
                return False
            for count in value.values():
                if type(count) is not int or not 0 <= count <= MAX_TOKENS:
                    return False
            if value.get("cache_write_tokens") and "cache_creation_tokens" not in value:
                return False
        elif kind is float:
            if not math.isfinite(value) or key.endswith("_tokens"):
                return False
        elif value is not None and kind is not str and kind is not bool:
            return False
    return True


def _rebuild(usage: Mapping[str, Any], fold_reasoning: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in usage.items():
        if key in _DETAILS:
            out[key] = _details(value) if isinstance(value, Mapping) else None
        elif key.endswith("_tokens"):
            out[key] = clean_int(value)
        else:
            out[key] = _finite(value)
    _fill_totals(out, usage)
    _move_aliases(out)
    if fold_reasoning:
        _fold_reasoning(out)
    return out


def _details(raw: Mapping[str, Any]) -> dict[str, Any]:
    # A null detail is a provider's way to say "not reported", not a broken number: it is dropped.
    out = {k: clean_int(v) if k.endswith("_tokens") else _finite(v) for k, v in raw.items() if v is not None}
    if "cache_write_tokens" in out:
        out.setdefault("cache_creation_tokens", out["cache_write_tokens"])
    return out


def _fill_totals(out: dict[str, Any], raw: Mapping[str, Any]) -> None:
    """Give the three totals; an absent one follows from the others, an unclean one stays None."""
    for name, other in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        if name not in out and other in out:
            out[name] = out[other]
    p, c, t = (out.get(name) for name in _TOTALS)
    if "prompt_tokens" not in out and c is not None and t is not None and t >= c:
        p = t - c
    elif "completion_tokens" not in out and p is not None and t is not None and t >= p:
        c = t - p
    if raw.get("total_tokens") is None and p is not None and c is not None:
        t = clean_int(p + c)
    out.update(zip(_TOTALS, (p, c, t), strict=True))


def _move_aliases(out: dict[str, Any]) -> None:
    cached = next((name for name in _CACHED_ALIASES if name in out), None)
    for alias, holder, name in (
        (cached, "prompt_tokens_details", "cached_tokens"),
        ("reasoning_tokens", "completion_tokens_details", "reasoning_tokens"),
    ):
        if alias is not None and alias in out:
            details = out.get(holder) or {}
            if name not in details:
                out[holder] = {**details, name: out[alias]}


def _fold_reasoning(out: dict[str, Any]) -> None:
    outside = reasoning_outside(out)
    # Only where the total proves it: prompt + completion must stay what the provider says they add up to.
    if outside and out["total_tokens"] == out["prompt_tokens"] + out["completion_tokens"] + outside:
        out["completion_tokens"] += outside


def reasoning_outside(usage: Mapping[str, Any]) -> int:
    """How many reasoning tokens of a cleaned usage are not counted in its `completion_tokens`; mostly 0.

    Shown either by the total (prompt + completion + reasoning) or by more reasoning than completion tokens.
    """
    details = usage.get("completion_tokens_details")
    reasoning = details.get("reasoning_tokens") if details else None
    if not reasoning:
        return 0
    p, c, t = (usage.get(name) for name in _TOTALS)
    if p is None or c is None or t is None:
        return 0
    outside: int = reasoning if t == p + c + reasoning or reasoning > c else 0
    return outside


def _finite(value: Any) -> Any:
    """`value` with every NaN and infinity inside it as None: they are not JSON and would break whoever stores it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value


def add(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The usage of two calls together. Known counts are summed; a count that one of them has as None (unclean) is
    None; one that only one of them reports is taken from it. Other fields are dropped: they do not add up.
    None (no usage) adds nothing.
    """
    if a is None or b is None:
        only = a if b is None else b
        return None if only is None else _counts(only)
    return _sum_counts(_counts(a), _counts(b))


def _counts(usage: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {name: usage.get(name) for name in _TOTALS}
    for holder in _DETAILS:
        details = usage.get(holder)
        if details:
            out[holder] = {k: v for k, v in details.items() if k.endswith("_tokens")}
    return out


def _sum_counts(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    out = dict(a)
    for key, value in b.items():
        if key not in a:
            out[key] = value
        elif isinstance(value, dict) and isinstance(a[key], dict):
            out[key] = _sum_counts(a[key], value)
        else:
            out[key] = None if a[key] is None or value is None else a[key] + value
    return out
