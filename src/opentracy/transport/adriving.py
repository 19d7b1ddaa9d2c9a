"""`driving` where sending and reading wait: the loop of every asynchronous transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar

from ..core.plan import Read, Run, Send, Sleep, Step
from ..core.wire import Failure, HttpResponse
from .driving import Closable, Driven, Waiting, performed


class AsyncReadable(Closable, Protocol):
    """The rest of an opened answer."""

    async def read(self, deadline: float) -> bytes | Failure:
        """The next piece of the body, b'' at its end. `deadline`: a point on `time.monotonic`'s clock."""
        ...


A = TypeVar("A", bound=AsyncReadable)


async def adrive(
    run: Run, send: Callable[[Send], Awaitable[HttpResponse | Failure | A]], first: Step | None = None
) -> Driven[A]:
    """`drive` where sending and reading wait. Cancelling closes the connection. first: a step that was taken from the
    plan already."""
    steps: Generator[tuple[Waiting, A | None], Any, Driven[A]] = performed(run, first)
    reply: object = None
    try:
        while True:
            step, answer = steps.send(reply)
            if type(step) is Send:
                reply = await send(step)
            elif type(step) is Read:
                assert answer is not None
                reply = await answer.read(step.deadline)
            else:
                assert type(step) is Sleep
                await asyncio.sleep(step.seconds)
                reply = None
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # of `performed`
    finally:
        steps.close()
