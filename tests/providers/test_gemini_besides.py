"""What Gemini's answers hold besides text and calls: signed pictures, its own tools, refusals, fields of the whole."""

from __future__ import annotations

from typing import Any

import pytest
from native_wire import WEATHER, answer, body_of, folded, sse
from test_gemini_answers import FLASH, G3, TEXT, USAGE, stream_of, whole

IMAGE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}}
ASKED = {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["tides"]}, "id": "t1"}, "thoughtSignature": "QUE="}
FOUND = {"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "response": {"a": 1}, "id": "t1"}}
CALL = {"functionCall": {"name": "weather", "args": {"city": "Rom"}}, "thoughtSignature": "Q0M="}
ASK = {"role": "user", "content": "?"}


def both(body: dict[str, Any], model: str = G3) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer, plain and streamed."""
    return answer(model, body), folded(model, sse(stream_of(body)))


def test_every_picture_goes_back_with_its_own_signature() -> None:
    parts = [{"text": "Here.", "thoughtSignature": "QQ=="}, {**IMAGE, "thoughtSignature": "Qg=="}, {**IMAGE, "thoughtSignature": "Qw=="}]
    for found in both(whole(parts)):
        said = found["choices"][0]["message"]
        assert [i["image_url"]["url"] for i in said["images"]] == ["data:image/png;base64,iVBORw0K"] * 2
        assert body_of(G3, [ASK, said, ASK])["contents"][1] == {"role": "model", "parts": parts}


def test_a_picture_alone_keeps_a_signature_that_stands_on_the_message() -> None:
    said = {"role": "assistant", "content": "", "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}}],
            "extra_content": {"google": {"thought_signature": "QQ=="}}}  # fmt: skip
    assert body_of(G3, [ASK, said, ASK])["contents"][1]["parts"] == [{**IMAGE, "thoughtSignature": "QQ=="}]


def test_a_sketch_among_the_thoughts_is_no_answer() -> None:
    for found in both(whole([{**IMAGE, "thought": True}, TEXT, IMAGE])):
        said = found["choices"][0]["message"]
        assert len(said["images"]) == 1
        assert said["other_parts"] == [{**IMAGE, "thought": True}]
        assert body_of(G3, [ASK, said, ASK])["contents"][1]["parts"] == [TEXT, IMAGE]


def test_parts_that_are_not_known_are_kept_and_go_back() -> None:
    for found in both(whole([ASKED, FOUND, TEXT, CALL])):
        said = found["choices"][0]["message"]
        assert said["content"] == TEXT["text"]
        assert len(said["tool_calls"]) == 1
        result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "18"}
        sent = body_of(G3, [ASK, said, result], tools=[WEATHER])["contents"][1]["parts"]
        assert sent == [ASKED, FOUND, TEXT, CALL]
        openai = body_of("openai/gpt-4o", [ASK, said, result], tools=[WEATHER])["messages"][1]
        assert openai.keys() == {"role", "content", "tool_calls"}
    file = {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}}
    for found in both(whole([TEXT, file])):
        assert found["choices"][0]["message"]["other_parts"] == [file]
    assert "other_parts" not in both(whole([{}, {"thoughtSignature": "QQ=="}, TEXT]))[0]["choices"][0]["message"]


@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "OTHER"])
def test_why_a_prompt_was_blocked(reason: str) -> None:
    body = {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}
    for found in (answer(FLASH, body), folded(FLASH, sse([body]))):
        choice = found["choices"][0]
        assert (choice["finish_reason"], choice["native_finish_reason"]) == ("content_filter", reason)
        assert choice["message"]["content"] == ""
        assert found["promptFeedback"] == {"blockReason": reason}
        assert found["usage"]["prompt_tokens"] == 5


@pytest.mark.parametrize(
    ("raw", "finish"), [("ESCALATION", "content_filter"), ("PUP_LIMITED_DISABLED", "content_filter"), ("CONTINUATION", "length")]
)
def test_rarer_finish_reasons(raw: str, finish: str) -> None:
    for found in both(whole([TEXT], raw)):
        choice = found["choices"][0]
        assert (choice["finish_reason"], choice["native_finish_reason"]) == (finish, raw)


def test_fields_of_the_whole_answer_come_with_a_stream_too() -> None:
    plain, streamed = both({**whole([TEXT]), "modelStatus": {"modelStage": "PREVIEW"}})
    assert plain["modelStatus"] == streamed["modelStatus"] == {"modelStage": "PREVIEW"}


def test_an_event_that_says_little_of_the_usage_takes_nothing_from_it() -> None:
    events = stream_of(whole([TEXT]))
    events.append({"usageMetadata": {"trafficType": "ON_DEMAND"}, "responseId": "resp1"})
    assert folded(FLASH, sse(events))["usage"] == answer(FLASH, {**whole([TEXT]), "usageMetadata": USAGE})["usage"]
