"""Running a server's main coroutine, and its checker beside it, to an end that leaves no task.

``asyncio.gather`` would leave the checker running when the main coroutine raises, and a TaskGroup
would wrap what it raises into a group.

A signal ends the main coroutine as a cancellation does; a second one finds the server waiting for
its applications, and cancels that. Neither leaves `Main.run` as a cancellation, since nobody has
cancelled the task that it runs in.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from ._termination import on_signals

logger = logging.getLogger("asgiref.server")


class Main:
    """The tasks of one run of a server."""

    def __init__(self, handle: Awaitable[Any], checker: Awaitable[Any]) -> None:
        self._handler: asyncio.Future[Any] = asyncio.ensure_future(handle)
        self._checker: asyncio.Future[Any] = asyncio.ensure_future(checker)
        self._runner: asyncio.Task[Any] | None = asyncio.current_task()
        self._signal: signal.Signals | None = None
        self._hurried = False

    async def run(
        self, clean_up: Callable[[bool], Awaitable[None]], *, whoever_has_sigint: bool
    ) -> None:
        """Wait until the main coroutine ends or the checker fails, and clean up.

        Args:
            clean_up: awaited at the end, with True if it has to be quick.
            whoever_has_sigint: whether to take SIGINT from whoever handles it.

        Raises:
            Exception: what either raised.
            KeyboardInterrupt: after SIGINT, if that came here.
        """
        try:
            with on_signals(self._terminate, whoever_has_sigint=whoever_has_sigint):
                try:
                    await self._end_of_either()
                finally:
                    await clean_up(self._was_asked_twice())
        except asyncio.CancelledError:
            if not self._hurried or self._runner is None or self._runner.uncancel():
                raise
        if self._signal is not None and (self._hurried or self._handler.cancelled()):
            if self._signal is signal.SIGINT:
                raise KeyboardInterrupt
            logger.info("Exiting due to %s", self._signal.name)
        else:
            self._handler.result()

    def _was_asked_twice(self) -> bool:
        return self._hurried or (self._runner is not None and self._runner.cancelling() > 1)

    def _terminate(self, number: signal.Signals) -> None:
        if self._signal is None and not self._handler.done():
            self._signal = number
            self._handler.cancel()
        elif self._runner is not None:
            self._hurried = True
            self._runner.cancel()

    async def _end_of_either(self) -> None:
        try:
            await asyncio.wait({self._handler, self._checker}, return_when=asyncio.FIRST_COMPLETED)
            if not self._handler.done():
                self._checker.result()
                await asyncio.wait({self._handler})
        except BaseException as error:
            await self._end(self._handler, self._checker, raised=error)
            raise
        await self._end(self._checker)

    async def _end(self, *tasks: asyncio.Future[Any], raised: BaseException | None = None) -> None:
        """Cancel and await ``tasks``; log what they raised, unless it is ``raised`` anyway."""
        running = [task for task in tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for task in tasks:
            failure = None if task.cancelled() else task.exception()
            # (KeyboardInterrupt and SystemExit have gone through the loop already.)
            if isinstance(failure, Exception) and failure is not raised:
                logger.error("%r failed while it was ended", task, exc_info=failure)
