"""A real Redis for the tests of many engines."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "pw-canary"


class Redis:
    """A server on a port of its own that keeps nothing on the disk; it can be ended and begun again, empty."""

    def __init__(self, program: str, place: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                         "--requirepass", PASSWORD]  # fmt: skip
        self._place = place
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        out = subprocess.DEVNULL
        self.process: subprocess.Popen[bytes] = subprocess.Popen(self._command, cwd=self._place, stdout=out, stderr=out)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.05)
        raise AssertionError("redis-server does not listen")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@contextlib.contextmanager
def real_redis(place: Path) -> Iterator[Redis]:
    """A running Redis; skips the test where there is none to run."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    pytest.importorskip("redis", reason="the redis package is not installed")
    server = Redis(program, place)
    try:
        yield server
    finally:
        server.stop()
