"""ClickHouse behind its HTTP interface as a process of its own (see `clickhouse_front`)."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from clickhouse_front import PASSWORD, USER

from opentracy.traces.clickhouse import ClickHouse


class Front:
    """The server as a process: it can be killed and started again on the same data and port."""

    def __init__(self, place: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.place = place
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"clickhouse://{USER}:{PASSWORD}@127.0.0.1:{self.port}/default"

    def start(self) -> None:
        program = [sys.executable, str(Path(__file__).with_name("clickhouse_front.py")), str(self.port), str(self.place)]
        self.process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            assert self.process.poll() is None
            time.sleep(0.05)
        raise AssertionError("ClickHouse did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None


def totals(dsn: str) -> tuple[int, int, int]:
    server = ClickHouse(dsn)
    try:
        return server.totals()
    finally:
        server.close()
