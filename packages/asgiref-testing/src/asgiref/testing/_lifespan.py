"""Runs an application's lifespan, as a server does, around a block of a test.

Startup and shutdown run in one task, which is not the test's: task groups and cancel scopes that
the application keeps open between the two belong to that task, as under a server.
"""

from types import TracebackType
from typing import Any, Self

from ._communicator import ApplicationCommunicator
from ._output import Output
from ._rules import CheckedQueue, Rules, next_event
from ._runner import Runner


class LifespanRules(Rules):
    """The rules for an application that answers lifespan events."""

    def __init__(self, application: object) -> None:
        super().__init__(application)
        self._due = _answers("startup")

    def _advance(self, event: Output) -> None:
        self.require_due(event, *self._due)
        self.is_over = event["type"] != "lifespan.startup.complete"
        self._due = _answers("shutdown")


def _answers(step: str) -> tuple[str, str]:
    return f"lifespan.{step}.complete", f"lifespan.{step}.failed"


class LifespanFailed(RuntimeError):
    """The application reported that its startup or shutdown failed. The text is its message.

    >>> str(LifespanFailed("The startup failed: no database"))
    'The startup failed: no database'
    """


class Lifespan(ApplicationCommunicator):
    """Starts an ASGI application, and shuts it down at the end of an ``async with`` block.

    Args:
        application: an ASGI application, single- or double-callable.
        required: whether an application must support the protocol. With False, an application that
            fails or returns instead of answering the startup event is assumed not to support it, as
            under a server: the failure is not raised, and ``supported`` is False.
        timeout: how many seconds startup and shutdown may each take; None means no limit.

    Raises:
        TypeError: if ``application`` is not an ASGI application.
        LifespanFailed: if the application reports that startup or shutdown failed.
        TimeoutError: if the application does not answer in time; it is then cancelled.
        AssertionError: if the application sends an event that the specification (ASGI lifespan 2.0)
            does not allow, even if the test has not read it.
        Exception: the application's own exception, if it fails.

    Attributes:
        state: values that the application keeps for its requests. Pass it as ``state`` to
            `HttpExchange` and `WebsocketConversation`, which copy it.
        supported: whether the application has answered the startup event.

    Everything runs on the test's thread and event loop. The application is also shut down
    when the block ends with an exception; a failure of the shutdown does not replace that
    exception. An application that has already returned is not shut down. After its last answer, the
    application has ``timeout`` seconds to end. Cancelling a test while it waits cancels the
    application.

    >>> import asyncio
    >>> async def application(scope, receive, send):
    ...     await receive()
    ...     scope["state"]["greeting"] = "hello"
    ...     await send({"type": "lifespan.startup.complete"})
    ...     await receive()
    ...     print("closing")
    ...     await send({"type": "lifespan.shutdown.complete"})
    >>> async def main():
    ...     async with Lifespan(application) as lifespan:
    ...         print(lifespan.state["greeting"])
    >>> asyncio.run(main())
    hello
    closing
    """

    def __init__(
        self, application: object, *, required: bool = True, timeout: float | None = 5
    ) -> None:
        self.state: dict[str, Any] = {}
        self.required = required
        self.timeout = timeout
        self.supported: bool = False
        asgi = {"version": "3.0", "spec_version": "2.0"}
        super().__init__(application, {"type": "lifespan", "asgi": asgi, "state": self.state})
        self.__rules = LifespanRules(application)
        self._asgiref_use(Runner(application, CheckedQueue(self.__rules)))

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.send_input({"type": "lifespan.startup"})
        try:
            if self.required or not await self.__ends_without_an_answer():
                await self.__answer("startup")
                self.supported = True
        except BaseException:
            await self._asgiref_runner.cancel("its startup failed")
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            if self.supported and not self.future.cancelling():
                await self.__shut_down()
        except Exception:
            if exc_type is None:
                raise
        finally:
            await self._asgiref_runner.cancel("the test is over")
        if exc_type is None and self.supported:
            self.raise_unseen_failure()

    def raise_unseen_failure(self) -> None:
        """Raise the application's failure, if it has failed, unless the test has already seen it.

        An event that a server would reject is a failure. An ``async with`` block does this when it
        exits; call it at the end of a test that has no block. It does not wait, and needs no event
        loop.
        """
        super().raise_unseen_failure()
        self.__rules.raise_violation()

    async def __ends_without_an_answer(self) -> bool:
        runner = self._asgiref_runner
        await runner.outputs.until_output_or_end(runner.task, self.timeout)
        if not runner.outputs.empty() or not runner.task.done():
            return False
        self.__rules.raise_violation()
        await runner.cancel("it does not support lifespans")  # marks its failure as retrieved
        return True

    async def __shut_down(self) -> None:
        runner = self._asgiref_runner
        if not runner.has_returned():  # servers accept an application that returns early
            await runner.send({"type": "lifespan.shutdown"})
            await self.__answer("shutdown")
        await runner.wait(self.timeout)

    async def __answer(self, step: str) -> None:
        """Wait for the answer to ``lifespan.{step}``; raise LifespanFailed if it is a failure."""
        runner, complete_or_failed = self._asgiref_runner, _answers(step)
        answer = await next_event(runner, self.__rules, self.timeout, *complete_or_failed)
        if answer["type"] == complete_or_failed[1]:
            raise LifespanFailed(f"The {step} failed: {answer.get('message') or 'no reason given'}")
