"""Datasets over HTTP: list, make from a filter, add rows, look at them, export.

Belongs here: JSON in and out. Not here: files and versions (`datasets`), evaluations (`dashboard_evaluations`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from opentracy.traces.filters import parse

from .dashboard_audit import data_home, note
from .datasets import FORMS, MAX_ROWS, Datasets, Version, examples, selected
from .errors import Refused
from .makings import Making, Makings
from .questions import LONG, SHORT, Lane
from .routes import json_body, json_response
from .traces import off_loop, reader_of

if TYPE_CHECKING:
    from .app import Engine

log = logging.getLogger("opentracy.engine")
AT_ONCE_S = 0.5  # that whoever asks waits for a data set
_MAKING: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly
_PAGE = 200
_SHOWN = 100  # versions of a dataset that a list names, the last ones


def of(engine: Engine) -> Datasets:
    """The datasets of this engine; Refused 404 where it has no data directory."""
    home = data_home(engine)
    if home is None:
        raise Refused(404, "Datasets are kept beside the traces, and traces are off (traces.enabled)")
    return Datasets(home)


async def listing(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/datasets`."""
    sets = of(engine)

    def work() -> list[dict[str, Any]]:
        return [{"name": name, "versions": msgspec.to_builtins(sets.versions(name, _SHOWN))} for name in sets.names()]

    return json_response({"datasets": await off_loop(work)})


async def from_traces(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/datasets/{name}` `{q, since, until, limit}`: a new version from what a filter selects.

    201 where it is made at once. What takes longer goes on after a 202 with an `id`, and `making` says how it stands.
    """
    sets, reader, name = of(engine), reader_of(engine), request.path_params["name"]
    body = await json_body(request)
    q, limit = body.get("q", ""), body.get("limit", 500)
    if not isinstance(q, str):
        raise Refused(400, "q must be a query bar's text", param="q")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_ROWS:
        raise Refused(400, f"limit must be a whole number from 1 to {MAX_ROWS}", param="limit")
    since, until = _moment(body, "since"), _moment(body, "until")
    await _refusing(lambda: sets.versions(name, 0))  # before thousands of traces are read for it
    await engine.traces.current()

    def work() -> tuple[int, int, int]:
        filters = parse(q, now_ms=time.time_ns() // 1_000_000).between(since, until)
        rows, skipped = selected(reader, filters, limit)
        made = sets.add(name, rows, q or "every trace")
        return made.version, made.rows, skipped

    task = engine.loop.create_task(_refusing(work, LONG))
    try:
        done, _ = await asyncio.wait({task}, timeout=AT_ONCE_S)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        version, rows, skipped = task.result()
        note(engine, request, "dataset made", f"{name}, version {version}, {rows} rows")
        return json_response({"version": version, "rows": rows, "skipped": skipped}, 201)
    running = Making(engine.new_id())
    await off_loop(partial(_makings(engine).save, running))
    ending = engine.loop.create_task(_end(engine, request, name, running, task))
    _MAKING.add(ending)
    ending.add_done_callback(_MAKING.discard)
    return json_response({"id": running.id, "state": running.state}, 202)


async def _end(engine: Engine, request: Request, name: str, making: Making, task: asyncio.Task[Any]) -> None:
    """Writes down what became of a data set that nobody waited for."""
    try:
        making.version, making.rows, making.skipped = await task
        making.state = "done"
        note(engine, request, "dataset made", f"{name}, version {making.version}, {making.rows} rows")
    except Refused as e:
        making.state, making.problem = "failed", e.message
    except Exception as e:
        log.exception("a data set could not be made")
        making.state, making.problem = "failed", e.__class__.__name__
    await SHORT.ask(partial(_makings(engine).save, making), begun=True)


def _makings(engine: Engine) -> Makings:
    home = data_home(engine)
    assert home is not None  # `of` was asked first
    return Makings(home)


async def making(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/datasets/{name}/making/{making_id}`: `{id, state: running|done|failed, ...}`."""
    of(engine)
    found = await _refusing(partial(_makings(engine).one, request.path_params["making_id"]))
    return json_response(msgspec.to_builtins(found))


async def add_rows(engine: Engine, request: Request) -> Response:
    """`POST /v1/dashboard/datasets/{name}/rows` `{rows}`: a new version with these rows after those of the last."""
    sets, name = of(engine), request.path_params["name"]
    body = await json_body(request)
    try:
        fresh = examples(body.get("rows"))
    except ValueError as e:
        raise Refused(400, str(e), param="rows") from None

    def work() -> tuple[int, int]:
        made = sets.extend(name, fresh, "playground")
        return made.version, made.rows

    version, rows = await _refusing(work)
    return json_response({"version": version, "rows": rows}, 201)


async def rows(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/datasets/{name}/rows?version=&limit=`."""
    sets, name = of(engine), request.path_params["name"]
    limit = min(_whole(request, "limit", 50), _PAGE)

    def work() -> tuple[list[Any], int]:
        version = _version(sets, name, request)
        found = [msgspec.to_builtins(row) for row in islice(sets.rows(name, version.version), limit)]
        return [{"answer": None, **row} for row in found], version.rows

    found, total = await _refusing(work)
    return json_response({"rows": found, "total": total})


async def export_rows(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/datasets/{name}/export?version=&format=jsonl|finetune`."""
    sets, name = of(engine), request.path_params["name"]
    form = request.query_params.get("format", "jsonl")
    if form not in FORMS:
        raise Refused(400, "format must be jsonl or finetune", param="format")

    def work() -> tuple[bytes, int]:
        version = _version(sets, name, request)
        return b"".join(sets.lines(name, version.version, form)), version.version

    content, number = await _refusing(work)
    attachment = {"content-disposition": f'attachment; filename="{name}-{number}-{form}.jsonl"'}
    return Response(content, 200, attachment, "application/x-ndjson")


def _version(sets: Datasets, name: str, request: Request) -> Version:
    number = _whole(request, "version", -1)
    return sets.version(name, None if number < 0 else number)


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refused(400, f"{name} must be a whole number", param=name)
    return int(text)


def _moment(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, f"{name} must be epoch milliseconds", param=name)
    return round(value)


async def _refusing(work: Any, lane: Lane = SHORT) -> Any:
    """Runs it on a thread; what does not exist is a 404, what makes no sense a 400."""
    try:
        return await off_loop(work, lane=lane)
    except KeyError as e:
        raise Refused(404, str(e.args[0]), code="not_found") from None
    except ValueError as e:
        raise Refused(400, str(e)) from None
