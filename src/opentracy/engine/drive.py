"""Performs a plan by callbacks: in the usual case a call costs neither a task nor a future.

It drives the same steps over the same transport as `AioTransport.drive`, for the usual case only: a connection lies
ready, the provider answers, the answer is good. For everything else (connecting, waiting before a retry) it hands the
rest of the plan to `drive` in a task.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from opentracy.core.failure import transport_failure
from opentracy.core.plan import Completed, Opened, Read, Run, Send, Step
from opentracy.transport.aanswer import Answer
from opentracy.transport.aconnection import Connection
from opentracy.transport.aio import AioTransport


class Client(Protocol):
    """Who hears the outcome; exactly one of these, once, unless the drive is cancelled."""

    def completed(self, done: Completed) -> None:
        """A whole answer."""
        ...

    def opened(self, opened: Opened, answer: Answer | None) -> None:
        """A stream with its first content in hand."""
        ...

    def failed(self, problem: Exception) -> None:
        """PlanFailed; ValueError for a request that cannot be sent; anything else is a bug."""
        ...


class Drive:
    """One plan on its way."""

    __slots__ = ("_answer", "_client", "_connection", "_listening", "_plan", "_step", "_task", "_transport")

    def __init__(self, transport: AioTransport, plan: Run, client: Client) -> None:
        self._transport = transport
        self._plan = plan
        self._client = client
        self._connection: Connection | None = None  # with a request on it and no answer yet
        self._answer: Answer | None = None
        self._step: Step | None = None
        self._task: asyncio.Task[None] | None = None
        self._listening = False  # a connection may tell us once; what it does while it closes is not news

    def start(self) -> None:
        """Begins; may call the client before it returns."""
        self._advance(None)

    def take_over(self, connection: Connection | None, deadline: float) -> None:
        """Goes on from a first request that somebody else has sent; its answer is still to come."""
        self._plan.send(None)  # the step that was performed already
        self._connection = connection
        if connection is not None:
            self._listening = True
            connection.notify(deadline, self)

    def answered(self, outcome: Any) -> None:
        """After `take_over` without a connection: what came of that first request."""
        if type(outcome) is Answer:
            self._answer = outcome
            self._advance(outcome.head)
        else:
            self._advance(outcome)

    def cancel(self) -> None:
        """Gives the call up: its connection is closed at once, and the client hears nothing more."""
        self._listening = False
        if self._task is not None:
            self._task.cancel()
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.discard(connection)
        if self._answer is not None:
            self._answer.close()
        self._plan.close()

    # ---------------------------------------------------------------- a waiter of the connection
    def done(self) -> bool:
        """Whether nothing more is to be heard."""
        return not self._listening

    def set_result(self, result: None, /) -> None:
        """Something arrived, or the connection ended."""
        connection = self._connection
        if connection is not None:
            if not connection.begun():
                return
            self._connection = None
            self._listening = False
            self.answered(self._transport.outcome(connection))
            return
        assert self._answer is not None and type(self._step) is Read
        self._listening = False
        self._read(self._step)

    def set_exception(self, exception: TimeoutError, /) -> None:
        """The deadline passed."""
        self._listening = False
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.discard(connection)
            self._advance(transport_failure("timeout", "the provider did not answer in time"))
            return
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()
        self._advance(transport_failure("timeout", "the answer's next content did not arrive in time"))

    # ---------------------------------------------------------------- steps
    def _read(self, step: Read) -> None:
        answer = self._answer
        assert answer is not None
        data = answer.poll()
        if data is None:
            self._step = step
            self._listening = True
            answer.notify(step.deadline, self)
            return
        if not isinstance(data, bytes):
            self._answer = None
        self._advance(data)

    def _advance(self, reply: Any) -> None:
        try:
            step = self._plan.send(reply)
            if type(step) is Send:
                self._listening = True
                connection = self._transport.begin(step, self)
                if connection is not None:
                    self._connection = connection
                    return
                self._listening = False
            elif type(step) is Read:
                self._read(step)
                return
        except StopIteration as end:
            self._finish(end.value)
            return
        except Exception as e:
            self._listening = False
            self._client.failed(e)
            return
        answer, self._answer = self._answer, None
        if answer is not None:  # the plan wants something else than its rest
            answer.close()
        self._task = asyncio.get_running_loop().create_task(self._in_task(step))

    def _finish(self, result: Completed | Opened) -> None:
        if isinstance(result, Completed):
            self._client.completed(result)
        else:
            answer, self._answer = self._answer, None
            self._client.opened(result, None if result.ended else answer)

    async def _in_task(self, step: Step) -> None:
        try:
            result = await self._transport.drive(self._plan, step)
        except Exception as e:
            self._client.failed(e)
        else:
            if isinstance(result, Completed):
                self._client.completed(result)
            else:
                self._client.opened(*result)
