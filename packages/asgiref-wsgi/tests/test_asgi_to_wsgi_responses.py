"""The response of an ASGI application under a WSGI server: order, limits, rules, errors."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from wsgiref.util import FileWrapper

import pytest
from wsgi_caller import START, Request, answer_with, call, make_environ

from asgiref.wsgi import AsgiToWsgi


def adapt(application, **options):
    return AsgiToWsgi(application, lifespan="off", **options)


def body(chunk=b"", more=False):
    return {"type": "http.response.body", "body": chunk, "more_body": more}


def test_a_response_in_one_piece():
    async def application(scope, receive, send):
        headers = [(b"content-type", b"text/plain"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send(body(b"hello"))

    answer = call(adapt(application))
    assert (answer.status, answer.body) == ("201 Created", b"hello")
    expected = [("Content-Type", "text/plain"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
    assert answer.headers == expected


def test_each_chunk_leaves_when_it_is_sent():
    taken = [threading.Event(), threading.Event()]

    async def application(scope, receive, send):
        await send(START)
        await send(body(b"one", True))
        await asyncio.to_thread(taken[0].wait)
        await send(body(b"two", True))
        await asyncio.to_thread(taken[1].wait)
        await send(body())

    request = Request(adapt(application)).open()
    for event, expected in zip(taken, [b"one", b"two"], strict=True):
        assert request.next() == expected
        event.set()
    assert request.finish() == b""


def test_a_complete_response_does_not_wait_for_the_application_to_end():
    may_end = threading.Event()
    has_ended = threading.Event()

    async def application(scope, receive, send):
        await answer_with(send, b"done")
        await asyncio.to_thread(may_end.wait)
        has_ended.set()

    assert call(adapt(application)).body == b"done"
    may_end.set()
    assert has_ended.wait(30)


@pytest.mark.parametrize("limit", [1, 10_000, 262_144])
def test_the_part_of_a_response_that_waits_for_the_server_is_bounded(limit):
    chunk, sent, may_take = b"x" * 1000, [], threading.Event()

    async def application(scope, receive, send):
        await send(START)
        for number in range(2000):
            await send(body(chunk, True))
            sent.append(number)
        await send(body())

    adapted = adapt(application, backpressure=limit)
    request = Request(adapted).open()

    async def other(scope, receive, send):
        # The loop is idle apart from this request, so the other one waits in `send` by now.
        for _ in range(3000):
            await asyncio.sleep(0)
        await answer_with(send, b"%d" % len(sent))

    waiting = int(call(adapt(other)).body) * (len(chunk) + 400)
    assert waiting <= limit + len(chunk) + 400
    may_take.set()
    assert request.finish() == chunk * 2000


def test_many_small_chunks_arrive_in_order():
    async def application(scope, receive, send):
        await send(START)
        for number in range(5000):
            await send(body(b"%d\n" % number, True))
        await send(body())

    expected = b"".join(b"%d\n" % number for number in range(5000))
    assert call(adapt(application)).body == expected


def test_a_fast_response_lets_other_requests_run():
    is_served = threading.Event()

    async def endless(scope, receive, send):
        await send(START)
        while not is_served.is_set():
            await send(body(b"x", True))
        await send(body())

    async def other(scope, receive, send):
        await answer_with(send, b"served")

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call, adapt(endless))
        assert call(adapt(other)).body == b"served"
        is_served.set()
        answer.result(30)


def test_requests_run_concurrently_on_one_loop():
    loops, meeting = [], []

    async def application(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        if not meeting:
            meeting.append(asyncio.Barrier(20))
        await meeting[0].wait()
        await answer_with(send, b"met")

    adapted = adapt(application)
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(call, adapted) for _ in range(20)]
        assert {answer.result(30).body for answer in answers} == {b"met"}
    assert len(set(loops)) == 1


# Rules of HTTP and WSGI


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("chunks", [(), (b"one", b"two")])
def test_a_response_that_must_not_have_a_body_has_none(method, status, chunks):
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"6"), (b"etag", b"1")]

    async def application(scope, receive, send):
        await answer_with(send, *chunks, status=status, headers=headers)

    answer = call(adapt(application), REQUEST_METHOD=method)
    assert answer.body == b""
    names = {name for name, _ in answer.headers}
    assert (
        names
        == {
            200: {"Content-Type", "Content-Length", "Etag"},
            204: {"Etag"},
            304: {"Content-Length", "Etag"},
        }[status]
    )


def test_an_endless_answer_to_head_is_stopped():
    has_ended = threading.Event()

    async def application(scope, receive, send):
        try:
            await send(START)
            while True:
                await send(body(b"x", True))
                await asyncio.sleep(0)
        finally:
            has_ended.set()

    assert call(adapt(application, disconnect_timeout=0), REQUEST_METHOD="HEAD").body == b""
    assert has_ended.wait(30)


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 200), ("HEAD", 200), ("GET", 204), ("GET", 304)]
)
@pytest.mark.parametrize("chunks", [(), (b"one", b"two")])
def test_work_after_a_complete_response_is_not_cancelled(method, status, chunks):
    has_ended = threading.Event()

    async def application(scope, receive, send):
        await answer_with(send, *chunks, status=status)
        for _ in range(10):  # the timer of a stopped application would expire meanwhile
            await asyncio.sleep(0)
        has_ended.set()

    call(adapt(application, disconnect_timeout=0), validate=False, REQUEST_METHOD=method)
    assert has_ended.wait(30)


def test_work_after_a_complete_response_outlives_a_client_that_leaves():
    is_sent, may_continue, has_ended = (threading.Event() for _ in range(3))

    async def application(scope, receive, send):
        await answer_with(send, b"one", b"two")
        is_sent.set()
        await asyncio.to_thread(may_continue.wait)
        for _ in range(10):
            await asyncio.sleep(0)
        has_ended.set()

    request = Request(adapt(application, disconnect_timeout=0)).open()
    assert is_sent.wait(30)
    request.close()
    may_continue.set()
    assert has_ended.wait(30)


def test_headers_of_the_connection_are_dropped():
    async def application(scope, receive, send):
        headers = [(b"Connection", b"close"), (b"transfer-encoding", b"chunked"), (b"x", b" y ")]
        await answer_with(send, b"1", headers=headers)

    assert call(adapt(application), validate=False).headers == [("X", "y")]


def test_trailers_and_early_hints_are_ignored():
    async def application(scope, receive, send):
        await send({"type": "http.response.early_hint", "links": [b"</x>"]})
        await send(START | {"trailers": True})
        await send(body(b"hello"))
        await send({"type": "http.response.trailers", "headers": [(b"a", b"b")]})

    assert call(adapt(application)).body == b"hello"


def test_a_file_is_sent_through_the_servers_wrapper(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"contents" * 1000)

    async def application(scope, receive, send):
        assert "http.response.pathsend" in scope["extensions"]
        await send(START)
        await send({"type": "http.response.pathsend", "path": str(path)})

    environ = make_environ(**{"wsgi.file_wrapper": FileWrapper})
    request = Request(adapt(application), environ).open()
    assert type(request.body) is FileWrapper
    assert request.finish() == b"contents" * 1000


def test_a_file_that_is_not_there_is_a_500():
    async def application(scope, receive, send):
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/nowhere/at all"})

    answer = call(adapt(application))
    assert answer.status == "500 Internal Server Error"
    assert isinstance(answer.exc_info[1], FileNotFoundError)


@pytest.mark.parametrize(
    "header",
    [(b"a b", b""), (b"", b""), (b"x", b"a\nb"), (b"x", b"a\0"), (b"content-length", b"-1")],
)
def test_a_header_that_must_not_be_sent_is_an_application_error(header):
    async def application(scope, receive, send):
        with pytest.raises(ValueError, match="header"):
            await send(START | {"headers": [header]})
        await answer_with(send, b"caught")

    assert call(adapt(application)).body == b"caught"


@pytest.mark.parametrize("chunk", [b"x" * 4, b"x" * 6])
def test_a_response_has_exactly_its_content_length(chunk):
    async def application(scope, receive, send):
        await send(START | {"headers": [(b"content-length", b"5")]})
        await send(body(b"", True))
        await send(body(chunk))

    answer = call(adapt(application), validate=False)
    assert answer.status == "500 Internal Server Error"
    assert "than its Content-Length" in str(answer.exc_info[1])


# Errors


class Group(BaseExceptionGroup):
    pass


ERRORS = [
    KeyError("culprit"),
    SystemExit("culprit"),
    KeyboardInterrupt("culprit"),
    asyncio.CancelledError("culprit"),
    BaseExceptionGroup("culprit", [KeyboardInterrupt()]),
    ExceptionGroup("culprit", [KeyError()]),
    GeneratorExit("culprit"),
    StopAsyncIteration("culprit"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_before_the_headers_is_a_500_with_exc_info(error, caplog):
    async def application(scope, receive, send):
        await send(START)
        raise error

    adapted = adapt(application)
    answer = call(adapted)
    assert (answer.status, answer.body) == ("500 Internal Server Error", b"Internal Server Error")
    shown = answer.exc_info[1]
    assert isinstance(shown, Exception)
    assert "culprit" in str(shown)
    assert shown is error or shown.__cause__ is error
    assert "The ASGI application failed" in caplog.text
    assert call(adapted).status == "500 Internal Server Error"  # the loop keeps running


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_after_the_headers_cuts_the_response_off(error):
    async def application(scope, receive, send):
        await send(START)
        await send(body(b"one", True))
        raise error

    request = Request(adapt(application)).open()
    assert request.next() == b"one"
    with pytest.raises(Exception, match="culprit") as caught:
        request.next()
    assert caught.value is error or caught.value.__cause__ is error
    request.close()


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_an_application_that_returns_too_early_is_an_error(chunks):
    async def application(scope, receive, send):
        for event in [START, body(b"one", True)][:chunks]:
            await send(event)

    request = Request(adapt(application)).open()
    if chunks < 2:
        assert request.finish() == b"Internal Server Error"
        assert "returned, but" in str(request.exc_info[1])
    else:
        assert request.next() == b"one"
        with pytest.raises(RuntimeError, match="returned, but"):
            request.next()


def test_events_in_the_wrong_order_are_application_errors():
    errors = []

    async def application(scope, receive, send):
        for event in [body(), START, START, {"type": "websocket.send"}, body(b"1"), body(b"2")]:
            try:
                await send(event)
            except Exception as error:
                errors.append(type(error))

    assert call(adapt(application)).body == b"1"

    async def wait(scope, receive, send):
        await answer_with(send)

    call(adapt(wait))  # the first has ended, because the loop runs tasks in order
    assert errors == [RuntimeError, RuntimeError, ValueError, RuntimeError]


def test_a_task_that_exits_does_not_end_the_loop(caplog):
    async def leave():
        raise SystemExit("a task's")

    async def application(scope, receive, send):
        task = asyncio.get_running_loop().create_task(leave())
        await asyncio.wait([task])
        assert isinstance(task.exception(), SystemExit)
        await answer_with(send, b"alive")

    with caplog.at_level(logging.ERROR):
        assert call(adapt(application)).body == b"alive"
    assert "A task on the event loop of AsgiToWsgi failed" in caplog.text


def test_an_error_after_the_response_is_logged(caplog):
    has_failed = threading.Event()

    async def application(scope, receive, send):
        await answer_with(send, b"done")
        asyncio.current_task().add_done_callback(lambda _: has_failed.set())
        raise KeyError("culprit")

    assert call(adapt(application)).body == b"done"
    assert has_failed.wait(30)
    assert "The application failed after its response" in caplog.text
    assert "culprit" in caplog.text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"lifespan": "maybe"}, "lifespan must be"),
        ({"backpressure": 0}, "backpressure must be"),
        ({"disconnect_timeout": -1}, "disconnect_timeout must be"),
        ({"shutdown_timeout": float("nan")}, "shutdown_timeout must be"),
    ],
)
def test_invalid_options_are_rejected(options, error):
    async def application(scope, receive, send): ...

    with pytest.raises(ValueError, match=error):
        AsgiToWsgi(application, **options)


def test_an_application_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="must be callable"):
        AsgiToWsgi("module:application")
