"""Reading: one trace by its id, pages of the list, and the live tail.

Belongs here: questions about single traces. Sums and series stand in `stats`, full text in `search`. Every answer is
current: what is committed but not projected yet is projected first.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from . import project
from .codec import Body, bodies_at, chunked, decode_bodies, one_id, records_at, split_ids
from .columns import NAMES
from .errors import QueryError
from .filters import EVERYTHING, Filters, Value, where
from .ids import id_time_ms, normalise_id
from .model import TraceRecord
from .project import SEQ_BITS
from .sqlite import Store
from .transactions import reading

MAX_PAGE: Final = 1000
#: so many rows SQLite looks through in a millisecond or two
_RECENT: Final = 2_000
#: a question waits this long for another's write lock before it is answered from what was projected before
_PATIENCE_MS: Final = 300
#: questions are answered as they come for so long after one of them waited in vain for all rows
_REST_S: Final = 2.0
_POSITION: Final = (1 << SEQ_BITS) - 1


class TraceRow(msgspec.Struct, frozen=True):
    """One line of the list: the narrow columns of a trace, without attempts and bodies. `seq` orders by arrival."""

    trace_id: str
    seq: int
    ts_ms: int
    outcome: str
    http_status: int
    model: str
    provider: str
    requested_model: str
    alias: str | None
    project: str | None
    key_id: str | None
    user_id: str | None
    session_id: str | None
    tags: list[str]
    cluster_id: int | None
    stream: bool
    cache_hit: bool
    has_tools: bool
    fallback: bool
    attempts: int
    latency_ms: float
    ttft_ms: float | None
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    tokens_reasoning: int | None
    cost_nano: int | None
    counterfactual_nano: int | None
    error_type: str | None
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list, newest first. `next` is the cursor of the part after it, None at the end."""

    rows: list[TraceRow]
    next: str | None


class Reader:
    """Answers questions about a store from any thread (each thread gets its own connection).

    `seconds`: a question waits so long at most for rows to be made of what is committed, and is answered from what
    there is then (see `behind`); None as long as it takes.
    """

    def __init__(self, store: Store, *, seconds: float | None = None) -> None:
        self.store = store
        self._seconds = seconds
        self._not_before = 0.0

    def current(self) -> sqlite3.Connection:
        """This thread's connection, with everything committed projected (as far as the store can be written)."""
        connection = self.store.reader()
        if self.store.read_only or time.monotonic() < self._not_before:
            return connection
        with self.store.projecting:
            # whoever had it before us may have found the database locked, or more than its time was enough for
            if time.monotonic() >= self._not_before:
                self._project(connection)
        return connection

    def behind(self) -> int:
        """How many committed traces answers do not show yet: after an import or a crash there may be many."""
        connection = self.store.reader()
        return project.lag(connection) if project.waiting(connection) else 0

    def _project(self, connection: sqlite3.Connection) -> None:
        # a full or locked disk must not take the listing away, or hold it up: then it shows what was projected before;
        # the questions of one report do not wait one after the other
        connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        try:
            project.catch_up(connection, seconds=self._seconds)
            if self._seconds is not None and project.waiting(connection):
                # the other questions of the same report would wait as long again
                self._not_before = time.monotonic() + _REST_S
        except sqlite3.OperationalError:
            self._not_before = time.monotonic() + _PATIENCE_MS / 1000
        finally:
            connection.execute("PRAGMA busy_timeout = 10000")

    def page(self, filters: Filters = EVERYTHING, *, limit: int = 50, cursor: str | None = None) -> Page:
        """A page of traces that match, newest start first. Raises QueryError for a cursor that is not one of ours.

        `limit` is capped at `MAX_PAGE`.
        """
        if filters.text:
            from .search import search

            return search(self, filters, limit=limit, cursor=cursor)
        limit = page_limit(limit)
        rows = self._newest(filters, None if cursor is None else decode_cursor(cursor), limit + 1)
        more = encode_cursor(rows[limit - 1].ts_ms, rows[limit - 1].seq) if len(rows) > limit else None
        return Page(rows[:limit], more)

    def _newest(self, filters: Filters, after: tuple[int, int] | None, limit: int) -> list[TraceRow]:
        """The first `limit` matches after a place: from the newest rows if they have enough, else from the chunks."""
        condition, params = where(filters)
        if after is not None:
            condition = f"({condition}) AND (ts_ms, seq) < (?, ?)"
            params += after
        if self._indexed(filters):
            # the plus: sorting these few is cheaper than walking the index of times until enough of them came by
            return self.select(condition, params, order="+ts_ms DESC, seq DESC", limit=limit)
        bound = self._bound(filters, after)
        if bound is not None:
            recent = f"({condition}) AND ts_ms >= ?"
            rows = self.select(recent, [*params, bound], order="ts_ms DESC, seq DESC", limit=limit)
            if len(rows) == limit:
                return rows
            from . import chunks

            connection = self.store.reader()
            with reading(connection):
                covered, found = chunks.newest(connection, filters, after, limit)
                fresh = connection.execute(
                    # these rows lie side by side; from the index of times each would have to be looked up
                    f"SELECT ts_ms, seq FROM traces NOT INDEXED WHERE ({condition}) AND seq >= ? "
                    "ORDER BY ts_ms DESC, seq DESC LIMIT ?",
                    (*params, (covered + 1) << SEQ_BITS, limit),
                ).fetchall()
            best = sorted({*fresh, *found}, reverse=True)[:limit]
            known = {row.seq: row for row in self.by_seq([seq for _, seq in best])}
            return [known[seq] for _, seq in best if seq in known]
        return self.select(condition, params, order="ts_ms DESC, seq DESC", limit=limit)

    def _bound(self, filters: Filters, after: tuple[int, int] | None) -> int | None:
        """The time of the `_RECENT`th newest row; None when nothing is asked for or everything is recent."""
        if not filters.conditions:
            return None
        row = self.current().execute(
            "SELECT ts_ms FROM traces WHERE ts_ms <= ? ORDER BY ts_ms DESC LIMIT 1 OFFSET ?",
            (2**62 if after is None else after[0], _RECENT),
        )
        found = row.fetchone()
        return None if found is None else int(found[0])

    def _indexed(self, filters: Filters) -> bool:
        """True when the index of users or sessions leaves few rows to look at."""
        for one in filters.conditions:
            if one.field in ("session", "user") and one.op == "=":
                condition, params = where(Filters((one,)))
                few = self.store.reader().execute(
                    f"SELECT count(*) FROM (SELECT 1 FROM traces WHERE {condition} LIMIT ?)", (*params, _RECENT)
                )
                if few.fetchone()[0] < _RECENT:
                    return True
        return False

    def tail(
        self, after: int | None = None, filters: Filters = EVERYTHING, *, limit: int = 200
    ) -> tuple[list[TraceRow], int]:
        """Traces that arrived after the sequence number `after`, oldest first, and the number to ask from next.

        `after=None` only gives the number of now. Nothing is skipped or repeated, whichever worker wrote it.
        """
        connection = self.current()
        newest = connection.execute("SELECT ifnull(max(seq), 0) FROM traces").fetchone()[0]
        if after is None:
            return [], newest
        condition, params = where(filters)
        rows = self.select(
            f"({condition}) AND seq > ? AND seq <= ?", [*params, after, newest], order="seq", limit=page_limit(limit)
        )
        return rows, rows[-1].seq if len(rows) == page_limit(limit) else newest

    def select(self, condition: str, params: Sequence[Value], *, order: str, limit: int) -> list[TraceRow]:
        """Rows of `traces` that fulfil a condition made by `filters.where`."""
        connection = self.current()
        found = connection.execute(
            f"SELECT {', '.join(NAMES)} FROM traces WHERE {condition} ORDER BY {order} LIMIT ?",
            (*params, limit),
        ).fetchall()
        return self.rows(found)

    def by_seq(self, seqs: Sequence[int]) -> list[TraceRow]:
        """The rows of some sequence numbers, in no order."""
        if not seqs:
            return []
        holes = ", ".join("?" * len(seqs))
        return self.select(f"seq IN ({holes})", list(seqs), order="seq", limit=len(seqs))

    def rows(self, found: Sequence[tuple[object, ...]]) -> list[TraceRow]:
        """TraceRows of raw `traces` rows, with the ids looked up in their blocks."""
        ids = self._ids([int(row[0]) for row in found])  # type: ignore[call-overload]
        return [_trace_row(row, ids) for row in found]

    def _ids(self, seqs: Sequence[int]) -> dict[int, str]:
        """The trace ids of sequence numbers; a block that retention has just removed has none."""
        connection = self.store.reader()
        packed: dict[int, bytes] = {}
        for block in {seq >> SEQ_BITS for seq in seqs}:
            row = connection.execute("SELECT ids FROM blocks WHERE id = ?", (block,)).fetchone()
            if row is not None:
                packed[block] = row[0]
        return {seq: one_id(packed[seq >> SEQ_BITS], seq & _POSITION) for seq in seqs if seq >> SEQ_BITS in packed}

    def get(self, trace_id: str, *, bodies: bool = True) -> TraceRecord | None:
        """The whole record with attempts and, unless they expired, bodies; None when there is no such trace.

        Raises ValueError for text that is no trace id.
        """
        place = self.find(normalise_id(trace_id))
        if place is None:
            return None
        block, at = place
        return self._load(block, [at], bodies=bodies)[0]

    def find(self, trace_id: str) -> tuple[int, int] | None:
        """Block and position of a normalised id. Ids of our making say their time, which narrows the search."""
        connection = self.store.reader()
        wanted = bytes.fromhex(trace_id)
        when = id_time_ms(trace_id)
        tries: list[tuple[str, tuple[int, ...]]] = [("1 = 1", ())]
        if when is not None:
            # the record's start and its id are taken at nearly the same time, not at the same instant
            tries.insert(0, ("ts_max >= ? AND ts_min <= ?", (when - 1000, when + 1000)))
        for condition, bounds in tries:
            found = connection.execute(
                f"SELECT id, ids FROM blocks WHERE {condition} AND instr(ids, ?) > 0",
                (*bounds, wanted),
            )
            for block, ids in found:
                if trace_id in (all_ids := split_ids(ids)):
                    return block, all_ids.index(trace_id)
        return None

    def known(self, trace_ids: Iterable[str]) -> set[str]:
        """Which of these normalised ids have a trace. One pass over the ids, however many are asked for."""
        wanted = {bytes.fromhex(one) for one in trace_ids}
        found: set[bytes] = set()
        if wanted:
            for (ids,) in self.store.reader().execute("SELECT ids FROM blocks"):
                found |= wanted.intersection(chunked(ids))
        return {one.hex() for one in found}

    def load(self, seqs: Sequence[int], *, bodies: bool = False) -> list[TraceRecord | None]:
        """Whole records by sequence number, in the order asked (each block is unpacked once)."""
        by_block: dict[int, list[int]] = {}
        for seq in seqs:
            by_block.setdefault(seq >> SEQ_BITS, []).append(seq & _POSITION)
        loaded: dict[int, TraceRecord | None] = {}
        for block, places in by_block.items():
            for at, record in zip(places, self._load(block, places, bodies=bodies), strict=True):
                loaded[block << SEQ_BITS | at] = record
        return [loaded[seq] for seq in seqs]

    def _load(self, block: int, places: Sequence[int], *, bodies: bool) -> list[TraceRecord | None]:
        connection = self.store.reader()
        row = connection.execute("SELECT codec, meta FROM blocks WHERE id = ?", (block,)).fetchone()
        if row is None:
            return [None] * len(places)
        records = records_at(row[0], row[1], places)
        said: dict[int, Body | None] = {}
        if bodies:
            texts = connection.execute("SELECT codec, data FROM bodies WHERE block = ?", (block,)).fetchone()
            said = {} if texts is None else bodies_at(texts[0], texts[1], places)
        for at, record in records.items():
            if record is not None and bodies:
                _attach(record, said.get(at))
        return [records[at] for at in places]

    def bodies(self, block: int) -> list[Body | None] | None:
        """The bodies of a block; None when they expired or never were."""
        row = self.store.reader().execute("SELECT codec, data FROM bodies WHERE block = ?", (block,)).fetchone()
        return None if row is None else decode_bodies(*row)


def _attach(record: TraceRecord, body: Body | None) -> None:
    if body is not None:
        record.request, record.response = body
    elif record.body_state in ("full", "redacted"):
        record.body_state = "expired"


def _trace_row(row: tuple[object, ...], ids: dict[int, str]) -> TraceRow:
    values = dict(zip(NAMES, row, strict=True))
    del values["latency_bucket"]
    values["latency_ms"] = values.pop("latency_us") / 1000  # type: ignore[operator]
    ttft = values.pop("ttft_us")
    values["ttft_ms"] = None if ttft is None else ttft / 1000  # type: ignore[operator]
    tags = values["tags"]
    values["tags"] = msgspec.json.decode(tags) if isinstance(tags, str) else []
    for name in ("stream", "cache_hit", "has_tools", "fallback"):
        values[name] = bool(values[name])
    return TraceRow(trace_id=ids.get(int(row[0]), ""), **values)  # type: ignore[call-overload, arg-type]


def page_limit(limit: int) -> int:
    """A page size between 1 and `MAX_PAGE`. Raises QueryError below 1."""
    if limit < 1:
        raise QueryError(f"limit must be at least 1, not {limit}")
    return min(limit, MAX_PAGE)


def encode_cursor(ts_ms: int, seq: int) -> str:
    """The cursor that continues below this place in the list."""
    return base64.urlsafe_b64encode(f"{ts_ms}:{seq}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[int, int]:
    """`ts_ms` and `seq` of a cursor. Raises QueryError when it is not one of ours."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        ts_ms, seq = raw.split(":")
        place = int(ts_ms), int(seq)
    except (ValueError, binascii.Error):
        raise QueryError(f"Not a cursor: {cursor[:64]!r} (take it from `next` of the page before)") from None
    if not all(-(2**63) <= part < 2**63 for part in place):
        raise QueryError(f"Not a cursor: {cursor[:64]!r}")
    return place
