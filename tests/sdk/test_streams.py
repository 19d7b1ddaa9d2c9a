"""Stream objects: how they end, what they know then, and that leaving them closes the connection."""

from __future__ import annotations

import asyncio
import gc
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

import opentracy as ot
from faultserver import EVENTS, Exchange, FaultServer, answer, chunked, event, hang, head, raw, stream

USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    s = FaultServer()
    yield s
    s.close()


def opened(server: FaultServer) -> ot.Stream:
    return ot.completion("openai/gpt-4o-mini", USER, api_key="k", api_base=server.base, stream=True, timeout=5)


async def aopened(server: FaultServer) -> ot.AsyncStream:
    return await ot.acompletion("openai/gpt-4o-mini", USER, api_key="k", api_base=server.base, stream=True, timeout=5)


def test_the_whole_answer_at_the_end(server: FaultServer) -> None:
    server(stream())
    with opened(server) as s:
        assert s.response is None
        first = next(s)
        assert first.choices[0].delta.role == "assistant"
        rest = list(s)
    r = s.response
    assert isinstance(r, ot.ModelResponse)
    assert r.object == "chat.completion"
    assert r.choices[0].message.content == "hello"
    assert r.choices[0].finish_reason == "stop"
    assert r.usage.total_tokens == 5
    assert r._cost == rest[-1]._cost > 0
    assert r._routing["attempts"] == 1
    assert "ended" in repr(s)
    assert list(s) == []


def test_the_whole_answer_at_the_end_async(server: FaultServer) -> None:
    server(stream())

    async def main() -> None:
        async with await aopened(server) as s:
            assert s.response is None
            chunks = [c async for c in s]
        assert s.response is not None
        assert s.response.choices[0].message.content == "hello"
        assert chunks[-1]._provider == "openai"
        assert [c async for c in s] == []

    asyncio.run(main())


def test_tools_are_folded(server: FaultServer) -> None:
    def call(**piece: Any) -> bytes:
        return event({"tool_calls": [piece]})

    server(stream(
        call(index=0, id="a", type="function", function={"name": "f", "arguments": '{"x":'}),
        call(index=0, function={"arguments": "1}"}),
        call(index=1, id="b", type="function", function={"name": "g", "arguments": "{}"}),
        event({}, "tool_calls"), b"data: [DONE]\n\n",
    ))  # fmt: skip
    s = opened(server)
    list(s)
    assert s.response is not None
    assert [(c.id, c.function.name, c.function.arguments) for c in s.response.choices[0].message.tool_calls] == [
        ("a", "f", '{"x":1}'), ("b", "g", "{}")
    ]  # fmt: skip


ENDLESS = stream(*EVENTS[:2], end=b"", then=hang)


@pytest.mark.parametrize("leave", ["close", "with", "drop", "break", "raise"])
def test_leaving_closes_the_connection(server: FaultServer, leave: str) -> None:
    server(ENDLESS)
    if leave == "close":
        s = opened(server)
        next(s)
        s.close()
        assert list(s) == []
        assert s.response is None
        assert s.partial.choices[0].message.content == "hel"
    elif leave == "with":
        with opened(server) as s:
            next(s)
    elif leave == "drop":
        s = opened(server)
        del s
    elif leave == "break":
        for _ in opened(server):
            break
    else:
        with pytest.raises(ZeroDivisionError):
            for _ in opened(server):
                1 / 0  # noqa: B018
    gc.collect()
    assert server.seen[0].closed.wait(2)


@pytest.mark.parametrize("leave", ["aclose", "with", "drop", "break", "cancel"])
def test_leaving_closes_the_connection_async(server: FaultServer, leave: str) -> None:
    server(ENDLESS)

    async def main() -> bool:
        if leave == "aclose":
            s = await aopened(server)
            await anext(s)
            await s.aclose()
            assert [c async for c in s] == []
        elif leave == "with":
            async with await aopened(server) as s:
                await anext(s)
        elif leave == "drop":
            s = await aopened(server)
            del s
        elif leave == "break":
            async for _ in await aopened(server):
                break
        else:

            async def read() -> None:
                async for _ in await aopened(server):
                    pass

            task = asyncio.ensure_future(read())
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        gc.collect()
        return await asyncio.to_thread(server.seen[0].closed.wait, 2)

    assert asyncio.run(main())


def test_a_finished_stream_gives_its_connection_back(server: FaultServer) -> None:
    server(stream(), answer(), stream(), answer())
    for _ in range(2):
        list(opened(server))
        ot.completion("openai/gpt-4o-mini", USER, api_key="k", api_base=server.base)
    assert server.connections == 1


def test_a_json_answer_to_a_stream_request(server: FaultServer) -> None:
    server(answer())
    s = opened(server)
    chunks = list(s)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "hello"
    assert chunks[-1].usage.total_tokens == 5
    assert s.response is not None
    assert s.response.choices[0].message.content == "hello"


def test_done_is_the_end_whatever_follows(server: FaultServer) -> None:
    server(stream(*EVENTS, event({"content": "EXTRA"})))
    assert "".join(c.choices[0].delta.content or "" for c in opened(server)) == "hello"
    server(stream(*EVENTS, end=b"", then=hang))  # [DONE], and the socket left open
    assert "".join(c.choices[0].delta.content or "" for c in opened(server)) == "hello"


def test_any_split_of_the_bytes_reads_the_same(server: FaultServer) -> None:
    data = b"".join(EVENTS)
    for size in (1, 3, 50):
        server(stream(*[data[i : i + size] for i in range(0, len(data), size)]))
        assert "".join(c.choices[0].delta.content or "" for c in opened(server)) == "hello"


def test_ten_thousand_cuts_and_none_is_complete() -> None:
    """The SDK's stream over bytes cut anywhere: it raises, unless nothing is missing but what may follow the finish."""
    import random
    import time

    from opentracy._job import Job
    from opentracy.core.plan import Opened, Policy
    from opentracy.core.wire import Attempt, Call, Credentials, HttpHead, Target
    from opentracy.providers import registry
    from opentracy.streams import Progress

    chance = random.Random(3)
    data = b"".join(EVENTS)
    finished = len(b"".join(EVENTS[:-2])) - 2  # with the finish event, but for its blank line
    target = Target("openai", "m", registry.dialect("openai"), "http://x", Credentials("k"), registry.provider("openai").quirks)
    call = Call(USER, {}, True)
    head = HttpHead(200, {"content-type": "text/event-stream"})
    job = Job(call, [target], Policy(), "openai/m", time.monotonic())
    for _ in range(10_000):
        cut = chance.randrange(1, len(data))
        decoder = target.dialect.open_stream(call, target, head)
        progress = Progress(job, Opened(decoder, [], target, [Attempt(target, "first", 0.0)], head, False, 0.0))
        split = chance.randrange(cut)
        for piece in [p for p in (data[:split], data[split:cut]) if p] + [b""]:
            if not progress.over:
                progress.took(piece, 0.0)
        assert progress.over
        if progress.failure is None:
            assert cut >= finished
            assert progress.response().choices[0].message.content == "hello"
        else:
            assert cut not in (finished, len(data) - 1, len(data))


SSE_HEAD = head(200, content_type="text/event-stream", transfer_encoding="chunked")


async def _read(server: FaultServer) -> tuple[str, BaseException | None]:
    text = ""
    try:
        async for chunk in await aopened(server):
            text += chunk.choices[0].delta.content or ""
    except ot.APIError as e:
        return text, e
    return text, None


def _shown(server: FaultServer, run: str) -> tuple[str, BaseException | None]:
    """The text of a stream as far as it came, and the error that ended it."""
    if run == "asyncio":
        return asyncio.run(_read(server))
    text = ""
    try:
        for chunk in opened(server):
            text += chunk.choices[0].delta.content or ""
    except ot.APIError as e:
        return text, e
    return text, None


@pytest.mark.parametrize("run", ["blocking", "asyncio"])
@pytest.mark.parametrize("events", range(2, 7))
def test_what_came_in_one_piece_with_the_damage_is_shown_before_it_is_told_of(server: FaultServer, run: str, events: int) -> None:
    """The network decides what arrives together, so that must make no difference."""
    server(raw(SSE_HEAD + b"".join(map(chunked, EVENTS[:events])) + b"zz\r\nno chunk\r\n"))
    text, error = _shown(server, run)
    assert text == ["", "", "hel", "hello", "hello", "hello", "hello"][events]
    if events == 6:
        assert error is None, "the end marker was there"
    else:
        assert getattr(error, "code", None) == "stream_interrupted"
    assert len(server.seen) == 1


@pytest.mark.parametrize("run", ["blocking", "asyncio"])
@pytest.mark.parametrize("together", [True, False])
def test_damaged_compression_is_an_interruption(server: FaultServer, run: str, together: bool) -> None:
    z = zlib.compressobj(wbits=31)
    first = z.compress(b"".join(EVENTS[:2])) + z.flush(zlib.Z_SYNC_FLUSH)
    coded = head(200, content_type="text/event-stream", transfer_encoding="chunked", content_encoding="gzip")
    pieces = (coded, chunked(first), chunked(b"\xff" * 20) + b"0\r\n\r\n")
    server(raw(b"".join(pieces)) if together else raw(*pieces, gap=0.05))
    text, error = _shown(server, run)
    assert text == "hel"
    assert isinstance(error, ot.APIConnectionError)
    assert error.code == "stream_interrupted"


@pytest.mark.parametrize("late", [0.0, 0.1])
def test_a_connection_that_was_closed_right_after_the_last_bytes_is_not_used_again(server: FaultServer, late: float) -> None:
    """The end of the framing and the close wait on the idle socket together: the next request goes out on a new one."""

    def closing(x: Exchange) -> bool:
        x.send(SSE_HEAD + b"".join(map(chunked, EVENTS)))
        time.sleep(late)
        x.send(b"0\r\n\r\n")
        return False

    for _ in range(3):
        server(closing, answer())
        with opened(server) as s:
            assert "".join(c.choices[0].delta.content or "" for c in s) == "hello"
        time.sleep(late + 0.1)
        again = ot.completion("openai/gpt-4o-mini", USER, api_key="k", api_base=server.base, timeout=5)
        assert again.choices[0].message.content == "hello"
        assert len(server.seen) == 2


@pytest.mark.parametrize("late", [0.0, 0.1])
def test_nor_is_it_on_an_event_loop(server: FaultServer, late: float) -> None:
    def closing(x: Exchange) -> bool:
        x.send(SSE_HEAD + b"".join(map(chunked, EVENTS)))
        time.sleep(late)
        x.send(b"0\r\n\r\n")
        return False

    async def main() -> None:
        for _ in range(3):
            server(closing, answer())
            async with await aopened(server) as s:
                assert "".join([c.choices[0].delta.content or "" async for c in s]) == "hello"
            time.sleep(late + 0.1)
            again = await ot.acompletion("openai/gpt-4o-mini", USER, api_key="k", api_base=server.base, timeout=5)
            assert again.choices[0].message.content == "hello"
            assert len(server.seen) == 2

    asyncio.run(main())
