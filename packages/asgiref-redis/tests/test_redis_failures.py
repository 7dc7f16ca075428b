"""Applications that fail, and entries that are none, end as dead letters, and nothing waits."""

from typing import Any

import pytest
from pieces import Gateway, echo, letters, running, until, worker
from real_redis import RealRedis
from redis.asyncio import Redis

from asgiref.redis import status

pytestmark = pytest.mark.asyncio


async def picky(scope: Any, receive: Any, send: Any) -> None:
    """Fails with some messages, each time it sees them."""
    while True:
        message = await receive()
        if "fail" in message:
            raise ValueError(f"what is {message['fail']}?")
        await send({**message, "scope": scope["id"]})


async def test_a_message_that_always_fails_becomes_a_dead_letter_and_the_next_is_handled(
    shared_redis: RealRedis, connection: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = shared_redis.url
    async with (
        running(Gateway(url, connection)) as gateway,
        running(worker(picky, url, connection, failures=3)) as server,
    ):
        await gateway.say("ada", fail="this")
        await gateway.say("ada", text="next")
        assert (await gateway.heard())["text"] == "next"
        assert (server.failed, server.dead) == (3, 1)
    [letter] = await letters(url, connection)
    assert letter[b"attempts"] == b"3"
    assert letter[b"reason"] == b"ValueError: what is this?"
    assert b'raise ValueError(f"what is' in letter[b"traceback"]
    assert letter[b"m"] == b'{"type":"say","fail":"this"}'
    assert letter[b"i"] == b"ada"
    assert "is a dead letter after 3 attempts: ValueError: what is this?" in caplog.text


async def test_other_scopes_of_the_partition_do_not_wait_for_a_failing_one(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    async with (
        running(Gateway(url, connection, partitions=1)) as gateway,
        running(worker(picky, url, connection, retry_delay=1000)),
    ):
        await gateway.say("ada", fail="this")
        for number in range(20):
            await gateway.say(f"other{number}", number=number)
        heard = [(await gateway.heard())["number"] for _ in range(20)]
        assert sorted(heard) == list(range(20))


async def test_a_message_that_fails_once_is_received_again_and_says_so(
    shared_redis: RealRedis, connection: str
) -> None:
    async def fails_once(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        if "redelivered" not in message:
            raise ValueError
        await send(message)

    url = shared_redis.url
    async with (
        running(Gateway(url, connection)) as gateway,
        running(worker(fails_once, url, connection)),
    ):
        await gateway.say("ada", text="hello")
        message = await gateway.heard()
        assert message == {"type": "say", "text": "hello", "redelivered": True}


async def test_an_application_that_never_receives_does_not_hold_up_its_partition(
    shared_redis: RealRedis, connection: str
) -> None:
    async def refuses_ada(scope: Any, receive: Any, send: Any) -> None:
        if scope["id"] != "ada":
            await echo(scope, receive, send)

    url = shared_redis.url
    async with (
        running(Gateway(url, connection, partitions=1)) as gateway,
        running(worker(refuses_ada, url, connection, failures=2)) as server,
    ):
        await gateway.say("ada")
        await gateway.say("ben")
        assert (await gateway.heard())["scope"] == "ben"
        await until(lambda: server.dead)
    [letter] = await letters(url, connection, 1)
    assert letter[b"reason"] == b"the application ended without receiving it"


async def test_failures_are_counted_across_workers(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection)) as gateway:
        await gateway.say("ada", fail="this")
        for _ in range(2):
            async with running(worker(picky, url, connection, retry_delay=1000)) as server:
                await until(lambda: server.failed)
        found = await status(url, connection)
        assert sum(each.failing for part in found.partitions for each in part.groups) == 1
        async with running(worker(picky, url, connection, failures=3)) as server:
            await until(lambda: server.dead)
            assert server.failed == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"i": "ada", "s": '{"type":"t"}', "m": "no json"}, b"neither JSON nor msgpack"),
        ({"i": "ada", "s": '{"type":"t"}', "m": b"\x92\x01\x02"}, b"malformed: not a map"),
        ({"i": "ada", "s": '{"type":"t"}'}, b"malformed: a field is missing"),
        ({"i": "ada", "s": "{}", "m": "{}"}, b"malformed: the scope has no type"),
        ({"i": b"\xff", "s": '{"type":"t"}', "m": "{}"}, b"a scope's id is not UTF-8"),
        ({"x": "y"}, b"a scope's id is missing"),
        ({"i": "ada", "s": '{"type":"t"}', "m": "{" + 2000 * " " + "}"}, b"2002 bytes"),
        ({"i": "ada", "s": '{"type":"t"}', "m": b"\x81\xc1\x00"}, b"neither JSON nor msgpack"),
        ({"i": "ada", "s": '{"type":"t"}', "m": '{"a":' * 99999}, b"2000 are allowed"),
    ],
)
async def test_a_malformed_entry_becomes_a_dead_letter_and_the_next_is_handled(
    shared_redis: RealRedis, connection: str, fields: dict[Any, Any], reason: bytes
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection, partitions=1)) as gateway:
        async with Redis.from_url(url) as client:
            await client.xadd(f"asgiref:{{{connection}/0}}:in", fields)
        async with running(worker(echo, url, connection, max_size=2000)) as server:
            await gateway.say("ben")
            assert (await gateway.heard())["scope"] == "ben"
            await until(lambda: server.dead)
    [letter] = await letters(url, connection, 1)
    assert reason in letter[b"reason"]


async def test_a_malformed_event_becomes_a_dead_letter_and_the_next_is_delivered(
    shared_redis: RealRedis, connection: str
) -> None:
    url = shared_redis.url
    async with running(Gateway(url, connection, partitions=1)) as gateway:
        async with Redis.from_url(url) as client:
            await client.xadd(f"asgiref:{{{connection}/0}}:out", {"s": "{}", "m": "nothing"})
        async with running(worker(echo, url, connection)):
            await gateway.say("ben")
            assert (await gateway.heard())["scope"] == "ben"
    [letter] = await letters(url, connection, 1)
    assert letter[b"group"] == b"gateway"
    assert letter[b"reason"].startswith(b"malformed")


async def test_an_event_that_cannot_be_delivered_becomes_a_dead_letter(
    shared_redis: RealRedis, connection: str
) -> None:
    class Failing(Gateway):
        async def application_send(self, scope: Any, message: Any) -> None:
            if "bad" in message:
                raise OSError("the network does not take it")
            await super().application_send(scope, message)

    url = shared_redis.url
    async with (
        running(Failing(url, connection, failures=2, retry_delay=0.01)) as gateway,
        running(worker(echo, url, connection)),
    ):
        await gateway.say("ada", bad=True)
        await gateway.say("ada", text="next")
        assert (await gateway.heard())["text"] == "next"
        assert gateway.dead == 1
    [letter] = await letters(url, connection)
    assert letter[b"reason"] == b"OSError: the network does not take it"
