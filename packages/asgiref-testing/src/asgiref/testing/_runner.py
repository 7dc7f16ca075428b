"""Runs an application in a task, and tells the test how it ended.

Everything runs on the event loop's thread. The invariant: the task and its coroutine never refer to
the communicator. A dropped communicator is therefore finalized immediately, and cancels its
application.
"""

# ruff: noqa: ASYNC109 - asgiref's API takes timeouts as arguments

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Never

from asgiref.compatibility import SingleCallable

from ._output import Output, OutputQueue
from ._report import doing, how_it_ended, name_of, type_of

#: Seconds to wait for the application to end after each cancellation; the first wait allows
#: cleanup.
_CANCELLATIONS = (5.0, 0.1, 0.1)


def _always_reported(_: BaseException) -> bool:
    return False


class Runner:
    """One application's task and queues.

    Attributes:
        name: the application's name, for error messages.
        inputs: events that the application has not received yet.
        outputs: events that it sent and the test has not read yet.
        failure_raised: whether the test has seen how the application failed.
        stuck: a sentence about an application that ignored its cancellation, or None.
    """

    def __init__(
        self,
        application: object,
        outputs: OutputQueue,
        cancel_on_timeout: bool = True,
        is_expected: Callable[[BaseException], bool] = _always_reported,
    ) -> None:
        self.name = name_of(application)
        self.inputs: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.outputs = outputs
        self.failure_raised = False
        self.stuck: str | None = None
        self._cancel_on_timeout = cancel_on_timeout
        self._is_expected = is_expected  # consulted only about a failure at the end of the test
        self._task: asyncio.Task[Any] | None = None

    def start(self, application: SingleCallable, scope: Mapping[str, Any]) -> asyncio.Task[Any]:
        """Start the application unless it has been started, and return its task."""
        if self._task is None:
            create_task = asyncio.get_running_loop().create_task
            # Use an empty context, because a server would not pass on the test's context variables.
            # create_task(context=...) needs a task factory that accepts a context; not all do.
            self._task = contextvars.Context().run(
                create_task, _run(application, scope, self.inputs, self.outputs)
            )
            self._task.add_done_callback(self.outputs.wake)
        return self._task

    @property
    def task(self) -> asyncio.Task[Any]:
        """The task of an application that has been started."""
        if self._task is None:
            raise RuntimeError(f"{self.name} has not been started.")
        return self._task

    def has_returned(self) -> bool:
        """Return whether the application has ended by itself, without a failure."""
        task = self._task
        if task is None or not task.done() or task.cancelled():
            return False
        return task.exception() is None and not task.cancelling()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Put ``message`` into the input queue, unless the application can no longer receive it."""
        if self.task.done():
            self.raise_failure()
            kind = type_of(message)
            if not kind.endswith(".disconnect"):
                raise RuntimeError(
                    f"{self.name} cannot receive {kind!r} any more: {how_it_ended(self.task)}."
                )
        self.inputs.put_nowait(message)  # the queue is unbounded

    async def receive(self, timeout: float | None, cancel_on_timeout: bool | None = None) -> Output:
        """Return the next output, or raise the application's failure or a TimeoutError."""
        output = await self.outputs.take(self.task, timeout)
        if output is not None:
            return output
        if not self.task.done():
            await self.time_out(f"sent nothing within {timeout:.4g} s", cancel_on_timeout)
        self.raise_failure()
        raise TimeoutError(f"{self.name} will send nothing more: {how_it_ended(self.task)}.")

    async def sends_nothing(self, timeout: float, interval: float) -> bool:
        """Return whether no output arrives in time. Consumes no output."""
        if timeout > 0 or self.task.done():
            await self.outputs.until_output_or_end(self.task, max(timeout, interval))
        if not self.outputs.empty():
            return False
        if self.task.done():
            self.raise_failure()
        return True

    async def wait(self, timeout: float | None, cancel_on_timeout: bool | None = None) -> None:
        """Wait for the application to end, and raise its failure, if any."""
        cancel = self._cancel_on_timeout if cancel_on_timeout is None else cancel_on_timeout
        if not await self.ends_within(timeout, cancel):
            await self.time_out(f"did not end within {timeout} s", cancel)
        if not self.task.cancelled():
            self.raise_failure()

    async def ends_within(self, timeout: float | None, cancel: bool = True) -> bool:
        """Return whether the application ends within ``timeout`` seconds."""
        try:
            return await self.outputs.until_end(self.task, timeout)
        except asyncio.CancelledError:
            if cancel:
                await self.cancel("the test that waited for it was cancelled")
            raise

    async def time_out(self, what: str, cancel: bool | None = None) -> Never:
        """Raise TimeoutError; cancel the application first, and prefer its own failure if any."""
        error = TimeoutError(f"{self.name} {what}: {doing(self.task)}.")
        try:
            if self._cancel_on_timeout if cancel is None else cancel:
                await self.cancel(str(error))
                if self.stuck is not None:
                    self.failure_raised = True
                    error.add_note(self.stuck)
                elif not self.task.cancelled():
                    self.raise_failure()
            raise error
        finally:
            del error  # its traceback refers to this frame

    def stop(self, exceptions: bool) -> None:
        """Cancel the application without waiting; raise its failure if it has already ended."""
        if self._task is None:
            return
        if not self._task.done():
            self._task.cancel()
        elif exceptions:
            self.raise_failure()

    def raise_failure(self) -> None:
        """Raise the exception that ended the application, unless it returned."""
        self.failure_raised = True
        if self.stuck is not None:
            raise TimeoutError(self.stuck)
        self.task.result()

    def raise_unseen_failure(self) -> None:
        """Raise a failure that no call has raised yet, unless the application may end that way."""
        task = self._task
        if self.failure_raised or task is None:
            return
        if self.stuck is not None:
            self.raise_failure()
        if not task.done() or task.cancelled():
            return
        failure = task.exception()
        try:
            if failure is not None and not self._is_expected(failure):
                self.raise_failure()
        finally:
            del failure  # its traceback refers to this frame

    async def cancel(self, reason: str) -> None:
        """Cancel the application and wait for it to end. If it does not end, set ``stuck``.

        The caller reports how it ended. Asyncio must not log the failure too, so this marks it as
        retrieved.
        """
        task = self.task
        for seconds in _CANCELLATIONS:
            if task.done():
                break
            task.cancel(f"{self.name} was cancelled: {reason}")
            try:
                await asyncio.wait({task}, timeout=seconds)
            except asyncio.CancelledError:  # the test does not wait, but the application must end
                asyncio.get_running_loop().call_later(seconds, _force_end, task)
                raise
        if not task.done():
            self.stuck = f"{self.name} ignored its cancellation: {doing(task)}."
            _force_end(task)
            await asyncio.wait({task}, timeout=_CANCELLATIONS[-1])
        if task.done() and not task.cancelled():
            task.exception()


def _force_end(task: asyncio.Task[Any]) -> None:
    """End a task that ignores its cancellation: ``asyncio.run`` would wait for it forever."""
    if task.done():
        return
    coroutine = task.get_coro()
    if inspect.iscoroutine(coroutine):
        # Handlers of Exception and CancelledError do not catch GeneratorExit. If a bare ``except:``
        # swallows it, close() raises RuntimeError, which ends `_run` anyway.
        with contextlib.suppress(BaseException):
            coroutine.close()
    task.cancel()  # resumes the closed coroutine, which ends the task with a RuntimeError


async def _run(
    application: SingleCallable,
    scope: Mapping[str, Any],
    inputs: asyncio.Queue[Mapping[str, Any]],
    outputs: OutputQueue,
) -> Any:
    return await application(scope, inputs.get, outputs.put)
