"""What the dashboard shows of single traces beyond the record: the cost taken apart, feedback, why a text is missing.

Also the export of a filter in every format, and the line about the store's health. Belongs here: putting together what
the trace library and the price table know. Not here: how they know it.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from opentracy.core.pricing import cost_with, price_of, table_info
from opentracy.traces import Filters, QueryError, Reader, TraceRecord
from opentracy.traces import export as exports
from opentracy.traces.feedback import of_trace
from opentracy.traces.ids import normalise_id
from opentracy.traces.model import to_dict

from .errors import Refused
from .questions import LONG
from .routes import json_response
from .traces import filters_of, off_loop, reader_of

if TYPE_CHECKING:
    from .app import Engine

_MEDIA = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "finetune": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
_CHUNK = 1 << 18


async def one(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/traces/{id}`."""
    reader = reader_of(engine)
    try:
        trace_id = normalise_id(request.path_params["trace_id"])
    except ValueError as e:
        raise Refused(400, str(e), param="trace_id") from None
    await engine.traces.current()

    def look() -> tuple[TraceRecord | None, list[Any]]:
        record = reader.get(trace_id)
        return record, [] if record is None else of_trace(reader.store.reader(), trace_id)

    record, feedback = await off_loop(look)
    if record is None:
        raise Refused(404, f"There is no trace {trace_id}", code="trace_not_found")
    return json_response(
        {
            "trace": to_dict(record),
            "cost": cost_parts(record),
            "feedback": [msgspec.structs.asdict(item) for item in feedback],
            "body_note": _body_note(record, engine.state.config.traces.bodies_days),
        }
    )


def cost_parts(record: TraceRecord) -> dict[str, Any] | None:
    """The cost at the price table's rates, part by part; None where price or usage is not known."""
    price = price_of(record.provider, record.model)
    if price is None or record.tokens_in is None or record.tokens_out is None:
        return None
    details: dict[str, Any] = {}
    if record.tokens_cached:
        details["cached_tokens"] = record.tokens_cached
    if record.tokens_cache_write:
        details["cache_creation_tokens"] = record.tokens_cache_write
    usage: dict[str, Any] = {
        "prompt_tokens": record.tokens_in,
        "completion_tokens": record.tokens_out,
        "total_tokens": record.tokens_in + record.tokens_out,
    }
    if details:
        usage["prompt_tokens_details"] = details
    cost = cost_with(price, usage, record.ts_ms / 1000)
    if cost is None or (record.cost_nano is None and record.outcome == "ok"):
        return None  # unknown, so on other terms than the table's: a tier or a fee of its own
    rates = price.rates_for(record.tokens_in, record.ts_ms / 1000)
    fresh = record.tokens_in - (record.tokens_cached or 0) - (record.tokens_cache_write or 0)
    cached_rate = rates.cached_read if rates.cached_read is not None else rates.input
    write_rate = rates.cache_write if rates.cache_write is not None else rates.input
    lines = (
        ("Input", fresh, rates.input, cost.input),
        ("Read from cache", record.tokens_cached or 0, cached_rate, cost.cached_read),
        ("Written to cache", record.tokens_cache_write or 0, write_rate, cost.cache_write),
        ("Output", record.tokens_out, rates.output, cost.output),
    )
    parts = [
        {"name": name, "tokens": tokens, "usd_per_million": None if rate is None else rate / 1e6, "nano": nano}
        for name, tokens, rate, nano in lines
        if tokens or name in ("Input", "Output")
    ]
    if cost.fees:
        parts.append({"name": "Per request", "tokens": 0, "usd_per_million": None, "nano": cost.fees})
    info = table_info()
    return {"parts": parts, "total_nano": cost.total, "source": price.source or info.source, "updated": info.date}


def _body_note(record: TraceRecord, days: float | None) -> str | None:
    """Why there is no text, or not the whole of it."""
    state = record.body_state
    if state == "expired":
        if days is None:
            return "The texts of this trace expired; its figures stay."
        when = time.strftime("%Y-%m-%d", time.gmtime(record.ts_ms / 1000 + days * 86_400))
        return f"The texts expired by retention on {when}; the figures stay."
    if state == "none":
        return "No texts were kept for this request (traces.content, the key, or X-OpenTracy-No-Store)."
    if state == "dropped":
        return "The texts were dropped because the store could not keep up; the figures are complete."
    if state == "redacted":
        return "Personal data and secrets were masked before this was stored."
    return None


async def export(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/export?format=`: exactly what the filter selects."""
    reader, filters = reader_of(engine), filters_of(request, frozenset({"format"}))
    form = request.query_params.get("format", "jsonl")
    if form not in _MEDIA:
        raise Refused(400, f"format must be one of {', '.join(_MEDIA)}", param="format")
    await engine.traces.current()
    ending = "jsonl" if form == "finetune" else form
    name = {"content-disposition": f'attachment; filename="traces-{form}.{ending}"'}
    pieces = _parquet(reader, filters) if form == "parquet" else _lines(reader, filters, form)
    return StreamingResponse(pieces, media_type=_MEDIA[form], headers=name)


async def _lines(reader: Reader, filters: Filters, form: str) -> AsyncIterator[bytes]:
    """The streaming formats, a few hundred records at a time, each batch made on a thread."""
    made = {"jsonl": exports.jsonl, "csv": exports.csv_lines, "finetune": exports.openai_lines}[form]
    source = made(exports.records(reader, filters))
    while piece := await off_loop(partial(_some, source), lane=LONG, begun=True):
        yield piece


def _some(source: Iterator[bytes]) -> bytes:
    """The next quarter of a megabyte; empty at the end."""
    parts: list[bytes] = []
    size = 0
    for part in source:
        parts.append(part)
        size += len(part)
        if size >= _CHUNK:
            break
    return b"".join(parts)


async def _parquet(reader: Reader, filters: Filters) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    folder = Path(await loop.run_in_executor(None, tempfile.mkdtemp))
    try:
        target = folder / "traces.parquet"
        await off_loop(lambda: exports.parquet(exports.records(reader, filters), target), lane=LONG, begun=True)
        with await loop.run_in_executor(None, target.open, "rb") as file:
            while chunk := await loop.run_in_executor(None, file.read, _CHUNK):
                yield chunk
    finally:
        await loop.run_in_executor(None, partial(shutil.rmtree, folder, ignore_errors=True))


async def store(engine: Engine, request: Request) -> Response:
    """`GET /v1/dashboard/store`: how the store is."""
    return json_response(await store_health(engine))


async def store_health(engine: Engine) -> dict[str, Any]:
    """Size, age, queue and losses of the store; `enabled` false without one."""
    writer, reader = engine.traces.writer, engine.traces.reader
    if reader is None:
        return {"enabled": False, "path": None, "problem": None, "bytes": 0, "free_bytes": 0, "traces": 0,
                "oldest_ms": None, "newest_ms": None, "queue": 0, "written": 0, "dropped": 0,
                "bodies_dropped": 0}  # fmt: skip

    def look() -> dict[str, Any]:
        connection = reader.current()
        # the ends by the index, the number by the blocks: a count over the rows would read them all
        rows = connection.execute("SELECT ifnull(sum(rows), 0) FROM blocks").fetchone()[0]
        oldest, newest = connection.execute("SELECT min(ts_ms), max(ts_ms) FROM traces").fetchone()
        path = reader.store.path
        sides = [path, path.with_name(path.name + "-wal")]
        size = sum(p.stat().st_size for p in sides if p.exists())
        return {"enabled": True, "path": str(path), "bytes": size, "free_bytes": shutil.disk_usage(path.parent).free,
                "traces": rows, "oldest_ms": oldest, "newest_ms": newest}  # fmt: skip

    try:
        found = await off_loop(look)
    except (OSError, QueryError, sqlite3.Error) as e:
        found = {"enabled": True, "problem": str(e)}
    counters = writer.counters if writer is not None else None
    found.setdefault("problem", engine.traces.degraded)
    found["queue"] = counters.queue_rows if counters else 0
    found["written"] = counters.committed if counters else 0
    found["dropped"] = sum(counters.dropped.values()) if counters else 0
    found["bodies_dropped"] = counters.bodies_shed if counters else 0
    return found
