"""Streams that are forwarded without a decoder: whatever comes, and however it is cut, they are what a decoder makes of them."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.jsonio import encode
from opentracy.core.relay import MessageFold, tail
from opentracy.core.wire import Call, Chunk, Failure, HttpHead
from opentracy.providers import registry
from opentracy.providers.openai_clean import CleanStream
from opentracy.providers.openai_relay import OpenAIRelay
from opentracy.providers.openai_stream import OpenAIDecoder

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 2}}
CALL = Call([], {}, True, created=1750000000, fallback_id="ff")
HEADERS = {"x-request-id": "q"}
TARGET = registry.target("openai/m", env={}, api_key="k")
DONE = b"data: [DONE]\n\n"


def event(*choices: Any, **more: Any) -> bytes:
    value = {"id": "s", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": list(choices), **more}
    return b"data: %b\n\n" % json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def choice(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"index": 0, "delta": delta, **more, "finish_reason": finish}


HEAD = event(choice({"role": "assistant", "content": "", "refusal": None}, logprobs=None), usage=None)
FINISH = event(choice({}, "stop", logprobs=None), service_tier="default")
COUNTED = event(usage=USAGE, system_fingerprint="fp")


class Seen:
    """What a client sees of a stream, and its trace."""

    def __init__(self, chunks: list[Chunk], last: Chunk | None, failure: Failure | None, message: dict[str, Any]) -> None:
        fold = MessageFold()
        for chunk in chunks:
            fold.add(chunk)
        # who wrote an event decides which of the fields that say nothing stand in it
        self.told = [_without_nulls(c) for c in fold.choices()]
        self.last = None if last is None else {**_without_nulls(last), "choices": last["choices"]}
        self.failure = None if failure is None else (failure.kind, failure.code, failure.message, failure.request_id)
        self.message = message

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def events(out: bytes) -> list[Chunk]:
    return [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: ")]


def decoded(raw: bytes) -> Seen:
    decoder = OpenAIDecoder(CALL, TARGET, HEADERS)
    chunks = decoder.feed(raw)
    chunks += decoder.close()
    last = None if decoder.failure is not None else chunks.pop()
    fold = MessageFold()
    for chunk in chunks:
        fold.add(chunk)
    return Seen(chunks, last, decoder.failure, fold.message())


def forwarded(raw: bytes, edges: list[int], at_once: int = 1) -> tuple[Seen | None, CleanStream]:
    """None where a decoder has to read the stream from its beginning. `at_once`: so many pieces come with one read."""
    stream, held, out, pieces = CleanStream(), b"", b"", [raw[a:b] for a, b in pairwise(edges)]
    while pieces:
        held += pieces.pop(0)
        opening = stream.open(held)
        if opening is None:
            return None, stream
        if opening:
            out = opening
            break
    else:
        return None, stream
    while pieces and not stream.odd and not stream.done:
        cut, pieces = pieces[:at_once], pieces[at_once:]
        out += stream.feed(b"".join(cut), cut)
    if stream.done:
        message = json.loads(stream.response())["choices"][0]["message"]
        last = json.loads(encode(stream.last()))
        return Seen(events(out), last, None, message), stream
    decoder, _, relay = stream.go_on(CALL, TARGET, HEADERS)
    assert isinstance(relay, OpenAIRelay)
    out += relay.pending()
    for piece in pieces:
        out += relay.feed(piece)
    if not relay.done and relay.failure is None:
        out += relay.close()
    assert relay.progress >= stream.progress
    return Seen(events(out), relay.last, decoder.failure, relay.message()), stream


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
PLAIN = st.one_of(
    TEXTS.map(lambda t: event(choice({"content": t}))),
    TEXTS.map(lambda t: event(choice({"content": t}, logprobs=None), usage=None)),
    TEXTS.map(lambda t: event(choice({"content": None, "reasoning_content": t + "."}))),
    TEXTS.map(lambda t: event(choice({"role": "assistant", "content": t + "."}))),
)
ODD = st.sampled_from([
    event(choice({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]})),
    event(choice({"content": "x"}), error={"message": "boom", "code": 500}), event(), event(usage=USAGE), event(choice({})),
    event(choice({"content": "x"}, "length")), event(choice({"content": "x"}), id="other"), b": ping\n\n", b"data: {no\n\n",
    event(choice({"content": "x"}), choice({"content": "y"}, index=1)), event(choice({}, "stop"), usage=USAGE), FINISH, COUNTED,
    event(choice({}, "tool_calls")), event(choice({}, "eos")), DONE,
    event(choice({}, "stop", error={"message": "bang"})), event(usage={**USAGE, "total_tokens": 99}), b"event: x\ndata: {}\n\n",
    event(choice({}, "stop"), x_groq={"usage": USAGE}), event(choice({"content": "x", "refusal": "no"})), b"data:\n\n",
    b'data: {"error":{"message":"m"}}\n\n', event(choice({"content": ["x"]})), event(choice({}, "stop"), usage={"is_last_response": True}),
])  # fmt: skip
HEADS = st.one_of(
    st.just(HEAD), st.just(event(choice({"role": "assistant", "content": None}))), st.just(event(choice({"content": "a"}))),
    st.just(event(choice({"role": "assistant", "content": "a"}))), st.just(event(choice({"role": "assistant"}), id="")), ODD,
)  # fmt: skip
ENDS = st.lists(st.sampled_from([FINISH, COUNTED, DONE, event(choice({}, "length"), usage=USAGE, model="n", created=6)]), max_size=4)


def edges_of(raw: bytes, cuts: list[int]) -> list[int]:
    return [0, *sorted({c for c in cuts if 0 < c < len(raw)}), len(raw)]


def by_event(raw: bytes, cuts: list[int]) -> list[int]:
    """As most servers cut: behind each event, and at few other places."""
    return edges_of(raw, [m.end() for m in re.finditer(b"\n\n", raw)] + cuts[:1])


@given(HEADS, st.lists(st.one_of(PLAIN, PLAIN, ODD), max_size=6), ENDS, st.booleans(), st.lists(st.integers(0, 2500), max_size=12),
       st.sampled_from([edges_of, by_event]), st.integers(1, 4))  # fmt: skip
def test_any_stream_in_any_split(
    head: bytes, middle: list[bytes], ends: list[bytes], usual: bool, cuts: list[int], edges: Any, at_once: int
) -> None:
    raw = head + b"".join(middle) + (FINISH + COUNTED + DONE if usual else b"".join(ends))
    seen, _ = forwarded(raw, edges(raw, cuts), at_once)
    if seen is not None:
        assert seen == decoded(raw)


@given(st.lists(PLAIN, min_size=1, max_size=6), st.lists(st.integers(0, 2500), max_size=12), st.booleans(),
       st.sampled_from([edges_of, by_event]), st.integers(1, 4))  # fmt: skip
def test_a_clean_stream_needs_no_decoder(
    middle: list[bytes], cuts: list[int], together: bool, edges: Any, at_once: int
) -> None:
    end = event(choice({}, "length"), usage=USAGE) if together else FINISH + COUNTED
    raw = HEAD + event(choice({"content": "a"})) + b"".join(middle) + end + DONE
    seen, stream = forwarded(raw, edges(raw, cuts), at_once)
    assert stream.done and not stream.odd
    assert seen == decoded(raw)
    assert stream.model == "m"


def test_pieces_that_are_events_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [event(choice({"content": f"text {n}"})) for n in range(30)]
    stream = CleanStream()
    assert stream.open(HEAD + texts[0])
    monkeypatch.setattr(stream, "_parser", SimpleNamespace(idle=True))  # nothing has to be cut again
    for at in range(1, 30, 7):
        cut = texts[at : at + 7]
        assert stream.feed(b"".join(cut), cut) == b"".join(cut)
    assert stream.progress == 30


@pytest.mark.parametrize("head", [b"", b"d", b"data: ", HEAD[:-1], HEAD, HEAD + event(choice({"content": ""}))])
def test_there_is_nothing_to_show_before_the_first_content(head: bytes) -> None:
    assert CleanStream().open(head) == b""


@pytest.mark.parametrize(
    "head",
    [b"{}", b"\xef\xbb\xbfdata: {", HEAD.replace(b"\n", b"\r\n"), event(choice({"content": "a"})), HEAD + FINISH, b": hi\n\n" + HEAD,
     HEAD + event(error={"message": "m"}), b"data: {" + b" " * 70_000],
)  # fmt: skip
def test_some_streams_are_not_usual_from_the_beginning(head: bytes) -> None:
    assert CleanStream().open(head) is None


def no_text(raw: bytes) -> bytes:
    """The event with bytes that are no UTF-8, where nobody looks."""
    return raw.replace(b'"model":"m"', b'"model":"m","x":"\xff"')


@pytest.mark.parametrize("at", range(6))
def test_no_byte_that_is_no_text_is_forwarded(at: int) -> None:
    parts = [HEAD, *(event(choice({"content": text})) for text in "abc"), FINISH, COUNTED]
    parts[at] = no_text(parts[at])
    raw = b"".join(parts) + DONE
    for edges in (edges_of(raw, []), by_event(raw, [])):
        seen, _ = forwarded(raw, edges)
        assert (seen is None) == (at < 2)  # then a decoder reads it from its beginning
        if seen is not None:
            assert seen == decoded(raw)
    decoder = OpenAIDecoder(CALL, TARGET, HEADERS)
    relay = OpenAIRelay(decoder, decoder.feed(HEAD))
    assert relay.feed(no_text(parts[1])).decode()


def test_events_pass_untouched() -> None:
    stream = CleanStream()
    first, second = event(choice({"content": "a"})), event(choice({"content": "ü\n"}))
    assert stream.open(HEAD + first) == HEAD + first
    assert stream.feed(second + second) == second + second
    assert stream.feed(FINISH + COUNTED) == b""
    assert stream.feed(DONE + b"data: what comes after it is not read\n\n") == b""
    assert (stream.done, stream.odd, stream.finish_reason, stream.progress) == (True, b"", "stop", 3)
    whole = json.loads(stream.response())
    assert whole["choices"][0] == {"index": 0, "message": {"role": "assistant", "content": "aü\nü\n"}, "finish_reason": "stop"}
    assert whole["usage"] == USAGE
    shown = events(tail(stream.last(), include_usage=True, extras=b'"_cost":1').replace(DONE, b""))
    assert [c.get("usage") for c in shown] == [None, USAGE]
    assert shown[-1]["_cost"] == 1


def test_an_event_without_end_is_left_to_the_decoder() -> None:
    stream = CleanStream()
    assert stream.open(HEAD + event(choice({"content": "a"})))
    for _ in range(18):
        stream.feed(b"x" * (1 << 20))
    assert stream.odd
    _, _, relay = stream.go_on(CALL, TARGET, HttpHead(200, {}).headers)
    assert isinstance(relay, OpenAIRelay)
    assert relay.pending() == b""
    assert relay.failure is not None
    assert relay.failure.code == "event_limit"
