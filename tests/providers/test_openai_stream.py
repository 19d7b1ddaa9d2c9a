"""Streams of the OpenAI family: the grammar of `wire.Decoder` from whatever arrives, in any split of the bytes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracy.core.relay import MessageFold
from opentracy.core.wire import Call, Chunk, Failure, HttpHead
from opentracy.providers import registry
from opentracy.providers.openai import DIALECT
from opentracy.providers.openai_stream import OpenAIDecoder

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
CALL = Call([], {}, True, created=1750000000, fallback_id="ff")
DONE = b"data: [DONE]\n\n"


def chunk(delta: Any, finish: str | None = None, index: int = 0, **kw: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish, **kw.pop("choice", {})}
    return {"id": "s", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [choice], **kw}


def usage(**kw: Any) -> dict[str, Any]:
    return {**chunk({}), "choices": [], "usage": {**USAGE, **kw}}


def sse(*events: Any) -> bytes:
    texts = (e if isinstance(e, bytes) else json.dumps(e, separators=(",", ":")).encode() for e in events)
    return b"".join(b"data: %b\n\n" % text for text in texts)


def opened(model: str = "openai/m") -> OpenAIDecoder:
    target = registry.target(model, env={}, api_key="k")
    decoder = target.dialect.open_stream(CALL, target, HttpHead(200, {"x-request-id": "q"}))
    assert isinstance(decoder, OpenAIDecoder)
    return decoder


def run(body: bytes, model: str = "openai/m", size: int = 1 << 30) -> tuple[list[Chunk], Failure | None]:
    decoder = opened(model)
    chunks = [c for at in range(0, len(body), size) for c in decoder.feed(body[at : at + size])] + decoder.close()
    return chunks, decoder.failure


def good(*events: Any, model: str = "openai/m", done: bytes = DONE) -> list[Chunk]:
    chunks, failure = run(sse(*events) + done, model)
    assert failure is None, failure
    assert all(c["choices"] and isinstance(c["choices"][0]["delta"], dict) for c in chunks)
    return chunks


def folded(chunks: list[Chunk], index: int = 0) -> dict[str, Any]:
    fold = MessageFold()
    for c in chunks:
        fold.add(c)
    return fold.message(index)


HEAD = chunk({"role": "assistant", "content": ""})
STREAM = [HEAD, chunk({"content": "Hel"}), chunk({"content": "lo"}), chunk({}, "stop"), usage()]


def test_a_clean_stream() -> None:
    chunks = good(*STREAM)
    assert [c["choices"][0]["delta"] for c in chunks] == [
        HEAD["choices"][0]["delta"],
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert chunks[-1]["usage"] == USAGE
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[1] == STREAM[1], "a clean event passes as it came"


def test_the_end_marker_ends_at_once_and_what_follows_is_ignored() -> None:
    decoder = opened()
    chunks = decoder.feed(sse(*STREAM) + DONE + sse(chunk({"content": "more"})))
    assert decoder.done
    assert folded(chunks)["content"] == "Hello"
    assert decoder.feed(sse(chunk({"content": "more"}))) == []
    assert decoder.close() == []


def test_a_finish_without_the_end_marker_is_a_success() -> None:
    assert folded(good(*STREAM, done=b""))["content"] == "Hello"


def test_first_finish_and_last_usage_win() -> None:
    chunks = good(
        HEAD, chunk({"content": "x"}), chunk({}, "length"), chunk({}, "stop"), usage(prompt_tokens=1), usage()
    )
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"] == USAGE


def test_usage_on_every_event_stands_on_the_last_chunk_only() -> None:
    chunks = good(
        HEAD,
        chunk({"content": "a"}, usage={"prompt_tokens": 1}),
        chunk({"content": "b"}),
        chunk({}, "stop", usage=USAGE),
    )
    assert [c.get("usage") for c in chunks] == [None, None, None, USAGE]


def test_the_kind_of_a_chunk_is_always_openais() -> None:
    chunks = good(HEAD, {**chunk({"content": "a"}), "object": "chat.completion.done"}, chunk({}, "stop"))
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}


def test_two_choices_may_share_an_event() -> None:
    both = {**chunk({}), "choices": [chunk({"content": t}, index=i)["choices"][0] for i, t in enumerate("ab")]}
    ends = {**chunk({}), "choices": [chunk({}, "stop", index=i)["choices"][0] for i in (0, 1)]}
    chunks = good(HEAD, both, ends)
    assert [folded(chunks, i)["content"] for i in (0, 1)] == ["a", "b"]
    assert [c["delta"].get("role") for c in chunks[1]["choices"]] == [None, "assistant"]


def test_the_finish_event_may_carry_text() -> None:
    chunks = good(HEAD, chunk({"content": "x"}, "stop", usage=USAGE))
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, "stop"]
    assert folded(chunks)["content"] == "x"


@pytest.mark.parametrize(
    ("events", "code", "retryable"),
    [
        ([], "empty_stream", True),
        ([HEAD], "empty_stream", True),
        ([HEAD, chunk(None), chunk({"content": ""})], "empty_stream", True),
        ([HEAD, chunk({"content": "x"})], "stream_truncated", True),
        ([HEAD, chunk({"content": "x"}), b'{"choices": ['], "bad_event", False),
        ([HEAD, chunk({"content": "x"}), b"5"], "bad_event", False),
        ([HEAD, chunk({"content": "x"}), {"choices": 5}], "bad_event", False),
        ([HEAD, chunk({"content": "x"}), b"[" * 10_000], "bad_event", False),
    ],
)
@pytest.mark.parametrize("end", [DONE, b""])
def test_what_is_no_whole_answer_fails(events: list[Any], code: str, retryable: bool, end: bytes) -> None:
    chunks, failure = run(sse(*events) + end)
    assert failure is not None
    assert (failure.code, failure.retryable, failure.request_id) == (code, retryable, "q")
    assert not any(c["choices"][0]["finish_reason"] for c in chunks)


@pytest.mark.parametrize(
    ("event", "status", "message"),
    [
        (b'data: {"error":{"message":"boom","type":"server_error","code":"server_error"}}', 500, "boom"),
        (b'event: error\ndata: {"error":{"message":"boom","status_code":400}}', 400, "boom"),
        (b'event: error\ndata: {"message":"boom","code":429}', 429, "boom"),
        (b'data: {"error":{"message":"boom","code":"rate_limit_exceeded"}}', 429, "boom"),
        (b'data: {"error":"boom"}', None, "boom"),
        (b'data: {"object":"error","message":"boom","code":503}', 503, "boom"),
        (
            b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error","error":{"code":502,"message":"boom"}}]}',
            502,
            "boom",
        ),
        (b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}', None, "finish_reason 'error'"),
        (b'data: {"id":"s","choices":[],"error":{"code":529,"message":"boom"}}', 529, "boom"),
    ],
)
def test_errors_in_all_their_places(event: bytes, status: int | None, message: str) -> None:
    decoder = opened()
    chunks = decoder.feed(sse(HEAD, chunk({"content": "x"})) + event + b"\n\n" + sse(chunk({"content": "never"})))
    assert folded(chunks)["content"] == "x"
    assert decoder.failure is not None
    assert (decoder.failure.kind, decoder.failure.status) == ("provider_error", status)
    assert message in decoder.failure.message
    assert decoder.close() == []


def test_an_error_after_the_finish_takes_nothing_back() -> None:
    chunks = good(
        HEAD, chunk({"content": "x"}), chunk({}, "length"), {"error": {"code": 400}, "usage": USAGE, "choices": []}
    )
    assert chunks[-1]["usage"] == USAGE


def test_events_without_choices_keep_their_fields_for_the_last_chunk() -> None:
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [1]}
    chunks = good(first, *STREAM, {"object": "x", "_routing": {"a": 1}})
    assert {c["id"] for c in chunks} == {"s"}
    assert {c["model"] for c in chunks} == {"m"}
    assert chunks[-1]["prompt_filter_results"] == [1]
    assert chunks[-1]["_routing"] == {"a": 1}


def test_odd_shapes_are_tolerated() -> None:
    events = [
        {"choices": [{"delta": {"content": "a"}}]},
        {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
        {"choices": [{"index": 0}]},
        {"choices": [None]},
        {"id": "other", "created": 9.5, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "b"}}]},
        {"choices": None},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "eos"}]},
    ]
    chunks = good(*events)
    assert {c["id"] for c in chunks} == {"chatcmpl-ff"}, "the first chunk had to have one before any came"
    assert [c["created"] for c in chunks] == [1750000000, 9, 9]
    assert folded(chunks) == {"role": "assistant", "content": "ab"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_an_answer_may_be_nothing_but_a_finish() -> None:
    (last,) = good(chunk({}, "content_filter"))
    assert last["choices"][0] == {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "finish_reason": "content_filter",
    }


def test_several_choices() -> None:
    events = [chunk({"role": "assistant", "content": ""}, index=i) for i in (0, 1)]
    events += [
        chunk({"content": "a"}),
        chunk({"content": "b"}, index=1),
        chunk({}, "stop"),
        chunk({}, "length", index=1),
    ]
    chunks = good(*events, usage())
    assert [folded(chunks, i)["content"] for i in (0, 1)] == ["a", "b"]
    assert [c["finish_reason"] for c in chunks[-1]["choices"]] == ["stop", "length"]
    _, failure = run(sse(*events[:-1]) + DONE)
    assert failure is not None
    assert failure.code == "stream_truncated"


def test_progress_counts_what_a_reader_would_see() -> None:
    decoder = opened()
    seen = []
    for event in (HEAD, chunk({"content": ""}), chunk({"reasoning": "r"}), chunk({"content": "x"}), chunk({}, "stop")):
        decoder.feed(sse(event))
        seen.append(decoder.progress)
    assert seen[0] == seen[1] == 0
    assert seen == sorted(seen)
    assert len(set(seen[1:])) == 4


def test_an_event_beyond_the_limit_is_an_error() -> None:
    decoder = opened()
    for _ in range(17):
        decoder.feed(b"x" * (1 << 20))
    assert decoder.failure is not None
    assert decoder.failure.code == "event_limit"


def test_one_server_marks_its_end_in_the_usage() -> None:
    chunks = good(HEAD, chunk({"content": "x"}), usage(is_last_response=True), model="sambanova/m")
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_reasoning_is_lifted_out_of_the_text_of_models_known_for_it() -> None:
    pieces = ["<th", "ink>\nHm", ".</thi", "nk>\n", "\nYes", "."]
    chunks = good(HEAD, *(chunk({"content": p}) for p in pieces), chunk({}, "stop"), model="perplexity/sonar-reasoning")
    assert folded(chunks) == {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}


# --- tool calls


def tool(index: Any = 0, id: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {k: v for k, v in (("index", index), ("id", id), ("function", function)) if v is not None}


CASES = {
    "incremental": [[tool(0, "a", "f", "")], [tool(0, None, None, '{"x"')], [tool(0, None, None, ":1}")], [tool(1, "b", "g", '{"y":2}')]],
    "whole and together": [[tool(0, "a", "f", '{"x":1}'), tool(1, "b", "g", '{"y":2}')]],
    "interleaved": [[tool(0, "a", "f")], [tool(1, "b", "g")], [tool(0, None, None, '{"x":')], [tool(1, None, None, '{"y":2}')], [tool(0, None, None, "1}")]],
    "numbered from elsewhere": [[tool(3, "a", "f", '{"x":1}')], [tool(7, "b", "g", '{"y":2}')]],
    "index repeated": [[tool(0, "a", "f", '{"x":1}')], [tool(0, "b", "g", '{"y"')], [tool(0, None, None, ":2}")]],
    "index missing": [[tool(None, "a", "f", '{"x":1}')], [tool(None, "b", "g", '{"y"')], [tool(None, None, None, ":2}")]],
    "id on every fragment": [[tool(0, "a", "f", '{"x"')], [tool(0, "a", "f", ":1}")], [tool(None, "b", "g", '{"y"')], [tool(None, "b", None, ":2}")]],
    "objects": [[tool(0, "a", "f", {"x": 1})], [tool(1, "b", "g", {"y": 2})]],
    "id before the name": [[tool(0, "a")], [tool(0, None, "f", '{"x":1}')], [tool(1, "b", "g", '{"y":2}')]],
}  # fmt: skip


@pytest.mark.parametrize("fragments", CASES.values(), ids=CASES)
def test_tool_calls_are_numbered_and_named_once(fragments: list[list[dict[str, Any]]]) -> None:
    chunks = good(HEAD, *(chunk({"tool_calls": f}) for f in fragments), chunk({}, "stop"))
    started: list[int] = []
    for c in chunks:
        for fragment in c["choices"][0]["delta"].get("tool_calls", ()):
            if fragment["index"] in started:
                assert fragment.keys() == {"index", "function"}
                assert fragment["function"].keys() == {"arguments"}
            else:
                assert fragment["index"] == len(started)
                assert fragment["id"]
                assert fragment["function"]["name"]
                started.append(fragment["index"])
    calls = folded(chunks)["tool_calls"]
    assert [(c["id"], c["type"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls] == [
        ("a", "function", "f", {"x": 1}),
        ("b", "function", "g", {"y": 2}),
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls", "known bug 11"


def test_calls_without_ids_at_one_index_are_told_apart_by_their_names() -> None:
    chunks = good(
        HEAD,
        chunk({"tool_calls": [tool(0, None, "f", '{"x":1}')]}),
        chunk({"tool_calls": [tool(0, None, "f", '{"x":2}')]}),
        chunk({}, "stop"),
    )
    calls = folded(chunks)["tool_calls"]
    assert [c["function"]["arguments"] for c in calls] == ['{"x":1}', '{"x":2}']
    assert len({c["id"] for c in calls}) == 2


def test_equal_ids_at_different_indexes_are_made_different() -> None:
    chunks = good(
        HEAD, chunk({"tool_calls": [tool(0, "a", "f", "{}"), tool(1, "a", "f", "{}")]}), chunk({}, "tool_calls")
    )
    assert len({c["id"] for c in folded(chunks)["tool_calls"]}) == 2


def test_known_bug_8_a_call_without_arguments_gets_an_empty_object() -> None:
    chunks = good(
        HEAD,
        chunk({"tool_calls": [tool(0, "a", "f", "")]}),
        chunk({"tool_calls": [tool(1, "b", "g")]}),
        chunk({}, "tool_calls"),
    )
    assert [c["function"]["arguments"] for c in folded(chunks)["tool_calls"]] == ["{}", "{}"]


def test_further_fields_of_a_call_survive() -> None:
    chunks = good(
        HEAD, chunk({"tool_calls": [{**tool(0, "a", "f", "{}"), "extra_content": {"sig": 1}}]}), chunk({}, "tool_calls")
    )
    assert folded(chunks)["tool_calls"][0]["extra_content"] == {"sig": 1}


def test_custom_tools_stream_their_input() -> None:
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "shell", "input": ""}}
    more = {"index": 0, "custom": {"input": "ls"}}
    chunks = good(HEAD, chunk({"tool_calls": [first]}), chunk({"tool_calls": [more]}), chunk({}, "tool_calls"))
    assert [c["choices"][0]["delta"].get("tool_calls") for c in chunks] == [None, [first], [more], None]


# --- any bytes

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DELTAS = st.one_of(
    TEXTS.map(lambda t: {"content": t}),
    TEXTS.map(lambda t: {"content": None, "reasoning_content": t}),
    TEXTS.map(lambda t: {"role": "assistant", "content": t}),
    TEXTS.map(lambda t: {"reasoning": t}),
    st.just({}),
    st.sampled_from([{"tool_calls": f} for case in CASES.values() for f in case]),
)
NEWLINES = st.sampled_from([b"\n", b"\r\n", b"\r"])


def stream_bytes(deltas: list[dict[str, Any]], newline: bytes, ping: bool) -> bytes:
    events = [HEAD, chunk({"content": "!"}), *map(chunk, deltas), chunk({}, "stop", usage=USAGE)]
    raw = b"".join((b": ping\n\n" if ping else b"") + sse(e) for e in events) + DONE
    return raw.replace(b"\n", newline)


@given(st.lists(DELTAS, max_size=6), NEWLINES, st.booleans(), st.lists(st.integers(0, 3000), max_size=10))
def test_any_split_of_the_bytes_gives_the_same_chunks(
    deltas: list[dict[str, Any]], newline: bytes, ping: bool, cuts: list[int]
) -> None:
    raw = stream_bytes(deltas, newline, ping)
    whole, failure = run(raw)
    assert failure is None
    edges = [0, *sorted({c for c in cuts if 0 < c < len(raw)}), len(raw)]
    decoder = opened()
    pieces = [c for a, b in pairwise(edges) for c in decoder.feed(raw[a:b])]
    assert pieces + decoder.close() == whole
    assert run(raw, size=1)[0] == whole


def through_relay(raw: bytes, edges: list[int]) -> tuple[list[Chunk], dict[str, Any]]:
    """The chunks that a client of the engine would see, and the message in its trace."""
    decoder = opened()
    pieces = [raw[a:b] for a, b in pairwise(edges)]
    shown: list[Chunk] = []
    while pieces and not decoder.progress:
        shown += decoder.feed(pieces.pop(0))
    relay = DIALECT.open_relay(decoder, shown if not decoder.done else shown[:-1])
    out = b"".join([*(relay.feed(p) for p in pieces), relay.close() if not decoder.done else b""])
    assert relay.failure is None
    events = [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: ")]
    last = relay.last if relay.last is not None else shown.pop()
    return [*shown, *events, last], relay.message()


INSIDES = st.one_of(
    TEXTS.map(lambda t: json.dumps(t, ensure_ascii=False).encode()[1:-1]),
    TEXTS.map(lambda t: json.dumps(t).encode()[1:-1]),
    st.lists(st.sampled_from([b"a", b'"', b"\\", b"\\n", b"\\u00e9", b"\\ud83d", b"\xc3\xa9", b"\xff", b"\x01", b","])).map(b"".join),
)


@given(st.lists(INSIDES, min_size=1, max_size=8), st.booleans())
def test_events_that_differ_in_their_text_alone(insides: list[bytes], burst: bool) -> None:
    """What is inside the text's quotes may be anything: it passes, or fails, as it does for the decoder."""
    before, after = sse(chunk({"content": "\x00"})).split(b"\\u0000")
    head = sse(HEAD) + sse(chunk({"content": "!"}), chunk({"content": "?"}))
    texts = [before + inside + after for inside in insides]
    end = sse(chunk({}, "stop", usage=USAGE)) + DONE
    pieces = [b"".join(texts)] if burst else texts
    whole, failure = run(head + b"".join(texts) + end)
    decoder = opened()
    first = decoder.feed(head)
    relay = DIALECT.open_relay(decoder, first)
    out = b"".join([relay.feed(piece) for piece in (*pieces, end)])
    assert (relay.failure is None) == (failure is None)
    if failure is None and relay.last is not None:
        events = [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: ")]
        assert joined([*first, *events, relay.last]) == joined(whole)
        assert relay.message() == folded(whole)


def joined(chunks: list[Chunk]) -> dict[str, Any]:
    return {**folded(chunks), "finish": chunks[-1]["choices"][0]["finish_reason"], "usage": chunks[-1].get("usage")}


@given(st.lists(DELTAS, max_size=6), NEWLINES, st.booleans(), st.lists(st.integers(0, 3000), max_size=10))
def test_the_relay_forwards_the_same_stream(
    deltas: list[dict[str, Any]], newline: bytes, ping: bool, cuts: list[int]
) -> None:
    raw = stream_bytes(deltas, newline, ping)
    whole, _ = run(raw)
    edges = [0, *sorted({c for c in cuts if 0 < c < len(raw)}), len(raw)]
    chunks, message = through_relay(raw, edges)
    assert joined(chunks) == joined(whole)
    assert ["role" in c["choices"][0]["delta"] for c in chunks] == [True] + [False] * (len(chunks) - 1)
    assert message == folded(whole)


def test_the_relay_leaves_clean_events_untouched_and_holds_the_last_chunk() -> None:
    decoder = opened()
    relay = DIALECT.open_relay(decoder, decoder.feed(sse(HEAD, chunk({"content": "a"}))))
    spaced = b'data: {"id": "s", "object":"chat.completion.chunk", "created":5, "model":"m", "x": 1,  "choices":[{"index":0, "delta":{"content":"b"}, "finish_reason":null}]}\n\n'
    assert relay.feed(spaced) == spaced
    assert relay.feed(spaced + spaced[:20]) == spaced
    assert relay.feed(spaced[20:]) == spaced
    assert relay.feed(sse(chunk({}, "stop"), usage()) + DONE) == b""
    assert relay.done
    assert relay.last is not None
    assert relay.last["usage"] == USAGE
    assert relay.message()["content"] == "abbb"
    assert relay.progress >= 5


def test_the_relay_takes_a_repeated_role_off() -> None:
    decoder = opened()
    relay = DIALECT.open_relay(decoder, decoder.feed(sse(HEAD, chunk({"content": "a"}))))
    said = '"role":"assistant",'
    assert relay.feed(sse(chunk({"role": "assistant", "content": said}))) == sse(chunk({"content": said}))
    assert relay.message()["content"] == "a" + said
    spaced = json.dumps(chunk({"role": "assistant", "content": "c"})).encode()
    (line,) = relay.feed(sse(spaced)).split(b" ", 1)[1:]
    assert json.loads(line)["choices"][0]["delta"] == {"content": "c"}


def test_the_relay_reports_a_cut_and_an_error() -> None:
    decoder = opened()
    relay = DIALECT.open_relay(decoder, decoder.feed(sse(HEAD, chunk({"content": "a"}))))
    assert relay.close() == b""
    assert relay.failure is not None
    assert (relay.failure.code, relay.last) == ("stream_truncated", None)
    decoder = opened()
    relay = DIALECT.open_relay(decoder, decoder.feed(sse(HEAD, chunk({"content": "a"}))))
    assert b'"b"' in relay.feed(sse(chunk({"content": "b"}), {"error": {"message": "boom", "code": 500}}))
    assert relay.failure is not None
    assert relay.failure.message == "boom"
    assert relay.feed(sse(chunk({"content": "c"}))) == b""


def test_the_relay_never_forwards_another_id_or_a_broken_event() -> None:
    decoder = opened()
    relay = DIALECT.open_relay(decoder, decoder.feed(sse(HEAD, chunk({"content": "a"}))))
    (line,) = relay.feed(sse({**chunk({"content": "b"}), "id": "other"})).split()[1:]
    assert json.loads(line)["id"] == "s"
    assert relay.feed(b'data: {"id":"s","object":"chat.completion.chunk"\n\n') == b""
    assert relay.failure is not None
    assert relay.failure.code == "bad_event"
