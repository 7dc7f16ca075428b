"""Messages from a gateway to applications in workers, and back."""

from typing import Any

import pytest
from pieces import Gateway, echo, running, worker
from real_redis import RealRedis

pytestmark = pytest.mark.asyncio


async def test_an_application_answers_through_the_gateway(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway, running(worker(echo, url, connection)):
        await gateway.say("ada", text="hello")
        scope, message, delivery = await gateway.sent.get()
        assert scope == {"type": "test", "id": "ada"}
        assert message == {"type": "say", "text": "hello", "scope": "ada"}
        assert not delivery.redelivered


async def test_messages_of_a_scope_are_handled_in_order(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway, running(worker(echo, url, connection)):
        for number in range(200):
            for name in ("ada", "ben", "cleo"):
                queue = gateway.get_or_create_application_instance(name, {"type": "t", "id": name})
                queue.put_nowait({"type": "say", "number": number})
        heard: dict[str, list[Any]] = {"ada": [], "ben": [], "cleo": []}
        for _ in range(600):
            message = await gateway.heard()
            heard[message["scope"]].append(message["number"])
        assert all(numbers == list(range(200)) for numbers in heard.values())
