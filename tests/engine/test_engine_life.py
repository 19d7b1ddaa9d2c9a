"""A process from start to end: refusals to start, reload, drain, crashed workers, killed ones, full disks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from engine_process import MESSAGES, Engine, Reply, Start, bare_environment, free_port

from faultserver import EVENTS, Exchange, FaultServer, answer, stream


def serve(home: Path, *flags: str, config: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs `opentracy serve` where it is expected to refuse."""
    command = [sys.executable, "-m", "opentracy", "serve", *flags]
    if config is not None:
        (home / "c.toml").write_text(config)
        command += ["--config", str(home / "c.toml")]
    environ = {**bare_environment(), "OPENTRACY_DATA_HOME": str(home), **env}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)


def test_open_bind_without_a_key_is_refused(tmp_path: Path) -> None:
    """S9: exit 2, and nothing listened."""
    done = serve(tmp_path, "--host", "0.0.0.0", "--port", str(free_port()))
    assert done.returncode == 2
    assert "without a key" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use(tmp_path: Path, workers: str) -> None:
    """Row 102: one line, at once; also when the other one would share."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = serve(tmp_path, "--port", str(taken.getsockname()[1]), "--workers", workers)
    assert done.returncode == 1
    assert done.stderr.startswith("opentracy: cannot listen on 127.0.0.1:")


def test_unusable_data_directory(tmp_path: Path) -> None:
    """Row 102."""
    (tmp_path / "file").write_text("")
    done = serve(tmp_path, "--port", str(free_port()), "--store", str(tmp_path / "file" / "traces.db"))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[server]\nprot = 1\n", "line 2: unknown key 'server.prot', did you mean 'port'?"),
        ("[server\n", "line 1, column 8"),
        ("[aliases.a]\nmodel = 'b'\n[aliases.b]\nmodel = 'a'\n", "loop: a -> b -> a"),
        ("[auto]\nmodels = ['openai/gpt-4o']\ndefault = 'openai/x'\n", "auto.default"),
        ("[providers.openia]\napi_key = 'env:X'\n", "did you mean 'openai'"),
        ("[server]\napi_keys = ['env:NOT_SET_ANYWHERE']\n", "env:NOT_SET_ANYWHERE is not set"),
        ("[server]\napi_keys = ['sk-plain']\n", "secrets never stand in the file"),
    ],
)
def test_bad_configuration_is_exit_2(tmp_path: Path, config: str, words: str) -> None:
    """Row 100."""
    done = serve(tmp_path, "--port", str(free_port()), config=config)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_second_engine_on_the_same_store_is_refused(start_engine: Start, upstream: FaultServer) -> None:
    """Row 111."""
    engine = start_engine("", upstream)
    done = serve(engine.home, "--port", str(free_port()))
    assert done.returncode == 1
    assert f"another engine (pid {engine.process.pid})" in done.stderr


def test_reload_under_load(start_engine: Start, upstream: FaultServer) -> None:
    """Row 101: good and bad configurations in turn while requests run; none fails, and bad ones change nothing."""
    upstream(answer())
    engine = start_engine("[aliases.a]\nmodel = 'openai/gpt-4o'\n", upstream)
    failed: list[Reply] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            reply = engine.chat("a")
            if reply.status != 200:
                failed.append(reply)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    path = engine.home / "opentracy.toml"
    for number in range(10):
        path.write_text(f"[aliases.a]\nmodel = 'openai/gpt-4o'\n[aliases.b{number}]\nmodel = 'openai/x'\n")
        assert engine.request("POST", "/v1/reload", {}).status == 200
        path.write_text("[aliases.a]\nmodel = ")
        bad = engine.request("POST", "/v1/reload", {})
        assert (bad.status, bad.error["code"]) == (400, "invalid_config")
        assert "line 2" in bad.error["message"]
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert "b9" in {m["id"] for m in engine.request("GET", "/v1/models").json["data"]}


def test_sigterm_lets_streams_finish(start_engine: Start, upstream: FaultServer) -> None:
    """Row 95: not ready at once, no new connections, running streams complete, traces kept, exit 0."""
    engine = start_engine("", upstream)
    release = threading.Event()

    def rest(x: Exchange) -> bool:
        release.wait(20)
        with contextlib.suppress(OSError):
            for e in EVENTS[3:]:
                x.send(b"%x\r\n%b\r\n" % (len(e), e))
            x.send(b"0\r\n\r\n")
        return False

    upstream(stream(*EVENTS[:3], then=rest))
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(engine.chat(stream=True))) for _ in range(5)]
    for thread in threads:
        thread.start()
    while len(upstream.seen) < 5:
        time.sleep(0.02)
    time.sleep(0.3)
    engine.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(OSError):
        engine.request("GET", "/health/live")
    release.set()
    for thread in threads:
        thread.join()
    assert engine.process.wait(30) == 0
    assert [r.events[-1] for r in replies] == ["[DONE]"] * 5
    assert _stored(engine) == {"ok": 5}


def test_second_sigterm_ends_at_once(start_engine: Start, upstream: FaultServer) -> None:
    """Row 95: whoever is still streaming gets an error event, and a trace."""
    engine = start_engine("", upstream)
    hold = threading.Event()
    upstream(stream(*EVENTS[:3], then=lambda x: not hold.wait(20)))
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(engine.chat(stream=True)))
    thread.start()
    while not upstream.seen:
        time.sleep(0.02)
    time.sleep(0.3)
    for _ in range(2):
        engine.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    assert engine.process.wait(10) == 0
    hold.set()
    thread.join()
    assert "error" in replies[0].events[-1]
    assert _stored(engine) == {"interrupted": 1}


def _listening(port: int) -> int:
    """How many sockets listen on a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A")


def test_crashed_worker_is_replaced(start_engine: Start, upstream: FaultServer) -> None:
    """Row 108: the others serve meanwhile, and metrics add up over all of them."""
    upstream(answer())
    engine = start_engine("[server]\nworkers = 2\n", upstream)
    before = _children(engine.process.pid)
    assert len(before) == 2
    assert _await(lambda: _listening(engine.port) == 2), "the first answers as soon as it can, the other a little later"
    os.kill(before[0], signal.SIGKILL)
    replaced = _await(lambda: len(_children(engine.process.pid)) == 2 and before[0] not in _children(engine.process.pid))
    assert replaced
    for _ in range(10):
        assert engine.chat().status == 200

    def counted() -> bool:
        text = engine.request("GET", "/metrics").body.decode()
        lines = [line for line in text.splitlines() if line.startswith("opentracy_requests_total{")]
        return sum(int(line.rsplit(" ", 1)[1]) for line in lines) == 10

    assert _await(counted)
    assert engine.stop() == 0


SLOW_FORK = """
import os, sys, time
fork = os.fork
def slow():
    pid = fork()
    if not pid:
        time.sleep(1.5)  # on a busy machine the child gets its first turn late
    return pid
os.fork = slow
from opentracy.cli import main
sys.exit(main())
"""


def test_a_worker_that_has_not_had_its_first_turn_is_stopped_too(tmp_path: Path) -> None:
    """It still has its parent's handlers then, which pass a signal on and live."""
    command = [sys.executable, "-c", SLOW_FORK, "serve", "--port", str(free_port()), "--workers", "2"]
    environ = {**bare_environment(), "OPENTRACY_DATA_HOME": str(tmp_path)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environ, stderr=quiet, stdout=quiet, start_new_session=True) as engine:
        assert _await(lambda: len(_children(engine.pid)) == 2)
        engine.send_signal(signal.SIGTERM)
        try:
            assert engine.wait(30) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(engine.pid, signal.SIGKILL)


def test_killed_engine_loses_nothing(start_engine: Start, upstream: FaultServer) -> None:
    """Row 94: after kill -9, strict durability has every acknowledged trace once, open requests become interrupted."""
    engine = start_engine("[traces]\ndurability = 'strict'\n", upstream)
    upstream(answer())
    acknowledged = [engine.chat().headers["x-opentracy-trace-id"] for _ in range(20)]
    hold = threading.Event()
    upstream(lambda x: not hold.wait(20))
    with socket.create_connection(("127.0.0.1", engine.port)) as s:
        body = json.dumps({"model": "openai/open", "messages": MESSAGES}).encode()
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n%b" % (len(body), body))  # fmt: skip
        while not upstream.seen:
            time.sleep(0.01)
        engine.process.kill()
        engine.process.wait(10)
    hold.set()
    upstream(answer())
    again = start_engine("", upstream, ("--store", str(engine.home / "traces.db")))
    rows = again.traces("limit=1000")
    assert sorted(r["trace_id"] for r in rows if r["outcome"] == "ok") == sorted(acknowledged)
    assert [r["requested_model"] for r in rows if r["outcome"] == "interrupted"] == ["openai/open"]


def test_damaged_store_is_moved_aside(start_engine: Start, upstream: FaultServer, tmp_path: Path) -> None:
    """Row 98."""
    (tmp_path / "t.db").write_bytes(b"this is no database" * 500)
    engine = start_engine("", upstream, ("--store", str(tmp_path / "t.db")))
    upstream(answer())
    assert engine.trace(engine.chat())["outcome"] == "ok"
    assert list(tmp_path.glob("*.corrupt-*"))


def test_broken_log_does_not_stop_the_serving(upstream: FaultServer, tmp_path: Path) -> None:
    """Row 109: stderr is a closed pipe."""
    port, (read, write) = free_port(), os.pipe()
    env = {**bare_environment(), "OPENTRACY_DATA_HOME": str(tmp_path), "OPENAI_API_KEY": "sk-x"}
    env["OPENAI_API_BASE"] = upstream.base
    command = [sys.executable, "-m", "opentracy", "serve", "--port", str(port), "--log-level", "debug"]
    process = subprocess.Popen(command, env=env, stdout=write, stderr=write)
    os.close(write)
    engine = Engine(port, tmp_path, process, tmp_path / "log")
    try:
        assert _await(lambda: _live(engine), 20)
        os.close(read)
        upstream(answer())
        assert [engine.chat().status for _ in range(3)] == [200, 200, 200]
    finally:
        process.kill()
        process.wait(10)


def _live(engine: Engine) -> bool:
    with contextlib.suppress(OSError):
        return engine.request("GET", "/health/live").status == 200
    return False


def _await(condition: Any, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _stored(engine: Engine) -> dict[str, int]:
    """Outcomes in the store of an engine that has ended."""
    from opentracy.traces import Reader, Store

    store = Store.open(engine.home / "traces.db")
    rows = Reader(store).page(limit=100).rows
    store.close()
    found: dict[str, int] = {}
    for row in rows:
        found[row.outcome] = found.get(row.outcome, 0) + 1
    return found
