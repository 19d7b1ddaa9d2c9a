"""The commands, on files, as a user runs them; and the report they print."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from routing_kit import MODELS, labelled

from opentracy.cli.routing import route, routing
from opentracy.routing import Labels, evaluate, metrics, plot
from opentracy.routing.artifact import Artifact, write
from opentracy.routing.embed import static_embedder
from opentracy.routing.router import Router
from opentracy.routing.tables import TableError, read_columns, read_labels, read_prompts, write_table


def run(*arguments: object, group: object = routing) -> Result:
    return CliRunner().invoke(group, [str(a) for a in arguments])  # type: ignore[arg-type]


def save(path: Path, labels: Labels, split: str | None = None) -> Path:
    columns: dict[str, object] = {"prompt": list(labels.prompts)}
    for i, m in enumerate(labels.models):
        columns["s:" + m] = labels.scores[:, i]
        if labels.costs is not None:
            columns["c:" + m] = labels.costs[:, i]
    if split is not None:
        columns["split"] = [split if j % 4 == 0 else "train" for j in range(len(labels))]
    write_table(path, columns)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("routing")
    save(path / "data.parquet", labelled(400, seed=6)[0], split="dev")
    assert run("train", path / "data.parquet", "--out", path / "r").exit_code == 0
    return path


def test_train_predict_and_score(folder: Path) -> None:
    prompts = labelled(50, seed=8)[0].prompts
    write_table(folder / "p.parquet", {"prompt": list(prompts)})
    result = run("predict", folder / "r", folder / "p.parquet", "--out", folder / "o.parquet")
    assert result.exit_code == 0, result.output
    out = read_columns(folder / "o.parquet")
    assert list(out["row"]) == list(range(50))
    expected = {f"{kind}:{m}" for kind in ("q", "cost") for m in MODELS} | {"cluster_id", "novelty", "row"}
    assert expected | {f"pick@lambda={w}" for w in ("0", "0.05", "0.1", "0.2", "0.4", "0.8")} == set(out)
    assert all(0 <= v <= 1 for m in MODELS for v in out["q:" + m])


def test_training_again_keeps_the_bytes(folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in (folder / "r").glob("router.*")}
    run("train", folder / "data.parquet", "--out", folder / "again")
    assert before == {p.name: p.read_bytes() for p in (folder / "again").glob("router.*")}


def test_add_model_diff_and_rollback(folder: Path) -> None:
    run("train", folder / "data.parquet", "--out", folder / "grow")
    new = labelled(80, seed=9)[0].select(("lab/star",))
    save(folder / "new.parquet", Labels(new.prompts, ("lab/newest",), new.scores, new.costs))
    assert "lab/newest: 80 labels" in run("add-model", folder / "grow", folder / "new.parquet").output
    told = run("diff", folder / "r", folder / "grow", folder / "data.parquet").output
    assert "model lab/newest: added, 80 labels" in told
    assert "decisions the same" in told
    assert run("rollback", folder / "grow").exit_code == 0
    assert "lab/newest" not in run("info", folder / "grow").output


def test_learn_promotes_or_says_why_not(folder: Path) -> None:
    run("train", folder / "data.parquet", "--out", folder / "learner")
    save(folder / "judged.parquet", labelled(900, seed=12)[0])
    dry = run("learn", folder / "learner", folder / "judged.parquet", "--dry-run")
    assert "kept version" in dry.output
    wet = run("learn", folder / "learner", folder / "judged.parquet")
    assert "promoted version" in wet.output, wet.output
    save(folder / "few.parquet", labelled(20, seed=12)[0])
    assert "are needed" in run("learn", folder / "learner", folder / "few.parquet").output


def test_evaluate_prints_the_baselines_and_saves_a_plot(folder: Path) -> None:
    result = run("evaluate", folder / "r", folder / "data.parquet", "--draws", 20, "--plot", folder / "plot.svg")
    assert result.exit_code == 0, result.output
    for name in ("best single", "zero-router", "kmeans100", "router", "oracle", "95 %"):
        assert name in result.output
    drawn = (folder / "plot.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert all(m in drawn for m in MODELS)


def test_explain(folder: Path) -> None:
    text = "Explain why a function needs a string and what the loop does for the array."
    plain = run("explain", text, "--router", folder / "r", group=route)
    assert plain.exit_code == 0, plain.output
    assert "cluster" in plain.output
    told = json.loads(run("explain", text, "--router", folder / "r", "--json", group=route).output)
    assert told["model"] in MODELS
    default = run("explain", "What is 2 + 2?", "--model", "openai/gpt-4o-mini", "--model", "x/unknown", group=route)
    assert "x/unknown" in default.output
    assert default.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("train", "{f}/none.parquet", "--out", "{f}/x"), "no such file"),
        (("train", "{f}/bad.csv", "--out", "{f}/x"), "no score column"),
        (("predict", "{f}/nowhere", "{f}/p2.csv", "--out", "{f}/o.parquet"), "opentracy routing train"),
        (("predict", "default", "{f}/p2.csv", "--out", "{f}/o.parquet"), "--abilities"),
        (("predict", "{f}/r", "{f}/bad2.csv", "--out", "{f}/o.parquet"), "no column 'prompt'"),
        (("rollback", "{f}/r"), "no earlier version"),
        (("evaluate", "default", "{f}/data.parquet"), "has none"),
        (("evaluate", "{f}/r", "{f}/dev.csv"), "no row of the split 'train' (--train-split); found dev"),
    ],
)
def test_mistakes_are_told_in_one_line(folder: Path, arguments: tuple[str, ...], word: str) -> None:
    (folder / "bad.csv").write_text("prompt,score\nhello,1\n")
    (folder / "bad2.csv").write_text("question\nhello\n")
    (folder / "p2.csv").write_text("prompt\nhello\n")
    (folder / "dev.csv").write_text("prompt,split,s:a\nhello,dev,1\n")
    result = run(*(a.format(f=folder) for a in arguments))
    assert result.exit_code == 2, result.output
    assert word in result.output
    assert result.output.count("\n") == 1


def test_day_one_by_command(folder: Path) -> None:
    (folder / "abilities.json").write_text(
        '{"a": {"ability": 0.8, "cost": 0.01}, "b": {"ability": 0.5, "cost": 0.001}}'
    )
    (folder / "p3.csv").write_text("prompt\nWhat is 2 + 2?\n")
    result = run(
        "predict",
        "default",
        folder / "p3.csv",
        "--out",
        folder / "o3.parquet",
        "--abilities",
        folder / "abilities.json",
    )
    assert result.exit_code == 0, result.output
    assert {"q:a", "q:b", "cost:a", "pick@lambda=0", "cluster_id", "novelty"} <= set(
        read_columns(folder / "o3.parquet")
    )


def test_tables_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,s:m\nhello,good\nbye,bad\n")
    with pytest.raises(TableError, match=r"s:m.*numbers"):
        read_labels(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("prompt,s:m\nhello,0.5\nbye,3\n")
    with pytest.raises(TableError, match="between 0 and 1"):
        read_labels(tmp_path / "b.csv")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(TableError, match="cannot be read"):
        read_prompts(tmp_path / "c.parquet")


def test_empty_cells_are_missing_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,s:m,s:n\nhello,0.5,\nbye,,1\n")
    labels = read_labels(tmp_path / "a.csv").labels
    assert np.isnan(labels.scores).tolist() == [[False, True], [True, False]]


# ------------------------------------------------------------------ figures
def test_figures_of_a_perfect_and_of_a_blind_router() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0]] * 50)
    truth = metrics.Truth(scores, np.tile([1.0, 3.0], (100, 1)), np.array([1.0, 3.0]), 1)
    perfect = metrics.summary(truth, metrics.curve(truth, scores))
    blind = metrics.summary(truth, metrics.curve(truth, np.full((100, 2), 0.5)))
    assert perfect["peak"] == perfect["lam0"] == pytest.approx(100)
    assert perfect["auc"] > blind["auc"]
    assert blind["peak"] == pytest.approx(50)
    assert metrics.zero_router(truth)["auc"] == pytest.approx(50)
    assert metrics.brier(scores, scores) < 1e-5


def test_gap_recovered_of_a_good_a_random_and_an_inverted_order() -> None:
    rng = np.random.default_rng(0)
    scores = np.stack([(rng.random(4000) < 0.5), (rng.random(4000) < 0.9)], 1).astype(float)
    gain = scores[:, 1] - scores[:, 0]
    good = metrics.gap_recovered(np.stack([np.zeros(4000), gain], 1), scores, 0, 1)["apgr"]
    random = metrics.gap_recovered(np.stack([np.zeros(4000), rng.random(4000)], 1), scores, 0, 1)["apgr"]
    bad = metrics.gap_recovered(np.stack([gain, np.zeros(4000)], 1), scores, 0, 1)["apgr"]
    assert good > 0.7
    assert random == pytest.approx(0.5, abs=0.05)
    assert bad < 0.3


def test_the_hull_is_concave_and_rises() -> None:
    x, y = metrics.upper_hull(np.array([1.0, 2, 3, 4, 5]), np.array([0.1, 0.5, 0.4, 0.6, 0.55]))
    assert x.tolist() == [1, 2, 4]
    assert y.tolist() == [0.1, 0.5, 0.6]


def test_a_report_is_better_than_its_baselines_on_synthetic_prompts(
    artifact: Artifact, router: Router, tmp_path: Path
) -> None:
    write(artifact, tmp_path)
    report = evaluate.evaluate(router, labelled(300, seed=50)[0], labelled(600)[0], static_embedder(), draws=30)
    assert report.figures["router"]["auc"] > report.figures["zero-router"]["auc"] + 2
    assert report.figures["oracle"]["peak"] >= report.figures["router"]["peak"]
    low, high = report.intervals["router - zero-router"]["auc"]
    assert 0 < low < high
    assert "zero-router" in evaluate.text_table(report)
    assert plot.svg(report).count("<circle") == len(MODELS)


def test_explain_counts_what_a_request_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ("explain", "Write a python function that reverses a list", "--json")
    named = ("--model", "openai/gpt-4o-mini", "--model", "openai/gpt-4o")
    told = json.loads(run(*ask, *named, "--cost-weight", "1", group=route).output)
    cheap, dear = (told["scores"][m]["cost"] for m in named[1::2])
    assert 0 < cheap < dear
    assert json.loads(run(*ask, *named, "--cost-weight", "0", group=route).output)["model"] == "openai/gpt-4o"
    assert told["model"] == "openai/gpt-4o-mini"


def test_explain_asks_among_the_models_that_could_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.endswith("_API_KEY") or n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    every = json.loads(run("explain", "What is 2 + 2?", "--json", group=route).output)["scores"]
    assert {m.partition("/")[0] for m in every} > {"openai", "anthropic"}
    monkeypatch.setenv("DEEPSEEK_API_KEY", "k-1")
    ours = json.loads(run("explain", "What is 2 + 2?", "--json", group=route).output)["scores"]
    assert {m.partition("/")[0] for m in ours} == {"deepseek"}
