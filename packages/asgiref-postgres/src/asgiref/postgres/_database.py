"""One connection to PostgreSQL: the session that owns partitions.

A session never reconnects. When it ends for any reason, its methods raise `SessionLost`: PostgreSQL
has released the partitions, and another process may already own them.
"""

import asyncio
import os
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any

from . import _schema
from ._codec import MAX_SIZE, CannotStart, LoopBlocked, PostgresServerError, SessionLost
from ._delivery import Read, Row, Writes
from ._outbox import Batch

# The driver has no type annotations; this import makes it Any instead of a type error.
asyncpg: Any = import_module("asyncpg")

Password = str | Callable[[], str] | Callable[[], Awaitable[str]]

#: Errors that mean that the server cannot be reached or cannot work at the moment.
_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)


#: The number of partitions in a new schema.
_PARTITIONS = 64
#: The largest permitted ``max_size``. PostgreSQL's own limit is 1 GB for a whole row.
_LARGEST = 1 << 29


@dataclass(frozen=True, slots=True)
class Database:
    """Where the database is, and how to connect to it.

    Attributes:
        url: a URL or DSN for asyncpg; None to use libpq's variables (PGHOST and others). Several
            hosts, ``target_session_attrs`` and ``passfile`` are supported.
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
        if not 1.0 <= self.timeout <= 86400.0:
            raise CannotStart(
                f"The timeout must be between 1 and 86400 seconds, not {self.timeout!r}."
            )

    async def connect(self, name: str = "asgiref.postgres", *, owner: bool = False) -> Any:
        """Open an asyncpg connection.

        Args:
            name: the name that PostgreSQL shows.
            owner: whether the session may own partitions. If so, it connects to a server that
                accepts writes, and PostgreSQL ends it when it is silent for too long.

        Raises:
            CannotStart: if the server is too old.
            Exception: any asyncpg error, and OSError.
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
            await self._set_up(connection, owner)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _set_up(self, connection: Any, owner: bool) -> None:
        if (major := connection.get_server_version().major) < _schema.MINIMUM_SERVER:
            raise CannotStart(
                f"The server is PostgreSQL {major}; asgiref.postgres needs "
                f"{_schema.MINIMUM_SERVER} or newer."
            )
        if owner:
            # After connecting, because PgBouncer does not accept settings earlier.
            query = "SELECT set_config(n, v, false) FROM unnest($1::text[], $2::text[]) AS s (n, v)"
            settings = zip(*self._settings(), strict=True)
            await connection.execute(query, *settings, timeout=self.timeout)

    def _settings(self) -> list[tuple[str, str]]:
        """Return the settings of a session that may own partitions."""
        values = {
            "search_path": f'"{self.schema}", pg_temp',
            "default_transaction_isolation": "read committed",
            "lock_timeout": "0",
            "tcp_keepalives_count": "2",
            "plan_cache_mode": "force_generic_plan",
        }
        # Slightly less than the timeout, which also covers the next check of the other workers.
        for name in ("statement", "idle_session", "idle_in_transaction_session", "tcp_user"):
            values[f"{name}_timeout"] = str(int(self.timeout * 900))
        for name in ("idle", "interval"):
            values[f"tcp_keepalives_{name}"] = str(max(1, int(self.timeout / 3)))
        # Plans must not change with the statistics of a table that is nearly empty.
        for name in ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"):
            values[name] = "off"
        return [*values.items(), ("jit", "off")]


def is_lost(error: BaseException) -> bool:
    """Whether ``error`` means that the connection is lost or unavailable for now."""
    return isinstance(error, _LOST) and not isinstance(
        error, asyncpg.ClientConfigurationError | asyncpg.ProtocolViolationError
    )


def _reason(error: Exception, database: Database) -> str:
    """Return the text of an error, and the server that it came from."""
    # Not urlsplit: it raises ValueError for the URL that this error may be about.
    named = re.sub(r".*(://|@)|[/?].*", "", database.url or "")
    text = str(error).rstrip(".") or type(error).__name__
    return f"{text} (server {named or os.environ.get('PGHOST', 'localhost')})"


def explained(error: Exception, database: Database) -> PostgresServerError:
    """Return the error that tells a user what ``error`` means and what to do."""
    schema = database.schema
    if isinstance(error, PostgresServerError):
        return error
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        text = (
            f"The role lacks a privilege: {error}. As the owner of the schema, run "
            f"`python -m asgiref.postgres migrate --schema {schema} --grant ROLE`"
        )
    elif isinstance(error, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError):
        text = (
            f"The database has no schema {schema!r} for asgiref.postgres. Run "
            f"`python -m asgiref.postgres migrate --schema {schema}`"
        )
    elif isinstance(error, asyncpg.UndefinedObjectError):
        text = f"Create the missing object first: {error}"
    else:
        text = f"The database cannot be used: {_reason(error, database)}"
    return CannotStart(text + ".")


@asynccontextmanager
async def connected(database: Database, *, check: bool = True) -> AsyncGenerator[Any]:
    """Yield a connection in a transaction, for an operator's command; check the schema's version.

    Raises:
        CannotStart: if the connection, the check or a statement in the block fails.
    """
    connection = None
    try:
        connection = await database.connect("asgiref.postgres admin")
        async with connection.transaction():
            path = f'"{database.schema}", pg_temp'
            await connection.execute("SELECT set_config('search_path', $1, true)", path)
            if check:
                await settings_of(connection, database.schema)
            yield connection
    except Exception as error:
        raise explained(error, database) from error
    finally:
        if connection is not None:
            await connection.close(timeout=database.timeout)


async def settings_of(connection: Any, schema: str) -> tuple[int, int, int]:
    """Return the number of partitions, the maximum message size and the schema's lock key.

    Raises:
        CannotStart: if the schema is missing or has another version.
    """
    rows: list[Any] = await connection.fetch(
        "SELECT version, partitions, max_size, current_schema()::regnamespace::oid::integer"
        f' FROM "{schema}".settings'
    )
    version, partitions, max_size, key = rows[0] if rows else (None, 0, 0, 0)
    if version != _schema.VERSION:
        raise CannotStart(
            f"The schema {schema!r} has version {version}, but this release of "
            f"asgiref-postgres needs {_schema.VERSION}. Run `python -m asgiref.postgres migrate`"
            f" of the newer release, then restart every process."
        )
    return partitions, max_size, key


async def migrate(
    database: Database,
    *,
    partitions: int | None = None,
    max_size: int | None = None,
    grant: str | None = None,
    grant_send: str | None = None,
) -> int:
    """Create the schema or upgrade it; return the version that it had before.

    The migration is one transaction: if it fails, it changes nothing.

    Args:
        database: the database, with a role that owns the schema or may create it.
        partitions: at least the number of workers you will ever run, 64 in a new schema; an
            existing schema keeps its number.
        max_size: the maximum size of a message in bytes, 1 MiB in a new schema; an existing schema
            keeps its maximum.
        grant: a role to give the rights of a worker or gateway.
        grant_send: a role to give the right to send.

    Raises:
        CannotStart: if the schema cannot be created or upgraded, or has another number of
            partitions or maximum size.
    """
    if partitions is not None and not 1 <= partitions <= 4096:
        raise CannotStart(f"There must be between 1 and 4096 partitions, not {partitions}.")
    if max_size is not None and not 1 <= max_size <= _LARGEST:
        raise CannotStart(f"The max_size must be between 1 and {_LARGEST} bytes, not {max_size}.")
    schema = database.schema
    async with connected(database, check=False) as connection:
        # A concurrent migration waits for this one, then finds nothing to do.
        await connection.execute(f"SELECT pg_advisory_xact_lock(hashtext('{schema} migrate'))")
        if not await _may_migrate(connection, schema):
            await connection.execute(f'CREATE SCHEMA "{schema}"')
        exists = await connection.fetchval("SELECT to_regclass('settings') IS NOT NULL")
        installed = 0
        if exists:
            query = "SELECT version, partitions, max_size FROM settings"
            installed, *fixed = await connection.fetchrow(query)
            _check_fixed(schema, fixed, partitions, max_size)
        new = (partitions or _PARTITIONS, max_size or MAX_SIZE)
        for script in _schema.scripts(schema, installed, *new):
            await connection.execute(script)
        for role, sender in ((grant, False), (grant_send, True)):
            if role is not None:
                await connection.execute(_schema.grants(schema, role, sender=sender))
    return int(installed)


async def _may_migrate(connection: Any, schema: str) -> bool:
    """Return whether the schema exists.

    Raises:
        CannotStart: if the role cannot migrate it, or cannot create it.
    """
    role, name, may_create, owner, is_owner = await connection.fetchrow(
        "SELECT current_user, current_database(),"
        " has_database_privilege(current_database(), 'CREATE'),"
        " pg_get_userbyid(n.nspowner), pg_has_role(n.nspowner, 'USAGE')"
        " FROM (VALUES ($1)) AS s (name) LEFT JOIN pg_namespace n ON n.nspname = s.name",
        schema,
    )
    if owner is not None and not is_owner:
        raise CannotStart(
            f"Only the owner, the role {owner!r}, can migrate the schema {schema!r}; the role "
            f"{role!r} cannot. Run `migrate` with the owner's URL."
        )
    if owner is None and not may_create:
        raise CannotStart(
            f"The role {role!r} cannot create the schema {schema!r}. Migrate as a role "
            f"with that right, or, as a superuser, run `GRANT CREATE ON DATABASE {name} TO {role}`."
        )
    return owner is not None


def _check_fixed(
    schema: str, fixed: list[int], partitions: int | None, max_size: int | None
) -> None:
    """Refuse to change settings that the stored messages depend on."""
    for text, found, wanted in (
        (f"{fixed[0]} partitions", fixed[0], partitions),
        (f"a maximum size of {fixed[1]}", fixed[1], max_size),
    ):
        if wanted not in (None, found):
            raise CannotStart(
                f"The schema {schema!r} has {text}, and this cannot be changed to {wanted}. "
                "Leave the option out, or create a new schema with --schema."
            )


class Session:
    """A connection that can own partitions. Every method raises `SessionLost` once it is lost.

    Args:
        database: the database to connect to.
        name: the name that PostgreSQL and the status show.
        reader: identifies the process across all its sessions.
        on_wake: called with a partition's number when a sender notifies its owner.

    Attributes:
        partitions, max_size: the schema's settings.
        is_member: whether the session belongs to the group of workers.
    """

    def __init__(
        self, database: Database, name: str, reader: uuid.UUID, on_wake: Callable[[str], object]
    ) -> None:
        self._database, self._name, self._on_wake = database, name, on_wake
        self._connection: Any = None
        self._asked_at = 0.0
        self.reader: uuid.UUID = reader
        self.is_member: bool = False
        self.partitions: int = 0
        self.max_size: int = 0
        self._key = 0

    async def open(self) -> None:
        """Connect, check the schema, and listen.

        Raises:
            CannotStart: if retrying cannot help.
            SessionLost: if the server cannot be reached now.
        """
        database = self._database
        try:
            async with asyncio.timeout(database.timeout * 2):
                self._connection = await database.connect(self._name, owner=True)
                found = await settings_of(self._connection, database.schema)
                self.partitions, self.max_size, self._key = found
                await self._connection.add_listener(database.schema, self._notified)
                self._asked_at = asyncio.get_running_loop().time()
        except BaseException as error:
            self.abort()
            if not isinstance(error, Exception):
                raise
            if is_lost(error):
                raise SessionLost(_reason(error, database)) from error
            raise explained(error, database) from error

    def _notified(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        self._on_wake(payload)

    def abort(self) -> None:
        """Drop the connection without telling the server."""
        if self._connection is not None and not self._connection.is_closed():
            self._connection.terminate()

    async def close(self) -> None:
        """Close the connection; `abort` it if that fails."""
        with suppress(Exception):
            await self._connection.close(timeout=self._database.timeout)
        self.abort()

    async def fetch(self, query: str, *arguments: Any) -> Any:
        """Return the rows of a statement, which need not name the schema."""
        now = asyncio.get_running_loop().time
        before, self._asked_at = self._asked_at, now()
        deadline = self._asked_at + self._database.timeout
        try:
            async with asyncio.timeout_at(deadline):
                return await self._connection.fetch(query, *arguments)
        except BaseException as error:
            # The transaction may or may not be committed, so the session must end.
            self.abort()
            if not isinstance(error, Exception):
                raise
            if isinstance(error, asyncpg.InsufficientPrivilegeError):
                raise explained(error, self._database) from error
            # Other server errors (a full disk, a dropped schema) may be temporary.
            if is_lost(error) or isinstance(error, asyncpg.PostgresError):
                # After the loop was blocked, the error depends on how far the driver has read.
                silent = self._asked_at - before
                if silent > self._database.timeout * 0.9 or now() > deadline + 1.0:
                    raise LoopBlocked(f"{max(silent, now() - self._asked_at):.1f}") from error
                raise SessionLost(str(error) or type(error).__name__) from error
            raise

    async def exchange(
        self, writes: Writes, batch: Batch, read: Read, *, asleep: bool | None
    ) -> tuple[list[Row], int, int]:
        """Write and read in one transaction; return the rows, xmin and own id for `Delivery`."""
        arguments = [
            *(self.reader, asleep, batch.number, self._partitions_of(batch)),
            *_columns(batch.items, "scope_id", "data", "redelivered"),
            *_columns(writes.done, "id"),
            *_columns(read.ranges, "scope_id", "after", "upto", "limit", "size"),
            *(read.known, read.behind),
        ]
        more = [
            *(list(batch.scopes), list(batch.scopes.values())),
            *_columns(writes.tried.values(), "id", "attempts"),
            *_columns(writes.dead, "id", "attempts", "reason"),
        ]
        if any(more):
            rows = await self.fetch(_schema.EXCHANGE_MORE, *arguments, *more)
        else:
            rows = await self.fetch(_schema.EXCHANGE, *arguments)
        rows.pop()
        xmin, own = rows[0][5:] if rows else (0, 0)
        return [row[:5] for row in rows], xmin, own

    def _partitions_of(self, batch: Batch) -> list[int]:
        """Return the partition of each message; a batch without a number is for the gateway."""
        if batch.number is None:
            return [_schema.OUTGOING] * len(batch.items)
        return [_schema.partition_of(each.scope_id, self.partitions) for each in batch.items]

    async def acquire(self, partitions: Sequence[int]) -> list[Any]:
        """Try to acquire ``partitions``.

        Return, for each acquired partition, the arguments of `Delivery.acquire` and the name of
        its former owner, or None if no other process owned it or the owner released it.
        """
        query = "SELECT p FROM unnest($2::integer[]) AS p WHERE pg_try_advisory_lock($1, p)"
        locked = [row[0] for row in await self.fetch(query, self._key, partitions)]
        if not locked:
            return []
        return list(await self.fetch(_schema.ACQUIRE, self.reader, self._name, locked))

    async def release(self, partitions: dict[int, int]) -> None:
        """Release partitions, each with the number that `Delivery.drop` returned."""
        await self.fetch(_schema.RELEASE, list(partitions), list(partitions.values()))
        # Unlocking takes effect before a commit, so the release must be committed first.
        query = "SELECT pg_advisory_unlock($1, p) FROM unnest($2::integer[]) AS p"
        await self.fetch(query, self._key, list(partitions))

    async def set_member(self, joins: bool) -> None:
        """Join the group of workers until the session ends, or leave it."""
        function = "pg_advisory_lock_shared" if joins else "pg_advisory_unlock_shared"
        await self.fetch(f"SELECT {function}($1, $2)", self._key, _schema.MEMBERS)
        self.is_member = joins

    async def end_stuck_sessions(self) -> None:
        """End sessions that own partitions but have been in one statement for too long.

        Their processes have abandoned them. ``idle_session_timeout`` does not end a session that
        waits for the rest of a request, or whose client does not read the reply.
        """
        await self.fetch(_schema.END_STUCK, self._database.timeout * 0.7)

    async def group(self) -> tuple[int, int, set[int]]:
        """Return the number of workers, this one's rank, and the partitions that have an owner."""
        ((members, rank, owned),) = await self.fetch(_schema.GROUP)
        return max(1, members), rank, set(owned or ())

    async def last_batch(self) -> int | None:
        """Return the number of the last batch that the process stored.

        None means that a former session of the process may still be storing one.
        """
        query = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
        if not (await self.fetch(query, str(self.reader)))[0][0]:
            return None
        return int((await self.fetch(_schema.LAST_BATCH, self.reader, self._name))[0][0])

    async def scopes(self, scope_ids: Sequence[str]) -> dict[str, bytes | None]:
        """Return the stored scopes; None for those that were never stored."""
        # The last row of a scope id is its latest scope.
        query = "SELECT scope_id, scope FROM scopes WHERE scope_id = ANY ($1) ORDER BY number"
        return dict.fromkeys(scope_ids) | dict(await self.fetch(query, scope_ids))


def _columns(records: Iterable[Any], *names: str) -> list[list[Any]]:
    return [list(map(attrgetter(name), records)) for name in names]
