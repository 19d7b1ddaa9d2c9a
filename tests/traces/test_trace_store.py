"""The database file: migrations forward only, damage moved aside, newer schemas refused, one engine per directory."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_samples import make_record

from opentracy.traces import codec, migrations
from opentracy.traces.codec import Block, decode_bodies, decode_records, decompress, encode_block, split_ids
from opentracy.traces.errors import SchemaTooNew, StoreInUse, StoreUnavailable
from opentracy.traces.ids import new_trace_id
from opentracy.traces.inflight import SLOT_BYTES, Inflight, recover
from opentracy.traces.locks import hold_data_directory, leader_lock
from opentracy.traces.model import TraceRecord, from_dict, to_dict
from opentracy.traces.reader import Reader
from opentracy.traces.spill import frame, read_frames
from opentracy.traces.sqlite import Store, default_path
from opentracy.traces.writer import TraceWriter, insert_block


def schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Everything that defines the database, in a fixed order."""
    return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()


@pytest.mark.parametrize("old", range(len(migrations.MIGRATIONS) + 1))
def test_every_old_schema_reaches_the_newest_with_its_rows(
    tmp_path: Path, old: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of each earlier number, filled by that number's own tables, opens and answers."""
    path = tmp_path / "traces.db"
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:old])
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        migrations.migrate(connection)
        if old:
            insert_block(connection, [encode_block(b"k" * 16, [make_record(n) for n in range(3)])])
        connection.close()
    store = Store.open(path)
    fresh = Store.open(tmp_path / "fresh.db")
    assert schema(store.reader()) == schema(fresh.reader())
    assert len(Reader(store).page().rows) == (3 if old else 0)
    assert store.moved_aside is None
    store.close()
    fresh.close()


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is one transaction."""
    Store.open(tmp_path / "traces.db").close()

    def broken(run: object) -> None:
        run("CREATE TABLE half (x)")  # type: ignore[operator]
        raise RuntimeError("no")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
    with pytest.raises(RuntimeError, match="no"):
        Store.open(tmp_path / "traces.db")
    connection = sqlite3.connect(tmp_path / "traces.db")
    assert not [row for row in schema(connection) if row[1] == "half"]
    connection.close()


def test_a_newer_schema_is_refused_and_untouched(tmp_path: Path) -> None:
    """It is neither moved nor changed; the message says what to do."""
    path = tmp_path / "traces.db"
    Store.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=r"schema 999.*update opentracy"):
        Store.open(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Our tables are not put into somebody's notes."""
    path = tmp_path / "notes.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreUnavailable, match="something else"):
        Store.open(path)


@pytest.mark.parametrize("damage", ["flipped", "text", "cut", "header", "dropped table"])
def test_a_damaged_database_is_moved_aside_loudly(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is deleted: the old bytes stand in *.corrupt-TIME, and a new store works."""
    path = tmp_path / "traces.db"
    store = Store.open(path)
    with TraceWriter(store) as writer:
        for number in range(300):
            writer.put(make_record(number, request=random.Random(number).randbytes(700)))
    store.reader().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        for at in range(8192, len(data), 3000):
            data[at] ^= 0xFF
    elif damage == "text":
        data = bytearray(b"this is no database, " * 500)
    elif damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "header":
        data[:100] = bytes(100)
    if damage == "dropped table":
        connection = sqlite3.connect(path)
        connection.execute("DROP TABLE bodies")
        connection.commit()
        connection.close()
        data = bytearray(path.read_bytes())
    else:
        path.write_bytes(data)
    fresh = Store.open(path)
    assert fresh.moved_aside is not None
    assert ".corrupt-" in fresh.moved_aside.name
    assert fresh.moved_aside.read_bytes() == data
    assert "damaged" in caplog.text
    with TraceWriter(fresh) as writer:
        writer.put(make_record(1))
    assert len(Reader(fresh).page().rows) == 1
    fresh.close()


def test_whoever_only_reads_moves_nothing(tmp_path: Path) -> None:
    """A listing of a damaged store says so and leaves the repair to the engine."""
    path = tmp_path / "traces.db"
    path.write_bytes(b"this is no database, " * 500)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Store.open(path, create=False, check=False)
    assert [one.name for one in tmp_path.iterdir() if "corrupt" in one.name] == []


def test_an_empty_file_and_a_cut_log_just_start(tmp_path: Path) -> None:
    """An interrupted creation is no damage; a cut write-ahead log loses its tail only."""
    path = tmp_path / "traces.db"
    path.touch()
    store = Store.open(path)
    keep = store.connect()  # an open connection keeps the log from being folded in
    with TraceWriter(store) as writer:
        writer.put(make_record(1))
    wal = path.with_name("traces.db-wal")
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "traces.db").write_bytes(path.read_bytes())
    (torn / "traces.db-wal").write_bytes(wal.read_bytes()[:-1000])
    keep.close()
    other = Store.open(torn / "traces.db")
    assert other.moved_aside is None
    assert len(Reader(other).page().rows) <= 1
    other.close()
    store.close()


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A file where the directory should be; a store that is not there."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="Cannot use the trace store"):
        Store.open(tmp_path / "file" / "traces.db")
    with pytest.raises(StoreUnavailable, match="opentracy serve"):
        Store.open(tmp_path / "none.db", create=False)


def test_prompts_are_private(tmp_path: Path) -> None:
    """Only the owner reads the file, whatever the umask."""
    old = os.umask(0)
    try:
        Store.open(tmp_path / "deep" / "traces.db").close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "deep" / "traces.db").stat().st_mode) == 0o600


def test_a_read_only_store_still_answers(store: Store) -> None:
    """Listing works on what was projected, without writing a byte."""
    with TraceWriter(store) as writer:
        writer.put(make_record(1))
    read_only = Store.open(store.path, read_only=True)
    assert len(Reader(read_only).page().rows) == 1
    read_only.close()


def test_default_path_follows_the_environment() -> None:
    """OPENTRACY_DATA_HOME names the directory."""
    assert default_path({"OPENTRACY_DATA_HOME": "/data"}) == Path("/data/traces.db")
    assert default_path({}) == Path("~/.opentracy/traces.db").expanduser()


def test_a_second_engine_is_refused_and_names_the_first(tmp_path: Path) -> None:
    """The lock goes away with the process, however it ends."""
    code = (
        "import sys, pathlib; from opentracy.traces.locks import hold_data_directory;"
        "lock = hold_data_directory(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(StoreInUse, match=f"pid {other.pid}"):
        hold_data_directory(tmp_path)
    other.kill()
    other.communicate()
    hold_data_directory(tmp_path).release()


def test_one_leader_at_a_time(store: Store) -> None:
    """The second gets it once the first lets go."""
    first, second = leader_lock(store.path), leader_lock(store.path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_open_requests_of_a_killed_worker_become_interrupted(store: Store, reader: Reader) -> None:
    """One row each; what was finished or recorded already is not repeated; a living worker's table is left alone."""
    code = (
        "import sys, os, pathlib; from opentracy.traces.inflight import Inflight; from opentracy.traces import new_trace_id;"
        "t = Inflight(pathlib.Path(sys.argv[1])); ids = [new_trace_id() for _ in range(3)];"
        "slots = [t.begin(i, 1760000000000, 'm' * 500, 'k1') for i in ids]; t.end(slots[1]);"
        "print(*ids, flush=True); os.kill(os.getpid(), 9)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=False)
    ids = child.stdout.split()
    mine = Inflight(store.path)
    mine.begin(new_trace_id(), 1, "still open")
    with TraceWriter(store) as writer:
        writer.put(make_record(0, trace_id=ids[0]))
        writer.flush(30)
        assert recover(store.path, lambda one: reader.find(one) is not None, writer.put) == 1
        assert recover(store.path, lambda one: reader.find(one) is not None, writer.put) == 0
    record = reader.get(ids[2])
    assert record is not None
    assert (record.outcome, record.key_id, record.cost_nano) == ("interrupted", "k1", None)
    assert reader.get(ids[1]) is None
    mine.close()
    assert not list(store.path.parent.glob("*.open.*"))


def test_inflight_slots_run_out_without_harm(store: Store) -> None:
    """More open requests than slots: the surplus is not noted, and ending it does nothing."""
    table = Inflight(store.path, slots=2)
    slots = [table.begin(new_trace_id(), 1, "m") for _ in range(3)]
    assert slots[2] == -1
    for slot in slots:
        table.end(slot)
    assert table.begin(new_trace_id(), 1, "m") >= 0
    assert table.path.stat().st_size == 2 * SLOT_BYTES
    table.close()


records = st.builds(
    make_record,
    st.integers(0, 1000),
    request=st.none() | st.binary(max_size=50),
    response=st.none() | st.binary(max_size=50),
    metadata=st.none() | st.dictionaries(st.text(max_size=5), st.integers(-5, 5) | st.text(max_size=5), max_size=3),
    tags=st.none() | st.lists(st.text(max_size=5), max_size=3),
    cost_nano=st.none() | st.integers(0, 2**60),
)


@given(st.lists(records, min_size=1, max_size=5))
def test_blocks_round_trip(batch: list[TraceRecord]) -> None:
    """Records and bodies come back in order, and so do the ids."""
    bodies = [
        None if record.request is None and record.response is None else (record.request, record.response)
        for record in batch
    ]
    block = encode_block(b"k", batch)
    assert decode_records(block.codec, block.meta) == batch
    assert (decode_bodies(block.codec, block.bodies) if block.bodies else [None] * len(batch)) == bodies
    assert split_ids(block.ids) == [record.trace_id for record in batch]


def test_blocks_without_zstd_are_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where zstd is not installed, blocks are written and read all the same; zstd blocks then say what is missing."""
    if codec.CODEC != codec.ZSTD:
        pytest.skip("zstd is not installed")
    with_zstd = encode_block(b"k", [make_record(1)])
    monkeypatch.setattr(codec, "_ZSTD", None)
    monkeypatch.setattr(codec, "CODEC", codec.ZLIB)
    block = encode_block(b"k", [make_record(1)])
    assert block.codec == codec.ZLIB
    (record,) = decode_records(block.codec, block.meta)
    assert record is not None
    assert record.trace_id == make_record(1).trace_id
    with pytest.raises(ValueError, match=r"backports\.zstd"):
        decompress(codec.ZSTD, with_zstd.meta)


def test_a_codec_this_machine_cannot_read_says_so() -> None:
    """Never garbage."""
    with pytest.raises(ValueError, match="Unknown compression"):
        decompress(99, b"x")


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=40), max_size=4), st.data())
def test_frames_survive_any_cut_and_any_flip(parts: list[bytes], data: st.DataObject) -> None:
    """A cut file gives its whole frames; a flipped byte ends it at the damaged frame; never a wrong block."""
    blocks = [Block(part, 1, 0, 0, b"i", 1, part, None) for part in parts]
    whole = b"".join(map(frame, blocks))
    assert list(read_frames(whole)) == blocks
    cut = data.draw(st.integers(0, len(whole)))
    got = list(read_frames(whole[:cut]))
    assert got == blocks[: len(got)]
    if whole:
        flipped = bytearray(whole)
        flipped[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        got = list(read_frames(bytes(flipped)))
        assert got == blocks[: len(got)]
        assert len(got) < len(blocks) or not blocks


@given(records)
def test_the_dict_form_round_trips(record: TraceRecord) -> None:
    """What JSONL export writes, import reads (bodies as text)."""
    record.request = record.response = None
    assert from_dict(to_dict(record)) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [({"ts_ms": "soon"}, "ts_ms"), ({"attempts": [1]}, "attempts"), ({"trace_id": None}, "trace_id")],
)
def test_a_bad_dict_names_the_field(change: dict[str, object], message: str) -> None:
    """So that an import says which line and which field."""
    with pytest.raises(ValueError, match=message):
        from_dict({**to_dict(make_record(1)), **change})
