"""The general relay: what it writes, what it holds back, what it remembers; and the end of a stream."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.relay import EncodingRelay, MessageFold, tail
from opentracy.core.wire import Chunk, Failure


def chunk(delta: dict[str, Any], finish: str | None = None, **extra: Any) -> Chunk:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **extra}


def events(data: bytes) -> list[Any]:
    return [e[6:] if e == "data: [DONE]" else json.loads(e[6:]) for e in data.decode().split("\n\n") if e]


class Lines:
    """A decoder of one chunk a line; an empty line ends the stream."""

    def __init__(self) -> None:
        self.done, self.failure, self.progress, self._rest = False, None, 0, b""

    def feed(self, data: bytes) -> list[Chunk]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        out = []
        for line in lines:
            if not line:
                self.done = True
                return [*out, chunk({}, "stop", usage={"total_tokens": 3})]
            out.append(chunk({"content": line.decode()}))
            self.progress += 1
        return out

    def close(self) -> list[Chunk]:
        if not self.done:
            self.failure = Failure("stream_truncated", "cut")  # type: ignore[assignment]
        return []


@given(st.lists(st.integers(0, 9), max_size=6))
def test_last_chunk_is_held_whatever_the_split(cuts: list[int]) -> None:
    data = b"ab\ncd\ne\n\n"
    edges = [0, *sorted(cuts), len(data)]
    relay = EncodingRelay(Lines(), [])  # type: ignore[arg-type]
    out = b"".join(relay.feed(data[a:b]) for a, b in pairwise(edges))
    assert [e["choices"][0]["delta"]["content"] for e in events(out)] == ["ab", "cd", "e"]
    assert relay.last is not None and relay.last["usage"] == {"total_tokens": 3}
    assert relay.message()["content"] == "abcde"


def test_cut_stream_has_no_last_chunk() -> None:
    relay = EncodingRelay(Lines(), [])  # type: ignore[arg-type]
    relay.feed(b"ab\n")
    assert relay.close() == b""
    assert relay.failure is not None and relay.last is None
    assert relay.message()["content"] == "ab"


@pytest.mark.parametrize("usage", [True, False])
def test_tail(usage: bool) -> None:
    out = events(tail(chunk({}, "stop", usage={"total_tokens": 3}), include_usage=usage, extras=b'"_cost":1.0'))
    assert out[-1] == "[DONE]"
    assert out[0]["choices"][0]["finish_reason"] == "stop"
    assert out[-2]["_cost"] == 1.0
    if usage:
        assert (out[1]["choices"], out[1]["usage"], out[0]["usage"]) == ([], {"total_tokens": 3}, None)
    else:
        assert "usage" not in out[0]


def test_fold_of_everything() -> None:
    fold = MessageFold()
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
    for delta in (
        {"role": "assistant", "content": None}, {"reasoning_content": "hm"}, {"content": "a"}, {"tool_calls": [call]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}, {"annotations": [1]}, {"annotations": [2]},
    ):  # fmt: skip
        fold.add(chunk(delta))
    fold.add(chunk({"content": "b"}, "tool_calls"))
    message = fold.message()
    assert (message["content"], message["reasoning_content"], message["annotations"]) == ("ab", "hm", [1, 2])
    assert message["tool_calls"] == [
        {"function": {"name": "f", "arguments": '{"x": 1}'}, "id": "t1", "type": "function"}
    ]
    assert fold.choices()[0]["finish_reason"] == "tool_calls"
