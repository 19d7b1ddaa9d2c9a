"""The functions of the reference page: check, resolve, drive the plan, hand back. Nothing is decided here.

Arguments are checked in `_arguments`, targets and extras made in `_job`. A key is packed away before anything can
raise, so that no frame of ours in a traceback holds one by name.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, overload

from . import _arguments as check
from ._arguments import Place
from ._job import Job, check_keys, resolve, secrets_of
from .core.plan import Completed, Guard, PlanFailed, Policy
from .core.wire import Call
from .streams import AsyncStream, Stream, load_errors
from .transport.sync import SyncTransport
from .types import EmbeddingResponse, ModelResponse, StreamChunk

_transport: SyncTransport | None = None


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
    a warning.

    Raises ValueError for what can be seen to be wrong before any request, and subclasses of `APIError` (see
    `opentracy.errors`) for everything a provider or the network did.
    """
    place = Place(model, api_key, api_base, fallbacks or (), force_engine, force_direct)  # type: ignore[arg-type]
    api_key = fallbacks = None
    kwargs.update(
        temperature=temperature, max_tokens=max_tokens, top_p=top_p, stop=stop, tools=tools, tool_choice=tool_choice
    )
    job = _job(place, messages, kwargs, stream, timeout, num_retries)
    return _run(job)


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
    place = Place(model, api_key, api_base, fallbacks or (), force_engine, force_direct)  # type: ignore[arg-type]
    api_key = fallbacks = None
    _require_openai()
    kwargs.update(
        temperature=temperature, max_tokens=max_tokens, top_p=top_p, stop=stop, tools=tools, tool_choice=tool_choice
    )
    job = _job(place, messages, kwargs, stream, timeout, num_retries)
    return await _arun(job)


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
    place = Place(model, api_key, api_base, fallbacks or (), force_engine, force_direct)  # type: ignore[arg-type]
    api_key = fallbacks = None
    kwargs["input"] = check.check_input(input)
    return EmbeddingResponse(_completed(_job(place, None, kwargs, False, timeout, num_retries)))


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
    place = Place(model, api_key, api_base, fallbacks or (), force_engine, force_direct)  # type: ignore[arg-type]
    api_key = fallbacks = None
    _require_openai()
    kwargs["input"] = check.check_input(input)
    return EmbeddingResponse(await _acompleted(_job(place, None, kwargs, False, timeout, num_retries)))


aembedding.__doc__ = embedding.__doc__


def _job(place: Place, messages: Any, given: dict[str, Any], stream: bool, timeout: Any, num_retries: Any) -> Job:
    """Everything that can be wrong before the first request is found here. `messages` is None for embeddings."""
    started = time.monotonic()
    strict = bool(given.pop("strict_params", False))
    place = check.check_place(place)
    connect, total = check.check_timeout(timeout)
    call = Call(
        messages=check.check_messages(messages) if messages is not None else [],
        params=check.check_params(given),
        stream=bool(stream),
        strict_params=strict,
        created=int(time.time()),
        fallback_id=os.urandom(12).hex(),
        operation="chat" if messages is not None else "embedding",
    )
    targets, via_engine = resolve(place)
    check_keys(targets)
    for target in targets[1:]:
        target.dialect.build_request(call, target)  # a fallback that cannot be asked is told at once
    retries = check.check_retries(num_retries)
    policy = Policy(timeout=total, connect=connect, num_retries=retries, secrets=secrets_of(targets))
    return Job(call, targets, policy, place.model, started, via_engine)


def sync_transport() -> SyncTransport:
    """This process's connections for blocking calls."""
    global _transport
    if _transport is None:
        _transport = SyncTransport()
    return _transport


def _run(job: Job, guard: Guard | None = None) -> ModelResponse | Stream:
    error = None
    try:
        result = sync_transport().drive(job.run(guard))
    except PlanFailed as failed:
        error = job.error(failed)
    if error is not None:
        raise error  # outside of the handler: the plan's own exception is no context of it
    if isinstance(result, Completed):
        return ModelResponse(job.answer(result))
    return Stream(job, *result)


async def _arun(job: Job, guard: Guard | None = None) -> ModelResponse | AsyncStream:
    from .transport.aio import current

    failed: PlanFailed | None = None
    try:
        result = await current().drive(job.run(guard))
    except PlanFailed as e:
        failed = e
    if failed is not None:
        await load_errors()
        raise job.error(failed)
    if isinstance(result, Completed):
        return ModelResponse(job.answer(result))
    return AsyncStream(job, *result)


def _completed(job: Job) -> dict[str, Any]:
    done = _run(job)
    assert isinstance(done, dict)
    return done


async def _acompleted(job: Job) -> dict[str, Any]:
    done = await _arun(job)
    assert isinstance(done, dict)
    return done


@cache
def _has_openai() -> bool:
    return find_spec("openai") is not None


def _require_openai() -> None:
    if not _has_openai():
        raise ImportError("openai package required for async calls; it is in the default install: pip install openai")
