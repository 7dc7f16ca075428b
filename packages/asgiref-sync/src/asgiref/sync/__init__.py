"""The bridge between synchronous and asynchronous code.

`sync_to_async` runs a blocking function on a worker thread for async code; `async_to_sync` lets a
synchronous thread wait for a coroutine. Which thread and which loop run what is told where it is
decided: `_placement` (functions) and `_async_to_sync` (coroutines).

A call goes through the modules in one direction:

    SyncToAsync -> Call -> _placement -> a frame, a context's lease, the shared worker, the pool
    AsyncToSync -> CoroutineCall -> a running loop, or a loop thread -> its frame
"""

import sys

from ._async_to_sync import AsyncToSync, async_to_sync
from ._iterators import async_to_sync_iterator, sync_to_async_iterator
from ._markers import iscoroutinefunction, markcoroutinefunction
from ._reports import ThreadReport, report_threads
from ._signals import ThreadSignal
from ._single_thread import AsyncSingleThreadContext
from ._slow_waits import log_slow_waits
from ._sync_to_async import SyncToAsync, sync_to_async
from ._thread_contexts import ThreadSensitiveContext
from ._worker_threads import WorkerThreads

__all__ = [
    "AsyncSingleThreadContext",
    "AsyncToSync",
    "SyncToAsync",
    "ThreadReport",
    "ThreadSensitiveContext",
    "ThreadSignal",
    "WorkerThreads",
    "async_to_sync",
    "async_to_sync_iterator",
    "iscoroutinefunction",
    "log_slow_waits",
    "markcoroutinefunction",
    "report_threads",
    "sync_to_async",
    "sync_to_async_iterator",
]

__version__ = "1.0.0"

# Only the meta-package of these components may bring asgiref/__init__.py. With that of asgiref
# 3.13, modules of two implementations would run side by side and not work together.
_package = vars(sys.modules["asgiref"])
if "__version__" in _package and "_installation_checked" not in _package:
    import warnings

    warnings.warn(
        f"asgiref {_package['__version__']} is installed together with asgiref-sync, which "
        "replaces a part of it. The parts do not work together: sync_to_async loses the values of "
        'a Local, for example. Repair it by `pip install "asgiref~=3.13.100"`, with the same '
        "--find-links or --index-url that asgiref-sync was installed with.",
        RuntimeWarning,
        stacklevel=2,
    )
    _package["_installation_checked"] = True
