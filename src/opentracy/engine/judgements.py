"""Feedback -> outcomes that a router can learn from.

Belongs here: which statements judge an answer, whose answer it was, and what had been expected of it. Not here: the
running sums (`opentracy.routing.learn`), when this is done (`learning`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from opentracy.traces import Reader, TraceRecord

from .route import prompt_of

if TYPE_CHECKING:
    from opentracy.routing import Router
    from opentracy.routing.learn import Outcome

BATCH = 500
_NEW = """
SELECT f.id, f.trace_id, f.value, f.ts_ms,
    (SELECT p.value FROM feedback p WHERE p.trace_id = f.trace_id AND p.metric = f.metric AND p.author IS f.author
     AND p.kind IN ('bool', 'float') AND p.id < f.id ORDER BY p.id DESC LIMIT 1)
FROM feedback f WHERE f.id > ? AND f.metric = ? AND f.kind IN ('bool', 'float') ORDER BY f.id LIMIT ?
"""


class Asked(msgspec.Struct):
    """What of a stored request is read."""

    messages: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class Judgement:
    """One statement of 0 to 1 on a trace; `before`: what the same author had said of it, if anything."""

    id: int
    trace_id: str
    value: float
    before: float | None
    ts_ms: int


def news(reader: Reader, metric: str, after: int) -> list[Judgement]:
    """Statements on `metric` that were added after the one numbered `after`, oldest first, a batch at most."""
    found = reader.store.reader().execute(_NEW, (after, metric, BATCH)).fetchall()
    return [
        Judgement(number, trace_id, float(value), None if before is None else float(before), ts_ms)
        for number, trace_id, value, ts_ms, before in found
    ]


def prompt_and_system(record: TraceRecord) -> tuple[str, str | None] | None:
    """What was asked; None where the text is gone, or there was none."""
    if record.request is None:
        return None
    try:
        prompt, system = prompt_of(msgspec.json.decode(record.request, type=Asked).messages)
    except (msgspec.MsgspecError, KeyError):
        return None
    return (prompt, system) if prompt.strip() else None


def spelled(record: TraceRecord, known: Iterable[str]) -> str:
    """The router's name of the model that answered: with the provider before it, as it stands, or by its last part."""
    names = list(known)
    full = record.model if record.model.startswith(f"{record.provider}/") else f"{record.provider}/{record.model}"
    for name in (full, record.model):
        if name in names:
            return name
    bare = record.model.rsplit("/", 1)[-1]
    return next((name for name in names if name.rsplit("/", 1)[-1] == bare), full)


def outcome(record: TraceRecord, value: float, router: Router, candidates: Sequence[Any]) -> Outcome | None:
    """What a judged answer says about a model in a cluster; None where it says nothing.

    The figures with which a routed request was decided stand in its trace. A model that was called by its name (a
    replay, an alias) is appraised now. Answers decided by another version of the router do not count: what was learned
    from them is in the labels of this one, or does not hold for its clusters.
    """
    from opentracy.routing.learn import Outcome

    if record.outcome != "ok" or not record.model or not 0 <= value <= 1:
        return None
    if record.route_candidates and record.cluster_id is not None:
        if record.router_version != router.version:
            return None
        model = spelled(record, record.route_candidates)
        row = record.route_candidates.get(model)
        expected = row.get("quality") if isinstance(row, dict) else None
        if not isinstance(expected, int | float):
            return None
        return Outcome(record.cluster_id, model, value, min(max(float(expected), 0.0), 1.0))
    asked = prompt_and_system(record)
    if asked is None or not candidates:
        return None
    decision = router.decide(asked[0], system=asked[1], candidates=candidates)
    model = spelled(record, [s.model for s in decision.scores])
    quality = next((s.quality for s in decision.scores if s.model == model), None)
    return None if quality is None else Outcome(decision.cluster_id, model, value, quality)
