"""The request of an ASGI application under a WSGI server: scope, body, context."""

import asyncio
import contextvars
import io
import threading

import pytest
from wsgi_caller import Request, answer_with, call, make_environ, read_body

from asgiref.wsgi import AsgiToWsgi


def scope_of(body=b"", **changes):
    """The scope that an application gets for this environ."""
    scopes = []

    async def application(scope, receive, send):
        scopes.append(scope)
        await read_body(receive)
        await answer_with(send, b"ok")

    request = Request(AsgiToWsgi(application, lifespan="off"), make_environ(body, **changes))
    assert request.open().finish() == b"ok"
    return scopes[0]


def test_the_scope_matches_the_environ():
    scope = scope_of(
        b"hello",
        REQUEST_METHOD="POST",
        SCRIPT_NAME="/app",
        PATH_INFO="/caf\xc3\xa9",
        QUERY_STRING="a=%20",
        REQUEST_URI="/app/caf%C3%A9?a=%20",
        REMOTE_ADDR="10.0.0.1",
        REMOTE_PORT="5000",
        **{"wsgi.url_scheme": "https"},
    )
    environ = scope.pop("wsgi.environ")
    assert environ["PATH_INFO"] == "/caf\xc3\xa9"
    del scope["headers"]
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/app/café",
        "raw_path": b"/app/caf%C3%A9",
        "query_string": b"a=%20",
        "root_path": "/app",
        "client": ("10.0.0.1", 5000),
        "server": ("testserver", 80),
        "extensions": {},
    }


def test_headers_keep_their_values():
    headers = scope_of(
        b"hello", CONTENT_TYPE="text/plain", HTTP_X_TWICE="1,2", HTTP_COOKIE="a=b; c=\xe9"
    )["headers"]
    assert sorted(headers) == [
        (b"content-length", b"5"),
        (b"content-type", b"text/plain"),
        (b"cookie", b"a=b; c=\xe9"),
        (b"host", b"testserver"),
        (b"x-twice", b"1,2"),
    ]


def test_no_header_poses_as_another():
    headers = dict(
        scope_of(
            b"hello",
            HTTP_CONTENT_LENGTH="100",
            HTTP_CONTENT_TYPE="text/html",
            **{"HTTP_X-USER": "root", "HTTP_x_user": "root", "HTTP_A\nB": "1"},
        )["headers"]
    )
    assert headers == {b"host": b"testserver", b"content-length": b"5"}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/a%2Fb/c%7E?x=/", b"/a%2Fb/c%7E"),
        ("http://other/a%2Fb/c%7E", b"/a%2Fb/c%7E"),
        ("/rewritten", b"/a/b/c~"),
        (None, b"/a/b/c~"),
    ],
)
def test_raw_path_is_the_request_uri_if_that_matches_the_path(uri, expected):
    changes = {} if uri is None else {"REQUEST_URI": uri}
    scope = scope_of(SCRIPT_NAME="/a", PATH_INFO="/b/c~", **changes)
    assert (scope["raw_path"], scope["path"]) == (expected, "/a/b/c~")


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [("HTTP/1.0", "1.0"), ("HTTP/2.0", "2"), ("HTTP/2", "2"), ("HTTP/3", "3")],
)
def test_the_http_version(protocol, expected):
    assert scope_of(SERVER_PROTOCOL=protocol)["http_version"] == expected


def test_a_client_and_a_server_without_an_address():
    environ = make_environ(SERVER_PORT="", REMOTE_ADDR="", SERVER_NAME="/run/socket")
    scopes = []

    async def application(scope, receive, send):
        scopes.append(scope)
        await answer_with(send)

    Request(AsgiToWsgi(application, lifespan="off"), environ).open().finish()
    assert (scopes[0]["client"], scopes[0]["server"]) == (None, ("/run/socket", None))


# The body


async def echo(scope, receive, send):
    await answer_with(send, await read_body(receive))


class Input(io.BytesIO):
    """A stream that counts the bytes read from it."""

    count = 0
    largest = 0

    def read(self, size=-1):
        assert size > 0
        self.largest = max(self.largest, size)
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_body_is_read_up_to_its_length_in_bounded_chunks():
    body = bytes(range(256)) * 1024
    stream = Input(body + b"the next request")
    answer = call(AsgiToWsgi(echo), CONTENT_LENGTH=str(len(body)), **{"wsgi.input": stream})
    assert answer.body == body
    assert stream.count == len(body)
    assert stream.largest <= 131072


def test_a_body_without_a_length_is_read_to_its_end_if_the_server_marks_the_end():
    environ = {"wsgi.input": io.BytesIO(b"x" * 100_000), "wsgi.input_terminated": True}
    answer = call(AsgiToWsgi(echo), HTTP_TRANSFER_ENCODING="chunked", **environ)
    assert answer.body == b"x" * 100_000


def test_a_body_whose_end_cannot_be_known_is_answered_with_411():
    stream = Input(b"5\r\nhello\r\n0\r\n\r\n")
    answer = call(AsgiToWsgi(echo), HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input": stream})
    assert (answer.status, stream.count) == ("411 Length Required", 0)


@pytest.mark.parametrize("length", ["-1", "+5", "5x", "5,5", "\xb2", "9" * 30])
def test_a_content_length_that_is_not_a_number_is_answered_with_400(length):
    answer = call(AsgiToWsgi(echo), validate=False, CONTENT_LENGTH=length)
    assert (answer.status, answer.body) == ("400 Bad Request", b"Content-Length is not a number")


def test_a_request_without_a_body_does_not_touch_the_input():
    stream = Input(b"the next request")
    assert call(AsgiToWsgi(echo), **{"wsgi.input": stream}).body == b""
    assert stream.count == 0


def test_a_body_is_read_only_when_the_application_wants_it():
    class Untouchable:
        def read(self, size):
            raise AssertionError("nothing has asked for the body")

    async def refuse(scope, receive, send):
        await answer_with(send, b"no", status=413)

    answer = call(
        AsgiToWsgi(refuse), validate=False, CONTENT_LENGTH="5", **{"wsgi.input": Untouchable()}
    )
    assert (answer.status[:3], answer.body) == ("413", b"no")


def test_the_body_is_read_on_the_servers_thread():
    threads = set()

    class Stream(io.BytesIO):
        def read(self, size=-1):
            threads.add(threading.current_thread())
            return super().read(size)

    call(AsgiToWsgi(echo), CONTENT_LENGTH="5", **{"wsgi.input": Stream(b"hello")})
    assert threads == {threading.current_thread()}


def test_a_chunk_is_kept_for_the_next_receive_if_one_was_cancelled():
    may_read = threading.Event()

    class Stream(io.BytesIO):
        def read(self, size=-1):
            may_read.wait()
            return super().read(size)

    async def application(scope, receive, send):
        first = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        first.cancel()
        may_read.set()
        await answer_with(send, await read_body(receive))

    environ = {"wsgi.input": Stream(b"hello"), "CONTENT_LENGTH": "5"}
    assert call(AsgiToWsgi(application, lifespan="off"), **environ).body == b"hello"


def test_request_and_response_bodies_can_alternate():
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            event = await receive()
            more = event["more_body"]
            await send({"type": "http.response.body", "body": event["body"], "more_body": more})

    body = bytes(range(256)) * 2048
    request = Request(AsgiToWsgi(application, lifespan="off"), make_environ(body))
    assert request.open().finish() == body


def test_a_chunk_of_the_response_does_not_wait_for_the_rest_of_the_request():
    has_asked = threading.Event()

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ready", "more_body": True})
        upload = asyncio.create_task(read_body(receive))
        await asyncio.sleep(0)
        has_asked.set()
        await send({"type": "http.response.body", "body": await upload})

    stream = Input(b"hello")
    environ = make_environ(CONTENT_LENGTH="5", **{"wsgi.input": stream})
    request = Request(AsgiToWsgi(application, lifespan="off"), environ).open()
    assert has_asked.wait(30)
    # A client may send the rest only after it has received this chunk.
    assert (request.next(), stream.count) == (b"ready", 0)
    assert request.finish() == b"hello"


def test_a_body_that_breaks_off_is_a_disconnect_and_an_error_for_the_server():
    events, ended = [], threading.Event()

    async def application(scope, receive, send):
        while not events or events[-1] != "http.disconnect":
            events.append((await receive())["type"])
        ended.set()

    environ = make_environ(CONTENT_LENGTH="10", **{"wsgi.input": io.BytesIO(b"hello")})
    with pytest.raises(OSError, match="5 bytes of the request's body did not arrive"):
        Request(AsgiToWsgi(application, lifespan="off"), environ).open()
    assert ended.wait(30)
    assert events == ["http.request", "http.disconnect"]


def test_an_exception_from_the_input_reaches_the_server():
    class Broken:
        def read(self, size):
            raise KeyError("culprit")

    environ = make_environ(CONTENT_LENGTH="10", **{"wsgi.input": Broken()})
    with pytest.raises(KeyError, match="culprit"):
        Request(AsgiToWsgi(echo), environ).open()


# Context variables

variable = contextvars.ContextVar("variable", default="nothing")


def test_context_variables_from_wsgi_middleware_are_visible():
    async def application(scope, receive, send):
        seen = variable.get()
        variable.set("the application's")
        await answer_with(send, seen.encode())

    adapted = AsgiToWsgi(application, lifespan="off")

    def middleware(environ, start_response):
        variable.set("the middleware's")
        return adapted(environ, start_response)

    answer = contextvars.copy_context().run(call, middleware)
    assert answer.body == b"the middleware's"
    assert call(adapted).body == b"nothing"
    assert variable.get() == "nothing"
