"""The life of a server around a block of a test.

The application is started up when the block begins and shut down when it ends, in one task that is
not the test's: whatever it keeps open between the two (task groups, cancel scopes) belongs to that
task, as under a server.
"""

from types import TracebackType
from typing import Any, Self

from ._communicator import ApplicationCommunicator
from ._report import safe_repr, type_of


class LifespanFailed(RuntimeError):
    """The application answered that its startup or shutdown failed; the text is its message.

    >>> str(LifespanFailed("The startup failed: no database"))
    'The startup failed: no database'
    """


class Lifespan(ApplicationCommunicator):
    """Starts an ASGI application up and, at the end of an ``async with`` block, shuts it down.

    Args:
        application: an ASGI application, single- or double-callable.
        required: whether an application must have a lifespan. With False, one that fails or returns
            instead of answering the startup is taken to have none, as servers do; the failure is
            not raised then, and ``supported`` is False.
        timeout: how many seconds startup and shutdown may take each; None is for ever.

    Raises:
        TypeError: if ``application`` is not an ASGI application.
        LifespanFailed: if the application answers that startup or shutdown failed.
        TimeoutError: if it does not answer in time; it is cancelled then.
        AssertionError: if it sends what the specification (ASGI lifespan 2.0) does not allow there.
        Exception: the application's own, if it fails.

    Attributes:
        state: what the application keeps for its requests. Pass it on as ``state`` of
            `HttpExchange` and `WebsocketConversation`, which copy it.
        supported: whether the application has answered the startup.

    Everything runs on the thread and the event loop of the test. The application is shut down also
    when the block ends by an exception, which nothing that happens then replaces. It has
    ``timeout`` seconds to end after its last answer. A test that is cancelled while it waits
    cancels it.

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

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.send_input({"type": "lifespan.startup"})
        if self.required or not await self._ends_without_an_answer():
            try:
                await self._answer("startup")
            except BaseException:
                await self._asgi_cancel("its startup failed")
                raise
            self.supported = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            if self.supported and not self.future.cancelling():
                await self._shut_down()
        except Exception:
            if exc_type is None:
                raise
        finally:
            await self._asgi_cancel("the test is over")

    async def _ends_without_an_answer(self) -> bool:
        await self._asgi_outputs.until_output_or_end(self.future, self.timeout)
        if not self._asgi_outputs.empty() or not self.future.done():
            return False
        await self._asgi_cancel(
            "it has no lifespan"
        )  # it has ended; nobody else hears of its failure
        return True

    async def _shut_down(self) -> None:
        if self.future.done():  # as servers do, which need no answer then
            self.raise_unseen_failure()
        else:
            await self.send_input({"type": "lifespan.shutdown"})
            await self._answer("shutdown")
            await self.wait(self.timeout)
        if not self._asgi_outputs.empty():
            event = self._asgi_outputs.get_nowait()
            raise AssertionError(
                f"{self._asgi_name} sent something after the end: {safe_repr(event)}."
            )

    async def _answer(self, step: str) -> None:
        """Wait for the answer to ``lifespan.{step}``, which must be that it is complete."""
        try:
            answer = await self.receive_output(self.timeout)
        except TimeoutError as error:
            error.add_note(
                f"The test waited for lifespan.{step}.complete or lifespan.{step}.failed."
            )
            raise
        kind = type_of(answer)
        if kind == f"lifespan.{step}.failed":
            raise LifespanFailed(f"The {step} failed: {answer.get('message') or 'no reason given'}")
        if kind != f"lifespan.{step}.complete":
            raise AssertionError(f"{self._asgi_name} sent {kind!r} in answer to 'lifespan.{step}'.")
