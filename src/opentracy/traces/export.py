"""Export of exactly what a filter selects: JSONL, CSV, Parquet, and OpenAI's fine-tuning form; and import of JSONL.

Belongs here: the formats. Exports stream: memory does not grow with the number of rows.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from .codec import MAX_ROWS, encode_block
from .errors import QueryError, StoreUnavailable
from .filters import EVERYTHING, Filters
from .foreign import translated, unfolded
from .ids import new_trace_id, normalise_id
from .mend import encodes, mended, storable
from .model import TraceRecord, from_dict, to_dict
from .reader import Reader, TraceRow
from .sqlite import Store
from .writer import insert_block

FORMATS: Final = ("jsonl", "csv", "parquet", "openai")
_PAGE: Final = 500
#: how an answer ends that was not cut off or filtered
FINISHED: Final = ("stop", "tool_calls")
#: records that are taken in at a time, as one block
PORTION: Final = MAX_ROWS // 2
#: rows are made of an import whenever so many came in
_SHOW_ROWS: Final = 8 * PORTION
#: a cell that begins so is a formula to a spreadsheet
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def rows(reader: Reader, filters: Filters = EVERYTHING, *, limit: int | None = None) -> Iterator[TraceRow]:
    """All rows that match, newest first, a page at a time."""
    cursor: str | None = None
    given = 0
    while True:
        size = _PAGE if limit is None else min(_PAGE, limit - given)
        if size <= 0:
            return
        page = reader.page(filters, limit=size, cursor=cursor)
        yield from page.rows
        given += len(page.rows)
        cursor = page.next
        if cursor is None:
            return


def records(
    reader: Reader, filters: Filters = EVERYTHING, *, limit: int | None = None, bodies: bool = True
) -> Iterator[TraceRecord]:
    """All whole records that match, newest first, with their texts unless `bodies` is False."""
    batch: list[int] = []
    for row in rows(reader, filters, limit=limit):
        batch.append(row.seq)
        if len(batch) == _PAGE:
            yield from _loaded(reader, batch, bodies=bodies)
            batch = []
    yield from _loaded(reader, batch, bodies=bodies)


def _loaded(reader: Reader, seqs: list[int], *, bodies: bool = True) -> Iterator[TraceRecord]:
    return (record for record in reader.load(seqs, bodies=bodies) if record is not None)


def jsonl(found: Iterable[TraceRecord]) -> Iterator[bytes]:
    """One object per line, every field, as `model.to_dict` gives it; `import_lines` reads it."""
    for record in found:
        yield msgspec.json.encode(to_dict(record)) + b"\n"


CSV_COLUMNS: Final = (
    "trace_id", "ts_ms", "outcome", "http_status", "model", "provider", "requested_model", "alias", "project", "key_id",
    "user_id", "session_id", "tags", "cluster_id", "stream", "cache_hit", "has_tools", "fallback_from", "attempts",
    "latency_ms", "ttft_ms", "tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write", "tokens_reasoning",
    "cost_nano", "cost_usd", "cost_source", "error_type", "error_code", "error_msg", "finish_reason", "metadata",
    "request", "response", "operation", "parent_id", "cluster_label", "route_policy", "route_score",
    "route_candidates", "counterfactual_nano", "router_version", "fallback_reason", "config_hash", "attempts_detail",
    "queue_ms", "routing_ms", "embedding_ms", "cost_in_nano", "cost_out_nano", "cost_estimated", "region",
    "sdk_version", "engine_version", "body_state",
)  # fmt: skip
# nothing that is known about a trace is left out
assert set(TraceRecord.__struct_fields__) - {"content"} <= set(CSV_COLUMNS)


def _flat(record: TraceRecord) -> dict[str, Any]:
    """The columns of a record: the number of attempts beside what they were."""
    row = to_dict(record)
    return {**row, "attempts": len(record.attempts), "attempts_detail": row["attempts"]}


def csv_lines(found: Iterable[TraceRecord], *, header: bool = True) -> Iterator[bytes]:
    """A header and one line per record; text that a spreadsheet would run as a formula begins with an apostrophe."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\r\n").writerow
    if header:
        write(CSV_COLUMNS)
    for record in found:
        row = _flat(record)
        write([cell(row[name]) for name in CSV_COLUMNS])
        if out.tell() > 65_536:
            yield out.getvalue().encode()
            out.seek(0)
            out.truncate()
    yield out.getvalue().encode()


def cell(value: Any) -> Any:
    """A value as a cell of CSV: lists and objects as JSON, formulas made harmless."""
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


def openai_lines(found: Iterable[TraceRecord]) -> Iterator[bytes]:
    """OpenAI's fine-tuning form: `{"messages": [..., the answer], "tools": ...}`; only whole, successful chats."""
    for record in found:
        example = fine_tuning_example(record)
        if example is not None:
            yield msgspec.json.encode(example) + b"\n"


def fine_tuning_example(record: TraceRecord) -> dict[str, Any] | None:
    """The training example of a record; None when its text is missing, cut, masked or not a chat."""
    if record.outcome != "ok" or record.body_state != "full" or record.finish_reason not in FINISHED:
        return None
    request, answer = _json(record.request), _json(record.response)
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list) or not request["messages"]:
        return None
    message = _answer(answer, record.response)
    if message is None:
        return None
    example: dict[str, Any] = {"messages": [*request["messages"], message]}
    for name in ("tools", "parallel_tool_calls"):
        if name in request:
            example[name] = request[name]
    return example


def _answer(answer: Any, raw: bytes | None) -> dict[str, Any] | None:
    """The assistant's message of a response: a completion, a message, or the plain text of a folded stream."""
    if isinstance(answer, dict):
        try:
            answer = answer["choices"][0]["message"] if "choices" in answer else answer
        except (LookupError, TypeError):
            return None
        if not isinstance(answer, dict):
            return None
        kept = {name: answer[name] for name in ("content", "tool_calls") if answer.get(name) is not None}
        return {"role": "assistant", **kept} if kept else None
    text = answer if isinstance(answer, str) else None if raw is None else raw.decode("utf-8", "replace")
    return {"role": "assistant", "content": text} if text else None


def _json(body: bytes | None) -> Any:
    if body is None:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def parquet(found: Iterable[TraceRecord], target: Path) -> int:
    """Writes a Parquet file with the columns of the CSV (tags as a list); returns the number of rows. Needs duckdb."""
    from . import segments

    if not segments.available():
        raise StoreUnavailable("Parquet needs duckdb: pip install 'opentracy[engine]'")
    kinds = dict.fromkeys(CSV_COLUMNS, "VARCHAR")
    kinds |= dict.fromkeys(
        ("ts_ms", "http_status", "cluster_id", "attempts", "tokens_in", "tokens_out", "tokens_cached",
         "tokens_cache_write", "tokens_reasoning", "cost_nano", "counterfactual_nano", "cost_in_nano",
         "cost_out_nano"), "BIGINT",
    )  # fmt: skip
    times = ("latency_ms", "ttft_ms", "queue_ms", "routing_ms", "embedding_ms")
    kinds |= dict.fromkeys((*times, "cost_usd", "route_score"), "DOUBLE")
    kinds |= dict.fromkeys(("stream", "cache_hit", "has_tools", "cost_estimated"), "BOOLEAN") | {"tags": "VARCHAR[]"}
    lines = target.with_name(target.name + ".lines")
    count = 0
    try:
        with lines.open("wb") as out:
            for record in found:
                row = _flat(record)
                for name in ("metadata", "route_candidates", "attempts_detail"):
                    row[name] = None if row[name] is None else json.dumps(row[name], ensure_ascii=False)
                out.write(msgspec.json.encode({name: row[name] for name in CSV_COLUMNS}) + b"\n")
                count += 1
        segments.lines_to_parquet(lines, target, kinds)
    finally:
        lines.unlink(missing_ok=True)
    return count


def write(
    reader: Reader,
    filters: Filters,
    form: str,
    target: Path,
    *,
    asked: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Exports to a file that appears only once it is whole; returns the number of rows written.

    `asked` is what was asked for, in words: an export of the same words that was interrupted is gone on with (but for
    Parquet). `progress` is told of each page's rows. Raises QueryError for an unknown format.
    """
    if form not in FORMATS:
        raise QueryError(f"Unknown format {form!r}: {', '.join(FORMATS)}")
    if form == "parquet":
        return parquet(_told(records(reader, filters), progress), target)
    part, note = target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")
    at = _interrupted(part, note, f"{form} {asked}") if asked is not None else None
    if at is None:
        at = _Mark(f"{form} {asked}", msgspec.json.encode(filters).decode())
    else:
        filters = msgspec.json.decode(at.filters, type=Filters)
    with part.open("r+b" if at.size else "wb") as out:
        out.truncate(at.size)
        out.seek(at.size)
        while not at.done:
            page = reader.page(filters, limit=_PAGE, cursor=at.cursor)
            found = _loaded(reader, [row.seq for row in page.rows])
            for piece in csv_lines(found, header=not at.size) if form == "csv" else lines_of(form, found):
                out.write(piece)
            out.flush()
            at = replace(at, cursor=page.next, size=out.tell(), rows=at.rows + len(page.rows), done=page.next is None)
            if asked is not None:
                note.write_bytes(msgspec.json.encode(at))
            if progress is not None:
                progress(len(page.rows))
    part.replace(target)
    note.unlink(missing_ok=True)
    return at.rows


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far an export is: the words it was asked in, the filters they meant then, cursor, bytes and rows."""

    asked: str
    filters: str
    cursor: str | None = None
    size: int = 0
    rows: int = 0
    done: bool = False


def _interrupted(part: Path, note: Path, asked: str) -> _Mark | None:
    """Where an export of the same words stopped; None when there was none, or its file is shorter than noted."""
    try:
        mark = msgspec.json.decode(note.read_bytes(), type=_Mark)
        return mark if mark.asked == asked and part.stat().st_size >= mark.size > 0 else None
    except (OSError, msgspec.DecodeError):
        return None


def _told(found: Iterable[TraceRecord], progress: Callable[[int], object] | None) -> Iterator[TraceRecord]:
    for record in found:
        yield record
        if progress is not None:
            progress(1)


def lines_of(form: str, found: Iterable[TraceRecord]) -> Iterator[bytes]:
    """The bytes of a streaming format. Raises QueryError for one that is not."""
    makers: dict[str, Callable[[Iterable[TraceRecord]], Iterator[bytes]]] = {
        "jsonl": jsonl,
        "csv": csv_lines,
        "openai": openai_lines,
    }
    maker = makers.get(form)
    if maker is None:
        raise QueryError(f"Format {form!r} cannot be streamed: {', '.join(makers)}")
    return maker(found)


@dataclass(slots=True)
class Imported:
    """What an import did: rows taken in, rows that were there already, and complaints by line number."""

    added: int = 0
    known: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)


def import_lines(
    store: Store,
    lines: Iterable[bytes | str],
    *,
    before_write: Callable[[TraceRecord], None] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Imported:
    """Takes in JSON lines of `jsonl`'s form or of `foreign`'s; a line may be a list of them.

    Traces with a known id are left alone, so it may be repeated.

    A line that is no trace is noted in `errors`; the others are taken in.
    """
    result = Imported()
    reader = Reader(store)
    shown = 0
    for read, batch in batches(lines, result.errors):
        _take_in(store, reader, batch, result, before_write)
        if result.added - shown >= _SHOW_ROWS:
            # otherwise whoever asks first would wait for all of it
            reader.current()
            shown = result.added
        if progress is not None:
            progress(read)
    return result


def batches(lines: Iterable[bytes | str], errors: list[tuple[int, str]]) -> Iterator[tuple[int, list[TraceRecord]]]:
    """The records of lines in portions of one block, each with the number of lines done with it; complaints go to
    `errors`."""
    waiting: list[TraceRecord] = []
    number = told = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            waiting += [parse_trace(one) for one in unfolded(msgspec.json.decode(line))]
        except (ValueError, UnicodeDecodeError) as error:
            errors.append((number, str(error)))
            continue
        # a single line may be a list of more than a block takes
        while len(waiting) >= PORTION:
            yield number - told, waiting[:PORTION]
            waiting, told = waiting[PORTION:], number
    yield number - told, waiting


def add_records(
    store: Store, found: Iterable[TraceRecord], *, before_write: Callable[[TraceRecord], None] | None = None
) -> Imported:
    """Commits records before it returns; those whose id is known are left alone."""
    result = Imported()
    batch = list(found)
    for at in range(0, len(batch), PORTION):
        _take_in(store, Reader(store), batch[at : at + PORTION], result, before_write)
    return result


def parse_trace(value: Any) -> TraceRecord:
    """A trace as JSON brings it, ours or of a tool that `foreign` knows; `trace_id` and `ts_ms` are made where they are
    missing. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("A trace must be an object")
    value = translated(value)
    filled = {"ts_ms": time.time_ns() // 1_000_000, **value}
    filled["trace_id"] = normalise_id(str(value["trace_id"])) if value.get("trace_id") else new_trace_id()
    record = from_dict(filled)
    if not (encodes(record) and storable(record)):
        raise ValueError("A trace holds a value that cannot be stored: a number beyond any count, or text that is none")
    if record.body_state in ("none", "expired") and (record.request is not None or record.response is not None):
        record.body_state = "full"
    return record


def _take_in(
    store: Store,
    reader: Reader,
    batch: list[TraceRecord],
    result: Imported,
    before_write: Callable[[TraceRecord], None] | None,
) -> None:
    fresh: dict[str, TraceRecord] = {}
    there = reader.known(record.trace_id for record in batch)
    for record in batch:
        if record.trace_id in fresh or record.trace_id in there:
            result.known += 1
        else:
            fresh[record.trace_id] = record
    if not fresh:
        return
    if before_write is not None:
        for record in fresh.values():
            before_write(record)
    records = [r if encodes(r) and storable(r) else mended(r, r.ts_ms) for r in fresh.values()]
    connection = store.connect(durable=True)
    try:
        insert_block(connection, [encode_block(os.urandom(16), records)])
    finally:
        connection.close()
    result.added += len(fresh)
