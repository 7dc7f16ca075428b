"""One process of `redis_streams`.

``python redis_cases.py WAY ROLE URL TIMES WORKERS SCOPES PARSER``; TIMES is a descriptor.

A producer sends what each line of its standard input says (`redis_messages.Order`) and answers
with a line when Redis has it. A consumer hands each message to an application, or to what stands in
for one, until it is killed. Both print ``ready`` when they are.

What every way carries is the same: a dict that the sender makes and the receiver gets, beside the
id of a scope; as JSON, except where Channels packs it itself. Each acknowledges a message when it
has been handled, each sends as fast as its API allows, and each has the same client of Redis.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from redis_messages import Case, Order, Times, Way, paced

#: How many messages the bare loop sends, reads and acknowledges in one step; more are no faster.
BATCH = 128
#: Partitions of a connection, unless told otherwise.
PARTITIONS = 64
TEXT = "x" * 50


async def orders() -> AsyncIterator[Order]:
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield Order.read(line)
        print("sent", flush=True)


# Ours


async def produce_ours(url: str, times: Times, case: Case) -> None:
    from asgiref.redis import RedisGateway

    class Producer(RedisGateway):
        async def handle(self) -> None:
            async for order in orders():
                async for number, _ in paced(order, times):
                    name = f"scope{number % case.scopes}"
                    queue = self.get_or_create_application_instance(name, {"type": "t", "id": name})
                    await queue.put({"type": "say", "n": number, "text": TEXT})
                await queue.join()

        async def application_send(self, scope: Any, message: Any) -> None:
            pass

    await Producer(url).arun()


async def consume_ours(url: str, times: Times, case: Case) -> None:
    from asgiref.redis import RedisWorker

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            times.receive((await receive())["n"])

    async def tell_when_ready() -> None:
        shares = {PARTITIONS // case.workers, -(-PARTITIONS // case.workers)}
        while len(worker.partitions) not in shares:  # noqa: ASYNC110  # which tells nobody
            await asyncio.sleep(0.05)
        print("ready", flush=True)

    worker = RedisWorker(application, url, group="bench", max_applications=case.scopes + 1)
    telling = asyncio.create_task(tell_when_ready())
    await worker.arun()
    await telling


# Streams, without anything around


async def produce_bare(url: str, times: Times, case: Case) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as client:
        await client.xgroup_create("bare", "bench", "0", mkstream=True)
        async for order in orders():
            pipeline, waiting = client.pipeline(transaction=False), 0
            async for number, more in paced(order, times):
                message = {"type": "say", "n": number, "text": TEXT}
                fields: dict[Any, Any] = {
                    "i": f"scope{number % case.scopes}",
                    "m": json.dumps(message),
                }
                pipeline.xadd("bare", fields)
                waiting += 1
                if waiting == BATCH or not more:
                    await pipeline.execute()
                    waiting = 0


async def consume_bare(url: str, times: Times, case: Case) -> None:
    from redis.asyncio import Redis

    words = ("XREADGROUP", "GROUP", "bench", str(os.getpid()), "COUNT", BATCH, "BLOCK", 1000)
    async with Redis.from_url(url) as client:
        print("ready", flush=True)
        while True:
            found = await client.execute_command(*words, "STREAMS", "bare", ">")
            if not found:
                continue
            entries = next(iter(found.values()))[0] if isinstance(found, dict) else found[0][1]
            for _, fields in entries:
                times.receive(json.loads(fields[b"m"])["n"])
            await client.xack("bare", "bench", *(id for id, _ in entries))


# Channels, which knows no scopes: one channel, whose messages any worker gets


def channel_layer(url: str) -> Any:
    from channels_redis.core import RedisChannelLayer

    # It waits for five seconds, and the newest redis-py gives an answer up after as many.
    return RedisChannelLayer(hosts=[{"address": url, "socket_timeout": 60}], capacity=1_000_000)


async def produce_channels(url: str, times: Times, case: Case) -> None:
    layer = channel_layer(url)
    async for order in orders():
        async for number, _ in paced(order, times):
            await layer.send("bench", {"type": "say", "n": number, "text": TEXT})


async def consume_channels(url: str, times: Times, case: Case) -> None:
    from channels.worker import Worker

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            times.receive((await receive())["n"])

    print("ready", flush=True)
    await Worker(application, ["bench"], channel_layer(url)).arun()


ROLES = {
    (Way.OURS, "produce"): produce_ours,
    (Way.OURS, "consume"): consume_ours,
    (Way.BARE, "produce"): produce_bare,
    (Way.BARE, "consume"): consume_bare,
    (Way.CHANNELS, "produce"): produce_channels,
    (Way.CHANNELS, "consume"): consume_channels,
}


def main(way: str, role: str, url: str, *rest: str) -> None:
    *numbers, parser = rest
    if parser == "python":
        sys.modules["hiredis"] = None  # type: ignore[assignment]  # as if it were not installed
    descriptor, workers, scopes = map(int, numbers)
    run = ROLES[Way(way), role]
    asyncio.run(run(url, Times(descriptor), Case(workers, scopes)))


if __name__ == "__main__":
    main(*sys.argv[1:])
