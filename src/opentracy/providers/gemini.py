"""Google's generateContent as a wire.Dialect, at the Gemini API and on Vertex AI.

Request bodies: `gemini_request`; answers: `gemini_response`; streams: `gemini_stream`; errors: `gemini_errors`;
embeddings: `gemini_embed`. The two services differ in address and credentials only.
"""

from __future__ import annotations

from urllib.parse import quote

from ..core import jsonio
from ..core.wire import Call, Failure, HttpHead, HttpRequest, HttpResponse, Json, Target
from .gemini_embed import build_embedding_body, parse_embeddings
from .gemini_errors import parse_error
from .gemini_request import build_body, model_name
from .gemini_response import parse_response, tier_of
from .gemini_stream import GeminiDecoder
from .legacy import modern

_VERSIONS = ("/v1beta", "/v1", "/v1alpha", "/v1beta1")


class GeminiDialect:
    """POST {base}/v1beta/models/{model}:generateContent, or the same behind a Vertex project. Holds no state."""

    def build_request(self, call: Call, target: Target) -> HttpRequest:
        """The generateContent (or embedding) form of `call`; ValueError names what cannot be sent."""
        vertex = on_vertex(target)
        headers = {"content-type": "application/json", **_credentials(target, vertex)}
        if call.operation == "embedding":
            body, dropped = build_embedding_body(call, target, predict=vertex)
            url = endpoint(target, "predict" if vertex else "batchEmbedContents")
        else:
            body, dropped = build_body(modern(call), target)
            url = endpoint(target, "streamGenerateContent?alt=sse" if call.stream else "generateContent")
        return HttpRequest("POST", url, headers, jsonio.encode(body), dropped)

    def sign(self, request: HttpRequest, target: Target, now: float) -> HttpRequest:
        """Unchanged: credentials do not depend on time."""
        return request

    def parse_response(self, call: Call, target: Target, response: HttpResponse) -> Json | Failure:
        """A 2xx answer as a `chat.completion` (or a list of embeddings), or why it is none."""
        if call.operation == "embedding":
            return parse_embeddings(call, target, response)
        return parse_response(modern(call), target, response)

    def open_stream(self, call: Call, target: Target, head: HttpHead) -> GeminiDecoder:
        """A decoder for the event stream that follows `head`."""
        return GeminiDecoder(modern(call), target, tier_of(head.headers))

    def parse_error(self, target: Target, response: HttpResponse) -> Failure:
        """A non-2xx answer in Google's words."""
        return parse_error(response)


def on_vertex(target: Target) -> bool:
    """Whether the target is Vertex AI: only there a location is set."""
    return "location" in target.options


def endpoint(target: Target, method: str) -> str:
    """The address of a model's method. A base may end in an API version already."""
    base = target.base_url.rstrip("/")
    name = quote(model_name(target.model), safe="/@._-")
    versioned = base.endswith(_VERSIONS)
    if not on_vertex(target):
        path = name if name.startswith("tunedModels/") else f"models/{name}"
        return f"{base}{'' if versioned else '/v1beta'}/{path}:{method}"
    path = name if "/" in name else f"publishers/google/models/{name}"
    if _is_api_key(target):
        return f"{base}{'' if versioned else '/v1'}/{path}:{method}"
    project = target.options.get("project")
    if not project:
        raise ValueError(f"{target.provider} needs a project: set GOOGLE_CLOUD_PROJECT")
    place = f"projects/{quote(project, safe='')}/locations/{quote(target.options['location'], safe='')}"
    return f"{base}{'' if versioned else '/v1'}/{place}/{path}:{method}"


def _is_api_key(target: Target) -> bool:
    """Vertex in express mode takes an API key instead of a token, and then no project."""
    key = target.credentials.key
    return key is not None and key.startswith(("AIza", "AQ."))


def _credentials(target: Target, vertex: bool) -> dict[str, str]:
    key = target.credentials.key
    if not key:
        return {}
    return {"authorization": f"Bearer {key}"} if vertex and not _is_api_key(target) else {"x-goog-api-key": key}


DIALECT = GeminiDialect()
