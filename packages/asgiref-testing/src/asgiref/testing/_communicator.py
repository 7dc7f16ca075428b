"""The communicator: a test's view of an application that runs in a task.

- Output comes first: the test can read everything that the application sent before it ended, in
  order. Only the next read raises the application's failure, or an error that says how it ended.
- The end is reported at once. Every later call that needs the application raises its failure, as
  the same exception object; no call waits for an application that cannot answer.
- A timeout cancels the application, and so does cancelling a test that is in ``wait``, unless
  ``cancel_on_timeout`` is False. As in asgiref, cancelling a test that is reading does not cancel
  the application.
"""

# ruff: noqa: ASYNC109 - asgiref's API takes timeouts as arguments

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from asgiref.compatibility import SingleCallable, guarantee_single_callable

from ._output import Output, OutputQueue
from ._report import safe_repr
from ._runner import Runner


class ApplicationCommunicator:
    """Runs an ASGI application for a test, which acts as the server.

    Args:
        application: an ASGI application, single- or double-callable.
        scope: the scope that the application is called with, passed unchanged.
        cancel_on_timeout: whether a call that times out cancels the application. With False, a test
            can continue after a timeout. Each waiting call can override this.

    Raises:
        TypeError: if ``application`` is not an ASGI application.

    A communicator can be created without an event loop. From its first use it belongs to the
    running loop, and must be used on that loop's thread. As an asynchronous context manager it
    starts the application. At the end of the block it cancels the application if it is still
    running, waits for it to end, and raises its failure unless the test has already seen it.

    An application that is cancelled has 5 seconds for its cleanup. One that ignores its
    cancellation is terminated, and the test fails with a TimeoutError that names it.

    Attributes:
        application: the application, in single-callable style.
        scope: the scope.

    >>> async def application(scope, receive, send):
    ...     while (message := await receive())["type"] != "chat.leave":
    ...         await send({"type": "chat.reply", "text": message["text"].upper()})
    >>> async def main():
    ...     async with ApplicationCommunicator(application, {"type": "chat"}) as communicator:
    ...         await communicator.send_input({"type": "chat.message", "text": "hello"})
    ...         print(await communicator.receive_output(timeout=1))
    ...         print(await communicator.receive_nothing(timeout=0.01))
    ...         await communicator.send_input({"type": "chat.leave"})
    ...         await communicator.wait()
    >>> asyncio.run(main())
    {'type': 'chat.reply', 'text': 'HELLO'}
    True
    """

    # Subclasses written for asgiref have attributes of their own, which must not replace this one.
    __asgiref_runner: Runner | None = None  # __del__ runs even if __init__ raised

    def __init__(
        self, application: object, scope: Mapping[str, Any], *, cancel_on_timeout: bool = True
    ) -> None:
        if not callable(application):
            raise TypeError(
                f"{safe_repr(application)} is not an ASGI application: it is not callable."
            )
        self.application: SingleCallable = guarantee_single_callable(application)
        self.scope: Mapping[str, Any] = scope
        self._asgiref_use(Runner(application, OutputQueue(), cancel_on_timeout))

    def _asgiref_use(self, runner: Runner) -> None:
        """Set the runner; the helpers have their own."""
        self.__asgiref_runner = runner

    @property
    def _asgiref_runner(self) -> Runner:
        """Start the application if necessary, and return its runner."""
        _ = self.future
        return self.__required_runner

    @property
    def __required_runner(self) -> Runner:
        if self.__asgiref_runner is None:
            raise RuntimeError(f"{type(self).__name__}.__init__() did not call super().__init__().")
        return self.__asgiref_runner

    @property
    def input_queue(self) -> asyncio.Queue[Mapping[str, Any]]:
        """Events that the application has not received yet."""
        return self.__required_runner.inputs

    @property
    def output_queue(self) -> asyncio.Queue[Output]:
        """Events that the application has sent and the test has not read yet."""
        return self.__required_runner.outputs

    @property
    def future(self) -> asyncio.Task[Any]:
        """The application's task. Reading this attribute starts the application.

        As in asgiref, the result of the task is the application's return value.
        """
        return self.__required_runner.start(self.application, self.scope)

    async def send_input(self, message: Mapping[str, Any]) -> None:
        """Queue ``message`` for the application. Does not wait for the application to receive it.

        Starts the application if it has not been started.

        Args:
            message: any mapping; passed unchanged.

        Raises:
            RuntimeError: if the application has returned. Not raised for a disconnect (an event
                whose type ends in ``.disconnect``), which a client may always send.
            asyncio.CancelledError: if the application was cancelled, for example by a timeout.
            Exception: the application's own exception, if it has failed.
        """
        await self._asgiref_runner.send(message)

    async def receive_output(
        self, timeout: float | None = 1, *, cancel_on_timeout: bool | None = None
    ) -> Output:
        """Return the next message that the application sends, waiting up to ``timeout`` seconds.

        Concurrent calls are served in the order in which they were made. Cancelling the call does
        not cancel the application and loses no message.

        Args:
            timeout: in seconds; None waits as long as the application runs.
            cancel_on_timeout: whether a timeout cancels the application; None means the
                communicator's setting.

        Returns:
            The message as a dict.

        Raises:
            TimeoutError: if no message arrives in time (the application is then cancelled and
                awaited, see ``cancel_on_timeout``), or immediately if the application has returned.
            asyncio.CancelledError: if the application was cancelled and left no output.
            Exception: the application's own exception, if it failed and left no output.

        >>> async def silent(scope, receive, send):
        ...     await receive()
        >>> async def main():
        ...     communicator = ApplicationCommunicator(silent, {})
        ...     try:
        ...         await communicator.receive_output(timeout=0.01, cancel_on_timeout=False)
        ...     except TimeoutError as error:
        ...         print("waited for input" in str(error), communicator.future.done())
        ...     communicator.stop()
        >>> asyncio.run(main())
        True False
        """
        return await self._asgiref_runner.receive(timeout, cancel_on_timeout)

    async def receive_nothing(self, timeout: float = 0.1, interval: float = 0.01) -> bool:
        """Return whether the application sends nothing for ``timeout`` seconds. Consumes nothing.

        Args:
            timeout: in seconds; 0 checks without waiting.
            interval: the polling interval in asgiref; this method does not poll. As in asgiref, the
                wait is at least this long unless ``timeout`` is zero.

        Returns:
            False as soon as there is output; True when the timeout expires or the application
                returns.

        Raises:
            asyncio.CancelledError: if the application was cancelled and left no output.
            Exception: the application's own exception, if it failed and left no output.
        """
        return await self._asgiref_runner.sends_nothing(timeout, interval)

    async def wait(
        self, timeout: float | None = 1, *, cancel_on_timeout: bool | None = None
    ) -> None:
        """Wait up to ``timeout`` seconds for the application to end by itself.

        An application that was cancelled counts as ended, not as failed.

        Args:
            timeout: in seconds; None waits as long as the application runs.
            cancel_on_timeout: whether a timeout, or the cancellation of this call, cancels the
                application; None means the communicator's setting.

        Raises:
            TimeoutError: if the application has not ended in time (see ``cancel_on_timeout``).
            Exception: the application's own exception, if it has failed.
        """
        await self._asgiref_runner.wait(timeout, cancel_on_timeout)

    def stop(self, exceptions: bool = True) -> None:
        """Cancel the application without waiting. Does nothing if it has not been started.

        Args:
            exceptions: whether to raise the failure (or the cancellation) of an application that
                has already ended.
        """
        if self.__asgiref_runner is not None:
            self.__asgiref_runner.stop(exceptions)

    def raise_unseen_failure(self) -> None:
        """Raise the application's failure, if it has failed, unless the test has already seen it.

        An ``async with`` block does this when it exits; call it at the end of a test that has no
        block. It does not wait, and needs no event loop.

        >>> async def failing(scope, receive, send):
        ...     raise LookupError("not read")
        >>> async def main():
        ...     communicator = ApplicationCommunicator(failing, {})
        ...     await asyncio.wait({communicator.future})
        ...     communicator.raise_unseen_failure()
        >>> asyncio.run(main())
        Traceback (most recent call last):
        LookupError: not read
        """
        self.__required_runner.raise_unseen_failure()

    async def __aenter__(self) -> Self:
        _ = self.future  # reading it starts the application
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        runner = self._asgiref_runner
        await runner.cancel("the test is over")
        if exc_val is None:
            self.raise_unseen_failure()
        elif runner.stuck is not None and not runner.failure_raised:
            exc_val.add_note(runner.stuck)

    def __del__(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the task with it
            self.stop(exceptions=False)
