"""The way to Redis: one server, a sentinel's master or a cluster, behind one small class.

Nothing is repeated here. redis-py would send a command again after a lost connection; whoever calls
must know of that, because then it is unknown what was done. All that can come and go (a lost
connection, a server that loads its data or has just become a replica, a cluster that has lost a
node) is raised as one error, `Unreachable`.

This is the only module that imports redis-py, whose types leave much open.
"""

import asyncio
import importlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ._backoff import Backoff
from ._errors import CannotStart, RedisServerError, Unreachable
from ._scripts import Script
from ._tasks import end

_asyncio: Any = importlib.import_module("redis.asyncio")
_connection: Any = importlib.import_module("redis.asyncio.connection")
_sentinel: Any = importlib.import_module("redis.asyncio.sentinel")
_exceptions: Any = importlib.import_module("redis.exceptions")
_retry: Any = importlib.import_module("redis.asyncio.retry")
_backoff: Any = importlib.import_module("redis.backoff")

#: The same where redis-py has an error for it, whose text begins after that word.
_TRANSIENT_ERRORS = (
    _exceptions.ReadOnlyError,
    _exceptions.TryAgainError,
    _exceptions.ClusterDownError,
    _exceptions.MasterDownError,
)

_OLDEST = (6, 2)
#: Seconds that making a connection may take, at least: with TLS on a busy machine it takes long.
CONNECT_SECONDS = 3.0
#: What a server answers while it is not what was looked for, but may be soon.
_TRANSIENT = re.compile(
    r"\b(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|UNBLOCKED|MISCONF)\b"
    r"|^BUSY\b|read only"
)
_SCHEMES = {
    f"{base}{kind}": (base, kind[1:])
    for base in ("redis", "rediss")
    for kind in ("", "+sentinel", "+cluster")
} | {"unix": ("unix", "")}


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its keys and arguments; the keys lie in one partition."""

    script: Script
    keys: tuple[str, ...]
    arguments: Sequence[str | bytes | int]


class Refused(RedisServerError):
    """Redis answered a call with an error; ``out_of_memory`` if it has no room."""

    @property
    def out_of_memory(self) -> bool:
        return "maxmemory" in str(self)


class Link:
    """Connections to one Redis, as many as are needed at the same time."""

    def __init__(
        self,
        client: Any,
        *,
        cluster: bool,
        describe: str,
        timeout: float,
        others: Sequence[Any] = (),
    ) -> None:
        self._client = client
        self._others = others
        self._cluster = cluster
        self._describe = describe
        self._timeout = timeout

    async def close(self) -> None:
        """Close all connections."""
        with suppress(OSError, _exceptions.RedisError):  # what is lost is closed
            await self._client.aclose()
        for each in self._others:
            with suppress(OSError, _exceptions.RedisError):
                await each.aclose()

    async def command(self, *words: str | bytes | int) -> Any:
        """The answer to one command, whose key, if it has one, is its second word.

        Raises:
            Unreachable: see the module.
            Refused: if the answer is an error.
        """
        with _translated(self._describe), _heeding_cancellation():
            answer = await self._client.execute_command(*words)
        return answer

    async def call(self, call: Call) -> Any:
        """The answer of one script. Raises as `command` does."""
        [answer] = await self.run([call])
        if isinstance(answer, Refused):
            raise answer
        return answer

    async def run(self, calls: Sequence[Call], replicas: int = 0) -> list[Any]:
        """The answers of scripts; a `Refused` in place of one that is an error.

        Args:
            replicas: how many replicas must have all of it as well.

        Raises:
            Unreachable: see the module; any of the scripts may have run.
        """
        with _translated(self._describe), _heeding_cancellation():
            answers = await self._send(calls, [("EVALSHA", each.script.sha) for each in calls])
            unknown = [n for n, each in enumerate(answers) if _is_unknown_script(each)]
            if unknown:
                again = [calls[n] for n in unknown]
                sources = [("EVAL", each.script.source) for each in again]
                for n, answer in zip(unknown, await self._send(again, sources), strict=True):
                    answers[n] = answer
            if replicas:
                await self._wait(replicas)
        return [self._checked(answer) for answer in answers]

    async def _send(self, calls: Sequence[Call], heads: list[tuple[str, str]]) -> list[Any]:
        commands = [
            (*head, len(call.keys), *call.keys, *call.arguments)
            for head, call in zip(heads, calls, strict=True)
        ]
        if self._cluster:
            sending = (self._client.execute_command(*command) for command in commands)
            return await asyncio.gather(*sending, return_exceptions=True)
        if len(commands) == 1:
            try:
                return [await self._client.execute_command(*commands[0])]
            except _exceptions.ResponseError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
            return answers

    async def _wait(self, replicas: int) -> None:
        if self._cluster:
            raise CannotStart("Waiting for replicas is not possible in a cluster.")
        milliseconds = int(self._timeout * 500)
        have = await self._client.execute_command("WAIT", replicas, milliseconds)
        if have < replicas:
            raise Unreachable(f"{self._describe} has {have} of {replicas} replicas up to date.")

    async def check_replicas(self, replicas: int) -> None:
        """Raise CannotStart if there are fewer replicas that keep up."""
        try:
            with _translated(self._describe):
                if replicas:
                    await self._wait(replicas)
        except Unreachable as error:
            raise CannotStart(str(error)) from None

    def _checked(self, answer: Any) -> Any:
        if not isinstance(answer, BaseException):
            return answer
        if isinstance(answer, _exceptions.ResponseError) and not _is_transient(answer):
            return Refused(str(answer))
        with _translated(self._describe):
            raise answer

    async def check(self) -> None:
        """Raise CannotStart if this Redis cannot be used."""
        try:
            with _heeding_cancellation():
                found = await self._client.info()
        except TypeError as error:  # an option in the URL that no connection has
            raise CannotStart(f"{self._describe} cannot be connected to: {error}.") from None
        except _exceptions.NoPermissionError as error:
            raise CannotStart(f"{self._describe} must allow this user INFO: {error}.") from None
        except _exceptions.AuthenticationError as error:
            raise CannotStart(f"{self._describe} refuses the user or password: {error}.") from None
        except _exceptions.ResponseError as error:
            raise CannotStart(f"{self._describe} cannot be used: {error}.") from None
        except (TimeoutError, OSError, _exceptions.RedisError) as error:
            raise CannotStart(f"{self._describe} does not answer: {_text(error)}.") from None
        for server in _each_server(found):
            self._check_server(server)

    def _check_server(self, found: dict[str, Any]) -> None:
        version = str(found["redis_version"])
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
            raise CannotStart(f"{self._describe} is Redis {version}; 6.2 or newer is needed.")
        policy = str(found.get("maxmemory_policy", ""))
        if found.get("maxmemory") and policy.startswith("allkeys"):
            raise CannotStart(
                f"{self._describe} deletes what it likes when it is full (maxmemory-policy "
                f"{policy}), and messages with it: set the policy to noeviction."
            )

    def listen(self, channels: set[str], hear: Callable[[str, str], None]) -> "Listener":
        """A listener, not yet running; ``hear`` gets a channel and a text."""
        return Listener(self._pubsub, channels, hear)

    async def _pubsub(self) -> Any:
        if not self._cluster:
            return self._client.pubsub()
        await self._client.initialize()
        node = self._client.get_random_node()
        settings = {
            name: value
            for name, value in node.connection_kwargs.items()
            if name not in ("host", "port") and not name.startswith("_")
        }
        return _NodePubSub(node.host, node.port, settings)


class _NodePubSub:
    """A subscription at one node of a cluster, which passes on what all of them publish."""

    def __init__(self, host: str, port: int, settings: dict[str, Any]) -> None:
        keep = ("username", "password", "socket_timeout", "socket_connect_timeout", "ssl")
        known = {name: settings[name] for name in keep if name in settings}
        self._client = _asyncio.Redis(host=host, port=port, **known)
        self._subscriber = self._client.pubsub()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subscriber, name)

    async def aclose(self) -> None:
        await self._subscriber.aclose()
        await self._client.aclose()


class Listener:
    """Hears of messages on channels, which may change; comes back by itself.

    Messages that are published while it is away are lost, as Redis has it. So whoever listens looks
    once in a while anyway, and hears an empty text when it begins, or begins again, to listen to a
    channel: what came before that was not heard.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Any]],
        channels: set[str],
        hear: Callable[[str, str], None],
    ) -> None:
        self._make = make
        self._channels = channels
        self._hear = hear
        self._changed = asyncio.Event()

    def subscribe(self, channel: str) -> None:
        self._channels.add(channel)
        self._changed.set()

    def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        self._changed.set()

    async def run(self) -> None:
        """Listen until cancelled."""
        backoff = Backoff()
        while True:
            with suppress(OSError, _exceptions.RedisError, asyncio.TimeoutError):
                subscriber = await self._make()
                try:
                    with _heeding_cancellation():
                        await subscriber.subscribe(*self._channels)
                    backoff.reset()
                    await self._follow(subscriber, set(self._channels))
                finally:
                    await _closed(subscriber)
            await asyncio.sleep(backoff.next())

    async def _follow(self, subscriber: Any, known: set[str]) -> None:
        tasks = [
            asyncio.ensure_future(self._read(subscriber)),
            asyncio.ensure_future(self._change(subscriber, known)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(tasks)

    async def _read(self, subscriber: Any) -> None:
        while True:
            with _heeding_cancellation():
                message = await subscriber.get_message(timeout=None)
            if message is None or message["type"] not in ("message", "subscribe"):
                continue
            text = message["data"].decode() if message["type"] == "message" else ""
            self._hear(message["channel"].decode(), text)

    async def _change(self, subscriber: Any, known: set[str]) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = set(self._channels)
            with _heeding_cancellation():
                if wanted - known:
                    await subscriber.subscribe(*(wanted - known))
                if known - wanted:
                    await subscriber.unsubscribe(*(known - wanted))
            known = wanted


@contextmanager
def _heeding_cancellation() -> Generator[None]:
    """Be cancelled at the end if the task was cancelled meanwhile and redis-py has lost that.

    redis-py sends inside `asyncio.wait_for`, and until Python 3.12 that forgets a cancellation that
    comes in the moment in which it is done. Whoever awaits the cancelled task would wait for ever.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        yield
    except Exception:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError from None
        raise
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


async def _closed(subscriber: Any) -> None:
    with suppress(OSError, _exceptions.RedisError):
        await subscriber.aclose()


# Errors


@contextmanager
def _translated(describe: str) -> Generator[None, None, None]:
    try:
        yield
    except _exceptions.ResponseError as error:
        if _is_transient(error):
            raise Unreachable(f"{describe} cannot do it now: {error}.") from None
        raise Refused(str(error)) from None
    except (TimeoutError, OSError, _exceptions.RedisError) as error:
        raise Unreachable(f"{describe} does not answer: {_text(error)}.") from None


def _text(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, _TRANSIENT_ERRORS) or bool(_TRANSIENT.search(str(error)))


def _is_unknown_script(answer: Any) -> bool:
    return isinstance(answer, _exceptions.NoScriptError)


def _each_server(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The facts of each server: a cluster answers with one dict for every node."""
    return [found] if "redis_version" in found else list(found.values())


# The URL


@dataclass(frozen=True, slots=True)
class _Address:
    """What a URL says. ``base`` is its scheme without the kind of Redis."""

    base: str
    kind: str
    hosts: tuple[tuple[str, int], ...]
    plain: str
    service: str
    database: str


def _parsed(url: str) -> _Address:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise CannotStart(
            f"The URL {redacted(url)!r} must begin with one of {', '.join(sorted(_SCHEMES))}."
        )
    base, kind = _SCHEMES[parts.scheme]
    user, at, places = parts.netloc.rpartition("@")
    hosts = tuple(_host_and_port(url, place, kind) for place in places.split(",") if place)
    if not hosts and base != "unix":
        raise CannotStart(f"The URL {redacted(url)!r} names no host.")
    query = f"?{parts.query}" if parts.query else ""
    if not kind:
        return _Address(base, kind, hosts, url, "", "")
    path = [each for each in parts.path.split("/") if each]
    if kind == "sentinel" and not path:
        raise CannotStart(
            f"The URL {redacted(url)!r} must name the service: HOST:PORT,HOST:PORT/SERVICE."
        )
    host, port = hosts[0]
    shown = f"[{host}]" if ":" in host else host
    plain = f"{base}://{user}{at}{shown}:{port}{query}"
    service, database = (path[0], path[1] if path[1:] else "0") if kind == "sentinel" else ("", "0")
    return _Address(base, kind, hosts, plain, service, database)


def _host_and_port(url: str, place: str, kind: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
        port = parts.port
    except ValueError:
        raise CannotStart(f"The URL {redacted(url)!r} has a wrong host or port.") from None
    return parts.hostname or "localhost", port or (26379 if kind == "sentinel" else 6379)


def redacted(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(//[^/@]*:)[^/@]*@", r"\1***@", re.sub(r"([?&]password=)[^&]*", r"\1***", url))


def _clients_for(address: _Address, timeout: float) -> list[Any]:
    """The client, and those that it needs."""
    common: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": max(timeout, CONNECT_SECONDS),
        "retry": _retry.Retry(_backoff.NoBackoff(), 0),
    }
    if address.kind == "cluster":
        return [_asyncio.RedisCluster.from_url(address.plain, **common)]
    if not address.kind:
        return [_asyncio.Redis.from_url(address.plain, **common)]
    settings: dict[str, Any] = dict(_connection.parse_url(address.plain))
    for name in ("host", "port", "connection_class"):
        settings.pop(name, None)
    if address.base == "rediss":
        settings["ssl"] = True
    waits = {name: common[name] for name in ("socket_timeout", "socket_connect_timeout")}
    sentinel = _sentinel.Sentinel(
        address.hosts, sentinel_kwargs=waits, **{**common, **settings, "db": int(address.database)}
    )
    return [sentinel.master_for(address.service), *sentinel.sentinels]


@asynccontextmanager
async def connected(url: str, patience: float) -> AsyncGenerator[Link, None]:
    """A link to the Redis at ``url``, which has been looked at and can be used.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://`` as redis-py knows them, with user,
            password and options; or ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE`` or
            ``redis+cluster://HOST:PORT``, both also with ``rediss``.
        patience: seconds after which a connection that does not answer counts as lost.

    Raises:
        CannotStart: if the URL is wrong or nothing that can be used answers there.
    """
    address = _parsed(url)
    describe = f"The Redis at {redacted(url)}"
    try:
        client, *others = _clients_for(address, patience)
    except (ValueError, TypeError, _exceptions.RedisError) as error:
        raise CannotStart(f"The URL {redacted(url)!r} cannot be used: {error}.") from None
    link = Link(
        client,
        cluster=address.kind == "cluster",
        describe=describe,
        timeout=patience,
        others=others,
    )
    try:
        await link.check()
        yield link
    finally:
        await link.close()
