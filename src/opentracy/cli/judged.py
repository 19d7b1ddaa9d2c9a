"""Judged traces -> labels for `opentracy routing learn`.

Belongs here: which statements count as a judgement, and joining them with the prompts of their traces. Not here: the
store's layout (opentracy.traces), what is learned from the labels (opentracy.routing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentracy.routing import Labels
    from opentracy.traces import Reader, TraceRecord

# the last word of each author on each trace
_JUDGED = (
    "SELECT trace_id, avg(value) FROM feedback WHERE kind IN ('bool', 'float') AND metric = ? AND ts_ms >= ? "
    "AND id IN (SELECT max(id) FROM feedback GROUP BY trace_id, metric, author) GROUP BY trace_id ORDER BY trace_id"
)


def judged_labels(reader: Reader, metric: str, since_ms: int, known: Sequence[str]) -> Labels:
    """One row per prompt and one column per model, from statements on `metric` (true, false, or 0 to 1).

    known: models of the router, for their spelling. Raises ValueError for a value outside 0 to 1, and when no
    judged trace still has its text.
    """
    import numpy as np

    from opentracy.routing import Labels

    found: dict[str, dict[str, list[float]]] = {}
    total = 0
    for trace_id, value in reader.current().execute(_JUDGED, (metric, since_ms)).fetchall():
        total += 1
        if not 0 <= value <= 1:
            raise ValueError(f"trace {trace_id}: {metric} is {value:g}, a judgement must lie between 0 and 1")
        record = reader.get(trace_id)
        for prompt, model in _asked(record, known):
            found.setdefault(prompt, {}).setdefault(model, []).append(value)
    if not found:
        raise ValueError(
            f"{total} traces are judged on {metric!r}, none of them a chat answer whose text is kept; "
            "judge answers with POST /v1/feedback, or name another metric with --metric"
        )
    models = tuple(sorted({m for row in found.values() for m in row}))
    prompts = tuple(sorted(found))
    scores = np.array([[np.mean(found[p][m]) if m in found[p] else np.nan for m in models] for p in prompts])
    return Labels(prompts, models, scores)


def _asked(record: TraceRecord | None, known: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(prompt, model) of an answered chat request; nothing where the text is gone or no model answered."""
    if record is None or record.outcome != "ok" or not record.model or record.request is None:
        return
    from opentracy.engine.judgements import prompt_and_system, spelled

    asked = prompt_and_system(record)
    if asked is not None:
        yield asked[0], spelled(record, known)
