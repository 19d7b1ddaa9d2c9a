"""`POST /v1/feedback`: what people or programs thought of an answer, tied to its trace."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from opentracy.traces import feedback as statements
from opentracy.traces.ids import id_time_ms, normalise_id

from .errors import Refused
from .routes import json_body, json_response
from .traces import off_loop, reader_of

if TYPE_CHECKING:
    from .app import Engine


_WAITS = (0.1, 0.3, 0.6, 1.0)  # seconds
_NEW_MS = 10_000


def _is_new(trace_id: str) -> bool:
    """Whether a trace was begun so lately that it may not have been committed yet."""
    begun = id_time_ms(trace_id)
    return begun is not None and abs(time.time_ns() // 1_000_000 - begun) < _NEW_MS


async def add(engine: Engine, request: Request) -> Response:
    """One statement `{trace_id, metric, value}`; acknowledged once it is committed."""
    reader = reader_of(engine)
    body = await json_body(request)
    metric, value = body.get("metric"), body.get("value")
    try:
        trace_id = normalise_id(str(body.get("trace_id") or ""))
    except ValueError as e:
        raise Refused(400, str(e), param="trace_id") from None
    if not isinstance(metric, str) or not metric.strip() or len(metric) > 100:
        raise Refused(400, "metric must be a name of 1 to 100 characters", param="metric")
    if not isinstance(value, bool | int | float | str):
        raise Refused(400, "value must be true or false, a number, or a text", param="value")
    identity = request.state.identity
    redact = engine.traces.redact
    kept = (identity.virtual is not None and identity.virtual.content) or redact.content
    if isinstance(value, str) and kept != "all":
        # what people write about an answer quotes it
        value = redact.text(value)
    await engine.traces.current()

    def work() -> statements.Feedback | None:
        if reader.find(trace_id) is None:
            return None
        connection, now = reader.store.reader(), time.time_ns() // 1_000_000
        return statements.add(connection, trace_id, metric, value, author=identity.key_id, now_ms=now)

    made = await off_loop(work)
    for wait in _WAITS if _is_new(trace_id) else ():
        if made is None:
            # the answer may have come from another worker, which commits its traces a moment later
            await asyncio.sleep(wait)
            made = await off_loop(work)
    if made is None:
        raise Refused(404, f"There is no trace {trace_id}", code="trace_not_found")
    engine.learning.nudge()
    return json_response({"object": "feedback", **msgspec.structs.asdict(made)}, 201)
