"""An ASGI application under a WSGI server, and `sync_to_async`: no thread waits for itself."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from wsgi_caller import answer_with, call

from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from asgiref.wsgi import AsgiToWsgi, WsgiToAsgi


async def site(scope, receive, send):
    name = await sync_to_async(lambda: threading.current_thread().name)()
    await answer_with(send, name.encode())


application = AsgiToWsgi(site, lifespan="off")


async def call_in_thread():
    return await sync_to_async(call)(application)


async def call_in_context():
    async with ThreadSensitiveContext():
        return await call_in_thread()


@pytest.mark.parametrize("caller", [call_in_thread, call_in_context])
def test_the_applications_sync_code_runs_even_if_its_callers_thread_is_waiting(caller):
    assert asyncio.run(caller()).status == "200 OK"


def test_sync_code_runs_inside_async_to_sync():
    assert async_to_sync(call_in_thread)().status == "200 OK"


def test_sync_code_runs_inside_the_other_adapter_on_the_one_shared_thread():
    outer = AsgiToWsgi(WsgiToAsgi(application, thread_sensitive=True), lifespan="off")
    assert call(outer).status == "200 OK"


def test_one_requests_sync_code_does_not_wait_for_anothers():
    together = threading.Barrier(10)

    async def meet(scope, receive, send):
        await sync_to_async(together.wait)()
        await answer_with(send, b"met")

    adapted = AsgiToWsgi(meet, lifespan="off")
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(call, adapted) for _ in range(10)]
        assert {answer.result(30).body for answer in answers} == {b"met"}


def test_a_requests_sync_code_stays_on_one_thread():
    threads = []

    async def twice(scope, receive, send):
        for _ in range(2):
            threads.append(await sync_to_async(threading.current_thread)())
        await answer_with(send)

    call(AsgiToWsgi(twice, lifespan="off"))
    assert threads[0] is threads[1]
