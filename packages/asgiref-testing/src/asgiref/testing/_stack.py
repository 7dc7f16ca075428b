"""Communicators that stay open until a test is over, and are closed without its help.

Closing happens outside of any event loop, after the test function has returned, and there are three
cases. Most often the test's loop is still open and at rest, as under pytest-asyncio: it runs once
more. A loop that is closed already, as after ``asyncio.run``, has cancelled what ran on it, and
only failures are left to be told. A loop that still runs on another thread is a portal's.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ._communicator import ApplicationCommunicator

_C = TypeVar("_C", bound=ApplicationCommunicator)


class CommunicatorStack:
    """Enters communicators for the rest of a test; the ``asgi`` fixture of pytest is one.

    Await it with an `ApplicationCommunicator` or one of its subclasses (`HttpExchange`,
    `WebsocketConversation`, `Lifespan`, a framework's own), as in ``async with``, on the loop of
    the test.

    >>> import asyncio
    >>> async def application(scope, receive, send):
    ...     await send({"type": "http.response.start", "status": 204})
    ...     await send({"type": "http.response.body"})
    >>> from asgiref.testing import HttpExchange
    >>> asgi = CommunicatorStack()
    >>> async def test():
    ...     exchange = await asgi(HttpExchange(application, "GET", "/"))
    ...     return (await exchange.start()).status
    >>> with asyncio.Runner() as runner:
    ...     print(runner.run(test()))
    ...     asgi.close()
    204
    """

    def __init__(self) -> None:
        self._open: list[ApplicationCommunicator] = []

    async def __call__(self, communicator: _C) -> _C:
        """Enter a communicator, and leave it when the test is over.

        Args:
            communicator: an `ApplicationCommunicator`, or one of a subclass.

        Returns:
            The communicator, started.

        Raises:
            Exception: whatever entering it raises, `WebsocketDenied` for example.
        """
        entered = await communicator.__aenter__()
        self._open.append(entered)
        return entered

    def close(self, error: BaseException | None = None) -> None:
        """Leave all of them, the last one first. To be called when no loop runs on this thread.

        Args:
            error: what the test raised; nothing that is raised while closing replaces it.

        Raises:
            Exception: what leaving one raised, the failure of an application above all, which the
                test has not seen; several of them as an ExceptionGroup.
        """
        failures: list[Exception] = []
        while self._open:
            try:
                _leave(self._open.pop(), error)
            except Exception as failure:
                failures.append(failure)
        try:
            if error is not None:
                return
            if len(failures) == 1:
                raise failures[0]
            if failures:
                raise ExceptionGroup(
                    "Several applications failed when the test was over.", failures
                )
        finally:
            failures.clear()  # their tracebacks refer to this frame


def _leave(communicator: ApplicationCommunicator, error: BaseException | None) -> None:
    loop = communicator.future.get_loop()
    if loop.is_closed():
        communicator.raise_unseen_failure()
        return
    leaving = communicator.__aexit__(None if error is None else type(error), error, None)
    running = _running_loop()
    if running is loop:
        leaving.close()
        raise RuntimeError(
            "close() cannot wait for a communicator on the event loop that calls it: call close() "
            "when the test has returned."
        )
    if loop.is_running():  # on another thread: the loop of a portal
        asyncio.run_coroutine_threadsafe(leaving, loop).result()
    elif running is None:
        loop.run_until_complete(leaving)
    else:  # one thread cannot run two loops
        with ThreadPoolExecutor(1) as pool:
            pool.submit(loop.run_until_complete, leaving).result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
