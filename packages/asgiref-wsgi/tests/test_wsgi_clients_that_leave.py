"""When the client leaves, the request stops, and the application can find out."""

import asyncio
import concurrent.futures
import contextlib
import threading

import pytest
from wsgi_client import Exchange, http_scope, request

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from asgiref.wsgi import WsgiToAsgi

pytestmark = pytest.mark.asyncio


def hello(environ, start_response):
    start_response("200 OK", [])
    return [b"Hello"]


@pytest.mark.parametrize("way", ["generator", "written"])
@pytest.mark.parametrize("first", [b"", b"begun"])
async def test_a_response_that_yields_nothing_until_there_is_news_is_stopped(way, first):
    yielding, closed = threading.Event(), threading.Event()

    def application(environ, start_response):
        write = start_response("200 OK", [])
        try:
            chunk = first
            while True:
                write(chunk) if way == "written" else (yield chunk)
                chunk = b""
                yielding.set()
        finally:
            closed.set()

    def written(environ, start_response):
        for _ in application(environ, start_response):
            pass

    adapter = WsgiToAsgi(application if way == "generator" else written)
    exchange = Exchange(adapter).start().feed()
    await asyncio.to_thread(yielding.wait)
    exchange.disconnect()
    await exchange.end()
    assert closed.is_set()


async def test_an_empty_chunk_in_a_list_starts_no_watch():
    exchange = Exchange(WsgiToAsgi(lambda e, s: (s("200 OK", []), [b""])[1])).start().feed()
    await exchange.end()
    assert exchange.receives == 1


class Chunks:
    """A response that counts how many were created and closed."""

    def __init__(self, made, closed):
        made.append(self)
        self.closed = closed
        self.left = 12

    def __iter__(self):
        return self

    def __next__(self):
        self.left -= 1
        if not self.left:
            raise StopIteration
        return b"x" * 65536 if self.left % 3 else b""

    def close(self):
        self.closed.append(self)


@pytest.mark.parametrize("way", ["cancelled", "client left", "send fails"])
async def test_a_request_that_ends_at_any_step_closes_its_response_and_leaves_no_task(way):
    made, closed = [], []

    def application(environ, start_response):
        with contextlib.suppress(OSError):
            environ["wsgi.input"].read()
        start_response("200 OK", [])
        return Chunks(made, closed)

    pool = concurrent.futures.ThreadPoolExecutor(4)
    adapter = WsgiToAsgi(application, executor=pool, backpressure=200_000)
    before = asyncio.all_tasks()
    for step in range(80):
        scope = http_scope(headers=[(b"content-length", b"2")])
        exchange = Exchange(adapter, scope).start().feed(b"a", more=True).feed(b"b")
        for _ in range(step):
            await asyncio.sleep(0)
        if way == "cancelled":
            exchange.task.cancel()
        elif way == "client left":
            exchange.disconnect()
        else:
            exchange.send_error = OSError("the connection is lost")
        await asyncio.wait([exchange.task])
        assert exchange.task.cancelled() or exchange.task.exception() is None
        assert asyncio.all_tasks() == before
    await asyncio.to_thread(pool.shutdown)
    assert len(made) == len(closed)
    assert set(made) == set(closed)


async def occupy(run):
    """Start `run(release)` in a thread; once it runs, return the event that lets it end."""
    loop, occupied, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold():
        loop.call_soon_threadsafe(occupied.set)
        release.wait()

    task = asyncio.create_task(run(hold))
    await occupied.wait()
    return task, release


@pytest.mark.parametrize("more", [False, True])
async def test_a_request_whose_client_left_the_queue_is_not_run(more):
    ran = []

    def application(environ, start_response):
        ran.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/first":
            holds[0]()
        return hello(environ, start_response)

    adapter, holds = WsgiToAsgi(application, workers=1), []

    async def first(hold):
        holds.append(hold)
        await request(adapter, path="/first")

    task, release = await occupy(first)
    second = Exchange(adapter, http_scope(path="/second", headers=[(b"content-length", b"9")]))
    second.start().feed(b"x" if more else b"x" * 9, more=more).disconnect()
    await second.end()  # even though the only worker is still busy
    assert second.sent() == []
    release.set()
    await task
    assert (await request(adapter, path="/third")).status == 200
    assert ran == ["/first", "/third"]


@pytest.mark.parametrize("where", ["thread_sensitive", "context", "executor"])
async def test_a_request_whose_client_left_a_queue_outside_the_adapter_is_not_run(where):
    ran = []

    def application(environ, start_response):
        ran.append(environ["PATH_INFO"])
        return hello(environ, start_response)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        options = {
            "thread_sensitive": {"thread_sensitive": True},
            "context": {},
            "executor": {"executor": pool},
        }[where]
        adapter = WsgiToAsgi(application, **options)
        other = {"executor": pool, "thread_sensitive": False} if where == "executor" else {}

        async def leave():
            task, release = await occupy(lambda hold: sync_to_async(hold, **other)())
            exchange = Exchange(adapter).start().feed().disconnect()
            await exchange.end()
            assert exchange.sent() == []
            release.set()
            await task
            await request(adapter, path="/later")

        if where == "context":
            async with ThreadSensitiveContext():
                await leave()
        else:
            await leave()
    assert ran == ["/later"]


async def test_a_client_that_expects_100_continue_is_not_asked_for_the_body_in_the_queue():
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/first":
            holds[0]()
        return hello(environ, start_response)

    adapter, holds = WsgiToAsgi(application, workers=1), []

    async def first(hold):
        holds.append(hold)
        await request(adapter, path="/first")

    task, release = await occupy(first)
    headers = [(b"expect", b"100-continue"), (b"content-length", b"3")]
    second = Exchange(adapter, http_scope(headers=headers)).start()
    for _ in range(20):
        await asyncio.sleep(0)
    assert second.receives == 0
    release.set()
    await task
    await second.end()
    assert second.sent()[0]["status"] == 200


# The callable in the environ


async def test_the_application_can_check_whether_the_client_is_still_connected():
    told, asked, may_ask = [], asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def application(environ, start_response):
        is_connected = environ["asgiref.client_connected"]
        told.append(is_connected())
        loop.call_soon_threadsafe(asked.set)
        may_ask.wait()
        while is_connected():
            pass
        told.append(is_connected())
        return hello(environ, start_response)

    exchange = Exchange(WsgiToAsgi(application)).start().feed()
    await asked.wait()
    exchange.disconnect()
    may_ask.set()
    await exchange.end()
    assert told == [True, False]


@pytest.mark.parametrize("unread", [False, True])
async def test_the_first_check_sees_that_the_client_left_earlier(unread):
    told, started, may_ask = [], asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def application(environ, start_response):
        loop.call_soon_threadsafe(started.set)
        may_ask.wait()
        told.append(environ["asgiref.client_connected"]())
        return hello(environ, start_response)

    exchange = Exchange(WsgiToAsgi(application)).start().feed(b"part", more=unread)
    await started.wait()
    exchange.disconnect()
    may_ask.set()
    await exchange.end()
    assert told == [False]


async def test_the_check_can_be_made_after_the_request():
    kept = []

    def application(environ, start_response):
        kept.append(environ["asgiref.client_connected"])
        return hello(environ, start_response)

    await request(WsgiToAsgi(application))
    assert kept[0]() is False
    assert await asyncio.to_thread(kept[0]) is False


async def test_a_check_at_the_very_end_of_a_request_receives_nothing_afterwards(monkeypatch):
    kept, receives = [], 0
    may_run, asked = threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    call_soon_threadsafe = loop.call_soon_threadsafe

    def application(environ, start_response):
        may_run.wait()
        kept.append(environ["asgiref.client_connected"])
        return hello(environ, start_response)

    def call_and_tell(callback, *arguments, context=None):
        handle = call_soon_threadsafe(callback, *arguments, context=context)
        if threading.current_thread() is questioner:
            asked.set()
        return handle

    async def receive():
        nonlocal receives
        receives += 1
        return {"type": "http.request"} if receives == 1 else await asyncio.Future()

    async def send(event):
        if event["type"] == "http.response.body" and not event.get("more_body"):
            questioner.start()
            asked.wait()  # on the loop's thread: the request ends before the check is answered

    questioner = threading.Thread(target=lambda: kept[0]())
    monkeypatch.setattr(loop, "call_soon_threadsafe", call_and_tell)
    task = asyncio.create_task(WsgiToAsgi(application)(http_scope(), receive, send))
    for _ in range(20):  # until the request's task waits for the application
        await asyncio.sleep(0)
    may_run.set()
    await task
    await asyncio.to_thread(questioner.join)
    assert receives == 1
