"""Synchronous code that waits in `async_to_sync`, and what its thread runs meanwhile.

Each call of `async_to_sync` makes a frame on its thread. While the coroutine runs elsewhere the
thread idles in the frame and runs the thread-sensitive functions that the coroutine calls: that is
how code in the middle of a stack of layers gets back to the thread it must run on.

The rules:

* A frame belongs to the thread that made it. Only that thread takes from its mailbox; any thread
  may put.
* Frames have a parent: the frame that was current in the context in which they were made. Frames
  of one chain that are on one thread share one mailbox. So a thread that idles in an inner frame
  also serves its outer ones; without that, two siblings below one frame hang when one idles and
  waits for what the other does after its own call.
* A thread runs nothing on top of a half-finished function that does not belong to a frame of the
  chain it idles in: two chains on one thread would run inside each other's transactions. What a
  thread takes from the shared mailbox for such a frame is laid by until that frame is on top again.
* A call is put to the nearest open frame. A frame closes when its coroutine is done; calls that
  were queued until then still run on its thread (as in asgiref 3.13), later ones go to the next
  place.

A mailbox closes with its outermost frame, and this is where a call could get lost: put after the
owner has looked for the last time. So the owner marks it closed and *then* empties it, and whoever
puts looks at the mark *afterwards* and, finding it, empties it as well. Every call is taken by
exactly one of them.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeAlias, TypeVar

from ._calls import Call
from ._threads import PROCESS, THREAD
from ._workers import SubmittedCall

__all__ = ["CHECK_SECONDS", "CURRENT_EXECUTOR", "CurrentThreadExecutor"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Seconds between two looks whether what a thread waits for can still come.
CHECK_SECONDS = 0.5

#: Where thread-sensitive calls of the current chain run: the innermost frame, or whatever executor
#: was assigned to ``AsyncToSync.executors.current``.
CURRENT_EXECUTOR: ContextVar[Executor | None] = ContextVar("asgiref.sync.current_executor")


class _SubmittedToFrame(SubmittedCall):
    __slots__ = ("frame",)

    def __init__(self, function: Callable[[], Any], frame: "CurrentThreadExecutor") -> None:
        super().__init__(function)
        self.frame = frame

    def refuse(self) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(RuntimeError("CurrentThreadExecutor already quit"))


_Item: TypeAlias = Call | _SubmittedToFrame


class _Mailbox:
    """The queue of the frames of one chain on one thread. None in it only wakes the thread."""

    __slots__ = ("closed", "epoch", "items", "thread")

    def __init__(self, thread: int) -> None:
        self.items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self.thread = thread
        self.epoch = PROCESS.epoch
        self.closed = False

    def take_all(self) -> list[_Item]:
        items: list[_Item] = []
        while not self.items.empty():
            try:
                item = self.items.get_nowait()
            except queue.Empty:  # somebody else has found the mailbox closed
                break
            if item is not None:
                items.append(item)
        return items


class CurrentThreadExecutor(Executor):
    """An executor that runs what is submitted on the thread that made it, while that one waits.

    Applications meet instances as ``AsyncToSync.executors.current``, and may `submit` to them from
    other threads.

    Args:
        old_executor: the frame outside this one, or None.
    """

    def __init__(self, old_executor: "CurrentThreadExecutor | None" = None) -> None:
        self.parent = old_executor
        thread = threading.get_ident()
        outer = None if old_executor is None else old_executor.nearest_open()
        if outer is not None and outer._mailbox.thread == thread:
            self._mailbox: _Mailbox = outer._mailbox
            self._owns_mailbox = False
        else:
            self._mailbox = _Mailbox(thread)
            self._owns_mailbox = True
        self._laid_by: deque[_Item] | tuple[()] = ()
        self._done = False
        #: The loop that runs the coroutine. Calls from any other loop are not for this frame.
        self.loop: asyncio.AbstractEventLoop | None = None
        #: The call that is waited for here, for those who report on waits.
        self.waits_for: object = None
        #: The loop runs on this very thread, which can therefore not wait for anything.
        self.inline = False

    # Putting: any thread.

    @property
    def open(self) -> bool:
        """Whether the thread idles here, or will when it comes back from what it runs."""
        return not self._done and self._mailbox.epoch == PROCESS.epoch

    @property
    def queued(self) -> int:
        """How many calls wait for the thread."""
        return self._mailbox.items.qsize() + len(self._laid_by)

    def nearest_open(self) -> "CurrentThreadExecutor | None":
        """Return this frame or the nearest one around it that is open."""
        frame: CurrentThreadExecutor | None = self
        while frame is not None and not frame.open:
            frame = frame.parent
        return frame

    def put(self, call: Call) -> list[Call]:
        """Queue `call` for the thread. Returns the calls that came too late and need another place.

        Those may include calls that others put at the same moment.
        """
        call.frame = self
        mailbox = self._mailbox
        mailbox.items.put(call)
        return _late_calls(mailbox) if mailbox.closed else []

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_R]":
        """Run ``fn(*args, **kwargs)`` on the thread that waits here, for any other thread.

        Returns:
            A `concurrent.futures.Future` of what it returns.

        Raises:
            RuntimeError: on that thread itself, and when neither this frame nor one outside it
                waits any more.
        """
        if self._mailbox.thread == threading.get_ident():
            raise RuntimeError(
                f"{fn!r} was submitted to a CurrentThreadExecutor from the executor's own thread, "
                "which cannot wait for itself: call it directly"
            )
        frame = self.nearest_open()
        if frame is None:
            raise RuntimeError(
                f"CurrentThreadExecutor already quit: no thread waits that could run {fn!r}"
            )
        item = _SubmittedToFrame(lambda: fn(*args, **kwargs), frame)
        frame._mailbox.items.put(item)
        if frame._mailbox.closed:
            for call in _late_calls(frame._mailbox):
                call.fail(RuntimeError("the thread that would have run this call has left"))
        return item.future

    def wake(self) -> None:
        """End the waiting."""
        self._done = True
        self._mailbox.items.put(None)

    # Waiting: the frame's own thread.

    def run_until_future(self, future: "Future[Any]") -> None:
        """Run what is submitted until `future` is done. Only for the thread that made this.

        Args:
            future: a `concurrent.futures.Future`.

        Raises:
            RuntimeError: on another thread.
        """
        if self._mailbox.thread != threading.get_ident():
            raise RuntimeError(
                "a CurrentThreadExecutor can only run in the thread that made it, not in "
                f"{threading.current_thread().name}"
            )
        future.add_done_callback(lambda _: self.wake())
        try:
            self.serve(lambda: None)
        finally:
            self.close()

    def serve(self, check: Callable[[], None], every: float = CHECK_SECONDS) -> None:
        """Run what is queued for this chain until `wake` is called.

        Args:
            check: called after `every` seconds with nothing to do. It may raise.
            every: in seconds.
        """
        thread = THREAD.record
        outer, thread.frame = thread.frame, self
        get = self._mailbox.items.get
        try:
            while not self._done:
                if self._laid_by:
                    item: _Item | None = self._laid_by.popleft()
                else:
                    try:
                        item = get(timeout=every)
                    except queue.Empty:
                        check()
                        continue
                if item is not None:
                    self._run_or_lay_by(item)
                # While this thread waits for the next one it must not keep this one's arguments.
                del item
        finally:
            thread.frame = outer

    def _run_or_lay_by(self, item: _Item) -> None:
        target = item.frame
        if target is not self and target is not None:
            target = target.nearest_open()
            if target is not None and not self._is_within(target):
                target._lay_by(item)
                return
        item.run()

    def _lay_by(self, item: _Item) -> None:
        if not self._laid_by:
            self._laid_by = deque()
        self._laid_by.append(item)

    def _is_within(self, other: "CurrentThreadExecutor") -> bool:
        """Whether `other` is this frame or one around it."""
        frame: CurrentThreadExecutor | None = self
        while frame is not None and frame is not other:
            frame = frame.parent
        return frame is other

    def close(self) -> None:
        """Stop waiting: run what was queued in time, and let nothing more in."""
        self._done = True
        self.waits_for = None
        while self._laid_by:
            self._laid_by.popleft().run()
        mailbox = self._mailbox
        if self._owns_mailbox:
            mailbox.closed = True
        if mailbox.items.empty():
            return
        for item in mailbox.take_all():
            if self._owns_mailbox or item.frame is self:
                item.run()
            else:
                mailbox.items.put(item)


def _late_calls(mailbox: _Mailbox) -> list[Call]:
    """Empty a closed mailbox: refuse what was submitted to it, return the calls."""
    calls: list[Call] = []
    for item in mailbox.take_all():
        if isinstance(item, Call):
            calls.append(item)
        else:
            item.refuse()
    return calls
