"""Starts real engines for the hardening suites and talks to them: whole requests, raw bytes, half requests, traces.

Belongs here: processes and sockets that more than one suite needs. Not here: what any of it should answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "engine"))

from engine_process import KEYS, MESSAGES, Engine, Reply, bare_environment, free_port

__all__ = [
    "KEYS", "MESSAGES", "Engine", "Reply", "bare_environment", "chat_bytes", "children", "descriptors", "eventually",
    "free_port", "keys_for", "launch", "resident_kb", "running", "split_answers", "stop", "sum_of_rows",
]  # fmt: skip


def keys_for(base: str, names: Sequence[str] = KEYS) -> dict[str, str]:
    """Environment that points these providers at one base URL, each with a key of its own."""
    out = {}
    for name in names:
        out[f"{name}_API_BASE"], out[f"{name}_API_KEY"] = base, f"sk-{name.lower()}-secret-0123456789"
    return out


def launch(
    home: Path, config: str = "", flags: Sequence[str] = (), env: dict[str, str] | None = None, *,
    port: int | None = None, preexec: Callable[[], object] | None = None, stdout: Any = None,
) -> Engine:  # fmt: skip
    """Starts `opentracy serve` without waiting for it."""
    home.mkdir(parents=True, exist_ok=True)
    file, log = home / "opentracy.toml", home / "log"
    file.write_text(config)
    port = port or free_port()
    environ = {**bare_environment(), "OPENTRACY_DATA_HOME": str(home), "NO_PROXY": "127.0.0.1", **(env or {})}
    command = [sys.executable, "-m", "opentracy", "serve", "--port", str(port), "--config", str(file), *flags]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, env=environ, stdout=out if stdout is None else stdout, stderr=out if stdout is None else stdout,
            stdin=subprocess.DEVNULL, preexec_fn=preexec,
        )  # fmt: skip
    return Engine(port, home, process, log)


def wait_until_live(engine: Engine, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert engine.process.poll() is None, engine.log.read_text()
        with contextlib.suppress(OSError):
            if engine.request("GET", "/health/live").status == 200:
                return
        time.sleep(0.03)
    raise AssertionError("the engine did not start:\n" + engine.log.read_text())


@contextlib.contextmanager
def running(
    config: str = "", flags: Sequence[str] = (), env: dict[str, str] | None = None, *, home: Path | None = None,
    **more: Any,
) -> Iterator[Engine]:  # fmt: skip
    """A started engine that answers; killed at the end if the test did not stop it."""
    with contextlib.ExitStack() as stack:
        if home is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opentracy-", ignore_cleanup_errors=True)))
        engine = launch(home, config, flags, env, **more)
        stack.callback(stop, engine)
        wait_until_live(engine)
        yield engine


def stop(engine: Engine) -> None:
    """Ends an engine and its workers, however it is."""
    if engine.process.poll() is None:
        engine.process.terminate()
        try:
            engine.process.wait(15)
        except subprocess.TimeoutExpired:
            for pid in children(engine.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            engine.process.kill()
            engine.process.wait(10)


# ---------------------------------------------------------------- bytes
def chat_bytes(model: str = "openai/gpt-4o-mini", *lines: bytes, stream: bool = False, **fields: Any) -> bytes:
    """A chat request as it goes over the wire."""
    body = json.dumps({"model": model, "messages": MESSAGES, "stream": stream, **fields}).encode()
    head = [b"POST /v1/chat/completions HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *lines]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


def split_answers(data: bytes) -> list[tuple[int, bytes]]:
    """(status, body) of each answer in a row of answers with lengths or chunks; a cut one ends the list."""
    out = []
    while data:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            break
        lines = {k.strip().lower(): v.strip() for k, _, v in (s.partition(b":") for s in head.split(b"\r\n")[1:])}
        if b"content-length" in lines:
            size = int(lines[b"content-length"])
            body, data = rest[:size], rest[size:]
        else:
            body = b""
            while rest:
                size_line, _, rest = rest.partition(b"\r\n")
                size = int(size_line, 16)
                body, rest = body + rest[:size], rest[size + 2 :]
                if not size:
                    break
            data = rest
        out.append((int(head[9:12]), body))
    return out


# ---------------------------------------------------------------- processes
def children(pid: int) -> list[int]:
    """The live child processes of a process."""
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_kb(pid: int) -> int:
    line = next(s for s in Path(f"/proc/{pid}/status").read_text().splitlines() if s.startswith("VmRSS"))
    return int(line.split()[1])


def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true value of a condition, or what it was at the end."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def sum_of_rows(engine: Engine) -> int:
    """How many traces there are, by paging through all of them."""
    count, cursor = 0, ""
    while True:
        page = engine.request("GET", f"/v1/traces?limit=1000{cursor}").json
        count += len(page["data"])
        if not page["has_more"]:
            return count
        cursor = f"&cursor={page['next']}"


def port_is_free(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0
