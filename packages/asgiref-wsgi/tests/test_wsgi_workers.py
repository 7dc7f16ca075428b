"""`workers=N` means N: the number of threads that run the application."""

import asyncio
import threading

import pytest
from wsgi_client import Exchange, http_scope, request

from asgiref.sync import async_to_sync
from asgiref.wsgi import WsgiToAsgi

pytestmark = pytest.mark.asyncio


class Gauge:
    """Counts the threads inside at the same time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def __enter__(self):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *exc_info):
        with self.lock:
            self.inside -= 1


def spin():
    sum(range(2000))


async def serve_slow_clients(adapter, count, upload=b"y" * 1000):
    """Run `count` clients at the same time, all of which read and send slowly."""
    exchanges = []
    for number in range(count):
        headers = [(b"content-length", str(2 * len(upload)).encode())]
        exchange = Exchange(adapter, http_scope(path=f"/{number}", headers=headers))
        exchange.sends_open.clear()
        exchanges.append(exchange.start().feed(upload, more=True))
    await asyncio.sleep(0.02)  # lets threads lend their tokens; the result does not depend on it
    for exchange in exchanges:
        exchange.feed(upload)
    for exchange in exchanges:
        exchange.sends_open.set()
        await exchange.end()
        assert sum(len(event.get("body", b"")) for event in exchange.sent()) == 600_000


async def let_threads_run():
    for _ in range(100):
        await asyncio.to_thread(int)


@pytest.mark.parametrize("stall", ["reading", "writing"])
async def test_a_thread_whose_client_resumes_waits_for_a_free_worker(stall):
    gauge, busy, may_end = Gauge(), threading.Semaphore(0), threading.Event()

    def application(environ, start_response):
        write = start_response("200 OK", [])
        if environ["PATH_INFO"] == "/slow":
            environ["wsgi.input"].read() if stall == "reading" else write(b"x" * 300_000)
            with gauge:
                spin()
        else:
            with gauge:
                busy.release()
                may_end.wait()
        return []

    adapter = WsgiToAsgi(application, workers=2)
    headers = [(b"content-length", b"10")]
    slow = [Exchange(adapter, http_scope(path="/slow", headers=headers)) for _ in range(2)]
    for exchange in slow:
        if stall == "writing":
            exchange.sends_open.clear()
        exchange.start().feed(b"begun", more=True)
    others = [Exchange(adapter).start().feed() for _ in range(2)]
    for _ in others:
        await asyncio.to_thread(busy.acquire)
    for exchange in slow:
        exchange.sends_open.set()
        exchange.feed(b" ends")
    await let_threads_run()
    may_end.set()
    for exchange in [*slow, *others]:
        await exchange.end()
    assert gauge.most == 2


@pytest.mark.parametrize("workers", [2, 3])
async def test_no_more_threads_than_workers_run_the_application_with_slow_clients(workers):
    gauge = Gauge()

    def application(environ, start_response):
        with gauge:
            spin()
        environ["wsgi.input"].read()
        with gauge:
            spin()
        start_response("200 OK", [])
        for _ in range(6):
            with gauge:
                spin()
            yield b"x" * 100_000
        with gauge:
            spin()

    adapter = WsgiToAsgi(application, workers=workers, backpressure=150_000)
    await serve_slow_clients(adapter, 12)
    assert gauge.most <= workers


async def test_one_worker_runs_each_request_from_start_to_end_on_one_thread():
    gauge, threads = Gauge(), set()

    def application(environ, start_response):
        with gauge:
            threads.add(threading.get_ident())
            environ["wsgi.input"].read()
            start_response("200 OK", [])
            for _ in range(6):
                yield b"x" * 100_000
            threads.add(threading.get_ident())

    adapter = WsgiToAsgi(application, workers=1, backpressure=150_000)
    # One client after the other, because a slow client delays those that follow.
    for _ in range(3):
        await serve_slow_clients(adapter, 1)
    await asyncio.gather(*(request(adapter, [b"x" * 10, b"y"], method="POST") for _ in range(10)))
    assert gauge.most == 1
    assert len(threads) == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_threads_blocked_in_async_to_sync_do_not_make_room_for_more(workers):
    gauge = Gauge()

    async def pause():
        await asyncio.sleep(0)

    def application(environ, start_response):
        with gauge:
            async_to_sync(pause)()
            spin()
        start_response("200 OK", [])
        return []

    adapter = WsgiToAsgi(application, workers=workers)
    await asyncio.gather(*(request(adapter) for _ in range(20)))
    assert gauge.most <= workers


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_request_that_the_application_makes_to_itself_is_served(workers):
    def application(environ, start_response):
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/inner":
            return [b"inner"]
        return [b"outer ", async_to_sync(request)(adapter, path="/inner").body]

    adapter = WsgiToAsgi(application, workers=workers)
    answers = await asyncio.gather(*(request(adapter) for _ in range(workers)))
    assert {answer.body for answer in answers} == {b"outer inner"}


@pytest.mark.parametrize("workers", [1, 3])
async def test_every_queued_request_is_served(workers):
    adapter = WsgiToAsgi(lambda e, s: (s("200 OK", []), [b"x"])[1], workers=workers)
    answers = await asyncio.gather(*(request(adapter) for _ in range(200)))
    assert {answer.body for answer in answers} == {b"x"}


async def test_requests_that_are_cancelled_in_the_queue_keep_no_worker():
    release = threading.Event()

    def application(environ, start_response):
        release.wait()
        start_response("200 OK", [])
        return [b"x"]

    adapter = WsgiToAsgi(application, workers=2)
    exchanges = [Exchange(adapter).start().feed() for _ in range(40)]
    await asyncio.sleep(0)
    for exchange in exchanges[1::2]:
        exchange.task.cancel()
    release.set()
    ended = await asyncio.gather(*(exchange.task for exchange in exchanges), return_exceptions=True)
    assert {type(outcome) for outcome in ended[::2]} == {type(None)}
    assert {type(outcome) for outcome in ended[1::2]} == {asyncio.CancelledError}
    answers = await asyncio.gather(*(request(adapter) for _ in range(10)))
    assert {answer.body for answer in answers} == {b"x"}


async def test_one_adapter_serves_several_event_loops_within_its_workers():
    gauge = Gauge()

    def application(environ, start_response):
        with gauge:
            spin()
        start_response("200 OK", [])
        return [b"x"]

    adapter, answers = WsgiToAsgi(application, workers=2), []

    async def ask():
        answers.extend(await asyncio.gather(*(request(adapter) for _ in range(50))))

    threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert [answer.body for answer in answers] == [b"x"] * 200
    assert gauge.most <= 2
