"""The functions of the reference page: their signatures and what they promise. The work is done in `_calls`.

Nothing else is imported until the first call, so that `import opentracy` stays near free. A key is packed away before
anything can raise, so that no frame of ours in a traceback holds one by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .streams import AsyncStream, Stream
    from .types import EmbeddingResponse, ModelResponse, StreamChunk


@overload
def completion(
    model: str, messages: list[dict[str, Any]], *, stream: Literal[False] = False, **kwargs: Any
) -> ModelResponse: ...
@overload
def completion(model: str, messages: list[dict[str, Any]], *, stream: Literal[True], **kwargs: Any) -> Stream: ...
def completion(
    model: str,
    messages: list[dict[str, Any]],
    *,
    api_key: str | None = None,
    api_base: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    top_p: float | None = None,
    stream: bool = False,
    stop: str | list[str] | None = None,
    tools: list[dict[str, Any]] | None = None,
    tool_choice: str | dict[str, Any] | None = None,
    timeout: float = 120.0,
    num_retries: int = 0,
    fallbacks: list[str] | None = None,
    force_engine: bool = False,
    force_direct: bool = False,
    **kwargs: Any,
) -> ModelResponse | Iterator[StreamChunk]:
    """One chat completion from any model: the whole answer, or with `stream=True` an iterator of chunks.

    `model` is "provider/model", a bare name that tells its provider, or, with the engine, an alias or "auto".
    `messages` are OpenAI's. `timeout` is seconds per attempt, or (connect, total); for a stream it bounds the wait for
    the first content and each gap between contents. `fallbacks` are model strings, or dicts with `model`, `api_key`,
    `api_base`, tried in order once `num_retries` of the target before are used up. Further keyword arguments go into
    the request body; `strict_params=True` refuses what a provider has no equivalent for, instead of leaving it out with
    a warning, and `http_client` (of httpx2) sends the requests through that client.

    Raises ValueError for what can be seen to be wrong before any request, and subclasses of `APIError` (see
    `opentracy.errors`) for everything a provider or the network did.
    """
    from . import _calls

    place = _calls.Place(model, api_key, api_base, fallbacks, force_engine, force_direct)
    api_key = fallbacks = None
    kwargs.update(
        temperature=temperature, max_tokens=max_tokens, top_p=top_p, stop=stop, tools=tools, tool_choice=tool_choice
    )
    return _calls.run(_calls.chat(place, messages, kwargs, stream, timeout, num_retries))


@overload
async def acompletion(
    model: str, messages: list[dict[str, Any]], *, stream: Literal[False] = False, **kwargs: Any
) -> ModelResponse: ...
@overload
async def acompletion(
    model: str, messages: list[dict[str, Any]], *, stream: Literal[True], **kwargs: Any
) -> AsyncStream: ...
async def acompletion(
    model: str,
    messages: list[dict[str, Any]],
    *,
    api_key: str | None = None,
    api_base: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    top_p: float | None = None,
    stream: bool = False,
    stop: str | list[str] | None = None,
    tools: list[dict[str, Any]] | None = None,
    tool_choice: str | dict[str, Any] | None = None,
    timeout: float = 120.0,  # noqa: ASYNC109 - the contract's own parameter: per attempt, not for the whole call
    num_retries: int = 0,
    fallbacks: list[str] | None = None,
    force_engine: bool = False,
    force_direct: bool = False,
    **kwargs: Any,
) -> ModelResponse | AsyncIterator[StreamChunk]:
    from . import _calls

    place = _calls.Place(model, api_key, api_base, fallbacks, force_engine, force_direct)
    api_key = fallbacks = None
    await _calls.prepare(place)
    kwargs.update(
        temperature=temperature, max_tokens=max_tokens, top_p=top_p, stop=stop, tools=tools, tool_choice=tool_choice
    )
    return await _calls.arun(_calls.chat(place, messages, kwargs, stream, timeout, num_retries))


acompletion.__doc__ = completion.__doc__


def embedding(
    model: str,
    input: str | list[str],
    *,
    api_key: str | None = None,
    api_base: str | None = None,
    timeout: float = 120.0,
    num_retries: int = 0,
    fallbacks: list[str] | None = None,
    force_engine: bool = False,
    force_direct: bool = False,
    **kwargs: Any,
) -> EmbeddingResponse:
    """Vectors for one text or several, as OpenAI's list object with our extras; arguments as of `completion`."""
    from . import _calls

    place = _calls.Place(model, api_key, api_base, fallbacks, force_engine, force_direct)
    api_key = fallbacks = None
    return _calls.run_embedding(_calls.vectors(place, input, kwargs, timeout, num_retries))


async def aembedding(
    model: str,
    input: str | list[str],
    *,
    api_key: str | None = None,
    api_base: str | None = None,
    timeout: float = 120.0,  # noqa: ASYNC109 - as above
    num_retries: int = 0,
    fallbacks: list[str] | None = None,
    force_engine: bool = False,
    force_direct: bool = False,
    **kwargs: Any,
) -> EmbeddingResponse:
    from . import _calls

    place = _calls.Place(model, api_key, api_base, fallbacks, force_engine, force_direct)
    api_key = fallbacks = None
    await _calls.prepare(place)
    return await _calls.arun_embedding(_calls.vectors(place, input, kwargs, timeout, num_retries))


aembedding.__doc__ = embedding.__doc__
