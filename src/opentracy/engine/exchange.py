"""One request that a client sent, and the means to answer it.

Belongs here: how an answer is written: whole, or as a stream. Not here: how requests are read from a connection, and in
which order they are answered (`http`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .heads import Head
    from .http import Connection

REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 304: "Not Modified", 400: "Bad Request",
    401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 414: "URI Too Long",
    415: "Unsupported Media Type", 422: "Unprocessable Content", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 499: "Client Closed Request", 500: "Internal Server Error",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip
STATUS_LINES = {code: f"HTTP/1.1 {code} {text}\r\n".encode() for code, text in REASONS.items()}


class Owner(Protocol):
    """Whoever is answering an exchange and must hear what its connection goes through."""

    def client_gone(self) -> None:
        """The client left before the answer was complete."""
        ...

    def client_paused(self) -> None:
        """The client reads slower than we write: write nothing more."""
        ...

    def client_resumed(self) -> None:
        """The client caught up."""
        ...

    def tick(self, now: float) -> None:
        """A few times a second; `now` is the loop's clock."""
        ...


class Exchange:
    """One request, whole, and the means to answer it. Header names are lower case; values are bytes as received."""

    method = ""
    path = b""
    query = b""
    headers: dict[bytes, bytes]
    body = b""
    http11 = True
    keep_alive = True
    owner: Owner | None = None
    started = False
    finished = False
    chunked = False
    status = 0
    received = 0.0  # the loop's clock, when the request was complete
    head: Head | None = None  # where it stands for other requests too
    fault: tuple[int, bytes] | None = None  # a refusal that must wait for the answers before it

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def gone(self) -> bool:
        """Whether the client's connection is lost."""
        return self.connection.lost

    def respond(
        self, status: int, body: bytes, content_type: bytes = b"application/json", headers: bytes = b""
    ) -> None:
        """The whole answer in one write. `headers`: further header lines, each with its line end."""
        connection = self.connection
        if self.started or connection.lost:
            return
        self.started = True
        self.status = status
        line = STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status
        head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b%b\r\n" % (
            line, content_type, len(body), headers, connection.server.common_headers, self._persistence(),
        )  # fmt: skip
        connection.write(head if self.method == "HEAD" else head + body)
        self.end()

    def respond_json(self, body: bytes, headers: bytes) -> None:
        """`respond` for the usual answer: 200, JSON, over HTTP/1.1 to a client that is still there."""
        connection = self.connection
        server = connection.server
        self.started = True
        self.status = 200
        end = b"\r\n"
        if server.draining or not self.keep_alive:
            self.keep_alive = False
            end = b"connection: close\r\n\r\n"
        connection.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b%b%b%b"
            % (len(body), headers, server.common_headers, end, body)
        )
        self.finished = True
        connection.exchange_done(self)

    def open_stream(self, status: int, content_type: bytes, headers: bytes, data: bytes = b"") -> None:
        """The head of an answer of unknown length, with its first bytes in the same write."""
        connection = self.connection
        if self.started or connection.lost:
            return
        self.started = True
        self.status = status
        self.chunked = self.http11
        if not self.http11:
            self.keep_alive = False
        line = STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status
        framing = b"transfer-encoding: chunked\r\n" if self.chunked else b""
        head = b"%bcontent-type: %b\r\n%b%b%b%b\r\n" % (
            line, content_type, framing, headers, connection.server.common_headers, self._persistence(),
        )  # fmt: skip
        if data:
            head += b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data
        connection.write(head)

    def send(self, data: bytes) -> None:
        """The next bytes of a stream."""
        if data and not self.finished:
            self.connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def finish(self, data: bytes = b"") -> None:
        """The last bytes of a stream, and its end."""
        if self.finished:
            return
        if self.chunked:
            self.connection.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
        elif data:
            self.connection.write(data)
        self.end()

    def abort(self) -> None:
        """Drops the connection: the only honest end of an answer that cannot be completed."""
        self.connection.abort()

    def end(self) -> None:
        """The answer is written: the connection may go on to its next request."""
        if not self.finished:
            self.finished = True
            self.connection.exchange_done(self)

    def _persistence(self) -> bytes:
        if self.keep_alive and not self.connection.server.draining:
            return b"" if self.http11 else b"connection: keep-alive\r\n"
        self.keep_alive = False
        return b"connection: close\r\n"
