"""An opened answer on an asyncio connection: pulled piece by piece, or pushed to a sink.

Belongs here: the two ways in which the rest of a body reaches its reader. Not here: the connection's own protocol
(`aconnection`), where connections come from and go to (`aio`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..core.failure import transport_failure
from ..core.wire import Failure
from .aconnection import Connection, Waiter
from .driving import Held, Keeper


class Sink(Protocol):
    """Where a pushed answer goes. Called on the event loop; must not block, and must not raise."""

    def data(self, data: bytes, cut: Sequence[bytes] = ()) -> None:
        """The next piece of the body; `cut`: the same in the pieces that the peer sent, where they are known."""
        ...

    def end(self, failure: Failure | None) -> None:
        """Nothing more will come: None at the body's proper end. Not called after `close` or `finish`."""
        ...


class Owner(Keeper[Connection], Protocol):
    """Whoever the connection belongs to: the loop's transport."""

    def read_on_soon(self, connection: Connection, moments: int) -> None:
        """Has a connection that stopped reading told to go on, so many moments later."""
        ...


class Answer(Held[Connection, Owner]):
    """The rest of an opened answer. Dropping it closes the connection."""

    __slots__ = ()

    async def read(self, deadline: float) -> bytes | Failure:
        """The next piece of the body, b'' at its end. `deadline`: a point on `time.monotonic`'s clock."""
        connection = self._connection
        if connection is None:
            return b""
        reader = connection.reader
        while True:
            data = connection.take()
            if data:
                return data
            if reader.complete:
                self.finish()
                return b""
            failure = reader.failure or connection.lost
            if failure is not None:
                self.close()
                return failure
            try:
                await connection.wait_for_data(deadline)
            except TimeoutError:
                self.close()
                return transport_failure("timeout", "the answer's next content did not arrive in time")
            except BaseException:
                self.close()
                raise

    def poll(self) -> bytes | Failure | None:
        """What `read` would give if it need not wait; None when it must."""
        connection = self._connection
        if connection is None:
            return b""
        data = connection.take()
        if data:
            return data
        if connection.reader.complete:
            self.finish()
            return b""
        failure = connection.reader.failure or connection.lost
        if failure is not None:
            self.close()
        return failure

    def peek(self) -> bytes:
        """What `poll` would give of the body, which stays there."""
        return b"" if self._connection is None else self._connection.reader.peek()

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive than what is there."""
        connection = self._connection
        if connection is None:
            return True
        reader = connection.reader
        return reader.complete or reader.failure is not None or connection.lost is not None

    def notify(self, deadline: float, waiter: Waiter) -> None:
        """Has `waiter` told when `poll` should be asked again."""
        assert self._connection is not None
        self._connection.notify(deadline, waiter)

    def attach(self, sink: Sink, deadline: float) -> None:
        """From now on the body is pushed to `sink`; what has arrived already is pushed at once.

        `deadline` (monotonic) bounds the wait for the next content; move it with `extend`.
        """
        connection = self._connection
        if connection is None:
            sink.end(None)
            return
        connection.attach(self, sink, deadline)

    def read_on_soon(self, connection: Connection, moments: int) -> None:
        """Has a connection that stopped reading told to go on, so many moments later."""
        self._transport.read_on_soon(connection, moments)

    def extend(self, deadline: float) -> None:
        """Content came: the next must come before `deadline`. Cheap enough to be called for every event."""
        if self._connection is not None:
            self._connection.deadline = deadline

    def pause(self) -> None:
        """Stops reading from the provider (a slow reader downstream); the deadline stands still meanwhile."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Reads on."""
        if self._connection is not None:
            self._connection.resume()
