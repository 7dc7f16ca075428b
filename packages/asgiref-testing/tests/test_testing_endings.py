"""Applications that end, fail, hang or are cancelled, and the errors that the test gets."""

import asyncio
import gc

import pytest

from asgiref.testing import (
    ApplicationCommunicator,
    HttpExchange,
    Lifespan,
    WebsocketConversation,
)

pytestmark = pytest.mark.asyncio


async def silent(scope, receive, send):
    await asyncio.Event().wait()


async def listening(scope, receive, send):
    await receive()
    await receive()


async def returning(scope, receive, send):
    await send({"type": "last"})


async def failing(scope, receive, send):
    await send({"type": "first"})
    await send({"type": "second"})
    raise LookupError("inside the application")


async def test_output_comes_before_the_failure():
    communicator = ApplicationCommunicator(failing, {})
    assert await communicator.receive_nothing(60) is False
    assert communicator.future.done()
    assert await communicator.receive_output() == {"type": "first"}
    assert await communicator.receive_nothing() is False
    assert await communicator.receive_output() == {"type": "second"}
    for call in (communicator.receive_output, communicator.receive_nothing, communicator.wait):
        with pytest.raises(LookupError, match="inside the application"):
            await call()
    with pytest.raises(LookupError, match="inside the application"):
        await communicator.send_input({"type": "any"})
    with pytest.raises(LookupError, match="inside the application"):
        communicator.stop()
    communicator.stop(exceptions=False)


async def test_a_failure_while_a_read_waits_is_raised_by_it():
    async def application(scope, receive, send):
        await receive()
        raise LookupError("later")

    communicator = ApplicationCommunicator(application, {})
    reader = asyncio.create_task(communicator.receive_output(timeout=None))
    await asyncio.sleep(0)
    await communicator.send_input({"type": "any"})
    with pytest.raises(LookupError, match="later"):
        await reader


async def test_a_failure_while_nothing_is_expected_is_raised():
    async def application(scope, receive, send):
        raise LookupError("unexpected")

    communicator = ApplicationCommunicator(application, {})
    with pytest.raises(LookupError, match="unexpected"):
        await communicator.receive_nothing(60)


async def test_reading_from_an_application_that_has_returned_fails_at_once():
    communicator = ApplicationCommunicator(returning, {})
    assert await communicator.receive_output() == {"type": "last"}
    with pytest.raises(TimeoutError, match=r"returning will send nothing more: it returned\."):
        await asyncio.wait_for(communicator.receive_output(timeout=None), 10)


async def test_sending_to_an_application_that_has_returned_names_the_application_and_the_event():
    communicator = ApplicationCommunicator(returning, {})
    await communicator.wait()
    with pytest.raises(RuntimeError, match=r"returning cannot receive 'chat' any more: it ret"):
        await communicator.send_input({"type": "chat"})


async def test_a_disconnect_may_come_after_the_application_has_returned():
    communicator = ApplicationCommunicator(returning, {})
    await communicator.wait()
    await communicator.send_input({"type": "websocket.disconnect"})
    await communicator.wait()
    assert communicator.future.done()


async def test_a_read_that_times_out_cancels_the_application():
    ended = []

    async def application(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    communicator = ApplicationCommunicator(application, {})
    with pytest.raises(TimeoutError, match=r"sent nothing within 0\.01 s"):
        await communicator.receive_output(timeout=0.01)
    assert ended == [True]
    with pytest.raises(asyncio.CancelledError, match=r"was cancelled: .*sent nothing within"):
        await communicator.send_input({"type": "any"})
    with pytest.raises(asyncio.CancelledError):
        await communicator.receive_output()
    await communicator.wait()


async def test_a_timeout_error_shows_the_line_where_the_application_waits():
    communicator = ApplicationCommunicator(silent, {})
    with pytest.raises(TimeoutError, match=r"silent sent .* waiting at test_testing_endings.py:"):
        await communicator.receive_output(timeout=0.01)


async def test_a_timeout_error_shows_that_the_application_waits_for_input():
    communicator = ApplicationCommunicator(listening, {})
    with pytest.raises(TimeoutError, match=r"it waited for input at .* in listening\."):
        await communicator.receive_output(timeout=0.01)


@pytest.mark.parametrize("at_the_call", [False, True])
async def test_a_timeout_can_leave_the_application_running(at_the_call):
    async def application(scope, receive, send):
        await receive()
        await send({"type": "alive"})

    made, called = ({}, {"cancel_on_timeout": False})
    if not at_the_call:
        made, called = called, made
    communicator = ApplicationCommunicator(application, {}, **made)
    with pytest.raises(TimeoutError):
        await communicator.receive_output(timeout=0.01, **called)
    with pytest.raises(TimeoutError):
        await communicator.wait(timeout=0.01, **called)
    await communicator.send_input({"type": "go on"})
    assert await communicator.receive_output() == {"type": "alive"}
    await communicator.wait()


async def test_the_calls_option_overrides_the_communicators():
    communicator = ApplicationCommunicator(silent, {}, cancel_on_timeout=False)
    with pytest.raises(TimeoutError):
        await communicator.receive_output(timeout=0.01, cancel_on_timeout=True)
    assert communicator.future.cancelled()


async def test_waiting_for_an_application_that_does_not_end_times_out_and_cancels_it():
    communicator = ApplicationCommunicator(silent, {})
    with pytest.raises(TimeoutError, match=r"silent did not end within 0\.01 s: it was waiting at"):
        await communicator.wait(timeout=0.01)
    assert communicator.future.cancelled()
    await communicator.wait()


@pytest.mark.parametrize("call", ["receive_output", "wait"])
async def test_a_failure_caused_by_the_timeout_is_raised(call):
    async def application(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("while it was cancelled")

    communicator = ApplicationCommunicator(application, {})
    with pytest.raises(LookupError, match="while it was cancelled"):
        await getattr(communicator, call)(timeout=0.01)


async def test_cancelling_a_test_that_waits_for_the_application_cancels_the_application():
    communicator = ApplicationCommunicator(silent, {})
    waiting = asyncio.create_task(communicator.wait(timeout=None))
    await communicator.receive_nothing(0.001)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert communicator.future.cancelled()


async def echo(scope, receive, send):
    while True:
        await send(await receive())


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("receive_output", {"timeout": None}),
        ("receive_nothing", {"timeout": 60}),
        ("wait", {"timeout": None, "cancel_on_timeout": False}),
    ],
)
async def test_a_cancelled_reader_leaves_the_application_running(call, arguments):
    communicator = ApplicationCommunicator(echo, {})
    waiting = asyncio.create_task(getattr(communicator, call)(**arguments))
    await communicator.receive_nothing(0.001)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await communicator.send_input({"type": "go on"})
    assert await communicator.receive_output() == {"type": "go on"}
    communicator.stop()


async def test_concurrent_readers_are_served_in_the_order_of_their_calls():
    communicator = ApplicationCommunicator(echo, {})
    readers = [asyncio.create_task(communicator.receive_output()) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(3):
        await communicator.send_input({"type": "echo", "number": number})
    assert [output["number"] for output in await asyncio.gather(*readers)] == [0, 1, 2]
    communicator.stop()


async def test_a_reader_left_without_output_learns_that_the_application_returned():
    async def one(scope, receive, send):
        await receive()
        await send({"type": "one"})

    communicator = ApplicationCommunicator(one, {})
    readers = [asyncio.create_task(communicator.receive_output()) for _ in range(2)]
    await asyncio.sleep(0)
    await communicator.send_input({"type": "go"})
    assert await readers[0] == {"type": "one"}
    with pytest.raises(TimeoutError, match="will send nothing more: it returned"):
        await readers[1]


async def test_an_application_whose_repr_raises_can_be_tested():
    class Application:
        async def __call__(self, scope, receive, send):
            raise LookupError("its own")

        def __repr__(self):
            raise ZeroDivisionError("no repr")

    with pytest.raises(LookupError, match="its own"):
        await ApplicationCommunicator(Application(), {}).receive_output()


@pytest.mark.parametrize("helper", [HttpExchange, WebsocketConversation, Lifespan])
async def test_helpers_name_an_application_and_an_event_whose_repr_raises(helper):
    class Unprintable:
        def __repr__(self):
            raise ZeroDivisionError("no repr")

    class Application(Unprintable):
        async def __call__(self, scope, receive, send):
            await send({"type": "wrong", "value": Unprintable()})

    with pytest.raises(AssertionError, match=r"Application at .* sent 'wrong' where .*: <dict at"):
        async with helper(Application()) as communicator:
            await communicator.wait()


async def test_stop_cancels_without_waiting():
    communicator = ApplicationCommunicator(silent, {})
    assert await communicator.receive_nothing(0.001) is True
    communicator.stop()
    assert not communicator.future.done()
    await communicator.wait()
    assert communicator.future.cancelled()


async def test_as_a_context_manager_it_cleans_up():
    async with ApplicationCommunicator(silent, {}) as communicator:
        assert not communicator.future.done()
    assert communicator.future.cancelled()


async def test_as_a_context_manager_it_raises_an_unseen_failure():
    with pytest.raises(LookupError, match="inside the application"):
        async with ApplicationCommunicator(failing, {}) as communicator:
            await communicator.receive_output()


async def test_an_unseen_failure_can_be_raised_once_without_waiting():
    communicator = ApplicationCommunicator(failing, {})
    communicator.raise_unseen_failure()  # not started yet
    assert await communicator.receive_nothing() is False
    for _ in range(2):
        await communicator.receive_output()
    with pytest.raises(LookupError, match="inside the application"):
        communicator.raise_unseen_failure()
    communicator.raise_unseen_failure()
    assert communicator.future.done()


async def test_as_a_context_manager_it_raises_a_failure_only_once():
    async with ApplicationCommunicator(failing, {}) as communicator:
        with pytest.raises(LookupError):
            await communicator.wait()
    assert communicator.future.done()


async def test_the_context_manager_does_not_replace_the_blocks_error(caplog):
    async def block():
        async with ApplicationCommunicator(failing, {}) as communicator:
            await communicator.receive_output()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    gc.collect()
    assert not caplog.records  # asyncio logs failures that were never retrieved
