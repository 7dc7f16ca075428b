"""Random requests through both adapters, in either order, get the same responses as directly."""

import asyncio
import io
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wsgi_caller import Request, make_environ
from wsgi_client import Exchange, http_scope

from asgiref.wsgi import AsgiToWsgi, WsgiToAsgi

names = st.sampled_from([b"x-a", b"x-b", b"accept", b"cookie", b"content-type"])
values = st.binary(max_size=8).map(
    lambda value: bytes(byte for byte in value if byte > 32 and byte != 127)
)
pieces = st.lists(st.binary(max_size=40) | st.just(b"x" * 70_000), max_size=5)
# Only valid UTF-8: servers replace invalid bytes before an application sees the path.
paths = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(lambda text: "/" + text)
statuses = st.sampled_from([200, 201, 204, 299, 304, 404, 500])


@dataclass
class Seen:
    """The parts of a request that an application saw."""

    scope: dict[str, Any]
    body: bytes


class Echo:
    """An ASGI application that records its request, and responds in given chunks."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], chunks: list[bytes]):
        self.status, self.headers, self.chunks = status, headers, chunks
        self.seen: list[Seen] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            assert event["type"] == "http.request"
            body += event["body"]
            more = event["more_body"]
        self.seen.append(Seen(dict(scope), body))
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})


def merged(headers: Any) -> dict[bytes, list[bytes]]:
    """The headers by name, with repeated values joined as an environ must join them."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    return {
        name: [(b"; " if name == b"cookie" else b",").join(parts)] for name, parts in found.items()
    }


async def ask(application: Any, scope: Any, body: list[bytes]) -> tuple[int, Any, bytes]:
    exchange = Exchange(application, scope).start()
    for number, piece in enumerate(body, 1):
        exchange.feed(piece, more=number < len(body))
    if not body:
        exchange.feed()
    await exchange.end()
    start, *rest = exchange.sent()
    content = b"".join(event.get("body", b"") for event in rest)
    return start["status"], start["headers"], content


fixture_free = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@fixture_free
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD"]),
    path=paths,
    root=st.sampled_from(["", "/app", "/caf\u00e9"]),
    query=st.binary(max_size=6),
    headers=st.lists(st.tuples(names, values), max_size=5),
    body=pieces,
    status=statuses,
    answer_headers=st.lists(st.tuples(st.sampled_from([b"x-c", b"set-cookie"]), values)),
    chunks=pieces,
)
def test_an_asgi_application_through_both_adapters(
    method, path, root, query, headers, body, status, answer_headers, chunks
):
    length = str(sum(map(len, body))).encode()
    headers = [*headers, (b"content-length", length)]
    path = root + path
    scope = http_scope(
        method=method,
        path=path,
        root_path=root,
        query_string=query,
        headers=headers,
        raw_path=None,
    )
    direct, adapted = (Echo(status, answer_headers, chunks) for _ in range(2))
    expected = asyncio.run(ask(direct, scope, body))
    adapter = WsgiToAsgi(AsgiToWsgi(adapted, lifespan="off"))
    got = asyncio.run(ask(adapter, scope, body))

    seen, wanted = adapted.seen[0], direct.seen[0]
    assert seen.body == wanted.body
    for key in ("method", "path", "root_path", "query_string", "scheme", "client", "server"):
        assert seen.scope[key] == wanted.scope[key], key
    wanted_headers = merged(headers)
    if not wanted_headers[b"content-length"][0].strip(b"0"):
        # A request without a body may or may not have a Content-Length.
        seen.scope["headers"] = [
            pair for pair in seen.scope["headers"] if pair[0] != b"content-length"
        ]
        del wanted_headers[b"content-length"]
    if not wanted_headers.get(b"content-type", [b"x"])[0]:
        del wanted_headers[b"content-type"]  # without this header, an environ has an empty one
    assert merged(seen.scope["headers"]) == wanted_headers

    has_body = method != "HEAD" and status not in (204, 304)
    assert got[0] == expected[0]
    assert sorted(got[1]) == sorted(expected[1])
    assert got[2] == (expected[2] if has_body else b"")


class WsgiEcho:
    """A WSGI application that records its request, and responds in given chunks."""

    def __init__(self, status: str, headers: list[tuple[str, str]], chunks: list[bytes]):
        self.status, self.headers, self.chunks = status, headers, chunks
        self.environ: dict[str, Any] = {}
        self.body = b""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.environ = environ
        self.body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(self.status, self.headers)
        yield from self.chunks


@fixture_free
@given(
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    path=paths,
    root=st.sampled_from(["", "/app"]),
    query=st.text("ab&=%2", max_size=6),
    headers=st.dictionaries(st.sampled_from(["HTTP_X_A", "HTTP_ACCEPT", "HTTP_COOKIE"]), values),
    body=st.binary(max_size=40) | st.just(b"x" * 200_000),
    status=st.sampled_from(["200 OK", "404 Not Found", "299 Unknown"]),
    chunks=pieces,
)
def test_a_wsgi_application_through_both_adapters(
    method, path, root, query, headers, body, status, chunks
):
    changes = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": root,
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": query,
        **{key: value.decode("latin-1") for key, value in headers.items()},
    }
    answers = [("X-C", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
    direct, adapted = (WsgiEcho(status, answers, chunks) for _ in range(2))
    expected = Request(direct, make_environ(body, **changes)).open()
    wanted = expected.finish()
    adapter = AsgiToWsgi(WsgiToAsgi(adapted), lifespan="off")
    got = Request(adapter, make_environ(body, **changes)).open()
    content = got.finish()

    assert (got.status, got.headers) == (expected.status, expected.headers)
    assert content == (b"" if method == "HEAD" else wanted)
    assert adapted.body == direct.body
    for key, value in direct.environ.items():
        if key.isupper():
            assert adapted.environ.get(key, "") == value, key


@pytest.mark.parametrize("size", [0, 1, 10_000_000])
def test_a_large_body_through_both_adapters_and_back(size):
    async def echo(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            event = await receive()
            more = event["more_body"]
            await send({"type": "http.response.body", "body": event["body"], "more_body": more})

    body = bytes(range(256)) * (size // 256)
    environ = make_environ(body, **{"wsgi.input": io.BytesIO(body)})
    inner = AsgiToWsgi(echo, lifespan="off")
    outer = AsgiToWsgi(WsgiToAsgi(inner), lifespan="off")
    assert Request(outer, environ).open().finish() == body
