"""The bridge between synchronous and asynchronous code.

`sync_to_async` runs a blocking function on a worker thread for async code. `async_to_sync` makes a
synchronous thread wait for a coroutine. A call and its outcome pass through these modules:

    SyncToAsync -> FunctionCall (_calls) -> _routing -> _blocking, _thread_pool or _limits
    back: FunctionCall.deliver -> completion queue (_asyncio_internals) -> the waiting task

    AsyncToSync -> CoroutineCall (_calls) -> the calling loop, or _routing -> _loop_threads
    back: CoroutineCall.set_result -> CurrentThreadExecutor.finish (_blocking) -> the blocked thread
"""

import sys

from ._async_to_sync import AsyncToSync, async_to_sync
from ._asyncio_internals import set_loop_factory
from ._blocking import CurrentThreadExecutor
from ._callables import iscoroutinefunction, markcoroutinefunction
from ._calling_loop import calling_loop, start_on_calling_loop
from ._context_managers import async_to_sync_context, sync_to_async_context
from ._diagnostics import ThreadReport, log_slow_waits, report_threads
from ._iterators import async_to_sync_iterator, sync_to_async_iterator
from ._limits import LimitedExecutor
from ._observation import CallEvent, observe_calls
from ._routing import AsyncSingleThreadContext, ThreadSensitiveContext
from ._sync_to_async import SyncToAsync, sync_to_async
from ._thread_event import ThreadEvent

__all__ = [
    "AsyncSingleThreadContext",
    "AsyncToSync",
    "CallEvent",
    "CurrentThreadExecutor",
    "LimitedExecutor",
    "SyncToAsync",
    "ThreadEvent",
    "ThreadReport",
    "ThreadSensitiveContext",
    "async_to_sync",
    "async_to_sync_context",
    "async_to_sync_iterator",
    "calling_loop",
    "iscoroutinefunction",
    "log_slow_waits",
    "markcoroutinefunction",
    "observe_calls",
    "report_threads",
    "set_loop_factory",
    "start_on_calling_loop",
    "sync_to_async",
    "sync_to_async_context",
    "sync_to_async_iterator",
]

__version__ = "1.0.0"

# Only the meta-package of these components may install asgiref/__init__.py. With the file that
# asgiref 3.13 installs, modules of two incompatible implementations would be mixed.
_package = vars(sys.modules["asgiref"])
if "__version__" in _package and "_installation_checked" not in _package:
    import warnings

    warnings.warn(
        f"asgiref {_package['__version__']} is installed together with asgiref-sync, which "
        "replaces part of it. The two do not work together: for example, sync_to_async loses the "
        'values of a Local. To repair the installation, run `pip install "asgiref~=3.13.100"` with '
        "the same --find-links or --index-url that you used to install asgiref-sync.",
        RuntimeWarning,
        stacklevel=2,
    )
    _package["_installation_checked"] = True
