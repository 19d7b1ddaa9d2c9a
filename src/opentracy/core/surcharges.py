"""What an answer says of its price beyond tokens: the tier it ran on, where it ran, what its provider searched for.

A price table holds what the standard tier costs. Belongs here: how the terms of one answer differ from that, where the
provider publishes a rule for it, and that they are unknown where it does not. What a dialect calls a tier stands in
the dialect, which puts it into the usage (`service_tier`, `speed`, `inference_geo`, `server_tool_use`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .usage import clean_int

STANDARD_TIERS = frozenset({"default", "standard", "standard_only", "auto", "on_demand", "unspecified"})
"""Names of the tier that a price table is about."""

_SEARCHES = ("web_search_requests", "tool_calls_executed")


class Terms(NamedTuple):
    """`share`: what every rate is multiplied by, as a fraction; `fee`: pico-USD that come on top."""

    share: tuple[int, int] = (1, 1)
    fee: int = 0


STANDARD = Terms()


def tier_word(raw: Any) -> str | None:
    """A tier's name in one spelling; None for the standard one and for what is no name."""
    if not isinstance(raw, str) or not raw:
        return None
    word = raw.lower().removeprefix("service_tier_").removeprefix("traffic_type_")
    if word.startswith("on_demand_"):
        word = word.removeprefix("on_demand_")
    return None if word in STANDARD_TIERS else word


def with_tier(usage: dict[str, Any] | None, raw: Any) -> dict[str, Any] | None:
    """The usage with the tier of its answer, where that is not the standard one."""
    word = None if usage is None else tier_word(raw)
    return usage if usage is None or word is None else {**usage, "service_tier": word}


def terms(rules: Mapping[str, Any], model: str, usage: Mapping[str, Any]) -> Terms | None:
    """The terms of an answer; None when they are not the standard ones and not known.

    `rules`: the provider's, from the price table. `shares` and `uncached_shares` {tier: [times, by]}: what part of the
    standard rates a tier costs, the second kind not for tokens read from a cache; `places` {region: [times, by]};
    `search`: pico-USD of a search; `always_fee`: a pattern of models with a fee that no answer tells.
    """
    share = _share(rules, usage)
    fee = _search_fee(rules, usage)
    if share is None or fee is None or ("always_fee" in rules and re.match(rules["always_fee"], model.lower())):
        return None
    return STANDARD if share == (1, 1) and not fee else Terms(share, fee)


def _share(rules: Mapping[str, Any], usage: Mapping[str, Any]) -> tuple[int, int] | None:
    if usage.get("speed") not in (None, "standard"):
        return None
    times, by = 1, 1
    tier = tier_word(usage.get("service_tier"))
    if tier is not None:
        found = rules.get("shares", {}).get(tier)
        if found is None and not (usage.get("prompt_tokens_details") or {}).get("cached_tokens"):
            found = rules.get("uncached_shares", {}).get(tier)
        if found is None:
            return None
        times, by = found
    place = usage.get("inference_geo")
    if isinstance(place, str) and (more := rules.get("places", {}).get(place)) is not None:
        times, by = times * more[0], by * more[1]
    return times, by


def _search_fee(rules: Mapping[str, Any], usage: Mapping[str, Any]) -> int | None:
    """Pico-USD of the provider's own searches; where some of them are free, nobody knows."""
    work = usage.get("server_tool_use")
    searches = sum(clean_int(work.get(name)) or 0 for name in _SEARCHES) if isinstance(work, Mapping) else 0
    searches += clean_int(usage.get("num_sources_used")) or 0
    if not searches:
        return 0
    price = rules.get("search")
    return None if price is None else searches * price
