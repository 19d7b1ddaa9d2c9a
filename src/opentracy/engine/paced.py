"""Writes to a client, gathered where they would follow each other faster than anybody reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exchange import Exchange

_SMALL = 2048  # larger pieces are worth a write of their own


class PacedWriter:
    """Sends at once, unless something was sent within this very millisecond: then a little later, together.

    A model speaks slower than that, so only floods are gathered; each write and its framing cost as much as
    everything else that an event does here. `written`: when something was sent last, on the loop's clock.
    """

    __slots__ = ("_held", "_send", "_server", "_time", "written")

    def __init__(self, exchange: Exchange) -> None:
        self._send = exchange.send
        self._server = exchange.connection.server
        self._time = self._server.loop.time
        self._held: list[bytes] = []
        self.written = self._time()

    def write(self, data: bytes) -> None:
        """Takes bytes of a stream."""
        now = self._time()
        if len(data) > _SMALL:
            self.written = now
            self._send(self.rest(data))
        elif self._held:
            self._held.append(data)
        elif now - self.written > 0.0015:
            self.written = now
            self._send(data)
        else:
            self._held.append(data)
            self._server.soon(self._flush)

    def rest(self, data: bytes) -> bytes:
        """What is still held, and this after it; nothing is held any more."""
        held = self._held
        if held:
            held.append(data)
            data = b"".join(held)
            held.clear()
        return data

    def _flush(self) -> None:
        if self._held:
            self.written = self._time()
            self._send(self.rest(b""))
