"""A running engine learns: feedback, new artifacts on the disk, shadow evaluation, drift. Real processes, real HTTP."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from routing_kit import MODELS, labelled, prompt

from engine_kit import Engine, eventually, keys_for, running
from faultserver import ANSWER, Exchange, FaultServer, answer
from opentracy.engine.capabilities import able
from opentracy.routing import Labels, promote
from opentracy.routing.artifact import Artifact, read, write
from opentracy.routing.embed import static_embedder
from opentracy.routing.train import fit

NAMES = dict(
    zip(MODELS, ("openai/gpt-4o", "openai/gpt-4.1-mini", "deepseek/deepseek-chat", "openai/gpt-4o-mini"), strict=True)
)
JUDGE = "groq/llama-3.3-70b-versatile"


@pytest.fixture(scope="module")
def trained() -> Artifact:
    labels, _ = labelled(500, seed=3)
    named = Labels(labels.prompts, tuple(NAMES[m] for m in labels.models), labels.scores, labels.costs)
    return fit(named, static_embedder())


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with contextlib.closing(FaultServer()) as server:
        yield server(answer())


def config(directory: Path, more: str = "", workers: int = 1) -> str:
    return f"""
[server]
workers = {workers}

[auto]
models = {json.dumps(sorted(NAMES.values()))}
default = "openai/gpt-4o"
cost_weight = 0.0
router = "{directory}"
drift_every = 1
{more}
"""


def routed(engine: Engine, text: str) -> dict[str, Any]:
    return dict(engine.request("POST", "/v1/route", {"prompt": text}).json)


def state(engine: Engine) -> dict[str, Any]:
    return dict(engine.request("GET", "/v1/router").json)


def ask(engine: Engine, text: str) -> dict[str, Any]:
    reply = engine.chat("auto", messages=[{"role": "user", "content": text}])
    assert reply.status == 200, reply.body
    return dict(reply.json["_routing"])


def judge(engine: Engine, trace_id: str, value: Any) -> None:
    said = engine.request("POST", "/v1/feedback", {"trace_id": trace_id, "metric": "quality", "value": value})
    assert said.status == 201, said.body


def test_feedback_changes_later_decisions_in_every_worker_and_after_a_restart(
    trained: Artifact, upstream: FaultServer, tmp_path: Path
) -> None:
    directory, home = tmp_path / "router", tmp_path / "home"
    write(trained, directory)
    env = keys_for(upstream.base + "/v1")
    text = prompt("space", random.Random(0))
    with running(config(directory, workers=2), env=env, home=home) as engine:
        before = routed(engine, text)
        favourite = before["model"]
        for _ in range(40):
            answered = ask(engine, text)
            judge(engine, answered["trace_id"], f"{answered['provider']}/{answered['selected_model']}" != favourite)
        assert eventually(lambda: state(engine)["learned"]["outcomes"] == 40)
        # both workers answer on one port: neither may still decide as before
        assert eventually(lambda: favourite not in {routed(engine, text)["model"] for _ in range(12)})
        after = routed(engine, text)
        assert after["scores"][favourite]["quality"] < before["scores"][favourite]["quality"]

        def judged() -> dict[str, Any]:
            return {s["model"]: s for s in state(engine)["learned"]["shifts"]}

        # the favourite lost its place while it was being judged, and its successor was judged from then on
        assert eventually(lambda: sum(s["outcomes"] for s in judged().values()) == 40)
        assert judged()[favourite]["shift"] < 0
    with running(config(directory), env=env, home=home) as engine:
        assert state(engine)["learned"]["outcomes"] == 40  # from the first request on
        assert routed(engine, text)["model"] == after["model"]
        assert engine.request("POST", "/v1/reload").status == 200
        assert routed(engine, text)["model"] == after["model"]


def test_a_corrected_judgement_counts_once(trained: Artifact, upstream: FaultServer, tmp_path: Path) -> None:
    write(trained, tmp_path / "router")
    with running(config(tmp_path / "router"), env=keys_for(upstream.base + "/v1")) as engine:
        trace = ask(engine, prompt("space", random.Random(1)))
        judge(engine, trace["trace_id"], 0.0)
        assert eventually(lambda: state(engine)["learned"]["outcomes"] == 1)
        low = state(engine)["learned"]["shifts"][0]["shift"]
        judge(engine, trace["trace_id"], 1.0)
        assert eventually(lambda: state(engine)["learned"]["shifts"][0]["shift"] > low)
        assert state(engine)["learned"]["outcomes"] == 1
        assert state(engine)["learned"]["shifts"][0]["shift"] > 0


def test_what_is_promoted_is_used_and_what_is_damaged_is_not(
    trained: Artifact, upstream: FaultServer, tmp_path: Path
) -> None:
    directory = tmp_path / "router"
    first = write(trained, directory).manifest.version
    text = "How does the soup relate to the oven when the flour is near the pan?"
    with running(config(directory), env=keys_for(upstream.base + "/v1")) as engine:
        assert state(engine)["version"] == first
        labels, _ = labelled(600, seed=9)
        named = Labels(labels.prompts, tuple(NAMES[m] for m in labels.models), labels.scores, labels.costs)
        second = promote.promote(directory, promote.retrain(read(directory), named, static_embedder())).manifest.version
        assert eventually(lambda: state(engine)["version"] == second)
        assert ask(engine, text)["router_version"] == second
        promote.rollback(directory)
        assert eventually(lambda: state(engine)["version"] == first)
        good = routed(engine, text)
        manifest = directory / "router.json"
        manifest.write_bytes(manifest.read_bytes()[:-200])
        assert eventually(lambda: state(engine)["problem"])
        assert engine.request("POST", "/v1/reload").status == 200
        assert state(engine)["version"] == first
        assert routed(engine, text)["scores"] == good["scores"]
        shutil.rmtree(directory)
        assert engine.request("POST", "/v1/reload").status == 200
        assert routed(engine, text)["model"] == good["model"]


class Graded:
    """An upstream that answers, and grades as the judge: one model's answers are worth more than another's."""

    def __init__(self) -> None:
        self.judged: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, x: Exchange) -> bool:
        body = x.json
        text = f"answer of {body['model']}"
        if "You grade an answer" in body["messages"][-1]["content"]:
            with self._lock:
                self.judged.append(body["messages"][-1]["content"])
            worth = 9 if "answer of gpt-4o-mini" in body["messages"][-1]["content"] else 1
            text = f"It must be right.\nSCORE: {worth}"
        reply = {**ANSWER, "model": body["model"]}
        reply["choices"] = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
        reply["usage"] = {"prompt_tokens": 400, "completion_tokens": 300, "total_tokens": 700}
        return bool(answer(body=reply)(x))


def test_shadow_evaluation_judges_a_share_within_its_budget(
    trained: Artifact, upstream: FaultServer, tmp_path: Path
) -> None:
    write(trained, tmp_path / "router")
    graded = Graded()
    upstream(graded)
    more = f'[shadow]\nshare = 1.0\njudge = "{JUDGE}"\nbudget = 0.02\nevery = 1\n'
    rng = random.Random(4)
    with running(config(tmp_path / "router", more), env=keys_for(upstream.base + "/v1")) as engine:
        assert eventually(lambda: (tmp_path / "router").exists() and state(engine)["shadow"]["seq"] is not None)
        for _ in range(30):
            ask(engine, prompt("cooking", rng))
        assert eventually(lambda: state(engine)["shadow"]["judged"] >= 4, 30)
        learned = eventually(lambda: state(engine)["learned"]["outcomes"] >= 4)
        assert learned
        for _ in range(30):
            ask(engine, prompt("cooking", rng))
        time.sleep(4)
        found = state(engine)
        shadow = found["shadow"]
        assert 0 < shadow["spent"] <= 0.02 + 0.005  # a call under way may cost more than was expected of it
        assert shadow["replays"] < 60  # the budget, not the traffic, ended it
        assert shadow["problem"] is None
        replays = engine.traces("tag=shadow&limit=100")
        assert len(replays) == shadow["replays"]
        with contextlib.closing(sqlite3.connect(engine.home / "traces.db")) as db:
            said = db.execute("SELECT DISTINCT author FROM feedback").fetchall()
        assert said == [(f"judge:{JUDGE}@1",)]
        assert all("<answer>" in text for text in graded.judged)


def test_drift_is_raised_and_seen(trained: Artifact, upstream: FaultServer, tmp_path: Path) -> None:
    write(trained, tmp_path / "router")
    with running(config(tmp_path / "router"), env=keys_for(upstream.base + "/v1")) as engine:
        for i in range(70):
            ask(engine, f"x_{i} = {{'recipe': [{i}, {i * 7}], 'oven': <{i}>}}; y^2 = \\frac{{{i}}}{{soup}} $$ 0x{i:08x}")
        assert eventually(lambda: state(engine)["drift"], 20)
        alarm = state(engine)["drift"][0]
        assert alarm["cluster_label"]
        assert alarm["kind"] in ("novelty", "share")
        assert "traffic has drifted" in engine.log.read_text()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-4o-mini", (True, True, True)),
        ("perplexity/sonar", (False, True, True)),
        ("deepseek/deepseek-chat", (True, False, True)),
        ("groq/llama-3.3-70b-versatile", (True, False, True)),
        ("groq/meta-llama/llama-4-scout-17b-16e-instruct", (True, True, True)),
        ("together/meta-llama/Llama-3.2-11B-Vision-Instruct-Turbo", (True, True, True)),
        ("together/Qwen/Qwen2.5-VL-72B-Instruct", (True, True, True)),
        ("openai/a-model-of-tomorrow", (True, True, True)),
    ],
)
def test_what_models_can_take(model: str, expected: tuple[bool, bool, bool]) -> None:
    assert able(model) == expected


def test_a_request_with_an_image_or_tools_goes_to_a_model_that_takes_them(upstream: FaultServer) -> None:
    more = """
[auto]
models = ["deepseek/deepseek-chat", "openai/gpt-4o-mini"]
default = "deepseek/deepseek-chat"
"""
    picture = [
        {"type": "text", "text": "What is in this picture?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    with running(more, env=keys_for(upstream.base + "/v1")) as engine:
        found = engine.request("POST", "/v1/route", {"messages": [{"role": "user", "content": picture}]}).json
        assert found["model"] == "openai/gpt-4o-mini"
        assert found["fallback_reason"] == "default_unavailable"
        assert found["scores"]["deepseek/deepseek-chat"]["excluded"] == "images: not supported"
        assert found["scores"]["deepseek/deepseek-chat"]["why"] == "images: not supported"
        assert routed(engine, "What is in this picture?")["scores"]["deepseek/deepseek-chat"].get("excluded") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (" \n ", "empty"),
        ("x" * 200_000, "too_long"),
        ("".join(chr(c) for c in range(1, 32)) * 40, "unreadable"),
        ("Quelle est la meilleure fa\u00e7on de pr\u00e9parer une soupe \u00e0 l'oignon dans cette ville ?", "language"),
    ],
)
def test_what_cannot_be_read_goes_to_the_default_with_a_reason(
    text: str, why: str, trained: Artifact, upstream: FaultServer, tmp_path: Path
) -> None:
    write(trained, tmp_path / "router")
    with running(config(tmp_path / "router"), env=keys_for(upstream.base + "/v1")) as engine:
        found = routed(engine, text)
        assert (found["model"], found["fallback_reason"]) == ("openai/gpt-4o", why)
        assert found["routing_ms"] < 250
        answered = ask(engine, text)
        assert (answered["selected_model"], answered["fallback_reason"]) == ("gpt-4o", why)


def test_a_megabyte_goes_to_a_model_that_can_hold_it(trained: Artifact, upstream: FaultServer, tmp_path: Path) -> None:
    write(trained, tmp_path / "router")
    with running(config(tmp_path / "router"), env=keys_for(upstream.base + "/v1")) as engine:
        found = routed(engine, "x" * 1_000_000)
        assert (found["model"], found["fallback_reason"]) == ("openai/gpt-4.1-mini", "default_unavailable")
        assert found["scores"]["openai/gpt-4o"]["excluded"].startswith("context: 250000 tokens needed")
        assert found["routing_ms"] < 250
