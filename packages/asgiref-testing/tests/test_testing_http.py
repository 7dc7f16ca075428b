"""HTTP exchanges, seen from both ends."""

import asyncio

import pytest

from asgiref.testing import HttpExchange, HttpResponse

pytestmark = pytest.mark.asyncio

START = {"type": "http.response.start", "status": 200}
MORE = {"type": "http.response.body", "body": b"more", "more_body": True}
END = {"type": "http.response.body"}


def sending(*events):
    """An application that sends these events for every request."""

    async def application(scope, receive, send):
        for event in events:
            await send(event)

    return application


async def echo(scope, receive, send):
    await send({**START, "headers": iter([[b"x-method", scope["method"].encode()]])})
    more = True
    while more:
        event = await receive()
        more = event["more_body"]
        await send({"type": "http.response.body", "body": event["body"], "more_body": more})


async def test_a_request_and_the_whole_response():
    async with HttpExchange(echo, "put", "/", body=b"hello") as exchange:
        response = await exchange.response()
        assert response == HttpResponse(200, [(b"x-method", b"PUT")], b"hello")
        assert await exchange.response() == response
        await exchange.wait()


async def test_both_bodies_stream_piece_by_piece():
    async with HttpExchange(echo, "POST", body=None) as exchange:
        start = await exchange.start()
        assert (start.status, start.header("X-Method")) == (200, "POST")
        pieces = exchange.pieces()
        for piece in (b"one", b"two"):
            await exchange.send(piece)
            assert await anext(pieces) == piece
        await exchange.send(more=False)
        assert [piece async for piece in pieces] == []
        assert (await exchange.response()).body == b"onetwo"


async def test_an_iteration_continues_where_the_last_one_stopped():
    application = sending(START, MORE, {**MORE, "body": b""}, {**MORE, "body": b"rest"}, END)
    async with HttpExchange(application) as exchange:
        async for piece in exchange.pieces():
            assert piece == b"more"
            break
        assert [piece async for piece in exchange.pieces()] == [b"rest"]


def scope_of(*args, **kwargs):
    return HttpExchange(echo, *args, **kwargs).scope


async def test_the_scope_has_every_key_of_the_specification():
    scope = scope_of("get", "/caf%C3%A9/ü?q=ä b#part", headers={"Accept": "text/plain"})
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/café/ü",
        "raw_path": b"/caf%C3%A9/%C3%BC",
        "query_string": b"q=%C3%A4%20b",
        "root_path": "",
        "headers": [(b"host", b"testserver"), (b"accept", b"text/plain")],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
    }


async def test_a_whole_url_sets_scheme_and_host():
    scope = scope_of("GET", "https://example.org:8443?a=//b")
    assert (scope["scheme"], scope["path"], scope["query_string"]) == ("https", "/", b"a=//b")
    assert scope["headers"] == [(b"host", b"example.org:8443")]
    assert scope["server"] == ("example.org", 8443)
    assert scope_of("GET", "https://example.org/x")["server"] == ("example.org", 443)


async def test_the_test_s_own_headers_and_keys_win():
    lines = [("Host", "mine"), (b"X-Twice", b"1"), ("x-twice", "2"), ("Content-Length", "3")]
    scope = scope_of(headers=lines, body=b"abc", scope={"http_version": "2", "user": "ada"})
    assert scope["headers"] == [
        (b"host", b"mine"),
        (b"x-twice", b"1"),
        (b"x-twice", b"2"),
        (b"content-length", b"3"),
    ]
    assert (scope["http_version"], scope["user"]) == ("2", "ada")


@pytest.mark.parametrize(
    ("body", "framing"),
    [
        (b"", []),
        (b"abc", [(b"content-length", b"3")]),
        (None, [(b"transfer-encoding", b"chunked")]),
    ],
)
async def test_the_headers_tell_how_the_body_is_framed(body, framing):
    assert scope_of("POST", body=body)["headers"][1:] == framing


async def test_each_request_has_its_own_copy_of_the_state():
    state = {"pool": object()}
    scope = scope_of(state=state)
    assert scope["state"] == state
    assert scope["state"] is not state
    assert "state" not in scope_of()


async def test_lines_of_one_header_are_joined():
    response = HttpResponse(200, [(b"Vary", b"a"), (b"x", b"1"), (b"vary", b"b")])
    assert response.header("VARY") == "a, b"
    assert response.header("none") is None


async def test_trailers_and_extension_events_are_kept(tmp_path):
    debug = {"type": "http.response.debug", "info": {"template": "a"}}
    hint = {"type": "http.response.early_hint", "links": [b"</a>"]}
    push = {"type": "http.response.push", "path": "/a", "headers": []}
    copied = {"type": "http.response.zerocopysend", "file": object(), "more_body": True}
    trailers = {"type": "http.response.trailers", "headers": [[b"a", b"1"]], "more_trailers": True}
    last = {"type": "http.response.trailers", "headers": [(b"b", b"2")]}
    application = sending(
        *(debug, {**START, "trailers": True}, hint, push, copied, MORE, END, trailers, last)
    )
    names = ("debug", "early_hint", "push", "zerocopysend", "trailers")
    offered = {"extensions": {f"http.response.{name}": {} for name in names}}
    async with HttpExchange(application, scope=offered) as exchange:
        response = await exchange.response()
    assert response.body == b"more"
    assert response.trailers == [(b"a", b"1"), (b"b", b"2")]
    assert response.extras == [debug, hint, push, copied]


async def test_a_path_for_the_server_to_send_completes_the_response():
    path = {"type": "http.response.pathsend", "path": "/file"}
    offered = {"extensions": {"http.response.pathsend": {}}}
    async with HttpExchange(sending(START, path), scope=offered) as exchange:
        assert (await exchange.response()).extras == [path]


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([END], "sent 'http.response.body' where http.response.start or .* was due"),
        ([START, START], "sent 'http.response.start' where http.response.body or .* was due"),
        ([{"type": "http.response.start"}], "'http.response.start' with the status None"),
        ([START, {**END, "body": "text"}], "'http.response.body' with a body that is not bytes"),
    ],
)
async def test_an_event_that_violates_the_specification_raises_an_error(events, complaint):
    async def exchange_with(application):
        async with HttpExchange(application) as exchange:
            await exchange.response()

    with pytest.raises(AssertionError, match=f"application .*{complaint}"):
        await exchange_with(sending(*events))


async def test_the_error_for_a_missing_response_names_the_event_that_was_due():
    async def silent(scope, receive, send):
        await asyncio.Event().wait()

    async with HttpExchange(silent, timeout=0.01) as exchange:
        with pytest.raises(TimeoutError, match="silent sent nothing within") as caught:
            await exchange.start()
    assert caught.value.__notes__ == ["The test waited for http.response.start."]
    assert exchange.future.cancelled()


async def test_reading_a_response_that_is_not_completed_fails_at_once():
    async with HttpExchange(sending(START, MORE), timeout=None) as exchange:
        with pytest.raises(TimeoutError, match="will send nothing more: it returned"):
            await exchange.response()


async def test_the_applications_failure_is_raised_by_the_waiting_call():
    async def failing(scope, receive, send):
        await send(START)
        raise LookupError("midway")

    async with HttpExchange(failing) as exchange:
        assert (await exchange.start()).status == 200
        with pytest.raises(LookupError, match="midway"):
            await exchange.response()


async def test_work_after_the_response_is_not_cut_short():
    done = []

    async def application(scope, receive, send):
        await send(START)
        await send(END)
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        assert await receive() == {"type": "http.disconnect"}
        await asyncio.sleep(0)
        done.append(True)

    async with HttpExchange(application) as exchange:
        await exchange.response()
    assert done == [True]


async def test_after_a_complete_response_the_application_receives_a_disconnect():
    async def application(scope, receive, send):
        await send(START)
        await send(END)
        while (await receive())["type"] != "http.disconnect":
            pass

    async with HttpExchange(application) as exchange:
        await exchange.response()
        await exchange.wait()
        assert exchange.future.done()


async def test_a_failure_after_the_response_fails_the_block():
    async def application(scope, receive, send):
        await send(START)
        await send(END)
        await asyncio.sleep(0)
        raise LookupError("in the background")

    with pytest.raises(LookupError, match="in the background"):
        async with HttpExchange(application) as exchange:
            await exchange.response()


async def endless(scope, receive, send):
    await send(START)
    while True:
        await send(MORE)


async def test_an_endless_response_ends_with_the_block():
    async with HttpExchange(endless) as exchange:
        pieces = exchange.pieces()
        assert [await anext(pieces) for _ in range(3)] == [b"more"] * 3
    with pytest.raises(OSError, match="client has disconnected"):
        exchange.future.result()


class WebSocketDisconnect(Exception):
    """A name that frameworks use for the exception that replaces the OSError."""


@pytest.mark.parametrize("wrapped", ["named", "cause", "group", "shared", "causes", "nested"])
async def test_an_application_may_end_by_passing_the_disconnect_on(wrapped):
    async def application(scope, receive, send):
        try:
            await endless(scope, receive, send)
        except OSError as error:
            if wrapped == "shared":
                raise ExceptionGroup("tasks", [error, error]) from None
            if wrapped == "nested":
                named = WebSocketDisconnect()
                named.__cause__ = error
                inner = ExceptionGroup("inner", [named, error])
                raise ExceptionGroup("tasks", [inner, named]) from None
            if wrapped == "causes":
                failures = [LookupError(), LookupError()]
                for failure in failures:
                    failure.__cause__ = error
                raise ExceptionGroup("tasks", failures) from None
            if wrapped == "group":
                raise ExceptionGroup("tasks", [error]) from None
            if wrapped == "cause":
                raise LookupError from error
            raise WebSocketDisconnect  # noqa: B904 - its context shows it

    async with HttpExchange(application) as exchange:
        await exchange.start()
    assert exchange.future.exception() is not None


async def test_an_unrelated_failure_after_the_disconnect_fails_the_block():
    async def application(scope, receive, send):
        await receive()
        await receive()
        raise LookupError("while it cleaned up")

    with pytest.raises(LookupError, match="while it cleaned up"):
        async with HttpExchange(application):
            pass


async def test_a_disconnect_reaches_both_receive_and_send():
    seen = []

    async def application(scope, receive, send):
        await send(START)
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        try:
            await send(END)
        except OSError:
            seen.append("OSError")

    async with HttpExchange(application) as exchange:
        await exchange.start()
        await exchange.disconnect()
        await exchange.disconnect()
        await exchange.wait()
        assert seen == ["http.request", "http.disconnect", "OSError"]


async def test_an_application_that_stays_after_the_disconnect_is_cancelled_and_fails_the_test():
    async def staying(scope, receive, send):
        await asyncio.Event().wait()

    exchange = HttpExchange(staying, timeout=0.01)
    with pytest.raises(TimeoutError, match=r"staying did not end .* disconnect: it was waiting at"):
        async with exchange:
            pass
    assert exchange.future.cancelled()


async def test_a_block_that_fails_cancels_the_application_at_once():
    async def staying(scope, receive, send):
        await asyncio.Event().wait()

    exchange = HttpExchange(staying, timeout=None)
    with pytest.raises(ZeroDivisionError):
        async with exchange:
            raise ZeroDivisionError
    assert exchange.future.cancelled()


async def test_cancelling_a_test_that_leaves_its_block_cancels_the_application():
    started = asyncio.Event()

    async def staying(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        started.set()
        await asyncio.Event().wait()

    exchange = HttpExchange(staying, timeout=None)

    async def test():
        async with exchange:
            pass

    task = asyncio.create_task(test())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert exchange.future.cancelled()


async def test_a_double_callable_application_answers_too():
    class Old:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            await send(START)
            await send(END)

    async with HttpExchange(Old) as exchange:
        assert (await exchange.response()).status == 200


@pytest.mark.parametrize("kind", ["finally", "except", "cycle", "cycle of two", "group"])
async def test_a_failure_in_the_cleanup_after_a_disconnect_fails_the_block(kind):
    async def application(scope, receive, send):
        try:
            await endless(scope, receive, send)
        except OSError as error:
            if kind == "cycle":
                failure = LookupError("in the cleanup")
                raise failure from failure
            if kind == "cycle of two":
                failure, other = LookupError("in the cleanup"), KeyError()
                other.__cause__ = failure
                raise failure from other
            if kind == "group":
                raise ExceptionGroup("in the cleanup", [error, LookupError()]) from None
            if kind == "except":
                raise LookupError("in the cleanup")  # noqa: B904 - on purpose
            raise
        finally:
            if kind == "finally":
                raise LookupError("in the cleanup")

    with pytest.raises((LookupError, ExceptionGroup), match="in the cleanup"):
        async with HttpExchange(application) as exchange:
            await exchange.start()


def length(*values):
    """A response start with these content-length values."""
    return {**START, "headers": [(b"content-length", value) for value in values]}


TRAILERS = {"type": "http.response.trailers", "headers": []}
LATE = {"type": "http.response.body", "body": b"late"}


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([START, END, LATE], "sent 'http.response.body' after the end: .*late"),
        ([START, END, START, END], "sent 'http.response.start' after the end"),
        ([START, END, {"type": "http.response.trailers"}], "trailers' after the end"),
        (["no event"], "sent an object that is not an event.*: 'no event'"),
        ([{"status": 200}], "sent an object that is not an event"),
        ([{"type": "http.response.start", "status": True}], "with the status True"),
        ([{"type": "http.response.start", "status": 20}], "with the status 20"),
        ([{**START, "headers": None}], "with headers that are not a list of pairs: None"),
        ([{**START, "headers": b"a: b"}], "with headers that are not a list of pairs"),
        ([{**START, "headers": [(b"content-length", 5)]}], "not bytes: .b'content-length', 5"),
        ([{**START, "headers": [("content-type", b"a")]}], "a name or value that is not bytes"),
        ([{**START, "headers": [(b"a",)]}], "with a header that is not a pair"),
        ([{**START, "headers": ["ab"]}], "with a header that is not a pair"),
        ([{**START, "headers": [(b"a", b"b\r\nc: d")]}], "with a line break or a NUL"),
        ([{**START, "headers": [(b"", b"b")]}], "whose name is empty"),
        ([START, {**END, "body": None}], "with a body that is not bytes"),
        ([{**START, "status": 100}], "with the status 100"),
        ([{**START, "headers": [(b"a b", b"c")]}], "a header whose name is empty or has char"),
        ([{**START, "headers": [(b"a:", b"c")]}], "a header whose name is empty or has char"),
        ([{**START, "headers": [(b"a", b" c")]}], "whose value starts or ends with whitespace"),
        ([length(b"5", b"6")], "different values of content-length"),
        ([length(b"+5")], "a content-length that is not a number: b'.5'"),
        ([length(b"5"), MORE, END], "ended the body 1 bytes short of its content-length"),
        ([length(b"1"), MORE, END], "more than its content-length"),
        ([{**START, "status": 204}, MORE], "a body in a response with the status 204"),
        (
            [{"type": "http.response.debug", "info": {}}],
            "debug', an extension that the scope lacks",
        ),
        ([START, {"type": "http.response.push"}], "push', an extension that the scope lacks"),
        ([START, {"type": "http.response.pathsend"}], "an extension that the scope lacks"),
        ([{**START, "trailers": True}, END, TRAILERS], "trailers' after the end"),
    ],
)
@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("swallowed", [True, False])
async def test_an_event_that_a_server_would_reject_fails_the_block(
    events, complaint, reads, swallowed
):
    async def application(scope, receive, send):
        for event in events:
            try:
                await send(event)
            except AssertionError:
                if not swallowed:
                    raise
        while (await receive())["type"] != "http.disconnect":
            pass

    async def test():
        async with HttpExchange(application, timeout=0.2) as exchange:
            if reads:
                await exchange.response()
            else:
                for _ in range(20):  # meanwhile the application sends all of it
                    await asyncio.sleep(0)

    with pytest.raises(AssertionError, match=f"application .*{complaint}"):
        await test()


@pytest.mark.parametrize(
    ("request_method", "events"),
    [
        ("GET", [length(b"4", b"4"), MORE, END]),
        ("GET", [length(b"0"), END]),
        ("HEAD", [length(b"5"), END]),
        ("HEAD", [length(b"4"), MORE, END]),
        ("GET", [{**length(b"5"), "status": 304}, END]),
        ("GET", [{**START, "headers": [(b"transfer-encoding", b"chunked")]}, MORE, END]),
        ("GET", [{**START, "headers": [(b"X-Empty", b""), (b"x-latin", b"caf\xe9 \t!")]}, END]),
        ("GET", [{**START, "status": 599, "trailers": True}, END]),
    ],
)
async def test_a_response_that_servers_accept_passes(request_method, events):
    async with HttpExchange(sending(*events), request_method) as exchange:
        await exchange.response()


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([], "application returned without starting a response"),
        ([START], "application returned without completing its response"),
        ([START, MORE], "application returned without completing its response"),
    ],
)
@pytest.mark.parametrize("disconnects", [True, False])
async def test_a_response_that_never_completes_fails_the_block(events, complaint, disconnects):
    async def test():
        async with HttpExchange(sending(*events)) as exchange:
            await asyncio.wait({exchange.future})
            if disconnects:
                await exchange.disconnect()

    with pytest.raises(AssertionError, match=complaint):
        await test()


async def test_a_client_that_leaves_early_excuses_an_incomplete_response():
    async def application(scope, receive, send):
        await send(START)
        while (await receive())["type"] != "http.disconnect":
            pass

    async with HttpExchange(application) as exchange:
        await exchange.start()
    assert exchange.future.done()


@pytest.mark.parametrize("reuse", ["buffer", "event", "headers", "view"])
async def test_an_application_may_reuse_what_it_has_sent(reuse):
    async def application(scope, receive, send):
        headers = [[b"x-word", b"first"]]
        await send({**START, "headers": headers})
        if reuse == "headers":
            headers[0][1] = b"second"
            headers.append([b"x-more", b"1"])
        buffer = bytearray(3)
        event = {"type": "http.response.body", "body": buffer, "more_body": True}
        for word in (b"one", b"two"):
            buffer[:] = word
            if reuse == "buffer":
                await send({**event})
            elif reuse == "view":
                with memoryview(word) as view:
                    await send({**event, "body": view})
            else:
                event["body"] = word
                await send(event)
        await send(END)

    async with HttpExchange(application) as exchange:
        await asyncio.wait({exchange.future})
        response = await exchange.response()
    assert response == HttpResponse(200, [(b"x-word", b"first")], b"onetwo")


async def test_a_released_memoryview_fails_the_block():
    view = memoryview(b"gone")
    view.release()
    with pytest.raises(AssertionError, match="with a released memoryview"):
        async with HttpExchange(sending(START, {**END, "body": view})) as exchange:
            await asyncio.wait({exchange.future})


async def test_a_violation_that_the_test_has_seen_is_raised_once():
    async with HttpExchange(sending(END)) as exchange:
        with pytest.raises(AssertionError, match="was due"):
            await exchange.start()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_a_body_may_be_any_bytes_that_servers_accept(kind):
    application = sending(START, {**END, "body": kind(b"hello")})
    async with HttpExchange(application) as exchange:
        assert (await exchange.response()).body == b"hello"


async def test_concurrent_calls_to_start_and_response_see_the_same_exchange():
    async def application(scope, receive, send):
        await asyncio.sleep(0)
        await send(START)
        await send(MORE)
        await send(END)

    async with HttpExchange(application) as exchange:
        start, *responses = await asyncio.gather(
            exchange.start(), exchange.response(), exchange.response()
        )
    assert start.status == 200
    assert [response.body for response in responses] == [b"more", b"more"]


async def test_a_stream_that_is_not_read_waits_for_the_test():
    sent = []

    async def application(scope, receive, send):
        await send(START)
        while True:
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            sent.append(1 << 16)

    async with HttpExchange(application) as exchange:
        await exchange.start()
        for _ in range(1000):
            await asyncio.sleep(0)
        before = len(sent)
        assert before * (1 << 16) <= 2 << 20
        pieces = exchange.pieces()
        for _ in range(before):
            await anext(pieces)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(sent) > before


async def test_an_endless_stream_does_not_fill_memory_while_it_is_read():
    sizes = []
    async with HttpExchange(endless_of(1 << 20)) as exchange:
        async for piece in exchange.pieces():
            sizes.append(len(piece))
            if sum(sizes) > 110 << 20:
                break
        with pytest.raises(RuntimeError, match=r"more than 100 MiB. Read such a body with pieces"):
            await exchange.response()


async def test_reading_an_endless_stream_as_one_response_is_an_error():
    async with HttpExchange(endless_of(1 << 20)) as exchange:
        with pytest.raises(RuntimeError, match=r"application sent a body of more than 100 MiB"):
            await exchange.response()


async def test_a_response_takes_no_longer_than_the_timeout_in_total():
    async with HttpExchange(endless, timeout=0.01) as exchange:
        with pytest.raises(TimeoutError, match=r"did not complete its response within 0\.01 s"):
            await exchange.response()
    assert exchange.future.done()


def endless_of(size):
    async def application(scope, receive, send):
        await send(START)
        while True:
            await send({**MORE, "body": bytes(size)})

    return application


@pytest.mark.parametrize(
    ("target", "path", "host", "server"),
    [
        ("/proxy/http://a.example/b", "/proxy/http://a.example/b", b"testserver", "testserver"),
        ("/?next=http://a.example/", "/", b"testserver", "testserver"),
        ("http://[::1]:8000/a", "/a", b"[::1]:8000", "::1"),
        ("https://[2001:db8::1]/a", "/a", b"[2001:db8::1]", "2001:db8::1"),
        ("http://b\u00fccher.example/", "/", b"xn--bcher-kva.example", "b\u00fccher.example"),
    ],
)
async def test_targets_that_contain_urls_and_unusual_hosts(target, path, host, server):
    scope = scope_of("GET", target)
    assert scope["path"] == path
    assert dict(scope["headers"])[b"host"] == host
    assert scope["server"][0] == server


async def test_a_key_that_does_not_belong_to_an_event_is_ignored_as_under_a_server():
    application = sending({**START, "body": 5, "text": None}, {**END, "bytes": object()})
    async with HttpExchange(application) as exchange:
        assert (await exchange.response()).body == b""
