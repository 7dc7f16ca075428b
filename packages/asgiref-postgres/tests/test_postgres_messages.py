"""A gateway and workers in one process, on a real server."""

import asyncio
from typing import Any

import asyncpg
import pytest
from chat import Chat, said, scope_of, shout, with_workers
from proxy import Proxy
from real_postgres import RealPostgres

from asgiref.postgres import Limits, PostgresWorker, send, send_sync
from asgiref.postgres._schema import partition_of

pytestmark = pytest.mark.asyncio


async def test_an_answer_comes_back(database: str) -> None:
    gateway = Chat(database)

    async def body() -> None:
        await gateway.store("ada", scope_of("ada"), said("hello"))
        assert await gateway.events.get() == (
            "ada",
            {"type": "chat.say", "text": "HELLO"},
            False,
        )

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_answers_keep_their_order_with_two_workers(database: str) -> None:
    gateway = Chat(database)
    users, count = [f"user{number}" for number in range(50)], 40

    async def body() -> None:
        for number in range(count):
            for user in users:
                queue = gateway.get_or_create_application_instance(user, scope_of(user))
                await queue.put(said(f"m{number}"))
        found: dict[str, list[str]] = {user: [] for user in users}
        for _ in range(count * len(users)):
            user, message, redelivered = await gateway.events.get()
            assert not redelivered
            found[user].append(message["text"])
        assert all(texts == [f"M{n}" for n in range(count)] for texts in found.values())

    await with_workers(gateway, [PostgresWorker(shout, database) for _ in range(2)], body)


async def test_a_message_that_fails_five_times_is_a_dead_letter(
    database: str, connection: "asyncpg.Connection[Any]", caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Chat(database)
    tried = 0

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal tried
        message = await receive()
        if message["text"] == "bad":
            tried += 1
            assert bool(message.get("redelivered")) is (tried > 1)
            raise ZeroDivisionError("on purpose")
        await send({"type": "chat.say", "text": message["text"]})

    async def body() -> None:
        await gateway.store("ada", scope_of("ada"), said("bad"))
        await gateway.store("ada", scope_of("ada"), said("good"))
        assert (await gateway.events.get())[1]["text"] == "good"

    limits = Limits(retry_delay=0.001)
    await with_workers(gateway, [PostgresWorker(application, database, limits=limits)], body)
    (dead,) = await connection.fetch("SELECT * FROM asgiref.dead_letters")
    assert tried == dead["attempts"] == 5
    assert "ZeroDivisionError: on purpose" in dead["reason"]
    assert await connection.fetchval("SELECT count(*) FROM asgiref.messages") == 0
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warnings == [
        f"Message {dead['id']} of scope 'ada' is now a dead letter (attempts: 5): "
        "ZeroDivisionError: on purpose"
    ]


@pytest.mark.parametrize("chatty", ["chatty", ""])
async def test_a_chatty_scope_does_not_hold_up_its_neighbours(database: str, chatty: str) -> None:
    gateway = Chat(database)
    handling = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if scope["user"] == "chatty":
                await handling.wait()
            await send({"type": "chat.say", "text": message["text"]})

    async def body() -> None:
        queue = gateway.get_or_create_application_instance(chatty, scope_of("chatty"))
        for number in range(2000):
            await queue.put(said(str(number)))
        for number in range(20):
            await gateway.store(f"quiet{number}", scope_of("quiet"), said("hello"))
        for _ in range(20):
            assert (await gateway.events.get())[0] == "quiet"
        handling.set()
        texts = [(await gateway.events.get())[1]["text"] for _ in range(2000)]
        assert texts == [str(number) for number in range(2000)]

    await with_workers(gateway, [PostgresWorker(application, database)], body)


async def test_a_scope_with_large_messages_does_not_hold_up_its_neighbours(database: str) -> None:
    gateway = Chat(database)
    go_on = asyncio.Event()
    limits = Limits(size=400_000, scope_size=100_000)
    filling = "x" * 20_000

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if scope["user"] == "large":
                await go_on.wait()
            await send({"type": "chat.say", "text": message["text"][:2]})

    async def body() -> None:
        queue = gateway.get_or_create_application_instance("large", scope_of("large"))
        for number in range(60):  # three times the size that the worker holds
            await queue.put(said(f"{number:02}{filling}"))
        for number in range(20):
            await gateway.store(f"quiet{number}", scope_of("quiet"), said("hi"))
        for _ in range(20):
            assert (await gateway.events.get())[0] == "quiet"
        go_on.set()
        assert [await gateway.next_text() for _ in range(60)] == [f"{n:02}" for n in range(60)]

    await with_workers(gateway, [PostgresWorker(application, database, limits=limits)], body)


async def test_python_and_sql_agree_on_the_partition_of_a_scope(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    names = [f"scope{number}" for number in range(500)] + ["", "ä", "日本", "\U0001f40d", "a b\n"]

    rows = await connection.fetch(
        "SELECT n, asgiref.partition_of(n) FROM unnest($1::text[]) n", names
    )

    assert [partition_of(name, 16) for name, _ in rows] == [partition for _, partition in rows]


async def test_a_batch_whose_commit_was_not_confirmed_is_stored_once(
    database: str, server: RealPostgres, connection: "asyncpg.Connection[Any]"
) -> None:
    async with Proxy(server.port) as proxy:
        gateway = Chat(database.replace(str(server.port), str(proxy.port)))

        async def body() -> None:
            await gateway.say("ada", "text0")
            for number in range(1, 5):
                proxy.cut_reply_to = f"text{number}".encode()
                await gateway.say("ada", f"text{number}")
            rows = await connection.fetch("SELECT message FROM asgiref.messages ORDER BY id")
            assert [f"text{number}" in row[0].decode() for number, row in enumerate(rows)] == [
                True
            ] * 5
            assert gateway.counts.lost_sessions > 0

        await with_workers(gateway, [], body)


async def test_send_works_from_coroutines_functions_and_sql(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    gateway = Chat(database)

    async def body() -> None:
        await send("ada", said("one"), scope_of("ada"), database=database)
        await asyncio.to_thread(send_sync, "ada", said("two"), database=database)
        await connection.execute(
            """SELECT asgiref.send('ada', '{"type": "chat.said", "text": "three"}')"""
        )
        for expected in ("ONE", "TWO", "THREE"):
            assert (await gateway.events.get())[1]["text"] == expected

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_an_application_without_gateway_or_stored_scope_gets_a_minimal_scope(
    database: str,
) -> None:
    scopes: asyncio.Queue[Any] = asyncio.Queue()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scopes.put_nowait(scope)

    worker = PostgresWorker(application, database)
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.arun())
        await send("ada", {"type": "order.placed"}, database=database)
        found = await asyncio.wait_for(scopes.get(), 30)
        worker.stop()

    assert found == {"type": "asgiref.postgres", "scope_id": "ada"}


async def test_a_message_exists_if_and_only_if_the_transaction_is_committed(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await send("ada", said("never"), connection=connection)
    await transaction.rollback()
    assert await connection.fetchval("SELECT count(*) FROM asgiref.messages") == 0


async def test_a_transaction_that_commits_late_is_not_passed_over(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    gateway = Chat(database)

    async def body() -> None:
        transaction = connection.transaction()
        await transaction.start()
        await send("late", said("late"), scope_of("late"), connection=connection)
        for number in range(50):
            await gateway.store(f"user{number}", scope_of("early"), said("early"))
        for _ in range(50):
            assert (await gateway.events.get())[0] == "early"
        await transaction.commit()
        assert (await gateway.events.get())[0] == "late"

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_a_lower_id_under_a_higher_transaction_id_is_not_passed_over(database: str) -> None:
    gateway = Chat(database)
    first, second = await asyncpg.connect(database), await asyncpg.connect(database)

    async def body() -> None:
        await gateway.store("ada", scope_of("ada"), said("start"))
        await gateway.events.get()
        older, newer = first.transaction(), second.transaction()
        await older.start()
        await first.execute("SELECT pg_current_xact_id()")
        await newer.start()
        # A snapshot does not show this transaction: none with a higher id has ended yet.
        await send("ada", said("low"), connection=second)
        await send("ada", said("high"), scope_of("ada"), connection=first)
        await older.commit()
        assert (await gateway.events.get())[1]["text"] == "HIGH"
        await newer.commit()
        assert (await gateway.events.get())[1]["text"] == "LOW"

    await with_workers(gateway, [PostgresWorker(shout, database)], body)
    await first.close()
    await second.close()


async def test_processes_reconnect_after_a_server_restart(
    database: str, server: RealPostgres
) -> None:
    gateway = Chat(database)

    async def body() -> None:
        await gateway.store("ada", scope_of("ada"), said("before"))
        assert (await gateway.events.get())[1]["text"] == "BEFORE"
        await asyncio.to_thread(server.kill)
        queue = gateway.get_or_create_application_instance("ada", scope_of("ada"))
        queue.put_nowait(said("meanwhile"))
        await asyncio.to_thread(server.start)
        while True:
            _, message, redelivered = await gateway.events.get()
            if message["text"] == "MEANWHILE":
                break
            assert redelivered

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_a_plain_function_sends_within_its_own_transaction(database: str) -> None:
    psycopg = pytest.importorskip("psycopg")

    def transactions() -> int:
        with psycopg.connect(database) as connection:
            send_sync("ada", said("never"), connection=connection)
            connection.rollback()
            send_sync("ada", said("yes"), connection=connection)
            connection.commit()
            count = connection.execute("SELECT count(*) FROM asgiref.messages").fetchone()
        return int(count[0])

    assert await asyncio.to_thread(transactions) == 1


async def test_a_delivery_that_waits_holds_up_only_its_own_scope(database: str) -> None:
    released = asyncio.Event()

    class Limited(Chat):
        async def application_send(self, scope: Any, message: Any) -> None:
            if scope["user"] == "slow":
                await released.wait()
            await super().application_send(scope, message)

    gateway = Limited(database)

    async def body() -> None:
        for number in range(200):
            await gateway.store("slow", scope_of("slow"), said(f"s{number}"))
        await gateway.store("fast", scope_of("fast"), said("f"))
        assert (await gateway.events.get())[0] == "fast"
        released.set()
        texts = [(await gateway.events.get())[1]["text"] for _ in range(200)]
        assert texts == [f"S{number}" for number in range(200)]

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_a_failed_delivery_is_repeated_and_marked(database: str) -> None:
    class Failing(Chat):
        failures = 2

        async def application_send(self, scope: Any, message: Any) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError("on purpose")
            assert self.delivery.attempts == 2
            await super().application_send(scope, message)

    gateway = Failing(database, limits=Limits(retry_delay=0.001))

    async def body() -> None:
        await gateway.store("ada", scope_of("ada"), said("hello"))
        assert await gateway.events.get() == ("ada", {"type": "chat.say", "text": "HELLO"}, True)

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_an_application_that_never_receives_does_not_run_forever(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    gateway = Chat(database)
    runs = 0

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal runs
        runs += 1

    async def body() -> None:
        await gateway.store("ada", scope_of("ada"), said("hello"))
        query = "SELECT count(*) FROM asgiref.dead_letters"
        while not await connection.fetchval(query):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    limits = Limits(retry_delay=0.001)
    await with_workers(gateway, [PostgresWorker(application, database, limits=limits)], body)
    assert runs == 5


async def test_messages_that_cannot_be_sent_are_refused(database: str) -> None:
    gateway = Chat(database)
    with pytest.raises(TypeError, match="A message must be a dict, not 'str'"):
        await gateway.store("ada", scope_of("ada"), "hello")
    with pytest.raises(TypeError, match="A scope id must be a string, not 1"):
        await gateway.store(1, scope_of("ada"), said("hello"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no 'type'"):
        await gateway.store("ada", {}, said("hello"))
    with pytest.raises(ValueError, match="the maximum is 1048576"):
        await gateway.store("ada", scope_of("ada"), said("x" * (1 << 20)))


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800"])
async def test_send_raises_type_error_for_a_value_that_json_cannot_hold(value: object) -> None:
    with pytest.raises(TypeError, match="The message cannot be encoded"):
        await send("ada", {"type": "x", "value": value}, database="postgresql://localhost/x")
