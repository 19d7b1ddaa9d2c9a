"""A whole answer of the OpenAI family as a `chat.completion` exactly in OpenAI's form.

A clean answer stays the object that the JSON decoder made; only what deviates is touched. Streams stand in
`openai_stream`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from ..core.failure import transport_failure
from ..core.jsonio import BadJson, decode
from ..core.surcharges import with_tier
from ..core.usage import normalise_openai
from ..core.wire import Call, Failure, HttpResponse, Passing, Target
from .insides import is_text
from .openai_content import KNOWN_FINISH, ThinkSplitter, arguments_text, finish_word, logprobs, split_parts
from .openai_errors import choice_error, found_error, request_id
from .openai_quirks import DEFAULT, Quirks, thinks_in_text

_Text = Annotated[str, msgspec.Meta(min_length=1)]
Tier = Literal["default", "standard", "auto", "on_demand"]
"""The tiers of which a price table is about; an answer of another one is not passed on unread."""


class CleanMessage(msgspec.Struct, gc=False):
    """A message in which nothing is to be mended."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: UnsetType = UNSET
    reasoning: UnsetType = UNSET


class CleanLogprobs(msgspec.Struct, gc=False):
    """Log probabilities in OpenAI's form."""

    content: msgspec.Raw


class CleanChoice(msgspec.Struct, gc=False):
    """The only choice, without an error or the rest of a stream in it."""

    index: Literal[0]
    message: CleanMessage
    finish_reason: Literal["stop", "length", "content_filter"]
    logprobs: CleanLogprobs | None = None
    delta: UnsetType = UNSET
    error: UnsetType = UNSET


class _Clean(msgspec.Struct, gc=False):
    """What an answer looks like in which nothing is to be mended; other fields may stand beside these."""

    id: _Text
    object: Literal["chat.completion"]
    created: int
    model: _Text
    choices: tuple[CleanChoice]
    usage: dict[str, Any]
    error: None = None
    service_tier: Tier | None = None


_clean = msgspec.json.Decoder(_Clean).decode


def parse_response(call: Call, target: Target, response: HttpResponse) -> dict[str, Any] | Passing | Failure:
    """The answer, or why it is none."""
    if call.forwards:
        passing = _passing(call, target, response.body)
        if passing is not None:
            return passing
    return _parse(call, target, response)


def _passing(call: Call, target: Target, body: bytes) -> Passing | None:
    """The answer as it came, where `_parse` would change nothing in it."""
    if call.operation != "chat" or call.stream or b'"_' in body:
        return None
    if thinks_in_text(target.quirks or DEFAULT, target.model):
        return None
    try:
        found = _clean(body)
    except (ValueError, RecursionError):
        return None
    usage = found.usage
    if normalise_openai(usage) is not usage or not is_text(body):
        return None
    return Passing(body, found.model, usage, found.choices[0].finish_reason)


def _parse(call: Call, target: Target, response: HttpResponse) -> dict[str, Any] | Failure:
    if not response.body.strip():
        failure = transport_failure("empty_body", f"the provider answered {response.status} with an empty body")
        failure.status = response.status
        failure.request_id = request_id(response.headers)
        return failure
    try:
        body = decode(response.body)
    except BadJson:
        return _bad(response, "not JSON")
    if not isinstance(body, dict):
        return _bad(response, f"a JSON {type(body).__name__} where an object was expected")
    error = found_error(body, response.headers)
    if error is not None:
        return error
    if call.operation == "embedding":
        return _embeddings(body, target, response)
    return _completion(body, call, target, response)


def _bad(response: HttpResponse, why: str) -> Failure:
    shown = response.body[:800].decode("utf-8", "replace")[:200]
    kind = response.content_type or "no content type"
    return Failure(
        "bad_body", f"not a chat completion: {why} ({kind}): {shown}",
        status=response.status, request_id=request_id(response.headers),
    )  # fmt: skip


def _embeddings(body: dict[str, Any], target: Target, response: HttpResponse) -> dict[str, Any] | Failure:
    data = body.get("data")
    if not isinstance(data, list) or not data or not all(isinstance(d, dict) and "embedding" in d for d in data):
        return _bad(response, "`data` holds no embeddings")
    body["object"] = "list"
    body.setdefault("model", target.model)
    for i, item in enumerate(data):
        item.setdefault("object", "embedding")
        item.setdefault("index", i)
    usage = body.get("usage")
    if isinstance(usage, dict):
        body["usage"] = normalise_openai({"completion_tokens": 0, **usage})
    return body


def _completion(body: dict[str, Any], call: Call, target: Target, response: HttpResponse) -> dict[str, Any] | Failure:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        return _bad(response, "`choices` is missing or empty")
    quirks: Quirks = target.quirks or DEFAULT
    thinks = thinks_in_text(quirks, target.model)
    for i, choice in enumerate(choices):
        if not isinstance(choice, dict) or not (isinstance(choice.get("message"), dict) or _joined(choice)):
            return _bad(response, f"choice {i} has no message")
        if thinks or not _is_clean(choice, i):
            error = choice_error(choice, response.headers)
            if error is not None:
                return error
            _mend_choice(choice, i, f"{call.fallback_id}_{i}" if i else call.fallback_id, thinks)
    if type(body.get("id")) is not str or not body["id"]:
        body["id"] = f"chatcmpl-{call.fallback_id}"
    if type(body.get("created")) is not int:
        body["created"] = _seconds(body.get("created"), call.created)
    if type(body.get("model")) is not str or not body["model"]:
        body["model"] = target.model
    body["object"] = "chat.completion"
    usage = body.get("usage")
    if usage is None:
        groq = body.get("x_groq")
        usage = groq.get("usage") if isinstance(groq, dict) else None
    tier = body.get("service_tier_used") or body.get("service_tier")
    body["usage"] = with_tier(normalise_openai(usage, fold_reasoning=quirks.reasoning_outside), tier)
    return body


def _joined(choice: dict[str, Any]) -> bool:
    """Mistral may say several `messages` in place of one: their texts become the choice's message, and the calls of the
    last one (those before it the provider has run itself). The list stays beside it."""
    found = choice.get("messages")
    if not isinstance(found, list):
        return False
    said = [m for m in found if isinstance(m, dict) and m.get("role") in (None, "assistant")]
    parts: list[Any] = []
    for content in (m.get("content") for m in said):
        parts += content if isinstance(content, list) else [content] if isinstance(content, str) else []
    if said:
        choice["message"] = {**said[-1], "content": parts or None}
    return bool(said)


def _seconds(value: Any, default: int) -> int:
    """Some servers send the time with a fraction."""
    return int(value) if isinstance(value, float) and 0 <= value < 1e11 else default


def _is_clean(choice: dict[str, Any], index: int) -> bool:
    """Whether a choice needs no work: the common case, decided in well under a microsecond."""
    message = choice["message"]
    content = message.get("content", 0)
    return (
        (type(content) is str or content is None)
        and message.get("role") == "assistant"
        and choice.get("index") == index
        and type(finish := choice.get("finish_reason")) is str
        and finish in KNOWN_FINISH
        and "tool_calls" not in message
        and "reasoning" not in message
        and type(message.get("reasoning_content", "")) is str
        and "delta" not in choice
        and "error" not in choice
        and ((told := choice.get("logprobs")) is None or (type(told) is dict and "content" in told))
    )


def _mend_choice(choice: dict[str, Any], index: int, fallback_id: str, thinks: bool) -> None:
    message = choice["message"]
    choice["index"] = index
    message["role"] = "assistant"
    choice.pop("delta", None)  # left over from the server's own stream
    choice.pop("error", None)
    _mend_text(message, thinks)
    if "logprobs" in choice:
        choice["logprobs"] = logprobs(choice["logprobs"])
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        message["tool_calls"] = whole_calls(calls, fallback_id)
    else:
        message.pop("tool_calls", None)
    choice["finish_reason"] = finish_word(choice.get("finish_reason"), "tool_calls" in message)


def _mend_text(message: dict[str, Any], thinks: bool) -> None:
    """`content` as text or None, the reasoning under its one name."""
    content = message.get("content")
    reasoning = message.pop("reasoning", None)
    if isinstance(content, list):
        content, thought, rest = split_parts(content)
        reasoning = reasoning or thought
        if rest:
            message["references"] = rest
    elif content is not None and not isinstance(content, str):
        content = arguments_text(content)
    # an end tag that never came means a cut answer: it stays as it is rather than turning into reasoning without text
    if thinks and content and "</think>" in content and not (reasoning or message.get("reasoning_content")):
        splitter = ThinkSplitter()
        pieces = (splitter.feed(content), splitter.close())
        reasoning = "".join(p[0] for p in pieces)
        content = "".join(p[1] for p in pieces)
    message["content"] = content
    for name in ("reasoning_content", "refusal"):
        if not isinstance(message.get(name, ""), (str, type(None))):
            del message[name]
    if isinstance(reasoning, str) and reasoning and not message.get("reasoning_content"):
        message["reasoning_content"] = reasoning


def whole_calls(calls: list[Any], fallback_id: str) -> list[dict[str, Any]]:
    """Tool calls in OpenAI's form: ids that exist and differ, arguments as text, no stream index."""
    out: list[dict[str, Any]] = []
    ids: set[str] = set()
    for n, call in enumerate(c for c in calls if isinstance(c, dict)):
        call.pop("index", None)
        given = call.get("id")
        if not isinstance(given, str) or not given or given in ids:
            given = f"call_{fallback_id}_{n}"
        ids.add(given)
        mended = {**call, "id": given, "type": call.get("type") or "function"}
        if isinstance(call.get("custom"), dict):
            mended.pop("function", None)
        else:
            function = call.get("function")
            function = function if isinstance(function, dict) else {}
            name, arguments = function.get("name"), arguments_text(function.get("arguments"))
            mended["function"] = {**function, "name": name if isinstance(name, str) else "", "arguments": arguments}
        out.append(mended)
    return out
