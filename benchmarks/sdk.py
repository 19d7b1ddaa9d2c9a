"""What one call of the SDK costs in CPU time, beside the floor (http.client and json) and the openai package.

Each subject runs in a process of its own against an upstream that costs it nothing but sockets, and reports its own
CPU time: import, a plain call, a stream of 200 events (blocking and asyncio). Rounds alternate between the subjects,
and the ratios are medians over rounds, so that a busy machine slows both sides.

    python benchmarks/sdk.py [--calls 300] [--streams 30] [--rounds 5] [--subjects floor,ours,openai,router] [--json F]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVENTS = 200
MESSAGES = [{"role": "user", "content": "What is the capital of France, and what is it known for?"}]
ANSWER = {
    "id": "chatcmpl-bench", "object": "chat.completion", "created": 1764000000, "model": "bench",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris, known for " + "many things " * 10},
                 "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 24, "completion_tokens": 31, "total_tokens": 55},
}  # fmt: skip
LIMITS = {"import_ms": 60.0, "plain/floor": 1.5, "stream/floor": 1.2, "openai/plain": 6.0, "openai/stream": 8.0}


def cpu() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def upstream() -> None:
    """Serves the answer or the stream; every event is a write of its own, one loop turn apart."""

    def event(delta: dict[str, Any], finish: str | None = None, **extra: Any) -> bytes:
        chunk = {**ANSWER, "object": "chat.completion.chunk", **extra}
        chunk["choices"] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        data = b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
        return b"%x\r\n%b\r\n" % (len(data), data)

    plain = json.dumps(ANSWER).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(plain)
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    events = [event({"content": f" tok{i}"}, usage=None) for i in range(EVENTS)]
    events += [event({}, "stop"), b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                length = int(request.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                if b'"stream":true' not in (await reader.readexactly(length)).replace(b" ", b""):
                    writer.write(head + plain)
                    continue
                writer.write(stream)
                for data in events:
                    writer.write(data)
                    await asyncio.sleep(0)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


def per_call(call: Callable[[], object], n: int) -> float:
    """Microseconds of CPU per call, after two to warm up."""
    assert call()
    call()
    start = cpu()
    for _ in range(n):
        call()
    return (cpu() - start) / n * 1e6


async def per_async_call(call: Callable[[], Any], n: int) -> float:
    """The same for coroutines."""
    assert await call()
    await call()
    start = cpu()
    for _ in range(n):
        await call()
    return (cpu() - start) / n * 1e6


def floor(base: str) -> tuple[Any, ...]:
    """http.client on one kept connection, and json: what nobody can do without in the standard library."""
    import http.client
    from urllib.parse import urlsplit

    connection = http.client.HTTPConnection(urlsplit(base).netloc)

    def send(stream: bool) -> http.client.HTTPResponse:
        body = json.dumps({"model": "m", "messages": MESSAGES, **({"stream": True} if stream else {})})
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        return connection.getresponse()

    def plain() -> Any:
        return json.loads(send(False).read())["choices"][0]["message"]["content"]

    def stream() -> int:
        lines = [json.loads(line[6:])["choices"] for line in send(True) if line.startswith(b"data: {")]
        return sum(bool(c[0]["delta"].get("content")) for c in lines)

    return plain, stream, None, None


def ours(base: str) -> tuple[Any, ...]:
    """This package."""
    import opentracy as ot

    kw: dict[str, Any] = {"model": "openai/gpt-4o-mini", "messages": MESSAGES, "api_key": "x", "api_base": base + "/v1"}

    async def aplain() -> Any:
        return (await ot.acompletion(**kw)).choices[0].message.content

    async def astream() -> int:
        return sum([bool(c.choices[0].delta.content) async for c in await ot.acompletion(**kw, stream=True)])

    return (
        lambda: ot.completion(**kw).choices[0].message.content,
        lambda: sum(bool(c.choices[0].delta.content) for c in ot.completion(**kw, stream=True)),
        aplain,
        astream,
    )


def router(base: str) -> tuple[Any, ...]:
    """This package's router over two deployments."""
    import opentracy as ot

    one = {"model_name": "m", "model": "openai/gpt-4o-mini", "api_key": "x", "api_base": base + "/v1"}
    routed = ot.Router([one, {**one, "model": "openai/gpt-4o"}], strategy="least-cost")
    return (
        lambda: routed.completion("m", MESSAGES).choices[0].message.content,
        lambda: sum(bool(c.choices[0].delta.content) for c in routed.completion("m", MESSAGES, stream=True)),
        None,
        None,
    )


def openai(base: str) -> tuple[Any, ...]:
    """The official client."""
    from openai import AsyncOpenAI, OpenAI

    client, aclient = OpenAI(api_key="x", base_url=base + "/v1"), AsyncOpenAI(api_key="x", base_url=base + "/v1")
    kw: dict[str, Any] = {"model": "gpt-4o-mini", "messages": MESSAGES}
    create, acreate = client.chat.completions.create, aclient.chat.completions.create

    async def aplain() -> Any:
        return (await acreate(**kw)).choices[0].message.content

    async def astream() -> int:
        return sum([bool(c.choices and c.choices[0].delta.content) async for c in await acreate(**kw, stream=True)])

    return (
        lambda: create(**kw).choices[0].message.content,
        lambda: sum(bool(c.choices and c.choices[0].delta.content) for c in create(**kw, stream=True)),
        aplain,
        astream,
    )


SUBJECTS = {"floor": floor, "ours": ours, "openai": openai, "router": router}
IMPORTS = {"ours": "import opentracy as ot; ot.completion, ot.acompletion", "openai": "import openai"}


def probe(subject: str, base: str, calls: int, streams: int) -> dict[str, float]:
    """All figures of one subject, measured in this process."""
    out: dict[str, float] = {}
    start = cpu()
    exec(IMPORTS.get(subject, "pass"), {})
    out["import_ms"] = (cpu() - start) * 1e3
    plain, stream, aplain, astream = SUBJECTS[subject](base)
    out["plain_us"], out["stream_us"] = per_call(plain, calls), per_call(stream, streams)
    if aplain is not None:

        async def both() -> tuple[float, float]:
            return await per_async_call(aplain, calls), await per_async_call(astream, streams)

        out["aplain_us"], out["astream_us"] = asyncio.run(both())
    return out


def measure(args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """`rounds` figures of each subject, the subjects taking turns."""
    server = subprocess.Popen([sys.executable, __file__, "--upstream"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        base = f"http://127.0.0.1:{int(server.stdout.readline())}"
        found: dict[str, list[dict[str, float]]] = {s: [] for s in args.subjects.split(",")}
        for _ in range(args.rounds):
            for subject, results in found.items():
                command = [sys.executable, __file__, "--probe", subject, base, str(args.calls), str(args.streams)]
                results.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        return found
    finally:
        server.terminate()
        server.wait()


def report(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians per subject, and the ratios that the budgets are about (each a median over rounds)."""
    medians = {
        subject: {key: round(statistics.median(r[key] for r in results), 1) for key in results[0]}
        for subject, results in found.items()
    }
    ratios: dict[str, float] = {}
    for key in ("plain", "stream"):
        for name, above, below in ((f"{key}/floor", "ours", "floor"), (f"openai/{key}", "openai", "ours")):
            if above in found and below in found:
                pairs = zip(found[above], found[below], strict=True)
                ratios[name] = round(statistics.median(a[f"{key}_us"] / b[f"{key}_us"] for a, b in pairs), 2)
    return {"medians": medians, "ratios": ratios, "limits": LIMITS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--streams", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--subjects", default="floor,ours,openai,router")
    parser.add_argument("--json", help="write the result here as well")
    result = report(measure(args := parser.parse_args()))
    columns = ("import_ms", "plain_us", "stream_us", "aplain_us", "astream_us")
    print(f"{'subject':10}" + "".join(f"{c:>12}" for c in columns))
    for subject, figures in result["medians"].items():
        print(f"{subject:10}" + "".join(f"{figures.get(c, float('nan')):12.0f}" for c in columns))
    for name, ratio in result["ratios"].items():
        print(f"{name:16}{ratio:8.2f}   budget {'at least' if name.startswith('openai') else 'at most'} {LIMITS[name]}")
    if args.json:
        dated = {"at": time.strftime("%Y-%m-%d %H:%M"), **result}
        Path(args.json).write_text(json.dumps(dated, indent=1), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--upstream"]:
        upstream()
    elif sys.argv[1:2] == ["--probe"]:
        print(json.dumps(probe(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))))
    else:
        main()
