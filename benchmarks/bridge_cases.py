"""The measured operations of the bridge. Runs in its own environment, on request."""

import asyncio
import contextvars
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from measured import answer

from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async


def nothing() -> None:
    pass


async def nothing_async() -> None:
    pass


async def one_sync_call() -> None:
    await sensitive()


sensitive = sync_to_async(nothing)
parallel = sync_to_async(nothing, thread_sensitive=False)
bridged = async_to_sync(nothing_async)
bridged_there_and_back = async_to_sync(one_sync_call)


async def repeat(call: Callable[[], Awaitable[object]], count: int) -> None:
    for _ in range(count):
        await call()


async def together(call: Callable[[], Coroutine[Any, Any, object]], count: int) -> None:
    for _ in range(count // 1000):
        await asyncio.gather(*[call() for _ in range(1000)])


def on_loop(measured: Callable[[int], Coroutine[Any, Any, None]]) -> Callable[[int], float]:
    def run(count: int) -> float:
        async def main() -> float:
            await measured(max(50, count // 20))
            begin = time.perf_counter()
            await measured(count)
            return time.perf_counter() - begin

        return contextvars.Context().run(asyncio.run, main())

    return run


def on_thread(measured: Callable[[int], None]) -> Callable[[int], float]:
    def run(count: int) -> float:
        measured(max(50, count // 20))
        begin = time.perf_counter()
        measured(count)
        return time.perf_counter() - begin

    return run


def below_async_code(measured: Callable[[int], None]) -> Callable[[int], float]:
    run = on_thread(measured)

    async def main(count: int) -> float:
        loop_of_peer.append(asyncio.get_running_loop())
        try:
            return await sync_to_async(run)(count)
        finally:
            loop_of_peer.pop()

    return lambda count: asyncio.run(main(count))


loop_of_peer: list[asyncio.AbstractEventLoop] = []


async def in_context(count: int) -> None:
    async with ThreadSensitiveContext():
        await repeat(sensitive, count)


async def a_context_each(count: int) -> None:
    for _ in range(count):
        async with ThreadSensitiveContext():
            await sensitive()


async def with_many_variables(count: int) -> None:
    for number in range(30):
        contextvars.ContextVar(f"variable {number}").set(object())
    await repeat(sensitive, count)


async def raw_hop(count: int) -> None:
    """One thread, one queue, one wake-up per call: no bridge can make single calls faster."""
    loop = asyncio.get_running_loop()
    calls: queue.SimpleQueue[asyncio.Future[None] | None] = queue.SimpleQueue()

    def work() -> None:
        while (future := calls.get()) is not None:
            loop.call_soon_threadsafe(future.set_result, None)
            del future

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(count):
        future: asyncio.Future[None] = loop.create_future()
        calls.put(future)
        await future
    calls.put(None)
    thread.join()


async def to_thread(count: int) -> None:
    await repeat(lambda: asyncio.to_thread(nothing), count)


async def anyio_to_thread(count: int) -> None:
    import anyio.to_thread

    await repeat(lambda: anyio.to_thread.run_sync(nothing), count)


def calls_of(function: Callable[[], object]) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            function()

    return run


def run_coroutine_threadsafe() -> None:
    asyncio.run_coroutine_threadsafe(nothing_async(), loop_of_peer[0]).result()


def reused_runner(count: int) -> None:
    with asyncio.Runner() as runner:
        for _ in range(count):
            runner.run(nothing_async())


def django_application() -> Any:
    import django
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.urls import path

    def sync_view(request: Any) -> Any:
        return HttpResponse(b"hello")

    async def async_view(request: Any) -> Any:
        return HttpResponse(b"hello")

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="benchmark")
        globals()["urlpatterns"] = [path("sync", sync_view), path("async", async_view)]
        django.setup()
    return ASGIHandler(), WSGIHandler()


SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/sync",
    "query_string": b"",
    "headers": [(b"host", b"testserver")],
}


async def django_asgi(count: int) -> None:
    application = django_application()[0]

    async def send(event: Any) -> None:
        pass

    for _ in range(count):
        events: asyncio.Queue[Any] = asyncio.Queue()
        events.put_nowait({"type": "http.request", "body": b""})
        await application(dict(SCOPE), events.get, send)


def django_wsgi(count: int) -> None:
    from wsgiref.util import setup_testing_defaults

    application = django_application()[1]
    for _ in range(count):
        environ: dict[str, Any] = {"PATH_INFO": "/async"}
        setup_testing_defaults(environ)
        list(application(environ, lambda status, headers: None))


CASES: dict[str, Callable[[int], float]] = {
    "sensitive": on_loop(lambda count: repeat(sensitive, count)),
    "in a context": on_loop(in_context),
    "parallel": on_loop(lambda count: repeat(parallel, count)),
    "30 variables": on_loop(with_many_variables),
    "1000 at once": on_loop(lambda count: together(sensitive, count)),
    "a context each": on_loop(a_context_each),
    "async_to_sync below": below_async_code(calls_of(bridged)),
    "async_to_sync at top level": on_thread(calls_of(bridged)),
    "top level and back": on_thread(calls_of(bridged_there_and_back)),
    "Django ASGI, sync view": on_loop(django_asgi),
    "Django WSGI, async view": on_thread(django_wsgi),
    "raw hop": on_loop(raw_hop),
    "asyncio.to_thread": on_loop(to_thread),
    "anyio.to_thread": on_loop(anyio_to_thread),
    "1000 asyncio.to_thread": on_loop(
        lambda count: together(lambda: asyncio.to_thread(nothing), count)
    ),
    "run_coroutine_threadsafe": below_async_code(calls_of(run_coroutine_threadsafe)),
    "reused asyncio.Runner": on_thread(reused_runner),
}


if __name__ == "__main__":
    answer(CASES)
