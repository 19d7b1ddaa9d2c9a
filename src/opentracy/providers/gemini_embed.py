"""Embeddings at the Gemini API (`:batchEmbedContents`) and on Vertex AI (`:predict`), in OpenAI's form."""

from __future__ import annotations

import base64
import struct
from typing import Any

from ..core.params import refuse_dropped
from ..core.usage import build, sum_ints
from ..core.wire import Call, Failure, HttpResponse, Json, Target
from .answers import not_the_protocol, read_document
from .fields import objects
from .gemini_errors import error_object
from .gemini_request import Body, model_name

_MAX = 3.4e38  # of a 32-bit float


def embedding_inputs(call: Call) -> list[str]:
    """The texts to embed; ValueError for token ids, which Gemini does not take."""
    given = call.params.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError("input must be a string or a list of strings for Gemini's embeddings")
    return list(texts)


def build_embedding_body(call: Call, target: Target, *, predict: bool) -> tuple[Body, tuple[str, ...]]:
    """The body of `:batchEmbedContents`, or of Vertex's `:predict`; and the dropped parameters."""
    params = call.params
    size = params.get("dimensions")
    read = ("input", "dimensions", "encoding_format", "user")
    rest = {k: v for k, v in params.items() if k not in read and v is not None}
    dropped = ("user",) if params.get("user") is not None else ()
    refuse_dropped(dropped, strict=call.strict_params, provider=target.provider)
    if predict:
        body: Body = {"instances": [{"content": text, **rest} for text in embedding_inputs(call)]}
        if size is not None:
            body["parameters"] = {"outputDimensionality": size}
        return body, dropped
    if size is not None:
        rest["outputDimensionality"] = size
    name = f"models/{model_name(target.model)}"
    return {
        "requests": [{"model": name, "content": {"parts": [{"text": t}]}, **rest} for t in embedding_inputs(call)]
    }, dropped


def parse_embeddings(call: Call, target: Target, response: HttpResponse) -> Json | Failure:
    """A 2xx answer to an embedding request as OpenAI's list."""
    body = read_document(response)
    if isinstance(body, Failure):
        return body
    if not isinstance(body, dict):
        return not_the_protocol(response, "the answer has no embeddings", body)
    if body.get("error"):
        return error_object(body)
    rows = [
        _inner(row) for row in objects(body.get("embeddings") or body.get("predictions") or [body.get("embedding")])
    ]
    vectors: list[Any] = [row.get("values") for row in rows]
    if len(vectors) != len(embedding_inputs(call)) or not all(_is_vector(v) for v in vectors):
        return not_the_protocol(response, "the answer has not one embedding for each input", body)
    packed = call.params.get("encoding_format") == "base64"
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": n, "embedding": _packed(v) if packed else v} for n, v in enumerate(vectors)
        ],
        "model": target.model,
        "usage": _embedding_usage(body, rows),
    }


def _inner(row: dict[str, Any]) -> dict[str, Any]:
    """Vertex wraps each embedding once more."""
    inner = row.get("embeddings")
    return inner if isinstance(inner, dict) else row


def _is_vector(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(type(v) in (float, int) and abs(v) <= _MAX for v in values)


def _packed(vector: list[float]) -> str:
    """Little-endian 32-bit floats in base64, as OpenAI sends them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _embedding_usage(body: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Usage, where the service tells it: in all, or for each text."""
    metadata = body.get("usageMetadata")
    tokens = metadata.get("promptTokenCount") if isinstance(metadata, dict) else None
    if tokens is None:
        statistics = objects([row.get("statistics") for row in rows])
        counts = [s.get("token_count") for s in statistics]
        tokens = sum_ints(*counts) if len(counts) == len(rows) and None not in counts else None
    return None if tokens is None else build(prompt=tokens, completion=0)
