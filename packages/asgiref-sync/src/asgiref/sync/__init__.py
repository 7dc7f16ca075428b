"""The bridge between synchronous and asynchronous code.

`sync_to_async` runs a blocking function on a worker thread for async code; `async_to_sync` lets a
synchronous thread wait for a coroutine. Which thread and which loop run what is told where it is
decided: `_placement` (functions) and `_async_to_sync` (coroutines).

A call goes through the modules in one direction:

    SyncToAsync -> Call -> _placement -> a frame, a context's lease, the shared worker, the pool
    AsyncToSync -> CoroutineCall -> a running loop, or a loop thread -> its frame
"""

from ._async_to_sync import AsyncToSync, async_to_sync
from ._markers import iscoroutinefunction, markcoroutinefunction
from ._single_thread import AsyncSingleThreadContext
from ._sync_to_async import SyncToAsync, sync_to_async
from ._thread_contexts import ThreadSensitiveContext

__all__ = [
    "AsyncSingleThreadContext",
    "AsyncToSync",
    "SyncToAsync",
    "ThreadSensitiveContext",
    "async_to_sync",
    "iscoroutinefunction",
    "markcoroutinefunction",
    "sync_to_async",
]
