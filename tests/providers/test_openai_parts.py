"""Content parts on their way to the servers of the OpenAI family, and what of an answer goes back to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_openai_request import USER, body, build

PDF = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}}
LINK = {"type": "file", "file": {"file_data": "https://h/a.pdf"}}
PICTURE = {"type": "image_url", "image_url": {"url": "https://h/a.png"}}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": f"call0000{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in (1, 2)],
}


def sent(model: str, *parts: Any) -> Any:
    return body(model, [{"role": "user", "content": list(parts)}])["messages"][0]["content"]


def test_documents_take_the_form_that_the_provider_reads() -> None:
    assert sent("openai/gpt-4o", PDF) == [PDF]
    assert sent("mistral/m", PDF, LINK) == [
        {"type": "document_url", "document_url": "data:application/pdf;base64,AA==", "document_name": "a.pdf"},
        {"type": "document_url", "document_url": "https://h/a.pdf"},
    ]
    assert sent("perplexity/sonar", PDF, LINK) == [
        {"type": "file_url", "file_url": {"url": "AA=="}, "file_name": "a.pdf"},
        {"type": "file_url", "file_url": {"url": "https://h/a.pdf"}},
    ]
    uploaded = {"type": "file", "file": {"file_id": "file-1"}}
    assert sent("mistral/m", uploaded) == [uploaded]


def test_bare_base64_becomes_the_data_url_that_it_must_be() -> None:
    bare = {"type": "file", "file": {"filename": "a.pdf", "file_data": "AA=="}}
    assert sent("openai/gpt-4o", bare) == [PDF]
    assert sent("mistral/m", bare) == sent("mistral/m", PDF)
    named = sent("openai/gpt-4o", {"type": "file", "file": {"file_data": "AA==", "format": "text/csv"}})[0]["file"]
    assert named == {"filename": "file", "file_data": "data:text/csv;base64,AA=="}


@pytest.mark.parametrize("model", ["openai/gpt-4o", "groq/m", "mistral/m", "perplexity/sonar", "openrouter/m"])
def test_a_picture_named_by_its_url_alone_is_put_into_an_object(model: str) -> None:
    assert sent(model, {"type": "image_url", "image_url": "https://h/a.png"}) == [PICTURE]
    detailed = {"type": "image_url", "image_url": {"url": "https://h/a.png", "detail": "low"}}
    assert sent(model, detailed) == [detailed]


def test_cache_marks_stay_only_where_they_are_understood() -> None:
    mark = {"type": "ephemeral"}
    messages = [
        {"role": "system", "content": "s", "cache_control": mark},
        {"role": "user", "content": [{"type": "text", "text": "t", "cache_control": mark}]},
    ]
    assert "cache_control" not in json.dumps(body("openai/gpt-4o", messages))
    assert body("openrouter/anthropic/claude-sonnet-4.5", messages)["messages"] == messages


def test_pictures_in_tool_results_follow_the_results_as_the_users() -> None:
    first = {"role": "tool", "tool_call_id": "call00001", "content": [{"type": "text", "text": "here"}, PICTURE]}
    second = {"role": "tool", "tool_call_id": "call00002", "content": [PDF]}
    messages = [USER, CALLS, first, second, {"role": "user", "content": "and?"}]
    out = body("openai/gpt-4o", messages)["messages"]
    assert [m["role"] for m in out] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert out[2] == {**first, "content": [{"type": "text", "text": "here"}]}
    assert isinstance(out[3]["content"], str) and out[3]["content"]
    assert out[4] == {"role": "user", "content": [PICTURE, PDF]}
    assert body("openai/gpt-4o", messages[:4])["messages"][-1]["content"] == [PICTURE, PDF]
    assert body("mistral/m", messages[:4])["messages"][-2]["content"] == first["content"], "takes them where they are"
    cohere = body("cohere/command-a-vision-07-2025", [USER, CALLS, first])["messages"]
    assert cohere[-1] == {"role": "user", "content": [PICTURE]}
    text = {**first, "content": [{"type": "text", "text": "here"}]}
    assert body("openai/gpt-4o", [USER, CALLS, text])["messages"][-1] == text


def test_signatures_go_back_to_google_and_to_nobody_else() -> None:
    """Gemini behind its OpenAI-compatible address refuses a turn whose calls have lost their signatures."""
    extra = {"google": {"thought_signature": "Sig"}}
    calls = [{**CALLS["tool_calls"][0], "extra_content": extra}]
    messages = [USER, {**CALLS, "tool_calls": calls, "extra_content": extra}, {"role": "tool", "tool_call_id": "call00001", "content": "x"}]
    base = "https://generativelanguage.googleapis.com/v1beta/openai/"
    request = build("openai/gemini-3-pro-preview", messages, api_base=base)
    assert request.url == "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"
    told = json.loads(request.body)["messages"][1]
    assert told["tool_calls"] == calls
    assert told["extra_content"] == extra
    assert "extra_content" not in json.dumps(body("openai/gpt-4o", messages))
    assert "extra_content" not in json.dumps(body("openai/gpt-4o", messages, api_base="https://googleapis.com.evil/v1"))


@pytest.mark.parametrize("model", ["groq/openai/gpt-oss-120b", "cohere/command-a-03-2025"])
def test_where_tools_and_a_form_of_the_answer_exclude_each_other_the_form_is_asked_for_in_words(model: str) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    for fmt in ({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}, {"type": "json_object"}):
        request = build(model, response_format=fmt, tools=tools)
        told = json.loads(request.body)
        assert "response_format" not in told and told["tools"]
        assert request.dropped == ("response_format",)
        assert told["messages"][0]["role"] == "system" and "JSON" in told["messages"][0]["content"]
        assert ('{"type":"object"' in told["messages"][0]["content"]) == (fmt["type"] == "json_schema")
        assert told["messages"][1:] == [USER]
        alone = json.loads(build(model, response_format=fmt).body)
        assert alone["response_format"]["type"] in ("json_schema", "json_object") and alone["messages"] == [USER]
    assert build(model, response_format={"type": "text"}, tools=tools).dropped == ()
