"""A worker process that is forked in the middle of a request and uses the bridge for its work."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import traceback

from asgiref.sync import async_to_sync, sync_to_async

#: A child that has not finished by then prints the stacks of its threads and ends.
HUNG_SECONDS = 20


def forked(mark: str) -> str:
    """Return an answer from a forked process, which uses the bridge in both directions.

    This runs on the thread of a synchronous view. The child inherits that view's blocked call, but
    has neither the loop nor the other threads.

    Raises:
        RuntimeError: if the child did not end well.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _work(mark, write)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as stream:
        answer = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise RuntimeError(f"the forked process ended with {status} and said: {answer}")
    return answer


def _work(mark: str, write: int) -> None:
    """Write the answer and end, without running any cleanup of the parent."""
    faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
    status = 1
    try:
        os.write(write, async_to_sync(_answer)(mark).encode())
        status = 0
    except BaseException:
        os.write(write, traceback.format_exc().encode())
    finally:
        os._exit(status)


async def _answer(mark: str) -> str:
    pieces = await asyncio.gather(
        *(sync_to_async(_step)(mark, number) for number in range(3)),
        *(sync_to_async(_step, thread_sensitive=False)(mark, number) for number in range(3, 6)),
    )
    return " ".join(pieces)


def _step(mark: str, number: int) -> str:
    async def inner() -> str:
        return f"{mark}/{number}"

    return async_to_sync(inner)()
