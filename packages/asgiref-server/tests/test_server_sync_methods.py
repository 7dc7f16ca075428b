"""handle, application_send and hooks on worker threads; plain functions on the loop."""

import asyncio
import contextlib
import threading
import time

import pytest

from asgiref.server import StatelessServer
from asgiref.sync import sync_to_async


async def echo(scope, receive, send):
    while True:
        await send(await receive())


class Sync(StatelessServer):
    """A server that defines no coroutine functions."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sent = []
        self.threads = set()

    @sync_to_async
    def application_send(self, scope, message):
        self.record(scope, message)

    def record(self, scope, message):
        self.threads.add(threading.current_thread())
        self.sent.append((scope["id"], message))

    def put(self, scope_id, message):
        scope = {"type": "test", "id": scope_id}
        self.get_or_create_application_instance(scope_id, scope).put_nowait(message)


@pytest.mark.asyncio
async def test_a_synchronous_handle_serves_its_scopes(no_task_left):
    class Server(Sync):
        @sync_to_async(thread_sensitive=False)
        def handle(self):
            self.handle_thread = threading.current_thread()
            for number in range(3):
                self.put("a", number)
                self.put("b", number)

    server = Server(echo, shutdown_timeout=30)
    await server.arun()
    assert sorted(server.sent) == [(scope, n) for scope in "ab" for n in range(3)]
    for scope in "ab":
        assert [n for name, n in server.sent if name == scope] == [0, 1, 2]
    assert server.handle_thread is not threading.current_thread()
    assert threading.current_thread() not in server.threads
    no_task_left()


def test_run_with_a_synchronous_handle():
    class Server(Sync):
        @sync_to_async(thread_sensitive=False)
        def handle(self):
            self.put("a", "hello")

    server = Server(echo, shutdown_timeout=30)
    server.run()
    assert server.sent == [("a", "hello")]


@pytest.mark.asyncio
async def test_a_synchronous_handle_that_raises_ends_the_server(no_task_left):
    class Server(Sync):
        @sync_to_async(thread_sensitive=False)
        def handle(self):
            raise ConnectionError("lost")

    with pytest.raises(ConnectionError, match="lost"):
        await Server(echo).arun()
    no_task_left()


@pytest.mark.asyncio
async def test_a_blocked_handle_does_not_block_other_synchronous_methods(no_task_left):
    class Server(Sync):
        @sync_to_async(thread_sensitive=False)
        def handle(self):
            self.put("a", "hello")
            assert answered.wait(30)

        @sync_to_async
        def application_send(self, scope, message):
            self.record(scope, message)
            answered.set()

    answered = threading.Event()
    server = Server(echo)
    await server.arun()
    assert server.sent == [("a", "hello")]
    no_task_left()


@pytest.mark.asyncio
async def test_a_plain_handle_that_returns_an_awaitable_is_awaited(no_task_left):
    class Server(Sync):
        def handle(self):
            return self.coroutine()

        async def coroutine(self):
            self.put("a", "hello")

    server = Server(echo, shutdown_timeout=30)
    await server.arun()
    assert server.sent == [("a", "hello")]
    no_task_left()


@pytest.mark.asyncio
async def test_a_plain_handle_may_return_nothing(no_task_left):
    class Server(Sync):
        def handle(self):
            self.put("a", "hello")

    server = Server(echo, shutdown_timeout=30)
    await server.arun()
    assert server.sent == [("a", "hello")]
    no_task_left()


@pytest.mark.asyncio
async def test_a_full_queue_is_visible_to_a_synchronous_handle(no_task_left):
    class Server(Sync):
        @sync_to_async(thread_sensitive=False)
        def handle(self):
            self.put("a", 1)
            with pytest.raises(asyncio.QueueFull):
                self.put("a", 2)
            go_on()

    async def application(scope, receive, send):
        await may_receive.wait()
        await echo(scope, receive, send)

    def go_on():
        loop.call_soon_threadsafe(may_receive.set)

    loop, may_receive = asyncio.get_running_loop(), asyncio.Event()
    server = Server(application, queue_size=1, shutdown_timeout=30)
    await server.arun()
    assert server.sent == [("a", 1)]
    no_task_left()


@pytest.mark.asyncio
async def test_errors_from_incorrect_calls_reach_a_synchronous_handle(no_task_left):
    class Server(Sync):
        @sync_to_async(thread_sensitive=False)
        def handle(self):
            with pytest.raises(TypeError, match="unhashable type: 'list'"):
                self.get_or_create_application_instance([], {})
            with pytest.raises(KeyError, match="never created"):
                self.delete_application_instance("never created")
            with pytest.raises(ValueError, match="no application instance"):
                self.delete_oldest_application_instance()
            self.put("b", "goes on")

    server = Server(echo, shutdown_timeout=30)
    await server.arun()
    assert server.sent == [("b", "goes on")]
    no_task_left()


@pytest.mark.asyncio
async def test_threads_that_a_handle_starts_may_put_too(no_task_left):
    class Server(Sync):
        @sync_to_async(thread_sensitive=False)
        def handle(self):
            readers = [threading.Thread(target=self.read, args=(name,)) for name in "abc"]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()

        def read(self, name):
            for number in range(20):
                self.put(name, number)

    server = Server(echo, shutdown_timeout=30)
    await server.arun()
    for name in "abc":
        assert [n for scope, n in server.sent if scope == name] == list(range(20))
    no_task_left()


@pytest.mark.asyncio
async def test_a_synchronous_hook_may_delete_and_create_instances(no_task_left):
    class Server(Sync):
        async def handle(self):
            self.put("a", "break")
            await told.wait()

        @sync_to_async
        def application_exception(self, exception, application_details):
            self.delete_application_instance("other")
            self.put("report", str(exception))

        @sync_to_async
        def application_send(self, scope, message):
            self.record(scope, message)
            loop.call_soon_threadsafe(told.set)

    async def application(scope, receive, send):
        if scope["id"] == "a":
            raise LookupError(await receive())
        await echo(scope, receive, send)

    loop, told = asyncio.get_running_loop(), asyncio.Event()
    server = Server(application)
    server.get_or_create_application_instance("other", {"type": "test", "id": "other"})
    await server.arun()
    assert server.sent == [("report", "break")]
    no_task_left()


@pytest.mark.asyncio
async def test_a_thread_that_outlives_the_server_gets_an_error(no_task_left):
    class Server(Sync):
        @sync_to_async(thread_sensitive=False)
        def handle(self):
            began.set()
            assert ended.wait(30)
            try:
                self.put("a", "too late")
            except RuntimeError as error:
                loop.call_soon_threadsafe(complaint.set_result, str(error))

    began, ended = threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    complaint = loop.create_future()
    server = Server(echo)
    running = asyncio.create_task(server.arun())
    await asyncio.to_thread(began.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    ended.set()
    assert await asyncio.wait_for(complaint, 30) == (
        "Server has ended: get_or_create_application_instance was called from another thread."
    )
    assert not server.application_instances
    no_task_left()


def test_a_thread_that_outlives_a_server_with_its_own_arun_is_told():
    class Server(Sync):
        told = None

        async def arun(self):
            await self.handle()

        async def handle(self):
            self.put("a", "from the loop")
            self.thread = asyncio.get_running_loop().run_in_executor(None, self.put_always)

        def put_always(self):
            give_up_at = time.monotonic() + 10
            try:
                while time.monotonic() < give_up_at:
                    self.put("a", "hello")
            except RuntimeError as error:
                self.told = str(error)

        async def application_undelivered(self, messages, application_details):
            pass

    server = Server(echo)
    server.run()  # it waits for the thread
    assert server.told is not None
    assert "Server has ended: " in server.told


@pytest.mark.asyncio
async def test_overridden_methods_are_called_once_by_a_thread(no_task_left):
    class Server(Sync):
        def get_or_create_application_instance(self, scope_id, scope):
            return super().get_or_create_application_instance(f"chat {scope_id}", scope)

        def delete_application_instance(self, scope_id):
            super().delete_application_instance(f"chat {scope_id}")

        async def handle(self):
            self.put("a", "from the loop")
            await asyncio.to_thread(self.put, "a", "from a thread")
            self.live = list(self.application_instances)
            await asyncio.to_thread(self.delete_application_instance, "a")
            self.left = list(self.application_instances)

    server = Server(echo)
    await server.arun()
    assert server.live == ["chat a"]
    assert server.left == []
    no_task_left()


@pytest.mark.asyncio
async def test_hooks_of_one_scope_are_called_one_after_the_other(make_server, settled):
    class Server(make_server):
        async def application_exception(self, exception, application_details):
            calls.append("failure begins")
            await go.wait()
            calls.append("failure ends")

        async def application_undelivered(self, messages, application_details):
            calls.append(messages)

    async def application(scope, receive, send):
        raise LookupError

    calls, go = [], asyncio.Event()
    server = Server(application)
    server.put("a", 1)
    await settled()
    assert calls == ["failure begins"]
    go.set()
    await settled()
    assert calls == ["failure begins", "failure ends"] * 2 + [[1]]


@pytest.mark.asyncio
async def test_hooks_of_different_scopes_do_not_wait_for_each_other(make_server, settled):
    class Server(make_server):
        async def application_exception(self, exception, application_details):
            begun.append(application_details["scope"]["id"])
            await asyncio.Event().wait()

    async def application(scope, receive, send):
        raise LookupError

    begun = []
    server = Server(application)
    server.queue("a")
    server.queue("b")
    await settled()
    assert begun == ["a", "b"]
    await server.close()


@pytest.mark.asyncio
async def test_a_hook_that_hangs_neither_holds_up_the_shutdown_nor_hides_another(
    make_server, caplog, no_task_left, settled
):
    class Server(make_server):
        async def application_exception(self, exception, application_details):
            await asyncio.Event().wait()

    async def application(scope, receive, send):
        raise LookupError

    server = Server(application, shutdown_timeout=0)
    running = asyncio.create_task(server.arun())
    server.put("a", 1)
    await settled()
    server.finished.set()
    await running
    assert server.undelivered == [("a", [1])]
    assert "Server.application_exception() for scope 'a' was cancelled" in caplog.text
    no_task_left()


@pytest.mark.asyncio
async def test_a_hook_behind_an_abandoned_one_is_reported_and_not_called_later(
    make_server, caplog, settled
):
    class Server(make_server):
        async def application_exception(self, exception, application_details):
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()

    async def application(scope, receive, send):
        await receive()
        raise LookupError

    released = asyncio.Event()
    server = Server(application, shutdown_timeout=0)
    server.put("a", 1)
    server.put("a", 2)
    await settled()
    await server.close()
    released.set()
    await settled()
    assert "application_undelivered() for scope 'a' was not called: an earlier" in caplog.text
    assert server.undelivered == []
