"""Applications of ASGI frameworks, and WSGI frameworks that mount one. Each test imports one."""

import asyncio
from typing import Any


def starlette_site() -> Any:
    from contextlib import asynccontextmanager

    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    @asynccontextmanager
    async def lifespan(app: Any) -> Any:
        yield {"name": "the lifespan's"}

    async def hello(request: Request) -> Response:
        return PlainTextResponse(f"{request.method} {request.url.path} {request.state.name}")

    async def form(request: Request) -> Response:
        async with request.form() as data:
            file: Any = data["file"]
            return PlainTextResponse(f"{data['name']} {len(await file.read())}")

    async def stream(request: Request) -> Response:
        async def numbers() -> Any:
            for number in range(100):
                await asyncio.sleep(0)
                yield f"{number}\n"

        return StreamingResponse(numbers())

    async def later(request: Request) -> Response:
        return PlainTextResponse("accepted", background=BackgroundTask(done.set))

    async def wait(request: Request) -> Response:
        await done.wait()
        return PlainTextResponse("done")

    async def dispatch(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-middleware"] = "yes"
        return response

    done = asyncio.Event()
    routes = [
        Route("/hello/{name}", hello),
        Route("/form", form, methods=["POST"]),
        Route("/stream", stream),
        Route("/later", later),
        Route("/wait", wait),
    ]
    middleware = [Middleware(BaseHTTPMiddleware, dispatch=dispatch)]
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan)


def fastapi_site() -> Any:
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import StreamingResponse
    from pydantic import BaseModel

    app = FastAPI()

    class Item(BaseModel):
        name: str

    async def resource() -> Any:
        yield "resource"

    @app.post("/items")
    async def items(item: Item, found: str = Depends(resource)) -> dict[str, str]:
        return {"item": item.name, "found": found}

    @app.get("/sync")
    def sync() -> dict[str, str]:
        return {"ran": "in a thread"}

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404, "not here")

    @app.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"one", b"two"]))

    return app


def quart_site() -> Any:
    from quart import Quart, request

    app = Quart(__name__)

    @app.before_serving
    async def startup() -> None:
        app.config["STARTED"] = "started"

    @app.post("/echo")
    async def echo() -> Any:
        return await request.get_data()

    @app.get("/started")
    async def started() -> Any:
        return app.config["STARTED"]

    @app.get("/stream")
    async def stream() -> Any:
        async def numbers() -> Any:
            for number in range(10):
                yield f"{number}".encode()

        return numbers()

    return app


def django_views() -> Any:
    """Configure Django once, and return a list of its paths."""
    import django
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
    from django.urls import path

    if not settings.configured:
        settings.configure(
            ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[]
        )
        django.setup()

    def sync_view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"sync {request.method} {request.path} {len(request.body)}")

    async def async_view(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0)
        return HttpResponse(f"async {request.path_info}")

    async def stream(request: HttpRequest) -> StreamingHttpResponse:
        async def numbers() -> Any:
            for number in range(10):
                yield str(number)

        return StreamingHttpResponse(numbers())

    return [
        path("sync", sync_view),
        path("async", async_view),
        path("stream", stream),
    ]


#: Filled by `django_site`: Django must be configured before its views are made.
urlpatterns: list[Any] = []


def django_site(asynchronous: bool) -> Any:
    if not urlpatterns:
        urlpatterns.extend(django_views())
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    return get_asgi_application() if asynchronous else get_wsgi_application()


def mcp_site() -> Any:
    from mcp.server import MCPServer

    server = MCPServer("calculator")

    @server.tool()
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    return server.streamable_http_app()
