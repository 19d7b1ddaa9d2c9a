"""The Bedrock dialect: Converse and ConverseStream for chat, InvokeModel for embeddings.

Belongs here: the five methods of `core.wire.Dialect`, URLs, regions and signing. The body of a request is built in
`bedrock_request`, streams are read in `bedrock_stream`, what an answer means stands in `bedrock_answer`, embeddings in
`bedrock_embed`. Where credentials come from is the caller's business: a bearer key stands in `Credentials.key`; an
access key in `extra` as `access_key`, `secret_key` and, when temporary, `session_token`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from ..core import jsonio
from ..core.sigv4 import sign
from ..core.wire import Call, Failure, HttpHead, HttpRequest, HttpResponse, Json, Target
from . import bedrock_answer as answer
from . import bedrock_embed
from .answers import not_the_protocol, read_document
from .bedrock_request import answer_tool, converse_body
from .bedrock_stream import ConverseDecoder
from .legacy import modern

_HOST = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.(amazonaws\.com(?:\.cn)?|api\.aws)$")
_ARN = re.compile(r"arn:aws[a-z-]*:(?:bedrock|sagemaker):([a-z0-9-]+):")


class Bedrock:
    """See `core.wire.Dialect`."""

    def build_request(self, call: Call, target: Target) -> HttpRequest:
        """A converse, converse-stream or invoke request, still unsigned."""
        if call.operation == "embedding":
            body, dropped = bedrock_embed.body(call, target.model)
            action = "invoke"
        else:
            body, dropped = converse_body(modern(call), target.model)
            action = "converse-stream" if call.stream else "converse"
        url = f"{_base(target)}/model/{quote(target.model, safe='-_.~')}/{action}"
        accept = "application/vnd.amazon.eventstream" if call.stream else "application/json"
        headers = {"content-type": "application/json", "accept": accept}
        if target.credentials.key:
            headers["authorization"] = f"Bearer {target.credentials.key}"
        return HttpRequest("POST", url, headers, jsonio.encode(body), dropped)

    def sign(self, request: HttpRequest, target: Target, now: float) -> HttpRequest:
        """The request with its AWS signature of this moment; a bearer key wins and needs none."""
        extra = target.credentials.extra
        access, secret = extra.get("access_key"), extra.get("secret_key")
        if target.credentials.key or not access or not secret:
            return request
        signed = sign(
            request.method, request.url, request.headers, request.body, access_key=access, secret_key=secret,
            session_token=extra.get("session_token"), region=_region(request.url, target), service="bedrock", now=now,
        )  # fmt: skip
        return msgspec.structs.replace(request, headers=signed)

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> Json | Failure:
        """A 2xx answer as `chat.completion`, or as OpenAI's embedding list."""
        body = read_document(response)
        if isinstance(body, Failure):
            return body
        request_id = answer.request_id(response.headers)
        if not isinstance(body, dict):
            return not_the_protocol(response, "not a Bedrock answer", body, request_id)
        if call.operation == "embedding":
            return bedrock_embed.parse(target, response, body)
        output = body.get("output", body.get("Output"))  # an endpoint that does not know the path writes it large
        if "output" not in body and answer.is_error(body):
            return answer.exception(body.get("__type") or body.get("code") or "", body, request_id)
        message = output.get("message") if isinstance(output, dict) else None
        if not isinstance(message, dict):
            name = answer.error_name(output.get("__type")) if isinstance(output, dict) else ""
            if name:
                return answer.exception(name, output, request_id)
            return not_the_protocol(response, "no message in the answer", body, request_id)
        broken = answer.broken_stop(body.get("stopReason"), body, request_id)
        if broken is not None:
            return broken
        return _completion(call, target, body, message, _id(call, response))

    def open_stream(self, call: Call, target: Target, head: HttpHead) -> ConverseDecoder:
        """A decoder for the frames that follow."""
        return ConverseDecoder(
            _id(call, head), call.created, target.model, request_id=answer.request_id(head.headers),
            answer_tool=answer_tool(call.params, target.model),
        )  # fmt: skip

    def parse_error(self, target: Target, response: HttpResponse) -> Failure:
        """A non-2xx answer in AWS's form."""
        return answer.parse_error(response)


def _id(call: Call, head: HttpHead) -> str:
    """The body has no id: the request's own, which is also what AWS support asks for."""
    return f"chatcmpl-{answer.request_id(head.headers) or call.fallback_id}"


def _base(target: Target) -> str:
    """The base URL; a model's ARN names its region, and no other region's endpoint knows the model."""
    base = target.base_url.rstrip("/")
    told = _ARN.match(target.model)
    if told:
        host = urlsplit(base).hostname or ""
        found = _HOST.match(host)
        if found and found[1] != told[1]:
            return base.replace(host, host.replace(f".{found[1]}.", f".{told[1]}.", 1), 1)
    return base


def _region(url: str, target: Target) -> str:
    """What the signature must name: the endpoint's own region where its host tells, else the configured one."""
    found = _HOST.match(urlsplit(url).hostname or "")
    if found:
        return found[1]
    told = _ARN.match(target.model)
    return told[1] if told else target.options.get("region") or target.credentials.extra.get("region") or "us-east-1"


def _completion(call: Call, target: Target, body: dict[str, Any], message: dict[str, Any], id: str) -> Json:
    out = _Message(id, answer_tool(call.params, target.model))
    content = message.get("content")
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            out.add(block)
    finish = answer.finish_reason(body.get("stopReason"), bool(out.calls))
    return {
        "id": id, "object": "chat.completion", "created": call.created, "model": target.model,
        "choices": [{"index": 0, "message": out.message(), "finish_reason": finish}],
        "usage": answer.usage(body.get("usage"), body), **answer.besides(body),
    }  # fmt: skip


class _Message:
    """The assistant message in the making, block by block."""

    def __init__(self, id: str, answer_tool: str | None) -> None:
        self.calls: list[dict[str, Any]] = []
        self._id = id
        self._answer_tool = answer_tool
        self._text = ""
        self._reasoning: list[str] = []
        self._thoughts: list[dict[str, Any]] = []
        self._citations: list[Any] = []
        self._annotations: list[dict[str, Any]] = []
        self._images: list[Any] = []
        self._audio: dict[str, Any] | None = None
        self._used: set[str] = set()

    def add(self, block: dict[str, Any]) -> None:
        """One content block; those of a server's own tools say nothing to the caller."""
        if isinstance(block.get("text"), str):
            self._text += block["text"]
        elif isinstance(use := block.get("toolUse"), dict):
            self._use(use)
        elif "reasoningContent" in block:
            text, kept = answer.thought(block["reasoningContent"])
            self._reasoning.append(text)
            if kept is not None:
                if self._text or self.calls:
                    kept["after"] = [len(self._text), len(self.calls)]
                self._thoughts.append(kept)
        elif isinstance(cited := block.get("citationsContent"), dict):
            start = len(self._text)
            for part in cited.get("content") or ():
                self._text += part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else ""
            self._citations += cited.get("citations") or ()
            self._annotations += answer.web_pages(cited.get("citations"), start, len(self._text))
        elif (made := answer.media("image", block.get("image"))) is not None:
            self._images += made["images"]
        elif (made := answer.media("audio", block.get("audio"))) is not None:
            self._audio = made["audio"]

    def _use(self, use: dict[str, Any]) -> None:
        if use.get("type") == "server_tool_use":
            return
        text = answer.arguments(use.get("input"))
        if use.get("name") == self._answer_tool:
            self._text += text
            return
        id = answer.call_id(use.get("toolUseId"), self._id, len(self.calls), self._used)
        function = {"name": str(use.get("name") or ""), "arguments": text}
        self.calls.append({"id": id, "type": "function", "function": function})

    def message(self) -> dict[str, Any]:
        """The finished message."""
        out: dict[str, Any] = {"role": "assistant", "content": self._text if self._text or not self.calls else None}
        if reasoning := "".join(self._reasoning):
            out["reasoning_content"] = reasoning
        if self._thoughts:
            out["thinking_blocks"] = self._thoughts
        if self.calls:
            out["tool_calls"] = self.calls
        told = {
            "citations": self._citations, "annotations": self._annotations, "images": self._images,
            "audio": self._audio,
        }  # fmt: skip
        out.update({k: v for k, v in told.items() if v})
        return out


DIALECT = Bedrock()
