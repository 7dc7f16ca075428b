"""How workers and gateways start, end, hand over and survive outages, as an operator sees it."""

import asyncio
import contextlib
import logging
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from chat import Chat, said, scope_of, shout, until, with_workers
from real_postgres import RealPostgres, free_port

from asgiref.postgres import Database, PostgresWorker, send
from asgiref.postgres._schema import partition_of

pytestmark = pytest.mark.asyncio

SUPPORT = Path(__file__).parent / "support"


@asynccontextmanager
async def running(worker: PostgresWorker) -> AsyncIterator["asyncio.Future[None]"]:
    """Run a worker during the block, then stop it."""
    task = asyncio.ensure_future(worker.arun())
    try:
        yield task
    finally:
        if not task.done():
            worker.stop()
        await task


async def owns(worker: PostgresWorker, count: int) -> None:
    async def does() -> bool:
        return len(worker.partitions) == count

    await until(does)


async def test_a_worker_that_is_ending_gives_up_its_partitions_while_it_still_handles_a_message(
    database: str,
) -> None:
    gateway = Chat(database)
    handling, go_on = asyncio.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        handling.set()
        await go_on.wait()
        await send({"type": "chat.say", "text": message["text"]})

    leaving = PostgresWorker(application, database, shutdown_timeout=60)
    staying = PostgresWorker(shout, database)

    async def body() -> None:
        async with running(leaving) as ending:
            await gateway.say("ada", "slow")
            await handling.wait()
            async with running(staying):
                await owns(staying, 8)
                leaving.stop()
                await owns(staying, 15)
                assert len(leaving.partitions) == 1
                go_on.set()
                await ending
                await owns(staying, 16)
        assert await gateway.events.get() == (
            *("ada", {"type": "chat.say", "text": "slow"}),
            False,
        )

    await with_workers(gateway, [], body)


async def test_a_stream_of_messages_in_one_scope_does_not_stop_the_hand_over(
    database: str,
) -> None:
    gateway = Chat(database)
    to_end = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()

    async def stream() -> None:
        queue = gateway.get_or_create_application_instance("ada", scope_of("ada"))
        while not to_end.is_set():
            await queue.put({"type": "chat.said"})
            await asyncio.sleep(0)

    first, second = (PostgresWorker(application, database) for _ in range(2))

    async def body() -> None:
        streaming = asyncio.ensure_future(stream())
        async with running(first):
            await owns(first, 16)
            async with running(second):
                await owns(second, 8)
                await owns(first, 8)
        to_end.set()
        await streaming

    await with_workers(gateway, [], body)


async def test_a_scope_starts_elsewhere_only_when_its_instance_has_cleaned_up(
    database: str,
) -> None:
    gateway = Chat(database)
    cleaning, may_end, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def first_application(scope: Any, receive: Any, send: Any) -> None:
        try:
            await shout(scope, receive, send)
        finally:
            cleaning.set()
            await may_end.wait()
            cleaned.set()

    async def second_application(scope: Any, receive: Any, send: Any) -> None:
        assert cleaned.is_set()
        await shout(scope, receive, send)

    first, second = (
        PostgresWorker(application, database)
        for application in (first_application, second_application)
    )

    async def body() -> None:
        async with running(first):
            await gateway.say("ada", "hello")
            assert await gateway.next_text() == "HELLO"
            async with running(second):
                first.stop()
                await cleaning.wait()
                await gateway.say("ada", "again")
                await owns(second, 15)
                may_end.set()
                assert await gateway.next_text() == "AGAIN"

    await with_workers(gateway, [], body)


async def test_a_worker_hands_over_its_idle_partitions_and_keeps_the_busy_ones(
    database: str,
) -> None:
    gateway = Chat(database)
    go_on, busy = asyncio.Event(), set[str]()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        busy.add(scope["user"])
        await go_on.wait()
        await send({"type": "chat.say", "text": message["text"]})

    first, second = (PostgresWorker(application, database) for _ in range(2))
    # One scope in each of eight partitions: exactly the share that the first worker may keep.
    users = {partition_of(f"user{number}", 16): f"user{number}" for number in range(200)}
    chosen = {partition: users[partition] for partition in range(3, 11)}

    async def are_busy() -> bool:
        return len(busy) == 8

    async def body() -> None:
        async with running(first):
            for user in chosen.values():
                await gateway.say(user, "slow")
            await until(are_busy)
            async with running(second):
                await owns(second, 8)
                assert sorted(first.partitions) == sorted(chosen)
                go_on.set()
                for _ in chosen:
                    assert not (await gateway.events.get())[2]

    await with_workers(gateway, [], body)


async def test_a_message_given_up_at_shutdown_is_marked_redelivered(
    database: str,
) -> None:
    gateway = Chat(database)
    seen: asyncio.Queue[bool] = asyncio.Queue()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        seen.put_nowait(message.get("redelivered", False))
        if not message.get("redelivered"):
            await asyncio.get_running_loop().create_future()

    async def body() -> None:
        await gateway.say("ada", "hello")
        async with running(PostgresWorker(application, database, shutdown_timeout=0.0)):
            assert not await seen.get()
        async with running(PostgresWorker(application, database)):
            assert await seen.get()

    await with_workers(gateway, [], body)


async def test_a_worker_that_had_to_wait_for_partitions_is_notified_like_the_others(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    waiting = PostgresWorker(shout, database)
    await connection.execute(
        "SELECT pg_advisory_lock('asgiref'::regnamespace::oid::integer, n)"
        " FROM generate_series(1, 16) n"
    )

    async def is_asleep() -> bool:
        query = (
            "SELECT bool_and(asleep) FROM asgiref.readers JOIN asgiref.partitions USING (reader)"
        )
        return bool(await connection.fetchval(query))

    async def has_read() -> bool:
        return waiting.counts.transactions > 5

    async with running(waiting):
        await until(has_read)
        await connection.execute("SELECT pg_advisory_unlock_all()")
        await owns(waiting, 16)
        await until(is_asleep)


async def test_a_worker_ends_at_once_while_the_database_is_down() -> None:
    worker = PostgresWorker(shout, f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")
    working = asyncio.ensure_future(worker.arun())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    worker.stop()
    async with asyncio.timeout(5):
        await working


async def test_a_gateway_ends_at_once_while_the_database_is_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway = Chat(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")
    serving = asyncio.ensure_future(gateway.arun())

    async def is_waiting() -> bool:
        return "The database is unavailable" in caplog.text

    await until(is_waiting)
    serving.cancel()
    async with asyncio.timeout(5):
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def test_messages_in_the_backlog_at_shutdown_are_stored(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    gateway = Chat(database)
    serving = asyncio.ensure_future(gateway.arun())
    await gateway.started.wait()
    queue = gateway.get_or_create_application_instance("ada", scope_of("ada"))
    for _ in range(2000):
        queue.put_nowait({"type": "chat.said", "text": "hello"})
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert await connection.fetchval("SELECT count(*) FROM asgiref.messages") == 2000


async def test_a_worker_logs_that_it_is_connected_and_which_share_it_owns(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asgiref.postgres")
    worker = PostgresWorker(shout, database)

    async with running(worker):
        await owns(worker, 16)
        await until(lambda: is_logged(caplog, "Connected to the database"))
    acquired = "Acquired 16 partition(s); this process owns 16 now"
    assert set(caplog.messages) == {"Connected to the database", acquired}


async def test_an_outage_logs_one_line_when_it_starts_and_one_when_it_ends(
    database: str, connection: "asyncpg.Connection[Any]", caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asgiref.postgres")
    worker = PostgresWorker(shout, database)

    backends: set[int] = set()

    async def has_connected_often() -> bool:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%worker%'"
        )
        backends.update(row[0] for row in rows)
        return len(backends) > 3

    async def has_worked() -> bool:
        return worker.counts.transactions > 0

    async with running(worker):
        await until(has_worked)
        # Connections succeed but transactions fail, as with a full disk.
        await connection.execute("ALTER TABLE asgiref.messages RENAME TO away")
        await until(has_connected_often)
        await connection.execute("ALTER TABLE asgiref.away RENAME TO messages")
        await until(lambda: is_logged(caplog, "The database is back"))
        await owns(worker, 16)
    lines = [record.getMessage().split(":")[0] for record in caplog.records]
    assert lines.count("The database is unavailable") == 1
    assert lines.count("The database is back") == 1


@pytest.mark.parametrize("steps", range(5))
async def test_a_blocked_event_loop_is_named_as_the_reason_when_the_session_ends(
    database: str, caplog: pytest.LogCaptureFixture, steps: int
) -> None:
    psycopg = pytest.importorskip("psycopg")
    handled = asyncio.Event()

    def block_until_the_session_has_ended() -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'blocked'"
        with psycopg.connect(database, autocommit=True) as other:
            while other.execute(query).fetchone() != (0,):
                time.sleep(0.05)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        if message.get("redelivered"):
            handled.set()
        else:
            for _ in range(steps):  # the worker may be between two statements, or within one
                await asyncio.sleep(0)
            block_until_the_session_has_ended()
        await receive()

    worker = PostgresWorker(application, Database(database, timeout=1.0), name="blocked")
    async with running(worker):
        await send("ada", said("hello"), database=database)
        await handled.wait()
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "The event loop was blocked or the process suspended for" in warnings[0]
    assert len(warnings) == 1


async def is_logged(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.messages


async def test_a_worker_and_a_gateway_have_one_connection_each(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    gateway = Chat(database, name="the gateway")
    workers = [PostgresWorker(shout, database, name=f"worker {number}") for number in range(2)]

    async def body() -> None:
        for number in range(100):
            await gateway.say(f"user{number}", "hello")
        for _ in range(100):
            assert await gateway.next_text() == "HELLO"
        rows = await connection.fetch(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        assert sorted(row[0] for row in rows) == ["the gateway", "worker 0", "worker 1"]

    await with_workers(gateway, workers, body)


async def answer_of(port: int, address: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.split(b"\r\n")[0]


async def test_the_health_endpoints_tell_whether_the_database_answers(
    database: str, server: RealPostgres
) -> None:
    ports = [free_port() for _ in range(3)]
    gateway, standby = (Chat(database, health_port=port) for port in ports[:2])
    worker = PostgresWorker(shout, database, health_port=ports[2])

    async def are(status: bytes) -> bool:
        with contextlib.suppress(OSError):
            return all([(await answer_of(port)).startswith(status) for port in ports])
        return False

    async def body() -> None:
        waiting = asyncio.ensure_future(standby.arun())
        await until(lambda: are(b"HTTP/1.1 200 "))
        assert not standby.started.is_set()
        await asyncio.to_thread(server.kill)
        await until(lambda: are(b"HTTP/1.1 503 "))
        await asyncio.to_thread(server.start)
        await until(lambda: are(b"HTTP/1.1 200 "))
        waiting.cancel()
        await asyncio.wait({waiting})

    await with_workers(gateway, [worker], body)


async def test_a_health_port_that_is_taken_is_refused_with_a_one_line_error(database: str) -> None:
    from asgiref.postgres import CannotStart

    # One address, because with several each gets a free port of its own.
    async with await asyncio.start_server(lambda *_: None, "0.0.0.0", 0) as taken:
        port = taken.sockets[0].getsockname()[1]
        with pytest.raises(CannotStart, match=rf"The health endpoint \*:{port} cannot be used"):
            await PostgresWorker(shout, database, health_port=port).arun()
        where = f"The health endpoint 127.0.0.1:{port} cannot be used"
        with pytest.raises(CannotStart, match=where):
            await Chat(database, health_port=port, health_address="127.0.0.1").arun()


async def test_the_health_port_listens_on_the_health_address_alone(database: str) -> None:
    port = free_port()
    worker = PostgresWorker(shout, database, health_port=port, health_address="127.0.0.2")

    async def answers() -> bool:
        with contextlib.suppress(OSError):
            return (await answer_of(port, "127.0.0.2")).startswith(b"HTTP/1.1 200 ")
        return False

    async with running(worker):
        await until(answers)
        with pytest.raises(ConnectionRefusedError):
            await answer_of(port)


async def test_a_worker_logs_whose_partitions_it_has_taken_over(
    database: str, connection: "asyncpg.Connection[Any]", caplog: pytest.LogCaptureFixture
) -> None:
    await connection.execute("SET search_path = asgiref")
    await connection.execute(
        "INSERT INTO readers (reader, name) SELECT md5(n)::uuid, n"
        " FROM unnest(ARRAY['asgiref.postgres worker one:71', 'two']) AS n"
    )
    await connection.execute(
        "UPDATE partitions p SET reader = md5(n)::uuid FROM (VALUES"
        " (3, 'asgiref.postgres worker one:71'), (12, 'asgiref.postgres worker one:71'),"
        " (7, 'two'))"
        " AS s (partition, n) WHERE p.partition = s.partition"
    )
    # The second worker takes over nothing: the first one released its partitions.
    for worker in (PostgresWorker(shout, database), PostgresWorker(shout, database)):
        async with running(worker):
            await owns(worker, 16)

    taken = [each for each in caplog.messages if "Took over" in each]
    assert sorted(taken) == [
        "Took over partitions 3, 12 from worker one:71, which had not released them",
        "Took over partitions 7 from two, which had not released them",
    ]


async def test_a_waiting_gateway_takes_over_from_one_that_ends(database: str) -> None:
    first, second = Chat(database), Chat(database)

    async def body() -> None:
        waiting = asyncio.ensure_future(second.arun())
        await first.say("ada", "hello")
        assert await first.next_text() == "HELLO"
        assert not second.started.is_set()
        first.to_end.set()
        await second.started.wait()
        await second.say("ada", "again")
        assert await second.next_text() == "AGAIN"
        second.to_end.set()
        await waiting

    await with_workers(first, [PostgresWorker(shout, database)], body)


async def test_a_function_gives_a_new_password_for_each_connection(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    asked = 0

    async def password() -> str:
        nonlocal asked
        asked += 1
        return "secret"

    worker = PostgresWorker(shout, Database(database, password=password))

    async def has_two() -> bool:
        return asked == 2 and worker.is_connected

    async with running(worker):
        await owns(worker, 16)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE '%worker%'"
        )
        await until(has_two)


async def test_sigterm_ends_a_waiting_gateway_and_a_worker_with_code_0(database: str) -> None:
    holder = Chat(database)

    async def body() -> None:
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, *arguments, cwd=SUPPORT, stderr=asyncio.subprocess.PIPE
            )
            for arguments in (
                ("postgres_apps.py", database, "unused"),
                ("-m", "asgiref.postgres", "worker", "postgres_apps:echo", "--database", database),
            )
        ]
        connection = await asyncpg.connect(database)
        await until(lambda: has_sessions(connection, 3))
        await connection.close()
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [await process.wait() for process in processes] == [0, 0]
        for process in processes:
            await process.communicate()
        await send("ada", {"type": "x"}, database=database)

    await with_workers(holder, [], body)


async def has_sessions(connection: Any, count: int) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'asgiref.postgres %'"
    return bool(await connection.fetchval(query) == count)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(4))
async def test_a_cancellation_at_any_moment_ends_a_process_and_its_ownership(
    database: str, connection: "asyncpg.Connection[Any]", seed: int
) -> None:
    chance = random.Random(seed)
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"

    async def is_free() -> bool:
        return bool(await connection.fetchval(query) == 0)

    for number in range(15):
        await send(f"user{number}", {"type": "x", "text": "hello"}, scope_of("ada"),
                   connection=connection)  # fmt: skip
        process: Any = Chat(database) if chance.random() < 0.5 else PostgresWorker(shout, database)
        task = asyncio.ensure_future(process.arun())
        for _ in range(chance.randrange(1, 3)):
            await asyncio.sleep(chance.random() * 0.4)
            task.cancel()
        async with asyncio.timeout(20):
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await until(is_free)
    # Nothing was lost.
    gateway = Chat(database)

    async def body() -> None:
        async def is_empty() -> bool:
            count = "SELECT count(*) FROM asgiref.messages"
            return bool(await connection.fetchval(count) == 0)

        await until(is_empty)
        assert await connection.fetchval("SELECT count(*) FROM asgiref.dead_letters") == 0

    await with_workers(gateway, [PostgresWorker(shout, database)], body)


async def test_an_application_that_returns_after_its_last_message_is_not_called_again(
    database: str, connection: "asyncpg.Connection[Any]"
) -> None:
    scopes: list[str] = []
    ended = asyncio.Semaphore(0)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope["scope_id"])
        while (await receive())["type"] != "disconnect":
            pass
        ended.release()

    names = [f"scope{number}" for number in range(20)]
    async with running(PostgresWorker(application, database)):
        for group in (names[:19], names[19:]):
            async with connection.transaction():  # so that the worker reads all of it at once
                for name in group:
                    for kind in ("connect", "disconnect"):
                        await send(name, {"type": kind}, connection=connection)
            for _ in group:
                await ended.acquire()
    assert sorted(scopes) == sorted(names)
