"""One connection to PostgreSQL: the session that owns partitions.

A session never reconnects. When it ends for any reason, its methods raise `SessionLost`: PostgreSQL
has released the partitions, and another process may already own them.
"""

import asyncio
import os
import random
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from . import _schema
from ._codec import MAX_SIZE, CannotStart, SessionLost
from ._delivery import Message, Read, Row, Writes
from ._outbox import Batch

# The driver has no type annotations; this import makes it Any instead of a type error.
asyncpg: Any = import_module("asyncpg")

Password = str | Callable[[], str] | Callable[[], Awaitable[str]]

#: Errors that mean that the server cannot be reached or cannot work at the moment.
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleSessionTimeoutError,
)


@dataclass(frozen=True, slots=True)
class Database:
    """Where the database is, and how to connect to it.

    Attributes:
        url: a URL or DSN for asyncpg; None to use libpq's variables (PGHOST and others). Several
            hosts, ``target_session_attrs`` and ``passfile`` work.
        schema: the schema that holds the tables.
        password: overrides the URL's password; a function is called for each connection.
        timeout: seconds without an answer after which the session counts as lost. A frozen process,
            or one whose host vanishes, loses its partitions within the same time.
    """

    url: str | None
    schema: str = "asgiref"
    password: Password | None = None
    timeout: float = 10.0

    def __post_init__(self) -> None:
        _schema.checked_schema(self.schema)
        if not self.timeout >= 1.0:
            raise CannotStart(f"The timeout must be at least 1 second, not {self.timeout!r}.")

    async def connect(self, name: str = "asgiref.postgres", *, owner: bool = False) -> Any:
        """Open an asyncpg connection.

        Args:
            name: the name that PostgreSQL shows.
            owner: whether the session may own partitions. If so, it connects to a server that
                accepts writes, and PostgreSQL ends it when it is silent for too long.

        Raises:
            CannotStart: if the server is too old.
            Exception: any error of asyncpg, and OSError.
        """
        arguments: dict[str, Any] = {} if self.password is None else {"password": self.password}
        if owner and "target_session_attrs" not in (self.url or ""):
            arguments["target_session_attrs"] = os.environ.get("PGTARGETSESSIONATTRS", "read-write")
        connection = await asyncpg.connect(
            self.url,
            timeout=self.timeout,
            # A pool may change the session after a transaction, so keep no prepared statement.
            statement_cache_size=100 if owner else 0,
            server_settings={"application_name": name[:63]},
            **arguments,
        )
        try:
            if (major := connection.get_server_version().major) < _schema.MINIMUM_SERVER:
                raise CannotStart(
                    f"The server is PostgreSQL {major}; asgiref.postgres needs "
                    f"{_schema.MINIMUM_SERVER} or newer."
                )
            if owner:
                await self._set_up_owner(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _set_up_owner(self, connection: Any) -> None:
        """Change settings after connecting, because PgBouncer does not accept them earlier."""
        # Slightly less than the timeout, which includes the others' next check.
        milliseconds, seconds = str(int(self.timeout * 900)), str(max(1, int(self.timeout / 3)))
        settings = {
            "default_transaction_isolation": "read committed",
            "statement_timeout": milliseconds,
            "lock_timeout": "0",
            "idle_session_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            "tcp_user_timeout": milliseconds,
            "tcp_keepalives_idle": seconds,
            "tcp_keepalives_interval": seconds,
            "tcp_keepalives_count": "2",
            # Plans must not change with the statistics of a table that is nearly empty.
            "plan_cache_mode": "force_generic_plan",
            "enable_seqscan": "off",
            "enable_bitmapscan": "off",
            "jit": "off",
        }
        await connection.execute(
            "SELECT set_config(n, v, false) FROM unnest($1::text[], $2::text[]) AS s (n, v)",
            list(settings),
            list(settings.values()),
            timeout=self.timeout,
        )


@dataclass(frozen=True, slots=True)
class Locks:
    """The advisory locks of the schema.

    Attributes:
        members: the number of workers, at least 1.
        rank: this worker's rank among them, from 0.
        owned: the partitions that have an owner.
    """

    members: int
    rank: int
    owned: frozenset[int]


def is_lost(error: BaseException) -> bool:
    """Whether ``error`` means that the connection is lost or unavailable for now."""
    return isinstance(error, _LOST) and not isinstance(
        error, asyncpg.ClientConfigurationError | asyncpg.ProtocolViolationError
    )


def explained(error: BaseException, database: Database) -> CannotStart:
    """Return the `CannotStart` that explains an error of a connection."""
    if isinstance(error, CannotStart):
        return error
    schema = database.schema
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        text = (
            f"The role lacks a right: {error}. Grant it with "
            f"`python -m asgiref.postgres migrate --schema {schema} --grant ROLE`"
        )
    elif isinstance(error, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError):
        text = (
            f"The database has no schema {schema!r} of asgiref.postgres. Run "
            f"`python -m asgiref.postgres migrate --schema {schema}`"
        )
    else:
        text = f"The database cannot be used: {str(error).rstrip('.') or type(error).__name__}"
    return CannotStart(text + ".")


@asynccontextmanager
async def connected(database: Database, *, check: bool = True) -> AsyncGenerator[Any]:
    """Yield a connection for an operator's command, and check the schema's version.

    Raises:
        CannotStart: if the connection, the check or a statement in the block fails.
    """
    connection = None
    try:
        connection = await database.connect("asgiref.postgres admin")
        if check:
            await settings_of(connection, database.schema)
        yield connection
    except Exception as error:
        raise explained(error, database) from error
    finally:
        if connection is not None:
            await connection.close(timeout=database.timeout)


async def settings_of(connection: Any, schema: str) -> tuple[int, int]:
    """Return the number of partitions and the maximum size of a message.

    Raises:
        CannotStart: if the schema is missing or has another version.
    """
    found = await connection.fetchrow(f'SELECT * FROM "{schema}".settings')
    if found is None or found["version"] != _schema.VERSION:
        raise CannotStart(
            f"The schema {schema!r} has version {found and found['version']}, but this release of "
            f"asgiref-postgres needs {_schema.VERSION}. Run `python -m asgiref.postgres migrate`"
            f" of the newer release, then restart every process."
        )
    return found["partitions"], found["max_size"]


async def migrate(
    database: Database,
    *,
    partitions: int = 64,
    max_size: int = MAX_SIZE,
    grant: str | None = None,
    grant_send: str | None = None,
) -> int:
    """Create the schema or upgrade it; return the version that it had before.

    The migration is one transaction: if it fails, it changes nothing.

    Args:
        database: the database, with a role that owns the schema or may create it.
        partitions: at least the number of workers you will ever run; only for a new schema.
        max_size: the maximum size of a message in bytes; only for a new schema.
        grant: a role to give the rights of a worker or gateway.
        grant_send: a role to give the right to send.

    Raises:
        CannotStart: if the schema cannot be created or upgraded.
    """
    if not 1 <= partitions <= 4096:
        raise CannotStart(f"There must be between 1 and 4096 partitions, not {partitions}.")
    schema = database.schema
    async with connected(database, check=False) as connection, connection.transaction():
        # A concurrent migration waits for this one, then finds nothing to do.
        await connection.execute(f"SELECT pg_advisory_xact_lock(hashtext('{schema} migrate'))")
        if await connection.fetchval("SELECT to_regnamespace($1) IS NULL", f'"{schema}"'):
            await connection.execute(f'CREATE SCHEMA "{schema}"')
        installed: int = 0
        if await connection.fetchval("SELECT to_regclass($1)", f'"{schema}".settings') is not None:
            installed = await connection.fetchval(f'SELECT version FROM "{schema}".settings')
        if installed > _schema.VERSION:
            raise CannotStart(
                f"The schema {schema!r} has version {installed}, which is newer than this "
                f"release of asgiref-postgres knows ({_schema.VERSION}). Install a newer one."
            )
        for script in _schema.statements(schema, installed):
            await connection.execute(script)
        if installed == 0:
            await connection.execute(_schema.fill(schema, partitions, max_size))
        await connection.execute(f'UPDATE "{schema}".settings SET version = {_schema.VERSION}')
        if grant is not None:
            await connection.execute(_schema.grants(schema, grant, sender=False))
        if grant_send is not None:
            await connection.execute(_schema.grants(schema, grant_send, sender=True))
    return installed


class Session:
    """A connection that can own partitions. Every method raises `SessionLost` once it is lost.

    Attributes:
        reader: identifies the process across all its sessions.
        taken: the highest id of a message that the process has read.
        partitions, max_size: the settings of the schema.
        is_member: whether the session belongs to the group of workers.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        reader: uuid.UUID,
        taken: int,
        on_wake: Callable[[int], object],
    ) -> None:
        self._database = database
        self._name = name
        self._on_wake = on_wake
        self._connection: Any = None
        self._exchange: Any = None
        self.reader: uuid.UUID = reader
        self.is_member: bool = False
        self.taken: int = taken
        self.partitions: int = 0
        self.max_size: int = 0

    async def open(self) -> None:
        """Connect, check the schema, and listen.

        Raises:
            CannotStart: if retrying cannot help.
            SessionLost: if the server cannot be reached now.
        """
        database, schema = self._database, self._database.schema
        try:
            async with asyncio.timeout(database.timeout * 2):
                self._connection = await database.connect(self._name, owner=True)
                self.partitions, self.max_size = await settings_of(self._connection, schema)
                places = ", ".join(f"${number}" for number in range(1, 35))
                self._exchange = await self._connection.prepare(
                    f'SELECT * FROM "{schema}".exchange({places})'
                )
                await self._connection.add_listener(schema, self._notified)
        except BaseException as error:
            self.abort()
            if isinstance(error, CannotStart) or not isinstance(error, Exception):
                raise
            if is_lost(error):
                raise SessionLost(str(error) or type(error).__name__) from error
            raise explained(error, database) from error

    def _notified(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if isinstance(payload, str) and payload.isdecimal():
            self._on_wake(int(payload))

    def abort(self) -> None:
        """Drop the connection without telling the server."""
        if self._connection is not None and not self._connection.is_closed():
            self._connection.terminate()

    async def close(self) -> None:
        """Close the connection."""
        try:
            async with asyncio.timeout(self._database.timeout):
                await self._connection.close(timeout=self._database.timeout)
        except Exception:
            self.abort()

    async def _call(self, method: Any, *arguments: Any) -> Any:
        try:
            async with asyncio.timeout(self._database.timeout):
                return await method(*arguments)
        except BaseException as error:
            # The transaction may or may not be committed, so the session must end.
            self.abort()
            if not isinstance(error, Exception):
                raise
            if isinstance(error, asyncpg.InsufficientPrivilegeError):
                raise explained(error, self._database) from error
            # Other server errors (a full disk, a dropped schema) may be temporary.
            if is_lost(error) or isinstance(error, asyncpg.PostgresError):
                raise SessionLost(str(error) or type(error).__name__) from error
            raise

    async def exchange(
        self,
        writes: Writes,
        batch: Batch,
        read: Read | None,
        *,
        to_gateway: bool,
        asleep: bool | None,
    ) -> tuple[list[Row], int, int]:
        """Write and read in one transaction; return the rows, xmin and own id for `Delivery`."""
        dead = [message for message, _ in writes.dead]
        late = read.catch_up if read is not None else ()
        rows = await self._call(
            self._exchange.fetch,
            self.reader,
            self.taken,
            asleep,
            *_keys(writes.done),
            *_keys(writes.tried),
            [message.attempts for message in writes.tried],
            *_keys(dead),
            [message.attempts for message in dead],
            [reason for _, reason in writes.dead],
            batch.producer,
            batch.number,
            list(batch.scopes),
            list(batch.scopes.values()),
            to_gateway,
            [item.scope_id for item in batch.items],
            [item.data for item in batch.items],
            [item.redelivered for item in batch.items],
            *((read.partitions, read.marks, read.cursors, read.limits) if read else ([],) * 4),
            read.size if read else 0,
            read.known if read else [],
            read.behind if read else [],
            [each.partition for each in late],
            [each.scope_id for each in late],
            [each.first for each in late],
            [each.last for each in late],
            [each.limit for each in late],
            [each.size for each in late],
            [id for each in late for id in each.known],
        )
        own, xmin = rows.pop()[1], rows.pop()[1]
        found = [Row(*row) for row in rows]
        self.taken = max([self.taken, *(row.id for row in found if row.data is not None)])
        return found, xmin, own

    async def acquire(self, partitions: Sequence[int]) -> list[tuple[int, int, int]]:
        """Try to acquire ``partitions``; return the arguments of `Delivery.acquire` for each."""
        rows = await self._call(
            self._connection.fetch,
            f'SELECT * FROM "{self._database.schema}".acquire($1, $2, $3, $4)',
            self.reader,
            self._name,
            self.taken,
            list(partitions),
        )
        return [(row[0], row[1], row[2]) for row in rows]

    async def release(self, partitions: dict[int, int]) -> None:
        """Release partitions, each with the id that `Delivery.drop` returned."""
        schema = self._database.schema
        await self._call(
            self._connection.execute,
            f'SELECT "{schema}".release($1, $2)',
            list(partitions),
            list(partitions.values()),
        )
        # Unlocking takes effect before a commit, so the release must be committed first.
        await self._call(
            self._connection.execute,
            "SELECT pg_advisory_unlock($1::regnamespace::oid::integer, p) FROM unnest($2::int[]) p",
            f'"{schema}"',
            list(partitions),
        )

    async def join(self) -> None:
        """Join the group of workers until `leave` or the end of the session."""
        await self._member_lock("pg_advisory_lock_shared")
        self.is_member = True

    async def leave(self) -> None:
        """Leave the group, so that the other workers share all partitions."""
        self.is_member = False
        await self._member_lock("pg_advisory_unlock_shared")

    async def _member_lock(self, function: str) -> None:
        await self._call(
            self._connection.execute,
            f"SELECT {function}($1::regnamespace::oid::integer, $2)",
            f'"{self._database.schema}"',
            _schema.MEMBERS,
        )

    async def end_stuck_sessions(self) -> None:
        """End sessions that own partitions but have been in one statement for too long.

        Their processes have abandoned them. ``idle_session_timeout`` does not end a session that
        waits for the rest of a request, or whose client does not read the reply.
        """
        await self._call(
            self._connection.execute,
            _END_STUCK,
            f'"{self._database.schema}"',
            self._database.timeout * 0.7,
        )

    async def locks(self) -> Locks:
        """Return the members of the group and the partitions that have an owner."""
        query = f"SELECT key, pid, pg_backend_pid() AS own FROM ({LOCKS}) AS held"
        rows = await self._call(self._connection.fetch, query, f'"{self._database.schema}"')
        members = [row["pid"] for row in rows if row["key"] == _schema.MEMBERS]
        rank = sum(pid < rows[0]["own"] for pid in members)
        owned = frozenset(row["key"] for row in rows if row["key"] != _schema.MEMBERS)
        return Locks(max(1, len(members)), rank, owned)

    async def reader_of(self, partition: int) -> uuid.UUID | None:
        """Return the reader that owned ``partition`` last."""
        found = await self._call(
            self._connection.fetchval,
            f'SELECT reader FROM "{self._database.schema}".partitions WHERE partition = $1',
            partition,
        )
        return None if found is None else uuid.UUID(str(found))

    async def scopes(self, scope_ids: Sequence[str]) -> dict[str, bytes]:
        """Return the stored scopes; scopes that were never stored are missing."""
        rows = await self._call(
            self._connection.fetch,
            f'SELECT scope_id, scope FROM "{self._database.schema}".scopes'
            " WHERE scope_id = ANY ($1)",
            list(scope_ids),
        )
        return {row[0]: row[1] for row in rows}


#: The advisory locks of a schema. Two keys of 32 bits are locks with objsubid 2.
LOCKS = """
SELECT objid::bigint AS key, pid FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND granted
    AND classid = $1::regnamespace::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

#: Only sessions of the same role: a role cannot see the statements of others, or end them.
_END_STUCK = f"""
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
WHERE a.pid IN (SELECT pid FROM ({LOCKS}) AS held) AND a.pid <> pg_backend_pid()
    AND a.usename = current_user AND a.state = 'active'
    AND a.query_start < clock_timestamp() - $2 * interval '1 second'
"""


def _keys(messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    return [each.partition for each in messages], [each.id for each in messages]


class Backoff:
    """Growing, random delays between attempts to connect."""

    def __init__(self, maximum: float = 2.0) -> None:
        self._maximum = maximum
        self._delay = 0.05

    def reset(self) -> None:
        self._delay = 0.05

    async def wait(self) -> None:
        await asyncio.sleep(self._delay * random.uniform(0.5, 1.0))
        self._delay = min(self._delay * 2, self._maximum)
