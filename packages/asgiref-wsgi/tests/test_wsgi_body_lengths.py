"""Uploads without a length, and uploads that are too long."""

import asyncio
import io
import logging
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from wsgi_client import Exchange, http_scope, request

from asgiref.wsgi import WsgiToAsgi

pytestmark = pytest.mark.asyncio

CHUNKED = [(b"transfer-encoding", b"chunked")]
MEGABYTE = 1024 * 1024


class Site:
    """Reads CONTENT_LENGTH bytes, as Django and Falcon do."""

    def __init__(self, reads=True):
        self.environs = []
        self.bodies = []
        self.reads = reads

    def __call__(self, environ, start_response):
        self.environs.append(environ)
        if self.reads:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            self.bodies.append(environ["wsgi.input"].read(length))
        start_response("200 OK", [])
        return [b"done"]


@pytest.mark.parametrize(
    "scope",
    [
        {"headers": CHUNKED},
        {"headers": [(b"Transfer-Encoding", b"Chunked")]},
        {"headers": [*CHUNKED, (b"content-length", b"3")]},
        {"http_version": "2"},
        {"http_version": "3"},
    ],
)
@pytest.mark.parametrize(
    "pieces",
    [
        [b"whole"],
        [b"wh", b"ole"],
        [b"", b"", b"x"],
        [b"x" * 65536] * 40,
        [b"x" * 3 * MEGABYTE, b""],
    ],
    ids=["one", "two", "empty", "large", "one large"],
)
async def test_a_body_without_a_length_has_one_when_the_application_starts(scope, pieces):
    site = Site()
    await request(WsgiToAsgi(site), pieces, method="POST", **scope)
    assert site.bodies == [b"".join(pieces)]


@pytest.mark.parametrize("http_version", ["1.1", "2"])
@pytest.mark.parametrize("headers", [CHUNKED, []])
async def test_a_body_in_a_single_message_has_a_length_without_a_spool(http_version, headers):
    site = Site()
    adapter = WsgiToAsgi(site, max_spool_size=None)
    await request(adapter, [b"whole"], http_version=http_version, headers=headers)
    assert site.environs[0]["CONTENT_LENGTH"] == "5"
    assert site.bodies == [b"whole"]


async def test_headers_that_a_middleware_gives_as_an_iterator_are_all_used():
    site = Site()
    headers = iter([(b"content-length", b"5"), (b"x-name", b"value")])
    await request(WsgiToAsgi(site, max_spool_size=None), [b"who", b"le"], headers=headers)
    assert site.bodies == [b"whole"]
    assert site.environs[0]["HTTP_X_NAME"] == "value"


async def test_a_request_without_a_body_has_no_content_length():
    site = Site()
    await request(WsgiToAsgi(site))
    assert "CONTENT_LENGTH" not in site.environs[0]


@pytest.mark.parametrize("value", [b"chunked", b"gzip, chunked", b"xchunked", b"identity"])
@pytest.mark.parametrize("name", [b"transfer-encoding", b"Transfer-Encoding", b"transfer_encoding"])
async def test_a_decoded_body_never_carries_transfer_encoding(name, value):
    site = Site()
    adapter = WsgiToAsgi(site, allow_underscore_headers=True)
    await request(adapter, [b"whole"], headers=[(name, value)])
    assert "HTTP_TRANSFER_ENCODING" not in site.environs[0]


READS = {
    "read": lambda body: body.read(),
    "lines": lambda body: b"".join(body.readlines()),
    "iteration": lambda body: b"".join(body),
    "parts": lambda body: b"".join(iter(lambda: body.read(1000), b"")),
    "readline": lambda body: b"".join(iter(body.readline, b"")),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("lines", [10, 100_000])
async def test_a_spooled_body_reads_like_any_other(read, lines):
    text = b"a line of text\n" * lines
    results = []

    def application(environ, start_response):
        results.append(read(environ["wsgi.input"]))
        assert environ["wsgi.input"].read() == b""
        start_response("200 OK", [])
        return []

    pieces = [text[at : at + 65536] for at in range(0, len(text), 65536)]
    await request(WsgiToAsgi(application), [*pieces, b""], headers=CHUNKED)
    assert results == [text]


async def test_the_file_of_a_spooled_body_is_closed_with_the_request():
    site = Site()
    await request(WsgiToAsgi(site), [b"x" * 3 * MEGABYTE, b""], headers=CHUNKED)
    stream = site.environs[0]["wsgi.input"]
    assert not isinstance(stream, io.BytesIO)
    assert stream.closed


@pytest.mark.parametrize("size", [10, 3 * MEGABYTE])
async def test_an_application_can_read_a_spooled_body_after_its_call_was_cancelled(size, caplog):
    started, may_read = threading.Event(), threading.Event()
    read, streams = [], []

    def application(environ, start_response):
        streams.append(environ["wsgi.input"])
        started.set()
        may_read.wait(30)
        read.append(len(environ["wsgi.input"].read()))
        start_response("200 OK", [])
        return [b"too late"]

    pool = ThreadPoolExecutor(1)
    adapter = WsgiToAsgi(application, executor=pool)
    exchange = Exchange(adapter, http_scope(headers=CHUNKED)).start()
    exchange.feed(b"x" * size, more=True).feed()
    assert await asyncio.to_thread(started.wait, 30)
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.end()
    may_read.set()
    await asyncio.to_thread(pool.shutdown)
    assert read == [size]
    assert streams[0].closed
    assert caplog.records == []


async def test_a_body_in_small_messages_goes_to_a_file_before_they_fill_the_memory():
    seen = []

    def application(environ, start_response):
        seen.append(isinstance(environ["wsgi.input"], io.BytesIO))
        assert environ["wsgi.input"].read() == b"xy" * 40_000
        start_response("200 OK", [])
        return []

    await request(WsgiToAsgi(application), [b"xy"] * 40_000, headers=CHUNKED)
    assert seen == [False]


@pytest.mark.skipif(os.name != "posix", reason="the system has no unnamed files")
async def test_the_file_of_a_spooled_body_has_no_name_that_could_outlive_a_killed_process(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def application(environ, start_response):
        assert environ["wsgi.input"].fileno()
        seen.append(list(tmp_path.iterdir()))
        start_response("200 OK", [])
        return []

    await request(WsgiToAsgi(application), [b"x" * 3 * MEGABYTE, b""], headers=CHUNKED)
    assert seen == [[]]


async def test_a_client_that_expects_100_continue_is_asked_for_a_body_without_a_length():
    site = Site()
    headers = [*CHUNKED, (b"expect", b"100-continue")]
    await request(WsgiToAsgi(site), [b"wh", b"ole"], headers=headers)
    assert site.bodies == [b"whole"]


@pytest.mark.parametrize("size", [1, 3 * MEGABYTE])
async def test_an_application_whose_client_leaves_before_the_length_is_known_is_not_run(size):
    site = Site()
    exchange = Exchange(WsgiToAsgi(site), http_scope(headers=CHUNKED)).start()
    exchange.feed(b"x" * size, more=True).disconnect()
    await exchange.end()
    assert site.environs == []
    assert exchange.sent() == []


@pytest.mark.parametrize("size", [1, 3 * MEGABYTE])
async def test_a_call_can_be_cancelled_while_its_body_arrives(size):
    site = Site()
    exchange = Exchange(WsgiToAsgi(site), http_scope(headers=CHUNKED)).start()
    exchange.feed(b"x" * size, more=True)
    await exchange.received(2)
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.end()
    assert site.environs == []


async def test_without_a_spool_the_application_reads_while_the_body_arrives():
    first_read = asyncio.Event()
    loop = asyncio.get_running_loop()
    pieces = []

    def application(environ, start_response):
        pieces.append(environ["wsgi.input"].read(3))
        loop.call_soon_threadsafe(first_read.set)
        pieces.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    adapter = WsgiToAsgi(application, max_spool_size=None)
    exchange = Exchange(adapter, http_scope(headers=CHUNKED)).start().feed(b"one", more=True)
    await first_read.wait()
    exchange.feed(b"two")
    await exchange.end()
    assert pieces == [b"one", b"two"]


async def test_without_a_spool_one_log_line_says_that_a_body_was_not_read(caplog):
    adapter = WsgiToAsgi(Site(), max_spool_size=None)
    for _ in range(3):
        await request(adapter, [b"lo", b"st"], method="POST", path="/upload", headers=CHUNKED)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name == "asgiref.wsgi"
    assert "POST /upload has a body without Content-Length" in record.getMessage()
    assert "max_spool_size" in record.getMessage()


async def test_without_a_spool_reading_the_body_logs_nothing(caplog):
    def application(environ, start_response):
        environ["wsgi.input"].read()
        start_response("200 OK", [])
        return []

    adapter = WsgiToAsgi(application, max_spool_size=None)
    await request(adapter, [b"re", b"ad"], headers=CHUNKED)
    await request(adapter, [b"re", b"ad"], headers=[(b"content-length", b"4")])
    assert caplog.records == []


# Bodies that are too large


@pytest.mark.parametrize("http_version", ["1.1", "2"])
@pytest.mark.parametrize(
    ("headers", "pieces"),
    [
        ([(b"content-length", b"11")], []),
        ([(b"content-length", b"11"), (b"expect", b"100-continue")], []),
        (CHUNKED, [b"x" * 11]),
        (CHUNKED, [b"x" * 6, b"x" * 6]),
        (CHUNKED, [b"x" * 10, b"x", b""]),
    ],
)
@pytest.mark.parametrize("options", [{"max_body_size": 10}, {"max_spool_size": 10}])
async def test_a_body_that_is_too_large_is_answered_with_413(
    http_version, headers, pieces, options
):
    if "max_spool_size" in options and len(pieces) < 2:
        pytest.skip("a body of known length is not spooled")
    site = Site()
    exchange = Exchange(
        WsgiToAsgi(site, **options), http_scope(headers=headers, http_version=http_version)
    ).start()
    for piece in pieces:
        exchange.feed(piece, more=True)
    await exchange.end()
    start, body = exchange.sent()
    assert start["status"] == 413
    assert body["body"] == b"Content Too Large"
    assert not body.get("more_body")
    assert site.environs == []


@pytest.mark.parametrize("length", [10, 11])
async def test_the_maximum_for_a_body_without_a_length_applies_to_a_single_message(length):
    site = Site()
    adapter = WsgiToAsgi(site, max_spool_size=10)
    exchange = Exchange(adapter, http_scope(headers=CHUNKED)).start()
    exchange.feed(b"x" * length, more=False)
    await exchange.end()
    assert exchange.sent()[0]["status"] == (200 if length == 10 else 413)
    assert len(site.environs) == (length == 10)


async def test_a_head_request_that_is_too_large_has_no_body():
    headers = [(b"content-length", b"11")]
    scope = http_scope(method="HEAD", headers=headers)
    exchange = Exchange(WsgiToAsgi(Site(), max_body_size=10), scope).start()
    await exchange.end()
    start, body = exchange.sent()
    assert (start["status"], body["body"]) == (413, b"")


@pytest.mark.parametrize("pieces", [[b"x" * 10], [b"x" * 5, b"x" * 5], [b"x" * 10, b""], [b""]])
@pytest.mark.parametrize("headers", [CHUNKED, [(b"content-length", b"10")]])
async def test_a_body_of_the_maximum_size_is_served(pieces, headers):
    site = Site()
    if pieces == [b""]:
        headers = [(b"content-length", b"0")]
    answer = await request(WsgiToAsgi(site, max_body_size=10), pieces, headers=headers)
    assert answer.status == 200
    assert site.bodies == [b"".join(pieces)]


@pytest.mark.parametrize("catches", [False, True])
async def test_a_body_that_grows_too_large_while_it_is_read_is_answered_with_413(catches):
    errors = []

    def application(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(error)
            if not catches:
                raise
        start_response("500 Oh", [])
        return [b"an error page"]

    adapter = WsgiToAsgi(application, max_body_size=10, max_spool_size=None)
    exchange = Exchange(adapter, http_scope(headers=CHUNKED)).start()
    exchange.feed(b"x" * 6, more=True).feed(b"x" * 6, more=True)
    await exchange.end()
    start, body = exchange.sent()
    assert (start["status"], body["body"]) == (413, b"Content Too Large")
    assert "exceeds 10 bytes" in str(errors[0])


async def test_a_started_response_continues_when_the_body_grows_too_large():
    def application(environ, start_response):
        write = start_response("200 OK", [])
        write(b"started ")
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            return [str(error).encode()]

    adapter = WsgiToAsgi(application, max_body_size=10, max_spool_size=None)
    exchange = Exchange(adapter, http_scope(headers=CHUNKED)).start().feed(b"x" * 6, more=True)
    while (await exchange.event()).get("body") != b"started ":
        pass
    exchange.feed(b"x" * 6, more=True)
    await exchange.end()
    assert exchange.sent()[0]["body"] == b"the request body exceeds 10 bytes"


async def test_a_response_whose_start_is_being_sent_is_not_followed_by_a_413():
    may_write, failed = threading.Event(), threading.Event()

    def application(environ, start_response):
        write = start_response("200 OK", [])
        write(b"started ")
        may_write.wait()
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            failed.set()
            return [str(error).encode()]

    adapter = WsgiToAsgi(application, max_body_size=10, max_spool_size=None)
    exchange = Exchange(adapter, http_scope(headers=CHUNKED))
    exchange.sends_open.clear()
    exchange.start().feed(b"x" * 6, more=True)
    await exchange.send_begun.wait()
    exchange.feed(b"x" * 6, more=True)
    may_write.set()
    await asyncio.to_thread(failed.wait)
    exchange.sends_open.set()
    await exchange.end()
    assert [event["status"] for event in exchange.sent() if "status" in event] == [200]


@pytest.mark.parametrize("name", ["max_body_size", "max_spool_size"])
async def test_a_negative_maximum_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be a number of bytes or None, not -1"):
        WsgiToAsgi(Site(), **{name: -1})


async def test_other_requests_are_served_while_a_body_is_spooled():
    site = Site()
    adapter = WsgiToAsgi(site, workers=1)
    slow = Exchange(adapter, http_scope(headers=CHUNKED)).start().feed(b"be", more=True)
    await slow.received(2)
    assert (await request(adapter)).body == b"done"
    slow.feed(b"gun")
    await slow.end()
    assert site.bodies == [b"", b"begun"]
