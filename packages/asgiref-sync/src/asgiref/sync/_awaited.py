"""What a task awaits while its call is on another thread.

asyncio's Future, when it gets its result, schedules the task's next step, and the loop takes
another turn for it. The result of a call arrives in a callback of the loop where no task is
running, so the step can be made at once: 5 µs less for each call, and no future to make.

To a task this is a future all the same, by the protocol that asyncio defines for objects like it
(``_asyncio_future_blocking``, ``add_done_callback``, ``cancel``, ``result``). It is for one task,
which awaits it directly; nobody else sees it. The outcome is not its business: whoever awaited it
looks for that elsewhere, so an exception gets no frame of this module in its traceback. `result`
only tells the task that it was cancelled.

A cancellation comes from inside another task's step. There the step cannot be made at once, and is
scheduled as asyncio would. Whatever happens until then, the task is woken once.
"""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

__all__ = ["Awaited"]


class Awaited:
    """Something that one task of `loop` waits for. Only the loop's thread touches it."""

    # Slots throughout, and all of them set: the interpreter finds these faster than defaults on the
    # class, which it cannot tell from attributes that appear later (a tenth of a call).
    __slots__ = (
        "__weakref__",
        "_asyncio_future_blocking",
        "_cancelled",
        "_step",
        "_step_context",
        "loop",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        #: The task that awaits has taken note of that (asyncio's protocol, see ``futures``).
        self._asyncio_future_blocking = False
        self._step: Callable[[Any], object] | None = None
        self._step_context: Context | None = None
        self._cancelled: asyncio.CancelledError | None = None

    def done(self) -> bool:
        """Whether there is nothing to wait for."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, None]:
        if not self.done():
            self._asyncio_future_blocking = True
            yield self

    def wake(self) -> None:
        """Have the task go on now, if it waits. Not from inside a task."""
        step, context = self._step, self._step_context
        if step is None or context is None:
            return
        self._step = self._step_context = None
        if self.loop.get_debug():
            # asyncio tells which task's steps take long, but only of those that it makes.
            self.loop.call_soon(step, self, context=context)
        else:
            try:
                context.run(step, self)
            finally:
                # A task that ends with an exception holds this frame, behind those of its
                # traceback, and `step` holds the task.
                del step, context

    # What a task asks of a future.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def add_done_callback(self, step: Callable[[Any], object], *, context: Context) -> None:
        self._step, self._step_context = step, context

    def cancel(self, msg: Any = None) -> bool:
        step, context = self._step, self._step_context
        if step is None:
            return False
        self._step = self._step_context = None
        self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.loop.call_soon(step, self, context=context)
        return True

    def result(self) -> None:
        cancelled, self._cancelled = self._cancelled, None
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                # This frame is part of its traceback.
                del cancelled
