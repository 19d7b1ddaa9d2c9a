"""A pushed body that floods in is read in gulps; one that comes at a model's pace is not held up."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentracy.core.wire import Failure, Origin
from opentracy.transport.aanswer import Answer
from opentracy.transport.aconnection import FLOOD_RATE, FLOOD_S, PROVEN, Connection
from opentracy.transport.aio import AioTransport

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Clock:
    """The connection's loop with hands that are moved by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay, call)


class Wire:
    """A transport that counts."""

    def __init__(self, sock: socket.socket, peer: socket.socket) -> None:
        self.sock, self.peer = sock, peer
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return self.sock if name == "socket" else None

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.reading = False


class Sink:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.ended: list[Failure | None] = []

    def data(self, data: bytes, cut: Sequence[bytes] = ()) -> None:
        self.parts.append(data)

    def end(self, failure: Failure | None) -> None:
        self.ended.append(failure)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def pushed(scene: Callable[[Connection, Wire, Sink, Clock, Answer], Any]) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            transport, clock, wire, sink = AioTransport(), Clock(), Wire(ours, theirs), Sink()
            connection = Connection(Origin("http", "h", 80), None, 1 << 20)
            connection._loop = clock  # type: ignore[assignment]
            connection.connection_made(wire)  # type: ignore[arg-type]
            connection.reader.start(stream=True)
            connection.data_received(HEAD + chunk(b"0"))
            assert connection.reader.head is not None
            answer = Answer(transport, connection, connection.reader.head)
            answer.attach(sink, time.monotonic() + 60)
            await scene(connection, wire, sink, clock, answer)
            answer.close()
            transport.close()

    asyncio.run(main())


async def until(told: Callable[[], bool]) -> None:
    while not told():
        await asyncio.sleep(0.001)


def test_a_flood_is_read_in_gulps() -> None:
    async def scene(connection: Connection, wire: Wire, sink: Sink, clock: Clock, answer: Answer) -> None:
        assert wire.reading
        clock.now += FLOOD_S / 2
        connection.data_received(chunk(b"1"))
        assert sink.parts == [b"0", b"1"] and not wire.reading
        await until(lambda: wire.reading)
        clock.now += FLOOD_S / 2
        connection.data_received(chunk(b"2") + chunk(b"3"))  # what came meanwhile, in one read
        assert sink.parts[2:] == [b"23"] and not wire.reading
        await until(lambda: wire.reading)

    pushed(scene)


def test_a_models_pace_is_not_held_up() -> None:
    async def scene(connection: Connection, wire: Wire, sink: Sink, clock: Clock, answer: Answer) -> None:
        for number in range(20):
            clock.now += 2 * FLOOD_S
            connection.data_received(chunk(b"%d" % number))
            assert wire.reading
        assert len(sink.parts) == 21

    pushed(scene)


def test_a_slow_reader_stays_in_charge() -> None:
    async def scene(connection: Connection, wire: Wire, sink: Sink, clock: Clock, answer: Answer) -> None:
        connection.data_received(chunk(b"1"))
        answer.pause()
        await asyncio.sleep(0.02)
        assert not wire.reading and not connection._gulping
        answer.resume()
        assert wire.reading

    pushed(scene)


def test_an_answer_given_up_within_a_gulp_leaves_a_reading_connection() -> None:
    async def scene(connection: Connection, wire: Wire, sink: Sink, clock: Clock, answer: Answer) -> None:
        connection.data_received(chunk(b"1"))
        assert not wire.reading
        answer.finish()  # whatever is still to come is read while it rests
        assert wire.reading
        connection.data_received(b"0\r\n\r\n")
        assert connection.usable_now()
        assert sink.ended == []

    pushed(scene)


def test_the_last_piece_is_not_waited_after() -> None:
    async def scene(connection: Connection, wire: Wire, sink: Sink, clock: Clock, answer: Answer) -> None:
        connection.data_received(chunk(b"1") + b"0\r\n\r\n")
        assert wire.reading and sink.ended == [None]

    pushed(scene)


def test_a_flood_is_known_by_what_gathered_where_the_loop_comes_late() -> None:
    async def scene(connection: Connection, wire: Wire, sink: Sink, clock: Clock, answer: Answer) -> None:
        connection.data_received(chunk(b"1"))
        await until(lambda: wire.reading)
        clock.now += 10 * FLOOD_S
        connection.data_received(chunk(b"2" * int(10 * FLOOD_S * FLOOD_RATE + 10)))
        assert not wire.reading
        await until(lambda: wire.reading)
        clock.now += 10 * FLOOD_S
        connection.data_received(chunk(b"3"))  # one event: that was the last of it
        assert wire.reading
        clock.now += 10 * FLOOD_S
        connection.data_received(chunk(b"4" * 10_000))  # large events now and then are no flood
        assert wire.reading

    pushed(scene)


def test_only_a_proven_connection_that_was_used_just_now_is_not_asked() -> None:
    async def scene(connection: Connection, wire: Wire, sink: Sink, clock: Clock, answer: Answer) -> None:
        connection.data_received(b"0\r\n\r\n")
        connection.reader.reusable = True
        wire.peer.close()  # the loop has not heard of it
        for uses, fresh, known in ((0, True, None), (PROVEN - 1, True, None), (PROVEN, False, None), (PROVEN, True, True)):
            connection._uses = uses
            assert connection.usable_now(fresh=fresh) is known, (uses, fresh)

    pushed(scene)
