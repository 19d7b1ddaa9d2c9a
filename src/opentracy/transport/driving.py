"""A plan's steps, performed by whoever can send; and the loop of every blocking transport.

Belongs here: what each step of a plan asks for, and an opened answer whose connection is given back or closed. Not
here: the loop where sending waits (`adriving`: blocking calls do not load asyncio), how a request travels (`sync`,
`aio`, `foreign`), what to do next (the plan).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

from ..core.plan import Completed, Discard, Opened, Read, Run, Send, Sleep, Step
from ..core.wire import Failure, HttpHead, HttpResponse


class Closable(Protocol):
    """The rest of an opened answer, however it is read."""

    head: HttpHead

    def close(self) -> None:
        """Nothing more is wanted."""
        ...


class Readable(Closable, Protocol):
    """The rest of an opened answer."""

    def read(self, deadline: float) -> bytes | Failure:
        """The next piece of the body, b'' at its end. `deadline`: a point on `time.monotonic`'s clock."""
        ...


H = TypeVar("H", bound=Closable)
R = TypeVar("R", bound=Readable)
C = TypeVar("C")
C_in = TypeVar("C_in", contravariant=True)

Waiting = Send | Read | Sleep
"""The steps that take time; whoever drives a plan performs these."""

Driven = Completed | tuple[Opened, H | None]
"""What a plan comes to: an opened stream with the answer that holds its rest, None when that was read already."""


def performed(run: Run, first: Step | None = None) -> Generator[tuple[Waiting, H | None], Any, Driven[H]]:
    """A plan as its driver sees it: steps that take time, each with the open answer, and what became of them sent back.

    What came of a Send is a whole response, an opened answer or a Failure. Closed half-way, or when the plan gives up,
    it closes the open answer. `first`: a step that was taken from the plan already.
    """
    answer: H | None = None
    reply: Any = None
    try:
        while True:
            step, first = first or run.send(reply), None
            if isinstance(step, Discard):
                if answer is not None:
                    answer.close()
                reply = None
                continue
            reply = yield step, answer
            if type(step) is Send and not isinstance(reply, HttpResponse | Failure):
                answer, reply = reply, reply.head
    except StopIteration as end:
        result: Completed | Opened = end.value
    except BaseException:
        if answer is not None:
            answer.close()
        raise
    return result if isinstance(result, Completed) else (result, None if result.ended else answer)


def drive(run: Run, send: Callable[[Send], HttpResponse | Failure | R]) -> Driven[R]:
    """Performs a plan to its end; PlanFailed and ValueError (a request that cannot be sent) pass through."""
    steps: Generator[tuple[Waiting, R | None], Any, Driven[R]] = performed(run)
    reply: object = None
    try:
        while True:
            step, answer = steps.send(reply)
            if type(step) is Send:
                reply = send(step)
            elif type(step) is Read:
                assert answer is not None
                reply = answer.read(step.deadline)
            else:
                assert type(step) is Sleep
                time.sleep(step.seconds)
                reply = None
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # of `performed`
    finally:
        steps.close()


class Keeper(Protocol[C_in]):
    """Whoever gets a connection back."""

    def release(self, connection: C_in) -> None:
        """It may serve again."""
        ...

    def discard(self, connection: C_in) -> None:
        """It is closed."""
        ...


T = TypeVar("T", bound=Keeper[Any])


class Held(Generic[C, T]):
    """An opened answer and the connection it comes on. Dropping it closes the connection."""

    __slots__ = ("_connection", "_transport", "head")

    def __init__(self, transport: T, connection: C, head: HttpHead) -> None:
        self.head = head
        self._transport = transport
        self._connection: C | None = connection

    def finish(self) -> None:
        """Nothing more is wanted; the connection may serve again, once the rest of the body has arrived."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._transport.release(connection)

    def close(self) -> None:
        """Nothing more is wanted, and the provider shall stop: the connection is closed."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._transport.discard(connection)

    def __del__(self) -> None:
        self.close()
