"""One compiler, four ways to the figures (rollups, rows, segments, ClickHouse), one answer.

The oracle adds up the records in plain Python, so all of them are also right.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_queries import queries
from trace_samples import make_record
from trace_seed import SEED_MS, seeded

from opentracy.traces import segments, stats
from opentracy.traces.clickhouse import ClickHouse
from opentracy.traces.columns import NAMES, clickhouse_columns
from opentracy.traces.compile import METRICS, Cells, Query, compile_query, finish
from opentracy.traces.dialects import SQLITE
from opentracy.traces.errors import QueryError
from opentracy.traces.filters import Filters, parse
from opentracy.traces.latency import bucket_ms, latency_bucket, percentile
from opentracy.traces.model import TraceRecord
from opentracy.traces.outbox import backlog, deliver, destination
from opentracy.traces.reader import Reader
from opentracy.traces.sqlite import Store
from opentracy.traces.writer import Limits, TraceWriter

ROWS = 3000
HOUR = 3_600_000


@pytest.fixture(scope="module")
def records() -> list[TraceRecord]:
    """What was stored."""
    return seeded(ROWS)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, records: list[TraceRecord]) -> Iterator[Reader]:
    """A store with the seeded rows: two thirds in sealed segments, the rest fresh."""
    store = Store.open(tmp_path_factory.mktemp("stats") / "traces.db")
    with TraceWriter(store, limits=Limits(block_rows=100)) as writer:
        for record in records:
            writer.put(record)
        assert writer.flush(60)
    reader = Reader(store)
    reader.current()
    connection = store.connect()
    for _ in range(2):
        assert segments.seal(store, connection, min_rows=1000) == 1000
    connection.close()
    yield reader
    store.close()


@pytest.fixture(scope="module")
def clickhouse(filled: Reader, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """The same rows in a ClickHouse inside this process."""
    pytest.importorskip("chdb", reason="chdb (ClickHouse in-process, 0.8 GB) is not installed")
    server = ClickHouse(f"chdb:///{tmp_path_factory.mktemp('chdb')}")
    server.prepare()
    connection = filled.store.connect()
    name = destination("chdb:///conformance")
    assert deliver(connection, name, server) == ROWS
    assert backlog(connection, name) == (0, 0)
    connection.close()
    yield server
    server.close()


ALL = Filters()
DAY = Filters(since=SEED_MS + 3 * HOUR, until=SEED_MS + 27 * HOUR)
RAGGED = Filters(since=SEED_MS + 3 * HOUR + 1234, until=SEED_MS + 26 * HOUR + 999_999)
MONEY = ("requests", "errors", "cost_nano", "unpriced", "cost", "tokens_in", "tokens_out")

QUERIES = [
    Query(METRICS),
    Query(METRICS, ("model",)),
    Query(METRICS, ("provider", "model"), filters=RAGGED),
    Query(METRICS, ("model",), HOUR, RAGGED),
    Query(METRICS, (), 15 * 60_000, DAY),
    Query(MONEY, ("key",)),
    Query(MONEY, ("key", "project"), 6 * HOUR, DAY),
    Query(MONEY, ("cluster", "model"), filters=RAGGED),
    Query(MONEY, ("cluster",)),
    Query(MONEY, ("outcome", "error")),
    Query(MONEY, ("tag",)),
    Query(MONEY, ("tag",), 24 * HOUR),
    Query(MONEY, ("key", "tag"), filters=DAY),
    Query(MONEY, ("user", "session")),
    Query(("requests",), ("status",)),
    Query(("p50", "p95", "p99", "requests"), ("provider",), HOUR),
    Query(("cost",), ("model",), limit=2),
    Query(("p95", "requests"), ("model",), 24 * HOUR, limit=2),
    Query(METRICS, ("alias", "requested")),
    Query(("requests",), ("stream", "cache", "tools", "fallback", "attempts")),
    Query(MONEY, ("finish",)),
    Query(MONEY, ("model",), filters=parse("model:gpt-4o -provider:groq")),
    Query(MONEY, ("model",), filters=parse("-model:gpt-4o")),
    Query(MONEY, ("key",), filters=parse("-key:k1")),
    Query(MONEY, ("cluster",), filters=parse("cluster:3")),
    Query(MONEY, ("outcome",), filters=parse("status:error")),
    Query(MONEY, ("model",), filters=parse("status:5xx,429 cost>0.001")),
    Query(MONEY, ("model",), filters=parse("-status:error latency>500ms ttft<800")),
    Query(MONEY, ("tag",), filters=parse("tag:prod -tag:eu")),
    Query(MONEY, ("user",), filters=parse("""user:"O'Neil" tag:"it's" """)),
    Query(MONEY, (), filters=parse("model:nothing")),
    Query(MONEY, ("model",), HOUR, filters=parse("model:nothing")),
    Query(MONEY, ("model",), filters=parse("stream:true fallback:true tools:false tokens_in>100")),
]


def label(query: Query) -> str:
    """A test id that says what is asked."""
    return f"{'+'.join(query.group_by) or 'all'}-{query.bucket_ms}-{len(query.filters.conditions)}-{query.metrics[0]}"


def same(one: list[dict[str, object]], other: list[dict[str, object]]) -> None:
    """Equal to the last digit, in the same order."""
    assert one == other


def from_rows(reader: Reader, query: Query) -> list[dict[str, object]]:
    """The answer of SQLite's rows alone."""
    cells = Cells()
    main, histogram, params = compile_query(query, SQLITE)
    keys = len(query.group_by) + (query.bucket_ms is not None)
    connection = reader.current()
    cells.add_sums(connection.execute(main, params).fetchall(), keys)
    if histogram:
        cells.add_latencies(connection.execute(histogram, params).fetchall(), keys)
    return finish(query, cells)


@pytest.mark.parametrize("query", QUERIES, ids=label)
def test_every_source_gives_the_same_answer(filled: Reader, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows = rollups with ragged edges = DuckDB over segments plus fresh rows."""
    rows = from_rows(filled, query)
    same(stats.answer(filled, query), rows)
    if not segments.available():
        pytest.skip("duckdb is not installed")
    monkeypatch.setattr(segments, "SCAN_ROWS", 1)
    monkeypatch.setattr(stats, "rollup_for", lambda query: None)
    same(stats.answer(filled, query), rows)


@pytest.mark.parametrize("query", QUERIES, ids=label)
def test_clickhouse_gives_the_same_answer(filled: Reader, clickhouse: ClickHouse, query: Query) -> None:
    """The third dialect, on a real ClickHouse."""
    same(clickhouse.answer(query), from_rows(filled, query))


@given(queries())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_has_one_answer(filled: Reader, query: Query) -> None:
    """Made up ones too: rows = rollups with ragged edges = DuckDB over segments plus fresh rows."""
    rows = from_rows(filled, query)
    same(stats.answer(filled, query), rows)
    if not segments.available():
        pytest.skip("duckdb is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SCAN_ROWS", 1)
        patch.setattr(stats, "rollup_for", lambda query: None)
        same(stats.answer(filled, query), rows)


@given(queries())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_has_the_same_answer_from_clickhouse(filled: Reader, clickhouse: ClickHouse, query: Query) -> None:
    """Made up ones too."""
    same(clickhouse.answer(query), from_rows(filled, query))


def test_clickhouse_counts_a_repeated_block_once(filled: Reader, clickhouse: ClickHouse) -> None:
    """The answer of an insert may get lost; sending all of it again changes nothing."""
    before = clickhouse.totals()
    connection = filled.store.connect()
    assert deliver(connection, destination("chdb:///again"), clickhouse) == ROWS
    connection.close()
    assert clickhouse.totals() == before
    assert before[0] == ROWS


def expected(records: list[TraceRecord], group: str) -> dict[Any, tuple[int, int, int]]:
    """requests, errors and cost of each group, added up by hand."""
    sums: dict[Any, tuple[int, int, int]] = {}
    for record in records:
        for key in (record.tags or []) if group == "tag" else [getattr(record, group)]:
            requests, errors, cost = sums.get(key, (0, 0, 0))
            sums[key] = (requests + 1, errors + (record.outcome != "ok"), cost + (record.cost_nano or 0))
    return sums


@pytest.mark.parametrize(
    ("name", "field"),
    [("model", "model"), ("key", "key_id"), ("cluster", "cluster_id"), ("tag", "tag"), ("user", "user_id")],
)
def test_the_figures_are_right(filled: Reader, records: list[TraceRecord], name: str, field: str) -> None:
    """Against sums made in plain Python."""
    answer = stats.answer(filled, Query(("requests", "errors", "cost_nano"), (name,)))
    assert {row[name]: (row["requests"], row["errors"], row["cost_nano"]) for row in answer} == expected(records, field)


@pytest.mark.parametrize("name", ["model", "key", "provider", "user", "cluster", "outcome"])
def test_totals_reconcile(filled: Reader, records: list[TraceRecord], name: str) -> None:
    """Sum by anything = by hour = total, exactly; what has no price is counted apart, not as free."""
    total = sum(record.cost_nano or 0 for record in records)
    unpriced = sum(record.cost_nano is None for record in records)
    for query in (Query(MONEY, (name,)), Query(MONEY, (name,), HOUR), Query(MONEY, (), HOUR), Query(MONEY)):
        answer = stats.answer(filled, query)
        assert sum(int(str(row["cost_nano"])) for row in answer) == total
        assert sum(int(str(row["unpriced"])) for row in answer) == unpriced


def test_limit_folds_the_rest(filled: Reader) -> None:
    """Nothing disappears beyond the limit: it stands under (other)."""
    full = stats.answer(filled, Query(("cost_nano",), ("model",)))
    cut = stats.answer(filled, Query(("cost_nano",), ("model",), limit=2))
    assert [row["model"] for row in cut if row["model"] != "(other)"] == [row["model"] for row in full[:2]]
    assert sum(int(str(row["cost_nano"])) for row in cut) == sum(int(str(row["cost_nano"])) for row in full)


def test_rollups_are_used_where_they_can_be() -> None:
    """Otherwise a dashboard would scan rows for what is added up already."""
    assert stats.rollup_for(Query(("cost", "p95"), ("model", "provider"), HOUR)) == "model"
    assert stats.rollup_for(Query(("cost",), ("key",), 24 * HOUR)) == "key"
    assert stats.rollup_for(Query(("requests",), ("cluster", "model"))) == "cluster"
    assert stats.rollup_for(Query(("requests",), ("tag",))) == "tag"
    assert stats.rollup_for(Query(("requests",), ("key", "tag"))) is None
    assert stats.rollup_for(Query(("requests",), ("model",), 60_000)) is None
    assert stats.rollup_for(Query(("p95",), ("key",))) is None
    assert stats.rollup_for(Query(("requests",), ("model",), filters=parse("cost>1"))) is None
    assert stats.rollup_for(Query(("requests",), (), filters=parse("tag:x"))) is None


def test_facets_count_what_choosing_another_value_would_give(filled: Reader, records: list[TraceRecord]) -> None:
    """The filter on the field itself does not narrow its own counts."""
    found = stats.facets(filled, parse("model:gpt-4o key:k1"), ["model", "key"])
    models = {row["value"]: row["count"] for row in found["model"]}
    assert models["claude"] == sum(record.model == "claude" and record.key_id == "k1" for record in records)
    keys = {row["value"]: row["count"] for row in found["key"]}
    assert keys[None] == sum(record.model == "gpt-4o" and record.key_id is None for record in records)


def test_the_series_covers_the_range(filled: Reader) -> None:
    """Round buckets, about as many as asked for, with every request in one."""
    found = stats.series(filled, ALL, buckets=60)
    assert sum(int(str(row["requests"])) for row in found) == ROWS
    assert 30 <= len(found) <= 61
    assert stats.nice_bucket(24 * HOUR, 60) == 30 * 60_000


def test_an_empty_store_answers(store: Store) -> None:
    """Zero requests, no percentiles, no series."""
    reader = Reader(store)
    assert stats.answer(reader, Query(("requests", "cost", "p95"))) == [{"requests": 0, "cost": 0.0, "p95": None}]
    assert stats.answer(reader, Query(("requests",), ("model",))) == []
    assert stats.series(reader, ALL) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Query(("costs",)), "did you mean 'cost'"),
        (lambda: Query(("cost",), ("modell",)), "did you mean 'model'"),
        (lambda: Query(()), "at least one metric"),
        (lambda: Query(bucket_ms=5), "at least one second"),
        (lambda: Query(limit=0), "limit"),
        (lambda: Query(filters=Filters(text="x")), "search the list"),
    ],
)
def test_meaningless_queries_say_why(make: Any, message: str) -> None:
    """Each names the part."""
    with pytest.raises(QueryError, match=message):
        make()


@given(st.lists(st.floats(0.01, 1e7), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_percentiles_are_within_five_percent(values: list[float], share: float) -> None:
    """Against the exact order statistic (one millisecond is the smallest latency that is told apart)."""
    histogram: dict[int, int] = {}
    for value in values:
        bucket = latency_bucket(value)
        histogram[bucket] = histogram.get(bucket, 0) + 1
    exact = sorted(values)[math.ceil(share * len(values)) - 1]
    found = percentile(histogram, share)
    assert found is not None
    assert abs(found - exact) <= max(0.05 * exact, 1.1)
    assert latency_bucket(bucket_ms(40)) == 40


def test_columns_agree_with_the_table(store: Store) -> None:
    """The list that DuckDB's and ClickHouse's DDL is made from has SQLite's columns, in its order."""
    table = [row[1] for row in store.reader().execute("PRAGMA table_info(traces)")]
    assert tuple(table) == NAMES
    assert set(clickhouse_columns()) == set(table)


def test_sealing_survives_a_crash_and_counts_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without its manifest row counts for nothing; sealing again writes it anew."""
    if not segments.available():
        pytest.skip("duckdb is not installed")
    monkeypatch.setattr(segments, "SCAN_ROWS", 1)
    with TraceWriter(store) as writer:
        for record in seeded(500):
            writer.put(record)
    reader = Reader(store)
    before = stats.answer(reader, Query(MONEY, ("user",)))
    connection = store.connect()

    class Crash(Exception):
        pass

    def crash(lines: Path, target: Path, columns: dict[str, str]) -> None:
        original(lines, target, columns)
        raise Crash

    original = segments.lines_to_parquet
    monkeypatch.setattr(segments, "lines_to_parquet", crash)
    with pytest.raises(Crash):
        segments.seal(store, connection, min_rows=100)
    assert stats.answer(reader, Query(MONEY, ("user",))) == before
    monkeypatch.setattr(segments, "lines_to_parquet", original)
    assert segments.seal(store, connection, min_rows=100) >= 100
    assert stats.answer(reader, Query(MONEY, ("user",))) == before
    assert not list(segments.directory(store).glob("*.lines"))
    connection.close()


def test_an_outage_of_the_destination_loses_and_doubles_nothing(store: Store) -> None:
    """The mark stops before the batch that failed, also when the server had taken it and only the answer was lost.

    Traces go on arriving meanwhile, and what is sent again is the same batch with the same token.
    """

    class Flaky:
        batch_rows = 45

        def __init__(self) -> None:
            self.random = random.Random(3)
            self.tokens: dict[str, list[int]] = {}

        def insert(self, token: str, portions: Any) -> int:
            mood = self.random.random()
            if mood < 0.3:
                raise ConnectionError("away")
            blocks = [one.block for one in portions]
            assert self.tokens.setdefault(token, blocks) == blocks
            if mood < 0.5:
                raise ConnectionError("took it, but nobody heard")
            return sum(len(one.records) for one in portions)

    sink = Flaky()
    connection = store.connect()
    failures = 0
    with TraceWriter(store, limits=Limits(block_rows=10)) as writer:
        for number in range(600):
            writer.put(make_record(number))
            if number % 20 == 19:
                assert writer.flush(30)
                try:
                    deliver(connection, "outbox:x", sink, max_blocks=3)
                except ConnectionError:
                    failures += 1
    while backlog(connection, "outbox:x")[0]:
        try:
            deliver(connection, "outbox:x", sink)
        except ConnectionError:
            failures += 1
    assert failures > 8
    sent = sorted(block for blocks in sink.tokens.values() for block in blocks)
    assert sent == [row[0] for row in connection.execute("SELECT id FROM blocks ORDER BY id")]
    assert max(map(len, sink.tokens.values())) > 1
    connection.close()


def test_a_destination_is_named_without_its_password() -> None:
    """The mark is stored and shown."""
    assert "secret" not in destination("clickhouse://user:secret@host:8123/db")
    assert destination("clickhouse://a:b@host:1/db") == destination("clickhouse://c:d@host:1/db")


def test_filters_between_narrow_only() -> None:
    """Never widen what was asked."""
    filters = Filters(since=10, until=20)
    assert filters.between(5, 15) == replace(filters, until=15)
