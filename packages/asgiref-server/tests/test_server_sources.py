"""`MessageSource`: an instance always holds at most one message."""

import asyncio
import contextlib

import pytest

from asgiref.server import MessageSource, StatelessServer

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(30)]


class Source(MessageSource):
    """Records calls; `failing` names the method that raises, and `hold` the method that waits."""

    def __init__(self, failing=None):
        self.failing = failing
        self.events = []
        self.acknowledging, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def next_message(self, instance):
        if self.failing == "next_message":
            raise ConnectionError("down")
        return await super().next_message(instance)

    async def acknowledge(self, instance, message):
        if self.failing == "acknowledge":
            raise ConnectionError("down")
        self.acknowledging.set()
        await self.go.wait()
        self.events.append(message)

    async def instance_ended(self, instance, unacknowledged):
        self.events.append(unacknowledged)


class Server(StatelessServer):
    def __init__(self, application, source, **options):
        super().__init__(application, source=source, **options)
        self.undelivered = []
        self.finished = asyncio.Event()

    async def handle(self):
        await self.finished.wait()

    def queue(self):
        return self.get_or_create_application_instance("a", {"type": "test"})

    async def application_send(self, scope, message):
        pass

    async def application_undelivered(self, messages, details):
        self.undelivered += messages


@pytest.mark.parametrize("failing", ["next_message", "acknowledge"])
async def test_an_application_that_retries_a_failing_source_does_not_freeze_the_loop(
    failing, settled
):
    failures = []

    async def application(scope, receive, send):
        while len(failures) < 1000:
            try:
                await receive()
            except Exception as error:
                failures.append(error)

    server = Server(application, Source(failing))
    server.queue().put_nowait(1)
    await settled()
    assert 0 < len(failures) < 100
    server.delete_application_instance("a")
    await settled()


async def test_concurrent_receives_are_served_in_order_and_acknowledged_once(settled):
    received = []

    async def application(scope, receive, send):
        for _ in range(2):
            received.append(await asyncio.gather(receive(), receive()))

    source = Source()
    server = Server(application, source)
    for number in range(4):
        server.queue().put_nowait(number)
    await settled()
    assert received == [[0, 1], [2, 3]]
    assert source.events == [0, 1, 2, 3, []]


@pytest.mark.parametrize("where", ["acknowledge", "next_message"])
async def test_a_reader_left_behind_takes_nothing_from_the_next_instance(where, settled):
    received, readers = [], []

    async def read(receive):
        while True:
            received.append(("left behind", await receive()))

    async def application(scope, receive, send):
        if not readers:
            readers.append(asyncio.create_task(read(receive)))
            await asyncio.sleep(0)
            await leave.wait()
            return
        received.append(("next", await receive()))
        await asyncio.Event().wait()

    source, leave = Source(), asyncio.Event()
    if where == "acknowledge":
        source.go.clear()
    server = Server(application, source)
    server.queue().put_nowait("first")
    await settled()
    leave.set()
    await settled()
    server.queue().put_nowait("second")
    await settled()
    source.go.set()
    await settled()
    assert received == [("left behind", "first"), ("next", "second")]
    assert source.events == ["first", []]
    with pytest.raises((asyncio.CancelledError, RuntimeError)):
        await readers[0]
    server.delete_application_instance("a")
    await settled()
    assert source.events == ["first", [], ["second"]]


async def test_an_instance_that_waits_in_its_source_does_not_delay_the_shutdown(
    no_task_left, settled
):
    class Elsewhere(Source):
        async def next_message(self, instance):
            await asyncio.Event().wait()

    async def application(scope, receive, send):
        await receive()

    server = Server(application, Elsewhere(), shutdown_timeout=3600)
    running = asyncio.create_task(server.arun())
    await settled()
    server.queue()
    await settled()
    server.finished.set()
    await asyncio.wait_for(running, 10)
    no_task_left()


async def test_an_acknowledgement_in_progress_does_not_count_as_idle_time(fast_clock, settled):
    fast_clock()

    async def application(scope, receive, send):
        while True:
            await receive()

    source = Source()
    source.go.clear()
    server = Server(application, source, idle_timeout=1)
    server.queue().put_nowait(1)
    await source.acknowledging.wait()
    await asyncio.sleep(10)
    assert "a" in server.application_instances
    source.go.set()
    await settled()
    assert "a" in server.application_instances
    await asyncio.sleep(3)
    assert not server.application_instances
    assert source.events == [1, []]


async def test_a_source_whose_hook_fails_is_named_in_the_log(caplog, settled):
    class Broken(Source):
        async def instance_ended(self, instance, unacknowledged):
            raise ZeroDivisionError

    async def application(scope, receive, send):
        pass

    Server(application, Broken()).queue()
    await settled()
    assert "Broken.instance_ended() for scope 'a' failed" in caplog.text


async def test_a_task_that_keeps_receiving_does_not_keep_a_message_from_its_source(settled):
    async def receive_always(receive):
        while not checked:
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await receive()

    async def application(scope, receive, send):
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            left_behind.append(asyncio.create_task(receive_always(receive)))
            await settled()

    left_behind, checked = [], []
    source = Source()
    server = Server(application, source)
    server.queue().put_nowait("held")
    await settled()
    server.delete_application_instance("a")
    for _ in range(3):
        await settled()
    events = source.events.copy()
    checked.append(True)
    left_behind.pop().cancel()
    assert events == [["held"]]


async def test_an_acknowledgement_that_hangs_does_not_keep_a_message_from_its_source(
    fast_clock, settled
):
    fast_clock()

    async def application(scope, receive, send):
        await receive()
        left_behind.append(asyncio.create_task(receive()))
        await settled()

    left_behind, source = [], Source()
    source.go.clear()
    Server(application, source).queue().put_nowait("held")
    await source.acknowledging.wait()
    await asyncio.sleep(11)  # longer than a hook may take
    events = source.events.copy()
    left_behind.pop().cancel()
    assert events == [["held"]]


async def test_a_source_that_hangs_does_not_keep_a_failure_from_the_server(fast_clock, settled):
    fast_clock()

    class Hanging(Source):
        async def acknowledge(self, instance, message):
            await asyncio.Event().wait()

        async def instance_ended(self, instance, unacknowledged):
            self.events.append(unacknowledged)
            await asyncio.Event().wait()

    class Reporting(Server):
        async def application_exception(self, exception, details):
            failures.append(str(exception))

    async def application(scope, receive, send):
        if (message := await receive()) == "failing":
            raise LookupError(message)

    failures, source = [], Hanging()
    server = Reporting(application, source)
    server.queue().put_nowait("held")
    await asyncio.sleep(21)  # longer than the two calls may take
    assert source.events == [["held"]]
    server.queue().put_nowait("failing")
    await settled()
    assert failures == ["failing"]
    await asyncio.sleep(11)
    assert source.events == [["held"], ["failing"]]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_acknowledgement_in_progress_counts_when_its_instance_fails(settled):
    async def application(scope, receive, send):
        await receive()
        left_behind.append(asyncio.create_task(receive()))
        await source.acknowledging.wait()
        raise LookupError

    left_behind, source = [], Source()
    source.go.clear()
    Server(application, source).queue().put_nowait("held")
    await source.acknowledging.wait()
    await settled()
    source.go.set()
    await settled()
    assert source.events == ["held", []]
    await asyncio.wait(left_behind)


async def test_idle_time_counts_from_the_end_of_an_acknowledgement(fast_clock, settled):
    fast_clock()

    async def application(scope, receive, send):
        while True:
            await receive()

    source = Source()
    source.go.clear()
    server = Server(application, source, idle_timeout=10)
    server.queue().put_nowait(1)
    await source.acknowledging.wait()
    await asyncio.sleep(15)
    source.go.set()
    await asyncio.sleep(7)
    assert "a" in server.application_instances
    await asyncio.sleep(20)
    assert not server.application_instances
