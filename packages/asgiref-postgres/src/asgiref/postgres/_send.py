"""Sending to a scope from anywhere: a coroutine, a function, and the caller's own transaction."""

import json
from typing import Any

from asgiref.sync import async_to_sync

from ._codec import check_scope_id
from ._database import Database


def _text(what: str, value: Any) -> str:
    if not isinstance(value, dict):
        raise TypeError(f"A {what} must be a dict, not {type(value).__name__!r}.")
    return json.dumps(value, allow_nan=False)


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
        scope_id: the scope; any string, also one that the gateway has not seen yet.
        message: a dict that JSON can carry.
        scope: replaces what the scope's application is called with from now on.
        database: where to connect to, for this message alone: a `Database`, or its URL.
        connection: an asyncpg connection or pool to use instead; in a transaction, the message
            exists if and only if that is committed.
        schema: the schema, if ``database`` is not a `Database`.

    Raises:
        TypeError: if the scope id is not a string, or JSON cannot carry the message.
        Exception: what asyncpg raises. After a lost connection the message may have been sent.
    """
    arguments = (check_scope_id(scope_id), _text("message", message))
    stored = None if scope is None else _text("scope", scope)
    found = database if isinstance(database, Database) else Database(database, schema)
    query = f'SELECT "{found.schema}".send($1, $2::text::jsonb, $3::text::jsonb)'
    if connection is not None:
        return int(await connection.fetchval(query, *arguments, stored))
    own = await found.connect()
    try:
        async with own.transaction():
            return int(await own.fetchval(query, *arguments, stored))
    finally:
        await own.close()


def send_sync(
    scope_id: str,
    message: dict[str, Any],
    scope: dict[str, Any] | None = None,
    *,
    database: Database | str | None = None,
    connection: Any = None,
    schema: str = "asgiref",
) -> int:
    """Do the same as `send` in plain code.

    Args:
        scope_id: as for `send`.
        message: as for `send`.
        scope: as for `send`.
        database: as for `send`.
        connection: a DB-API connection, such as ``django.db.connection`` or one of psycopg: the
            message becomes part of its transaction. Inside ``transaction.atomic()`` it exists if
            and only if the block's rows do.
        schema: as for `send`.

    Raises:
        Exception: what the driver of the connection raises; others as `send`.
    """
    if connection is None:
        return async_to_sync(send)(scope_id, message, scope, database=database, schema=schema)
    found = database if isinstance(database, Database) else Database(None, schema)
    arguments = (check_scope_id(scope_id), _text("message", message))
    stored = None if scope is None else _text("scope", scope)
    cursor = connection.cursor()
    try:
        cursor.execute(
            f'SELECT "{found.schema}".send(%s, %s::text::jsonb, %s::text::jsonb)',
            (*arguments, stored),
        )
        return int(cursor.fetchone()[0])
    finally:
        cursor.close()
