"""Reading from wsgi.input, and the time at which the body is received."""

import asyncio
import io
import threading

import pytest
from wsgi_client import Exchange, http_scope, request

from asgiref.wsgi import WsgiToAsgi
from asgiref.wsgi._input import READ_AHEAD

pytestmark = pytest.mark.asyncio


def reader(read, results):
    """An application that stores the result of `read` for its input."""

    def application(environ, start_response):
        try:
            results.append(read(environ["wsgi.input"]))
        except OSError as error:
            results.append(error)
        start_response("200 OK", [])
        return [b"done"]

    return WsgiToAsgi(application)


TEXT = b"first\nsecond\n\nlast"
READS = {
    "everything": lambda body: body.read(),
    "minus one": lambda body: body.read(-1),
    "a part": lambda body: body.read(8),
    "too much": lambda body: body.read(1000),
    "nothing": lambda body: (body.read(0), body.read()),
    "parts": lambda body: [body.read(7), body.read(7), body.read(7), body.read(7)],
    "a line": lambda body: body.readline(),
    "parts of lines": lambda body: [body.readline(3), body.readline(3), body.readline(3)],
    "lines": lambda body: body.readlines(),
    "some lines": lambda body: body.readlines(7),
    "iteration": lambda body: list(body),
    "a mixture": lambda body: [body.readline(), body.read(2), next(body), body.read()],
    "past the end": lambda body: [body.read(), body.read(), body.readline(), list(body)],
    "text": lambda body: io.TextIOWrapper(body, "ascii").read(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("size", [1, 2, 7, 100])
async def test_reads_behave_as_io_defines(read, size):
    results = []
    pieces = [TEXT[i : i + size] for i in range(0, len(TEXT), size)]
    await request(reader(read, results), [*pieces, b""], method="POST")
    assert results == [read(io.BufferedReader(io.BytesIO(TEXT)))]


@pytest.mark.parametrize("pieces", [[b"0123456789"], [b"0123", b"456789"], [b"01234", b"", b"56"]])
async def test_no_more_than_content_length_is_read(pieces):
    results = []
    headers = [(b"content-length", b"5")]
    await request(reader(lambda body: body.read(), results), pieces, headers=headers)
    assert results == [b"01234"]


@pytest.mark.parametrize("pieces", [[b"0123"], [b"01", b"23"], [b""]])
async def test_a_body_shorter_than_content_length_is_an_error(pieces):
    results = []
    headers = [(b"content-length", b"5")]
    await request(reader(lambda body: body.read(), results), pieces, headers=headers)
    assert isinstance(results[0], OSError)
    assert "short of its Content-Length" in str(results[0])


async def test_the_application_starts_with_the_first_message_and_reads_as_the_rest_arrives():
    pieces, first_read = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def application(environ, start_response):
        pieces.append(environ["wsgi.input"].read(3))
        loop.call_soon_threadsafe(first_read.set)
        pieces.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    exchange = Exchange(WsgiToAsgi(application)).start().feed(b"one", more=True)
    await first_read.wait()
    assert pieces == [b"one"]
    exchange.feed(b"two", more=True).feed(b"three")
    await exchange.end()
    assert pieces == [b"one", b"twothree"]


async def test_nothing_is_received_before_the_first_read_when_the_client_expects_100_continue():
    started, may_read = threading.Event(), threading.Event()
    loop_started = asyncio.Event()
    loop = asyncio.get_running_loop()
    results = []

    def application(environ, start_response):
        started.set()
        loop.call_soon_threadsafe(loop_started.set)
        may_read.wait()
        results.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    scope = http_scope(headers=[(b"expect", b"100-continue"), (b"content-length", b"3")])
    exchange = Exchange(WsgiToAsgi(application), scope).start()
    await loop_started.wait()
    assert exchange.receives == 0
    may_read.set()
    exchange.feed(b"one")
    await exchange.end()
    assert results == [b"one"]


async def test_a_refused_100_continue_receives_nothing():
    def application(environ, start_response):
        start_response("417 Expectation Failed", [])
        return [b"no"]

    scope = http_scope(headers=[(b"expect", b"100-continue"), (b"content-length", b"3")])
    exchange = Exchange(WsgiToAsgi(application), scope).start()
    await exchange.end()
    assert exchange.receives == 0
    assert exchange.sent()[0]["type"] == "http.response.start"


async def test_an_application_that_never_reads_is_not_delayed():
    def application(environ, start_response):
        start_response("200 OK", [])
        return [b"thanks"]

    exchange = Exchange(WsgiToAsgi(application)).start().feed(b"x" * 1000, more=True)
    await exchange.end()
    assert exchange.receives == 1


async def test_read_ahead_is_bounded_and_resumes_when_there_is_room():
    first_read, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    results = []

    def application(environ, start_response):
        stream = environ["wsgi.input"]
        taken = stream.read(70_000)
        loop.call_soon_threadsafe(first_read.set)
        may_go_on.wait()
        results.append(taken + stream.read())
        start_response("200 OK", [])
        return []

    exchange = Exchange(WsgiToAsgi(application)).start()
    block, blocks = b"x" * 65536, 40
    for _ in range(blocks):
        exchange.feed(block, more=True)
    exchange.feed()
    await first_read.wait()
    for _ in range(100):  # the pump receives up to its limit
        await asyncio.sleep(0)
    waiting = exchange.receives * len(block) - 70_000
    assert READ_AHEAD - 65536 <= waiting <= READ_AHEAD + 65536  # BufferedReader holds one block
    may_go_on.set()
    await exchange.end()
    assert results == [block * blocks]


@pytest.mark.parametrize("read", [lambda b: b.read(), lambda b: b.read(10), lambda b: list(b)])
@pytest.mark.parametrize("length", [[], [(b"content-length", b"100")]])
async def test_a_client_that_leaves_mid_upload_is_an_oserror(read, length):
    results = []
    exchange = Exchange(reader(read, results), http_scope(headers=length)).start()
    exchange.feed(b"half", more=True).disconnect()
    await exchange.end()
    assert isinstance(results[0], OSError)
    assert "disconnected" in str(results[0])
    assert exchange.sent() == []


async def test_every_read_after_a_disconnect_is_an_oserror():
    def read_twice(body):
        for _ in range(2):
            with pytest.raises(OSError, match="disconnected"):
                body.read(10)
        return "seen"

    results = []
    exchange = Exchange(reader(read_twice, results)).start()
    exchange.feed(b"half", more=True).disconnect()
    await exchange.end()
    assert results == ["seen"]


async def test_an_application_that_does_not_catch_the_disconnect_ends_quietly():
    def application(environ, start_response):
        environ["wsgi.input"].read()

    exchange = Exchange(WsgiToAsgi(application)).start()
    exchange.feed(b"half", more=True).disconnect()
    await exchange.end()
    assert exchange.sent() == []


async def test_a_body_received_completely_is_complete_even_if_the_client_leaves_afterwards():
    results = []
    exchange = Exchange(reader(lambda body: body.read(), results)).start()
    exchange.feed(b"one", more=True).feed(b"two").disconnect()
    await exchange.end()
    assert results == [b"onetwo"]


async def test_a_client_that_left_before_its_request_is_not_served():
    called = []
    exchange = Exchange(WsgiToAsgi(lambda *args: called.append(args))).start().disconnect()
    await exchange.end()
    assert called == []
    assert exchange.sent() == []


async def test_a_message_that_is_not_http_is_refused():
    exchange = Exchange(WsgiToAsgi(lambda *args: [])).start()
    exchange.inbox.put_nowait({"type": "websocket.connect"})
    with pytest.raises(ValueError, match="non-HTTP-request message"):
        await exchange.end()


async def test_a_broken_receive_reaches_the_reader_and_the_server():
    async def receive():
        if not calls:
            calls.append(1)
            return {"type": "http.request", "body": b"half", "more_body": True}
        raise ZeroDivisionError("broken")

    async def send(event):
        raise AssertionError("nothing to send")

    def application(environ, start_response):
        environ["wsgi.input"].read()

    calls = []
    with pytest.raises(OSError, match="broken") as caught:
        await WsgiToAsgi(application)(http_scope(), receive, send)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_reading_after_the_request_raises_and_does_not_hang():
    kept = []

    def application(environ, start_response):
        kept.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return []

    await Exchange(WsgiToAsgi(application)).start().feed(b"half", more=True).end()
    with pytest.raises(OSError, match="the request is over"):
        await asyncio.to_thread(kept[0].read)


async def test_reading_on_the_event_loop_s_thread_is_refused():
    kept = []
    may_end = threading.Event()

    def application(environ, start_response):
        kept.append(environ["wsgi.input"])
        start_response("200 OK", [])
        yield b"begun"
        may_end.wait()

    exchange = Exchange(WsgiToAsgi(application)).start().feed(b"half", more=True)
    await exchange.event()
    with pytest.raises(RuntimeError, match="read it in the WSGI application's thread"):
        kept[0].read()
    may_end.set()
    await exchange.end()


async def test_many_small_chunks_and_one_long_line_arrive_whole():
    results = []
    pieces = [b"ab"] * 20_000
    application = reader(lambda body: body.readline(), results)
    await request(application, [*pieces, b"\n", b"rest"], method="POST")
    assert results == [b"".join(pieces) + b"\n"]


async def test_small_messages_that_wait_for_the_application_are_limited_with_their_overhead():
    loop, has_read, may_end = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    received = 0

    def application(environ, start_response):
        environ["wsgi.input"].raw.read(1)
        loop.call_soon_threadsafe(has_read.set)
        may_end.wait()
        start_response("200 OK", [])
        return []

    async def receive():
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"xy", "more_body": True}

    async def send(event):
        pass

    scope = http_scope(method="POST", headers=[(b"content-length", b"1000000")])
    task = asyncio.create_task(WsgiToAsgi(application)(scope, receive, send))
    await has_read.wait()
    before = -1
    while before != received:  # other tasks run only when no more is received
        before = received
        await asyncio.sleep(0)
    may_end.set()
    await task
    assert received * 50 < 2 * READ_AHEAD  # the bytes object of such a message takes 35 bytes
