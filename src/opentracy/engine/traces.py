"""Reading traces over HTTP: lists, single ones, sums, facets, export, live tail; and taking in those of others.

Belongs here: query parameters in, JSON out, and never a blocking query on the event loop. Not here: the queries
(`opentracy.traces`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from opentracy.core.jsonio import encode
from opentracy.traces import Filters, QueryError, Reader, TraceRecord, TraceRow, TraceStoreError
from opentracy.traces.compile import Query
from opentracy.traces.export import FORMATS, Imported, add_records, lines_of, parquet, parse_trace, records
from opentracy.traces.filters import from_params
from opentracy.traces.foreign import unfolded
from opentracy.traces.ids import normalise_id
from opentracy.traces.model import to_dict
from opentracy.traces.retention import remove
from opentracy.traces.stats import answer, facets, series

from .errors import Refused
from .questions import LONG, SHORT, Lane
from .routes import json_body, json_response

if TYPE_CHECKING:
    from .app import Engine

log = logging.getLogger("opentracy.engine")
T = TypeVar("T")
MAX_LIMIT = 1000
MAX_IMPORT = 10_000
TAIL_S = 0.5
_PAGING = frozenset({"limit", "cursor", "order"})
_SUMMING = frozenset({"metric", "metrics", "group_by", "bucket", "limit", "from"})
_FACETS = ("status", "model", "provider", "key", "cluster", "tag", "stream")


def reader_of(engine: Engine) -> Reader:
    """The store's reader; Refused 404 where traces are off."""
    reader = engine.traces.reader
    if reader is None:
        raise Refused(404, "Traces are off in this engine's configuration (traces.enabled)")
    return reader


async def off_loop(work: Callable[[], T], *, lane: Lane = SHORT, begun: bool = False) -> T:
    """Runs a question on a thread of a lane (see `questions`); what is wrong with the question becomes a 400."""
    try:
        return await lane.ask(work, begun=begun)
    except QueryError as e:
        raise Refused(400, str(e), code="invalid_query") from None


async def together(engine: Engine, request: Request, work: Callable[[], T]) -> T:
    """A report, made once for all who ask the same at the same time: it reads thousands of traces."""
    running = engine.reports
    asked = sorted((k, v) for k, v in request.query_params.multi_items() if k not in _PAGING)  # a report has no pages
    key = request.url.path, repr(asked)
    task = running.get(key)
    if task is None:
        task = running[key] = asyncio.ensure_future(off_loop(work, lane=LONG))
        task.add_done_callback(lambda done: (running.pop(key, None), done.cancelled() or done.exception()))
    return cast(T, await asyncio.shield(task))


def filters_of(request: Request, skip: frozenset[str] = _PAGING) -> Filters:
    """The filters in a URL's query; Refused 400 for a name that means nothing."""
    pairs = [(k, v) for k, v in request.query_params.multi_items() if k not in skip]
    try:
        return from_params(pairs, now_ms=time.time_ns() // 1_000_000)
    except QueryError as e:
        raise Refused(400, str(e), code="invalid_query") from None


def limit_of(request: Request, default: int = 50) -> int:
    """`limit`, capped; Refused 400 when it is no positive number."""
    text = request.query_params.get("limit", str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
        raise Refused(400, "limit must be a positive whole number", param="limit")
    return min(int(text), MAX_LIMIT)


async def listing(engine: Engine, request: Request) -> Response:
    """`GET /v1/traces`: a page, newest first."""
    reader, filters, limit = reader_of(engine), filters_of(request), limit_of(request)
    cursor = request.query_params.get("cursor")
    await engine.traces.current()
    behind, page = await off_loop(lambda: (_behind(reader), reader.page(filters, limit=limit, cursor=cursor)))
    data = [row(r) for r in page.rows]
    rest = {"next": page.next, "has_more": page.next is not None}
    return json_response({"object": "list", "data": data, **rest, **behind})


def _behind(reader: Reader) -> dict[str, int]:
    """`behind`: traces that are committed and may not be in the answer to come; nothing where there are none."""
    reader.current()
    behind = reader.behind()
    return {"behind": behind} if behind else {}


def row(r: TraceRow) -> dict[str, Any]:
    """A line of the list, with the cost in USD beside nano-USD."""
    plain = msgspec.structs.asdict(r)
    plain["cost_usd"] = None if r.cost_nano is None else r.cost_nano / 1e9
    return plain


async def one(engine: Engine, request: Request) -> Response:
    """`GET /v1/traces/{id}`: everything about one request."""
    reader, trace_id = reader_of(engine), _trace_id(request)
    await engine.traces.current()
    record = await off_loop(lambda: reader.get(trace_id))
    if record is None:
        raise Refused(404, f"There is no trace {trace_id}", code="trace_not_found")
    return json_response(to_dict(record))


async def forget(engine: Engine, request: Request) -> Response:
    """`DELETE /v1/traces/{id}`: gone for good, with its texts and what was said of it; hourly sums keep the money."""
    reader, trace_id = reader_of(engine), _trace_id(request)
    await engine.traces.current()

    def work() -> int:
        with contextlib.closing(reader.store.connect(durable=True, timeout=1.0)) as connection:
            return remove(reader, connection, [trace_id])

    if not await off_loop(work):
        raise Refused(404, f"There is no trace {trace_id}", code="trace_not_found")
    return json_response({"object": "trace.deleted", "trace_id": trace_id, "deleted": True})


def _trace_id(request: Request) -> str:
    try:
        return normalise_id(request.path_params["trace_id"])
    except ValueError as e:
        raise Refused(400, str(e), param="trace_id") from None


async def stats(engine: Engine, request: Request) -> Response:
    """`GET /v1/stats`: sums, by whatever is asked for."""
    reader, filters, params = reader_of(engine), filters_of(request, _SUMMING), request.query_params
    metrics = _names(params.getlist("metric") + params.getlist("metrics")) or (
        "requests", "errors", "cost", "tokens_in", "tokens_out", "p50", "p95",
    )  # fmt: skip
    bucket = params.get("bucket")
    if bucket is not None and not (bucket.isdigit() and len(bucket) < 16):
        raise Refused(400, "bucket must be a number of milliseconds", param="bucket")
    limit = limit_of(request) if "limit" in params else None

    def query() -> Query:
        groups = tuple(_names(params.getlist("group_by")))
        return Query(metrics, groups, int(bucket) if bucket is not None else None, filters, limit)

    remote = engine.traces.outlets.remote if engine.traces.outlets is not None else None
    if remote is not None and params.get("from") != "local":
        try:
            return json_response({"object": "list", "data": await off_loop(lambda: remote.answer(query()))})
        except TraceStoreError as e:
            text = f"{e}; from=local asks this engine's own traces"
            raise Refused(503, text, code="clickhouse_unavailable", headers={"retry-after": "10"}) from None
    await engine.traces.current()
    # tens of thousands of lines are not written on the event loop
    data = await off_loop(lambda: encode({"object": "list", **_behind(reader), "data": answer(reader, query())}))
    return Response(data, 200, None, "application/json")


def _names(given: list[str]) -> tuple[str, ...]:
    return tuple(name.strip() for part in given for name in part.split(",") if name.strip())


async def facet_counts(engine: Engine, request: Request) -> Response:
    """`GET /v1/traces/facets`: what the filters could be narrowed to, with counts; and a histogram over time."""
    reader, filters = reader_of(engine), filters_of(request, frozenset({"field", "buckets"}))
    fields = _names(request.query_params.getlist("field")) or _FACETS
    await engine.traces.current()
    found = await off_loop(lambda: facets(reader, filters, fields))
    histogram = await off_loop(lambda: series(reader, filters))
    return json_response({"facets": found, "histogram": histogram})


async def tail(engine: Engine, request: Request) -> Response:
    """`GET /v1/traces/tail`: new traces as server-sent events, whichever worker served them."""
    reader, filters = reader_of(engine), filters_of(request)
    _, newest = await off_loop(lambda: reader.tail(None))

    async def events() -> AsyncIterator[bytes]:
        after, quiet = newest, 0.0
        yield b": tail\n\n"
        while not engine.server.draining:
            rows, after = await off_loop(partial(reader.tail, after, filters), begun=True)
            for r in rows:
                yield b"id: %d\ndata: %b\n\n" % (r.seq, encode(row(r)))
            quiet = 0.0 if rows else quiet + TAIL_S
            if quiet >= 15:
                quiet = 0.0
                yield b": keepalive\n\n"
            await asyncio.sleep(TAIL_S)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def export(engine: Engine, request: Request) -> Response:
    """`GET /v1/traces/export`: every trace that matches, in one of the formats; `bodies=false` without the texts."""
    reader, filters = reader_of(engine), filters_of(request, _PAGING | {"format", "bodies"})
    kind = request.query_params.get("format", "jsonl")
    if kind not in _MEDIA:
        raise Refused(400, f"format must be one of {', '.join(_MEDIA)}", param="format")
    with_bodies = request.query_params.get("bodies", "true").lower() not in ("0", "false", "no")
    await engine.traces.current()
    media, suffix = _MEDIA[kind]
    name = {"content-disposition": f'attachment; filename="traces.{suffix}"'}
    found = records(reader, filters, bodies=with_bodies)
    pieces = _parquet(found) if kind == "parquet" else lines_of(kind, found)
    return StreamingResponse(_gathered(pieces), media_type=media, headers=name)


_LINES = ("application/x-ndjson", "jsonl")
#: content type and end of the file's name of each format; those that are not named are JSON lines
_MEDIA = dict.fromkeys(FORMATS, _LINES) | {
    "csv": ("text/csv; charset=utf-8", "csv"),
    "parquet": ("application/vnd.apache.parquet", "parquet"),
}


async def _gathered(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Some pieces at a time, made on a thread."""

    def some() -> bytes:
        out = bytearray()
        for piece in pieces:
            out += piece
            if len(out) >= 65_536:
                break
        return bytes(out)

    while data := await off_loop(some, lane=LONG, begun=True):
        yield data


def _parquet(found: Iterator[TraceRecord]) -> Iterator[bytes]:
    """A file of its own, since the format is written from its end."""
    with tempfile.TemporaryDirectory(prefix="opentracy-export-") as place:
        target = Path(place) / "traces.parquet"
        parquet(found, target)
        with target.open("rb") as file:
            while data := file.read(1 << 20):
                yield data


async def take(engine: Engine, request: Request) -> Response:
    """`POST /v1/traces`: traces made elsewhere, one, a list, or OTLP/JSON; acknowledged once they are committed.

    Those whose id is known are left alone, so a request may be repeated.
    """
    from . import otlp

    reader_of(engine)
    body = await json_body(request)
    if "resourceSpans" in body:
        return otlp.answer(await otlp.spans(engine, body), binary=False)
    given = body.get("traces", [body])
    if not isinstance(given, list) or not given or len(given) > MAX_IMPORT:
        raise Refused(400, f"traces must be a list of 1 to {MAX_IMPORT}", param="traces")
    found = []
    for number, item in enumerate(unfolded(given)):
        try:
            found.append(parse_trace(item))
        except ValueError as e:
            raise Refused(400, f"traces[{number}]: {e}", param=f"traces[{number}]") from None
    ids = [r.trace_id for r in found]
    done = await commit(engine, found)
    return json_response({"object": "list", "data": [{"trace_id": i} for i in ids], "known": done.known}, 201)


async def commit(engine: Engine, records: list[TraceRecord]) -> Imported:
    """Returns once the records are on disk, redacted like all others."""
    store, redact = engine.traces.store, engine.traces.redact
    assert store is not None
    await engine.traces.current()
    try:
        return await off_loop(lambda: add_records(store, records, before_write=redact))
    except (TraceStoreError, sqlite3.Error, OSError) as e:
        log.warning("traces from outside could not be committed: %s", e)
        raise Refused(
            503, "The traces could not be committed", code="store_unavailable", headers={"retry-after": "1"}
        ) from None
