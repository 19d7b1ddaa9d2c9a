"""Sending through an HTTP client that the caller passes in (httpx2, or httpx): the same steps, the same failure kinds.

For what our own transport does not do: HTTP/2, SOCKS, client certificates, a company's instrumented client. The library
is the caller's; it is never imported here, and its exceptions are known by their names. Redirects are not followed, and
nothing below the plan retries.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ..core.failure import transport_failure
from ..core.plan import Completed, Opened, Run, Send
from ..core.wire import Failure, HttpHead, HttpResponse, Kind
from .adriving import adrive
from .driving import drive
from .http1 import MAX_BODY

_KINDS: dict[str, Kind] = {
    "ConnectTimeout": "timeout", "ReadTimeout": "timeout", "WriteTimeout": "timeout", "PoolTimeout": "pool",
    "ProxyError": "proxy", "RemoteProtocolError": "eof", "ReadError": "reset", "WriteError": "reset",
    "CloseError": "reset", "DecodingError": "encoding", "UnsupportedProtocol": "unreachable",
}  # fmt: skip
_BEFORE_SENDING = frozenset({"ConnectTimeout", "ConnectError", "PoolTimeout", "ProxyError", "UnsupportedProtocol"})
_now = time.monotonic


def failure_of(error: Exception, *, in_body: bool) -> Failure:
    """What one of the client's exceptions means; anything that is not its own is raised again."""
    name = type(error).__name__
    if name != "ConnectError" and name not in _KINDS:
        if any(c.__name__ in ("HTTPError", "StreamError") for c in type(error).__mro__):
            return transport_failure("reset", f"the HTTP client failed: {name}")
        raise error
    text = str(error) or name
    kind = _KINDS.get(name) or _connect_kind(text)
    if in_body and kind == "eof":
        kind = "truncated"
    return transport_failure(kind, f"the HTTP client failed: {text}", sent=name not in _BEFORE_SENDING)


def _connect_kind(text: str) -> Kind:
    lower = text.lower()
    if "certificate" in lower or "ssl" in lower or "tls" in lower:
        return "tls"
    if "refused" in lower:
        return "refused"
    return "dns" if "name" in lower or "resol" in lower or "address" in lower else "unreachable"


def _timeouts(step: Send) -> dict[str, float]:
    now = _now()
    left = max(0.001, step.deadline - now)
    connect = max(0.001, min(left, step.connect_deadline - now))
    return {"connect": connect, "read": left, "write": left, "pool": connect}


def _request(client: Any, step: Send) -> Any:
    request = step.request
    headers = {"user-agent": "", **dict(request.headers)}
    if not headers["user-agent"]:
        from .http1 import USER_AGENT

        headers["user-agent"] = USER_AGENT
    return client.build_request(
        request.method, request.url, headers=headers, content=request.body, extensions={"timeout": _timeouts(step)}
    )


def _head(response: Any) -> HttpHead:
    return HttpHead(response.status_code, {k.lower(): v for k, v in response.headers.items()})


def _is_stream(step: Send, head: HttpHead) -> bool:
    return step.stream and 200 <= head.status < 300


class _Body:
    """Collects a whole answer within the limits."""

    def __init__(self, step: Send) -> None:
        self.deadline = step.deadline
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> Failure | None:
        """Why to stop, if it is time to."""
        self.parts.append(data)
        self.size += len(data)
        if self.size > MAX_BODY:
            return transport_failure("body_limit", f"the answer is larger than {MAX_BODY >> 20} MiB")
        if _now() > self.deadline:
            return transport_failure("timeout", "the provider did not answer in time")
        return None


class Answer:
    """The rest of an opened answer of a blocking client."""

    def __init__(self, response: Any, head: HttpHead) -> None:
        self.head = head
        self._response = response
        self._pieces = response.iter_bytes()

    def read(self, deadline: float) -> bytes | Failure:
        """The next piece of the body, b'' at its end. The client's own read time-out bounds the waiting."""
        try:
            data: bytes = next(self._pieces, b"")
        except Exception as e:
            self.close()
            return failure_of(e, in_body=True)
        if data and _now() > deadline:
            self.close()
            return transport_failure("timeout", "the answer's next content did not arrive in time")
        return data

    def finish(self) -> None:
        """Nothing more is wanted."""
        self.close()

    def close(self) -> None:
        """Nothing more is wanted, and the provider shall stop."""
        self._response.close()


class AsyncAnswer:
    """The rest of an opened answer of an asynchronous client."""

    def __init__(self, response: Any, head: HttpHead) -> None:
        self.head = head
        self._response = response
        self._pieces = response.aiter_bytes()

    async def read(self, deadline: float) -> bytes | Failure:
        """The next piece of the body, b'' at its end."""
        try:
            async with asyncio.timeout(max(0.0, deadline - _now())):
                data: bytes = await anext(self._pieces, b"")
        except TimeoutError:
            await self._response.aclose()
            return transport_failure("timeout", "the answer's next content did not arrive in time")
        except Exception as e:
            await self._response.aclose()
            return failure_of(e, in_body=True)
        return data

    def finish(self) -> None:
        """Nothing more is wanted."""
        self.close()

    def close(self) -> None:
        """Closes in the background: the client offers no other way without waiting."""
        if not self._response.is_closed:
            task = asyncio.ensure_future(self._response.aclose())
            _closing.add(task)
            task.add_done_callback(_closing.discard)


_closing: set[asyncio.Future[None]] = set()


class ForeignTransport:
    """Drives plans over a blocking client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def drive(self, run: Run) -> Completed | tuple[Opened, Answer | None]:
        """As `driving.drive`."""
        return drive(run, self._send)

    def _send(self, step: Send) -> HttpResponse | Failure | Answer:
        try:
            response = self._client.send(_request(self._client, step), stream=True, follow_redirects=False)
        except Exception as e:
            return failure_of(e, in_body=False)
        head = _head(response)
        if _is_stream(step, head):
            return Answer(response, head)
        body = _Body(step)
        try:
            for data in response.iter_bytes():
                failure = body.add(data)
                if failure is not None:
                    return failure
        except Exception as e:
            return failure_of(e, in_body=True)
        finally:
            response.close()
        return HttpResponse(head.status, head.headers, b"".join(body.parts))


class AsyncForeignTransport:
    """Drives plans over an asynchronous client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def drive(self, run: Run) -> Completed | tuple[Opened, AsyncAnswer | None]:
        """As `adriving.adrive`."""
        return await adrive(run, self._send)

    async def _send(self, step: Send) -> HttpResponse | Failure | AsyncAnswer:
        try:
            async with asyncio.timeout(max(0.0, step.deadline - _now())):
                return await self._exchange(step)
        except TimeoutError:
            return transport_failure("timeout", "the provider did not answer in time")

    async def _exchange(self, step: Send) -> HttpResponse | Failure | AsyncAnswer:
        try:
            response = await self._client.send(_request(self._client, step), stream=True, follow_redirects=False)
        except Exception as e:
            return failure_of(e, in_body=False)
        head = _head(response)
        if _is_stream(step, head):
            return AsyncAnswer(response, head)
        body = _Body(step)
        try:
            async for data in response.aiter_bytes():
                failure = body.add(data)
                if failure is not None:
                    return failure
        except Exception as e:
            return failure_of(e, in_body=True)
        finally:
            await response.aclose()
        return HttpResponse(head.status, head.headers, b"".join(body.parts))
