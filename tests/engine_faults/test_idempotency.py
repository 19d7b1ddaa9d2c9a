"""Row 91: the same Idempotency-Key parallel, later, with another body, by another caller, after a fault, after a restart."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine_kit import Engine, chat_bytes, eventually, keys_for, running, sum_of_rows
from faultserver import ANSWER, EVENTS, Exchange, FaultServer, answer, error, stream

CONFIG = '[limits]\nnum_retries = 0\n[server]\napi_keys = ["env:ONE", "env:TWO"]\nadmin_keys = ["env:ADMIN"]\n'
SECRETS = {"ONE": "one-0123456789abcdef", "TWO": "two-0123456789abcdef", "ADMIN": "admin-0123456789abcdef"}


@pytest.fixture(scope="module")
def engine(upstream: FaultServer) -> Iterator[Engine]:
    with running(CONFIG, env={**keys_for(upstream.base), **SECRETS}) as e:
        e.headers = {"authorization": f"Bearer {SECRETS['ADMIN']}"}
        yield e


def key() -> dict[str, str]:
    return {"idempotency-key": f"k-{time.monotonic_ns()}"}


def slow(x: Exchange) -> bool:
    time.sleep(0.3)
    return bool(answer()(x))


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "stream"])
def test_later(engine: Engine, upstream: FaultServer, streaming: bool) -> None:
    """One upstream call, one trace; the answer, its ids included, is the same, and counted as a replay."""
    upstream(stream() if streaming else answer())
    rows, headers = sum_of_rows(engine), key()
    first, second = (engine.chat(headers=headers, stream=streaming) for _ in range(2))
    assert first.status == second.status == 200
    assert first.body == second.body
    assert first.headers["x-opentracy-trace-id"] == second.headers["x-opentracy-trace-id"]
    assert first.headers["content-type"] == second.headers["content-type"]
    assert ("x-opentracy-replayed" in first.headers, second.headers["x-opentracy-replayed"]) == (False, "true")
    assert len(upstream.seen) == 1
    assert sum_of_rows(engine) == rows + 1
    assert "opentracy_replays_total" in engine.request("GET", "/metrics").body.decode()


def test_parallel(engine: Engine, upstream: FaultServer) -> None:
    """Thirty at once: one upstream call, the others wait for it."""
    upstream(slow)
    headers = key()
    with ThreadPoolExecutor(30) as pool:
        replies = list(pool.map(lambda _: engine.chat(headers=headers), range(30)))
    assert {r.status for r in replies} == {200}
    assert len({r.body for r in replies}) == 1
    assert len(upstream.seen) == 1


def test_another_body_caller_or_path(engine: Engine, upstream: FaultServer) -> None:
    """Another body is a mistake (422); another caller's key of the same name is another key."""
    upstream(answer())
    headers = key()
    assert engine.chat(headers=headers).status == 200
    reply = engine.chat(headers=headers, temperature=0.5)
    assert (reply.status, reply.error["code"]) == (422, "idempotency_key_reused")
    assert len(upstream.seen) == 1
    for name in ("ONE", "TWO"):
        assert engine.chat(headers={**headers, "authorization": f"Bearer {SECRETS[name]}"}, user=name).status == 200
    assert len(upstream.seen) == 3


def test_what_may_go_well_next_time_is_tried_again(engine: Engine, upstream: FaultServer) -> None:
    """Outages, rate limits and broken streams free the key; a final refusal is replayed."""
    for n, fault in enumerate((error(500), error(429, retry_after="3600"), stream(*EVENTS[:3]))):
        headers = key()
        upstream(fault)
        engine.chat(f"openai/m{n}", headers=headers, stream=True)
        upstream(stream())
        assert engine.chat(f"openai/m{n}", headers=headers, stream=True).events[-1] == "[DONE]", n
    upstream(error(400))
    headers = key()
    assert [engine.chat(headers=headers).status for _ in range(2)] == [400, 400]
    assert len(upstream.seen) == 1


def test_first_client_leaves(engine: Engine, upstream: FaultServer) -> None:
    """Whoever waited then takes its turn, instead of waiting for ever."""
    started = threading.Event()

    def hang_once(x: Exchange) -> bool:
        if not started.is_set():
            started.set()
            x.wait_for_close(10)
            return False
        return bool(answer()(x))

    upstream(hang_once)
    headers = key()
    lines = (f"Authorization: Bearer {SECRETS['ADMIN']}".encode(), b"Idempotency-Key: " + headers["idempotency-key"].encode())
    with ThreadPoolExecutor(1) as pool:
        with socket.create_connection(("127.0.0.1", engine.port)) as s:
            s.sendall(chat_bytes("openai/gpt-4o-mini", *lines))
            assert started.wait(5)
            waiting = pool.submit(engine.request, "POST", "/v1/chat/completions", chat_bytes("openai/gpt-4o-mini").partition(b"\r\n\r\n")[2], headers)
            time.sleep(0.3)
        assert waiting.result(20).status == 200
    assert len(upstream.seen) == 2


@pytest.mark.parametrize("bad", ["", "x" * 300, "\u00e9"])
def test_bad_keys(engine: Engine, bad: str) -> None:
    reply = engine.chat(headers={"idempotency-key": bad.encode("utf-8").decode("latin-1")})
    assert (reply.status, reply.error["param"]) == (400, "Idempotency-Key")


def test_workers_and_restarts_know_of_each_other(tmp_path: Path, upstream: FaultServer) -> None:
    """Two workers, then a new start, then a start after a kill: one upstream call in all for each key."""
    upstream(slow)
    headers, env = key(), keys_for(upstream.base)
    with running("[server]\nworkers = 2\n", env=env, home=tmp_path) as engine:
        with ThreadPoolExecutor(20) as pool:
            replies = list(pool.map(lambda _: engine.chat(headers=headers), range(20)))
        assert len({r.body for r in replies}) == 1
        assert len(upstream.seen) == 1
    upstream(answer())
    with running(env=env, home=tmp_path) as engine:
        assert engine.chat(headers=headers).body == replies[0].body
        assert upstream.seen == []
        upstream(lambda x: x.wait_for_close(10) and False)
        open_key = key()
        with contextlib.closing(socket.create_connection(("127.0.0.1", engine.port))) as s:
            s.sendall(chat_bytes("openai/gpt-4o-mini", b"Idempotency-Key: " + open_key["idempotency-key"].encode()))
            assert eventually(lambda: upstream.seen)
            engine.process.kill()
            engine.process.wait(10)
    upstream(answer())
    with running(env=env, home=tmp_path) as engine:
        assert engine.chat(headers=open_key, stream=False).status == 200  # the key of a process that died is not held for ever


def test_no_text_is_kept_where_none_may_be(upstream: FaultServer, tmp_path: Path) -> None:
    """With content = "none" a repetition still costs nothing, and no file of the store holds the answer."""
    with running(CONFIG + '[traces]\ncontent = "none"\n', env={**keys_for(upstream.base), **SECRETS}, home=tmp_path) as e:
        e.headers = {"authorization": f"Bearer {SECRETS['ADMIN']}"}
        said = {**ANSWER, "choices": [{**ANSWER["choices"][0], "message": {"role": "assistant", "content": "CANARY-TEXT-7431"}}]}
        upstream(answer(body=said))
        headers = key()
        first, second = (e.chat(headers=headers) for _ in range(2))
        assert b"CANARY-TEXT-7431" in first.body
        assert (second.status, json.loads(second.body)["error"]["code"]) == (410, "answer_not_kept")
        assert len(upstream.seen) == 1
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"CANARY-TEXT-7431" in path.read_bytes()]
    assert found == []
