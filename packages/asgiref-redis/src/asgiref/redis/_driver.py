"""redis-py: the modules of it that are used here, and what it takes to call them safely.

Only what stands directly before redis-py uses this: `_client`, `_single`, `_cluster`, `_listener`.
Its types leave much open, so it is `Any` here, and nothing of it goes further.

Two things are put right for all callers. Errors become ours (`translated`): what can come and go (a
lost connection, a server that loads its data or has just become a replica, a cluster that has lost
a node) is `Unreachable`, any other answer that is an error is `Refused`. And a cancellation that
redis-py has lost is made up for (`heeding_cancellation`).
"""

import asyncio
import importlib
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ._errors import RedisServerError, Unreachable

version: str = importlib.import_module("redis").__version__
asynchronous: Any = importlib.import_module("redis.asyncio")
clusters: Any = importlib.import_module("redis.asyncio.cluster")
connections: Any = importlib.import_module("redis.asyncio.connection")
sentinels: Any = importlib.import_module("redis.asyncio.sentinel")
exceptions: Any = importlib.import_module("redis.exceptions")
_retry: Any = importlib.import_module("redis.asyncio.retry")
_backoff: Any = importlib.import_module("redis.backoff")

#: What redis-py raises when a server is lost. The last two come from where it is not prepared: a
#: transport of CPython 3.13.0 that is written to after its connection has been lost raises
#: TypeError, and redis-py 5 looks for the name of a node that has just gone.
LOST: tuple[type[Exception], ...] = (
    TimeoutError,
    OSError,
    exceptions.RedisError,
    exceptions.RedisClusterException,  # which is no RedisError
    TypeError,
    AttributeError,
)

#: What a server answers while it is not what was looked for, but may be soon.
_TRANSIENT = re.compile(
    r"\b(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|UNBLOCKED|MISCONF)\b"
    r"|^BUSY\b|read only"
)
#: The same where redis-py has an error for it, whose text begins after that word.
_TRANSIENT_ERRORS = (
    exceptions.ReadOnlyError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.MovedError,
    exceptions.AskError,
)


class Refused(RedisServerError):
    """Redis answered a call with an error; ``out_of_memory`` if it has no room."""

    @property
    def out_of_memory(self) -> bool:
        return "maxmemory" in str(self)


def no_retry() -> Any:
    """redis-py would send a command again after a lost connection; here, whoever calls does."""
    return _retry.Retry(_backoff.NoBackoff(), 0)


def is_transient(error: BaseException) -> bool:
    return isinstance(error, _TRANSIENT_ERRORS) or bool(_TRANSIENT.search(str(error)))


def text_of(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__


@contextmanager
def translated(describe: str) -> Generator[None, None, None]:
    """Raise `Unreachable` or `Refused` for what redis-py raises."""
    try:
        yield
    except exceptions.ResponseError as error:
        if is_transient(error):
            raise Unreachable(f"{describe} cannot do it now: {text_of(error)}.") from None
        raise Refused(str(error)) from None
    except LOST as error:
        raise Unreachable(f"{describe} does not answer: {text_of(error)}.") from None


@contextmanager
def heeding_cancellation() -> Generator[None, None, None]:
    """Be cancelled at the end if the task was cancelled meanwhile and redis-py has lost that.

    redis-py sends inside `asyncio.wait_for`, and until Python 3.12 that forgets a cancellation that
    comes in the moment in which it is done. Whoever awaits the cancelled task would wait for ever.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        yield
    except Exception:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError from None
        raise
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
