"""Anthropic's Messages API as a wire.Dialect: address, credentials, and the way to the modules that know the rest.

Request bodies: `anthropic_request`; answers and errors: `anthropic_response`; streams: `anthropic_stream`.
"""

from __future__ import annotations

from typing import Any

from ..core import jsonio
from ..core.wire import Call, Chunk, Decoder, Failure, HttpHead, HttpRequest, HttpResponse, Json, Relay, Target
from .anthropic_relay import AnthropicRelay
from .anthropic_request import build_body
from .anthropic_response import parse_error, parse_response
from .anthropic_stream import AnthropicDecoder
from .legacy import modern

VERSION = "2023-06-01"
_FILES_BETA = "files-api-2025-04-14"


class AnthropicDialect:
    """POST {base}/v1/messages. Holds no state."""

    def build_request(self, call: Call, target: Target) -> HttpRequest:
        """The Messages form of `call`; ValueError names what cannot be sent."""
        if call.operation != "chat":
            raise ValueError(f"{target.provider} has no embeddings")
        call = modern(call)
        body, dropped = build_body(call, target)
        headers = {"content-type": "application/json", "anthropic-version": VERSION}
        headers.update(_credentials(target))
        betas = _betas(call, target, body)
        if betas:
            headers["anthropic-beta"] = betas
        return HttpRequest("POST", endpoint(target.base_url), headers, jsonio.encode(body), dropped)

    def sign(self, request: HttpRequest, target: Target, now: float) -> HttpRequest:
        """Unchanged: credentials do not depend on time."""
        return request

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> Json | Failure:
        """A 2xx answer as a `chat.completion`, or why it is none."""
        return parse_response(call, target, response)

    def open_stream(self, call: Call, target: Target, head: HttpHead) -> AnthropicDecoder:
        """A decoder for the event stream that follows `head`."""
        return AnthropicDecoder(call, target, head.headers.get("request-id"))

    def open_relay(self, decoder: Decoder, shown: list[Chunk]) -> Relay:
        """Goes on with `decoder` as bytes."""
        assert isinstance(decoder, AnthropicDecoder)
        return AnthropicRelay(decoder, shown)

    def parse_error(self, target: Target, response: HttpResponse) -> Failure:
        """A non-2xx answer in Anthropic's words."""
        return parse_error(response)


def endpoint(base: str) -> str:
    """The address of the API at `base`, which may end in `/v1` already."""
    base = base.rstrip("/")
    return base + ("/messages" if base.endswith("/v1") else "/v1/messages")


def _credentials(target: Target) -> dict[str, str]:
    """API keys travel in their own header, OAuth tokens as a bearer."""
    token = target.credentials.extra.get("auth_token")
    key = target.credentials.key
    if token and not key:
        return {"authorization": f"Bearer {token}"}
    if key and key.startswith("sk-ant-oat"):
        return {"authorization": f"Bearer {key}"}
    return {"x-api-key": key} if key else {}


def _betas(call: Call, target: Target, body: dict[str, Any]) -> str:
    """Beta features asked for: by the caller (`betas`), by the environment, by what the request holds."""
    asked = call.params.get("betas") or []
    if not isinstance(asked, (str, list, tuple)):
        raise ValueError("betas must be a list of strings")
    names = [asked] if isinstance(asked, str) else [str(name) for name in asked]
    if target.options.get("beta"):
        names.append(target.options["beta"])
    if any(_has_file(turn["content"]) for turn in body["messages"]):
        names.append(_FILES_BETA)
    return ",".join(dict.fromkeys(names))


def _has_file(content: Any) -> bool:
    if not isinstance(content, list):
        return False
    sources = (block.get("source") for block in content)
    return any(isinstance(source, dict) and source.get("type") == "file" for source in sources)


DIALECT = AnthropicDialect()
