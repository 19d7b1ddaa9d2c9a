"""Estimates and costs -> one model, with the reason.

Belongs here: the decision rule alone. Values in, values out: no vectors, no artifact, no prices table. Not here: where
quality, its error and the costs come from (router.py).

The rule: utility = quality - cost_weight * cost / dearest. The default model is left only for a model whose utility is
higher by more than `z` standard errors of the paired difference (the winner's curse makes a bare argmax worse than the
default on unseen kinds of prompts), and not at all for a prompt that resembles nothing the estimates were made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erf, floor, sqrt
from typing import Any

import msgspec


class NoCapableModel(ValueError):
    """None of the candidates can serve a request; the text says of each why."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model the caller could call now. Prices in USD per token; None = unknown."""

    model: str
    input_price: float | None = None
    output_price: float | None = None
    context: int | None = None  # tokens; None = unknown, then not checked
    tools: bool = True
    vision: bool = True
    json_schema: bool = True
    healthy: bool = True


class Requirements(msgspec.Struct, frozen=True):
    """What the request needs of whoever answers it. A Struct, because one is made and hashed on every request."""

    tokens: int | None = None  # prompt tokens; None = estimated from the text
    output_tokens: int | None = None  # the caller's max_tokens, when given
    tools: bool = False
    images: bool = False
    json_schema: bool = False
    budget: float | None = None  # USD this request may cost at most


class Score(msgspec.Struct, frozen=True):
    """One candidate's figures for one prompt. A Struct, because one per candidate is made on every request."""

    model: str
    quality: float | None  # expected score 0..1; None = nothing is known about this model
    quality_error: float | None  # standard error of `quality`
    cost: float | None  # expected USD of this request
    utility: float | None
    excluded: str | None = None  # why it could not be chosen
    gap_error: float = 0.0  # standard error of (quality - the default's quality), paired where labels allow


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers and why."""

    model: str
    reason: str | None  # None, or why the default answers although it is not the best estimate
    confidence: float  # probability that the choice is at least as good as its strongest rival


def exclusion(candidate: Candidate, needs: Requirements, cost: float | None, tokens: int) -> str | None:
    """The first hard filter that `candidate` fails, in words; None when it can serve."""
    if not candidate.healthy:
        return "unhealthy"
    room = tokens + (needs.output_tokens or 0)
    if candidate.context is not None and room > candidate.context:
        return f"context: {room} tokens needed, {candidate.context} available"
    for needed, able, name in (
        (needs.tools, candidate.tools, "tools"),
        (needs.images, candidate.vision, "images"),
        (needs.json_schema, candidate.json_schema, "json_schema"),
    ):
        if needed and not able:
            return f"{name}: not supported"
    if needs.budget is not None and cost is not None and cost > needs.budget:
        return f"budget: {cost:.6f} USD expected, {needs.budget:.6f} allowed"
    return None


def _confidence(gap: float, error: float) -> float:
    if error <= 0:
        return 1.0 if gap > 0 else 0.5
    return 0.5 * (1 + erf(gap / error / sqrt(2)))


def choose(scores: Sequence[Score], default: str, *, z: float, novel: bool, blocked: str | None = None) -> Choice:
    """The model to call.

    novel: the prompt resembles nothing the estimates were made from. blocked: a reason not to trust any estimate
    (empty, too_long, unreadable). Raises ValueError when every candidate is excluded.
    """
    names = [s.model for s in scores]
    field = Field(
        names,
        name_order(names),
        names.index(default) if default in names else None,
        [s.utility for s in scores],
        [s.cost for s in scores],
        [s.gap_error for s in scores],
        [s.excluded for s in scores],
    )
    at, reason, confidence = pick(field, field.ranked(), z=z, novel=novel, blocked=blocked)
    return Choice(names[at], reason, confidence)


def name_order(names: Sequence[str]) -> list[int]:
    """Place of each name in alphabetical order: ties never depend on the order of the input."""
    places = {name: i for i, name in enumerate(sorted(set(names)))}
    return [places[name] for name in names]


class Field(msgspec.Struct, frozen=True):
    """All candidates of one decision, a list per figure, in one order. excluded: None = nobody is. A Struct, because
    one is made on every request, and a named tuple takes twice as long.
    """

    names: Sequence[str]
    order: Sequence[int]  # name_order
    home: int | None  # place of the default; None when it is not a candidate
    utility: Sequence[float | None]
    cost: Sequence[float | None]
    gap_error: Sequence[float]
    excluded: Sequence[str | None] | None

    def ranked(self) -> list[int]:
        """Places of those that can serve and have a utility: higher utility, then lower cost, then the name."""
        utility, excluded = self.utility, self.excluded
        if excluded is None and None not in utility:
            places, values = list(range(len(utility))), set(utility)
        else:
            able = [True] * len(utility) if excluded is None else [why is None for why in excluded]
            places = [i for i, u in enumerate(utility) if u is not None and able[i]]
            values = {utility[i] for i in places}
        by: Any = utility.__getitem__
        if len(values) == len(places):
            places.sort(key=by, reverse=True)  # none are equal, which is the ordinary case
        else:
            places.sort(key=lambda i: (-by(i), self.cost[i] or 0.0, self.order[i]))
        return places

    def able(self) -> list[int]:
        """Places of those that can serve."""
        if self.excluded is None:
            return list(range(len(self.names)))
        return [i for i, why in enumerate(self.excluded) if why is None]


def pick(
    f: Field, ranked: Sequence[int], *, z: float, novel: bool, blocked: str | None
) -> tuple[int, str | None, float]:
    """(place of the model to call, reason, confidence), as `choose`. ranked: `f.ranked()`."""
    able = len(f.names) if f.excluded is None else f.excluded.count(None)
    if not able:
        each = zip(f.names, f.excluded or (), strict=False)
        raise NoCapableModel("no model can serve this request: " + "; ".join(f"{name}: {why}" for name, why in each))
    home = f.home if f.home is not None and (f.excluded is None or f.excluded[f.home] is None) else None
    if home is None:
        at = ranked[0] if ranked else min(f.able(), key=f.order.__getitem__)
        return at, "default_unavailable", _against(f, at, ranked[1] if len(ranked) > 1 else None)
    if able == 1:
        return home, None if len(f.names) == 1 else "only_candidate", 1.0
    if blocked is not None:
        return home, blocked, 0.5
    own = f.utility[home]
    if own is None or len(ranked) < 2:
        return home, "thin", 0.5
    if ranked[0] == home:
        return home, None, _against(f, home, ranked[1])
    if novel:
        return home, "novel", _against(f, home, ranked[0])
    for at in ranked:
        if at == home:
            break
        if (f.utility[at] or 0.0) - own > z * f.gap_error[at]:
            return at, None, _against(f, at, home)
    return home, "margin", _against(f, home, ranked[0])


def _against(f: Field, at: int, rival: int | None) -> float:
    own, other = f.utility[at], None if rival is None else f.utility[rival]
    if rival is None or own is None or other is None:
        return 0.5
    return floor(_confidence(own - other, max(f.gap_error[at], f.gap_error[rival])) * 1e4 + 0.5) / 1e4


def why_not(s: Score, chosen: Score, home: str, z: float, reason: str | None) -> str:
    """One sentence on why a candidate was not chosen; "chosen" for the one that was."""
    if s.model == chosen.model:
        return "chosen" if reason is None else f"the default answers: {reason}"
    if s.excluded is not None:
        return s.excluded
    if s.quality is None or s.utility is None:
        return "nothing is known about its quality"
    if chosen.utility is None:
        return "nothing is known about the quality of the default"
    gap = s.utility - chosen.utility
    if gap <= 0:
        worse = s.quality <= (chosen.quality or 0.0)
        return f"utility lower by {-gap:.3f}: " + ("not better" if worse else "better, but too dear")
    if reason == "margin" and chosen.model == home:
        return f"ahead by {gap:.3f}, less than the guard asks for ({z:.2f} x {s.gap_error:.3f})"
    if chosen.model == home:
        return f"ahead by {gap:.3f}, but no estimate is trusted here: {reason}"
    return f"ahead by {gap:.3f}, but too uncertain beside the default ({z:.2f} x {s.gap_error:.3f})"


def as_dict(scores: Sequence[Score]) -> Mapping[str, Mapping[str, object]]:
    """`_routing.scores`: per model its figures, the reason of exclusion only where there is one."""
    out: dict[str, dict[str, object]] = {}
    for s in scores:
        row: dict[str, object] = {
            "quality": _rounded(s.quality, 4),
            "quality_error": _rounded(s.quality_error, 4),
            "cost": _rounded(s.cost, 8),
            "utility": _rounded(s.utility, 4),
        }
        if s.excluded is not None:
            row["excluded"] = s.excluded
        out[s.model] = row
    return out


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
