"""Conversations with well-behaved applications."""

import asyncio
import contextvars
import gc
import weakref

import pytest

from asgiref.testing import ApplicationCommunicator

pytestmark = pytest.mark.asyncio


async def echo(scope, receive, send):
    while True:
        message = await receive()
        if message["type"] == "stop":
            return
        await send(message)


async def silent(scope, receive, send):
    await asyncio.Event().wait()


async def test_messages_go_both_ways_in_order():
    communicator = ApplicationCommunicator(echo, {"type": "test"})
    for number in range(3):
        await communicator.send_input({"type": "echo", "number": number})
    assert [(await communicator.receive_output())["number"] for _ in range(3)] == [0, 1, 2]
    await communicator.send_input({"type": "stop"})
    await communicator.wait()
    assert communicator.future.done()


async def test_a_double_callable_application_is_driven_too():
    def double(scope):
        async def instance(receive, send):
            await send({"scope": scope["type"]})

        return instance

    communicator = ApplicationCommunicator(double, {"type": "old"})
    assert await communicator.receive_output() == {"scope": "old"}
    await communicator.wait()


async def test_the_application_gets_the_very_scope_that_was_passed():
    scope, seen = {"type": "test"}, []

    async def application(scope, receive, send):
        seen.append(scope)

    communicator = ApplicationCommunicator(application, scope)
    await communicator.wait()
    assert seen[0] is scope
    assert communicator.scope is scope


async def test_the_futures_result_is_the_applications_return_value():
    async def application(scope, receive, send):
        return "value"

    communicator = ApplicationCommunicator(application, {})
    assert await communicator.future == "value"


def two_arguments(loop, coroutine):
    return asyncio.Task(coroutine, loop=loop)


@pytest.mark.parametrize(
    "factory", [two_arguments, getattr(asyncio, "eager_task_factory", two_arguments)]
)
async def test_any_task_factory_starts_the_application_in_an_empty_context(factory):
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("by the test")

    async def application(scope, receive, send):
        await send({"value": variable.get()})
        await send({"value": (await receive())["type"]})

    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop):
        pytest.skip("uvloop passes arguments that these factories do not accept")
    loop.set_task_factory(factory)
    try:
        async with ApplicationCommunicator(application, {}) as communicator:
            assert await communicator.receive_output() == {"value": "unset"}
            await communicator.send_input({"type": "go"})
            assert await communicator.receive_output() == {"value": "go"}
    finally:
        loop.set_task_factory(None)


async def test_the_application_does_not_start_before_it_is_needed():
    started = []

    async def application(scope, receive, send):
        started.append(True)

    communicator = ApplicationCommunicator(application, {})
    await asyncio.sleep(0)
    assert not started
    communicator.stop()  # nothing to stop
    await communicator.wait()
    assert started


async def test_the_tests_context_variables_do_not_leak_into_the_application():
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("by the test")

    async def application(scope, receive, send):
        await send({"value": variable.get()})

    communicator = ApplicationCommunicator(application, {})
    assert await communicator.receive_output() == {"value": "unset"}
    await communicator.wait()


async def test_a_subclass_extends_the_two_directions():
    class Upper(ApplicationCommunicator):
        def __init__(self, application):
            self.scope = {"type": "set before"}
            super().__init__(application, self.scope)

        async def send_input(self, message):
            return await super().send_input({"type": "echo", "text": message})

        async def receive_output(self, timeout=1):  # noqa: ASYNC109
            return (await super().receive_output(timeout))["text"].upper()

    communicator = Upper(echo)
    await communicator.send_input("hello")
    assert await communicator.receive_output() == "HELLO"
    communicator.stop()


NAMES_OF_A_SUBCLASS = [
    *("_outputs", "_inputs", "_name", "_task", "_runner", "_client", "_rules", "_timeout", "_loop"),
    *("_cancel", "_event", "_state", "_closed", "_failure", "_run", "cancel_on_timeout", "_scope"),
    *("_ApplicationCommunicator__runner", "runner", "name", "task", "rules", "outputs", "inputs"),
]


@pytest.mark.parametrize("name", NAMES_OF_A_SUBCLASS)
async def test_a_subclass_may_have_attributes_of_any_name(name):
    class Subclass(ApplicationCommunicator):
        def __init__(self, *args):
            setattr(self, name, object())
            super().__init__(*args)
            setattr(self, name, object())

    async with Subclass(echo, {}) as communicator:
        await communicator.send_input({"type": "echo"})
        assert await communicator.receive_output() == {"type": "echo"}
        assert await communicator.receive_nothing(0) is True
        with pytest.raises(TimeoutError):
            await communicator.receive_output(timeout=0)
        await communicator.wait()


async def test_a_subclass_that_does_not_call_its_base_raises_an_error_that_says_so():
    class Subclass(ApplicationCommunicator):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match=r"Subclass.__init__\(\) did not call super\(\)"):
        _ = Subclass().future


async def test_the_queues_can_be_used_directly():
    communicator = ApplicationCommunicator(echo, {})
    communicator.input_queue.put_nowait({"type": "echo"})
    assert communicator.output_queue.empty()
    assert await communicator.receive_nothing() is False
    assert communicator.output_queue.qsize() == 1
    assert communicator.output_queue.get_nowait() == {"type": "echo"}
    communicator.stop()


async def test_receive_nothing_takes_no_message():
    communicator = ApplicationCommunicator(echo, {})
    assert await communicator.receive_nothing(0.01) is True
    await communicator.send_input({"type": "echo", "number": 1})
    assert await communicator.receive_nothing(60) is False
    assert await communicator.receive_nothing(0) is False
    assert (await communicator.receive_output())["number"] == 1
    assert await communicator.receive_nothing(0) is True
    communicator.stop()


async def test_receive_nothing_lets_the_application_run_for_at_least_the_interval():
    async def application(scope, receive, send):
        await asyncio.sleep(0.02)
        await send({"type": "late"})

    communicator = ApplicationCommunicator(application, {})
    assert await communicator.receive_nothing(timeout=0.001, interval=60) is False
    await communicator.wait()


async def test_receive_nothing_does_not_poll(monkeypatch):
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at

    def counted(when, *args, **kwargs):
        timers.append(when)
        return call_at(when, *args, **kwargs)

    communicator = ApplicationCommunicator(silent, {})
    monkeypatch.setattr(loop, "call_at", counted)
    assert await communicator.receive_nothing(timeout=0.05, interval=0.001) is True
    assert len(timers) == 1
    communicator.stop()


async def test_a_message_that_comes_as_receive_nothing_ends_is_not_lost():
    times_up = asyncio.Event()

    async def application(scope, receive, send):
        await times_up.wait()
        await send({"type": "just now"})

    communicator = ApplicationCommunicator(application, {})
    # This timer and that of receive_nothing are due in the same turn of the loop.
    asyncio.get_running_loop().call_later(0.01, times_up.set)
    await communicator.receive_nothing(timeout=0.01)
    assert await communicator.receive_output() == {"type": "just now"}
    await communicator.wait()


async def test_receive_nothing_returns_when_the_application_ends():
    async def application(scope, receive, send):
        pass

    communicator = ApplicationCommunicator(application, {})
    assert await asyncio.wait_for(communicator.receive_nothing(3600), 10) is True


async def test_two_readers_each_get_a_message():
    communicator = ApplicationCommunicator(echo, {})
    readers = [asyncio.create_task(communicator.receive_output()) for _ in range(2)]
    await communicator.send_input({"type": "echo", "number": 1})
    await communicator.send_input({"type": "echo", "number": 2})
    outputs = await asyncio.gather(*readers)
    assert sorted(output["number"] for output in outputs) == [1, 2]
    communicator.stop()


async def test_a_cancelled_reader_loses_no_message():
    communicator = ApplicationCommunicator(silent, {})
    reader = asyncio.create_task(communicator.receive_output(timeout=None))
    await asyncio.sleep(0)
    communicator.output_queue.put_nowait({"type": "one"})
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await communicator.receive_output() == {"type": "one"}


async def test_a_read_with_a_timeout_of_zero_still_lets_the_application_run():
    communicator = ApplicationCommunicator(echo, {})
    await communicator.send_input({"type": "echo"})
    assert await communicator.receive_output(timeout=0) == {"type": "echo"}
    communicator.stop()


async def test_a_dropped_communicator_cancels_its_application():
    cancelled = asyncio.Event()

    async def application(scope, receive, send):
        try:
            await receive()
        finally:
            cancelled.set()

    communicator = ApplicationCommunicator(application, {})
    assert await communicator.receive_nothing(0.001) is True
    gone = weakref.ref(communicator)
    gc.disable()  # the reference count alone must free it at once
    try:
        del communicator
        assert gone() is None
    finally:
        gc.enable()
    await asyncio.wait_for(cancelled.wait(), 10)


async def test_a_dropped_communicator_on_a_closed_loop_stays_quiet(recwarn):
    def run():
        async def main():
            communicator = ApplicationCommunicator(echo, {})
            await communicator.receive_nothing(0.001)
            return communicator

        return asyncio.run(main())

    communicator = await asyncio.to_thread(run)
    assert communicator.future.cancelled()
    del communicator
    assert not recwarn.list


async def test_a_communicator_can_be_created_without_a_loop():
    communicator = await asyncio.to_thread(ApplicationCommunicator, echo, {})
    await communicator.send_input({"type": "stop"})
    await communicator.wait()
    assert communicator.future.done()


@pytest.mark.parametrize("scope", [None, object()])
async def test_any_scope_is_passed_unchanged_as_in_asgiref(scope):
    async def application(scope, receive, send):
        await send({"scope": scope})

    async with ApplicationCommunicator(application, scope) as communicator:
        assert (await communicator.receive_output())["scope"] is scope


async def test_an_object_that_is_not_an_application_is_rejected_at_the_call():
    with pytest.raises(TypeError, match="'app' is not an ASGI application"):
        ApplicationCommunicator("app", {})
