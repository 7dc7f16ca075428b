"""The way to Redis: one server, a sentinel's master or a cluster, behind one small class.

Nothing is repeated here. redis-py would send a command again after a lost connection; whoever calls
must know of that, because then it is unknown what was done. All that can come and go is raised as
one error, `Unreachable`. In a cluster one node can be away while the others answer: then it is a
value, `Unanswered`, in place of each answer that is missing.
"""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ._address import Address, parsed, redacted
from ._cluster import Cluster, Unanswered
from ._driver import (
    LOST,
    Refused,
    asynchronous,
    clusters,
    connections,
    exceptions,
    heeding_cancellation,
    is_transient,
    no_retry,
    sentinels,
    text_of,
    translated,
)
from ._driver import version as driver_version
from ._errors import CannotStart, Unreachable
from ._listener import Listener
from ._scripts import Script
from ._single import Command, Single

__all__ = ["Call", "Link", "Refused", "Unanswered", "connected"]

_OLDEST = (6, 2)
#: Seconds that making a connection may take, at least: with TLS on a busy machine it takes long.
CONNECT_SECONDS = 3.0
#: To one node of a cluster: more than a worker needs that hands over all its partitions at once.
MOST_CONNECTIONS = 1 << 14


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its keys and arguments; the keys lie in one partition."""

    script: Script
    keys: tuple[str, ...]
    arguments: Sequence[str | bytes | int]

    def command(self, name: str, what: str) -> tuple[str, Command]:
        """EVALSHA or EVAL, after the key that says where."""
        return self.keys[0], (name, what, len(self.keys), *self.keys, *self.arguments)


class Servers(Protocol):
    """What a link sends through: `Single` or `Cluster`."""

    def node_of(self, key: str) -> str: ...
    async def send(self, commands: Sequence[tuple[str, Command]], replicas: int) -> list[Any]: ...
    async def ask(self, *words: str | int) -> list[Any]: ...
    async def subscriber(self) -> Any: ...
    async def close(self) -> None: ...


class Link:
    """Connections to one Redis, as many as are needed at the same time.

    Args:
        servers: where commands go.
        describe: what is there, for errors.
        patience: seconds after which a connection that does not answer counts as lost.
    """

    def __init__(self, servers: Servers, describe: str, patience: float) -> None:
        self._servers = servers
        self._describe = describe
        self._patience = patience

    def node_of(self, key: str) -> str:
        """Which node has a key now: what is for one node can go together, and fails together."""
        return self._servers.node_of(key)

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.close()

    async def command(self, *words: str | bytes | int, key: str | None = None) -> Any:
        """The answer to one command.

        Args:
            key: what decides where it goes, if that is not the second word.

        Raises:
            Unreachable: see the module.
            Refused: if the answer is an error.
        """
        if key is None:
            key = str(words[1]) if len(words) > 1 else ""
        [answer] = await self._send([(key, words)], 0)
        return self._raised(answer)

    async def call(self, call: Call) -> Any:
        """The answer of one script. Raises as `command` does."""
        [answer] = await self.run([call])
        return self._raised(answer)

    async def run(self, calls: Sequence[Call], replicas: int = 0) -> list[Any]:
        """The answers of scripts; a `Refused` in place of one that is an error.

        Args:
            replicas: how many replicas must have all of it as well.

        Returns:
            The answers, in the order of the calls; in a cluster, `Unanswered` where one is missing.
            Such a script may have run.

        Raises:
            Unreachable: see the module; any of the scripts may have run.
        """
        commands = [each.command("EVALSHA", each.script.sha) for each in calls]
        answers = await self._send(commands, replicas)
        unknown = [n for n, each in enumerate(answers) if _is_unknown_script(each)]
        if unknown:
            again = [calls[n].command("EVAL", calls[n].script.source) for n in unknown]
            for n, answer in zip(unknown, await self._send(again, replicas), strict=True):
                answers[n] = answer
        return [self._checked(answer) for answer in answers]

    async def _send(self, commands: Sequence[tuple[str, Command]], replicas: int) -> list[Any]:
        with translated(self._describe), heeding_cancellation():
            return await self._servers.send(commands, replicas)

    def _checked(self, answer: Any) -> Any:
        if not isinstance(answer, BaseException) or isinstance(answer, Unanswered):
            return answer
        if isinstance(answer, exceptions.ResponseError) and not is_transient(answer):
            return Refused(str(answer))
        with translated(self._describe):
            raise answer

    def _raised(self, answer: Any) -> Any:
        answer = self._checked(answer)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def check(self) -> None:
        """Raise CannotStart if this Redis cannot be used."""
        try:
            with heeding_cancellation():
                found = await self._servers.ask("INFO")
            errors = [each for each in found if isinstance(each, BaseException)]
            if len(errors) == len(found):
                raise errors[0]
        except TypeError as error:  # an option in the URL that no connection has
            raise CannotStart(f"{self._describe} cannot be connected to: {error}.") from None
        except exceptions.NoPermissionError as error:
            raise CannotStart(f"{self._describe} must allow this user INFO: {error}.") from None
        except exceptions.AuthenticationError as error:
            raise CannotStart(f"{self._describe} refuses the user or password: {error}.") from None
        except exceptions.ResponseError as error:
            raise CannotStart(f"{self._describe} cannot be used: {error}.") from None
        except LOST as error:
            raise CannotStart(f"{self._describe} does not answer: {text_of(error)}.") from None
        for each in found:
            if not isinstance(each, BaseException):
                self._check_server(each)

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

    async def check_replicas(self, replicas: int) -> None:
        """Raise CannotStart if a server has fewer replicas that keep up."""
        if not replicas:
            return
        try:
            with translated(self._describe), heeding_cancellation():
                found = await self._servers.ask("WAIT", replicas, int(self._patience * 500))
        except Unreachable as error:
            raise CannotStart(str(error)) from None
        for have in found:
            if not isinstance(have, BaseException) and have < replicas:
                raise CannotStart(f"{self._describe} has {have} of {replicas} replicas up to date.")

    def listen(self, channels: set[str], hear: Callable[[str, str], None]) -> Listener:
        """A listener, not yet running; ``hear`` gets a channel and a text."""
        return Listener(self._servers.subscriber, channels, hear, self._patience)


def _is_unknown_script(answer: Any) -> bool:
    return isinstance(answer, exceptions.NoScriptError)


def check_driver(kind: str, version: str) -> None:
    """Raise CannotStart if redis-py has not what this kind of Redis needs.

    With redis-py 5.0 to 7.4 the partitions on healthy nodes of a cluster change hands when another
    node dies; of those the tests have been run with, 8.0 is the first with which they do not.
    """
    if kind == "cluster" and int(version.partition(".")[0]) < 8:
        raise CannotStart(f"A cluster needs redis-py 8 or newer, not {version}.")


def _servers_for(address: Address, describe: str, patience: float) -> Servers:
    common: dict[str, Any] = {
        "socket_timeout": patience,
        "socket_connect_timeout": max(patience, CONNECT_SECONDS),
        "retry": no_retry(),
    }
    replica_wait = int(patience * 500)
    if address.kind == "cluster":
        others = [clusters.ClusterNode(host, port) for host, port in address.hosts[1:]]
        client = asynchronous.RedisCluster.from_url(
            address.plain,
            startup_nodes=others,
            require_full_coverage=False,
            max_connections=MOST_CONNECTIONS,
            **common,
        )
        return Cluster(client, describe, replica_wait)
    if not address.kind:
        return Single(asynchronous.Redis.from_url(address.plain, **common), (), replica_wait)
    settings: dict[str, Any] = dict(connections.parse_url(address.plain))
    for name in ("host", "port", "connection_class"):
        settings.pop(name, None)
    if address.base == "rediss":
        settings["ssl"] = True
    waits = {name: common[name] for name in ("socket_timeout", "socket_connect_timeout")}
    sentinel = sentinels.Sentinel(
        address.hosts, sentinel_kwargs=waits, **{**common, **settings, "db": int(address.database)}
    )
    return Single(sentinel.master_for(address.service), sentinel.sentinels, replica_wait)


@asynccontextmanager
async def connected(url: str, patience: float) -> AsyncGenerator[Link, None]:
    """A link to the Redis at ``url``, which has been looked at and can be used.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://`` as redis-py knows them, with user,
            password and options; or ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE`` or
            ``redis+cluster://HOST:PORT,HOST:PORT``, both also with ``rediss``.
        patience: seconds after which a connection that does not answer counts as lost.

    Raises:
        CannotStart: if the URL is wrong or nothing that can be used answers there.
    """
    address = parsed(url)
    describe = f"The Redis at {redacted(url)}"
    check_driver(address.kind, driver_version)
    try:
        servers = _servers_for(address, describe, patience)
    except (ValueError, TypeError, exceptions.RedisError) as error:
        raise CannotStart(f"The URL {redacted(url)!r} cannot be used: {error}.") from None
    link = Link(servers, describe, patience)
    try:
        await link.check()
        yield link
    finally:
        await link.close()
