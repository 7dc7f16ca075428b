"""The communicator: an application's task, the two queues around it, and a test's view of them.

The application runs in one task, made when it is first needed, in an empty context: what the test
has put into context variables must not leak into it, for a server would not leak either.

Rules, all on the thread of the event loop:

- output comes first. What the application sent before it ended can be read in order, and only when
  that is used up does a read tell how it ended;
- an end is told at once. A failure is raised, as the exception object itself, to every call that
  needs the application from then on; nothing waits for an application that cannot answer;
- a time-out cancels the application, unless it is told not to, and awaits its end; so does the
  cancellation of a test in `wait`. If it answers by failing, that failure is raised. As in asgiref,
  the cancellation of a test that reads leaves the application running;
- private names of methods and attributes start with ``_asgi``: subclasses have names of their own;
- the task and its coroutine never refer to the communicator. A communicator that is dropped is
  thereby finalized at once, and cancels an application that nobody talks to any more.
"""

# ruff: noqa: ASYNC109 - asgiref's API takes time-outs as arguments

import asyncio
import contextlib
import contextvars
import ctypes
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Never, Self

from asgiref.compatibility import SingleCallable, guarantee_single_callable

from ._output import Output, OutputQueue
from ._report import describe, doing, how_it_ended, is_mapping, safe_repr, type_of

#: Seconds that a cancelled application has to clean up.
_CLEANUP_SECONDS = 10.0
#: So often, and at intervals of so many seconds, one that goes on is cancelled again.
_ATTEMPTS, _ATTEMPT_SECONDS = 20, 0.05


class ApplicationCommunicator:
    """Runs an ASGI application for a test, which plays the server's part.

    Args:
        application: an ASGI application, single- or double-callable.
        scope: the scope that it is called with: a mapping, passed on as it is.
        cancel_on_timeout: whether a wait that times out cancels the application. With False a test
            can go on with it; each waiting call can decide for itself too.

    Raises:
        TypeError: if ``application`` is not an ASGI application or ``scope`` not a mapping.

    It needs a running event loop from its first use on, not when it is made, and must be used on
    that loop's thread. As an asynchronous context manager it starts the application and, at the end
    of the block, cancels it if it still runs, awaits it, and raises its failure unless the block
    has seen that already.

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

    _future: asyncio.Task[None] | None = None  # __del__ runs even if __init__ raised

    def __init__(
        self, application: object, scope: Mapping[str, Any], *, cancel_on_timeout: bool = True
    ) -> None:
        if not callable(application):
            raise TypeError(
                f"{safe_repr(application)} is not an ASGI application: it is not callable."
            )
        self.application: SingleCallable = guarantee_single_callable(application)
        if not is_mapping(scope):
            raise TypeError(
                f"The scope of an ASGI application must be a mapping, not {safe_repr(scope)}."
            )
        self.scope: Mapping[str, Any] = scope
        self.cancel_on_timeout = cancel_on_timeout
        self._asgi_inputs: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._asgi_outputs = OutputQueue()
        self._asgi_name = describe(application)
        self._asgi_failure_raised = False

    @property
    def input_queue(self) -> asyncio.Queue[Mapping[str, Any]]:
        """What the application has not yet received."""
        return self._asgi_inputs

    @property
    def output_queue(self) -> asyncio.Queue[Output]:
        """What the application has sent and nobody has read."""
        return self._asgi_outputs

    @property
    def future(self) -> asyncio.Task[None]:
        """The application's task; it is started when this is first read."""
        if self._future is None:
            # Not create_task(context=...): some task factories take two arguments only.
            create_task = asyncio.get_running_loop().create_task
            running = _run(self.application, self.scope, self._asgi_inputs, self._asgi_outputs)
            self._future = contextvars.Context().run(create_task, running)
            self._future.add_done_callback(self._asgi_outputs.wake)
        return self._future

    async def send_input(self, message: Mapping[str, Any]) -> None:
        """Give the application ``message`` to receive. Does not wait until it has received it.

        It starts the application if nothing has.

        Args:
            message: any mapping; passed on as it is.

        Raises:
            RuntimeError: if the application has returned. Only a disconnect (a type that ends in
                ``.disconnect``) is still accepted then, as it tells that nobody listens any more.
            asyncio.CancelledError: if the application was cancelled, for example by a time-out.
            Exception: the application's own, if it has failed.
        """
        if self.future.done():
            self._asgi_raise_failure()
            kind = type_of(message)
            if not kind.endswith(".disconnect"):
                ended = how_it_ended(self.future)
                raise RuntimeError(f"{self._asgi_name} cannot receive {kind!r} any more: {ended}.")
        await self._asgi_inputs.put(message)

    async def receive_output(
        self, timeout: float | None = 1, *, cancel_on_timeout: bool | None = None
    ) -> Output:
        """Take the next message that the application sent, waiting up to ``timeout`` seconds.

        Several calls that wait at once are served in the order of the calls.

        Args:
            timeout: in seconds; None waits as long as the application runs.
            cancel_on_timeout: whether a time-out cancels the application; None is what the
                communicator was made with.

        Returns:
            The message as a dict.

        Raises:
            TimeoutError: if none came in time (the application is cancelled and awaited then, see
                ``cancel_on_timeout``), or at once if the application has returned and none can.
            asyncio.CancelledError: if the application was cancelled and left no output.
            Exception: the application's own, if it failed and left no output.

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
        output = await self._asgi_outputs.take(self.future, timeout)
        if output is not None:
            return output
        if not self.future.done():
            await self._asgi_give_up(
                self._asgi_timed_out(f"sent nothing within {timeout} s"), cancel_on_timeout
            )
        self._asgi_raise_failure()
        raise TimeoutError(
            f"{self._asgi_name} will send nothing more: {how_it_ended(self.future)}."
        )

    async def receive_nothing(self, timeout: float = 0.1, interval: float = 0.01) -> bool:
        """Whether the application sends nothing for ``timeout`` seconds. Takes no message.

        It answers as soon as that is settled.

        Args:
            timeout: in seconds; 0 only looks.
            interval: kept for asgiref's signature, where it is the seconds between two looks; as
                there, the wait is at least that long if ``timeout`` is not zero.

        Returns:
            False with the first output, True once the time is over or the application has returned.

        Raises:
            asyncio.CancelledError: if the application was cancelled and left no output.
            Exception: the application's own, if it failed and left no output.
        """
        future = self.future
        if timeout > 0 or future.done():
            await self._asgi_outputs.until_output_or_end(future, max(timeout, interval))
        if not self._asgi_outputs.empty():
            return False
        if future.done():
            self._asgi_raise_failure()
        return True

    async def wait(
        self, timeout: float | None = 1, *, cancel_on_timeout: bool | None = None
    ) -> None:
        """Wait up to ``timeout`` seconds for the application to end by itself.

        An application that was cancelled has ended, and that is no error here.

        Args:
            timeout: in seconds; None waits as long as the application runs.
            cancel_on_timeout: whether a time-out, or the cancellation of this call, cancels the
                application; None is what the communicator was made with.

        Raises:
            TimeoutError: if it has not ended in time (see ``cancel_on_timeout``).
            Exception: the application's own, if it has failed.
        """
        cancel = self.cancel_on_timeout if cancel_on_timeout is None else cancel_on_timeout
        if not await self._asgi_ended_within(timeout, cancel):
            await self._asgi_give_up(
                self._asgi_timed_out(f"did not end within {timeout} s"), cancel
            )
        if not self.future.cancelled():
            self._asgi_raise_failure()

    def stop(self, exceptions: bool = True) -> None:
        """Cancel the application if it runs, without waiting; do nothing if it never started.

        Args:
            exceptions: raise its failure (or its cancellation) if it has ended already.
        """
        future = self._future
        if future is None:
            return
        if not future.done():
            future.cancel()
        elif exceptions:
            self._asgi_raise_failure()

    def raise_unseen_failure(self) -> None:
        """Raise the failure of an application that has failed, unless the test has seen it.

        The end of an ``async with`` block does this by itself; without one, it is for the end of a
        test. Does not wait, and needs no event loop.

        >>> async def failing(scope, receive, send):
        ...     raise LookupError("nobody reads")
        >>> async def main():
        ...     communicator = ApplicationCommunicator(failing, {})
        ...     await asyncio.wait({communicator.future})
        ...     communicator.raise_unseen_failure()
        >>> asyncio.run(main())
        Traceback (most recent call last):
        LookupError: nobody reads
        """
        future = self._future
        if self._asgi_failure_raised or future is None or not future.done() or future.cancelled():
            return
        failure = future.exception()
        try:
            if failure is not None and not self._asgi_is_expected(failure):
                self._asgi_raise_failure()
        finally:
            del failure  # its traceback refers to this frame

    async def __aenter__(self) -> Self:
        _ = self.future  # reading it starts the application
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self._asgi_cancel("the test is over")
        if exc_type is None:
            self.raise_unseen_failure()

    def __del__(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the task with it
            self.stop(exceptions=False)

    def _asgi_is_expected(self, failure: BaseException) -> bool:
        """Whether the application may end that way; asked at the end of the block only."""
        return False

    def _asgi_raise_failure(self) -> None:
        """Raise how the ended application ended, unless it simply returned."""
        try:
            self.future.result()
        except BaseException:
            self._asgi_failure_raised = True
            raise

    async def _asgi_ended_within(self, timeout: float | None, cancel: bool = True) -> bool:
        """Wait for the end; False if ``timeout`` seconds did not bring it."""
        try:
            return await self._asgi_outputs.until_end(self.future, timeout)
        except asyncio.CancelledError:
            if cancel:
                await self._asgi_cancel("the test that waited for it was cancelled")
            raise

    def _asgi_timed_out(self, what: str) -> TimeoutError:
        return TimeoutError(f"{self._asgi_name} {what}: {doing(self.future)}.")

    async def _asgi_give_up(self, error: TimeoutError, cancel: bool | None) -> Never:
        """Cancel the application, if wanted, and raise ``error``, or its failure if it has one."""
        try:
            if self.cancel_on_timeout if cancel is None else cancel:
                await self._asgi_cancel(str(error))
                if not self.future.cancelled():
                    self._asgi_raise_failure()
            raise error
        finally:
            del error  # its traceback refers to this frame

    async def _asgi_cancel(self, reason: str) -> None:
        """Cancel the application and await its end, however it ends.

        The caller tells of a failure, or has something better to tell; asyncio shall not.

        Raises:
            RuntimeError: if it goes on although it is cancelled again and again.
        """
        future = self.future
        for seconds in (_CLEANUP_SECONDS, *[_ATTEMPT_SECONDS] * _ATTEMPTS):
            if not future.done():
                future.cancel(f"{self._asgi_name} was cancelled: {reason}")
                await asyncio.wait({future}, timeout=seconds)
        if not future.done():
            what = doing(future)
            _abandon(future)
            raise RuntimeError(
                f"{self._asgi_name} ignores its cancellation, and is abandoned: {what}."
            )
        if not future.cancelled():
            future.exception()


def _abandon(task: asyncio.Task[None]) -> None:
    """Stop Python from waiting for a task that ignores its cancellation.

    ``asyncio.run`` waits for every task that it knows of, without a limit. A coroutine that is
    destroyed gets a GeneratorExit, which it may ignore as well: so this one never is.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
    asyncio.tasks._unregister_task(task)  # pyright: ignore
    task._log_destroy_pending = False  # type: ignore[attr-defined] # pyright: ignore


async def _run(
    application: SingleCallable,
    scope: Mapping[str, Any],
    inputs: asyncio.Queue[Mapping[str, Any]],
    outputs: OutputQueue,
) -> None:
    await application(scope, inputs.get, outputs.put)
