"""ASGI frameworks run in AsgiToWsgi, alone and mounted in WSGI frameworks."""

import asyncio
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from types import ModuleType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import pytest

from asgiref.wsgi import AsgiToWsgi


@pytest.fixture(scope="module")
def frameworks() -> Iterator[ModuleType]:
    """The module of `projects`, under a name that Django can import."""
    name = "asgi_to_wsgi_frameworks"
    path = Path(__file__).parent / "projects" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@contextmanager
def client_of(application: Any) -> Iterator[httpx.Client]:
    transport = httpx.WSGITransport(application)
    with httpx.Client(transport=transport, base_url="http://testserver") as client:
        yield client
    if isinstance(application, AsgiToWsgi):
        application.close()


def test_starlette(frameworks: ModuleType) -> None:
    with client_of(AsgiToWsgi(frameworks.starlette_site(), lifespan="on")) as client:
        answer = client.get("/hello/x")
        assert answer.text == "GET /hello/x the lifespan's"
        assert answer.headers["x-middleware"] == "yes"
        files = {"file": ("name", b"x" * 2_000_000)}
        assert client.post("/form", data={"name": "é"}, files=files).text == "é 2000000"
        assert client.get("/stream").text == "".join(f"{number}\n" for number in range(100))
        assert client.get("/nowhere").status_code == 404


def test_a_starlette_background_task_runs_after_the_response(frameworks: ModuleType) -> None:
    with client_of(AsgiToWsgi(frameworks.starlette_site())) as client:
        assert client.get("/later").text == "accepted"
        assert client.get("/wait").text == "done"


def test_fastapi(frameworks: ModuleType) -> None:
    with client_of(AsgiToWsgi(frameworks.fastapi_site())) as client:
        answer = client.post("/items", json={"name": "é"})
        assert answer.json() == {"item": "é", "found": "resource"}
        assert client.get("/sync").json() == {"ran": "in a thread"}
        assert client.get("/missing").status_code == 404
        assert client.post("/items", json={}).status_code == 422
        assert client.get("/stream").text == "onetwo"
        assert client.get("/openapi.json").status_code == 200


def test_quart(frameworks: ModuleType) -> None:
    with client_of(AsgiToWsgi(frameworks.quart_site())) as client:
        assert client.post("/echo", content=b"x" * 300_000).content == b"x" * 300_000
        assert client.get("/started").text == "started"
        assert client.get("/stream").text == "0123456789"


def test_djangos_asgi_handler(frameworks: ModuleType) -> None:
    with client_of(AsgiToWsgi(frameworks.django_site(True))) as client:
        assert client.post("/sync", content=b"x" * 100_000).text == "sync POST /sync 100000"
        assert client.get("/async").text == "async /async"
        assert client.get("/stream").text == "0123456789"
        assert client.get("/nowhere").status_code == 404


def test_a_mount_in_flask(frameworks: ModuleType) -> None:
    from flask import Flask
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    app = Flask("site")
    app.add_url_rule("/", "index", lambda: "Flask")
    mounted = AsgiToWsgi(frameworks.starlette_site())
    application = DispatcherMiddleware(app.wsgi_app, {"/api": mounted})
    with client_of(application) as client:
        assert client.get("/").text == "Flask"
        assert client.get("/api/hello/x").text == "GET /api/hello/x the lifespan's"
    mounted.close()


def test_a_mount_in_django(frameworks: ModuleType) -> None:
    django = frameworks.django_site(False)
    mounted = AsgiToWsgi(frameworks.fastapi_site())

    def application(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if not path.startswith("/api/"):
            return django(environ, start_response)
        environ["SCRIPT_NAME"] += "/api"
        environ["PATH_INFO"] = path.removeprefix("/api")
        return mounted(environ, start_response)

    with client_of(application) as client:
        assert client.get("/async").text == "async /async"
        assert client.get("/api/sync").json() == {"ran": "in a thread"}
    mounted.close()


class ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None: ...


def test_an_mcp_server(frameworks: ModuleType) -> None:
    from mcp import Client

    async def ask(url: str) -> Any:
        async with Client(url) as client:
            tools = await client.list_tools()
            answer = await client.call_tool("add", {"a": 2, "b": 3})
            return [tool.name for tool in tools.tools], answer.structured_content

    application = AsgiToWsgi(frameworks.mcp_site(), lifespan="on", disconnect_timeout=1)
    with make_server(
        "127.0.0.1", 0, application, server_class=ThreadingServer, handler_class=QuietHandler
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            answer = asyncio.run(ask(f"http://127.0.0.1:{server.server_port}/mcp"))
        finally:
            server.shutdown()
            thread.join()
            application.close()
    assert answer == (["add"], {"result": 5})
