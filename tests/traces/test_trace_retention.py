"""What is to be forgotten is gone everywhere; what is to stay, stays; the leader does its duties."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trace_samples import START_MS, make_record
from trace_seed import seeded

from opentracy.traces import (
    feedback,
    maintenance,
    migrations,
    outbox,
    project,
    retention,
    segments,
    sqlite,
    stats,
    texts,
    words,
)
from opentracy.traces.codec import decode_bodies
from opentracy.traces.compile import Query
from opentracy.traces.filters import Filters
from opentracy.traces.maintenance import Maintenance
from opentracy.traces.model import TraceRecord
from opentracy.traces.reader import Reader
from opentracy.traces.retention import DAY_MS, Retention, compact, prune, remove
from opentracy.traces.retire import Pace
from opentracy.traces.sqlite import Store
from opentracy.traces.writer import Limits, TraceWriter

Put = Callable[..., list[TraceRecord]]
CANARY = "xyzzyplugh"


def days(*, number: int, day: int, **changes: Any) -> TraceRecord:
    """A record of a day after START."""
    return make_record(number, ts_ms=START_MS + day * DAY_MS + number, **changes)


def contents(directory: Path) -> bytes:
    """Every byte under a directory."""
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_bodies_and_rows_have_lifetimes_of_their_own(put: Put, store: Store, reader: Reader) -> None:
    """At 20 days with 14 and 180: text is gone, figures stay; the trace says that it expired."""
    old = put(days(number=1, day=0))
    new = put(days(number=2, day=19))
    connection = store.connect()
    words.add_some(connection)
    done = prune(store, connection, Retention(180, 14), START_MS + 20 * DAY_MS)
    assert (done.bodies, done.rows, done.more) == (1, 0, False)
    record = reader.get(old[0].trace_id)
    assert record is not None
    assert (record.body_state, record.request) == ("expired", None)
    kept = reader.get(new[0].trace_id)
    assert kept is not None
    assert kept.request
    assert [row.trace_id for row in reader.page(Filters(text="capital")).rows] == [new[0].trace_id]
    done = prune(store, connection, Retention(180, 14), START_MS + 185 * DAY_MS)
    assert done.rows == 1
    assert reader.get(old[0].trace_id) is None
    assert len(reader.page().rows) == 1
    assert stats.answer(reader, Query(("requests",)))[0]["requests"] == 2, "the hourly sums stay"
    connection.close()


def test_a_trace_that_is_removed_before_it_has_a_row_gets_none(store: Store, reader: Reader) -> None:
    """The process that wrote it still has it in memory to make the row of."""
    writer = TraceWriter(store, limits=Limits(idle_seconds=1e9), project=False)
    records = [make_record(n) for n in range(3)]
    for record in records:
        writer.put(record)
    assert writer.flush(30)
    connection = store.connect()
    recent = project.Recent(3)
    recent.put(1, [make_record(n) for n in range(3)])
    late = Reader(store)
    late._not_before = math.inf  # as where the database was locked, or too much waits
    assert remove(late, connection, [records[1].trace_id]) == 1
    project.catch_up(connection, recent=recent)
    writer.close()
    assert sorted(row.trace_id for row in reader.page().rows) == sorted([records[0].trace_id, records[2].trace_id])
    assert stats.answer(reader, Query(("requests",)))[0]["requests"] == 3, "the hourly sums keep it"
    connection.close()


def test_what_was_said_of_a_trace_goes_with_it(put: Put, store: Store, reader: Reader) -> None:
    """By hand at once, and with the rows of its time: a comment quotes what it is about."""
    old, kept, new = (put(days(number=n, day=day))[0] for n, day in ((1, 0), (2, 1), (3, 9)))
    connection = store.connect()
    for record in (old, kept, new):
        for _ in range(3):
            feedback.add(connection, record.trace_id, "comment", "so so", author=None, now_ms=record.ts_ms + 1)

    def said() -> set[str]:
        return {trace_id for (trace_id,) in connection.execute("SELECT trace_id FROM feedback")}

    assert remove(reader, connection, [kept.trace_id]) == 1
    assert said() == {old.trace_id, new.trace_id}
    assert prune(store, connection, Retention(None, 1), START_MS + 10 * DAY_MS).bodies == 2
    assert said() == {old.trace_id, new.trace_id}, "texts of traces expire before what was said of them"
    prune(store, connection, Retention(5, 1), START_MS + 10 * DAY_MS)
    assert said() == {new.trace_id}
    connection.close()


def test_pruning_stops_at_its_budget_and_goes_on(put: Put, store: Store) -> None:
    """Slices, so that nobody waits."""
    for number in range(12):
        put(days(number=number, day=0))
    connection = store.connect()
    rounds = 0
    while prune(store, connection, Retention(1, 1), START_MS + 9 * DAY_MS, seconds=-1).more:
        rounds += 1
    assert rounds >= 3
    assert connection.execute("SELECT count(*) FROM blocks").fetchone()[0] == 0
    assert connection.execute("SELECT count(*) FROM traces").fetchone()[0] == 0
    connection.close()


def test_what_a_destination_lacks_is_kept(put: Put, store: Store) -> None:
    """An outage longer than the retention loses nothing."""
    put(days(number=1, day=0))
    connection = store.connect()
    outbox.register(connection, "outbox:far")
    assert prune(store, connection, Retention(1, 1), START_MS + 9 * DAY_MS).rows == 0

    class Sink:
        def insert(self, token: str, portions: Any) -> int:
            return sum(len(one.records) for one in portions)

    outbox.deliver(connection, "outbox:far", Sink())
    assert prune(store, connection, Retention(1, 1), START_MS + 9 * DAY_MS).rows == 1
    connection.close()


@pytest.mark.parametrize("indexed", [True, False])
def test_a_removed_trace_is_nowhere(put: Put, store: Store, reader: Reader, indexed: bool) -> None:
    """Not by id, list, search, sums of rows or segments, nor in the files once compacted; its neighbours stay."""
    records = [make_record(n, request=f"word{n} {CANARY if n == 3 else ''}".encode()) for n in range(6)]
    put(*records)
    reader.current()
    connection = store.connect()
    if indexed:
        words.add_some(connection)
    gone = records[3].trace_id
    assert remove(reader, connection, [gone, "0" * 32]) == 1
    assert reader.get(gone) is None
    assert gone not in [row.trace_id for row in reader.page().rows]
    assert reader.page(Filters(text=CANARY)).rows == []
    assert len(reader.page(Filters(text="word*")).rows) == 5
    assert stats.answer(reader, Query(("requests",), ("user",)))[0]["requests"] == 5
    kept = reader.get(records[4].trace_id)
    assert kept is not None
    assert kept.request == b"word4 "
    compact(connection)
    connection.close()
    store.close()
    assert CANARY.encode() not in contents(store.path.parent)
    assert CANARY not in str(Reader(Store.open(store.path)).load([1 << 12 | n for n in range(6)], bodies=True))


def test_segments_forget_too(store: Store, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan does not bring removed or expired rows back, and files that are too old go."""
    if not segments.available():
        pytest.skip("duckdb is not installed")
    monkeypatch.setattr(segments, "SCAN_ROWS", 1)
    records = seeded(400, hours=96)
    with TraceWriter(store, limits=Limits(block_rows=20)) as writer:
        for record in records:
            writer.put(record)
    reader.current()
    connection = store.connect()
    while segments.seal(store, connection, min_rows=100):
        pass
    assert remove(reader, connection, [records[350].trace_id]) == 1
    query = Query(("requests",), ("stream",))
    assert sum(int(str(row["requests"])) for row in stats.answer(reader, query)) == 399
    now = records[-1].ts_ms + 1
    done = prune(store, connection, Retention(2, 1), now)
    assert done.rows == 200
    assert done.segments == 2
    assert sum(int(str(row["requests"])) for row in stats.answer(reader, query)) == 199
    assert len(list(segments.directory(store).glob("*.parquet"))) == 2
    connection.close()


def test_maintenance_does_its_duties_once_per_database(store: Store) -> None:
    """The leader projects, indexes, prunes and delivers; a second one only waits until the first ends."""
    with TraceWriter(store, project=False) as writer:
        now = time.time_ns() // 1_000_000
        writer.put(make_record(1, ts_ms=now - 400 * DAY_MS))
        writer.flush(30)
        writer.put(make_record(2, ts_ms=now))
        writer.flush(30)

    class Sink:
        rows = 0
        fails = True

        def insert(self, token: str, portions: Any) -> int:
            if self.fails:
                self.fails = False
                raise ConnectionError("http://user:secret@host")
            count = sum(len(one.records) for one in portions)
            self.rows += count
            return count

    sink = Sink()
    calls: list[int] = []
    leader = Maintenance(
        store, sinks={"outbox:x": sink}, pause=0.01, prune_seconds=0, every=[(0.0, lambda: calls.append(1))]
    )
    other = Maintenance(store, pause=0.01)
    leader.start()
    deadline = time.monotonic() + 30

    def done() -> bool:
        connection = store.reader()
        rows = connection.execute("SELECT count(*) FROM blocks").fetchone()[0]
        return sink.rows == 2 and rows == 1 and words.indexed_upto(connection) == 2 and len(calls) > 1

    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert leader.leads
    assert leader.failing == {}
    other.start()
    time.sleep(0.05)
    assert not other.leads
    leader.stop()
    while not other.leads:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other.stop()


def test_a_failing_duty_is_named_without_its_secrets(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """An error of a driver may quote the password it was given."""

    class Sink:
        def insert(self, token: str, portions: Any) -> int:
            raise ConnectionError("http://user:secret@host")

    with TraceWriter(store) as writer:
        writer.put(make_record(1))
    leader = Maintenance(store, sinks={"outbox:x": Sink()}, retention=Retention(None, None))
    leader.round()
    assert leader.failing == {"outbox:x": "ConnectionError"}
    assert "secret" not in caplog.text
    assert words.indexed_upto(store.reader()) == 1, "the other duties went on"


def test_memory_goes_back_after_work_and_not_while_nothing_happens(store: Store, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(maintenance, "give_back", lambda: given.append(time.monotonic()))
    leader = Maintenance(store, retention=Retention(None, None))
    put(*seeded(50))
    leader.round()
    assert len(given) == 1
    leader.round()
    put(*seeded(50, seed=8))
    leader.round()
    assert len(given) == 1, "the second burst waits until some seconds have passed"
    leader._trimmed -= maintenance.TRIM_SECONDS
    leader.round()
    assert len(given) == 2
    for _ in range(3):
        leader._trimmed -= maintenance.TRIM_SECONDS
        leader.round()
    assert len(given) == 2, "nothing was done since"


def test_background_duties_stop_when_traffic_begins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long backlog is worked off in portions; records that come in meanwhile end it."""
    portions: list[int | None] = []

    with TraceWriter(store, project=False) as writer:

        def portion(connection: sqlite3.Connection, *, max_rows: int | None = None) -> int:
            portions.append(max_rows)
            if len(portions) == 3:
                for number in range(1000):
                    writer.put(make_record(number))
                assert writer.flush()
            return 1

        monkeypatch.setattr(maintenance.project, "catch_up", portion)
        Maintenance(store).round()
    assert portions == [1, 1, 1]


def test_a_serving_process_leaves_retention_to_another(put: Put, store: Store) -> None:
    """What is old is removed outside; new lifetimes end the one that runs; nothing is begun when nothing is old."""
    put(*[make_record(n) for n in range(600)])
    leader = Maintenance(store, retention=Retention(None, 1), pause=0.02, prune_seconds=0, apart=True)
    leader.start()
    deadline = time.monotonic() + 60

    def left() -> tuple[int, int]:
        sums = "SELECT (SELECT count(*) FROM bodies), (SELECT count(*) FROM traces)"
        found: tuple[int, int] = store.reader().execute(sums).fetchone()
        return found

    while left()[0] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left() == (0, 600)
    assert leader.failing == {}
    leader.keep(Retention(1, 1))
    while left()[1] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left() == (0, 0)
    time.sleep(0.2)
    leader.stop()
    assert leader._retiring is None


def test_words_leave_the_index_once(store: Store, put: Put) -> None:
    """Two that remove the same texts at once: the index is told once, and stays sound."""
    put(*[days(number=n, day=7) for n in range(5)])
    put(make_record(9, ts_ms=START_MS + 8 * DAY_MS - 1, request=b"zanzibar"))
    connection, other = store.connect(), store.connect()
    words.add_some(connection)
    now = START_MS + 9 * DAY_MS - 3_600_000
    real = retention.decode_bodies

    def meanwhile(codec: int, data: bytes) -> Any:
        if not done:
            done.append(1)
            prune(store, other, Retention(None, 1), now)
        return real(codec, data)

    done: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "decode_bodies", meanwhile)
        prune(store, connection, Retention(None, 1), now)
    assert done, "taken out word by word, since the part of the index stays"
    (part,) = words.parts(connection)
    connection.execute(f"INSERT INTO {part.table} ({part.table}) VALUES ('integrity-check')")
    assert indexed(connection, "capital") == set()
    assert indexed(connection, "zanzibar") == {2}
    connection.close()
    other.close()


def indexed(connection: sqlite3.Connection, word: str) -> set[int]:
    """The blocks that the index names for a word."""
    found = words.Hits(connection, word)
    return {block for block in range(1, words.indexed_upto(connection) + 1) if found.may_hold(block)}


def tables(connection: sqlite3.Connection) -> set[str]:
    """The tables of the index of words."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%fts5%'")}


def test_words_go_with_a_whole_part_of_the_index(store: Store, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day's words are one table: nothing is unpacked to forget it, and the other days stay as they are."""
    for day in range(4):
        put(*[days(number=10 * day + n, day=day, request=f"word{day}".encode()) for n in range(3)])
    connection = store.connect()
    words.add_some(connection)
    assert len(words.parts(connection)) == 5, "four days, and what was indexed before there were parts"
    monkeypatch.setattr(retention, "decode_bodies", None)
    monkeypatch.setattr(words, "take_out", None)
    assert prune(store, connection, Retention(None, 1), START_MS + 2 * DAY_MS + 7_200_000).bodies == 6
    assert [part.first for part in words.parts(connection)] == [3, 4]
    assert tables(connection) == {"words3", "words4"} == {part.table for part in words.parts(connection)}
    reader = Reader(store)
    assert [len(reader.page(Filters(text=f"word{day}")).rows) for day in range(4)] == [0, 0, 3, 3]
    put(days(number=99, day=3, request=b"word3 later"))
    words.add_some(connection)
    assert indexed(connection, "word3") == {4, 5}
    connection.close()


def test_words_may_outlive_their_text_by_a_day_where_that_is_asked_for(store: Store, put: Put, reader: Reader) -> None:
    """The engine forgets texts to the minute and words by the day; a search finds neither."""
    put(days(number=1, day=0, request=b"zanzibar"))
    put(make_record(2, ts_ms=START_MS + DAY_MS // 2, request=b"zanzibar too"))
    connection = store.connect()
    words.add_some(connection)
    now = START_MS + DAY_MS + 3_600_000
    assert prune(store, connection, Retention(None, 1), now, words_later_ms=words.PART_MS).bodies == 1
    assert indexed(connection, "zanzibar") == {1, 2}
    assert len(reader.page(Filters(text="zanzibar")).rows) == 1
    assert prune(store, connection, Retention(None, 1), now + DAY_MS, words_later_ms=words.PART_MS).bodies == 1
    assert indexed(connection, "zanzibar") == set()
    assert not tables(connection)
    connection.close()


def test_what_was_indexed_before_there_were_parts_is_found_and_forgotten(tmp_path: Path) -> None:
    """A store of the version before: its one table is the first part, whatever lies in it."""
    path = tmp_path / "traces.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:6])
        patch.setattr(sqlite, "migrate", lambda connection: migrations.migrate(connection, migrations.MIGRATIONS[:6]))
        old = Store.open(path)
        with TraceWriter(old, project=False) as writer:
            for day in (0, 5):
                writer.put(days(number=day, day=day, request=f"zanzibar {day}".encode()))
                assert writer.flush(30)
        connection = old.connect()
        for block, codec, data in connection.execute("SELECT block, codec, data FROM bodies").fetchall():
            text = texts.text_of(decode_bodies(codec, data))
            connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (block, text))
        connection.execute("INSERT INTO state VALUES ('indexed', 2)")
        connection.close()
        old.close()
    store = Store.open(path)
    reader = Reader(store)
    assert len(reader.page(Filters(text="zanzibar")).rows) == 2
    connection = store.connect()
    assert indexed(connection, "5") == {2}
    assert prune(store, connection, Retention(None, 1), START_MS + 3 * DAY_MS).bodies == 1
    assert indexed(connection, "zanzibar") == {2}
    with TraceWriter(store) as writer:
        writer.put(days(number=6, day=6, request=b"zanzibar 6"))
    words.add_some(connection)
    assert [part.first for part in words.parts(connection)] == [0, 3]
    assert prune(store, connection, Retention(None, 1), START_MS + 9 * DAY_MS).bodies == 2
    assert not tables(connection)
    connection.close()
    store.close()


def test_retention_rests_in_proportion_and_keeps_up(store: Store, put: Put) -> None:
    """Alone it works half the time, beside requests a two-hundredth of it, and more only to keep up."""
    connection = store.connect()
    now = [100.0]
    pace = Pace(connection, lambda: now[0])
    # nothing known yet: as if somebody were served
    assert pace.pause(0.02, 500) == pytest.approx(0.02 * 199)
    now[0] += 2
    assert pace.pause(0.02, 500) == pytest.approx(0.02)
    put(*[make_record(n) for n in range(40)])
    now[0] += 2
    assert pace.pause(0.02, 500) == pytest.approx(0.02 * 199)
    # 40 us a row, and 5,000 rows a second that are removed twice: it must work 60 % of the time, and half is the most
    put(*[make_record(n) for n in range(1000, 6000)])
    now[0] += 1
    assert pace.pause(0.02, 500) == pytest.approx(0.02)
    put(*[make_record(n) for n in range(10_000, 12_000)])
    now[0] += 1
    assert pace.pause(0.02, 500) == pytest.approx(0.02 * (1 / (2 * 2000 * 40e-6 * 1.5) - 1))
    now[0] += 1
    assert pace.pause(0.03, 500) == pytest.approx(0.03)
    connection.close()


def test_work_outside_begins_at_a_low_priority(tmp_path: Path) -> None:
    """Lowered before anything is imported, with its arguments whole."""
    (tmp_path / "told.py").write_text("import os, sys; print(os.nice(0), sys.argv[1:], 'opentracy' in sys.modules)")
    command = [sys.executable, "-c", maintenance._GENTLY.format(nice=7), "told", "a b", "2"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said.split() == [str(os.nice(0) + 7), "['a", "b',", "'2']", "False"]
