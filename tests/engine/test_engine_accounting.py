"""Every call accounted for: sums agree however they are cut, streams cost what plain calls cost, metrics add up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine_process import Engine, Start, bare_environment

from faultserver import ANSWER, Exchange, FaultServer, answer, error, event, head
from opentracy.traces import Store
from opentracy.traces.codec import decompress

MODELS = ("openai/gpt-4o-mini", "openai/gpt-4o", "deepseek/deepseek-chat", "openai/nobody-has-a-price-for-this")
USAGE = {"prompt_tokens": 1237, "completion_tokens": 411, "total_tokens": 1648, "prompt_tokens_details": {"cached_tokens": 1024}}


def streamed(usage: dict[str, Any]) -> Any:
    """A stream with the same usage as a plain answer."""

    def step(x: Exchange) -> bool:
        body = event({"role": "assistant", "content": "hello"}) + event({}, "stop") + event({}, None, usage=usage, choices=[]) + b"data: [DONE]\n\n"
        x.send(head(200, content_type="text/event-stream", content_length=len(body)) + body)
        return True

    return step


def either(x: Exchange) -> bool | None:
    """Streams to those who ask for a stream."""
    step = streamed(USAGE) if x.json.get("stream") else answer(200, {**ANSWER, "usage": USAGE})
    return bool(step(x))


def key(engine: Engine) -> dict[str, str]:
    command = [sys.executable, "-m", "opentracy", "keys", "create", "k", "--data-home", str(engine.home)]
    done = subprocess.run(command, env=bare_environment(), capture_output=True, text=True, timeout=60, check=True)
    return {"authorization": f"Bearer {done.stdout.strip()}"}


@pytest.fixture(scope="module")
def busy(start_engine: Start, upstream: FaultServer) -> Engine:
    """Two workers that have served models, keys, streams and failures in a mixture."""
    engine = start_engine("[server]\nworkers = 2\n[limits]\nnum_retries = 0\n", upstream)
    keys = [{}, key(engine), key(engine)]
    upstream(either)
    with ThreadPoolExecutor(8) as pool:
        replies = list(
            pool.map(lambda n: engine.chat(MODELS[n % 4], headers=keys[n % 3], stream=n // 4 % 2 == 1, user=f"u{n % 5}"), range(60))
        )
    assert {r.status for r in replies} == {200}
    upstream(error(500))
    assert {engine.chat(MODELS[0]).status for _ in range(3)} <= {500, 502}
    end = time.monotonic() + 20
    while sums(engine, "")[0]["requests"] < 63 and time.monotonic() < end:
        time.sleep(0.05)  # the other worker commits a moment later
    return engine


def sums(engine: Engine, query: str) -> list[dict[str, Any]]:
    return list(engine.request("GET", f"/v1/stats?metric=requests,errors,cost_nano,tokens_in,tokens_out,unpriced&{query}").json["data"])


def test_sums_agree_however_they_are_cut(busy: Engine) -> None:
    """By key = by model = by provider = by user = by hour = in total, to the last nano-USD; the listed rows too."""
    (total,) = sums(busy, "")
    assert total["requests"] == 63
    assert total["errors"] == 3
    assert total["unpriced"] == 15
    assert total["cost_nano"] > 0
    for cut in ("group_by=key", "group_by=model", "group_by=provider", "group_by=user", "bucket=3600000", "group_by=key,model,stream"):
        rows = sums(busy, cut)
        assert len(rows) > 1 or cut.startswith("bucket")
        for name, value in total.items():
            assert sum(r[name] or 0 for r in rows) == value, (cut, name)
    listed = busy.traces("limit=1000")
    assert sum(r["cost_nano"] or 0 for r in listed) == total["cost_nano"]
    assert sum(r["cost_nano"] is None for r in listed) == total["unpriced"]


def test_a_stream_costs_what_the_plain_call_costs(busy: Engine) -> None:
    """Same usage, same model: same cost and tokens, and what has no price is unpriced either way."""
    figures: dict[str, dict[bool, set[Any]]] = {}
    for r in busy.traces("status=ok&limit=1000"):
        kind = figures.setdefault(r["model"], {True: set(), False: set()})
        kind[r["stream"]].add((r["cost_nano"], r["tokens_in"], r["tokens_out"]))
    assert len(figures) == 4
    for model, kinds in figures.items():
        assert kinds[True] == kinds[False], model
        assert len(kinds[True]) == 1


def test_metrics_of_two_workers_parse_and_never_fall(busy: Engine, upstream: FaultServer) -> None:
    """Prometheus' own parser; whichever worker answers, counters are those of both and only rise."""
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")

    def read() -> dict[tuple[str, Any], float]:
        reply = busy.request("GET", "/metrics")
        families = list(parser.text_string_to_metric_families(reply.body.decode()))
        assert len({f.name for f in families}) == len(families)
        return {
            (s.name, tuple(sorted(s.labels.items()))): s.value
            for f in families if f.type in ("counter", "histogram") for s in f.samples
        }  # fmt: skip

    upstream(answer())
    time.sleep(1.2)
    before = read()
    for _ in range(10):
        assert busy.chat().status == 200
        now = read()
        assert all(now[name] >= value for name, value in before.items())
        before = now
    time.sleep(2.5)  # by now every worker has written down what it counted
    requests = sum(v for (name, _), v in read().items() if name == "opentracy_requests_total")
    assert requests == len(busy.traces("limit=1000"))
    bad = [label for (_, labels) in before for label in labels if label[0] == "model" and "nobody" in label[1]]
    assert bad == []


def test_counters_survive_their_workers(start_engine: Start, upstream: FaultServer) -> None:
    """Workers are killed under load, one after the other: no counter falls, no gauge of a dead one stays."""
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    engine = start_engine("[server]\nworkers = 3\n[limits]\nnum_retries = 0\n", upstream)
    upstream(either)
    children = Path(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children")
    before: dict[Any, float] = {}
    started = set()

    def read() -> None:
        nonlocal before
        families = list(parser.text_string_to_metric_families(engine.request("GET", "/metrics").body.decode()))
        samples = {
            (s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples
            if f.type in ("counter", "histogram")
        }  # fmt: skip
        assert all(samples.get(name, -1) >= value for name, value in before.items())
        before = samples
        gauges = {f.name: f.samples[0].value for f in families if f.type == "gauge"}
        started.add(gauges["opentracy_process_start_time_seconds"])
        assert gauges["opentracy_in_flight"] == 0

    served = 0
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda n: engine.chat(MODELS[n % 3], stream=n % 2 == 1).status, range(40)))
        served += replies.count(200)
        time.sleep(1.5)
        read()
        pid = int(children.read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 30
        while (pid in map(int, children.read_text().split()) or len(children.read_text().split()) < 3) and time.monotonic() < end:
            time.sleep(0.05)
        for _ in range(6):
            read()
    assert sum(v for (name, _), v in before.items() if name == "opentracy_requests_total") == served == 120
    assert len(started) == 1


def test_a_redacted_secret_is_in_no_file(start_engine: Start, upstream: FaultServer) -> None:
    """Prompts, answers, streams, tools and what they say, errors, tags, users, metadata: nothing under the data directory,
    also once its blocks are unpacked; and nothing in any form of export, or to be found by searching for it."""
    canary = "redaction.canary@example.com"
    engine = start_engine('[traces]\ncontent = "redacted"\n', upstream)
    said = {**ANSWER, "choices": [{"index": 0, "message": {"role": "assistant", "content": f"I wrote to {canary}"}, "finish_reason": "stop"}]}
    messages = [{"role": "user", "content": f"write to {canary}"}]
    upstream(answer(200, said))
    extra = {"user": canary, "metadata": {"mail": canary}, "messages": messages}
    for headers in ({"x-opentracy-tags": canary}, {"x-opentracy-session": canary}):
        assert engine.chat(headers=headers, **extra).status == 200
    upstream(streamed(USAGE))
    assert engine.chat(stream=True, **extra).status == 200
    upstream(error(400, f"bad prompt: {canary}"))
    assert engine.chat(**extra).status == 400
    arguments = json.dumps({"to": canary, "deep": {"list": [f"x {canary} y"]}})
    call = {"id": "c1", "type": "function", "function": {"name": "mail", "arguments": arguments}}
    tool = {"type": "function", "function": {"name": "mail", "description": f"as {canary}", "parameters": {"type": "object"}}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    upstream(answer(200, {**ANSWER, "choices": [{"index": 0, "message": asked, "finish_reason": "tool_calls"}]}))
    told = {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"sent": canary})}
    parts = {"role": "user", "content": [{"type": "text", "text": f"and {canary}"}]}
    assert engine.chat(messages=[*messages, asked, told, parts], tools=[tool], stop=[canary]).status == 200
    assert engine.chat(headers={"idempotency-key": "k1"}, **extra).status == 200
    traces = engine.traces("limit=10")
    assert len(traces) == 6
    for trace in traces:
        whole = engine.request("GET", f"/v1/traces/{trace['trace_id']}").body
        assert canary.encode() not in whole and trace["trace_id"].encode() in whole
    for form in ("jsonl", "csv", "parquet", "openai"):
        exported = engine.request("GET", f"/v1/traces/export?format={form}")
        assert exported.status == 200 and canary.encode() not in exported.body
        assert exported.body or form == "openai"  # redacted texts are nothing to train on
    assert engine.traces("q=wrote") and not engine.traces("q=canary")
    assert engine.stop() == 0
    holding = [p for p in engine.home.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]
    assert holding == []
    with closing(Store.open(engine.home / "traces.db", create=False)) as store:
        unpacked = [
            decompress(codec, bytes(part))
            for table, column in (("blocks", "meta"), ("bodies", "data"))
            for codec, part in store.reader().execute(f"SELECT codec, {column} FROM {table}")
        ]
    assert unpacked and not any(canary.encode() in part for part in unpacked)
    assert any(b"wrote to" in part for part in unpacked)
    assert any(p.suffix == ".db" for p in Path(engine.home).iterdir())


def test_two_workers_that_write_down_their_counts_at_once_write_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever another worker writes between the two steps of ours, our file holds our counts."""
    from opentracy.engine.metrics import Metrics

    class Traces:
        store = type("Store", (), {"path": tmp_path / "traces.db"})()
        writer = None

    class Workers:
        traces, calls, begun = Traces(), (), 1.0

    ours, theirs = Metrics(Workers()), Metrics(Workers())  # type: ignore[arg-type]
    ours.refused(401)
    theirs.refused(429)
    replace = Path.replace

    def late(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        theirs.flush(force=True)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", late)
    ours.flush(force=True)
    for _ in range(2):
        assert ours.total()['opentracy_refused_total{status="401"}'] == 1
        assert ours.total()['opentracy_refused_total{status="429"}'] == 1
