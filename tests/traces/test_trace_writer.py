"""The writer never blocks, loses nothing it acknowledged, and says what it gave up."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from trace_samples import START_MS, make_record

from opentracy.traces import project
from opentracy.traces.codec import encode_block
from opentracy.traces.ids import new_trace_id
from opentracy.traces.locks import FileLock
from opentracy.traces.model import TraceRecord
from opentracy.traces.reader import Reader
from opentracy.traces.spill import Spill, frame, orphans, read_frames
from opentracy.traces.sqlite import Store
from opentracy.traces.writer import Limits, TraceWriter, insert_block


def count(store: Store) -> int:
    """Distinct ids in the journal; every id must be there once."""
    rows = store.reader().execute("SELECT ids FROM blocks").fetchall()
    ids = [blob[at : at + 16] for (blob,) in rows for at in range(0, len(blob), 16)]
    assert len(ids) == len(set(ids)), "a record was written twice"
    return len(ids)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for something another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Another process holds the write lock."""
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def test_flush_means_committed(store: Store) -> None:
    """After flush another connection sees every row."""
    with TraceWriter(store) as writer:
        for number in range(500):
            writer.put(make_record(number))
        assert writer.flush(30)
        assert count(store) == 500
        assert writer.counters.committed == writer.counters.put == 500


def test_put_durable_resolves_after_the_commit(store: Store) -> None:
    """The future's answer is the id, and the row is there by then."""
    with TraceWriter(store) as writer:
        record = make_record(1)
        assert writer.put_durable(record).result(30) == record.trace_id
        assert count(store) == 1


def test_idle_time_projects(store: Store) -> None:
    """Rows appear without anybody asking."""
    with TraceWriter(store, limits=Limits(idle_seconds=0.01)) as writer:
        writer.put(make_record(1))
        until(lambda: store.reader().execute("SELECT count(*) FROM traces").fetchone()[0] == 1)


def test_many_threads_put_at_once(store: Store) -> None:
    """Counters agree with the rows, whatever the interleaving."""
    with TraceWriter(store) as writer:

        def work(first: int) -> None:
            for number in range(first, first + 300):
                writer.put(make_record(number))

        threads = [threading.Thread(target=work, args=(n * 300,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.flush(30)
        assert count(store) == 1800
        assert writer.counters.queue_rows == 0
        assert writer.counters.queue_bytes == 0


def test_bodies_go_before_rows_and_both_are_counted(store: Store, reader: Reader) -> None:
    """A queue that is nearly full takes records without bodies; a full one refuses, and says how many."""
    writer = TraceWriter(store, limits=Limits(queue_rows=100, lock_seconds=30.0, group_seconds=0.5))
    with locked(store):
        first = make_record(0)
        writer.put(first)
        until(lambda: writer.counters.queue_rows == 0)  # the thread took it and hangs at the lock
        results = [writer.put(make_record(number)) for number in range(1, 131)]
    assert results == [True] * 100 + [False] * 30
    assert writer.flush(60)
    assert writer.counters.bodies_shed == 20
    assert writer.counters.dropped == {"queue_full": 30}
    assert writer.close()
    assert count(store) == 101
    shed = reader.get(make_record(100).trace_id)
    assert shed is not None
    assert (shed.body_state, shed.request) == ("dropped", None)


def test_a_long_lock_spills_and_comes_back(store: Store) -> None:
    """Blocks wait in a file while the database is locked; nothing is lost and the file goes away."""
    writer = TraceWriter(store, limits=Limits(lock_seconds=0.05, trouble_seconds=0.05, block_rows=10))
    with locked(store):
        futures = [writer.put_durable(make_record(number)) for number in range(95)]
        until(lambda: writer.counters.spilled == 95)
        until(lambda: writer.degraded is not None)
        assert "locked" in (writer.degraded or "")
        assert list(store.path.parent.glob("*.spill.*"))
        assert not any(future.done() for future in futures)
    assert writer.flush(60)
    assert [future.result(1) for future in futures] == [make_record(n).trace_id for n in range(95)]
    assert count(store) == 95
    until(lambda: writer.degraded is None)
    assert not list(store.path.parent.glob("*.spill.*"))
    writer.close()


def test_a_short_lock_is_no_news(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Workers share one database: while another holds it the records go where a SIGKILL cannot take them, silently."""
    writer = TraceWriter(store, limits=Limits(lock_seconds=0.01, trouble_seconds=3600.0))
    with locked(store):
        for number in range(20):
            writer.put(make_record(number))
        until(lambda: writer.counters.spilled == 20)
        # what a process killed now leaves behind
        blocks = [b for path in store.path.parent.glob("*.spill.*") for b in read_frames(path.read_bytes())]
        assert sum(block.rows for block in blocks) == 20
        assert writer.degraded is None
    assert writer.flush(60)
    assert writer.close()
    assert count(store) == 20
    assert caplog.records == []


def test_a_full_spill_drops_and_counts(store: Store) -> None:
    """Only then are records lost, and the number is known."""
    writer = TraceWriter(store, limits=Limits(lock_seconds=0.01, spill_bytes=3000, block_rows=10))
    with locked(store):
        for number in range(400):
            writer.put(make_record(number))
        until(lambda: sum(writer.counters.dropped.values()) + writer.counters.spilled == 400)
    assert writer.flush(60)
    dropped = writer.counters.dropped["spill_full"]
    assert 0 < dropped < 400
    writer.close()
    assert count(store) == 400 - dropped


def test_a_spill_file_that_was_removed_is_counted_and_forgotten(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read again is lost, loudly; what comes after it is not."""
    writer = TraceWriter(store, limits=Limits(lock_seconds=0.01))
    with locked(store):
        future = writer.put_durable(make_record(0))
        until(lambda: writer.counters.spilled == 1)
        for path in store.path.parent.glob("*.spill.*"):
            path.unlink()
        until(future.done)
    assert isinstance(future.exception(), RuntimeError)
    writer.put(make_record(1))
    assert writer.flush(60)
    assert writer.counters.dropped == {"spill_lost": 1}
    assert "lost" in caplog.text
    assert writer.close()
    assert count(store) == 1


def test_a_spill_file_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """Also when it is removed and begun anew between the look and the lock."""
    owner = Spill(tmp_path / "traces.db.spill", 1 << 20)
    block = encode_block(b"k" * 16, [make_record(0)])
    owner.append(block, [])
    assert list(orphans(tmp_path / "traces.db.spill")) == []
    old = FileLock(owner.path)
    handle = os.open(owner.path, os.O_RDWR)
    owner.done()  # empty: the file goes
    owner.append(block, [])  # and is begun anew
    old._handle = handle
    assert not old.of_the_file
    assert owner.peek() == block
    owner.close()
    assert [blocks for _, blocks in orphans(tmp_path / "traces.db.spill")] == [[block]]


def test_a_spill_file_that_another_process_looks_at_is_not_written(tmp_path: Path) -> None:
    """The one that looks would read it half written and remove it: this block waits in memory."""
    owner = Spill(tmp_path / "traces.db.spill", 1 << 20)
    looker = FileLock(owner.path)
    assert looker.acquire()
    block = encode_block(b"k" * 16, [make_record(0)])
    owner.append(block, [])
    assert owner.path.stat().st_size == 0
    looker.path.unlink()
    looker.release()
    assert owner.peek() == block
    owner.done()
    assert not owner.waiting


def test_an_unwritable_disk_waits_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No database, no spill file: records wait in memory and go in when the disk is back."""
    broken = True
    original = Spill._write

    def write(self: Spill, data: bytes) -> bool:
        return not broken and original(self, data)

    monkeypatch.setattr(Spill, "_write", write)
    writer = TraceWriter(store, limits=Limits(lock_seconds=0.01))
    with locked(store):
        for number in range(50):
            writer.put(make_record(number))
        until(lambda: writer.counters.spilled == 50)
        assert not list(store.path.parent.glob("*.spill.*"))
    broken = False
    assert writer.flush(60)
    writer.close()
    assert count(store) == 50


def test_a_full_disk_does_not_stop_serving(tmp_path: Path) -> None:
    """The database may not grow: records are spilled, and committed once it may again."""
    store = Store.open(tmp_path / "traces.db")

    class Small(Store):
        full = True

        def connect(self, *, durable: bool = False, timeout: float = 10.0) -> sqlite3.Connection:
            connection = super().connect(durable=durable, timeout=timeout)
            if self.full:
                pages = connection.execute("PRAGMA page_count").fetchone()[0]
                connection.execute(f"PRAGMA max_page_count = {pages}")
            return connection

    small = Small(store.path, read_only=False)
    writer = TraceWriter(small, limits=Limits(lock_seconds=0.01))
    for number in range(300):
        assert writer.put(make_record(number, request=os.urandom(2000)))
    until(lambda: writer.counters.spilled + writer.counters.committed == 300)
    assert writer.degraded is not None
    assert "full" in writer.degraded
    small.full = False
    assert writer.flush(60)
    writer.close()
    assert count(store) == 300
    store.close()


def test_the_next_process_takes_in_what_a_killed_one_spilled(store: Store) -> None:
    """Also when its last frame is torn, and when a block had been committed after all."""
    committed = encode_block(b"k" * 16, [make_record(1), make_record(2)])
    connection = store.connect()
    insert_block(connection, [committed])
    connection.close()
    torn = frame(encode_block(b"t" * 16, [make_record(5)]))[:-3]
    path = store.path.with_name(store.path.name + ".spill.1.dead")
    path.write_bytes(frame(committed) + frame(encode_block(b"n" * 16, [make_record(3)])) + torn)
    with TraceWriter(store):
        until(lambda: not path.exists())
    assert count(store) == 3


def test_a_spill_of_a_living_process_is_left_alone(store: Store) -> None:
    """Its owner still holds the lock."""
    spill = Spill(store.path.with_name(store.path.name + ".spill"), 10_000)
    spill.append(encode_block(b"k" * 16, [make_record(1)]), [])
    writer = TraceWriter(store)
    writer.put(make_record(2))
    writer.flush(30)
    writer.close()
    assert count(store) == 1
    assert spill.waiting == 1
    assert spill.path.exists()


def test_close_takes_what_waits(store: Store) -> None:
    """A graceful end commits the queue."""
    writer = TraceWriter(store)
    for number in range(200):
        writer.put(make_record(number))
    assert writer.close()
    assert count(store) == 200


def test_a_broken_hook_does_not_end_the_thread(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a user's callable costs the text of that record (it may have held a secret), and nothing else."""

    def hook(record: TraceRecord) -> None:
        if record.ts_ms == START_MS:
            raise RuntimeError("boom")

    with TraceWriter(store, before_write=hook) as writer:
        writer.put(make_record(0))
        writer.put(make_record(1))
        assert writer.flush(30)
        assert writer.counters.bodies_shed == 1
    assert "boom" in caplog.text
    records = [Reader(store).get(make_record(number).trace_id) for number in (0, 1)]
    assert [record.body_state for record in records if record] == ["dropped", "full"]


CHILD = textwrap.dedent(
    """
    import sys, time
    from opentracy.traces import Store, TraceWriter, TraceRecord, Limits, new_trace_id
    writer = TraceWriter(Store.open(sys.argv[1]), limits=Limits(group_seconds=0.005, idle_seconds=0.01))
    out = sys.stdout
    pending = []
    while True:
        for _ in range(20):
            pending.append(writer.put_durable(TraceRecord(new_trace_id(), time.time_ns() // 1000000, request=b"x" * 500)))
        for future in pending:
            out.write(future.result() + "\\n")
        out.flush()
        pending.clear()
    """
)


@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_kill_9_loses_nothing_acknowledged(store: Store, kills: int) -> None:
    """Four processes write at once and are killed at random moments: what they acknowledged is there, once."""
    acknowledged: set[str] = set()
    for turn in range(kills):
        children = [
            subprocess.Popen([sys.executable, "-c", CHILD, str(store.path)], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        first = [child.stdout.readline().strip() for child in children if child.stdout]
        time.sleep(0.05 + 0.013 * turn)
        for child in children:
            child.send_signal(signal.SIGKILL)
        for child in children:
            rest, _ = child.communicate()
            # the last line may be torn by the kill
            acknowledged.update(line for line in rest.splitlines() if len(line) == 32)
        acknowledged.update(first)
    with TraceWriter(store):
        pass
    count(store)
    rows = store.reader().execute("SELECT ids FROM blocks").fetchall()
    stored = {blob[at : at + 16].hex() for (blob,) in rows for at in range(0, len(blob), 16)}
    assert len(acknowledged) >= 80 * kills
    assert acknowledged <= stored
    assert Reader(store).current().execute("PRAGMA quick_check").fetchone()[0] == "ok"
    assert Reader(store).current().execute("SELECT count(*) FROM traces").fetchone()[0] == len(stored)


def test_put_costs_no_system_call_and_no_wait(store: Store) -> None:
    """With the database locked for good, a thousand puts still return at once (none waits for the lock)."""
    writer = TraceWriter(store, limits=Limits(lock_seconds=5.0))
    with locked(store):
        writer.put(make_record(0))
        until(lambda: writer.counters.queue_rows == 0)
        for number in range(1, 1000):
            assert writer.put(make_record(number))
        assert writer.counters.committed == 0, "the puts returned before the lock was given back"
    assert writer.close()
    assert count(store) == 1000
    assert new_trace_id() != new_trace_id()


HOSTILE = [
    {"error_msg": "\ud800 lone", "user_id": "\udfff"},
    {"metadata": {"a": object()}},
    {"metadata": {"\ud800": 1}},
    {"tokens_in": 2**70},
    {"tokens_in": 2**63},
    {"cost_nano": 2**63 + 5},
    {"latency_ms": float("nan")},
    {"latency_ms": float("inf"), "ttft_ms": float("-inf")},
    {"latency_ms": -5.0},
    {"trace_id": "zz"},
    {"trace_id": "12"},
    {"ts_ms": 2**60},
    {"ts_ms": -1},
    {"tags": ["\ud800"]},
    {"request": "text, not bytes"},
    {"model": "\0 nul"},
]


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: "-".join(change))
def test_a_record_that_cannot_be_stored_is_mended_and_costs_no_other(
    store: Store, reader: Reader, change: dict
) -> None:  # type: ignore[type-arg]
    """Its neighbours are whole, its own row is there, and everything behind it is projected."""
    with TraceWriter(store, limits=Limits(group_seconds=0.3)) as writer:
        writer.put(make_record(1))
        writer.put(make_record(2, **change))
        writer.put(make_record(3))
        assert writer.flush(30)
        writer.put(make_record(4))
    assert len(reader.page().rows) == 4
    for number in (1, 3, 4):
        neighbour = reader.get(make_record(number).trace_id)
        assert neighbour is not None
        assert neighbour.request == make_record(number).request
        assert neighbour.tokens_in == 300
    assert reader.store.reader().execute("SELECT sum(requests) FROM rollups WHERE dim = 'model'").fetchone()[0] == 4


def test_what_another_process_projected_is_not_kept(store: Store) -> None:
    """Where traffic never rests the leader makes rows of everything, and each worker would keep ten thousand records."""
    with TraceWriter(store, limits=Limits(idle_seconds=1e6)) as writer, contextlib.closing(store.connect()) as leader:
        for thousand in range(4):
            for number in range(1000 * thousand, 1000 * thousand + 1000):
                writer.put(make_record(number))
            assert writer.flush(30)
            project.catch_up(leader)
        kept = writer._recent
        assert 0 < kept.rows < 3000
        # and what nobody projects is kept as before
        for number in range(4000, 7000):
            writer.put(make_record(number))
        assert writer.flush(30)
        assert kept.rows >= 3000
