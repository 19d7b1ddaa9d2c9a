"""Versions of a router of one's own in the browser: what another would do, using it, going back, and what was learned."""

from __future__ import annotations

import importlib.util
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from conftest_names import AXE, Open, Serve

from opentracy.routing import Labels, promote
from opentracy.routing.artifact import read, write
from opentracy.routing.embed import static_embedder
from opentracy.routing.train import fit

pytestmark = pytest.mark.browser
NAMES = ("openai/gpt-4o", "anthropic/claude-sonnet-4-6", "deepseek/deepseek-chat", "openai/gpt-4o-mini")


def _kit() -> Any:
    path = Path(__file__).parents[1] / "routing" / "routing_kit.py"
    spec = importlib.util.spec_from_file_location("routing_kit_of_the_dashboard", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_another_version_is_compared_used_and_left_again(tmp_path: Path, serve: Serve, open_page: Open) -> None:
    kit = _kit()
    names = dict(zip(kit.MODELS, NAMES, strict=True))

    def labels(count: int, seed: int) -> Labels:
        found = kit.labelled(count, seed=seed)[0]
        return Labels(found.prompts, tuple(names[m] for m in found.models), found.scores, found.costs)

    directory = tmp_path / "router"
    first = write(fit(labels(400, 3), static_embedder()), directory).manifest.version
    second = promote.promote(directory, promote.retrain(read(directory), labels(500, 9), static_embedder())).manifest.version
    promote.keep_version(directory)
    config = tmp_path / "opentracy.toml"
    config.write_text(f'[auto]\nmodels = {json.dumps(NAMES)}\ndefault = "openai/gpt-4o"\ncost_weight = 0.2\nrouter = "{directory}"\n')
    served = serve(tmp_path, "--config", str(config))
    rng = random.Random(1)
    for at in range(12):
        topic = list(kit.TOPICS)[at % len(kit.TOPICS)]
        body = {"model": "auto", "messages": [{"role": "user", "content": kit.prompt(topic, rng)}]}
        status, answer = served.call("POST", "/v1/chat/completions", body)
        assert status == 200, answer
    found = served.call("GET", f"/v1/dashboard/routing/compare?version={first}")[1]
    assert (found["current"], found["version"], found["prompts"]) == (second, first, 12)
    assert 0 <= found["moved"] <= 1 and len(found["examples"]) == min(8, round(found["moved"] * 12))
    assert all(abs(sum(found[side]["shares"].values()) - 1) < 1e-9 for side in ("before", "after"))
    same = served.call("GET", f"/v1/dashboard/routing/compare?version={second}")[1]
    assert same["moved"] == 0 and same["before"] == same["after"]
    assert served.call("GET", "/v1/dashboard/routing/compare?version=../..")[0] == 404
    trace_id = answer["_routing"]["trace_id"]
    page = open_page(f"{served.url}/traces/{trace_id}", clock=None)
    page.get_by_role("button", name="Good answer").click()
    page.locator(".part", has_text="Feedback").get_by_text("true").wait_for()
    page.goto(served.url + "/routing")
    learned = page.locator(".card", has_text="Learned since it was trained")
    learned.get_by_text("from 1 judged answer").wait_for()
    assert learned.locator("tbody tr").count() == 1
    versions = page.locator(".card", has_text="Router versions")
    row = versions.locator("tr", has_text=re.compile(f"^{first}"))
    row.get_by_role("button", name="Compare").click()
    page.get_by_role("dialog").get_by_text("would go to another model").wait_for()
    if AXE.exists():
        page.evaluate(AXE.read_text(encoding="utf-8"))
        assert page.evaluate("axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => v.id))") == []
    page.keyboard.press("Escape")
    for version in (first, second):
        row = versions.locator("tr", has_text=re.compile(f"^{version}"))
        row.get_by_role("button", name="Use this one").click()
        page.get_by_role("dialog").get_by_role("button", name=f"Use {version}").click()
        row.get_by_text("in use").wait_for()
        assert served.call("GET", "/v1/router")[1]["version"] == version
