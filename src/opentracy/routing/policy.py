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
from math import erf, sqrt

import msgspec


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


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the request needs of whoever answers it."""

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


def _rank(score: Score) -> tuple[float, float, str]:
    """Sort key: higher utility, then lower cost, then the name, so that ties never depend on the order of the input."""
    assert score.utility is not None
    return (-score.utility, score.cost if score.cost is not None else 0.0, score.model)


def choose(scores: Sequence[Score], default: str, *, z: float, novel: bool, blocked: str | None = None) -> Choice:
    """The model to call.

    novel: the prompt resembles nothing the estimates were made from. blocked: a reason not to trust any estimate
    (empty, too_long, unreadable). Raises ValueError when every candidate is excluded.
    """
    able = [s for s in scores if s.excluded is None]
    if not able:
        raise ValueError("no model can serve this request: " + "; ".join(f"{s.model}: {s.excluded}" for s in scores))
    home = next((s for s in able if s.model == default), None)
    ranked = sorted((s for s in able if s.utility is not None), key=_rank)
    if home is None:
        pick = ranked[0] if ranked else min(able, key=lambda s: s.model)
        rival = ranked[1] if len(ranked) > 1 else None
        return Choice(pick.model, "default_unavailable", _against(pick, rival))
    if len(able) == 1:
        return Choice(home.model, None if len(scores) == 1 else "only_candidate", 1.0)
    if blocked is not None:
        return Choice(home.model, blocked, 0.5)
    if home.utility is None:
        return Choice(home.model, "thin", 0.5)
    rivals = [s for s in ranked if s.model != home.model]
    if not rivals:
        return Choice(home.model, "thin", 0.5)
    if _rank(home) < _rank(rivals[0]):
        return Choice(home.model, None, _against(home, rivals[0]))
    if novel:
        return Choice(home.model, "novel", _against(home, rivals[0]))
    for rival in rivals:
        if _gain(rival, home) > z * rival.gap_error:
            return Choice(rival.model, None, _against(rival, home))
    return Choice(home.model, "margin", _against(home, rivals[0]))


def _gain(a: Score, b: Score) -> float:
    assert a.utility is not None
    assert b.utility is not None
    return a.utility - b.utility


def _against(pick: Score, rival: Score | None) -> float:
    if rival is None or rival.utility is None or pick.utility is None:
        return 0.5
    return round(_confidence(_gain(pick, rival), max(pick.gap_error, rival.gap_error)), 4)


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
