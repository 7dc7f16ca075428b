"""Misbehaving applications and gateways harm only their own message."""

import asyncio
from typing import Any

import asyncpg
import pytest
from chat import Chat, scope_of, shout, until, with_workers

from asgiref.postgres import CannotStart, Limits, PostgresWorker, send
from asgiref.sync import sync_to_async

pytestmark = pytest.mark.asyncio

QUICK = Limits(retry_delay=0.001)


async def dead_letters(connection: Any, count: int = 1) -> list[Any]:
    """Wait for that many dead letters, and return them."""

    async def are_there() -> bool:
        query = "SELECT count(*) FROM asgiref.dead_letters"
        return bool(await connection.fetchval(query) == count)

    await until(are_there)
    return list(await connection.fetch("SELECT * FROM asgiref.dead_letters ORDER BY id"))


async def test_a_message_that_python_cannot_read_is_a_dead_letter_and_the_next_is_handled(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    gateway = Chat(database)

    async def body() -> None:
        await gateway.say("ada", "one")
        assert await gateway.next_text() == "ONE"
        await connection.execute("SET search_path = asgiref")
        for data in (b'{"x":' + b"[" * 200_000, b"{", b"nothing", b"\xc1"):
            await connection.execute(
                "INSERT INTO messages (id, scope_id, message)"
                " VALUES (new_id(partition_of('ada')), 'ada', $1)",
                data,
            )
        await gateway.say("ada", "two")
        assert await gateway.next_text() == "TWO"
        dead = await dead_letters(connection, 4)
        assert all("cannot be read" in row["reason"] for row in dead)

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_an_error_that_postgresql_cannot_store_does_not_end_the_session(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    gateway = Chat(database)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("a lone \ud800 and a \0")

    worker = PostgresWorker(application, database, limits=QUICK)

    async def body() -> None:
        await gateway.say("ada", "hello")
        (dead,) = await dead_letters(connection)
        assert "a lone \\ud800 and a \\0" in dead["reason"]
        assert dead["attempts"] == 5
        assert worker.counts.lost_sessions == 0

    await with_workers(gateway, [worker], body)


@pytest.mark.parametrize("receives", [True, False])
async def test_an_application_that_cancels_itself_fails_like_any_other(
    database: str, connection: "asyncpg.Connection[Any]", receives: bool
) -> None:
    gateway = Chat(database)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if receives:
            await receive()
        raise asyncio.CancelledError

    async def body() -> None:
        await gateway.say("ada", "hello")
        (dead,) = await dead_letters(connection)
        assert "cancelled itself" in dead["reason"]

    await with_workers(gateway, [PostgresWorker(application, database, limits=QUICK)], body)


async def test_a_delivery_that_cancels_itself_fails_like_any_other(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    class Cancelling(Chat):
        async def application_send(self, scope: Any, message: Any) -> None:
            raise asyncio.CancelledError

    gateway = Cancelling(database, limits=QUICK)

    async def body() -> None:
        await gateway.say("ada", "hello")
        (dead,) = await dead_letters(connection)
        assert dead["id"] < 10**14  # an event on its way to the gateway

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_an_application_that_exits_ends_only_its_own_scope(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    gateway = Chat(database)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        if scope["user"] == "bad":
            raise SystemExit(3)
        await send({"type": "chat.say", "text": message["text"]})

    async def body() -> None:
        await gateway.say("bad", "hello")
        await gateway.say("ada", "hello")
        assert await gateway.next_text() == "hello"
        await dead_letters(connection)

    await with_workers(gateway, [PostgresWorker(application, database, limits=QUICK)], body)


async def test_hundreds_of_slow_scopes_with_a_backlog_hold_up_no_other(database: str) -> None:
    gateway = Chat(database)
    go_on = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if scope["user"].startswith("slow"):
                await go_on.wait()
            await send({"type": "chat.say", "text": message["text"]})

    async def body() -> None:
        for number in range(300):
            user = f"slow{number}"
            queue = gateway.get_or_create_application_instance(user, scope_of(user))
            for text in range(10):
                await queue.put({"type": "chat.said", "text": str(text)})
        await gateway.say("fast", "hello")
        assert (await gateway.events.get())[0] == "fast"
        go_on.set()
        for _ in range(3000):
            await gateway.events.get()

    await with_workers(gateway, [PostgresWorker(application, database)], body)


async def test_two_scopes_at_a_limit_of_one_application_take_turns(database: str) -> None:
    gateway = Chat(database)

    async def body() -> None:
        for number in range(10):
            for user in ("ada", "ben", "cem"):
                await gateway.say(user, f"{user}{number}")
        texts = [await gateway.next_text() for _ in range(30)]
        users = ("ADA", "BEN", "CEM")
        assert sorted(texts) == sorted(f"{u}{n}" for n in range(10) for u in users)

    await with_workers(gateway, [PostgresWorker(shout, database, max_applications=1)], body)


async def test_an_idle_instance_is_cancelled_and_the_next_message_starts_another(
    database: str,
) -> None:
    gateway = Chat(database)
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            await shout(scope, receive, send)
        finally:
            ended.put_nowait(scope["scope_id"])

    async def body() -> None:
        for _ in range(2):
            await gateway.say("ada", "hello")
            assert await gateway.next_text() == "HELLO"
            assert await ended.get() == "ada"

    await with_workers(gateway, [PostgresWorker(application, database, idle_timeout=0.05)], body)


async def test_an_event_sent_without_a_message_in_hand_is_stored(database: str) -> None:
    gateway = Chat(database)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await send({"type": "chat.say", "text": "later"})
        await waiting

    async def body() -> None:
        await gateway.say("ada", "hello")
        assert await gateway.next_text() == "later"
        await gateway.say("ada", "bye")

    await with_workers(gateway, [PostgresWorker(application, database)], body)


async def test_a_handle_on_a_thread_puts_messages_from_there(database: str) -> None:
    class Threaded(Chat):
        @sync_to_async(thread_sensitive=False)
        def handle(self) -> None:  # type: ignore[override]
            for number in range(100):
                queue = self.get_or_create_application_instance("ada", scope_of("ada"))
                queue.put_nowait({"type": "chat.said", "text": f"m{number}"})

    gateway = Threaded(database)
    worker = PostgresWorker(shout, database)
    working = asyncio.ensure_future(worker.arun())
    await gateway.arun()  # returns once the messages are stored
    receiver = Chat(database)
    receiver.events = gateway.events  # the first gateway may already have delivered some answers

    async def body() -> None:
        texts = [await receiver.next_text() for _ in range(100)]
        assert texts == [f"M{number}" for number in range(100)]

    await with_workers(receiver, [], body)
    worker.stop()
    await working


async def test_a_plain_function_may_deliver_events(database: str) -> None:
    class Plain(Chat):
        def application_send(self, scope: Any, message: Any) -> None:  # type: ignore[override]
            self.events.put_nowait((scope["user"], message, False))

    gateway = Plain(database)

    async def body() -> None:
        await gateway.say("ada", "hello")
        assert await gateway.next_text() == "HELLO"

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


@pytest.mark.parametrize(
    ("scope", "scope_id"),
    [
        ('"text"', "ada"),
        ("[1]", "ada"),
        (f'{{"x": "{"x" * (1 << 20)}"}}', "ada"),
        ("{}", "x" * 1001),
    ],
)
async def test_sql_refuses_a_scope_that_no_application_could_get(
    database: str, connection: "asyncpg.Connection[Any]", scope: str, scope_id: str
) -> None:
    with pytest.raises(asyncpg.RaiseError, match="must be JSON objects of at most 1048576 bytes"):
        await connection.execute("SELECT asgiref.send($1, '{}', $2::text::jsonb)", scope_id, scope)


async def test_a_scope_that_is_replaced_reaches_the_next_delivery(database: str) -> None:
    gateway = Chat(database)

    async def body() -> None:
        await send("ada", {"type": "chat.said", "text": "1"}, scope_of("ada"), database=database)
        assert (await gateway.events.get())[0] == "ada"
        await send("ada", {"type": "chat.said", "text": "2"}, scope_of("ben"), database=database)
        assert (await gateway.events.get())[0] == "ben"

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


@pytest.mark.parametrize(
    "options", [{"messages": 0}, {"scope_messages": 0}, {"attempts": 0}, {"retry_delay": -1.0}]
)
async def test_limits_that_would_stop_everything_are_refused(options: Any) -> None:
    with pytest.raises(CannotStart, match=f"The limit {next(iter(options))} must be at least"):
        Limits(**options)


async def test_an_empty_backlog_is_refused() -> None:
    with pytest.raises(CannotStart, match="at least one message"):
        Chat("postgresql://localhost/x", backlog=0)
