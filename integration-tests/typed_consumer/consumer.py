"""Code of a typed project, checked against the wheels by mypy --strict and pyright strict."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import assert_type

import asgiref
from asgiref.compatibility import guarantee_single_callable, is_double_callable
from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.local import Local
from asgiref.server import StatelessServer
from asgiref.sync import (
    AsyncSingleThreadContext,
    ThreadSensitiveContext,
    async_to_sync,
    iscoroutinefunction,
    sync_to_async,
)
from asgiref.testing import (
    ApplicationCommunicator,
    CommunicatorStack,
    HttpExchange,
    HttpResponse,
    Lifespan,
    WebsocketConversation,
)
from asgiref.timeout import timeout
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from asgiref.wsgi import WsgiToAsgi

assert_type(asgiref.__version__, str)


def area(width: int, height: float = 1.0) -> float:
    return width * height


async def fetch(key: str, *, times: int = 1) -> list[str]:
    return [key] * times


@sync_to_async
def decorated(number: int) -> str:
    return str(number)


@sync_to_async(thread_sensitive=False)
def decorated_with_arguments(number: int) -> str:
    return str(number)


@async_to_sync
async def waited_for(number: int) -> str:
    return str(number)


@async_to_sync(force_new_loop=True)
async def waited_for_on_a_new_loop(number: int) -> str:
    return str(number)


async def call_from_async_code() -> None:
    assert_type(await sync_to_async(area)(2, height=3.0), float)
    assert_type(await decorated(1), str)
    assert_type(await decorated_with_arguments(1), str)
    with ThreadPoolExecutor() as executor:
        assert_type(await sync_to_async(area, thread_sensitive=False, executor=executor)(2), float)
    async with ThreadSensitiveContext():
        await sync_to_async(area)(1)


def call_from_sync_code() -> None:
    assert_type(async_to_sync(fetch)("key", times=2), list[str])
    assert_type(waited_for(1), str)
    assert_type(waited_for_on_a_new_loop(1), str)
    assert_type(iscoroutinefunction(fetch), bool)
    with AsyncSingleThreadContext():
        async_to_sync(fetch)("key")


state = Local(thread_critical=True)
state.user = "someone"
del state.user


async def application(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    if scope["type"] == "http":
        event = await receive()
        if event["type"] == "http.request":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def path_of(scope: HTTPScope) -> str:
    return scope["path"]


class Bot(StatelessServer):
    async def handle(self) -> None:
        queue = self.get_or_create_application_instance("user", {"type": "chat"})
        await queue.put({"type": "chat.message"})

    async def application_send(self, scope: object, message: object) -> None:
        print(scope, message)


async def converse() -> None:
    communicator = ApplicationCommunicator(application, {"type": "http"})
    await communicator.send_input({"type": "http.request"})
    await communicator.receive_output(timeout=1)
    assert_type(await communicator.receive_nothing(), bool)
    await communicator.wait()


async def visit(asgi: CommunicatorStack) -> None:
    async with Lifespan(application, required=False) as lifespan:
        async with HttpExchange(application, "POST", body=None, state=lifespan.state) as exchange:
            await exchange.send(b"piece", more=False)
            assert_type((await exchange.start()).header("content-type"), str | None)
            assert_type([piece async for piece in exchange.pieces()], list[bytes])
            assert_type(await exchange.response(), HttpResponse)
        async with WebsocketConversation(application, "/", headers={"a": "b"}) as socket:
            await socket.send("text")
            assert_type(await socket.receive(), str | bytes)
            assert_type([message async for message in socket], list[str | bytes])
    assert_type(await asgi(HttpExchange(application, headers=[(b"a", "b")])), HttpExchange)


def wsgi_application(environ: dict[str, object], start_response: object) -> Iterable[bytes]:
    return [b""]


adapted = WsgiToAsgi(wsgi_application)
single = guarantee_single_callable(application)
assert_type(is_double_callable(application), bool)
old_timeout: type[timeout] = timeout
executor: type[CurrentThreadExecutor] = CurrentThreadExecutor
