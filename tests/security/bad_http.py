"""Generated bad input: `python -m tests.security.bad_http [--count 200000] [--seed 1] [--port PORT]`.

Each input is a whole connection to a real engine: mutated bytes of good requests, broken framing, odd headers, odd
JSON, odd paths and queries over all of the engine's own routes. Nothing may hang for more than a second, no answer may be
a 5xx (but for 503 where nothing can be chosen), no process may die, nothing may be left open. What counts is the time
beyond what a trivial request to the same engine took meanwhile (on a busy machine everything is late), and that the event
loop never stood still: of that its watchdog tells.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_kit import Engine, descriptors, resident_kb, running
from opentracy.engine.standin import StandIn

PATIENCE = 1.0
MOST_LEFT = 48  # three descriptors for each database and each of the threads that may query it, and no more
# answers without end, or as long as the store
LEFT_OUT = ("/v1/traces/tail", "/v1/traces/export", "/v1/dashboard/export")


@dataclass
class Report:
    """What came of it. `faults`: inputs after which something was not as it must be."""

    inputs: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0  # closed without a word, as a cut request may be
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slow: list[str] = field(default_factory=list)  # a second longer than a trivial request beside it
    late: int = 0  # a second from connect to close, as was then a trivial request
    trivial: list[tuple[float, float]] = field(default_factory=list)  # begin and end of each trivial request
    pending: list[tuple[float, float, str]] = field(default_factory=list)  # the same of what took over a second
    stood_still: int = 0  # lines of the engine's watchdog
    seconds: float = 0.0
    grown_kb: int = 0
    descriptors_left: int = 0

    def good(self) -> bool:
        return not self.faults and not self.slow and self.descriptors_left <= MOST_LEFT

    def __str__(self) -> str:
        shown = dict(sorted(self.statuses.items()))
        return (
            f"{self.inputs} inputs in {self.seconds:.0f} s: answers {shown}, closed without answer {self.unanswered}, slowest "
            f"{self.slowest * 1000:.0f} ms, resident memory {self.grown_kb:+d} KiB, descriptors left {self.descriptors_left:+d}, "
            f"slow {len(self.slow)} {self.slow[:3]}, late with the machine {self.late}, slowest trivial request "
            f"{max((b - a for a, b in self.trivial), default=0.0) * 1000:.0f} ms, loop stood still {self.stood_still} times, faults {len(self.faults)} {self.faults[:5]}"
        )


class Maker:
    """Makes inputs; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._r = random.Random(seed)
        from opentracy.engine.app import HOT
        from opentracy.engine.table import ROUTES

        self._routes = [(m, p.decode()) for p, (m, _, _) in HOT.items()] * 6
        self._routes += [(r.method, r.path) for r in ROUTES if not any(x in r.path for x in LEFT_OUT)]
        self._queries = ["limit", "cursor", "q", "model", "since", "until", "status", "metric", "group_by", "bucket", "format", "field", "order",
                         "tag", "key", "user", "session", "bodies", "provider", "%00", "limit[]"]  # fmt: skip
        self._fields = ["model", "messages", "stream", "temperature", "top_p", "n", "max_tokens", "stop", "tools", "tool_choice", "response_format",
                        "metadata", "user", "logit_bias", "seed", "stream_options", "input", "prompt", "models", "cost_weight", "trace_id",
                        "metric", "value", "traces", "strict_params", "store", "key", "name", "scopes", "extra_body", "\u0000", "api_base"]  # fmt: skip

    def next(self) -> tuple[bytes, bool]:
        """One input, and whether it is whole: then an answer is due, else the connection is closed after it."""
        kind = self._r.random()
        if kind < 0.35:
            return self._mutated(self._good()), False
        if kind < 0.45:
            return self._framing(), False
        if kind < 0.9:
            return self._good(odd=True), True
        return bytes(self._r.randrange(256) for _ in range(self._r.randrange(1, 400))), False

    def _value(self, depth: int = 0) -> Any:
        r = self._r
        simple = [None, True, False, 0, -1, 1, 1.5, 1e308, 10**30, -(10**400) if r.random() < 0.02 else 7, "", "x", "auto", "openai/gpt-4o-mini", "\ud800" if r.random() < 0.1 else "u",
                  "a\u0000b", "\u2028", "{}", "[", "9" * 300, "openai/", "/", "smart", "x" * r.randrange(3000), float("nan") if r.random() < 0.2 else 2]  # fmt: skip
        if depth > 3 or r.random() < 0.6:
            return r.choice(simple)
        if r.random() < 0.5:
            return [self._value(depth + 1) for _ in range(r.randrange(4))]
        return {str(self._value(9))[:40] if r.random() < 0.3 else r.choice(["role", "content", "type", "text", "id", "function", "name", "arguments"]): self._value(depth + 1)
                for _ in range(r.randrange(4))}  # fmt: skip

    def _json(self) -> bytes:
        r = self._r
        body: Any = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]} if r.random() < 0.7 else {}
        for _ in range(r.randrange(4)):
            body[r.choice(self._fields)] = self._value()
        if r.random() < 0.1:
            body = self._value()
        data = json.dumps(body, ensure_ascii=r.random() < 0.9).encode("utf-8", "surrogatepass")
        if r.random() < 0.1:
            data = self._mutated(data) or b"x"
        if r.random() < 0.01:
            data = b'{"messages":' + b"[" * r.randrange(100_000)
        return data

    def _path(self, template: str) -> bytes:
        r = self._r
        path = template
        while "{" in path:
            before, _, rest = path.partition("{")
            choices = ["x", "0" * 32, "..", "%2e%2e", "%00", "a" * 200, "'--", "%ff", "\u00e9", "%", "a b", "../../etc/passwd", "%2f", "01a206"]
            path = before + r.choice(choices) + rest.partition("}")[2]
        if r.random() < 0.5:
            values = ["", "x", "-1", "1e9", "%00", "'", "%ff", "9" * 40, "now", "a,b", "true", "[]", "csv", "jsonl", "%F0%9F%98%80", "1", "cost", "model", "in:x", "(", '"']
            path += "?" + "&".join(f"{r.choice(self._queries)}={r.choice(values)}" for _ in range(r.randrange(1, 4)))
        return path.replace(" ", "%20" if r.random() < 0.9 else " ").encode("utf-8" if r.random() < 0.9 else "latin-1", "replace")

    def _good(self, *, odd: bool = False) -> bytes:
        """A request that is well framed; `odd` in what it says."""
        r = self._r
        method, template = r.choice(self._routes)
        if odd and r.random() < 0.05:
            method = r.choice(["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "POST", "GET"])
        body = b"" if method in ("GET", "HEAD", "OPTIONS", "TRACE") else self._json() if odd else b'{"model": "openai/gpt-4o-mini", "messages": []}'
        lines = [b"%b %b HTTP/1.1" % (method.encode(), self._path(template) if odd else template.replace("{", "").replace("}", "").encode()), b"Host: localhost", b"Connection: close"]
        if body:
            lines += [b"Content-Type: application/json" if r.random() < 0.95 else b"Content-Type: " + self._text()]
            if r.random() < 0.15:
                lines.append(b"Transfer-Encoding: chunked")
                body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in self._pieces(body)) + b"0\r\n\r\n"
            else:
                lines.append(b"Content-Length: %d" % len(body))
        if odd and r.random() < 0.3:
            name = r.choice([b"Authorization", b"Cookie", b"traceparent", b"x-opentracy-tags", b"x-request-timeout-ms", b"x-opentracy-num-retries",
                             b"Origin", b"Accept-Encoding", b"Content-Encoding", b"Idempotency-Key", b"x-opentracy-no-store", b"Range", b"Expect", b"If-None-Match"])  # fmt: skip
            lines.append(name + b": " + self._text())
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def _text(self) -> bytes:
        r = self._r
        choices = [b"", b"x", b"Bearer " + b"a" * r.randrange(700), b"opentracy_session=1.2.3", b"opentracy_session=.x.\xe9", b"99999999999999999999", b"-1", b"0",
                   b"gzip", b"\xff\xfe", b"a" * r.randrange(5000), b"'; DROP", b"100-continue", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"null"]  # fmt: skip
        return r.choice(choices)

    def _pieces(self, data: bytes) -> list[bytes]:
        out = []
        while data:
            n = self._r.randrange(1, 200)
            out.append(data[:n])
            data = data[n:]
        return out

    def _mutated(self, data: bytes) -> bytes:
        r = self._r
        out = bytearray(data)
        for _ in range(r.randrange(1, 5)):
            at = r.randrange(len(out) + 1)
            way = r.randrange(6)
            if way == 0 and at < len(out):
                out[at] ^= 1 << r.randrange(8)
            elif way == 1:
                out[at:at] = r.choice([b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\t", b"\x0b", b"%", b"\xff", b"HTTP/1.1", b"0\r\n\r\n", b"Content-Length: 3\r\n"])
            elif way == 2:
                del out[at : at + r.randrange(1, 20)]
            elif way == 3:
                out[at:at] = out[max(0, at - r.randrange(1, 60)) : at]
            elif way == 4:
                del out[at:]
            else:
                out[at:at] = bytes(r.randrange(256) for _ in range(r.randrange(1, 8)))
        return bytes(out)

    def _framing(self) -> bytes:
        r = self._r
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        lines = [b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: -1", b"Content-Length: 5, 5", b"Content-Length: 0x5", b"Content-Length: 99999999999999999999999",
                 b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding:\tchunked",
                 b"Content-Length : 5", b" folded: x", b"Upgrade: h2c\r\nConnection: upgrade", b"Expect: 100-continue", b"Trailer: x", b"X" * r.randrange(1, 70_000) + b": y"]  # fmt: skip
        chosen = b"\r\n".join(r.choice(lines) for _ in range(r.randrange(1, 4)))
        bodies = [b"", b"{}", b"5\r\n{\"a\":\r\n0\r\n\r\n", b"zz\r\n", b"0\r\n\r\n", b"-1\r\n", b"ffffffffffffffff\r\nx", b"5;ext=" + b"a" * r.randrange(20_000) + b"\r\nabcde\r\n", b"1\r\n{", b"0\r\nx: y\r\n\r\n"]  # fmt: skip
        return head + chosen + b"\r\n\r\n" + r.choice(bodies) + (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" if r.random() < 0.2 else b"")


async def _trivial(port: int, report: Report) -> None:
    """Asks for next to nothing, all the time."""
    while True:
        began = time.monotonic()
        await _send(port, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", whole=True)
        report.trivial.append((began, time.monotonic()))
        await asyncio.sleep(0.02)


def _sort_out(report: Report) -> None:
    """Which of the slow ones were slower than the machine."""
    for began, ended, text in report.pending:
        beside = max((b - a for a, b in report.trivial if a < ended and b > began), default=0.0)
        if ended - began - beside > PATIENCE:
            report.slow.append(text)
        else:
            report.late += 1


async def _send(port: int, data: bytes, *, whole: bool) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        writer.write(data)
        if not whole:
            writer.write_eof()
        return await reader.read(-1)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def _worker(port: int, maker: Maker, report: Report, count: int) -> None:
    while report.inputs < count:
        report.inputs += 1
        data, whole = maker.next()
        began = time.monotonic()
        try:
            out = await asyncio.wait_for(_send(port, data, whole=whole), 15)
        except (TimeoutError, OSError) as e:
            report.faults.append(f"{e.__class__.__name__} after {data[:300]!r}")
            continue
        spent = time.monotonic() - began
        report.slowest = max(report.slowest, spent)
        if spent > PATIENCE:
            report.pending.append((began, began + spent, f"{spent:.2f} s for {data[:200]!r}"))
        _judge(report, data, out, whole=whole)


def _judge(report: Report, data: bytes, out: bytes, *, whole: bool) -> None:
    if not out.startswith(b"HTTP/1.1 "):
        report.unanswered += 1
        # a request that is not whole may be dropped; one that is must be answered
        if whole or out:
            report.faults.append(f"no answer to {data[:300]!r}")
        return
    if out.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
        out = out[25:] or b"HTTP/1.1 100 Continue"
    status = int(out[9:12])
    report.statuses[status] += 1
    # declared, with words and Retry-After: nothing to choose from, and a store that somebody else holds for seconds
    if status >= 500 and b'"router_unavailable"' not in out and b'"store_unavailable"' not in out:
        report.faults.append(f"{status} {out[-200:]!r} after {data[:400]!r}")


def run(engine: Engine, count: int, *, seed: int = 1, lanes: int = 16) -> Report:
    """Sends `count` inputs to a running engine."""

    async def all_of_it() -> Report:
        report, maker = Report(), Maker(seed)
        began = time.monotonic()
        beside = asyncio.ensure_future(_trivial(engine.port, report))
        await asyncio.gather(*(_worker(engine.port, maker, report, count) for _ in range(lanes)))
        beside.cancel()
        _sort_out(report)
        report.seconds = time.monotonic() - began
        return report

    pid = engine.process.pid
    asyncio.run(_settle(engine))
    open_before, kb_before = descriptors(pid), resident_kb(pid)
    report = asyncio.run(all_of_it())
    time.sleep(1.0)
    if engine.process.poll() is not None:
        report.faults.append("the engine died")
        return report
    report.descriptors_left = descriptors(pid) - open_before
    report.grown_kb = resident_kb(pid) - kb_before
    health = engine.request("GET", "/health").json
    if health["in_flight"]:
        report.faults.append(f"{health['in_flight']} requests left over")
    report.stood_still = engine.log.read_text(errors="replace").count("stood still")
    if "Traceback" in engine.log.read_text(errors="replace"):
        text = engine.log.read_text(errors="replace")
        at = text.index("Traceback")
        report.faults.append(f"a traceback in the log: {text[at : at + 3000]}")
    return report


async def _settle(engine: Engine) -> None:
    """Loads what the first requests load, so that it does not count as growth."""
    for number in range(50):
        maker = Maker(number)
        await _send(engine.port, maker.next()[0], whole=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    with StandIn(gap=0) as stand_in, running(env=stand_in.environment) as engine:
        report = run(engine, wanted.count, seed=wanted.seed)
    print(report)
    return 0 if report.good() else 1


if __name__ == "__main__":
    sys.exit(main())
