"""A plan's steps, performed by whoever can send: the one loop of every blocking transport.

Belongs here: what each step of a plan asks for, and an opened answer whose connection is given back or closed. Not
here: the loop where sending waits (`adriving`: blocking calls do not load asyncio), how a request travels (`sync`,
`aio`, `foreign`), what to do next (the plan).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from ..core.plan import Completed, Discard, Opened, Read, Run, Send, Sleep
from ..core.wire import Failure, HttpHead, HttpResponse


class Readable(Protocol):
    """The rest of an opened answer."""

    head: HttpHead

    def read(self, deadline: float) -> bytes | Failure:
        """The next piece of the body, b'' at its end. `deadline`: a point on `time.monotonic`'s clock."""
        ...

    def close(self) -> None:
        """Nothing more is wanted."""
        ...


R = TypeVar("R", bound=Readable)
C = TypeVar("C")
C_in = TypeVar("C_in", contravariant=True)


def drive(run: Run, send: Callable[[Send], HttpResponse | Failure | R]) -> Completed | tuple[Opened, R | None]:
    """Performs a plan to its end; PlanFailed and ValueError (a request that cannot be sent) pass through.

    An opened stream comes with the answer that holds its rest, or None when that was read already.
    """
    answer: R | None = None
    reply: object = None
    try:
        while True:
            step = run.send(reply)
            if type(step) is Send:
                reply = outcome = send(step)
                if not isinstance(outcome, HttpResponse | Failure):
                    answer, reply = outcome, outcome.head
            elif type(step) is Read:
                assert answer is not None
                reply = answer.read(step.deadline)
            elif type(step) is Sleep:
                time.sleep(step.seconds)
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
