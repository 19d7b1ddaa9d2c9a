"""Both drivers over real sockets, against a server that misbehaves: one table of outcomes for the two."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from faultserver import EVENTS, FaultServer, answer, chunked, drop, error, hang, head, raw, reset, stream
from opentracy.core.failure import status_failure
from opentracy.core.plan import Completed, Opened, PlanFailed, Policy, run
from opentracy.core.wire import Call, Chunk, Credentials, Failure, HttpHead, HttpRequest, HttpResponse, Origin, Target
from opentracy.transport import aio
from opentracy.transport.dial import Address, interleaved, literal, resolve
from opentracy.transport.pool import Pool
from opentracy.transport.sync import SyncTransport


class Plain:
    """A dialect that takes bodies as they are; every read of a stream is content."""

    def build_request(self, call: Call, target: Target) -> HttpRequest:
        return HttpRequest("POST", target.base_url, {"x-test": "1"}, b"{}")

    def sign(self, request: HttpRequest, target: Target, now: float) -> HttpRequest:
        return request

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> Any:
        return {"body": response.body}

    def open_stream(self, call: Call, target: Target, head: HttpHead) -> Bytes:
        return Bytes()

    def parse_error(self, target: Target, response: HttpResponse) -> Failure:
        return status_failure(response, "boom")


class Bytes:
    """A decoder whose chunks are the bytes."""

    def __init__(self) -> None:
        self.done = False
        self.failure: Failure | None = None
        self.progress = 0

    def feed(self, data: bytes) -> list[Chunk]:
        self.progress += 1
        self.done = b"[DONE]" in data
        return [{"data": data, "choices": []}]

    def close(self) -> list[Chunk]:
        return []


@pytest.fixture
def server() -> Iterator[FaultServer]:
    s = FaultServer()
    yield s
    s.close()


@pytest.fixture(params=["sync", "async"])
def perform(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One call through either driver: Completed, or Opened with the rest of its body read, or the last Failure."""
    blocking = SyncTransport()

    def plan(url: str, stream: bool, timeout: float, n: int) -> Any:
        target = Target("p", "m", Plain(), url, Credentials())
        policy = Policy(timeout=timeout, num_retries=n, connect=min(5, timeout))
        return run(
            Call([], {}, stream), [target], policy, clock=time.monotonic, wall=time.time, uniform=lambda: 0.0
        )

    def sync(url: str, stream: bool = False, timeout: float = 5.0, n: int = 0) -> Any:
        try:
            done = blocking.drive(plan(url, stream, timeout, n))
        except PlanFailed as failed:
            return failed.failures[-1][1]
        if isinstance(done, Completed):
            return done
        opened, rest = done
        parts = [c["data"] for c in opened.chunks]
        while rest is not None and (data := rest.read(time.monotonic() + timeout)):
            if isinstance(data, Failure):
                return data
            parts.append(data)
        return b"".join(parts)

    async def on_loop(url: str, stream: bool, timeout: float, n: int) -> Any:
        try:
            done = await aio.current().drive(plan(url, stream, timeout, n))
        except PlanFailed as failed:
            return failed.failures[-1][1]
        if isinstance(done, Completed):
            return done
        opened, rest = done
        parts = [c["data"] for c in opened.chunks]
        while rest is not None and (data := await rest.read(time.monotonic() + timeout)):
            if isinstance(data, Failure):
                return data
            parts.append(data)
        return b"".join(parts)

    if request.param == "sync":
        yield sync
        blocking.close()
        return
    with asyncio.Runner() as runner:
        yield lambda url, stream=False, timeout=5.0, n=0: runner.run(on_loop(url, stream, timeout, n))


def test_plain_and_streamed_answers_share_a_connection(server: FaultServer, perform: Any) -> None:
    server(answer(body=b"one"), stream(), answer(body=b"two"), error(500), answer(body=b"three"))
    assert perform(server.base).response == {"body": b"one"}
    assert perform(server.base, stream=True) == b"".join(EVENTS)
    assert perform(server.base).response == {"body": b"two"}
    assert perform(server.base).status == 500
    assert perform(server.base).response == {"body": b"three"}
    assert server.connections == 1
    assert server.seen[0].headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("step", "stream_", "kind"),
    [
        (reset, False, "reset"),
        (drop, False, "eof"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Ty"), False, "eof"),
        (raw(b"garbage\r\n\r\n"), False, "bad_response"),
        (raw(head(200, content_length=9) + b"short"), False, "truncated"),
        (raw(head(200, transfer_encoding="chunked") + chunked(b"open")), False, "truncated"),
        (hang, False, "timeout"),
        (raw(head(200, content_length=9) + b"sh", *[b"x"] * 40, gap=0.1), False, "timeout"),
        (hang, True, "timeout"),
        (stream(b"first", end=b"", then=hang), True, "timeout"),
        (stream(b"first", end=b"", then=drop), True, "truncated"),
        (stream(b"first", end=b"", then=reset), True, "reset"),
        (raw(head(307, location="http://127.0.0.1:1/")), False, "redirect"),
        (raw(head(200, content_encoding="gzip", content_length=4) + b"text"), False, "encoding"),
    ],
)
def test_what_goes_wrong_has_a_name(server: FaultServer, perform: Any, step: Any, stream_: bool, kind: str) -> None:
    server(step)
    failure = perform(server.base, stream=stream_, timeout=0.5 if kind == "timeout" else 5.0)
    assert isinstance(failure, Failure)
    assert failure.kind == kind or (kind == "reset" and failure.kind in ("eof", "truncated"))
    assert failure.sent
    assert len(server.seen) == 1


def test_places_that_cannot_be_reached(perform: Any) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        refused = perform(f"http://127.0.0.1:{s.getsockname()[1]}/")
    assert (refused.kind, refused.sent, refused.retryable) == ("refused", False, True)
    nowhere = perform("http://no-such-host.invalid/", timeout=3.0)
    assert nowhere.kind in ("dns", "timeout")
    assert "no-such-host.invalid" in nowhere.message


def test_a_plain_port_is_no_tls_port(server: FaultServer, perform: Any) -> None:
    server(answer())
    failure = perform(server.base.replace("http:", "https:"), timeout=2.0)
    assert failure.kind in ("tls", "eof", "timeout", "reset")
    assert not failure.sent
    assert server.seen == []


def test_an_idle_connection_that_the_server_closed_is_not_used(server: FaultServer, perform: Any) -> None:
    server(answer())
    assert isinstance(perform(server.base), Completed)
    server.drop_idle()
    time.sleep(0.05)
    assert isinstance(perform(server.base), Completed)
    assert len(server.seen) == 2
    assert server.connections == 2


def test_an_early_answer_to_a_request_that_is_not_read(server: FaultServer, perform: Any) -> None:
    server(answer(413, {"error": "too much"}, keep=False))
    assert perform(server.base).status == 413


def test_name_resolution_and_both_families(server: FaultServer, perform: Any) -> None:
    """`localhost` may resolve to ::1 first, where nobody listens."""
    server(answer(body=b"hi"))
    assert perform(server.base.replace("127.0.0.1", "localhost")).response == {"body": b"hi"}


def test_localhost_needs_no_hosts_file(server: FaultServer, perform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, port: int, **_: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    server(answer(body=b"hi"))
    assert perform(server.base.replace("127.0.0.1", "localhost")).response == {"body": b"hi"}
    assert perform("http://localhost.test/").kind == "dns"


def test_proxy_of_the_environment(server: FaultServer, perform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://user:PROXYSECRET@127.0.0.1:{server.port}")
    server(answer(body=b"through"))
    assert perform("http://far.test/v1/x?y=1").response == {"body": b"through"}
    assert server.seen[0].path == "http://far.test/v1/x?y=1"
    assert server.seen[0].headers["host"] == "far.test"
    assert server.seen[0].headers["proxy-authorization"].startswith("Basic ")
    server(answer(407, {}))
    wrong = perform("http://far.test/")
    assert (wrong.kind, wrong.retryable) == ("proxy", False)
    assert f"proxy 127.0.0.1:{server.port}" in wrong.message
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:PROXYSECRET@127.0.0.1:{server.port}")
    server(raw(head(407)))
    refused = perform("https://far.test/")
    assert refused.kind == "proxy"
    assert "407" in refused.message
    assert "PROXYSECRET" not in refused.message
    assert server.seen[0].path == "far.test:443"
    monkeypatch.setenv("HTTP_PROXY", "http://user:PROXYSECRET@127.0.0.1:9")
    dead = perform("http://elsewhere.test/")
    assert dead.kind == "proxy"
    assert "PROXYSECRET" not in dead.message


# sync only


def drive(transport: SyncTransport, url: str, stream: bool = False) -> Any:
    target = Target("p", "m", Plain(), url, Credentials())
    plan = run(
        Call([], {}, stream), [target], Policy(timeout=5), clock=time.monotonic, wall=time.time, uniform=lambda: 0.0
    )
    return transport.drive(plan)


def test_threads_share_one_transport(server: FaultServer) -> None:
    server(answer(body=b"ok"))
    transport = SyncTransport()
    results: list[Any] = []

    def work() -> None:
        results.extend(drive(transport, server.base).response for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [{"body": b"ok"}] * 160
    assert server.connections <= 8
    transport.close()


def test_a_full_pool_waits_and_then_says_so(server: FaultServer) -> None:
    server(hang)
    transport = SyncTransport()
    transport._pool = Pool(limit=1)
    thread = threading.Thread(target=lambda: drive(transport, server.base))
    with pytest.raises(PlanFailed) as failed:
        opened = threading.Event()

        def hold() -> None:
            opened.set()
            with pytest.raises(PlanFailed):
                drive(transport, server.base)

        thread = threading.Thread(target=hold)
        thread.start()
        opened.wait()
        while not server.seen:
            time.sleep(0.01)
        target = Target("p", "m", Plain(), server.base, Credentials())
        policy = Policy(timeout=0.2, connect=0.2)
        transport.drive(
            run(Call([], {}), [target], policy, clock=time.monotonic, wall=time.time, uniform=lambda: 0.0)
        )
    assert failed.value.failures[-1][1].kind == "pool"
    server.drop_idle()
    thread.join()


def test_a_fork_starts_with_its_own_connections(server: FaultServer) -> None:
    server(answer(body=b"ok"))
    transport = SyncTransport()
    drive(transport, server.base)
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads exist: the server's; the child uses none of them
        pid = os.fork()
    if pid == 0:
        try:
            os.write(write, b"y" if drive(transport, server.base).response == {"body": b"ok"} else b"n")
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"y"
    os.close(read)
    os.waitpid(pid, 0)
    assert drive(transport, server.base).response == {"body": b"ok"}
    assert server.connections == 2  # the parent's went on; the child made one
    transport.close()


def test_an_answer_that_is_dropped_closes_its_connection(server: FaultServer) -> None:
    server(stream(b"first", end=b"", then=hang))
    transport = SyncTransport()
    opened, rest = drive(transport, server.base, stream=True)
    assert isinstance(opened, Opened)
    assert rest is not None
    del rest
    assert server.seen[0].closed.wait(2)


def test_the_end_after_done_need_not_be_awaited(server: FaultServer) -> None:
    """`[DONE]` ends the stream at once; the connection serves again although its last bytes came later."""

    def late(x: Any) -> bool:
        time.sleep(0.05)
        x.send(b"0\r\n\r\n")
        return True

    server(stream(b"data", b"[DONE]", end=b"", then=late), answer(body=b"next"))
    transport = SyncTransport()
    _, rest = drive(transport, server.base, stream=True)
    assert rest is not None
    assert rest.read(time.monotonic() + 5) in (b"[DONE]", b"data[DONE]", b"")
    rest.finish()
    time.sleep(0.15)
    assert drive(transport, server.base).response == {"body": b"next"}
    assert server.connections == 1
    transport.close()


# asyncio only


class Collect:
    """A sink that keeps what it is given."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.parts: list[bytes] = []
        self.done: asyncio.Future[Failure | None] = loop.create_future()

    def data(self, data: bytes, cut: Sequence[bytes] = ()) -> None:
        self.parts.append(data)

    def end(self, failure: Failure | None) -> None:
        self.done.set_result(failure)


async def opened(url: str, timeout: float = 5.0) -> tuple[Opened, aio.Answer]:
    target = Target("p", "m", Plain(), url, Credentials())
    plan = run(
        Call([], {}, True), [target], Policy(timeout=timeout), clock=time.monotonic, wall=time.time, uniform=lambda: 0.0
    )
    done = await aio.current().drive(plan)
    assert not isinstance(done, Completed)
    assert done[1] is not None
    return done[0], done[1]


def test_pushed_to_the_end(server: FaultServer) -> None:
    server(stream(*[b"x" * 1000] * 50, gap=0.001))

    async def main() -> None:
        first, rest = await opened(server.base)
        sink = Collect(asyncio.get_running_loop())
        rest.attach(sink, time.monotonic() + 5)
        assert await sink.done is None
        assert sum(map(len, sink.parts)) + sum(len(c["data"]) for c in first.chunks) == 50_000
        await opened(server.base)

    asyncio.run(main())
    assert server.connections == 1


@pytest.mark.parametrize(("then", "kind"), [(drop, "truncated"), (reset, "reset"), (hang, "timeout")])
def test_pushed_to_a_bad_end(server: FaultServer, then: Any, kind: str) -> None:
    server(stream(b"first", end=b"", then=then))

    async def main() -> None:
        _, rest = await opened(server.base)
        sink = Collect(asyncio.get_running_loop())
        rest.attach(sink, time.monotonic() + 0.3)
        failure = await sink.done
        assert failure is not None
        assert failure.kind in (kind, "truncated") if kind == "reset" else failure.kind == kind

    asyncio.run(main())


def test_the_deadline_moves_with_the_content(server: FaultServer) -> None:
    server(stream(*[b"x"] * 10, gap=0.1))

    async def main() -> None:
        _, rest = await opened(server.base)

        class Extending(Collect):
            def data(self, data: bytes, cut: Sequence[bytes] = ()) -> None:
                super().data(data)
                rest.extend(time.monotonic() + 0.4)

        sink = Extending(asyncio.get_running_loop())
        rest.attach(sink, time.monotonic() + 0.4)
        assert await sink.done is None  # a second in all, though no gap was as long as the limit

    asyncio.run(main())


def test_paused_reads_nothing_and_keeps_its_time(server: FaultServer) -> None:
    server(stream(*[b"x" * 65536] * 200))

    async def main() -> None:
        _, rest = await opened(server.base)
        sink = Collect(asyncio.get_running_loop())
        rest.attach(sink, time.monotonic() + 0.5)
        rest.pause()
        await asyncio.sleep(0.1)
        before = len(sink.parts)
        await asyncio.sleep(0.6)
        assert len(sink.parts) == before
        assert not sink.done.done()
        rest.resume()
        assert await sink.done is None

    asyncio.run(main())


def test_a_slow_puller_is_not_drowned(server: FaultServer) -> None:
    """What the provider sends ahead is bounded: reading stops until the caller takes some."""
    server(stream(*[b"x" * 65536] * 400))

    async def main() -> None:
        _, rest = await opened(server.base)
        await asyncio.sleep(0.3)
        connection = rest._connection
        assert connection is not None
        assert connection.reader.pending < 2 << 20
        size = 0
        while data := await rest.read(time.monotonic() + 5):
            assert isinstance(data, bytes)
            size += len(data)
        assert size > 20 << 20

    asyncio.run(main())


@pytest.mark.parametrize("stream_", [False, True])
def test_cancelling_closes_the_connection(server: FaultServer, stream_: bool) -> None:
    server(stream(b"first", end=b"", then=hang) if stream_ else hang)

    async def main() -> None:
        async def call() -> None:
            if stream_:
                _, rest = await opened(server.base)
                await rest.read(time.monotonic() + 9)
            else:
                await opened(server.base)

        task = asyncio.ensure_future(call())
        while not server.seen:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.seen[0].closed.wait, 2)

    asyncio.run(main())


@pytest.mark.parametrize("farewell", [True, False])
def test_short_loops_leave_nothing_behind(server: FaultServer, farewell: bool) -> None:
    """300 loops, each with a connection of its own, ended with asyncio.run's farewell or just closed."""
    server(answer(body=b"ok"))

    async def main() -> None:
        target = Target("p", "m", Plain(), server.base, Credentials())
        plan = run(
            Call([], {}), [target], Policy(timeout=5), clock=time.monotonic, wall=time.time, uniform=lambda: 0.0
        )
        assert isinstance(await aio.current().drive(plan), Completed)

    def once() -> None:
        if farewell:
            asyncio.run(main())
            return
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()

    once()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(300):
        once()
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # the server's side of the last ones may still be closing
    assert len(aio._by_loop) <= 1


def test_addresses() -> None:
    four = [Address(socket.AF_INET, (f"10.0.0.{i}", 1)) for i in range(3)]
    six = [Address(socket.AF_INET6, ("::1", 1, 0, 0))]
    assert interleaved([*six, *four, *four]) == [six[0], four[0], four[1], four[2]]
    assert literal("127.0.0.1", 1) == [Address(socket.AF_INET, ("127.0.0.1", 1))]
    assert literal("localhost", 1) is None
    assert literal("bad\0host", 1) is None


def test_lookups_of_one_name_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = [], threading.Event()

    def slow(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        go.wait(5)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    one, two = resolve("slow.test", 1), resolve("slow.test", 1)
    assert one is two
    ready = threading.Event()
    one.when_done(ready.set)
    go.set()
    assert ready.wait(5)
    assert asked == ["slow.test"]
    assert one.result == [Address(socket.AF_INET, ("127.0.0.1", 1))]


def test_slow_names_block_neither_the_caller_nor_the_end_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: go.wait(20) and [])

    async def main() -> Failure:
        with pytest.raises(PlanFailed) as failed:
            await opened("http://slow2.test/", timeout=0.2)
        return failed.value.failures[-1][1]

    start = time.monotonic()
    failure = asyncio.run(main())
    assert failure.kind == "timeout"
    assert "slow2.test" in failure.message
    assert time.monotonic() - start < 10  # not the name server's 20 s
    go.set()


def test_origin_is_a_key() -> None:
    assert {Origin("http", "a", 1): 1}[Origin("http", "a", 1)] == 1
