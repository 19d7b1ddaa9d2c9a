"""What a call becomes on Bedrock's wire; botocore's service model is asked whether the bodies are well formed."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import pytest

from opentracy.core.wire import Call, Credentials, HttpRequest, Target
from opentracy.providers import registry
from opentracy.providers.bedrock import DIALECT

CLAUDE = "anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-lite-v1:0"
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "now", "description": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}}
OTHER = {"type": "function", "function": {"name": "dice"}}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nrest").decode()
PDF = base64.b64encode(b"%PDF-1.4").decode()
ENV = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "geheim", "AWS_REGION": "eu-west-1"}


def target(model: str = NOVA, **extra: str) -> Target:
    return Target(
        "bedrock", model, DIALECT, "https://bedrock-runtime.us-east-1.amazonaws.com", Credentials(None, extra or {"access_key": "A", "secret_key": "S"})
    )


def request(messages: list[dict[str, Any]] | None = None, model: str = NOVA, *, stream: bool = False, strict: bool = False, **params: Any) -> HttpRequest:
    return DIALECT.build_request(Call(messages or [USER], params, stream=stream, strict_params=strict), target(model))


def body(*args: Any, **kw: Any) -> dict[str, Any]:
    made = json.loads(request(*args, **kw).body)
    problems = check(made)
    assert not problems, problems
    return made


@cache
def _validator() -> Any:
    session = pytest.importorskip("botocore.session").get_session()
    shape = session.get_service_model("bedrock-runtime").operation_model("Converse").input_shape
    return pytest.importorskip("botocore.validate").ParamValidator(), shape


def check(made: dict[str, Any]) -> str:
    """What botocore would refuse to send."""
    validator, shape = _validator()
    report = validator.validate({"modelId": "m", **made}, shape)
    return report.generate_report() if report.has_errors() else ""


def test_a_plain_request() -> None:
    sent = request([{"role": "system", "content": "be brief"}, USER], max_tokens=9, temperature=0.2, top_p=0.5, stop="END")
    assert (sent.method, sent.url) == ("POST", "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-lite-v1%3A0/converse")
    assert json.loads(sent.body) == {
        "messages": [{"role": "user", "content": [{"text": "hi"}]}], "system": [{"text": "be brief"}],
        "inferenceConfig": {"maxTokens": 9, "temperature": 0.2, "topP": 0.5, "stopSequences": ["END"]},
    }  # fmt: skip
    assert sent.dropped == ()


def test_a_stream_differs_only_in_its_path() -> None:
    """KNOWN_BUGS 23."""
    plain, stream = request(tools=[TOOL]), request(tools=[TOOL], stream=True, stream_options={"include_usage": True})
    assert plain.body == stream.body
    assert stream.url == plain.url + "-stream"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "us.anthropic.claude-haiku-4-5-20251001-v1%3A0"),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.x.y-v1:0", "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.x.y-v1%3A0"),
    ],
)
def test_model_ids_are_encoded(model: str, path: str) -> None:
    assert request(model=model).url.endswith(f".com/model/{path}/converse")


def test_region_and_profile_ids_through_the_registry() -> None:
    made = registry.target("bedrock/eu." + CLAUDE, env=ENV)
    assert made.base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    assert made.model == "eu." + CLAUDE
    signed = DIALECT.sign(DIALECT.build_request(Call([USER], {}), made), made, 1767323045)
    assert "/eu-west-1/bedrock/aws4_request" in signed.headers["authorization"]
    assert registry.target("us." + CLAUDE, env=ENV).provider == "bedrock"


def test_an_arn_of_another_region_goes_to_its_own_endpoint() -> None:
    made = registry.target("bedrock/arn:aws:bedrock:ap-south-1:1:provisioned-model/abc", env=ENV)
    signed = DIALECT.sign(DIALECT.build_request(Call([USER], {}), made), made, 0)
    assert signed.url.startswith("https://bedrock-runtime.ap-south-1.amazonaws.com/")
    assert "/ap-south-1/bedrock/" in signed.headers["authorization"]


def test_the_signature_is_botocore_s() -> None:
    auth, awsrequest = pytest.importorskip("botocore.auth"), pytest.importorskip("botocore.awsrequest")
    credentials = pytest.importorskip("botocore.credentials")
    made = target(CLAUDE, access_key="AKID", secret_key="S", session_token="T")
    plain = DIALECT.build_request(Call([USER], {}), made)
    signed = DIALECT.sign(plain, made, 1767323045)
    oracle = awsrequest.AWSRequest("POST", plain.url, dict(plain.headers), plain.body)
    oracle.headers["X-Amz-Date"] = oracle.context["timestamp"] = "20260102T030405Z"
    oracle.headers["X-Amz-Security-Token"] = "T"
    signer = auth.SigV4Auth(credentials.Credentials("AKID", "S", "T"), "bedrock", "us-east-1")
    expected = signer.signature(signer.string_to_sign(oracle, signer.canonical_request(oracle)), oracle)
    assert signed.headers["authorization"].endswith(f"Signature={expected}")
    assert "S" not in repr(made.credentials)


def test_a_bearer_key_wins_and_is_not_signed() -> None:
    made = registry.target("bedrock/" + NOVA, env={**ENV, "AWS_BEARER_TOKEN_BEDROCK": "bearer"})
    sent = DIALECT.build_request(Call([USER], {}), made)
    assert sent.headers["authorization"] == "Bearer bearer"
    assert DIALECT.sign(sent, made, 0) is sent


def test_without_credentials_the_request_goes_unsigned() -> None:
    made = registry.target("bedrock/" + NOVA, env={}, api_base="http://127.0.0.1:9")
    sent = DIALECT.build_request(Call([USER], {}), made)
    assert "authorization" not in DIALECT.sign(sent, made, 0).headers
    with pytest.raises(ValueError, match="No API key for bedrock"):
        registry.target("bedrock/" + NOVA, env={})


def test_known_bugs_16_results_stand_in_one_turn_in_order() -> None:
    history = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "now", "arguments": '{"zone":"x"}'}},
            {"id": "b", "type": "function", "function": {"name": "dice", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "b", "content": "6"},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "12:00"}]},
        {"role": "user", "content": "go on"},
    ]  # fmt: skip
    made = body(history, tools=[TOOL, OTHER])
    assert made["messages"][1:] == [
        {"role": "assistant", "content": [
            {"toolUse": {"toolUseId": "a", "name": "now", "input": {"zone": "x"}}},
            {"toolUse": {"toolUseId": "b", "name": "dice", "input": {}}},
        ]},
        {"role": "user", "content": [
            {"toolResult": {"toolUseId": "b", "content": [{"text": "6"}]}},
            {"toolResult": {"toolUseId": "a", "content": [{"text": "12:00"}]}},
            {"text": "go on"},
        ]},
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", ["", " ", "null", None])
def test_known_bugs_9_empty_arguments_are_an_empty_object(arguments: Any) -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "now", "arguments": arguments}}]
    made = body([USER, {"role": "assistant", "content": None, "tool_calls": calls}, {"role": "tool", "tool_call_id": "a", "content": "x"}])
    assert made["messages"][1]["content"][0]["toolUse"]["input"] == {}


def test_ids_that_the_wire_refuses_are_rewritten_alike() -> None:
    foreign = "call_" + "x" * 80 + "|é"
    calls = [{"id": foreign, "type": "function", "function": {"name": "now", "arguments": "{}"}}]
    made = body([USER, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": foreign, "content": ""}], tools=[TOOL])
    use, result = made["messages"][1]["content"][0]["toolUse"], made["messages"][2]["content"][0]["toolResult"]
    assert use["toolUseId"] == result["toolUseId"] != foreign
    assert result["content"] == [{"json": {}}]


def test_a_failed_tool_says_so() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}]
    made = body([USER, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": "a", "content": "boom", "is_error": True}], tools=[TOOL])
    assert made["messages"][2]["content"][0]["toolResult"]["status"] == "error"


def test_a_history_with_calls_always_declares_tools() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "gone", "arguments": "{}"}}]
    history = [USER, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": "a", "content": "x"}]
    assert [t["toolSpec"]["name"] for t in body(history)["toolConfig"]["tools"]] == ["gone"]
    assert [t["toolSpec"]["name"] for t in body(history, tools=[TOOL], tool_choice="none")["toolConfig"]["tools"]] == ["now"]
    assert "toolConfig" not in body(tools=[TOOL], tool_choice="none")
    assert "toolConfig" not in body(tools=[])


def test_tools_and_their_choice() -> None:
    made = body(tools=[TOOL, OTHER], tool_choice="required")
    assert made["toolConfig"] == {
        "tools": [
            {"toolSpec": {"name": "now", "description": "clock", "inputSchema": {"json": TOOL["function"]["parameters"]}}},  # type: ignore[index]
            {"toolSpec": {"name": "dice", "description": "dice", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
        ],
        "toolChoice": {"any": {}},
    }
    named = {"type": "function", "function": {"name": "dice"}}
    assert body(tools=[TOOL, OTHER], tool_choice=named)["toolConfig"]["toolChoice"] == {"tool": {"name": "dice"}}
    only = body(model="mistral.mistral-large-3", tools=[TOOL, OTHER], tool_choice=named)["toolConfig"]
    assert ([t["toolSpec"]["name"] for t in only["tools"]], only["toolChoice"]) == (["dice"], {"any": {}})
    assert "toolChoice" not in body(tools=[TOOL], tool_choice="auto")["toolConfig"]


def test_turns_alternate_and_begin_with_the_user() -> None:
    made = body([{"role": "assistant", "content": "I began"}, USER, {"role": "user", "content": " \n"}, {"role": "user", "content": "more"}, {"role": "assistant", "content": "so: "}])
    assert [(m["role"], [b["text"] for b in m["content"]]) for m in made["messages"]] == [
        ("user", ["(The conversation begins with the assistant.)"]), ("assistant", ["I began"]), ("user", ["hi", "more"]), ("assistant", ["so:"]),
    ]


def test_a_system_prompt_alone_is_said_by_the_user() -> None:
    assert body([{"role": "system", "content": "hello"}]) == {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}


def test_pictures_and_documents() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpg;base64,{PNG}"}},
        {"type": "image_url", "image_url": {"url": "s3://bucket/cat.webp"}},
        {"type": "file", "file": {"filename": "my_report  (1).v2.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
        {"type": "file", "file": {"filename": "my report (1) v2.pdf", "file_data": PDF}},
    ]
    blocks = body([{"role": "user", "content": content}])["messages"][0]["content"]
    assert blocks == [
        {"image": {"format": "jpeg", "source": {"bytes": PNG}}},
        {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/cat.webp"}}}},
        {"document": {"format": "pdf", "name": "my report (1) v2", "source": {"bytes": PDF}}},
        {"document": {"format": "pdf", "name": "my report (1) v2 2", "source": {"bytes": PDF}}},
        {"text": "(See the attached document.)"},
    ]


def test_a_picture_without_a_type_is_known_by_its_first_bytes() -> None:
    part = {"type": "image_url", "image_url": {"url": f"data:;base64,{PNG}"}}
    assert body([{"role": "user", "content": [part]}])["messages"][0]["content"] == [{"image": {"format": "png", "source": {"bytes": PNG}}}]


def test_pictures_in_a_tool_s_answer() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}]
    answer = [{"type": "text", "text": "here"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]
    made = body([USER, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": "a", "content": answer}], tools=[TOOL])
    assert made["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "a", "content": [{"text": "here"}, {"image": {"format": "png", "source": {"bytes": PNG}}}]}}
    ]


def test_blocks_in_converse_s_own_form_pass() -> None:
    own = {"guardContent": {"text": {"text": "ground", "qualifiers": ["grounding_source"]}}}
    made = body([{"role": "user", "content": [own, {"text": "plain"}]}], guardrailConfig={"guardrailIdentifier": "g", "guardrailVersion": "1"})
    assert made["messages"][0]["content"] == [own, {"text": "plain"}]
    assert made["guardrailConfig"]["guardrailIdentifier"] == "g"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"type": "image_url", "image_url": {"url": "https://x.test/cat.png"}}], r"cannot read the URL https://x.test/cat.png: send the data itself"),
        ([{"type": "file", "file": {"file_id": "f1", "filename": "a.pdf"}}], "uploaded file's id"),
        ([{"type": "file", "file": {"filename": "a.exe", "file_data": PDF, "format": "application/x-msdownload"}}], "takes no 'application/x-msdownload' file"),
        ([{"type": "mystery"}], "no content part of type 'mystery'"),
        ([{"type": "image_url", "image_url": {"url": "data:;base64,AAAA"}}], "needs the type of an image"),
        (7, "string or a list of parts"),
    ],
)  # fmt: skip
def test_content_that_cannot_be_said(content: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        request([{"role": "user", "content": content}])


def test_a_role_nobody_knows() -> None:
    with pytest.raises(ValueError, match=r"messages\[1\]: unknown role 'wizard'"):
        request([USER, {"role": "wizard", "content": "x"}])


def test_cache_marks_become_cache_points() -> None:
    made = body(
        [
            {"role": "system", "content": [{"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": [{"type": "text", "text": "long too", "cache_control": {"type": "ephemeral", "ttl": "1h"}}, {"type": "text", "text": "q"}]},
        ],
        tools=[{**TOOL, "cache_control": {"type": "ephemeral"}}, OTHER],
    )
    assert made["system"] == [{"text": "long"}, {"cachePoint": {"type": "default"}}]
    assert made["messages"][0]["content"] == [{"text": "long too"}, {"cachePoint": {"type": "default", "ttl": "1h"}}, {"text": "q"}]
    assert [next(iter(t)) for t in made["toolConfig"]["tools"]] == ["toolSpec", "cachePoint", "toolSpec"]


def test_known_bugs_17_and_18_signed_thoughts_go_back_first_and_unchanged() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "hm", "signature": "sig1"}, {"type": "thinking", "thinking": "", "signature": "sig2"},
        {"type": "redacted_thinking", "data": "c2VjcmV0"}, {"type": "thinking", "thinking": "unsigned"},
    ]
    said = {"role": "assistant", "content": "four", "reasoning_content": "hm", "thinking_blocks": thoughts}
    blocks = body([USER, said, USER], CLAUDE)["messages"][1]["content"]
    assert blocks == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig1"}}},
        {"reasoningContent": {"reasoningText": {"text": "", "signature": "sig2"}}},
        {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
        {"text": "four"},
    ]
    assert body([USER, said, USER])["messages"][1]["content"] == [{"text": "four"}]


def test_thoughts_between_text_and_calls_keep_their_place() -> None:
    said = {
        "role": "assistant", "content": "one two", "tool_calls": [{"id": "a", "function": {"name": "now", "arguments": "{}"}}],
        "thinking_blocks": [{"type": "thinking", "thinking": "x", "signature": "s1"}, {"type": "thinking", "thinking": "y", "signature": "s2", "after": [3, 0]}],
    }
    blocks = body([USER, said, {"role": "tool", "tool_call_id": "a", "content": "r"}], CLAUDE, tools=[TOOL])["messages"][1]["content"]
    assert [next(iter(b)) for b in blocks] == ["reasoningContent", "text", "reasoningContent", "text", "toolUse"]
    assert [b["text"] for b in blocks if "text" in b] == ["one", " two"]


def test_parameters_of_the_model_pass_through() -> None:
    made = body(model=CLAUDE, top_k=5, anthropic_beta=["x"], additionalModelRequestFields={"a": 1}, performanceConfig={"latency": "optimized"}, inferenceConfig={"maxTokens": 3})
    assert made["additionalModelRequestFields"] == {"a": 1, "top_k": 5, "anthropic_beta": ["x"]}
    assert made["performanceConfig"] == {"latency": "optimized"}
    assert made["inferenceConfig"] == {"maxTokens": 3}
    assert body(top_k=5)["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 5}}


def test_what_has_no_equivalent_is_dropped_and_named() -> None:
    sent = request(seed=1, n=2, user="u", logit_bias={"1": 1}, presence_penalty=1, parallel_tool_calls=False, logprobs=True)
    assert sorted(sent.dropped) == ["logit_bias", "logprobs", "n", "parallel_tool_calls", "presence_penalty", "seed", "user"]
    assert json.loads(sent.body).keys() == {"messages"}
    assert request(n=1, parallel_tool_calls=True, presence_penalty=0, logprobs=False).dropped == ()
    with pytest.raises(ValueError, match="bedrock has no equivalent for: seed"):
        request(seed=1, strict=True)


def test_labels_and_tiers() -> None:
    made = body(metadata={"team": "a"}, service_tier="priority")
    assert (made["requestMetadata"], made["serviceTier"]) == ({"team": "a"}, {"type": "priority"})
    assert request(metadata={"a": {}}, service_tier="scale").dropped == ("metadata", "service_tier")
    assert "serviceTier" not in body(service_tier="auto")


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "description": "a city", "schema": SCHEMA}}


@pytest.mark.parametrize("model", [CLAUDE, "us." + CLAUDE, "openai.gpt-oss-120b-1:0", "qwen.qwen3-32b-v1:0"])
def test_structured_output_where_the_model_has_it(model: str) -> None:
    made = body(model=model, response_format=FORMAT)
    inner = made["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert made["outputConfig"]["textFormat"]["type"] == "json_schema"
    closed = {**SCHEMA, "additionalProperties": False}  # an open object is refused
    assert (json.loads(inner["schema"]), inner["name"], inner["description"]) == (closed, "city", "a city")
    assert "toolConfig" not in made


@pytest.mark.parametrize("model", [NOVA, "anthropic.claude-3-haiku-20240307-v1:0"])
def test_structured_output_through_a_forced_tool(model: str) -> None:
    made = body(model=model, response_format=FORMAT)
    assert made["toolConfig"]["toolChoice"] == {"tool": {"name": "json_answer"}}
    assert made["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"] == {"json": SCHEMA}
    both = body(model=model, response_format=FORMAT, tools=[TOOL])["toolConfig"]
    assert [t["toolSpec"]["name"] for t in both["tools"]] == ["now", "json_answer"]
    assert both["toolChoice"] == {"any": {}}


def test_json_object_is_asked_for_in_words() -> None:
    assert "single JSON object" in body(response_format={"type": "json_object"})["system"][0]["text"]
    assert "system" not in body(response_format={"type": "text"})
    with pytest.raises(ValueError, match="grammar"):
        request(response_format={"type": "grammar"})


def test_strict_tools_only_where_the_model_checks() -> None:
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]
    assert body(model=CLAUDE, tools=[strict])["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True
    assert "strict" not in body(tools=[strict])["toolConfig"]["tools"][0]["toolSpec"]


def test_limits_that_structured_output_cannot_check_are_said_in_words() -> None:
    limited = {"type": "object", "properties": {"n": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}}}
    fmt = {"type": "json_schema", "json_schema": {"name": "x", "schema": limited}}
    inner = body(model=CLAUDE, response_format=fmt)["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    sent = json.loads(inner["schema"])
    assert sent["additionalProperties"] is False
    assert sent["properties"]["n"] == {"type": "array", "items": {"type": "integer"}, "description": "maxItems: 3"}
    strict = {"type": "function", "function": {"name": "f", "parameters": limited, "strict": True}}
    spec = body(model=CLAUDE, tools=[strict])["toolConfig"]["tools"][0]["toolSpec"]
    assert spec["inputSchema"]["json"] == sent
    loose = {"type": "function", "function": {"name": "f", "parameters": limited}}
    spec = body(model=CLAUDE, tools=[loose])["toolConfig"]["tools"][0]["toolSpec"]
    assert spec["inputSchema"]["json"] == limited


def test_one_call_at_a_time_is_said_to_claude_in_its_own_words() -> None:
    made = body(model=CLAUDE, tools=[TOOL], parallel_tool_calls=False)
    assert made["additionalModelRequestFields"] == {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    assert "toolChoice" not in made["toolConfig"], "the two exclude each other"
    forced = body(model=CLAUDE, tools=[TOOL], parallel_tool_calls=False, tool_choice="required")
    assert forced["additionalModelRequestFields"]["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    pick = {"type": "function", "function": {"name": "now"}}
    named = body(model=CLAUDE, tools=[TOOL], parallel_tool_calls=False, tool_choice=pick)
    wanted = {"type": "tool", "name": "now", "disable_parallel_tool_use": True}
    assert named["additionalModelRequestFields"]["tool_choice"] == wanted
    assert request(model=CLAUDE, parallel_tool_calls=False).dropped == ()
    assert request(model=NOVA, tools=[TOOL], parallel_tool_calls=False).dropped == ("parallel_tool_calls",)
    assert "additionalModelRequestFields" not in body(model=CLAUDE, tools=[TOOL], parallel_tool_calls=True)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("us.anthropic.claude-opus-5-5-v1", {"output_config": {"effort": "low"}}),
        ("global.anthropic.claude-sonnet-5-5", {"thinking": {"type": "between_tools"}}),
        ("anthropic.claude-opus-5", {"thinking": {"type": "disabled"}}),
        ("anthropic.claude-haiku-5-5-v1:0", {"thinking": {"type": "disabled"}}),
        ("anthropic.claude-opus-4-6-v1", None), (CLAUDE, None), ("openai.gpt-oss-20b-1:0", None), (NOVA, None),
        ("us.openai.gpt-5.6-v1:0", {"reasoning": {"effort": "none"}}),
    ],
)  # fmt: skip
def test_no_thoughts_as_far_as_the_model_can_do_without(model: str, fields: Any) -> None:
    assert body(model=model, reasoning_effort="none").get("additionalModelRequestFields") == fields


def test_openais_models_take_fewer_settings_here() -> None:
    sent = request(model="us.openai.gpt-5.6-v1:0", temperature=0.1, top_p=0.2, stop=["x"], max_tokens=5, reasoning_effort="high")
    assert sorted(sent.dropped) == ["stop", "temperature", "top_p"]
    made = json.loads(sent.body)
    assert made["inferenceConfig"] == {"maxTokens": 5}
    assert made["additionalModelRequestFields"] == {"reasoning": {"effort": "high"}}
    open_weights = request(model="openai.gpt-oss-120b-1:0", temperature=0.1, top_p=0.2, stop=["x"])
    assert open_weights.dropped == ("stop",)
    assert json.loads(open_weights.body)["inferenceConfig"] == {"temperature": 0.1, "topP": 0.2}


def test_reasoning_effort_by_the_switch_of_the_model() -> None:
    made = body(model=CLAUDE, reasoning_effort="low", temperature=0.3)
    assert made["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    assert made["inferenceConfig"]["maxTokens"] > 2048
    assert request(model=CLAUDE, reasoning_effort="low", temperature=0.3).dropped == ("temperature",)
    adaptive = body(model="us.anthropic.claude-opus-4-6-v1", reasoning_effort="medium")["additionalModelRequestFields"]
    assert (adaptive["thinking"]["type"], adaptive["output_config"]) == ("adaptive", {"effort": "medium"})
    nova = body(model="us.amazon.nova-2-lite-v1:0", reasoning_effort="xhigh")["additionalModelRequestFields"]
    assert nova == {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}
    assert body(model="openai.gpt-oss-20b-1:0", reasoning_effort="high")["additionalModelRequestFields"] == {"reasoning_effort": "high"}
    assert request(reasoning_effort="low").dropped == ("reasoning_effort",)
    assert request(reasoning_effort="none").dropped == ()
    own = body(model=CLAUDE, reasoning_effort="low", thinking={"type": "disabled"})
    assert own["additionalModelRequestFields"] == {"thinking": {"type": "disabled"}}
    with pytest.raises(ValueError, match="reasoning_effort must be one of"):
        request(model=CLAUDE, reasoning_effort="extreme")


def test_claude_cannot_be_forced_while_it_thinks() -> None:
    sent = request(model=CLAUDE, tools=[TOOL], tool_choice="required", reasoning_effort="low")
    assert sent.dropped == ("tool_choice",)
    assert "toolChoice" not in json.loads(sent.body)["toolConfig"]
    older = request(model="anthropic.claude-3-7-sonnet-20250219-v1:0", response_format=FORMAT, reasoning_effort="low")
    assert "toolChoice" not in json.loads(older.body)["toolConfig"]
    assert older.dropped == ()


def test_nova_at_high_effort_takes_no_other_settings() -> None:
    sent = request(model="amazon.nova-2-lite-v1:0", reasoning_effort="high", max_tokens=5, temperature=0.1, top_p=0.2)
    assert sent.dropped == ("max_tokens", "temperature", "top_p")
    assert "inferenceConfig" not in json.loads(sent.body)
    kept = body(model="amazon.nova-2-lite-v1:0", reasoning_effort="medium", max_tokens=5, temperature=0.1)
    assert kept["inferenceConfig"] == {"maxTokens": 5, "temperature": 0.1}


def test_a_budget_fits_under_the_cap_or_is_dropped() -> None:
    made = body(model=CLAUDE, reasoning_effort="high", max_tokens=4000)
    assert made["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 2000
    assert request(model=CLAUDE, reasoning_effort="high", max_tokens=500).dropped == ("reasoning_effort",)
    calls = [{"id": "a", "function": {"name": "now", "arguments": "{}"}}]
    loop = [USER, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": "a", "content": "r"}]
    assert request(loop, CLAUDE, tools=[TOOL], reasoning_effort="high").dropped == ("reasoning_effort",)


def test_sampling_rules_of_claude() -> None:
    assert request(model=CLAUDE, temperature=0.5, top_p=0.5).dropped == ("top_p",)
    assert body(temperature=1.7)["inferenceConfig"]["temperature"] == 1
    assert body(temperature=0.5, top_p=0.5)["inferenceConfig"] == {"temperature": 0.5, "topP": 0.5}


def test_embeddings() -> None:
    def embed(model: str, **params: Any) -> tuple[str, dict[str, Any]]:
        sent = DIALECT.build_request(Call([], params, operation="embedding"), target(model))
        return sent.url.rpartition("/model/")[2], json.loads(sent.body)

    assert embed("amazon.titan-embed-text-v2:0", input="a", dimensions=256, normalize=True) == (
        "amazon.titan-embed-text-v2%3A0/invoke", {"inputText": "a", "dimensions": 256, "normalize": True},
    )
    assert embed("cohere.embed-multilingual-v3", input=["a", "b"])[1] == {"texts": ["a", "b"], "input_type": "search_document"}
    for model, given, words in (("amazon.titan-embed-text-v2:0", ["a", "b"], "one text a request"), (CLAUDE, "a", "no embeddings for"), ("cohere.embed-english-v3", [[1]], "no token ids")):
        with pytest.raises(ValueError, match=words):
            embed(model, input=given)
