"""Streams cut at random places: `python -m tests.soak.cuts [--count 10000] [--seed 1] [--start 0]`.

A whole stream of each of the five wire formats is cut at any byte, by a clean end, by a framing left open or by a reset,
and asked for through the SDK and through a real engine. What is reported as complete must be complete, to the last
character and argument; once a content has been shown nothing is asked for again, and before that it is.

Each cut is drawn from the seed and its own number, so that a long run may be made in parts: every 500 cuts a line says how
far it is, and `--start` goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "metamorphic"))

from five_wires import SCENES, WIRES

import opentracy as ot
from engine_kit import MESSAGES, Engine, running
from faultserver import Exchange, FaultServer, Step, head, reset

MODELS = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-sonnet-4-5", "gemini": "gemini/gemini-2.5-flash",
          "cohere": "cohere/command-a-03-2025", "bedrock": "bedrock/amazon.nova-lite-v1:0"}  # fmt: skip
KEY = "test-key-0123456789"
Said = tuple[str, str, tuple[tuple[str, str], ...], str | None]


@dataclass
class Report:
    """What came of it. `faults`: cut streams that were shown as whole ones, and requests too many."""

    cuts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Seen:
    """What a caller got of a stream."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, list[str]] = field(default_factory=dict)
    finish: str | None = None

    def take(self, chunk: dict[str, Any]) -> None:
        choice = chunk["choices"][0]
        delta = choice["delta"]
        self.text += delta.get("content") or ""
        self.reasoning += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls") or ():
            held = self.calls.setdefault(call["index"], ["", ""])
            held[0] += (call.get("function") or {}).get("name") or ""
            held[1] += (call.get("function") or {}).get("arguments") or ""
        self.finish = choice.get("finish_reason") or self.finish

    @property
    def said(self) -> Said:
        return self.text, self.reasoning, tuple((n, a) for _, (n, a) in sorted(self.calls.items())), self.finish

    @property
    def anything(self) -> bool:
        return bool(self.text or self.reasoning or self.calls)


def cut_stream(data: bytes, kind: str, way: str) -> Step:
    """An answer whose body is these bytes, ended in a way of its own."""

    def step(x: Exchange) -> bool:
        x.send(head(200, content_type=kind, transfer_encoding="chunked"))
        if data:
            x.send(b"%x\r\n%b\r\n" % (len(data), data))
        if way == "clean":
            x.send(b"0\r\n\r\n")
        elif way == "reset":
            time.sleep(0.002)
            return bool(reset(x))
        return way == "clean"

    return step


def by_sdk(server: FaultServer, model: str) -> tuple[Seen, bool]:
    """What the SDK's caller got, and whether it was told that this was all."""
    seen = Seen()
    try:
        for chunk in ot.completion(model, MESSAGES, stream=True, num_retries=1, timeout=10):
            seen.take(dict(chunk))
    except ot.APIError as e:
        if e.attempts != len(server.seen):
            raise AssertionError(f"{e.attempts} attempts told, {len(server.seen)} requests came") from e
        return seen, False
    return seen, True


def by_engine(engine: Engine, model: str) -> tuple[Seen, bool]:
    """The same of an engine's client: the end is `[DONE]` and nothing else."""
    seen = Seen()
    reply = engine.chat(model, stream=True)
    if reply.status != 200:
        return seen, False
    for event in reply.events[:-1]:
        if event.get("choices"):
            seen.take(event)
    return seen, reply.events[-1] == "[DONE]"


def run(count: int, seed: int = 1, start: int = 0, told: Callable[[int, Report], None] = lambda number, report: None) -> Report:
    """That many cuts from the one numbered `start` on, half of them through each; `told` after every cut."""
    report, server = Report(), FaultServer()
    root = f"http://127.0.0.1:{server.port}"
    env = {f"{n.upper()}_API_BASE": root + ("/v1" if n == "openai" else "") for n in MODELS}
    env |= {f"{n.upper()}_API_KEY": KEY for n in MODELS if n != "bedrock"}
    env |= {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret-at-all", "AWS_REGION": "us-east-1"}
    began = time.monotonic()
    with running("[limits]\nnum_retries = 0\n", env={**env, "NO_PROXY": "127.0.0.1"}) as engine, mock.patch.dict(os.environ, env):
        whole: dict[tuple[str, str], tuple[bytes, str, Said, Said]] = {}
        for number in range(start, start + count):
            chance = random.Random(f"{seed} {number}")
            name, scene = chance.choice(list(MODELS)), chance.choice(list(SCENES))
            if (name, scene) not in whole:
                whole[name, scene] = _whole(server, engine, name, scene)
            data, kind, by_one, by_other = whole[name, scene]
            cut, way = chance.randrange(len(data)), chance.choice(("clean", "open", "reset"))
            server(cut_stream(data[:cut], kind, way), cut_stream(data, kind, "clean"))
            direct = number % 2 == 0
            try:
                seen, complete = by_sdk(server, MODELS[name]) if direct else by_engine(engine, MODELS[name])
            except Exception as e:
                seen, complete = Seen(), False
                report.faults.append(f"{name} {scene} cut at {cut} {way}: {e.__class__.__name__}: {e}")
            report.cuts += 1
            report.outcomes[f"{'sdk' if direct else 'engine'} {'complete' if complete else 'broken off' if seen.anything else 'error'}"] += 1
            requests = len(server.seen)
            if complete and seen.said != (by_one if direct else by_other):
                report.faults.append(f"{name} {scene} cut at {cut} of {len(data)} {way}: reported as complete: {seen.said}")
            if direct and not complete and not seen.anything:
                report.faults.append(f"{name} {scene} cut at {cut} {way}: given up, though nothing had been shown")
            if requests != 1 and (not direct or requests > 2 or not complete):
                report.faults.append(f"{name} {scene} cut at {cut} {way}: {requests} requests")
            told(number + 1, report)
    server.close()
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _whole(server: FaultServer, engine: Engine, name: str, scene: str) -> tuple[bytes, str, Said, Said]:
    data = WIRES[name].stream(SCENES[scene], MODELS[name].partition("/")[2])
    kind = "application/vnd.amazon.eventstream" if name == "bedrock" else "text/event-stream"
    server(cut_stream(data, kind, "clean"))
    one, complete = by_sdk(server, MODELS[name])
    other, also = by_engine(engine, MODELS[name])
    assert complete and also and one.finish and other.finish, (name, scene)
    return data, kind, one.said, other.said


def _progress(number: int, report: Report) -> None:
    if number % 500 == 0:
        print(f"{number} cuts: {len(report.faults)} faults, {dict(report.outcomes)}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first cut")
    wanted = parser.parse_args()
    report = run(wanted.count, wanted.seed, wanted.start, _progress)
    print(json.dumps({**vars(report), "faults": report.faults[:10], "number_of_faults": len(report.faults)}))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
