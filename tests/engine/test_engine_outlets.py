"""What the engine sends on and takes in: alerts, spans, ClickHouse, OTLP, traces of others, Redis for many engines."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from engine_process import Engine, Reply, Start, bare_environment
from redis_process import real_redis

import opentracy as ot
from faultserver import Exchange, FaultServer, answer, error


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of a condition, or what it was at the end."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


def make(home: Path, *flags: str) -> dict[str, str]:
    """A virtual key made on the command line, as the header that carries it."""
    command = [sys.executable, "-m", "opentracy", "keys", "create", "test", "--data-home", str(home), *flags]
    done = subprocess.run(command, env=bare_environment(), capture_output=True, text=True, timeout=60, check=True)
    return {"authorization": f"Bearer {done.stdout.strip()}"}


# ---------------------------------------------------------------- alerts
def test_alerts_reach_the_webhook_once_and_its_address_is_shown_nowhere(start_engine: Start, upstream: FaultServer) -> None:
    """A rule fires, its message comes once; a webhook that fails at first is tried again."""
    upstream(answer())
    with contextlib.closing(FaultServer()) as hook:
        hook(error(500), answer(200, {}))
        config = """
[alerts]
webhook = "env:HOOK"
every = 0.5
[alerts.rules.spend]
metric = "cost"
above = 0.0000001
by = "model"
"""
        engine = start_engine(config, upstream, HOOK=f"http://127.0.0.1:{hook.port}/hook-secret-path")
        assert engine.chat().status == 200
        assert eventually(lambda: len(hook.seen) >= 2)
        time.sleep(1.5)
        assert len(hook.seen) == 2
        first, second = (x.json for x in hook.seen)
        assert {k: v for k, v in second.items() if k != "ts_ms"} == {k: v for k, v in first.items() if k != "ts_ms"}
        assert (second["state"], second["rule"], second["metric"], second["group"]) == ("firing", "spend", "cost", "gpt-4o-mini")
        assert second["value"] > second["above"]
        assert "hook-secret" not in engine.log.read_text() + engine.request("GET", "/v1/config").body.decode()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('[alerts]\nwebhook = "http://example.com/x"\n', "unencrypted"),
        ('[alerts]\nwebhook = "ftp://example.com/x"\n', "alerts.webhook must be a reference"),
        ('[alerts]\nwebhook = "env:NOT_SET_ANYWHERE"\n', "env:NOT_SET_ANYWHERE is not set"),
        ('[alerts.rules.x]\nmetric = "costs"\n', "alerts.rules"),
        ('[alerts.rules.x]\nmetric = "cost"\nby = "modell"\n', "'modell' is none of"),
        ('[alerts.rules.x]\nmetric = "cost"\nfilter = "nope:1"\n', "filter"),
        ('[alerts.rules.x]\nmetric = "cost"\nfilter = "words"\n', "cannot be filtered by text"),
        ('[clickhouse]\ndsn = "clickhouse://u:secret@h/d"\n', "holds a password"),
        ('[redis]\nurl = "redis://:secret@h:1"\n', "holds a password"),
        ('[redis]\nurl = "env:GARBAGE"\n', "env:GARBAGE must hold a URL that begins with redis://"),
        ('[redis]\nurl = "localhost"\n', "redis.url must be a reference"),
        ('[otel]\nenabled = true\nsetup = "nothing_of_that_name:f"\n', "otel.setup"),
        ('[otel]\nsetup = "nothing"\n', "module:function"),
        ('[traces]\nenabled = false\n[otel]\nenabled = true\n', "needs traces"),
    ],
)  # fmt: skip
def test_bad_outlets_are_told_before_anything_starts(config: str, words: str) -> None:
    from opentracy.engine.configfile import ConfigError, parse
    from opentracy.engine.outlets import require

    with pytest.raises(ConfigError, match=words) as caught:
        require(parse(config, {}), {"GARBAGE": "canary.secret"})
    assert "secret" not in str(caught.value).replace("secret@", "")


def test_the_path_of_a_plain_webhook_is_a_secret() -> None:
    from opentracy.engine.config import shown
    from opentracy.engine.configfile import parse

    config = parse('[alerts]\nwebhook = "https://hooks.example.com/services/T0/B0/canary"\n', {})
    assert "canary" not in json.dumps(shown(config))
    assert "hooks.example.com" in json.dumps(shown(config))


# ---------------------------------------------------------------- OpenTelemetry
SETUP = '''
import json, os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

class ToFile(SpanExporter):
    def export(self, spans):
        with open(os.environ["SPANS"], "a") as f:
            for s in spans:
                f.write(json.dumps({"name": s.name, **dict(s.attributes)}) + "\\n")
        return SpanExportResult.SUCCESS

def configure():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile()))
    trace.set_tracer_provider(provider)
'''


def test_spans_leave_through_the_users_sdk(start_engine: Start, upstream: FaultServer, tmp_path: Path) -> None:
    """The current names of the conventions; no text unless it is asked for; every call once."""
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    upstream(answer())
    (tmp_path / "own_telemetry.py").write_text(SETUP)
    spans = tmp_path / "spans"
    spans.write_text("")
    config = '[otel]\nenabled = true\nsetup = "own_telemetry:configure"\n'
    engine = start_engine(config, upstream, PYTHONPATH=str(tmp_path), SPANS=str(spans))
    ids = {engine.chat().headers["x-opentracy-trace-id"] for _ in range(3)}
    assert eventually(lambda: len(spans.read_text().splitlines()) == 3)
    found = [json.loads(line) for line in spans.read_text().splitlines()]
    assert {s["opentracy.trace_id"] for s in found} == ids
    for span in found:
        assert (span["gen_ai.operation.name"], span["gen_ai.provider.name"]) == ("chat", "openai")
        assert (span["gen_ai.usage.input_tokens"], span["gen_ai.usage.output_tokens"]) == (3, 2)
        assert not any("messages" in name for name in span)
    assert engine.request("GET", "/health").json["traces"]["outlets"]["otel"]["waiting"] == 0


# ---------------------------------------------------------------- taking in
@pytest.fixture(scope="module")
def taking(start_engine: Start, upstream: FaultServer) -> Engine:
    upstream(answer())
    config = '[server]\nadmin_keys = ["env:ADMIN"]\n[traces]\ncontent = "redacted"\n'
    engine = start_engine(config, upstream, ADMIN="adm-1")
    engine.headers = {"authorization": "Bearer adm-1"}
    return engine


def span(number: int, **attributes: Any) -> dict[str, Any]:
    return {
        "traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": "chat", "kind": 3,
        "startTimeUnixNano": str(1_760_000_000_000_000_000 + number), "endTimeUnixNano": str(1_760_000_001_000_000_000 + number),
        "attributes": [{"key": k, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
                       for k, v in attributes.items()],
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/otlp/v1/traces", "/v1/traces"])
def test_otlp_spans_become_traces_once(taking: Engine, path: str) -> None:
    """The provider's conventional name becomes ours; the same request twice counts once; other spans are ignored."""
    number = 1 if path == "/v1/traces" else 2
    call = span(number, **{
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "mistral_ai", "gen_ai.request.model": f"m-otlp-{number}",
        "gen_ai.usage.input_tokens": 7, "gen_ai.input.messages": '[{"role":"user","content":"to otlp.canary@example.com"}]',
    })  # fmt: skip
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [call, span(99, **{"http.method": "GET"})]}]}]}
    for _ in range(2):
        reply = taking.request("POST", path, body)
        assert (reply.status, reply.json) == (200, {})
    (row,) = taking.traces(f"model=m-otlp-{number}")
    assert (row["provider"], row["tokens_in"]) == ("mistral", 7)
    whole = taking.request("GET", f"/v1/traces/{row['trace_id']}").body
    assert b"otlp.canary" not in whole
    assert taking.request("POST", path, {"resourceSpans": 5}).status == 400
    assert taking.request("POST", path, body, {"authorization": "Bearer wrong"}).status == 401


def test_traces_from_the_sdk(taking: Engine, tmp_path: Path) -> None:
    """One, many and a file; on disk when the call returns; repeated ones count once; errors name what is wrong."""
    where: dict[str, Any] = {"engine_url": taking.url, "api_key": "adm-1"}
    one = ot.add_trace({"model": "sdk-1", "provider": "own", "cost_usd": 0.002, "request": {"q": "mail sdk.canary@example.com"}}, **where)
    trace = taking.request("GET", f"/v1/traces/{one}").json
    assert (trace["model"], trace["cost_nano"], trace["body_state"]) == ("sdk-1", 2_000_000, "redacted")
    assert "sdk.canary" not in str(trace)

    ids = [f"{n:032x}" for n in range(1, 1102)]
    now = time.time_ns() // 1_000_000  # what is older than the retention would be taken away again at any moment
    many = [{"trace_id": i, "model": "sdk-many", "ts_ms": now + n} for n, i in enumerate(ids)]
    assert ot.add_traces(many, **where) == ids
    assert ot.add_traces(many, **where) == ids
    sums = taking.request("GET", "/v1/stats?metric=requests&model=sdk-many").json["data"]
    assert sums[0]["requests"] == len(ids)

    file = tmp_path / "traces.jsonl"
    file.write_text("".join(json.dumps({"trace_id": f"{n:032x}", "model": "sdk-file"}) + "\n" for n in range(5000, 5003)) + "\n")
    assert ot.import_traces(file, **where) == 3
    assert len(taking.traces("model=sdk-file")) == 3

    file.write_text('{"model": "x"}\nnot json\n')
    with pytest.raises(ValueError, match="line 2"):
        ot.import_traces(file, **where)
    with pytest.raises(ValueError, match=r"traces\[0\].*tokens_in"):
        ot.add_trace({"model": "x", "tokens_in": "many"}, **where)
    with pytest.raises(ValueError, match="add_trace"):
        ot.add_traces({"model": "x"}, **where)
    with pytest.raises(ot.AuthenticationError):
        ot.add_trace({"model": "x"}, engine_url=taking.url, api_key="wrong")
    with pytest.raises(ot.APIConnectionError):
        ot.add_trace({"model": "x"}, engine_url="http://127.0.0.1:9")


def test_content_of_a_key_decides_about_its_texts(taking: Engine) -> None:
    """none: figures only. all: everything, although the file says redacted."""
    messages = [{"role": "user", "content": "write to key.canary@example.com"}]
    kept = {}
    for content in ("none", "redacted", "all"):
        key = make(taking.home, "--content", content, "--project", "p1")
        kept[content] = taking.trace(taking.chat(headers=key, messages=messages))
    assert kept["none"]["request"] is None
    assert kept["none"]["tokens_in"] == 3
    assert "key.canary" not in kept["redacted"]["request"]
    assert "key.canary" in kept["all"]["request"]
    assert {t["project"] for t in kept.values()} == {"p1"}


# ---------------------------------------------------------------- waiting for providers
def test_a_long_hint_is_passed_on_at_once(start_engine: Start, upstream: FaultServer) -> None:
    """limits.max_retry_wait: one request, 429 with the provider's Retry-After, and no sleep in between."""
    engine = start_engine("[limits]\nnum_retries = 2\nmax_retry_wait = 3\n", upstream)
    upstream(error(429, retry_after="20"))
    before = len(upstream.seen)
    reply = engine.chat()
    assert (reply.status, reply.headers["retry-after"], len(upstream.seen) - before) == (429, "20", 1)
    # within the limit, but longer than this caller will wait
    upstream(error(429, retry_after="2"))
    before = len(upstream.seen)
    reply = engine.chat("groq/llama-3.3-70b-versatile", headers={"x-request-timeout-ms": "1500"})
    assert (reply.status, len(upstream.seen) - before) == (429, 1)


# ---------------------------------------------------------------- ClickHouse
@pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="chdb is not installed")
def test_every_trace_reaches_clickhouse_and_sums_can_be_asked_there(
    start_engine: Start, upstream: FaultServer, tmp_path: Path
) -> None:
    """The real engine of ClickHouse in this process; the answers are those of the local store."""
    upstream(answer())
    engine = start_engine('[clickhouse]\ndsn = "env:DSN"\nread = true\n', upstream, DSN=f"chdb://{tmp_path}/ch")
    for n in range(7):
        engine.chat("openai/gpt-4o" if n % 2 else "openai/gpt-4o-mini")

    assert len(engine.traces()) == 7

    def delivered() -> bool:
        found = engine.request("GET", "/health").json["traces"]["outlets"]["clickhouse"]
        return bool(found["waiting"] == 0 and found["problem"] is None)

    assert eventually(delivered, 60), engine.log.read_text()
    query = "/v1/stats?metric=requests,cost_nano,tokens_in&group_by=model"
    there, here = engine.request("GET", query), engine.request("GET", query + "&from=local")
    assert there.status == 200, there.body
    assert there.json == here.json
    assert sum(row["requests"] for row in here.json["data"]) == 7


def test_a_clickhouse_that_is_away_costs_nothing_but_waiting(start_engine: Start, upstream: FaultServer) -> None:
    """Serving goes on, health says what waits, sums from there are a 503 that says what to do."""
    pytest.importorskip("clickhouse_connect", reason="clickhouse-connect is not installed")
    upstream(answer())
    engine = start_engine('[clickhouse]\ndsn = "clickhouse://127.0.0.1:9/db"\nread = true\n', upstream)
    assert engine.chat().status == 200

    def told() -> Any:
        found = engine.request("GET", "/health").json["traces"]["outlets"]["clickhouse"]
        return found if found["waiting"] == 1 and found["problem"] else None

    assert eventually(told), engine.request("GET", "/health").json
    reply = engine.request("GET", "/v1/stats")
    assert (reply.status, reply.error["code"]) == (503, "clickhouse_unavailable")
    assert engine.request("GET", "/v1/stats?from=local").json["data"][0]["requests"] == 1


# ---------------------------------------------------------------- Redis
@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real Redis on a free port."""
    with real_redis(tmp_path_factory.mktemp("redis")) as running:
        yield running.url, running.process


REDIS = '[redis]\nurl = "env:REDIS"\n[limits]\nnum_retries = 0\n'


@dataclass
class Twins:
    """Two engines as on two machines: directories of their own, the same keys, one Redis."""

    engines: list[Engine]
    homes: list[Path]
    keys: dict[str, dict[str, str]]

    def everywhere(self, work: Callable[[Engine, int], Reply], times: int) -> list[Reply]:
        """Many calls at once, on both in turn."""
        with ThreadPoolExecutor(20) as pool:
            return list(pool.map(lambda n: work(self.engines[n % 2], n), range(times)))


@pytest.fixture(scope="module")
def twins(
    start_engine: Start, upstream: FaultServer, redis: tuple[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Twins:
    homes = [tmp_path_factory.mktemp("machine") for _ in range(2)]
    keys = {
        "rate": make(homes[0], "--rpm", "15"),
        "budget": make(homes[0], "--daily-usd", "0.0013"),
        "away": make(homes[0], "--rpm", "2"),
    }
    for file in homes[0].iterdir():
        shutil.copy(file, homes[1])
    engines = [start_engine(REDIS, upstream, REDIS=redis[0], OPENTRACY_DATA_HOME=str(home)) for home in homes]
    return Twins(engines, homes, keys)


def test_a_rate_limit_holds_over_engines(twins: Twins, upstream: FaultServer) -> None:
    """Of two hundred at once on two engines exactly as many are served as the key may have; nothing is counted twice."""
    upstream(answer())
    before = len(upstream.seen)
    replies = twins.everywhere(lambda engine, _: engine.chat(headers=twins.keys["rate"]), 200)
    assert sorted({r.status for r in replies}) == [200, 429]
    assert sum(r.status == 200 for r in replies) == 15 == len(upstream.seen) - before
    assert all(int(r.headers["retry-after"]) >= 1 for r in replies if r.status == 429)
    for home in twins.homes:
        with contextlib.closing(sqlite3.connect(home / "accounts.db")) as accounts:
            assert accounts.execute("SELECT count(*) FROM rates").fetchone() == (0,)


def test_a_budget_holds_over_engines(twins: Twins, upstream: FaultServer) -> None:
    """What both admit together never exceeds the cap; settled calls make room again."""
    gate = threading.Event()

    def slow(x: Exchange) -> bool | None:
        gate.wait(20)
        return answer()(x)

    upstream(slow)
    threading.Timer(2.0, gate.set).start()
    before = len(upstream.seen)
    key = twins.keys["budget"]
    replies = twins.everywhere(lambda engine, _: engine.chat(headers=key, max_tokens=1000), 20)
    served = sum(r.status == 200 for r in replies)
    # an answer of 1000 tokens of this model is reserved at about 0.0006 USD
    assert (served, len(upstream.seen) - before) == (2, 2)
    assert {r.status for r in replies} == {200, 402}
    upstream(answer())
    # settled for what it did cost, far less than was reserved
    assert eventually(lambda: twins.engines[0].chat(headers=key, max_tokens=1000).status == 200, 10)


def test_a_cooldown_is_told_to_the_other_engine(twins: Twins, upstream: FaultServer) -> None:
    """429 at one: the other rests the deployment too, and is told when it is well again."""
    upstream(error(429, retry_after="30"))
    assert twins.engines[0].chat("groq/llama-3.3-70b-versatile").status == 429

    def state() -> Any:
        found = twins.engines[1].request("GET", "/health").json["deployments"]
        return found.get("groq/llama-3.3-70b-versatile", {}).get("state")

    assert eventually(lambda: state() == "cooling")


def test_without_redis_each_machine_counts_for_itself(twins: Twins, upstream: FaultServer, redis: tuple[str, Any]) -> None:
    """redis.away = "local": serving goes on, limits hold per machine; the password is in no log."""
    upstream(answer())
    redis[1].terminate()
    redis[1].wait(10)
    statuses = [twins.engines[0].chat(headers=twins.keys["away"]).status for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    log = twins.engines[0].log.read_text()
    assert "limits of all engines: Redis: ConnectionError" in log
    assert "pw-canary" not in log


def test_refusing_without_redis(start_engine: Start, upstream: FaultServer) -> None:
    pytest.importorskip("redis", reason="the redis package is not installed")
    engine = start_engine('[redis]\nurl = "redis://127.0.0.1:9"\naway = "refuse"\n', upstream)
    upstream(answer())
    reply = engine.chat(headers=make(engine.home, "--rpm", "5"))
    assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "limits_unavailable", "2")
    assert engine.chat().status == 200
