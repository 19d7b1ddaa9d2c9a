"""Lanes for questions to the store: bounds on waiting, running and what is answered; real threads and a real SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opentracy.engine.errors import Refused
from opentracy.engine.questions import Lane
from opentracy.traces import Store

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store.open(tmp_path / "traces.db")
    yield opened
    opened.close()


def refusal(work: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        work()
    return caught.value


def test_an_endless_question_is_stopped_and_its_thread_serves_on(store: Store) -> None:
    lane = Lane("test", 1, 4)
    lane.budget = lane.patience = 0.2

    async def ask() -> Any:
        return await lane.ask(lambda: store.reader().execute(ENDLESS).fetchone())

    e = refusal(lambda: asyncio.run(ask()))
    assert (e.status, e.code, e.headers["retry-after"]) == (503, "query_timeout", "10")

    async def simple() -> Any:
        return await lane.ask(lambda: store.reader().execute("SELECT 7").fetchone()[0])

    assert asyncio.run(simple()) == 7 and lane.length == 0
    lane.stop()


def test_duckdb_is_stopped_too(store: Store) -> None:
    duckdb = pytest.importorskip("duckdb")
    from opentracy.traces.sqlite import asking

    lane = Lane("test", 1, 4)
    lane.budget = lane.patience = 0.2

    def work() -> Any:
        cursor = duckdb.connect().cursor()
        with asking(cursor):
            return cursor.execute("SELECT sum(a.i * b.i) FROM range(1000000000) a(i), range(1000000) b(i)").fetchall()

    e = refusal(lambda: asyncio.run(lane.ask(work)))
    assert (e.status, e.code) == (503, "query_timeout")
    lane.stop()


def test_what_fails_by_itself_keeps_its_error(store: Store) -> None:
    lane = Lane("test", 1, 4)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        asyncio.run(lane.ask(lambda: store.reader().execute("SELECT * FROM nowhere")))
    lane.stop()


def test_the_queue_is_bounded_and_short_ones_do_not_stand_behind_long_ones() -> None:
    long, short = Lane("long", 1, 1), Lane("short", 1, 1)
    hold = threading.Event()

    async def scene() -> tuple[list[Any], int]:
        running = [asyncio.ensure_future(long.ask(hold.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        refused = [refused for refused in [await one(long) for _ in range(5)] if isinstance(refused, Refused)]
        answered = await short.ask(lambda: 7)
        part = asyncio.ensure_future(long.ask(lambda: 8, begun=True))  # of an answer that is under way
        await asyncio.sleep(0)
        hold.set()
        assert await part == 8
        await asyncio.gather(*running)
        return refused, answered

    async def one(lane: Lane) -> Any:
        try:
            return await lane.ask(lambda: None)
        except Refused as e:
            return e

    refused, answered = asyncio.run(scene())
    assert len(refused) == 5 and answered == 7
    assert {(e.status, e.code, e.headers["retry-after"]) for e in refused} == {(503, "store_busy", "1")}
    long.stop()
    short.stop()


def test_who_waits_too_long_is_told() -> None:
    lane = Lane("test", 1, 4)
    lane.patience, hold, ran = 0.1, threading.Event(), []

    async def scene() -> Refused:
        first = asyncio.ensure_future(lane.ask(hold.wait, begun=True))
        await asyncio.sleep(0)
        try:
            await lane.ask(lambda: ran.append(1))
        except Refused as e:
            return e
        finally:
            hold.set()
            await first
        raise AssertionError

    e = asyncio.run(scene())
    assert (e.code, ran) == ("store_busy", [])
    lane.stop()


def test_who_is_gone_is_not_worked_for(store: Store) -> None:
    """One that waits is never begun, one that runs is stopped."""
    lane, ran = Lane("test", 1, 4), []
    started = threading.Event()

    def endless() -> Any:
        connection = store.reader()
        started.set()
        return connection.execute(ENDLESS).fetchone()

    async def scene() -> None:
        running = asyncio.ensure_future(lane.ask(endless))
        waiting = asyncio.ensure_future(lane.ask(lambda: ran.append(1)))
        await asyncio.to_thread(started.wait)
        waiting.cancel()
        running.cancel()
        while lane.length:
            await asyncio.sleep(0.01)

    asyncio.run(scene())
    assert ran == []
    lane.stop()


def test_the_end_of_the_engine_ends_questions(store: Store) -> None:
    lane = Lane("test", 1, 4)
    started = threading.Event()

    def endless() -> Any:
        connection = store.reader()
        started.set()
        return connection.execute(ENDLESS).fetchone()

    async def scene() -> list[Any]:
        asked = [asyncio.ensure_future(lane.ask(endless)), asyncio.ensure_future(lane.ask(lambda: 1))]
        await asyncio.to_thread(started.wait)
        time.sleep(0.05)
        lane.stop()
        return await asyncio.gather(*asked, return_exceptions=True)

    ends = asyncio.run(scene())
    assert all(isinstance(end, Refused) and end.status == 503 for end in ends), ends


#: what runs on the event loop's own threads: files, and what is done once. Each of these threads that read the store
#: would keep a connection of its own, three descriptors and a cache, for good
WITHOUT_THE_STORE = {
    "self.writer.flush", "runs.save", "runs.stopped", "_save_all", "tracing.recover", "engine.shadow.shown", "engine.fresh_state",
    "self.quotas.close", "self.traces.close", "stand_in.start", "stand_in.stop", "target.open", "file.read", "tempfile.mkdtemp",
    "partial(shutil.rmtree, folder, ignore_errors=True)",
}  # fmt: skip


def test_the_store_is_read_on_lanes_only() -> None:
    import ast

    import opentracy.engine

    found: dict[str, str] = {}
    for path in Path(opentracy.engine.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            # also as `call_later(seconds, loop.run_in_executor, None, work)`
            words = [node.func, *node.args]
            at = next((i for i, w in enumerate(words) if isinstance(w, ast.Attribute) and w.attr == "run_in_executor"), None)
            if at is not None and isinstance(words[at + 1], ast.Constant):
                found[ast.unparse(words[at + 2])] = f"{path.name}:{node.lineno}"
    assert "self.writer.flush" in found
    assert {work: place for work, place in found.items() if work not in WITHOUT_THE_STORE} == {}
