"""`opentracy routing learn --store`: feedback in a real trace store becomes labels, and the router is retrained."""

from __future__ import annotations

import json
import math
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from routing_kit import MODELS, labelled

from opentracy.cli.judged import judged_labels
from opentracy.cli.routing import routing
from opentracy.routing import Labels
from opentracy.routing.artifact import read, write
from opentracy.routing.embed import static_embedder
from opentracy.routing.train import fit
from opentracy.traces import Reader, Store, TraceRecord, TraceWriter
from opentracy.traces.feedback import add
from opentracy.traces.ids import new_trace_id


def run(*arguments: object) -> Result:
    return CliRunner().invoke(routing, [str(a) for a in arguments])


def answered(prompt: str, model: str, provider: str = "lab", outcome: str = "ok") -> TraceRecord:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": prompt}]}).encode()
    return TraceRecord(
        new_trace_id(),
        time.time_ns() // 1_000_000,
        outcome=outcome,
        model=model,
        provider=provider,
        request=body,
        response=b"{}",
        content="all",
    )


def fill(path: Path, judged: list[tuple[TraceRecord, float]], metric: str = "quality") -> Path:
    with closing(Store.open(path)) as store:
        with TraceWriter(store) as writer:
            for record, _ in judged:
                assert writer.put(record)
            assert writer.flush(30)
        connection, now = store.reader(), time.time_ns() // 1_000_000
        for record, value in judged:
            add(connection, record.trace_id, metric, value, author="judge", now_ms=now)
    return path


def test_feedback_becomes_labels_by_prompt_and_model(tmp_path: Path) -> None:
    rows = [
        (answered("What is a comet?", "star"), 1.0),
        (answered("What is a comet?", "cheap"), 0.0),
        (answered("What is a comet?", "cheap"), 0.5),
        (answered("Why is soup hot?", "gpt-x", "openai"), 0.25),
        (answered("Never answered", "star", outcome="timeout"), 0.0),
    ]
    with closing(Store.open(fill(tmp_path / "t.db", rows))) as store:
        labels = judged_labels(Reader(store), "quality", 0, MODELS)
        with pytest.raises(ValueError, match="0 traces are judged on 'taste'"):
            judged_labels(Reader(store), "taste", 0, MODELS)
    assert labels.prompts == ("What is a comet?", "Why is soup hot?")
    assert labels.models == ("lab/cheap", "lab/star", "openai/gpt-x")
    assert labels.scores[0].tolist()[:2] == [0.25, 1.0]
    assert math.isnan(labels.scores[0, 2])
    assert labels.scores[1, 2] == 0.25


def test_a_judgement_outside_its_range_is_named(tmp_path: Path) -> None:
    path = fill(tmp_path / "t.db", [(answered("a b c", "star"), 7.0)])
    with closing(Store.open(path)) as store, pytest.raises(ValueError, match="quality is 7"):
        judged_labels(Reader(store), "quality", 0, MODELS)


def test_learn_from_the_store_promotes_and_rolls_back(tmp_path: Path) -> None:
    home = tmp_path / "router"
    old, _ = labelled(100, seed=6)
    wrong = Labels(old.prompts, old.models, old.scores[:, ::-1].copy(), old.costs)  # every model taken for another
    before = write(fit(wrong, static_embedder()), home).manifest
    new, _ = labelled(900, seed=9)
    judged = [
        (answered(prompt, model.removeprefix("lab/")), float(new.scores[i, j]))
        for i, prompt in enumerate(new.prompts)
        for j, model in enumerate(new.models)
    ]
    store = fill(tmp_path / "t.db", judged)
    dry = run("learn", home, "--store", store, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "900 judged prompts" in dry.output
    assert read(home).manifest.version == before.version
    done = run("learn", home, "--store", store)
    assert "promoted version" in done.output
    after = read(home).manifest
    assert after.rows > before.rows
    assert after.parent == before.version
    assert run("rollback", home).exit_code == 0
    assert read(home).manifest.version == before.version


def test_labels_and_a_store_together_are_refused(tmp_path: Path) -> None:
    home = tmp_path / "router"
    write(fit(labelled(60, seed=6)[0], static_embedder()), home)
    assert "not both" in run("learn", home, tmp_path / "x.csv", "--store", tmp_path / "t.db").output
