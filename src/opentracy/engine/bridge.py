"""An exchange as an ASGI call, for everything that is not the hot path.

Belongs here: scope, receive and send of the ASGI specification (HTTP only, version 3.0). Not here: routes (`app`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from .errors import error_body
from .exchange import Exchange

log = logging.getLogger("opentracy.engine")
Message = MutableMapping[str, Any]
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class Bridge:
    """Answers one exchange through an ASGI application, in a task of its own."""

    __slots__ = ("_app", "_drained", "_exchange", "_gone", "_head", "_received", "_task", "_writable")

    def __init__(self, app: Application, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._exchange = exchange
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._received = False
        self._head: tuple[int, bytes, bytes] | None = None
        exchange.owner = self
        self._task = loop.create_task(self._run())

    # ---------------------------------------------------------------- owner of the exchange
    def client_gone(self) -> None:
        """Nobody listens: the application is told, then stopped."""
        self._gone.set()
        self._writable.set()
        self._task.get_loop().call_later(0.5, self._task.cancel)

    def client_paused(self) -> None:
        """Sends wait from here on."""
        self._writable.clear()

    def client_resumed(self) -> None:
        """Sends go on."""
        self._writable.set()

    def tick(self, now: float) -> None:
        """Nothing to do: no deadlines of its own."""

    # ---------------------------------------------------------------- ASGI
    async def _run(self) -> None:
        exchange = self._exchange
        try:
            await self._app(self._scope(), self._receive, self._send)
        except asyncio.CancelledError:
            return
        except Exception:
            if exchange.gone:
                return  # what was raised is that nobody listens any more
            log.exception("unhandled error in %s", exchange.path.decode("latin-1"))
            if exchange.started:
                exchange.abort()
            else:
                exchange.respond(500, error_body(500, "The engine failed to answer this request"))
            return
        if not exchange.finished and not exchange.gone:
            if exchange.started:
                exchange.abort()
            else:
                exchange.respond(500, error_body(500, "The engine gave no answer"))

    def _scope(self) -> dict[str, Any]:
        exchange = self._exchange
        transport = exchange.connection.transport
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1" if exchange.http11 else "1.0",
            "method": exchange.method,
            "scheme": "http",
            "path": unquote(exchange.path.decode("latin-1")),
            "raw_path": exchange.path,
            "query_string": exchange.query,
            "root_path": "",
            "headers": list(exchange.headers.items()),
            "client": transport.get_extra_info("peername"),
            "server": transport.get_extra_info("sockname"),
        }

    async def _receive(self) -> Message:
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self._exchange.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            raise OSError("the client is gone")
        if message["type"] == "http.response.start":
            self._start(message)
            return
        body = message.get("body", b"")
        more = message.get("more_body", False)
        exchange = self._exchange
        if not exchange.started:
            assert self._head is not None
            status, kind, headers = self._head
            if not more:
                exchange.respond(status, body, kind, headers)
                return
            exchange.open_stream(status, kind, headers, body)
        elif more:
            exchange.send(body)
        else:
            exchange.finish(body)
        if not self._writable.is_set():
            await self._writable.wait()

    def _start(self, message: Message) -> None:
        kind = b"application/octet-stream"
        lines = []
        for name, value in message["headers"]:
            name = name.lower()
            if name == b"content-type":
                kind = value
            elif name not in (b"connection", b"transfer-encoding", b"date", b"content-length"):
                lines.append(b"%b: %b\r\n" % (name, value))
        self._head = (message["status"], kind, b"".join(lines))
