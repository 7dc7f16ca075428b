"""Websocket conversations, seen from both ends."""

import asyncio
import contextlib

import pytest

from asgiref.testing import HttpResponse, WebsocketClosed, WebsocketConversation, WebsocketDenied

pytestmark = pytest.mark.asyncio

ACCEPT = {"type": "websocket.accept"}


def answering(*events):
    """An application that answers the handshake with these events."""

    async def application(scope, receive, send):
        assert await receive() == {"type": "websocket.connect"}
        for event in events:
            await send(event)
        application.last = await receive()

    return application


async def echo(scope, receive, send):
    await receive()
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def test_messages_of_each_kind_go_both_ways():
    async with WebsocketConversation(echo) as socket:
        for message in ("text", "", b"binary", b""):
            await socket.send(message)
            assert await socket.receive() == message
        await socket.send_json({"a": [1, None]})
        assert await socket.receive_json() == {"a": [1, None]}
    assert socket.future.done()
    assert not socket.future.cancelled()


async def test_the_handshake_carries_both_sides_requests():
    accept = {**ACCEPT, "subprotocol": "b", "headers": iter([[b"x-a", b"1"]])}
    socket = WebsocketConversation(
        *(answering(accept), "/room/caf%C3%A9?since=1"),
        headers={"Origin": "https://example.org"},
        subprotocols=["a", "b"],
        state={"pool": 1},
        scope={"user": "ada"},
    )
    async with socket:
        assert socket.subprotocol == "b"
        assert socket.headers == [(b"x-a", b"1")]
    assert socket.scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/room/café",
        "raw_path": b"/room/caf%C3%A9",
        "query_string": b"since=1",
        "root_path": "",
        "headers": [
            (b"host", b"testserver"),
            (b"origin", b"https://example.org"),
            (b"sec-websocket-protocol", b"a, b"),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "subprotocols": ["a", "b"],
        "state": {"pool": 1},
        "extensions": {"websocket.http.response": {}},
        "user": "ada",
    }


async def test_a_socket_that_is_closed_instead_of_accepted_is_denied_with_403():
    application = answering({"type": "websocket.close", "code": 4001, "reason": "not you"})
    with pytest.raises(WebsocketDenied, match="denied the websocket: 403 not you") as denied:
        async with WebsocketConversation(application):
            raise AssertionError("never open")
    assert denied.value.response == HttpResponse(403, [])
    assert denied.value.reason == "not you"
    assert application.last["type"] == "websocket.disconnect"


async def test_a_denial_can_be_a_whole_response():
    body = {"type": "websocket.http.response.body", "body": b"pay "}
    start = {"type": "websocket.http.response.start", "status": 402, "headers": [[b"a", b"b"]]}
    application = answering(start, {**body, "more_body": True}, {**body, "body": b"first"})
    with pytest.raises(WebsocketDenied, match="402") as denied:
        async with WebsocketConversation(application):
            raise AssertionError("never open")
    assert denied.value.response == HttpResponse(402, [(b"a", b"b")], b"pay first")


async def test_an_application_that_fails_in_the_handshake_is_not_left_behind():
    async def failing(scope, receive, send):
        raise LookupError("at the door")

    with pytest.raises(LookupError, match="at the door"):
        async with WebsocketConversation(failing):
            raise AssertionError("never open")


async def test_a_handshake_without_an_answer_times_out_and_cancels():
    socket = WebsocketConversation(answering(), timeout=0.01)
    with pytest.raises(TimeoutError, match="waited for input") as caught:
        await socket.__aenter__()
    assert caught.value.__notes__ == [
        "The test waited for websocket.accept or websocket.close or websocket.http.response.start."
    ]
    assert socket.future.cancelled()


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([{"type": "websocket.send", "text": "a"}], "where websocket.accept or"),
        ([ACCEPT, ACCEPT], "sent 'websocket.accept' where websocket.send or websocket.close"),
        ([ACCEPT, {"type": "websocket.send"}], "without exactly one of text and bytes"),
        ([ACCEPT, {"type": "websocket.send", "text": "", "bytes": b""}], "without exactly one"),
    ],
)
async def test_an_event_that_violates_the_specification_raises_an_error(events, complaint):
    async def converse():
        async with WebsocketConversation(answering(*events)) as socket:
            await socket.receive()

    with pytest.raises(AssertionError, match=complaint):
        await converse()


async def test_every_read_and_the_application_learn_that_the_application_closed():
    application = answering(
        *(ACCEPT, {"type": "websocket.send", "text": "a", "bytes": None}),
        {"type": "websocket.close", "code": 4000, "reason": "done"},
    )
    async with WebsocketConversation(application) as socket:
        assert await socket.receive() == "a"
        for _ in range(2):
            with pytest.raises(WebsocketClosed, match="closed the websocket: 4000 done") as closed:
                await socket.receive()
            assert (closed.value.code, closed.value.reason) == (4000, "done")
        await socket.wait()
    assert application.last == {"type": "websocket.disconnect", "code": 4000, "reason": "done"}


async def test_iteration_ends_with_the_socket():
    messages = [{"type": "websocket.send", "text": word} for word in ("one", "two")]
    application = answering(ACCEPT, *messages, {"type": "websocket.close"})
    async with WebsocketConversation(application) as socket:
        assert [message async for message in socket] == ["one", "two"]


async def test_the_application_receives_the_code_of_the_client_s_close():
    application = answering(ACCEPT)
    async with WebsocketConversation(application) as socket:
        await socket.close(1001, "going")
        await socket.wait()
    assert application.last == {"type": "websocket.disconnect", "code": 1001, "reason": "going"}


async def test_leaving_the_block_closes_the_socket():
    application = answering(ACCEPT)
    async with WebsocketConversation(application):
        pass
    assert application.last == {"type": "websocket.disconnect", "code": 1000, "reason": ""}


async def test_an_endless_feed_ends_with_the_block():
    async def feed(scope, receive, send):
        await receive()
        await send(ACCEPT)
        while True:
            await send({"type": "websocket.send", "text": "tick"})

    async with WebsocketConversation(feed) as socket:
        assert await socket.receive() == "tick"
    with pytest.raises(OSError, match="client has disconnected"):
        socket.future.result()


async def test_a_failure_in_the_conversation_is_raised_by_the_waiting_call():
    async def failing(scope, receive, send):
        await receive()
        await send(ACCEPT)
        raise LookupError((await receive())["text"])

    async with WebsocketConversation(failing) as socket:
        await socket.send("on purpose")
        with pytest.raises(LookupError, match="on purpose"):
            await socket.receive()


async def test_an_application_that_stays_after_the_close_fails_the_test():
    async def staying(scope, receive, send):
        await receive()
        await send(ACCEPT)
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=r"staying did not end within 0\.01 s of the disconnect"):
        async with WebsocketConversation(staying, timeout=0.01):
            pass


CLOSE = {"type": "websocket.close"}


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([ACCEPT, CLOSE, {"type": "websocket.send", "text": "late"}], "after the end: .*late"),
        ([ACCEPT, CLOSE, CLOSE], "sent 'websocket.close' after the end"),
        ([CLOSE, ACCEPT], "sent 'websocket.accept' after the end"),
        ([ACCEPT, {**CLOSE, "code": "1000"}], "with the code '1000'"),
        ([ACCEPT, {**CLOSE, "code": None}], "with the code None"),
        ([ACCEPT, {**CLOSE, "code": 1006}], "with the code 1006"),
        ([ACCEPT, {**CLOSE, "code": 99}], "with the code 99"),
        ([ACCEPT, {**CLOSE, "reason": b"no"}], "with a reason that is not a str"),
        ([ACCEPT, {**CLOSE, "reason": "n" * 124}], "a reason that is not a str of up to 123"),
        ([{"type": "websocket.http.response.start", "headers": []}], "with the status None"),
        ([{**ACCEPT, "headers": [("a", "b")]}], "with a name or value that is not bytes"),
        ([{**ACCEPT, "subprotocol": "other"}], "with a subprotocol that was not offered"),
        ([{**ACCEPT, "subprotocol": b"a"}], "with a subprotocol that is not a str"),
        ([ACCEPT, {"type": "websocket.send", "text": b"a"}], "with a text that is not a str"),
        ([ACCEPT, {"type": "websocket.send", "bytes": "a"}], "with a bytes that is not bytes"),
    ],
)
async def test_an_event_that_a_server_would_reject_fails_the_block(events, complaint):
    async def application(scope, receive, send):
        await receive()
        for event in events:
            await send(event)

    async def converse():
        async with WebsocketConversation(application):
            for _ in range(20):  # meanwhile the application sends all of it
                await asyncio.sleep(0)

    async def read_all():
        async with WebsocketConversation(application) as socket:
            async for _ in socket:
                pass

    async def converse_denied():
        with contextlib.suppress(WebsocketDenied):
            await converse()

    for test in (converse_denied, read_all):
        with pytest.raises(AssertionError, match=complaint):
            await test()


async def test_a_denial_response_is_rejected_if_the_scope_does_not_offer_it():
    start = {"type": "websocket.http.response.start", "status": 401}
    with pytest.raises(AssertionError, match=r"http\.response\.start' where websocket\.accept or"):
        async with WebsocketConversation(answering(start), scope={"extensions": {}}):
            raise AssertionError("never open")


async def test_an_application_may_reuse_its_event_and_its_buffer():
    async def application(scope, receive, send):
        await receive()
        await send(ACCEPT)
        event = {"type": "websocket.send", "bytes": bytearray(3)}
        for word in (b"one", b"two"):
            event["bytes"][:] = word
            await send(event)

    async with WebsocketConversation(application) as socket:
        await asyncio.wait({socket.future})
        assert [await socket.receive() for _ in range(2)] == [b"one", b"two"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_a_binary_message_may_be_any_bytes_that_servers_accept(kind):
    application = answering(ACCEPT, {"type": "websocket.send", "bytes": kind(b"a")}, CLOSE)
    async with WebsocketConversation(application) as socket:
        assert await socket.receive() == b"a"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.send", "text": "\ud800"},
        {"type": "websocket.close", "reason": "\ud800"},
    ],
)
async def test_text_that_a_server_cannot_encode_fails_the_test(event):
    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with contextlib.suppress(Exception):
            await send(event)
        await receive()

    with pytest.raises(AssertionError, match="ud800"):
        async with WebsocketConversation(application):
            await asyncio.sleep(0)
