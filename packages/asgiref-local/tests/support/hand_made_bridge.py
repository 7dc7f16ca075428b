"""Threads that run test code, and a minimal bridge that follows the protocol of asgiref.local."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Any

_ABSENT = object()


class Place:
    """A thread that runs functions one at a time, in any context, as sync or async code."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.thread = threading.Thread(target=self._work, name="place", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job
        if self._loop is not None:
            self._loop.close()

    def run(
        self,
        function: Callable[[], Any],
        context: Context | None = None,
        *,
        in_loop: bool = False,
    ) -> Any:
        """Run `function` on this thread and return its result, or raise its exception."""
        outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def job() -> None:
            try:
                outcome.put((self._call(function, context, in_loop), None))
            except BaseException as error:
                outcome.put((None, error))

        self._jobs.put(job)
        result, error = outcome.get(timeout=30)
        try:
            if error is not None:
                raise error
            return result
        finally:
            del error

    def _call(self, function: Callable[[], Any], context: Context | None, in_loop: bool) -> Any:
        if not in_loop:
            return function() if context is None else context.run(function)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()

        async def call() -> Any:
            return function()

        return self._loop.run_until_complete(self._loop.create_task(call(), context=context))

    def close(self) -> None:
        self._jobs.put(None)
        self.thread.join(30)


@dataclass
class Crossing:
    """A bridged call from `caller` to `place`, whose changes can propagate to the caller."""

    caller: Place
    caller_context: Context
    caller_in_loop: bool
    place: Place
    context: Context
    before: Context
    in_loop: bool

    @classmethod
    def go(
        cls, caller: Place, context: Context, caller_in_loop: bool, place: Place, in_loop: bool
    ) -> "Crossing":
        moved = context.copy()
        place.run(lambda: _ask(caller.thread), moved, in_loop=in_loop)
        return cls(caller, context, caller_in_loop, place, moved, moved.copy(), in_loop)

    def run(self, function: Callable[[], Any]) -> Any:
        return self.place.run(function, self.context, in_loop=self.in_loop)

    def come_back(self) -> None:
        def propagate_changes() -> None:
            for variable, value in self.context.items():
                if value is not self.before.get(variable, _ABSENT):
                    bridge = getattr(type(value), "__asgiref_bridge__", None)
                    variable.set(value if bridge is None else bridge(value))

        self.caller.run(propagate_changes, self.caller_context, in_loop=self.caller_in_loop)


def _ask(sender: threading.Thread) -> None:
    for variable, value in list(contextvars.copy_context().items()):
        bridge = getattr(type(value), "__asgiref_bridge__", None)
        if bridge is not None:
            variable.set(bridge(value, sender))
