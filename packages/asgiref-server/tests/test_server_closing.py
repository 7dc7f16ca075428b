"""Shutdown: it finishes on time, no instance starts, and every message is reported."""

import asyncio
import contextlib
import sys

import pytest

from asgiref.server import MessageSource, StatelessServer

pytestmark = pytest.mark.timeout(30)


def scope_of(name):
    return {"type": "test", "id": name}


class Chat(StatelessServer):
    """Applications send ``{"to": scope_id}``; ``handle`` waits for `finished`."""

    def __init__(self, application, **options):
        super().__init__(application, **options)
        self.undelivered, self.failures = [], []
        self.finished = asyncio.Event()

    async def handle(self):
        await self.finished.wait()

    def put(self, name, message):
        self.get_or_create_application_instance(name, scope_of(name)).put_nowait(message)

    async def application_send(self, scope, message):
        self.put(message["to"], message["text"])

    async def application_undelivered(self, messages, details):
        self.undelivered += [(details.scope_id, message) for message in messages]

    async def application_exception(self, exception, details):
        self.failures.append((details.scope_id, exception))


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


async def reading(scope, receive, send):
    while True:
        await receive()


async def leaving(scope, receive, send):
    try:
        await reading(scope, receive, send)
    finally:
        await asyncio.sleep(0)
        await send({"to": {"a": "b", "b": "a"}[scope["id"]], "text": f"{scope['id']} left"})


@pytest.mark.asyncio
async def test_cleanups_that_send_to_each_other_start_nothing(no_task_left):
    server = Chat(leaving)
    running = asyncio.create_task(server.arun())
    server.put("a", "hello")
    server.put("b", "hello")
    await turns()
    server.finished.set()
    await running
    assert sorted(server.undelivered) == [("a", "b left"), ("b", "a left")]
    no_task_left()


@pytest.mark.asyncio
async def test_a_listener_that_outlives_handle_starts_nothing():
    class Server(Chat):
        async def handle(self):
            self.listener = asyncio.create_task(self.listen())
            await super().handle()

        async def listen(self):
            for number in range(1000):
                self.put(f"scope {number}", number)
                self.put_count = number + 1
                await asyncio.sleep(0)

    started = []

    async def application(scope, receive, send):
        started.append(scope["id"])
        await reading(scope, receive, send)

    server = Server(application)
    running = asyncio.create_task(server.arun())
    await turns(5)
    server.finished.set()
    await running
    before = len(started)
    await server.listener
    await turns()
    assert len(started) == before
    received = before
    assert server.put_count == received + len(server.undelivered)
    assert not server.application_instances


@pytest.mark.asyncio
async def test_a_hook_that_puts_messages_back_at_shutdown_is_called_once(no_task_left, caplog):
    class Server(Chat):
        async def application_undelivered(self, messages, details):
            await super().application_undelivered(messages, details)
            for message in messages:
                self.put(details.scope_id, message)
                await asyncio.create_task(self.put_later(details.scope_id, message))

        async def put_later(self, name, message):
            self.put(name, message)

    async def busy(scope, receive, send):
        await asyncio.Event().wait()

    server = Server(busy, shutdown_timeout=0.01)
    running = asyncio.create_task(server.arun())
    server.put("a", 1)
    await turns()
    server.finished.set()
    await running
    assert server.undelivered == [("a", 1)]
    assert "came back from application_undelivered" in caplog.text
    no_task_left()


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["receive", "elsewhere", "send", "hook", "lifespan", "handle"])
async def test_a_task_that_ignores_its_cancellation_is_abandoned_and_named(where, caplog):
    async def stubborn(wait):
        stubborn_tasks.append(asyncio.current_task())
        while not given_up:
            with contextlib.suppress(asyncio.CancelledError, RuntimeError):
                await wait()

    async def application(scope, receive, send):
        if where == "lifespan":
            if scope["type"] != "lifespan":
                return
            await receive()
            await send({"type": "lifespan.startup.complete"})
        if where == "hook":
            raise LookupError
        wait = {
            "receive": receive,
            "send": lambda: send({"to": "a", "text": "again"}),
        }.get(where, asyncio.Event().wait)
        await stubborn(wait)

    class Server(Chat):
        async def handle(self):
            if where == "handle":
                await stubborn(asyncio.Event().wait)
            await super().handle()

        async def application_send(self, scope, message):
            await asyncio.sleep(0)

        async def application_exception(self, exception, details):
            await stubborn(asyncio.Event().wait)

    given_up, stubborn_tasks = [], []
    server = Server(application, shutdown_timeout=0.01, lifespan=where == "lifespan")
    running = asyncio.create_task(server.arun())
    await turns()
    server.put("a", 1)
    await turns()
    if where == "handle":
        running.cancel()
    server.finished.set()
    begin = asyncio.get_running_loop().time()
    await asyncio.wait({running}, timeout=15)
    assert running.done()
    assert asyncio.get_running_loop().time() - begin < 10  # one second for each step, with a margin
    assert "ignores its cancellation, and is abandoned" in caplog.text
    given_up.append(True)  # so that no task is left after the test
    for task in stubborn_tasks:
        task.cancel()
    await turns()


@pytest.mark.asyncio
@pytest.mark.parametrize("catching", ["bare", "exception in a task"])
async def test_an_application_that_keeps_reading_does_not_block_the_loop(
    catching, settled, fast_clock
):
    fast_clock()
    caught = []
    kind = BaseException if catching == "bare" else Exception

    async def loop_over(receive):
        while True:
            try:
                await receive()
                await asyncio.sleep(0)
            except kind as error:
                caught.append(error)
                if isinstance(error, GeneratorExit) or len(caught) > 100:
                    raise

    async def application(scope, receive, send):
        if catching == "bare":
            await loop_over(receive)
        else:
            tasks.append(asyncio.create_task(loop_over(receive)))
            await asyncio.sleep(0)

    tasks = []
    server = Chat(application)
    server.put("a", 1)
    future = server.application_instances["a"].future
    await settled()
    if catching == "bare":
        server.delete_application_instance("a")
    await asyncio.sleep(0.5)
    assert 0 < len(caught) <= 10 if catching == "bare" else len(caught) <= 2
    for task in [*tasks, future]:
        for _ in range(200):
            task.cancel()
            await asyncio.sleep(0)


@pytest.mark.asyncio
@pytest.mark.parametrize("source", [None, MessageSource()], ids=["queue", "source"])
async def test_a_scope_that_sends_messages_to_itself_lets_the_others_run(source, settled):
    class Server(Chat):
        async def application_send(self, scope, message):
            self.put(scope["id"], message + 1)

    async def application(scope, receive, send):
        while not stopped and (message := await receive()) < 100_000:
            numbers.append(message)
            await send(message)

    numbers, stopped = [], []
    server = Server(application, source=source)
    server.put("a", 0)
    await settled()
    stopped.append(True)
    await settled()
    assert 0 < len(numbers) < 100_000
    assert numbers == list(range(len(numbers)))


@pytest.mark.asyncio
async def test_a_send_that_fails_at_once_lets_the_others_run():
    class Server(Chat):
        async def application_send(self, scope, message):
            raise ConnectionError("no line")

    tries = []

    async def application(scope, receive, send):
        while True:
            try:
                await send("message")
            except Exception:
                tries.append(scope["id"])

    server = Server(application)
    server.get_or_create_application_instance("a", scope_of("a"))
    await turns()
    assert 2 < len(tries) < 30
    server.delete_application_instance("a")
    await turns()


CANCELLATIONS = [[0], [1], [4], [0, 0], [1, 0], [3, 1], [0, 0, 0], [1, 1, 1], [2, 5, 1]]


@pytest.mark.asyncio
@pytest.mark.parametrize("cancellations", CANCELLATIONS, ids=str)
@pytest.mark.parametrize("natural", [False, True])
@pytest.mark.parametrize("factory", ["none", "eager", "two arguments"])
async def test_a_server_cancelled_at_any_step_leaves_nothing_and_can_run_again(
    cancellations, natural, factory, no_task_left
):
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        await leaving(scope, receive, send)

    class Server(Chat):
        async def handle(self):
            try:
                for _ in range(20):
                    self.put("a", "hello")
                    self.put("b", "hello")
                    await asyncio.sleep(0)
                await super().handle()
            finally:
                await asyncio.sleep(0)

    loop = asyncio.get_running_loop()
    if factory == "eager" and sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    elif factory == "two arguments":
        loop.set_task_factory(lambda loop, coroutine: asyncio.Task(coroutine, loop=loop))
    try:
        for steps in range(1, 16):
            server = Server(application, max_applications=2, shutdown_timeout=0.01, lifespan=True)
            for _ in range(2):
                server.finished.clear()
                running = loop.create_task(server.arun())
                await turns(steps)
                if natural:
                    server.finished.set()
                for gap in cancellations:
                    running.cancel()
                    await turns(gap)
                await asyncio.wait({running}, timeout=10)
                assert running.cancelled() or running.result() is None
                assert not server.application_instances
                assert server.failures == []
                no_task_left()
    finally:
        loop.set_task_factory(None)


@pytest.mark.asyncio
async def test_a_running_server_refuses_to_run_again():
    server = Chat(reading)
    running = asyncio.create_task(server.arun())
    await turns()
    with pytest.raises(RuntimeError, match="This Chat is already running"):
        await server.arun()
    server.finished.set()
    await running


@pytest.mark.asyncio
async def test_a_cancelled_put_leaves_nothing_behind():
    async def busy(scope, receive, send):
        await asyncio.Event().wait()

    server = Chat(busy, queue_size=1)
    server.put("a", 0)
    queue = server.get_or_create_application_instance("a", scope_of("a"))
    for _ in range(3):
        putting = asyncio.create_task(queue.put(1))
        await turns()
        putting.cancel()
        await turns()
    assert queue.get_nowait() == 0
    await turns()
    assert queue.empty()
    server.finished.set()
    await server.arun()
    assert server.undelivered == []


@pytest.mark.asyncio
async def test_the_next_instance_waits_for_the_previous_ones_cleanup(settled):
    running, most = [], []

    async def application(scope, receive, send):
        running.append(scope["id"])
        most.append(len(running))
        try:
            await reading(scope, receive, send)
        finally:
            await go.wait()
            running.remove(scope["id"])

    go = asyncio.Event()
    server = Chat(application)
    server.put("a", 1)
    await settled()
    server.delete_application_instance("a")
    server.put("a", 2)
    await settled()
    assert most == [1]
    go.set()
    await settled()
    assert most == [1, 1]
    server.finished.set()
    await server.arun()
    assert server.undelivered == []


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["as asgiref", "keeps all", "sends", "starts"])
async def test_overridden_deletion_starts_no_second_instance(how, settled):
    class Server(Chat):
        def delete_application_instance(self, scope_id):
            if how == "as asgiref":
                details = self.application_instances[scope_id]
                del self.application_instances[scope_id]
                if not details["future"].done():
                    details["future"].cancel()
                return
            if how == "keeps all":
                return
            super().delete_application_instance(scope_id)
            self.put(scope_id if how == "sends" else "new", "you were evicted")

    live = {}

    async def application(scope, receive, send):
        live[scope["id"]] = live.get(scope["id"], 0) + 1
        assert live[scope["id"]] == 1
        try:
            await reading(scope, receive, send)
        finally:
            live[scope["id"]] -= 1

    server = Server(application, max_applications=1)
    for name in ("a", "b", "new", "a"):
        server.put(name, 1)
        await settled()
    server.finished.set()
    await server.arun()
    assert server.failures == []
    assert not any(live.values())


@pytest.mark.asyncio
async def test_a_start_that_fails_leaves_the_queue_usable(settled):
    got = []

    async def application(scope, receive, send):
        got.append(await receive())

    server = Chat(application)
    kept = server.get_or_create_application_instance("a", scope_of("a"))
    kept.put_nowait(1)
    await settled()
    server.application = None
    with pytest.raises(TypeError, match="needs an ASGI application"):
        kept.put_nowait(2)
    server.application = application
    kept.put_nowait(3)
    await settled()
    assert got == [1, 3]


@pytest.mark.asyncio
async def test_a_message_from_another_thread_reaches_a_server_without_plain_methods(settled):
    got = []

    async def application(scope, receive, send):
        while True:
            got.append(await receive())

    server = Chat(application)
    running = asyncio.create_task(server.arun())
    await settled()
    await asyncio.to_thread(server.put, "a", 1)
    await settled()
    assert got == [1]
    server.finished.set()
    await running


@pytest.mark.asyncio
async def test_idle_time_counts_from_the_last_message_received_or_sent(fast_clock):
    fast_clock()

    class Server(Chat):
        async def application_send(self, scope, message):
            await sent.wait()

    cancelled, sent = [], asyncio.Event()

    async def application(scope, receive, send):
        try:
            await receive()
            await send("slow")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(sent.is_set())
            raise

    server = Server(application, idle_timeout=10)
    server.put("a", 1)
    await asyncio.sleep(40)
    assert cancelled == []
    sent.set()
    await asyncio.sleep(9)
    assert cancelled == []
    await asyncio.sleep(2)
    assert cancelled == [True]


@pytest.mark.asyncio
async def test_an_instance_that_was_deleted_while_it_waited_changes_nothing_for_the_next(settled):
    running, most = [], []

    async def application(scope, receive, send):
        running.append(scope["id"])
        most.append(len(running))
        try:
            await reading(scope, receive, send)
        finally:
            await go.wait()
            running.remove(scope["id"])

    go = asyncio.Event()
    server = Chat(application)
    for _ in range(4):
        server.put("a", 1)
        await settled()
        server.delete_application_instance("a")
        await settled()
    server.put("a", "last")
    await settled()
    assert most == [1]
    assert len(server.undelivered) == 3
    go.set()
    await settled()
    assert most == [1, 1]
    server.finished.set()
    await server.arun()


def test_a_table_may_be_replaced_when_no_loop_runs(caplog):
    async def start():
        server.put("a", 1)

    async def busy(scope, receive, send):
        await asyncio.Event().wait()

    server = Chat(busy)
    with asyncio.Runner() as runner:
        runner.run(start())
        server.application_instances = {}
        assert "was not called, because no event loop is running here" in caplog.text
        runner.run(asyncio.sleep(0))
    assert not server.application_instances


def test_asyncio_run_returns_even_if_hooks_for_late_messages_block():
    class Server(Chat):
        async def handle(self):
            self.listener = asyncio.create_task(self.listen())
            await asyncio.sleep(0)

        async def listen(self):
            try:
                await asyncio.Event().wait()
            finally:
                for number in range(3):
                    self.put("late", number)
                    await asyncio.sleep(0)

        async def application_undelivered(self, messages, details):
            await super().application_undelivered(messages, details)
            await asyncio.Event().wait()

    server = Server(reading)
    asyncio.run(server.arun())
    assert not server.application_instances


@pytest.mark.asyncio
async def test_messages_sent_during_lifespan_shutdown_are_all_reported(no_task_left):
    class Server(Chat):
        async def application_undelivered(self, messages, details):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await super().application_undelivered(messages, details)

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            server.put("a", "last")
            await send({"type": "lifespan.shutdown.complete"})

    server = Server(application, lifespan=True)
    server.finished.set()
    await server.arun()
    assert server.undelivered == [("a", "last")]
    no_task_left()


@pytest.mark.asyncio
async def test_messages_for_an_instance_that_a_hook_started_are_reported(settled, no_task_left):
    """An example is a scope for dead letters, which `application_undelivered` starts."""

    class Server(Chat):
        async def application_undelivered(self, messages, details):
            await super().application_undelivered(messages, details)
            if details.scope_id == "busy":
                self.put("dead letters", messages[0])

    async def application(scope, receive, send):
        if scope["id"] == "busy":
            await asyncio.Event().wait()
        try:
            await reading(scope, receive, send)
        finally:
            await send({"to": "other", "text": "bye"})

    server = Server(application)
    running = asyncio.create_task(server.arun())
    await settled()
    server.put("busy", 1)
    await settled()
    server.delete_application_instance("busy")
    await settled()
    server.finished.set()
    await running
    assert server.undelivered == [("busy", 1), ("other", "bye")]
    no_task_left()


@pytest.mark.asyncio
async def test_shutdown_waits_for_a_send_concurrent_with_a_receive(settled, no_task_left):
    class Server(Chat):
        async def application_send(self, scope, message):
            sending.set()
            await go.wait()
            sent.append(message)

    async def application(scope, receive, send):
        tasks = [asyncio.create_task(receive()), asyncio.create_task(send("answer"))]
        await asyncio.gather(*tasks)

    sending, go, sent = asyncio.Event(), asyncio.Event(), []
    server = Server(application, shutdown_timeout=3600)
    running = asyncio.create_task(server.arun())
    await settled()
    server.get_or_create_application_instance("a", scope_of("a"))
    await sending.wait()
    server.finished.set()
    await settled()
    assert not running.done()
    go.set()
    await asyncio.wait_for(running, 10)
    assert sent == ["answer"]
    no_task_left()


class Unusual(BaseException):
    """A BaseException, like the one that ``pytest.fail()`` raises."""


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [asyncio.CancelledError, Unusual, SystemExit])
async def test_a_send_that_raises_anything_suspends_first(kind, settled):
    class Server(Chat):
        async def application_send(self, scope, message):
            raise kind

    tries = []

    async def application(scope, receive, send):
        while len(tries) < 1000:
            try:
                await send("message")
            except BaseException:
                tries.append(scope["id"])

    server = Server(application)
    server.get_or_create_application_instance("a", scope_of("a"))
    await settled()
    assert 2 < len(tries) < 100
    server.delete_application_instance("a")
    server.finished.set()
    await server.arun()


@pytest.mark.asyncio
async def test_a_task_that_keeps_reading_does_not_start_the_next_instance_early(settled):
    async def keep_reading(receive):
        for _ in range(10):
            with contextlib.suppress(RuntimeError, asyncio.CancelledError):
                await receive()

    async def application(scope, receive, send):
        events.append("start")
        readers.append(asyncio.create_task(keep_reading(receive)))
        try:
            await asyncio.Event().wait()
        finally:
            await cleaned_up.wait()
            events.append("end")

    events, readers, cleaned_up = [], [], asyncio.Event()
    server = Chat(application)
    server.put("a", 1)
    await settled()
    server.delete_application_instance("a")
    server.put("a", 2)
    await settled()
    assert events == ["start"]
    cleaned_up.set()
    await settled()
    assert events == ["start", "end", "start"]
    server.finished.set()
    await server.arun()
    for reader in readers:
        while not reader.done():
            reader.cancel()
            await settled()


@pytest.mark.asyncio
async def test_a_put_cancelled_in_the_turn_that_makes_room_is_cancelled(settled):
    async def busy(scope, receive, send):
        await asyncio.Event().wait()

    server = Chat(busy, queue_size=1)
    queue = server.get_or_create_application_instance("a", scope_of("a"))
    queue.put_nowait(1)
    putting = asyncio.create_task(queue.put(2))
    await settled()
    putting.cancel()
    queue.get_nowait()
    with pytest.raises(asyncio.CancelledError):
        await putting
    server.finished.set()
    await server.arun()
