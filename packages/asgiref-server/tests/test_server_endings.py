"""Applications that end, fail or are cancelled: their reports, and the fate of their messages."""

import asyncio
import contextlib
import gc
import logging
import weakref

import pytest

from asgiref.server import StatelessServer
from asgiref.sync import sync_to_async

pytestmark = pytest.mark.asyncio


async def echo(scope, receive, send):
    while True:
        await send(await receive())


async def one_message(scope, receive, send):
    await send(await receive())


async def test_an_instance_that_ends_is_gone_at_once(make_server, settled):
    server = make_server(one_message)
    server.put("a", 1)
    assert await server.next_sent() == ("a", 1)
    await settled()
    assert not server.application_instances
    assert server.failures == server.undelivered == []


async def test_a_failure_is_reported_once_with_its_record(make_server, settled):
    async def application(scope, receive, send):
        raise LookupError(f"no {scope['id']}")

    server = make_server(application)
    server.queue("a")
    server.queue("b")
    await settled()
    assert server.failures == [("a", "no a"), ("b", "no b")]
    assert not server.application_instances


async def test_a_failure_is_logged_with_scope_and_traceback(caplog, settled):
    async def application(scope, receive, send):
        raise LookupError("broken")

    server = StatelessServer(application)
    server.get_or_create_application_instance("the scope", {"type": "test"})
    await settled()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asgiref.server", logging.ERROR)
    assert (
        record.getMessage()
        == "Exception inside application for scope 'the scope': LookupError: broken"
    )
    assert "in application" in caplog.text
    assert "LookupError: broken" in caplog.text


async def test_a_failed_application_leaves_no_reference_cycle(settled):
    class Marker:
        pass

    async def application(scope, receive, send):
        marker = Marker()
        gone.append(weakref.ref(marker))
        raise LookupError("broken")

    class Quiet(StatelessServer):
        async def application_exception(self, exception, application_details):
            pass

    gone = []
    server = Quiet(application)
    gc.disable()
    try:
        server.get_or_create_application_instance("a", {"type": "test"})
        await settled()
        assert gone[0]() is None
    finally:
        gc.enable()


async def test_a_cancelled_application_is_not_a_failure(make_server, settled):
    server = make_server(echo)
    running = asyncio.create_task(server.arun())
    server.queue("a")
    await settled()
    server.application_instances["a"]["future"].cancel()
    await settled()
    assert not server.application_instances
    assert server.failures == []
    assert not running.done()
    server.put("b", "goes on")
    assert await server.next_sent() == ("b", "goes on")
    server.finished.set()
    await running


async def test_an_application_that_raises_when_it_is_evicted_is_reported(make_server, settled):
    async def application(scope, receive, send):
        try:
            await receive()
        finally:
            raise LookupError("while cleaning up")

    server = make_server(application)
    server.queue("a")
    await settled()
    server.delete_application_instance("a")
    await settled()
    assert server.failures == [("a", "while cleaning up")]


async def test_a_message_after_the_end_starts_a_new_instance(make_server, settled):
    server = make_server(one_message)
    for number in range(3):
        server.put("a", number)
        assert await server.next_sent() == ("a", number)
        await settled()
    assert server.undelivered == []


async def test_messages_left_by_one_instance_go_to_the_next_in_order(make_server, settled):
    server = make_server(one_message)
    for number in range(5):
        server.put("a", number)
    assert [await server.next_sent() for _ in range(5)] == [("a", n) for n in range(5)]
    await settled()
    assert server.undelivered == []
    assert server.sent.empty()


async def test_an_application_that_fails_at_once_is_not_restarted_endlessly(make_server, settled):
    started = []

    async def application(scope, receive, send):
        started.append(scope["id"])
        raise LookupError("at once")

    server = make_server(application)
    server.put("a", 1)
    server.put("a", 2)
    await settled()
    assert started == ["a", "a"]
    assert server.undelivered == [("a", [1, 2])]
    assert server.failures == [("a", "at once")] * 2
    server.put("a", 3)
    await settled()
    assert started == ["a"] * 4
    assert server.undelivered == [("a", [1, 2]), ("a", [3])]


async def test_undelivered_messages_are_logged_by_default(caplog, settled):
    async def application(scope, receive, send):
        pass

    server = StatelessServer(application)
    server.get_or_create_application_instance("a", {"type": "test"}).put_nowait(1)
    await settled()
    assert [record.getMessage() for record in caplog.records] == [
        "1 message(s) for scope 'a' were not received by any application"
    ]


async def test_a_kept_queue_keeps_serving_the_scope(make_server, settled):
    server = make_server(one_message)
    kept = server.queue("a")
    for number in range(3):
        kept.put_nowait(number)
        assert await server.next_sent() == ("a", number)
        await settled()
        assert not server.application_instances
    assert server.queue("a") is kept
    await server.close()


async def test_a_kept_queue_revives_its_scope_within_the_limit(make_server, settled):
    server = make_server(echo, max_applications=1)
    kept = server.queue("a")
    server.queue("b")
    await settled()
    kept.put_nowait("hello")
    assert list(server.application_instances) == ["a"]
    assert await server.next_sent() == ("a", "hello")
    await server.close()


@pytest.mark.parametrize("how", ["kept queue", "looked up"])
async def test_a_put_between_the_end_and_its_notice_reaches_the_next_instance(make_server, how):
    started = []

    def put():
        assert future.done()
        (kept if how == "kept queue" else server.queue("a")).put_nowait("hello")

    async def application(scope, receive, send):
        started.append(scope["id"])
        if len(started) == 1:
            asyncio.get_running_loop().call_soon(put)  # runs before the task's done-callbacks
            raise LookupError("reported once")
        await send(await receive())

    server = make_server(application)
    kept = server.queue("a")
    future = server.application_instances["a"]["future"]
    assert await server.next_sent() == ("a", "hello")
    assert started == ["a", "a"]
    await server.close()
    assert server.failures == [("a", "reported once")]


async def test_a_deletion_between_the_end_and_its_notice_still_reports_the_failure(
    make_server, settled
):
    async def application(scope, receive, send):
        asyncio.get_running_loop().call_soon(server.delete_application_instance, "a")
        raise LookupError("just before")

    server = make_server(application)
    server.queue("a")
    await settled()
    assert server.failures == [("a", "just before")]
    assert not server.application_instances


async def test_an_evicted_instances_messages_are_undelivered(make_server, settled):
    async def application(scope, receive, send):
        await asyncio.Event().wait()

    server = make_server(application, max_applications=1)
    server.put("a", 1)
    server.put("a", 2)
    server.queue("b")
    await settled()
    assert server.undelivered == [("a", [1, 2])]
    await server.close()


async def test_a_cancelled_instance_cannot_take_its_successors_messages(make_server, settled):
    stole = []

    async def application(scope, receive, send):
        if scope["id"] != "a" or stole:
            await send(await receive())
            return
        try:
            stole.append(None)
            await receive()
        except asyncio.CancelledError:
            stole.append(await receive())

    server = make_server(application)
    kept = server.queue("a")
    await settled()
    server.delete_application_instance("a")
    kept.put_nowait("for the next")
    assert await server.next_sent() == ("a", "for the next")
    await settled()
    assert stole == [None]
    ((scope_id, reason),) = server.failures
    assert scope_id == "a"
    assert "has ended or was cancelled, and cannot receive any more" in reason


@pytest.mark.parametrize("end", ["returns", "is deleted"])
async def test_a_task_that_an_instance_left_behind_takes_nothing_from_its_successor(
    make_server, settled, end
):
    async def application(scope, receive, send):
        if not left:
            left.append(asyncio.create_task(receive()))
            await asyncio.sleep(0)
            if end == "is deleted":
                await asyncio.Event().wait()
            return
        await send(await receive())

    left = []
    server = make_server(application)
    kept = server.queue("a")
    await settled()
    if end == "is deleted":
        server.delete_application_instance("a")
    kept.put_nowait("for the next")
    assert await server.next_sent() == ("a", "for the next")
    with pytest.raises(asyncio.CancelledError):
        await left[0]


async def test_an_evicted_application_that_receives_in_its_own_tasks_is_not_a_failure(
    make_server, settled
):
    """Channels' consumers do this: they await a task for each of their sources."""

    async def dispatch(receive):
        tasks = [asyncio.create_task(wait()) for wait in (receive, asyncio.Event().wait)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def application(scope, receive, send):
        await asyncio.gather(*[asyncio.gather(dispatch(receive)) for _ in range(2)])

    server = make_server(application, max_applications=1)
    kept = server.queue("a")
    await settled()
    server.queue("b")
    kept.put_nowait("for the next")
    await settled()
    await server.close()
    assert server.failures == []


async def test_a_hook_that_fails_is_logged_and_the_server_continues(make_server, caplog, settled):
    class Server(make_server):
        async def application_exception(self, exception, application_details):
            raise ZeroDivisionError("in the hook")

    async def application(scope, receive, send):
        if scope["id"] == "bad":
            raise LookupError
        await send(await receive())

    server = Server(application)
    running = asyncio.create_task(server.arun())
    server.queue("bad")
    await settled()
    assert "Server.application_exception() for scope 'bad' failed" in caplog.text
    assert "in the hook" in caplog.text
    server.put("good", 1)
    assert await server.next_sent() == ("good", 1)
    server.finished.set()
    await running


@pytest.mark.parametrize("messages", [1, 3])
async def test_a_hook_may_delete_the_failed_instance_as_in_asgiref(
    make_server, caplog, settled, messages
):
    class Server(make_server):
        async def application_exception(self, exception, application_details):
            await super().application_exception(exception, application_details)
            self.delete_application_instance("a")

    async def application(scope, receive, send):
        raise LookupError(await receive())

    server = Server(application)
    for number in range(messages):
        server.put("a", number)
    await settled()
    assert server.failures == [("a", str(number)) for number in range(messages)]
    assert server.undelivered == []
    assert "failed" not in caplog.text


async def test_an_error_from_application_send_reaches_the_application(make_server, settled):
    class Server(make_server):
        async def application_send(self, scope, message):
            raise ConnectionError("no line")

    server = Server(one_message)
    server.put("a", 1)
    await settled()
    assert server.failures == [("a", "no line")]


async def test_hooks_and_send_may_run_on_worker_threads(make_server):
    class Server(make_server):
        @sync_to_async
        def application_send(self, scope, message):
            self.record(message)

        @sync_to_async
        def application_exception(self, exception, application_details):
            self.record(str(exception))

        def record(self, what):
            loop.call_soon_threadsafe(self.sent.put_nowait, what)

    async def application(scope, receive, send):
        for number in range(5):
            await send(number)
        raise LookupError("done")

    loop = asyncio.get_running_loop()
    server = Server(application)
    server.queue("a")
    assert [await server.next_sent() for _ in range(6)] == [0, 1, 2, 3, 4, "done"]
    await server.close()


async def test_a_bounded_queue_is_visible_to_its_server(make_server, settled):
    async def application(scope, receive, send):
        await go.wait()
        while True:
            await send(await receive())

    go = asyncio.Event()
    server = make_server(application, queue_size=2)
    queue = server.queue("a")
    queue.put_nowait(0)
    queue.put_nowait(1)
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait("too much")
    waiting = [asyncio.create_task(queue.put(number)) for number in (2, 3)]
    await settled()
    assert not any(task.done() for task in waiting)
    go.set()
    assert [await server.next_sent() for _ in range(4)] == [("a", n) for n in range(4)]
    await asyncio.gather(*waiting)
    await server.close()


async def test_no_message_is_lost_when_a_bounded_queues_application_ends(make_server, settled):
    server = make_server(one_message, queue_size=1)
    queue = server.queue("a")
    puts = [asyncio.create_task(queue.put(number)) for number in range(6)]
    assert [await server.next_sent() for _ in range(6)] == [("a", n) for n in range(6)]
    await asyncio.gather(*puts)
    await settled()
    assert server.undelivered == []


async def test_waiting_puts_continue_when_a_deleted_scopes_messages_are_discarded(
    make_server, settled
):
    async def application(scope, receive, send):
        if not first:
            first.append(True)
            await asyncio.Event().wait()
        while True:
            await send(await receive())

    first = []
    server = make_server(application, queue_size=1)
    queue = server.queue("a")
    puts = [asyncio.create_task(queue.put(number)) for number in range(4)]
    await settled()
    server.delete_application_instance("a")
    assert [await server.next_sent() for _ in range(3)] == [("a", n) for n in (1, 2, 3)]
    await asyncio.gather(*puts)
    assert server.undelivered == [("a", [0])]
    await server.close()


async def test_an_idle_scope_is_ended(make_server, fast_clock):
    fast_clock()
    ended = asyncio.Event()

    async def application(scope, receive, send):
        try:
            while True:
                await send(await receive())
        finally:
            ended.set()

    server = make_server(application, idle_timeout=0.05)
    server.put("a", 1)
    assert await server.next_sent() == ("a", 1)
    assert list(server.application_instances) == ["a"]
    await asyncio.wait_for(ended.wait(), 10)
    assert not server.application_instances


async def test_a_scope_that_only_sends_is_not_idle(make_server, fast_clock):
    fast_clock()

    async def application(scope, receive, send):
        for number in range(30):
            await asyncio.sleep(0.1)
            await send(number)

    server = make_server(application, idle_timeout=1)
    server.queue("a")
    assert [await server.next_sent() for _ in range(30)] == [("a", n) for n in range(30)]
    assert server.undelivered == []


async def test_a_scope_that_application_exception_starts_again_is_ended_when_idle(fast_clock):
    fast_clock()
    ended = asyncio.Event()

    async def application(scope, receive, send):
        if await receive() == "fail":
            raise LookupError
        try:
            await receive()
        finally:
            ended.set()

    class Restarting(StatelessServer):
        async def application_exception(self, exception, application_details):
            application_details["input_queue"].put_nowait("again")

    server = Restarting(application, idle_timeout=0.05)
    server.get_or_create_application_instance("a", {"type": "test"}).put_nowait("fail")
    await asyncio.wait_for(ended.wait(), 10)
    assert not server.application_instances


async def test_a_queue_can_be_printed_and_formatted(make_server):
    queue = make_server(echo).queue("a")
    assert str(queue) == f"{queue}" == repr(queue) == "<InputQueue of 'a', 0 waiting>"


async def test_a_task_that_a_hook_started_can_delete_the_next_instance_of_its_scope(
    make_server, settled
):
    class Server(make_server):
        async def application_exception(self, exception, application_details):
            await super().application_exception(exception, application_details)
            self.later = asyncio.create_task(self.delete_later())

        async def delete_later(self):
            await deleting.wait()
            self.delete_application_instance("a")

    async def application(scope, receive, send):
        raise LookupError(await receive())

    deleting = asyncio.Event()
    server = Server(application)
    server.put("a", 1)
    await settled()
    server.queue("a")
    deleting.set()
    await server.later
    assert server.failures == [("a", "1")]
    assert not server.application_instances
