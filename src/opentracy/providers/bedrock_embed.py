"""Embeddings through Bedrock's InvokeModel: Titan and Cohere, the two families that have them in a form of their own.

Source: the model parameter pages of the Bedrock user guide.
"""

from __future__ import annotations

from typing import Any

from ..core.params import EMBEDDING_PARAMS, refuse_dropped
from ..core.wire import Call, Failure, HttpResponse, Json, Target
from .answers import not_the_protocol


def body(call: Call, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The model's own body from OpenAI's embedding parameters; unknown names pass through."""
    params = call.params
    given = params.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError("input must be a string or a list of strings: bedrock takes no token ids")
    dropped = [n for n in ("user", "encoding_format") if params.get(n) not in (None, "float")]
    out: dict[str, Any]
    if "cohere." in model.lower():
        out = {"texts": list(texts), "input_type": "search_document"}
        if params.get("dimensions") is not None:
            out["output_dimension"] = params["dimensions"]
    elif "titan-embed" in model.lower():
        if len(texts) > 1:
            raise ValueError(f"{model} embeds one text a request: call it once for each of the {len(texts)} inputs")
        out = {"inputText": texts[0]}
        if params.get("dimensions") is not None:
            out["dimensions"] = params["dimensions"]
    else:
        raise ValueError(f"no embeddings for {model} on bedrock: use amazon.titan-embed-... or cohere.embed-...")
    out.update({k: v for k, v in params.items() if k not in EMBEDDING_PARAMS and v is not None})
    refuse_dropped(dropped, strict=call.strict_params, provider="bedrock")
    return out, tuple(dropped)


def parse(target: Target, response: HttpResponse, answer: dict[str, Any]) -> Json | Failure:
    """OpenAI's list object of the model's answer."""
    vectors: Any = [answer["embedding"]] if isinstance(answer.get("embedding"), list) else answer.get("embeddings")
    if isinstance(vectors, dict):
        vectors = vectors.get("float")
    if not isinstance(vectors, list):
        request_id = response.headers.get("x-amzn-requestid")
        return not_the_protocol(response, "no embeddings in the answer", answer, request_id)
    counted = answer.get("inputTextTokenCount")
    told = response.headers.get("x-amzn-bedrock-input-token-count", "")
    tokens = counted if isinstance(counted, int) else int(told) if told.isdecimal() else None
    return {
        "object": "list", "model": target.model,
        "data": [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)],
        "usage": None if tokens is None else {"prompt_tokens": tokens, "total_tokens": tokens},
    }  # fmt: skip
