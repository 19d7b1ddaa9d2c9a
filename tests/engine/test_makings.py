"""Data sets that are made while somebody else is served: begun at once, asked after, and never said to run for ever."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from starlette.requests import Request

from opentracy.cli import datasets as commands
from opentracy.engine import dashboard_datasets, questions
from opentracy.engine.auth import ANYONE
from opentracy.engine.datasets import Datasets
from opentracy.engine.errors import Refused
from opentracy.engine.makings import KEEP_S, SILENT_S, Making, Makings
from opentracy.traces import Reader, Store, TraceRecord
from opentracy.traces.export import add_records
from opentracy.traces.ids import new_trace_id

Ask = Callable[[str, Any], Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "traces.db")
    add_records(opened, [
        TraceRecord(new_trace_id(), 1_760_000_000_000 + n, finish_reason="stop", body_state="full", model="m", provider="p",
                    request=b'{"messages":[{"role":"user","content":"q"}]}', response=b'{"choices":[{"message":{"content":"a"}}]}')
        for n in range(30)
    ])  # fmt: skip
    yield opened
    questions.stop()
    opened.close()


def serving(store: Store, story: Callable[[Ask], Awaitable[None]]) -> None:
    """Plays a story on an event loop, with what the handlers need of an engine."""

    async def play() -> None:
        async def current() -> None: ...

        traces = SimpleNamespace(store=store, reader=Reader(store), current=current)
        engine: Any = SimpleNamespace(traces=traces, loop=asyncio.get_running_loop(), new_id=new_trace_id)

        async def ask(making_id: str, body: Any) -> Any:
            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

            scope = {"type": "http", "method": "POST", "headers": [], "path_params": {"name": "d", "making_id": making_id}, "query_string": b"", "path": "/"}
            request = Request(scope, receive)
            request.state.identity = ANYONE
            answer = await (dashboard_datasets.making if body is None else dashboard_datasets.from_traces)(engine, request)
            return answer.status_code, json.loads(answer.body)

        await story(ask)

    asyncio.run(play())


async def _over(ask: Ask, making_id: str) -> dict[str, Any]:
    while (found := (await ask(making_id, None))[1]).get("state", "running") == "running":
        await asyncio.sleep(0.01)
    return dict(found)


def test_a_quick_one_is_there_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_datasets, "AT_ONCE_S", 60.0)

    async def story(ask: Ask) -> None:
        assert await ask("", {"limit": 10}) == (201, {"version": 1, "rows": 10, "skipped": 0})

    serving(store, story)
    assert not (store.path.parent / "datasets" / ".making").exists()


def test_one_that_takes_longer_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_datasets, "AT_ONCE_S", 0.0)

    async def story(ask: Ask) -> None:
        status, begun = await ask("", {"limit": 10})
        assert (status, begun["state"]) == (202, "running")
        found = await _over(ask, begun["id"])
        assert found == {"id": begun["id"], "state": "done", "version": 1, "rows": 10, "skipped": 0}

    serving(store, story)
    sets = Datasets(store.path.parent)
    assert sets.names() == ["d"] and sets.version("d").rows == 10


def test_what_went_wrong_is_said_afterwards(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_datasets, "AT_ONCE_S", 0.0)

    async def story(ask: Ask) -> None:
        _, begun = await ask("", {"q": "model:nobody"})
        found = await _over(ask, begun["id"])
        assert found["state"] == "failed" and "1 to" in found["problem"]
        for unknown in (new_trace_id(), "../../accounts", "x"):
            with pytest.raises(Refused) as caught:
                await ask(unknown, None)
            assert caught.value.status == 404

    serving(store, story)


def test_whoever_made_it_may_be_gone_and_old_ones_are_forgotten(tmp_path: Path) -> None:
    makings = Makings(tmp_path)
    one = Making(new_trace_id())
    makings.save(one)
    assert makings.one(one.id).state == "running"
    path = tmp_path / "datasets" / ".making" / f"{one.id}.json"
    os.utime(path, (time.time() - SILENT_S - 1,) * 2)
    assert makings.one(one.id).state == "failed"
    os.utime(path, (time.time() - KEEP_S - 1,) * 2)
    makings.save(Making(new_trace_id()))
    with pytest.raises(KeyError):
        makings.one(one.id)
    assert Datasets(tmp_path).names() == []


def test_the_command_looks_on_until_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_LOOK_S", 0.0)
    states = [{"id": "i", "state": "running"}, {"id": "i", "state": "done", "version": 3, "rows": 9, "skipped": 1}]

    class Engine:
        def send(self, path: str, body: Any) -> dict[str, Any]:
            return {"id": "i", "state": "running"}

        def get(self, path: str, asked: Any) -> dict[str, Any]:
            assert path == "/v1/dashboard/datasets/d/making/i"
            return states.pop(0)

    there = commands.There(Engine())  # type: ignore[arg-type]
    assert there.create("d", "", None, None, 9) == {"version": 3, "rows": 9, "skipped": 1}
    states.append({"id": "i", "state": "failed", "problem": "too few"})
    with pytest.raises(click.ClickException, match="too few"):
        there.create("d", "", None, None, 9)
