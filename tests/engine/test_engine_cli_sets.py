"""`top`, `datasets` and `evals` against a running engine, and against the store alone: the same answers, the promised exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import rows, run, started, store, there
from engine_process import Engine, Start, bare_environment, free_port

from faultserver import ANSWER, FaultServer, answer, error

TEXT = ANSWER["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def served(start_engine: Start, upstream: FaultServer) -> Engine:
    engine = started(start_engine, upstream)
    upstream(answer())
    for number in range(8):
        said = [{"role": "user", "content": f"question {number}"}]
        assert engine.chat("openai/gpt-4o" if number % 4 else "openai/gpt-4o-mini", messages=said).status == 200
    upstream(error(500))
    assert engine.chat("openai/gpt-4o").status in (500, 502)
    upstream(answer())
    assert len(engine.traces()) == 9
    return engine


# ---------------------------------------------------------------- top
@pytest.mark.parametrize("where", ["engine", "store"])
def test_top_says_who_is_asked_how_often_and_at_what_cost(served: Engine, where: str) -> None:
    place = there(served) if where == "engine" else store(served.home)
    found = rows(run("top", "--window", "1h", "--json", *place))
    assert len(found) == 1
    by_model = {row["model"]: row for row in found[0]["rows"]}
    assert by_model["gpt-4o-mini"]["requests"] == 2
    assert by_model["gpt-4o"]["requests"] == 7
    assert by_model["gpt-4o"]["errors"] == 1
    assert by_model["gpt-4o"]["requests_per_s"] == pytest.approx(7 / 3600)
    assert by_model["gpt-4o"]["cost_per_hour"] == pytest.approx(by_model["gpt-4o"]["cost"])
    total = found[0]["total"]
    assert (total["requests"], total["errors"]) == (9, 1)
    assert total["cost"] == pytest.approx(sum(row["cost"] for row in by_model.values()))
    assert ("in_flight" in found[0]) == (where == "engine")
    lines = run("top", "--window", "1h", "--by", "provider,model", *place).splitlines()
    assert lines[0].split("\t")[:3] == ["provider", "model", "req/s"]
    assert lines[-1].split("\t")[0] == "all"
    assert run("top", "--filter", "model:nobody", *place) == ""


def test_top_looks_as_often_as_it_is_told(served: Engine) -> None:
    assert len(rows(run("top", "--json", "--count", "3", "--every", "0.1", *there(served)))) == 3
    assert "No engine answers" in run("top", "--engine", f"http://127.0.0.1:{free_port()}", code=3)
    assert "span" in run("top", "--window", "soon", *there(served), code=2)
    assert "did you mean 'model'" in run("top", "--by", "modle", *there(served), code=2)
    assert "did you mean 'model'" in run("top", "--by", "modle", *store(served.home), code=2)


def test_top_renews_itself_on_a_terminal_and_ends_with_ctrl_c(served: Engine) -> None:
    """A new model appears without asking again; the last table stays."""
    try:
        main, end = pty.openpty()
    except OSError as e:
        pytest.skip(f"no terminals here: {e}")
    command = [sys.executable, "-m", "opentracy", "top", "--every", "0.2", "--window", "1h", *there(served)]
    environ = {**bare_environment(), "OPENTRACY_API_KEY": "adm-1", "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    top = subprocess.Popen(command, env=environ, stdin=end, stdout=end, stderr=end, start_new_session=True)
    os.close(end)
    seen = b""

    def wait_for(text: bytes, seconds: float = 40.0) -> None:
        nonlocal seen
        limit = time.monotonic() + seconds
        while text not in seen:
            assert time.monotonic() < limit, seen[-2000:]
            if select.select([main], [], [], 0.2)[0]:
                seen += os.read(main, 65_536)

    wait_for(b"gpt-4o-mini")
    assert served.chat("groq/llama-3.3-70b-versatile").status == 200
    wait_for(b"llama-3.3-70b-versatile")
    assert b"in flight" in seen
    os.kill(top.pid, signal.SIGINT)
    limit = time.monotonic() + 30
    while top.poll() is None and time.monotonic() < limit:
        # the end of the terminal is an error to whoever reads it
        with contextlib.suppress(OSError):
            if select.select([main], [], [], 0.2)[0]:
                seen += os.read(main, 65_536)
    os.close(main)
    assert top.wait(1) == 130
    assert b"Traceback" not in seen


# ---------------------------------------------------------------- datasets
@pytest.mark.parametrize("where", ["engine", "store"])
def test_a_dataset_from_traces_and_from_a_file(served: Engine, tmp_path: Path, where: str) -> None:
    """Made from a filter, extended from a file, listed, shown, exported: the engine and its store say the same."""
    place, name = (there(served), "asked") if where == "engine" else (store(served.home), "kept")
    made = rows(run("datasets", "create", name, "model:gpt-4o", "status:ok", "--since", "1h", "--json", *place))[0]
    assert made == {"name": name, "version": 1, "rows": 6, "skipped": 0}
    assert "version 2: 3 rows" in run("datasets", "create", name, "--limit", "3", *place)
    more = {"messages": [{"role": "user", "content": "what is 6 * 7?"}], "answer": "42"}
    file = tmp_path / "more.jsonl"
    file.write_text(json.dumps(more) + "\n\n")
    assert rows(run("datasets", "add", name, str(file), "--json", *place))[0] == {"name": name, "version": 3, "rows": 4}
    assert rows(run("datasets", "add", name, "-", "--json", *place, stdin=json.dumps(more)))[0]["rows"] == 5
    for other in (there(served), store(served.home)):
        listed = {one["name"]: one["versions"] for one in rows(run("datasets", "ls", "--json", *other))}
        assert [version["rows"] for version in listed[name]] == [6, 3, 4, 5]
        assert listed[name][0]["source"] == "model:gpt-4o status:ok"
        assert any(line.split("\t")[:3] == [name, "4", "5"] for line in run("datasets", "ls", *other).splitlines())
        first = rows(run("datasets", "show", name, "--version", "1", "--json", *other))
        assert len(first) == 6
        assert {row["answer"] for row in first} == {TEXT}
        assert rows(run("datasets", "show", name, "-V", "1", "-n", "2", "--json", *other)) == first[:2]
        plain = run("datasets", "show", name, *other)
        assert "version 4: 5 rows" in plain
        assert "what is 6 * 7?\t42" in plain
        exported = rows(run("datasets", "export", name, "--version", "3", *other))
        assert exported[-1] == more
        tuning = rows(run("datasets", "export", name, "--format", "finetune", *other))
        assert tuning[-1] == {"messages": [*more["messages"], {"role": "assistant", "content": "42"}]}
        target = tmp_path / "out.jsonl"
        run("datasets", "export", name, "-o", str(target), *other)
        assert len(target.read_text().splitlines()) == 5


@pytest.mark.parametrize("where", ["engine", "store"])
def test_datasets_say_what_is_wrong(served: Engine, where: str) -> None:
    """1 for what does not exist, 2 for what makes no sense."""
    place = there(served) if where == "engine" else store(served.home)
    run("datasets", "show", "nothing-here", *place, code=1)
    run("datasets", "export", "nothing-here", *place, code=1)
    assert "Not a dataset name" in run("datasets", "create", "a b", *place, code=2)
    assert "did you mean 'model'" in run("datasets", "create", "x", "modle:y", *place, code=2)
    assert "1 to" in run("datasets", "create", "x", "model:nobody", *place, code=2)
    assert "line 2 is not JSON" in run("datasets", "add", "x", "-", *place, stdin="\n{", code=2)
    assert "messages" in run("datasets", "add", "x", "-", *place, stdin='{"answer": "1"}', code=2)
    assert "not valid" in run("datasets", "ls", *there(served), key="wrong", code=1)


# ---------------------------------------------------------------- evaluations
SUMS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"{n} + 1"}], "answer": TEXT if n % 2 else "nothing alike"}) + "\n"
    for n in range(6)
)


def keys(upstream: FaultServer) -> dict[str, str]:
    return {"OPENAI_API_BASE": f"http://127.0.0.1:{upstream.port}/v1", "OPENAI_API_KEY": "sk-x", "NO_PROXY": "127.0.0.1"}


@pytest.mark.parametrize("where", ["engine", "store"])
def test_an_evaluation_from_the_terminal(served: Engine, upstream: FaultServer, tmp_path: Path, where: str) -> None:
    """In the engine or in this process: scores, costs, failures and labels; the other way of looking finds it too."""
    upstream(answer())
    place, name = (there(served), "sums-engine") if where == "engine" else (store(served.home), "sums-store")
    run("datasets", "add", name, "-", *place, stdin=SUMS)
    command = ("evals", "run", name, "-m", "openai/gpt-4o", "-m", "openai/gpt-4o-mini", "--grader", "exact")
    done = rows(run(*command, "--json", *place, env=keys(upstream)))[0]
    assert (done["state"], done["done"], done["total"], done["version"]) == ("done", 12, 12, 1)
    for result in done["results"]:
        assert (result["scored"], result["score"], result["errors"]) == (6, 0.5, 0)
        assert result["cost"] > 0
    table = run(*command, "--limit", "2", *place, env=keys(upstream)).splitlines()
    assert table[0].split("\t")[:3] == ["model", "score", "answers"]
    assert {line.split("\t")[0] for line in table[1:]} == {"openai/gpt-4o", "openai/gpt-4o-mini"}
    for other in (there(served), store(served.home)):
        listed = rows(run("evals", "ls", "--dataset", name, "--json", *other))
        assert [one["total"] for one in listed] == [4, 12]
        assert done["id"] in run("evals", "ls", *other)
        shown = rows(run("evals", "show", done["id"], "--json", *other))[0]
        assert shown["results"] == done["results"]
        labels = rows(run("evals", "labels", done["id"], *other))
        assert [line["s:openai/gpt-4o"] for line in labels] == [0.0, 1.0] * 3
        assert labels[0]["prompt"] == "0 + 1"
        assert labels[0]["c:openai/gpt-4o"] > labels[0]["c:openai/gpt-4o-mini"] > 0
        run("evals", "stop", done["id"], *other)


@pytest.mark.parametrize("where", ["engine", "store"])
def test_evaluations_that_fail_say_so(served: Engine, upstream: FaultServer, where: str) -> None:
    """1 when nothing was scored or nothing is there, 2 for a question that means nothing."""
    place, name = (there(served), "fails-engine") if where == "engine" else (store(served.home), "fails-store")
    run("datasets", "add", name, "-", *place, stdin=SUMS)
    upstream(error(401))
    said = run("evals", "run", name, "-m", "openai/gpt-4o", "-n", "1", *place, env=keys(upstream), code=1)
    assert "gave no result" in said
    upstream(answer())
    run("evals", "run", "nothing-here", "-m", "openai/gpt-4o", *place, code=1)
    run("evals", "run", name, "-m", "openai/gpt-4o", "--grader", "taste", *place, code=2)
    run("evals", "show", "f" * 32, *place, code=1)
    run("evals", "labels", "f" * 32, *place, code=1)
    assert "--model" in run("evals", "run", name, *place, code=2)


@pytest.mark.parametrize("where", ["engine", "store"])
def test_ctrl_c_stops_an_evaluation_where_it_runs(served: Engine, upstream: FaultServer, where: str) -> None:
    upstream(lambda x: time.sleep(0.4) or answer()(x))
    place, name = (there(served), "slow-engine") if where == "engine" else (store(served.home), "slow-store")
    run("datasets", "add", name, "-", *place, stdin=SUMS * 20)
    command = [sys.executable, "-m", "opentracy", "evals", "run", name, "-m", "openai/gpt-4o", "-n", "100", *place]
    environ = {**bare_environment(), "OPENTRACY_API_KEY": "adm-1", **keys(upstream)}
    going = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 40
    while not any(one["done"] for one in rows(run("evals", "ls", "-d", name, "--json", *store(served.home)))):
        assert time.monotonic() < limit
        assert going.poll() is None
    os.kill(going.pid, signal.SIGINT)
    _, said = going.communicate(timeout=40)
    assert going.returncode == 130
    assert "Traceback" not in said
    while (found := rows(run("evals", "ls", "-d", name, "--json", *store(served.home)))[0])["state"] == "running":
        assert time.monotonic() < limit
    assert found["state"] == "stopped"
    assert 0 < found["done"] < 100
    upstream(answer())
