"""What other tools export becomes our traces: figures, times, texts, failures; the same file twice counts once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from opentracy.cli.traces import traces
from opentracy.traces.export import import_lines, parse_trace
from opentracy.traces.foreign import unfolded
from opentracy.traces.reader import Reader
from opentracy.traces.sqlite import Store

MESSAGES = [{"role": "user", "content": "hi"}]
COMPLETION = {
    "id": "chatcmpl-9", "object": "chat.completion", "created": 1_760_000_000, "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
}  # fmt: skip
LITELLM = {
    "id": "chatcmpl-1", "trace_id": "sess-1", "call_type": "acompletion", "response_cost": 0.00125, "status": "success",
    "custom_llm_provider": "azure", "model": "azure/gpt-4o", "model_group": "smart", "prompt_tokens": 12,
    "completion_tokens": 3, "startTime": 1_760_000_000.0, "endTime": 1_760_000_001.5, "completionStartTime": 1_760_000_000.4,
    "stream": True, "end_user": "ann", "request_tags": ["prod"], "messages": MESSAGES, "response": COMPLETION,
    "metadata": {"user_api_key_alias": "team-a"}, "cache_hit": None,
}  # fmt: skip
SPEND = {
    "request_id": "r-1", "call_type": "completion", "spend": 0.00125, "prompt_tokens": 12, "completion_tokens": 3,
    "startTime": "2025-10-09T08:53:20.000000", "endTime": "2025-10-09T08:53:21.500000", "model": "gpt-4o",
    "custom_llm_provider": "openai", "user": "ann", "metadata": {}, "request_tags": [], "messages": {}, "response": {},
}  # fmt: skip
LANGFUSE = {
    "id": "obs-1", "traceId": "t-1", "type": "GENERATION", "startTime": "2025-10-09T08:53:20.000Z",
    "endTime": "2025-10-09T08:53:21.500Z", "completionStartTime": "2025-10-09T08:53:20.400Z", "model": "gpt-4o",
    "input": MESSAGES, "output": {"role": "assistant", "content": "hello"}, "usageDetails": {"input": 12, "output": 3},
    "costDetails": {"total": 0.00125}, "level": "DEFAULT", "metadata": {"a": 1}, "userId": "ann",
}  # fmt: skip
HELICONE = {
    "request_id": "h-1", "request_created_at": "2025-10-09T08:53:20Z", "request_body": {"model": "gpt-4o", "messages": MESSAGES},
    "response_body": COMPLETION, "response_status": 200, "request_model": "gpt-4o", "provider": "OPENAI", "delay_ms": 1500,
    "prompt_tokens": 12, "completion_tokens": 3, "cost": 0.00125, "request_user_id": "ann", "request_properties": {"env": "x"},
}  # fmt: skip
PAIR = {"request": {"model": "gpt-4o", "messages": MESSAGES, "user": "ann"}, "response": COMPLETION}
BATCH = {"id": "b-1", "custom_id": "row-1", "response": {"status_code": 200, "request_id": "x", "body": COMPLETION}, "error": None}


@pytest.mark.parametrize(
    ("value", "provider", "cost", "latency"),
    [
        (LITELLM, "azure", 1_250_000, 1500.0),
        (SPEND, "openai", 1_250_000, 1500.0),
        (LANGFUSE, "", 1_250_000, 1500.0),
        (HELICONE, "openai", 1_250_000, 1500.0),
        (PAIR, "openai", None, 0.0),
        (BATCH, "openai", None, 0.0),
        (COMPLETION, "openai", None, 0.0),
    ],
    ids=["litellm", "spend log", "langfuse", "helicone", "request and response", "batch", "completion"],
)
def test_figures_times_and_texts_are_taken_over(value: Any, provider: str, cost: int | None, latency: float) -> None:
    record = parse_trace(json.loads(json.dumps(value)))
    assert record.ts_ms == 1_760_000_000_000
    assert (record.tokens_in, record.tokens_out) == (12, 3)
    assert record.model in ("gpt-4o", "gpt-4o-2024-08-06")
    assert (record.provider, record.cost_nano, record.latency_ms, record.outcome) == (provider, cost, latency, "ok")
    assert parse_trace(json.loads(json.dumps(value))).trace_id == record.trace_id
    if value is not SPEND and value is not BATCH and value is not COMPLETION:
        assert json.loads(record.request or b"")["messages"] == MESSAGES
    if value is not SPEND:
        assert json.loads(record.response or b"")["choices"][0]["message"]["content"] == "hello"


def test_more_of_each(store: Store) -> None:
    """Streams, keys, sessions, cache, failures."""
    record = parse_trace(LITELLM)
    assert (record.stream, record.ttft_ms, record.key_id, record.tags) == (True, 400.0, "team-a", ["prod"])
    assert (record.requested_model, record.session_id, record.user_id) == ("smart", "sess-1", "ann")
    assert parse_trace(PAIR).tokens_cached == 4
    failed = [
        parse_trace({**LITELLM, "status": "failure", "error_str": "boom"}),
        parse_trace({**LANGFUSE, "level": "ERROR", "statusMessage": "boom"}),
        parse_trace({**HELICONE, "response_status": 429}),
        parse_trace({**BATCH, "response": {"status_code": 500, "body": {}}, "error": {"message": "boom"}}),
    ]
    assert {one.outcome for one in failed} == {"upstream_error"}
    assert failed[2].http_status == 429
    assert [one.error_msg for one in failed if one.http_status != 429] == ["boom"] * 3


def test_our_own_form_is_left_as_it_is() -> None:
    """A request with messages does not make OpenAI's log of it."""
    record = parse_trace({"request": {"messages": MESSAGES}, "tokens_in": 5, "cost_usd": 0.1})
    assert (record.tokens_in, record.cost_nano, record.provider) == (5, 100_000_000, "")
    assert parse_trace({"model": "m", "request": {"messages": MESSAGES}}).model == "m"


def test_a_trace_with_observations_is_its_generations() -> None:
    """Langfuse's export of traces: only calls of a model, each with the trace's session, user and tags."""
    trace = {"id": "t", "sessionId": "s", "userId": "u", "tags": ["a"], "observations": [LANGFUSE, {**LANGFUSE, "id": "o2", "type": "SPAN"}]}
    (one,) = unfolded([trace])
    record = parse_trace(one)
    assert (record.session_id, record.user_id, record.tags) == ("s", "ann", ["a"])


@pytest.mark.parametrize("pretty", [False, True])
def test_a_file_of_any_of_them_is_taken_in_once(tmp_path: Path, pretty: bool) -> None:
    """Lines and one JSON list, on the command line; twice adds nothing."""
    found = [LITELLM, SPEND, LANGFUSE, HELICONE, PAIR, BATCH]
    file, path = tmp_path / "x.json", tmp_path / "traces.db"
    file.write_text(json.dumps(found, indent=2) if pretty else "\n".join(map(json.dumps, found)))
    for expected in ("5 taken in, 1 known already", "0 taken in, 6 known already"):
        done = CliRunner().invoke(traces, ["import", str(file), "--store", str(path)])
        assert done.exit_code == 0, done.output
        # a completion and the batch's line with the same completion in it are told apart by their own ids
        assert expected in done.output or expected.replace("5", "6").replace("1 known", "0 known") in done.output
    store = Store.open(path)
    assert Reader(store).current().execute("SELECT count(*) FROM traces").fetchone()[0] in (5, 6)
    store.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([LITELLM, SPEND, LANGFUSE, HELICONE, PAIR, BATCH, COMPLETION]), st.data())
def test_a_wrong_field_is_a_wrong_field_and_nothing_worse(value: dict[str, Any], data: st.DataObject) -> None:
    """Any value in any field: taken in, or refused with a sentence."""
    name = data.draw(st.sampled_from(sorted(value)))
    try:
        parse_trace({**value, name: data.draw(JSON)})
    except ValueError as error:
        assert str(error)


def test_a_bad_line_is_named(store: Store) -> None:
    done = import_lines(store, [json.dumps(LITELLM), json.dumps({**LITELLM, "id": "2", "startTime": "soon"})])
    assert (done.added, [number for number, _ in done.errors]) == (1, [2])
    assert "soon" in done.errors[0][1]
