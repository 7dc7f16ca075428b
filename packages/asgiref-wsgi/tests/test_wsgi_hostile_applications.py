"""An application cannot lose a request, worker or client with its exceptions or results."""

import asyncio
import threading

import pytest
from hostile import BASE_EXCEPTIONS, EXCEPTIONS, HostileBytes, HostileStr
from wsgi_client import Exchange, http_scope, request

from asgiref.wsgi import WsgiToAsgi

pytestmark = pytest.mark.asyncio


class Body:
    def __init__(self, chunks=(), on_close=lambda: None):
        self.chunks = chunks
        self.close = on_close

    def __iter__(self):
        return iter(self.chunks)


def raising(error):
    raise error


def raising_body(error):
    yield b"begun"
    raise error


def at_the_call(error):
    def application(environ, start_response):
        raise error

    return application


def after_start_response(error):
    def application(environ, start_response):
        start_response("200 OK", [])
        raise error

    return application


def at_a_chunk(error):
    def application(environ, start_response):
        start_response("200 OK", [])
        return raising_body(error)

    return application


def at_iter(error):
    class Iterable:
        def __iter__(self):
            raise error

    def application(environ, start_response):
        start_response("200 OK", [])
        return Iterable()

    return application


def at_close(error):
    def application(environ, start_response):
        start_response("200 OK", [])
        return Body([b"whole"], lambda: raising(error))

    return application


def through_exc_info(error):
    def application(environ, start_response):
        start_response("200 OK", [])(b"begun")
        start_response("500 Oh", [], (type(error), error, None))

    return application


def hello(environ, start_response):
    start_response("200 OK", [])
    return [b"Hello"]


async def outcome_of(application, adapter):
    """Return the call's exception and events; check that the only worker is free afterwards."""
    adapter.wsgi_application = application
    exchange = Exchange(adapter).start().feed()
    [outcome] = await asyncio.gather(exchange.task, return_exceptions=True)
    adapter.wsgi_application = hello
    assert (await request(adapter)).body == b"Hello"
    return outcome, exchange.sent()


PLACES = [at_the_call, after_start_response, at_a_chunk, at_iter, at_close, through_exc_info]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", EXCEPTIONS.values(), ids=EXCEPTIONS)
async def test_an_exception_reaches_the_server_and_no_worker_is_lost(place, error):
    outcome, events = await outcome_of(place(error), WsgiToAsgi(hello, workers=1))
    assert outcome is error
    if place is at_close:
        assert events[-1] == {"type": "http.response.body"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", BASE_EXCEPTIONS.values(), ids=BASE_EXCEPTIONS)
async def test_a_base_exception_becomes_an_exception(place, error):
    outcome, _ = await outcome_of(place(error), WsgiToAsgi(hello, workers=1))
    if place is at_a_chunk and isinstance(error, StopIteration):
        assert isinstance(outcome, RuntimeError)  # raised by Python for a generator
    else:
        assert type(outcome) is RuntimeError
        assert outcome.__cause__ is error


@pytest.mark.parametrize("error", EXCEPTIONS.values(), ids=EXCEPTIONS)
async def test_an_exception_after_cancellation_is_logged(error, caplog):
    started, may_fail, logged = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    caplog.handler.addFilter(lambda record: logged.set() or True)

    def application(environ, start_response):
        loop.call_soon_threadsafe(started.set)
        may_fail.wait()
        raise error

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    await started.wait()
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.end()
    may_fail.set()
    await asyncio.to_thread(logged.wait)
    assert caplog.records[0].exc_info[1] is error


async def test_a_type_error_from_iter_is_not_hidden():
    outcome, _ = await outcome_of(at_iter(TypeError("culprit")), WsgiToAsgi(hello))
    assert str(outcome) == "culprit"


async def test_a_str_subclass_counts_as_its_characters():
    def application(environ, start_response):
        start_response(
            HostileStr("201 Created"),
            [
                (HostileStr("X-Name"), HostileStr("value")),
                (HostileStr("Content-Length"), HostileStr("5")),
                (HostileStr("Connection"), HostileStr("close")),
            ],
        )
        return [b"Hello"]

    answer = await request(WsgiToAsgi(application))
    assert answer.status == 201
    assert answer.headers == [(b"x-name", b"value"), (b"content-length", b"5")]
    assert {type(text) for pair in answer.headers for text in pair} == {bytes}


async def test_a_bytes_subclass_counts_as_its_bytes():
    answer = await request(WsgiToAsgi(lambda e, s: (s("200 OK", []), [HostileBytes(b"Hello")])[1]))
    assert answer.body == b"Hello"
    assert {type(event.get("body", b"")) for event in answer.events} == {bytes}


@pytest.mark.parametrize("wrong", [None, 1, object(), "text", ["text"], [None], [[b"x"]], b"bytes"])
async def test_a_wrong_result_is_an_error_with_nothing_sent(wrong):
    def application(environ, start_response):
        start_response("200 OK", [])
        return wrong

    outcome, events = await outcome_of(application, WsgiToAsgi(hello, workers=1))
    assert isinstance(outcome, TypeError)
    assert events == []


async def test_a_close_that_blocks_delays_neither_the_client_nor_other_requests():
    closing, may_close = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def close():
        loop.call_soon_threadsafe(closing.set)
        may_close.wait()

    def application(environ, start_response):
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/blocks":
            return Body([b"whole"], close)
        return [b"Hello"]

    adapter = WsgiToAsgi(application, workers=2)
    exchange = Exchange(adapter, http_scope(path="/blocks")).start().feed()
    events = [await exchange.event() for _ in range(3)]
    assert events[-1] == {"type": "http.response.body"}
    await closing.wait()
    assert (await request(adapter)).body == b"Hello"
    exchange.task.cancel()  # as a server does when it shuts down
    with pytest.raises(asyncio.CancelledError):
        await exchange.end()
    may_close.set()


@pytest.mark.parametrize("attribute", ["missing", "property", "not callable"])
async def test_a_close_that_is_none_loses_nothing(attribute):
    class Iterable:
        def __iter__(self):
            return iter([b"whole"])

    if attribute == "property":
        Iterable.close = property(lambda self: raising(LookupError("culprit")))
    elif attribute == "not callable":
        Iterable.close = 3

    def application(environ, start_response):
        start_response("200 OK", [])
        return Iterable()

    outcome, events = await outcome_of(application, WsgiToAsgi(hello, workers=1))
    assert isinstance(
        outcome, {"missing": type(None), "property": LookupError}.get(attribute, TypeError)
    )
    assert events[1]["body"] == b"whole"


HOP_BY_HOP = ["Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade"]


@pytest.mark.parametrize("name", HOP_BY_HOP)
@pytest.mark.parametrize("form", [str, str.lower, str.upper])
async def test_a_connection_header_is_dropped_with_one_warning(name, form, caplog):
    def application(environ, start_response):
        start_response("200 OK", [(form(name), "chunked"), ("X-Other", "kept")])
        return [b"Hello"]

    adapter = WsgiToAsgi(application)
    for _ in range(3):
        answer = await request(adapter)
        assert (answer.status, answer.headers, answer.body) == (
            200,
            [(b"x-other", b"kept")],
            b"Hello",
        )
    [record] = caplog.records
    assert form(name) in record.getMessage()
    assert (record.name, record.levelname) == ("asgiref.wsgi", "WARNING")


async def test_each_name_gets_its_own_warning(caplog):
    def application(environ, start_response):
        start_response("200 OK", [(name, "x") for name in HOP_BY_HOP])
        return []

    adapter = WsgiToAsgi(application)
    await asyncio.gather(*(request(adapter) for _ in range(20)))
    assert len(caplog.records) == len(HOP_BY_HOP)
