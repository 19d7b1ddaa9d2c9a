"""A small raw-socket HTTP server that answers as a test tells it to, right or wrong. Loopback only, one thread a connection.

A step is a function of an `Exchange`; it returns True to keep the connection alive. The last step of a script stays.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

CHUNK = {"id": "c1", "object": "chat.completion.chunk", "created": 1700000000, "model": "served"}
ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "served",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


@dataclass
class Exchange:
    """One request and the socket to answer it on."""

    sock: socket.socket
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def send(self, *parts: bytes, gap: float = 0.0) -> None:
        for part in parts:
            self.sock.sendall(part)
            if gap:
                time.sleep(gap)

    def wait_for_close(self, seconds: float = 10.0) -> bool:
        """Until the client leaves."""
        self.sock.settimeout(seconds)
        with contextlib.suppress(OSError):
            if not self.sock.recv(1):
                self.closed.set()
                return True
        self.closed.set()
        return False


Step = Callable[[Exchange], "bool | None"]


def head(status: int | str = 200, **headers: Any) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(status: int = 200, body: Any = ANSWER, keep: bool = True, **headers: Any) -> Step:
    """A whole answer with a length."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers.setdefault("content_type", "application/json")

    def step(x: Exchange) -> bool:
        extra = {} if keep else {"connection": "close"}
        x.send(head(status, content_length=len(data), **extra, **headers) + data)
        return keep

    return step


def error(status: int, message: str = "boom", **headers: Any) -> Step:
    return answer(status, {"error": {"message": message, "type": "t", "code": None}}, x_request_id="req-1", **headers)


def event(delta: dict[str, Any], finish: str | None = None, **extra: Any) -> bytes:
    chunk = {**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **extra}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


TEXTS = ("hel", "lo")
EVENTS = (
    event({"role": "assistant", "content": ""}),
    *(event({"content": t}) for t in TEXTS),
    event({}, "stop"),
    b"data: " + json.dumps({**CHUNK, "choices": [], "usage": ANSWER["usage"]}).encode() + b"\n\n",
    b"data: [DONE]\n\n",
)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*events: bytes, end: bytes = b"0\r\n\r\n", gap: float = 0.0, then: Step | None = None, **headers: Any) -> Step:
    """An event stream in chunked framing; `end` b'' leaves the framing open."""

    def step(x: Exchange) -> bool:
        x.send(head(200, content_type="text/event-stream", transfer_encoding="chunked", **headers))
        x.send(*(chunked(e) for e in events or EVENTS), gap=gap)
        if then is not None:
            return bool(then(x))
        x.send(end)
        return bool(end)

    return step


def raw(*parts: bytes, gap: float = 0.0) -> Step:
    def step(x: Exchange) -> bool:
        x.send(*parts, gap=gap)
        return False

    return step


def reset(x: Exchange) -> bool:
    x.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def hang(x: Exchange) -> bool:
    x.wait_for_close()
    return False


def drop(x: Exchange) -> bool:
    return False


class FaultServer:
    """Calls with a script: `server(error(429), answer())`; `seen` are the requests since then."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.seen: list[Exchange] = []
        self.connections = 0
        self._script: list[Step] = [answer()]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __call__(self, *steps: Step) -> FaultServer:
        with self._lock:
            self._script = list(steps) or [answer()]
            self.seen = []
            self.connections = 0
        return self

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            number = self.connections
            self._open.add(sock)
        with contextlib.suppress(OSError), contextlib.closing(sock):
            for path, headers, body in self._requests(sock):
                exchange = Exchange(sock, path, headers, body, number)
                with self._lock:
                    step = self._script[min(len(self.seen), len(self._script) - 1)]
                    self.seen.append(exchange)
                if not step(exchange):
                    break
        self._open.discard(sock)

    @staticmethod
    def _requests(sock: socket.socket) -> Iterator[tuple[str, dict[str, str], bytes]]:
        reader = sock.makefile("rb")
        with contextlib.closing(reader):
            while line := reader.readline():
                if not line.endswith(b" HTTP/1.1\r\n"):  # a TLS hello
                    sock.sendall(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    return
                path = line.split(b" ")[1].decode()
                headers = {}
                while (line := reader.readline().strip()) != b"":
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.strip().lower()] = value.strip()
                yield path, headers, reader.read(int(headers.get("content-length", 0)))

    def drop_idle(self) -> None:
        """Closes every connection from the server's side."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.drop_idle()
