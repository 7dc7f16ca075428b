"""Print how long a call over the bridge takes: ``python -I speed.py [FOLDER OF ANOTHER ASGIREF]``.

A call to ``sync_to_async`` is awaited on one event loop; one to ``async_to_sync`` comes from the
main thread, without a loop. The result is the fastest of the batches, in microseconds a call.
"""

import asyncio
import json
import sys
import timeit
from time import perf_counter

sys.path[:0] = sys.argv[1:]

import asgiref  # noqa: E402 - from the folder, if there is one
from asgiref.sync import async_to_sync, sync_to_async  # noqa: E402

BATCHES, CALLS = 20, 100


async def coroutine() -> None:
    pass


async def time_sync_to_async() -> float:
    call, start = sync_to_async(lambda: None), perf_counter()
    for _ in range(CALLS):
        await call()
    return perf_counter() - start


async def time_batches() -> float:
    return min([await time_sync_to_async() for _ in range(BATCHES)])


best = {
    "sync_to_async": asyncio.run(time_batches()),
    "async_to_sync": min(timeit.repeat(async_to_sync(coroutine), number=CALLS, repeat=BATCHES)),
}
calls = {name: round(seconds / CALLS * 1e6, 1) for name, seconds in best.items()}
print(json.dumps({"version": asgiref.__version__, **calls}))
