"""Gemini's answers in OpenAI's form: candidates, usage, finish reasons.

A stream sends the same objects in pieces; `gemini_stream` uses the functions here. Source: PROTOCOLS section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..core import jsonio
from ..core.surcharges import with_tier
from ..core.usage import build, sum_ints
from ..core.wire import Call, Failure, HttpResponse, Json, Target
from .answers import not_the_protocol, read_document
from .fields import objects, text_or
from .gemini_errors import error_object
from .gemini_media import OTHER, Executed, Speech, media_url, says_something
from .gemini_request import ANSWER_FUNCTION, uses_answer_function
from .gemini_signatures import extra_content, made_id, sealed_id

_FINISH = {
    "STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter", "PROHIBITED_CONTENT": "content_filter", "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter", "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter", "MODEL_ARMOR": "content_filter", "ESCALATION": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter", "CONTINUATION": "length",
    "MALFORMED_FUNCTION_CALL": "stop", "UNEXPECTED_TOOL_CALL": "stop",
    "TOO_MANY_TOOL_CALLS": "stop", "MISSING_THOUGHT_SIGNATURE": "stop", "MALFORMED_RESPONSE": "stop",
    "LANGUAGE": "stop", "NO_IMAGE": "stop", "IMAGE_OTHER": "stop", "OTHER": "stop", "FINISH_REASON_UNSPECIFIED": "stop",
}  # fmt: skip
# the second halves are fields of ours: an answer that has them too must not put its own in their place
_READ = frozenset(
    ("content", "finishReason", "index", "logprobsResult", "avgLogprobs",
     "message", "delta", "finish_reason", "logprobs")
)  # fmt: skip
READ_TOP = frozenset(
    ("candidates", "usageMetadata", "modelVersion", "responseId", "createTime",
     "id", "object", "created", "model", "choices", "usage")
)  # fmt: skip


def finish_reason(raw: Any, calls: int) -> str:
    """OpenAI's word; the API says STOP for a tool call, too. `calls`: tool calls shown to the caller."""
    finish = _FINISH.get(raw, raw) if isinstance(raw, str) and raw else "stop"
    return "tool_calls" if calls and finish == "stop" else finish


def usage_of(raw: Any, tier: str | None = None, searches: int = 0) -> dict[str, Any] | None:
    """Usage in OpenAI's meaning: thoughts are part of the completion, tool use part of the prompt.

    `tier`: as the answer's head tells it. `searches`: how often Google was asked, which may have a price of its own.
    """
    if not isinstance(raw, Mapping) or not raw:
        return None
    thoughts = raw.get("thoughtsTokenCount")
    answer = raw.get("candidatesTokenCount")
    prompt = raw.get("promptTokenCount")
    # a count of zero is left out; for a prompt that means "not counted", which `core.pricing` does not take for free
    if answer is None and thoughts is None and prompt is not None:
        answer = 0
    elif prompt is None and (answer is not None or thoughts is not None):
        prompt = 0
    usage = build(
        prompt=_sum(prompt, raw.get("toolUsePromptTokenCount")),
        completion=_sum(answer, thoughts),
        total=raw.get("totalTokenCount"),
        cached=raw.get("cachedContentTokenCount"),
        reasoning=thoughts,
        audio=_modality(raw.get("promptTokensDetails"), "AUDIO"),
        audio_output=_modality(raw.get("candidatesTokensDetails"), "AUDIO"),
    )
    if searches:
        usage["server_tool_use"] = {"web_search_requests": searches}
    return with_tier(usage, raw.get("serviceTier") or raw.get("trafficType") or tier)


def tier_of(headers: Mapping[str, str]) -> str | None:
    """The tier on which the Gemini API says it worked; its word for one that costs something else, or None."""
    told = headers.get("x-gemini-service-tier", "").lower()
    return told if told in ("flex", "priority") else None


def searches_of(candidate: Mapping[str, Any]) -> int:
    """How many searches an answer is grounded on."""
    metadata = candidate.get("groundingMetadata")
    queries = metadata.get("webSearchQueries") if isinstance(metadata, dict) else None
    return len(queries) if isinstance(queries, list) else 0


def _sum(*counts: object) -> object:
    """The sum of the counts; one that is no number makes the sum none (NaN), which is not the same as absent."""
    if all(c is None for c in counts):
        return None
    total = sum_ints(*counts)
    return math.nan if total is None else total


def _modality(details: Any, name: str) -> object:
    if not isinstance(details, list):
        return None
    return next((d.get("tokenCount") for d in details if isinstance(d, dict) and d.get("modality") == name), None)


def parts_of(candidate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of a candidate; `content` may lack them."""
    content = candidate.get("content")
    return objects(content.get("parts")) if isinstance(content, dict) else []


def tool_call(part: dict[str, Any], seed: str, taken: set[str]) -> dict[str, Any]:
    """A functionCall part as an entry of `tool_calls`; `taken` are the ids of the answer so far."""
    function = part["functionCall"]
    id = function.get("id")
    if not isinstance(id, str) or not id or id in taken:
        id = made_id(seed)
    taken.add(id)
    signature = part.get("thoughtSignature")
    signature = signature if isinstance(signature, str) and signature else None
    args = function.get("args")
    arguments = args if isinstance(args, str) else jsonio.encode(args).decode() if args else "{}"
    call: dict[str, Any] = {
        "id": sealed_id(id, signature),
        "type": "function",
        "function": {"name": text_or(function.get("name"), ""), "arguments": arguments},
    }
    if signature is not None:
        call["extra_content"] = extra_content(signature)
    return call


def annotations_of(candidate: Mapping[str, Any], content: str) -> list[dict[str, Any]]:
    """Google's grounding as OpenAI's url citations; its segments count bytes, OpenAI's count characters."""
    metadata = candidate.get("groundingMetadata")
    if not isinstance(metadata, dict):
        return []
    chunks = metadata.get("groundingChunks")
    pages = [c.get("web") if isinstance(c, dict) else None for c in chunks] if isinstance(chunks, list) else []
    raw = content.encode("utf-8", "replace")
    out: list[dict[str, Any]] = []
    for support in objects(metadata.get("groundingSupports")):
        segment = support.get("segment")
        segment = segment if isinstance(segment, dict) else {}
        start, end = (_characters(raw, segment.get(name)) for name in ("startIndex", "endIndex"))
        indices = support.get("groundingChunkIndices")
        for index in indices if isinstance(indices, list) else ():
            page = pages[index] if isinstance(index, int) and 0 <= index < len(pages) else None
            if isinstance(page, dict) and isinstance(page.get("uri"), str):
                title = text_or(page.get("title"), "")
                citation = {"url": page["uri"], "title": title, "start_index": start, "end_index": end}
                out.append({"type": "url_citation", "url_citation": citation})
    return out


def _characters(raw: bytes, offset: Any) -> int:
    return len(raw[:offset].decode("utf-8", "ignore")) if isinstance(offset, int) and offset > 0 else 0


def parse_response(call: Call, target: Target, response: HttpResponse) -> Json | Failure:
    """A 2xx answer as a `chat.completion`, or why it is none."""
    body = read_document(response)
    if isinstance(body, Failure):
        return body
    if call.stream and isinstance(body, list) and body and all(isinstance(piece, dict) for piece in body):
        body = _joined(body)  # a stream without `alt=sse`: an array of pieces
    if isinstance(body, dict) and body.get("error"):
        return error_object(body)
    candidates = _candidates(body)
    if candidates is None:
        return not_the_protocol(response, "the answer has no candidates", body)
    id = text_or(body.get("responseId"), f"chatcmpl-{call.fallback_id}")
    answer = ANSWER_FUNCTION if uses_answer_function(call, target.model) else None
    return {
        "id": id,
        "object": "chat.completion",
        "created": call.created,
        "model": text_or(body.get("modelVersion"), target.model),
        "choices": [_choice(n, c, f"{id}:{call.fallback_id}:{n}", answer) for n, c in enumerate(candidates)],
        "usage": usage_of(
            body.get("usageMetadata"), tier_of(response.headers), sum(searches_of(c) for c in candidates)
        ),
        **{k: v for k, v in body.items() if k not in READ_TOP},
    }


def _candidates(body: Any) -> list[dict[str, Any]] | None:
    """The candidates of an answer; a blocked prompt has none and is an empty filtered answer."""
    if not isinstance(body, dict):
        return None
    candidates = body.get("candidates")
    if isinstance(candidates, list) and candidates:
        return candidates if all(isinstance(c, dict) for c in candidates) else None
    reason = blocked(body)
    return [{"finishReason": "SAFETY", "native_finish_reason": reason}] if reason else None


def blocked(body: Mapping[str, Any]) -> str:
    """Why the prompt was refused, in Google's word; '' when it was not."""
    feedback = body.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    return str(reason) if reason else ""


def _joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """The pieces of a stream as one answer with one candidate."""
    whole: dict[str, Any] = {}
    parts: list[dict[str, Any]] = []
    candidate: dict[str, Any] = {}
    for piece in pieces:
        whole.update(piece)
        for part in objects(piece.get("candidates")):
            if not part.get("index"):
                candidate.update(part)
                parts += parts_of(part)
    if candidate:
        whole["candidates"] = [{**candidate, "content": {"role": "model", "parts": parts}}]
    return whole


class _Message:
    """Parts on their way to one assistant message. `answer`: the function whose arguments are the answer itself."""

    def __init__(self, seed: str, answer: str | None) -> None:
        self.calls: list[dict[str, Any]] = []
        self._seed, self._answer = seed, answer
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._images: list[dict[str, Any]] = []
        self._other: list[dict[str, Any]] = []
        self._audio: dict[str, Any] = {}
        self._speech, self._executed = Speech(seed), Executed()
        self._taken: set[str] = set()
        self._signature: str | None = None

    def add(self, part: dict[str, Any]) -> None:
        """Takes one part."""
        if isinstance(part.get("functionCall"), dict):
            self._call(part)
        elif (image := media_url(part)) is not None:
            self._images.append(image)
        elif self._read(part):
            if isinstance(part.get("thoughtSignature"), str):
                self._signature = part["thoughtSignature"]
        else:
            self._other.append(part)

    def _call(self, part: dict[str, Any]) -> None:
        call = tool_call(part, f"{self._seed}:{len(self.calls)}", self._taken)
        if call["function"]["name"] == self._answer:
            self._text.append(call["function"]["arguments"])
        else:
            self.calls.append(call)

    def _read(self, part: dict[str, Any]) -> bool:
        """Whether OpenAI's form has a place for a part that is no call and no picture."""
        if isinstance(part.get("text"), str):
            (self._thoughts if part.get("thought") is True else self._text).append(part["text"])
        elif (spoken := self._speech.add(part)) is not None:
            self._audio = {**self._audio, **spoken, "data": self._audio.get("data", "") + spoken["data"]}
        else:
            return self._executed.add(part) or not says_something(part)
        return True

    def message(self, candidate: Mapping[str, Any]) -> dict[str, Any]:
        """The finished message; optional fields only where there is something to say."""
        content = "".join(self._text)
        message: dict[str, Any] = {"role": "assistant", "content": content if content or not self.calls else None}
        if self._audio:
            self._audio["data"] += (self._speech.end() or {"data": ""})["data"]
        told = {
            "reasoning_content": "".join(self._thoughts), "annotations": annotations_of(candidate, content),
            "images": self._images, "audio": self._audio, "executed_tools": self._executed.tools, OTHER: self._other,
            "extra_content": None if self._signature is None else extra_content(self._signature),
            "tool_calls": self.calls,
        }  # fmt: skip
        message.update({k: v for k, v in told.items() if v})
        return message


def _choice(number: int, candidate: dict[str, Any], seed: str, answer: str | None) -> dict[str, Any]:
    made = _Message(seed, answer)
    for part in parts_of(candidate):
        made.add(part)
    return {
        "index": number,
        "message": made.message(candidate),
        "finish_reason": finish_reason(candidate.get("finishReason"), len(made.calls)),
        "logprobs": logprobs_of(candidate.get("logprobsResult")),
        **told_besides(candidate),
    }


def told_besides(candidate: Mapping[str, Any]) -> dict[str, Any]:
    """What a candidate says beyond OpenAI's fields: ratings, grounding, and an unusual finish in Google's own word."""
    rest = {k: v for k, v in candidate.items() if k not in _READ}
    if candidate.get("finishReason") not in (None, "STOP", "MAX_TOKENS"):
        rest.setdefault("native_finish_reason", candidate["finishReason"])
    return rest


def logprobs_of(raw: Any) -> dict[str, Any] | None:
    """Token probabilities in OpenAI's form."""
    chosen = raw.get("chosenCandidates") if isinstance(raw, dict) else None
    if not isinstance(chosen, list):
        return None
    tops = objects(raw.get("topCandidates"))
    content = []
    for n, token in enumerate(objects(chosen)):
        others = objects(tops[n].get("candidates")) if n < len(tops) else []
        content.append({**_token(token), "top_logprobs": [_token(t) for t in others]})
    return {"content": content, "refusal": None}


def _token(raw: Any) -> dict[str, Any]:
    token = text_or(raw.get("token"), "")
    return {"token": token, "logprob": raw.get("logProbability", 0.0), "bytes": list(token.encode("utf-8", "replace"))}
