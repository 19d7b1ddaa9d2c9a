"""A conversation that begins at one provider goes on at any other: calls and results still meet, and every rule of the
other wire holds."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_wires import WIRES
from test_any_answer import TOOLS, plain, target

from opentracy.core.wire import Call

OURS = {
    "reasoning_content", "thinking_blocks", "extra_content", "annotations", "citations", "content_blocks", "images",
    "executed_tools", "tool_plan", "references", "other_parts",
}  # fmt: skip
TARGETS = [w.model for w in WIRES if w.model != "perplexity/sonar"]  # that API has no tools


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [s for v in value.values() for s in strings(v)]
    return [s for v in value for s in strings(v)] if isinstance(value, list) else [value] if isinstance(value, str) else []


def check_openai(body: Any, model: str, results: list[str]) -> None:
    open_calls: list[str] = []
    seen = []
    for message in body["messages"]:
        allowed = {"reasoning_content"} if model.startswith(("deepseek", "vllm")) else {"reasoning_details"}
        assert not (OURS - allowed) & message.keys()
        for call in message.get("tool_calls") or ():
            assert set(call) == {"id", "type", "function"}
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            assert re.fullmatch(r"[A-Za-z0-9]{9}" if model.startswith("mistral") else r".{1,40}", call["id"])
            open_calls.append(call["id"])
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
            seen.append(message["content"])
        elif message["role"] != "assistant":
            assert not open_calls
    assert sorted(seen) == sorted(results)


def check_cohere(body: Any, model: str, results: list[str]) -> None:
    made = [c["id"] for m in body["messages"] for c in m.get("tool_calls") or ()]
    told = [m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"]
    assert sorted(made) == sorted(told)


def turns_alternate(turns: list[Any]) -> None:
    assert turns[0]["role"] == "user"
    assert all(a["role"] != b["role"] for a, b in itertools.pairwise(turns))


def check_anthropic(body: Any, model: str, results: list[str]) -> None:
    turns_alternate(body["messages"])
    for turn, following in itertools.pairwise([*body["messages"], {"content": []}]):
        blocks = turn["content"] if isinstance(turn["content"], list) else [{"type": "text", "text": turn["content"]}]
        assert blocks and all(b["text"].strip() for b in blocks if b["type"] == "text")
        ids = [b["id"] for b in blocks if b["type"] == "tool_use"]
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,128}", i) for i in ids)
        if ids:
            answers = [b["tool_use_id"] for b in following["content"][: len(ids)] if b["type"] == "tool_result"]
            assert sorted(answers) == sorted(ids)


def check_bedrock(body: Any, model: str, results: list[str]) -> None:
    turns_alternate(body["messages"])
    for turn, following in itertools.pairwise([*body["messages"], {"content": []}]):
        assert turn["content"] and all(b["text"].strip() for b in turn["content"] if "text" in b)
        ids = [b["toolUse"]["toolUseId"] for b in turn["content"] if "toolUse" in b]
        assert all(re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", i) for i in ids)
        if ids:
            answers = [b["toolResult"]["toolUseId"] for b in following["content"][: len(ids)] if "toolResult" in b]
            assert sorted(answers) == sorted(ids)


def check_gemini(body: Any, model: str, results: list[str]) -> None:
    turns_alternate(body["contents"])
    for turn, following in itertools.pairwise([*body["contents"], {"parts": []}]):
        calls = [p["functionCall"]["name"] for p in turn["parts"] if "functionCall" in p]
        if calls:
            answered = [p["functionResponse"]["name"] for p in following["parts"] if "functionResponse" in p]
            assert answered == calls, "in the order of the calls"


CHECKS = {"anthropic": check_anthropic, "bedrock": check_bedrock, "gemini": check_gemini, "cohere": check_cohere}


@settings(max_examples=20)
@given(st.data())
@pytest.mark.parametrize("wire", WIRES, ids=[w.model.partition("/")[0] for w in WIRES])
def test_a_conversation_goes_on_anywhere(wire: Any, data: st.DataObject) -> None:
    messages: list[Any] = [{"role": "user", "content": "q"}]
    results: list[str] = []
    for _ in range(data.draw(st.integers(1, 2))):
        said = data.draw(wire.answers)
        message = plain(target(wire.model), wire.plain(data.draw, said))["choices"][0]["message"]
        messages.append(message)
        told = [{"role": "tool", "tool_call_id": c["id"], "content": f"result {c['id'][:9]} {n}"}
                for n, c in enumerate(message.get("tool_calls") or ())]  # fmt: skip
        results += [t["content"] for t in told]
        messages += data.draw(st.permutations(told))
        messages.append({"role": "user", "content": "and?"})
    before = json.dumps(messages)
    for model in TARGETS:
        to = target(model)
        request = to.dialect.build_request(Call(messages, {"tools": TOOLS}, created=1, fallback_id="f00d"), to)
        body = json.loads(request.body)
        CHECKS.get(model.partition("/")[0], check_openai)(body, model, results)
        assert all(any(r in s for s in strings(body)) for r in results)
    assert json.dumps(messages) == before, "nothing is changed in place"
