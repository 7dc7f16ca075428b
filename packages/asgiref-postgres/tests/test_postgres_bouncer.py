"""Gateways, workers and senders behind PgBouncer."""

import pytest
from bouncer import bouncer
from chat import Chat, said, scope_of, shout, with_workers
from real_postgres import RealPostgres

from asgiref.postgres import PostgresWorker, send
from asgiref.postgres.__main__ import main


@pytest.mark.asyncio
async def test_a_gateway_and_a_worker_work_through_a_session_pool(
    database: str, server: RealPostgres
) -> None:
    with bouncer(server) as url:
        gateway = Chat(url + "session")

        async def body() -> None:
            for number in range(20):
                await gateway.say(f"user{number}", "hello")
            for _ in range(20):
                assert await gateway.next_text() == "HELLO"

        await with_workers(gateway, [PostgresWorker(shout, url + "session")], body)


@pytest.mark.asyncio
async def test_messages_are_sent_through_a_transaction_pool(
    database: str, server: RealPostgres
) -> None:
    gateway = Chat(database)
    with bouncer(server) as url:

        async def body() -> None:
            for number in range(10):
                text = f"m{number}"
                await send("ada", said(text), scope_of("ada"), database=url + "transaction")
                assert await gateway.next_text() == text.upper()

        await with_workers(gateway, [PostgresWorker(shout, database)], body)


def check(url: str) -> int:
    return main(["check", "--database", url])


def test_check_refuses_a_transaction_pool_and_accepts_a_session_pool(
    database: str, server: RealPostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    with bouncer(server) as url:
        assert check(url + "session") == 0
        assert check(url + "transaction") == 1

    assert "connect directly or use session pooling" in capsys.readouterr().err
