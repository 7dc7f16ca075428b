"""The stream of a response: when chunks are sent, their limits, and how a response stops."""

import asyncio
import io
import os
import sys
import threading
from wsgiref.validate import validator

import pytest
from wsgi_client import Exchange, http_scope, request

from asgiref.wsgi import WsgiToAsgi

pytestmark = pytest.mark.asyncio


class Body:
    """An iterable that records whether it was read and closed."""

    def __init__(self, chunks, on_close=None):
        self.chunks = iter(chunks)
        self.taken = 0
        self.closed_on = []
        self.on_close = on_close

    def __iter__(self):
        return self

    def __next__(self):
        chunk = next(self.chunks)
        self.taken += 1
        return chunk

    def close(self):
        self.closed_on.append(threading.current_thread())
        if self.on_close is not None:
            self.on_close()


def serve(body, status="200 OK", headers=(), threads=None):
    def application(environ, start_response):
        if threads is not None:
            threads.append(threading.current_thread())
        start_response(status, list(headers))
        return body

    return WsgiToAsgi(application)


async def test_a_validated_application_is_served():
    def application(environ, start_response):
        body = environ["wsgi.input"].read(5)
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written ")
        return [body]

    answer = await request(
        WsgiToAsgi(validator(application)),
        [b"he", b"llo"],
        method="POST",
        headers=[(b"content-length", b"5"), (b"Content-Type", b"text/plain")],
    )
    assert (answer.status, answer.body) == (200, b"written hello")


async def test_each_chunk_is_sent_at_once():
    may_go_on = threading.Event()

    def application(environ, start_response):
        start_response("200 OK", [])
        yield b"one"
        may_go_on.wait()
        yield b"two"

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    assert (await exchange.event())["type"] == "http.response.start"
    assert (await exchange.event())["body"] == b"one"
    may_go_on.set()
    assert (await exchange.event())["body"] == b"two"
    assert await exchange.event() == {"type": "http.response.body"}
    await exchange.end()


async def test_written_data_is_sent_at_once():
    may_go_on = threading.Event()

    def application(environ, start_response):
        start_response("200 OK", [])(b"one")
        may_go_on.wait()
        return [b"two"]

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    await exchange.event()
    assert (await exchange.event())["body"] == b"one"
    may_go_on.set()
    assert (await exchange.event())["body"] == b"two"
    await exchange.end()


async def test_a_complete_response_does_not_wait_for_close():
    may_close = threading.Event()
    body = Body([b"one"], on_close=may_close.wait)
    exchange = Exchange(serve(body)).start().feed()
    events = [await exchange.event() for _ in range(3)]
    assert events[-1] == {"type": "http.response.body"}
    may_close.set()
    await exchange.end()


async def test_start_response_may_come_with_the_first_chunk():
    def application(environ, start_response):
        start_response("201 Created", [])
        yield b"late"

    answer = await request(WsgiToAsgi(application))
    assert (answer.status, answer.body) == (201, b"late")


async def test_a_status_changed_through_exc_info_is_the_one_sent():
    def application(environ, start_response):
        start_response("200 OK", [("X", "1")])
        yield b""
        try:
            raise KeyError
        except KeyError:
            start_response("500 Oh", [("Y", "2")], sys.exc_info())
        yield b"sorry"

    answer = await request(WsgiToAsgi(application))
    assert (answer.status, answer.headers, answer.body) == (500, [(b"y", b"2")], b"sorry")


async def test_exc_info_after_the_headers_ends_the_response_with_that_exception():
    def application(environ, start_response):
        start_response("200 OK", [])
        yield b"begun"
        try:
            raise KeyError("culprit")
        except KeyError:
            start_response("500 Oh", [], sys.exc_info())

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    with pytest.raises(KeyError, match="culprit"):
        await exchange.end()
    assert [event.get("body") for event in exchange.sent()] == [None, b"begun"]


@pytest.mark.parametrize("limit", [1, 1000, 64 * 1024])
async def test_the_iteration_pauses_while_too_much_data_waits(limit):
    chunk, chunks = b"x" * 1000, 1000
    in_flight = []

    def application(environ, start_response):
        start_response("200 OK", [])
        for number in range(chunks):
            in_flight.append(number * len(chunk) - exchange.bytes_sent)
            yield chunk

    exchange = Exchange(WsgiToAsgi(application, backpressure=limit)).start().feed()
    await exchange.end()
    assert exchange.bytes_sent == chunks * len(chunk)
    assert max(in_flight) < limit


@pytest.mark.parametrize(("size", "count"), [(1, 20_000), (40, 20_000), (1000, 5000), (65536, 50)])
async def test_queued_chunks_use_at_most_twice_the_limit_including_their_events(size, count):
    limit = 256 * 1024
    most = sent = 0

    def chunks():
        nonlocal most
        for taken in range(count):
            most = max(most, taken - sent)
            yield os.urandom(size)

    async def send(event):
        nonlocal sent
        if event.get("body"):
            await asyncio.to_thread(int)  # slower than the application
            sent += 1

    async def receive():
        return messages.pop() if messages else await asyncio.Future()

    messages = [{"type": "http.request"}]
    await serve(chunks())(http_scope(), receive, send)
    event = {"type": "http.response.body", "body": b"", "more_body": True}
    each = sys.getsizeof(event) + sys.getsizeof((event, 0)) + sys.getsizeof(os.urandom(size))
    assert sent == count
    assert most * each <= 2 * limit


async def test_a_list_larger_than_the_bound_arrives_whole():
    answer = await request(serve([bytes([n]) * 65536 for n in range(32)]))
    assert answer.body == b"".join(bytes([n]) * 65536 for n in range(32))


@pytest.mark.parametrize(
    ("status", "headers", "method"),
    [
        ("200 OK", [], "GET"),
        ("200 OK", [("Content-Length", "3")], "GET"),
        ("200 OK", [], "HEAD"),
        ("204 No Content", [], "GET"),
        ("304 Not Modified", [], "GET"),
    ],
)
async def test_close_is_called_once_on_the_applications_thread(status, headers, method):
    threads = []
    body = Body([b"one", b"two"], on_close=lambda: None)
    await request(serve(body, status, headers, threads), method=method)
    assert body.closed_on == threads
    assert threads[0] is not threading.main_thread()


async def test_close_is_called_when_the_body_raises():
    def chunks():
        yield b"one"
        raise KeyError("culprit")

    body = Body(chunks())
    exchange = Exchange(serve(body)).start().feed()
    with pytest.raises(KeyError, match="culprit"):
        await exchange.end()
    assert len(body.closed_on) == 1
    assert [event.get("body") for event in exchange.sent()] == [None, b"one"]


async def test_an_error_in_close_is_reported():
    def fail():
        raise KeyError("culprit")

    exchange = Exchange(serve(Body([b"one"], on_close=fail))).start().feed()
    with pytest.raises(KeyError, match="culprit"):
        await exchange.end()
    assert exchange.sent()[-1] == {"type": "http.response.body"}


async def test_an_exception_before_the_headers_reaches_the_server():
    def application(environ, start_response):
        start_response("200 OK", [])
        raise KeyError("culprit")

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    with pytest.raises(KeyError, match="culprit"):
        await exchange.end()
    assert exchange.sent() == []


async def test_a_header_that_must_not_be_sent_is_an_error_with_nothing_on_the_wire():
    def application(environ, start_response):
        start_response("200 OK", [("X", "a\r\nSet-Cookie: b")])
        return [b"x"]

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    with pytest.raises(ValueError, match="line break"):
        await exchange.end()
    assert exchange.sent() == []


@pytest.mark.parametrize(
    "error", [StopIteration, SystemExit, GeneratorExit, KeyboardInterrupt, asyncio.CancelledError]
)
@pytest.mark.parametrize("late", [False, True])
async def test_a_base_exception_never_loses_a_request(error, late):
    def raise_it():
        raise error("culprit")

    def application(environ, start_response):
        start_response("200 OK", [])
        if not late:
            raise_it()
        return Body([b"one"], on_close=raise_it)

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    with pytest.raises(RuntimeError, match=f"raised {error.__name__}") as caught:
        await exchange.end()
    assert isinstance(caught.value.__cause__, error)
    assert len(exchange.sent()) == (3 if late else 0)


def endless(closed):
    try:
        while True:
            yield b"x" * 1000
    finally:
        closed.set()


async def test_a_client_that_leaves_stops_an_endless_response():
    closed = threading.Event()
    exchange = Exchange(serve(endless(closed))).start().feed()
    for _ in range(10):
        await exchange.event()
    exchange.disconnect()
    await exchange.end()
    assert closed.is_set()


async def test_a_client_that_leaves_while_it_does_not_read_stops_the_response():
    closed = threading.Event()
    exchange = Exchange(serve(endless(closed))).start().feed()
    await exchange.event()
    exchange.sends_open.clear()
    exchange.send_begun.clear()
    await exchange.send_begun.wait()
    exchange.disconnect()
    assert await asyncio.to_thread(closed.wait, 30)
    exchange.sends_open.set()  # as servers do when the connection is lost
    await exchange.end()


async def test_an_endless_response_that_yields_nothing_is_stopped_too():
    closed = threading.Event()

    def chunks():
        try:
            yield b"begun"
            while True:
                yield b""
        finally:
            closed.set()

    exchange = Exchange(serve(chunks())).start().feed()
    await exchange.event()
    exchange.disconnect()
    await exchange.end()
    assert closed.is_set()


async def test_an_endless_response_does_not_monopolize_the_event_loop():
    closed, disconnected = threading.Event(), asyncio.Event()
    first = [{"type": "http.request"}]

    async def receive():
        if first:
            return first.pop()
        await disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(event):
        pass  # returns at once, as for a fast client

    call = asyncio.create_task(serve(endless(closed))(http_scope(), receive, send))
    await asyncio.sleep(0)
    disconnected.set()
    await call
    assert closed.is_set()


async def test_a_server_learns_that_a_connection_is_lost_before_five_more_chunks():
    """asyncio reports a lost connection in the next turn, and logs the fifth write before that.

    asyncio may have noticed the loss while reading, before the first write of the turn.
    """
    closed, sent, after_the_loss = threading.Event(), [], []

    async def receive():
        return {"type": "http.request"} if not sent else await asyncio.Future()

    async def send(event):
        sent.append(event)
        if len(sent) == 1:
            await asyncio.to_thread(closed.wait)  # until all chunks wait
        # The connection was lost before this write; asyncio reports it in the next turn.
        asyncio.get_running_loop().call_soon(
            lambda n: after_the_loss.append(len(sent) - n), len(sent) - 1
        )

    body = Body([b"x" * 1000] * 100, on_close=closed.set)
    await serve(body)(http_scope(), receive, send)
    await asyncio.sleep(0)
    assert len(sent) == len(after_the_loss) == 102
    assert max(after_the_loss) < 5


async def test_a_send_that_fails_stops_the_response():
    closed = threading.Event()
    exchange = Exchange(serve(endless(closed))).start().feed()
    await exchange.event()
    exchange.send_error = BrokenPipeError("gone")
    await exchange.end()
    assert closed.is_set()


async def test_a_broken_send_is_an_error():
    closed = threading.Event()
    exchange = Exchange(serve(endless(closed))).start().feed()
    await exchange.event()
    exchange.send_error = ZeroDivisionError("broken")
    with pytest.raises(ZeroDivisionError):
        await exchange.end()
    await asyncio.to_thread(closed.wait)


async def test_write_raises_oserror_once_the_client_has_left():
    errors = []

    def application(environ, start_response):
        write = start_response("200 OK", [])
        try:
            while True:
                write(b"x" * 1000)
        except OSError as error:
            errors.append(error)
        return []

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    await exchange.event()
    exchange.disconnect()
    await exchange.end()
    assert "disconnected" in str(errors[0])


async def test_write_after_the_request_is_an_error():
    kept = []

    def application(environ, start_response):
        kept.append(start_response("200 OK", []))
        return []

    await request(WsgiToAsgi(application))
    with pytest.raises(RuntimeError, match="response was complete"):
        kept[0](b"late")


async def test_cancellation_stops_the_response_and_closes_it():
    closed = threading.Event()
    exchange = Exchange(serve(endless(closed))).start().feed()
    await exchange.event()
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.end()
    await asyncio.to_thread(closed.wait)


async def test_cancellation_wakes_an_application_that_reads():
    errors, reading, done = [], asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def application(environ, start_response):
        loop.call_soon_threadsafe(reading.set)
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(error)
        done.set()
        start_response("200 OK", [])
        return []

    exchange = Exchange(WsgiToAsgi(application)).start().feed(b"half", more=True)
    await reading.wait()
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.end()
    await asyncio.to_thread(done.wait)
    assert len(errors) == 1


async def test_a_failure_after_cancellation_is_logged(caplog):
    started, may_fail = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    logged = threading.Event()
    caplog.handler.addFilter(lambda record: logged.set() or True)

    def application(environ, start_response):
        loop.call_soon_threadsafe(started.set)
        may_fail.wait()
        raise KeyError("culprit")

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    await started.wait()
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.end()
    may_fail.set()
    await asyncio.to_thread(logged.wait)
    assert "failed after its call was cancelled" in caplog.text
    assert "culprit" in caplog.text


async def test_receive_and_send_are_awaited_in_the_request_s_own_task():
    exchange = Exchange(serve(iter([b"a", b"b"]))).start().feed()
    await exchange.end()
    assert exchange.tasks_of_send == {exchange.task}


async def test_receive_is_not_awaited_when_the_call_is_over():
    may_end = threading.Event()

    def application(environ, start_response):
        start_response("200 OK", [])
        yield b"one"
        may_end.wait()

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    while exchange.receives < 2:  # by the watch for a client that leaves
        await exchange.event() if not exchange.events.empty() else await asyncio.sleep(0)
    may_end.set()
    await exchange.end()
    exchange.feed(b"for somebody else")
    assert exchange.inbox.qsize() == 1


async def test_the_call_ends_after_a_receive_that_is_slow_to_be_cancelled():
    receiving, ended = threading.Event(), False
    messages = [{"type": "http.request"}]

    def chunks():
        yield b"first"
        receiving.wait()

    async def receive():
        nonlocal ended
        if messages:
            return messages.pop()
        receiving.set()
        try:
            await asyncio.Future()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended = True

    async def send(event):
        pass

    await serve(chunks())(http_scope(), receive, send)
    assert ended


async def test_a_receive_that_repeats_itself_does_not_hold_up_the_loop():
    async def receive():
        return {"type": "http.request"}

    events = []

    async def send(event):
        events.append(event)

    def application(environ, start_response):
        start_response("200 OK", [])
        for number in range(50):
            yield b"%d" % number

    await WsgiToAsgi(application)(http_scope(), receive, send)
    assert len(events) == 52


async def test_a_file_is_sent_from_its_current_position():
    file = io.BytesIO(b"0123456789")
    file.seek(2)

    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "6")])
        return environ["wsgi.file_wrapper"](file, 4)

    answer = await request(WsgiToAsgi(application))
    assert answer.body == b"234567"
    assert file.closed


async def test_a_real_file_is_sent_and_closed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4000)
    files = []

    def application(environ, start_response):
        files.append(path.open("rb"))
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](files[0])

    answer = await request(WsgiToAsgi(application))
    assert answer.body == path.read_bytes()
    assert files[0].closed


async def test_the_wrapper_of_a_file_without_close_has_no_close():
    class Endless:
        def read(self, size):
            return b"x" * size

    def application(environ, start_response):
        wrapper = environ["wsgi.file_wrapper"](Endless())
        assert not hasattr(wrapper, "close")
        start_response("200 OK", [("Content-Length", "100000")])
        return wrapper

    answer = await request(WsgiToAsgi(application))
    assert answer.body == b"x" * 100_000
