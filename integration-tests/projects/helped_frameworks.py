"""Test Starlette, Django, Channels and Quart with the helpers of asgiref.testing.

Each has a page that answers each part of the request with a part of the response, and a websocket
and a lifespan if the framework supports them. Print the clients' results, by framework, as
JSON.
"""

import asyncio
import contextlib
import json

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for this test",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["channels"],
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from quart import Quart, request, stream_with_context, websocket  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.background import BackgroundTask  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402
from starlette.responses import JSONResponse, Response, StreamingResponse  # noqa: E402
from starlette.routing import Route, WebSocketRoute  # noqa: E402

from asgiref.testing import (  # noqa: E402
    HttpExchange,
    Lifespan,
    WebsocketConversation,
    WebsocketDenied,
)

log = []


@contextlib.asynccontextmanager
async def starlette_lifespan(app):
    log.append("starlette up")
    yield {"name": "starlette"}
    log.append("starlette down")


async def starlette_loud(request):
    async def pieces():
        async for piece in request.stream():
            if piece:
                yield piece.upper()

    return StreamingResponse(pieces())


async def starlette_ask(request):
    async def work():
        await asyncio.sleep(0)
        log.append("starlette background")

    seen = {"name": request.state.name, "path": request.url.path, "q": request.query_params["q"]}
    return JSONResponse(seen, background=BackgroundTask(work))


async def starlette_ticks(request):
    async def ticks():
        while True:
            yield b"tick"

    return StreamingResponse(ticks())


async def starlette_echo(socket):
    await socket.accept(subprotocol=socket.scope["subprotocols"][0])
    async for text in socket.iter_text():
        await socket.send_text(text.upper())


async def starlette_denied(socket):
    await socket.send_denial_response(Response("pay first", 402))


async def pass_on(request, call_next):
    return await call_next(request)


starlette_site = Starlette(
    routes=[
        Route("/loud", starlette_loud, methods=["POST"]),
        Route("/café", starlette_ask),
        Route("/ticks", starlette_ticks),
        WebSocketRoute("/echo", starlette_echo),
        WebSocketRoute("/denied", starlette_denied),
    ],
    lifespan=starlette_lifespan,
)
starlette_site.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)


async def django_loud(request):
    async def pieces():
        for word in request.body.split():
            yield word.upper()

    return StreamingHttpResponse(pieces())


def django_ask(request):
    return JsonResponse({"name": "django", "path": request.path, "q": request.GET["q"]})


urlpatterns = [path("loud", django_loud), path("café", django_ask)]
django_site = get_asgi_application()


class Echo(WebsocketConsumer):
    def connect(self):
        self.accept(subprotocol=self.scope["subprotocols"][0])

    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data=text_data.upper())


class Denied(AsyncWebsocketConsumer):
    async def connect(self):
        await self.close(reason="pay first")


channels_site = ProtocolTypeRouter(
    {
        "http": django_site,
        "websocket": URLRouter([path("echo", Echo.as_asgi()), path("denied", Denied.as_asgi())]),
    }
)

quart_site = Quart(__name__)


@quart_site.before_serving
async def quart_up():
    log.append("quart up")


@quart_site.after_serving
async def quart_down():
    log.append("quart down")


@quart_site.post("/loud")
async def quart_loud():
    @stream_with_context
    async def pieces():
        async for piece in request.body:
            yield piece.upper()

    return pieces(), 200


@quart_site.get("/café")
async def quart_ask():
    return {"name": "quart", "path": request.path, "q": request.args["q"]}


@quart_site.websocket("/echo")
async def quart_echo():
    await websocket.accept(subprotocol=websocket.requested_subprotocols[0])
    while True:
        await websocket.send((await websocket.receive()).upper())


@quart_site.websocket("/denied")
async def quart_denied():
    return "pay first", 402


async def ask(site, state):
    async with HttpExchange(
        site, "GET", "/caf%C3%A9?q=%C3%BC", state=state, timeout=20
    ) as exchange:
        response = await exchange.response()
        return [response.status, response.header("content-type"), json.loads(response.body)]


async def whole(site, state):
    url, body = "/loud", b"one two"
    async with HttpExchange(site, "POST", url, body=body, state=state, timeout=20) as exchange:
        return (await exchange.response()).body.decode()


async def streamed(site, state):
    """The application answers each part before the client sends the next one."""
    heard = []
    async with HttpExchange(site, "POST", "/loud", body=None, state=state, timeout=20) as exchange:
        pieces = exchange.pieces()
        for piece in (b"one", b"two"):
            await exchange.send(piece)
            heard.append((await anext(pieces)).decode())
        await exchange.send(more=False)
        assert [piece async for piece in pieces] == []
    return heard


async def endless(site, state):
    async with HttpExchange(site, "GET", "/ticks", state=state, timeout=20) as exchange:
        pieces = exchange.pieces()
        return [(await anext(pieces)).decode() for _ in range(3)]


async def converse(site, state):
    socket = WebsocketConversation(site, "/echo", subprotocols=["a"], state=state, timeout=20)
    async with socket:
        await socket.send("hello")
        return [socket.subprotocol, await socket.receive()]


async def denied(site, state):
    try:
        async with WebsocketConversation(site, "/denied", state=state, timeout=20):
            return "accepted"
    except WebsocketDenied as refusal:
        return [refusal.response.status, refusal.response.body.decode(), refusal.reason]


VISITS = {
    "starlette": (starlette_site, [ask, whole, streamed, endless, converse, denied]),
    "django": (django_site, [ask, whole]),
    "channels": (channels_site, [ask, whole, converse, denied]),
    "quart": (quart_site, [ask, whole, streamed, converse, denied]),
}


async def main():
    seen = {}
    for name, (site, visits) in VISITS.items():
        async with Lifespan(site, required=False, timeout=20) as lifespan:
            seen[name] = {"lifespan": lifespan.supported}
            for visit in visits:
                seen[name][visit.__name__] = await visit(site, lifespan.state)
    print(json.dumps({**seen, "log": log}))


asyncio.run(main())
