"""A running engine seen from outside: plain HTTP, raw bytes, its traces; and how a test starts one."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEYS = ("OPENAI", "ANTHROPIC", "GROQ", "DEEPSEEK")
MESSAGES = [{"role": "user", "content": "hello there"}]


def bare_environment() -> dict[str, str]:
    """The environment without anything that steers an engine, or its interpreter in ways that users do not."""
    ours = ("_API_KEY", "_API_BASE", "_BASE_URL", "_PROXY", "_proxy")
    begins = ("OPENTRACY_", "AWS_", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
    return {k: v for k, v in os.environ.items() if not k.startswith(begins) and not k.endswith(ours)}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.json["error"])

    @property
    def events(self) -> list[Any]:
        """The data of each event; `[DONE]` as text."""
        out: list[Any] = []
        for line in self.body.decode().split("\n"):
            if line.startswith("data: "):
                out.append("[DONE]" if line == "data: [DONE]" else json.loads(line[6:]))
        return out


@dataclass
class Engine:
    """A running `opentracy serve`."""

    port: int
    home: Path
    process: subprocess.Popen[bytes]
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            given = {"content-type": "application/json"} if data is not None else {}
            connection.request(method, path, data, {**given, **self.headers, **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def chat(self, model: str = "openai/gpt-4o-mini", headers: dict[str, str] | None = None, **body: Any) -> Reply:
        return self.request("POST", "/v1/chat/completions", {"model": model, "messages": MESSAGES, **body}, headers)

    def raw(self, data: bytes, *, wait: float = 10.0) -> bytes:
        """What comes back for these bytes until the engine closes (or `wait` passes in silence)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as s:
            s.sendall(data)
            out = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                while piece := s.recv(65536):
                    out += piece
            return out

    def trace(self, reply: Reply) -> dict[str, Any]:
        found = self.request("GET", f"/v1/traces/{reply.headers['x-opentracy-trace-id']}")
        assert found.status == 200, found.body
        return dict(found.json)

    def traces(self, query: str = "") -> list[dict[str, Any]]:
        return list(self.request("GET", f"/v1/traces?{query}").json["data"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(40)


Start = Callable[..., Engine]
