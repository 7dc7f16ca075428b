"""The measured operations of the smaller components. A pyperf worker runs it per environment."""

import importlib
import sys
from functools import partial
from typing import Any

from measured import Measure, answer, each, on_loop, on_thread

from asgiref.compatibility import guarantee_single_callable
from asgiref.testing import ApplicationCommunicator

SCOPE = {"type": "chat"}
MESSAGE = {"type": "chat.message", "text": "hello"}


async def reply_once(scope: Any, receive: Any, send: Any) -> None:
    await send(await receive())


async def reply(scope: Any, receive: Any, send: Any) -> None:
    while True:
        await send(await receive())


class Instance:
    """An ASGI 3 application that is an object with ``__call__``."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pass


class Old:
    """An ASGI 2 application."""

    def __init__(self, scope: Any) -> None:
        pass

    async def __call__(self, receive: Any, send: Any) -> None:
        pass


async def exchange() -> None:
    communicator = ApplicationCommunicator(reply_once, SCOPE)
    await communicator.send_input(MESSAGE)
    await communicator.receive_output()
    await communicator.wait()


async def messages(count: int) -> None:
    """Use one communicator for all messages."""
    communicator = ApplicationCommunicator(reply, SCOPE)
    for _ in range(count):
        await communicator.send_input(MESSAGE)
        await communicator.receive_output()
    communicator.stop()


def guaranteed(application: Any) -> Measure:
    return on_thread(lambda: guarantee_single_callable(application))


def import_again() -> None:
    sys.modules.pop("asgiref.typing", None)
    importlib.import_module("asgiref.typing")


adapted: Any = guarantee_single_callable(Old)
CASES: dict[str, Measure] = {
    "one message there and back, a communicator each": each(exchange),
    "one message there and back, one communicator": on_loop(messages),
    "a function is passed in": guaranteed(reply),
    "an instance is passed in": guaranteed(Instance()),
    "an ASGI 2 class is passed in": guaranteed(Old),
    "a call through the adapter": each(partial(adapted, SCOPE, None, None)),
    "import asgiref.typing": on_thread(import_again),
}

if __name__ == "__main__":
    answer(CASES)
