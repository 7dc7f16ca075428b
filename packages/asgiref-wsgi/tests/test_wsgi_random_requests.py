"""Random requests, chunkings and disconnects: no hang, no crash, no byte lost or invented."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any
from wsgiref.validate import validator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wsgi_client import Exchange, http_scope

from asgiref.wsgi import WsgiToAsgi

pytestmark = pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")

READS = ("read(1)", "read(7)", "read(100000)", "read", "readline", "readlines", "iterate")
RESPONSES = ("list", "generator", "write")

texts = st.text(st.characters(exclude_categories=[]), max_size=8)  # lone surrogates, too
pieces = st.lists(st.binary(max_size=20) | st.just(b"line\n"), max_size=6)
names = st.sampled_from([b"x-a", b"X-A", b"x_a", b"cookie", b"proxy", b"host", b""]) | st.binary(
    max_size=6
)
lengths = st.sampled_from([b"0", b"5", b"20", b" 5 ", b"5,5", b"5, 6", b"-1", b"+5", b"\xb2", b""])
framings = st.lists(
    st.tuples(st.just(b"content-length"), lengths)
    | st.just((b"transfer-encoding", b"chunked"))
    | st.just((b"Expect", b"100-continue")),
    max_size=2,
)


@st.composite
def scopes(draw):
    headers = draw(st.lists(st.tuples(names, st.binary(max_size=6)), max_size=5))
    optional = {
        "raw_path": st.none() | st.binary(max_size=10).map(lambda path: b"/" + path),
        "query_string": st.binary(max_size=8),
        "server": st.sampled_from([None, ("::1", 8080), ("/run/socket", None)]),
        "client": st.sampled_from([None, ("10.0.0.1", 1), ("", None)]),
        "scheme": st.sampled_from(["http", "https"]),
        "http_version": st.sampled_from(["1.0", "1.1", "2", "3"]),
    }
    changes = {name: draw(value) for name, value in optional.items() if draw(st.booleans())}
    path, root = draw(texts), draw(texts.filter(lambda text: "/" not in text))
    root_path = draw(st.sampled_from(["", "/", "/" + root]))
    scope = http_scope(
        method=draw(st.sampled_from(["GET", "POST", "PUT"])),
        path=draw(st.sampled_from(["/", root_path or "/", f"{root_path}/{path}", "/" + path])),
        root_path=root_path,
        headers=headers + draw(framings),
    )
    return scope | changes


@dataclass
class Site:
    """Reads its input in a given way, as far as possible, and responds in a given way."""

    reads: list[str]
    response: str
    answer: list[bytes]
    environ: dict[str, Any] = field(default_factory=dict)
    received: bytes = b""
    complete: bool = False
    failure: OSError | None = None

    def __call__(self, environ, start_response):
        self.environ = environ
        try:
            for read in self.reads:
                self.received += self.read(environ["wsgi.input"], read)
            while block := environ["wsgi.input"].read(10):
                self.received += block
            self.complete = True
        except OSError as error:
            self.failure = error
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if self.response == "write":
            for chunk in self.answer:
                write(chunk)
            return []
        return list(self.answer) if self.response == "list" else (c for c in self.answer)

    def read(self, stream, how):
        if how == "read":
            return stream.read(1 << 20)
        if how == "readline":
            return stream.readline()
        if how == "readlines":
            return b"".join(stream.readlines(3))
        if how == "iterate":
            return next(iter(stream), b"")
        return stream.read(int(re.sub(r"\D", "", how)))


def declared_length(headers):
    """Return the Content-Length, None if there is none, ValueError if it cannot be trusted."""
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        return None
    found = {
        part.strip(b" \t")
        for name, value in headers
        if name.lower() == b"content-length"
        for part in value.split(b",")
    }
    if any(not re.fullmatch(rb"[0-9]+", part) for part in found) or len(found) > 1:
        raise ValueError(found)
    return int(found.pop()) if found else None


async def serve(site, scope, body, cut):
    """Send the chunks of `body`, all or the first `cut`; return the response."""
    exchange = Exchange(WsgiToAsgi(validator(site)), scope).start()
    for number, piece in enumerate(body[:cut]):
        exchange.feed(piece, more=cut is not None or number < len(body) - 1)
    if not body and cut is None:
        exchange.feed()
    exchange.disconnect()
    await exchange.end()
    return exchange.sent()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    scope=scopes(),
    body=pieces,
    cut=st.none() | st.integers(0, 5),
    reads=st.lists(st.sampled_from(READS), max_size=4),
    response=st.sampled_from(RESPONSES),
    answer=pieces,
)
def test_no_byte_is_lost_or_invented(scope, body, cut, reads, response, answer):
    if cut is not None and cut >= len(body):
        cut = None
    site = Site(reads, response, answer)
    events = asyncio.run(serve(site, scope, body, cut))
    whole = b"".join(body)
    sent = b"".join(body[:cut])
    try:
        length = declared_length(scope["headers"])
    except ValueError:
        assert not site.environ
        assert not events or events[0]["status"] == 400
        return
    if not site.environ:
        # The client left before its first chunk, or before the end of a body without a length.
        assert cut == 0 or (cut is not None and length is None)
        assert events == []
        return

    for key, value in site.environ.items():
        if key.isupper():
            assert isinstance(value, str)
            value.encode("latin-1")
    promised = len(whole) if length is None else length
    expected = whole[:promised]
    if site.complete:
        assert site.received == expected
        assert len(expected) == promised or length is None
    else:
        assert sent.startswith(site.received)
        assert cut is not None or len(whole) < promised
    if events:
        check_answer(events, b"".join(answer))


def check_answer(events, answer):
    start, *rest = events
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    # The client has left, so the response may end early, but must not differ up to there.
    received = b"".join(event.get("body", b"") for event in rest)
    assert answer.startswith(received)
    if rest and not rest[-1].get("more_body"):
        assert received == answer
