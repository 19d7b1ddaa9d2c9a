"""ClickHouse over HTTP: the client's real path to a real engine, which is killed, away, and back."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from clickhouse_front import PASSWORD, USER
from clickhouse_process import Front, totals
from trace_samples import make_record
from trace_seed import seeded

from opentracy.traces import Reader, Store, StoreUnavailable, TraceWriter, stats
from opentracy.traces.clickhouse import ClickHouse
from opentracy.traces.compile import METRICS, Query
from opentracy.traces.filters import parse
from opentracy.traces.outbox import backlog, deliver, destination
from opentracy.traces.writer import Limits

pytestmark = pytest.mark.skipif(
    find_spec("chdb") is None, reason="chdb (ClickHouse in-process, 0.8 GB) is not installed"
)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    server = Front(tmp_path / "clickhouse")
    server.start()
    yield server
    server.kill()


def test_the_answers_over_http_are_those_of_the_local_store(front: Front, store: Store) -> None:
    """Every metric, tags, bounds, texts with quotes; a wrong password is told without itself."""
    records = seeded(700)
    with TraceWriter(store) as writer:
        for record in records:
            writer.put(record)
    server = ClickHouse(front.dsn)
    server.prepare()
    server.prepare()
    connection = store.connect()
    assert deliver(connection, destination(front.dsn), server) == 700
    reader = Reader(store)
    for text in ("", "model:gpt-4o status:error", """user:"O'Neil" tag:"it's" """, "-key:k1 cost>0.5 latency<2s"):
        for groups in ((), ("model",), ("tag", "key"), ("status", "cluster")):
            query = Query(METRICS, groups, filters=parse(text))
            assert server.answer(query) == stats.answer(reader, query), (text, groups)
    server.close()
    connection.close()
    with pytest.raises(StoreUnavailable) as caught:
        ClickHouse(front.dsn.replace(PASSWORD, "wrong-canary"))
    assert "canary" not in str(caught.value)


def test_a_server_that_is_killed_again_and_again_has_every_trace_once(front: Front, store: Store) -> None:
    """Killed at random moments, in the middle of inserts too, while traces go on arriving."""
    draw = random.Random(11)
    stop = threading.Event()
    written = itertools.count()

    def arrive() -> None:
        with TraceWriter(store, limits=Limits(block_rows=20)) as writer:
            while not stop.is_set():
                for _ in range(20):
                    writer.put(make_record(next(written)))
                time.sleep(0.02)

    def strike() -> None:
        for _ in range(6):
            time.sleep(draw.uniform(0.2, 1.5))
            front.kill()
            time.sleep(draw.uniform(0.0, 1.0))
            front.start()
        stop.set()

    threads = [threading.Thread(target=arrive), threading.Thread(target=strike)]
    for thread in threads:
        thread.start()
    connection = store.connect()
    name = destination(front.dsn)
    failures = 0
    end = time.monotonic() + 100
    while (not stop.is_set() or backlog(connection, name)[0]) and time.monotonic() < end:
        try:
            server = ClickHouse(front.dsn)
            server.prepare()
            while True:
                deliver(connection, name, server, max_blocks=5)
                if stop.is_set() and not backlog(connection, name)[0]:
                    break
                time.sleep(0.005)
        except Exception:
            failures += 1
            time.sleep(0.05)
    for thread in threads:
        thread.join(30)
    while backlog(connection, name)[0]:
        deliver(connection, name, ClickHouse(front.dsn))
    count = next(written)
    assert failures >= 5
    assert totals(front.dsn) == (count, count, count * 123_456)
    connection.close()


def migrate(store: Path, dsn: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "opentracy", "db", "migrate", "--to", dsn, "--store", str(store)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ})


def test_a_killed_migration_goes_on_and_is_verified(front: Front, tmp_path: Path) -> None:
    """SIGKILL at three moments, then once through to the end; a further run sends nothing."""
    path = tmp_path / "traces.db"
    store = Store.open(path)
    with TraceWriter(store, limits=Limits(block_rows=100)) as writer:
        for number in range(30_000):
            writer.put(make_record(number))
            if number % 2000 == 0:
                assert writer.flush(60)
    connection = store.connect()
    name = destination(front.dsn)
    marks = [backlog(connection, name)[1]]
    assert marks == [30_000]
    for _ in range(3):
        process = migrate(path, front.dsn)
        end = time.monotonic() + 60
        while backlog(connection, name)[1] == marks[-1] and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        process.kill()
        process.communicate(timeout=30)
        marks.append(backlog(connection, name)[1])
    assert marks[1] < marks[0]
    assert marks[-1] > 0, "all of it was sent before the kill"
    for _ in range(2):
        process = migrate(path, front.dsn)
        said, _ = process.communicate(timeout=100)
        assert process.returncode == 0, said
        assert "here:  30000 traces" in said
        assert "there: 30000 traces" in said
        assert said.strip().endswith("verified")
        assert PASSWORD not in said
    assert totals(front.dsn) == (30_000, 30_000, 30_000 * 123_456)
    store.close()
    connection.close()


def test_a_migration_to_a_server_that_is_away_fails_with_one_line(tmp_path: Path) -> None:
    """No traceback and no password."""
    Store.open(tmp_path / "traces.db").close()
    process = migrate(tmp_path / "traces.db", f"clickhouse://{USER}:{PASSWORD}@127.0.0.1:9/default")
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 3, said
    assert len(said.strip().splitlines()) == 1
    assert "Cannot reach ClickHouse" in said
    assert PASSWORD not in said
