"""Answers are dicts with attributes: everything a dict does, everything OpenAI's objects are read by."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy import ModelResponse, StreamChunk
from opentracy.types import Record, stream_chunk

RAW: dict[str, Any] = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{
        "index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        "logprobs": {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "b"}]}]},
    }],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}},
    "_routing": {"scores": {"m": {"quality": 0.5}}}, "_cost": None,
}  # fmt: skip


def fresh() -> ModelResponse:
    return ModelResponse(copy.deepcopy(RAW))


def test_attributes_at_every_level() -> None:
    r = fresh()
    assert r.choices[0].message.tool_calls[0].function.name == "f"
    assert r.usage.prompt_tokens_details.cached_tokens == 1
    assert r.choices[0].logprobs.content[0].top_logprobs[0].token == "b"
    assert r._routing.scores.m.quality == 0.5


def test_items_reach_the_same_objects() -> None:
    r = fresh()
    assert r["choices"][0].message is r.choices[0]["message"]
    assert r.get("usage").total_tokens == 3
    assert r.get("nothing", {"a": 1}) == {"a": 1}
    r.choices[0].message.content = "changed"
    assert r["choices"][0]["message"]["content"] == "changed"


def test_documented_fields_read_as_none_and_others_do_not_exist() -> None:
    r = fresh()
    assert r.system_fingerprint is None
    assert r.service_tier is None
    assert r._cost is None
    assert r.choices[0].message.refusal is None
    assert r.choices[0].message.reasoning_content is None
    assert r.usage.completion_tokens_details is None
    assert r.usage.prompt_tokens_details.audio_tokens is None
    for missing in (lambda: r.contents, lambda: r.choices[0].message.text, lambda: r.usage.tokens, lambda: r._routing.nope):
        with pytest.raises(AttributeError, match="has no field"):
            missing()
    assert not hasattr(r, "__deepcopy__")
    with pytest.raises(KeyError):
        r["service_tier"]


def test_a_dict_in_every_other_way() -> None:
    r = fresh()
    _ = r.choices[0].message, r.usage
    assert r == RAW
    assert json.loads(json.dumps(r)) == RAW
    assert msgspec.json.decode(msgspec.json.encode(r)) == RAW
    for clone in (copy.copy(r), copy.deepcopy(r), pickle.loads(pickle.dumps(r)), r.copy()):
        assert clone == RAW
        assert type(clone) is ModelResponse
        assert clone.choices[0].message.tool_calls[0].id == "c"
    deep = copy.deepcopy(r)
    deep.choices[0].message.content = "x"
    assert r.choices[0].message.content is None
    assert repr(r).startswith("ModelResponse({'id': '1'")
    assert repr(r._routing) == "{'scores': {'m': {'quality': 0.5}}}"
    assert {"choices", "usage", "model_dump"} <= set(dir(r))
    del r.usage
    assert r.usage is None
    with pytest.raises(AttributeError):
        del r.usage


def test_dumps_are_plain() -> None:
    r = fresh()
    dumped = r.model_dump()
    assert dumped == RAW
    assert type(dumped["choices"][0]["message"]) is dict
    dumped["choices"].clear()
    assert r.choices
    assert json.loads(r.model_dump_json()) == RAW
    assert "\n" in r.model_dump_json(indent=2)
    assert "content" not in r.model_dump(exclude_none=True)["choices"][0]["message"]


def test_a_chunk_leaves_its_source_alone() -> None:
    raw = {"id": "1", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    before = copy.deepcopy(raw)
    chunk = stream_chunk(raw)
    assert chunk.choices[0].delta.content == "a"
    chunk.choices[0].delta.content = "b"
    assert raw == before
    assert type(chunk) is StreamChunk
    assert StreamChunk(raw).choices[0].delta.tool_calls is None


values = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3))


@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_any_json_survives_being_looked_at(raw: dict[str, Any]) -> None:
    record = Record(copy.deepcopy(raw))
    for key in raw:
        record[key]
    assert record == raw
    assert record.model_dump() == raw
    assert pickle.loads(pickle.dumps(record)) == raw
