"""Streams as the caller sees them: iterators of chunks, context managers, and at the end the whole answer.

What a chunk means is the decoder's business, how bytes come the transport's. Here: when the stream is over, what the
last chunk carries, which error breaks it, and that leaving it closes the connection (the transport's answer closes it
when the last reference to it goes).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from ._job import Job
from .core.failure import interrupted
from .core.fold import fold
from .core.plan import UNREADABLE, Opened, unreadable
from .core.wire import Attempt, Chunk, Decoder, Failure, Target
from .types import ModelResponse, StreamChunk, stream_chunk

if TYPE_CHECKING:
    from .errors import APIError  # at run time this would import the openai package

_now = time.monotonic


class Rest(Protocol):
    """A blocking transport's opened answer."""

    def read(self, deadline: float) -> bytes | Failure:
        """The next piece, b'' at the end."""
        ...

    def finish(self) -> None:
        """Read as far as it is wanted."""
        ...

    def close(self) -> None:
        """Not wanted any more."""
        ...


class AsyncRest(Protocol):
    """An asynchronous transport's opened answer."""

    async def read(self, deadline: float) -> bytes | Failure:
        """The next piece, b'' at the end."""
        ...

    def finish(self) -> None:
        """Read as far as it is wanted."""
        ...

    def close(self) -> None:
        """Not wanted any more."""
        ...


class Progress:
    """How far a stream has come: pure, and the same for both kinds of stream."""

    __slots__ = ("_attempts", "_job", "_progress", "_timeout", "decoder", "failure", "left", "over", "shown", "target")

    def __init__(self, job: Job, opened: Opened) -> None:
        self._job = job
        self.target: Target = opened.target
        self._attempts: list[Attempt] = opened.attempts
        self.decoder: Decoder | None = opened.decoder
        self.failure: Failure | None = None
        self.over = False
        self.shown: list[Chunk] = []  # as they came, for `response` and `partial`
        self._timeout = self.left = job.policy.timeout  # seconds of waiting until the next content is late
        self._progress = self.decoder.progress if self.decoder is not None else 0

    def first(self, opened: Opened) -> list[Chunk]:
        """The chunks in hand when the stream was opened."""
        decoder = self.decoder
        if decoder is None:
            return self._last(opened.chunks)
        self.failure = decoder.failure
        if self.failure is None and (opened.ended or decoder.done):
            return self._last(opened.chunks)
        return self._shown(opened.chunks)

    def took(self, data: bytes | Failure, waited: float) -> list[Chunk]:
        """The chunks that a read gave; `failure` or `over` may be set with them."""
        decoder = self.decoder
        assert decoder is not None
        if isinstance(data, Failure):
            self.failure = interrupted(data)
            self.over = True
            return []
        try:
            chunks = decoder.feed(data) if data else decoder.close()
        except UNREADABLE as e:
            self.failure = unreadable(e)
            self.over = True
            return []
        if decoder.progress != self._progress:
            self._progress = decoder.progress
            self.left = self._timeout
        else:
            self.left -= waited
        self.failure = decoder.failure
        if self.failure is None and (decoder.done or not data):
            return self._last(chunks)
        return self._shown(chunks)

    def _shown(self, chunks: list[Chunk]) -> list[Chunk]:
        self.shown += chunks
        self.over = self.failure is not None
        return chunks

    def _last(self, chunks: list[Chunk]) -> list[Chunk]:
        self.over = True
        self.shown += chunks
        if chunks:
            last = chunks[-1]
            whole = {"model": last.get("model"), "usage": last.get("usage")}
            whole |= {k: last[k] for k in ("_provider", "_cost", "_routing") if k in last}
            last.update(self._job.extras(self.target, self._attempts, whole))
        return chunks

    def error(self) -> APIError:
        """What to raise once the chunks before the failure have been given."""
        assert self.failure is not None
        partial = self.response() if self.shown else None
        # the last failure of each target before this one
        earlier = {id(a.target): (a.target, a.failure) for a in self._attempts if a.failure is not None}
        others = [pair for pair in earlier.values() if pair[0] is not self.target]
        return self._job.raised(self.failure, self.target, self._attempts, others, partial)

    def response(self) -> ModelResponse:
        """Everything shown so far as one answer."""
        return ModelResponse(fold(self.shown))


class _Base:
    """What both kinds of stream have."""

    def __init__(self, job: Job, opened: Opened) -> None:
        self._progress = Progress(job, opened)
        self._opened = opened

    @property
    def response(self) -> ModelResponse | None:
        """The whole answer with usage and extras, once the stream has ended as it should; None before."""
        done = self._progress.over and self._progress.failure is None
        return self._progress.response() if done else None

    @property
    def partial(self) -> ModelResponse:
        """The answer as far as it has come."""
        return self._progress.response()

    def __repr__(self) -> str:
        target, state = self._progress.target, "ended" if self._progress.over else "open"
        return f"<{type(self).__name__} of {target.name}, {state}, {len(self._progress.shown)} chunks>"


class Stream(_Base, Iterator[StreamChunk]):
    """The chunks of one answer; also a context manager. Leaving it early closes the connection to the provider."""

    def __init__(self, job: Job, opened: Opened, answer: Rest | None) -> None:
        super().__init__(job, opened)
        self._answer = answer
        self._chunks = self._generate(self._progress, opened, answer)

    @staticmethod
    def _generate(progress: Progress, opened: Opened, answer: Rest | None) -> Iterator[StreamChunk]:
        """Needs no reference to the stream: a caller's `for` keeps only this generator alive."""
        try:
            chunks = progress.first(opened)
            while True:
                if progress.over and answer is not None:
                    if progress.failure is None:
                        answer.finish()
                    else:
                        answer.close()
                for chunk in chunks:
                    yield stream_chunk(chunk)
                if progress.over or answer is None:
                    break
                start = _now()
                data = answer.read(start + progress.left)
                chunks = progress.took(data, _now() - start)
        finally:
            if answer is not None:
                answer.close()
        if progress.failure is not None:
            raise progress.error()

    def __iter__(self) -> Iterator[StreamChunk]:
        return self._chunks

    def __next__(self) -> StreamChunk:
        return next(self._chunks)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection if the stream has not ended; no more chunks come."""
        self._chunks.close()  # type: ignore[attr-defined]  # a generator, typed as what callers may rely on
        if self._answer is not None:
            self._answer.close()


class AsyncStream(_Base, AsyncIterator[StreamChunk]):
    """The chunks of one answer, for `async for`; also a context manager. Leaving it early closes the connection."""

    def __init__(self, job: Job, opened: Opened, answer: AsyncRest | None) -> None:
        super().__init__(job, opened)
        self._answer = answer
        self._ready: list[Chunk] = []
        self._next = 0
        self._begun = self._closed = False

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> StreamChunk:
        while True:
            if self._next < len(self._ready):
                chunk = self._ready[self._next]
                self._next += 1
                return stream_chunk(chunk)
            if self._closed:
                raise StopAsyncIteration
            await self._more()

    async def _more(self) -> None:
        progress, answer = self._progress, self._answer
        self._next = 0
        if not self._begun:
            self._begun = True
            self._ready = progress.first(self._opened)
        elif progress.over or answer is None:
            self.close()
            if progress.failure is not None:
                raise progress.error()
            self._ready = []
        else:
            start = _now()
            data = await answer.read(start + progress.left)
            self._ready = progress.took(data, _now() - start)
        if progress.over and answer is not None:
            if progress.failure is None:
                answer.finish()
            else:
                answer.close()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """Closes the connection if the stream has not ended; no more chunks come."""
        self.close()

    def close(self) -> None:
        """The same without awaiting; nothing in it has to wait. Call it on the stream's event loop."""
        self._closed = True
        self._ready = []
        self._next = 0
        if self._answer is not None:
            self._answer.close()
            self._answer = None
