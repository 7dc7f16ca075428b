"""One process of `redis_streams`: ``python redis_cases.py KIND ROLE URL MESSAGES SCOPES RATE``.

A consumer says every now and then, in Redis, how many messages it has handled, and leaves how long
they took when it is told to end. A producer sends so many messages, at a rate (messages a second)
or, with 0, as fast as it can.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

BATCH = 128
HANDLED = "bench:handled"
TOOK = "bench:took"


class Counter:
    """What one consumer has handled."""

    def __init__(self) -> None:
        self.handled = 0
        self.took: list[float] = []

    def count(self, sent_at: float) -> None:
        self.handled += 1
        self.took.append(time.monotonic() - sent_at)

    async def tell(self, url: str) -> None:
        async with Redis.from_url(url) as client:
            while True:
                await client.hset(HANDLED, str(os.getpid()), self.handled)
                await asyncio.sleep(0.02)

    async def leave(self, url: str) -> None:
        async with Redis.from_url(url) as client:
            await client.rpush(TOOK, json.dumps(self.took))


async def paced(messages: int, rate: float) -> AsyncIterator[int]:
    """Count the messages, no faster than the rate."""
    begin = time.monotonic()
    for number in range(messages):
        if rate and (wait := begin + number / rate - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        yield number


# Ours


async def produce_ours(url: str, messages: int, scopes: int, rate: float) -> None:
    from asgiref.redis import RedisGateway

    class Producer(RedisGateway):
        async def handle(self) -> None:
            async for number in paced(messages, rate):
                name = f"scope{number % scopes}"
                queue = self.get_or_create_application_instance(name, {"type": "t", "id": name})
                await queue.put({"type": "say", "at": time.monotonic(), "text": "x" * 50})
            await queue.join()

        async def application_send(self, scope: Any, message: Any) -> None:
            pass

    await Producer(url).arun()


async def consume_ours(url: str, counter: Counter, scopes: int) -> None:
    from asgiref.redis import RedisWorker

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            counter.count((await receive())["at"])

    worker = RedisWorker(application, url, group="bench", max_applications=scopes + 1)
    await worker.arun()


# Streams, without anything around


async def produce_bare(url: str, messages: int, scopes: int, rate: float) -> None:
    async with Redis.from_url(url) as client:
        pipeline, waiting = client.pipeline(transaction=False), 0
        async for number in paced(messages, rate):
            fields = {"i": f"scope{number % scopes}", "at": time.monotonic(), "text": "x" * 50}
            pipeline.xadd("bench:in", fields)
            waiting += 1
            if waiting == (BATCH if not rate else 1):
                await pipeline.execute()
                waiting = 0
        await pipeline.execute()


async def consume_bare(url: str, counter: Counter, scopes: int) -> None:
    async with Redis.from_url(url) as client:
        name = str(os.getpid())
        while True:
            streams = {"bench:in": ">"}
            found = await client.execute_command(
                *("XREADGROUP", "GROUP", "bench", name, "COUNT", BATCH, "BLOCK", 100),
                *("STREAMS", *streams, *streams.values()),
            )
            if not found:
                continue
            entries = next(iter(found.values()))[0] if isinstance(found, dict) else found[0][1]
            for _, fields in entries:
                counter.count(float(fields[b"at"]))
            await client.xack("bench:in", "bench", *(id for id, _ in entries))


# Channels


async def produce_channels(url: str, messages: int, scopes: int, rate: float) -> None:
    from channels_redis.core import RedisChannelLayer

    layer = RedisChannelLayer(hosts=[url], capacity=messages + 1)
    async for _ in paced(messages, rate):
        await layer.send("bench", {"type": "say", "at": time.monotonic(), "text": "x" * 50})


async def consume_channels(url: str, counter: Counter, scopes: int) -> None:
    from channels.worker import Worker
    from channels_redis.core import RedisChannelLayer

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            counter.count((await receive())["at"])

    await Worker(application, ["bench"], RedisChannelLayer(hosts=[url])).arun()


PRODUCE = {"ours": produce_ours, "bare": produce_bare, "channels": produce_channels}
CONSUME = {"ours": consume_ours, "bare": consume_bare, "channels": consume_channels}


async def consume(kind: str, url: str, scopes: int) -> None:
    counter = Counter()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ended.set)
    tasks = [
        asyncio.create_task(counter.tell(url)),
        asyncio.ensure_future(CONSUME[kind](url, counter, scopes)),
    ]
    ending = asyncio.create_task(ended.wait())
    done, _ = await asyncio.wait({*tasks, ending}, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    await counter.leave(url)


def main(kind: str, role: str, url: str, messages: str, scopes: str, rate: str) -> None:
    if role == "produce":
        asyncio.run(PRODUCE[kind](url, int(messages), int(scopes), float(rate)))
    else:
        with asyncio.Runner() as runner:
            runner.run(consume(kind, url, int(scopes)))
            sys.stdout.flush()
            os._exit(0)  # the worker has done its duty; ending it is not measured


if __name__ == "__main__":
    main(*sys.argv[1:])
