"""What cannot work is refused with one sentence, and nothing is half started."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pieces import Gateway, echo, worker
from processes import SUPPORT
from real_redis import RealRedis

from asgiref.redis import CannotStart, RedisWorker
from asgiref.redis._client import Link, check_driver
from asgiref.redis._single import Single

ECHO = "redis_apps:echo"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "asgiref.redis", *arguments],
        capture_output=True,
        text=True,
        cwd=SUPPORT,
        timeout=60,
    )


def refusal(*arguments: str) -> str:
    """The one line that a refused command prints; it has exited with 1."""
    done = run(*arguments)
    assert done.returncode == 1, done
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("asgiref.redis: ")
    return lines[0].removeprefix("asgiref.redis: ")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://localhost", "'http://localhost' must begin with one of redis, redis+cluster"),
        ("redis://", "names no host"),
        ("redis://localhost:port", "has a wrong host or port"),
        ("redis+sentinel://localhost", "must name the service"),
        ("redis://user:secret@localhost:1", "//user:***@localhost:1 does not answer"),
        ("redis://localhost/0?nonsense=1", "cannot be connected to"),
    ],
)
def test_a_wrong_url(url: str, sentence: str) -> None:
    assert sentence in refusal("worker", ECHO, "--group", "g", "--url", url)


def test_a_redis_that_is_not_there() -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    for command in (("worker", ECHO, "--group", "g"), ("status",), ("remove-group", "g")):
        assert "does not answer" in refusal(*command, "--url", url)


@pytest.mark.parametrize(
    ("application", "sentence"),
    [
        ("redis_apps", "is named MODULE:APPLICATION, not 'redis_apps'"),
        ("no_such_module:app", "'no_such_module:app' cannot be imported: ModuleNotFoundError"),
        ("redis_apps:nothing", "The module 'redis_apps' has no 'nothing'"),
        ("redis_apps:not_an_application", "is no ASGI application, but 5"),
    ],
)
def test_an_application_that_is_none(
    shared_redis: RealRedis, application: str, sentence: str
) -> None:
    line = refusal("worker", application, "--group", "g", "--url", shared_redis.url)
    assert sentence in line


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--lease", "0"), "lease must be at least 0.3, not 0.0"),
        (("--lease", "nan"), "lease must be at least 0.3, not nan"),
        (("--prefetch", "0"), "prefetch must be at least 1"),
        (("--name", "a b"), "The name of a worker is made of"),
        (("--connection", "{a}"), "The name of a connection is made of"),
        (("--replicas", "1"), "of 1 replicas"),
    ],
)
def test_a_wrong_option(shared_redis: RealRedis, options: tuple[str, ...], sentence: str) -> None:
    line = refusal("worker", ECHO, "--group", "g", "--url", shared_redis.url, *options)
    assert sentence in line


def test_a_wrong_password(own_redis: RealRedis) -> None:
    url = own_redis.url.replace("//", "//nobody:secret@")
    line = refusal("worker", ECHO, "--group", "g", "--url", url)
    assert "refuses the user or password" in line
    assert "secret" not in line


def test_a_redis_that_deletes_what_it_likes(redis_server: None, tmp_path: Path) -> None:
    server = RealRedis(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    server.start()
    try:
        line = refusal("worker", ECHO, "--group", "g", "--url", server.url)
        assert "set the policy to noeviction" in line
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("version", "allowed"), [("6.0.16", False), ("6.2.0", True), ("5.0", False), ("10.1.2", True)]
)
def test_a_redis_that_is_too_old(version: str, allowed: bool) -> None:
    link = Link(Single(None, (), 0), "The Redis", 1)
    if allowed:
        link._check_server({"redis_version": version})
    else:
        with pytest.raises(CannotStart, match=f"is Redis {version}; 6.2 or newer is needed"):
            link._check_server({"redis_version": version})


@pytest.mark.parametrize(
    ("kind", "version", "allowed"),
    [
        ("cluster", "7.4.1", False),
        ("cluster", "8.0.0", True),
        ("cluster", "10.1.0", True),
        ("", "5.0.8", True),
        ("sentinel", "5.0.8", True),
    ],
)
def test_a_redis_py_that_is_too_old_for_a_cluster(kind: str, version: str, allowed: bool) -> None:
    if allowed:
        check_driver(kind, version)
    else:
        with pytest.raises(CannotStart, match=rf"A cluster needs redis-py 8 .*, not {version}\."):
            check_driver(kind, version)


@pytest.mark.asyncio
async def test_another_number_of_partitions(shared_redis: RealRedis, connection: str) -> None:
    gateway = Gateway(shared_redis.url, connection, partitions=8)
    gateway.handle = nothing  # type: ignore[method-assign]
    await gateway.arun()
    with pytest.raises(CannotStart, match="has 8 partitions, not 9"):
        await Gateway(shared_redis.url, connection, partitions=9).arun()


async def nothing() -> None:
    pass


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("scope_id", "scope", "message", "error", "sentence"),
    [
        (5, {"type": "t"}, {}, TypeError, "A scope id must be a str here"),
        ("a" * 513, {"type": "t"}, {}, ValueError, "may have 512 bytes"),
        ("ada", {}, {}, ValueError, "has no 'type'"),
        ("ada", "ada", {}, TypeError, "must be a mapping, not 'ada'"),
        ("ada", {"type": "t"}, "hello", TypeError, "must be a mapping, not 'hello'"),
        ("ada", {"type": "t"}, {"a": b""}, TypeError, "'msgpack' carries bytes"),
        ("ada", {"type": "t"}, {"a": {1}}, TypeError, "JSON cannot carry"),
        ("ada", {"type": "t"}, {"a": float("nan")}, TypeError, "JSON cannot carry"),
        ("ada", {"type": "t"}, {"a": "x" * 100}, ValueError, "of which 100 are allowed"),
    ],
)
async def test_what_a_gateway_cannot_carry(
    scope_id: Any, scope: Any, message: Any, error: type[Exception], sentence: str
) -> None:
    gateway = Gateway("redis://localhost", "test", max_size=100)
    with pytest.raises(error, match=sentence):
        gateway.get_or_create_application_instance(scope_id, scope).put_nowait(message)


def test_a_worker_needs_an_application() -> None:
    with pytest.raises(TypeError, match="needs an ASGI application"):
        RedisWorker(5, "redis://localhost", group="g")
    assert worker(echo, "redis://localhost", "test").partitions == {}


def test_the_status_of_no_connection(shared_redis: RealRedis, connection: str) -> None:
    line = refusal("status", "--url", shared_redis.url, "--connection", connection)
    assert line == f"There is no connection {connection!r}."
