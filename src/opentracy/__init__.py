"""One call to any language model, and a self-hosted engine that learns which model should answer which prompt.

Public names only, bound when they are first used: `import opentracy` itself loads nothing.
"""

from __future__ import annotations

__version__ = "1.0.0"

TYPE_CHECKING = False  # type checkers know the name; importing `typing` for it would double what an import costs
if TYPE_CHECKING:
    from typing import Any

    from .client import acompletion, aembedding, completion, embedding
    from .core.pricing import register_price
    from .errors import (
        APIConnectionError,
        APIError,
        APIResponseValidationError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ConflictError,
        InternalServerError,
        NotFoundError,
        PermissionDeniedError,
        RateLimitError,
        UnprocessableEntityError,
    )
    from .router import Router
    from .streams import AsyncStream, Stream
    from .traces_client import add_trace, add_traces, import_traces
    from .types import EmbeddingResponse, ModelResponse, StreamChunk

_HOME = {
    "client": ("acompletion", "aembedding", "completion", "embedding"),
    "router": ("Router",),
    "streams": ("AsyncStream", "Stream"),
    "traces_client": ("add_trace", "add_traces", "import_traces"),
    "types": ("EmbeddingResponse", "ModelResponse", "StreamChunk"),
    "core.pricing": ("register_price",),
    "errors": (
        "APIConnectionError", "APIError", "APIResponseValidationError", "APIStatusError", "APITimeoutError",
        "AuthenticationError", "BadRequestError", "ConflictError", "InternalServerError", "NotFoundError",
        "PermissionDeniedError", "RateLimitError", "UnprocessableEntityError",
    ),
}  # fmt: skip
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncStream",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "EmbeddingResponse",
    "InternalServerError",
    "ModelResponse",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "Router",
    "Stream",
    "StreamChunk",
    "UnprocessableEntityError",
    "__version__",
    "acompletion",
    "add_trace",
    "add_traces",
    "aembedding",
    "completion",
    "embedding",
    "import_traces",
    "register_price",
]


def __getattr__(name: str) -> Any:
    home = _WHERE.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
