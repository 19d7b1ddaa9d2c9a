"""Asynchronous calls never block the event loop; hanging calls do not hold up good ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx

import opentracy as ot
from faultserver import FaultServer, answer, error, hang, stream

USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    s = FaultServer()
    yield s
    s.close()


def test_no_blocking_call_on_the_loop(server: FaultServer) -> None:
    kw = {"api_key": "k", "api_base": server.base}

    async def main() -> None:
        with blockbuster_ctx():
            await ot.acompletion("openai/gpt-4o-mini", USER, **kw)
            assert [c async for c in await ot.acompletion("openai/gpt-4o-mini", USER, stream=True, **kw)]
            with pytest.raises(ot.InternalServerError):
                await ot.acompletion("openai/gpt-4o-mini", USER, **kw)
            await ot.acompletion("openai/gpt-4o-mini", USER, **{**kw, "api_base": server.base.replace("127.0.0.1", "localhost")})

    ot.APIError  # noqa: B018 - its first use imports the openai package, which reads files; see the next test
    asyncio.run(ot.acompletion("openai/gpt-4o-mini", USER, **kw))  # likewise the price table and the dialect
    server(answer(), stream(), error(500), answer())
    asyncio.run(main())


def test_good_calls_pass_hanging_ones(server: FaultServer) -> None:
    good = FaultServer()
    server(hang)

    async def main() -> float:
        bad = [
            asyncio.ensure_future(ot.acompletion("openai/m", USER, api_key="k", api_base=server.base, timeout=30))
            for _ in range(20)
        ]
        while len(server.seen) < 20:
            await asyncio.sleep(0.01)
        start = time.monotonic()
        answers = await asyncio.gather(
            *(ot.acompletion("openai/m", USER, api_key="k", api_base=good.base) for _ in range(20))
        )
        took = time.monotonic() - start
        assert all(a.choices[0].message.content == "hello" for a in answers)
        for task in bad:
            task.cancel()
        await asyncio.gather(*bad, return_exceptions=True)
        return took

    assert asyncio.run(main()) < 20  # far below the 30 s that the hanging ones would take
    good.close()
