"""The engine's side of the dashboard, piece by piece: dates, projections, texts of aliases, datasets, scores, cookies."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import dashboard_seed as seed
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.pricing import cost_of
from opentracy.engine.auth import COOKIE, SESSION_S, Identity, Keys, authenticate
from opentracy.engine.dashboard_aliases import put, table
from opentracy.engine.dashboard_keys import DAY_MS, runs_out
from opentracy.engine.dashboard_routing import WEIGHTS, project, saved
from opentracy.engine.dashboard_trace import cost_parts
from opentracy.engine.datasets import Datasets, Example, example_of, fine_tuning_lines
from opentracy.engine.errors import Refused
from opentracy.engine.evaluations import Evaluation, Runs, contains, evaluate, exact, number, overlap
from opentracy.traces import Filters, Reader, Store, TraceRecord, TraceWriter, new_trace_id

MIDNIGHT = 20_000 * DAY_MS


# ---------------------------------------------------------------- run-out dates
def test_a_budget_runs_out_when_the_pace_has_eaten_what_is_left() -> None:
    pace = 1000 / 3_600_000  # a thousand nano-USD an hour
    assert runs_out(MIDNIGHT, pace, (5000, 0), (None, 0)) == MIDNIGHT + 5 * 3_600_000
    assert runs_out(MIDNIGHT, pace, (5000, 4000), (None, 0)) == MIDNIGHT + 3_600_000


def test_a_budget_that_lasts_until_its_period_ends_does_not_run_out() -> None:
    pace = 1000 / 3_600_000
    assert runs_out(MIDNIGHT, pace, (25_000, 0), (None, 0)) is None
    assert runs_out(MIDNIGHT, pace, (None, 0), (25_000, 0)) == MIDNIGHT + 25 * 3_600_000
    assert runs_out(MIDNIGHT, 0.0, (1, 0), (1, 0)) is None


# ---------------------------------------------------------------- projection
def routed(scores: dict[str, tuple[float, float]], model: str = "a", cost: int = 1000, **more: Any) -> TraceRecord:
    candidates = {name: {"quality": q, "cost": c, "utility": q} for name, (q, c) in scores.items()}
    return TraceRecord(new_trace_id(), 1_700_000_000_000, model=model, requested_model="auto", cluster_id=1, route_candidates=candidates, cost_nano=cost, **more)


def test_weight_zero_is_always_the_best_and_dearer_weights_cost_less() -> None:
    records = [routed({"good": (0.9, 0.010), "fair": (0.85, 0.001), "poor": (0.3, 0.0001)}) for _ in range(4)]
    found = project(records, total=8)
    first, last = found["points"][0], found["points"][-1]
    assert [p["weight"] for p in found["points"]] == list(WEIGHTS)
    assert (first["cost"], first["quality"]) == (found["best"]["cost"], found["best"]["quality"])
    assert first["cost"] == pytest.approx(8 * 0.010)
    assert last["shares"] == {"fair": 1.0}
    assert found["cheapest"]["cost"] == pytest.approx(8 * 0.0001)


@given(st.lists(st.lists(st.tuples(st.floats(0, 1), st.floats(1e-6, 1)), min_size=2, max_size=4), min_size=1, max_size=8))
def test_cost_and_quality_never_rise_with_the_weight(rows: list[list[tuple[float, float]]]) -> None:
    found = project([routed({f"m{i}": pair for i, pair in enumerate(row)}) for row in rows], total=len(rows))
    for before, after in zip(found["points"], found["points"][1:], strict=False):
        assert after["cost"] <= before["cost"] + 1e-9
        assert after["quality"] <= before["quality"] + 1e-9
    assert all(abs(sum(p["shares"].values()) - 1) < 1e-9 for p in found["points"])


def test_a_prompt_that_no_weight_moves_stays_with_its_model_and_excluded_ones_are_never_picked() -> None:
    novel = routed({"x/a": (0.5, 0.01), "x/b": (0.9, 0.02)}, model="a", provider="x", fallback_reason="novel")
    assert {tuple(p["shares"]) for p in project([novel], 1)["points"]} == {("x/a",)}
    barred = routed({"a": (0.5, 0.01), "b": (0.9, 0.02)})
    assert barred.route_candidates is not None
    barred.route_candidates["b"]["excluded"] = "tools: not supported"
    assert {tuple(p["shares"]) for p in project([barred], 1)["points"]} == {("a",)}


def test_what_was_decided_is_told_by_the_same_estimates() -> None:
    scores = {"good": (0.9, 0.010), "fair": (0.8, 0.002)}
    found = project([routed(scores, "good"), routed(scores, "fair"), routed(scores, "from elsewhere")], total=30)
    assert found["actual"]["cost"] == pytest.approx(30 * 0.006)
    assert found["actual"]["quality"] == pytest.approx(0.85)
    assert project([routed(scores, "from elsewhere")], 1)["actual"] is None


def test_nothing_to_project_from_is_said_so() -> None:
    assert project([], 0)["points"] == []
    assert project([TraceRecord(new_trace_id(), 1, requested_model="auto")], 1)["points"] == []


def test_savings_are_the_stored_figures_per_bucket(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    with TraceWriter(store) as writer:
        for _ in range(3):
            writer.put(routed({"a": (0.8, 0.002), "b": (0.9, 0.008)}, counterfactual_nano=4000))
        writer.flush(None)
    found = saved(Reader(store), Filters(since=1_699_999_200_000, until=1_700_006_400_000), 3_600_000)
    assert found["traces"] == 3 and not found["sampled"]
    assert sum(found["actual"]) == pytest.approx(3000e-9)
    assert sum(found["best"]) == pytest.approx(12_000e-9)
    assert sum(found["cheapest"]) == pytest.approx(3000e-9)
    store.close()


# ---------------------------------------------------------------- costs
def test_the_parts_of_a_cost_add_up_to_what_was_recorded() -> None:
    usage = {"prompt_tokens": 1200, "completion_tokens": 340, "total_tokens": 1540, "prompt_tokens_details": {"cached_tokens": 800}}
    cost = cost_of("openai", "gpt-4o", usage)
    assert cost is not None
    record = TraceRecord(new_trace_id(), 1_790_000_000_000, model="gpt-4o", provider="openai", tokens_in=1200, tokens_out=340, tokens_cached=800, cost_nano=cost.total)
    parts = cost_parts(record)
    assert parts is not None
    assert sum(p["nano"] for p in parts["parts"]) == parts["total_nano"] == cost.total
    assert [(p["name"], p["tokens"]) for p in parts["parts"]] == [("Input", 400), ("Read from cache", 800), ("Output", 340)]
    for part in parts["parts"]:
        assert part["nano"] == pytest.approx(part["tokens"] * part["usd_per_million"] * 1000, abs=1)


def test_the_seeded_records_cost_what_the_dashboard_says_they_do_at_every_hour() -> None:
    """DeepSeek is cheaper at some hours: a record without the hour would differ from its parts, but only then."""
    known = [(record, parts) for record in seed.records(2000) if record.cost_nano is not None and (parts := cost_parts(record))]
    assert {record.ts_ms // 3_600_000 % 24 for record, _ in known if record.provider == "deepseek"} == set(range(24))
    assert [(r.trace_id, r.model) for r, parts in known if parts["total_nano"] != r.cost_nano] == []


def test_a_cost_that_is_not_known_is_not_taken_apart() -> None:
    assert cost_parts(TraceRecord(new_trace_id(), 1, model="no-such", provider="openai", tokens_in=1, tokens_out=1)) is None
    assert cost_parts(TraceRecord(new_trace_id(), 1, model="gpt-4o", provider="openai")) is None


# ---------------------------------------------------------------- aliases
def alias(name: str, model: str = "x/y", fallbacks: list[str] | None = None, retries: int | None = None) -> dict[str, Any]:
    return {"name": name, "model": model, "fallbacks": fallbacks or [], "num_retries": retries}


def test_an_alias_is_replaced_where_it_stands_and_nothing_else_moves() -> None:
    text = '# top\n[aliases.a]\nmodel = "old/one"\ntimeout = 5\n\n# about b\n[aliases.b]\nmodel = "z/z"\n'
    assert put(text, alias("a", "new/one", ["f/g"], 2)) == (
        '# top\n[aliases.a]\nmodel = "new/one"\nfallbacks = ["f/g"]\nnum_retries = 2\ntimeout = 5\n\n# about b\n[aliases.b]\nmodel = "z/z"\n'
    )


def test_a_new_alias_comes_at_the_end_also_of_an_empty_file() -> None:
    assert tomllib.loads(put("", alias("a")))["aliases"] == {"a": {"model": "x/y"}}
    assert put("[server]\nport = 1", alias("a")).startswith("[server]\nport = 1\n\n[aliases.a]\n")


@given(st.text(min_size=1, max_size=40).filter(lambda t: not any(0xD800 <= ord(c) < 0xE000 for c in t)), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True))
def test_whatever_the_names_are_the_text_says_them(model: str, name: str) -> None:
    found = tomllib.loads(table(alias(name, model, [model])))
    assert found["aliases"][name] == {"model": model, "fallbacks": [model]}
    twice = put(put('[auto]\ncost_weight = 0.5\n', alias(name, "a/b")), alias(name, model))
    assert tomllib.loads(twice) == {"auto": {"cost_weight": 0.5}, "aliases": {name: {"model": model}}}


# ---------------------------------------------------------------- datasets
def test_versions_are_numbered_and_never_change(tmp_path: Path) -> None:
    sets = Datasets(tmp_path)
    one = sets.add("d", [Example([{"role": "user", "content": "1"}], "one")], "here")
    sets.add("d", [Example([{"role": "user", "content": "2"}])], "there")
    assert [v.version for v in sets.versions("d")] == [1, 2]
    assert [r.answer for r in sets.rows("d", one.version)] == ["one"]
    assert sets.names() == ["d"]
    with pytest.raises(KeyError):
        list(sets.rows("d", 3))


@pytest.mark.parametrize("name", ["", "..", ".x", "a/b", "a\\b", "x" * 65, "a b", "\x00"])
def test_a_dataset_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="Not a dataset name"):
        Datasets(tmp_path).add(name, [Example([{}])], "")
    assert list(tmp_path.iterdir()) == []


def test_a_version_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 to"):
        Datasets(tmp_path).add("d", [], "")
    assert Datasets(tmp_path).names() == []


def test_only_whole_successful_chats_become_rows() -> None:
    good = TraceRecord(new_trace_id(), 1, finish_reason="stop", body_state="full", model="m", provider="p",
                       request=b'{"messages":[{"role":"user","content":"q"}],"tools":[{"type":"function"}]}',
                       response=b'{"choices":[{"message":{"role":"assistant","content":"a"}}]}')  # fmt: skip
    row = example_of(good)
    assert row is not None and (row.answer, row.model, row.tools) == ("a", "p/m", [{"type": "function"}])
    assert list(fine_tuning_lines([row, Example([{}])])) == [
        b'{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"tools":[{"type":"function"}]}\n'
    ]
    good.outcome = "timeout"
    assert example_of(good) is None


# ---------------------------------------------------------------- evaluations
def test_scores() -> None:
    assert overlap("The cat sat", "the cat SAT!") == 1.0
    assert overlap("a b", "c d") == 0.0
    assert overlap("a b c d", "a b") == pytest.approx(2 / 3)
    assert exact("Yes.", "yes") == 1.0 and exact("yes sir", "yes") == 0.0
    assert contains("I say: forty two!", "forty two") == 1.0 and contains("fortytwo", "forty") == 0.0
    assert number("so 17 * 23 = 1,391.0", "1391") == 1.0 and number("none", "3") == 0.0


async def _run(tmp_path: Path, ask: Any, rows: int = 6) -> Evaluation:
    runs = Runs(tmp_path)
    run = Evaluation(new_trace_id(), "d", 1, "exact", ["good", "bad"], rows * 2, 1)
    await evaluate(run, [Example([{"role": "user", "content": str(i)}], str(i)) for i in range(rows)], ask, runs)
    return runs.all("d")[0]


def test_an_evaluation_asks_every_model_every_row_and_keeps_the_figures(tmp_path: Path) -> None:
    async def ask(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        text = body["messages"][0]["content"] if body["model"] == "good" else "wrong"
        if body["model"] == "bad" and text == "wrong" and body["messages"][0]["content"] == "0":
            return 503, {"error": {"message": "down"}}
        return 200, {"choices": [{"message": {"content": text}}], "_cost": 0.5 if body["model"] == "good" else None, "_latency_ms": 10}

    kept = asyncio.run(_run(tmp_path, ask))
    good, bad = kept.results
    assert (kept.state, kept.done) == ("done", 12)
    assert (good.scored, good.score, good.cost, good.unpriced, good.latency_ms) == (6, 1.0, 3.0, 0, 10.0)
    assert (bad.scored, bad.score, bad.errors, bad.cost, bad.unpriced) == (5, 0.0, 1, 0.0, 5)
    assert {f.reason for f in kept.failures} == {"down", "scored 0"}


def test_an_evaluation_stops_when_told_to_from_anywhere(tmp_path: Path) -> None:
    async def ask(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        runs = Runs(tmp_path)
        for run in runs.all():
            runs.stop(run.id)
        await asyncio.sleep(0.02)
        return 200, {"choices": [{"message": {"content": ""}}]}

    kept = asyncio.run(_run(tmp_path, ask, rows=400))
    assert kept.state == "stopped"
    assert 0 < kept.done < 800


def test_a_run_whose_engine_died_is_not_shown_as_running_for_ever(tmp_path: Path) -> None:
    import os

    runs = Runs(tmp_path)
    run = Evaluation(new_trace_id(), "d", 1, "exact", ["m"], 2, 1)
    runs.save(run)
    assert runs.all()[0].state == "running"
    os.utime(runs.path(run.id), (1, 1))
    assert runs.all()[0].state == "failed"


# ---------------------------------------------------------------- cookies
ADMIN = Identity("admin-1", frozenset({"admin"}))


def signed_in(keys: Keys, value: str, **headers: str) -> Identity:
    given = {b"cookie": f"other=1; {COOKIE}={value}".encode()} | {k.replace("_", "-").encode(): v.encode() for k, v in headers.items()}
    return authenticate(keys, given)


def test_a_cookie_is_known_to_every_worker_and_dies_with_the_key() -> None:
    import time

    value = Keys([("secret", ADMIN)]).cookie_for(ADMIN, time.time())
    assert value is not None and "secret" not in value
    assert signed_in(Keys([("secret", ADMIN)]), value) == ADMIN
    with pytest.raises(Refused):
        signed_in(Keys([("another", ADMIN)]), value)


def test_a_cookie_ends_and_does_not_travel_from_other_sites() -> None:
    import time

    keys = Keys([("secret", ADMIN)])
    old = keys.cookie_for(ADMIN, time.time() - SESSION_S - 1)
    fresh = keys.cookie_for(ADMIN, time.time())
    assert old is not None and fresh is not None
    with pytest.raises(Refused):
        signed_in(keys, old)
    with pytest.raises(Refused):
        signed_in(keys, fresh, sec_fetch_site="cross-site")
    assert signed_in(keys, fresh, sec_fetch_site="same-origin") == ADMIN


@given(st.text(max_size=80))
def test_no_invented_cookie_opens_anything(value: str) -> None:
    keys = Keys([("secret", ADMIN)])
    try:
        header = f"{COOKIE}={value}".encode("latin-1")
    except UnicodeEncodeError:
        return
    with pytest.raises(Refused):
        authenticate(keys, {b"cookie": header})
