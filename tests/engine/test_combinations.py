"""What comes together only in combination: hurried callers and circuits, `auto` and deployments that rest.

What a single fault does stands in `test_engine_faults`; circuits by themselves in `test_engine_units`.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from both_ways import CONFIG, GOOD, MESSAGES, Wire, answer, streamed, wire

from opentracy.core.wire import Failure, Target
from opentracy.engine.config import AutoConfig, TracesConfig
from opentracy.engine.health import CONSECUTIVE, WINDOW_MIN, Health
from opentracy.engine.idempotency import Replays
from opentracy.providers import registry
from opentracy.routing import load

CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
BEGUN = b"data: %b\n\n" % json.dumps({**CHUNK, "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}).encode()
LATE = Failure("timeout", "late", retryable=True)
UNCONNECTED = Failure("timeout", "late", retryable=True, sent=False)


def asked(model: str, **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": MESSAGES, **more}).encode()


@pytest.mark.parametrize(
    ("script", "more", "outcome"), [([b"never"], {}, "timeout"), ([[*streamed([BEGUN])[:-1], None]], {"stream": True}, "timeout")]
)
def test_callers_in_a_hurry_take_no_deployment_out(script: list[Any], more: dict[str, Any], outcome: str) -> None:
    """One caller gives a provider next to no time, again and again; another one who has the time is served by it."""

    async def main() -> None:
        async with wire() as w:
            await w.warm({"model": "openai/gpt-4o", "messages": MESSAGES})
            w.script[:] = script
            for _ in range(WINDOW_MIN // 2 + 1):
                await w.post(asked("pair", **more), "x-request-timeout-ms: 40\r\n")
            await _traced(w, WINDOW_MIN // 2 + 1)
            assert {r.outcome for r in w.records} == {outcome}
            w.script[:] = [GOOD]
            status, headers, _ = await w.post(asked("pair"))
            assert (status, headers["x-opentracy-provider"], headers["x-opentracy-attempts"]) == (200, "openai", "1")

    asyncio.run(asyncio.wait_for(main(), 60))


async def _traced(w: Wire, count: int) -> None:
    while len(w.records) < count:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("failure", "seconds", "counts"),
    [(LATE, 0.2, False), (LATE, 59.999, True), (UNCONNECTED, 0.2, False), (UNCONNECTED, 4.999, True),
     (Failure("reset", "reset"), 0.2, True)],
)  # fmt: skip
def test_a_timeout_counts_once_the_usual_time_has_passed(failure: Failure, seconds: float, counts: bool) -> None:
    health = Health(lambda: 0.0, lambda: 0.5)
    target: Target = registry.target("openai/gpt-4o", env={"OPENAI_API_KEY": "k"})
    for _ in range(CONSECUTIVE):
        health.guard(60.0, 5.0).report(target, failure, seconds)
    assert (health.state(target.name)[0] == "open") is counts


@pytest.mark.parametrize("routed", [True, False])
def test_auto_asks_a_deployment_that_rests_rather_than_nobody(routed: bool) -> None:
    models = ["openai/gpt-4o", "groq/llama-3.3-70b-versatile"]
    config = msgspec.structs.replace(CONFIG, auto=AutoConfig(models=models, default=models[0]))

    async def main() -> None:
        async with wire(config, load("default") if routed else None) as w:
            for model in models:
                for _ in range(CONSECUTIVE):
                    w.engine.health.failed(model, Failure("status", "x", status=500))
            assert w.engine.health.ill() == set(models)
            w.script[:] = [GOOD]
            status, _, body = await w.post(asked("auto"))
            assert status == 200, body

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize(("hint", "said"), [("0.2", "1"), ("1.4", "2"), ("90", "90")])
def test_nobody_is_told_to_come_back_sooner_than_the_provider_asks(hint: str, said: str) -> None:
    async def main() -> None:
        async with wire() as w:
            w.script[:] = [answer({"error": {"message": "slow down"}}, "429 Too Many", f"retry-after: {hint}\r\n")]
            status, headers, _ = await w.post(asked("quick"))
            assert (status, headers["retry-after"]) == (429, said)

    asyncio.run(asyncio.wait_for(main(), 60))


KEY = "Idempotency-Key: k1\r\n"


def test_an_answer_that_waits_for_its_trace_is_kept_though_its_client_left(tmp_path: Path) -> None:
    """With strict durability; it was billed, so that the repetition must not be sent to the provider."""
    config = msgspec.structs.replace(CONFIG, traces=TracesConfig(durability="strict"))

    async def main() -> None:
        async with wire(config) as w:
            w.engine.replays = Replays(tmp_path, w.engine.loop.call_later)
            committed: Future[None] = Future()
            w.engine.traces.put_durable = lambda record: w.records.append(record) or committed
            w.script[:] = [GOOD]
            asking = asyncio.ensure_future(w.post(asked("quick"), KEY))
            await _traced(w, 1)
            w.writer.close()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.sleep(0.05)
            committed.set_result(None)
            await w.connect()
            status, headers, _ = await w.post(asked("quick"), KEY)
            assert (status, headers.get("x-opentracy-replayed"), len(w.seen)) == (200, "true", 1)

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize(("status", "kept"), [(400, True), (404, True), (402, False), (409, False), (429, False), (500, False)])
def test_only_a_final_answer_is_kept_under_its_key(tmp_path: Path, status: int, kept: bool) -> None:
    """What money, patience or somebody else's mistake was the matter with may go well the next time."""

    async def main() -> None:
        async with wire() as w:
            w.engine.replays = Replays(tmp_path, w.engine.loop.call_later)
            w.script[:] = [answer({"error": {"message": "no"}}, f"{status} No"), GOOD]
            first, _, _ = await w.post(asked("quick"), KEY)
            again, headers, _ = await w.post(asked("quick"), KEY)
            assert (again, "x-opentracy-replayed" in headers) == ((first, True) if kept else (200, False))

    asyncio.run(asyncio.wait_for(main(), 60))
