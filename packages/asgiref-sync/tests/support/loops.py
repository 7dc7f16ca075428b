"""The event loops that the tests run on: asyncio's own, or what the environment variable names.

``ASGIREF_SYNC_TEST_LOOPS`` is "uvloop", or "subclass" for a subclass of asyncio's loop, as
instrumented programs have. Importing this module makes the choice for the process.
"""

import asyncio
import os

CHOICE = os.environ.get("ASGIREF_SYNC_TEST_LOOPS", "")

if CHOICE == "uvloop":
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
elif CHOICE == "subclass":

    class InstrumentedLoop(asyncio.SelectorEventLoop):
        pass

    class InstrumentedPolicy(asyncio.DefaultEventLoopPolicy):
        _loop_factory = InstrumentedLoop

    asyncio.set_event_loop_policy(InstrumentedPolicy())
elif CHOICE:
    raise ValueError(f"ASGIREF_SYNC_TEST_LOOPS is {CHOICE!r}, neither uvloop nor subclass")
