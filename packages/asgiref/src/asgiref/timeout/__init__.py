"""A time limit for a block of a task's code. Deprecated: use ``asyncio.timeout`` instead.

When the limit passes, `timeout` cancels the task once. Leaving the block turns that cancellation,
and no other, into TimeoutError. To recognise its own cancellation, the class counts the task's
cancellation requests on entry, and withdraws its own request (``Task.uncancel``) on exit. A task
that other code has also cancelled stays cancelled, and an enclosing ``asyncio.timeout`` or
``TaskGroup`` does not mistake this cancellation for its own.

``asyncio.timeout`` only supports ``async with``; this class also supports a plain ``with``, so it
uses the loop's timers directly. All code runs on the event loop's thread, in the task that entered
the block.
"""

import asyncio
import enum
import warnings
from types import TracebackType
from typing import Self

__all__ = ["timeout"]


class _TimeoutState(enum.Enum):
    CREATED = "not entered yet"
    ACTIVE = "entered"
    EXPIRED = "expired, not left yet"
    LEFT = "left in time"
    TIMED_OUT = "left after it expired"


class timeout:
    """Limit the run time of a ``with`` or ``async with`` block inside a task.

    Args:
        timeout: the limit in seconds; None for no limit. Zero or less expires at the block's first
            await.
        loop: the event loop of the task. Deprecated: only the running loop is useful.

    Raises:
        RuntimeError: when created, if no event loop runs; when entered, if outside a task.
        TypeError: if ``timeout`` is neither a number nor None.
        TimeoutError: when the block ends because the limit passed.

    Creating an instance emits a DeprecationWarning.

    >>> async def main():
    ...     with timeout(0.01) as limit:
    ...         await asyncio.sleep(60)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     asyncio.run(main())
    Traceback (most recent call last):
    TimeoutError
    """

    def __init__(
        self, timeout: float | None, *, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        warnings.warn(
            "asgiref.timeout.timeout is deprecated: asyncio.timeout() does the same.",
            DeprecationWarning,
            stacklevel=2,
        )
        if loop is not None:
            warnings.warn(
                "The loop argument of asgiref.timeout.timeout is deprecated.",
                DeprecationWarning,
                stacklevel=2,
            )
        if timeout is not None and not isinstance(timeout, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}.")
        self._seconds = timeout
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._state = _TimeoutState.CREATED
        self._task: asyncio.Task[object] | None = None
        self._requests_before = 0
        self._timer: asyncio.Handle | None = None
        self._deadline: float | None = None

    @property
    def expired(self) -> bool:
        """Whether the limit passed while the block ran."""
        return self._state in (_TimeoutState.EXPIRED, _TimeoutState.TIMED_OUT)

    @property
    def remaining(self) -> float | None:
        """Seconds until the limit, at least 0.0. None if no limit is set, or before the block."""
        if self._deadline is None:
            return None
        return max(self._deadline - self._loop.time(), 0.0)

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._leave(exc_type, exc_val)

    async def __aenter__(self) -> Self:
        self._enter()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._leave(exc_type, exc_val)

    def _enter(self) -> None:
        if self._state in (_TimeoutState.ACTIVE, _TimeoutState.EXPIRED):
            raise RuntimeError(f"This timeout is already in use: {self._state.value}.")
        if self._seconds is not None:
            self._task = asyncio.current_task(self._loop)
            if self._task is None:
                raise RuntimeError("asgiref.timeout.timeout must be entered inside a task.")
            self._requests_before = self._task.cancelling()
            self._timer = self._start_timer(self._seconds)
        self._state = _TimeoutState.ACTIVE

    def _start_timer(self, seconds: float) -> asyncio.Handle:
        if seconds <= 0:
            return self._loop.call_soon(self._expire)
        self._deadline = self._loop.time() + seconds
        return self._loop.call_at(self._deadline, self._expire)

    def _expire(self) -> None:
        if self._state is _TimeoutState.ACTIVE and self._task is not None:
            self._state = _TimeoutState.EXPIRED
            self._task.cancel()

    def _leave(self, exc_type: type[BaseException] | None, exc_val: BaseException | None) -> None:
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._state is not _TimeoutState.EXPIRED or task is None:
            self._state = _TimeoutState.LEFT
            return
        self._state = _TimeoutState.TIMED_OUT
        if task.uncancel() <= self._requests_before and exc_type is asyncio.CancelledError:
            raise TimeoutError from exc_val
