"""With `content = "redacted"` a secret is in no file, whichever way it came in and whatever was made of its trace."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import run, store
from engine_process import Engine, Start, bare_environment

from engine_kit import eventually
from faultserver import ANSWER, FaultServer, answer, hang
from opentracy.traces import Reader, Store, chunks, words
from opentracy.traces.codec import decompress

CANARY = "redaction.canary@example.com"
ASKED = {"messages": [{"role": "user", "content": f"write to {CANARY}"}]}


def told(status: int, **fields: Any) -> Any:
    """A provider's refusal that repeats what it was asked, also where nobody expects it."""
    return answer(status, {"error": {"message": f"no {CANARY}", "type": "t", "code": "c", "param": CANARY, **fields}})


def said() -> dict[str, Any]:
    """An answer that repeats it, too."""
    message = {"role": "assistant", "content": f"I wrote to {CANARY}"}
    return {**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def ask(engine: Engine, upstream: FaultServer) -> None:
    """Through the models' names, errors and repetitions."""
    upstream(answer(200, said()))
    assert engine.chat(f"openai/{CANARY}", **ASKED).status == 200
    assert engine.chat(f"nobody/{CANARY}", **ASKED).status >= 400
    for number, fields in enumerate(({}, {"type": CANARY}, {"code": CANARY})):
        upstream(told(400, **fields))
        for _ in range(2):
            reply = engine.chat(headers={"idempotency-key": f"k{number}"}, **ASKED)
            assert reply.status in (400, 410)
    upstream(answer(200, said()))
    assert engine.chat(headers={"idempotency-key": CANARY}, **ASKED).status == 200


def tell(engine: Engine) -> None:
    """What the engine is told beside requests: feedback, traces and spans of others."""
    newest = engine.traces("limit=1")[0]["trace_id"]
    for metric in ("comment", "category"):
        statement = {"trace_id": newest, "metric": metric, "value": f"ask {CANARY}"}
        assert engine.request("POST", "/v1/feedback", statement).status == 201
    texts = ("model", "provider", "requested_model", "alias", "project", "user_id", "session_id", "error_type", "error_code",
             "error_msg", "finish_reason", "region", "fallback_from", "fallback_reason", "cluster_label")  # fmt: skip
    attempt = {"target": CANARY, "provider": CANARY, "code": CANARY, "reason": CANARY}
    other = dict.fromkeys(texts, CANARY) | {"tags": [CANARY], "metadata": {CANARY: CANARY}, "attempts": [attempt], **said()}
    assert engine.request("POST", "/v1/traces", {"request": ASKED, **other}).status == 201
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": CANARY, "error.type": CANARY, "gen_ai.conversation.id": CANARY}
    span = {
        "traceId": "1" * 32, "spanId": "2" * 16, "name": f"chat {CANARY}", "startTimeUnixNano": "1", "endTimeUnixNano": "2",
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()],
        "status": {"code": 2, "message": CANARY},
    }  # fmt: skip
    assert engine.request("POST", "/v1/otlp/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).status == 200


def work_up(home: Path) -> None:
    """What is made of traces in time: the word index, columns, a segment; and what people take away."""
    with closing(Store.open(home / "traces.db", create=False)) as opened, closing(opened.connect()) as connection:
        Reader(opened).current()
        while words.add_some(connection):
            pass
        while chunks.build(connection, min_rows=1):
            pass
    command = [sys.executable, "-m", "opentracy.traces.sealing", str(home / "traces.db"), "1"]
    subprocess.run(command, env=bare_environment(), check=True, timeout=120)
    run("db", "backup", str(home / "copy.db"), *store(home))
    for form in ("jsonl", "csv", "parquet", "openai"):
        run("traces", "export", "--format", form, "-o", str(home / f"out.{form}"), *store(home))


def unpacked(database: Path) -> bytes:
    """Everything in a store, blocks opened."""
    with closing(sqlite3.connect(database)) as connection:
        parts = [
            decompress(codec, part)
            for table, column in (("blocks", "meta"), ("bodies", "data"))
            for codec, part in connection.execute(f"SELECT codec, {column} FROM {table}")
        ]
        tables = connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE TABLE%'").fetchall()
        rows = [row for (name,) in tables for row in connection.execute(f"SELECT * FROM '{name}'")]
        return b"".join(parts) + repr(rows).encode()


def columns(file: Path) -> str:
    """A Parquet file as text, since its pages are packed."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    return str(duckdb.sql(f"SELECT * FROM read_parquet('{file}')").fetchall())


def test_a_redacted_secret_is_in_no_file_whatever_brought_it(start_engine: Start, upstream: FaultServer) -> None:
    """The other way in and the other things made of a trace than the plain request's (see the accounting)."""
    engine = start_engine('[traces]\ncontent = "redacted"\n[limits]\nnum_retries = 0\n', upstream)
    ask(engine, upstream)
    tell(engine)
    assert engine.stop() == 0
    work_up(engine.home)
    files = [path for path in engine.home.rglob("*") if path.is_file()]
    assert {".parquet", ".db", ".jsonl", ".csv"} <= {path.suffix for path in files}
    assert [path.name for path in files if CANARY.encode() in path.read_bytes()] == []
    for path in files:
        if path.suffix == ".parquet":
            assert CANARY not in columns(path), path.name
        if path.name in ("traces.db", "copy.db"):
            whole = unpacked(path)
            assert CANARY.encode() not in whole, path.name
            assert whole.count(b"[email]") > 10


def test_a_killed_engine_leaves_no_secret_behind(start_engine: Start, upstream: FaultServer) -> None:
    """What is noted of an open request outlives `kill -9`: its model is what somebody wrote."""
    engine = start_engine('[traces]\ncontent = "redacted"\n', upstream)
    upstream(hang)

    def hanging() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            engine.chat(f"openai/{CANARY}", **ASKED)

    caller = threading.Thread(target=hanging)
    caller.start()
    eventually(lambda: upstream.seen)
    os.kill(engine.process.pid, signal.SIGKILL)
    engine.process.wait(30)
    caller.join(30)
    files = [path for path in engine.home.rglob("*") if path.is_file()]
    left = [path for path in files if ".open." in path.name]
    assert any(b"openai/[email]" in path.read_bytes() for path in left)
    assert [path.name for path in files if CANARY.encode() in path.read_bytes()] == []


def test_content_is_read_again_with_the_configuration(start_engine: Start, upstream: FaultServer) -> None:
    """From a reload on texts are masked: whoever switches it on need not stop serving."""
    engine = start_engine("", upstream)
    upstream(answer(200, said()))
    before = engine.trace(engine.chat(**ASKED))
    config = engine.home / "opentracy.toml"
    config.write_text(config.read_text() + '\n[traces]\ncontent = "redacted"\n')
    os.kill(engine.process.pid, signal.SIGHUP)
    after = eventually(lambda: (lambda trace: trace if trace["body_state"] == "redacted" else None)(engine.trace(engine.chat(**ASKED))))
    assert CANARY in json.dumps(before)
    assert CANARY not in json.dumps(after)
