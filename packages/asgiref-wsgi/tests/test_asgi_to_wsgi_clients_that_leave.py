"""Responses that a WSGI server abandons, and clients that leave."""

import asyncio
import gc
import io
import logging
import threading

import pytest
from wsgi_caller import START, Request, answer_with, call, make_environ, read_body

from asgiref.wsgi import AsgiToWsgi


def chunk(data=b"x"):
    return {"type": "http.response.body", "body": data, "more_body": True}


def adapt(application, **options):
    return AsgiToWsgi(application, lifespan="off", **options)


class Site:
    """Streams without end until an event stops it; records the events."""

    def __init__(self, *, ignores_disconnect=False):
        self.ignores_disconnect = ignores_disconnect
        self.events = []
        self.error = None
        self.ended = threading.Event()

    async def __call__(self, scope, receive, send):
        self.task = asyncio.current_task()
        self.task.add_done_callback(lambda _: self.ended.set())
        try:
            await read_body(receive)
            await send(START)
            await send(chunk(b"one"))
            self.events.append(await receive())
            if self.ignores_disconnect:
                await asyncio.Event().wait()
        except BaseException as error:
            self.error = error
            raise


def test_receive_after_the_body_waits_until_the_server_closes_the_response():
    site = Site()
    request = Request(adapt(site), make_environ(b"hello")).open()
    assert request.next() == b"one"
    assert site.events == []
    request.close()
    assert site.ended.wait(30)
    assert site.events == [{"type": "http.disconnect"}]


def test_receive_after_the_body_waits_until_the_response_ends():
    events = []

    async def application(scope, receive, send):
        await read_body(receive)
        waiting = asyncio.create_task(receive())
        for _ in range(10):
            await asyncio.sleep(0)
            assert not waiting.done()
        await answer_with(send, b"one", b"two")
        events.append(await waiting)

    assert call(adapt(application), b"hello").body == b"onetwo"
    call(adapt(Site().__call__), REQUEST_METHOD="HEAD")  # later on the same loop
    assert events == [{"type": "http.disconnect"}]


def test_a_stream_that_listens_for_a_disconnect_does_not_end_early():
    async def application(scope, receive, send):
        async def listen():
            while (await receive())["type"] != "http.disconnect":
                pass

        listener = asyncio.create_task(listen())
        await send(START)
        for number in range(10):
            await asyncio.sleep(0)
            assert not listener.done()
            await send(chunk(b"%d" % number))
        await send({"type": "http.response.body"})
        await listener

    assert call(adapt(application), b"hello").body == b"0123456789"


def test_an_abandoned_application_that_keeps_running_is_cancelled():
    site = Site(ignores_disconnect=True)
    request = Request(adapt(site, disconnect_timeout=0)).open()
    request.next()
    request.close()
    assert site.ended.wait(30)
    assert site.events == [{"type": "http.disconnect"}]
    assert isinstance(site.error, asyncio.CancelledError)


def test_sending_to_a_client_that_left_is_an_oserror():
    errors, ended = [], threading.Event()

    async def application(scope, receive, send):
        await send(START)
        await send(chunk())
        await receive()
        await receive()
        try:
            await send(chunk())
        except OSError as error:
            errors.append(error)
        ended.set()

    request = Request(adapt(application)).open()
    request.close()
    assert ended.wait(30)
    assert len(errors) == 1


def test_an_application_that_waits_for_room_is_released():
    ended = threading.Event()

    async def application(scope, receive, send):
        try:
            await send(START)
            while True:
                await send(chunk(b"x" * 100_000))
        except OSError:
            ended.set()

    request = Request(adapt(application)).open()
    request.next()
    request.close()
    assert ended.wait(30)


def test_closing_twice_or_after_the_end_does_nothing():
    async def application(scope, receive, send):
        await answer_with(send, b"one", b"two")

    request = Request(adapt(application)).open()
    assert request.finish() == b"onetwo"
    request.close()
    with pytest.raises(StopIteration):
        request.next()


def test_a_response_that_middleware_forgets_to_close_is_abandoned():
    site = Site()
    request = Request(adapt(site)).open()
    request.next()
    del request
    gc.collect()
    assert site.ended.wait(30)


def test_a_start_response_that_raises_stops_the_application():
    site = Site()

    def start_response(status, headers, exc_info=None):
        raise AssertionError("the server's")

    with pytest.raises(AssertionError, match="the server's"):
        adapt(site)(make_environ(), start_response)
    assert site.ended.wait(30)


def test_an_exception_from_the_server_while_it_waits_stops_the_application():
    class Timeout(BaseException):
        pass

    site = Site()

    class Stream(io.BytesIO):
        def read(self, size=-1):
            raise Timeout

    environ = make_environ(CONTENT_LENGTH="5", **{"wsgi.input": Stream()})
    with pytest.raises(Timeout):
        Request(adapt(site), environ).open()
    assert site.ended.wait(30)


def test_leaving_clients_are_not_errors_in_the_log(caplog):
    class FrameworkError(Exception):
        pass

    ended = threading.Event()

    async def application(scope, receive, send):
        asyncio.current_task().add_done_callback(lambda _: ended.set())
        await send(START)
        await send(chunk())
        await receive()
        await receive()
        try:
            await send(chunk())
        except OSError:
            raise FrameworkError from None

    with caplog.at_level(logging.DEBUG):
        request = Request(adapt(application)).open()
        request.close()
        assert ended.wait(30)
    assert caplog.records == []


def test_a_failure_after_the_client_has_left_is_logged(caplog):
    ended = threading.Event()

    async def application(scope, receive, send):
        asyncio.current_task().add_done_callback(lambda _: ended.set())
        await send(START)
        await send(chunk())
        await receive()
        await receive()
        raise KeyError("culprit")

    request = Request(adapt(application)).open()
    request.close()
    assert ended.wait(30)
    assert "culprit" in caplog.text


@pytest.mark.parametrize("key", ["waitress.client_disconnected", "asgiref.client_connected"])
def test_a_server_that_can_detect_the_disconnect_ends_an_idle_response(key, monkeypatch):
    monkeypatch.setattr("asgiref.wsgi._to_wsgi.response.CHECK_INTERVAL", 0.001)
    looks = []

    def has_left():
        looks.append(1)
        return (len(looks) > 3) == (key == "waitress.client_disconnected")

    site = Site()
    request = Request(adapt(site), make_environ(**{key: has_left})).open()
    request.next()
    with pytest.raises(OSError, match="the client has left"):
        request.next()
    assert site.ended.wait(30)
    assert len(looks) == 4
