"""The tables of docs/providers.md are what the code does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("provider_table", ROOT / "scripts" / "provider_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script: ModuleType) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.render(page) == page, "run scripts/provider_table.py"


def test_probing_tells_sent_translated_and_dropped_apart(script: ModuleType) -> None:
    rows = {row.name: row for row in script.registry.providers()}
    assert script.parameter(rows["together"], {"seed": 7}) == script.YES
    assert script.parameter(rows["mistral"], {"seed": 7}) == script.TRANSLATED
    assert script.parameter(rows["deepseek"], {"seed": 7}) == script.NO
    assert script.parameter(rows["deepseek"], script.PARAMS["JSON schema"]) == script.TRANSLATED
    assert script.part(rows["together"], script.PARTS["images"]) == script.YES
    assert script.part(rows["anthropic"], script.PARTS["images"]) == script.TRANSLATED
    assert script.embeddings(rows["groq"]) == script.NO
