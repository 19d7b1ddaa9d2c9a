"""ClickHouse: the same traces on a server that many engines write to, and the same queries on it.

Belongs here: its tables, inserting a block, running a compiled query. Not here: which blocks are sent when (`outbox`).
A block may arrive twice (the server answered, the answer was lost): its insert carries a token, and the table replaces
rows of the same time and id, so it counts once. Needs the `clickhouse` extra; `chdb:///directory` runs one in-process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from .columns import NAMES, clickhouse_columns
from .compile import Cells, Query, compile_query, finish
from .dialects import CLICKHOUSE
from .errors import StoreUnavailable
from .model import to_dict
from .outbox import Portion
from .project import SEQ_BITS, row_of

_TAGS: Final = NAMES.index("tags")
_EXTRA: Final = ("trace_id", "record", "request", "response")


def ddl(*, body_days: int | None = None, days: int | None = None) -> str:
    """CREATE TABLE; with retention of bodies and of rows, in days, as TTL, so that old text goes away by itself."""
    columns = ",\n    ".join(f"{name} {kind}" for name, kind in clickhouse_columns().items())
    day = "toDateTime(intDiv(ts_ms, 1000))"
    body = "CODEC(ZSTD(3))" + (f" TTL {day} + INTERVAL {body_days} DAY" if body_days else "")
    expiry = f"TTL {day} + INTERVAL {days} DAY\n" if days else ""
    return f"""CREATE TABLE IF NOT EXISTS traces (
    trace_id FixedString(32),
    {columns},
    record String CODEC(ZSTD(3)),
    request String {body},
    response String {body}
) ENGINE = ReplacingMergeTree
PARTITION BY toDate(intDiv(ts_ms, 1000))
ORDER BY (ts_ms, trace_id)
{expiry}SETTINGS non_replicated_deduplication_window = 10000"""


class ClickHouse:
    """A connection to a ClickHouse database. `dsn`: `clickhouse://user:password@host:8123/database` or `chdb:///dir`."""

    def __init__(self, dsn: str) -> None:
        try:
            import clickhouse_connect
        except ImportError as error:
            raise StoreUnavailable("ClickHouse needs its extra: pip install 'opentracy[clickhouse]'") from error
        # it logs each failed request with a page of traceback; failures are told by whoever asked
        logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
        try:
            self._client: Any = clickhouse_connect.get_client(dsn=dsn)
        except Exception as error:
            # the library raises many kinds; the password of the dsn must not be in what we say
            raise StoreUnavailable(f"Cannot reach ClickHouse: {type(error).__name__}") from error

    def prepare(self, *, body_days: int | None = None, days: int | None = None) -> None:
        """Makes the table where there is none (`body_days`, `days`: see `ddl`)."""
        self._client.command(ddl(body_days=body_days, days=days))

    def insert(self, token: str, portions: Sequence[Portion]) -> int:
        """Sends some blocks in one insert. The same `token` twice counts once. Returns the number of rows sent."""
        rows = [row for portion in portions for row in _rows(portion)]
        if rows:
            self._client.insert(
                "traces", rows, column_names=[*NAMES, *_EXTRA], settings={"insert_deduplication_token": token}
            )
        return len(rows)

    def answer(self, query: Query) -> list[dict[str, object]]:
        """The answer to a query, as `stats.answer` gives it from the local store."""
        main, histogram, params = compile_query(query, CLICKHOUSE)
        keys = len(query.group_by) + (query.bucket_ms is not None)
        cells = Cells(most=query.most_cells)
        cells.add_sums(self._run(main, params), keys)
        if histogram is not None:
            cells.add_latencies(self._run(histogram, params), keys)
        return finish(query, cells)

    def totals(self) -> tuple[int, int, int]:
        """Number of traces, of different trace ids, and the sum of the costs in nano-USD."""
        rows = self._run("SELECT count(*), uniqExact(trace_id), coalesce(sum(cost_nano), 0) FROM traces", [])
        return int(rows[0][0]), int(rows[0][1]), int(rows[0][2])

    def _run(self, sql: str, params: Sequence[object]) -> list[Sequence[Any]]:
        rows: list[Sequence[Any]] = self._client.query(
            f"{sql} SETTINGS final = 1", parameters=list(params) or None
        ).result_rows
        return rows

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


def _rows(portion: Portion) -> Iterable[list[object]]:
    block, bodies = portion.block, portion.bodies
    for at, record in enumerate(portion.records):
        if record is None:
            continue
        row = list(row_of(block << SEQ_BITS | at, record))
        row[_TAGS] = record.tags or []
        body = bodies[at] if bodies is not None else None
        request, response = body if body is not None else (None, None)
        whole = {name: value for name, value in to_dict(record).items() if name not in ("request", "response")}
        row += [record.trace_id, msgspec.json.encode(whole).decode(), _text(request), _text(response)]
        yield row


def _text(body: bytes | None) -> str:
    return "" if body is None else body.decode("utf-8", "replace")
