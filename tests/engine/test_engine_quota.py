"""Virtual keys at the engine: models, rates and budgets that hold under parallel load; feedback; redaction."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine_process import Engine, Start, bare_environment

from faultserver import FaultServer, answer


@pytest.fixture(scope="module")
def keyed(start_engine: Start, upstream: FaultServer) -> Engine:
    engine = start_engine('[server]\nadmin_keys = ["env:ADMIN"]\n[traces]\ncontent = "redacted"\n', upstream, ADMIN="adm-1")
    engine.headers = {"authorization": "Bearer adm-1"}
    return engine


def make(engine: Engine, *flags: str) -> dict[str, str]:
    """A key made on the command line, as the header that carries it."""
    command = [sys.executable, "-m", "opentracy", "keys", "add", "test", "--data-home", str(engine.home), *flags]
    done = subprocess.run(command, env=bare_environment(), capture_output=True, text=True, timeout=60, check=True)
    return {"authorization": f"Bearer {done.stdout.strip()}"}


def test_virtual_key_works_until_it_is_revoked(keyed: Engine, upstream: FaultServer) -> None:
    """Made, used and ended from outside the running engine; its id is in the trace, its text nowhere."""
    upstream(answer())
    key = make(keyed)
    reply = keyed.chat(headers=key)
    key_id = key["authorization"].split("_")[1]
    assert keyed.trace(reply)["key_id"] == key_id
    assert keyed.request("GET", "/v1/traces", headers=key).status == 403
    command = [sys.executable, "-m", "opentracy", "keys", "rm", key_id, "--data-home", str(keyed.home)]
    subprocess.run(command, env=bare_environment(), timeout=60, check=True)
    assert keyed.chat(headers=key).status == 401
    text = key["authorization"].removeprefix("Bearer ").encode()
    assert not any(text in p.read_bytes() for p in keyed.home.iterdir() if p.is_file())


def test_only_its_models(keyed: Engine, upstream: FaultServer) -> None:
    upstream(answer())
    key = make(keyed, "--model", "openai/gpt-4o*")
    assert keyed.chat("openai/gpt-4o-mini", headers=key).status == 200
    reply = keyed.chat("groq/llama-3.3-70b-versatile", headers=key)
    assert (reply.status, reply.error["code"]) == (403, "model_not_allowed")


def test_rate_limit_holds_in_parallel(keyed: Engine, upstream: FaultServer) -> None:
    """S13, row 89: of forty at once exactly the limit is served; the others learn when to come back."""
    upstream(answer())
    key = make(keyed, "--rpm", "7")
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: keyed.chat(headers=key), range(40)))
    assert sum(r.status == 200 for r in replies) == 7
    refused = [r for r in replies if r.status == 429]
    assert len(refused) == 33
    assert all(int(r.headers["retry-after"]) >= 1 and r.headers["x-ratelimit-limit-requests"] == "7" for r in refused)
    assert len(upstream.seen) == 7


def test_budget_holds_in_parallel(keyed: Engine, upstream: FaultServer) -> None:
    """S13, row 90: what is admitted never exceeds the cap; refusals tell clients not to try again."""
    upstream(answer())
    # an answer of 1000 tokens of this model is reserved at about 0.0006 USD
    key = make(keyed, "--daily-usd", "0.0013")
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: keyed.chat(headers=key, max_tokens=1000), range(20)))
    refused = [r for r in replies if r.status == 402]
    assert refused
    assert all(r.headers["x-should-retry"] == "false" for r in refused)
    assert len(upstream.seen) == 20 - len(refused)
    # what was settled is far less than what was reserved, so the next one fits again
    assert keyed.chat(headers=key, max_tokens=1000).status == 200


def test_feedback_belongs_to_a_trace(keyed: Engine, upstream: FaultServer) -> None:
    upstream(answer())
    trace_id = keyed.chat().headers["x-opentracy-trace-id"]
    given = keyed.request("POST", "/v1/feedback", {"trace_id": trace_id, "metric": "good", "value": True})
    assert (given.status, given.json["trace_id"]) == (201, trace_id)
    unknown = keyed.request("POST", "/v1/feedback", {"trace_id": "0" * 32, "metric": "good", "value": True})
    assert unknown.status == 404
    for bad in ({}, {"trace_id": trace_id}, {"trace_id": trace_id, "metric": "", "value": 1}):
        assert keyed.request("POST", "/v1/feedback", bad).status == 400


def test_redacted_texts_never_reach_the_disk(keyed: Engine, upstream: FaultServer) -> None:
    """traces.content = "redacted": a mail address in a prompt is in no file of the engine."""
    upstream(answer())
    reply = keyed.chat(messages=[{"role": "user", "content": "write to canary.person@example.com today"}])
    assert "canary.person" not in str(keyed.trace(reply)["request"])
    assert "today" in str(keyed.trace(reply)["request"])
    time.sleep(0.2)
    assert not any(b"canary.person@example" in p.read_bytes() for p in keyed.home.iterdir() if p.is_file())


def test_no_store(keyed: Engine, upstream: FaultServer) -> None:
    """The caller's own wish: figures yes, texts no."""
    upstream(answer())
    trace = keyed.trace(keyed.chat(headers={"x-opentracy-no-store": "1"}))
    assert (trace["request"], trace["response"], trace["tokens_in"]) == (None, None, 3)


def test_tags_and_context(keyed: Engine, upstream: FaultServer) -> None:
    """Session, tags, user, metadata and the trace context of the caller are in the trace."""
    upstream(answer())
    parent = "0af7651916cd43dd8448eb211c80319c"
    headers = {"x-opentracy-session": "s1", "x-opentracy-tags": "a, b", "traceparent": f"00-{parent}-b7ad6b7169203331-01"}
    trace = keyed.trace(keyed.chat(headers=headers, user="ann", metadata={"k": "v"}))
    assert (trace["session_id"], trace["tags"], trace["parent_id"]) == ("s1", ["a", "b"], parent)
    assert (trace["user_id"], trace["metadata"]) == ("ann", {"k": "v"})
