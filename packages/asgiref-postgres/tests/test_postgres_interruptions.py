"""Cancellations, evictions, losses and open transactions at awkward moments."""

import asyncio
import contextlib
import json
import uuid
from typing import Any

import asyncpg
import pytest
from chat import Chat, said, scope_of, shout, until, with_workers

from asgiref.postgres import Database, PostgresWorker, send
from asgiref.postgres._database import Session
from asgiref.postgres._delivery import Read, Writes
from asgiref.postgres._outbox import Batch, Item
from asgiref.postgres._schema import SPAN, partition_of

pytestmark = pytest.mark.asyncio

#: No test waits longer for something that should happen.
SECONDS = 30.0


async def test_a_message_for_an_instance_that_is_evicted_before_it_receives_starts_the_next_one(
    database: str,
) -> None:
    gateway = Chat(database)
    is_deaf = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await send({"type": "chat.say", "text": message["text"]})
        if message["text"] == "one":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await receive()  # acknowledges the message
            is_deaf.set()
            await asyncio.get_running_loop().create_future()

    worker = PostgresWorker(application, database, max_applications=1)

    async def has_read_the_second() -> bool:
        return worker.counts.read == 2

    async def body() -> None:
        await gateway.say("ada", "one")
        assert await gateway.next_text() == "one"
        await is_deaf.wait()
        await gateway.say("ada", "two")
        await until(has_read_the_second)
        await gateway.say("bob", "three")
        async with asyncio.timeout(SECONDS):
            assert {await gateway.next_text() for _ in range(2)} == {"two", "three"}

    await with_workers(gateway, [worker], body)


async def end_session(connection: Any, kind: str) -> None:
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE $1",
        f"asgiref.postgres {kind} %",
    )


async def test_a_delivery_that_ignores_its_cancellation_does_not_go_on_with_a_lost_session(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    class Stubborn(Chat):
        async def application_send(self, scope: Any, message: Any) -> None:
            await super().application_send(scope, message)
            if not self.delivery.redelivered:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.get_running_loop().create_future()

    gateway = Stubborn(database)

    async def has_read_all() -> bool:
        return gateway.counts.read == 3

    async def body() -> None:
        for text in ("one", "two", "three"):
            await gateway.say("ada", text)
        await until(has_read_all)
        await end_session(connection, "gateway")
        async with asyncio.timeout(SECONDS):
            found = [await gateway.events.get() for _ in range(4)]
        texts = [(message["text"], redelivered) for _, message, redelivered in found]
        assert texts == [("ONE", False), ("ONE", True), ("TWO", True), ("THREE", True)]

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_a_gateway_whose_handle_cancels_itself_ends(database: str) -> None:
    class Broken(Chat):
        runs = 0

        async def handle(self) -> None:
            self.runs += 1
            cancelled = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            await cancelled

    gateway = Broken(database)
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(SECONDS):
            await gateway.arun()
    assert gateway.runs == 1


async def test_send_gives_up_when_the_database_does_not_answer(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    async with asyncio.timeout(SECONDS), connection.transaction():
        await connection.execute("LOCK TABLE asgiref.messages")
        with pytest.raises(TimeoutError, match="did not answer within 1 seconds"):
            await send("ada", said("hello"), database=Database(database, timeout=1.0))


async def test_an_instance_whose_only_message_cannot_be_read_ends_after_the_idle_timeout(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    cancelled = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    insert = "INSERT INTO asgiref.messages (id, scope_id, message) VALUES ($1, 'ada', 'unreadable')"
    await connection.execute(insert, partition_of("ada", 16) * SPAN + 1)
    worker = PostgresWorker(application, database, idle_timeout=0.01)
    async with asyncio.timeout(SECONDS):
        running = asyncio.ensure_future(worker.arun())
        await cancelled.wait()
        worker.stop()
        await running


async def test_an_open_transaction_that_sent_an_unchanged_scope_holds_up_no_other_process(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    for name in ("ada", "bob"):
        await send(name, said("first"), scope_of(name), connection=connection)
    gateway, other = Chat(database), await asyncpg.connect(database)

    async def body() -> None:
        async with asyncio.timeout(SECONDS), connection.transaction(), other.transaction():
            await send("ada", said("second"), scope_of("ada"), connection=connection)
            await send("bob", said("second"), scope_of("bob"), connection=other)
            await gateway.say("ada", "third")
            await send("bob", said("fourth"), scope_of("bob"), connection=connection)
            await send("ada", said("fourth"), scope_of("ada"), connection=other)

    await with_workers(gateway, [], body)
    await other.close()


async def test_an_open_transaction_that_sent_a_new_scope_holds_up_no_other_process(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    await send("bob", said("first"), {"type": "chat"}, connection=connection)
    gateway, other = Chat(database), await asyncpg.connect(database)

    async def body() -> None:
        async with asyncio.timeout(SECONDS), connection.transaction(), other.transaction():
            await send("ada", said("first"), scope_of("view"), connection=connection)
            await send("bob", said("second"), scope_of("view"), connection=other)
            await gateway.say("ada", "second")
            await gateway.say("bob", "third")
            await send("bob", said("fourth"), scope_of("bob"), connection=connection)
            await send("ada", said("third"), scope_of("view"), connection=other)

    await with_workers(gateway, [], body)
    await other.close()


async def test_the_latest_scope_is_stored_and_replaces_the_former_ones(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    gateway = Chat(database)

    async def body() -> None:
        for name in ("first", "second"):
            await send("ada", said("hello"), scope_of(name), connection=connection)
        await gateway.store("ada", scope_of("third"), said("hello"))
        await gateway.store("ada", scope_of("fourth"), said("hello"))

    await with_workers(gateway, [], body)
    (row,) = await connection.fetch("SELECT scope FROM asgiref.scopes")
    assert json.loads(row["scope"]) == scope_of("fourth")


async def test_a_gateway_that_another_one_replaced_after_a_week_still_stores_no_batch_twice(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    readers = [uuid.uuid4() for _ in range(3)]
    batch = Batch([Item("ada", b"{}")], number=7)

    async def session_of(reader: uuid.UUID) -> Session:
        session = Session(Database(database), "gateway", reader, lambda _: None)
        await session.open()
        assert await session.last_batch() is not None
        return session

    replaced = await session_of(readers[0])
    assert await replaced.acquire([0])
    await replaced.exchange(Writes(), batch, Read(), asleep=None)
    await connection.execute("UPDATE asgiref.readers SET opened_at = now() - interval '8 days'")
    await replaced.close()
    others = [await session_of(reader) for reader in readers[1:]]
    assert await others[0].acquire([0])
    assert await others[1].acquire([1])

    returned = await session_of(readers[0])
    assert await returned.last_batch() == 7
    for session in (*others, returned):
        await session.close()
