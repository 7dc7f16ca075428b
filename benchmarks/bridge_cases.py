"""The measured operations of the bridge. A pyperf worker runs it in each environment."""

import asyncio
import contextvars
import functools
import queue
import threading
from collections.abc import Callable
from typing import Any

import anyio.to_thread
from http_requests import ask, ask_wsgi
from measured import Measure, answer, each, on_loop, on_thread, repeat

from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async


def nothing() -> None:
    pass


async def nothing_async() -> None:
    pass


sensitive = sync_to_async(nothing)
parallel = sync_to_async(nothing, thread_sensitive=False)
bridged = async_to_sync(nothing_async)


def below_async_code(call: Callable[[asyncio.AbstractEventLoop], object]) -> Measure:
    """Time calls on a thread while a loop waits for it; pass this loop to each call."""

    async def main(count: int) -> float:
        loop = asyncio.get_running_loop()
        return await sync_to_async(on_thread(lambda: call(loop)))(count)

    return lambda count: asyncio.run(main(count))


async def in_context(count: int) -> None:
    async with ThreadSensitiveContext():
        await repeat(sensitive, count)


async def a_context_each() -> None:
    async with ThreadSensitiveContext():
        await sensitive()


async def with_many_variables(count: int) -> None:
    for number in range(30):
        contextvars.ContextVar[object](f"variable {number}").set(object())
    await repeat(sensitive, count)


async def raw_hop(count: int) -> None:
    """One thread, one queue, one wake-up per call: no bridge can make single calls faster."""
    loop = asyncio.get_running_loop()
    calls: queue.SimpleQueue[asyncio.Future[None] | None] = queue.SimpleQueue()

    def work() -> None:
        while (future := calls.get()) is not None:
            loop.call_soon_threadsafe(future.set_result, None)
            del future

    threading.Thread(target=work).start()
    for _ in range(count):
        future: asyncio.Future[None] = loop.create_future()
        calls.put(future)
        await future
    calls.put(None)


@functools.cache
def django_handlers() -> tuple[Any, Any]:
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    async def async_view(request: Any) -> Any:
        return HttpResponse(b"hello")

    urls = (path("sync", lambda request: HttpResponse(b"hello")), path("async", async_view))
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, SECRET_KEY="benchmark")
    return get_asgi_application(), get_wsgi_application()


CASES: dict[str, Measure] = {
    "`sync_to_async`, thread-sensitive": each(sensitive),
    "the same inside a `ThreadSensitiveContext`": on_loop(in_context),
    "`thread_sensitive=False`": each(parallel),
    "with 30 context variables": on_loop(with_many_variables),
    "1000 at once, each": each(sensitive, 1000),
    "a `ThreadSensitiveContext` and one call in it": each(a_context_each),
    "`async_to_sync` below `sync_to_async`": below_async_code(lambda loop: bridged()),
    "`async_to_sync` at top level": on_thread(bridged),
    "the same, and one `sync_to_async` in it": on_thread(async_to_sync(sensitive)),
    "Django ASGI, sync view": each(lambda: ask(django_handlers()[0], path="/sync")),
    "Django WSGI, async view": on_thread(lambda: ask_wsgi(django_handlers()[1], path="/async")),
    "raw hop": on_loop(raw_hop),
    "asyncio.to_thread": each(lambda: asyncio.to_thread(nothing)),
    "anyio.to_thread": each(lambda: anyio.to_thread.run_sync(nothing)),
    "1000 asyncio.to_thread": each(lambda: asyncio.to_thread(nothing), 1000),
    "run_coroutine_threadsafe": below_async_code(
        lambda loop: asyncio.run_coroutine_threadsafe(nothing_async(), loop).result()
    ),
}


if __name__ == "__main__":
    answer(CASES)
