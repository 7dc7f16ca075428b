"""Send to a scope from async or sync code, optionally within the caller's transaction."""

import asyncio
import sys
from typing import Any

from asgiref.sync import async_to_sync

from ._codec import check_scope_id, encode, encoder
from ._database import Database


def _arguments(scope_id: str, message: Any, scope: Any) -> tuple[str, str, str | None]:
    """Return the arguments of the SQL function."""
    stored = None if scope is None else _text("scope", scope)
    return check_scope_id(scope_id), _text("message", message), stored


def _text(what: str, value: Any) -> str:
    # The SQL function checks the maximum size.
    return encode(encoder("json"), what, value, sys.maxsize).decode()


async def send(
    scope_id: str,
    message: dict[str, Any],
    scope: dict[str, Any] | None = None,
    *,
    database: Database | str | None = None,
    connection: Any = None,
    schema: str = "asgiref",
) -> int:
    """Send ``message`` to the application of a scope, and return its id once it is committed.

    Args:
        scope_id: the scope's id; the gateway need not have seen it yet.
        message: a dict that can be encoded as JSON.
        scope: the scope that the application is called with from now on. By default it is the
            scope that is already stored for this id, or else ``{"type": "asgiref.postgres",
            "scope_id": "ada"}`` for the scope id ``"ada"``. A gateway that has stored its own scope
            for this id still passes that one to ``application_send``.
        database: a `Database` or its URL. The call opens a connection for this message only.
        connection: an asyncpg connection or pool to use instead; inside a transaction, the message
            exists if and only if that transaction is committed.
        schema: the schema, if ``database`` is not a `Database`.

    Raises:
        TypeError: if the scope id is not a string, or the message cannot be encoded as JSON.
        TimeoutError: if ``database`` does not answer within its timeout.
        Exception: any asyncpg error. If the connection was lost, the message may have been sent.

    >>> async def pay(pool, order):
    ...     async with pool.acquire() as connection, connection.transaction():
    ...         await connection.execute("UPDATE orders SET paid = true WHERE id = $1", order)
    ...         await send("ada", {"type": "order.paid", "order": order}, connection=connection)
    """
    arguments = _arguments(scope_id, message, scope)
    found = database if isinstance(database, Database) else Database(database, schema)
    query = f'SELECT "{found.schema}".send($1, $2::text::jsonb, $3::text::jsonb)'
    if connection is not None:
        return int(await connection.fetchval(query, *arguments))
    own = await found.connect()
    now = asyncio.get_running_loop().time
    # Not asyncio.timeout: after a cancellation, the driver would wait for the server again.
    timer = asyncio.get_running_loop().call_later(found.timeout, own.terminate)
    try:
        async with own.transaction():  # a pool may change the session between two round trips
            return int(await own.fetchval(query, *arguments))
    except Exception as error:
        if now() < timer.when():
            raise
        text = f"The database did not answer within {found.timeout:g} seconds"
        raise TimeoutError(f"{text}; the message may have been sent.") from error
    finally:
        await own.close()
        timer.cancel()


def send_sync(
    scope_id: str,
    message: dict[str, Any],
    scope: dict[str, Any] | None = None,
    *,
    database: Database | str | None = None,
    connection: Any = None,
    schema: str = "asgiref",
) -> int:
    """Send ``message`` from sync code; otherwise like `send`.

    Args:
        scope_id: as for `send`.
        message: as for `send`.
        scope: as for `send`; without one, and without a stored one, the application's scope is
            ``{"type": "asgiref.postgres", "scope_id": "ada"}`` for the scope id ``"ada"``.
        database: as for `send`.
        connection: a DB-API connection, such as ``django.db.connection`` or a psycopg connection;
            the message becomes part of its transaction. Inside ``transaction.atomic()``, the
            message exists if and only if the block's rows do.
        schema: as for `send`.

    Raises:
        Exception: any error from the connection's driver, and the errors that `send` raises.

    >>> def place_order(request):  # a Django view
    ...     with transaction.atomic():
    ...         order = Order.objects.create(user=request.user)
    ...         message = {"type": "order.placed", "order": order.pk}
    ...         send_sync(str(request.user.pk), message, connection=connection)
    ...     return HttpResponse("Thank you.")
    """
    if connection is None:
        return async_to_sync(send)(scope_id, message, scope, database=database, schema=schema)
    found = database if isinstance(database, Database) else Database(None, schema)
    query = f'SELECT "{found.schema}".send(%s, %s::text::jsonb, %s::text::jsonb)'
    cursor = connection.cursor()
    try:
        cursor.execute(query, _arguments(scope_id, message, scope))
        return int(cursor.fetchone()[0])
    finally:
        cursor.close()
