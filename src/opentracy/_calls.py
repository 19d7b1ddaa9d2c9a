"""What `client` does once it is called: check, resolve, drive the plan, hand back. Nothing is decided here.

Arguments are checked in `_arguments`, targets and extras made in `_job`, requests sent by `transport`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

from . import _arguments as check
from ._arguments import Place
from ._job import ENGINE, Job, chain_of, check_keys, engine_url, headed, resolve, secret_values, secrets_of
from .core.plan import Completed, Guard, Opened, PlanFailed, Policy
from .core.wire import Call, Target
from .streams import AsyncRest, AsyncStream, Rest, Stream
from .transport.sync import SyncTransport
from .types import EmbeddingResponse, ModelResponse

__all__ = ["Place", "arun", "arun_embedding", "chat", "prepare", "require_openai", "run", "run_embedding", "vectors"]

_transport: SyncTransport | None = None
# Seconds that an engine waits at most because a provider asks it to. A caller with less time says so: it is told what
# the provider answered instead of waiting for nothing.
_PATIENCE = 60


Targeting = Callable[[Place, Call], list[Target]]
"""Who finds the targets, where that is not `resolve`: the router."""


def chat(
    place: Place,
    messages: Any,
    given: dict[str, Any],
    stream: bool,
    timeout: Any,
    num_retries: Any,
    targeting: Targeting | None = None,
) -> Job:
    """A chat completion, checked and resolved; everything that can be wrong before the first request is found here."""
    check.check_place(place)
    return _job(place, check.check_messages(messages), given, bool(stream), timeout, num_retries, "chat", targeting)


def vectors(
    place: Place,
    input: Any,
    given: dict[str, Any],
    timeout: Any,
    num_retries: Any,
    targeting: Targeting | None = None,
) -> Job:
    """The same for embeddings."""
    check.check_place(place)
    given["input"] = check.check_input(input)
    return _job(place, [], given, False, timeout, num_retries, "embedding", targeting)


def _job(
    place: Place,
    messages: list[dict[str, Any]],
    given: dict[str, Any],
    stream: bool,
    timeout: Any,
    num_retries: Any,
    operation: Literal["chat", "embedding"],
    targeting: Targeting | None,
) -> Job:
    started = time.monotonic()
    strict = bool(given.pop("strict_params", False))
    client = given.pop("http_client", None)
    if client is not None and not (hasattr(client, "build_request") and hasattr(client, "send")):
        raise ValueError(f"http_client must be an httpx2 (or httpx) client, got {type(client).__name__}")
    connect, total = check.check_timeout(timeout)
    retries = check.check_retries(num_retries)
    headers = check.check_headers(given.pop("extra_headers", None))
    params = check.check_params(given)
    call = Call(messages, params, stream, strict, int(time.time()), os.urandom(12).hex(), operation)
    targets = targeting(place, call) if targeting is not None else resolve(place)
    check_keys(targets)
    if targets[0].provider == ENGINE and not stream and total <= _PATIENCE:
        headers = {"x-request-timeout-ms": str(max(1, int(total * 1000))), **headers}
    secrets = secrets_of(targets)
    if headers:
        targets, secrets = headed(targets, headers), (*secrets, *secret_values(headers))
    if targeting is None:
        for target in targets[1:]:
            target.dialect.build_request(call, target)  # a fallback that cannot be asked is told at once
    policy = Policy(timeout=total, connect=connect, num_retries=retries, secrets=secrets)
    return Job(call, targets, policy, place.model, started, client)


def sync_transport() -> SyncTransport:
    """This process's connections for blocking calls."""
    global _transport
    if _transport is None:
        _transport = SyncTransport()
    return _transport


def run(job: Job, guard: Guard | None = None) -> ModelResponse | Stream:
    """The answer, or its stream once the first content is in hand."""
    result = _drive(job, guard)
    if isinstance(result, Completed):
        return ModelResponse(job.answer(result))
    return Stream(job, *result)


def run_embedding(job: Job, guard: Guard | None = None) -> EmbeddingResponse:
    """The vectors."""
    result = _drive(job, guard)
    assert isinstance(result, Completed)
    return EmbeddingResponse(job.answer(result))


def _drive(job: Job, guard: Guard | None) -> Completed | tuple[Opened, Rest | None]:
    try:
        if job.http_client is not None:
            from .transport.foreign import ForeignTransport

            return ForeignTransport(job.http_client).drive(job.run(guard))
        return sync_transport().drive(job.run(guard))
    except PlanFailed as e:
        failed = e
    raise job.error(failed)  # outside of the handler: the plan's own exception is no context of it


async def arun(job: Job, guard: Guard | None = None) -> ModelResponse | AsyncStream:
    """The same without blocking."""
    from .transport import aio

    failed: PlanFailed | None = None
    result: Completed | tuple[Opened, AsyncRest | None]
    try:
        if job.http_client is not None:
            from .transport.foreign import AsyncForeignTransport

            result = await AsyncForeignTransport(job.http_client).drive(job.run(guard))
        else:
            result = await aio.current().drive(job.run(guard))
    except PlanFailed as e:
        failed = e
    if failed is not None:
        raise job.error(failed)
    if isinstance(result, Completed):
        return ModelResponse(job.answer(result))
    return AsyncStream(job, *result)


async def arun_embedding(job: Job, guard: Guard | None = None) -> EmbeddingResponse:
    """The same without blocking."""
    return EmbeddingResponse(await arun(job, guard))  # type: ignore[arg-type]  # never a stream


@cache
def _has_openai() -> bool:
    return find_spec("openai") is not None


async def prepare(place: Place) -> None:
    """Before an asynchronous call: the openai package must be there; a cloud's credentials are fetched off the loop.

    Once fetched they are kept, so that resolving the call finds them without waiting.
    """
    require_openai()
    if engine_url(place):
        return  # it has credentials of its own
    models = [place.model, *(place.fallbacks if isinstance(place.fallbacks, (list, tuple)) else ())]
    for model in models:
        chain = chain_of(model) if isinstance(model, str) and not place.api_key and not place.api_base else ""
        if chain:
            from .transport.chain import afind

            await afind(chain, os.environ)


def require_openai() -> None:
    """The documented error where the openai package is missing."""
    if not _has_openai():
        raise ImportError("openai package required for async calls; it is in the default install: pip install openai")
