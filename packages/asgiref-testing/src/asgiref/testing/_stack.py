"""Communicators that stay open until a test is over.

`CommunicatorStack.aclose` closes them on the test's loop. `CommunicatorStack.close` runs after the
test function has returned, outside any loop. The test's loop may then be open and idle, as with
pytest-asyncio; in that case, it runs once more. It may be closed, as after ``asyncio.run``, which
cancels the applications, so that only their failures remain to be raised. Or it may be running on
another thread (a portal).
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ._communicator import ApplicationCommunicator

_C = TypeVar("_C", bound=ApplicationCommunicator)


class CommunicatorStack:
    """Keeps communicators open for the rest of a test; pytest's fixture ``asgi`` is a stack.

    To open an `ApplicationCommunicator` or an instance of a subclass (`HttpExchange`,
    `WebsocketConversation`, `Lifespan`, a framework's class), call the stack with it and await the
    call, on the test's loop.

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
        """Enter a communicator. Closing the stack exits it.

        Args:
            communicator: an `ApplicationCommunicator`, or an instance of a subclass.

        Returns:
            The communicator, started.

        Raises:
            Exception: the exception that entering it raises, for example `WebsocketDenied`.
        """
        entered = await communicator.__aenter__()
        self._open.append(entered)
        return entered

    async def aclose(self, error: BaseException | None = None) -> None:
        """Exit the communicators of the running event loop, the last one first.

        Communicators of other loops stay open for `close`. If the call is cancelled, the
        application that it is waiting for is cancelled too.

        Args:
            error: the exception that the test raised; no failure replaces it.

        Raises:
            Exception: the failure of an application that the test has not seen; several failures
                are raised as an ExceptionGroup.

        >>> import asyncio
        >>> async def application(scope, receive, send):
        ...     print((await receive())["type"])
        >>> async def test():
        ...     asgi = CommunicatorStack()
        ...     communicator = await asgi(ApplicationCommunicator(application, {"type": "chat"}))
        ...     await communicator.send_input({"type": "chat.message"})
        ...     await communicator.wait()
        ...     await asgi.aclose()
        >>> asyncio.run(test())
        chat.message
        """
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        mine = [each for each in self._open if each.future.get_loop() is loop]
        failures: list[Exception] = []
        for communicator in reversed(mine):
            self._open.remove(communicator)
            try:
                await communicator.__aexit__(_type_of(error), error, None)
            except Exception as failure:
                failures.append(failure)
        _raise(failures, error)

    def close(self, error: BaseException | None = None) -> None:
        """Exit all communicators, the last one first. Do not call this on any of their event loops.

        Args:
            error: the exception that the test raised; no failure replaces it.

        Raises:
            RuntimeError: if it is called on a communicator's event loop; await `aclose` there.
            Exception: the failure of an application that the test has not seen; several failures
                are raised as an ExceptionGroup.
        """
        failures: list[Exception] = []
        while self._open:
            try:
                _leave(self._open.pop(), error)
            except Exception as failure:
                failures.append(failure)
        _raise(failures, error)


def _raise(failures: list[Exception], error: BaseException | None) -> None:
    try:
        if error is not None:
            return
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ExceptionGroup("Several applications failed by the end of the test.", failures)
    finally:
        failures.clear()  # their tracebacks refer to this frame


def _leave(communicator: ApplicationCommunicator, error: BaseException | None) -> None:
    loop = communicator.future.get_loop()
    if loop.is_closed():
        communicator.raise_unseen_failure()
        return
    leaving = communicator.__aexit__(_type_of(error), error, None)
    running = _running_loop()
    if running is loop:
        leaving.close()
        raise RuntimeError(
            "close() cannot wait for a communicator on the event loop that runs the call. Await "
            "aclose() there, or call close() when the test has returned."
        )
    if loop.is_running():  # on another thread: the loop of a portal
        asyncio.run_coroutine_threadsafe(leaving, loop).result()
    elif running is None:
        loop.run_until_complete(leaving)
    else:  # one thread cannot run two loops
        with ThreadPoolExecutor(1) as pool:
            pool.submit(loop.run_until_complete, leaving).result()


def _type_of(error: BaseException | None) -> type[BaseException] | None:
    return None if error is None else type(error)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
