"""The event loops that the tests run on: asyncio's own, or those that a variable selects.

The environment variable ``ASGIREF_SYNC_TEST_LOOPS`` is "uvloop", or "subclass" for a subclass of
asyncio's loop, as in instrumented programs. Importing this module applies it to the process.
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
