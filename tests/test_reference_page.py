"""Every example of the reference page runs as printed, against the stand-in providers and a real engine."""

from __future__ import annotations

import ast
import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import opentracy as ot
from opentracy.engine.standin import StandIn

if TYPE_CHECKING:
    from running import RunningEngine  # several folders have a conftest: at run time the name means any of them

PAGE = Path(__file__).parents[2] / "shared" / "spec" / "completion.txt"
pytestmark = [pytest.mark.shared, pytest.mark.skipif(not PAGE.exists(), reason="the reference page lies in ../shared")]


@pytest.fixture(autouse=True)
def environment(stand_in_environment: StandIn) -> None:
    """Every example finds its keys and bases where a user would have set them."""


def section(start: str, end: str) -> str:
    """The page's lines between two lines, as printed."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(start)}\n(.*?)^{re.escape(end)}", text, re.S | re.M)
    assert found, start
    return found[1]


class Fill(ast.NodeTransformer):
    """The page's `messages=[...]` and bare `...` stand for what the reader puts there: one user message."""

    def visit_keyword(self, node: ast.keyword) -> Any:
        if node.arg == "messages" and isinstance(node.value, ast.List) and isinstance(node.value.elts[0], ast.Constant):
            node.value = ast.parse("[{'role': 'user', 'content': 'What is 2 + 3?'}]", mode="eval").body
        return self.generic_visit(node)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"ot": ot}
    tree = ast.fix_missing_locations(Fill().visit(ast.parse(code)))
    exec(compile(tree, "completion.txt", "exec"), names)  # the page's own code is what is under test
    return names


def test_basic_call(stand_in: StandIn) -> None:
    r = run(section("Basic call:", "Cross-provider with fallbacks:"))["resp"]
    assert "hello" in r.choices[0].message.content
    assert stand_in.seen[-1] == ("/v1/chat/completions", "gpt-4o-mini")
    assert r._provider == "openai"


def test_fields_of_a_response() -> None:
    r = run(section("Basic call:", "Cross-provider with fallbacks:"))["resp"]
    for line in section(
        "An OpenAI-compatible chat-completion dict with attribute access. Standard fields plus OpenTracy extras:",
        "Streaming — Iterator[StreamChunk]",
    ).splitlines():
        if line.startswith("resp."):
            eval(line, {"resp": r})  # every attribute that the page lists exists
    assert isinstance(r.id, str)
    assert isinstance(r._cost, float)
    assert r._cost > 0
    assert r._latency_ms > 0
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens


def test_stream(capsys: pytest.CaptureFixture[str]) -> None:
    code = section("Streaming — Iterator[StreamChunk]", "StreamChunk mirrors")
    run(
        code.replace(
            "...", "model='anthropic/claude-sonnet-4-6', messages=[{'role': 'user', 'content': 'What is 6 * 7?'}]", 1
        )
    )
    assert capsys.readouterr().out == "6 * 7 = 42"


def test_fallbacks(stand_in: StandIn) -> None:
    r = run(section("Cross-provider with fallbacks:", "Tool calling (provider-agnostic):"))["resp"]
    assert r.choices[0].message.content == "2 + 3 = 5"
    assert stand_in.seen[-1] == ("/v1/messages", "claude-sonnet-4-6")


def test_fallback_is_taken_when_the_first_is_down(stand_in: StandIn) -> None:
    code = section("Cross-provider with fallbacks:", "Tool calling (provider-agnostic):")
    before = len(stand_in.seen)
    r = run(code.replace("anthropic/claude-sonnet-4-6", "anthropic/claude-unavailable"))["resp"]
    assert r._provider == "openai"
    assert [m for _, m in stand_in.seen[before:]] == ["claude-unavailable", "claude-unavailable", "gpt-4o"]


def test_tools(capsys: pytest.CaptureFixture[str]) -> None:
    r = run(section("Tool calling (provider-agnostic):", "Engine routing (semantic auto):"))["resp"]
    assert r.choices[0].message.tool_calls[0].function.name == "get_weather"
    assert (
        r.choices[0].message.tool_calls[0].function.arguments == '{"city":"Paris"}'
        or "Paris" in r.choices[0].message.tool_calls[0].function.arguments
    )
    assert "get_weather" in capsys.readouterr().out


def test_auto(demo_engine: RunningEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENTRACY_ENGINE_URL", demo_engine.url)
    r = run(section("Engine routing (semantic auto):", "Async"))["resp"]
    assert r._routing["selected_model"]
    assert isinstance(r._routing["cluster_id"], int)
    assert "selected_model" in capsys.readouterr().out


def test_async() -> None:
    code = section("Async", "acompletion takes the same parameters")
    names = run(code.replace("asyncio.run(main())", ""))
    assert asyncio.run(names["main"]())
    run(code)


def test_documented_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    user = [{"role": "user", "content": "hi"}]
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE")):
            monkeypatch.delenv(name)
    with pytest.raises(ValueError, match=r"^Cannot resolve provider for model 'zzz'.*OPENTRACY_ENGINE_URL"):
        ot.completion("zzz", user)
    with pytest.raises(ValueError, match=r"^No API key for openai"):
        ot.completion("openai/gpt-4o", user)
    with pytest.raises(ValueError, match=r"^Unknown provider: nosuch"):
        ot.completion("nosuch/x", user)
