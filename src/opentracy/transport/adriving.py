"""`driving` where sending and reading wait: the one loop of every asynchronous transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from ..core.plan import Completed, Discard, Opened, Read, Run, Send, Sleep, Step
from ..core.wire import Failure, HttpHead, HttpResponse


class AsyncReadable(Protocol):
    """The rest of an opened answer."""

    head: HttpHead

    async def read(self, deadline: float) -> bytes | Failure:
        """The next piece of the body, b'' at its end. `deadline`: a point on `time.monotonic`'s clock."""
        ...

    def close(self) -> None:
        """Nothing more is wanted."""
        ...


A = TypeVar("A", bound=AsyncReadable)


async def adrive(
    run: Run, send: Callable[[Send], Awaitable[HttpResponse | Failure | A]], first: Step | None = None
) -> Completed | tuple[Opened, A | None]:
    """`drive` where sending and reading wait. Cancelling closes the connection. first: a step that was taken from the
    plan already."""
    answer: A | None = None
    reply: object = None
    try:
        while True:
            step, first = first or run.send(reply), None
            if type(step) is Send:
                reply = outcome = await send(step)
                if not isinstance(outcome, HttpResponse | Failure):
                    answer, reply = outcome, outcome.head
            elif type(step) is Read:
                assert answer is not None
                reply = await answer.read(step.deadline)
            elif type(step) is Sleep:
                await asyncio.sleep(step.seconds)
                reply = None
            elif type(step) is Discard and answer is not None:
                answer.close()
                reply = None
    except StopIteration as end:
        result: Completed | Opened = end.value
    except BaseException:
        if answer is not None:
            answer.close()
        raise
    return result if isinstance(result, Completed) else (result, None if result.ended else answer)
