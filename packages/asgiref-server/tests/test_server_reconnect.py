"""`Reconnect` runs handle again, and `MessageSource` supplies messages."""

import asyncio
import contextlib
import logging

import pytest

from asgiref.server import MessageSource, Reconnect, StatelessServer
from asgiref.sync import sync_to_async

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(30)]


async def echo(scope, receive, send):
    count = 0
    while True:
        count += 1
        await send((await receive(), count))


async def turns():
    """Let all tasks and callbacks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


class Bot(StatelessServer):
    """A server each run of whose ``handle`` takes the next of the steps."""

    def __init__(self, steps, **options):
        super().__init__(echo, **options)
        self.steps = list(steps)
        self.sent = []
        self.done = asyncio.Event()

    async def handle(self):
        step = self.steps.pop(0) if self.steps else "last"
        if step == "last":
            self.done.set()
            await asyncio.Event().wait()
        if isinstance(step, BaseException):
            raise step
        if step != "return":
            queue = self.get_or_create_application_instance("a", {"type": "test"})
            queue.put_nowait(step)
            await turns()

    async def application_send(self, scope, message):
        self.sent.append(message)


async def run_until_done(bot):
    running = asyncio.create_task(bot.arun())
    await asyncio.wait_for(bot.done.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_handle_is_run_again_and_scopes_survive(caplog, no_task_left):
    caplog.set_level(logging.INFO, "asgiref.server")
    steps = ["one", OSError("lost"), "return", OSError("again"), "two"]
    bot = Bot(steps, reconnect=Reconnect(0.001, 0.002))
    await run_until_done(bot)
    assert bot.sent == [("one", 1), ("two", 2)]
    lines = [record.getMessage() for record in caplog.records]
    lost = [line for line in lines if "will run again in" in line]
    assert [line.partition(";")[0] for line in lost] == ["Bot.handle() returned"] * 2
    assert lines[1] == "The connection is back, after 4 attempt(s)"
    no_task_left()


async def test_handle_may_report_that_the_connection_is_established(caplog):
    caplog.set_level(logging.INFO, "asgiref.server")
    reconnect = Reconnect(0.001, 0.002)

    class Saying(Bot):
        async def handle(self):
            if len(self.steps) < 2:
                reconnect.established()
            await super().handle()

    await run_until_done(Saying([OSError("lost"), "return"], reconnect=reconnect))
    assert "The connection is back, after 1 attempt(s)" in caplog.text


async def test_an_application_that_looks_up_a_scope_establishes_no_connection(caplog):
    caplog.set_level(logging.INFO, "asgiref.server")

    class Relaying(Bot):
        async def handle(self):
            if len(self.steps) == 2:
                self.get_or_create_application_instance("a", {"type": "test"})
            if len(self.steps) == 1:
                self.application_instances["a"]["input_queue"].put_nowait("timer")
                await turns()
            await super().handle()

        async def application_send(self, scope, message):
            await super().application_send(scope, message)
            self.get_or_create_application_instance("b", {"type": "test"})

    bot = Relaying([OSError("lost"), OSError("again")], reconnect=Reconnect(0.001, 0.002))
    await run_until_done(bot)
    assert bot.sent == [("timer", 1)]
    assert "The connection is back" not in caplog.text


async def test_a_timer_of_an_application_establishes_no_connection(caplog):
    caplog.set_level(logging.INFO, "asgiref.server")

    class Timed(Bot):
        async def handle(self):
            if len(self.steps) == 2:
                self.queue_of("a").put_nowait("start")
                await asked.wait()
            if len(self.steps) == 1:
                fire.set()
                await turns()
            await super().handle()

        def queue_of(self, scope_id):
            return self.get_or_create_application_instance(scope_id, {"type": "test"})

        async def application_send(self, scope, message):
            await super().application_send(scope, message)
            if not asked.is_set():
                timers.append(asyncio.create_task(self.later()))
                asked.set()

        async def later(self):
            await fire.wait()
            self.queue_of("a").put_nowait("timer")

    asked, fire, timers = asyncio.Event(), asyncio.Event(), []
    bot = Timed([OSError("lost"), OSError("again")], reconnect=Reconnect(0.001, 0.002))
    await run_until_done(bot)
    assert bot.sent == [("start", 1), ("timer", 2)]
    assert "The connection is back" not in caplog.text


async def test_the_delay_doubles_up_to_the_maximum_with_jitter():
    reconnect = Reconnect(1.0, 5.0)
    delays = [reconnect._lost("Bot", None) for _ in range(2000)]
    for delay, most in zip(delays, [1, 2, 4, 5, 5], strict=False):
        assert most / 2 <= delay <= most
    assert len({round(delay, 6) for delay in delays[4:50]}) > 10
    reconnect.established()
    assert reconnect._lost("Bot", None) <= 1


async def test_a_negative_delay_is_rejected():
    with pytest.raises(ValueError, match="must not be negative"):
        Reconnect(-1)


async def test_without_the_option_a_failure_of_handle_is_logged_and_raised(caplog):
    with pytest.raises(OSError, match="lost"):
        await Bot([OSError("lost")]).arun()
    assert "Bot.handle() failed; the server is shutting down: OSError('lost')" in caplog.text


async def test_a_server_without_a_handle_is_not_run_again():
    with pytest.raises(NotImplementedError):
        await StatelessServer(echo, reconnect=Reconnect(0, 0)).arun()


async def lose_a_reader():
    reader = asyncio.create_task(asyncio.Event().wait())
    reader.cancel()
    await reader


async def test_handle_is_run_again_after_a_task_that_it_awaited_was_cancelled():
    """Client libraries cancel their reader in this way when the connection is lost."""

    class Reading(Bot):
        async def handle(self):
            if self.steps == ["cancelled"]:
                self.steps.clear()
                await lose_a_reader()
            await super().handle()

    bot = Reading(["cancelled"], reconnect=Reconnect(0.001, 0.002))
    await run_until_done(bot)


async def test_handle_is_run_again_after_a_timeout_that_does_not_undo_its_cancellation():
    # Timeouts written before Python 3.11 cancel the task, and then raise.
    class Interrupted(Bot):
        async def handle(self):
            if self.steps:
                self.steps.pop()
                asyncio.current_task().cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
                raise TimeoutError
            await super().handle()

    server = Interrupted(["interrupted"], reconnect=Reconnect(0))
    running = asyncio.create_task(server.arun())
    waiting = asyncio.create_task(server.done.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert server.done.is_set()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_without_the_option_an_unexpected_cancellation_is_logged(caplog):
    class Reading(Bot):
        async def handle(self):
            await lose_a_reader()

    with pytest.raises(asyncio.CancelledError):
        await Reading([]).arun()
    assert "Reading.handle() failed; the server is shutting down: CancelledError()" in caplog.text


async def test_system_exit_in_handle_ends_the_server(no_task_left):
    with pytest.raises(SystemExit):
        await Bot([SystemExit(3)], reconnect=Reconnect(0, 0)).arun()
    no_task_left()


async def test_a_plain_application_send_is_called_on_the_loop_and_its_awaitable_awaited():
    class Plain(Bot):
        def application_send(self, scope, message):
            asyncio.get_running_loop()  # raises on another thread
            return self.later(message)

        async def later(self, message):
            self.sent.append(message)

    bot = Plain(["one"])
    await bot.arun()
    assert bot.sent == [("one", 1)]


async def test_a_decorated_method_runs_on_a_worker_thread():
    class Threaded(Bot):
        @sync_to_async
        def application_send(self, scope, message):
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            self.sent.append(message)

    bot = Threaded(["one"], shutdown_timeout=30)
    await bot.arun()
    assert bot.sent == [("one", 1)]


class Ledger(MessageSource):
    """Supplies the numbers in `backlog`, and records their fate."""

    def __init__(self, backlog):
        self.backlog = backlog
        self.events = []

    async def next_message(self, instance):
        if not self.backlog:
            return await super().next_message(instance)
        await asyncio.sleep(0)
        return self.backlog.pop(0)

    async def acknowledge(self, instance, message):
        self.events.append(("acknowledged", message))

    async def instance_ended(self, instance, unacknowledged):
        self.events.append(("ended", instance.scope_id, unacknowledged))


class Sourced(StatelessServer):
    async def handle(self):
        self.get_or_create_application_instance("a", {"type": "test"}).put_nowait("put")
        await turns()

    async def application_send(self, scope, message):
        pass

    async def application_exception(self, exception, details):
        pass


@pytest.mark.parametrize(
    ("end", "last"),
    [
        ("return", [("acknowledged", "put"), ("ended", "a", [])]),
        ("fail", [("ended", "a", ["put"])]),
        ("hang", [("ended", "a", ["put"])]),
        ("read on", [("acknowledged", "put"), ("ended", "a", [])]),
    ],
)
async def test_messages_come_from_the_source_and_are_acknowledged_there(end, last, no_task_left):
    async def application(scope, receive, send):
        for expected in (1, 2, "put"):
            assert await receive() == expected
        if end == "fail":
            raise LookupError
        if end == "hang":
            await asyncio.Event().wait()
        if end == "read on":
            await receive()

    source = Ledger([1, 2])
    await Sourced(application, source=source, shutdown_timeout=0.01).arun()
    assert source.events == [("acknowledged", 1), ("acknowledged", 2), *last]
    no_task_left()


async def test_a_handle_that_returns_when_it_is_cancelled_does_not_connect_again(no_task_left):
    connections = []

    class Polite(StatelessServer):
        async def handle(self):
            connections.append(self)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    running = asyncio.create_task(Polite(echo, reconnect=Reconnect(first_delay=0)).arun())
    await turns()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(connections) == 1
    no_task_left()
