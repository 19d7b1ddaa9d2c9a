"""Gateways under load: CPU per request of each, in turn, beside each other; latency; a thousand streams at once.

Belongs here: starting processes, loads, accounting. The provider and the floor are those of `engine`. The gateway runs
on the first core, load and provider on the last, where there are two.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .engine import BODY, LUA, WORDS, _free_port, _wait, cpu, tree
from .peers import HOME, Gateway

HERE = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0))


def _pinned(core: int) -> list[str]:
    return ["taskset", "-c", str(core)] if len(CORES) > 1 else []


def rss(pid: int) -> float:
    """Resident megabytes of the largest process of a tree."""
    return max([own_rss(one) for one in tree(pid)], default=0.0)


def own_rss(pid: int) -> float:
    """Resident megabytes of one process; 0 when it is gone."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


class Running:
    """A started gateway."""

    def __init__(self, gateway: Gateway, provider: int, *, pin: bool = True) -> None:
        self.gateway = gateway
        self.port = _free_port()
        filled = {"port": str(self.port), "provider": str(provider)}
        command = [part.format(**filled) for part in gateway.command]
        env = {**os.environ, **{name: value.format(**filled) for name, value in gateway.env.items()}}
        HOME.mkdir(exist_ok=True)
        with (HOME / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*(_pinned(CORES[0]) if pin else []), *command], env=env, stdout=log, stderr=log
            )
        try:
            _until(self.port, 180)
        except SystemExit:
            self.close()
            raise

    def close(self) -> None:
        self.awake(True)
        self.process.terminate()
        self.process.wait(60)

    def awake(self, on: bool) -> None:
        """Lets it run, or holds it: what idles beside another one still takes its cache, and some of its core."""
        for one in tree(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT if on else signal.SIGSTOP)


def _until(port: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(SystemExit):
            _wait(port)
            return
    raise SystemExit(f"nothing listens on {port} after {seconds:.0f} s; see {HOME / 'gateway.log'}")


@contextlib.contextmanager
def provider(gap: float = 0.0005) -> Iterator[int]:
    """The stand-in for the providers; its port."""
    port = _free_port()
    env = {**os.environ, "BENCH_GAP": str(gap)}
    command = [*_pinned(CORES[-1]), sys.executable, str(HERE / "engine.py"), "--as", "provider", "--port", str(port)]
    process = subprocess.Popen(command, env=env)
    try:
        _wait(port)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def load(at: Running, seconds: float, connections: int = 32, *, new: bool = False, **body: Any) -> dict[str, float]:
    """One load: CPU microseconds per request, requests per second, how many were not answered well. `new`: every
    prompt is another one, a hundred words long."""
    HOME.mkdir(exist_ok=True)
    script = HOME / "post.lua"
    script.write_text(LUA)
    before = cpu(at.process.pid)
    command = [*_pinned(CORES[-1]), "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}", "-s", str(script), "--timeout",
               "10s", f"http://127.0.0.1:{at.port}/v1/chat/completions"]  # fmt: skip
    if new:
        body["messages"] = [{"role": "user", "content": "PROMPT"}]
    env = {**os.environ, "BENCH_BODY": json.dumps({**BODY, "model": at.gateway.model, **body})}
    env["BENCH_NEW"] = WORDS if new else ""
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", out)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    served = int(found[1]) if found else 0
    used = cpu(at.process.pid) - before
    return {
        "us": used / max(served, 1) * 1e6, "per_second": served / seconds, "served": served,
        "bad": int(bad[1]) if bad else 0, "rss_mb": rss(at.process.pid),
    }  # fmt: skip


def side_by_side(
    gateways: list[Gateway], rounds: int, seconds: float, connections: int = 32, *, new: bool = False, **body: Any
) -> dict[str, dict[str, float]]:
    """Medians per gateway over rounds in which they take turns, each alone; `ratio`: the first one's cost over this
    one's."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(provider())
        running = [stack.enter_context(contextlib.closing(Running(gateway, port))) for gateway in gateways]
        for one in running:
            load(one, 1, connections, new=new, **body)
            one.awake(False)
        runs: dict[str, list[dict[str, float]]] = {one.gateway.name: [] for one in running}
        for _ in range(rounds):
            for one in running:
                one.awake(True)
                runs[one.gateway.name].append(load(one, seconds, connections, new=new, **body))
                one.awake(False)
    first = runs[gateways[0].name]
    table = {}
    for name, rows in runs.items():
        table[name] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        table[name]["ratio"] = statistics.median(a["us"] / b["us"] for a, b in zip(first, rows, strict=True))
        table[name]["bad"] = sum(row["bad"] for row in rows)
    return table


# ------------------------------------------------------------------------------------------------ latency and streams
async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"chunked" not in head:
        return await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


def _request(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def _paced(port: int, body: dict[str, Any], rate: float, seconds: float) -> list[float]:
    """Milliseconds of each request, sent at a steady rate over kept connections (waiting for one counts too)."""
    request, took = _request(body), []
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(32):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))

    async def one(due: float) -> None:
        connection = await free.get()
        await _exchange(*connection, request)
        took.append((time.perf_counter() - due) * 1e3)
        free.put_nowait(connection)

    start, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        due = start + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(one(due)))
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait()[1].close()
    return took


def added_latency(gateway: Gateway, seconds: float) -> dict[str, float]:
    """Milliseconds that the gateway adds at half of what it can serve, against asking the provider directly."""
    with provider() as port:
        at = Running(gateway, port)
        try:
            most = min(1e6 / load(at, 1)["us"], 4000.0)  # the client of this test is the slower one of the two
            body = {**BODY, "model": gateway.model}
            through, direct = [], []
            for _ in range(3):  # in turn, so that a busy machine slows both
                direct += asyncio.run(_paced(port, BODY, min(most / 2, 1000), seconds / 3))
                through += asyncio.run(_paced(at.port, body, min(most / 2, 1000), seconds / 3))
        finally:
            at.close()
    cuts = [statistics.quantiles(sorted(times), n=100) for times in (through, direct)]
    return {"p50_ms": cuts[0][49] - cuts[1][49], "p99_ms": cuts[0][98] - cuts[1][98], "per_second": min(most / 2, 1000)}


def many_streams(gateway: Gateway, count: int, seconds: float) -> dict[str, float]:
    """`count` streams at once, 20 ms between events, until `seconds` are over: errors, different texts, memory of the
    worker, which is the started process itself, and of the largest process: traces are sealed by one beside it."""
    request = _request({**BODY, "model": gateway.model, "stream": True})
    hashes: dict[str, int] = {}
    errors = 0

    async def one(port: int, end: float) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while time.monotonic() < end:
                lines = (await _exchange(reader, writer, request)).split(b"\n")
                events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
                text = "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])
                whole = bool(text) and lines[-3] == b"data: [DONE]"
                mark = hashlib.sha256(text.encode()).hexdigest() if whole else "incomplete"
                hashes[mark] = hashes.get(mark, 0) + 1
        except (OSError, asyncio.IncompleteReadError, ValueError):
            errors += 1
        writer.close()

    async def everybody(port: int, pid: int) -> tuple[float, float]:
        end = time.monotonic() + seconds
        tasks = [asyncio.ensure_future(one(port, end)) for _ in range(count)]
        worker = largest = 0.0
        while not all(task.done() for task in tasks):
            worker, largest = max(worker, own_rss(pid)), max(largest, rss(pid))
            await asyncio.sleep(0.5)
        return worker, largest

    with provider(0.02) as port:
        at = Running(gateway, port)
        try:
            before = cpu(at.process.pid)
            worker, largest = asyncio.run(everybody(at.port, at.process.pid))
            used = cpu(at.process.pid) - before
        finally:
            at.close()
    streams = sum(hashes.values())
    return {"streams": streams, "errors": errors + hashes.get("incomplete", 0), "texts": len(hashes),
            "rss_mb": worker, "largest_mb": largest, "cpu_us_per_stream": used / max(streams, 1) * 1e6}  # fmt: skip
