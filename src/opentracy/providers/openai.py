"""The OpenAI dialect: the wire format of the servers in `rows` that name it. Only the five methods; each part of the
work has a module of its own (`openai_request`, `openai_response`, `openai_stream`, `openai_errors`, `openai_relay`).
"""

from __future__ import annotations

from typing import Any

from ..core.wire import Call, Chunk, Decoder, Failure, HttpHead, HttpRequest, HttpResponse, Passing, Relay, Target
from .openai_errors import parse_error
from .openai_forward import OpenAIForwarding, forwarding
from .openai_relay import OpenAIRelay
from .openai_request import build_request
from .openai_response import parse_response
from .openai_stream import OpenAIDecoder


class OpenAIDialect:
    """Chat completions as OpenAI defines them: https://platform.openai.com/docs/api-reference/chat."""

    def build_request(self, call: Call, target: Target) -> HttpRequest:
        """The provider's form of `call`; ValueError names what cannot be sent."""
        return build_request(call, target)

    def sign(self, request: HttpRequest, target: Target, now: float) -> HttpRequest:
        """Nothing depends on the time."""
        return request

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> dict[str, Any] | Passing | Failure:
        """A 2xx answer as an OpenAI `chat.completion` dict, or why it is none."""
        return parse_response(call, target, response)

    def open_stream(self, call: Call, target: Target, head: HttpHead) -> Decoder:
        """A decoder for the body that follows `head`."""
        return OpenAIDecoder(call, target, head.headers)

    def parse_error(self, target: Target, response: HttpResponse) -> Failure:
        """A non-2xx answer in the provider's own words."""
        return parse_error(target, response)

    def open_relay(self, decoder: Decoder, shown: list[Chunk]) -> Relay:
        """Forwards clean events as bytes. `decoder` is one of ours, `shown` what it yielded so far."""
        if not isinstance(decoder, OpenAIDecoder):
            raise TypeError(f"not a decoder of this dialect: {type(decoder).__name__}")
        return OpenAIRelay(decoder, shown)

    def forwarding(self, target: Target) -> OpenAIForwarding | None:
        """The short way for a target, where nothing is to be translated."""
        return forwarding(target)


DIALECT = OpenAIDialect()
