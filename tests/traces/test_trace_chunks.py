"""Lists of rare rows and facets from chunks are those of the rows alone, whatever is asked and whatever has gone."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from trace_queries import filters, queries
from trace_seed import SEED_MS, seeded

from opentracy.traces import chunk_sums, chunks, reader, stats
from opentracy.traces.codec import encode_block
from opentracy.traces.compile import GROUPS, Cells, Query, compile_query, finish
from opentracy.traces.dialects import SQLITE
from opentracy.traces.filters import Condition, Filters, parse, where
from opentracy.traces.model import TraceRecord
from opentracy.traces.project import SEQ_BITS, catch_up
from opentracy.traces.reader import Reader
from opentracy.traces.retention import Retention, prune, remove
from opentracy.traces.sqlite import Store
from opentracy.traces.writer import Limits, TraceWriter, insert_block

ROWS = 2400
HOUR = 3_600_000


def stored(store: Store, records: list[TraceRecord], block_rows: int = 60) -> Reader:
    with TraceWriter(store, limits=Limits(block_rows=block_rows)) as writer:
        for record in records:
            writer.put(record)
        assert writer.flush(60)
    made = Reader(store)
    made.current()
    return made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Chunks of different sizes (some of them put together), out of order in time, with rows after the last one."""
    store = Store.open(tmp_path_factory.mktemp("chunks") / "traces.db")
    records = seeded(ROWS)
    draw = random.Random(5)
    # arrivals are late by up to some hours, so chunks overlap in time; some rows share a millisecond
    records.sort(key=lambda record: record.ts_ms + draw.randrange(4 * HOUR))
    for record in records[::7]:
        record.ts_ms -= record.ts_ms % (600_000)
    made = stored(store, records)
    connection = store.connect()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "MERGED_ROWS", 900)
        patch.setattr(chunks, "PORTION_ROWS", 70)  # a chunk is read in several, as large ones are
        for _ in range(8):
            assert chunks.build(connection, min_rows=180)
            chunks.merge(connection)
        sizes = [row[0] for row in connection.execute("SELECT rows FROM chunks ORDER BY first_block")]
    assert max(sizes) >= 900 > min(sizes)
    assert sum(sizes) < ROWS - 200
    ids = [row.trace_id for row in made.page(limit=1000).rows]
    assert remove(made, connection, ids[5:1000:31]) > 20
    connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_RECENT", 40)
        yield made
    store.close()


def expected(made: Reader, asked: Filters) -> list[int]:
    """The order of the list by SQLite's rows alone."""
    condition, params = where(asked)
    found = made.store.reader().execute(f"SELECT seq FROM traces WHERE {condition} ORDER BY ts_ms DESC, seq DESC", params)
    return [seq for (seq,) in found]


def listed(made: Reader, asked: Filters, limit: int) -> list[int]:
    seen: list[int] = []
    cursor = None
    while True:
        page = made.page(asked, limit=limit, cursor=cursor)
        seen += [row.seq for row in page.rows]
        cursor = page.next
        if cursor is None:
            return seen
        assert len(page.rows) == limit


@given(filters())
@example(parse("status:error -model:gpt-4o tag:prod"))
@example(Filters((Condition("status", "=", ("5xx", "timeout")), Condition("cost", "<", (10**9,)))))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_list_is_the_same_from_every_source(filled: Reader, asked: Filters) -> None:
    """Any filters, page by page."""
    assert listed(filled, asked, 97) == expected(filled, asked)


@given(filters())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_facets_are_the_same_from_every_source(filled: Reader, asked: Filters) -> None:
    """Any filters, every field that can be grouped by."""
    found = stats.facets(filled, asked, GROUPS, limit=3)
    for name in GROUPS:
        others = tuple(one for one in asked.conditions if one.field != name)
        query = Query(("requests",), (name,), filters=Filters(others, "", asked.since, asked.until), limit=3)
        cells = Cells()
        sql, _, params = compile_query(query, SQLITE)
        cells.add_sums(filled.store.reader().execute(sql, params).fetchall(), 1)
        rows = finish(query, cells)
        if stats.rollup_for(query) is not None:
            # hourly sums keep the figures of removed traces
            assert {row["value"] for row in found[name]} >= {row[name] for row in rows} - {"(other)"} or len(rows) > 2
            continue
        assert found[name] == [{"value": row[name], "count": row["requests"]} for row in rows], name


@given(asked=queries())
@example(asked=Query(("cost", "p95", "unpriced", "ttft_avg", "errors"), ("key", "tag"), HOUR // 4))
@example(asked=Query(("requests",), ("user", "session", "model", "tag", "cluster", "error", "finish"), 1000))
@example(asked=Query(("p50",), ("tag",), filters=parse("user:nobody")))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sums_are_the_same_from_chunks_and_from_rows(filled: Reader, asked: Query) -> None:
    """Any groups, bucket, filters and metrics, to the last digit; removed rows stay removed."""
    connection = filled.store.reader()
    main, histogram, values = compile_query(asked, SQLITE)
    keys = len(asked.group_by) + (asked.bucket_ms is not None)
    rows = Cells()
    rows.add_sums(connection.execute(main, values).fetchall(), keys)
    if histogram is not None:
        rows.add_latencies(connection.execute(histogram, values).fetchall(), keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "WORTH_ROWS", 1)
        made = Cells()
        stats._scan(filled, asked, made)
    assert finish(asked, made) == finish(asked, rows)


def test_sums_come_from_chunks_after_what_is_sealed(filled: Reader) -> None:
    """Chunks may begin before the end of the last segment: no row counts twice, none is left out."""
    connection = filled.store.reader()
    asked = Query(("requests", "cost"), ("model",), HOUR // 4)
    blocks = connection.execute("SELECT max(last_block) FROM chunks").fetchone()[0]
    for sealed in (0, 1, 7, blocks - 1, blocks, blocks + 3):
        made, rows = Cells(), Cells()
        with chunks.reading(connection):
            covered = chunk_sums.add(connection, asked, made, sealed)
        assert covered == max(sealed, blocks)
        extra = ((sealed + 1) << SEQ_BITS, (blocks + 1) << SEQ_BITS)
        main, _, values = compile_query(asked, SQLITE, extra="seq >= ? AND seq < ?", extra_params=extra)
        rows.add_sums(connection.execute(main, values).fetchall(), 2)
        assert finish(asked, made) == finish(asked, rows)


def test_large_sums_are_exact(store: Store) -> None:
    """Money of a size that no float holds to the last nano-dollar."""
    records = seeded(400)
    for number, record in enumerate(records):
        record.cost_nano = None if number % 7 == 0 else 2**45 + 3**number % 1_000_003
    made = stored(store, records)
    connection = store.connect()
    assert chunks.build(connection, min_rows=100)
    with chunks.reading(connection):
        cells = Cells()
        chunk_sums.add(connection, Query(("cost",), filters=parse("status:ok")), cells, 0)
    last = connection.execute("SELECT max(last_block) FROM chunks").fetchone()[0]
    known = "outcome = 'ok' AND seq < ?"
    wanted = connection.execute(f"SELECT count(*), sum(cost_nano) FROM traces WHERE {known}", ((last + 1) << SEQ_BITS,))
    assert tuple(cells.sums[()]) == wanted.fetchone()
    connection.close()
    made.store.close()


def test_the_chunks_are_what_answers(filled: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above would pass without any chunk."""
    asked = []
    original = chunks.newest
    monkeypatch.setattr(chunks, "newest", lambda *args: asked.append(original(*args)) or asked[-1])
    filled.page(parse("cluster:17 tag:eu"), limit=50)
    assert asked
    assert asked[0][1]


def test_few_rows_of_an_index_need_no_chunk(filled: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own rows are found by the index; those of one who has most of the rows are not."""
    asked: list[int] = []
    original = chunks.newest
    monkeypatch.setattr(chunks, "newest", lambda *args: asked.append(1) or original(*args))
    filled.page(parse("user:nobody model:gpt-4o"))
    assert not asked
    filled.page(parse("session:s1 tag:nothing"))
    assert asked


def test_retention_takes_chunks_with_their_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is listed, also from a chunk of which a part is gone; an emptied chunk gives its space back."""
    monkeypatch.setattr(reader, "_RECENT", 10)
    made = stored(store, seeded(900), 30)
    connection = store.connect()
    while chunks.build(connection, min_rows=200):
        pass
    before = connection.execute("SELECT count(*) FROM chunk_columns").fetchone()[0]
    assert before
    asked = parse("-model:none")
    for hours in (10, 20):
        now = SEED_MS + hours * HOUR
        done = prune(store, connection, Retention(metrics_days=1e-9, bodies_days=None), now)
        assert done.rows
        assert listed(made, asked, 50) == expected(made, asked)
        assert stats.facets(made, parse("tag:prod cost>0"), ["user"]) == facet_by_rows(made, parse("tag:prod cost>0"), "user")
    assert connection.execute("SELECT count(*) FROM chunk_columns").fetchone()[0] < before
    covered = chunks.covered_upto(connection)
    assert covered == connection.execute("SELECT max(last_block) FROM chunks").fetchone()[0]
    assert connection.execute("SELECT count(*) FROM chunks WHERE rows = 0").fetchone()[0] >= 1
    connection.close()


def facet_by_rows(made: Reader, asked: Filters, name: str) -> dict[str, list[dict[str, object]]]:
    query = Query(("requests",), (name,), filters=asked, limit=20)
    cells = Cells()
    sql, _, params = compile_query(query, SQLITE)
    cells.add_sums(made.store.reader().execute(sql, params).fetchall(), 1)
    return {name: [{"value": row[name], "count": row["requests"]} for row in finish(query, cells)]}


def test_two_leaders_do_not_double_a_chunk(store: Store, put: Callable[..., list[TraceRecord]]) -> None:
    """The second to commit finds that the blocks are covered."""
    put(*seeded(300))
    made = Reader(store)
    first, second = made.current(), store.connect()
    assert chunks.build(second, min_rows=100)
    upto = chunks.covered_upto(first)
    assert chunks.build(first, min_rows=100) in (0, 300)
    assert chunks.covered_upto(first) >= upto
    rows = first.execute("SELECT sum(rows) FROM chunks").fetchone()[0]
    assert rows == first.execute("SELECT count(*) FROM traces WHERE seq < ?", (chunks.covered_upto(first) + 1 << 12,)).fetchone()[0]
    second.close()


def test_merging_steps_back_when_retention_was_faster(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed between reading and writing is left as it is."""
    made = stored(store, seeded(400), 40)
    connection = store.connect()
    while chunks.build(connection, min_rows=90):
        pass
    monkeypatch.setattr(chunks, "MERGED_ROWS", 200)
    original = chunks._joined

    def meanwhile(parts, name):  # type: ignore[no-untyped-def]
        if name == "finish_reason":
            other = store.connect()
            other.execute("UPDATE chunks SET rows = 0 WHERE first_block = (SELECT min(first_block) FROM chunks)")
            other.close()
        return original(parts, name)

    monkeypatch.setattr(chunks, "_joined", meanwhile)
    before = connection.execute("SELECT count(*) FROM chunks").fetchone()
    assert chunks.merge(connection) == 0
    assert connection.execute("SELECT count(*) FROM chunks").fetchone() == before
    assert made.page(limit=5).rows
    connection.close()


def at_most(work: Callable[[], int]) -> int:
    """Bytes that some work holds at its worst moment."""
    tracemalloc.start()
    try:
        assert work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_making_chunks_takes_little_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that makes them serves for weeks, and what its worst moment took seldom goes back to the system.

    Eight thousand rows as Python objects would be ten million bytes, all columns of twice as many at once three.
    """
    connection = store.connect()
    records = seeded(500)
    for block in range(33):
        again = [msgspec.structs.replace(one, trace_id=f"{block:016x}{at:016x}") for at, one in enumerate(records)]
        insert_block(connection, [encode_block(block.to_bytes(16, "big"), again)])
    catch_up(connection)
    assert at_most(lambda: chunks.build(connection)) < 4_000_000
    assert chunks.build(connection)
    monkeypatch.setattr(chunks, "MERGED_ROWS", 16_000)
    assert at_most(lambda: chunks.merge(connection)) < 2_600_000
    connection.close()
