"""The commands about traces against a running engine: the same rows as from its store, and the promised exit codes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ADMIN, rows, run, started, there
from engine_process import Engine, Start, bare_environment, free_port

from faultserver import FaultServer, answer, error


@pytest.fixture(scope="module")
def served(start_engine: Start, upstream: FaultServer) -> Engine:
    """An engine with some calls of three kinds."""
    engine = started(start_engine, upstream)
    upstream(answer())
    for number in range(6):
        assert engine.chat("openai/gpt-4o" if number % 2 else "openai/gpt-4o-mini", user=f"=u{number}").status == 200
    upstream(error(500))
    assert engine.chat("openai/gpt-4o").status in (500, 502)
    assert len(engine.traces()) == 7
    return engine


@pytest.mark.parametrize(
    "words",
    [
        ("traces", "ls", "--json"),
        ("traces", "ls", "model:gpt-4o", "status:error", "--jsonl"),
        ("traces", "ls", "-n", "3", "--csv"),
        ("traces", "search", "hello", "--json"),
        ("traces", "show", "last", "--json"),
        ("stats", "--by", "model", "--json", "--since", "all"),
        ("stats", "--by", "model,user", "--csv"),
        ("stats", "--by", "model", "--bucket", "1h", "--json"),
        ("traces", "export", "--format", "csv"),
        ("traces", "export", "--format", "openai"),
    ],
    ids=" ".join,
)
def test_an_engine_and_its_store_say_the_same(served: Engine, words: tuple[str, ...]) -> None:
    store = run(*words, "--store", str(served.home / "traces.db"))
    there = run(*words, "--engine", served.url)
    assert store.strip()
    assert there == store
    assert run(*words, env={"OPENTRACY_ENGINE_URL": served.url}) == store


def test_every_form_of_export_over_http(served: Engine, tmp_path: Path) -> None:
    """JSONL, CSV, Parquet and fine-tuning, of exactly the filter; without texts when asked."""
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    lines = rows(served.request("GET", "/v1/traces/export?model=gpt-4o").body.decode())
    assert len(lines) == 4
    assert all(line["request"] for line in lines)
    bare = rows(served.request("GET", "/v1/traces/export?model=gpt-4o&bodies=false").body.decode())
    assert [line["trace_id"] for line in bare] == [line["trace_id"] for line in lines]
    assert not any(line["request"] for line in bare)
    cells = list(csv.DictReader(io.StringIO(served.request("GET", "/v1/traces/export?format=csv").body.decode())))
    assert len(cells) == 7
    assert all(cell["user_id"].startswith("'=") for cell in cells if cell["user_id"])
    assert json.loads(cells[0]["attempts_detail"])[0]["provider"] == "openai"
    file = tmp_path / "x.parquet"
    file.write_bytes(served.request("GET", "/v1/traces/export?format=parquet&q=status:ok").body)
    sums = duckdb.sql(f"SELECT count(*), sum(cost_nano), count(request) FROM read_parquet('{file}')").fetchall()[0]
    assert sums == (6, sum(line["cost_nano"] or 0 for line in served.traces("status=ok")), 6)
    tuning = rows(served.request("GET", "/v1/traces/export?format=openai").body.decode())
    assert len(tuning) == 6
    assert [message["role"] for message in tuning[0]["messages"]] == ["user", "assistant"]
    assert served.request("GET", "/v1/traces/export?format=xml").error["param"] == "format"


def test_taking_in_over_http(start_engine: Start, upstream: FaultServer) -> None:
    """Into an engine elsewhere: what is known is left alone, what is no trace is named, texts are masked there."""
    config = '[server]\nadmin_keys = ["env:ADMIN"]\n[traces]\ncontent = "redacted"\n'
    engine = start_engine(config, upstream, ADMIN="adm-1")
    engine.headers = ADMIN
    asked = {"messages": [{"role": "user", "content": "ann@example.com " * 20}]}
    long = [{"trace_id": f"{n + 1:032x}", "request": asked} for n in range(1200)]
    lines = f"{json.dumps(long)}\n{json.dumps({'model': 'b', 'trace_id': f'{9999:032x}'})}\n"
    done = rows(run("traces", "import", "-", "--json", *there(engine), stdin=lines))
    assert done == [{"added": 1201, "known": 0, "refused": 0}]
    assert "line 3" in run("traces", "import", "-", *there(engine), stdin=lines + "junk\n", code=1)
    assert run("traces", "import", "-", "--json", *there(engine), stdin=lines) == '{"added": 0, "known": 1201, "refused": 0}\n'
    record = engine.request("GET", f"/v1/traces/{7:032x}").json
    assert record["body_state"] == "redacted"
    assert "ann@example.com" not in json.dumps(record)
    run("traces", "import", "-", *there(engine), key="wrong", stdin=lines, code=1)
    run("traces", "import", "-", "--engine", f"http://127.0.0.1:{free_port()}", stdin=lines, code=3)


def test_removing_over_http(start_engine: Start, upstream: FaultServer) -> None:
    """By id and by filter; what was said of a trace goes with it, and who may only read may not."""
    engine = started(start_engine, upstream)
    upstream(answer())
    ids = [engine.chat(user=name).headers["x-opentracy-trace-id"] for name in ("ann", "ann", "bob", "eve")]
    for trace_id in ids:
        said = {"trace_id": trace_id, "metric": "comment", "value": f"zanzibar {trace_id}"}
        assert engine.request("POST", "/v1/feedback", said).status == 201
    assert run("traces", "rm", ids[3], "-y", "--json", *there(engine)) == '{"removed": 1}\n'
    assert run("traces", "rm", "-f", "user:ann", "-y", "--json", *there(engine)) == '{"removed": 2}\n'
    assert [row["trace_id"] for row in engine.traces()] == [ids[2]]
    assert engine.request("GET", "/v1/stats?metric=requests").json["data"] == [{"requests": 4}], "sums stay"
    assert "1 of them did not exist" in run("traces", "rm", ids[3], "-y", *there(engine), code=1)
    assert engine.request("DELETE", f"/v1/traces/{ids[3]}").error["code"] == "trace_not_found"
    assert engine.request("DELETE", "/v1/traces/zz").status == 400
    assert engine.request("DELETE", f"/v1/traces/{ids[2]}", headers={"authorization": "Bearer wrong"}).status == 401
    run("traces", "rm", ids[2], "-y", *there(engine), key="wrong", code=1)
    assert engine.stop() == 0
    with contextlib.closing(sqlite3.connect(engine.home / "traces.db")) as connection:
        assert connection.execute("SELECT trace_id FROM feedback").fetchall() == [(ids[2],)]


def test_feedback_from_the_command_line(served: Engine) -> None:
    """Through the engine and into the store; a mistake is told."""
    newest = served.traces("limit=1")[0]["trace_id"]
    said = run("feedback", newest, "--metric", "good", "--value", "true", "--json", "--engine", served.url)
    assert json.loads(said) == {"trace_id": newest, "metric": "good", "value": True}
    run("feedback", "last", "--metric", "score", "--value", "0.5", "--store", str(served.home / "traces.db"))
    from opentracy.traces import Store
    from opentracy.traces.feedback import of_trace

    store = Store.open(served.home / "traces.db", read_only=True)
    kept = {one.metric: one.value for one in of_trace(store.reader(), newest)}
    store.close()
    assert kept == {"good": True, "score": 0.5}
    run("feedback", "f" * 32, "--metric", "good", "--value", "true", "--store", str(served.home / "traces.db"), code=1)
    run("feedback", newest, "--metric", "no spaces", "--value", "1", "--store", str(served.home / "traces.db"), code=2)


def test_exit_codes(served: Engine, tmp_path: Path) -> None:
    """0 done, 1 failed, 2 asked wrongly, 3 nobody there; and the local store where there is one."""
    away = f"http://127.0.0.1:{free_port()}"
    assert "No engine answers" in run("traces", "ls", "--engine", away, code=3)
    assert "No engine answers" in run("stats", env={"OPENTRACY_ENGINE_URL": away, "OPENTRACY_DATA_HOME": str(tmp_path)}, code=3)
    home = {"OPENTRACY_ENGINE_URL": away, "OPENTRACY_DATA_HOME": str(served.home)}
    assert len(rows(run("traces", "ls", "--json", env=home))) == 7
    assert "not valid" in run("traces", "ls", "--engine", served.url, key="wrong", code=1)
    assert "did you mean 'model'" in run("traces", "ls", "modle:x", "--engine", served.url, code=2)
    assert "did you mean 'model'" in run("traces", "ls", "modle:x", "--store", str(served.home / "traces.db"), code=2)
    run("traces", "show", "f" * 32, "--engine", served.url, code=1)
    run("traces", "ls", "--engine", "nonsense", code=2)


@pytest.mark.parametrize("where", ["engine", "store"])
def test_tail_shows_a_trace_within_a_second_and_ends_with_130(served: Engine, upstream: FaultServer, where: str) -> None:
    """Only what matches, as it comes; Ctrl-C is no failure of ours."""
    place = ["--engine", served.url] if where == "engine" else ["--store", str(served.home / "traces.db")]
    command = [sys.executable, "-m", "opentracy", "traces", "tail", "-n", "0", "--json", "-f", "model:gpt-4o-mini", *place]
    tail = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**bare_environment(), "OPENTRACY_API_KEY": "adm-1"}
    )
    assert tail.stdout is not None
    upstream(answer())
    took = []
    time.sleep(3.0)
    for _ in range(3):
        assert served.chat("openai/gpt-4o").status == 200
        wanted = served.chat("openai/gpt-4o-mini").headers["x-opentracy-trace-id"]
        began = time.monotonic()
        assert json.loads(tail.stdout.readline())["trace_id"] == wanted
        took.append(time.monotonic() - began)
    assert min(took) < 1.0, took
    os.kill(tail.pid, signal.SIGINT)
    _, said = tail.communicate(timeout=30)
    assert tail.returncode == 130
    assert "Traceback" not in said
