"""Requests to Gemini and Vertex AI: contents, tools, schemas, thinking, signatures, addresses, embeddings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from native_wire import KEY, PLAIN, WEATHER, body_of, call, target

from opentracy.providers import registry
from opentracy.providers.gemini_schema import openapi_schema

FLASH = "gemini/gemini-2.5-flash"
PRO25 = "gemini/gemini-2.5-pro"
G3 = "gemini/gemini-3-flash-preview"
OLD = "gemini/gemini-1.5-pro"
PNG = "data:image/png;base64,iVBORw0KGgo="


def tool_call(id: str, name: str = "weather", arguments: Any = '{"city": "Rome"}', **extra: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **extra}


def contents(messages: list[dict[str, Any]], model: str = FLASH, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body_of(model, messages, **params)["contents"]
    return found


def config(model: str = FLASH, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = body_of(model, **params).get("generationConfig", {})
    return found


def dropped(model: str, **params: Any) -> tuple[str, ...]:
    to = target(model)
    found: tuple[str, ...] = to.dialect.build_request(call(**params), to).dropped
    return found


def test_address_and_credentials() -> None:
    to = target(FLASH)
    base = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash"
    plain = to.dialect.build_request(call(), to)
    assert (plain.method, plain.url) == ("POST", f"{base}:generateContent")
    assert plain.headers["x-goog-api-key"] == KEY
    assert KEY not in plain.url
    assert to.dialect.build_request(call(stream=True), to).url == f"{base}:streamGenerateContent?alt=sse"
    assert to.dialect.build_request(call(), replace(to, model="models/gemini-2.5-flash")).url == plain.url
    assert to.dialect.build_request(call(), replace(to, base_url="http://h/v1beta/")).url.startswith("http://h/v1beta/models/")


def vertex(location: str, **env: str) -> Any:
    return registry.target(
        "vertex/gemini-2.5-pro",
        env={"VERTEX_ACCESS_TOKEN": "ya29.secret", "GOOGLE_CLOUD_LOCATION": location, **env},
    )


@pytest.mark.parametrize(
    ("location", "host"),
    [("europe-west4", "europe-west4-aiplatform.googleapis.com"), ("global", "aiplatform.googleapis.com")],
)
def test_vertex_has_project_and_location_in_its_address(location: str, host: str) -> None:
    to = vertex(location, GOOGLE_CLOUD_PROJECT="my-p")
    request = to.dialect.build_request(call(), to)
    path = f"/v1/projects/my-p/locations/{location}/publishers/google/models/gemini-2.5-pro:generateContent"
    assert request.url == f"https://{host}{path}"
    assert request.headers["authorization"] == "Bearer ya29.secret"
    assert "x-goog-api-key" not in request.headers
    assert json.loads(request.body)["contents"][0]["role"] == "user"


def test_vertex_says_that_it_needs_a_project_unless_an_api_key_is_used() -> None:
    with pytest.raises(ValueError, match="GOOGLE_CLOUD_PROJECT"):
        to = vertex("global")
        to.dialect.build_request(call(), to)
    express = registry.target("vertex/gemini-2.5-pro", env={}, api_key="AIzaSyExpress")
    request = express.dialect.build_request(call(), express)
    assert request.url == "https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-2.5-pro:generateContent"
    assert request.headers["x-goog-api-key"] == "AIzaSyExpress"


def test_the_plain_request() -> None:
    body = body_of(
        FLASH, [{"role": "system", "content": "S"}, {"role": "developer", "content": "D"}, *PLAIN],
        max_tokens=9, temperature=1.5, top_p=0.9, top_k=4, stop=["a", "b"], seed=3, n=2, presence_penalty=0.1,
        frequency_penalty=0.2, logprobs=True, top_logprobs=2,
    )  # fmt: skip
    assert body == {
        "systemInstruction": {"parts": [{"text": "S"}, {"text": "D"}]},
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "generationConfig": {
            "maxOutputTokens": 9, "temperature": 1.5, "topP": 0.9, "topK": 4, "stopSequences": ["a", "b"], "seed": 3,
            "candidateCount": 2, "presencePenalty": 0.1, "frequencyPenalty": 0.2, "responseLogprobs": True, "logprobs": 2,
        },
    }  # fmt: skip


def test_a_system_prompt_alone_is_said_by_the_user() -> None:
    assert body_of(FLASH, [{"role": "system", "content": "S"}]) == {"contents": [{"role": "user", "parts": [{"text": "S"}]}]}


def test_a_model_without_system_instruction_hears_it_from_the_user() -> None:
    body = body_of("gemini/gemma-3-27b-it", [{"role": "system", "content": "S"}, *PLAIN])
    assert body == {"contents": [{"role": "user", "parts": [{"text": "S"}, {"text": "Hello"}]}]}
    body = body_of("gemini/gemma-3-27b-it", [{"role": "system", "content": "S"}, {"role": "assistant", "content": "a"}])
    assert [c["role"] for c in body["contents"]] == ["user", "model"]


def test_pictures_of_an_answer_go_back_with_it() -> None:
    message = {"role": "assistant", "content": "Here.", "images": [{"type": "image_url", "image_url": {"url": PNG}}]}
    assert [p.keys() for p in contents([*PLAIN, message])[1]["parts"]] == [{"text"}, {"inlineData"}]


def test_roles_are_merged_and_media_become_parts() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image_url", "image_url": "https://x.example/a.webp?x=1"},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "file", "file": {"file_id": "https://generativelanguage.googleapis.com/v1beta/files/f1", "format": "video/mp4"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
        {"type": "video_url", "video_url": {"url": "https://youtu.be/x"}, "video_metadata": {"fps": 2}},
    ]
    assert contents([*PLAIN, {"role": "user", "content": content}]) == [
        {
            "role": "user",
            "parts": [
                {"text": "Hello"},
                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
                {"fileData": {"mimeType": "image/webp", "fileUri": "https://x.example/a.webp?x=1"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
                {
                    "fileData": {
                        "mimeType": "video/mp4",
                        "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/f1",
                    }
                },
                {"inlineData": {"mimeType": "audio/mpeg", "data": "AA=="}},
                {"fileData": {"fileUri": "https://youtu.be/x"}, "videoMetadata": {"fps": 2}},
            ],
        }
    ]


def test_results_stand_together_in_the_order_of_the_calls() -> None:
    out = contents(
        [
            *PLAIN,
            {"role": "assistant", "content": "Wait.", "tool_calls": [tool_call("call_a"), tool_call("x1", "now", "")]},
            {"role": "tool", "tool_call_id": "x1", "content": '{"time": "12:00"}'},
            {"role": "tool", "tool_call_id": "call_a", "content": "18C"},
            {"role": "user", "content": "Thanks."},
        ]
    )
    assert out[1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "Wait."},
                {"functionCall": {"name": "weather", "args": {"city": "Rome"}}},
                {"functionCall": {"name": "now", "args": {}, "id": "x1"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"result": "18C"}}},
                {"functionResponse": {"name": "now", "response": {"time": "12:00"}, "id": "x1"}},
                {"text": "Thanks."},
            ],
        },
    ]


@pytest.mark.parametrize("raw", ["", " ", None])
def test_bug_9_empty_arguments_in_the_history_are_an_empty_object(raw: Any) -> None:
    out = contents([*PLAIN, {"role": "assistant", "tool_calls": [tool_call("call_a", arguments=raw)]}])
    assert out[1]["parts"] == [{"functionCall": {"name": "weather", "args": {}}}]


def test_bug_21_a_result_that_looks_like_a_schema_stays_text() -> None:
    text = '{"$ref": "#/$defs/A", "$defs": {"A": {}}}'
    out = contents(
        [
            *PLAIN,
            {"role": "assistant", "tool_calls": [tool_call("call_a")]},
            {"role": "tool", "tool_call_id": "call_a", "content": text},
        ]
    )
    assert out[2]["parts"][0]["functionResponse"]["response"] == {"result": text}


@pytest.mark.parametrize(("model", "inside"), [(FLASH, False), (G3, True)])
def test_pictures_in_a_result(model: str, inside: bool) -> None:
    content = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PNG}}]
    out = contents(
        [
            *PLAIN,
            {"role": "assistant", "tool_calls": [tool_call("call_a")]},
            {"role": "tool", "tool_call_id": "call_a", "content": content},
        ],
        model,
    )
    picture = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    response = {"name": "weather", "response": {"result": "see"}}
    if inside:
        assert out[2]["parts"] == [{"functionResponse": {**response, "parts": [picture]}}]
    else:
        assert out[2]["parts"] == [{"functionResponse": response}, picture]


def test_a_call_from_elsewhere_gets_the_stand_in_signature_on_models_that_check() -> None:
    history = [*PLAIN, {"role": "assistant", "tool_calls": [tool_call("call_a"), tool_call("call_b")]}]
    parts = contents(history, G3)[1]["parts"]
    assert [p.get("thoughtSignature") for p in parts] == ["skip_thought_signature_validator", None]
    assert all("thoughtSignature" not in p for p in contents(history, FLASH)[1]["parts"])


def test_signatures_are_found_where_applications_keep_them() -> None:
    google = {"extra_content": {"google": {"thought_signature": "S1"}}}
    stash = {"provider_specific_fields": {"thought_signature": "S2"}}
    calls = [tool_call("call_a", **google), tool_call("call_b", **stash), tool_call("call_c~S3==")]
    message = {"role": "assistant", "content": "t", "tool_calls": calls, "extra_content": {"google": {"thought_signature": "S0"}}}
    parts = contents([*PLAIN, message], G3)[1]["parts"]
    assert [p.get("thoughtSignature") for p in parts] == ["S0", "S1", "S2", "S3=="]


def test_an_id_with_the_mark_of_another_provider_is_no_signature() -> None:
    parts = contents([*PLAIN, {"role": "assistant", "tool_calls": [tool_call("a~b c!")]}])[1]["parts"]
    assert parts[0] == {"functionCall": {"name": "weather", "args": {"city": "Rome"}, "id": "a~b c!"}}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "user", "content": [{"type": "hologram"}]}], "hologram"),
        ([{"role": "robot", "content": "x"}], "robot"),
        ([{"role": "tool", "content": "x"}], "tool_call_id"),
        ([{"role": "user", "content": {"text": "x"}}], "string or a list"),
    ],
)
def test_what_cannot_be_said_is_a_clear_error(messages: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        body_of(FLASH, messages)


def test_tools_in_one_entry_without_empty_parameters() -> None:
    now = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}, "strict": True}}
    body = body_of(FLASH, tools=[WEATHER, now, {"type": "google_search", "google_search": {}}])
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "Weather of a city",
                    "parametersJsonSchema": WEATHER["function"]["parameters"],  # type: ignore[index]
                },
                {"name": "now"},
            ]
        },
        {"google_search": {}},
    ]
    assert body_of(FLASH, web_search_options={})["tools"] == [{"googleSearch": {}}]


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "weather"}}, {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_tool_choice(choice: Any, wire: dict[str, Any]) -> None:
    assert body_of(FLASH, tools=[WEATHER], tool_choice=choice)["toolConfig"] == {"functionCallingConfig": wire}
    assert "toolConfig" not in body_of(FLASH, tool_choice=choice)


STRICT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"p": {"$ref": "#/$defs/P"}, "q": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}},
    "required": ["p", "q"],
    "additionalProperties": False,
    "$defs": {"P": {"type": "object", "properties": {"k": {"const": 1}}, "title": "P"}},
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": STRICT}}


def test_bug_20_a_strict_schema_is_sent_as_json_schema() -> None:
    found = config(response_format=FORMAT)
    assert found["responseMimeType"] == "application/json"
    one = {"P": {"type": "object", "properties": {"k": {"enum": [1]}}, "title": "P"}}  # constants are not looked at
    assert found["responseJsonSchema"] == {k: v for k, v in STRICT.items() if k != "$schema"} | {"$defs": one}
    tool = {"type": "function", "function": {"name": "f", "parameters": STRICT, "strict": True}}
    declared = body_of(FLASH, tools=[tool])["tools"][0]["functionDeclarations"][0]
    assert declared == {"name": "f", "parametersJsonSchema": found["responseJsonSchema"]}


def test_bug_20_older_models_get_the_openapi_subset() -> None:
    assert config(OLD, response_format=FORMAT)["responseSchema"] == {
        "type": "object",
        "properties": {
            "p": {"type": "object", "properties": {"k": {"enum": [1]}}, "title": "P"},
            "q": {"type": "string", "nullable": True, "default": None},
        },
        "required": ["p", "q"],
    }


def test_a_schema_that_refers_to_itself_ends_and_a_dangling_one_is_named() -> None:
    loop = {"$ref": "#/$defs/N", "$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}}}
    assert "$ref" not in json.dumps(openapi_schema(loop))
    with pytest.raises(ValueError, match="#/\\$defs/Q"):
        openapi_schema({"$ref": "#/$defs/Q"})


def test_structured_output_with_tools_where_the_model_refuses_both() -> None:
    body = body_of(FLASH, tools=[WEATHER], response_format=FORMAT)
    assert [f["name"] for f in body["tools"][0]["functionDeclarations"]] == ["weather", "json_answer"]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert "generationConfig" not in body
    both = body_of(G3, tools=[WEATHER], response_format=FORMAT)
    assert "responseJsonSchema" in both["generationConfig"]
    assert len(both["tools"][0]["functionDeclarations"]) == 1
    hinted = body_of(FLASH, tools=[WEATHER], response_format={"type": "json_object"})
    assert "JSON" in hinted["systemInstruction"]["parts"][-1]["text"]


def test_json_object() -> None:
    assert config(response_format={"type": "json_object"}) == {"responseMimeType": "application/json"}
    assert config(response_format={"type": "text"}) == {}


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        (FLASH, "none", {"thinkingBudget": 0}),
        (PRO25, "none", {"thinkingBudget": 128}),
        (FLASH, "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        (FLASH, "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        (FLASH, "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        (G3, "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
        (G3, "none", {"thinkingLevel": "minimal"}),
        ("gemini/gemini-3-pro-preview", "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini/gemini-3-pro-preview", "medium", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini/gemini-3.1-pro-preview", "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        ("gemini/gemini-flash-latest", "xhigh", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini/gemini-flash-latest", "none", {"thinkingLevel": "low"}),
        ("gemini/gemini-3.7-flash", "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini/gemini-3.8-flash", "none", {"thinkingLevel": "low"}),
        ("gemini/gemini-3.6-flash", "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
        ("gemini/gemini-3.8-flash-lite", "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
    ],
)
def test_reasoning_effort(model: str, effort: str, thinking: dict[str, Any]) -> None:
    assert config(model, reasoning_effort=effort) == {"thinkingConfig": thinking}


def test_reasoning_effort_where_the_model_does_not_think() -> None:
    assert dropped("gemini/gemini-2.0-flash", reasoning_effort="high") == ("reasoning_effort",)
    assert dropped("gemini/gemini-2.0-flash", reasoning_effort="none") == ()
    with pytest.raises(ValueError, match="reasoning_effort"):
        config(reasoning_effort="lots")


def test_parameters_without_an_equivalent_are_named() -> None:
    assert dropped(FLASH, user="u", logit_bias={"1": 1}, parallel_tool_calls=False) == (
        "user", "logit_bias", "parallel_tool_calls",
    )  # fmt: skip
    assert dropped(FLASH, n=1, parallel_tool_calls=True, stream_options={"include_usage": True}) == ()
    with pytest.raises(ValueError, match="user"):
        body_of(FLASH, strict=True, user="u")


def test_unknown_names_pass_verbatim_and_settings_find_their_place() -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    body = body_of(
        FLASH, safetySettings=safety, cachedContent="c/1", thinking_config={"thinkingBudget": 1}, modalities=["text", "image"],
        generationConfig={"mediaResolution": "LOW"},
    )  # fmt: skip
    assert (body["safetySettings"], body["cachedContent"]) == (safety, "c/1")
    assert body["generationConfig"] == {
        "responseModalities": ["TEXT", "IMAGE"], "thinkingConfig": {"thinkingBudget": 1}, "mediaResolution": "LOW",
    }  # fmt: skip


def test_the_same_call_streamed_has_the_same_body() -> None:
    params: dict[str, Any] = {"tools": [WEATHER], "reasoning_effort": "low", "tool_choice": "required"}
    assert body_of(FLASH, stream=True, **params) == body_of(FLASH, **params)


# ---------------------------------------------------------------- embeddings
def embedding(to: Any, **params: Any) -> Any:
    return to.dialect.build_request(msgspec.structs.replace(call([], **params), operation="embedding"), to)


def test_embeddings_go_in_one_batch() -> None:
    to = target("gemini/gemini-embedding-001")
    request = embedding(to, input=["a", "b"], dimensions=8, encoding_format="float", user="u", taskType="RETRIEVAL_QUERY")
    assert request.url.endswith("/v1beta/models/gemini-embedding-001:batchEmbedContents")
    assert request.dropped == ("user",)
    one = {"model": "models/gemini-embedding-001", "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8}
    assert json.loads(request.body)["requests"] == [{**one, "content": {"parts": [{"text": t}]}} for t in "ab"]
    with pytest.raises(ValueError, match="string"):
        embedding(to, input=[[1, 2]])


def test_embeddings_on_vertex() -> None:
    to = replace(vertex("global", GOOGLE_CLOUD_PROJECT="p"), model="text-embedding-005")
    request = embedding(to, input="a", dimensions=8)
    assert request.url.endswith("/publishers/google/models/text-embedding-005:predict")
    assert json.loads(request.body) == {"instances": [{"content": "a"}], "parameters": {"outputDimensionality": 8}}


def test_a_link_of_unknown_type_is_told_by_the_part_it_stands_in() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "https://h/picture?id=1"}}, {"type": "file", "file": {"file_url": "https://h/paper"}}]
    content = body_of("gemini/gemini-2.5-flash", [{"role": "user", "content": parts}])["contents"][0]["parts"]
    assert [p["fileData"]["mimeType"] for p in content] == ["image/jpeg", "application/pdf"]
